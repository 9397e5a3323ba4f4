"""docs/extend.md: what it tells a reader to write works as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "extend.md"


def follow(section: str, folder: Path, after: str = "") -> str:
    """Does what a section of the page says, in that folder, and returns what its last program printed.

    Blocks that begin with ``# NAME.py`` (or another suffix) are written to that file; the other Python blocks are one
    program, which ``after`` is put behind.
    """
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2]
    assert text, f"{PAGE.name} has no section '{section}'"
    program = ""
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```$", text.partition("\n## ")[0], re.DOTALL | re.MULTILINE):
        if file := re.match(r"# (\S+\.\w+)\n", block):
            target = folder / file[1]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block, encoding="utf-8")
        elif language == "python":
            program += block
    (folder / "program.py").write_text(program + after, encoding="utf-8")
    path = os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": path, "EMOZOO_HOME": str(folder / "home")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


POSE_CHECKS = """
import os
from pathlib import Path

import torch
from emozoo.data.clips import ClipReader, to_batch
from emozoo.data.transforms import Augment
from emozoo.errors import VideoError
from emozoo.module import _mirrored

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
assert torch.equal(flipped, _mirrored(batch.inputs, model.spec)["pose"])
with ClipReader("bare.mp4", model.spec) as reader:
    try:
        reader.read()
    except VideoError as error:
        print("bare:", error)


def cached():
    frozen = EmotionModule("pose_mean", lr_scale={"encoder": 0.0})
    frozen.load_state_dict(model.state_dict())
    clips = emozoo.EmotionDataModule("folder", "clips", spec=model.spec, classes=["calm", "excited"], features=1)
    L.Trainer(max_steps=1, logger=False, enable_checkpointing=False).fit(frozen, datamodule=clips)
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
