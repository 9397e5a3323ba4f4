"""Predictions for files of any length: a file is read window by window, so a long one needs no more memory.

Media up to one window (``spec.window_s``) are sampled whole, exactly as the benchmark samples a labelled clip. Longer
media get one entry of the timeline every ``every`` seconds, predicted from the window around its middle.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np
import torch
from PIL import Image

from emozoo import prediction, weights
from emozoo.data import faces
from emozoo.data.clips import MAIN, ClipReader, RawClip, Warn, file_errors, to_batch
from emozoo.data.faces import Track
from emozoo.data.find import Item, find_media, one_line
from emozoo.errors import EmozooError, UsageError
from emozoo.inputs import Clip, Frames, ImageLike, collect
from emozoo.prediction import FaceTrack, MediaPath, Moment
from emozoo.recognizer import Recognizer
from emozoo.spec import ClipSpec
from emozoo.threads import eval_mode, to_device
from emozoo.timeline import (
    Window,
    WindowOutput,
    cut_windows,
    group_by_frames,
    longest_stretch,
    mean_over_time,
    moments_of,
    shows_face,
    track_of,
)

__all__ = [
    "Clip", "FaceTrack", "Frames", "Item", "Moment", "Prediction", "Predictor", "find_media", "one_line", "predict",
]  # fmt: skip

# A face that is seen for less than this, and for less than half of a shorter file, gets no timeline; the main one does.
MIN_TRACK_S = 1.0
MAX_TRACKS = 8
# Bytes that the input of one batch of windows may take; with larger windows the batch is smaller.
BATCH_BYTES = 128 * 2**20

_log = logging.getLogger(__name__)


class Prediction(prediction.Prediction):
    """The prediction of one model for one file, with its timelines as an image and as an annotated video."""

    def plot(self, path: MediaPath) -> None:
        """Draws the timelines as an image; the suffix chooses the format (.png, .svg, .pdf)."""
        from emozoo import plots

        plots.timeline(self, Path(path))

    def video(self, path: MediaPath, progress: Callable[[float], None] | None = None) -> None:
        """Writes the video as mp4 with boxes and labels drawn in. Raises VideoError for stills and audio.

        ``progress`` is called with the fraction of the video that is done, in [0, 1].
        """
        from emozoo import annotate

        annotate.video(self, Path(path), progress)


@overload
def predict(  # type: ignore[overload-overlap]  # an empty list is a list of files
    paths: MediaPath | ImageLike | Sequence[np.ndarray] | Sequence[Image.Image],
    model: str | Recognizer = ...,
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
    model: str | Recognizer = ...,
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
    model: str | Recognizer = "ceflnet",
    *,
    every: float = 1.0,
    prior: str | None = None,
    min_confidence: float = 0.0,
    detector: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Prediction | list[Prediction]:
    """Predicts the emotion in a video, an audio file or an image; a list of paths gives a list in the same order.

    A folder stands for all media files in it and below, and gives a list too (which type checkers cannot know). Images
    in memory are RGB uint8 (H, W, 3) arrays or PIL images: a single one is a still, a list of them is one clip of 25
    frames a second.

    A file that cannot be read never raises: its Prediction carries the error. An error inside the network does raise.
    Several threads may call this with one module; it keeps its training mode.

    Args:
        paths: files, folders or images.
        model: a name, the path of a weights folder, or a loaded module.
        every: seconds between entries of the timeline, for media longer than one window.
        prior: ``train`` keeps the class prior of training in the scores, ``uniform`` removes it; None: what the weights
            name for people's own files (``module.prior``).
        min_confidence: probability in [0, 1] below which a label is None; scores stay.
        detector: a face detector other than the one stored with the weights. None takes the stored one or, where it
            cannot be had, ``cascade``, with the warning ``detector_fallback`` in every prediction.
        device: where the network runs; None leaves a loaded module where it is.
        batch_size: windows in a batch; None chooses it by the size of the model's input.
        progress: is called with the fraction of the current file that is done, in [0, 1].

    Raises:
        UsageError, UnknownModelError, WeightsError: the request cannot be met.

    >>> import emozoo
    >>> emozoo.predict("nowhere.mp4", emozoo.load("ceflnet", size="lite", weights=None)).error["code"]
    'missing'
    """
    inputs, single = collect(paths)
    predictor = Predictor(
        model,
        every=every,
        prior=prior,
        min_confidence=min_confidence,
        detector=detector,
        device=device,
        batch_size=batch_size,
    )
    predictions = [predictor.predict(item, progress) for item in inputs]
    return predictions[0] if single else predictions


class _ReadError(Exception):
    """A file, or a part of it, cannot be read; ``code`` and ``text`` give the reason."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


@contextmanager
def _read_errors(file: str) -> Iterator[None]:
    """Turns every exception raised while a file is read into a _ReadError; logs those that are not expected."""
    try:
        with file_errors(file):
            yield
    except EmozooError as error:
        raise _ReadError(getattr(error, "code", "failed"), getattr(error, "reason", str(error))) from error
    except Exception as error:
        _log.debug("%s: unexpected exception while the file was read", one_line(file), exc_info=True)
        raise _ReadError("internal", f"{type(error).__name__}: {error}") from error


@dataclass
class _OpenFile:
    """An open file and what was found out about it while it is read.

    ``used``: streams that held anything real. ``windows``, ``skipped``: of the main track, all windows and those in
    which nothing was real.
    """

    reader: ClipReader
    used: set[str] = field(default_factory=set)
    warnings: list[Warn] = field(default_factory=list)
    windows: int = 0
    skipped: int = 0


class Predictor:
    """A model with the options of a prediction; arguments and errors are those of :func:`predict`."""

    def __init__(
        self,
        model: str | Recognizer = "ceflnet",
        *,
        every: float = 1.0,
        prior: str | None = None,
        min_confidence: float = 0.0,
        detector: str | None = None,
        device: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        if not (math.isfinite(every) and every > 0):
            raise UsageError(f"every must be a positive number of seconds, got {every}")
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size must be at least 1 window, got {batch_size}")
        if not 0 <= min_confidence <= 1:
            raise UsageError(f"min_confidence must be a probability from 0 to 1, got {min_confidence:g}")
        model = getattr(model, "_orig_mod", model)  # the module inside the wrapper of torch.compile
        module = model if isinstance(model, Recognizer) else Recognizer.from_weights(weights.find(model))
        if device is not None:
            module = to_device(module, device)
        spec = module.spec.with_detector(detector) if detector else faces.available(module.spec)
        self._fallback: list[dict[str, str]] = []  # a warning of every result
        if spec.needs_face:
            faces.detector(spec.detector)  # raises here, once, rather than for each file
            if not detector and (reason := faces.fallback_reason(module.spec.detector)):
                self._fallback = [{"code": faces.FALLBACK_CODE, "text": reason}]
        self.module, self.spec, self.every, self.prior = module, spec, every, prior or module.prior
        self.min_confidence = min_confidence
        self.batch_size = batch_size or _batch_size(spec)
        if module.classes:
            module.scores(
                torch.zeros(1, len(module.classes), device=module.device), self.prior
            )  # raises for a wrong prior

    def predict(self, item: MediaPath | Clip, progress: Callable[[float], None] | None = None) -> Prediction:
        """The prediction for one file or clip. A file that cannot be read never raises; the network's errors do.

        ``progress`` is called with the fraction of the file that is done, in [0, 1].
        """
        name, images = item if isinstance(item, Clip) else (str(item), None)
        result = self._empty(name)
        try:
            self._fill(result, images, progress or (lambda fraction: None))
        except _ReadError as error:
            result = self.failed(name, error.code, error.text)
        if progress is not None:
            progress(1.0)
        return result

    about = predict  # its former name, until version 0.2

    def failed(self, file: MediaPath, code: str, text: str) -> Prediction:
        """A prediction without a result, with an error in its place."""
        result = self._empty(str(file))
        result.error = {"code": code, "text": " ".join(text.split())}
        return result

    def _empty(self, name: str) -> Prediction:
        detector = self.spec.detector if self.spec.needs_face else None
        prediction = Prediction(name, self.module.name, self.module.sha256, detector, list(self.module.classes))
        prediction.warnings = list(self._fallback)
        return prediction

    def _fill(self, result: Prediction, images: Frames | None, progress: Callable[[float], None]) -> None:
        """Reads the file and writes the results into ``result``. Raises _ReadError."""
        spec = self.spec
        with _read_errors(result.file):
            reader = ClipReader(result.file, spec, images=images)
        with reader:
            result.duration_s = float(reader.duration)
            result.fps = float(reader.fps) if reader.fps else None
            tracks: list[Track] = []
            if spec.needs_face:
                with _read_errors(result.file):
                    tracks = list(reader.tracks)
            long = [t for t in tracks[1:] if t.end - t.start >= min(MIN_TRACK_S, result.duration_s / 2)]
            shown = tracks[:1] + long[: MAX_TRACKS - 1]
            file = _OpenFile(reader)
            for number, face in enumerate(shown or [None]):
                windows = cut_windows(result.duration_s, spec.window_s, self.every, face if number else None)

                def done(fraction: float, number: int = number) -> None:
                    progress((number + fraction) / max(1, len(shown)))

                moments = [
                    moment
                    for output in self._run_windows(file, windows, face, not number, done)
                    for moment in moments_of(
                        output, self.module.classes, clip_s=spec.clip_s, alone=len(windows) == 1,
                        min_confidence=self.min_confidence,
                    )
                ]  # fmt: skip
                if moments:
                    result.tracks.append(track_of(len(result.tracks), moments, face))
            result.streams_used = [s for s in spec.streams if s in file.used]
            result.warnings += self._warnings(file, tracks, len(long), len(shown))
        if result.tracks:
            self._summarize(result)

    def _summarize(self, result: Prediction) -> None:
        """Copies the means of the main track to the file, and warns if no label is sure enough."""
        main = result.tracks[0]
        result.label, result.scores = main.label, main.scores or None
        if result.scores and result.label is None:
            best = max(result.scores, key=result.scores.__getitem__)
            text = f"no label: the likeliest class, {best}, has {result.scores[best]:.2f}"
            result.warnings.append({"code": "low_confidence", "text": f"{text}, less than {self.min_confidence:g}"})
        result.valence = mean_over_time(main.timeline, lambda m: m.valence)
        result.arousal = mean_over_time(main.timeline, lambda m: m.arousal)

    def _warnings(self, file: _OpenFile, tracks: list[Track], long: int, shown: int) -> list[dict[str, str]]:
        """Warnings about the file and the prediction, each code once.

        ``tracks``: all faces. ``long``: how many of them, beside the main one, are seen long enough for a timeline.
        ``shown``: how many have one.
        """
        texts: dict[str, str] = {}
        for w in [*file.reader.warnings, *file.warnings]:
            texts.setdefault(w.code, w.text)
        texts.pop("no_face", None)
        if no_face := self._no_face(file, tracks):
            texts["no_face"] = no_face
        elif tracks and (turned := self._turned(file, tracks[0])):
            texts["turned"] = turned
        if "no_audio" in texts and any(self.spec.streams[s].kind.needs_audio for s in file.used):
            texts.setdefault("short_audio", "a part of the file has no audio")
            del texts["no_audio"]
        if file.skipped and file.windows > file.skipped:
            texts["gaps"] = (
                f"{file.skipped} of {file.windows} moments have no prediction: no face, or nothing that can be decoded"
            )
        if len(tracks) > shown:
            brief, more = len(tracks) - 1 - long, 1 + long - shown
            shortest = min(MIN_TRACK_S, file.reader.duration / 2)
            most = "with most face frames" if file.reader.duration else "that are largest"
            reasons = [f"{brief} seen for less than {shortest:.2g} s"] * bool(brief)
            reasons += [f"{more} beyond the {MAX_TRACKS} {most}"] * bool(more)
            what = "1 more face" if brief + more == 1 else f"{brief + more} more faces"
            texts["more_faces"] = f"{what} got no timeline: {', '.join(reasons)}"
        return [{"code": code, "text": text} for code, text in texts.items()]

    def _no_face(self, file: _OpenFile, tracks: list[Track]) -> str | None:
        """The warning for a file in which a model that needs a face used none; None for any other file."""
        faceless = not any(s.kind.crops_face and n in file.used for n, s in self.spec.streams.items())
        if not (self.spec.needs_face and faceless and file.reader.size != (0, 0)):
            return None
        others = [s for s in self.spec.streams if s in file.used]
        how = f"the prediction comes from: {', '.join(others)}" if others else "this model predicts from faces alone"
        advice = None if tracks else self._look_again(file, lambda images: faces.hint(images, self.spec.detector))
        return "; ".join(filter(None, ["no face was found", how, advice]))

    def _turned(self, file: _OpenFile, main: Track) -> str | None:
        """The warning for a doubtful face in a file that shows a surer one after turning; None without one."""
        if self.spec.detector != "cascade" or not main.score < faces.DOUBTFUL:  # nan: the score is not known
            return None
        turn = self._look_again(file, lambda images: faces.surer_turned(images, self.spec.detector, main.score))
        return turn and (
            f"what was found may not be a face: a surer one was found after turning {turn}: turn the image or video if "
            "it does not stand upright"
        )

    def _look_again(self, file: _OpenFile, look: Callable[[list[np.ndarray]], str | None]) -> str | None:
        """What ``look`` finds in a few images of the file; None if they cannot be read again."""
        reader = file.reader
        with suppress(_ReadError), _read_errors(reader.path):
            whole = reader.offered(0.0, reader.duration)
            at = sorted({int(len(whole) * (i + 0.5) / faces.HINT_IMAGES) for i in range(faces.HINT_IMAGES)})
            assert reader.images is not None
            return look(list(reader.images.frames(whole[at])))
        return None

    def _run_windows(
        self, file: _OpenFile, windows: list[Window], face: Track | None, main: bool, done: Callable[[float], None]
    ) -> Iterator[WindowOutput]:
        """Reads the windows and runs the network on them, a batch at a time.

        Skips a window in which no stream is real. Skips a window whose own entry of the timeline does not show the
        face, if the model has no other stream to predict from. Raises _ReadError if no window can be read.
        """
        failure: _ReadError | None = None
        predicted = 0
        others = any(
            file.reader.audio is not None if s.kind.needs_audio else not s.kind.crops_face
            for s in self.spec.streams.values()
        )
        shown = [w for w in windows if face is None or others or len(windows) == 1 or shows_face(face, w)]
        groups = group_by_frames(file.reader, shown)
        for first in range(0, len(groups), self.batch_size):
            batch: list[tuple[list[Window], RawClip]] = []
            for group in groups[first : first + self.batch_size]:
                try:
                    raw = self._read(file.reader, group[0], face, main)
                except _ReadError as error:  # a damaged or silent part; the rest of the file is read
                    failure = error
                    continue
                file.warnings += [w for w in raw.warnings if w not in file.warnings]
                if raw.no_face:
                    for name, s in self.spec.streams.items():
                        if s.kind.crops_face:  # it holds the whole image, from which no person is predicted
                            raw.masks[name] = np.zeros_like(raw.masks[name])
                real = {name for name, mask in raw.masks.items() if mask.any()}
                if real:
                    file.used |= real
                    batch.append((group, raw))
            predicted += sum(len(group) for group, _ in batch)
            if batch:
                yield from self._run(batch)
            done(min(1.0, (first + self.batch_size) / len(groups)))
        if failure is not None and not predicted:
            raise failure
        if main:  # other faces are expected to be out of sight for a time
            file.windows, file.skipped = len(windows), len(windows) - predicted

    def _read(self, reader: ClipReader, window: Window, face: Track | None, main: bool) -> RawClip:
        """The clip of a window; if its frames miss a face that the window shows, the clip of the stretch with it."""
        track = MAIN if main or face is None else face
        with _read_errors(reader.path):
            raw = reader.read(window.read_from, window.read_to, track=track)
            if raw.no_face and face is not None and (stretch := longest_stretch(face, window, reader.duration)):
                raw = reader.read(*stretch, track=track)
        return raw

    @torch.inference_mode()
    def _run(self, clips: list[tuple[list[Window], RawClip]]) -> list[WindowOutput]:
        """The network's output for each window; windows of one group share a clip."""
        batch = to_batch([raw for _, raw in clips], self.spec, ids=[str(i) for i in range(len(clips))])
        with eval_mode(self.module):
            out = self.module.predict_step(batch.to(self.module.device), 0)
        scores = None if out["logits"] is None else self.module.scores(out["logits"], self.prior).cpu().numpy()
        va = None if out["va"] is None else out["va"].float().cpu().numpy()
        return [
            WindowOutput(
                window,
                None if scores is None else scores[i],
                None if va is None else va[i],
                raw.times,
                np.any([mask.any(-1) for mask in raw.masks.values()], axis=0),
                raw.boxes,
            )
            for i, (group, raw) in enumerate(clips)
            for window in group
        ]


def _batch_size(spec: ClipSpec) -> int:
    """Windows in a batch whose input takes at most ``BATCH_BYTES``."""
    floats = sum(spec.clips * s.frames * math.prod(s.kind.item_shape(s.size)) for s in spec.streams.values())
    return min(16, max(1, BATCH_BYTES // (4 * floats)))
