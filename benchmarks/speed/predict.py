"""How fast predictions are, beside a plain loop that decodes, finds the face and classifies frame by frame.

    python benchmarks/speed/predict.py [--quick] [--out FILE]

``video``: 30 s of a talking face, 640 x 360 at 25 a second, from Java-SED (``EMOZOO_SHARED``; a drawn face without it);
the loop has yunet, where it can be had, and the same face encoder. ``images``: a folder of 500 face crops of 112
pixels, cut from that video. ``memory``: the peak of a process that predicts 30 minutes of it, and of one with 30 s.
The limit beside a video is what decoding alone reaches.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path

import av
import cv2
import numpy as np
import rounds
import torch

from emozoo import files
from emozoo.data import faces, media
from emozoo.inference import Predictor
from emozoo.synthemo.cause import plan
from emozoo.synthemo.clip import render
from emozoo.zoo import load

QUESTION = "predict"
MODEL, ENCODER = "ceflnet", "emotion_fan.ferplus_v3"
SIZE, FPS, SECONDS, MINUTES, IMAGES = (640, 360), 25, 30, 30, 500
# The peak of the process itself: what wait4 tells counts its parent's memory too. Linux alone.
PEAK = """
import sys
from emozoo.cli import main
code = main()
print(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0], file=sys.stderr)
sys.exit(code)
"""
TALKING = "$EMOZOO_SHARED/data/javased_video/01"


def frames() -> Iterator[np.ndarray]:
    """RGB frames of a face, without end."""
    videos = sorted(Path(os.path.expandvars(TALKING)).glob("*.mp4"))
    drawn = [] if videos else list(render(plan(3, 0, size=SIZE, seconds=2.0, fps=FPS)).frames)
    while True:
        yield from drawn
        for video in videos:
            images = media.open_frames(video)
            yield from images.frames(range(len(images.stamps)))
            images.close()


def write_video(path: Path, count: int) -> Path:
    """``count`` frames of a face in the middle of ``SIZE``."""
    width, height = SIZE

    def fitted() -> Iterator[np.ndarray]:
        for frame in frames():
            scale = min(width / frame.shape[1], height / frame.shape[0])
            small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            image = np.full((height, width, 3), 90, np.uint8)
            y, x = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
            image[y : y + small.shape[0], x : x + small.shape[1]] = small
            yield image

    return write_frames(path, fitted(), count)


def write_frames(path: Path, images: Iterator[np.ndarray], count: int) -> Path:
    """A video of the first ``count`` RGB images, ``FPS`` a second."""
    first = next(images)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"crf": "23"})
        stream.height, stream.width, stream.pix_fmt = *first.shape[:2], "yuv420p"
        for number, image in zip(range(count), chain([first], images), strict=False):
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
    return path


def repeated(path: Path, video: Path, times: int) -> Path:
    """The video that many times behind itself, its packets copied."""
    with av.open(str(video)) as source, av.open(str(path), "w") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        assert stream.duration is not None
        for turn in range(times):
            source.seek(0)
            for packet in source.demux(stream):
                if packet.dts is not None and packet.pts is not None:
                    packet.pts, packet.dts = packet.pts + turn * stream.duration, packet.dts + turn * stream.duration
                    packet.stream = copy
                    out.mux(packet)
    return path


class Loop:
    """Decode, detect, classify, frame by frame."""

    def __init__(self, detector: str) -> None:
        self.detect, self.module = faces.detector(detector), load(ENCODER)
        self.stream = self.module.spec.streams["face"]

    @torch.inference_mode()
    def image(self, image: np.ndarray) -> None:
        found = self.detect(image)
        if len(found):
            x1, y1, x2, y2 = found[found[:, 4].argmax(), :4].astype(int).clip(0)
            face = cv2.resize(image[y1 : y2 + 1, x1 : x2 + 1], self.stream.size)
            x = torch.from_numpy(face).permute(2, 0, 1).float().div(127.5).sub(1)
            self.module.net({"face": x.expand(1, 1, 1, -1, -1, -1)})

    def video(self, path: Path) -> None:
        with av.open(str(path)) as box:
            for frame in box.decode(video=0):
                self.image(frame.to_ndarray(format="rgb24"))

    def images(self, paths: Sequence[Path]) -> None:
        for path in paths:
            self.image(next(media.open_frames(path).frames([0])))


def decode(path: Path) -> None:
    with av.open(str(path)) as box:
        for _ in box.decode(video=0):
            pass


def peak_mb(path: Path) -> float:
    """Peak memory in MB of a process of its own that predicts a file."""
    command = [sys.executable, "-c", PEAK, "predict", str(path), "--model", MODEL]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"predict {path}: failed: {done.stderr}")
    return int(done.stderr.split()[-1]) / 1024


def main(argv: Sequence[str] | None = None) -> None:
    args = rounds.arguments(__doc__, argv)
    seconds, turns, count, minutes = (4, 1, 8, 0.2) if args.quick else (SECONDS, rounds.ROUNDS, IMAGES, MINUTES)
    rows = []
    predictor = Predictor(MODEL)
    loop = Loop(predictor.spec.detector)
    with tempfile.TemporaryDirectory() as scratch:
        video = write_video(Path(scratch, "talking.mp4"), seconds * FPS)
        taken = rounds.interleaved(
            [partial(predictor.predict, video), partial(loop.video, video), partial(decode, video)], turns
        )
        rate = seconds * FPS / taken
        case, names = f"talking face, {SIZE[0]}x{SIZE[1]}, {seconds} s", ("emozoo", "frame by frame")
        limit = f"decoding alone {np.median(rate[:, 2]):.0f}"
        rows += [
            rounds.row(QUESTION, case, names, "frames/s", rate[:, 0], rate[:, 1], bar=bar, limit=limit)
            for bar in (">= 250", ">= 4x")
        ]
        paths = []
        for number, frame in zip(range(count), frames(), strict=False):
            short = min(frame.shape[:2])
            y, x = (side // 2 - short // 2 for side in frame.shape[:2])
            crop = cv2.resize(frame[y : y + short, x : x + short], (112, 112), interpolation=cv2.INTER_AREA)
            paths.append(Path(scratch, f"{number:04}.png"))
            files.write_atomic(paths[-1], cv2.imencode(".png", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))[1].tobytes())
        run = partial(lambda given: list(predictor.predict_all(given)), paths)
        taken = rounds.interleaved([run, partial(loop.images, paths)], turns) / count * 1e3
        case = f"folder of {count} face crops, 112x112"
        rows.append(rounds.row(QUESTION, case, names, "ms per image", *taken.T, bar="<= 25", limit=rounds.gemm_rate()))
        long = repeated(Path(scratch, "long.mp4"), video, max(2, round(minutes * 60 / seconds)))
        peaks = np.array([[peak_mb(long), peak_mb(video)]])
        case = f"memory, {minutes:g} minutes beside {seconds} s"
        rows += [
            rounds.row(QUESTION, case, ("long", "short"), "MB", *peaks.T, bar=bar) for bar in ("<= 1.05x", "<= 900")
        ]
    rounds.save(QUESTION, rows, args.out)


if __name__ == "__main__":
    main()
