"""Media containers: opening one, and what its header announces. Every failure is a VideoError."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import av
from av.error import FFmpegError

from emozoo.errors import VideoError


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


def open_container(path: str | os.PathLike[str]) -> Any:
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
    with open_container(path) as box:
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
