"""The Recognizer that predicts by name, and the Lightning module that `emozoo.load` gives: one network, one result."""

from __future__ import annotations

import lightning
import numpy as np
import pytest
import torch

import emozoo
from emozoo import weights
from emozoo.recognizer import Recognizer
from emozoo.synthemo import Knobs, plan, render


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    """A second of one drawn person, (144, 192, 3) each."""
    return list(render(plan(3, 0, Knobs(), size=(192, 144), seconds=1.0, fps=25)).frames)


@pytest.mark.parametrize("name", ["caer_cross_attention", "ceflnet", "dfan", "recursive_joint_attention"])
def test_a_name_predicts_as_its_module_does(name: str, frames: list[np.ndarray]) -> None:
    """Protects `emozoo.predict(..., "name")`, which loads no Lightning, from numbers other than `emozoo.load`'s."""
    by_name = emozoo.predict(frames, name, detector="cascade")
    assert by_name.scores
    assert by_name.to_json() == emozoo.predict(frames, emozoo.load(name), detector="cascade").to_json()


@pytest.mark.parametrize("name", ["ceflnet", "recursive_joint_attention"])
def test_a_module_is_a_recognizer_that_lightning_trains(name: str) -> None:
    """Protects the contract of `emozoo.load`, a LightningModule, and that both hold the same weights and facts."""
    module, plain = emozoo.load(name), Recognizer.from_weights(weights.find(name))
    assert isinstance(module, lightning.LightningModule)
    assert isinstance(module, Recognizer)
    assert not isinstance(plain, lightning.LightningModule)
    for fact in ("name", "sha256", "arch", "wiring", "size", "classes", "spec", "tasks", "prior", "config", "flips"):
        assert getattr(module, fact) == getattr(plain, fact), fact
    theirs = plain.state_dict()
    assert module.state_dict().keys() == theirs.keys()
    assert all(torch.equal(v, theirs[k]) for k, v in module.state_dict().items())
    assert not plain.training
    assert plain.device == module.device == torch.device("cpu")
