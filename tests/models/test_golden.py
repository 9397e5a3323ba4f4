"""Public code as oracle: outputs, intermediates and gradients in float64, loaded by ``convert_official``."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import golden
import pytest
import torch
from torch import nn

from emozoo.models import caer_net_s, ceflnet, emotion_fan, recursive_joint_attention

FRAMES_LAST = (0, 5, 4, 1, 2, 3)  # the authors' (B, 3, H, W, F, C) to ours (B, C, F, 3, H, W)


def load(module: ModuleType, net: nn.Module, state: dict[str, torch.Tensor], strict: bool = True) -> nn.Module:
    net = net.double().eval()
    missing, unexpected = net.load_state_dict(module.convert_official(state), strict=strict)
    assert not unexpected
    assert all(name.startswith("encoders.") for name in missing)
    return net


def assert_gradients(module: ModuleType, net: nn.Module, want: dict[str, Any]) -> None:
    """Every stored gradient; ``convert_official`` translates the names here, too."""
    parameters = dict(net.named_parameters())
    assert want["gradients"]
    for name, summary in want["gradients"].items():
        (ours,) = module.convert_official({name: torch.zeros(1, 1, 1)})
        golden.assert_summary(parameters[ours].grad, summary, want["tolerance"]["float64_gradients_rel"])


def cross_entropy(logits: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, torch.arange(len(logits)) % 7)


@pytest.mark.parametrize("name", ["ceflnet_official", "ceflnet_official_b1"])
def test_ceflnet(golden_values: Path, name: str) -> None:
    """Protects: CEFLNet computes what its authors' code computes, gradients included."""
    want = golden.read(golden_values, name)
    atol = want["tolerance"]["float64_outputs_abs"]
    net = load(ceflnet, ceflnet.CEFLNet(7, bn_mode="per_frame"), golden.state_dict(want))
    features = net.encode({"face": golden.inputs(want)["video"].permute(FRAMES_LAST)})
    out = net.head(features)
    golden.assert_summary(features["face"], want["intermediates"]["frame_features"], 1e-9)
    golden.assert_values(out.logits, want["outputs"]["logits"], atol)
    golden.assert_values(out.attention["clip_attention"], want["outputs"]["clip_attention"], atol)
    golden.assert_values(out.attention["frame_weights"], want["outputs"]["frame_weights"], atol)
    golden.assert_values(out.attention["clip_attention"].argmax(1), want["outputs"]["salient_clip"], 0)
    loss = cross_entropy(out.logits)
    assert abs(loss.item() - want["loss_value"]) < atol
    loss.backward()
    assert_gradients(ceflnet, net, want)


def test_ceflnet_batch_statistics(golden_values: Path) -> None:
    """Protects: wiring ``official`` normalises per (clip, frame) position and moves running statistics C·F times."""
    want = golden.read(golden_values, "ceflnet_official")
    net = load(ceflnet, ceflnet.CEFLNet(7, bn_mode="per_frame"), golden.state_dict(want)).train()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    with torch.no_grad():
        logits = net({"face": golden.inputs(want)["video"].permute(FRAMES_LAST)}).logits
    trained = want["train_mode_without_dropout"]
    golden.assert_values(logits, trained["logits"], want["tolerance"]["float64_outputs_abs"])
    golden.assert_summary(net.backbone.bn1.running_mean, trained["bn1.running_mean"], 1e-9)
    golden.assert_summary(net.backbone.layer4[1].bn2.running_var, trained["layer4.1.bn2.running_var"], 1e-9)
    assert net.backbone.bn1.num_batches_tracked == trained["bn1.num_batches_tracked"]


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_recursive_joint_attention(golden_values: Path, iterations: int) -> None:
    """Protects: wiring ``official`` computes what the authors' fusion code computes, for one to three recursions."""
    want = golden.read(golden_values, f"rja_official_n{iterations}")
    atol = want["tolerance"]["float64_outputs_abs"]
    net = recursive_joint_attention.RecursiveJointAttention(
        encoders={"face": "r2plus1d_18", "audio": "resnet18_audio"},
        fusion="official",
        visual_input="grid",
        legacy_layout=True,
        num_iter=iterations,
    )
    load(recursive_joint_attention, net, golden.state_dict(want), strict=False)
    inputs = golden.inputs(want)
    out = net.head({"face": inputs["visual"], "audio": inputs["audio"]})
    golden.assert_values(out.va[..., 0], want["outputs"]["valence"], atol)
    golden.assert_values(out.va[..., 1], want["outputs"]["arousal"], atol)
    everywhere = torch.ones(inputs["audio"].shape[:2], dtype=torch.bool)
    heard = net.audio_lstm(nn.functional.normalize(inputs["audio"], dim=-1), everywhere)
    seen, _ = net.guide(nn.functional.normalize(inputs["visual"], dim=-1), heard)
    golden.assert_summary(heard, want["intermediates"]["audio_encoded"], 1e-9)
    golden.assert_summary(seen, want["intermediates"]["visual_attended"], 1e-9)
    golden.assert_summary(net.face_lstm(seen, everywhere), want["intermediates"]["visual_encoded"], 1e-9)
    out.va.sum().backward()
    assert_gradients(recursive_joint_attention, net, want)


def test_caer_net_s(golden_values: Path) -> None:
    """Protects: CAER-Net-S with pooled batch norm computes what the public re-implementation computes."""
    want = golden.read(golden_values, "caer_net_s")
    atol = want["tolerance"]["float64_outputs_abs"]
    net = load(caer_net_s, caer_net_s.CAERNetS(7), golden.state_dict(want))
    out = net({name: x[:, None, None] for name, x in golden.inputs(want).items()})
    golden.assert_values(out.logits, want["outputs"]["logits"], atol)
    for name, scores in (("fusion", "fusion_scores"), ("context", "context_attention_scores")):
        flat = torch.tensor(want["outputs"][scores]["values"], dtype=torch.float64).view(2, -1)
        torch.testing.assert_close(out.attention[name].flatten(1), flat.softmax(1), atol=atol, rtol=0)
    cross_entropy(out.logits).backward()
    assert_gradients(caer_net_s, net, want)


def test_emotion_fan(golden_values: Path) -> None:
    """Protects: Emotion-FAN's relation attention computes what the authors' three-frame path computes."""
    want = golden.read(golden_values, "fan_relation")
    atol = want["tolerance"]["float64_outputs_abs"]
    net = load(emotion_fan, emotion_fan.EmotionFAN(7), golden.state_dict(want))
    out = net({"face": golden.inputs(want)["video"].permute(0, 4, 1, 2, 3).unsqueeze(2)})
    golden.assert_values(out.logits, want["outputs"]["logits_relation_attention"], atol)
    golden.assert_values(out.attention["alpha"], want["outputs"]["alpha"], atol)
    golden.assert_values(out.attention["beta"], want["outputs"]["beta"], atol)
    cross_entropy(out.logits).backward()
    assert_gradients(emotion_fan, net, want)


def test_conversion_refuses_what_does_not_fit(golden_values: Path) -> None:
    """Protects: only parameters known to be dead are dropped; a foreign or missing one is an error that names it."""
    state = golden.state_dict(golden.read(golden_values, "ceflnet_official_b1"))
    net = ceflnet.CEFLNet(7)
    with pytest.raises(RuntimeError, match=r"surprise\.weight"):
        net.load_state_dict(ceflnet.convert_official({**state, "surprise.weight": torch.zeros(1)}))
    del state["fc.bias"]
    with pytest.raises(RuntimeError, match=r"encoder\.project\.bias"):
        net.load_state_dict(ceflnet.convert_official(state))
