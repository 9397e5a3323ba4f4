"""Manifest: the one table that every data set becomes.

Columns of a file: ``path`` (needed; relative to the file's folder) and any of ``label``, ``valence``, ``arousal``,
``split``, ``fold``, ``group`` (or ``identity``, ``actor``, ``subject``, ``speaker``), ``start``, ``end``, ``x1``,
``y1``, ``x2``, ``y2`` and ``votes_<class>``. ``va_file`` (relative too; default ``<clip>.va.csv`` beside the clip)
holds valence and arousal per frame. ``audio`` (relative too) is a media file with the audio of a clip that has none, of
a folder of frames say; where it is the video that the frames were taken from, it gives their rate too. Every other
column is kept as text in :attr:`Row.extra`. Upper and lower case, blanks, ``_`` and ``-`` in these names do not
matter; ``file``, ``filename`` and ``filepath`` are understood as ``path``, and ``class``, ``labels`` and ``emotion`` as
``label`` where there is neither a label nor votes.

An empty cell is a missing value, and so is one that holds what pandas, R or Excel write for it (:func:`missing`).
Labels that differ only in case, in blanks or in ``.0`` are one class. What reading decided otherwise than it was
written is in :attr:`Manifest.findings`.
"""

from __future__ import annotations

import csv
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from emozoo.errors import DatasetError, ManifestError
from emozoo.labels import canonical

GROUP_COLUMNS = ("group", "identity", "actor", "subject", "speaker")
BOX_COLUMNS = ("x1", "y1", "x2", "y2")
# Answers of raters that name no emotion: such vote columns are never classes.
NOT_CLASSES = ("unknown", "nf")
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
_KNOWN = {"path", "label", "valence", "arousal", "split", "fold", "start", "end", *BOX_COLUMNS, *GROUP_COLUMNS}
_PATH_COLUMNS, _LABEL_COLUMNS = ("file", "filename", "filepath"), ("class", "labels", "emotion")
_SPLIT_LIKE = ("set", "subset", "dataset", "usage", "partition", "phase")  # columns that often hold a split
_SHOWN = 5  # names listed in one finding


def of_the_system(name: str) -> bool:
    """Whether a file or folder of this name is none of the data: hidden, or left behind by a system.

    >>> of_the_system("@eaDir"), of_the_system("._clip.mp4"), of_the_system("clip.mp4")
    (True, True, False)
    """
    return name.startswith((".", "__")) or name.lower() in _SYSTEM


def missing(text: str) -> bool:
    """Whether the text of a cell stands for no value: empty, ``NaN``, ``NA``, ``N/A``, ``null``, ``-``, ``?`` ...

    Case does not matter but for ``None``, which is Python's word for it: a class may well be called ``none``.

    >>> missing("NaN"), missing("None"), missing("none"), missing("neutral")
    (True, True, False, False)
    """
    text = text.strip()
    return text == "None" or text.lower() in MISSING


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


def split_name(text: str) -> str | None:
    """``train``, ``val`` or ``test`` for one of their understood names (:data:`SPLIT_NAMES`); None for any other.

    >>> split_name("Hold-out"), split_name("Development"), split_name("part 1")
    ('test', 'val', None)
    """
    return SPLIT_NAMES.get(_plain(text))


def split_key(text: str) -> str:
    """A split's name as :attr:`Row.split` holds it: an understood one as ``train``, ``val``, ``test``, else lower case.

    >>> split_key("Training"), split_key(" Part_1 ")
    ('train', 'part_1')
    """
    return split_name(text) or text.strip().lower()


@dataclass(frozen=True)
class Finding:
    """``code`` for machines, ``item``: id of the item (or name of class, person), what is wrong, how to mend it."""

    code: str
    item: str
    text: str
    fix: str


@dataclass(frozen=True)
class Row:
    """One labelled item.

    ``id``: path relative to the root without extension, unique in its manifest. ``label`` None = not scored (no
    plurality among the votes, or not labelled). ``votes``: shares that sum to 1, in the order of the manifest's
    classes; None = none given. ``valence``, ``arousal`` in [-1, 1]. ``fold``: the fold in which the item is tested.
    ``start``, ``end``: seconds of the file that belong to the item. ``box``: inclusive pixel corners x1, y1, x2, y2 of
    the face, also outside the image; (0, 0, 0, 0) = known to have no face; None = unknown, to be looked for.
    ``extra``: every other column as text; ``extra["va_file"]`` names the file of per-frame labels (:func:`read_va`),
    ``extra["audio"]`` the file with the clip's audio where that is not the clip itself.
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
    unknown splits, empty class folders); ``emozoo check`` and fine-tuning say them.
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
        """Raises DatasetError that names the splits which nobody understands, other than the ``chosen`` one.

        For whoever deals rows into training, validation and test: rows of such a split would end up anywhere.
        """
        odd = [s for s in self.splits if split_name(s) is None and (chosen is None or s != split_key(chosen))]
        if odd:
            raise DatasetError(
                f"{self.name}: what is the split {some(map(repr, odd))} in {self.root}? {_understood()}: rename it in "
                "the table, or score it by its name (split)"
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
        place = {canonical(c): i for i, c in enumerate(classes)}
        missing = [c for c in self.classes if canonical(c) not in place]
        if missing:
            raise DatasetError(
                f"{self.name}: the data in {self.root} has classes {', '.join(missing)}, which are not among "
                f"{', '.join(classes)}: add them, or score with a named --label-map"
            )
        to = [place[canonical(c)] for c in self.classes]
        rows = []
        for r in self.rows:
            label = r.label if r.label is None else classes[place[canonical(r.label)]]
            votes = None
            if r.votes is not None:
                spread = [0.0] * len(classes)
                for i, share in zip(to, r.votes, strict=True):
                    spread[i] += share
                votes = tuple(spread)
            rows.append(replace(r, label=label, votes=votes))
        return replace(self, classes=tuple(classes), rows=tuple(rows))


def some(names: Iterable[str], most: int = _SHOWN) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _understood() -> str:
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
    listed = tuple(line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    seen: dict[str, str] = {}
    for name in listed:
        if (before := seen.setdefault(_class_key(name), name)) is not name:
            raise DatasetError(f"{file}: {before} and {name} are one class; delete one of the lines")
    return listed


def class_names(root: Path, names: Iterable[str]) -> tuple[tuple[str, ...], dict[str, str], list[Finding]]:
    """Classes in order, the class of each of the ``names``, and what to say of names that were merged.

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
    """Votes as shares that sum to 1; None where nobody voted."""
    total = sum(votes)
    return tuple(v / total for v in votes) if total > 0 else None


def plurality(votes: Sequence[float], classes: Sequence[str]) -> str | None:
    """The class with most votes; None when two share the first place or nobody voted."""
    top = max(votes)
    return classes[list(votes).index(top)] if top > 0 and list(votes).count(top) == 1 else None


def read_va(path: Path | str) -> np.ndarray:
    """Per-frame valence and arousal, float32 (frames, 2) in [-1, 1]; frames to ignore are nan in both columns.

    The format of Aff-Wild2: a header line ``valence,arousal``, then one pair a frame, -5 in either = ignore. Raises
    ManifestError for a line that is no such pair.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except OSError as e:
        raise DatasetError(f"{path}: per-frame labels cannot be read ({e.strerror})") from e
    values = np.full((max(len(lines) - 1, 0), 2), np.nan, np.float32)
    for i, line in enumerate(lines[1:]):
        try:
            valence, arousal = map(float, line.split(","))
        except ValueError:
            raise ManifestError(path, i + 2, f"expected 'valence,arousal', found {line!r}") from None
        if -5 in (valence, arousal):
            continue
        if not (-1 <= valence <= 1 and -1 <= arousal <= 1):
            raise ManifestError(path, i + 2, f"valence and arousal lie in [-1, 1] (or are -5 = ignore), found {line!r}")
        values[i] = valence, arousal
    return values


_CONVERT = "python -c \"import pandas; pandas.{read}.to_csv('new.csv', index=False)\""


def _refuse_foreign(path: Path, start: bytes) -> None:
    """Raises DatasetError for a file that is no UTF-8 text, as its first bytes show."""
    if start[:4] in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0"):
        how = _CONVERT.format(read="read_excel('old.xlsx')")
        raise DatasetError(f"{path}: an Excel workbook, not a csv file: save it as 'CSV UTF-8', or run: {how}")
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start:
        how = _CONVERT.format(read="read_csv('old.csv', encoding='utf-16', sep=None, engine='python')")
        raise DatasetError(
            f"{path}: UTF-16, as Excel's 'Unicode Text' is: save it as 'CSV UTF-8 (comma delimited)', or run: {how}"
        )


def _table(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every line that is not blank, as text; the first is the header."""
    if path.suffix.lower() in (".parquet", ".pq"):
        import pandas as pd

        try:
            frame = pd.read_parquet(path)
        except ImportError as e:
            raise DatasetError(f"{path}: reading parquet needs pyarrow; run: pip install pyarrow") from e
        except (OSError, ValueError) as e:
            raise DatasetError(f"{path}: not a parquet file ({e})") from e
        frame = frame.astype(object).where(frame.notna(), "")
        yield 1, [str(c) for c in frame.columns]
        for i, cells in enumerate(frame.itertuples(index=False)):
            # A column of whole numbers with gaps comes as floats: 7.0 is the person 7.
            yield i + 2, [f"{v:g}" if isinstance(v, float) and v.is_integer() else str(v) for v in cells]
        return
    try:
        with path.open("rb") as raw:
            head = raw.read(512)
    except OSError as e:
        raise DatasetError(f"{path}: cannot be read ({e.strerror})") from e
    _refuse_foreign(path, head)
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            reader = csv.reader(f, skipinitialspace=True)
            for cells in reader:
                if any(map(str.strip, cells)):  # spreadsheets write rows of nothing but commas
                    yield reader.line_num, cells
    except UnicodeDecodeError as e:
        raise DatasetError(f"{path}: not UTF-8 at byte {e.start}: save it as UTF-8") from e
    except csv.Error as e:
        raise DatasetError(f"{path}: not a csv file ({e})") from e
    except OSError as e:
        raise DatasetError(f"{path}: cannot be read ({e.strerror})") from e


def _separated(header: Sequence[str]) -> str:
    """What to do about a header of a single cell that holds other separators; empty where it holds none."""
    for sign, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and sign in header[0]:
            decimal = ", decimal=','" if sign == ";" else ""
            how = _CONVERT.format(read=f"read_csv('old.csv', sep={sign!r}{decimal})")
            return f"; its columns are separated by {name} and must be by commas: save it with commas, or run: {how}"
    return ""


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    """The columns by the names that are documented; "" for one without a name. Raises ManifestError.

    Spreadsheets call a column without a header ``Unnamed: 3``, or leave its cell empty.
    """
    known = {_plain(c): c for c in (*_KNOWN, "va_file", "sound")}
    names = []
    for cell in map(str.strip, cells):
        if re.fullmatch(r"(Unnamed: \d+)?", cell):
            names.append("")
        elif cell.lower().startswith("votes_"):
            names.append("votes_" + cell[len("votes_") :])
        else:
            names.append(known.get(_plain(cell), cell))
    has_votes = any(n.startswith("votes_") for n in names)
    for column, others in (("path", _PATH_COLUMNS), ("label", _LABEL_COLUMNS)):
        like = [i for i, n in enumerate(names) if _plain(n) in others]
        if column in names or not like or (column == "label" and (has_votes or len(like) > 1)):
            continue
        if len(like) > 1:
            both = " and ".join(repr(names[i]) for i in like)
            raise ManifestError(path, 1, f"both {both} could be the {column}: name one of them {column!r}")
        names[like[0]] = column
    if "path" not in names:
        found = ", ".join(map(str.strip, cells)) or "nothing"
        raise ManifestError(path, 1, f"the header needs a column 'path', found {found}{_separated(cells)}")
    repeated = [c for c, n in Counter(filter(None, names)).items() if n > 1]
    if repeated:
        raise ManifestError(path, 1, f"column {repeated[0]!r} stands twice in the header")
    return names


def _lines(
    path: Path, header: Sequence[str], table: Iterable[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    """Lines with exactly the header's cells: what spreadsheets leave out or add behind the last name is nothing."""
    named = max(i for i, name in enumerate(header) if name) + 1
    for line, values in table:
        if len(values) < named or any(map(str.strip, values[len(header) :])):
            raise ManifestError(
                path, line, f"{len(values)} cells under a header of {len(header)}: quote names that hold commas"
            )
        yield line, [*values, *[""] * (len(header) - len(values))][: len(header)]


def _path(text: str) -> str:
    """A path as this system writes it; ``~`` is the user's own folder."""
    return os.path.normpath(os.path.expanduser(text.replace("\\", "/")))


def read_manifest(path: Path | str) -> Manifest:
    """Read a manifest from csv (UTF-8, commas, header required) or parquet; paths in it are relative to its folder.

    A ``label`` that is missing is not scored. Where ``votes_*`` columns stand without ``label``, the label is the
    plurality. A missing ``split`` where other rows have one means ``train``. A file ``<clip>.va.csv`` beside a clip
    holds its per-frame valence and arousal. Raises ManifestError with the line that cannot be used, DatasetError for
    the file as a whole. Media are not opened and may be missing.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"{path}: no such manifest; it is a csv file whose header has 'path' and 'label'")
    root = path.parent.resolve()
    table = _table(path)
    header = _header(path, next(table, (1, []))[1])
    boxes = [c for c in BOX_COLUMNS if c in header]
    if boxes and len(boxes) < 4:
        raise ManifestError(path, 1, f"a box needs all of {', '.join(BOX_COLUMNS)}, found {', '.join(boxes)}")
    vote_columns = {c: c.removeprefix("votes_") for c in header if c.startswith("votes_")}
    vote_columns = {c: name for c, name in vote_columns.items() if name.lower() not in NOT_CLASSES}
    group_column = next((c for c in GROUP_COLUMNS if c in header), None)

    others = [c for c in header if c and c not in _KNOWN and not c.startswith("votes_")]
    place = str(root)
    rows, raw_votes, labels = [], [], set(vote_columns.values())
    written: list[str] = []  # in the column of the label
    beside: dict[int, list[str]] = {i: [] for i, name in enumerate(header) if not name}
    for line, values in _lines(path, header, table):
        for i, texts in beside.items():
            texts.append(values[i].strip())
        cells = dict(zip(header, values, strict=True))
        cell = _Line(path, line, cells)
        name = cells["path"].strip()
        if not name:
            raise ManifestError(path, line, "no path")
        label = cell.text("label") or None
        if any("\n" in text for text in (name, label or "")):
            raise ManifestError(path, line, "a path or label goes over several lines: a quote is not closed")
        written.append(cells.get("label", "").strip())
        if label is not None and vote_columns and label.lower() in NOT_CLASSES:
            label = None
        if label is not None:
            labels.add(label)
        raw_votes.append([cell.number(c, 0, math.inf) or 0.0 for c in vote_columns])
        split = cell.text("split")
        fold = cell.number("fold", -math.inf, math.inf)
        start, end = cell.number("start", 0, math.inf), cell.number("end", 0, math.inf)
        if start is not None and end is not None and end <= start:
            raise ManifestError(path, line, f"end {end:g} does not lie behind start {start:g}")
        if fold is not None and fold != int(fold):
            raise ManifestError(path, line, f"fold is a whole number, found {fold}")
        file = os.path.normpath(os.path.join(place, _path(name)))
        extra = {k: cells[k] for k in others}
        stem, suffix = os.path.splitext(file)
        if "sound" in extra:
            del extra["sound"]
            extra |= {"sound": os.path.join(place, _path(audio))} if (audio := cell.text("sound")) else {}
        if va_file := cell.text("va_file"):
            extra["va_file"] = os.path.join(place, _path(va_file))
        else:
            extra.pop("va_file", None)
            if suffix.lower() not in IMAGES and os.path.isfile(f"{stem}.va.csv"):
                extra["va_file"] = f"{stem}.va.csv"
        rows.append(
            Row(
                id=key(os.path.relpath(file, place) if file.startswith(place + os.sep) else _path(name)),
                path=file,
                label=label,
                valence=cell.number("valence", -1, 1, ignore=-5),
                arousal=cell.number("arousal", -1, 1, ignore=-5),
                split=split_key(split) if split else None,
                fold=None if fold is None else int(fold),
                group=(cell.text(group_column) or None) if group_column else None,
                start=start,
                end=end,
                box=cell.box() if boxes else None,
                extra=extra,
            )
        )
    if not rows:
        raise ManifestError(path, 1, "no items below the header")
    classes, spelled, findings = class_names(root, labels)
    rows = [replace(r, label=spelled[r.label]) if r.label is not None else r for r in rows]
    if vote_columns:
        at = {spelled[name]: i for i, name in enumerate(vote_columns.values())}
        if len(at) < len(vote_columns):
            twice = ", ".join(c for c, name in vote_columns.items() if c != list(vote_columns)[at[spelled[name]]])
            raise ManifestError(path, 1, f"column {twice} is of a class that another column of votes is of")
        order = [at.get(c, -1) for c in classes]
        for i, votes in enumerate(raw_votes):
            ordered = [votes[j] if j >= 0 else 0.0 for j in order]
            label = rows[i].label if "label" in header else plurality(ordered, classes)
            rows[i] = replace(rows[i], votes=normalize_votes(ordered), label=label)
    rows = unique_ids(rows, root)
    findings += [] if vote_columns else _unlabelled(rows, written)  # else the raters named no class
    findings += _odd_splits(rows)
    findings += _unread(beside, {c: {r.extra.get(c, "") for r in rows} for c in others if "split" not in header})
    if any(r.split for r in rows):
        rows = [replace(r, split="train") if r.split is None else r for r in rows]
    return Manifest(path.parent.resolve().name, root, classes, tuple(rows), findings=tuple(findings))


def _unlabelled(rows: Sequence[Row], written: Sequence[str]) -> list[Finding]:
    """Rows without a label in a table where others have one; those with valence have something else.

    ``written``: what stood in the column of the label.
    """
    plain = [r.label is None and r.valence is None and "va_file" not in r.extra for r in rows]
    if not any(plain) or not any(r.label for r in rows):
        return []
    words = Counter(text for text, without in zip(written, plain, strict=True) if without)
    said = ", ".join(f"{text or 'empty'}: {n}" for text, n in words.most_common())
    names = some(r.id for r, without in zip(rows, plain, strict=True) if without)
    text = f"{sum(plain)} of {len(rows)} rows have no label ({said}) and are neither trained on nor scored: {names}"
    return [Finding("missing_label", "label", text, "write the label, or take the row out of the table")]


def _odd_splits(rows: Sequence[Row]) -> list[Finding]:
    """Names of splits that are not understood, and rows without a split where others have one."""
    count = Counter(r.split for r in rows)
    found = [
        Finding(
            "unknown_split", s, f"{n} rows are in this split, which is not understood", f"rename it. {_understood()}"
        )
        for s, n in count.items()
        if s is not None and split_name(s) is None
    ]
    if 0 < count[None] < len(rows):
        names = some(r.id for r in rows if r.split is None)
        text = f"{count[None]} of {len(rows)} rows have no split, so they are training rows: {names}"
        found.append(Finding("missing_split", "split", text, "write train, val or test into every row"))
    return found


def _unread(beside: Mapping[int, Sequence[str]], others: Mapping[str, set[str]]) -> list[Finding]:
    """Columns that hold something which is not read: below no name, or a split under another name."""
    found = []
    for i, texts in beside.items():
        if any(texts) and list(texts) != [str(n) for n in range(len(texts))]:  # the row numbers of pandas
            text = f"column {i + 1} has no name, so it is not read: {some(dict.fromkeys(filter(None, texts)))}"
            found.append(Finding("unnamed_column", f"column {i + 1}", text, "name it in the header, or delete it"))
    for column, texts_ in others.items():
        if _plain(column) in _SPLIT_LIKE and all(split_name(t) or missing(t) for t in texts_) and any(texts_):
            text = f"the column {column!r} looks like a split ({some(sorted(texts_))}) and is not read"
            found.append(Finding("unread_column", column, text, "name it 'split', or delete it"))
    return found


@dataclass(frozen=True)
class _Line:
    """The cells of one line; what is wrong with one is said with its column."""

    path: Path
    line: int
    cells: Mapping[str, str]

    def text(self, column: str) -> str:
        """What the cell holds; empty for a missing value and for a column that is not there."""
        text = (self.cells.get(column) or "").strip()
        return "" if missing(text) else text

    def number(self, column: str, low: float, high: float, ignore: float | None = None) -> float | None:
        text = self.text(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            raise ManifestError(self.path, self.line, f"{column} is not a number: {text!r}") from None
        if value == ignore:
            return None
        if not (math.isfinite(value) and low <= value <= high):
            raise ManifestError(self.path, self.line, f"{column} must lie in [{low:g}, {high:g}], found {text}")
        return value

    def box(self) -> tuple[float, float, float, float] | None:
        given = [self.number(c, -math.inf, math.inf) for c in BOX_COLUMNS]
        values = [v for v in given if v is not None]
        if not values:
            return None
        if len(values) < 4:
            raise ManifestError(self.path, self.line, f"a box needs all of {', '.join(BOX_COLUMNS)}")
        x1, y1, x2, y2 = values
        if x2 < x1 or y2 < y1:
            raise ManifestError(self.path, self.line, f"the box {x1:g},{y1:g},{x2:g},{y2:g} ends before it begins")
        return x1, y1, x2, y2
