"""DFAN on music videos with pretrained encoders (``dfan.music6_v2``), and what simpler methods make of the same.

    python benchmarks/films.py

Trains the recipe ``dfan__music6`` and its control, the plain average, where their weights are missing, and a linear
classifier on the plain average of the same frozen features. All are scored on the val part of the data; records go into
``benchmarks/results``. Needs the real material (``EMOZOO_SHARED``) and the extra ``experiments``.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evidence import RESULTS, RUNS, trained

from emozoo import hub, recipes, registry
from emozoo.benchmark import report, statistics
from emozoo.benchmark.records import complete, ends
from emozoo.benchmark.run import measure
from emozoo.data.datamodule import EmotionDataModule
from emozoo.files import resolve_path
from emozoo.module import EmotionModule
from emozoo.train import train
from emozoo.zoo import load

MUSIC = "$EMOZOO_SHARED/data/music_video/manifest.csv"


def trained_plain(recipe: str) -> None:
    """Trains the control of a recipe's weights, if it is missing: all the same, but no attention."""
    plan = recipes.read(recipe)
    arch, callbacks = plan["model"]["model"], plan["trainer"]["callbacks"]
    save = callbacks[-1]["init_args"]
    name = f"{arch}.{save['tag']}"
    save |= {"tag": f"{save['tag']}_mean", "control_of": name, "control": "plain average"}
    if not (Path(save["folder"]) / f"{name}_mean" / hub.CONFIG).is_file():
        options = {**plan["model"]["options"], **(registry.model(arch).control or {})}
        changed = ["--model.options", json.dumps(options), "--trainer.callbacks", json.dumps(callbacks)]
        train(["--config", recipe, *changed, "--trainer.default_root_dir", str(RUNS / f"{recipe}_mean")])


def linear_record(like: dict[str, Any], module: EmotionModule) -> dict[str, Any]:
    """The record of a linear classifier on the mean of a module's frozen features over segments and positions.

    Its regularisation is chosen by cross-validation within the training part.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = EmotionDataModule(
        "csv", resolve_path(MUSIC), spec=module.spec, classes=module.classes, split="val", val_share=0.0, batch_size=4
    )
    data.setup("fit")
    parts = []
    for rows in (data.train_rows, data.test_rows):
        means, labels = [], []
        with torch.no_grad():
            for batch in data.loader_of(rows):
                features = module.encode(batch)
                means.append(torch.cat([features[s].mean((1, 3, 4)) for s in module.spec.streams], 1))
                labels.append(batch.targets["emotion"])
        parts += [torch.cat(means).numpy(), torch.cat(labels).numpy()]
    x, y, x_test, y_test = parts
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)),
        {"logisticregression__C": [0.001, 0.003, 0.01, 0.03, 0.1]}, scoring="balanced_accuracy",
        cv=StratifiedKFold(5, shuffle=True, random_state=1),
    )  # fmt: skip
    search.fit(x, y)
    ids = [r.id for r in data.test_rows]
    groups = statistics.group_numbers([r.group for r in data.test_rows], ids)
    outcome = statistics.Outcome(groups, tuple(module.classes), np.stack([y_test, search.predict(x_test)], 1))
    metrics, interval = statistics.evaluate(outcome)
    return like | {
        "model": f"linear classifier on the plain average of the features of {module.name}",
        "sha256": hashlib.sha256(x.tobytes()).hexdigest(), "prior": "uniform", "seed": None, "seconds": None,
        "metrics": complete(metrics), "ci95": ends(interval), "per_class": statistics.per_class(outcome),
        "confusion": statistics.matrix(outcome), "ece": None,
    }  # fmt: skip


def main() -> None:
    folder = trained("dfan__music6")
    trained_plain("dfan__music6")
    found = measure([folder.name], "csv", resolve_path(MUSIC), split="val", prior="train", control="all").records
    found = [r | {"dataset": "music_video", "protocol": "music_video_val_v1"} for r in found]
    report.save_classes([r for r in found if not r["control"]], RESULTS / "classes.csv")
    report.save(found, RESULTS)
    report.show(found)
    linear = [linear_record(found[0], load(folder))]
    report.save(linear, RESULTS)
    report.show(linear)


if __name__ == "__main__":
    main()
