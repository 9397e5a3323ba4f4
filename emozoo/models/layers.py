"""What two papers share: exact masking, sums that stay in float32 under autocast, and blocks of networks.

Legend: B batch, C clips, F frames in a clip, T = C * F frames or steps, D feature width, K classes.

Masking, everywhere in this package: a mask is True where the input is real. What is masked becomes zeros right behind
the encoder and takes no part in any mean, maximum or softmax. In training it is not run through an encoder at all, so
that batch statistics never see it. In evaluation the result is bit-equal whatever the masked input holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

# Names that moved to network.py (all but Masks) can be imported from here for one more version.
from emozoo.models.network import EncoderNet, Masks, Output, count_parameters  # noqa: F401

PART = 32  # items that an encoder gets at a time for predictions on a CPU: more need more memory and are no faster
LEAST_ITEM = 4096  # numbers in an item below which it is not worth looking for equal ones


def at_least_fp32(x: Tensor) -> Tensor:
    """Half and bfloat16 become float32 (sums and softmax need the digits); float32 and float64 stay as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def safe_sqrt(x: Tensor) -> Tensor:
    """The square root of numbers from 0; where one is 0 the gradient is 0, not the infinite one, which becomes NaN."""
    zero = x == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, x).sqrt())


def stream_mask(masks: Masks, name: str, like: Tensor, ndim: int) -> Tensor:
    """The stream's mask, all True where none is given, over the first ``ndim`` dimensions of ``like``.

    A mask with fewer dimensions is repeated, one with more is reduced with "any frame is real".
    """
    if masks is None or name not in masks:
        return torch.ones(like.shape[:ndim], dtype=torch.bool, device=like.device)
    mask = masks[name]
    while mask.ndim > ndim:
        mask = mask.any(-1)
    while mask.ndim < ndim:
        mask = mask.unsqueeze(-1)
    return mask.expand(like.shape[:ndim])


def all_real(mask: Tensor) -> bool:
    """Whether every entry is seen to be True: never in a graph, which must do for other masks, nor on accelerators,
    where to look is to wait."""
    if mask.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return bool(mask.all())


def zero_masked(x: Tensor, mask: Tensor) -> Tensor:
    """``x`` with zeros where ``mask``, over the leading dimensions of ``x``, is False; exact, also over NaN.

    Where nothing is masked it may be ``x`` itself.
    """
    if all_real(mask):
        return x
    return torch.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x, 0.0)


def masked_softmax(scores: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Softmax over the True entries; masked ones get exactly 0, a row without any True entry is all 0."""
    scores = at_least_fp32(scores)
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.where(mask, scores.softmax(dim), 0.0)


def masked_sigmoid(scores: Tensor, mask: Tensor) -> Tensor:
    """Sigmoid of each True entry; masked ones get exactly 0. ``scores`` and ``mask`` have one shape."""
    return torch.where(mask, at_least_fp32(scores).sigmoid(), 0.0)


def masked_mean(x: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Mean over the True entries of dimension ``dim`` (mask: leading dimensions of x); 0 where there are none."""
    weight = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
    total = torch.where(weight, at_least_fp32(x), 0.0).sum(dim)
    return total / weight.sum(dim).clamp(min=1)


def masked_max(x: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Element-wise maximum over the True entries of dimension ``dim``; 0 where there are none."""
    weight = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
    best = x.masked_fill(~weight, torch.finfo(x.dtype).min).amax(dim)
    return torch.where(weight.any(dim), best, 0.0)


def weighted_mean(x: Tensor, weight: Tensor, dim: int) -> Tensor:
    """Sum of ``weight * x`` over ``dim`` divided by the sum of the weights; 0 where all weights are 0."""
    weight, x = at_least_fp32(weight).unsqueeze(-1), at_least_fp32(x)
    total = weight.sum(dim)
    return (weight * x).sum(dim) / torch.where(total > 0, total, 1.0)


def encode_masked(encoder: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """Runs an encoder on every real item and returns zeros for the masked ones.

    ``x`` (*mask.shape, *item) -> (*mask.shape, *out). In training mode only the real items pass through the encoder, so
    that batch norm does not see padding; a batch without a real item leaves its statistics alone. In evaluation mode
    all items pass (:func:`encode_distinct`), and the outputs of masked ones are set to zero.
    """
    lead, flat = mask.shape, mask.flatten()
    items = x.flatten(0, mask.ndim - 1)  # (N, *item)
    if items.ndim == 4 and items.is_floating_point():
        items = items.contiguous(memory_format=torch.channels_last)  # twice as fast on a CPU, harmless elsewhere
    if not encoder.training:
        distinct = encode_distinct(encoder, zero_masked(items, flat))
        return zero_masked(distinct, flat).unflatten(0, lead)
    if not flat.any():
        encoder.eval()
        out = zero_masked(encoder(torch.zeros_like(items)), flat)
        encoder.train()
        return out.unflatten(0, lead)
    if flat.all():
        return encoder(items).unflatten(0, lead)
    some = encoder(items[flat])
    out = some.new_zeros(len(items), *some.shape[1:])
    out[flat] = some
    return out.unflatten(0, lead)


def encode_distinct(encoder: nn.Module, items: Tensor) -> Tensor:
    """Runs an encoder in evaluation mode on items (N, *item), each different one once and at most ``PART`` at a time.

    Overlapping windows show the same frames, and masked items are all zeros. What training or an export needs, a
    single run on all items, it gets: parts are for a CPU without gradients.
    """
    # A graph comes first: in one, the number of items is not to be looked at, and stays free.
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or items.device.type != "cpu":
        return encoder(items)
    if not len(items) or items[0].numel() < LEAST_ITEM:
        return encoder(items)
    flat = items.flatten(1)
    weights = torch.linspace(-1, 1, flat.shape[1], dtype=flat.dtype).square()  # any: equal items have equal sums
    _, group = torch.unique(flat @ weights, return_inverse=True)
    first = torch.full((int(group.max()) + 1,), len(items)).scatter_reduce_(0, group, torch.arange(len(items)), "amin")
    if not torch.equal(flat[first][group], flat):  # two different items with one sum
        first = group = torch.arange(len(items))
    return torch.cat([encoder(items[part]) for part in first.split(PART)])[group]


def encode_stream(encoder: nn.Module, inputs: Mapping[str, Tensor], masks: Masks, name: str) -> Tensor:
    """:func:`encode_masked` of every frame of a stream: images (B, C, F, 3, H, W) -> maps (B, C, F, D, h, w)."""
    return encode_masked(encoder, inputs[name], stream_mask(masks, name, inputs[name], 3))


class PooledBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d that uses its running statistics when a training batch has a single vector, which has no variance."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)


class LayerPool(nn.Module):
    """Weighs the layers of an encoder, which lie one after the other in its features: (B, L, n * D) -> (B, L, D).

    Every feature is brought to mean 0 and variance 1 over the real windows of training; the sum over layers has learnt
    weights that are positive and sum to 1, equal ones at first. A frozen encoder's features can thus be cached while
    the weights of its layers are still learnt. One layer has no weight. ``dropout`` acts on the result. Masked windows
    are zeros.
    """

    def __init__(self, layers: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = PooledBatchNorm(layers * width, affine=False)
        self.layers = layers
        self.weights = nn.Parameter(torch.zeros(layers)) if layers > 1 else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        flat, real = at_least_fp32(x).flatten(0, 1), mask.flatten()
        if not self.training:
            known = self.norm(flat)
        else:
            known = torch.zeros_like(flat)
            if real.any():
                known[real] = self.norm(flat[real])
        known = known.unflatten(-1, (self.layers, -1))  # (B * L, n, D)
        shares = known.new_ones(1) if self.weights is None else self.weights.softmax(0)
        pooled = torch.einsum("nld,l->nd", known, shares).unflatten(0, mask.shape)
        return zero_masked(self.dropout(pooled), mask)


class ConvEncoder(nn.Sequential):
    """The encoder of the CAER line: five 3 x 3 convolutions with batch norm and ReLU, the first four pooled 2 x 2.

    (N, 3, H, W) -> (N, widths[4], H/16, W/16).
    """

    def __init__(self, widths: Sequence[int]) -> None:
        inputs = (3, *widths[:-1])
        last = len(widths) - 1
        super().__init__(
            *(conv_block(a, b, pool=i < last) for i, (a, b) in enumerate(zip(inputs, widths, strict=True)))
        )


class Highlight(nn.Sequential):
    """The attention scores of the CAER line: convolutions ``width -> hidden -> 1``, (N, D, h, w) -> (N, 1, h, w)."""

    def __init__(self, width: int, hidden: Sequence[int]) -> None:
        widths = (width, *hidden, 1)
        super().__init__(*(conv_block(a, b) for a, b in pairwise(widths)))


def conv_block(inputs: int, outputs: int, pool: bool = False) -> nn.Sequential:
    """Conv 3 x 3, batch norm, ReLU and, where asked, a 2 x 2 maximum."""
    block = nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())
    if pool:
        block.append(nn.MaxPool2d(2))
    return block


def spatial_softmax(scores: Tensor) -> Tensor:
    """Softmax over the positions of a map (N, 1, h, w)."""
    return at_least_fp32(scores).flatten(2).softmax(-1).view_as(scores)


def masked_rnn(rnn: nn.RNNBase, x: Tensor, mask: Tensor, state: Any = None) -> Tensor:
    """One bidirectional recurrent layer (batch first) that walks over the real steps only, in the weights' precision.

    ``x`` (B, T, D), ``mask`` (B, T) -> (B, T, 2H), zeros at masked steps. Masked steps neither feed the state
    nor delay it: the forward direction runs with the real steps moved to the front, the backward one with them moved to
    the end. (Packed sequences would do the same, but depend on data and cannot be exported.) Each direction then has
    a run of its own, of which half is used; one run is enough where every step is real.
    """
    x = x.to(rnn.all_weights[0][0].dtype)
    if all_real(mask):
        with torch.autocast(x.device.type, enabled=False):
            whole: Tensor = rnn(x, state)[0]
        return whole
    steps = torch.arange(x.shape[1], device=x.device)
    halves = []
    for front in (True, False):
        late = ~mask if front else mask
        order = (steps + late * x.shape[1]).argsort(1)  # distinct keys: real steps keep their order
        with torch.autocast(x.device.type, enabled=False):  # not every CPU has a bfloat16 LSTM
            out = rnn(_reorder(x, order), state)[0]
        halves.append(_reorder(out, order.argsort(1)).chunk(2, -1)[0 if front else 1])
    return zero_masked(torch.cat(halves, -1), mask)


def _reorder(x: Tensor, order: Tensor) -> Tensor:
    return x.gather(1, order.unsqueeze(-1).expand_as(x))
