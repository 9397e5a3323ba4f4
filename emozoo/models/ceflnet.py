"""CEFLNet: Liu, Feng, Yuan, Zhou, Wang, Qin, Luo, "Clip-aware expressive feature learning for video-based facial
expression recognition", Information Sciences 598 (2022) 182-195, https://doi.org/10.1016/j.ins.2022.03.062.

Only the abstract of the paper was readable; the arithmetic is that of the authors' public code
(https://github.com/CVLab-Liuyuanyuan/CEFLNet, commit bbef8a1), re-implemented from a description of it.

Legend: B batch, C clips, F frames in a clip, D feature width (512 for ResNet-18), K classes; c a clip, j a frame in it.

  Clip-based feature encoder (CFE), shared by all clips
    f_cj = GAP(ResNet(x_cj))       with reduce: R GAP(...) + r, D features   (B,C,F,D)
    A    = MHA(f_c, f_c, f_c), 4 heads          S = LayerNorm(f + drop(A))   (B·C,F,D)
    g_c  = max_j S_cj                                                        (B·C,D)
    u_cj = [f_cj ; g_c]                         the raw feature, not S       (B·C,F,2D)
    beta_cj = sigmoid(w · drop(u_cj))                                        (B·C,F)
    p_c  = sum_j beta_cj u_cj / sum_j beta_cj        v_c = W p_c + b         (B,C,D)
  Emotional intensity activation network (EIAN)
    e_c  = q · v_c          a = softmax_c e_c                                (B,C)
    z    = max_c (a_c v_c)                                                   (B,D)
  Classifier D - D/2 - D/4 - K (head "afew") or D - D/4 - D/8 - K (head "small")

Any C and F will do. Without ``positional`` the result does not change when frames of a clip are reordered, or clips.

Deviations
  ``bn_mode="flat"`` (wiring ``stable``): batch norm sees all frames of a batch together. The authors' loop
  (``"per_frame"``, wiring ``official``) runs the encoder once per (clip, frame) position, so that batch statistics come
  from one position and running statistics are updated C * F times a step. Both are equal in evaluation. The authors'
  unused layers (``fc2``) do not exist here. Masks are ours: the authors bring all videos to one length. ``reduce`` and
  ``frame_dropout`` are ours, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from emozoo.models.backbones import StrPath, image_encoder
from emozoo.models.layers import (
    at_least_fp32,
    encode_masked,
    masked_max,
    masked_mean,
    masked_sigmoid,
    masked_softmax,
    stream_mask,
    weighted_mean,
    zero_masked,
)
from emozoo.models.network import Masks, Network, Output


class CEFLNet(Network):
    """Clip-aware expressive features on the stream ``face`` (B, C, F, 3, H, W).

    ``pooling``: ``activation`` is the paper's; ``mean`` and ``max`` are its plain controls, in which frames count alike
    and clips are averaged, or their element-wise maximum is taken.

    ``reduce``: brings the features of a wide encoder to this D first, so that what follows (8 D^2) stays small.

    ``frame_dropout`` False switches dropout in the clip encoder off, for training on stills. A still is C * F copies
    of one image. Dropout makes the copies differ in training, so the softmax over clips picks one of them; in
    evaluation the copies are equal and share the attention, and z is up to C times smaller than it was in training.

    Attention maps: ``frame_weights`` (B, C, F): beta, in (0, 1), 0 where masked, no fixed sum; ``clip_attention``
    (B, C): sums to 1 over clips; its largest entry is the salient clip. Both are absent in the controls.
    """

    encoding = ("backbone",)

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: str = "resnet18",
        bn_mode: str = "flat",
        head: str = "afew",
        pooling: str = "activation",
        eian_init: str = "fan_out",
        positional: bool = False,
        reduce: int | None = None,
        frame_dropout: bool = True,
        backbone_weights: StrPath | None = None,
    ) -> None:
        super().__init__(num_classes)
        for word, value, known in (
            ("bn_mode", bn_mode, ("flat", "per_frame")),
            ("head", head, ("afew", "small")),
            ("pooling", pooling, ("activation", "mean", "max")),
            ("eian_init", eian_init, ("fan_out", "fan_in")),
        ):
            if value not in known:
                raise ValueError(f"{word} must be one of {known}, got {value!r}")
        self.bn_mode, self.pooling, self.positional = bn_mode, pooling, positional
        self.per_frame = bn_mode == "flat"
        self.backbone, width = image_encoder(backbone, weights=backbone_weights)
        self.reduce = nn.Linear(width, reduce) if reduce else nn.Identity()
        width = reduce or width
        self.encoder = ClipEncoder(width, pooling == "activation", frame_dropout)
        if pooling == "activation":
            self.activation = EmotionalIntensity(width, eian_init)
        middle = (width // 2, width // 4) if head == "afew" else (width // 4, width // 8)
        self.classifier = nn.Sequential(
            nn.Linear(width, middle[0]),
            nn.ReLU(),
            nn.Linear(middle[0], middle[1]),
            nn.ReLU(),
            nn.Dropout(0.4),
            nn.Linear(middle[1], num_classes),
        )

    def encode(self, inputs: Mapping[str, Tensor], masks: Masks = None) -> dict[str, Tensor]:
        """``face`` -> (B, C, F, D) pooled frame features (before ``reduce``)."""
        x = inputs["face"]
        mask = stream_mask(masks, "face", x, 3)
        if self.bn_mode == "flat" or not self.backbone.training:
            return {"face": encode_masked(self.backbone, x, mask).mean((-2, -1))}
        clips, frames = mask.shape[1:]
        one_by_one = [
            encode_masked(self.backbone, x[:, c, j], mask[:, c, j]).mean((-2, -1))
            for c in range(clips)
            for j in range(frames)
        ]
        return {"face": torch.stack(one_by_one, 1).unflatten(1, (clips, frames))}

    def head(self, features: Mapping[str, Tensor], masks: Masks = None) -> Output:
        f = features["face"]  # (B, C, F, D)
        mask = stream_mask(masks, "face", f, 3)
        f, clip_mask = zero_masked(self.reduce(f), mask), mask.any(2)  # (B, C, F, D), (B, C)
        if self.positional:
            f = f + _sinusoid(f.shape[1] * f.shape[2], f).view(f.shape[1:])
        v, beta = self.encoder(f.flatten(0, 1), mask.flatten(0, 1))  # (B·C, D), (B·C, F)
        v = v.unflatten(0, f.shape[:2])  # (B, C, D)
        if self.pooling == "activation":
            z, a = self.activation(v, clip_mask)  # (B, D), (B, C)
            maps = {"frame_weights": beta.unflatten(0, f.shape[:2]), "clip_attention": a}
        else:
            z = (masked_mean if self.pooling == "mean" else masked_max)(v, clip_mask, 1)
            maps = {}
        return Output(at_least_fp32(self.classifier(z)), None, maps)


class ClipEncoder(nn.Module):
    """CFE: self-attention inside a clip, then each frame weighed against the clip's maximum.

    ``f`` (N, F, D), ``mask`` (N, F) -> clip vectors (N, D) and frame weights (N, F). Without ``relation`` all frames
    count alike, without ``drop`` nothing is dropped.
    """

    def __init__(self, width: int, relation: bool = True, drop: bool = True) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 4, dropout=0.1 * drop)
        self.dropout = nn.Dropout(0.1 * drop)
        self.norm = nn.LayerNorm(width)
        if relation:
            self.relation = nn.Sequential(nn.Dropout(0.5 * drop), nn.Linear(2 * width, 1))
        self.project = nn.Linear(2 * width, width)
        self.has_relation = relation

    def forward(self, f: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        # A clip without a real frame attends to its zeros, so that no softmax is empty; it is left out of every pool.
        seen = mask | ~mask.any(1, keepdim=True)
        s = self.norm(f + self.dropout(self._attended(f, seen)))  # (N, F, D)
        g = masked_max(s, mask, 1)  # (N, D)
        u = torch.cat([f, g.to(f.dtype).unsqueeze(1).expand_as(f)], -1)  # (N, F, 2D)
        if self.has_relation:
            beta = masked_sigmoid(self.relation(u).squeeze(-1), mask)  # (N, F)
        else:
            beta = at_least_fp32(mask)
        p = weighted_mean(u, beta, 1)  # (N, 2D); the dropout above touches the score only
        return self.project(p), beta

    def _attended(self, f: Tensor, seen: Tensor) -> Tensor:
        """``self.attention`` of all frames to those in ``seen`` (N, F): (N, F, D).

        Its own forward would import sympy to check the mask, which takes longer than a prediction.
        """
        own = self.attention
        qkv = fn.linear(f, own.in_proj_weight, own.in_proj_bias).unflatten(-1, (3, own.num_heads, own.head_dim))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (N, heads, F, D / heads)
        dropout = own.dropout if self.training else 0.0
        attended = fn.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None, None, :], dropout_p=dropout)
        # Frames come first in memory, as from ``own``: dropout then draws the same numbers for the same frames.
        return own.out_proj(attended.permute(2, 0, 1, 3).flatten(2)).transpose(0, 1)


class EmotionalIntensity(nn.Module):
    """EIAN: one score per clip, softmax over clips, element-wise maximum of the weighted clips.

    ``init="fan_out"`` is the authors' (standard deviation sqrt(2) over D inputs: nearly one-hot before training),
    ``"fan_in"`` the usual scale sqrt(2 / D).
    """

    def __init__(self, width: int, init: str) -> None:
        super().__init__()
        self.query = nn.Linear(width, 1, bias=False)
        nn.init.normal_(self.query.weight, std=math.sqrt(2.0 / (1 if init == "fan_out" else width)))

    def forward(self, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        a = masked_softmax(self.query(v).squeeze(-1), mask, 1)  # (B, C)
        z = masked_max(a.unsqueeze(-1) * at_least_fp32(v), mask, 1)  # (B, D)
        return z, a


def _sinusoid(steps: int, like: Tensor) -> Tensor:
    """Sine and cosine position codes (Vaswani et al., 2017): (steps, D)."""
    width = like.shape[-1]
    position = torch.arange(steps, device=like.device, dtype=torch.float32).unsqueeze(1)
    rate = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(10000.0) / width))
    return torch.stack([(position * rate).sin(), (position * rate).cos()], -1).flatten(1)[:, :width].to(like.dtype)


def convert_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' parameter names to ours; their unused ``fc2`` is dropped, everything else must match."""
    prefixes = {
        "attn.": "encoder.attention.",
        "norm1.": "encoder.norm.",
        "beta.0.": "encoder.relation.1.",
        "fc.": "encoder.project.",
        "temp_attn.attn.0.": "activation.query.",
        "classifier.5.0.": "classifier.5.",
        "conv1.": "backbone.conv1.",
        "bn1.": "backbone.bn1.",
        "layer": "backbone.layer",
    }
    converted = {}
    for key, value in state.items():
        key = key.removeprefix("module.")  # which DataParallel puts before every name
        if key.startswith("fc2."):
            continue
        for theirs, ours in prefixes.items():
            if key.startswith(theirs):
                key = ours + key.removeprefix(theirs)
                break
        if key == "activation.query.weight":
            value = value.squeeze(-1)  # their Conv1d of kernel 1
        converted[key] = value
    return converted
