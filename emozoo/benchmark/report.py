"""Records as a table to read, as a JSON file, and as lines of the committed results."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emozoo import hub

if TYPE_CHECKING:
    from rich.console import Console

METRICS = ("WAR", "UAR", "F1", "CCC_V", "CCC_A")
# The columns of benchmarks/results/<dataset>.csv; metrics are fractions, _lo and _hi the ends of 95 % intervals.
COLUMNS = (
    "model", "sha256", "detector", "dataset", "protocol", "split", "fold", "seed", "prior", "control", "n_expected",
    "n_evaluated", "no_face", "WAR", "WAR_lo", "WAR_hi", "UAR", "UAR_lo", "UAR_hi", "F1", "CCC_V", "CCC_A", "delta",
    "delta_lo", "delta_hi", "delta_metric", "seconds", "versions", "hardware", "precision", "date", "commit",
    "protocol_version",
)  # fmt: skip
# What makes two lines the same measurement: a new one replaces the old.
KEY = ("model", "dataset", "protocol", "split", "fold", "prior", "control", "detector", "protocol_version")


def write_json(records: Sequence[dict[str, Any]], path: str | Path) -> None:
    """The file of ``emozoo benchmark --json FILE``; it appears whole or not at all."""
    text = json.dumps({"schema": 1, "records": list(records)}, ensure_ascii=False, indent=1, allow_nan=False)
    hub.write_atomic(Path(path), (text + "\n").encode())


def headline(record: dict[str, Any]) -> str | None:
    """The metric that a control's difference is shown in: UAR, or CCC_V where no classes were scored."""
    return next((m for m in ("UAR", "CCC_V") if record["metrics"][m] is not None), None)


def to_csv_rows(records: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Records as lines of the results table, all cells text, empty = not measured."""
    commit = _commit()
    return [{c: _cell(v) for c, v in _row(r, commit).items()} for r in records]


def _row(record: dict[str, Any], commit: str) -> dict[str, Any]:
    row = {c: record.get(c) for c in COLUMNS}
    row |= {m: record["metrics"][m] for m in METRICS}
    for m in ("WAR", "UAR"):
        row[f"{m}_lo"], row[f"{m}_hi"] = record["ci95"][m] or (None, None)
    metric = headline(record)
    row |= {"delta": None, "delta_metric": None}
    if "delta" in record and metric:
        row |= {"delta": record["delta"][metric], "delta_metric": metric}
        row["delta_lo"], row["delta_hi"] = record["delta_ci95"][metric] or (None, None)
    row["versions"] = " ".join(f"{k}={v}" for k, v in record["versions"].items())
    row |= {"date": date.today().isoformat(), "commit": commit}
    return row


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _commit() -> str:
    """The checkout's commit, empty outside one."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
        )
    except OSError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def save(records: Sequence[dict[str, Any]], folder: str | Path) -> list[Path]:
    """Merges records into ``<dataset>.csv`` files of a folder: a measurement made again replaces the old one."""
    written = []
    rows = to_csv_rows(records)
    for name in dict.fromkeys(r["dataset"] for r in rows):
        path = Path(folder) / f"{name}.csv"
        table: dict[tuple[str, ...], dict[str, str]] = {}
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as f:
                table = {tuple(r[k] for k in KEY): r for r in csv.DictReader(f)}
        table |= {tuple(r[k] for k in KEY): r for r in rows if r["dataset"] == name}
        part = path.with_name(f".{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(table[k] for k in sorted(table))
        part.replace(path)
        written.append(path)
    return written


def show(records: Sequence[dict[str, Any]], console: Console | None = None) -> None:
    """Prints one table for each set of items; controls stand below their model."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = console or Console()
    if not console.is_terminal and console.width < 120:  # a file or pipe has no width of its own
        console.width = 120
    parts: dict[str, list[dict[str, Any]]] = {}
    for r in records:
        parts.setdefault(_items(r), []).append(r)
    for title, part in parts.items():
        shown = [m for m in ("WAR", "UAR", "CCC_V", "CCC_A") if any(r["metrics"][m] is not None for r in part)]
        table = Table(title=escape(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("weights", overflow="fold", min_width=20)
        table.add_column("prior")
        for m in shown:
            table.add_column(m, justify="right", no_wrap=True)
        if any("delta" in r for r in part):
            table.add_column("model − control", justify="right", no_wrap=True)
        for r in part:
            name = f"  {r['model']}: {r['control']}" if r["control"] else r["model"]
            cells = [_shown(m, r["metrics"][m], r["ci95"][m]) for m in shown]
            if "delta" in r and (metric := headline(r)):
                cells.append(f"{metric} " + _shown(metric, r["delta"][metric], r["delta_ci95"][metric], sign="+"))
            table.add_row(escape(name), r["prior"] or "", *map(escape, cells))
        console.print(table)
    console.print("Percent (CCC: -1 to 1), below it the 95 % interval over persons.", style="dim")


def _items(r: dict[str, Any]) -> str:
    """What was scored: data, protocol, part, how many of how many, and what is worth knowing of them."""
    place = [r["dataset"], r["protocol"], r["split"], "" if r["fold"] is None else f"fold {r['fold']}"]
    n = f"{r['n_evaluated']} of {r['n_expected']} items, {r['n_groups']} persons or single items"
    faces = f", no face in {r['no_face']}" if r["no_face"] else ""
    return f"{', '.join(dict.fromkeys(p for p in place if p))}: {n}{faces}"


def _shown(metric: str, value: float | None, interval: Sequence[float] | None, sign: str = "") -> str:
    if value is None:
        return "–"
    scale, digits = (1, 2) if metric.startswith("CCC") else (100, 1)
    ends = "\n" + " to ".join(f"{scale * x:{sign}.{digits}f}" for x in interval) if interval else ""
    return f"{scale * value:{sign}.{digits}f}{ends}"
