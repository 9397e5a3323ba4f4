"""One pass over a video that decodes every frame: which are whole, when they are shown, and how.

Frames carry times and an error flag, and what follows a damaged one counts as damaged up to the next key frame.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from av.error import FFmpegError

from emozoo.data.container import open_container, video_stream
from emozoo.data.faces import DETECTIONS_PER_S
from emozoo.data.images import FOLDER_FPS

MOSTSCANS = 4096  # files whose times a process remembers
KEPT_BYTES = 64 << 20  # of decoded frames that a scan keeps for the face detector
MOST_SHAPE = 10.0  # pixels longer than this are a fault of the header: the image is shown as stored


class View(NamedTuple):
    """How a player shows the images of a stream: stretched to square pixels, then turned and mirrored.

    ``stored``: width and height in the file. ``shape``: width of a pixel over its height. ``axes``: whether x and y are
    exchanged, then whether the outcome is mirrored left to right, and upside down.
    """

    stored: tuple[int, int]
    shape: float
    axes: tuple[bool, bool, bool]

    @classmethod
    def of(cls, stream: Any, frame: Any) -> View:
        ratio = float(stream.sample_aspect_ratio or 0)
        return cls((frame.width, frame.height), ratio if 1 / MOST_SHAPE <= ratio <= MOST_SHAPE else 1.0, _axes(frame))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on show: the side in which pixels are longer is stretched, so that nothing is lost."""
        width, height = self.stored
        width, height = round(width * max(self.shape, 1.0)), round(height / min(self.shape, 1.0))
        return (height, width) if self.axes[0] else (width, height)

    @property
    def plain(self) -> bool:
        """Whether nothing is stretched or mirrored; turned it may be."""
        swap, mirror, upend = self.axes
        width, height = self.size[::-1] if swap else self.size
        return (width, height) == self.stored and (mirror ^ upend) == swap

    def show(self, image: np.ndarray) -> np.ndarray:
        """The stored image as a player shows it; both RGB uint8 (H, W, 3)."""
        size = self.size[::-1] if self.axes[0] else self.size
        if image.shape[1::-1] != size:
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        swap, mirror, upend = self.axes
        if swap:
            image = image.transpose(1, 0, 2)
        return np.ascontiguousarray(image[:: -1 if upend else 1, :: -1 if mirror else 1])


def _axes(frame: Any) -> tuple[bool, bool, bool]:
    """The display matrix (ISO 14496-12) to the nearest quarter turn, mirrored or not."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know all kinds of side data that FFmpeg has; the turn alone is told without
        return ((False, False, False), (True, False, True), (False, True, True), (True, True, False))[
            frame.rotation // 90 % 4
        ]
    if data is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


class Scan(NamedTuple):
    """Frames that decode whole: ``ticks`` int64 (N,) ascending, in ``unit`` seconds; ``lost`` = how many did not.

    ``clock`` = what a tick is: ``pts``; in files without presentation times (AVI) ``dts``, or ``order``, its number,
    where times are missing, repeated or run back. ``times``: what ``order`` has of them, in seconds (None = none).
    ``first`` = tick at which the stream says that it starts. ``view``: how a player shows the images.
    """

    ticks: np.ndarray
    unit: float
    clock: str
    first: int
    lost: int
    tail_lost: bool
    times: tuple[float | None, ...]
    view: View


def decode(box: Any, stream: Any, until: int | None = None) -> Iterator[tuple[Any, bool]]:
    """(frame, whole) one after the other. What follows a damaged frame counts as damaged up to the next key frame."""
    damaged = False
    packets = box.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except FFmpegError:
            yield None, False
            return
        damaged |= packet.is_corrupt
        try:
            frames = packet.decode()
        except FFmpegError:
            damaged = True
            yield None, False
            continue
        for frame in frames:
            damaged = frame.is_corrupt or (damaged and not frame.key_frame)
            yield frame, not damaged
            if until is not None and (frame.pts or 0) > until:
                return


def decoded_stream(box: Any) -> Any:
    stream = video_stream(box)
    stream.thread_type = "NONE"  # threads would report damage some frames late
    return stream


class Kept:
    """Frames of a scan at the moments at which faces are looked for, so that these need not be decoded again.

    ``frames`` by presentation time, at most ``KEPT_BYTES`` of them; later ones are not kept. The scan begins with the
    file: one of parts, as of long files, would tear holes into the memory of the process, which then grows.
    """

    def __init__(self) -> None:
        self.frames: dict[int, Any] = {}
        self._zero, self._last = None, None  # type: int | None, Any
        self._wanted = self._bytes = 0

    def see(self, frame: Any) -> None:
        """A whole frame, in the order of time."""
        if frame.pts is None:
            return
        zero = self._zero = frame.pts if self._zero is None else self._zero
        last = frame if self._last is None else self._last
        middle = ((last.pts + frame.pts) / 2 - zero) * float(frame.time_base)
        if self._last is None:
            self._wanted = math.ceil(middle * DETECTIONS_PER_S - 1e-6)
        elif (passed := math.floor(middle * DETECTIONS_PER_S + 1e-6)) >= self._wanted:
            self._keep(last)
            self._wanted = passed + 1
        self._last = frame

    def end(self) -> dict[int, Any]:
        """The frames, the last one seen too."""
        if self._last is not None:
            self._keep(self._last)
        return self.frames

    def _keep(self, frame: Any) -> None:
        size = sum(plane.buffer_size for plane in frame.planes)
        if self._bytes + size <= KEPT_BYTES:
            self._bytes += size
            self.frames[frame.pts] = frame


def scan_of(path: str, start: int | None = None, until: int | None = None, kept: Kept | None = None) -> Scan:
    with open_container(path) as box:
        stream = decoded_stream(box)
        if start is not None:
            box.seek(start, stream=stream)
        clocks: dict[str, list[int | None]] = {"pts": [], "dts": [], "order": []}
        lost, whole = 0, True
        view = View((0, 0), 1.0, (False, False, False))
        for number, (frame, whole) in enumerate(decode(box, stream, until)):
            if whole:
                if not clocks["pts"]:
                    view = View.of(stream, frame)
                clocks["pts"].append(frame.pts)
                clocks["dts"].append(frame.dts)
                clocks["order"].append(number)
                if kept is not None:
                    kept.see(frame)
            else:
                lost += 1
        clock, ticks = next((c, t) for c, t in clocks.items() if _rises(t))
        unit = 1 / _rate(stream) if clock == "order" else float(stream.time_base)
        first = 0 if clock == "order" else stream.start_time or 0
        times: tuple[float | None, ...] = ()
        if clock == "order":
            known = clocks["pts"]
            zero = next((t for t in known if t is not None), 0)  # large stamps would lose their fractions
            times = tuple(None if t is None else float((t - zero) * stream.time_base) for t in known)
        return Scan(np.array(ticks, dtype=np.int64), unit, clock, first, lost, not whole, times, view)


def _rate(stream: Any) -> float:
    """Frames per second as announced, where that can be true."""
    rates = [float(r) for r in (stream.average_rate, stream.guessed_rate) if r]
    return next((r for r in rates if 0.01 <= r <= 10_000), FOLDER_FPS)


def _rises(ticks: Sequence[int | None]) -> bool:
    return all(a is not None and b is not None and a < b for a, b in zip([-math.inf, *ticks], ticks))


SCANS: dict[tuple[str, int, int], Scan] = {}  # of whole files, by path, size and time of the last change


def cached_scan(path: str, kept: Kept | None = None) -> Scan:
    """The scan of a whole file, cached while the process lives, so that only the first epoch pays for it.

    ``kept`` stays empty where the scan was cached.
    """
    info = os.stat(path)
    key = (path, info.st_size, info.st_mtime_ns)
    scan = SCANS.get(key)
    if scan is None:
        scan = scan_of(path, kept=kept)
        if len(SCANS) >= MOSTSCANS:
            SCANS.pop(next(iter(SCANS)), None)
        SCANS[key] = scan
    return scan
