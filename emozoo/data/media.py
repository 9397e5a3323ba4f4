"""Pictures and sound out of files: decord, with PyAV behind the same functions.

decord decodes where it can be trusted; PyAV reads headers, stands in where decord has no wheel, and vouches for the
rest. decord 0.6 hands out, without a word, grey or stale pictures of damaged files, and wrong ones after a seek where
frames are hidden by an edit list or shown before the key frame that they follow (MPEG-2, MPEG-4, x265 by default); on a
busy machine it reads ahead without bound. So it is given files that are small and closed at every key frame, after
PyAV has decoded them once: its frames carry times and an error flag. All else PyAV reads. Frames that are not whole are
left out and reported, never made up.

Times are seconds from the first presented frame; sound is shifted to the same zero. Readers are opened per use and must
not cross a fork. Every failure is a :class:`~emozoo.errors.VideoError`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import av
import cv2
import numpy as np
import torch  # noqa: F401  (before decord: the other order crashes beside CUDA, decord #293)
from av.error import FFmpegError

from emozoo.errors import VideoError

try:
    import decord
except ImportError:  # no wheels for macOS on ARM and Linux on aarch64
    decord = None
else:
    decord.logging.set_level(decord.logging.QUIET)

cv2.setNumThreads(0)  # its thread pool does not survive the fork of a data worker

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
FOLDER_FPS = 25.0  # a folder of frames carries no times; 25 per second is assumed
CHECK_BLOCK = 3000  # longer files are vouched for in blocks of so many frames, when they are reached
DECORD_BYTES = 256 << 20  # of decoded frames: what decord may pile up at worst
SEEK_S = 5.0  # PyAV decodes through gaps up to this long and seeks over longer ones
EARLY = 16  # frames; no codec reorders more
WHOLE_SOUND_S = 600.0  # longer sound is decoded window by window: memory stays flat


class Warn(NamedTuple):
    """Something a reader of the result should know. ``code`` for machines, ``text`` for people."""

    code: str
    text: str


class Header(NamedTuple):
    """What a media file announces, in seconds: stream starts, sound length and total length (0 = not announced).

    ``frame_bytes`` = size of one decoded picture, ``fps`` = pictures a second on average (0 = not announced).
    """

    has_video: bool
    has_audio: bool
    video_start: float
    audio_start: float
    audio_s: float
    total_s: float
    frame_bytes: int
    fps: float


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


# --- media files -----------------------------------------------------------------------------------------------------


def _open(path: str | os.PathLike[str]) -> Any:
    if not os.path.exists(path):
        raise VideoError(path, "no such file", "missing")
    if os.path.getsize(path) == 0:
        raise VideoError(path, "the file is empty (0 bytes)", "empty")
    try:
        return av.open(os.fspath(path))
    except (FFmpegError, OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or e
        raise VideoError(path, f"not a media file that can be opened ({reason})") from None


def read_header(path: str | os.PathLike[str]) -> Header:
    """Which streams the file has and when they start; decodes nothing. Raises VideoError."""
    with _open(path) as box:
        video = next((s for s in box.streams.video if not s.disposition & av.stream.Disposition.attached_pic), None)
        audio = box.streams.audio[0] if box.streams.audio else None

        def seconds(stream: Any, ticks: int | None) -> float:
            return float(ticks * stream.time_base) if stream is not None and ticks is not None else 0.0

        length = seconds(audio, audio.duration) if audio else 0.0
        return Header(
            video is not None,
            audio is not None,
            seconds(video, video.start_time) if video else 0.0,
            seconds(audio, audio.start_time) if audio else 0.0,
            length,
            box.duration / av.time_base if box.duration else 0.0,
            video.width * video.height * 3 if video else 0,
            float(video.average_rate or 0) if video else 0.0,
        )


class Scan(NamedTuple):
    """Frames that decode whole: ``ticks`` int64 (N,) ascending, in ``unit`` seconds; ``lost`` = how many did not.

    ``clock`` = what a tick is: ``pts``; in files without presentation times (AVI) ``dts``, or ``order``, its number.
    ``first`` = tick at which the stream says that it starts.
    """

    ticks: np.ndarray
    unit: float
    clock: str
    first: int
    lost: int
    tail_lost: bool


def _decode(box: Any, stream: Any, until: int | None = None) -> Iterator[tuple[Any, bool]]:
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


def _video_stream(box: Any) -> Any:
    stream = next(s for s in box.streams.video if not s.disposition & av.stream.Disposition.attached_pic)
    stream.thread_type = "NONE"  # threads would report damage some frames late
    return stream


def _scan(path: str, start: int | None = None, until: int | None = None) -> Scan:
    with _open(path) as box:
        stream = _video_stream(box)
        if start is not None:
            box.seek(start, stream=stream)
        clocks: dict[str, list[int | None]] = {"pts": [], "dts": [], "order": []}
        lost, whole = 0, True
        for number, (frame, whole) in enumerate(_decode(box, stream, until)):
            if whole:
                clocks["pts"].append(frame.pts)
                clocks["dts"].append(frame.dts)
                clocks["order"].append(number)
            else:
                lost += 1
        clock, ticks = next((c, t) for c, t in clocks.items() if _rises(t))
        unit = 1 / (stream.average_rate or FOLDER_FPS) if clock == "order" else stream.time_base
        first = 0 if clock == "order" else stream.start_time or 0
        return Scan(np.array(ticks, dtype=np.int64), float(unit), clock, first, lost, not whole)


def _rises(ticks: Sequence[int | None]) -> bool:
    return all(a is not None and b is not None and a < b for a, b in zip([-math.inf, *ticks], ticks))


class Index(NamedTuple):
    """What the packets of a file tell without decoding.

    ``ticks`` int64 (N,) ascending presentation times in ``unit`` seconds; empty where the file has none. ``closed``:
    decoding may start at any key frame, since none of the frames behind one in the file is shown before it.
    """

    ticks: np.ndarray
    unit: float
    closed: bool


def _index(path: str) -> Index:
    ticks: list[int | None] = []
    key: int | None = None
    with _open(path) as box:
        stream = _video_stream(box)
        closed = box.format.name not in ("mpegts", "mpeg")  # decord drops their first frames
        try:
            for packet in box.demux(stream):
                if not packet.size or packet.is_discard:
                    continue
                ticks.append(packet.pts)
                closed &= packet.pts is not None and (key is None or packet.pts >= key)
                if packet.is_keyframe:
                    key = packet.pts
        except FFmpegError:  # cut off: the rest is there
            closed = False
        known = np.unique([t for t in ticks if t is not None]).astype(np.int64)
        return Index(known if len(known) == len(ticks) else known[:0], float(stream.time_base), closed)


@lru_cache(maxsize=4096)
def _scan_whole(path: str, _size: int, _mtime: int) -> Scan:
    return _scan(path)


def _cached_scan(path: str) -> Scan:
    """The scan of a whole file, remembered for the life of the process: epochs after the first pay nothing."""
    info = os.stat(path)
    return _scan_whole(path, info.st_size, info.st_mtime_ns)


class AvVideo:
    """Frames through PyAV: the whole ones alone, with a warning when some are not."""

    def __init__(self, path: str | os.PathLike[str], index: Index | None = None) -> None:
        self.path = os.fspath(path)
        self.warnings: list[Warn] = []
        self._clock = "pts"
        index = index or _index(self.path)
        self._lazy = len(index.ticks) > CHECK_BLOCK
        if self._lazy:
            self._ticks, unit, zero = index.ticks, index.unit, int(index.ticks[0])
        else:
            scan = _cached_scan(self.path)
            if not len(scan.ticks):
                raise VideoError(path, "no frame of it can be decoded", "broken")
            self._ticks, unit, self._clock = scan.ticks, scan.unit, scan.clock
            # zero is the first frame, also where damage took it away: sound must stay with its pictures
            zero = min(scan.first, int(scan.ticks[0])) if scan.lost else int(scan.ticks[0])
        self.stamps = (self._ticks - zero) * unit
        self._whole = np.ones(len(self.stamps), dtype=bool)
        self._checked: set[int] = set()
        if not self._lazy and scan.lost:
            n, end = len(scan.ticks), self.stamps[-1]
            where, code = ("the end", "broken_tail") if scan.tail_lost else ("a part", "broken_part")
            text = f"damaged file, {where} is missing: the {n} frames that are whole, up to {end:.2f} s, were used"
            self.warnings.append(Warn(code, text))
        self._box = _open(path)
        self._stream = _video_stream(self._box)
        self.size = next(self.frames([0])).shape[1::-1]

    def check(self, first: int, last: int) -> np.ndarray:
        if self._lazy:
            for block in range(first // CHECK_BLOCK, last // CHECK_BLOCK + 1):
                if block not in self._checked:
                    self._check_block(block)
        return self._whole[first : last + 1]

    def _check_block(self, block: int) -> None:
        self._checked.add(block)
        part = slice(block * CHECK_BLOCK, (block + 1) * CHECK_BLOCK)
        ticks = self._ticks[part]
        early = self._ticks[max(0, part.start - EARLY)]
        self._whole[part] = whole = np.isin(ticks, _scan(self.path, int(early), int(ticks[-1])).ticks)
        if not whole.all():
            code = "broken_tail" if not whole[-1] and part.stop >= len(self._ticks) else "broken_part"
            at = self.stamps[part][~whole][0]
            text = f"damaged file: {(~whole).sum()} frames from {at:.2f} s on do not decode whole and were left out"
            self.warnings.append(Warn(code, text))

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        if not len(indices):
            return
        at = np.asarray(indices)
        for part in np.split(at, np.flatnonzero(np.diff(self.stamps[at]) > SEEK_S) + 1):
            yield from self._run(part)

    def _run(self, at: np.ndarray) -> Iterator[np.ndarray]:
        ticks = self._ticks[at].tolist()
        done = 0
        for from_start in (False, True):  # where a seek lands behind its target, the file is read from its start
            # some frames early: a seek goes by decoding time, and frames right behind a key frame may lean on the last
            from_start |= self._clock == "order"
            self._wind(None if from_start else int(self._ticks[max(0, int(at[done]) - EARLY)]))
            for number, (frame, whole) in enumerate(_decode(self._box, self._stream)):
                if self._clock == "order":
                    tick = number if whole else None
                else:
                    tick = None if frame is None else getattr(frame, self._clock)
                while tick is not None and tick == ticks[done]:
                    yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90 % 4))
                    done += 1
                    if done == len(ticks):
                        return
                if tick is not None and tick > ticks[done]:
                    break
        raise VideoError(self.path, f"the frame at {self.stamps[at[done]]:.2f} s cannot be decoded", "broken")

    def _wind(self, tick: int | None) -> None:
        if tick is not None:
            try:
                self._box.seek(tick, stream=self._stream)
                return
            except FFmpegError:  # a format without seeking
                pass
        self._box.close()
        self._box = _open(self.path)
        self._stream = _video_stream(self._box)

    def close(self) -> None:
        self._box.close()


class DecordVideo:
    """Frames through decord. Raises RuntimeError where PyAV should read instead."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.warnings: list[Warn] = []
        try:
            self._reader = decord.VideoReader(self.path, ctx=decord.cpu(0), num_threads=1)
            stamps = np.asarray(self._reader.get_frame_timestamp(range(len(self._reader))), dtype=np.float64)[:, 0]
            height, width, depth = self._reader[0].shape
        except (RuntimeError, decord.DECORDError, IndexError) as e:
            raise RuntimeError(f"decord: {e}") from None
        if depth != 3:  # small pictures, 48 x 48 say: decord takes the padding of rows for a fourth colour
            raise RuntimeError(f"decord: {depth} colours")
        self.size = (width, height)
        self.stamps = stamps - stamps[0]

    def agrees(self, scan: Scan) -> bool:
        """Whether PyAV sees the same frames at the same times, all of them whole."""
        if scan.lost or len(scan.ticks) != len(self.stamps):
            return False
        times = (scan.ticks - scan.ticks[0]) * scan.unit
        return len(times) < 2 or bool(np.abs(times - self.stamps).max() < 0.5 * np.diff(times).min())

    def check(self, first: int, last: int) -> np.ndarray:
        return np.ones(last - first + 1, dtype=bool)

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        for i in indices:
            try:
                yield self._reader[int(i)].asnumpy()
            except (RuntimeError, decord.DECORDError, IndexError):
                reason = f"the frame at {self.stamps[i]:.2f} s cannot be decoded"
                raise VideoError(self.path, reason, "broken") from None

    def close(self) -> None:
        del self._reader


def open_pictures(path: str | os.PathLike[str], header: Header | None = None) -> Pictures:
    """The frames of a picture, a folder of pictures or a media file.

    Raises VideoError: ``missing``, ``empty``, ``unreadable``, ``no_video`` or ``broken`` (no frame decodes).
    """
    if is_picture(path):
        return Still(path)
    if os.path.isdir(path):
        return FrameFolder(path)
    header = header or read_header(path)
    if not header.has_video:
        raise VideoError(path, "has no pictures, only sound", "no_video")
    index = _index(os.fspath(path))
    if decord is not None and index.closed and 0 < len(index.ticks) * header.frame_bytes <= DECORD_BYTES:
        try:
            video = DecordVideo(path)
        except RuntimeError:
            return AvVideo(path, index)  # what decord refuses may still be read in part
        if video.agrees(_cached_scan(os.fspath(path))):
            return video
        video.close()
    return AvVideo(path, index)


# --- sound -----------------------------------------------------------------------------------------------------------


class Sound:
    """The first sound track of a file as mono float32 at ``rate`` Hz, decoded on first use.

    ``offset``: seconds from the first picture to the first sample. ``duration``: seconds of sound, 0 until decoded.
    """

    def __init__(self, path: str | os.PathLike[str], rate: int, header: Header) -> None:
        self.path, self.rate = os.fspath(path), rate
        self.offset = header.audio_start - header.video_start if header.has_video else 0.0
        self._audio_start = header.audio_start
        self._announced = header.audio_s
        self._long = max(header.audio_s, header.total_s) > WHOLE_SOUND_S
        self._long_s = header.audio_s or header.total_s - self.offset
        self._samples: np.ndarray | None = None
        self.warnings: list[Warn] = []

    @property
    def duration(self) -> float:
        """Seconds of sound: counted where it is decoded as a whole, announced where the file is long."""
        return self._long_s if self._long else len(self._whole()) / self.rate

    def read(self, start: float, end: float) -> np.ndarray:
        """Samples from ``start`` to ``end`` seconds after the first picture; zeros where there is no sound."""
        n = round((end - start) * self.rate)
        if self._long:
            begin = max(0.0, start - self.offset)
            samples = _decode_sound(
                self.path, self.rate, begin + self._audio_start, end - self.offset + self._audio_start
            )
            first = round((start - self.offset - begin) * self.rate)
        else:
            samples, first = self._whole(), round((start - self.offset) * self.rate)
        out = np.zeros(n, dtype=np.float32)
        lo, hi = max(first, 0), min(first + n, len(samples))
        if hi > lo:
            out[lo - first : hi - first] = samples[lo:hi]
        return out

    def _whole(self) -> np.ndarray:
        if self._samples is None:
            self._samples = self._decode_whole()
            missing = self._announced - len(self._samples) / self.rate
            if missing > 0.25:
                text = f"damaged file: the last {missing:.2f} s of its sound cannot be decoded"
                self.warnings.append(Warn("broken_tail", text))
        return self._samples

    def _decode_whole(self) -> np.ndarray:
        if decord is not None:
            try:
                reader = decord.AudioReader(self.path, ctx=decord.cpu(0), sample_rate=self.rate, mono=True)
                samples = reader[:].asnumpy()[0]
                if len(samples) / self.rate > self._announced - 0.25:
                    return samples
            except (RuntimeError, decord.DECORDError, IndexError):
                pass
        return _decode_sound(self.path, self.rate)


def _decode_sound(path: str, rate: int, start: float | None = None, end: float | None = None) -> np.ndarray:
    """Mono float32 samples through PyAV, from ``start`` to ``end`` seconds of the container's clock."""
    parts: list[np.ndarray] = []
    first: float | None = None
    with _open(path) as box:
        stream = box.streams.audio[0]
        if start is not None:
            box.seek(int(max(start - 0.5, 0) / stream.time_base), stream=stream)  # decoders need a run-up
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
        try:
            for frame in box.decode(stream):
                if first is None:
                    first = float(frame.time or 0.0)
                parts += [f.to_ndarray()[0] for f in resampler.resample(frame)]
                if end is not None and frame.time is not None and frame.time > end:
                    break
        except FFmpegError:
            pass  # what was decoded before the damage is kept; Sound compares it with the announced length
        parts += [f.to_ndarray()[0] for f in resampler.resample(None)]
    samples = np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
    if start is None:
        return samples
    skip = round((start - (first or 0.0)) * rate)
    samples = samples[skip:] if skip >= 0 else np.pad(samples, (-skip, 0))
    return samples if end is None else samples[: round((end - start) * rate)]
