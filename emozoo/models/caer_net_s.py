"""CAER-Net-S: Lee, Kim, Kim, Park, Sohn, "Context-Aware Emotion Recognition Networks", ICCV 2019; the static network.
Public re-implementation: https://github.com/ndkhanh360/CAER.

Legend: N = B * C * F images (batch, clips, frames), W feature width (256), h, w positions of a map, K classes.

    X_F = Enc_F(face)        X_C = Enc_C(scene, face blacked out)             (N,W,h,w), separate weights
    A   = softmax over positions of Highlight(X_C)                            (N,1,h,w)                    (eq. 3)
    x_F = GAP(X_F)           x_C = GAP(A * X_C)                               (N,W)                        (eq. 4)
    l   = softmax([s_F(x_F), s_C(x_C)]),  s: W - W/2 - ReLU - 1               (N,2)                        (eq. 5, 6)
    logits = Linear(drop(ReLU(Linear([l_F x_F ; l_C x_C]))))                  2W - W/2 - K                 (eq. 7)

Deviations
  ``pooled_bn`` (wiring ``official``, also called ``stable``) puts batch norm on x_F and x_C, as the public
  re-implementation does whose numbers people compare with: A sums to 1, so x_C is about h * w times smaller than x_F
  without it. The paper's text on the context encoder lists four of five widths; its drawing has five.
  Clips: the logits of the frames are averaged. A missing stream gets fusion weight 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from emozoo.models.layers import (
    ConvEncoder,
    Highlight,
    PooledBatchNorm,
    encode_masked,
    masked_mean,
    masked_softmax,
    spatial_softmax,
    stream_mask,
    zero_masked,
)
from emozoo.models.network import Masks, Network, Output


class CAERNetS(Network):
    """Face and scene on the streams ``face`` and ``context`` (B, C, F, 3, H, W), sizes may differ.

    Attention maps: ``context`` (B, C, F, h, w) sums to 1 over positions, 0 where masked; ``fusion`` (B, C, F, 2): the
    weights of face and context, sum to 1.
    """

    encoding = ("face_encoder", "context_encoder")

    def __init__(
        self,
        num_classes: int,
        *,
        widths: Sequence[int] = (32, 64, 128, 256, 256),
        pooled_bn: bool = True,
    ) -> None:
        super().__init__(num_classes)
        width, half = widths[-1], widths[-1] // 2
        self.face_encoder, self.context_encoder = ConvEncoder(widths), ConvEncoder(widths)
        self.highlight = Highlight(width, (half,))
        self.face_norm = PooledBatchNorm(width) if pooled_bn else nn.Identity()
        self.context_norm = PooledBatchNorm(width) if pooled_bn else nn.Identity()
        self.face_score = nn.Sequential(nn.Linear(width, half), nn.ReLU(), nn.Linear(half, 1))
        self.context_score = nn.Sequential(nn.Linear(width, half), nn.ReLU(), nn.Linear(half, 1))
        self.classifier = nn.Sequential(
            nn.Linear(2 * width, half), nn.ReLU(), nn.Dropout(0.5), nn.Linear(half, num_classes)
        )

    def encode(self, inputs: Mapping[str, Tensor], masks: Masks = None) -> dict[str, Tensor]:
        """Both streams -> maps (B, C, F, W, h, w)."""
        return {
            name: encode_masked(encoder, inputs[name], stream_mask(masks, name, inputs[name], 3))
            for name, encoder in (("face", self.face_encoder), ("context", self.context_encoder))
        }

    def head(self, features: Mapping[str, Tensor], masks: Masks = None) -> Output:
        lead = features["face"].shape[:3]
        face_mask = stream_mask(masks, "face", features["face"], 3).flatten()  # (N,)
        context_mask = stream_mask(masks, "context", features["context"], 3).flatten()
        face = zero_masked(features["face"].flatten(0, 2), face_mask)  # (N, W, h, w)
        context = zero_masked(features["context"].flatten(0, 2), context_mask)
        a = spatial_softmax(encode_masked(self.highlight, context, context_mask))  # (N, 1, h, w), eq. 3
        x_f = encode_masked(self.face_norm, face.mean((-2, -1)), face_mask)  # (N, W)
        x_c = encode_masked(self.context_norm, (a * context).mean((-2, -1)), context_mask)  # eq. 4
        scores = torch.cat([self.face_score(x_f), self.context_score(x_c)], 1)  # (N, 2), eq. 5
        fusion = masked_softmax(scores, torch.stack([face_mask, context_mask], 1), 1)  # eq. 6
        logits = self.classifier(torch.cat([fusion[:, :1] * x_f, fusion[:, 1:] * x_c], 1))  # eq. 7
        maps = {
            "context": zero_masked(a.squeeze(1), context_mask).unflatten(0, lead),
            "fusion": fusion.unflatten(0, lead),
        }
        frames = (face_mask | context_mask).view(lead).flatten(1)  # (B, C·F)
        return Output(masked_mean(logits.unflatten(0, frames.shape), frames, 1), None, maps)


def convert_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameter names of the public re-implementation (ndkhanh360/CAER) to ours; every one must match."""
    modules = {
        "two_stream_net.face_encoding_module": "face_encoder",
        "two_stream_net.context_encoding_module": "context_encoder",
        "two_stream_net.attention_inference_module": "highlight",
    }
    layers = {
        "face_bn": "face_norm",
        "context_bn": "context_norm",
        "face_1": "face_score.0",
        "face_2": "face_score.2",
        "context_1": "context_score.0",
        "context_2": "context_score.2",
        "fc1": "classifier.0",
        "fc2": "classifier.3",
    }
    converted = {}
    for key, value in state.items():
        key = key.removeprefix("module.")  # which DataParallel puts before every name
        for theirs, ours in modules.items():
            if key.startswith(theirs + "."):
                kind, index, leaf = key.removeprefix(theirs + ".").split(".")  # convs|bn . layer . parameter
                key = f"{ours}.{index}.{0 if kind == 'convs' else 1}.{leaf}"
        if key.startswith("fusion_net."):
            name, leaf = key.removeprefix("fusion_net.").split(".")
            key = f"{layers.get(name, name)}.{leaf}"
            if leaf == "weight" and value.ndim == 3:
                value = value.squeeze(-1)  # a Conv1d of kernel 1
        converted[key] = value
    return converted
