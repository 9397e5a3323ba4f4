"""Batch norms folded into the convolutions before them: the same outputs with fewer passes over memory.

In eval mode batch norm is ``x * a + b`` per channel, so that a convolution with weights ``a W`` and bias ``a c + b``
computes both.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

# Packages whose modules run their children in the order of registration wherever a batch norm follows a convolution.
# Networks that users register may run them in any order, so they stay as they are, except for their ``Sequential``.
KNOWN = {"emozoo", "timm", "torch", "torchvision"}


def fold(net: nn.Module) -> nn.Module:
    """Folds the batch norms of a network, in place, and puts it in eval mode; outputs agree to rounding (about 1e-6).

    Pairs of different precision are left alone.
    """
    with torch.no_grad():
        for parent, name, conv, bn in list(_pairs(net)):
            assert bn.running_mean is not None
            assert bn.running_var is not None
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
            )
            # timm's batch norms bring their activation
            setattr(parent, name, getattr(bn, "act", None) or nn.Identity())
    return net.eval()


def _pairs(net: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Conv2d | nn.Conv3d, _BatchNorm]]:
    """(parent, name of the batch norm, convolution, batch norm) of those that can be folded."""
    for parent in net.modules():
        if type(parent).__module__.split(".")[0] in KNOWN:
            children = list(parent.named_children())
            for (_, conv), (name, bn) in pairwise(children):
                if (
                    isinstance(conv, nn.Conv2d | nn.Conv3d)
                    and isinstance(bn, nn.BatchNorm2d | nn.BatchNorm3d)
                    and bn.track_running_stats
                    and bn.num_features == conv.out_channels
                    and all(t.dtype == conv.weight.dtype for t in bn.state_dict().values() if t.is_floating_point())
                ):
                    yield parent, name, conv, bn
