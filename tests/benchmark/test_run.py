"""Benchmark records on small drawn images: what is scored, what is refused, what is counted."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from emozoo.benchmark import report
from emozoo.benchmark.contenders import controls_of
from emozoo.benchmark.run import measure
from emozoo.errors import DatasetError, UsageError
from emozoo.labels import BASIC7
from emozoo.zoo import load

DESIGN = {
    "model", "sha256", "detector", "dataset", "protocol", "split", "fold", "seed", "prior", "control", "n_expected",
    "n_evaluated", "no_face", "metrics", "ci95", "per_class", "published", "versions", "seconds",
}  # fmt: skip


def change(data: Path, old: str, new: str) -> None:
    path = data / "manifest.csv"
    path.write_text(path.read_text().replace(old, new))


def test_record(weights: Path, data: Path) -> None:
    """Protects the documented keys, the counts, and the two operating points of one network."""
    train, uniform = measure([str(weights)], "csv", data, prior="both", batch_size=8).records
    json.dumps([train, uniform], allow_nan=False)
    assert set(train) >= DESIGN
    assert (train["n_expected"], train["n_evaluated"], train["n_unscored"], train["no_face"]) == (21, 21, 2, 0)
    assert (train["split"], train["fold"], train["seed"], train["control"]) == ("test", None, 5, None)
    assert train["sha256"] == load(weights).sha256
    assert set(train["metrics"]) == {"WAR", "UAR", "F1", "CCC_V", "CCC_A"}
    assert train["metrics"]["CCC_V"] is None
    assert (train["prior"], uniform["prior"]) == ("train", "uniform")
    assert train["per_class"]["surprise"]["recall"] == 1, "the prior of training speaks for surprise"
    assert train["per_class"] != uniform["per_class"]
    assert 0 <= train["ece"] <= 1
    low, high = train["ci95"]["WAR"]
    assert low <= train["metrics"]["WAR"] <= high


def test_same_numbers_as_prediction(weights: Path, data: Path) -> None:
    """Protects the one path: the benchmark's confusion is that of predicting each file alone."""
    from emozoo.data.clips import ClipReader, to_batch

    module = load(weights)
    rows = list(csv.DictReader((data / "manifest.csv").open()))[:21]
    right = 0
    for row in rows:
        with ClipReader(data / row["path"], module.spec, box=(0, 0, 47, 47)) as reader:
            batch = to_batch([reader.read()], module.spec)
        with torch.inference_mode():
            scores = module.scores(module.net(batch.inputs, batch.masks).logits, "train")
        right += module.classes[int(scores.argmax())] == row["label"]
    (record,) = measure([str(weights)], "csv", data).records
    assert record["metrics"]["WAR"] == pytest.approx(right / 21)


def test_worker_processes_change_nothing(weights: Path, data: Path) -> None:
    """Protects evaluation in worker processes: the same items, the same numbers."""
    alone = measure([str(weights)], "csv", data).records[0]
    shared_out = measure([str(weights)], "csv", data, num_workers=2, batch_size=4).records[0]
    for key in ("metrics", "ci95", "per_class", "n_evaluated"):
        assert alone[key] == shared_out[key]


def test_labels_per_frame_do_not_disturb_a_network_of_classes(
    weights: Path, tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    """Protects clips that have valence and arousal per frame beside their class: a network that answers classes alone
    scores each whole clip once, also a long one, as if the file of the frames were not there."""
    lines = ["path,label,split"]
    for i, label in enumerate(BASIC7):
        make_video(tmp_path / f"{i}.mp4", frames=30 + 10 * i, fps=5, size=(96, 72))
        lines.append(f"{i}.mp4,{label},test")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    tables = []
    for sidecar in (False, True):
        if sidecar:
            for i in range(7):
                (tmp_path / f"{i}.va.csv").write_text("valence,arousal\n" + "0.1,0.2\n" * (30 + 10 * i))
        (table,) = measure([str(weights)], "csv", tmp_path, batch_size=2).tables
        tables.append(table)
    assert len(tables[0]) == 7
    assert tables[0] == tables[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_is_skipped_in_silence(weights: Path, data: Path, workers: int) -> None:
    """Protects n: an unreadable item stops the run in one readable line, or is counted where that was asked for."""
    (data / "4.png").write_text("no image")
    with pytest.raises(DatasetError, match=r"4\.png") as e:
        measure([str(weights)], "csv", data, num_workers=workers)
    assert "emozoo check" in str(e.value)
    assert "\n" not in str(e.value)
    (record,) = measure([str(weights)], "csv", data, num_workers=workers, allow_missing=True).records
    assert (record["n_expected"], record["n_evaluated"]) == (21, 20)


def test_other_classes_are_refused(weights: Path, data: Path) -> None:
    """Protects against comparing different emotions: refused without a label map, reduced and said with one."""
    change(data, "disgust", "calm")
    with pytest.raises(UsageError, match="--label-map"):
        measure([str(weights)], "csv", data)
    (record,) = measure([str(weights)], "csv", data, label_map="basic7_v1").records
    assert record["label_map"] == "basic7_v1"
    assert record["classes"] == [c for c in BASIC7 if c != "disgust"]
    assert (record["n_expected"], record["n_unscored"]) == (18, 5)
    assert set(record["per_class"]) == set(record["classes"]), "the network chooses among the scored classes alone"


def test_spelling_is_no_other_class(weights: Path, data: Path) -> None:
    """Protects synonyms: happy and sadness are classes of the network, whatever their spelling and order."""
    plain = measure([str(weights)], "csv", data).records[0]
    change(data, "happiness", "Happy")
    change(data, "sadness", "sad")
    assert measure([str(weights)], "csv", data).records[0]["metrics"] == plain["metrics"]


def test_wrong_requests(weights: Path, data: Path) -> None:
    """Protects the messages for an unknown split, prior and control, for no model, and for data without labels."""
    with pytest.raises(DatasetError, match="val"):
        measure([str(weights)], "csv", data, split="val")
    with pytest.raises(UsageError, match="prior"):
        measure([str(weights)], "csv", data, prior="both of them")
    with pytest.raises(UsageError, match="control"):
        controls_of(str(weights), "plain average")
    with pytest.raises(UsageError, match="--model"):
        measure([], "csv", data)
    text = "path,split\n" + "".join(f"{i}.png,test\n" for i in range(3))
    (data / "manifest.csv").write_text(text)
    with pytest.raises(DatasetError, match="none of 3 items"):
        measure([str(weights)], "csv", data)


def test_results_table(weights: Path, data: Path, tmp_path: Path) -> None:
    """Protects committed results: one line a measurement, replaced when it is made again, others kept."""
    records = measure([str(weights)], "csv", data, prior="both").records
    out = tmp_path / "results"
    (path,) = report.save(records, out)
    report.save(records[:1], out)
    lines = list(csv.DictReader(path.open()))
    assert len(lines) == 2
    assert [x["prior"] for x in lines] == ["train", "uniform"]
    assert list(lines[0]) == list(report.COLUMNS)
    assert float(lines[0]["WAR"]) == pytest.approx(records[0]["metrics"]["WAR"], abs=1e-5)
    assert lines[0]["CCC_V"] == lines[0]["delta"] == ""
    report.write_json(records, tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text()) == {"schema": 1, "records": records}


def controlled(record: dict[str, Any]) -> dict[str, Any]:
    """What a control's record looks like."""
    values = {"WAR": 0.1, "UAR": 0.125, "F1": 0.1, "CCC_V": None, "CCC_A": None}
    ends = {k: None if v is None else [v - 0.05, v + 0.05] for k, v in values.items()}
    return {**record, "control": "plain average", "delta": values, "delta_ci95": ends}


def test_table_to_read(weights: Path, data: Path) -> None:
    """Protects the terminal's table: counts, intervals, and a control's difference beside it."""
    (record,) = measure([str(weights)], "csv", data).records
    console = Console(width=120, record=True, file=(data / "out.txt").open("w"))
    report.show([record, controlled(record)], console)
    text = console.export_text()
    assert "21 of 21 items" in text
    assert "UAR +12.5" in text
    assert "+7.5 to +17.5" in text
    (line,) = report.to_csv_rows([controlled(record)])
    assert (line["delta"], line["delta_lo"], line["delta_hi"], line["delta_metric"]) == (
        "0.125",
        "0.075",
        "0.175",
        "UAR",
    )
