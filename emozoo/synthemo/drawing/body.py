"""Neck, shoulders, clothes and hands."""

from __future__ import annotations

import math

import cv2
import numpy as np

from emozoo.synthemo.drawing.draw import Canvas, Colour, Points, blend, curve, fill, scaled, stroke
from emozoo.synthemo.drawing.person import Person


def body(who: Person, size: tuple[int, int], scale: float, centre: tuple[float, float], light: float = -0.5) -> Canvas:
    """Neck, shoulders and clothes for a head whose origin lies at ``centre`` of an image of ``size`` (w, h).

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
    fill(img, px(neck), scaled(who.skin, 0.84))
    chin = [(-0.55, 0.8), (0.55, 0.8), (0.5, who.chin + 0.14), (0.0, who.chin + 0.30), (-0.5, who.chin + 0.14)]
    shade = img.copy()
    fill(shade, px(chin), blend(scaled(who.skin, 0.55), (60, 20, 20), 0.1))
    blurred = cv2.GaussianBlur(shade, (0, 0), 0.08 * s)
    inside = np.zeros((h, w), np.uint8)
    fill(inside, px(neck), 255)
    np.copyto(img, blurred, where=(inside > 0)[..., None] & (img[..., 3:] == 255))
    cloth, edge = who.cloth, scaled(who.cloth, 0.72)
    if who.collar == "vneck":
        fill(
            img,
            px([(-0.62, 1.62), (0.0, 2.55), (0.62, 1.62), (0.3, 1.7), (-0.3, 1.7)], smooth=False),
            scaled(who.skin, 0.86),
        )
        stroke(img, px([(-0.66, 1.62), (0.0, 2.6), (0.66, 1.62)], smooth=False), edge, 0.09 * s)
    elif who.collar == "shirt":
        for side in (-1, 1):
            fill(
                img,
                px(
                    [(side * 0.55, 1.45), (side * 0.95, 1.72), (side * 0.5, 2.25), (0.0, 2.0), (side * 0.45, 1.7)],
                    smooth=False,
                ),
                blend(cloth, (255, 255, 255), 0.35),
            )
            stroke(img, px([(side * 0.95, 1.72), (side * 0.5, 2.25), (0.0, 2.0)], smooth=False), edge, 0.04 * s)
        stroke(img, px([(0.0, 2.0), (0.0, 5.0)], smooth=False), edge, 0.04 * s)
    elif who.collar == "hoodie":
        stroke(
            img,
            (curve([(-0.85, 1.5), (-0.7, 2.0), (0.0, 2.32), (0.7, 2.0), (0.85, 1.5)], closed=False)) * s + o,
            scaled(cloth, 0.84),
            0.26 * s,
        )
        for side in (-1, 1):
            stroke(img, px([(side * 0.26, 2.3), (side * 0.24, 3.1)], smooth=False), (228, 226, 220), 0.05 * s)
    elif who.collar == "turtle":
        fill(
            img,
            px([(-0.58, 1.32), (-0.66, 1.8), (0.0, 2.1), (0.66, 1.8), (0.58, 1.32), (0.0, 1.56)]),
            scaled(cloth, 0.92),
        )
    else:
        stroke(
            img,
            (curve([(-0.66, 1.62), (-0.4, 1.98), (0.0, 2.1), (0.4, 1.98), (0.66, 1.62)], closed=False)) * s + o,
            edge,
            0.1 * s,
        )
    xs = (np.arange(w) - o[0]) / s
    ys = (np.arange(h) - o[1]) / s
    lit = (
        0.97
        + 0.13 * light * np.clip(xs, -2, 2)[None]
        - 0.07 * np.clip(ys - 1.8, 0, 2)[:, None]
        - 0.10 * np.clip(np.abs(xs)[None] - 1.5, 0, 1)
    )
    img[..., :3] = np.minimum(img[..., :3] * lit[..., None], img[..., 3:]).clip(0, 255)
    return cv2.resize(img, size, interpolation=cv2.INTER_AREA)


def hand(img: Canvas, who: Person, at: tuple[float, float], unit: float, side: int, *, openness: float) -> None:
    """A forearm from below with a hand at ``at`` (x, y) of the image.

    ``unit`` = pixels in a half face width; ``side`` -1 left, 1 right; ``openness`` 0 = fist, 1 = open."""
    x, y = at
    skin: Colour = who.skin
    dark = (skin[0] * 0.68, skin[1] * 0.62, skin[2] * 0.6)
    sleeve = (who.cloth[0] * 0.9, who.cloth[1] * 0.9, who.cloth[2] * 0.9)
    elbow = np.array([x + side * 0.45 * unit, y + 2.6 * unit])
    wrist = np.array([x + side * 0.04 * unit, y + 0.42 * unit])
    for points, colour, width in (
        ((elbow, wrist + [0, 0.34 * unit]), sleeve, 0.62),
        ((wrist + [0, 0.3 * unit], wrist - [0, 0.1 * unit]), skin, 0.34),
    ):
        stroke(img, np.array(points), colour, width * unit)
    if openness > 0.5:
        for n in range(4):
            q = -math.pi / 2 + side * (-0.42 + 0.26 * n)
            base = np.array([x + side * (-0.15 + 0.10 * n) * unit, y])
            tip = base + np.array([math.cos(q), math.sin(q)]) * (0.42 + 0.06 * (n in (1, 2))) * unit
            stroke(img, np.array([base, tip]), dark, 0.17 * unit)
            stroke(img, np.array([base, tip]), skin, 0.13 * unit)
        thumb = np.array([[x - side * 0.12 * unit, y + 0.25 * unit], [x - side * 0.42 * unit, y - 0.02 * unit]])
        stroke(img, thumb, dark, 0.18 * unit)
        stroke(img, thumb, skin, 0.14 * unit)
        palm = [(-0.26, -0.05), (-0.1, -0.12), (0.12, -0.12), (0.26, -0.02), (0.22, 0.36), (0.0, 0.48), (-0.22, 0.36)]
        fill(img, curve(np.array(palm)) * [side * unit, unit] + [x, y], skin)
        stroke(
            img, np.array([[x - 0.14 * unit, y + 0.12 * unit], [x + 0.12 * unit, y + 0.06 * unit]]), dark, 0.03 * unit
        )
    else:
        fist = [
            (-0.30, -0.2),
            (-0.1, -0.29),
            (0.15, -0.28),
            (0.31, -0.16),
            (0.31, 0.2),
            (0.16, 0.38),
            (-0.16, 0.38),
            (-0.31, 0.18),
        ]
        fill(img, curve(np.array(fist)) * [side * unit, unit] + [x, y], skin)
        for n in range(3):
            u = x + (-0.15 + 0.15 * n) * unit
            stroke(img, np.array([[u, y - 0.22 * unit], [u, y + 0.06 * unit]]), dark, 0.035 * unit)
        stroke(
            img,
            np.array([[x - side * 0.3 * unit, y + 0.12 * unit], [x + side * 0.1 * unit, y + 0.16 * unit]]),
            dark,
            0.09 * unit,
        )
        stroke(
            img,
            np.array([[x - side * 0.3 * unit, y + 0.12 * unit], [x + side * 0.1 * unit, y + 0.14 * unit]]),
            skin,
            0.06 * unit,
        )
