"""The scripts of examples/ run as they stand (examples/train_lightning.py: test_distributed.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str, cwd: Path, *arguments: str) -> str:
    """The standard output of an example that is started in an empty folder."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of the command that `make demo` runs."""
    folder = tmp_path_factory.mktemp("demo")
    return folder / "demo_out", run("predict_clip.py", folder, "demo_out/drawn.mp4")


def test_the_example_of_a_prediction(drawn: tuple[Path, str]) -> None:
    """Protects the first script that a newcomer runs, and `make demo`: timeline, plot, video and table of a clip."""
    folder, out = drawn
    assert "examples/predict_clip.py demo_out/drawn.mp4" in (EXAMPLES.parent / "Makefile").read_text()
    moments = [line for line in out.splitlines() if " s  " in line]
    assert len(moments) == 32, "one for each half second"
    assert "warning" not in out
    assert {f"drawn.emozoo.{kind}" for kind in ("png", "mp4", "csv", "json")} <= {p.name for p in folder.iterdir()}
    with av.open(str(folder / "drawn.emozoo.mp4")) as video:
        assert (video.streams.video[0].width, video.streams.video[0].height) == (640, 480)
        assert abs(video.duration / av.time_base - 16) < 0.2
        assert video.streams.audio, "the voice is in it"


def test_all_that_is_acted_in_the_demo_is_predicted(drawn: tuple[Path, str]) -> None:
    """Protects the first sight: each of the four acted emotions is the label of its four seconds, in one face.

    Read from the file that the run wrote, not from what it says; the output names weights that know drawn faces.
    """
    folder, out = drawn
    found = json.loads((folder / "drawn.emozoo.json").read_text())
    assert found["model"] == "ceflnet.synth_v1"
    assert "trained on synthetic data" in out, "and nobody thinks that these weights are for people"
    (track,) = found["tracks"]
    for i, emotion in enumerate(("happiness", "surprise", "sadness", "anger")):
        inside = [m["scores"] for m in track["timeline"] if 4 * i <= m["start_s"] and m["end_s"] <= 4 * i + 4]
        mean = {name: sum(s[name] for s in inside) / len(inside) for name in found["classes"]}
        assert len(inside) >= 7
        assert max(mean, key=mean.__getitem__) == emotion
        assert mean[emotion] > 0.6, "by far, so that no small change turns it over"
        assert f"acted {emotion}, predicted {emotion}" in out


def test_the_example_of_fine_tuning(tmp_path: Path) -> None:
    """Protects fine-tuning from Python: own classes in, a folder out that loads and predicts them."""
    out = run("finetune_folder.py", tmp_path)
    assert "classes frowning, smiling; 20 items trained on, 4 held out" in out
    assert (tmp_path / "runs" / "finetune_folder" / "model" / "model.safetensors").is_file()
    assert "frowning/00.png" in out
    assert "'smiling': " in out
