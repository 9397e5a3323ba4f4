"""MMI (Pantic et al., ICME 2005; Valstar, Pantic, 2010): six expressions, about 30 people, 205 sequences.

``Sessions/<id>/`` with a video, ``session.xml`` (which names the subject) and an annotation whose ``Metatag`` with
``Name="Emotion"`` has one of the six as its ``Value``, in words or as 1 to 6; other sessions are no items. There are
ten folds by person, drawn by a seed, since those of the papers are not public; the protocol's name says so.

This layout is written from public code and memory, not from the data: compare the counts before trusting a number.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from emozoo.data.datasets.layout import fold_by_group, missing, within
from emozoo.data.manifest import VIDEOS, Manifest, Row
from emozoo.errors import DatasetError
from emozoo.labels import canonical

CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise")
PROTOCOL = "mmi_regenerated_10fold"


def load(root: Path, name: str = "mmi") -> Manifest:
    """The sessions in ``root`` that show one of the six; ids are their numbers, folds 0 to 9."""
    root = within(root.resolve(), "Sessions")
    rows = []
    for session in sorted((p for p in root.iterdir() if p.is_dir()), key=lambda p: (len(p.name), p.name)):
        label, person = _annotation(session)
        if label is None:
            continue
        if person is None:
            raise DatasetError(f"{session}: no session.xml with a subject, and folds are by subject; fetch it again")
        files = sorted(p for p in session.iterdir() if p.suffix.lower() in VIDEOS)
        path = files[0] if files else session / f"{session.name}.avi"
        rows.append(Row(session.name, str(path), label, group=person))
    if not rows:
        raise missing(root, name, "Sessions/<id>/ with a video, session.xml and an annotation that has an Emotion")
    folds = fold_by_group(rows, 10, PROTOCOL)
    assigned = tuple(replace(r, fold=k) for r, k in zip(rows, folds, strict=True))
    return Manifest("mmi", root, CLASSES, assigned, protocol=PROTOCOL)


def _annotation(session: Path) -> tuple[str | None, str | None]:
    """Class and subject of a session, each None where no file has it."""
    label, person = None, None
    for file in sorted(session.glob("*.xml")):
        try:
            elements = list(ElementTree.parse(file).iter())
        except ElementTree.ParseError as e:
            raise DatasetError(f"{file}: not XML ({e}); fetch it again") from e
        for element in elements:
            if element.tag == "Metatag" and element.get("Name") == "Emotion":
                label = _class(element.get("Value", "").strip()) or label
            elif element.tag.lower() == "subject":
                person = element.get("id") or person
    return label, person


def _class(value: str) -> str | None:
    if value.isdigit():
        return CLASSES[int(value) - 1] if 1 <= int(value) <= len(CLASSES) else None
    return next((c for c in CLASSES if canonical(c) == canonical(value)), None)
