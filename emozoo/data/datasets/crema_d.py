"""CREMA-D (Cao, Cooper, Keutmann, Gur, Nenkova, Verma, IEEE TAC 2014): 91 actors, 6 emotions, 7,442 clips; ODbL.

``VideoFlash/<id>.flv``, ``AudioWAV/<id>.wav`` or ``AudioMP3/<id>.mp3`` (the first that is there), where id is
``<actor>_<sentence>_<emotion>_<level>``. The label is the emotion that the actor was told to show. ``crema_d:voice``,
``:face`` and ``:multimodal`` take the votes of raters who heard the voice, saw the face, or both, as fractions
(``processedResults/tabulatedVotes.csv``, first digit of its row names: 1 voice, 2 face, 3 both); the label is their
plurality, none at a tie.

Protocol: five folds by actor, fold k tests the actors with ``(number - 1001) % 5 == k``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from emozoo.data.datasets.layout import missing, subfolder, within
from emozoo.data.manifest import Manifest, Row, normalize_votes, plurality, text_file
from emozoo.errors import DatasetError, ManifestError

CLASSES = ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad")
CODES = dict(zip(("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"), CLASSES, strict=True))
NAME = re.compile(rf"(1\d{{3}})_([A-Z]{{3}})_({'|'.join(CODES)})_(LO|MD|HI|X|XX)")
VIEWS = {"voice": "1", "face": "2", "multimodal": "3"}


def load(root: Path, name: str) -> Manifest:
    """The clips in ``root``; ids are ``<actor>/<name>``."""
    root = within(root.resolve(), "CREMA-D", "crema-d-mirror")
    view = name.partition(":")[2] or "intended"
    media_root = subfolder(root, "VideoFlash", "AudioWAV", "AudioMP3") or root
    votes = _votes(root, view) if view in VIEWS else {}
    rows = []
    for path in sorted(media_root.iterdir()):
        found = NAME.fullmatch(path.stem)
        if found is None or path.suffix.lower() not in (".flv", ".wav", ".mp3", ".mp4"):
            continue
        counts = votes.get(path.stem, (0,) * 6)
        actor = int(found[1])
        rows.append(
            Row(
                id=f"{actor}/{path.stem}",
                path=str(path),
                label=plurality(counts, CLASSES) if view in VIEWS else CODES[found[3]],
                votes=normalize_votes(counts),
                fold=(actor - 1001) % 5,
                group=str(actor),
                extra={"sentence": found[2], "intended": CODES[found[3]], "level": found[4]},
            )
        )
    if not rows:
        raise missing(
            root, "crema_d", "VideoFlash/<id>.flv, AudioWAV/<id>.wav or AudioMP3/<id>.mp3, id 1001_DFA_ANG_XX"
        )
    with open(rows[0].path, "rb") as f:
        if f.read(20).startswith(b"version https://git-"):
            raise DatasetError(f"{media_root}: holds pointers of Git LFS, not media; run there: git lfs pull")
    return Manifest("crema_d", root, CLASSES, tuple(rows), protocol=f"crema_d_{view}_5fold")


def _votes(root: Path, view: str) -> Mapping[str, tuple[float, ...]]:
    path = root / "processedResults" / "tabulatedVotes.csv"
    if not path.is_file():
        raise DatasetError(f"{path}: crema_d:{view} needs this table of the repository; put it there, or take crema_d")
    found = {}
    with text_file(path) as f:
        for number, cells in enumerate(csv.DictReader(f, restval=""), 2):
            try:
                if cells[""].startswith(VIEWS[view]):
                    found[cells["fileName"]] = tuple(float(cells[c]) for c in "ADFHNS")
            except (KeyError, ValueError) as e:
                raise ManifestError(path, number, f"not a line of tabulated votes ({e})") from None
    return found
