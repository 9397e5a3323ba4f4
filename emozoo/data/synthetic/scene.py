"""Drawn scenes: places, moods, weather and objects that carry evidence of an emotion.

Coordinates: x 0..1 of the width, y 0..1 of the height, radii in heights. A place says where one is; the *mood* (colours,
weather, objects) says how it feels there, so a place alone tells little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from emozoo.data.synthetic.face import Colour, Picture, Points, curve, disc, fill, stroke


@dataclass(frozen=True)
class Mood:
    """Evidence of one emotion in a scene. ``tint`` is mixed in by ``amount``; ``weather`` and ``things`` are names."""

    tint: Colour
    amount: float
    saturation: float
    light: float
    vignette: float
    weather: str
    things: tuple[str, ...]


MOODS: dict[str, Mood] = {
    "anger": Mood((196, 44, 26), 0.34, 1.05, 0.80, 0.35, "embers", ("fire", "smashed", "warning")),
    "disgust": Mood((136, 142, 40), 0.36, 0.75, 0.84, 0.20, "flies", ("slime", "rubbish", "fishbone")),
    "fear": Mood((16, 30, 62), 0.58, 0.55, 0.52, 0.60, "mist", ("spider", "bat", "eyes")),
    "happiness": Mood((255, 206, 104), 0.16, 1.28, 1.12, 0.0, "sunshine", ("balloons", "cake", "dog")),
    "neutral": Mood((178, 178, 174), 0.22, 0.70, 1.0, 0.0, "none", ("clock", "plant", "books")),
    "sadness": Mood((92, 112, 142), 0.46, 0.42, 0.74, 0.25, "rain", ("wilted", "cup", "grave")),
    "surprise": Mood((222, 120, 226), 0.22, 1.25, 1.06, 0.0, "confetti", ("gift", "firework", "jack")),
}
PLACES = ("park", "street", "room", "office", "beach", "forest", "kitchen", "alley", "hall", "mountains")
# Where an emotion is set in half of the clips; in the other half any place will do.
TYPICAL: dict[str, tuple[str, ...]] = {
    "anger": ("street", "office", "alley"),
    "disgust": ("kitchen", "alley", "street"),
    "fear": ("forest", "alley", "hall"),
    "happiness": ("park", "beach", "room"),
    "neutral": ("office", "room", "street"),
    "sadness": ("room", "street", "mountains"),
    "surprise": ("hall", "room", "park"),
}


class Brush:
    """A picture addressed in the coordinates of this module."""

    def __init__(self, img: Picture) -> None:
        self.img = img
        self.h, self.w = img.shape[:2]

    def px(self, points: list[tuple[float, float]] | Points) -> Points:
        return np.asarray(points, float) * np.array([self.w, self.h])

    def poly(self, points: list[tuple[float, float]], colour: Colour, smooth: bool = False) -> None:
        p = self.px(points)
        fill(self.img, curve(p) if smooth else p, colour)

    def line(self, points: list[tuple[float, float]], colour: Colour, width: float, smooth: bool = False) -> None:
        p = self.px(points)
        stroke(self.img, curve(p, closed=False) if smooth else p, colour, width * self.h)

    def dot(self, x: float, y: float, radius: float, colour: Colour) -> None:
        disc(self.img, x * self.w, y * self.h, radius * self.h, colour)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour, angle: float = 0.0) -> None:
        cv2.ellipse(
            self.img,
            (round(x * self.w * 16), round(y * self.h * 16)),
            (round(rx * self.h * 16), round(ry * self.h * 16)),
            angle,
            0,
            360,
            colour,
            -1,
            cv2.LINE_AA,
            4,
        )

    def rect(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def ramp(self, y0: float, y1: float, top: Colour, bottom: Colour) -> None:
        """A vertical gradient over the whole width."""
        a, b = round(y0 * self.h), round(y1 * self.h)
        t = np.linspace(0, 1, max(1, b - a))[:, None, None]
        self.img[a:b] = (np.array(top) * (1 - t) + np.array(bottom) * t).astype(np.uint8)


def _c(base: Colour, r: np.random.Generator, by: float = 14) -> Colour:
    d = r.uniform(-by, by)
    return (float(np.clip(base[0] + d, 0, 255)), float(np.clip(base[1] + d, 0, 255)), float(np.clip(base[2] + d, 0, 255)))


# -- places ----------------------------------------------------------------------------------------------------------


def _clouds(b: Brush, r: np.random.Generator, count: int) -> None:
    for _ in range(count):
        x, y, k = r.uniform(0, 1), r.uniform(0.05, 0.3), r.uniform(0.03, 0.06)
        for dx, dy, m in ((-1.6, 0.3, 0.7), (-0.6, -0.2, 1.0), (0.5, -0.1, 1.1), (1.5, 0.3, 0.75), (0, 0.35, 1.0)):
            b.dot(x + dx * k * b.h / b.w, y + dy * k, m * k, (244, 247, 250))


def _tree(b: Brush, r: np.random.Generator, x: float, ground: float, size: float, leaf: Colour, trunk: Colour = (96, 68, 46)) -> None:
    a = b.h / b.w
    b.poly(
        [
            (x - 0.07 * size * a, ground),
            (x - 0.035 * size * a, ground - 0.5 * size),
            (x + 0.035 * size * a, ground - 0.5 * size),
            (x + 0.07 * size * a, ground),
        ],
        trunk,
    )
    for k in range(16):
        q = r.uniform(0, 2 * np.pi)
        d = r.uniform(0, 0.28) * size
        up = 0.62 * size - 0.75 * d * np.sin(q)
        shade = 0.72 + 0.4 * (k / 16)
        b.dot(x + d * np.cos(q) * a - 0.03 * size * (k / 16) * a, ground - up, r.uniform(0.12, 0.2) * size, (leaf[0] * shade, leaf[1] * shade, leaf[2] * shade))


def _park(b: Brush, r: np.random.Generator) -> None:
    b.ramp(0, 0.6, (118, 178, 226), (206, 230, 240))
    _clouds(b, r, 3)
    b.poly([(0, 0.58), (0.25, 0.5), (0.5, 0.56), (0.8, 0.48), (1, 0.55), (1, 1), (0, 1)], (118, 168, 110))
    b.ramp(0.6, 1.0, (126, 180, 92), (74, 132, 62))
    b.poly([(0.42, 1), (0.5, 0.62), (0.54, 0.62), (0.74, 1)], (206, 190, 156))
    for x in sorted(r.uniform(0, 1, 5)):
        _tree(b, r, float(x), float(r.uniform(0.6, 0.72)), float(r.uniform(0.4, 0.62)), _c((84, 146, 66), r, 22))
    for _ in range(26):
        b.dot(r.uniform(0, 1), r.uniform(0.72, 1), r.uniform(0.006, 0.011), (250, 236, 150) if r.random() < 0.5 else (246, 246, 246))


def _street(b: Brush, r: np.random.Generator) -> None:
    b.ramp(0, 0.7, (150, 184, 214), (220, 224, 224))
    x = -0.05
    while x < 1:
        width, top = r.uniform(0.14, 0.26), r.uniform(0.05, 0.32)
        wall = _c(((176, 128, 104), (160, 152, 140), (188, 170, 138), (128, 136, 150))[int(r.integers(4))], r)
        b.rect(x, top, x + width, 0.8, wall)
        b.rect(x, top - 0.015, x + width, top + 0.01, _c((90, 84, 80), r))
        for wy in np.arange(top + 0.06, 0.66, 0.12):
            for wx in np.arange(x + 0.022, x + width - 0.035, 0.052):
                b.rect(wx, wy, wx + 0.03, wy + 0.07, (92, 112, 132) if r.random() < 0.75 else (250, 226, 160))
        x += width + r.uniform(0, 0.015)
    b.rect(0, 0.78, 1, 0.86, (150, 148, 146))
    b.ramp(0.85, 1.0, (84, 84, 90), (62, 62, 68))
    for k in range(5):
        b.poly([(0.22 * k, 0.925), (0.22 * k + 0.11, 0.925), (0.22 * k + 0.10, 0.94), (0.22 * k - 0.01, 0.94)], (220, 214, 190))
    x = float(r.choice([0.12, 0.88]))
    b.line([(x, 0.84), (x, 0.2)], (56, 58, 62), 0.016)
    b.line([(x, 0.2), (x + 0.05, 0.17)], (56, 58, 62), 0.014)
    b.oval(x + 0.055, 0.175, 0.03, 0.016, (248, 232, 186))


def _floor(b: Brush, r: np.random.Generator, wall: Colour, floor: Colour, level: float) -> None:
    b.ramp(0, level, (wall[0] * 1.06, wall[1] * 1.06, wall[2] * 1.06), (wall[0] * 0.9, wall[1] * 0.9, wall[2] * 0.9))
    b.ramp(level, 1, floor, (floor[0] * 0.78, floor[1] * 0.78, floor[2] * 0.78))
    b.rect(0, level - 0.02, 1, level + 0.008, (236, 232, 224))


def _window(b: Brush, x0: float, y0: float, x1: float, y1: float) -> None:
    b.rect(x0 - 0.012, y0 - 0.016, x1 + 0.012, y1 + 0.016, (238, 234, 226))
    a, c = round(y0 * b.h), round(y1 * b.h)
    t = np.linspace(0, 1, c - a)[:, None, None]
    b.img[a:c, round(x0 * b.w) : round(x1 * b.w)] = (np.array((148, 196, 232)) * (1 - t) + np.array((222, 236, 240)) * t).astype(np.uint8)
    m = (x0 + x1) / 2
    b.line([(m, y0), (m, y1)], (238, 234, 226), 0.016)
    b.line([(x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2)], (238, 234, 226), 0.016)


def _room(b: Brush, r: np.random.Generator) -> None:
    _floor(b, r, _c(((214, 196, 168), (188, 206, 204), (214, 184, 176))[int(r.integers(3))], r), (156, 112, 76), 0.76)
    left = r.random() < 0.5
    x = 0.05 if left else 0.72
    _window(b, x, 0.12, x + 0.22, 0.5)
    cloth = _c(((178, 84, 76), (86, 116, 150), (112, 140, 96))[int(r.integers(3))], r)
    for side, at in ((-1, x - 0.02), (1, x + 0.24)):
        b.poly([(at, 0.07), (at + side * 0.045, 0.07), (at + side * 0.055, 0.6), (at - side * 0.02, 0.58)], cloth)
    px = 0.74 if left else 0.05
    b.rect(px, 0.14, px + 0.16, 0.36, (110, 80, 54))
    b.rect(px + 0.012, 0.158, px + 0.148, 0.342, _c((196, 178, 140), r, 30))
    b.poly([(px + 0.012, 0.342), (px + 0.06, 0.23), (px + 0.09, 0.28), (px + 0.12, 0.2), (px + 0.148, 0.342)], _c((96, 124, 108), r, 30))
    sofa = _c(((120, 92, 84), (86, 104, 124), (132, 122, 92))[int(r.integers(3))], r)
    b.poly([(0.02, 0.98), (0.0, 0.66), (0.06, 0.6), (0.94, 0.6), (1.0, 0.66), (0.98, 0.98)], sofa)
    b.poly([(0.07, 0.8), (0.07, 0.66), (0.5, 0.645), (0.93, 0.66), (0.93, 0.8)], (sofa[0] * 1.15, sofa[1] * 1.15, sofa[2] * 1.15))
    b.line([(0.5, 0.65), (0.5, 0.8)], (sofa[0] * 0.8, sofa[1] * 0.8, sofa[2] * 0.8), 0.01)


def _office(b: Brush, r: np.random.Generator) -> None:
    _floor(b, r, _c((204, 208, 212), r), (120, 124, 132), 0.8)
    for k in range(4):
        b.rect(0.04 + 0.26 * k, 0.0, 0.2 + 0.26 * k, 0.035, (252, 252, 246))
    for k in range(2):
        x = 0.04 + 0.62 * k
        b.rect(x, 0.14, x + 0.3, 0.52, (120, 134, 150))
        for m in range(8):
            b.rect(x, 0.15 + 0.046 * m, x + 0.3, 0.172 + 0.046 * m, (226, 230, 232))
    b.rect(0.0, 0.68, 1, 0.74, (186, 152, 112))
    b.rect(0.0, 0.74, 1, 0.8, (150, 120, 86))
    for x in (0.1, 0.82):
        b.rect(x - 0.06, 0.47, x + 0.09, 0.65, (44, 48, 54))
        b.rect(x - 0.05, 0.485, x + 0.08, 0.63, _c((112, 152, 190), r, 20))
        b.rect(x + 0.005, 0.65, x + 0.025, 0.69, (60, 62, 66))


def _beach(b: Brush, r: np.random.Generator) -> None:
    b.ramp(0, 0.52, (104, 178, 232), (214, 236, 242))
    _clouds(b, r, 2)
    b.ramp(0.5, 0.72, (44, 124, 170), (92, 182, 196))
    for _ in range(16):
        x, y = r.uniform(0, 1), r.uniform(0.52, 0.7)
        b.line([(x, y), (x + 0.05, y - 0.006), (x + 0.1, y)], (206, 234, 238), 0.006, smooth=True)
    b.poly([(0, 0.7), (0.3, 0.73), (0.6, 0.69), (1, 0.74), (1, 1), (0, 1)], (232, 208, 158))
    b.poly([(0, 0.695), (0.3, 0.725), (0.6, 0.685), (1, 0.735), (1, 0.75), (0.6, 0.70), (0.3, 0.74), (0, 0.71)], (250, 250, 246))
    x = float(r.choice([0.1, 0.9]))
    side = 1 if x < 0.5 else -1
    b.line([(x, 0.85), (x + side * 0.01, 0.6), (x + side * 0.03, 0.34)], (132, 98, 62), 0.028, smooth=True)
    for q in np.linspace(-2.9, -0.2, 7):
        cx, cy = x + side * 0.03, 0.33
        b.line(
            [(cx, cy), (cx + 0.07 * np.cos(q), cy + 0.1 * np.sin(q)), (cx + 0.15 * np.cos(q), cy + 0.04 + 0.12 * np.sin(q) * 0.6)],
            (70, 130, 70),
            0.026,
            smooth=True,
        )


def _forest(b: Brush, r: np.random.Generator) -> None:
    b.ramp(0, 0.75, (150, 182, 176), (206, 216, 196))
    b.ramp(0.72, 1, (96, 108, 66), (58, 70, 44))
    for depth in range(3):
        for _ in range(7):
            x, width = r.uniform(-0.02, 1.02), (0.012 + 0.012 * depth) * r.uniform(0.7, 1.3)
            tone = 128 - 32 * depth
            colour = _c((tone, tone * 0.88, tone * 0.74), r, 8)
            b.poly([(x - width, 0.76 + 0.07 * depth), (x - 0.6 * width, 0), (x + 0.6 * width, 0), (x + width, 0.76 + 0.07 * depth)], colour)
            for _ in range(3):
                y, side = r.uniform(0.05, 0.5), r.choice([-1, 1])
                b.line([(x, y), (x + side * 0.05, y - 0.06), (x + side * 0.09, y - 0.08)], colour, 0.012 + 0.003 * depth, smooth=True)
        for _ in range(16):
            leaf = 1 - 0.2 * depth
            b.dot(r.uniform(0, 1), r.uniform(-0.04, 0.2), r.uniform(0.05, 0.1), _c((96 * leaf, 132 * leaf, 84 * leaf), r, 12))


def _kitchen(b: Brush, r: np.random.Generator) -> None:
    b.ramp(0, 1, (222, 220, 210), (204, 200, 188))
    for y in np.arange(0.36, 0.68, 0.08):
        for x in np.arange(0, 1, 0.06):
            b.rect(x + 0.002, y + 0.003, x + 0.058, y + 0.077, _c((228, 232, 230), r, 7))
    front = _c(((150, 170, 166), (188, 160, 124), (170, 176, 186))[int(r.integers(3))], r)
    for k in range(5):
        x = 0.2 * k
        b.rect(x + 0.005, 0.02, x + 0.195, 0.32, front)
        b.rect(x + 0.02, 0.05, x + 0.18, 0.29, (front[0] * 0.93, front[1] * 0.93, front[2] * 0.93))
        b.dot(x + 0.172, 0.2, 0.01, (90, 90, 92))
        b.rect(x + 0.005, 0.74, x + 0.195, 1, (front[0] * 0.9, front[1] * 0.9, front[2] * 0.9))
    b.rect(0, 0.67, 1, 0.735, (98, 86, 78))
    x = float(r.choice([0.1, 0.86]))
    b.poly([(x - 0.06, 0.55), (x + 0.06, 0.55), (x + 0.05, 0.67), (x - 0.05, 0.67)], (96, 102, 110))
    b.line([(x + 0.06, 0.58), (x + 0.11, 0.55)], (60, 60, 62), 0.02)
    b.oval(x, 0.55, 0.08, 0.018, (126, 132, 140))


def _alley(b: Brush, r: np.random.Generator) -> None:
    b.ramp(0, 1, (176, 190, 206), (168, 170, 172))
    for side in (0, 1):
        edge, inner = (0.0, 0.36) if side == 0 else (1.0, 0.64)
        wall = _c((148, 96, 78), r)
        b.poly([(edge, 0), (inner, 0.12), (inner, 0.74), (edge, 1)], wall)
        for k in range(14):
            t = k / 14
            y0, y1 = t, 0.12 + t * 0.62
            b.line([(edge, y0), (inner, y1)], (wall[0] * 0.78, wall[1] * 0.78, wall[2] * 0.78), 0.006)
            for m in range(4):
                q = (m + 0.5 * (k % 2)) / 4
                x = edge + (inner - edge) * q
                ya, yb = y0 + (y1 - y0) * q, (y0 + 1 / 14) + (y1 + 0.62 / 14 - y0 - 1 / 14) * q
                b.line([(x, ya), (x, yb)], (wall[0] * 0.8, wall[1] * 0.8, wall[2] * 0.8), 0.005)
    b.poly([(0, 1), (0.36, 0.74), (0.64, 0.74), (1, 1)], (104, 104, 108))
    b.rect(0.36, 0.3, 0.64, 0.745, (132, 128, 126))
    b.rect(0.44, 0.46, 0.56, 0.745, (70, 60, 54))
    x = float(r.choice([0.06, 0.78]))
    b.rect(x, 0.68, x + 0.16, 0.94, (74, 96, 88))
    b.poly([(x - 0.008, 0.68), (x + 0.02, 0.63), (x + 0.148, 0.63), (x + 0.168, 0.68)], (58, 78, 72))


def _hall(b: Brush, r: np.random.Generator) -> None:
    wall = _c(((176, 152, 190), (206, 188, 150), (156, 170, 196))[int(r.integers(3))], r)
    b.ramp(0, 1, wall, (wall[0] * 0.8, wall[1] * 0.8, wall[2] * 0.8))
    b.poly([(0, 1), (0.34, 0.7), (0.66, 0.7), (1, 1)], (150, 110, 84))
    b.poly([(0.38, 1), (0.46, 0.7), (0.54, 0.7), (0.62, 1)], _c((150, 54, 60), r))
    b.rect(0.34, 0.16, 0.66, 0.7, (wall[0] * 0.9, wall[1] * 0.9, wall[2] * 0.9))
    for x0, x1, top in ((0.02, 0.1, 0.0), (0.16, 0.21, 0.06), (0.27, 0.305, 0.1)):
        for a, c in ((x0, x1), (1 - x1, 1 - x0)):
            b.rect(a, top, c, 0.94 - top * 2.2, (228, 222, 214))
            b.rect(a + (c - a) * 0.6, top, c, 0.94 - top * 2.2, (198, 190, 184))
    b.line([(0.5, 0), (0.5, 0.1)], (120, 96, 50), 0.01)
    for k in (-2, -1, 0, 1, 2):
        b.dot(0.5 + 0.035 * k, 0.12 + 0.012 * abs(k), 0.02, (255, 238, 178))


def _mountains(b: Brush, r: np.random.Generator) -> None:
    b.ramp(0, 0.75, (140, 186, 224), (228, 232, 232))
    _clouds(b, r, 2)
    for depth in range(3):
        y = 0.38 + 0.14 * depth
        pts = [(0.0, y + r.uniform(-0.06, 0.06))]
        for k in range(1, 8):
            pts.append((k / 7, y + (r.uniform(-0.16, -0.04) if k % 2 else r.uniform(0.0, 0.06)) * (1 - 0.25 * depth)))
        tone: Colour = ((150, 164, 184), (116, 138, 146), (92, 120, 96))[depth]
        b.poly([*pts, (1, 1), (0, 1)], tone)
        if depth == 0:
            for x, top in pts[1::2]:
                b.poly([(x, top), (x - 0.03, top + 0.05), (x - 0.008, top + 0.04), (x + 0.012, top + 0.055), (x + 0.03, top + 0.05)], (244, 246, 248))
    b.ramp(0.84, 1, (110, 136, 84), (84, 108, 66))
    for x in r.uniform(0, 1, 9):
        g, k = r.uniform(0.84, 0.92), r.uniform(0.1, 0.16)
        for m in range(3):
            b.poly([(x - 0.03 * (1 - 0.2 * m), g - k * 0.3 * m), (x, g - k * (0.5 + 0.3 * m)), (x + 0.03 * (1 - 0.2 * m), g - k * 0.3 * m)], (52, 84, 62))


_PAINT: dict[str, Callable[[Brush, np.random.Generator], None]] = {
    "park": _park, "street": _street, "room": _room, "office": _office, "beach": _beach, "forest": _forest,
    "kitchen": _kitchen, "alley": _alley, "hall": _hall, "mountains": _mountains,
}  # fmt: skip


# -- things: drawn at (x, y), k = half their height in picture heights, t = seconds ------------------------------------


def _thing(b: Brush, name: str, x: float, y: float, k: float, t: float, seed: int) -> None:
    a = b.h / b.w  # heights to widths
    r = np.random.default_rng(seed)

    def p(*pts: tuple[float, float]) -> list[tuple[float, float]]:
        return [(x + u * k * a, y + v * k) for u, v in pts]

    if name == "balloons":
        for n, (u, v) in enumerate(((-0.5, -0.3), (0.45, -0.45), (0.0, -0.75))):
            bob = 0.07 * np.sin(2.2 * t + n * 2 + seed)
            colour = ((226, 62, 66), (250, 190, 48), (66, 140, 220))[(n + seed) % 3]
            b.line(p((u, v + bob + 0.4), (0.05 * n, 0.5), (0.0, 1.0)), (90, 90, 96), 0.006, smooth=True)
            b.oval(*p((u, v + bob))[0], 0.36 * k, 0.44 * k, colour)
            b.oval(*p((u - 0.12, v + bob - 0.16))[0], 0.07 * k, 0.12 * k, (255, 245, 240), 20)
    elif name == "cake":
        b.poly(p((-0.8, 0.1), (0.8, 0.1), (0.75, 0.9), (-0.75, 0.9)), (244, 206, 214))
        b.poly(p((-0.85, 0.05), (0.85, 0.05), (0.85, 0.3), (0.5, 0.22), (0.25, 0.42), (0.0, 0.24), (-0.3, 0.44), (-0.55, 0.24), (-0.85, 0.34)), (255, 250, 244))
        for u in (-0.45, 0.0, 0.45):
            b.line(p((u, 0.05), (u, -0.45)), (96, 160, 220), 0.14 * k)
            b.oval(*p((u, -0.62 + 0.04 * np.sin(9 * t + 5 * u)))[0], 0.10 * k, 0.18 * k, (255, 190, 60))
    elif name == "dog":
        wag = 0.2 * np.sin(11 * t + seed)
        fur = ((196, 144, 90), (226, 214, 196), (116, 82, 60))[seed % 3]
        dark = (fur[0] * 0.68, fur[1] * 0.68, fur[2] * 0.68)
        b.line(p((0.55, 0.5), (0.85, 0.15), (0.9 + wag, -0.15)), fur, 0.16 * k, smooth=True)
        b.oval(*p((0.1, 0.55))[0], 0.6 * k, 0.45 * k, fur)
        b.oval(*p((-0.3, -0.2))[0], 0.48 * k, 0.46 * k, fur)
        for u in (-0.72, 0.1):
            b.oval(*p((u, -0.25))[0], 0.15 * k, 0.36 * k, dark, 12 if u < 0 else -12)
        b.oval(*p((-0.3, 0.0))[0], 0.24 * k, 0.18 * k, (240, 230, 214))
        b.oval(*p((-0.3, -0.08))[0], 0.10 * k, 0.07 * k, (34, 28, 30))
        b.oval(*p((-0.27, 0.18))[0], 0.08 * k, 0.12 * k, (226, 110, 120))
        for u in (-0.48, -0.12):
            b.dot(*p((u, -0.3))[0], 0.07 * k, (30, 24, 26))
    elif name == "fire":
        for scale, colour in ((1.0, (214, 56, 24)), (0.72, (246, 134, 30)), (0.42, (255, 222, 96))):
            pts = []
            for n in range(9):
                u = -0.8 + 0.2 * n
                tip = (1.0 - abs(u)) * (1.5 if n % 2 == 0 else 0.8)
                pts.append((u * scale, 0.95 - scale * tip * (1 + 0.18 * np.sin(13 * t + 2.1 * n + seed)) - 0.1))
            b.poly(p((-0.85 * scale, 0.95), *pts, (0.85 * scale, 0.95)), colour, smooth=True)
    elif name == "smashed":
        b.poly(p((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)), (74, 64, 62))
        b.poly(p((-0.76, -0.76), (0.76, -0.76), (0.76, 0.76), (-0.76, 0.76)), (176, 196, 204))
        n = 11
        hole = [
            ((0.28 if i % 2 else 0.56) * np.cos(q), (0.28 if i % 2 else 0.56) * np.sin(q))
            for i, q in enumerate(np.linspace(0, 2 * np.pi, 2 * n, endpoint=False))
        ]
        b.poly(p(*hole), (34, 26, 30))
        for q in np.linspace(0.2, 2 * np.pi + 0.2, 7, endpoint=False):
            b.line(
                p((0.4 * np.cos(q), 0.4 * np.sin(q)), (0.6 * np.cos(q + 0.2), 0.6 * np.sin(q + 0.2)), (0.76 * np.cos(q), 0.76 * np.sin(q))),
                (244, 250, 252),
                0.006,
            )
    elif name == "warning":
        b.line(p((0.0, 0.3), (0.0, 1.1)), (90, 90, 94), 0.1 * k)
        q = np.linspace(np.pi / 8, 2 * np.pi + np.pi / 8, 8, endpoint=False)
        b.poly(p(*[(0.78 * np.cos(i), -0.2 + 0.78 * np.sin(i)) for i in q]), (250, 246, 240))
        b.poly(p(*[(0.68 * np.cos(i), -0.2 + 0.68 * np.sin(i)) for i in q]), (206, 30, 30))
        b.poly(p((-0.12, -0.68), (0.12, -0.68), (0.07, -0.08), (-0.07, -0.08)), (255, 255, 255))
        b.dot(*p((0.0, 0.12))[0], 0.1 * k, (255, 255, 255))
    elif name == "slime":
        b.poly(
            p((-1.0, 0.75), (-0.6, 0.45), (-0.3, -0.35), (0.0, -0.62), (0.35, -0.3), (0.55, 0.4), (1.05, 0.7), (0.6, 0.95), (-0.6, 0.95)),
            (124, 160, 36),
            smooth=True,
        )
        for n in range(4):
            u, v = r.uniform(-0.5, 0.5), r.uniform(-0.1, 0.7)
            b.dot(*p((u, v))[0], k * (0.09 + 0.05 * np.sin(3 * t + n)), (176, 204, 84))
        b.oval(*p((-0.12, -0.2))[0], 0.1 * k, 0.2 * k, (214, 232, 140), 20)
    elif name == "rubbish":
        b.poly(p((-0.8, 0.9), (-0.9, 0.2), (-0.4, -0.5), (-0.12, -0.62), (0.3, -0.5), (0.85, 0.15), (0.8, 0.9)), (52, 56, 50), smooth=True)
        b.poly(p((-0.2, -0.55), (-0.4, -0.95), (0.0, -0.78), (0.4, -0.95), (0.22, -0.55)), (64, 68, 60))
        b.line(p((-0.4, -0.2), (-0.55, 0.3), (-0.5, 0.7)), (96, 100, 90), 0.04 * k, smooth=True)
        b.oval(*p((0.75, 0.85))[0], 0.3 * k, 0.1 * k, (138, 150, 48))
        b.line(p((0.35, 0.6), (0.9, 0.72)), (226, 216, 160), 0.12 * k)
    elif name == "fishbone":
        b.oval(*p((0.0, 0.45))[0], 1.0 * k, 0.26 * k, (206, 206, 196))
        b.oval(*p((0.0, 0.42))[0], 0.8 * k, 0.18 * k, (180, 178, 160))
        b.line(p((-0.6, 0.3), (0.7, 0.3)), (244, 240, 222), 0.08 * k)
        for u in (-0.25, 0.02, 0.29):
            b.line(p((u - 0.06, -0.02), (u, 0.3), (u - 0.06, 0.6)), (244, 240, 222), 0.06 * k)
        b.poly(p((-0.95, 0.3), (-0.6, 0.02), (-0.5, 0.3), (-0.6, 0.58)), (236, 230, 206))
        b.poly(p((0.65, 0.3), (0.95, 0.02), (0.88, 0.3), (0.95, 0.58)), (236, 230, 206))
        b.dot(*p((-0.7, 0.24))[0], 0.06 * k, (40, 40, 40))
        for u in (-0.4, 0.1, 0.5):
            sway = 0.1 * np.sin(3 * t + 4 * u)
            b.line(p((u, -0.2), (u + 0.12 + sway, -0.5), (u - 0.1 - sway, -0.75), (u + 0.05, -1.0)), (122, 150, 40), 0.06 * k, smooth=True)
    elif name == "spider":
        drop = 0.12 * np.sin(1.7 * t + seed)
        b.line(p((0.0, -6.0), (0.0, drop)), (214, 218, 226), 0.006)
        for side in (-1, 1):
            for n in range(4):
                kick = 0.08 * np.sin(7 * t + n)
                v = -0.45 + 0.32 * n
                b.line(p((side * 0.2, drop + 0.1), (side * 0.62, drop + v - 0.25 + kick), (side * 0.95, drop + v + 0.35)), (14, 12, 16), 0.09 * k)
        b.oval(*p((0.0, drop + 0.35))[0], 0.36 * k, 0.44 * k, (20, 16, 20))
        b.dot(*p((0.0, drop - 0.1))[0], 0.25 * k, (28, 22, 28))
        b.poly(p((-0.1, drop + 0.2), (0.1, drop + 0.2), (0.0, drop + 0.38), (0.1, drop + 0.56), (-0.1, drop + 0.56), (0.0, drop + 0.38)), (206, 26, 30))
        for u in (-0.1, 0.1):
            b.dot(*p((u, drop - 0.16))[0], 0.06 * k, (232, 60, 50))
    elif name == "bat":
        flap = 0.45 * np.sin(12 * t + seed)
        for side in (-1, 1):
            wing = (
                (0.12, -0.1),
                (0.55, -0.35 - flap),
                (1.15, -0.1 - flap),
                (0.92, 0.12 - 0.5 * flap),
                (0.72, 0.02 - 0.4 * flap),
                (0.5, 0.25 - 0.2 * flap),
                (0.32, 0.1),
                (0.12, 0.3),
            )
            b.poly(p(*[(side * u, v) for u, v in wing]), (18, 14, 24))
            b.poly(p((side * 0.03, -0.2), (side * 0.16, -0.52), (side * 0.2, -0.15)), (18, 14, 24))
            b.dot(*p((side * 0.08, -0.12))[0], 0.045 * k, (250, 210, 60))
        b.oval(*p((0.0, 0.05))[0], 0.2 * k, 0.34 * k, (24, 20, 30))
        b.dot(*p((0.0, -0.14))[0], 0.19 * k, (24, 20, 30))
        for side in (-1, 1):
            b.dot(*p((side * 0.08, -0.16))[0], 0.05 * k, (250, 210, 60))
    elif name == "eyes":
        b.oval(*p((0.0, 0.0))[0], 1.05 * k, 0.8 * k, (8, 8, 14))
        wide = 0.4 + 0.6 * (np.sin(1.3 * t + seed) > -0.92)
        for side in (-1, 1):
            b.poly(p((side * 0.12, 0.08), (side * 0.4, -0.34 * wide), (side * 0.78, -0.22 * wide), (side * 0.55, 0.2 * wide)), (252, 226, 70), smooth=True)
            b.oval(*p((side * 0.44, -0.03))[0], 0.05 * k, 0.2 * k * wide, (10, 8, 8))
    elif name == "clock":
        b.dot(x, y, 0.86 * k, (70, 70, 74))
        b.dot(x, y, 0.76 * k, (246, 246, 242))
        for q in np.linspace(0, 2 * np.pi, 12, endpoint=False):
            b.line(p((0.6 * np.cos(q), 0.6 * np.sin(q)), (0.7 * np.cos(q), 0.7 * np.sin(q))), (60, 60, 62), 0.05 * k)
        q = 0.6 * seed + 0.1 * np.floor(t)
        b.line(p((0.0, 0.0), (0.42 * np.cos(0.3 * seed), 0.42 * np.sin(0.3 * seed))), (40, 40, 44), 0.09 * k)
        b.line(p((0.0, 0.0), (0.6 * np.cos(q), 0.6 * np.sin(q))), (40, 40, 44), 0.05 * k)
    elif name == "plant":
        for q in np.linspace(-2.6, -0.5, 6):
            b.oval(
                *p((0.4 * np.cos(q), 0.1 + 0.62 * np.sin(q)))[0],
                0.42 * k,
                0.13 * k,
                (96, 132, 92) if int(q * 10) % 2 else (112, 148, 104),
                float(np.degrees(q)),
            )
        b.poly(p((-0.42, 0.15), (0.42, 0.15), (0.32, 0.95), (-0.32, 0.95)), (176, 128, 104))
        b.poly(p((-0.48, 0.1), (0.48, 0.1), (0.48, 0.28), (-0.48, 0.28)), (190, 142, 116))
    elif name == "books":
        b.poly(p((-1.0, 0.8), (1.0, 0.8), (1.0, 0.95), (-1.0, 0.95)), (132, 104, 76))
        u = -0.9
        for n in range(7):
            width, tall = r.uniform(0.16, 0.3), r.uniform(0.9, 1.4)
            colour = ((142, 120, 112), (112, 128, 146), (150, 148, 124), (106, 122, 112))[n % 4]
            if u + width < 0.95:
                b.poly(p((u, 0.8), (u, 0.8 - tall), (u + width - 0.02, 0.8 - tall), (u + width - 0.02, 0.8)), colour)
                b.line(p((u + 0.04, 0.95 - tall), (u + width - 0.06, 0.95 - tall)), (222, 214, 196), 0.05 * k)
            u += width
    elif name == "wilted":
        b.poly(p((-0.3, 0.25), (0.3, 0.25), (0.22, 0.95), (-0.22, 0.95)), (132, 118, 116))
        b.line(p((0.0, 0.25), (0.0, -0.4), (0.25, -0.72), (0.55, -0.45), (0.62, -0.15)), (104, 112, 84), 0.07 * k, smooth=True)
        for q in np.linspace(0.2, 2.9, 5):
            b.oval(*p((0.62 + 0.2 * np.cos(q), -0.05 + 0.22 * np.sin(q)))[0], 0.2 * k, 0.09 * k, (134, 110, 138), float(np.degrees(q)))
        b.dot(*p((0.62, -0.08))[0], 0.12 * k, (110, 92, 70))
        for u, v in ((-0.6, 0.9), (0.7, 0.88)):
            b.oval(*p((u, v))[0], 0.17 * k, 0.07 * k, (134, 110, 138), 20)
        b.oval(*p((-0.22, -0.02))[0], 0.26 * k, 0.08 * k, (104, 112, 84), 60)
    elif name == "cup":
        b.poly(
            p((-0.7, -0.35), (-0.45, -0.15), (-0.35, -0.45), (-0.1, -0.05), (0.1, -0.5), (0.3, -0.15), (0.5, -0.4), (0.4, 0.7), (-0.55, 0.7)), (206, 212, 222)
        )
        b.line(p((0.45, -0.1), (0.85, 0.0), (0.8, 0.4), (0.42, 0.45)), (206, 212, 222), 0.12 * k, smooth=True)
        b.line(p((0.0, -0.05), (-0.12, 0.2), (0.06, 0.4), (-0.05, 0.7)), (82, 88, 98), 0.05 * k)
        b.poly(p((0.55, 0.62), (0.95, 0.55), (0.8, 0.85)), (192, 198, 210))
        b.poly(p((-0.95, 0.8), (-0.7, 0.6), (-0.62, 0.85)), (192, 198, 210))
        b.oval(*p((0.15, 0.86))[0], 0.75 * k, 0.13 * k, (92, 84, 86))
    elif name == "grave":
        b.poly(p((-0.6, 0.9), (-0.6, -0.3), (-0.42, -0.78), (0.0, -0.95), (0.42, -0.78), (0.6, -0.3), (0.6, 0.9)), (122, 126, 134))
        b.poly(p((-0.5, 0.9), (-0.5, -0.28), (-0.35, -0.7), (0.0, -0.85), (0.3, -0.72), (0.3, 0.9)), (146, 150, 158))
        b.line(p((0.0, -0.62), (0.0, 0.1)), (92, 96, 104), 0.1 * k)
        b.line(p((-0.25, -0.36), (0.25, -0.36)), (92, 96, 104), 0.1 * k)
        b.oval(*p((0.0, 0.92))[0], 0.9 * k, 0.13 * k, (74, 84, 76))
    elif name == "gift":
        jump = 0.12 * abs(np.sin(3.5 * t + seed))
        box = ((214, 50, 120), (110, 76, 206), (32, 164, 176))[seed % 3]
        b.poly(p((-0.7, 0.0), (0.7, 0.0), (0.65, 0.95), (-0.65, 0.95)), box)
        b.poly(p((-0.14, 0.0), (0.14, 0.0), (0.14, 0.95), (-0.14, 0.95)), (255, 226, 80))
        b.poly(
            p((-0.8, -0.3 - jump), (0.78, -0.42 - jump), (0.8, -0.14 - jump), (-0.78, -0.02 - jump)),
            (min(255, box[0] * 1.2), min(255, box[1] * 1.2), min(255, box[2] * 1.2)),
        )
        for side in (-1, 1):
            b.oval(*p((side * 0.26, -0.52 - jump))[0], 0.28 * k, 0.15 * k, (255, 226, 80), side * 25)
        for n in range(5):
            q = -2.6 + 0.52 * n
            b.line(p((0.8 * np.cos(q), -0.3 + 0.75 * np.sin(q)), (1.05 * np.cos(q), -0.3 + 1.0 * np.sin(q))), (255, 246, 150), 0.07 * k)
    elif name == "firework":
        grow = (0.7 * t + 0.37 * seed) % 1.0
        for n, q in enumerate(np.linspace(0, 2 * np.pi, 14, endpoint=False)):
            colour = ((255, 90, 170), (255, 220, 70), (90, 220, 255))[n % 3]
            d0, d1 = 0.15 + 0.35 * grow, 0.45 + 0.55 * grow
            b.line(p((d0 * np.cos(q), d0 * np.sin(q)), (d1 * np.cos(q), d1 * np.sin(q))), colour, 0.08 * k)
            b.dot(*p((d1 * np.cos(q), d1 * np.sin(q)))[0], 0.08 * k, (255, 255, 240))
    elif name == "jack":
        sway = 0.14 * np.sin(5 * t + seed)
        b.poly(p((-0.6, 0.25), (0.6, 0.25), (0.6, 0.95), (-0.6, 0.95)), (70, 120, 220))
        b.poly(p((0.0, 0.32), (0.28, 0.6), (0.0, 0.88), (-0.28, 0.6)), (255, 214, 70))
        b.line(p((0.0, 0.25), (0.18, 0.12), (-0.18 + sway * 0.5, 0.0), (0.18 + sway, -0.12), (0.0 + sway, -0.22)), (120, 124, 130), 0.07 * k)
        b.dot(*p((sway, -0.52))[0], 0.34 * k, (255, 226, 200))
        b.poly(p((-0.36 + sway, -0.66), (0.36 + sway, -0.66), (0.1 + sway, -1.12)), (226, 60, 150))
        b.dot(*p((sway + 0.1, -1.12))[0], 0.09 * k, (255, 240, 120))
        for u in (-0.12, 0.12):
            b.dot(*p((u + sway, -0.56))[0], 0.05 * k, (30, 26, 30))
        b.oval(*p((sway, -0.36))[0], 0.09 * k, 0.09 * k, (190, 40, 60))


DECOY_THINGS = ("ball", "lamp", "chair")


def _decoy(b: Brush, name: str, x: float, y: float, k: float) -> None:
    """Things without an emotion, told apart by nothing but what they are."""
    a = b.h / b.w

    def p(*pts: tuple[float, float]) -> list[tuple[float, float]]:
        return [(x + u * k * a, y + v * k) for u, v in pts]

    if name == "ball":
        b.dot(x, y, 0.7 * k, (186, 174, 158))
        b.line(p((-0.7, 0.0), (0.0, 0.2), (0.7, 0.0)), (126, 116, 104), 0.07 * k, smooth=True)
        b.line(p((0.0, -0.7), (0.15, 0.0), (0.0, 0.7)), (126, 116, 104), 0.07 * k, smooth=True)
    elif name == "lamp":
        b.line(p((0.0, 0.9), (0.0, -0.2)), (110, 104, 98), 0.1 * k)
        b.oval(*p((0.0, 0.92))[0], 0.4 * k, 0.1 * k, (110, 104, 98))
        b.poly(p((-0.3, -0.85), (0.3, -0.85), (0.6, -0.1), (-0.6, -0.1)), (214, 204, 182))
    else:
        for u in (-0.45, 0.45):
            b.line(p((u, 0.1), (u, 0.95)), (126, 100, 76), 0.12 * k)
        b.poly(p((-0.55, -0.9), (0.55, -0.9), (0.5, 0.0), (-0.5, 0.0)), (150, 122, 94))
        b.poly(p((-0.6, 0.0), (0.6, 0.0), (0.7, 0.25), (-0.7, 0.25)), (138, 110, 84))


class Scene:
    """One clip's surroundings. :meth:`frame` draws them at a time in seconds, without the person.

    ``size`` (w, h). ``shows`` = the emotion whose mood the scene has. ``spots`` = (x, y, k) of every thing; the first
    ones carry the evidence. With ``one_spot`` nothing but the thing at ``spots[0]`` does: colours and weather are
    those of a plain day, and the other spots hold decoys. ``walkers`` = how many people pass behind.
    """

    def __init__(
        self,
        size: tuple[int, int],
        place: str,
        shows: str,
        spots: tuple[tuple[float, float, float], ...],
        rng: np.random.Generator,
        *,
        one_spot: bool = False,
        walkers: int = 0,
    ) -> None:
        self.w, self.h = size
        self.mood = MOODS[shows]
        self.one_spot = one_spot
        big = np.empty((self.h * 2, self.w * 2, 3), np.uint8)
        big[:] = 128
        _PAINT[place](Brush(big), rng)
        base = cv2.resize(big, size, interpolation=cv2.INTER_AREA)
        base = cv2.GaussianBlur(base, (0, 0), max(0.3, 0.0045 * self.h))  # a little out of focus
        self.weather = "none" if one_spot else self.mood.weather
        mood = MOODS["neutral"] if one_spot else self.mood
        amount = mood.amount * (0.3 if one_spot else rng.uniform(0.75, 1.15))
        grey = cv2.cvtColor(base, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
        picture = grey + (base.astype(np.float32) - grey) * (0.9 if one_spot else mood.saturation * rng.uniform(0.9, 1.1))
        picture = picture * (1 - amount) + np.array(mood.tint, np.float32) * (0.35 + 0.65 * grey / 255) * amount
        ys, xs = np.mgrid[0 : self.h, 0 : self.w].astype(np.float32)
        ys, xs = ys / self.h - 0.5, xs / self.w - 0.5
        picture *= (mood.light * rng.uniform(0.93, 1.07) * (1 - mood.vignette * 2.0 * (xs**2 + ys**2)))[..., None]
        if self.weather == "sunshine":
            corner = np.hypot(xs - rng.choice([-0.42, 0.42]), ys + 0.42)
            picture += (np.exp(-((corner / 0.34) ** 2))[..., None]) * np.array([96, 76, 30], np.float32)
        self.base: Picture = picture.clip(0, 255).astype(np.uint8)
        names = [self.mood.things[int(i)] for i in rng.permutation(3)]
        self.things = [(names[i % 3], s, int(rng.integers(1, 9))) for i, s in enumerate(spots[: 1 if one_spot else len(spots)])]
        if one_spot:
            for s in spots[1:]:
                _decoy(Brush(self.base), str(rng.choice(DECOY_THINGS)), *s)
        self.bits: NDArray[np.float64] = rng.random((70, 4))
        self.walkers = [(rng.random(), rng.choice([-1, 1]) * rng.uniform(0.1, 0.3), rng.uniform(0.5, 0.7), rng.uniform(50, 110)) for _ in range(walkers)]
        self.fog: Picture | None = None
        if self.weather == "mist":
            noise = cv2.resize(rng.random((5, 9)).astype(np.float32), (self.w * 2, self.h), interpolation=cv2.INTER_CUBIC)
            self.fog = (noise.clip(0, 1) * 70).astype(np.uint8)

    def frame(self, t: float) -> Picture:
        """The scene ``t`` seconds into the clip: (h, w, 3) RGB uint8."""
        img = self.base.copy()
        b = Brush(img)
        for x0, speed, tall, tone in self.walkers:
            x = (x0 + speed * t + 0.1) % 1.2 - 0.1
            self._walker(b, x, tall, tone, t)
        for name, (x, y, k), seed in self.things:
            _thing(b, name, x, y, k, t, seed)
        self._sky(b, t)
        return img

    def _walker(self, b: Brush, x: float, tall: float, tone: float, t: float) -> None:
        a = b.h / b.w
        c: Colour = (tone, tone * 1.02, tone * 1.1)
        top, stride = 0.95 - tall, 0.05 * np.sin(7 * t + 9 * tone)
        b.poly(
            [
                (x - 0.09 * a, 0.72),
                (x - 0.10 * a, top + 0.16),
                (x - 0.06 * a, top + 0.12),
                (x + 0.06 * a, top + 0.12),
                (x + 0.10 * a, top + 0.16),
                (x + 0.09 * a, 0.72),
            ],
            c,
            smooth=True,
        )
        b.line([(x - 0.03 * a, 0.7), (x - (0.03 + stride) * a, 0.98)], c, 0.05)
        b.line([(x + 0.03 * a, 0.7), (x + (0.03 + stride) * a, 0.98)], c, 0.05)
        b.dot(x, top + 0.055, 0.06, c)

    def _sky(self, b: Brush, t: float) -> None:
        q = self.bits
        if self.weather == "rain":
            layer = b.img.copy()
            for x, y, u, v in q[:60]:
                fall = (y + (1.5 + 0.7 * u) * t) % 1.1 - 0.05
                b2 = Brush(layer)
                b2.line([(x, fall), (x - 0.008, fall + 0.05 + 0.04 * v)], (206, 216, 228), 0.004)
            cv2.addWeighted(layer, 0.6, b.img, 0.4, 0, b.img)
        elif self.weather == "confetti":
            for i, (x, y, u, v) in enumerate(q[:46]):
                fall = (y + (0.22 + 0.2 * u) * t) % 1.06 - 0.03
                colour = ((250, 80, 150), (255, 214, 60), (70, 200, 240), (130, 230, 110), (255, 255, 255))[i % 5]
                b.oval((x + 0.015 * np.sin(5 * t + 6 * v)) % 1, fall, 0.016, 0.016 * abs(np.cos(4 * t + 6 * u)) + 0.004, colour, 180 * v)
        elif self.weather == "flies":
            for x, y, u, v in q[:9]:
                fx = x + 0.05 * np.sin(5 * t * (0.6 + u) + 7 * v)
                fy = y * 0.9 + 0.06 * np.sin(7 * t * (0.6 + v) + 6 * u)
                b.dot(fx, fy, 0.011, (26, 26, 22))
                for side in (-1, 1):
                    b.oval(fx + side * 0.009, fy - 0.008, 0.011, 0.005, (196, 200, 190), side * 35)
        elif self.weather == "embers":
            for x, y, u, v in q[:30]:
                rise = 1.03 - (y + (0.25 + 0.35 * u) * t) % 1.06
                b.dot((x + 0.02 * np.sin(4 * t + 7 * v)) % 1, rise, 0.005 + 0.006 * v, (255, 150 + 70 * u, 50))
        elif self.weather == "mist" and self.fog is not None:
            shift = int((0.06 * t * self.w) % self.w)
            a = self.fog[:, shift : shift + self.w]
            cv2.add(b.img, cv2.merge((a // 2, a // 2 + a // 8, (a * 0.66).astype(np.uint8))), b.img)
        elif self.weather == "sunshine":
            for x, y, u, v in q[:10]:
                glow = 0.5 + 0.5 * np.sin(2 * t + 9 * u)
                b.dot(x, y * 0.9, 0.004 + 0.006 * v * glow, (255, 250, 214))
