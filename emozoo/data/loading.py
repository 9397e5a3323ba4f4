"""Loading: rows to decoded clips to batches, and the loaders that do it on any number of processes.

Legend: B = batch, C = clips.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler
from torch.utils.data.distributed import DistributedSampler

from emozoo.batch import Batch
from emozoo.data.clips import ClipReader, RawClip, file_errors, to_batch
from emozoo.data.manifest import Row
from emozoo.data.targets import Labels
from emozoo.data.transforms import Augment, pixel_steps
from emozoo.errors import DatasetError, EmozooError, UsageError, VideoError
from emozoo.spec import ClipSpec

TRIES = 100  # clips that may replace an unreadable one before training gives up


def read_row(row: Row, spec: ClipSpec, rng: np.random.Generator | None = None) -> RawClip:
    """Reads one manifest row as prediction does. Raises VideoError.

    ``rng`` None: the deterministic test sampling; a Generator: training draws.
    """
    with file_errors(row.path), ClipReader.of(row, spec) as reader:
        return reader.read(rng=rng)


def windows(row: Row, reader: ClipReader) -> list[Row]:
    """The row cut into the windows of the spec (:meth:`emozoo.spec.ClipSpec.windows`); ``reader`` has it open.

    Each is the row with another start and end in seconds; a row of one window stays as it is.
    """
    starts = reader.spec.windows(reader.start, min(reader.end, reader.duration))
    length = reader.spec.window_s
    return [replace(row, start=s, end=s + length) for s in starts] if len(starts) > 1 else [row]


def evaluation_rows(rows: Sequence[Row], spec: ClipSpec) -> list[Row]:
    """The rows, those with labels per frame as all of their windows: every labelled part is evaluated."""
    found: list[Row] = []
    for row in rows:
        if "va_file" not in row.extra:
            found.append(row)
            continue
        try:
            with file_errors(row.path), ClipReader.of(row, spec) as reader:
                found += windows(row, reader)
        except VideoError:
            found.append(row)  # the same error comes when it is read
    return found


class Sample(NamedTuple):
    """A clip as it was read for a batch, or the error instead of it."""

    clip: RawClip | EmozooError  # an error other than VideoError ends the run
    row: int  # its number
    seed: int  # of its augmentation
    skipped: Sequence[VideoError] = ()  # errors of the rows that this one replaces


class ClipDataset(Dataset[Sample]):
    """Rows to decoded clips. In training another row, drawn by the seed, replaces one that cannot be read.

    ``preloaded``: clips that :meth:`preload` has decoded, one or more draws of frames per row; else None.
    """

    def __init__(self, rows: Sequence[Row], spec: ClipSpec, *, train: bool) -> None:
        self.rows, self.spec, self.train = list(rows), spec, train
        self.preloaded: list[list[RawClip | VideoError]] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int | tuple[int, int]) -> Sample:
        # Without a seed from the sampler: torch's generator differs per worker and epoch; albumentations' own does not.
        index, seed = item if isinstance(item, tuple) else (item, int(torch.randint(2**31, ())))
        try:
            return self._sample(index, seed)
        except EmozooError as error:  # of something else than the clip: the detector is missing, say
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
        if self.preloaded is not None:
            draws = self.preloaded[index]
            return _shrink_still(draws[seed % len(draws)])  # worker processes may hold it as a full array
        rng = np.random.default_rng([seed, 3]) if self.train else None  # apart from the draws of the augmentation
        return _read_or_error(self.rows[index], self.spec, rng)

    def preload(self, draws: int, workers: int) -> None:
        """Decodes every row ``draws`` times into memory, with a progress bar; training then never waits for a decoder.

        Clips that this process has decoded under the same spec (for another fold, say) are used again, unless their
        file has changed since or could not be read.
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
                _DECODED[keys[i]] = [_shrink_still(raw) for raw in raws]
        self.preloaded = [_DECODED[key] for key in keys]
        for key, clips in zip(keys, self.preloaded, strict=True):
            if any(isinstance(clip, VideoError) for clip in clips):
                _DECODED.pop(key, None)

    def unreadable(self) -> dict[str, VideoError]:
        """The error of each preloaded row that could not be read, by the id of the row."""
        found: dict[str, VideoError] = {}
        for row, clips in zip(self.rows, self.preloaded or (), strict=True):
            if error := next((clip for clip in clips if isinstance(clip, VideoError)), None):
                found.setdefault(row.id, error)
        return found


_DECODED: dict[tuple[Any, ...], list[RawClip | VideoError]] = {}


def _stamp(path: str) -> tuple[int, int] | None:
    """Size and time of the last change of a file; None where there is none, as for an item of a store."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def _shrink_still(raw: RawClip | VideoError) -> RawClip | VideoError:
    """Stores a still once, however many frames show it: an array from another process is a full one."""
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
    """Reads all wanted draws of one row from one open file, so that its faces are detected once."""
    row, spec, draws = job
    found: list[RawClip | VideoError] = []
    try:
        with file_errors(row.path), ClipReader.of(row, spec) as reader:
            for draw in draws:
                key = hashlib.sha1(f"{row.id}:{draw}".encode(errors="surrogatepass")).digest()
                rng = None if draw is None else np.random.default_rng(int.from_bytes(key[:8], "big"))
                found.append(reader.read(rng=rng))
                if reader.is_still:
                    break  # every draw of a still is the same
    except VideoError as error:
        return [error]
    return found


def rank_and_world() -> tuple[int, int]:
    """The number of this process and how many there are, as torch knows them."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class Strided(DistributedSampler[int]):
    """Every ``world``-th index from ``rank``: nothing padded, nothing dropped, so that metrics are exact.

    Without ``rank`` and ``world`` they are those of torch when the first index is drawn. It is a DistributedSampler
    because Lightning replaces any other sampler by one that repeats items until all processes have equally many.
    """

    def __init__(self, size: int, rank: int | None = None, world: int | None = None) -> None:
        super().__init__(range(size), num_replicas=1, rank=0, shuffle=False)  # type: ignore[arg-type]
        self.size, self.process = size, None if rank is None or world is None else (rank, world)

    @property
    def indices(self) -> range:
        rank, world = self.process or rank_and_world()
        return range(rank, self.size, world)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


class _Seeded(DistributedSampler[tuple[int, int]]):
    """The indices of another sampler without the first ``skip``, each with a seed for its draws.

    Order and seeds depend on ``seed`` alone, not on worker processes. It is a DistributedSampler for the same reason as
    :class:`Strided`: the other sampler already splits the indices between processes.
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


class _Unread(NamedTuple):
    """The errors of the clips of a batch: a worker process returns them where none of its clips could be read."""

    lines: list[str]


class ClipLoader(DataLoader[Any]):
    """A DataLoader that raises errors of worker processes as they are: torch would change their class and text.

    In place of a batch of which no clip could be read comes None; the errors are added to ``Collate.unread``.
    """

    @property
    def class_prior(self) -> np.ndarray | None:
        """Fraction of each class among the labels of its rows (K,); None without classes, and for cached features."""
        collate = self.collate_fn
        return collate.labels.prior(collate.rows) if isinstance(collate, Collate) else None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes in the order of the label numbers; None for cached features."""
        return self.collate_fn.labels.classes if isinstance(self.collate_fn, Collate) else None

    @property
    def spec(self) -> ClipSpec | None:
        """The spec of the clips in a batch; None for cached features."""
        return self.collate_fn.spec if isinstance(self.collate_fn, Collate) else None

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            if isinstance(batch, EmozooError):
                raise batch
            if isinstance(batch, _Unread) and isinstance(self.collate_fn, Collate):
                self.collate_fn.unread += batch.lines
                batch = None
            yield batch


class EvalLoader(ClipLoader):
    """Every row once over all processes, in the order of the rows, whatever sampler a Trainer would set.

    A process without a row gets one empty batch (None): the others wait for it when metrics are gathered.
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


class TrainLoader(ClipLoader):
    """A training loader that resumes in the middle of an epoch: its state is the epoch and the batches given of it.

    After the state is loaded, the next iteration skips the batches that were given, without decoding them. Order and
    augmentation depend on seed, epoch and process alone, so a resumed run draws what an uninterrupted one on equally
    many processes draws. Torch's own generator is not used.

    Args:
        dataset, options: as in DataLoader.
        batches: batch size, whether the last incomplete batch is dropped, and the sampler of indices.
        seed: of the run.
        rank, world: the number of this process, and how many there are.
        epoch_of: returns the number of the epoch that begins; None counts them.
        sampler: set by a Trainer that overfits some batches; rows then come in their order.

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
        if (world := rank_and_world()[1]) not in (1, self._world):
            raise UsageError(
                f"this loader was made for {self._world} process(es) and runs in {world}: give the Trainer the data "
                "module, trainer.fit(model, datamodule=dm), not its loader"
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


def training_batches(size: int, batch_size: int, rank: int, world: int, seed: int) -> BatchSampler:
    """Random batches of ``size`` rows for the process ``rank`` of ``world``.

    The last batch is dropped where it is incomplete, unless it is the only one.
    """
    sampler: Any = RandomSampler(range(size))
    if world > 1:
        sampler = DistributedSampler(range(size), world, rank, shuffle=True, seed=seed)  # type: ignore[arg-type]
    return BatchSampler(sampler, batch_size, size >= batch_size * world)


class Collate:
    """Decoded clips to one Batch: augmentation (training only), normalisation, targets. A callable that can be pickled.

    Args:
        rows: the rows that samples number.
        augment: by stream; None outside training.
        motion_share: fraction of the batches in which stills are moved.
        skip: leaves out clips that cannot be read, with their errors in ``Batch.skipped``; else they are raised.
        unread: a list to which :class:`ClipLoader` adds the errors of the batches of which no clip could be read.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        spec: ClipSpec,
        labels: Labels,
        augment: Mapping[str, Augment] | None,
        *,
        motion_share: float = 1.0,
        skip: bool,
        unread: list[str] | None = None,
    ) -> None:
        self.unread = [] if unread is None else unread
        self.rows, self.spec, self.labels, self.augment, self.skip = rows, spec, labels, augment, skip
        self.motion_share = motion_share
        self.still_augment = augment and {k: replace(a, motion=0.0) for k, a in augment.items()}
        for settings in (augment or {}).values():
            pixel_steps(settings)  # imports albumentations once, here, and not in each worker process of each epoch

    def __call__(self, drawn: list[Sample]) -> Batch | EmozooError | _Unread:
        """Returns a batch; the error that ends the run; or the errors of the clips, where none could be read."""
        try:
            return self._batch(drawn)
        except EmozooError as error:  # labels per frame that are damaged, say
            return error

    def _batch(self, drawn: list[Sample]) -> Batch | EmozooError | _Unread:
        for x in drawn:
            if isinstance(x.clip, EmozooError) and not isinstance(x.clip, VideoError):
                return x.clip
        bad = [e for x in drawn for e in (*x.skipped, x.clip) if isinstance(e, VideoError)]
        if bad and not self.skip:
            return bad[0]
        good = [(x.clip, x.row, x.seed) for x in drawn if not isinstance(x.clip, EmozooError)]
        if not good:
            if len(bad) > len(drawn):  # in training: other processes would wait for this batch
                return DatasetError(f"{len(bad)} clips in a row cannot be read, the last: {bad[-1]}; run emozoo check")
            return _Unread([str(e) for e in bad])
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
