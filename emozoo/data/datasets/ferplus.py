"""FER+ (Barsoum, Zhang, Canton Ferrer, Zhang, ICMI 2016): ten crowd votes for each image of FER2013.

Three layouts are read:

* ``manifest.csv`` with ``votes_*`` columns beside the images;
* ``fer2013new.csv`` beside the folders ``FER2013Train``, ``FER2013Valid``, ``FER2013Test`` of named images, joined by
  image name;
* ``fer2013new.csv`` beside ``fer2013.csv``, which has pixels but no names. The n-th lines of the two belong together;
  that their ``Usage`` agrees is checked. The images are written once into the cache (``EMOZOO_HOME``).

Rule of the labels: votes are fractions over the emotions ("unknown" and "not a face" left out); an image is scored
under the emotion with most votes among the eight, and not scored when two have equally many. ``ferplus7`` leaves
contempt out: its votes are dropped before the rest is made to sum to 1, and images whose plurality is contempt
are not scored. Images without a name in FER+ (no face), and those without any vote for an emotion, are left out.
The face fills the image, so its box is the whole image and nothing is detected.

``fer2013`` takes the one label that FER2013 (Goodfellow et al., ICONIP 2013) gave each image; most voters of FER+ agree
with it in 72 % of the images. It is read from ``manifest.csv`` with a column ``fer2013_label`` (two labels,
``angry|fear``, are those of two copies of one image, which is then not scored), or from ``fer2013.csv``, with or
without votes beside it.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from emozoo import files
from emozoo.data.manifest import Manifest, Row, normalize_votes, plurality, text_file
from emozoo.data.tables import read_manifest
from emozoo.errors import DatasetError, ManifestError
from emozoo.labels import BASIC7, FERPLUS8, canonical

SIDE = 48
WHOLE = (0.0, 0.0, SIDE - 1.0, SIDE - 1.0)
FER2013 = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")  # the order of its numbers
SPLITS = {"training": "train", "publictest": "val", "privatetest": "test"}
FOLDERS = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}


def load(root: Path, name: str = "ferplus") -> Manifest:
    """FER+ in ``root`` under the protocol ``ferplus8`` or ``ferplus7``, or ``fer2013``. Raises DatasetError."""
    if root.is_file():
        root = root.parent
    root = root.resolve()
    if name == "fer2013":
        return _fer2013(root)
    seven = name == "ferplus7"
    classes = BASIC7 if seven else FERPLUS8
    if (root / "manifest.csv").is_file():
        found = _from_manifest(root / "manifest.csv")
    elif (root / "fer2013new.csv").is_file():
        found = _from_original(root)
    else:
        raise DatasetError(
            f"{root}: FER+ is looked for as manifest.csv with votes_* columns, or as fer2013new.csv "
            "(github.com/microsoft/FERPlus) beside fer2013.csv or beside the folders FER2013Train, FER2013Valid, "
            "FER2013Test: mend --root"
        )
    rows = []
    for row, votes in found:
        label = plurality([votes[c] for c in FERPLUS8], FERPLUS8)
        shares = normalize_votes([votes[c] for c in classes])
        if shares is None:
            continue
        rows.append(
            Row(
                id=row.id,
                path=row.path,
                label=label if label in classes else None,
                votes=shares,
                split=row.split,
                group=row.group,
                box=WHOLE,
            )
        )
    if not rows:
        raise DatasetError(f"{root}: no image of FER+ has a vote for an emotion")
    return Manifest("ferplus", root, classes, tuple(rows), protocol="ferplus7" if seven else "ferplus8")


def _fer2013(root: Path) -> Manifest:
    tables = [root / folder / name for folder in ("", "fer2013") for name in ("fer2013.csv", "icml_face_data.csv")]
    table = next((t for t in tables if t.is_file()), None)
    if (root / "manifest.csv").is_file():
        source = read_manifest(root / "manifest.csv")
        if any("fer2013_label" not in r.extra for r in source):
            raise DatasetError(f"{source.root}: manifest.csv has no column fer2013_label, which fer2013 is scored by")
        found = [(r, "" if "|" in r.extra["fer2013_label"] else r.extra["fer2013_label"]) for r in source]
    elif table is not None:
        lines = [{"Usage": c["Usage"], "emotion": c["emotion"]} for c in _cells(table, {"emotion", "pixels", "Usage"})]
        found = []
        for number, line in enumerate(lines):
            try:
                split, label = SPLITS[line["Usage"].strip().lower()], int(line["emotion"])
                if not 0 <= label < len(FER2013):
                    raise ValueError(f"no emotion {label}")
            except (KeyError, ValueError) as e:
                raise ManifestError(table, number + 2, f"not a line of FER2013 ({e})") from None
            line["Image name"] = f"fer{number:07d}.png"  # the names that FER+ gives: the number of the line
            item = f"{FOLDERS[split]}/{line['Image name']}"
            found.append((Row(id=item.removesuffix(".png"), path=item, split=split), FER2013[label]))
        images = _extract(table, None, lines)
        found = [(replace(r, path=str(images / r.path)), label) for r, label in found]
    else:
        raise DatasetError(
            f"{root}: FER2013 is looked for as fer2013.csv (emotion,pixels,Usage), or as manifest.csv with a column "
            "fer2013_label: mend --root"
        )
    known = {canonical(c): c for c in FER2013}
    if unknown := sorted({label for _, label in found if label and canonical(label) not in known}):
        raise DatasetError(f"{root}: FER2013 has no class {', '.join(unknown)}; it has {', '.join(FER2013)}")
    rows = [
        Row(r.id, r.path, known[canonical(label)] if label else None, split=r.split, group=r.group, box=WHOLE)
        for r, label in found
    ]
    return Manifest("fer2013", root, FER2013, tuple(rows), protocol="fer2013")


def _cells(path: Path, needed: set[str]) -> Iterator[dict[str, str]]:
    """The lines of a table whose header may have spaces behind its commas, as one of Kaggle's copies has."""
    with text_file(path) as f:
        reader = csv.DictReader(f, skipinitialspace=True, restval="")  # a line that is cut has empty cells
        if missing := needed - set(reader.fieldnames or ()):
            raise ManifestError(path, 1, f"the header lacks {', '.join(sorted(missing))}")
        yield from reader


def _from_manifest(path: Path) -> Iterator[tuple[Row, dict[str, float]]]:
    manifest = read_manifest(path)
    missing = [c for c in FERPLUS8 if c not in manifest.classes]
    if missing:
        raise DatasetError(
            f"{path}: no columns {', '.join('votes_' + c for c in missing)}: this is no manifest of FER+"
        )
    for row in manifest:
        if row.votes is not None:
            # Fractions over all vote columns: order and ties are those of the counts.
            yield row, dict(zip(manifest.classes, row.votes, strict=True))


def _from_original(root: Path) -> Iterator[tuple[Row, dict[str, float]]]:
    path = root / "fer2013new.csv"
    lines = list(_cells(path, {"Usage", "Image name", *FERPLUS8}))
    for number, cells in enumerate(lines, 2):  # images are written under these names
        name = cells["Image name"].strip()
        if name and not re.fullmatch(r"[\w-][\w.-]*\.png", name, re.ASCII):
            raise ManifestError(path, number, f"{name[:60]!a} is no name of an image of FER+, such as fer0000000.png")
    pixels = root / "fer2013.csv"
    images = _extract(pixels, path, lines) if pixels.is_file() else root
    seen = set()
    for number, cells in enumerate(lines, 2):
        name = cells["Image name"].strip()
        if not name or name in seen:  # four images are named twice
            continue
        seen.add(name)
        try:
            split = SPLITS[cells["Usage"].strip().lower()]
            votes = {c: float(cells[c]) for c in FERPLUS8}
        except (KeyError, ValueError) as e:
            raise ManifestError(path, number, f"not a line of FER+ ({e})") from None
        file = images / FOLDERS[split] / name
        yield Row(id=f"{FOLDERS[split]}/{Path(name).stem}", path=str(file), split=split), votes


def _extract(pixels: Path, names: Path | None, lines: list[dict[str, str]]) -> Path:
    """Write the images of ``fer2013.csv`` under the names of ``lines``, once for each content of the two files.

    ``names``: the file that these names stand in; None = they follow from the number of the line.
    """
    digest = hashlib.sha256()
    for file in (pixels, names) if names is not None else (pixels,):
        with file.open("rb") as f:
            digest.update(hashlib.file_digest(f, "sha256").digest())
    out = files.cache_folder() / "ferplus" / digest.hexdigest()[:16]
    if (out / "complete").is_file():
        return out
    draft = out.with_name(f".{out.name}.{os.getpid()}")  # another process may be at it too
    try:
        _write(pixels, names, lines, draft)
        (draft / "complete").touch()
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    try:
        draft.rename(out)
    except OSError:  # another process was quicker
        shutil.rmtree(draft)
    return out


def _write(pixels: Path, names: Path | None, lines: Sequence[Mapping[str, str]], draft: Path) -> None:
    """Writes the images of ``fer2013.csv`` under the names in ``lines``. Raises ManifestError, OSError."""
    import cv2

    for folder in FOLDERS.values():
        (draft / folder).mkdir(parents=True, exist_ok=True)
    count, written = 0, set()
    for number, cells in enumerate(_cells(pixels, {"pixels", "Usage"}), 2):
        if count == len(lines) or lines[count]["Usage"] != cells["Usage"]:
            raise ManifestError(
                pixels, number, f"does not belong to line {number} of {(names or pixels).name}: one of them is cut or "
                "sorted anew",
            )  # fmt: skip
        name = lines[count]["Image name"].strip()
        count += 1
        if not name or name in written:  # the first of two images of one name, as for the votes
            continue
        written.add(name)
        try:
            place = draft / FOLDERS[SPLITS[cells["Usage"].strip().lower()]]
        except KeyError:
            raise ManifestError(pixels, number, f"{cells['Usage'][:60]!a} is no part of FER2013") from None
        try:
            image = np.array(cells["pixels"].split(), np.uint8).reshape(SIDE, SIDE)
        except (ValueError, OverflowError):
            raise ManifestError(pixels, number, f"not {SIDE} x {SIDE} pixels of 0 to 255") from None
        (place / name).write_bytes(cv2.imencode(".png", image)[1].tobytes())  # imwrite says nothing of a full disk
    if count < len(lines):
        raise ManifestError(
            pixels, count + 1, f"ends here, and {(names or pixels).name} has {len(lines)} images: it is cut"
        )
