"""The data doctor: every kind of fault is found, named and given a cure; an audio data set gets no finding."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from emozoo.commands import data
from emozoo.data import doctor
from emozoo.errors import DatasetError, UsageError


def image(path: Path, seed: int, size: tuple[int, int] = (48, 48)) -> np.ndarray:
    """An image with structure: a few soft blobs, different for each seed."""
    r = np.random.default_rng(seed)
    image = cv2.resize(r.integers(0, 256, (6, 6), dtype=np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return image


def found(report: doctor.Report) -> set[tuple[str, str]]:
    return {(f.code, f.item) for f in report.findings}


@pytest.fixture
def audio_set(tmp_path: Path) -> Path:
    """Two classes in two splits, eight people, nothing wrong."""
    lines = ["path,label,split,actor"]
    for i in range(8):
        name = f"{'ab'[i % 2]}/{i}.png"
        image(tmp_path / name, i)
        lines.append(f"{name},{'ab'[i % 2]},{'train' if i < 4 else 'test'},p{i}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def add(root: Path, *lines: str) -> None:
    with (root / "manifest.csv").open("a") as f:
        f.writelines(line + "\n" for line in lines)


def test_nothing_wrong(audio_set: Path) -> None:
    """Protects against false alarms, and the JSON shape that programs read."""
    report = doctor.check(audio_set / "manifest.csv")
    data = json.loads(json.dumps(report.to_dict()))
    assert (data["items"], data["findings"], len(data["content_sha256"])) == (8, [], 64)
    assert "nothing wrong" in str(report)


def test_files_that_cannot_be_read(audio_set: Path) -> None:
    """Protects the list of bad files with reasons: missing, empty, not media, an empty folder of frames."""
    (audio_set / "zero.mp4").touch()
    (audio_set / "text.jpg").write_text("no image")
    (audio_set / "text.mp4").write_text("no video")
    (audio_set / "frames").mkdir()
    names = ("nowhere.mp4", "zero.mp4", "text.jpg", "text.mp4", "frames")
    add(audio_set, *(f"{n},a,train,q" for n in names))
    report = doctor.check(audio_set)
    assert found(report) == {
        ("missing", "nowhere"),
        ("empty", "zero"),
        ("empty", "frames"),
        ("unreadable", "text.jpg"),
        ("unreadable", "text.mp4"),
        ("name_collision", "text"),
    }
    assert all(f.text and f.fix and "\n" not in f.text for f in report.findings)


def test_copies(audio_set: Path) -> None:
    """Protects against leaks: the same bytes inside and across splits, under two labels, and re-coded copies."""
    data = (audio_set / "a/0.png").read_bytes()
    (audio_set / "same.png").write_bytes(data)
    (audio_set / "other.png").write_bytes((audio_set / "b/1.png").read_bytes())
    image = cv2.imread(str(audio_set / "a/2.png"))
    brighter = np.clip(image * 0.9 + 12, 0, 255).astype(np.uint8)
    cv2.imwrite(str(audio_set / "near.jpg"), cv2.resize(brighter, (72, 72)), [cv2.IMWRITE_JPEG_QUALITY, 60])
    add(audio_set, "same.png,b,train,x", "other.png,b,test,y", "near.jpg,a,test,z")
    report = doctor.check(audio_set)
    assert found(report) == {
        ("duplicate", "a/0"),
        ("label_conflict", "a/0"),
        ("duplicate_across_splits", "b/1"),
        ("near_duplicate_across_splits", "a/2"),
    }


def test_people_classes_names_boxes(tmp_path: Path) -> None:
    """Protects the checks of the table itself."""
    for i in range(6):
        image(tmp_path / f"{i}.png", i)
    image(tmp_path / "5.jpg", 50)
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    (tmp_path / "manifest.csv").write_text(
        "path,label,split,group,x1,y1,x2,y2\n"
        "0.png,a,train,ann,0,0,47,47\n"
        "1.png,a,test,ann,-2,0,20,20\n"
        "2.png,b,train,bob,50,50,60,60\n"
        "3.png,b,train,cid,0,0,0,0\n"
        "3.png,b,train,cid,0,0,0,0\n"
        "5.png,a,test,dan,,,,\n"
        "5.jpg,a,test,dan,,,,\n"
    )
    assert found(doctor.check(tmp_path)) == {
        ("box_outside", "1"),
        ("box_outside", "2"),
        ("name_collision", "5"),
        ("listed_twice", "3"),
        ("empty_class", "c"),
        ("empty_class", "b"),
        ("group_across_splits", "ann"),
    }


def test_per_frame_labels(tmp_path: Path) -> None:
    """Protects against training on a damaged file of valence and arousal."""
    image(tmp_path / "a.png", 1)
    (tmp_path / "va.csv").write_text("valence,arousal\n0.1,0.2\n0.3\n")
    (tmp_path / "manifest.csv").write_text("path,label,va_file\na.png,x,va.csv\n")
    (finding,) = doctor.check(tmp_path).findings
    assert finding.code == "bad_va"
    assert "line 3" in finding.text


def test_content_hash(audio_set: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Protects the identity of a data set: equal after a move, different after one changed byte or label."""
    first = doctor.check(audio_set).content_sha256
    moved = tmp_path_factory.mktemp("elsewhere") / "set"
    audio_set.rename(moved)
    assert doctor.check(moved).content_sha256 == first
    text = (moved / "manifest.csv").read_text()
    (moved / "manifest.csv").write_text(text.replace("a/0.png,a", "a/0.png,b"))
    assert doctor.check(moved).content_sha256 != first
    (moved / "manifest.csv").write_text(text)
    image(moved / "a/0.png", 99)
    assert doctor.check(moved).content_sha256 != first


def test_notes_are_not_findings(tmp_path: Path) -> None:
    """Protects the exit code: imbalance, unknown people and files that are no media are said, but are no fault."""
    for i in range(12):
        image(tmp_path / "train" / ("rare" if i == 0 else "often") / f"{i}.png", i)
        image(tmp_path / "val" / ("rare" if i == 0 else "often") / f"{i}.png", 100 + i)
    (tmp_path / "train/often/readme.txt").write_text("x")
    report = doctor.check("folder", tmp_path)
    assert not report.findings
    assert {n.code for n in report.notes} == {"imbalance", "no_group", "ignored_files", "no_face"}


def test_frames_of_a_still_scene_in_both_splits(tmp_path: Path) -> None:
    """Protects memory and readers: where all images look alike, each is one finding, which counts the others."""
    scene = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 6), np.uint8), (48, 48))
    lines = ["path,label,split"]
    for i in range(20):
        frame = scene.copy()
        frame[:2, :2] = 10 * i
        cv2.imwrite(str(tmp_path / f"{i}.png"), frame)
        lines.append(f"{i}.png,{'ab'[i % 2]},{'train' if i < 12 else 'val'}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    report = doctor.check(tmp_path)
    across = [f for f in report.findings if f.code == "near_duplicate_across_splits"]
    assert sorted(f.item for f in across) == sorted(map(str, range(12, 20)))
    assert all(f.text.startswith("in val looks like ") and f.text.endswith(" and 11 more") for f in across)
    conflicts = [f for f in report.findings if f.code == "near_label_conflict"]
    assert {f.item for f in conflicts} == {str(i) for i in range(20)} - {"11", "19"}


def test_alike_under_two_labels(audio_set: Path) -> None:
    """Protects against one photo under two names and labels, recompressed, in one split."""
    copy = cv2.imread(str(audio_set / "a/0.png"))
    cv2.imwrite(str(audio_set / "b/again.jpg"), cv2.resize(copy, (96, 96)))
    add(audio_set, "b/again.jpg,b,train,p0")
    report = doctor.check(audio_set)
    assert ("near_label_conflict", "a/0") in found(report)
    page = report.to_html()
    assert "near_label_conflict" in page
    assert "b/again" in page
    assert "http" not in page


def test_items_without_a_face_are_noted(audio_set: Path) -> None:
    """Protects the list of items in which a face model sees none."""
    (note,) = [n for n in doctor.check(audio_set).notes if n.code == "no_face"]
    assert "of 8 items examined" in note.text


def test_workers_agree(tmp_path: Path) -> None:
    """Protects the parallel path: processes find what one process finds."""
    for i in range(70):
        image(tmp_path / "ab"[i % 2] / f"{i}.png", i % 66)
    assert doctor.check(tmp_path, workers=2) == doctor.check(tmp_path, workers=1)


def test_wrong_target(tmp_path: Path) -> None:
    """Protects the messages for a name without root and for a path that is nothing."""
    with pytest.raises(UsageError, match="--root"):
        doctor.check("ferplus")
    with pytest.raises(DatasetError, match="neither"):
        doctor.check(tmp_path / "nothing")


def test_real_clips(shared: Path) -> None:
    """Protects the verdict on real damaged files: which cannot be used at all, and which in part."""
    report = doctor.check(shared / "data" / "clips" / "manifest.csv")
    by_code: dict[str, set[str]] = {}
    for f in report.findings:
        by_code.setdefault(f.code, set()).add(f.item)
    assert by_code["empty"] == {"zero_bytes"}
    assert {"not_a_video", "truncated"} <= by_code["unreadable"]
    assert by_code["broken_tail"] >= {"truncated_index_first"}
    assert "corrupt_middle" in by_code.get("broken_part", set()) | by_code["broken_tail"]
    faulty = set.union(*by_code.values())
    assert not faulty & {"base", "vfr", "rotated_90", "h264_422_10bit", "one_frame", "long_gop", "video_only"}


def test_cure_of_untimed_frames_names_a_column_that_is_read(tmp_path: Path) -> None:
    """Protects the advice for folders of frames: the column that it names is read."""
    for i in range(0, 40, 4):
        image(tmp_path / "frames" / f"{i:04d}.png", i)
    (tmp_path / "manifest.csv").write_text("path,label\nframes,a\n")
    (finding,) = [f for f in doctor.check(tmp_path).findings if f.code == "assumed_rate"]
    column = finding.fix.split("'")[1]
    (tmp_path / "manifest.csv").write_text(f"path,label,{column}\nframes,a,nowhere.mp4\n")
    assert "missing" in {f.code for f in doctor.check(tmp_path).findings}


def test_page_escapes_what_the_data_set_contains(tmp_path: Path) -> None:
    """Protects readers of the HTML report: names of files and classes are text, every finding and cure is shown."""
    for name in ("<b>", "a"):
        image(tmp_path / name / "x.png", 1)
    (tmp_path / "a" / "x & y.png").write_text("no image")
    report = doctor.check(tmp_path)
    page = report.to_html()
    assert "<b>" not in page
    assert "Classes in order: &lt;b&gt;, a" in page
    assert "x &amp; y" in page
    for finding in report.findings:
        assert f"<h2>{finding.code} (" in page


def test_names_are_printed_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects terminals and reports from names of files: escapes, line breaks and bytes that are no text are printed
    as backslash escapes, and programs read them as they are."""
    root = tmp_path / "data\x1b[0m"
    for name in (b"two\nduplicate: forged.png", b"\x1b[31mred.png", b"caf\xe9.png", b"\xe9\n/a.txt"):
        path = Path(os.fsdecode(os.fsencode(root / "c\nd") + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name)
    image(root / "c\nd" / "frames" / "1.png", 1)
    os.rename(os.fsencode(root / "c\nd" / "frames" / "1.png"), os.fsencode(root / "c\nd" / "frames") + b"/1\xe9.png")
    assert data.check(str(root), html=tmp_path / "r.html") == 1
    printed = capsys.readouterr().out
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    for text in (printed, page):
        assert not any(c not in "\n\t" and not c.isprintable() for c in text)
        for name in (r"c\nd/two\nduplicate: forged", r"c\nd/\x1b[31mred", r"c\nd/caf\udce9", r"c\nd/\udce9\n/a.txt"):
            assert name in text
    assert r"data\x1b[0m: 5 items" in printed
    items = {f["item"] for f in doctor.check(root).to_dict()["findings"]}
    assert {"c\nd/two\nduplicate: forged", "c\nd/\x1b[31mred", "c\nd/caf\udce9"} <= items
