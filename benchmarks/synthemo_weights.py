"""Draws the training clips of each paper model, and trains its ``synth_v1`` weights and their plain-average control.

    python benchmarks/synthemo_weights.py [ARCH ...]

First the encoders, on plain clips, where every view shows the emotion; then, from those encoders frozen, the model and
its control on the clips of its task. The control's file leaves the encoders to the model's. Clips and checkpoints go
to ``runs/``, weights to ``checkpoints/``. Weights that are there are not trained again, and a killed run goes on from
its last epoch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from emozoo import recipes, registry
from emozoo.benchmark import suite
from emozoo.synthemo import Knobs

PLAIN_CLIPS, PLAIN_SEED = 1000, 2
PLAIN = Knobs(face=1, scene=1, voice=1, action=1)
PLAIN_SPOT = Knobs(face=1, scene=1, voice=1, action=1, spot=True)  # the scene's cause in one place, as DFAN's task has


def train(arch: str, *, control: bool) -> None:
    """The recipe of an architecture's task, or its control's, in a process of its own."""
    recipe = f"{arch}__synthemo"
    tag = "synth_v1_mean" if control else "synth_v1"
    if (Path("checkpoints") / f"{arch}.{tag}" / "model.safetensors").is_file():
        return
    words: list[str] = []
    last = Path("runs") / f"{arch}__synthemo" / "last.ckpt"
    if control:
        plan = recipes.read(recipe)
        last = Path("runs") / f"{arch}__synthemo_mean" / "last.ckpt"
        options: dict[str, Any] = {**(plan["model"].get("options") or {}), **(registry.model(arch).control or {})}
        frozen = list(plan["model"]["lr_scale"])
        start = {f"checkpoints/{arch}.synth_v1": {part: part for part in frozen}}
        callbacks = plan["trainer"]["callbacks"]
        for callback in callbacks:
            if callback["class_path"].endswith("ModelCheckpoint"):
                callback["init_args"]["dirpath"] = str(last.parent)
            elif callback["class_path"].endswith("SaveWeights"):
                callback["init_args"] |= {"tag": tag, "control_of": f"{arch}.synth_v1", "control": "plain average"}
                callback["init_args"] |= {"shared_parts": frozen}
        words = ["--model.options", json.dumps(options), "--trainer.callbacks", json.dumps(callbacks)]
        words += ["--model.init_from", json.dumps(start)]
    run(recipe, last, words)


def train_encoders(arch: str) -> None:
    """The encoders that model and control start from."""
    out = Path("runs/synthemo_encoders") / arch
    if (out / "model.safetensors").is_file():
        return
    spot = arch == "dfan"
    suite.prepare(
        arch,
        clips=PLAIN_CLIPS,
        seed=PLAIN_SEED,
        split="train",
        out=Path("runs/synthemo") / ("plain_spot" if spot else "plain"),
        knobs=PLAIN_SPOT if spot else PLAIN,
        workers=os.cpu_count() or 1,
    )
    run(f"{arch}__synthemo_plain", out / "last.ckpt", [])


def run(recipe: str, last: Path, words: list[str]) -> None:
    """``emozoo train`` with a recipe, from its last checkpoint where there is one."""
    if last.is_file():
        words = [*words, "--ckpt_path", str(last)]
    subprocess.run([sys.executable, "-m", "emozoo", "train", "--config", recipe, *words], check=True)


def main(archs: list[str]) -> None:
    for arch in archs or list(suite.TASKS):
        train_encoders(arch)
        out = Path("runs/synthemo") / arch
        suite.prepare(
            arch, clips=suite.TRAINING_CLIPS, seed=suite.TRAINING_SEED, split="train", out=out,
            workers=os.cpu_count() or 1,
        )  # fmt: skip
        for control in (False, True):
            train(arch, control=control)


if __name__ == "__main__":
    main(sys.argv[1:])
