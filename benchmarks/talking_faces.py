"""What a network that learned from photographs sees in Java-SED's talking people, each actor on a scale of their own.

    python benchmarks/talking_faces.py

Writes ``runs/talking_faces/teacher.csv``: for each video of the parts train and val the probabilities of seven
emotions, for ``teacher`` of recipes that learn from these videos without their labels. The teacher is
``emotion_fan.ferplus_v3`` on sixteen frames. It takes many talking mouths for happiness and many resting faces for
neutral, whatever they act. Every actor acts the six emotions equally often: that is the design of the data, not the
label of a video. So the mean of an actor's log-probabilities is subtracted, and disgust, which nobody acts, is left
out. An actor's numbers depend on that actor's videos alone, so that one table serves all folds by person.
Needs the real material (``EMOZOO_SHARED``).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from emozoo import files
from emozoo.data.datamodule import EmotionDataModule
from emozoo.files import resolve_path
from emozoo.zoo import load

TEACHER, FRAMES = "emotion_fan.ferplus_v3", 16
SOURCE = "$EMOZOO_SHARED/data/javased_video/manifest.csv"
OUT = Path("runs/talking_faces/teacher.csv")
NOT_ACTED = "disgust"


def main() -> None:
    module = load(TEACHER)
    spec = replace(module.spec, clips=FRAMES, detector="yunet")
    data = EmotionDataModule("csv", resolve_path(SOURCE), spec=spec, split="all", batch_size=8)
    data.setup("test")
    rows, seen = [], []
    with torch.no_grad():
        for batch in data.test_dataloader():
            output = module.output(batch).logits
            assert output is not None
            rows += [data.test_rows[i] for i in batch.rows]
            seen.append(output.log_softmax(1))
    logits = torch.cat(seen)  # (N, 7)
    for actor in {row.group for row in rows}:
        own = torch.tensor([row.group == actor for row in rows])
        logits[own] -= logits[own].mean(0)
    logits[:, module.classes.index(NOT_ACTED)] = -torch.inf
    lines = [
        {"path": row.path, **{c: f"{p:.5f}" for c, p in zip(module.classes, x.tolist(), strict=True)}}
        for row, x in zip(rows, logits.softmax(1), strict=True)
    ]
    files.write_text(OUT, files.csv_text(lines, ("path", *module.classes)))
    print(OUT, len(lines))


if __name__ == "__main__":
    main()
