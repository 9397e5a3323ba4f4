"""Where weights come from and how they are stored: path, packaged, user cache, hub; always hashed, never pickled."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from emozoo import packaged, registry
from emozoo.errors import WeightsError

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


def home() -> Path:
    """The only folder outside a chosen output that the zoo writes to: ``EMOZOO_HOME``, else ``~/.cache/emozoo``."""
    return Path(os.environ.get("EMOZOO_HOME") or Path.home() / ".cache" / "emozoo")


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def locate(entry: registry.Weights) -> Path:
    """The folder that holds this tag's files: packaged, then the user's cache, then the hub (by pinned revision).

    Once a file is in the cache no network is asked. Raises WeightsError that says where it was looked for.
    """
    here = packaged.folder("checkpoints") / entry.name
    if (here / WEIGHTS).is_file():
        return Path(str(here))
    cached = home() / "weights" / entry.name
    if (cached / WEIGHTS).is_file():
        return cached
    if registry.HUB_REPO is None or entry.revision is None:
        raise WeightsError(
            f"{entry.name}: no weights in the package or in {cached}, and no hub repository exists for them yet; "
            f"put {WEIGHTS} there or give load() a folder"
        )
    return _download(entry, cached)


def _download(entry: registry.Weights, folder: Path) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    revision = entry.revision or ""
    if len(revision) != 40:
        raise WeightsError(f"{entry.name}: hub revision '{revision}' is not a full 40-digit commit")
    try:
        for name in (WEIGHTS, CONFIG):
            found = hf_hub_download(str(registry.HUB_REPO), f"{entry.name}/{name}", revision=revision)
            write_atomic(folder / name, Path(found).read_bytes())
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise WeightsError(
            f"{entry.name}: could not be had from the hub ({type(error).__name__}); "
            f"go online once, or put {WEIGHTS} into {folder}"
        ) from error
    return folder


def read_weights(path: Path, sha256: str | None) -> dict[str, Tensor]:
    """The state dict in a safetensors file whose hash was checked first; float16 is widened to float32.

    Raises WeightsError for a missing file, a wrong hash, or anything but safetensors (pickles are never opened).
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    if path.suffix in (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".tar"):
        raise WeightsError(
            f"{path}: pickled checkpoints can run code and are never opened; convert it to {WEIGHTS} (safetensors)"
        )
    data = path.read_bytes()
    if data[:2] in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"):
        raise WeightsError(f"{path}: is a pickled checkpoint under another name; only safetensors files are opened")
    if sha256 is not None and sha256_of(data) != sha256:
        raise WeightsError(
            f"{path}: sha256 is {sha256_of(data)[:12]}…, expected {sha256[:12]}…: "
            "the file is damaged or not the published one; fetch it again"
        )
    try:
        state = load_tensors(data)
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file ({error})") from error
    return {k: v.float() if v.dtype in (torch.float16, torch.bfloat16) else v for k, v in state.items()}


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a weights folder. Raises WeightsError if it is missing or not JSON."""
    path = folder / CONFIG
    if not path.is_file():
        raise WeightsError(f"{folder}: holds no {CONFIG}, so it is not a weights folder of this zoo")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path}: not valid JSON ({error})") from error


def save(folder: Path, state: Mapping[str, Tensor], config: Mapping[str, Any], card: str, *, half: bool) -> str:
    """Writes weights, config (with the sha256 of the weights) and model card; returns the sha256.

    ``half`` stores floating tensors as float16. Each file appears whole or not at all.
    """
    tensors = {
        k: (v.detach().cpu().half() if half and v.is_floating_point() else v.detach().cpu()).contiguous()
        for k, v in state.items()
    }
    data = save_tensors(tensors)
    digest = sha256_of(data)
    write_atomic(folder / WEIGHTS, data)
    write_atomic(
        folder / CONFIG, (json.dumps({**config, "sha256": digest}, indent=1, ensure_ascii=False) + "\n").encode()
    )
    write_atomic(folder / CARD, card.encode())
    return digest


def write_atomic(path: Path, data: bytes) -> None:
    """Writes to a temporary name in the same folder, then renames: a killed run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        shutil.copymode(path, name) if path.exists() else os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


_LIBRARIES = (
    "emozoo", "torch", "torchvision", "lightning", "timm", "numpy", "opencv-python-headless", "decord", "av",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of the libraries that weights and numbers depend on."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # decord has no wheel on this platform, or emozoo runs from a bare checkout
    return found
