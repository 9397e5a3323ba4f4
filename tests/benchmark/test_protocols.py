"""Folds, people left out, overlapping splits, labels per frame: what is scored together, and what is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tables

from emozoo.benchmark import prediction_files, report
from emozoo.benchmark.records import Result
from emozoo.benchmark.resume import UnfinishedRun
from emozoo.benchmark.run import measure
from emozoo.errors import UsageError
from emozoo.metrics import concordance_of, concordance_sums


def by_fold(result: Result) -> dict[Any, dict[str, Any]]:
    return {r["fold"]: r for r in result.records}


def test_all_folds(weights: Path, folded: Path) -> None:
    """Protects folded data: each fold, all items together, mean and deviation; no fold named means all of them."""
    found = by_fold(measure([str(weights)], "csv", folded))
    assert list(found) == [0, 1, 2, "pooled", "mean"]
    single = [found[k] for k in range(3)]
    pooled, mean = found["pooled"], found["mean"]
    assert pooled["n_evaluated"] == mean["n_evaluated"] == sum(r["n_evaluated"] for r in single) == 21
    assert (pooled["n_groups"], pooled["sha256"]) == (7, single[0]["sha256"])
    war = [r["metrics"]["WAR"] for r in single]
    counts = [r["n_evaluated"] for r in single]
    assert pooled["metrics"]["WAR"] == pytest.approx(np.average(war, weights=counts))
    assert mean["metrics"]["WAR"] == pytest.approx(np.mean(war))
    assert mean["std"]["WAR"] == pytest.approx(np.std(war, ddof=1))
    low, high = mean["ci95"]["WAR"]
    assert low <= mean["metrics"]["WAR"] <= high
    assert np.sum(pooled["confusion"]) == 21
    assert by_fold(measure([str(weights)], "csv", folded, fold=1))[1]["metrics"] == found[1]["metrics"]
    assert {r["fold"] for r in report.to_csv_rows([pooled, mean])} == {"pooled", "mean"}


def test_weights_of_each_fold(make_weights: Callable[..., Path], folded: Path) -> None:
    """Protects cross-validation: every fold is predicted by the weights that were trained without it."""
    for k in range(3):
        (folded / f"fold{k}").symlink_to(make_weights("emotion_fan", seed=k))
    name = str(folded / "fold{fold}")
    found = by_fold(measure([name], "csv", folded))
    assert found["pooled"]["model"] == name
    assert found["pooled"]["sha256"] == ""
    assert [w["sha256"] for w in found["pooled"]["weights"]] == [found[k]["sha256"] for k in range(3)]
    assert len({found[k]["sha256"] for k in range(3)}) == 3


def test_people_left_out(weights: Path, data: Path) -> None:
    """Protects leave-subjects-out: a part for each person, or people split whole into folds."""
    found = by_fold(measure([str(weights)], "csv", data, folds="person"))
    assert list(found) == [f"p{i}" for i in range(7)] + ["pooled", "mean"]
    assert found["pooled"]["protocol"] == "csv_leave_one_person_out"
    assert found["pooled"]["metrics"] == measure([str(weights)], "csv", data).records[0]["metrics"]
    (data / "manifest.csv").write_text((data / "manifest.csv").read_text().replace("test", "train"))
    parted = measure([str(weights)], "csv", data, folds=2)
    people = [{line["group"] for line in table} for table in parted.tables[:2]]
    assert not people[0] & people[1]
    assert by_fold(parted)["pooled"]["protocol"] == "csv_2folds_by_person"


def test_people_with_labels_of_different_kinds(
    weights: Path, make_weights: Callable[..., Path], with_va: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Protects a long measurement from its end: where a person has classes alone and another valence and arousal alone,
    each counts for what was labelled; one with nothing that the model scores is left out and named."""
    head, *lines = (with_va / "manifest.csv").read_text().splitlines()
    for i in range(3):
        lines[i] = ",".join([*lines[i].split(",")[:8], "", ""])  # p0: classes alone
        cells = lines[3 + i].split(",")
        lines[3 + i] = ",".join([cells[0], "", *cells[2:]])  # p1: valence and arousal alone
    (with_va / "manifest.csv").write_text("\n".join([head, *lines]) + "\n")
    found = by_fold(measure([str(weights)], "csv", with_va, folds="person"))
    assert list(found) == ["p0", *(f"p{i}" for i in range(2, 7)), "pooled", "mean"]
    assert found["pooled"]["n_evaluated"] == 18
    assert "person p1 is left out: " in caplog.text
    both = make_weights("recursive_joint_attention")
    for order in (1, -1):
        names = {f"p{i}": f"p{6 - i}" if order < 0 else f"p{i}" for i in range(7)}
        cells = [line.split(",") for line in lines]
        (with_va / "manifest.csv").write_text(
            "\n".join([head, *(",".join([*c[:3], names[c[3]], *c[4:]]) for c in cells)])
        )
        found = by_fold(measure([str(both)], "csv", with_va, folds="person"))
        whole = measure([str(both)], "csv", with_va).records[0]
        assert found["pooled"]["metrics"] == pytest.approx(whole["metrics"])
        assert found["pooled"]["n_evaluated"] == 21
        assert np.sum(found["pooled"]["confusion"]) == 18


@pytest.mark.parametrize(
    ("dataset", "folds", "fold"),
    [("csv", "person", 0), ("videoemotion8:all", "person", None), ("videoemotion8:all", None, 0)],
)
def test_a_protocol_has_the_name_of_what_was_scored(
    weights: Path, folded: Path, dataset: str, folds: str | None, fold: int | None
) -> None:
    """Protects records from the name of another protocol: a fold of the table is nobody left out."""
    with pytest.raises(UsageError, match="leave out") as error:
        measure([str(weights)], dataset, folded, folds=folds, fold=fold)
    assert "\n" not in str(error.value)


def test_each_person_alone(weights: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects who is served worst: mean and range over people are those of people scored alone, and are shown."""
    assert measure([str(weights)], "csv", data).records[0]["by_person"] is None, "few items a person"
    monkeypatch.setattr("emozoo.benchmark.statistics.PERSON_ITEMS", 1)
    found = by_fold(measure([str(weights)], "csv", data, folds="person"))
    pooled, each = found.pop("pooled"), [r["metrics"]["UAR"] for k, r in found.items() if k != "mean"]
    people = pooled["by_person"]
    assert people["n"] == len(each) == 7
    assert people["mean"]["UAR"] == pytest.approx(np.mean(each)) == pytest.approx(found["mean"]["metrics"]["UAR"])
    assert (people["min"]["UAR"], people["max"]["UAR"]) == (min(each), max(each))
    assert people["ci95"]["UAR"][0] <= people["mean"]["UAR"] <= people["ci95"]["UAR"][1]
    line = report.to_csv_rows([pooled])[0]
    assert (line["n_people"], line["UAR_person"]) == ("7", f"{np.mean(each):.6g}")
    assert tables.by_person(line).endswith(", 7 people")


def test_splits_that_overlap(weights: Path, tmp_path: Path) -> None:
    """Protects the ten splits: mean and deviation over them, never their items together."""
    classes = ("Anger", "Fear", "Joy", "Surprise")
    names = [f"{c}/{c[0]}{i}" for c in classes for i in range(3)]
    for i, name in enumerate(names):
        (tmp_path / "img" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "img" / name / "000001.jpg"), np.full((48, 48, 3), 20 * i, np.uint8))
    for k in range(1, 11):
        tested = {n for n in names if (ord(n[-1]) + k) % 3 == 0}
        for part, kept in (("train", set(names) - tested), ("test", tested)):
            (tmp_path / f"{part}list{k:02d}.txt").write_text("".join(f"{n}\n" for n in sorted(kept)))
    result = measure([str(weights)], "videoemotion8:all", tmp_path, label_map="basic7_v1")
    *single, mean = result.records
    assert [r["protocol"].partition("@")[0] for r in single] == [f"videoemotion8_list_{k:02d}" for k in range(1, 11)]
    assert (len(single), mean["fold"], mean["ci95"]["WAR"], mean["confusion"]) == (10, "mean", None, None)
    assert mean["std"]["WAR"] == pytest.approx(np.std([r["metrics"]["WAR"] for r in single], ddof=1))
    assert not result.tables[-1]
    with pytest.raises(UsageError, match="videoemotion8"):
        measure([str(weights)], "dfew:all", tmp_path)


@pytest.fixture
def annotated(tmp_path: Path, make_video: Callable[..., Path]) -> Path:
    """Two videos with a value for every frame, one of them longer than what the network looks at."""
    for name, frames in (("long", 200), ("short", 60)):
        make_video(tmp_path / f"{name}.mp4", frames=frames, clicks=(0.5,))
        t = np.arange(frames) / 25
        values = np.stack([np.sin(t), np.cos(t)], 1)
        values[10:15] = -5
        lines = ["valence,arousal", *(f"{v:.4f},{a:.4f}" for v, a in values)]
        (tmp_path / f"{name}.va.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "manifest.csv").write_text("path,group\nlong.mp4,a\nshort.mp4,b\n")
    return tmp_path


def test_every_labelled_frame(make_weights: Callable[..., Path], annotated: Path) -> None:
    """Protects the protocol of Aff-Wild2: all labelled frames of all videos together, and no frame without a label."""
    folder = make_weights("recursive_joint_attention")
    result = measure([str(folder)], "csv", annotated, prior="both")  # there is none where no class is scored
    (record,), (table,) = result.records, result.tables
    assert (record["n_evaluated"], record["n_points"]) == (2, 250)
    long = [line for line in table if line["id"] == "long"]
    assert len(long) == 195
    assert max(line["time"] for line in long) == pytest.approx(199 / 25, abs=1e-3)
    assert np.std([line["valence"] for line in long[100:]]) > 0, "the end of a long video is looked at"
    pairs = np.array([[line["valence"], line["true_valence"]] for line in table])
    assert record["metrics"]["CCC_V"] == pytest.approx(float(concordance_of(concordance_sums(*pairs.T))))
    assert record["metrics"]["CCC"] == pytest.approx((record["metrics"]["CCC_V"] + record["metrics"]["CCC_A"]) / 2)


def test_predictions_give_the_numbers_again(make_weights: Callable[..., Path], annotated: Path, tmp_path: Path) -> None:
    """Protects predictions on disk: the record's numbers follow from them."""
    from emozoo.benchmark import statistics

    result = measure([str(make_weights("recursive_joint_attention"))], "csv", annotated)
    prediction_files.write(result, tmp_path / "r.predictions")
    (record,) = result.records
    read = prediction_files.read(tmp_path / record["predictions"])
    metrics, interval = statistics.evaluate(read.outcome)
    for name in ("CCC_V", "CCC_A", "CCC"):
        assert metrics[name] == pytest.approx(record["metrics"][name], abs=1e-5)
        assert list(interval[name]) == pytest.approx(record["ci95"][name], abs=1e-4)


def test_a_killed_run_goes_on(weights: Path, data: Path, tmp_path: Path) -> None:
    """Protects long runs: finished predictions are not made again, a half-written line is, numbers are the same."""
    whole = measure([str(weights)], "csv", data, batch_size=4)
    first = UnfinishedRun(tmp_path / "cache")
    measure([str(weights)], "csv", data, batch_size=4, unfinished=first)
    (file,) = first.files
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:3]) + lines[3][:40])
    again = UnfinishedRun(tmp_path / "cache")
    result = measure([str(weights)], "csv", data, batch_size=4, unfinished=again)
    assert file.read_text().splitlines(keepends=True)[:3] == lines[:3], "what was predicted is not predicted again"
    assert result.tables == whole.tables
    assert result.records[0]["metrics"] == whole.records[0]["metrics"]
    again.finish()
    assert not file.exists(), "a run that is over leaves nothing: the next one measures anew"


def test_frames_that_changed_are_predicted_again(weights: Path, data: Path, tmp_path: Path) -> None:
    """Protects numbers from what a killed run has cached: a frame that was mended in its folder since counts."""
    (data / "f").mkdir()
    (data / "0.png").rename(data / "f" / "0.png")
    table = data / "manifest.csv"
    table.write_text(table.read_text().replace("\n0.png", "\nf"))
    first = UnfinishedRun(tmp_path / "cache")
    before = measure([str(weights)], "csv", data, unfinished=first)
    (data / "f" / "0.png").write_bytes((data / "1.png").read_bytes())
    again = measure([str(weights)], "csv", data, unfinished=UnfinishedRun(tmp_path / "cache"))
    changed = [a["id"] for a, b in zip(before.tables[0], again.tables[0], strict=True) if a != b]
    assert changed == ["f"]
