"""How fast a prepared store feeds training, against files of single frames and against videos.

    python benchmarks/speed/store.py [--quick] [--out FILE]

One sample is 16 consecutive frames of a drawn clip (640x360, 25 fps), 112 x 112 pixels, as a float tensor; one thread
makes them, drawn anew in each epoch. The store goes through the data module, and so do the videos. Frames in single
files, the way many data sets are handed out, are read by a plain loop with Pillow and by SPDL (an optional competitor,
``pip install spdl``): once as whole frames that are then resized, once in the size they are used in. The ratio is the
time of the other / the time of the store. The limit is reading the bytes of a sample from one file in one piece.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import rounds
import torch
from decoders import draw, list_clips
from PIL import Image

from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.prepare import prepare
from emozoo.data.store import Cover
from emozoo.spec import ClipSpec, StreamSpec

QUESTION = "store"
SIDE, FRAMES, SIZE = 112, 16, (640, 360)
SPECS = {
    source: ClipSpec(
        {source: StreamSpec(source, (SIDE, SIDE), frames=FRAMES)}, clips=1, sampling="segments", window_s=2.0
    )
    for source in ("frame", "face")
}
Epoch = Callable[[], None]


def through_module(dataset: str, root: Path, source: str) -> Epoch:
    """An epoch of training samples from the data module."""
    data = EmotionDataModule(dataset, root, spec=SPECS[source], batch_size=1)
    data.setup("fit")
    assert data.manifest is not None
    loader = data.loader_of(list(data.manifest), train=True)

    def epoch() -> None:
        for batch in loader:
            assert batch.inputs[source].shape[-4:] == (FRAMES, 3, SIDE, SIDE)

    return epoch


def draws(folders: Sequence[Path]) -> Callable[[], list[list[Path]]]:
    """The files of one sample of each folder, another one at each call."""
    rng = np.random.default_rng(0)
    files = [sorted(f.glob("*.jpg")) for f in folders]

    def drawn() -> list[list[Path]]:
        starts = [int(rng.integers(len(f) - FRAMES + 1)) for f in files]
        return [f[s : s + FRAMES] for f, s in zip(files, starts, strict=True)]

    return drawn


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """(F, H, W, 3) bytes -> (F, 3, H, W) in 0..1."""
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float().div_(255)
    assert tensor.shape == (FRAMES, 3, SIDE, SIDE)
    return tensor


def with_pillow(folders: Sequence[Path]) -> Epoch:
    drawn = draws(folders)

    def load(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
        return np.asarray(rgb if rgb.size == (SIDE, SIDE) else rgb.resize((SIDE, SIDE), Image.Resampling.BILINEAR))

    def epoch() -> None:
        for paths in drawn():
            to_tensor(np.stack([load(p) for p in paths]))

    return epoch


def with_spdl(folders: Sequence[Path]) -> Epoch | None:
    """None, and a word why, where SPDL cannot be used: it is optional, and needs the libraries of FFmpeg."""
    try:
        io: Any = importlib.import_module("spdl.io")
        io.load_image(str(next(folders[0].glob("*.jpg"))))
    except (ImportError, RuntimeError) as error:
        print(f"SPDL is left out: {type(error).__name__}: {str(error)[:100]} (pip install spdl, and FFmpeg)")
        return None
    drawn = draws(folders)

    def epoch() -> None:
        for paths in drawn():
            names = [str(p) for p in paths]
            buffer = io.load_image_batch(names, width=SIDE, height=SIDE, pix_fmt="rgb24")
            to_tensor(np.asarray(io.to_numpy(buffer)))

    return epoch


def write_frames(clips: Path, out: Path, size: tuple[int, int] | None) -> list[Path]:
    """Every frame of every clip as a JPEG, resized where a size is given; returns a folder for each clip."""
    folders = []
    for path in sorted(clips.glob("*.mp4")):
        folder = out / path.stem
        folder.mkdir(parents=True)
        with av.open(str(path)) as box:
            for i, frame in enumerate(box.decode(video=0)):
                image = frame.to_image()
                (image.resize(size) if size else image).save(folder / f"{i:05d}.jpg", quality=95, subsampling=0)
        folders.append(folder)
    return folders


def reading_rate(folder: Path, scratch: Path) -> str:
    """Samples a second, if all that happened were to read their bytes in one piece."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    joined = scratch / "joined"
    joined.write_bytes(b"".join(p.read_bytes() for p in files))
    taken = np.median([rounds.seconds(joined.read_bytes) for _ in range(rounds.ROUNDS)])
    return f"sequential read {joined.stat().st_size / float(taken) / 1e9:.1f} GB/s"


def main(argv: Sequence[str] | None = None) -> None:
    args = rounds.arguments(__doc__, argv)
    turns, clips, length = (1, 1, 1.0) if args.quick else (rounds.ROUNDS, 6, 4.0)
    rows = []
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        videos = next(draw(root, SIZE, (250,), clips, length))
        list_clips(videos)
        for source, spec in SPECS.items():
            prepare("csv", videos, root / source, cover=Cover.of([spec]), workers=1)
        whole, small = write_frames(videos, root / "whole", None), write_frames(videos, root / "small", (SIDE, SIDE))
        limit = reading_rate(root / "frame", root)
        stored = through_module("store", root / "frame", "frame")
        face = through_module("store", root / "face", "face")
        cases: list[tuple[str, str, Epoch | None, Epoch, str]] = [
            ("frames in files of 640x360", "Pillow", with_pillow(whole), stored, ">= 3x"),
            ("frames in files of 112x112", "Pillow", with_pillow(small), stored, ""),
            ("frames in files of 640x360", "SPDL", with_spdl(whole), stored, ">= 1x"),
            ("frames in files of 112x112", "SPDL", with_spdl(small), stored, ""),
            ("faces in videos", "mp4 + detection", through_module("csv", videos, "face"), face, ">= 15x"),
        ]
        for case, name, other, ours, bar in cases:
            if other is None:
                continue
            torch.manual_seed(0)
            taken = 1e3 / clips * rounds.interleaved([other, ours], turns)
            more = {"bar": bar, "limit": limit, "clips": clips}
            rows.append(rounds.row(QUESTION, case, (name, "store"), "ms a sample", *taken.T, **more))
    rounds.save(QUESTION, rows, args.out)


if __name__ == "__main__":
    main()
