"""Model cards: every one says what it was trained on first, and leaves out nothing that a reader should know."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from emozoo import registry
from emozoo.benchmark import report
from emozoo.card import card

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = [ROOT / "checkpoints" / name for name in registry.weights()]  # cards of encoders alone: test_speech_tiny.py
SECTIONS = (
    "## Use", "## Training", "## Measured", "### Each class", "### When the images get worse", "## Limits",
    "## Ethics",
)  # fmt: skip


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_a_card_says_whose_weights_these_are(folder: Path) -> None:
    """Protects people from weights without origin, license or limits: each config has them, and its card says them."""
    config = json.loads((folder / "config.json").read_text())
    text = (folder / "README.md").read_text()
    matter, first = text.split("---\n")[1:]
    assert f"license: {config['licence'].lower()}\n" in matter
    assert first.startswith(f"Trained on {config['trained_on']}.\n"), "its first line"
    if "synth" in folder.name:
        assert "synthetic" in first.splitlines()[0]
    assert config["limits"]
    trained = (f"{config['n_train']} items", f"seed {config['seed']}", config["recipe"])
    for fact in (*trained, *config["classes"], *config["limits"]):
        assert fact in text
    assert "None" not in text
    at = [text.index(f"\n{s}") for s in SECTIONS]
    assert at == sorted(at), "each part was measured"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_a_card_says_its_numbers_where_the_hub_looks(folder: Path) -> None:
    """Protects the hub's own tables: front matter that its client can read, with the numbers of these very weights."""
    from huggingface_hub import ModelCard

    sha256 = json.loads((folder / "config.json").read_text())["sha256"]
    committed = [
        r for path in (ROOT / "benchmarks" / "results").glob("*.csv") for r in csv.DictReader(path.open(newline=""))
        if (r.get("model"), r.get("sha256"), r.get("control")) == (folder.name, sha256, "") and r.get("dataset")
    ]  # fmt: skip
    told = ModelCard.load(folder / "README.md").data.eval_results or []
    assert {(r["dataset"], r["protocol"], round(float(r["WAR"]), 4)) for r in committed if r["WAR"]} == {
        (e.dataset_type, e.dataset_args["protocol"], e.metric_value) for e in told if e.metric_type == "accuracy"
    }
    assert all(r["n_evaluated"] in {str(e.dataset_args["n"]) for e in told} for r in committed)


def test_a_card_without_tag_or_classes() -> None:
    """Protects cards of a user's own weights, and of networks without classes."""
    config: dict[str, Any] = {
        "arch": "recursive_joint_attention", "tag": "", "wiring": "stable", "size": "lite", "classes": [],
        "tasks": ["va"], "spec": {"streams": {"face": {}, "audio": {}}, "detector": "cascade"}, "licence": "MIT",
        "trained_on": "4 items of the user's own", "n_train": 4, "epochs": 2, "seed": 0, "precision": "32-true",
        "train_seconds": 61.0, "recipe": "", "limits": [],
    }  # fmt: skip
    text = card(config)
    assert "# recursive_joint_attention\n" in text
    assert "Classes in order: none." in text
    assert "Recipe: `not recorded`" in text
    for warning in ("Prohibited in the European Union", "Not for decisions about people", "Nothing is uploaded"):
        assert warning in text


def test_classes_are_kept_by_measurement(tmp_path: Path) -> None:
    """Protects the table behind the cards: a line a class with its confusions; measured again, it replaces its own."""
    record: dict[str, Any] = {
        "model": "m", "sha256": "1", "dataset": "d", "protocol": "p", "split": "test", "prior": "train",
        "control": None, "classes": ["a", "b"], "confusion": [[3, 1], [2, 4]],
        "per_class": {"a": {"n": 4, "recall": 0.75, "f1": 0.66}, "b": {"n": 6, "recall": 4 / 6, "f1": 0.72}},
    }  # fmt: skip
    path = tmp_path / "classes.csv"
    report.save_classes([record, record | {"prior": "uniform"}, record | {"confusion": None}], path)
    report.save_classes([record | {"sha256": "2", "confusion": [[4, 0], [2, 4]]}], path)
    lines = path.read_text().splitlines()
    assert len(lines) == 5
    assert lines[1] == "m,2,d,p,test,train,,a,4,0.75,0.666667,0.66,4 0"
    assert lines[3] == "m,1,d,p,test,uniform,,a,4,0.75,0.6,0.66,3 1"
