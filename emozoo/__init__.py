"""Emotion recognition from video: face, scene, audio and time.

Importing this package loads no torch; the names below are fetched when they are first used (PEP 562).

>>> import emozoo
>>> "ceflnet" in emozoo.list_models()
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emozoo.data.datamodule import EmotionDataModule as EmotionDataModule
    from emozoo.inference import Prediction as Prediction
    from emozoo.inference import predict as predict
    from emozoo.module import EmotionModule as EmotionModule
    from emozoo.spec import ClipSpec as ClipSpec
    from emozoo.zoo import load as load

__version__ = "0.1.0"

_HOMES = {
    "load": "emozoo.zoo",
    "EmotionModule": "emozoo.module",
    "predict": "emozoo.inference",
    "Prediction": "emozoo.inference",
    "EmotionDataModule": "emozoo.data.datamodule",
    "ClipSpec": "emozoo.spec",
}

__all__ = [
    "load",
    "list_models",
    "list_weights",
    "predict",
    "EmotionDataModule",
    "EmotionModule",
    "Prediction",
    "ClipSpec",
    "__version__",
]


def list_models() -> list[str]:
    """Names of all architectures."""
    from emozoo import registry

    return list(registry.MODELS)


def list_weights(arch: str | None = None) -> list[str]:
    """Full names of all weights, or of those of one architecture. Raises UnknownModelError with the nearest name."""
    from emozoo import registry

    if arch is not None:
        registry.model(arch)
    return [name for name, entry in registry.weights().items() if arch in (None, entry.arch)]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'emozoo' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
