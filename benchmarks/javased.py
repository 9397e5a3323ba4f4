"""Talking people whom a network has never met: leave-one-actor-out on the eight shared actors of Java-SED's videos.

    python benchmarks/javased.py [WEIGHTS | RECIPE ...] [--late FACE VOICE] [--val WEIGHTS ...]

Protocol ``javased_loao_v1``: six emotions, 192 videos with sound, every actor of the parts train and val is a fold.

``WEIGHTS``  a name of the package or a folder, scored as it is on every actor: for weights that have not learned from
             labels of these people. Classes of the weights that Java-SED lacks are left out
``RECIPE``   a recipe whose table is Java-SED's videos (classes: its six), trained once for each actor, who is left out
             of that table and of every further one (``data.also``), below ``runs/javased_loao/RECIPE``
``--late``   late fusion of two recipes, trained here if need be: their logits added, with weights fitted on the
             predictions for the other actors. With a RECIPE before it the difference to the first one is given

``--val``    weights scored on the two actors of the part val alone (``javased_val_v1``, 48 videos), whom weights that
             learned from the six of the part train have not met

The records are over all actors together, with mean and range over actors and intervals by actor; they go into
``benchmarks/results``. A killed run goes on. Needs the real material (``EMOZOO_SHARED``).
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composed import difference, late_fusion_weights, logits_of
from folds import cross_validate

from emozoo import recipes
from emozoo.benchmark import report, statistics
from emozoo.benchmark.contenders import Contender
from emozoo.benchmark.predict import Predictions, predict
from emozoo.benchmark.records import complete, ends, of_parts
from emozoo.benchmark.run import measure
from emozoo.data import datasets
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.splits import ALL, PERSON, people
from emozoo.files import resolve_path
from emozoo.zoo import load

Records = list[dict[str, Any]]
TABLE = "$EMOZOO_SHARED/data/javased_video/manifest.csv"
RUNS, RESULTS = Path("runs/javased_loao"), Path("benchmarks/results")
NAME = {"dataset": "javased", "protocol": "javased_loao_v1"}


def as_it_is(weights: str) -> Records:
    """Records of weights that were trained elsewhere."""
    root = resolve_path(TABLE)
    same = sorted(load(weights).classes) == sorted(datasets.load("csv", root).classes)
    found = measure(
        [weights], "csv", root, split=ALL, folds=PERSON, prior="both", label_map=None if same else "basic7_v1"
    ).records
    return [r | NAME for r in found if r["fold"] == "pooled"]


def val_actors(weights: Sequence[str]) -> Records:
    """Records of weights on the actors of the part val."""
    root, found = resolve_path(TABLE), []
    acted = sorted(datasets.load("csv", root).classes)
    for name in weights:
        same = sorted(load(name).classes) == acted
        label_map = None if same else "basic7_v1"
        found += measure([name], "csv", root, split="val", prior="both", label_map=label_map).records
    return [r | NAME | {"protocol": "javased_val_v1"} for r in found]


def left_out(recipe: str) -> Records:
    """Records of a recipe, each actor predicted by a network that was trained without them."""
    found = cross_validate(
        recipe,
        "csv",
        resolve_path(TABLE),
        folds=PERSON,
        protocol=NAME["protocol"],
        out=RUNS / recipe,
        tag=titled(recipe),
    )
    return [r | NAME for r in found]


def titled(recipe: str) -> str:
    """``ceflnet, recipe javased`` for ``ceflnet__javased``."""
    arch, _, name = recipe.partition("__")
    return f"{arch}, recipe {name}"


def predictions_of(recipe: str) -> list[Predictions]:
    """The predictions for every actor by the network that was trained without them."""
    root = resolve_path(TABLE)
    found = []
    for actor in people(datasets.load("csv", root)):
        module = load(RUNS / recipe / f"fold{actor}")
        dm = EmotionDataModule("csv", root, spec=module.spec, classes=module.classes, split=ALL, allow_missing=True)
        found.append(predict([Contender(module)], dm, "cpu", False, person=actor, part=actor))
    return found


def fused_late(a: torch.Tensor, b: torch.Tensor, true: np.ndarray, groups: np.ndarray) -> torch.Tensor:
    """Two networks' logits (N, K) added, for each person with the weights that fit the others' items best: (N, K)."""
    fused = torch.zeros_like(a)
    for person in np.unique(groups):
        own = torch.from_numpy(groups == person)
        weights = late_fusion_weights(a[~own], b[~own], true[groups != person])
        fused[own] = weights[0] * a[own] + weights[1] * b[own]
    return fused


def late(face: str, voice: str, beside: str | None = None) -> Records:
    """The record of late fusion; ``beside``: a recipe whose difference to it is given, ``delta`` = that minus this."""
    both = [predictions_of(recipe) for recipe in (face, voice)]
    a, b = (torch.cat([logits_of(p, 0) for p in parts]) for parts in both)
    ids = [[r.id for p in parts for r in p.rows] for parts in both]
    if ids[0] != ids[1]:
        raise ValueError(f"{face} and {voice} could not read the same videos")
    true = np.concatenate([p.true for p in both[0]])
    groups = statistics.group_numbers([r.group for p in both[0] for r in p.rows], ids[0])
    fused = fused_late(a, b, true, groups)
    confusion = np.stack([true, fused.argmax(1).numpy()], 1)
    outcome = statistics.Outcome(groups, both[0][0].classes, confusion)
    like = next(r for r in of_parts(both[0], "train", "", True, "").records if r["fold"] == "pooled")
    metrics, interval = statistics.evaluate(outcome)
    sure, right = fused.softmax(1).max(1).values.numpy(), confusion[:, 0] == confusion[:, 1]
    hashes = " ".join(p.contenders[0].module.sha256 for parts in both for p in parts)
    by_person: Any = statistics.by_person(outcome)
    record = like | NAME | {
        "model": f"late fusion of {titled(face)} and {titled(voice)}, calibrated",
        "sha256": hashlib.sha256(hashes.encode()).hexdigest(), "metrics": complete(metrics), "ci95": ends(interval),
        "by_person": by_person, "per_class": statistics.per_class(outcome), "confusion": statistics.matrix(outcome),
        "ece": statistics.calibration_error(sure, right),
    }  # fmt: skip
    if beside is not None:
        parts = predictions_of(beside)
        if [r.id for p in parts for r in p.rows] != ids[0]:
            raise ValueError(f"{beside} could not read the same videos")
        pooled = statistics.pooled([p.outcome(0, "train") for p in parts])
        record |= difference(replace(pooled, groups=groups), outcome)
    return [record]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help="weights or recipes")
    parser.add_argument("--late", nargs=2, metavar=("FACE", "VOICE"), help="two recipes to fuse late")
    parser.add_argument("--val", nargs="+", metavar="WEIGHTS", default=[], help="weights to score on the val actors")
    given = parser.parse_args(argv)
    records: Records = []
    first = next((n for n in given.names if recipes.known(n)), None)
    for name in dict.fromkeys([*given.names, *(given.late or ())]):
        records += left_out(name) if recipes.known(name) else as_it_is(name)
    if given.late:
        face, voice = given.late
        records += late(face, voice, beside=first)
    records += val_actors(given.val)
    report.save(records, RESULTS)
    report.show(records)


if __name__ == "__main__":
    main()
