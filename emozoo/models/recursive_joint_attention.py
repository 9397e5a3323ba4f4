"""RJA: Praveen, Granger, Cardinal, "Recursive Joint Attention for Audio-Visual Fusion in Regression Based Emotion
Recognition", ICASSP 2023, https://arxiv.org/abs/2304.07958.

Only the abstract and the opening of the paper were readable. ``fusion="official"`` is the arithmetic of the authors'
public code (https://github.com/praveena2j/RecurrentJointAttentionwithLSTMs, commit ea196b3), bugs included,
re-implemented from a description of it; ``fusion="reconstruction"`` is the form that the symbols of the authors'
related papers suggest.

Legend: B batch, C = L clips in a row, F frames in a clip, D_v, D_a widths of face and audio features, w = 512 width of
each stream, d = 2w, G positions of the face map (49), K classes. X stands for V (face) and A (audio) in turn.

    V = l2norm(face)                  A = BiLSTM(l2norm(audio))                      (B,L,w)
    V = guided(V, A) ("grid")         V = BiLSTM(V)                                  (B,L,w)
    num_iter times, both X' from the same J:
      official                                        reconstruction, no biases
      J = Linear[V ; A]                               J = [V ; A]                    (B,L,d)
      C = drop tanh(K J / sqrt d)                     C = tanh(K J / sqrt d)         (B,w,d)
      H = ReLU(tanh((X W + b) C))                     H = ReLU(X W C)                (B,L,d)
      X' = X + drop ReLU(Linear H)                    X' = X + drop ReLU(H W')       (B,L,w)
      K = a learned L x L matrix times X: mixes clips
    Z = BiLSTM[V ; A]                                                                (B,L,w)
    valence, arousal = MLP_v(Z), MLP_a(Z)    w - w/4 - 1, no tanh                    (B,L,2)
    emotion (ours) = Linear(drop(mean over real clips of Z))                         (B,K)
    BiLSTM(x) = l2norm(Linear drop[x ; two bidirectional layers from a learned state])
    guided(V, A), R the G regions of the face map:
      s_pk = tanh((ReLU(R_p W_vid) W_v)_k + (ReLU(A W_aud) W_g)_p)
      alpha = softmax_p(sum_k s_pk w_k)                V = Linear(sum_p alpha_p R_p)

Deviations
  The authors' "recursive" network runs once; the reconstruction runs twice. ``legacy_layout`` keeps their layout bug: a
  channel-major map (512, 7, 7) viewed as 49 regions of 512, so that regions are scrambled chunks; False reads true
  positions. K has a fixed size, hence ``seq_len``: another length is an error in ``official``; the reconstruction cuts
  longer sequences into blocks for the joint attention and lets missing steps count as zeros. A missing clip of a stream
  is zeros, does not enter its BiLSTM, and receives what the joint attention makes of the other stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from emozoo.models.backbones import (
    StrPath,
    audio_encoder,
    check_audio,
    clip_encoder,
    image_encoder,
    is_clip_encoder,
)
from emozoo.models.correlation import correlate
from emozoo.models.layers import (
    LayerPool,
    at_least_fp32,
    encode_masked,
    masked_mean,
    masked_rnn,
    safe_sqrt,
    stream_mask,
    zero_masked,
)
from emozoo.models.network import EncoderNet, Masks, Output


class RecursiveJointAttention(EncoderNet):
    """Valence and arousal per clip, and an emotion per window where ``num_classes`` is given.

    Streams: ``face`` (B, C, F, 3, H, W) and ``audio`` (B, C, 1, M, S). An image encoder for the face sees each frame
    alone and is averaged over the clip, a clip encoder sees all F. A speech encoder (``audio_encoder`` in
    ``backbones.py``) takes samples, M = 1; its features are averaged over the window. An encoder that stacks its layers
    (``speech_tiny_layers``) is followed by learnt weights over them.
    ``head`` also takes features made elsewhere: ``face`` (B, L, G * D_v) channel-major with ``visual_input="grid"``,
    (B, L, D_v) with ``"pooled"``, and ``audio`` (B, L, D_a).

    ``streams`` may leave one out: the network then has no encoder for it and computes what it would with this stream
    masked in every clip.

    ``num_iter=0`` is the plain control: both streams side by side, no joint attention, everything else alike.
    ``dropout`` acts in front of the emotion classifier, and behind the weights over layers.
    ``face_statistics`` (with ``"pooled"`` and an image encoder): the face of a clip is mean and deviation over its
    frames, (B, L, 2 * D_v), brought to mean 0 and variance 1 over training: how a face moves tells less of who it is.
    ``share_weights`` runs one joint attention ``num_iter`` times. ``va=False`` drops the regressors.

    Attention maps: ``regions`` (B, L, G) with ``"grid"``: alpha, sums to 1 over regions; ``stream_share`` (B, L, 2):
    how much face and audio contribute to the squared norm of what enters the joint BiLSTM; sums to 1, 0 where both are
    masked.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        *,
        encoders: Mapping[str, Any],
        fusion: str = "reconstruction",
        num_iter: int = 2,
        share_weights: bool = False,
        visual_input: str = "pooled",
        legacy_layout: bool = False,
        regions: int = 49,
        streams: Sequence[str] = ("face", "audio"),
        seq_len: int = 16,
        width: int = 512,
        hidden: int = 256,
        dropout: float = 0.6,
        va: bool = True,
        face_statistics: bool = False,
        freeze: bool = True,
        encoder_weights: Mapping[str, StrPath] | None = None,
    ) -> None:
        if fusion not in ("official", "reconstruction"):
            raise ValueError(f"fusion must be 'official' or 'reconstruction', got {fusion!r}")
        if visual_input not in ("grid", "pooled"):
            raise ValueError(f"visual_input must be 'grid' or 'pooled', got {visual_input!r}")
        if face_statistics and (visual_input == "grid" or "face" not in streams or is_clip_encoder(encoders["face"])):
            raise ValueError("face_statistics needs a face stream, an image encoder and visual_input 'pooled'")
        if not 0 <= num_iter <= 64:
            raise ValueError(f"num_iter must lie in 0..64, got {num_iter}")
        if not streams or not set(streams) <= {"face", "audio"}:
            raise ValueError(f"streams must name face, audio or both, got {tuple(streams)!r}")
        files = encoder_weights or {}
        built: dict[str, tuple[nn.Module, int]] = {}
        face_is_clip = "face" in streams and is_clip_encoder(encoders["face"])
        if "face" in streams:
            make = clip_encoder if face_is_clip else image_encoder
            built["face"] = make(encoders["face"], weights=files.get("face"))
        if "audio" in streams:
            built["audio"] = audio_encoder(encoders["audio"], weights=files.get("audio"))
        super().__init__(num_classes, {s: encoder for s, (encoder, _) in built.items()}, va=va, freeze=freeze)
        # A stream that is left out is one column of zeros.
        face_width, audio_width = (built[s][1] if s in built else 1 for s in ("face", "audio"))
        self.streams, self.grid = tuple(built), visual_input == "grid" and "face" in built
        self.face_is_clip, self.fixed_length = face_is_clip, fusion == "official"
        face_width *= 2 if face_statistics else 1
        self.face_pool = LayerPool(1, face_width, dropout) if face_statistics else None
        self.seq_len, self.num_iter = seq_len, num_iter
        self.audio_width, self.face_width = audio_width, face_width * (regions if self.grid else 1)

        stacked = getattr(built["audio"][0], "stacked", 1) if "audio" in built else 1
        self.layer_pool = None
        if stacked > 1:
            audio_width //= stacked
            self.layer_pool = LayerPool(stacked, audio_width, dropout)
        self.audio_lstm = ResidualBiLSTM(audio_width, width, hidden, dropout=0.1)
        if self.grid:
            self.guide = AudioGuided(face_width, width, regions, legacy_layout)
        self.face_lstm = ResidualBiLSTM(width if self.grid else face_width, width, hidden, dropout=0.1)
        block = OfficialJointAttention if self.fixed_length else JointAttention
        copies = min(num_iter, 1) if share_weights else num_iter
        self.joint = nn.ModuleList(block(width, seq_len) for _ in range(copies))
        self.joint_lstm = ResidualBiLSTM(2 * width, width, hidden, dropout=0.0)
        if va:
            self.valence, self.arousal = _regressor(width), _regressor(width)
        if num_classes:
            self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, num_classes))
        for name, parameter in self.named_parameters():  # the authors' initialisation; encoders and LSTMs keep theirs
            if not name.startswith("encoders.") and "lstm.first" not in name and "lstm.second" not in name:
                if parameter.ndim >= 2 and not name.endswith("init_hidden"):
                    nn.init.xavier_uniform_(parameter)
                else:
                    nn.init.zeros_(parameter)

    def encode(self, inputs: Mapping[str, Tensor], masks: Masks = None) -> dict[str, Tensor]:
        """``face`` -> (B, L, G * D_v) or (B, L, D_v), ``audio`` -> (B, L, D_a), those of ``streams``."""
        features = {}
        if "face" in self.streams:
            x = inputs["face"]  # (B, L, F, 3, H, W)
            mask = stream_mask(masks, "face", x, 3)
            if self.face_is_clip:
                clips = zero_masked(x, mask).transpose(2, 3)  # (B, L, 3, F, H, W)
                maps = encode_masked(self.encoders["face"], clips, mask.any(2)).mean(3)  # (B, L, D_v, h, w)
                features["face"] = maps.flatten(2) if self.grid else maps.mean((-2, -1))
            else:
                maps = encode_masked(self.encoders["face"], x, mask)  # (B, L, F, D_v, h, w)
                if self.face_pool is None:
                    maps = masked_mean(maps, mask, 2)
                    features["face"] = maps.flatten(2) if self.grid else maps.mean((-2, -1))
                else:
                    frames = maps.mean((-2, -1))  # (B, L, F, D_v)
                    mean = masked_mean(frames, mask, 2)
                    deviation = safe_sqrt(masked_mean((frames - mean.unsqueeze(2)).square(), mask, 2))
                    features["face"] = torch.cat([mean, deviation], -1)
        if "audio" in self.streams:
            audio = inputs["audio"]  # (B, L, 1, M, S)
            check_audio(self.encoders["audio"], audio)
            mask = stream_mask(masks, "audio", audio, 2)
            features["audio"] = encode_masked(self.encoders["audio"], audio, mask).mean((-2, -1))
        return features

    def head(self, features: Mapping[str, Tensor], masks: Masks = None) -> Output:
        """Raises ValueError for features of another width, and in ``official`` of another length, than built for."""
        lead = features[self.streams[0]]  # (B, L, D)
        absent = lead.new_zeros(*lead.shape[:2], 1)
        face, audio = (features[s] if s in self.streams else absent for s in ("face", "audio"))
        for name, x, want in (("face", face, self.face_width), ("audio", audio, self.audio_width)):
            if x.shape[-1] != want:
                raise ValueError(f"{name} features have width {x.shape[-1]}, this network was built for {want}")
        if self.fixed_length and face.shape[1] != self.seq_len:
            raise ValueError(f"{face.shape[1]} clips, but this network was built with seq_len={self.seq_len}")
        m_v, m_a = (
            stream_mask(masks, s, x, 2) if s in self.streams else torch.zeros_like(x[..., 0], dtype=torch.bool)
            for s, x in (("face", face), ("audio", audio))
        )  # (B, L)
        m_any = m_v | m_a
        maps: dict[str, Tensor] = {}

        if self.face_pool is not None:
            face = self.face_pool(face, m_v)
        if self.layer_pool is not None:
            audio = self.layer_pool(audio, m_a)
        v, a = fn.normalize(zero_masked(face, m_v), dim=-1), fn.normalize(zero_masked(audio, m_a), dim=-1)
        a = self.audio_lstm(a, m_a)  # (B, L, w)
        if self.grid:
            v, alpha = self.guide(v, a)
            v, maps["regions"] = zero_masked(v, m_v), zero_masked(alpha, m_v)
        v = self.face_lstm(v, m_v)  # (B, L, w)
        for i in range(self.num_iter):
            v, a = self._join(self.joint[i % len(self.joint)], v, a, m_any)
        energy = torch.stack([at_least_fp32(x).square().sum(-1) for x in (v, a)], -1)  # (B, L, 2)
        maps["stream_share"] = energy / energy.sum(-1, keepdim=True).clamp(min=1e-12)
        z = self.joint_lstm(torch.cat([v, a], -1), m_any)  # (B, L, w)

        logits = at_least_fp32(self.classifier(masked_mean(z, m_any, 1))) if self.num_classes else None
        va = at_least_fp32(torch.cat([self.valence(z), self.arousal(z)], -1)) if self.va else None
        return Output(logits, va, maps)

    def _join(self, block: nn.Module, v: Tensor, a: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """One joint attention, over blocks of ``seq_len`` clips filled up with zeros where L is no multiple of it."""
        batch, length = v.shape[:2]
        fill = -length % self.seq_len
        v, a = (fn.pad(x, (0, 0, 0, fill)).view(-1, self.seq_len, x.shape[-1]) for x in (v, a))
        v, a = block(v, a, fn.pad(mask, (0, fill)).view(-1, self.seq_len))
        v, a = (x.reshape(batch, length + fill, -1)[:, :length] for x in (v, a))
        return v, a


class OfficialJointAttention(nn.Module):
    """Joint attention as the authors' code computes it: (B, L, w) twice -> (B, L, w) twice, L fixed."""

    def __init__(self, width: int, seq_len: int, dropout: float = 0.6) -> None:
        super().__init__()
        self.query = nn.Linear(2 * width, 2 * width)
        self.key = nn.ModuleDict({s: nn.Linear(seq_len, seq_len) for s in ("face", "audio")})
        self.value = nn.ModuleDict({s: nn.Linear(width, width) for s in ("face", "audio")})
        self.out = nn.ModuleDict({s: nn.Linear(2 * width, width) for s in ("face", "audio")})
        self.dropout = nn.Dropout(dropout)

    def forward(self, v: Tensor, a: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        j = zero_masked(self.query(torch.cat([v, a], -1)), mask)  # (B, L, d)
        return self._attend("face", v, j, mask), self._attend("audio", a, j, mask)

    def _attend(self, stream: str, x: Tensor, j: Tensor, mask: Tensor) -> Tensor:
        k = self.key[stream](x.mT)  # (B, w, L)
        p = self.dropout.p if self.dropout.training else 0.0
        h = correlate(k, j, self.value[stream](x), p).tanh().relu()  # (B, L, d)
        return zero_masked(x + self.dropout(self.out[stream](h).relu()), mask)


class JointAttention(nn.Module):
    """Joint attention in the papers' symbols, without projection of J and without biases; masked steps are zeros."""

    def __init__(self, width: int, seq_len: int, dropout: float = 0.6) -> None:
        super().__init__()
        self.key = nn.ModuleDict({s: nn.Linear(seq_len, seq_len, bias=False) for s in ("face", "audio")})
        self.value = nn.ModuleDict({s: nn.Linear(width, width, bias=False) for s in ("face", "audio")})
        self.out = nn.ModuleDict({s: nn.Linear(2 * width, width, bias=False) for s in ("face", "audio")})
        self.dropout = nn.Dropout(dropout)

    def forward(self, v: Tensor, a: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        j = torch.cat([v, a], -1)  # (B, L, d)
        return self._attend("face", v, j, mask), self._attend("audio", a, j, mask)

    def _attend(self, stream: str, x: Tensor, j: Tensor, mask: Tensor) -> Tensor:
        k = self.key[stream](x.mT)  # (B, w, L)
        h = correlate(k, j, self.value[stream](x)).relu()  # (B, L, d)
        return zero_masked(x + self.dropout(self.out[stream](h).relu()), mask)


class ResidualBiLSTM(nn.Module):
    """l2norm(Linear [x ; h]) with h from two bidirectional layers that start from a learned state.

    (B, L, inputs) -> (B, L, width), zeros where masked. ``init_hidden`` (8, hidden): four rows of hidden states (layer
    one forward, backward, layer two forward, backward), then four of cell states.
    """

    def __init__(self, inputs: int, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.init_hidden = nn.Parameter(torch.zeros(8, hidden))
        self.first = nn.LSTM(inputs, hidden, batch_first=True, bidirectional=True)
        self.second = nn.LSTM(2 * hidden, hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(inputs + 2 * hidden, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        start = self.init_hidden.unsqueeze(1).expand(-1, x.shape[0], -1).contiguous()  # (8, B, hidden)
        h = masked_rnn(self.first, x, mask, (start[0:2], start[4:6]))
        h = masked_rnn(self.second, self.dropout(h), mask, (start[2:4], start[6:8]))  # (B, L, 2·hidden)
        out = self.linear(self.dropout(torch.cat([x, h], -1)))
        return zero_masked(fn.normalize(at_least_fp32(out), dim=-1), mask)


class AudioGuided(nn.Module):
    """Attention over the regions of the face map, guided by the audio: (B, L, D_v * G), (B, L, w) -> (B, L, w)."""

    def __init__(self, channels: int, width: int, regions: int, legacy_layout: bool) -> None:
        super().__init__()
        self.video, self.audio = nn.Linear(channels, width), nn.Linear(width, width)
        self.v, self.g = nn.Linear(width, regions, bias=False), nn.Linear(width, regions, bias=False)
        self.h = nn.Linear(regions, 1, bias=False)
        self.feat = nn.Linear(channels, width)
        self.regions, self.legacy_layout = regions, legacy_layout

    def forward(self, face: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        if self.legacy_layout:
            r = face.unflatten(-1, (self.regions, -1))  # (B, L, G, D_v): chunks of a channel-major vector
        else:
            r = face.unflatten(-1, (-1, self.regions)).mT  # (B, L, G, D_v): true positions
        own = self._own(r)  # (B, L, G, G), last axis k
        cue = self.g(self.audio(audio).relu()).unsqueeze(-1)  # (B, L, G, 1), along p
        alpha = at_least_fp32(self.h((own + cue).tanh())).softmax(2)  # (B, L, G, 1)
        return self.feat((alpha.mT @ r.to(alpha.dtype)).squeeze(2)), alpha.squeeze(-1)

    def _own(self, r: Tensor) -> Tensor:
        """ReLU(R W_vid) W_v; on a CPU a few clips at a time, so that forward and backward reuse memory that is warm."""
        if r.device.type != "cpu" or torch.compiler.is_compiling():
            return self.v(self.video(r).relu())
        parts = [self.v(self.video(some).relu_()) for some in r.flatten(0, 1).split(64)]
        return torch.cat(parts).unflatten(0, r.shape[:2])


def _regressor(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width // 4), nn.ReLU(), nn.Dropout(0.6), nn.Linear(width // 4, 1))


def convert_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' names of the fusion network to ours; every one must match. Encoders are not part of their file."""
    prefixes = {
        "audio_extract.": "audio_lstm.",
        "video_extract.": "face_lstm.",
        "Joint.": "joint_lstm.",
        "video_attn.attn.affine_": "guide.",
        "vregressor.": "valence.",
        "aregressor.": "arousal.",
        "coattn.dcn_layers.": "joint.",
    }
    parts = {
        "dense_coattn.query_linear": "query",
        "dense_coattn.key1_linear": "key.face",
        "dense_coattn.key2_linear": "key.audio",
        "dense_coattn.value1_linear": "value.face",
        "dense_coattn.value2_linear": "value.audio",
        "linears.0.0": "out.face",
        "linears.1.0": "out.audio",
    }
    converted = {}
    for key, value in state.items():
        key = key.removeprefix("module.")  # which DataParallel puts before every name
        for theirs, ours in prefixes.items():
            if key.startswith(theirs):
                key = ours + key.removeprefix(theirs)
        if key.startswith("joint."):
            for theirs, ours in parts.items():
                key = key.replace(theirs, ours)
        if "_l0" in key:
            key = key.replace(".rnn.", ".first.")
        elif "_l1" in key:  # their second layer is a module of its own here
            key = key.replace(".rnn.", ".second.").replace("_l1", "_l0")
        converted[key] = value
    return converted
