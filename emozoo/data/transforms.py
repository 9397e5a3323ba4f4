"""Augmentation: one draw for all frames of a clip, shared by the image streams.

Geometry is one affine warp a frame (one resampling, whatever is asked for), which also carries the camera path that
turns a still into a pseudo-clip; light, blur, noise, compression and erasing are albumentations'. Every draw follows
from the sample's seed alone, so that data workers neither repeat nor depend on one another.
"""

from __future__ import annotations

import math
import os
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from emozoo.errors import UsageError

if TYPE_CHECKING:
    import albumentations as A

LUMA = np.array([0.299, 0.587, 0.114])
# Camera path at motion = 1: amplitudes of shift (fraction of the side), log zoom, radians, shear, log aspect, log light
PATH = np.array([0.06, 0.06, 0.08, 0.10, 0.04, 0.04, 0.15])


@dataclass(frozen=True)
class Augment:
    """What training changes at random; every default is off.

    Images: ``flip``, ``tint``, ``blur``, ``noise``, ``compress``, ``erase`` are probabilities; ``rotate`` is the
    largest angle in degrees, ``scale`` and ``shift`` the largest change as a fraction of the size, ``light`` that of
    brightness and contrast. ``tint`` gives grey images a random colour cast and turns coloured ones grey. ``motion``
    (0 to 1) moves the camera smoothly through the frames, with drifting light.

    Audio: ``gain`` = largest change in dB, ``time_mask`` = largest fraction of the window that is silenced. On log-mel
    images alone: ``hiss`` = standard deviation of noise in dB, ``mel_mask`` = largest fraction of bins that is
    silenced, ``pitch`` = largest shift along the mel axis as a fraction of it (another voice), ``tempo`` = largest
    change of speed as a fraction, about the middle of the window. On waveforms alone: ``speed`` = largest change of
    speed as a fraction; pitch and formants go with it (another voice), and the end of the window stays where it is.
    """

    flip: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    light: float = 0.0
    tint: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    compress: float = 0.0
    erase: float = 0.0
    motion: float = 0.0
    gain: float = 0.0
    hiss: float = 0.0
    time_mask: float = 0.0
    mel_mask: float = 0.0
    pitch: float = 0.0
    tempo: float = 0.0
    speed: float = 0.0


@lru_cache(maxsize=64)
def pixel_steps(a: Augment) -> A.Compose | None:
    """What albumentations does: light, blur, noise, compression and erasing. None where nothing of it is asked for."""
    if not (a.light or a.blur or a.noise or a.compress or a.erase):
        return None
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the package index on import
    import albumentations as A

    steps: list[A.BasicTransform | A.OneOf] = []
    if a.light:
        steps.append(A.RandomBrightnessContrast(a.light, a.light, p=0.8))
    if a.blur:
        steps.append(A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 1.5), p=a.blur))
    if a.noise:
        steps.append(A.GaussNoise(std_range=(0.01, 0.06), per_channel=False, noise_scale_factor=1.0, p=a.noise))
    if a.compress:
        steps.append(A.ImageCompression(quality_range=(30, 90), p=a.compress))
    if a.erase:
        steps.append(A.CoarseDropout((1, 1), (0.1, 0.35), (0.1, 0.35), fill=0, p=a.erase))
    return A.Compose(steps)


@dataclass(frozen=True)
class _Draw:
    """One sample's draws that all image streams share, in relative units."""

    flip: bool
    angle: float
    log_scale: float
    shift: tuple[float, float]
    path: np.ndarray | None  # (n, 7) in the order of PATH
    tint: bool
    cast: np.ndarray  # (3,) gains of R, G, B


def _draw(a: Augment, frames: int, rng: np.random.Generator) -> _Draw:
    unit = rng.uniform(-1.0, 1.0, 4)
    path = None
    flips, tints = rng.random(2)
    warmth, green = rng.normal(0.0, (0.15, 0.05))
    if a.motion:
        # two slow waves per quantity: smooth, and different from start to end even over few frames
        cycles, phase = rng.uniform(0.2, 1.3, (2, 1, 7)), rng.uniform(0, 2 * np.pi, (2, 1, 7))
        amplitude = a.motion * PATH * rng.uniform(0.0, 1.0, 7) * np.array([0.7, 0.3])[:, None, None]
        path = (amplitude * np.sin(2 * np.pi * cycles * np.linspace(0, 1, frames)[:, None] + phase)).sum(0)
    return _Draw(
        flip=bool(flips < a.flip),
        angle=math.radians(a.rotate) * unit[0],
        log_scale=math.log1p(a.scale) * unit[1],
        shift=(a.shift * unit[2], a.shift * unit[3]),
        path=path,
        tint=bool(tints < a.tint),
        cast=np.exp([warmth, green, -warmth]),
    )


def _warps(draw: _Draw, n: int, height: int, width: int) -> np.ndarray | None:
    """Affine matrices source → target, (n, 2, 3), about the centre; None where nothing moves."""
    path = np.zeros((n, 7)) if draw.path is None else draw.path
    if draw.path is None and not (draw.angle or draw.log_scale or any(draw.shift)):
        return None
    dx, dy, zoom, angle, shear, aspect = path.T[:6]
    cos, sin = np.cos(draw.angle + angle), np.sin(draw.angle + angle)
    sx, sy = np.exp(draw.log_scale + zoom + aspect / 2), np.exp(draw.log_scale + zoom - aspect / 2)
    m = np.empty((n, 2, 3))
    m[:, 0, 0], m[:, 0, 1] = sx * cos, sx * (shear * cos - sin)
    m[:, 1, 0], m[:, 1, 1] = sy * sin, sy * (shear * sin + cos)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    target = centre + np.stack([(draw.shift[0] + dx) * width, (draw.shift[1] + dy) * height], axis=1)
    m[:, :, 2] = target - m[:, :, :2] @ centre
    return m


def _colours(a: Augment, draw: _Draw, n: int, first: np.ndarray) -> np.ndarray | None:
    """Colour matrices (n, 3, 3); None where colours stay."""
    if not draw.tint and draw.path is None:
        return None
    base = np.eye(3)
    if draw.tint:
        grey = np.array_equal(first[..., 0], first[..., 1]) and np.array_equal(first[..., 1], first[..., 2])
        base = np.diag(draw.cast) if grey else np.tile(LUMA, (3, 1))
    light = np.ones(n) if draw.path is None else np.exp(draw.path[:, 6])
    return base * light[:, None, None]


def is_flipped(a: Augment, seed: int) -> bool:
    """Whether the images of a sample with that seed change left and right."""
    return _draw(a, 1, np.random.default_rng(seed)).flip


def augment_images(clip: np.ndarray, a: Augment, seed: int) -> np.ndarray:
    """uint8 (C, F, H, W, 3) → the same shape, augmented; a still without motion is worked on once.

    Image streams of one sample, which share ``seed``, are drawn alike: they flip together and follow the same camera.
    """
    draw = _draw(a, clip.shape[0] * clip.shape[1], np.random.default_rng(seed))
    height, width = clip.shape[2:4]
    one = draw.path is None and clip.strides[:2] == (0, 0)
    images = clip[0, :1] if one else clip.reshape(-1, height, width, 3)
    n = len(images)
    warps, colours = _warps(draw, n, height, width), _colours(a, draw, n, images[0])
    if draw.flip:
        images = images[:, :, ::-1]
    if warps is not None or colours is not None or draw.flip:
        out = np.empty((n, height, width, 3), dtype=np.uint8)
        for i in range(n):
            image = np.ascontiguousarray(images[i])
            if warps is not None:
                image = cv2.warpAffine(
                    image, warps[i], (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
                )
            out[i] = image if colours is None else cv2.transform(image, colours[i])
        images = out
    compose = pixel_steps(a)
    if compose is not None:
        # not set_random_seed: that gives every step the same seed, so that all of them fire together or none does
        compose.set_random_state(np.random.default_rng([seed, 2]), random.Random(seed))
        images = compose(images=np.ascontiguousarray(images))["images"]
    if one:
        return np.broadcast_to(images[0], clip.shape)
    return np.asarray(images).reshape(clip.shape)


def augment_log_mel(db: np.ndarray, a: Augment, seed: int) -> np.ndarray:
    """float32 (C, 1, M, S) in dB → the same shape, augmented; every clip is masked at the same bins and steps.

    Raises UsageError for what works on waveforms alone.
    """
    if a.speed:
        raise UsageError("speed works on waveforms; log-mel images take pitch and tempo")
    rng = np.random.default_rng([seed, 1])
    out = db + np.float32(rng.uniform(-a.gain, a.gain))
    if a.pitch or a.tempo:
        bins, steps = db.shape[2:]
        up, slower = rng.uniform(-a.pitch, a.pitch) * bins, 1 + rng.uniform(-a.tempo, a.tempo)
        warp = np.array([[slower, 0, (1 - slower) * (steps - 1) / 2], [0, 1, up]])
        moved = [cv2.warpAffine(x[0], warp, (steps, bins), borderMode=cv2.BORDER_REPLICATE) for x in out]
        out = np.stack(moved)[:, None].astype(np.float32)
    quiet = out.min(axis=(1, 2, 3), keepdims=True)
    if a.hiss:
        out = out + rng.normal(0.0, a.hiss, out.shape).astype(np.float32)
    for axis, fraction in ((2, a.mel_mask), (3, a.time_mask)):
        size = db.shape[axis]
        wide = int(rng.uniform(0, fraction) * size)
        first = int(rng.integers(0, size - wide + 1))
        part = [slice(None)] * 4
        part[axis] = slice(first, first + wide)
        out[tuple(part)] = quiet
    return np.asarray(out, dtype=np.float32)


def augment_waveform(samples: np.ndarray, a: Augment, seed: int) -> np.ndarray:
    """float32 (C, 1, 1, S) samples → the same shape, augmented; every clip is masked at the same samples.

    Raises UsageError for what works on log-mel images alone.
    """
    rng = np.random.default_rng([seed, 1])
    if a.hiss or a.mel_mask or a.pitch or a.tempo:
        raise UsageError("hiss, mel_mask, pitch and tempo work on log-mel images; a waveform takes gain and time_mask")
    out = samples * np.float32(10.0 ** (rng.uniform(-a.gain, a.gain) / 20.0))
    wide = int(rng.uniform(0, a.time_mask) * samples.shape[3])
    first = int(rng.integers(0, samples.shape[3] - wide + 1))
    out[..., first : first + wide] = 0.0
    if a.speed:
        speed = 1 + float(rng.uniform(-a.speed, a.speed))  # one person speaks in all clips
        out = np.stack([_faster(x[0, 0], speed) for x in out])[:, None, None]
    return out


def _faster(wave: np.ndarray, speed: float) -> np.ndarray:
    """Samples (S,) played that much faster, up to the same end; zeros stand before a shorter one, a longer is cut."""
    length = round(len(wave) / speed)
    played = cv2.resize(wave[None], (length, 1), interpolation=cv2.INTER_LINEAR)[0]
    return played[-len(wave) :] if length >= len(wave) else np.pad(played, (len(wave) - length, 0))
