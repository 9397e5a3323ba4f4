"""MobileNet and EfficientNet-Lite: small depthwise networks for CPUs, which released weights use as image encoders.

Parameter names and arithmetic are timm's, so that files made for timm fit (``tests/models/test_mobile.py`` compares
the two). They are written here because importing timm takes longer than a whole first prediction without it.

Sources: Howard et al., MobileNets, arXiv 1704.04861, Table 1; Tan and Le, EfficientNet, arXiv 1905.11946, in its
authors' ``lite`` variant: no squeeze-and-excitation, ReLU6, and neither stem nor both ends get wider or deeper.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

STEM = 32  # width of the first convolution


@dataclass(frozen=True)
class _Stage:
    """Blocks of one width; the first of them has the stride.

    ``expand``: how many times wider an inverted bottleneck is inside; 0 for a depthwise separable convolution, which
    ends on an activation if ``last_act`` says so.
    """

    blocks: int
    width: int
    kernel: int = 3
    stride: int = 1
    expand: int = 0
    last_act: bool = False


@dataclass(frozen=True)
class _Plan:
    """The stages of a network, and the settings of its layers.

    ``ends``: numbers of the stages that its maps come from, which are those before the image shrinks, and the last.
    ``eps``: of batch norms. ``same``: convolutions with a stride pad as TensorFlow does.
    """

    stages: tuple[_Stage, ...]
    ends: tuple[int, ...]
    eps: float
    same: bool


def _mobilenet() -> _Plan:
    sizes = ((1, 64, 1), (2, 128, 2), (2, 256, 2), (6, 512, 2), (2, 1024, 2))
    stages = tuple(_Stage(n, width, stride=stride, last_act=True) for n, width, stride in sizes)
    return _Plan(stages, ends=(0, 1, 2, 3, 4), eps=1e-5, same=False)


def _efficientnet_lite(wider: float, deeper: float) -> _Plan:
    """``wider`` scales the widths of stages, ``deeper`` their numbers of blocks."""
    sizes = ((2, 24, 3, 2), (2, 40, 5, 2), (3, 80, 3, 2), (3, 112, 5, 1), (4, 192, 5, 2))
    middle = [_Stage(math.ceil(n * deeper), width, kernel, stride, 6) for n, width, kernel, stride in sizes]
    stages = (_Stage(1, 16), *middle, _Stage(1, 320, expand=6))
    scaled = tuple(replace(s, width=_multiple_of_8(s.width * wider)) for s in stages)
    return _Plan(scaled, ends=(0, 1, 2, 4, 6), eps=1e-3, same=True)


def _multiple_of_8(width: float) -> int:
    """The nearest multiple of 8 that is not more than a tenth below."""
    nearest = int(width + 4) // 8 * 8
    return nearest if nearest >= 0.9 * width else nearest + 8


PLANS = {
    "mobilenetv1_100": _mobilenet(),
    "tf_efficientnet_lite0": _efficientnet_lite(1.0, 1.0),
    "tf_efficientnet_lite2": _efficientnet_lite(1.1, 1.2),
}


class _SameConv2d(nn.Conv2d):
    """A convolution whose output has ceil(H / stride) rows: zeros on both sides, one more behind than in front."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            missing = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [missing // 2, missing - missing // 2]
        return super().forward(fn.pad(x, pads))


class _Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x


def _conv(plan: _Plan, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    if plan.same and stride > 1:
        return _SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


def _block(plan: _Plan, stage: _Stage, inputs: int, stride: int) -> nn.Sequential:
    inside = inputs * max(1, stage.expand)
    expands = [("conv_pw", _conv(plan, inputs, inside))] if stage.expand else []
    depthwise = ("conv_dw", _conv(plan, inside, inside, stage.kernel, stride, groups=inside))
    projects = ("conv_pwl" if stage.expand else "conv_pw", _conv(plan, inside, stage.width))
    convs = [*expands, depthwise, projects]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (name, conv) in enumerate(convs, 1):
        layers[name], layers[f"bn{i}"] = conv, nn.BatchNorm2d(conv.out_channels, plan.eps)
        if i < len(convs) or stage.last_act:
            layers[f"act{i}"] = nn.ReLU6(inplace=True)
    skips = stage.expand and stride == 1 and inputs == stage.width
    return _Residual(layers) if skips else nn.Sequential(layers)


class MobileMaps(nn.Module):
    """One of :data:`PLANS` as an encoder of maps: images (N, in_chans, H, W) -> (N, width, h, w).

    ``level``: the map that it ends on, 0-based, -1 for the last; layers behind it are not there. Raises ValueError for
    a level that the network does not have.
    """

    def __init__(self, name: str, in_chans: int, level: int = -1) -> None:
        super().__init__()
        plan = PLANS[name]
        if level >= len(plan.ends):
            raise ValueError(f"{name} has the maps 0 to {len(plan.ends) - 1}, no {level}")
        inputs, stages = STEM, []
        stem, norm = _conv(plan, in_chans, STEM, 3, stride=2), nn.BatchNorm2d(STEM, plan.eps)
        for stage in plan.stages[: plan.ends[level] + 1]:
            blocks = []
            for i in range(stage.blocks):
                blocks.append(_block(plan, stage, inputs, 1 if i else stage.stride))
                inputs = stage.width
            stages.append(nn.Sequential(*blocks))
        layers = {"conv_stem": stem, "bn1": norm, "act1": nn.ReLU6(inplace=True), "blocks": nn.Sequential(*stages)}
        self.net, self.width = nn.Sequential(OrderedDict(layers)), inputs
        for conv in self.net.modules():
            if isinstance(conv, nn.Conv2d):
                fan_out = conv.kernel_size[0] * conv.kernel_size[1] * conv.out_channels // conv.groups
                nn.init.normal_(conv.weight, 0.0, math.sqrt(2.0 / fan_out))

    def forward(self, x: Tensor) -> Tensor:
        # Depthwise convolutions, which these networks consist of, run faster with channels last.
        return self.net(x.contiguous(memory_format=torch.channels_last))
