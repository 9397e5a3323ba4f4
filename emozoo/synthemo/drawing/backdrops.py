"""Drawn backdrops: a street, a kitchen, a beach and so on.

Coordinates: x 0..1 of the width, y 0..1 of the height, radii in heights."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from emozoo.synthemo.drawing.draw import Canvas, Colour, Points, curve, disc, fill, stroke


class Brush:
    """An image to draw on, in the coordinates of this module."""

    def __init__(self, img: Canvas) -> None:
        self.img = img
        self.h, self.w = img.shape[:2]

    def px(self, points: list[tuple[float, float]] | Points) -> Points:
        """Points in pixels."""
        return np.asarray(points, float) * np.array([self.w, self.h])

    def poly(self, points: list[tuple[float, float]], colour: Colour, smooth: bool = False) -> None:
        """A filled polygon, or with ``smooth`` a closed curve."""
        p = self.px(points)
        fill(self.img, curve(p) if smooth else p, colour)

    def line(self, points: list[tuple[float, float]], colour: Colour, width: float, smooth: bool = False) -> None:
        """A line through the points; ``width`` in heights."""
        p = self.px(points)
        stroke(self.img, curve(p, closed=False) if smooth else p, colour, width * self.h)

    def dot(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A disc; ``radius`` in heights."""
        disc(self.img, x * self.w, y * self.h, radius * self.h, colour)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour, angle: float = 0.0) -> None:
        """A filled ellipse; radii in heights, ``angle`` in degrees."""
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
        """A filled rectangle."""
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def ramp(self, y0: float, y1: float, top: Colour, bottom: Colour) -> None:
        """A vertical gradient over the whole width."""
        a, b = round(y0 * self.h), round(y1 * self.h)
        t = np.linspace(0, 1, max(1, b - a))[:, None, None]
        self.img[a:b] = (np.array(top) * (1 - t) + np.array(bottom) * t).astype(np.uint8)


def _c(base: Colour, r: np.random.Generator, by: float = 14) -> Colour:
    d = r.uniform(-by, by)
    return (
        float(np.clip(base[0] + d, 0, 255)),
        float(np.clip(base[1] + d, 0, 255)),
        float(np.clip(base[2] + d, 0, 255)),
    )


def _clouds(b: Brush, r: np.random.Generator, count: int) -> None:
    for _ in range(count):
        x, y, k = r.uniform(0, 1), r.uniform(0.05, 0.3), r.uniform(0.03, 0.06)
        for dx, dy, m in ((-1.6, 0.3, 0.7), (-0.6, -0.2, 1.0), (0.5, -0.1, 1.1), (1.5, 0.3, 0.75), (0, 0.35, 1.0)):
            b.dot(x + dx * k * b.h / b.w, y + dy * k, m * k, (244, 247, 250))


def _tree(
    b: Brush, r: np.random.Generator, x: float, ground: float, size: float, leaf: Colour, trunk: Colour = (96, 68, 46)
) -> None:
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
        b.dot(
            x + d * np.cos(q) * a - 0.03 * size * (k / 16) * a,
            ground - up,
            r.uniform(0.12, 0.2) * size,
            (leaf[0] * shade, leaf[1] * shade, leaf[2] * shade),
        )


def _park(b: Brush, r: np.random.Generator) -> None:
    b.ramp(0, 0.6, (118, 178, 226), (206, 230, 240))
    _clouds(b, r, 3)
    b.poly([(0, 0.58), (0.25, 0.5), (0.5, 0.56), (0.8, 0.48), (1, 0.55), (1, 1), (0, 1)], (118, 168, 110))
    b.ramp(0.6, 1.0, (126, 180, 92), (74, 132, 62))
    b.poly([(0.42, 1), (0.5, 0.62), (0.54, 0.62), (0.74, 1)], (206, 190, 156))
    for x in sorted(r.uniform(0, 1, 5)):
        _tree(b, r, float(x), float(r.uniform(0.6, 0.72)), float(r.uniform(0.4, 0.62)), _c((84, 146, 66), r, 22))
    for _ in range(26):
        b.dot(
            r.uniform(0, 1),
            r.uniform(0.72, 1),
            r.uniform(0.006, 0.011),
            (250, 236, 150) if r.random() < 0.5 else (246, 246, 246),
        )


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
        b.poly(
            [(0.22 * k, 0.925), (0.22 * k + 0.11, 0.925), (0.22 * k + 0.10, 0.94), (0.22 * k - 0.01, 0.94)],
            (220, 214, 190),
        )
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
    b.img[a:c, round(x0 * b.w) : round(x1 * b.w)] = (
        np.array((148, 196, 232)) * (1 - t) + np.array((222, 236, 240)) * t
    ).astype(np.uint8)
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
    b.poly(
        [(px + 0.012, 0.342), (px + 0.06, 0.23), (px + 0.09, 0.28), (px + 0.12, 0.2), (px + 0.148, 0.342)],
        _c((96, 124, 108), r, 30),
    )
    sofa = _c(((120, 92, 84), (86, 104, 124), (132, 122, 92))[int(r.integers(3))], r)
    b.poly([(0.02, 0.98), (0.0, 0.66), (0.06, 0.6), (0.94, 0.6), (1.0, 0.66), (0.98, 0.98)], sofa)
    b.poly(
        [(0.07, 0.8), (0.07, 0.66), (0.5, 0.645), (0.93, 0.66), (0.93, 0.8)],
        (sofa[0] * 1.15, sofa[1] * 1.15, sofa[2] * 1.15),
    )
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
    b.poly(
        [(0, 0.695), (0.3, 0.725), (0.6, 0.685), (1, 0.735), (1, 0.75), (0.6, 0.70), (0.3, 0.74), (0, 0.71)],
        (250, 250, 246),
    )
    x = float(r.choice([0.1, 0.9]))
    side = 1 if x < 0.5 else -1
    b.line([(x, 0.85), (x + side * 0.01, 0.6), (x + side * 0.03, 0.34)], (132, 98, 62), 0.028, smooth=True)
    for q in np.linspace(-2.9, -0.2, 7):
        cx, cy = x + side * 0.03, 0.33
        b.line(
            [
                (cx, cy),
                (cx + 0.07 * np.cos(q), cy + 0.1 * np.sin(q)),
                (cx + 0.15 * np.cos(q), cy + 0.04 + 0.12 * np.sin(q) * 0.6),
            ],
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
            b.poly(
                [
                    (x - width, 0.76 + 0.07 * depth),
                    (x - 0.6 * width, 0),
                    (x + 0.6 * width, 0),
                    (x + width, 0.76 + 0.07 * depth),
                ],
                colour,
            )
            for _ in range(3):
                y, side = r.uniform(0.05, 0.5), r.choice([-1, 1])
                b.line(
                    [(x, y), (x + side * 0.05, y - 0.06), (x + side * 0.09, y - 0.08)],
                    colour,
                    0.012 + 0.003 * depth,
                    smooth=True,
                )
        for _ in range(16):
            leaf = 1 - 0.2 * depth
            b.dot(
                r.uniform(0, 1),
                r.uniform(-0.04, 0.2),
                r.uniform(0.05, 0.1),
                _c((96 * leaf, 132 * leaf, 84 * leaf), r, 12),
            )


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
        steps = [r.uniform(-0.16, -0.04) if k % 2 else r.uniform(0.0, 0.06) for k in range(1, 8)]
        pts += [(k / 7, y + step * (1 - 0.25 * depth)) for k, step in enumerate(steps, 1)]
        tone: Colour = ((150, 164, 184), (116, 138, 146), (92, 120, 96))[depth]
        b.poly([*pts, (1, 1), (0, 1)], tone)
        if depth == 0:
            for x, top in pts[1::2]:
                b.poly(
                    [
                        (x, top),
                        (x - 0.03, top + 0.05),
                        (x - 0.008, top + 0.04),
                        (x + 0.012, top + 0.055),
                        (x + 0.03, top + 0.05),
                    ],
                    (244, 246, 248),
                )
    b.ramp(0.84, 1, (110, 136, 84), (84, 108, 66))
    for x in r.uniform(0, 1, 9):
        g, tall = r.uniform(0.84, 0.92), r.uniform(0.1, 0.16)
        for m in range(3):
            b.poly(
                [
                    (x - 0.03 * (1 - 0.2 * m), g - tall * 0.3 * m),
                    (x, g - tall * (0.5 + 0.3 * m)),
                    (x + 0.03 * (1 - 0.2 * m), g - tall * 0.3 * m),
                ],
                (52, 84, 62),
            )


PAINT: dict[str, Callable[[Brush, np.random.Generator], None]] = {
    "park": _park, "street": _street, "room": _room, "office": _office, "beach": _beach, "forest": _forest,
    "kitchen": _kitchen, "alley": _alley, "hall": _hall, "mountains": _mountains,
}  # fmt: skip

BACKDROPS = tuple(PAINT)
