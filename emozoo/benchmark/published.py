"""Published methods beside the records of a benchmark, under the same protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emozoo.benchmark.formatting import number
from emozoo.benchmark.leaderboard import HEADINGS, NAMES, OURS
from emozoo.benchmark.report import part_name


@dataclass
class Method:
    """One method. ``values``: text by metric, as the boards name it. ``ours``: it was measured in this run."""

    name: str
    source: str
    ours: bool = False
    values: dict[str, str] = field(default_factory=dict)


def methods_beside(part: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[Method]]:
    """The metrics, and the methods published under the protocol of some records with ours among them, best first."""
    found: dict[tuple[str, str], Method] = {}
    for p in (p for r in part for p in r["published"]):
        value = 100 * p["value"] if p["unit"] == "fraction" else p["value"]
        method = found.setdefault((p["method"], p["source"]), Method(p["method"], p["source"]))
        method.values[NAMES[p["metric"]]] = f"{value:g}"
    metrics = [h for h in HEADINGS if any(h in x.values for x in found.values())]
    methods = list(found.values())
    for r in (r for r in part if r["published"] and not r["control"]):
        ours = {NAMES[OURS[k]]: number(k, v) for k, v in r["metrics"].items() if v is not None}
        words = [f"prior {r['prior']}"] * bool(r["prior"]) + [part_name(r)] * (r["fold"] is not None)
        values = {k: v for k, v in ours.items() if k in metrics}
        methods.append(Method(", ".join([r["model"], *words]), "this run", True, values))
    methods.sort(key=lambda x: [-float(x.values.get(m, "-inf")) for m in metrics])
    return metrics, methods
