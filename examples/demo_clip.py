"""Draws the clip of `make demo`: one person who shows one emotion after the other, with a voice.

python examples/demo_clip.py demo_out/drawn.mp4
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from emozoo.synthemo import VIEWS, Knobs, Rendered, plan, render, write_clip

EMOTIONS = ("happiness", "surprise", "sadness", "anger")
SECONDS = 4.0

path = Path(sys.argv[1])
path.parent.mkdir(parents=True, exist_ok=True)
# Somebody whom the embedded weights have not seen in training, in a place without a mood of its own.
first = plan(
    seed=11, index=1, knobs=Knobs(face=1, voice=1, occlusion=0), split="test", size=(480, 360), seconds=SECONDS, fps=25
)
causes = [replace(first, label=e, shows=tuple("neutral" if v == "scene" else e for v in VIEWS)) for e in EMOTIONS]
parts = [render(cause) for cause in causes]
whole = Rendered(
    frames=np.concatenate([p.frames for p in parts]),
    waveform=np.concatenate([p.waveform for p in parts]),
    rate=parts[0].rate,
    va=np.concatenate([p.va for p in parts]),
    boxes=np.concatenate([p.boxes for p in parts]),
    cause=replace(first, seconds=SECONDS * len(parts)),
)
write_clip(whole, path)
print(f"{path}: {', '.join(EMOTIONS)}, {SECONDS:g} s each")
