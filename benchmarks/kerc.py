"""Valence and arousal of faces in films (KERC 2020), in five folds by person.

    python benchmarks/kerc.py [--table]

People are not named and appear in several clips: clips are grouped by face first (``people_of``), and a group lies in
one fold. The table goes to ``runs/kerc/manifest.csv`` (``--table``: nothing else is done). Then the recipe
``recursive_joint_attention__kerc`` is trained for every fold and scored on it: one value a clip, the mean over its
steps, CCC over the clips of all folds together; intervals by group. The record goes into ``benchmarks/results``. The
films are others': weights stay below ``runs``. A killed run goes on.

Needs the real material (``EMOZOO_SHARED``), the extra ``experiments``, and, for the table, the face recogniser that
``benchmarks/face_identity_weights.py`` fetches.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from folds import train_folds
from rich.progress import track
from safetensors.torch import load_file

from emozoo import files
from emozoo.benchmark import report
from emozoo.benchmark.contenders import Contender
from emozoo.benchmark.predict import Predictions, predict
from emozoo.benchmark.records import of_parts
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.manifest import Row
from emozoo.data.tables import read_manifest
from emozoo.files import resolve_path
from emozoo.models.backbones import image_encoder
from emozoo.spec import ClipSpec, StreamSpec
from emozoo.zoo import load

RECIPE = "recursive_joint_attention__kerc"
SOURCE = "$EMOZOO_SHARED/data/kerc_faces/manifest.csv"
RUNS, TABLE, RESULTS = Path("runs") / RECIPE, Path("runs/kerc/manifest.csv"), Path("benchmarks/results")
ENCODER, RECOGNISER = "mobilenetv1_100@4", Path("weights/mobilenetv1_vggface2.safetensors")
FOLDS, FRAMES, SIDE = 5, 6, 112
# Mean cosine between the clips of two groups (centered on the mean of all) above which they are one person. Measured on
# the 634 clips, each the mean of all its frames: the halves of one clip are above 0.25 in 97 % of 626 clips, two
# different clips in 13 % of pairs. It gives 85 groups, the largest of 164 clips, so it rather takes two people as one;
# 0.35 gives 180 groups (largest 127), 0.2 gives 59 (largest 176).
ALIKE = 0.25


def embeddings(rows: Sequence[Row]) -> np.ndarray:
    """The mean feature of each clip's frames before the last map of a face recogniser, of length one: (N, D)."""
    spec = ClipSpec({"face": StreamSpec("face", (96, 96), mean=(0.5,) * 3, std=(0.5,) * 3)}, FRAMES, "segments", 3.0)
    encoder: Any = image_encoder(ENCODER)[0]
    encoder.net.load_state_dict(load_file(RECOGNISER))
    data = EmotionDataModule("csv", resolve_path(SOURCE), spec=spec, split="all")
    data.setup("test")
    found = []
    with torch.inference_mode():
        for batch in track(data.loader_of(rows, windows=False), "faces"):
            x = encoder.eval()(batch.inputs["face"].flatten(0, 2)).mean((-2, -1))
            found.append(x.unflatten(0, (-1, FRAMES)).mean(1).numpy())
    x = np.concatenate(found)
    return unit(x)


def unit(x: np.ndarray) -> np.ndarray:
    """Centered vectors (N, D) of length one: what all faces share says nothing of a person."""
    x = x - x.mean(0)
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def people_of(faces: np.ndarray, alike: float = ALIKE) -> np.ndarray:
    """The number of the person (N,) of each face (N, D): average linkage, merged while the mean cosine is above."""
    from scipy.cluster.hierarchy import fcluster, linkage

    return np.asarray(fcluster(linkage(faces, "average", "cosine"), 1 - alike, "distance")) - 1


def folds_of(people: np.ndarray, folds: int = FOLDS) -> np.ndarray:
    """The fold (N,) of each clip: people by falling number of clips, each into the fold that has the fewest."""
    names, counts = np.unique(people, return_counts=True)
    sizes, where = np.zeros(folds, int), {}
    for i in np.argsort(-counts, kind="stable"):
        where[names[i]] = fold = int(sizes.argmin())
        sizes[fold] += counts[i]
    return np.array([where[p] for p in people])


def write_table() -> None:
    """Writes the table: absolute paths, the whole image as face, group and fold."""
    rows = read_manifest(resolve_path(SOURCE)).rows
    people = people_of(embeddings(rows))
    lines = [
        {
            "path": os.path.abspath(row.path), "valence": row.valence, "arousal": row.arousal, "x1": 0, "y1": 0,
            "x2": SIDE - 1, "y2": SIDE - 1, "group": f"person {person:03d}", "fold": fold,
        }
        for row, person, fold in zip(rows, people, folds_of(people), strict=True)
    ]  # fmt: skip
    files.write_text(TABLE, files.csv_text(lines, list(lines[0])))
    print(f"{TABLE}: {len(rows)} clips of {people.max() + 1} people, {np.bincount(people).max()} of the most frequent")


def by_clip(predictions: Predictions) -> Predictions:
    """One value for each clip, as it was rated: the mean over its steps."""
    return replace(
        predictions,
        va=[v and [x.mean(0, keepdims=True) for x in v] for v in predictions.va],
        va_true=[x[:1] for x in predictions.va_true],
        va_time=[x[:1] for x in predictions.va_time],
    )


def scored(folds: Sequence[str]) -> list[dict[str, Any]]:
    """The record over all folds together."""
    parts = []
    for fold in folds:
        module = load(RUNS / f"fold{fold}")
        data = EmotionDataModule("csv", TABLE, spec=module.spec, classes=[], fold=int(fold), allow_missing=True)
        parts.append(by_clip(predict([Contender(module)], data, "cpu", False, part=int(fold))))
    name = {"model": "recursive_joint_attention, recipe kerc", "dataset": "kerc", "protocol": "kerc_5folds_by_face_v1"}
    found = of_parts(parts, "train", "", True, "").records
    return [r | name for r in found if r["fold"] == "pooled"]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="only write the table")
    only_table = parser.parse_args(argv).table
    if not TABLE.is_file():
        write_table()
    if only_table:
        return
    records = scored(train_folds(RECIPE, "csv", TABLE, folds=None, out=RUNS))
    report.save(records, RESULTS)
    report.show(records)


if __name__ == "__main__":
    main()
