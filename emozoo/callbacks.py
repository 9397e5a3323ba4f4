"""Callbacks of training: weights folders, the best epoch on test, distillation, cached features."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, Timer
from rich.progress import track
from torch import Tensor, nn

from emozoo import files, hub, moved, registry, settings
from emozoo.batch import Batch, DataInfo
from emozoo.card import card, private
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.features import FeatureDataset
from emozoo.errors import UsageError
from emozoo.module import EmotionModule
from emozoo.spec import ClipSpec
from emozoo.zoo import load

_log = logging.getLogger(__name__)


@moved.arguments
class SaveWeights(Callback):
    """Writes a weights folder (safetensors, config, model card) when training ends.

    Args:
        folder: what to write; ``<arch>.<tag>`` is appended when a tag is given. Without a folder: ``last`` below the
            trainer's ``default_root_dir`` and, where ModelCheckpoint has a monitor, ``best`` for the epoch it chose.
        tag: immutable name of these weights, e.g. ``faces7_v3``.
        trained_on: one line about the data; it opens the model card. Synthetic or composed data must say so.
        material: the same for machines: keys of :data:`emozoo.registry.MATERIALS` (``recordings``, ``photographs``,
            ``things``, ``composed``, ``drawn``), most of it first, also of what the encoders it started from were
            trained on. None: not recorded.
        licence: of the weights.
        half: store float16, half the size.
        recipe: the committed recipe that made them. ``emozoo train`` compares it with the settings of the run and
            writes every difference into config and card.
        control_of, control: for controls: the model's name, and what the control has instead of its attention.
        limits: further lines for the card.
        calibrate: fit the temperature on the validation part.
        shared_parts: parts of the network to leave out of the file, because they still equal those of the tagged
            weights that they started from (``init_from``), which the config names. A changed part is written.
        spec: fields of the ClipSpec with other values in prediction than in training: a network that encodes every
            frame alone may train on single frames (``clips: 1``) and predict from several.
        prior: of predictions where none is asked for, ``train`` or ``uniform``: which one is right more often on
            people's own files.

    Raises UsageError for an unknown ``material`` or ``prior``.
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
        material: list[str] | None = None,
        prior: str = "train",
    ) -> None:
        if unknown := [m for m in material or () if m not in registry.MATERIALS]:
            known = ", ".join(registry.MATERIALS)
            raise UsageError(f"SaveWeights: no material {', '.join(map(repr, unknown))}; there are {known}")
        if prior not in ("train", "uniform"):
            raise UsageError(f"SaveWeights: prior must be 'train' or 'uniform', got {prior!r}")
        self.material, self.prior = material or [], prior
        self.spec, self.calibrate, self.shared_parts = spec or {}, calibrate, shared_parts or []
        self.folder, self.tag, self.trained_on, self.licence, self.half = (
            folder and Path(folder),
            tag,
            trained_on,
            licence,
            half,
        )
        self.recipe, self.control_of, self.control, self.limits = recipe, control_of, control, limits or []
        self.timer = Timer()
        # The settings that decide the weights, and their differences to the recipe: the command line sets both.
        self.settings: dict[str, Any] | None = None
        self.changed: dict[str, Any] | None = None
        self._before: dict[str, Any] | None = None  # settings of the run whose checkpoint this one goes on from
        self._written = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self.tag and self.folder and not getattr(trainer, "fast_dev_run", False):
            folder = self.folder / f"{pl_module.arch}.{self.tag}"  # an error before an hour of training, not after
            if (folder / hub.WEIGHTS).is_file():
                raise UsageError(
                    f"{folder} is there already, and tags are immutable: raise its version, or move it away"
                )
        if stage == "fit" and not getattr(trainer, "fast_dev_run", False):  # in every process: none waits for another
            root = Path(trainer.default_root_dir)
            for folder in [self._folder(str(pl_module.arch), root), *([] if self.folder else [root / "best"])]:
                hub.check_replaceable(folder)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.timer.on_train_start(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.timer.time_elapsed(), "settings": self.settings}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.timer.load_state_dict({"time_elapsed": {"train": float(state_dict["seconds"])}})
        self._before = state_dict.get("settings")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if getattr(trainer, "fast_dev_run", False):
            return
        assert isinstance(pl_module, EmotionModule)
        # Every process takes part: where parameters are spread over them (FSDP), this puts them together.
        last = trainer.strategy.lightning_module_state_dict()
        if trainer.is_global_zero:
            self._write_all(trainer, pl_module, last)
        trainer.strategy.barrier("weights are written")
        self._written = True

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes what a run that was killed after its last epoch did not write: Lightning has nothing to train then."""
        go_on = Path(str(trainer.ckpt_path or ""))
        if self._written or not go_on.is_file() or getattr(trainer, "fast_dev_run", False):
            return
        assert isinstance(pl_module, EmotionModule)
        if trainer.is_global_zero:  # the file holds what predicts: averaged weights, where they are averaged
            last = torch.load(go_on, map_location="cpu", weights_only=True)["state_dict"]
            self._write_all(trainer, pl_module, last)

    def _folder(self, arch: str, root: Path) -> Path:
        """Where the last epoch is written; ``root``: of the trainer."""
        folder = self.folder or root / "last"
        return folder / f"{arch}.{self.tag}" if self.tag else folder

    def _write_all(self, trainer: L.Trainer, module: EmotionModule, last: Mapping[str, Any]) -> None:
        """Writes the folder of the last epoch and, where there is one, of the epoch that was chosen."""
        root = Path(trainer.default_root_dir)
        folder = self._folder(str(module.arch), root)
        self._write(trainer, module, folder, last, "last epoch")
        chosen = _chosen(trainer)
        if not self.folder and chosen is not None:
            checkpoint = torch.load(chosen.best_model_path, map_location="cpu", weights_only=True)
            what = f"best {chosen.monitor}, epoch {checkpoint['epoch'] + 1}"
            self._write(trainer, module, root / "best", checkpoint["state_dict"], what)

    def _write(
        self, trainer: L.Trainer, module: EmotionModule, folder: Path, state: Mapping[str, Any], selected: str
    ) -> None:
        # Into a network of its own: the trained one may be spread over processes.
        # LightningCLI adds hyperparameters of its own, which begin with an underscore.
        arguments = {k: v for k, v in module.hparams.items() if not k.startswith("_")}
        saved = EmotionModule(**{**arguments, "init_from": None})
        saved.load_state_dict(state)
        saved.to(module.device)
        dm = trainer.datamodule  # type: ignore[attr-defined]
        if self.calibrate and dm is not None and dm.val_rows and saved.classes:
            saved.calibrate(dm.loader_of(dm.val_rows))  # all of them, in this one process
        sources = module.init_sources()
        shared = {n: part for n in self.shared_parts if (part := _unchanged(saved.net, n, sources, self.half))}
        if changed := [name for name in self.shared_parts if name not in shared]:
            _log.warning("%s: %s not that of tagged weights any more, so in the file", folder, ", ".join(changed))
        made_with = self.settings or _settings_of(trainer, arguments)
        resumed = settings.changes(self._before, made_with) if self._before and self.settings else {}
        network = saved.describe()
        config = {
            **network,
            "tag": self.tag or "",
            "spec": {**network["spec"], **self.spec},
            "trained_on": self.trained_on,
            **({"material": self.material} if self.material else {}),
            **({"prior": self.prior} if self.prior != "train" else {}),
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
            "train_seconds": round(self.timer.time_elapsed(), 1),
            "versions": files.versions(),
        }
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, BestOnTest) and callback.best:
                config["best_on_test"] = callback.best
        left_out = tuple(f"{name}." for name in shared)
        own = {k: v for k, v in saved.net.state_dict().items() if not k.startswith(left_out)}
        hub.save(folder, own, config, card(config), half=self.half)


def _unchanged(
    net: nn.Module, name: str, sources: Mapping[Path, Mapping[str, str]], half: bool
) -> dict[str, str] | None:
    """The tagged weights that a part of a network is still equal to, and its name there; None where it has changed.

    ``half``: in float16. Averaging over steps moves the last digits of float32, also of what never changes.
    """

    def stored(x: torch.Tensor) -> torch.Tensor:
        return x.cpu().half() if half and x.is_floating_point() else x.cpu()

    own = net.get_submodule(name).state_dict()
    for path, taken in sources.items():
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
    """The ModelCheckpoint that chose an epoch by a metric; None where there is none."""
    callbacks: list[Any] = trainer.checkpoint_callbacks
    return next((c for c in callbacks if isinstance(c, ModelCheckpoint) and c.monitor and c.best_model_path), None)


class BestOnTest(Callback):
    """Scores the test part after every epoch and remembers the best one; no weights are chosen by it.

    Many papers print the best epoch on test. SaveWeights writes this number into ``config.json`` as ``best_on_test``,
    for comparison with them alone. The test part becomes the Trainer's second validation loader, whose metrics are
    logged as ``val_WAR/dataloader_idx_1`` and so on. Needs an EmotionDataModule with rows that validate.

    Args:
        monitor: ``WAR``, ``UAR``, ``F1`` or ``CCC``.
    """

    def __init__(self, monitor: str = "WAR") -> None:
        self.monitor = monitor
        self.best: dict[str, Any] = {}
        self._ids: set[str] = set()  # of the items that were scored; windows of an item have its id

    def state_dict(self) -> dict[str, Any]:
        return {"found": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = dict(state_dict["found"])

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not hasattr(data, "validate_on_test_too"):
            raise UsageError("BestOnTest needs the test rows: give the Trainer an EmotionDataModule, not its loaders")
        data.validate_on_test_too = True

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            trainer.datamodule.validate_on_test_too = False  # type: ignore[attr-defined]

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._ids = set()

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch | None, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        if dataloader_idx == 1 and batch is not None:
            self._ids.update(batch.meta["id"])

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EmotionModule)
        scores = pl_module.epoch_metrics.get(1)
        if trainer.sanity_checking or trainer.state.fn != "fit" or scores is None:
            return
        every: list[Any] = [self._ids] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(every, self._ids)
        if scores.get(self.monitor, -2.0) > self.best.get(self.monitor, -2.0):
            note = "the best epoch on the test part itself: comparable with papers that chose so, never a headline"
            rows = trainer.datamodule.test_rows  # type: ignore[attr-defined]
            n = {"n_expected": len({r.id for r in rows}), "n": len(set().union(*every))}
            self.best = {**scores, "epoch": trainer.current_epoch + 1, **n, "note": note}


class Distillation(Callback):
    """Trains towards the probabilities of a teacher beside the class labels.

    Before each training step ``batch.targets["teacher"]`` gets the teacher's probabilities (B, K) without a class
    prior, for the very images of the batch; where the data bring probabilities of their own, those stay. The module
    adds the divergence from them to its loss (:func:`emozoo.losses.distillation`).

    Args:
        teacher: weights (name, folder or address) of a network with the same streams and classes, or several of them,
            whose mean counts. None: the data bring the probabilities (``teacher=`` of EmotionDataModule). With cached
            features a teacher must have this network's encoder.
        weight: weight of the divergence in the loss, above 0 and at most 1; the labels have the rest.

    Raises UsageError for a weight out of range, for a teacher that does not fit, and where there is none.
    """

    def __init__(self, teacher: str | list[str] | None = None, weight: float = 0.5) -> None:
        if not 0 < weight <= 1:
            raise UsageError(f"Distillation: weight must be above 0 and at most 1, got {weight}")
        self.teacher, self.weight = teacher, weight
        self.teachers: list[EmotionModule] = []
        self._encoders_compared = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EmotionModule)
        if not self.teacher and not DataInfo(getattr(trainer, "datamodule", None)).has_teacher:
            raise UsageError("Distillation needs a teacher: weights as teacher=, or tables of scores as data.teacher")
        names = [self.teacher] if isinstance(self.teacher, str) else self.teacher or []
        self.teachers = [load(n if n.startswith(hub.SCHEME) else str(files.resolve_path(n))) for n in names]
        for teacher in self.teachers:
            if teacher.classes != pl_module.classes or not _same_views(teacher.spec, pl_module.spec):
                raise UsageError(f"teacher {teacher.name} has other streams or classes than this network")
            teacher.requires_grad_(False).to(trainer.strategy.root_device)
        self._encoders_compared = False
        pl_module.teacher_weight = self.weight

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EmotionModule)
        pl_module.teacher_weight = 0.0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, EmotionModule)
        if self.teachers:
            if batch.encoded and not self._encoders_compared:
                self._compare_encoders(pl_module)
            with trainer.precision_plugin.forward_context():  # autocast, as in the training step
                batch.targets["teacher"] = self.probabilities(batch)

    def probabilities(self, batch: Batch) -> Tensor:
        """The teachers' mean probabilities (B, K) without a class prior; where the batch has finite ones, those."""
        with torch.no_grad():
            logits = [t.output(batch).logits for t in self.teachers]
            each = [t.scores(x, prior="uniform") for t, x in zip(self.teachers, logits, strict=True) if x is not None]
        mean = torch.stack(each).mean(0)
        given = batch.targets.get("teacher")
        return mean if given is None else torch.where(torch.isfinite(given), given, mean)

    def _compare_encoders(self, module: EmotionModule) -> None:
        """Refuses a teacher that would read features of another encoder than its own."""
        own, encoding = module.net.state_dict(), module.net.encoding
        for teacher in self.teachers:
            theirs = {k: v for k, v in teacher.net.state_dict().items() if k.partition(".")[0] in encoding}
            if not all(torch.equal(own[k], v) for k, v in theirs.items()):
                raise UsageError(f"teacher {teacher.name} has another encoder, so it cannot read cached features")
        self._encoders_compared = True


def _same_views(a: ClipSpec, b: ClipSpec) -> bool:
    """Whether two specs show the same images and audio, of however many clips and frames."""
    views = [{k: replace(s, frames=1, position="all") for k, s in spec.streams.items()} for spec in (a, b)]
    return views[0] == views[1]


def _settings_of(trainer: L.Trainer, hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run without a command line, as far as its parts know them."""
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
    return settings.recorded({"model": hparams, "data": of_data, "trainer": run})


class FeatureCache(Callback):
    """Trains on cached features of a frozen encoder, which sees some augmented draws of each clip only once.

    Features lie below ``EMOZOO_HOME``, under a hash of encoder, spec, augmentation, labels and files: the next run that
    has the same finds them. With ``preload`` of the data, stills are decoded once for all draws.

    Args:
        draws: augmented draws of each training clip; an epoch trains on one of them. 0 caches nothing: every epoch
            decodes and encodes its clips.
        every_row: encodes the rows of all folds, those that are tested too, so that the folds share one file of
            features. What is tested is never trained on.

    Raises UsageError for an encoder that learns, and for other data than an EmotionDataModule with the model's spec.
    """

    def __init__(self, draws: int = 4, every_row: bool = False) -> None:
        if isinstance(draws, bool) or not isinstance(draws, int) or draws < 0:
            raise UsageError(f"FeatureCache: draws must be a whole number, 0 or more, got {draws!r}")
        self.draws, self.every_row = draws, every_row

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Makes the features before Lightning builds the training loader, which the optimizer's set-up needs."""
        if stage == "fit" and self.draws:
            self._train_on_features(trainer, pl_module)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Makes the features again if the checkpoint has another encoder than the new module; else reads the cache."""
        if self.draws and trainer.training and not trainer.strategy.restore_checkpoint_after_setup:
            self._train_on_features(trainer, pl_module)

    def _train_on_features(self, trainer: L.Trainer, module: Any) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        if not isinstance(data, EmotionDataModule):
            raise UsageError("FeatureCache needs an EmotionDataModule: trainer.fit(model, datamodule=dm)")
        if data.spec.with_detector(module.spec.detector) != module.spec:
            raise UsageError("FeatureCache: the data have another ClipSpec than the model: make them with model.spec")
        data.train_on(self.features(module, data, trainer.strategy.root_device))
        module.train()

    def features(self, module: Any, data: EmotionDataModule, device: torch.device | str = "cpu") -> FeatureDataset:
        """The features that the encoder of a module makes of :meth:`EmotionDataModule.draws`, from the cache if there.

        ``data`` must be set up. The module is left in evaluation mode on ``device``.
        """
        if not module.encoder_is_frozen:
            raise UsageError("FeatureCache takes a frozen encoder: set lr_scale to 0 for its parts")
        parts = module.net.encoding
        encoder = {k: x for k, x in module.net.state_dict().items() if k.partition(".")[0] in parts}
        key = data.feature_key(encoder, self.draws, of_every_row=self.every_row)
        file = files.cache_folder() / "features" / f"{key}.pt"
        if not file.is_file():
            module.to(device).eval()
            found = FeatureDataset()
            # Own random numbers: a run that finds the features goes on exactly like the one that makes them.
            with torch.random.fork_rng([]), torch.no_grad():
                torch.manual_seed(data.seed)
                for batch in track(data.draws(self.draws, of_every_row=self.every_row), "encoding"):
                    if batch is not None:
                        found.add(module.encode(batch.to(device)), batch)
            try:
                found.save(file)
                found = FeatureDataset.load(file)
            except OSError as error:  # they are used from memory, and made again by the next run
                _log.warning("%s: these features were not kept (%s)", file, error.strerror or error)
        else:
            found = FeatureDataset.load(file)
        return data.training_part(found) if self.every_row else found
