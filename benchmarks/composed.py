"""Faces and voices of real people in composed clips: two views fused, each alone, and fused late.

    python benchmarks/composed.py [face_voice] [face_scene]

Composes the clips below ``runs/composed`` (people and voices of the test clips are in none of the training data),
trains the networks that look at them, encoders first, and asks them about two sets: ``varied``, where views are spoilt
and then may tell something else, and ``steady``, where none is.

``face_voice``  recursive joint attention on both views and on each (``recursive_joint_attention__composed*.yaml``),
                beside late fusion: the answers of the two single networks together, their weights fitted on ``tune``
``face_scene``  CAER cross-attention on both views (``caer_cross_attention__composed.yaml``), and it without each

Temperatures, too, are fitted on ``tune``: clips of faces, and of two training actors, that neither the encoders nor the
networks have learnt from. Intervals are by the actor of a voice, four in the test clips, or by the person of a face.
Records go into ``benchmarks/results``. What is there is not made again, and a killed run goes on. Needs the real
material (``EMOZOO_SHARED``).
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
import yaml
from evidence import trained
from rich.progress import track

from emozoo import registry
from emozoo.benchmark import report, statistics
from emozoo.benchmark.answers import Said, Voice, read
from emozoo.benchmark.run import complete, ends, record
from emozoo.data import datasets
from emozoo.data.datamodule import EmotionDataModule, place
from emozoo.data.manifest import Row
from emozoo.data.synthetic import Mix, compose
from emozoo.module import EmotionModule, load

JOINT, CAER, CLIPS = "recursive_joint_attention", "caer_cross_attention", Path("runs/composed")
# views -> recipes whose encoders see or hear them
ENCODERS = {
    ("face", "voice"): ("emotion_fan__ferplus_v2", f"{JOINT}__ravdess_voices"),
    ("face", "scene"): ("emotion_fan__ferplus_v2",),
}
# name -> clips, seed, part of the material, how often a view is spoilt
SETS = {
    "train": (3500, 1, "train", 0.5), "tune": (420, 4, "tune", 0.5), "varied": (840, 2, "val", 0.5),
    "steady": (560, 3, "val", 0.0),
}  # fmt: skip


def material(part: str, views: tuple[str, str]) -> tuple[list[Row], list[Row]]:
    """Faces and voices of a part. ``tune``: what the recipes of the encoders hold out of the training part."""
    data = "$EMOZOO_SHARED/data"
    sources = {"ferplus7": f"{data}/ferplus", "csv": f"{data}/faces_lfw5/manifest.csv"}
    faces = [r for name, root in sources.items() for r in datasets.load(name, place(root))]
    voices = list(datasets.load("csv", place(f"{data}/ravdess_audio/manifest.csv"))) if "voice" in views else []
    if part == "val":
        return [r for r in faces if r.split == part], [r for r in voices if r.split == part]
    out = set().union(*(_held_out(recipe) for recipe in ENCODERS[views]))
    kept = [[r for r in rows if r.split == "train" and (r.path in out) == (part == "tune")] for rows in (faces, voices)]
    return kept[0], kept[1]


def _held_out(recipe: str) -> set[str]:
    """Files of the training part that a recipe sets apart."""
    plan = yaml.safe_load((Path("benchmarks/recipes") / f"{recipe}.yaml").read_text(encoding="utf-8"))["data"]
    dm = EmotionDataModule(
        plan["dataset"], plan["root"], spec=registry.model(JOINT).specs["lite"], val_share=plan["val_share"]
    )
    dm.setup("fit")
    return {r.path for r in dm.val_rows}


def folder(views: tuple[str, str]) -> Path:
    return CLIPS / "_".join(views)


def clips(views: tuple[str, str]) -> None:
    """Composes the sets, and writes one table of those that are trained and tuned on."""
    lines: list[str] = []
    for name, (n, seed, part, spoil) in SETS.items():
        faces, voices = material(part, views)
        ticks = iter(track(range(n), f"composing {' and '.join(views)}, {name}"))

        def progress(done: int, of: int, ticks: Any = ticks) -> None:
            next(ticks, None)

        path = compose(
            folder(views) / name, n, seed, faces=faces, voices=voices, mix=Mix(views, spoil),
            split={"train": "train", "tune": "val"}.get(name, "test"), workers=os.cpu_count() or 1, progress=progress,
        )  # fmt: skip
        if name in ("train", "tune"):
            header, *rows = path.read_text(encoding="utf-8").splitlines()
            lines += [f"{name}/{row}" for row in rows]
    report.write_text("\n".join([header, *lines]) + "\n", folder(views) / "manifest.csv")


def asked(module: EmotionModule, views: tuple[str, str], part: str, controls: tuple[str, ...] = ()) -> Said:
    """What a network, and the same with input taken away, says of a set."""
    dm = EmotionDataModule(
        "csv", folder(views) / part / "manifest.csv", spec=module.spec, classes=module.classes, batch_size=64,
        num_workers=2, allow_missing=True,
    )  # fmt: skip
    return read([Voice(module), *(Voice(module, c) for c in controls)], dm, "cpu", False)


def tuned_on(module: EmotionModule) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Ids, logits (N, K) and classes (N,) of ``tune``."""
    dm = EmotionDataModule(
        "csv", folder(("face", "voice")) / "manifest.csv", spec=module.spec, classes=module.classes, val_share=0.0,
        batch_size=64, num_workers=2,
    )  # fmt: skip
    dm.setup("fit")
    ids: list[str] = []
    logits, true = [], []
    with torch.no_grad():
        for batch in dm.val_dataloader():
            ids += batch.meta["id"]
            logits.append(module.eval().output(batch).logits)
            true.append(batch.targets["emotion"])
    return ids, torch.cat(logits), torch.cat(true)


def late(face: EmotionModule, voice: EmotionModule) -> torch.Tensor:
    """The weights (2,) of the two networks' logits that make the clips of ``tune`` likeliest."""
    (ids, a, true), (other, b, _) = tuned_on(face), tuned_on(voice)
    assert ids == other
    weights = torch.ones(2, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=100)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = torch.nn.functional.cross_entropy(weights[0] * a + weights[1] * b, true)
        value.backward()
        return value

    optimiser.step(loss)
    return weights.detach()


def alone(
    module: EmotionModule, views: tuple[str, str], part: str, controls: tuple[str, str]
) -> tuple[list[dict[str, Any]], statistics.Outcome]:
    """Records of a network on a set, with both views and without each; and what it answers with both."""
    said = asked(module, views, part, controls)
    plain = said.outcome(0, "train")
    name = {"dataset": "composed", "protocol": f"composed_{'_'.join(views)}_{part}_v1", "fold": None, "seed": 1}
    if not module.config.get("tag"):
        name["model"] = f"{module.arch}, recipe composed"
    found = []
    for v in range(3):
        outcome = said.outcome(v, "train")
        found.append(record(said, v, outcome, "train") | name)
        _compared(found[-1], plain, outcome, v > 0)
    return found, plain


def measured(part: str, both: EmotionModule, face: EmotionModule, voice: EmotionModule) -> list[dict[str, Any]]:
    """Records of a set: the fused network, it without a view, each view alone, and the two fused late."""
    views = ("face", "voice")
    found, plain = alone(both, views, part, ("face-only", "audio-only"))
    name = {k: found[0][k] for k in ("dataset", "protocol", "fold", "seed")}
    singles = [asked(m, views, part) for m in (face, voice)]
    for one, view in zip(singles, ("face", "voice"), strict=True):
        outcome = one.outcome(0, "train")
        found.append(record(one, 0, outcome, "train") | name | {"model": f"{JOINT}, recipe composed_{view}"})
        _compared(found[-1], plain, outcome, True)
    weights = late(face, voice)
    logits = sum(w * one.logits[0] for w, one in zip(weights, singles, strict=True) if one.logits[0] is not None)
    assert isinstance(logits, torch.Tensor)
    assert plain.confusion is not None
    said_late = np.stack([plain.confusion[:, 0], logits.argmax(1).numpy()], 1)
    outcome = statistics.Outcome(plain.groups, plain.classes, said_late)
    metrics, interval = statistics.evaluate(outcome)
    confidence, right = logits.softmax(1).max(1).values.numpy(), said_late[:, 0] == said_late[:, 1]
    found.append(found[3] | {
        "model": "late fusion of composed_face and composed_voice, calibrated",
        "sha256": hashlib.sha256(f"{face.sha256} {voice.sha256}".encode()).hexdigest(),
        "metrics": complete(metrics), "ci95": ends(interval), "per_class": statistics.per_class(outcome),
        "confusion": statistics.matrix(outcome), "ece": statistics.calibration_error(confidence, right),
    })  # fmt: skip
    _compared(found[-1], plain, outcome, True)
    return found


def _compared(found: dict[str, Any], plain: statistics.Outcome, outcome: statistics.Outcome, other: bool) -> None:
    """Adds ``delta`` = fused minus this one, over the same clips."""
    if other:
        only = statistics.Outcome(plain.groups, plain.classes, plain.confusion)
        own = statistics.Outcome(outcome.groups, outcome.classes, outcome.confusion)
        delta, interval = statistics.difference(only, own)
        found |= {"delta": complete(delta), "delta_ci95": ends(interval)}


def face_voice() -> list[dict[str, Any]]:
    clips(("face", "voice"))
    for recipe in ENCODERS["face", "voice"]:
        trained(recipe)
    both, face, voice = (load(trained(f"{JOINT}__composed{x}")) for x in ("", "_face", "_voice"))
    return [r for part in ("varied", "steady") for r in measured(part, both, face, voice)]


def face_scene() -> list[dict[str, Any]]:
    views = ("face", "scene")
    clips(views)
    for recipe in ENCODERS[views]:
        trained(recipe)
    module = load(trained(f"{CAER}__composed"))
    return [r for part in ("varied", "steady") for r in alone(module, views, part, ("face-only", "context-only"))[0]]


PARTS: dict[str, Callable[[], list[dict[str, Any]]]] = {f.__name__: f for f in (face_voice, face_scene)}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; default: all")
    for part in parser.parse_args(argv).parts or list(PARTS):
        if part not in PARTS:
            parser.error(f"no part {part}; there are {', '.join(PARTS)}")
        records = PARTS[part]()
        report.save(records, "benchmarks/results")
        shipped = [r for r in records if r["model"] in registry.weights()]
        report.save_classes(shipped, "benchmarks/results/classes.csv")
        report.show(records)


if __name__ == "__main__":
    main()
