"""`emozoo predict` where something goes wrong: with one file, with the folder for results, with the account."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emozoo import bulk, cli, files, inference
from emozoo.commands import predict
from emozoo.inference import Prediction

ROOT = Path(__file__).resolve().parents[2]
TABLES = ["predictions.csv", "predictions.jsonl"]


@pytest.fixture
def run(monkeypatch, capsys):
    """``run(*arguments)``: exit code, lines of stdout and of stderr of the command in this process."""

    def call(*arguments: object) -> tuple[int, list[str], list[str]]:
        monkeypatch.setattr(sys, "argv", ["emozoo", "predict", *map(str, arguments)])
        code = cli.main()
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return call


@pytest.fixture
def asked(monkeypatch, tmp_path) -> list[str]:
    """Three files a, b, c in the test's folder; answered without a network, and noted here by name."""
    names: list[str] = []
    for name in "abc":
        Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")

    class Stub:
        settings = {"model": "stub"}

        def __init__(self, *_: object, **__: object) -> None: ...

        def predict(self, path: Path, progress: object = None) -> Prediction:
            names.append(path.name)
            if path.name == "b.png":
                raise KeyError("my_new_head")
            return Prediction(str(path), "m", "", None, ["x"], label="x", scores={"x": 1.0})

        def predict_all(self, paths, progress=None, on_error=None):
            for path in paths:
                try:
                    yield self.predict(path)
                except Exception as error:
                    yield on_error(path, error)

        def failed(self, path: Path, code: str, text: str) -> Prediction:
            return Prediction(str(path), "m", "", None, ["x"], error={"code": code, "text": text})

    monkeypatch.setattr(inference, "Predictor", Stub)
    return names


def test_a_bug_in_a_lightning_module_is_one_line_and_the_other_files_are_answered(run, asked, tmp_path):
    """Protects finished work from a bug of one's own network: one line, exit code 1, the rest of the files."""
    code, out, err = run(tmp_path, "--json", "--out", tmp_path / "out")
    assert (code, asked) == (1, ["a.png", "b.png", "c.png"])
    found = [json.loads(line) for line in out]
    assert [f["error"] is None for f in found] == [True, False, True]
    assert found[1]["error"] == {"code": "internal", "text": "KeyError: 'my_new_head' (--debug shows where)"}
    assert err == [f"error: {tmp_path / 'b.png'}: KeyError: 'my_new_head' (--debug shows where)"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.json", "b.json", "c.json", *TABLES]


def test_debug_shows_where_a_bug_in_a_lightning_module_is(run, asked, tmp_path):
    """Protects the search for a bug: with --debug its traceback is shown, and the exit code stays."""
    code, _, err = run(tmp_path, "--debug")
    assert code == 3
    assert err[0].startswith("Traceback")
    assert any(line.startswith("KeyError: ") and "my_new_head" in line for line in err)
    assert asked == ["a.png", "b.png"]


@pytest.mark.parametrize("kind", ["a file", "below a file", "full"])
def test_a_folder_that_takes_no_results_is_refused_first(run, asked, tmp_path, monkeypatch, kind):
    """Protects hours of work: whether results can be written is known before the first file is looked at."""
    (tmp_path / "file").touch()
    out = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "out", "full": tmp_path / "out"}[kind]
    if kind == "full":

        def full(**_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files.tempfile, "TemporaryFile", full)
    code, printed, err = run(tmp_path, "--out", out)
    assert (code, printed, asked) == (2 if kind == "a file" else 3, [], [])
    assert len(err) == 1
    assert str(out) in err[0]


def test_results_that_cannot_be_written_cost_one_file(run, asked, tmp_path, monkeypatch):
    """Protects the rest of a batch from a disk that fills up on the way."""
    write = predict.write_results

    def full(found: Prediction, *rest: object) -> list[Path]:
        if found.file.endswith("a.png"):
            raise OSError(28, "No space left on device")
        return write(found, *rest)

    monkeypatch.setattr(predict, "write_results", full)
    code, out, err = run(tmp_path / "a.png", tmp_path / "c.png", "--json", "--out", tmp_path / "out")
    assert (code, len(out)) == (1, 2)
    assert err == [f"error: {tmp_path / 'a.png'}: results were not written (No space left on device)"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        ".predict",
        "c.json",
        *TABLES,
    ]  # tried again next time


def test_damage_of_a_journal_is_said(run, asked, tmp_path, monkeypatch):
    """Protects a resumed job from silence: how many lines of its journals were damaged, and what that means."""
    arguments = (tmp_path / "a.png", tmp_path / "c.png", "--out", tmp_path / "out")
    with monkeypatch.context() as interrupted:
        interrupted.setattr(bulk.Job, "finish", lambda *_: False)
        assert run(*arguments)[0] == 1
    (journal,) = (tmp_path / "out").glob(".predict/*/00000.jsonl")
    journal.write_bytes(journal.read_bytes().replace(b'"label":"x"', b'"label":\0\0\0', 1))
    asked.clear()
    code, _, err = run(*arguments)
    assert (code, asked) == (0, ["a.png"])
    assert "note: left out of .predict: 1 damaged line(s); what they were about is predicted again" in err


def test_odd_names_keep_one_line_each(run, asked, tmp_path):
    """Protects scripts that read line by line: names with line breaks, colours, and bytes that are no text."""
    names = [b"two\nlines.png", b"\x1b[31mred.png", b"caf\xe9.png", b"n" * 250 + b".png"]
    paths = [os.fsdecode(os.path.join(os.fsencode(tmp_path), n)) for n in names]
    code, out, err = run(*paths, "--out", tmp_path / "out")
    assert (code, len(out)) == (0, 4)
    assert all(line.isprintable() for line in out)
    (note,) = err
    assert "the name is long; results are called nnn" in note
    assert len(list((tmp_path / "out").iterdir())) == 4 + len(TABLES)


@pytest.mark.parametrize("suffix", [".json", ".csv", ".png"])
def test_files_of_the_users_are_never_written_over(run, asked, tmp_path, suffix):
    """Protects what lies beside the media: only results of an earlier run are replaced."""
    mine = tmp_path / f"c{suffix}"
    mine.write_text("mine") if suffix != ".png" else None
    before = mine.read_bytes()
    for _ in range(2):
        code, _, err = run(tmp_path / "c.png", "--out", tmp_path, "--json", "--csv")
        assert code == 0, err
        assert mine.read_bytes() == before
    assert (tmp_path / f"c{'.emozoo' * (suffix == '.json')}.json").is_file()


@pytest.fixture
def for_all() -> Iterator[Path]:
    """A folder that every account may use, outside those of pytest, which are the tester's alone."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


def test_an_account_without_home_and_name(folder_of, media, for_all):
    """Protects containers and services: no HOME, no PATH, no entry in passwd, and everything is answered and drawn."""
    shutil.copytree(folder_of("ceflnet"), for_all / "weights")
    shutil.copy(media / "face.mp4", for_all)
    how: dict = {"env": {"PYTHONPATH": str(ROOT)}, "cwd": for_all}
    if os.getuid() == 0:  # only then can another account be had; it must be able to read the installation
        with suppress(OSError, subprocess.CalledProcessError):
            trial = [sys.executable, "-c", "import emozoo.cli"]
            subprocess.run(trial, capture_output=True, check=True, user=54321, **how)
            how["user"] = 54321
    arguments = ["face.mp4", "--model", "./weights", "--out", "out", "--json", "--plot", "--video"]
    done = subprocess.run(
        [sys.executable, "-m", "emozoo", "predict", *arguments], capture_output=True, text=True, **how
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["error"] is None
    assert {p.suffix for p in (for_all / "out").iterdir()} == {".json", ".png", ".mp4"}


@pytest.mark.parametrize("lost", ["scores", "va"])
def test_numbers_that_are_not_finite_are_the_error_of_their_file(run, folder_of, tmp_path, monkeypatch, lost):
    """Protects a job from a network that overflows on one file: that file has an error, the others are predicted."""
    outputs = inference.Predictor.outputs

    def overflow(self, tasks):
        found = outputs(self, tasks)
        for number, (task, windows) in enumerate(zip(tasks, found, strict=True)):
            if lost == "scores" and number == 1:
                windows[:] = [w._replace(scores=np.full_like(w.scores, np.nan)) for w in windows]
            elif lost == "va":
                value = np.inf if number == 1 else 0.5
                windows[:] = [w._replace(va=np.full((len(task.raw.times), 2), value)) for w in windows]
        return found

    monkeypatch.setattr(inference.Predictor, "outputs", overflow)
    for name in "abc":
        Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    code, out, err = run(tmp_path, "--model", folder_of("dfan"), "--json", "--out", tmp_path / "out")
    found = [json.loads(line) for line in out]
    assert (code, len(found)) == (1, 3)
    assert [(f["error"] or {"code": None})["code"] for f in found] == [None, "not_finite", None]
    assert (found[1]["label"], found[1]["scores"], found[1]["tracks"]) == (None, None, [])
    assert found[1]["error"]["text"] in err[0]
    assert len((tmp_path / "out" / TABLES[1]).read_text().splitlines()) == 3
