"""The audio of a media file as mono samples, through PyAV. Every failure to open is a VideoError.

Samples follow one another as they are counted, and their time stamps decide where the counts disagree by more than the
rounding of a container: a hole is silence as long as it is, a jump of the clock is closed.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple

import av
import numpy as np
from av.error import FFmpegError

from emozoo.data.clock import BACK_S, LONG_GAP_S, Clock
from emozoo.data.container import Header, Warn, open_container
from emozoo.errors import VideoError

WHOLE_AUDIO_S = 600.0  # longer audio is decoded window by window: memory stays flat
SLACK_S = 0.1  # seconds by which time stamps may differ from counted samples: containers round, clocks drift
RUN_UP_S = 0.5  # decoders need to start so much earlier


class Part(NamedTuple):
    """Audio that goes on without a break from ``stored`` seconds of the container, ``shown`` after the first frame."""

    stored: float
    shown: float


class Placed:
    """Where pieces of audio, given one after the other in the order of the file, belong on the clock of the frames.

    Args:
        shown: stored seconds to seconds after the first frame.
        start: seconds after the first frame at which the audio begins; None: at the time stamp of its first piece.
        length: seconds of video. A hole that ends before it does stays a hole, however long.

    Attributes:
        end: where the audio given so far ends, in seconds after the first frame.
        parts: where each stretch without a break begins; ``holes``: start and end of each silence in between.
        warnings: jumps of its clock that were closed.
    """

    def __init__(self, shown: Callable[[float], float], start: float | None, length: float) -> None:
        self.end = start or 0.0
        self.parts: list[Part] = []
        self.holes: list[tuple[float, float]] = []
        self.warnings: list[Warn] = []
        self._shown, self._start, self._length = shown, start, length
        self._closed = 0.0
        self._silent = 0.0

    def place(self, stored: float | None, length: float) -> tuple[float, bool]:
        """Seconds after the first frame at which a piece of audio belongs, and whether it follows the last one."""
        begin, first = self.end, not self.parts
        if stored is not None:
            if first and self._start is None:
                begin = self.end = self._start = self._shown(stored)
            ahead = self._shown(stored) - self._closed - self.end
            broken = abs(ahead) > SLACK_S
            if broken and ahead > 0 and self._is_hole(ahead):
                self.holes.append((self.end, self.end + ahead))
                self._silent += ahead
                begin += ahead
            elif broken:
                self._closed += ahead
                if ahead > 0 or ahead < -BACK_S:
                    way = "ahead" if ahead > 0 else "back"
                    text = f"the clock of the audio jumps {way} by {abs(ahead):.6g} s at {self.end:.2f} s"
                    self.warnings.append(Warn("time_jump", f"{text}; the audio follows on"))
            if first or broken:
                self.parts.append(Part(stored, begin))
        joined = not first and begin == self.end
        self.end = begin + length
        return begin, joined

    def _is_hole(self, length: float) -> bool:
        """Whether so long a gap is silence, no jump: the video goes on through it, or it is short beside the audio."""
        heard = self.end - (self._start or 0.0)
        enough = length <= LONG_GAP_S and self._silent + length <= WHOLE_AUDIO_S + heard
        return enough or self.end + length <= self._length


class AudioTrack:
    """The audio track of a file as mono float32 at ``rate`` Hz, decoded on first use.

    ``offset``: seconds from the first frame to the first sample. ``duration``: seconds of audio, 0 until decoded.
    ``clock``: that of the video, where it is known. Raises VideoError (``no_audio``) for audio without a decoder.
    """

    def __init__(self, path: str | os.PathLike[str], rate: int, header: Header, clock: Clock | None = None) -> None:
        if header.audio_fault:
            raise VideoError(path, header.audio_fault, "no_audio")
        self.path, self.rate = os.fspath(path), rate
        self.warnings: list[Warn] = list(header.warnings)
        self._index = header.audio_index
        zero = header.video_start if header.has_video else header.audio_start
        self._clock = Clock(zero, clock.length, clock.jumps) if clock else Clock(zero, 0.0)
        start = self._clock.shown(header.audio_start)
        self._start = start
        if clock and (start > LONG_GAP_S + clock.length or (start < -LONG_GAP_S and self._placed_packets().end < 0)):
            text = f"the clock of the audio starts {start:.6g} s from that of the video; both now start together"
            self.warnings.append(Warn("time_jump", text))
            self._clock, self._start = Clock(header.audio_start, clock.length), 0.0
        self.offset = self._start
        self._announced = header.audio_s
        # the clock, too: a file may announce no length, and hold a piece of audio hours after the first
        self._may_be_long = max(header.audio_s, header.total_s, self._clock.length) > WHOLE_AUDIO_S
        self._samples: np.ndarray | None = None
        self._holes: list[tuple[float, float]] = []

    @property
    def duration(self) -> float:
        """Seconds from the first sample to the last."""
        table = self._table
        return table.end - self._start if table else len(self._whole()) / self.rate

    @property
    def holes(self) -> list[tuple[float, float]]:
        """Start and end of each stretch without audio inside the track, in seconds after the first frame."""
        holes = self._table.holes if self._table else self._whole_holes()
        shift = self.offset - self._start
        return [(a + shift, b + shift) for a, b in holes]

    def _whole_holes(self) -> list[tuple[float, float]]:
        self._whole()
        return self._holes

    def read(self, start: float, end: float) -> np.ndarray:
        """Samples from ``start`` to ``end`` seconds after the first frame; zeros where there is no audio."""
        out = np.zeros(round((end - start) * self.rate), dtype=np.float32)
        if self._table:
            self._decode_window(out, start - self.offset + self._start, self._table)
        else:
            _lay(out, self._whole(), round((self.offset - start) * self.rate))
        return out

    def frames(self) -> Iterator[tuple[float, bool, Any]]:
        """The decoded audio as PyAV's frames: seconds after the first frame, whether it follows the last, frame."""
        placed = Placed(self._clock.shown, self._start, self._clock.length)
        yield from _frames(self.path, self._index, placed)

    @cached_property
    def _table(self) -> Placed | None:
        """Where the packets of long audio belong; None for audio that is decoded as a whole."""
        if not self._may_be_long:
            return None
        table = self._placed_packets()
        stored = [p.stored for p in table.parts]
        # a clock that was set back cannot be sought in; and what turns out to be short needs no seeking
        if stored != sorted(stored) or table.end - self._start <= WHOLE_AUDIO_S:
            return None
        self.warnings += table.warnings
        return table

    def _placed_packets(self) -> Placed:
        """Where the packets of the track belong, without decoding any."""
        table = Placed(self._clock.shown, self._start, self._clock.length)
        with open_container(self.path) as box, suppress(FFmpegError):  # cut off: the rest is there
            stream = box.streams[self._index]
            usual = (stream.codec_context.frame_size or 0) / (stream.rate or 1)
            for packet in box.demux(stream):
                if packet.size:
                    time = None if packet.pts is None else float(packet.pts * packet.time_base)
                    table.place(time, float(packet.duration * packet.time_base) if packet.duration else usual)
        return table

    def _whole(self) -> np.ndarray:
        if self._samples is None:
            placed = Placed(self._clock.shown, self._start, self._clock.length)
            parts: list[np.ndarray] = []
            count = 0
            for begin, samples in _decoded(self.path, self._index, self.rate, placed):
                if begin is not None and (gap := round((begin - self._start) * self.rate) - count) > 0:
                    parts.append(np.zeros(gap, dtype=np.float32))
                    count += gap
                parts.append(samples)
                count += len(samples)
            self._samples = np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
            self._holes = placed.holes
            self.warnings += placed.warnings
            closed = sum(j.closed for j in self._clock.jumps)  # the announced length includes the jumps
            lost = self._announced - max(0.0, closed) - count / self.rate
            if lost > 0.25 and not placed.warnings:
                text = f"damaged file: the last {lost:.2f} s of its audio cannot be decoded"
                self.warnings.append(Warn("broken_tail", text))
        return self._samples

    def _decode_window(self, out: np.ndarray, start: float, table: Placed) -> None:
        """Fills ``out`` with the audio from ``start`` on, decoded from shortly before."""
        end = start + len(out) / self.rate
        shown = [p.shown for p in table.parts]
        stored = [p.stored for p in table.parts]

        def on_show(time: float) -> float:
            part = table.parts[max(bisect_right(stored, time + SLACK_S) - 1, 0)]
            return part.shown + time - part.stored

        part = table.parts[max(bisect_right(shown, start) - 1, 0)]
        seek = part.stored + max(0.0, start - part.shown - RUN_UP_S)
        placed = Placed(on_show, None, math.inf)
        at = 0
        for begin, samples in _decoded(self.path, self._index, self.rate, placed, seek, end):
            if begin is not None:
                at = round((begin - start) * self.rate)
            _lay(out, samples, at)
            at += len(samples)


def _lay(out: np.ndarray, samples: np.ndarray, at: int) -> None:
    """Writes the samples into ``out`` from index ``at`` on, as far as they reach into it."""
    lo, hi = max(at, 0), min(at + len(samples), len(out))
    if hi > lo:
        out[lo:hi] = samples[lo - at : hi - at]


def _frames(path: str, index: int, placed: Placed, seek: float | None = None) -> Iterator[tuple[float, bool, Any]]:
    """Frames that decode, from ``seek`` stored seconds on, up to the first damage."""
    with open_container(path) as box:
        stream = box.streams[index]
        if seek is not None:
            box.seek(int(seek / stream.time_base), stream=stream)
        with suppress(FFmpegError):  # what was decoded before the damage is used
            for frame in box.decode(stream):
                yield *placed.place(frame.time, frame.samples / frame.sample_rate), frame


def _decoded(
    path: str, index: int, rate: int, placed: Placed, seek: float | None = None, until: float = math.inf
) -> Iterator[tuple[float | None, np.ndarray]]:
    """Mono float32 samples, and where they begin, in seconds after the first frame; None where they follow the last."""
    resampler: Any = None
    kind: Any = None
    for begin, joined, frame in _frames(path, index, placed, seek):
        if begin > until:
            break
        last, kind = kind, (frame.format.name, frame.layout.name, frame.sample_rate)
        if not joined or kind != last:  # a resampler takes only the kind of audio that it began with
            if resampler is not None:
                yield from ((None, f.to_ndarray()[0]) for f in resampler.resample(None))
            resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
            yield begin, np.zeros(0, dtype=np.float32)
        yield from ((None, f.to_ndarray()[0]) for f in resampler.resample(frame))
    if resampler is not None:
        yield from ((None, f.to_ndarray()[0]) for f in resampler.resample(None))
