"""Encoders of audio that may be exchanged: log-mel images, and speech models that hear samples."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from nets import build

from emozoo.models.backbones import Speech, audio_encoder, portable
from emozoo.module import EmotionModule
from emozoo.train import train
from emozoo.zoo import load

PAGE = Path(__file__).resolve().parents[2] / "docs" / "papers" / "recursive_joint_attention.md"
WIDTH = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny wav2vec2 with random weights, stored as transformers does; one feature for 128 samples."""
    pytest.importorskip("transformers", reason="needs transformers: pip install 'emozoo[speech]'")
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8, 8, 8),
        conv_kernel=(10, 4, 4),
        conv_stride=(8, 4, 4),
        num_feat_extract_layers=3,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    torch.manual_seed(0)
    where = tmp_path_factory.mktemp("speech") / "wav2vec2-tiny"
    Wav2Vec2Model(config).save_pretrained(where)
    return where


def recipe(folder: Path) -> dict[str, Any]:
    """The fragment on the paper's page, with our tiny model in place of its own."""
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    return yaml.safe_load(block.replace("models/wav2vec2-base", str(folder)))


def test_takes_samples(folder: Path) -> None:
    """Protects: a map (N, D, 1, steps) from samples, the same at any loudness, finite on silence."""
    net, width = audio_encoder(f"hf:{folder}")
    wave = torch.randn(2, 1, 1, 4000) * 0.1
    with torch.no_grad():
        out = net.eval()(wave)
        assert out.shape == (2, width, 1, 31)
        assert width == WIDTH
        torch.testing.assert_close(net(wave * 3), out, atol=1e-4, rtol=1e-4)
        assert net(torch.zeros(1, 1, 1, 4000)).isfinite().all()


def test_normalises_as_its_preprocessor_says(folder: Path, tmp_path: Path) -> None:
    """Protects: ``do_normalize`` false leaves samples alone; true gives each window mean 0 and variance 1."""
    plain = shutil.copytree(folder, tmp_path / "plain")
    (plain / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    (a, _), (b, _) = audio_encoder(f"hf:{folder}"), audio_encoder(f"hf:{plain}")
    wave = torch.randn(1, 1, 1, 4000) * 0.1 + 0.05
    known = (wave - wave.mean()) / wave.std(correction=0)
    with torch.no_grad():
        torch.testing.assert_close(a.eval()(wave), b.eval()(known), atol=1e-4, rtol=1e-4)
        assert not torch.allclose(b(wave), b(known), atol=1e-3)


def test_masked_windows_change_nothing(folder: Path) -> None:
    """Protects: masks are exact with a speech model too, over NaN as well, and gradients reach it."""
    net = build(
        "recursive_joint_attention", classes=7, encoders={"face": "vgg_tiny", "audio": f"hf:{folder}"}, num_iter=2
    )
    inputs = {"face": torch.randn(2, 8, 2, 3, 48, 48), "audio": torch.randn(2, 8, 1, 1, 4000)}
    masks = {"face": torch.ones(2, 8, 2).bool(), "audio": torch.ones(2, 8, 1).bool()}
    masks["audio"][0, 3:], masks["audio"][1] = False, False
    other = {**inputs, "audio": inputs["audio"].masked_fill(~masks["audio"][..., None, None], torch.nan)}
    with torch.no_grad():
        first, second = net.eval()(inputs, masks), net(other, masks)
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.va, second.va)
    net.train()
    net(other, masks).va.square().sum().backward()
    got = [p.grad for p in net.encoders["audio"].parameters() if p.grad is not None]
    assert got
    assert all(g.isfinite().all() for g in got)


def test_trains_by_configuration_and_loads_without_the_folder(
    folder: Path, tmp_path: Path, make_video, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Protects: the fragment on the paper's page, from videos to a weights folder that needs nothing beside it."""
    monkeypatch.chdir(tmp_path)
    own = shutil.copytree(folder, tmp_path / "speech")
    with open("clips.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split", "x1", "y1", "x2", "y2"])
        for i, label in enumerate(("anger", "happiness", "anger", "happiness")):
            make_video(tmp_path / f"{i}.mkv", frames=40, clicks=(0.2 + 0.1 * i,) if i else ())
            rows.writerow([f"{i}.mkv", label, "train" if i < 3 else "val", 8, 8, 40, 40])
    plan = recipe(own)
    plan["data"] |= {"dataset": "csv", "root": "clips.csv", "batch_size": 3, "num_workers": 0}
    save = {"class_path": "emozoo.callbacks.SaveWeights", "init_args": {"folder": "out", "half": False}}
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False}
    plan["trainer"] = {"max_steps": 1, "accelerator": "cpu", "callbacks": [save], **quiet}
    Path("recipe.yaml").write_text(yaml.safe_dump(plan))
    assert train(["--config", "recipe.yaml"]) == 0

    stored = json.loads(Path("out/config.json").read_text())
    assert stored["options"]["encoders"]["audio"]["model_type"] == "wav2vec2"
    assert str(tmp_path) not in json.dumps(stored)
    shutil.rmtree(own)
    model = load(tmp_path / "out")
    assert isinstance(model.net.encoders["audio"], Speech)
    assert model.spec.streams["audio"].audio.kind == "waveform"
    fresh, _ = audio_encoder(f"hf:{folder}")
    moved = model.net.encoders["audio"].state_dict()
    assert any(not torch.equal(v, moved[k]) for k, v in fresh.state_dict().items())
    from emozoo import predict

    loud, mute = predict([tmp_path / "1.mkv", tmp_path / "0.mkv"], model=model)
    assert loud.error is None
    assert mute.error is None
    assert "no_audio" in [w["code"] for w in mute.warnings]
    renamed = load(tmp_path / "out", classes=("calm", "angry"))  # only shapes are asked for to find the head
    assert renamed.classes == ("calm", "angry")


def test_frozen_speech_model(folder: Path) -> None:
    """Protects: ``lr_scale`` 0 keeps a speech model out of training, dropout included."""
    plan = recipe(folder)["model"]
    module = EmotionModule(**{**plan, "lr_scale": {"encoders.audio": 0}}).train()
    assert not module.net.encoders["audio"].training
    assert module.net.encoders["face"].training


def test_dfan_with_audio(folder: Path) -> None:
    """Protects: audio is an extra stream, off by default, of a log-mel or a speech encoder; it may be missing."""
    quiet = build("dfan", classes=6)
    assert quiet.streams == ("action", "object", "scene")
    inputs = {
        "action": torch.randn(2, 3, 4, 3, 48, 48),
        "object": torch.randn(2, 3, 1, 3, 64, 64),
        "scene": torch.randn(2, 3, 1, 3, 64, 64),
    }
    masks = {s: torch.ones(x.shape[:3]).bool() for s, x in inputs.items()} | {"audio": torch.ones(2, 3, 1).bool()}
    masks["audio"][0, 1:], masks["audio"][1] = False, False
    for name, audio in (
        ("vgg_tiny_audio", torch.randn(2, 3, 1, 40, 64)),
        (f"hf:{folder}", torch.randn(2, 3, 1, 1, 4000)),
    ):
        net = build("dfan", classes=6, audio=name).eval()
        assert net.streams == ("action", "object", "scene", "audio")
        with torch.no_grad():
            out = net({**inputs, "audio": audio}, masks)
            other = net({**inputs, "audio": audio.masked_fill(~masks["audio"][..., None, None], torch.nan)}, masks)
        assert torch.equal(out.logits, other.logits)
        torch.testing.assert_close(out.attention["audio_time"], torch.tensor([[1.0, 0, 0], [0, 0, 0]]))
        net.train()({**inputs, "audio": audio}, masks).logits.sum().backward()


def test_stored_options_name_no_files(folder: Path) -> None:
    """Protects: what is stored beside weights needs no file of the user's and builds the same network."""
    options = {
        "encoders": {"face": "vgg_tiny", "audio": f"hf:{folder}"},
        "encoder_weights": {"face": "a.pt"},
        "width": 8,
    }
    stored = portable(options)
    assert stored["encoders"]["face"] == "vgg_tiny"
    assert stored["width"] == 8
    assert "encoder_weights" not in stored
    assert portable(stored) == stored
    again, _ = audio_encoder(stored["encoders"]["audio"])
    assert again.state_dict().keys() == audio_encoder(f"hf:{folder}")[0].state_dict().keys()


def test_unusable_speech_models(folder: Path, tmp_path: Path) -> None:
    """Protects: a missing folder, a model of text, missing weights and missing parameters are one line each."""
    from safetensors.torch import load_file, save_file

    text, bare, part = (tmp_path / n for n in ("text", "bare", "part"))
    text.mkdir()
    (text / "config.json").write_text(json.dumps({"model_type": "bert"}))
    bare.mkdir()
    shutil.copy(folder / "config.json", bare)
    shutil.copytree(folder, part)
    state = load_file(folder / "model.safetensors")
    save_file(dict(list(state.items())[3:]), part / "model.safetensors", metadata={"format": "pt"})
    cases = [
        (tmp_path / "none", "no config.json"),
        (text, "does not take samples"),
        (bare, "cannot build"),
        (part, "lack"),
    ]
    for where, words in cases:
        with pytest.raises(ValueError, match=words) as caught:
            audio_encoder(f"hf:{where}")
        assert "\n" not in str(caught.value)


def test_stream_and_encoder_must_agree(folder: Path) -> None:
    """Protects: a speech model never takes a spectrogram for samples, nor an image encoder samples for an image."""
    face = torch.randn(1, 8, 2, 3, 48, 48)
    speech = build("recursive_joint_attention", encoders={"face": "vgg_tiny", "audio": f"hf:{folder}"})
    with pytest.raises(ValueError, match="kind to 'waveform'"):
        speech({"face": face, "audio": torch.randn(1, 8, 1, 40, 64)})
    with pytest.raises(ValueError, match="hf:FOLDER"):
        build("recursive_joint_attention")({"face": face, "audio": torch.randn(1, 8, 1, 1, 4000)})


def test_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: without transformers the error names the extra; networks without speech models do not need it."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wav2vec2"}))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'emozoo\[speech\]'"):
        audio_encoder(f"hf:{tmp_path}")
    assert audio_encoder("vgg_tiny")[1] == 128
