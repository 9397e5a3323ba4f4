"""A benchmark on several processes: each item once, and what a single process prints and writes."""

from __future__ import annotations

import csv
import json
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from faults import Running, Warm

from emozoo.benchmark.team import Team
from emozoo.labels import BASIC7

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


@pytest.fixture(scope="module")
def start(many: Path, model: Path, warm: Warm) -> Callable[..., Running]:
    """``start(home, out)``: the benchmark in a process of its own."""

    def run(home: Path, out: Path, **variables: object) -> Running:
        command = ["benchmark", "--dataset", "csv", "--root", many, "--model", model]
        return warm.start(*command, "--control", "shuffled-context", "--out", out, EMOZOO_HOME=home, **variables)

    return run


@pytest.fixture(scope="module")
def together(start: Callable[..., Running]) -> Callable[[Path, Path], list[Running]]:
    """Two processes that find each other, as a launcher starts them."""

    def run(home: Path, out: Path) -> list[Running]:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": 2}
        return [start(home, out, RANK=rank, **address) for rank in (0, 1)]

    return run


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
def alone(start: Callable[..., Running], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], str]:
    """What a single process writes and prints."""
    folder = tmp_path_factory.mktemp("alone")
    done = start(folder / "home", folder / "out").wait()
    assert done.code == 0, done
    return content(folder / "out"), done.out


def test_two_processes_give_what_one_gives(
    alone: tuple[dict[str, str], str], together: Callable[[Path, Path], list[Running]], tmp_path: Path
) -> None:
    """Protects numbers from the number of machines: the same files to the last byte, also where an item needs the one
    before it; one process prints, and no cached prediction is left."""
    first, second = [running.wait() for running in together(tmp_path / "home", tmp_path / "out")]
    assert (first.code, second.code) == (0, 0), (first, second)
    assert content(tmp_path / "out") == alone[0]
    assert first.out == alone[1]
    assert (second.out, second.err) == ("", "")
    assert list((tmp_path / "home").rglob("*.jsonl")) == []


def test_a_process_that_dies_ends_the_others(
    alone: tuple[dict[str, str], str], together: Callable[[Path, Path], list[Running]], tmp_path: Path
) -> None:
    """Protects from waiting without end: one line says how to go on, and going on gives the same."""
    home, out = tmp_path / "home", tmp_path / "out"
    first, second = together(home, out)
    until = time.monotonic() + 60
    while not list(home.rglob("*.jsonl")) and time.monotonic() < until:
        time.sleep(0.001)
    second.kill()
    second.wait()
    ended = first.wait(60)
    assert (ended.code, ended.out) == (3, ""), ended
    assert "has ended: run the same command again, it goes on where it stopped" in ended.err
    assert ended.err.strip().count("\n") == 0
    assert not list(out.iterdir())
    assert sum(len(p.read_text().splitlines()) for p in home.rglob("*.jsonl")) >= 2
    for running in together(home, out):
        done = running.wait()
        assert done.code == 0, done
    found = json.loads((out / "records.json").read_text())
    assert found["records"][0]["n_evaluated"] == ITEMS
    assert content(out)["records.json"] == alone[0]["records.json"]


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
