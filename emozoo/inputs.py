"""What ``predict`` accepts: paths, folders, and images in memory."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from emozoo.data.container import Warn
from emozoo.data.find import find_media
from emozoo.data.images import FOLDER_FPS
from emozoo.errors import UsageError
from emozoo.prediction import MediaPath

ImageLike = np.ndarray | Image.Image

_ACCEPTED = (
    "predict takes a path, a list of paths, an image (RGB uint8 array (H, W, 3) or PIL image) or a list of images, "
    "the frames of one clip"
)
_PIL_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB")


class Frames:
    """A FrameSource of images in memory, ``FOLDER_FPS`` a second; a single one is a still. RGB uint8 (H, W, 3) each."""

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        self._images = images
        self.size: tuple[int, int] = (images[0].shape[1], images[0].shape[0])
        self.stamps = np.arange(len(images)) / FOLDER_FPS
        self.warnings: list[Warn] = []

    def check(self, first: int, last: int) -> np.ndarray:
        """True for every frame: images in memory are never damaged."""
        return np.ones(last - first + 1, dtype=bool)

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """The images with these indices, one at a time."""
        return (self._images[i] for i in indices)

    def close(self) -> None:
        """Does nothing: no file is open."""


class Clip(NamedTuple):
    """Images in memory to predict, and the text that stands for a file name in the prediction."""

    name: str
    images: Frames


def collect(value: Any) -> tuple[list[MediaPath | Clip], bool]:
    """The files and clips that a value given to ``predict`` stands for, and whether it stands for a single one.

    A folder stands for all media files in it and below. Raises UsageError for a value of any other type.
    """
    if _is_path(value):
        if os.path.isdir(value):
            return [item.path for item in find_media([value])], False
        return [value], True
    if isinstance(value, np.ndarray | Image.Image):
        name = "<image>" if isinstance(value, Image.Image) else "<array>"
        return [Clip(name, Frames([_to_rgb(value)]))], True
    if not isinstance(value, list | tuple | Iterator) or isinstance(value, io.IOBase):
        raise UsageError(f"{_ACCEPTED}; got {_type_name(value)}")
    values = list(value)
    if values and all(isinstance(v, np.ndarray | Image.Image) for v in values):
        frames = [_to_rgb(v) for v in values]
        if len({f.shape for f in frames}) > 1:
            raise UsageError("the frames of one clip must have one size; predict images of several sizes one by one")
        return [Clip("<frames>", Frames(frames))], True
    for v in values:
        if not _is_path(v):
            raise UsageError(f"{_ACCEPTED}; got a {_type_name(value)} with {_type_name(v)} in it")
    inputs: list[MediaPath | Clip] = []
    for v in values:
        inputs += [item.path for item in find_media([v])] if os.path.isdir(v) else [v]
    return inputs, False


def _to_rgb(value: Any) -> np.ndarray:
    """RGB uint8 (H, W, 3) of an array or a PIL image, which is turned as its EXIF data say. Raises UsageError."""
    if isinstance(value, Image.Image):
        if value.mode not in _PIL_MODES:
            raise UsageError(f"{_ACCEPTED}; got a PIL image of mode {value.mode}: convert it to RGB")
        value = np.asarray(ImageOps.exif_transpose(value).convert("RGB"))
    if value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3 or not value.size:
        raise UsageError(f"{_ACCEPTED}; got an array of {value.dtype} {value.shape}")
    return np.ascontiguousarray(value)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, PathLike) and isinstance(os.fspath(value), str))


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
