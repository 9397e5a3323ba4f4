"""A user's own table: a csv or parquet file, or a folder that holds ``manifest.csv``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from emozoo.data.manifest import Manifest
from emozoo.data.tables import read_manifest
from emozoo.errors import DatasetError


def load(root: Path, name: str = "csv") -> Manifest:
    """The manifest in ``root``, or ``root`` itself when it is a file; see ``read_manifest``."""
    if root.is_dir():
        found = [root / f for f in ("manifest.csv", "manifest.parquet") if (root / f).is_file()]
        if not found:
            raise DatasetError(
                f"{root}: no manifest.csv there; write one with a header 'path,label', name the file itself, or use "
                "the data set 'folder' for root/<class>/<clip>"
            )
        root = found[0]
    return replace(read_manifest(root), protocol="csv")
