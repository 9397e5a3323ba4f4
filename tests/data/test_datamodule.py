"""The data module: who lands in which part, what a bad file does, and that every worker draws anew."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import BatchSampler

from emozoo.batch import Batch
from emozoo.data import loading
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.loading import TrainLoader
from emozoo.data.splits import fold_of
from emozoo.errors import DatasetError, UsageError, VideoError
from emozoo.module import EmotionModule
from emozoo.spec import ClipSpec, StreamSpec

SPEC = ClipSpec({"face": StreamSpec("face", (48, 48))}, clips=1, sampling="segments", window_s=3.0)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """40 images of 10 people in two classes, with a manifest; each is its own face box."""
    rng = np.random.default_rng(0)
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["path", "label", "identity", "x1", "y1", "x2", "y2"])
        for i in range(40):
            name = f"{i:02d}.png"
            image = rng.integers(0, 120, (48, 48, 3), dtype=np.uint8) + (100 if i % 2 else 0)
            cv2.imwrite(str(tmp_path / name), image.astype(np.uint8))
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


def test_evaluation_takes_every_item_where_it_is_asked_to(table: Path) -> None:
    """A benchmark of a set without splits scores all of it, by ``split="all"``; a plain test the drawn part."""
    for split, count in (("all", 40), (None, 8)):
        dm = EmotionDataModule("csv", table, spec=SPEC, split=split, batch_size=8)
        dm.setup("test")
        assert len(dm.test_rows) == count


@pytest.mark.parametrize("workers", [0, 2])
def test_every_sample_and_epoch_draws_anew(table: Path, workers: int) -> None:
    """albumentations repeats itself in workers unless each sample brings its own seed."""
    augment = {"face": {"light": 0.9, "noise": 1.0, "blur": 0.5}}
    dm = module_of(table, val_share=0.0, augment=augment, num_workers=workers)
    loader = dm.loader_of([dm.train_rows[0]] * 16, train=True)  # one image, so that only the draws differ
    seen = [x for _ in range(2) for batch in loader for x in batch.inputs["face"].flatten(1)]
    assert len(seen) == 32
    assert len({x.numpy().tobytes() for x in seen}) >= 30


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on_where_it_was_stopped(table: Path, workers: int) -> None:
    """A loader that is stopped after two batches gives, once its state is loaded, the rest of the very same epoch, also
    of a later epoch of processes that live through all of them."""

    def loader() -> TrainLoader:
        dm = module_of(table, augment={"face": {"flip": 0.5, "light": 0.5}}, num_workers=workers)
        made = dm.train_dataloader()
        assert isinstance(made, TrainLoader)
        return made

    torch.manual_seed(3)
    first = loader()
    list(first)
    whole, state = [], None
    for batch in first:
        whole.append(batch)
        if len(whole) == 2:
            state = first.state_dict()
    again = loader()
    torch.manual_seed(99)
    again.load_state_dict(state)
    rest = list(again)
    assert [b.meta["id"] for b in rest] == [b.meta["id"] for b in whole[2:]]
    for a, b in zip(rest, whole[2:], strict=True):
        torch.testing.assert_close(a.inputs, b.inputs)
    assert len(list(again)) == len(whole)  # the next epoch is whole


JOB = """
import json, os, sys
import lightning as L, torch
from emozoo.data.datamodule import EmotionDataModule
from emozoo.module import EmotionModule

world = int(os.environ.get("WORLD_SIZE", 1))
for n in (5, 6, 7):
    torch.manual_seed(0)
    module = EmotionModule("emotion_fan", "stable", "lite", ["bright", "dark"])
    dm = EmotionDataModule(
        "csv", f"{sys.argv[1]}/first{n}.csv", spec=module.spec, classes=module.classes, batch_size=2, split="all"
    )
    trainer = L.Trainer(
        accelerator="cpu", devices=world, strategy="ddp" if world > 1 else "auto",
        logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )
    found = trainer.test(module, dm, verbose=False)[0]
    if trainer.is_global_zero:
        print(json.dumps([n, found]))
"""


def test_two_processes_measure_what_one_measures(table: Path) -> None:
    """Evaluation on 5, 6 and 7 items over two processes gives exactly the metrics of one: none twice, none left out."""
    lines = table.read_text().splitlines()
    for n in (5, 6, 7):
        (table.parent / f"first{n}.csv").write_text("\n".join(lines[: n + 1]) + "\n")
    script = table.parent / "job.py"
    script.write_text(JOB)
    found = []
    for launch in ([], ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]):
        run = [sys.executable, *launch, str(script), str(table.parent)]
        done = subprocess.run(run, capture_output=True, text=True, check=True)
        found.append([json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")])
    one, two = found
    assert len(one) == 3
    for (n, a), (m, b) in zip(one, two, strict=True):
        assert n == m
        assert a.keys() == b.keys()
        assert a == pytest.approx(b, abs=1e-6)
        assert a["test_WAR"] * n == pytest.approx(round(a["test_WAR"] * n), abs=1e-5)  # out of n, not of more


def test_bad_files_are_counted_in_training_and_refused_in_evaluation(table: Path) -> None:
    """Another clip takes the place of one in training, which is counted; evaluation never skips silently."""
    dm = module_of(table, val_share=0.0)
    Path(dm.train_rows[0].path).write_text("not an image")
    Path(dm.test_rows[0].path).write_text("not an image")
    batches = [b for b in dm.train_dataloader() if b is not None]
    assert sum(len(b.skipped) for b in batches) >= 1
    assert sum(len(b) for b in batches) == len(dm.train_rows) // 8 * 8
    with pytest.raises(VideoError, match=Path(dm.test_rows[0].path).name):
        list(dm.test_dataloader())
    dm.allow_missing = True
    assert sum(len(b) for b in dm.test_dataloader()) == len(dm.test_rows) - 1


def test_nothing_readable_is_said_and_not_waited_for(table: Path) -> None:
    """Protects several processes from waiting for the one whose batch holds nothing, and one from training on air."""
    dm = module_of(table, val_share=0.0, num_workers=1)
    for row in dm.train_rows:
        Path(row.path).unlink()
    with pytest.raises(DatasetError, match=r"cannot be read, the last: .*no such file"):
        next(iter(dm.train_dataloader()))


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_keep_their_kind_across_processes(table: Path, workers: int) -> None:
    """Protects the one readable line: an error of a worker process comes as it is, not as a traceback."""
    dm = module_of(table, val_share=0.0, num_workers=workers)
    Path(dm.test_rows[3].path).write_text("not an image")
    with pytest.raises(VideoError) as e:
        list(dm.test_dataloader())
    assert e.value.code == "unreadable"
    assert "\n" not in str(e.value)


class Echo(torch.utils.data.Dataset[tuple[int, int]]):
    """Gives back the numbers and seeds that a sampler asks for."""

    def __getitem__(self, item: tuple[int, int]) -> tuple[int, int]:
        return item

    def __len__(self) -> int:
        return 16


def test_processes_draw_apart_and_go_on_alike() -> None:
    """Protects training on several processes: each draws its own seeds, and goes on with its own after a stop."""

    def seeds(loader: TrainLoader) -> list[int]:
        return [seed for batch in loader for _, seed in batch]

    loaders = [TrainLoader(Echo(), BatchSampler(range(16), 4, True), 5, rank, collate_fn=list) for rank in (0, 1, 0, 1)]
    one, other = map(seeds, loaders[:2])
    assert len({*one, *other}) == 32
    assert seeds(loaders[0]) != one, "another epoch, other draws"
    state = {**loaders[1].state_dict(), "given": 2}  # a checkpoint holds that of one process
    for loader in loaders[2:]:
        loader.load_state_dict(state)
    assert [seeds(x) for x in loaders[2:]] == [one[8:], other[8:]]


def test_further_sets_never_invent_a_class(table: Path, tmp_path: Path) -> None:
    """Protects `also`: a row with valence but without a class of the model has no class; a missing split is said."""
    more = tmp_path / "more"
    more.mkdir()
    cv2.imwrite(str(more / "a.png"), np.full((48, 48, 3), 90, np.uint8))
    (more / "manifest.csv").write_text("path,label,split,valence,arousal\na.png,,train,0.5,0.1\na.png,dark,train,,\n")
    dm = module_of(table, val_share=0.0, also=[{"dataset": "csv", "root": str(more)}])
    assert [(r.label, r.valence) for r in dm.train_rows[-2:]] == [(None, 0.5), ("dark", None)]
    with pytest.raises(DatasetError, match="no split 'val'"):
        module_of(table, also=[{"dataset": "csv", "root": str(more), "split": "val"}])


def test_further_sets_bring_classes_of_their_own(table: Path, tmp_path: Path) -> None:
    """Protects `also`: a class of the model that only a further set has is trained on, and counts in the prior."""
    more = tmp_path / "more"
    more.mkdir()
    cv2.imwrite(str(more / "a.png"), np.full((48, 48, 3), 90, np.uint8))
    (more / "manifest.csv").write_text("path,label,split\na.png,other,train\na.png,dark,train\n")
    classes = ["bright", "dark", "other"]
    dm = module_of(table, val_share=0.0, classes=classes, also=[{"dataset": "csv", "root": str(more)}])
    assert [dm.labels.number(r) for r in dm.train_rows[-2:]] == [2, 1]
    assert dm.class_prior is not None
    assert dm.class_prior[2] == pytest.approx(1 / len(dm.train_rows))


def labelled(folder: Path, lines: list[str], window_s: float) -> EmotionDataModule:
    """``a.mp4`` in the folder under a table of valence and arousal, read in four clips a window."""
    (folder / "a.va.csv").write_text("\n".join(["valence,arousal", *lines, ""]))
    (folder / "manifest.csv").write_text("path,split\na.mp4,train\n")
    spec = ClipSpec({"face": StreamSpec("frame", (8, 8))}, 4, "trailing", window_s=window_s, clip_s=window_s / 4)
    dm = EmotionDataModule("csv", folder / "manifest.csv", spec=spec, classes=(), split="train")
    dm.setup("test")
    return dm


def test_moments_that_the_media_does_not_reach_are_not_scored(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    """Protects valence and arousal: clips before the first frame, and frames behind the last label, have none."""
    make_video(tmp_path / "a.mp4", frames=30, fps=25)
    dm = labelled(tmp_path, [f"{i / 100},0" for i in range(28)], 2.4)
    (batch,) = dm.test_dataloader()
    assert batch.masks["face"][0, :, 0].tolist() == [False, False, True, True]
    assert batch.targets["va_mask"][0].tolist() == [False, False, True, False], "the last frame has no label"


def test_all_of_a_video_with_labels_per_frame_is_evaluated(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    """Protects choosing between epochs on Aff-Wild2: every window of a held-out video counts, not the last alone."""
    make_video(tmp_path / "a.mp4", frames=100, fps=25)
    dm = labelled(tmp_path, [f"{i / 100},0" for i in range(100)], 1.2)
    (batch,) = dm.test_dataloader()
    assert len(batch) == 4
    assert len(set(batch.meta["id"])) == 1
    assert batch.targets["va_mask"].all()
    ends = np.r_[np.arange(0.3, 3.7, 0.3), np.arange(3.1, 4.1, 0.3)]  # the last window ends with the video
    np.testing.assert_allclose(batch.targets["va"][..., 0].flatten(), ends / 4, atol=0.02)


@pytest.mark.parametrize("line", ["3,0", "0.5"])
def test_labels_out_of_range_are_named_not_trained_on(
    tmp_path: Path, make_video: Callable[..., Path], line: str
) -> None:
    """Protects training from a table in other units: the line is named, and the same is said by `emozoo check`."""
    make_video(tmp_path / "a.mp4", frames=30, fps=25)
    dm = labelled(tmp_path, [*["0.1,0"] * 20, line, *["0.1,0"] * 9, ""], 1.2)
    with pytest.raises(DatasetError, match=r"a\.va\.csv.*22"):
        next(iter(dm.test_dataloader()))


def test_classes_of_data_and_model_are_never_matched_by_chance(table: Path) -> None:
    """Other classes need a named label map."""
    dm = EmotionDataModule("csv", table, spec=SPEC, classes=("anger", "fear"))
    with pytest.raises(UsageError, match="label-map"):
        dm.setup("fit")


def test_classes_have_a_point_on_the_circumplex(tmp_path: Path) -> None:
    """Protects training of valence and arousal from classes alone: own values win; a class may have no point."""
    lines = ["path,label,split,valence,arousal", "a.png,Angry,train,,", "b.png,calm,train,,"]
    lines += ["c.png,contempt,train,,", "d.png,calm,train,0.1,0.2"]
    for line in lines[1:]:
        cv2.imwrite(str(tmp_path / line[:5]), np.full((48, 48, 3), 90, np.uint8))
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    dm = module_of(tmp_path / "manifest.csv", val_share=0.0, circumplex=True)
    (batch,) = dm.train_dataloader()
    va = {
        i: (v[0].tolist(), bool(m[0])) for i, v, m in zip(batch.meta["id"], *map(batch.targets.get, ("va", "va_mask")))
    }
    assert va["a"] == (pytest.approx([-0.22, 0.82], abs=0.01), True)
    assert va["b"] == (pytest.approx([0.42, -0.42], abs=0.01), True)
    assert va["c"][1] is False
    assert va["d"] == (pytest.approx([0.1, 0.2]), True)


def test_a_split_that_is_not_there_is_named(table: Path) -> None:
    """The error lists the splits that exist."""
    dm = EmotionDataModule("csv", table, spec=SPEC, split="validation")
    with pytest.raises(DatasetError, match="no split 'validation'"):
        dm.setup("test")


def test_stills_are_encoded_once_with_the_same_answer(table: Path) -> None:
    """A still shown C x F times costs one pass of the encoder and changes no score."""
    model = EmotionModule("ceflnet", size="lite", classes=["bright", "dark"], options={"backbone": "vgg_tiny"}).eval()
    dm = EmotionDataModule("csv", table, spec=model.spec, classes=model.classes, split="all", batch_size=8)
    dm.setup("test")
    batch = next(iter(dm.test_dataloader()))
    assert batch.one_image
    assert batch.inputs["face"].shape == (8, 3, 3, 3, 48, 48)
    with torch.inference_mode():
        quick = model.output(batch).logits
        full = model.net(batch.inputs, batch.masks).logits
    assert torch.allclose(quick, full, atol=1e-5)


def test_preloading_changes_nothing_that_is_read(table: Path) -> None:
    """Clips held in memory are those that are read one by one."""
    plain, preloaded = module_of(table, val_share=0.0), module_of(table, val_share=0.0, preload=1, num_workers=1)
    a = torch.cat([b.inputs["face"] for b in plain.test_dataloader()])
    b = torch.cat([b.inputs["face"] for b in preloaded.test_dataloader()])
    assert torch.equal(a, b)


def test_names_that_are_no_text_are_data_like_any_other(make_images: Callable[[int], Path]) -> None:
    """Protects training on files whose names have bytes of another encoding: they are divided, drawn and read."""
    root = make_images(6)
    for file in sorted(root.rglob("*.png")):
        os.rename(file, os.fsencode(file.parent) + b"/caf\xe9" + os.fsencode(file.name))
    dm = EmotionDataModule("folder", root, spec=SPEC.with_detector("cascade"), batch_size=4, preload=1, num_workers=0)
    dm.setup("fit")
    found = [i for b in dm.train_dataloader() for i in b.meta["id"]]
    assert len(found) == 8
    assert all("caf\udce9" in i for i in found)


def trainer(**options: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    return L.Trainer(accelerator="cpu", **{"max_epochs": 2, "enable_checkpointing": False, **quiet, **options})


class Seen(L.Callback):
    """Writes down which items were trained on, which validated, in which epoch."""

    def __init__(self) -> None:
        self.trained: list[list[str]] = []
        self.validated: list[list[str]] = []

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Batch, *_: Any) -> None:
        self.trained.append(batch.meta["id"])

    def on_validation_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Batch, *_: Any) -> None:
        self.validated.append(batch.meta["id"])


def pair(table: Path, **options: Any) -> tuple[EmotionModule, EmotionDataModule]:
    L.seed_everything(0, verbose=False)
    module = EmotionModule("emotion_fan", size="lite", classes=["bright", "dark"])
    options = {"batch_size": 8, **options}
    return module, EmotionDataModule("csv", table, spec=module.spec, classes=module.classes, **options)


def test_lightning_overfits_the_same_batches(table: Path) -> None:
    """Protects ``overfit_batches``, for which Lightning puts samplers of its own into the loaders: the first rows come
    in their order, in every epoch alike."""
    seen = Seen()
    module, dm = pair(table)
    trainer(overfit_batches=2, callbacks=[seen]).fit(module, datamodule=dm)
    first = [r.id for r in dm.train_rows[:16]]
    assert [i for ids in seen.trained for i in ids] == first * 2
    assert [i for ids in seen.validated for i in ids] == [r.id for r in dm.val_rows] * 2


def test_lightning_may_make_loaders_anew(table: Path) -> None:
    """Protects ``reload_dataloaders_every_n_epochs``: a new loader goes on with the epoch that it is made for."""
    drawn = []
    for options in ({}, {"reload_dataloaders_every_n_epochs": 1}):
        seen = Seen()
        trainer(**options, callbacks=[seen]).fit(*pair(table))
        drawn.append(seen.trained)
    assert drawn[0] == drawn[1]
    assert drawn[0][:3] != drawn[0][3:]


def test_lightning_predicts_every_item_once(table: Path) -> None:
    """Protects ``trainer.predict``, for which Lightning wraps the sampler; what cannot be read is None, as in tests."""
    module, dm = pair(table, batch_size=3, allow_missing=True)
    dm.setup("predict")
    rows = dm.test_rows
    for row in rows[3:6]:
        Path(row.path).write_text("not an image")
    with pytest.warns(UserWarning, match="3 unreadable so far"):
        first, second, third = trainer().predict(module, datamodule=dm)
    assert second is None
    assert [*first["id"], *third["id"]] == [r.id for r in (*rows[:3], *rows[6:])]


def test_lightning_logs_and_keeps_plain_settings(table: Path, tmp_path: Path) -> None:
    """Protects any logger, and checkpoints that open with ``weights_only``: the settings are plain types, whatever was
    given, and make the module again."""
    module, dm = pair(table, val_share=np.float64(0.2), seed=np.int64(1), augment={"face": {"flip": 0.5}})
    log = CSVLogger(tmp_path / "log")
    run = trainer(logger=log, max_epochs=1, log_every_n_steps=1, enable_checkpointing=True, default_root_dir=tmp_path)
    run.fit(module, datamodule=dm)
    assert json.loads(json.dumps(dict(dm.hparams))) == dict(dm.hparams)
    assert dm.hparams["root"] == str(table)
    kept = run.checkpoint_callback.best_model_path
    torch.load(kept, weights_only=True)
    again = EmotionDataModule.load_from_checkpoint(kept)
    assert dict(again.hparams) == dict(dm.hparams)
    again.setup("fit")
    assert [r.id for r in again.train_rows] == [r.id for r in dm.train_rows]


def test_a_lightning_loader_for_other_processes_is_refused(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from a training loader that was made before the processes were: each would draw the same rows. A loader
    for evaluation deals when it begins."""
    dm = module_of(table)
    training, testing = dm.train_dataloader(), dm.test_dataloader()
    monkeypatch.setattr(loading, "rank_and_world", lambda: (1, 2))
    with pytest.raises(UsageError, match="datamodule=dm"):
        next(iter(training))
    assert [i for b in testing for i in b.meta["id"]] == [r.id for r in dm.test_rows[1::2]]


def test_old_argument_names_are_taken_for_one_version(table: Path) -> None:
    """Protects scripts of users from renamed arguments, and checkpoints that hold them: the warning names the new word.
    An argument that is gone and was never set is no error."""
    with pytest.warns(DeprecationWarning, match="circle= is now circumplex="):
        dm = EmotionDataModule("csv", table, spec=SPEC, circle=True, features=0)
    assert dm.circumplex
    assert "circle" not in dm.hparams
    with pytest.warns(DeprecationWarning, match="share= is now subset="):
        assert len(module_of(table, val_share=0.0, share=0.5).train_rows) == 16


def test_a_spec_is_needed(table: Path) -> None:
    """Protects the one argument that nobody can guess: the error says where it comes from."""
    with pytest.raises(UsageError, match=r"model\.spec"):
        EmotionDataModule("csv", table)


def test_a_file_that_goes_away_while_it_is_read_is_an_unreadable_one(make_images, monkeypatch) -> None:
    """Protects long runs on disks of others: a file that is gone between two looks is counted, not a crash."""
    images = make_images(2)
    dm = EmotionDataModule("folder", images, spec=SPEC, split="all", allow_missing=True, batch_size=2)
    dm.setup("test")

    def gone(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("emozoo.data.clips.ClipReader.read", gone)
    assert list(dm.test_dataloader()) == [None] * len(dm.test_dataloader())
    monkeypatch.undo()
    dm = EmotionDataModule("folder", images, spec=SPEC, split="all", batch_size=2)
    dm.setup("test")
    monkeypatch.setattr("emozoo.data.clips.ClipReader.read", gone)
    with pytest.raises(VideoError, match="cannot be read"):
        list(dm.test_dataloader())
