"""Runs every measurement of speed in this folder and prints one table: question, ratio, bar, pass or short.

    python benchmarks/speed [--quick] [--out FILE] [NAME ...]

Each script runs in a process of its own, one after the other, on a machine that should have nothing else to do.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import rounds

from emozoo.benchmark.markdown import markdown_table

HERE = Path(__file__).resolve().parent


def scripts() -> dict[str, Any]:
    """The measurements by name: the modules of this folder that have a question."""
    names = sorted(p.stem for p in HERE.glob("*.py") if p.stem != "__main__")
    return {n: m for n in names if hasattr(m := importlib.import_module(n), "QUESTION")}


def table(path: Path) -> str:
    """The rows that have a bar."""
    with path.open(newline="", encoding="utf-8") as f:
        rows = [r for r in csv.DictReader(f) if r["bar"]]
    cells = (
        [r["question"], r["case"], f"{r['a_median']} {r['unit']}", f"{r['ratio']} ({r['a']} / {r['b']})", r["bar"],
         "pass" if rounds.passes(r) else "short"]
        for r in rows
    )  # fmt: skip
    return markdown_table(["Question", "Case", "Median", "Ratio", "Bar", "Result"], cells)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="scripts without .py; default: all")
    parser.add_argument("--quick", action="store_true", help="something small and one round, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("demo_out/speed.csv"))
    args = parser.parse_args()
    found, failed = scripts(), []
    if unknown := set(args.names) - set(found):
        sys.exit(f"no measurement {', '.join(sorted(unknown))}: there are {', '.join(found)}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for name in args.names or found:
        begun = time.perf_counter()
        options = ("--quick",) if args.quick else getattr(found[name], "BENCH", ())
        print(f"{name}: {found[name].QUESTION}", flush=True)
        if subprocess.run([sys.executable, HERE / f"{name}.py", *options, "--out", args.out]).returncode:
            failed.append(name)
        print(f"{name}: {time.perf_counter() - begun:.0f} s\n", flush=True)
    if args.out.is_file():
        print(table(args.out))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
