"""Cross-validation by person: one recipe trained once per fold, the held-out people of all folds scored together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from emozoo import recipes
from emozoo.benchmark.run import measure
from emozoo.data import datasets
from emozoo.data.splits import ALL, PERSON, people


def cross_validate(
    recipe: str | Path,
    dataset: str,
    root: str | Path,
    *,
    folds: int | str | None,
    protocol: str,
    out: str | Path,
    tag: str,
    teacher: str | None = None,
) -> list[dict[str, Any]]:
    """Trains ``recipe`` ``folds`` times on all folds but one, and pools the predictions for the held-out people.

    ``recipe`` is a name or a file. ``folds``: their number, or ``person``, which leaves one person out at a time, or
    None for the folds that the table names.
    A fold whose weights already lie under ``out`` is not trained again, so a killed run continues. Returns one record
    per prior with ``fold`` "pooled"; intervals are by person. A ``val_share`` of the recipe is taken from the other
    folds. The recipe's own ``teacher`` may have been trained on the held-out people: ``teacher`` names one for each
    fold, with ``{fold}`` for its number, or for the person's name.
    """
    train_folds(recipe, dataset, root, folds=folds, out=out, teacher=teacher)
    split = ALL if folds == PERSON else None
    found = measure([f"{out}/fold{{fold}}"], dataset, root, split=split, folds=folds, prior="both", batch_size=64)
    pooled = [r for r in found.records if r["fold"] == "pooled"]
    for record in pooled:
        record |= {"model": tag, "protocol": protocol}
    return pooled


def train_folds(
    recipe: str | Path,
    dataset: str,
    root: str | Path,
    *,
    folds: int | str | None,
    out: str | Path,
    teacher: str | None = None,
) -> list[str]:
    """Trains a recipe for every fold into ``out/foldNAME`` where it is missing; returns the names of the folds.

    Arguments as in :func:`cross_validate`; a name is the number of the fold, or the person's.
    """
    from emozoo.train import train

    manifest = datasets.load(dataset, Path(root))
    if folds == PERSON:
        numbers = dict(enumerate(people(manifest)))
    else:
        numbers = {k: str(k) for k in (manifest.folds if folds is None else range(int(folds)))}
    split = [] if folds is None else ["--data.folds", str(folds)]
    for k, name in numbers.items():
        folder = Path(out) / f"fold{name}"
        if not (folder / "model.safetensors").is_file():
            override = saved_elsewhere(recipe, folder, teacher.format(fold=name) if teacher else None)
            train(["--config", str(recipe), "--data.root", str(root), *split, "--data.fold", str(k), *override])
    return list(numbers.values())


def saved_elsewhere(recipe: str | Path, folder: Path, teacher: str | None = None) -> list[str]:
    """Arguments that let a recipe's callbacks write a fold's files into its own folder, and learn from its teacher."""
    callbacks = recipes.read(str(recipe))["trainer"]["callbacks"]
    for callback in callbacks:
        kind = callback["class_path"].rpartition(".")[2]
        if kind == "ModelCheckpoint":
            callback["init_args"]["dirpath"] = str(folder)
        elif kind == "SaveWeights":
            callback["init_args"] |= {"folder": str(folder), "tag": None}
        elif kind == "Distillation" and teacher is not None:
            callback["init_args"]["teacher"] = teacher
    return ["--trainer.callbacks", yaml.safe_dump(callbacks, default_flow_style=True, width=10**6).strip()]
