"""The face without what moves: outline, light, nose ridge, cheeks, lines of age, beard."""

from __future__ import annotations

import cv2
import numpy as np

from emozoo.synthemo.drawing.draw import Array, Canvas, Colour, blend, curve, disc, fill, scaled, stroke
from emozoo.synthemo.drawing.person import Person
from emozoo.synthemo.drawing.skull import Skull


def shadow_of(who: Person) -> Colour:
    """What this skin darkens to in folds."""
    return blend(scaled(who.skin, 0.50), (70, 18, 18), 0.14)


class Folds:
    """Darkens skin where a soft mask says so, towards the skin's own shadow."""

    def __init__(self, who: Person, strength: float) -> None:
        levels = np.arange(256)[:, None] / 255 * strength
        kept = 1 - levels * (1 - np.array(shadow_of(who)) / np.array(who.skin))
        self.table = np.concatenate([kept * 255, np.full((256, 1), 255)], 1).round().astype(np.uint8)[None]

    def darken(self, layer: Canvas, soft: Canvas) -> None:
        """``layer`` RGBA, ``soft`` 0..255 of the same size; in place."""
        cv2.multiply(layer, cv2.LUT(cv2.merge((soft, soft, soft, soft)), self.table), layer, 1 / 255)


def skin(k: Skull) -> Canvas:
    """The still layer of the face."""
    w, s = k.who, k.s
    mask = k.mask()
    fill(mask, k.outline(), 255)
    x, y = k.axes()
    xt, yt = x - k.sin_yaw * 0.85, y + k.sin_pitch * 0.85  # features sit where the turn puts them
    nz = np.sqrt(np.clip(1 - (x / 1.12) ** 2 - (y / 1.62) ** 2, 0, 1))
    tone = 0.51 + 0.28 * nz + (0.14 * k.light) * x - 0.06 * y  # a softened Lambert term on an ellipsoid
    small = cv2.resize(mask, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    edge = cv2.resize(cv2.GaussianBlur(small, (0, 0), 0.035 * s), (k.width, k.height)) / 255
    tone += 0.19 * np.clip((edge - 0.42) / 0.5, 0, 1)  # the head turns away at its edge

    def blob(cx: float, cy: float, rx: float, ry: float) -> Array:
        return np.exp(-(((yt - cy) / ry) ** 2)) * np.exp(-(((xt - cx) / rx) ** 2))

    # Darker skin reflects the light more sharply than it scatters it.
    shine = 1 + 1.1 * max(0.0, 1 - (0.3 * w.skin[0] + 0.6 * w.skin[1] + 0.1 * w.skin[2]) / 165)
    g, n = w.gap, w.nose
    for side in (-1, 1):
        tone -= 0.13 * shine * blob(side * g, -0.15, 0.29, 0.17)  # sockets
        tone -= 0.10 * blob(side * 0.18, -0.13, 0.09, 0.16)  # root of the nose
        tone += 0.075 * shine**2 * blob(side * 0.52, 0.27, 0.28, 0.19)  # cheekbones
        tone -= 0.05 * blob(side * 0.72, 0.64, 0.2, 0.28)
        away = 1.0 if side * k.light < 0 else 0.35  # the side of the nose in its own shade
        tone -= 0.13 * away * blob(side * 0.165 * n, 0.2, 0.06, 0.26)
        tone -= 0.12 * blob(side * 0.235 * n, 0.40, 0.07, 0.08)
        tone += 0.07 * blob(side * 0.14 * n, 0.40, 0.06, 0.06)  # wings of the nose
    tone += 0.13 * shine**2 * blob(-0.02 * k.light, 0.1, 0.06, 0.3)
    tone += 0.17 * shine * blob(0.03 * k.light, 0.36, 0.085, 0.075)
    tone += 0.06 * shine * blob(0.25 * k.light, -0.78, 0.5, 0.26)
    tone -= 0.17 * blob(0, 0.53, 0.18, 0.035) + 0.06 * blob(0, 0.60, 0.045, 0.06)  # below the nose, philtrum
    tone += 0.07 * blob(0.05 * k.light, w.chin - 0.16, 0.2, 0.11)
    tone -= 0.11 * blob(0, w.chin - 0.32, 0.24, 0.05)
    fine = k.rng.standard_normal((k.height // 2, k.width // 2), np.float32).astype(float)
    tone += 0.007 * cv2.resize(cv2.GaussianBlur(fine, (0, 0), 1.0), (k.width, k.height)) / 0.28
    dark = np.clip(0.92 - tone, 0, 1)  # shadows on skin are warm
    red = w.blush * (blob(0.54, 0.33, 0.26, 0.2) + blob(-0.54, 0.33, 0.26, 0.2) + 0.5 * blob(0, 0.38, 0.14, 0.1))
    img = k.canvas()
    for channel, (base, warm, blush) in enumerate(zip(w.skin, (16, -10, -14), (14, -16, -12), strict=True)):
        img[..., channel] = np.clip(base * tone + warm * dark + blush * red, 0, 255)
    img[..., 3] = 255
    if w.freckles:
        for p in k.on(np.stack([k.rng.normal(0, 0.42, 60), k.rng.normal(0.26, 0.12, 60)], 1)):
            disc(img, p[0], p[1], 0.012 * s, scaled(w.skin, 0.8))
    if w.age > 0.35:
        _age(k, img)
    if w.beard != "none":
        _beard(k, img, xt, yt)
    return cv2.multiply(img, cv2.merge((mask, mask, mask, mask)), scale=1 / 255)


def _age(k: Skull, img: Canvas) -> None:
    w, s = k.who, k.s
    soft = k.mask()
    for i in range(3):
        y = -0.86 + 0.13 * i
        stroke(soft, k.on(curve([(-0.42, y), (0.0, y - 0.04), (0.42, y)], closed=False)), 120 * w.age, 0.02 * s)
    for side in (-1, 1):
        for i in (-1, 0, 1):
            crow = [(side * 0.72, -0.08 + 0.05 * i), (side * 0.86, -0.10 + 0.10 * i)]
            stroke(soft, k.on(crow), 120 * w.age, 0.02 * s)
        bag = [(side * 0.26, 0.10), (side * 0.42, 0.165), (side * 0.58, 0.10)]
        stroke(soft, k.on(curve(bag, closed=False)), 150 * w.age, 0.03 * s)
        fold = [(side * 0.26, 0.42), (side * 0.40, 0.58), (side * 0.46, 0.78)]
        stroke(soft, k.on(curve(fold, closed=False)), 170 * w.age, 0.03 * s)
    Folds(w, 0.8).darken(img, cv2.GaussianBlur(soft, (0, 0), 0.02 * s))


def _beard(k: Skull, img: Canvas, x: Array, y: Array) -> None:
    w = k.who
    reach = 0.30 + 0.75 * np.clip(1 - np.abs(x) / 0.95, 0, 0.42)
    outer = 1 / (1 + np.exp(-(y - reach) / 0.05))
    moustache = np.exp(-((x / 0.36) ** 4) - ((y - 0.59 - 0.12 * x**2) / 0.075) ** 4)
    lips = np.exp(-((x / 0.38) ** 4) - ((y - 0.76) / 0.11) ** 4)
    cover = moustache if w.beard == "moustache" else np.maximum(outer * (1 - lips), moustache)
    white = k.rng.standard_normal((k.height, k.width), np.float32).astype(float)
    blurred = cv2.GaussianBlur(white, (0, 0), sigmaX=max(0.5, 0.008 * k.s), sigmaY=max(0.7, 0.025 * k.s))
    grain = blurred / max(1e-6, float(blurred.std()))
    amount = np.clip((0.36 if w.beard == "stubble" else 0.88) * cover * np.clip(1 + 0.22 * grain, 0, 1.2), 0, 1)
    hair = np.array(scaled(w.hair, 0.95)) * (1 + 0.14 * grain[..., None])
    img[..., :3] = np.clip(img[..., :3] + amount[..., None] * (hair - img[..., :3]), 0, 255)
