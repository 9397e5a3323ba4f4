"""Files of any length to predictions: the file is read window by window, so a long one needs no more memory.

Media up to one window (``spec.window_s``) is sampled whole, exactly as the benchmark samples a labelled clip. Longer
media gets one entry of the timeline every ``every`` seconds, each answered by the window around its middle.

Legend: B = batch, C = clips, F = pictures in a clip, K = classes.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch

from emozoo import hub
from emozoo.data.clips import MAIN, ClipReader, RawClip, Warn, to_batch
from emozoo.data.faces import Track
from emozoo.data.faces import detector as find_detector
from emozoo.data.manifest import MEDIA
from emozoo.errors import EmozooError, UsageError, VideoError
from emozoo.module import EmotionModule, load
from emozoo.spec import ClipSpec

AGGREGATION = "mean over time of the longest track"
# A passer-by is seen for less than this; the main face always gets its timeline.
MIN_TRACK_S = 1.0
MAX_TRACKS = 8
# What one batch of windows may take, as floats of the input, before the batch is made smaller.
BATCH_BYTES = 128 * 2**20

MediaPath = str | PathLike[str]


@dataclass
class Moment:
    """One entry of a timeline: seconds from the start of the file, class probabilities, valence and arousal in [-1, 1].

    ``box`` = x1, y1, x2, y2 of the face in pixels of the upright picture, at the middle of the entry. ``label`` is the
    likeliest class, None where that has less than ``least`` probability.
    """

    start_s: float
    end_s: float
    scores: dict[str, float]
    valence: float | None = None
    arousal: float | None = None
    box: list[float] | None = None
    least: float = 0.0

    @property
    def label(self) -> str | None:
        return _likeliest(self.scores, self.least)


@dataclass
class FaceTrack:
    """One face through the file (or, for models that need none, the whole picture): means over its timeline.

    ``path`` holds the smoothed boxes that the annotated video draws; it is not part of the JSON.
    """

    id: int
    label: str | None
    scores: dict[str, float]
    timeline: list[Moment]
    path: Track | None = None


@dataclass
class Prediction:
    """What one model says about one file.

    ``label`` and ``scores`` are the means over the track with most face frames, ``valence`` and ``arousal`` likewise;
    what the model does not answer is None. ``error`` is None or ``{"code", "text"}``; a broken file has no result.
    """

    file: str
    model: str
    sha256: str
    detector: str | None
    classes: list[str]
    streams_used: list[str] = field(default_factory=list)
    duration_s: float | None = None
    fps: float | None = None
    label: str | None = None
    scores: dict[str, float] | None = None
    valence: float | None = None
    arousal: float | None = None
    tracks: list[FaceTrack] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)
    error: dict[str, str] | None = None

    @property
    def timeline(self) -> list[Moment]:
        """The timeline of the track with most face frames."""
        return self.tracks[0].timeline if self.tracks else []

    def to_dict(self) -> dict[str, Any]:
        """Plain types in the documented order (schema 1)."""
        return {
            "schema": 1,
            "file": self.file,
            "model": self.model,
            "sha256": self.sha256,
            "detector": self.detector,
            "streams_used": self.streams_used,
            "classes": self.classes,
            "duration_s": _short(self.duration_s),
            "fps": _short(self.fps),
            "label": self.label,
            "scores": _short(self.scores),
            "valence": _short(self.valence),
            "arousal": _short(self.arousal),
            "aggregation": AGGREGATION,
            "tracks": [
                {
                    "id": t.id,
                    "label": t.label,
                    "scores": _short(t.scores),
                    "timeline": [{k: _short(v) for k, v in asdict(m).items() if k != "least"} for m in t.timeline],
                }
                for t in self.tracks
            ],
            "warnings": self.warnings,
            "error": self.error,
        }

    def to_json(self, indent: int | None = None) -> str:
        """One compact line, or indented text."""
        separators = (",", ":") if indent is None else None
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)

    def to_csv(self, path: MediaPath) -> None:
        """One line per track and moment: times, label, a column per class, valence, arousal, box in pixels."""
        text = io.StringIO(newline="")
        table = csv.writer(text, lineterminator="\n")
        fixed = ["file", "model", "track", "start_s", "end_s", "label"]
        table.writerow([*fixed, *self.classes, "valence", "arousal", "x1", "y1", "x2", "y2"])
        for t in self.tracks:
            for m in t.timeline:
                scores = [_short(m.scores[c]) if m.scores else None for c in self.classes]
                row = [self.file, self.model, t.id, _short(m.start_s), _short(m.end_s), m.label, *scores]
                table.writerow([*row, _short(m.valence), _short(m.arousal), *(_short(m.box) or [None] * 4)])
        hub.write_atomic(Path(path), text.getvalue().encode(errors="backslashreplace"))

    def plot(self, path: MediaPath) -> None:
        """Draws the timelines as a picture; the suffix says which kind (.png, .svg, .pdf)."""
        from emozoo import plots

        plots.timeline(self, Path(path))

    def video(self, path: MediaPath, progress: Callable[[float], None] | None = None) -> None:
        """Writes the video again as mp4 with boxes and labels drawn in. Raises VideoError for stills and sound."""
        from emozoo import plots

        plots.video(self, Path(path), progress)


def _likeliest(scores: Mapping[str, float], least: float) -> str | None:
    """The class with the highest score; None without scores, or where that is below ``least``."""
    best = max(scores, key=scores.__getitem__, default=None)
    return best if best is not None and scores[best] >= least else None


def _short(value: Any) -> Any:
    """Numbers as they are printed: scores to 1e-4, boxes and times alike; enough to compare, short enough to read."""
    if isinstance(value, dict):
        return {k: _short(v) for k, v in value.items()}
    if isinstance(value, list):
        return [round(v, 1) for v in value]
    return round(value, 4) if isinstance(value, float) else value


class Item(NamedTuple):
    """A file to predict, and the name (without suffix, sub-folders kept) of what is written about it."""

    path: Path
    name: str


def find_media(paths: Sequence[MediaPath]) -> list[Item]:
    """Files as given, and for a folder all media files in it and below, sorted; hidden ones are passed over.

    Raises UsageError for a folder without any media file.
    """
    found: list[tuple[Path, Path]] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append((path, Path(path.name)))
            continue
        inside = [p.relative_to(path) for p in path.rglob("*") if p.suffix.lower() in MEDIA and not p.is_dir()]
        visible = sorted(p for p in inside if not any(part.startswith(".") for part in p.parts))
        if not visible:
            raise UsageError(f"{path}: no media file in this folder (looked for {', '.join(sorted(MEDIA))})")
        found += [(path / p, p) for p in visible]
    count = Counter(str(name.with_suffix("")) for _, name in found)
    items, taken = [], Counter[str]()
    for path, name in found:
        short = str(name.with_suffix(""))
        full = short if count[short] == 1 else str(name)  # a.mov beside a.mp4 keeps its suffix
        taken[full] += 1
        items.append(Item(path, full if taken[full] == 1 else f"{full}-{taken[full]}"))
    return items


# -- asking ----------------------------------------------------------------------------------------------------------


@overload
def predict(paths: MediaPath, model: str | EmotionModule = ..., **options: Any) -> Prediction: ...
@overload
def predict(paths: Sequence[MediaPath], model: str | EmotionModule = ..., **options: Any) -> list[Prediction]: ...
def predict(
    paths: MediaPath | Sequence[MediaPath], model: str | EmotionModule = "ceflnet", **options: Any
) -> Prediction | list[Prediction]:
    """What a model says about a video, sound file, picture or folder of frames; for a list, a list in the same order.

    Options are those of :func:`stream`. A file that cannot be read never raises: its Prediction carries the error.

    >>> import emozoo
    >>> emozoo.predict("nowhere.mp4", emozoo.load("ceflnet", size="lite", weights=None)).error["code"]
    'missing'
    """
    if isinstance(paths, str | PathLike):
        return next(stream([paths], model, **options))
    return list(stream(paths, model, **options))


def stream(
    paths: Sequence[MediaPath],
    model: str | EmotionModule = "ceflnet",
    *,
    every: float = 1.0,
    prior: str = "train",
    min_confidence: float = 0.0,
    detector: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Iterator[Prediction]:
    """Predictions one after the other, each as soon as its file is done.

    Args:
        model: a name, the path of a weights folder, or a loaded module.
        every: seconds between entries of the timeline of media longer than one window.
        prior: ``train`` keeps the class prior of training in the scores, ``uniform`` takes it out.
        min_confidence: labels whose probability is lower, in [0, 1], are left out (None); scores stay.
        detector: another face detector than the one stored with the weights.
        device: where the network runs; None leaves a loaded module where it is.
        batch_size: windows at a time; None fits it to the size of the model's input.
        progress: is told the share of the current file that is done, in [0, 1].

    Raises:
        UsageError, UnknownModelError, WeightsError: for the request; files never raise.
    """
    if not (math.isfinite(every) and every > 0):
        raise UsageError(f"every must be a positive number of seconds, got {every}")
    if not 0 <= min_confidence <= 1:
        raise UsageError(f"min_confidence is a probability from 0 to 1, got {min_confidence:g}")
    module = model if isinstance(model, EmotionModule) else load(model)
    if device is not None:
        module = _to_device(module, device)
    spec = module.spec.with_detector(detector) if detector else module.spec
    if spec.needs_face:
        find_detector(spec.detector)  # a detector that cannot be had is the request's fault, not each file's
    ask = _Question(module.eval(), spec, every, prior, min_confidence, batch_size or _batch_size(spec))
    for path in paths:
        yield ask.about(path, progress or (lambda share: None))


def _to_device(module: EmotionModule, device: str) -> EmotionModule:
    try:
        return module.to(torch.device(device))
    except (RuntimeError, AssertionError, TypeError) as error:  # TypeError: a device without float64
        raise UsageError(f"device '{device}' cannot be used here: {str(error).splitlines()[0]}") from error


def _batch_size(spec: ClipSpec) -> int:
    floats = sum(
        spec.clips * s.frames * math.prod(s.size) * (1 if s.source == "audio" else 3) for s in spec.streams.values()
    )
    return min(16, max(1, BATCH_BYTES // (4 * floats)))


class _Window(NamedTuple):
    """One question to the network: the entry of the timeline, and the seconds looked at (None: the whole file)."""

    start: float
    end: float
    read_from: float | None
    read_to: float | None


class _Answer(NamedTuple):
    """The network's answer to one window: scores (K,), va (C, 2), or None; times (C,), real (C,), boxes (C, 4)."""

    window: _Window
    scores: np.ndarray | None
    va: np.ndarray | None
    times: np.ndarray
    real: np.ndarray
    boxes: np.ndarray


@dataclass
class _File:
    """What was learned about one open file: streams that were real, warnings, and of the main track's windows how many.

    ``passed`` = windows passed over because nothing in them was real.
    """

    reader: ClipReader
    used: set[str]
    warnings: list[Warn]
    asked: int
    passed: int


class _Question:
    """A model and how it is asked; :meth:`about` answers for one file and never raises for what is in the file."""

    def __init__(
        self, module: EmotionModule, spec: ClipSpec, every: float, prior: str, least: float, batch_size: int
    ) -> None:
        self.module, self.spec, self.every, self.prior, self.batch_size = module, spec, every, prior, batch_size
        self.least = least
        if module.classes:
            module.scores(torch.zeros(1, len(module.classes), device=module.device), prior)  # refuses a wrong prior now

    def about(self, path: MediaPath, progress: Callable[[float], None]) -> Prediction:
        module, spec = self.module, self.spec
        detector = spec.detector if spec.needs_face else None
        found = Prediction(str(path), module.name, module.sha256, detector, list(module.classes))
        try:
            self._answer(found, progress)
        except EmozooError as error:
            found = self._failed(found, getattr(error, "code", "failed"), getattr(error, "reason", str(error)))
        except Exception as error:  # a file must not end the batch, whatever a decoder throws
            found = self._failed(found, "internal", f"{type(error).__name__}: {error}")
        progress(1.0)
        return found

    @staticmethod
    def _failed(found: Prediction, code: str, text: str) -> Prediction:
        error = {"code": code, "text": " ".join(text.split())}
        return Prediction(
            found.file, found.model, found.sha256, found.detector, found.classes, warnings=found.warnings, error=error
        )

    def _answer(self, found: Prediction, progress: Callable[[float], None]) -> None:
        spec = self.spec
        with ClipReader(found.file, spec) as reader:
            found.duration_s = float(reader.duration)
            found.fps = float(reader.fps) if reader.fps else None
            faces: list[Track] = list(reader.tracks) if spec.needs_face else []
            shown = faces[:1] + [t for t in faces[1:] if t.end - t.start >= MIN_TRACK_S][: MAX_TRACKS - 1]
            file = _File(reader, set(), [], 0, 0)
            for number, face in enumerate(shown or [None]):
                windows = self._windows(found.duration_s, face if number else None)

                def done(share: float, number: int = number) -> None:
                    progress((number + share) / max(1, len(shown)))

                answers = self._ask(file, windows, face if number and face else MAIN, done)
                moments = [m for a in answers for m in self._moments(a, len(windows) == 1)]
                if moments:
                    found.tracks.append(
                        _track(len(found.tracks), [replace(m, least=self.least) for m in moments], face)
                    )
            found.streams_used = [s for s in spec.streams if s in file.used]
            found.warnings = self._warnings(file, faces, len(shown))
        if found.tracks:
            main = found.tracks[0]
            found.label, found.scores = main.label, main.scores or None
            if found.scores and found.label is None:
                best = max(found.scores, key=found.scores.__getitem__)
                text = f"no label: the likeliest class, {best}, has {found.scores[best]:.2f}, less than {self.least:g}"
                found.warnings.append({"code": "low_confidence", "text": text})
            found.valence = _mean(main.timeline, lambda m: m.valence)
            found.arousal = _mean(main.timeline, lambda m: m.arousal)

    def _warnings(self, file: _File, faces: list[Track], shown: int) -> list[dict[str, str]]:
        """What the reader of the result should know, each code once."""
        texts: dict[str, str] = {}
        for w in [*file.reader.warnings, *file.warnings]:
            texts.setdefault(w.code, w.text)
        texts.pop("no_face", None)
        faceless = not any(s.source == "face" and n in file.used for n, s in self.spec.streams.items())
        if self.spec.needs_face and faceless and file.reader.size != (0, 0):
            others = [s for s in self.spec.streams if s in file.used]
            how = f"the answer comes from: {', '.join(others)}" if others else "this model answers from faces alone"
            texts["no_face"] = f"no face was found; {how}"
        if "no_audio" in texts and any(self.spec.streams[s].source == "audio" for s in file.used):
            texts.setdefault("short_audio", "a part of the file has no sound")
            del texts["no_audio"]
        if file.passed and file.asked > file.passed:
            texts["gaps"] = (
                f"{file.passed} of {file.asked} moments have no answer: no face, or nothing that could be decoded"
            )
        if len(faces) > shown:
            texts["more_faces"] = (
                f"{len(faces) - shown} more faces, seen for a short time, got no timeline of their own"
            )
        return [{"code": code, "text": text} for code, text in texts.items()]

    def _windows(self, duration: float, face: Track | None) -> list[_Window]:
        """The windows of a file; for a face beside the main one, those in which it is seen."""
        length = self.spec.window_s
        if duration <= length + 1e-6:
            return [_Window(0.0, duration, None, None)]
        count = max(1, math.ceil(duration / self.every - 1e-3))
        windows = []
        for k in range(count):
            start = k * self.every
            end = duration if k == count - 1 else start + self.every
            if face is None or (start < face.end and end > face.start):
                first = min(max((start + end - length) / 2, 0.0), duration - length)
                windows.append(_Window(start, end, first, first + length))
        return windows

    def _ask(
        self, file: _File, windows: list[_Window], face: Track, done: Callable[[float], None]
    ) -> Iterator[_Answer]:
        """Reads and answers windows, a batch at a time; windows in which no stream is real are passed over."""
        failure: VideoError | None = None
        answered = 0
        for first in range(0, len(windows), self.batch_size):
            chunk: list[tuple[_Window, RawClip]] = []
            for window in windows[first : first + self.batch_size]:
                try:
                    raw = file.reader.read(window.read_from, window.read_to, track=face)
                except VideoError as error:  # a damaged or silent part; the rest of the file still counts
                    failure = error
                    continue
                file.warnings += [w for w in raw.warnings if w not in file.warnings]
                if raw.no_face:
                    for name, s in self.spec.streams.items():
                        if s.source == "face":  # the whole picture stood in for it; a person is not read from that
                            raw.masks[name] = np.zeros_like(raw.masks[name])
                real = {name for name, mask in raw.masks.items() if mask.any()}
                if real:
                    file.used |= real
                    chunk.append((window, raw))
            answered += len(chunk)
            if chunk:
                yield from self._run(chunk)
            done(min(1.0, (first + self.batch_size) / len(windows)))
        if failure is not None and not answered:
            raise failure
        if face is MAIN:  # a passer-by is expected to be out of sight
            file.asked, file.passed = len(windows), len(windows) - answered

    @torch.inference_mode()
    def _run(self, chunk: list[tuple[_Window, RawClip]]) -> list[_Answer]:
        batch = to_batch([raw for _, raw in chunk], self.spec, ids=[str(i) for i in range(len(chunk))])
        out = self.module.predict_step(batch.to(self.module.device), 0)
        scores = None if out["logits"] is None else self.module.scores(out["logits"], self.prior).cpu().numpy()
        va = None if out["va"] is None else out["va"].float().cpu().numpy()
        return [
            _Answer(
                window,
                None if scores is None else scores[i],
                None if va is None else va[i],
                raw.times,
                np.any([mask.any(-1) for mask in raw.masks.values()], axis=0),
                raw.boxes,
            )
            for i, (window, raw) in enumerate(chunk)
        ]

    def _moments(self, answer: _Answer, alone: bool) -> list[Moment]:
        """The entries that one answer gives: one, or one per clip where a single window answers clip by clip."""
        classes = self.module.classes
        scores = {} if answer.scores is None else {c: float(p) for c, p in zip(classes, answer.scores, strict=True)}
        window, real = answer.window, np.flatnonzero(answer.real)
        if answer.va is None or not len(real):
            return [Moment(window.start, window.end, scores, box=_box(answer, window.start, window.end))]
        length = self.spec.clip_s
        if alone and length > 0 and window.end > 0:  # times are the ends of clips
            moments = []
            for c in real:
                start, end = max(0.0, answer.times[c] - length), float(answer.times[c])
                v, a = map(float, answer.va[c])
                moments.append(Moment(float(start), end, scores, v, a, _box(answer, start, end)))
            return moments
        inside = [c for c in real if window.start < answer.times[c] <= window.end]
        middle = (window.start + window.end) / 2
        nearest = real[np.argmin(abs(answer.times[real] - middle))]
        v, a = map(float, answer.va[inside or [nearest]].mean(0))
        return [Moment(window.start, window.end, scores, v, a, _box(answer, window.start, window.end))]


def _box(answer: _Answer, start: float, end: float) -> list[float] | None:
    """The face's box at the clip nearest to the middle of an entry; None where no clip has one."""
    known = np.flatnonzero(np.isfinite(answer.boxes).all(-1))
    if not len(known):
        return None
    nearest = known[np.argmin(abs(answer.times[known] - (start + end) / 2))]
    return [float(x) for x in answer.boxes[nearest]]


def _mean(timeline: list[Moment], of: Callable[[Moment], float | None]) -> float | None:
    """Mean over time: an entry counts by its length (a still's, of no length, by one)."""
    pairs = [(value, m.end_s - m.start_s) for m in timeline if (value := of(m)) is not None]
    total = sum(length for _, length in pairs)
    if not pairs:
        return None
    return sum(v * w for v, w in pairs) / total if total > 0 else sum(v for v, _ in pairs) / len(pairs)


def _track(number: int, moments: list[Moment], face: Track | None) -> FaceTrack:
    classes = moments[0].scores
    scores = {c: _mean(moments, lambda m, c=c: m.scores[c]) or 0.0 for c in classes}  # type: ignore[misc]
    return FaceTrack(number, _likeliest(scores, moments[0].least), scores, moments, face)
