"""Aff-Wild2, valence and arousal of every frame (Kollias, Zafeiriou; the ABAW challenges).

``<N>th ABAW Annotations/VA_Estimation_Challenge/{Train_Set,Validation_Set}/<video>[_left|_right].txt``: a header, then
``valence,arousal`` for every frame of the video, -5 = no label. ``cropped_aligned/<video>[_left|_right]/00001.jpg``:
face crops, where image n belongs to line n below the header, and images are missing where no face was found. Of a
video with two people, ``_left`` and ``_right`` are two items of one group.

Audio and frame rate come from the videos themselves, ``batch1/<video>.mp4`` (or ``batch2``, ``videos`` ...), where they
lie in the root or one folder below; without them there is no audio, and images are taken as 25 a second.

Frames of a folder are counted without its gaps, so the labels of a folder with gaps are copied into the cache
(``EMOZOO_HOME``), one line for each image that is there. ``aff_wild2:test`` is the list
``Valence_Arousal_Estimation_Challenge_test_set_release.txt``, without labels.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from emozoo import files
from emozoo.data.datasets.layout import lines, missing, subfolder, whole_image
from emozoo.data.manifest import IMAGES, VIDEOS, Manifest, Row, text_file
from emozoo.errors import DatasetError

CHALLENGE = "VA_Estimation_Challenge"
SPLITS = {"Train_Set": "train", "Validation_Set": "val"}
TEST_LIST = "Valence_Arousal_Estimation_Challenge_test_set_release.txt"


def load(root: Path, name: str) -> Manifest:
    """One item for each person of each video in ``root``; ids are ``<split>/<video>``."""
    root = root.resolve()
    media_root = subfolder(root, "cropped_aligned", "cropped_aligned_images")
    folder = next((p for p in (*root.glob(CHALLENGE), *root.glob(f"*/{CHALLENGE}")) if p.is_dir()), None)
    tests = next((p for p in (*root.glob(TEST_LIST), *root.glob(f"*/{TEST_LIST}")) if p.is_file()), None)
    expected = f"'6th ABAW Annotations/{CHALLENGE}/Train_Set/<video>.txt' and cropped_aligned/<video>/00001.jpg"
    if media_root is None:
        raise missing(root, "aff_wild2", expected)
    media_root = subfolder(media_root, "cropped_aligned") or media_root
    if name == "aff_wild2:test":
        if tests is None:
            raise missing(root, name, TEST_LIST)
        rows = [_row(media_root, text, "test", _videos(root)) for _, text in lines(tests)]
        return Manifest("aff_wild2", root, (), tuple(rows), protocol="abaw_va_test")
    videos = _videos(root)
    rows = []
    for spelled, split in SPLITS.items():
        for file in sorted((folder / spelled).glob("*.txt")) if folder is not None else ():
            rows.append(_row(media_root, file.stem, split, videos, file))
    if not rows or folder is None:
        raise missing(root, "aff_wild2", expected)
    edition = re.match(r"(\d+)(st|nd|rd|th) ABAW", folder.parent.name)
    return Manifest("aff_wild2", root, (), tuple(rows), protocol=f"abaw{edition[1] if edition else ''}_va")


def _videos(root: Path) -> dict[str, str]:
    """The videos that the images were cut from, by name."""
    folders = [p for pattern in ("batch*", "*/batch*", "videos") for p in sorted(root.glob(pattern)) if p.is_dir()]
    return {p.stem: str(p) for f in folders for p in sorted(f.iterdir()) if p.suffix.lower() in VIDEOS}


def _row(media_root: Path, video: str, split: str, videos: Mapping[str, str], labels: Path | None = None) -> Row:
    faces = media_root / video
    found = re.fullmatch(r"(.+?)(?:_(left|right))?", video)
    assert found is not None
    extra = {"va_file": str(_aligned(labels, faces))} if labels is not None else {}
    if found[2]:
        extra["person"] = found[2]
    if source := videos.get(found[1]) or videos.get(video):
        extra["sound"] = source
    return Row(f"{split}/{video}", str(faces), split=split, group=found[1], box=whole_image(faces), extra=extra)


def _aligned(labels: Path, faces: Path) -> Path:
    """The file of labels itself or, where images are missing between, a copy without the lines of those."""
    numbers = _numbers(faces)
    with text_file(labels) as file:
        header, *values = file.read().splitlines() or [""]
    if numbers == list(range(1, len(numbers) + 1)) and len(numbers) <= len(values):
        return labels
    if numbers[0] < 1:
        raise DatasetError(f"{faces}: images are counted from 00001, found {numbers[0]}")
    # A video may have a frame more than its labels: such an image has none.
    kept = [values[n - 1] if n <= len(values) else "-5,-5" for n in numbers]
    data = ("\n".join([header, *kept]) + "\n").encode()
    out = files.cache_folder() / "aff_wild2" / f"{hashlib.sha256(data).hexdigest()[:16]}.csv"
    if not out.is_file():
        files.write_atomic(out, data)
    return out


def _numbers(faces: Path) -> list[int]:
    if not faces.is_dir():
        return []
    stems = (os.path.splitext(e.name) for e in os.scandir(faces))
    return sorted(int(s) for s, end in stems if s.isdigit() and end.lower() in IMAGES)
