"""What transformers makes of a signal with the shipped speech encoder: writes ``tests/golden/speech_tiny.json``.

python tests/models/speech_golden.py        needs pip install 'emozoo[speech]'
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emozoo import files, hub, registry

FILE = Path(__file__).resolve().parents[1] / "golden" / "speech_tiny.json"
RATE = 16000
# Our names of what a block consists of, and transformers'.
PARTS = {
    "norm1": "self_attn_layer_norm", "out": "self_attn.out_proj", "norm2": "final_layer_norm", "wide": "fc1",
    "narrow": "fc2",
}  # fmt: skip


def signal(seconds: float = 2.5) -> np.ndarray:
    """A voice that nobody has: a gliding tone with overtones, louder and softer, and a little noise; float32 (S,)."""
    t = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * (140 * t + 12 * t**2)
    tone = sum(np.sin(k * phase) / k for k in (1, 2, 3, 5, 8))
    noise = np.random.default_rng(0).standard_normal(len(t))
    return ((0.12 * tone * (0.6 + 0.4 * np.sin(9 * t))) + 0.01 * noise).astype(np.float32)


def shipped() -> dict[str, Tensor]:
    """The state dict of the encoder that comes with the package."""
    state = hub.read_state(hub.locate(registry.encoders()["speech_tiny.v2"]))
    return {k.removeprefix("encoder."): v for k, v in state.items()}


def oracle(state: Mapping[str, Tensor], wave: np.ndarray) -> list[Tensor]:
    """Outputs of the convolutions and of each block (1, t, D) by transformers, given our state dict, not padded."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    eaten = WhisperFeatureExtractor(feature_size=80)(
        wave, sampling_rate=RATE, padding="do_not_pad", return_tensors="np"
    ).input_features
    width, steps = state["conv1.bias"].shape[0], -(-eaten.shape[2] // 2)
    blocks = len({k.split(".")[1] for k in state if k.startswith("blocks.")})
    config = WhisperConfig(
        d_model=width, encoder_layers=blocks, encoder_attention_heads=width // 64, encoder_ffn_dim=4 * width,
        num_mel_bins=80, max_source_positions=steps, decoder_layers=1, decoder_attention_heads=1, decoder_ffn_dim=8,
    )  # fmt: skip
    net: Any = WhisperModel(config).get_encoder().eval()
    theirs = {"embed_positions.weight": net.embed_positions.weight}
    for name, value in state.items():
        top, *rest = name.split(".")
        if top != "blocks":
            theirs[name] = value
        elif rest[1] == "qkv":
            for which, part in zip("qkv", value.chunk(3)):
                if (which, rest[2]) == ("k", "bias"):
                    assert not part.any()  # keys have none there
                else:
                    theirs[f"layers.{rest[0]}.self_attn.{which}_proj.{rest[2]}"] = part
        else:
            theirs[f"layers.{rest[0]}.{PARTS[rest[1]]}.{rest[2]}"] = value
    net.layer_norm = nn.Identity()  # stands behind the last block of all
    net.load_state_dict(theirs)
    with torch.no_grad():
        return list(net(torch.from_numpy(eaten), output_hidden_states=True).hidden_states)


def summary(layers: list[Tensor]) -> list[dict[str, Any]]:
    """Shape, a few values of three steps, mean and root mean square of each layer."""
    return [
        {
            "shape": list(h.shape),
            "values": {str(t): [round(float(v), 6) for v in h[0, t, ::64]] for t in (0, 40, h.shape[1] - 1)},
            "mean": round(float(h.mean()), 6),
            "rms": round(float(h.square().mean().sqrt()), 6),
        }
        for h in layers
    ]


if __name__ == "__main__":
    import transformers

    entry = registry.encoders()["speech_tiny.v2"]
    made = {"by": f"transformers {transformers.__version__}", "sha256": entry.sha256, "layers": None}
    made["layers"] = summary(oracle(shipped(), signal()))
    files.write_atomic(FILE, (json.dumps(made, indent=1) + "\n").encode())
