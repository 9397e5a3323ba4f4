"""Audio as samples: for speech models, which hear a waveform instead of seeing a log-mel image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from emozoo.data.clips import ClipReader, RawClip, to_batch
from emozoo.data.transforms import Augment
from emozoo.errors import UsageError, VideoError
from emozoo.registry import MODELS
from emozoo.spec import AudioSpec, ClipSpec, StreamSpec

RATE, SECONDS = 16000, 0.5
WAVE = StreamSpec("audio", (1, 8000), audio=AudioSpec(rate=RATE, seconds=SECONDS, kind="waveform"))
FRAME = StreamSpec("frame", (24, 24))


def spec(clips: int = 4, **streams: StreamSpec) -> ClipSpec:
    return ClipSpec(streams, clips=clips, sampling="trailing", window_s=1.6, clip_s=0.4)


def read(path: Path, of: ClipSpec) -> RawClip:
    with ClipReader(path, of) as reader:
        return reader.read()


def test_a_click_lies_where_it_audio(tmp_path, make_video) -> None:
    """Protects: a window's last sample is the moment of its clip's last frame, as with log-mel windows."""
    raw = read(make_video(tmp_path / "a.mkv", clicks=(0.6,)), spec(frame=FRAME, audio=WAVE))
    assert raw.streams["audio"].shape == (4, 1, 1, 8000)
    assert raw.streams["audio"].dtype == np.float32
    assert raw.masks["audio"].all()
    heard = 0
    for wave, end in zip(raw.streams["audio"][:, 0, 0], raw.times, strict=True):
        place = round((0.6 - (end - SECONDS)) * RATE)
        assert np.abs(wave).max() <= 1.0
        if 0 <= place < 7800:
            assert abs(int(np.flatnonzero(np.abs(wave) > 0.2)[0]) - place) <= 4
            heard += 1
        elif place < -200 or place > 8000:
            assert np.abs(wave).max() < 0.01
    assert heard


def test_silence_and_files_without_audio(tmp_path, make_video) -> None:
    """Protects: no audio is a false mask and a warning, silence is zeros that count; neither is an error."""
    mute = read(make_video(tmp_path / "mute.mp4"), spec(frame=FRAME, audio=WAVE))
    assert not mute.masks["audio"].any()
    assert "no_audio" in [w.code for w in mute.warnings]
    silent = read(make_video(tmp_path / "silent.mkv", clicks=(99.0,)), spec(frame=FRAME, audio=WAVE))
    assert silent.masks["audio"].all()
    batch = to_batch([mute, silent], spec(frame=FRAME, audio=WAVE))
    assert batch.inputs["audio"].shape == (2, 4, 1, 1, 8000)
    assert (batch.inputs["audio"] == 0).all()
    assert batch.masks["audio"].shape == (2, 4, 1)
    with pytest.raises(VideoError, match="no audio"):
        read(tmp_path / "mute.mp4", spec(audio=WAVE))


def test_gain_and_silenced_parts(tmp_path, make_video) -> None:
    """Protects: augmentation of samples follows from the seed, scales them, and refuses what needs mel bins."""
    of = spec(clips=1, audio=WAVE)
    raw = read(make_video(tmp_path / "a.mkv", frames=12, clicks=(0.1,)), of)
    raw.streams["audio"] = np.linspace(0.1, 0.2, 8000, dtype=np.float32).reshape(1, 1, 1, 8000)
    before = raw.streams["audio"].copy()
    louder = to_batch([raw], of, augment=Augment(gain=6.0), seeds=[3]).inputs["audio"]
    ratio = louder[0] / torch.from_numpy(before)
    torch.testing.assert_close(ratio, torch.full_like(ratio, float(ratio.flatten()[0])))
    assert 10 ** (-6 / 20) <= float(ratio.mean()) <= 10 ** (6 / 20)
    assert float(ratio.mean()) != 1.0
    masked = to_batch([raw], of, augment=Augment(time_mask=0.9), seeds=[4]).inputs["audio"]
    assert 0 < int((masked == 0).sum()) <= 7200
    assert torch.equal(masked, to_batch([raw], of, augment=Augment(time_mask=0.9), seeds=[4]).inputs["audio"])
    np.testing.assert_array_equal(raw.streams["audio"], before)
    with pytest.raises(UsageError, match="log-mel"):
        to_batch([raw], of, augment={"audio": Augment(mel_mask=0.1)}, seeds=[0])


def test_stored_specs_keep_loading() -> None:
    """Protects: a ClipSpec stored before there were waveforms means log-mel; a new one survives JSON."""
    old = json.loads(json.dumps(MODELS["recursive_joint_attention"].specs["lite"].to_dict()))
    del old["streams"]["audio"]["audio"]["kind"]
    assert ClipSpec.from_dict(old) == MODELS["recursive_joint_attention"].specs["lite"]
    new = spec(frame=FRAME, audio=WAVE)
    assert ClipSpec.from_dict(json.loads(json.dumps(new.to_dict()))) == new


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        ({"source": "audio", "size": [1, 16000], "audio": {"kind": "waveform", "rate": 8000}}, r"\(1, 8000\)"),
        ({"source": "audio", "size": [40, 64], "audio": {"kind": "mfcc"}}, "log_mel"),
        ({"source": "audio", "size": [40, 64], "audio": {"hertz": 8000}}, "hertz"),
    ],
)
def test_wrong_settings_are_one_line(stream: dict, words: str) -> None:
    """Protects: a size that is not that of the window, an unknown kind or field is said, and what would be right."""
    with pytest.raises(UsageError, match=words) as caught:
        ClipSpec.from_dict({"streams": {"audio": stream}, "clips": 1, "sampling": "trailing", "window_s": 1.0})
    assert "\n" not in str(caught.value)
