"""What the command line tests share: a weights folder, small media made on the spot, and the command itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import Warm
from media_files import write_video


class Done:
    """A finished command: ``code``, ``out``, ``err``, and its standard output as JSON lines."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(scope="session")
def emozoo(warm: Warm) -> Callable[..., Done]:
    """``emozoo(*arguments)`` in a process of its own."""

    def run(*arguments: object) -> Done:
        done = warm.run(*arguments)
        return Done(done.code, done.out, done.err)

    return run


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``folder_of(arch)``: a weights folder of a small network that has learned nothing, as training writes them."""
    import torch

    from emozoo import hub
    from emozoo.module import EmotionModule

    made: dict[str, Path] = {}

    def make(arch: str) -> Path:
        if arch not in made:
            torch.manual_seed(0)
            module = EmotionModule(arch, size="lite").eval()
            config = {
                "schema": 1, "arch": arch, "tag": "", "wiring": module.wiring, "size": "lite",
                "classes": list(module.classes), "options": {}, "spec": module.spec.to_dict(), "licence": "Apache-2.0",
                "trained_on": "nothing",
            }  # fmt: skip
            made[arch] = tmp_path_factory.mktemp("weights") / arch
            hub.save(made[arch], module.net.state_dict(), config, "Trained on nothing.\n", half=False)
        return made[arch]

    return make


@pytest.fixture(scope="session")
def person() -> tuple[list[np.ndarray], np.ndarray]:
    """Frames (144, 192, 3) of one drawn person at 10 a second, and the voice at 16 kHz."""
    from emozoo.synthemo import Knobs, plan, render

    shown = render(plan(3, 0, Knobs(), size=(192, 144), seconds=2.0, fps=10))
    return list(shown.frames), shown.waveform


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory, person: tuple[list[np.ndarray], np.ndarray]) -> Path:
    """A folder with one file of each kind: face, two faces, no face, an image, audio alone, and what is no video."""
    folder = tmp_path_factory.mktemp("media")
    frames, audio = person
    write_video(folder / "face.mp4", frames, audio=audio)
    (folder / "inner").mkdir()
    write_video(folder / "inner" / "long.mp4", (frames + frames[::-1]) * 2)  # 8 s: longer than a window
    write_video(folder / "two.mp4", [np.concatenate([f, f[:, ::-1]], axis=1) for f in frames])
    ramp = np.broadcast_to(np.linspace(40, 200, 192, dtype=np.uint8)[None, :, None], (144, 192, 3))
    write_video(folder / "no_face.mp4", [np.ascontiguousarray(ramp)] * 20)
    from PIL import Image

    Image.fromarray(frames[0]).save(folder / "picture.png")
    (folder / "broken.mp4").write_bytes(b"this is no video")
    (folder / "notes.txt").write_text("no media")
    return folder
