"""What this package is made of: licences and the bill of materials.

    python benchmarks/supply.py licences     writes docs/licences.md
    python benchmarks/supply.py sbom         prints a bill of materials (CycloneDX 1.6, JSON)

Names, versions and licences are those of the installed distributions; weights say their own in ``config.json``.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from emozoo import registry
from emozoo.benchmark.formatting import markdown_table

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"
# What a distribution calls its licence in words, or in a text without a name, as SPDX spells it.
_SPDX = {
    "apache 2.0": "Apache-2.0", "apache license 2.0": "Apache-2.0", "apache-2.0 license": "Apache-2.0",
    "apache software license": "Apache-2.0", "apache": "Apache-2.0", "mit license": "MIT", "mit": "MIT", "bsd": "BSD",
    "bsd license": "BSD", "new bsd": "BSD-3-Clause",
}  # fmt: skip


def requirements(*extras: str) -> dict[str, Requirement]:
    """The requirements of ``pyproject.toml`` by name, those of its extras after its own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for e in extras for line in project["optional-dependencies"][e])]
    found: dict[str, Requirement] = {}
    for line in lines:
        found.setdefault(Requirement(line).name, Requirement(line))
    return found


def licence_of(name: str) -> str:
    """The licence of an installed distribution, in SPDX's spelling where it has one; what it calls it otherwise."""
    try:
        about: Any = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return "not installed when this page was written"
    if expression := about.get("License-Expression"):
        return str(expression)
    classified = [c.rpartition(" :: ")[2] for c in about.get_all("Classifier") or () if c.startswith("License ::")]
    text = (about.get("License") or "").strip()
    named = text if text and "\n" not in text and len(text) < 60 else ", ".join(classified) or text.partition("\n")[0]
    return _SPDX.get(named.lower(), named or "not told")


def page() -> str:
    """The page of licences."""
    tables = []
    for title, extras in (
        ("Always installed", ()),
        ("With an extra", ("heic", "onnx", "parquet", "speech", "demo", "experiments")),
    ):
        rows = [
            [name, str(need.specifier) or "any", licence_of(name)]
            for name, need in requirements(*extras).items()
            if not extras or name not in requirements()
        ]
        tables += [f"## {title}", "", markdown_table(["Package", "Versions", "Licence"], sorted(rows)), ""]
    known = {**registry.weights(), **registry.encoders()}
    weights = [[f"`{name}`", known[name].licence, known[name].trained_on] for name in sorted(known)]
    head = [
        "# Licences", "",
        "The code of emozoo is Apache-2.0. Written by `make licences` from what the installed packages and the weights",
        "say of themselves; nobody has read the texts for you. Data have licences of their own:",
        "[datasets](datasets.md).", "",
    ]  # fmt: skip
    tables += ["## Weights", "", markdown_table(["Weights", "Licence", "Trained on"], weights), ""]
    return "\n".join([*head, *tables])


def closure(needs: Iterable[Requirement]) -> list[str]:
    """The installed distributions that these need, and those that these need, with the extras asked for."""
    found: dict[str, set[str]] = {}
    todo = list(needs)
    while todo:
        need = todo.pop()
        name = re.sub(r"[-_.]+", "-", need.name).lower()
        extras = {"", *need.extras} - found.get(name, set())
        if not extras:
            continue
        try:
            further = [Requirement(line) for line in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            continue
        found.setdefault(name, set()).update(extras)
        todo += [r for r in further if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in extras)]
    return sorted(found)


def sbom() -> dict[str, Any]:
    """The bill of materials of this environment: the package, its weights and all that it needs."""
    parts: list[dict[str, Any]] = []
    for name in closure(requirements().values()):
        version = metadata.version(name)
        licence = {"licenses": [{"license": {"name": licence_of(name)}}]}
        about = {"name": name, "version": version, "purl": f"pkg:pypi/{name}@{version}"}
        parts.append({"type": "library", **about, **licence})
    for name, found in {**registry.weights(), **registry.encoders()}.items():
        parts.append(
            {
                "type": "machine-learning-model", "name": name, "version": found.tag,
                "hashes": [{"alg": "SHA-256", "content": found.sha256}],
                "licenses": [{"license": {"name": found.licence}}],
            }
        )  # fmt: skip
    own = {"type": "application", "name": "emozoo", "version": metadata.version("emozoo")}
    head = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": {"component": own}}
    return {**head, "components": parts}


def main(argv: list[str]) -> int:
    if argv == ["licences"]:
        PAGE.write_text(page(), encoding="utf-8")
    elif argv == ["sbom"]:
        print(json.dumps(sbom(), indent=1))
    else:
        sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
