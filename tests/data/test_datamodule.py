"""The data module: who lands in which part, what a bad file does, and that every worker draws anew."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from emozoo.data.datamodule import EmotionDataModule, Strided, fold_of
from emozoo.errors import DatasetError, UsageError, VideoError
from emozoo.module import EmotionModule
from emozoo.spec import ClipSpec, StreamSpec

SPEC = ClipSpec({"face": StreamSpec("face", (48, 48))}, clips=1, sampling="segments", window_s=3.0)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """40 pictures of 10 people in two classes, with a manifest; each is its own face box."""
    rng = np.random.default_rng(0)
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["path", "label", "identity", "x1", "y1", "x2", "y2"])
        for i in range(40):
            name = f"{i:02d}.png"
            picture = rng.integers(0, 120, (48, 48, 3), dtype=np.uint8) + (100 if i % 2 else 0)
            cv2.imwrite(str(tmp_path / name), picture.astype(np.uint8))
            out.writerow([name, "bright" if i % 2 else "dark", f"p{i // 4}", 0, 0, 47, 47])
    return tmp_path / "manifest.csv"


def module_of(table: Path, **options: object) -> EmotionDataModule:
    dm = EmotionDataModule("csv", table, spec=SPEC, batch_size=8, **options)  # type: ignore[arg-type]
    dm.setup("fit")
    return dm


def test_people_never_stand_on_both_sides(table: Path) -> None:
    """Parts are cut by person, in the default split, in the validation part and in folds."""
    dm = module_of(table, val_share=0.25)
    parts = [{r.group for r in rows} for rows in (dm.train_rows, dm.val_rows, dm.test_rows)]
    assert all(parts)
    assert not (parts[0] & parts[1])
    assert not (parts[0] & parts[2])
    assert not (parts[1] & parts[2])
    held = []
    for k in range(3):
        dm = module_of(table, folds=3, fold=k, val_share=0.0)
        assert not {r.group for r in dm.train_rows} & {r.group for r in dm.test_rows}
        held += [r.id for r in dm.test_rows]
        assert all(fold_of(str(r.group), 3) == k for r in dm.test_rows)
    assert sorted(held) == sorted(r.id for r in (*dm.manifest.rows,))  # type: ignore[union-attr]


def test_the_same_seed_gives_the_same_parts(table: Path) -> None:
    """Splits depend on seed and data alone."""
    first, again = module_of(table, val_share=0.2), module_of(table, val_share=0.2)
    assert [r.id for r in first.train_rows] == [r.id for r in again.train_rows]


def test_evaluation_takes_every_item_where_no_split_is_given(table: Path) -> None:
    """Only training cuts a set that has no split column."""
    dm = EmotionDataModule("csv", table, spec=SPEC, batch_size=8)
    dm.setup("test")
    assert len(dm.test_rows) == 40


@pytest.mark.parametrize("size", [5, 6, 7])
def test_two_processes_score_each_item_once(size: int) -> None:
    """Nothing padded, nothing dropped: 5 items on 2 processes stay 5."""
    shares = [list(Strided(size, rank, 2)) for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == list(range(size))


@pytest.mark.parametrize("workers", [0, 2])
def test_every_sample_and_epoch_draws_anew(table: Path, workers: int) -> None:
    """albumentations repeats itself in workers unless each sample brings its own seed."""
    augment = {"face": {"light": 0.9, "noise": 1.0, "blur": 0.5}}
    dm = module_of(table, val_share=0.0, augment=augment, num_workers=workers)
    dm.train_rows = [dm.train_rows[0]] * 16  # one picture, so that only the draws differ
    loader = dm.train_dataloader()
    seen = [x for _ in range(2) for batch in loader for x in batch.inputs["face"].flatten(1)]
    assert len(seen) == 32
    assert len({x.numpy().tobytes() for x in seen}) >= 30


def test_bad_files_are_counted_in_training_and_refused_in_evaluation(table: Path) -> None:
    """Training goes on without them, evaluation never skips silently."""
    dm = module_of(table, val_share=0.0)
    Path(dm.train_rows[0].path).write_text("not a picture")
    Path(dm.test_rows[0].path).write_text("not a picture")
    batches = [b for b in dm.train_dataloader() if b is not None]
    assert sum(len(b.meta["skipped"]) for b in batches) == 1
    with pytest.raises(VideoError, match=Path(dm.test_rows[0].path).name):
        list(dm.test_dataloader())
    dm.allow_missing = True
    assert sum(len(b) for b in dm.test_dataloader()) == len(dm.test_rows) - 1


def test_classes_of_data_and_model_are_never_matched_by_chance(table: Path) -> None:
    """Other classes need a named label map."""
    dm = EmotionDataModule("csv", table, spec=SPEC, classes=("anger", "fear"))
    with pytest.raises(UsageError, match="label-map"):
        dm.setup("fit")


def test_a_split_that_is_not_there_is_named(table: Path) -> None:
    """The error lists the splits that exist."""
    dm = EmotionDataModule("csv", table, spec=SPEC, split="validation")
    with pytest.raises(DatasetError, match="no split 'validation'"):
        dm.setup("test")


def test_stills_are_encoded_once_with_the_same_answer(table: Path) -> None:
    """A still shown C x F times costs one pass of the encoder and changes no score."""
    model = EmotionModule("ceflnet", size="lite", classes=["bright", "dark"], options={"backbone": "vgg_tiny"}).eval()
    dm = EmotionDataModule("csv", table, spec=model.spec, classes=model.classes, batch_size=8)
    dm.setup("test")
    batch = next(iter(dm.test_dataloader()))
    assert batch.meta["one_picture"]
    assert batch.inputs["face"].shape == (8, 3, 3, 3, 48, 48)
    with torch.inference_mode():
        quick = model.output(batch).logits
        full = model.net(batch.inputs, batch.masks).logits
    assert torch.allclose(quick, full, atol=1e-5)


def test_preloading_changes_nothing_that_is_read(table: Path) -> None:
    """Clips held in memory are those that are read one by one."""
    plain, kept = module_of(table, val_share=0.0), module_of(table, val_share=0.0, preload=1, num_workers=1)
    a = torch.cat([b.inputs["face"] for b in plain.test_dataloader()])
    b = torch.cat([b.inputs["face"] for b in kept.test_dataloader()])
    assert torch.equal(a, b)
