"""Frames of media files: PyAV, or decord behind the same functions.

``EMOZOO_DECODER=decord`` in the environment chooses decord; the default, ``pyav``, is the faster one on training clips
(``benchmarks/speed/decoders.py``). Frames that do not decode whole are left out and reported, never filled in.

decord decodes only where it can be trusted. decord 0.6 hands out, without a word, gray or stale images of damaged
files, and wrong ones after a seek where frames are hidden by an edit list or shown before the key frame that they
follow (MPEG-2, MPEG-4, x265 by default); on a busy machine it reads ahead without bound. So it is given files that are
small and closed at every key frame, after PyAV has decoded them once: PyAV's frames carry times and an error flag. PyAV
reads all other files. Both give equal frames of 8-bit 4:2:0 video, the usual kind; other kinds are rounded differently.

Times are seconds from the first presented frame; audio is shifted to the same zero. Readers are opened per use and must
not cross a fork. Every failure is a :class:`~emozoo.errors.VideoError`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from emozoo.data.clock import BACK_S, LONG_GAP_S, REORDER, Clock, Mended, close_jumps, follow_on
from emozoo.data.container import (
    Header,
    Warn,
    audio_stream,
    check_file,
    open_container,
    read_header,
)
from emozoo.data.frame_folder import FrameFolder
from emozoo.data.images import FrameSource, Still, frame_rate, is_image, open_image, read_image
from emozoo.data.scan import Kept, Scan, View, cached_scan, decode, decoded_stream, scan_of
from emozoo.data.waveform import AudioTrack
from emozoo.errors import UsageError, VideoError
from emozoo.moved import names_of

DECODERS = ("pyav", "decord")  # the first is the default
__getattr__ = names_of(__name__)
CHECK_BLOCK = 3000  # longer files are checked in blocks of this many frames, when a block is first read
DECORD_CODECS = {"h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9"}  # the older ones
DECORD_BYTES = 256 << 20  # of decoded frames: what decord may pile up at worst
SEEK_S = 5.0  # PyAV decodes through gaps up to this long and seeks over longer ones
START_S = 60.0  # decord gets files whose clock starts within this, and announces at most this beyond the frames

__all__ = [
    "AudioTrack", "AvVideo", "DecordVideo", "FrameFolder", "FrameSource", "Header", "Still", "Warn", "frame_rate",
    "is_image", "open_container", "open_frames", "open_image", "read_header", "read_image",
]  # fmt: skip


def decoder() -> str:
    """The decoder that ``EMOZOO_DECODER`` names, one of :data:`DECODERS`. Raises UsageError for another name."""
    name = os.environ.get("EMOZOO_DECODER") or DECODERS[0]
    if name not in DECODERS:
        raise UsageError(f"EMOZOO_DECODER must be one of {', '.join(DECODERS)}; got {name!r}")
    return name


@cache
def _decord() -> Any:
    """decord, imported on first use. Raises UsageError where it is not installed."""
    import torch  # noqa: F401  (before decord: the other order crashes beside CUDA, decord #293)

    os.environ.setdefault("PATH", os.defpath)  # decord asks for it when it is imported, and some services have none
    try:
        import decord
    except ImportError:  # no wheels for macOS on ARM and Linux on aarch64
        raise UsageError(
            "EMOZOO_DECODER=decord, but decord is not installed here: unset EMOZOO_DECODER, or pip install decord"
        ) from None
    decord.logging.set_level(decord.logging.QUIET)
    return decord


class Index(NamedTuple):
    """What the packets of a file tell without decoding.

    ``ticks`` int64 (N,) ascending presentation times in ``unit`` seconds; empty where the file has none, or not one for
    each frame. ``closed``: decoding may start at any key frame, since none of the frames behind one in the file is
    shown before it. ``mended``: the times with jumps of the clock closed. ``simple``: what decord may be given, one
    stream with one plain clock; other files make it allocate without bound, which ends the process.
    """

    ticks: np.ndarray
    unit: float
    closed: bool
    mended: Mended
    simple: bool


def _index(path: str) -> Index:
    ticks: list[int | None] = []
    key: int | None = None
    with open_container(path) as box:
        stream = decoded_stream(box)
        unit = float(stream.time_base)
        closed = box.format.name not in ("mpegts", "mpeg")  # decord drops their first frames
        simple = len(box.streams.video) == 1 and getattr(stream.codec_context, "name", "") in DECORD_CODECS
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
        announced = (box.duration or 0) / av.time_base
    stored = np.array([t for t in ticks if t is not None], dtype=np.int64)
    known = np.unique(stored)
    if len(known) > 1:
        early = np.maximum.accumulate(stored) - stored
        runs_back = (early > max(REORDER * float(np.median(np.diff(known))), BACK_S / unit)).any()
        known = known[:0] if runs_back or len(known) < len(ticks) else known
    else:
        known = known if len(known) == len(ticks) else known[:0]
    times = (known - known[0] if len(known) else known) * unit
    mended = close_jumps(times, lambda a, b: _heard(path, a + known[0] * unit, b + known[0] * unit))
    span = float(times[-1]) if len(times) else 0.0
    simple &= len(known) > 1 and not mended.jumps and abs(known[0] * unit) < START_S and announced < 2 * span + START_S
    simple &= bool((np.diff(times) <= LONG_GAP_S).all())  # decord allocates for the frames that could lie in a gap
    return Index(known, unit, closed, mended, bool(simple))


def _heard(path: str, begin: float, end: float) -> bool:
    """Whether audio goes on for at least half of that time, in stored seconds."""
    total = 0.0
    with open_container(path) as box:
        stream = audio_stream(box, path)
        if stream is None:
            return False
        try:
            for packet in box.demux(stream):
                if packet.pts is not None and packet.duration and begin < float(packet.pts * packet.time_base) < end:
                    total += float(packet.duration * packet.time_base)
        except FFmpegError:
            pass
    return total > (end - begin) / 2


class AvVideo:
    """Frames by PyAV: only those that decode whole, with a warning where some do not."""

    def __init__(self, path: str | os.PathLike[str], index: Index | None = None) -> None:
        self.path = os.fspath(path)
        self.warnings: list[Warn] = []
        self._clock = "pts"
        self._kept: dict[int, Any] = {}
        index = index or _index(self.path)
        self._lazy = len(index.ticks) > CHECK_BLOCK
        if self._lazy:
            self._ticks, unit, zero = index.ticks, index.unit, int(index.ticks[0])
            mended = index.mended
        else:
            kept = Kept()
            scan = cached_scan(self.path, kept)
            if scan.clock == "pts":
                self._kept = kept.end()
            if not len(scan.ticks):
                raise VideoError(path, "no frame of it can be decoded", "broken")
            self._ticks, unit, self._clock = scan.ticks, scan.unit, scan.clock
            if scan.lost and scan.clock == "pts" and np.isin(scan.ticks, index.ticks).all():
                # lost frames keep their numbers, by which labels of frames go
                self._ticks = index.ticks[index.ticks <= scan.ticks[-1]]
            # zero is the first frame, also where damage took it away: audio must stay with its images
            zero = min(scan.first, int(self._ticks[0])) if scan.lost else int(self._ticks[0])
            if scan.clock == "order":
                mended, zero = follow_on(scan.times, 1 / unit), 0
            else:
                if (self._ticks[0] - zero) * unit > LONG_GAP_S:
                    zero = int(self._ticks[0])
                begin = zero * unit
                mended = close_jumps((self._ticks - zero) * unit, lambda a, b: _heard(self.path, a + begin, b + begin))
        self.stamps = mended.stamps
        self.warnings += mended.warnings()
        stored = 0.0 if self._clock == "order" else zero * unit
        jumps = tuple(j._replace(before=j.before + stored, after=j.after + stored) for j in mended.jumps)
        self.clock = Clock(stored, float(self.stamps[-1]), () if self._clock == "order" else jumps)
        self._whole = np.ones(len(self.stamps), dtype=bool) if self._lazy else np.isin(self._ticks, scan.ticks)
        self._checked: set[int] = set()
        if not self._lazy and scan.lost:
            n, end = len(scan.ticks), self.stamps[-1]
            where, code = ("the end", "broken_tail") if scan.tail_lost else ("a part", "broken_part")
            text = f"damaged file, {where} is missing: the {n} frames that are whole, up to {end:.2f} s, were used"
            self.warnings.append(Warn(code, text))
        self._box = open_container(path)
        self._stream = decoded_stream(self._box)
        # one for all frames, on one thread: making one for each frame, or threads, costs more than the conversion
        self._reformatter = VideoReformatter()
        self._view: View | None = None if self._lazy else scan.view
        self.size = self._view.size if self._view else next(self.frames([0])).shape[1::-1]

    def round_times(self) -> None:
        """Rounds times to float32, as decord gives them: the frames and crops of both decoders are then equal."""
        self.stamps = self.stamps.astype(np.float32).astype(np.float64)
        self.clock = self.clock._replace(length=float(self.stamps[-1]))

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
        early = self._ticks[max(0, part.start - REORDER)]
        self._whole[part] = whole = np.isin(ticks, scan_of(self.path, int(early), int(ticks[-1])).ticks)
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
            ticks = self._ticks[part].tolist()
            if self._view is not None and self._kept and all(tick in self._kept for tick in ticks):
                yield from (self._rgb(self._kept[tick]) for tick in ticks)
                for tick in set(ticks):
                    del self._kept[tick]
            else:
                yield from self._run(part)

    def _rgb(self, frame: Any) -> np.ndarray:
        assert self._view is not None
        return self._view.show(self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray())

    def _run(self, at: np.ndarray) -> Iterator[np.ndarray]:
        ticks = self._ticks[at].tolist()
        done = 0
        for from_start in (False, True):  # where a seek lands behind its target, the file is read from its start
            # some frames early: a seek goes by decoding time, and frames behind a key frame may refer to earlier ones
            from_start |= self._clock == "order"
            self._wind(None if from_start else int(self._ticks[max(0, int(at[done]) - REORDER)]))
            for number, (frame, whole) in enumerate(decode(self._box, self._stream)):
                if self._clock == "order":
                    tick = number if whole else None
                else:
                    tick = None if frame is None else getattr(frame, self._clock)
                while tick is not None and tick == ticks[done]:
                    if self._view is None:
                        self._view = View.of(self._stream, frame)
                    yield self._rgb(frame)
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
        self._box = open_container(self.path)
        self._stream = decoded_stream(self._box)

    def close(self) -> None:
        self._kept = {}
        self._box.close()


class DecordVideo:
    """A FrameSource by decord. Raises RuntimeError for a file that decord cannot read, so that PyAV has to."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.warnings: list[Warn] = []
        decord = _decord()
        try:
            self._reader = decord.VideoReader(self.path, ctx=decord.cpu(0), num_threads=1)
            stamps = np.asarray(self._reader.get_frame_timestamp(range(len(self._reader))), dtype=np.float64)[:, 0]
            height, width, depth = self._reader[0].shape
        except (RuntimeError, decord.DECORDError, IndexError, ValueError) as e:  # ValueError: a name not in UTF-8
            raise RuntimeError(f"decord: {e}") from None
        if depth != 3:  # small images, 48 x 48 say: decord takes the padding of rows for a fourth colour
            raise RuntimeError(f"decord: {depth} colours")
        self.size = (width, height)
        self.stamps = stamps - stamps[0]
        self.clock = Clock(float(stamps[0]), float(self.stamps[-1]))

    def agrees(self, scan: Scan) -> bool:
        """Whether PyAV sees the same frames at the same times."""
        if len(scan.ticks) != len(self.stamps):
            return False
        times = (scan.ticks - scan.ticks[0]) * scan.unit
        return len(times) < 2 or bool(np.abs(times - self.stamps).max() < 0.5 * np.diff(times).min())

    def check(self, first: int, last: int) -> np.ndarray:
        return np.ones(last - first + 1, dtype=bool)

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        for i in indices:
            try:
                yield self._reader[int(i)].asnumpy()
            except (RuntimeError, _decord().DECORDError, IndexError):
                reason = f"the frame at {self.stamps[i]:.2f} s cannot be decoded"
                raise VideoError(self.path, reason, "broken") from None

    def close(self) -> None:
        del self._reader


def open_frames(path: str | os.PathLike[str], header: Header | None = None) -> FrameSource:
    """The frames of an image file, a folder of them or a media file.

    Raises VideoError: ``missing``, ``empty``, ``unreadable``, ``no_video`` or ``broken`` (no frame decodes).
    Raises UsageError: the decoder that ``EMOZOO_DECODER`` names does not exist or is not installed.
    """
    check_file(path)
    if os.path.isdir(path):
        return FrameFolder(path)
    if is_image(path):
        return open_image(path)
    header = header or read_header(path)
    if not header.has_video:
        what = "has no video, only audio" if header.has_audio else "has neither video nor audio"
        raise VideoError(path, what, "no_video")
    if header.video_fault:
        raise VideoError(path, header.video_fault)
    chosen, index = decoder(), _index(os.fspath(path))
    video = AvVideo(path, index)
    if not (index.simple and index.closed and 0 < len(index.ticks) * header.frame_bytes <= DECORD_BYTES):
        return video
    scan = cached_scan(os.fspath(path))
    if scan.lost or not scan.view.plain or scan.clock == "order":
        return video
    video.round_times()
    if chosen == "decord":
        try:
            other = DecordVideo(path)
        except RuntimeError:
            return video
        if other.agrees(scan):
            video.close()
            return other
        other.close()
    return video
