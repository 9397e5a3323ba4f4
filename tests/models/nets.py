"""Every architecture and wiring of the registry at ``lite``, with inputs of its spec's shapes."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from emozoo.models.network import Network
from emozoo.registry import MODELS

ARCHS = list(MODELS)
# Each network once: a wiring that is another name of one builds the same.
WIRINGS = [(arch, wiring) for arch, spec in MODELS.items() for wiring in spec.parameters]
CONTROLS = [(arch, spec.default_wiring, dict(spec.control)) for arch, spec in MODELS.items() if spec.control]
VARIANTS = [(arch, wiring, {}) for arch, wiring in WIRINGS] + CONTROLS
VARIANTS.append(("ceflnet", "stable", {"reduce": 64}))
VARIANTS.append(("caer_cross_attention", "stable", {"face_backbone": "mobilenetv1_100@4"}))
BACKBONES = {"face_backbone": "mobilenetv1_100@4", "context_backbone": "tf_efficientnet_lite0@3"}
VARIANTS.append(("caer_cross_attention", "stable", BACKBONES))
VARIANTS.append(("recursive_joint_attention", "stable", {"face_statistics": True}))


def network(arch: str) -> Any:
    module, _, name = MODELS[arch].network.partition(":")
    return getattr(importlib.import_module(module), name)


def build(arch: str, wiring: str = "stable", size: str = "lite", classes: int | None = 7, **more: Any) -> Network:
    """A network with random weights, drawn after seed 0."""
    torch.manual_seed(0)
    return network(arch)(classes, **{**MODELS[arch].keywords(wiring, size), **more})


def example(arch: str, batch: int = 2, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    spec = MODELS[arch].specs["lite"]
    shapes = {name: (1, *s.size) if s.source == "audio" else (s.frames, 3, *s.size) for name, s in spec.streams.items()}
    return {name: torch.randn(batch, spec.clips, *shape, generator=generator) for name, shape in shapes.items()}


def full_masks(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """All True; (B, C, F), audio (B, C, 1)."""
    return {name: torch.ones(x.shape[:3] if x.ndim == 6 else (*x.shape[:2], 1)).bool() for name, x in inputs.items()}


def spread(mask: Tensor, x: Tensor) -> Tensor:
    """The mask (B, C, F or 1) in the number of dimensions of x."""
    return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))


def tensors(output: Any) -> dict[str, Tensor]:
    """Everything an Output holds, by name."""
    found = {"logits": output.logits, "va": output.va, **output.attention}
    return {name: value for name, value in found.items() if value is not None}
