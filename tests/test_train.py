"""Training for real, on small pictures: recipes, freezing, saving, resuming, fine-tuning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import lightning as L
import numpy as np
import pytest
import torch

import emozoo
from emozoo.data.datamodule import EmotionDataModule
from emozoo.errors import DatasetError
from emozoo.module import EmotionModule, load
from emozoo.train import EmozooCLI, finetune

RECIPES = sorted((Path(__file__).resolve().parents[1] / "benchmarks" / "recipes").glob("*.yaml"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 12 pictures that differ in brightness."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, level in (("calm", 40), ("angry", 170)):
        (root / name).mkdir()
        for i in range(12):
            picture = rng.normal(level, 20, (64, 64, 3)).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(root / name / f"{i}.png"), picture)
    return root


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_recipes_build_what_they_say(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every committed recipe names real arguments, and its data module reads what its model eats."""
    monkeypatch.chdir(recipe.parents[2])  # recipes name checkpoints from the root of the repository
    cli = EmozooCLI(EmotionModule, EmotionDataModule, args=["--config", str(recipe)], run=False)
    assert cli.datamodule.spec == cli.model.spec
    assert list(cli.datamodule.classes or cli.model.classes) == list(cli.model.classes)


def test_frozen_means_frozen(pictures: Path) -> None:
    """Parts with rate 0 keep weights and batch-norm statistics through training; the others move."""
    L.seed_everything(0, verbose=False)
    options = {"backbone": "vgg_tiny"}
    module = EmotionModule(
        "ceflnet", size="lite", classes=["angry", "calm"], options=options, lr_scale={"backbone": 0.0}
    )
    before = {k: v.clone() for k, v in module.net.state_dict().items()}
    dm = EmotionDataModule("folder", pictures, spec=module.spec, classes=module.classes, batch_size=4)
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
    }
    L.Trainer(max_steps=3, accelerator="cpu", limit_val_batches=0, **quiet).fit(module, dm)  # type: ignore[arg-type]
    changed = {k for k, v in module.net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert not any(k.startswith("backbone.") for k in changed)


def test_checkpoints_hold_plain_types_only(pictures: Path, tmp_path: Path) -> None:
    """A Lightning checkpoint of ours opens with ``weights_only``."""
    module = EmotionModule("emotion_fan", size="lite", classes=["angry", "calm"], options={"backbone": "vgg_tiny"})
    dm = EmotionDataModule("folder", pictures, spec=module.spec, classes=module.classes, batch_size=8)
    trainer = L.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        limit_val_batches=0, default_root_dir=tmp_path, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, dm)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    again = EmotionModule.load_from_checkpoint(tmp_path / "x.ckpt", weights_only=True)
    assert again.classes == ("angry", "calm")
    assert torch.equal(again.log_prior, module.log_prior)


def test_finetuning_on_own_classes_ends_in_a_model_that_predicts(pictures: Path, tmp_path: Path) -> None:
    """Class folders in, a weights folder out; nothing is written beside the user's data; a second call goes on."""
    files = sorted(pictures.rglob("*"))
    report = finetune("ceflnet", pictures, tmp_path / "own", epochs=3)
    assert report["classes"] == ["angry", "calm"]
    assert report["n_train"] + report["n_val"] == 24
    assert sorted(pictures.rglob("*")) == files
    module = load(tmp_path / "own")
    assert module.classes == ("angry", "calm")
    config = json.loads((tmp_path / "own" / "config.json").read_text())
    assert config["licence"] == load("ceflnet").config["licence"]
    prediction = emozoo.predict(pictures / "calm" / "0.png", model=tmp_path / "own")
    assert prediction.error is None
    assert prediction.classes == ["angry", "calm"]
    finetune("ceflnet", pictures, tmp_path / "own", epochs=4)
    assert json.loads((tmp_path / "own" / "config.json").read_text())["epochs"] == 4


def test_finetuning_needs_two_classes(pictures: Path, tmp_path: Path) -> None:
    """One folder is no classification; the error says what to do."""
    shutil.copytree(pictures / "calm", tmp_path / "data" / "calm")
    with pytest.raises(DatasetError, match="two classes"):
        finetune("ceflnet", tmp_path / "data", tmp_path / "own")
