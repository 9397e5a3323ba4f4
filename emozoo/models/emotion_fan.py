"""Emotion-FAN: Meng, Peng, Wang, Qiao, "Frame Attention Networks for Facial Expression Recognition in Videos", ICIP
2019, https://arxiv.org/abs/1907.00193. Code: https://github.com/Open-Debin/Emotion-FAN.

Legend: B batch, C clips, F frames in a clip, T = C * F frames, D feature width (512 for ResNet-18), K classes.

    f_i = GAP(ResNet(x_i))                                                  (B,T,D)
    alpha_i = sigmoid(w_a . drop(f_i))      f' = sum alpha_i f_i / sum alpha_i            (eq. 1, 2)
    beta_i = sigmoid(w_b . drop([f_i ; f']))                                              (eq. 3)
    f_v = sum alpha_i beta_i [f_i ; f'] / sum alpha_i beta_i                              (eq. 4)
    logits = W drop(f_v)

Deviations
  In evaluation the authors' code divides a sum weighted by alpha by the sum of alpha * beta; this file uses eq. 4 in
  training and evaluation alike. ``attention="self"`` stops after f'; ``"mean"`` is the plain average over frames, the
  control. Each form builds only the parameters that it uses.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from emozoo.models.backbones import StrPath, image_encoder
from emozoo.models.layers import (
    at_least_fp32,
    encode_stream,
    masked_sigmoid,
    stream_mask,
    weighted_mean,
    zero_masked,
)
from emozoo.models.network import Masks, Network, Output


class EmotionFAN(Network):
    """Frame attention network on the stream ``face`` (B, C, F, 3, H, W).

    Attention maps: ``alpha`` (B, T) and, with relation attention, ``beta`` (B, T), each in (0, 1), 0 where masked;
    ``frame_weights`` (B, C, F): the weight of each frame in the result, sums to 1 over C and F.
    """

    encoding = ("backbone",)
    per_frame = True

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: str = "resnet18",
        attention: str = "relation",
        backbone_weights: StrPath | None = None,
    ) -> None:
        super().__init__(num_classes)
        if attention not in ("relation", "self", "mean"):
            raise ValueError(f"attention must be 'relation', 'self' or 'mean', got {attention!r}")
        self.attention = attention
        self.backbone, width = image_encoder(backbone, weights=backbone_weights)
        if attention != "mean":
            self.alpha = nn.Sequential(nn.Dropout(0.5), nn.Linear(width, 1))
        if attention == "relation":
            self.beta = nn.Sequential(nn.Dropout(0.5), nn.Linear(2 * width, 1))
            self.classifier = nn.Sequential(nn.Dropout(0.6), nn.Linear(2 * width, num_classes))
        else:
            self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(width, num_classes))

    def encode(self, inputs: Mapping[str, Tensor], masks: Masks = None) -> dict[str, Tensor]:
        """``face`` -> (B, C, F, D) pooled frame features."""
        return {"face": encode_stream(self.backbone, inputs, masks, "face").mean((-2, -1))}

    def head(self, features: Mapping[str, Tensor], masks: Masks = None) -> Output:
        frames = features["face"]  # (B, C, F, D)
        mask = stream_mask(masks, "face", frames, 3).flatten(1)  # (B, T)
        f = zero_masked(frames.flatten(1, 2), mask)  # (B, T, D)
        if self.attention == "mean":
            weights = at_least_fp32(mask)
            video, maps = weighted_mean(f, weights, 1), {}
        else:
            weights = alpha = masked_sigmoid(self.alpha(f).squeeze(-1), mask)  # eq. 1
            video, maps = weighted_mean(f, alpha, 1), {"alpha": alpha}  # (B, D), eq. 2
        if self.attention == "relation":
            pairs = torch.cat([f, video.to(f.dtype).unsqueeze(1).expand_as(f)], -1)  # (B, T, 2D)
            beta = masked_sigmoid(self.beta(pairs).squeeze(-1), mask)  # eq. 3
            weights = alpha * beta
            video, maps = weighted_mean(pairs, weights, 1), {"alpha": alpha, "beta": beta}  # (B, 2D), eq. 4
        total = weights.sum(1, keepdim=True)
        maps["frame_weights"] = (weights / torch.where(total > 0, total, 1.0)).view(frames.shape[:3])
        return Output(at_least_fp32(self.classifier(video)), None, maps)


def convert_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' parameter names (Open-Debin/Emotion-FAN) to ours, relation attention.

    ``pred_fc1`` belongs to the self-attention form and is dropped.
    """
    names = {"alpha.0": "alpha.1", "beta.0": "beta.1", "pred_fc2": "classifier.1"}
    converted = {}
    for key, value in state.items():
        key = key.removeprefix("module.")  # which DataParallel puts before every name
        if key.startswith("pred_fc1."):
            continue
        stem, _, leaf = key.rpartition(".")
        if stem in names:
            key = f"{names[stem]}.{leaf}"
        elif key.startswith(("conv1.", "bn1.", "layer")):
            key = f"backbone.{key}"
        converted[key] = value
    return converted
