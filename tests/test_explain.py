"""Explanations: what `emozoo predict --explain` draws is what the network saw and weighed, nothing else."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import occlusion
import pytest
import torch
from media_files import write_audio, write_video
from PIL import Image

from emozoo import cli
from emozoo.batch import Batch
from emozoo.data.clips import ClipReader, to_batch
from emozoo.data.find import find_media, is_ours
from emozoo.device import ready
from emozoo.errors import VideoError
from emozoo.explain import Explanation, explain, frame_weights
from emozoo.inference import Predictor
from emozoo.models.network import Output
from emozoo.recognizer import Recognizer
from emozoo.synthemo import Knobs, plan, render

DEFAULTS = ("ceflnet", "dfan", "caer_cross_attention", "recursive_joint_attention")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn person who speaks for two seconds, longer than that, as an image, as audio alone; and nobody."""
    folder = tmp_path_factory.mktemp("media")
    shown = render(plan(3, 0, Knobs(), size=(192, 144), seconds=2.0, fps=10))
    frames = list(shown.frames)
    write_video(folder / "face.mp4", frames, audio=shown.waveform)
    write_video(folder / "long.mp4", (frames + frames[::-1]) * 2)
    Image.fromarray(frames[0]).save(folder / "image.png")
    write_audio(folder / "voice.wav", shown.waveform)
    ramp = np.broadcast_to(np.linspace(40, 200, 192, dtype=np.uint8)[None, :, None], (144, 192, 3))
    write_video(folder / "nobody.mp4", [np.ascontiguousarray(ramp)] * 20)
    (folder / "broken.mp4").write_bytes(b"this is no video")
    return folder


@pytest.fixture(scope="module")
def models() -> dict[str, Recognizer]:
    """The default weights of the four papers, with the detector that needs no file."""
    return {arch: ready(arch, "cpu") for arch in DEFAULTS}


def small(arch: str, **options: object) -> Recognizer:
    """A small network that has learned nothing."""
    torch.manual_seed(0)
    return Recognizer(arch, size="lite", **options).eval()


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize("arch", DEFAULTS)
def test_the_maps_are_those_of_the_network(models, media, arch):
    """Protects from a second way of reading: maps, pixels and scores equal those of the network run by hand."""
    module = models[arch]
    spec = module.spec.with_detector("cascade")
    found = explain(media / "face.mp4", module, detector="cascade")
    with ClipReader(media / "face.mp4", spec) as reader:
        raw = reader.read()
    batch = to_batch([raw], spec)
    with torch.inference_mode():
        out = module.output(batch)
        scores = module.scores(out.logits, module.prior)[0].numpy()
    assert found.attention.keys() == out.attention.keys()
    for name, value in out.attention.items():
        np.testing.assert_allclose(found.attention[name], value[0].numpy(), atol=1e-5, err_msg=name)
    np.testing.assert_allclose(found.evidence.scores, scores, atol=1e-5)
    assert found.label == module.classes[int(scores.argmax())]
    assert found.score == pytest.approx(found.window_score, abs=1e-5)
    for name, images in found.images.items():
        seen = found.evidence.masks[name]
        np.testing.assert_array_equal(seen, raw.masks[name])
        np.testing.assert_array_equal(images[seen], raw.streams[name][seen])


def test_weights_that_are_said_to_add_up_do(models, media):
    """Protects the bars: those that are shown as shares of a whole add up to 1."""
    found = {arch: explain(media / "face.mp4", models[arch], detector="cascade") for arch in DEFAULTS}
    at = {arch: one.attention for arch, one in found.items()}
    assert at["ceflnet"]["clip_attention"].sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(frame_weights(at["ceflnet"]).sum(-1), 1, atol=1e-5)
    for name in ("object", "scene"):
        assert at["dfan"][f"{name}_time"].sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(at["dfan"][f"{name}_space"].sum((-2, -1)), 1, atol=1e-5)
    for name in ("shallow", "deep"):
        np.testing.assert_allclose(at["caer_cross_attention"][name].sum(-1), 1, atol=1e-5)
    joint = found["recursive_joint_attention"]
    real = np.any([m.any(-1) for m in joint.evidence.masks.values()], axis=0)
    np.testing.assert_allclose(joint.attention["stream_share"].sum(-1), real, atol=1e-5)


@pytest.mark.parametrize("arch", DEFAULTS)
@pytest.mark.parametrize("name", ["face.mp4", "image.png"])
def test_an_image_is_written_for_each_paper(models, media, tmp_path, arch, name):
    """Protects the image itself: there, wide enough to read, and never taken for input afterwards."""
    path = tmp_path / "why.png"
    explain(media / name, models[arch], detector="cascade").save(path)
    width, height = size_of(path)
    assert width == 1430
    assert 300 < height < 1600
    assert is_ours(path)
    assert [p.name for p in tmp_path.iterdir()] == ["why.png"]


@pytest.mark.parametrize("arch", ["caer_net_s", "emotion_fan", "resnet_gru"])
def test_other_networks_show_what_they_have(media, tmp_path, arch):
    """Protects networks beside the four papers: their weights, or the frames and a note that there are none."""
    found = explain(media / "face.mp4", small(arch))
    found.save(tmp_path / "why.png")
    assert size_of(tmp_path / "why.png")[0] == 1430
    about = " ".join(found.words().about)
    assert ("gives no weights" in about) == (arch == "resnet_gru")


def test_valence_and_arousal_alone_are_explained(media, tmp_path):
    """Protects networks without classes: the window with valence and arousal farthest from neutral."""
    found = explain(media / "face.mp4", small("recursive_joint_attention", classes=[], options={"va": True}))
    assert (found.label, found.score) == (None, None)
    found.save(tmp_path / "why.png")
    assert found.words().result == "valence and arousal"


def test_the_window_is_the_one_that_speaks_most_for_the_label(media):
    """Protects long files: of all windows that one is shown in which the label of the file scores highest."""
    predictor = Predictor(small("ceflnet"), evidence=True)
    prediction = predictor.predict(media / "long.mp4")
    found = Explanation.of(prediction)
    scores = [m.scores[found.label] for m in prediction.timeline]
    assert found.window_score == pytest.approx(max(scores), abs=1e-5)
    best = prediction.timeline[int(np.argmax(scores))]
    assert (found.evidence.window.start, found.evidence.window.end) == (best.start_s, best.end_s)
    assert "scores highest" in found.words().notes


def test_audio_alone_has_no_face(models, media, tmp_path):
    """Protects audio files: the voice has the whole share, and no empty faces are drawn."""
    found = explain(media / "voice.wav", models["recursive_joint_attention"], detector="cascade")
    real = found.evidence.masks["audio"].any(-1)
    np.testing.assert_allclose(found.attention["stream_share"][real], [[0, 1]] * real.sum(), atol=1e-6)
    assert [type(p).__name__ for p in found.panels()] == ["Band", "Signal"]
    found.save(tmp_path / "why.png")


def test_a_file_without_a_face_is_explained_by_its_scene_or_not_at_all(models, media, tmp_path):
    """Protects from explanations of nothing: the scene has the whole weight; a network of faces has none to show."""
    found = explain(media / "nobody.mp4", models["caer_cross_attention"], detector="cascade")
    np.testing.assert_allclose(found.attention["deep"], [[[0, 1]]], atol=1e-6)
    found.save(tmp_path / "why.png")
    with pytest.raises(VideoError, match="no prediction to explain"):
        explain(media / "nobody.mp4", models["ceflnet"], detector="cascade")


def test_predictions_do_not_change(models, media):
    """Protects the numbers: with or without evidence a prediction is the same, and without it nothing is kept."""
    plain, kept = (
        Predictor(models["ceflnet"], detector="cascade", evidence=e).predict(media / "face.mp4") for e in (False, True)
    )
    assert plain.to_json() == kept.to_json()
    assert plain.evidence is None
    assert kept.evidence is not None


def test_the_command_writes_an_image_for_each_file(media, tmp_path, monkeypatch, capsys):
    """Protects `--explain`: an image for each prediction, none for a file with an error or without a face."""
    out = tmp_path / "out"
    words = ["predict", media, "--model", "ceflnet", "--detector", "cascade", "--out", out, "--explain"]
    monkeypatch.setattr(sys, "argv", ["emozoo", *map(str, words)])
    assert cli.main() == 1  # the broken file
    images = sorted(p.name for p in out.glob("*.png"))
    assert images == ["face.explain.png", "image.explain.png", "long.explain.png"]
    assert not list(out.glob("*.json"))
    assert "nothing to explain" in capsys.readouterr().err
    assert all(is_ours(p) for p in out.glob("*.png"))
    (tmp_path / "out" / "mine.png").write_bytes((media / "image.png").read_bytes())
    assert [item.path.name for item in find_media([out])] == ["mine.png"]


def test_the_command_needs_a_folder(media, monkeypatch, capsys):
    """Protects from an image that has nowhere to go: a usage error before anything is predicted."""
    monkeypatch.setattr(sys, "argv", ["emozoo", "predict", str(media / "face.mp4"), "--explain"])
    assert cli.main() == 2
    assert "--explain" in capsys.readouterr().err


# -- hiding what is highlighted: benchmarks/occlusion.py -------------------------------------------------------------


class Corner(torch.nn.Module):
    """A network whose answer depends on one corner of the scene alone, and which says so, or says the opposite."""

    prior, spec, classes = "train", None, ("no", "yes")

    def __init__(self, honest: bool) -> None:
        super().__init__()
        self.honest = honest

    def output(self, batch: Batch):
        x = batch.inputs["context"]  # (B, C, F, 3, H, W)
        corner = x[..., :4, :4].mean((1, 2, 3, 4, 5))
        space = torch.full((len(x), 1, 5, 5), 0.01)
        space[..., 0, 0] = 1.0 if self.honest else 0.0
        return Output(torch.stack([torch.zeros_like(corner), corner], 1), None, {"context_space": space})

    def scores(self, logits: torch.Tensor, prior: str) -> torch.Tensor:
        return logits.softmax(-1)


def a_batch() -> Batch:
    """An image whose corner is bright; the rest is dark."""
    x = torch.zeros(1, 1, 1, 3, 20, 20)
    x[..., :4, :4] = 5.0
    return Batch({"context": x}, {"context": torch.ones(1, 1, 1, dtype=torch.bool)}, meta={"id": ["0"]})


@pytest.mark.parametrize("honest", [True, False])
def test_hiding_the_highlight_shows_whether_it_matters(honest):
    """Protects the occlusion check: a map on what decides costs more than chance, a map beside it costs less."""
    highlight = occlusion.Highlight("places", lambda maps: {"context": maps["context_space"]})
    probability, high, low = occlusion.drops(Corner(honest), a_batch(), [highlight], np.random.default_rng(0))
    assert probability > 0.9
    assert (high > low + 0.1) if honest else (high < low - 0.01)


def test_places_are_hidden_in_the_mean_color_and_moved_with_their_shape():
    """Protects a fair comparison: the hidden area is a fifth, as large when it is moved, and nothing else changes."""
    maps = torch.zeros(1, 5, 5)
    maps[0, 0] = torch.arange(5, 0, -1)
    chosen = occlusion.top_places(maps)
    assert chosen.sum() == 5
    assert chosen[0, 0].all()
    moved = occlusion.moved_places(chosen, np.random.default_rng(0))
    assert moved.sum() == 5
    assert not torch.equal(moved, chosen)
    batch = a_batch()
    x = occlusion.without_places(batch, {"context": chosen[None]}).inputs["context"]
    torch.testing.assert_close(
        x[..., :4, :], batch.inputs["context"].mean((-2, -1), keepdim=True).expand(1, 1, 1, 3, 4, 20)
    )
    assert torch.equal(x[..., 4:, :], batch.inputs["context"][..., 4:, :])


def test_parts_of_time_are_hidden_as_if_they_were_missing():
    """Protects clips and streams that are hidden: masks become false, inputs zero, only where they should."""
    face, audio = torch.ones(2, 2, 3, 3, 4, 4), torch.ones(2, 2, 1, 1, 8)
    masks = {"face": torch.ones(2, 2, 3, dtype=torch.bool), "audio": torch.ones(2, 2, 1, dtype=torch.bool)}
    batch = Batch({"face": face, "audio": audio}, masks, meta={"id": ["0", "1"]})
    frames = torch.zeros(2, 2, 3, dtype=torch.bool)
    frames[0, 1, 2] = True
    hidden = occlusion.without_parts(batch, {"face": frames, "audio": torch.tensor([[True, False], [False, False]])})
    assert torch.equal(hidden.masks["face"], ~frames)
    assert hidden.inputs["face"].sum() == face.sum() - 3 * 16
    assert hidden.masks["audio"][:, :, 0].tolist() == [[False, True], [True, True]]
    assert hidden.inputs["audio"].sum() == audio.sum() - 8
    whole = occlusion.without_parts(batch, {"face": torch.tensor([[True], [False]])})
    assert whole.masks["face"].any((1, 2)).tolist() == [False, True]


def test_only_real_parts_are_chosen():
    """Protects clips with missing frames: what was never there is not hidden again, in one stream or over several."""
    weights = {"face": torch.tensor([0.9, 0.2, 0.5]), "audio": torch.tensor([0.1, 0.8, 0.3])}
    possible = {"face": torch.tensor([False, True, True]), "audio": torch.tensor([True, True, True])}
    each = occlusion.top_parts(weights, possible, 1, jointly=False)
    assert (each["face"].tolist(), each["audio"].tolist()) == ([False, False, True], [False, True, False])
    one = occlusion.top_parts(weights, possible, 1, jointly=True)
    assert (one["face"].tolist(), one["audio"].tolist()) == ([False] * 3, [False, True, False])
    gone = replace(a_batch(), masks={"context": torch.ones(1, 1, 1, dtype=torch.bool)})
    single = occlusion.Highlight("frames", lambda maps: {"context": torch.ones(1, 1)}, 1)
    assert occlusion.variants(gone, {}, single, np.random.default_rng(0)) is None, "one part leaves no choice"
