"""How fast a network is on this machine, from its input to its prediction; reading media is not part of it."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from emozoo.device import ready
from emozoo.recognizer import Recognizer
from emozoo.spec import ClipSpec

ROUNDS = 7
BATCH = 8


@torch.inference_mode()
def measure(name: str, device: str = "cpu", batch: int = BATCH) -> dict[str, Any]:
    """Numbers of the weights of that name, as predictions run them: mirror images averaged, batch norms folded.

    ``latency_ms``: of one clip, the median of 7 runs. ``clips_per_s``: in batches of ``batch``. ``memory_mb``: what a
    batch takes at its peak, beside the weights; None where it cannot be measured. ``parameters``: after folding.
    ``gmacs``: billions of multiplications with an addition for one clip, in convolutions, matrix products and
    attention; recurrent layers are not counted. Errors are those of :func:`emozoo.predict`.
    """
    module = ready(name, device)
    one, many = (_noise(module.spec, n, module.device) for n in (1, batch))
    with FlopCounterMode(display=False) as counter:
        module(one)
    latency = _seconds(module, one)
    before = _peak(module.device, reset=True)
    taken = _seconds(module, many)
    after = _peak(module.device)
    return {
        "name": module.name,
        "device": str(module.device),
        "threads": torch.get_num_threads(),
        "batch": batch,
        "latency_ms": 1e3 * latency,
        "clips_per_s": batch / taken,
        "memory_mb": None if before is None or after is None else max(0.0, after - before),
        "parameters": sum(p.numel() for p in module.net.parameters()),
        "gmacs": counter.get_total_flops() / 2e9,
    }


def _noise(spec: ClipSpec, batch: int, device: torch.device) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {n: (batch, spec.clips, s.frames, *s.kind.item_shape(s.size)) for n, s in spec.streams.items()}
    return {n: torch.randn(shape, generator=generator).mul(0.3).to(device) for n, shape in shapes.items()}


def _seconds(module: Recognizer, inputs: dict[str, Tensor]) -> float:
    found = []
    for _ in range(ROUNDS + 1):
        begun = time.perf_counter()
        module(inputs)
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        found.append(time.perf_counter() - begun)
    return statistics.median(found[1:])  # the first makes buffers


def _peak(device: torch.device, reset: bool = False) -> float | None:
    """Peak memory in MB: of the GPU, or of this process (Linux). ``reset``: from now on; the memory in use now."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError, ValueError):
        return None
