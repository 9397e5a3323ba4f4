"""Batch: what data give, networks take and training changes.

Legend: B = samples, C = clips, F = frames in a clip, H, W = pixels, M = mel bins, S = spectrogram steps, K = classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

IGNORE = -100  # class index of a sample without an emotion label, as cross-entropy ignores it


@dataclass
class Batch:
    """B samples as tensors.

    Attributes:
        inputs: by stream, float32 (B, C, F, 3, H, W) normalised; audio (B, C, 1, M, S). Zeros where masked. Where
            ``encoded``, the features of a frozen encoder instead.
        masks: by stream, bool (B, C, F): true = real.
        targets: ``emotion`` (B,) int64 (-100 = unlabelled) or (B, K) float votes; ``va`` (B, C, 2) in [-1, 1] with
            ``va_mask`` (B, C) bool; ``teacher`` (B, K) probabilities, NaN where there are none.
        meta: ``id`` list of B names, ``times`` (B, C) float64 seconds, ``frames`` by stream (B, C, F) int64,
            ``boxes`` (B, C, 4), ``no_face`` (B,) bool, ``warnings`` list of B lists.
        rows: for each sample the number of its row in the table that was loaded.
        skipped: one line for each row that could not be read and is not in the batch.
        one_image: every image stream of every sample shows one image throughout, as a still does.
        encoded: ``inputs`` hold features, which only the network's head still has to see.
    """

    inputs: dict[str, Tensor]
    masks: dict[str, Tensor]
    targets: dict[str, Tensor] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    one_image: bool = False
    encoded: bool = False

    def __len__(self) -> int:
        return len(self.meta["id"])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch with inputs, masks and targets on a device."""
        parts = (self.inputs, self.masks, self.targets)
        inputs, masks, targets = ({k: x.to(device, non_blocking=non_blocking) for k, x in p.items()} for p in parts)
        return replace(self, inputs=inputs, masks=masks, targets=targets)

    def pin_memory(self) -> Batch:
        """The same batch in pinned memory, as DataLoader asks for."""
        parts = (self.inputs, self.masks, self.targets)
        inputs, masks, targets = ({k: x.pin_memory() for k, x in p.items()} for p in parts)
        return replace(self, inputs=inputs, masks=masks, targets=targets)
