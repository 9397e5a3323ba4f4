"""EmotionModule: one LightningModule around any of the networks.

Legend: B = batch, C = clips, K = classes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from emozoo import losses, optim, settings, weights
from emozoo.batch import Batch, DataInfo, drop_streams, mix
from emozoo.errors import UsageError
from emozoo.losses import LossSettings
from emozoo.metrics import EvaluationMetrics
from emozoo.models.network import Output
from emozoo.moved import names_of
from emozoo.optim import ADAMW, COSINE, OptimizerSettings, ScheduleSettings
from emozoo.pretrained import Pretrained, name_after_training


class EmotionModule(Pretrained, L.LightningModule):  # type: ignore[misc]  # load_from_checkpoint takes other arguments
    """Training and evaluation steps, losses, metrics, optimizer and freezing, the same for every network.

    It predicts as the :class:`emozoo.recognizer.Recognizer` that it is.

    All arguments are plain types, so a Lightning checkpoint loads with ``weights_only``.

    Args:
        model: architecture name.
        wiring: None takes the recommended one.
        size: ``full`` or ``lite``.
        classes: class names in order; None takes the paper's.
        options: keyword arguments of the network that differ from wiring and size.
        spec: fields of the ClipSpec that differ from the size's, or a whole stored one.
        lr: peak learning rate.
        optimizer: its name, or a mapping as :class:`emozoo.optim.OptimizerSettings`.
        schedule: name of the learning rate's schedule, or a mapping as :class:`emozoo.optim.ScheduleSettings`.
        lr_scale: factor on the learning rate per part of the network, e.g. ``{"backbone": 0.1}``; 0 freezes the part,
            batch-norm statistics too.
        loss: mapping as :class:`emozoo.losses.LossSettings`.
        mixup: parameter of the Beta distribution that clips and labels are mixed with in training; 0 = off.
        stream_dropout: chance, per clip and stream, that training hides a stream (never the last one).
        flips: outside training, average the predictions for the images and for their mirror images (twice the time).
        init_from: weights whose parts the network starts with, as ``{weights: {"theirs": "ours"}}``. ``weights`` is a
            name of weights or of a packaged encoder (``speech_tiny.v2``), a hub address, a weights folder or a
            safetensors file; given alone, its ``backbone`` is taken. All of a part must fit exactly, but a class head
            of a weights folder may know more classes than this network.
        old: arguments by their names of version 0.1 (``tau``, ``weight_decay`` ...), with a DeprecationWarning.
    """

    # Weight of the divergence from ``targets["teacher"]`` in the loss, in 0..1; class labels have the rest. The
    # callback emozoo.callbacks.Distillation sets it.
    teacher_weight: float = 0.0
    # Counts the predictions for training batches where it is set (emozoo.finetune does).
    training_metrics: EvaluationMetrics | None = None

    def __init__(
        self,
        model: str,
        wiring: str | None = None,
        size: str = "full",
        classes: list[str] | None = None,
        options: dict[str, Any] | None = None,
        spec: dict[str, Any] | None = None,
        lr: float = 1e-3,
        optimizer: str | OptimizerSettings = ADAMW,
        schedule: str | ScheduleSettings = COSINE,
        lr_scale: dict[str, float] | None = None,
        loss: LossSettings | None = None,
        mixup: float = 0.0,
        stream_dropout: float = 0.0,
        flips: bool = False,
        init_from: str | dict[str, dict[str, str]] | None = None,
        **old: Any,
    ) -> None:
        if old:
            now = {"optimizer": optimizer, "schedule": schedule, "loss": loss, "init_from": init_from}
            optimizer, schedule, loss, init_from = settings.renamed(now, old)
            old = {}  # not into hparams
        super().__init__(model, wiring, size, classes, options, spec, loss, flips)
        self.optimizer_settings = optim.named_settings("optimizer", optimizer, optim.OPTIMIZERS, OptimizerSettings)
        self.schedule_settings = optim.named_settings("schedule", schedule, optim.SCHEDULES, ScheduleSettings)
        wiring, size = self.wiring, self.size  # into hparams: these, not the defaults they stood for
        self.save_hyperparameters()
        self.epoch_metrics: dict[int, dict[str, float]] = {}  # of the last evaluation, by number of the loader
        self._metrics: dict[int, EvaluationMetrics] = {}  # by number of the loader
        self._random: dict[str, list[Tensor]] | None = None  # random states of the checkpoint that is resumed
        for path, parts in self.init_sources().items():
            what = f"{self.arch} (options: {options or 'none'})"
            weights.copy_parts(path, parts, self.net, self.classes, self.head_keys, what)

    @property
    def encoder_is_frozen(self) -> bool:
        """Whether :meth:`encode` gives the same features throughout training, so that they can be cached."""
        return self.net.freeze or set(self.net.encoding) <= set(self._frozen())

    def calibrate(self, batches: Iterable[Batch | None]) -> None:
        """Fits the temperature on labelled clips that were not trained on (Guo et al., ICML 2017).

        The temperature is one number, which minimizes the negative log likelihood with the prior of training. Soft
        labels count as their largest class, as benchmarks score them. The temperature divides logits and prior, so
        the stored prior is divided by it, too.
        """
        self.eval()
        logits, labels = [], []
        with torch.no_grad():
            for batch in batches:
                if batch is None:
                    continue
                y = batch.targets.get("emotion")
                if y is None:
                    continue
                found = self.output(batch.to(self.device)).logits
                assert found is not None
                logits.append(found.cpu().double())
                known = y.sum(1) > 0 if y.ndim == 2 else y >= 0
                labels.append(torch.where(known, y.argmax(1) if y.ndim == 2 else y, -1))
        if not any(bool((x >= 0).any()) for x in labels):
            warnings.warn("not calibrated: no clip that was set apart could be read and has a label", stacklevel=2)
            return
        z, y = torch.cat(logits), torch.cat(labels).cpu()
        prior = (self.log_prior * self.temperature).log_softmax(-1).cpu().double()  # that of training
        z = z + self.loss_settings["tau"] * prior
        scale = losses.inverse_temperature(z, y)
        self.temperature.fill_(1.0 / scale)
        self.log_prior.copy_((scale * prior).log_softmax(-1))

    # -- training --------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Freezes parts before Lightning wraps the network: DDP waits for gradients of all that require them then.

        Raises UsageError for data of other classes or another spec than this network's, parts in ``lr_scale`` that the
        network lacks or that lie in each other, and a training without an end.
        """
        self._check_data(getattr(self.trainer, "datamodule", None))
        if stage == "fit":
            if self.trainer.max_epochs == -1 and self.trainer.max_steps == -1:
                raise UsageError(
                    "the schedule of the learning rate needs to know when the training ends: give max_epochs or "
                    "max_steps, beside max_time too"
                )
            self.train()  # before Lightning looks: it warns of modules in eval mode, as :func:`emozoo.load` gives them
            names = [n for n, _ in self.net.named_parameters()]
            scaled = self.hparams["lr_scale"] or {}
            for part in scaled:
                if outer := next((other for other in scaled if part.startswith(f"{other}.")), None):
                    raise UsageError(
                        f"lr_scale: {part} lies in {outer}, and both have a factor: name the parts of {outer} singly"
                    )
                if not any(n.startswith(f"{part}.") for n in names):
                    tops = ", ".join(n for n, _ in self.net.named_children())
                    raise UsageError(f"lr_scale: {self.arch} has no part '{part}'; it has {tops} and what is in them")
            for part in self._frozen():
                self.net.get_submodule(part).requires_grad_(False)

    def _check_data(self, *loaders: Any) -> None:
        """Refuses a data module, or loaders, with other classes or another spec than this network's."""
        for data in loaders:
            if isinstance(data, list | tuple):
                self._check_data(*data)
                continue
            classes, spec = DataInfo(data).classes, DataInfo(data).spec
            if self.classes and classes and classes != self.classes:
                raise UsageError(
                    f"the data number the classes {', '.join(classes)} and the model {', '.join(self.classes)}: "
                    "make the EmotionDataModule with classes=model.classes"
                )
            if spec is not None and spec.with_detector(self.spec.detector) != self.spec:
                raise UsageError(
                    "the data show other images or audio than the model looks at (another ClipSpec): make the "
                    "EmotionDataModule with spec=model.spec"
                )

    def on_validation_start(self) -> None:
        self._check_data(self.trainer.val_dataloaders)

    def on_test_start(self) -> None:
        self._check_data(self.trainer.test_dataloaders)

    def on_predict_start(self) -> None:
        self._check_data(self.trainer.predict_dataloaders)

    def on_fit_start(self) -> None:
        """Takes the class prior of the training labels; it is stored with the weights.

        The temperature of loaded weights is set to 1, since the loss uses none; the prior is scaled back with it.
        """
        if self.classes:
            self.log_prior.copy_((self.log_prior * self.temperature).log_softmax(-1))  # as it was before calibration
            self.temperature.fill_(1.0)
        data = DataInfo(getattr(self.trainer, "datamodule", None))
        self._take_prior(data)
        if data.has_unlabelled and not self.teacher_weight:
            raise UsageError("a set without labels is of no use without a teacher: add the callback Distillation")

    def _take_prior(self, data: DataInfo) -> None:
        prior = data.class_prior if self.classes else None
        if prior is not None:
            self.log_prior.copy_(torch.as_tensor(prior, dtype=torch.float32).clamp_min(1e-6).log())

    def on_train_start(self) -> None:
        """Marks the name as trained further, and restores random states: some strategies (FSDP) load only now.

        Loaders given without a data module are known only here, so they are checked here.
        """
        if getattr(self.trainer, "datamodule", None) is None:  # the loader is known only now
            self._check_data(self.trainer.train_dataloader)
            self._take_prior(DataInfo(self.trainer.train_dataloader))
        self.name, self.sha256 = name_after_training(self.name), ""
        if self._random is not None:
            self._set_random()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores the prior, and the random states of all processes: a killed run ends as if it had not been killed."""
        checkpoint["prior"] = self.prior
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        everyone: list[Any] = [states] * self.trainer.world_size
        if self.trainer.world_size > 1:
            torch.distributed.all_gather_object(everyone, states)
        checkpoint["random"] = {device: [s[device] for s in everyone] for device in states}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._random = checkpoint.get("random")
        if (prior := checkpoint.get("prior")) in ("train", "uniform"):
            self.prior = prior

    def _set_random(self) -> None:
        """Restores the random states of a checkpoint written by as many processes; else each gets its own seed."""
        states, self._random = self._random, None
        if states is not None and len(states["cpu"]) == self.trainer.world_size:
            torch.set_rng_state(states["cpu"][self.trainer.global_rank].cpu())
            if "cuda" in states and self.device.type == "cuda":
                torch.cuda.set_rng_state(states["cuda"][self.trainer.global_rank].cpu(), self.device)
        elif self.trainer.world_size > 1:
            torch.manual_seed(torch.initial_seed() + self.trainer.global_rank)  # dropout and draws differ

    def on_train_epoch_start(self) -> None:
        """Puts frozen parts into eval mode before the first step; Lightning itself changes no mode."""
        self.train()

    def train(self, mode: bool = True) -> EmotionModule:
        """Sets training mode, but parts whose ``lr_scale`` is 0 stay in eval mode: batch-norm statistics freeze too."""
        super().train(mode)
        for part in self._frozen():
            self.net.get_submodule(part).eval()
        return self

    def _frozen(self) -> list[str]:
        scale = self.hparams.get("lr_scale") or {}
        return [part for part, factor in scale.items() if factor == 0]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch, a scalar; ``targets["teacher"]`` counts with ``teacher_weight``."""
        if self.hparams["mixup"] > 0:
            batch = mix(batch, self.hparams["mixup"], len(self.classes))
        if self.hparams["stream_dropout"] > 0:
            batch = drop_streams(batch, self.hparams["stream_dropout"])
        out = self.output(batch)
        loss, parts = self._loss(out, batch.targets, train=True)
        size = len(batch)
        if self.training_metrics is not None:
            self._count(self.training_metrics, out, batch)
        self.log("loss", loss, prog_bar=True, batch_size=size)
        self.log_dict({f"loss_{k}": v for k, v in parts.items()}, batch_size=size)
        return loss

    def _loss(self, out: Output, targets: Mapping[str, Tensor], *, train: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its parts; without smoothing, flooding and sums over processes outside training."""
        h, parts = self.loss_settings, {}
        total = self._total if train else None
        if out.logits is not None and "emotion" in targets:
            label = losses.cross_entropy(
                out.logits,
                targets["emotion"],
                log_prior=h["tau"] * self.log_prior if h["tau"] else None,
                smoothing=h["smoothing"] if train else 0.0,
                flood=h["flood"] if train else 0.0,
                total=total,
            )
            if self.teacher_weight and "teacher" in targets:
                # Without the prior: the teacher's own is another one, and would undo the logit adjustment.
                parts["teacher"] = losses.distillation(out.logits, targets["teacher"])
                label = (1.0 - self.teacher_weight) * label + self.teacher_weight * parts["teacher"]
            parts["emotion"] = label
        if out.va is not None and "va" in targets and h["va_weight"] > 0:
            mask = targets["va_mask"]
            parts["va"] = h["va_weight"] * losses.concordance_loss(out.va, targets["va"], mask, total=total)
        wanted = [parts[k] for k in ("emotion", "va") if k in parts]
        if not wanted:
            raise UsageError(f"{self.arch} predicts {', '.join(self.tasks)}, but the data has no label for it")
        return torch.stack(wanted).sum(), parts

    def _total(self, x: Tensor) -> Tensor:
        """The sum of ``x`` over all processes, with gradients: losses that are no mean over items need it."""
        if self._trainer is None or self._trainer.world_size == 1:
            return x
        everyone: Any = self.all_gather(x, sync_grads=True)
        return everyone.sum(0)

    # -- evaluation ------------------------------------------------------------------------------------------------

    def _evaluate(self, batch: Batch | None, loader: int) -> None:
        if batch is None:  # none of its items could be read, which a warning reported
            return
        if loader not in self._metrics:
            self._metrics[loader] = EvaluationMetrics(len(self.classes), self.device)
        self._count(self._metrics[loader], self.output(batch), batch)

    @torch.no_grad()
    def _count(self, metrics: EvaluationMetrics, out: Output, batch: Batch) -> None:
        """Counts the predictions for a batch, with its loss without smoothing and flooding."""
        loss, _ = self._loss(out, batch.targets, train=False)
        scores = None if out.logits is None else self.scores(out.logits)
        metrics.update(scores, out.va, batch.targets, loss, len(batch))

    def validation_step(self, batch: Batch | None, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate(batch, dataloader_idx)

    def test_step(self, batch: Batch | None, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate(batch, dataloader_idx)

    def _report(self, stage: str) -> None:
        """Logs ``val_WAR`` and so on; those of a second loader as ``val_WAR/dataloader_idx_1``, as Lightning does."""
        found, self._metrics, self.epoch_metrics = self._metrics, {}, {}
        loaders = self._trainer and getattr(self._trainer, f"{stage}_dataloaders")
        # Every process logs the same number of metrics, even one that got no item of a loader.
        for i in range(len(loaders) if isinstance(loaders, list | tuple) else 1):
            metrics = found.get(i) or EvaluationMetrics(len(self.classes), self.device)
            self.epoch_metrics[i] = metrics.compute()
            suffix = f"/dataloader_idx_{i}" if i else ""
            self.log(f"{stage}_loss{suffix}", metrics.loss.compute(), add_dataloader_idx=False)
            scores = {f"{stage}_{k}{suffix}": v for k, v in self.epoch_metrics[i].items()}
            self.log_dict(scores, prog_bar=not i, add_dataloader_idx=False)

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_end(self) -> None:
        self._report("test")

    # -- optimizer -------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRScheduler:
        self._set_random()  # before the number of steps is asked for: that opens the first epoch's loader, which draws
        optimizer = optim.create_optimizer(
            self.net, self.optimizer_settings, self.hparams["lr"], self.hparams["lr_scale"]
        )
        steps, epochs = self._length()
        schedule: Any = optim.create_schedule(optimizer, self.schedule_settings, steps=steps, epochs=epochs)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _length(self) -> tuple[int, int]:
        """Optimizer steps and epochs of the training, at least 1; where steps alone end it, the epochs they take.

        Raises UsageError for a schedule by the epoch where nothing tells how many batches an epoch has.
        """
        trainer = self.trainer
        steps, epochs = max(1, int(trainer.estimated_stepping_batches)), trainer.max_epochs or 1
        if epochs < 1:
            trainer.fit_loop.setup_data()
            if math.isinf(trainer.num_training_batches) and self.schedule_settings["name"] != "cosine":
                raise UsageError("the schedule goes by epochs, and this loader has no length: give max_epochs")
            epochs = math.ceil(steps * trainer.accumulate_grad_batches / max(1, trainer.num_training_batches))
        return steps, max(1, epochs)


__getattr__ = names_of(__name__)
