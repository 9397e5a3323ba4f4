"""Measurements of speed: the scripts run, and what is built follows the committed numbers."""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emozoo.data import media

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = [
    "question", "case", "a", "b", "unit", "a_median", "b_median", "ratio", "ratio_lo", "ratio_hi", "rounds", "clips",
    "load", "hardware", "versions", "date",
]  # fmt: skip


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def test_decoders_are_compared_on_equal_frames(tmp_path):
    """Protects the comparison of decoders: it runs, stops where frames differ, and keeps other questions' lines."""
    pytest.importorskip("decord")
    table = tmp_path / "speed.csv"
    other = dict.fromkeys(COLUMNS, "x")
    stale = other | {"question": "decoder", "case": "a case that is no more"}
    with table.open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, COLUMNS)
        writer.writeheader()
        writer.writerows([other, stale])
    script = ROOT / "benchmarks" / "speed" / "decoders.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script, "--quick", "--out", table],
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr  # it would be 1 where the two gave different frames
    kept, *rows = lines_of(table)
    assert kept == other
    assert list(kept) == COLUMNS
    assert {r["question"] for r in rows} == {"decoder"}
    # key frames, samplings, workers, epochs, wall clock or CPU: two of each
    assert len({(r["case"], r["unit"]) for r in rows}) == len(rows) == 32
    assert all((r["a"], r["b"]) == ("pyav", "decord") and float(r["ratio"]) > 0 for r in rows)
    assert all(r["hardware"] and "decord=" in r["versions"] for r in rows)


def test_start_up_is_measured_beside_its_bars(tmp_path):
    """Protects the measurement of start-up: it runs, shows every bar, and writes each command beside its limit."""
    table = tmp_path / "speed.csv"
    script = ROOT / "benchmarks" / "speed" / "startup.py"
    done = subprocess.run(
        [sys.executable, script, "--quick", "--out", table], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stderr
    shown = [line for line in done.stdout.splitlines() if line.endswith(("pass", "short"))]
    assert [line.split("  ")[0] for line in shown[:2]] == ["import emozoo", "emozoo list"]
    assert shown[2].startswith("emozoo predict, ")
    rows = lines_of(table)
    assert {r["question"] for r in rows} == {"start-up"}
    limits = {(r["a"], r["b"]) for r in rows}
    assert limits == {
        ("import torch", "python"), ("import emozoo", "python"), ("emozoo list", "python"),
        ("emozoo predict", "import torch"),
    }  # fmt: skip
    assert all(float(r["ratio"]) > 0 for r in rows)


def test_the_default_decoder_is_the_faster_one(monkeypatch):
    """Protects the choice of the default: the committed table says which one costs less where people train.

    By CPU time, which bounds the clips per second of workers that fill the cores, however busy the machine was.
    """
    monkeypatch.delenv("EMOZOO_DECODER", raising=False)
    rows = [
        r for r in lines_of(ROOT / "benchmarks" / "results" / "speed.csv")
        if r["question"] == "decoder" and r["unit"] == "CPU ms per clip" and "224x224, GOP 250;" in r["case"]
        and "2 workers" in r["case"]
    ]  # fmt: skip
    assert rows
    assert all(int(r["rounds"]) >= 7 for r in rows)
    mean = math.exp(sum(math.log(float(r["ratio"])) for r in rows) / len(rows))
    assert media.decoder() == (rows[0]["a"] if mean <= 1 else rows[0]["b"])
