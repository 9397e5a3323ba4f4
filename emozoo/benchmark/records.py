"""Records: which weights (full name, sha256) were scored on which items under which protocol, and the numbers.

A record is plain data: how many of the expected items were evaluated, metrics with intervals by person, and for a
control the paired difference to its model.

Legend: K = classes.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emozoo import files
from emozoo.benchmark import leaderboard, statistics
from emozoo.benchmark.predict import Predictions
from emozoo.benchmark.statistics import METRICS, Outcome


@dataclass
class Result:
    """What was measured: ``records``, and the table of predictions behind each (empty for records over all folds)."""

    records: list[dict[str, Any]] = field(default_factory=list)
    tables: list[list[dict[str, Any]]] = field(default_factory=list)

    def add(self, record: dict[str, Any], table: list[dict[str, Any]]) -> None:
        """Adds a record and the table of its predictions."""
        self.records.append(record)
        self.tables.append(table)

    def __iadd__(self, other: Result) -> Result:
        self.records += other.records
        self.tables += other.tables
        return self


def of_parts(parts: Sequence[Predictions], prior: str, name: str, disjoint: bool, suffix: str) -> Result:
    """Records of every part under a prior, and with several parts those over all of them.

    ``name``: the model's name where each part has weights of its own. ``disjoint``: no item is in two parts. ``suffix``
    is added to the protocol's name.
    """
    result = Result()
    for predictions in parts:
        for v, record in enumerate(records(predictions, prior, suffix)):
            result.add(record, predictions.table(v, prior))
    if len(parts) > 1:
        over = _pooled(parts, prior, name, suffix) if disjoint else []
        for record in [*over, *_mean(parts, prior, name, disjoint, suffix, result.records)]:
            result.add(record, [])
    return result


def records(predictions: Predictions, prior: str, suffix: str = "") -> list[dict[str, Any]]:
    """The record of the model, then those of its controls with ``delta`` = model minus control."""
    outcomes = [predictions.outcome(v, prior) for v in range(len(predictions.contenders))]
    found = [record(predictions, v, outcome, prior, suffix) for v, outcome in enumerate(outcomes)]
    _add_differences(found, outcomes)
    return found


def _add_differences(found: Sequence[dict[str, Any]], outcomes: Sequence[Outcome]) -> None:
    for one, outcome in zip(found[1:], outcomes[1:], strict=True):
        delta, interval = statistics.difference(outcomes[0], outcome)
        one["delta"] = complete(delta)
        one["delta_ci95"] = ends(interval)


def record(predictions: Predictions, contender: int, outcome: Outcome, prior: str, suffix: str = "") -> dict[str, Any]:
    """The record of a contender's outcome on these items, without differences."""
    metrics, interval = statistics.evaluate(outcome)
    module = predictions.contenders[contender].module
    splits = {r.split for r in predictions.rows}
    boxes = all(r.box is not None for r in predictions.rows)
    manifest, spec = predictions.dm.manifest, predictions.dm.spec
    assert manifest is not None
    split = splits.pop() if len(splits) == 1 else None
    fold = predictions.part if not str(predictions.part).startswith("split_") else None
    protocol = manifest.protocol + suffix
    return {
        "schema": 1,
        "model": module.name,
        "sha256": module.sha256,
        "detector": None if not spec.needs_face else "boxes of the data" if boxes else spec.detector,
        "dataset": manifest.name,
        "protocol": protocol,
        "protocol_version": manifest.version,
        "split": split,
        "fold": fold,
        "seed": module.config.get("seed"),
        "prior": prior if outcome.confusion is not None else None,
        "control": predictions.contenders[contender].control_name,
        "label_map": predictions.dm.label_map,
        "classes": list(outcome.classes),
        "n_expected": predictions.n_expected,
        "n_evaluated": len(predictions.rows),
        "n_unscored": predictions.n_unscored,
        "n_groups": len(np.unique(outcome.groups)),
        "n_points": sum(map(len, predictions.va_true)) if outcome.moments is not None else None,
        "no_face": predictions.no_face,
        "metrics": complete(metrics),
        "ci95": ends(interval),
        "by_person": _by_person([predictions], outcome),
        "per_class": statistics.per_class(outcome),
        "confusion": statistics.matrix(outcome),
        "ece": _ece([predictions], contender, prior),
        # With a label map other classes are scored than others published numbers for.
        "published": [] if predictions.dm.label_map else leaderboard.published(manifest.name, protocol, split, fold),
        "versions": files.versions(),
        "hardware": hardware(predictions.device),
        "precision": "float32",
        "date": date.today().isoformat(),
        "commit": commit(),
        "seconds": round(predictions.seconds, 2),
    }


def _by_person(parts: Sequence[Predictions], outcome: Outcome) -> dict[str, Any] | None:
    """Metrics over people, each person alone; None where an item names nobody, or people have few items."""
    if any(r.group is None for p in parts for r in p.rows):
        return None
    found = statistics.by_person(outcome)
    return found and {**found, **{k: complete(found[k]) for k in ("mean", "min", "max")}, "ci95": ends(found["ci95"])}


def _ece(parts: Sequence[Predictions], contender: int, prior: str) -> float | None:
    """The calibration error over all scored items; None without classes."""
    found = [c for p in parts if (c := p.calibration(contender, prior)) is not None]
    if not found or not sum(len(right) for _, right in found):
        return None
    confidence, right = (np.concatenate(x) for x in zip(*found, strict=True))
    return statistics.calibration_error(confidence, right)


def _over_parts(
    parts: Sequence[Predictions], contender: int, outcome: Outcome | None, prior: str, name: str, suffix: str
) -> dict[str, Any]:
    """Fields of a record over several parts: counts are sums; where weights differ there is no single sha256."""
    first = next((p for p in parts if p.columns), parts[0])  # the classes of a part without labels are not known
    found = record(first, contender, outcome or first.outcome(contender, prior), prior, suffix)
    weights = [p.contenders[contender].module for p in parts]
    if len({w.sha256 for w in weights}) > 1:
        found |= {"model": name, "sha256": "", "weights": [{"name": w.name, "sha256": w.sha256} for w in weights]}
    found |= {k: sum(r) for k, r in {
        "n_expected": [p.n_expected for p in parts],
        "n_evaluated": [len(p.rows) for p in parts],
        "n_unscored": [p.n_unscored for p in parts],
        "no_face": [p.no_face for p in parts],
    }.items()}  # fmt: skip
    if found["n_points"] is not None:
        found["n_points"] = sum(len(x) for p in parts for x in p.va_true)
    splits = {r.split for p in parts for r in p.rows}
    found |= {"split": splits.pop() if len(splits) == 1 else None, "parts": [p.part for p in parts]}
    found["by_person"] = _by_person(parts, outcome) if outcome is not None else None
    found |= {"seconds": round(sum(p.seconds for p in parts), 2), "ece": _ece(parts, contender, prior)}
    return found


def _pooled(parts: Sequence[Predictions], prior: str, name: str, suffix: str) -> list[dict[str, Any]]:
    """One record per contender over all items of all parts."""
    rows = [r for p in parts for r in p.rows]
    groups = statistics.group_numbers([r.group for r in rows], [r.id for r in rows])
    found, outcomes = [], []
    for v in range(len(parts[0].contenders)):
        outcome = replace(statistics.pooled([p.outcome(v, prior) for p in parts]), groups=groups)
        one = _over_parts(parts, v, outcome, prior, name, suffix)
        one |= {"fold": "pooled", "published": _published(one, "pooled")}
        found.append(one)
        outcomes.append(outcome)
    _add_differences(found, outcomes)
    return found


def _mean(
    parts: Sequence[Predictions],
    prior: str,
    name: str,
    disjoint: bool,
    suffix: str,
    single: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """One record per contender with mean and standard deviation over parts, whose numbers stand in ``of_parts``."""
    found = []
    contenders = len(parts[0].contenders)
    for v in range(contenders):
        outcomes = [p.outcome(v, prior) for p in parts]
        one = _over_parts(parts, v, None, prior, name, suffix)
        each = single[v::contenders]
        metrics, deviation, interval = statistics.mean(outcomes, disjoint)
        if not disjoint:
            one["protocol"] = one["protocol"].replace(str(parts[0].part), f"{len(parts)}splits")
        one |= {
            "fold": "mean",
            "published": _published(one, "mean"),
            "metrics": complete(metrics),
            "std": complete(deviation),
            "ci95": ends(interval),
            "of_parts": [r["metrics"] for r in each],
            "per_class": {},
            "confusion": None,
        }
        if disjoint:
            one["n_groups"] = len({(g, r.id if g is None else "") for p in parts for r in p.rows for g in [r.group]})
        else:
            one["n_groups"] = None
        if v:
            values = {m: [r["delta"].get(m) for r in each] for m in METRICS}
            one["delta"] = complete({m: float(np.mean(x)) for m, x in values.items() if None not in x})
            one["delta_ci95"] = ends({})
        found.append(one)
    return found


def _published(one: Mapping[str, Any], fold: str) -> list[dict[str, Any]]:
    return [] if one["label_map"] else leaderboard.published(one["dataset"], one["protocol"], one["split"], fold)


def complete(values: Mapping[str, float]) -> dict[str, float | None]:
    """Every metric by name; None = not measured here. The mean CCC is there only where it was."""
    names = [m for m in METRICS if m != "CCC" or m in values]
    return {k: float(values[k]) if k in values and np.isfinite(values[k]) else None for k in names}


def ends(interval: Mapping[str, tuple[float, float]]) -> dict[str, list[float] | None]:
    """The two ends of every metric's interval; None = there is none."""
    return {k: list(interval[k]) if k in interval else None for k in METRICS if k != "CCC" or k in interval}


@cache
def commit() -> str:
    """The git commit of the checkout; empty where the package is installed without one."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
        )
    except OSError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def hardware(device: str) -> str:
    """The accelerator's name, else the processor's and its number of threads."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(device))
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    name = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), platform.processor())
    return f"{name or platform.machine()}, {torch.get_num_threads()} threads"
