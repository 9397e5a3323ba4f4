"""The scripts of examples/ run as they stand (examples/train_lightning.py: test_distributed.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str, cwd: Path) -> str:
    """The standard output of an example that is started in an empty folder."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / name)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_example_of_a_prediction(tmp_path: Path) -> None:
    """Protects the first script that a newcomer runs, and `make demo`: timeline, plot and table of a drawn clip."""
    out = run("predict_clip.py", tmp_path)
    moments = [line.split() for line in out.splitlines() if line.startswith(" ")]
    assert len(moments) == 16, "one for each second"
    assert (moments[1][2], moments[6][2]) == ("happiness", "surprise"), "what the README says of this clip"
    written = {p.name for p in (tmp_path / "runs" / "predict_clip").iterdir()}
    assert {"drawn.emozoo.png", "drawn.emozoo.csv"} <= written


def test_the_example_of_fine_tuning(tmp_path: Path) -> None:
    """Protects fine-tuning from Python: own classes in, a folder out that loads and predicts them."""
    out = run("finetune_folder.py", tmp_path)
    assert "classes frowning, smiling; 20 items trained on, 4 held out" in out
    assert (tmp_path / "runs" / "finetune_folder" / "model" / "model.safetensors").is_file()
    assert "frowning/00.png" in out
    assert "'smiling': " in out
