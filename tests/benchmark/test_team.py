"""A benchmark on several processes: each item once, and what a single process prints and writes."""

from __future__ import annotations

import csv
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from emozoo import launch
from emozoo.benchmark.team import Team
from emozoo.labels import BASIC7

ROOT = Path(__file__).resolve().parents[2]
ITEMS = 100


@pytest.fixture(scope="module")
def model(make_weights: Callable[..., Path]) -> Path:
    """A small network with a context beside the face."""
    return make_weights("caer_cross_attention")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four batches of images with labels, people and boxes."""
    folder = tmp_path_factory.mktemp("many")
    r = np.random.default_rng(0)
    lines = ["path,label,split,actor,x1,y1,x2,y2"]
    for i in range(ITEMS):
        cv2.imwrite(str(folder / f"{i}.png"), r.integers(0, 255, (48, 48, 3), dtype=np.uint8))
        lines.append(f"{i}.png,{BASIC7[i % 7]},test,p{i // 3},8,8,40,40")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def start(data: Path, model: Path, home: Path, out: Path, **variables: object) -> subprocess.Popen[str]:
    env = {k: v for k, v in os.environ.items() if k not in launch._HINTS}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "EMOZOO_HOME": str(home)}
    env |= {k: str(v) for k, v in variables.items()}
    command = [sys.executable, "-m", "emozoo", "benchmark", "--dataset", "csv", "--root", data, "--model", model]
    command += ["--control", "shuffled-context", "--out", out]
    return subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def together(*arguments: Path) -> list[subprocess.Popen[str]]:
    """Two processes that find each other, as a launcher starts them."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": 2}
    return [start(*arguments, RANK=rank, **address) for rank in (0, 1)]


def content(out: Path) -> dict[str, str]:
    """All files that were written, without the seconds that it took."""
    files = {p.relative_to(out).as_posix(): p.read_text() for p in out.rglob("*") if p.is_file()}
    rows = list(csv.reader(files["results.csv"].splitlines()))
    at = rows[0].index("seconds")
    files["results.csv"] = json.dumps([row[:at] + row[at + 1 :] for row in rows])
    files["records.json"] = re.sub(r'("seconds": )[\d.]+', r"\1", files["records.json"])
    files["report.html"] = re.sub(r"(seconds\D*)[\d.]+", r"\1", files["report.html"])
    return files


@pytest.fixture(scope="module")
def alone(many: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], str]:
    """What a single process writes and prints."""
    folder = tmp_path_factory.mktemp("alone")
    process = start(many, model, folder / "home", folder / "out")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return content(folder / "out"), out


def test_two_processes_give_what_one_gives(
    alone: tuple[dict[str, str], str], many: Path, model: Path, tmp_path: Path
) -> None:
    """Protects numbers from the number of machines: the same files to the last byte, also where an item needs the one
    before it; one process prints, and no cached prediction is left."""
    first, second = together(many, model, tmp_path / "home", tmp_path / "out")
    said = [first.communicate(timeout=120), second.communicate(timeout=120)]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert content(tmp_path / "out") == alone[0]
    assert said[0][0] == alone[1]
    assert said[1] == ("", "")
    assert list((tmp_path / "home").rglob("*.jsonl")) == []


@pytest.mark.slow(50)
def test_a_process_that_dies_ends_the_others(
    alone: tuple[dict[str, str], str], many: Path, model: Path, tmp_path: Path
) -> None:
    """Protects from waiting without end: one line says how to go on, and going on gives the same."""
    arguments = (many, model, tmp_path / "home", tmp_path / "out")
    first, second = together(*arguments)
    until = time.monotonic() + 60
    while not list((tmp_path / "home").rglob("*.jsonl")) and time.monotonic() < until:
        time.sleep(0.001)
    second.kill()
    second.communicate()
    out, err = first.communicate(timeout=60)
    assert (first.returncode, out) == (3, "")
    assert "has ended: run the same command again, it goes on where it stopped" in err
    assert err.strip().count("\n") == 0
    assert not (tmp_path / "out").exists()
    assert sum(len(p.read_text().splitlines()) for p in (tmp_path / "home").rglob("*.jsonl")) >= 2
    for process in together(*arguments):
        process.wait(timeout=120)
        assert process.returncode == 0, process.stderr and process.stderr.read()
    found = json.loads((tmp_path / "out" / "records.json").read_text())
    assert found["records"][0]["n_evaluated"] == ITEMS
    assert content(tmp_path / "out")["records.json"] == alone[0]["records.json"]


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_blocks_hold_everything_once(count: int, world: int) -> None:
    """Protects items from being lost or scored twice, whatever the number of processes."""
    found = []
    for rank in range(world):
        team = Team()
        team.rank, team.world = rank, world
        found += range(*team.block(count))
    assert found == list(range(count))
