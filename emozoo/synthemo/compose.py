"""Composed clips: photographs of faces and recordings of voices in drawn scenes, with a known cause for every label.

All views of a clip show the same emotion, unless a view is degraded: blurred, darkened, covered, drowned in noise, or
missing. A degraded view may show another emotion, so a network that weighs views by their quality does better than one
that does not. Nothing but the image and the audio shows which view is degraded, and at least one never is.

With ``Mix.strangers`` a view of full quality may belong to somebody else, and only the other view reveals it. A voice
from off screen: the person in the image wears headphones, and listens. An image of another person: the voice comes
through a telephone, and its speaker is not in the image. A stranger's emotion has nothing to do with the label. A
network that sees both views can know this; two networks with one view each cannot, however their predictions are fused.

A face is moved by a camera path, with drifting light. It turns from neutral to its emotion where two photographs of one
person allow it; otherwise it stands still, so that these clips teach nothing about how faces move. Valence and arousal
are the emotion's point on Russell's circumplex (:data:`emozoo.labels.CIRCUMPLEX`), whose angles and lengths are ours.

Legend: F = frames, h, w = pixels.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from emozoo.data.images import is_image, read_image
from emozoo.data.manifest import Row
from emozoo.errors import DatasetError, UsageError, VideoError
from emozoo.labels import BASIC7, canonical, circumplex_point
from emozoo.synthemo.clip import write_media
from emozoo.synthemo.drawing.backdrops import BACKDROPS
from emozoo.synthemo.drawing.draw import Array, Canvas
from emozoo.synthemo.drawing.scene import TYPICAL, Scene
from emozoo.synthemo.voice import in_16_bits
from emozoo.synthemo.writer import Progress, write_clips

VERSION = 2
STAMP = "composed.json"
VIEWS = ("face", "scene", "voice")
DEGRADATIONS = {
    "face": ("blur", "dark", "cover", "noise"),
    "scene": ("blur", "dark", "noise"),
    "voice": ("noise", "muffle", "gaps"),
}
RATE = 16000
COLUMNS = (
    "path", "label", "valence", "arousal", "split", "group", "x1", "y1", "x2", "y2", "conflict",
    *(f"{v}_{what}" for v in VIEWS for what in ("shows", "state")), "face_item", "voice_item", "turns", "seed", "index",
    "version",
)  # fmt: skip


@dataclass(frozen=True)
class Mix:
    """The settings of a set of composed clips. Probabilities are 0..1.

    ``views``: those that show the emotion, two or three of face, scene and voice. The others show none: no face, a
    plain day, silence.
    ``spoil``: probability that a view is degraded (one view of a clip never is); ``gone``: fraction of degraded views
    that are missing; ``conflict``: fraction of the other degraded views that show another emotion.
    ``strangers``: how often one of face and voice, where both are clear, is a stranger's; one as often as the other.
    ``noise`` standard deviation in grey levels; ``crf`` the H.264 quality (0 best .. 51).
    """

    views: tuple[str, ...] = ("face", "voice")
    spoil: float = 0.4
    gone: float = 0.25
    conflict: float = 0.6
    strangers: float = 0.0
    noise: float = 3.0
    crf: int = 26

    def __post_init__(self) -> None:
        if len(set(self.views)) < 2 or not set(self.views) <= set(VIEWS):
            raise UsageError(f"views must be two or more of {', '.join(VIEWS)}, got {', '.join(self.views) or 'none'}")
        for name in ("spoil", "gone", "conflict", "strangers"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is a probability from 0 to 1, got {getattr(self, name):g}")


@dataclass(frozen=True)
class Composition:
    """All that one clip follows from.

    ``states`` of each view in order: ``clear``, one of :data:`DEGRADATIONS`, ``stranger`` or ``gone`` (missing).
    ``face``, ``calm``, ``voice``: files; ``calm`` is a neutral image of the same person, from which the face turns.
    ``box``: the face in the clip, inclusive pixel corners.
    """

    index: int
    seed: int
    label: str
    shows: tuple[str, str, str]
    states: tuple[str, str, str]
    face: Row | None
    calm: Row | None
    voice: Row | None
    backdrop: str
    box: tuple[float, float, float, float]
    size: tuple[int, int]
    seconds: float
    fps: float
    mix: Mix

    def rng(self, what: int) -> np.random.Generator:
        """The random numbers of one part, independent of those of the other parts."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(self.index, what)))

    @property
    def conflict(self) -> bool:
        """Whether a view that is there shows another emotion than the label."""
        there = zip(VIEWS, self.shows, self.states, strict=True)
        return any(v in self.mix.views and e != self.label and s != "gone" for v, e, s in there)


class Material:
    """Faces and voices by emotion. Only emotions that every needed view has are used.

    Raises DatasetError where these are fewer than two, or where a face is no image file.
    """

    def __init__(self, faces: Sequence[Row], voices: Sequence[Row], views: Sequence[str]) -> None:
        self.of = {"face": _by_emotion(faces), "voice": _by_emotion(voices)}
        needed = [v for v in ("face", "voice") if v in views]
        self.emotions = tuple(e for e in BASIC7 if all(e in self.of[v] for v in needed))
        if len(self.emotions) < 2:
            raise DatasetError(f"{' and '.join(needed)}: fewer than two of {', '.join(BASIC7)} are in all of them")
        if odd := next((r for rows in self.of["face"].values() for r in rows if not is_image(r.path)), None):
            raise DatasetError(f"{odd.path}: faces are composed from image files (jpg, png ...) alone")
        self.calm: dict[str, list[Row]] = {}
        for row in self.of["face"].get("neutral", ()):
            self.calm.setdefault(str(row.group), []).append(row)
        text = "\n".join(
            f"{v} {e} {r.id} {os.path.basename(r.path)} {r.box} {r.group} {r.start} {r.end}"
            for v, x in self.of.items() for e, rows in x.items() for r in rows
        )  # fmt: skip
        self.sha256 = hashlib.sha256(text.encode()).hexdigest()


def _by_emotion(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda r: r.id):
        if row.label is not None and canonical(row.label) in BASIC7:
            found.setdefault(canonical(row.label), []).append(row)
    return found


def plan(
    material: Material, seed: int, index: int, mix: Mix, *, size: tuple[int, int], seconds: float, fps: float
) -> Composition:
    """The composition of clip ``index``. It depends on seed, index, settings and material; labels are balanced."""
    k = len(material.emotions)
    block = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1 << 30, index // k)))
    label = material.emotions[int(block.permutation(k)[index % k])]
    r = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, 0)))
    clear = str(r.choice(mix.views))  # this view is never degraded
    shows, states = [], []
    for view in VIEWS:
        degraded, missing, other = r.random() < mix.spoil, r.random() < mix.gone, r.random() < mix.conflict
        way, another = str(r.choice(DEGRADATIONS[view])), int(r.integers(k - 1))
        if view not in mix.views:
            shows.append("neutral")
            states.append("clear" if view == "scene" else "gone")
            continue
        degraded &= view != clear
        states.append(("gone" if missing else way) if degraded else "clear")
        others = [e for e in material.emotions if e != label]
        shows.append(others[another] if degraded and other and not missing else label)
    if {"face", "voice"} <= set(mix.views) and states[0] == states[2] == "clear":
        other_r = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, 7)))
        if other_r.random() < mix.strangers:
            whose = 0 if other_r.random() < 0.5 else 2
            shows[whose], states[whose] = material.emotions[int(other_r.integers(k))], "stranger"
    w, h = size
    half = float(r.uniform(0.21, 0.27)) * h
    x, y = w * float(r.uniform(0.35, 0.65)), h * float(r.uniform(0.42, 0.55))
    face = _pick(material.of["face"], shows[0], r) if states[0] != "gone" else None
    voice = _pick(material.of["voice"], shows[2], r) if states[2] != "gone" else None
    calm: Row | None = None
    if face is not None and shows[0] != "neutral" and face.group is not None and (own := material.calm.get(face.group)):
        calm = own[int(r.integers(len(own)))]
    backdrops = TYPICAL[shows[1]] if r.random() < 0.5 else BACKDROPS
    return Composition(
        index, seed, label, (shows[0], shows[1], shows[2]), (states[0], states[1], states[2]), face, calm, voice,
        backdrops[int(r.integers(len(backdrops)))], (x - half, y - half, x + half, y + half), size, seconds, fps, mix,
    )  # fmt: skip


def _pick(rows: dict[str, list[Row]], emotion: str, r: np.random.Generator) -> Row:
    return rows[emotion][int(r.integers(len(rows[emotion])))]


# -- images ------------------------------------------------------------------------------------------------------


def images(composition: Composition) -> Canvas:
    """The frames of a clip, RGB uint8 (F, h, w, 3)."""
    r = composition.rng(1)
    (w, h), count = composition.size, max(2, round(composition.seconds * composition.fps))
    spots = ((float(r.uniform(0.1, 0.2)), 0.3, 0.13), (float(r.uniform(0.8, 0.9)), 0.35, 0.11), (0.88, 0.75, 0.1))
    scene = Scene(composition.size, composition.backdrop, composition.shows[1], spots, composition.rng(2))
    face = _Face(composition, r) if composition.face is not None else None
    light = 1 + 0.10 * _waves(r, count)
    grain = composition.rng(4)
    frames = np.empty((count, h, w, 3), np.uint8)
    for i in range(count):
        t = i / composition.fps
        img = _degrade(scene.frame(t), composition.states[1], composition.rng(5))
        if composition.states[1] == "gone":
            img[:] = (150, 152, 156)
        if face is not None:
            face.lay(img, i, t)
        noise = grain.standard_normal((h, w, 1), np.float32).astype(float) * composition.mix.noise
        frames[i] = (img * float(light[i]) + noise).clip(0, 255)
    return frames


class _Face:
    """A photograph that is laid into the scene at its box, moved by a smooth path."""

    def __init__(self, composition: Composition, r: np.random.Generator) -> None:
        assert composition.face is not None
        self.box, self.size = composition.box, composition.size
        self.side = max(2, round(composition.box[2] - composition.box[0]))
        count = max(2, round(composition.seconds * composition.fps))
        cast = np.exp(r.normal(0.0, (0.10, 0.03, 0.10)) + (0.08, 0.0, -0.08))  # grey images get a colour of light
        self.shown = self._open(composition.face, cast)
        self.calm = self._open(composition.calm, cast) if composition.calm is not None else None
        if composition.states[2] == "stranger":
            for image in (self.shown, self.calm):
                if image is not None:
                    _headphones(image, composition.rng(8))
        self.turn = float(r.uniform(0.1, 0.35)) * composition.seconds
        self.state, self.seed = composition.states[0], composition.rng(6)
        self.shown = _degrade(self.shown, self.state, self.seed)
        if self.calm is not None:
            self.calm = _degrade(self.calm, self.state, composition.rng(6))
        self.path = np.stack([by * _waves(r, count) for by in (0.05, 0.05, 0.05, 0.06)], 1)  # x, y, log zoom, radians
        edge = np.zeros((self.side, self.side))
        rim = max(1, self.side // 16)
        edge[rim:-rim, rim:-rim] = 1
        self.edge = cv2.GaussianBlur(edge, (0, 0), rim / 1.5)

    def _open(self, row: Row, cast: Array) -> Canvas:
        image = read_image(row.path)[0]
        if row.box is not None and any(row.box):
            x1, y1, x2, y2 = (int(v) for v in row.box)
            image = image[max(y1, 0) : y2 + 1, max(x1, 0) : x2 + 1]
        how = cv2.INTER_AREA if image.shape[0] > self.side else cv2.INTER_CUBIC
        image = cv2.resize(image, (self.side, self.side), interpolation=how)
        return (image * cast).clip(0, 255).astype(np.uint8)

    def lay(self, img: Canvas, i: int, t: float) -> None:
        """Lays the face of frame ``i``, at ``t`` seconds, onto an image."""
        face = self.shown
        if self.calm is not None:
            fraction = float(np.clip((t - self.turn) / 0.3, 0, 1))
            face = cv2.addWeighted(self.shown, fraction, self.calm, 1 - fraction, 0)
        dx, dy, zoom, roll = self.path[i]
        k, middle = math.exp(zoom), (self.side - 1) / 2
        c, s = k * math.cos(roll), k * math.sin(roll)
        x, y = (self.box[0] + self.box[2]) / 2 + dx * self.side, (self.box[1] + self.box[3]) / 2 + dy * self.side
        warp = np.array([[c, -s, x - middle * (c - s)], [s, c, y - middle * (s + c)]])
        alpha = cv2.warpAffine(self.edge, warp, self.size)[..., None]
        layer = cv2.warpAffine(face, warp, self.size, borderMode=cv2.BORDER_REPLICATE)
        img[:] = (img * (1 - alpha) + layer * alpha).astype(np.uint8)


def _waves(r: np.random.Generator, count: int) -> Array:
    """A smooth path in about [-1, 1] over the frames (F,)."""
    t = np.linspace(0, 2 * np.pi, count)
    cycles, phase, high = r.uniform(0.2, 1.3, 2), r.uniform(0, 2 * np.pi, 2), r.uniform(0, 1, 2) * (0.7, 0.3)
    return (high[:, None] * np.sin(cycles[:, None] * t + phase[:, None])).sum(0)


def _degrade(img: Canvas, state: str, r: np.random.Generator) -> Canvas:
    h = img.shape[0]
    if state == "blur":
        return np.asarray(cv2.GaussianBlur(img, (0, 0), float(r.uniform(0.055, 0.085)) * h))
    if state == "dark":
        return (img * float(r.uniform(0.05, 0.12)) + r.normal(0, 6, img.shape)).clip(0, 255).astype(np.uint8)
    if state == "noise":
        return (img + r.normal(0, float(r.uniform(70, 100)), img.shape)).clip(0, 255).astype(np.uint8)
    if state == "cover":
        img, fraction = img.copy(), float(r.uniform(0.62, 0.8))
        top = 0 if r.random() < 0.5 else round(h * (1 - fraction))
        img[top : top + round(h * fraction)] = r.integers(20, 220, 3)
    return img


def _headphones(img: Canvas, r: np.random.Generator) -> None:
    """Draws headphones onto a face (h, w): cups at the edges, where they hide neither eyes nor mouth, and a band."""
    h, w = img.shape[:2]
    shell, rim = (tuple(int(v) for v in r.integers(lo, hi, 3)) for lo, hi in ((10, 90), (170, 250)))
    thick = max(2, round(0.08 * h))
    cv2.ellipse(img, (w // 2, h // 2), (round(0.46 * w), round(0.46 * h)), 0, 180, 360, shell, thick, cv2.LINE_AA)
    for x in (0.06, 0.94):
        middle, axes = (round(x * w), h // 2), (round(0.11 * w), round(0.2 * h))
        cv2.ellipse(img, middle, axes, 0, 0, 360, shell, -1, cv2.LINE_AA)
        cv2.ellipse(img, middle, axes, 0, 0, 360, rim, thick // 2, cv2.LINE_AA)


# -- audio ---------------------------------------------------------------------------------------------------------


def waveform(composition: Composition) -> Array:
    """The audio of a clip, float32 (n,) in -1..1 in steps of 16 bits, at 16 kHz: the loudest part of the recording."""
    from emozoo.data.media import AudioTrack, read_header

    n = round(composition.seconds * RATE)
    if composition.voice is None:
        return np.zeros(n, np.float32)
    path = composition.voice.extra.get("sound", composition.voice.path)
    header = read_header(path)
    if not header.has_audio:
        raise VideoError(path, "has no audio track: leave it out of the voices", "no_audio")
    audio = AudioTrack(path, RATE, header)
    first, last = composition.voice.start or audio.offset, composition.voice.end or audio.offset + audio.duration
    wave = audio.read(first, max(first, last)).astype(float)
    r = composition.rng(3)
    power = np.cumsum(np.square(wave))
    centre = int(np.searchsorted(power, power[-1] / 2)) if len(wave) else 0
    start = centre - n // 2 + int(r.uniform(-0.1, 0.1) * RATE)
    out: Array = np.zeros(n)
    lo, hi = max(start, 0), min(start + n, len(wave))
    if hi > lo:
        out[lo - start : hi - start] = wave[lo:hi]
    out *= 10 ** (r.uniform(-4, 4) / 20)
    if composition.states[0] == "stranger":
        out = _telephone(out, r)
    level = float(np.sqrt(np.mean(np.square(out))) + 1e-6)
    if composition.states[2] == "noise":
        out = out + _pink(n, r) * level * 10 ** (r.uniform(4, 9) / 20)
    elif composition.states[2] == "muffle":
        spectrum = np.fft.rfft(out)
        pitch = np.fft.rfftfreq(n, 1 / RATE)
        spectrum *= 1 / (1 + (pitch / r.uniform(120, 220)) ** 4)
        out = np.fft.irfft(spectrum, n) + _pink(n, r) * level * 0.3
    elif composition.states[2] == "gaps":
        step = RATE // 10
        heard = np.repeat(r.random(n // step + 1) < 0.22, step)[:n]
        out = np.where(heard, out, 0)
    return in_16_bits(out)


def _telephone(wave: Array, r: np.random.Generator) -> Array:
    """A voice through a telephone: 300 to 3400 Hz, as loud as before, with the hiss of the line."""
    n = len(wave)
    pitch = np.fft.rfftfreq(n, 1 / RATE)
    passed = 1 / (1 + (300 / np.maximum(pitch, 1)) ** 12) / (1 + (pitch / 3400) ** 24)
    level = float(np.sqrt(np.mean(np.square(wave))))
    heard = np.fft.irfft(np.fft.rfft(wave) * passed, n)
    heard *= level / (float(np.sqrt(np.mean(np.square(heard)))) + 1e-9)
    hiss = np.fft.irfft(np.fft.rfft(r.standard_normal(n)) * passed, n)
    return np.asarray(heard + hiss * level * 10 ** (r.uniform(-26, -20) / 20))


def _pink(n: int, r: np.random.Generator) -> Array:
    """Pink noise, whose power falls with the frequency; root mean square 1."""
    spectrum = np.fft.rfft(r.standard_normal(n)) / np.sqrt(np.maximum(1, np.arange(n // 2 + 1)))
    noise = np.fft.irfft(spectrum, n)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))


# -- files ---------------------------------------------------------------------------------------------------------


def write(composition: Composition, path: Path) -> None:
    """Composes the clip of a composition and writes it to a path."""
    write_media(path, images(composition), waveform(composition), RATE, composition.fps, composition.mix.crf)


def row(composition: Composition, path: str, split: str | None) -> dict[str, object]:
    """The line of a clip in the manifest: the common columns, then its cause."""
    point = circumplex_point(composition.label)
    assert point is not None
    values: dict[str, object] = {
        "path": path, "label": composition.label, "valence": f"{point[0]:.4f}", "arousal": f"{point[1]:.4f}",
        "split": split or "", "conflict": int(composition.conflict), "turns": int(composition.calm is not None),
        "group": next((r.group or r.id for r in (composition.voice, composition.face) if r is not None), ""),
        "face_item": composition.face.id if composition.face else "",
        "voice_item": composition.voice.id if composition.voice else "",
        "seed": composition.seed, "index": composition.index, "version": VERSION,
    }  # fmt: skip
    box = composition.box if composition.face is not None else (0.0, 0.0, 0.0, 0.0)
    values |= {c: f"{v:.1f}" for c, v in zip(("x1", "y1", "x2", "y2"), box, strict=True)}
    for view, shown, state in zip(VIEWS, composition.shows, composition.states, strict=True):
        values |= {f"{view}_shows": "" if state == "gone" else shown, f"{view}_state": state}
    return values


def compose(
    out: str | os.PathLike[str],
    n: int,
    seed: int = 0,
    *,
    faces: Sequence[Row],
    voices: Sequence[Row],
    mix: Mix | None = None,
    split: str | None = None,
    size: tuple[int, int] = (192, 144),
    seconds: float = 3.2,
    fps: float = 12.5,
    workers: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Writes ``n`` clips below ``out`` and returns the path of their ``manifest.csv``.

    Same seed, settings and material, same clips, whatever ``n`` and ``workers`` are. A killed run continues.

    Args:
        faces, voices: rows of images and of recordings, of which those of the seven basic emotions are used.
        split: the value of the manifest's column ``split`` for all clips. People and voices of another split must not
            be among the rows.

    Raises:
        DatasetError: too little material, or ``out`` holds clips made otherwise.
    """
    mix = mix or Mix()
    material = Material(faces, voices, mix.views)
    settings = {
        "version": VERSION, "seed": seed, "size": size, "seconds": seconds, "fps": fps, "mix": asdict(mix),
        "material": material.sha256,
    }  # fmt: skip
    compositions = [plan(material, seed, i, mix, size=size, seconds=seconds, fps=fps) for i in range(n)]
    return write_clips(
        Path(out), compositions, write=write, row=partial(row, split=split), columns=COLUMNS, stamp=STAMP,
        settings=settings, workers=workers, progress=progress,
    )  # fmt: skip
