"""Aligned face crops: a tilted head stands upright, an upright one stays as it was, and stores hold what files give."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from emozoo.data import faces, media, views
from emozoo.data.clips import ClipReader
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.prepare import prepare
from emozoo.data.store import Cover
from emozoo.errors import UsageError
from emozoo.spec import ClipSpec, StreamSpec

SIZE = 96


def spec(detector: str = "yunet", *, align: bool = True, margin: float = 0.2) -> ClipSpec:
    streams = {"face": StreamSpec("face", (SIZE, SIZE), 2)}
    return ClipSpec(streams, 2, "segments", 1.0, margin=margin, detector=detector, align=align)


@pytest.fixture(scope="module")
def portrait(shared: Path) -> np.ndarray:
    """A real frontal face with room around it."""
    images = media.open_frames(str(shared / "data" / "clips" / "pyfeat_single_face.mp4"), None)
    return next(iter(images.frames([0])))


@pytest.fixture(autouse=True)
def _at_hand(yunet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOZOO_YUNET", str(yunet))


def tilted(image: np.ndarray, degrees: float) -> np.ndarray:
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)


def film(path: Path, image: np.ndarray) -> Path:
    """A folder of equal frames, so that a track is found."""
    path.mkdir(parents=True)
    for i in range(8):
        cv2.imwrite(str(path / f"{i:03d}.png"), image[..., ::-1])
    return path


def crop_of(path: Path, of: ClipSpec) -> np.ndarray:
    with ClipReader(path, of) as reader:
        raw = reader.read()
    assert not raw.no_face
    return raw.streams["face"][0, 0]


def landmarks(crop: np.ndarray) -> np.ndarray:
    """Landmarks (5, 2) of the face in a crop, from its center, in sides."""
    found = faces.detector("yunet")(crop)
    assert len(found) == 1
    return found[0, 5:].reshape(5, 2) / len(crop) - 0.5


def test_landmarks_lie_at_fixed_places(portrait: np.ndarray, tmp_path: Path) -> None:
    """Protects alignment: however the head is tilted, eyes and mouth lie where the template has them."""
    wanted = np.array(list(views.LANDMARKS.values())) / (1 + 2 * 0.2)
    plain = []
    for degrees in (-30, 0, 30):
        path = film(tmp_path / str(degrees), tilted(portrait, degrees))
        assert np.abs(landmarks(crop_of(path, spec())) - wanted).max() < 0.05, degrees
        plain.append(np.abs(landmarks(crop_of(path, spec(align=False))) - wanted).max())
    assert max(plain) > 0.08


def test_an_upright_face_is_cropped_as_before(shared: Path) -> None:
    """Protects weights that meet both crops: aligned ones of real upright faces show about what plain ones show."""
    detect = faces.detector("yunet")
    sides, shifts = [], []
    for name in ("pyfeat_single_face", "liveportrait_d18", "liveportrait_d19", "liveportrait_d20"):
        images = media.open_frames(str(shared / "data" / "clips" / f"{name}.mp4"), None)
        image = next(iter(images.frames([0])))
        for row in detect(image):
            _, _, side = views.square(row[:4], 0.2)
            turn, wide = views._alignment(row[5:].reshape(5, 2), 0.2)  # type: ignore[misc]
            middle = turn @ np.array([*(row[:2] + row[2:4]) / 2, 1.0])
            sides.append(wide / side)
            shifts.append(np.abs(middle / wide - 0.5).max())
    assert len(sides) >= 4
    assert 0.85 < np.median(sides) < 1.15
    assert np.median(shifts) < 0.08


def test_without_landmarks_the_crop_is_plain(portrait: np.ndarray, tmp_path: Path) -> None:
    """Protects the fallback to cascade, and boxes of the data: not one pixel differs from a spec without alignment."""
    path = film(tmp_path / "f", portrait)
    assert np.array_equal(crop_of(path, spec("cascade")), crop_of(path, spec("cascade", align=False)))
    for one in (spec(), spec(align=False)):
        with ClipReader(path, one, box=(40, 40, 140, 150)) as reader:
            found = reader.read().streams["face"]
        assert np.array_equal(found[0, 0], views.face(portrait, np.float32([40, 40, 140, 150]), (96, 96), 0.2, "area"))


def test_points_that_are_no_face_change_nothing(portrait: np.ndarray) -> None:
    """Protects from a wild detection: points in one place, or far too near each other, give the plain crop."""
    box = np.float32([40, 40, 140, 150])
    for points in (np.full((5, 2), 70.0), 90 + np.array(list(views.LANDMARKS.values()))):
        assert np.array_equal(views.cut(portrait, box, 0.2, points), views.cut(portrait, box, 0.2))


def test_landmarks_move_with_their_face() -> None:
    """Protects tracks: landmarks are linked, smoothed and interpolated as boxes are; cascade's tracks have none."""
    looks = []
    for i in range(8):
        box = np.array([100 + 10 * i, 50, 200 + 10 * i, 170], dtype=np.float32)
        points = np.array(list(views.LANDMARKS.values())) * 120 + (box[:2] + box[2:]) / 2
        looks.append((0.2 * i, np.concatenate([box, [0.9], points.ravel()])[None].astype(np.float32)))
    (track,) = faces.link(looks, 0.2)
    for time in (0.0, 0.3, 0.7, 1.4):
        box, points = track.box_at(time), track.points_at(time)
        assert box is not None
        assert points is not None
        center = (box[:2] + box[2:]) / 2
        assert np.abs(points - center - np.array(list(views.LANDMARKS.values())) * 120).max() < 0.01
    assert track.points_at(9.0) is None
    (plain,) = faces.link([(t, f[:, :5]) for t, f in looks], 0.2)
    assert np.array_equal(plain.boxes, track.boxes)
    assert plain.points is None
    assert plain.points_at(0.3) is None


def test_a_store_holds_aligned_crops(portrait: np.ndarray, tmp_path: Path) -> None:
    """Protects prepared data: the crops of the file but for the JPEG, also a narrower one; other crops are refused."""
    film(tmp_path / "data" / "calm" / "tilted", tilted(portrait, 20))
    cover = Cover.of([spec()])
    assert Cover.from_dict(json.loads(json.dumps(cover.to_dict()))) == cover
    assert prepare("folder", tmp_path / "data", tmp_path / "store", cover=cover, workers=1)

    def stored(of: ClipSpec) -> np.ndarray:
        data = EmotionDataModule("store", tmp_path / "store", spec=of, split="all")
        data.setup()
        with ClipReader.of(data.test_rows[0], of) as reader:
            return reader.read().streams["face"][0, 0]

    theirs = tmp_path / "data" / "calm" / "tilted"
    assert np.abs(stored(spec()).astype(int) - crop_of(theirs, spec())).mean() < 4
    narrow = replace(spec(margin=0.0), streams={"face": StreamSpec("face", (64, 64), 2)})
    assert np.abs(stored(narrow).astype(int) - crop_of(theirs, narrow)).mean() < 6
    with pytest.raises(UsageError, match="face crops are to be plain, the store's are aligned"):
        stored(spec(align=False))
    with pytest.raises(UsageError, match="prepare two"):
        Cover.of([spec(), spec(align=False)])
    assert "align" not in Cover.of([spec(align=False)]).to_dict()  # the plan of stores that were begun before


def test_a_spec_from_before_is_not_aligned() -> None:
    """Protects stored weights: a spec without the field is read, and means the plain crop."""
    old = {k: v for k, v in spec(align=False).to_dict().items() if k != "align"}
    assert ClipSpec.from_dict(old) == spec(align=False)
    assert ClipSpec.from_dict(json.loads(json.dumps(spec().to_dict()))).align
