"""Drawn scenes: a backdrop, and a mood (colours, weather, things) that carries evidence of an emotion.

The backdrop shows where the person is, the mood which emotion: a backdrop alone tells little.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from emozoo.synthemo.drawing.backdrops import PAINT, Brush
from emozoo.synthemo.drawing.draw import Array, Canvas, Colour
from emozoo.synthemo.drawing.things import DECOY_THINGS, decoy, thing


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


# The backdrops of an emotion in half of the clips; the other half takes any.
TYPICAL: dict[str, tuple[str, ...]] = {
    "anger": ("street", "office", "alley"),
    "disgust": ("kitchen", "alley", "street"),
    "fear": ("forest", "alley", "hall"),
    "happiness": ("park", "beach", "room"),
    "neutral": ("office", "room", "street"),
    "sadness": ("room", "street", "mountains"),
    "surprise": ("hall", "room", "park"),
}


class Scene:
    """One clip's surroundings. :meth:`frame` draws them at a time in seconds, without the person.

    ``size`` (w, h). ``shows`` = the emotion whose mood the scene has. ``spots`` = (x, y, k) of every thing; the first
    ones carry the evidence. With ``one_spot`` nothing but the thing at ``spots[0]`` does: colours and weather are
    those of a plain day, and the other spots hold decoys. ``walkers`` = how many people pass behind.
    """

    def __init__(
        self,
        size: tuple[int, int],
        backdrop: str,
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
        PAINT[backdrop](Brush(big), rng)
        base = cv2.resize(big, size, interpolation=cv2.INTER_AREA)
        base = cv2.GaussianBlur(base, (0, 0), max(0.3, 0.0045 * self.h))  # a little out of focus
        self.weather = "none" if one_spot else self.mood.weather
        mood = MOODS["neutral"] if one_spot else self.mood
        amount = mood.amount * (0.3 if one_spot else rng.uniform(0.75, 1.15))
        grey = cv2.cvtColor(base, cv2.COLOR_RGB2GRAY)[..., None].astype(float)
        image = grey + (base - grey) * (0.9 if one_spot else mood.saturation * rng.uniform(0.9, 1.1))
        image = image * (1 - amount) + np.array(mood.tint) * (0.35 + 0.65 * grey / 255) * amount
        ys, xs = np.mgrid[0 : self.h, 0 : self.w].astype(float)
        ys, xs = ys / self.h - 0.5, xs / self.w - 0.5
        image *= (mood.light * rng.uniform(0.93, 1.07) * (1 - mood.vignette * 2.0 * (xs**2 + ys**2)))[..., None]
        if self.weather == "sunshine":
            corner = np.hypot(xs - rng.choice([-0.42, 0.42]), ys + 0.42)
            image += (np.exp(-((corner / 0.34) ** 2))[..., None]) * np.array([96, 76, 30])
        self.base: Canvas = image.clip(0, 255).astype(np.uint8)
        names = [self.mood.things[int(i)] for i in rng.permutation(3)]
        self.things = [
            (names[i % 3], s, int(rng.integers(1, 9))) for i, s in enumerate(spots[: 1 if one_spot else len(spots)])
        ]
        if one_spot:
            for s in spots[1:]:
                decoy(Brush(self.base), str(rng.choice(DECOY_THINGS)), *s)
        self.bits: Array = rng.random((70, 4))
        self.walkers = [
            (rng.random(), rng.choice([-1, 1]) * rng.uniform(0.1, 0.3), rng.uniform(0.5, 0.7), rng.uniform(50, 110))
            for _ in range(walkers)
        ]
        self.fog: Canvas | None = None
        if self.weather == "mist":
            noise = cv2.resize(rng.random((5, 9)), (self.w * 2, self.h), interpolation=cv2.INTER_CUBIC)
            self.fog = (noise.clip(0, 1) * 70).astype(np.uint8)

    def frame(self, t: float) -> Canvas:
        """The scene ``t`` seconds into the clip: (h, w, 3) RGB uint8."""
        img = self.base.copy()
        b = Brush(img)
        for x0, speed, tall, tone in self.walkers:
            x = (x0 + speed * t + 0.1) % 1.2 - 0.1
            self._walker(b, x, tall, tone, t)
        for name, (x, y, k), seed in self.things:
            thing(b, name, x, y, k, t, seed)
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
                b.oval(
                    (x + 0.015 * np.sin(5 * t + 6 * v)) % 1,
                    fall,
                    0.016,
                    0.016 * abs(np.cos(4 * t + 6 * u)) + 0.004,
                    colour,
                    180 * v,
                )
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
