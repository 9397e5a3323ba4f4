"""Small video and audio files that tests write: frames and waves as they are given, in ordinary codecs."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 16000


def write_video(path: Path, frames: Iterable[np.ndarray], fps: int = 10, audio: np.ndarray | None = None) -> Path:
    """RGB frames (H, W, 3) as H.264, and mono audio at 16 kHz in [-1, 1] as AAC."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=fps, options={"crf": "20", "preset": "ultrafast"})
        video.pix_fmt = "yuv420p"
        track = out.add_stream("aac", rate=RATE, layout="mono") if audio is not None else None
        for i, frame in enumerate(frames):
            if not i:
                video.height, video.width = frame.shape[:2]
            out.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(video.encode())
        if track is not None:
            _write(out, track, audio, "fltp")
    return path


def write_audio(path: Path, wave: np.ndarray) -> Path:
    """Mono audio at 16 kHz in [-1, 1]: 16 bit PCM in a ``.wav``, else AAC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec, form = ("pcm_s16le", "s16") if path.suffix == ".wav" else ("aac", "fltp")
    with av.open(str(path), "w") as out:
        _write(out, out.add_stream(codec, rate=RATE, layout="mono"), wave, form)
    return path


def _write(out: av.container.OutputContainer, track: av.AudioStream, wave: np.ndarray, form: str) -> None:
    values = (wave * 32767).astype(np.int16) if form == "s16" else wave.astype(np.float32)
    samples = av.AudioFrame.from_ndarray(values[None], format=form, layout="mono")
    samples.rate, samples.pts, samples.time_base = RATE, 0, Fraction(1, RATE)
    out.mux(track.encode(samples))
    out.mux(track.encode())
