"""The table of all measurements of speed, ``benchmarks/results/speed.csv``: its columns, and how a script writes it."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from emozoo import files
from emozoo.benchmark import report
from emozoo.benchmark.records import hardware

OUT = Path("benchmarks/results/speed.csv")
COLUMNS = (
    "question", "case", "a", "b", "unit", "a_median", "b_median", "ratio", "ratio_lo", "ratio_hi", "rounds", "clips",
    "load", "hardware", "versions", "date",
)  # fmt: skip


def conditions() -> dict[str, str]:
    """The columns that say where and when a row was measured."""
    return {
        "hardware": f"{hardware('cpu')}, {os.cpu_count()} cores",
        "versions": " ".join(f"{k}={v}" for k, v in files.versions().items()),
        "date": date.today().isoformat(),
    }


def save(question: str, rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Puts the rows of a question in the place of its old ones; those of other questions stay."""
    others: list[dict[str, str]] = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as f:
            others = [r for r in csv.DictReader(f) if r["question"] != question]
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows([*others, *rows])
    report.write_text(text.getvalue(), path)
