"""BU-4DFE (Yin et al., FG 2008), called BU-3DFE in papers on video: 101 people pose six expressions, 606 sequences.

``<F001 to F058, M001 to M043>/<Angry|Disgust|Fear|Happy|Sad|Surprise>/000.jpg ...``. There are no official folds, and
those of the papers are not public: people are split into ten by a seed, as the protocol's name says.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from emozoo.data.datasets.layout import class_folders, fold_by_group, missing, within
from emozoo.data.manifest import Manifest, Row

CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise")
PROTOCOL = "bu4dfe_regenerated_10fold"


def load(root: Path, name: str = "bu4dfe") -> Manifest:
    """The sequences in ``root``; ids are ``<person>/<Expression>``, folds 0 to 9."""
    root = within(root.resolve(), "BU4DFE", "BU-4DFE")
    rows = []
    for person in sorted(p for p in root.iterdir() if p.is_dir() and re.fullmatch(r"[FM]\d{3}", p.name)):
        for label, folders in class_folders(person, CLASSES).items():
            rows += [Row(f"{person.name}/{label}", str(f), label, group=person.name) for f in folders]
    if not rows:
        raise missing(root, name, "F001/Angry/000.jpg, for F001 to F058 and M001 to M043")
    folds = fold_by_group(rows, 10, PROTOCOL)
    assigned = tuple(replace(r, fold=k) for r, k in zip(rows, folds, strict=True))
    return Manifest("bu4dfe", root, CLASSES, assigned, protocol=PROTOCOL)
