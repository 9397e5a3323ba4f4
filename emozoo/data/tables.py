"""Tables of users: a csv or parquet file to a manifest, and per-frame labels to arrays.

Columns of a file: ``path`` (needed; relative to the file's folder) and any of ``label``, ``valence``, ``arousal``,
``split``, ``fold``, ``group`` (or ``identity``, ``actor``, ``subject``, ``speaker``), ``start``, ``end``, ``x1``,
``y1``, ``x2``, ``y2`` and ``votes_<class>``. ``va_file`` (relative too; default ``<clip>.va.csv`` beside the clip)
holds valence and arousal per frame. ``sound`` (relative too) is a media file with the audio of a clip that has none,
such as a folder of frames; where it is the video that the frames were taken from, it gives their rate too. Every other
column is text in :attr:`emozoo.data.manifest.Row.extra`. Upper and lower case, blanks, ``_`` and ``-`` in these names
do not matter; ``file``, ``filename`` and ``filepath`` are understood as ``path``, and ``class``, ``labels`` and
``emotion`` as ``label`` where there is neither a label nor votes.

An empty cell is a missing value, and so is one that holds the word of pandas, R or Excel for it
(:func:`emozoo.data.manifest.missing`). Labels that differ only in case, in blanks or in ``.0`` are one class. What was
read otherwise than it was written is in :attr:`emozoo.data.manifest.Manifest.findings`.
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from emozoo.data.manifest import (
    IMAGES,
    Finding,
    Manifest,
    Row,
    cell_text,
    class_names,
    key,
    missing,
    normalize_votes,
    plain_name,
    plurality,
    some,
    split_key,
    split_name,
    text_file,
    understood_splits,
    unique_ids,
)
from emozoo.errors import DatasetError, ManifestError

GROUP_COLUMNS = ("group", "identity", "actor", "subject", "speaker")
BOX_COLUMNS = ("x1", "y1", "x2", "y2")
# Answers of raters that name no emotion: such vote columns are never classes.
NOT_CLASSES = ("unknown", "nf")
_KNOWN = {"path", "label", "valence", "arousal", "split", "fold", "start", "end", *BOX_COLUMNS, *GROUP_COLUMNS}
_PATH_COLUMNS, _LABEL_COLUMNS = ("file", "filename", "filepath"), ("class", "labels", "emotion")
_SPLIT_LIKE = ("set", "subset", "dataset", "usage", "partition", "phase")  # columns that often hold a split


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
    table = read_table(path)
    header = _header(path, next(table, (1, []))[1])
    boxes = [c for c in BOX_COLUMNS if c in header]
    if boxes and len(boxes) < 4:
        raise ManifestError(path, 1, f"a box needs all of {', '.join(BOX_COLUMNS)}, found {', '.join(boxes)}")
    vote_columns = {c: c.removeprefix("votes_") for c in header if c.startswith("votes_")}
    vote_columns = {c: name for c, name in vote_columns.items() if name.lower() not in NOT_CLASSES}
    group_column = next((c for c in GROUP_COLUMNS if c in header), None)

    others = [c for c in header if c and c not in _KNOWN and not c.startswith("votes_")]
    folder = str(root)
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
        file = os.path.normpath(os.path.join(folder, _path(name)))
        extra = {k: cells[k] for k in others}
        stem, suffix = os.path.splitext(file)
        if "sound" in extra:
            del extra["sound"]
            extra |= {"sound": os.path.join(folder, _path(audio))} if (audio := cell.text("sound")) else {}
        if va_file := cell.text("va_file"):
            extra["va_file"] = os.path.join(folder, _path(va_file))
        else:
            extra.pop("va_file", None)
            if suffix.lower() not in IMAGES and os.path.isfile(f"{stem}.va.csv"):
                extra["va_file"] = f"{stem}.va.csv"
        rows.append(
            Row(
                id=key(os.path.relpath(file, folder) if file.startswith(folder + os.sep) else _path(name)),
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


def read_va(path: Path | str) -> np.ndarray:
    """Per-frame valence and arousal, float32 (frames, 2) in [-1, 1]; frames to ignore are nan in both columns.

    The format of Aff-Wild2: a header line ``valence,arousal``, then one pair a frame, -5 in either = ignore. Raises
    ManifestError for a line that is no such pair.
    """
    path = Path(path)
    with text_file(path) as file:
        lines = file.read().rstrip().splitlines()
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


def _unlabelled(rows: Sequence[Row], written: Sequence[str]) -> list[Finding]:
    """Rows without a label in a table where others have one; those with valence have something else.

    ``written``: what stood in the column of the label.
    """
    plain = [r.label is None and r.valence is None and "va_file" not in r.extra for r in rows]
    if not any(plain) or not any(r.label for r in rows):
        return []
    words = Counter(text for text, without in zip(written, plain, strict=True) if without)
    cells = ", ".join(f"{text or 'empty'}: {n}" for text, n in words.most_common())
    names = some(r.id for r, without in zip(rows, plain, strict=True) if without)
    text = f"{sum(plain)} of {len(rows)} rows have no label ({cells}) and are neither trained on nor scored: {names}"
    return [Finding("missing_label", "label", text, "write the label, or take the row out of the table")]


def _odd_splits(rows: Sequence[Row]) -> list[Finding]:
    """Names of splits that are not understood, and rows without a split where others have one."""
    count = Counter(r.split for r in rows)
    found = [
        Finding(
            "unknown_split",
            s,
            f"{n} rows are in this split, which is not understood",
            f"rename it. {understood_splits()}",
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
    """Columns with content that is not read: one without a name, or one that looks like a split under another name."""
    found = []
    for i, texts in beside.items():
        if any(texts) and list(texts) != [str(n) for n in range(len(texts))]:  # the row numbers of pandas
            text = f"column {i + 1} has no name, so it is not read: {some(dict.fromkeys(filter(None, texts)))}"
            found.append(Finding("unnamed_column", f"column {i + 1}", text, "name it in the header, or delete it"))
    for column, texts_ in others.items():
        if plain_name(column) in _SPLIT_LIKE and all(split_name(t) or missing(t) for t in texts_) and any(texts_):
            text = f"the column {column!r} looks like a split ({some(sorted(texts_))}) and is not read"
            found.append(Finding("unread_column", column, text, "name it 'split', or delete it"))
    return found


@dataclass(frozen=True)
class _Line:
    """The cells of one line; errors name the column."""

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


def read_table(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells (text) of every line of a csv or parquet file that is not blank; the first is the header.

    Raises DatasetError for a file that cannot be read, with what to do about an Excel workbook or UTF-16.
    """
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
            yield i + 2, [cell_text(v) for v in cells]  # a column of whole numbers with gaps comes as floats
        return
    try:
        with path.open("rb") as raw:
            head = raw.read(512)
    except OSError as e:
        raise DatasetError(f"{path}: cannot be read ({e.strerror})") from e
    _refuse_foreign(path, head)
    with text_file(path) as file:
        reader = csv.reader(file, skipinitialspace=True)
        for cells in reader:
            if any(map(str.strip, cells)):  # spreadsheets write rows of nothing but commas
                yield reader.line_num, cells


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
    known = {plain_name(c): c for c in (*_KNOWN, "va_file", "sound")}
    names = []
    for cell in map(str.strip, cells):
        if re.fullmatch(r"(Unnamed: \d+)?", cell):
            names.append("")
        elif cell.lower().startswith("votes_"):
            names.append("votes_" + cell[len("votes_") :])
        else:
            names.append(known.get(plain_name(cell), cell))
    has_votes = any(n.startswith("votes_") for n in names)
    for column, others in (("path", _PATH_COLUMNS), ("label", _LABEL_COLUMNS)):
        like = [i for i, n in enumerate(names) if plain_name(n) in others]
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
    """Lines with exactly as many cells as the header: spreadsheets leave out, or add, empty cells at the end."""
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
