"""Decoders of image files: from the bytes of a file to RGB pixels.

OpenCV decodes ordinary JPEG, PNG and WebP. Pillow decodes what OpenCV would show otherwise than a viewer does, or not
at all (transparency, animation, four inks, TIFF, GIF, AVIF), pillow-heif decodes HEIC where it is installed. An image
is turned as its EXIF data say, once; transparent parts become white. Every failure is a VideoError.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from emozoo.data.container import Warn
from emozoo.data.image_format import (
    check_size,
    format_of,
    jpeg_header,
    jpeg_is_complete,
    looks_like,
    opencv_reads,
    png_fault,
)
from emozoo.errors import VideoError

cv2.setNumThreads(0)  # its thread pool does not survive the fork of a data worker

PILLOW_FORMATS = {
    "JPEG": ("JPEG", "MPO"), "PNG": ("PNG",), "GIF": ("GIF",), "WebP": ("WEBP",), "BMP": ("BMP",), "TIFF": ("TIFF",),
    "AVIF": ("AVIF",), "HEIC": ("HEIF",),
}  # fmt: skip
STRIP = 512  # rows
DAMAGED_PNG = Warn("broken_part", "damaged file: a part of the PNG does not match its checksum")
# Exceptions that decoders raise for files that are damaged or cut off.
DECODE_ERRORS = (
    OSError, EOFError, SyntaxError, ValueError, KeyError, IndexError, TypeError, RuntimeError, MemoryError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


def _to_eight_bits(image: np.ndarray, notes: list[Warn]) -> np.ndarray:
    """Pixels of any depth as uint8: the upper 8 bits of integers; floats from 0 to 1, or to 255 if any is above 1.

    ``image`` must not be used afterwards: large ones are changed where they are.
    """
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        top = int(image.max())
        bits = next((b for b in (8, 10, 12) if top < 1 << b), 16)  # cameras write 10 and 12 bits into 16
        if top > 0 and bits < 16:
            text = f"the 16-bit image has no value above {top}: it was read as an image of {bits} bits"
            notes.append(Warn("bit_depth", text))
        return np.right_shift(image, bits - 8, out=image).astype(np.uint8)
    if image.dtype.kind == "f":
        known = np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0)
        return (known * (255.0 if known.max() <= 1 else 1.0) + 0.5).clip(0, 255).astype(np.uint8)
    raise ValueError(f"pixels of the type {image.dtype} are not supported")


def to_rgb(image: Image.Image, notes: list[Warn]) -> np.ndarray:
    """RGB uint8 (H, W, 3) of a Pillow image; transparent parts are white. Warnings are appended to ``notes``.

    Raises ValueError for pixels that need 32 bits.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        grey = np.asarray(image)
        if grey.dtype == np.int32:  # Pillow opens some 16-bit images as 32 bits
            if grey.min() < 0 or grey.max() > 0xFFFF:
                raise ValueError("pixels of 32 bits are not supported")
            grey = grey.astype(np.uint16)
        return np.repeat(_to_eight_bits(grey.astype(grey.dtype.newbyteorder("=")), notes)[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        return _on_white(image if image.mode == "RGBA" else image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _on_white(image: Image.Image) -> np.ndarray:
    """RGB uint8 (H, W, 3) of an RGBA image on white, made in strips: a large one is not held three times."""
    width, height = image.size
    out = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, STRIP):
        strip = image.crop((0, top, width, min(top + STRIP, height)))
        white = Image.new("RGBA", strip.size, "white")
        out[top : top + STRIP] = np.asarray(Image.alpha_composite(white, strip).convert("RGB"))
    return out


def _register_heif(path: str | os.PathLike[str]) -> None:
    """Makes Pillow read HEIC. Raises VideoError if pillow-heif is not installed."""
    try:
        import pillow_heif
    except ImportError:
        raise VideoError(
            path,
            "is a HEIC photo (.heic, .heif), for which no decoder is installed: pip install 'emozoo[heic]', or convert "
            "it to JPEG",
        ) from None
    pillow_heif.register_heif_opener()


def open_pillow(path: str | os.PathLike[str], data: bytes, kind: str) -> Image.Image:
    """The file opened by Pillow, which decodes the pixels later. Raises VideoError: damaged, too large, no decoder."""
    if kind == "HEIC":
        _register_heif(path)
    if kind == "AVIF" and not features.check("avif"):
        raise VideoError(path, "this Pillow does not read AVIF: pip install -U pillow, or convert the image to JPEG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large sizes and odd tags
            image = Image.open(io.BytesIO(data), formats=PILLOW_FORMATS[kind])
    except Image.DecompressionBombError as e:
        raise VideoError(path, f"the image is too large to be read; make it smaller ({e})") from None
    except UnidentifiedImageError:
        raise VideoError(path, f"the {kind} file is cut off or damaged: fetch it again", "broken") from None
    except DECODE_ERRORS as e:
        raise VideoError(path, f"the {kind} file is cut off or damaged: fetch it again ({e})", "broken") from None
    check_size(path, *image.size)
    return image


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF data say; itself where they say nothing."""
    try:
        return image if image.getexif().get(0x0112, 1) == 1 else ImageOps.exif_transpose(image)
    except DECODE_ERRORS:  # unreadable EXIF data
        return image


def _read_deep_tiff(path: str | os.PathLike[str], data: bytes) -> np.ndarray | None:
    """BGR pixels of a TIFF with more than 8 bits a channel, upright; None for any other TIFF.

    OpenCV decodes it, since Pillow cuts off the lower bits or refuses the file.
    """
    try:
        tags = ImageFileDirectory_v2(data[:8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tags.load(file)
        width, height, bits = tags[256], tags[257], tags.get(258, (1,))
    except DECODE_ERRORS:
        return None
    if max(bits) <= 8:
        return None
    check_size(path, width, height)
    return _decode_opencv(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)


def _decode_opencv(data: bytes, flags: int = cv2.IMREAD_COLOR) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None


def _read_jpeg(path: str | os.PathLike[str], data: bytes) -> tuple[np.ndarray, list[Warn]]:
    header = jpeg_header(data)
    if header is None:
        raise VideoError(path, "the JPEG is cut off or damaged before its first pixel: fetch it again", "broken")
    check_size(path, header.width, header.height)
    notes = []
    if not jpeg_is_complete(data, header.scan):
        notes.append(Warn("broken_tail", "the JPEG is cut off: its lower part is filled with grey"))
        data += b"\xff\xd9"  # decoders return the part that is there once the file has an end mark
    image = _decode_opencv(data) if header.channels != 4 else None
    if image is not None:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), notes
    return _read_pillow(path, data, "JPEG", notes)


def _read_pillow(
    path: str | os.PathLike[str], data: bytes, kind: str, notes: list[Warn]
) -> tuple[np.ndarray, list[Warn]]:
    with open_pillow(path, data, kind) as image:
        try:
            pages = getattr(image, "n_frames", 1) if kind not in ("JPEG", "HEIC") else 1
            if getattr(image, "default_image", False):
                image.seek(1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image.load()
            pixels = to_rgb(upright(image), notes)
        except DECODE_ERRORS as e:
            raise VideoError(path, f"the {kind} file is cut off or damaged: fetch it again ({e})", "broken") from None
    if pages > 1:
        notes.append(Warn("first_picture", f"the file holds {pages} images: the first was used"))
    return pixels, notes


def decode(path: str | os.PathLike[str], data: bytes) -> tuple[np.ndarray, list[Warn]]:
    """RGB uint8 (H, W, 3) of the bytes of an image file, and warnings. ``path`` is for the text of errors."""
    kind = format_of(data)
    if kind is None:
        raise VideoError(path, f"not an image: {looks_like(data)}")
    if kind == "JPEG":
        return _read_jpeg(path, data)
    notes: list[Warn] = []
    image = None
    fault = png_fault(data) if kind == "PNG" else ""
    if fault == "cut":
        raise VideoError(path, "the PNG file is cut off: fetch it again", "broken")
    if fault:  # Pillow reads it: OpenCV would write of it to stderr
        notes.append(DAMAGED_PNG)
    elif opencv_reads(path, data, kind):
        deep = kind == "PNG" and data[24] == 16
        image = _decode_opencv(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH if deep else cv2.IMREAD_COLOR)
    elif kind == "TIFF":
        image = _read_deep_tiff(path, data)
    if image is None:
        return _read_pillow(path, data, kind, notes)
    try:
        image = _to_eight_bits(image, notes)  # and the deeper one is gone before the next copy is made
    except ValueError as e:
        raise VideoError(path, str(e)) from None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), notes
