"""Records as pages: Markdown to paste, and one self-contained HTML file with no script and nothing from the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from emozoo.benchmark.leaderboard import HEADINGS, NAMES, OURS
from emozoo.benchmark.report import headline, number, part_name, sets, shown_metrics, title

WORDS = {"WAR": "WAR, %", "UAR": "UAR, %", "F1": "macro-F1, %", "CCC_V": "CCC valence", "CCC_A": "CCC arousal",
         "CCC": "CCC mean"}  # fmt: skip
PRIORS = {"train": "as in training", "uniform": "removed"}
MOST_PUBLISHED = 40

NOTES = (
    "WAR is the share of right answers, UAR the mean recall over classes, F1 its macro average; CCC is the concordance "
    "correlation over all labelled moments of all items together. Intervals are 95 %, by drawing whole persons again "
    "(2,000 draws); an item whose person is unknown stands for itself. Class prior: scores with the prior of the "
    "training labels, or with that taken out; on unbalanced data these are two operating points of one network. A "
    "difference is model minus control, paired on the same items."
)


def _interval(metric: str, ends: Sequence[float] | None) -> str:
    return " to ".join(number(metric, x) for x in ends) if ends else ""


def _name(r: Mapping[str, Any]) -> str:
    return f"{r['model']}: {r['control']}" if r["control"] else str(r["model"])


# -- Markdown ------------------------------------------------------------------------------------------------------


def markdown(records: Sequence[dict[str, Any]], comparisons: Sequence[Mapping[str, Any]] = ()) -> str:
    """Every set of items as a section: a table of metrics, recalls per class, published numbers."""
    lines = ["# Benchmark", ""]
    for part in sets(records).values():
        names = shown_metrics(part)
        lines += [f"## {title(part)}", ""]
        head = ["Weights", "Part", "Class prior", *(WORDS[m] for m in names), "Model minus control"]
        rows = []
        for r in part:
            cells = [_with_interval(m, r) for m in names]
            rows.append([f"`{_name(r)}`", part_name(r) if r["fold"] is not None else "–",
                         PRIORS.get(r["prior"], "–"), *cells, _delta(r)])  # fmt: skip
        lines += [_markdown_table(head, rows), ""]
        scored = [r for r in part if r["per_class"]]
        if scored:
            classes = scored[-1]["classes"]
            head = ["Recall, %", "Part", "Class prior", *classes]
            rows = [
                [f"`{_name(r)}`", part_name(r) if r["fold"] is not None else "–", PRIORS.get(r["prior"], "–"),
                 *(number("WAR", r["per_class"].get(c, {}).get("recall")) for c in classes)]
                for r in scored
            ]  # fmt: skip
            counts = [str(scored[-1]["per_class"][c]["n"]) for c in classes]
            lines += [_markdown_table(head, [*rows, ["n", "", "", *counts]]), ""]
        metrics, beside = _beside(part)
        if beside:
            rows = [
                [f"**{x.method}**" if x.ours else x.method, *(x.values.get(m, "–") for m in metrics), x.source]
                for x in beside
            ]
            lines += ["Under the same protocol:", "", _markdown_table(["Method", *metrics, "Source"], rows), ""]
    if comparisons:
        lines += ["## Comparisons", ""]
        for c in comparisons:
            lines += [*(f"- {text}" for text in sentences(c)), ""]
    facts = records[0]["versions"] if records else {}
    lines += [NOTES, "", "Versions: " + ", ".join(f"{k} {v}" for k, v in facts.items()) + "."]
    return "\n".join(lines) + "\n"


def _markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [[c.replace("|", "\\|") for c in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(head), ["---"] * len(head), *cells])


def _with_interval(metric: str, r: Mapping[str, Any]) -> str:
    ends = _interval(metric, r["ci95"].get(metric))
    text = number(metric, r["metrics"].get(metric)) + (f" ({ends})" if ends else "")
    deviation = r.get("std", {}).get(metric)
    return text if deviation is None else f"{text} ± {number(metric, deviation)}"


def _delta(r: Mapping[str, Any]) -> str:
    metric = headline(dict(r))
    if "delta" not in r or metric is None:
        return "–"
    ends = r["delta_ci95"].get(metric)
    text = f"{metric} {number(metric, r['delta'][metric], '+')}"
    return f"{text} ({' to '.join(number(metric, x, '+') for x in ends)})" if ends else text


@dataclass
class _Line:
    """One method beside others of the same protocol. ``values``: text by metric, as the boards name it."""

    method: str
    source: str
    ours: bool = False
    values: dict[str, str] = field(default_factory=dict)


def _beside(part: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[_Line]]:
    """The metrics, and published numbers of the same protocol with ours among them, best first."""
    found: dict[tuple[str, str], _Line] = {}
    for p in (p for r in part for p in r["published"]):
        value = 100 * p["value"] if p["unit"] == "fraction" else p["value"]
        line = found.setdefault((p["method"], p["source"]), _Line(p["method"], p["source"]))
        line.values[NAMES[p["metric"]]] = f"{value:g}"
    metrics = [h for h in HEADINGS if any(h in x.values for x in found.values())]
    lines = list(found.values())
    for r in part:
        if r["published"] and not r["control"]:
            mine = {NAMES[OURS[k]]: number(k, v) for k, v in r["metrics"].items() if v is not None}
            kept = {k: v for k, v in mine.items() if k in metrics}
            prior = f", prior {r['prior']}" if r["prior"] else ""
            part_ = f", {part_name(r)}" if r["fold"] is not None else ""
            lines.append(_Line(f"{r['model']}{prior}{part_}", "this run", True, kept))
    lines.sort(key=lambda x: [-float(x.values.get(m, "-inf")) for m in metrics])
    return metrics, lines


def sentences(c: Mapping[str, Any]) -> list[str]:
    """A comparison in words."""
    text = [f"{c['a']} against {c['b']}, {c['n']} items of {c['n_groups']} persons or single items, prior {c['prior']}"]
    if c["mcnemar_p"] is not None:
        text.append(
            f"right alone: {c['a']} {c['only_a']}, {c['b']} {c['only_b']}; McNemar p {probability(c['mcnemar_p'])}"
        )
    for m, value in c["difference"].items():
        if value is None:
            continue
        ends = c["ci95"].get(m)
        between = f" ({' to '.join(number(m, x, '+') for x in ends)})" if ends else ""
        p = f", bootstrap p {probability(c['p'][m])}" if c["p"].get(m) is not None else ""
        text.append(f"{m} {number(m, value, '+')}{between}{p}")
    return text


def probability(p: float) -> str:
    """``= 0.023``, or that it is below what can be told apart."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


# -- HTML ----------------------------------------------------------------------------------------------------------

STYLE = """
:root{--ink:#1f2430;--faint:#5b6472;--line:#e3e6eb;--back:#f5f6f8;--card:#fff;--accent:#0072b2;--soft:#cfe4f2;
--warm:#d55e00;--heat:0,114,178;--good:#00795a}
@media (prefers-color-scheme:dark){:root{--ink:#e8eaee;--faint:#a3abb8;--line:#333a46;--back:#14171d;--card:#1d222b;
--accent:#6cbcee;--soft:#274a61;--warm:#ff9a56;--heat:86,180,233;--good:#52c9a2}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:1.7rem;margin:0 0 .2rem;letter-spacing:-.01em}
h2{font-size:1.2rem;margin:0;letter-spacing:-.01em;overflow-wrap:anywhere}
h3{font-size:.95rem;margin:1.6rem 0 .5rem}
p{margin:.3rem 0}.faint{color:var(--faint)}.small{font-size:.85rem}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px 22px;margin:18px 0}
nav{display:flex;flex-wrap:wrap;gap:8px;margin:14px 0}
nav a{color:var(--ink);text-decoration:none;border:1px solid var(--line);border-radius:99px;padding:3px 12px;
background:var(--card);font-size:.85rem}
nav a:hover{border-color:var(--accent)}
.facts{display:flex;flex-wrap:wrap;gap:4px 18px;margin:.4rem 0 .9rem;color:var(--faint);font-size:.88rem}
.facts b{color:var(--ink);font-weight:600}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
.metrics{width:100%}
.metrics th{font-weight:600;font-size:.8rem;color:var(--faint);text-align:left;padding:4px 14px 6px 0;
white-space:nowrap}
.metrics td{padding:8px 14px 8px 0;border-top:1px solid var(--line);vertical-align:top}
.dense svg{width:76px}.dense th,.dense td{padding-right:9px}.dense .ends{font-size:.72rem}
.metrics tr.control td:first-child{padding-left:18px}
.metrics tr.sum td{background:color-mix(in srgb,var(--soft) 25%,transparent)}
.name{font-weight:600;overflow-wrap:anywhere;min-width:150px}
.control .name{font-weight:400}
.value{font-weight:600;white-space:nowrap}.ends{color:var(--faint);font-size:.78rem;white-space:nowrap;display:block}
svg{display:block;margin-top:3px}
.pair{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:28px;align-items:start}
details{border-top:1px solid var(--line);padding:10px 0}
details:first-of-type{margin-top:14px}
summary{cursor:pointer;font-weight:600;overflow-wrap:anywhere}
summary span{font-weight:400;color:var(--faint);margin-left:6px}
.matrix{width:100%;table-layout:fixed;max-width:520px}
.matrix th{font-weight:500;font-size:.68rem;letter-spacing:-.01em;color:var(--faint);padding:2px 0;
text-align:center;overflow:hidden}
.matrix th.row{text-align:right;padding-right:8px;width:84px}
.matrix .brief{display:none}
.matrix td{text-align:center;padding:0;height:40px;border:2px solid var(--card);border-radius:6px;
font-size:.82rem;line-height:1.15}
.matrix td small{display:block;font-size:.66rem;opacity:.75}
.bars{display:grid;grid-template-columns:auto minmax(60px,1fr) auto;gap:7px 10px;align-items:center;font-size:.85rem}
.bar{height:16px;background:var(--back);border-radius:4px;overflow:hidden;border:1px solid var(--line)}
.bar i{display:block;height:100%;background:var(--accent)}
.num{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.published{width:100%;font-size:.88rem}
.published th{font-weight:600;font-size:.78rem;color:var(--faint);text-align:left;padding:4px 12px 4px 0}
.published td{padding:5px 12px 5px 0;border-top:1px solid var(--line);vertical-align:top}
.published tr.ours td{color:var(--warm);font-weight:600}
.published td.source{color:var(--faint);font-size:.8rem}
.published .track{width:120px}
.code{font-family:ui-monospace,SFMono-Regular,Menlo,monospace;font-size:.8rem;overflow-wrap:anywhere}
footer{color:var(--faint);font-size:.84rem;margin-top:24px}
@media (max-width:760px){main{padding:18px 12px 40px}section{padding:16px 14px;border-radius:10px}
.pair{grid-template-columns:minmax(0,1fr);gap:18px}h1{font-size:1.4rem}
.matrix th.row{width:66px;padding-right:5px}.matrix td{height:34px;font-size:.74rem}.matrix td small{display:none}
.matrix .full{display:none}.matrix .brief{display:inline}
.metrics thead{display:none}.metrics,.metrics tbody{display:block}
.metrics tr{display:grid;grid-template-columns:1fr 1fr;gap:8px 14px;border-top:1px solid var(--line);padding:12px 0}
.metrics td{display:block;border:0;padding:0}.metrics td:empty{display:none}
.metrics td.wide{grid-column:1/-1}.metrics tr.control td:first-child{padding-left:0}
.metrics td[data-name]::before{content:attr(data-name);display:block;font-size:.74rem;color:var(--faint)}
.metrics tr.sum td{background:none}
.published .track,.published th.track{display:none}.published td.source{max-width:34vw;overflow-wrap:anywhere}}
@media print{body{background:#fff}section{break-inside:avoid;border:0;padding:0}details{break-inside:avoid}}
"""


def html(records: Sequence[dict[str, Any]], comparisons: Sequence[Mapping[str, Any]] = ()) -> str:
    """The whole page. Light or dark as the reader's system is; on a phone tables become cards."""
    parts = list(sets(records).values())
    links = "".join(f'<a href="#s{i}">{escape(_short(p))}</a>' for i, p in enumerate(parts))
    if comparisons:
        links += '<a href="#comparisons">comparisons</a>'
    first = records[0]
    when = f"{first['date']}" + (f", commit {first['commit']}" if first["commit"] else "")
    versions = ", ".join(f"{k} {v}" for k, v in first["versions"].items())
    body = "".join(_section(f"s{i}", p) for i, p in enumerate(parts))
    if comparisons:
        body += _comparisons(comparisons)
    models = len({r["model"] for r in records if not r["control"]})
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>emozoo benchmark</title>'
        f"<style>{STYLE}</style></head><body><main><h1>emozoo benchmark</h1>"
        f'<p class="faint">{models} model{"s" * (models != 1)}, {len(records)} records, measured {escape(when)}</p>'
        f"<nav>{links if len(parts) + bool(comparisons) > 1 else ''}</nav>{body}"
        f"<footer><p>{escape(NOTES)}</p><p>{escape(versions)}; {escape(first['hardware'])}; "
        f"{escape(first['precision'])}.</p></footer></main></body></html>\n"
    )


def _short(part: Sequence[Mapping[str, Any]]) -> str:
    r = part[0]
    place = r["protocol"] if r["protocol"].startswith(r["dataset"]) else f"{r['dataset']}, {r['protocol']}"
    return place + (f", {r['split']}" if r["split"] else "")


def _section(anchor: str, part: Sequence[dict[str, Any]]) -> str:
    r = next((r for r in part if r["fold"] in ("pooled", "mean")), part[0])
    detectors = ", ".join(dict.fromkeys(x["detector"] for x in part if x["detector"]))
    facts = [
        ("data", r["dataset"]),
        ("protocol", f"{r['protocol']}, version {r['protocol_version']}"),
        ("part", r["split"] or ("all folds" if r["fold"] in ("pooled", "mean") else None)),
        ("evaluated", f"{r['n_evaluated']} of {r['n_expected']} items"),
        ("persons or single items", r["n_groups"]),
        ("labelled moments", r["n_points"]),
        ("not scored", r["n_unscored"] or None),
        ("without a face", r["no_face"] or None),
        ("faces by", detectors),
        ("classes by label map", r["label_map"]),
    ]
    shown = "".join(f"<span>{k} <b>{escape(str(v))}</b></span>" for k, v in facts if v not in (None, ""))
    return (
        f'<section id="{anchor}"><h2>{escape(_short(part))}</h2><div class="facts">{shown}</div>'
        f"{_metrics(part)}{_published(part)}{_details(part)}</section>"
    )


def _metrics(part: Sequence[dict[str, Any]]) -> str:
    names = shown_metrics(part)
    several = len({(r["fold"], r["protocol"]) for r in part}) > 1
    deltas = any("delta" in r for r in part)
    scale = {m: _scale(m, part) for m in names}
    head = "".join(f"<th>{WORDS[m]}</th>" for m in names)
    head = f"<th>weights</th>{'<th>part</th>' * several}<th>class prior</th>{head}{'<th>model − control</th>' * deltas}"
    rows = []
    for r in part:
        kind = " ".join(["control"] * bool(r["control"]) + ["sum"] * (r["fold"] in ("pooled", "mean")))
        cells = [f'<td class="name wide">{_soft(r["control"] or r["model"])}</td>']
        if several:
            cells.append(f'<td data-name="part">{escape(part_name(r))}</td>')
        cells.append(f'<td data-name="class prior">{PRIORS.get(r["prior"], "–")}</td>')
        for m in names:
            value, ends = r["metrics"].get(m), r["ci95"].get(m)
            deviation = r.get("std", {}).get(m)
            text = f'<span class="value">{number(m, value)}</span>'
            text += f" ± {number(m, deviation)}" if deviation is not None else ""
            text += f'<span class="ends">{_interval(m, ends)}</span>' if ends else ""
            cells.append(f'<td data-name="{WORDS[m]}">{text}{_whisker(value, ends, scale[m], bool(r["control"]))}</td>')
        if deltas:
            cells.append(_delta_cell(r, _reach(part)))
        rows.append(f'<tr class="{kind}">{"".join(cells)}</tr>')
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    dense = " dense" * (len(names) > 4)
    return f'<div class="scroll"><table class="metrics{dense}">{body}</table></div>'


def _scale(metric: str, part: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    values = [v for r in part for v in (r["metrics"].get(metric), *(r["ci95"].get(metric) or ())) if v is not None]
    return min(values), max(values)


def _whisker(
    value: float | None, ends: Sequence[float] | None, scale: tuple[float, float], faint: bool, zero: bool = False
) -> str:
    """A dot with its interval on a scale that all rows of the column share."""
    if value is None or not ends or scale[1] <= scale[0]:
        return ""

    def x(v: float) -> float:
        return 5 + 100 * (v - scale[0]) / (scale[1] - scale[0])

    colour = "var(--faint)" if faint else "var(--accent)"
    line = f'<line x1="{x(0):.1f}" x2="{x(0):.1f}" y1="0" y2="12" stroke="var(--faint)" stroke-dasharray="2 2"/>' * zero
    return (
        f'<svg width="110" height="12" viewBox="0 0 110 12" aria-hidden="true">{line}<line x1="{x(ends[0]):.1f}" '
        f'x2="{x(ends[1]):.1f}" y1="6" y2="6" stroke="{colour}" stroke-width="2" stroke-linecap="round"/>'
        f'<circle cx="{x(value):.1f}" cy="6" r="4" fill="{colour}"/></svg>'
    )


def _delta_cell(r: Mapping[str, Any], reach: float) -> str:
    metric = headline(dict(r))
    if "delta" not in r or metric is None:
        return "<td></td>"
    value, ends = r["delta"][metric], r["delta_ci95"].get(metric)
    text = f'<span class="value">{metric} {number(metric, value, "+")}</span>'
    if ends:
        text += f'<span class="ends">{" to ".join(number(metric, x, "+") for x in ends)}</span>'
    return f'<td data-name="model − control">{text}{_whisker(value, ends, (-reach, reach), False, zero=True)}</td>'


def _reach(part: Sequence[dict[str, Any]]) -> float:
    """The largest end of all differences of a table, which share one scale around zero."""
    found = [0.0]
    for r in part:
        if "delta" in r and (m := headline(r)):
            found += [abs(x) for x in (r["delta"][m], *(r["delta_ci95"].get(m) or ()))]
    return max(found)


def _published(part: Sequence[Mapping[str, Any]]) -> str:
    metrics, lines = _beside(part)
    if not lines:
        return ""
    kept = [x for i, x in enumerate(lines) if i < MOST_PUBLISHED or x.ours]
    first = metrics[0]
    values = [float(x.values[first]) for x in lines if first in x.values]
    rows = "".join(
        f"<tr{' class=ours' * x.ours}><td>{_soft(x.method) if x.ours else escape(x.method)}</td>"
        + "".join(f'<td class="num">{escape(x.values.get(m, "–"))}</td>' for m in metrics)
        + f'<td class="track">{_dot(x.values.get(first), min(values), max(values), x.ours)}</td>'
        f'<td class="source">{escape(x.source)}</td></tr>'
        for x in kept
    )
    head = "".join(f'<th class="num">{escape(m)}</th>' for m in metrics)
    more = f'<p class="faint small">{len(lines) - len(kept)} more: <code>emozoo leaderboard</code>.</p>'
    return (
        '<h3>Published under the same protocol</h3><div class="scroll"><table class="published"><thead><tr><th>method'
        f'</th>{head}<th class="track">{escape(first)}</th><th>read in</th></tr></thead><tbody>{rows}</tbody></table>'
        f"</div>{more if len(kept) < len(lines) else ''}"
    )


def _soft(name: str) -> str:
    """A name that may be broken behind its dots and lines."""
    return escape(name).replace("_", "_<wbr>").replace(".", ".<wbr>")


def _dot(text: str | None, low: float, high: float, ours: bool) -> str:
    if text is None:
        return ""
    x = 5 + 110 * (float(text) - low) / (high - low or 1)
    colour = "var(--warm)" if ours else "var(--faint)"
    return (
        '<svg width="120" height="12" viewBox="0 0 120 12" aria-hidden="true"><line x1="5" x2="115" y1="6" y2="6" '
        f'stroke="var(--line)" stroke-width="2"/><circle cx="{x:.1f}" cy="6" r="4" fill="{colour}"/></svg>'
    )


def _details(part: Sequence[dict[str, Any]]) -> str:
    """Confusion matrix and recalls of each record; the first of a set is open."""
    scored = [r for r in part if r.get("confusion")]
    over = [r for r in scored if r["fold"] == "pooled"]
    blocks = []
    for i, r in enumerate(over or scored):
        how = [PRIORS.get(r["prior"], ""), part_name(r) if r["fold"] is not None else ""]
        note = ", ".join(x for x in (f"prior {how[0]}" if how[0] else "", how[1]) if x)
        body = f'<div class="pair"><div>{_confusion(r)}</div><div>{_bars(r)}</div></div>{_identity(r)}'
        blocks.append(
            f"<details{' open' * (i == 0)}><summary>{_soft(_name(r))}<span>{escape(note)}</span></summary>{body}"
            "</details>"
        )
    return "".join(blocks)


def _confusion(r: Mapping[str, Any]) -> str:
    classes, matrix = r["classes"], r["confusion"]
    head = "".join(
        f'<th title="{escape(c)}"><span class="full">{escape(c)}</span><span class="brief">{escape(c[:3])}</span></th>'
        for c in classes
    )
    rows = []
    for name, counts in zip(classes, matrix, strict=True):
        total = sum(counts)
        cells = []
        for other, n in zip(classes, counts, strict=True):
            share = n / total if total else 0.0
            colour = "#fff" if share > 0.55 else "inherit"
            text = f"{100 * share:.0f}<small>{n}</small>" if n else ""
            cells.append(
                f'<td style="background:rgba(var(--heat),{0.04 + 0.92 * share:.2f});color:{colour}" '
                f'title="{escape(name)} taken for {escape(other)}: {n} of {total}">{text}</td>'
            )
        rows.append(f'<tr><th class="row" title="{escape(name)}">{escape(name)}</th>{"".join(cells)}</tr>')
    return (
        '<h3>Confusion <span class="faint small">true in rows, answered in columns; % of the row</span></h3>'
        f'<table class="matrix"><tr><th class="row"></th>{head}</tr>{"".join(rows)}</table>'
    )


def _bars(r: Mapping[str, Any]) -> str:
    rows = []
    for name in r["classes"]:
        found = r["per_class"][name]
        recall = found["recall"] or 0.0
        f1 = number("F1", found["f1"])
        rows.append(
            f'<span>{escape(name)}</span><div class="bar"><i style="width:{100 * recall:.1f}%"></i></div>'
            f'<span class="num">{number("WAR", found["recall"])} <span class="faint small">F1 {f1}, '
            f"n {found['n']}</span></span>"
        )
    return f'<h3>Recall per class, %</h3><div class="bars">{"".join(rows)}</div>'


def _identity(r: Mapping[str, Any]) -> str:
    facts = [("sha256", r["sha256"]), ("predictions", r.get("predictions")), ("seconds", r["seconds"])]
    return '<p class="code faint">' + " · ".join(f"{k} {escape(str(v))}" for k, v in facts if v) + "</p>"


def _comparisons(comparisons: Sequence[Mapping[str, Any]]) -> str:
    blocks = []
    for c in comparisons:
        names = [m for m, value in c["difference"].items() if value is not None]
        reach: dict[bool, float] = {}  # metrics of one unit share a scale
        for m in names:
            most = max(abs(x) for x in (c["difference"][m], *(c["ci95"].get(m) or ())))
            reach[m.startswith("CCC")] = max(most, reach.get(m.startswith("CCC"), 0.0))
        rows = []
        for m in names:
            value, ends = c["difference"][m], c["ci95"].get(m)
            most = reach[m.startswith("CCC")]
            p = probability(c["p"][m]).removeprefix("= ") if c["p"].get(m) is not None else "–"
            rows.append(
                f'<tr><td class="wide">{WORDS[m]}</td><td data-name="difference"><span class="value">'
                f'{number(m, value, "+")}</span><span class="ends">'
                f"{' to '.join(number(m, x, '+') for x in ends) if ends else ''}</span></td>"
                f"<td>{_whisker(value, ends, (-most, most), False, zero=True)}</td>"
                f'<td data-name="bootstrap p">{p}</td></tr>'
            )
        alone = ""
        if c["mcnemar_p"] is not None:
            alone = (
                f"<p>Right alone: {escape(c['a'])} {c['only_a']} times, {escape(c['b'])} {c['only_b']} times; "
                f"McNemar p {probability(c['mcnemar_p'])}.</p>"
            )
        prior = f", class prior {PRIORS[c['prior']]}" if c["prior"] else ""
        blocks.append(
            f"<h3>{escape(c['a'])} minus {escape(c['b'])}</h3><p class='faint small'>{c['n']} items, {c['n_groups']} "
            f'persons or single items{prior}</p>{alone}<table class="metrics"><thead><tr><th>metric</th><th>difference'
            f"</th><th></th><th>bootstrap p</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
        )
    return f'<section id="comparisons"><h2>Comparisons</h2>{"".join(blocks)}</section>'
