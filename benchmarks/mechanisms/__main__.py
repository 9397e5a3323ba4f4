"""Can each network do what its paper says? Its head against controls that a skeptic would choose, on drawn clips.

    python -m benchmarks.mechanisms [--only EXPERIMENT ...] [--seeds N]     trains what is not in the table yet
    python -m benchmarks.mechanisms --quick                                 trains two seeds anew and compares
    python -m benchmarks.mechanisms --page                                  writes docs/mechanisms.md from the table

To be run in the checkout's root; needs the extra ``experiments``. All variants of an architecture share its frozen
encoders, which learned on plain clips; their features of every clip are computed once and cached below
``EMOZOO_HOME``. A run trains one head on the clips of training people and tests it on clips of people that nothing
was trained on. Finished runs are appended to ``benchmarks/results/mechanisms.csv``: a killed run goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from emozoo import files

from .page import PAGE, page
from .table import TABLE, TOLERANCE, changed_metrics, read_table
from .train import EXPERIMENTS, train_missing

SEEDS, QUICK = 10, (1, 2)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(EXPERIMENTS), default=list(EXPERIMENTS), help="experiments")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"seeds 1 to this (default {SEEDS})")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw and decode clips")
    parser.add_argument("--quick", action="store_true", help="train seeds 1 and 2 anew, compare with the table")
    parser.add_argument("--page", action="store_true", help=f"write {PAGE} from the table, train nothing")
    parser.add_argument("--table", type=Path, default=TABLE, help="where finished runs are appended")
    chosen = parser.parse_args(argv)
    if chosen.quick:
        fresh = files.cache_folder() / "mechanisms_quick.csv"
        fresh.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        train_missing(chosen.only, QUICK, fresh, chosen.workers)
        changed = changed_metrics(read_table(fresh), read_table(chosen.table))
        print("\n".join(changed) or f"seeds {QUICK}: as committed, within {TOLERANCE}")
        return 1 if changed else 0
    if not chosen.page:
        train_missing(chosen.only, range(1, chosen.seeds + 1), chosen.table, chosen.workers)
    PAGE.write_text(page(read_table(chosen.table), EXPERIMENTS.values()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
