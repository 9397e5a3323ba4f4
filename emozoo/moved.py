"""Names of version 0.1 under which a function, a constant or an argument works for one more version, with a warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar

_Class = TypeVar("_Class", bound=type)

_NEW_NAMES = {
    "emozoo.data.clips.Batch": "emozoo.batch.Batch",
    "emozoo.data.clips.IGNORE": "emozoo.batch.IGNORE",
    "emozoo.data.datamodule.fold_of": "emozoo.data.splits.fold_of",
    "emozoo.data.datamodule.place": "emozoo.files.resolve_path",
    "emozoo.data.datamodule.read_row": "emozoo.data.loading.read_row",
    "emozoo.data.images.FrameFolder": "emozoo.data.frame_folder.FrameFolder",
    "emozoo.data.images.Pictures": "emozoo.data.images.FrameSource",
    "emozoo.data.images.is_picture": "emozoo.data.images.is_image",
    "emozoo.data.images.read_picture": "emozoo.data.images.read_image",
    "emozoo.data.manifest.read_manifest": "emozoo.data.tables.read_manifest",
    "emozoo.data.manifest.read_va": "emozoo.data.tables.read_va",
    "emozoo.data.manifest.share": "emozoo.data.manifest.normalize_votes",
    "emozoo.data.media.open_pictures": "emozoo.data.media.open_frames",
    "emozoo.hub.folder_of": "emozoo.weights.folder_of",
    "emozoo.hub.home": "emozoo.files.cache_folder",
    "emozoo.hub.versions": "emozoo.files.versions",
    "emozoo.labels.CIRCLE": "emozoo.labels.CIRCUMPLEX",
    "emozoo.labels.circle_point": "emozoo.labels.circumplex_point",
    "emozoo.module.OPTIMIZERS": "emozoo.optim.OPTIMIZERS",
    "emozoo.module.SCHEDULES": "emozoo.optim.SCHEDULES",
    "emozoo.module.build_network": "emozoo.registry.build_network",
    "emozoo.module.clip_spec": "emozoo.registry.clip_spec",
    "emozoo.module.load": "emozoo.zoo.load",
    "emozoo.module.rate": "emozoo.optim.lr_factor",
    "emozoo.packaged.folder": "emozoo.files.packaged",
    "emozoo.train.finetune": "emozoo.finetune.finetune",
}

# By class: old arguments and what they are called now.
NEW_ARGUMENTS = {
    "AudioSpec": {"centre": "cmn"},
    "SaveWeights": {"share": "shared_parts"},
    "StreamSpec": {"place": "position"},
}


def names_of(module: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module: finds what an old name stands for, and warns. Others raise AttributeError."""

    def find(name: str) -> Any:
        new = _NEW_NAMES.get(f"{module}.{name}")
        if new is None:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        warnings.warn(f"{module}.{name} is {new} now", DeprecationWarning, stacklevel=2)
        home, _, word = new.rpartition(".")
        return getattr(import_module(home), word)

    return find


def arguments(cls: _Class) -> _Class:
    """A decorator of classes in ``NEW_ARGUMENTS``: old arguments work, with a warning.

    The class raises TypeError where an argument comes under both names.
    """
    new_names = NEW_ARGUMENTS[cls.__name__]
    init: Any = cls.__init__  # type: ignore[misc]

    @wraps(init)
    def accept(self: Any, *args: Any, **options: Any) -> None:
        for old in [name for name in options if name in new_names]:
            new = new_names[old]
            if new in options:
                raise TypeError(f"{cls.__name__}: {old}= is now {new}=, give it once")
            warnings.warn(f"{cls.__name__}: {old}= is now {new}=", DeprecationWarning, stacklevel=2)
            options[new] = options.pop(old)
        init(self, *args, **options)

    cls.__init__ = accept  # type: ignore[misc]
    return cls
