"""Drawn people: what stays with a person, and the action units that move a face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from emozoo.synthemo.drawing.draw import Array, Colour, blend, jittered, scaled

# Action units (Ekman & Friesen, Facial Action Coding System, 1978) that the drawing knows, each 0..1.
AUS = (1, 2, 4, 5, 6, 7, 9, 12, 15, 20, 23, 24, 25, 26, 43)


AU_INDEX = {au: i for i, au in enumerate(AUS)}


# EMFACS-like prototypes (Ekman & Friesen 1983): for each emotion the ways in which a face shows it at full intensity.
PROTOTYPES: dict[str, tuple[dict[int, float], ...]] = {
    "anger": (
        {4: 1.0, 5: 0.5, 7: 0.8, 24: 1.0},
        {4: 1.0, 5: 0.6, 7: 0.7, 23: 0.9, 25: 1.0},
        {4: 0.9, 7: 1.0, 23: 0.8, 24: 0.4},
    ),
    "disgust": ({4: 0.4, 7: 0.6, 9: 1.0, 15: 0.5}, {4: 0.3, 6: 0.4, 7: 0.6, 9: 1.0, 15: 0.4, 25: 0.6}),
    "fear": (
        {1: 1.0, 2: 0.6, 4: 0.6, 5: 1.0, 20: 0.9, 25: 0.7},
        {1: 1.0, 2: 0.5, 4: 0.7, 5: 0.9, 20: 0.8, 25: 0.6, 26: 0.35},
    ),
    "happiness": ({6: 1.0, 12: 1.0, 25: 1.0}, {6: 0.8, 12: 0.9}, {6: 1.0, 7: 0.3, 12: 1.0, 25: 0.9, 26: 0.35}),
    "neutral": ({},),
    "sadness": ({1: 1.0, 4: 0.6, 15: 1.0, 43: 0.3}, {1: 0.9, 4: 0.5, 15: 0.8, 43: 0.45}),
    "surprise": ({1: 0.9, 2: 1.0, 5: 0.9, 25: 0.6, 26: 1.0}, {1: 1.0, 2: 1.0, 5: 0.8, 25: 0.4, 26: 0.7}),
}


# Short movements that mean nothing here: a brow flash, a wink-like squeeze, a pout, a yawn.
DECOYS: tuple[dict[int, float], ...] = (
    {1: 0.5, 2: 0.5},
    {43: 1.0, 6: 0.4},
    {24: 0.9},
    {26: 0.6, 43: 0.6},
    {20: 0.4},
    {4: 0.4, 43: 0.3},
)


SKINS: tuple[Colour, ...] = (
    (240, 207, 184), (233, 194, 164), (224, 180, 146), (212, 162, 124),
    (190, 138, 98), (160, 110, 76), (132, 88, 60), (106, 70, 50),
)  # fmt: skip
HAIRS: tuple[Colour, ...] = (
    (28, 24, 24), (48, 34, 28), (78, 52, 36), (112, 74, 46), (158, 112, 62), (206, 168, 104), (142, 66, 40),
)  # fmt: skip
EYES: tuple[Colour, ...] = ((74, 46, 30), (98, 66, 38), (88, 106, 66), (70, 110, 150), (92, 120, 132))
LIPS: tuple[Colour, ...] = ((188, 88, 88), (200, 72, 84), (170, 78, 74))
CLOTHES: tuple[Colour, ...] = (
    (54, 84, 128), (152, 60, 62), (66, 112, 92), (216, 206, 190), (62, 62, 70), (196, 148, 74), (118, 94, 140),
    (92, 130, 164), (178, 116, 110),
)  # fmt: skip


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
        hair = blend(hair, (190, 188, 186), min(1.0, (age - 0.55) * 2.2))
    if feminine:
        style = str(
            r.choice(
                ["long", "bob", "bun", "waves", "curly", "scarf", "parted"], p=[0.22, 0.2, 0.14, 0.2, 0.1, 0.08, 0.06]
            )
        )
        beard = "none"
    else:
        style = str(
            r.choice(["short", "parted", "curly", "buzz", "bald", "waves"], p=[0.32, 0.26, 0.14, 0.13, 0.08, 0.07])
        )
        beard = str(r.choice(["none", "stubble", "full", "moustache"], p=[0.58, 0.2, 0.14, 0.08]))
    skin = jittered(SKINS[tone], 6, r)
    pale = (0.18 if feminine else 0.46) + (0.12 if dark else 0.0)
    lip = blend(LIPS[int(r.integers(len(LIPS)))], scaled(skin, 0.78), pale)
    cloth, cloth2 = (jittered(CLOTHES[int(r.integers(len(CLOTHES)))], 10, r) for _ in range(2))
    return Person(
        number=number,
        skin=skin,
        hair=jittered(hair, 6, r),
        iris=EYES[int(r.integers(2 if dark else len(EYES)))],
        lip=lip,
        cloth=cloth,
        cloth2=cloth2,
        style=style,
        collar=str(r.choice(["crew", "vneck", "shirt", "hoodie", "turtle"])),
        beard=beard,
        glasses=str(r.choice(["none", "round", "square"], p=[0.76, 0.12, 0.12])),
        age=age,
        jaw=float(r.uniform(0.60, 0.70) if feminine else r.uniform(0.68, 0.80)),
        chin=float(r.uniform(1.20, 1.33)) + (0.0 if feminine else 0.04),
        brow=float(r.uniform(0.038, 0.055) if feminine else r.uniform(0.055, 0.08)),
        eye=float(r.uniform(0.92, 1.1)) * (1.05 if feminine else 0.97),
        mouth=float(r.uniform(0.30, 0.37)),
        nose=float(r.uniform(0.88, 1.14)),
        tilt=float(r.uniform(-0.02, 0.035)),
        gap=float(r.uniform(0.395, 0.43)),
        freckles=bool(not dark and r.random() < 0.16),
        blush=float(r.uniform(0.0, 0.15) if dark else r.uniform(0.1, 0.45)),
        pitch=float(r.uniform(165, 235) if feminine else r.uniform(92, 145)),
    )


def expression(units: Mapping[int, float]) -> Array:
    """Action units by number as the vector that :meth:`Head.draw` takes (order of ``AUS``)."""
    out = np.zeros(len(AUS))
    for au, value in units.items():
        out[AU_INDEX[au]] = value
    return out
