"""Media containers: opening one, and what its header announces. Every failure is a VideoError."""

from __future__ import annotations

import os
import re
import stat
from functools import lru_cache
from typing import Any, NamedTuple

import av
import av.logging
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition

from emozoo.errors import VideoError

LOUDNESS_S = 20.0  # seconds of each audio track whose loudness is compared where no track is marked as default
MOST_TRACKS = 16  # audio tracks that are compared: the first ones
LOUDER = 2.0  # a later track is read instead of an earlier one if it is this many times as loud
MOST_S = 7 * 86400.0  # of one file; two frames whose times lie years apart would make a timeline of years
# Formats whose media lie, at least in part, in other files or at addresses: a file of a stranger opens no other.
NAMES_FILES = {
    "concat", "dash", "hls", "imf", "mlv", "rtsp", "sap", "sdp", "smoothstreaming", "vobsub", "webm_dash_manifest",
}  # fmt: skip
OPTIONS = {
    "format_whitelist": ",".join(sorted(av.formats_available - NAMES_FILES)),
    "pattern_type": "none",  # an image that is called a%d.tga is no series of images
}
NOT_SHOWN = Disposition.attached_pic | Disposition.timed_thumbnails  # covers and previews
NOT_HEARD = Disposition.visual_impaired | Disposition.hearing_impaired | Disposition.comment  # beside the real audio


class Warn(NamedTuple):
    """Something a reader of the result should know. ``code`` for machines, ``text`` for people."""

    code: str
    text: str


class Header(NamedTuple):
    """What a media file announces, in seconds: stream starts, audio length and total length (0 = not announced).

    ``frame_bytes`` = size of one decoded frame, ``fps`` = frames a second on average (0 = not announced).
    ``audio_index`` = which stream of the container is read as audio, -1 = none; ``warnings`` = those of this choice.
    ``video_fault``, ``audio_fault`` = why the stream cannot be decoded; empty where it can.
    """

    has_video: bool
    has_audio: bool
    video_start: float
    audio_start: float
    audio_s: float
    total_s: float
    frame_bytes: int
    fps: float
    audio_index: int = -1
    video_fault: str = ""
    audio_fault: str = ""
    warnings: tuple[Warn, ...] = ()


def check_file(path: str | os.PathLike[str]) -> None:
    """Raises VideoError for what is neither a file nor a folder: reading a pipe or a device may never end."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise VideoError(path, "no such file", "missing") from None
    except (OSError, ValueError) as e:  # ValueError: a zero byte in the name
        raise VideoError(path, f"cannot be opened ({getattr(e, 'strerror', None) or e})") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        what = kinds.get(stat.S_IFMT(mode), "a device")
        raise VideoError(path, f"is {what}, not a file: save what comes out of it as a file first")


def open_container(path: str | os.PathLike[str]) -> Any:
    """PyAV's container of a media file, to be closed. Raises VideoError: ``missing``, ``empty`` or ``unreadable``."""
    check_file(path)
    if os.path.getsize(path) == 0:
        raise VideoError(path, "the file is empty (0 bytes)", "empty")
    try:
        # the protocol is named: a colon in a file's name must not be taken for one
        return av.open("file:" + os.path.abspath(path), options=OPTIONS)
    except (FFmpegError, OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or e
        raise VideoError(path, f"not a media file that can be opened ({reason})") from None


def check_length(path: str | os.PathLike[str], seconds: float) -> None:
    """Raises VideoError for media that last longer than ``MOST_S`` by their time stamps."""
    if seconds > MOST_S:
        days, most = seconds / 86400, MOST_S / 86400
        mend = "cut it into parts or, if they are wrong, write its time stamps anew"
        raise VideoError(path, f"lasts {days:.3g} days by its time stamps: more than {most:g} are not read; {mend}")


def video_stream(box: Any) -> Any:
    """The stream that a player shows: the one marked as default, else the first; None without one."""
    streams = [s for s in box.streams.video if not s.disposition & NOT_SHOWN]
    return max(streams, key=lambda s: (bool(s.disposition & Disposition.default), -s.index), default=None)


def audio_stream(box: Any, path: str | os.PathLike[str]) -> Any:
    """The audio stream that is read: the one marked as default, else the first that is not far softer than another."""
    streams = list(box.streams.audio)
    for better in (
        [s for s in streams if s.codec_context is not None],
        [s for s in streams if not s.disposition & NOT_HEARD],
        [s for s in streams if s.disposition & Disposition.default],
    ):
        streams = [s for s in streams if s in better] or streams
    streams = streams[:MOST_TRACKS]
    if len(streams) < 2:
        return streams[0] if streams else None
    info = os.stat(path)
    levels = _levels(os.fspath(path), info.st_size, info.st_mtime_ns, tuple(s.index for s in streams))
    heard = streams[0], levels[0]
    for stream, level in zip(streams[1:], levels[1:]):
        if level > LOUDER * heard[1]:
            heard = stream, level
    return heard[0]


@lru_cache(maxsize=1024)
def _levels(path: str, _size: int, _mtime: int, indices: tuple[int, ...]) -> list[float]:
    """Root mean square of the first seconds of each stream; 0 for one that does not decode."""
    out = []
    for index in indices:
        power, count = 0.0, 0
        with open_container(path) as box:
            rate = box.streams[index].rate or 48000
            resampler = av.AudioResampler(format="flt", layout="mono")
            try:
                for frame in box.decode(box.streams[index]):
                    for f in resampler.resample(frame):
                        power += float(np.square(f.to_ndarray(), dtype=np.float64).sum())
                        count += f.samples
                    if count > LOUDNESS_S * rate:
                        break
            except (FFmpegError, ValueError):
                pass
        out.append((power / count) ** 0.5 if count else 0.0)
    return out


def _fault(box: Any, stream: Any, kind: str) -> str:
    """Why a stream cannot be decoded, by its header alone; empty where the header shows no reason."""
    if stream is None or stream.codec_context is not None:
        return ""
    line = re.search(rf"Stream #0:{stream.index}\b.*?: (?:Video|Audio): (\w+)(?:[^,\n]*?\((\S+) / 0x)?", _dump(box))
    codec, tag = line.groups() if line else (None, None)
    name = next((n for n in (codec, tag) if n and n not in ("none", "unknown")), "unknown")
    if tag in ("encv", "enca", "drmi", "drms") or name in ("encv", "enca"):
        return f"its {kind} is encrypted ({name}): only a player with the key can show it"
    return f"no decoder for the {kind} codec {name}"


def _dump(box: Any) -> str:
    """FFmpeg's own description of the streams: nothing else names a codec that it cannot decode."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)  # it is written to the log, which is kept silent
    try:
        return str(box.dumps_format())
    except UnicodeError:
        return ""
    finally:
        av.logging.set_level(level)


def read_header(path: str | os.PathLike[str]) -> Header:
    """Which streams the file has and when they start. Raises VideoError."""
    with open_container(path) as box:
        video, audio = video_stream(box), audio_stream(box, path)

        def seconds(stream: Any, ticks: int | None) -> float:
            return float(ticks * stream.time_base) if stream is not None and ticks is not None else 0.0

        warnings = []
        if audio is not None and audio is not box.streams.audio[0]:
            n, number = len(box.streams.audio), list(box.streams.audio).index(audio) + 1
            warnings.append(Warn("other_track", f"{n} audio tracks; number {number}, the main or loudest, was heard"))
        fault = _fault(box, video, "video")
        if video is not None and not fault and not video.width * video.height:
            fault = "its video stream has no image size: nothing of it can be decoded"
        return Header(
            video is not None,
            audio is not None,
            seconds(video, video.start_time) if video else 0.0,
            seconds(audio, audio.start_time) if audio else 0.0,
            seconds(audio, audio.duration) if audio else 0.0,
            box.duration / av.time_base if box.duration else 0.0,
            video.width * video.height * 3 if video and not fault else 0,
            float(video.average_rate or 0) if video else 0.0,
            audio.index if audio else -1,
            fault,
            _fault(box, audio, "audio"),
            tuple(warnings),
        )
