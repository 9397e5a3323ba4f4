"""Predictions of what a camera sees, moment by moment while it runs; memory for images does not grow with time.

They are those that :func:`emozoo.predict` gives for a file with the same frames: windows, face tracks and smoothing are
the same. So an entry of the timeline comes a little later than it is seen: when the window around it is complete and
the boxes of its faces are smooth. ``EMOZOO_CAMERA`` names a video file that stands for the camera, at any speed.
"""

from __future__ import annotations

import math
import os
import queue
import signal
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from emozoo.data import faces
from emozoo.data.clips import ClipReader
from emozoo.data.faces import Chain, Track
from emozoo.errors import EmozooError, UsageError
from emozoo.inference import Prediction, Predictor
from emozoo.inputs import Clip, Frames
from emozoo.interrupt import until_interrupted
from emozoo.opened import Face, OpenFile, ReadError, Task, choose, others_than_faces, read_errors
from emozoo.prediction import Moment
from emozoo.timeline import Window, WindowOutput, cut_windows, moments_of, shows_face

WAIT_S = 3 * faces.SMOOTH_S + 2 / faces.DETECTIONS_PER_S  # after which the boxes of a moment change no more
MEMORY = 2**30  # bytes of frames: of large ones fewer a second are used
QUEUE = 32  # frames that wait while the network runs; a camera loses those that come then

_NOWHERE = Track(np.array([-math.inf]), np.zeros((1, 4)), 0.0)  # stands for no face, where others may be seen


def is_camera(path: Path) -> bool:
    """Whether a path stands for a camera: a device such as /dev/video0, or a number where no file is called so.

    Cameras have small numbers: one of five digits or more is the name of a file that is not there.
    """
    try:
        return stat.S_ISCHR(os.stat(path).st_mode) and path.name.startswith("video")
    except (OSError, ValueError):
        return _is_number(str(path))


def _is_number(name: str) -> bool:
    return name.isdecimal() and len(name) < 5


def predict(
    predictor: Predictor, camera: str, seconds: float | None, each: Callable[[float, list[Moment]], None]
) -> Prediction:
    """Predicts what a camera shows for so many seconds, or until Ctrl-C, or until a file in its place ends.

    ``each`` gets one entry of the timeline after the other: its start in seconds and the moments of all faces, that
    with most face frames first; none where there is no prediction. What a camera has shown before it failed is
    predicted, with the warning ``camera_lost``. Raises EmozooError where the camera gives no image, UsageError for a
    model that sees none.
    """
    if not predictor.spec.needs_images:
        raise UsageError(f"{predictor.module.name} listens to audio, of which a camera gives none")
    watched, lost = _Watched(predictor, camera), ""
    with until_interrupted(signal.SIGINT) as stopped:
        try:
            for at, image in _frames(camera, stopped):
                if seconds is not None and at >= seconds:
                    break
                for start, moments in watched.add(at, image):
                    each(start, moments)
        except _Lost as error:
            if watched.is_empty:
                raise
            lost = str(error)
    seen = watched.end(each)
    if lost:
        seen.warnings.append({"code": "camera_lost", "text": lost})
    return seen


class _Lost(EmozooError):
    """A camera that could be opened gives no more images."""


class _Watched:
    """What a camera has shown: the last seconds as images, all faces as boxes, and the network's outputs."""

    def __init__(self, predictor: Predictor, name: str) -> None:
        self._predictor, self._spec, self._name = predictor, predictor.spec, name
        self._length, self._every = predictor.spec.window_s, predictor.every
        self._frames: deque[tuple[float, np.ndarray]] = deque()
        self._count, self._wanted, self._next = 0, 0, 0  # frames; looks for faces; entries
        self._look = faces.Look(self._spec.detector) if self._spec.needs_face else None
        self._linker = faces.Linker()
        self._outputs: dict[tuple[Chain | None, int], tuple[WindowOutput, set[str]]] = {}
        self._others = others_than_faces(self._spec, audio=False)

    def add(self, at: float, image: np.ndarray) -> Iterator[tuple[float, list[Moment]]]:
        """One frame more, ``at`` seconds; the entries that are complete with it."""
        if self._frames:
            last = self._frames[-1][0]
            held = self._every + 2 * self._length + WAIT_S
            if at <= last or at < last + 0.9 * image.nbytes * held / MEMORY:
                return
            self._look_at((last + at) / 2)
        self._frames.append((at, image))
        self._count += 1
        while True:
            start = self._next * self._every
            end = start + self._every
            first = max((start + end - self._length) / 2, 0.0)
            if at < max(end, first + self._length) + WAIT_S:
                break
            yield start, self._entry(Window(start, end, first, first + self._length))
        oldest = min(start - self._length / 2, at - self._length) - WAIT_S
        while self._frames[0][0] < oldest:
            self._frames.popleft()

    @property
    def is_empty(self) -> bool:
        return not self._frames

    def end(self, each: Callable[[float, list[Moment]], None]) -> Prediction:
        """The prediction for all that was seen; ``each`` gets the entries that are left. Raises EmozooError."""
        if self.is_empty:
            raise EmozooError(f"camera {self._name}: gave no image")
        last = self._frames[-1][0]
        fps = (self._count - 1) / last if last else 0.0
        duration = last + 1 / fps if fps else 0.0
        if duration <= self._length + 1e-6:
            return self._predictor.predict(Clip(self._name, self._source()))
        self._look_at(last + 1e-6)
        windows = cut_windows(duration, self._length, self._every, None)
        for window in windows[self._next :]:
            each(window.start, self._entry(window))
        try:
            return self._joined(duration, fps)
        except ReadError as error:
            return self._predictor.failed(self._name, error.code, error.text)

    def _source(self) -> Frames:
        source = Frames([image for _, image in self._frames])
        source.stamps = np.array([at for at, _ in self._frames])
        return source

    def _look_at(self, until: float) -> None:
        """Looks for faces in the newest frame if it is the nearest to the time of a look, none later than ``until``."""
        passed = math.floor((until + 1e-6) * faces.DETECTIONS_PER_S)
        if self._look is not None and passed >= self._wanted:
            at, image = self._frames[-1]
            self._linker.add(at, self._look(at, image))
        self._wanted = max(self._wanted, passed + 1)

    @property
    def _step(self) -> float:
        """Seconds between looks."""
        looks = self._linker.looks
        return max(1 / faces.DETECTIONS_PER_S, float(np.median(np.diff(looks))) if len(looks) > 1 else 0.0)

    def _entry(self, window: Window) -> list[Moment]:
        """The moments of one entry, for each face and, where the model sees more than faces, for what is around."""
        assert window.read_from is not None
        assert window.read_to is not None
        predictor, number = self._predictor, self._next
        since = min(window.read_from, window.start) - WAIT_S - faces.GAP_S
        seen: list[tuple[Chain | None, Track | None]] = []
        for chain, track in self._linker.faces(self._step, since) if self._look else []:
            inside = track.start < window.read_to and track.end > window.read_from
            if inside if self._others else shows_face(track, window):
                seen.append((chain, track))
        if self._others:
            seen.append((None, _NOWHERE if self._look else None))
        self._next += 1
        try:
            with read_errors(self._name):
                reader = ClipReader(self._name, self._spec, images=self._source())
        except ReadError:  # the entry stays empty; what was seen before and comes after is predicted
            return []
        reader.tracks = []
        made = {id(face): (face, chain) for chain, track in seen for face in [Face(track, False, [window])]}
        file = OpenFile(reader, self._spec, [], 0, [face for face, _ in made.values()])
        tasks = file.read([Task(face, [window]) for face in file.faces])
        of_faces, around = list[Moment](), list[Moment]()
        size = predictor.batch_size
        for part in (tasks[i : i + size] for i in range(0, len(tasks), size)):
            for task, (output,) in zip(part, predictor.outputs(part), strict=True):
                assert task.raw is not None
                owner = made[id(task.face)][1]
                used = {name for name, mask in task.raw.masks.items() if mask.any()}
                self._outputs[owner, number] = output, used
                (around if owner is None else of_faces).extend(moments_of(
                    output, predictor.module.classes, clip_s=self._spec.clip_s, alone=False,
                    min_confidence=predictor.min_confidence,
                ))  # fmt: skip
        return of_faces or around

    def _joined(self, duration: float, fps: float) -> Prediction:
        """The entries of all faces as one prediction. Raises ReadError."""
        with read_errors(self._name):
            reader = ClipReader(self._name, self._spec, images=self._source())
        reader.duration, reader.fps = duration, fps
        pairs = self._linker.faces(self._step) if self._look else []
        chain_of: dict[int, Chain | None] = {id(track): chain for chain, track in pairs}
        file = choose(reader, self._spec, self._every, self._predictor.rule, [track for _, track in pairs])
        windows = cut_windows(duration, self._length, self._every, None)
        for face in file.faces:
            chain = chain_of.get(id(face.track))
            of_face = set(face.windows)
            for number, window in enumerate(windows):
                own = self._outputs.get((chain, number))
                if window not in of_face or not (self._others or (face.track and shows_face(face.track, window))):
                    continue
                if own is None and face.main:
                    own = self._outputs.get((None, number))
                if own is not None:
                    face.outputs.append(own[0])
                    file.used |= own[1]
        result = self._predictor.blank(self._name)
        self._predictor.finish(result, file)
        return result


def _frames(camera: str, stopped: threading.Event) -> Iterator[tuple[float, np.ndarray]]:
    """Seconds since the first frame, and RGB frames (H, W, 3), read by a thread while the last ones are predicted.

    Raises EmozooError where the camera cannot be opened, or fails while it is read; a recording has an end.
    """
    recording = os.environ.get("EMOZOO_CAMERA")
    source = recording or camera
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its errors are ours to tell
    capture = cv2.VideoCapture(int(source) if _is_number(source) else source)
    what = f"EMOZOO_CAMERA={recording}" if recording else f"camera {camera}"
    if not capture.isOpened():
        capture.release()
        raise EmozooError(f"{what}: cannot be opened: there is none, or another program uses it")
    waiting: queue.Queue[tuple[float, np.ndarray] | Exception | None] = queue.Queue(QUEUE)  # None: no more frames
    ended = threading.Event()

    def read() -> None:
        end: Exception | None = None
        try:
            read_on()
        except Exception as error:
            end = error
        finally:
            capture.release()  # by no other thread, which could do so in the middle of a read
        while not ended.is_set():
            try:
                waiting.put(end, timeout=0.2)
                break
            except queue.Full:
                pass

    def read_on() -> None:
        first: float | None = None
        while not ended.is_set():
            good, bgr = capture.read()
            if not good:
                if recording or ended.is_set():
                    break
                raise OSError("it gives no more images")
            now = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 if recording else time.monotonic()
            first = now if first is None else first
            frame = now - first, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            while not ended.is_set():
                try:
                    waiting.put(frame, timeout=0.2 if recording else None, block=bool(recording))
                    break
                except queue.Full:
                    if not recording:
                        break  # lost: the network is slower than the camera

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        while not stopped.is_set():
            try:
                frame = waiting.get(timeout=0.2)
            except queue.Empty:
                continue
            if frame is None:
                break
            if isinstance(frame, Exception):
                raise _Lost(f"{what}: cannot be read any more ({' '.join(str(frame).split())})") from frame
            yield frame
    finally:
        ended.set()
        thread.join(timeout=2)
