"""Scripts of version 0.1 go on working for one version: old names and arguments, and what they say."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from emozoo import moved
from emozoo.callbacks import SaveWeights
from emozoo.data.datamodule import EmotionDataModule
from emozoo.errors import UsageError
from emozoo.spec import AudioSpec, ClipSpec, StreamSpec
from emozoo.train import train


@pytest.mark.parametrize("old", moved._NEW_NAMES)
def test_old_names_work_and_say_where_they_are(old: str) -> None:
    """An import of 0.1 gives the very object that the new name stands for."""
    new = moved._NEW_NAMES[old]
    (module, _, name), (home, _, word) = old.rpartition("."), new.rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"{name} is {new} now"):
        found = getattr(import_module(module), name)
    assert found is getattr(import_module(home), word)


def test_names_that_never_were_are_no_attributes() -> None:
    """A typing error is told as by any other module."""
    with pytest.raises(AttributeError, match=r"module 'emozoo\.hub' has no attribute 'hoem'"):
        _ = import_module("emozoo.hub").hoem


def test_old_arguments_work_and_name_the_new_ones() -> None:
    """Specs and callbacks written for 0.1; both names at once are refused, since one would be lost silently."""
    with pytest.warns(DeprecationWarning, match="place= is now position="):
        stream = StreamSpec("face", (48, 48), place="all")  # type: ignore[call-arg]
    assert stream == StreamSpec("face", (48, 48), position="all")
    with pytest.warns(DeprecationWarning, match="centre= is now cmn="):
        assert AudioSpec(centre=True) == AudioSpec(cmn=True)  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match="share= is now shared_parts="):
        assert SaveWeights(share=["backbone"]).shared_parts == ["backbone"]  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"place= is now position=, give it once"):
        StreamSpec("face", (48, 48), place="all", position="all")  # type: ignore[call-arg]
    spec = ClipSpec({"face": stream}, clips=1, sampling="segments", window_s=1.0)
    with pytest.raises(UsageError, match=r"share= is now subset=, give it once"):
        EmotionDataModule("folder", "clips", spec=spec, share=0.5, subset=0.5)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match=r"balance= any more: give the model loss="):
        EmotionDataModule("folder", "clips", spec=spec, balance=1.0)  # type: ignore[call-arg]


def test_recipes_with_old_arguments_of_callbacks_name_the_new_ones(tmp_path: Path) -> None:
    """A recipe of 0.1 fails with one short line, not with the list of all callbacks there are."""
    file = tmp_path / "old.yaml"
    save = {"class_path": "emozoo.train.SaveWeights", "init_args": {"share": ["encoders"]}}
    data = {"dataset": "folder", "root": str(tmp_path)}
    file.write_text(json.dumps({"model": {"model": "dfan"}, "data": data, "trainer": {"callbacks": [save]}}))
    with pytest.raises(UsageError, match=r"^SaveWeights: share is now shared_parts$"):
        train(["--config", str(file)])
