"""Features of a frozen encoder: the dataset of them, its file, and the key under which the file is found again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from emozoo.batch import Batch
from emozoo.data.manifest import Row
from emozoo.data.streams import streams_of
from emozoo.data.targets import Labels, media_file
from emozoo.data.transforms import Augment
from emozoo.spec import ClipSpec, stored_names

Tensors = dict[str, Tensor]


class FeatureDataset(Dataset[list[Tensors]]):
    """Features of every clip, some augmented draws of each; one item is inputs, masks and targets of one draw.

    Features are held in half precision, those of a still once. A row that could not be read is left out: ``rows``
    lists the numbers of the others, ``draws`` maps such a number to its items.
    """

    def __init__(self) -> None:
        self.draws: dict[int, list[list[Tensors]]] = {}
        self.rows: list[int] = []

    def add(self, features: Mapping[str, Tensor], batch: Batch) -> None:
        """Adds the features of one batch, one draw of each of ``batch.rows``."""
        for n, row in enumerate(batch.rows):
            inputs = {k: _compact(f[n]) for k, f in features.items()}
            rest = [{k: x[n].clone() for k, x in part.items()} for part in (batch.masks, batch.targets)]
            self.draws.setdefault(row, []).append([inputs, *rest])
        self.rows = list(self.draws)

    def save(self, path: Path) -> None:
        """Writes everything to one file, by renaming. Raises OSError, also where torch puts another error over it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with part.open("wb") as file:
                torch.save(self.draws, file)
            os.replace(part, path)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise
        finally:
            part.unlink(missing_ok=True)

    @staticmethod
    def load(path: Path) -> FeatureDataset:
        """The dataset that :meth:`save` wrote, read from its file item by item: it may be larger than the memory."""
        stored = FeatureDataset()
        stored.draws = torch.load(path, weights_only=True, mmap=True)
        stored.rows = list(stored.draws)
        return stored

    def select(self, rows: Sequence[int]) -> FeatureDataset:
        """The features of these rows, whose numbers are then their places in ``rows``."""
        chosen = FeatureDataset()
        chosen.draws = {n: self.draws[row] for n, row in enumerate(rows) if row in self.draws}
        chosen.rows = list(chosen.draws)
        return chosen

    def __len__(self) -> int:
        return len(self.draws)

    def __getitem__(self, item: int | tuple[int, int]) -> list[Tensors]:
        index, seed = item if isinstance(item, tuple) else (item, int(torch.randint(2**31, ())))
        found = self.draws[self.rows[index]]
        return found[seed % len(found)]


def _compact(x: Tensor) -> Tensor:
    """A half-precision copy on the CPU in the same shape; values that an expanded tensor repeats are stored once."""
    return x[tuple(slice(0, 1) if step == 0 else slice(None) for step in x.stride())].half().cpu().expand(x.shape)


def collate_features(items: list[list[Tensors]]) -> Batch:
    """Features to one Batch, whose ``encoded`` is true."""
    inputs, masks, targets = ({k: torch.stack([x[i][k] for x in items]) for k in items[0][i]} for i in range(3))
    return Batch({k: x.float() for k, x in inputs.items()}, masks, targets, {"id": [""] * len(items)}, encoded=True)


def feature_key(
    spec: ClipSpec,
    augment: Mapping[str, Augment],
    settings: tuple[Any, ...],
    rows: Sequence[Row],
    labels: Labels,
    encoder: Mapping[str, Tensor],
) -> str:
    """A hash, 32 hexadecimal digits, of everything that features and their targets depend on.

    Args:
        spec, augment: how clips are read and augmented. Fields that have their defaults do not count, so that keys stay
            the same when a field is added.
        settings: further settings, whose ``repr`` is hashed.
        rows: the rows that are encoded; size and time of the last change of their files count, too.
        labels: what makes the targets.
        encoder: parameters and buffers of the encoder by name.
    """
    changed = [_changed_fields(x) for x in (spec, *spec.streams.values(), *augment.values())]
    names = (list(spec.streams), list(augment))
    key = hashlib.sha256(stored_names((changed, names, *settings)).encode())
    streams = streams_of(spec).values()
    for name, value in encoder.items():
        key.update(name.encode() + value.cpu().numpy().tobytes())
    for row in rows:
        file = Path(row.path)
        beside = [Path(row.extra[k]) for k in ("sound", "va_file") if k in row.extra]
        beside += [f for s in streams for f in s.files(row.path)]
        images = sorted(file.iterdir()) if file.is_dir() else ()
        states = [(f.stat().st_size, f.stat().st_mtime_ns) for f in (file, *beside, *images) if f.exists()]
        taught = None if labels.teacher is None else labels.teacher.get(media_file(row))
        key.update(repr((row, states, labels.classes, taught)).encode())
    return key.hexdigest()[:32]


def _changed_fields(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, but for mappings."""
    values = {f.name: (getattr(settings, f.name), f.default) for f in fields(settings)}
    return {k: v for k, (v, default) in values.items() if v != default and not isinstance(v, Mapping)}
