"""ResNet and a bidirectional GRU: the plain temporal baseline that tables of DFEW print ("R18+GRU").

Legend: B batch, C clips, F frames in a clip, T = C * F frames in order of time, D feature width, K classes.

    f_t = GAP(ResNet(x_t))  (B,T,D)    h = BiGRU(f)  (B,T,2·hidden)    logits = Linear(drop(mean over real t of h_t))

There is no paper to deviate from: pooling, dropout 0.5 and hidden 256 are ours.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from emozoo.models.backbones import StrPath, image_encoder
from emozoo.models.layers import at_least_fp32, encode_stream, masked_mean, masked_rnn, stream_mask
from emozoo.models.network import Masks, Network, Output


class ResNetGRU(Network):
    """Frame features and a recurrent layer on the stream ``face`` (B, C, F, 3, H, W); no attention maps."""

    encoding = ("backbone",)
    per_frame = True

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: str = "resnet18",
        hidden: int = 256,
        backbone_weights: StrPath | None = None,
    ) -> None:
        super().__init__(num_classes)
        self.backbone, width = image_encoder(backbone, weights=backbone_weights)
        self.gru = nn.GRU(width, hidden, batch_first=True, bidirectional=True)
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(2 * hidden, num_classes))

    def encode(self, inputs: Mapping[str, Tensor], masks: Masks = None) -> dict[str, Tensor]:
        """``face`` -> (B, C, F, D) pooled frame features."""
        return {"face": encode_stream(self.backbone, inputs, masks, "face").mean((-2, -1))}

    def head(self, features: Mapping[str, Tensor], masks: Masks = None) -> Output:
        mask = stream_mask(masks, "face", features["face"], 3).flatten(1)  # (B, T)
        h = masked_rnn(self.gru, features["face"].flatten(1, 2), mask)  # (B, T, 2·hidden)
        return Output(at_least_fp32(self.classifier(masked_mean(h, mask, 1))), None, {})
