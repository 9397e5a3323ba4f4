"""The encoder of Whisper: Radford, Kim, Xu, Brockman, McLeavey, Sutskever, "Robust Speech Recognition via Large-Scale
Weak Supervision", 2022, https://arxiv.org/abs/2212.04356. It was trained to transcribe speech; its lower layers also
encode how something is said.

Legend: N windows, S samples at 16 kHz, T = S // 160 steps of 10 ms, t = ceil(T / 2) steps of 20 ms, D width, n layers.

    log-mel                                                                   (N, S) -> (N, 80, T)
    h_0 = GELU conv (3, stride 2) GELU conv (3) log-mel + positions           (N, t, D)
    h_i = h + MLP(norm h), h = h_{i-1} + attention(norm h_{i-1})              (N, t, D)   i = 1 .. blocks
    MLP = Linear GELU Linear, D - 4 D - D; attention has heads of 64

Deviations
  Windows are not padded to 30 s with silence: a window of t steps has the first t positions of the table. Samples of
  exactly 0 at the start of a window, with which data are padded where the media begins later, do not count: no step
  attends to them, and the first real step has the first position. There is no norm behind the last block, because the
  last blocks may be left out, and :class:`emozoo.models.layers.LayerPool` reads the raw output of every layer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from emozoo.models.layers import safe_sqrt

RATE, WINDOW, HOP, MELS = 16000, 400, 160, 80
QUIET = 1e-4  # power of a step, as a part of the loudest one's, below which it is a pause (40 dB)
LONGEST = 1500  # steps of 20 ms: the table of positions ends there


class WhisperEncoder(nn.Module):
    """Samples (N, 1, 1, S) at 16 kHz in [-1, 1] -> the last block's map (N, D, 1, t).

    ``statistics``: instead (N, 2 n D, 1, 1), n = blocks + 1: of each layer (convolutions, then blocks) the mean over
    the real steps that are no pauses, and the deviation from it, for :class:`emozoo.models.layers.LayerPool`.

    Raises ValueError for windows of more than 30 s or less than 25 ms.
    """

    filters: Tensor
    positions: Tensor

    def __init__(self, width: int = 384, blocks: int = 3, statistics: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(MELS, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.width, self.statistics = width, statistics
        self.stacked = blocks + 1 if statistics else 1
        # Constants: no part of stored weights.
        self.register_buffer("filters", mel_filters(), persistent=False)
        self.register_buffer("positions", sinusoids(LONGEST, width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        wave = x.flatten(1)  # (N, S)
        if not WINDOW <= wave.shape[1] <= LONGEST * 2 * HOP:
            raise ValueError(
                f"a window of {wave.shape[1]} samples; this speech encoder takes {WINDOW} to {LONGEST * 2 * HOP} "
                f"samples at {RATE} Hz (25 ms to 30 s)"
            )
        layers, real = self.layers(wave)
        if not self.statistics:
            return layers[-1].mT.unsqueeze(2)  # (N, D, 1, t)
        spoken = real & ~pauses(wave, real.shape[1])
        weight = spoken.unsqueeze(-1) / spoken.sum(1).clamp(min=1).view(-1, 1, 1)  # (N, t, 1)
        found = []
        for h in layers:
            mean = (weight * h).sum(1, keepdim=True)
            found += [mean.squeeze(1), safe_sqrt((weight * (h - mean).square()).sum(1))]
        return torch.cat(found, 1)[..., None, None]

    def layers(self, wave: Tensor) -> tuple[list[Tensor], Tensor]:
        """Samples (N, S) -> the output of the convolutions and of each block (N, t, D), and which steps are real."""
        begin = (wave != 0).int().argmax(1, keepdim=True) // (2 * HOP)  # (N, 1) the first real step; 0 for silence
        x = log_mel(wave, self.filters)
        recorded = (torch.arange(x.shape[2], device=x.device) >= 2 * begin).unsqueeze(1)  # (N, 1, T)
        x = fn.gelu(self.conv1(x * recorded)) * recorded  # as if the window began there
        x = fn.gelu(self.conv2(x)).mT  # (N, t, D)
        at = torch.arange(x.shape[1], device=x.device) - begin  # (N, t)
        real = at >= 0
        x = x + self.positions[at.clamp(min=0)]
        found = [x]
        for block in self.blocks:
            found.append(block(found[-1], real))
        return found, real


class Block(nn.Module):
    """A pre-norm transformer block: (N, t, D) -> the same; ``real`` (N, t): the steps that may be attended to."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 64
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, 64)).permute(2, 0, 3, 1, 4)  # (N, heads, t, 64)
        seen = fn.scaled_dot_product_attention(q, k, v, attn_mask=real[:, None, None, :])
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.narrow(fn.gelu(self.wide(self.norm2(x))))


def pauses(wave: Tensor, steps: int) -> Tensor:
    """Which of the steps of 20 ms are quieter than the loudest one by 40 dB: (N, S) -> (N, steps)."""
    power = fn.pad(wave.float(), (0, max(0, steps * 2 * HOP - wave.shape[1])))[:, : steps * 2 * HOP]
    power = power.unflatten(1, (steps, 2 * HOP)).square().mean(2)
    return power < QUIET * power.amax(1, keepdim=True)


def log_mel(wave: Tensor, filters: Tensor) -> Tensor:
    """Samples (N, S) -> (N, 80, S // 160): log10 of mel power, at most 8 below each window's loudest, (x + 4) / 4."""
    window = torch.hann_window(WINDOW, device=wave.device)
    stft = torch.stft(wave.float(), WINDOW, HOP, window=window, return_complex=True)[..., :-1]  # centred, ends mirrored
    mel = (filters.T @ (stft.real.square() + stft.imag.square())).clamp(min=1e-10).log10()
    return (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


def mel_filters() -> Tensor:
    """80 triangles of area 1, evenly spaced on Slaney's mel scale from 0 to 8000 Hz: (201, 80)."""

    def hertz(mel: Tensor) -> Tensor:  # linear up to 1000 Hz, then logarithmic
        return torch.where(mel < 15, mel * (200 / 3), 1000 * ((mel - 15) * (math.log(6.4) / 27)).exp())

    top = 15 + 27 * math.log(RATE / 2 / 1000) / math.log(6.4)
    edges = hertz(torch.linspace(0, top, MELS + 2, dtype=torch.float64))
    hz = torch.linspace(0, RATE / 2, WINDOW // 2 + 1, dtype=torch.float64)
    slopes = edges[None, :] - hz[:, None]  # (201, 82)
    rise, fall = -slopes[:, :-2] / edges.diff()[:-1], slopes[:, 2:] / edges.diff()[1:]
    return (torch.minimum(rise, fall).clamp(min=0) * 2 / (edges[2:] - edges[:-2])).float()


def sinusoids(steps: int, width: int) -> Tensor:
    """Positions (steps, width): sines, then cosines, of frequencies 1 to 1 / 10000."""
    rates = torch.exp(torch.arange(width // 2) * (-math.log(10000) / (width // 2 - 1)))
    angles = torch.arange(steps)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)
