"""Training: Lightning's own command line for recipes, and fine-tuning on a folder of class folders or a CSV."""

from __future__ import annotations

import json
import logging
import re
from argparse import ArgumentError
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import lightning as L
import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from emozoo import files, moved, recipes, registry, settings
from emozoo.callbacks import BestOnTest, SaveWeights
from emozoo.card import card, private
from emozoo.data import datasets
from emozoo.data.datamodule import EmotionDataModule, successor
from emozoo.data.images import is_image
from emozoo.errors import DatasetError, EmozooError, UsageError
from emozoo.module import EmotionModule
from emozoo.registry import clip_spec
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

_log = logging.getLogger(__name__)


class _SaveConfig(SaveConfigCallback):
    """Writes the whole configuration of a run beside what it makes: ``config.yaml`` in ``default_root_dir``."""

    def __init__(self, parser: LightningArgumentParser, config: Any, **_: Any) -> None:
        super().__init__(parser, config, save_to_log_dir=False)

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            text = self.parser.dump(self.config, skip_none=False)
            files.write_atomic(Path(trainer.default_root_dir) / "config.yaml", text.encode())


class EmozooCLI(LightningCLI):
    """Lightning's CLI with one rule: the data module follows the model's ClipSpec and classes.

    ``fit`` writes ``config.yaml`` and ``metrics.csv`` in ``trainer.default_root_dir``, by default ``runs/<recipe>``. It
    gives SaveWeights the settings of the run and their differences to the recipe.
    """

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments(
            ("model.model", "model.size", "model.spec"), "data.spec", compute_fn=_spec_of, apply_on="parse"
        )
        parser.link_arguments(
            ("model.model", "model.classes"), "data.classes", compute_fn=_classes_of, apply_on="parse"
        )
        parser.set_defaults({"trainer.enable_model_summary": False})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Lightning's own; ``--config`` also takes names of recipes, and an error is one line.

        The line leaves out the list of all arguments, which Lightning would print.
        """
        self.configs: list[str] = []
        if isinstance(args, list):
            args, self.configs = recipes.expand(args)
        for each in (parser, *getattr(self, "_subcommand_parsers", {}).values()):
            each.exit_on_error = False
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            raise UsageError(_in_one_line(error)) from error

    def _parse_ckpt_path(self) -> None:
        """Lightning's own, for a file of this machine, opened so that no code in it runs (``weights_only``)."""
        run = self.config.get(self.config.get("subcommand") or "") or Namespace()
        path = run.get("ckpt_path")
        if path and "://" in str(path):
            raise UsageError(f"--ckpt_path: {path} is an address: fetch the file yourself, if you trust its maker")
        if "weights_only" in run and run.weights_only is None:
            run.weights_only = True
        try:
            if path and Path(path).is_file():
                stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                if "_class_path" in stored.get("hyper_parameters", {}):
                    raise UsageError(f"--ckpt_path: {path} names a class to import: it is none of EmotionModule")
            super()._parse_ckpt_path()
        except (UnpicklingError, BadZipFile, EOFError, RuntimeError, KeyError, AttributeError) as error:
            why = "is cut off, not written by a Trainer, or would run code when it is opened"
            raise UsageError(f"--ckpt_path: {path} {why}") from error
        except ArgumentError as error:
            raise UsageError(f"--ckpt_path: its settings cannot be used: {_in_one_line(error)}") from error

    def before_instantiate_classes(self) -> None:
        run = self._run_config()
        trainer = run.trainer
        if self.subcommand not in (None, "fit"):
            trainer.logger = False if trainer.logger is None else trainer.logger
            return
        if trainer.default_root_dir is None:
            name = Path(self.configs[0]).stem if self.configs else run.model.model
            trainer.default_root_dir = str(Path("runs", name))
        if trainer.logger is None:
            root = Path(trainer.default_root_dir)
            if not trainer.fast_dev_run:
                _make_way(root / "metrics.csv")
            kind = {"class_path": "lightning.pytorch.loggers.CSVLogger"}
            # Without name and version all lies in the folder itself, checkpoints too.
            trainer.logger = Namespace(**kind, init_args=Namespace(save_dir=str(root), name="", version=""))

    def after_instantiate_classes(self) -> None:
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, SaveWeights):
                self._record(callback)

    def _record(self, save: SaveWeights) -> None:
        save.settings = settings.recorded(self._dumped(self._run_config()))
        named = bool(save.recipe) and (recipes.known(save.recipe) is not None or Path(save.recipe).is_file())
        base = [save.recipe] if named else self.configs
        save.recipe = save.recipe or ", ".join(recipes.known(c) or Path(c).name for c in self.configs)
        if base:
            save.changed = self._compared(base, save.settings)

    def _compared(self, base: Sequence[str], run: Mapping[str, Any]) -> dict[str, Any] | None:
        """The differences of a run's settings to those of recipes; None where these cannot be read any more."""
        words, _ = recipes.expand([w for file in base for w in ("--config", file)])
        parser = self.parser
        try:
            found = parser.parse_args(words if self.subcommand is None else [self.subcommand, *words])
        except Exception as error:  # whatever a file of another version holds
            _log.warning("%s: not compared with what was run (%s)", ", ".join(base), " ".join(str(error).split())[:200])
            return None
        return settings.changes(
            settings.recorded(self._dumped(found if self.subcommand is None else found[self.subcommand])), run
        )

    def _dumped(self, config: Any) -> dict[str, Any]:
        return yaml.safe_load(self._parser(self.subcommand).dump(config, skip_link_targets=False, skip_none=False))

    def _run_config(self) -> Any:
        return self.config if self.subcommand is None else self.config[self.subcommand]


def _in_one_line(error: ArgumentError) -> str:
    """The error of ours behind it, else its own text; an argument of an earlier version is named with its new name."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, EmozooError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        return str(cause)
    for word in re.findall(r"\bmodel\.(\w+)", error.message):
        if new := settings.new_name(word):
            return f"model.{word} {new.replace('is now ', 'is now model.')}"
    for word in re.findall(r"\bdata\.(\w+)", error.message):
        if instead := successor(word):
            return f"data.{word} is an argument of version 0.1: {instead}"
    for name, word in re.findall(r"class_path '[\w.]*?(\w+)':\s+Option '(\w+)' is not accepted", error.message):
        if renamed := moved.NEW_ARGUMENTS.get(name, {}).get(word):
            return f"{name}: {word} is now {renamed}"
    return f"{error.message} (see `emozoo train --help`)"


@rank_zero_only
def _make_way(file: Path) -> None:
    """Renames the log of an earlier part of the run: ``metrics.csv`` becomes ``metrics_1.csv``, then ``_2``."""
    if file.is_file():
        numbered = (file.with_stem(f"{file.stem}_{i}") for i in count(1))
        file.rename(next(f for f in numbered if not f.exists()))


def _spec_of(model: str, size: str, changes: dict[str, Any] | None) -> dict[str, Any]:
    return json.loads(json.dumps(clip_spec(model, size, changes).to_dict()))  # lists, as a YAML file would have them


def _classes_of(model: str, classes: list[str] | None) -> list[str]:
    """The network's classes in its own order, which labels follow: the data's own may be another."""
    return list(registry.model(model).classes if classes is None else classes)


def train(argv: list[str]) -> int:
    """``emozoo train ARGV``: Lightning's command line gets every argument unchanged; ``fit`` is implied.

    ``--config`` also takes names of recipes and of their parts (:mod:`emozoo.recipes`).
    """
    words = argv if argv and argv[0] in ("fit", "validate", "test") else ["fit", *argv]
    if any(w in ("-h", "--help") for w in argv) and words[0] == "fit" and argv[0] != "fit":
        words = ["fit", "--help"]
    EmozooCLI(EmotionModule, EmotionDataModule, args=words, seed_everything_default=0, save_config_callback=_SaveConfig)
    return 0


class _FitOrigin(Callback):
    """Stores in every checkpoint the origin of its run: ``origin``, a hash, and the ids of unreadable items."""

    def __init__(self, origin: str, unreadable: Sequence[str]) -> None:
        self.state = {"origin": origin, "unreadable": sorted(unreadable)}

    def state_dict(self) -> dict[str, Any]:
        return self.state

    @staticmethod
    def of(checkpoint: Path) -> dict[str, Any] | None:
        """The state of a checkpoint's run; None where the file is cut off or not ours."""
        try:
            states = torch.load(checkpoint, map_location="cpu", weights_only=True)["callbacks"]
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, UnpicklingError, BadZipFile) as error:
            _log.warning("%s cannot be read (%s)", checkpoint, str(error).splitlines()[0] if str(error) else "cut off")
            return None
        ours = [s for s in states.values() if isinstance(s, dict)]
        return next((s for s in ours if "origin" in s and "unreadable" in s), {"origin": "", "unreadable": []})


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
    training; those that cannot be read are left out and named. The encoder learns at a tenth of the head's rate.
    ``device``: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` (the second GPU) or ``mps``.

    A killed run goes on from ``out/last.ckpt``. Where items that could not be read have been mended or removed since,
    it begins anew, and the model in ``out`` stands until the new one is written; over other changes of the data it
    raises UsageError.

    Returns ``{"folder", "classes", "n_train", "n_val", "val_WAR", "val_UAR", "unreadable"}``, the last a list of
    ``path: reason``. Raises DatasetError (also for a class of which no training item can be read), UsageError.
    """
    out, data = Path(out), Path(data)
    accelerator, devices = _on(device)
    kind = "csv" if data.is_file() or (data / "manifest.csv").is_file() else "folder"
    manifest = datasets.load(kind, data)
    for finding in manifest.findings:
        _log.warning("%s: %s: %s", data, finding.item, finding.text)
    if len(manifest.classes) < 2:
        raise DatasetError(
            f"{data}: fine-tuning needs at least two classes, found {len(manifest.classes)}; make one folder per class"
        )
    L.seed_everything(seed, verbose=False)
    start = load(name, classes=manifest.classes)
    config = start.config

    def origin_of(without: Iterable[str]) -> str:
        """A hash of all that a run follows from, but for items that could not be read."""
        left_out = set(without)
        rows = [(r.id, r.label, r.split) for r in manifest.rows if r.id not in left_out]
        return files.sha256_of(repr((start.sha256, list(manifest.classes), seed, batch_size, rows)).encode())

    last = out / "last.ckpt"
    before = _FitOrigin.of(last) if resume and last.is_file() else None
    if before is not None and before["origin"] != origin_of(before["unreadable"]):
        raise UsageError(
            f"{last} was made from other weights, data or settings: choose another --out, "
            "or begin anew with --no-resume"
        )
    stills = all(is_image(r.path) for r in manifest.rows)
    augment = {
        s: dict(STILL_AUGMENT if stills else CLIP_AUGMENT) for s, x in start.spec.streams.items() if x.kind.needs_images
    }
    dm = EmotionDataModule(
        kind, data, spec=start.spec, classes=manifest.classes, val_share=0.0, augment=augment, batch_size=batch_size,
        num_workers=num_workers, preload=1 if stills else 2, allow_missing=True, seed=seed, val_on_test=True,
    )  # fmt: skip
    dm.setup("fit")
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
    prior = dm.class_prior
    if prior is not None and (untaught := [c for c, n in zip(manifest.classes, prior, strict=True) if n == 0]):
        _log.warning("%s: no training item of class %s", data, ", ".join(untaught))
    go_on = before is not None and before["unreadable"] == sorted(unreadable)
    if last.is_file() and resume and not go_on:
        changed = sorted(set(before["unreadable"]) ^ set(unreadable)) if before is not None else []
        what = f"since {', '.join(changed)} could not be read before, or cannot now" if changed else "from the start"
        _log.warning("%s is not resumed: training begins anew, %s", last, what)
    dm.batch_size = max(2, min(batch_size, len(dm.train_rows)))
    steps = max(1, len(dm.train_rows) // dm.batch_size)
    # Small sets see enough steps to fit a new head, large ones a few epochs.
    epochs = epochs or max(4, min(30, 240 // steps))
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
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator=accelerator,
        devices=devices,
        logger=False,
        enable_model_summary=False,
        callbacks=[save, checkpoint, _FitOrigin(origin_of(unreadable), list(unreadable)), TQDMProgressBar(leave=False)],
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=out,
        check_val_every_n_epoch=epochs,
    )
    trainer.fit(module, dm, ckpt_path=str(last) if go_on else None, weights_only=True)
    found = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val_")}
    return {
        "folder": str(out),
        "classes": list(manifest.classes),
        "n_train": len(dm.train_rows),
        "n_val": len(dm.val_rows),
        "val_WAR": found.get("val_WAR"),
        "val_UAR": found.get("val_UAR"),
        "unreadable": [str(error) for error in unreadable.values()],
    }


__all__ = ["BestOnTest", "EMAWeightAveraging", "EmozooCLI", "SaveWeights", "UsageError", "card", "finetune", "train"]
