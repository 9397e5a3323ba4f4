"""What the package is made of, and the page of promises: nothing is missing from either."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import supply

from emozoo import registry

ROOT = Path(__file__).resolve().parents[1]


def test_every_promise_names_a_test_that_is_there() -> None:
    """Protects docs/reliability.md from promises that nothing keeps."""
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 20
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert any(isinstance(x, ast.FunctionDef) and x.name == name for x in tree.body), f"{file}::{name}"
    promises = text.partition("<!-- /generated -->")[2]
    rows = [line for line in promises.splitlines() if line.startswith("| ") and not line.startswith("| Promise")]
    assert all("::test_" in row for row in rows)


def test_every_dependency_and_all_weights_have_a_licence() -> None:
    """Protects docs/licences.md from new dependencies and weights: `make licences` writes them into it."""
    text = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    needed = supply.requirements("heic", "onnx", "parquet", "speech", "demo", "experiments")
    names = [*needed, *registry.weights(), *registry.encoders()]
    rows = {line.split(" | ")[0].strip("| `"): line for line in text.splitlines() if line.startswith("| ")}
    assert not [name for name in names if name not in rows]
    assert not [line for line in rows.values() if "not told" in line]


def test_the_bill_of_materials_is_whole() -> None:
    """Protects those who ask what is inside: all dependencies with versions, all weights with hashes, no addresses."""
    bill = supply.sbom()
    parts = {part["name"].lower().replace("_", "-"): part for part in bill["components"]}
    for name in supply.requirements():
        if name != "decord":  # not on every platform
            assert parts[name.lower().replace("_", "-")]["version"], name
    for name, found in registry.weights().items():
        assert parts[name.replace("_", "-")]["hashes"][0]["content"] == found.sha256
    assert "://" not in str(bill)
    assert "docstring-parser" in parts, "what an extra of a dependency brings: jsonargparse[signatures]"
