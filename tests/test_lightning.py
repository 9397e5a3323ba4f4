"""What a user of Lightning and of the hub's own classes expects of a module: any file, any Trainer, any call."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import emozoo
from emozoo import hub
from emozoo.data.clips import Batch
from emozoo.data.datamodule import EmotionDataModule
from emozoo.errors import UnknownModelError, UsageError, WeightsError
from emozoo.module import EmotionModule, load

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = {"backbone": "vgg_tiny"}
X = {"face": torch.rand(2, 3, 3, 3, 48, 48, generator=torch.Generator().manual_seed(0))}
PRIOR = [-1.0, -3.0, -3.0, -2.0, -1.0, -4.0, -2.0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A weights folder of a small network, with a class prior and a temperature."""
    torch.manual_seed(0)
    module = EmotionModule("ceflnet", size="lite", options=OPTIONS)
    config = {
        "schema": 1, "arch": "ceflnet", "tag": "", "wiring": "stable", "size": "lite", "classes": list(module.classes),
        "tasks": ["emotion"], "options": OPTIONS, "spec": module.spec.to_dict(), "tau": 1.0, "log_prior": PRIOR,
        "temperature": 2.0, "trained_on": "drawings", "licence": "MIT", "limits": [], "recipe": "",
    }  # fmt: skip
    hub.save(tmp_path / "w", module.net.state_dict(), config, "card\n", half=False)
    return tmp_path / "w"


# -- the file that was named is the file that is read ----------------------------------------------------------------


def zeros(folder: Path, name: str) -> Path:
    """Another file in a weights folder: the same tensors, all zero."""
    state = load_file(folder / hub.WEIGHTS)
    save_file({k: torch.zeros_like(v) for k, v in state.items()}, folder / name)
    return folder / name


def sums(module: torch.nn.Module) -> float:
    return sum(float(p.detach().abs().sum()) for p in module.parameters())


@pytest.mark.parametrize("name", ["other.safetensors", "MODEL.SAFETENSORS", "epoch=3.safetensors", "weights"])
@pytest.mark.parametrize("way", ["load", "weights", "path"])
def test_a_named_file_is_the_file_that_is_read(folder: Path, name: str, way: str) -> None:
    """Protects from other weights than those that were asked for: the file's own tensors, name and hash."""
    file = zeros(folder, name)
    with pytest.warns(UserWarning, match="class prior and temperature"):
        match way:
            case "load":
                module = load(str(file))
            case "weights":
                module = load("ceflnet", weights=file)
            case _:
                module = load(file)
    assert sums(module) == 0
    assert module.name == str(file)
    assert module.sha256 == hub.sha256_of(file.read_bytes()) == module.config["sha256"]
    # Prior, temperature, origin and licence are those of other weights.
    assert float(module.temperature) == 1.0
    assert not module.log_prior.any()
    assert "drawings" not in json.dumps(dict(module.config))
    assert sums(load(folder)) > 0


def test_a_copy_of_the_weights_is_what_its_config_says(folder: Path, tmp_path: Path) -> None:
    """The same bytes under another name or behind a link keep prior and temperature, without a warning."""
    shutil.copy(folder / hub.WEIGHTS, folder / "copy.safetensors")
    (tmp_path / "link.safetensors").symlink_to(folder / "copy.safetensors")
    (tmp_path / "elsewhere").symlink_to(folder / hub.WEIGHTS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for file in (folder / "copy.safetensors", tmp_path / "link.safetensors", tmp_path / "elsewhere"):
            module = load(file)
            assert module.sha256 == load(folder).sha256
            assert module.name == str(file)
            assert float(module.temperature) == 2.0


def test_a_link_to_another_file_is_that_file(folder: Path) -> None:
    """A link named like another network's weights, and one in another folder, give what they point to."""
    file = zeros(folder, "other.safetensors")
    for link in (folder / "best.safetensors", folder.parent / "best.safetensors"):
        link.symlink_to(file)
        with pytest.warns(UserWarning, match="config.json"):
            assert sums(load(link)) == 0


def test_a_file_named_like_a_model_is_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ceflnet.safetensors`` in the working folder is no tag of ceflnet."""
    zeros(folder, "ceflnet.safetensors")
    monkeypatch.chdir(folder)
    with pytest.warns(UserWarning, match="config.json"):
        assert sums(load("ceflnet.safetensors")) == 0


def test_a_file_that_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    """Without a config beside it nobody knows the network; other tensors, damage and pickles are errors."""
    (tmp_path / "alone").mkdir()
    alone = shutil.copy(folder / hub.WEIGHTS, tmp_path / "alone" / "x.safetensors")
    with pytest.raises(WeightsError, match=r"x\.safetensors: no config\.json beside it"):
        load(alone)
    save_file({"a": torch.zeros(1)}, folder / "a.safetensors")
    with pytest.raises(WeightsError, match=r"a\.safetensors: does not fit ceflnet"):
        load(folder / "a.safetensors")
    (folder / "b.safetensors").write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        load(folder / "b.safetensors")
    torch.save({}, folder / "c.safetensors")
    with pytest.raises(WeightsError, match="pickled"):
        load(folder / "c.safetensors")
    with pytest.raises(WeightsError, match="no such weights file"):
        load(folder / "missing.safetensors")
    (folder / hub.WEIGHTS).write_bytes((folder / "a.safetensors").read_bytes())
    with pytest.raises(WeightsError, match="sha256"):  # the config's own file has to be the config's
        load(folder / hub.WEIGHTS)
    with pytest.raises(UsageError, match="names a repository"):
        load("hf://acme/mine/other.safetensors")
    with pytest.raises(UsageError, match="names a repository"):
        load("hf://acme/mine@main/other.safetensors")


def share_encoder(folder: Path) -> Path:
    """Weights beside ``folder`` that leave their encoder to tagged weights."""
    owner = shutil.copytree(folder, folder.parent / "ceflnet.mine_v1")
    config = json.loads((owner / hub.CONFIG).read_text()) | {"tag": "mine_v1"}
    (owner / hub.CONFIG).write_text(json.dumps(config))
    part = {"weights": "ceflnet.mine_v1", "part": "backbone", "sha256": config["sha256"]}
    own = {k: v for k, v in load_file(folder / hub.WEIGHTS).items() if not k.startswith("backbone.")}
    config = {k: v for k, v in config.items() if k != "sha256"} | {"tag": "", "parts": {"backbone": part}}
    hub.save(folder.parent / "sharer", own, config, "card\n", half=False)
    return folder.parent / "sharer"


def test_a_named_file_without_its_encoder_takes_the_shared_one(folder: Path) -> None:
    """Files that share an encoder are whole under other names too; a file with an encoder of its own keeps that."""
    sharer = share_encoder(folder)
    expected = load(folder)(X).logits
    assert torch.equal(load(sharer / hub.WEIGHTS)(X).logits, expected)
    file = zeros(sharer, "other.safetensors")
    with pytest.warns(UserWarning, match="config.json"):
        found = load(file).net.state_dict()
    assert all(bool(v.any()) == k.startswith("backbone.") for k, v in found.items() if "weight" in k)
    whole = {k: torch.zeros_like(v) for k, v in load_file(folder / hub.WEIGHTS).items()}
    save_file(whole, sharer / "whole.safetensors")
    with pytest.warns(UserWarning, match="config.json"):
        assert sums(load(sharer / "whole.safetensors")) == 0


def test_training_starts_from_the_named_file(folder: Path) -> None:
    """``init_from`` and ``teacher`` read the file that they name, shared parts included."""
    sharer = share_encoder(folder)
    for file, zero in ((sharer / hub.WEIGHTS, False), (zeros(folder, "other.safetensors"), True)):
        module = EmotionModule("ceflnet", size="lite", options=OPTIONS, init_from=str(file))
        assert (sums(module.net.get_submodule("backbone")) == 0) == zero
    (folder / hub.WEIGHTS).write_bytes((folder / "other.safetensors").read_bytes())
    with pytest.raises(WeightsError, match="sha256"):
        EmotionModule("ceflnet", size="lite", options=OPTIONS, init_from=str(folder / hub.WEIGHTS))


# -- names of weights wherever a path is taken -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["emotion_fan.ferplus_v3", "emotion_fan.ferplus", "emotion_fan"])
def test_training_starts_from_a_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of weights works in every folder, and SaveWeights still knows whose parts these are."""
    from emozoo.train import _unchanged

    monkeypatch.chdir(tmp_path)
    owner = load(name)
    module = EmotionModule(
        "ceflnet", size="lite", options={"backbone": owner.hparams["options"]["backbone"]}, init_from=name,
        spec={"streams": owner.spec.to_dict()["streams"], **{k: v for k, v in owner.spec.to_dict().items()}},
    )  # fmt: skip
    theirs = owner.net.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in module.net.state_dict().items() if k.startswith("backbone."))
    assert _unchanged(module.net, "backbone", module.starts(), half=True) == {
        "weights": "emotion_fan.ferplus_v3", "part": "backbone", "sha256": owner.sha256,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("emotion_fan.ferplsu_v3", UnknownModelError, "did you mean 'emotion_fan.ferplus_v3'"),
        ("caer_net_s", WeightsError, "no weights yet"),
        ("checkpoints/emotion_fan.ferplus_v3", WeightsError, "init_from: emotion_fan.ferplus_v3"),
        ("nowhere/x", WeightsError, "no such weights"),
    ],
)
def test_a_start_that_is_not_there_says_what_to_write(
    name: str, error: type[Exception], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt name, a model without weights and a path of another folder are said before anything is read."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=said):
        EmotionModule("ceflnet", size="lite", init_from=name)


def test_recipes_name_weights_and_no_folders_of_a_checkout() -> None:
    """Protects recipes in an installed wheel, where there is no folder ``checkpoints``."""
    for path in (ROOT / "benchmarks" / "recipes").glob("*.yaml"):
        assert "checkpoints/" not in path.read_text(encoding="utf-8"), path.name
