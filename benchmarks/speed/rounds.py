"""What the measurements of speed share: turns of two contenders, their row of the table, and its file.

Each script of this folder answers one question. It has ``QUESTION`` and ``main(argv)`` with ``--quick`` and ``--out``,
and writes its rows with :func:`save`. ``BENCH``, where it has one, are its arguments under ``make bench``.

``bar`` of a row: ``>= 2x`` or ``<= 1.25x`` for its ratio, ``>= 250`` or ``<= 4`` for the median of ``a`` in its unit.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emozoo import files
from emozoo.benchmark.records import hardware

OUT = Path("benchmarks/results/speed.csv")
ROUNDS = 7
COLUMNS = (
    "question", "case", "a", "b", "unit", "a_median", "b_median", "ratio", "ratio_lo", "ratio_hi", "bar", "limit",
    "rounds", "clips", "load", "hardware", "versions", "date",
)  # fmt: skip
_BAR = re.compile(r"(>=|<=) ([\d.]+)(x?)")


def arguments(about: str | None, argv: Sequence[str] | None) -> argparse.Namespace:
    """``quick`` and ``out`` of a script."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="something small and one round, to see that it runs")
    parser.add_argument("--out", type=Path, default=OUT)
    return parser.parse_args(argv)


def seconds(function: Callable[[], object]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def interleaved(contenders: Sequence[Callable[[], object]], rounds: int) -> np.ndarray:
    """Seconds (rounds, contenders): they take turns, in every other round backwards, after one turn untimed."""
    for function in contenders:
        function()
    found = np.zeros((rounds, len(contenders)))
    for number in range(rounds):
        order = range(len(contenders))
        for i in order if number % 2 == 0 else reversed(order):
            found[number, i] = seconds(contenders[i])
    return found


def conditions() -> dict[str, str]:
    """The columns that say where and when a row was measured."""
    return {
        "load": f"{os.getloadavg()[0]:.2f}",
        "hardware": f"{hardware('cpu')}, {os.cpu_count()} cores",
        "versions": " ".join(f"{k}={v}" for k, v in files.versions().items()),
        "date": date.today().isoformat(),
    }


def row(
    question: str, case: str, names: tuple[str, str], unit: str, a: np.ndarray, b: np.ndarray, /, **more: object
) -> dict[str, object]:
    """A row of the table, printed: medians of ``a`` and ``b`` (rounds,), and the quartiles of their ratios.

    ``more``: other columns, such as ``bar`` and ``limit``.
    """
    numbers = (np.median(a), np.median(b), *np.quantile(a / b, (0.5, 0.25, 0.75)))
    columns = ("a_median", "b_median", "ratio", "ratio_lo", "ratio_hi")
    made: dict[str, object] = {"question": question, "case": case, "a": names[0], "b": names[1], "unit": unit}
    made |= {n: f"{v:.4g}" for n, v in zip(columns, numbers, strict=True)}
    made |= {"rounds": len(a)} | conditions() | more
    print(
        f"{case}; {unit}: {names[0]} {numbers[0]:.4g}, {names[1]} {numbers[1]:.4g}, ratio {numbers[2]:.3g}", flush=True
    )
    return made


def passes(made: Mapping[str, Any]) -> bool | None:
    """Whether a row of the table passes its bar; None without one."""
    if not made.get("bar"):
        return None
    match = _BAR.fullmatch(made["bar"])
    if match is None:
        raise ValueError(f"bar {made['bar']!r}: write it as '>= 2x' (ratio) or '<= 4' (median of a)")
    value = float(made["ratio" if match[3] else "a_median"])
    return value >= float(match[2]) if match[1] == ">=" else value <= float(match[2])


def peak_mb(make: Callable[..., Callable[[], object]], *given: object) -> float:
    """Peak memory in MB that the function which ``make(*given)`` returns adds, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_mb, make, given).result()


def _peak_mb(make: Callable[..., Callable[[], object]], given: Sequence[object]) -> float:
    function = make(*given)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here (Linux)
    before = _memory_mb("VmRSS")
    function()
    return _memory_mb("VmHWM") - before


def _memory_mb(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def gemm_rate() -> str:
    """What products of matrices of 1024 x 1024 reach here, which bounds every network."""
    a = torch.rand(1024, 1024)
    taken = [seconds(lambda: a @ a) for _ in range(20)]
    return f"GEMM {2 * 1024**3 / float(np.median(taken)) / 1e9:.0f} GFLOP/s"


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
    files.write_text(path, text.getvalue())
