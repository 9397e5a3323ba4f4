"""Synthesised voice: a harmonic glottal source through moving formants, with the prosody of an emotion.

Source and filter: harmonics of f0 that fall by 6 dB an octave at the lips, shaped by three resonances (vowel formants
after Peterson & Barney 1952), breath noise beside them. Directions of pitch, range, rate, loudness and voice quality
follow the table of Murray & Arnott (1993); the numbers are ours. It speaks syllables, not words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emozoo.synthemo.drawing.draw import Array

RATE = 16000
STEP = 80  # samples between control points: 5 ms
_HARMONICS = 44
_VOWELS = np.array(
    [(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410), (500, 1500, 2500)],
    float,
)
_BANDWIDTHS = np.array([70.0, 100.0, 150.0])


@dataclass(frozen=True)
class Prosody:
    """``pitch`` = factor on the speaker's f0; ``swing`` semitones up and down within a syllable; ``rate`` syllables a
    second; ``level`` dB; ``tilt`` dB an octave on top of the source's fall; ``jitter`` relative f0 noise; ``breath``
    fraction of noise; ``slope`` semitones from the start to the end of a phrase; ``gap`` fraction of a syllable
    that is silent.
    """

    pitch: float
    swing: float
    rate: float
    level: float
    tilt: float
    jitter: float
    breath: float
    slope: float
    gap: float


PROSODY: dict[str, Prosody] = {
    "anger": Prosody(1.28, 4.5, 5.2, 6.0, 4.0, 0.025, 0.05, -3.0, 0.22),
    "disgust": Prosody(0.86, 3.0, 3.0, -1.0, -1.0, 0.055, 0.14, -6.0, 0.28),
    "fear": Prosody(1.60, 2.5, 6.4, 0.0, -2.5, 0.050, 0.40, 2.0, 0.30),
    "happiness": Prosody(1.38, 5.5, 4.8, 3.0, 1.5, 0.010, 0.07, 3.0, 0.16),
    "neutral": Prosody(1.0, 1.5, 4.2, 0.0, 0.0, 0.008, 0.08, -1.5, 0.18),
    "sadness": Prosody(0.84, 1.0, 2.7, -6.0, -4.5, 0.012, 0.38, -4.0, 0.30),
    "surprise": Prosody(1.45, 3.0, 3.7, 3.5, 1.0, 0.012, 0.12, 11.0, 0.22),
}


def in_16_bits(wave: Array) -> Array:
    """Samples rounded to what a file of 16 bits holds, float32 in -1..1: a processor's last digits vanish in it."""
    return np.asarray(np.clip(np.rint(wave * 32768), -32768, 32767) / 32768, np.float32)


def speak(pitch: float, shows: str, strength: Array, seconds: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """A voice of ``pitch`` Hz that shows an emotion as strongly as ``strength`` (0..1, at even times over the clip).

    Returns the waveform (n,), mono at ``RATE``, in steps of 16 bits within -1..1, and how far the mouth is open (0..1)
    every ``STEP`` samples.
    """
    n = round(seconds * RATE)
    t = np.arange(n // STEP + 2) * (STEP / RATE)
    amount = np.interp(t, np.linspace(0, seconds, len(strength)), strength)
    calm, moved = PROSODY["neutral"], PROSODY[shows]

    def blend(name: str) -> Array:
        a, b = getattr(calm, name), getattr(moved, name)
        return np.asarray(a + (b - a) * amount)

    rate, gap = blend("rate"), blend("gap")
    envelope, swing, vowel = np.zeros(len(t)), np.zeros(len(t)), np.zeros((len(t), 3))
    burst = np.zeros(len(t))
    at, kind = rng.uniform(0.0, 0.12), int(rng.integers(len(_VOWELS)))
    vowel[:] = _VOWELS[kind]
    while at < seconds:
        i = min(int(at * RATE / STEP), len(t) - 1)
        length = rng.uniform(0.82, 1.2) / rate[i]
        j = min(len(t), i + max(3, int(length * RATE / STEP)))
        kind = int(rng.integers(len(_VOWELS)))
        vowel[i:] = _VOWELS[kind]
        if rng.random() > 0.12:  # now and then a pause
            q = np.linspace(0, 1, j - i)
            voiced = q < 1 - gap[i]
            phase = np.clip(q / (1 - gap[i]), 0, 1)
            envelope[i:j] = np.where(voiced, np.sin(np.pi * phase) ** 0.6, 0) * rng.uniform(0.8, 1.0)
            swing[i:j] = np.sin(np.pi * phase * rng.uniform(0.8, 1.3)) * rng.choice([1.0, 0.7, -0.5])
            if rng.random() < 0.6:
                burst[i : min(j, i + 6)] = rng.uniform(0.3, 0.8)
        at += length
    smooth = np.hanning(11)
    smooth /= smooth.sum()
    envelope = np.convolve(envelope, smooth, "same")
    tract = 1 + 0.17 * np.clip((pitch - 120) / 80, 0, 1) + (0.04 * amount if shows == "happiness" else 0.0 * amount)
    formants = (
        np.stack([np.convolve(np.pad(vowel[:, k], 8, "edge"), np.full(17, 1 / 17), "valid") for k in range(3)], 1)
        * tract[:, None]
    )
    wobble = np.convolve(rng.normal(0, 1, len(t)), np.full(3, 1 / 3), "same") * blend("jitter")
    semitones = (
        swing * blend("swing")
        + blend("slope") * (t / seconds - 0.5)
        + (amount * 0.8 * np.sin(2 * np.pi * 9 * t) if shows == "fear" else 0.0)
    )
    f0 = pitch * (calm.pitch + (moved.pitch - calm.pitch) * amount) * 2 ** (semitones / 12) * (1 + wobble)
    f0 = np.clip(f0, 60, 520)

    k = np.arange(1, _HARMONICS + 1)
    freq = f0[:, None] * k
    gain = 10 ** (((-6.0 + blend("tilt"))[:, None] * np.log2(k)) / 20) * np.exp(-((freq / 5200) ** 8))
    for m in range(3):
        x = freq / formants[:, m, None]
        gain = gain / np.hypot(1 - x**2, _BANDWIDTHS[m] / formants[:, m, None] * x * (1.0 if m else 1.3))
    level = 10 ** (blend("level") / 20) * envelope
    gain = gain * level[:, None]

    # cos(k p) from cos((k-1) p) and cos((k-2) p): one multiplication per harmonic and sample.
    blocks = len(t) - 1
    ramp = (np.arange(STEP) / STEP)[None]
    f_sample = (f0[:-1, None] + np.diff(f0)[:, None] * ramp).ravel()
    phase = 2 * np.pi * np.cumsum(f_sample) / RATE
    c1 = np.cos(phase).reshape(blocks, STEP)
    before, now = np.ones_like(c1), c1.copy()
    wave = np.zeros((blocks, STEP))
    for m in range(_HARMONICS):
        wave += (gain[:-1, m, None] + (gain[1:, m] - gain[:-1, m])[:, None] * ramp) * now
        before, now = now, 2 * c1 * now - before
    noise = rng.standard_normal((blocks, STEP))
    spectrum = np.fft.rfft(noise.ravel())
    f = np.fft.rfftfreq(blocks * STEP, 1 / RATE)
    spectrum *= (f / 1800) * np.exp(-((f / 4200) ** 2)) + 0.4 * np.exp(-(((f - 1500 * tract.mean()) / 500) ** 2))
    hiss = np.fft.irfft(spectrum, blocks * STEP).reshape(blocks, STEP)
    hush = (blend("breath") * level * 1.6 + burst * 0.9 * 10 ** (blend("level") / 20))[:-1, None]
    out = (wave * (1 - 0.5 * blend("breath")[:-1, None]) * 0.045 + hiss * hush * 0.055).ravel()[:n]
    out = np.tanh(out * 1.2) * 0.8 + 0.0012 * rng.standard_normal(n)
    return in_16_bits(out), np.clip(envelope * (1 - 0.35 * (formants[:, 0] < 400)), 0, 1)
