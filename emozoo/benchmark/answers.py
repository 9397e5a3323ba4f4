"""What networks say of labelled items: read once, answered by every network and control, kept until the run is over.

An item with valence and arousal per frame is scored at every labelled frame of the whole file: one that is longer than
what the network looks at is cut into windows that follow one another, and a frame between two clips gets the value
between theirs (before the first and behind the last clip, theirs). All frames of all items are pooled.

Legend: N = items, C = clips, K = classes, P = scored points of an item: its labelled frames, else its clips.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from emozoo import files
from emozoo.batch import Batch
from emozoo.benchmark import controls, statistics
from emozoo.benchmark.statistics import Outcome
from emozoo.data.clips import ClipReader, file_errors
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.manifest import Row, read_va
from emozoo.errors import DatasetError, VideoError
from emozoo.labels import class_mapping
from emozoo.metrics import concordance_sums
from emozoo.module import EmotionModule
from emozoo.spec import ClipSpec

KEPT_S = 7 * 24 * 3600  # unfinished answers older than a week are not gone on with


@dataclass(frozen=True)
class Voice:
    """Who answers: a network, or with ``control`` what it says of input that lacks something."""

    module: EmotionModule
    control: str | None = None

    @property
    def lacks(self) -> str | None:
        """The ``control`` of its record: of the input, else of the network as it was trained."""
        return self.control or self.module.config.get("control")


@dataclass
class Said:
    """What a model and its controls said in one reading of the data, so that all answered for the same items.

    ``columns``: the network's classes that are scored. ``true`` (N,): place in ``columns``, -1 = not scored.
    ``logits``: (N, K) of each voice, or None. ``va``: of each voice and item (P, 2), or None; ``va_true`` of each item,
    ``va_time`` (P,) in seconds. ``part``: the fold, split or person that these items are.
    """

    voices: list[Voice]
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
        return tuple(self.voices[0].module.classes[i] for i in self.columns)

    def scores(self, voice: int, prior: str) -> np.ndarray | None:
        """Probabilities (N, scored classes) under a prior, which sum to 1; None without classes."""
        logits = self.logits[voice]
        if logits is None:
            return None
        module = self.voices[voice].module
        scores = module.scores(logits.to(module.log_prior.device), prior)[:, self.columns]
        return (scores / scores.sum(1, keepdim=True)).cpu().numpy()

    def outcome(self, voice: int, prior: str) -> Outcome:
        """What a voice said under a prior, ready for the statistics."""
        confusion = moments = None
        scores, va = self.scores(voice, prior), self.va[voice]
        if scores is not None:
            confusion = np.stack([self.true, scores.argmax(1)], 1)
        if va is not None:
            moments = np.stack([_moments(p, t) for p, t in zip(va, self.va_true, strict=True)])
        return Outcome(self.groups, self.classes, confusion, moments)

    def calibration(self, voice: int, prior: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Highest probability (n,) of each scored item and whether it was right (n,); None without classes."""
        scores, known = self.scores(voice, prior), self.true >= 0
        return None if scores is None else (scores.max(1)[known], (scores.argmax(1) == self.true)[known])

    def table(self, voice: int, prior: str) -> list[dict[str, Any]]:
        """Predictions, a line for each item, or for each scored point where there is valence and arousal."""
        scores, va = self.scores(voice, prior), self.va[voice]
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


def _moments(said: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Sums (2, 6) for valence and arousal over the points of an item."""
    return np.stack([concordance_sums(said[:, i], true[:, i]) for i in (0, 1)])


# -- unfinished answers --------------------------------------------------------------------------------------------


class Store:
    """Answers of a run that is not over, in the cache: a run that was killed goes on from its last batch.

    One file for each reading of data, named by all that its answers follow from. :meth:`finish` removes those of this
    run; what lies longer than a week is not used.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or files.cache_folder() / "benchmark"
        self.files: list[Path] = []

    def open(self, key: str) -> tuple[list[dict[str, Any]], IO[str] | None]:
        """Answers that are there, and the file to append to; None while another run writes it, or nobody can."""
        path = self.folder / f"{key}.jsonl"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if path.is_file() and time.time() - path.stat().st_mtime > KEPT_S:
                path.unlink()
            file = path.open("a+", encoding="utf-8")
        except OSError:
            return [], None  # a cache that cannot be written costs a killed run its answers, nothing more
        if not _locked(file):
            file.close()
            return [], None
        self.files.append(path)
        file.seek(0)
        found, whole = [], 0
        while line := file.readline():
            try:
                found.append(json.loads(line))
            except ValueError:
                break  # the line that was being written when the run was killed
            whole = file.tell()
        file.seek(whole)
        file.truncate()
        return found, file

    def finish(self) -> None:
        """Removes this run's files: the next run measures anew."""
        for path in self.files:
            path.unlink(missing_ok=True)


def _locked(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: one run at a time
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _key(voices: Sequence[Voice], dm: EmotionDataModule, rows: Sequence[Row]) -> str:
    """A hash of all that answers follow from: weights, controls, spec, files and their boxes, versions."""
    key = hashlib.sha256(repr((dm.spec, files.versions(), [(v.module.name, v.control) for v in voices])).encode())
    for voice in voices:
        key.update(voice.module.sha256.encode())
    for row in rows:
        file = Path(row.path)
        state = (file.stat().st_size, file.stat().st_mtime_ns) if file.exists() else None
        audio = row.extra.get("sound")
        key.update(repr((row.id, row.path, audio, row.start, row.end, row.box, state)).encode())
    return key.hexdigest()[:32]


# -- reading -------------------------------------------------------------------------------------------------------


@dataclass
class _Item:
    """An item and what is read of it: itself, or its windows."""

    row: Row
    pieces: list[Row]
    va: np.ndarray | None = None  # (frames, 2) per frame, nan = no label
    fps: float = 0.0
    found: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None


def read(
    voices: list[Voice],
    dm: EmotionDataModule,
    device: str,
    allow_missing: bool,
    *,
    store: Store | None = None,
    person: str | None = None,
    part: int | str | None = None,
) -> Said:
    """Reads every item that the protocol scores and keeps what each voice says of it.

    ``dm`` must let unreadable items through (``allow_missing=True``): whether one is an error is decided here. With
    ``person`` only the items of one group are scored. ``store`` keeps answers while the run is not over.
    """
    first = voices[0].module
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
        raise DatasetError(
            f"{dm.root}: none of {len(test)} items has a label for {first.name} ({', '.join(first.tasks)})"
        )
    items = {r.id: _item(r, dm.spec, va) for r in wanted}
    start = time.monotonic()
    seconds = _ask(voices, dm, device, items, allow_missing, store)
    kept = [i for i in items.values() if i.error is None]
    if not kept:
        raise DatasetError(f"{dm.root}: none of {len(wanted)} items could be read")
    answered = [_answers(i, len(voices), bool(columns), va) for i in kept]
    any_va = va and any(len(a.true) for a in answered)
    return Said(
        voices, dm, device, [i.row for i in kept], columns,
        true=np.array([columns.index(n) if (n := number[i.row.id]) >= 0 else -1 for i in kept]),
        logits=[torch.tensor(np.stack([a.logits[v] for a in answered])) if columns else None
                for v in range(len(voices))],
        va=[[a.va[v] for a in answered] if any_va else None for v in range(len(voices))],
        va_true=[a.true for a in answered],
        va_time=[a.time for a in answered],
        n_expected=len(wanted), n_unscored=len(test) - len(wanted), part=part,
        no_face=sum(any(f["no_face"] for f in i.found) for i in kept),
        seconds=seconds + time.monotonic() - start,
    )  # fmt: skip


def has_va(row: Row) -> bool:
    """Whether an item has valence and arousal, as a whole or per frame."""
    return (row.valence is not None and row.arousal is not None) or "va_file" in row.extra


def _item(row: Row, spec: ClipSpec, asked: bool) -> _Item:
    """An item as it is read: whole, or in windows where it has labels per frame and is longer than one window."""
    if not (asked and "va_file" in row.extra):
        return _Item(row, [row])
    va = read_va(row.extra["va_file"])
    piece = replace(
        row, extra={k: v for k, v in row.extra.items() if k != "va_file"}
    )  # read once, not for every window
    try:
        with file_errors(row.path), ClipReader.of(row, spec) as reader:
            start, end = reader.start, min(reader.end, reader.duration)
            fps = reader.fps or len(va) / max(reader.duration, 1e-9)  # of audio alone: as many as there are labels
    except VideoError:
        return _Item(row, [piece], va)  # reading it will say so
    length, starts = spec.window_s, spec.windows(start, end)
    if len(starts) == 1:
        return _Item(row, [piece], va, fps)
    return _Item(row, [replace(piece, id=f"{row.id}@{s:.3f}", start=s, end=s + length) for s in starts], va, fps)


def _ask(
    voices: list[Voice],
    dm: EmotionDataModule,
    device: str,
    items: dict[str, _Item],
    allow_missing: bool,
    store: Store | None,
) -> float:
    """Fills in what each voice says of each piece; returns the seconds that an earlier, unfinished run spent."""
    owner = {p.id: item for item in items.values() for p in item.pieces}
    order = [p for item in items.values() for p in item.pieces]
    before = 0  # items at the start that are only shown, not asked about
    if any(v.control == "shuffled-context" for v in voices):
        # Everybody gets the context of the one before; the first is asked about last.
        order = [order[i] for i in controls.shuffled(len(order))]
        order, before = [order[-1], *order], 1
    done, file = store.open(_key(voices, dm, order)) if store else ([], None)
    spent = sum(d.get("seconds", 0.0) for d in done)
    answers = [a for d in done for a in d["answers"]]
    rest = order[len(answers) :]  # keeps the one before the next to be asked about
    try:
        if len(rest) > before:
            for found, seconds in _batches(voices, dm, device, rest, before, allow_missing):
                answers += found
                if file is not None:
                    file.write(json.dumps({"answers": found, "seconds": round(seconds, 3)}) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
    finally:
        if file is not None:
            file.close()
    for answer in answers:
        item = owner[answer["id"]]
        item.found.append(answer)
        item.error = item.error or answer["error"]
        if answer["error"] and not allow_missing:
            raise DatasetError(_unreadable(answer["error"], dm))
    return spent


def _unreadable(why: str, dm: EmotionDataModule) -> str:
    where = f"emozoo check {dm.dataset} --root {dm.root}"
    return f"{why}; `{where}` lists all such items, --allow-missing leaves them out and counts them"


def _batches(
    voices: list[Voice], dm: EmotionDataModule, device: str, rows: Sequence[Row], before: int, allow_missing: bool
) -> Iterator[tuple[list[dict[str, Any]], float]]:
    """Answers to ``rows[before:]``, a batch at a time in their order, and the seconds that it took."""
    for module in {id(v.module): v.module for v in voices}.values():
        module.to(device)
    changes = iter(controls.changes_of(dm.spec, [v.control for v in voices if v.control]))
    change = [next(changes) if v.control else None for v in voices]
    at, clock = 0, time.monotonic()
    with torch.inference_mode():
        for batch in _shown(dm.loader_of(rows), voices[0].module.name):
            part = rows[at : at + dm.batch_size]
            read_ = dict(enumerate([] if batch is None else batch.rows))
            place = {i: n for n, i in read_.items()}
            bad = iter([] if batch is None else batch.skipped)
            said = [_of(v, c, batch, device) for v, c in zip(voices, change, strict=True)] if batch is not None else []
            found = []
            for n, row in enumerate(part, at):
                if n not in place:
                    error = next(bad, f"{row.path}: cannot be read")
                    if not allow_missing:
                        raise DatasetError(_unreadable(error, dm))
                    found.append({"id": row.id, "error": error, "no_face": False})
                    continue
                assert batch is not None
                found.append(_answer(row, batch, place[n], said, dm.spec))
            skip = max(0, before - at)
            at += len(part)
            now = time.monotonic()
            yield found[skip:], now - clock
            clock = now


def _of(voice: Voice, change: Any, batch: Batch, device: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """A voice's logits (B, K) and valence and arousal (B, C, 2) for a batch, or None."""
    seen = controls.ControlledBatch(batch) if change is None else change(batch)
    out = voice.module.predict_step(seen.batch.to(device))
    logits, va = (None if x is None else x.float().cpu() for x in (out["logits"], out["va"]))
    if va is not None and seen.back is not None:
        va = va.gather(1, seen.back[..., None].expand(-1, -1, 2))
    return None if logits is None else logits.numpy(), None if va is None else va.numpy()


def _answer(row: Row, batch: Batch, n: int, said: Sequence[Any], spec: ClipSpec) -> dict[str, Any]:
    """What all voices said of one piece, as plain data. ``frames``: the labelled frame of each clip, -1 = unknown."""
    image = next((k for k, s in spec.streams.items() if s.kind.needs_images and s.position == "all"), None)
    image = image or next((k for k, s in spec.streams.items() if s.kind.needs_images), None)
    frames = np.full(spec.clips, -1)
    if image is not None:
        kept = batch.meta["frames"][image][n].numpy()
        frames = kept[:, -1 if spec.sampling == "trailing" else kept.shape[1] // 2]
    real = torch.stack([m[n].any(1) for m in batch.masks.values()]).any(0)
    return {
        "id": row.id,
        "error": None,
        "no_face": bool(batch.meta["no_face"][n]),
        "times": batch.meta["times"][n].tolist(),
        "frames": frames.tolist(),
        "real": real.tolist(),
        "logits": [None if x is None else x[n].tolist() for x, _ in said],
        "va": [None if x is None else x[n].tolist() for _, x in said],
    }


@dataclass
class _Answered:
    logits: list[np.ndarray]
    va: list[np.ndarray]
    true: np.ndarray
    time: np.ndarray


def _answers(item: _Item, voices: int, classes: bool, asked: bool) -> _Answered:
    """The pieces of an item put together: the mean of their logits, valence and arousal at each scored point."""
    logits = [np.mean([f["logits"][v] for f in item.found], 0) for v in range(voices)] if classes else []
    none = np.zeros((0, 2))
    if not (asked and has_va(item.row)):
        return _Answered(logits, [none] * voices, none, np.zeros(0))
    clips = [(f, c) for f in item.found for c in range(len(f["times"])) if f["real"][c]]
    times = np.array([f["times"][c] for f, c in clips])
    said = [np.array([f["va"][v][c] for f, c in clips]) for v in range(voices)]
    if item.va is None:
        return _Answered(logits, said, np.tile([item.row.valence, item.row.arousal], (len(clips), 1)), times)
    place = np.array([f["frames"][c] if f["frames"][c] >= 0 else f["times"][c] * (item.fps or 1) for f, c in clips])
    order = np.argsort(place, kind="stable")
    labelled = np.flatnonzero(np.isfinite(item.va).all(1))
    if item.fps:
        low = (item.row.start or 0.0) * item.fps
        high = np.inf if item.row.end is None else item.row.end * item.fps
        labelled = labelled[(labelled >= low - 1e-6) & (labelled < high)]
    between = [np.stack([np.interp(labelled, place[order], s[order, i]) for i in (0, 1)], 1) for s in said]
    return _Answered(logits, between, item.va[labelled].astype(np.float64), labelled / (item.fps or 1.0))


def _shown(loader: Any, name: str) -> Any:
    from rich.console import Console
    from rich.progress import track

    return track(loader, name, len(loader), console=Console(stderr=True), transient=True)
