"""The joint correlation of two streams and what is attended through it, without its map in memory.

    out = value · drop(tanh(key · joint / sqrt d))        (B,L,w) · drop(tanh((B,w,L) · (B,L,d) / sqrt d)) -> (B,L,d)

The map in the middle is (B, w, d), large, and a function of a product of rank L. It is made in tiles that fit into a
processor's cache, used at once and made again in backward. Of the whole map only the dropout mask is stored, one byte
an element.

Dropout: an element is dropped where a random byte is below a limit. The limit of a row is 256 p rounded up or down at
random, so that every element is dropped with probability p exactly. ``nn.Dropout`` draws ten times as long on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as fn

TILE = {"cpu": 2**17}  # elements: the few tiles in use fit into the cache of one core
LARGE_TILE = 2**26  # on accelerators: few launches, and still a bounded part of their memory


def correlate(key: Tensor, joint: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
    """``key`` (B, w, L), ``joint`` (B, L, d), ``value`` (B, L, w) -> (B, L, d), all in the precision of ``key``.

    ``dropout``: the probability, from 0 to 255/256, with which an element of the map becomes 0; the others are scaled
    up. Drawn from the default generator of the device. Can be differentiated once. In graphs (torch.export,
    torch.compile) this is the plain equation. Raises ValueError for another ``dropout``.
    """
    if not 0 <= dropout <= 255 / 256:
        raise ValueError(f"dropout must be from 0 to 255/256, got {dropout}")
    joint, value = joint.to(key.dtype), value.to(key.dtype)
    if torch.compiler.is_compiling():
        return value @ fn.dropout((key @ joint / math.sqrt(joint.shape[-1])).tanh(), dropout)
    with torch.autocast(key.device.type, enabled=False):
        out: Tensor = _Correlation.apply(key / math.sqrt(joint.shape[-1]), joint, value / (1 - dropout), dropout)
    return out


class _Correlation(torch.autograd.Function):
    """value · mask(tanh(key · joint)), tile by tile; the factors 1 / sqrt d and 1 / (1 - p) are in key and value."""

    @staticmethod
    def forward(ctx: Any, key: Tensor, joint: Tensor, value: Tensor, dropout: float) -> Tensor:
        shape = torch.Size((*key.shape[:2], joint.shape[-1]))
        mask = None
        if dropout:
            words = torch.empty(-(-shape.numel() // 8), dtype=torch.int64, device=key.device)
            mask = words.random_(-(2**63), None).view(torch.uint8)[: shape.numel()].view(shape)
            limits = (256 * dropout + torch.rand(*shape[:2], 1, device=key.device)).floor().to(torch.uint8)
        out = torch.zeros_like(joint)
        for items, rows, (c, real) in _tiles(shape, key, 2):
            torch.bmm(key[items, rows], joint[items], out=c).tanh_()
            if mask is not None:
                c.mul_(real.copy_(mask[items, rows].ge_(limits[items, rows])))
            out[items].baddbmm_(value[items, :, rows], c)
        ctx.save_for_backward(key, joint, value, mask)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        key, joint, value, mask = ctx.saved_tensors
        key_t, joint_t, value_t, grad_t = (x.mT.contiguous() for x in (key, joint, value, grad))  # for faster products
        d_key, d_joint, d_value_t = torch.empty_like(key), torch.zeros_like(joint), torch.empty_like(value_t)
        shape = torch.Size((*key.shape[:2], joint.shape[-1]))
        with torch.autocast(key.device.type, enabled=False):
            for items, rows, (c, d_c, slope) in _tiles(shape, key, 3):
                torch.bmm(key[items, rows], joint[items], out=c).tanh_()
                torch.bmm(value_t[items, rows], grad[items], out=d_c)
                if mask is None:
                    slope.fill_(1)
                else:
                    c.mul_(slope.copy_(mask[items, rows]))
                d_value_t[items, rows] = torch.bmm(c, grad_t[items])
                d_c.mul_(slope.addcmul_(c, c, value=-1))  # the slope is mask · (1 - tanh^2)
                d_key[items, rows] = torch.bmm(d_c, joint_t[items])
                d_joint[items].baddbmm_(key_t[items, :, rows], d_c)
        return d_key, d_joint, d_value_t.mT, None


def _tiles(shape: torch.Size, like: Tensor, buffers: int) -> Iterator[tuple[slice, slice, list[Tensor]]]:
    """Slices of items and of rows that cover a map (B, w, d), each with uninitialized tensors of their shape."""
    items, width, columns = shape
    size = TILE.get(like.device.type, LARGE_TILE)
    high = min(width, max(1, size // columns))
    many = min(items, max(1, size // (high * columns)))
    space = [like.new_empty(many * high * columns) for _ in range(buffers)]  # fresh memory for each would cost time
    for first in range(0, items, many):
        for top in range(0, width, high):
            tile = min(many, items - first), min(high, width - top), columns
            views = [x[: math.prod(tile)].view(tile) for x in space]
            yield slice(first, first + many), slice(top, top + high), views
