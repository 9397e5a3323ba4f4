"""Faces and voices of real people in composed clips: fused, each alone, and fused late.

    python benchmarks/composed.py

Composes the clips below ``runs/composed`` (people and voices of the test clips are in none of the training data),
trains recursive joint attention on both views and on each alone (``recursive_joint_attention__composed*.yaml``; the
encoder of voices first), and asks all of them about two sets: ``varied``, where views are spoilt and then may tell
something else, and ``steady``, where none is. Late fusion is the calibrated answers of the two single networks
together: weights of their logits fitted on training clips that were held out. Records go into ``benchmarks/results``.
What is there is not made again, and a killed run goes on. Needs the real material (``EMOZOO_SHARED``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evidence import trained
from rich.progress import track

from emozoo.benchmark import report, statistics
from emozoo.benchmark.answers import Said, Voice, read
from emozoo.benchmark.run import complete, ends, record
from emozoo.data import datasets
from emozoo.data.datamodule import EmotionDataModule, place
from emozoo.data.manifest import Row
from emozoo.data.synthetic import Mix, compose
from emozoo.module import EmotionModule, load

ARCH, CLIPS = "recursive_joint_attention", Path("runs/composed")
TRAIN, TEST = 6000, 1050
VARIED, STEADY = Mix(spoil=0.5), Mix(spoil=0.0)
SETS = {"face_voice_train": (TRAIN, 1, "train", VARIED), "face_voice_varied": (TEST, 2, "val", VARIED),
        "face_voice_steady": (TEST, 3, "val", STEADY)}  # fmt: skip


def rows(named: list[tuple[str, str]], split: str) -> list[Row]:
    return [r for name, root in named for r in datasets.load(name, place(root)) if r.split == split]


def clips() -> None:
    """Composes the three sets."""
    data = "$EMOZOO_SHARED/data"
    for name, (n, seed, split, mix) in SETS.items():
        faces = rows([("ferplus7", f"{data}/ferplus"), ("csv", f"{data}/faces_lfw5/manifest.csv")], split)
        voices = rows([("csv", f"{data}/ravdess_audio/manifest.csv")], split)
        bar = track(range(n), f"composing {name}")
        ticks = iter(bar)

        def progress(done: int, of: int, ticks: Any = ticks) -> None:
            next(ticks, None)

        compose(
            CLIPS / name, n, seed, faces=faces, voices=voices, mix=mix, split="train" if split == "train" else "test",
            workers=os.cpu_count() or 1, progress=progress,
        )  # fmt: skip


def asked(module: EmotionModule, part: str, controls: tuple[str, ...] = ()) -> Said:
    """What a network, and the same with input taken away, says of a set."""
    dm = EmotionDataModule(
        "csv", CLIPS / part / "manifest.csv", spec=module.spec, classes=module.classes, batch_size=64, num_workers=2,
        allow_missing=True,
    )  # fmt: skip
    return read([Voice(module), *(Voice(module, c) for c in controls)], dm, "cpu", False)


def held_out(module: EmotionModule) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Ids, logits (N, K) and classes (N,) of the training clips that a recipe sets apart."""
    dm = EmotionDataModule(
        "csv", CLIPS / "face_voice_train" / "manifest.csv", spec=module.spec, classes=module.classes, val_share=0.05,
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
    """The weights (2,) of the two networks' logits that make held-out training clips likeliest."""
    (ids, a, true), (other, b, _) = held_out(face), held_out(voice)
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


def measured(part: str, both: EmotionModule, face: EmotionModule, voice: EmotionModule) -> list[dict[str, Any]]:
    """Records of a set: the fused network, it without a view, each view alone, and the two fused late."""
    said = asked(both, part, ("face-only", "audio-only"))
    plain = said.outcome(0, "train")
    name = {"dataset": "composed", "protocol": f"composed_{part}_v1", "fold": None, "seed": 1}
    found = []
    for v in range(3):
        outcome = said.outcome(v, "train")
        found.append(record(said, v, outcome, "train") | name | {"model": f"{ARCH}, recipe composed"})
        _compared(found[-1], plain, outcome, v > 0)
    singles = [asked(m, part) for m in (face, voice)]
    for one, view in zip(singles, ("face", "voice"), strict=True):
        outcome = one.outcome(0, "train")
        found.append(record(one, 0, outcome, "train") | name | {"model": f"{ARCH}, recipe composed_{view}"})
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
        "model": "late fusion of composed_face and composed_voice, calibrated", "sha256": "",
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


def main() -> None:
    clips()
    both, face, voice = (load(trained(f"{ARCH}__composed{x}")) for x in ("", "_face", "_voice"))
    records = [r for part in SETS if part != "face_voice_train" for r in measured(part, both, face, voice)]
    report.save(records, "benchmarks/results")
    report.show(records)


if __name__ == "__main__":
    main()
