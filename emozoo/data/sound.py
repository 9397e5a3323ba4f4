"""The audio track of a media file as mono samples. Every failure to open is a VideoError."""

from __future__ import annotations

import os

import av
import numpy as np
import torch  # noqa: F401  (before decord: the other order crashes beside CUDA, decord #293)
from av.error import FFmpegError

from emozoo.data.container import Header, Warn, open_container

os.environ.setdefault("PATH", os.defpath)  # decord asks for it when it is imported, and some services have none
try:
    import decord
except ImportError:  # no wheels for macOS on ARM and Linux on aarch64
    decord = None

WHOLE_SOUND_S = 600.0  # longer sound is decoded window by window: memory stays flat


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
            except (RuntimeError, decord.DECORDError, IndexError, ValueError):  # ValueError: a name not in UTF-8
                pass
        return _decode_sound(self.path, self.rate)


def _decode_sound(path: str, rate: int, start: float | None = None, end: float | None = None) -> np.ndarray:
    """Mono float32 samples through PyAV, from ``start`` to ``end`` seconds of the container's clock."""
    parts: list[np.ndarray] = []
    first: float | None = None
    with open_container(path) as box:
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
