"""Benchmark: networks on labelled data, scored under a named protocol, by the path that training and prediction use.

A record is plain data: which weights (full name, sha256) on which items under which protocol, how many of those
expected were evaluated, metrics with intervals by person, and for a control the paired difference to its model.

A protocol is one part (a split, a fold), or several: folds give a record each, then one over all their items
(``pooled``) and one with mean and deviation over them (``mean``); splits that overlap give mean and deviation alone.

Legend: N = items, K = classes.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emozoo import files, registry
from emozoo.benchmark import controls, leaderboard, statistics
from emozoo.benchmark.answers import Said, Store, Voice, has_va, read
from emozoo.benchmark.statistics import METRICS, Outcome
from emozoo.data import datasets
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.protocols import CHOICES
from emozoo.data.splits import ALL
from emozoo.errors import DatasetError, UsageError
from emozoo.zoo import load

PRIORS = ("train", "uniform")
PERSON = "person"  # for ``folds``: every person is a fold


@dataclass
class Result:
    """What was measured: ``records``, and for each of them the lines of its predictions (none of sums over folds)."""

    records: list[dict[str, Any]] = field(default_factory=list)
    tables: list[list[dict[str, Any]]] = field(default_factory=list)

    def add(self, record: dict[str, Any], table: list[dict[str, Any]]) -> None:
        self.records.append(record)
        self.tables.append(table)

    def __iadd__(self, other: Result) -> Result:
        self.records += other.records
        self.tables += other.tables
        return self


@dataclass(frozen=True)
class Part:
    """One thing to score: a data set's name, and a fold, split or person of it. ``name`` stands for ``{fold}``."""

    dataset: str
    fold: int | None = None
    person: str | None = None
    label: int | str | None = None
    name: str = ""


def run(models: Sequence[str], dataset: str, root: str | Path, **options: Any) -> list[dict[str, Any]]:
    """The records of :func:`measure`, without predictions."""
    return measure(models, dataset, root, **options).records


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
    store: Store | None = None,
) -> Result:
    """One record per model, part and prior, each followed by its controls.

    Args:
        models: names of weights (aliases are resolved), folders written by training, or hub addresses. ``{fold}`` in
            one stands for the number of the fold (or split, or the person's name): weights that were trained for it.
        dataset, root: a name of ``emozoo.data.datasets`` and where it lies; ``videoemotion8:all`` = its ten splits.
        split: part to score; default ``test``, else ``val``, else every item (``all``). fold: items tested in that
            fold; data that is split into folds alone is scored in all of them.
        folds: deal people into that many folds by a hash of their names, as training does with ``data.folds``; or
            ``person``: every person is a fold.
        prior: class prior of the scores, ``train``, ``uniform``, or ``both`` (a record each).
        label_map: named map where data and weights have different classes; scored are the classes that both know, and
            the network chooses among those alone.
        control: also score the retrained controls of each model (``all``, or what one lacks: its ``control``), or the
            model on input that lacks something (one of ``controls.INPUT_CONTROLS``, or ``inputs``: all it has).
        detector: face detector in place of the one stored with the weights.
        allow_missing: leave out items that cannot be read, and count them; otherwise the first one is an error.
        store: keeps answers while the run is not over, so that it can go on when it was killed.

    Raises:
        UsageError: unknown prior or control, or classes that differ without a label map.
        DatasetError: no such data, or an item that cannot be read.
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
        passes = []
        for part in todo:
            voices = voices_of(name.replace("{fold}", part.name), control)
            spec = voices[0].module.spec if detector is None else voices[0].module.spec.with_detector(detector)
            dm = EmotionDataModule(
                part.dataset, root, spec=spec, classes=voices[0].module.classes, split=split, fold=part.fold,
                folds=folds if isinstance(folds, int) else None, label_map=label_map, batch_size=batch_size,
                num_workers=num_workers, allow_missing=True,  # what is missing is said by read()
            )  # fmt: skip
            said = read(voices, dm, device, allow_missing, store=store, person=part.person, part=part.label)
            passes.append(said)
        both = PRIORS if passes[0].voices[0].module.classes else PRIORS[:1]
        for p in both if prior == "both" else (prior,):
            result += _of_parts(passes, p, name, disjoint, protocol_suffix(folds))
    return result


def _reported(dataset: str, root: str | Path) -> str | None:
    """The ``split`` of data that nobody named one of: None where the data have a part that is reported, else ``all``.

    A data module of data without splits would hold out a fifth; a benchmark scores every item of them.
    """
    return None if {"test", "val"} & set(datasets.load(dataset, root).splits) else ALL


def parts(
    dataset: str, root: str | Path, *, split: str | None, fold: int | None, folds: int | str | None
) -> tuple[list[Part], bool]:
    """What to score, and whether no item is scored twice."""
    name, _, choice = dataset.partition(":")
    if choice == "all":
        names = CHOICES.get(name, ())
        if not names or not all(n.startswith("split_") for n in names):
            there = ", ".join(k for k, v in CHOICES.items() if all(n.startswith("split_") for n in v))
            raise UsageError(f"{name} has no splits to go through; {there} has")
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
    """What dealing people into folds adds to the name of a protocol."""
    return "" if folds is None else "_leave_one_person_out" if folds == PERSON else f"_{folds}folds_by_person"


def voices_of(name: str, control: str | Sequence[str] | None) -> list[Voice]:
    """A model and the controls that were asked for; UsageError for one that it has not."""
    wanted = [control] if isinstance(control, str) else list(control or ())
    model = load(name)
    voices = [Voice(model)]
    for one in wanted:
        if one == "inputs":
            voices += [Voice(model, c) for c in controls.of(model.spec)]
        elif one in controls.INPUT_CONTROLS:
            controls.check(model.spec, one, model.name)
            voices.append(Voice(model, one))
        else:
            voices += [Voice(load(n)) for n in controls_of(name, one)]
    for voice in voices[1:]:
        if voice.module.spec != model.spec or voice.module.classes != model.classes:
            raise UsageError(f"{voice.module.name} does not look at the same clips as {model.name}: no paired control")
    return voices


def controls_of(name: str, control: str | None) -> list[str]:
    """Full names of the retrained controls of a model: all, or the one that lacks ``control``; none without one."""
    if control is None:
        return []
    try:
        entry = registry.resolve(str(name))[1]
    except UsageError:
        entry = None  # a folder of weights has no published controls
    full = entry.name if entry else str(name)
    found = {
        w.name: str(w.config.get("control")) for w in registry.weights().values() if w.config.get("control_of") == full
    }
    if control == "all":
        return list(found)
    names = [n for n, what in found.items() if control in (what, n)]
    if not names:
        there = ", ".join(f"'{c}'" for c in (*found.values(), *controls.INPUT_CONTROLS))
        raise UsageError(f"{full} has no control '{control}'; there are {there}")
    return names


# -- records -------------------------------------------------------------------------------------------------------


def _of_parts(passes: Sequence[Said], prior: str, name: str, disjoint: bool, suffix: str) -> Result:
    """Records of all parts under a prior; of several parts also those over all of them."""
    result = Result()
    for said in passes:
        for v, record in enumerate(records(said, prior, suffix)):
            result.add(record, said.table(v, prior))
    if len(passes) > 1:
        over = _pooled(passes, prior, name, suffix) if disjoint else []
        for record in [*over, *_mean(passes, prior, name, disjoint, suffix, result.records)]:
            result.add(record, [])
    return result


def records(said: Said, prior: str, suffix: str = "") -> list[dict[str, Any]]:
    """The record of the model, then those of its controls with ``delta`` = model minus control."""
    outcomes = [said.outcome(v, prior) for v in range(len(said.voices))]
    found = [record(said, v, outcome, prior, suffix) for v, outcome in enumerate(outcomes)]
    _add_differences(found, outcomes)
    return found


def _add_differences(found: Sequence[dict[str, Any]], outcomes: Sequence[Outcome]) -> None:
    for one, outcome in zip(found[1:], outcomes[1:], strict=True):
        delta, interval = statistics.difference(outcomes[0], outcome)
        one["delta"] = complete(delta)
        one["delta_ci95"] = ends(interval)


def record(said: Said, voice: int, outcome: Outcome, prior: str, suffix: str = "") -> dict[str, Any]:
    """The record of a voice's outcome on these items, without differences."""
    metrics, interval = statistics.evaluate(outcome)
    module = said.voices[voice].module
    splits = {r.split for r in said.rows}
    boxes = all(r.box is not None for r in said.rows)
    manifest, spec = said.dm.manifest, said.dm.spec
    assert manifest is not None
    split = splits.pop() if len(splits) == 1 else None
    fold = said.part if not str(said.part).startswith("split_") else None
    protocol = manifest.protocol + suffix
    return {
        "schema": 1,
        "model": module.name,
        "sha256": module.sha256,
        "detector": None if not spec.needs_face else "boxes of the data" if boxes else spec.detector,
        "dataset": manifest.name,
        "protocol": protocol,
        "protocol_version": manifest.version,
        "split": split,
        "fold": fold,
        "seed": module.config.get("seed"),
        "prior": prior if outcome.confusion is not None else None,
        "control": said.voices[voice].lacks,
        "label_map": said.dm.label_map,
        "classes": list(outcome.classes),
        "n_expected": said.n_expected,
        "n_evaluated": len(said.rows),
        "n_unscored": said.n_unscored,
        "n_groups": len(np.unique(outcome.groups)),
        "n_points": sum(map(len, said.va_true)) if outcome.moments is not None else None,
        "no_face": said.no_face,
        "metrics": complete(metrics),
        "ci95": ends(interval),
        "per_class": statistics.per_class(outcome),
        "confusion": statistics.matrix(outcome),
        "ece": _ece([said], voice, prior),
        # With a label map other classes are scored than others published numbers for.
        "published": [] if said.dm.label_map else leaderboard.published(manifest.name, protocol, split, fold),
        "versions": files.versions(),
        "hardware": hardware(said.device),
        "precision": "float32",
        "date": date.today().isoformat(),
        "commit": commit(),
        "seconds": round(said.seconds, 2),
    }


def _ece(passes: Sequence[Said], voice: int, prior: str) -> float | None:
    """The calibration error over all scored items; None without classes."""
    found = [c for p in passes if (c := p.calibration(voice, prior)) is not None]
    if not found or not sum(len(right) for _, right in found):
        return None
    confidence, right = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return statistics.calibration_error(confidence, right)


def _over_parts(
    passes: Sequence[Said], voice: int, outcome: Outcome | None, prior: str, name: str, suffix: str
) -> dict[str, Any]:
    """What records over several parts have in common: counts are sums, weights that differ have no one hash."""
    first = passes[0]
    found = record(first, voice, outcome or first.outcome(voice, prior), prior, suffix)
    weights = [p.voices[voice].module for p in passes]
    if len({w.sha256 for w in weights}) > 1:
        found |= {"model": name, "sha256": "", "weights": [{"name": w.name, "sha256": w.sha256} for w in weights]}
    found |= {k: sum(r) for k, r in {
        "n_expected": [p.n_expected for p in passes],
        "n_evaluated": [len(p.rows) for p in passes],
        "n_unscored": [p.n_unscored for p in passes],
        "no_face": [p.no_face for p in passes],
    }.items()}  # fmt: skip
    if found["n_points"] is not None:
        found["n_points"] = sum(len(x) for p in passes for x in p.va_true)
    splits = {r.split for p in passes for r in p.rows}
    found |= {"split": splits.pop() if len(splits) == 1 else None, "parts": [p.part for p in passes]}
    found |= {"seconds": round(sum(p.seconds for p in passes), 2), "ece": _ece(passes, voice, prior)}
    return found


def _pooled(passes: Sequence[Said], prior: str, name: str, suffix: str) -> list[dict[str, Any]]:
    """One record per voice over all items of all parts."""
    rows = [r for p in passes for r in p.rows]
    groups = statistics.group_numbers([r.group for r in rows], [r.id for r in rows])
    found, outcomes = [], []
    for v in range(len(passes[0].voices)):
        outcome = replace(statistics.pooled([p.outcome(v, prior) for p in passes]), groups=groups)
        one = _over_parts(passes, v, outcome, prior, name, suffix)
        one |= {"fold": "pooled", "published": _published(one, "pooled")}
        found.append(one)
        outcomes.append(outcome)
    _add_differences(found, outcomes)
    return found


def _mean(
    passes: Sequence[Said], prior: str, name: str, disjoint: bool, suffix: str, single: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One record per voice with mean and standard deviation over parts, whose numbers stand in ``of_parts``."""
    found = []
    voices = len(passes[0].voices)
    for v in range(voices):
        outcomes = [p.outcome(v, prior) for p in passes]
        one = _over_parts(passes, v, None, prior, name, suffix)
        each = single[v::voices]
        metrics, deviation, interval = statistics.mean(outcomes, disjoint)
        if not disjoint:
            one["protocol"] = one["protocol"].replace(str(passes[0].part), f"{len(passes)}splits")
        one |= {
            "fold": "mean",
            "published": _published(one, "mean"),
            "metrics": complete(metrics),
            "std": complete(deviation),
            "ci95": ends(interval),
            "of_parts": [r["metrics"] for r in each],
            "per_class": {},
            "confusion": None,
        }
        if disjoint:
            one["n_groups"] = len({(g, r.id if g is None else "") for p in passes for r in p.rows for g in [r.group]})
        else:
            one["n_groups"] = None
        if v:
            values = {m: [r["delta"].get(m) for r in each] for m in METRICS}
            one["delta"] = complete({m: float(np.mean(x)) for m, x in values.items() if None not in x})
            one["delta_ci95"] = ends({})
        found.append(one)
    return found


def _published(one: Mapping[str, Any], fold: str) -> list[dict[str, Any]]:
    return [] if one["label_map"] else leaderboard.published(one["dataset"], one["protocol"], one["split"], fold)


def complete(values: Mapping[str, float]) -> dict[str, float | None]:
    """Every metric by name; None = not measured here. The mean CCC is there only where it was."""
    names = [m for m in METRICS if m != "CCC" or m in values]
    return {k: float(values[k]) if k in values and np.isfinite(values[k]) else None for k in names}


def ends(interval: Mapping[str, tuple[float, float]]) -> dict[str, list[float] | None]:
    """The two ends of every metric's interval; None = there is none."""
    return {k: list(interval[k]) if k in interval else None for k in METRICS if k != "CCC" or k in interval}


@cache
def commit() -> str:
    """The checkout's commit, empty outside one."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
        )
    except OSError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def hardware(device: str) -> str:
    """What computed it: the accelerator's name, else the processor's."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(device))
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    name = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), platform.processor())
    return f"{name or platform.machine()}, {torch.get_num_threads()} threads"
