"""Controls that take something away from a model's input: what is lost shows what the answer rested on.

They cost no training: the same weights answer again for the same items, without a stream, with the scene of somebody
else, or with time in disorder. They say what a network uses; what a mechanism adds is said by retrained controls.

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
class Seen:
    """A batch as a control shows it. ``back`` (B, C): where each clip of the items was put, or None = where it was."""

    batch: Batch
    back: Tensor | None = None


def missing(spec: ClipSpec, control: str) -> str | None:
    """Why a control says nothing about a model that looks at ``spec``; None where it does."""
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
    """The controls that say something about a model that looks at ``spec``, each once."""
    found: dict[object, str] = {}
    for c in INPUT_CONTROLS:
        if missing(spec, c) is None:
            left = frozenset(n for n, s in spec.streams.items() if s.source in KEEPS[c]) if c in KEEPS else c
            found.setdefault(left, c)  # where the face is all there is to see, face-only and video-only are one
    return list(found.values())


def check(spec: ClipSpec, control: str, name: str) -> None:
    """UsageError where ``control`` says nothing about the model ``name``, which looks at ``spec``."""
    if why := missing(spec, control):
        there = ", ".join(of(spec)) or "none of its input"
        raise UsageError(f"{name} has no control '{control}': {why}; there are {there}")


def keep(spec: ClipSpec, control: str) -> Callable[[Batch], Seen]:
    """Masks every stream but those of the control's sources."""
    gone = [n for n, s in spec.streams.items() if s.source not in KEEPS[control]]

    def apply(batch: Batch) -> Seen:
        inputs = {k: torch.zeros_like(x) if k in gone else x for k, x in batch.inputs.items()}
        masks = {k: torch.zeros_like(m) if k in gone else m for k, m in batch.masks.items()}
        return Seen(replace(batch, inputs=inputs, masks=masks))

    return apply


def shuffle_time(batch: Batch) -> Seen:
    """Every item's clips, and the frames in them, in a disorder drawn from its id: streams stay together.

    An item's disorder is the same in every run and batch. Answers per clip are put back through ``back``.
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
    return Seen(replace(batch, inputs=inputs, masks=masks), order.argsort(1))


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.sha1(f"shuffled-time:{name}".encode()).digest()[:8], "big")


class OthersContext:
    """Gives every item the context of the item before it; the order of items is drawn by :func:`dealt`.

    The first item that it is shown has none before it and gets its own: it must not be counted.
    """

    def __init__(self, spec: ClipSpec) -> None:
        self.streams = [n for n, s in spec.streams.items() if s.source == "context"]
        self.held: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None

    def __call__(self, batch: Batch) -> Seen:
        inputs, masks = dict(batch.inputs), dict(batch.masks)
        first = self.held or tuple({n: x[n][:1] for n in self.streams} for x in (inputs, masks))
        self.held = tuple({n: x[n][-1:].clone() for n in self.streams} for x in (inputs, masks))  # type: ignore[assignment]
        for n in self.streams:
            inputs[n] = torch.cat([first[0][n], inputs[n][:-1]])
            masks[n] = torch.cat([first[1][n], masks[n][:-1]])
        return Seen(replace(batch, inputs=inputs, masks=masks, one_image=False))


def dealt(count: int) -> list[int]:
    """A fixed disorder of ``count`` items: manifests are sorted by class, and neighbours would share it."""
    return np.random.default_rng(0).permutation(count).tolist()


def shown(spec: ClipSpec, controls: Sequence[str]) -> list[Callable[[Batch], Seen]]:
    """What each control does to a batch, in order."""
    return [
        OthersContext(spec) if c == "shuffled-context" else shuffle_time if c == "shuffled-time" else keep(spec, c)
        for c in controls
    ]
