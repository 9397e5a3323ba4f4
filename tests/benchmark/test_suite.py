"""The built-in suite: clips that are the same everywhere, people that training never shows, paired controls."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from emozoo import registry
from emozoo.benchmark import suite
from emozoo.benchmark.contenders import controls_of
from emozoo.benchmark.records import Result
from emozoo.data import datasets
from emozoo.errors import DatasetError, UsageError
from emozoo.synthemo import split_of


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMOZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_clips_of_a_task(home: Path) -> None:
    """Protects the test clips: inside the cache, of test people alone, and not drawn again on the next run."""
    root = suite.prepare("ceflnet", clips=7)
    assert root.is_relative_to(home)
    rows = datasets.load("synthemo", root).rows
    assert len(rows) == 7
    assert {r.split for r in rows} == {"test"}
    assert {split_of(int(str(r.group)[1:])) for r in rows} == {"test"}
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    assert suite.prepare("ceflnet", clips=7) == root
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before


def test_pixels_of_another_version(home: Path) -> None:
    """Protects numbers against clips that another version drew."""
    root = suite.prepare("ceflnet", clips=2)
    stamp = root / "synthemo.json"
    stamp.write_text(stamp.read_text().replace('"version": ', '"version": 9'))
    with pytest.raises(DatasetError, match="version 9"):
        datasets.load("synthemo", root)


def test_clips_of_other_settings_are_replaced(home: Path) -> None:
    """Protects numbers against clips of an earlier version in the cache: they are drawn anew, all of them."""
    root = suite.prepare("ceflnet", clips=2)
    clip, stamp = root / "clips/000001.mp4", root / "synthemo.json"
    drawn, settings = clip.read_bytes(), stamp.read_bytes()
    clip.write_bytes(b"of another version")
    suite.prepare("ceflnet", clips=2)
    assert clip.read_bytes() == b"of another version", "what has the right stamp is not drawn again"
    stamp.write_text(stamp.read_text().replace('"version": ', '"version": 9'))
    suite.prepare("ceflnet", clips=2)
    assert (clip.read_bytes(), stamp.read_bytes()) == (drawn, settings)


def test_bare_names_stand_for_weights_that_know_the_clips(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Protects `emozoo benchmark` and `emozoo benchmark --model dfan`: defaults have met other things."""
    scored: list[str] = []

    def measured(models: Sequence[str], *_: object, **__: object) -> Result:
        scored.extend(models)
        return Result()

    monkeypatch.setattr(suite.run, "measure", measured)
    monkeypatch.setattr(suite, "prepare", lambda *_, **__: home)
    suite.measure()
    assert scored == [suite.weights_of(arch)[-1] for arch in suite.TASKS]
    assert not caplog.text
    chosen, scored[:] = list(scored), []
    suite.measure(list(suite.TASKS))
    assert scored == chosen
    for name in chosen:
        assert f"takes {name}, which was trained on drawn clips" in caplog.text
    scored.clear()
    suite.measure([f"{arch}.synth" for arch in suite.TASKS])
    assert scored == [f"{arch}.synth" for arch in suite.TASKS], "what names weights is taken as it is"


def test_no_task() -> None:
    """Protects the message for a model that the suite was not made for."""
    with pytest.raises(UsageError, match="caer_net_s"):
        suite.measure(["caer_net_s"])


@pytest.mark.slow(15)
@pytest.mark.parametrize("arch", list(suite.TASKS))
def test_model_beside_its_control(home: Path, arch: str) -> None:
    """Protects the comparison: the control answers for the same clips, and its difference has an interval."""
    names = suite.weights_of(arch)
    if not names or not controls_of(names[-1], "all"):
        pytest.skip(f"{arch} has no SynthEmo weights with a control yet")
    model, control = suite.measure([names[-1]], clips=14, num_workers=0).records
    assert (model["model"], model["control"]) == (names[-1], None)
    assert registry.weights()[control["model"]].config["control_of"] == names[-1]
    assert control["n_evaluated"] == model["n_evaluated"] == 14
    for metric, value in control["delta"].items():
        if value is not None:
            assert value == pytest.approx(model["metrics"][metric] - control["metrics"][metric])
            low, high = control["delta_ci95"][metric]
            assert low <= high
