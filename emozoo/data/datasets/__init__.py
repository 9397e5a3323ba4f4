"""Data sets by name: one file for each layout, and each file a function ``load(root) -> Manifest``."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from pathlib import Path

from emozoo.data.manifest import Manifest
from emozoo.errors import DatasetError, UsageError

# name -> (file of this folder, what it is); a new layout is a new file and a line here.
DATASETS = {
    "folder": ("folder", "root/[train|val|test/]<class>/<clip, picture or folder of frames>"),
    "csv": ("csv", "a manifest: path,label[,split,fold,group,start,end,x1,y1,x2,y2,valence,arousal,votes_*]"),
    "ferplus": ("ferplus", "FER+ votes on the pictures of FER2013, 8 classes"),
    "ferplus8": ("ferplus", "the same as ferplus"),
    "ferplus7": ("ferplus", "FER+ without contempt: the seven basic emotions"),
    "synthemo": ("synthemo", "a folder written by emozoo synth: manifest.csv and synthemo.json"),
}


def load(name: str, root: Path | str, *, classes: Sequence[str] | None = None) -> Manifest:
    """The manifest of a data set on disk.

    ``classes``: order and spelling to give the labels (those of a model); default: the data set's own. Raises
    UsageError for an unknown name, DatasetError that says what was looked for, where, and how to mend it.
    """
    if name not in DATASETS:
        close = difflib.get_close_matches(name, DATASETS, n=1, cutoff=0.4)
        hint = f"; did you mean '{close[0]}'?" if close else ";"
        raise UsageError(f"no data set '{name}'{hint} there are {', '.join(DATASETS)}")
    root = Path(root).expanduser()
    if not root.exists():
        raise DatasetError(f"{root}: no such folder; {name} is looked for there as {DATASETS[name][1]}: mend --root")
    file = importlib.import_module(f"{__name__}.{DATASETS[name][0]}")
    manifest: Manifest = file.load(root, name)
    return manifest.with_classes(classes) if classes is not None else manifest
