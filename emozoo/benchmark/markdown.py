"""Records as a Markdown page to paste."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from emozoo.benchmark.formatting import (
    DASH,
    METRIC_NAMES,
    NOTES,
    PRIORS,
    comparison_lines,
    markdown_table,
    number,
    with_interval,
)
from emozoo.benchmark.published import methods_beside
from emozoo.benchmark.report import full_name, headline, part_name, sets, shown_metrics, title

Record = Mapping[str, Any]


def markdown(records: Sequence[dict[str, Any]], comparisons: Sequence[Record] = ()) -> str:
    """Every set of items as a section: a table of metrics, recalls per class, published numbers."""
    lines = ["# Benchmark", ""]
    for part in sets(records).values():
        names = shown_metrics(part)
        lines += [f"## {title(part)}", ""]
        head = ["Weights", "Part", "Class prior", *(METRIC_NAMES[m] for m in names), "Model minus control"]
        lines += [markdown_table(head, ([*_first(r), *(_metric(m, r) for m in names), _delta(r)] for r in part)), ""]
        if scored := [r for r in part if r["per_class"]]:
            lines += [_recalls(scored), ""]
        metrics, methods = methods_beside(part)
        if methods:
            rows = [
                [f"**{x.name}**" if x.ours else x.name, *(x.values.get(m, DASH) for m in metrics), x.source]
                for x in methods
            ]
            lines += ["Under the same protocol:", "", markdown_table(["Method", *metrics, "Source"], rows), ""]
    if comparisons:
        lines += ["## Comparisons", ""]
        for c in comparisons:
            lines += [*(f"- {text}" for text in comparison_lines(c)), ""]
    versions = records[0]["versions"] if records else {}
    lines += [NOTES, "", "Versions: " + ", ".join(f"{k} {v}" for k, v in versions.items()) + "."]
    return "\n".join(lines) + "\n"


def _recalls(scored: Sequence[Record]) -> str:
    """A table of recalls per class, with the number of items of each class below."""
    classes = scored[-1]["classes"]
    rows = [[*_first(r), *(number("WAR", r["per_class"].get(c, {}).get("recall")) for c in classes)] for r in scored]
    counts = [str(scored[-1]["per_class"][c]["n"]) for c in classes]
    return markdown_table(["Recall, %", "Part", "Class prior", *classes], [*rows, ["n", "", "", *counts]])


def _first(r: Record) -> list[str]:
    """The first cells of a record's row: weights, part, prior."""
    part = part_name(r) if r["fold"] is not None else DASH
    return [f"`{full_name(r)}`", part, PRIORS.get(r["prior"], DASH)]


def _metric(metric: str, r: Record) -> str:
    text = with_interval(r["metrics"].get(metric), r["ci95"].get(metric), partial(number, metric))
    deviation = r.get("std", {}).get(metric)
    return text if deviation is None else f"{text} ± {number(metric, deviation)}"


def _delta(r: Record) -> str:
    metric = headline(r)
    if "delta" not in r or metric is None:
        return DASH
    form = partial(number, metric, sign="+")
    return f"{metric} {with_interval(r['delta'][metric], r['delta_ci95'].get(metric), form)}"
