"""Entries of papers: what stands in them is whole, and one may be added from outside of the package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from nets import build

from emozoo import registry
from emozoo.errors import UnknownModelError, UsageError
from emozoo.module import EmotionModule

FAN = registry.model("emotion_fan")


@pytest.fixture
def models() -> Iterator[dict[str, registry.ModelSpec]]:
    """The registry's table, as it was again afterwards."""
    before = dict(registry.MODELS)
    yield registry.MODELS
    registry.MODELS.clear()
    registry.MODELS.update(before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "my.net"}, "a name has no dot"),
        ({"network": "my_net"}, "network must be 'module:Class'"),
        ({"sizes": {"full": {}}}, "sizes and specs"),
        ({"default_wiring": "paper"}, "no wiring 'paper'"),
        ({"wirings": {"stable": "official"}}, "names another"),
        ({"parameters": {}}, "parameters must be given for the wirings official"),
    ],
)
def test_entries_are_checked(change: dict, message: str) -> None:
    """Protects the author of an entry: what is missing or contradicts itself is named when it is written."""
    with pytest.raises(UsageError, match=message):
        replace(FAN, **change)


def test_another_name_of_a_wiring() -> None:
    """Protects: a wiring that names another builds the same network, and keeps its own name."""
    assert FAN.wirings["stable"] == "official"
    states = [build("emotion_fan", wiring).state_dict() for wiring in FAN.wirings]
    assert all(torch.equal(states[0][k], v) for k, v in states[1].items())
    assert EmotionModule("emotion_fan", size="lite").wiring == "stable"


def test_register(models: dict) -> None:
    """Protects packages of users: a registered network is known by name, and no other one can be replaced."""
    with pytest.raises(UnknownModelError):
        registry.model("my_fan")
    mine = replace(FAN, name="my_fan", default_tag=None)
    registry.register(mine)
    registry.register(replace(mine))  # a package that is imported anew
    assert registry.resolve("my_fan") == (mine, None)
    assert EmotionModule("my_fan", size="lite").arch == "my_fan"
    for taken in (replace(mine, title="another"), replace(mine, name="ceflnet"), replace(mine, name="speech_tiny")):
        with pytest.raises(UsageError, match="already"):
            registry.register(taken)


@pytest.mark.parametrize(
    ("network", "message"),
    [("torch.nn:Identity", r"Identity is no .*Network"), ("emozoo.models.network:Network", "abstract")],
)
def test_class_that_keeps_no_promise(models: dict, network: str, message: str) -> None:
    """Protects the author of a network from attribute errors deep in training: the class must be a whole Network."""
    registry.register(replace(FAN, name="bare", network=network, sizes={"full": {}, "lite": {}}, default_tag=None))
    with pytest.raises(UsageError, match=message):
        EmotionModule("bare", size="lite")
