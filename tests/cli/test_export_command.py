"""`emozoo export`: a model as a file for onnxruntime."""

from __future__ import annotations

import pytest

for needed in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(needed, reason=f"{needed} is not installed: pip install 'emozoo[onnx]'")


def test_the_command_says_what_it_wrote(emozoo, folder_of, tmp_path, monkeypatch):
    """Protects `emozoo export --int8`: a small file, near to torch; a clip is drawn where there is no real one."""
    monkeypatch.setenv("EMOZOO_SHARED", str(tmp_path / "nowhere"))
    weights = folder_of("emotion_fan")
    done = emozoo("export", weights, "--int8", cwd=tmp_path)
    assert done.code == 0, done.err
    first, *rest = done.out.splitlines()
    assert first.startswith("emotion_fan.onnx: ")
    assert [p.name for p in tmp_path.iterdir()] == ["emotion_fan.onnx"]
    assert "inputs: face (B, " in rest[0]
    assert "outputs: scores (B, 7)" in rest[1]
    assert "largest difference between onnxruntime and torch, on a drawn clip and random inputs: " in rest[2]
    assert "with int8 weights, on a drawn clip: " in rest[3]
    written, plain = tmp_path / "emotion_fan.onnx", weights / "model.safetensors"
    assert written.stat().st_size < plain.stat().st_size / 3
