"""Drawn clips: from a cause to images and audio, and to files with a manifest."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from emozoo import files
from emozoo.data.protocols import SYNTHEMO_VERSION as VERSION
from emozoo.synthemo.cause import VIEWS, Cause, Course, Knobs, course, plan
from emozoo.synthemo.drawing.body import body, hand
from emozoo.synthemo.drawing.draw import Array, Canvas, disc, overlay
from emozoo.synthemo.drawing.head import Head
from emozoo.synthemo.drawing.person import AU_INDEX, Person, person
from emozoo.synthemo.drawing.scene import Scene
from emozoo.synthemo.drawing.skull import LEFT, TOP
from emozoo.synthemo.voice import RATE, STEP, in_16_bits, speak
from emozoo.synthemo.writer import Progress, write_clips

STAMP = "synthemo.json"
COLUMNS = (
    "path", "label", "valence", "arousal", "split", "fold", "group", "start", "end", "x1", "y1", "x2", "y2",
    *(f"{v}_shows" for v in VIEWS), "conflicts", "burst_start", "burst_end", "peak", "place",
    "spot_x1", "spot_y1", "spot_x2", "spot_y2", "occluded", "talking", "face_x1", "face_y1", "face_x2", "face_y2",
    "seed", "index", "version",
)  # fmt: skip


@dataclass(frozen=True)
class Rendered:
    """A clip in memory: ``frames`` (F, h, w, 3) RGB uint8; ``waveform`` (n,) float32 in -1..1 at ``rate`` Hz, mono;
    ``va`` (F, 2) valence and arousal in [-1, 1]; ``boxes`` (F, 4) the face in pixels."""

    frames: Canvas
    waveform: Array
    rate: int
    va: Array
    boxes: Array
    cause: Cause


def render(cause: Cause) -> Rendered:
    """Draws and speaks one clip, without writing anything. The same cause gives the same bytes on any processor."""
    run = course(cause)
    who = person(cause.person)
    waveform, opening = speak(who.pitch, cause.shows[2], run.strength, cause.seconds, cause.rng(3))
    units = run.units.copy()
    if cause.talking:
        mouth = np.interp(run.times, np.arange(len(opening)) * STEP / RATE, opening)
        units[:, AU_INDEX[25]] = np.maximum(units[:, AU_INDEX[25]], 0.8 * mouth)
        units[:, AU_INDEX[26]] = np.clip(units[:, AU_INDEX[26]] * (0.75 + 0.25 * mouth) + 0.30 * mouth, 0, 1.1)
        units[:, AU_INDEX[24]] *= 1 - 0.8 * mouth
    frames = np.stack(list(_images(cause, run, who, units)))
    return Rendered(frames, waveform, RATE, run.va, run.boxes(cause), cause)


def _images(cause: Cause, run: Course, who: Person, units: Array) -> Iterator[Canvas]:
    w, h = cause.size
    r = cause.rng(2)
    scene = Scene(
        cause.size, cause.backdrop, cause.shows[1], cause.spots, r, one_spot=cause.knobs.spot, walkers=cause.walkers
    )
    scale = 2.0 * cause.half  # the head is drawn at twice its final size
    head = Head(who, scale, cause.yaw, cause.pitch, cause.light, cause.occluded)
    torso = body(who, cause.size, cause.half, cause.centre, cause.light)
    screen = _screen(cause) if cause.knobs.has_screen else None
    noise = cause.rng(4)
    grain = (noise.standard_normal((h + 31, w + 37, 3), np.float32) * cause.knobs.noise).round().astype(np.int16)
    flicker = noise.uniform(0, 2 * np.pi, 2)
    for i, t in enumerate(run.times):
        img = scene.frame(float(t))
        if screen is not None:
            overlay(img, screen)
        x, y, grow, roll = run.pose[i]
        cx, cy = cause.centre[0] + x * cause.half, cause.centre[1] + y * cause.half
        # The body follows the head's shift, not its roll.
        shift = np.array([[grow, 0, cx - grow * cause.centre[0]], [0, grow, cy - grow * cause.centre[1]]])
        overlay(img, cv2.warpAffine(torso, shift, cause.size, borderMode=cv2.BORDER_REPLICATE))
        layer = head.draw(units[i], (float(run.gaze[i, 0]), float(run.gaze[i, 1])))
        k = 0.5 * grow
        c, s = k * math.cos(roll), k * math.sin(roll)
        ox, oy = -LEFT * scale, (0.9 - TOP) * scale  # it turns about the top of the neck
        px, py = cx, cy + 0.9 * cause.half * grow
        turn = np.array([[c, -s, px - c * ox + s * oy], [s, c, py - s * ox - c * oy]])
        overlay(img, cv2.warpAffine(layer, turn, cause.size))
        for side in (0, 2):
            hx, hy = run.hands[i, side], run.hands[i, side + 1]
            if cause.centre[1] + hy * cause.half < h + 0.5 * cause.half:
                at = (cause.centre[0] + hx * cause.half, cause.centre[1] + hy * cause.half)
                hand(img, who, at, cause.half, side - 1, openness=float(run.hands[i, 4]))
        dy, dx = int(noise.integers(31)), int(noise.integers(37))
        light = 1 + cause.knobs.flicker * (math.sin(9.1 * t + flicker[0]) + 0.6 * math.sin(23.0 * t + flicker[1]))
        yield cv2.add(cv2.convertScaleAbs(img, alpha=light), grain[dy : dy + h, dx : dx + w], dtype=cv2.CV_8U)


def _screen(cause: Cause) -> Canvas:
    """A plain round screen behind the head, a little larger than any crop of the face."""
    w, h = cause.size
    img = np.zeros((h, w, 4), np.uint8)
    disc(img, cause.centre[0], cause.centre[1] + 0.1 * cause.half, 2.0 * cause.half, (150, 152, 156))
    disc(img, cause.centre[0], cause.centre[1] + 0.1 * cause.half, 1.92 * cause.half, (176, 178, 182))
    return img


# -- files -------------------------------------------------------------------------------------------------------------


def write_clip(clip: Rendered, path: Path) -> None:
    """Writes H.264 / FLAC mp4 and ``<name>.va.csv`` (valence, arousal per frame) beside it, each by renaming."""
    lines = ["valence,arousal", *(f"{v:.4f},{a:.4f}" for v, a in clip.va)]
    files.write_text(path.with_suffix(".va.csv"), "\n".join(lines) + "\n")
    write_media(path, clip.frames, clip.waveform, clip.rate, clip.cause.fps, clip.cause.knobs.crf)


def write_media(path: Path, frames: Canvas, waveform: Array, rate: int, fps: float, crf: int) -> None:
    """Writes H.264 / FLAC mp4 by renaming: RGB uint8 (F, h, w, 3), float32 (n,) in -1..1 at ``rate`` Hz, mono.

    Same images, audio and library versions give the same bytes on any processor: x264 uses no instructions that only
    some have, and audio is stored without loss, by integers alone; encoders of AAC compute in floating point.
    """
    import av

    temporary = path.with_name(f".{path.stem}.part")
    with av.open(str(temporary), "w", format="mp4", options={"fflags": "+bitexact"}) as out:
        video = out.add_stream(
            "libx264",
            rate=Fraction(fps).limit_denominator(1001),
            options={"crf": str(crf), "preset": "veryfast", "threads": "1", "x264-params": "cpu-independent=1"},
        )
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        track = out.add_stream("flac", rate=rate, layout="mono", options={"lpc_type": "fixed"})  # integers alone
        for image in frames:
            out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(video.encode())
        samples = np.rint(in_16_bits(waveform) * 32768).astype(np.int16)
        step = 1024
        for i in range(0, len(samples), step):
            audio = av.AudioFrame.from_ndarray(samples[None, i : i + step], format="s16", layout="mono")
            audio.sample_rate, audio.pts, audio.time_base = rate, i, Fraction(1, rate)
            out.mux(track.encode(audio))
        out.mux(track.encode())
    os.replace(temporary, path)


def row(cause: Cause, path: str) -> dict[str, object]:
    """The line of a clip in the manifest: the common columns, then its cause."""
    run = course(cause)
    valence, arousal = run.va.mean(0)
    face = run.boxes(cause)[cause.frames // 2]
    values: dict[str, object] = {
        "path": path,
        "label": cause.label,
        "valence": f"{valence:.4f}",
        "arousal": f"{arousal:.4f}",
        "split": cause.split,
        "fold": cause.fold,
        "group": f"p{cause.person:03d}",
        "conflicts": " ".join(cause.conflicts),
        "burst_start": f"{cause.burst_start:.3f}",
        "burst_end": f"{cause.burst_end:.3f}",
        "peak": f"{cause.peak:.3f}",
        "place": cause.backdrop,
        "occluded": cause.occluded,
        "talking": int(cause.talking),
        "seed": cause.seed,
        "index": cause.index,
        "version": VERSION,
    }
    values |= {f"{v}_shows": e for v, e in zip(VIEWS, cause.shows, strict=True)}
    values |= {f"spot_{n}": f"{v:.1f}" for n, v in zip(("x1", "y1", "x2", "y2"), cause.spot, strict=True)}
    values |= {f"face_{n}": f"{v:.1f}" for n, v in zip(("x1", "y1", "x2", "y2"), face, strict=True)}
    return {c: values.get(c, "") for c in COLUMNS}


def draw(cause: Cause, path: Path) -> None:
    """Draws the clip of a cause and writes it to a path."""
    write_clip(render(cause), path)


def generate(
    out: str | os.PathLike[str],
    n: int,
    seed: int = 0,
    knobs: Knobs | None = None,
    *,
    size: tuple[int, int] = (192, 144),
    seconds: float = 2.4,
    fps: float = 12.5,
    workers: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Writes ``n`` clips below ``out`` and returns the path of their ``manifest.csv``.

    Same seed, same pixels: a clip depends on seed, index and settings, not on ``n`` or ``workers``. Clips that are
    there are not drawn again, so a killed run continues. ``size`` = (w, h); ``progress`` is called with (done, n).
    Raises DatasetError where ``out`` holds clips made with other settings.
    """
    knobs = knobs or Knobs()
    plan(seed, 0, knobs, size=size, seconds=seconds, fps=fps)  # refuses bad settings before anything is written
    settings = {
        "version": VERSION, "seed": seed, "size": size, "seconds": seconds, "fps": fps, "knobs": asdict(knobs),
    }  # fmt: skip
    causes = [plan(seed, i, knobs, size=size, seconds=seconds, fps=fps) for i in range(n)]
    return write_clips(
        Path(out), causes, write=draw, row=row, columns=COLUMNS, stamp=STAMP, settings=settings, workers=workers,
        progress=progress,
    )  # fmt: skip
