"""What `predict` is given, and what goes wrong with it: images, devices, names of files, folders, bugs."""

from __future__ import annotations

import copy
import csv
import io
import json
import logging
import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from emozoo import inference, opened
from emozoo.data import clips, find
from emozoo.errors import UsageError
from emozoo.module import EmotionModule


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """RGB (144, 192, 3) of a drawn person."""
    from emozoo.synthemo import Knobs, plan, render

    return np.array(render(plan(3, 0, Knobs(), size=(192, 144), seconds=0.5, fps=4)).frames[0])


@pytest.fixture(scope="module")
def module() -> EmotionModule:
    torch.manual_seed(0)
    return EmotionModule("ceflnet", size="lite").eval()


def save(path: Path, image: np.ndarray) -> Path:
    Image.fromarray(image).save(path)
    return path


def facts(found: inference.Prediction) -> dict:
    return {k: v for k, v in found.to_dict().items() if k not in ("file", "duration_s", "fps")}


# -- bugs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["encode", "head"])
def test_a_bug_in_a_lightning_module_is_raised(face, tmp_path, step, monkeypatch):
    """Protects people with networks of their own: their bug keeps its traceback and is not blamed on the file."""
    own = EmotionModule("ceflnet", size="lite").eval()

    def broken(*_: object) -> None:
        raise KeyError("my_new_head")

    monkeypatch.setattr(own.net, step, broken)
    with pytest.raises(KeyError, match="my_new_head") as caught:
        inference.predict(save(tmp_path / "a.png", face), own)
    assert caught.traceback[-1].name == "broken"
    assert inference.predict(tmp_path / "missing.png", own).error["code"] == "missing"


@pytest.mark.parametrize(
    ("thrown", "code"),
    [
        (ZeroDivisionError("in a decoder"), "internal"),
        (MemoryError(), "internal"),
        (OSError(5, "I/O error"), "unreadable"),
    ],
)
def test_what_a_decoder_throws_is_the_files_fault(face, module, tmp_path, monkeypatch, caplog, thrown, code):
    """Protects batches: whatever is thrown while a file is read is its answer, and the cause can be looked up."""
    path = save(tmp_path / "a.png", face)

    def broken(*_: object) -> None:
        raise thrown

    monkeypatch.setattr(clips, "open_image", broken)
    with caplog.at_level(logging.DEBUG, logger="emozoo"):
        found = inference.predict([path, tmp_path / "missing.mp4"], module)
    assert [p.error["code"] for p in found] == [code, "missing"]
    assert "\n" not in found[0].error["text"]
    if code == "internal":
        assert thrown in [r.exc_info[1] for r in caplog.records if r.exc_info]


# -- devices and modules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cuda:77", "meta", "nonsense", "", "hpu", "xla", "mps:9", "cpu:x"])
def test_a_refused_device_leaves_the_module_usable(face, module, tmp_path, device):
    """Protects long running programs: a device that is not there is refused by name, and nothing has moved."""
    path = save(tmp_path / "a.png", face)
    before = facts(inference.predict(path, module))
    with pytest.raises(UsageError, match="there is: cpu") as caught:
        inference.predict(path, module, device=device)
    assert f"'{device}'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert module.device == torch.device("cpu")
    assert facts(inference.predict(path, module)) == before
    assert facts(inference.predict(path, module, device="cpu")) == before


def test_a_move_that_breaks_off_is_taken_back(face, tmp_path, monkeypatch):
    """Protects from half moved modules: a device that has too little memory shows that only on the way."""
    module = EmotionModule("ceflnet", size="lite").eval()
    path = save(tmp_path / "a.png", face)
    before = facts(inference.predict(path, module))
    move, calls = EmotionModule.to, []

    def to(self, device):
        calls.append(device)
        move(self, device)
        if len(calls) == 1:
            self._device = torch.device("meta")
            raise RuntimeError("out of memory")
        return self

    monkeypatch.setattr(EmotionModule, "to", to)
    with pytest.raises(UsageError, match="out of memory"):
        inference.predict(path, module, device="cpu")
    assert facts(inference.predict(path, module)) == before


@pytest.mark.parametrize("kind", ["half", "bfloat16", "double"])
def test_a_module_of_another_precision_answers(face, module, tmp_path, kind):
    """Protects whoever saves memory: a module cast to half precision, or to double, says what it said before."""
    path = save(tmp_path / "a.png", face)
    before, found = (inference.predict(path, m).scores for m in (module, getattr(copy.deepcopy(module), kind)()))
    assert found == pytest.approx(before, abs=0.02)


# -- images in memory --------------------------------------------------------------------------------------------


def test_a_image_in_memory_is_answered_as_its_file(face, module, tmp_path):
    """Protects programs that have the image already: array, PIL image and file get one answer."""
    expected = facts(inference.predict(save(tmp_path / "a.png", face), module))
    image = Image.fromarray(face)
    for given, name in ((face, "<array>"), (np.asfortranarray(face), "<array>"), (image, "<image>")):
        found = inference.predict(given, module)
        assert (found.file, facts(found)) == (name, expected)
    assert facts(inference.predict(Image.merge("RGBA", (*image.split(), image.split()[0])), module)) == expected
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(face)))
    turned.getexif()[0x0112] = 6  # shown turned by 90° clockwise
    turned.save(tmp_path / "turned.png", exif=turned.getexif())
    with Image.open(tmp_path / "turned.png") as opened:
        assert facts(inference.predict(opened, module)) == expected
    found.to_csv(tmp_path / "a.csv")
    found.plot(tmp_path / "a.plot.png")


def test_a_list_of_images_is_one_clip(face, module):
    """Protects the meaning of lists: images are frames of one clip, 25 a second; an empty list asks nothing."""
    frames = [np.roll(face, i, axis=1) for i in range(10)]
    found = inference.predict(frames, module)
    assert (found.file, found.duration_s, found.fps) == ("<frames>", pytest.approx(0.4), pytest.approx(25))
    assert found.scores
    assert "still" not in [w["code"] for w in found.warnings]
    mixed = inference.predict(tuple(Image.fromarray(f) for f in frames), module)
    assert facts(mixed) == facts(found)
    assert inference.predict([], module) == []


REFUSED = {
    "bytes": b"\x89PNG",
    "grey": np.zeros((8, 8), dtype=np.uint8),
    "float": np.zeros((8, 8, 3)),
    "four colours": np.zeros((8, 8, 4), dtype=np.uint8),
    "clip": np.zeros((2, 8, 8, 3), dtype=np.uint8),
    "empty": np.zeros((0, 8, 3), dtype=np.uint8),
    "tensor": torch.zeros(3, 8, 8, dtype=torch.uint8),
    "tensors": [torch.zeros(3, 8, 8, dtype=torch.uint8)],
    "file": io.BytesIO(b"RIFF"),
    "mapping": {"a.png": 1},
    "set": {"a.png"},
    "none": None,
    "number": 7,
    "numbers": range(3),
    "nones": [None],
    "mixed": ["a.png", np.zeros((8, 8, 3), dtype=np.uint8)],
    "sizes": [np.zeros((8, 8, 3), dtype=np.uint8), np.zeros((8, 9, 3), dtype=np.uint8)],
    "16 bits": Image.new("I;16", (8, 8)),
}


@pytest.mark.parametrize("given", list(REFUSED.values()), ids=list(REFUSED))
def test_anything_else_is_refused_by_type(given, module):
    """Protects from hundreds of `missing`: what is neither path nor image is refused in one line."""
    with pytest.raises(UsageError) as caught:
        inference.predict(given, module)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_folders_and_iterators_of_paths(face, module, tmp_path):
    """Protects one meaning of a folder: in Python as for the command, all media files in it, as a list."""
    (tmp_path / "in" / "inner").mkdir(parents=True)
    names = [save(tmp_path / "in" / n, face) for n in ("a.png", "inner/b.png")]
    assert [p.file for p in inference.predict(tmp_path / "in", module)] == list(map(str, names))
    assert [p.file for p in inference.predict(iter(names), module)] == list(map(str, names))
    assert [p.file for p in inference.predict([names[1], tmp_path / "in"], module)] == [
        str(n) for n in (names[1], *names)
    ]


# -- names and folders ---------------------------------------------------------------------------------------------


NAMES = {
    "latin": b"caf\xe9.png",
    "lines": b"two\nlines\t\x1b[31m\r.png",
    "formula": b"$x^$_{.png",
    "markup": b"[red]a[b[.png",
    "turned": "\u202egnp.png".encode(),
    "long": b"n" * 251 + b".png",
    "wide": "é".encode() * 125 + b".png",
}


@pytest.mark.parametrize("name", list(NAMES.values()), ids=list(NAMES))
def test_any_name_is_answered(face, module, tmp_path, name):
    """Protects files with odd names: answered, written, drawn, one line for each record, and the name comes back."""
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
    save(tmp_path / "a.png", face).rename(path)
    found = inference.predict(path, module)
    assert found.error is None
    line = found.to_json()
    line.encode()
    assert "\n" not in line
    assert os.fsencode(json.loads(line)["file"]) == os.fsencode(path)
    (item,) = find.find_media([path])
    out = tmp_path / "out" / item.name
    found.to_csv(out.with_name(out.name + ".emozoo.csv"))
    found.plot(out.with_name(out.name + ".emozoo.png"))
    (table,) = (tmp_path / "out").glob("*.csv")
    assert len(table.read_text().splitlines()) == 2
    with table.open(newline="") as file:
        assert next(csv.DictReader(file))["label"] == found.label


def test_a_video_with_a_name_that_is_no_text(face, module, tmp_path, make_video):
    """Protects decoders: every library that opens a film or its audio gets along with bytes that are not UTF-8."""
    path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"\xff\xe9.avi")))
    make_video(tmp_path / "a.avi", frames=10, clicks=(0.1,)).rename(path)
    heard = EmotionModule("recursive_joint_attention", size="lite").eval()
    for asked in (module, heard):
        found = inference.predict(path, asked)
        assert found.error is None, found.error


def test_long_names_stay_apart(tmp_path):
    """Protects results: names that differ behind the place where they are cut get results of their own."""
    paths = [tmp_path / ("n" * 240 + f"{i}.png") for i in range(3)]
    names = [i.name for i in find.find_media(paths)]
    assert len(set(names)) == 3
    assert all(len(os.fsencode(n)) <= find.MAX_NAME for n in names)
    taken = [
        i.name for i in find.find_media([tmp_path / "x" / "a.png", tmp_path / "y" / "a-2.png", "a.png", "z/a.png"])
    ]
    assert len(set(taken)) == 4


def test_links_are_followed_and_never_in_circles(tmp_path, caplog):
    """Protects folders with links: linked ones are looked through, none twice, and circles end."""
    for name in ("in/a.png", "in/inner/b.png", "elsewhere/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "in" / "A_circle").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in" / "inner")
    (tmp_path / "in" / "other").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "self.png").symlink_to("self.png")
    items = find.find_media([tmp_path / "in"])
    assert [i.name for i in items] == ["a", "inner/b", "other/c", "self"]
    assert [r.getMessage().split(": ")[0].rsplit("/", 1)[-1] for r in caplog.records] == ["A_circle", "again"]


def test_folders_of_systems_are_passed_over(tmp_path):
    """Protects from thumbnails and leavings that file servers and archives put beside media."""
    for name in ("a.png", "@eaDir/a.png/x.jpg", "__MACOSX/._a.png", ".AppleDouble/a.png", "s/@eaDir/b.png", "s/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch() if not (tmp_path / name).is_dir() else None
    assert [i.name for i in find.find_media([tmp_path])] == ["a", "s/b"]


def test_a_folder_that_cannot_be_listed_is_said(face, module, tmp_path, monkeypatch, caplog):
    """Protects batches: a folder without permission costs its own files alone, and is named."""
    for name in ("a.png", "closed/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save(tmp_path / name, face)
    listing = os.scandir

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert [i.name for i in find.find_media([tmp_path])] == ["a"]
    assert "closed: cannot be listed (Permission denied)" in caplog.text
    assert [i.path.name for i in find.find_media([tmp_path / "closed", tmp_path / "a.png"])] == ["closed", "a.png"]


@pytest.mark.parametrize("kind", ["circle", "dangling", "below a file", "no bytes"])
def test_a_named_file_that_cannot_be_reached(face, module, tmp_path, kind):
    """Protects batches: each file by itself, also where the system refuses to look at one."""
    bad = tmp_path / "bad.png"
    if kind == "circle":
        bad.symlink_to("bad.png")
    elif kind == "dangling":
        bad.symlink_to("nowhere")
    elif kind == "below a file":
        bad = save(tmp_path / "file.png", face) / "bad.png"
    else:
        bad = Path("a\0b.png")
    files = [i.path for i in find.find_media([bad, save(tmp_path / "a.png", face)])]
    first, second = inference.predict(files, module)
    assert first.error
    assert second.scores


def test_results_of_an_earlier_run_are_no_input(face, module, tmp_path, caplog):
    """Protects `--out` in or below the folder of the media: annotated films and plots are not answered in turn."""
    save(tmp_path / "mine.png", face)
    found = inference.predict([face] * 5, module)
    (tmp_path / "out").mkdir()
    found.plot(tmp_path / "out" / "a.png")
    found.plot(tmp_path / "plot.png")
    assert find.is_ours(tmp_path / "plot.png")
    assert not find.is_ours(tmp_path / "mine.png")
    assert [i.name for i in find.find_media([tmp_path])] == ["mine"]
    assert "2 images and videos written by an earlier run passed over" in caplog.text
    assert [i.name for i in find.find_media([tmp_path / "plot.png"])] == ["plot"]  # asked for by name


# -- faces ---------------------------------------------------------------------------------------------------------


def row(face: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([face, face[:, ::-1]] * (count // 2) + [face] * (count % 2), axis=1)


def test_every_face_of_a_photograph_has_a_track(face, module, monkeypatch):
    """Protects photographs of groups: one track a face, the largest first; beyond the limit their number is said."""
    image = row(face, 3)
    image[:, 384:] = 0
    image[: 144 * 3 // 4, 384 : 384 + 144] = cv2.resize(face, (144, 108))
    found = inference.predict(image, module)
    sides = [t.timeline[0].box[2] - t.timeline[0].box[0] for t in found.tracks]
    assert len(sides) == 3
    assert sides == sorted(sides, reverse=True)
    assert [w["code"] for w in found.warnings] == ["still"]
    monkeypatch.setattr(opened, "MAX_TRACKS", 2)
    found = inference.predict(image, module)
    assert len(found.tracks) == 2
    (warning,) = [w for w in found.warnings if w["code"] == "more_faces"]
    assert warning["text"] == "1 more face got no timeline: 1 beyond the 2 that are largest"


def test_faces_of_a_short_clip_have_tracks(face, module):
    """Protects short clips: who is there throughout is no passer-by, however short the clip."""
    frames = [np.roll(row(face, 3), i // 4, axis=0) for i in range(20)]  # 0.8 s
    found = inference.predict(frames, module)
    assert len(found.tracks) == 3
    assert "more_faces" not in [w["code"] for w in found.warnings]


@pytest.mark.parametrize("count", [2, 4, 6])
def test_very_short_clips_show_their_face(face, module, count):
    """Protects clips of a few frames, where one look for faces is all there is time for."""
    assert inference.predict([face] * count, module).scores


def test_moments_without_the_face_are_gaps(face, module):
    """Protects timelines: an entry speaks of its own seconds; where they show no face, that is said."""
    black = np.zeros_like(face)
    found = inference.predict([black] * 50 + [face] * 50, module, every=1.0)
    assert [m.start_s for m in found.timeline] == [2.0, 3.0] or [m.start_s for m in found.timeline] == [1.0, 2.0, 3.0]
    assert "gaps" in [w["code"] for w in found.warnings]
    throughout = inference.predict([face] * 100, module)
    assert "gaps" not in [w["code"] for w in throughout.warnings]
    assert len(throughout.timeline) == 4


@pytest.mark.parametrize("where", ["first", "last"])
def test_a_face_that_is_shown_briefly_is_reached(face, module, where):
    """Protects the answer of a short file from the frames that sampling happens to skip."""
    black = np.zeros_like(face)
    frames = [face] * 12 + [black] * 60 if where == "first" else [black] * 60 + [face] * 12
    found = inference.predict(frames, module)
    assert found.scores
    assert found.timeline[0].box
    assert "no_face" not in [w["code"] for w in found.warnings]


def test_what_would_help_is_said(face, module):
    """Protects people whose face is not found: small, turned and hopeless images get a hint that fits."""

    def hint(image: np.ndarray) -> str:
        found = inference.predict(image, module)
        (warning,) = [w for w in found.warnings if w["code"] == "no_face"]
        assert warning["text"].startswith("no face was found; this model predicts from faces alone; ")
        return warning["text"]

    wide = np.full((480, 640, 3), 110, dtype=np.uint8)
    assert "faces smaller than 40 pixels are not looked for in an image of 640 x 480" in hint(wide)
    wide[60:120, 60:140] = cv2.resize(face, (80, 60), interpolation=cv2.INTER_AREA)
    assert "crop or enlarge it, or try the detector yunet" in hint(wide)
    on_its_side = np.ascontiguousarray(np.rot90(face))
    assert "a face was found after turning by 90° clockwise: turn the image or video" in hint(on_its_side)


def test_a_image_without_anything_in_it_is_said_to_be_plain(module):
    """Protects people from the advice to enlarge what is black, and from limits of 0 pixels."""
    texts = {}
    for name, image in {
        "black": np.zeros((240, 320, 3), np.uint8),
        "white": np.full((240, 320, 3), 254, np.uint8),
        "line": np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (20, 1, 3)),
    }.items():
        (warning,) = [w for w in inference.predict(image, module).warnings if w["code"] == "no_face"]
        texts[name] = warning["text"]
    assert "the images show one plain colour" in texts["black"]
    assert "the images show one plain colour" in texts["white"]
    assert "crop or enlarge it" not in texts["black"] + texts["white"]
    assert "faces smaller than 1 pixels" in texts["line"]


def test_a_face_upside_down_is_told_from_what_the_detector_takes_for_one(face, module, monkeypatch):
    """Protects answers from a false alarm: a doubtful face is told when a far surer one is seen after turning."""

    def look(scores):
        """A detector that sees one face in any image, by where the bright corner of it is."""

        def detect(image):
            corners = [image[0, 0], image[0, -1], image[-1, -1], image[-1, 0]]
            score = scores[int(np.argmax([int(c.sum()) for c in corners]))]
            return np.array([[90, 60, 200, 170, score]], dtype=np.float32)[: int(score > 0)]

        return lambda name: detect

    image = face.copy()
    image[:4, :4], image[:4, -4:], image[-4:, :4], image[-4:, -4:] = 255, 0, 0, 0
    for scores, told in {
        (1.5, 0, 6.0, 0): "after turning by 180°",
        (1.5, 7.0, 0, 0): "after turning by 90° clockwise",
        (1.5, 0, 2.9, 0): None,
        (6.0, 0, 30.0, 0): None,
    }.items():
        monkeypatch.setattr("emozoo.data.faces.detector", look(scores))
        found = inference.predict([image] * 5, module)
        texts = [w["text"] for w in found.warnings if w["code"] == "turned"]
        assert bool(texts) == bool(told), (scores, found.warnings)
        assert not told or told in texts[0]
        assert found.scores


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_of_no_windows_is_refused(face, module, size):
    """Protects from the answer that there is no face, where nothing was asked at all."""
    with pytest.raises(UsageError, match="batch_size must be at least 1"):
        inference.predict(face, module, batch_size=size)


def test_a_slow_time_lapse_is_asked_once_a_image(face, module, tmp_path, monkeypatch):
    """Protects time lapses: seconds that show the same frames share one answer, as if each had been asked alone."""
    path = tmp_path / "lapse.mkv"
    with av.open(str(path), "w") as box:
        video = box.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = face.shape[1], face.shape[0], "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        for i in range(4):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(face), format="rgb24")
            frame.pts, frame.time_base = 60_000 * i, Fraction(1, 1000)
            box.mux(video.encode(frame))
        box.mux(video.encode())
    asked = []
    step = module.predict_step
    monkeypatch.setattr(module, "predict_step", lambda batch, index=0: asked.append(len(batch)) or step(batch, index))
    found = inference.predict(path, module)
    monkeypatch.setattr(opened, "group_by_frames", lambda reader, windows: [[w] for w in windows])
    alone = inference.predict(path, module)
    assert len(found.timeline) > 100
    assert asked[0] == 4
    assert sum(asked[1:]) == len(alone.timeline)
    assert [m.start_s for m in found.timeline] == [m.start_s for m in alone.timeline]
    for one, other in zip(found.timeline, alone.timeline):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
