"""How much faster ``emozoo prepare`` is with two processes than with one, on the same drawn clips.

    python benchmarks/speed/prepare.py [--quick] [--out FILE]

Clips of 640x360 are decoded, faces found and cropped, and everything is stored for all models; each run makes a new
store. The start of the two processes is part of their time. The limit is what two processes reach that do nothing but
count, each for itself: other work on the machine lowers it.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rounds
from decoders import draw, list_clips

QUESTION = "prepare"
SIZE = (640, 360)
COUNT = "sum(range(60_000_000))"


def prepare(videos: Path, out: Path, workers: int) -> None:
    """Runs the command. Stops where it fails."""
    command = ["prepare", "csv", "--root", videos, "--out", out, "--workers", str(workers)]
    subprocess.run([sys.executable, "-m", "emozoo", *command], check=True, capture_output=True)


def count(processes: int) -> None:
    """Two pieces of the same work, one after the other or at the same time."""
    for _ in range(2 // processes):
        started = [subprocess.Popen([sys.executable, "-c", COUNT]) for _ in range(processes)]
        for process in started:
            process.wait()


def main(argv: Sequence[str] | None = None) -> None:
    args = rounds.arguments(__doc__, argv)
    turns, clips, length = (1, 2, 0.4) if args.quick else (rounds.ROUNDS, 12, 2.0)
    ideal = rounds.interleaved([lambda: count(1), lambda: count(2)], 3)
    limit = f"two processes that count: {np.median(ideal[:, 0] / ideal[:, 1]):.2f}x"
    with tempfile.TemporaryDirectory() as scratch:
        videos = next(draw(Path(scratch), SIZE, (250,), clips, length))
        list_clips(videos)
        names = (Path(scratch, f"store{i}") for i in itertools.count())
        taken = rounds.interleaved([lambda n=n: prepare(videos, next(names), n) for n in (1, 2)], turns)
    more = {"bar": ">= 1.8x", "limit": limit, "clips": clips}
    case = f"{clips} clips of {length:g} s"
    rounds.save(QUESTION, [rounds.row(QUESTION, case, ("1 worker", "2 workers"), "s", *taken.T, **more)], args.out)


if __name__ == "__main__":
    main()
