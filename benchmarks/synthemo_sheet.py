"""One image that shows what SynthEmo is: people, scenes, and a clip over time with its audio."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from emozoo.synthemo.cause import EMOTIONS, Knobs, course, plan
from emozoo.synthemo.clip import render
from emozoo.synthemo.drawing.backdrops import BACKDROPS
from emozoo.synthemo.drawing.body import body
from emozoo.synthemo.drawing.draw import Array, Canvas, fill, overlay, stroke
from emozoo.synthemo.drawing.head import Head
from emozoo.synthemo.drawing.person import PROTOTYPES, expression, person
from emozoo.synthemo.drawing.scene import TYPICAL, Scene
from emozoo.synthemo.drawing.skull import LEFT, TOP

_PAPER, _INK, _PALE = (250, 249, 246), (52, 54, 60), (138, 140, 146)
_CELL, _GAP, _EDGE = 172, 8, 34
_BACKS = ((206, 214, 220), (222, 214, 204), (208, 218, 208), (222, 212, 216), (214, 212, 224))


def contact_sheet(path: str | os.PathLike[str], people: tuple[int, ...] = (62, 70, 6, 29, 33)) -> Path:
    """Draws the sheet: ``people`` by emotion, a scene for each emotion, one clip over time; PNG or JPEG by suffix."""
    width = 2 * _EDGE + 7 * _CELL + 6 * _GAP
    parts = [_title(width, "SynthEmo", "drawn people, places and voices with a known cause for every label")]
    parts += [_words(width, EMOTIONS)]
    for n, number in enumerate(people):
        parts += [_row([_portrait(number, e, n) for e in EMOTIONS]), _space(width, _GAP)]
    parts += [_space(width, 14), _row([_scene(e, n, plain=False) for n, e in enumerate(EMOTIONS)]), _space(width, _GAP)]
    parts += [_row([_scene(e, n, plain=True) for n, e in enumerate(EMOTIONS)])]
    parts += [_note(width, "above: colours, weather and things show the emotion; below: one thing in one place does")]
    parts += [_timeline(width), _space(width, 20)]
    sheet = np.vstack(parts)
    path = Path(path)
    jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    quality = [cv2.IMWRITE_JPEG_QUALITY, 90] if jpeg else [cv2.IMWRITE_PNG_COMPRESSION, 9]
    if not cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), quality):
        raise OSError(f"{path}: the image could not be written")
    return path


def _space(width: int, height: int) -> Canvas:
    return np.full((height, width, 3), _PAPER, np.uint8)


def _text(img: Canvas, text: str, x: int, y: int, size: float, colour: tuple[int, int, int], bold: int = 1) -> None:
    cv2.putText(img, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, colour, bold, cv2.LINE_AA)


def _title(width: int, name: str, line: str) -> Canvas:
    img = _space(width, 74)
    _text(img, name, _EDGE - 2, 50, 1.15, _INK, 2)
    _text(img, line, _EDGE + 208, 49, 0.56, _PALE)
    return img


def _words(width: int, words: tuple[str, ...]) -> Canvas:
    img = _space(width, 24)
    for n, word in enumerate(words):
        (w, _), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
        _text(img, word, _EDGE + n * (_CELL + _GAP) + (_CELL - w) // 2, 14, 0.5, _INK)
    return img


def _note(width: int, text: str) -> Canvas:
    img = _space(width, 30)
    _text(img, text, _EDGE, 19, 0.42, _PALE)
    return img


def _row(cells: list[Canvas]) -> Canvas:
    h = cells[0].shape[0]
    out = [_space(_EDGE, h)]
    for n, cell in enumerate(cells):
        out += [cell] if n == len(cells) - 1 else [cell, _space(_GAP, h)]
    return np.hstack([*out, _space(_EDGE, h)])


def _portrait(number: int, emotion: str, n: int) -> Canvas:
    who, size, half = person(number), _CELL, 0.262 * _CELL
    light = (-0.7, 0.6, -0.4, 0.8, -0.6)[n % 5]
    img = np.full((size, size, 3), _BACKS[n % len(_BACKS)], np.uint8)
    fall = np.linspace(1.04, 0.90, size)[:, None, None]
    img = np.minimum(img * fall, 255).astype(np.uint8)
    centre = (size / 2, 0.53 * size)
    overlay(img, body(who, (size, size), half, centre, light))
    ways = PROTOTYPES[emotion]
    head = Head(who, 2 * half, (0.13, -0.16, 0.05, 0.2, -0.1)[n % 5], 0.02, light)
    layer = head.draw(expression(ways[n % len(ways)]))
    move = np.array([[0.5, 0, centre[0] + LEFT * half], [0, 0.5, centre[1] + TOP * half]])
    overlay(img, cv2.warpAffine(layer, move, (size, size)))
    return img


def _scene(emotion: str, n: int, plain: bool) -> Canvas:
    w, h = _CELL * 2, round(_CELL * 1.5)
    backdrop = BACKDROPS[(2 + 3 * n) % len(BACKDROPS)] if plain else TYPICAL[emotion][n % 2]
    spots: tuple[tuple[float, float, float], ...]
    if plain:
        spots = ((0.24 if n % 2 else 0.78, 0.42, 0.17), (0.55, 0.72, 0.12))
    else:
        spots = ((0.18, 0.36, 0.17), (0.80, 0.68, 0.16), (0.54, 0.30, 0.13))
    rng = np.random.default_rng(40 + n)
    scene = Scene((w, h), backdrop, emotion, spots, rng, one_spot=plain, walkers=0)
    return cv2.resize(scene.frame(1.0), (_CELL, h // 2), interpolation=cv2.INTER_AREA)


def _timeline(width: int) -> Canvas:
    """A clip that bursts into surprise: frames, the strength of the emotion, valence and arousal, the audio."""
    knobs = Knobs(face=1, scene=1, voice=1, action=1, burst=0.42, talking=1, occlusion=0, motion=0, noise=1)
    cause = next(c for c in (plan(11, i, knobs, size=(344, 258)) for i in range(400)) if _good(c.label, c.person))
    cause = replace(cause, burst_start=0.75, burst_end=1.75, peak=1.0)
    clip, run = render(cause), course(cause)
    inner = width - 2 * _EDGE
    picked = np.linspace(1, cause.frames - 2, 7).round().astype(int)
    frames = [cv2.resize(clip.frames[i], (_CELL, round(_CELL * 0.75)), interpolation=cv2.INTER_AREA) for i in picked]
    plot = _space(width, 138)
    base, top = 62, 8

    def x_at(t: Array) -> Array:
        return _EDGE + t / cause.seconds * inner

    x = x_at(run.times)
    shape = np.stack([x, base - run.strength * (base - top)], 1)
    fill(plot, np.concatenate([[[x[0], base]], shape, [[x[-1], base]]]), (250, 226, 190))
    for values, colour in ((run.va[:, 0], (64, 128, 190)), (run.va[:, 1], (206, 84, 60))):
        stroke(plot, np.stack([x, base - values * (base - top)], 1), colour, 2)
    _text(plot, "strength", _EDGE + 4, 20, 0.42, (196, 150, 80))
    _text(plot, "valence", _EDGE + 84, 20, 0.42, (64, 128, 190))
    _text(plot, "arousal", _EDGE + 158, 20, 0.42, (206, 84, 60))
    columns = np.array_split(clip.waveform, inner)
    for i, part in enumerate(columns):
        low, high = 104 - 60 * float(part.max()), 104 - 60 * float(part.min())
        cv2.line(plot, (_EDGE + i, round(low)), (_EDGE + i, round(high)), (96, 112, 124), 1)
    line = f"one clip of {cause.seconds} s: {cause.label} in a short burst, with its voice"
    return np.vstack([_row(frames), plot, _note(width, line)])


def _good(label: str, number: int) -> bool:
    return label == "surprise" and person(number).glasses == "none" and person(number).beard == "none"
