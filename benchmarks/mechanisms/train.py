"""The experiments, and the runs that the table does not hold yet."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from emozoo import synthemo

from . import caer, ceflnet, dfan, joint
from .clips import TaskClips, load_clips
from .table import append_rows, read_table, table_rows

EXPERIMENTS = {  # in the order of the page
    e.name: e for e in (caer.EMOTION, caer.AGREEMENT, ceflnet.EXPERIMENT, dfan.EXPERIMENT, joint.EXPERIMENT)
}


def train_missing(names: Sequence[str], seeds: Sequence[int], table: Path, workers: int) -> None:
    """Trains every run of the named experiments that the table does not hold yet, and appends it."""
    loaded: dict[str, TaskClips] = {}
    for name in names:
        experiment = EXPERIMENTS[name]
        have = read_table(table)
        if (have["version"] != synthemo.VERSION).any():
            sys.exit(f"{table}: holds runs on another version of the drawn clips than {synthemo.VERSION}; move it away")
        done = set(zip(have["experiment"], have["variant"], have["seed"], strict=True))
        for seed in seeds:
            if experiment.arch not in loaded:
                loaded = {experiment.arch: load_clips(experiment.arch, workers)}
            clips = loaded[experiment.arch]
            for variants, run in experiment.runs(clips, seed):
                if all((name, v, seed) in done for v in variants):
                    continue
                begun = time.monotonic()
                append_rows(table_rows(name, seed, run(), clips.test.groups), table)
                seconds = time.monotonic() - begun
                print(f"{name} {seed} {', '.join(variants)}: {seconds:.1f} s", file=sys.stderr, flush=True)
