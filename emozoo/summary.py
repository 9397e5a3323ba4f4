"""Tables of a whole job, from the JSON of its files: JSON Lines, a line for each file, and a line for each moment."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emozoo import files
from emozoo.data.find import MARK, one_line
from emozoo.errors import UsageError
from emozoo.journal import Line
from emozoo.prediction import likeliest

ROWS = 50_000  # of moments that are held as Python objects, before they become columns


def write_jsonl(path: Path, lines: Sequence[Line]) -> None:
    """The JSON of each file on one line."""
    with files.replacing(path) as part, part.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(line.text() + "\n")


def write_csv(path: Path, lines: Sequence[Line]) -> None:
    """A line for each file, without timelines; ``time_<class>``: the fraction of its time with that label."""
    classes = json.loads(lines[0].text())["classes"]
    with files.replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        fixed = "valence", "arousal", "faces", "duration_s", "warnings", "error", "tracks"
        header = ["file", "label", *classes, *fixed, *(f"time_{name}" for name in classes)]
        table.writerow(map(files.csv_cell, header))
        table.writerows(map(files.csv_cell, _row(json.loads(line.text()), classes)) for line in lines)


def check_parquet() -> None:
    """Raises UsageError where the library that writes Parquet is missing."""
    if find_spec("polars") is None:
        raise UsageError("--parquet needs polars: pip install 'emozoo[parquet]'")


def write_parquet(path: Path, lines: Sequence[Line]) -> None:
    """A line for each moment of each track of each file; columns as in the CSV of one file."""
    import polars as pl

    classes = json.loads(lines[0].text())["classes"]
    text, number = (
        ("file", "model", "label"),
        ("start_s", "end_s", *classes, "valence", "arousal", "x1", "y1", "x2", "y2"),
    )
    kinds = dict.fromkeys(text, pl.String) | {"track": pl.Int32} | dict.fromkeys(number, pl.Float64)
    names = ["file", "model", "track", "start_s", "end_s", "label", *number[2:]]
    schema = {name: kinds[name] for name in names}
    parts, rows = [pl.DataFrame(schema=schema)], list[list[Any]]()
    for i, line in enumerate(lines, 1):
        rows += moments(json.loads(line.text()), classes)
        if len(rows) > ROWS or i == len(lines):
            parts.append(pl.DataFrame(rows, schema=schema, orient="row"))
            rows.clear()
    with files.replacing(path) as part:
        pl.concat(parts).write_parquet(part, metadata={"comment": MARK})


def moments(record: Mapping[str, Any], classes: Sequence[str]) -> Iterable[list[Any]]:
    """The moments of all tracks of a file as rows: file, model, track, times, label, scores, valence, arousal, box."""
    for track in record["tracks"]:
        for m in track["timeline"]:
            scores = [m["scores"].get(name) for name in classes]
            yield [
                one_line(record["file"]), record["model"], track["id"], m["start_s"], m["end_s"],
                label_of(m, record), *scores, m["valence"], m["arousal"], *(m["box"] or [None] * 4),
            ]  # fmt: skip


def label_of(moment: Mapping[str, Any], record: Mapping[str, Any]) -> str | None:
    """The label of a moment of a file."""
    return likeliest(moment["scores"], record.get("options", {}).get("min_confidence", 0.0))


def time_of_labels(record: Mapping[str, Any]) -> dict[str, float]:
    """The fraction of the main track's time that each class is the label, in [0, 1]; the largest first."""
    time: dict[str, float] = defaultdict(float)
    total = 0.0
    for m in record["tracks"][0]["timeline"] if record["tracks"] else ():
        length = m["end_s"] - m["start_s"] or 1.0  # a still has no length
        total += length
        if label := label_of(m, record):
            time[label] += length
    return {label: time[label] / total for label in sorted(time, key=time.__getitem__, reverse=True)}


def faces_of(record: Mapping[str, Any]) -> int:
    """How many tracks of a file are those of faces."""
    return sum(any(m["box"] for m in track["timeline"]) for track in record["tracks"])


def _row(record: Mapping[str, Any], classes: Sequence[str]) -> list[Any]:
    scores = record["scores"] or {}
    codes = " ".join(warning["code"] for warning in record["warnings"])
    time = time_of_labels(record)
    return [
        one_line(record["file"]), record["label"], *(scores.get(name) for name in classes),
        record["valence"], record["arousal"], faces_of(record), record["duration_s"], codes,
        (record["error"] or {}).get("code"), len(record["tracks"]),
        *(round(time.get(name, 0.0), 4) if time else None for name in classes),
    ]  # fmt: skip
