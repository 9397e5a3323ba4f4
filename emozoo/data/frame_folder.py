"""A folder of images as the frames of a clip: the order and the times that the file names tell."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from emozoo.data.container import Header, Warn
from emozoo.data.image_decode import decode
from emozoo.data.image_format import (
    check_size,
    format_of,
    jpeg_header,
    jpeg_is_complete,
    png_is_whole,
    read_bytes,
)
from emozoo.data.images import FOLDER_FPS, is_image, read_image
from emozoo.errors import VideoError

# Frame rates whose step is looked for in file names that count milliseconds, microseconds or nanoseconds.
RATES = (60, 50, 48, 30, 25, 24, 20, 15, 12.5, 12, 10, 8, 6, 5, 4, 3, 2, 1)
CLOCKS = {"milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}


class _Order(NamedTuple):
    """File names in order of time.

    ``ticks`` int64 or float64 (N,): ascending from 0. ``first``: the number in the first name. ``unit``: seconds a
    tick; 0 if the names count frames, whose rate is not known. ``guess``: how times were read from names, as text.
    """

    names: list[str]
    ticks: np.ndarray
    first: int
    unit: float
    guess: str


_DATE = re.compile(r"((?:19|20)[0-9]{6})[ _T-]?([0-9]{6})(?:[._-]?([0-9]{3}))?(?![0-9])")


def _instant(stem: str) -> datetime | None:
    """The date and time in a file name as cameras write them: 20240131_235959 or 20240131-235959_123; None without."""
    found = _DATE.search(stem)
    if not found:
        return None
    try:
        return datetime.strptime(f"{found[1]}{found[2]}{found[3] or '000'}", "%Y%m%d%H%M%S%f")
    except ValueError:
        return None


def _natural(stem: str) -> list[tuple[int, str]]:
    """A sort key that puts 2 before 10."""
    parts = re.split(r"([0-9]+)", stem)
    return [(int(p), "") if k % 2 else (-1, p) for k, p in enumerate(parts)]


def order_by_name(names: Sequence[str]) -> _Order:
    """Sorts the names of frames by the number in them that counts the frames.

    Names that differ in numbers only are counted by the last of these numbers that rises from each name to the next.
    Other names are counted by the number at their end. If two names share that number, or one has none, the frames
    follow one another evenly in the order of their names. These numbers are times: decimal fractions, dates with a
    time of day, and numbers that rise by the step of a usual frame rate in milli-, micro- or nanoseconds. Any other
    step above 1 means that frames of a video were left out.
    """
    stems = {n: os.path.splitext(n)[0] for n in names}
    if all(re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", s) for s in stems.values()):
        if any("." in s for s in stems.values()):
            value = {n: float(s) for n, s in stems.items()}
            ordered = sorted(names, key=lambda n: (value[n], n))
            ticks = np.array([value[n] - value[ordered[0]] for n in ordered])
            if (np.diff(ticks) > 0).all():
                return _Order(ordered, ticks, 0, 1.0, "the names were taken for seconds")
        else:
            numbers = {n: int(s) for n, s in stems.items()}
            return _counted(sorted(names, key=lambda n: (numbers[n], n)), numbers)
    instants = {n: _instant(s) for n, s in stems.items()}
    if all(instants.values()):
        ordered = sorted(names, key=lambda n: (instants[n], _natural(stems[n])))
        start = instants[ordered[0]]
        ticks = np.array([(instants[n] - start).total_seconds() for n in ordered])  # type: ignore[operator]
        # digits near 000000 behind a date are rather frame numbers
        if len(ordered) > 1 and (np.diff(ticks) > 0).all() and start is not None and (start.hour or start.minute):
            return _Order(ordered, ticks, 0, 1.0, "the dates in their names were taken for their times")
    groups = {n: re.findall(r"[0-9]+", s) for n, s in stems.items()}
    if len({re.sub(r"[0-9]+", "0", s) for s in stems.values()}) == 1 and groups[names[0]]:
        columns = np.array([[int(g) for g in groups[n]] for n in names], dtype=object)
        varying = [k for k in range(columns.shape[1]) if len(set(columns[:, k])) > 1]
        ordered = sorted(names, key=lambda n: ([int(groups[n][k]) for k in varying], n))
        for k in reversed(varying):
            values = [int(groups[n][k]) for n in ordered]
            if all(a < b for a, b in pairwise(values)):
                return _counted(ordered, {n: int(groups[n][k]) for n in ordered})
        return _Order(ordered, np.arange(len(ordered)), 0, 0.0, "")
    ends = {n: re.search(r"[0-9]+$", s) for n, s in stems.items()}
    if all(ends.values()):
        numbers = {n: int(m[0]) for n, m in ends.items() if m}
        return _counted(sorted(names, key=lambda n: (numbers[n], n)), numbers)
    return _Order(sorted(names, key=lambda n: (_natural(stems[n]), n)), np.arange(len(names)), 0, 0.0, "")


def _counted(names: list[str], numbers: dict[str, int]) -> _Order:
    """The order of sorted names with a number each: as times if their step is that of a frame rate, else as counts."""
    values = [numbers[n] for n in names]
    ticks = np.array([float(v - values[0]) for v in values])
    steps = np.diff(ticks)
    if (steps <= 0).any():  # two names with one number
        return _Order(names, np.arange(len(names)), 0, 0.0, "")
    if not len(steps) or steps.min() == 1:
        return _Order(names, ticks, values[0], 0.0, "")
    step = float(np.median(steps[steps < 1.5 * steps.min()]))
    for clock, per_s in CLOCKS.items():
        for rate in RATES:
            if abs(step - per_s / rate) <= max(0.6, 0.01 * per_s / rate) and step >= 16 * per_s / 1e3:
                text = f"the numbers in their names, {step:g} apart, were taken for {clock}, {rate:g} frames a second"
                return _Order(names, ticks, values[0], 1 / per_s, text)
    return _Order(names, ticks, values[0], 0.0, f"the numbers in their names, {step:g} apart, were taken for frames")


@lru_cache(maxsize=65536)
def _is_whole(path: str, _size: int, _mtime: int) -> bool:
    """Whether an image file is complete. JPEG and PNG are not decoded; the result is cached while the process lives."""
    try:
        data = read_bytes(path)
        kind = format_of(data)
        if kind == "JPEG":
            header = jpeg_header(data)
            if header is None or not jpeg_is_complete(data, header.scan):
                return False
            check_size(path, header.width, header.height)
            return True
        if kind == "PNG":
            check_size(path, *struct.unpack(">II", data[16:24]))
            return png_is_whole(data)
        return not decode(path, data)[1]
    except (VideoError, struct.error):
        return False


class FrameFolder:
    """A FrameSource of a folder of images, in the order of the numbers in their names.

    The frame rate is 25 a second if the names give no times. A missing number is a gap in time, so later frames keep
    their times. Numbers that rise by the step of a usual frame rate in milliseconds (33, 40, 100 ...) are times; the
    warning ``assumed_rate`` names the rate, or tells that frames of a video seem to have been left out. Hidden files
    are ignored. Frames that are empty, cut off or damaged are left out, with the warning ``broken_part``. Frames that
    differ in size from the first are scaled into its size, with the warning ``mixed_sizes``.

    Args:
        path: the folder.
        source: header of the video that the images were taken from; it gives the frame rate. Of an audio file, the
            rate is the one that makes images and audio last equally long.

    ``lead`` = seconds before the first image; 0 if the numbers are those of a longer film that the clip was cut from.

    Raises VideoError: ``empty`` (no images), ``broken`` (no image can be read).
    """

    def __init__(self, path: str | os.PathLike[str], source: Header | None = None) -> None:
        self.path = Path(path)
        try:
            with os.scandir(path) as entries:
                names = sorted(
                    e.name for e in entries if is_image(e.name) and not e.name.startswith(".") and not e.is_dir()
                )
        except OSError as e:
            raise VideoError(path, f"the folder cannot be read ({e.strerror})") from None
        if not names:
            raise VideoError(path, "the folder holds no images (jpg, png, bmp, webp ...)", "empty")
        self.warnings: list[Warn] = []
        order = order_by_name(names)
        self.files = [self.path / n for n in order.names]
        self._state = np.zeros(len(self.files), dtype=np.int8)  # 0 not checked, 1 whole, 2 left out
        ticks, first = order.ticks.astype(np.float64), float(order.first)
        unit = order.unit
        before = first - min(first, 1) if not unit else first
        fps = FOLDER_FPS
        if source is not None and unit:
            if source.total_s and (ticks[-1] + before) * unit > source.total_s + 1:
                before = 0.0
        elif source is not None:
            beyond = first + ticks[-1] > (source.total_s + 1) * source.fps if source.total_s else False
            if beyond if source.fps else before > len(ticks):
                before = 0.0  # numbered from the start of something longer: the audio begins with the first image
            fps = source.fps or ((ticks[-1] + 1 + before) / source.total_s if source.total_s else fps)
        unit = unit or 1 / fps
        # division by the rate keeps the times of plain numbers exact
        self.stamps = ticks * unit if order.unit else ticks / fps
        self.lead = float(before * unit if order.unit else before / fps)
        if order.guess and (order.unit or source is None):
            rate = "" if order.unit else f" of a video of {FOLDER_FPS:g} frames a second"
            last = f"the last one lies at {self.stamps[-1]:.2f} s"
            text = f"a folder of frames has no time stamps: {order.guess}{rate}; {last}"
            self.warnings.append(Warn("assumed_rate", text))
        whole = next((i for i in range(len(self.files)) if self.check(i, i)[0]), None)
        if whole is None:
            raise VideoError(path, f"none of its {len(names)} images can be read", "broken")
        self.size: tuple[int, int] = read_image(self.files[whole])[0].shape[1::-1]

    def check(self, first: int, last: int) -> np.ndarray:
        for i in first + np.flatnonzero(self._state[first : last + 1] == 0):
            try:
                info = os.stat(self.files[i])
            except OSError:
                self._state[i] = 2
                continue
            self._state[i] = 1 if _is_whole(os.fspath(self.files[i]), info.st_size, info.st_mtime_ns) else 2
        self._report()
        return self._state[first : last + 1] == 1

    def _report(self) -> None:
        lost = np.flatnonzero(self._state == 2)
        if not len(lost):
            return
        names = ", ".join(self.files[i].name for i in lost[:3]) + (" ..." if len(lost) > 3 else "")
        text = f"{len(lost)} of {len(self.files)} frames are empty, cut off or damaged and were left out: {names}"
        self.warnings[:] = [w for w in self.warnings if w.code != "broken_part"] + [Warn("broken_part", text)]

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        for i in indices:
            image = read_image(self.files[i])[0]
            yield image if image.shape[1::-1] == self.size else self._fitted(image)

    def _fitted(self, image: np.ndarray) -> np.ndarray:
        """The image scaled to the size of the first frame, centered on black, so that boxes fit all frames."""
        if not any(w.code == "mixed_sizes" for w in self.warnings):
            text = "the frames differ in size: they were fitted into that of the first, {} x {}".format(*self.size)
            self.warnings.append(Warn("mixed_sizes", text))
        (height, width), (most_w, most_h) = image.shape[:2], self.size
        scale = min(most_w / width, most_h / height)
        size = max(1, min(most_w, round(width * scale))), max(1, min(most_h, round(height * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        out = np.zeros((most_h, most_w, 3), dtype=np.uint8)
        top, left = (most_h - size[1]) // 2, (most_w - size[0]) // 2
        out[top : top + size[1], left : left + size[0]] = small
        return out

    def close(self) -> None:
        pass
