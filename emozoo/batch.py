"""Batch: what data give, networks take and training changes.

Legend: B = samples, C = clips, F = frames in a clip, H, W = pixels, M = mel bins, S = spectrogram steps, K = classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from emozoo.errors import UsageError
from emozoo.spec import ClipSpec

IGNORE = -100  # class index of a sample without an emotion label, as cross-entropy ignores it


@dataclass
class Batch:
    """B samples as tensors.

    Attributes:
        inputs: by stream, float32 (B, C, F, 3, H, W) normalised; audio (B, C, 1, M, S); others as their
            :class:`~emozoo.spec.StreamKind` says. Zeros where masked. If ``encoded``, features of a frozen encoder.
        masks: by stream, bool (B, C, F): true = real.
        targets: ``emotion`` (B,) int64 (-100 = unlabelled) or (B, K) float votes; ``va`` (B, C, 2) in [-1, 1] with
            ``va_mask`` (B, C) bool; ``teacher`` (B, K) probabilities, NaN where there are none.
        meta: ``id`` list of B names, ``times`` (B, C) float64 seconds, ``frames`` by stream (B, C, F) int64,
            ``boxes`` (B, C, 4), ``no_face`` (B,) bool, ``warnings`` list of B lists.
        rows: for each sample the number of its row in the table that was loaded.
        skipped: one line for each row that could not be read and is not in the batch.
        one_image: every image stream of every sample shows one image throughout, as a still does.
        encoded: ``inputs`` hold features, which go to the network's head alone.
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


@dataclass(frozen=True)
class DataInfo:
    """What a module needs to know of its ``data``: a data module, one of its loaders, or anything else.

    What the data do not have is None, or False.
    """

    data: Any

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names in the order of the label numbers; None where they are not known."""
        return tuple(getattr(self.data, "classes", None) or ()) or None

    @property
    def spec(self) -> ClipSpec | None:
        """The ClipSpec that batches follow; None where it is not known."""
        spec = getattr(self.data, "spec", None)
        return spec if isinstance(spec, ClipSpec) else None

    @property
    def class_prior(self) -> Any:
        """Fraction of each class among the training labels, an array (K,); None where it is not known."""
        return getattr(self.data, "class_prior", None)

    @property
    def has_teacher(self) -> bool:
        """Whether batches bring the probabilities of a teacher, ``targets["teacher"]``."""
        return bool(getattr(self.data, "teacher_files", None))

    @property
    def has_unlabelled(self) -> bool:
        """Whether a training set has no labels, so that only a teacher can make use of it."""
        return not all(x.get("labels", True) for x in getattr(self.data, "also", ()))


def check_inputs(inputs: Any, masks: Any, spec: ClipSpec, arch: str) -> None:
    """Raises UsageError for anything but a mapping with a tensor of the right axes and type for each stream of a spec.

    Not every network would notice other axes. ``masks`` are a mapping, too, or None.
    """
    call = f"model({{{', '.join(f'{s!r}: tensor' for s in spec.streams)}}}), or model(batch)"
    if not isinstance(inputs, Mapping):
        raise UsageError(f"{arch} takes a tensor for each of its streams: call {call}")
    if lacking := [s for s in spec.streams if s not in inputs]:
        raise UsageError(f"{arch} also looks at {', '.join(lacking)}: call {call}")
    if masks is not None and not isinstance(masks, Mapping):
        first = next(iter(spec.streams))
        raise UsageError(f"masks are one for each stream, {{'{first}': (B, C, F) of true = real}}, or None")
    for name, stream in spec.streams.items():
        x = inputs[name]
        if not isinstance(x, Tensor):
            raise UsageError(f"stream '{name}' is a {type(x).__name__}, not a tensor: convert it with torch.as_tensor")
        stream.kind.check_shape(name, tuple(x.shape))
        if not x.is_floating_point():
            raise UsageError(f"stream '{name}' must be floating point, normalised as the spec says; got {x.dtype}")


# -- what training changes -----------------------------------------------------------------------------------------


def mirrored(inputs: Mapping[str, Tensor], spec: ClipSpec) -> dict[str, Tensor]:
    """Inputs with left and right exchanged in each stream that has these; the others, as audio, stay."""
    mirrors = {k: s.kind.mirror for k, s in spec.streams.items()}
    return {k: mirror(x) if (mirror := mirrors.get(k)) else x for k, x in inputs.items()}


def mix(batch: Batch, alpha: float, num_classes: int) -> Batch:
    """Mixup: each clip and its targets averaged with those of another clip of the batch (Zhang et al., ICLR 2018).

    The weight is drawn from Beta(``alpha``, ``alpha``), one for the batch. Class numbers become soft labels (B, K); an
    unlabelled clip adds none. Valence and arousal count where both clips have them.
    """
    targets, some = dict(batch.targets), next(iter(batch.inputs.values()))
    weight = float(torch.distributions.Beta(alpha, alpha).sample())
    order = torch.randperm(some.shape[0], device=some.device)
    inputs = {k: torch.lerp(x[order], x, weight) for k, x in batch.inputs.items()}
    if (y := targets.get("emotion")) is not None:
        if y.ndim == 1:
            known = (y >= 0).unsqueeze(1)
            y = F.one_hot(y.clamp(min=0), num_classes).float() * known
        targets["emotion"] = torch.lerp(y[order], y, weight)
    for name in {"teacher", "va"} & targets.keys():
        targets[name] = torch.lerp(targets[name][order], targets[name], weight)
    if "va_mask" in targets:
        targets["va_mask"] = targets["va_mask"] & targets["va_mask"][order]
    return replace(batch, inputs=inputs, targets=targets)


def drop_streams(batch: Batch, chance: float) -> Batch:
    """Hides each stream of each clip with that chance, as if its face or audio were missing.

    A hidden stream is all zeros and its mask false. Of the real streams of a clip at least one stays.
    """
    names = list(batch.inputs)
    first = batch.inputs[names[0]]
    drop = torch.rand(first.shape[0], len(names), device=first.device) < chance
    real = torch.stack([batch.masks[n].flatten(1).any(1) for n in names], 1)
    drop &= (real & ~drop).any(1, keepdim=True)
    inputs, masks = dict(batch.inputs), dict(batch.masks)
    for i, n in enumerate(names):
        stays = ~drop[:, i]
        inputs[n] = inputs[n] * stays.view(-1, *[1] * (inputs[n].ndim - 1))
        masks[n] = masks[n] & stays[:, None, None]
    return replace(batch, inputs=inputs, masks=masks)
