"""What each paper claims of its own network: invariances, flags, and tasks that its mechanism must solve."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nets import build as build_from_registry
from nets import example
from torch import nn

from emozoo.models.caer_cross_attention import CAERCrossAttention
from emozoo.models.caer_net_s import CAERNetS
from emozoo.models.ceflnet import CEFLNet
from emozoo.models.dfan import DFAN
from emozoo.models.emotion_fan import EmotionFAN
from emozoo.models.layers import masked_rnn
from emozoo.models.network import Network, Output, count_parameters
from emozoo.models.recursive_joint_attention import RecursiveJointAttention

LITE = {"action": "r2plus1d_lite", "object": "resnet_lite", "scene": "resnet_lite"}
AV = {"face": "resnet_lite", "audio": "resnet_lite_audio"}
SMALL = (8, 8, 16, 16, 16)
# Fixed here, so that features can be made by hand whatever encoders the registry recommends for `lite`.
FIXED = {
    "ceflnet": {"backbone": "resnet_lite"},
    "dfan": {"encoders": LITE, "width": 128, "hidden": 64},
    "recursive_joint_attention": {"encoders": AV, "seq_len": 8, "width": 128, "hidden": 64},
}


def build(arch: str, wiring: str = "stable", **more: Any) -> Network:
    return build_from_registry(arch, wiring, **{**FIXED.get(arch, {}), **more})


def close(a: torch.Tensor, b: torch.Tensor, atol: float = 1e-6) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-5)


def train_head(net: Network, features: dict[str, torch.Tensor], labels: torch.Tensor, steps: int, lr: float) -> Output:
    """A few Adam steps of everything behind the encoders on fixed features; the result in evaluation mode."""
    parameters = [p for n, p in net.named_parameters() if not n.startswith(("backbone.", "encoders."))]
    optimizer = torch.optim.Adam(parameters, lr=lr)
    net.train()
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net.head(features).logits, labels).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        return net.head(features)


# CEFLNet ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kwargs",
    [{"head": "small"}, {"eian_init": "fan_in"}, {"positional": True}, {"pooling": "max"}, {"frame_dropout": False}],
)
def test_ceflnet_options_run(kwargs: dict) -> None:
    """Protects: every documented keyword gives a working network."""
    assert build("ceflnet", **kwargs).eval()(example("ceflnet")).logits.isfinite().all()


def test_ceflnet_counts() -> None:
    """Protects: the counts of the other head and of both plain controls (no score, no clip query)."""
    with torch.device("meta"):
        assert count_parameters(CEFLNet(6, head="small"))[0] == 12_828_807
        assert count_parameters(CEFLNet(7, pooling="mean"))[0] == 12_919_624 - 1_025 - 512
    with pytest.raises(ValueError, match="pooling must be one of"):
        CEFLNet(7, pooling="median")


def test_ceflnet_ignores_order() -> None:
    """Protects: frames inside a clip and clips are sets (its only temporal knowledge is which clip a frame is in)."""
    net = build("ceflnet").eval()
    f = torch.randn(2, 7, 5, 256)
    want = net.head({"face": f}).logits
    close(net.head({"face": f[:, torch.randperm(7)]}).logits, want)
    close(net.head({"face": f[:, :, torch.randperm(5)]}).logits, want)
    assert (net.head({"face": f.flatten(1, 2)[:, torch.randperm(35)].view_as(f)}).logits - want).abs().max() > 1e-4
    with_order = build("ceflnet", positional=True).eval()
    assert (with_order.head({"face": f.flip(2)}).logits - with_order.head({"face": f}).logits).abs().max() > 1e-4


def test_ceflnet_attention_sums() -> None:
    """Protects: clip attention sums to 1; identical clips share it, and z is then a clip divided by C."""
    net = build("ceflnet").eval()
    out = net.head({"face": torch.randn(2, 7, 5, 256)})
    close(out.attention["clip_attention"].sum(1), torch.ones(2))
    assert ((out.attention["frame_weights"] > 0) & (out.attention["frame_weights"] < 1)).all()
    same = torch.randn(1, 1, 5, 256).expand(1, 7, 5, 256)
    v, _ = net.encoder(same[0], torch.ones(7, 5, dtype=torch.bool))
    z, a = net.activation(v.unsqueeze(0), torch.ones(1, 7, dtype=torch.bool))
    close(a, torch.full((1, 7), 1 / 7))
    close(z[0], v[0] / 7)


def test_ceflnet_takes_any_number_of_clips_and_frames() -> None:
    """Protects: nothing depends on C or F."""
    net = build("ceflnet").eval()
    for clips, frames in ((1, 1), (1, 5), (9, 3)):
        assert net.head({"face": torch.randn(2, clips, frames, 256)}).logits.shape == (2, 7)


def test_ceflnet_batch_norm_modes() -> None:
    """Protects: ``per_frame`` and ``flat`` are one network in evaluation and two in training."""
    flat, per_frame = build("ceflnet", "stable").eval(), build("ceflnet", "official").eval()
    x = example("ceflnet", batch=3)
    close(flat(x).logits, per_frame(x).logits)
    features = [net.train().encode(x)["face"] for net in (flat, per_frame)]
    assert (features[0] - features[1]).abs().max() > 1e-3


def test_ceflnet_dropout_touches_the_score_only() -> None:
    """Protects: dropout 0.5 in front of the relation score does not drop what is summed."""
    net = build("ceflnet")
    net.encoder.attention.dropout = net.encoder.dropout.p = 0.0
    f, mask = torch.randn(4, 1, 256), torch.ones(4, 1, dtype=torch.bool)  # one frame: its weight cancels
    trained, _ = net.train().encoder(f, mask)
    close(trained, net.eval().encoder(f, mask)[0], 1e-5)


@pytest.mark.parametrize("train", [False, True])
def test_ceflnet_attends_as_pytorch_does(train: bool) -> None:
    """Protects stored weights: frames attend as in ``nn.MultiheadAttention``, with its dropout and its gradients."""
    torch.manual_seed(0)
    encoder = build("ceflnet").encoder.train(train)
    f, seen = torch.randn(6, 5, 256, requires_grad=True), torch.rand(6, 5) > 0.4
    seen[:, 0] = True
    torch.manual_seed(1)
    ours = encoder._attended(f, seen)
    torch.manual_seed(1)
    h = f.transpose(0, 1)
    plain = encoder.attention(h, h, h, key_padding_mask=~seen, need_weights=False)[0].transpose(0, 1)
    torch.testing.assert_close(ours, plain)
    own = [f, *encoder.attention.parameters()]
    torch.testing.assert_close(*(torch.autograd.grad(x.square().sum(), own) for x in (ours, plain)))


def test_ceflnet_trains_on_a_still_as_it_is_asked() -> None:
    """Protects: without ``frame_dropout`` the copies of a still stay alike in training, and share the attention."""
    still = {"face": torch.randn(8, 1, 1, 256).expand(8, 3, 3, 256)}
    third = torch.full((8, 3), 1 / 3)
    close(build("ceflnet", frame_dropout=False).train().head(still).attention["clip_attention"], third)
    assert (build("ceflnet").train().head(still).attention["clip_attention"] - third).abs().max() > 0.1


def test_ceflnet_finds_the_clip_with_the_cause() -> None:
    """Protects: trained on one expressive clip among plain ones, the activation points at that clip."""
    torch.manual_seed(0)
    net = build("ceflnet", classes=3, eian_init="fan_in")
    labels, where = torch.arange(48) % 3, torch.arange(48) % 5
    f = torch.randn(48, 5, 2, 256) * 0.3
    signal = torch.randn(3, 256)
    f[torch.arange(48), where] += signal[labels].unsqueeze(1)
    out = train_head(net, {"face": f}, labels, steps=40, lr=1e-3)
    assert (out.logits.argmax(1) == labels).float().mean() > 0.95
    assert (out.attention["clip_attention"].argmax(1) == where).float().mean() > 0.8


# CAER cross-attention -----------------------------------------------------------------------------------------------


def test_caer_counts() -> None:
    """Protects: the counts of the paper's ablations and of its three-layer reading."""
    with torch.device("meta"):
        for kwargs, want in (
            ({"highlight_hidden": (256, 128)}, 7_997_454),
            ({"fusion": "no_er"}, 7_275_278),
            ({"fusion": "af"}, 2_389_004),
            ({"gap_bn": True}, 7_406_862 + 4 * 512),
        ):
            assert count_parameters(CAERCrossAttention(7, **kwargs))[0] == want


@pytest.mark.parametrize(
    "kwargs",
    [{"highlight_hidden": (16, 8)}, {"score_activation": "none"}, {"er_scale": "sqrt_d"}, {"gap_bn": True}],
)
def test_caer_options_are_other_readings(kwargs: dict) -> None:
    """Protects: each documented keyword trains, and computes something else than the default from the same start."""
    torch.manual_seed(0)
    net = CAERCrossAttention(7, widths=SMALL, **kwargs)
    plain = CAERCrossAttention(7, widths=SMALL)
    known = {k: v for k, v in net.state_dict().items() if "highlight" not in k}
    plain.load_state_dict(known, strict=False)
    x = {s: torch.randn(3, 1, 1, 3, 64, 64) for s in ("face", "context")}
    net.train()(x).logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert not torch.equal(net.eval()(x).logits, plain.eval()(x).logits)


@pytest.mark.parametrize(("size", "rescale"), [(64, True), (96, False)])
def test_caer_attention_sums(size: int, rescale: bool) -> None:
    """Protects: channel attention rows and fusion weights sum to 1; the highlight sums to 1, rescaled it averages 1."""
    net = CAERCrossAttention(7, widths=SMALL, highlight_rescale=rescale).eval()
    out = net({s: torch.randn(2, 1, 1, 3, size, size) for s in ("face", "context")}).attention
    for name in ("face_channels", "context_channels", "shallow", "deep"):
        close(out[name].sum(-1), torch.ones(out[name].shape[:-1]), 1e-5)
    total = out["context"].flatten(3).sum(-1)
    close(total, torch.full_like(total, (size // 16) ** 2 if rescale else 1.0), 1e-4)


def test_caer_attention_scale_is_the_number_of_positions() -> None:
    """Protects: scores are divided by sqrt(h w), so their size does not grow with the image."""
    net = CAERCrossAttention(7, widths=SMALL).eval()
    pair = net.face_pair
    for side in (4, 9):
        x, key = torch.randn(1, 16, side, side), torch.randn(1, 16, side, side)
        scores = pair.query(x).flatten(2) @ pair.key(key).flatten(2).mT / side
        _, _, attention = pair(x, key, torch.ones(1, dtype=torch.bool))
        close(attention, scores.softmax(-1))


def test_caer_recalibration_moves_with_positions() -> None:
    """Protects: element recalibration treats positions alike: permuting them permutes its result."""
    net = CAERCrossAttention(7, widths=SMALL).eval()
    mix, order = net.face_pair.mix, torch.randperm(9)
    z = torch.rand(2, 16, 9)

    def recalibrated(z: torch.Tensor) -> torch.Tensor:
        return z * ((z @ mix(z).mT).softmax(-1) @ z)

    close(recalibrated(z)[..., order], recalibrated(z[..., order]), 1e-5)


def test_caer_weights_are_crossed() -> None:
    """Protects: zero scorers weigh every feature by a half, and ``swap_fc`` exchanges the two weights of a level."""
    x = {s: torch.randn(2, 1, 1, 3, 64, 64) for s in ("face", "context")}
    net = CAERCrossAttention(7, widths=SMALL).eval()
    swapped = CAERCrossAttention(7, widths=SMALL, swap_fc=True).eval()
    swapped.load_state_dict(net.state_dict())
    assert not torch.equal(net(x).logits, swapped(x).logits)
    for scorer in net.scores.values():
        nn.init.zeros_(scorer[2].weight)
        nn.init.zeros_(scorer[2].bias)
    swapped.load_state_dict(net.state_dict())
    out = net(x)
    assert (out.attention["shallow"] == 0.5).all()
    assert (out.attention["deep"] == 0.5).all()
    close(out.logits, swapped(x).logits)
    seen: dict[str, torch.Tensor] = {}
    net.face_fusion.register_forward_hook(lambda m, i, o: seen.__setitem__("face", i[0]))
    before = (net(x), seen["face"])[1]
    net.scores["r_f"][2].bias.data += 2.0  # a deep scorer ...
    after = (net(x), seen["face"])[1]
    assert (before[:, :16] - after[:, :16]).abs().max() > 1e-4  # ... changes the shallow half,
    assert torch.equal(before[:, 16:], after[:, 16:])  # and not the deep one


def test_caer_pair_key() -> None:
    """Protects: both readings of the second pair's key agree once there is no recalibration between them."""
    x = {s: torch.randn(1, 1, 1, 3, 64, 64) for s in ("face", "context")}
    for fusion, same in (("no_er", True), ("full", False)):
        nets = [CAERCrossAttention(7, widths=SMALL, fusion=fusion, pair2_key=key).eval() for key in ("er", "ca")]
        nets[1].load_state_dict(nets[0].state_dict())
        assert torch.equal(*(net(x).attention["context_channels"] for net in nets)) == same


def test_caer_af_is_caer_net_s() -> None:
    """Protects: the ablation without both attentions is CAER-Net-S without pooled batch norm, weight for weight."""
    af = CAERCrossAttention(7, widths=SMALL, fusion="af", highlight_rescale=False).eval()
    net = CAERNetS(7, widths=SMALL, pooled_bn=False).eval()
    renamed = {
        k.replace("scores.x_f", "face_score").replace("scores.x_c", "context_score"): v
        for k, v in af.state_dict().items()
    }
    net.load_state_dict(renamed)
    x = {s: torch.randn(2, 1, 1, 3, 64, 64) for s in ("face", "context")}
    close(af(x).logits, net(x).logits)


def test_caer_refuses_unequal_sizes() -> None:
    """Protects: face and context of different size are refused with both sizes in the message."""
    x = {"face": torch.zeros(1, 1, 1, 3, 64, 64), "context": torch.zeros(1, 1, 1, 3, 64, 96)}
    with pytest.raises(ValueError, match=r"\(64, 64\), \(64, 96\)"):
        CAERCrossAttention(7, widths=SMALL)(x)


def test_caer_coarser_face() -> None:
    """Protects: a face encoder with a coarser map counts as if each of its cells were repeated; others are refused."""
    net = CAERCrossAttention(5, widths=(8, 8, 8, 16, 16), face_backbone="mobilenetv1_100@4").eval()
    features = net.encode(example("caer_cross_attention"))
    assert features["face"].shape[-2:] == (2, 2)
    assert features["context"].shape[-2:] == (4, 4)
    repeated = features["face"].repeat_interleave(2, -2).repeat_interleave(2, -1)
    assert torch.allclose(net.head(features).logits, net.head(features | {"face": repeated}).logits, atol=1e-6)
    with pytest.raises(ValueError, match="does not divide"):
        net.head(features | {"context": features["context"][..., :3]})


def test_caer_stable_lets_the_context_learn() -> None:
    """Protects: at the start the context encoder's gradient is of the face encoder's order in ``stable``, tiny else."""
    ratios = {}
    x = {s: torch.randn(4, 1, 1, 3, 112, 112) for s in ("face", "context")}
    for wiring in ("stable", "paper"):
        net = build("caer_cross_attention", wiring).train()
        nn.functional.cross_entropy(net(x).logits, torch.arange(4)).backward()
        face, context = (e[0][0].weight.grad.norm() for e in (net.face_encoder, net.context_encoder))
        ratios[wiring] = (context / face).item()
    assert ratios["stable"] > 0.3
    assert ratios["paper"] < 0.3 * ratios["stable"]


def test_caer_averages_frames() -> None:
    """Protects: a clip is the mean of its frames, a repeated still the same as one."""
    net = build("caer_cross_attention").eval()
    x = {s: torch.randn(1, 2, 1, 3, 64, 64) for s in ("face", "context")}
    singles = [net({s: v[:, i : i + 1] for s, v in x.items()}).logits for i in range(2)]
    close(net(x).logits, torch.stack(singles).mean(0))


# DFAN ---------------------------------------------------------------------------------------------------------------


def _maps(batch: int = 2, segments: int = 6) -> dict[str, torch.Tensor]:
    sizes = {"action": (128, 3, 3), "object": (256, 4, 4), "scene": (256, 4, 4)}
    return {s: torch.randn(batch, segments, *size) for s, size in sizes.items()}


def test_dfan_counts() -> None:
    """Protects: the counts of other fusions, a shared temporal focus and single streams."""
    encoders = {"action": "s3d", "object": "resnet50", "scene": "resnet50"}
    with torch.device("meta"):
        for classes, kwargs, want in (
            (8, {}, 3_426_312),
            (6, {"fusion": "score_learned"}, 3_423_253),
            (8, {"fusion": "score_learned"}, 3_426_331),
            (6, {"fusion": "score"}, 3_423_250),  # without the three scalars, which would never learn
            (6, {"shared_temporal": True}, 3_422_214),
            (6, {"streams": ("action",)}, 791_558),
            (6, {"streams": ("scene",)}, 1_315_846),
        ):
            assert count_parameters(DFAN(classes, encoders=encoders, **kwargs))[0] == want


def test_dfan_attention_sums() -> None:
    """Protects: beta sums to 1 over real segments and is exactly 0 elsewhere; alpha sums to 1 over positions."""
    net, maps = build("dfan").eval(), _maps()
    mask = torch.ones(2, 6, 1, dtype=torch.bool)
    mask[0, 4:] = False
    out = net.head(maps, dict.fromkeys(maps, mask)).attention
    for s in maps:
        close(out[f"{s}_time"].sum(1), torch.ones(2))
        assert (out[f"{s}_time"][0, 4:] == 0).all()
        close(out[f"{s}_space"].flatten(2).sum(-1), mask[..., 0].float(), 1e-5)


def test_dfan_ignores_order() -> None:
    """Protects: segments, with their masks, and positions are sets."""
    net, maps = build("dfan").eval(), _maps()
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2]).unsqueeze(-1)
    want = net.head(maps, dict.fromkeys(maps, mask)).logits
    order = torch.randperm(6)
    close(net.head({s: m[:, order] for s, m in maps.items()}, dict.fromkeys(maps, mask[:, order])).logits, want)
    moved = {s: m.flatten(3)[..., torch.randperm(m[0, 0, 0].numel())].view_as(m) for s, m in maps.items()}
    close(net.head(moved, dict.fromkeys(maps, mask)).logits, want)


def test_dfan_takes_any_number_of_segments() -> None:
    """Protects: T = 1 and T = 32, and equal segments share the temporal focus."""
    net = build("dfan").eval()
    for segments in (1, 32):
        assert net.head(_maps(1, segments)).logits.isfinite().all()
    same = {s: m[:, :1].expand(-1, 6, -1, -1, -1) for s, m in _maps().items()}
    close(net.head(same).attention["action_time"], torch.full((2, 6), 1 / 6))


def test_dfan_options() -> None:
    """Protects: no focus means uniform weights; both orders share their weights and differ in beta alone."""
    plain = build("dfan", use_temporal=False, use_spatial=False).eval().head(_maps()).attention
    close(plain["object_time"], torch.full((2, 6), 1 / 6))
    close(plain["object_space"], torch.full((2, 6, 4, 4), 1 / 16))
    first, last = build("dfan").eval(), build("dfan", order="spatial_first").eval()
    last.load_state_dict(first.state_dict())
    maps = _maps()
    a, b = first.head(maps).attention, last.head(maps).attention
    assert torch.equal(a["scene_space"], b["scene_space"])
    assert not torch.equal(a["scene_time"], b["scene_time"])
    shared = build("dfan", shared_temporal=True).eval().head(maps).attention
    assert torch.equal(shared["action_time"], shared["scene_time"])


@pytest.mark.parametrize("fusion", ["score", "score_learned"])
def test_dfan_scores_are_log_probabilities(fusion: str) -> None:
    """Protects: score fusion returns log-probabilities, also where a stream is missing altogether."""
    net, maps = build("dfan", fusion=fusion).eval(), _maps()
    masks = {s: torch.ones(2, 6, 1, dtype=torch.bool) for s in maps}
    masks["action"] = torch.zeros_like(masks["action"])
    close(net.head(maps, masks).logits.exp().sum(1), torch.ones(2), 1e-5)


def test_dfan_finds_segment_and_place() -> None:
    """Protects: with the cause in one segment and one position, both attentions go there."""
    torch.manual_seed(0)
    net = DFAN(3, encoders={"object": "resnet_lite"}, streams=("object",), width=64, hidden=32)
    n = 60
    labels, when, where = torch.arange(n) % 3, torch.arange(n) % 4, torch.arange(n) % 9
    x = torch.randn(n, 4, 256, 3, 3) * 0.3
    signal = torch.randn(3, 256) * 2
    x.flatten(3)[torch.arange(n), when, :, where] += signal[labels]
    out = train_head(net, {"object": x}, labels, steps=60, lr=3e-3)
    assert (out.logits.argmax(1) == labels).float().mean() > 0.95
    assert (out.attention["object_time"].argmax(1) == when).float().mean() > 0.8
    found = out.attention["object_space"][torch.arange(n), when].flatten(1).argmax(1)
    assert (found == where).float().mean() > 0.8


# Recursive joint attention ------------------------------------------------------------------------------------------


def _streams(batch: int = 2, length: int = 8) -> dict[str, torch.Tensor]:
    return {"face": torch.randn(batch, length, 256), "audio": torch.randn(batch, length, 256)}


def test_rja_counts() -> None:
    """Protects: counts per recursion and with shared weights."""
    encoders = {"face": "r2plus1d_18", "audio": "resnet18_audio"}
    with torch.device("meta"):
        for kwargs, want in (
            ({"fusion": "official", "visual_input": "grid", "num_iter": 2}, 18_572_915),
            ({"fusion": "official", "visual_input": "grid", "num_iter": 3}, 21_197_971),
            ({"num_iter": 1}, 14_057_986),
            ({"num_iter": 3}, 17_204_738),
            ({"num_iter": 3, "share_weights": True}, 14_057_986),
            ({"num_iter": 1, "visual_input": "grid"}, 14_057_986 + 838_193),
        ):
            assert count_parameters(RecursiveJointAttention(encoders=encoders, **kwargs))[0] == want


def test_rja_length() -> None:
    """Protects: ``official`` refuses another length than it was built for, the reconstruction takes any."""
    net = build("recursive_joint_attention").eval()
    for length in (1, 5, 8, 19):
        assert net.head(_streams(length=length)).va.shape == (2, length, 2)
    official = RecursiveJointAttention(encoders=AV, fusion="official", seq_len=8, width=32, hidden=16)
    with pytest.raises(ValueError, match=r"5 clips.*seq_len=8"):
        official.head(_streams(length=5))
    with pytest.raises(ValueError, match="face features have width 100"):
        official.head({"face": torch.zeros(1, 8, 100), "audio": torch.zeros(1, 8, 256)})


def test_rja_layout() -> None:
    """Protects: the authors' layout differs from the true one, except where the map is the same everywhere."""
    kwargs = {"encoders": AV, "visual_input": "grid", "regions": 4, "seq_len": 3, "width": 32, "hidden": 16}
    legacy = RecursiveJointAttention(legacy_layout=True, **kwargs).eval()
    true = RecursiveJointAttention(**kwargs).eval()
    true.load_state_dict(legacy.state_dict())
    audio = torch.randn(2, 3, 256)
    assert not torch.allclose(
        *(net.head({"face": torch.randn(2, 3, 1024), "audio": audio}).va for net in (legacy, true))
    )
    constant = {"face": torch.ones(2, 3, 1024), "audio": audio}
    close(legacy.head(constant).va, true.head(constant).va)
    close(true.head(constant).attention["regions"].sum(-1), torch.ones(2, 3))


def test_rja_shares_weights_over_recursions() -> None:
    """Protects: ``share_weights`` is one joint attention applied again; no recursion leaves the streams as they are."""
    shared = build("recursive_joint_attention", num_iter=3, share_weights=True).eval()
    separate = build("recursive_joint_attention", num_iter=3).eval()
    for block in separate.joint:
        block.load_state_dict(shared.joint[0].state_dict())
    rest = {k: v for k, v in shared.state_dict().items() if not k.startswith("joint.")}
    separate.load_state_dict(rest, strict=False)
    streams = _streams()
    close(shared.head(streams).va, separate.head(streams).va)
    assert len(build("recursive_joint_attention", num_iter=0).joint) == 0


@pytest.mark.parametrize("left", ["audio", "face"])
def test_rja_without_a_stream_is_the_network_beside_a_masked_one(left: str) -> None:
    """Protects networks of audio, or of the face, alone: the same output as beside a masked stream."""
    both = build("recursive_joint_attention", classes=3).eval()
    one = build("recursive_joint_attention", classes=3, streams=(left,), encoders={left: AV[left]}).eval()
    assert set(one.encoders) == {left}
    kept = {k: v for k, v in both.state_dict().items() if k in (own := one.state_dict()) and own[k].shape == v.shape}
    assert set(own) - set(kept) == {f"{'face' if left == 'audio' else 'audio'}_lstm.{k}" for k in (
        "first.weight_ih_l0", "first.weight_ih_l0_reverse", "linear.weight",
    )}  # fmt: skip
    one.load_state_dict(kept, strict=False)
    features = _streams()
    masks = {s: torch.full((2, 8, 1), s == left) for s in ("face", "audio")}
    beside = both.head(features, masks)
    alone = one.head({left: features[left]}, {left: masks[left]})
    close(alone.logits, beside.logits)
    close(alone.va, beside.va)
    with pytest.raises(ValueError, match="streams must name face, audio or both"):
        build("recursive_joint_attention", streams=("text",))


def test_rja_masked_clips_do_not_enter_the_memory() -> None:
    """Protects: a recurrent layer over a sequence with holes equals the same layer over the real steps alone."""
    torch.manual_seed(0)
    rnn = nn.LSTM(5, 4, batch_first=True, bidirectional=True).double()
    x = torch.randn(1, 7, 5, dtype=torch.float64)
    mask = torch.tensor([[False, True, True, False, True, False, False]])
    state = (torch.randn(2, 1, 4, dtype=torch.float64), torch.randn(2, 1, 4, dtype=torch.float64))
    out = masked_rnn(rnn, x, mask, state)
    close(out[mask], rnn(x[mask].unsqueeze(0), state)[0][0])
    assert (out[~mask] == 0).all()


def test_rja_learns_from_the_stream_that_speaks() -> None:
    """Protects: with the cause in the audio for half of the samples and in the face for the others, both are used."""
    torch.manual_seed(0)
    net = build("recursive_joint_attention", classes=3)
    n, signal = 48, torch.randn(2, 3, 256)
    labels = torch.arange(n) % 3
    streams = {"face": torch.randn(n, 8, 256) * 0.5, "audio": torch.randn(n, 8, 256) * 0.5}
    streams["face"][: n // 2] += signal[0][labels[: n // 2]].unsqueeze(1)
    streams["audio"][n // 2 :] += signal[1][labels[n // 2 :]].unsqueeze(1)
    out = train_head(net, streams, labels, steps=60, lr=1e-3)
    right = (out.logits.argmax(1) == labels).float()
    assert right[: n // 2].mean() > 0.9
    assert right[n // 2 :].mean() > 0.9


# Emotion-FAN --------------------------------------------------------------------------------------------------------


def test_fan_counts_and_equal_weights() -> None:
    """Protects: the count of self-attention; with equal alphas the network is the plain mean of frames."""
    with torch.device("meta"):
        assert count_parameters(EmotionFAN(7, attention="self"))[0] == 11_180_616
    net, plain = (EmotionFAN(7, backbone="resnet_lite", attention=a).eval() for a in ("self", "mean"))
    nn.init.zeros_(net.alpha[1].weight)
    plain.classifier.load_state_dict(net.classifier.state_dict())
    f = torch.randn(2, 3, 1, 256)
    close(net.head({"face": f}).logits, plain.head({"face": f}).logits)
    close(net.head({"face": f}).attention["frame_weights"].flatten(1).sum(1), torch.ones(2))


def test_fan_trains_with_the_formula_it_evaluates_with() -> None:
    """Protects: without dropout, training and evaluation give one result (the authors' code gives two)."""
    net = EmotionFAN(7, backbone="resnet_lite")
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    f = {"face": torch.randn(2, 3, 1, 256)}
    assert torch.equal(net.train().head(f).logits, net.eval().head(f).logits)
