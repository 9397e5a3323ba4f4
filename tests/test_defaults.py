"""What the bare name of a model stands for: weights that have seen people, which anybody may use."""

from __future__ import annotations

import json

import pytest

from emozoo import recipes, registry
from emozoo.callbacks import SaveWeights
from emozoo.cli import app
from emozoo.errors import UsageError

PAPERS = ("caer_cross_attention", "dfan", "recursive_joint_attention", "ceflnet")
OPEN = ("MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC0-1.0")
LISTED = [*registry.weights().values(), *registry.encoders().values()]


@pytest.mark.parametrize("arch", PAPERS)
def test_the_default_of_a_paper_has_met_people(arch: str) -> None:
    """Protects the first line that anybody types: the default was trained on people, under a licence for anybody.

    Drawings stay by their tag. What is composed may be a small part of the training, never most of it.
    """
    default = registry.resolve(arch)[1]
    assert default is not None
    assert default.material[:1] in (("recordings",), ("photographs",)), default.name
    assert "drawn" not in default.material, default.name
    assert default.licence in OPEN, default.name
    for part in (default.config.get("parts") or {}).values():  # what it shares goes with it
        owner = (registry.weights() | registry.encoders())[part["weights"]]
        assert "drawn" not in owner.material, owner.name
        assert owner.licence in OPEN, owner.name


@pytest.mark.parametrize("weights", LISTED, ids=lambda w: w.name)
def test_weights_say_what_they_have_seen(weights: registry.Weights) -> None:
    """Protects from weights without a past: every tag names known material, and so does the recipe that made it.

    What a part brings that lies in other weights is named, too.
    """
    assert weights.material
    assert set(weights.material) <= set(registry.MATERIALS)
    if recipe := recipes.known(weights.config["recipe"]):
        callbacks = recipes.read(recipe)["trainer"]["callbacks"]
        save = next(c["init_args"] for c in callbacks if c["class_path"].endswith("SaveWeights"))
        assert tuple(save["material"]) == weights.material
    for part in (weights.config.get("parts") or {}).values():
        owner = (registry.weights() | registry.encoders())[part["weights"]]
        assert owner.material[0] in weights.material, owner.name


def test_a_misspelt_material_is_refused_before_training() -> None:
    """Protects the rule's words: a material that is none of them is an error that names those that there are."""
    known = "recordings, photographs, things, composed, drawn"
    with pytest.raises(UsageError, match=f"no material 'film'; there are {known}"):
        SaveWeights(material=["film"])


def test_info_and_list_tell_what_was_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """Protects who reads only one line: `info` says it in one, `list` for every default; JSON has it under `seen`."""

    def told(*words: str) -> str:
        assert not app([*words], standalone_mode=False)
        return capsys.readouterr().out

    default = registry.resolve("ceflnet")[1]
    assert default is not None
    seen = f"photographs of people, recordings of people ({default.trained_on})"
    assert f"seen: {seen}" in told("info", "ceflnet").splitlines()
    assert json.loads(told("info", "ceflnet", "--json"))["seen"] == seen
    assert json.loads(told("info", "resnet_gru", "--json"))["seen"] == "nothing, untrained"
    lines, models = told("list").splitlines(), json.loads(told("list", "--json"))["models"]
    for model in models:
        assert (model["seen"] is not None) == any(w["default"] for w in model["weights"]), model["name"]
        assert model["seen"] is None or f"  the default has seen {model['seen']}" in lines
