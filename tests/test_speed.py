"""Measurements of speed: the scripts run, and what is built follows the committed numbers."""

from __future__ import annotations

import csv
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from emozoo.data import media

ROOT = Path(__file__).resolve().parents[1]
SPEED = ROOT / "benchmarks" / "speed"
COLUMNS = [
    "question", "case", "a", "b", "unit", "a_median", "b_median", "ratio", "ratio_lo", "ratio_hi", "bar", "limit",
    "rounds", "clips", "load", "hardware", "versions", "date",
]  # fmt: skip


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def run(*command: object, folder: Path) -> str:
    """What a script prints; it must end well."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=folder, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow(20)
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
    run(SPEED / "decoders.py", "--quick", "--out", table, folder=tmp_path)  # it would fail where the two differ
    kept, *rows = lines_of(table)
    assert kept == other
    assert list(kept) == COLUMNS
    assert {r["question"] for r in rows} == {"decoder"}
    # key frames, samplings, workers, epochs, wall clock or CPU: two of each
    assert len({(r["case"], r["unit"]) for r in rows}) == len(rows) == 32
    assert all((r["a"], r["b"]) == ("pyav", "decord") and float(r["ratio"]) > 0 for r in rows)
    assert all(r["hardware"] and "decord=" in r["versions"] for r in rows)


@pytest.mark.parametrize(
    ("name", "cases"),
    [
        pytest.param("ceflnet", {("network", "encoder")}, marks=pytest.mark.slow(10)),
        pytest.param("fusion", {("plain", "emozoo")}, marks=pytest.mark.slow(20)),
        pytest.param("store", {("Pillow", "store"), ("mp4 + detection", "store")}, marks=pytest.mark.slow(15)),
        pytest.param("predict", {("emozoo", "frame by frame"), ("long", "short")}, marks=pytest.mark.slow(20)),
        pytest.param(
            "startup",
            {("import emozoo", "python"), ("emozoo list", "python"), ("emozoo predict", "import torch")},
            marks=pytest.mark.slow(15),
        ),
        pytest.param("prepare", {("1 worker", "2 workers")}, marks=pytest.mark.slow(60)),
    ],
)
def test_measurements_run(tmp_path, name, cases):
    """Protects each measurement: it runs where optional competitors are absent, and says what its bar is."""
    table = tmp_path / "speed.csv"
    run(SPEED / f"{name}.py", "--quick", "--out", table, folder=tmp_path)
    rows = lines_of(table)
    assert len({r["question"] for r in rows}) == 1
    assert cases <= {(r["a"], r["b"]) for r in rows}
    assert all(float(r["ratio"]) > 0 for r in rows)
    assert any(r["bar"] and r["limit"] for r in rows)


@pytest.mark.slow(40)
def test_growth_is_fitted(tmp_path):
    """Protects the measurement of growth: each task has an exponent, a bar and the times behind it."""
    table = tmp_path / "speed.csv"
    run(SPEED / "growth.py", "--quick", "--out", table, folder=tmp_path)
    rows = lines_of(table)
    assert {r["case"].partition(",")[0] for r in rows} == {
        "predict", "ceflnet", "joint attention", "check", "prepare", "benchmark"
    }  # fmt: skip
    assert all(float(r["a_median"]) > -1 and r["bar"] and " s" in r["limit"] for r in rows)


def test_one_table_says_what_passes(tmp_path):
    """Protects ``make bench``: every measurement is found, and its rows with a bar are printed as pass or short."""
    out = tmp_path / "speed.csv"
    text = run(SPEED, "--quick", "--out", out, "ceflnet", folder=tmp_path)
    assert re.search(r"\| ceflnet \|.*\| <= 1\.25x \| (pass|short) \|", text)
    known = {p.stem for p in SPEED.glob("*.py") if re.search("^QUESTION =", p.read_text(encoding="utf-8"), re.M)}
    assert {"ceflnet", "decoders", "fusion", "growth", "predict", "prepare", "startup", "store"} <= known
    listed = subprocess.run([sys.executable, SPEED, "nonsense"], capture_output=True, text=True, cwd=tmp_path)
    assert listed.returncode == 1
    assert set(listed.stderr.split("there are ")[1].strip().split(", ")) == known


@pytest.mark.parametrize(
    ("bar", "passes"),
    [(">= 2x", True), (">= 2.5x", False), ("<= 1.25x", False), (">= 250", False), ("<= 40", True), ("", None)],
)
def test_a_bar_is_for_the_ratio_or_the_median(monkeypatch, bar, passes):
    """Protects the verdict: with an x the bar is for the ratio, without one for the first median."""
    monkeypatch.syspath_prepend(SPEED)
    import rounds

    assert rounds.passes({"bar": bar, "ratio": "2.1", "a_median": "39.9"}) is passes
    with pytest.raises(ValueError, match="write it as"):
        rounds.passes({"bar": "at least 2", "ratio": "2.1"})


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


def test_margins_in_the_docs_pass_where_make_bench_says_so(monkeypatch):
    """Protects the page on speed from calling a measurement short or passed otherwise than ``make bench`` does."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.syspath_prepend(str(SPEED))
    import rounds
    import speed_tables

    rows = [r for r in lines_of(ROOT / "benchmarks" / "results" / "speed.csv") if r["bar"]]
    assert rows
    for row in rows:
        assert (speed_tables.margin(row) >= 1) == rounds.passes(row), row
