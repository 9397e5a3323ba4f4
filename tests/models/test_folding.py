"""Batch norms in convolutions, and equal images encoded once: less work, the same numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from emozoo.models import layers
from emozoo.models.backbones import clip_encoder, image_encoder
from emozoo.models.folding import fold

IMAGES = (
    "mobilenetv1_100@4",
    "tf_efficientnet_lite0@3",
    "tf_efficientnet_lite2@3",
    "resnet18",
    "resnet_lite",
    "vgg_lite",
)


def trained(net: nn.Module) -> nn.Module:
    """With statistics in its batch norms that are not those of a new one."""
    torch.manual_seed(1)
    for m in net.modules():
        if isinstance(m, _BatchNorm):
            assert m.running_mean is not None
            assert m.running_var is not None
            m.running_mean.normal_(0, 0.2)
            m.running_var.uniform_(0.5, 2)
    return net.eval()


@pytest.mark.parametrize("name", [*IMAGES, "r2plus1d_lite", "s3d"])
def test_folding_changes_no_output(name: str) -> None:
    """Protects predictions: the faster network gives the same maps, and has no batch norm left to run."""
    clips = name in ("r2plus1d_lite", "s3d")
    net = trained((clip_encoder if clips else image_encoder)(name)[0])
    x = torch.rand(2, 3, 16, 48, 48) if clips else torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        before = net(x)
        after = fold(net)(x)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))
    assert not any(isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d) for m in net.modules())


def test_networks_of_users_are_left_alone() -> None:
    """Protects networks that run their layers in another order than they register them in."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.norm(x))

    net = trained(Odd())
    x = torch.rand(1, 3, 4, 4)
    before = net(x)
    torch.testing.assert_close(fold(net)(x), before)


class Counted(nn.Module):
    """An encoder that counts the items it gets, and how many at most at once."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.items, self.most = nn.Conv2d(3, 4, 3, stride=2), 0, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.items += len(x)
        self.most = max(self.most, len(x))
        return self.conv(x)


@torch.inference_mode()
def test_equal_images_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the speed of overlapping windows, and that each window still gets its own images' features."""
    monkeypatch.setattr(layers, "PART", 4)
    net, images = Counted().eval(), torch.rand(7, 3, 40, 40)
    order = torch.tensor([[0, 1, 2, 3, 4], [2, 3, 4, 5, 6], [6, 6, 6, 6, 0]])
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[2, 1] = False
    x = images[order]
    x[2, 1] = torch.nan
    found = layers.encode_masked(net, x, mask)
    assert (net.items, net.most) == (8, 4)  # seven images, and zeros for the masked one
    torch.testing.assert_close(found[mask], net.conv(images)[order][mask])
    assert (found[2, 1] == 0).all()


@torch.inference_mode()
def test_different_images_with_one_sum_are_both_encoded() -> None:
    """Protects against a collision: equality is decided by the images, not by their sums."""
    net, x = Counted().eval(), torch.zeros(2, 3, 40, 40)
    x[0].flatten()[0], x[1].flatten()[-1] = 1, 1  # the weights of both ends are equal
    found = layers.encode_distinct(net, x)
    assert net.items == 2
    torch.testing.assert_close(found, net.conv(x))
