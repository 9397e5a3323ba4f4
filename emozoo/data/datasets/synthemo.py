"""SynthEmo on disk, as ``emozoo synth`` writes it: drawn clips with a known cause for every label."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from emozoo.data.manifest import Manifest
from emozoo.data.protocols import SYNTHEMO_VERSION
from emozoo.data.tables import read_manifest
from emozoo.errors import DatasetError
from emozoo.labels import BASIC7


def load(root: Path, name: str = "synthemo") -> Manifest:
    """The clips in ``root`` under the seven emotions. Raises DatasetError for none, or another version."""
    stamp = root / "synthemo.json"
    if not (root / "manifest.csv").is_file() or not stamp.is_file():
        raise DatasetError(f"{root}: no SynthEmo there (manifest.csv, synthemo.json); run: emozoo synth --out {root}")
    version = json.loads(stamp.read_text(encoding="utf-8")).get("version")
    if version != SYNTHEMO_VERSION:
        raise DatasetError(
            f"{root}: holds SynthEmo version {version}, this emozoo draws version {SYNTHEMO_VERSION}; "
            "draw it anew into an empty folder: emozoo synth --out DIR"
        )
    manifest = read_manifest(root / "manifest.csv").with_classes(BASIC7)
    return replace(manifest, name="synthemo", protocol="synthemo", version=SYNTHEMO_VERSION)
