"""What ``emozoo train`` leaves behind: the configuration that ran, a log, and weights that say how they were made."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import yaml

from emozoo import recipes, registry
from emozoo.callbacks import Distillation, SaveWeights
from emozoo.card import private, told
from emozoo.cli import main
from emozoo.data.datamodule import EmotionDataModule
from emozoo.errors import UsageError, WeightsError
from emozoo.module import EmotionModule
from emozoo.settings import changes
from emozoo.train import train

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def images(make_images: Callable[[int], Path]) -> Path:
    return make_images(8)


@pytest.fixture
def work(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder as users have them, with the data in it by a relative name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine").symlink_to(images)
    return tmp_path


def recipe(folder: Path, name: str = "mine", save: dict[str, Any] | None = None, **trainer: Any) -> Path:
    settings = {
        "seed_everything": 1,
        "model": {
            "model": "emotion_fan", "size": "lite", "classes": ["angry", "calm"], "lr": 0.001,
            "options": {"backbone": "vgg_tiny"},
        },
        "data": {"dataset": "folder", "root": "data/mine", "val_share": 0.25, "batch_size": 4},
        "trainer": {
            "max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1, **trainer,
            "callbacks": [
                {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.8}},
                {
                    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "init_args": {
                        "filename": "last", "save_on_train_epoch_end": True, "enable_version_counter": False,
                    },
                },
                {"class_path": "emozoo.callbacks.SaveWeights", "init_args": save or {}},
            ],
        },
    }  # fmt: skip
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def card_of(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def test_a_recipe_that_was_followed_says_so(work: Path) -> None:
    """Protects the sentence "recipe R": without a change it stands alone, and the run lies in ``runs/<recipe>``."""
    before = set(work.iterdir()) | {recipe(work)}
    assert train(["--config", "mine.yaml"]) == 0
    assert set(work.iterdir()) - before == {work / "runs"}, "nothing else is left in the working folder"
    run = work / "runs" / "mine"
    found = config_of(run / "last")
    assert (found["recipe"], found["changed"]) == ("mine.yaml", {})
    assert "Recipe: `mine.yaml`.\n" in card_of(run / "last")
    assert found["settings"]["model"]["lr"] == 0.001
    assert found["settings"]["data"]["root"] == "data/mine"
    assert found["settings"]["callbacks"]["EMAWeightAveraging"]["decay"] == 0.8
    assert found["settings"]["seed_everything"] == 1
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["lr"] == 0.001
    with (run / "metrics.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert any(r["val_WAR"] for r in rows)
    assert any(r["loss"] for r in rows)
    assert (run / "checkpoints" / "last.ckpt").is_file(), "where --ckpt_path is told to look"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model.lr", "0.0003"], {"model.lr": [0.001, 0.0003]}),
        (["--model.loss.tau", "1", "--model.optimizer.weight_decay", "0.1"],
         {"model.loss.tau": [None, 1.0], "model.optimizer.weight_decay": [None, 0.1]}),
        (["--data.batch_size", "2", "--seed_everything", "7"], {"seed_everything": [1, 7], "data.batch_size": [4, 2]}),
        (["--trainer.precision", "bf16-mixed"], {"trainer.precision": [None, "bf16-mixed"]}),
        (["--model.options", '{"backbone": "vgg_lite"}'], {"model.options.backbone": ["vgg_tiny", "vgg_lite"]}),
        (["--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping", "--trainer.callbacks.monitor", "val_WAR"],
         None),
        (["--data.num_workers", "0", "--trainer.default_root_dir", "elsewhere", "--trainer.logger", "false"], {}),
    ],
)  # fmt: skip
def test_what_was_changed_is_said(work: Path, words: list[str], said: dict[str, Any] | None) -> None:
    """Protects the same sentence from runs that did not follow it: every changed argument, in config and card."""
    assert train(["--config", str(recipe(work, save={"folder": "out"})), *words]) == 0
    found, card = config_of(work / "out"), card_of(work / "out")
    if said is None:
        assert any(k.startswith("callbacks.EarlyStopping") for k in found["changed"])
    else:
        assert found["changed"] == said
    assert told(found["changed"]) in card
    assert ("changed:" in card) == bool(found["changed"])


def test_a_committed_recipe_is_what_runs_are_compared_with(work: Path, images: Path) -> None:
    """Also where an edited copy is run: SaveWeights names the committed one, and what differs from it is said."""
    plan = recipes.read("emotion_fan__afew")
    plan["model"]["lr"] = 0.5
    (work / "edited.yaml").write_text(yaml.safe_dump(plan))
    words = ["--config", "edited.yaml", "--model.size", "lite", "--model.classes", "[angry,calm]"]
    words += ["--model.options", '{"backbone": "vgg_tiny"}', "--model.spec", "null", "--data.dataset", "folder"]
    words += ["--data.root", str(images), "--data.batch_size", "4", "--data.num_workers", "0", "--data.preload", "0"]
    words += ["--data.val_share", "0.25", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
    assert train([*words, "--trainer.enable_progress_bar", "false"]) == 0
    (file,) = work.rglob("last/config.json")
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["recipe"] == "benchmarks/recipes/emotion_fan__afew.yaml"
    assert found["changed"]["model.lr"][1] == 0.5
    assert found["changed"]["data.root"] == ["data/afew", f"…/{images.name}"]
    text = file.read_text(encoding="utf-8") + card_of(file.parent)
    assert str(images) not in text, "nothing that would be published says where the user's files lie"
    assert str(work) not in text


def test_without_a_recipe_the_card_says_so(work: Path, images: Path) -> None:
    """Runs of a bare command line, and of a Trainer of the user's own, name no recipe but keep their settings."""
    words = ["--model", "emotion_fan", "--model.size", "lite", "--model.classes", "[angry,calm]"]
    words += ["--model.options", '{"backbone": "vgg_tiny"}', "--data.dataset", "folder", "--data.root", str(images)]
    words = ["--model.model" if w == "--model" else w for w in words]
    words += [
        "--trainer.max_epochs",
        "1",
        "--trainer.accelerator",
        "cpu",
        "--trainer.callbacks",
        "emozoo.callbacks.SaveWeights",
    ]
    assert train([*words, "--trainer.enable_progress_bar", "false"]) == 0
    assert (work / "runs" / "emotion_fan" / "metrics.csv").is_file()
    module = EmotionModule(
        "emotion_fan", size="lite", classes=["angry", "calm"], options={"backbone": "vgg_tiny"}, lr=0.02
    )
    dm = EmotionDataModule("folder", images, spec=module.spec, classes=module.classes, batch_size=4)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    L.Trainer(max_epochs=1, callbacks=[SaveWeights("own")], **quiet).fit(module, dm)  # type: ignore[arg-type]
    for folder in (work / "runs" / "emotion_fan" / "last", work / "own"):
        found = config_of(folder)
        assert found["recipe"] == ""
        assert found["settings"]["data"]["root"] == f"…/{images.name}"
        assert "Trained without a recipe" in card_of(folder)
    assert config_of(work / "own")["settings"]["model"]["lr"] == 0.02
    assert config_of(work / "own")["settings"]["trainer"]["max_epochs"] == 1


def test_a_trainer_of_ones_own_distils_as_the_command_does(work: Path, images: Path) -> None:
    """Protects plain Lightning users: the same callback, seed and data give the very weights of ``emozoo train``."""
    teacher = EmotionModule("emotion_fan", size="lite", classes=["angry", "calm"], options={"backbone": "vgg_tiny"})
    teacher.save("teacher")
    path = recipe(work, save={"folder": "by_command"})
    plan = yaml.safe_load(path.read_text())
    taught = {"class_path": "emozoo.callbacks.Distillation", "init_args": {"teacher": "teacher", "weight": 0.5}}
    plan["trainer"]["callbacks"] = [taught, plan["trainer"]["callbacks"][-1]]
    path.write_text(yaml.safe_dump(plan))
    assert train(["--config", str(path)]) == 0
    assert config_of(work / "by_command")["settings"]["callbacks"]["Distillation"] == taught["init_args"]
    L.seed_everything(1, verbose=False)
    module = EmotionModule("emotion_fan", size="lite", classes=["angry", "calm"], options={"backbone": "vgg_tiny"})
    dm = EmotionDataModule("folder", images, spec=module.spec, classes=module.classes, batch_size=4, val_share=0.25)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    callbacks = [Distillation("teacher", 0.5), SaveWeights("by_hand")]
    L.Trainer(max_epochs=1, callbacks=callbacks, **quiet).fit(module, dm)  # type: ignore[arg-type]
    assert config_of(work / "by_hand")["sha256"] == config_of(work / "by_command")["sha256"]
    L.seed_everything(1, verbose=False)
    module = EmotionModule("emotion_fan", size="lite", classes=["angry", "calm"], options={"backbone": "vgg_tiny"})
    L.Trainer(max_epochs=1, callbacks=[SaveWeights("untaught")], **quiet).fit(module, dm)  # type: ignore[arg-type]
    assert config_of(work / "untaught")["sha256"] != config_of(work / "by_hand")["sha256"]


def test_a_run_that_goes_on_keeps_its_log_and_says_what_changed(work: Path) -> None:
    """``--ckpt_path`` with other settings: the first part's log stays, and the weights say what both parts had."""
    path = recipe(work)
    assert train(["--config", str(path)]) == 0
    run = work / "runs" / "mine"
    first = (run / "metrics.csv").read_text()
    more = [
        "--ckpt_path",
        str(run / "checkpoints" / "last.ckpt"),
        "--trainer.max_epochs",
        "2",
        "--data.batch_size",
        "2",
    ]
    assert train(["--config", str(path), *more]) == 0
    assert (run / "metrics_1.csv").read_text() == first
    assert (run / "metrics.csv").is_file()
    found = config_of(run / "last")
    assert found["resumed"]["data.batch_size"] == [4, 2]
    assert "Went on from a checkpoint of a run with other settings: " in card_of(run / "last")


def test_a_trial_run_writes_nothing(work: Path) -> None:
    """``--trainer.fast_dev_run`` leaves no file."""
    path = recipe(work)
    assert train(["--config", str(path), "--trainer.fast_dev_run", "1"]) == 0
    assert {p.name for p in work.iterdir()} == {"data", "mine.yaml"}


ROOTED = "/".join(("", "somewhere", "joe"))  # an absolute path


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (f"{ROOTED}/clips", "…/clips"), (f"{ROOTED}/clips/", "…/clips"), ("~/clips", "…/clips"),
        ("\\".join(("D:", "joe", "clips")), "…/clips"), ("\\\\server\\joe\\clips", "…/clips"),
        (f"file://{ROOTED}/x", "…/x"),
        ("data/afew", "data/afew"), ("$EMOZOO_SHARED/data", "$EMOZOO_SHARED/data"), (Path(ROOTED), "…/joe"),
        ({f"{ROOTED}/w": {"backbone": "backbone"}}, {"…/w": {"backbone": "backbone"}}),
        ([{"root": ROOTED}, 3, None, True, 0.5], [{"root": "…/joe"}, 3, None, True, 0.5]),
        ("hf://acme/mine@main", "hf://acme/mine@main"),
    ],
)  # fmt: skip
def test_published_settings_say_no_place_on_this_machine(value: Any, said: Any) -> None:
    """Protects people: names of users and servers are in paths; relative names are what recipes say."""
    assert private(value) == said


def test_changes_name_every_argument() -> None:
    """Nested arguments by their full name, in the order of the recipe; what was taken away or added has None."""
    before = {"model": {"lr": 1, "options": {"a": 1}}, "data": {"also": [1]}}
    after = {"model": {"lr": 2, "options": {"b": 1}}, "data": {"also": [1]}}
    assert changes(before, after) == {"model.lr": [1, 2], "model.options.a": [1, None], "model.options.b": [None, 1]}


def test_two_processes_write_one_configuration(work: Path) -> None:
    """ddp: ``config.yaml``, the log and the weights are written once, by the first process."""
    path = recipe(work)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "emozoo", "train", "--config", str(path), "--trainer.devices", "2"]
    done = subprocess.run([*command, "--trainer.strategy", "ddp"], env=env, capture_output=True, text=True, cwd=work)
    assert done.returncode == 0, done.stderr[-3000:]
    run = work / "runs" / "mine"
    assert {p.name for p in run.iterdir()} == {"config.yaml", "metrics.csv", "hparams.yaml", "checkpoints", "last"}
    assert config_of(run / "last")["changed"] == {"trainer.devices": ["auto", "2"], "trainer.strategy": ["auto", "ddp"]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--model.modle", "x"], "--model.modle"),
        (["--model.lr", "fast"], "lr"),
        (["--model.tau", "1"], "model.tau is now model.loss.tau"),
        (["--model.distill", "0.5"], "Distillation"),
        (["--model.loss.tua", "1"], "tua"),
        (["--model.optimizer", "sdg"], "optimizer must be one of adamw"),
        (["--model.optimizer", "sgd", "--model.optimizer.weight_decay", "0.1"], "required keys: {'name'}"),
        (["--model.model", "emotion_fn"], "no model 'emotion_fn'; did you mean 'emotion_fan'?"),
        (["--data.circle", "true"], "data.circle is an argument of version 0.1: it is called circumplex now"),
        (["--config", "old.yaml"], "emozoo.callbacks.FeatureCache(draws=N)"),
    ],
)
def test_a_wrong_argument_is_one_line(
    work: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects from the list of all arguments in front of the one line that says what is wrong."""
    (work / "old.yaml").write_text("data: {features: 2}\n")
    monkeypatch.setattr(sys, "argv", ["emozoo", "train", "--config", str(recipe(work)), *words])
    assert main() == 2
    err = capsys.readouterr().err.strip()
    assert len(err.splitlines()) == 1
    assert said in err
    assert "compute_fn" not in err


def test_a_start_that_does_not_fit_is_one_short_line(work: Path) -> None:
    """Says which weights, which part and a few keys: not all of the hundreds, and no bare error for a wrong part."""
    for parts, said in (({"backbone": "backbone"}, "keys, first"), ({"backbone": "bakbone"}, "no part 'bakbone'")):
        with pytest.raises((WeightsError, UsageError), match=said) as raised:
            EmotionModule("emotion_fan", size="lite", options={"backbone": "vgg_tiny"},
                          init_from={"emotion_fan.ferplus_v3": parts})  # fmt: skip
        assert len(str(raised.value)) < 400


def test_without_classes_a_recipe_trains_on_those_of_the_paper(work: Path, images: Path) -> None:
    """Protects from the data's own order, which labels one class of the network as another."""
    names = registry.model("emotion_fan").classes
    lines = [f"{p},{names[-1 - i % 2]}" for i, p in enumerate(sorted(images.glob("*/*.png")))]
    Path("table.csv").write_text("\n".join(["path,label", *lines]))
    train(["--model.model", "emotion_fan", "--model.size", "lite", "--model.options", '{"backbone": "vgg_tiny"}',
           "--data.dataset", "csv", "--data.root", "table.csv", "--trainer.max_steps", "1", "--trainer.accelerator",
           "cpu", "--trainer.callbacks+", "emozoo.callbacks.SaveWeights"])  # fmt: skip
    config = json.loads(Path("runs/emotion_fan/last/config.json").read_text())
    assert tuple(config["classes"]) == names
    shares = np.exp(config["log_prior"])
    assert shares[-2:].sum() == pytest.approx(1.0, abs=1e-4)
