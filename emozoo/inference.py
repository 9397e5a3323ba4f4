"""Predictions for files of any length: a file is read window by window, so a long one needs no more memory.

Media up to one window (``spec.window_s``) are sampled whole, exactly as the benchmark samples a labelled clip. Longer
media get one entry of the timeline every ``every`` seconds, predicted from the window around its middle.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image

from emozoo import prediction, subtitles
from emozoo.data import faces
from emozoo.data.clips import to_batch
from emozoo.data.find import Item, find_media, one_line
from emozoo.data.image_format import pixels_of
from emozoo.data.images import is_image
from emozoo.device import ready
from emozoo.errors import UsageError
from emozoo.evidence import VA, Evidence
from emozoo.files import write_text
from emozoo.inputs import Clip, Frames, ImageLike, collect
from emozoo.opened import FaceRule, OpenFile, ReadError, Task, open_file, read_errors, read_tasks
from emozoo.prediction import FaceTrack, MediaPath, Moment
from emozoo.recognizer import Recognizer
from emozoo.spec import ClipSpec
from emozoo.timeline import WindowOutput

__all__ = [
    "Clip", "FaceTrack", "Frames", "Item", "Moment", "Prediction", "Predictor", "find_media", "one_line", "predict",
]  # fmt: skip

# Image files that are read and predicted together: at most so many, so many bytes in the files, and so many pixels.
IMAGES, IMAGE_BYTES, IMAGE_PIXELS = 16, 6 * 2**20, 64 * 10**6
# Bytes that the input of one batch of windows may take; with larger windows the batch is smaller.
BATCH_BYTES = 128 * 2**20


@dataclass
class Prediction(prediction.Prediction):
    """The prediction of one model for one file, with its timelines as an image and as an annotated video.

    ``evidence``: the window of the main track in which the likeliest class scores highest, as the network saw it;
    None unless a :class:`Predictor` was asked for it.
    """

    evidence: Evidence | None = field(default=None, repr=False, compare=False)

    def plot(self, path: MediaPath, acted: Sequence[tuple[float, float, str]] = ()) -> None:
        """Draws the timelines as an image; the suffix chooses the format (.png, .svg, .pdf).

        ``acted``: what is known to be shown, as ``(start, end, class)`` in seconds; drawn above the timeline.
        """
        from emozoo import plots

        plots.timeline(self, Path(path), acted)

    def to_srt(self, path: MediaPath) -> None:
        """Writes subtitles for players: label and probability of the main track, an entry for each moment.

        Raises VideoError for a still image, which has no timeline; as :meth:`to_elan` does.
        """
        write_text(path, subtitles.srt(self))

    def to_elan(self, path: MediaPath) -> None:
        """Writes a tab-delimited table that ELAN imports: tier, begin and end in milliseconds, annotation."""
        write_text(path, subtitles.elan(self))

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
    smooth: float = ...,
    min_face: float = ...,
    max_tracks: int | None = ...,
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
    smooth: float = ...,
    min_face: float = ...,
    max_tracks: int | None = ...,
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
    smooth: float = 0.0,
    min_face: float = 0.0,
    max_tracks: int | None = None,
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
        smooth: seconds over which scores, valence and arousal of each track are averaged (a moving average around
            each moment); 0: not at all.
        min_face: faces whose box is shorter than so many pixels of the file are left out.
        max_tracks: how many faces get a timeline, those with most face frames; None: eight.
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
        smooth=smooth,
        min_face=min_face,
        max_tracks=max_tracks,
        detector=detector,
        device=device,
        batch_size=batch_size,
    )
    each = None if progress is None else lambda number, fraction: progress(fraction)
    predictions = list(predictor.predict_all(inputs, each))
    return predictions[0] if single else predictions


class Predictor:
    """A model with the options of a prediction; arguments and errors are those of :func:`predict`.

    ``evidence``: every Prediction holds the window that explains it (:mod:`emozoo.explain`).
    """

    def __init__(
        self,
        model: str | Recognizer = "ceflnet",
        *,
        every: float = 1.0,
        prior: str | None = None,
        min_confidence: float = 0.0,
        smooth: float = 0.0,
        min_face: float = 0.0,
        max_tracks: int | None = None,
        detector: str | None = None,
        device: str | None = None,
        batch_size: int | None = None,
        evidence: bool = False,
    ) -> None:
        if not (math.isfinite(every) and every > 0):
            raise UsageError(f"every must be a positive number of seconds, got {every}")
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size must be at least 1 window, got {batch_size}")
        if not 0 <= min_confidence <= 1:
            raise UsageError(f"min_confidence must be a probability from 0 to 1, got {min_confidence:g}")
        if not (math.isfinite(smooth) and smooth >= 0):
            raise UsageError(f"smooth must be a number of seconds from 0, got {smooth:g}")
        if not (math.isfinite(min_face) and min_face >= 0):
            raise UsageError(f"min_face must be a number of pixels from 0, got {min_face:g}")
        if max_tracks is not None and max_tracks < 1:
            raise UsageError(f"max_tracks must be at least 1, got {max_tracks}")
        module = ready(model, device)
        spec = module.spec.with_detector(detector) if detector else faces.available(module.spec)
        self._fallback: list[dict[str, str]] = []  # a warning of every result
        if spec.needs_face:
            faces.detector(spec.detector)  # raises here, once, rather than for each file
            if not detector and (reason := faces.fallback_reason(module.spec.detector)):
                self._fallback = [{"code": faces.FALLBACK_CODE, "text": reason}]
        self.module, self.spec, self.every, self.prior = module, spec, every, prior or module.prior
        self.min_confidence, self.evidence = min_confidence, evidence
        self.smooth, self.rule = smooth, FaceRule(min_face, max_tracks)
        asked = {
            "min_confidence": min_confidence or None, "smooth_s": smooth or None, "min_face_px": min_face or None,
            "max_tracks": max_tracks,
        }  # fmt: skip
        self.options = {name: value for name, value in asked.items() if value is not None}
        self.batch_size = batch_size or _batch_size(spec)
        if module.classes:
            module.scores(
                torch.zeros(1, len(module.classes), device=module.device), self.prior
            )  # raises for a wrong prior

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what is predicted for a file, as plain data: weights, spec with its detector, options."""
        return {
            "model": self.module.name, "sha256": self.module.sha256, "spec": self.spec.to_dict(), "every": self.every,
            "prior": self.prior, "fallback": bool(self._fallback),
            **self.options,
        }  # fmt: skip

    def predict(self, item: MediaPath | Clip, progress: Callable[[float], None] | None = None) -> Prediction:
        """The prediction for one file or clip. A file that cannot be read never raises; the network's errors do.

        ``progress`` is called with the fraction of the file that is done, in [0, 1].
        """
        return next(self.predict_all([item], None if progress is None else lambda _, fraction: progress(fraction)))

    about = predict  # its former name, until version 0.2

    def predict_all(
        self,
        items: Sequence[MediaPath | Clip],
        progress: Callable[[int, float], None] | None = None,
        on_error: Callable[[MediaPath, Exception], Prediction] | None = None,
    ) -> Iterator[Prediction]:
        """Predictions for files and clips in their order, as :meth:`predict` gives them. Images share batches.

        ``progress`` is called with the number of a file and the fraction of it that is done. ``on_error`` makes the
        prediction of a file on which the network failed; without it the error is raised.
        """
        first, report = 0, progress or (lambda number, fraction: None)
        with ThreadPoolExecutor(2) as ahead:  # the next images are read while the network runs
            reading: list[Future[tuple[Prediction, OpenFile | None]]] = []
            for group, following in pairwise(chain(_groups(items), [[]])):
                opened = [r.result() for r in reading] or [self._open(item) for item in group]
                # A file alone may be a long video: it is opened here, where an interrupt ends the search for faces.
                reading = [ahead.submit(self._open, item) for item in following] if len(following) > 1 else []
                yield from self._predict_group(group, opened, report, first, on_error)
                first += len(group)

    def _predict_group(
        self,
        items: Sequence[MediaPath | Clip],
        opened: Sequence[tuple[Prediction, OpenFile | None]],
        progress: Callable[[int, float], None],
        first: int,
        on_error: Callable[[MediaPath, Exception], Prediction] | None,
    ) -> Iterator[Prediction]:
        """Predicts the files of one group, whose first has the number ``first``."""
        files = [file for _, file in opened if file is not None]
        together: Exception | None = None
        try:
            self._run_windows(files, lambda fraction: progress(first, fraction))
        except Exception as error:
            together = error
        for number, (item, (result, file)) in enumerate(zip(items, opened, strict=True), first):
            name = item.name if isinstance(item, Clip) else item
            try:
                if together is not None and file is not None:
                    if len(files) == 1:
                        raise together
                    file.reader.close()
                    result, file = self._open(item)
                    self._run_windows([file] if file else [], lambda fraction: None)
                if file is not None:
                    with read_errors(result.file):
                        self.finish(result, file)
            except ReadError as error:
                result = self.failed(name, error.code, error.text)
            except Exception as error:
                if on_error is None:
                    raise
                result = on_error(name, error)
            finally:
                if file is not None:
                    file.reader.close()
            progress(number, 1.0)
            yield result

    def failed(self, file: MediaPath, code: str, text: str) -> Prediction:
        """A prediction without a result, with an error in its place."""
        result = self.blank(str(file))
        result.error = {"code": code, "text": " ".join(text.split())}
        return result

    def blank(self, name: str) -> Prediction:
        """A prediction that holds nothing yet but the model."""
        detector = self.spec.detector if self.spec.needs_face else None
        prediction = Prediction(name, self.module.name, self.module.sha256, detector, list(self.module.classes))
        prediction.warnings, prediction.options = list(self._fallback), dict(self.options)
        return prediction

    def _open(self, item: MediaPath | Clip) -> tuple[Prediction, OpenFile | None]:
        """The file, open, with the windows to predict, and its result without a prediction; an error in its place."""
        name, images = item if isinstance(item, Clip) else (str(item), None)
        try:
            return self.blank(name), open_file(name, images, self.spec, self.every, self.rule)
        except ReadError as error:
            return self.failed(name, error.code, error.text), None

    def finish(self, result: Prediction, file: OpenFile) -> None:
        """Writes what the network predicted for a file into ``result``. Raises ReadError."""
        file.finish(result, self.min_confidence, self.smooth)
        if result.tracks and self.evidence:
            scores = list((result.scores or {}).values())
            result.evidence = file.faces[0].best.of(int(np.argmax(scores)) if scores else VA)

    def _run_windows(self, files: Sequence[OpenFile], done: Callable[[float], None]) -> None:
        """Runs the network on the windows of all faces, in the order of time, a batch at a time.

        While it runs, the next batch is read.
        """
        tasks = [(file, task) for file in files for task in file.tasks()]
        batches = [tasks[i : i + self.batch_size] for i in range(0, len(tasks), self.batch_size)]
        with ThreadPoolExecutor(1) as ahead:
            reading = ahead.submit(read_tasks, batches[0]) if batches else None
            for number, following in enumerate([*batches[1:], None], 1):
                if reading is None:
                    break
                batch = reading.result()
                reading = ahead.submit(read_tasks, following) if following else None
                if batch:
                    for task, outputs in zip(batch, self.outputs(batch), strict=True):
                        task.face.outputs += outputs
                done(number / len(batches))

    @torch.inference_mode()
    def outputs(self, tasks: Sequence[Task]) -> list[list[WindowOutput]]:
        """The network's outputs for the windows of each task; windows of one task share a clip."""
        raws = [task.raw for task in tasks if task.raw is not None]
        batch = to_batch(raws, self.spec, ids=[str(i) for i in range(len(raws))])
        out = self.module.predict_step(batch.to(self.module.device), 0)
        scores = None if out["logits"] is None else self.module.scores(out["logits"], self.prior).cpu().numpy()
        va = None if out["va"] is None else out["va"].float().cpu().numpy()
        for i, task in enumerate(tasks if self.evidence else ()):
            if task.face.main:
                own_scores, own_va = (None if x is None else x[i] for x in (scores, va))
                task.face.best.add(
                    self.module.arch, self.spec, task.windows[0], batch, i, own_scores, own_va, out["attention"]
                )
        return [
            [
                WindowOutput(
                    window,
                    None if scores is None else scores[i],
                    None if va is None else va[i],
                    raw.times,
                    np.any([mask.any(-1) for mask in raw.masks.values()], axis=0),
                    raw.boxes,
                )
                for window in task.windows
            ]
            for i, (task, raw) in enumerate(zip(tasks, raws, strict=True))
        ]


def _groups(items: Sequence[MediaPath | Clip]) -> Iterator[list[MediaPath | Clip]]:
    """Image files that follow each other, as many as the limits of a group allow; every other file alone.

    Headers of images are read as the groups are asked for.
    """
    group: list[MediaPath | Clip] = []
    full = 0.0  # what the group holds, as a fraction of what it may hold
    for item in items:
        own = math.inf
        if not isinstance(item, Clip) and is_image(item):
            with suppress(OSError, ValueError):  # a name that no file can have
                own = max(os.path.getsize(item) / IMAGE_BYTES, pixels_of(item) / IMAGE_PIXELS)
        if group and (full + own > 1 or len(group) == IMAGES):
            yield group
            group, full = [], 0.0
        group.append(item)
        full += own
    if group:
        yield group


def _batch_size(spec: ClipSpec) -> int:
    """Windows in a batch whose input takes at most ``BATCH_BYTES``."""
    floats = sum(spec.clips * s.frames * math.prod(s.kind.item_shape(s.size)) for s in spec.streams.values())
    return min(16, max(1, BATCH_BYTES // (4 * floats)))
