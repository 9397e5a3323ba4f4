"""Checks a file of records that somebody submits for a board, and merges it into the committed results.

    python benchmarks/submit.py --check records.json    check alone
    python benchmarks/submit.py records.json            check, then merge

The file is what ``emozoo benchmark --json FILE`` wrote, with its predictions beside it (docs/benchmark.md). Metrics,
intervals, classes and calibration are computed again from the predictions; counts are compared with those of the
protocol, the sha256 with that of published weights. Only where every record passes, the file and its predictions are
copied to ``benchmarks/submissions`` and its lines are merged into ``benchmarks/results``; then run ``make tables``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from emozoo import registry
from emozoo.benchmark import leaderboard, prediction_files, report, statistics
from emozoo.benchmark.prediction_files import StoredPredictions
from emozoo.benchmark.records import complete
from emozoo.benchmark.statistics import METRICS, Outcome, group_numbers
from emozoo.benchmark.verify import line
from emozoo.data.protocols import protocol
from emozoo.errors import EmozooError, UsageError

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 1e-3  # predictions are stored with seven digits
REQUIRED = (
    "model", "sha256", "dataset", "protocol", "split", "fold", "prior", "control", "n_expected", "n_evaluated",
    "no_face", "metrics", "ci95", "per_class", "versions", "hardware", "date", "classes",
)  # fmt: skip

Record = Mapping[str, Any]


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a file that ``emozoo benchmark --json`` wrote. Raises UsageError for another file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["records"]
        if not found or not all(isinstance(r, dict) for r in found):
            raise ValueError("no records in it")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: not a file of records as `emozoo benchmark --json FILE` writes it ({error})"
        ) from None
    return found


def problems(path: Path) -> list[tuple[Record, str]]:
    """The records of a file that do not pass the check, each with the reason. Raises UsageError for another file."""
    records = read_records(path)
    found = ((r, problem_of(r, records, path)) for r in records)
    return [(r, problem) for r, problem in found if problem]


def problem_of(record: Record, records: Sequence[Record], path: Path) -> str | None:
    """Why a record is refused, or None. ``records``: all of its file, among them those of its folds."""
    missing = [k for k in REQUIRED if k not in record]
    if missing:
        return f"lacks {', '.join(missing)}"
    if record["dataset"] not in leaderboard.BOARDS:
        return f"there is no board for '{record['dataset']}'; there are {', '.join(leaderboard.BOARDS)}"
    known = registry.weights().get(record["model"])
    if known and known.sha256 != record["sha256"]:
        return f"{record['model']} has sha256 {known.sha256[:12]}, the record says {str(record['sha256'])[:12]}"
    if record["n_evaluated"] > record["n_expected"]:
        return f"{record['n_evaluated']} items evaluated of {record['n_expected']} expected"
    if problem := wrong_count(record):
        return problem
    parts = parts_of(record, records)
    if not parts:
        return "no records of its folds stand in the same file"
    try:
        read = [prediction_files.read(path.parent / str(r.get("predictions") or "none")) for r in parts]
    except EmozooError as error:
        return str(error)
    n = sum(len(p.ids) for p in read)
    if n != record["n_evaluated"]:
        return f"{n} predictions for {record['n_evaluated']} evaluated items"
    metrics, interval = metrics_of(record, read)
    for name in METRICS:
        ends = zip_longest(record["ci95"].get(name) or (), interval.get(name) or ())
        for what, old, new in (
            ("", record["metrics"].get(name), metrics.get(name)),
            *((" interval", a, b) for a, b in ends),
        ):
            if not alike(old, new):
                return f"{name}{what} is {old} in the record and {new} by its predictions"
    return None if record["fold"] == "mean" else wrong_detail(record, read)


def wrong_count(record: Record) -> str | None:
    """How the number of expected items differs from that of a known protocol, or None."""
    known = protocol(str(record["protocol"]))
    part = f"fold {record['fold']}" if record["fold"] is not None else str(record["split"])
    expected = known.counts.get("all" if record["fold"] in ("pooled", "mean") else part) if known else None
    if expected is None or record["n_expected"] + record.get("n_unscored", 0) == expected:
        return None
    return f"{record['protocol']} has {expected} items in {part}, the record expected {record['n_expected']}"


def parts_of(record: Record, records: Sequence[Record]) -> list[Record]:
    """The records that a record was made of: itself, or those of its folds or splits."""
    if record["fold"] not in ("pooled", "mean"):
        return [record]
    same = ("dataset", "prior", "control", "label_map", "detector")
    return [
        r for r in records
        if r["fold"] not in ("pooled", "mean") and all(r.get(k) == record.get(k) for k in same)
        and (r["protocol"] == record["protocol"] or r["fold"] is None)
        and (not record.get("weights") or r["sha256"] in {w["sha256"] for w in record["weights"]})
        and (record.get("weights") or r["sha256"] == record["sha256"])
    ]  # fmt: skip


def pooled(read: Sequence[StoredPredictions]) -> Outcome:
    """The items of all parts together, each person once."""
    ids = [i for p in read for i in p.ids]
    groups = group_numbers([g for p in read for g in p.groups], ids)
    return replace(statistics.pooled([p.outcome for p in read]), groups=groups)


def metrics_of(
    record: Record, read: Sequence[StoredPredictions]
) -> tuple[dict[str, float | None], Mapping[str, tuple[float, float]]]:
    """Metrics and intervals of a record, computed from predictions."""
    if record["fold"] == "mean":
        disjoint = len({i for p in read for i in p.ids}) == sum(len(p.ids) for p in read)
        metrics, _, interval = statistics.mean([p.outcome for p in read], disjoint=disjoint)
    else:
        metrics, interval = statistics.evaluate(pooled(read))
    return complete(metrics), interval


def wrong_detail(record: Record, read: Sequence[StoredPredictions]) -> str | None:
    """The first field on persons, classes or calibration that differs from the predictions, or None."""
    outcome, error = pooled(read), None
    if outcome.confusion is not None and (scored := outcome.confusion[:, 0] >= 0).any():
        right = (outcome.confusion[:, 0] == outcome.confusion[:, 1])[scored]
        error = statistics.calibration_error(np.concatenate([p.confidence for p in read])[scored], right)
    for name, value in (
        ("n_groups", len(np.unique(outcome.groups))),
        ("confusion", statistics.matrix(outcome)),
        ("per_class", statistics.per_class(outcome)),
        ("ece", error),
    ):
        if name in record and not alike(record[name], value):
            return f"{name} is not what follows from its predictions"
    return None


def alike(a: Any, b: Any) -> bool:
    """Whether two values of JSON are the same but for the last digits of numbers."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(alike(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return abs(a - b) <= TOLERANCE
    return a == b


def merge(file: Path, root: Path) -> list[Path]:
    """Copies a checked file with its predictions, and merges its lines; returns the tables that changed.

    Raises UsageError where a submission about the same data and weights is there already.
    """
    records = read_records(file)
    folder = root / "benchmarks" / "submissions"
    target = folder / f"{records[0]['dataset']}__{records[0]['model'].replace('/', '_')}.json"
    if target.exists():
        raise UsageError(f"{target} is there already: a newer submission needs another name of its weights")
    for record in records:
        if name := record.get("predictions"):
            new = f"{target.stem}.predictions/{Path(name).name}"
            (folder / new).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.parent / name, folder / new)
            record["predictions"] = new
    for record in records:  # a difference to a control cannot be computed again from one record's predictions
        for name in ("delta", "delta_ci95"):
            record.pop(name, None)
    report.write_json(records, target)
    return report.save(records, root / "benchmarks" / "results")


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0 = every record passes, 1 = one does not, 2 = the file cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout to write to; default: this one")
    wanted = parser.parse_args(argv)
    try:
        bad = problems(wanted.file)
        for record, problem in bad:
            print(f"{line(record)}: {problem}")
        if bad:
            return 1
        print(f"{len(read_records(wanted.file))} records follow from their predictions")
        for path in [] if wanted.check else merge(wanted.file, wanted.root):
            print(path)
    except EmozooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
