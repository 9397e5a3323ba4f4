"""Networks as their equations are written, without masks: what faster code must equal, and is timed against."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as fn

from emozoo.models.recursive_joint_attention import (
    AudioGuided,
    OfficialJointAttention,
    RecursiveJointAttention,
    ResidualBiLSTM,
)


def correlate(key: Tensor, joint: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
    """(B, w, L), (B, L, d), (B, L, w) -> (B, L, d)."""
    c = fn.dropout((key @ joint / math.sqrt(joint.shape[-1])).tanh(), dropout)  # (B, w, d)
    return value @ c


def joint_attention(block: OfficialJointAttention, v: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """The authors' joint attention: (B, L, w) twice -> (B, L, w) twice."""
    j = block.query(torch.cat([v, a], -1))

    def attend(stream: str, x: Tensor) -> Tensor:
        k = block.key[stream](x.mT)
        c = block.dropout((k @ j / math.sqrt(j.shape[-1])).tanh())
        h = (block.value[stream](x) @ c).tanh().relu()
        return x + block.dropout(block.out[stream](h).relu())

    return attend("face", v), attend("audio", a)


def bi_lstm(block: ResidualBiLSTM, x: Tensor) -> Tensor:
    """(B, L, D) -> (B, L, w)."""
    start = block.init_hidden.unsqueeze(1).repeat(1, len(x), 1)
    h, _ = block.first(x, (start[0:2], start[4:6]))
    h, _ = block.second(block.dropout(h), (start[2:4], start[6:8]))
    return fn.normalize(block.linear(block.dropout(torch.cat([x, h], -1))), dim=-1)


def guide(block: AudioGuided, face: Tensor, audio: Tensor) -> Tensor:
    """(B, L, D_v * G), (B, L, w) -> (B, L, w)."""
    r = face.unflatten(-1, (block.regions, -1)) if block.legacy_layout else face.unflatten(-1, (-1, block.regions)).mT
    s = (block.v(block.video(r).relu()) + block.g(block.audio(audio).relu()).unsqueeze(-1)).tanh()
    return block.feat((block.h(s).softmax(2) * r).sum(2))


def fusion(net: RecursiveJointAttention, face: Tensor, audio: Tensor) -> Tensor:
    """The authors' network behind the encoders: (B, L, D_v * G), (B, L, D_a) -> valence and arousal (B, L, 2)."""
    v, a = fn.normalize(face, dim=-1), fn.normalize(audio, dim=-1)
    a = bi_lstm(net.audio_lstm, a)
    if net.grid:
        v = guide(net.guide, v, a)
    v = bi_lstm(net.face_lstm, v)
    for block in net.joint:
        assert isinstance(block, OfficialJointAttention)
        v, a = joint_attention(block, v, a)
    z = bi_lstm(net.joint_lstm, torch.cat([v, a], -1))
    return torch.cat([net.valence(z), net.arousal(z)], -1)
