"""Files of predictions: a csv beside the records, from which their metrics can be computed again.

Columns: ``id``, ``fold``, ``group`` (the person, empty = unknown), ``label`` (empty = not scored), ``predicted``, the
probability of every scored class under its name, and where valence and arousal were scored ``time`` (seconds),
``valence``, ``arousal``, ``true_valence``, ``true_arousal``. Each item has one line, or one for each scored point.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from emozoo import files
from emozoo.benchmark.records import Result
from emozoo.benchmark.statistics import Outcome, group_numbers
from emozoo.data.manifest import text_file
from emozoo.errors import DatasetError, UsageError
from emozoo.labels import canonical
from emozoo.metrics import concordance_sums

FIRST = ("id", "fold", "group", "label", "predicted")
NO_TASK = (
    "a comparison needs a task that both predict: one predicts classes alone, the other valence and arousal alone; "
    "name two of one task"
)
MOST_NAME = 200  # bytes, before the suffix; file systems take 255, and a temporary name is longer
LAST = ("time", "valence", "arousal", "true_valence", "true_arousal")


def file_name(record: Mapping[str, Any]) -> str:
    """The file name of a record's predictions: weights, data, protocol, split, fold, prior, control.

    A name that is too long, or has characters that paths do not take, is cut and ends in a hash of the whole one.
    """
    parts = [record[k] for k in ("model", "dataset", "protocol", "split", "fold", "prior", "control", "detector")]
    kept = [str(p) for p in dict.fromkeys(parts) if p not in (None, "")]
    whole = "__".join(kept)
    name = re.sub(r"[^\w.+-]+", "_", whole)
    if name != whole or len(name.encode()) > MOST_NAME:
        cut = name.encode()[: MOST_NAME - 9].decode(errors="ignore")
        name = f"{cut}_{files.sha256_of(whole.encode(errors='surrogatepass'))[:8]}"
    return f"{name}.csv"


def write(result: Result, folder: Path) -> None:
    """Writes a file for every record that has predictions, each whole or not at all.

    The record's ``predictions`` is then the path of its file, relative to the parent of ``folder``. Records of one name
    have files of their own, but for the same predictions of the same weights.
    """
    taken: dict[str, tuple[str, str]] = {}
    for record, lines in zip(result.records, result.tables, strict=True):
        if not lines:
            continue
        own = (record["sha256"], _text(record["classes"], lines))
        name = next(n for n in _names(record) if taken.setdefault(n, own) == own)
        files.write_text(folder / name, own[1])
        record["predictions"] = f"{folder.name}/{name}"


def _names(record: Mapping[str, Any]) -> Iterator[str]:
    """The names that a record's file may have: where one is taken, the next has the weights' sha256, then a number."""
    name = file_name(record)
    longer = f"{name.removesuffix('.csv')}_{record['sha256'][:8]}"
    return chain((name, f"{longer}.csv"), (f"{longer}_{n}.csv" for n in count(2)))


def _text(classes: Sequence[str], lines: Sequence[Mapping[str, Any]]) -> str:
    """The text of a file of predictions."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    points = LAST if any("time" in line for line in lines) else ()
    table.writerow(map(files.csv_cell, [*FIRST, *classes, *points]))
    for line in lines:
        best = max(classes, key=line.__getitem__) if classes else None
        table.writerow([_cell({**line, "predicted": best}, c) for c in (*FIRST, *classes, *points)])
    return text.getvalue()


def _cell(line: Mapping[str, Any], column: str) -> object:
    value = line.get(column)
    return "" if value is None else f"{value:.7g}" if isinstance(value, float) else files.csv_cell(str(value))


@dataclass(frozen=True)
class StoredPredictions:
    """The content of a file: ``ids`` of the items, ``groups`` (persons, None = unknown), and their outcome.

    ``confidence`` (N,): the highest probability of each item; nan without classes.
    """

    ids: list[str]
    groups: list[str | None]
    outcome: Outcome
    confidence: np.ndarray


def read(path: Path) -> StoredPredictions:
    """Reads a file of predictions, with or without a byte order mark.

    Raises DatasetError for one that is no csv file in UTF-8, or with the line that cannot be used.
    """
    with text_file(path) as file:
        return of_table(*_table(file, path))


def _table(file: TextIO, path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """The classes and the lines of a file of predictions. Raises DatasetError with the line that cannot be used."""
    table = csv.DictReader(file)
    header = table.fieldnames = [files.csv_value(c) for c in table.fieldnames or ()]
    missing = [c for c in FIRST if c not in header]
    if missing:
        raise DatasetError(f"{path}: no column {missing[0]!r}; `emozoo benchmark --json FILE` writes predictions")
    classes = [c for c in header if c not in (*FIRST, *LAST)]
    points = "true_valence" in header
    lines: list[dict[str, Any]] = []
    ids: set[str] = set()
    for number, line in enumerate(table, 2):
        try:
            values: dict[str, Any] = {k: files.csv_value(line[k] or "") or None for k in FIRST}
            if values["label"] is not None and values["label"] not in classes:
                raise ValueError(f"label {values['label']!r} is no scored class")
            values |= {c: _number(line, c) for c in classes}
            if points and line["true_valence"]:
                values |= {c: _number(line, c) for c in LAST}
            if not points and values["id"] in ids:
                raise ValueError(f"{values['id']} stands twice")
            ids.add(values["id"])
            lines.append(values)
        except ValueError as error:
            raise DatasetError(f"{path}, line {number}: {error}") from None
    if not lines:
        raise DatasetError(f"{path}: no predictions below the header")
    return classes, lines


def _number(line: Mapping[str, str | None], column: str) -> float:
    """The finite number in a cell. Raises ValueError, which names the column, for anything else."""
    text = line.get(column) or ""
    try:
        if math.isfinite(value := float(text)):
            return value
    except ValueError:
        pass
    raise ValueError(f"{column} is no finite number: {text!r}")


def of_table(classes: Sequence[str], lines: Sequence[Mapping[str, Any]]) -> StoredPredictions:
    """The predictions of lines as a file or :meth:`emozoo.benchmark.predict.Predictions.table` has them."""
    seen: dict[str, int] = {}
    groups: list[str | None] = []
    confusion: list[tuple[int, int]] = []
    confidence: list[float] = []
    points: list[list[list[float]]] = []
    for line in lines:
        item = line["id"]
        if item not in seen:
            seen[item] = len(seen)
            groups.append(line["group"])
            scores = [line[c] for c in classes]
            true = list(classes).index(line["label"]) if line["label"] else -1
            confusion.append((true, int(np.argmax(scores)) if scores else -1))
            confidence.append(max(scores, default=float("nan")))
            points.append([])
        if "true_valence" in line:
            points[seen[item]].append([line[c] for c in LAST[1:]])
    ids = list(seen)
    moments = None
    if any(points):
        blocks = [np.array(s, dtype=np.float64).reshape(-1, 4) for s in points]
        moments = np.stack([[concordance_sums(b[:, i], b[:, i + 2]) for i in (0, 1)] for b in blocks])
    known = np.array(confusion) if classes else None
    outcome = Outcome(group_numbers(groups, ids), tuple(classes), known, moments)
    return StoredPredictions(ids, groups, outcome, np.array(confidence))


def aligned(a: tuple[Sequence[str], Outcome], b: tuple[Sequence[str], Outcome]) -> tuple[Outcome, Outcome]:
    """Two outcomes with their items in the same order; ``a`` and ``b`` are ids of items with an outcome.

    Raises UsageError where items or labels differ, and where no task was scored on both.
    """
    (left, one), (right, other) = a, b
    tasks = ((one.confusion, other.confusion), (one.moments, other.moments))
    if all(x is None or y is None for x, y in tasks):
        raise UsageError(NO_TASK)
    if set(left) != set(right):
        odd = sorted(set(left) ^ set(right))
        raise UsageError(f"a comparison needs the same items: {len(odd)} are in one only, such as {odd[0]}")
    at = {item: n for n, item in enumerate(right)}
    order = np.array([at[item] for item in left])
    confusion = None  # where one has no classes, those of the other are left out
    if one.confusion is not None and other.confusion is not None:
        names = {canonical(c): i for i, c in enumerate(one.classes)}
        if {canonical(c) for c in other.classes} != set(names):
            raise UsageError(
                f"a comparison needs the same classes: {', '.join(one.classes)} beside {', '.join(other.classes)}"
            )
        number = np.array([*(names[canonical(c)] for c in other.classes), -1])  # -1 = not scored stays
        confusion = number[other.confusion][order]
        if not np.array_equal(confusion[:, 0], one.confusion[:, 0]):
            raise UsageError("a comparison needs the same labels: those of some items differ")
    moments = None if other.moments is None else other.moments[order]
    return one, Outcome(one.groups, one.classes, confusion, moments)
