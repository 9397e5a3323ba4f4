"""Controls of the input: what a prediction loses without a stream, with another item's context, or with shuffled time.

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
from emozoo.spec import KINDS, ClipSpec, StreamKind

# name -> whether a stream of that kind is left
LEFT: dict[str, Callable[[StreamKind], bool]] = {
    "face-only": lambda kind: kind.crops_face,
    "context-only": lambda kind: kind.hides_face,
    "audio-only": lambda kind: kind.needs_audio,
    "video-only": lambda kind: kind.needs_images,
}
INPUT_CONTROLS = (*LEFT, "shuffled-context", "shuffled-time")


@dataclass
class ControlledBatch:
    """A batch whose input a control has changed. ``back`` (B, C): the new index of each clip, None = unchanged."""

    batch: Batch
    back: Tensor | None = None


Change = Callable[[Batch], ControlledBatch]


def left_streams(spec: ClipSpec, control: str) -> list[str]:
    """Names of the streams that a control of :data:`LEFT` leaves."""
    return [n for n, s in spec.streams.items() if LEFT[control](s.kind)]


def problem(spec: ClipSpec, control: str) -> str | None:
    """Why a control does not apply to a model with this ``spec``; None where it applies."""
    if control in LEFT:
        if not (left := left_streams(spec, control)):
            return f"it has no {' or '.join(n for n, kind in KINDS.items() if LEFT[control](kind))} stream"
        return "it has nothing else to take away" if len(left) == len(spec.streams) else None
    if control == "shuffled-context":
        scenes = [s.source for s in spec.streams.values() if s.kind.hides_face]
        others = {s.source for s in spec.streams.values()} - set(scenes)
        return None if scenes and others else "it has no context stream beside others"
    if spec.clips == 1 and all(s.frames == 1 for s in spec.streams.values()):
        return "it looks at one moment only"
    return None


def of(spec: ClipSpec) -> list[str]:
    """The controls that apply to a model with this ``spec``, each once."""
    found: dict[object, str] = {}
    for c in INPUT_CONTROLS:
        if problem(spec, c) is None:
            # Without an image stream beside the face, face-only and video-only are one.
            found.setdefault(frozenset(left_streams(spec, c)) if c in LEFT else c, c)
    return list(found.values())


def check(spec: ClipSpec, control: str, name: str) -> None:
    """Raises UsageError where ``control`` does not apply to the model ``name`` with this ``spec``."""
    if why := problem(spec, control):
        there = ", ".join(of(spec)) or "none of its input"
        raise UsageError(f"{name} has no control '{control}': {why}; there are {there}")


def leave_only(spec: ClipSpec, control: str) -> Change:
    """Masks every stream but those that the control leaves."""
    left = left_streams(spec, control)

    def apply(batch: Batch) -> ControlledBatch:
        inputs = {k: x if k in left else torch.zeros_like(x) for k, x in batch.inputs.items()}
        masks = {k: m if k in left else torch.zeros_like(m) for k, m in batch.masks.items()}
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
    at, clip = torch.arange(len(names))[:, None, None], order[:, :, None]
    inputs, masks = {}, {}
    frames: dict[int, Tensor] = {}  # streams with as many frames move alike
    for k, x in batch.inputs.items():
        f = batch.masks[k].shape[2]
        if f not in frames:
            frames[f] = torch.from_numpy(np.stack([[r.permutation(f) for _ in range(clips)] for r in draws]))
        masks[k] = batch.masks[k][at, clip, frames[f]]
        inputs[k] = x[at, clip, frames[f]]
    return ControlledBatch(replace(batch, inputs=inputs, masks=masks), order.argsort(1))


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.sha1(f"shuffled-time:{name}".encode(errors="surrogatepass")).digest()[:8], "big")


class OthersContext:
    """Gives every item the context of the item before it; :func:`shuffled` draws the order of items.

    The very first item gets its own context: it must not be counted.
    """

    def __init__(self, spec: ClipSpec) -> None:
        self.streams = [n for n, s in spec.streams.items() if s.kind.hides_face]
        self.held: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None

    def __call__(self, batch: Batch) -> ControlledBatch:
        inputs, masks = dict(batch.inputs), dict(batch.masks)
        first = self.held or tuple({n: x[n][:1] for n in self.streams} for x in (inputs, masks))
        self.held = tuple(  # type: ignore[assignment]
            {n: x[n][-1:].clone() for n in self.streams} for x in (inputs, masks)
        )
        for n in self.streams:
            inputs[n] = torch.cat([first[0][n], inputs[n][:-1]])
            masks[n] = torch.cat([first[1][n], masks[n][:-1]])
        return ControlledBatch(replace(batch, inputs=inputs, masks=masks, one_image=False))


def shuffled(count: int) -> list[int]:
    """A fixed random order of ``count`` items: manifests are sorted by class, and neighbours would share it."""
    return np.random.default_rng(0).permutation(count).tolist()


def changes(spec: ClipSpec, controls: Sequence[str]) -> list[Change]:
    """The change that each control makes to a batch, in the order of ``controls``."""
    own: dict[str, Callable[[], Change]] = {
        "shuffled-context": lambda: OthersContext(spec),
        "shuffled-time": lambda: shuffle_time,
    }
    return [own[c]() if c in own else leave_only(spec, c) for c in controls]
