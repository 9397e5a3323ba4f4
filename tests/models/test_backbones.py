"""Encoders by name and a user's own weights for them."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from emozoo.models.backbones import clip_encoder, image_encoder
from emozoo.models.ceflnet import CEFLNet


def size(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("name", "parameters", "shape"),
    [
        ("resnet18", 11_176_512, (512, 2, 2)),
        ("resnet18_audio", 11_170_240, (512, 2, 2)),
        ("resnet50", 23_508_032, (2048, 2, 2)),
        ("resnet_lite", 1_246_336, (256, 4, 4)),
        ("resnet_lite_audio", 1_240_064, (256, 4, 4)),
        ("vgg_lite", None, (256, 8, 8)),
        ("vgg_tiny_audio", None, (128, 8, 8)),
        ("vit_tiny_patch16_224", None, (192, 14, 14)),
        ("tf_efficientnet_lite0@3", 700_768, (112, 4, 4)),
        ("resnet10t@2", None, (128, 8, 8)),
    ],
)
def test_image_encoders(name: str, parameters: int | None, shape: tuple[int, ...]) -> None:
    """Protects: sizes that parameter tables add up from, and maps (never tokens) from any timm network."""
    net, width = image_encoder(name)
    side = 224 if name.startswith("vit") else 64
    out = net.eval()(torch.zeros(1, 1 if name.endswith("_audio") else 3, side, side))
    assert out.shape == (1, *shape)
    assert width == shape[0]
    assert parameters is None or size(net) == parameters


def test_vgg_is_built_as_torchvision_does() -> None:
    """Protects stored weights and seeds: the layers, in order, and their start are those of torchvision's VGG."""
    from torchvision.models.vgg import make_layers

    torch.manual_seed(0)
    ours = image_encoder("vgg_tiny")[0]
    torch.manual_seed(0)
    theirs = make_layers([16, "M", 32, "M", 64, "M", 128], batch_norm=True)
    assert repr(ours) == repr(theirs)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "parameters", "side", "shape"),
    [
        ("r2plus1d_18", 31_300_125, 112, (512, 1, 7, 7)),
        ("s3d", 7_910_048, 64, (1024, 2, 2, 2)),
        ("r2plus1d_lite", None, 48, (128, 8, 3, 3)),
    ],
)
def test_clip_encoders(name: str, parameters: int | None, side: int, shape: tuple[int, ...]) -> None:
    """Protects: sizes and shapes of the clip encoders, 25,088 values per clip for R(2+1)D-18 among them."""
    net, width = clip_encoder(name)
    frames = 16 if name == "s3d" else 8
    assert net.eval()(torch.zeros(1, 3, frames, side, side)).shape == (1, *shape)
    assert width == shape[0]
    assert parameters is None or size(net) == parameters


def test_own_weights(tmp_path) -> None:
    """Protects: weights load from safetensors and from a classifier's checkpoint with ``module.`` before its names."""
    trained, _ = image_encoder("resnet_lite")
    save_file(trained.state_dict(), tmp_path / "plain.safetensors")
    wrapped = {f"module.{k}": v for k, v in trained.state_dict().items()} | {"module.fc.weight": torch.zeros(3, 256)}
    torch.save({"state_dict": wrapped, "epoch": 3}, tmp_path / "wrapped.pt")
    for name in ("plain.safetensors", "wrapped.pt"):
        net = CEFLNet(7, backbone="resnet_lite", backbone_weights=tmp_path / name)
        assert torch.equal(net.backbone.layer4[0].conv1.weight, trained.layer4[0].conv1.weight)


class _Runs:
    def __reduce__(self) -> tuple:
        return (print, ("code from a weights file ran",))


def test_a_whole_network_starts_a_part_of_it(tmp_path) -> None:
    """Protects timm's own files as a start: the part computes what it computes inside the whole network."""
    import timm

    whole = timm.create_model("tf_efficientnet_lite0").eval()
    save_file(whole.state_dict(), tmp_path / "whole.safetensors")
    part, _ = image_encoder("tf_efficientnet_lite0@3", weights=tmp_path / "whole.safetensors")
    x = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(part.eval()(x), whole.forward_intermediates(x, intermediates_only=True)[3])
    other = timm.create_model("resnet10t").state_dict()
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="does not fit this encoder"):
        image_encoder("tf_efficientnet_lite0@3", weights=tmp_path / "other.safetensors")


def test_unusable_weights(tmp_path, capsys) -> None:
    """Protects: a pickle that runs code, a missing file and a foreign network are refused in one line, nothing runs."""
    torch.save({"state_dict": _Runs()}, tmp_path / "evil.pt")
    other, _ = image_encoder("resnet18")
    torch.save(other.state_dict(), tmp_path / "other.pt")
    for name, words in (("evil.pt", "not a plain state dict"), ("none.pt", "no such"), ("other.pt", "does not fit")):
        with pytest.raises(ValueError, match=words) as caught:
            image_encoder("resnet_lite", weights=tmp_path / name)
        assert "\n" not in str(caught.value)
    assert "code from a weights file ran" not in capsys.readouterr().out


def test_unknown_names() -> None:
    """Protects: an unknown encoder is an error that says what there is."""
    with pytest.raises(ValueError, match="use resnet18"):
        image_encoder("resnet_eighteen")
    with pytest.raises(ValueError, match="r2plus1d_18"):
        clip_encoder("i3d")
