"""The speech encoder that comes with the package: the arithmetic of its publishers, its weights, and who reads it."""

from __future__ import annotations

import csv
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import speech_encoder
import speech_golden
import torch
import yaml
from media_files import write_audio
from nets import build
from torch import Tensor

import emozoo
from emozoo import files, hub, registry
from emozoo.errors import UnknownModelError, WeightsError
from emozoo.models.backbones import audio_encoder, portable
from emozoo.models.layers import LayerPool
from emozoo.models.whisper import WhisperEncoder
from emozoo.module import EmotionModule
from emozoo.train import train
from emozoo.zoo import load

ROOT = Path(__file__).resolve().parents[2]
NAME = "speech_tiny.v2"
VOICE = {"encoders": {"audio": "speech_tiny_layers"}, "streams": ["audio"], "seq_len": 1, "num_iter": 0}


@pytest.fixture(scope="module")
def encoder() -> WhisperEncoder:
    net = WhisperEncoder().eval()
    net.load_state_dict(speech_golden.shipped())
    return net


def heard(net: WhisperEncoder, wave: np.ndarray) -> list[Tensor]:
    with torch.no_grad():
        return net.layers(torch.from_numpy(wave)[None])[0]


# -- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("blocks", "seconds"), [(1, 0.5), (2, 1.0), (4, 2.02)])
def test_computes_what_transformers_computes(blocks: int, seconds: float) -> None:
    """Protects: log-mel, convolutions, positions and every block against an independent implementation."""
    pytest.importorskip("transformers", reason="the oracle is transformers: pip install 'emozoo[speech]'")
    torch.manual_seed(0)
    net = WhisperEncoder(width=128, blocks=blocks).eval()
    for block in net.blocks:
        block.qkv.bias.data[128:256] = 0.0  # keys have no bias there
    wave = speech_golden.signal(seconds)
    for ours, theirs in zip(heard(net, wave), speech_golden.oracle(net.state_dict(), wave), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_golden_file_is_what_transformers_computes() -> None:
    """Protects: the golden file itself, which stands for transformers where that is not installed."""
    pytest.importorskip("transformers", reason="the oracle is transformers: pip install 'emozoo[speech]'")
    said = speech_golden.summary(speech_golden.oracle(speech_golden.shipped(), speech_golden.signal()))
    check(said, json.loads(speech_golden.FILE.read_text())["layers"])


def test_shipped_weights_give_the_golden_numbers(encoder: WhisperEncoder) -> None:
    """Protects: everywhere, the shipped encoder gives what transformers gives with its weights."""
    golden = json.loads(speech_golden.FILE.read_text())
    assert golden["sha256"] == registry.encoders()[NAME].sha256
    check(speech_golden.summary(heard(encoder, speech_golden.signal())), golden["layers"])


def check(found: list[dict], wanted: list[dict]) -> None:
    for a, b in zip(found, wanted, strict=True):
        assert a["shape"] == b["shape"]
        for key in ("mean", "rms"):
            assert a[key] == pytest.approx(b[key], abs=1e-4)
        for t, values in b["values"].items():
            assert a["values"][t] == pytest.approx(values, abs=1e-4)


def test_maps_and_statistics(encoder: WhisperEncoder) -> None:
    """Protects: a map (N, D, 1, steps) by default; stacked, mean and deviation over time of each layer, in order."""
    wave = speech_golden.signal(1.0)
    x = torch.from_numpy(wave)[None, None, None].repeat(2, 1, 1, 1)
    stacked = WhisperEncoder(statistics=True).eval()
    stacked.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        layers = heard(encoder, wave)
        torch.testing.assert_close(encoder(x)[1], layers[-1][0].T[:, None])
        found = stacked(x)
    assert found.shape == (2, 4 * 2 * 384, 1, 1)
    wanted = torch.cat([part for h in layers for part in (h[0].mean(0), h[0].std(0, correction=0))])
    torch.testing.assert_close(found[0, :, 0, 0], wanted, atol=1e-4, rtol=1e-4)


def test_what_the_media_does_not_reach_does_not_count(encoder: WhisperEncoder) -> None:
    """Protects: a short recording in a long window, zeros before it, audio as it does alone (but for the
    mirrored samples before its first 12 ms)."""
    wave = speech_golden.signal(2.0)
    late = np.concatenate([np.zeros(16000, np.float32), wave])
    with torch.no_grad():
        layers, real = encoder.layers(torch.from_numpy(late)[None])
    assert real[0].tolist() == [False] * 50 + [True] * 100
    for alone, padded in zip(heard(encoder, wave), layers, strict=True):
        assert (padded[:, 50:] - alone).abs().mean() < 0.06 * alone.abs().mean()
        assert alone.abs().mean() > 0.2


@pytest.mark.parametrize("samples", [100, 16000 * 30 + 1])
def test_windows_of_a_wrong_length(samples: int) -> None:
    """Protects: too short or long windows are one readable line, not an index out of range."""
    with pytest.raises(ValueError, match="25 ms to 30 s"):
        WhisperEncoder(blocks=1)(torch.zeros(1, 1, 1, samples))


def test_silence_is_finite(encoder: WhisperEncoder) -> None:
    """Protects: digital silence, and its gradients, are numbers."""
    net = WhisperEncoder(blocks=1, statistics=True)
    found = net(torch.zeros(2, 1, 1, 8000))
    found.sum().backward()
    assert found.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_names() -> None:
    """Protects: names of the encoder, widths, what a wrong name is told; and that options name no files."""
    assert audio_encoder("speech_tiny")[1] == 384
    net, width = audio_encoder("speech_tiny_layers@4")
    assert (net.stacked, width, len(net.blocks)) == (5, 5 * 768, 4)
    for wrong in ("speech_tiny@5", "speech_tiny_layer", "speech_tinyx"):
        with pytest.raises(ValueError, match="speech_tiny_layers"):
            audio_encoder(wrong)
    assert portable(VOICE) == VOICE


def test_stream_and_encoder_must_agree() -> None:
    """Protects: the encoder never takes a spectrogram for samples."""
    net = build("recursive_joint_attention", **VOICE)
    with pytest.raises(ValueError, match="kind to 'waveform'"):
        net({"audio": torch.randn(1, 1, 1, 40, 64)})


# -- weights over layers ---------------------------------------------------------------------------------------------


def test_layer_pool() -> None:
    """Protects: features brought to mean 0 and variance 1 over real windows alone, then a weighted sum over layers."""
    pool = LayerPool(3, 4).train()
    x = torch.randn(5, 2, 12) * 3 + 7
    mask = torch.ones(5, 2).bool()
    mask[0, 1] = False
    x[0, 1] = torch.nan
    with torch.no_grad():
        pool.weights.copy_(torch.tensor([0.0, 50.0, 0.0]))  # the middle layer alone
    out = pool(x, mask)
    assert torch.equal(out[0, 1], torch.zeros(4))
    real = x[mask][:, 4:8]
    torch.testing.assert_close(out[mask], (real - real.mean(0)) / (real.var(0, correction=0) + 1e-5).sqrt())
    assert pool.norm.running_mean.isfinite().all()
    out.square().sum().backward()
    assert pool.weights.grad.isfinite().all()
    assert torch.equal(pool.eval()(x, mask)[0, 1], torch.zeros(4))


def test_masked_windows_change_nothing() -> None:
    """Protects: masks are exact with this encoder too, over NaN as well; without layers nothing of it is there."""
    net = build("recursive_joint_attention", classes=7, **{**VOICE, "seq_len": 2})
    audio = torch.randn(2, 2, 1, 1, 4000) * 0.1
    mask = torch.tensor([[[True], [False]], [[True], [True]]])
    other = audio.masked_fill(~mask[..., None, None], torch.nan)
    with torch.no_grad():
        first, second = (net.eval()({"audio": x}, {"audio": mask}) for x in (audio, other))
    assert torch.equal(first.logits, second.logits)
    net.train()({"audio": audio}, {"audio": mask}).logits.sum().backward()
    assert net.layer_pool.weights.grad is not None
    assert build("recursive_joint_attention").layer_pool is None


# -- shipped weights -------------------------------------------------------------------------------------------------


def test_shipped_encoder_is_no_model() -> None:
    """Protects: lists, names and publishing take it for what it is, a part that models share."""
    assert NAME in registry.encoders()
    assert NAME not in registry.weights()
    assert NAME not in emozoo.list_weights()
    with pytest.raises(UnknownModelError, match=NAME):
        load(NAME)
    folder = hub.locate(registry.encoders()[NAME])
    assert folder == Path(str(files.packaged("checkpoints"))) / NAME
    card = (folder / hub.CARD).read_text()
    for said in ("license: mit", "Copyright (c) 2022 OpenAI", "Limits", "Not for decisions about people", "2212.04356"):
        assert said in card
    from huggingface_hub import ModelCard

    assert ModelCard.load(folder / hub.CARD).data.license == "mit"


def test_damaged_encoder_is_refused(tmp_path: Path) -> None:
    """Protects: the file's sha256 is checked whenever a network starts from it."""
    folder = shutil.copytree(hub.locate(registry.encoders()[NAME]), tmp_path / NAME)
    data = bytearray((folder / hub.WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / hub.WEIGHTS).write_bytes(data)
    with pytest.raises(WeightsError, match="sha256"):
        EmotionModule(
            "recursive_joint_attention",
            size="lite",
            options=VOICE,
            init_from={str(folder): {"encoder": "encoders.audio"}},
        )


def test_trains_on_kept_features_and_shares_the_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: WhisperEncoder
) -> None:
    """Protects: the whole way of a voice's weights: features of the frozen encoder made once, weights over layers
    learnt, a file without the encoder that says whose it is, and an answer from it in another place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMOZOO_HOME", str(tmp_path / "home"))
    with open("voices.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        for i in range(6):
            name = f"{i}.wav"
            wave = speech_golden.signal(1.0 + 0.1 * i) * (0.3 if i % 2 else 1.0)
            write_audio(tmp_path / name, wave)
            rows.writerow([name, ("anger", "sadness")[i % 2], "train" if i < 4 else "val"])
    audio = {"rate": 16000, "seconds": 1.5, "kind": "waveform"}
    stream = {"source": "audio", "size": [1, 24000], "mean": [0.0], "std": [1.0], "audio": audio}
    spec = {"clips": 1, "sampling": "trailing", "window_s": 1.5, "clip_s": 1.5, "streams": {"audio": stream}}
    save = {"folder": "out", "shared_parts": ["encoders.audio"]}
    plan = {
        "model": {
            "model": "recursive_joint_attention", "size": "lite", "classes": ["anger", "sadness"], "spec": spec,
            "options": VOICE, "init_from": {NAME: {"encoder": "encoders.audio"}}, "lr_scale": {"encoders": 0},
        },
        "data": {"dataset": "csv", "root": "voices.csv", "batch_size": 4, "val_share": 0.0},
        "trainer": {
            "max_epochs": 3, "accelerator": "cpu", "enable_progress_bar": False, "enable_checkpointing": False,
            "callbacks": [
                {"class_path": "emozoo.callbacks.SaveWeights", "init_args": save},
                {"class_path": "emozoo.callbacks.FeatureCache", "init_args": {"draws": 2}},
            ],
        },
    }  # fmt: skip
    Path("recipe.yaml").write_text(yaml.safe_dump(plan))
    assert train(["--config", "recipe.yaml"]) == 0
    assert len(list((tmp_path / "home" / "features").glob("*.pt"))) == 1

    config = json.loads(Path("out/config.json").read_text())
    entry = registry.encoders()[NAME]
    assert config["parts"] == {"encoders.audio": {"weights": NAME, "part": "encoder", "sha256": entry.sha256}}
    assert Path("out/model.safetensors").stat().st_size < 4e6
    model = load(shutil.move("out", tmp_path / "elsewhere"))
    own = model.net.encoders["audio"].state_dict()
    assert all(torch.equal(v, own[k]) for k, v in encoder.state_dict().items())
    assert model.net.layer_pool.weights.any()
    (answer,) = emozoo.predict([tmp_path / "4.wav"], model=model)
    assert answer.error is None
    assert hub.shared_files(tmp_path / "elsewhere") == {f"{NAME}.safetensors": hub.locate(entry) / hub.WEIGHTS}


# -- the script ------------------------------------------------------------------------------------------------------


def ctranslate2(tensors: dict[str, np.ndarray], version: int = 6) -> bytes:
    """A file of CTranslate2 with these tensors."""

    def word(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    out = struct.pack("<I", version) + word("WhisperSpec") + struct.pack("<II", 3, len(tensors))
    for name, x in tensors.items():
        kind = {"float16": 4, "float32": 0, "int16": 2}[x.dtype.name]
        out += word(name) + struct.pack(f"<B{x.ndim}IBI", x.ndim, *x.shape, kind, x.nbytes) + x.tobytes()
    return out


def test_script_reads_the_published_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects: names and shapes of a CTranslate2 file become ours, decoder and later blocks left out; another file
    than the published one, another version of the format and missing tensors are refused."""
    net = WhisperEncoder(blocks=1)
    wanted = net.half().state_dict()
    theirs = {"encoder/num_heads": np.array(6, np.int16), "decoder/conv1/weight": np.ones((2, 2), np.float32)}
    back = {v: k for k, v in speech_encoder.PARTS.items()}
    for name, x in wanted.items():
        top, *rest = name.split(".")
        if top == "blocks":
            kind = rest[2]
            if "norm" in rest[1]:
                kind = {"weight": "gamma", "bias": "beta"}[kind]
            theirs[f"encoder/layer_0/{back[rest[1]]}/{kind}"] = x.numpy()
            theirs[f"encoder/layer_1/{back[rest[1]]}/{kind}"] = x.numpy()
        else:
            theirs[f"encoder/{top}/{rest[0]}"] = x.numpy()
    found = speech_encoder.converted(ctranslate2(theirs), blocks=1)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[k], v) for k, v in wanted.items())
    with pytest.raises(ValueError, match="format 5"):
        speech_encoder.converted(ctranslate2(theirs, version=5), blocks=1)
    with pytest.raises(ValueError, match="lacks"):
        speech_encoder.converted(ctranslate2(theirs), blocks=3)
    (tmp_path / "model.bin").write_bytes(ctranslate2(theirs))
    with pytest.raises(SystemExit):
        speech_encoder.main([str(tmp_path / "model.bin"), "--out", str(tmp_path / "out")])
    assert "sha256" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
