"""A head that shows action units: still layers made once, moving features drawn for every frame."""

from __future__ import annotations

import cv2
import numpy as np

from emozoo.synthemo.drawing.draw import (
    Array,
    Canvas,
    Colour,
    Points,
    blend,
    curve,
    disc,
    fill,
    overlay,
    scaled,
    stroke,
)
from emozoo.synthemo.drawing.hair import before, behind
from emozoo.synthemo.drawing.person import AUS, Person
from emozoo.synthemo.drawing.skin import Folds, shadow_of, skin
from emozoo.synthemo.drawing.skull import TOP, Skull

Units = dict[int, float]


class Head(Skull):
    """One person's head at one turn, in one light, with or without a cover of "eyes" or "mouth"."""

    def __init__(
        self, who: Person, scale: float, yaw: float = 0.0, pitch: float = 0.0, light: float = -0.5, occluder: str = ""
    ) -> None:
        super().__init__(who, scale, yaw, pitch, light)
        self.shadow = shadow_of(who)
        self.folds = Folds(who, 0.85)
        self.back = behind(self)
        self.base = skin(self)
        self.front = before(self, occluder)
        rows = np.flatnonzero(self.front[..., 3].any(1))
        self.front_rows = slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)
        self._hair_shade()
        self.line = blend(scaled(who.skin, 0.28), (20, 14, 16), 0.6)
        self.brow_noise = self.rng.uniform(-1, 1, (2, 18, 2))

    def _hair_shade(self) -> None:
        """Hair throws a soft shadow on the skin below it."""
        small = cv2.resize(self.front[: self.row(0.3), :, 3], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        moved = cv2.warpAffine(
            small, np.array([[1, 0, -0.02 * self.light * self.s], [0, 1, 0.045 * self.s]]), small.shape[::-1]
        )
        soft = cv2.GaussianBlur(moved, (0, 0), 0.03 * self.s)
        part = self.base[: self.row(0.3)]
        shade = cv2.resize(soft, (part.shape[1], part.shape[0]))
        Folds(self.who, 0.55).darken(part, shade)

    def draw(self, au: Array, gaze: tuple[float, float] = (0.0, 0.0)) -> Canvas:
        """The head with these action units (order of ``AUS``): premultiplied RGBA, uint8.

        ``gaze`` = where the irises sit, -1..1 to the right and down.
        """
        a = {n: float(min(max(v, 0.0), 1.2)) for n, v in zip(AUS, au, strict=True)}
        jaw = 0.32 * a[26] + 0.02 * a[25]
        img = self.back.copy()
        if jaw > 0.004:  # the jaw opens by stretching the skin below the nose
            row = int((0.50 - TOP) * self.s)
            k = 1 + jaw / (self.who.chin - 0.50)
            overlay(img[:row], self.base[:row])
            stretched = (self.width, self.height - row)
            overlay(img[row:], cv2.warpAffine(self.base[row:], np.array([[1.0, 0, 0], [0, k, 0]]), stretched))
        else:
            overlay(img, self.base)
        self._wrinkles(img, a, jaw)
        for side in (-1, 1):
            self._eye(img, side, a, gaze)
            self._brow(img, side, a)
        self._nose(img, a)
        self._mouth(img, a, jaw)
        if self.front_rows.stop:
            overlay(img[self.front_rows], self.front[self.front_rows])
        return img

    def _wrinkles(self, img: Canvas, a: Units, jaw: float) -> None:
        """Soft folds: forehead, between the brows, beside the nose, under the eyes, above the chin; rising cheeks."""
        s = self.s
        rows = slice(self.row(-1.15), self.row(self.who.chin + 0.1 + jaw))
        columns = slice(self.column(-1.25), self.column(1.25))
        soft = self.mask()

        def fold(points: list[tuple[float, float]], depth: float, width: float, lift: float = 0.0) -> None:
            if depth > 0.04:
                stroke(soft, self.on(curve(points, False, 5), lift), 255 * min(1.0, depth), width * s)

        raised = max(0.0, 0.5 * (a[1] + a[2]) - 0.35 * a[4] * (a[2] < 0.3))
        wide = 0.54 if a[2] > 0.3 else 0.28
        for i in range(3):
            y = -0.70 - 0.13 * i - 0.03 * raised
            middle = [(-wide / 2, y - 0.015), (0.0, y + 0.01), (wide / 2, y - 0.015)]
            fold([(-wide, y + 0.03), *middle, (wide, y + 0.03)], 0.6 * raised, 0.03)
        for i in range(3):
            y = -0.04 + 0.085 * i
            fold([(-0.14, y - 0.03), (0.0, y + 0.02), (0.14, y - 0.03)], 0.8 * a[9], 0.03, 0.1)
        fold([(-0.17, 1.0 + jaw), (0.0, 0.965 + jaw), (0.17, 1.0 + jaw)], 0.65 * max(a[15], a[24]), 0.05)
        beside = 0.8 * a[12] + 0.85 * a[9] + 0.2 * a[15] + 0.25 * a[20]
        out = 0.08 * a[12] - 0.02 * a[15]
        lid = max(a[6], 0.7 * a[7], 0.6 * a[9])
        g = self.who.gap
        for side in (-1, 1):
            fold([(side * 0.07, -0.26), (side * 0.09, -0.44), (side * 0.06, -0.60)], 0.95 * a[4], 0.036)
            nose = (side * 0.23, 0.36 - 0.05 * a[9])
            fold([nose, (side * (0.41 + out), 0.50), (side * (0.53 + out), 0.74 + 0.4 * jaw)], beside, 0.04)
            fold([(side * (g - 0.2), 0.095), (side * g, 0.145), (side * (g + 0.22), 0.08)], 0.65 * lid, 0.035)
            for i in (-1, 1):
                fold([(side * 0.75, -0.06 + 0.03 * i), (side * 0.87, -0.07 + 0.09 * i)], 0.45 * a[6], 0.025)
        area = img[rows, columns]
        self.folds.darken(area, cv2.GaussianBlur(soft[rows, columns], (0, 0), 0.024 * s))
        rise = 0.5 * (a[6] + a[12])
        if rise > 0.12:
            part = img[self.row(0.0) : self.row(0.62), columns]
            xs, ys = self.axes()
            xs, ys = xs[:, columns] - self.sin_yaw * 0.8, ys[self.row(0.0) : self.row(0.62)]
            glow = np.exp(-(((np.abs(xs) - 0.56) / 0.19) ** 2)) * np.exp(-(((ys - 0.30) / 0.14) ** 2))
            tint = np.array([26, 12, 8]) * (rise * (0.55 + 0.9 * self.who.blush))
            added = glow[..., None] * tint * (part[..., 3:] / 255)
            part[..., :3] = np.minimum(part[..., :3] + added, 255)

    def _inlay(self, img: Canvas, shape: Points, paint: Canvas, corner: Points) -> None:
        """Lays the opaque ``paint``, whose upper left corner is ``corner``, into ``shape``."""
        cover = np.zeros(paint.shape[:2], np.uint8)
        fill(cover, shape - corner, 255)
        x, y = int(corner[0]), int(corner[1])
        roi = img[y : y + paint.shape[0], x : x + paint.shape[1], :3]
        c = cover[..., None] / 255
        roi[:] = roi + c * (paint.astype(float) - roi)

    def _eye(self, img: Canvas, side: int, a: Units, gaze: tuple[float, float]) -> None:
        w, s = self.who, self.s
        e = 1.14 * w.eye
        cx, cy, half = side * w.gap, -0.08, 0.205 * e
        closed = min(1.0, a[43])
        upper = (0.116 + 0.080 * a[5] - 0.052 * a[7] - 0.02 * a[6] - 0.035 * a[9]) * e
        lower = (0.075 + 0.015 * a[5] - 0.042 * a[7] - 0.060 * a[6] - 0.03 * a[9]) * e
        upper += closed * (-lower - 0.004 - upper)
        hang = 0.05 * min(1.0, a[1] * (a[15] + 0.5 * a[43])) * e  # the outer lid of a sad eye
        inner, outer = (cx - side * half, cy + 0.03), (cx + side * half, cy + 0.005 + hang - w.tilt)
        over_ = [(cx - side * 0.5 * half, cy - 0.80 * upper), (cx, cy - upper)]
        over_ += [(cx + side * 0.58 * half, cy - 0.80 * upper + 0.6 * hang - 0.5 * w.tilt)]
        under = [(cx + side * 0.5 * half, cy + 0.88 * lower - 0.5 * w.tilt), (cx, cy + lower)]
        under += [(cx - side * 0.55 * half, cy + 0.8 * lower)]
        lid = curve([inner, *over_, outer], False, 5)
        u, v = self.on(lid), self.on(curve([outer, *under, inner], False, 5))
        shape = np.concatenate([u, v[1:-1]])
        corner = np.floor(shape.min(0)) - 3
        size = (np.ceil(shape.max(0)) + 4 - corner).astype(int)
        paint = np.empty((size[1], size[0], 3), np.uint8)
        paint[:] = (238, 233, 228)
        x, y = self.on([(cx + 0.075 * gaze[0], cy + 0.005 + 0.045 * gaze[1])])[0] - corner
        radius = 0.108 * e * s
        disc(paint, x, y, radius, scaled(w.iris, 0.5))
        disc(paint, x, y, radius * 0.88, w.iris)
        disc(paint, x, y + radius * 0.3, radius * 0.5, scaled(w.iris, 1.45))
        disc(paint, x, y, radius * 0.48, (14, 11, 12))
        dim = paint.copy()  # the lid's shadow
        stroke(dim, u - corner + [0, 0.018 * s], (86, 66, 62), 0.065 * s)
        paint = cv2.addWeighted(dim, 0.5, paint, 0.5, 0)
        glint = 1 if self.light >= 0 else -1
        disc(paint, x + 0.34 * radius * glint, y - 0.38 * radius, 0.25 * radius, (255, 255, 255))
        self._inlay(img, shape, paint, corner)
        stroke(img, v, blend(self.shadow, self.line, 0.25), 0.016 * s)
        stroke(img, u, self.line, 0.042 * s)
        stroke(img, self.on([outer, (outer[0] + side * 0.05, outer[1] - 0.025)]), self.line, 0.034 * s)
        if closed < 0.6:
            crease = lid[3:-2] - [0.0, 0.06 + 0.02 * a[7] - 0.02 * a[5]]
            stroke(img, self.on(crease), blend(self.shadow, w.skin, 0.35), 0.02 * s)

    def _brow(self, img: Canvas, side: int, a: Units) -> None:
        w, s = self.who, self.s
        calm = 1 - min(1.0, a[1])
        inner = (side * (0.18 - 0.06 * a[4]), -0.375 - 0.17 * a[1] + a[4] * (0.06 + 0.07 * calm) + 0.03 * a[9])
        mid = (side * 0.45, -0.49 - 0.07 * a[1] - 0.13 * a[2] + 0.075 * a[4] * (0.5 + 0.5 * calm) + 0.03 * a[9])
        outer = (side * 0.73, -0.38 - 0.14 * a[2] + 0.045 * a[4] * calm + 0.045 * a[1] * (1 - min(1.0, a[2])))
        between = (0.55 * inner[0] + 0.45 * mid[0], 0.42 * inner[1] + 0.58 * mid[1])
        spine = curve([inner, between, mid, outer], False, 6)
        t = np.linspace(0, 1, len(spine))
        thick = (w.brow * np.clip(0.6 + 1.6 * t - 2.05 * t**2, 0.12, None))[:, None]
        colour = blend(scaled(w.hair, 0.72), scaled(w.skin, 0.4), 0.25)
        up, down = spine - thick * [0.0, 1.0], (spine + thick * [0.0, 1.0])[::-1]
        fill(img, self.on(np.concatenate([up, down]), 0.04), blend(colour, w.skin, 0.15))
        noise = self.brow_noise[(side + 1) // 2]
        i = (np.arange(18) / 18 * (len(spine) - 2)).astype(int)
        root = spine[i] + np.stack([np.zeros(18), 0.7 * noise[:, 0] * thick[i, 0]], 1)
        tip = root + np.stack([np.full(18, side * 0.075), -0.055 + 0.095 * t[i]], 1)
        lines = self.on(np.stack([root, tip], 1).reshape(-1, 2), 0.04).reshape(18, 2, 2)
        for dark, tone in ((True, 0.68), (False, 1.2)):
            stroke(img, lines[(noise[:, 1] > -0.2) == dark], scaled(colour, tone), 0.015 * s)

    def _nose(self, img: Canvas, a: Units) -> None:
        w, s = self.who, self.s
        lift = -0.06 * a[9]
        dark = blend(scaled(w.skin, 0.34), (50, 14, 12), 0.3)
        for side in (-1, 1):
            x = side * w.nose * 1.1 * (1 + 0.12 * a[9] + 0.08 * a[12])
            hole = [(x * 0.05, 0.48), (x * 0.10, 0.445), (x * 0.15, 0.465), (x * 0.10, 0.495)]
            fill(img, self.on(curve(hole, steps=4) + [0, lift], 0.16), dark)
            wing = [(x * 0.165, 0.33), (x * 0.222, 0.42), (x * 0.185, 0.49)]
            stroke(img, self.on(curve(wing, False, 5) + [0, lift], 0.1), blend(self.shadow, w.skin, 0.22), 0.026 * s)

    def _mouth(self, img: Canvas, a: Units, jaw: float) -> None:
        w, s = self.who, self.s
        tight = min(1.0, max(a[23] * 0.6, a[24]))
        wide = 1 + 0.34 * a[12] + 0.30 * a[20] - 0.10 * a[23] - 0.14 * a[24] - 0.18 * a[26] * (1 - min(1, a[12]))
        half = 1.1 * w.mouth * wide
        yc = 0.725 + 0.03 * a[12] - 0.03 * a[9]
        corner = yc - 0.16 * a[12] + 0.135 * a[15] + 0.03 * a[20] + 0.45 * jaw * (1 - 0.4 * a[12])
        part = a[25] * (0.06 + 0.085 * max(a[12], a[20] * 0.7, a[23]) + 0.03 * a[9])
        yu = yc - 0.35 * part - 0.05 * a[9] * (0.4 + a[25])  # where the upper lip ends
        yl = yc + 0.65 * part + 0.95 * jaw - 0.02 * a[9] * (1 - min(1, a[25]))  # where the lower lip begins
        tu = 0.088 * (1 - 0.62 * tight) * (1 - 0.22 * a[12])
        tl = 0.118 * (1 - 0.60 * tight) * (1 - 0.15 * a[12])
        bow = 0.35 * (corner - yu)
        left = [(-half, corner), (-0.52 * half, yu - 0.64 * tu + bow), (-0.17 * half, yu - tu), (0.0, yu - 0.74 * tu)]
        top = curve([*left, *[(-x, y) for x, y in left[2::-1]]], False, 5)
        sag = yl + 0.62 * tl + 0.25 * (corner - yl)
        under = [(half, corner), (0.6 * half, sag), (0.25 * half, yl + tl)]
        below = curve([*under, *[(-x, y) for x, y in under[::-1]]], False, 5)
        roof = [(-0.98 * half, corner), (-0.55 * half, yu + 0.30 * (corner - yu)), (0.0, yu + 0.006)]
        iu = curve([*roof, *[(-x, y) for x, y in roof[1::-1]]], False, 5)
        floor = [(0.98 * half, corner), (0.55 * half, yl + 0.28 * (corner - yl)), (0.0, yl)]
        il = curve([*floor, *[(-x, y) for x, y in floor[1::-1]]], False, 5)
        shaded: Colour = scaled(w.lip, 0.80)
        fill(img, self.on(np.concatenate([top, iu[::-1]])), shaded)
        gap = yl - yu
        if gap > 0.02:
            hole = self.on(np.concatenate([iu, il]))
            at = np.floor(hole.min(0)) - 2
            size = (np.ceil(hole.max(0)) + 3 - at).astype(int)
            paint = np.empty((size[1], size[0], 3), np.uint8)
            paint[:] = (62, 22, 24)
            if gap > 0.12:
                tongue = [(-0.6 * half, yl), (0.0, yl - 0.42 * gap), (0.6 * half, yl), (0.0, yl + 0.15)]
                fill(paint, self.on(curve(tongue)) - at, (176, 82, 84))
            show = min(0.09, 0.75 * gap) + 0.02 * a[12]
            fade = 1 - (iu[:, :1] / half) ** 4
            teeth = np.concatenate([iu - [0, 0.03], (iu + [0, show] * np.clip(fade, 0.15, 1))[::-1]])
            fill(paint, self.on(teeth) - at, (240, 235, 226))
            if max(a[20], a[23]) > 0.4 and gap < 0.3:
                teeth = np.concatenate([il + [0, 0.03], (il - [0, 0.45 * gap] * np.clip(fade, 0.1, 1))[::-1]])
                fill(paint, self.on(teeth) - at, (222, 215, 205))
            self._inlay(img, hole, paint, at)
        fill(img, self.on(np.concatenate([il, below])), w.lip)
        x = 0.1 * self.light
        shine = [(x - 0.2 * half, yl + 0.45 * tl), (0.5 * x, yl + 0.56 * tl), (x + 0.2 * half, yl + 0.45 * tl)]
        stroke(img, self.on(curve(shine, False, 4)), blend(w.lip, (255, 240, 235), 0.22), 0.022 * s)
        seam = blend(scaled(w.lip, 0.42), (40, 10, 10), 0.4)
        stroke(img, self.on(iu), seam, (0.022 if gap > 0.02 else 0.032) * s)
        for end in self.on([(-half * 0.985, corner), (half * 0.985, corner)]):
            disc(img, end[0], end[1], 0.022 * s, seam)
