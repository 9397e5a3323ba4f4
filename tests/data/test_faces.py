"""Finding faces and following them."""

from __future__ import annotations

import numpy as np
import pytest

from emozoo.data import faces, media, sampling
from emozoo.errors import UsageError, WeightsError


def box(x: float, y: float, side: float = 40) -> list[float]:
    return [x, y, x + side, y + side, 1.0]


def detections(*rows) -> list[tuple[float, np.ndarray]]:
    return [(0.2 * i, np.array(found, dtype=np.float32).reshape(-1, 5)) for i, found in enumerate(rows)]


def tracks_of(path, name: str = "cascade") -> list[faces.Track]:
    images = media.open_frames(path)
    at = np.unique(sampling.nearest(images.stamps, np.arange(0, images.stamps[-1] + 1e-6, 0.2)))
    detect = faces.detector(name)
    return faces.link(((float(images.stamps[i]), detect(p)) for i, p in zip(at, images.frames(at))), 0.2)


def test_two_faces_are_two_tracks_even_when_they_move():
    """Protects identity: two faces that move in opposite directions keep their tracks."""
    rows = [[box(10 + 6 * i, 20), box(200 - 6 * i, 120)] for i in range(10)]
    tracks = faces.link(detections(*rows), 0.2)
    assert [t.face_frames for t in tracks] == [10, 10]
    for t in tracks:
        assert abs(t.boxes[-1, 1] - t.boxes[0, 1]) < 1  # no jump from one face to the other


def test_false_alarms_are_dropped_and_gaps_are_bridged():
    """Protects tracks: a face seen twice is an alarm; three missed detections do not split a track."""
    rows = [[box(10, 10)] if i not in (4, 5, 6) else [] for i in range(12)]
    rows[2].append(box(300, 300))
    rows[8].append(box(150, 10))
    tracks = faces.link(detections(*rows), 0.2)
    assert len(tracks) == 1
    assert tracks[0].face_frames == 9
    assert tracks[0].box_at(1.0) is not None


def test_the_face_seen_most_comes_first():
    """Protects the choice of the main track."""
    rows = [[box(10, 10, 80)] if i < 4 else [box(200, 200)] for i in range(12)]
    tracks = faces.link(detections(*rows), 0.2)
    assert [t.face_frames for t in tracks] == [8, 4]


def test_a_still_needs_one_detection_only():
    """Protects images: one frame, one face, one track."""
    (track,) = faces.link([(0.0, np.array([box(3, 4)], dtype=np.float32))], 0.0)
    np.testing.assert_allclose(track.box_at(0.0), [3, 4, 43, 44])


def test_boxes_are_smooth_without_lag():
    """Protects crops from detector jitter: noise shrinks, a steady movement is followed exactly."""
    rng = np.random.default_rng(0)
    still = detections(*[[box(100 + rng.normal(0, 3), 100)] for _ in range(60)])
    moving = detections(*[[box(10 + 4 * i, 50)] for i in range(60)])
    (a,), (b,) = faces.link(still, 0.2), faces.link(moving, 0.2)
    assert a.boxes[5:-5, 0].std() < 2.0  # of 3 before
    np.testing.assert_allclose(b.boxes[:, 0], 10 + 4 * np.arange(60), atol=0.1)


def test_a_track_ends_where_the_face_does():
    """Protects the mask of lost faces: outside its span and in long gaps a track has no box."""
    track = faces.Track(np.array([1.0, 1.2, 1.4, 4.0]), np.tile(np.float32([0, 0, 10, 10]), (4, 1)), 0.2)
    assert track.box_at(0.7) is None
    assert track.box_at(0.85) is not None
    assert track.box_at(2.5) is None
    assert track.box_at(3.9) is not None
    assert track.box_at(4.3) is None


def test_boxes_are_interpolated_between_detections():
    """Protects smooth crops at frames that were not looked at."""
    track = faces.Track(np.array([0.0, 0.2]), np.array([[0, 0, 10, 10], [4, 8, 14, 18]], dtype=np.float32), 0.2)
    np.testing.assert_allclose(track.box_at(0.1), [2, 4, 12, 14], atol=1e-5)


@pytest.mark.parametrize(("name", "least"), [("pyfeat_single_face", 1), ("liveportrait_d20", 1), ("facenet_crowd", 2)])
def test_cascade_finds_faces(shared, name, least):
    """Protects the detector that the weights name: faces of real clips, several in a crowd."""
    tracks = tracks_of(shared / "data" / "clips" / f"{name}.mp4")
    assert len(tracks) >= least
    if least == 1:
        assert len(tracks) == 1


def test_cascade_sees_no_face_where_there_is_none(shared):
    """Protects against false faces: a cartoon title and test images give no track."""
    for name in ("pyfeat_no_face", "one_frame", "odd_size_177x101"):
        assert not tracks_of(shared / "data" / "clips" / f"{name}.mp4"), name


def test_cascade_reads_small_face_crops(shared):
    """Protects small crops: most 48-pixel faces are found, the box lies in the image."""
    files = sorted((shared / "data" / "ferplus" / "val").glob("*.jpg"))[::100]
    detect = faces.detector("cascade")
    found = [detect(media.read_image(f)[0]) for f in files]
    assert np.mean([len(f) > 0 for f in found]) > 0.6
    for f in found:
        assert f[:, :4].min(initial=0) >= 0
        assert f[:, :4].max(initial=0) <= 47


def test_yunet_needs_its_very_file(shared, tmp_path, monkeypatch):
    """Protects against another network under the same name: path and hash are checked, the text says where to go."""
    monkeypatch.setenv("EMOZOO_YUNET", str(tmp_path / "gone.onnx"))
    with pytest.raises(WeightsError, match="EMOZOO_YUNET"):
        faces.detector("yunet")
    (tmp_path / "wrong.onnx").write_bytes(b"another network")
    monkeypatch.setenv("EMOZOO_YUNET", str(tmp_path / "wrong.onnx"))
    with pytest.raises(WeightsError, match="sha256"):
        faces.detector("yunet")
    model = next((shared / "data" / "weights").glob("*.onnx"))
    monkeypatch.setenv("EMOZOO_YUNET", str(model))
    assert len(tracks_of(shared / "data" / "clips" / "pyfeat_single_face.mp4", "yunet")) == 1


def test_an_unknown_detector_is_named():
    """Protects the message."""
    with pytest.raises(UsageError, match="cascade"):
        faces.detector("retina")
