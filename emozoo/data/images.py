"""Images: one file, or a folder of them as the frames of a clip. Every failure is a VideoError.

What a file is, is told by its content, not by its name. Ordinary JPEG and PNG are decoded by OpenCV; what it shows
otherwise than a viewer does, or not at all (transparency, animation, four inks, TIFF, GIF, AVIF), by Pillow, HEIC by
pillow-heif where that is installed. An image is turned as its EXIF data say, once; what is transparent shows white.
"""

from __future__ import annotations

import io
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from emozoo.data.container import Header, Warn, check_file
from emozoo.data.manifest import IMAGES
from emozoo.errors import VideoError

cv2.setNumThreads(0)  # its thread pool does not survive the fork of a data worker

FOLDER_FPS = 25.0  # a folder of numbered frames carries no times; 25 per second is assumed
MOST_PIXELS = 16384 * 12288  # of one image: the largest photos that phones take
MOST_BYTES = 2 << 30  # of one image file
MOST_FRAME_PIXELS = 1 << 32  # of all frames of an animation together: 2000 in full HD
MOST_SHORT_DELAY_S, USUAL_DELAY_S = 0.01, 0.1  # a frame shown for no longer is shown for a tenth, as browsers do
# Frame rates whose step is looked for in file names that count milliseconds, microseconds or nanoseconds.
RATES = (60, 50, 48, 30, 25, 24, 20, 15, 12.5, 12, 10, 8, 6, 5, 4, 3, 2, 1)
CLOCKS = {"milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}

HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
PILLOW_FORMATS = {
    "JPEG": ("JPEG", "MPO"), "PNG": ("PNG",), "GIF": ("GIF",), "WebP": ("WEBP",), "BMP": ("BMP",), "TIFF": ("TIFF",),
    "AVIF": ("AVIF",), "HEIC": ("HEIF",),
}  # fmt: skip
# What decoders throw at data that are damaged or cut off.
DECODE_ERRORS = (
    OSError, EOFError, SyntaxError, ValueError, KeyError, IndexError, TypeError, RuntimeError, MemoryError,
    struct.error, zlib.error,
)  # fmt: skip


class FrameSource(Protocol):
    """A source of frames. ``stamps`` float64 (N,), seconds, ascending, from 0; ``size`` = (width, height)."""

    stamps: np.ndarray
    size: tuple[int, int]
    warnings: list[Warn]

    def check(self, first: int, last: int) -> np.ndarray:
        """Bool (last - first + 1,): which of these frames are whole."""

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """RGB uint8 (H, W, 3) for each of the ascending indices, one at a time."""

    def close(self) -> None: ...


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether the name says that this is an image file."""
    return os.path.splitext(path)[1].lower() in IMAGES


def frame_rate(stamps: np.ndarray) -> float:
    """Average frames per second; 0 for a single frame."""
    return (len(stamps) - 1) / float(stamps[-1] - stamps[0]) if len(stamps) > 1 else 0.0


# --- one file --------------------------------------------------------------------------------------------------------


def _bytes(path: str | os.PathLike[str]) -> bytes:
    check_file(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read() if size <= MOST_BYTES else b""
    except FileNotFoundError:
        raise VideoError(path, "no such file", "missing") from None
    except OSError as e:
        raise VideoError(path, f"cannot be opened ({e.strerror})") from None
    if size > MOST_BYTES:
        raise VideoError(path, f"the file is too large for an image ({size / 1e9:.1f} GB); make it smaller")
    if not data:
        raise VideoError(path, "the file is empty (0 bytes)", "empty")
    return data


def _kind(data: bytes) -> str | None:
    """The format that the first bytes tell; None where it is no image."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if data.startswith(b"BM") and len(data) > 14 and data[6:10] == b"\0\0\0\0":
        return "BMP"
    if data[4:8] == b"ftyp":
        brands = {data[i : i + 4] for i in range(8, min(int.from_bytes(data[:4], "big"), 256, len(data)), 4)}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & HEIF_BRANDS:
            return "HEIC"
    return None


def _looks_like(data: bytes) -> str:
    """What a file that is no image seems to be, as the end of a sentence."""
    head = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    low = head.lower()
    if low.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or b"<html" in low:
        return "it is an HTML page, such as servers send in place of a file: fetch it again"
    if low.startswith(b"<svg") or (low.startswith(b"<?xml") and b"<svg" in low):
        return "it is an SVG drawing: save it as PNG"
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS: run `git lfs pull`"
    if data[4:8] == b"ftyp" or data.startswith((b"\x1aE\xdf\xa3", b"RIFF", b"OggS", b"FLV")):
        return "it is a video or audio file: name it as one (.mp4, .mkv, .wav ...)"
    if head.startswith(b"%PDF"):
        return "it is a PDF document: save its images as JPEG or PNG"
    if head.startswith(b"PK\x03\x04"):
        return "it is a ZIP archive: unpack it"
    if data.startswith(b"\0\5\x16\7"):
        return "it is a resource file of macOS that belongs to another file: delete it"
    if not data.strip(b"\0"):
        return f"all of its {len(data)} bytes are zero: fetch it again"
    try:
        text = head[:1024].decode("utf-8", errors="strict" if len(head) <= 1024 else "ignore")
        if all(c.isprintable() or c.isspace() for c in text):
            return "it is a text file"
    except UnicodeDecodeError:
        pass
    return "its content is of no known image format (JPEG, PNG, BMP, WebP, GIF, TIFF, AVIF, HEIC)"


def _bounded(path: str | os.PathLike[str], width: int, height: int) -> None:
    """Refuses, before anything is decoded, an image that would take too much memory, or has no pixels."""
    if width * height > MOST_PIXELS:
        raise VideoError(
            path,
            f"the image of {width} x {height} pixels is too large: more than {MOST_PIXELS / 1e6:.0f} million are not "
            "read; make it smaller",
        )
    if width < 1 or height < 1:
        raise VideoError(path, f"an image of {width} x {height} pixels shows nothing", "broken")


class _Jpeg(NamedTuple):
    """Header of a JPEG: size in pixels, number of colours, and where its compressed pixels begin."""

    width: int
    height: int
    colours: int
    scan: int


def _jpeg_header(data: bytes) -> _Jpeg | None:
    """None where the file ends, or is garbled, before its pixels begin."""
    at, frame = 2, None
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        length = (data[at + 2] << 8) + data[at + 3]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = data[at + 5 : at + 10]
        at += 2 + length
        if marker == 0xDA:
            if frame is None or len(frame) < 5 or at > len(data):
                return None
            height, width, colours = struct.unpack(">HHB", frame)
            return _Jpeg(width, height, colours, at)
    return None


# Behind a 0xFF: 0 in compressed pixels, D0 to D7 restart marks, FF filling.
_JPEG_MARK = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _jpeg_ends(data: bytes, scan: int) -> bool:
    """Whether the end mark of the image itself is there; phones put a film or a second image behind it."""
    if data.endswith(b"\xff\xd9"):
        return True
    at = scan
    while mark := _JPEG_MARK.search(data, at):
        if data[mark.end() - 1] == 0xD9:
            return True
        at = mark.end() + int.from_bytes(data[mark.end() : mark.end() + 2], "big")  # tables between two scans
    return False


def _png_whole(data: bytes) -> bool:
    """Whether all chunks are there and undamaged, up to the last."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(data) or zlib.crc32(memoryview(data)[at + 4 : end]) != int.from_bytes(
            data[end : end + 4], "big"
        ):
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at = end + 4
    return False


def _png_cut(data: bytes) -> bool:
    """Whether the file ends before its last chunk."""
    at = 8
    while at + 12 <= len(data):
        if data[at + 4 : at + 8] == b"IEND":
            return False
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return True


def _for_opencv(path: str | os.PathLike[str], data: bytes, kind: str) -> bool:
    """Whether OpenCV shows this file as a viewer would; it is then known not to be too large."""
    if kind == "PNG" and len(data) >= 26:
        _bounded(path, *struct.unpack(">II", data[16:24]))
        head = data[: max(data.find(b"IDAT"), 0)]
        return data[25] in (0, 2, 3) and b"tRNS" not in head and b"acTL" not in head
    if kind == "WebP" and data[12:16] == b"VP8 " and len(data) >= 30:
        width, height = struct.unpack("<HH", data[26:30])
        _bounded(path, width & 0x3FFF, height & 0x3FFF)
        return int.from_bytes(data[4:8], "little") + 8 <= len(data)
    return False


def _eight_bits(image: np.ndarray, notes: list[Warn]) -> np.ndarray:
    """uint8 of any depth. Whole numbers: the upper 8 bits; floats: up to 1 white is 1, else 255."""
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        top = int(image.max())
        bits = next((b for b in (8, 10, 12) if top < 1 << b), 16)  # cameras write 10 and 12 bits into 16
        if top > 0 and bits < 16:
            text = f"the 16-bit image holds no value above {top}: it was read as one of {bits} bits"
            notes.append(Warn("bit_depth", text))
            return (image >> (bits - 8)).astype(np.uint8)
        return (image >> 8).astype(np.uint8)
    if image.dtype.kind == "f":
        known = np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0)
        return (known * (255.0 if known.max() <= 1 else 1.0) + 0.5).clip(0, 255).astype(np.uint8)
    raise ValueError(f"pixels of the type {image.dtype} are not supported")


def _rgb(image: Image.Image, notes: list[Warn]) -> np.ndarray:
    """RGB uint8 (H, W, 3); what is transparent shows white."""
    if image.mode == "F" or image.mode.startswith("I"):
        grey = np.asarray(image)
        if grey.dtype == np.int32:  # 16 bits in 32, as Pillow opens some; more cannot be known to be an image
            if grey.min() < 0 or grey.max() > 0xFFFF:
                raise ValueError("pixels of 32 bits are not supported")
            grey = grey.astype(np.uint16)
        return np.repeat(_eight_bits(grey.astype(grey.dtype.newbyteorder("=")), notes)[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    return np.array(image.convert("RGB"))


def _heif_opener(path: str | os.PathLike[str]) -> None:
    try:
        import pillow_heif
    except ImportError:
        raise VideoError(
            path,
            "is a HEIC photo (.heic, .heif), for which no decoder is installed: pip install 'emozoo[heic]', or convert "
            "it to JPEG",
        ) from None
    pillow_heif.register_heif_opener()


def _open(path: str | os.PathLike[str], data: bytes, kind: str) -> Image.Image:
    """The file opened by Pillow; its pixels are decoded on demand."""
    if kind == "HEIC":
        _heif_opener(path)
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
    _bounded(path, *image.size)
    return image


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except DECODE_ERRORS:  # EXIF data that nobody can read
        return image


def _deep_tiff(path: str | os.PathLike[str], data: bytes) -> np.ndarray | None:
    """TIFFs of more than 8 bits a colour, by OpenCV, which turns them: Pillow cuts off their lower bits, or refuses."""
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
    _bounded(path, width, height)
    return _decode_opencv(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)


def _decode_opencv(data: bytes, flags: int = cv2.IMREAD_COLOR) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None


def _read_jpeg(path: str | os.PathLike[str], data: bytes) -> tuple[np.ndarray, list[Warn]]:
    header = _jpeg_header(data)
    if header is None:
        raise VideoError(path, "the JPEG is cut off or damaged before its first pixel: fetch it again", "broken")
    _bounded(path, header.width, header.height)
    notes = []
    if not _jpeg_ends(data, header.scan):
        notes.append(Warn("broken_tail", "the JPEG is cut off: its lower part is filled with grey"))
        data += b"\xff\xd9"  # with an end to it, decoders hand out what is there
    image = _decode_opencv(data) if header.colours != 4 else None
    if image is not None:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), notes
    return _read_pillow(path, data, "JPEG", notes)


def _read_pillow(
    path: str | os.PathLike[str], data: bytes, kind: str, notes: list[Warn]
) -> tuple[np.ndarray, list[Warn]]:
    with _open(path, data, kind) as image:
        try:
            pages = getattr(image, "n_frames", 1) if kind not in ("JPEG", "HEIC") else 1
            if getattr(image, "default_image", False):
                image.seek(1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image.load()
            pixels = _rgb(_upright(image), notes)
        except DECODE_ERRORS as e:
            raise VideoError(path, f"the {kind} file is cut off or damaged: fetch it again ({e})", "broken") from None
    if pages > 1:
        notes.append(Warn("first_picture", f"the file holds {pages} images: the first was used"))
    return pixels, notes


def _decode(path: str | os.PathLike[str], data: bytes) -> tuple[np.ndarray, list[Warn]]:
    kind = _kind(data)
    if kind is None:
        raise VideoError(path, f"not an image: {_looks_like(data)}")
    if kind == "JPEG":
        return _read_jpeg(path, data)
    notes: list[Warn] = []
    image = None
    if _for_opencv(path, data, kind):
        if kind == "PNG" and _png_cut(data):
            raise VideoError(path, "the PNG file is cut off: fetch it again", "broken")
        deep = kind == "PNG" and data[24] == 16
        image = _decode_opencv(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH if deep else cv2.IMREAD_COLOR)
    elif kind == "TIFF":
        image = _deep_tiff(path, data)
    if image is None:
        return _read_pillow(path, data, kind, notes)
    try:
        return cv2.cvtColor(_eight_bits(image, notes), cv2.COLOR_BGR2RGB), notes
    except ValueError as e:
        raise VideoError(path, str(e)) from None


def read_image(path: str | os.PathLike[str]) -> tuple[np.ndarray, list[Warn]]:
    """The image in an image file, of an animation or a file of many pages the first.

    RGB uint8 (H, W, 3), turned as its EXIF data say, transparent parts white. More than 8 bits a colour become 8: whole
    numbers lose their lower bits (16-bit files that hold 10 or 12 bits only, are read as such, with a warning); floats
    count from 0 to 1, or to 255 where any is above 1. A JPEG that is cut off comes with the warning ``broken_tail``.

    Raises VideoError: ``missing``, ``empty``, ``unreadable`` (no image, too large, no decoder) or ``broken``.
    """
    return _decode(path, _bytes(path))


def open_image(path: str | os.PathLike[str]) -> FrameSource:
    """The frames of an image file: one of a still, those of an animated GIF, WebP, PNG or AVIF at their own times.

    Raises VideoError, as :func:`read_image`.
    """
    data = _bytes(path)
    kind = _kind(data)
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
    """One image file: a single frame at time 0. ``data``: its bytes, where they were read already."""

    def __init__(self, path: str | os.PathLike[str], data: bytes | None = None) -> None:
        self._image, self.warnings = _decode(path, _bytes(path) if data is None else data)
        self.size = (self._image.shape[1], self._image.shape[0])
        self.stamps = np.zeros(1)

    def check(self, first: int, last: int) -> np.ndarray:
        return np.ones(last - first + 1, dtype=bool)

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        for _ in indices:
            yield self._image

    def close(self) -> None:
        pass


class Animation:
    """The frames of an animated image at the times that its file gives; one decoded frame is in memory at a time.

    It is decoded once through when it is opened. Frames behind the first that does not decode are left out with the
    warning ``broken_tail``. A frame that lasts 0 or 10 ms is shown for 100 ms, as browsers do.
    """

    def __init__(self, path: str | os.PathLike[str], data: bytes, kind: str) -> None:
        self.path, self._data, self._kind = path, data, kind
        self.warnings: list[Warn] = []
        self._image = _open(path, data, kind)
        self._first = 1 if getattr(self._image, "default_image", False) else 0  # a PNG for those who see no animation
        width, height = self._image.size
        try:
            count = getattr(self._image, "n_frames", 1)
        except DECODE_ERRORS as e:
            raise VideoError(path, f"the {kind} file is cut off or damaged: fetch it again ({e})", "broken") from None
        if count * width * height > MOST_FRAME_PIXELS:
            raise VideoError(
                path,
                f"the animation of {count} frames of {width} x {height} pixels is too large: more than "
                f"{MOST_FRAME_PIXELS / 1e6:.0f} million pixels in all are not read; convert it to MP4",
            )
        stamps, now = [], 0.0
        for number in range(self._first, count):
            try:
                self._image.seek(number)
                self._image.load()
            except DECODE_ERRORS:
                break
            stamps.append(now)
            seconds = float(self._image.info.get("duration") or 0) / 1000
            now += seconds if seconds > MOST_SHORT_DELAY_S else USUAL_DELAY_S
        if not stamps:
            raise VideoError(path, f"the {kind} file is cut off or damaged: no frame of it can be decoded", "broken")
        lost = count - self._first - len(stamps)
        if lost:
            text = f"damaged file, the end is missing: the {len(stamps)} frames before it, up to {now:.2f} s, were used"
            self.warnings.append(Warn("broken_tail", text))
        self.stamps = np.array(stamps)
        self.size = next(self.frames([0])).shape[1::-1]

    def check(self, first: int, last: int) -> np.ndarray:
        return np.ones(last - first + 1, dtype=bool)

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        for i in indices:
            try:
                if self._first + i < self._image.tell():  # Pillow does not go back in all PNGs
                    self._image = _open(self.path, self._data, self._kind)
                self._image.seek(self._first + int(i))
                self._image.load()
                image = _rgb(_upright(self._image), [])
            except DECODE_ERRORS:
                reason = f"the frame at {self.stamps[i]:.2f} s cannot be decoded"
                raise VideoError(self.path, reason, "broken") from None
            yield image

    def close(self) -> None:
        self._image.close()


# --- a folder of frames ----------------------------------------------------------------------------------------------


class _Order(NamedTuple):
    """Names in order of time. ``ticks`` int64 or float64 (N,) ascending from 0, ``first`` what the first name counts.

    ``unit`` = seconds of a tick; 0 where names count frames, whose rate nobody knows. ``guess``: how that was told.
    """

    names: list[str]
    ticks: np.ndarray
    first: int
    unit: float
    guess: str


_DATE = re.compile(r"((?:19|20)[0-9]{6})[ _T-]?([0-9]{6})(?:[._-]?([0-9]{3}))?(?![0-9])")


def _instant(stem: str) -> datetime | None:
    """The date and time in a name, as cameras write them: 20240131_235959 or 20240131-235959_123."""
    found = _DATE.search(stem)
    if not found:
        return None
    try:
        return datetime.strptime(f"{found[1]}{found[2]}{found[3] or '000'}", "%Y%m%d%H%M%S%f")
    except ValueError:
        return None


def _natural(stem: str) -> list[tuple[int, str]]:
    """A key that sorts 2 before 10."""
    parts = re.split(r"([0-9]+)", stem)
    return [(int(p), "") if k % 2 else (-1, p) for k, p in enumerate(parts)]


def _in_order(names: Sequence[str]) -> _Order:
    """Frames by the number in their names that counts them.

    Of the numbers in names that are otherwise alike, the last counts the frames that never stays or falls back from
    one to the next; other names count by the number at their end. Where two frames share it, or one has none, frames
    follow one another evenly, in the order of their names. Numbers that rise by the step of a usual frame rate in
    milli-, micro- or nanoseconds are times, and so are fractions and dates with a time of day; other steps above 1
    leave frames of a video out.
    """
    stems = {n: os.path.splitext(n)[0] for n in names}
    if all(re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", s) for s in stems.values()):
        if any("." in s for s in stems.values()):
            value = {n: float(s) for n, s in stems.items()}
            there = sorted(names, key=lambda n: (value[n], n))
            ticks = np.array([value[n] - value[there[0]] for n in there])
            if (np.diff(ticks) > 0).all():
                return _Order(there, ticks, 0, 1.0, "the names were taken for seconds")
        else:
            numbers = {n: int(s) for n, s in stems.items()}
            return _counted(sorted(names, key=lambda n: (numbers[n], n)), numbers)
    instants = {n: _instant(s) for n, s in stems.items()}
    if all(instants.values()):
        there = sorted(names, key=lambda n: (instants[n], _natural(stems[n])))
        start = instants[there[0]]
        ticks = np.array([(instants[n] - start).total_seconds() for n in there])  # type: ignore[operator]
        # from midnight on they are rather numbers of frames behind a date
        if len(there) > 1 and (np.diff(ticks) > 0).all() and start is not None and (start.hour or start.minute):
            return _Order(there, ticks, 0, 1.0, "the dates in their names were taken for their times")
    groups = {n: re.findall(r"[0-9]+", s) for n, s in stems.items()}
    if len({re.sub(r"[0-9]+", "0", s) for s in stems.values()}) == 1 and groups[names[0]]:
        columns = np.array([[int(g) for g in groups[n]] for n in names], dtype=object)
        varying = [k for k in range(columns.shape[1]) if len(set(columns[:, k])) > 1]
        there = sorted(names, key=lambda n: ([int(groups[n][k]) for k in varying], n))
        for k in reversed(varying):
            values = [int(groups[n][k]) for n in there]
            if all(a < b for a, b in pairwise(values)):
                return _counted(there, {n: int(groups[n][k]) for n in there})
        return _Order(there, np.arange(len(there)), 0, 0.0, "")
    ends = {n: re.search(r"[0-9]+$", s) for n, s in stems.items()}
    if all(ends.values()):
        numbers = {n: int(m[0]) for n, m in ends.items() if m}
        return _counted(sorted(names, key=lambda n: (numbers[n], n)), numbers)
    return _Order(sorted(names, key=lambda n: (_natural(stems[n]), n)), np.arange(len(names)), 0, 0.0, "")


def _counted(names: list[str], numbers: dict[str, int]) -> _Order:
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
def _intact(path: str, _size: int, _mtime: int) -> bool:
    """Whether a frame is whole, remembered for the life of the process. JPEG and PNG are not decoded for it."""
    try:
        data = _bytes(path)
        kind = _kind(data)
        if kind == "JPEG":
            header = _jpeg_header(data)
            if header is None or not _jpeg_ends(data, header.scan):
                return False
            _bounded(path, header.width, header.height)
            return True
        if kind == "PNG":
            _bounded(path, *struct.unpack(">II", data[16:24]))
            return _png_whole(data)
        return not _decode(path, data)[1]
    except (VideoError, struct.error):
        return False


class FrameFolder:
    """A folder of images in the order of the numbers in their names, 25 a second where the names tell no times.

    A missing number is a gap in time, so that later frames keep their place. Numbers that rise by the step of a usual
    frame rate in milliseconds (33, 40, 100 ...) are times; with the warning ``assumed_rate``, which also says when
    frames of a video seem to have been left out. Hidden files are no frames. Frames that are empty, cut off or damaged
    are left out with the warning ``broken_part``. Frames of another size than the first are fitted into it, with the
    warning ``mixed_sizes``.

    ``source``: header of the video that the images were taken from, which gives the frame rate. It may be one of audio:
    the rate is then the one under which both last equally long. ``lead``: seconds before the first image; 0 where the
    numbers are those of a longer film that it was cut from.

    Raises VideoError: ``empty`` (no images), ``broken`` (none of them is whole).
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
        order = _in_order(names)
        self.files = [self.path / n for n in order.names]
        self._state = np.zeros(len(self.files), dtype=np.int8)  # 0 not looked at, 1 whole, 2 left out
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
        # divided where it is a rate: the times of plain numbers stay exact
        self.stamps = ticks * unit if order.unit else ticks / fps
        self.lead = float(before * unit if order.unit else before / fps)
        if order.guess and (order.unit or source is None):
            rate = "" if order.unit else f" of a video of {FOLDER_FPS:g} frames a second"
            last = f"the last one lies at {self.stamps[-1]:.2f} s"
            text = f"a folder of frames carries no times: {order.guess}{rate}; {last}"
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
            self._state[i] = 1 if _intact(os.fspath(self.files[i]), info.st_size, info.st_mtime_ns) else 2
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
        """Scaled and centred, on black, so that boxes mean the same in all frames."""
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
