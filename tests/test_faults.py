"""Work that is interrupted: kills, full disks, folders that cannot be written, lost processes. The next run mends it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from faults import Ended, Warm, hidden
from hub_server import Hub, Repository
from soak_table import Tally

from emozoo import files, hub
from emozoo.module import EmotionModule

SEED = 22
# What a logger writes line by line; nobody reads it back.
LOGS = ("metrics.csv", "metrics_1.csv", "metrics_2.csv", "hparams.yaml")


@dataclass(frozen=True)
class Command:
    """A command that writes into ``out``; ``again``: more arguments where it goes on from a checkpoint."""

    argv: list[object]
    out: Path
    variables: dict[str, object] = field(default_factory=dict)
    again: Callable[[], list[object]] = list

    def run(self, warm: Warm, *, again: bool = False, **how: Any) -> Ended:
        """Runs it to its end, or to the end that ``how`` gives it."""
        return warm.run(*self.argv, *(self.again() if again else []), watch=self.out, **self.variables, **how)

    def start(self, warm: Warm, **how: Any) -> Any:
        return warm.start(*self.argv, watch=self.out, **self.variables, **how)

    def results(self) -> dict[str, str]:
        """What is there for users to see: a digest of each file, without what differs from run to run.

        Raises whatever a checkpoint raises that cannot be read.
        """
        names = {str(p.relative_to(self.out)): p for p in sorted(self.out.rglob("*")) if p.is_file()}
        return {n: _digest(p) for n, p in names.items() if not hidden(n) and p.name not in LOGS and _final(p)}


def _final(path: Path) -> bool:
    """Whether a file counts: in the cache of the hub's client those that it gives, not those that it keeps beside."""
    return "hub" not in path.parts or "snapshots" in path.parts


def _digest(path: Path) -> str:
    data = path.read_bytes()
    if path.name == "config.json":
        config = json.loads(data)
        data = json.dumps({k: v for k, v in config.items() if k not in ("train_seconds", "resumed")}).encode()
    if path.suffix == ".yaml":
        settings = yaml.safe_load(data)
        data = yaml.safe_dump(settings | {"ckpt_path": None}).encode()
    if path.suffix == ".ckpt":
        stored = torch.load(path, map_location="cpu", weights_only=True)
        parts = [(k, v.numpy().tobytes()) for k, v in stored["state_dict"].items()]
        data = repr((stored["epoch"], stored["global_step"], parts)).encode()
    return hashlib.sha256(data).hexdigest()


# -- the commands ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small images of two classes, a small network, and a folder for results that each test finds empty."""
    root = tmp_path_factory.mktemp("faults")
    rng = np.random.default_rng(0)
    for name, level in (("calm", 40), ("angry", 170)):
        (root / "images" / name).mkdir(parents=True)
        for i in range(6):
            image = rng.normal(level, 20, (48, 48, 3)).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(root / "images" / name / f"{i}.png"), image)
    for arch in ("dfan", "caer_net_s"):
        torch.manual_seed(0)
        EmotionModule(arch, size="lite").eval().save(root / arch)
    (root / "work").mkdir()
    (root / "tmp").mkdir()
    (root / "logs").mkdir()
    return root


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Hub]:
    with Hub() as server:
        yield server


@pytest.fixture(scope="module")
def warm(place: Path, endpoint: Hub) -> Iterator[Warm]:
    variables = {"HF_ENDPOINT": endpoint.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    one = Warm(place / "logs", **variables, HF_HOME=str(place / "hf"), TMPDIR=str(place / "tmp"))
    yield one
    one.close()


@pytest.fixture(scope="module")
def commands(place: Path, endpoint: Hub) -> dict[str, Command]:
    images, out = place / "images", place / "work" / "out"
    noise = np.random.default_rng(0).bytes(300_000)
    config = json.dumps({"sha256": files.sha256_of(noise)}).encode()
    repository = endpoint.repositories.setdefault("acme/mine", Repository())
    commit = repository.commit({hub.WEIGHTS: noise, hub.CONFIG: config, hub.CARD: b"---\nlicense: mit\n---\n"})
    fit: list[object] = ["--data", images, "--out", out, "--epochs", 2, "--batch-size", 4, "--device", "cpu"]
    last = out / "checkpoints" / "last.ckpt"
    return {
        "predict": Command(["predict", images, "--model", place / "dfan", "--out", out, "--json", "--csv"], out),
        "prepare": Command(
            ["prepare", "folder", "--root", images, "--out", out, "--spec", place / "dfan", "--workers", 1], out
        ),
        "finetune": Command(["finetune", place / "caer_net_s", *fit], out),
        "train": Command(
            ["train", "--config", recipe(place), "--trainer.default_root_dir", out],
            out,
            again=lambda: ["--ckpt_path", last] if last.is_file() else [],
        ),
        "download": Command(["download", f"hf://acme/mine@{commit}"], out, {"EMOZOO_HOME": out}),
    }


def recipe(place: Path) -> Path:
    """A small recipe as users write them: the best and the last epoch, and weights of both."""
    each = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    best = {"monitor": "val_WAR", "mode": "max", "filename": "best"}
    checkpoint = "lightning.pytorch.callbacks.ModelCheckpoint"
    settings = {
        "seed_everything": 1,
        "model": {"model": "caer_net_s", "size": "lite", "classes": ["angry", "calm"], "lr": 0.003},
        "data": {"dataset": "folder", "root": str(place / "images"), "val_share": 0.3, "batch_size": 4},
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "callbacks": [
                {"class_path": checkpoint, "init_args": {**best, **each}},
                {"class_path": checkpoint, "init_args": {"filename": "last", **each}},
                {"class_path": "emozoo.callbacks.SaveWeights", "init_args": {"recipe": "mine"}},
            ],
        },
    }
    (place / "recipe.yaml").write_text(yaml.safe_dump(settings))
    return place / "recipe.yaml"


@dataclass(frozen=True)
class Undisturbed:
    """What a command gives when nothing happens to it."""

    ended: Ended
    results: dict[str, str]
    sizes: list[int]


@pytest.fixture(scope="module")
def undisturbed(warm: Warm, commands: dict[str, Command]) -> Callable[[str], Undisturbed]:
    """``undisturbed(name)``, made once."""
    known: dict[str, Undisturbed] = {}

    def get(name: str) -> Undisturbed:
        if name not in known:
            command = commands[name]
            shutil.rmtree(command.out, ignore_errors=True)
            ended = command.run(warm)
            assert ended.code == 0, ended
            sizes = [p.stat().st_size for p in command.out.rglob("*") if p.is_file() and not p.is_symlink()]
            known[name] = Undisturbed(ended, command.results(), [n for n in sizes if n > 1])
        return known[name]

    return get


# -- killed ------------------------------------------------------------------------------------------------------------


def draw(case: int, name: str, whole: Undisturbed) -> dict[str, Any]:
    """A seeded end: a time in seconds (``after``), a moment of writing, or bytes of a file."""
    rng = random.Random(f"{SEED} {name} {case}")
    if case % 5 < 2:
        return {"moment": rng.randint(1, whole.ended.moments)}
    if case % 5 == 2:
        return {"bytes": max(1, int(rng.choice(whole.sizes) * rng.random()))}
    return {"after": whole.ended.seconds * rng.random()}


def killed(warm: Warm, command: Command, *, after: float | None = None, **how: Any) -> Ended:
    """Runs a command until it is killed, or to its end if it is quicker."""
    running = command.start(warm, **how)
    if after is not None:
        time.sleep(after)
        running.kill()
    return running.wait()


def lost(command: Command, whole: Undisturbed) -> str | None:
    """What is half and looks whole after a kill; None where all is well."""
    try:
        found = command.results()
    except Exception as error:
        return f"a checkpoint cannot be read: {error}"
    grown = [n for n, digest in found.items() if not n.endswith(".ckpt") and digest != whole.results.get(n)]
    return f"not as in a run that was not disturbed: {grown}" if grown else None


def survives(warm: Warm, command: Command, whole: Undisturbed, tally: Tally, **how: Any) -> str | None:
    """One case: kills, looks, runs again, compares. Returns what was wrong."""
    shutil.rmtree(command.out, ignore_errors=True)
    first = killed(warm, command, **how)
    wrong = lost(command, whole)
    second = command.run(warm, again=True)
    for ended in (first, second):
        tally.memory(ended.peak_mib)
    if first.hung or second.hung:
        tally.hung += 1
        return f"{how}: {first} {second}"
    if wrong is None and second.code:
        wrong = f"the next run ended so: {second}"
    if wrong is None and command.results() != whole.results:
        wrong = f"other results after the next run: {sorted(command.results().items() ^ whole.results.items())}"
    if wrong is None:
        tally.survived += 1
        return None
    tally.lost += 1
    return f"{how}, {first}: {wrong}"


COMMANDS = ["predict", "prepare", "finetune", "train", "download"]


@pytest.mark.parametrize("name", COMMANDS)
def test_killed(name: str, warm: Warm, commands: dict[str, Command], undisturbed: Callable[[str], Undisturbed]) -> None:
    """Protects from kill -9 at any moment: what is there is whole, the next run gives what one run gives, bit by bit."""
    whole, counts = undisturbed(name), Tally(name)
    wrong = [survives(warm, commands[name], whole, counts, **draw(i, name, whole)) for i in range(4)]
    assert not list(filter(None, wrong)), "\n".join(filter(None, wrong))
