"""The table of ``benchmarks/results/occlusion.csv`` for the pages; ``benchmarks/tables.py`` writes it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from emozoo.benchmark.formatting import fraction, markdown_table, with_interval
from emozoo.benchmark.report import read_csv

TABLE = Path(__file__).resolve().parent / "results" / "occlusion.csv"


def result(row: dict[str, str]) -> str:
    """What the interval of a row says, in words."""
    if float(row["lo"]) > 0:
        return "yes"
    return "no: it costs less than hiding something else" if float(row["hi"]) < 0 else "not shown"


def occlusion() -> str:
    """Hiding what is highlighted beside hiding something else, for each model and kind of part."""
    found = read_csv(TABLE) if TABLE.is_file() else []
    signed = partial(fraction, sign="+")
    rows = (
        [
            f"`{r['model']}`",
            f"`{r['data']}`",
            r["hidden"],
            r["n"],
            signed(r["drop_highlighted"]),
            signed(r["drop_random"]),
            with_interval(r["difference"], (r["lo"], r["hi"]), signed),
            result(r),
        ]
        for r in found
    )
    head = [
        "Weights", "Clips (val)", "Hidden", "n", "Drop, highlighted", "Drop, random", "Difference (95 %)",
        "Does the highlight matter?",
    ]  # fmt: skip
    return markdown_table(head, rows, "Nothing measured yet.")
