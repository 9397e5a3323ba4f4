"""The cause of a clip: knobs, the plan of one clip, and its course over time. Nothing is drawn here."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from emozoo.errors import UsageError
from emozoo.labels import BASIC7, CIRCUMPLEX
from emozoo.synthemo.drawing.backdrops import BACKDROPS
from emozoo.synthemo.drawing.draw import Array
from emozoo.synthemo.drawing.person import AU_INDEX, DECOYS, PROTOTYPES, expression
from emozoo.synthemo.drawing.scene import TYPICAL

EMOTIONS = BASIC7
VIEWS = ("face", "scene", "voice", "action")


@dataclass(frozen=True)
class Knobs:
    """The settings of a set of clips. Probabilities are 0..1.

    ``face``, ``scene``, ``voice``, ``action``: how often that view shows the clip's emotion; else it shows neutral or
    another emotion, half and half. 1 / number of emotions or less carries nothing.
    ``combine``: two or more views that decide the label only together: with the emotions numbered, the label is the sum
    of what these views show, modulo the number of emotions. Each alone, and each proper subset, is at chance; other
    views are random. The probability of a view is then that of showing its part of the sum, else a random emotion.
    ``burst``: fraction of the clip in which face, voice and action show anything (0: most of it).
    ``spot``: the scene shows its emotion by one thing in one place (else by colours, weather and several things).
    ``decoys``: short movements of the face, without meaning, per clip.
    ``talking``: how often the person's mouth follows the voice; ``blinking`` blinks a second; ``flicker`` relative
    brightness swing; ``motion`` how often people pass behind; ``occlusion`` how often eyes or mouth are covered;
    ``noise`` standard deviation in grey levels; ``crf`` the H.264 quality (0 best .. 51).
    ``screen``: a plain screen behind the head, so that a crop of the face holds nothing of the scene (always on where
    ``combine`` has both).
    ``people``: how many persons there are; 70 % train, 10 % val, 20 % test, by person.
    ``emotions``: the emotions that occur.
    """

    face: float = 0.9
    scene: float = 0.8
    voice: float = 0.8
    action: float = 0.8
    combine: tuple[str, ...] = ()
    burst: float = 0.0
    spot: bool = False
    decoys: int = 0
    talking: float = 0.5
    blinking: float = 0.3
    flicker: float = 0.03
    motion: float = 0.25
    occlusion: float = 0.04
    noise: float = 2.0
    crf: int = 23
    screen: bool = False
    people: int = 200
    emotions: tuple[str, ...] = field(default=EMOTIONS)

    def __post_init__(self) -> None:
        object.__setattr__(self, "combine", tuple(self.combine))
        object.__setattr__(self, "emotions", tuple(self.emotions))
        for name in (*VIEWS, "burst", "talking", "motion", "occlusion"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"SynthEmo knob {name} must lie in 0..1, got {getattr(self, name)}")
        if len(self.combine) == 1 or len(set(self.combine)) < len(self.combine) or not set(self.combine) <= set(VIEWS):
            raise UsageError(f"SynthEmo knob combine takes two or more different views of {VIEWS}, got {self.combine}")
        if (
            len(self.emotions) < 2
            or len(set(self.emotions)) < len(self.emotions)
            or not set(self.emotions) <= set(EMOTIONS)
        ):
            raise UsageError(
                f"SynthEmo knob emotions takes two or more different ones of {EMOTIONS}, got {self.emotions}"
            )
        if self.people < 10:
            raise UsageError(f"SynthEmo needs at least 10 people, so that every split has some; got {self.people}")

    @property
    def has_screen(self) -> bool:
        """Whether a plain screen stands behind the head."""
        return self.screen or {"face", "scene"} <= set(self.combine)


@dataclass(frozen=True)
class Cause:
    """All that decides one clip; :func:`render` of the same cause gives the same pixels and samples.

    Lengths are in pixels, times in seconds. ``shows`` = what each view of ``VIEWS`` shows. ``spot`` = box (x1, y1, x2,
    y2) of the first thing in the scene, the only one with evidence if the knob is set.
    """

    seed: int
    index: int
    label: str
    shows: tuple[str, ...]
    person: int
    split: str
    fold: int
    burst_start: float
    burst_end: float
    peak: float
    variant: int
    backdrop: str
    spots: tuple[tuple[float, float, float], ...]
    spot: tuple[float, float, float, float]
    walkers: int
    talking: bool
    occluded: str
    yaw: float
    pitch: float
    roll: float
    light: float
    centre: tuple[float, float]
    half: float
    size: tuple[int, int]
    seconds: float
    fps: float
    knobs: Knobs

    @property
    def frames(self) -> int:
        """The number of frames."""
        return round(self.seconds * self.fps)

    @property
    def conflicts(self) -> tuple[str, ...]:
        """The views that show another emotion than the label."""
        return tuple(v for v, e in zip(VIEWS, self.shows, strict=True) if e != self.label)

    def rng(self, part: int) -> np.random.Generator:
        """The random numbers of one part (face, scene, voice, ...), independent of those of the other parts."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(self.index, part)))


def split_of(number: int) -> str:
    """The split of a person, the same in every data set."""
    return ("train", "train", "train", "train", "train", "train", "train", "val", "test", "test")[number % 10]


def plan(
    seed: int,
    index: int,
    knobs: Knobs | None = None,
    *,
    size: tuple[int, int] = (192, 144),
    seconds: float = 2.4,
    fps: float = 12.5,
    split: str | None = None,
) -> Cause:
    """The cause of clip ``index``: a pure function of its arguments, so independent of how many clips are made.

    Labels are balanced in every run of as many clips as there are emotions. ``split``: only people of that split.
    ``size`` = (w, h).
    """
    knobs = knobs or Knobs()
    w, h = size
    if w < 64 or h < 64 or w % 2 or h % 2:
        raise UsageError(f"SynthEmo size must be even and at least 64 pixels each way, got {w}x{h}")
    if seed < 0 or index < 0:
        raise UsageError(f"SynthEmo seed and index must not be negative, got {seed} and {index}")
    if seconds * fps < 2:
        raise UsageError(f"SynthEmo clips need two frames or more, got {seconds} s at {fps} frames/s")
    k = len(knobs.emotions)
    block = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1 << 30, index // k)))
    code = int(block.permutation(k)[index % k])
    r = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, 0)))
    label = knobs.emotions[code]

    number = int(r.integers(knobs.people))
    if split is not None:
        allowed = [p for p in range(knobs.people) if split_of(p) == split]
        if not allowed:
            raise UsageError(f"SynthEmo split must be train, val or test, got {split!r}")
        number = allowed[number % len(allowed)]

    draws = {v: int(r.integers(k)) for v in VIEWS}
    if knobs.combine:
        last = knobs.combine[-1]
        draws[last] = (code - sum(draws[v] for v in knobs.combine[:-1])) % k
    shows = []
    for view in VIEWS:
        keep, other, calm = r.random() < getattr(knobs, view), int(r.integers(k)), r.random() < 0.5
        if knobs.combine:
            shows.append(knobs.emotions[draws[view] if keep or view not in knobs.combine else other])
        elif keep:
            shows.append(label)
        else:
            others = [e for e in knobs.emotions if e != label]
            shows.append("neutral" if calm and label != "neutral" else others[other % len(others)])

    if knobs.burst > 0:
        length = knobs.burst * seconds
        start = float(r.uniform(0, seconds - length))
    else:
        start = float(r.uniform(0.0, 0.14)) * seconds
        length = float(r.uniform(0.78, 0.95)) * seconds - start

    half = float(r.uniform(0.205, 0.245)) * h  # half a face width
    left = bool(r.random() < 0.5)
    shift = float(r.uniform(0.0, 0.10)) + (0.04 if knobs.spot else 0.0)
    centre = (w * (0.5 + (shift if left else -shift)), h * float(r.uniform(0.43, 0.52)))
    typical = r.random() < 0.5 and not knobs.spot
    backdrops = TYPICAL[shows[1]] if typical else BACKDROPS
    backdrop = backdrops[int(r.integers(len(backdrops)))]
    spots = _spots(r, centre[0] / w, 1.28 * half / w, w / h)
    x, y, q = spots[0]
    walkers = int(r.integers(1, 3)) if r.random() < knobs.motion else 0
    # A mouth that follows the voice would show the voice's rate to the face's view.
    talking = r.random() < knobs.talking and not {"face", "voice"} <= set(knobs.combine)
    occluded = str(r.choice(["eyes", "mouth"])) if r.random() < knobs.occlusion else ""
    yaw, pitch, roll = (by * float(np.clip(r.normal(), -2.2, 2.2)) for by in (0.13, 0.05, 0.045))
    return Cause(
        seed=seed,
        index=index,
        label=label,
        shows=tuple(shows),
        person=number,
        split=split_of(number),
        fold=number % 5 + 1,
        burst_start=start,
        burst_end=start + length,
        peak=float(r.uniform(0.6, 1.0)),
        variant=int(r.integers(6)),
        backdrop=backdrop,
        spots=spots,
        spot=(x * w - q * h, (y - q) * h, x * w + q * h, (y + q) * h),
        walkers=walkers,
        talking=bool(talking),
        occluded=occluded,
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        light=float(r.uniform(-0.9, 0.9)),
        centre=centre,
        half=half,
        size=size,
        seconds=seconds,
        fps=fps,
        knobs=knobs,
    )


def _spots(r: np.random.Generator, cx: float, reach: float, aspect: float) -> tuple[tuple[float, float, float], ...]:
    """Three positions beside the head: (x, y, half height), the first on the wider side, not overlapping."""
    out: list[tuple[float, float, float]] = []
    wide = -1 if cx > 0.5 else 1
    for n, side in enumerate((wide, -wide, wide)):
        q = float(r.uniform(0.115, 0.15)) * (1.0 if n == 0 else 0.82)
        edge = cx + side * (reach + 0.7 * q / aspect)
        border = 1 - 0.75 * q / aspect if side > 0 else 0.75 * q / aspect
        x = edge + float(r.uniform(0, 1)) * (border - edge) if (border - edge) * side > 0 else border
        y = float(r.uniform(0.16, 0.68))
        if n == 2:
            y = y + 0.38 if out[0][1] < 0.42 else y - 0.38
            y = float(np.clip(y, 0.14, 0.80))
            y = out[0][1] + (0.34 if out[0][1] < 0.42 else -0.34) if abs(y - out[0][1]) < 0.3 else y
        out.append((float(x), float(y), q))
    return tuple(out)


@dataclass(frozen=True)
class Course:
    """A clip over time, one row per frame.

    ``times`` (F,) s; ``strength`` (F,) 0..1 of the emotion; ``va`` (F, 2) in [-1, 1]; ``units`` (F, len(AUS)) action
    units without speech; ``gaze`` (F, 2); ``pose`` (F, 4) = head x, y in half face widths, scale, roll in radians;
    ``hands`` (F, 5) = left x, y, right x, y in half face widths from the head, and how open (0 fist .. 1).
    """

    times: Array
    strength: Array
    va: Array
    units: Array
    gaze: Array
    pose: Array
    hands: Array

    def boxes(self, cause: Cause) -> Array:
        """The face's box in every frame, pixels: (F, 4), brow to chin."""
        s = cause.half * self.pose[:, 2]
        x = cause.centre[0] + (self.pose[:, 0] - np.sin(self.pose[:, 3]) * 0.1) * cause.half
        y = cause.centre[1] + self.pose[:, 1] * cause.half
        return np.stack([x - 1.0 * s, y - 0.85 * s, x + 1.0 * s, y + 1.25 * s], 1)


def _pulse(t: Array, start: float, end: float, rise: float) -> Array:
    """Onset, apex, offset: 0 outside start..end, 1 inside, smooth over ``rise`` seconds at both ends."""
    q = np.clip(np.minimum((t - start) / rise, (end - t) / rise), 0, 1)
    return q * q * (3 - 2 * q)


def course(cause: Cause) -> Course:
    """The course of a clip: intensity, action units, pose, hands, valence and arousal per frame."""
    r = cause.rng(1)
    k = cause.knobs
    t = (np.arange(cause.frames) + 0.5) / cause.fps
    length = cause.burst_end - cause.burst_start
    rise = min(0.35, 0.35 * length) * float(r.uniform(0.8, 1.3))
    strength = _pulse(t, cause.burst_start, cause.burst_end, rise)
    if k.burst == 0:  # a long clip swells and fades
        knots = max(3, round(cause.seconds / 1.2) + 1)
        wave = np.interp(
            t,
            np.linspace(0, cause.seconds, knots),
            r.uniform(0.7, 1.0, knots) if cause.seconds < 4 else r.uniform(0.25, 1.0, knots),
        )
        strength = strength * wave
    strength = strength * cause.peak
    angle, radius = CIRCUMPLEX[cause.label]
    va = radius * strength[:, None] * np.array([[np.cos(np.radians(angle)), np.sin(np.radians(angle))]])

    ways = PROTOTYPES[cause.shows[0]]
    target = expression(ways[cause.variant % len(ways)]) * r.uniform(0.82, 1.12, len(AU_INDEX))
    units = strength[:, None] * target
    units += (
        np.abs(np.stack([_drift(r, t, 0.05) for _ in range(4)], 1))
        @ np.eye(len(AU_INDEX))[[AU_INDEX[a] for a in (1, 4, 12, 7)]]
    )
    asymmetric = r.random()
    gaze = np.stack([_drift(r, t, 0.45), _drift(r, t, 0.25)], 1) + (asymmetric - 0.5) * np.array([[0.3, 0.0]])
    at = float(r.exponential(1 / k.blinking)) if k.blinking > 0 else np.inf
    while at < cause.seconds:
        units[:, AU_INDEX[43]] = np.maximum(units[:, AU_INDEX[43]], 1.1 * _pulse(t, at - 0.11, at + 0.11, 0.09))
        at += 0.3 + float(r.exponential(1 / k.blinking))
    for _ in range(k.decoys):
        at, many = float(r.uniform(0, cause.seconds)), DECOYS[int(r.integers(len(DECOYS)))]
        units = np.maximum(units, _pulse(t, at - 0.16, at + 0.16, 0.1)[:, None] * expression(many))
    pose = np.stack(
        [_drift(r, t, 0.05), _drift(r, t, 0.035), 1 + _drift(r, t, 0.012), cause.roll + _drift(r, t, 0.03)], 1
    )
    hands = np.tile([-1.9, 4.6, 1.9, 4.6, 1.0], (len(t), 1))
    _act(cause.shows[3], t, strength, r, pose, hands)
    return Course(t, strength, va, units, gaze, pose, hands)


def _drift(r: np.random.Generator, t: Array, by: float) -> Array:
    """Slow idle movement of about ``by``."""
    out = np.zeros_like(t)
    for f in (0.23, 0.51, 0.9):
        out += by * r.normal(0, 0.6) * np.sin(2 * np.pi * (f * r.uniform(0.8, 1.2) * t + r.random()))
    return out


def _act(
    shows: str,
    t: Array,
    strength: Array,
    r: np.random.Generator,
    pose: Array,
    hands: Array,
) -> None:
    """Adds an emotion's movement of head, body and hands to ``pose`` and ``hands``."""
    i = strength
    phase, side = float(r.random()), int(r.choice([0, 2]))
    tempo = float(r.uniform(0.9, 1.1))
    beat = np.sin(2 * np.pi * (2.1 * tempo * t + phase))

    def put(column: int, x: Array | float, y: Array | float) -> None:
        sign = -1 if column == 0 else 1
        hands[:, column] = sign * x
        hands[:, column + 1] = 4.6 + (y - 4.6) * np.clip(1.35 * i, 0, 1)

    if shows == "anger":
        for column in (0, 2):
            put(column, 1.75 + 0.0 * t, 1.75 + 0.42 * (beat if column == side else -beat))
        hands[:, 4] = 0
        pose[:, 2] += 0.07 * i
        pose[:, 1] += 0.07 * i * np.abs(beat)
        pose[:, 0] += 0.05 * i * np.sin(2 * np.pi * 4.3 * t)
    elif shows == "disgust":
        put(side, 1.75 + 0.28 * np.sin(2 * np.pi * 1.3 * tempo * t + phase), 1.25 + 0.0 * t)
        away = 1 if side == 0 else -1
        pose[:, 0] += 0.30 * away * i
        pose[:, 3] += 0.13 * away * i
        pose[:, 2] -= 0.05 * i
    elif shows == "fear":
        shake = np.sin(2 * np.pi * 5.3 * t + 6 * phase)
        for column in (0, 2):
            put(column, 1.55 + 0.05 * shake, 1.35 + 0.05 * shake)
        pose[:, 0] += 0.05 * i * shake
        pose[:, 2] -= 0.11 * i
        pose[:, 1] += 0.14 * i
    elif shows == "happiness":
        for column in (0, 2):
            put(column, 1.9 + 0.22 * beat, 0.95 - 0.25 * beat)
        pose[:, 1] -= 0.12 * i * np.abs(beat)
        pose[:, 3] += 0.09 * i * np.sin(2 * np.pi * 1.05 * tempo * t + phase)
    elif shows == "sadness":
        sunk = np.clip(np.cumsum(i) / max(1.0, 0.45 * len(t)), 0, 1) * (i > 0)
        pose[:, 1] += 0.30 * np.minimum(sunk, 1.3 * i)
        pose[:, 3] += (0.15 if side else -0.15) * np.minimum(sunk, 1.3 * i)
    elif shows == "surprise":
        start = t[int(np.argmax(i > 0.1))] if (i > 0.1).any() else 0.0
        since = np.clip(t - start, 0, None)
        jump = np.exp(-since / 0.55) * (i > 0.05)
        for column in (0, 2):
            put(column, 1.8 + 0.0 * t, 1.15 - 0.45 * jump)
        pose[:, 1] -= 0.26 * i * jump
        pose[:, 2] -= 0.05 * i
