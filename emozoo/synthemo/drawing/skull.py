"""Where things are on a head. Lengths are half face widths: x to the viewer's right, y down, the origin between eyes
and mouth; a face spans x -1..1 and y about -1.45..1.3."""

from __future__ import annotations

import math

import numpy as np

from emozoo.synthemo.drawing.draw import Array, Canvas, Points, curve
from emozoo.synthemo.drawing.person import Person

LEFT, RIGHT, TOP, BOTTOM = -1.75, 1.75, -2.2, 2.1  # what a head's canvas covers


class Skull:
    """One person's head at one turn: from its own coordinates to pixels of its canvas.

    ``scale`` = pixels in a half face width; ``yaw``, ``pitch`` in radians; ``light`` = where the light comes from, -1
    (left) .. 1 (right).
    """

    def __init__(self, who: Person, scale: float, yaw: float, pitch: float, light: float) -> None:
        self.who, self.s, self.light = who, scale, light
        self.sin_yaw, self.cos_yaw = math.sin(yaw), math.cos(yaw)
        self.sin_pitch, self.cos_pitch = math.sin(pitch), math.cos(pitch)
        self.width, self.height = round((RIGHT - LEFT) * scale), round((BOTTOM - TOP) * scale)
        self.rng = np.random.default_rng(np.random.SeedSequence(7, spawn_key=(who.number,)))

    def on(self, points: Points | list[tuple[float, float]], lift: float = 0.0) -> Points:
        """Points (n, 2) on the turned skull, ``lift`` above it, in pixels."""
        p = np.asarray(points, float)
        x, y = p[:, 0], p[:, 1]
        depth = 1 - x * x * (1 / 1.2544) - y * y * (1 / 2.6244)  # an ellipsoid's height
        depth = 0.85 * np.sqrt(np.maximum(depth, 0)) + lift
        out = np.empty_like(p)
        out[:, 0] = (x * self.cos_yaw + depth * self.sin_yaw - LEFT) * self.s
        out[:, 1] = (y * self.cos_pitch - depth * self.sin_pitch - TOP) * self.s
        return out

    def flat(self, points: Points | list[tuple[float, float]]) -> Points:
        """Points that do not turn with the face, in pixels."""
        return (np.asarray(points, float) - (LEFT, TOP)) * self.s

    def row(self, y: float) -> int:
        """The canvas row of a height, cut to the canvas."""
        return min(self.height, max(0, round((y - TOP) * self.s)))

    def column(self, x: float) -> int:
        return min(self.width, max(0, round((x - LEFT) * self.s)))

    def canvas(self) -> Canvas:
        return np.zeros((self.height, self.width, 4), np.uint8)

    def mask(self) -> Canvas:
        return np.zeros((self.height, self.width), np.uint8)

    def axes(self) -> tuple[Array, Array]:
        """x of every column (1, w) and y of every row (h, 1), float64."""
        x = (np.arange(self.width) + 0.5) / self.s + LEFT
        y = (np.arange(self.height) + 0.5) / self.s + TOP
        return x[None], y[:, None]

    def outline(self) -> Points:
        """The face's edge in pixels."""
        w = self.who
        half = [(0.0, -1.45), (0.52, -1.34), (0.86, -0.98), (0.985, -0.42), (0.965, 0.14), (0.86, 0.58), (w.jaw, 0.93)]
        half += [(0.34, w.chin - 0.06)]
        full = mirrored([*half, (0.0, w.chin)])
        full[:, 0] += self.sin_yaw * 0.22 * np.clip(full[:, 1] + 0.6, 0, None) / 1.9  # the chin leads the turn
        full[:, 1] -= self.sin_pitch * 0.15
        return self.flat(curve(full))


def mirrored(half: list[tuple[float, float]]) -> Points:
    """A closed shape from its right half, which starts on the middle line; a last point on it is not doubled."""
    last = -1 if half[-1][0] == 0 else None
    return np.array([*half, *[(-x, y) for x, y in half[1:last][::-1]]])
