"""FER+ (Barsoum, Zhang, Canton Ferrer, Zhang, ICMI 2016): ten crowd votes for each picture of FER2013.

Three layouts are read:

* ``manifest.csv`` with ``votes_*`` columns beside the pictures;
* ``fer2013new.csv`` beside the folders ``FER2013Train``, ``FER2013Valid``, ``FER2013Test`` of named pictures, joined by
  image name;
* ``fer2013new.csv`` beside ``fer2013.csv``, which has pixels but no names. The n-th lines of the two belong together;
  that their ``Usage`` agrees is checked. The pictures are written once into the cache (``EMOZOO_HOME``).

Rule of the labels: votes are shares over the emotions (answers "unknown" and "not a face" left out); a picture is
scored under the emotion with most votes among the eight, and not scored when two share the first place. ``ferplus7``
leaves contempt out: its votes are dropped before the rest is made to sum to 1, and pictures whose plurality is contempt
are not scored. Pictures without a name in FER+ (no face), and those without any vote for an emotion, are left out.
The face fills the picture, so its box is the whole picture and nothing is detected.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from emozoo.data.manifest import Manifest, Row, plurality, read_manifest, share
from emozoo.errors import DatasetError, ManifestError
from emozoo.labels import BASIC7, FERPLUS8

SIDE = 48
SPLITS = {"training": "train", "publictest": "val", "privatetest": "test"}
FOLDERS = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}


def load(root: Path, name: str = "ferplus") -> Manifest:
    """FER+ in ``root`` under the protocol ``ferplus8`` or ``ferplus7``. Raises DatasetError."""
    if root.is_file():
        root = root.parent
    root = root.resolve()
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
        shares = share([votes[c] for c in classes])
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
                box=(0.0, 0.0, SIDE - 1.0, SIDE - 1.0),
            )
        )
    if not rows:
        raise DatasetError(f"{root}: no picture of FER+ has a vote for an emotion")
    return Manifest("ferplus", root, classes, tuple(rows), protocol="ferplus7" if seven else "ferplus8")


def _from_manifest(path: Path) -> Iterator[tuple[Row, dict[str, float]]]:
    manifest = read_manifest(path)
    missing = [c for c in FERPLUS8 if c not in manifest.classes]
    if missing:
        raise DatasetError(
            f"{path}: no columns {', '.join('votes_' + c for c in missing)}: this is no manifest of FER+"
        )
    for row in manifest:
        if row.votes is not None:
            # Shares over all vote columns: order and ties are those of the counts.
            yield row, dict(zip(manifest.classes, row.votes, strict=True))


def _from_original(root: Path) -> Iterator[tuple[Row, dict[str, float]]]:
    path = root / "fer2013new.csv"
    with path.open(newline="", encoding="utf-8-sig") as f:
        reader = csv.DictReader(f)
        needed = {"Usage", "Image name", *FERPLUS8}
        if missing := needed - set(reader.fieldnames or ()):
            raise ManifestError(path, 1, f"the header lacks {', '.join(sorted(missing))}")
        lines = list(reader)
    pixels = root / "fer2013.csv"
    pictures = _extract(pixels, path, lines) if pixels.is_file() else root
    seen = set()
    for number, cells in enumerate(lines, 2):
        name = cells["Image name"].strip()
        if not name or name in seen:  # four pictures are named twice
            continue
        seen.add(name)
        try:
            split = SPLITS[cells["Usage"].strip().lower()]
            votes = {c: float(cells[c]) for c in FERPLUS8}
        except (KeyError, ValueError) as e:
            raise ManifestError(path, number, f"not a line of FER+ ({e})") from None
        file = pictures / FOLDERS[split] / name
        yield Row(id=f"{FOLDERS[split]}/{Path(name).stem}", path=str(file), split=split), votes


def _extract(pixels: Path, names: Path, lines: list[dict[str, str]]) -> Path:
    """Write the pictures of ``fer2013.csv`` under their FER+ names, once for each content of the two files."""
    import cv2

    digest = hashlib.sha256()
    for file in (pixels, names):
        with file.open("rb") as f:
            digest.update(hashlib.file_digest(f, "sha256").digest())
    home = Path(os.environ.get("EMOZOO_HOME", "~/.cache/emozoo")).expanduser()
    out = home / "ferplus" / digest.hexdigest()[:16]
    if (out / "complete").is_file():
        return out
    for folder in FOLDERS.values():
        (out / folder).mkdir(parents=True, exist_ok=True)
    with pixels.open(newline="", encoding="utf-8-sig") as f:
        reader = csv.DictReader(f)
        if missing := {"pixels", "Usage"} - set(reader.fieldnames or ()):
            raise ManifestError(pixels, 1, f"the header lacks {', '.join(sorted(missing))}")
        count, written = 0, set()
        for number, cells in enumerate(reader, 2):
            if count == len(lines) or lines[count]["Usage"] != cells["Usage"]:
                raise ManifestError(
                    pixels,
                    number,
                    f"does not belong to line {number} of {names.name}: one of them is cut or sorted anew",
                )
            name = lines[count]["Image name"].strip()
            count += 1
            if not name or name in written:  # the first of two pictures of one name, as for the votes
                continue
            written.add(name)
            try:
                picture = np.array(cells["pixels"].split(), np.uint8).reshape(SIDE, SIDE)
            except ValueError:
                raise ManifestError(pixels, number, f"not {SIDE} x {SIDE} pixels") from None
            cv2.imwrite(str(out / FOLDERS[SPLITS[cells["Usage"].strip().lower()]] / name), picture)
    if count < len(lines):
        raise ManifestError(pixels, count + 1, f"ends here, and {names.name} has {len(lines)} pictures: it is cut")
    (out / "complete").touch()
    return out
