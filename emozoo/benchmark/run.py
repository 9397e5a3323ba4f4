"""Benchmark: networks on labelled data, scored under a named protocol, by the path that training and prediction use.

A protocol has one part (a split, a fold) or several. Every fold gives a record; two more are about all folds: one over
all their items together (``pooled``), one with mean and deviation over folds (``mean``). Splits that overlap have no
``pooled`` record.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emozoo import registry
from emozoo.benchmark import records
from emozoo.benchmark.contenders import contenders_of
from emozoo.benchmark.predict import NothingToScore, has_va, predict
from emozoo.benchmark.records import Result
from emozoo.benchmark.resume import UnfinishedRun
from emozoo.benchmark.team import Team
from emozoo.data import datasets, faces
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.protocols import CHOICES
from emozoo.data.splits import ALL, PERSON
from emozoo.errors import DatasetError, UsageError, WeightsError

PRIORS = ("train", "uniform")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """One part to score: a fold, split or person of a data set. ``name`` replaces ``{fold}`` in a model's name."""

    dataset: str
    fold: int | None = None
    person: str | None = None
    label: int | str | None = None
    name: str = ""


def measure(
    models: Sequence[str],
    dataset: str,
    root: str | Path,
    *,
    split: str | None = None,
    fold: int | None = None,
    folds: int | str | None = None,
    prior: str = "train",
    label_map: str | None = None,
    control: str | Sequence[str] | None = None,
    detector: str | None = None,
    device: str = "cpu",
    batch_size: int = 32,
    num_workers: int = 0,
    allow_missing: bool = False,
    unfinished: UnfinishedRun | None = None,
    team: Team | None = None,
) -> Result:
    """One record per model, part and prior, each followed by its controls.

    Args:
        models: names of weights (aliases are resolved), folders written by training, or hub addresses. ``{fold}`` in
            one stands for the number of the fold (or split, or the person's name): weights that were trained for it.
        dataset, root: a name of ``emozoo.data.datasets`` and its folder; ``videoemotion8:all`` = its ten splits.
        split: part to score; default ``test``, else ``val``, else every item (``all``). fold: items tested in that
            fold; data that is split into folds alone is scored in all of them.
        folds: split people into that many folds by a hash of their names, as training does with ``data.folds``; or
            ``person``: every person is a fold.
        prior: class prior of the scores, ``train``, ``uniform``, or ``both`` (a record each).
        label_map: named map where data and weights have different classes. The classes that both have are scored, and
            the network chooses among those alone.
        control: also score retrained controls of each model (``all``, or one by its ``control``), or the model under
            an input control (one of ``controls.INPUT_CONTROLS``, or ``inputs``: all that apply).
        detector: face detector in place of the one stored with the weights. One that is stored but cannot be had is
            replaced by ``cascade``, which records then name; one that is named here is not.
        allow_missing: leave out items that cannot be read, and count them; otherwise the first one is an error.
        unfinished: caches predictions while the run is not over, so that a killed run can continue.
        team: processes that share the items; each returns the whole result.

    Raises:
        UsageError: unknown prior or control, classes that differ without a label map, or ``fold`` where ``folds`` is
            ``person``.
        DatasetError: no such data, or an item that cannot be read.
        WeightsError: the detector that was named cannot be had.
    """
    if prior not in (*PRIORS, "both"):
        raise UsageError(f"prior must be 'train', 'uniform' or 'both', got '{prior}'")
    if not models:
        raise UsageError(
            f"name a --model to score on {dataset}; there are {', '.join(registry.weights()) or 'none yet'}"
        )
    todo, disjoint = parts(dataset, root, split=split, fold=fold, folds=folds)
    split = split or _reported(todo[0].dataset, root)
    result = Result()
    for name in models:
        if "{fold}" in name and todo[0].label is None:
            raise UsageError(f"'{name}' stands for weights of several folds, but {dataset} is scored in one part")
        scored = []
        for part in todo:
            contenders = contenders_of(name.replace("{fold}", part.name), control)
            model = contenders[0].module
            spec = model.spec if detector is None else model.spec.with_detector(detector)
            dm = EmotionDataModule(
                part.dataset, root, spec=spec, classes=model.classes, split=split, fold=part.fold,
                folds=folds if isinstance(folds, int) else None, label_map=label_map, batch_size=batch_size,
                num_workers=num_workers, allow_missing=True,  # predict() decides whether a missing item is an error
            )  # fmt: skip
            dm.setup("test")
            if detector is not None and dm.spec.detector != detector:
                raise WeightsError(faces.fallback_reason(detector) or "")
            try:
                scored.append(
                    predict(
                        contenders,
                        dm,
                        device,
                        allow_missing,
                        unfinished=unfinished,
                        team=team,
                        person=part.person,
                        part=part.label,
                    )
                )
            except NothingToScore as nothing:
                if part.person is None:
                    raise
                _log.warning("person %s is left out: %s", part.person, nothing)
        if not scored:
            raise NothingToScore(f"{root}: nobody has an item with a label for {name}")
        both = PRIORS if any(s.columns for s in scored) else PRIORS[:1]
        for p in both if prior == "both" else (prior,):
            result += records.of_parts(scored, p, name, disjoint, protocol_suffix(folds))
    return result


def _reported(dataset: str, root: str | Path) -> str | None:
    """The default ``split``: ``all`` for data without ``test`` and ``val``, else None, the DataModule's own choice.

    Of data without splits a DataModule would hold out a fifth; a benchmark scores every item.
    """
    return None if {"test", "val"} & set(datasets.load(dataset, root).splits) else ALL


def parts(
    dataset: str, root: str | Path, *, split: str | None, fold: int | None, folds: int | str | None
) -> tuple[list[Part], bool]:
    """The parts to score, and whether they are disjoint (no item is scored twice).

    Raises UsageError for data without splits to go through, and for a fold of what has no numbered folds.
    """
    name, _, choice = dataset.partition(":")
    if folds == PERSON and fold is not None:
        raise UsageError(
            f"--folds person scores every person, with a record of each: leave out --fold {fold}, or name a number of "
            "--folds"
        )
    if choice == "all":
        names = CHOICES.get(name, ())
        if not names or not all(n.startswith("split_") for n in names):
            there = ", ".join(k for k, v in CHOICES.items() if all(n.startswith("split_") for n in v))
            raise UsageError(f"{name} has no splits to go through; {there} has")
        if fold is not None or folds is not None:
            raise UsageError(f"{dataset} has splits of its own, all of which are scored: leave out --fold and --folds")
        return [Part(f"{name}:{n}", label=n, name=n.removeprefix("split_")) for n in names], False
    if folds is not None and fold is None:
        if folds == PERSON:
            manifest = datasets.load(dataset, root)
            chosen = manifest if split in (None, ALL) else manifest.select(split=split)
            scored = [r for r in chosen.rows if r.label or has_va(r)]
            persons = sorted({r.group for r in scored if r.group})
            nameless = sum(r.group is None for r in scored)
            if nameless or not persons:
                raise DatasetError(
                    f"{root}: folds by person need a column group, actor or subject; {nameless} of {len(scored)} "
                    "labelled items name nobody"
                )
            return [Part(dataset, person=p, label=p, name=p) for p in persons], True
        return [Part(dataset, k, label=k, name=str(k)) for k in range(int(folds))], True
    if fold is not None:
        return [Part(dataset, fold, label=fold, name=str(fold))], True
    if split is None:
        manifest = datasets.load(dataset, root)
        if manifest.folds and not {"test", "val"} & set(manifest.splits):
            return [Part(dataset, k, label=k, name=str(k)) for k in manifest.folds], True
    return [Part(dataset)], True


def protocol_suffix(folds: int | str | None) -> str:
    """The end of a protocol's name where people were split into folds."""
    return "" if folds is None else "_leave_one_person_out" if folds == PERSON else f"_{folds}folds_by_person"
