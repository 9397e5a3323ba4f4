"""The zoo's front door: :func:`load` turns a name, a folder or an address into a module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emozoo import registry
from emozoo import weights as stored
from emozoo.errors import UsageError
from emozoo.module import EmotionModule


def load(
    name: str | Path,
    *,
    classes: Sequence[str] | None = None,
    wiring: str | None = None,
    size: str | None = None,
    weights: str | Path | None = "default",
    options: Mapping[str, Any] | None = None,
) -> EmotionModule:
    """A model in eval mode, its weights verified by sha256; nothing is downloaded but weights that ``name`` stands for.

    Args:
        name: ``arch``, ``arch.tag``, the path of a folder written by training or of a safetensors file in one, or
            ``hf://ORG/NAME@REVISION``. A file that is named is the file that is read. Where its sha256 is not the one
            in the ``config.json`` beside it, it holds other weights of that network: ``name`` is then its path,
            ``sha256`` its own, class prior and temperature are neutral, and a warning says so.
        classes: class names in the order wanted. Where the weights know all of them, in any spelling (``Happy``), the
            class head has their rows; else it is new, and a warning says so.
        wiring, size: for an untrained network; beside weights they may be given only if they match.
        weights: None for an untrained network; a path of a folder or safetensors file; default: those of the name.
        options: keyword arguments of the network, for an untrained one.

    Returns:
        EmotionModule with ``spec``, ``classes``, ``name`` (the full one; a hub address with its commit),
        ``sha256``, ``config``.

    Raises:
        UnknownModelError: no such name, wiring or size (with the nearest one).
        UsageError: arguments that contradict each other or the weights.
        WeightsError: wrong hash, pickle, other keys, or weights that do not exist.

    >>> import emozoo
    >>> model = emozoo.load("ceflnet", wiring="official", size="lite", weights=None)
    >>> model.classes[:3]
    ('anger', 'disgust', 'fear')
    """
    if weights != "default" or options:
        is_path = stored.source_of(name) is not None
        if is_path and weights != "default":
            raise UsageError(
                f"{name} is weights: weights= goes with a network's name, as in load('ceflnet', weights=...)"
            )
        if options and (is_path or weights is not None):
            raise UsageError("options= go with weights=None: what weights were trained with cannot be changed")
        if weights is None:
            spec = registry.model(str(name)) if "." not in str(name) else registry.resolve(str(name))[0]
            module = EmotionModule(
                spec.name, wiring, size or "full", list(classes or spec.classes), dict(options or {})
            )
            return module.eval()
    found = stored.find(name, weights=None if weights == "default" else weights, wiring=wiring, size=size)
    return EmotionModule.from_weights(found, classes)
