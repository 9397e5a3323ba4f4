"""Work that is interrupted: kills, full disks, folders that cannot be written, lost processes; the next run goes on."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import pytest
import torch
import yaml
from faults import Ended, Running, Warm, hidden
from hub_server import Hub, Repository
from lightning.pytorch.utilities.exceptions import SIGTERMException
from soak_table import Tally

from emozoo import files, hub
from emozoo import train as training
from emozoo.callbacks import SaveWeights
from emozoo.checkpoints import WholeCheckpoints, interruptible
from emozoo.errors import EmozooError, Terminated, UsageError
from emozoo.module import EmotionModule

SEED = 22
KILLS = 100  # of a command, in the long run
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
        return self.start(warm, again=again, **how).wait()

    def start(self, warm: Warm, *, again: bool = False, **how: Any) -> Running:
        return warm.start(*self.argv, *(self.again() if again else []), **{"watch": self.out, **self.variables, **how})

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
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    (root / "logs").mkdir()
    return root


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Hub]:
    with Hub() as server:
        yield server


@pytest.fixture(scope="module")
def warm(root: Path, endpoint: Hub) -> Iterator[Warm]:
    """That of all tests, but at a hub on this machine, and with another disk for temporary files."""
    variables = {"HF_ENDPOINT": endpoint.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    other_disk = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    one = Warm(root / "logs", **variables, HF_HOME=str(root / "hf"), TMPDIR=other_disk)
    yield one
    one.close()
    shutil.rmtree(other_disk)


@pytest.fixture(scope="module")
def commands(root: Path, endpoint: Hub) -> dict[str, Command]:
    images, out = root / "images", root / "work" / "out"
    noise = np.random.default_rng(0).bytes(300_000)
    config = json.dumps({"sha256": files.sha256_of(noise)}).encode()
    repository = endpoint.repositories.setdefault("acme/mine", Repository())
    commit = repository.commit({hub.WEIGHTS: noise, hub.CONFIG: config, hub.CARD: b"---\nlicense: mit\n---\n"})
    fit: list[object] = ["--data", images, "--out", out, "--epochs", 2, "--batch-size", 4, "--device", "cpu"]
    last = out / "checkpoints" / "last.ckpt"
    return {
        "predict": Command(["predict", images, "--model", root / "dfan", "--out", out, "--json", "--csv"], out),
        "prepare": Command(
            ["prepare", "folder", "--root", images, "--out", out, "--spec", root / "dfan", "--workers", 1], out
        ),
        "finetune": Command(["finetune", root / "caer_net_s", *fit], out),
        "train": Command(
            ["train", "--config", recipe(root), "--trainer.default_root_dir", out],
            out,
            again=lambda: ["--ckpt_path", last] if last.is_file() else [],
        ),
        "download": Command(["download", f"hf://acme/mine@{commit}"], out, {"EMOZOO_HOME": out}),
    }


def recipe(root: Path) -> Path:
    """A small recipe as users write them: the best and the last epoch, and weights of both."""
    each = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    best = {"monitor": "val_WAR", "mode": "max", "filename": "best"}
    checkpoint = "lightning.pytorch.callbacks.ModelCheckpoint"
    settings = {
        "seed_everything": 1,
        "model": {"model": "caer_net_s", "size": "lite", "classes": ["angry", "calm"], "lr": 0.003},
        "data": {"dataset": "folder", "root": str(root / "images"), "val_share": 0.3, "batch_size": 4},
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
    (root / "recipe.yaml").write_text(yaml.safe_dump(settings))
    return root / "recipe.yaml"


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
    """A seeded end: a time in seconds (``after``), a moment of writing, or the `size` of a file in bytes."""
    rng = random.Random(f"{SEED} {name} {case}")
    if name == "checkpoints":  # while checkpoints and weights are written, and at no other time
        touched = whole.ended.touched
        writing = [i for i, n in enumerate(touched, 1) if n.startswith(("checkpoints/", "last/", "best/"))]
        return {"moment": rng.choice(writing)} if case % 2 else {"size": rng.randint(20_000, max(whole.sizes))}
    if case % 5 < 2:
        return {"moment": rng.randint(1, len(whole.ended.touched))}
    if case % 5 == 2:
        return {"size": max(1, int(rng.choice(whole.sizes) * rng.random()))}
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


# How many kills a command gets in the short run; a training is killed after its last epoch there.
SHORT = {"predict": 3, "prepare": 3, "finetune": 1, "download": 3}
COMMANDS = [*SHORT, "train"]


@pytest.mark.parametrize("name", SHORT)
def test_killed(name: str, warm: Warm, commands: dict[str, Command], undisturbed: Callable[[str], Undisturbed]) -> None:
    """Protects work from kill -9 at any moment: what is there is whole, and the next run ends as one that was left
    alone, bit by bit."""
    whole, counts = undisturbed(name), Tally(name)
    wrong = [survives(warm, commands[name], whole, counts, **draw(i, name, whole)) for i in range(SHORT[name])]
    assert not list(filter(None, wrong)), "\n".join(filter(None, wrong))


@pytest.mark.soak(240)
@pytest.mark.parametrize("name", [*COMMANDS, "checkpoints"])
def test_killed_a_hundred_times(
    name: str, warm: Warm, commands: dict[str, Command], undisturbed: Callable[[str], Undisturbed],
    tally: Callable[[str, int], Tally],
) -> None:  # fmt: skip
    """The same for a hundred moments of each command, and for a hundred while a training writes checkpoints."""
    command = "train" if name == "checkpoints" else name
    whole, counts = undisturbed(command), tally(f"killed: {name}", SEED)
    wrong = [survives(warm, commands[command], whole, counts, **draw(i, name, whole)) for i in range(KILLS)]
    assert counts.lost == counts.hung == 0, "\n".join(filter(None, wrong))


def test_killed_after_the_last_epoch(
    warm: Warm, commands: dict[str, Command], undisturbed: Callable[[str], Undisturbed]
) -> None:
    """Protects the weights of a training that was killed when only they were not written: going on writes them."""
    whole, train = undisturbed("train"), commands["train"]
    shutil.rmtree(train.out)
    assert train.run(warm, watch=train.out / "last", moment=1).code == -signal.SIGKILL
    assert not (train.out / "last" / hub.WEIGHTS).exists()
    ended = train.run(warm, again=True)
    assert ended.code == 0, ended
    assert train.results() == whole.results


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_tag_that_a_kill_left_incomplete_is_not_taken(
    written: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects a training with a tag: what a kill left of its weights, one or two files, does not stop the next run."""
    names: list[str] = []
    write_atomic = files.write_atomic

    def until_killed(path: Path, data: bytes) -> None:
        if len(names) == written:
            raise KeyboardInterrupt
        names.append(path.name)
        write_atomic(path, data)

    module = EmotionModule("caer_net_s", size="lite")
    for module_that_writes in (hub, files):
        monkeypatch.setattr(module_that_writes, "write_atomic", until_killed)
    with pytest.raises(KeyboardInterrupt):
        module.save(tmp_path / "caer_net_s.mine_v1")
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == written
    SaveWeights(str(tmp_path), tag="mine_v1").setup(L.Trainer(logger=False), module, "fit")


@pytest.mark.parametrize("name", ["predict", "prepare", "finetune", "train"])
def test_no_name_is_there_before_its_content(name: str, undisturbed: Callable[[str], Undisturbed]) -> None:
    """Protects from half files under their final names, whenever a kill comes: none is opened to be written, but logs.

    The folder for temporary files is on another disk here, as on many machines.
    """
    assert {Path(n).name for n in undisturbed(name).ended.opened} <= set(LOGS)


# -- disks and permissions ---------------------------------------------------------------------------------------------


@pytest.fixture
def mounted(root: Path) -> Iterator[Callable[..., None]]:
    """``mounted(*options)`` puts a small file system, or a view of the folder itself, over the folder of results."""
    work = root / "work"

    def mount(*options: str) -> None:
        done = subprocess.run(["mount", *options, str(work)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"only root may mount a file system: {done.stderr.strip()}")

    shutil.rmtree(work / "out", ignore_errors=True)
    yield mount
    while work.is_mount():
        subprocess.run(["umount", str(work)], check=True)


def refused(ended: Ended, *why: str) -> None:
    """Asserts that a command ended by itself, with one line for what it could not do, and no traceback."""
    assert not ended.hung
    assert ended.code in (1, 2, 3, 143), ended
    lines = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert lines, ended
    assert all(any(w in line for w in why) for line in lines), ended
    assert "Traceback" not in ended.err, ended


# Room for a part of what each command writes, in KiB.
ROOM = {"predict": 80, "prepare": 64, "finetune": 6000, "train": 6000, "download": 200}


@pytest.mark.parametrize(
    "name", ["predict", "prepare", "finetune", "download", pytest.param("train", marks=pytest.mark.soak(5))]
)
def test_full_disk(
    name: str, warm: Warm, commands: dict[str, Command], undisturbed: Callable[[str], Undisturbed],
    mounted: Callable[..., None],
) -> None:  # fmt: skip
    """Protects work on a disk that becomes full: it is said, nothing is half, and with room the command goes on."""
    whole, command = undisturbed(name), commands[name]
    mounted("-t", "tmpfs", "-o", f"size={ROOM[name]}k", "none")
    ended = command.run(warm)
    refused(ended, "No space left on device")
    assert lost(command, whole) is None
    mounted("-o", "remount,size=64m")
    ended = command.run(warm, again=True)
    assert ended.code == 0, ended
    assert command.results() == whole.results


@pytest.mark.parametrize("name", COMMANDS)
def test_read_only(name: str, warm: Warm, commands: dict[str, Command], mounted: Callable[..., None]) -> None:
    """Protects from hours of work for a folder that cannot be written: it is said in one line."""
    command = commands[name]
    mounted("-t", "tmpfs", "-o", "ro", "none")
    refused(command.run(warm), "Read-only file system")


@pytest.mark.parametrize("name", COMMANDS)
def test_permission_denied(name: str, warm: Warm, commands: dict[str, Command], root: Path) -> None:
    """The same for a folder that belongs to somebody else; the command runs without root's right to write anywhere."""
    command = commands[name]
    shutil.rmtree(command.out, ignore_errors=True)
    (root / "work").chmod(0o500)
    try:
        refused(command.run(warm, permitted=False), "Permission denied")
    finally:
        (root / "work").chmod(0o700)


# -- processes ---------------------------------------------------------------------------------------------------------


def until(condition: Callable[[], Any], running: Running) -> Any:
    """Waits for something to happen while a command runs; what it was."""
    while not (found := condition()):
        assert running.alive(), running.wait()
        time.sleep(0.01)
    return found


def test_a_dead_worker(warm: Warm, commands: dict[str, Command]) -> None:
    """Protects from a run that waits forever for a process that the system has ended: one line that says so."""
    train = commands["train"]
    shutil.rmtree(train.out, ignore_errors=True)
    running = warm.start(*train.argv, "--data.num_workers", 1, "--trainer.max_epochs", 1000)
    until((train.out / "checkpoints" / "last.ckpt").is_file, running)
    os.kill(running.workers()[0], signal.SIGKILL)
    ended = running.wait(30)
    refused(ended, "a process that reads data was ended")
    assert ended.code == 3


def first_epoch(whole: Undisturbed) -> int:
    """The moment at which the checkpoint of the first epoch gets its name."""
    touched = [Path(n).name for n in whole.ended.touched]
    return touched.index("last.ckpt", touched.index(".saving")) + 1


@pytest.mark.parametrize("name", ["predict", "train", pytest.param("finetune", marks=pytest.mark.soak(5))])
def test_ended_by_a_scheduler(
    name: str, warm: Warm, commands: dict[str, Command], undisturbed: Callable[[str], Undisturbed]
) -> None:
    """Protects work whose time is over: SIGTERM is no success and costs at most an epoch or a file; what was done is
    gone on with, to the same results."""
    whole, command = undisturbed(name), commands[name]
    shutil.rmtree(command.out, ignore_errors=True)
    # When the first epoch is stored, and half of the files.
    moment = len(whole.ended.touched) // 2 if name == "predict" else first_epoch(whole)
    ended = command.run(warm, moment=moment, sent=signal.SIGTERM)
    assert ended.code == (-signal.SIGTERM if name == "predict" else 143), ended
    if name != "predict":
        refused(ended, "ended by SIGTERM before it was done: run")
    assert lost(command, whole) is None
    again = command.run(warm, again=True)
    assert again.code == 0, again
    assert command.results() == whole.results
    if name == "predict":
        assert "were predicted before; going on with the rest" in again.err


@pytest.mark.parametrize("name", ["train", pytest.param("finetune", marks=pytest.mark.soak(5))])
def test_ctrl_c(name: str, warm: Warm, commands: dict[str, Command], undisturbed: Callable[[str], Undisturbed]) -> None:
    """Protects a training from Ctrl-C: no success and no traceback, and the next run goes on to the same results."""
    whole, command = undisturbed(name), commands[name]
    shutil.rmtree(command.out, ignore_errors=True)
    ended = command.run(warm, moment=first_epoch(whole), sent=signal.SIGINT)
    assert ended.code == 130, ended
    assert ended.err.splitlines()[-1] == "interrupted", ended
    assert "Traceback" not in ended.err, ended
    assert lost(command, whole) is None
    assert command.run(warm, again=True).code == 0
    assert command.results() == whole.results


def test_two_trainings_in_one_folder(tmp_path: Path) -> None:
    """Protects checkpoints from a second training in the same folder: it is refused, and may write after the first."""
    first, second, path = WholeCheckpoints(), WholeCheckpoints(), tmp_path / "last.ckpt"
    for step in (1, 2):
        first.save_checkpoint({"step": step}, path)
    with pytest.raises(UsageError, match="another training is at work"):
        second.save_checkpoint({"step": 0}, path)
    assert torch.load(path) == {"step": 2}
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    worker.start()  # a process that reads data may outlive its training
    time.sleep(0.2)
    try:
        first.teardown()
        second.save_checkpoint({"step": 3}, path)
    finally:
        worker.kill()
    assert torch.load(path) == {"step": 3}


def test_a_checkpoint_below_a_file(tmp_path: Path) -> None:
    """Protects the line that says which checkpoint was not written, where a file is in the way of its folder."""
    (tmp_path / "file").touch()
    with pytest.raises(EmozooError, match=r"last\.ckpt: this checkpoint was not written"):
        WholeCheckpoints().save_checkpoint({}, tmp_path / "file" / "last.ckpt")


@pytest.mark.parametrize(
    ("text", "of_a_lost_process"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed.", True),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", True),
        ("Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback: sizes do not match", False),
    ],
)
def test_an_error_in_a_worker_is_not_taken_for_a_lost_worker(text: str, of_a_lost_process: bool) -> None:
    """Protects the search for a fault: the reason of an error that a worker passes on is not hidden."""
    with pytest.raises(EmozooError if of_a_lost_process else RuntimeError) as e, interruptible("run it again"):
        raise RuntimeError(text)
    assert ("no memory left" in str(e.value)) == of_a_lost_process


@pytest.mark.parametrize(
    ("words", "goes_on"), [(["--config", "mine.yaml"], True), (["test"], False), (["validate"], False)]
)
def test_what_to_do_after_sigterm(words: list[str], goes_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from advice that does not help: a test goes on from no checkpoint."""

    def end(*_: object, **__: object) -> None:
        raise SIGTERMException

    monkeypatch.setattr(training, "EmozooCLI", end)
    with pytest.raises(Terminated, match="run it again") as e:
        training.train(words)
    assert ("--ckpt_path" in str(e.value)) == goes_on


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.parametrize("dead", [1, pytest.param(0, marks=pytest.mark.soak(20))])
def test_a_lost_rank(dead: int, warm: Warm, commands: dict[str, Command]) -> None:
    """Protects a training on several processes of which one is gone: the other ends soon, and says so."""
    train = commands["train"]
    shutil.rmtree(train.out, ignore_errors=True)
    more = ("--trainer.devices", 2, "--trainer.strategy", "ddp", "--trainer.max_epochs", 1000)
    launcher = {  # as torchrun sets it
        "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(),
        "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "none",
    }  # fmt: skip
    both = [warm.start(*train.argv, *more, **launcher, RANK=rank, LOCAL_RANK=rank) for rank in (0, 1)]
    try:
        until((train.out / "checkpoints" / "last.ckpt").is_file, both[0])
        both[dead].kill()
        ended = both[1 - dead].wait(60)
    finally:
        both[0].kill()
        both[1].kill()
    refused(ended, "another process of this training has ended")
