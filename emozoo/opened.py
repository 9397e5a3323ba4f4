"""A file that is open for a prediction: its faces, the windows of each, and what is found out while it is read.

Whatever runs the network, torch or onnxruntime, goes the same way: :func:`open_file`, :meth:`OpenFile.tasks`,
:meth:`OpenFile.read`, the network's outputs as :class:`~emozoo.timeline.WindowOutput`, :meth:`OpenFile.finish`.
This file imports no torch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import numpy as np

from emozoo.data import faces
from emozoo.data.clips import MAIN, ClipReader, Plan, RawClip, Warn, file_errors
from emozoo.data.faces import Track
from emozoo.data.find import one_line
from emozoo.errors import EmozooError, VideoError
from emozoo.evidence import Best
from emozoo.inputs import Frames
from emozoo.prediction import Moment, Prediction
from emozoo.spec import ClipSpec
from emozoo.timeline import (
    Window,
    WindowOutput,
    cut_windows,
    group_by_frames,
    longest_stretch,
    mean_over_time,
    moments_of,
    shows_face,
    smoothed,
    track_of,
)

# A face that is seen for less than this, and for less than half of a shorter file, gets no timeline; the main one does.
MIN_TRACK_S = 1.0
MAX_TRACKS = 8

_log = logging.getLogger(__name__)


class ReadError(Exception):
    """A file, or a part of it, cannot be read; ``code`` and ``text`` give the reason."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


@contextmanager
def read_errors(file: str) -> Iterator[None]:
    """Turns every exception raised while a file is read into a ReadError; logs those that are not expected."""
    try:
        with file_errors(file):
            yield
    except ReadError:
        raise
    except EmozooError as error:
        raise ReadError(getattr(error, "code", "failed"), getattr(error, "reason", str(error))) from error
    except Exception as error:
        _log.debug("%s: unexpected exception while the file was read", one_line(file), exc_info=True)
        raise ReadError("internal", f"{type(error).__name__}: {error}") from error


@dataclass
class Face:
    """A face that gets a timeline, or None for the file as a whole, and the network's outputs for its windows.

    ``best``: the windows that explain the prediction, where that is asked for.
    """

    track: Track | None
    main: bool
    windows: list[Window]
    outputs: list[WindowOutput] = field(default_factory=list)
    best: Best = field(default_factory=Best)
    failure: ReadError | None = None


class FaceRule(NamedTuple):
    """Which faces get a timeline: those whose box has at least ``smallest`` pixels, ``most`` of them (None: eight)."""

    smallest: float = 0.0
    most: int | None = None

    def large(self, tracks: Sequence[Track]) -> list[Track]:
        """The tracks whose boxes are large enough: by the median over time of the longer side."""
        return [t for t in tracks if float(np.median((t.boxes[:, 2:] - t.boxes[:, :2]).max(1))) >= self.smallest]


ALL_FACES = FaceRule()


class Task(NamedTuple):
    """Windows of a face that show the same frames, and the clip of the first one once it is read."""

    face: Face
    windows: list[Window]
    raw: RawClip | None = None


@dataclass
class OpenFile:
    """An open file. ``tracks``: all faces; ``long``: how many beside the main one are seen long enough for a timeline.

    ``small``: how many faces were left out for their size. ``faces``: those with a timeline. ``used``: streams that
    held anything real.
    """

    reader: ClipReader
    spec: ClipSpec
    tracks: list[Track]
    long: int
    faces: list[Face]
    rule: FaceRule = ALL_FACES
    small: int = 0
    used: set[str] = field(default_factory=set)
    warnings: list[Warn] = field(default_factory=list)

    def tasks(self) -> list[Task]:
        """The windows to predict, in the order of time.

        A window whose own entry of the timeline does not show the face is left out, if the model has no other stream
        to predict from.
        """
        others = others_than_faces(self.spec, self.reader.audio is not None)
        found = []
        for face in self.faces:
            seen = None if others or len(face.windows) == 1 else face.track
            shown = [w for w in face.windows if seen is None or shows_face(seen, w)]
            found += [Task(face, group) for group in group_by_frames(self.reader, shown)]
        return sorted(found, key=lambda task: task.windows[0].start)

    def read(self, tasks: Sequence[Task]) -> list[Task]:
        """Those of the tasks whose clips hold anything real, with the clips; failures are noted for their faces."""
        plans: list[tuple[Task, Plan]] = []
        for task in tasks:
            try:
                plans.append((task, self._plan(task)))
            except ReadError as error:  # a damaged or silent part; the rest of the file is read
                task.face.failure = error
        try:
            with read_errors(self.reader.path):
                clips = self.reader.read_all([plan for _, plan in plans])
        except ReadError as error:
            for task, _ in plans:
                task.face.failure = error
            return []
        found = []
        for (task, _), raw in zip(plans, clips, strict=True):
            if isinstance(raw, VideoError):
                task.face.failure = ReadError(raw.code, raw.reason)
                continue
            self.warnings += [w for w in raw.warnings if w not in self.warnings]
            if raw.no_face:
                for name, s in self.spec.streams.items():
                    if s.kind.crops_face:  # it holds the whole image, from which no person is predicted
                        raw.masks[name] = np.zeros_like(raw.masks[name])
            real = {name for name, mask in raw.masks.items() if mask.any()}
            if real:
                self.used |= real
                found.append(task._replace(raw=raw))
        return found

    def _plan(self, task: Task) -> Plan:
        """The plan of a window; if its frames miss a face that the window shows, that of the stretch with it."""
        window, face = task.windows[0], task.face.track
        track = MAIN if task.face.main or face is None else face
        with read_errors(self.reader.path):
            plan = self.reader.plan(window.read_from, window.read_to, track=track)
            if plan.moments.no_face and face and (stretch := longest_stretch(face, window, self.reader.duration)):
                plan = self.reader.plan(*stretch, track=track)
        return plan

    def check(self) -> None:
        """Raises the ReadError of a face of which no window could be read."""
        for face in self.faces:
            if face.failure is not None and not face.outputs:
                raise face.failure

    def finish(self, result: Prediction, min_confidence: float, smooth: float = 0.0) -> None:
        """Writes what the network predicted for the faces into ``result``.

        ``smooth``: seconds over which a timeline is averaged (:func:`emozoo.timeline.smoothed`). Raises the ReadError
        of :meth:`check`, and one for numbers that are not finite.
        """
        self.check()
        result.duration_s = float(self.reader.duration)
        result.fps = float(self.reader.fps) if self.reader.fps else None
        for face in self.faces:
            moments = [
                moment
                for output in face.outputs
                for moment in moments_of(
                    output, result.classes, clip_s=self.spec.clip_s, alone=output.window.read_from is None,
                    min_confidence=min_confidence,
                )
            ]  # fmt: skip
            _check_finite(moments)
            if moments and smooth:
                moments = smoothed(moments, smooth)
            if moments:
                result.tracks.append(track_of(len(result.tracks), moments, face.track))
        result.streams_used = [s for s in self.spec.streams if s in self.used]
        result.warnings += self.warning_texts()
        if result.tracks:
            _summarize(result, min_confidence)

    def warning_texts(self) -> list[dict[str, str]]:
        """Warnings about the file and the prediction, each code once."""
        tracks, shown = self.tracks, sum(f.track is not None for f in self.faces)
        texts: dict[str, str] = {}
        for w in [*self.reader.warnings, *self.warnings]:
            texts.setdefault(w.code, w.text)
        texts.pop("no_face", None)
        if no_face := self._no_face():
            texts["no_face"] = no_face
        elif tracks and (turned := self._turned(tracks[0])):
            texts["turned"] = turned
        if "no_audio" in texts and any(self.spec.streams[s].kind.needs_audio for s in self.used):
            texts.setdefault("short_audio", "a part of the file has no audio")
            del texts["no_audio"]
        main = self.faces[0]
        skipped = len(main.windows) - len(main.outputs)
        if skipped and main.outputs:
            texts["gaps"] = (
                f"{skipped} of {len(main.windows)} moments have no prediction: no face, or nothing that can be decoded"
            )
        if tracks and len(tracks) + self.small > shown:
            brief, more = len(tracks) - 1 - self.long, 1 + self.long - shown
            shortest = min(MIN_TRACK_S, self.reader.duration / 2)
            most = "with most face frames" if self.reader.duration else "that are largest"
            reasons = [f"{brief} seen for less than {shortest:.2g} s"] * bool(brief)
            reasons += [f"{more} beyond the {self.rule.most or MAX_TRACKS} {most}"] * bool(more)
            reasons += [f"{self.small} smaller than {self.rule.smallest:g} pixels"] * bool(self.small)
            count = brief + more + self.small
            what = "1 more face" if count == 1 else f"{count} more faces"
            texts["more_faces"] = f"{what} got no timeline: {', '.join(reasons)}"
        return [{"code": code, "text": text} for code, text in texts.items()]

    def _no_face(self) -> str | None:
        """The warning for a file in which a model that needs a face used none; None for any other file."""
        faceless = not any(s.kind.crops_face and n in self.used for n, s in self.spec.streams.items())
        if not (self.spec.needs_face and faceless and self.reader.size != (0, 0)):
            return None
        others = [s for s in self.spec.streams if s in self.used]
        how = f"the prediction comes from: {', '.join(others)}" if others else "this model predicts from faces alone"
        found, advice = "no face was found", None
        if self.small:
            found = f"no face of {self.rule.smallest:g} pixels was found, and {self.small} smaller"
        elif not self.tracks:
            advice = self._look_again(lambda images: faces.hint(images, self.spec.detector))
        return "; ".join(filter(None, [found, how, advice]))

    def _turned(self, main: Track) -> str | None:
        """The warning for a doubtful face in a file that shows a surer one after turning; None without one."""
        if self.spec.detector != "cascade" or not main.score < faces.DOUBTFUL:  # nan: the score is not known
            return None
        turn = self._look_again(lambda images: faces.surer_turned(images, self.spec.detector, main.score))
        return turn and (
            f"what was found may not be a face: a surer one was found after turning {turn}: turn the image or video if "
            "it does not stand upright"
        )

    def _look_again(self, look: Callable[[list[np.ndarray]], str | None]) -> str | None:
        """What ``look`` finds in a few images of the file; None if they cannot be read again."""
        reader = self.reader
        with suppress(ReadError), read_errors(reader.path):
            whole = reader.offered(0.0, reader.duration)
            at = sorted({int(len(whole) * (i + 0.5) / faces.HINT_IMAGES) for i in range(faces.HINT_IMAGES)})
            assert reader.images is not None
            return look(list(reader.images.frames(whole[at])))
        return None


def _check_finite(moments: Sequence[Moment]) -> None:
    """Raises ReadError where the network gave NaN or infinity: that is no prediction."""
    numbers = [x for m in moments for x in (*m.scores.values(), m.valence, m.arousal) if x is not None]
    if not all(map(math.isfinite, numbers)):
        raise ReadError("not_finite", "the network's outputs are no finite numbers: there is no prediction")


def _summarize(result: Prediction, min_confidence: float) -> None:
    """Copies the means of the main track to the file, and warns if no label is sure enough."""
    main = result.tracks[0]
    result.label, result.scores = main.label, main.scores or None
    if result.scores and result.label is None:
        best = max(result.scores, key=result.scores.__getitem__)
        text = f"no label: the likeliest class, {best}, has {result.scores[best]:.2f}"
        result.warnings.append({"code": "low_confidence", "text": f"{text}, less than {min_confidence:g}"})
    result.valence = mean_over_time(main.timeline, lambda m: m.valence)
    result.arousal = mean_over_time(main.timeline, lambda m: m.arousal)


def open_file(name: str, images: Frames | None, spec: ClipSpec, every: float, rule: FaceRule = ALL_FACES) -> OpenFile:
    """Opens a file, or images in memory, and finds its faces. Raises ReadError."""
    with read_errors(name):
        reader = ClipReader(name, spec, images=images)
    try:
        with read_errors(name):
            found = list(reader.tracks) if spec.needs_face else []
    except ReadError:
        reader.close()
        raise
    return choose(reader, spec, every, rule, found)


def choose(reader: ClipReader, spec: ClipSpec, every: float, rule: FaceRule, found: list[Track]) -> OpenFile:
    """The open file with those of the faces found in it that get a timeline, and their windows."""
    duration, tracks = float(reader.duration), found
    if rule.smallest and found:
        reader.tracks = tracks = rule.large(found)  # the first one is the main track of the reader, too
    long = [t for t in tracks[1:] if t.end - t.start >= min(MIN_TRACK_S, duration / 2)]
    chosen: list[Track | None] = [*tracks[:1], *long[: (rule.most or MAX_TRACKS) - 1]]
    shown = [
        Face(track, not number, cut_windows(duration, spec.window_s, every, track if number else None))
        for number, track in enumerate(chosen or [None])
    ]
    return OpenFile(reader, spec, tracks, len(long), shown, rule, len(found) - len(tracks))


def others_than_faces(spec: ClipSpec, audio: bool) -> bool:
    """Whether the model can predict without a face, of media that have audio or not."""
    return any(audio if s.kind.needs_audio else not s.kind.crops_face for s in spec.streams.values())


def read_tasks(tasks: Sequence[tuple[OpenFile, Task]]) -> list[Task]:
    """:meth:`OpenFile.read` for tasks of several files, those of one behind each other."""
    found = []
    for _, own in groupby(tasks, key=lambda pair: id(pair[0])):
        pairs = list(own)
        found += pairs[0][0].read([task for _, task in pairs])
    return found
