"""How time and memory grow with the length of a file, its faces, the clips of a window, and the items of a data set.

    python benchmarks/speed/growth.py [--quick] [--items N] [--out FILE]

Each task is measured at several sizes. A power is fitted to them, time = c * size ^ p, by least squares of the
logarithms over the upper half of the sizes, where fixed costs weigh little: ``a_median`` is p of time, ``b_median`` p
of peak memory (0: it does not grow). 1 is linear. The column ``limit`` has the times themselves. Items are drawn images
of 64 pixels, at most ``--items`` of them.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import predict
import rounds
import torch

from emozoo import files
from emozoo.benchmark.run import measure
from emozoo.data import media
from emozoo.data.doctor import check
from emozoo.data.prepare import cover_of
from emozoo.data.prepare import prepare as make_store
from emozoo.inference import Predictor
from emozoo.models.ceflnet import CEFLNet
from emozoo.models.recursive_joint_attention import RecursiveJointAttention
from emozoo.registry import MODELS

QUESTION = "growth"
BENCH = ("--items", "1000")
LINEAR = "<= 1.1"
MODEL = "emotion_fan.ferplus_v3"
Run = Callable[[], object]


def power(sizes: Sequence[float], found: Sequence[float]) -> float:
    """p of ``found = c * sizes ** p`` over the upper half of the sizes."""
    first = len(sizes) // 2 if len(sizes) > 3 else 0
    return float(np.polyfit(np.log(sizes[first:]), np.log(np.maximum(found[first:], 1e-9)), 1)[0])


def grow(
    case: str, sizes: Sequence[int], make: Callable[[int], Run], turns: int, peak: Callable[[int], float] | None = None
) -> dict[str, object]:
    """The row of a task: ``make(size)`` returns what is timed, ``peak(size)`` is its peak memory in MB."""
    runs = [make(size) for size in sizes]
    runs[0]()
    taken = [float(np.median([rounds.seconds(run) for _ in range(turns)])) for run in runs]
    peaks = [] if peak is None else [peak(size) for size in sizes]
    times = "; ".join(f"{size}: {s:.3g} s" for size, s in zip(sizes, taken, strict=True))
    if peaks:
        times += "; MB: " + ", ".join(f"{p:.0f}" for p in peaks)
    made: dict[str, object] = {"question": QUESTION, "case": case, "a": "time", "b": "memory", "unit": "exponent"}
    made["a_median"] = f"{power(sizes, taken):.2f}"
    made["b_median"] = f"{power(sizes, peaks):.2f}" if peaks else ""
    made |= {"bar": LINEAR, "limit": times, "rounds": turns, "clips": max(sizes)} | rounds.conditions()
    print(f"{case}: time ^{made['a_median']}, memory ^{made['b_median'] or 'not measured'} ({times})", flush=True)
    return made


# -- one file --------------------------------------------------------------------------------------------------------


def with_faces(path: Path, video: Path, count: int) -> Path:
    """The first seconds of a video, shown ``count`` times in a grid of 4 x 2; grey where no face is."""
    source = media.open_frames(video)
    images = list(source.frames(range(min(100, len(source.stamps)))))
    source.close()
    width, height = predict.SIZE

    def grid() -> Iterator[np.ndarray]:
        for image in images:
            whole = np.full((2 * height // 2, 4 * width // 2, 3), 90, np.uint8)
            small = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
            for n in range(count):
                y, x = n // 4 * small.shape[0], n % 4 * small.shape[1]
                whole[y : y + small.shape[0], x : x + small.shape[1]] = small
            yield whole

    return predict.write_frames(path, grid(), len(images))


def clip_network(clips: int) -> Run:
    spec, net = MODELS["ceflnet"].specs["lite"], CEFLNet(7, **MODELS["ceflnet"].keywords("stable", "lite")).eval()
    stream = spec.streams["face"]
    x = torch.rand(4, clips, stream.frames, 3, *stream.size)
    return partial(_infer, partial(net, {"face": x}))


def joint_network(length: int, num_iter: int) -> Run:
    """Fusion of features, forward and backward."""
    keywords = {**MODELS["recursive_joint_attention"].keywords("reconstruction", "lite")}
    keywords |= {"seq_len": length, "num_iter": num_iter, "width": 512, "hidden": 256}
    net = RecursiveJointAttention(**keywords)
    x = {"face": torch.rand(12, length, net.face_width), "audio": torch.rand(12, length, net.audio_width)}

    def step() -> None:
        va = net.head(x).va
        assert va is not None
        va.sum().backward()

    return step


@torch.inference_mode()
def _infer(run: Run) -> object:
    return run()


# -- many items ------------------------------------------------------------------------------------------------------


def data_set(root: Path, count: int) -> Path:
    """A folder of ``count`` different images with a table of classes, splits and boxes."""
    rng = np.random.default_rng(0)
    lines = ["path,label,split,x1,y1,x2,y2"]
    classes = MODELS["emotion_fan"].classes
    root.mkdir()
    for n in range(count):
        image = cv2.resize(rng.integers(0, 256, (8, 8, 3), np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)
        (root / f"{n:05}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
        split = ("train", "train", "train", "val")[n % 4]
        lines.append(f"{n:05}.png,{classes[n % len(classes)]},{split},0,0,63,63")
    files.write_text(root / "manifest.csv", "\n".join(lines) + "\n")
    return root


def checking(root: Path) -> Run:
    return partial(check, "csv", root, workers=1)


def preparing(root: Path) -> Run:
    cover, out = cover_of([MODEL]), root.with_name(f"store-{root.name}")

    def run() -> None:
        shutil.rmtree(out, ignore_errors=True)
        make_store("csv", root, out, cover=cover, workers=1)

    return run


def scoring(root: Path) -> Run:
    return partial(measure, [MODEL], "csv", root, split="all")


def item_rows(scratch: Path, sizes: Sequence[int]) -> Iterator[dict[str, object]]:
    roots = {n: data_set(scratch / str(n), n) for n in sizes}
    for name, make in (("check", checking), ("prepare", preparing), ("benchmark", scoring)):
        peak = partial(_peak_of_items, make, roots)
        yield grow(f"{name}, items", sizes, lambda n, make=make: make(roots[n]), 1, peak)  # type: ignore[misc]


def _peak_of_items(make: Callable[[Path], Run], roots: dict[int, Path], n: int) -> float:
    return rounds.peak_mb(make, roots[n])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--items", type=int, default=10_000)
    given, rest = parser.parse_known_args(argv)
    args = rounds.arguments(__doc__, rest)
    turns = 1 if args.quick else 3
    torch.manual_seed(0)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        base = predict.write_video(Path(scratch, "base.mp4"), (2 if args.quick else 15) * predict.FPS)
        lengths = (1, 2) if args.quick else (1, 4, 16, 32)
        videos = {n: predict.repeated(Path(scratch, f"{n}.mp4"), base, n) for n in lengths}
        predictor = Predictor(predict.MODEL)
        rows.append(
            grow(
                "predict, length of a video", lengths, lambda n: partial(predictor.predict, videos[n]), 1,
                lambda n: predict.peak_mb(videos[n]),
            )
        )  # fmt: skip
        faces = (1, 2) if args.quick else (1, 2, 4, 8)
        crowds = {n: with_faces(Path(scratch, f"faces{n}.mp4"), base, n) for n in faces}
        rows.append(grow("predict, faces in a video", faces, lambda n: partial(predictor.predict, crowds[n]), turns))
        counts = (1, 2) if args.quick else (2, 4, 8, 16, 32)
        rows.append(
            grow("ceflnet, clips of a window", counts, clip_network, turns, lambda n: rounds.peak_mb(clip_network, n))
        )
        longer, deeper = (lambda n: joint_network(n, 2)), (lambda n: joint_network(16, n))
        rows.append(grow("joint attention, clips of a window", counts, longer, turns))
        rows.append(grow("joint attention, recursions", counts, deeper, turns))
        sizes = [n for n in (10, 100, 1000, 10_000) if n <= (100 if args.quick else given.items)]
        rows += item_rows(Path(scratch), sizes)
    rounds.save(QUESTION, rows, args.out)


if __name__ == "__main__":
    main()
