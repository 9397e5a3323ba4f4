"""Numbers on drawn inputs: sampling, boxes, masks, metrics and losses; constant, empty and extreme ones among them."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from drawn_inputs import quick
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nets import ARCHS, full_masks
from nets import example as inputs_of
from sklearn import metrics as sk

from emozoo import losses, metrics
from emozoo.batch import Batch
from emozoo.data import sampling, views
from emozoo.data.datamodule import EmotionDataModule
from emozoo.models.backbones import audio_encoder
from emozoo.module import EmotionModule

# -- sampling --------------------------------------------------------------------------------------------------------

stamps = st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=60).map(np.cumsum)


@quick
@given(
    stamps=stamps, rule=st.sampled_from(["overlap", "segments", "trailing"]), clips=st.integers(1, 12),
    frames=st.integers(1, 15), clip_s=st.floats(0.01, 100.0), rate=st.sampled_from([0.0, 0.5, 12.5, 60.0, 1000.0]),
    seed=st.none() | st.integers(0, 99),
)  # fmt: skip
@example(
    stamps=np.array([0.0, 1e12]), rule="segments", clips=2, frames=3, clip_s=1.0, rate=30.0, seed=None
)  # thirty years between two frames: a grid of them all would not fit into memory
def test_samples_are_frames_of_the_media(
    stamps: np.ndarray, rule: str, clips: int, frames: int, clip_s: float, rate: float, seed: int | None
) -> None:
    """Every index is one of the file's frames; where nothing is played again, they do not go back in a clip."""
    rng = None if seed is None else np.random.default_rng(seed)
    found = sampling.plan(stamps, rule, clips, frames, clip_s=clip_s, rate=rate, rng=rng)
    assert found.indices.shape == found.mask.shape == (clips, frames)
    assert found.indices.min() >= 0
    assert found.indices.max() < len(stamps)
    if rule != "segments":
        assert (np.diff(np.where(found.mask, found.indices, 0), axis=1) >= 0).all()
    if rule != "trailing":
        assert found.mask.all()


@quick
@given(have=st.integers(1, 64), want=st.integers(1, 64), position=st.sampled_from(["all", "center"]))
def test_frames_of_a_stream_are_frames_of_the_clip(have: int, want: int, position: str) -> None:
    """A stream that takes fewer frames than the clip has takes some of these, in order."""
    want = min(want, have)
    found = sampling.subset(have, want, position)
    assert len(found) == want
    assert (np.diff(found) > 0).all()
    assert 0 <= found[0] <= found[-1] < have


# -- boxes -----------------------------------------------------------------------------------------------------------

side = st.floats(-1e9, 1e9) | st.floats(-200, 200)


@quick
@given(size=st.tuples(st.integers(1, 60), st.integers(1, 60)), corner=st.tuples(side, side),
       extent=st.tuples(st.floats(0, 1e9) | st.floats(0, 200), st.floats(0, 200)), margin=st.floats(0, 2))  # fmt: skip
@example(size=(60, 60), corner=(1000.0, 0.0), extent=(10.0, 10.0), margin=0.0)  # beside the image
@example(size=(60, 60), corner=(-1000.0, -1000.0), extent=(10.0, 10.0), margin=0.0)
@example(size=(60, 60), corner=(0.0, 0.0), extent=(1e9, 10.0), margin=0.0)  # larger than any memory
@example(size=(1, 1), corner=(0.0, 0.0), extent=(0.0, 0.0), margin=2.0)
def test_every_box_gives_a_crop(
    size: tuple[int, int], corner: tuple[float, float], extent: tuple[float, float], margin: float
) -> None:
    """No crop is empty or larger than a few images, wherever a table puts its box; a context loses the box alone."""
    image = np.full((*size, 3), 100, np.uint8)
    box = np.array([*corner, corner[0] + extent[0], corner[1] + extent[1]])
    crop = views.cut(image, box, margin)
    assert crop.size > 0
    assert max(crop.shape[:2]) <= max(size) * views.FAR * (2 + 4 * margin) + 2
    assert (crop == 100).all()
    assert views.face(image, box, (8, 8), margin, "area").shape == (8, 8, 3)
    seen = views.context(image, box, size, "area")
    inside = np.zeros(size, bool)
    x1, y1 = (max(int(np.floor(v)), 0) for v in box[:2])
    x2, y2 = (max(int(np.ceil(v)), -1) for v in box[2:])
    inside[min(y1, 99) : min(y2, 98) + 1, min(x1, 99) : min(x2, 98) + 1] = True
    assert (seen[..., 0] == np.where(inside, 0, 100)).all()


# -- metrics ---------------------------------------------------------------------------------------------------------


@quick
@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=80))
@example(pairs=[(2, 2)])
@example(pairs=[(0, 1)] * 9)
def test_scores_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    """WAR, UAR and macro-F1 of any labels, constant ones too."""
    true, said = (np.array(x) for x in zip(*pairs, strict=True))
    matrix = np.zeros((5, 5))
    np.add.at(matrix, (true, said), 1)
    found = metrics.scores_of(matrix)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that were only predicted
        assert found["WAR"] == pytest.approx(sk.accuracy_score(true, said))
        assert found["UAR"] == pytest.approx(sk.balanced_accuracy_score(true, said))
        f1 = sk.f1_score(true, said, labels=np.unique(true), average="macro", zero_division=0)
        assert found["F1"] == pytest.approx(f1)


def plain_ccc(x: np.ndarray, y: np.ndarray) -> float | None:
    """None where the numbers differ by so little that 1e-12, which keeps the divisor from zero, is seen."""
    spread = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    if spread > 1e-8:
        return 2 * ((x - x.mean()) * (y - y.mean())).mean() / spread
    return 0.0 if spread == 0 else None


numbers = st.floats(-1, 1, width=32)


@quick
@given(pairs=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=60))
@example(pairs=[(0.5, 0.5)] * 5)
@example(pairs=[(0.5, -0.5)] * 5)
@example(pairs=[(0.25, 1.0)])
@example(pairs=[(-1e-5, 0.0), (0.0, 0.0), (0.0, -1e-5)])
def test_concordance_is_the_plain_formula(pairs: list[tuple[float, float]]) -> None:
    """The pooled metric and the one that trains, on any numbers in [-1, 1]: constant, equal, a single pair."""
    x, y = np.array(pairs, np.float64).T
    expected = plain_ccc(x, y)
    pooled = float(metrics.concordance_of(metrics.concordance_sums(x, y)))
    one = torch.tensor(x, requires_grad=True)
    found = losses.concordance(one, torch.tensor(y))
    found.backward()
    assert abs(pooled) <= 1.001
    assert abs(float(found)) <= 1.001
    if expected is not None:
        assert (pooled, float(found)) == pytest.approx((expected, expected), abs=1e-3)
        assert pooled == pytest.approx(expected, abs=1e-6)
    assert one.grad is not None
    assert one.grad.isfinite().all()


# -- losses ----------------------------------------------------------------------------------------------------------

extreme = arrays(np.float32, (3, 4), elements=st.sampled_from([0.0, 1.0, -1.0, 1e4, -1e4, 65504.0, 1e-8]))


@quick
@given(
    logits=extreme, labels=st.lists(st.sampled_from([-100, 0, 1, 3]), min_size=3, max_size=3),
    smoothing=st.sampled_from([0.0, 0.1]), flood=st.sampled_from([0.0, 0.5]),
    width=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)  # fmt: skip
def test_losses_of_labels_are_finite(
    logits: np.ndarray, labels: list[int], smoothing: float, flood: float, width: torch.dtype
) -> None:
    """No NaN in loss or gradient: constant and extreme logits, in 16 bits too, with no label at all as well."""
    x = torch.tensor(logits).to(width).requires_grad_()
    teacher = torch.full((3, 4), 0.25)
    teacher[0] = float("nan")
    prior = torch.tensor([-13.8, -1.0, -0.7, -3.0])
    loss = losses.cross_entropy(x, torch.tensor(labels), log_prior=prior, smoothing=smoothing, flood=flood)
    loss = loss + losses.distillation(x.float(), teacher)
    loss.backward()
    assert loss.isfinite()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@quick
@given(x=extreme, y=arrays(np.float32, (6, 2), elements=st.floats(-1, 1, width=32)), mask=arrays(bool, 6))
@example(x=np.zeros((3, 4), np.float32), y=np.zeros((6, 2), np.float32), mask=np.zeros(6, bool))
@example(x=np.full((3, 4), 1e4, np.float32), y=np.ones((6, 2), np.float32), mask=np.ones(6, bool))
def test_losses_of_concordance_are_finite(x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> None:
    """No NaN in loss or gradient: constant, empty after the mask, one number, and numbers of 16-bit size."""
    one = torch.tensor(x.reshape(6, 2), requires_grad=True)
    loss = losses.concordance_loss(one, torch.tensor(y), torch.tensor(mask))
    loss.backward()
    assert loss.isfinite()
    assert one.grad is not None
    assert one.grad.isfinite().all()


KINDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "constant": torch.zeros_like, "1e4": lambda x: torch.full_like(x, 1e4), "-1e4": lambda x: torch.full_like(x, -1e4),
    "large": lambda x: 1e4 * x, "16 bits": lambda x: x, "masked": lambda x: x, "one stream": lambda x: x,
    "single": lambda x: x[:1],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arch", [*(a for a in ARCHS if a not in ("caer_net_s", "resnet_gru")), "face statistics"])
def test_a_training_step_is_finite(arch: str, kind: str) -> None:
    """No NaN in loss or gradient of any network, for images and audio that a camera does not make, and for none."""
    torch.manual_seed(0)
    options = {"face_statistics": True, "freeze": False} if arch == "face statistics" else {}
    arch = "recursive_joint_attention" if options else arch
    module = EmotionModule(arch, size="lite", loss={"tau": 1.0, "smoothing": 0.1}, options=options).train()
    inputs = {name: KINDS[kind](x) for name, x in inputs_of(arch).items()}
    masks = full_masks(inputs)
    for name in list(masks)[: 1 if kind == "one stream" else None]:
        if kind in ("masked", "one stream"):
            masks[name].zero_()
            inputs[name].zero_()
    size, clips = next(iter(masks.values())).shape[:2]
    targets = {"emotion": torch.arange(size), "va": torch.zeros(size, clips, 2)}
    targets["va_mask"] = torch.ones(size, clips, dtype=torch.bool)
    batch = Batch(inputs, masks, targets, {"id": ["x"] * size})
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == "16 bits"):
        loss, _ = module._loss(module.output(batch), batch.targets, train=True)
    loss.backward()
    assert loss.isfinite()
    for name, parameter in module.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_the_deviation_of_one_sound_has_a_gradient() -> None:
    """No NaN in what an encoder learns from audio that has a single moment that is no pause, or none."""
    encoder, _ = audio_encoder("speech_tiny_layers@1")
    for wave in (torch.zeros(1, 16000), torch.nn.functional.one_hot(torch.tensor([8000]), 16000).float()):
        encoder.zero_grad()
        encoder(wave[:, None, None]).sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


# -- the same run twice ----------------------------------------------------------------------------------------------


def test_a_seeded_run_is_bit_equal_to_the_one_before(make_images: Callable[[int], Path], tmp_path: Path) -> None:
    """Two steps with ``deterministic=True`` and one seed, augmentation and dropout included, give the same bits."""
    images = make_images(6)
    found = []
    for run in range(2):
        random.seed(run)  # what a process did before
        torch.rand(run)
        L.seed_everything(7, verbose=False)
        module = EmotionModule("ceflnet", size="lite", classes=["angry", "calm"], options={"backbone": "vgg_tiny"})
        data = EmotionDataModule(
            "folder", images, spec=module.spec, classes=module.classes, val_share=0.0, batch_size=4, seed=7,
            augment={"face": {"flip": 0.5, "rotate": 10.0, "erase": 0.2}},
        )  # fmt: skip
        trainer = L.Trainer(
            max_steps=2, accelerator="cpu", deterministic=True, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
            limit_val_batches=0, num_sanity_val_steps=0,
        )  # fmt: skip
        trainer.fit(module, data)
        found.append({k: v.clone() for k, v in module.net.state_dict().items()})
    assert all(torch.equal(v, found[1][k]) for k, v in found[0].items())
