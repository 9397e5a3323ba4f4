"""Waveforms to log-mel images."""

from __future__ import annotations

import numpy as np
import pytest

from emozoo.data import audio
from emozoo.spec import AudioSpec

SPEC = AudioSpec()


def tone(hz: float, seconds: float = 1.0, rate: int = 16000) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate).astype(np.float32)[None]


@pytest.mark.parametrize("hz", [250.0, 1000.0, 4000.0])
def test_a_tone_lands_on_its_mel_bin(hz):
    """Protects the HTK mel scale: the loudest bin is the one whose centre is nearest to the tone."""
    db = audio.log_mel(tone(hz), SPEC, (64, 101))
    assert db.shape == (1, 1, 64, 101)
    mel = 2595 * np.log10(1 + np.array([hz, 8000.0]) / 700)
    assert abs(int(db[0, 0, :, 50].argmax()) - (mel[0] / mel[1] * 65 - 1)) <= 1


def test_power_is_that_of_a_plain_fourier_transform():
    """Protects the arithmetic: one step, computed by hand with numpy, equals the library's."""
    wave = np.random.default_rng(0).normal(0, 0.1, (1, 16000)).astype(np.float32)
    db = audio.log_mel(wave, SPEC, (64, 101))
    window = np.zeros(512)
    window[56:456] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    part = wave[0, 50 * 160 - 256 : 50 * 160 + 256] * window
    power = np.abs(np.fft.rfft(part)) ** 2 @ audio.mel_filters(16000, 512, 64).numpy()
    np.testing.assert_allclose(db[0, 0, :, 50], 10 * np.log10(np.maximum(power, 1e-10)), atol=2e-3)


def test_silence_is_finite():
    """Protects against logarithms of nothing."""
    db = audio.log_mel(np.zeros((2, 16000), dtype=np.float32), SPEC, (64, 101))
    assert np.isfinite(db).all()
    assert (db == -100).all()


def test_quiet_steps_are_cut_below_the_loudest():
    """Protects top_db: nothing lies more than 80 dB below the loudest step of its own window."""
    wave = np.concatenate([np.zeros((1, 8000), np.float32), tone(500, 0.5)], axis=1)
    db = audio.log_mel(np.concatenate([wave, wave * 0.01]), SPEC, (64, 101))
    for window in db:
        assert window.max() - window.min() == pytest.approx(80, abs=1e-3)
    assert db[0].max() - db[1].max() == pytest.approx(40, abs=0.1)


def test_the_published_window_has_its_published_size():
    """Protects the Aff-Wild2 audio of recursive joint attention: 45,599 samples at 44.1 kHz give 64 x 104."""
    spec = AudioSpec(rate=44100, win=882, hop=441, fft=1024, seconds=45599 / 44100)
    samples = audio.window_samples(spec, 104)
    assert samples == 45599
    assert audio.log_mel(np.zeros((1, samples), np.float32), spec, (64, 104)).shape == (1, 1, 64, 104)


def test_a_window_is_as_long_as_its_steps_need():
    """Protects fixed sizes: more steps than the seconds give lengthen the window, fewer keep its end."""
    assert audio.window_samples(SPEC, 201) == 32000
    wave = tone(500)
    wave[:, :8000] = 0
    short = audio.log_mel(wave, SPEC, (64, 40))
    assert short.shape == (1, 1, 64, 40)
    assert short[0, 0].max(axis=0).min() > 0  # the last 40 steps all hold the tone
