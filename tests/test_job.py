"""The journals of a job on many files: damaged lines, clocks that differ, and what is said while it waits."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emozoo import bulk, journal
from emozoo.errors import EmozooError
from emozoo.journal import Journal
from emozoo.prediction import FaceTrack, Moment, Prediction

Open = Callable[..., bulk.Job]


def test_a_sign_of_life_that_cannot_be_sent_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the file that is predicted while object storage is out of reach: what was not sent comes later."""

    class Away:
        sent: dict[str, bytes] | None = None

        def put(self, key: str, data: bytes) -> None:
            if self.sent is None:
                raise EmozooError("object storage is out of reach")
            self.sent[key] = data

    away = Away()
    monkeypatch.setattr(journal, "SIGN_S", 0.0)
    own = journal.BucketJournal(away, "in", tmp_path / "work")  # type: ignore[arg-type]
    own.open(0)
    own.append("a.mp4", "a", [], [], None, "{}")
    own.alive()
    with pytest.raises(EmozooError, match="out of reach"):
        own.close()
    away.sent = {}
    own.alive()
    own.append("b.mp4", "b", [], [], None, "{}")
    own.close()
    lines = b"".join(data for _, data in sorted(away.sent.items())).splitlines()
    assert [json.loads(line.partition(b"\t")[0])["file"] for line in lines] == ["a.mp4", "b.mp4"]


@pytest.fixture
def sources(tmp_path: Path) -> list[bulk.Source]:
    """Three files."""
    paths = [tmp_path / f"f{i}.mp4" for i in range(3)]
    for path in paths:
        path.write_bytes(b"x")
    return [bulk.Source(str(path), path.stem, path) for path in paths]


@pytest.fixture
def start(sources: list[bulk.Source], tmp_path: Path) -> Iterator[Open]:
    """``start()``: a run of the command on these files, as far as its journals are concerned."""
    opened: list[bulk.Job] = []

    def one(rank: int = 0, world: int = 1) -> bulk.Job:
        for job in opened:
            job.close()
        opened.append(bulk.Job(bulk.Results(tmp_path / "out"), sources, ["options"], rank, world))
        return opened[-1]

    yield one
    opened[-1].close()


def result(source: bulk.Source) -> Prediction:
    scores = {"calm": 0.75, "angry": 0.25}
    track = FaceTrack(0, "calm", scores, [Moment(0.0, 1.0, scores)])
    return Prediction(
        source.file, "m", "0" * 64, None, [*scores], duration_s=1.0, label="calm", scores=scores, tracks=[track]
    )


def work(job: bulk.Job, written: list[str] | None) -> None:
    """Notes every file that is still to be predicted; None: its results could not be written."""
    for source in job.todo:
        job.note(source, result(source), written)


def journal_of(tmp_path: Path, rank: int = 0) -> Path:
    return next((tmp_path / "out" / bulk.WORK).glob(f"*/{rank:05d}.jsonl"))


def ends_well(job: bulk.Job, tmp_path: Path) -> None:
    """The job ends with a whole table and nothing left behind."""
    assert job.wait(lambda done: None) == []
    assert job.finish()
    assert not (tmp_path / "out" / bulk.WORK).exists()
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert [Path(json.loads(line)["file"]).stem for line in lines] == ["f0", "f1", "f2"]


@pytest.mark.parametrize("checked", [True, False], ids=["with checksums", "of an earlier version"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"schema":1,', b'"schema":\0\0'),  # in the prediction, which keeps its length
        (b'"name": "f0"', b'"name": ["f0"]'),
        (b'{"file"', b"1\t" + b'{"file"'),  # a head that is JSON, but no object
        (b'{"file": ', b"\0" * 9),
    ],
    ids=["prediction", "head", "number", "zeros"],
)
def test_damaged_lines_are_predicted_again(
    start: Open, tmp_path: Path, sources: list[bulk.Source], checked: bool, old: bytes, new: bytes
) -> None:
    """Protects a job from a disk that lost a part of its journal: the file is predicted again, and it is said."""
    work(start(), [])
    path = journal_of(tmp_path)
    if not checked:
        path.write_bytes(without_checksums(path.read_bytes()))
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    job = start()
    assert (len(job.before), job.journal.damaged) == (2, 1)
    assert job.todo == [sources[0]]
    work(job, [])
    ends_well(job, tmp_path)


def without_checksums(data: bytes) -> bytes:
    """Journals as they were before lines had checksums."""
    lines = []
    for line in data.splitlines():
        head, _, text = line.partition(b"\t")
        lines.append(json.dumps({k: v for k, v in json.loads(head).items() if k != "crc"}).encode() + b"\t" + text)
    return b"\n".join(lines) + b"\n"


def test_another_number_in_a_prediction_is_noticed(start: Open, tmp_path: Path, sources: list[bulk.Source]) -> None:
    """Protects results from damage that is still JSON, in the prediction and in what is known of the file."""
    work(start(), [])
    path = journal_of(tmp_path)
    whole = path.read_bytes()
    for old, new in ((b'"calm":0.75', b'"calm":0.95'), (b'"name": "f0"', b'"name": "f1"')):
        path.write_bytes(whole.replace(old, new, 1))
        assert start().todo == [sources[0]]


def test_a_line_that_a_kill_cut_off_is_no_damage(start: Open, tmp_path: Path) -> None:
    """Protects a resume after kill -9 from talk of damage: wherever its last line ends, there is nothing to say."""
    work(start(), [])
    path = journal_of(tmp_path)
    whole = path.read_bytes()
    last = whole[: whole.rindex(b"\n", 0, -1) + 1]
    for size in (1, 30, whole[len(last) :].index(b"\t"), len(whole) - len(last) - 5):
        path.write_bytes(whole[: len(last) + size] + b"\n")
        fresh = Journal(path.parent)
        assert (len(fresh.read()), fresh.damaged) == (2, 0), size


@pytest.mark.parametrize("world", [1, 2], ids=["one process", "two processes before"])
def test_a_clock_that_went_back(start: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: int) -> None:
    """Protects the end of a job whose first run had a clock ahead and a full disk: the later try counts."""
    with monkeypatch.context() as ahead:
        now = time.time
        ahead.setattr(journal.time, "time", lambda: now() + 86400)
        for rank in range(world):
            work(start(rank, world), None)
    job = start()
    assert len(job.todo) == 3
    work(job, [])
    ends_well(job, tmp_path)


def test_a_failure_noted_by_a_clock_ahead_is_tried_again(
    start: Open, sources: list[bulk.Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the first process from taking a failure of an earlier run for one of this run, for its clock."""
    with monkeypatch.context() as ahead:
        now = time.time
        ahead.setattr(journal.time, "time", lambda: now() + 86400)
        work(start(1, 2), None)
    job = start(0, 2)
    work(job, [])
    assert job.wait(lambda done: None) == [sources[1]]


def test_waiting_is_said(start: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from an hour of silence: whom the first process waits for, since when, and how long it will."""
    monkeypatch.setattr(bulk, "TELL_S", 0.0)
    monkeypatch.setattr(bulk, "SILENT_S", 0.2)
    monkeypatch.setattr(bulk, "_WAIT_S", 0.01)
    said: list[str] = []
    job = start(0, 3)
    work(job, [])
    with pytest.raises(EmozooError, match="2 files of other processes did not come"):
        job.wait(lambda done: None, said.append)
    (line,) = said  # the next one comes minutes later
    assert line.startswith("waiting for 2 files of processes 1, 2 (ranks from 0 to 2) since ")
    assert ", no sign of life since " in line


def test_nothing_is_said_of_a_short_wait(start: Open) -> None:
    """Protects from idle notes where the others end at about the same time."""
    said: list[Any] = []
    job = start()
    work(job, [])
    job.wait(lambda done: None, said.append)
    assert said == []


def test_the_first_process_may_end_before_the_others_look(start: Open, tmp_path: Path) -> None:
    """Protects the last process from an error: what it has noted is done, though the first has removed the journals."""
    job = start(1, 2)
    work(job, [])
    shutil.rmtree(tmp_path / "out" / bulk.WORK)
    assert job.wait(lambda done: None) == []


def test_a_journal_that_is_removed_at_this_moment(tmp_path: Path) -> None:
    """Protects a process from the end of the job: a journal that was listed may be gone when it is opened."""
    (tmp_path / "00000.jsonl").symlink_to(tmp_path / "gone")
    assert Journal(tmp_path).read() == []
