"""Benchmark: networks on labelled data, scored under a named protocol, by the path that training and prediction use.

A record is plain data: which weights (full name, sha256) on which items under which protocol, how many of those
expected were evaluated, metrics with intervals by person, and for a control the paired difference to its model.

Legend: N = items, C = clips, K = classes.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emozoo import registry
from emozoo.benchmark import statistics
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
        with _Pass(group, dataset, root, split, fold, label_map, detector, device) as scored:
            scored.predict(batch_size, num_workers, allow_missing)
            for p in PRIORS if prior == "both" and group[0].classes else ("train" if prior == "both" else prior,):
                records += scored.records(p)
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
class _Pass:
    """One reading of the data for a model and its controls, so that all answer for the same clips."""

    modules: list[EmotionModule]
    dataset: str
    root: str | Path
    split: str | None
    fold: int | None
    label_map: str | None
    detector: str | None
    device: str
    folds: int | None = None
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0

    def __enter__(self) -> _Pass:
        return self

    def __exit__(self, *_: object) -> None:
        for module in self.modules:
            module.to("cpu")

    def predict(self, batch_size: int, num_workers: int, allow_missing: bool) -> None:
        """Reads every item that the protocol scores and keeps what each network says of it."""
        first = self.modules[0]
        self.spec = first.spec if self.detector is None else first.spec.with_detector(self.detector)
        dm = EmotionDataModule(
            self.dataset,
            self.root,
            spec=self.spec,
            classes=first.classes,
            split=self.split,
            fold=self.fold,
            folds=self.folds,
            label_map=self.label_map,
            batch_size=batch_size,
            num_workers=num_workers,
            allow_missing=True,  # said below in one readable line, also from a worker process
        )
        dm.setup("test")
        assert dm.manifest is not None
        self.manifest = dm.manifest
        wants_va = "va" in first.tasks
        mapping = {}
        if "emotion" in first.tasks and any(r.label for r in dm.test_rows):
            # Weights and data of different classes are never matched by chance: this raises without a label map.
            mapping = class_mapping(self.manifest.classes, first.classes, self.label_map)
        self.columns = [i for i, c in enumerate(first.classes) if c in mapping.values()]
        number = {r.id: dm.labels.number(r) if self.columns else -1 for r in dm.test_rows}
        part = len(dm.test_rows)
        dm.test_rows = [r for r in dm.test_rows if number[r.id] >= 0 or (wants_va and _has_va(r))]
        if not dm.test_rows:
            raise DatasetError(
                f"{self.root}: none of {part} items has a label for {first.name} ({', '.join(first.tasks)})"
            )
        self.n_expected, self.n_unscored = len(dm.test_rows), part - len(dm.test_rows)
        by_id = {r.id: r for r in dm.test_rows}
        logits: list[list[torch.Tensor]] = [[] for _ in self.modules]
        moments: list[list[np.ndarray]] = [[] for _ in self.modules]
        self.no_face = 0
        for module in self.modules:
            module.to(self.device).eval()
        start = time.monotonic()
        with torch.inference_mode():
            for batch in _shown(dm.predict_dataloader(), first.name):
                if batch is None or batch.meta["skipped"]:
                    self._missing(dm, batch, allow_missing)
                if batch is None:
                    continue
                self.rows += [by_id[i] for i in batch.meta["id"]]
                self.no_face += int(batch.meta["no_face"].sum())
                batch = batch.to(self.device)
                for m, module in enumerate(self.modules):
                    said = module.predict_step(batch)
                    if self.columns:
                        logits[m].append(said["logits"])
                    if wants_va and "va" in batch.targets:
                        moments[m] += _moments(said["va"], batch.targets)
        self.seconds = time.monotonic() - start
        if not self.rows:
            raise DatasetError(f"{self.root}: none of {self.n_expected} items could be read")
        self.true = np.array([self.columns.index(n) if (n := number[r.id]) >= 0 else -1 for r in self.rows])
        self.logits = [torch.cat(x) if x else None for x in logits]
        self.moments = [np.stack(x) if x else None for x in moments]
        self.groups = statistics.group_numbers([r.group for r in self.rows], [r.id for r in self.rows])

    def _missing(self, dm: EmotionDataModule, batch: Any, allow_missing: bool) -> None:
        if not allow_missing:
            why = batch.meta["skipped"][0] if batch is not None else "a whole batch of files cannot be read"
            where = f"emozoo check {self.dataset} --root {self.root}"
            raise DatasetError(
                f"{why}; `{where}` lists all such items, --allow-missing scores the others and counts them"
            )

    def records(self, prior: str) -> list[dict[str, Any]]:
        """The record of the model, then those of its controls with ``delta`` = model minus control."""
        outcomes = [self._outcome(m, prior) for m in range(len(self.modules))]
        found = [self._record(m, outcome, prior) for m, outcome in zip(self.modules, outcomes, strict=True)]
        for record, outcome in zip(found[1:], outcomes[1:], strict=True):
            delta, interval = statistics.difference(outcomes[0], outcome)
            record["delta"] = _complete(delta)
            record["delta_ci95"] = {k: list(interval[k]) if k in interval else None for k in METRICS}
        return found

    def _outcome(self, m: int, prior: str) -> Outcome:
        confusion = None
        classes = tuple(self.modules[m].classes[i] for i in self.columns)
        logits = self.logits[m]
        if logits is not None:
            scores = self.modules[m].scores(logits, prior)[:, self.columns]
            confusion = np.stack([self.true, scores.argmax(1).cpu().numpy()], 1)
        return Outcome(self.groups, classes, confusion, self.moments[m])

    def _record(self, module: EmotionModule, outcome: Outcome, prior: str) -> dict[str, Any]:
        metrics, interval = statistics.evaluate(outcome)
        splits = {r.split for r in self.rows}
        boxes = all(r.box is not None for r in self.rows)
        return {
            "schema": 1,
            "model": module.name,
            "sha256": module.sha256,
            "detector": (None if not self.spec.needs_face else "boxes of the data" if boxes else self.spec.detector),
            "dataset": self.manifest.name,
            "protocol": self.manifest.protocol,
            "protocol_version": self.manifest.version,
            "split": splits.pop() if len(splits) == 1 else None,
            "fold": self.fold,
            "seed": module.config.get("seed"),
            "prior": prior if outcome.confusion is not None else None,
            "control": module.config.get("control"),
            "label_map": self.label_map,
            "classes": list(outcome.classes),
            "n_expected": self.n_expected,
            "n_evaluated": len(self.rows),
            "n_unscored": self.n_unscored,
            "n_groups": int(self.groups.max()) + 1,
            "no_face": self.no_face,
            "metrics": _complete(metrics),
            "ci95": {k: list(interval[k]) if k in interval else None for k in METRICS},
            "per_class": statistics.per_class(outcome),
            "published": [],
            "versions": versions(),
            "hardware": hardware(self.device),
            "precision": "float32",
            "seconds": round(self.seconds, 2),
        }


def _has_va(row: Row) -> bool:
    return (row.valence is not None and row.arousal is not None) or "va_file" in row.extra


def _complete(values: dict[str, float]) -> dict[str, float | None]:
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


def versions() -> dict[str, str]:
    """Versions that a number depends on."""
    found = {"python": platform.python_version()}
    for name in ("emozoo", "torch", "torchvision", "timm", "numpy", "opencv-python-headless", "decord", "av"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # decord has no wheel on this platform, or emozoo runs from a bare checkout
    return found


def hardware(device: str) -> str:
    """What computed it: the accelerator's name, else the processor's."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(device))
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    name = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), platform.processor())
    return f"{name or platform.machine()}, {torch.get_num_threads()} threads"
