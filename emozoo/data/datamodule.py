"""EmotionDataModule: any data set for any model. The same decoding, views and sampling in training and evaluation.

Legend: B = batch, C = clips, K = classes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler
from torch.utils.data.distributed import DistributedSampler

from emozoo import files
from emozoo.batch import IGNORE, Batch
from emozoo.data import datasets, splits, store
from emozoo.data.clips import ClipReader, RawClip, file_errors, to_batch
from emozoo.data.manifest import Manifest, Row, read_va
from emozoo.data.media import is_image
from emozoo.data.splits import fold_of as fold_of
from emozoo.data.streams import streams_of
from emozoo.data.transforms import Augment
from emozoo.errors import DatasetError, EmozooError, UsageError, VideoError
from emozoo.files import resolve_path
from emozoo.labels import canonical, circumplex_point, class_mapping
from emozoo.spec import ClipSpec, stored_names


def read_row(row: Row, spec: ClipSpec, rng: np.random.Generator | None = None) -> RawClip:
    """One manifest row as a decoded clip, by the one path that prediction uses too. Raises VideoError."""
    with file_errors(row.path), ClipReader.of(row, spec) as reader:
        return reader.read(rng=rng)


_log = logging.getLogger(__name__)
TRIES = 100  # clips that may take an unreadable one's place before training gives up


class Sample(NamedTuple):
    """What one number of a batch became."""

    clip: RawClip | EmozooError  # an error that is no VideoError ends the run
    row: int
    seed: int  # of its augmentation
    skipped: Sequence[VideoError] = ()  # rows in whose place this one stands


class ClipDataset(Dataset[Sample]):
    """Rows to decoded clips. In training another row, drawn by the seed, takes the place of one that cannot be read.

    ``kept`` holds clips that were decoded before (:meth:`preload`), one or more draws of frames per row.
    """

    def __init__(self, rows: Sequence[Row], spec: ClipSpec, *, train: bool) -> None:
        self.rows, self.spec, self.train = list(rows), spec, train
        self.kept: list[list[RawClip | VideoError]] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int | tuple[int, int]) -> Sample:
        # Without a seed from the sampler: torch's generator differs per worker and epoch; albumentations' own does not.
        index, seed = item if isinstance(item, tuple) else (item, int(torch.randint(2**31, ())))
        try:
            return self._sample(index, seed)
        except EmozooError as error:  # not of the clip: the detector is not to be had, say
            return Sample(error, index, seed)

    def _sample(self, index: int, seed: int) -> Sample:
        clip = self._read(index, seed)
        skipped: list[VideoError] = []
        if self.train and isinstance(clip, VideoError):
            for another in np.random.default_rng(seed).integers(len(self.rows), size=TRIES).tolist():
                skipped.append(clip)
                index, clip = another, self._read(another, seed)
                if not isinstance(clip, VideoError):
                    break
        return Sample(clip, index, seed, skipped)

    def _read(self, index: int, seed: int) -> RawClip | VideoError:
        if self.kept is not None:
            draws = self.kept[index]
            return _spread(draws[seed % len(draws)])  # worker processes may hold it as a full array
        rng = np.random.default_rng([seed, 3]) if self.train else None  # apart from the draws of the augmentation
        return _read_or_error(self.rows[index], self.spec, rng)

    def preload(self, draws: int, workers: int) -> None:
        """Decodes every row ``draws`` times into memory, with a progress bar; training then never waits for a decoder.

        Clips that this process decoded before under the same spec (another fold's, say) are taken from there, unless
        their file has changed since or could not be read.
        """
        from rich.progress import track

        wanted = tuple(range(draws)) if self.train and draws else (None,)
        keys = [
            (row.path, _stamp(row.path), row.extra.get("sound"), row.start, row.end, row.box, str(self.spec), wanted)
            for row in self.rows
        ]
        todo = [i for i, key in enumerate(keys) if key not in _DECODED]
        jobs = [(self.rows[i], self.spec, wanted) for i in todo]
        # Without workers in this process: starting others takes seconds.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) if workers else nullcontext() as pool:
            found = map(_preload_one, jobs) if pool is None else pool.map(_preload_one, jobs, chunksize=16)
            for i, raws in zip(todo, track(found, "decoding", len(todo), disable=not todo), strict=True):
                _DECODED[keys[i]] = [_spread(raw) for raw in raws]
        self.kept = [_DECODED[key] for key in keys]
        for key, clips in zip(keys, self.kept, strict=True):
            if any(isinstance(clip, VideoError) for clip in clips):
                _DECODED.pop(key, None)


_DECODED: dict[tuple[Any, ...], list[RawClip | VideoError]] = {}


def _stamp(path: str) -> tuple[int, int] | None:
    """Size and time of the last change of a file; None where there is none, as for an item of a store."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def _spread(raw: RawClip | VideoError) -> RawClip | VideoError:
    """Holds a still once, however many frames show it: what crosses processes comes back as full arrays."""
    if isinstance(raw, RawClip):
        for name, x in raw.streams.items():
            seen = raw.frames[name][raw.masks[name]]
            full = raw.masks[name].all() and x.strides[:2] != (0, 0)
            if full and seen.flat[0] >= 0 and (seen == seen.flat[0]).all():
                raw.streams[name] = np.broadcast_to(x[:1, :1].copy(), x.shape)
    return raw


def _read_or_error(row: Row, spec: ClipSpec, rng: np.random.Generator | None) -> RawClip | VideoError:
    try:
        return read_row(row, spec, rng)
    except VideoError as error:
        return error


def _preload_one(job: tuple[Row, ClipSpec, tuple[int | None, ...]]) -> list[RawClip | VideoError]:
    """All wanted draws of one row through one open file, so that its faces are looked for once."""
    row, spec, draws = job
    found: list[RawClip | VideoError] = []
    try:
        with file_errors(row.path), ClipReader.of(row, spec) as reader:
            for draw in draws:
                key = hashlib.sha1(f"{row.id}:{draw}".encode()).digest()
                rng = None if draw is None else np.random.default_rng(int.from_bytes(key[:8], "big"))
                found.append(reader.read(rng=rng))
                if reader.is_still:
                    break  # every draw of a still is the same
    except VideoError as error:
        return [error]
    return found


def _process() -> tuple[int, int]:
    """Which process this is, and of how many, by torch itself."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class Strided(DistributedSampler[int]):
    """Every ``world``-th index from ``rank``: nothing padded, nothing dropped, so that metrics are exact.

    Without ``rank`` and ``world`` torch is asked when the first index is. A DistributedSampler, since Lightning puts
    one of its own, which repeats items until all processes have as many, in the place of any other sampler.
    """

    def __init__(self, size: int, rank: int | None = None, world: int | None = None) -> None:
        super().__init__(range(size), num_replicas=1, rank=0, shuffle=False)  # type: ignore[arg-type]
        self.size, self.place = size, None if rank is None or world is None else (rank, world)

    @property
    def indices(self) -> range:
        rank, world = self.place or _process()
        return range(rank, self.size, world)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


class _Seeded(DistributedSampler[tuple[int, int]]):
    """The numbers of another sampler without the first ``skip``; each brings a seed.

    Order and seeds follow from ``seed`` alone, whatever processes decode them and have decoded before. A
    DistributedSampler for the same reason as :class:`Strided`: the other sampler has dealt to processes already.
    """

    def __init__(self, order: Any) -> None:
        super().__init__(order, num_replicas=1, rank=0, shuffle=False)
        self.order, self.seed, self.skip = order, 0, 0

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self.order, "set_epoch"):
            self.order.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        skip, seeds = self.skip, torch.Generator().manual_seed(self.seed)
        if hasattr(self.order, "generator"):
            self.order.generator = torch.Generator().manual_seed(self.seed)
        for n, index in enumerate(self.order):
            drawn = int(torch.randint(2**31, (1,), generator=seeds))
            if n >= skip:
                yield index, drawn

    def __len__(self) -> int:
        return len(self.order)


class _Raising(DataLoader[Any]):
    """Raises in this process what went wrong in another: an error that torch carries over loses its kind and line."""

    @property
    def class_prior(self) -> np.ndarray | None:
        """Share of each class among the labels of its rows (K,); None without classes, and for kept features."""
        collate = self.collate_fn
        return collate.labels.prior(collate.rows) if isinstance(collate, Collate) else None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes that labels are numbers of; None for kept features."""
        return self.collate_fn.labels.classes if isinstance(self.collate_fn, Collate) else None

    @property
    def spec(self) -> ClipSpec | None:
        """What batches hold; None for kept features."""
        return self.collate_fn.spec if isinstance(self.collate_fn, Collate) else None

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            if isinstance(batch, EmozooError):
                raise batch
            yield batch


class EvalLoader(_Raising):
    """Every row once over all processes, in the order of the rows, whatever sampler a Trainer would rather have.

    A process that no row falls to gets one empty batch (None): the others wait for it when metrics are put together.
    """

    def __init__(
        self, dataset: Dataset[Any], *, sampler: Any = None, batch_sampler: Any = None, **options: Any
    ) -> None:
        if batch_sampler is None and not isinstance(sampler, Strided):
            sampler = Strided(len(dataset))  # type: ignore[arg-type]
        super().__init__(dataset, sampler=sampler, batch_sampler=batch_sampler, **options)

    def __iter__(self) -> Any:
        empty = True
        for batch in super().__iter__():
            empty = False
            yield batch
        if empty:
            yield None

    def __len__(self) -> int:
        return max(1, super().__len__())


class TrainLoader(_Raising):
    """Goes on in the middle of an epoch: a checkpoint holds how many batches of which epoch were given.

    After loading the state, the next iteration leaves out what was given, undecoded. Order and augmentation follow from
    ``seed``, the epoch and the process (``rank`` of ``world``), so they are those of a run that was not stopped, on as
    many processes. No number is drawn from torch's generator. ``epoch_of``: says which epoch begins; else they are
    counted. ``sampler``: what a Trainer puts in its place to overfit some batches; rows then come in their order.

    Raises UsageError when iterated by another number of processes than it was made for.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batches: BatchSampler,
        seed: int = 0,
        rank: int = 0,
        epoch_of: Callable[[], int] | None = None,
        world: int = 1,
        *,
        sampler: Any = None,
        **options: Any,
    ) -> None:
        size = len(dataset)  # type: ignore[arg-type]
        order = batches.sampler if sampler is None else Strided(size // world * world, rank, world)
        # A generator of its own, since starting processes draws a number.
        super().__init__(
            dataset, batch_size=batches.batch_size, drop_last=batches.drop_last, sampler=_Seeded(order),
            **{"generator": torch.Generator(), **options},
        )  # fmt: skip
        self._seed, self._rank, self._world, self._epoch_of = seed, rank, world, epoch_of
        self._epoch, self._given = -1, 0
        self._resumed = False

    def state_dict(self) -> dict[str, int]:
        return {"seed": self._seed, "epoch": self._epoch, "given": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._seed, self._epoch, self._given = state["seed"], state["epoch"], state["given"]
        # At the end of an epoch there is nothing to go on with: the next one is drawn anew.
        self._resumed = 0 < self._given < len(self)

    def __iter__(self) -> Any:
        if _process()[1] not in (1, self._world):
            raise UsageError(
                f"this loader was made for {self._world} process(es) and runs in {_process()[1]}: give the Trainer the "
                "data module, trainer.fit(model, datamodule=dm), not its loader"
            )
        if not self._resumed:
            self._epoch, self._given = self._epoch_of() if self._epoch_of else self._epoch + 1, 0
        self._resumed = False
        draw: Any = self.sampler
        words = np.random.SeedSequence([self._seed, self._epoch, self._rank]).generate_state(1, np.uint64)
        draw.seed, draw.skip = int(words[0] >> 1), self._given * (self.batch_size or 1)
        for batch in super().__iter__():
            self._given += 1
            yield batch


class Collate:
    """Decoded clips to one Batch: augmentation (training only), normalisation, targets. A picklable callable."""

    def __init__(
        self,
        rows: Sequence[Row],
        spec: ClipSpec,
        labels: Labels,
        augment: Mapping[str, Augment] | None,
        *,
        motion_share: float = 1.0,
        skip: bool,
    ) -> None:
        self.rows, self.spec, self.labels, self.augment, self.skip = rows, spec, labels, augment, skip
        self.motion_share = motion_share
        self.still_augment = augment and {k: replace(a, motion=0.0) for k, a in augment.items()}

    def __call__(self, drawn: list[Sample]) -> Batch | EmozooError | None:
        """A batch, None where nothing of it could be read, or an error to raise (:class:`_Raising`)."""
        try:
            return self._batch(drawn)
        except EmozooError as error:  # labels per frame that are damaged, say
            return error

    def _batch(self, drawn: list[Sample]) -> Batch | EmozooError | None:
        for x in drawn:
            if isinstance(x.clip, EmozooError) and not isinstance(x.clip, VideoError):
                return x.clip
        bad = [e for x in drawn for e in (*x.skipped, x.clip) if isinstance(e, VideoError)]
        if bad and not self.skip:
            return bad[0]
        good = [(x.clip, x.row, x.seed) for x in drawn if not isinstance(x.clip, EmozooError)]
        if not good:
            if len(bad) > len(drawn):  # in training: other processes wait for a batch that will not come
                return DatasetError(f"{len(bad)} clips in a row cannot be read, the last: {bad[-1]}; run emozoo check")
            return None
        raws = [x for x, _, _ in good]
        rows = [self.rows[i] for _, i, _ in good]
        moves = good[0][2] % 1000 < 1000 * self.motion_share
        batch = to_batch(
            raws,
            self.spec,
            augment=self.augment if moves else self.still_augment,
            seeds=[s for _, _, s in good],
            ids=[r.id for r in rows],
        )
        batch.targets = self.labels.targets(rows, raws)
        batch.skipped = [str(e) for e in bad]
        batch.rows = [i for _, i, _ in good]
        return batch


class FeatureDataset(Dataset[list[dict[str, Tensor]]]):
    """What a frozen encoder makes of every clip, some augmented draws of each; one item = inputs, masks, targets.

    Features are held in half precision, those of a still once. A row that could not be read is left out.
    """

    def __init__(self) -> None:
        self.draws: dict[int, list[list[dict[str, Tensor]]]] = {}
        self.rows: list[int] = []

    def add(self, features: Mapping[str, Tensor], batch: Batch) -> None:
        """Takes the features of one batch, whose ``rows`` numbers its rows."""
        for n, row in enumerate(batch.rows):
            kept = {k: _compact(f[n]) for k, f in features.items()}
            rest = [{k: x[n].clone() for k, x in part.items()} for part in (batch.masks, batch.targets)]
            self.draws.setdefault(row, []).append([kept, *rest])
        self.rows = list(self.draws)

    def save(self, path: Path) -> None:
        """Writes everything to one file, by renaming."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            torch.save(self.draws, part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    @staticmethod
    def load(path: Path) -> FeatureDataset:
        """What :meth:`save` wrote, read from the file as it is needed: it may be larger than the memory."""
        kept = FeatureDataset()
        kept.draws = torch.load(path, weights_only=True, mmap=True)
        kept.rows = list(kept.draws)
        return kept

    def __len__(self) -> int:
        return len(self.draws)

    def __getitem__(self, item: int | tuple[int, int]) -> list[dict[str, Tensor]]:
        index, seed = item if isinstance(item, tuple) else (item, int(torch.randint(2**31, ())))
        found = self.draws[self.rows[index]]
        return found[seed % len(found)]


def _compact(x: Tensor) -> Tensor:
    """A half-precision copy on the CPU that holds what an expanded tensor repeats only once, and has its shape."""
    return x[tuple(slice(0, 1) if step == 0 else slice(None) for step in x.stride())].half().cpu().expand(x.shape)


def collate_features(items: list[list[dict[str, Tensor]]]) -> Batch:
    """Features to one Batch, whose ``encoded`` is true."""
    inputs, masks, targets = ({k: torch.stack([x[i][k] for x in items]) for k in items[0][i]} for i in range(3))
    return Batch({k: x.float() for k, x in inputs.items()}, masks, targets, {"id": [""] * len(items)}, encoded=True)


class Labels:
    """Turns rows into target tensors for a model's ``classes``.

    A batch gets ``emotion`` (B,) or, where any row of the set has votes, (B, K) soft; ``va`` (B, C, 2) with
    ``va_mask`` where valence and arousal are known; ``teacher`` (B, K), NaN where there is none.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        data_classes: Sequence[str],
        classes: Sequence[str],
        label_map: str | None,
        teacher: Mapping[str, np.ndarray] | None,
        circumplex: bool = False,
        trailing: bool = True,
    ) -> None:
        self.classes, self.teacher, self.trailing = tuple(classes), teacher, trailing
        self.points = [circumplex_point(c) if circumplex else None for c in self.classes]
        self.index: dict[str, int] = {}
        if classes and data_classes:
            known = {d: m for d in data_classes for m in classes if canonical(d) == canonical(m)}
            mapping = known if set(known) == set(data_classes) else class_mapping(data_classes, classes, label_map)
            self.index = {d: self.classes.index(m) for d, m in mapping.items()}
        self.columns = [self.index.get(d, -1) for d in data_classes]
        self.soft = any(r.votes is not None for r in rows)
        self.has_va = any(self.points) or any(r.valence is not None or "va_file" in r.extra for r in rows)

    def number(self, row: Row) -> int:
        """The class number of a row; -1 where it has none (a tie, or a class that the model does not know)."""
        return self.index.get(row.label, -1) if row.label else -1

    def soft_row(self, row: Row) -> np.ndarray:
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
        """Share of each class among the labels of rows (K,), votes counted as such; None where none has a class."""
        total = np.sum([self.soft_row(r) for r in rows], 0) if self.index and rows else np.zeros(1)
        return np.asarray(total / total.sum(), np.float32) if total.sum() > 0 else None

    def usable(self, row: Row) -> bool:
        """Whether a row can be trained on."""
        return (
            (bool(self.index) and float(self.soft_row(row).sum()) > 0)
            or row.valence is not None
            or "va_file" in row.extra
        )

    def targets(self, rows: Sequence[Row], raws: Sequence[RawClip]) -> dict[str, Tensor]:
        out: dict[str, Tensor] = {}
        if self.index:
            if self.soft:
                out["emotion"] = torch.from_numpy(np.stack([self.soft_row(r) for r in rows]))
            else:
                numbers = [self.number(r) for r in rows]
                out["emotion"] = torch.tensor([n if n >= 0 else IGNORE for n in numbers])
            if self.teacher is not None:
                empty = np.full(len(self.classes), np.nan, np.float32)
                out["teacher"] = torch.from_numpy(np.stack([self.teacher.get(_file_of(r), empty) for r in rows]))
        if self.has_va:
            va = np.stack([_va_of(self._placed(row), raw, self.trailing) for row, raw in zip(rows, raws, strict=True)])
            reached = np.stack([np.any([m.any(-1) for m in raw.masks.values()], 0) for raw in raws])
            mask = np.isfinite(va).all(-1) & reached
            out["va"] = torch.from_numpy(np.where(mask[..., None], va, 0.0).astype(np.float32))
            out["va_mask"] = torch.from_numpy(mask)
        return out

    def _placed(self, row: Row) -> Row:
        """The row with the valence and arousal of its class, where it has none of its own and they are to be used."""
        point = self.points[self.number(row)] if self.points and self.number(row) >= 0 else None
        if point is None or row.valence is not None or "va_file" in row.extra:
            return row
        return replace(row, valence=point[0], arousal=point[1])


def _changed(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults; of mappings the names alone."""
    values = {f.name: (getattr(settings, f.name), f.default) for f in fields(settings)}
    return {k: v for k, (v, default) in values.items() if v != default and not isinstance(v, Mapping)}


def _file_of(row: Row) -> str:
    """The media file of a row, absolute; of an item in a store the file that it was made from."""
    return os.path.abspath(row.extra.get("source", row.path))


def _windows(row: Row, spec: ClipSpec) -> list[Row]:
    """A row, or its windows (same id) where it has labels per frame: all of it is evaluated, not one window."""
    if "va_file" not in row.extra:
        return [row]
    try:
        with file_errors(row.path), ClipReader.of(row, spec) as reader:
            start, end = reader.start, min(reader.end, reader.duration)
    except VideoError:
        return [row]  # reading it will say so
    starts = spec.windows(start, end)
    return [replace(row, start=s, end=s + spec.window_s) for s in starts] if len(starts) > 1 else [row]


_per_frame = lru_cache(maxsize=256)(read_va)  # a film of Aff-Wild2 has some ten thousand lines and is drawn often


def _va_of(row: Row, raw: RawClip, trailing: bool) -> np.ndarray:
    """Valence and arousal (C, 2) at each clip's time; NaN where unlabelled."""
    clips = len(raw.times)
    if "va_file" in row.extra:
        table = _per_frame(row.extra["va_file"])
        frames = next((f for f in raw.frames.values() if (f >= 0).any()), None)
        if frames is None:
            return np.full((clips, 2), np.nan, np.float32)
        table = np.concatenate([table, np.full((1, 2), np.nan, np.float32)])  # frames behind the last label have none
        return table[np.minimum(frames[:, -1 if trailing else frames.shape[1] // 2], len(table) - 1)]
    if row.valence is None or row.arousal is None:
        return np.full((clips, 2), np.nan, np.float32)
    return np.tile(np.array([row.valence, row.arousal], np.float32), (clips, 1))


def _check_numbers(settings: Mapping[str, Any]) -> None:
    """Raises UsageError for numbers of an EmotionDataModule outside of their range."""
    whole = {"batch_size": 1, "num_workers": 0, "preload": 0, "features": 0, "seed": 0}
    for name, least in whole.items():
        x = settings[name]
        if isinstance(x, bool) or not isinstance(x, int) or x < least:
            raise UsageError(f"{name} must be a whole number, {least} or more, got {x!r}")
    ranges = {"balance": "0 or more and at most 1", "motion_share": "0 or more and at most 1"}
    ranges |= {"subset": "above 0 and at most 1", "val_share": "0 or more and below 1"}
    for name, said in ranges.items():
        x = settings[name]
        if x is None and name == "val_share":
            continue
        number = isinstance(x, int | float) and not isinstance(x, bool)
        if not number or not 0 <= x <= 1 or (name, x) in (("subset", 0), ("val_share", 1)):
            raise UsageError(f"{name} must be {said}, got {x!r}")


def _read_only(name: str) -> AttributeError:
    return AttributeError(
        f"{name} cannot be set: rows do not change under a loader; for others use dm.loader_of(rows), or a table of "
        "their own"
    )


@rank_zero_only
def _say(level: int, text: str) -> None:
    _log.log(level, text)


def _plain(x: Any) -> Any:
    """Mappings, sequences, paths and numbers of numpy as dict, list, str and numbers of Python."""
    if isinstance(x, ClipSpec):
        return _plain(x.to_dict())
    if isinstance(x, Mapping):
        return {str(k): _plain(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [_plain(v) for v in x]
    if isinstance(x, np.generic):
        return x.item()
    return str(x) if isinstance(x, Path) else x


class EmotionDataModule(L.LightningDataModule):
    """Any data set, any ClipSpec.

    Args:
        dataset: name of an adapter (``folder``, ``csv``, ``ferplus`` ...), or ``store``.
        root: where the data, or a store prepared from it, lies; it is only read, never written to.
        spec: what the model eats (a ClipSpec, or its dict as stored with weights).
        classes: class names in the model's order; None takes the data set's.
        split: part that is tested (and reported); None takes ``test``, else ``val``. Where the data have neither, a
            fifth of the rows without split and of ``train`` is dealt by class and ``seed``, the same in every stage;
            rows of one group or of one media file stay together. ``all`` tests every row and trains on none.
        fold, folds: with ``folds``, people are dealt into that many folds by a hash of ``group``, over all rows of
            splits train and val, and ``fold`` (0-based) is held out; without, the fold column of the data is used.
        val_share: None: the official ``val`` part validates, unless it is the tested one; else a tenth of the training
            rows does. A number: that share of the training rows is set apart by group, and an official ``val`` part
            that is not tested is used nowhere; 0 takes none, and the official ``val`` part validates, even if it is
            the tested one (then choose nothing by it).
        val_on_test: the tested rows validate where nothing else does: for fits in which nothing is chosen by it.
        also: further training sets, each ``{"dataset", "root"[, "split", "repeat", "labels"]}``; with ``labels`` false
            their images alone, for what a teacher says of them.
        teacher: csv files ``path,<class>,...`` of another network's probabilities, paths relative to the file.
        label_map: name of a label map where data and model have different classes.
        circumplex: trains clips without valence and arousal on those of their class, its point on Russell's circumplex
            (:func:`emozoo.labels.circumplex_point`). A network so trained knows no more of them than the classes say.
        augment: per stream, fields of :class:`emozoo.data.transforms.Augment`; training only.
        motion_share: share of the training batches that ``motion`` moves; in the others stills stand still, and a
            network that looks at every frame alone then encodes each image once.
        batch_size, num_workers: as in torch; ``preload`` > 0 decodes that many draws of each clip into memory first
            (with ``features`` of training clips stills alone).
        features: > 0 runs a frozen encoder over that many augmented draws of each clip, once, and trains on what it
            gave; kept below ``EMOZOO_HOME``, found again by a hash of encoder, spec and files. Refused for an encoder
            that learns.
        balance: 0 draws rows as they come, 1 draws every class equally often.
        subset: use only this share of the training rows (drawn by a seed), for quick trials.
        allow_missing: evaluation leaves out unreadable clips, and counts them, instead of stopping.
        seed: of splits and of ``subset``.

    ``setup`` logs once which rows train, validate and are tested. Rows are read-only; :meth:`loader_of` loads others.
    Under any Trainer, on any number of processes, each row is evaluated once, and training draws what
    ``emozoo train`` does. ``hparams`` are these arguments as plain types.

    Raises DatasetError, ManifestError, or UsageError for classes that do not fit, and for a split or fold that the data
    do not have.
    """

    def __init__(
        self,
        dataset: str,
        root: str | Path,
        *,
        spec: Any = None,
        classes: Sequence[str] | None = None,
        split: str | None = None,
        fold: int | None = None,
        folds: int | None = None,
        val_share: float | None = None,
        val_on_test: bool = False,
        also: list[dict[str, Any]] | None = None,
        teacher: list[str] | None = None,
        label_map: str | None = None,
        circumplex: bool = False,
        augment: dict[str, dict[str, Any]] | None = None,
        motion_share: float = 1.0,
        batch_size: int = 32,
        num_workers: int = 0,
        preload: int = 0,
        features: int = 0,
        balance: float = 0.0,
        subset: float = 1.0,
        allow_missing: bool = False,
        seed: int = 0,
    ) -> None:
        given = _plain({k: v for k, v in locals().items() if k not in ("self", "__class__")})
        super().__init__()
        if spec is None:
            raise UsageError("EmotionDataModule needs spec=, what the model eats: pass model.spec")
        self.spec = spec if isinstance(spec, ClipSpec) else ClipSpec.from_dict(spec)
        # Not into loggers: spec and classes are names of the model's too, whose own say the same otherwise.
        self.save_hyperparameters({**given, "spec": _plain(self.spec.to_dict())}, logger=False)
        self.allow_zero_length_dataloader_with_multiple_devices = True  # a process that no row falls to joins in
        self.dataset, self.root = dataset, resolve_path(root)
        self.classes = tuple(classes) if classes is not None else None
        self.split, self.fold, self.folds, self.val_share, self.val_on_test = split, fold, folds, val_share, val_on_test
        self.also, self.teacher_files, self.label_map = also or [], teacher or [], label_map
        self.circumplex = circumplex
        self.augment = {k: self._augment(k, v) for k, v in augment.items()} if augment else None
        self.batch_size, self.num_workers, self.preload, self.balance = batch_size, num_workers, preload, balance
        self.features = features
        self.subset, self.allow_missing, self.seed = subset, allow_missing, seed
        self.motion_share = motion_share
        _check_numbers(self.hparams)
        self.manifest: Manifest | None = None
        self._rows: dict[str, tuple[Row, ...]] = {"train": (), "val": (), "test": ()}
        self._dealt = "setup() was not called"
        self.skipped: list[str] = []
        self._sets: dict[str, ClipDataset] = {}
        self._drawn_from: int | None = None
        self._training: TrainLoader | None = None
        self._begun: dict[str, int] | None = None  # of a checkpoint: what the next training loader goes on with
        self._epochs = -1

    def _augment(self, stream: str, settings: Mapping[str, Any]) -> Augment:
        if stream not in self.spec.streams:
            raise UsageError(f"augment: no stream '{stream}'; there are {', '.join(self.spec.streams)}")
        if unknown := set(settings) - {f.name for f in fields(Augment)}:
            known = ", ".join(f.name for f in fields(Augment))
            raise UsageError(f"augment of '{stream}' has no {', '.join(sorted(unknown))}; there are {known}")
        return Augment(**settings)

    # -- rows ------------------------------------------------------------------------------------------------------

    @property
    def train_rows(self) -> tuple[Row, ...]:
        """Rows that are trained on, also those of further sets; empty before :meth:`setup`."""
        return self._rows["train"]

    @train_rows.setter
    def train_rows(self, rows: Any) -> NoReturn:
        raise _read_only("train_rows")

    @property
    def val_rows(self) -> tuple[Row, ...]:
        """Rows that validate; empty before :meth:`setup`."""
        return self._rows["val"]

    @val_rows.setter
    def val_rows(self, rows: Any) -> NoReturn:
        raise _read_only("val_rows")

    @property
    def test_rows(self) -> tuple[Row, ...]:
        """Rows that are tested; empty before :meth:`setup`."""
        return self._rows["test"]

    @test_rows.setter
    def test_rows(self, rows: Any) -> NoReturn:
        raise _read_only("test_rows")

    def setup(self, stage: str | None = None) -> None:
        """Reads the table and deals rows into training, validation and test; decodes nothing.

        The parts are the same for every ``stage``. What they are, and by which rule, is logged once: as a warning where
        a part was dealt here or an official one is used nowhere, else as information.
        """
        if self.manifest is not None:
            return
        manifest = datasets.load(self.dataset, self.root)
        if self.folds is not None or (self.fold is None and (self.split is None or stage in (None, "fit"))):
            manifest.require_known_splits(self.split)
        if store.is_store(self.root):
            store.open_store(self.root).require(self.spec)
        held = splits.held_out(manifest, split=self.split, fold=self.fold, folds=self.folds, seed=self.seed)
        classes = manifest.classes if self.classes is None else self.classes
        self.labels = Labels(
            [*held.rest, *held.test, *held.val], manifest.classes, classes, self.label_map, self._teachers(classes),
            self.circumplex, self.spec.sampling == "trailing",
        )  # fmt: skip
        usable = [r for r in held.rest if self.labels.usable(r)]
        train, val, how = splits.validation(held, usable, self.val_share, self.seed, on_test=self.val_on_test)
        val = [r for r in val if self.labels.usable(r)]
        idle = splits.unused(manifest, held.rest, val, held.test)
        left = "".join(f"; {n} rows of split '{name}' are used nowhere" for name, n in idle.items())
        self._dealt = f"{len(train)} rows train, {len(val)} validate ({how}), {len(held.test)} are tested ({held.how})"
        fitting = stage in (None, "fit") and bool(idle.keys() - {"test"})
        _say(logging.WARNING if held.dealt or fitting else logging.INFO, f"{self.root}: {self._dealt}{left}")
        if self.subset < 1.0:
            keep = np.random.default_rng(self.seed).permutation(len(train))[: int(self.subset * len(train))]
            train = [train[i] for i in sorted(keep)]
        for extra in self.also:
            train += self._further(extra, classes)
        self._rows = {"train": tuple(train), "val": tuple(val), "test": tuple(held.test)}
        self.manifest, self.classes = manifest, tuple(classes)

    def _further(self, extra: Mapping[str, Any], classes: Sequence[str]) -> list[Row]:
        """The rows of a further training set, labelled by the names of the first one's classes."""
        known = ("dataset", "root", "split", "repeat", "labels", "label_map")
        if (odd := set(extra) - set(known)) or not {"dataset", "root"} <= set(extra):
            wrong = f"has no {', '.join(sorted(odd))}" if odd else f"needs dataset and root, got {dict(extra)}"
            raise UsageError(f"a further training set (also=) {wrong}; it takes {', '.join(known)}")
        part = datasets.load(str(extra["dataset"]), resolve_path(extra["root"]))
        if store.is_store(resolve_path(extra["root"])):
            store.open_store(resolve_path(extra["root"])).require(self.spec)
        wanted = extra.get("split", "train")
        rows = [r for r in part.rows if r.split == wanted] or [r for r in part.rows if r.split is None]
        if not rows:
            there = ", ".join(sorted({str(r.split) for r in part.rows}))
            raise DatasetError(f"{part.root}: no split '{wanted}' for a further training set; there are {there}")
        n = int(extra.get("repeat", 1))
        if not extra.get("labels", True):
            return [replace(r, label=None, votes=None, valence=None, arousal=None) for r in rows] * n
        labels = Labels(rows, part.classes, classes, extra.get("label_map"), None)
        votes = [
            replace(r, label=classes[labels.number(r)] if labels.number(r) >= 0 else None) if r.votes is None else r
            for r in rows
            if labels.usable(r)
        ]
        if any(r.votes is not None for r in votes):
            raise UsageError("a further training set must have plain labels; put the set with votes first")
        back = {classes[number]: name for name, number in self.labels.index.items()}
        return [replace(r, label=back.get(r.label or "")) for r in votes] * n

    def _teachers(self, classes: Sequence[str]) -> dict[str, np.ndarray] | None:
        import pandas as pd

        if not self.teacher_files:
            return None
        found: dict[str, np.ndarray] = {}
        for file in map(resolve_path, self.teacher_files):
            if not file.is_file():
                raise DatasetError(f"{file}: no such file; teacher= takes tables path,<class>,...")
            table = pd.read_csv(file)
            if "path" not in table:
                raise DatasetError(f"{file}: no column 'path'; teacher= takes tables path,<class>,...")
            names = {canonical(c): c for c in table.columns if c != "path"}
            missing = [c for c in classes if canonical(c) not in names]
            if missing:
                raise DatasetError(f"{file}: the teacher knows no class {', '.join(missing)}")
            values = table[[names[canonical(c)] for c in classes]].to_numpy(np.float32)
            found |= {os.path.abspath(file.parent / p): v for p, v in zip(table["path"], values, strict=True)}
        return found

    @property
    def class_prior(self) -> np.ndarray | None:
        """Share of each class among the training labels (K,), votes counted as such; None without classes."""
        return self.labels.prior(self.train_rows)

    # -- loaders ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the seed that the draws of every epoch follow from, and how far the epoch is.

        Lightning keeps the loader's state too, but does not load it where the loader is made before, as it is when the
        number of steps is asked for.
        """
        return {"draws": self._draws(), "training": self._training.state_dict() if self._training else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._drawn_from, self._begun = state_dict["draws"], state_dict.get("training")

    def _draws(self) -> int:
        if self._drawn_from is None:  # the run's seed, which is the same in all of its processes
            self._drawn_from = int(os.environ.get("PL_GLOBAL_SEED") or torch.initial_seed()) % 2**63
        return self._drawn_from

    def _epoch(self) -> int:
        self._epochs += 1
        return self.trainer.current_epoch if self.trainer is not None else self._epochs

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else _process()

    def _loader(self, part: str, name: str) -> DataLoader[Any]:
        """The loader of a part for this process; clips that are preloaded are kept for the next one."""
        train = part == "train"
        rows = self._pieces(self._rows[part], train=train)
        if not rows:
            raise DatasetError(
                f"{self.root}: no rows for {name}: {self._dealt}; see its splits with: "
                f"emozoo check {self.dataset} --root {self.root}"
            )
        rank, world = self._rank()
        if train and self.features:
            collate = self._collate(rows, train=True)
            encoded = self._encoded(rows, collate)
            return self._train_loader(
                encoded, [rows[i] for i in encoded.rows], rank, world, collate_fn=collate_features
            )
        data = self._sets.get(part)
        if data is None:
            data = self._sets[part] = ClipDataset(rows, self.spec, train=train)
            if self.preload:
                data.preload(self.preload if train else 0, self.num_workers)
        if train:
            return self._train_loader(data, rows, rank, world)
        if self.trainer is None:  # the processes may not have found each other yet: torch is asked when it begins
            return self._eval_loader(data, rows, Strided(len(rows)))
        return self._eval_loader(data, rows, Strided(len(rows), rank, world))

    def loader_of(self, rows: Sequence[Row], *, train: bool = False) -> DataLoader[Any]:
        """A loader of any rows of these data, all of them in this process; it changes nothing in this module.

        Batches are those of :meth:`test_dataloader` in the order of ``rows`` (each window of a row with labels per
        frame), or with ``train`` those of :meth:`train_dataloader`: shuffled and augmented. Needs :meth:`setup`.
        """
        rows = self._pieces(rows, train=train)
        data = ClipDataset(rows, self.spec, train=train)
        if train:
            return self._train_loader(data, rows, 0, 1)
        return self._eval_loader(data, rows, Strided(len(rows), 0, 1))

    def _pieces(self, rows: Sequence[Row], *, train: bool) -> list[Row]:
        return list(rows) if train else [piece for row in rows for piece in _windows(row, self.spec)]

    def _collate(self, rows: Sequence[Row], *, train: bool) -> Collate:
        augment, skip = self.augment if train else None, train or self.allow_missing
        return Collate(rows, self.spec, self.labels, augment, motion_share=self.motion_share, skip=skip)

    def _train_loader(self, data: Dataset[Any], rows: list[Row], rank: int, world: int, **options: Any) -> TrainLoader:
        batches = BatchSampler(
            self._train_sampler(rows, rank, world), self.batch_size, len(rows) >= self.batch_size * world
        )
        if not options:
            alive = self.num_workers > 0
            options = {"num_workers": self.num_workers, "persistent_workers": alive}
            options["collate_fn"] = self._collate(rows, train=True)
        return TrainLoader(data, batches, self._draws(), rank, self._epoch, world, **options)

    def _eval_loader(self, data: ClipDataset, rows: Sequence[Row], sampler: Strided) -> EvalLoader:
        return EvalLoader(
            data, sampler=sampler, batch_size=self.batch_size, num_workers=self.num_workers,
            collate_fn=self._collate(rows, train=False),
        )  # fmt: skip

    def _encoded(self, rows: list[Row], collate: Collate) -> FeatureDataset:
        """Every clip through the model's frozen encoder, ``features`` times; kept on disk for the next run."""
        from rich.progress import track

        if self.trainer is None:
            raise UsageError("features= needs a trainer, whose model encodes")
        model: Any = self.trainer.lightning_module
        if not model.encoder_is_frozen:
            raise UsageError("features= keeps what a frozen encoder gives: set lr_scale to 0 for its parts")
        file = files.cache_folder() / "features" / f"{self._feature_key(rows, model.net)}.pt"
        if file.is_file():
            return FeatureDataset.load(file)
        device = self.trainer.strategy.root_device
        model.to(device).eval()
        data = ClipDataset(rows, self.spec, train=True)
        # Stills are decoded, and their faces looked for, once for all draws (and folds). Clips are decoded, encoded and
        # forgotten: their images may take fifty times the memory of the features.
        if self.preload and all(is_image(r.path) for r in rows):
            data.preload(1, self.num_workers)
        draws = np.random.default_rng(self.seed).integers(2**31, size=(self.features, len(rows)))
        loader = _Raising(
            data,
            batch_size=self.batch_size,
            sampler=[(i, int(seed)) for seeds in draws for i, seed in enumerate(seeds)],
            num_workers=self.num_workers,
            collate_fn=collate,
        )
        kept = FeatureDataset()
        # Own random numbers: a run that finds the features made goes on exactly like the one that made them.
        with torch.random.fork_rng([]), torch.no_grad():
            torch.manual_seed(self.seed)
            for batch in track(loader, "encoding"):
                if batch is not None:
                    kept.add(model.encode(batch.to(device)), batch)
        model.train()
        kept.save(file)
        return FeatureDataset.load(file)

    def _feature_key(self, rows: list[Row], net: Any) -> str:
        """A hash of all that the features and their targets follow from: encoder, spec, augmentation, files, labels."""
        # Of spec and augmentation what differs from the defaults: a new field leaves what was kept before.
        looks = [_changed(x) for x in (self.spec, *(self.spec.streams.values()), *(self.augment or {}).values())]
        names = (list(self.spec.streams), list(self.augment or {}))
        settings = (looks, names, self.motion_share, self.features, self.seed, self.teacher_files, self.circumplex)
        key = hashlib.sha256(stored_names(settings).encode())
        streams = streams_of(self.spec).values()
        for name, value in net.state_dict().items():
            if name.partition(".")[0] in net.encoding:
                key.update(name.encode() + value.cpu().numpy().tobytes())
        for row in rows:
            file = Path(row.path)
            beside = [Path(row.extra[k]) for k in ("sound", "va_file") if k in row.extra]
            beside += [f for s in streams for f in s.files(row.path)]
            images = sorted(file.iterdir()) if file.is_dir() else ()
            states = [(f.stat().st_size, f.stat().st_mtime_ns) for f in (file, *beside, *images) if f.exists()]
            taught = None if self.labels.teacher is None else self.labels.teacher.get(_file_of(row))
            key.update(repr((row, states, self.labels.classes, taught)).encode())
        return key.hexdigest()[:32]

    def _train_sampler(self, rows: list[Row], rank: int, world: int) -> Sampler[int]:
        from torch.utils.data import RandomSampler, WeightedRandomSampler

        if self.balance > 0:
            if world > 1:
                raise UsageError(
                    "balance= draws with replacement in one process; use tau= (logit adjustment) across several"
                )
            numbers = np.array([max(0, int(self.labels.soft_row(r).argmax())) for r in rows])
            counts = np.bincount(numbers, minlength=len(self.classes or ()))
            weights = (1.0 / np.maximum(counts, 1)[numbers]) ** self.balance
            return WeightedRandomSampler(weights.tolist(), len(rows))
        if world > 1:
            return DistributedSampler(range(len(rows)), world, rank, shuffle=True, seed=self.seed)  # type: ignore[arg-type]
        return RandomSampler(range(len(rows)))

    def train_dataloader(self) -> DataLoader[Any]:
        loader = self._loader("train", "training")
        assert isinstance(loader, TrainLoader)
        if self._begun is not None:
            loader.load_state_dict(self._begun)
        self._training, self._begun = loader, None
        return loader

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        return self._loader("val", "validation") if self.val_rows else []

    def drop_unreadable(self) -> dict[str, VideoError]:
        """Leaves out the training and validation rows that cannot be read; returns the reason by the id of the row.

        Needs ``preload``, and comes before any loader is made: all of them are decoded into memory now, and not again
        when they are used.
        """
        found: dict[str, VideoError] = {}
        for part, name in (("train", "training"), ("val", "validation")):
            data: Any = self._loader(part, name).dataset if self._rows[part] else None
            for row, clips in zip(data.rows, data.kept, strict=True) if data is not None else ():
                if error := next((clip for clip in clips if isinstance(clip, VideoError)), None):
                    found.setdefault(row.id, error)
        for part in ("train", "val"):
            self._rows[part] = tuple(r for r in self._rows[part] if r.id not in found)
        self._sets.clear()
        return found

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader("test", "test")

    def predict_dataloader(self) -> DataLoader[Any]:
        return self._loader("test", "test")

    def on_after_batch_transfer(self, batch: Batch | None, dataloader_idx: int) -> Batch | None:
        """Counts what could not be read; the numbers are reported, never dropped."""
        if batch is not None and batch.skipped:
            self.skipped += batch.skipped
            warnings.warn(f"{len(self.skipped)} unreadable so far, last: {self.skipped[-1]}", stacklevel=2)
        return batch
