"""MAFW (Liu et al., ACM MM 2022): clips with audio, 9,172 of them with one of eleven emotions; 5 folds.

``split/single/no_caption/set_1`` to ``set_5`` with ``train.txt`` and ``test.txt``, lines ``00025.mp4 happiness``.
Images are taken from ``data/frames/<id>/``, else ``data/faces/<id>/`` (face crops); audio is only in
``data/clips/<id>.mp4``, which is taken where neither is there. Frames are missing, or differ in number from lists in
use, so they are counted by what is there; a clip without any is an item that is missing.
"""

from __future__ import annotations

from pathlib import Path

from emozoo.data.datasets.layout import (
    class_of,
    media,
    missing,
    official_folds,
    official_list,
    pick,
    subfolder,
    whole_image,
    within,
)  # fmt: skip
from emozoo.data.manifest import Manifest, Row, key

# The order of MAE-DFER; DFER-CLIP puts the first seven in that of DFEW. Names, never numbers, tie weights to data.
CLASSES = (
    "anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise",
    "contempt", "anxiety", "helplessness", "disappointment",
)  # fmt: skip


def load(root: Path, name: str = "mafw") -> Manifest:
    """The single-labelled clips in ``root``; ids are the five-digit names, ``fold`` 1 to 5 tests a clip."""
    root = within(root.resolve(), "MAFW")
    media_root, lists = subfolder(within(root, "data"), "frames", "faces", "clips"), root / "split/single/no_caption"
    if media_root is None or not lists.is_dir():
        raise missing(root, name, "data/frames/<id>/*.png and split/single/no_caption/set_1/test.txt")
    tested = {k: _labels(lists / f"set_{k}" / "test.txt") for k in range(1, 6)}
    trained = {k: _labels(f) for k in tested if (f := lists / f"set_{k}" / "train.txt").is_file()}
    rows, there = [], media(media_root)
    for item, (label, fold) in official_folds(tested, trained, lists).items():
        file = pick(there, media_root, item)
        rows.append(
            Row(item, str(file), label, fold=fold, box=whole_image(file) if media_root.name == "faces" else None)
        )
    return Manifest("mafw", root, CLASSES, tuple(rows), protocol="mafw_5fold")


def _labels(path: Path) -> dict[str, str]:
    found = {}
    for number, text in official_list(path):
        video, _, label = text.rpartition(" ")
        found[key(video.strip())] = class_of(label, CLASSES, (path, number))
    return found
