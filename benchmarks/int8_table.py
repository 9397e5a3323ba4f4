"""The table of ``benchmarks/results/int8.csv`` for the pages; ``benchmarks/tables.py`` writes it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from emozoo.benchmark.formatting import fraction, markdown_table
from emozoo.benchmark.report import read_csv

TABLE = Path(__file__).resolve().parent / "results" / "int8.csv"
NAMES = {"weights": "weights (`--int8`)", "static": "weights and sums (`quantize_static`)"}


def int8() -> str:
    """int8 beside float32: accuracy, labels that stay, size and time."""
    found = read_csv(TABLE) if TABLE.is_file() else []
    plain = {(r["model"], r["data"]): r for r in found if r["variant"] == "float32"}
    signed = partial(fraction, sign="+")
    rows = (
        [
            f"`{r['model']}`",
            f"`{r['data']}`",
            r["n"] if r["n"] == r["of"] else f"{r['n']} of {r['of']}",
            NAMES[r["variant"]],
            *(f"{fraction(plain[r['model'], r['data']][m])} {signed(r[f'{m}_delta'])}" for m in ("WAR", "UAR")),
            fraction(r["same_label"]),
            fraction(r["largest_change"]),
            f"{100 * float(r['size_ratio']):.0f} % of {plain[r['model'], r['data']]['mb']} MB",
            f"{float(r['speed_ratio']):.2f}",
        ]
        for r in found
        if r["variant"] in NAMES
    )
    head = [
        "Weights", "Items (val)", "n", "int8", "WAR of float32, change", "UAR of float32, change", "Same label",
        "Largest change of a probability", "Size", "Time / float32",
    ]  # fmt: skip
    return markdown_table(head, rows, "Nothing measured yet.")
