"""Controls of the input: what is taken away is gone, what is shuffled is all there, and batches do not matter."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from emozoo.batch import Batch
from emozoo.benchmark import controls
from emozoo.benchmark.run import measure
from emozoo.errors import UsageError
from emozoo.labels import BASIC7
from emozoo.registry import MODELS

FACE_SCENE = MODELS["caer_cross_attention"].specs["lite"]
FACE_AUDIO = MODELS["recursive_joint_attention"].specs["lite"]


def batch_of(spec, size: int = 3) -> Batch:
    torch.manual_seed(0)
    inputs, masks = {}, {}
    for name, s in spec.streams.items():
        shape = (size, spec.clips, s.frames, 1 if s.audio else 3, 4, 4)
        inputs[name] = torch.randn(shape)[:, :, 0] if s.audio else torch.randn(shape)
        masks[name] = torch.ones(size, spec.clips, s.frames, dtype=torch.bool)
    return Batch(inputs, masks, {}, {"id": [f"item{i}" for i in range(size)]})


def test_a_stream_that_is_taken_away_is_zeros_and_masked() -> None:
    """Protects face-only, audio-only and the like: nothing of the rest reaches the network."""
    batch = batch_of(FACE_AUDIO)
    seen = controls.leave_only(FACE_AUDIO, "audio-only")(batch).batch
    assert not seen.masks["face"].any()
    assert not seen.inputs["face"].any()
    assert torch.equal(seen.inputs["audio"], batch.inputs["audio"])
    assert batch.masks["face"].all(), "other contenders still see it"


def test_time_in_disorder() -> None:
    """Protects shuffled-time: all moments are there, streams stay together, and predictions find their way back."""
    batch = batch_of(FACE_AUDIO)
    seen = controls.shuffle_time(batch)
    audio = seen.batch.inputs["audio"]
    assert not torch.equal(audio, batch.inputs["audio"])
    back = seen.back[:, :, None, None, None].expand_as(audio)
    assert torch.equal(audio.gather(1, back), batch.inputs["audio"])
    face, before = (x.flatten(3).sum((2, 3)) for x in (seen.batch.inputs["face"], batch.inputs["face"]))
    assert torch.allclose(face.gather(1, seen.back), before, atol=1e-4), "faces go with their audio"
    alone = controls.shuffle_time(Batch(*({k: x[1:2] for k, x in p.items()} for p in (batch.inputs, batch.masks)),
                                        {}, {"id": ["item1"]}))  # fmt: skip
    assert torch.equal(alone.batch.inputs["face"], seen.batch.inputs["face"][1:2]), "whatever the batch"


def test_which_controls_a_model_has() -> None:
    """Protects against controls that say nothing: refused, with those that there are."""
    assert controls.of(FACE_AUDIO) == ["face-only", "audio-only", "shuffled-time"]
    assert controls.of(FACE_SCENE) == ["face-only", "context-only", "shuffled-context", "shuffled-time"]
    with pytest.raises(UsageError, match="'audio-only': it has no audio stream; there are face-only"):
        controls.check(FACE_SCENE, "audio-only", "caer_cross_attention")


def test_the_scene_of_somebody_else(make_weights: Callable[..., Path], tmp_path: Path) -> None:
    """Protects shuffled-context: everybody has another's scene, the same one in batches of any size."""
    r = np.random.default_rng(0)
    lines = ["path,label,actor,x1,y1,x2,y2"]
    for i in range(9):
        cv2.imwrite(str(tmp_path / f"{i}.png"), r.integers(0, 255, (64, 64, 3), dtype=np.uint8))
        lines.append(f"{i}.png,{BASIC7[i % 7]},p{i},8,8,31,31")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    folder = str(make_weights("caer_cross_attention"))
    wanted = ["shuffled-context", "face-only"]
    runs = [measure([folder], "csv", tmp_path, control=wanted, batch_size=b) for b in (2, 9)]
    for one, other in zip(*(r.tables for r in runs), strict=True):
        assert [x["id"] for x in one] == [x["id"] for x in other]
        for a, b in zip(one, other, strict=True):
            assert [a[c] for c in BASIC7] == pytest.approx([b[c] for c in BASIC7], abs=1e-5)
    plain, shuffled, alone = runs[0].tables
    assert all(a["anger"] != b["anger"] for a, b in zip(plain, shuffled, strict=True))
    assert all(a["anger"] != b["anger"] for a, b in zip(plain, alone, strict=True))
    model, *rest = runs[0].records
    assert [r["control"] for r in rest] == wanted
    for record in rest:
        assert record["model"] == model["model"]
        assert record["delta"]["WAR"] == pytest.approx(model["metrics"]["WAR"] - record["metrics"]["WAR"])
