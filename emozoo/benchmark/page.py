"""Records as one HTML file that needs no script and no network; its looks are in ``templates``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from emozoo.benchmark.formatting import DASH, METRIC_NAMES, NOTES, PRIORS, joined, number, probability
from emozoo.benchmark.published import methods_beside
from emozoo.benchmark.report import full_name, headline, part_name, sets, shown_metrics

MOST_PUBLISHED = 40
OVER_FOLDS = ("pooled", "mean")
Record = Mapping[str, Any]
View = dict[str, Any]  # what the template shows
Scale = tuple[float, float]
Ends = Sequence[float] | None  # of an interval


def html(records: Sequence[Record], comparisons: Sequence[Record] = ()) -> str:
    """The whole page. It is light or dark as the reader's system is; on a phone tables become cards."""
    return environment().get_template("report.html").render(
        records=records, sections=list(map(_section, sets(records).values())),
        comparisons=list(map(_comparison, comparisons)), models=len({r["model"] for r in records if not r["control"]}),
        notes=NOTES,
    )  # fmt: skip


def environment(*packages: str) -> Environment:
    """The templates of further packages beside those here, and what they have in common; text is escaped."""
    found = Environment(
        loader=ChoiceLoader(list(map(PackageLoader, ("emozoo.benchmark", *packages)))), autoescape=True,
        trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined,
    )  # fmt: skip
    found.filters["breakable"] = _breakable
    found.globals |= {"number": number, "METRIC_NAMES": METRIC_NAMES, "DASH": DASH}
    return found


def _breakable(name: str) -> Markup:
    """A name that a browser may break behind its dots and underscores."""
    return escape(name).replace("_", Markup("_<wbr>")).replace(".", Markup(".<wbr>"))


def _section(part: Sequence[Record]) -> View:
    """The records about one set of items."""
    r = part[0]
    heading = r["protocol"] if r["protocol"].startswith(r["dataset"]) else f"{r['dataset']}, {r['protocol']}"
    return {
        "heading": heading + (f", {r['split']}" if r["split"] else ""),
        "facts": [(k, v) for k, v in _facts(part).items() if v not in (None, "")],
        **_metrics(part), **_published(part), "details": _details(part),
    }  # fmt: skip


def _facts(part: Sequence[Record]) -> View:
    r = next((r for r in part if r["fold"] in OVER_FOLDS), part[0])
    return {
        "data": r["dataset"],
        "protocol": f"{r['protocol']}, version {r['protocol_version']}",
        "part": r["split"] or ("all folds" if r["fold"] in OVER_FOLDS else None),
        "evaluated": f"{r['n_evaluated']} of {r['n_expected']} items",
        "persons or single items": r["n_groups"],
        "labelled moments": r["n_points"],
        "not scored": r["n_unscored"] or None,
        "without a face": r["no_face"] or None,
        "faces by": ", ".join(dict.fromkeys(x["detector"] for x in part if x["detector"])),
        "classes by label map": r["label_map"],
    }


def _metrics(part: Sequence[Record]) -> View:
    """The table of metrics: one row a record, one scale a column; all differences share a scale around zero."""
    names = shown_metrics(part)
    scales = {m: _scale([(r["metrics"].get(m), r["ci95"].get(m)) for r in part]) for m in names}
    deltas = [(r["delta"][m], r["delta_ci95"].get(m)) for r in part if "delta" in r and (m := headline(r))]
    rows = []
    for r in part:
        colour = "faint" if r["control"] else "accent"
        cells = [_cell(m, r["metrics"].get(m), r["ci95"].get(m), scales[m], colour) for m in names]
        delta, m = None, headline(r)
        if "delta" in r and m is not None:
            delta = _cell(m, r["delta"][m], r["delta_ci95"].get(m), _around_zero(deltas), sign="+")
        kind = " ".join(["control"] * bool(r["control"]) + ["sum"] * (r["fold"] in OVER_FOLDS))
        rows.append({
            "kind": kind, "name": r["control"] or r["model"], "part": part_name(r),
            "prior": PRIORS.get(r["prior"], DASH), "cells": cells, "delta": delta, "deviations": r.get("std", {}),
        })  # fmt: skip
    parted = len({(r["fold"], r["protocol"]) for r in part}) > 1
    return {"metrics": names, "rows": rows, "parted": parted, "with_delta": bool(deltas)}


def _scale(values: Sequence[tuple[float | None, Ends]]) -> Scale:
    """The smallest and the largest of values and of the ends of their intervals."""
    every = [x for value, ends in values for x in (value, *(ends or ())) if x is not None]
    return min(every, default=0.0), max(every, default=0.0)


def _around_zero(values: Sequence[tuple[float | None, Ends]]) -> Scale:
    reach = max(map(abs, _scale(values)))
    return -reach, reach


def _at(value: float, scale: Scale, width: int = 100) -> str:
    """The horizontal position of a value in a drawing whose scale is ``width`` wide."""
    low, high = scale
    return f"{5 + width * (value - low) / (high - low or 1):.1f}"


def _cell(metric: str, value: float | None, ends: Ends, scale: Scale, colour: str = "accent", sign: str = "") -> View:
    """A number, its interval in words, and as a line with a dot; with a sign, zero is marked."""
    whisker = None
    if value is not None and ends and scale[1] > scale[0]:
        whisker = {"low": _at(ends[0], scale), "high": _at(ends[1], scale), "dot": _at(value, scale), "colour": colour}
        whisker["zero"] = _at(0, scale) if sign else ""
    form = partial(number, metric, sign=sign)
    return {"metric": metric, "value": form(value), "ends": joined(ends, form), "whisker": whisker}


def _published(part: Sequence[Record]) -> View:
    metrics, methods = methods_beside(part)
    values = [float(x.values[metrics[0]]) if metrics[0] in x.values else None for x in methods]
    scale = _scale([(v, None) for v in values])
    shown = [(x, "" if v is None else _at(v, scale, 110)) for x, v in zip(methods, values, strict=True)]
    shown = [(x, dot) for i, (x, dot) in enumerate(shown) if i < MOST_PUBLISHED or x.ours]
    return {"published": metrics, "methods": shown, "more": len(methods) - len(shown)}


def _details(part: Sequence[Record]) -> list[View]:
    """Confusion matrix and recalls of each record, or of those over all folds."""
    scored, found = [r for r in part if r.get("confusion")], []
    for r in [r for r in scored if r["fold"] == "pooled"] or scored:
        prior, part_ = PRIORS.get(r["prior"]), part_name(r) if r["fold"] is not None else ""
        facts = {"sha256": r["sha256"], "predictions": r.get("predictions"), "seconds": r["seconds"]}
        found.append({
            "name": full_name(r), "note": ", ".join(x for x in (f"prior {prior}" if prior else "", part_) if x),
            "record": r, "identity": " · ".join(f"{k} {v}" for k, v in facts.items() if v),
        })  # fmt: skip
    return found


def _comparison(c: Record) -> View:
    """A comparison of two models; metrics of one unit share a scale around zero."""
    values = {m: (v, c["ci95"].get(m)) for m, v in c["difference"].items() if v is not None}
    rows = []
    for m, (value, ends) in values.items():
        scale = _around_zero([v for k, v in values.items() if k.startswith("CCC") == m.startswith("CCC")])
        p = DASH if c["p"].get(m) is None else probability(c["p"][m]).removeprefix("= ")
        rows.append(_cell(m, value, ends, scale, sign="+") | {"p": p})
    mcnemar = "" if c["mcnemar_p"] is None else probability(c["mcnemar_p"])
    return {"comparison": c, "rows": rows, "mcnemar": mcnemar, "prior": PRIORS.get(c["prior"])}
