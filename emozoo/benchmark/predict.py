"""Predictions of several contenders for labelled items: each item is read once and shown to all of them.

Valence and arousal per frame are scored at every labelled frame of the whole file. A file that is longer than one clip
of the network is cut into windows that follow one another. A frame between two clips gets a value interpolated between
theirs; a frame before the first or behind the last clip gets the value of that clip.

Legend: N = items, B = batch, C = clips, K = classes, P = scored points of an item: its labelled frames, else its clips.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from emozoo import files
from emozoo.batch import Batch
from emozoo.benchmark import controls, statistics
from emozoo.benchmark.contenders import Contender
from emozoo.benchmark.resume import UnfinishedRun
from emozoo.benchmark.statistics import Outcome
from emozoo.benchmark.team import Team
from emozoo.data import sampling
from emozoo.data.clips import ClipReader, file_errors
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.loading import windows
from emozoo.data.manifest import Row
from emozoo.data.media_state import seen
from emozoo.data.tables import read_va
from emozoo.errors import DatasetError, EmozooError, VideoError
from emozoo.labels import class_mapping
from emozoo.metrics import concordance_sums
from emozoo.spec import ClipSpec


@dataclass
class Predictions:
    """Predictions of a model and its controls for the same N items.

    ``columns``: numbers of the network's classes that are scored. ``true`` (N,): position of the true class in
    ``columns``, -1 = not scored. For each contender: ``logits`` (N, K) or None; ``va``, an array (P, 2) per item, or
    None. ``va_true`` (P, 2) and ``va_time`` (P,) in seconds, per item. ``part``: the fold, split or person that the
    items are.
    """

    contenders: list[Contender]
    dm: EmotionDataModule
    device: str
    rows: list[Row]
    columns: list[int]
    true: np.ndarray
    logits: list[torch.Tensor | None]
    va: list[list[np.ndarray] | None]
    va_true: list[np.ndarray]
    va_time: list[np.ndarray]
    n_expected: int
    n_unscored: int
    no_face: int
    seconds: float
    part: int | str | None = None

    def __post_init__(self) -> None:
        self.groups = statistics.group_numbers([r.group for r in self.rows], [r.id for r in self.rows])

    @property
    def classes(self) -> tuple[str, ...]:
        """The scored classes, by the network's names."""
        return tuple(self.contenders[0].module.classes[i] for i in self.columns)

    def scores(self, contender: int, prior: str) -> np.ndarray | None:
        """Probabilities (N, scored classes) under a prior, which sum to 1; None without classes."""
        logits = self.logits[contender]
        if logits is None:
            return None
        module = self.contenders[contender].module
        scores = module.scores(logits.to(module.log_prior.device), prior)[:, self.columns]
        return (scores / scores.sum(1, keepdim=True)).cpu().numpy()

    def outcome(self, contender: int, prior: str) -> Outcome:
        """The predictions of a contender under a prior, as the statistics take them."""
        confusion = moments = None
        scores, va = self.scores(contender, prior), self.va[contender]
        if scores is not None:
            confusion = np.stack([self.true, scores.argmax(1)], 1)
        if va is not None:
            moments = np.stack([_moments(p, t) for p, t in zip(va, self.va_true, strict=True)])
        return Outcome(self.groups, self.classes, confusion, moments)

    def calibration(self, contender: int, prior: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Highest probability (n,) of each scored item and whether it was right (n,); None without classes."""
        scores, known = self.scores(contender, prior), self.true >= 0
        return None if scores is None else (scores.max(1)[known], (scores.argmax(1) == self.true)[known])

    def table(self, contender: int, prior: str) -> list[dict[str, Any]]:
        """One line for each item, or for each scored point where there is valence and arousal."""
        scores, va = self.scores(contender, prior), self.va[contender]
        lines = []
        for n, row in enumerate(self.rows):
            line: dict[str, Any] = {"id": row.id, "fold": self.part, "group": row.group, "label": None}
            if scores is not None:
                line["label"] = self.classes[self.true[n]] if self.true[n] >= 0 else None
                line |= dict(zip(self.classes, scores[n].tolist(), strict=True))
            if va is None:
                lines.append(line)
                continue
            for when, (v, a), (tv, ta) in zip(self.va_time[n], va[n], self.va_true[n], strict=True):
                point = {"time": float(when), "valence": v, "arousal": a, "true_valence": tv, "true_arousal": ta}
                lines.append(line | {k: float(x) for k, x in point.items()})
        return lines


def _moments(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Sums (2, 6) for valence and arousal over the points of an item."""
    return np.stack([concordance_sums(predicted[:, i], true[:, i]) for i in (0, 1)])


def has_va(row: Row) -> bool:
    """Whether an item has valence and arousal, as a whole or per frame."""
    return (row.valence is not None and row.arousal is not None) or "va_file" in row.extra


# -- items ---------------------------------------------------------------------------------------------------------


@dataclass
class _Item:
    """An item, and the rows that are read of it: the item itself, or its windows."""

    row: Row
    windows: list[Row]
    va: np.ndarray | None = None  # (frames, 2) per frame, nan = no label
    fps: float = 0.0
    found: list[dict[str, Any]] = field(default_factory=list)  # one prediction per window, see _prediction
    error: str | None = None


class NothingToScore(DatasetError):
    """A part of the data has no label that the model scores."""


def predict(
    contenders: list[Contender],
    dm: EmotionDataModule,
    device: str,
    allow_missing: bool,
    *,
    unfinished: UnfinishedRun | None = None,
    team: Team | None = None,
    person: str | None = None,
    part: int | str | None = None,
) -> Predictions:
    """Reads every item that the protocol scores and collects the predictions of all contenders.

    ``dm`` must let unreadable items through (``allow_missing=True``): whether one is an error is decided here. With
    ``person`` only the items of that group are scored. ``unfinished`` caches predictions until the run is over.
    The processes of a ``team`` share the items; each returns the predictions for all.
    Raises NothingToScore where no item has a label that the model scores, DatasetError where none can be read.
    """
    first = contenders[0].module
    dm.setup("test")
    assert dm.manifest is not None
    has_classes, va = "emotion" in first.tasks, "va" in first.tasks
    test = [r for r in dm.test_rows if person is None or r.group == person]
    columns: list[int] = []
    if has_classes and any(r.label for r in test):
        # Weights and data of different classes are never matched by chance: this raises without a label map.
        known = class_mapping(dm.manifest.classes, first.classes, dm.label_map).values()
        columns = [i for i, c in enumerate(first.classes) if c in known]
    number = {r.id: dm.labels.number(r) if columns else -1 for r in test}
    wanted = [r for r in test if number[r.id] >= 0 or (va and has_va(r))]
    if not wanted:
        raise NothingToScore(
            f"{dm.root}: none of {len(test)} items has a label for {first.name} ({', '.join(first.tasks)})"
        )
    items = {r.id: _item(r, dm.spec, va) for r in wanted}
    start = time.monotonic()
    seconds = _predict_items(contenders, dm, device, items, allow_missing, unfinished, team or Team())
    readable = [i for i in items.values() if i.error is None]
    if not readable:
        raise DatasetError(f"{dm.root}: none of {len(wanted)} items could be read")
    whole = [_joined(i, len(contenders), bool(columns), va) for i in readable]
    any_va = va and any(len(p.true) for p in whole)
    count = range(len(contenders))
    return Predictions(
        contenders, dm, device, [i.row for i in readable], columns,
        true=np.array([columns.index(n) if (n := number[i.row.id]) >= 0 else -1 for i in readable]),
        logits=[torch.tensor(np.stack([p.logits[v] for p in whole])) if columns else None for v in count],
        va=[[p.va[v] for p in whole] if any_va else None for v in count],
        va_true=[p.true for p in whole],
        va_time=[p.time for p in whole],
        n_expected=len(wanted), n_unscored=len(test) - len(wanted), part=part,
        no_face=sum(any(f["no_face"] for f in i.found) for i in readable),
        seconds=seconds + time.monotonic() - start,
    )  # fmt: skip


def _item(row: Row, spec: ClipSpec, va_scored: bool) -> _Item:
    """An item as it is read: whole, or in windows where it has labels per frame and is longer than one window."""
    if not (va_scored and "va_file" in row.extra):
        return _Item(row, [row])
    va = read_va(row.extra["va_file"])
    try:
        with file_errors(row.path), ClipReader.of(row, spec) as reader:
            pieces = windows(row, reader)
            fps = reader.fps or len(va) / max(reader.duration, 1e-9)  # audio alone: the rate of its labels
    except VideoError:
        return _Item(row, [row], va)  # the loader reports the same error
    if len(pieces) > 1:
        pieces = [replace(p, id=f"{row.id}@{p.start:.3f}") for p in pieces]
    return _Item(row, pieces, va, fps)


@dataclass
class _Joined:
    """Predictions for a whole item: per contender ``logits`` (K,) and ``va`` (P, 2); ``true`` (P, 2), ``time`` (P,)."""

    logits: list[np.ndarray]
    va: list[np.ndarray]
    true: np.ndarray
    time: np.ndarray


def _joined(item: _Item, contenders: int, classes: bool, va_scored: bool) -> _Joined:
    """The windows of an item joined: the mean of their logits, valence and arousal at each scored point."""
    logits = [np.mean([f["logits"][v] for f in item.found], 0) for v in range(contenders)] if classes else []
    none = np.zeros((0, 2))
    if not (va_scored and has_va(item.row)):
        return _Joined(logits, [none] * contenders, none, np.zeros(0))
    clips = [(f, c) for f in item.found for c in range(len(f["times"])) if f["real"][c]]
    times = np.array([f["times"][c] for f, c in clips])
    va = [np.array([f["va"][v][c] for f, c in clips]) for v in range(contenders)]
    if item.va is None:
        return _Joined(logits, va, np.tile([item.row.valence, item.row.arousal], (len(clips), 1)), times)
    frames = np.array([f["frames"][c] if f["frames"][c] >= 0 else f["times"][c] * (item.fps or 1) for f, c in clips])
    order = np.argsort(frames, kind="stable")
    labelled = np.flatnonzero(np.isfinite(item.va).all(1))
    if item.fps:
        low = (item.row.start or 0.0) * item.fps
        high = np.inf if item.row.end is None else item.row.end * item.fps
        labelled = labelled[(labelled >= low - 1e-6) & (labelled < high)]
    between = [np.stack([np.interp(labelled, frames[order], x[order, i]) for i in (0, 1)], 1) for x in va]
    return _Joined(logits, between, item.va[labelled].astype(np.float64), labelled / (item.fps or 1.0))


# -- reading -------------------------------------------------------------------------------------------------------


def _predict_items(
    contenders: list[Contender],
    dm: EmotionDataModule,
    device: str,
    items: dict[str, _Item],
    allow_missing: bool,
    unfinished: UnfinishedRun | None,
    team: Team,
) -> float:
    """Fills in the predictions for every window; returns the seconds that an earlier, killed run spent on some."""
    owner = {w.id: item for item in items.values() for w in item.windows}
    order = [w for item in items.values() for w in item.windows]
    lead = 0  # windows at the start that are only shown, not predicted
    if any(c.control == "shuffled-context" for c in contenders):
        # Each window gets the context of the one before it; the last one also stands in front of the first.
        order = [order[i] for i in controls.shuffled(len(order))]
        order, lead = [order[-1], *order], 1
    # A process takes whole batches, so that each batch holds the same windows however many processes there are.
    first, last = team.block(math.ceil(len(order) / dm.batch_size))
    if lead and first:
        first, lead = first - 1, dm.batch_size
    order = order[first * dm.batch_size : last * dm.batch_size]
    error: EmozooError | None = None
    found: list[dict[str, Any]] = []
    spent = 0.0
    try:
        found, spent = _predict_rows(contenders, dm, device, order, lead, allow_missing, unfinished, team)
    except EmozooError as e:
        error = e
    everything = team.gather((found, error))
    for _, failure in everything:
        if failure is not None:
            raise failure
    for prediction in (p for part, _ in everything for p in part):
        item = owner[prediction["id"]]
        item.found.append(prediction)
        item.error = item.error or prediction["error"]
        if prediction["error"] and not allow_missing:
            raise DatasetError(_unreadable(prediction["error"], dm))
    return spent


def _predict_rows(
    contenders: list[Contender],
    dm: EmotionDataModule,
    device: str,
    rows: Sequence[Row],
    lead: int,
    allow_missing: bool,
    unfinished: UnfinishedRun | None,
    team: Team,
) -> tuple[list[dict[str, Any]], float]:
    """Predictions for ``rows[lead:]``, and the seconds that an earlier, killed run spent on some of them."""
    done, file = unfinished.open(_key(contenders, dm, rows)) if unfinished else ([], None)
    spent = sum(d.get("seconds", 0.0) for d in done)
    predictions = [p for d in done for p in d["answers"]]
    rest = rows[len(predictions) :]  # starts with the windows in front of the next one to predict
    try:
        if len(rest) > lead:
            for found, seconds in _batches(contenders, dm, device, rest, lead, allow_missing, team.rank == 0):
                predictions += found
                if file is not None:
                    file.write(json.dumps({"answers": found, "seconds": round(seconds, 3)}) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
    finally:
        if file is not None:
            file.close()
    return predictions, spent


def _key(contenders: Sequence[Contender], dm: EmotionDataModule, rows: Sequence[Row]) -> str:
    """A hash of all that decides the predictions: weights, controls, spec, files and their boxes, versions."""
    names = [(c.module.name, c.control) for c in contenders]
    key = hashlib.sha256(repr((dm.spec, files.versions(), names)).encode())
    for contender in contenders:
        key.update(contender.module.sha256.encode())
    for row in rows:
        audio = row.extra.get("sound")
        key.update(repr((row.id, row.path, audio, row.start, row.end, row.box, seen(row))).encode())
    return key.hexdigest()[:32]


def _unreadable(why: str, dm: EmotionDataModule) -> str:
    where = f"emozoo check {dm.dataset} --root {dm.root}"
    return f"{why}; `{where}` lists all such items, --allow-missing leaves them out and counts them"


def _batches(
    contenders: list[Contender],
    dm: EmotionDataModule,
    device: str,
    rows: Sequence[Row],
    lead: int,
    allow_missing: bool,
    show: bool,
) -> Iterator[tuple[list[dict[str, Any]], float]]:
    """Predictions for ``rows[lead:]``, a batch at a time in their order, and the seconds that the batch took."""
    for module in {id(c.module): c.module for c in contenders}.values():
        module.to(device)
    changes = iter(controls.changes(dm.spec, [c.control for c in contenders if c.control]))
    change = [next(changes) if c.control else None for c in contenders]
    at, clock = 0, time.monotonic()
    with torch.inference_mode():
        loader = dm.loader_of(rows, windows=False)
        for batch in _with_progress(loader, contenders[0].module.name) if show else loader:
            part = rows[at : at + dm.batch_size]
            position = {} if batch is None else {i: n for n, i in enumerate(batch.rows)}  # row of the loader -> item
            errors = iter(dm.take_skipped(batch))
            outputs = (
                [] if batch is None else [_outputs(*x, batch, device) for x in zip(contenders, change, strict=True)]
            )
            found = []
            for n, row in enumerate(part, at):
                if n not in position:
                    error = next(errors, f"{row.path}: cannot be read")
                    if not allow_missing:
                        raise DatasetError(_unreadable(error, dm))
                    found.append({"id": row.id, "error": error, "no_face": False})
                    continue
                assert batch is not None
                found.append(_prediction(row, batch, position[n], outputs, dm.spec))
            skip = max(0, lead - at)
            at += len(part)
            now = time.monotonic()
            yield found[skip:], now - clock
            clock = now


def _outputs(
    contender: Contender, change: controls.Change | None, batch: Batch, device: str
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """A contender's logits (B, K) and valence and arousal (B, C, 2) for a batch, or None."""
    controlled = controls.ControlledBatch(batch) if change is None else change(batch)
    out = contender.module.predict_step(controlled.batch.to(device))
    logits, va = (None if x is None else x.float().cpu() for x in (out["logits"], out["va"]))
    if va is not None and controlled.back is not None:
        va = va.gather(1, controlled.back[..., None].expand(-1, -1, 2))
    return None if logits is None else logits.numpy(), None if va is None else va.numpy()


def _prediction(row: Row, batch: Batch, n: int, outputs: Sequence[Any], spec: ClipSpec) -> dict[str, Any]:
    """What all contenders predict for one window, as plain data.

    ``frames``: the frame of the file that carries the label of each clip, -1 = unknown. ``real``: whether a clip holds
    anything at all.
    """
    image = next((k for k, s in spec.streams.items() if s.kind.needs_images and s.position == "all"), None)
    image = image or next((k for k, s in spec.streams.items() if s.kind.needs_images), None)
    frames = np.full(spec.clips, -1)
    if image is not None:
        sampled = batch.meta["frames"][image][n].numpy()
        frames = sampled[:, sampling.label_frame(sampled.shape[1], spec.sampling)]
    real = torch.stack([m[n].any(1) for m in batch.masks.values()]).any(0)
    return {
        "id": row.id,
        "error": None,
        "no_face": bool(batch.meta["no_face"][n]),
        "times": batch.meta["times"][n].tolist(),
        "frames": frames.tolist(),
        "real": real.tolist(),
        "logits": [None if x is None else x[n].tolist() for x, _ in outputs],
        "va": [None if x is None else x[n].tolist() for _, x in outputs],
    }


def _with_progress(loader: Any, name: str) -> Any:
    from rich.console import Console
    from rich.progress import track

    return track(loader, name, len(loader), console=Console(stderr=True), transient=True)
