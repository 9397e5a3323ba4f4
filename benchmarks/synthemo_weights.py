"""Draws the training clips of each paper model, and trains its ``synth_v1`` weights and their plain-average control.

    python benchmarks/synthemo_weights.py [ARCH ...]

Clips and checkpoints go to ``runs/``, weights to ``checkpoints/``. Weights that are there are not trained again, and a
killed run goes on from its last epoch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from emozoo.benchmark import suite
from emozoo.registry import CONTROLS

CLIPS, SEED = 1400, 1


def train(arch: str, *, control: bool) -> None:
    """One run of the recipe in a process of its own."""
    recipe = Path("benchmarks/recipes") / f"{arch}__synthemo.yaml"
    tag = "synth_v1_mean" if control else "synth_v1"
    if (Path("checkpoints") / f"{arch}.{tag}" / "model.safetensors").is_file():
        return
    plan = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    words = ["--config", str(recipe)]
    last = Path("runs") / f"{arch}__synthemo" / "last.ckpt"
    if control:
        last = Path("runs") / f"{arch}__synthemo_mean" / "last.ckpt"
        options = {**(plan["model"].get("options") or {}), **CONTROLS[arch]}
        callbacks = plan["trainer"]["callbacks"]
        for callback in callbacks:
            if callback["class_path"].endswith("ModelCheckpoint"):
                callback["init_args"]["dirpath"] = str(last.parent)
            elif callback["class_path"].endswith("SaveWeights"):
                callback["init_args"] |= {"tag": tag, "control_of": f"{arch}.synth_v1", "control": "plain average"}
        words += ["--model.options", json.dumps(options), "--trainer.callbacks", json.dumps(callbacks)]
    if last.is_file():
        words += ["--ckpt_path", str(last)]
    subprocess.run([sys.executable, "-m", "emozoo", "train", *words], check=True)


def main(archs: list[str]) -> None:
    for arch in archs or list(suite.TASKS):
        out = Path("runs/synthemo") / arch
        suite.prepare(arch, clips=CLIPS, seed=SEED, split="train", out=out, workers=os.cpu_count() or 1)
        for control in (False, True):
            train(arch, control=control)


if __name__ == "__main__":
    main(sys.argv[1:])
