"""Windows of audio as networks take them: log-mel images (HTK mel scale, power spectrum, dB with reference 1.0), or
the samples themselves.

The arithmetic is that of torchaudio's ``MelSpectrogram`` and ``AmplitudeToDB("power")`` with their defaults (periodic
Hann window, centred with mirrored ends, no filter normalisation), written with torch alone. Torch is imported when the
first log-mel image is computed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from emozoo.spec import AudioSpec

if TYPE_CHECKING:
    from torch import Tensor

FLOOR = 1e-10  # power below this is -100 dB


@lru_cache(maxsize=16)
def mel_filters(rate: int, fft: int, mels: int) -> Tensor:
    """Triangular filters from 0 Hz to rate / 2, evenly spaced on the HTK mel scale: (fft // 2 + 1, mels)."""
    import torch

    hz = torch.linspace(0, rate // 2, fft // 2 + 1)
    top = 2595.0 * np.log10(1.0 + (rate / 2) / 700.0)
    edges = 700.0 * (10.0 ** (torch.linspace(0, top, mels + 2) / 2595.0) - 1.0)
    width = edges.diff()
    slopes = edges[None, :] - hz[:, None]  # (fft // 2 + 1, mels + 2)
    return torch.minimum(-slopes[:, :-2] / width[:-1], slopes[:, 2:] / width[1:]).clamp_min(0.0)


@lru_cache(maxsize=16)
def _hann(win: int) -> Tensor:
    import torch

    return torch.hann_window(win)


def window_samples(spec: AudioSpec, steps: int) -> int:
    """Samples of one window: ``spec.seconds``, or what ``steps`` spectrogram steps need where that is more."""
    if spec.kind == "waveform":
        return steps
    return max(round(spec.seconds * spec.rate), (steps - 1) * spec.hop)


def windows(waves: np.ndarray, spec: AudioSpec, size: tuple[int, int]) -> np.ndarray:
    """Each window in the form of the stream: float32 (C, samples) → log-mel (C, 1, M, S) or waveform (C, 1, 1, S)."""
    return waves[:, None, None, :] if spec.kind == "waveform" else log_mel(waves, spec, size)


def log_mel(waves: np.ndarray, spec: AudioSpec, size: tuple[int, int]) -> np.ndarray:
    """dB of each window: float32 (C, samples) → (C, 1, M, S) for ``size`` = (M, S), finite on silence too.

    No value is more than ``top_db`` below the largest of its window; lower ones are raised to that. Of more than S
    steps the last S are taken, so that the window still ends where its clip ends.
    """
    import torch

    mels, steps = size
    stft = torch.stft(
        torch.from_numpy(np.ascontiguousarray(waves)),
        spec.fft,
        spec.hop,
        spec.win,
        _hann(spec.win),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    power = torch.einsum("cfs,fm->cms", stft.real.square() + stft.imag.square(), mel_filters(spec.rate, spec.fft, mels))
    db = 10.0 * power.clamp_min(FLOOR).log10()
    db = torch.maximum(db, db.amax(dim=(1, 2), keepdim=True) - spec.top_db)
    return db[:, None, :, -steps:].numpy()


def mean_spectrum(wave: np.ndarray, spec: AudioSpec, mels: int) -> np.ndarray:
    """How far each mel bin's mean over time lies above the mean of all, in dB: float32 (samples,) → (M,)."""
    means = log_mel(wave[None], spec, (mels, 1 + len(wave) // spec.hop))[0, 0].mean(1)
    return np.asarray(means - means.mean())
