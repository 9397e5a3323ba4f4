"""How much faster ``emozoo prepare`` is with two processes than with one, on the same drawn clips.

    python benchmarks/speed/prepare.py [--quick] [--out FILE]

Equal clips of 640x360 are decoded, faces found and cropped, and all is stored that the models of the zoo need; each
run makes a new store. ``once they run``: clips a second after the first two clips, which is what large sets cost.
``with their start``: the whole of this small set; each worker process first imports what it needs. The limit is what
two processes gain here that only count, each for itself: other work on the machine lowers it.
"""

from __future__ import annotations

import itertools
import shutil
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
PREPARE = """
import sys, time
from emozoo.data.prepare import cover_of, prepare
videos, out, workers = sys.argv[1:]
begun, ends = time.perf_counter(), []
prepare("csv", videos, out, cover=cover_of([]), workers=int(workers),
        progress=lambda done, of: ends.append((done, time.perf_counter())))
first = next(end for end in ends if end[0] >= 2)
print(ends[-1][1] - begun, (ends[-1][1] - first[1]) / (ends[-1][0] - first[0]))
"""


def prepare(videos: Path, out: Path, workers: int) -> list[float]:
    """Seconds of all, and seconds a clip once the processes run. Stops where it fails."""
    command = [sys.executable, "-c", PREPARE, str(videos), str(out), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(x) for x in done.stdout.split()]


def count(processes: int) -> None:
    """Two pieces of the same work, one after the other or at the same time."""
    for _ in range(2 // processes):
        started = [subprocess.Popen([sys.executable, "-c", COUNT]) for _ in range(processes)]
        for process in started:
            process.wait()


def main(argv: Sequence[str] | None = None) -> None:
    args = rounds.arguments(__doc__, argv)
    turns, clips, length = (1, 4, 0.4) if args.quick else (rounds.ROUNDS, 16, 1.0)
    ideal = rounds.interleaved([lambda: count(1), lambda: count(2)], 1 if args.quick else 5)
    limit = f"two processes that count: {np.median(ideal[:, 0] / ideal[:, 1]):.2f}x"
    with tempfile.TemporaryDirectory() as scratch:
        videos = next(draw(Path(scratch), SIZE, (250,), 1, length))
        for i in range(1, clips):
            shutil.copy(videos / "0.mp4", videos / f"{i}.mp4")
        list_clips(videos)
        out = (Path(scratch, f"store{i}") for i in itertools.count())
        taken = np.array([[prepare(videos, next(out), n) for n in (1, 2)] for _ in range(turns)])
    rows = []
    for i, (case, unit, bar) in enumerate((("with their start", "s", ""), ("once they run", "s a clip", ">= 1.8x"))):
        more = {"bar": bar, "limit": limit, "clips": clips}
        names = ("1 worker", "2 workers")
        rows.append(
            rounds.row(QUESTION, f"{clips} clips of {length:g} s, {case}", names, unit, *taken[..., i].T, **more)
        )
    rounds.save(QUESTION, rows, args.out)


if __name__ == "__main__":
    main()
