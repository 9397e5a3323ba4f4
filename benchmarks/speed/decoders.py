"""Which decoder feeds training faster, PyAV or decord: the same clips, draws and batches through the data module.

    python benchmarks/speed/decoders.py [--quick] [--out FILE]

Drawn clips of 10 s (224x224, a key frame every 250 or every 12 frames; 640x360, every 250) and real clips where there
are any (``EMOZOO_SHARED``), read by 0 and by 2 worker processes. ``first epoch`` opens each file for the first time in
a process: it is decoded whole once, to find damage; with workers it includes their start. ``later epochs`` open and
read it again. The decoders take turns, epoch by epoch, so that whatever else the machine does falls on both.

Writes milliseconds per clip into ``benchmarks/results/speed.csv``: medians over the rounds, and the median of the
rounds' ratios with its quartiles. ``wall`` is the time that training waits; other work on the machine distorts it.
``CPU`` is that of all threads and workers, which bounds the clips per second once the workers fill the cores. Linux
only. Stops where the two decoders give different frames.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import av
import numpy as np
import rounds
import torch

from emozoo.data import media, scan
from emozoo.data.clips import ClipReader
from emozoo.data.datamodule import EmotionDataModule
from emozoo.files import resolve_path
from emozoo.spec import ClipSpec, StreamSpec
from emozoo.synthemo.cause import plan
from emozoo.synthemo.clip import render

QUESTION = "decoder"
BENCH = ("--quick",)  # no bar
A, B = "pyav", "decord"
DRAWN = {(224, 224): (250, 12), (640, 360): (250,)}  # sizes of clips, and the distances of their key frames
WORKERS = (0, 2)
FPS, SECONDS, CLIPS, BATCH = 25, 10.0, 6, 1
REAL = ("ekman6_samples/*.mp4", "clips/liveportrait_*.mp4", "clips/pyfeat_*.mp4")
ONE = ClipSpec({"frame": StreamSpec("frame", (112, 112), frames=16)}, clips=1, sampling="segments", window_s=SECONDS)
SPREAD = replace(ONE, streams={"frame": StreamSpec("frame", (112, 112))}, clips=16)
SAMPLINGS = {"16 consecutive frames": ONE, "16 frames over the file": SPREAD}
UNITS = ("wall ms per clip", "CPU ms per clip")
WARM = 2  # epochs, not timed, in which each worker comes to know the clips that the other one read first


def draw(folder: Path, size: tuple[int, int], gops: Sequence[int], clips: int, seconds: float) -> Iterator[Path]:
    """Draws clips once and writes them with each distance of key frames, into a folder each."""
    for i in range(clips):
        frames = render(plan(0, i, size=size, seconds=seconds, fps=FPS)).frames
        for gop in gops:
            path = folder / f"gop{gop}" / f"{i}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            with av.open(str(path), "w") as box:
                options = {"preset": "veryfast", "crf": "23", "g": str(gop), "sc_threshold": "0"}
                video = box.add_stream("libx264", rate=FPS, options=options)
                video.width, video.height, video.pix_fmt = *size, "yuv420p"
                for image in frames:
                    box.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
                box.mux(video.encode())
    yield from (folder / f"gop{gop}" for gop in gops)


def copy_real(folder: Path) -> int:
    """Copies real clips that decord is given; returns how many there are."""
    folder.mkdir()
    os.environ["EMOZOO_DECODER"] = B
    found = [p for pattern in REAL for p in sorted(resolve_path("$EMOZOO_SHARED/data").glob(pattern))]
    for path in found:
        with ClipReader(path, ONE) as reader:
            if isinstance(reader.images, media.DecordVideo) and len(os.listdir(folder)) < CLIPS:
                shutil.copy(path, folder)
    return len(os.listdir(folder))


def list_clips(folder: Path) -> None:
    """Writes the manifest of a folder of clips."""
    lines = [f"{p.name},{'happy' if i % 2 else 'sad'},train" for i, p in enumerate(sorted(folder.glob("*.mp4")))]
    (folder / "manifest.csv").write_text("\n".join(["path,label,split", *lines]) + "\n", encoding="utf-8")


def check_equal(folder: Path, spec: ClipSpec) -> None:
    """Stops where a clip is not read by each decoder in its turn, or where their frames differ."""
    for path in sorted(folder.glob("*.mp4")):
        read = []
        for name, kind in ((A, media.AvVideo), (B, media.DecordVideo)):
            os.environ["EMOZOO_DECODER"] = name
            with ClipReader(path, spec) as reader:
                if not isinstance(reader.images, kind):
                    sys.exit(f"{path.name}: {name} does not read it")
                read.append(reader.read(rng=np.random.default_rng(0)).streams["frame"])
        if not np.array_equal(read[0], read[1]):
            sys.exit(f"{path.name}: {A} and {B} give different frames")


class Epochs:
    """A training loader of the data module whose files one decoder reads.

    A call is an epoch; it returns milliseconds per clip, of wall clock and of CPU.
    """

    def __init__(self, name: str, folder: Path, spec: ClipSpec, workers: int, seed: int) -> None:
        torch.manual_seed(seed)
        data = EmotionDataModule("csv", folder, spec=spec, batch_size=BATCH, num_workers=workers)
        data.setup("fit")
        assert data.manifest is not None
        self.name, self.loader = name, data.loader_of(list(data.manifest), train=True)

    def __call__(self) -> np.ndarray:
        os.environ["EMOZOO_DECODER"] = self.name  # workers have it from their start, in the first epoch
        begun, used, n = time.perf_counter(), self.used(), 0
        for batch in self.loader:
            n += len(batch)
        return np.array([time.perf_counter() - begun, self.used() - used]) * 1e3 / n

    def used(self) -> float:
        """CPU seconds so far of this process and of the loader's workers."""
        workers = getattr(self.loader._iterator, "_workers", ())
        return time.process_time() + sum(time.clock_gettime((~w.pid << 3) | 2) for w in workers)  # the clock of a pid


def epochs(folder: Path, spec: ClipSpec, workers: int, turns: int) -> dict[str, np.ndarray]:
    """Milliseconds per clip (rounds, decoder, wall and CPU): first epochs, and later ones of the last loaders."""
    first = []
    both: list[Epochs] = []
    for seed in range(turns):
        both.clear()
        gc.collect()  # ends the workers here, outside of what is timed
        pair = []
        for name in (A, B):
            scan.SCANS.clear()
            both.append(Epochs(name, folder, spec, workers, seed))
            pair.append(both[-1]())
        first.append(pair)
    for _ in range(WARM if workers else 0):
        for run in both:
            run()
    later = [[run() for run in both] for _ in range(turns)]
    both.clear()
    gc.collect()
    return {"first epoch": np.array(first), "later epochs": np.array(later)}


def measure(folder: Path, what: str, turns: int, samplings: Mapping[str, ClipSpec]) -> list[dict[str, object]]:
    """A line of the table for each sampling, number of workers, and first or later epochs."""
    rows: list[dict[str, object]] = []
    list_clips(folder)
    clips = len(list(folder.glob("*.mp4")))
    for (sampling, spec), workers in product(samplings.items(), WORKERS):
        check_equal(folder, spec)
        more = {"clips": clips, "load": f"{os.getloadavg()[0]:.2f}"}
        for phase, times in epochs(folder, spec, workers, turns).items():
            case = f"{what}; {sampling}; {workers} workers; {phase}"
            rows += (rounds.row(QUESTION, case, (A, B), u, *times[..., k].T, **more) for k, u in enumerate(UNITS))
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    args = rounds.arguments(__doc__, argv)
    turns, clips, seconds = (1, 2, 1.0) if args.quick else (rounds.ROUNDS, CLIPS, SECONDS)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for size, gops in list(DRAWN.items())[: 1 if args.quick else None]:
            what = f"drawn {size[0]}x{size[1]}"
            folders = draw(Path(scratch, what), size, gops, clips, seconds)
            for gop, folder in zip(gops, folders, strict=True):
                rows += measure(folder, f"{what}, GOP {gop}", turns, SAMPLINGS)
                rounds.save(QUESTION, rows, args.out)
        real = Path(scratch, "real")
        if not args.quick and copy_real(real):
            rows += measure(real, "real clips", turns, SAMPLINGS)
            rounds.save(QUESTION, rows, args.out)


if __name__ == "__main__":
    main()
