"""Reads every file of a data set whole, once: hash, image size, thumbnails, faults, and whether a face is seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from emozoo.data import faces, store
from emozoo.data.container import check_length
from emozoo.data.manifest import Row
from emozoo.data.media_state import content
from emozoo.data.tables import read_va
from emozoo.errors import DatasetError, VideoError


class _Job(NamedTuple):
    """A file to examine: its path, the file with its audio, and its table of valence and arousal per frame."""

    path: str
    audio_file: str | None
    va_file: str | None
    find_face: bool


class FileFacts(NamedTuple):
    """What was read from one file.

    ``size`` = (width, height) in pixels. ``thumbnails`` (n, 256) and ``hashes`` (n,) uint64 describe up to three
    frames, to find copies. ``faults``: pairs of code and text. ``face``: whether a face was found in these frames; None
    if the detector was not run.
    """

    sha256: str
    size: tuple[int, int] | None
    thumbnails: np.ndarray
    hashes: np.ndarray
    faults: list[tuple[str, str]]
    face: bool | None = None


def examine(rows: Sequence[Row], workers: int) -> list[FileFacts]:
    """Facts of the file of each row, in order, read by ``workers`` processes; a file in several rows is read once.

    Shows a progress bar on stderr.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("checking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    keys = [(r.path, r.extra.get("sound"), r.extra.get("va_file")) for r in rows]
    jobs = {k: _Job(*k, r.box is None) for k, r in zip(keys, rows, strict=True)}
    found: dict[tuple[str | None, ...], FileFacts] = {}
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=len(jobs))
        for key, facts in zip(jobs, _in_processes(list(jobs.values()), workers), strict=True):
            found[key] = facts
            bar.advance(task)
    return [found[k] for k in keys]


def _in_processes(jobs: list[_Job], workers: int) -> Iterator[FileFacts]:
    if workers == 1 or len(jobs) < 64:  # starting processes takes longer than reading a few files
        yield from map(_examine_file, jobs)
        return
    # spawn: decoders must not cross a fork
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_examine_file, jobs, chunksize=max(1, min(64, len(jobs) // (workers * 4))))


def _examine_file(job: _Job) -> FileFacts:
    path, audio_file, va_file, find_face = job
    faults: list[tuple[str, str]] = []
    size: tuple[int, int] | None = None
    frames: list[np.ndarray] = []
    sha256 = face = None
    try:
        if found := store.find(path):
            sha256, size, frames, warnings = _decode_stored(*found)
            face = not found[0].lines[found[1]]["no_face"] if frames else None
            find_face = False  # the detector ran when the store was prepared
        else:
            size, frames, warnings = _decode(path)
            if audio_file is not None:
                warnings += _check_audio(audio_file)
        faults += warnings
    except VideoError as e:
        faults.append((e.code, e.reason))
    except OSError as e:
        faults.append(("unreadable", str(e.strerror or e)))
    if va_file is not None:
        try:
            read_va(va_file)
        except DatasetError as e:
            faults.append(("bad_va", str(e)))
    pairs = [t for t in map(thumbnail, frames) if t is not None]
    thumbnails = np.stack([t for t, _ in pairs]) if pairs else np.zeros((0, 256), np.float32)
    if find_face and frames:
        detect = faces.detector("cascade")
        face = any(len(detect(f)) for f in frames)
    hashes = np.array([h for _, h in pairs], np.uint64)
    if sha256 is None:
        sha256 = content(path, audio_file)
    return FileFacts(sha256, size, thumbnails, hashes, faults, face)


def _check_audio(path: str) -> list[tuple[str, str]]:
    """Codes and texts of the faults of an audio file that belongs to a video; reads it whole. Raises VideoError."""
    from emozoo.data import media

    header = media.read_header(path)
    if not header.has_audio:
        return [("no_audio", f"{path}: no audio track")]
    audio = media.AudioTrack(path, 16000, header)
    if audio.duration == 0:
        raise VideoError(path, f"{path}: its audio cannot be decoded", "broken")
    return [(w.code, f"{path}: {w.text}") for w in audio.warnings]


def _decode(path: str) -> tuple[tuple[int, int] | None, list[np.ndarray], list[tuple[str, str]]]:
    """Image size, the frames at 1/4, 1/2 and 3/4, and warnings; reads every frame and all audio. Raises VideoError."""
    from emozoo.data import media

    silent = Path(path).is_dir() or media.is_image(path)
    header = None if silent else media.read_header(path)
    images = media.open_frames(path, header) if header is None or header.has_video else None
    warnings: list[media.Warn] = []
    size: tuple[int, int] | None = None
    frames: list[np.ndarray] = []
    if images is not None:
        try:
            count = len(images.stamps)
            whole = np.concatenate(
                [images.check(i, min(i + media.CHECK_BLOCK, count) - 1) for i in range(0, count, media.CHECK_BLOCK)]
            )
            usable = np.flatnonzero(whole)
            if not len(usable):
                raise VideoError(path, "none of its frames can be decoded", "broken")
            if Path(path).is_dir():
                for _ in images.frames(usable):  # raises for damage that only decoding shows
                    pass
            chosen = usable[np.unique(np.array([1, 2, 3]) * (len(usable) - 1) // 4)] if count > 1 else usable
            check_length(path, float(images.stamps[-1]))
            size, frames = images.size, list(images.frames([int(i) for i in chosen]))
            warnings += images.warnings
        finally:
            images.close()
    if header is not None and header.has_audio:
        try:
            audio = media.AudioTrack(path, 16000, header, getattr(images, "clock", None))
            if images is None:
                if audio.duration == 0:
                    raise VideoError(path, "its audio cannot be decoded", "broken")
                check_length(path, audio.duration)
            warnings += audio.warnings
        except VideoError as error:  # the images are there
            if images is None:
                raise
            warnings.append(media.Warn(error.code, error.reason))
    elif images is None:
        raise VideoError(path, "has neither video nor audio", "no_video")
    return size, frames, [(w.code, w.text) for w in warnings]


def _decode_stored(
    prepared: store.Store, number: int
) -> tuple[str, tuple[int, int] | None, list[np.ndarray], list[tuple[str, str]]]:
    """The sha256 of an item of a store, then the same as :func:`_decode`."""
    line, item = prepared.lines[number], prepared.item(number)
    sha256 = store.digest(item)
    if sha256 != line["sha256"]:
        return sha256, None, [], [("damaged", "the store holds other bytes than were written")]
    if line["error"]:
        return sha256, None, [], [(line["error"]["code"], line["error"]["reason"])]
    images, warnings = store.images_of(item, prepared.cover)
    if images is None:
        return sha256, None, [], warnings
    stored = images.stored
    chosen = np.unique(stored[np.array([1, 2, 3]) * (len(stored) - 1) // 4])
    return sha256, images.size, list(images.frames(chosen)), warnings


def thumbnail(image: np.ndarray) -> tuple[np.ndarray, np.uint64] | None:
    """A standardized 16 x 16 gray thumbnail, (256,), and a 64-bit gradient hash; None for one plain color."""
    import cv2

    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    norm = float(np.linalg.norm(small))
    if norm < 16.0:  # one gray level of standard deviation
        return None
    steps = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    return small / norm, np.packbits(steps[:, 1:] > steps[:, :-1]).view(np.uint64)[0]
