"""docs/extend.md: what it says to write is enough, as it stands there."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_networks
from page_code import ROOT, blocks, environment, run

from emozoo import registry
from emozoo.data import datasets
from emozoo.data.doctor import check
from emozoo.errors import DatasetError, UsageError

PAGE = ROOT / "docs" / "extend.md"
Run = Callable[[str], dict[str, Any]]


@pytest.fixture
def run_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Writes the files of a section into an empty working directory and runs the rest; the names that it defines.

    What the section registers is known until the test ends.
    """
    tables = [(table, dict(table)) for table in (registry.MODELS, datasets.DATASETS)]
    modules = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def follow_section(section: str) -> dict[str, Any]:
        names: dict[str, Any] = {}
        for block in blocks(PAGE, section):
            run(block, tmp_path, names)
        return names

    yield follow_section
    for table, before in tables:
        table.clear()
        table.update(before)
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def images(tmp_path: Path, make_images: Callable[[int], Path]) -> Path:
    """Two class folders of images in the working directory of a section."""
    return Path(shutil.copytree(make_images(8), tmp_path / "images"))


def test_add_a_paper(run_section: Run, images: Path) -> None:
    """Protects newcomers: the page's paper trains by its recipe, loads, predicts, and keeps what networks promise."""
    names = run_section("Add a paper")
    model, prediction = names["model"], names["prediction"]
    assert (model.arch, model.classes) == ("frame_gate", ("angry", "calm"))
    assert prediction.label in model.classes
    assert sum(prediction.scores.values()) == pytest.approx(1)
    test_networks.test_parameter_counts("frame_gate", "stable")
    for check_arch in (
        test_networks.test_class_count_is_checked,
        test_networks.test_training_copes_with_missing_streams,
        test_networks.test_evaluation_is_deterministic_and_independent_of_the_batch,
        test_networks.test_bfloat16_stays_close,
    ):
        check_arch("frame_gate")
    for options in ({}, registry.model("frame_gate").control):
        for check_variant in (
            test_networks.test_output,
            test_networks.test_parts_that_encode,
            test_networks.test_stills_may_be_encoded_once,
            test_networks.test_every_parameter_learns,
            test_networks.test_masked_content_changes_nothing,
            test_networks.test_padding_changes_nothing,
            test_networks.test_training_does_not_see_masked_frames,
        ):
            check_variant("frame_gate", "stable", options)


def test_a_paper_touches_four_places() -> None:
    """Protects the page's promise: a network, its entry, a recipe and a page; nothing else is written."""
    files = [block.name for block in blocks(PAGE, "Add a paper") if block.name]
    assert files == ["frame_gate.py", "my_zoo.py", "frame_gate__folder.yaml", "docs/papers/frame_gate.md"]


def test_add_a_data_set(run_section: Run, images: Path, tmp_path: Path) -> None:
    """Protects newcomers: the page's data set trains a network, by person, and the data doctor reads it."""
    root = tmp_path / "photographs"
    root.mkdir()
    for path in sorted(images.glob("*/*.png")):
        person = "ada" if int(path.stem) % 2 else "ben"
        shutil.copy(path, root / f"{person}_{path.parent.name}_{path.stem}.png")
    names = run_section("Add a data set")
    data = names["data"]
    assert {r.group for r in data.test_rows} == {"ada"}
    assert {r.group for r in data.train_rows} == {"ben"}
    assert 0 <= names["scores"]["test_WAR"] <= 1
    assert datasets.load("portraits", root).protocol == "portraits_2fold"
    assert check("portraits", root, workers=0).items == len(data.test_rows) + len(data.train_rows)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no photographs"):
        datasets.load("portraits", tmp_path / "empty")
    with pytest.raises(DatasetError, match="<person>_<emotion>_<number>"):
        datasets.load("portraits", tmp_path / "nowhere")


def test_pages_have_the_equations_of_the_code() -> None:
    """Protects paper pages: the docstring that each includes is there, with a legend in front of its equations."""
    for page in sorted((PAGE.parent / "papers").glob("*.md")):
        (file,) = re.findall(r"^```\{literalinclude\} (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        docstring = ast.get_docstring(ast.parse((page.parent / file).read_text(encoding="utf-8")))
        assert docstring is not None
        assert "\nLegend: " in docstring, file


def test_names_of_data_sets_are_unique() -> None:
    """Protects the data sets of the zoo from being replaced, and names from the colon that protocols stand behind."""
    for name in ("ravdess", "portraits:first", ""):
        with pytest.raises(UsageError, match="cannot be registered"):
            datasets.register(name, lambda root, name: datasets.load("folder", root))


def follow(section: str, folder: Path, after: str = "") -> str:
    """Does what a section of the page says, in that folder, in a process of its own; returns what it printed.

    ``after`` is Python code that is run behind the page's.
    """
    program = ""
    for block in blocks(PAGE, section):
        if block.name is None and block.language == "python":
            program += block.text
        else:
            run(block, folder, {})
    (folder / "program.py").write_text(program + after, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, env=environment(folder)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


POSE_CHECKS = """
import os
from pathlib import Path

import torch
from emozoo.callbacks import FeatureCache
from emozoo.data.clips import ClipReader, to_batch
from emozoo.data.transforms import Augment
from emozoo.errors import VideoError
from emozoo.batch import mirrored

with ClipReader("clips/calm/0.mp4", model.spec) as reader:
    raw = reader.read()
late = raw.frames["pose"] >= 30
assert late.any() and not late.all()
assert (raw.masks["pose"] == ~late).all() and not raw.streams["pose"][late].any()
batch = to_batch([raw], model.spec)
assert batch.inputs["pose"].dtype == torch.float32 and batch.inputs["pose"].shape == (1, 3, 4, 5, 2)
noise = Augment(light=0.5, blur=1.0, noise=1.0, erase=1.0, gain=9.0, hiss=3.0, time_mask=0.5, mel_mask=0.5)
assert torch.equal(to_batch([raw], model.spec, augment=noise, seeds=[1]).inputs["pose"], batch.inputs["pose"])
flipped = to_batch([raw], model.spec, augment=Augment(flip=1.0), seeds=[1]).inputs["pose"]
assert not torch.equal(flipped, batch.inputs["pose"])
assert torch.equal(flipped, mirrored(batch.inputs, model.spec)["pose"])
with ClipReader("bare.mp4", model.spec) as reader:
    try:
        reader.read()
    except VideoError as error:
        print("bare:", error)


def cached():
    frozen = EmotionModule("pose_mean", lr_scale={"encoder": 0.0})
    frozen.load_state_dict(model.state_dict())
    clips = emozoo.EmotionDataModule("folder", "clips", spec=model.spec, classes=["calm", "excited"])
    trainer = L.Trainer(max_steps=1, logger=False, enable_checkpointing=False, callbacks=[FeatureCache(draws=1)])
    trainer.fit(frozen, datamodule=clips)
    return len(list(Path("home/features").iterdir()))


assert (cached(), cached()) == (1, 1)
for table in Path("clips").rglob("*.csv"):
    table.write_text(table.read_text().replace("0.04,", "0.05,"))
    os.utime(table, (1, 1))
assert cached() == 2, "poses have changed, so their features are others"
"""


def test_a_stream(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    """Protects the three places of a new stream: it is read, trained on and predicted from; what is missing is masked;
    what images and audio are augmented with leaves it alone."""
    rng = np.random.default_rng(0)
    for label in ("calm", "excited"):
        (tmp_path / "clips" / label).mkdir(parents=True)
        for i in range(4):
            make_video(tmp_path / "clips" / label / f"{i}.mp4", frames=50)
            lines = [f"{t / 25:.2f}," + ",".join(f"{v:.3f}" for v in rng.normal(size=10)) for t in range(30)]
            lines += [f"{30 / 25:.2f}," + ",".join([""] * 10)]
            text = "\n".join(["seconds" + ",x,y" * 5, *lines]) + "\n"
            (tmp_path / "clips" / label / f"{i}.pose.csv").write_text(text)
    make_video(tmp_path / "bare.mp4")
    printed = follow("Add a stream", tmp_path, POSE_CHECKS)
    assert "calm" in printed
    assert "bare: " in printed
    assert (tmp_path / "weights" / "config.json").is_file()
    assert '"source": "pose"' in (tmp_path / "weights" / "config.json").read_text()
