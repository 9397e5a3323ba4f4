"""EmotionDataModule: any data set for any model. The same decoding, views and sampling in training and evaluation.

Legend: K = classes.
"""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Concatenate, NoReturn, ParamSpec

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from emozoo.batch import Batch
from emozoo.data import datasets, faces, splits, store
from emozoo.data.clips import RawClip
from emozoo.data.features import FeatureDataset, collate_features, feature_key
from emozoo.data.find import one_line
from emozoo.data.loading import (
    ClipDataset,
    ClipLoader,
    Collate,
    EvalLoader,
    Strided,
    TrainLoader,
    evaluation_rows,
    rank_and_world,
    training_batches,
)
from emozoo.data.manifest import Manifest, Row
from emozoo.data.media import is_image
from emozoo.data.targets import Labels, further_rows, read_teachers
from emozoo.data.transforms import Augment
from emozoo.errors import DatasetError, UsageError, VideoError
from emozoo.files import resolve_path
from emozoo.moved import names_of
from emozoo.spec import ClipSpec

_log = logging.getLogger(__name__)
_Arguments = ParamSpec("_Arguments")

# Arguments of version 0.1: their new names, and what to use in place of removed ones.
RENAMED = {"circle": "circumplex", "share": "subset"}
REMOVED = {
    "features": "give the Trainer the callback emozoo.callbacks.FeatureCache(draws=N)",
    "balance": "give the model loss={'tau': 1.0} (logit adjustment)",
}


def _accept_old_arguments(
    init: Callable[Concatenate[Any, _Arguments], None],
) -> Callable[Concatenate[Any, _Arguments], None]:
    """Takes renamed arguments with a DeprecationWarning; raises UsageError for removed ones that were set."""

    @functools.wraps(init)
    def accept(self: Any, *args: _Arguments.args, **options: _Arguments.kwargs) -> None:
        for old in [name for name in options if name in RENAMED]:
            if RENAMED[old] in options:
                raise UsageError(f"EmotionDataModule: {old}= is now {RENAMED[old]}=, give it once")
            warnings.warn(f"EmotionDataModule: {old}= is now {RENAMED[old]}=", DeprecationWarning, stacklevel=2)
            options[RENAMED[old]] = options.pop(old)
        for old in [name for name in options if name in REMOVED]:
            if options.pop(old):  # 0 was the default
                raise UsageError(f"EmotionDataModule has no {old}= any more: {REMOVED[old]}")
        init(self, *args, **options)

    return accept


def _check_numbers(settings: Mapping[str, Any]) -> None:
    """Raises UsageError for numbers of an EmotionDataModule outside of their range."""
    for name, minimum in {"batch_size": 1, "num_workers": 0, "preload": 0, "seed": 0}.items():
        x = settings[name]
        if isinstance(x, bool) or not isinstance(x, int) or x < minimum:
            raise UsageError(f"{name} must be a whole number, {minimum} or more, got {x!r}")
    ranges = {"motion_share": "0 or more and at most 1", "subset": "above 0 and at most 1"}
    ranges["val_share"] = "0 or more and below 1"
    for name, allowed in ranges.items():
        x = settings[name]
        if x is None and name == "val_share":
            continue
        number = isinstance(x, int | float) and not isinstance(x, bool)
        if not number or not 0 <= x <= 1 or (name, x) in (("subset", 0), ("val_share", 1)):
            raise UsageError(f"{name} must be {allowed}, got {x!r}")


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


def _augment(spec: ClipSpec, stream: str, settings: Mapping[str, Any]) -> Augment:
    if stream not in spec.streams:
        raise UsageError(f"augment: no stream '{stream}'; there are {', '.join(spec.streams)}")
    if unknown := set(settings) - {f.name for f in fields(Augment)}:
        known = ", ".join(f.name for f in fields(Augment))
        raise UsageError(f"augment of '{stream}' has no {', '.join(sorted(unknown))}; there are {known}")
    return Augment(**settings)


def successor(argument: str) -> str | None:
    """What to use in place of an argument of version 0.1; None for any other."""
    return f"it is called {RENAMED[argument]} now" if argument in RENAMED else REMOVED.get(argument)


class _Rows:
    """The read-only rows of one part of an EmotionDataModule; empty before ``setup``."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name, self.part = name, name.removesuffix("_rows")

    def __get__(self, data: Any, owner: type | None = None) -> tuple[Row, ...]:
        return () if data is None else data._rows[self.part]

    def __set__(self, data: Any, rows: Any) -> NoReturn:
        raise AttributeError(
            f"{self.name} cannot be set: rows do not change under a loader; for others use dm.loader_of(rows), or a "
            "table of their own"
        )


class EmotionDataModule(L.LightningDataModule):
    """Any data set, any ClipSpec.

    Args:
        dataset: name of an adapter (``folder``, ``csv``, ``ferplus`` ...), or ``store``.
        root: folder or table of the data, or a store prepared from it; it is only read, never written to.
        spec: the model's ClipSpec, or its dict as stored with weights.
        classes: class names in the model's order; None takes the data set's.
        split: the split that is tested (and reported); None takes ``test``, else ``val``, else a fifth of the rows,
            drawn by class and ``seed``; ``all`` tests every row, see :func:`emozoo.data.splits.held_out`.
        fold, folds: with ``folds``, people are assigned to that many folds by a hash of ``group``, over all rows of
            splits train and val, and ``fold`` (0-based) is tested; ``folds="person"`` leaves one person out, the
            ``fold``-th by name. Without ``folds`` the fold column of the data is used.
        val_share: None: the official ``val`` split validates, unless it is the tested one; else a tenth of the training
            rows does. A number: that fraction of them, whole groups. See :func:`emozoo.data.splits.validation`.
        val_on_test: the tested rows validate where nothing else does: for fits in which nothing is chosen by it.
        also: further training sets, each ``{"dataset", "root"[, "split", "repeat", "labels", "label_map"]}``; with
            ``labels`` false only their images are used, with the predictions of a teacher as targets. Rows of a person
            (``group``) or file that is tested or validates are left out: one name is one person in all sets.
        teacher: csv files ``path,<class>,...`` of another network's probabilities, paths relative to the file.
        label_map: name of a label map where data and model have different classes.
        circumplex: clips without valence and arousal are trained on those of their class, its point on Russell's
            circumplex (:func:`emozoo.labels.circumplex_point`). They tell the network nothing that the classes do not.
        augment: per stream, fields of :class:`emozoo.data.transforms.Augment`; training only.
        motion_share: fraction of the training batches in which the augmentation ``motion`` moves stills.
        batch_size, num_workers: as in torch.
        preload: decodes that many draws of each clip into memory before the first batch; 0 decodes when it is needed.
        subset: trains on only this fraction of the training rows (drawn by ``seed``), for quick trials.
        allow_missing: evaluation leaves out unreadable clips, and counts them, instead of stopping.
        seed: of splits and of ``subset``.

    Rows are read-only; :meth:`loader_of` loads others. Under any Trainer, on any number of processes, each row is
    evaluated once. ``hparams`` are these arguments as plain types. From :meth:`setup` on ``spec`` has the detector that
    is used: ``cascade``, with a warning, where that of the model cannot be had.

    Raises DatasetError, ManifestError, or UsageError for classes that do not fit, and for a split or fold that the data
    do not have.
    """

    train_rows, val_rows, test_rows = _Rows(), _Rows(), _Rows()

    @_accept_old_arguments
    def __init__(
        self,
        dataset: str,
        root: str | Path,
        *,
        spec: Any = None,
        classes: Sequence[str] | None = None,
        split: str | None = None,
        fold: int | None = None,
        folds: int | str | None = None,
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
        subset: float = 1.0,
        allow_missing: bool = False,
        seed: int = 0,
    ) -> None:
        given = _plain({k: v for k, v in locals().items() if k not in ("self", "__class__")})
        super().__init__()
        if spec is None:
            raise UsageError("EmotionDataModule needs spec=: pass model.spec")
        self.spec = spec if isinstance(spec, ClipSpec) else ClipSpec.from_dict(spec)
        # Not into loggers: spec and classes are names of the model's hyperparameters, too.
        self.save_hyperparameters({**given, "spec": _plain(self.spec.to_dict())}, logger=False)
        self.allow_zero_length_dataloader_with_multiple_devices = True  # a process without rows joins in
        self.dataset, self.root = dataset, resolve_path(root)
        self.classes, self.circumplex = tuple(classes) if classes is not None else None, circumplex
        self.split, self.fold, self.folds, self.val_share, self.val_on_test = split, fold, folds, val_share, val_on_test
        self.also, self.teacher_files, self.label_map = also or [], teacher or [], label_map
        self.augment = {k: _augment(self.spec, k, v) for k, v in augment.items()} if augment else None
        self.motion_share, self.preload = motion_share, preload
        self.batch_size, self.num_workers = batch_size, num_workers
        self.subset, self.allow_missing, self.seed = subset, allow_missing, seed
        _check_numbers(self.hparams)
        self.manifest: Manifest | None = None
        self._rows: dict[str, tuple[Row, ...]] = {"train": (), "val": (), "test": ()}
        self.every_row: tuple[Row, ...] = ()  # that some fold or split may train on
        self._summary = "setup() was not called"  # which rows train, validate and are tested
        self.skipped: list[str] = []
        self._unread: list[str] = []  # errors of the batches without a clip, which come as None
        self._datasets: dict[str, ClipDataset] = {}
        self._features: FeatureDataset | None = None
        self._run_seed: int | None = None
        self._training: TrainLoader | None = None
        self._resume_from: dict[str, int] | None = None  # a checkpoint's state of the training loader
        self._epochs = -1
        self.validate_on_test_too = False  # val_dataloader gives the test loader as a second one (BestOnTest)

    def setup(self, stage: str | None = None) -> None:
        """Reads the table and splits its rows, for every ``stage`` alike, into training, validation and test.

        Their numbers and rules are logged once: as a warning where a part was drawn or an official one is not used.
        """
        if self.manifest is not None:
            return
        manifest = datasets.load(self.dataset, self.root)
        if self.folds is not None or (self.fold is None and (self.split is None or stage in (None, "fit"))):
            manifest.require_known_splits(self.split)
        held = splits.held_out(manifest, split=self.split, fold=self.fold, folds=self.folds, seed=self.seed)
        classes = manifest.classes if self.classes is None else self.classes
        self.labels = Labels(
            [*held.rest, *held.test, *held.val], manifest.classes, classes, self.label_map,
            read_teachers(self.teacher_files, classes), self.circumplex, self.spec.sampling,
        )  # fmt: skip
        parts = splits.assign(manifest, held, self.labels.usable, self.val_share, self.seed, on_test=self.val_on_test)
        self._summary = parts.summary
        warn = held.drawn or (stage in (None, "fit") and bool(parts.unused.keys() - {"test"}))
        rank_zero_only(_log.log)(logging.WARNING if warn else logging.INFO, one_line(f"{self.root}: {self._summary}"))
        train = splits.subset(parts.train, self.subset, self.seed)
        read: list[tuple[Path, Sequence[Row]]] = [(self.root, manifest.rows)]
        read += [(resolve_path(s["root"]), further_rows(s, classes, self.labels)) for s in self.also]
        self._check_faces(read)
        more = [row for _, rows in read[1:] for row in rows]
        self.every_row = (*(r for r in manifest.rows if self.labels.usable(r)), *more)
        train += self._apart(more, [*held.test, *parts.val])
        self._rows = {"train": tuple(train), "val": tuple(parts.val), "test": tuple(held.test)}
        self.manifest, self.classes = manifest, tuple(classes)

    def _check_faces(self, parts: Sequence[tuple[Path, Sequence[Row]]]) -> None:
        """Chooses the detector, if one has to be run on a part (its root and rows), and checks stores among them."""
        stores = [root for root, _ in parts if store.is_store(root)]
        if any(row.box is None for root, rows in parts if root not in stores for row in rows):
            self.spec = faces.available(self.spec)
        for root in stores:
            store.open_store(root).require(self.spec)

    def _apart(self, more: list[Row], held: list[Row]) -> list[Row]:
        """The further training rows but those of people and files that are tested or validate, which are counted."""
        left = splits.apart(more, held) if more else more
        if lost := len(more) - len(left):
            what = f"{lost} of {len(more)} rows of also= left out, since their people or files are tested or validate"
            self._summary += f"; {what}"
            rank_zero_only(_log.warning)(f"{self.root}: {what}")
        return left

    @property
    def class_prior(self) -> np.ndarray | None:
        """Fraction of each class among the training labels (K,), votes counted as such; None without classes."""
        return self.labels.prior(self.train_rows)

    def drop_unreadable(self) -> dict[str, VideoError]:
        """Leaves out the training and validation rows that cannot be read; returns the error by the id of the row.

        Needs ``preload``, and comes before any loader is made: all of them are decoded into memory now.
        """
        found: dict[str, VideoError] = {}
        for part in ("train", "val"):
            data: Any = self._loader(part).dataset if self._rows[part] else None
            found |= data.unreadable() if data is not None else {}
        for part in ("train", "val"):
            self._rows[part] = tuple(r for r in self._rows[part] if r.id not in found)
        self._datasets.clear()
        return found

    def decoded(self, part: str) -> dict[str, RawClip]:
        """One clip of each row of ``train`` or ``val`` by its id, from memory; for ``preload``, without broken rows."""
        data: Any = self._loader(part).dataset if self._rows[part] else None
        found: dict[str, RawClip] = {}
        for row, clips in zip(data.rows, data.preloaded, strict=True) if data is not None else ():
            found.setdefault(row.id, clips[0])
        return found

    def state_dict(self) -> dict[str, Any]:
        """The seed that all draws depend on, and the loader's state: Lightning loads none into a loader made before."""
        return {"draws": self._seed_of_run(), "training": self._training.state_dict() if self._training else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._run_seed, self._resume_from = state_dict["draws"], state_dict.get("training")

    def _seed_of_run(self) -> int:
        if self._run_seed is None:  # the same in all processes of a run
            self._run_seed = int(os.environ.get("PL_GLOBAL_SEED") or torch.initial_seed()) % 2**63
        return self._run_seed

    def _next_epoch(self) -> int:
        self._epochs += 1
        return self.trainer.current_epoch if self.trainer is not None else self._epochs

    def train_on(self, features: FeatureDataset) -> None:
        """From now on training loaders give these features, made from :meth:`draws`; evaluation still reads clips."""
        self._features = features

    def draws(self, count: int, *, of_every_row: bool = False) -> ClipLoader:
        """A loader of ``count`` augmented draws of every training row, the same in every run and process.

        ``of_every_row``: of ``every_row``, those of all folds. With ``preload`` stills are decoded once for all draws;
        clips would need fifty times the memory of features.
        """
        rows = self.every_row if of_every_row else self.train_rows
        data = ClipDataset(rows, self.spec, train=True)
        if self.preload and all(is_image(r.path) for r in rows):
            data.preload(1, self.num_workers)
        seeds = np.random.default_rng(self.seed).integers(2**31, size=(count, len(rows)))
        order = [(i, int(seed)) for draw in seeds for i, seed in enumerate(draw)]
        return ClipLoader(data, sampler=order, batch_size=self.batch_size, **self._options(rows, train=True))

    def feature_key(self, encoder: Mapping[str, Tensor], count: int, *, of_every_row: bool = False) -> str:
        """The cache key of the features that an encoder makes of :meth:`draws` with the same arguments.

        ``encoder``: its parameters and buffers by name. Other weights, rows, files, labels or settings change the key.
        """
        settings = (self.motion_share, count, self.seed, self.teacher_files, self.circumplex)
        rows = self.every_row if of_every_row else self.train_rows
        return feature_key(self.spec, self.augment or {}, settings, rows, self.labels, encoder)

    def training_part(self, features: FeatureDataset) -> FeatureDataset:
        """Of features of ``every_row`` those of the training rows."""
        numbers = {id(row): n for n, row in enumerate(self.every_row)}
        return features.select([numbers[id(row)] for row in self.train_rows])

    def train_dataloader(self) -> DataLoader[Any]:
        loader = self._loader("train")
        if self._resume_from is not None:
            loader.load_state_dict(self._resume_from)
        self._training, self._resume_from = loader, None
        return loader

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        if not self.val_rows:
            return []
        return [self._loader("val"), self._loader("test")] if self.validate_on_test_too else self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader("test")

    predict_dataloader = test_dataloader

    def loader_of(self, rows: Sequence[Row], *, train: bool = False, windows: bool = True) -> DataLoader[Any]:
        """A loader of any rows of these data, all of them in this process; it changes nothing in this module.

        Batches are those of :meth:`test_dataloader` in the order of ``rows``: each window of a row with labels per
        frame or, without ``windows``, each row as it is. With ``train`` they are those of :meth:`train_dataloader`:
        shuffled and augmented. Needs :meth:`setup`.
        """
        if train:
            return self._train_loader(ClipDataset(rows, self.spec, train=True), rows, 0, 1)
        rows = evaluation_rows(rows, self.spec) if windows else rows
        return self._eval_loader(ClipDataset(rows, self.spec, train=False), Strided(len(rows), 0, 1))

    def _loader(self, part: str) -> Any:
        """The loader of a part for this process; the next one uses the same preloaded clips."""
        train, run = part == "train", self.trainer
        rank, world = (run.global_rank, run.world_size) if run is not None else rank_and_world()
        rows: Sequence[Row] = self._rows[part]
        if not rows:
            name, check = {"train": "training"}.get(part, part), f"emozoo check {self.dataset} --root {self.root}"
            raise DatasetError(f"{self.root}: no rows for {name}: {self._summary}; see its splits with: {check}")
        if train and self._features is not None:
            rows = [rows[i] for i in self._features.rows]
            return self._train_loader(self._features, rows, rank, world, collate_fn=collate_features)
        data = self._datasets.get(part)
        if data is None:
            data = ClipDataset(rows if train else evaluation_rows(rows, self.spec), self.spec, train=train)
            self._datasets[part] = data
            if self.preload:
                data.preload(self.preload if train else 0, self.num_workers)
        if train:
            return self._train_loader(data, rows, rank, world)
        # Without a Trainer the processes may not be connected yet: the sampler asks torch when it begins.
        return self._eval_loader(data, Strided(len(data)) if run is None else Strided(len(data), rank, world))

    def _train_loader(
        self, data: Dataset[Any], rows: Sequence[Row], rank: int, world: int, **options: Any
    ) -> TrainLoader:
        batches = training_batches(len(rows), self.batch_size, rank, world, self.seed)
        if not options:
            options = {**self._options(rows, train=True), "persistent_workers": self.num_workers > 0}
        return TrainLoader(data, batches, self._seed_of_run(), rank, self._next_epoch, world, **options)

    def _eval_loader(self, data: ClipDataset, sampler: Strided) -> EvalLoader:
        return EvalLoader(data, sampler=sampler, batch_size=self.batch_size, **self._options(data.rows, train=False))

    def _options(self, rows: Sequence[Row], *, train: bool) -> dict[str, Any]:
        """Arguments of a DataLoader of clips of these rows."""
        augment, skip = self.augment if train else None, train or self.allow_missing
        collate = Collate(
            rows, self.spec, self.labels, augment, motion_share=self.motion_share, skip=skip, unread=self._unread
        )
        return {"num_workers": self.num_workers, "collate_fn": collate}

    def take_skipped(self, batch: Batch | None) -> list[str]:
        """Errors of the rows that are missing from ``batch``, one line each.

        For None, those of all batches without a clip since the last call with None.
        """
        if batch is not None:
            return batch.skipped
        lines = self._unread.copy()
        self._unread.clear()
        return lines

    def on_after_batch_transfer(self, batch: Batch | None, dataloader_idx: int) -> Batch | None:
        """Counts the clips that could not be read, and warns: none is left out silently."""
        if skipped := self.take_skipped(batch):
            self.skipped += skipped
            warnings.warn(f"{len(self.skipped)} unreadable so far, last: {one_line(self.skipped[-1])}", stacklevel=2)
        return batch


__getattr__ = names_of(__name__)
