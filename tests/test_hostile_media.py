"""Hostile and broken media: no file ends or hangs the process that reads it, or takes its memory; each bad one is named."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_media import BAD, GOOD, Case, bomb, corpus, hole, still, write

from emozoo import inference, registry
from emozoo.data import container, doctor, media
from emozoo.data.clips import ClipReader
from emozoo.errors import VideoError

ROOT = Path(__file__).resolve().parents[1]
DOORS = ("predict", "check", "datamodule")
SECONDS = 60.0  # for a file, on a busy machine
MOST_MIB = 1200.0


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
    with pytest.raises(VideoError, match="lasts 1.16e\\+04 days"):
        ClipReader(path, registry.MODELS["ceflnet"].specs["lite"])
    assert (finding.code, finding.text[:5]) == ("unreadable", "lasts")


@pytest.mark.parametrize("text", ["ffconcat version 1.0\nfile real.mp4\n", "#EXTM3U\n#EXTINF:9,\nreal.mp4\n"])
def test_a_file_opens_no_other_file(tmp_path: Path, text: str) -> None:
    """Protects files of the machine: a playlist that is called a film shows nothing of the film that it names."""
    write(tmp_path / "real.mp4")
    (tmp_path / "a.mp4").write_text(text)
    with pytest.raises(VideoError, match="cannot be opened|can be opened"):
        media.open_container(tmp_path / "a.mp4")
    media.open_container(tmp_path / "real.mp4").close()


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
        bomb(tmp_path / f"{i}.png", 8192, 8192)
    for i in range(3, 6):
        still(tmp_path / f"{i}.png")
    groups = inference._groups(sorted(tmp_path.iterdir()))
    assert [len(group) for group in groups] == [1, 1, 1, 3]
