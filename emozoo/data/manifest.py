"""Manifest: the one table that every data set becomes, and the names of files, splits and classes in it.

:mod:`emozoo.data.tables` reads a manifest from a file.
"""

from __future__ import annotations

import csv
import gzip
import os
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from emozoo.errors import DatasetError
from emozoo.labels import canonical
from emozoo.moved import names_of

# Names of splits that are understood, without case, blanks, "-" and "_" (:func:`split_name`).
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation", "holdout", "heldout"), "test"),
}
# Missing values as pandas, R, SQL, Excel and people write them, in small letters.
MISSING = frozenset(
    {"", "nan", "-nan", "na", "n/a", "#n/a", "#na", "<na>", "nat", "null", "-", "--", "\u2013", "\u2014", "?", "."}
)
# fmt: off
IMAGES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff",
    ".avif", ".heic", ".heif", ".hif",
})
VIDEOS = frozenset({
    ".mp4", ".avi", ".mov", ".mkv", ".webm", ".flv", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts", ".mts", ".m2ts", ".m2t",
    ".3gp", ".3g2", ".ogv", ".vob", ".mxf", ".asf", ".f4v", ".qt", ".divx", ".dv", ".mpe", ".m2v", ".mjpeg",
})
AUDIOS = frozenset({
    ".wav", ".m4a", ".mp3", ".flac", ".ogg", ".aac", ".opus", ".amr", ".awb", ".aif", ".aiff", ".wma", ".oga", ".caf",
    ".weba", ".mka", ".ac3", ".mp2",
})
# fmt: on
MEDIA = IMAGES | VIDEOS | AUDIOS
# What servers, archives and systems leave beside the data; names that begin with "." or "__" are theirs, too.
_SYSTEM = frozenset(
    {"@eadir", "@recently-snapshot", "@recycle", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "lost+found",
     "system volume information"}
)  # fmt: skip
_SHOWN = 5  # names listed in one finding


def of_the_system(name: str) -> bool:
    """Whether a file or folder of this name is none of the data: hidden, or left behind by a system.

    >>> of_the_system("@eaDir"), of_the_system("._clip.mp4"), of_the_system("clip.mp4")
    (True, True, False)
    """
    return name.startswith((".", "__")) or name.lower() in _SYSTEM


@contextmanager
def text_file(path: Path) -> Iterator[TextIO]:
    """A list or table of a user, open for reading: UTF-8, with or without a byte order mark, line ends as they are.

    One called ``*.gz`` is unpacked. Raises DatasetError, also while it is read: the file cannot be read, is not UTF-8,
    not gzip, or no csv file for ``csv``.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError as e:
        raise DatasetError(f"{path}: not UTF-8 (it holds the byte {e.object[e.start]:#x}): save it as UTF-8") from e
    except csv.Error as e:
        raise DatasetError(f"{path}: not a csv file ({e})") from e
    except (gzip.BadGzipFile, EOFError, zlib.error) as e:
        raise DatasetError(f"{path}: not a gzip file, or cut off ({e}): fetch it again") from e
    except DatasetError:  # of what is read from it
        raise
    except OSError as e:
        raise DatasetError(f"{path}: cannot be read ({e.strerror})") from e


def missing(text: str) -> bool:
    """Whether the text of a cell stands for no value: empty, ``NaN``, ``NA``, ``N/A``, ``null``, ``-``, ``?`` ...

    Case does not matter but for ``None``, which is Python's word for it: a class may well be called ``none``.

    >>> missing("NaN"), missing("None"), missing("none"), missing("neutral")
    (True, True, False, False)
    """
    text = text.strip()
    return text == "None" or text.lower() in MISSING


def cell_text(value: object) -> str:
    """A value of a parquet or Excel cell as text, with all its digits.

    >>> cell_text(7.0), cell_text(1234567.0), cell_text(0.25)
    ('7', '1234567', '0.25')
    """
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def plain_name(name: str) -> str:
    """A name of a column or split without case, blanks, ``-`` and ``_``."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def split_name(text: str) -> str | None:
    """``train``, ``val`` or ``test`` for one of their understood names (:data:`SPLIT_NAMES`); None for any other.

    >>> split_name("Hold-out"), split_name("Development"), split_name("part 1")
    ('test', 'val', None)
    """
    return SPLIT_NAMES.get(plain_name(text))


def split_key(text: str) -> str:
    """A split's name as :attr:`Row.split` holds it: an understood one as ``train``, ``val``, ``test``, else lower case.

    >>> split_key("Training"), split_key(" Part_1 ")
    ('train', 'part_1')
    """
    return split_name(text) or text.strip().lower()


@dataclass(frozen=True)
class Finding:
    """One thing found in the data.

    ``code`` for machines; ``item``: id of the item, or name of the class or person; ``text``: what is wrong; ``fix``:
    how to mend it.
    """

    code: str
    item: str
    text: str
    fix: str


@dataclass(frozen=True)
class Row:
    """One labelled item.

    ``id``: path relative to the root without extension, unique in its manifest. ``label`` None = not scored (no
    plurality among the votes, or not labelled). ``votes``: fractions that sum to 1, in the order of the manifest's
    classes; None = none given. ``valence``, ``arousal`` in [-1, 1]. ``fold``: the fold in which the item is tested.
    ``start``, ``end``: seconds of the file that belong to the item. ``box``: inclusive pixel corners x1, y1, x2, y2 of
    the face, also outside the image; (0, 0, 0, 0) = known to have no face; None = unknown, to be looked for.
    ``extra``: every other column as text; ``extra["va_file"]`` names the file of per-frame labels
    (:func:`emozoo.data.tables.read_va`), ``extra["sound"]`` the file with the clip's audio where that is
    another one.
    """

    id: str
    path: str
    label: str | None = None
    votes: tuple[float, ...] | None = None
    valence: float | None = None
    arousal: float | None = None
    split: str | None = None
    fold: int | None = None
    group: str | None = None
    start: float | None = None
    end: float | None = None
    box: tuple[float, float, float, float] | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """All items of a data set, and the protocol under which they are split and scored.

    ``classes``: names in index order. ``protocol``, ``version``: the named rule that made labels and splits; a result
    prints both. ``findings``: what was read otherwise than it was written (missing labels, merged spellings of a class,
    unknown splits, empty class folders); ``emozoo check`` and fine-tuning report them.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    protocol: str = "manifest"
    version: int = 1
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that occur, in the order train, val, test, others."""
        order = {"train": 0, "val": 1, "test": 2}
        return tuple(sorted({r.split for r in self.rows if r.split}, key=lambda s: (order.get(s, 3), s)))

    @property
    def folds(self) -> tuple[int, ...]:
        return tuple(sorted({r.fold for r in self.rows if r.fold is not None}))

    def require_known_splits(self, chosen: str | None = None) -> None:
        """Raises DatasetError for names of splits that are not understood, other than the ``chosen`` one.

        Called before rows are divided into training, validation and test: nobody knows where such rows belong.
        """
        odd = [s for s in self.splits if split_name(s) is None and (chosen is None or s != split_key(chosen))]
        if odd:
            raise DatasetError(
                f"{self.name}: what is the split {some(map(repr, odd))} in {self.root}? {understood_splits()}: "
                "rename it in the table, or score it by its name (split)"
            )

    def select(self, *, split: str | None = None, fold: int | None = None, train: bool = False) -> Manifest:
        """The items of a split and/or of a fold: those tested in ``fold``, or with ``train`` those of all other folds.

        Without both, everything. Raises DatasetError where the manifest has no such split or fold, or nothing is left.
        """
        rows: Iterable[Row] = self.rows
        if split is not None:
            split = split_key(split)
            if split not in self.splits:
                raise DatasetError(
                    f"{self.name}: no split {split!r} in {self.root}; {_there_are(self.splits, 'splits')}"
                )
            rows = [r for r in rows if r.split == split]
        if fold is not None:
            if fold not in self.folds:
                raise DatasetError(f"{self.name}: no fold {fold} in {self.root}; {_there_are(self.folds, 'folds')}")
            rows = [r for r in rows if r.fold is not None and (r.fold != fold) == train]
        rows = tuple(rows)
        if not rows:
            raise DatasetError(f"{self.name}: no items with split {split!r} and fold {fold!r} in {self.root}")
        return replace(self, rows=rows)

    def with_classes(self, classes: Sequence[str]) -> Manifest:
        """The same items under another spelling and order of the same classes; spellings per ``emozoo.labels``.

        Names in ``classes`` that no item has are fine. Raises DatasetError for a class of the data that is missing.
        """
        index = {canonical(c): i for i, c in enumerate(classes)}
        missing = [c for c in self.classes if canonical(c) not in index]
        if missing:
            raise DatasetError(
                f"{self.name}: the data in {self.root} has classes {', '.join(missing)}, which are not among "
                f"{', '.join(classes)}: add them, or score with a named --label-map"
            )
        to = [index[canonical(c)] for c in self.classes]
        rows = []
        for r in self.rows:
            label = r.label if r.label is None else classes[index[canonical(r.label)]]
            votes = None
            if r.votes is not None:
                spread = [0.0] * len(classes)
                for i, fraction in zip(to, r.votes, strict=True):
                    spread[i] += fraction
                votes = tuple(spread)
            rows.append(replace(r, label=label, votes=votes))
        return replace(self, classes=tuple(classes), rows=tuple(rows))


def some(names: Iterable[str], most: int = _SHOWN) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def understood_splits() -> str:
    """All names of splits that are understood, as one sentence."""
    others = "; ".join(", ".join(n for n, of in SPLIT_NAMES.items() if of == s != n) for s in ("train", "val", "test"))
    return f"Understood are train, val and test, also as {others}"


def _there_are(names: Sequence[object], what: str) -> str:
    return f"there are {', '.join(map(str, names))}" if names else f"it has no {what} at all"


def key(path: str) -> str:
    """``a/b/clip.mp4`` -> ``a/b/clip``; a folder of frames keeps its whole name."""
    path = path.replace("\\", "/")
    stem, suffix = os.path.splitext(path)
    return stem if suffix.lower() in MEDIA else path


def unique_ids(rows: Sequence[Row], root: Path) -> list[Row]:
    """Rows whose ids are all different: files that differ in their extension get it back, then times, then a number."""

    def with_extension(r: Row) -> str:
        path = Path(r.path)
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else r.path

    def with_times(r: Row) -> str:
        if r.start is None and r.end is None:
            return r.id
        return f"{r.id}@{r.start or 0:g}-{'' if r.end is None else f'{r.end:g}'}"

    rows = list(rows)
    files: dict[str, set[str]] = {}
    for r in rows:
        files.setdefault(r.id, set()).add(r.path)
    if len(files) == len(rows):
        return rows
    rows = [replace(r, id=with_extension(r)) if len(files[r.id]) > 1 else r for r in rows]
    count = Counter(r.id for r in rows)
    rows = [replace(r, id=with_times(r)) if count[r.id] > 1 else r for r in rows]
    seen: Counter[str] = Counter()
    for i, r in enumerate(rows):
        seen[r.id] += 1
        if seen[r.id] > 1:
            rows[i] = replace(r, id=f"{r.id}#{seen[r.id]}")
    return rows


def _class_key(name: str) -> str:
    """What spellings of one class have in common: not case, blanks or the way a number was written."""
    name = " ".join(unicodedata.normalize("NFC", name).split()).casefold()
    return re.sub(r"^([+-]?\d+)\.0+$", r"\1", name)


def _class_file(root: Path) -> tuple[str, ...]:
    """The lines of ``classes.txt``; empty where there is none. Raises DatasetError for a class that stands twice."""
    file = root / "classes.txt"
    if not file.is_file():
        return ()
    with text_file(file) as opened:
        listed = tuple(line.strip() for line in opened.read().splitlines() if line.strip())
    seen: dict[str, str] = {}
    for name in listed:
        if (before := seen.setdefault(_class_key(name), name)) is not name:
            raise DatasetError(f"{file}: {before} and {name} are one class; delete one of the lines")
    return listed


def class_names(root: Path, names: Iterable[str]) -> tuple[tuple[str, ...], dict[str, str], list[Finding]]:
    """Classes in order, the class of each of the ``names``, and findings about names that were merged.

    Names that differ only in case, blanks or ``.0`` are one class. It is spelled as in ``classes.txt`` of ``root`` (one
    name a line), else in small letters where it occurs so, else as the first of its spellings by length and alphabet,
    so that neither order nor number of the rows matters. The order is that of ``classes.txt``, else alphabetical.
    Raises DatasetError when the file lacks a class that the data has, or has one twice.
    """
    listed = _class_file(root)
    found: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        found.setdefault(_class_key(name), []).append(name)
    official = {_class_key(name): name for name in listed}
    if listed and (lacking := sorted(same[0] for key_, same in found.items() if key_ not in official)):
        raise DatasetError(
            f"{root / 'classes.txt'} lacks {', '.join(lacking)}, which the data has: add a line for each, or delete "
            "the file"
        )
    spelled: dict[str, str] = {}
    findings: list[Finding] = []
    for key_, same in found.items():
        tidy = {" ".join(unicodedata.normalize("NFC", n).split()) for n in same}
        best = min(tidy, key=lambda n: (n != n.lower(), len(n), n.swapcase()))
        name = official.get(key_, best)
        spelled |= dict.fromkeys(same, name)
        if set(same) != {name}:
            text = f"{', '.join(map(repr, same))} are read as one class" if len(same) > 1 else f"written {same[0]!r}"
            findings.append(Finding("class_spellings", name, text, "write the class the same everywhere"))
    return listed or tuple(sorted(set(spelled.values()))), spelled, findings


def normalize_votes(votes: Sequence[float]) -> tuple[float, ...] | None:
    """Votes as fractions that sum to 1; None where nobody voted."""
    total = sum(votes)
    return tuple(v / total for v in votes) if total > 0 else None


def plurality(votes: Sequence[float], classes: Sequence[str]) -> str | None:
    """The class with most votes; None when two classes have equally many, or nobody voted."""
    top = max(votes)
    return classes[list(votes).index(top)] if top > 0 and list(votes).count(top) == 1 else None


__getattr__ = names_of(__name__)
