"""MobileNet and EfficientNet-Lite against timm, whose files they read."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import nn

from emozoo.models.backbones import image_encoder
from emozoo.models.mobile import PLANS


@pytest.mark.parametrize("level", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("name", list(PLANS))
def test_networks_are_those_of_timm(name: str, level: int) -> None:
    """Protects stored weights: names, features in both modes, gradients and statistics are timm's, at odd sizes too."""
    torch.manual_seed(0)
    net, width = image_encoder(f"{name}@{level}")
    theirs = timm.create_model(name, features_only=True, out_indices=(level,))
    state = net.state_dict()
    of_timm = {k: v for k, v in theirs.state_dict().items() if f"net.{k}" in state}  # it has the layers behind, too
    assert [f"net.{k}" for k in of_timm] == list(state)
    assert width == theirs.feature_info.channels()[-1]
    net.load_state_dict({f"net.{k}": v for k, v in of_timm.items()})
    parts = {k: p for k, p in theirs.named_parameters() if k in of_timm}
    for train in (False, True):
        net.train(train)
        theirs.train(train)
        for height, wide in ((64, 64), (97, 50)):
            x = torch.randn(2, 3, height, wide)
            ours, want = net(x), theirs(x.contiguous(memory_format=torch.channels_last))[-1]
            torch.testing.assert_close(ours, want)
            torch.testing.assert_close(
                torch.autograd.grad(ours.square().mean(), list(net.parameters())),
                torch.autograd.grad(want.square().mean(), list(parts.values())),
            )
    running = {k: v for k, v in theirs.state_dict().items() if k in of_timm}
    torch.testing.assert_close({k.removeprefix("net."): v for k, v in net.state_dict().items()}, running)


def test_the_last_map_is_the_default_and_there_are_no_more() -> None:
    """Protects names without @k, and a readable error for a map that the network does not have."""
    assert image_encoder("mobilenetv1_100")[1] == 1024
    assert image_encoder("tf_efficientnet_lite0")[1] == 320
    with pytest.raises(ValueError, match="mobilenetv1_100 has the maps 0 to 4, no 5"):
        image_encoder("mobilenetv1_100@5")


@pytest.mark.parametrize("name", list(PLANS))
def test_start_of_training(name: str) -> None:
    """Protects training from scratch: convolutions start with a variance of 2 / fan-out, as in timm."""
    torch.manual_seed(0)
    for conv in image_encoder(name)[0].modules():
        if isinstance(conv, nn.Conv2d) and conv.weight.numel() > 2000:
            fan_out = conv.kernel_size[0] * conv.kernel_size[1] * conv.out_channels // conv.groups
            assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)
