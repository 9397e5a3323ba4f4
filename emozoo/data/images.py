"""Images: one file, or a folder of them as the frames of a clip. Every failure is a VideoError."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from emozoo.data.container import Header, Warn
from emozoo.errors import VideoError

cv2.setNumThreads(0)  # its thread pool does not survive the fork of a data worker

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
FOLDER_FPS = 25.0  # a folder of frames carries no times; 25 per second is assumed


class Pictures(Protocol):
    """A source of frames. ``stamps`` float64 (N,), seconds, ascending, from 0; ``size`` = (width, height)."""

    stamps: np.ndarray
    size: tuple[int, int]
    warnings: list[Warn]

    def check(self, first: int, last: int) -> np.ndarray:
        """Bool (last - first + 1,): which of these frames are whole."""

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """RGB uint8 (H, W, 3) for each of the ascending indices, one at a time."""

    def close(self) -> None: ...


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether the name says that this is a still picture."""
    return os.path.splitext(path)[1].lower() in PICTURE_SUFFIXES


def frame_rate(stamps: np.ndarray) -> float:
    """Average frames per second; 0 for a single frame."""
    return (len(stamps) - 1) / float(stamps[-1] - stamps[0]) if len(stamps) > 1 else 0.0


def read_picture(path: str | os.PathLike[str]) -> tuple[np.ndarray, list[Warn]]:
    """RGB uint8 (H, W, 3), turned as its EXIF data say; raises VideoError."""
    try:
        data = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise VideoError(path, "no such file", "missing") from None
    except OSError as e:
        raise VideoError(path, f"cannot be opened ({e.strerror})") from None
    if not data.size:
        raise VideoError(path, "the file is empty (0 bytes)", "empty")
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if picture is None:
        raise VideoError(path, "not a picture that OpenCV can read")
    warnings = []
    if data[0] == 0xFF and data[1] == 0xD8 and b"\xff\xd9" not in data[-4096:].tobytes():
        warnings.append(Warn("broken_tail", "the JPEG is cut off: its lower part is filled with grey"))
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), warnings


class Still:
    """One picture file: a single frame at time 0."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._picture, self.warnings = read_picture(path)
        self.size = (self._picture.shape[1], self._picture.shape[0])
        self.stamps = np.zeros(1)

    def check(self, first: int, last: int) -> np.ndarray:
        return np.ones(last - first + 1, dtype=bool)

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        for _ in indices:
            yield self._picture

    def close(self) -> None:
        pass


class FrameFolder:
    """A folder of pictures in the order of the numbers in their names (else of the names), 25 a second.

    Where names end in numbers, a missing number is a gap in time, so that later frames keep their place.

    ``source``: header of the video, or sound, that the pictures were taken from. It gives the frame rate; a sound the
    one under which both last equally long. ``lead``: seconds of it before the first picture that is there; 0 where the
    numbers are those of a longer film that it was cut from.
    """

    def __init__(self, path: str | os.PathLike[str], source: Header | None = None) -> None:
        self.path = Path(path)
        files = [p for p in self.path.iterdir() if is_picture(p)]
        if not files:
            raise VideoError(path, "the folder holds no pictures (jpg, png, bmp, webp)", "empty")
        numbers = {p: re.search(r"(\d+)$", p.stem) for p in files}
        self.warnings: list[Warn] = []
        if all(numbers.values()):
            number = {p: int(m[1]) for p, m in numbers.items() if m}
            self.files = sorted(files, key=lambda p: (number[p], p.name))
            ticks = np.array([number[p] for p in self.files], dtype=np.float64)
        else:
            self.files = sorted(files)
            ticks = np.arange(len(files), dtype=np.float64)
        if (np.diff(ticks) <= 0).any():  # two names with one number
            ticks = np.arange(len(files), dtype=np.float64)
        before = ticks[0] - min(ticks[0], 1)
        fps = FOLDER_FPS
        if source is not None:
            beyond = ticks[-1] > (source.total_s + 1) * source.fps if source.total_s else False
            if beyond if source.fps else before > len(ticks):
                before = 0.0  # numbered from the start of something longer: the sound begins with the first picture
            fps = source.fps or ((ticks[-1] - ticks[0] + 1 + before) / source.total_s if source.total_s else fps)
        self.stamps, self.lead = (ticks - ticks[0]) / fps, float(before / fps)
        self.size = next(self.frames([0])).shape[1::-1]

    def check(self, first: int, last: int) -> np.ndarray:
        return np.ones(last - first + 1, dtype=bool)

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        for i in indices:
            yield read_picture(self.files[i])[0]

    def close(self) -> None:
        pass
