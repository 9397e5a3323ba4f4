"""Committed numbers: what counts as the same, and what is said where they cannot be measured."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from emozoo.benchmark import command, compare, report, verify
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


def test_a_result_without_a_board(monkeypatch: pytest.MonkeyPatch, line: dict[str, str]) -> None:
    """Protects a new data set's first results: they are listed with a reason, not a traceback."""
    monkeypatch.setattr(
        verify.leaderboard, "committed", lambda: [line | {"dataset": "mine", "model": "ceflnet.faces7_v3"}]
    )
    (check,) = verify.verify()
    assert check.state == verify.NOT
    assert "--dataset mine" in check.why


def test_two_files_of_predictions(
    weights: Path, folded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Protects what --compare of two files prints, and refuses: other items are no pair."""
    command.write(measure([str(weights)], "csv", folded), [], tmp_path / "r.json", None)
    a, b, *_ = sorted((tmp_path / "r.predictions").glob("*.csv"))
    twin = Path(shutil.copy(a, tmp_path / "twin.csv"))
    command.compare_files(a, twin, None)
    assert "McNemar p = 1.00" in capsys.readouterr().out
    with pytest.raises(UsageError, match="the same items"):
        command.compare_files(a, b, None)


def test_models_of_other_tasks(make_weights: Callable[..., Path], with_va: Path, tmp_path: Path) -> None:
    """Protects --compare of a model of classes and one of valence and arousal: refused in one line before anything is
    measured, and of files; what two models share is compared."""
    of_classes, of_va, of_both = (
        make_weights("emotion_fan"),
        make_weights("recursive_joint_attention", classes=()),
        make_weights("recursive_joint_attention"),
    )
    (tmp_path / "of_p0").symlink_to(of_va)  # a person's own weights
    pairs = {None: (str(of_va), str(of_classes)), "person": (str(of_classes), str(tmp_path / "of_{fold}"))}
    for people, pair in pairs.items():
        for sources, why in (([("csv", with_va)], "both predict"), ([("csv", with_va)] * 2, "one --dataset")):
            with pytest.raises(UsageError, match=why):
                command.measure(
                    ["nothing to load"], sources, folds=[None], people=people, pair=pair, control=[], json_file=None,
                    out=None, prior="train", device="cpu", split=None,
                )  # fmt: skip
    a, b, c = (measure([str(f)], "csv", with_va, prior="both") for f in (of_classes, of_va, of_both))
    for one, other in ((a, b), (b, a)):
        with pytest.raises(UsageError, match="both predict"):
            compare.results(one, other)
    for one, other, metric in ((a, c, "WAR"), (b, c, "CCC_V"), (c, b, "CCC_V")):
        found = compare.results(one, other)
        assert [x["prior"] for x in found] == ["train", "uniform"]
        assert {m for m, v in found[0]["difference"].items() if v is not None} >= {metric}
    paths = []
    for name, side in (("a", a), ("b", b)):
        command.write(side, [], tmp_path / name / "r.json", None)
        paths.append(tmp_path / name / side.records[0]["predictions"])
    with pytest.raises(UsageError, match="both predict"):
        compare.files(*paths)


def test_a_control_is_compared_like_any_model(weights: Path, make_weights: Callable[..., Path], data: Path) -> None:
    """Protects --compare with the weights of a retrained control, beside which input controls are measured."""
    control = make_weights("emotion_fan", seed=1)
    config = json.loads((control / "config.json").read_text())
    (control / "config.json").write_text(json.dumps(config | {"control": "plain average"}))
    a, b = (measure([str(f)], "csv", data, control="shuffled-time") for f in (weights, control))
    (found,) = compare.results(a, b)
    assert found["difference"]["WAR"] == pytest.approx(a.records[0]["metrics"]["WAR"] - b.records[0]["metrics"]["WAR"])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--verify", "--out", "d"], "--verify takes no --out; it takes"),
        (["--verify", "--compare", "a.csv", "b.csv", "--prior", "train"], "--verify takes no --prior, --compare;"),
        (["--compare", "a.csv", "b.csv", "--out", "d"], "--compare of two files takes no --out; it takes --json alone"),
        (
            ["ceflnet", "--compare", "a.csv", "b.csv", "--control", "all", "--split", "val", "--device", "cpu"],
            "--compare of two files takes no --model, --split, --device, --control;",
        ),
    ],
)
def test_options_that_would_do_nothing(words: list[str], why: str, tmp_path: Path) -> None:
    """Protects people from options that are dropped without a word: those that were given are named, in one line."""
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("id,fold,group,label,predicted\n")
    done = subprocess.run([EMOZOO, "benchmark", *words], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "d").exists()


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


@pytest.mark.slow(60)
def test_committed_numbers_come_again() -> None:
    """Protects committed numbers: the drawn clips of one model, measured again from a fresh cache."""
    done = subprocess.run(
        [EMOZOO, "benchmark", "--verify", "--model", "dfan.synth_v1"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 rows verified" in done.stdout
