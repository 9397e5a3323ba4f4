"""Names, weights and what is refused: nothing unverified is ever loaded, and every refusal says what to do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import emozoo
from emozoo import hub, registry
from emozoo.errors import UnknownModelError, UsageError, WeightsError
from emozoo.module import EmotionModule, load
from emozoo.train import card


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small weights folder as training writes it."""
    module = EmotionModule("ceflnet", size="lite", options={"backbone": "vgg_tiny"})
    config = {
        "schema": 1, "arch": "ceflnet", "tag": "", "wiring": "stable", "size": "lite", "classes": list(module.classes),
        "tasks": ["emotion"], "options": {"backbone": "vgg_tiny"}, "spec": module.spec.to_dict(), "tau": 1.0,
        "log_prior": [-1.9] * 7, "trained_on": "nothing", "licence": "Apache-2.0", "limits": [], "recipe": "",
        "n_train": 0, "epochs": 0, "seed": 0, "precision": "32", "train_seconds": 0.0,
    }  # fmt: skip
    hub.save(tmp_path / "w", module.net.state_dict(), config, card(config), half=False)
    return tmp_path / "w"


def test_every_shipped_checkpoint_loads_and_answers() -> None:
    """The commonest complaint of this field is weights that do not load: each one here does, with its card."""
    assert registry.weights()
    for name, entry in registry.weights().items():
        module = load(name)
        assert module.name == name
        assert not module.training
        assert len(entry.sha256) == 64
        state = module.net.state_dict()
        assert all(torch.isfinite(v).all() for v in state.values() if v.is_floating_point()), name
        text = (hub.locate(entry) / hub.CARD).read_text(encoding="utf-8")
        first = text.split("---", 2)[2].strip().splitlines()[0]
        assert first.startswith("Trained on"), name
        assert "AI Act" in text, name
        if entry.tag.startswith("synth"):
            assert "synthetic" in first, name


def test_a_saved_folder_gives_the_same_answers(folder: Path) -> None:
    """Saving and loading changes no output bit, and the spec travels with the weights."""
    module = load(folder)
    again = load(folder / "model.safetensors")
    x = {"face": torch.rand(2, 3, 3, 3, 48, 48)}
    with torch.inference_mode():
        assert torch.equal(module(x).logits, again(x).logits)
    assert module.spec == again.spec
    assert module.config["sha256"] == again.sha256


def test_wrong_hash_is_refused(folder: Path) -> None:
    """One changed byte is enough."""
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(data))
    with pytest.raises(WeightsError, match="sha256"):
        load(folder)


def test_pickles_are_never_opened(folder: Path, tmp_path: Path) -> None:
    """A pickled checkpoint can run code, whatever its suffix says."""
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="pickled"):
        load(tmp_path / "x.pt")
    shutil.copy(tmp_path / "x.pt", folder / "model.safetensors")
    with pytest.raises(WeightsError, match="pickled"):
        load(folder)


def test_unknown_names_are_met_with_the_nearest() -> None:
    """Models, tags, wirings and sizes."""
    with pytest.raises(UnknownModelError, match="did you mean 'ceflnet'"):
        load("cefnet")
    with pytest.raises(UnknownModelError, match="only the abstract"):
        load("ceflnet", wiring="paper", weights=None)
    with pytest.raises(UnknownModelError, match="did you mean 'lite'"):
        load("ceflnet", size="light", weights=None)
    with pytest.raises(UnknownModelError, match="no weights"):
        load("ceflnet.faces77_v9")


def test_a_request_that_contradicts_the_weights_is_refused() -> None:
    """Weights were trained with one wiring and one size."""
    with pytest.raises(UsageError, match="wiring"):
        load("ceflnet", wiring="official")


def test_aliases_resolve_to_the_newest_version() -> None:
    """A bare name and a tag without a version are aliases; results carry the full name."""
    for name in ("ceflnet", "ceflnet.faces7"):
        entry = registry.resolve(name)[1]
        assert entry is not None
        assert entry.name.startswith("ceflnet.faces7_v")


def test_new_classes_keep_everything_but_the_head() -> None:
    """``load(classes=...)`` says that the head is new, and takes the rest of the weights as they are."""
    old = load("ceflnet")
    with pytest.warns(UserWarning, match="new head"):
        new = load("ceflnet", classes=("calm", "angry"))
    assert new.classes == ("calm", "angry")
    head = new.head_keys()
    for key, value in new.net.state_dict().items():
        if key not in head:
            assert torch.equal(value, old.net.state_dict()[key]), key
    assert {k.partition(".")[0] for k in head} == {"classifier"}


def test_priors_differ_by_the_training_prior() -> None:
    """``train`` over ``uniform`` is the class prior, whatever the logits are."""
    module = load("ceflnet")
    logits = torch.randn(4, 7)
    ratio = (module.scores(logits, "train") / module.scores(logits, "uniform")).log()
    expected = module.log_prior / module.temperature
    assert torch.allclose(ratio - ratio[:, :1], (expected - expected[0]).expand(4, 7), atol=1e-4)


def test_packaged_weights_need_no_network_and_no_cache(tmp_path: Path) -> None:
    """In a fresh process whose sockets are closed and whose home is empty, the default model loads."""
    code = (
        "import socket, sys\n"
        "def no(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = no; socket.create_connection = no\n"
        "import emozoo; print(emozoo.load('ceflnet').name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path), "PATH": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith("ceflnet.faces7_v")
    assert not list(tmp_path.rglob("*emozoo*"))


def test_all_embedded_weights_fit_into_30_megabytes() -> None:
    """A wheel stays small."""
    total = sum((hub.locate(e) / hub.WEIGHTS).stat().st_size for e in registry.weights().values())
    assert total <= 30e6


def test_config_is_plain_json(folder: Path) -> None:
    """Nothing in a weights folder needs this package to be read."""
    config = json.loads((folder / "config.json").read_text())
    assert emozoo.ClipSpec.from_dict(config["spec"]) == load(folder).spec
