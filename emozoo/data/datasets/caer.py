"""CAER (videos), CAER-S (stills) and NCAER-S (stills, split by video): seven emotions from television.

Lee, Kim, Kim, Park, Sohn, "Context-Aware Emotion Recognition Networks", ICCV 2019 (CAER, CAER-S); Le et al., "Global-
Local Attention for Emotion Recognition", 2021 (NCAER-S). Layout: ``{train,validation,test}/<Class>/<number>``, where
``validation`` may be called ``val`` and ``Anger`` may be called ``Angry`` (in one split and not in another, too).

CAER-S brings no face boxes. Lists of them (:mod:`emozoo.data.datasets.boxes`), ``train``, ``test`` and maybe ``val``
with ``.txt`` or ``.txt.gz``, are taken from the root or its folder ``boxes``; an image of a listed split that no list
names is known to have no face. NCAER-S has ``crop/<split>/<Class>/<number>.txt`` with one line ``x1,y1,x2,y2``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from emozoo.data.datasets.boxes import read_boxes
from emozoo.data.datasets.layout import NO_FACE, Box, class_folders, items, lines, missing, shuffled, subfolder, within
from emozoo.data.manifest import Manifest, Row, key, unique_ids
from emozoo.errors import DatasetError, ManifestError
from emozoo.labels import CAER7

SPLITS = {"train": ("train",), "val": ("validation", "val"), "test": ("test",)}
HELD_OUT = 8  # caers_val_from_train holds out one in eight of each class: 70/10/20 over the whole set


def load(root: Path, name: str) -> Manifest:
    """``caer``, ``ncaer_s`` or ``caer_s`` (also ``:caers_full_test``, ``:nd_val_test``) in ``root``."""
    dataset, _, choice = name.partition(":")
    root = within(root.resolve(), dataset.upper().replace("_", "-"))
    if dataset == "caer_s":
        return _caer_s(root, choice or "caers_val_from_train")
    rows = _items(within(root, "images"), dataset)
    if dataset == "ncaer_s":
        crops = _crops(root / "crop")
        rows = [replace(r, box=_box(crops[r.id])) if r.id in crops else r for r in rows]
    return Manifest(dataset, root, CAER7, tuple(rows), protocol=f"{dataset.replace('_', '')}_official")


def _items(media_root: Path, name: str) -> list[Row]:
    rows: list[Row] = []
    for split, spellings in SPLITS.items():
        folder = subfolder(media_root, *spellings)
        for label, folders in class_folders(folder, CAER7).items() if folder else ():
            found = (p for f in folders for p in items(f))
            rows += [Row(f"{split}/{label}/{key(p.name)}", str(p), label, split=split) for p in found]
    if not rows:
        raise missing(media_root, name, "{train,val,test}/<Class>/<number> with the classes " + ", ".join(CAER7))
    return unique_ids(rows, media_root)


def _caer_s(root: Path, choice: str) -> Manifest:
    rows = {r.id: r for r in _items(root, "caer_s")}
    lists = {}
    for split in SPLITS:
        files = [root / below / f"{split}.txt{gz}" for below in ("boxes", "") for gz in ("", ".gz")]
        if found := next((f for f in files if f.is_file()), None):
            lists[split] = read_boxes(found, CAER7)
    listed = {i: (split, *entry) for split, entries in lists.items() for i, entry in entries.items()}
    for i, (_, path, label, box) in listed.items():  # what is listed and not there is an item that is missing
        rows[i] = replace(rows.get(i) or Row(i, str(root / path), label, split=i.split("/")[0]), box=box)
    folders = {i.split("/")[0] for i in listed}
    ordered = [rows[i] for i in sorted(rows)]
    ordered = [r if r.box or r.split not in folders else replace(r, box=NO_FACE) for r in ordered]
    if choice == "nd_val_test":
        if set(lists) != set(SPLITS):
            raise DatasetError(
                f"{root}: nd_val_test is three lists, boxes/{{train,val,test}}.txt, val and test both of images in "
                f"test/; found {', '.join(lists) or 'none'}: put them there, or take caer_s:caers_full_test"
            )
        ordered = [replace(r, split=listed[r.id][0]) for r in ordered if r.id in listed]
    elif choice == "caers_val_from_train":
        for label in CAER7:
            names = shuffled((r.id for r in ordered if (r.split, r.label) == ("train", label)), choice)
            held = set(names[: round(len(names) / HELD_OUT)])
            ordered = [replace(r, split="val") if r.id in held else r for r in ordered]
    return Manifest("caer_s", root, CAER7, tuple(ordered), protocol=choice)


def _crops(media_root: Path) -> dict[str, Path]:
    """The box files of NCAER-S by item; their class folders may be spelled otherwise than those of the images."""
    found: dict[str, Path] = {}
    for split, spellings in SPLITS.items():
        folder = subfolder(media_root, *spellings)
        for label, folders in class_folders(folder, CAER7).items() if folder else ():
            found |= {f"{split}/{label}/{p.stem}": p for f in folders for p in f.glob("*.txt")}
    return found


def _box(path: Path) -> Box:
    number, text = (lines(path) or [(1, "")])[0]
    try:
        x1, y1, x2, y2 = (float(v) for v in text.split(","))
    except ValueError:
        raise ManifestError(path, number, f"expected x1,y1,x2,y2, found {text!r}") from None
    return x1, y1, x2, y2
