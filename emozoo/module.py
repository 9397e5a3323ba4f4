"""EmotionModule: one LightningModule around any of the networks.

Legend: B = batch, C = clips, K = classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, overload

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from emozoo import losses, optim, registry, settings, weights
from emozoo.batch import Batch, DataInfo, check_inputs, drop_streams, mirrored, mix
from emozoo.errors import UsageError
from emozoo.losses import LossSettings
from emozoo.metrics import EvaluationMetrics
from emozoo.models.network import Network, Output
from emozoo.moved import names_of
from emozoo.optim import ADAMW, COSINE, OptimizerSettings, ScheduleSettings
from emozoo.pretrained import Pretrained, name_after_training


def _mean(a: Output, b: Output) -> Output:
    """The mean of two predictions; the attention is that of the first."""
    logits, va = (None if x is None or y is None else (x + y) / 2 for x, y in zip(a[:2], b[:2], strict=True))
    return Output(logits, va, a.attention)


class EmotionModule(Pretrained, L.LightningModule):  # type: ignore[misc]  # load_from_checkpoint takes other arguments
    """Training and evaluation steps, losses, metrics, optimizer and freezing, the same for every network.

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

    log_prior: Tensor
    temperature: Tensor
    # Weight of the divergence from ``targets["teacher"]`` in the loss, in 0..1; class labels have the rest. The
    # callback emozoo.callbacks.Distillation sets it.
    teacher_weight: float = 0.0

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
        super().__init__()
        if old:
            now = {"optimizer": optimizer, "schedule": schedule, "loss": loss, "init_from": init_from}
            optimizer, schedule, loss, init_from = settings.renamed(now, old)
            old = {}  # not into hparams
        self.optimizer_settings = optim.named_settings("optimizer", optimizer, optim.OPTIMIZERS, OptimizerSettings)
        self.schedule_settings = optim.named_settings("schedule", schedule, optim.SCHEDULES, ScheduleSettings)
        self.loss_settings = losses.loss_settings(loss)
        wiring, size = registry.wiring_and_size(model, wiring, size)
        entry = registry.model(model)
        self.arch, self.wiring, self.size = model, wiring, size
        self.classes: tuple[str, ...] = tuple(classes if classes is not None else entry.classes)
        self.spec = registry.clip_spec(model, size, spec)
        self.net: Network = registry.build_network(model, wiring, size, self.classes, options or {})
        if not isinstance(self.net, Network):
            raise UsageError(f"{entry.network} is no emozoo.models.network.Network, which every network must be")
        self.save_hyperparameters()
        # The name and hash of the weights; an untrained network has neither.
        self.name, self.sha256 = f"{model} (untrained)", ""
        self.config: Mapping[str, Any] = {}
        self.prior = "train"  # of predictions where none is asked for; weights may name the other one
        self.epoch_metrics: dict[int, dict[str, float]] = {}  # of the last evaluation, by number of the loader
        self._origin: weights.Source | None = None  # where weights were loaded from
        self.register_buffer("log_prior", torch.zeros(max(1, len(self.classes))))
        self.register_buffer("temperature", torch.ones(()))
        self._metrics: dict[int, EvaluationMetrics] = {}  # by number of the loader
        self._random: dict[str, list[Tensor]] | None = None  # random states of the checkpoint that is resumed
        for path, parts in self.init_sources().items():
            what = f"{self.arch} (options: {options or 'none'})"
            weights.copy_parts(path, parts, self.net, self.classes, self.head_keys, what)

    # -- forward ---------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch | Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> Output:
        """The network's Output for a Batch, or for its ``inputs`` and ``masks`` (default: all is real).

        A Batch may hold stills, which are encoded once, or features made by :meth:`encode`.

        Raises UsageError for anything else, and where a stream of ``spec.streams`` is missing.
        """
        if isinstance(batch, Batch):
            if masks is not None:
                raise UsageError("a Batch brings its own masks: call model(batch), or model(batch.inputs, masks)")
            return self.output(batch)
        check_inputs(batch, masks, self.spec, self.arch)
        with self._precision():
            inputs = self._cast(batch)
            out: Output = self.net(inputs, masks)
            return _mean(out, self.net(mirrored(inputs, self.spec), masks)) if self._flips() else out

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """The network's features for a batch. Stills, whose frames are all one image, are encoded once."""
        inputs = self._cast(batch.inputs)
        with self._precision():
            if not (batch.one_image and self.net.per_frame):
                return self.net.encode(inputs, batch.masks)
            first = {k: x[:, :1, :1] for k, x in inputs.items()}
            features = self.net.encode(first, {k: m[:, :1, :1] for k, m in batch.masks.items()})
        return {
            k: f.expand(-1, *batch.masks[k].shape[1:], *[-1] * (f.ndim - 3))  # (B, 1, 1, D) -> (B, C, F, D)
            for k, f in features.items()
        }

    def output(self, batch: Batch) -> Output:
        """The network's Output for a batch of images and audio, or of features made by :meth:`encode`."""
        with self._precision():
            if batch.encoded:
                return self.net.head(self._cast(batch.inputs), batch.masks)
            out = self.net.head(self.encode(batch), batch.masks)
            if not self._flips():
                return out
            other = replace(batch, inputs=mirrored(batch.inputs, self.spec))
            return _mean(out, self.net.head(self.encode(other), batch.masks))

    def _precision(self) -> AbstractContextManager[Any]:
        """Sums and softmax in float32, as under mixed precision, where the parameters themselves are in 16 bits."""
        dtype = self._width
        return torch.autocast(self.device.type, dtype) if dtype.itemsize == 2 else nullcontext()

    def _cast(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inputs in the precision of the parameters."""
        dtype = self._width
        return {k: x.to(dtype) if x.is_floating_point() else x for k, x in inputs.items()}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> EmotionModule:
        """Moves and casts; prior, temperature and batch norms keep float32, as mixed precision has them."""
        originals = [t.data for t in self._float32()]
        super()._apply(fn, recurse)
        for tensor, before in zip(self._float32(), originals, strict=True):
            if before.dtype == torch.float32 and tensor.dtype.itemsize == 2:
                tensor.data = before.to(tensor.device)
        return self

    def _float32(self) -> Iterator[Tensor]:
        """The tensors that stay float32: prior, temperature, and all of batch norms."""
        norms = (m for m in self.net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
        for module in (self, *norms):
            yield from (*module.parameters(recurse=False), *module.buffers(recurse=False))

    @property
    def _width(self) -> torch.dtype:
        """The precision that the network computes in: that of its matrices."""
        return next((p.dtype for p in self.net.parameters() if p.ndim > 1), torch.float32)

    def _flips(self) -> bool:
        return bool(self.hparams["flips"]) and not self.training

    @property
    def encoder_is_frozen(self) -> bool:
        """Whether :meth:`encode` gives the same features throughout training, so that they can be cached."""
        return self.net.freeze or set(self.net.encoding) <= set(self._frozen())

    def scores(self, logits: Tensor, prior: str = "train") -> Tensor:
        """Class probabilities (B, K) with the class prior of training (``prior="train"``) or without (``"uniform"``).

        Training with ``tau`` leaves logits that are free of ``tau`` times the log prior. They are divided by the
        stored temperature, to which the stored prior belongs (:meth:`calibrate`), before a prior is added.
        """
        if prior not in ("train", "uniform"):
            raise UsageError(f"prior must be 'train' or 'uniform', got '{prior}'")
        tau = self.loss_settings["tau"]
        factor = tau if prior == "train" else tau - 1.0
        return (logits.float() / self.temperature + factor * self.log_prior).softmax(-1)

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

    @overload
    def predict_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Any]: ...
    @overload
    def predict_step(self, batch: None, batch_idx: int = 0) -> None: ...
    def predict_step(self, batch: Batch | None, batch_idx: int = 0) -> dict[str, Any] | None:
        """``id``, ``logits`` (B, K) or None, ``va`` (B, C, 2) or None, ``attention`` and the batch's ``meta``.

        None for a batch of which nothing could be read.
        """
        if batch is None:
            return None
        out = self.output(batch)
        return {
            "id": batch.meta["id"],
            "logits": out.logits,
            "va": out.va,
            "attention": out.attention,
            "targets": batch.targets,
            "meta": batch.meta,
        }

    # -- training --------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Freezes parts before Lightning wraps the network: DDP waits for gradients of all that require them then.

        Raises UsageError for data of other classes or another spec than this network's.
        """
        self._check_data(getattr(self.trainer, "datamodule", None))
        if stage == "fit":
            self.train()  # before Lightning looks: it warns of modules in eval mode, as :func:`emozoo.load` gives them
            names = [n for n, _ in self.net.named_parameters()]
            for part in self.hparams["lr_scale"] or {}:
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
        """Stores the random states of all processes, so that a killed run ends as if it had not been killed."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        everyone: list[Any] = [states] * self.trainer.world_size
        if self.trainer.world_size > 1:
            torch.distributed.all_gather_object(everyone, states)
        checkpoint["random"] = {device: [s[device] for s in everyone] for device in states}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._random = checkpoint.get("random")

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
        loss, parts = self._loss(self.output(batch), batch.targets, train=True)
        size = len(batch)
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
        out = self.output(batch)
        loss, _ = self._loss(out, batch.targets, train=False)
        scores = None if out.logits is None else self.scores(out.logits)
        if loader not in self._metrics:
            self._metrics[loader] = EvaluationMetrics(len(self.classes), self.device)
        self._metrics[loader].update(scores, out.va, batch.targets, loss, len(batch))

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
        steps, epochs = max(1, int(self.trainer.estimated_stepping_batches)), max(1, self.trainer.max_epochs or 1)
        schedule: Any = optim.create_schedule(optimizer, self.schedule_settings, steps=steps, epochs=epochs)
        return {"optimizer": optimizer, "lr_scheduler": schedule}


__getattr__ = names_of(__name__)
