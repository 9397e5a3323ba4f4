"""Antialiased drawing with OpenCV: smooth lines, fills, and layers laid over each other.

Layers are RGBA uint8 with premultiplied alpha. Points are (n, 2) in pixels, drawn to a sixteenth of one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[Any]  # uint8; what OpenCV returns carries no such type
Array = NDArray[Any]
Points = NDArray[Any]
Colour = tuple[float, float, float]
Shade = tuple[float, ...] | float


@lru_cache(maxsize=64)
def _spline(n: int, closed: bool, steps: int) -> Array:
    """Catmull-Rom as a matrix: control points (n, 2) to curve points."""
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    basis = 0.5 * np.hstack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3])
    segments = n if closed else n - 1
    out = np.zeros((segments * steps + (0 if closed else 1), n))
    for i in range(segments):
        for k in range(4):
            j = (i + k - 1) % n if closed else min(max(i + k - 1, 0), n - 1)
            out[i * steps : (i + 1) * steps, j] += basis[:, k]
    if not closed:
        out[-1, -1] = 1
    return out


def curve(points: Points | list[tuple[float, float]], closed: bool = True, steps: int = 8) -> Points:
    """A smooth line through the points."""
    p = np.asarray(points, float)
    return _spline(len(p), closed, steps) @ p


def _fixed_point(points: Points) -> NDArray[np.int32]:
    """Points in sixteenths of a pixel, as OpenCV takes them with ``shift=4``."""
    return np.rint(points * 16).astype(np.int32)


def fill(img: Canvas, points: Points, colour: Shade) -> None:
    """An antialiased polygon; points in pixels. A colour of three gets alpha 255 on an image of four channels."""
    cv2.fillPoly(img, [_fixed_point(points)], _with_alpha(img, colour), cv2.LINE_AA, 4)


def stroke(img: Canvas, points: Points, colour: Shade, width: float, closed: bool = False) -> None:
    """An antialiased line of ``width`` pixels through the points; (m, n, 2) are m lines."""
    fixed = _fixed_point(points)
    lines = list(fixed) if fixed.ndim == 3 else [fixed]
    cv2.polylines(img, lines, closed, _with_alpha(img, colour), max(1, round(width)), cv2.LINE_AA, 4)


def disc(img: Canvas, x: float, y: float, radius: float, colour: Shade) -> None:
    """An antialiased disc."""
    cv2.circle(
        img, (round(x * 16), round(y * 16)), max(1, round(radius * 16)), _with_alpha(img, colour), -1, cv2.LINE_AA, 4
    )


def _with_alpha(img: Canvas, colour: Shade) -> tuple[float, ...]:
    if isinstance(colour, int | float):
        return (float(colour),)
    return (*colour, 255.0) if img.ndim == 3 and img.shape[2] == 4 and len(colour) == 3 else colour


def overlay(dst: Canvas, src: Canvas) -> None:
    """Lays premultiplied RGBA ``src`` over ``dst`` (RGB or RGBA) and changes ``dst``."""
    inverse = 255 - src[..., 3]
    if dst.shape[2] == 3:
        kept = cv2.multiply(dst, cv2.merge((inverse, inverse, inverse)), scale=1 / 255)
        cv2.add(kept, cv2.cvtColor(src, cv2.COLOR_RGBA2RGB), dst)
    else:
        cv2.add(cv2.multiply(dst, cv2.merge((inverse, inverse, inverse, inverse)), scale=1 / 255), src, dst)


def blend(a: Colour, b: Colour, t: float) -> Colour:
    """The colour that lies the fraction ``t`` of the way from ``a`` to ``b``."""
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def scaled(a: Colour, k: float) -> Colour:
    """A colour ``k`` times as bright."""
    return (min(255.0, a[0] * k), min(255.0, a[1] * k), min(255.0, a[2] * k))


def jittered(a: Colour, by: float, r: np.random.Generator) -> Colour:
    """A colour whose channels are changed at random by up to ``by``."""
    d = r.uniform(-by, by, 3)
    return (
        float(np.clip(a[0] + d[0], 8, 250)),
        float(np.clip(a[1] + d[1], 8, 250)),
        float(np.clip(a[2] + d[2], 8, 250)),
    )
