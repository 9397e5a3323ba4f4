"""Who trains, who validates, who is tested: one deal for all stages, said once, and never a wrong one in silence."""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from emozoo.data import loading, targets
from emozoo.data.datamodule import EmotionDataModule
from emozoo.errors import DatasetError, EmozooError, ManifestError, UsageError, WeightsError
from emozoo.spec import ClipSpec, StreamSpec

SPEC = ClipSpec({"face": StreamSpec("face", (48, 48))}, clips=1, sampling="segments", window_s=3.0)
Table = Callable[..., Path]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Writes a manifest of so many images in two classes, with further columns, each a function of the number."""

    def write(count: int = 40, **columns: Callable[[int], object]) -> Path:
        rng = np.random.default_rng(0)
        rows = []
        for i in range(count):
            file = tmp_path / f"{i:02d}.png"
            if not file.exists():
                cv2.imwrite(str(file), rng.integers(0, 120, (48, 48, 3), dtype=np.uint8))
            row = {"path": file.name, "label": "bright" if i % 2 else "dark", "x1": 0, "y1": 0, "x2": 47, "y2": 47}
            rows.append(row | {k: f(i) for k, f in columns.items()})
        path = tmp_path / "manifest.csv"
        with path.open("w", newline="") as f:
            out = csv.DictWriter(f, list(rows[0]))
            out.writeheader()
            out.writerows(rows)
        return path

    return write


def parts(table: Path, stage: str | None = "fit", **options: Any) -> dict[str, list[str]]:
    dm = EmotionDataModule("csv", table, spec=SPEC, batch_size=8, **options)
    dm.setup(stage)
    return {p: [r.id for r in getattr(dm, f"{p}_rows")] for p in ("train", "val", "test")}


def sizes(table: Path, **options: Any) -> tuple[int, ...]:
    return tuple(map(len, parts(table, **options).values()))


# -- data without splits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["validate", "test", "predict", None])
@pytest.mark.parametrize("options", [{}, {"val_share": 0.0}, {"seed": 5}], ids=str)
def test_every_stage_deals_the_same_split(table: Table, stage: str | None, options: dict[str, Any]) -> None:
    """Protects a test from items that were trained on: the deal follows from rows and seed, never from the stage."""
    path = table()
    fitted = parts(path, "fit", **options)
    assert parts(path, stage, **options) == fitted
    assert len(fitted["test"]) == 8
    assert sum(map(len, fitted.values())) == len(set().union(*fitted.values())) == 40


def test_the_order_of_stages_changes_no_split(table: Table) -> None:
    """Protects one module that fits and tests, in any order."""
    dm = EmotionDataModule("csv", table(), spec=SPEC)
    dm.setup("test")
    tested = dm.test_rows
    dm.setup("fit")
    assert dm.test_rows == tested
    assert not {r.id for r in dm.train_rows} & {r.id for r in tested}


def test_a_split_of_everything_is_asked_for_by_name(table: Table) -> None:
    """Protects benchmarks on data without splits: ``split="all"`` evaluates every item, and leaves none to train on."""
    path = table()
    assert sizes(path, split="all") == (0, 0, 40)
    assert sizes(table(split=lambda i: ("train", "test")[i % 2]), split="all") == (0, 0, 40)
    dm = EmotionDataModule("csv", path, spec=SPEC, split="all")
    dm.setup("fit")
    with pytest.raises(DatasetError, match=r"training.*split='all'"):
        dm.train_dataloader()


def test_a_dealt_split_is_said_once(table: Table, caplog: pytest.LogCaptureFixture) -> None:
    """Protects whoever did not know that the deal was ours: which rule, how many rows where, in one line of the log."""
    dm = EmotionDataModule("csv", table(), spec=SPEC)
    with caplog.at_level(logging.INFO, logger="emozoo"):
        for stage in ("fit", "validate", "test"):
            dm.setup(stage)
    (record,) = [r for r in caplog.records if r.name.startswith("emozoo")]
    assert record.levelno == logging.WARNING, "seen without any setting"
    for word in ("28", "4", "8", "no split", "seed 0", "split="):
        assert word in record.getMessage()


# -- official parts ----------------------------------------------------------------------------------------------------

PARTS = ("train", "train", "val", "test")


def test_the_official_val_split_validates(table: Table, caplog: pytest.LogCaptureFixture) -> None:
    """Protects the validation part that comes with the data: it validates, and no row of training is lost for it."""
    path = table(split=lambda i: PARTS[i % 4])
    with caplog.at_level(logging.INFO, logger="emozoo"):
        found = parts(path)
    assert [len(x) for x in found.values()] == [20, 10, 10]
    assert all(int(i) % 4 == 2 for i in found["val"])
    (record,) = [r for r in caplog.records if r.name.startswith("emozoo")]
    for word in ("20", "10", "'val'", "'test'"):
        assert word in record.getMessage()


def test_a_val_share_says_otherwise_than_the_val_split(table: Table, caplog: pytest.LogCaptureFixture) -> None:
    """Protects recipes with a ``val_share``: it is taken from train as ever, and the unused official part is named."""
    path = table(split=lambda i: PARTS[i % 4])
    with caplog.at_level(logging.INFO, logger="emozoo"):
        assert sizes(path, val_share=0.1) == (18, 2, 10)
    assert any(r.levelno == logging.WARNING and "10 rows of split 'val' are used nowhere" in r.getMessage()
               for r in caplog.records)  # fmt: skip
    assert sizes(path, val_share=0.0) == (20, 10, 10)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, (27, 3, 10)),  # val is the reported part, as in papers that report on it; a tenth of train validates
        ({"split": "val"}, (27, 3, 10)),
        ({"val_share": 0.2}, (24, 6, 10)),
        ({"val_share": 0.0}, (30, 10, 10)),  # val validates and is reported: nothing may be chosen by it
    ],
    ids=str,
)
def test_a_reported_val_split(table: Table, options: dict[str, Any], wanted: tuple[int, ...]) -> None:
    """Protects data whose authors give train and val alone."""
    path = table(split=lambda i: "val" if i % 4 == 0 else "train")
    found = parts(path, **options)
    assert pytest.approx([len(x) for x in found.values()], abs=1) == list(wanted)
    assert len(found["test"]) == 10
    assert not set(found["train"]) & {*found["val"], *found["test"]}


def test_what_is_reported_of_a_split_is_never_trained_on(table: Table) -> None:
    """Protects ``split="train"``, for a look at what was learned, from a fit that tests on its own items."""
    path = table(split=lambda i: PARTS[i % 4])
    found = parts(path, split="train")
    assert len(found["test"]) == 20
    assert not found["train"]
    assert sizes(table(split=lambda i: "train")) == (36, 4, 0)


@pytest.mark.parametrize("spelled", ["validation", "Val", "dev"])
def test_a_split_by_another_name(table: Table, spelled: str) -> None:
    """Protects ``split="validation"``: the table's own spellings are known, in the argument too."""
    assert sizes(table(split=lambda i: PARTS[i % 4]), split=spelled)[2] == 10


def test_a_test_split_may_validate(table: Table) -> None:
    """Protects short fits, in which nothing is chosen by it: what is held out validates where nothing else does."""
    held = parts(table(), val_share=0.0, val_on_test=True)
    assert held["val"] == held["test"]
    assert len(held["test"]) == 8
    assert sizes(table(split=lambda i: PARTS[i % 4]), val_share=0.0, val_on_test=True) == (20, 10, 10)


# -- folds -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        ({"fold": lambda i: 1 + i % 5}, {"fold": 9}, "no fold 9.*there are 1, 2, 3, 4, 5"),
        ({"fold": lambda i: 1 + i % 5}, {"fold": 0}, "no fold 0.*there are 1, 2, 3, 4, 5"),
        ({"fold": lambda i: 1 + i % 5}, {"fold": -1}, "no fold -1.*there are 1, 2, 3, 4, 5"),
        ({}, {"fold": 0}, "no fold 0.*no folds at all"),
        ({"group": lambda i: f"p{i}"}, {"folds": 5}, "folds=5 needs fold=, one of 0, 1, 2, 3, 4"),
        ({"group": lambda i: f"p{i}"}, {"folds": 5, "fold": 5}, "no fold 5.*there are 0, 1, 2, 3, 4"),
        ({"group": lambda i: f"p{i}"}, {"folds": 5, "fold": -1}, "no fold -1.*there are 0, 1, 2, 3, 4"),
        ({"group": lambda i: f"p{i}"}, {"folds": 1, "fold": 0}, "folds must be 2 or more, got 1"),
        ({"group": lambda i: f"p{i}"}, {"folds": -3, "fold": 0}, "folds must be 2 or more, got -3"),
        ({"group": lambda i: f"p{i % 3}"}, {"folds": 5, "fold": 0}, "5 folds.*3 people"),
        ({}, {"folds": 5, "fold": 0}, "group column"),
        ({}, {"folds": "person", "fold": 0}, "group column"),
        ({"group": lambda i: f"p{i % 3}"}, {"folds": "person"}, r"needs fold=, one of 0 \(p0\), 1 \(p1\), 2 \(p2\)"),
        ({"group": lambda i: f"p{i % 3}"}, {"folds": "person", "fold": 3}, r"no fold 3.*there are 0 \(p0\)"),
        ({"group": lambda i: "p0"}, {"folds": "person", "fold": 0}, "2 folds.*1 people"),
        ({"fold": lambda i: 1 + i % 5}, {"fold": True}, "fold must be a whole number, got True"),
        ({"fold": lambda i: 1 + i % 5}, {"fold": "1"}, "fold must be a whole number, got '1'"),
        ({"fold": lambda i: 1 + i % 5}, {"fold": 1.0}, "fold must be a whole number, got 1.0"),
        ({"group": lambda i: f"p{i}"}, {"folds": True, "fold": 0}, "folds must be a whole number, got True"),
        ({"group": lambda i: f"p{i}"}, {"folds": "5", "fold": 0}, "folds must be a whole number, got '5'"),
    ],
    ids=lambda x: x if isinstance(x, str) else "-".join(x) if any(map(callable, x.values())) else str(x),
)
@pytest.mark.parametrize("stage", ["fit", "test"])
def test_a_fold_that_is_not_there_is_refused(
    table: Table, stage: str, columns: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    """Protects from a mistyped fold, which would train on every row and test on none; the folds there are are named."""
    with pytest.raises(EmozooError, match=words) as e:
        parts(table(**columns), stage, **options)
    assert "\n" not in str(e.value)


def test_an_empty_fold_is_refused(table: Table) -> None:
    """Protects from a fold in which nobody is, since people are assigned by a hash of their names."""
    path = table(group=lambda i: ("dan", "fay", "gus")[i % 3])
    with pytest.raises(DatasetError, match="fold 0 of 3 holds nobody"):
        parts(path, folds=3, fold=0)
    for k in (1, 2):
        assert parts(path, folds=3, fold=k)["test"]


def test_a_numpy_fold_is_a_fold(table: Table) -> None:
    """Protects loops over ``np.arange``: a whole number of another kind is one."""
    path = table(fold=lambda i: 1 + i % 5)
    assert parts(path, fold=np.int64(2)) == parts(path, fold=2)


def test_no_fold_trains_on_the_test_split(table: Table) -> None:
    """Protects a test part beside a fold column: its rows have no fold, and are no training rows for that."""
    path = table(split=lambda i: "test" if i >= 30 else "train", fold=lambda i: "" if i >= 30 else 1 + i % 5)
    found = parts(path, fold=1)
    assert len(found["test"]) == 6
    assert not {f"{i}" for i in range(30, 40)} & set(found["train"])


UNCHANGED = ["05", "08", "09", "13", "14", "22", "32", "39"]

# -- one file, one side ------------------------------------------------------------------------------------------------


def sides(table: Path, **options: Any) -> list[set[str]]:
    dm = EmotionDataModule("csv", table, spec=SPEC, **options)
    dm.setup("fit")
    return [{str(Path(r.path).resolve()) for r in rows} for rows in (dm.train_rows, dm.val_rows, dm.test_rows)]


def apart(found: list[set[str]]) -> bool:
    return not (found[0] & found[1] or found[0] & found[2] or found[1] & found[2])


@pytest.mark.parametrize("seed", range(3))
def test_a_file_never_lies_on_both_sides_of_a_split(table: Table, tmp_path: Path, seed: int) -> None:
    """Protects parts of one video, named by times, and rows that stand twice: they go to one side together."""
    path = table(path=lambda i: f"{i // 4:02d}.png", start=lambda i: i % 4 * 5, end=lambda i: i % 4 * 5 + 5)
    found = sides(path, val_share=0.25, seed=seed)
    assert all(found)
    assert apart(found)


def test_a_link_is_its_file_in_a_split(table: Table, tmp_path: Path) -> None:
    """Protects from links, and from other ways to write a path: the file behind it counts."""
    for i in range(10, 20):
        (tmp_path / f"{i}.png").symlink_to(tmp_path / f"{i - 10:02d}.png")
    (tmp_path / "sub").mkdir()
    path = table(30, path=lambda i: f"{i:02d}.png" if i < 20 else f"sub/../{i - 20:02d}.png")
    found = sides(path, val_share=0.25)
    assert sum(map(len, found)) == 10
    assert apart(found)


def test_people_of_one_file_stay_together_in_a_split(table: Table) -> None:
    """Protects a clip with two people: whoever shares a file with somebody goes with them, also into folds."""
    path = table(path=lambda i: f"{i // 4:02d}.png", group=lambda i: f"p{i // 4}{'ab'[i % 2]}")
    assert apart(sides(path, val_share=0.25))
    for k in range(2):
        found = sides(path, folds=2, fold=k, val_share=0.0)
        assert found[0]
        assert found[2]
        assert not found[0] & found[2]


def test_unique_files_keep_their_split(table: Table, tmp_path: Path) -> None:
    """Protects committed numbers: where every file stands once, the deal is what it always was."""
    assert parts(table())["test"] == UNCHANGED
    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path, moved, ignore=shutil.ignore_patterns("elsewhere"))
    assert parts(moved / "manifest.csv")["test"] == UNCHANGED


# -- rows stay what they are -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["train", "val", "test"])
@pytest.mark.parametrize("opened", [False, True])
def test_rows_of_a_split_cannot_be_exchanged(table: Table, part: str, opened: bool) -> None:
    """Protects from new ids and labels with the old images: rows are read-only, and the error says what to do."""
    dm = EmotionDataModule("csv", table(), spec=SPEC, batch_size=8)
    dm.setup("fit")
    if opened:
        list(dm.test_dataloader())
    with pytest.raises(AttributeError, match=f"{part}_rows.*loader_of"):
        setattr(dm, f"{part}_rows", dm.test_rows)
    with pytest.raises(TypeError):
        getattr(dm, f"{part}_rows")[0] = dm.test_rows[1]


def test_a_loader_of_rows_outside_the_split(table: Table) -> None:
    """Protects whoever needs other rows, as the benchmark does: a loader of them changes nothing in the module."""
    dm = EmotionDataModule("csv", table(), spec=SPEC, batch_size=8)
    dm.setup("test")
    before = list(dm.test_dataloader())
    rows = dm.train_rows[:10]
    found = list(dm.loader_of(rows))
    assert [i for b in found for i in b.meta["id"]] == [r.id for r in rows]
    files = {r.id: r.path for r in rows}
    assert len({b.inputs["face"].sum().item() for b in found}) == len(found)
    assert files.keys() == {i for b in found for i in b.meta["id"]}
    again = list(dm.test_dataloader())
    assert [b.meta["id"] for b in again] == [b.meta["id"] for b in before]
    assert all((a.inputs["face"] == b.inputs["face"]).all() for a, b in zip(again, before, strict=True))


def test_a_val_share_outside_of_a_split_is_refused(table: Table) -> None:
    """Protects from a share in per cent, which would leave nothing to train on."""
    for share in (10, 1.0, -0.1):
        with pytest.raises(UsageError, match="val_share must be"):
            parts(table(), val_share=share)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"subset": 0}, "subset must be above 0"),
        ({"subset": 2}, "subset must be above 0 and at most 1, got 2"),
        ({"balance": 0.5}, "has no balance= any more.*loss=.*tau"),
        ({"features": 4}, r"has no features= any more.*FeatureCache\(draws=N\)"),
        ({"motion_share": 1.5}, "motion_share"),
        ({"val_share": "x"}, "val_share must be 0 or more and below 1, got 'x'"),
        ({"val_share": 1}, "val_share must be"),
        ({"batch_size": 0}, "batch_size must be a whole number, 1 or more"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"num_workers": -1}, "num_workers"),
        ({"seed": -1}, "seed"),
        ({"augment": {"fcae": {"flip": 0.5}}}, "no stream 'fcae'; there are face"),
        ({"augment": {"face": {"flpi": 0.5}}}, "no flpi; there are flip"),
        ({"teacher": ["nowhere.csv"]}, "nowhere.csv: no such file"),
        ({"also": [{"root": "more"}]}, "needs dataset and root"),
        ({"also": [{"dataset": "csv", "root": "more", "splits": "train"}]}, "has no splits"),
    ],
)
def test_settings_that_no_split_can_follow_are_refused(table: Table, options: dict[str, Any], said: str) -> None:
    """Protects from settings that are silently without effect (a misspelt stream, a share above 1)."""
    with pytest.raises((UsageError, DatasetError), match=said):
        EmotionDataModule("csv", table(12), spec=SPEC, **options).setup("fit")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("where", ["reading", "labels"])
def test_an_error_of_a_loader_over_a_split_keeps_its_kind(
    table: Table, monkeypatch: pytest.MonkeyPatch, workers: int, where: str
) -> None:
    """Protects from the page that torch makes of an error in a worker process: kind and text stay what they were."""

    def no_detector(*_: Any) -> Any:
        raise WeightsError("the face detector is not to be had")

    def bad_line(*_: Any) -> Any:
        raise ManifestError("va.csv", 7, "no number")

    if where == "reading":
        monkeypatch.setattr(loading, "read_row", no_detector)
    else:
        monkeypatch.setattr(targets.Labels, "targets", bad_line)
    dm = EmotionDataModule("csv", table(12), spec=SPEC, batch_size=4, num_workers=workers)
    dm.setup("test")
    loader = dm.test_dataloader()
    loader.multiprocessing_context = get_context("fork") if workers else None
    with pytest.raises(WeightsError if where == "reading" else ManifestError) as raised:
        list(loader)
    wanted = {"reading": "the face detector is not to be had", "labels": "va.csv, line 7: no number"}
    assert str(raised.value) == wanted[where]


# -- one person left out -----------------------------------------------------------------------------------------------


def test_one_person_is_left_out(table: Table) -> None:
    """Protects leave-one-person-out: fold k tests the k-th person by name, whatever their split, and nobody twice."""
    path = table(group=lambda i: f"p{(i * 7) % 4}", split=lambda i: "val" if (i * 7) % 4 == 2 else "train")
    tested = []
    for k in range(4):
        found = parts(path, folds="person", fold=k, val_share=0.0)
        assert {f"p{int(i.removesuffix('.png')) * 7 % 4}" for i in found["test"]} == {f"p{k}"}
        assert not set(found["train"]) & set(found["test"])
        assert len(found["train"]) + len(found["test"]) == 40
        tested += found["test"]
    assert sorted(tested) == sorted(set(tested))
    assert len(tested) == 40


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize(
    "options", [{"folds": "person", "fold": 1}, {"folds": 2, "fold": 0}, {"split": "val"}, {"val_share": 0.25}], ids=str
)
def test_a_further_set_does_not_train_on_who_is_tested(
    table: Table, tmp_path: Path, caplog: pytest.LogCaptureFixture, options: dict[str, Any], labels: bool
) -> None:
    """Protects from the same actor's voice in a second table: who is tested or validates trains in no set."""
    first = table(group=lambda i: f"p{i % 4}", split=lambda i: "val" if i % 4 == 3 else "train")
    lines = [f"{i:02d}.png,{'bright' if i % 2 else 'dark'},p{i % 5},train" for i in range(40)]
    second = tmp_path / "second.csv"  # other takes of the same people, and one more person
    second.write_text("\n".join(["path,label,group,split", *lines]))
    for i in range(40):  # other files
        shutil.copy(tmp_path / f"{i:02d}.png", tmp_path / f"take{i:02d}.png")
    second.write_text(second.read_text().replace("\n", "\ntake"))
    dm = EmotionDataModule(
        "csv", first, spec=SPEC, also=[{"dataset": "csv", "root": str(second), "labels": labels}], **options
    )
    dm.setup("fit")
    held = {r.group for r in (*dm.test_rows, *dm.val_rows)}
    further = [r for r in dm.train_rows if r.id.startswith("take")]
    assert held
    assert not held & {r.group for r in dm.train_rows}
    assert {r.group for r in further} == {f"p{k}" for k in range(5)} - held
    lost = 40 - len(further)
    assert f"{lost} of 40 rows of also= left out, since their people or files are tested or validate" in caplog.text
