"""Fine-tuning on data as people have them: files that cannot be read, mended data, odd splits, devices."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from emozoo import finetune as finetuning
from emozoo.cli import app
from emozoo.errors import DatasetError, Terminated, UsageError
from emozoo.finetune import finetune
from emozoo.module import EmotionModule
from emozoo.zoo import load


class Here:
    """A pool of processes that is none: starting them takes longer than decoding a few small images."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, do: Callable[[Any], Any], jobs: Any, chunksize: int = 1) -> Any:
        return map(do, jobs)


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emozoo.data.loading.ProcessPoolExecutor", Here, raising=False)


@pytest.fixture(scope="module")
def images(make_images: Callable[[int], Path]) -> Path:
    return make_images(5)


@pytest.fixture
def data(images: Path, tmp_path: Path) -> Path:
    """Five images a class; a table deals 0 to 2 into training and 3, 4 into a held-out part."""
    folder = shutil.copytree(images, tmp_path / "data")
    rows = [f"{c}/{i}.png,{c},{'train' if i < 3 else 'holdout'}" for c in ("angry", "calm") for i in range(5)]
    (folder / "own.csv").write_text("\n".join(["path,label,split", *rows, ""]))
    return folder


def fit(data: Path, out: Path, **options: Any) -> dict[str, Any]:
    return finetune("emotion_fan", data, out, **{"epochs": 1, "device": "cpu", **options})


def spoil(data: Path, *names: str) -> None:
    for name in names:
        (data / name).write_bytes(b"no image")


@pytest.mark.parametrize(
    ("broken", "n"),
    [
        (["calm/3.png"], (6, 3)),
        (["angry/0.png"], (5, 4)),
        (["angry/1.png", "calm/1.png", "calm/4.png"], (4, 3)),
        (["angry/3.png", "angry/4.png", "calm/3.png", "calm/4.png"], (6, 0)),
    ],
)
def test_unreadable_files_are_left_out_and_named(
    data: Path, tmp_path: Path, broken: list[str], n: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    """Protects the model from one broken file in training, in the held-out part, or all of that: nothing is lost."""
    spoil(data, *broken)
    with caplog.at_level(logging.WARNING):
        found = fit(data / "own.csv", tmp_path / "own")
    assert (found["n_train"], found["n_val"]) == n
    assert len(found["unreadable"]) == len(broken)
    for name in broken:
        assert any(name in text for text in found["unreadable"])
        assert name in caplog.text
    assert (found["val_WAR"] is None) == (n[1] == 0)
    assert load(tmp_path / "own").classes == ("angry", "calm")


def test_all_files_of_a_class_unreadable(data: Path, tmp_path: Path) -> None:
    """Protects from a class that nothing was seen of: said before the training, with the first reason."""
    spoil(data, *(f"calm/{i}.png" for i in range(3)))
    with pytest.raises(DatasetError, match=r"class calm.*calm.0\.png") as e:
        fit(data / "own.csv", tmp_path / "own")
    assert "\n" not in str(e.value)
    assert not (tmp_path / "own" / "last.ckpt").exists()


def test_class_folders_with_a_broken_file(data: Path, tmp_path: Path) -> None:
    """Protects the same for class folders, on whatever side the file falls; a copy of good data gives no finding."""
    (data / "own.csv").unlink()
    assert fit(data, tmp_path / "good")["unreadable"] == []
    spoil(data, "calm/2.png")
    for seed in (0, 1):
        found = fit(data, tmp_path / f"own{seed}", seed=seed)
        assert len(found["unreadable"]) == 1
        assert found["n_train"] + found["n_val"] == 9
        assert (tmp_path / f"own{seed}" / "model.safetensors").is_file()


@pytest.mark.parametrize("mend", ["mended", "removed"])
def test_data_mended_since_the_last_run(
    data: Path, images: Path, tmp_path: Path, mend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Protects the way on after a broken file was mended or removed: said, and the old model stands until the new is
    written. With the data as they were the run goes on."""
    (data / "own.csv").unlink()
    spoil(data, "calm/2.png")
    out = tmp_path / "own"
    fit(data, out)
    with caplog.at_level(logging.WARNING):
        fit(data, out, epochs=2)
        assert "begins anew" not in caplog.text
        assert json.loads((out / "config.json").read_text())["steps"] == 2
        if mend == "mended":
            shutil.copy(images / "calm/2.png", data / "calm/2.png")
        else:
            (data / "calm/2.png").unlink()
        found = fit(data, out, epochs=1)
    assert "begins anew" in caplog.text
    assert "calm/2" in caplog.text
    assert found["unreadable"] == []
    assert json.loads((out / "config.json").read_text())["steps"] == 1
    shutil.copy(images / "calm/1.png", data / "calm/more.png")
    with pytest.raises(UsageError, match="--no-resume"):
        fit(data, out)
    assert load(out).classes == ("angry", "calm")


def test_other_images_and_other_votes_are_other_data(data: Path, images: Path, tmp_path: Path) -> None:
    """Protects from the old model under a new report: images that changed under their names, and votes that did."""
    table, out = data / "own.csv", tmp_path / "own"
    lines = table.read_text().splitlines()
    votes = [f"{line},{'votes_angry,votes_calm' if i == 0 else '9,1' if 'angry' in line else '1,9'}"
             for i, line in enumerate(lines)]  # fmt: skip
    table.write_text("\n".join(votes) + "\n")
    fit(table, out)
    shutil.copytree(images, data, dirs_exist_ok=True, copy_function=shutil.copy)  # other times, the same content
    fit(table, out)
    shutil.copy(images / "angry/1.png", data / "angry/0.png")
    with pytest.raises(UsageError, match="other weights, data or settings"):
        fit(table, out)
    shutil.copy(images / "angry/0.png", data / "angry/0.png")
    table.write_text("\n".join([votes[0], votes[1].replace("9,1", "6,4"), *votes[2:]]) + "\n")
    with pytest.raises(UsageError, match="other weights, data or settings"):
        fit(table, out)


def test_a_checkpoint_cut_off_by_a_kill(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Protects from a checkpoint that was being written: said, and training begins anew."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "last.ckpt").write_bytes(b"PK\x03\x04 cut off")
    with caplog.at_level(logging.WARNING):
        fit(data / "own.csv", tmp_path / "own")
    assert "begins anew" in caplog.text


def test_another_division_of_the_data_is_another_run(data: Path, tmp_path: Path) -> None:
    """Protects the score: with a column ``group``, as the report advises, other items are held out than the ones that
    the checkpoint has not learned from."""
    names = [f"{c}/{i}.png,{c}" for c in ("angry", "calm") for i in range(5)]
    table = data / "own.csv"
    table.write_text("\n".join(["path,label", *names, ""]))
    fit(table, tmp_path / "own")
    for column, value in (("group", "person"), ("end", "1"), ("x1,y1,x2,y2", "1,1,9,9")):
        rows = [f"{name},{value}{i if column == 'group' else ''}" for i, name in enumerate(names)]
        table.write_text("\n".join([f"path,label,{column}", *rows, ""]))
        with pytest.raises(UsageError, match="other weights, data or settings"):
            fit(table, tmp_path / "own")
    table.write_text("\n".join(["path,label", *names, ""]))
    with pytest.raises(UsageError, match="other weights, data or settings"):
        fit(table, tmp_path / "own", lr=0.1)


@pytest.mark.parametrize("options", [{"epochs": 0}, {"epochs": -1}, {"batch_size": 1}, {"batch_size": 0}])
def test_numbers_that_cannot_be_trained_with(options: dict[str, int], tmp_path: Path) -> None:
    """Protects from a run with other numbers than were asked for: refused before data are read."""
    with pytest.raises(UsageError, match=r"is -?\d: give \d or more"):
        fit(tmp_path / "nothing", tmp_path / "own", **options)


def test_fewer_epochs_than_are_done(data: Path, tmp_path: Path) -> None:
    """Protects from a report that says fewer epochs than the model has learned."""
    fit(data / "own.csv", tmp_path / "own", epochs=3)
    for fewer in (1, 2):
        with pytest.raises(UsageError, match=f"3 epochs, more than {fewer}: give --epochs 3 or more"):
            fit(data / "own.csv", tmp_path / "own", epochs=fewer)
    assert fit(data / "own.csv", tmp_path / "own", epochs=3)["n_train"] == 6


def test_a_new_start_does_not_go_on_from_the_old_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects --no-resume: where it is ended in its first epoch, the next run does not go on from the run before, and
    the line says to leave the option out."""

    def end(self: EmotionModule) -> None:
        raise SIGTERMException

    out = tmp_path / "own"
    fit(data / "own.csv", out)
    with monkeypatch.context() as patched:
        patched.setattr(EmotionModule, "on_train_start", end)
        with pytest.raises(Terminated, match="run the same command again without --no-resume"):
            fit(data / "own.csv", out, resume=False)
    assert not (out / "last.ckpt").exists()
    assert load(out).classes == ("angry", "calm")


@pytest.mark.parametrize(
    ("sent", "error"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)], ids=["SIGTERM", "Ctrl-C"]
)
def test_ended_while_it_scores(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals, error: type[BaseException]
) -> None:
    """Protects schedulers and scripts: what ends a run after its last epoch is no success either, and the next run
    only scores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning ignores the next ones
    try:
        with monkeypatch.context() as patched:
            patched.setattr(EmotionModule, "on_predict_start", lambda self: os.kill(os.getpid(), sent))
            with pytest.raises(error):
                fit(data / "own.csv", tmp_path / "own")
    finally:
        signal.signal(signal.SIGINT, before)
    assert not (tmp_path / "own" / "report.html").exists()
    assert fit(data / "own.csv", tmp_path / "own")["n_val"] == 4


def test_what_was_read_otherwise_is_said(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Protects from labels and spellings that are changed without a word; unlabelled rows are not counted."""
    lines = (
        (data / "own.csv").read_text().replace("calm/0.png,calm", "calm/0.png,Calm").replace("3.png,calm", "3.png,nan")
    )
    (data / "own.csv").write_text(lines)
    with caplog.at_level(logging.WARNING):
        found = fit(data / "own.csv", tmp_path / "own")
    assert (found["classes"], found["n_train"], found["n_val"]) == (["angry", "calm"], 6, 3)
    assert "'Calm'" in caplog.text
    assert "1 of 10 rows have no label" in caplog.text


@pytest.mark.parametrize("name", ["README.md", "config.json", "model.safetensors"])
def test_files_of_somebody_else_are_not_replaced(data: Path, tmp_path: Path, name: str) -> None:
    """Protects a repository that is given as the output folder: its own files stay, said before training."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / name).write_text('{"mine": 1}')
    with pytest.raises(UsageError, match=f"{name} does not belong to weights of this zoo"):
        fit(data / "own.csv", tmp_path / "own")
    with pytest.raises(UsageError, match=f"{name} does not belong to weights of this zoo"):
        EmotionModule("ceflnet", size="lite", options={"backbone": "vgg_tiny"}).save(tmp_path / "own")
    assert (tmp_path / "own" / name).read_text() == '{"mine": 1}'


@pytest.mark.filterwarnings("ignore")  # they quote the names, which the processes of these tests cannot send each other
def test_names_that_are_no_text(data: Path, tmp_path: Path) -> None:
    """Protects a training from bytes in the names of its data and its weights that are no text: what it made loads."""
    start, own = (tmp_path / os.fsdecode(name) for name in (b"w\xe9\x1b[31m", b"d\xe9"))
    try:
        load("emotion_fan").save(start)
        data.rename(own)
    except OSError:
        pytest.skip("this file system takes no such names")
    finetune(str(start), own / "own.csv", tmp_path / "out", epochs=1, device="cpu")
    assert load(tmp_path / "out").classes == ("angry", "calm")
    assert "\x1b" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("stored", [[1, 2], {"callbacks": 3, "epoch": 1}, {"callbacks": {}, "epoch": "x"}, "text"])
def test_a_checkpoint_of_another_program_is_named(
    tmp_path: Path, stored: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Protects from a traceback where something else lies under the name of our checkpoint."""
    torch.save(stored, tmp_path / "last.ckpt")
    assert finetuning._FitOrigin.of(tmp_path / "last.ckpt") is None
    assert "last.ckpt cannot be read" in caplog.text


def test_many_classes_are_compared_at_once() -> None:
    """Protects data with a class for each item: names are not compared two by two."""
    start = time.monotonic()
    found = list(finetuning._same_classes([*(f"class {i}" for i in range(20_000)), "Angry", "anger"]))
    assert [f.item for f in found] == ["Angry, anger"]
    assert time.monotonic() - start < 5


def test_unknown_split_is_refused(data: Path, tmp_path: Path) -> None:
    """Protects held-out rows under a word that nobody understands from being trained on."""
    (data / "own.csv").write_text((data / "own.csv").read_text().replace("holdout", "my part"))
    with pytest.raises(DatasetError, match="'my part'"):
        fit(data / "own.csv", tmp_path / "own")


def test_a_folder_with_a_table_is_read_by_it(data: Path, tmp_path: Path) -> None:
    """Protects the split of a table that lies in the folder, which ``emozoo check`` reads as well."""
    (data / "own.csv").rename(data / "manifest.csv")
    found = fit(data, tmp_path / "own")
    assert (found["n_train"], found["n_val"]) == (6, 4)


@pytest.mark.parametrize(
    ("device", "wanted"),
    [
        ("auto", ("auto", 1)), ("cpu", ("cpu", 1)), ("CPU", ("cpu", 1)), ("cuda", ("gpu", 1)),
        ("cuda:0", ("gpu", [0])), ("cuda:1", ("gpu", [1])), ("mps", ("mps", 1)),
    ],
)  # fmt: skip
def test_devices(device: str, wanted: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the choice of one device of several: cuda:1 is the second, never just any."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert finetuning._on(device) == wanted


@pytest.mark.parametrize("device", ["gpu0", "cuda:2", "cuda:-1", "cuda:x", "tpu", "", "cpu:1", "mps:1", "cuda,cpu"])
def test_devices_that_are_not_there(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from training for hours on another device than was asked for: refused by name before data are read."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match=f"'{device}'"):
        finetune("emotion_fan", tmp_path / "nothing", tmp_path / "own", device=device)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_devices_of_other_machines(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from going on with the processor where a GPU was asked for and none is there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match=f"'{device}'.*cpu"):
        finetune("emotion_fan", tmp_path / "nothing", tmp_path / "own", device=device)


def test_the_device_reaches_the_trainer(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the way from the option to Lightning."""
    seen: dict[str, Any] = {}

    class Stop(Exception): ...

    def trainer(**options: Any) -> None:
        seen.update(options)
        raise Stop

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(finetuning, "L", SimpleNamespace(Trainer=trainer, seed_everything=finetuning.L.seed_everything))
    with pytest.raises(Stop):
        finetune("emotion_fan", data / "own.csv", tmp_path / "own", device="cuda:1")
    assert (seen["accelerator"], seen["devices"]) == ("gpu", [1])


@pytest.mark.parametrize(("unreadable", "code"), [([], 0), (["calm/1.png: cut off"], 1)])
def test_exit_code(
    unreadable: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Protects the contract: 1 = done, but some item failed; the JSON names them."""
    said = {
        "folder": "own", "classes": ["a", "b"], "n_train": 3, "n_val": 0, "val_WAR": None, "val_UAR": None,
        "unreadable": unreadable, "report": "own/report.html", "warnings": [],
    }  # fmt: skip
    monkeypatch.setattr(finetuning, "finetune", lambda *a, **k: said)
    words = ["finetune", "ceflnet", "--data", "x", "--out", "own"]
    assert int(app([*words, "--json"], standalone_mode=False) or 0) == code
    assert json.loads(capsys.readouterr().out)["unreadable"] == unreadable
    assert int(app(words, standalone_mode=False) or 0) == code
    assert ("1 item could not be read" in capsys.readouterr().out) == bool(code)
