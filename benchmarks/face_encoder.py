"""The face encoder that embedded face weights share, from the beginning: three teachers, then the network they teach.

    python benchmarks/face_encoder.py            checkpoints/emotion_fan.ferplus_v3

Fetches the face recogniser that the teachers start from (``face_identity_weights.py``), trains them with three seeds
(recipe ``emotion_fan__ferplus_teacher``) and then the encoder (``emotion_fan__ferplus_v3``). What is there is not
made again. Needs the real material (``EMOZOO_SHARED``); meant for an accelerator.
"""

from __future__ import annotations

from pathlib import Path

import face_identity_weights
from evidence import RUNS, trained
from folds import saved_elsewhere

from emozoo import hub
from emozoo.train import train

TEACHER, SEEDS = "emotion_fan__ferplus_teacher", (1, 2, 3)


def teacher(seed: int) -> Path:
    """The folder of one teacher's weights, which is trained first where they are missing."""
    folder = RUNS / TEACHER / f"seed{seed}"
    if not (folder / hub.CONFIG).is_file():
        train(["--config", TEACHER, "--seed_everything", str(seed), *saved_elsewhere(TEACHER, folder)])
    return folder


def main() -> None:
    face_identity_weights.main()
    for seed in SEEDS:
        teacher(seed)
    print(trained("emotion_fan__ferplus_v3"))


if __name__ == "__main__":
    main()
