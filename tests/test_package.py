"""The wheel works by itself: no checkout, no other folder, no network."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from emozoo import registry

ROOT = Path(__file__).resolve().parent.parent
PAPERS = ("caer_cross_attention", "dfan", "recursive_joint_attention", "ceflnet")

USER = """
import emozoo
from emozoo.batch import Batch
from emozoo.models.network import Output
from torch import Tensor

reveal_type(emozoo.load("ceflnet"))
reveal_type(emozoo.predict("clip.mp4", "ceflnet"))
reveal_type(emozoo.predict(["clip.mp4"], emozoo.load("ceflnet")))
reveal_type(emozoo.EmotionModule.from_pretrained("ceflnet"))
reveal_type(emozoo.list_weights("ceflnet"))


def ask(model: emozoo.EmotionModule, batch: Batch, inputs: dict[str, Tensor]) -> tuple[Output, Output]:
    return model.forward(batch), model.forward(inputs, {})
"""


@pytest.mark.slow(30)
def test_types_are_visible_to_users(tmp_path):
    """Protects editors and type checkers: the example and a user's lines pass ``mypy --strict``, with our types."""
    (tmp_path / "user.py").write_text(USER, encoding="utf-8")
    files = [str(ROOT / "examples" / "predict_clip.py"), str(tmp_path / "user.py")]
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, "--follow-imports", "silent"]
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    found = subprocess.run([*command, *files], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    told = re.findall(r'Revealed type is "(.+)"', found.stdout)
    assert told == [
        "emozoo.module.EmotionModule", "emozoo.inference.Prediction", "list[emozoo.inference.Prediction]",
        "emozoo.module.EmotionModule", "list[str]",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel built from this checkout, without network."""
    out = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(out),
        ".",
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(out.glob("emozoo-*.whl"))


@pytest.fixture(scope="module")
def away(wheel, tmp_path_factory):
    """Runs Python from an empty folder with the installed wheel first in reach; dependencies are this environment's."""
    target, cwd = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("cwd")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    # The path given here comes before the checkout's, which an editable install adds at the end.
    environment = os.environ | {"PYTHONPATH": str(target), "HF_HUB_OFFLINE": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}

    def run(code: str) -> str:
        code = f"import emozoo\nassert emozoo.__file__.startswith({str(target)!r}), emozoo.__file__\n{code}"
        done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not list(cwd.iterdir()), "something was written into the working folder"
        return done.stdout

    return run


def test_wheel_content(wheel):
    """Protects what travels: weights (64 MB at most), recipes, results, published tables; no tests, no pickles."""
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    recipes = ("benchmarks/recipes/index.yaml", "benchmarks/recipes/data/", "benchmarks/recipes/model/")
    for part in ("checkpoints/", *recipes, "benchmarks/results/", "benchmarks/leaderboards/"):
        assert any(n.startswith(f"emozoo/_packaged/{part}") for n in names), part
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert "emozoo/benchmark/templates/report.html" in names, "the page of a benchmark's report"
    assert "emozoo/_packaged/benchmarks/leaderboards/boards.yaml" in names
    assert "emozoo/card.md.j2" in names, "model cards are written from it"
    assert "emozoo/py.typed" in names, "type checkers look into a package only where this file says so"
    assert {"emozoo/templates/doctor.html", "emozoo/templates/finetune.html"} <= set(names)
    assert sum(i.file_size for i in archive.infolist() if i.filename.endswith(".safetensors")) <= 64e6
    assert not [n for n in names if n.endswith((".pt", ".pth", ".ckpt", ".pkl")) or n.startswith("tests")]


def test_every_weights_tag_loads_away_from_the_checkout(away):
    """Protects `load` in an installation: every tag verifies its hash, and the bare names load their defaults."""
    out = away(
        f"for name in [*emozoo.list_weights(), *{PAPERS}]:\n"
        "    model = emozoo.load(name)\n"
        "    assert not model.training\n"
        "    print(model.name)"
    )
    defaults = [registry.resolve(arch)[1] for arch in PAPERS]
    assert out.split()[-len(PAPERS) :] == [default and default.name for default in defaults]


def test_list_works_away_from_the_checkout(away):
    """Protects the first command that anyone tries, in an installation."""
    out = away(
        "import sys; from emozoo.cli import main; sys.argv = ['emozoo', 'list', '--json']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code"
    )
    assert '"ceflnet' in out
