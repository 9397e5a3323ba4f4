"""The examples of the page: drawn people, so that nobody's face is shown. Each is drawn when it is first asked for."""

from __future__ import annotations

import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from emozoo.files import replacing
from emozoo.synthemo import VIEWS, Knobs, Rendered, plan, render, write_clip

EMOTIONS = ("happiness", "surprise", "sadness", "anger")
SECONDS, FPS, SIZE = 4.0, 12.5, (384, 288)
# What stands on the button: the file that is drawn.
FILES = {"Video": "drawn_person.mp4", "Image": "drawn_face.png", "Voice": "drawn_voice.wav"}
MODELS = {"Voice": "recursive_joint_attention"}  # for a sample that not every model can predict


def sample(name: str, folder: Path) -> Path:
    """The file of a sample in ``folder``, drawn if it is not there; ``name`` is a key of :data:`FILES`."""
    path = folder / FILES[name]
    if not path.is_file():
        folder.mkdir(exist_ok=True)
        clip = _person()
        if path.suffix == ".mp4":
            write_clip(clip, path)
        elif path.suffix == ".png":
            with replacing(path) as part:
                Image.fromarray(clip.frames[len(clip.frames) // 8]).save(part)
        else:
            with replacing(path) as part, wave.open(str(part), "wb") as out:
                out.setnchannels(1)
                out.setsampwidth(2)
                out.setframerate(clip.rate)
                out.writeframes((clip.waveform * 32767).astype("<i2").tobytes())
    return path


def _person() -> Rendered:
    """One person, whom the embedded weights have not seen, who shows and voices the emotions one after the other."""
    knobs = Knobs(face=1, voice=1, occlusion=0, motion=0)
    person = plan(seed=20, index=1, knobs=knobs, split="test", size=SIZE, seconds=SECONDS, fps=FPS)
    shown = [replace(person, label=e, shows=tuple("neutral" if v == "scene" else e for v in VIEWS)) for e in EMOTIONS]
    parts = [render(cause) for cause in shown]
    return Rendered(
        frames=np.concatenate([p.frames for p in parts]),
        waveform=np.concatenate([p.waveform for p in parts]),
        rate=parts[0].rate,
        va=np.concatenate([p.va for p in parts]),
        boxes=np.concatenate([p.boxes for p in parts]),
        cause=replace(person, seconds=SECONDS * len(parts)),
    )
