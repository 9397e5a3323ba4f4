"""Two models on the same items: paired differences and their significance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emozoo.benchmark import prediction_files, statistics
from emozoo.benchmark.records import Result, complete, ends
from emozoo.benchmark.statistics import Outcome, group_numbers
from emozoo.errors import UsageError
from emozoo.zoo import load


def files(a: str | Path, b: str | Path) -> dict[str, Any]:
    """Compares two files of predictions.

    Raises DatasetError for a file that cannot be read, UsageError where items or labels differ, and for files without a
    task in common.
    """
    left, right = prediction_files.read(Path(a)), prediction_files.read(Path(b))
    one, other = prediction_files.aligned((left.ids, left.outcome), (right.ids, right.outcome))
    return _compared(Path(a).stem, Path(b).stem, one, other, None)


def check_tasks(a: str, b: str) -> None:
    """Raises UsageError for the names of two models that have no task in common, before anything is measured."""
    if not set(load(a).tasks) & set(load(b).tasks):
        raise UsageError(prediction_files.NO_TASK)


def results(a: Result, b: Result) -> list[dict[str, Any]]:
    """Compares the models of two results under each prior, over all folds together where there are several.

    Raises UsageError where items or labels differ, and for models without a task in common.
    """
    found = []
    names = _names(a, b)
    priors = dict.fromkeys(r["prior"] for r in (*a.records, *b.records) if r["prior"])
    for prior in priors or (None,):  # there is none without classes
        one, other = prediction_files.aligned(_whole(a, prior), _whole(b, prior))
        found.append(_compared(*names, one, other, prior))
    return found


def _names(a: Result, b: Result) -> tuple[str, str]:
    """The names of two models; where different weights have one name, each with its sha256."""
    one, other = (next((r for r in x.records if r["fold"] == "pooled"), x.records[0]) for x in (a, b))
    same = one["model"] == other["model"] and one["sha256"] != other["sha256"]
    a_name, b_name = (f"{r['model']} ({r['sha256'][:8]})" if same else r["model"] for r in (one, other))
    return a_name, b_name


def _whole(result: Result, prior: str | None) -> tuple[list[str], Outcome]:
    """Ids and outcome of the model itself, without its controls, all parts together.

    Records of a control have the difference to the model; a model may well be what is a control of another one.
    """
    chosen = [
        (r, t)
        for r, t in zip(result.records, result.tables, strict=True)
        if r["prior"] in (prior, None) and "delta" not in r and t
    ]
    found = [prediction_files.of_table(r["classes"], t) for r, t in chosen]
    ids = [i for f in found for i in f.ids]
    if len(set(ids)) < len(ids):
        raise UsageError("splits that share items cannot be compared as one: name one split")
    groups = group_numbers([g for f in found for g in f.groups], ids)
    pooled = statistics.pooled([f.outcome for f in found])
    return ids, Outcome(groups, pooled.classes, pooled.confusion, pooled.moments)


def _compared(a: str, b: str, one: Outcome, other: Outcome, prior: str | None) -> dict[str, Any]:
    found = statistics.compare(one, other)
    return {
        "a": a,
        "b": b,
        "prior": prior,
        "n": len(one.groups),
        "n_groups": int(one.groups.max()) + 1,
        "difference": complete(found.difference),
        "ci95": ends(found.ci95),
        "p": found.p,
        "only_a": found.only_a,
        "only_b": found.only_b,
        "mcnemar_p": found.mcnemar_p,
    }
