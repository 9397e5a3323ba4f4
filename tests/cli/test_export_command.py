"""`emozoo export`: a model as a file for onnxruntime."""

from __future__ import annotations

import pytest

for needed in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(needed, reason=f"{needed} is not installed: pip install 'emozoo[onnx]'")


def test_the_command_says_what_it_wrote(emozoo, folder_of, tmp_path):
    """Protects `emozoo export --int8`: a small file, near to torch."""
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


def test_fine_tuning_ends_in_a_file_too(emozoo, make_images, tmp_path):
    """Protects `finetune --export`: a wrong format is refused before training, the file lies beside the weights."""
    data, out = make_images(5), tmp_path / "mine"
    command = ("finetune", "emotion_fan", "--data", data, "--out", out, "--epochs", "1", "--device", "cpu", "--export")
    refused = emozoo(*command, "tflite")
    assert (refused.code, out.exists()) == (2, False)
    (tmp_path / "other" / "model.onnx").mkdir(parents=True)
    refused = emozoo(*command, "onnx", "--out", tmp_path / "other")
    assert (refused.code, refused.err.count("is a folder; give the name of a file")) == (2, 1)
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["model.onnx"]
    done = emozoo(*command, "onnx")
    assert done.code == 0, done.err
    assert f"for onnxruntime: {out / 'model.onnx'}" in done.out
    assert (out / "model.onnx").stat().st_size > 1e6
