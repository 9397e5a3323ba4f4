"""Records as a table to read, as a JSON file, and as lines of the committed results."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emozoo import files
from emozoo.benchmark.formatting import joined, number

if TYPE_CHECKING:
    from rich.console import Console

METRICS = ("WAR", "UAR", "F1", "CCC_V", "CCC_A", "CCC")
# The columns of benchmarks/results/<dataset>.csv; metrics are fractions, _lo and _hi the ends of 95 % intervals.
COLUMNS = (
    "model", "sha256", "detector", "dataset", "protocol", "split", "fold", "seed", "prior", "control", "n_expected",
    "n_evaluated", "no_face", "WAR", "WAR_lo", "WAR_hi", "UAR", "UAR_lo", "UAR_hi", "F1", "CCC_V", "CCC_A", "delta",
    "delta_lo", "delta_hi", "delta_metric", "seconds", "versions", "hardware", "precision", "date", "commit",
    "protocol_version", "label_map", "n_groups", "n_points", "F1_lo", "F1_hi", "CCC_V_lo", "CCC_V_hi", "CCC_A_lo",
    "CCC_A_hi", "CCC", "CCC_lo", "CCC_hi", "WAR_std", "UAR_std", "CCC_delta", "CCC_delta_lo", "CCC_delta_hi", "ECE",
    "n_people", "UAR_person", "UAR_person_lo", "UAR_person_hi", "UAR_person_min", "UAR_person_max",
)  # fmt: skip
# What makes two lines the same measurement: a new one replaces the old.
KEY = (
    "model", "dataset", "protocol", "split", "fold", "prior", "control", "detector", "protocol_version", "label_map",
)  # fmt: skip


def write_json(records: Sequence[dict[str, Any]], path: str | Path, comparisons: Sequence[Any] = ()) -> None:
    """The file of ``emozoo benchmark --json FILE``; it appears whole or not at all."""
    found: dict[str, Any] = {"schema": 1, "records": list(records)}
    if comparisons:
        found["comparisons"] = list(comparisons)
    files.write_text(path, to_json(found))


def to_json(found: dict[str, Any]) -> str:
    """Plain data as the text of a JSON file."""
    return json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """The lines of a table, each by its columns; none where there is no such file."""
    if not Path(path).is_file():
        return []
    with Path(path).open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def read_results(folder: str | Path) -> list[dict[str, str]]:
    """Every benchmark result in the tables of a folder (``benchmarks/results``), in the order of file names and lines.

    Tables of other measurements, which have no column ``dataset``, are left out.
    """
    tables = map(read_csv, sorted(Path(folder).glob("*.csv")))
    return [row for table in tables for row in table if "dataset" in row]


def write_csv(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Records as a table of its own, with the columns of the committed results."""
    files.write_text(path, files.csv_text(to_csv_rows(records), COLUMNS))


def headline(record: Mapping[str, Any]) -> str | None:
    """The metric of a control's difference: UAR, or CCC_V where no classes were scored."""
    return next((m for m in ("UAR", "CCC_V") if record["metrics"][m] is not None), None)


def to_csv_rows(records: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Records as lines of the results table, all cells text, empty = not measured."""
    return [{c: _cell(v) for c, v in _row(r).items()} for r in records]


def _row(record: dict[str, Any]) -> dict[str, Any]:
    row = {c: record.get(c) for c in COLUMNS}
    for m in METRICS:
        row[m] = record["metrics"].get(m)
        row[f"{m}_lo"], row[f"{m}_hi"] = record["ci95"].get(m) or (None, None)
    row |= {f"{m}_std": record.get("std", {}).get(m) for m in ("WAR", "UAR")}
    row["ECE"] = record.get("ece")
    if people := record.get("by_person"):
        row |= {"n_people": people["n"], "UAR_person": people["mean"]["UAR"]}
        row |= {f"UAR_person_{end}": people[end]["UAR"] for end in ("min", "max")}
        row["UAR_person_lo"], row["UAR_person_hi"] = people["ci95"]["UAR"] or (None, None)
    metric = headline(record)
    row |= {"delta": None, "delta_metric": None}
    if "delta" in record and metric:
        row |= {"delta": record["delta"][metric], "delta_metric": metric}
        row["delta_lo"], row["delta_hi"] = record["delta_ci95"][metric] or (None, None)
        row["CCC_delta"] = record["delta"].get("CCC")
        row["CCC_delta_lo"], row["CCC_delta_hi"] = record["delta_ci95"].get("CCC") or (None, None)
    row["versions"] = " ".join(f"{k}={v}" for k, v in record["versions"].items())
    return row


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def save(records: Sequence[dict[str, Any]], folder: str | Path) -> list[Path]:
    """Merges records into ``<dataset>.csv`` files of a folder: a measurement made again replaces the old one."""
    written = []
    rows = to_csv_rows(records)
    for name in dict.fromkeys(r["dataset"] for r in rows):
        path = Path(folder) / f"{name}.csv"
        table = {tuple(r.get(k) or "" for k in KEY): r for r in read_csv(path)}
        table |= {tuple(r[k] for k in KEY): r for r in rows if r["dataset"] == name}
        files.write_text(path, files.csv_text((table[k] for k in sorted(table)), COLUMNS))
        written.append(path)
    return written


CLASS_COLUMNS = (
    "model", "sha256", "data", "protocol", "split", "prior", "control", "class", "n", "recall", "precision", "f1",
    "answers",
)  # fmt: skip


def save_classes(records: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Merges the results of each class into a table: recall, precision, F1, and the classes predicted for its items.

    Column ``answers``: a line of the confusion matrix, counts in the order of the classes. Records over several parts
    have no confusion matrix and are left out.
    """
    same = [c for c in CLASS_COLUMNS[:8] if c != "sha256"]
    table = {tuple(r[k] for k in same): r for r in read_csv(path)}
    for record in records:
        if not record.get("confusion"):
            continue
        predicted = [sum(line[i] for line in record["confusion"]) for i in range(len(record["classes"]))]
        for i, (name, counts) in enumerate(zip(record["classes"], record["confusion"], strict=True)):
            found = record["per_class"][name]
            values = [record[k] for k in ("model", "sha256", "dataset", "protocol", "split", "prior", "control")]
            precision = counts[i] / predicted[i] if predicted[i] else None
            values += [name, found["n"], found["recall"], precision, found["f1"], " ".join(map(str, counts))]
            row = {c: _cell(v) for c, v in zip(CLASS_COLUMNS, values, strict=True)}
            table[tuple(row[k] for k in same)] = row
    files.write_text(path, files.csv_text(table.values(), CLASS_COLUMNS))


def show(records: Sequence[dict[str, Any]], console: Console | None = None) -> None:
    """Prints one table for each set of items: a model, its controls below it, records over all folds last."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = console or Console()
    if not console.is_terminal and console.width < 120:  # a file or pipe has no width of its own
        console.width = 120
    for part in sets(records).values():
        several = len({(r["fold"], r["protocol"]) for r in part}) > 1
        names = shown_metrics(part)
        if len(names) > 3:  # the others are in every file that is written
            names = [m for m in names if m not in ("F1", "CCC")]
        console.print(f"[bold]{escape(title(part))}[/]")
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("weights", overflow="fold", min_width=20)
        if several:
            table.add_column("part")
        table.add_column("prior")
        for m in names:
            table.add_column(m, justify="right", no_wrap=True)
        if any("delta" in r for r in part):
            table.add_column("model − control", justify="right", no_wrap=True)
        for r in part:
            cells = [_shown(m, r["metrics"].get(m), r["ci95"].get(m)) for m in names]
            if "std" in r:
                cells = [c if r["std"].get(m) is None else f"{c}\n± {number(m, r['std'][m])}"
                         for m, c in zip(names, cells, strict=True)]  # fmt: skip
            if "delta" in r and (metric := headline(r)):
                cells.append(f"{metric} " + _shown(metric, r["delta"][metric], r["delta_ci95"][metric], sign="+"))
            name = f"  {r['control']}" if r["control"] else r["model"]
            part_cell = [part_name(r)] if several else []
            table.add_row(escape(name), *part_cell, r["prior"] or "", *map(escape, cells))
        console.print(table)
    console.print("Percent (CCC: -1 to 1), below it the 95 % interval over persons.", style="dim")


def sets(records: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
    """Records by the items they were scored on, folds of the same data together."""
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for r in records:
        protocol = re.sub(r"split_\d+|\d+splits", "split", r["protocol"])
        found.setdefault((r["dataset"], protocol, r["split"], r["label_map"]), []).append(r)
    return found


def full_name(r: Mapping[str, Any]) -> str:
    """The name of the weights and, in the record of a control, the control."""
    return f"{r['model']}: {r['control']}" if r["control"] else str(r["model"])


def part_name(r: Mapping[str, Any]) -> str:
    """``fold 3``, ``pooled``, ``mean``, or the split in the protocol's name."""
    if r["fold"] is None:
        return r["protocol"].rpartition("_")[2]
    return f"fold {r['fold']}" if str(r["fold"]).isdigit() else str(r["fold"])


def shown_metrics(part: Sequence[Mapping[str, Any]]) -> list[str]:
    """The metrics that a table of records has columns for."""
    return [m for m in METRICS if any(r["metrics"].get(m) is not None for r in part)]


def title(part: Sequence[Mapping[str, Any]]) -> str:
    """The heading of a table: data, protocol, part, and how many items of how many expected."""
    r = next((r for r in part if r["fold"] in ("pooled", "mean")), part[0])
    words = [r["dataset"], r["protocol"], r["split"], r["label_map"] and f"classes by {r['label_map']}"]
    if len(part) == 1 or r["fold"] not in (None, "pooled", "mean"):
        words.append(part_name(r) if r["fold"] is not None else None)
    n = f"{r['n_evaluated']} of {r['n_expected']} items"
    if r["n_groups"]:
        n += f", {r['n_groups']} persons or single items"
    if r.get("n_points"):
        n += f", {r['n_points']} labelled moments"
    faces = f", no face in {r['no_face']}" if r["no_face"] else ""
    return f"{', '.join(dict.fromkeys(p for p in words if p))}: {n}{faces}"


def _shown(metric: str, value: float | None, ends: Sequence[float] | None, sign: str = "") -> str:
    """A value with its interval on a line of its own."""
    form = partial(number, metric, sign=sign)
    return f"{form(value)}\n{joined(ends, form)}" if ends else form(value)
