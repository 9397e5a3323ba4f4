"""Faces and voices of real people in composed clips: two views fused, each alone, and fused late.

    python benchmarks/composed.py [--shipped] [face_voice] [face_scene]

Composes the clips below ``runs/composed`` (people and voices of the test clips are in none of the training data),
trains the networks, encoders first, and scores them on two sets: ``varied``, where views are degraded and then may show
another emotion, or are a stranger's (face and voice alone), and ``steady``, where none is.

``face_voice``  recursive joint attention on both views and on each (``recursive_joint_attention__composed*.yaml``),
                beside late fusion: the logits of the two single networks added, with weights fitted on clips like those
                of the set (``tune``, ``steady_tune``)
``face_scene``  CAER cross-attention on both views (``caer_cross_attention__composed.yaml``), and without each view

Temperatures, too, are fitted on ``tune``: clips of faces, and of three training actors, that neither the encoders nor
the networks have learnt from. The encoder of voices learns from eight actors, the networks from clips of five others:
an encoder's features are better for voices that it was trained on than for others, and a network that learns to fuse
from such features trusts voices too much. Intervals are by the actor of a voice, four in the test clips, or by the
person of a face. Records go into ``benchmarks/results``. Nothing is made twice, and a killed run continues.
With ``--shipped`` nothing is trained: the weights of the package are scored on the test clips, made anew where the
generator has another version. Needs the real material (``EMOZOO_SHARED``).
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evidence import trained
from rich.progress import track

from emozoo import files, recipes, registry
from emozoo.benchmark import report, statistics
from emozoo.benchmark.contenders import Contender
from emozoo.benchmark.predict import Predictions, predict
from emozoo.benchmark.records import complete, ends, record
from emozoo.data import datasets
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.manifest import Row
from emozoo.files import resolve_path
from emozoo.labels import BASIC7, canonical
from emozoo.module import EmotionModule
from emozoo.synthemo import Mix, compose
from emozoo.synthemo.compose import VERSION as MADE_BY
from emozoo.zoo import load

JOINT, CAER, CLIPS = "recursive_joint_attention", "caer_cross_attention", Path("runs/composed")
# the recipe whose encoder sees faces, for each pair of views
FACES = {("face", "voice"): "emotion_fan__ferplus_v3", ("face", "scene"): "emotion_fan__ferplus_v2"}
VOICES = f"{JOINT}__composed_voices"
# Training actors of RAVDESS: whose voices the encoder learns from, and whose are in the clips. Odd numbers are men.
ACTORS = {"encoder": range(1, 9), "train": range(9, 14), "tune": range(14, 17)}
# views -> name -> clips, seed, part of the material, how often a view is degraded, how often one is a stranger's
SETS = {
    ("face", "voice"): {
        "train": (3000, 1, "train", 0.4, 0.6), "tune": (420, 4, "tune", 0.4, 0.6),
        "steady_tune": (210, 5, "tune", 0.0, 0.0), "varied": (840, 2, "val", 0.4, 0.6),
        "steady": (560, 3, "val", 0.0, 0.0),
    },
    ("face", "scene"): {
        "train": (3500, 1, "train", 0.5, 0.0), "tune": (420, 4, "tune", 0.5, 0.0),
        "varied": (840, 2, "val", 0.5, 0.0), "steady": (560, 3, "val", 0.0, 0.0),
    },
}  # fmt: skip
VERSION = {("face", "voice"): "v2", ("face", "scene"): "v1"}
# weights of the package, and the controls that take a view away
SHIPPED = {
    ("face", "voice"): (f"{JOINT}.real7_v2", (None, "face-only", "audio-only")),
    ("face", "scene"): (f"{CAER}.real7_v1", (None, "face-only", "context-only")),
}


def material(part: str, views: tuple[str, str]) -> tuple[list[Row], list[Row]]:
    """Faces and voices of a part. ``tune``: faces that the recipe of their encoder holds out of the training part."""
    data = "$EMOZOO_SHARED/data"
    sources = {"ferplus7": f"{data}/ferplus", "csv": f"{data}/faces_lfw5/manifest.csv"}
    faces = [r for name, root in sources.items() for r in datasets.load(name, resolve_path(root))]
    if part == "val":
        faces = [r for r in faces if r.split == part]
    else:
        out = _held_out(FACES[views])
        faces = [r for r in faces if r.split == "train" and (r.path in out) == (part == "tune")]
    return faces, voices(part) if "voice" in views else []


def voices(part: str) -> list[Row]:
    """Recordings of a part: those of its actors; for ``val`` the split ``val`` of RAVDESS's table."""
    rows = datasets.load("csv", resolve_path("$EMOZOO_SHARED/data/ravdess_audio/manifest.csv"))
    if part == "val":
        return [r for r in rows if r.split == part]
    return [r for r in rows if r.split == "train" and int(str(r.group)) in ACTORS[part]]


def voice_table() -> None:
    """Writes the table that the encoder of voices learns from: its own actors, and those that set its temperature."""
    rows = [
        {"path": Path(r.path).resolve(), "label": label, "group": r.group, "split": split}
        for part, split in (("encoder", "train"), ("tune", "val"))
        for r in voices(part)
        if (label := canonical(str(r.label))) in BASIC7
    ]
    files.write_text(CLIPS / "voices" / "manifest.csv", files.csv_text(rows, ("path", "label", "group", "split")))


def _held_out(recipe: str) -> set[str]:
    """Files of the training part that a recipe sets apart."""
    plan = recipes.read(recipe)["data"]
    dm = EmotionDataModule(
        plan["dataset"], plan["root"], spec=registry.model(JOINT).specs["lite"], val_share=plan["val_share"]
    )
    dm.setup("fit")
    return {r.path for r in dm.val_rows}


def folder(views: tuple[str, str]) -> Path:
    """The folder of the sets of a pair of views."""
    return CLIPS / "_".join(views)


def compose_sets(views: tuple[str, str], names: Sequence[str] | None = None) -> None:
    """Composes the sets, all or those named, and writes one table of those that are trained and tuned on."""
    lines: list[str] = []
    for name in names or SETS[views]:
        n, seed, part, spoil, strangers = SETS[views][name]
        faces, recordings = material(part, views)
        ticks = iter(track(range(n), f"composing {' and '.join(views)}, {name}"))

        def progress(done: int, of: int, ticks: Any = ticks) -> None:
            next(ticks, None)

        path = compose(
            folder(views) / name, n, seed, faces=faces, voices=recordings,
            mix=Mix(views, spoil, strangers=strangers), split={"train": "train", "tune": "val"}.get(name, "test"),
            workers=os.cpu_count() or 1, progress=progress,
        )  # fmt: skip
        if name in ("train", "tune"):
            header, *rows = path.read_text(encoding="utf-8").splitlines()
            lines += [f"{name}/{row}" for row in rows]
    if lines:
        files.write_text(folder(views) / "manifest.csv", "\n".join([header, *lines]) + "\n")


def predictions_of(contenders: list[Contender], views: tuple[str, str], part: str) -> Predictions:
    """The predictions of networks on a set, which is read once: the first network's streams include all others'."""
    first = contenders[0].module
    dm = EmotionDataModule(
        "csv", folder(views) / part / "manifest.csv", spec=first.spec, classes=first.classes, batch_size=64,
        num_workers=2, allow_missing=True,
    )  # fmt: skip
    return predict(contenders, dm, "cpu", False)


def late_fusion_weights(a: torch.Tensor, b: torch.Tensor, true: np.ndarray) -> torch.Tensor:
    """The weights (2,) of two networks' logits (N, K) that make clips of the classes (N,) likeliest."""
    weights = torch.ones(2, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=100)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = torch.nn.functional.cross_entropy(weights[0] * a + weights[1] * b, torch.from_numpy(true))
        value.backward()
        return value

    optimiser.step(loss)
    return weights.detach()


def logits_of(predictions: Predictions, contender: int) -> torch.Tensor:
    """The logits (N, K) of a contender."""
    found = predictions.logits[contender]
    assert found is not None
    return found


def records_of(predictions: Predictions, views: tuple[str, str], part: str) -> list[dict[str, Any]]:
    """Records of the networks on a set: the fused one first, then others with ``delta`` = fused minus this one."""
    protocol = f"composed_{'_'.join(views)}_{part}_{VERSION[views]}"
    name = {"dataset": "composed", "protocol": protocol, "protocol_version": MADE_BY, "fold": None, "seed": 1}
    outcomes = [predictions.outcome(v, "train") for v in range(len(predictions.contenders))]
    found = [record(predictions, v, outcome, "train") | name for v, outcome in enumerate(outcomes)]
    for one, outcome in zip(found[1:], outcomes[1:], strict=True):
        one |= difference(outcomes[0], outcome)
    for one, contender in zip(found, predictions.contenders, strict=True):
        if not contender.module.config.get("tag"):
            one["model"] = f"{contender.module.arch}, recipe composed"
    return found


def difference(fused: statistics.Outcome, other: statistics.Outcome) -> dict[str, Any]:
    """``delta`` over the same clips, of the classes alone: late fusion predicts no valence and arousal."""
    only = (statistics.Outcome(o.groups, o.classes, o.confusion) for o in (fused, other))
    delta, interval = statistics.difference(*only)
    return {"delta": complete(delta), "delta_ci95": ends(interval)}


def face_voice_records(
    part: str, both: EmotionModule, face: EmotionModule, voice: EmotionModule
) -> list[dict[str, Any]]:
    """Records of a set: the fused network, it without a view, each view alone, and the two fused late."""
    views = ("face", "voice")
    singles = [Contender(face), Contender(voice)]
    fused_ones = [Contender(both, control) for control in (None, "face-only", "audio-only")]
    predictions = predictions_of([*fused_ones, *singles], views, part)
    found = records_of(predictions, views, part)
    for one, view in zip(found[3:], views, strict=True):
        one["model"] = f"{JOINT}, recipe composed_{view}"
    like = predictions_of([Contender(both), *singles], views, {"varied": "tune", "steady": "steady_tune"}[part])
    weights = late_fusion_weights(logits_of(like, 1), logits_of(like, 2), like.true)
    fused = weights[0] * logits_of(predictions, 3) + weights[1] * logits_of(predictions, 4)
    plain = predictions.outcome(0, "train")
    confusion = np.stack([predictions.true, fused.argmax(1).numpy()], 1)
    outcome = statistics.Outcome(plain.groups, plain.classes, confusion)
    metrics, interval = statistics.evaluate(outcome)
    sure, right = fused.softmax(1).max(1).values.numpy(), confusion[:, 0] == confusion[:, 1]
    found.append(found[3] | {
        "model": "late fusion of composed_face and composed_voice, calibrated",
        "sha256": hashlib.sha256(f"{face.sha256} {voice.sha256}".encode()).hexdigest(),
        "metrics": complete(metrics), "ci95": ends(interval), "per_class": statistics.per_class(outcome),
        "confusion": statistics.matrix(outcome), "ece": statistics.calibration_error(sure, right),
        **difference(plain, outcome),
    })  # fmt: skip
    return found


def face_voice() -> list[dict[str, Any]]:
    """Records of the part ``face_voice``, after composing and training."""
    views = ("face", "voice")
    compose_sets(views)
    voice_table()
    for recipe in (FACES[views], VOICES):
        trained(recipe)
    both, face, voice = (load(trained(f"{JOINT}__composed{x}")) for x in ("", "_face", "_voice"))
    return [r for part in ("varied", "steady") for r in face_voice_records(part, both, face, voice)]


def face_scene() -> list[dict[str, Any]]:
    """Records of the part ``face_scene``, after composing and training."""
    views = ("face", "scene")
    compose_sets(views)
    trained(FACES[views])
    module = load(trained(f"{CAER}__composed"))
    contenders = [Contender(module, c) for c in (None, "face-only", "context-only")]
    return [
        r for part in ("varied", "steady") for r in records_of(predictions_of(contenders, views, part), views, part)
    ]


def shipped(part: str) -> list[dict[str, Any]]:
    """Records of the package's weights for a pair of views: nothing is trained."""
    views = next(v for v in SHIPPED if "_".join(v) == part)
    compose_sets(views, ("varied", "steady"))
    name, controls = SHIPPED[views]
    contenders = [Contender(load(name), control) for control in controls]
    return [r for x in ("varied", "steady") for r in records_of(predictions_of(contenders, views, x), views, x)]


PARTS: dict[str, Callable[[], list[dict[str, Any]]]] = {f.__name__: f for f in (face_voice, face_scene)}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--shipped", action="store_true", help="score the weights of the package; train nothing")
    given = parser.parse_args(argv)
    for part in given.parts or list(PARTS):
        if part not in PARTS:
            parser.error(f"no part {part}; there are {', '.join(PARTS)}")
        records = shipped(part) if given.shipped else PARTS[part]()
        report.save(records, "benchmarks/results")
        tagged = [r for r in records if r["model"] in registry.weights()]
        report.save_classes(tagged, "benchmarks/results/classes.csv")
        report.show(records)


if __name__ == "__main__":
    main()
