"""What the bytes of an image file tell before anything is decoded: format, size, and whether the file is complete.

The format is told by the content, not by the name.
"""

from __future__ import annotations

import math
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from PIL import Image

from emozoo.data.container import check_file
from emozoo.errors import VideoError

MOST_PIXELS = 16384 * 12288  # of one image: the largest photos that phones take
MOST_BYTES = 2 << 30  # of one image file

HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of an image file. Raises VideoError: ``missing``, ``empty``, ``unreadable`` (such as too large)."""
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


def format_of(data: bytes) -> str | None:
    """The image format that the first bytes show, such as ``JPEG``; None if they show none."""
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


def looks_like(data: bytes) -> str:
    """What a file that is not an image seems to be, and what to do about it, as the end of a sentence."""
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


def check_size(path: str | os.PathLike[str], width: int, height: int) -> None:
    """Raises VideoError for an image without pixels, or with more than ``MOST_PIXELS``."""
    if width * height > MOST_PIXELS:
        raise VideoError(
            path,
            f"the image of {width} x {height} pixels is too large: more than {MOST_PIXELS / 1e6:.0f} million are not "
            "read; make it smaller",
        )
    if width < 1 or height < 1:
        raise VideoError(path, f"an image of {width} x {height} pixels has no pixels", "broken")


def pixels_of(path: str | os.PathLike[str]) -> float:
    """How many pixels an image file announces; infinity where Pillow cannot tell, such as of very many."""
    with suppress(Exception), warnings.catch_warnings():  # whatever a damaged header makes Pillow throw
        warnings.simplefilter("ignore")  # of large sizes
        check_file(path)
        with Image.open(path) as image:
            return image.width * image.height
    return math.inf


class JpegHeader(NamedTuple):
    """Header of a JPEG: size in pixels, number of color channels, and the byte at which the compressed pixels begin."""

    width: int
    height: int
    channels: int
    scan: int


def jpeg_header(data: bytes) -> JpegHeader | None:
    """The header of a JPEG; None if the file ends, or is damaged, before the pixels begin."""
    at, frame = 2, None
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker <= 0x01 or 0xD0 <= marker <= 0xD9:  # has no length, and stands nowhere before the pixels
            return None
        length = (data[at + 2] << 8) + data[at + 3]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = data[at + 5 : at + 10]
        at += 2 + length
        if marker == 0xDA:
            if frame is None or len(frame) < 5 or at > len(data):
                return None
            height, width, channels = struct.unpack(">HHB", frame)
            return JpegHeader(width, height, channels, at)
    return None


# Behind a 0xFF: 0 in compressed pixels, D0 to D7 restart marks, FF filling.
_JPEG_MARK = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def jpeg_is_complete(data: bytes, scan: int) -> bool:
    """Whether the end mark of the image is there. Phones append a film or a second image behind it."""
    if data.endswith(b"\xff\xd9"):
        return True
    at = scan
    while mark := _JPEG_MARK.search(data, at):
        if data[mark.end() - 1] == 0xD9:
            return True
        at = mark.end() + int.from_bytes(data[mark.end() : mark.end() + 2], "big")  # tables between two scans
    return False


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bool]]:
    """The name of each chunk of a PNG up to the last, and whether it is there and matches its checksum."""
    at, name = 8, b""
    while at + 12 <= len(data) and name != b"IEND":
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        name = data[at + 4 : at + 8]
        yield name, zlib.crc32(memoryview(data)[at + 4 : end]) == int.from_bytes(data[end : end + 4], "big")
        at = end + 4


def png_is_whole(data: bytes) -> bool:
    """Whether a PNG has all its chunks, the last included, and each matches its checksum."""
    chunks = list(_png_chunks(data))
    return bool(chunks) and chunks[-1][0] == b"IEND" and all(fits for _, fits in chunks)


def png_fault(data: bytes) -> str:
    """``cut`` if a PNG ends before its last chunk, ``damaged`` if a part that is shown does not match its checksum."""
    chunks = list(_png_chunks(data))
    if not chunks or chunks[-1][0] != b"IEND":
        return "cut"
    # decoders need the chunks whose names begin with a capital; fdAT are frames of an animation
    return "damaged" if any((name[:1].isupper() or name == b"fdAT") and not fits for name, fits in chunks) else ""


def opencv_reads(path: str | os.PathLike[str], data: bytes, kind: str) -> bool:
    """Whether OpenCV decodes this PNG or WebP as a viewer shows it. Raises VideoError if the image is too large."""
    if kind == "PNG" and len(data) >= 26:
        check_size(path, *struct.unpack(">II", data[16:24]))
        head = data[: max(data.find(b"IDAT"), 0)]
        return data[25] in (0, 2, 3) and b"tRNS" not in head and b"acTL" not in head
    if kind == "WebP" and data[12:16] == b"VP8 " and len(data) >= 30:
        width, height = struct.unpack("<HH", data[26:30])
        check_size(path, width & 0x3FFF, height & 0x3FFF)
        return int.from_bytes(data[4:8], "little") + 8 <= len(data)
    return False
