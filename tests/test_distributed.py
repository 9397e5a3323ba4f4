"""Training in several processes, in pieces, and after a kill ends where one undisturbed process does."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import pytest
import torch
import yaml
from distributed_job import ITEMS, STEPS, items, make, trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from safetensors.torch import load_file
from torch import Tensor

from emozoo import registry
from emozoo.data.datamodule import EmotionDataModule
from emozoo.module import EmotionModule
from emozoo.train import train
from emozoo.zoo import load

HERE = Path(__file__).resolve().parent
# What lr_scale freezes: DDP has to know before it waits for gradients.
FROZEN = {"ceflnet": "backbone", "caer_net_s": "context_encoder", "dfan": "encoders.scene"}


def together(out: Path, jobs: list[str]) -> None:
    """Two processes under torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    command += ["--standalone", str(HERE / "distributed_job.py"), str(out), *jobs]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def alone(
    arch: str, *, batch_size: int = ITEMS, frozen: str = "", steps: int = STEPS,
    options: dict[str, Any] | None = None, **more: Any,
) -> dict[str, Tensor]:  # fmt: skip
    module = make(arch, lr_scale={frozen: 0.0} if frozen else None, options=options)
    trainer(max_steps=steps, **more).fit(module, items(module, batch_size))
    return module.net.state_dict()


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, x in wanted.items():
        torch.testing.assert_close(found[name], x, rtol=1e-4, atol=2e-5, msg=lambda m, name=name: f"{name}: {m}")


def moved(arch: str, after: dict[str, Tensor]) -> float:
    before = make(arch).net.state_dict()
    return max(float((after[k] - x).abs().max()) for k, x in before.items())


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Two processes take the steps of one with twice the batch, with flooding, concordance and frozen parts too."""
    together(tmp_path, [f"{a}:{FROZEN[a]}" if a in FROZEN else a for a in registry.MODELS])
    for arch in registry.MODELS:
        wanted = alone(arch, frozen=FROZEN.get(arch, ""))
        assert moved(arch, wanted) > 1e-3
        assert_same(load_file(tmp_path / f"{arch}.safetensors"), wanted)


@pytest.mark.parametrize("arch", registry.MODELS)
def test_accumulation_is_the_larger_batch(arch: str) -> None:
    """Two batches of two make the step of one of four, where the loss is a mean over items.

    In float64: over some steps maxima and one-hot attention magnify the rounding of float32.
    """
    more: dict[str, Any] = {}
    if arch in ("caer_cross_attention", "recursive_joint_attention"):
        more = {"flood": 0.0, "va_weight": 0.0}  # flooding and concordance belong to a batch: no mean over items
    states = []
    for batch_size, pieces in ((ITEMS, 1), (ITEMS // 2, 2)):
        module = make(arch)
        module.loss_settings.update(more)
        run = trainer(max_steps=STEPS, accumulate_grad_batches=pieces, precision="64-true")
        run.fit(module, items(module, batch_size))
        states.append(module.net.state_dict())
    assert moved(arch, states[0]) > 1e-3
    for name, x in states[0].items():
        torch.testing.assert_close(states[1][name], x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("arch", registry.MODELS)
def test_mixed_precision_trains(arch: str) -> None:
    """bfloat16 steps are finite, close to those of float32, and leave float32 weights.

    CEFLNet's attention is nearly one-hot at its start, which magnifies rounding from step to step: its three steps are
    compared with the start that is not, and the first one as it is.
    """
    close_in_16_bits(arch, 1, {})
    close_in_16_bits(arch, STEPS, {"eian_init": "fan_in"} if arch == "ceflnet" else {})


def close_in_16_bits(arch: str, steps: int, options: dict[str, Any]) -> None:
    whole = alone(arch, steps=steps, options=options)
    mixed = alone(arch, steps=steps, options=options, precision="bf16-mixed")
    change = {k: x - mixed[k] for k, x in whole.items() if x.is_floating_point()}
    assert all(mixed[k].dtype == torch.float32 and torch.isfinite(x).all() for k, x in change.items())
    far = sum(float(x.square().sum()) for x in change.values()) ** 0.5
    start = make(arch, options=options).net.state_dict()
    assert max(float((mixed[k] - start[k]).abs().max()) for k in change) > 1e-3
    near = sum(float((whole[k] - start[k]).square().sum()) for k in change) ** 0.5
    assert far < 0.3 * near


# -- any Trainer -------------------------------------------------------------------------------------------------------

TESTED, TRAINED = 41, 18


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small images, each its own face: 41 to test, 18 to train on and one to validate with, fewer than processes."""
    root = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    lines = ["path,label,split,x1,y1,x2,y2"]
    for part, count in (("test", TESTED), ("train", TRAINED), ("val", 1)):
        for i in range(count):
            shift = 100 if i % 2 else 0
            image = (rng.integers(0, 120, (48, 48, 3)) + shift).astype(np.uint8)
            cv2.imwrite(str(root / f"{part}{i:02d}.png"), image)
            lines.append(f"{part}{i:02d}.png,{'bright' if i % 2 else 'dark'},{part},0,0,47,47")
    path = root / "manifest.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def job(out: Path, table: Path, launch: list[str], devices: int, strategy: str) -> list[dict[str, Any]]:
    """What each process of ddp_job.py saw."""
    out.mkdir()
    command = [sys.executable, *launch, str(HERE / "ddp_job.py"), str(table), str(out), str(devices), strategy]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return [json.loads(p.read_text()) for p in sorted(out.glob("*.json"))]


@pytest.fixture(scope="module")
def one(table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process sees and measures."""
    (found,) = job(tmp_path_factory.mktemp("one") / "out", table, [], 1, "auto")
    return found


@pytest.mark.parametrize("launcher", ["lightning", pytest.param("torchrun", marks=pytest.mark.slow(20))])
def test_ddp_under_lightning_defaults(table: Path, tmp_path: Path, launcher: str, one: dict[str, Any]) -> None:
    """Protects whoever writes ``L.Trainer(devices=2, strategy="ddp")``: every item is tested, validated and predicted
    once, training draws what our own command draws, and goes on in the middle of an epoch as if nothing had been."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    both = job(tmp_path / "out", table, torchrun if launcher == "torchrun" else [], 2, "ddp")
    assert len(both) == 2
    for part in ("test", "predict"):
        seen = [i for found in both for i in found["evaluated"][part]]
        assert sorted(seen) == [f"test{i:02d}" for i in range(TESTED)]
    for found in both:
        assert found["metrics"] == pytest.approx(one["metrics"], abs=1e-6)
        assert found["fit"]["train"] == found["ours"]["train"]
        assert found["resumed"]["train"] == found["fit"]["train"][3:]
        assert len(found["fit"]["train"]) == 4, "18 rows, 9 for each process, two whole batches of 4 an epoch"
    for epoch in (0, 1):
        drawn = [i for found in both for e, ids, _ in found["fit"]["train"] if e == epoch for i in ids]
        assert len(drawn) == len(set(drawn)) == 16
    assert [i for found in both for i in found["fit"]["validate"]] == ["val00"] * 2, "once in each epoch"


def test_lightning_goes_on_where_it_was_stopped(one: dict[str, Any]) -> None:
    """Protects a plain Trainer that goes on from a checkpoint: the rest of the very same epochs, augmentation too."""
    assert len(one["fit"]["train"]) == 8
    assert one["resumed"]["train"] == one["fit"]["train"][-len(one["resumed"]["train"]) :]
    assert len(one["resumed"]["train"]) == 5


@pytest.mark.slow(30)
def test_ddp_spawn_measures_what_one_process_measures(table: Path, tmp_path: Path, one: dict[str, Any]) -> None:
    """Protects the strategy of notebooks, whose processes get the data module by pickle."""
    (found,) = job(tmp_path / "out", table, [], 2, "ddp_spawn")
    assert found["metrics"] == pytest.approx(one["metrics"], abs=1e-6)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow(10))])
def test_the_lightning_example_counts_every_item_once(tmp_path: Path, processes: int) -> None:
    """Protects the first training that a Lightning user sees: it runs as it stands, alone and under torchrun."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if processes > 1 else []
    run = [sys.executable, *launch, str(HERE.parent / "examples" / "train_lightning.py")]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("tested 12 of 12 items") == 1
    assert done.stderr.count("no split is given, so 20% are drawn") == 1, "by one process, where it is seen"


# -- killed and resumed ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(make_images: Callable[[int], Path]) -> Path:
    return make_images(10)


class Killed(L.Callback):
    """Ends the process's training as Ctrl-C does, in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *at: Any) -> None:
        if trainer.current_epoch == self.epoch and at[-1] == 1:
            raise RuntimeError("killed")


def test_a_resumed_run_ends_like_one_that_was_not_killed(images: Path, tmp_path: Path) -> None:
    """Order, augmentation, dropout, optimiser, schedule and averaged weights go on from the last epoch exactly."""

    def fit(folder: Path, *more: L.Callback, resume: Path | None = None, seed: int = 0) -> dict[str, Tensor]:
        L.seed_everything(seed, verbose=False)
        module = EmotionModule("ceflnet", size="lite", classes=["angry", "calm"], options={"backbone": "vgg_tiny"})
        dm = EmotionDataModule(
            "folder",
            images,
            spec=module.spec,
            classes=module.classes,
            batch_size=4,
            augment={"face": {"flip": 0.5, "shift": 0.1}},
        )
        callbacks = [
            EMAWeightAveraging(decay=0.9),
            ModelCheckpoint(folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False),
            *more,
        ]
        run = L.Trainer(
            max_epochs=4, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=callbacks, default_root_dir=folder,
        )  # fmt: skip
        run.fit(module, dm, ckpt_path=resume, weights_only=True)
        return module.net.state_dict()

    whole = fit(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path / "cut", Killed(epoch=2))
    # Another seed, as a new process would have another state: what counts is in the checkpoint.
    resumed = fit(tmp_path / "cut", resume=tmp_path / "cut" / "last.ckpt", seed=7)
    assert all(torch.equal(resumed[k], x) for k, x in whole.items())


def command(recipe: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "emozoo", "train", "--config", str(recipe), *more]


@pytest.fixture
def recipe(images: Path, tmp_path: Path) -> Path:
    """A small recipe as users write them, with everything on: best and last, averaging, best on test."""
    each = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    settings = {
        "seed_everything": 1,
        "model": {
            "model": "emotion_fan",
            "size": "lite",
            "classes": ["angry", "calm"],
            "lr": 0.003,
            "loss": {"tau": 1.0},
        },
        "data": {
            "dataset": "folder",
            "root": str(images),
            "val_share": 0.3,
            "batch_size": 4,
            "augment": {"face": {"flip": 0.5, "shift": 0.1}},
        },
        "trainer": {
            "max_epochs": 6,
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "default_root_dir": str(tmp_path / "run"),
            "callbacks": [
                {"class_path": "emozoo.callbacks.BestOnTest"},
                {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.8}},
                {
                    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "init_args": {"monitor": "val_WAR", "mode": "max", "filename": "best", **each},
                },
                {
                    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "init_args": {"filename": "last", **each},
                },
                {"class_path": "emozoo.callbacks.SaveWeights", "init_args": {"recipe": "mine"}},
            ],
        },
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_best_and_last_weights_are_both_kept(recipe: Path, tmp_path: Path) -> None:
    """The last epoch and the one chosen on validation load by their folders; best on test is a number beside them."""
    assert train(["--config", str(recipe), "--trainer.max_epochs", "3"]) == 0
    for which in ("last", "best"):
        module = load(tmp_path / "run" / which)
        assert module.config["selected"].startswith(which)
        found = module.config["best_on_test"]
        assert 0 <= found["WAR"] <= 1
        assert found["n"] == found["n_expected"] == 4
        assert "never a headline" in found["note"]
        with (tmp_path / "run" / "metrics.csv").open(newline="") as f:
            epochs = [r["val_WAR/dataloader_idx_1"] for r in csv.DictReader(f)]
        assert max(float(x) for x in epochs if x) == pytest.approx(found["WAR"]), (
            "Lightning scores the test part itself"
        )
        kept = torch.load(tmp_path / "run" / "checkpoints" / f"{which}.ckpt", weights_only=True)["state_dict"]
        for name, x in module.net.state_dict().items():  # stored in half precision
            torch.testing.assert_close(x, kept[f"net.{name}"], rtol=1e-3, atol=1e-4, msg=f"{which}: {name}")


@pytest.mark.slow(30)
def test_kill_9_and_resume(recipe: Path, tmp_path: Path) -> None:
    """``emozoo train``, killed without warning, goes on with --ckpt_path to the very weights of a run left alone."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command(recipe, "--trainer.default_root_dir", str(tmp_path / "whole")), env=env, check=True)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    process = subprocess.Popen(command(recipe, "--trainer.max_epochs", "6"), env=env)
    while not last.is_file():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "last").exists()
    subprocess.run(command(recipe, "--ckpt_path", str(last)), env=env, check=True)
    for which in ("last", "best"):
        one, other = (load_file(tmp_path / run / which / "model.safetensors") for run in ("whole", "run"))
        assert all(torch.equal(other[k], x) for k, x in one.items())


@pytest.mark.slow(15)
def test_a_recipe_on_two_processes(recipe: Path, tmp_path: Path) -> None:
    """The command itself under Lightning's launcher: best and last weights are written once, test is scored whole."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    more = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    done = subprocess.run(command(recipe, *more), env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    for which in ("last", "best"):
        config = yaml.safe_load((tmp_path / "run" / which / "config.json").read_text())
        assert config["processes"] == 2
        assert config["best_on_test"]["n"] == 4
        assert config["selected"].startswith(which)
