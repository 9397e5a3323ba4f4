"""Hair, scarf, ears, glasses and what covers a part of the face."""

from __future__ import annotations

import math

import cv2
import numpy as np

from emozoo.synthemo.drawing.draw import Canvas, blend, curve, disc, fill, scaled, stroke
from emozoo.synthemo.drawing.skull import Skull, mirrored

# Right halves (mirrored) of what hangs behind the head.
_BEHIND: dict[str, list[tuple[float, float]]] = {
    "long": [(0, -1.68), (0.75, -1.5), (1.14, -0.9), (1.2, 0), (1.27, 0.9), (1.2, 1.7), (0.8, 1.95), (0.45, 1.5)],
    "waves": [(0, -1.68), (0.78, -1.5), (1.2, -0.9), (1.16, -0.2), (1.34, 0.4), (1.22, 0.95), (1.36, 1.45), (0.9, 1.7),
              (0.5, 1.3)],
    "bob": [(0, -1.66), (0.75, -1.5), (1.15, -0.95), (1.2, -0.1), (1.22, 0.62), (1.02, 0.98), (0.7, 0.95), (0.5, 0.7)],
    "scarf": [(0, -1.66), (0.75, -1.5), (1.12, -0.95), (1.16, 0), (1.08, 0.8), (0.95, 1.5), (1.3, 2.1), (0.4, 2.3)],
}  # fmt: skip
# Whole outlines of what falls over the forehead; those of one half are mirrored.
_SHORT = [(-1.03, -0.30), (-1.12, -0.85), (-0.88, -1.42), (-0.3, -1.70), (0.35, -1.72), (0.9, -1.44), (1.12, -0.85),
          (1.03, -0.30), (0.93, -0.42), (0.90, -0.72), (0.72, -0.98), (0.35, -1.05), (-0.1, -1.0), (-0.45, -1.12),
          (-0.78, -0.96), (-0.90, -0.70), (-0.93, -0.42)]  # fmt: skip
_PARTED = [(-1.02, -0.25), (-1.13, -0.85), (-0.9, -1.45), (-0.3, -1.72), (0.35, -1.78), (0.95, -1.47), (1.13, -0.8),
           (1.02, -0.25), (0.94, -0.45), (0.84, -0.80), (0.52, -0.98), (0.05, -1.08), (-0.42, -1.28), (-0.62, -1.05),
           (-0.84, -0.82), (-0.93, -0.5)]  # fmt: skip
_CURLY = [(-1.08, -0.2), (-1.26, -0.6), (-1.18, -1.1), (-0.95, -1.52), (-0.4, -1.82), (0.35, -1.84), (0.95, -1.55),
          (1.2, -1.1), (1.26, -0.6), (1.08, -0.2), (0.93, -0.55), (0.80, -0.92), (0.4, -1.02), (0.0, -0.98),
          (-0.4, -1.05), (-0.80, -0.90), (-0.93, -0.55)]  # fmt: skip
_OVER: dict[str, list[tuple[float, float]]] = {
    "short": _SHORT, "parted": _PARTED, "curly": _CURLY,
    "buzz": [(0, -1.60), (0.4, -1.54), (0.82, -1.28), (1.03, -0.85), (1.0, -0.35), (0.94, -0.5), (0.88, -0.8),
             (0.68, -1.04), (0.25, -1.12), (0, -1.13)],
    "long": [(0, -1.72), (0.72, -1.55), (1.1, -1.0), (1.2, -0.3), (1.16, 0.5), (0.93, 0.75), (0.95, 0.0),
             (0.86, -0.6), (0.52, -1.06), (0, -1.30)],
    "bob": [(0, -1.7), (0.72, -1.55), (1.1, -1.0), (1.2, -0.2), (1.18, 0.62), (0.9, 0.7), (0.97, 0.0), (0.92, -0.5),
            (0.78, -0.74), (0.4, -0.74), (0, -0.72)],
    "bun": [(0, -1.63), (0.32, -1.61), (0.86, -1.36), (1.09, -0.8), (1.0, -0.25), (0.94, -0.45), (0.86, -0.85),
            (0.55, -1.14), (0, -1.24)],
}  # fmt: skip
_OVER["waves"] = _OVER["long"]
_WHOLE = ("short", "parted", "curly")
_PARTING = {"parted": (-0.45, -1.35), "bob": (0.0, -1.65), "long": (0.0, -1.5), "waves": (0.2, -1.5)}
_SCARF = [(0.0, -1.68), (0.72, -1.5), (1.08, -0.95), (1.16, -0.2), (1.08, 0.75), (0.7, 1.45), (0.0, 1.72)]


def behind(k: Skull) -> Canvas:
    """Hair behind the head, and the ears."""
    w, s = k.who, k.s
    img = k.canvas()
    shift = -k.sin_yaw * 0.25 * s
    if w.style in _BEHIND:
        shape = k.flat(curve(mirrored(_BEHIND[w.style]))) + [-k.sin_yaw * 0.12 * s, 0]
        fill(img, shape, scaled(w.cloth2, 0.8) if w.style == "scarf" else scaled(w.hair, 0.72))
        if w.style != "scarf":
            inside = k.mask()
            fill(inside, shape, 255)
            _strands(k, img, (0.0, -1.6), 70, inside, 1.3)
    elif w.style == "bun":
        knot = k.flat([(0.0, -1.72)])[0]
        disc(img, knot[0], knot[1], 0.36 * s, scaled(w.hair, 0.85))
        for q in np.linspace(0.3, 2.8, 5):
            arc = [(0.30 * math.cos(q + d), -1.72 - 0.30 * math.sin(q + d) * 0.9) for d in (-0.5, 0.0, 0.5)]
            stroke(img, k.flat(curve(arc, closed=False)), scaled(w.hair, 1.15), 0.02 * s)
    if w.style not in ("scarf", "bob"):
        for side in (-1, 1):
            ear = [(side * 0.93, -0.22), (side * 1.08, -0.25), (side * 1.12, -0.02), (side * 1.04, 0.24)]
            fill(img, k.flat(curve([*ear, (side * 0.93, 0.28)])) + [shift, 0], scaled(w.skin, 0.84))
            bowl = [(side * 0.98, -0.12), (side * 1.05, -0.12), (side * 1.05, 0.05), (side * 0.99, 0.16)]
            fill(img, k.flat(curve(bowl)) + [shift, 0], blend(scaled(w.skin, 0.64), (120, 40, 30), 0.15))
    return img


def before(k: Skull, occluder: str) -> Canvas:
    """Hair over the forehead, scarf, glasses, and the ``occluder``: "" or a cover of "eyes" or "mouth"."""
    w = k.who
    img = k.canvas()
    if w.style == "scarf":
        _scarf(k, img)
    elif w.style != "bald":
        shape = np.array(_OVER[w.style]) if w.style in _WHOLE else mirrored(_OVER[w.style])
        line = curve(shape)
        line[:, 0] += np.where(line[:, 1] > -1.3, 0.11 * k.sin_yaw, 0.0)
        inside = k.mask()
        fill(img, k.flat(line), w.hair)
        fill(inside, k.flat(line), 255)
        if w.style == "curly":
            _curls(k, img)
        elif w.style == "buzz":
            rows = np.clip(1.1 - 0.45 * np.exp(-(((k.axes()[1] + 1.02) / 0.12) ** 2)), 0.75, 1)
            img[:] = img * rows[..., None]
        else:
            _strands(k, img, _PARTING.get(w.style, (0.0, -1.42)), 110, inside)
        _gloss(k, img)
    if occluder == "eyes" or w.glasses != "none":
        _glasses(k, img, dark=occluder == "eyes")
    if occluder == "mouth":
        _cover(k, img)
    return img


def _strands(
    k: Skull, img: Canvas, centre: tuple[float, float], count: int, inside: Canvas, spread: float = 1.0
) -> None:
    """Fine hair lines running from a parting over the shape ``inside``."""
    r = k.rng
    layer = img.copy()
    for _ in range(count):
        angle = r.uniform(-np.pi, 0.25 * np.pi) + (np.pi / 2 if r.random() < 0.3 else 0)
        x0, y0 = centre[0] + r.normal(0, 0.05), centre[1] + r.normal(0, 0.03)
        reach = r.uniform(0.7, 1.9)
        dx, dy = math.cos(angle) * reach * spread, math.sin(angle) * reach * 0.6
        line = curve([(x0, y0), (x0 + 0.55 * dx, y0 + 0.35 * dy), (x0 + dx, y0 + dy + 0.45 * reach)], False, 6)
        stroke(layer, k.flat(line), scaled(k.who.hair, r.uniform(0.70, 1.36)), 0.018 * k.s)
    np.copyto(img, cv2.addWeighted(layer, 0.6, img, 0.4, 0), where=(inside > 127)[..., None])


def _gloss(k: Skull, img: Canvas) -> None:
    """Light on hair: brighter towards the light, a band around the crown."""
    x, y = k.axes()
    lit = 0.88 + 0.2 * np.clip(k.light * x * 0.8 - 0.25 * y, -1, 1)
    round_ = np.sqrt(((x - 0.3 * k.light) / 1.25) ** 2 + ((y + 0.15) / 1.35) ** 2)
    lit += 0.38 * np.exp(-(((round_ - 0.97) / 0.10) ** 2)) * (y < -0.4) * np.clip(0.5 + k.light * x, 0.1, 1)
    img[..., :3] = np.minimum(img[..., :3] * lit[..., None], img[..., 3:])


def _curls(k: Skull, img: Canvas) -> None:
    for _ in range(80):
        a, d = k.rng.uniform(np.pi * 0.95, np.pi * 2.05), k.rng.uniform(0.93, 1.2)
        x, y = k.flat([(d * math.cos(a), -0.55 + 1.16 * d * math.sin(a))])[0]
        radius = k.rng.uniform(0.08, 0.15) * k.s
        disc(img, x, y, radius, scaled(k.who.hair, k.rng.uniform(0.72, 1.12)))
        arc = np.radians(np.linspace(190, 320, 7))
        ring = np.stack([x + 0.7 * radius * np.cos(arc), y + 0.7 * radius * np.sin(arc)], 1)
        stroke(img, ring, scaled(k.who.hair, k.rng.uniform(1.1, 1.45)), 0.02 * k.s)


def _scarf(k: Skull, img: Canvas) -> None:
    w = k.who
    fill(img, k.flat(curve(mirrored(_SCARF))), w.cloth2)
    x, y = k.axes()
    fold = 0.92 + 0.07 * np.sin(6.5 * np.hypot(x * 1.1, y - 0.2) + 1.4 * x) + 0.12 * k.light * x
    img[..., :3] = np.minimum(img[..., :3] * fold[..., None], img[..., 3:])
    hole = [(0.0, -1.12), (0.5, -1.0), (0.82, -0.55), (0.88, 0.1), (0.76, 0.62), (0.42, w.chin - 0.2)]
    opening = k.flat(curve(mirrored([*hole, (0.0, w.chin - 0.08)])) + [0.22 * k.sin_yaw, 0])
    stroke(img, opening, scaled(w.cloth2, 0.6), 0.05 * k.s, closed=True)
    fill(img, opening, (0, 0, 0, 0))


def _glasses(k: Skull, img: Canvas, dark: bool) -> None:
    w, s = k.who, k.s
    frame = (30, 28, 32) if dark or w.glasses == "square" else (96, 70, 44)
    if w.skin[1] < 150 and not dark:  # dark rims would vanish, for people and for detectors
        frame = (206, 178, 124)
    c = w.gap + 0.01
    for side in (-1, 1):
        if w.glasses == "round":
            a = np.linspace(0, 2 * np.pi, 28, endpoint=False)
            rim = np.stack([side * c + 0.30 * np.cos(a), -0.05 + 0.28 * np.sin(a)], 1)
        else:
            corners = [(-0.31, -0.25), (0.31, -0.25), (0.28, 0.16), (-0.28, 0.16)]
            rim = curve([(side * c + dx, dy) for dx, dy in corners])
        edge = k.on(rim, 0.12)
        if dark:
            fill(img, edge, (26, 26, 32))
            stroke(img, k.on([(side * c - 0.12, -0.02), (side * c + 0.02, -0.16)], 0.12), (96, 100, 112), 0.035 * s)
        stroke(img, edge, frame, 0.032 * s, closed=True)
        arm = [(side * (c + 0.30), -0.1), (side * 0.93, -0.12), (side * 1.02, -0.08)]
        stroke(img, k.on(arm, 0.04), frame, 0.032 * s)
    stroke(img, k.on(curve([(-0.12, -0.08), (0.0, -0.13), (0.12, -0.08)], closed=False), 0.2), frame, 0.032 * s)


def _cover(k: Skull, img: Canvas) -> None:
    """A paper mask over mouth and nose."""
    half = [(0.0, 0.24), (0.3, 0.28), (0.80, 0.34), (0.72, 0.85), (0.38, 1.22), (0.0, 1.33)]
    fill(img, k.on(curve(mirrored(half))), (168, 198, 214))
    for i in range(3):
        x, y = 0.66 - 0.05 * i, 0.52 + 0.19 * i
        stroke(img, k.on(curve([(-x, y), (0.0, y), (x, y)], closed=False)), (138, 170, 190), 0.03 * k.s)
    for side in (-1, 1):
        stroke(img, k.on([(side * 0.78, 0.38), (side * 0.98, 0.08)]), (214, 222, 226), 0.035 * k.s)
