"""Data sets by name: one file for each layout, and each file a function ``load(root, name) -> Manifest``.
``docs/extend.md`` shows how to add one, here or in a package of yours (:func:`register`).

Some data sets have several protocols; one other than the first is named after a colon: ``crema_d:face``,
``videoemotion8:split_03`` (:data:`emozoo.data.protocols.CHOICES`).
"""

from __future__ import annotations

import csv
import difflib
import errno
import importlib
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from emozoo import files
from emozoo.data.manifest import Manifest
from emozoo.data.protocols import CHOICES, protocol
from emozoo.data.store import is_store
from emozoo.errors import DatasetError, EmozooError, UsageError

Load = Callable[[Path, str], Manifest]

# name -> (file of this folder, or a registered function; what it is): a new layout is a new file and a line here.
DATASETS: dict[str, tuple[str | Load, str]] = {
    "folder": ("folder", "root/[train|val|test/]<class>/<clip, image or folder of frames>"),
    "csv": ("csv", "a manifest: path,label[,split,fold,group,start,end,x1,y1,x2,y2,valence,arousal,votes_*]"),
    "ferplus": ("ferplus", "FER+ votes on the images of FER2013, 8 classes"),
    "ferplus8": ("ferplus", "the same as ferplus"),
    "ferplus7": ("ferplus", "FER+ without contempt: the seven basic emotions"),
    "fer2013": ("ferplus", "fer2013.csv, or the images of FER+ with a column fer2013_label: 7 classes"),
    "caer_s": ("caer", "{train,test}/<Class>/0001.png of CAER-S, maybe with lists of face boxes in boxes/"),
    "caer": ("caer", "{train,validation,test}/<Class>/0001.avi of CAER"),
    "ncaer_s": ("caer", "images/{train,val,test}/<Class>/ and crop/ of NCAER-S"),
    "ekman6": ("videolists", "<class>/<video> of Ekman-6, with trainlist01.txt and testlist01.txt"),
    "videoemotion8": ("videolists", "<Class>/<video> of VideoEmotion-8, with the table or lists of its splits"),
    "aff_wild2": ("aff_wild2", "'<N>th ABAW Annotations/VA_Estimation_Challenge' and cropped_aligned/ of Aff-Wild2"),
    "afew": ("afew", "{Train,Val}_AFEW/<Emotion>/<id>.avi of AFEW, or faces cut from them"),
    "dfew": ("dfew", "EmoLabel_DataSplit/ and Clip/ of DFEW"),
    "ferv39k": ("ferv39k", "2_ClipsforFaceCrop/ and 4_setups/ of FERV39k"),
    "mafw": ("mafw", "data/frames/<id>/ and split/single/no_caption/ of MAFW"),
    "mmi": ("mmi", "Sessions/<id>/ of MMI"),
    "bu4dfe": ("bu4dfe", "<person>/<Expression>/000.jpg of BU-4DFE"),
    "ravdess": ("ravdess", "Actor_01/ to Actor_24/ of RAVDESS"),
    "crema_d": ("crema_d", "VideoFlash/, AudioWAV/ or AudioMP3/ of CREMA-D"),
    "store": ("store", "a prepared store: store.json as emozoo prepare writes it"),
    "synthemo": ("synthemo", "a folder written by emozoo synth: manifest.csv and synthemo.json"),
}

# What damaged files raise in readers of text, csv, gzip and json.
_DAMAGED = (ValueError, LookupError, OSError, EOFError, OverflowError, csv.Error, zlib.error)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def register(name: str, load: Load, about: str = "as its load function reads it") -> None:
    """Adds a data set of yours: from then on every function and command of this process knows its name.

    Args:
        name: without a colon.
        load: takes the folder, which exists, and the name; raises DatasetError where the data are not there.
        about: the layout in one line, for the error about a folder that does not exist.

    Raises UsageError for a name that stands for another data set.
    """
    known = DATASETS.get(name, (load, about))[0]
    same = not isinstance(known, str) and (known.__module__, known.__qualname__) == (load.__module__, load.__qualname__)
    if not same or not name or ":" in name:
        raise UsageError(f"'{name}' cannot be registered: choose a name without a colon that no data set has")
    DATASETS[name] = (load, about)


def load(name: str, root: Path | str, *, classes: Sequence[str] | None = None) -> Manifest:
    """The manifest of a data set on disk, or of the prepared store that lies there.

    ``classes``: order and spelling to give the labels (those of a model); default: the data set's own. Raises
    UsageError for an unknown name, DatasetError that says what was looked for, where, and how to mend it.
    """
    dataset, colon, choice = name.partition(":")
    if dataset not in DATASETS:
        close = difflib.get_close_matches(dataset, DATASETS, n=1, cutoff=0.4)
        hint = f"; did you mean '{close[0]}'?" if close else ";"
        raise UsageError(f"no data set '{dataset}'{hint} there are {', '.join(DATASETS)}")
    if colon and choice not in CHOICES.get(dataset, ()):
        there = ", ".join(f"{dataset}:{c}" for c in CHOICES.get(dataset, ())) or f"{dataset} alone"
        raise UsageError(f"no protocol '{name}'; there are {there}")
    if is_store(root):
        from emozoo.data.datasets import store

        manifest = store.load(str(root), name)
        return manifest.with_classes(classes) if classes is not None else manifest
    root = Path(os.path.expanduser(root))  # as it is where nobody has that home folder
    if not root.exists():
        raise DatasetError(f"{root}: no such folder; {name} is looked for there as {DATASETS[dataset][1]}: mend --root")
    where = DATASETS[dataset][0]
    read: Load = importlib.import_module(f"{__name__}.{where}").load if isinstance(where, str) else where
    try:
        manifest = read(root, name)
    except EmozooError:
        raise
    except _DAMAGED as e:  # lists and tables that no adapter expects
        if isinstance(e, OSError) and _concerns_cache(e, root):
            raise EmozooError(
                f"{files.cache_folder()}: what is made of {root} cannot be written there ({e.strerror}): make room, or "
                "set EMOZOO_HOME to another folder"
            ) from e
        why = f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"
        raise DatasetError(f"{root}: its annotations cannot be read as {name} ({why}): fetch them again") from e
    if known := protocol(manifest.protocol):
        manifest = replace(manifest, version=known.version)
    return manifest.with_classes(classes) if classes is not None else manifest


def _concerns_cache(error: OSError, root: Path) -> bool:
    """Whether an adapter could not write into the cache, rather than read the data set in ``root``."""
    cache = files.cache_folder()
    is_there = isinstance(error.filename, str) and Path(error.filename).is_relative_to(cache)
    return error.errno in _NO_ROOM or (is_there and not root.is_relative_to(cache))
