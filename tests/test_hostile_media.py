"""Hostile and broken media: no file ends or hangs its reader, or takes its memory; each bad one is named."""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soak_table
from hostile_media import BAD, COSTLY, GOOD, Case, animation, bomb, corpus, deep_png, hole, silent_wav, still, write
from PIL import Image

from emozoo import inference, registry
from emozoo.data import container, datasets, doctor, media
from emozoo.data.clips import ClipReader
from emozoo.data.examine import examine
from emozoo.errors import VideoError
from emozoo.recognizer import Recognizer

ROOT = Path(__file__).resolve().parents[1]
DOORS = ("predict", "check", "datamodule")
SECONDS = 90.0  # for a file, on a busy machine
MOST_MIB, MOST_MIB_LARGE = 400, 2000  # beyond what the process has, for a file, and for one of very many pixels
UNUSABLE = {"missing", "empty", "unreadable", "broken"}  # to every reader alike
CODES = UNUSABLE | {"no_video", "no_audio"}


class Child:
    """A process that takes media through the doors; it is started again after it ended, or was ended."""

    def __init__(self, noise: Path) -> None:
        self.noise = noise
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with self.noise.open("ab") as stderr:
            return subprocess.Popen(
                [sys.executable, str(ROOT / "tests" / "media_job.py")],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=env,
            )  # fmt: skip

    def ask(self, door: str, paths: Sequence[Path], seconds: float = SECONDS) -> tuple[Any, float]:
        """The answers by name, or a line that says what happened instead, and MiB of memory."""
        if self.process is None or self.process.poll() is not None:
            self.process = self.start()
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([door, [str(path) for path in paths]]).encode() + b"\n")
        process.stdin.flush()
        answer, end = b"", time.monotonic() + seconds
        while not answer.endswith(b"\n"):
            if not select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                self.stop()
                return "hung", 0.0
            part = os.read(process.stdout.fileno(), 1 << 16)
            if not part:
                return f"died: {process.wait()}", 0.0
            answer += part
        found, mib = json.loads(answer)
        return found, mib

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    one = Child(tmp_path_factory.mktemp("noise") / "stderr.txt")
    yield one
    one.stop()


def faults(door: str, case: Case, found: Any, mib: float) -> list[str]:
    """What is wrong with the answer of a door for a file: a line for each fault."""
    if isinstance(found, str):
        return [found]
    if list(found) != [case.path.name]:
        return [f"{len(found)} answers"]
    reasons, value, warnings = found[case.path.name]
    most = MOST_MIB_LARGE if case.path.name in COSTLY else MOST_MIB
    wrong = [f"{mib:.0f} MiB"] * (mib > most)
    if len(reasons) > 1:
        wrong.append("several reasons")
    if reasons and value and any(v is not None for v in value):
        wrong.append("a reason and a result")
    for code, text in (*reasons, *warnings):
        if not text or "\n" in text or len(text) > 300:
            wrong.append(f"not one line: {text!r}")
        if code == "internal":
            wrong.append(f"not classified: {text}")
    wrong += ["not refused"] * (case.expected == BAD and not reasons)
    wrong += [f"refused: {reasons}"] * (case.expected == GOOD and bool(reasons))
    return wrong


def run(child: Child, cases: Sequence[Case], count: Callable[[str, float], object]) -> dict[str, dict[str, Any]]:
    """Takes each file through each door alone; returns the answers. ``count`` is given each outcome, and MiB."""
    answers: dict[str, dict[str, Any]] = {door: {} for door in DOORS}
    wrong = []
    for case in cases:
        for door in DOORS:
            found, mib = child.ask(door, [case.path])
            own = faults(door, case, found, mib)
            wrong += [f"{door} {case.path.name}: {line}" for line in own]
            count("hung" if found == "hung" else "lost" if own else "survived", mib)
            answers[door] |= found if isinstance(found, dict) else {}
        predicted, checked, loaded = (reason_of(answers[door].get(case.path.name)) for door in DOORS)
        if predicted != checked and {predicted, checked} & UNUSABLE:
            wrong.append(f"{case.path.name}: predict says {predicted}, check {checked}")
        if bool(predicted) != bool(loaded):
            wrong.append(f"{case.path.name}: predict says {predicted}, the data module {loaded}")
    assert not wrong, "\n".join(wrong)
    return answers


def reason_of(answer: Any) -> str:
    """The code of the reason of an answer; empty without one."""
    return answer[0][0][0] if answer and answer[0] else ""


def compare(child: Child, cases: Sequence[Case], alone: dict[str, dict[str, Any]], folder: Path) -> None:
    """All files at once get the answers that each got alone."""
    for door in DOORS:
        paths = [folder] if door == "predict" else [case.path for case in cases]
        found, _ = child.ask(door, paths, SECONDS * 10)
        assert isinstance(found, dict), found
        assert found.keys() == alone[door].keys()
        for name, (reasons, value, warnings) in found.items():
            own_reasons, own_value, own_warnings = alone[door][name]
            assert (reasons, warnings) == (own_reasons, own_warnings), (door, name)
            if door == "predict":  # a batch of many images rounds otherwise than one of a few
                value, own_value = (np.array(v, dtype=float) for v in (value, own_value))
                np.testing.assert_allclose(value, own_value, atol=1e-3, err_msg=name)
            else:
                assert value == own_value, (door, name)


def test_hostile_files_are_answered(child: Child, tmp_path: Path) -> None:
    """Protects every reader: files of all kinds and damages, a few of each, are read or refused in one line."""
    cases = corpus(tmp_path, 0, 60)
    alone = run(child, cases, lambda outcome, mib: None)
    compare(child, cases, alone, tmp_path)


@pytest.mark.soak(600)
@pytest.mark.parametrize("seed", [1])
def test_a_thousand_hostile_files_are_answered(
    child: Child, tmp_path: Path, tally: Callable[[str, int], soak_table.Tally], seed: int
) -> None:
    """Protects every reader: the whole corpus, through every door; alone and all together get the same answers."""
    row = tally("media: predict and check and data module", seed)

    def count(outcome: str, mib: float) -> None:
        setattr(row, outcome, getattr(row, outcome) + 1)
        row.memory(mib)

    cases = corpus(tmp_path, seed)
    assert len(cases) >= 500
    alone = run(child, cases, count)
    assert row.lost == row.hung == 0
    compare(child, cases, alone, tmp_path)


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    """Protects reruns: a file that once broke something can be written again."""
    one, two, other = (corpus(tmp_path / name, seed, 40) for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    contents = [[case.path.read_bytes() for case in cases] for cases in (one, two, other)]
    assert contents[0] == contents[1] != contents[2]


def test_a_hole_of_a_day_in_audio_takes_no_memory(tmp_path: Path) -> None:
    """Protects memory: audio that goes on a day later, in a file that announces no length, is not a day of zeros."""
    path = tmp_path / "a.mkv"
    hole(path, 86000)
    images = media.open_frames(path)
    tracemalloc.start()
    try:
        audio = media.AudioTrack(path, 16000, media.read_header(path), images.clock)
        assert audio.duration == pytest.approx(86001, abs=1)
        assert np.abs(audio.read(86000, 86001)).max() > 0.1
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_a_file_of_years_is_refused(tmp_path: Path) -> None:
    """Protects time and memory: two images that lie years apart by their time stamps make no timeline of years."""
    path = tmp_path / "a.mkv"
    write(path, times=[0.0, 1e9])
    (tmp_path / "manifest.csv").write_text("path,label\na.mkv,happy\n")
    (finding,) = doctor.check(tmp_path, workers=1).findings
    with pytest.raises(VideoError, match=r"more than 7 are not read; .* time stamps anew"):
        ClipReader(path, registry.MODELS["ceflnet"].specs["lite"])
    assert (finding.code, finding.text[:5]) == ("unreadable", "lasts")


def test_decord_gets_no_file_with_long_gaps(tmp_path: Path) -> None:
    """Protects the process: decord allocates for a gap of years, which ends it. The index decides what it is given."""
    write(tmp_path / "a.mkv", times=[0.0, 1e9])
    write(tmp_path / "b.mkv")
    assert [media._index(str(tmp_path / name)).simple for name in ("a.mkv", "b.mkv")] == [False, True]


@pytest.mark.parametrize("text", ["ffconcat version 1.0\nfile real.mp4\n", "#EXTM3U\n#EXTINF:9,\nreal.mp4\n"])
def test_a_file_opens_no_other_file(tmp_path: Path, text: str) -> None:
    """Protects files of the machine: a playlist that is called a film shows nothing of the film that it names."""
    write(tmp_path / "real.mp4")
    (tmp_path / "a.mp4").write_text(text)
    with pytest.raises(VideoError, match="can be opened"):
        media.open_container(tmp_path / "a.mp4")
    media.open_container(tmp_path / "real.mp4").close()


def test_a_name_is_no_pattern(tmp_path: Path) -> None:
    """Protects files of the machine: an image that is called `a%d.tga` does not show a0.tga and those behind it."""
    for name, brightness in (("a%d.tga", 200), ("a0.tga", 0), ("a1.tga", 0)):
        Image.new("RGB", (8, 8), (brightness,) * 3).save(tmp_path / name)
    with media.open_container(tmp_path / "a%d.tga") as box:
        assert [frame.to_ndarray(format="rgb24").min() for frame in box.decode(video=0)] == [200]


def test_a_part_of_a_raw_video_does_not_open_the_next(tmp_path: Path) -> None:
    """Protects files of the machine: raw video (MLV) goes on in files of its name that end in .m00, .m01 ..."""
    header = b"MLVI\x34\0\0\0v2.0" + bytes(12) + struct.pack("<HHIHHIIII", 0, 2, 0, 1, 0, 1, 0, 25, 1)
    (tmp_path / "a.mp4").write_bytes(header + b"RAWI" + struct.pack("<I8xHH160x", 180, 64, 48))
    os.mkfifo(tmp_path / "a.m00")
    with pytest.raises(VideoError, match="can be opened"):  # opening the pipe would not end
        media.open_container(tmp_path / "a.mp4")


def test_many_tracks_cost_no_more_than_a_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects time: of a hundred audio tracks the first few are compared, each of which is opened."""
    write(tmp_path / "a.mkv", None, audio="pcm_s16le", tracks=100)
    opened: list[object] = []
    open_container = container.open_container
    monkeypatch.setattr(container, "open_container", lambda path: opened.append(path) or open_container(path))
    assert media.read_header(tmp_path / "a.mkv").audio_index >= 0
    assert len(opened) <= container.MOST_TRACKS + 1


def test_images_of_many_pixels_are_not_held_together(tmp_path: Path) -> None:
    """Protects memory: images are read together by their pixels, not by the bytes of their files alone."""
    for i in range(3):
        bomb(tmp_path / f"{i}.png", (8192, 8192))
    for i in range(3, 6):
        still(tmp_path / f"{i}.png")
    groups = inference._groups(sorted(tmp_path.iterdir()))
    assert [len(group) for group in groups] == [1, 1, 1, 3]


def test_images_whose_pixels_are_not_known_are_read_alone(tmp_path: Path) -> None:
    """Protects memory: Pillow tells no size above 179 million pixels, and none of HEIC before the first one is read."""
    for i in range(2):
        bomb(tmp_path / f"{i}.png")  # as many pixels as are read at most
        (tmp_path / f"{i}.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50))
    assert [len(group) for group in inference._groups(sorted(tmp_path.iterdir()))] == [1, 1, 1, 1]


def test_headers_of_images_are_read_as_they_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the wait for the first result: of 100,000 images, those of the next group are looked at, not all."""
    paths = [tmp_path / f"{i:03}.png" for i in range(200)]
    for path in paths:
        still(path, size=(8, 8))
    looked: list[object] = []
    monkeypatch.setattr(inference, "pixels_of", lambda path: looked.append(path) or 64)
    predictor = inference.Predictor(Recognizer("recursive_joint_attention", size="lite").eval())
    assert next(predictor.predict_all(paths)).file == str(paths[0])
    assert 0 < len(looked) <= 3 * inference.IMAGES


def test_a_pipe_that_is_called_an_image_is_refused(tmp_path: Path) -> None:
    """Protects whoever waits: opening a pipe, only to learn its size in pixels, may never end."""
    os.mkfifo(tmp_path / "a.png")
    still(tmp_path / "b.png")
    assert [len(group) for group in inference._groups([tmp_path / "a.png", tmp_path / "b.png"])] == [1, 1]


def test_an_animation_whose_frame_claims_too_much_is_broken(tmp_path: Path) -> None:
    """Protects batches: a frame larger than any that is decoded ends neither check nor training."""
    animation(tmp_path / "a.gif", 3, 100)
    data = (tmp_path / "a.gif").read_bytes()
    at = data.rindex(b"\x2c\0\0\0\0") + 5  # the size of the last frame
    (tmp_path / "a.gif").write_bytes(data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :])
    images = media.open_image(tmp_path / "a.gif")
    assert [w.code for w in images.warnings] == ["broken_tail"]
    assert len(list(images.frames([0, 1]))) == 2


@pytest.mark.parametrize("mode", ["RGB", "P", "L", "1", "RGBA", "LA", "I;16"])
def test_damaged_pixels_of_a_png_are_mentioned(tmp_path: Path, capfd: pytest.CaptureFixture[str], mode: str) -> None:
    """Protects results from pixels that were never there: a PNG whose checksums fail is no whole one, said once."""
    (deep_png if mode == "I;16" else partial(still, mode=mode))(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[-14] ^= 1  # in the checksum of the pixels
    (tmp_path / "a.png").write_bytes(data)
    _, notes = media.read_image(tmp_path / "a.png")
    assert [w.code for w in notes] == ["broken_part"]
    assert capfd.readouterr() == ("", "")


def test_damaged_frames_of_an_animated_png_are_mentioned(tmp_path: Path) -> None:
    """Protects results from pixels that were never there, also in the frames of an animation."""
    animation(tmp_path / "a.png", 3, 100)
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[-14] ^= 1  # in the checksum of the last frame
    (tmp_path / "a.png").write_bytes(data)
    assert [w.code for w in media.open_image(tmp_path / "a.png").warnings] == ["broken_part"]


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA", "LA"])
def test_a_png_without_its_end_is_refused(tmp_path: Path, mode: str) -> None:
    """Protects against half a file: every PNG that is cut off is refused, whatever its colors."""
    still(tmp_path / "a.png", mode)
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-12])
    with pytest.raises(VideoError, match="cut off"):
        media.read_image(tmp_path / "a.png")


def test_audio_that_is_too_short_has_a_reason(tmp_path: Path) -> None:
    """Protects whoever reads the reason: audio without samples, or with one, is named as what it is."""
    paths = [tmp_path / "none.wav", tmp_path / "one.wav"]
    for samples, path in enumerate(paths):
        silent_wav(path, 16000, samples)
    found = inference.predict(paths, Recognizer("recursive_joint_attention", size="lite").eval())
    assert [p.error and p.error["code"] for p in found] == ["broken", "no_audio"]


def test_audio_beside_images_is_as_long_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the doctor's word: audio that is longer than media may be is no fault where the images are not."""
    write(tmp_path / "a.mkv", times=[0.0, 0.1], audio="pcm_s16le")
    monkeypatch.setattr(container, "MOST_S", 0.5)
    ClipReader(tmp_path / "a.mkv", registry.MODELS["recursive_joint_attention"].specs["lite"]).close()
    (tmp_path / "manifest.csv").write_text("path,label\na.mkv,happy\n")
    (facts,) = examine(datasets.load("csv", tmp_path).rows, workers=1)
    assert not facts.faults


@pytest.mark.parametrize(("limit", "box"), [(0.5, None), (9.0, (90, 90, 95, 95))], ids=["too long", "empty box"])
def test_a_file_that_is_refused_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float, box: tuple[int, ...] | None
) -> None:
    """Protects long runs: a file that is refused after it was opened does not stay open."""
    write(tmp_path / "a.mkv")
    monkeypatch.setattr(container, "MOST_S", limit)
    images = media.open_frames(tmp_path / "a.mkv")
    closed: list[bool] = []
    monkeypatch.setattr(images, "close", lambda: closed.append(True))
    with pytest.raises(VideoError):
        ClipReader("a.mkv", registry.MODELS["ceflnet"].specs["lite"], images=images, box=box)
    assert closed


def test_images_are_examined_where_the_audio_has_no_decoder(tmp_path: Path) -> None:
    """Protects the doctor's view: audio that cannot be decoded is mentioned, the images are examined."""
    write(tmp_path / "a.mkv", audio="pcm_s16le")
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(data.replace(b"A_PCM/INT/LIT", b"A_ZZZ/INT/LIT"))
    (tmp_path / "manifest.csv").write_text("path,label\na.mkv,happy\n")
    (facts,) = examine(datasets.load("csv", tmp_path).rows, workers=1)
    assert [code for code, _ in facts.faults] == ["no_audio"]
    assert facts.size == (64, 48)
