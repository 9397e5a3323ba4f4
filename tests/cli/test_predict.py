"""`emozoo predict`: what a user gets for files of every kind, and what is written where."""

from __future__ import annotations

import csv
import json

import av
import pytest

KEYS = [
    "schema", "file", "model", "sha256", "detector", "streams_used", "classes", "duration_s", "fps", "label", "scores",
    "valence", "arousal", "aggregation", "tracks", "warnings", "error",
]  # fmt: skip


@pytest.fixture(scope="module")
def answered(emozoo, folder_of, media, tmp_path_factory):
    """The folder of media predicted once, everything written."""
    out = tmp_path_factory.mktemp("out")
    return emozoo(
        "predict", media, "--model", folder_of("ceflnet"), "--out", out, "--json", "--csv", "--plot", "--video"
    ), out


def by_name(done):
    return {line["file"].rsplit("/", 1)[-1]: line for line in done.lines}


def test_folder_is_answered_file_by_file(answered, media):
    """Protects batches: one line of JSON per media file, in order, the broken one among them, exit code 1."""
    done, _ = answered
    names = ["broken.mp4", "face.mp4", "inner/long.mp4", "no_face.mp4", "picture.png", "two.mp4"]
    assert [line["file"] for line in done.lines] == [str(media / n) for n in names]
    assert done.code == 1
    assert "Traceback" not in done.err
    first, second = done.err.splitlines()
    assert first.startswith(f"error: {media / 'broken.mp4'}: ")
    assert second.startswith("note: no video written")  # of the image


def test_json_has_the_documented_shape(answered):
    """Protects programs that read the JSON: keys in order, scores of all classes that add up to 1."""
    done, _ = answered
    for line in done.lines:
        assert list(line) == KEYS
    face = by_name(done)["face.mp4"]
    assert face["label"] in face["classes"]
    assert list(face["scores"]) == face["classes"]
    assert sum(face["scores"].values()) == pytest.approx(1, abs=1e-3)
    assert face["error"] is None
    assert face["streams_used"] == ["face"]
    moment = face["tracks"][0]["timeline"][0]
    assert list(moment) == ["start_s", "end_s", "scores", "valence", "arousal", "box"]
    x1, y1, x2, y2 = moment["box"]
    assert 0 <= x1 < x2 <= 192
    assert 0 <= y1 < y2 <= 144


def test_broken_file_is_an_answer(answered):
    """Protects batches from files that are no media: an error with code and text, nothing made up."""
    line = by_name(answered[0])["broken.mp4"]
    assert set(line["error"]) == {"code", "text"}
    assert (line["label"], line["scores"], line["tracks"]) == (None, None, [])


def test_no_face_is_said(answered):
    """Protects from guesses: a face model without a face answers null, with a warning, and that is no failure."""
    line = by_name(answered[0])["no_face.mp4"]
    assert line["error"] is None
    assert line["label"] is None
    assert [w["code"] for w in line["warnings"]] == ["no_face"]
    assert (line["streams_used"], line["tracks"]) == ([], [])


def test_two_faces_are_two_tracks(answered):
    """Protects several people in one video: each has a timeline and a place."""
    tracks = by_name(answered[0])["two.mp4"]["tracks"]
    assert [t["id"] for t in tracks] == [0, 1]
    left, right = sorted((t["timeline"][0]["box"] for t in tracks), key=lambda box: box[0])
    assert left[2] < 192 + 40 < right[2]


def test_image_says_that_nothing_moved(answered):
    """Protects stills: they are answered, and the result says that nothing temporal was seen."""
    line = by_name(answered[0])["picture.png"]
    assert line["label"] is not None
    assert "still" in [w["code"] for w in line["warnings"]]


def test_long_file_has_a_timeline(answered):
    """Protects long media: an entry each second, without gaps, and the mean over them as the file's result."""
    line = by_name(answered[0])["long.mp4"]
    moments = line["tracks"][0]["timeline"]
    assert [m["start_s"] for m in moments] == [float(k) for k in range(8)]
    assert moments[-1]["end_s"] == pytest.approx(line["duration_s"], abs=0.01)
    mean = sum(m["scores"]["anger"] for m in moments) / len(moments)
    assert line["scores"]["anger"] == pytest.approx(mean, abs=2e-3)


def test_files_are_written_beside_each_other(answered):
    """Protects --out: sub-folders are kept, nothing is left half, a broken file has its JSON alone."""
    _, out = answered
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert [n for n in names if n.startswith("inner")] == [f"inner/long.{s}" for s in ("csv", "json", "mp4", "png")]
    assert [n for n in names if n.startswith("broken")] == ["broken.json"]
    assert "picture.mp4" not in names
    assert not [n for n in names if n.split("/")[-1].startswith(".")]


def test_csv_is_the_timeline(answered):
    """Protects the table: a line per moment with a column per class, the same numbers as the JSON."""
    done, out = answered
    line = by_name(done)["long.mp4"]
    with (out / "inner" / "long.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["start_s"]) for r in rows] == [m["start_s"] for m in line["tracks"][0]["timeline"]]
    assert [float(r["anger"]) for r in rows] == [m["scores"]["anger"] for m in line["tracks"][0]["timeline"]]
    assert json.loads((out / "inner" / "long.json").read_text()) == line


def test_video_keeps_images_and_audio(answered, media):
    """Protects the annotated video: same size, same number of frames at the same times, audio still there."""
    _, out = answered
    with av.open(str(out / "face.mp4")) as made, av.open(str(media / "face.mp4")) as source:
        assert [s.type for s in made.streams] == ["video", "audio"]
        new, old = list(made.decode(video=0)), list(source.decode(video=0))
    assert [round(f.time, 3) for f in new] == [round(f.time, 3) for f in old]
    assert (new[0].width, new[0].height) == (192, 144)
    difference = abs(new[5].to_ndarray(format="rgb24").astype(int) - old[5].to_ndarray(format="rgb24")).max(-1) > 60
    assert 0.02 < difference.mean() < 0.6  # something is drawn, most of the image is left


def test_source_is_never_overwritten(emozoo, folder_of, media, tmp_path):
    """Protects a user's own video from `--out` in its own folder."""
    mine = tmp_path / "face.mp4"
    mine.write_bytes((media / "face.mp4").read_bytes())
    done = emozoo("predict", mine, "--model", folder_of("ceflnet"), "--out", tmp_path, "--video")
    assert done.code == 0, done.err
    assert mine.read_bytes() == (media / "face.mp4").read_bytes()
    assert (tmp_path / "face.emozoo.mp4").is_file()


def test_valence_and_arousal_over_time(emozoo, folder_of, media):
    """Protects the audio-visual model: a curve clip by clip, both streams named; without audio the face answers."""
    model = folder_of("recursive_joint_attention")
    done = emozoo("predict", media / "face.mp4", media / "two.mp4", "--model", model, "--json")
    assert done.code == 0, done.err
    heard, silent = done.lines
    assert heard["streams_used"] == ["face", "audio"]
    assert len(heard["tracks"][0]["timeline"]) > 1
    assert all(-1 <= m[k] <= 1 for m in heard["tracks"][0]["timeline"] for k in ("valence", "arousal"))
    assert heard["valence"] is not None
    assert heard["label"] is None
    assert silent["streams_used"] == ["face"]
    assert "no_audio" in [w["code"] for w in silent["warnings"]]
    assert silent["valence"] is not None


@pytest.mark.parametrize("arch", ["caer_cross_attention", "dfan"])
def test_models_with_a_scene_answer_without_a_face(emozoo, folder_of, media, arch):
    """Protects files without a face where the scene can answer: a label, and which streams it came from."""
    line = emozoo("predict", media / "no_face.mp4", "--model", folder_of(arch), "--json").lines[0]
    assert line["label"] in line["classes"]
    assert "face" not in line["streams_used"]
    assert line["streams_used"]
    assert line["tracks"][0]["timeline"][0]["box"] is None
    assert ("no_face" in [w["code"] for w in line["warnings"]]) == (arch == "caer_cross_attention")


def test_shared_clips_are_answered_as_their_manifest_expects(emozoo, folder_of, shared):
    """Protects real files: every clip answered, readable ones without error, broken ones with one line each."""
    clips = shared / "data" / "clips"
    with (clips / "manifest.csv").open(newline="") as file:
        expected = {r["path"]: r["expected"] for r in csv.DictReader(file)}
    done = emozoo("predict", clips, "--model", folder_of("ceflnet"), "--json")
    lines = by_name(done)
    assert set(lines) == set(expected)
    assert done.code == 1
    assert "Traceback" not in done.err
    for name, text in expected.items():
        error = lines[name]["error"]
        if text.startswith("readable"):
            assert error is None, name
        elif text.startswith(("clear error", "audio readable")):
            assert error, name
    assert sum(line["error"] is not None for line in done.lines) == len(done.err.strip().splitlines())
    assert all(lines[f"liveportrait_d{n}.mp4"]["label"] for n in (18, 19, 20))
    assert lines["pyfeat_single_face.mp4"]["label"]
    assert lines["pyfeat_no_face.mp4"]["label"] is None
    assert len(lines["facenet_crowd.mp4"]["tracks"]) >= 2
