"""Hashes of clips, recorded beside the versions of the libraries that made them: machines can be compared."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

FILE = Path(__file__).resolve().parents[1] / "golden" / "clips.json"


def sha256(data: bytes | np.ndarray) -> str:
    return hashlib.sha256(data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()).hexdigest()


def hashes(path: Path, frames: np.ndarray, waveform: np.ndarray) -> dict[str, str]:
    """Of what was drawn and spoken, of the file that holds it, and of what is decoded from that file."""
    with av.open(str(path)) as box:
        images = np.stack([f.to_ndarray() for f in box.decode(video=0)])  # as they are coded, yuv420p
    with av.open(str(path)) as box:
        samples = np.concatenate([f.to_ndarray() for f in box.decode(audio=0)], 1)
    return {
        "pictures": sha256(frames), "samples": sha256(waveform), "file": sha256(path.read_bytes()),
        "decoded pictures": sha256(images), "decoded samples": sha256(samples),
    }  # fmt: skip


def versions(path: Path) -> dict[str, str]:
    """Of whatever a clip follows from, beside seed and settings."""
    core = re.search(rb"x264 - core (\d+)", path.read_bytes())
    libraries = ", ".join(f"{k} {'.'.join(map(str, v))}" for k, v in sorted(av.library_versions.items()))
    return {
        "machine": platform.machine(), "numpy": np.__version__, "opencv": cv2.__version__,
        "av": f"{av.__version__} with {libraries}, x264 core {core[1].decode() if core else 'unknown'}",
    }  # fmt: skip


def assert_as_recorded(name: str, path: Path, frames: np.ndarray, waveform: np.ndarray) -> None:
    """Compares a clip with its record. A difference is a failure; with other libraries than recorded, a skip."""
    found, made_with = hashes(path, frames, waveform), versions(path)
    record = json.loads(FILE.read_text(encoding="utf-8"))
    differ = [k for k, v in found.items() if record["clips"][name][k] != v]
    drawn = {"pictures", "samples"} & set(differ)
    other = [
        f"{k} {record['made_with'][k]} -> {made_with[k]}"
        for k in (("machine", "numpy", "opencv") if drawn else ("machine", "av"))
        if record["made_with"][k] != made_with[k]
    ]
    if differ and other:
        pytest.skip(f"{name}: {', '.join(differ)} differ; recorded with other libraries: {'; '.join(other)}")
    assert not differ, (
        f"{name}: {', '.join(differ)} differ from {FILE.name} with the very libraries that it was recorded with: "
        f"either this processor makes other clips than others do, or the generator changed and its VERSION has to "
        f"grow. Found: {json.dumps(found)}"
    )
