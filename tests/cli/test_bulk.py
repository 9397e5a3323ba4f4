"""`emozoo predict` on many files: each once, by any number of processes, resumed after a kill, one table."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faults import Running, Warm
from PIL import Image

from emozoo.data import find

ROOT = Path(__file__).resolve().parents[2]
COUNT = 12
TABLES = ["predictions.csv", "predictions.jsonl"]


@pytest.fixture(scope="module")
def weights(folder_of: Callable[[str], Path]) -> Path:
    """A small network that needs no face, so that every image gets a label."""
    return folder_of("dfan")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Small images in two sub-folders, and one broken file among them."""
    return write_images(tmp_path / "images", COUNT)


def write_images(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    for i in range(count - 1):
        path = folder / "ab"[i % 2] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(path)
    (folder / "b" / "broken.mp4").write_bytes(b"no video")
    return folder


class Run:
    """`emozoo predict` in processes of their own."""

    def __init__(self, warm: Warm) -> None:
        self._warm = warm

    def start(self, *arguments: object, **variables: object) -> Running:
        return self._warm.start("predict", *arguments, **variables)

    def __call__(self, *arguments: object, **variables: object) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of the command."""
        return self._ended(self.start(*arguments, **variables))

    def both(self, *arguments: object) -> list[tuple[int, str, str]]:
        """The command in two processes at once, as a launcher starts them."""
        running = [self.start(*arguments, RANK=rank, WORLD_SIZE=2) for rank in (0, 1)]
        return [self._ended(one) for one in running]

    @staticmethod
    def _ended(running: Running) -> tuple[int, str, str]:
        done = running.wait()
        assert not done.hung
        return done.code, done.out, done.err


@pytest.fixture(scope="session")
def run(warm: Warm) -> Run:
    return Run(warm)


def files_of(json_lines: str) -> list[str]:
    return [json.loads(line)["file"] for line in json_lines.splitlines()]


def table(out: Path) -> tuple[str, str]:
    return (out / "predictions.jsonl").read_text(), (out / "predictions.csv").read_text()


@pytest.fixture(scope="module")
def alone(run: Run, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Images, the results of one process for them, and its stdout."""
    folder = tmp_path_factory.mktemp("alone")
    images = write_images(folder / "images", COUNT)
    code, out, err = run(images, "--model", weights, "--out", folder / "out", "--json")
    assert code == 1
    assert "broken.mp4" in err
    return images, folder / "out", out


def test_one_table_of_all_files(alone: tuple[Path, Path, str]) -> None:
    """Protects the tables: a line for each file in order, as on stdout; the error named; nothing else left behind."""
    _, out, stdout = alone
    lines, text = table(out)
    assert lines == stdout
    assert len(files_of(lines)) == COUNT
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["file"] for row in rows] == files_of(lines)
    records = [json.loads(line) for line in lines.splitlines()]
    for row, record in zip(rows, records, strict=True):
        assert row["error"] == (record["error"] or {"code": ""})["code"]
        assert row["label"] == (record["label"] or "")
        if record["scores"]:
            assert {name: float(row[name]) for name in record["classes"]} == record["scores"]
            assert row["warnings"] == "still"
    assert [bool(row["error"]) for row in rows].count(True) == 1
    assert sorted(p.name for p in out.iterdir()) == ["a", "b", *TABLES]
    assert find.is_ours(out / TABLES[0])
    assert find.is_ours(out / TABLES[1])


def test_two_processes_share_the_files(run: Run, alone: tuple[Path, Path, str], weights: Path, tmp_path: Path) -> None:
    """Protects work on many machines: each file once, and the very tables and results of a single process."""
    images, out, stdout = alone
    done = run.both(images, "--model", weights, "--out", tmp_path / "out", "--json")
    assert [code for code, _, _ in done] == [1, 0]  # the first one counts the failures of all
    assert [len(text.splitlines()) for _, text, _ in done] == [6, 6]
    assert sorted("".join(text for _, text, _ in done).splitlines()) == sorted(stdout.splitlines())
    assert table(tmp_path / "out") == table(out)
    names = [sorted(p.relative_to(o) for p in o.rglob("*")) for o in (out, tmp_path / "out")]
    assert names[0] == names[1]


@pytest.mark.slow(20)
def test_torchrun(alone: tuple[Path, Path, str], weights: Path, tmp_path: Path) -> None:
    """Protects the documented line: torchrun numbers the processes, and a broken file does not make it end them."""
    images, out, _ = alone
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m"]
    command = [*torchrun, "emozoo", "predict", str(images), "--model", str(weights), "--out", str(tmp_path / "out")]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 1
    assert table(tmp_path / "out") == table(out)


def killed_half_way(run: Run, out: Path, *arguments: object, **variables: object) -> int:
    """Kills the command when a third of the files is done; returns how many lines its journals have then."""
    process = run.start(*arguments, "--out", out, **variables)
    while process.alive():
        lines = sum(p.read_bytes().count(b"\n") for p in out.glob(".predict/*/*.jsonl"))
        if lines >= 8:
            process.kill()
            process.wait()
            return sum(p.read_bytes().count(b"\n") for p in out.glob(".predict/*/*.jsonl"))
        time.sleep(0.001)
    raise AssertionError(process.wait())


def test_a_killed_run_goes_on(run: Run, weights: Path, tmp_path: Path) -> None:
    """Protects hours of work from kill -9: only the rest is predicted, the tables and stdout are those of a whole run,
    however many processes go on; and a finished run starts anew."""
    images = write_images(tmp_path / "images", 200)
    out, whole = tmp_path / "out", tmp_path / "whole"
    arguments = (images, "--model", weights, "--json")
    assert run(*arguments, "--out", whole)[0] == 1
    before = killed_half_way(run, out, *arguments)
    assert 8 <= before < 200
    assert not (out / TABLES[0]).exists()
    old = {p: p.stat().st_mtime_ns for p in out.rglob("[!.]*.json")}
    journal = next(out.glob(".predict/*/*.jsonl"))
    done = {json.loads(line.partition(b"\t")[0])["name"] for line in journal.read_bytes().splitlines(True)[:before]}
    with journal.open("ab") as file:
        file.write(b'{"file": "a line that was cut off')
    first, second = run.both(*arguments, "--out", out)
    assert (first[0], second[0]) == (1, 0)
    assert f"{len(done - {'b/broken'})} of 200 files were predicted before; going on with the rest" in first[2]
    new = {p: p.stat().st_mtime_ns for p in out.rglob("[!.]*.json")}
    assert len(new) == 200
    kept = {p.relative_to(out).with_suffix("").as_posix() for p in old if new[p] == old[p]}
    assert kept == done - {"b/broken"}
    assert sorted((first[1] + second[1]).splitlines()) == sorted(table(whole)[0].splitlines())
    assert table(out) == table(whole)
    assert not (out / ".predict").exists()


def test_what_changed_is_predicted_again(run: Run, images: Path, weights: Path, tmp_path: Path) -> None:
    """Protects results from being stale: another option starts anew; a changed file, a removed result and a file that
    failed are tried again."""
    out = tmp_path / "out"
    assert run(images, "--model", weights, "--out", out, RANK=1, WORLD_SIZE=2)[0] == 0  # every second file
    mine = sorted(p.relative_to(out).with_suffix("").as_posix() for p in out.rglob("*.json"))
    assert len(mine) == COUNT // 2
    changed, removed = [name for name in mine if "broken" not in name][:2]
    Image.fromarray(np.zeros((30, 30, 3), dtype=np.uint8)).save(images / f"{changed}.png")
    (out / f"{removed}.json").unlink()
    (out / ".predict").rename(tmp_path / "journals")
    assert "b/broken" in mine
    shutil.copytree(tmp_path / "journals", out / ".predict")
    (code, _, err), _ = run.both(images, "--model", weights, "--out", out)
    assert code == 1
    assert f"{len(mine) - 3} of {COUNT} files were predicted before" in err
    assert run(images, "--model", weights, "--out", tmp_path / "fresh")[0] == 1
    assert table(out) == table(tmp_path / "fresh")
    assert (out / f"{removed}.json").is_file()
    shutil.copytree(tmp_path / "journals", out / ".predict")
    _, _, err = run(images, "--model", weights, "--out", out, "--min-confidence", "0.9")
    assert "predicted before" not in err
    assert {json.loads(line)["label"] for line in table(out)[0].splitlines()} == {None}


def test_one_file_has_no_table(run: Run, images: Path, weights: Path, tmp_path: Path) -> None:
    """Protects the results of a single file: what it is called, and nothing beside it."""
    assert run(images / "a" / "000.png", "--model", weights, "--out", tmp_path / "out")[0] == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["000.json"]


def test_names_that_tables_must_not_take(run: Run, images: Path, weights: Path, tmp_path: Path) -> None:
    """Protects a user's file called predictions, its results, and spreadsheets that run what looks like a formula."""
    shutil.copy(images / "a" / "000.png", images / "predictions.png")
    shutil.copy(images / "a" / "000.png", images / "=1+1.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / "all_predictions.csv").write_text("mine")
    os.chdir(images)
    assert run("predictions.png", "=1+1.png", "--model", weights, "--out", out, "--json", "--csv")[0] == 0
    assert json.loads((out / "predictions.json").read_text())["file"] == "predictions.png"
    assert (out / "all_predictions.csv").read_text() == "mine"
    rows = list(csv.reader((out / "all_predictions.emozoo.csv").read_text().splitlines()))
    assert [row[0] for row in rows] == ["file", "predictions.png", "'=1+1.png"]
    assert len(files_of((out / "all_predictions.jsonl").read_text())) == 2


def test_several_processes_need_a_folder(run: Run, images: Path, weights: Path) -> None:
    """Protects from a hundred machines that all print the same: one line says what is missing."""
    code, out, err = run(images, "--model", weights, RANK=0, WORLD_SIZE=2)
    assert (code, out) == (2, "")
    assert err == "error: 2 processes share their work through the folder of results: give it with --out DIR\n"


def test_two_runs_at_once_are_refused(run: Run, images: Path, weights: Path, tmp_path: Path) -> None:
    """Protects results from two runs that write the same folder: the second one says so and ends."""
    import fcntl

    (tmp_path / "out" / ".predict").mkdir(parents=True)
    with (tmp_path / "out" / ".predict" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, out, err = run(images, "--model", weights, "--out", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "another run is at work at this moment" in err


def test_a_lost_process_is_an_error(run: Run, images: Path, weights: Path, tmp_path: Path) -> None:
    """Protects from waiting without end: where a process is lost, the first one says what to do."""
    code = f"from emozoo import bulk, cli; import sys; bulk.SILENT_S, bulk.TELL_S = 1, 0; sys.argv = {['emozoo', 'predict']!r} + sys.argv[1:]; sys.exit(cli.main())"  # noqa: E501
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RANK": "0", "WORLD_SIZE": "2"}
    command = [sys.executable, "-c", code, str(images), "--model", str(weights), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 3
    assert "waiting for 6 files of processes 1 (ranks from 0 to 1) since " in done.stderr
    assert "files of other processes did not come" in done.stderr
    assert "run the same command again" in done.stderr
    assert len(list((tmp_path / "out").rglob("*.json"))) == COUNT // 2
    assert run(images, "--model", weights, "--out", tmp_path / "out")[0] == 1
    assert len(files_of(table(tmp_path / "out")[0])) == COUNT


# -- object storage --------------------------------------------------------------------------------------------------


def keys() -> dict[str, bytes]:
    """All objects of the bucket."""
    import boto3

    client = boto3.client("s3")
    names = [found["Key"] for found in client.list_objects_v2(Bucket="zoo").get("Contents", [])]
    return {name: client.get_object(Bucket="zoo", Key=name)["Body"].read() for name in names}


def upload(folder: Path, prefix: str) -> None:
    import boto3

    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        boto3.client("s3").upload_file(str(path), "zoo", f"{prefix}/{path.relative_to(folder)}")


def test_from_and_to_object_storage(
    run: Run, alone: tuple[Path, Path, str], weights: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects work by address: what a folder gives, with addresses for names; resumed from its journals; nothing is
    left on this machine or, but for results, in the bucket."""
    images, out, _ = alone
    upload(images, "in put/ä")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    where, results = f"{bucket}/in put/ä", f"{bucket}/in put/ä/results"
    code, stdout, err = run(where, "--model", weights, "--out", results, "--json", "--plot", RANK=1, WORLD_SIZE=2)
    assert code == 0, err
    assert len(stdout.splitlines()) == COUNT // 2
    journals = [key for key in keys() if "/.predict/" in key]
    assert len(journals) == 1
    assert not any("predictions.jsonl" in key for key in keys())
    code, stdout, err = run(where, "--model", weights, "--out", results, "--json", "--plot")
    assert code == 1, err
    assert " of 12 files were predicted before" in err
    expected = table(out)[0].replace(str(images), where)
    assert stdout == expected
    there = keys()
    assert there["in put/ä/results/predictions.jsonl"].decode() == expected
    assert not any(".predict" in key for key in there)
    made = {key for key in there if key.startswith("in put/ä/results/")}
    assert len([k for k in made if k.endswith(".json")]) == COUNT
    assert len([k for k in made if k.endswith(".png")]) == COUNT - 1
    assert list((tmp_path / "tmp").iterdir()) == []
    one = run(f"{where}/a/000.png", "--model", weights, "--json")  # a single object
    assert one[0] == 0, one[2]
    assert one[1] == expected.splitlines()[0] + "\n"


def test_object_storage_that_cannot_be_had(
    run: Run, images: Path, weights: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects from a screen of a provider's errors: a missing bucket, folder and account are one line each."""
    for address, why in (("s3://nothing/in", "NoSuchBucket"), (f"{bucket}/empty", "no media file")):
        code, out, err = run(address, "--model", weights)
        assert (code in (2, 3), out, err.count("\n")) == (True, "", 1)
        assert why in err
    code, out, err = run(images, "--model", weights, "--out", "s3://nothing/out")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "s3://nothing/out: object storage says NoSuchBucket" in err
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    code, out, err = run(f"{bucket}/in", "--model", weights)
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "AWS_ACCESS_KEY_ID" in err


def test_a_prepared_store_is_predicted(
    run: Run, images: Path, weights: Path, folder_of: Callable[[str], Path], bucket: str, tmp_path: Path
) -> None:
    """Protects predictions from a store: its items by their ids, in a folder as by address; one line where it does not
    serve the model."""
    from emozoo.data.prepare import cover_of, prepare

    made = prepare("folder", images, tmp_path / "store", cover=cover_of([str(weights)]), workers=1)
    assert made is not None
    code, stdout, err = run(tmp_path / "store", "--model", weights, "--out", tmp_path / "out", "--json")
    assert code == 1, err
    records = [json.loads(line) for line in stdout.splitlines()]
    assert len(records) == COUNT
    assert {r["file"] for r in records if not r["error"]} == {
        p.relative_to(images).with_suffix("").as_posix() for p in images.rglob("*.png")
    }
    upload(tmp_path / "store", "store")
    code, again, err = run(f"{bucket}/store", "--model", weights, "--json", EMOZOO_HOME=tmp_path / "home")
    assert (code, again) == (1, stdout), err
    code, _, err = run(tmp_path / "store", "--model", folder_of("ceflnet"))
    assert (code, err.count("\n")) == (2, 1)
    assert "does not serve this model" in err
