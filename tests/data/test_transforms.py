"""Augmentation: one draw per sample, the same for all frames, by its seed alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from emozoo.data.streams import augment_clip, streams_of
from emozoo.data.transforms import Augment, augment_images, augment_log_mel, augment_waveform
from emozoo.errors import UsageError
from emozoo.spec import ClipSpec, StreamSpec

ALL = Augment(
    flip=0.5, rotate=10, scale=0.1, shift=0.05, light=0.2, tint=0.3, blur=0.3, noise=0.3, compress=0.3, erase=0.3
)


def clip(clips: int = 2, frames: int = 3, size: int = 32, grey: bool = False) -> np.ndarray:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (8, 8, 1 if grey else 3), dtype=np.uint8).repeat(size // 8, 0).repeat(size // 8, 1)
    return np.tile(np.broadcast_to(image, (size, size, 3)), (clips, frames, 1, 1, 1))


def one(value: np.ndarray, augment: Augment, seed: int = 0) -> np.ndarray:
    return augment_images(value, augment, seed)


SCENE = streams_of(ClipSpec({n: StreamSpec(n, (32, 32)) for n in ("face", "context")}, 2, "segments", 1.0))


def test_off_means_untouched():
    """Protects the defaults: nothing asked for, nothing changed."""
    assert np.array_equal(one(clip(), Augment()), clip())


def test_a_sample_follows_from_its_seed():
    """Protects reproducibility: same seed, same image; other seeds, other images."""
    drawn = [one(clip(), ALL, seed).tobytes() for seed in range(20)]
    assert drawn == [one(clip(), ALL, seed).tobytes() for seed in range(20)]
    assert len(set(drawn)) == 20


def test_all_frames_get_the_same_draw():
    """Protects time: augmentation must not look like motion."""
    for seed in range(10):
        out = one(clip(), ALL, seed)
        assert (out == out[:1, :1]).all()


def test_face_and_context_flip_together():
    """Protects the scene: streams of one sample share their geometry, whatever their size."""
    face, context = clip(size=32), clip(size=64)
    for seed in range(12):
        out = augment_clip(SCENE, {"face": face, "context": context}, Augment(flip=0.5), seed)
        flipped = [not np.array_equal(out[n], v) for n, v in (("face", face), ("context", context))]
        assert flipped[0] == flipped[1]


def test_streams_may_have_settings_of_their_own():
    """Protects the mapping form: a stream that is not named stays as it is."""
    out = augment_clip(SCENE, {"face": clip(), "context": clip()}, {"face": Augment(flip=1.0)}, 0)
    assert np.array_equal(out["face"], clip()[:, :, :, ::-1])
    assert np.array_equal(out["context"], clip())


def test_a_still_is_worked_on_once():
    """Protects speed: a still stays one image in memory unless the camera moves."""
    still = np.broadcast_to(clip(1, 1)[0, 0], (3, 4, 32, 32, 3))
    assert one(still, ALL).strides[:2] == (0, 0)
    assert one(still, Augment(motion=0.5)).strides[:2] != (0, 0)


def test_motion_turns_a_still_into_a_smooth_pseudo_clip():
    """Protects motion: frames differ, neighbours differ less than the ends, the mean light stays near."""
    smooth = np.add.outer(np.arange(48), 2 * np.arange(48)).astype(np.uint8)
    still = np.broadcast_to(np.dstack([smooth] * 3), (1, 9, 48, 48, 3))
    steps, spans = [], []
    for seed in range(8):
        out = one(still, Augment(motion=0.7), seed)[0].astype(float)
        steps.append(np.abs(np.diff(out, axis=0)).mean())
        spans.append(max(np.abs(out[i] - out[0]).mean() for i in range(1, 9)))
    assert min(spans) > 0.5
    assert np.mean(steps) < 0.7 * np.mean(spans)


def test_tint_colours_grey_images_and_greys_coloured_ones():
    """Protects the colour gap: nets trained on grey faces meet colour, and the other way round."""
    coloured = one(clip(grey=True), Augment(tint=1.0))[0, 0].astype(int)
    assert np.ptp(coloured, axis=2).max() > 3
    grey = one(clip(), Augment(tint=1.0))[0, 0].astype(int)
    assert np.ptp(grey, axis=2).max() <= 1


def test_probabilities_are_drawn_apart():
    """Protects against steps that all fire together: erasing must not imply noise."""
    both = Augment(noise=0.5, erase=0.5)
    flat = np.full((1, 1, 32, 32, 3), 128, dtype=np.uint8)
    seen = set()
    for seed in range(40):
        out = one(flat, both, seed)
        erased, noisy = bool((out == 0).any()), bool(len(np.unique(out[out > 0])) > 1)
        seen.add((erased, noisy))
    assert len(seen) == 4


@pytest.mark.parametrize(
    "field", ["rotate", "scale", "shift", "light", "blur", "noise", "compress", "erase", "flip", "motion", "tint"]
)
def test_every_setting_does_something(field):
    """Protects against options without effect; sizes and types stay."""
    value = {"rotate": 20.0, "scale": 0.3, "shift": 0.2, "light": 0.4}.get(field, 1.0)
    out = [one(clip(), Augment(**{field: value}), seed) for seed in range(4)]
    assert any(not np.array_equal(o, clip()) for o in out)
    assert all(o.shape == clip().shape and o.dtype == np.uint8 for o in out)


def test_audio_is_masked_and_shifted_in_db():
    """Protects audio augmentation: gain shifts all, masks silence bands and steps, all finite."""
    db = np.random.default_rng(0).normal(-30, 10, (2, 1, 64, 100)).astype(np.float32)
    gained = augment_log_mel(db, Augment(gain=6.0), 0)
    assert np.ptp(gained - db) < 1e-4
    assert abs((gained - db).mean()) <= 6
    masked = augment_log_mel(db, Augment(time_mask=0.5, mel_mask=0.5), seed=3)
    changed = masked != db
    assert 0.05 < changed.mean() < 0.8
    assert masked.dtype == np.float32
    assert np.isfinite(augment_log_mel(db, Augment(hiss=3.0), 0)).all()


def test_another_voice_shifts_all_windows_alike():
    """Protects pitch and tempo: one draw for all windows of a clip, no silence at the edges."""
    db = np.tile(np.linspace(-60, 0, 64, dtype=np.float32)[:, None], (3, 1, 1, 100))
    higher = augment_log_mel(db, Augment(pitch=0.2), seed=1)
    assert np.ptp(higher, axis=(0, 3)).max() < 1e-4
    moved = higher[0, 0, 20:40, 0] - db[0, 0, 20:40, 0]
    assert 0.5 < abs(moved.mean()) < 0.2 * 64
    assert np.ptp(moved) < 0.2
    assert higher.min() >= -60
    click = np.full((2, 1, 64, 101), -60, np.float32)
    click[..., 90] = 0
    at = augment_log_mel(click, Augment(tempo=0.3), seed=2).argmax(3)
    assert (at == at[0, 0, 0]).all()
    assert at[0, 0, 0] != 90


class Seeded(Dataset):
    """Draws as training does: the seed comes from torch's generator in whichever process asks."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> float:
        seed = int(torch.randint(2**31, ()))
        return float(one(clip(1, 1), ALL, seed).astype(np.int64).__mul__(np.arange(3072).reshape(32, 32, 3)).sum())


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_workers_and_epochs_never_repeat_one_another(workers, persistent):
    """Protects against albumentations 2.0.8 in workers (4 distinct images of 24 when it seeds itself)."""
    torch.manual_seed(0)
    loader = DataLoader(Seeded(), batch_size=4, num_workers=workers, persistent_workers=persistent)
    drawn = [float(v) for _ in range(3) for batch in loader for v in batch]
    assert len(drawn) == 24
    assert len(set(drawn)) >= 23


def test_speed_moves_the_pitch_of_a_waveform_and_keeps_its_end() -> None:
    """Protects another voice for speech encoders: all clips of a sample get one speed, nothing new is heard."""
    t = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 400 * t).astype(np.float32)
    waves = np.stack([tone, tone])[:, None, None]

    def hertz(wave: np.ndarray) -> float:
        heard = wave[-8000:]
        return float(np.abs(np.fft.rfft(heard)).argmax() * 2)

    found = set()
    for seed in range(8):
        out = augment_waveform(waves, Augment(speed=0.2), seed)
        assert out.shape == waves.shape
        assert out.dtype == np.float32
        np.testing.assert_array_equal(out[0], out[1])
        found.add(hertz(out[0, 0, 0]))
        assert abs(out[0, 0, 0, -1] - tone[-1]) < 0.2
    assert min(found) >= 318
    assert max(found) <= 482
    assert len(found) > 4
    with pytest.raises(UsageError, match="speed works on waveforms"):
        augment_log_mel(np.zeros((1, 1, 4, 4), dtype=np.float32), Augment(speed=0.1), 0)
