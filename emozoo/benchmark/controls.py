"""Controls of the input: what a prediction loses without a stream, with another's scene, or with shuffled time.

They need no training: the same weights predict the same items again. They show which part of its input a network uses;
what a mechanism adds is shown by retrained controls.

Legend: B = items, C = clips, F = frames in a clip.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from emozoo.batch import Batch
from emozoo.errors import UsageError
from emozoo.spec import ClipSpec

# name -> sources of the streams that are left
KEEPS: dict[str, tuple[str, ...]] = {
    "face-only": ("face",),
    "context-only": ("context",),
    "audio-only": ("audio",),
    "video-only": ("face", "context", "frame"),
}
INPUT_CONTROLS = (*KEEPS, "shuffled-context", "shuffled-time")


@dataclass
class ControlledBatch:
    """A batch whose input a control has changed. ``back`` (B, C): the new index of each clip, None = unchanged."""

    batch: Batch
    back: Tensor | None = None


Change = Callable[[Batch], ControlledBatch]


def missing(spec: ClipSpec, control: str) -> str | None:
    """Why a control does not apply to a model with this ``spec``; None where it applies."""
    sources = {s.source for s in spec.streams.values()}
    if control in KEEPS:
        kept = sources & set(KEEPS[control])
        if not kept:
            return f"it has no {' or '.join(KEEPS[control])} stream"
        return "it has nothing else to take away" if kept == sources else None
    if control == "shuffled-context":
        return None if "context" in sources and len(sources) > 1 else "it has no context stream beside others"
    if spec.clips == 1 and all(s.frames == 1 for s in spec.streams.values()):
        return "it looks at one moment only"
    return None


def of(spec: ClipSpec) -> list[str]:
    """The controls that apply to a model with this ``spec``, each once."""
    found: dict[object, str] = {}
    for c in INPUT_CONTROLS:
        if missing(spec, c) is None:
            left = frozenset(n for n, s in spec.streams.items() if s.source in KEEPS[c]) if c in KEEPS else c
            found.setdefault(left, c)  # where the face is all there is to see, face-only and video-only are one
    return list(found.values())


def check(spec: ClipSpec, control: str, name: str) -> None:
    """Raises UsageError where ``control`` does not apply to the model ``name`` with this ``spec``."""
    if why := missing(spec, control):
        there = ", ".join(of(spec)) or "none of its input"
        raise UsageError(f"{name} has no control '{control}': {why}; there are {there}")


def keep(spec: ClipSpec, control: str) -> Change:
    """Masks every stream but those of the control's sources."""
    removed = [n for n, s in spec.streams.items() if s.source not in KEEPS[control]]

    def apply(batch: Batch) -> ControlledBatch:
        inputs = {k: torch.zeros_like(x) if k in removed else x for k, x in batch.inputs.items()}
        masks = {k: torch.zeros_like(m) if k in removed else m for k, m in batch.masks.items()}
        return ControlledBatch(replace(batch, inputs=inputs, masks=masks))

    return apply


def shuffle_time(batch: Batch) -> ControlledBatch:
    """Shuffles every item's clips, and the frames in them, all streams alike.

    The order is drawn from the item's id, so it is the same in every run and batch. ``back`` restores the order of
    predictions per clip.
    """
    names = batch.meta["id"]
    clips = next(iter(batch.masks.values())).shape[1]
    draws = [np.random.default_rng(_seed(i)) for i in names]
    order = torch.from_numpy(np.stack([r.permutation(clips) for r in draws]))
    inputs, masks = {}, {}
    frames: dict[int, Tensor] = {}  # streams with as many frames move alike
    for k, x in batch.inputs.items():
        f = batch.masks[k].shape[2]
        if f not in frames:
            frames[f] = torch.from_numpy(np.stack([[r.permutation(f) for _ in range(clips)] for r in draws]))
        at = torch.arange(len(names))[:, None, None]
        clip, frame = order[:, :, None], frames[f]
        masks[k] = batch.masks[k][at, clip, frame]
        # Audio has one window a clip, (B, C, 1, M, S); images have (B, C, F, 3, H, W).
        inputs[k] = x[at, clip, frame] if x.ndim == 6 else x[at[:, :, 0], order]
    return ControlledBatch(replace(batch, inputs=inputs, masks=masks), order.argsort(1))


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.sha1(f"shuffled-time:{name}".encode()).digest()[:8], "big")


class OthersContext:
    """Gives every item the context of the item before it; :func:`shuffled` draws the order of items.

    The very first item gets its own context: it must not be counted.
    """

    def __init__(self, spec: ClipSpec) -> None:
        self.streams = [n for n, s in spec.streams.items() if s.source == "context"]
        self.held: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None

    def __call__(self, batch: Batch) -> ControlledBatch:
        inputs, masks = dict(batch.inputs), dict(batch.masks)
        first = self.held or tuple({n: x[n][:1] for n in self.streams} for x in (inputs, masks))
        self.held = tuple({n: x[n][-1:].clone() for n in self.streams} for x in (inputs, masks))  # type: ignore[assignment]
        for n in self.streams:
            inputs[n] = torch.cat([first[0][n], inputs[n][:-1]])
            masks[n] = torch.cat([first[1][n], masks[n][:-1]])
        return ControlledBatch(replace(batch, inputs=inputs, masks=masks, one_image=False))


def shuffled(count: int) -> list[int]:
    """A fixed random order of ``count`` items: manifests are sorted by class, and neighbours would share it."""
    return np.random.default_rng(0).permutation(count).tolist()


def changes(spec: ClipSpec, controls: Sequence[str]) -> list[Change]:
    """The change that each control makes to a batch, in the order of ``controls``."""
    return [
        OthersContext(spec) if c == "shuffled-context" else shuffle_time if c == "shuffled-time" else keep(spec, c)
        for c in controls
    ]
