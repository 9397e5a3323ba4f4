"""Targets: the labels of a row as tensors for a model's classes.

Legend: B = batch, C = clips, F = frames in a clip, K = classes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emozoo.batch import IGNORE
from emozoo.data import datasets, sampling
from emozoo.data.clips import RawClip
from emozoo.data.manifest import Row
from emozoo.data.tables import read_table, read_va
from emozoo.errors import DatasetError, ManifestError, UsageError
from emozoo.files import resolve_path
from emozoo.labels import canonical, circumplex_point, class_mapping


class Labels:
    """Turns rows into target tensors for a model's ``classes``.

    A batch gets ``emotion`` (B,) or, where any row of the set has votes, (B, K) soft; ``va`` (B, C, 2) with
    ``va_mask`` (B, C) where valence and arousal are known; ``teacher`` (B, K), NaN where there is none.

    Args:
        rows: all rows that targets are made of.
        data_classes: the classes that their labels and votes are named by.
        classes: the classes of the model, in its order.
        label_map: name of a label map, needed where the two differ.
        teacher: probabilities (K,) of another network by media file, see :func:`read_teachers`.
        circumplex: rows without valence and arousal get those of their class.
        sampling: rule by which clips are sampled; it decides which frame carries a clip's label.

    Raises UsageError for classes that differ without a label map.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        data_classes: Sequence[str],
        classes: Sequence[str],
        label_map: str | None,
        teacher: Mapping[str, np.ndarray] | None = None,
        circumplex: bool = False,
        sampling: str = "trailing",
    ) -> None:
        self.classes, self.teacher, self.sampling = tuple(classes), teacher, sampling
        self.points = [circumplex_point(c) if circumplex else None for c in self.classes]
        self.index: dict[str, int] = {}
        if classes and data_classes:
            known = {d: m for d in data_classes for m in classes if canonical(d) == canonical(m)}
            mapping = known if set(known) == set(data_classes) else class_mapping(data_classes, classes, label_map)
            self.index = {d: self.classes.index(m) for d, m in mapping.items()}
        self.data_classes = tuple(data_classes)
        self.columns = [self.index.get(d, -1) for d in data_classes]
        self.soft = any(r.votes is not None for r in rows)
        self.has_va = any(self.points) or any(r.valence is not None or "va_file" in r.extra for r in rows)

    def number(self, row: Row) -> int:
        """The class number of a row; -1 where it has none (a tie, or a class that the model does not know)."""
        return self.index.get(row.label, -1) if row.label else -1

    def soft_row(self, row: Row) -> np.ndarray:
        """Fractions (K,) of the votes, or 1 for the one label; they sum to 1, or all are 0 for a row without class."""
        out = np.zeros(len(self.classes), np.float32)
        if row.votes is not None:
            for column, votes in zip(self.columns, row.votes, strict=True):
                if column >= 0:
                    out[column] += votes
        elif self.number(row) >= 0:
            out[self.number(row)] = 1.0
        total = float(out.sum())
        return out / total if total > 0 else out

    def prior(self, rows: Sequence[Row]) -> np.ndarray | None:
        """Fraction of each class among the labels of rows (K,), votes counted as such; None where none has a class."""
        total = np.sum([self.soft_row(r) for r in rows], 0) if self.index and rows else np.zeros(1)
        return np.asarray(total / total.sum(), np.float32) if total.sum() > 0 else None

    def usable(self, row: Row) -> bool:
        """Whether a row can be trained on: it has a class of the model, or valence and arousal."""
        return (
            (bool(self.index) and float(self.soft_row(row).sum()) > 0)
            or row.valence is not None
            or "va_file" in row.extra
        )

    def targets(self, rows: Sequence[Row], raws: Sequence[RawClip]) -> dict[str, Tensor]:
        """The target tensors of B rows and the clips that were read of them."""
        out: dict[str, Tensor] = {}
        if self.index:
            if self.soft:
                out["emotion"] = torch.from_numpy(np.stack([self.soft_row(r) for r in rows]))
            else:
                numbers = [self.number(r) for r in rows]
                out["emotion"] = torch.tensor([n if n >= 0 else IGNORE for n in numbers])
            if self.teacher is not None:
                empty = np.full(len(self.classes), np.nan, np.float32)
                out["teacher"] = torch.from_numpy(np.stack([self.teacher.get(media_file(r), empty) for r in rows]))
        if self.has_va:
            pairs = zip(rows, raws, strict=True)
            va = np.stack([_clip_va(self._with_class_va(row), raw, self.sampling) for row, raw in pairs])
            reached = np.stack([np.any([m.any(-1) for m in raw.masks.values()], 0) for raw in raws])
            mask = np.isfinite(va).all(-1) & reached
            out["va"] = torch.from_numpy(np.where(mask[..., None], va, 0.0).astype(np.float32))
            out["va_mask"] = torch.from_numpy(mask)
        return out

    def _with_class_va(self, row: Row) -> Row:
        """The row with the valence and arousal of its class, where it has none of its own and they are to be used."""
        point = self.points[self.number(row)] if self.points and self.number(row) >= 0 else None
        if point is None or row.valence is not None or "va_file" in row.extra:
            return row
        return replace(row, valence=point[0], arousal=point[1])


_frame_va = lru_cache(maxsize=256)(read_va)  # a film of Aff-Wild2 has some ten thousand lines and is drawn often


def _clip_va(row: Row, raw: RawClip, rule: str) -> np.ndarray:
    """Valence and arousal (C, 2) of each clip of a row, by a sampling rule; NaN where unlabelled."""
    clips = len(raw.times)
    if "va_file" in row.extra:
        table = _frame_va(row.extra["va_file"])
        frames = next((f for f in raw.frames.values() if (f >= 0).any()), None)
        if frames is None:
            return np.full((clips, 2), np.nan, np.float32)
        table = np.concatenate([table, np.full((1, 2), np.nan, np.float32)])  # frames behind the last label have none
        return table[np.minimum(frames[:, sampling.label_frame(frames.shape[1], rule)], len(table) - 1)]
    if row.valence is None or row.arousal is None:
        return np.full((clips, 2), np.nan, np.float32)
    return np.tile(np.array([row.valence, row.arousal], np.float32), (clips, 1))


def media_file(row: Row) -> str:
    """The media file of a row, absolute; of an item in a store the file that it was made from."""
    return os.path.abspath(row.extra.get("source", row.path))


def read_teachers(tables: Sequence[str], classes: Sequence[str]) -> dict[str, np.ndarray] | None:
    """Another network's probabilities (K,) by absolute media file, from tables ``path,<class>,...``; None without any.

    Paths are relative to their table; columns of other classes are not read, an empty cell is NaN.

    Raises DatasetError for a table that is missing or lacks a class, ManifestError for a cell that is no number.
    """
    if not tables:
        return None
    found: dict[str, np.ndarray] = {}
    for file in map(resolve_path, tables):
        if not file.is_file():
            raise DatasetError(f"{file}: no such file; teacher= takes tables path,<class>,...")
        found |= _read_teacher(file, classes)
    return found


def _read_teacher(file: Path, classes: Sequence[str]) -> dict[str, np.ndarray]:
    lines = read_table(file)
    header = [name.strip() for name in next(lines, (1, []))[1]]
    if "path" not in header:
        raise DatasetError(f"{file}: no column 'path'; teacher= takes tables path,<class>,...")
    columns = {canonical(name): i for i, name in enumerate(header) if name != "path"}
    if unknown := [c for c in classes if canonical(c) not in columns]:
        raise DatasetError(f"{file}: the teacher knows no class {', '.join(unknown)}")
    wanted, path = [columns[canonical(c)] for c in classes], header.index("path")
    found = {}
    for number, cells in lines:
        try:
            values = [float(cells[i]) if cells[i].strip() else np.nan for i in wanted]
            found[os.path.abspath(file.parent / cells[path])] = np.array(values, np.float32)
        except (ValueError, IndexError):
            raise ManifestError(file, number, f"expected a number for each class, found {','.join(cells)}") from None
    return found


def further_rows(settings: Mapping[str, Any], classes: Sequence[str], labels: Labels) -> list[Row]:
    """The rows of a further training set (``also=`` of EmotionDataModule), named by the first set's classes.

    Args:
        settings: ``dataset``, ``root`` and maybe ``split``, ``repeat``, ``labels``, ``label_map``.
        classes: the classes of the model, in its order.
        labels: those of the first set.

    Raises UsageError for other settings or a set with votes, DatasetError for a split that the set does not have.
    """
    known = ("dataset", "root", "split", "repeat", "labels", "label_map")
    if (odd := set(settings) - set(known)) or not {"dataset", "root"} <= set(settings):
        wrong = f"has no {', '.join(sorted(odd))}" if odd else f"needs dataset and root, got {dict(settings)}"
        raise UsageError(f"a further training set (also=) {wrong}; it takes {', '.join(known)}")
    root = resolve_path(settings["root"])
    part = datasets.load(str(settings["dataset"]), root)
    wanted = settings.get("split", "train")
    rows = [r for r in part.rows if r.split == wanted] or [r for r in part.rows if r.split is None]
    if not rows:
        there = ", ".join(sorted({str(r.split) for r in part.rows}))
        raise DatasetError(f"{part.root}: no split '{wanted}' for a further training set; there are {there}")
    n = int(settings.get("repeat", 1))
    if not settings.get("labels", True):
        return [replace(r, label=None, votes=None, valence=None, arousal=None) for r in rows] * n
    own = Labels(rows, part.classes, classes, settings.get("label_map"))
    rows = [r for r in rows if own.usable(r)]
    if any(r.votes is not None for r in rows):
        raise UsageError("a further training set must have plain labels; put the set with votes first")
    first = {number: name for name, number in labels.index.items()}
    for number in sorted({own.number(r) for r in rows} - {-1} - first.keys()):  # classes that the first set lacks
        name = classes[number]
        first[number] = f"{name} (also)" if name in labels.data_classes else name
        labels.index[first[number]] = number
    return [replace(r, label=first.get(own.number(r))) for r in rows] * n
