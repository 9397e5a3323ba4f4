"""AFEW 8.0 (EmotiW 2018): seven emotions in films. Official: 773 training and 383 validation clips; report those.

Layouts: ``{Train,Val}_AFEW/<Emotion>/<id>.avi``, or faces that were cut out, ``[data/]face/{train,val}_afew/<Emotion>/
<id>/*.jpg`` (the layout of Emotion-FAN). Lists ``*train*.txt`` and ``*val*.txt`` with lines ``Fear/013736360 Fear`` in
the root, ``txt`` or ``data/txt`` name the clips that count, also those whose face folder is missing or empty; without
lists, every file counts. Lists in use differ by one or two clips, so results name theirs: ``afew_list@1a2b3c4d``.

``afew:aligned`` reads the faces that the organisers cut out, ``AlignedFaces_LBPTOP_Points[_Val]/Faces/<id>/*.jpg``.
Class, split, audio and frame rate still come from the videos.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from emozoo.data.datasets.layout import (
    class_folders,
    class_of,
    digest,
    items,
    lines,
    media,
    missing,
    pick,
    subfolder,
    whole_image,
    within,
)  # fmt: skip
from emozoo.data.manifest import Manifest, Row, key, unique_ids
from emozoo.errors import DatasetError

CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
ALIGNED = {"train": "AlignedFaces_LBPTOP_Points", "val": "AlignedFaces_LBPTOP_Points_Val"}
SPLITS = {"train": ("Train_AFEW", "train_afew", "Train"), "val": ("Val_AFEW", "val_afew", "Val")}


def load(root: Path, name: str) -> Manifest:
    """The clips in ``root``; ids are ``<split>/<Emotion>/<id>``."""
    root = root.resolve()
    faces = subfolder(within(root, "data"), "face", "faces")
    media_root = faces if subfolder(root, *SPLITS["train"]) is None and faces is not None else root
    protocol = "afew8_folders"
    aligned = {s: subfolder(within(root, ALIGNED[s]), "Faces") for s in SPLITS} if name == "afew:aligned" else {}
    if name == "afew:aligned" and not all(aligned.values()):
        raise missing(
            root, name, "AlignedFaces_LBPTOP_Points/Faces/<id>/*.jpg and AlignedFaces_LBPTOP_Points_Val/Faces"
        )
    found: Iterator[tuple[str, str, Path]] = _from_folders(media_root)
    if lists := _lists(root):
        found, protocol = _from_lists(media_root, lists), f"afew_list@{digest(*lists.values())}"
    rows = []
    for split, label, path in found:
        item, audio, cut = f"{split}/{label}/{key(path.name)}", {}, media_root == faces
        if below := aligned.get(split):
            audio = {"sound": str(path)} if path.is_file() else {}
            path, cut = below / key(path.name), True
        box = whole_image(path) if cut else None
        rows.append(Row(item, str(path), label, split=split, box=box, extra=audio))
    if not rows:
        raise missing(root, "afew", "{Train,Val}_AFEW/<Emotion>/<id>.avi or face/{train,val}_afew/<Emotion>/<id>/*.jpg")
    if aligned:
        protocol = protocol.replace("afew8_folders", "afew8_aligned").replace("afew_list", "afew_list_aligned")
    return Manifest("afew", root, CLASSES, tuple(unique_ids(rows, root)), protocol=protocol)


def _from_folders(media_root: Path) -> Iterator[tuple[str, str, Path]]:
    for split, spellings in SPLITS.items():
        folder = subfolder(media_root, *spellings)
        for label, folders in class_folders(folder, CLASSES).items() if folder else ():
            for path in (p for f in folders for p in items(f)):
                yield split, label, path


def _lists(root: Path) -> dict[str, Path]:
    found = {}
    for folder in (root, root / "txt", root / "data" / "txt"):
        for split in SPLITS:
            files = sorted(p for p in folder.glob("*.txt") if split in re.split(r"[^a-z]+", p.stem.lower()))
            if len(files) > 1:
                names = ", ".join(p.name for p in files)
                raise DatasetError(f"{folder}: several lists for {split} ({names}): keep the one that results name")
            if files and split not in found:
                found[split] = files[0]
    if len(found) == 1:
        (there,) = found.values()
        raise DatasetError(f"{there}: the list of the other part is not beside it: add it, or take this one away")
    return found


def _from_lists(media_root: Path, lists: dict[str, Path]) -> Iterator[tuple[str, str, Path]]:
    for split, path in lists.items():
        folder = subfolder(media_root, *SPLITS[split]) or media_root / SPLITS[split][0]
        below = class_folders(folder, CLASSES) if folder.is_dir() else {}
        there = {label: {k: p for f in folders for k, p in media(f).items()} for label, folders in below.items()}
        for number, text in lines(path):
            name, _, spelled = text.replace("\\", "/").partition(" ")
            label = class_of(spelled.strip() or name.split("/")[0], CLASSES, (path, number))
            video = name.rpartition("/")[2]
            yield split, label, pick(there.get(label, {}), folder / label, video)
