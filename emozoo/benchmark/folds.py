"""Cross-validation by person: one recipe trained once per fold, the held-out people of all folds scored together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emozoo.benchmark import leaderboard, statistics
from emozoo.benchmark.run import PRIORS, Said, complete, read
from emozoo.data.datamodule import EmotionDataModule
from emozoo.module import load


def cross_validate(
    recipe: str | Path, dataset: str, root: str | Path, *, folds: int, protocol: str, out: str | Path, tag: str
) -> list[dict[str, Any]]:
    """Trains ``recipe`` on all folds but one, ``folds`` times, and pools what each says of its held-out people.

    A fold whose weights already lie under ``out`` is not trained again, so a killed run goes on. One record per prior
    with ``fold`` "pooled"; intervals by person. A ``val_share`` of the recipe is taken
    from the other folds.
    """
    from emozoo.train import train

    passes: list[Said] = []
    for k in range(folds):
        folder = Path(out) / f"fold{k}"
        if not (folder / "model.safetensors").is_file():
            override = _saved_elsewhere(recipe, folder)
            part = ["--data.root", str(root), "--data.folds", str(folds), "--data.fold", str(k)]
            train(["--config", str(recipe), *part, *override])
        module = load(folder)
        dm = EmotionDataModule(
            dataset,
            root,
            spec=module.spec,
            classes=module.classes,
            fold=k,
            folds=folds,
            batch_size=64,
            allow_missing=True,
        )
        passes.append(read([module], dm, "cpu", allow_missing=False))
    return [_pooled(passes, prior, protocol, tag) for prior in PRIORS]


def _saved_elsewhere(recipe: str | Path, folder: Path) -> list[str]:
    """Arguments that let a recipe's callbacks write a fold's files into its own folder."""
    import yaml

    callbacks = yaml.safe_load(Path(recipe).read_text(encoding="utf-8"))["trainer"]["callbacks"]
    for callback in callbacks:
        kind = callback["class_path"].rpartition(".")[2]
        if kind == "ModelCheckpoint":
            callback["init_args"]["dirpath"] = str(folder)
        elif kind == "SaveWeights":
            callback["init_args"] |= {"folder": str(folder), "tag": None}
    return ["--trainer.callbacks", yaml.safe_dump(callbacks, default_flow_style=True, width=10**6).strip()]


def _pooled(passes: Sequence[Said], prior: str, protocol: str, tag: str) -> dict[str, Any]:
    outcomes = [p.outcome(0, prior) for p in passes]
    outcome = statistics.pooled(outcomes)
    record = passes[0].record(passes[0].modules[0], outcome, prior)
    metrics, interval = statistics.evaluate(outcome)
    each = [statistics.evaluate(o)[0] for o in outcomes]
    record |= {
        "model": tag,
        "sha256": "",
        "protocol": protocol,
        "split": None,
        "fold": "pooled",
        "published": leaderboard.published(record["dataset"], protocol, None, "pooled"),
        "metrics": complete(metrics),
        "ci95": {k: list(interval[k]) if k in interval else None for k in record["metrics"]},
        "n_expected": sum(p.n_expected for p in passes),
        "n_evaluated": sum(len(p.rows) for p in passes),
        "n_groups": sum(int(p.groups.max()) + 1 for p in passes),
        "no_face": sum(p.no_face for p in passes),
        "seconds": round(sum(p.seconds for p in passes), 1),
        "folds": {m: [e[m] for e in each] for m in each[0]},
        "std": {m: float(np.std([e[m] for e in each], ddof=1)) for m in each[0]},
    }
    return record
