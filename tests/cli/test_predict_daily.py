"""`emozoo predict` for daily work: patterns, lists, cameras, and what other programs read of the results."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from cli.test_bulk import write_images
from faults import Warm
from PIL import Image

from emozoo import bulk, cli, live
from emozoo.data import find
from emozoo.errors import UsageError
from emozoo.inference import Predictor

Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process: exit code, lines of stdout and of stderr."""

    def once(*arguments: object, stdin: bytes = b"") -> tuple[int, list[str], list[str]]:
        monkeypatch.setattr("sys.argv", ["emozoo", "predict", *map(str, arguments)])
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(stdin)))
        code = cli.main()
        found = capsys.readouterr()
        return code, found.out.splitlines(), found.err.splitlines()

    return once


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Five images in two sub-folders, a broken video, and a text file that is no media."""
    folder = write_images(tmp_path / "clips", 6)
    (folder / "a" / "notes.txt").write_text("no media")
    return folder


# -- what is predicted ---------------------------------------------------------------------------------------------


def test_patterns_and_lists_are_plain_paths(run: Run, folder_of, images: Path, tmp_path: Path) -> None:
    """Protects quoted patterns and lists on stdin: the very results of the same files given one by one, and names of
    results that keep the folders below the fixed part of a pattern."""
    model = ("--model", folder_of("dfan"), "--json")
    paths = sorted(p for p in images.rglob("*.*") if p.suffix != ".txt")
    code, plain, _ = run(*paths, *model)
    assert (code, len(plain)) == (1, 6)
    names = [os.fsencode(p) for p in paths]
    lists = [b"\n".join(names) + b"\n", b"\r\n".join(names), b"\0".join(names) + b"\0"]
    lists += [codecs.BOM_UTF8 + lists[0], "\r\n".join(map(str, paths)).encode("utf-16")]  # as Windows writes lists
    assert [run("-", *model, stdin=given)[:2] for given in lists] == [(code, plain)] * 5
    assert run(images / "**", *model)[:2] == (code, plain)
    assert run(images / "?", *model)[:2] == (code, plain)  # folders
    assert run(images / "**" / "*.*", *model, "--out", tmp_path / "out")[:2] == (code, plain)
    assert (tmp_path / "out" / "a" / "000.json").is_file()
    assert run(images / "[ab]" / "*.png", *model)[:2] == (0, [line for line in plain if "broken" not in line])


def test_patterns_and_lists_that_name_nothing(run: Run, images: Path, folder_of, monkeypatch) -> None:
    """Protects from silence: nothing that matches, an empty list, and a list for several processes are one line."""
    model = ("--model", folder_of("dfan"), "--json")
    code, out, err = run(images / "*.mkv", *model)
    assert (code, out) == (2, [])
    assert err[0].startswith(f"error: {images / '*.mkv'}: no media file matches this pattern")
    code, _, err = run("-", *model, stdin=b"\n")
    assert (code, len(err)) == (2, 1)
    assert "no path on stdin" in err[0]
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="-: stdin is closed"):
        bulk.find_sources([Path("-")])
    (images / "a" / "000.png").rename(images / "a" / "take [1].png")
    code, out, _ = run(images / "a" / "take [1].png", *model)  # a file of that very name
    assert (code, len(out)) == (0, 1)
    code, out, _ = run("-", *model, stdin=os.fsencode(images / "a" / "gone *.png"))  # lists hold names, not patterns
    assert json.loads(out[0])["error"]["code"] == "missing"


# -- cameras -------------------------------------------------------------------------------------------------------


def without_name(line: str) -> dict:
    return {k: v for k, v in json.loads(line).items() if k != "file"}


@pytest.mark.parametrize("name", ["inner/long.mp4", "face.mp4", "two.mp4"])
def test_a_camera_is_a_video(run: Run, folder_of, media: Path, monkeypatch, name: str) -> None:
    """Protects live predictions: a recording in place of the camera gives what `predict` gives for its file, and a line
    for each second comes beside the JSON."""
    model = ("--model", folder_of("ceflnet"), "--json")
    _, (plain,), _ = run(media / name, *model)
    monkeypatch.setenv("EMOZOO_CAMERA", str(media / name))
    code, (seen,), err = run("0", *model)
    assert code == 0
    assert json.loads(seen)["file"] == "0"
    assert without_name(seen) == without_name(plain)
    if "long" in name:
        assert [line.split(" s: ")[0].strip() for line in err] == [f"{k}.0" for k in range(8)]


def test_a_camera_for_some_seconds(run: Run, folder_of, media: Path, monkeypatch, tmp_path: Path) -> None:
    """Protects --seconds and --out: as much is seen as was asked for, lines come on stdout, results in the folder."""
    monkeypatch.setenv("EMOZOO_CAMERA", str(media / "inner" / "long.mp4"))
    out = tmp_path / "out"
    code, lines, _ = run(
        "0", "--model", folder_of("caer_cross_attention"), "--seconds", "5", "--out", out, "--csv", "--plot", "--srt"
    )
    assert code == 0
    assert len([line for line in lines if " s: " in line and not line.startswith("0:")]) == 5
    assert sorted(p.name for p in out.iterdir()) == ["camera_0.csv", "camera_0.png", "camera_0.srt"]
    rows = list(csv.DictReader((out / "camera_0.csv").open()))
    assert float(rows[-1]["end_s"]) == pytest.approx(5)


def test_ctrl_c_ends_a_camera_with_its_result(run: Run, folder_of, person, monkeypatch) -> None:
    """Protects what was seen until Ctrl-C, the usual end of a camera: the result comes, and the exit code is 0."""

    def endless(*_: object) -> Iterator[tuple[float, np.ndarray]]:
        stopped = _[1]
        for i in range(10_000):
            if i == 60:
                os.kill(os.getpid(), signal.SIGINT)
            if stopped.is_set():
                return
            yield i / 10, person[0][i % 20]

    monkeypatch.setattr(live, "_frames", endless)
    code, (line,), _ = run("0", "--model", folder_of("ceflnet"), "--json")
    assert code == 0
    assert json.loads(line)["duration_s"] == pytest.approx(6)


def test_a_camera_needs_little_memory(folder_of, monkeypatch) -> None:
    """Protects hours in front of a camera: images of some seconds are held, of large images fewer a second."""
    monkeypatch.setattr(live, "MEMORY", 10 * 64 * 64 * 3 * 9)  # nine seconds of ten images each
    watched = live._Watched(Predictor(str(folder_of("ceflnet"))), "0")
    held = []
    for i in range(600):
        image = np.full((64, 64, 3), i % 200, dtype=np.uint8)
        for _ in watched.add(i / 20, image):
            pass
        held.append(len(watched._frames))
    assert max(held) <= 90
    assert max(held[300:]) <= max(held[:300])


class BreakingCamera:
    """Stands for OpenCV's camera: gives some images, then an error or, as where the cable is pulled, none."""

    def __init__(self, images: int, raises: bool) -> None:
        self.images, self.raises, self.released = images, raises, 0

    def isOpened(self) -> bool:
        return True

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.images -= 1
        if self.images < 0 and self.raises:
            raise cv2.error("the cable")
        if self.images < 0:
            return False, None
        return True, np.zeros((8, 8, 3), np.uint8)

    def release(self) -> None:
        self.released += 1


@pytest.mark.parametrize(("raises", "why"), [(True, "the cable"), (False, "it gives no more images")])
def test_a_camera_that_breaks_is_said(run: Run, folder_of, monkeypatch, raises: bool, why: str) -> None:
    """Protects hours in front of a camera that fails or is unplugged, and from taking that for an end: what was seen is
    predicted, one line says what happened, the exit code is 1, and the camera is released."""
    said = f"camera 0: cannot be read any more ({why})"
    camera = BreakingCamera(3, raises)
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: camera)
    code, out, err = run("0", "--model", folder_of("ceflnet"), "--json")
    assert (code, err[-1]) == (1, f"error: {said}")
    assert {"code": "camera_lost", "text": said} in json.loads(out[0])["warnings"]
    assert camera.released == 1
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: BreakingCamera(0, raises))
    code, out, err = run("0", "--model", folder_of("ceflnet"), "--json")
    assert (code, out, err) == (3, [], [f"error: {said}"])


def test_an_entry_that_cannot_be_read_costs_no_other(run: Run, folder_of, media: Path, monkeypatch) -> None:
    """Protects what a camera has shown: where the images of one moment cannot be used, the other moments stay."""
    reader, made = live.ClipReader, []

    def broken_once(*args: object, **options: object) -> object:
        made.append(1)
        if len(made) == 2:
            raise ValueError("images of two sizes")
        return reader(*args, **options)

    monkeypatch.setenv("EMOZOO_CAMERA", str(media / "inner" / "long.mp4"))
    monkeypatch.setattr(live, "ClipReader", broken_once)
    code, (line,), _ = run("0", "--model", folder_of("ceflnet"), "--json")
    assert code == 0
    assert [m["start_s"] for m in json.loads(line)["tracks"][0]["timeline"]] == [0, 2, 3, 4, 5, 6, 7]


def test_which_paths_are_cameras(run: Run, folder_of, images: Path, tmp_path: Path, monkeypatch) -> None:
    """Protects a file called 0, and from options that no camera can serve: one line each."""
    monkeypatch.chdir(tmp_path)
    assert live.is_camera(Path("0"))
    assert not live.is_camera(Path("clip.mp4"))
    assert not live.is_camera(Path("/dev/null"))
    assert not live.is_camera(Path("20240101123456"))  # a file that is not there
    (tmp_path / "0").write_bytes(b"no video")
    assert not live.is_camera(Path("0"))
    (tmp_path / "0").unlink()
    model = ("--model", folder_of("ceflnet"))
    monkeypatch.setenv("EMOZOO_CAMERA", "gone.mp4")
    for arguments, code, why in (
        (("0", images), 2, "give nothing else beside a camera"),
        (("0", "--out", "out", "--video"), 2, "need files"),
        (("0", "--seconds", "-1"), 2, "--seconds must be a positive number"),
        ((images, "--seconds", "1"), 2, "give a camera, such as 0"),
        (("0",), 3, "EMOZOO_CAMERA=gone.mp4: cannot be opened"),
    ):
        found, out, err = run(*arguments, *model)
        assert (found, out, len(err)) == (code, [], 1)
        assert why in err[0]
    monkeypatch.setenv("EMOZOO_CAMERA", "20240101123456")
    found, _, err = run("0", *model)
    assert (found, err[0][:52]) == (3, "error: EMOZOO_CAMERA=20240101123456: cannot be opene")


# -- what other programs read --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two videos, an image whose name is HTML, and a broken file."""
    folder = tmp_path_factory.mktemp("odd")
    for name, source in (("long.mp4", "inner/long.mp4"), ("two.mp4", "two.mp4"), ("x.mp4", "broken.mp4")):
        (folder / name).write_bytes((media / source).read_bytes())
    (folder / "<img src=x onerror=alert(1)>.png").write_bytes((media / "picture.png").read_bytes())
    return folder


@pytest.fixture
def everything(run: Run, folder_of, odd: Path, tmp_path: Path) -> tuple[Path, list[dict]]:
    """The results of that folder, with all that is written for other programs, and the JSON lines."""
    kinds = "--json", "--srt", "--elan", "--parquet", "--report"
    code, lines, err = run(odd, "--model", folder_of("ceflnet"), "--out", tmp_path / "out", *kinds)
    assert code == 1
    assert len([line for line in err if line.startswith("note: no ")]) == 2  # of the still
    return tmp_path / "out", [json.loads(line) for line in lines]


def test_results_for_other_programs(everything: tuple[Path, list[dict]], odd: Path) -> None:
    """Protects subtitles, ELAN tables and Parquet: the moments of the JSON, in the forms that other programs read."""
    out, records = everything
    of = {Path(r["file"]).stem: r for r in records}
    assert sorted(p.name for p in out.iterdir() if p.name[:3] in ("lon", "pre")) == [
        "long.elan.txt", "long.json", "long.srt", "predictions.csv", "predictions.html", "predictions.jsonl",
        "predictions.parquet",
    ]  # fmt: skip
    moments = of["long"]["tracks"][0]["timeline"]
    entries = (out / "long.srt").read_text().strip().split("\n\n")
    assert len(entries) == len(moments) == 8
    best = max(moments[3]["scores"], key=moments[3]["scores"].get)
    assert entries[3].splitlines() == ["4", "00:00:03,000 --> 00:00:04,000", f"{best} {moments[3]['scores'][best]:.2f}"]
    rows = [line.split("\t") for line in (out / "two.elan.txt").read_text().splitlines()]
    assert [row[0] for row in rows] == ["face 0 label", "face 1 label"]
    assert rows[0][1:3] == ["0", "2000"]
    assert rows[0][3] == of["two"]["label"]

    import polars

    table = polars.read_parquet(out / "predictions.parquet").to_dicts()
    flat = [(r["file"], t["id"], m["start_s"]) for r in records for t in r["tracks"] for m in t["timeline"]]
    assert [(row["file"], row["track"], row["start_s"]) for row in table] == flat
    assert [row["anger"] for row in table if row["file"].endswith("long.mp4")] == [
        m["scores"]["anger"] for m in moments
    ]
    for name in ("long.srt", "long.elan.txt", "predictions.parquet", "predictions.html", "predictions.csv"):
        assert find.is_ours(out / name), name
    own = odd.parent / "own.srt"
    own.write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n")
    assert not find.is_ours(own)


def test_the_table_counts_tracks_and_time(everything: tuple[Path, list[dict]]) -> None:
    """Protects the summary of a folder: how many tracks each file has, and how much of the time each label has."""
    out, records = everything
    for row, record in zip(csv.DictReader((out / "predictions.csv").open()), records, strict=True):
        assert int(row["tracks"]) == len(record["tracks"])
        if record["error"]:
            assert row["time_anger"] == ""
            continue
        times = {name: float(row[f"time_{name}"]) for name in record["classes"]}
        assert sum(times.values()) == pytest.approx(1, abs=1e-3)
        labels = [max(m["scores"], key=m["scores"].get) for m in record["tracks"][0]["timeline"]]
        assert times[labels[0]] == pytest.approx(labels.count(labels[0]) / len(labels), abs=1e-3)


class _Page(HTMLParser):
    """Tags of a page with their attributes, and its rows as text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.rows: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append("")

    def handle_data(self, data):
        if self.rows:
            self.rows[-1] += data


def test_the_report_is_one_safe_page(everything: tuple[Path, list[dict]]) -> None:
    """Protects a page that is passed on: all files with results and errors, drawn timelines, names as text, and nothing
    that is fetched from elsewhere."""
    out, records = everything
    text = (out / "predictions.html").read_text()
    page = _Page(text)
    assert len(page.rows) == 1 + len(records)
    for row, record in zip(page.rows[1:], records, strict=True):
        assert Path(record["file"]).name in row
        assert (record["error"]["code"] if record["error"] else record["label"]) in row
    assert [tag for tag, _ in page.tags].count("svg") == 2
    assert not {"img", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not [a for _, attributes in page.tags for a in attributes if a in ("src", "onerror", "onload")]
    assert all(a["href"].startswith("#") for tag, a in page.tags if tag == "a")
    assert not re.search(r"https?://|@import|url\(", text)
    assert "default-src 'none'" in text
    assert "The model and its limits" in text


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        ("recursive_joint_attention", ["The face that is seen longest.", "are lines", "polyline"]),
        ("dfan", ["Probabilities are bands"]),
    ],
)
def test_one_file_has_a_report(run: Run, folder_of, media: Path, tmp_path: Path, arch: str, said: list[str]) -> None:
    """Protects a report of a single file: it is called like the file, with no tables beside it, and names what it
    shows: faces, probabilities and lines where the model has them."""
    assert run(media / "face.mp4", "--model", folder_of(arch), "--out", tmp_path, "--report", "--csv")[0] == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["face.csv", "face.html"]
    page = (tmp_path / "face.html").read_text()
    parts = ["The face that is seen longest.", "Probabilities are bands", "are lines", "polyline"]
    assert [part for part in parts if part in page] == said


def test_parquet_names_what_is_missing(run: Run, images: Path, monkeypatch, tmp_path: Path) -> None:
    """Protects hours of work: that a library is missing is said first, with the line that installs it."""
    monkeypatch.setattr("emozoo.summary.find_spec", lambda name: None)
    code, _, err = run(images, "--out", tmp_path / "out", "--parquet")
    assert (code, err) == (2, ["error: --parquet needs polars: pip install 'emozoo[parquet]'"])


# -- interrupted ---------------------------------------------------------------------------------------------------


def test_ctrl_c_keeps_what_is_done(warm: Warm, folder_of, tmp_path: Path) -> None:
    """Protects hours of work from Ctrl-C: a line says how to go on, the same command predicts the rest alone, and its
    report has all files."""
    images = write_images(tmp_path / "images", 150)
    out = tmp_path / "out"
    arguments = (images, "--model", folder_of("dfan"), "--out", out, "--report")
    ended = warm.run("predict", *arguments, watch=out, moment=60, sent=signal.SIGINT)  # a few moments for each file
    assert ended.code == 130
    assert ended.err.splitlines()[-1] == "interrupted"
    done = re.search(r"(\d+) of 150 files are done: run the same command again to go on with the rest", ended.err)
    assert done
    assert 0 < int(done[1]) < 150
    ended = warm.run("predict", *arguments)
    assert ended.code == 1
    assert re.search(r"(\d+) of 150 files were predicted before", ended.err)[1] in (done[1], str(int(done[1]) - 1))
    assert len(_Page((out / "predictions.html").read_text()).rows) == 151


def test_help_fits(run: Run) -> None:
    """Protects `--help`: the new options are there, each with what it does."""
    _, out, _ = run("--help")
    for option in ("--smooth", "--min-face", "--max-tracks", "--seconds", "--srt", "--elan", "--parquet", "--report"):
        assert option in "\n".join(out)


def test_images_of_a_run_are_no_input(images: Path, tmp_path: Path) -> None:
    """Protects patterns from results of an earlier run: they are passed over, as in folders."""
    from PIL.PngImagePlugin import PngInfo

    mark = PngInfo()
    mark.add_text("Software", find.MARK)
    Image.new("RGB", (9, 9)).save(images / "a" / "000.explain.png", pnginfo=mark)
    assert [str(name) for _, name in find.matching(images / "a" / "*.png")] == ["000.png", "002.png", "004.png"]
