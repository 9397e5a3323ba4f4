"""Training from recipes: Lightning's own command line. Fine-tuning on one's own classes: :mod:`emozoo.finetune`."""

from __future__ import annotations

import json
import logging
import re
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import lightning as L
import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from emozoo import files, moved, recipes, registry, settings
from emozoo.callbacks import BestOnTest, SaveWeights
from emozoo.card import card
from emozoo.checkpoints import interruptible, protect
from emozoo.data.datamodule import EmotionDataModule, successor
from emozoo.errors import EmozooError, UsageError
from emozoo.module import EmotionModule
from emozoo.registry import clip_spec

_log = logging.getLogger(__name__)


class _SaveConfig(SaveConfigCallback):
    """Writes the whole configuration of a run beside what it makes: ``config.yaml`` in ``default_root_dir``."""

    def __init__(self, parser: LightningArgumentParser, config: Any, **_: Any) -> None:
        super().__init__(parser, config, save_to_log_dir=False)

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            text = self.parser.dump(self.config, skip_none=False)
            files.write_text(Path(trainer.default_root_dir) / "config.yaml", text)


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

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        trainer = super().instantiate_trainer(**kwargs)
        protect(trainer)
        return trainer

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
    again = "run it again"
    if words[0] == "fit":
        again += "; with --ckpt_path and a checkpoint, if it has written one, it goes on from there"
    with interruptible(again):
        EmozooCLI(
            EmotionModule, EmotionDataModule, args=words, seed_everything_default=0, save_config_callback=_SaveConfig
        )
    return 0


__all__ = ["BestOnTest", "EMAWeightAveraging", "EmozooCLI", "SaveWeights", "UsageError", "card", "train"]

__getattr__ = moved.names_of(__name__)
