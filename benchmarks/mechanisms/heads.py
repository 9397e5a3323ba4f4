"""Heads on frozen features: the papers' own, the simple ones that a skeptic would choose, and how all are trained.

Legend: N = clips, B = batch, C = clips of a network, F = frames, W = width of a feature, K = classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from emozoo.losses import concordance_loss, cross_entropy, inverse_temperature
from emozoo.models.network import Output
from emozoo.registry import build_network
from emozoo.synthemo import EMOTIONS

from .clips import Tensors

BATCH, LR, DECAY, SMOOTHING = 64, 3e-3, 0.05, 0.05

DrawBatch = Callable[[Tensor, torch.Generator], tuple[Tensors, Tensors, Tensors]]  # rows -> features, masks, targets


def lite_network(arch: str, classes: Sequence[str] = EMOTIONS, **options: Any) -> nn.Module:
    """An architecture at size lite; its encoders are frozen and not used: features come from the shared ones."""
    net = build_network(arch, "stable", "lite", classes, options)
    for part in net.encoding:
        net.get_submodule(part).requires_grad_(False)
    return net


def trainable_parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


class PooledHead(nn.Module):
    """A skeptic's head: maps (B, C, F, W, h, w) of the named streams are averaged, then ``body`` predicts per frame."""

    def __init__(self, streams: Sequence[str], body: nn.Module) -> None:
        super().__init__()
        self.streams, self.body = streams, body

    def head(self, features: Tensors, masks: Tensors) -> Output:
        """Logits averaged over frames."""
        x = torch.cat([features[s].mean((-2, -1)) for s in self.streams], -1)
        return Output(self.body(x).flatten(1, 2).mean(1), None, {})


def mlp(inputs: int, classes: int, budget: int) -> nn.Sequential:
    """Two hidden layers, as wide as a budget of parameters allows."""
    b = inputs + classes + 2  # h^2 + b h + classes = budget
    h = round((-b + math.sqrt(b * b + 4 * (budget - classes))) / 2)
    return nn.Sequential(
        nn.Linear(inputs, h), nn.ReLU(), nn.Dropout(0.5), nn.Linear(h, h), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(h, classes),
    )  # fmt: skip


class BilinearBody(nn.Module):
    """All products of two projected halves, and the halves themselves, into one linear layer."""

    def __init__(self, width: int, classes: int, rank: int = 64) -> None:
        super().__init__()
        self.left, self.right = (nn.Sequential(nn.LayerNorm(width), nn.Linear(width, rank)) for _ in range(2))
        self.out = nn.Sequential(nn.Dropout(0.5), nn.Linear((rank + 1) ** 2, classes))

    def forward(self, x: Tensor) -> Tensor:
        """(..., 2 W) -> (..., K)."""
        a, b = x.chunk(2, -1)
        a, b = (fn.pad(x, (0, 1), value=1.0) for x in (self.left(a), self.right(b)))
        return self.out((a.unsqueeze(-1) * b.unsqueeze(-2)).flatten(-2))


def train_head(build: Callable[[], nn.Module], seed: int, size: int, draw_batch: DrawBatch, steps: int) -> nn.Module:
    """Builds a head and trains it for ``steps`` batches of rows below ``size``.

    The random start, the dropout and the rows follow from the seed alone. AdamW, 5 % warm-up, then cosine to zero: the
    recipes' settings at half their length.
    """
    torch.manual_seed(seed)
    net: Any = build()
    generator = torch.Generator().manual_seed(seed)
    learn = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learn if p.ndim > 1], "weight_decay": DECAY},
        {"params": [p for p in learn if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR)
    warm = max(1, steps // 20)

    def lr_factor(step: int) -> float:
        return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / (steps - warm))))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_factor)
    rows = torch.cat([torch.randperm(size, generator=generator) for _ in range(steps * BATCH // size + 1)])
    net.train()
    for i in range(steps):
        features, masks, targets = draw_batch(rows[i * BATCH : (i + 1) * BATCH], generator)
        out = net.head(features, masks)
        loss = cross_entropy(out.logits, targets["emotion"], smoothing=SMOOTHING)
        if out.va is not None:
            loss = loss + concordance_loss(out.va, targets["va"], targets["va_mask"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def outputs_of(net: Any, features: Tensors, masks: Tensors, size: int = 70) -> list[Output]:
    """The head's outputs, ``size`` clips at a time."""
    count = len(next(iter(features.values())))
    return [
        net.head({k: x[i : i + size] for k, x in features.items()}, {k: x[i : i + size] for k, x in masks.items()})
        for i in range(0, count, size)
    ]


def logits_of(net: nn.Module, features: Tensors, masks: Tensors) -> Tensor:
    """(N, K)."""
    return torch.cat([out.logits for out in outputs_of(net, features, masks)])  # type: ignore[misc]


def calibrated_log_probabilities(logits: Tensor, held_out_logits: Tensor, held_out_labels: Tensor) -> Tensor:
    """Log probabilities (N, K), with the temperature under which held-out labels are likeliest."""
    return (inverse_temperature(held_out_logits, held_out_labels, steps=81) * logits).log_softmax(1)
