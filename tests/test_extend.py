"""docs/extend.md: what it says to write is enough, as it stands there."""

from __future__ import annotations

import ast
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import test_networks

from emozoo import registry
from emozoo.data import datasets
from emozoo.data.doctor import check
from emozoo.errors import DatasetError, UsageError

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extend.md"
BLOCK = re.compile(r"^(`{3,})(\w+)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
Run = Callable[[str], dict[str, Any]]


def blocks(section: str) -> list[tuple[str, str | None, str]]:
    """The code of a section of the page: language, name of the file in the first line (None: to be run), text."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(f"\n## {section}\n")
    found = []
    for _, language, text in BLOCK.findall(rest.partition("\n## ")[0]):
        name = re.match(r"# ([\w./]+\.\w+)\n", text)
        found.append((language, name and name[1], text))
    assert found, f"docs/extend.md has no code in a section '{section}'"
    return found


@pytest.fixture
def run_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Writes the files of a section into an empty working directory and runs the rest; the names that it defines.

    What the section registers is known until the test ends.
    """
    tables = [(table, dict(table)) for table in (registry.MODELS, datasets.DATASETS)]
    modules = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def run(section: str) -> dict[str, Any]:
        code = []
        for language, name, text in blocks(section):
            if name is not None:
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(text, encoding="utf-8")
            elif language == "python":
                code.append(text)
        names: dict[str, Any] = {}
        for text in code:
            exec(compile(text, f"{PAGE.name}, {section}", "exec"), names)
        return names

    yield run
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
    files = [name for _, name, _ in blocks("Add a paper") if name]
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
