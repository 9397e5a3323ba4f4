"""Predictions do each piece of work once, and are those of the plain way: one file, one window, one frame at a time."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from media_files import write_video

from emozoo import inference
from emozoo.data import faces, scan
from emozoo.data.clips import ClipReader, RawClip
from emozoo.data.faces import Track
from emozoo.module import EmotionModule

FPS = 10


def face_film(seconds: float) -> list[np.ndarray]:
    """Frames (96, 128, 3) in which a bright square, which stands for a face, moves to the right."""
    rng = np.random.default_rng(0)
    frames = []
    for i in range(round(seconds * FPS)):
        frame = rng.integers(0, 60, (96, 128, 3), dtype=np.uint8)
        frame[20:68, 10 + i // 3 : 58 + i // 3] = 160 + i
        frames.append(frame)
    return frames


@pytest.fixture
def squares(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that finds the bright square."""

    def detect(image: np.ndarray, shrink: float = 1.0) -> np.ndarray:
        y, x = np.nonzero(image.mean(2) > 120)
        if not len(x):
            return np.zeros((0, 5), np.float32)
        return np.array([[x.min(), y.min(), x.max(), y.max(), 9]], np.float32)

    monkeypatch.setattr(faces, "detector", lambda name: detect)


def network(arch: str = "ceflnet") -> EmotionModule:
    torch.manual_seed(0)
    module = EmotionModule(arch, size="lite").eval()
    for m in module.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 2)
    return module


def numbers(prediction: inference.Prediction) -> list[list[float]]:
    return [[m.start_s, m.end_s, *m.scores.values()] for t in prediction.tracks for m in t.timeline]


@pytest.mark.parametrize("arch", ["ceflnet", "caer_cross_attention", "dfan"])
def test_long_video_is_predicted_as_window_by_window(arch: str, squares: None, tmp_path: Path) -> None:
    """Protects every number: shared frames, folded batch norms and read-ahead give what the plain network gives."""
    module, path = network(arch), write_video(tmp_path / "long.mp4", face_film(9), FPS)
    found = inference.predict(path, module, batch_size=3)
    assert len(found.timeline) == 9
    for moment in found.timeline:
        start = min(max((moment.start_s + moment.end_s - module.spec.window_s) / 2, 0), 9 - module.spec.window_s)
        with ClipReader(path, module.spec) as reader:
            raw = reader.read(start, start + module.spec.window_s)
        batch = inference.to_batch([raw], module.spec)
        with torch.inference_mode():
            expected = module.scores(module(batch).logits)[0].tolist()
        assert list(moment.scores.values()) == pytest.approx(expected, abs=1e-4)


def test_frames_are_decoded_twice_at_most(squares: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the speed of long videos: one pass for times, damage and faces, one for the windows of all faces."""
    path = write_video(tmp_path / "long.mp4", face_film(9), FPS)
    decoded = 0
    plain = scan.decode

    def counted(*given: object) -> Iterator[object]:
        nonlocal decoded
        for pair in plain(*given):  # type: ignore[arg-type]
            decoded += 1
            yield pair

    monkeypatch.setattr(scan, "decode", counted)
    monkeypatch.setattr("emozoo.data.media.decode", counted)
    inference.predict(path, network())
    assert decoded <= 2 * 90 + 40  # some frames of a window lie behind the end of the batch before


def test_faces_are_the_same_where_no_frame_is_kept(
    squares: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects faces: frames kept from the first pass are those that would be decoded for the detector."""
    path, spec = write_video(tmp_path / "film.mp4", face_film(6), FPS), network().spec
    with ClipReader(path, spec) as reader:
        kept = reader.tracks
    monkeypatch.setattr(scan, "KEPT_BYTES", 0)
    scan.SCANS.clear()
    with ClipReader(path, spec) as reader:
        decoded = reader.tracks
    assert len(kept) == len(decoded) == 1
    np.testing.assert_array_equal(kept[0].times, decoded[0].times)
    np.testing.assert_array_equal(kept[0].boxes, decoded[0].boxes)


def test_clips_read_together_are_those_read_alone(squares: None, tmp_path: Path) -> None:
    """Protects windows that share frames, of one face and of two, and that one which cannot be read is alone in it."""
    path, spec = write_video(tmp_path / "film.mp4", face_film(6), FPS), network("caer_cross_attention").spec
    other = Track(np.array([0.0, 6.0]), np.array([[0, 0, 30, 30], [0, 0, 30, 30.0]], np.float32), 0.2)
    with ClipReader(path, spec) as reader:
        main = reader.tracks[0]
        asked = [(0.0, 3.0, main), (1.0, 4.0, main), (1.0, 4.0, other), (2.0, 5.0, other)]
        together = reader.read_all([reader.plan(a, b, track=t) for a, b, t in asked])
        for (a, b, track), clip in zip(asked, together, strict=True):
            alone = reader.read(a, b, track=track)
            assert isinstance(clip, RawClip)
            for name in spec.streams:
                np.testing.assert_array_equal(clip.streams[name], alone.streams[name])
                np.testing.assert_array_equal(clip.masks[name], alone.masks[name])
            np.testing.assert_array_equal(clip.boxes, alone.boxes)


def test_files_together_are_predicted_as_alone(squares: None, tmp_path: Path) -> None:
    """Protects folders: images that share a batch get their own scores, in order, and a broken one hurts no other."""
    names = []
    for i in range(20):
        path = tmp_path / f"{i:02}.png"
        cv2.imwrite(str(path), face_film(3)[i])
        names.append(path)
    names[7].write_bytes(b"no image")
    names.insert(11, write_video(tmp_path / "clip.mp4", face_film(2), FPS))
    module = network()
    together = inference.predict(names, module)
    assert [Path(p.file) for p in together] == names
    assert [p.error is not None for p in together] == [n.name == "07.png" for n in names]
    predictor = inference.Predictor(module)
    for path, found in zip(names, together, strict=True):
        alone = predictor.predict(path)
        assert (alone.error, alone.label, alone.warnings) == (found.error, found.label, found.warnings)
        np.testing.assert_allclose(numbers(found), numbers(alone), atol=1e-4)


def test_a_video_is_opened_where_an_interrupt_is_heard(
    squares: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects Ctrl-C: faces of a long video are looked for in the caller's thread, and only when its turn has come."""
    names = [write_video(tmp_path / f"{i}.mp4", face_film(1), FPS) for i in range(2)]
    opened: list[tuple[str, bool]] = []
    plain = inference.open_file

    def watched(name: str, *given: object) -> object:
        opened.append((name, threading.current_thread() is threading.main_thread()))
        return plain(name, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(inference, "open_file", watched)
    predictions = inference.Predictor(network()).predict_all(names)
    next(predictions)
    assert opened == [(str(names[0]), True)]
    next(predictions)
    assert opened[1:] == [(str(names[1]), True)]


def test_a_bug_concerns_one_image_of_a_batch(squares: None, tmp_path: Path) -> None:
    """Protects the rest of a folder: where the network fails on one image, the others are predicted all the same."""
    bright = [np.full((64, 64, 3), level, np.uint8) for level in (10, 250, 20)]
    names = [tmp_path / f"{i}.png" for i in range(3)]
    for name, image in zip(names, bright, strict=True):
        cv2.imwrite(str(name), image)
    module = network("dfan")
    predictor = inference.Predictor(module)
    plain = predictor.outputs

    def run(tasks: list) -> list:
        if any(task.raw.streams[s].mean() > 200 for task in tasks for s in task.raw.streams):
            raise RuntimeError("too bright")
        return plain(tasks)

    predictor.outputs = run  # type: ignore[method-assign]
    found = list(predictor.predict_all(names, None, lambda file, error: predictor.failed(file, "internal", str(error))))
    assert [p.error and p.error["text"] for p in found] == [None, "too bright", None]
    with pytest.raises(RuntimeError, match="too bright"):
        list(predictor.predict_all(names))


def test_the_users_module_stays_as_it_is(squares: None, tmp_path: Path) -> None:
    """Protects training: a prediction in its midst changes no mode, no weight and no layer of the module."""
    module, path = network().train(), write_video(tmp_path / "clip.mp4", face_film(2), FPS)
    before = copy.deepcopy(module.state_dict())
    inference.predict(path, module)
    assert all(m.training for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d))
    after = module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_large_faces_are_looked_for_in_shrunk_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects coverage and speed: full size each second and where a face is lost, else as small as the face allows."""
    looks: list[float] = []
    sizes = iter([192, 192, 0, 192, 192, 192, 192, 40, 40])

    def detect(image: np.ndarray, shrink: float = 1.0) -> np.ndarray:
        looks.append(shrink)
        side = next(sizes)
        return np.array([[0, 0, side, side, 9]] if side else np.zeros((0, 5)), np.float32)

    monkeypatch.setattr(faces, "detector", lambda name: detect)
    look, image = faces.Look("yunet"), np.zeros((4, 4, 3), np.uint8)
    found = [len(look(time, image)) for time in (0.0, 0.2, 0.4, 0.6, 0.8, 1.4, 1.6, 1.8)]
    assert found == [1] * 8
    # lost at 0.4 s, so looked at again; at 1.4 s a second is over; at 1.6 s the face turns out too small to be shrunk
    assert looks == [1, 0.5, 0.5, 1, 0.5, 0.5, 1, 0.5, 1]
