"""DFAN: Qiu, He, Wang, "Dual Focus Attention Network for Video Emotion Recognition", IEEE ICME 2020,
https://doi.org/10.1109/ICME46284.2020.9102808.

An independent re-implementation from the abstract: the full text was not readable and there is no public code. The
abstract names three kinds of features (action, object, scene) and two attention modules, one over time ("first find the
informative clips"), then one over space ("closely look for emotional cues in the frames"). All that follows is our
reconstruction.

Legend: B batch, T segments (clips), C_s channels of a stream's map, h, w positions, P = h * w, d = 512, K classes.

  Per stream, from its map x (B,T,C_s,h,w)
    z   = ReLU(BN(conv 1x1 x))                                              (B,T,P,d)
    temporal focus   g_t = mean_i z_ti      e_t = w . tanh(W g_t + b)       beta = softmax_t e          (B,T)
    spatial focus    h_ti = w'. tanh(W' z_ti + b')                          alpha_t = softmax_i h_t     (B,T,P)
    f_t = sum_i alpha_ti z_ti               v = drop(sum_t beta_t f_t)                                  (B,d)
  Fusion
    ``concat``         logits = Linear([v_action ; v_object ; v_scene])
    ``score``          log of the mean over streams of softmax(Linear_s v_s)
    ``score_learned``  the same with softmax weights over streams, learned, equal at first

The result does not change when segments are reordered, or positions.

Deviations
  There is no text to deviate from. ``audio`` adds a fourth stream, audio: an extension of ours, off by default (the
  abstract names visual features only, a later table calls the network audio-visual). A stream without any real
  segment counts as zeros, and is left out of ``score``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from emozoo.models.backbones import (
    StrPath,
    audio_encoder,
    check_audio,
    clip_encoder,
    image_encoder,
    is_clip_encoder,
)
from emozoo.models.layers import (
    at_least_fp32,
    encode_masked,
    masked_softmax,
    stream_mask,
    zero_masked,
)
from emozoo.models.network import EncoderNet, Masks, Output

STREAMS = ("action", "object", "scene")


class DFAN(EncoderNet):
    """Three streams (B, C, F, 3, H, W), C = T segments: ``action`` with F frames, ``object`` and ``scene`` with one.

    ``audio`` names an encoder of a fourth stream, ``audio`` (B, C, 1, M, S): the audio that ends with each segment,
    whose positions are mel bands and steps.

    ``encoders`` names an encoder per stream (``backbones.py``), ``encoder_weights`` optional files for them,
    ``streams`` the subset that is used. ``order="spatial_first"`` feeds the temporal scorer with f_t instead of g_t;
    ``shared_temporal`` computes one beta from all g_t; ``use_temporal``, ``use_spatial`` False give uniform weights.

    Attention maps per stream s: ``{s}_time`` (B, T): beta, sums to 1 over real segments, 0 on others; ``{s}_space``
    (B, T, h, w): alpha, sums to 1 over positions of each real segment.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoders: Mapping[str, str],
        width: int = 512,
        hidden: int = 256,
        streams: Sequence[str] = STREAMS,
        order: str = "temporal_first",
        fusion: str = "concat",
        shared_temporal: bool = False,
        use_temporal: bool = True,
        use_spatial: bool = True,
        freeze: bool = True,
        encoder_weights: Mapping[str, StrPath] | None = None,
        audio: str | Mapping[str, Any] | None = None,
    ) -> None:
        if order not in ("temporal_first", "spatial_first"):
            raise ValueError(f"order must be 'temporal_first' or 'spatial_first', got {order!r}")
        if fusion not in ("concat", "score", "score_learned"):
            raise ValueError(f"fusion must be 'concat', 'score' or 'score_learned', got {fusion!r}")
        if not streams or not set(streams) <= set(encoders):
            raise ValueError(f"streams must name some of {', '.join(encoders)}, got {tuple(streams)!r}")
        files = encoder_weights or {}
        built = {
            s: (clip_encoder if is_clip_encoder(encoders[s]) else image_encoder)(encoders[s], weights=files.get(s))
            for s in streams
        }
        clip_streams = tuple(s for s in streams if is_clip_encoder(encoders[s]))
        if audio is not None:
            built["audio"] = audio_encoder(audio, weights=files.get("audio"))
            streams = (*streams, "audio")
        super().__init__(num_classes, {s: encoder for s, (encoder, _) in built.items()}, freeze=freeze)
        self.streams, self.order, self.fusion = tuple(streams), order, fusion
        self.clip_streams = clip_streams
        self.use_temporal, self.use_spatial = use_temporal, use_spatial
        self.shared_temporal = shared_temporal and use_temporal
        self.focus = nn.ModuleDict({s: Focus(built[s][1], width, hidden, use_spatial) for s in streams})
        if self.shared_temporal:
            self.temporal = nn.ModuleDict({"shared": _scorer(len(streams) * width, hidden)})
        elif use_temporal:
            self.temporal = nn.ModuleDict({s: _scorer(width, hidden) for s in streams})
        self.dropout = nn.Dropout(0.5)
        if fusion == "concat":
            self.classifier = nn.Linear(len(self.streams) * width, num_classes)
        else:
            self.classifiers = nn.ModuleDict({s: nn.Linear(width, num_classes) for s in streams})
        if fusion == "score_learned":
            self.stream_scores = nn.Parameter(torch.zeros(len(self.streams)))

    def encode(self, inputs: Mapping[str, Tensor], masks: Masks = None) -> dict[str, Tensor]:
        """Per stream a map (B, T, C_s, h, w): clips averaged over time, images of a segment over its frames."""
        features = {}
        for s in self.streams:
            x = inputs[s]  # (B, T, F, 3, H, W)
            if s == "audio":
                check_audio(self.encoders[s], x)
                x = x.unsqueeze(3)  # (B, T, 1, 1, M, S): one image to a segment, of one channel
            mask = stream_mask(masks, s, x, 3)
            if s in self.clip_streams:
                clips = zero_masked(x, mask).transpose(2, 3)  # (B, T, 3, F, H, W)
                features[s] = encode_masked(self.encoders[s], clips, mask.any(2)).mean(3)
            else:
                maps = encode_masked(self.encoders[s], x, mask)  # (B, T, F, C_s, h, w)
                real = mask.sum(2).clamp(min=1).view(*mask.shape[:2], 1, 1, 1)
                features[s] = maps.sum(2) / real
        return features

    def head(self, features: Mapping[str, Tensor], masks: Masks = None) -> Output:
        real = {s: stream_mask(masks, s, features[s], 2) for s in self.streams}  # (B, T)
        looks = {s: self.focus[s](features[s], real[s]) for s in self.streams}  # z, alpha, f
        if self.shared_temporal:
            described = torch.cat([self._descriptor(*looks[s]) for s in self.streams], -1)  # (B, T, S·d)
            shared = self.temporal["shared"](described).squeeze(-1)  # (B, T)
        vectors, maps = [], {}
        for s in self.streams:
            z, alpha, f = looks[s]
            if self.shared_temporal:
                scores = shared
            elif self.use_temporal:
                scores = self.temporal[s](self._descriptor(z, alpha, f)).squeeze(-1)
            else:
                scores = torch.zeros_like(f[..., 0])
            beta = masked_softmax(scores, real[s], 1)  # (B, T)
            vectors.append(self.dropout((beta.unsqueeze(-1) * f).sum(1)))  # (B, d)
            maps[f"{s}_time"] = beta
            maps[f"{s}_space"] = alpha.view(*alpha.shape[:2], *features[s].shape[-2:])
        return Output(self._fuse(vectors, torch.stack([real[s].any(1) for s in self.streams], 1)), None, maps)

    def _descriptor(self, z: Tensor, alpha: Tensor, f: Tensor) -> Tensor:
        """What the temporal scorer sees of a segment: (B, T, d)."""
        return z.mean(2) if self.order == "temporal_first" else f.to(z.dtype)

    def _fuse(self, vectors: list[Tensor], present: Tensor) -> Tensor:
        """Stream vectors (B, d) and which streams are there (B, S) -> logits (B, K), log-probabilities for scores."""
        if self.fusion == "concat":
            return at_least_fp32(self.classifier(torch.cat(vectors, 1)))
        scores = [self.classifiers[s](v) for s, v in zip(self.streams, vectors, strict=True)]
        chances = at_least_fp32(torch.stack(scores, 1)).softmax(-1)  # (B, S, K)
        learned = self.stream_scores if self.fusion == "score_learned" else chances.new_zeros(len(self.streams))
        weights = masked_softmax(learned.expand(present.shape[0], -1), present, 1)  # (B, S)
        return (weights.unsqueeze(-1) * chances).sum(1).clamp(min=1e-8).log()


class Focus(nn.Module):
    """One stream's projection and attention: map (B, T, C_s, h, w) -> z (B,T,P,d), alpha (B,T,P), f (B,T,d)."""

    def __init__(self, inputs: int, width: int, hidden: int, spatial: bool) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        if spatial:
            self.spatial = _scorer(width, hidden)
        self.looks_at_space = spatial

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = encode_masked(self.project, x, mask).flatten(3).mT  # (B, T, P, d)
        scores = self.spatial(z).squeeze(-1) if self.looks_at_space else torch.zeros_like(z[..., 0])  # (B, T, P)
        alpha = masked_softmax(scores, mask.unsqueeze(-1).expand(scores.shape), 2)
        return z, alpha, (alpha.unsqueeze(-1) * z).sum(2)


def _scorer(inputs: int, hidden: int) -> nn.Sequential:
    """Additive attention (Bahdanau et al., 2015): w . tanh(W x + b)."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))
