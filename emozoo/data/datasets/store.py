"""A prepared store: what ``emozoo prepare`` wrote, a folder or an address in object storage."""

from __future__ import annotations

from emozoo.data.manifest import Manifest
from emozoo.data.store import clean, open_store
from emozoo.errors import UsageError


def load(root: str, name: str = "store") -> Manifest:
    """The data set that the store was made from. ``name``: its name, or ``store``, ``folder`` or ``csv``."""
    store = open_store(root)
    made_from = store.meta["dataset"]
    if name not in ("store", "folder", "csv", made_from):
        raise UsageError(f"{clean(root)} is a store of {made_from}, not of {name}: say --dataset {made_from}, or store")
    return store.manifest
