"""Committed numbers and submitted ones: what counts as the same, and what is found out."""

import csv
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emozoo.benchmark import command, report, verify
from emozoo.benchmark.run import measure
from emozoo.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
EMOZOO = Path(sys.executable).with_name("emozoo")


@pytest.fixture
def line(weights: Path, data: Path) -> dict[str, str]:
    return report.to_csv_rows(measure([str(weights)], "csv", data).records)[0]


def test_what_counts_as_the_same(line: dict[str, str]) -> None:
    """Protects --verify: the last digits may differ; other weights, counts or numbers may not."""
    key = verify.key_of(line)
    assert verify.compared(line, {key: verify.New(line)}).state == verify.SAME
    close = line | {"WAR": str(float(line["WAR"]) + 0.004)}
    check = verify.compared(line, {key: verify.New(close)})
    assert (check.state, check.worst) == (verify.SAME, ("WAR", pytest.approx(0.004)))
    for changed, why in (
        ({"WAR": str(float(line["WAR"]) + 0.006)}, "more than 0.005 apart"),
        ({"sha256": "0" * 64}, "sha256"),
        ({"n_evaluated": "20"}, "n_evaluated 21 -> 20"),
        ({"no_face": "9"}, "without a face"),
        ({"F1": ""}, "F1"),
    ):
        check = verify.compared(line, {key: verify.New(line | changed)})
        assert check.state == verify.DIFFERS
        assert why in check.why
    other = line | {"protocol_version": "2"}
    assert "protocol_version 1 -> 2" in verify.compared(line, {verify.key_of(other): verify.New(other)}).why
    two = line | {"UAR": str(float(line["UAR"]) + 0.03)}
    assert verify.compared(line, {key: verify.New(two, two=0.02)}).state == verify.DIFFERS
    assert verify.compared(line, {key: verify.New(two, two=0.04)}).state == verify.SAME, "two items of a rare class"


def test_exit_code(line: dict[str, str]) -> None:
    """Protects the exit code: 1 for a difference, and for nothing verified at all."""
    same, differs, left = (verify.Check(line, s) for s in (verify.SAME, verify.DIFFERS, verify.NOT))
    assert not verify.failed([same, left])
    assert verify.failed([same, differs])
    assert verify.failed([left])
    assert verify.failed([])


def test_committed_results_are_complete() -> None:
    """Protects committed results: every line says weights, protocol, counts, versions and machine, once."""
    seen = set()
    for path in (ROOT / "benchmarks" / "results").glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as f:
            table = csv.DictReader(f)
            if "dataset" not in (table.fieldnames or ()):
                continue
            for row in table:
                key = verify.key_of(row)
                assert key not in seen
                seen.add(key)
                assert all(
                    row[c] for c in ("model", "dataset", "protocol", "protocol_version", "n_expected", "versions")
                )
                assert all(row[c] for c in ("n_evaluated", "hardware", "precision", "date", "commit"))
                assert len(row["sha256"]) == 64 or row["fold"] in ("pooled", "mean")
                assert set(row) <= set(report.COLUMNS)


def test_data_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects honesty: lines whose data are missing are listed with the reason, and nothing verified is a failure."""
    monkeypatch.setenv("EMOZOO_SHARED", str(tmp_path / "nowhere"))
    checks = list(verify.verify(models=["emotion_fan.ferplus_v3"]))
    assert checks
    assert {c.state for c in checks} == {verify.NOT}
    assert all("EMOZOO_SHARED" in c.why for c in checks)
    assert verify.failed(checks)
    with pytest.raises(UsageError, match="no committed result is about dfew"):
        list(verify.verify("dfew", tmp_path))


def test_clips_that_a_script_makes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects reproduction: of composed clips, which are not shipped, it says what makes them."""
    monkeypatch.chdir(tmp_path)
    checks = list(verify.verify("composed", models=["recursive_joint_attention.real7_v2"]))
    assert checks
    assert all(c.state == verify.NOT and "benchmarks/composed.py makes them" in c.why for c in checks)


def test_clips_of_another_version(
    line: dict[str, str], weights: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects comparisons: numbers of composed clips belong to the version that made them, which lies beside them."""
    found = measure([str(weights)], "csv", data)
    monkeypatch.setattr(verify, "measure", lambda *a, **k: found)
    source = verify.Source("csv", str(data / "manifest.csv"), named=True)
    committed = line | {"dataset": "composed", "protocol": "composed_face_voice_varied_v2"}
    for stamp, state in ((None, verify.SAME), ({"version": 1}, verify.SAME), ({"version": 2}, verify.DIFFERS)):
        if stamp:
            (data / "composed.json").write_text(json.dumps(stamp))
        (new,) = report.to_csv_rows(verify.measured([committed], source).records)
        check = verify.compared(committed, {verify.key_of(new): verify.New(new)})
        assert check.state == state
    assert "protocol_version 1 -> 2" in check.why


@pytest.fixture
def submitted(weights: Path, folded: Path, tmp_path: Path) -> Path:
    """A record file of three folds, their sum and their mean, as somebody would hand it in for a board."""
    result = measure([str(weights)], "csv", folded)
    for record in result.records:
        record |= {"dataset": "ravdess", "protocol": "my_folds"}
    path = tmp_path / "out" / "r.json"
    command.write(result, [], path, None)
    return path


def test_a_submission_is_computed_again(submitted: Path) -> None:
    """Protects the boards: numbers have to follow from the predictions beside them, and every record is checked."""
    checks = verify.submission(submitted)
    assert len(checks) == 5
    assert {c.state for c in checks} == {verify.PREDICTIONS}

    whole = json.loads(submitted.read_text())

    def problem(change: Any) -> str:
        found = json.loads(json.dumps(whole))
        change(found["records"])
        submitted.write_text(json.dumps(found))
        return " ".join(c.why for c in verify.submission(submitted) if c.state == verify.DIFFERS)

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


def test_a_submission_is_taken_in(submitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the way in: records and predictions are copied, lines merged; changed predictions are refused."""
    spec = importlib.util.spec_from_file_location("submit", ROOT / "benchmarks" / "submit.py")
    assert spec is not None
    assert spec.loader is not None
    submit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(submit)
    monkeypatch.setattr(sys, "argv", ["submit.py", str(submitted), "--root", str(tmp_path)])
    assert submit.main() == 0
    (table,) = (tmp_path / "benchmarks" / "results").glob("*.csv")
    with table.open(newline="") as f:
        assert {r["fold"] for r in csv.DictReader(f)} == {"0", "1", "2", "pooled", "mean"}
    (kept,) = (tmp_path / "benchmarks" / "submissions").glob("*.json")
    assert not verify.failed(verify.submission(kept))
    (first, *_) = sorted((kept.parent / f"{kept.stem}.predictions").glob("*.csv"))
    first.write_text("\n".join(first.read_text().splitlines()[:-1]) + "\n")
    assert verify.failed(verify.submission(kept))
    assert submit.main() == 1, "what is there is not written over"


def test_commands(submitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects what --verify --submission and --compare of two files print."""
    assert command.verify_submission(submitted, tmp_path / "v.json") == 0
    assert "5 of 5 rows verified (5 of them from predictions)" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "v.json").read_text())["verified"]) == 5
    a, b, *_ = sorted((submitted.parent / "r.predictions").glob("*.csv"))
    twin = Path(shutil.copy(a, tmp_path / "twin.csv"))
    command.compare_files(a, twin, None)
    assert "McNemar p = 1.00" in capsys.readouterr().out
    with pytest.raises(UsageError, match="the same items"):
        command.compare_files(a, b, None)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--dataset", "csv", "--root", "x", "--root", "y"], "--root DIR for each"),
        (["--dataset", "csv", "--root", "x", "--folds", "one"], "--folds"),
        (["--compare", "ceflnet", "ceflnett"], "did you mean"),
    ],
)
def test_wrong_usage(words: list[str], why: str) -> None:
    """Protects people who mistype: one line, exit code 2, before anything heavy is loaded."""
    done = subprocess.run([EMOZOO, "benchmark", *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_committed_numbers_come_again() -> None:
    """Protects committed numbers: the drawn clips of one model, measured again from a fresh cache."""
    done = subprocess.run(
        [EMOZOO, "benchmark", "--verify", "--model", "dfan.synth_v1"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 rows verified" in done.stdout
