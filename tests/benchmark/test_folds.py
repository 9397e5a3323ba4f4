"""Cross-validation by person: every fold has its own weights, and a teacher that has not seen its held-out people."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import yaml
from folds import cross_validate


def test_every_fold_has_its_own_teacher(make_images: Callable[[int], Path], tmp_path: Path) -> None:
    """Held-out people stay unknown to what teaches: fold k learns from the teacher of fold k, and all are pooled."""
    images = sorted(make_images(24).rglob("*.png"))
    manifest = tmp_path / "manifest.csv"
    with manifest.open("w", newline="") as f:
        table = csv.writer(f)
        table.writerow(["path", "label", "split", "group"])
        table.writerows([p, p.parent.name, "train", f"person{i % 8}"] for i, p in enumerate(images))
    model = {
        "model": "emotion_fan", "size": "lite", "options": {"backbone": "vgg_tiny"}, "spec": {"clips": 1},
        "classes": sorted({p.parent.name for p in images}),
    }  # fmt: skip
    plan = {
        "seed_everything": 1,
        "model": model,
        "data": {"dataset": "csv", "root": str(manifest), "batch_size": 8},
        "trainer": {
            "max_epochs": 1,
            "accelerator": "cpu",
            "limit_val_batches": 0,
            "logger": False,
            "enable_progress_bar": False,
            "default_root_dir": str(tmp_path),
            "callbacks": [
                {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"filename": "last"}},
                {
                    "class_path": "emozoo.callbacks.SaveWeights",
                    "init_args": {"folder": str(tmp_path / "x"), "tag": "x_v1"},
                },
            ],
        },
    }
    recipe, taught = tmp_path / "recipe.yaml", tmp_path / "taught.yaml"
    recipe.write_text(yaml.safe_dump(plan))
    nobody = {"teacher": str(tmp_path / "nobody"), "weight": 0.5}
    distillation = {"class_path": "emozoo.callbacks.Distillation", "init_args": nobody}
    plan["trainer"]["callbacks"].insert(0, distillation)
    taught.write_text(yaml.safe_dump(plan))
    same = {"folds": 2, "protocol": "mine_2fold"}
    cross_validate(recipe, "csv", manifest, out=tmp_path / "teachers", tag="teacher", **same)  # type: ignore[arg-type]
    found = cross_validate(
        taught,
        "csv",
        manifest,
        out=tmp_path / "taught",
        tag="taught",
        teacher=f"{tmp_path}/teachers/fold{{fold}}",
        **same,
    )  # type: ignore[arg-type]
    assert {r["prior"] for r in found} == {"train", "uniform"}
    for record in found:
        assert (record["model"], record["protocol"], record["fold"]) == ("taught", "mine_2fold", "pooled")
        assert record["n_evaluated"] == len(images)
    people = cross_validate(
        recipe, "csv", manifest, folds="person", protocol="mine_loao", out=tmp_path / "people", tag="one left out"
    )
    assert [r["n_evaluated"] for r in people] == [len(images)] * 2
    assert sorted(f.name for f in (tmp_path / "people").iterdir()) == [f"foldperson{i}" for i in range(8)]
    hashes = {json.loads(p.read_text())["sha256"] for p in tmp_path.glob("t*/fold?/config.json")}
    assert len(hashes) == 4
