"""Training: Lightning's own command line for recipes, and fine-tuning on a folder of class folders or a CSV."""

from __future__ import annotations

import json
import logging
import os
import time
from argparse import ArgumentError
from collections.abc import Iterable, Mapping, Sequence
from itertools import count, islice
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
from torch import nn

from emozoo import files, hub, registry
from emozoo.card import card, private
from emozoo.data import datasets
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.images import is_image
from emozoo.errors import DatasetError, EmozooError, UsageError
from emozoo.metrics import Confusion, PooledConcordance
from emozoo.module import EmotionModule, clip_spec, load

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


class SaveWeights(Callback):
    """Writes a weights folder (safetensors, config, model card) when training ends.

    Args:
        folder: where to; ``<arch>.<tag>`` is appended when a tag is given. Without a folder: ``last`` below the
            trainer's ``default_root_dir`` and, where ModelCheckpoint has a monitor, ``best`` for the epoch it chose.
        tag: immutable name of these weights, e.g. ``faces7_v3``.
        trained_on: one line about the data; it opens the model card. Synthetic or composed data must say so.
        licence: of the weights.
        half: store float16, half the size.
        recipe: the committed recipe that made them. ``emozoo train`` compares it with what was run and writes every
            difference into config and card.
        control_of, control: for controls: whose, and what was taken away.
        limits: further lines for the card.
        calibrate: fit the temperature on the validation part.
        shared_parts: parts of the network to leave out of the file, because they still are those of the tagged weights
            that they started from (``init_from``); the config says whose. A part that has changed is written.
        spec: fields of the ClipSpec that prediction uses otherwise than training did: a network that looks at every
            frame alone may train on single frames (``clips: 1``) and answer for several.
    """

    def __init__(
        self,
        folder: str | None = None,
        tag: str | None = None,
        trained_on: str = "data of the user",
        licence: str = "Apache-2.0",
        half: bool = True,
        recipe: str = "",
        control_of: str | None = None,
        control: str | None = None,
        limits: list[str] | None = None,
        spec: dict[str, Any] | None = None,
        calibrate: bool = False,
        shared_parts: list[str] | None = None,
    ) -> None:
        self.spec, self.calibrate, self.shared_parts = spec or {}, calibrate, shared_parts or []
        self.folder, self.tag, self.trained_on, self.licence, self.half = (
            folder and Path(folder),
            tag,
            trained_on,
            licence,
            half,
        )
        self.recipe, self.control_of, self.control, self.limits = recipe, control_of, control, limits or []
        self.seconds, self.started = 0.0, 0.0
        # All that makes the weights, and what of it differs from the recipe: the command line knows both.
        self.settings: dict[str, Any] | None = None
        self.changed: dict[str, Any] | None = None
        self._before: dict[str, Any] | None = None  # settings of the run whose checkpoint this one goes on from

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self.tag and self.folder and not getattr(trainer, "fast_dev_run", False):
            there = self.folder / f"{pl_module.arch}.{self.tag}"  # said before an hour of training, not after
            if (there / hub.WEIGHTS).is_file():
                raise UsageError(
                    f"{there} is there already, and tags are immutable: raise its version, or move it away"
                )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        spent = time.monotonic() - self.started if self.started else 0.0
        return {"seconds": self.seconds + spent, "settings": self.settings}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = float(state_dict["seconds"])
        self._before = state_dict.get("settings")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if getattr(trainer, "fast_dev_run", False):
            return
        assert isinstance(pl_module, EmotionModule)
        # Every process takes part: where parameters are spread over them (FSDP), this puts them together.
        last = trainer.strategy.lightning_module_state_dict()
        if trainer.is_global_zero:
            root = Path(trainer.default_root_dir)
            folder = self.folder or root / "last"
            folder = folder / f"{pl_module.arch}.{self.tag}" if self.tag else folder
            self._write(trainer, pl_module, folder, last, "last epoch")
            chosen = _chosen(trainer)
            if not self.folder and chosen is not None:
                checkpoint = torch.load(chosen.best_model_path, map_location="cpu", weights_only=True)
                what = f"best {chosen.monitor}, epoch {checkpoint['epoch'] + 1}"
                self._write(trainer, pl_module, root / "best", checkpoint["state_dict"], what)
        trainer.strategy.barrier("weights are written")

    def _write(
        self, trainer: L.Trainer, module: EmotionModule, folder: Path, state: Mapping[str, Any], selected: str
    ) -> None:
        # Into a network of its own: the trained one may be spread over processes.
        # LightningCLI adds hyperparameters of its own, which begin with an underscore.
        settings = {k: v for k, v in module.hparams.items() if not k.startswith("_")}
        kept = EmotionModule(**{**settings, "init_from": None})
        kept.load_state_dict(state)
        kept.to(module.device)
        dm = trainer.datamodule  # type: ignore[attr-defined]
        if self.calibrate and dm is not None and dm.val_rows and kept.classes:
            kept.calibrate(dm.loader_of(dm.val_rows))  # all of them, in this one process
        shared = {n: part for n in self.shared_parts if (part := _unchanged(kept.net, n, module.starts(), self.half))}
        if changed := [name for name in self.shared_parts if name not in shared]:
            _log.warning("%s: %s not that of tagged weights any more, so in the file", folder, ", ".join(changed))
        made_with = self.settings or _settings_of(trainer, settings)
        resumed = changes(self._before, made_with) if self._before and self.settings else {}
        config = {
            **(said := kept.describe()),
            "tag": self.tag or "",
            "spec": {**said["spec"], **self.spec},
            "trained_on": self.trained_on,
            "licence": self.licence,
            "control_of": self.control_of,
            "control": self.control,
            "limits": self.limits,
            "recipe": private(self.recipe),
            "changed": self.changed,
            **({"resumed": resumed} if resumed else {}),
            "settings": made_with,
            **({"parts": shared} if shared else {}),
            "revision": None,
            "n_train": len(dm.train_rows) if dm is not None else None,
            "epochs": trainer.max_epochs,
            "steps": trainer.global_step,
            "selected": selected,
            "processes": trainer.world_size,
            "seed": int(os.environ.get("PL_GLOBAL_SEED", 0)),
            "precision": str(trainer.precision),
            "train_seconds": round(self.state_dict()["seconds"], 1),
            "versions": files.versions(),
        }
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, BestOnTest) and callback.found:
                config["best_on_test"] = callback.found
        own = {k: v for k, v in kept.net.state_dict().items() if not k.startswith(tuple(f"{name}." for name in shared))}
        hub.save(folder, own, config, card(config), half=self.half)


def _unchanged(
    net: nn.Module, name: str, starts: Mapping[Path, Mapping[str, str]], half: bool
) -> dict[str, str] | None:
    """Whose part of tagged weights a part of a network still is as stored; None where it is nobody's.

    ``half``: in float16. Averaging over steps moves the last digits of float32, also of what never changes.
    """

    def stored(x: torch.Tensor) -> torch.Tensor:
        return x.cpu().half() if half and x.is_floating_point() else x.cpu()

    own = net.get_submodule(name).state_dict()
    for path, taken in starts.items():
        theirs = next((a for a, b in taken.items() if b == name), None)
        if theirs is None or not path.is_dir():
            continue
        config, state = hub.read_config(path), hub.read_state(path)
        if config.get("tag") and not hub.parts(config) and all(
            torch.equal(stored(v), stored(state[f"{theirs}.{k}"])) for k, v in own.items()
        ):  # fmt: skip
            return {"weights": f"{config['arch']}.{config['tag']}", "part": theirs, "sha256": config["sha256"]}
    return None


def _chosen(trainer: L.Trainer) -> ModelCheckpoint | None:
    """The ModelCheckpoint that chooses by a metric and has found something."""
    callbacks: list[Any] = trainer.checkpoint_callbacks
    return next((c for c in callbacks if isinstance(c, ModelCheckpoint) and c.monitor and c.best_model_path), None)


class BestOnTest(Callback):
    """Scores the test part after every epoch and remembers the best one; no weights are chosen by it.

    Many papers print the best epoch on test. SaveWeights writes this number into ``config.json`` as ``best_on_test``,
    for comparison with them alone. Stands before EMAWeightAveraging in the list, so that it sees averaged weights.

    Args:
        monitor: ``WAR``, ``UAR``, ``F1`` or ``CCC``.
    """

    def __init__(self, monitor: str = "WAR") -> None:
        self.monitor = monitor
        self.found: dict[str, Any] = {}
        self._loader: Any = None

    def state_dict(self) -> dict[str, Any]:
        return {"found": self.found}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.found = dict(state_dict["found"])

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        assert isinstance(pl_module, EmotionModule)
        dm: EmotionDataModule = trainer.datamodule  # type: ignore[attr-defined]
        self._loader = self._loader or dm.test_dataloader()
        confusion = Confusion(len(pl_module.classes)).to(pl_module.device) if pl_module.classes else None
        pooled = PooledConcordance().to(pl_module.device)
        few = getattr(trainer, "fast_dev_run", False)
        seen: set[str] = set()  # windows of an item have its id
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            for batch in islice(self._loader, int(few) or None):
                if batch is None:  # nothing of it could be read, which was said
                    continue
                batch = batch.to(pl_module.device)
                seen.update(batch.meta["id"])
                pl_module.count(pl_module.output(batch), batch.targets, confusion, pooled)
        scores = pl_module.scored(confusion, pooled)
        every: list[Any] = [seen] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(every, seen)
        if scores.get(self.monitor, -2.0) > self.found.get(self.monitor, -2.0):
            note = "the best epoch on the test part itself: comparable with papers that chose so, never a headline"
            n = {"n_expected": len({r.id for r in dm.test_rows}), "n": len(set().union(*every))}
            self.found = {**scores, "epoch": trainer.current_epoch + 1, **n, "note": note}


# -- what made the weights -------------------------------------------------------------------------------------------

# Of a command line, what only says where things go, or what is shown on the way.
_NO_SETTING = {
    "trainer": {
        "default_root_dir", "logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing",
        "log_every_n_steps", "num_sanity_val_steps", "profiler", "fast_dev_run", "barebones", "use_distributed_sampler",
        "enable_autolog_hparams",
    },
    "data": {"spec", "classes", "num_workers"},  # the model's own, and a matter of speed
    "SaveWeights": {"folder", "tag", "trained_on", "licence", "recipe", "control_of", "control", "limits"},
}  # fmt: skip
_NO_PART = {"config", "ckpt_path", "weights_only", "verbose", "return_predictions", "subcommand"}


def compact(dump: Mapping[str, Any]) -> dict[str, Any]:
    """Of a whole configuration what makes the weights: arguments of model, data, trainer and callbacks that are set."""
    found: dict[str, Any] = {}
    for part, values in dump.items():
        if part in _NO_PART or values is None:
            continue
        if isinstance(values, Mapping):
            left_out = _NO_SETTING.get(part, set()) | ({"callbacks"} if part == "trainer" else set())
            values = {k: v for k, v in values.items() if v is not None and k not in left_out and not k.startswith("_")}
        found[part] = private(values)
    callbacks: dict[str, Any] = {}
    given = (dump.get("trainer") or {}).get("callbacks") or []
    for callback in [given] if isinstance(given, Mapping) else given:
        name, values = callback["class_path"].rpartition(".")[2], dict(callback.get("init_args") or {})
        if name == "ModelCheckpoint":
            values = {k: values.get(k) for k in ("monitor", "mode")}  # the rest says what is written, and where
        key = next(f"{name}{f'.{i}' if i else ''}" for i in count() if f"{name}{f'.{i}' if i else ''}" not in callbacks)
        skip = _NO_SETTING.get(name, set())
        callbacks[key] = private({k: v for k, v in values.items() if v is not None and k not in skip})
    if callbacks:
        found["callbacks"] = callbacks
    return found


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What differs between two settings, ``{"model.lr": [0.001, 0.0003]}``; None stands for what is not set."""

    def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in values.items():
            found |= flat(value, f"{above}{key}.") if isinstance(value, Mapping) and value else {f"{above}{key}": value}
        return found

    old, new = flat(before), flat(after)
    return {k: [old.get(k), new.get(k)] for k in dict.fromkeys([*old, *new]) if old.get(k) != new.get(k)}


def _settings_of(trainer: L.Trainer, hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run that no command line made, as far as its parts know them."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    run = {
        "max_epochs": trainer.max_epochs,
        "max_steps": trainer.max_steps,
        "precision": str(trainer.precision),
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "gradient_clip_val": trainer.gradient_clip_val,
        "devices": trainer.num_devices,
        "num_nodes": trainer.num_nodes,
    }
    known = ("dataset", "root", "split", "fold", "folds", "val_share", "batch_size", "seed")
    of_data = {k: getattr(data, k, None) for k in known} | dict(getattr(data, "hparams", None) or {})
    return compact({"model": hparams, "data": of_data, "trainer": run})


class _SaveConfig(SaveConfigCallback):
    """Writes the whole configuration of a run beside what it makes: ``config.yaml`` in ``default_root_dir``."""

    def __init__(self, parser: LightningArgumentParser, config: Any, **_: Any) -> None:
        super().__init__(parser, config, save_to_log_dir=False)

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            text = self.parser.dump(self.config, skip_none=False)
            files.write_atomic(Path(trainer.default_root_dir) / "config.yaml", text.encode())


class EmozooCLI(LightningCLI):
    """Lightning's CLI with one rule: the data module reads what the model eats.

    ``fit`` keeps ``config.yaml`` and ``metrics.csv`` in ``trainer.default_root_dir``, by default ``runs/<recipe>``, and
    tells SaveWeights what was run and how that differs from the recipe.
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
        """Lightning's own, but that a wrong argument is one line, without the list of all that there are."""
        for each in (parser, *getattr(self, "_subcommand_parsers", {}).values()):
            each.exit_on_error = False
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            said: BaseException | None = error
            while said is not None and not isinstance(said, EmozooError):  # our own words, where it is about them
                said = said.__cause__ or said.__context__
            raise UsageError(str(said or f"{error.message} (see `emozoo train --help`)")) from error

    def before_instantiate_classes(self) -> None:
        run = self._run_config()
        trainer = run.trainer
        if self.subcommand not in (None, "fit"):
            trainer.logger = False if trainer.logger is None else trainer.logger
            return
        if trainer.default_root_dir is None:
            files = self._config_files()
            trainer.default_root_dir = str(Path("runs", Path(files[0]).stem if files else run.model.model))
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
                self._tell(callback)

    def _tell(self, save: SaveWeights) -> None:
        save.settings = compact(self._dumped(self._run_config()))
        files = self._config_files()
        named = _recipe_file(save.recipe) if save.recipe else None
        base = [str(named)] if named is not None else files
        save.recipe = save.recipe or ", ".join(Path(f).name for f in files)
        if base:
            save.changed = self._compared(base, save.settings)

    def _compared(self, base: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """How settings differ from those of recipes; None where these cannot be read any more."""
        words = [w for file in base for w in ("--config", file)]
        parser = self.parser
        try:
            found = parser.parse_args(words if self.subcommand is None else [self.subcommand, *words])
        except Exception as error:  # whatever a file of another version holds
            _log.warning("%s: not compared with what was run (%s)", ", ".join(base), " ".join(str(error).split())[:200])
            return None
        return changes(compact(self._dumped(found if self.subcommand is None else found[self.subcommand])), settings)

    def _dumped(self, config: Any) -> dict[str, Any]:
        return yaml.safe_load(self._parser(self.subcommand).dump(config, skip_link_targets=False, skip_none=False))

    def _run_config(self) -> Any:
        return self.config if self.subcommand is None else self.config[self.subcommand]

    def _config_files(self) -> list[str]:
        return [str(f) for f in self._run_config().get("config") or []]


@rank_zero_only
def _make_way(file: Path) -> None:
    """Keeps what an earlier part of a run logged: ``metrics.csv`` becomes ``metrics_1.csv``, the next ``metrics_2``."""
    if file.is_file():
        numbered = (file.with_stem(f"{file.stem}_{i}") for i in count(1))
        file.rename(next(f for f in numbered if not f.exists()))


def _recipe_file(word: str) -> Path | None:
    """The file of a recipe that SaveWeights names: of the package, or a user's own; None where there is none."""
    committed = files.packaged("benchmarks/recipes") / f"{Path(word).name.removesuffix('.yaml')}.yaml"
    if committed.is_file() and Path(word).parent.as_posix() in (".", "benchmarks/recipes"):
        return committed
    return Path(word) if Path(word).is_file() else None


def _spec_of(model: str, size: str, changes: dict[str, Any] | None) -> dict[str, Any]:
    return json.loads(json.dumps(clip_spec(model, size, changes).to_dict()))  # lists, as a YAML file would have them


def _classes_of(model: str, classes: list[str] | None) -> list[str]:
    """The network's classes in its own order, which labels follow: the data's own may be another."""
    return list(registry.model(model).classes if classes is None else classes)


def _recipe(word: str) -> str:
    """The path of a recipe; a bare name that is no file means one of the package's."""
    file = files.packaged("benchmarks/recipes") / f"{word}.yaml"
    return str(file) if not Path(word).exists() and file.is_file() else word


def train(argv: list[str]) -> int:
    """``emozoo train ARGV``: Lightning's command line gets every argument unchanged; ``fit`` is implied.

    ``--config`` also takes the bare name of a recipe that comes with the package.
    """
    argv = [_recipe(word) if before in ("--config", "-c") else word for before, word in zip(["", *argv], argv)]
    words = argv if argv and argv[0] in ("fit", "validate", "test") else ["fit", *argv]
    if any(w in ("-h", "--help") for w in argv) and words[0] == "fit" and argv[0] != "fit":
        words = ["fit", "--help"]
    EmozooCLI(EmotionModule, EmotionDataModule, args=words, seed_everything_default=0, save_config_callback=_SaveConfig)
    return 0


class _Began(Callback):
    """Keeps in every checkpoint what its run began with: ``origin``, a hash, and the ids that could not be read."""

    def __init__(self, origin: str, unreadable: Sequence[str]) -> None:
        self.kept = {"origin": origin, "unreadable": sorted(unreadable)}

    def state_dict(self) -> dict[str, Any]:
        return self.kept

    @staticmethod
    def of(checkpoint: Path) -> dict[str, Any] | None:
        """What the run of a checkpoint began with; None where the file is cut off or not ours."""
        try:
            kept = torch.load(checkpoint, map_location="cpu", weights_only=True)["callbacks"]
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, UnpicklingError, BadZipFile) as error:
            _log.warning("%s cannot be read (%s)", checkpoint, str(error).splitlines()[0] if str(error) else "cut off")
            return None
        states = [s for s in kept.values() if isinstance(s, dict)]
        return next((s for s in states if "origin" in s and "unreadable" in s), {"origin": "", "unreadable": []})


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

    def began(without: Iterable[str]) -> str:
        """A hash of all that a run follows from, but for items that could not be read."""
        left_out = set(without)
        rows = [(r.id, r.label, r.split) for r in manifest.rows if r.id not in left_out]
        return files.sha256_of(repr((start.sha256, list(manifest.classes), seed, batch_size, rows)).encode())

    last = out / "last.ckpt"
    before = _Began.of(last) if resume and last.is_file() else None
    if before is not None and before["origin"] != began(before["unreadable"]):
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
        _log.warning("%s is not gone on from: training begins anew, %s", last, what)
    dm.batch_size = max(2, min(batch_size, len(dm.train_rows)))
    steps = max(1, len(dm.train_rows) // dm.batch_size)
    # Small sets see enough steps to fit a new head, large ones a few epochs.
    epochs = epochs or max(4, min(30, 240 // steps))
    head = {k.partition(".")[0] for k in start.head_keys()}
    encoder = {p: 0.1 for p, part in start.net.named_children() if p not in head and list(part.parameters())}
    module = EmotionModule(
        start.arch, start.wiring, start.size, list(manifest.classes), config.get("options"), start.spec.to_dict(),
        lr=lr, lr_scale=encoder, tau=1.0, smoothing=0.05, flips=bool(config.get("flips", False)),
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
        callbacks=[save, checkpoint, _Began(began(unreadable), list(unreadable)), TQDMProgressBar(leave=False)],
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
