"""DFEW (Jiang et al., ACM MM 2020): 16,372 film clips, 11,697 of them with one of seven emotions and a face; 5 folds.

``EmoLabel_DataSplit/{train,test}(single-labeled)/set_1.csv`` to ``set_5.csv`` (the folder may say ``single_labeled``):
a header, then ``video_name,label`` with labels 1 to 7; the names may lack their leading zeros. Clips are taken from
``Clip/clip_224x224/00001/`` (face crops, of 256 x 256 pixels in spite of the name), else ``Clip/original/00001.mp4``;
``clip_224x224_16f`` is resampled to 16 frames and never read. The votes in ``Annotation/annotation.xlsx`` (needs
openpyxl) or ``annotation.csv`` are read too, beside the label.

Clips that are listed and not there are items that are missing, never left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from emozoo.data.datasets.layout import (
    media,
    missing,
    official_folds,
    official_list,
    pick,
    sheet,
    subfolder,
    whole_image,
    within,
)
from emozoo.data.manifest import Manifest, Row, key, normalize_votes
from emozoo.errors import DatasetError, ManifestError

CLASSES = ("Happy", "Sad", "Neutral", "Angry", "Surprise", "Disgust", "Fear")


def load(root: Path, name: str = "dfew") -> Manifest:
    """The single-labelled clips in ``root``; ids are the five-digit names, ``fold`` 1 to 5 tests a clip."""
    root = within(root.resolve(), "DFEW")
    lists = subfolder(root, "EmoLabel_DataSplit")
    media_root = subfolder(within(root, "Clip"), "clip_224x224", "original")
    if lists is None or media_root is None:
        raise missing(root, name, "EmoLabel_DataSplit/test(single-labeled)/set_1.csv and Clip/clip_224x224/00001/*.jpg")
    tests, trains = (subfolder(lists, *(f"{part}(single{c}labeled)" for c in "-_ ")) for part in ("test", "train"))
    if tests is None:
        raise missing(lists, name, "test(single-labeled)/set_1.csv to set_5.csv")
    tested = {k: _labels(tests / f"set_{k}.csv") for k in range(1, 6)}
    trained = {k: _labels(f) for k in tested if trains is not None and (f := trains / f"set_{k}.csv").is_file()}
    votes = _votes(within(root, "Annotation"))
    rows, there = [], media(media_root)
    for item, (label, fold) in official_folds(tested, trained, lists).items():
        file = pick(there, media_root, item)
        box = whole_image(file) if media_root.name == "clip_224x224" else None
        rows.append(Row(item, str(file), label, votes.get(item), fold=fold, box=box))
    return Manifest("dfew", root, CLASSES, tuple(rows), protocol="dfew_5fold")


def _labels(path: Path) -> dict[str, str]:
    found = {}
    for number, text in official_list(path)[1:]:  # below the header
        video, _, label = text.partition(",")
        if label.strip() not in [str(i + 1) for i in range(len(CLASSES))]:
            raise ManifestError(path, number, f"expected video_name,label with a label from 1 to 7, found {text!r}")
        found[key(video.strip()).zfill(5)] = CLASSES[int(label) - 1]
    return found


def _votes(folder: Path) -> Mapping[str, tuple[float, ...] | None]:
    path = next((p for p in (folder / "annotation.xlsx", folder / "annotation.csv") if p.is_file()), None)
    if path is None:
        return {}
    header, *table = sheet(path) or [[]]
    header = [c.lower() for c in header]
    columns = [f"vote_{c.lower()}" for c in CLASSES]
    if lacking := {*columns, "clip_name"} - set(header):
        raise DatasetError(f"{path}: lacks the columns {', '.join(sorted(lacking))}")
    found = {}
    for number, cells in enumerate(table, 2):
        named = dict(zip(header, cells, strict=False))
        try:
            found[key(named["clip_name"]).zfill(5)] = normalize_votes([float(named[c] or 0) for c in columns])
        except (KeyError, ValueError) as e:
            raise ManifestError(path, number, f"not a line of votes ({e})") from None
    return found
