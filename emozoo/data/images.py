"""Images: one file as an image, or as a source of frames. Every failure is a VideoError."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from emozoo.data.animation import Animation
from emozoo.data.container import Warn
from emozoo.data.image_decode import decode
from emozoo.data.image_format import format_of, read_bytes
from emozoo.data.manifest import IMAGES
from emozoo.moved import names_of

FOLDER_FPS = 25.0  # a folder of numbered frames carries no times; 25 per second is assumed


class FrameSource(Protocol):
    """Frames with times. ``stamps`` float64 (N,): seconds, ascending, from 0; ``size`` = (width, height) in pixels."""

    stamps: np.ndarray
    size: tuple[int, int]
    warnings: list[Warn]

    def check(self, first: int, last: int) -> np.ndarray:
        """Bool (last - first + 1,): which of the frames from ``first`` to ``last`` can be decoded whole."""

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """RGB uint8 (H, W, 3) for each of the ascending indices, one at a time."""

    def close(self) -> None:
        """Closes the file."""


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether the file name ends as that of an image."""
    return os.path.splitext(path)[1].lower() in IMAGES


def frame_rate(stamps: np.ndarray) -> float:
    """Average frames per second; 0 for a single frame."""
    return (len(stamps) - 1) / float(stamps[-1] - stamps[0]) if len(stamps) > 1 else 0.0


def read_image(path: str | os.PathLike[str]) -> tuple[np.ndarray, list[Warn]]:
    """The pixels of an image file and warnings; of an animation or a file of many pages, the first image.

    The pixels are RGB uint8 (H, W, 3), turned as the EXIF data say; transparent parts are white. Deeper pixels become
    8 bits a channel: integers keep their upper bits (16-bit files that hold 10 or 12 bits are read as such, with the
    warning ``bit_depth``), floats count from 0 to 1, or to 255 if any is above 1. A JPEG that is cut off has the
    warning ``broken_tail``; a PNG of which a part does not match its checksum has ``broken_part``.

    Raises VideoError: ``missing``, ``empty``, ``unreadable`` (not an image, too large, no decoder) or ``broken``.
    """
    return decode(path, read_bytes(path))


def open_image(path: str | os.PathLike[str]) -> FrameSource:
    """The frames of an image file: one of a still, all of an animated GIF, WebP, PNG or AVIF at their own times.

    Raises VideoError as :func:`read_image` does.
    """
    data = read_bytes(path)
    kind = format_of(data)
    moving = (
        kind == "GIF"
        or (kind == "WebP" and data[12:16] == b"VP8X" and bool(data[20:21]) and bool(data[20] & 2))
        or (kind == "PNG" and b"acTL" in data[: max(data.find(b"IDAT"), 0)])
        or (kind == "AVIF" and b"avis" in data[8:64])
    )
    if kind is not None and moving:
        animation = Animation(path, data, kind)
        if len(animation.stamps) > 1:
            return animation
        animation.close()
    return Still(path, data)


class Still:
    """A FrameSource of one image: a single frame at time 0. ``data``: the bytes of the file if they are known."""

    def __init__(self, path: str | os.PathLike[str], data: bytes | None = None) -> None:
        self._image, self.warnings = decode(path, read_bytes(path) if data is None else data)
        self.size = (self._image.shape[1], self._image.shape[0])
        self.stamps = np.zeros(1)

    def check(self, first: int, last: int) -> np.ndarray:
        return np.ones(last - first + 1, dtype=bool)

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        for _ in indices:
            yield self._image

    def close(self) -> None:
        pass


__getattr__ = names_of(__name__)
