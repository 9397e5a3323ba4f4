"""CAHFW-Net: Zhou, Wu, Jiang, Huang, Huang, "Emotion Recognition from Large-Scale Video Clips with Cross-Attention and
Hybrid Feature Weighting Neural Networks", Int. J. Environ. Res. Public Health 2023, 20(2), 1400,
https://doi.org/10.3390/ijerph20021400. Equation numbers are the paper's. The authors published no code.

Legend: N = B * C * F images (batch, clips, frames), W channels (256), h, w positions, P = h * w (196), K classes;
subscript F = face, C = context.

  Dual-branch encoding (eq. 2-8)
    X_F = TE(face)     X = CE(scene, face blacked out)     A = softmax over positions of Highlight(X)
    X_C = A * X                                         ``highlight_rescale``: X_C = P * A * X, mean attention 1
  Two pairs of cross-attention and element recalibration (eq. 9-15); channels attend to channels, (N,W,W)
    Z_F = ReLU(BN(conv(softmax(Q_F K_C' / sqrt P) V_F)))          Q, V from X_F, K from X_C
    R_F = Z_F * (softmax(Z_F (W Z_F)') Z_F)
    Z_C, R_C likewise with Q, V from X_C and K from R_F           ``pair2_key="ca"``: K from Z_F
  Adaptive attention (eq. 18-21): x = GAP(X), r = GAP(R), s: W - W/2 - 1
    l_shallow = softmax([s(x_F), s(x_C)])        l_deep = softmax([s(r_F), s(r_C)])
    f_shallow = l_deep x        f_deep = l_shallow r              crossed: each level is weighed by the other's scores
  Deep fusion (eq. 22-26), dropout 0.5
    f1 = Linear([f_shallow_C ; f_deep_C])   f2 = Linear([f_shallow_F ; f_deep_F])   logits = MLP([f1 ; f2])

Conflicts inside the paper, each a keyword, the default first
  ``highlight_hidden`` (W/2,): two convolutions as in eq. 6, 8; (W, W/2): the three of section 4.2.2.
  ``pair2_key`` "er": eq. 15 and figure 4; "ca": algorithm 1 and table 1.
  ``swap_fc`` False: each stream has its own weight; True: the printed index order, where the face's weight multiplies
  the context.
  ``score_activation`` "relu": section 4.2; "none": eq. 18.
Ablations beside the paper: ``er_scale`` "sqrt_d" divides the scores of eq. 13 by sqrt P, since they are large enough to
  make its softmax one-hot; ``gap_bn`` puts batch norm on pooled vectors, as public code of CAER-Net does.

Deviations
  Algorithm 1 puts a softmax before the cross-entropy; that would keep the loss above 1.17 for 7 classes, so logits are
  returned. Wiring ``stable`` rescales the highlight: A sums to 1, so X_C is P = 196 times smaller than X, batch norm's
  epsilon hides it, and the context encoder hardly learns. The network is static: logits are averaged over frames. A
  missing stream is zeros with fusion weight 0. ``face_backbone`` and ``context_backbone``, other encoders than TE and
  CE, are ours: a 1 x 1 convolution brings each map to W channels; where the face's map is coarser than the context's,
  each of its cells is repeated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from emozoo.models.backbones import image_encoder
from emozoo.models.layers import (
    ConvEncoder,
    Highlight,
    PooledBatchNorm,
    at_least_fp32,
    encode_masked,
    masked_mean,
    masked_softmax,
    spatial_softmax,
    stream_mask,
    zero_masked,
)
from emozoo.models.network import Masks, Network, Output


class CAERCrossAttention(Network):
    """Face and scene on the streams ``face`` and ``context`` (B, C, F, 3, H, W), equal sizes.

    ``fusion`` names the paper's ablations: ``full``; ``no_er`` (R = Z); ``af``: pooled streams, weighed and
    concatenated (eq. 16, 17), which is CAER-Net-S; ``mean``: our plain control, pooled streams with equal weights and
    no attention at all.

    ``face_backbone``, ``context_backbone``: names of image encoders in the places of TE and CE
    (:mod:`emozoo.models.backbones`); the sides of the context's map, with CE a sixteenth of the image's, must be
    multiples of those of the face's map.

    Attention maps, 0 where masked: ``context`` (B, C, F, h, w): A as it multiplies the map, sums to 1 over positions,
    or averages 1 with ``highlight_rescale``; ``face_channels``, ``context_channels`` (B, C, F, W, W): rows sum to 1;
    ``shallow``, ``deep`` (B, C, F, 2): weights of face and context, sum to 1. ``af`` has ``context`` and ``shallow``.
    """

    encoding = ("face_encoder", "context_encoder")

    def __init__(
        self,
        num_classes: int,
        *,
        widths: Sequence[int] = (32, 64, 128, 256, 256),
        fusion: str = "full",
        highlight_rescale: bool = True,
        highlight_hidden: Sequence[int] | None = None,
        pair2_key: str = "er",
        swap_fc: bool = False,
        score_activation: str = "relu",
        er_scale: str = "none",
        gap_bn: bool = False,
        face_backbone: str | None = None,
        context_backbone: str | None = None,
    ) -> None:
        super().__init__(num_classes)
        for word, value, known in (
            ("fusion", fusion, ("full", "no_er", "af", "mean")),
            ("pair2_key", pair2_key, ("er", "ca")),
            ("score_activation", score_activation, ("relu", "none")),
            ("er_scale", er_scale, ("none", "sqrt_d")),
        ):
            if value not in known:
                raise ValueError(f"{word} must be one of {known}, got {value!r}")
        self.fusion, self.highlight_rescale, self.pair2_key, self.swap_fc = (
            fusion,
            highlight_rescale,
            pair2_key,
            swap_fc,
        )
        width, half = widths[-1], widths[-1] // 2
        face, wide = image_encoder(face_backbone) if face_backbone else (ConvEncoder(widths), width)
        scene, deep = image_encoder(context_backbone) if context_backbone else (ConvEncoder(widths), width)
        self.face_encoder, self.context_encoder = face, scene
        self.face_width = nn.Conv2d(wide, width, 1) if face_backbone else nn.Identity()
        self.context_width = nn.Conv2d(deep, width, 1) if context_backbone else nn.Identity()
        if fusion != "mean":
            self.highlight = Highlight(width, highlight_hidden or (half,))
        pairs = fusion in ("full", "no_er")
        if pairs:
            self.face_pair = Pair(width, fusion == "full", er_scale)
            self.context_pair = Pair(width, fusion == "full", er_scale)
        vectors = ("x_f", "x_c", "r_f", "r_c") if pairs else ("x_f", "x_c")
        self.norms = nn.ModuleDict({v: PooledBatchNorm(width) if gap_bn else nn.Identity() for v in vectors})
        if fusion != "mean":
            self.scores = nn.ModuleDict({v: _score(width, half, score_activation) for v in vectors})
        if pairs:
            self.context_fusion = nn.Sequential(nn.Linear(2 * width, half), nn.ReLU(), nn.Dropout(0.5))
            self.face_fusion = nn.Sequential(nn.Linear(2 * width, half), nn.ReLU(), nn.Dropout(0.5))
        self.classifier = nn.Sequential(
            nn.Linear(2 * half if pairs else 2 * width, half), nn.ReLU(), nn.Dropout(0.5), nn.Linear(half, num_classes)
        )

    def encode(self, inputs: Mapping[str, Tensor], masks: Masks = None) -> dict[str, Tensor]:
        """Both streams -> maps (B, C, F, W, h, w) of TE and CE, before the highlight.

        Raises ValueError where face and context images differ in size.
        """
        if inputs["face"].shape[-2:] != inputs["context"].shape[-2:]:
            sizes = [tuple(inputs[s].shape[-2:]) for s in ("face", "context")]
            raise ValueError(
                f"face and context need one size (keys and values share positions), got {sizes[0]}, {sizes[1]}"
            )
        return {
            name: encode_masked(encoder, inputs[name], stream_mask(masks, name, inputs[name], 3))
            for name, encoder in (("face", self.face_encoder), ("context", self.context_encoder))
        }

    def head(self, features: Mapping[str, Tensor], masks: Masks = None) -> Output:
        lead = features["face"].shape[:3]
        m_f = stream_mask(masks, "face", features["face"], 3).flatten()  # (N,)
        m_c = stream_mask(masks, "context", features["context"], 3).flatten()
        m_any, m_both = m_f | m_c, torch.stack([m_f, m_c], 1)
        # Zeros behind the convolutions: their biases would give a missing stream a value.
        map_f = zero_masked(self.face_width(features["face"].flatten(0, 2)), m_f)  # (N, W, h, w)
        map_c = zero_masked(self.context_width(features["context"].flatten(0, 2)), m_c)
        if map_f.shape != map_c.shape:  # a coarser face: cells repeated, the mean over positions is the same
            map_f = _repeat(map_f, map_c.shape[-2:])
        maps: dict[str, Tensor] = {}

        if self.fusion != "mean":  # eq. 6-8
            a = spatial_softmax(encode_masked(self.highlight, map_c, m_c))  # (N, 1, h, w)
            if self.highlight_rescale:
                a = a * (a.shape[-2] * a.shape[-1])
            map_c = (a * map_c).to(map_f.dtype)
            maps["context"] = zero_masked(a.squeeze(1), m_c)
        x_f = encode_masked(self.norms["x_f"], map_f.mean((-2, -1)), m_f)  # (N, W)
        x_c = encode_masked(self.norms["x_c"], map_c.mean((-2, -1)), m_c)

        if self.fusion == "mean":
            fused = torch.cat([x_f, x_c], 1) / 2  # (N, 2W)
        else:
            shallow = self._weights("x_f", x_f, "x_c", x_c, m_both)  # (N, 2), order face, context
            maps["shallow"] = shallow
            fused = torch.cat([shallow[:, :1] * x_f, shallow[:, 1:] * x_c], 1)  # eq. 16, 17
        if self.fusion in ("full", "no_er"):
            z_f, out_f, maps["face_channels"] = self.face_pair(map_f, map_c, m_any)
            _, out_c, maps["context_channels"] = self.context_pair(
                map_c, out_f if self.pair2_key == "er" else z_f, m_any
            )
            r_f = encode_masked(self.norms["r_f"], out_f.mean((-2, -1)), m_any)
            r_c = encode_masked(self.norms["r_c"], out_c.mean((-2, -1)), m_any)
            deep = maps["deep"] = self._weights("r_f", r_f, "r_c", r_c, m_both)
            w_s, w_d = (shallow.flip(1), deep.flip(1)) if self.swap_fc else (shallow, deep)
            f1 = self.context_fusion(torch.cat([w_d[:, 1:] * x_c, w_s[:, 1:] * r_c], 1))  # (N, W/2), eq. 20-23
            f2 = self.face_fusion(torch.cat([w_d[:, :1] * x_f, w_s[:, :1] * r_f], 1))
            fused = torch.cat([f1, f2], 1)
        logits = self.classifier(fused)  # (N, K), eq. 24-26

        frames = m_any.view(lead).flatten(1)  # (B, C·F)
        maps = {name: zero_masked(value, m_any).unflatten(0, lead) for name, value in maps.items()}
        return Output(masked_mean(logits.unflatten(0, frames.shape), frames, 1), None, maps)

    def _weights(self, name_f: str, face: Tensor, name_c: str, context: Tensor, mask: Tensor) -> Tensor:
        """Softmax over the scores of face and context (eq. 18, 19): (N, 2)."""
        return masked_softmax(torch.cat([self.scores[name_f](face), self.scores[name_c](context)], 1), mask, 1)


class Pair(nn.Module):
    """Cross-attention (eq. 9-12), then element recalibration (eq. 13, 14).

    ``x`` gives queries and values, ``key`` the keys, both (N, W, h, w) -> Z, R (N, W, h, w), attention (N, W, W).
    ``mask`` (N,): batch norm sees only what is real. The paper has no residual, norm or feed-forward layer around the
    attention. Without ``recalibrate`` R is Z.
    """

    def __init__(self, width: int, recalibrate: bool, er_scale: str) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        self.out = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.recalibrate, self.er_scale = recalibrate, er_scale
        if recalibrate:
            self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, key: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.query(x).flatten(2), self.key(key).flatten(2), self.value(x).flatten(2)  # (N, W, P)
        scale = 1.0 / math.sqrt(q.shape[-1])
        attention = at_least_fp32(q @ k.mT * scale).softmax(-1)  # (N, W, W), eq. 11
        z = encode_masked(self.out, (attention.to(v.dtype) @ v).view_as(x), mask)  # (N, W, h, w), eq. 12
        if not self.recalibrate:
            return z, z, attention
        flat = z.flatten(2)  # (N, W, P)
        scores = at_least_fp32(flat @ self.mix(flat).mT)  # eq. 13
        gate = (scores * (scale if self.er_scale == "sqrt_d" else 1.0)).softmax(-1).to(flat.dtype) @ flat
        return z, (flat * gate).view_as(z), attention  # eq. 14


def _repeat(x: Tensor, size: torch.Size) -> Tensor:
    """Repeats the cells of maps (N, W, h, w) until they have ``size``."""
    if any(large % small for large, small in zip(size, x.shape[-2:], strict=True)):
        raise ValueError(f"the face's map {tuple(x.shape[-2:])} does not divide the context's {tuple(size)}")
    return nn.functional.interpolate(x, size, mode="nearest")


def _score(width: int, hidden: int, activation: str) -> nn.Sequential:
    middle = nn.ReLU() if activation == "relu" else nn.Identity()
    return nn.Sequential(nn.Linear(width, hidden), middle, nn.Linear(hidden, 1))
