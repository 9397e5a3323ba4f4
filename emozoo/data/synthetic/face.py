"""Drawn people: identities, action units, and the head that shows them.

Coordinates of a head are in half face widths: x to the viewer's right, y down, the origin between eyes and mouth, so a
face spans x -1..1 and y about -1.45..1.3. Layers are RGBA with premultiplied alpha, drawn at twice the final size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Points = NDArray[np.float64]
Colour = tuple[float, float, float]

# Action units (Ekman & Friesen, Facial Action Coding System, 1978) that the drawing knows, each 0..1.
AUS = (1, 2, 4, 5, 6, 7, 9, 12, 15, 20, 23, 24, 25, 26, 43)
AU_INDEX = {au: i for i, au in enumerate(AUS)}

# EMFACS-like prototypes (Ekman & Friesen 1983): for each emotion the ways in which a face shows it at full intensity.
PROTOTYPES: dict[str, tuple[dict[int, float], ...]] = {
    "anger": ({4: 1.0, 5: 0.5, 7: 0.8, 24: 1.0}, {4: 1.0, 5: 0.6, 7: 0.7, 23: 0.9, 25: 1.0}, {4: 0.9, 7: 1.0, 23: 0.8, 24: 0.4}),
    "disgust": ({4: 0.4, 7: 0.6, 9: 1.0, 15: 0.5}, {4: 0.3, 6: 0.4, 7: 0.6, 9: 1.0, 15: 0.4, 25: 0.6}),
    "fear": ({1: 1.0, 2: 0.6, 4: 0.6, 5: 1.0, 20: 0.9, 25: 0.7}, {1: 1.0, 2: 0.5, 4: 0.7, 5: 0.9, 20: 0.8, 25: 0.6, 26: 0.35}),
    "happiness": ({6: 1.0, 12: 1.0, 25: 1.0}, {6: 0.8, 12: 0.9}, {6: 1.0, 7: 0.3, 12: 1.0, 25: 0.9, 26: 0.35}),
    "neutral": ({},),
    "sadness": ({1: 1.0, 4: 0.6, 15: 1.0, 43: 0.3}, {1: 0.9, 4: 0.5, 15: 0.8, 43: 0.45}),
    "surprise": ({1: 0.9, 2: 1.0, 5: 0.9, 25: 0.6, 26: 1.0}, {1: 1.0, 2: 1.0, 5: 0.8, 25: 0.4, 26: 0.7}),
}

# Short movements that mean nothing here: a brow flash, a wink-like squeeze, a pout, a yawn.
DECOYS: tuple[dict[int, float], ...] = ({1: 0.5, 2: 0.5}, {43: 1.0, 6: 0.4}, {24: 0.9}, {26: 0.6, 43: 0.6}, {20: 0.4}, {4: 0.4, 43: 0.3})

SKINS: tuple[Colour, ...] = (
    (247, 218, 196), (238, 200, 170), (228, 184, 148), (214, 164, 124), (190, 138, 98), (160, 110, 76), (128, 85, 58), (98, 64, 46),
)  # fmt: skip
HAIRS: tuple[Colour, ...] = (
    (28, 24, 24), (48, 34, 28), (78, 52, 36), (112, 74, 46), (158, 112, 62), (206, 168, 104), (142, 66, 40), (150, 146, 144),
)  # fmt: skip
EYES: tuple[Colour, ...] = ((74, 46, 30), (98, 66, 38), (88, 106, 66), (70, 110, 150), (92, 120, 132))
LIPS: tuple[Colour, ...] = ((196, 104, 100), (206, 88, 96), (180, 92, 84))
CLOTHES: tuple[Colour, ...] = (
    (54, 84, 128), (152, 60, 62), (66, 112, 92), (216, 206, 190), (62, 62, 70), (196, 148, 74), (118, 94, 140), (92, 130, 164), (178, 116, 110),
)  # fmt: skip
STYLES = ("short", "parted", "curly", "buzz", "long", "bob", "bun", "waves", "scarf", "bald")


@dataclass(frozen=True)
class Person:
    """What stays the same whenever this person appears. ``number`` alone decides it, in every data set."""

    number: int
    skin: Colour
    hair: Colour
    iris: Colour
    lip: Colour
    cloth: Colour
    cloth2: Colour
    style: str
    collar: str
    beard: str
    glasses: str
    age: float
    jaw: float
    chin: float
    brow: float
    eye: float
    mouth: float
    nose: float
    tilt: float
    gap: float
    freckles: bool
    blush: float
    pitch: float


@lru_cache(maxsize=4096)
def person(number: int) -> Person:
    """The person of that number: a pure function of the number, so splits by person hold across seeds.

    ``pitch`` is the voice's mean fundamental in Hz, ``age`` 0..1, the proportions are in half face widths.
    """
    r = np.random.default_rng(np.random.SeedSequence(20261121, spawn_key=(number,)))
    feminine = bool(r.random() < 0.5)
    tone = int(r.integers(len(SKINS)))
    age = float(r.beta(1.2, 2.2))
    dark = tone >= 4
    hair = HAIRS[int(r.integers(3 if dark else 7))]
    if age > 0.62:
        hair = _mix(hair, (190, 188, 186), min(1.0, (age - 0.55) * 2.2))
    if feminine:
        style = str(r.choice(["long", "bob", "bun", "waves", "curly", "scarf", "parted"], p=[0.22, 0.2, 0.14, 0.2, 0.1, 0.08, 0.06]))
        beard = "none"
    else:
        style = str(r.choice(["short", "parted", "curly", "buzz", "bald", "waves"], p=[0.32, 0.26, 0.14, 0.13, 0.08, 0.07]))
        beard = str(r.choice(["none", "stubble", "full", "moustache"], p=[0.58, 0.2, 0.14, 0.08]))
    skin = _jitter(SKINS[tone], 6, r)
    lip = _mix(LIPS[int(r.integers(len(LIPS)))], _scale(skin, 0.8), (0.35 if feminine else 0.62) + (0.15 if dark else 0.0))
    return Person(
        number=number, skin=skin, hair=_jitter(hair, 6, r), iris=EYES[int(r.integers(2 if dark else len(EYES)))], lip=lip,
        cloth=_jitter(CLOTHES[int(r.integers(len(CLOTHES)))], 10, r), cloth2=_jitter(CLOTHES[int(r.integers(len(CLOTHES)))], 10, r), style=style,
        collar=str(r.choice(["crew", "vneck", "shirt", "hoodie", "turtle"])), beard=beard,
        glasses=str(r.choice(["none", "round", "square"], p=[0.76, 0.12, 0.12])), age=age,
        jaw=float(r.uniform(0.60, 0.70) if feminine else r.uniform(0.68, 0.80)), chin=float(r.uniform(1.20, 1.33) + (0.0 if feminine else 0.04)),
        brow=float(r.uniform(0.038, 0.055) if feminine else r.uniform(0.055, 0.08)), eye=float(r.uniform(0.92, 1.1) * (1.05 if feminine else 0.97)),
        mouth=float(r.uniform(0.30, 0.37)), nose=float(r.uniform(0.88, 1.14)), tilt=float(r.uniform(-0.02, 0.035)), gap=float(r.uniform(0.395, 0.43)),
        freckles=bool(not dark and r.random() < 0.16), blush=float(r.uniform(0.1, 0.45) if not dark else r.uniform(0.0, 0.15)),
        pitch=float(r.uniform(165, 235) if feminine else r.uniform(92, 145)),
    )  # fmt: skip


def expression(units: Mapping[int, float]) -> NDArray[np.float64]:
    """Action units by number as the vector that :meth:`Head.draw` takes (order of ``AUS``)."""
    out = np.zeros(len(AUS))
    for au, value in units.items():
        out[AU_INDEX[au]] = value
    return out


def _mix(a: Colour, b: Colour, t: float) -> Colour:
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def _scale(a: Colour, k: float) -> Colour:
    return (min(255.0, a[0] * k), min(255.0, a[1] * k), min(255.0, a[2] * k))


def _jitter(a: Colour, by: float, r: np.random.Generator) -> Colour:
    d = r.uniform(-by, by, 3)
    return (float(np.clip(a[0] + d[0], 8, 250)), float(np.clip(a[1] + d[1], 8, 250)), float(np.clip(a[2] + d[2], 8, 250)))


@lru_cache(maxsize=64)
def _spline(n: int, closed: bool, steps: int) -> NDArray[np.float64]:
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


def _i4(points: Points) -> NDArray[np.int32]:
    return np.rint(points * 16).astype(np.int32)


def fill(img: Picture, points: Points, colour: Colour | tuple[float, ...] | float) -> None:
    """An antialiased polygon; points in pixels. A colour of three gets alpha 255 on a picture of four channels."""
    cv2.fillPoly(img, [_i4(points)], _full(img, colour), cv2.LINE_AA, 4)


def stroke(img: Picture, points: Points, colour: Colour | tuple[float, ...] | float, width: float, closed: bool = False) -> None:
    """An antialiased line of ``width`` pixels through the points."""
    cv2.polylines(img, [_i4(points)], closed, _full(img, colour), max(1, round(width)), cv2.LINE_AA, 4)


def disc(img: Picture, x: float, y: float, radius: float, colour: Colour | tuple[float, ...] | float) -> None:
    """An antialiased disc."""
    cv2.circle(img, (round(x * 16), round(y * 16)), max(1, round(radius * 16)), _full(img, colour), -1, cv2.LINE_AA, 4)


def _full(img: Picture, colour: Colour | tuple[float, ...] | float) -> tuple[float, ...]:
    if isinstance(colour, int | float):
        return (float(colour),)
    return (*colour, 255.0) if img.ndim == 3 and img.shape[2] == 4 and len(colour) == 3 else colour


def over(dst: Picture, src: Picture) -> None:
    """Lay premultiplied RGBA ``src`` over ``dst`` (RGB or RGBA), in place."""
    inverse = 255 - src[..., 3]
    if dst.shape[2] == 3:
        kept = cv2.multiply(dst, cv2.merge((inverse, inverse, inverse)), scale=1 / 255)
        cv2.add(kept, np.ascontiguousarray(src[..., :3]), dst)
    else:
        cv2.add(cv2.multiply(dst, cv2.merge((inverse, inverse, inverse, inverse)), scale=1 / 255), src, dst)


LEFT, RIGHT, TOP, BOTTOM = -2.1, 2.1, -2.25, 2.15  # what a head's canvas covers, in half face widths


class Head:
    """One person's head at one turn and in one light: still layers made once, moving features drawn per frame.

    ``scale`` = canvas pixels in a half face width; ``yaw``, ``pitch`` in radians; ``light`` = where the light comes
    from, -1 (left) .. 1 (right).
    """

    def __init__(self, who: Person, scale: float, yaw: float = 0.0, pitch: float = 0.0, light: float = -0.5, occluder: str = "") -> None:
        self.who, self.s, self.yaw, self.pitch, self.light, self.occluder = who, scale, yaw, pitch, light, occluder
        self.width, self.height = round((RIGHT - LEFT) * scale), round((BOTTOM - TOP) * scale)
        self.rng = np.random.default_rng(np.random.SeedSequence(7, spawn_key=(who.number,)))
        self.skin = who.skin
        self.shadow = _mix(_scale(who.skin, 0.52), (60, 20, 20), 0.12)
        self.back = self._back()
        self.base = self._skin()
        self.front = self._front()
        rows = np.flatnonzero(self.front[..., 3].any(1))
        self.front_rows = slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)
        self.brow_noise = self.rng.uniform(-1, 1, (2, 18, 2))

    # -- geometry ----------------------------------------------------------------------------------------------

    def at(self, points: Points | list[tuple[float, float]], lift: float = 0.0) -> Points:
        """Head coordinates (n, 2) on the turned skull, ``lift`` above it, in canvas pixels."""
        p = np.asarray(points, float)
        x, y = p[:, 0], p[:, 1]
        depth = 0.85 * np.sqrt(np.clip(1 - (x / 1.12) ** 2 - (y / 1.62) ** 2, 0, None)) + lift
        turned = x * np.cos(self.yaw) + depth * np.sin(self.yaw)
        raised = y * np.cos(self.pitch) - depth * np.sin(self.pitch)
        return np.stack([(turned - LEFT) * self.s, (raised - TOP) * self.s], 1)

    def _outline(self) -> Points:
        w = self.who
        half = [(0.0, -1.45), (0.52, -1.34), (0.86, -0.98), (0.985, -0.42), (0.965, 0.14), (0.86, 0.58), (w.jaw, 0.93), (0.34, w.chin - 0.06)]
        full = np.array([*half, (0.0, w.chin), *[(-x, y) for x, y in reversed(half[1:])]])
        full[:, 0] += np.sin(self.yaw) * 0.22 * np.clip(full[:, 1] + 0.6, 0, None) / 1.9  # the chin leads the turn
        full[:, 1] -= np.sin(self.pitch) * 0.15
        return curve(full) * self.s + np.array([-LEFT, -TOP]) * self.s

    def _canvas(self, channels: int = 4) -> Picture:
        return np.zeros((self.height, self.width, channels) if channels > 1 else (self.height, self.width), np.uint8)

    def _raw(self, points: Points | list[tuple[float, float]]) -> Points:
        return (np.asarray(points, float) - np.array([LEFT, TOP])) * self.s

    def _grid(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        xs = (np.arange(self.width, dtype=np.float32) + 0.5) / self.s + LEFT
        ys = (np.arange(self.height, dtype=np.float32) + 0.5) / self.s + TOP
        return np.meshgrid(xs, ys)  # type: ignore[return-value]

    # -- still layers ------------------------------------------------------------------------------------------

    def _strands(self, img: Picture, centre: tuple[float, float], count: int, inside: Picture, spread: float = 1.0) -> None:
        """Fine hair lines running from a parting over the shape ``inside``."""
        s, r = self.s, self.rng
        layer = img.copy()
        for _ in range(count):
            angle = r.uniform(-np.pi, 0.25 * np.pi) + (np.pi / 2 if r.random() < 0.3 else 0)
            x0, y0 = centre[0] + r.normal(0, 0.05), centre[1] + r.normal(0, 0.03)
            reach = r.uniform(0.7, 1.9)
            dx, dy = np.cos(angle) * reach * spread, np.sin(angle) * reach * 0.6
            line = curve([(x0, y0), (x0 + 0.55 * dx, y0 + 0.35 * dy), (x0 + dx, y0 + dy + 0.45 * reach)], closed=False, steps=6)
            tone = _scale(self.who.hair, r.uniform(0.72, 1.32))
            stroke(layer, self._raw(line), tone, 0.018 * s)
        keep = (inside > 127)[..., None]
        np.copyto(img, cv2.addWeighted(layer, 0.6, img, 0.4, 0), where=keep)

    def _light_hair(self, img: Picture, gloss: float = 0.35) -> None:
        x, y = self._grid()
        lit = 0.86 + 0.2 * np.clip(self.light * x * 0.8 - 0.25 * y, -1, 1)
        band = np.exp(-(((np.hypot((x - 0.3 * self.light) / 1.25, (y + 0.15) / 1.35) - 0.98) / 0.1) ** 2)) * (y < -0.4)
        lit = lit + gloss * band * np.clip(0.5 + self.light * x, 0.1, 1)
        img[..., :3] = np.minimum(img[..., :3] * lit[..., None], img[..., 3:]).clip(0, 255).astype(np.uint8)

    def _back(self) -> Picture:
        """Hair behind the head, and the ears."""
        w, s = self.who, self.s
        img = self._canvas()
        hair = _scale(w.hair, 0.8)
        shapes: dict[str, list[tuple[float, float]]] = {
            "long": [(0, -1.68), (0.75, -1.5), (1.16, -0.9), (1.22, 0.0), (1.28, 0.9), (1.2, 1.7), (0.8, 1.95), (0.45, 1.5)],
            "waves": [(0, -1.68), (0.78, -1.5), (1.2, -0.9), (1.16, -0.2), (1.34, 0.4), (1.22, 0.95), (1.36, 1.45), (0.9, 1.7), (0.5, 1.3)],
            "bob": [(0, -1.66), (0.75, -1.5), (1.15, -0.95), (1.2, -0.1), (1.22, 0.62), (1.02, 0.98), (0.7, 0.95), (0.5, 0.7)],
            "scarf": [(0, -1.66), (0.75, -1.5), (1.12, -0.95), (1.16, 0.0), (1.08, 0.8), (0.95, 1.5), (1.3, 2.1), (0.4, 2.3)],
        }
        for side in (-1, 1):  # ears
            ear = self._raw(curve([(side * 0.93, -0.22), (side * 1.09, -0.26), (side * 1.13, -0.02), (side * 1.05, 0.24), (side * 0.93, 0.28)]))
            ear[:, 0] -= np.sin(self.yaw) * 0.25 * s
            fill(img, ear, _scale(w.skin, 0.86))
            inner = self._raw(curve([(side * 0.98, -0.12), (side * 1.06, -0.12), (side * 1.06, 0.05), (side * 1.0, 0.16)]))
            inner[:, 0] -= np.sin(self.yaw) * 0.25 * s
            fill(img, inner, _mix(_scale(w.skin, 0.66), (120, 40, 30), 0.15))
        if w.style in shapes:
            half = shapes[w.style]
            colour = _scale(w.cloth2, 0.82) if w.style == "scarf" else hair
            mask = self._canvas(1)
            both = curve(np.array([*half, *[(-x, y) for x, y in reversed(half[1:])]]))
            both[:, 0] -= np.sin(self.yaw) * 0.12
            fill(img, self._raw(both), colour)
            fill(mask, self._raw(both), 255)
            if w.style != "scarf":
                self._strands(img, (0.0, -1.6), 90, mask, 1.3)
        elif w.style == "bun":
            for x, y, radius in ((0.0, -1.78, 0.36), (0.0, -1.55, 0.3)):
                disc(img, *self._raw([(x, y)])[0], radius * s, hair)
        if w.style not in ("scarf",):
            self._light_hair(img, 0.12)
        return img

    def _skin(self) -> Picture:
        """The face without what moves: outline, light, nose ridge, cheeks, lines of age, beard."""
        w, s = self.who, self.s
        mask = self._canvas(1)
        fill(mask, self._outline(), 255)
        x, y = self._grid()
        xt = x - np.sin(self.yaw) * 0.85  # features sit where the turn puts them
        yt = y + np.sin(self.pitch) * 0.85
        # Lambert on an ellipsoid, softened; edges fall off so that the head reads as round.
        nz = np.sqrt(np.clip(1 - (x / 1.12) ** 2 - (y / 1.62) ** 2, 0, 1))
        lambert = 0.80 * nz + 0.34 * self.light * x - 0.16 * y
        tone = 0.80 + 0.30 * (lambert - 0.62)
        edge = cv2.GaussianBlur(mask, (0, 0), 0.13 * s).astype(np.float32) / 255
        tone *= 0.80 + 0.22 * np.clip((edge - 0.45) / 0.5, 0, 1)

        def blob(cx: float, cy: float, rx: float, ry: float) -> NDArray[np.float32]:
            return np.exp(-(((xt - cx) / rx) ** 2) - ((yt - cy) / ry) ** 2)

        g, n = w.gap, w.nose
        for side in (-1, 1):
            tone -= 0.15 * blob(side * g, -0.14, 0.30, 0.17)  # sockets
            tone -= 0.09 * blob(side * 0.19, -0.12, 0.10, 0.16)  # root of the nose
            tone += 0.07 * blob(side * 0.50, 0.28, 0.30, 0.20)  # cheekbones
            tone -= 0.05 * blob(side * 0.72, 0.62, 0.22, 0.30)
            near = 1.0 if side * self.light < 0 else 0.35  # the side of the nose away from the light
            tone -= 0.12 * near * blob(side * 0.165 * n, 0.22, 0.065, 0.26)
            tone -= 0.10 * blob(side * 0.21 * n, 0.42, 0.07, 0.07)
        tone += 0.13 * blob(-0.02 * self.light, 0.12, 0.065, 0.30) + 0.15 * blob(0.03 * self.light, 0.36, 0.085, 0.07)
        tone += 0.08 * blob(0.25 * self.light, -0.80, 0.52, 0.26)
        tone -= 0.16 * blob(0, 0.525, 0.17, 0.035) + 0.07 * blob(0, 0.60, 0.05, 0.07)  # below the nose, philtrum
        tone += 0.07 * blob(0.05 * self.light, w.chin - 0.17, 0.2, 0.11)
        tone -= 0.10 * blob(0, w.chin - 0.33, 0.24, 0.05)
        fine = self.rng.normal(0, 1, (self.height, self.width)).astype(np.float32)
        tone += 0.012 * cv2.GaussianBlur(fine, (0, 0), max(0.6, 0.02 * s)) / 0.3
        rgb = np.array(w.skin, np.float32)[None, None] * tone[..., None]
        dark = np.clip(0.9 - tone, 0, 1)[..., None]
        rgb += dark * np.array([16, -10, -14], np.float32)  # shadows on skin are warm
        red = w.blush * (blob(0.53, 0.33, 0.26, 0.2) + blob(-0.53, 0.33, 0.26, 0.2)) + 0.5 * w.blush * blob(0, 0.38, 0.14, 0.1)
        rgb += red[..., None] * np.array([14, -16, -12], np.float32)
        img = self._canvas()
        img[..., :3] = rgb.clip(0, 255)
        img[..., 3] = mask
        if w.freckles:
            for fx, fy in zip(self.rng.normal(0, 0.42, 60), self.rng.normal(0.26, 0.12, 60), strict=True):
                disc(img, *self.at([(fx, fy)])[0], 0.012 * s, (*_scale(w.skin, 0.8), 255))
        if w.age > 0.35:
            soft = self._canvas(1)
            for k in range(3):
                line = [(-0.42, -0.86 + 0.13 * k), (0.0, -0.90 + 0.13 * k), (0.42, -0.86 + 0.13 * k)]
                stroke(soft, self.at(curve(line, closed=False)), 120 * w.age, 0.02 * s)
            for side in (-1, 1):
                for k in (-1, 0, 1):
                    stroke(soft, self.at([(side * 0.70, -0.08 + 0.05 * k), (side * 0.84, -0.10 + 0.10 * k)]), 120 * w.age, 0.02 * s)
                bag = [(side * 0.26, 0.08), (side * 0.42, 0.145), (side * 0.58, 0.08)]
                stroke(soft, self.at(curve(bag, closed=False)), 150 * w.age, 0.03 * s)
                fold = [(side * 0.24, 0.42), (side * 0.38, 0.58), (side * 0.44, 0.78)]
                stroke(soft, self.at(curve(fold, closed=False)), 170 * w.age, 0.03 * s)
            img[..., :3] = self._darkened(img[..., :3], cv2.GaussianBlur(soft, (0, 0), 0.02 * s), 0.8)
        if w.beard != "none":
            img[..., :3] = self._beard(img[..., :3], xt, yt)
        img[..., :3] = cv2.multiply(np.ascontiguousarray(img[..., :3]), cv2.merge((mask, mask, mask)), scale=1 / 255)
        return img

    def _beard(self, rgb: Picture, x: NDArray[np.float32], y: NDArray[np.float32]) -> Picture:
        w = self.who
        outer = 1 / (1 + np.exp(-(y - 0.30 - 0.75 * np.clip(1 - np.abs(x) / 0.95, 0, 0.42)) / 0.05))
        moustache = np.exp(-((x / 0.34) ** 4) - ((y - 0.585 - 0.12 * x**2) / 0.075) ** 4)
        lips = np.exp(-((x / 0.36) ** 4) - ((y - 0.75) / 0.10) ** 4)
        cover = moustache if w.beard == "moustache" else np.maximum(outer * (1 - lips), moustache)
        grain = self.rng.normal(0, 1, x.shape).astype(np.float32)
        grain = cv2.GaussianBlur(grain, (0, 0), sigmaX=max(0.5, 0.008 * self.s), sigmaY=max(0.7, 0.025 * self.s))
        grain /= max(1e-6, float(grain.std()))
        strength = (0.36 if w.beard == "stubble" else 0.86) * cover * np.clip(1 + 0.22 * grain, 0, 1.2)
        colour = np.array(_scale(w.hair, 0.95), np.float32) * (1 + 0.14 * grain[..., None])
        return (rgb + strength.clip(0, 1)[..., None] * (colour - rgb)).clip(0, 255).astype(np.uint8)

    def _front(self) -> Picture:
        """Hair that falls over the face, scarf, glasses and what hides a part of the face."""
        w, s = self.who, self.s
        img = self._canvas()
        mask = self._canvas(1)
        shift = np.array([np.sin(self.yaw) * 0.22, 0.0])
        hair = w.hair
        shapes: dict[str, list[list[tuple[float, float]]]] = {
            "short": [[(-1.03, -0.30), (-1.12, -0.85), (-0.88, -1.42), (-0.3, -1.70), (0.35, -1.70), (0.9, -1.42), (1.12, -0.85), (1.03, -0.30),
                       (0.93, -0.42), (0.90, -0.72), (0.70, -1.02), (0.3, -1.08), (-0.1, -1.0), (-0.45, -1.1), (-0.78, -0.96), (-0.90, -0.70), (-0.93, -0.42)]],
            "parted": [[(-1.02, -0.25), (-1.13, -0.85), (-0.9, -1.45), (-0.3, -1.72), (0.35, -1.76), (0.95, -1.45), (1.13, -0.8), (1.02, -0.25),
                        (0.94, -0.45), (0.84, -0.80), (0.52, -0.98), (0.05, -1.08), (-0.42, -1.26), (-0.62, -1.05), (-0.84, -0.82), (-0.93, -0.5)]],
            "buzz": [[(-1.0, -0.35), (-1.03, -0.85), (-0.84, -1.32), (-0.35, -1.55), (0.35, -1.55), (0.84, -1.32), (1.03, -0.85), (1.0, -0.35),
                      (0.94, -0.5), (0.88, -0.80), (0.68, -1.04), (0.25, -1.12), (-0.25, -1.12), (-0.68, -1.04), (-0.88, -0.80), (-0.94, -0.5)]],
            "curly": [[(-1.08, -0.2), (-1.28, -0.6), (-1.2, -1.1), (-0.95, -1.55), (-0.4, -1.86), (0.35, -1.88), (0.95, -1.58), (1.22, -1.1), (1.28, -0.6),
                       (1.08, -0.2), (0.93, -0.55), (0.80, -0.92), (0.4, -1.02), (0.0, -0.96), (-0.4, -1.04), (-0.80, -0.90), (-0.93, -0.55)]],
            "long": [[(-0.93, 0.75), (-1.16, 0.5), (-1.2, -0.3), (-1.1, -1.0), (-0.72, -1.55), (0.0, -1.72), (0.72, -1.55), (1.1, -1.0), (1.2, -0.3), (1.16, 0.5),
                      (0.93, 0.75), (0.95, 0.0), (0.86, -0.6), (0.52, -1.08), (0.02, -1.30), (-0.5, -1.06), (-0.86, -0.6), (-0.95, 0.0)]],
            "bob": [[(-0.90, 0.70), (-1.18, 0.62), (-1.2, -0.2), (-1.1, -1.0), (-0.72, -1.55), (0.0, -1.7), (0.72, -1.55), (1.1, -1.0), (1.2, -0.2), (1.18, 0.62),
                     (0.90, 0.70), (0.97, 0.0), (0.92, -0.5), (0.78, -0.72), (0.4, -0.70), (0.0, -0.68), (-0.4, -0.70), (-0.78, -0.72), (-0.92, -0.5), (-0.97, 0.0)]],
            "bun": [[(-1.0, -0.25), (-1.09, -0.8), (-0.86, -1.36), (-0.32, -1.62), (0.32, -1.62), (0.86, -1.36), (1.09, -0.8), (1.0, -0.25),
                     (0.94, -0.45), (0.86, -0.85), (0.55, -1.14), (0.0, -1.24), (-0.55, -1.14), (-0.86, -0.85), (-0.94, -0.45)]],
            "scarf": [[(0.0, 1.72), (-0.7, 1.45), (-1.08, 0.75), (-1.16, -0.2), (-1.08, -0.95), (-0.72, -1.5), (0.0, -1.68), (0.72, -1.5), (1.08, -0.95), (1.16, -0.2),
                       (1.08, 0.75), (0.7, 1.45)]],
        }  # fmt: skip
        shapes["waves"] = shapes["long"]
        if w.style == "scarf":
            fill(img, self._raw(curve(shapes["scarf"][0])), w.cloth2)
            hole = [(0.0, -1.12), (0.5, -1.0), (0.82, -0.55), (0.88, 0.1), (0.76, 0.62), (0.42, w.chin - 0.2), (0.0, w.chin - 0.08)]
            opening = self._raw(curve(np.array([*hole, *[(-a, b) for a, b in reversed(hole[1:-1])]])) + shift)
            x, y = self._grid()
            fold = 0.9 + 0.14 * np.sin(6.5 * np.hypot(x * 1.1, y - 0.2) + 1.4 * x) * 0.5 + 0.12 * self.light * x
            img[..., :3] = np.minimum(img[..., :3] * fold[..., None], img[..., 3:]).clip(0, 255).astype(np.uint8)
            stroke(img, opening, _scale(w.cloth2, 0.6), 0.05 * s, closed=True)
            cv2.fillPoly(img, [_i4(opening)], (0, 0, 0, 0), cv2.LINE_AA, 4)
        elif w.style != "bald":
            for shape in shapes[w.style]:
                pts = curve(np.array(shape))
                inner = pts[:, 1] > -1.3
                pts[inner] += shift * 0.5
                fill(img, self._raw(pts), hair)
                fill(mask, self._raw(pts), 255)
            if w.style == "curly":
                for _ in range(70):
                    a, d = self.rng.uniform(np.pi * 0.95, np.pi * 2.05), self.rng.uniform(0.95, 1.22)
                    cx, cy = self._raw([(d * np.cos(a), -0.55 + 1.18 * d * np.sin(a))])[0]
                    radius = self.rng.uniform(0.08, 0.15) * s
                    disc(img, cx, cy, radius, _scale(hair, self.rng.uniform(0.75, 1.12)))
                    tone = _scale(hair, self.rng.uniform(1.15, 1.5))
                    cv2.ellipse(img, (int(cx), int(cy)), (int(radius * 0.7), int(radius * 0.7)), 0, 180, 330, _full(img, tone), 1, cv2.LINE_AA)
            elif w.style == "buzz":
                x, y = self._grid()
                img = (img * np.clip(1.1 - 0.45 * np.exp(-(((y + 1.02) / 0.12) ** 2)), 0.75, 1)[..., None]).astype(np.uint8)
            else:
                self._strands(img, {"parted": (-0.45, -1.3), "bob": (0.0, -1.6)}.get(w.style, (0.0, -1.42)), 130, mask)
            self._light_hair(img)
        if w.glasses != "none" and self.occluder != "eyes":
            self._glasses(img, dark=False)
        if self.occluder == "eyes":
            self._glasses(img, dark=True)
        if self.occluder == "mouth":
            self._cover_mouth(img)
        return img

    def _glasses(self, img: Picture, dark: bool) -> None:
        w, s = self.who, self.s
        frame = (30, 28, 32) if dark or w.glasses == "square" else (96, 70, 44)
        for side in (-1, 1):
            c = w.gap + 0.01
            if w.glasses == "round":
                a = np.linspace(0, 2 * np.pi, 28, endpoint=False)
                rim = np.stack([side * c + 0.27 * np.cos(a), -0.06 + 0.25 * np.sin(a)], 1)
            else:
                rim = curve([(side * c - 0.28, -0.22), (side * c + 0.28, -0.22), (side * c + 0.25, 0.14), (side * c - 0.25, 0.14)])
            pts = self.at(rim, 0.12)
            if dark:
                fill(img, pts, (26, 26, 32))
                stroke(img, self.at([(side * c - 0.12, -0.02), (side * c + 0.02, -0.16)], 0.12), (96, 100, 112), 0.035 * s)
            else:
                fill(img, pts, (26, 26, 26, 26))
            stroke(img, pts, frame, 0.035 * s, closed=True)
            stroke(img, self.at([(side * (c + 0.27), -0.1), (side * 0.93, -0.12), (side * 1.02, -0.08)], 0.04), frame, 0.035 * s)
        stroke(img, self.at(curve([(-0.14, -0.08), (0.0, -0.13), (0.14, -0.08)], closed=False), 0.2), frame, 0.035 * s)

    def _cover_mouth(self, img: Picture) -> None:
        s = self.s
        mask = [(-0.80, 0.34), (-0.3, 0.28), (0.0, 0.24), (0.3, 0.28), (0.80, 0.34), (0.72, 0.85), (0.38, 1.22), (0.0, 1.33), (-0.38, 1.22), (-0.72, 0.85)]
        pts = self.at(curve(mask))
        fill(img, pts, (168, 198, 214))
        for k in range(3):
            line = curve([(-0.66 + 0.05 * k, 0.52 + 0.19 * k), (0.0, 0.50 + 0.21 * k), (0.66 - 0.05 * k, 0.52 + 0.19 * k)], closed=False)
            stroke(img, self.at(line), (138, 170, 190), 0.03 * s)
        for side in (-1, 1):
            stroke(img, self.at([(side * 0.78, 0.38), (side * 0.98, 0.08)]), (214, 222, 226), 0.035 * s)

    # -- per frame ---------------------------------------------------------------------------------------------

    def _darkened(self, rgb: Picture, amount: Picture, k: float) -> Picture:
        """Skin darkened to its own shadow colour by ``amount`` (0..255) times ``k``."""
        a = (amount.astype(np.float32) * (k / 255))[..., None]
        return (rgb + a * (np.array(self.shadow, np.float32) - rgb)).clip(0, 255).astype(np.uint8)

    def draw(self, au: NDArray[np.float64], gaze: tuple[float, float] = (0.0, 0.0)) -> Picture:
        """The head with these action units (order of ``AUS``): premultiplied RGBA, uint8.

        ``gaze`` = where the irises sit, -1..1 to the right and down.
        """
        a = {n: float(min(max(v, 0.0), 1.2)) for n, v in zip(AUS, au, strict=True)}
        s = self.s
        jaw = 0.30 * a[26] + 0.02 * a[25]
        img = self.back.copy()
        # The jaw opens by stretching the skin below the nose.
        y0, y1 = (0.50 - TOP) * s, (self.who.chin - TOP) * s
        if jaw > 0.004:
            k = 1 + jaw / (self.who.chin - 0.50)
            rows = int(y0)
            moved = cv2.warpAffine(self.base[rows:], np.array([[1, 0, 0], [0, k, 0]], np.float64), (self.width, self.height - rows), flags=cv2.INTER_LINEAR)
            over(img[:rows], self.base[:rows])
            over(img[rows:], moved)
        else:
            over(img, self.base)
        self._folds(img, a, jaw)
        for side in (-1, 1):
            self._eye(img, side, a, gaze)
            self._brow(img, side, a)
        self._nose(img, a)
        self._mouth(img, a, jaw)
        if self.front_rows.stop:
            over(img[self.front_rows], self.front[self.front_rows])
        return img

    def _folds(self, img: Picture, a: dict[int, float], jaw: float) -> None:
        """Soft wrinkles: forehead, between the brows, beside the nose, under the eyes."""
        s = self.s
        top, bottom = int((-1.15 - TOP) * s), min(self.height, int((self.who.chin + 0.1 + jaw - TOP) * s))
        left, right = int((-1.05 - LEFT) * s), int((1.35 - LEFT) * s)
        soft = np.zeros((self.height, self.width), np.uint8)
        lift = max(0.0, 0.5 * (a[1] + a[2]) - 0.35 * a[4] * (a[2] < 0.3))
        if lift > 0.1:
            for k in range(3):
                y = -0.70 - 0.13 * k - 0.03 * lift
                wide = 0.52 if a[2] > 0.3 else 0.28
                line = [(-wide, y + 0.03), (-wide / 2, y - 0.015), (0.0, y + 0.01), (wide / 2, y - 0.015), (wide, y + 0.03)]
                stroke(soft, self.at(curve(line, closed=False, steps=4)), 150 * min(1.0, lift), 0.03 * s)
        if a[4] > 0.1:
            for side in (-1, 1):
                stroke(soft, self.at([(side * 0.07, -0.28), (side * 0.085, -0.44), (side * 0.06, -0.58)]), 230 * min(1.0, a[4]), 0.035 * s)
        if a[9] > 0.1:
            for k in range(3):
                y = -0.02 + 0.085 * k
                stroke(soft, self.at(curve([(-0.13, y - 0.03), (0.0, y + 0.02), (0.13, y - 0.03)], closed=False, steps=4), 0.1), 190 * a[9], 0.03 * s)
        fold = min(1.0, 0.95 * a[12] + 0.9 * a[9] + 0.25 * a[15] + 0.3 * a[20])
        if fold > 0.08:
            out = 0.07 * a[12] - 0.02 * a[15]
            for side in (-1, 1):
                line = [(side * 0.21, 0.36 - 0.05 * a[9]), (side * (0.39 + out), 0.50), (side * (0.50 + out), 0.72 + 0.4 * jaw)]
                stroke(soft, self.at(curve(line, closed=False, steps=5)), 210 * fold, 0.04 * s)
        raised = min(1.0, max(a[6], 0.7 * a[7], 0.6 * a[9]))
        if raised > 0.1:
            for side in (-1, 1):
                g = self.who.gap
                line = [(side * (g - 0.19), 0.075), (side * g, 0.12), (side * (g + 0.2), 0.06)]
                stroke(soft, self.at(curve(line, closed=False, steps=5)), 170 * raised, 0.035 * s)
                for k in (-1, 1):
                    stroke(soft, self.at([(side * 0.72, -0.06 + 0.03 * k), (side * 0.83, -0.07 + 0.09 * k)]), 120 * a[6], 0.025 * s)
        if a[15] > 0.1 or a[24] > 0.1:
            line = [(-0.16, 1.0 + jaw), (0.0, 0.965 + jaw), (0.16, 1.0 + jaw)]
            stroke(soft, self.at(curve(line, closed=False, steps=4)), 170 * max(a[15], a[24]), 0.05 * s)
        area = (slice(top, bottom), slice(left, right))
        part = cv2.GaussianBlur(soft[area], (0, 0), 0.024 * s)
        img[area][..., :3] = self._darkened(img[area][..., :3], part, 0.85)
        if a[12] > 0.15 or a[6] > 0.15:  # cheeks rise and catch the light
            k = 0.5 * (a[6] + a[12])
            x = (np.arange(left, right, dtype=np.float32) / s + LEFT - np.sin(self.yaw) * 0.8)[None]
            y = (np.arange(top, bottom, dtype=np.float32) / s + TOP)[:, None]
            glow = np.exp(-(((np.abs(x) - 0.55) / 0.19) ** 2) - ((y - 0.30) / 0.14) ** 2)
            tint = np.array([26, 12, 8], np.float32) * (0.55 + 0.9 * self.who.blush)
            skin = img[area][..., 3:] / 255.0
            img[area][..., :3] = (img[area][..., :3] + (k * glow)[..., None] * tint * skin).clip(0, 255)

    def _eye(self, img: Picture, side: int, a: dict[int, float], gaze: tuple[float, float]) -> None:
        w, s = self.who, self.s
        e = w.eye
        cx, cy, half = side * w.gap, -0.08, 0.205 * e
        closed = min(1.0, a[43])
        upper = (0.118 + 0.085 * a[5] - 0.055 * a[7] - 0.02 * a[6] - 0.035 * a[9]) * e
        lower = (0.075 + 0.015 * a[5] - 0.045 * a[7] - 0.062 * a[6] - 0.03 * a[9]) * e
        upper = upper + closed * (-lower - 0.004 - upper)
        sad = 0.05 * min(1.0, a[1] * (a[15] + 0.5 * a[43])) * e  # outer part of the lid hangs
        ci, co = cx - side * half, cx + side * half
        tilt = -w.tilt
        up = [
            (ci, cy + 0.03),
            (cx - side * 0.5 * half, cy - 0.80 * upper),
            (cx, cy - upper),
            (cx + side * 0.58 * half, cy - 0.80 * upper + 0.6 * sad + 0.5 * tilt),
            (co, cy + 0.005 + sad + tilt),
        ]
        low = [
            (co, cy + 0.005 + sad + tilt),
            (cx + side * 0.5 * half, cy + 0.88 * lower + 0.5 * tilt),
            (cx, cy + lower),
            (cx - side * 0.55 * half, cy + 0.8 * lower),
            (ci, cy + 0.03),
        ]
        u, v = self.at(curve(up, closed=False, steps=5)), self.at(curve(low, closed=False, steps=5))
        shape = np.concatenate([u, v[1:-1]])
        x0, y0 = (shape.min(0) - 3).astype(int)
        x1, y1 = (shape.max(0) + 4).astype(int)
        roi = img[y0:y1, x0:x1]
        at0 = np.array([x0, y0])
        inner = np.empty((y1 - y0, x1 - x0, 3), np.uint8)
        inner[:] = (236, 231, 226)
        ix, iy = self.at([(cx + 0.075 * gaze[0], cy + 0.005 + 0.045 * gaze[1])])[0] - at0
        radius = 0.112 * e * s
        disc(inner, ix, iy, radius, _scale(w.iris, 0.5))
        disc(inner, ix, iy, radius * 0.88, w.iris)
        disc(inner, ix, iy + radius * 0.3, radius * 0.5, _scale(w.iris, 1.5))
        disc(inner, ix, iy, radius * 0.48, (14, 11, 12))
        shade = u - at0 + np.array([0.0, 0.018 * s])
        dim = inner.copy()
        stroke(dim, shade, (86, 66, 62), 0.065 * s)
        inner = cv2.addWeighted(dim, 0.55, inner, 0.45, 0)
        disc(inner, ix + radius * 0.34 * np.sign(self.light or 1), iy - radius * 0.38, radius * 0.24, (255, 255, 255))
        cover = np.zeros(inner.shape[:2], np.uint8)
        fill(cover, shape - at0, 255)
        c = cover[..., None].astype(np.float32) / 255
        roi[..., :3] = roi[..., :3] + c * (inner.astype(np.float32) - roi[..., :3])
        line = _mix(_scale(w.skin, 0.28), (20, 14, 16), 0.6)
        stroke(img, v, _mix(self.shadow, line, 0.25), 0.016 * s)
        stroke(img, u, line, 0.040 * s)
        flick = self.at([(co, cy + 0.005 + sad + tilt), (co + side * 0.05, cy - 0.02 + sad + tilt)])
        stroke(img, flick, line, 0.034 * s)
        if closed < 0.6:
            crease = self.at(curve(up, closed=False, steps=5)[3:-2] - np.array([0.0, 0.055 + 0.02 * a[7] - 0.02 * a[5]]))
            stroke(img, crease, _mix(self.shadow, w.skin, 0.35), 0.02 * s)

    def _brow(self, img: Picture, side: int, a: dict[int, float]) -> None:
        w, s = self.who, self.s
        inner = (side * (0.175 - 0.055 * a[4]), -0.35 - 0.17 * a[1] + 0.115 * a[4] * (1 - 0.5 * min(1.0, a[1])) + 0.03 * a[9])
        mid = (side * 0.44, -0.46 - 0.08 * a[1] - 0.13 * a[2] + 0.075 * a[4] + 0.03 * a[9])
        outer = (side * 0.70, -0.36 - 0.14 * a[2] + 0.05 * a[4] * (1 - a[1]) + 0.045 * a[1] * (1 - a[2]))
        spine = curve([inner, (0.55 * inner[0] + 0.45 * mid[0], 0.42 * inner[1] + 0.58 * mid[1]), mid, outer], closed=False, steps=6)
        t = np.linspace(0, 1, len(spine))
        thick = w.brow * np.clip(0.55 + 1.6 * t - 2.0 * t**2, 0.12, None)[:, None]
        normal = np.array([[0.0, 1.0]])
        colour = _mix(_scale(w.hair, 0.75), _scale(w.skin, 0.45), 0.25)
        body = np.concatenate([spine - thick * normal, (spine + thick * normal)[::-1]])
        fill(img, self.at(body, 0.04), _mix(colour, w.skin, 0.18))
        dark, light = _scale(colour, 0.72), _scale(colour, 1.18)
        for k in range(18):
            i = min(int(k / 18 * (len(spine) - 2)), len(spine) - 2)
            n = self.brow_noise[(side + 1) // 2, k]
            p = spine[i] + np.array([0.0, 0.7 * n[0] * thick[i, 0]])
            lean = np.array([side * 0.075, -0.055 + 0.095 * t[i]])
            stroke(img, self.at(np.stack([p, p + lean]), 0.04), dark if n[1] > -0.2 else light, 0.015 * s)

    def _nose(self, img: Picture, a: dict[int, float]) -> None:
        w, s = self.who, self.s
        lift = -0.055 * a[9]
        dark = _mix(_scale(w.skin, 0.34), (50, 14, 12), 0.3)
        for side in (-1, 1):
            wide = side * w.nose * (1 + 0.12 * a[9] + 0.08 * a[12])
            hole = curve([(wide * 0.055, 0.475 + lift), (wide * 0.10, 0.445 + lift), (wide * 0.145, 0.465 + lift), (wide * 0.10, 0.49 + lift)], steps=4)
            fill(img, self.at(hole, 0.16), dark)
            wing = curve([(wide * 0.16, 0.34 + lift), (wide * 0.215, 0.42 + lift), (wide * 0.185, 0.485 + lift)], closed=False, steps=5)
            stroke(img, self.at(wing, 0.1), _mix(self.shadow, w.skin, 0.3), 0.026 * s)

    def _mouth(self, img: Picture, a: dict[int, float], jaw: float) -> None:
        w, s = self.who, self.s
        tight = min(1.0, max(a[23] * 0.7, a[24]))
        half = w.mouth * (1 + 0.34 * a[12] + 0.30 * a[20] - 0.10 * a[23] - 0.14 * a[24] - 0.16 * a[26] * (1 - a[12]) - 0.06 * a[15])
        yc = 0.715 + 0.03 * a[12] - 0.035 * a[9]
        corner = yc - 0.155 * a[12] + 0.125 * a[15] + 0.03 * a[20] + 0.45 * jaw * (1 - 0.4 * a[12])
        part = 0.055 * a[25] + 0.075 * a[25] * max(a[12], a[20] * 0.6, a[23]) + 0.02 * a[25] * a[9]
        yu = yc - 0.35 * part - 0.03 * a[25] * a[9]  # where the upper lip ends
        yl = yc + 0.65 * part + 0.92 * jaw  # where the lower lip begins
        tu = 0.082 * (1 - 0.62 * tight) * (1 - 0.25 * a[12])
        tl = 0.112 * (1 - 0.60 * tight) * (1 - 0.15 * a[12])
        bow = 0.5 * (corner - yu)
        top = [
            (-half, corner),
            (-0.52 * half, yu - 0.62 * tu + 0.5 * bow * 0.7),
            (-0.17 * half, yu - tu),
            (0.0, yu - 0.74 * tu),
            (0.17 * half, yu - tu),
            (0.52 * half, yu - 0.62 * tu + 0.5 * bow * 0.7),
            (half, corner),
        ]
        under = [
            (half, corner),
            (0.6 * half, yl + tl * 0.62 + 0.25 * (corner - yl)),
            (0.25 * half, yl + tl),
            (-0.25 * half, yl + tl),
            (-0.6 * half, yl + tl * 0.62 + 0.25 * (corner - yl)),
            (-half, corner),
        ]
        gap = 0.02
        inner_up = [
            (-half * (1 - gap), corner),
            (-0.55 * half, yu + 0.32 * (corner - yu)),
            (0.0, yu + 0.006),
            (0.55 * half, yu + 0.32 * (corner - yu)),
            (half * (1 - gap), corner),
        ]
        inner_low = [
            (half * (1 - gap), corner),
            (0.55 * half, yl + 0.28 * (corner - yl)),
            (0.0, yl),
            (-0.55 * half, yl + 0.28 * (corner - yl)),
            (-half * (1 - gap), corner),
        ]
        t, u = curve(top, closed=False, steps=5), curve(under, closed=False, steps=5)
        iu, il = curve(inner_up, closed=False, steps=5), curve(inner_low, closed=False, steps=5)
        upper = self.at(np.concatenate([t, iu[::-1]]))
        lower = self.at(np.concatenate([il, u[::-1]]))
        fill(img, upper, _scale(w.lip, 0.84 - 0.06 * self.light * 0))
        if yl - yu > 0.02:
            hole = self.at(np.concatenate([iu, il]))
            x0, y0 = (hole.min(0) - 2).astype(int)
            x1, y1 = (hole.max(0) + 3).astype(int)
            at0 = np.array([x0, y0])
            inner = np.empty((y1 - y0, x1 - x0, 3), np.uint8)
            inner[:] = (62, 22, 24)
            depth = yl - yu
            if depth > 0.12:
                tongue = self.at(curve([(-0.6 * half, yl), (0.0, yl - 0.42 * depth), (0.6 * half, yl), (0.0, yl + 0.15)])) - at0
                fill(inner, tongue, (176, 82, 84))
            show = min(0.085, 0.75 * depth) + 0.02 * a[12]
            teeth = np.concatenate([iu - np.array([0.0, 0.03]), (iu + np.array([0.0, show]) * np.clip(1 - (iu[:, :1] / half) ** 4, 0.15, 1))[::-1]])
            fill(inner, self.at(teeth) - at0, (238, 233, 224))
            if max(a[20], a[23]) > 0.4 and depth < 0.3:
                rise = 0.45 * depth
                teeth = np.concatenate([il + np.array([0.0, 0.03]), (il - np.array([0.0, rise]) * np.clip(1 - (il[:, :1] / half) ** 4, 0.1, 1))[::-1]])
                fill(inner, self.at(teeth) - at0, (222, 215, 205))
            cover = np.zeros(inner.shape[:2], np.uint8)
            fill(cover, hole - at0, 255)
            c = cover[..., None].astype(np.float32) / 255
            roi = img[y0:y1, x0:x1]
            roi[..., :3] = roi[..., :3] + c * (inner.astype(np.float32) - roi[..., :3])
        fill(img, lower, w.lip)
        shine = self.at(
            curve(
                [(-0.22 * half + 0.1 * self.light, yl + 0.45 * tl), (0.05 * self.light, yl + 0.58 * tl), (0.22 * half + 0.1 * self.light, yl + 0.45 * tl)],
                closed=False,
                steps=4,
            )
        )
        stroke(img, shine, _mix(w.lip, (255, 240, 235), 0.33), 0.022 * s)
        seam = _mix(_scale(w.lip, 0.45), (40, 10, 10), 0.4)
        stroke(img, self.at(iu), seam, 0.022 * s)
        if yl - yu <= 0.02:
            stroke(img, self.at(iu), seam, 0.03 * s)
        for side in (-1, 1):
            disc(img, *self.at([(side * half * 0.985, corner)])[0], 0.022 * s, seam)


def body(who: Person, size: tuple[int, int], scale: float, centre: tuple[float, float], light: float = -0.5) -> Picture:
    """Neck, shoulders and clothes for a head whose origin lies at ``centre`` of a picture of ``size`` (w, h).

    ``scale`` = pixels in a half face width. Premultiplied RGBA, uint8. Drawn at twice the size and averaged.
    """
    k = 2
    w, h = size[0] * k, size[1] * k
    img = np.zeros((h, w, 4), np.uint8)
    s = scale * k
    o = np.array(centre) * k

    def px(points: list[tuple[float, float]], smooth: bool = True) -> Points:
        return (curve(points) if smooth else np.asarray(points, float)) * s + o

    wide = 2.15 if who.jaw > 0.69 else 1.9
    torso = [
        (-0.5, 1.62),
        (-1.2, 1.78),
        (-wide, 2.15),
        (-wide - 0.22, 3.2),
        (-wide - 0.3, 6.0),
        (wide + 0.3, 6.0),
        (wide + 0.22, 3.2),
        (wide, 2.15),
        (1.2, 1.78),
        (0.5, 1.62),
    ]
    neck = [(-0.52, 0.7), (-0.53, 1.35), (-0.62, 1.72), (0.0, 2.15), (0.62, 1.72), (0.53, 1.35), (0.52, 0.7)]
    fill(img, px(torso), who.cloth)
    fill(img, px(neck), _scale(who.skin, 0.84))
    chin = [(-0.55, 0.8), (0.55, 0.8), (0.5, who.chin + 0.14), (0.0, who.chin + 0.30), (-0.5, who.chin + 0.14)]
    shade = img.copy()
    fill(shade, px(chin), _mix(_scale(who.skin, 0.55), (60, 20, 20), 0.1))
    blurred = cv2.GaussianBlur(shade, (0, 0), 0.08 * s)
    inside = np.zeros((h, w), np.uint8)
    fill(inside, px(neck), 255)
    np.copyto(img, blurred, where=(inside > 0)[..., None] & (img[..., 3:] == 255))
    cloth, edge = who.cloth, _scale(who.cloth, 0.72)
    if who.collar == "vneck":
        fill(img, px([(-0.62, 1.62), (0.0, 2.55), (0.62, 1.62), (0.3, 1.7), (-0.3, 1.7)], smooth=False), _scale(who.skin, 0.86))
        stroke(img, px([(-0.66, 1.62), (0.0, 2.6), (0.66, 1.62)], smooth=False), edge, 0.09 * s)
    elif who.collar == "shirt":
        for side in (-1, 1):
            fill(
                img,
                px([(side * 0.55, 1.45), (side * 0.95, 1.72), (side * 0.5, 2.25), (0.0, 2.0), (side * 0.45, 1.7)], smooth=False),
                _mix(cloth, (255, 255, 255), 0.35),
            )
            stroke(img, px([(side * 0.95, 1.72), (side * 0.5, 2.25), (0.0, 2.0)], smooth=False), edge, 0.04 * s)
        stroke(img, px([(0.0, 2.0), (0.0, 5.0)], smooth=False), edge, 0.04 * s)
    elif who.collar == "hoodie":
        stroke(img, (curve([(-0.85, 1.5), (-0.7, 2.0), (0.0, 2.32), (0.7, 2.0), (0.85, 1.5)], closed=False)) * s + o, _scale(cloth, 0.84), 0.26 * s)
        for side in (-1, 1):
            stroke(img, px([(side * 0.26, 2.3), (side * 0.24, 3.1)], smooth=False), (228, 226, 220), 0.05 * s)
    elif who.collar == "turtle":
        fill(img, px([(-0.58, 1.32), (-0.66, 1.8), (0.0, 2.1), (0.66, 1.8), (0.58, 1.32), (0.0, 1.56)]), _scale(cloth, 0.92))
    else:
        stroke(img, (curve([(-0.66, 1.62), (-0.4, 1.98), (0.0, 2.1), (0.4, 1.98), (0.66, 1.62)], closed=False)) * s + o, edge, 0.1 * s)
    xs = (np.arange(w) - o[0]) / s
    ys = (np.arange(h) - o[1]) / s
    lit = 0.97 + 0.13 * light * np.clip(xs, -2, 2)[None] - 0.07 * np.clip(ys - 1.8, 0, 2)[:, None] - 0.10 * np.clip(np.abs(xs)[None] - 1.5, 0, 1)
    img[..., :3] = np.minimum(img[..., :3] * lit[..., None], img[..., 3:]).clip(0, 255)
    return cv2.resize(img, size, interpolation=cv2.INTER_AREA)
