"""Benchmark: networks on labelled data, scored under a named protocol, by the path that training and prediction use.

A record is plain data: which weights (full name, sha256) on which items under which protocol, how many of those
expected were evaluated, metrics with intervals by person, and for a control the paired difference to its model.

Legend: N = items, C = clips, K = classes.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emozoo import hub, registry
from emozoo.benchmark import leaderboard, statistics
from emozoo.benchmark.statistics import Outcome
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.manifest import Row
from emozoo.errors import DatasetError, UsageError
from emozoo.labels import class_mapping
from emozoo.metrics import concordance_sums
from emozoo.module import EmotionModule, load

METRICS = ("WAR", "UAR", "F1", "CCC_V", "CCC_A")
PRIORS = ("train", "uniform")


def run(
    models: Sequence[str],
    dataset: str,
    root: str | Path,
    *,
    split: str | None = None,
    fold: int | None = None,
    prior: str = "train",
    label_map: str | None = None,
    control: str | None = None,
    detector: str | None = None,
    device: str = "cpu",
    batch_size: int = 32,
    num_workers: int = 0,
    allow_missing: bool = False,
) -> list[dict[str, Any]]:
    """One record per model and prior, each followed by its controls.

    Args:
        models: names of weights (aliases are resolved), or folders written by training.
        dataset, root: a name of ``emozoo.data.datasets`` and where it lies.
        split: part to score; default ``test``, else ``val``, else every item. fold: items tested in that fold.
        prior: class prior of the scores, ``train``, ``uniform``, or ``both`` (a record each).
        label_map: named map where data and weights have different classes; scored are the classes that both know, and
            the network chooses among those alone.
        control: ``all``, or what a control lacks (its ``control``): also score the retrained controls of each model.
        detector: face detector in place of the one stored with the weights.
        allow_missing: leave out items that cannot be read, and count them; otherwise the first one is an error.

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
    records = []
    for name in models:
        group = [load(n) for n in (name, *controls_of(name, control))]
        for module in group[1:]:
            if module.spec != group[0].spec or module.classes != group[0].classes:
                raise UsageError(f"{module.name} does not look at the same clips as {group[0].name}: no paired control")
        spec = group[0].spec if detector is None else group[0].spec.with_detector(detector)
        dm = EmotionDataModule(
            dataset, root, spec=spec, classes=group[0].classes, split=split, fold=fold, label_map=label_map,
            batch_size=batch_size, num_workers=num_workers, allow_missing=True,  # what is missing is said by read()
        )  # fmt: skip
        said = read(group, dm, device, allow_missing)
        priors = (PRIORS if group[0].classes else PRIORS[:1]) if prior == "both" else (prior,)
        for p in priors:
            records += said.records(p)
    return records


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
        there = ", ".join(f"'{c}'" for c in found.values()) or "none"
        raise UsageError(f"{full} has no control '{control}'; there are {there}")
    return names


@dataclass
class Said:
    """What a model and its controls said in one reading of the data, so that all answered for the same clips.

    ``columns``: the network's classes that are scored. ``true`` (N,): place in ``columns``, -1 = not scored.
    ``logits``: (N, K) of each network, or None. ``moments``: (N, 2, 6) of each network, or None.
    """

    modules: list[EmotionModule]
    dm: EmotionDataModule
    device: str
    rows: list[Row]
    columns: list[int]
    true: np.ndarray
    logits: list[torch.Tensor | None]
    moments: list[np.ndarray | None]
    n_expected: int
    n_unscored: int
    no_face: int
    seconds: float

    def __post_init__(self) -> None:
        self.groups = statistics.group_numbers([r.group for r in self.rows], [r.id for r in self.rows])

    def records(self, prior: str) -> list[dict[str, Any]]:
        """The record of the model, then those of its controls with ``delta`` = model minus control."""
        outcomes = [self.outcome(m, prior) for m in range(len(self.modules))]
        found = [self.record(m, outcome, prior) for m, outcome in zip(self.modules, outcomes, strict=True)]
        for record, outcome in zip(found[1:], outcomes[1:], strict=True):
            delta, interval = statistics.difference(outcomes[0], outcome)
            record["delta"] = complete(delta)
            record["delta_ci95"] = {k: list(interval[k]) if k in interval else None for k in METRICS}
        return found

    def outcome(self, m: int, prior: str) -> Outcome:
        """What network ``m`` said under a prior, ready for the statistics."""
        confusion = None
        classes = tuple(self.modules[m].classes[i] for i in self.columns)
        logits = self.logits[m]
        if logits is not None:
            scores = self.modules[m].scores(logits, prior)[:, self.columns]
            confusion = np.stack([self.true, scores.argmax(1).cpu().numpy()], 1)
        return Outcome(self.groups, classes, confusion, self.moments[m])

    def record(self, module: EmotionModule, outcome: Outcome, prior: str) -> dict[str, Any]:
        """The record of a network's outcome on these items, without differences."""
        metrics, interval = statistics.evaluate(outcome)
        splits = {r.split for r in self.rows}
        boxes = all(r.box is not None for r in self.rows)
        manifest, spec = self.dm.manifest, self.dm.spec
        assert manifest is not None
        split = splits.pop() if len(splits) == 1 else None
        return {
            "schema": 1,
            "model": module.name,
            "sha256": module.sha256,
            "detector": None if not spec.needs_face else "boxes of the data" if boxes else spec.detector,
            "dataset": manifest.name,
            "protocol": manifest.protocol,
            "protocol_version": manifest.version,
            "split": split,
            "fold": self.dm.fold,
            "seed": module.config.get("seed"),
            "prior": prior if outcome.confusion is not None else None,
            "control": module.config.get("control"),
            "label_map": self.dm.label_map,
            "classes": list(outcome.classes),
            "n_expected": self.n_expected,
            "n_evaluated": len(self.rows),
            "n_unscored": self.n_unscored,
            "n_groups": int(self.groups.max()) + 1,
            "no_face": self.no_face,
            "metrics": complete(metrics),
            "ci95": {k: list(interval[k]) if k in interval else None for k in METRICS},
            "per_class": statistics.per_class(outcome),
            # With a label map other classes are scored than others published numbers for.
            "published": []
            if self.dm.label_map
            else leaderboard.published(manifest.name, manifest.protocol, split, self.dm.fold),
            "versions": hub.versions(),
            "hardware": hardware(self.device),
            "precision": "float32",
            "seconds": round(self.seconds, 2),
        }


def read(modules: list[EmotionModule], dm: EmotionDataModule, device: str, allow_missing: bool) -> Said:
    """Reads every item that the protocol scores and keeps what each network says of it.

    ``dm`` must let unreadable items through (``allow_missing=True``): whether one is an error is decided here.
    """
    first = modules[0]
    dm.setup("test")
    assert dm.manifest is not None
    has_classes, has_va = "emotion" in first.tasks, "va" in first.tasks
    columns: list[int] = []
    if has_classes and any(r.label for r in dm.test_rows):
        # Weights and data of different classes are never matched by chance: this raises without a label map.
        known = class_mapping(dm.manifest.classes, first.classes, dm.label_map).values()
        columns = [i for i, c in enumerate(first.classes) if c in known]
    part = len(dm.test_rows)
    number = {r.id: dm.labels.number(r) if columns else -1 for r in dm.test_rows}
    dm.test_rows = [r for r in dm.test_rows if number[r.id] >= 0 or (has_va and _has_va(r))]
    if not dm.test_rows:
        raise DatasetError(f"{dm.root}: none of {part} items has a label for {first.name} ({', '.join(first.tasks)})")
    by_id = {r.id: r for r in dm.test_rows}
    rows: list[Row] = []
    logits: list[list[torch.Tensor]] = [[] for _ in modules]
    moments: list[list[np.ndarray]] = [[] for _ in modules]
    no_face = 0
    for module in modules:
        module.to(device)
    start = time.monotonic()
    with torch.inference_mode():
        for batch in _shown(dm.predict_dataloader(), first.name):
            if (batch is None or batch.meta["skipped"]) and not allow_missing:
                why = batch.meta["skipped"][0] if batch is not None else f"{dm.root}: no item of a batch can be read"
                where = f"emozoo check {dm.dataset} --root {dm.root}"
                raise DatasetError(
                    f"{why}; `{where}` lists all such items, --allow-missing leaves them out and counts them"
                )
            if batch is None:
                continue
            rows += [by_id[i] for i in batch.meta["id"]]
            no_face += int(batch.meta["no_face"].sum())
            batch = batch.to(device)
            for m, module in enumerate(modules):
                answer = module.predict_step(batch)
                if columns:
                    logits[m].append(answer["logits"])
                if has_va and "va" in batch.targets:
                    moments[m] += _moments(answer["va"], batch.targets)
    seconds = time.monotonic() - start
    if not rows:
        raise DatasetError(f"{dm.root}: none of {len(dm.test_rows)} items could be read")
    return Said(
        modules, dm, device, rows, columns,
        true=np.array([columns.index(n) if (n := number[r.id]) >= 0 else -1 for r in rows]),
        logits=[torch.cat(x) if x else None for x in logits],
        moments=[np.stack(x) if x else None for x in moments],
        n_expected=len(dm.test_rows), n_unscored=part - len(dm.test_rows), no_face=no_face, seconds=seconds,
    )  # fmt: skip


def _has_va(row: Row) -> bool:
    return (row.valence is not None and row.arousal is not None) or "va_file" in row.extra


def complete(values: dict[str, float]) -> dict[str, float | None]:
    """Every metric by name; None = not measured here."""
    return {k: float(values[k]) if k in values and np.isfinite(values[k]) else None for k in METRICS}


def _moments(said: torch.Tensor, targets: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """Sums (2, 6) for valence and arousal over the labelled clips of each item."""
    predicted, true = said.double().cpu().numpy(), targets["va"].double().cpu().numpy()
    mask = targets["va_mask"].cpu().numpy()
    return [
        np.stack([concordance_sums(p[keep][:, i], t[keep][:, i]) for i in (0, 1)])
        for p, t, keep in zip(predicted, true, mask, strict=True)
    ]


def _shown(loader: Any, name: str) -> Any:
    from rich.console import Console
    from rich.progress import track

    return track(loader, name, len(loader), console=Console(stderr=True), transient=True)


def hardware(device: str) -> str:
    """What computed it: the accelerator's name, else the processor's."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(device))
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    name = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), platform.processor())
    return f"{name or platform.machine()}, {torch.get_num_threads()} threads"
