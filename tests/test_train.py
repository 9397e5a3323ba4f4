"""Training for real, on small images: recipes, freezing, saving, resuming, fine-tuning."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, IterableDataset

import emozoo
from emozoo.batch import Batch, mix
from emozoo.callbacks import BestOnTest, Distillation, FeatureCache, SaveWeights
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.features import FeatureDataset, collate_features
from emozoo.data.loading import ClipDataset, Collate
from emozoo.errors import DatasetError, UsageError
from emozoo.finetune import finetune
from emozoo.models.network import Output
from emozoo.module import EmotionModule
from emozoo.optim import lr_factor
from emozoo.zoo import load


@pytest.fixture(scope="module")
def images(make_images: Callable[[int], Path]) -> Path:
    return make_images(12)


QUIET = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}


def test_learning_rates_of_papers() -> None:
    """CEFLNet's cosine with warm-up, Emotion-FAN's steps and CAHFW-Net's cosine, by the epoch."""
    ceflnet = [1e-4 * lr_factor("epoch_cosine", e, 120, warmup=10, period=160) for e in (0, 4, 9, 40, 80, 119)]
    assert ceflnet == pytest.approx([1.0e-5, 4.99e-5, 9.92e-5, 8.54e-5, 5.0e-5, 1.535e-5], rel=1e-3)
    fan = [4e-3 * lr_factor("epoch_step", e, 180, period=60, gamma=0.2) for e in (0, 59, 60, 120, 179)]
    assert fan == pytest.approx([4e-3, 4e-3, 8e-4, 1.6e-4, 1.6e-4])
    assert lr_factor("epoch_cosine", 50, 100, period=100) == pytest.approx(0.5)
    assert [lr_factor("cosine", s, 100, warmup=5) for s in (0, 4, 5, 100)] == pytest.approx([0.2, 1.0, 1.0, 0.0])


def test_unknown_schedule_says_which_there_are() -> None:
    """A misspelt schedule or optimiser is refused before anything is read."""
    with pytest.raises(UsageError, match="epoch_step"):
        EmotionModule("ceflnet", size="lite", schedule="stairs")
    with pytest.raises(UsageError, match="adamw"):
        EmotionModule("ceflnet", size="lite", optimizer="adamax")


def test_schedules_by_the_epoch_know_how_long_a_training_of_steps_is(images: Path) -> None:
    """Protects a training that is limited by steps: its learning rate does not end with its first epoch; without an
    end there is no schedule, which is said before anything is done."""
    module = EmotionModule(
        "emotion_fan", size="lite", classes=["angry", "calm"], options={"backbone": "vgg_tiny"}, lr=1.0,
        schedule={"name": "epoch_cosine", "warmup": 0.25}, optimizer={"name": "sgd"},
    )  # fmt: skip
    dm = EmotionDataModule("folder", images, spec=module.spec, classes=module.classes, batch_size=8, val_share=0.0)
    rates: list[float] = []

    class Rates(L.Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    steps: Any = {"max_steps": 12, "accelerator": "cpu", "limit_val_batches": 0, "callbacks": [Rates()]}
    L.Trainer(**steps, **QUIET).fit(module, dm)  # type: ignore[arg-type]
    # 12 steps of 2 batches in an epoch
    assert rates == pytest.approx([lr_factor("epoch_cosine", e, 6, warmup=2, period=6) for e in range(6)])

    class Stream(IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[Batch]:
            return iter(())

    with pytest.raises(UsageError, match="this loader has no length: give max_epochs"):
        L.Trainer(**steps, **QUIET).fit(module, DataLoader(Stream()))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="give max_epochs or max_steps"):
        L.Trainer(max_time="00:00:01:00", accelerator="cpu", **QUIET).fit(module, dm)  # type: ignore[arg-type]


def test_mixing_mixes_every_target() -> None:
    """Protects mixup beside valence and arousal: what is mixed in the image is mixed in all that is said of it."""
    torch.manual_seed(1)
    x = torch.arange(6.0)
    targets = {
        "emotion": torch.tensor([0, 1, 0, 1, 0, -100]),
        "va": x[:, None, None].expand(6, 3, 2),
        "va_mask": torch.tensor([1, 1, 1, 1, 0, 1], dtype=torch.bool)[:, None].expand(6, 3),
    }
    batch = mix(Batch({"face": x[:, None]}, {}, targets), 0.5, 2)
    mixed = batch.targets
    torch.testing.assert_close(mixed["va"][:, 0, 0], batch.inputs["face"][:, 0])
    assert targets["emotion"].shape == (6,), "the batch that was given is as before"
    assert mixed["va_mask"].sum() < targets["va_mask"].sum(), "nothing is known where one of the two is not"
    assert mixed["emotion"].shape == (6, 2)
    assert 0 < float(mixed["emotion"].sum()) < 6


def test_options_that_would_do_nothing_are_refused(images: Path, tmp_path: Path) -> None:
    """Protects from runs that are not what their recipe says: misspelt parts, a teacher without weight or absent."""
    for wrong, said in (
        ({"lr_scale": {"bakbone": 0.1}}, "has no part 'bakbone'"),
        ({"lr_scale": {"backbone": 0, "backbone.0": 0.1}}, "backbone.0 lies in backbone"),
        ({}, "needs a teacher"),
        ({"classes": ["calm", "angry"]}, "other streams or classes"),
    ):
        settings = {"size": "lite", "classes": ["angry", "calm"]} | wrong
        module = EmotionModule("emotion_fan", **settings)  # type: ignore[arg-type]
        dm = EmotionDataModule("folder", images, spec=module.spec, classes=module.classes)
        taught = Distillation("emotion_fan.ferplus" if "classes" in wrong else None, 0.5)
        trainer = L.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, callbacks=[taught], **QUIET)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=said):
            trainer.fit(module, dm)
    with pytest.raises(UsageError, match="above 0"):
        Distillation("emotion_fan.ferplus", 0.0)


def test_images_without_labels_need_a_teacher(images: Path, tmp_path: Path) -> None:
    """Protects from a further set that is read and teaches nothing."""
    module = EmotionModule("emotion_fan", size="lite", classes=["angry", "calm"], options={"backbone": "vgg_tiny"})
    also = [{"dataset": "folder", "root": str(images), "labels": False}]
    dm = EmotionDataModule("folder", images, spec=module.spec, classes=module.classes, also=also)
    with pytest.raises(UsageError, match="without a teacher"):
        L.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, **QUIET).fit(module, dm)  # type: ignore[arg-type]


def test_nothing_labelled_and_nothing_readable_change_nothing() -> None:
    """Protects weights from NaN where a batch has no label, and evaluation from a batch that could not be read."""
    module = EmotionModule("recursive_joint_attention", size="lite", classes=["a", "b"])
    out = Output(torch.randn(3, 2, requires_grad=True), torch.rand(3, 8, 2, requires_grad=True), {})
    targets = {"emotion": torch.full((3,), -100), "va": torch.rand(3, 8, 2), "va_mask": torch.ones(3, 8).bool()}
    loss, _ = module._loss(out, targets, train=True)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.equal(out.logits.grad, torch.zeros(3, 2))
    module.validation_step(None, 0)


def test_frozen_means_frozen(images: Path) -> None:
    """Parts with rate 0 keep weights and batch-norm statistics through training; the others move."""
    L.seed_everything(0, verbose=False)
    options = {"backbone": "vgg_tiny"}
    module = EmotionModule(
        "ceflnet", size="lite", classes=["angry", "calm"], options=options, lr_scale={"backbone": 0.0}
    )
    before = {k: v.clone() for k, v in module.net.state_dict().items()}
    dm = EmotionDataModule("folder", images, spec=module.spec, classes=module.classes, batch_size=4)
    L.Trainer(max_steps=3, accelerator="cpu", limit_val_batches=0, **QUIET).fit(module, dm)  # type: ignore[arg-type]
    changed = {k for k, v in module.net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert not any(k.startswith("backbone.") for k in changed)


def test_features_of_a_frozen_encoder_are_made_once(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training on cached features sees what the encoder would give, and a second run does not decode again."""
    monkeypatch.setenv("EMOZOO_HOME", str(tmp_path))
    root = shutil.copytree(images, tmp_path / "data")

    def fit() -> tuple[EmotionModule, EmotionDataModule]:
        L.seed_everything(0, verbose=False)
        module = EmotionModule(
            "ceflnet",
            size="lite",
            classes=["angry", "calm"],
            options={"backbone": "vgg_tiny"},
            lr_scale={"backbone": 0},
        )
        dm = EmotionDataModule("folder", root, spec=module.spec, classes=module.classes, batch_size=4, val_share=0.0)
        cache = FeatureCache(draws=2)
        L.Trainer(max_epochs=2, accelerator="cpu", limit_val_batches=0, callbacks=[cache], **QUIET).fit(module, dm)  # type: ignore[arg-type]
        return module, dm

    module, dm = fit()
    (kept,) = (tmp_path / "features").iterdir()
    first = FeatureDataset.load(kept)
    data = ClipDataset(dm.train_rows, dm.spec, train=False)
    collate = Collate(dm.train_rows, dm.spec, dm.labels, None, skip=False)
    module.eval()
    with torch.no_grad():
        plain = module.output(collate([data[0], data[1]])).logits  # type: ignore[arg-type]
        made = module.output(collate_features([first[0], first[1]])).logits
    torch.testing.assert_close(made, plain, atol=2e-3, rtol=2e-3)

    stamp = kept.stat().st_mtime_ns
    again, _ = fit()
    assert kept.stat().st_mtime_ns == stamp
    assert all(torch.equal(a, b) for a, b in zip(module.net.parameters(), again.net.parameters(), strict=True))


def test_features_that_cannot_be_kept_are_used(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Protects hours of encoding from a full disk: it is said, nothing half is left, and the training goes on."""
    monkeypatch.setenv("EMOZOO_HOME", str(tmp_path))
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no device that is always full")
    module = EmotionModule("ceflnet", size="lite", classes=["angry", "calm"], lr_scale={"backbone": 0})
    dm = EmotionDataModule("folder", images, spec=module.spec, classes=module.classes)
    dm.setup("fit")
    cache = FeatureCache(draws=1)
    opened = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, *a, **k: opened(full if path.suffix[1:].isdigit() else path, *a, **k))
        found = cache.features(module, dm)
    assert "No space left on device" in caplog.text
    assert len(found) == len(dm.train_rows)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    kept = cache.features(module, dm)
    assert all(torch.equal(a[0]["face"], b[0]["face"]) for a, b in zip(found, kept, strict=True))


def test_features_of_preloaded_stills_are_the_same(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking for faces once instead of once per draw changes nothing of what is trained on."""
    made = []
    for preload in (0, 1):
        monkeypatch.setenv("EMOZOO_HOME", str(tmp_path / str(preload)))
        L.seed_everything(0, verbose=False)
        module = EmotionModule("ceflnet", size="lite", classes=["angry", "calm"], lr_scale={"backbone": 0})
        augment = {"face": {"flip": 0.5, "light": 0.3, "motion": 1.0}}
        dm = EmotionDataModule(
            "folder", images, spec=module.spec, classes=module.classes, augment=augment, preload=preload
        )
        cache = FeatureCache(draws=2)
        L.Trainer(max_steps=1, accelerator="cpu", limit_val_batches=0, callbacks=[cache], **QUIET).fit(module, dm)  # type: ignore[arg-type]
        (kept,) = (tmp_path / str(preload) / "features").iterdir()
        made.append(FeatureDataset.load(kept))
    assert made[0].rows == made[1].rows
    for row in made[0].rows:
        for one, other in zip(made[0].draws[row], made[1].draws[row], strict=True):
            assert torch.equal(one[0]["face"], other[0]["face"])


def test_features_go_on_from_a_checkpoint_as_from_the_start(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects resuming on cached features: the encoder of the checkpoint counts, not that of the new module, and the
    losses of the remaining steps are those of a run that was not stopped."""
    monkeypatch.setenv("EMOZOO_HOME", str(tmp_path / "home"))

    class Losses(L.Callback):
        def __init__(self) -> None:
            self.found: list[float] = []

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
            self.found.append(float(outputs["loss"]))

    def fit(seed: int, checkpoint: str | None = None) -> list[float]:
        L.seed_everything(seed, verbose=False)
        options = {"backbone": "vgg_tiny"}
        module = EmotionModule(
            "ceflnet", size="lite", classes=["angry", "calm"], options=options, lr_scale={"backbone": 0}
        )
        dm = EmotionDataModule("folder", images, spec=module.spec, classes=module.classes, batch_size=4, val_share=0.0)
        losses, keep = Losses(), ModelCheckpoint(tmp_path, filename="seventh", every_n_train_steps=7)
        callbacks = [losses, FeatureCache(draws=2), *([] if checkpoint else [keep])]
        quiet = {**QUIET, "enable_checkpointing": not checkpoint}
        trainer = L.Trainer(max_epochs=2, accelerator="cpu", limit_val_batches=0, callbacks=callbacks, **quiet)  # type: ignore[arg-type]
        trainer.fit(module, dm, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
        return losses.found

    whole = fit(0)
    assert len(whole) == 10
    assert fit(1, str(tmp_path / "seventh.ckpt")) == whole[7:]


def test_features_of_an_encoder_that_learns_are_refused(images: Path) -> None:
    """Cached features of a moving encoder would be wrong without a sign of it; a loader alone has no features."""
    module = EmotionModule("ceflnet", size="lite", classes=["angry", "calm"], options={"backbone": "vgg_tiny"})
    dm = EmotionDataModule("folder", images, spec=module.spec, classes=module.classes)
    trainer = L.Trainer(max_steps=1, accelerator="cpu", callbacks=[FeatureCache(draws=1)], **QUIET)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="frozen"):
        trainer.fit(module, dm)
    dm = EmotionDataModule("folder", images, spec=module.spec, classes=module.classes)
    dm.setup("fit")
    trainer = L.Trainer(max_steps=1, accelerator="cpu", callbacks=[FeatureCache(draws=1)], **QUIET)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="datamodule=dm"):
        trainer.fit(module, dm.train_dataloader())


def test_a_trainer_with_best_on_test_still_tests_plain_loaders(images: Path) -> None:
    """Protects plain Lightning: the callback asks for a data module where it fits, not where a loader is tested."""
    module = EmotionModule("ceflnet", size="lite", classes=["angry", "calm"], options={"backbone": "vgg_tiny"})
    dm = EmotionDataModule("folder", images, spec=module.spec, classes=module.classes)
    dm.setup("test")
    trainer = L.Trainer(accelerator="cpu", callbacks=[BestOnTest()], **QUIET)  # type: ignore[arg-type]
    assert "test_WAR" in trainer.test(module, dm.test_dataloader(), verbose=False)[0]


def test_answers_over_mirror_images(images: Path, tmp_path: Path) -> None:
    """``flips`` answers an image and its mirror image alike, by their mean, in every way of asking and when loaded."""
    L.seed_everything(0, verbose=False)
    module = EmotionModule(
        "caer_cross_attention", size="lite", classes=["angry", "calm"], flips=True, spec={"clips": 1}
    )
    dm = EmotionDataModule("folder", images, spec=module.spec, classes=module.classes, batch_size=4)
    save = SaveWeights(str(tmp_path / "kept"), trained_on="drawings", half=False)
    L.Trainer(max_steps=3, accelerator="cpu", limit_val_batches=0, callbacks=[save], **QUIET).fit(module, dm)  # type: ignore[arg-type]
    dm.setup("validate")
    batch = next(iter(dm.val_dataloader()))
    mirrored = {k: x.flip(-1) for k, x in batch.inputs.items()}
    module = load(tmp_path / "kept")
    with torch.no_grad():
        one, other = (module.net(x, batch.masks).logits for x in (batch.inputs, mirrored))
        assert not torch.allclose(one, other, atol=1e-5)
        for answer in (module.output(batch), module(batch.inputs, batch.masks), module(mirrored, batch.masks)):
            torch.testing.assert_close(answer.logits, (one + other) / 2)
        module.train()
        torch.manual_seed(0)
        trained = module.output(batch).logits
        torch.manual_seed(0)
        torch.testing.assert_close(trained, module.net(batch.inputs, batch.masks).logits)


def test_calibration_finds_the_temperature_of_held_out_clips(images: Path) -> None:
    """Answers ten times too timid are put right by the stored temperature, their prior too: what votes say of rare
    classes is flatter than what most voters say. Exact ones stay, and calibrating again changes nothing."""
    module = EmotionModule(
        "emotion_fan", size="lite", classes=["a", "b", "c"], options={"backbone": "vgg_tiny"}, loss={"tau": 1.0}
    )
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(6000, 3, generator=generator)
    prior = torch.tensor([0.6, 0.3, 0.1])
    labels = torch.multinomial((logits + prior.log()).softmax(-1), 1, generator=generator).squeeze(1)
    for timid in (1.0, 0.1):
        module.temperature.fill_(1.0)
        module.log_prior.copy_((timid * prior.log()).log_softmax(-1))
        module.output = lambda batch, timid=timid: Output(timid * batch.inputs["x"], None, {})  # type: ignore[method-assign]
        for _ in range(2):
            module.calibrate([Batch({"x": logits}, {}, {"emotion": labels}, {"id": [""] * 6000})])
            assert float(module.temperature) == pytest.approx(timid, rel=0.06)
            for said, expected in (("train", logits + prior.log()), ("uniform", logits)):
                found = module.scores(timid * logits, prior=said)
                torch.testing.assert_close(found, expected.softmax(-1), atol=0.02, rtol=0.15)


def test_several_teachers_teach_their_mean(images: Path, tmp_path: Path) -> None:
    """Protects distillation from several networks: the mean of their answers, to images without a label as well."""
    options = {"backbone": "vgg_tiny"}
    same = {"size": "lite", "classes": ["angry", "calm"], "options": options, "spec": {"clips": 1}}
    folders = []
    for seed in (1, 2):
        L.seed_everything(seed, verbose=False)
        module = EmotionModule("emotion_fan", **same)  # type: ignore[arg-type]
        dm = EmotionDataModule("folder", images, spec=module.spec, classes=module.classes, batch_size=8)
        folders.append(str(tmp_path / str(seed)))
        callbacks = [SaveWeights(folders[-1])]
        L.Trainer(max_epochs=1, accelerator="cpu", callbacks=callbacks, limit_val_batches=0, **QUIET).fit(module, dm)  # type: ignore[arg-type]
    pupil, taught = EmotionModule("emotion_fan", **same), Distillation(folders, 0.5)  # type: ignore[arg-type]
    unlabelled = [{"dataset": "folder", "root": str(images), "labels": False}]
    dm = EmotionDataModule("folder", images, spec=pupil.spec, classes=pupil.classes, batch_size=48, also=unlabelled)
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", limit_val_batches=0, callbacks=[taught], **QUIET)  # type: ignore[arg-type]
    trainer.fit(pupil, dm)
    assert "loss_teacher" in trainer.callback_metrics
    assert pupil.teacher_weight == 0.0, "another fit of the same module asks nobody"
    batch = next(iter(dm.train_dataloader()))
    assert dm.val_rows or dm.test_rows
    labelled = len({r.path for r in dm.train_rows})
    unlabelled_now = (batch.targets["emotion"] < 0).sum()
    assert unlabelled_now == labelled, "the further set brings images alone, and none that validates or is tested"
    mean = sum(t.scores(t.output(batch).logits, prior="uniform") for t in map(load, folders)) / 2
    torch.testing.assert_close(taught.probabilities(batch), mean)


def test_checkpoints_hold_plain_types_only(images: Path, tmp_path: Path) -> None:
    """A Lightning checkpoint of ours opens with ``weights_only``."""
    module = EmotionModule("emotion_fan", size="lite", classes=["angry", "calm"], options={"backbone": "vgg_tiny"})
    dm = EmotionDataModule("folder", images, spec=module.spec, classes=module.classes, batch_size=8)
    trainer = L.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        limit_val_batches=0, default_root_dir=tmp_path, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, dm)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    again = EmotionModule.load_from_checkpoint(tmp_path / "x.ckpt", weights_only=True)
    assert again.classes == ("angry", "calm")
    assert torch.equal(again.log_prior, module.log_prior)


def test_finetuning_on_own_classes_ends_in_a_model_that_predicts(images: Path, tmp_path: Path) -> None:
    """Class folders in, a weights folder out; nothing is written beside the user's data; a second call goes on."""
    files = sorted(images.rglob("*"))
    report = finetune("ceflnet", images, tmp_path / "own", epochs=3)
    assert report["classes"] == ["angry", "calm"]
    assert report["n_train"] + report["n_val"] == 24
    assert sorted(images.rglob("*")) == files
    module = load(tmp_path / "own")
    assert module.classes == ("angry", "calm")
    config = json.loads((tmp_path / "own" / "config.json").read_text())
    assert config["licence"] == load("ceflnet").config["licence"]
    prediction = emozoo.predict(images / "calm" / "0.png", model=tmp_path / "own")
    assert prediction.error is None
    assert prediction.classes == ["angry", "calm"]
    finetune("ceflnet", images, tmp_path / "own", epochs=4)
    assert json.loads((tmp_path / "own" / "config.json").read_text())["epochs"] == 4
    with pytest.raises(UsageError, match="--no-resume"):  # never the old answers under new names
        finetune("ceflnet", images, tmp_path / "own", epochs=4, seed=1)


def test_a_tag_that_is_there_is_not_trained_over(images: Path, tmp_path: Path) -> None:
    """Weights under a tag are immutable: said before the training, which would be lost."""
    (tmp_path / "ceflnet.mine_v1").mkdir()
    (tmp_path / "ceflnet.mine_v1" / "model.safetensors").write_bytes(b"weights")
    module = EmotionModule("ceflnet", size="lite", classes=["angry", "calm"], options={"backbone": "vgg_tiny"})
    dm = EmotionDataModule("folder", images, spec=module.spec, classes=module.classes)
    save = SaveWeights(str(tmp_path), "mine_v1")
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", callbacks=[save], **QUIET)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="immutable"):
        trainer.fit(module, dm)


def test_clips_without_labels_calibrate_nothing() -> None:
    """Temperature stays 1, with a warning, where nothing that was set apart has a label or could be read."""
    module = EmotionModule("ceflnet", size="lite", options={"backbone": "vgg_tiny"})
    x = {"face": torch.rand(2, 3, 3, 3, 48, 48)}
    unlabelled = Batch(x, {}, {"emotion": torch.tensor([-100, -100])}, {})
    for batches in ([], [None, unlabelled], [Batch(x, {}, {}, {})]):
        with pytest.warns(UserWarning, match="not calibrated"):
            module.calibrate(batches)
    assert float(module.temperature) == 1.0


def test_finetuning_needs_two_classes(images: Path, tmp_path: Path) -> None:
    """One folder is no classification; the error says what to do."""
    shutil.copytree(images / "calm", tmp_path / "data" / "calm")
    with pytest.raises(DatasetError, match="two classes"):
        finetune("ceflnet", tmp_path / "data", tmp_path / "own")
