"""Fine-tuning on one's own classes, from a folder of class folders or a CSV: training, checks and the report."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.utilities.exceptions import SIGTERMException

from emozoo import files, finetune_report, hub
from emozoo.callbacks import SaveWeights
from emozoo.card import private
from emozoo.checkpoints import interruptible, protect
from emozoo.data import datasets
from emozoo.data.clips import RawClip
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.examine import FileFacts, thumbnail
from emozoo.data.find import one_line
from emozoo.data.images import is_image
from emozoo.data.manifest import Finding, Manifest, plain_name, some
from emozoo.data.media_state import content
from emozoo.data.near import similar
from emozoo.errors import DatasetError, UsageError, VideoError
from emozoo.finetune_report import HeldOut, Report
from emozoo.labels import canonical
from emozoo.metrics import EvaluationMetrics
from emozoo.module import EmotionModule
from emozoo.spec import ClipSpec
from emozoo.zoo import load

STILL_AUGMENT: dict[str, Any] = {
    "flip": 0.5,
    "rotate": 10.0,
    "scale": 0.12,
    "shift": 0.06,
    "light": 0.3,
    "tint": 0.3,
    "erase": 0.2,
}
CLIP_AUGMENT: dict[str, Any] = {"flip": 0.5, "rotate": 8.0, "scale": 0.1, "shift": 0.05, "light": 0.3, "tint": 0.2}
# Held-out items of a class that a score can rest on. A recall measured on n items has a 95 % interval of up to
# 0.98 / sqrt(n) on both sides: 0.31 with 10 items, 0.44 with 5. A fifth is held out, so this asks for 50 items a class.
ENOUGH_HELD_OUT = 10

_log = logging.getLogger(__name__)


class _FitOrigin(Callback):
    """Stores in every checkpoint the origin of its run: ``origin``, a hash, and the ids of unreadable items."""

    def __init__(self, origin: str, unreadable: Sequence[str]) -> None:
        self.state = {"origin": origin, "unreadable": sorted(unreadable)}

    def state_dict(self) -> dict[str, Any]:
        return self.state

    @staticmethod
    def of(checkpoint: Path) -> dict[str, Any] | None:
        """The state of a checkpoint's run, and the ``epochs`` that it has done; None where the file is cut off."""
        try:
            stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
            states, epochs = stored["callbacks"], stored["epoch"] + 1
            ours = [s for s in states.values() if isinstance(s, dict) and "origin" in s and "unreadable" in s]
        except Exception as error:  # cut off, damaged, or of another program: torch says it in many ways
            _log.warning("%s cannot be read (%s)", checkpoint, str(error).splitlines()[0] if str(error) else "cut off")
            return None
        state = ours[0] if ours else {"origin": "", "unreadable": []}
        return state | {"epochs": epochs}


class _LearningCurve(Callback):
    """Loss and UAR after every epoch, in training and on the held-out items; checkpoints store it.

    ``epochs``: for each epoch ``epoch`` (from 1), ``train_loss`` and ``train_UAR`` of the augmented batches, and
    ``val_loss`` and ``val_UAR``, None where nothing is held out.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = list(state_dict["epochs"])

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EmotionModule)
        pl_module.training_metrics = EvaluationMetrics(len(pl_module.classes), pl_module.device)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EmotionModule)
        counted = pl_module.training_metrics
        assert counted is not None
        held_out = {k: trainer.callback_metrics.get(f"val_{k}") for k in ("loss", "UAR")}
        self.epochs.append({
            "epoch": trainer.current_epoch + 1,
            "train_loss": float(counted.loss.compute()),
            "train_UAR": counted.compute().get("UAR"),
            **{f"val_{k}": None if v is None else float(v) for k, v in held_out.items()},
        })  # fmt: skip

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EmotionModule)
        pl_module.training_metrics = None


class _OneBar(TQDMProgressBar):
    """A bar of training alone: those of the held-out items after every epoch would tear it apart."""

    def __init__(self) -> None:
        super().__init__(leave=False)

    def init_validation_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)

    init_predict_tqdm = init_validation_tqdm


def _on(device: str) -> tuple[str, int | list[int]]:
    """Lightning's accelerator and devices for ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; else UsageError."""
    name, colon, number = device.strip().lower().partition(":")
    understood = "choose auto, cpu, cuda, cuda:NUMBER or mps"
    if name not in ("auto", "cpu", "cuda", "mps") or (colon and (name != "cuda" or not number.isdecimal())):
        raise UsageError(f"no device '{device}': {understood}")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" and int(number or 0) >= there:
        gpus = ", ".join(f"cuda:{i}" for i in range(there)) or "no CUDA device"
        raise UsageError(f"device '{device}' cannot be used here, where there is {gpus}: {understood}")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"device '{device}' cannot be used here, where there is no Apple GPU: {understood}")
    return "gpu" if name == "cuda" else name, [int(number)] if number else 1


# -- checks before training ------------------------------------------------------------------------------------------


def checks(manifest: Manifest, dm: EmotionDataModule) -> list[Finding]:
    """What makes a fine-tuned model or its score worse than it looks, found before training.

    Codes: ``same_class`` (two names of one emotion), ``few_items``, ``nothing_held_out``, ``person_on_both_sides``,
    ``alike_on_both_sides``. ``dm`` is set up and has its clips in memory.
    """
    return [*_same_classes(manifest.classes), *_few_items(manifest.classes, dm), *_both_sides(dm)]


def _same_classes(classes: Sequence[str]) -> Iterator[Finding]:
    of_one = defaultdict[str, list[str]](list)
    for name in classes:
        of_one[plain_name(canonical(name))].append(name)
    for names in of_one.values():
        for a, b in pairwise(names):
            text = f"the classes '{a}' and '{b}' have two names of one emotion"
            yield Finding("same_class", f"{a}, {b}", text, "put their items under one name, if they mean the same")


def _few_items(classes: Sequence[str], dm: EmotionDataModule) -> Iterator[Finding]:
    train, held_out = (Counter(r.label for r in rows) for rows in (dm.train_rows, dm.val_rows))
    if not dm.val_rows:
        text = "no item is held out, so nothing tells how good the model is on items that it has not seen"
        yield Finding("nothing_held_out", "all", text, "give each class more items: about 50, at least 3")
        return
    few = [c for c in classes if held_out[c] < ENOUGH_HELD_OUT]
    if few:
        counts = ", ".join(f"{c} {train[c] + held_out[c]} ({held_out[c]} held out)" for c in few)
        text = f"few items: {counts}. Scores from so few held-out items are rough"
        yield Finding(
            "few_items", ", ".join(few), text, f"aim for 50 items a class, {ENOUGH_HELD_OUT} of them held out"
        )


def _both_sides(dm: EmotionDataModule) -> Iterator[Finding]:
    """People, and images that look the same, in training and in the held-out part."""
    train, held_out = ({r.group for r in rows if r.group} for rows in (dm.train_rows, dm.val_rows))
    fix = "keep each person in one part, else the score is too good"
    if both := sorted(train & held_out):
        yield Finding("person_on_both_sides", some(both), f"trained on and held out: {some(both)}", fix)
    if not (dm.train_rows and dm.val_rows):
        return
    parts = [_facts(dm.decoded(part), dm.spec) for part in ("train", "val")]
    found, count = [f for part in parts for f in part.values()], len(parts[0])
    if not all(parts):
        return
    names = [name for part in parts for name in part]
    pairs: dict[str, str] = {}
    for i, others, _ in similar(found, range(count), range(count, len(found))):
        for j in others.tolist():
            pairs.setdefault(names[j], names[i])
    if pairs:
        text = f"{len(pairs)} held-out items look the same as one that is trained on: "
        text += some(f"{held} like {seen}" for held, seen in sorted(pairs.items()))
        fix = "look at them: name each person or recording in a column 'group' of a table, and no group is divided"
        yield Finding("alike_on_both_sides", some(sorted(pairs)), text, fix)


def _facts(clips: Mapping[str, RawClip], spec: ClipSpec) -> dict[str, FileFacts]:
    """Thumbnails of the middle image of each clip by id, without those that have no image or one of a plain color."""
    found = {}
    for name, clip in clips.items():
        image = finetune_report.middle_image(clip, spec)
        small = None if image is None else thumbnail(image)
        if small is not None:
            found[name] = FileFacts("", None, small[0][None], np.array([small[1]], np.uint64), [])
    return found


# -- fine-tuning -----------------------------------------------------------------------------------------------------


def finetune(
    name: str,
    data: str | Path,
    out: str | Path,
    *,
    epochs: int | None = None,
    batch_size: int = 16,
    lr: float = 1e-3,
    num_workers: int = 0,
    seed: int = 0,
    device: str = "auto",
    resume: bool = True,
) -> dict[str, Any]:
    """Fits a model with weights to a user's own classes; the folder ``out`` then loads in ``predict --model out``.

    Data: a folder of class folders (videos, images, frame folders), or a CSV or a folder with ``manifest.csv``.
    Without a split column, 20 % of the items are held out by group. Clips are decoded once into memory, before
    training; those that cannot be read are left out and named. The encoder learns at a tenth of the head's rate. Where
    the weights know all of the classes, in any spelling, the head starts from theirs.
    ``device``: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` (the second GPU) or ``mps``.

    A killed run goes on from ``out/last.ckpt``. Where items that could not be read have been mended or removed since,
    it begins anew; over other changes of data, weights, ``seed``, ``batch_size`` or ``lr`` it raises UsageError. The
    model in ``out`` stands until the new one is written, file by file.

    ``out/report.html`` says how the training went and what to do next; what was found before it (:func:`checks`) is
    logged as well.

    Returns ``{"folder", "classes", "n_train", "n_val", "val_WAR", "val_UAR", "unreadable", "report", "warnings"}``;
    ``unreadable``: a list of ``path: reason``; ``report``: the path of the page; ``warnings``: a list of ``{"code",
    "text", "fix"}``. Raises DatasetError (also for a class of which no training item can be read), UsageError.
    """
    out, data = Path(out), Path(data)
    accelerator, devices = _on(device)
    if epochs is not None and epochs < 1:
        raise UsageError(f"epochs is {epochs}: give 1 or more, or leave it out for a number by the size of the data")
    if batch_size < 2:
        raise UsageError(f"batch size is {batch_size}: give 2 or more, since batch norm needs two items")
    kind = "csv" if data.is_file() or (data / "manifest.csv").is_file() else "folder"
    manifest = datasets.load(kind, data)
    for finding in manifest.findings:
        _log.warning("%s", one_line(f"{data}: {finding.item}: {finding.text}"))
    if len(manifest.classes) < 2:
        raise DatasetError(
            f"{data}: fine-tuning needs at least two classes, found {len(manifest.classes)}; make one folder per class"
        )
    L.seed_everything(seed, verbose=False)
    start = load(name, classes=manifest.classes)
    config = start.config

    contents = {r.id: content(r.path, r.extra.get("sound")) for r in manifest.rows}

    def origin_of(without: Iterable[str]) -> str:
        """A hash of all that a run follows from, but for items that could not be read."""
        left_out = set(without)
        rows = [
            (r.id, r.label, r.votes, r.split, r.group, r.start, r.end, r.box, contents[r.id])
            for r in manifest.rows if r.id not in left_out
        ]  # fmt: skip
        return files.sha256_of(repr((start.sha256, list(manifest.classes), seed, batch_size, lr, rows)).encode())

    last = out / "last.ckpt"
    before = _FitOrigin.of(last) if resume and last.is_file() else None
    if before is not None and before["origin"] != origin_of(before["unreadable"]):
        raise UsageError(
            f"{last} was made from other weights, data or settings: choose another --out, "
            "or begin anew with --no-resume"
        )
    files.check_writable(out)
    hub.check_replaceable(out)
    stills = all(is_image(r.path) for r in manifest.rows)
    augment = {
        s: dict(STILL_AUGMENT if stills else CLIP_AUGMENT) for s, x in start.spec.streams.items() if x.kind.needs_images
    }
    dm = EmotionDataModule(
        kind, data, spec=start.spec, classes=manifest.classes, val_share=0.0, augment=augment, batch_size=batch_size,
        num_workers=num_workers, preload=1 if stills else 2, allow_missing=True, seed=seed, val_on_test=True,
    )  # fmt: skip
    dm.setup("fit")
    unreadable = _leave_out_unreadable(dm, data)
    found = checks(manifest, dm)
    for finding in found:
        _log.warning("%s", one_line(f"{data}: {finding.text}; {finding.fix}"))
    go_on = before is not None and before["unreadable"] == sorted(unreadable)
    if last.is_file() and resume and not go_on:
        changed = sorted(set(before["unreadable"]) ^ set(unreadable)) if before is not None else []
        what = f"since {', '.join(changed)} could not be read before, or cannot now" if changed else "from the start"
        _log.warning("%s is not resumed: training begins anew, %s", last, what)
    dm.batch_size = max(2, min(batch_size, len(dm.train_rows)))
    steps = max(1, len(dm.train_rows) // dm.batch_size)
    # Small sets see enough steps to fit a new head, large ones a few epochs.
    epochs = epochs or max(4, min(30, 240 // steps))
    if before is not None and go_on and epochs < before["epochs"]:
        done = before["epochs"]
        raise UsageError(
            f"{last} has {done} epochs, more than {epochs}: give --epochs {done} or more, "
            "or begin anew with --no-resume"
        )
    head = {k.partition(".")[0] for k in start.head_keys()}
    encoder = {p: 0.1 for p, part in start.net.named_children() if p not in head and list(part.parameters())}
    module = EmotionModule(
        start.arch, start.wiring, start.size, list(manifest.classes), config.get("options"), start.spec.to_dict(),
        lr=lr, lr_scale=encoder, loss={"tau": 1.0, "smoothing": 0.05}, flips=bool(config.get("flips", False)),
    )  # fmt: skip
    module.net.load_state_dict(start.net.state_dict())
    origin = f"{config['arch']}.{config['tag']}" if config.get("tag") else private(str(name))
    save = SaveWeights(
        str(out),
        trained_on=f"{len(dm.train_rows)} items of {len(manifest.classes)} classes of the user's own, from {origin}",
        licence=config["licence"],
        half=False,
    )
    checkpoint = ModelCheckpoint(
        dirpath=out, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    curve = _LearningCurve()
    callbacks = [save, checkpoint, curve, _FitOrigin(origin_of(unreadable), list(unreadable)), _OneBar()]
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator=accelerator,
        devices=devices,
        logger=False,
        enable_model_summary=False,
        callbacks=callbacks,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=out,
    )
    protect(trainer)
    if not go_on:
        last.unlink(missing_ok=True)  # else the next run would go on from it if this one is ended in its first epoch
    again = "run the same command again" if resume else "run the same command again without --no-resume"
    with interruptible(f"{again}, it goes on from its last epoch"):
        trainer.fit(module, dm, ckpt_path=str(last) if go_on else None, weights_only=True)
        held_out = _predicted(module, dm, trainer)
    report = Report(
        folder=str(out),
        data=str(data),
        classes=manifest.classes,
        n_train=Counter(str(r.label) for r in dm.train_rows),
        held_out=held_out,
        curve=curve.epochs,
        findings=found,
        unreadable=[str(error) for error in unreadable.values()],
        settings={
            "started from": origin,
            "class head": "new" if start.name.endswith("(new head)") else "that of the weights, which know the classes",
            "looks at": ", ".join(start.spec.streams),
            "faces by": dm.spec.detector or "none needed",
            "epochs": epochs,
            "batch size": dm.batch_size,
            "learning rate": f"{lr:g}, of the encoder {lr / 10:g}",
            "seed": seed,
            "device": str(trainer.strategy.root_device),
        },
        drawn=not manifest.splits,
        grouped=any(r.group for r in manifest.rows),
    )
    page = out / "report.html"
    files.write_text(page, report.to_html())
    metrics = report.metrics()
    return {
        "folder": str(out),
        "classes": list(manifest.classes),
        "n_train": len(dm.train_rows),
        "n_val": len(dm.val_rows),
        "val_WAR": metrics.get("WAR"),
        "val_UAR": metrics.get("UAR"),
        "unreadable": report.unreadable,
        "report": str(page),
        "warnings": [{"code": f.code, "text": f.text, "fix": f.fix} for f in found],
    }


def _leave_out_unreadable(dm: EmotionDataModule, data: Path) -> dict[str, VideoError]:
    """The errors of the items that cannot be read, by id; they are logged, and ``dm`` goes on without these items.

    Raises DatasetError where a class loses all of its training items by it, or nothing is left.
    """
    wanted = {r.label for r in dm.train_rows}
    unreadable = dm.drop_unreadable()
    if not dm.train_rows and not unreadable:
        raise DatasetError(f"{data}: no item is left for training; give each class at least two items")
    if lost := wanted - {r.label for r in dm.train_rows}:
        first = next(iter(unreadable.values()))
        names = ", ".join(sorted(map(str, lost)))
        raise DatasetError(
            f"{data}: of class {names} no training item can be read ({len(unreadable)} cannot, the first: {first}): "
            "mend or fetch them again, or take the class out"
        )
    for error in unreadable.values():
        _log.warning("left out, since it cannot be read: %s", error)
    if unreadable and not dm.val_rows:
        _log.warning("%s: none of the held-out items can be read, so the model is not scored", data)
    prior, classes = dm.class_prior, dm.classes or ()
    if prior is not None and (untaught := [c for c, n in zip(classes, prior, strict=True) if n == 0]):
        _log.warning("%s: no training item of class %s", data, ", ".join(untaught))
    return unreadable


def _predicted(module: EmotionModule, dm: EmotionDataModule, trainer: L.Trainer) -> list[HeldOut]:
    """The predictions for the held-out items that have a label; windows of one item are averaged, as in a benchmark."""
    if not dm.val_rows:
        return []
    rows, clips = {r.id: r for r in dm.val_rows}, dm.decoded("val")
    logits: dict[str, list[torch.Tensor]] = {}
    true: dict[str, int] = {}
    batches: list[Any] = trainer.predict(module, dm.val_dataloader()) or []
    if trainer.received_sigterm:  # Lightning heeds it in training alone
        raise SIGTERMException
    for out in batches:
        y = None if out is None else out["targets"].get("emotion")
        if y is None:
            continue
        number = torch.where(y.sum(1) > 0, y.argmax(1), -1) if y.ndim == 2 else y
        for item, x, n in zip(out["id"], out["logits"].cpu(), number.tolist(), strict=True):
            if n >= 0:
                logits.setdefault(item, []).append(x)
                true[item] = n
    module.cpu()
    return [
        HeldOut(rows[item].path, rows[item].group, true[item], module.scores(torch.stack(x).mean(0)[None])[0].numpy(),
                finetune_report.middle_image(clips[item], module.spec))
        for item, x in logits.items()
    ]  # fmt: skip
