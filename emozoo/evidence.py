"""Evidence: what a network was given for one window of a file, and what it attended to there.

Torch is imported by :func:`pixels` alone: files are opened without it.

Legend: B = batch, C = clips, F = frames in a clip, H, W = pixels, M = mel bins, S = spectrogram steps, K = classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from emozoo.spec import ClipSpec, StreamSpec
from emozoo.timeline import Window

if TYPE_CHECKING:
    from torch import Tensor

    from emozoo.batch import Batch

VA = -1  # stands for the class of networks that predict valence and arousal alone


@dataclass(frozen=True)
class Evidence:
    """One window as the network saw it, copied from the batch of the prediction itself.

    Attributes:
        arch, spec: of the network.
        window: the entry of the timeline, and the seconds that were read for it.
        scores: (K,) class probabilities of the window; None without classes.
        attention: the maps of the network's Output, float32, without the axis of the batch.
        images: by stream, uint8 (C, F, H, W, 3) RGB: the inputs, with their normalization undone.
        audio: by stream, float32 (C, M, S) in dB; of a waveform (C, 1, S) samples.
        masks: by stream, bool (C, F): true = real. What is false holds nothing.
        times: float64 (C,) seconds: the clip's middle frame; with ``trailing`` sampling its last.
    """

    arch: str
    spec: ClipSpec
    window: Window
    scores: np.ndarray | None
    attention: dict[str, np.ndarray]
    images: dict[str, np.ndarray]
    audio: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]
    times: np.ndarray


class Best:
    """For each class the window of a face in which its score is highest.

    At most K windows are in memory; one that is best for several classes only once.
    """

    def __init__(self) -> None:
        self._found: dict[int, tuple[float, Evidence]] = {}

    def add(
        self, arch: str, spec: ClipSpec, window: Window, batch: Batch, i: int, scores: np.ndarray | None,
        va: np.ndarray | None, attention: Mapping[str, Tensor],
    ) -> None:  # fmt: skip
        """Keeps sample ``i`` of a batch where it is the best so far; ``scores`` (K,) and ``va`` (C, 2) are its own."""
        if scores is not None:
            values = dict(enumerate(scores.tolist()))
        else:
            values = {VA: 0.0 if va is None else float(np.linalg.norm(va, axis=-1).mean())}
        if higher := [k for k, v in values.items() if k not in self._found or v > self._found[k][0]]:
            found = _evidence(arch, spec, window, batch, i, scores, attention)
            self._found |= {k: (values[k], found) for k in higher}

    def of(self, number: int) -> Evidence | None:
        """The window for a class; for ``VA``, that with valence and arousal farthest from neutral."""
        return self._found[number][1] if number in self._found else None


def _evidence(
    arch: str, spec: ClipSpec, window: Window, batch: Batch, i: int, scores: np.ndarray | None,
    attention: Mapping[str, Tensor],
) -> Evidence:  # fmt: skip
    inputs = {name: batch.inputs[name][i] for name in spec.streams}
    return Evidence(
        arch,
        spec,
        window,
        scores,
        {k: x[i].float().cpu().numpy() for k, x in attention.items()},
        {name: pixels(x, spec.streams[name]) for name, x in inputs.items() if spec.streams[name].kind.is_image},
        {name: _heard(x, spec.streams[name]) for name, x in inputs.items() if spec.streams[name].audio},
        {name: batch.masks[name][i].cpu().numpy() for name in spec.streams},
        batch.meta["times"][i].numpy(),
    )


def _heard(x: Tensor, stream: StreamSpec) -> np.ndarray:
    """Inputs of an audio stream (C, 1, M, S) before normalization: (C, M, S)."""
    return (x.float().cpu() * stream.std[0] + stream.mean[0]).squeeze(1).numpy()


def pixels(x: Tensor, stream: StreamSpec) -> np.ndarray:
    """Inputs of an image stream (..., 3, H, W) as they were before normalization: uint8 (..., H, W, 3) RGB."""
    import torch

    mean, std = (torch.tensor(v)[:, None, None] for v in (stream.mean, stream.std))
    images = (x.float().cpu() * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8)
    return images.movedim(-3, -1).numpy()
