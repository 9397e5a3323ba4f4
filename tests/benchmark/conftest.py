"""Small drawn images with labels and people, and small networks that were trained on nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from emozoo import hub
from emozoo.labels import BASIC7
from emozoo.module import EmotionModule


@pytest.fixture(scope="session")
def make_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a weights folder of an architecture at size lite, of random numbers from a seed."""

    def make(arch: str, *, seed: int = 0, tag: str = "", classes: Sequence[str] = BASIC7) -> Path:
        torch.manual_seed(seed)
        module = EmotionModule(arch, size="lite", classes=list(classes))
        folder = tmp_path_factory.mktemp("weights") / f"{arch}{seed}"
        config = {
            "arch": arch,
            "tag": tag,
            "wiring": module.wiring,
            "size": "lite",
            "classes": list(classes),
            "options": {},
            "spec": module.spec.to_dict(),
            "tau": 1.0,
            "licence": "Apache-2.0",
            "trained_on": "nothing",
            "seed": 5,
        }
        if classes:
            config["log_prior"] = [-3.0, -3.0, -3.0, -3.0, -3.0, -3.0, -0.5]
        hub.save(folder, module.net.state_dict(), config, "card", half=False)
        return folder

    return make


@pytest.fixture(scope="session")
def weights(make_weights: Callable[..., Path]) -> Path:
    """A small network with weights and a class prior."""
    return make_weights("emotion_fan")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """21 images of seven people, three a class; two further lines are not scored."""
    r = np.random.default_rng(0)
    lines = ["path,label,split,actor,x1,y1,x2,y2"]
    for i in range(23):
        cv2.imwrite(str(tmp_path / f"{i}.png"), r.integers(0, 255, (48, 48, 3), dtype=np.uint8))
        lines.append(f"{i}.png,{BASIC7[i % 7] if i < 21 else ''},test,p{i // 3},0,0,47,47")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def with_va(data: Path) -> Path:
    """The same images with valence and arousal beside their classes."""
    table = (data / "manifest.csv").read_text().splitlines()
    lines = [f"{table[0]},valence,arousal", *(f"{line},{i / 30:.2f},{-i / 25:.2f}" for i, line in enumerate(table[1:]))]
    (data / "manifest.csv").write_text("\n".join(lines[:22]) + "\n")
    return data


@pytest.fixture
def folded(data: Path) -> Path:
    """The same images without a split, in three folds of whole people."""
    table = (data / "manifest.csv").read_text().splitlines()
    lines = [table[0].replace("split", "fold")]
    for line in table[1:]:
        cells = line.split(",")
        cells[2] = str(int(cells[3][1:]) % 3)
        lines.append(",".join(cells))
    (data / "manifest.csv").write_text("\n".join(lines) + "\n")
    return data
