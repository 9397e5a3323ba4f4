"""Files of any length to predictions: the file is read window by window, so a long one needs no more memory.

Media up to one window (``spec.window_s``) is sampled whole, exactly as the benchmark samples a labelled clip. Longer
media gets one entry of the timeline every ``every`` seconds, each answered by the window around its middle.

Legend: B = batch, C = clips, F = images in a clip, K = classes.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, overload
from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL import Image, ImageOps

from emozoo import files
from emozoo.data import faces
from emozoo.data.clips import MAIN, ClipReader, RawClip, Warn, file_errors, to_batch
from emozoo.data.faces import Track
from emozoo.data.find import Item, find_media, one_line
from emozoo.data.images import FOLDER_FPS
from emozoo.errors import EmozooError, UsageError
from emozoo.module import EmotionModule, load
from emozoo.spec import ClipSpec

__all__ = [
    "Clip", "FaceTrack", "Frames", "Item", "Moment", "Prediction", "Predictor", "find_media", "one_line", "predict",
]  # fmt: skip

AGGREGATION = "mean over time of the longest track"
# A passer-by is seen for less than this, and for less than half of a shorter file; the main face always gets its
# timeline.
MIN_TRACK_S = 1.0
MAX_TRACKS = 8
# What one batch of windows may take, as floats of the input, before the batch is made smaller.
BATCH_BYTES = 128 * 2**20

MediaPath = str | PathLike[str]
ImageLike = np.ndarray | Image.Image

_log = logging.getLogger(__name__)  # without a handler of the user's, one plain line on stderr


@dataclass
class Moment:
    """One entry of a timeline: seconds from the start of the file, class probabilities, valence and arousal in [-1, 1].

    ``box`` = x1, y1, x2, y2 of the face in pixels of the upright image, at the middle of the entry. ``label`` is the
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
    """One face through the file (or, for models that need none, the whole image): means over its timeline.

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

    ``file`` is the path as it was given; ``<array>``, ``<image>`` or ``<frames>`` where images were given.
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
        """One compact line, or indented text. Bytes of a file's name that are no text become \\udcXX escapes.

        ``os.fsencode(json.loads(line)["file"])`` is the name again.
        """
        separators = (",", ":") if indent is None else None
        text = json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
        return text.encode(errors="backslashreplace").decode()

    def to_csv(self, path: MediaPath) -> None:
        """One line per track and moment: times, label, a column per class, valence, arousal, box in pixels.

        Line breaks, control characters and bytes that are no text are written as escapes in the file's name.
        """
        text = io.StringIO(newline="")
        table = csv.writer(text, lineterminator="\n")
        fixed = ["file", "model", "track", "start_s", "end_s", "label"]
        table.writerow([*fixed, *self.classes, "valence", "arousal", "x1", "y1", "x2", "y2"])
        for t in self.tracks:
            for m in t.timeline:
                scores = [_short(m.scores[c]) if m.scores else None for c in self.classes]
                row = [one_line(self.file), self.model, t.id, _short(m.start_s), _short(m.end_s), m.label, *scores]
                table.writerow([*row, _short(m.valence), _short(m.arousal), *(_short(m.box) or [None] * 4)])
        files.write_atomic(Path(path), text.getvalue().encode(errors="backslashreplace"))

    def plot(self, path: MediaPath) -> None:
        """Draws the timelines as an image; the suffix says which kind (.png, .svg, .pdf)."""
        from emozoo import plots

        plots.timeline(self, Path(path))

    def video(self, path: MediaPath, progress: Callable[[float], None] | None = None) -> None:
        """Writes the video again as mp4 with boxes and labels drawn in. Raises VideoError for stills and audio."""
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


# -- images in memory --------------------------------------------------------------------------------------------


class Frames:
    """Images in memory as one clip, ``FOLDER_FPS`` a second; one alone is a still. RGB uint8 (H, W, 3) each."""

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        self._images = images
        self.size: tuple[int, int] = (images[0].shape[1], images[0].shape[0])
        self.stamps = np.arange(len(images)) / FOLDER_FPS
        self.warnings: list[Warn] = []

    def check(self, first: int, last: int) -> np.ndarray:
        """All of them are whole."""
        return np.ones(last - first + 1, dtype=bool)

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """Those of the indices, one at a time."""
        return (self._images[i] for i in indices)

    def close(self) -> None:
        """Nothing is open."""


_WANTED = (
    "predict takes a path, a list of paths, an image (RGB uint8 array (H, W, 3) or PIL image) or a list of images, "
    "the frames of one clip"
)


def _image(value: Any) -> np.ndarray:
    """RGB uint8 (H, W, 3) of an array or PIL image, this turned as its EXIF data say. Raises UsageError."""
    if isinstance(value, Image.Image):
        if value.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"):
            raise UsageError(f"{_WANTED}; got a PIL image of mode {value.mode}: convert it to RGB")
        value = np.asarray(ImageOps.exif_transpose(value).convert("RGB"))
    if value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3 or not value.size:
        raise UsageError(f"{_WANTED}; got an array of {value.dtype} {value.shape}")
    return np.ascontiguousarray(value)


def _what(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _is_path(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, PathLike) and isinstance(os.fspath(value), str))


class Clip(NamedTuple):
    """Images in memory to predict, and what stands for a file's name in the answer."""

    name: str
    images: Frames


def _asked(value: Any) -> tuple[list[MediaPath | Clip], bool]:
    """What is to be predicted, and whether one answer is wanted instead of a list. Raises UsageError by type."""
    if _is_path(value):
        if os.path.isdir(value):
            return [item.path for item in find_media([value])], False
        return [value], True
    if isinstance(value, np.ndarray | Image.Image):
        name = "<image>" if isinstance(value, Image.Image) else "<array>"
        return [Clip(name, Frames([_image(value)]))], True
    if not isinstance(value, list | tuple | Iterator) or isinstance(value, io.IOBase):
        raise UsageError(f"{_WANTED}; got {_what(value)}")
    values = list(value)
    if values and all(isinstance(v, np.ndarray | Image.Image) for v in values):
        frames = [_image(v) for v in values]
        if len({f.shape for f in frames}) > 1:
            raise UsageError("the frames of one clip must be of one size; ask for each image alone")
        return [Clip("<frames>", Frames(frames))], True
    for v in values:
        if not _is_path(v):
            raise UsageError(f"{_WANTED}; got a {_what(value)} with {_what(v)} in it")
    files: list[MediaPath | Clip] = []
    for v in values:
        files += [item.path for item in find_media([v])] if os.path.isdir(v) else [v]
    return files, False


# -- asking ----------------------------------------------------------------------------------------------------------


@overload
def predict(  # type: ignore[overload-overlap]  # an empty list is a list of files
    paths: MediaPath | ImageLike | Sequence[np.ndarray] | Sequence[Image.Image],
    model: str | EmotionModule = ...,
    *,
    every: float = ...,
    prior: str = ...,
    min_confidence: float = ...,
    detector: str | None = ...,
    device: str | None = ...,
    batch_size: int | None = ...,
    progress: Callable[[float], None] | None = ...,
) -> Prediction: ...
@overload
def predict(
    paths: Sequence[MediaPath] | Iterator[MediaPath],
    model: str | EmotionModule = ...,
    *,
    every: float = ...,
    prior: str = ...,
    min_confidence: float = ...,
    detector: str | None = ...,
    device: str | None = ...,
    batch_size: int | None = ...,
    progress: Callable[[float], None] | None = ...,
) -> list[Prediction]: ...
def predict(
    paths: MediaPath
    | ImageLike
    | Sequence[np.ndarray]
    | Sequence[Image.Image]
    | Sequence[MediaPath]
    | Iterator[MediaPath],
    model: str | EmotionModule = "ceflnet",
    *,
    every: float = 1.0,
    prior: str = "train",
    min_confidence: float = 0.0,
    detector: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Prediction | list[Prediction]:
    """What a model says about a video, audio file or image; for a list of paths, a list in the same order.

    A folder stands for all media files in it and below, as for the command, and gives a list too (which type checkers
    cannot know). Images may be given themselves, RGB uint8 (H, W, 3) or PIL images: one alone as a still, a list of
    them as the frames of one clip, 25 a second.

    A file that cannot be read never raises: its Prediction carries the error. What goes wrong inside the network does
    raise. Any number of threads may ask one module at the same time; it keeps its training mode.

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

    >>> import emozoo
    >>> emozoo.predict("nowhere.mp4", emozoo.load("ceflnet", size="lite", weights=None)).error["code"]
    'missing'
    """
    files, single = _asked(paths)
    ask = Predictor(
        model,
        every=every,
        prior=prior,
        min_confidence=min_confidence,
        detector=detector,
        device=device,
        batch_size=batch_size,
    )
    answers = [ask.about(file, progress) for file in files]
    return answers[0] if single else answers


class _Use:
    """What threads that ask one module share: how many run it now, and the modes of its parts to go back to."""

    def __init__(self) -> None:
        self.running = 0
        self.training: list[torch.nn.Module] = []


_USES: WeakKeyDictionary[EmotionModule, _Use] = WeakKeyDictionary()
_TURN = threading.Condition()


@contextmanager
def _in_eval_mode(module: EmotionModule) -> Iterator[None]:
    """The module in eval mode while any thread runs it; the last one gives back the modes that it had."""
    with _TURN:
        use = _USES.setdefault(module, _Use())
        use.running += 1
        training = [m for m in module.modules() if m.training]
        use.training += training
        for part in training:
            part.training = False
    try:
        yield
    finally:
        with _TURN:
            use.running -= 1
            if not use.running:
                for part in use.training:
                    part.training = True
                use.training = []
            _TURN.notify_all()


def _to_device(module: EmotionModule, device: str) -> EmotionModule:
    """Moves the module, while no thread runs it. Raises UsageError before anything moved, or with all moved back."""
    before = module.device
    try:
        torch.zeros(1, device=torch.device(device)).add(1).item()  # asks the device before anything moves
    except Exception as error:  # each device has errors of its own
        raise UsageError(_no_device(device, error)) from error
    with _TURN:
        use = _USES.setdefault(module, _Use())
        _TURN.wait_for(lambda: not use.running)
        try:
            return module.to(torch.device(device))
        except (RuntimeError, TypeError) as error:  # too little memory; a device without float64
            module.to(before)
            raise UsageError(_no_device(device, error)) from error


def _no_device(device: str, error: Exception) -> str:
    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    there += ["mps"] if torch.backends.mps.is_available() else []
    why = next(iter(str(error).splitlines()), type(error).__name__)
    return f"device '{device}' cannot be used here ({why[:200]}); there is: {', '.join(there)}"


def _batch_size(spec: ClipSpec) -> int:
    floats = sum(spec.clips * s.frames * math.prod(s.kind.item_shape(s.size)) for s in spec.streams.values())
    return min(16, max(1, BATCH_BYTES // (4 * floats)))


class _Unread(Exception):
    """A file, or a part of it, could not be read; ``code`` and ``text`` say why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


@contextmanager
def _reading(file: str) -> Iterator[None]:
    """What is thrown while a file is read is the file's fault, whatever it is; what nobody foresaw is logged."""
    try:
        with file_errors(file):
            yield
    except EmozooError as error:
        raise _Unread(getattr(error, "code", "failed"), getattr(error, "reason", str(error))) from error
    except Exception as error:
        _log.debug("%s: not foreseen while the file was read", one_line(file), exc_info=True)
        raise _Unread("internal", f"{type(error).__name__}: {error}") from error


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


class Predictor:
    """A model and how it is asked: arguments and errors of the request as :func:`predict`."""

    def __init__(
        self,
        model: str | EmotionModule = "ceflnet",
        *,
        every: float = 1.0,
        prior: str = "train",
        min_confidence: float = 0.0,
        detector: str | None = None,
        device: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        if not (math.isfinite(every) and every > 0):
            raise UsageError(f"every must be a positive number of seconds, got {every}")
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size must be at least 1 window at a time, got {batch_size}")
        if not 0 <= min_confidence <= 1:
            raise UsageError(f"min_confidence is a probability from 0 to 1, got {min_confidence:g}")
        model = getattr(model, "_orig_mod", model)  # of torch.compile's wrapper the module
        module = model if isinstance(model, EmotionModule) else load(model)
        if device is not None:
            module = _to_device(module, device)
        spec = module.spec.with_detector(detector) if detector else module.spec
        if spec.needs_face:
            faces.detector(spec.detector)  # a detector that cannot be had is the request's fault, not each file's
        self.module, self.spec, self.every, self.prior, self.least = module, spec, every, prior, min_confidence
        self.batch_size = batch_size or _batch_size(spec)
        if module.classes:
            module.scores(torch.zeros(1, len(module.classes), device=module.device), prior)  # refuses a wrong prior now

    def about(self, file: MediaPath | Clip, progress: Callable[[float], None] | None = None) -> Prediction:
        """The answer for one file or clip; never raises for what is in a file, but for what the network throws."""
        name, images = file if isinstance(file, Clip) else (str(file), None)
        found = self._nothing(name)
        try:
            self._answer(found, images, progress or (lambda share: None))
        except _Unread as error:
            found = self.failed(name, error.code, error.text)
        if progress is not None:
            progress(1.0)
        return found

    def failed(self, file: MediaPath, code: str, text: str) -> Prediction:
        """The answer that says why there is none."""
        return replace(self._nothing(str(file)), error={"code": code, "text": " ".join(text.split())})

    def _nothing(self, name: str) -> Prediction:
        detector = self.spec.detector if self.spec.needs_face else None
        return Prediction(name, self.module.name, self.module.sha256, detector, list(self.module.classes))

    def _answer(self, found: Prediction, images: Frames | None, progress: Callable[[float], None]) -> None:
        spec = self.spec
        with _reading(found.file):
            reader = ClipReader(found.file, spec, images=images)
        with reader:
            found.duration_s = float(reader.duration)
            found.fps = float(reader.fps) if reader.fps else None
            seen: list[Track] = []
            if spec.needs_face:
                with _reading(found.file):
                    seen = list(reader.tracks)
            long = [t for t in seen[1:] if t.end - t.start >= min(MIN_TRACK_S, found.duration_s / 2)]
            shown = seen[:1] + long[: MAX_TRACKS - 1]
            file = _File(reader, set(), [], 0, 0)
            for number, face in enumerate(shown or [None]):
                windows = self._windows(found.duration_s, face if number else None)

                def done(share: float, number: int = number) -> None:
                    progress((number + share) / max(1, len(shown)))

                answers = self._ask(file, windows, face, not number, done)
                moments = [m for a in answers for m in self._moments(a, len(windows) == 1)]
                if moments:
                    found.tracks.append(
                        _track(len(found.tracks), [replace(m, least=self.least) for m in moments], face)
                    )
            found.streams_used = [s for s in spec.streams if s in file.used]
            found.warnings = self._warnings(file, seen, len(long), len(shown))
        if found.tracks:
            main = found.tracks[0]
            found.label, found.scores = main.label, main.scores or None
            if found.scores and found.label is None:
                best = max(found.scores, key=found.scores.__getitem__)
                text = f"no label: the likeliest class, {best}, has {found.scores[best]:.2f}, less than {self.least:g}"
                found.warnings.append({"code": "low_confidence", "text": text})
            found.valence = _mean(main.timeline, lambda m: m.valence)
            found.arousal = _mean(main.timeline, lambda m: m.arousal)

    def _warnings(self, file: _File, seen: list[Track], long: int, shown: int) -> list[dict[str, str]]:
        """What the reader of the result should know, each code once.

        ``seen``: all faces; ``long``: how many beside the main one were seen long enough; ``shown``: with a timeline.
        """
        texts: dict[str, str] = {}
        for w in [*file.reader.warnings, *file.warnings]:
            texts.setdefault(w.code, w.text)
        texts.pop("no_face", None)
        faceless = not any(s.kind.crops_face and n in file.used for n, s in self.spec.streams.items())
        if self.spec.needs_face and faceless and file.reader.size != (0, 0):
            others = [s for s in self.spec.streams if s in file.used]
            how = f"the answer comes from: {', '.join(others)}" if others else "this model answers from faces alone"
            texts["no_face"] = "; ".join(filter(None, ["no face was found", how, None if seen else self._hint(file)]))
        elif seen and self.spec.detector == "cascade" and seen[0].score < faces.DOUBTFUL:
            score = seen[0].score
            turn = self._look_again(file, lambda images: faces.surer_turned(images, self.spec.detector, score))
            if turn:
                texts["turned"] = (
                    f"what was found may be no face: a surer one was found after turning {turn}: turn the image or "
                    "video if it does not stand upright"
                )
        if "no_audio" in texts and any(self.spec.streams[s].kind.needs_audio for s in file.used):
            texts.setdefault("short_audio", "a part of the file has no audio")
            del texts["no_audio"]
        if file.passed and file.asked > file.passed:
            texts["gaps"] = (
                f"{file.passed} of {file.asked} moments have no answer: no face, or nothing that could be decoded"
            )
        if len(seen) > shown:
            brief, more = len(seen) - 1 - long, 1 + long - shown
            least = min(MIN_TRACK_S, file.reader.duration / 2)
            most = "with most face frames" if file.reader.duration else "that are largest"
            reasons = [f"{brief} seen for less than {least:.2g} s"] * bool(brief)
            reasons += [f"{more} beyond the {MAX_TRACKS} {most}"] * bool(more)
            what = "1 more face" if brief + more == 1 else f"{brief + more} more faces"
            texts["more_faces"] = f"{what} got no timeline: {', '.join(reasons)}"
        return [{"code": code, "text": text} for code, text in texts.items()]

    def _hint(self, file: _File) -> str | None:
        """What would help the detector; None where the file's images cannot be read again."""
        return self._look_again(file, lambda images: faces.hint(images, self.spec.detector))

    def _look_again(self, file: _File, look: Callable[[list[np.ndarray]], str | None]) -> str | None:
        """What is seen in a few of the file's images; None where they cannot be read again."""
        reader = file.reader
        with suppress(_Unread), _reading(reader.path):
            whole = reader.offered(0.0, reader.duration)
            at = sorted({int(len(whole) * (i + 0.5) / faces.HINT_IMAGES) for i in range(faces.HINT_IMAGES)})
            assert reader.images is not None
            return look(list(reader.images.frames(whole[at])))
        return None

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
        self, file: _File, windows: list[_Window], face: Track | None, main: bool, done: Callable[[float], None]
    ) -> Iterator[_Answer]:
        """Reads and answers windows, a batch at a time; those in which no stream is real are passed over.

        So are those whose own entry of the timeline does not show the face, where nothing else can answer.
        """
        failure: _Unread | None = None
        answered = 0
        others = any(
            file.reader.audio is not None if s.kind.needs_audio else not s.kind.crops_face
            for s in self.spec.streams.values()
        )
        shown = [
            w for w in windows if face is None or others or len(windows) == 1 or _in_sight(face, w)
        ]  # fmt: skip
        groups = _alike(file.reader, shown)
        for first in range(0, len(groups), self.batch_size):
            chunk: list[tuple[list[_Window], RawClip]] = []
            for group in groups[first : first + self.batch_size]:
                try:
                    raw = self._read(file.reader, group[0], face, main)
                except _Unread as error:  # a damaged or silent part; the rest of the file still counts
                    failure = error
                    continue
                file.warnings += [w for w in raw.warnings if w not in file.warnings]
                if raw.no_face:
                    for name, s in self.spec.streams.items():
                        if s.kind.crops_face:  # the whole image stood in for it; a person is not read from that
                            raw.masks[name] = np.zeros_like(raw.masks[name])
                real = {name for name, mask in raw.masks.items() if mask.any()}
                if real:
                    file.used |= real
                    chunk.append((group, raw))
            answered += sum(len(group) for group, _ in chunk)
            if chunk:
                yield from self._run(chunk)
            done(min(1.0, (first + self.batch_size) / len(groups)))
        if failure is not None and not answered:
            raise failure
        if main:  # a passer-by is expected to be out of sight
            file.asked, file.passed = len(windows), len(windows) - answered

    def _read(self, reader: ClipReader, window: _Window, face: Track | None, main: bool) -> RawClip:
        """The clip of a window; where its frames miss the face, although it is there, that of the face's stretch."""
        track = MAIN if main or face is None else face
        with _reading(reader.path):
            raw = reader.read(window.read_from, window.read_to, track=track)
            if raw.no_face and face is not None and (stretch := _stretch(face, window, reader.duration)):
                raw = reader.read(*stretch, track=track)
        return raw

    @torch.inference_mode()
    def _run(self, chunk: list[tuple[list[_Window], RawClip]]) -> list[_Answer]:
        batch = to_batch([raw for _, raw in chunk], self.spec, ids=[str(i) for i in range(len(chunk))])
        with _in_eval_mode(self.module):
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
            for i, (group, raw) in enumerate(chunk)
            for window in group
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


def _alike(reader: ClipReader, windows: list[_Window]) -> list[list[_Window]]:
    """Windows in groups that show the same frames, so that one answer is theirs: slow time lapses have many of them."""
    if len(windows) < 2 or reader.images is None or reader.audio is not None:
        return [[w] for w in windows]
    stamps = reader.images.stamps
    found: dict[tuple[int, int], list[_Window]] = {}
    for w in windows:
        start, end = w.read_from or 0.0, reader.duration if w.read_to is None else w.read_to
        lo, hi = (int(i) for i in np.searchsorted(stamps, [start - 1e-6, end - 1e-6]))
        found.setdefault((lo, hi) if lo < hi else (hi - 1, hi), []).append(w)  # between two frames the one on show
    return list(found.values())


def _in_sight(face: Track, window: _Window) -> bool:
    """Whether the face has a box somewhere in the window's own entry of the timeline."""
    count = math.ceil(2 * (window.end - window.start) / (face.step or 1.0)) + 1
    times = np.linspace(window.start, window.end, count, endpoint=False)
    return any(face.box_at(float(t)) is not None for t in times)


def _stretch(face: Track, window: _Window, duration: float) -> tuple[float, float] | None:
    """Seconds of the longest stretch inside a window in which the face was found; None without one."""
    start = 0.0 if window.read_from is None else window.read_from
    end = duration if window.read_to is None else window.read_to
    times = face.times[(face.times >= start) & (face.times < end)]
    if not len(times) or not face.step:
        return None
    part = max(np.split(times, np.flatnonzero(np.diff(times) > faces.GAP_S) + 1), key=len)
    return max(start, float(part[0]) - face.step), min(end, float(part[-1]) + face.step)


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
