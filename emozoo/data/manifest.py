"""Manifest: the one table that every data set becomes.

Columns of a file: ``path`` (needed; relative to the file's folder) and any of ``label``, ``valence``, ``arousal``,
``split``, ``fold``, ``group`` (or ``identity``, ``actor``, ``subject``, ``speaker``), ``start``, ``end``, ``x1``,
``y1``, ``x2``, ``y2`` and ``votes_<class>``. ``va_file`` (relative too; default ``<clip>.va.csv`` beside the clip)
holds valence and arousal per frame. ``sound`` (relative too) is a media file with the sound of a clip that has none, of
a folder of frames say; where it is the video that the frames were taken from, it gives their rate too. Every other
column is kept as text in :attr:`Row.extra`.
"""

from __future__ import annotations

import csv
import math
import os
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
SPLIT_NAMES = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}
# fmt: off
PICTURES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff",
    ".avif", ".heic", ".heif", ".hif",
})
VIDEOS = frozenset({
    ".mp4", ".avi", ".mov", ".mkv", ".webm", ".flv", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts", ".mts", ".m2ts", ".m2t",
    ".3gp", ".3g2", ".ogv", ".vob", ".mxf", ".asf", ".f4v", ".qt", ".divx", ".dv", ".mpe", ".m2v", ".mjpeg",
})
SOUNDS = frozenset({
    ".wav", ".m4a", ".mp3", ".flac", ".ogg", ".aac", ".opus", ".amr", ".awb", ".aif", ".aiff", ".wma", ".oga", ".caf",
    ".weba", ".mka", ".ac3", ".mp2",
})
# fmt: on
MEDIA = PICTURES | VIDEOS | SOUNDS
_KNOWN = {"path", "label", "valence", "arousal", "split", "fold", "start", "end", *BOX_COLUMNS, *GROUP_COLUMNS}


@dataclass(frozen=True)
class Row:
    """One labelled item.

    ``id``: path relative to the root without extension, unique in its manifest. ``label`` None = not scored (no
    plurality among the votes, or not labelled). ``votes``: shares that sum to 1, in the order of the manifest's
    classes; None = none given. ``valence``, ``arousal`` in [-1, 1]. ``fold``: the fold in which the item is tested.
    ``start``, ``end``: seconds of the file that belong to the item. ``box``: inclusive pixel corners x1, y1, x2, y2 of
    the face, also outside the picture; (0, 0, 0, 0) = known to have no face; None = unknown, to be looked for.
    ``extra``: every other column as text; ``extra["va_file"]`` names the file of per-frame labels (:func:`read_va`),
    ``extra["sound"]`` the file with the clip's sound where that is not the clip itself.
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
    prints both.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    protocol: str = "manifest"
    version: int = 1

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

    def select(self, *, split: str | None = None, fold: int | None = None, train: bool = False) -> Manifest:
        """The items of a split and/or of a fold: those tested in ``fold``, or with ``train`` those of all other folds.

        Without both, everything. Raises DatasetError where the manifest has no such split or fold, or nothing is left.
        """
        rows: Iterable[Row] = self.rows
        if split is not None:
            split = SPLIT_NAMES.get(split.lower(), split)
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


def class_order(root: Path, names: Iterable[str]) -> tuple[str, ...]:
    """``classes.txt`` of ``root`` (one name a line) where there is one, else the names sorted.

    Raises DatasetError when the file lacks a class that the data has.
    """
    found = set(names)
    file = root / "classes.txt"
    if not file.is_file():
        return tuple(sorted(found))
    listed = tuple(line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    missing = sorted(found - set(listed))
    if missing:
        raise DatasetError(
            f"{file} lacks {', '.join(missing)}, which the data has: add a line for each, or delete the file"
        )
    return listed


def share(votes: Sequence[float]) -> tuple[float, ...] | None:
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


def _table(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every line, as text; the first is the header."""
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
        with path.open(newline="", encoding="utf-8-sig") as f:
            reader = csv.reader(f)
            for cells in reader:
                if cells:  # a blank line is none
                    yield reader.line_num, cells
    except UnicodeDecodeError as e:
        raise DatasetError(f"{path}: not UTF-8 at byte {e.start}: save it as UTF-8") from e
    except csv.Error as e:
        raise DatasetError(f"{path}: not a csv file ({e})") from e
    except OSError as e:
        raise DatasetError(f"{path}: cannot be read ({e.strerror})") from e


def _path(text: str) -> str:
    """A path as this system writes it."""
    return os.path.normpath(text.replace("\\", "/"))


def read_manifest(path: Path | str) -> Manifest:
    """Read a manifest from csv (UTF-8, header required) or parquet; paths in it are relative to its folder.

    A ``label`` that is empty is not scored. Where ``votes_*`` columns stand without ``label``, the label is the
    plurality. A file ``<clip>.va.csv`` beside a clip holds its per-frame valence and arousal. Raises ManifestError with
    the line that cannot be used, DatasetError for the file as a whole. Media are not opened and may be missing.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"{path}: no such manifest; it is a csv file whose header has 'path' and 'label'")
    root = path.parent.resolve()
    table = _table(path)
    header = next(table, (1, []))[1]
    if "path" not in header:
        hint = "; columns are separated by commas" if len(header) == 1 and any(c in header[0] for c in ";\t") else ""
        raise ManifestError(path, 1, f"the header needs a column 'path', found {', '.join(header) or 'nothing'}{hint}")
    repeated = [c for c, n in Counter(header).items() if n > 1]
    if repeated:
        raise ManifestError(path, 1, f"column {repeated[0]!r} stands twice in the header")
    boxes = [c for c in BOX_COLUMNS if c in header]
    if boxes and len(boxes) < 4:
        raise ManifestError(path, 1, f"a box needs all of {', '.join(BOX_COLUMNS)}, found {', '.join(boxes)}")
    vote_columns = {c: c.removeprefix("votes_") for c in header if c.startswith("votes_")}
    vote_columns = {c: name for c, name in vote_columns.items() if name.lower() not in NOT_CLASSES}
    group_column = next((c for c in GROUP_COLUMNS if c in header), None)

    others = [c for c in header if c not in _KNOWN and not c.startswith("votes_")]
    place = str(root)
    rows, raw_votes, labels = [], [], set(vote_columns.values())
    for line, values in table:
        if len(values) != len(header):
            raise ManifestError(
                path, line, f"{len(values)} cells under a header of {len(header)}: quote names that hold commas"
            )
        cells = dict(zip(header, values, strict=True))
        cell = _Line(path, line, cells)
        name = cell.text("path")
        if not name:
            raise ManifestError(path, line, "no path")
        label = cell.text("label") or None
        if label is not None and vote_columns and label.lower() in NOT_CLASSES:
            label = None
        if label is not None:
            labels.add(label)
        raw_votes.append([cell.number(c, 0, math.inf) or 0.0 for c in vote_columns])
        split = cell.text("split").lower() or None
        fold = cell.number("fold", -math.inf, math.inf)
        start, end = cell.number("start", 0, math.inf), cell.number("end", 0, math.inf)
        if start is not None and end is not None and end <= start:
            raise ManifestError(path, line, f"end {end:g} does not lie behind start {start:g}")
        if fold is not None and fold != int(fold):
            raise ManifestError(path, line, f"fold is a whole number, found {fold}")
        name = _path(name)
        file = os.path.join(place, name)
        extra = {k: cells[k] for k in others}
        stem, suffix = os.path.splitext(file)
        if "sound" in extra:
            sound = extra.pop("sound").strip()
            extra |= {"sound": os.path.join(place, _path(sound))} if sound else {}
        if extra.get("va_file"):
            extra["va_file"] = os.path.join(place, _path(extra["va_file"]))
        elif suffix.lower() not in PICTURES and os.path.isfile(f"{stem}.va.csv"):
            extra["va_file"] = f"{stem}.va.csv"
        rows.append(
            Row(
                id=key(name),
                path=file,
                label=label,
                valence=cell.number("valence", -1, 1, ignore=-5),
                arousal=cell.number("arousal", -1, 1, ignore=-5),
                split=SPLIT_NAMES.get(split, split) if split else None,
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
    classes = class_order(root, labels)
    if vote_columns:
        at = {name: i for i, name in enumerate(vote_columns.values())}
        order = [at.get(c, -1) for c in classes]
        for i, votes in enumerate(raw_votes):
            ordered = [votes[j] if j >= 0 else 0.0 for j in order]
            label = rows[i].label if "label" in header else plurality(ordered, classes)
            rows[i] = replace(rows[i], votes=share(ordered), label=label)
    return Manifest(path.parent.resolve().name, root, classes, tuple(unique_ids(rows, root)))


@dataclass(frozen=True)
class _Line:
    """The cells of one line; what is wrong with one is said with its column."""

    path: Path
    line: int
    cells: Mapping[str, str]

    def text(self, column: str) -> str:
        return (self.cells.get(column) or "").strip()

    def number(self, column: str, low: float, high: float, ignore: float | None = None) -> float | None:
        text = self.text(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            raise ManifestError(self.path, self.line, f"{column} is not a number: {text!r}") from None
        if value == ignore or (math.isnan(value) and text.lower() == "nan"):
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
