"""Submitted records: their numbers have to follow from their predictions before they reach a board."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import submit

from emozoo.benchmark import command
from emozoo.benchmark.run import measure


@pytest.fixture
def submitted(weights: Path, folded: Path, tmp_path: Path) -> Path:
    """A record file of three folds, their sum and their mean, as somebody would hand it in for a board."""
    result = measure([str(weights)], "csv", folded)
    for record in result.records:
        record |= {"dataset": "ravdess", "protocol": "my_folds"}
    path = tmp_path / "out" / "r.json"
    command.write(result, [], path, None)
    return path


def test_a_submission_is_computed_again(submitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the boards: numbers have to follow from the predictions beside them, and every record is checked."""
    assert submit.main([str(submitted), "--check"]) == 0
    assert "5 records follow from their predictions" in capsys.readouterr().out

    whole = json.loads(submitted.read_text())

    def problem(change: Any) -> str:
        found = json.loads(json.dumps(whole))
        change(found["records"])
        submitted.write_text(json.dumps(found))
        assert submit.main([str(submitted), "--check"]) == 1
        return capsys.readouterr().out

    assert "WAR is" in problem(lambda r: r[0]["metrics"].update(WAR=0.99))
    assert "UAR interval" in problem(lambda r: r[3]["ci95"].update(UAR=[0.9, 0.95]))
    assert "WAR interval" in problem(lambda r: r[0]["ci95"].update(WAR=None))
    assert "per_class is not" in problem(lambda r: r[0]["per_class"]["anger"].update(recall=0.987))
    assert "confusion is not" in problem(lambda r: r[3]["confusion"][0].reverse())
    assert "n_groups is not" in problem(lambda r: r[3].update(n_groups=4000))
    assert "ece is not" in problem(lambda r: r[0].update(ece=0.001))
    assert "predictions for" in problem(lambda r: r[1].update(n_evaluated=5, n_expected=5))
    assert "lacks hardware" in problem(lambda r: r[0].pop("hardware"))
    assert "no board" in problem(lambda r: r[0].update(dataset="mine"))
    assert "has sha256" in problem(lambda r: r[0].update(model="ceflnet.faces7_v3"))
    assert "1440 items" in problem(lambda r: r[3].update(protocol="ravdess_speech_6fold"))


def test_a_submission_is_taken_in(submitted: Path, tmp_path: Path) -> None:
    """Protects the way in: records and predictions are copied, lines merged; changed predictions are refused."""
    assert submit.main([str(submitted), "--root", str(tmp_path), "--check"]) == 0
    assert not (tmp_path / "benchmarks").exists(), "--check writes nothing"
    assert submit.main([str(submitted), "--root", str(tmp_path)]) == 0
    (table,) = (tmp_path / "benchmarks" / "results").glob("*.csv")
    with table.open(newline="") as f:
        assert {r["fold"] for r in csv.DictReader(f)} == {"0", "1", "2", "pooled", "mean"}
    (copy,) = (tmp_path / "benchmarks" / "submissions").glob("*.json")
    assert submit.main([str(copy), "--check"]) == 0
    assert submit.main([str(submitted), "--root", str(tmp_path)]) == 2, "what is there is not written over"
    (first, *_) = sorted((copy.parent / f"{copy.stem}.predictions").glob("*.csv"))
    first.write_text("\n".join(first.read_text().splitlines()[:-1]) + "\n")
    assert submit.main([str(copy), "--check"]) == 1


def test_another_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects people who hand in the wrong file: one line, exit code 2."""
    (tmp_path / "r.json").write_text('{"records": []}')
    assert submit.main([str(tmp_path / "r.json")]) == 2
    assert "not a file of records" in capsys.readouterr().err
