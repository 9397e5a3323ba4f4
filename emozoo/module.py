"""EmotionModule: one LightningModule around any of the networks, and :func:`load`, which gives it trained weights.

Legend: B = batch, C = clips, K = classes.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self, TypeVar, overload

import lightning as L
import torch
from huggingface_hub import ModelHubMixin
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MeanMetric

from emozoo import files, hub, registry
from emozoo.batch import Batch
from emozoo.card import card, private
from emozoo.errors import UnknownModelError, UsageError, WeightsError
from emozoo.files import resolve_path
from emozoo.losses import concordance_loss, cross_entropy, distillation, inverse_temperature
from emozoo.metrics import Confusion, PooledConcordance
from emozoo.models.backbones import portable
from emozoo.models.layers import Output
from emozoo.spec import ClipSpec, StreamKind


def build_network(arch: str, wiring: str, size: str, classes: Sequence[str], options: Mapping[str, Any]) -> nn.Module:
    """The plain network of a registry entry. ``options`` override the keyword arguments of wiring and size.

    Raises UsageError for options that the network does not take.
    """
    spec = registry.model(arch)
    module, _, name = spec.network.partition(":")
    kwargs = {**spec.sizes[size], **spec.wirings[wiring], **options}
    try:
        return getattr(importlib.import_module(module), name)(len(classes) or None, **kwargs)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{arch} with {', '.join(f'{k}={v!r}' for k, v in options.items()) or size}: {error}"
        ) from error


def clip_spec(arch: str, size: str, changes: Mapping[str, Any] | None = None) -> ClipSpec:
    """The ClipSpec of an architecture at a size; ``changes`` replaces fields of it, or all of it (a stored dict)."""
    base = registry.model(arch).specs[size]
    if not changes:
        return base
    if "streams" in changes:
        return ClipSpec.from_dict(changes)
    unknown = set(changes) - set(base.to_dict())
    if unknown:
        raise UsageError(f"ClipSpec has no field {', '.join(sorted(unknown))}")
    return replace(base, **changes)


OPTIMIZERS: dict[str, Any] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "momentum": partial(torch.optim.SGD, momentum=0.9),
}
SCHEDULES = ("cosine", "epoch_cosine", "epoch_step", "constant")


def rate(
    schedule: str,
    at: int,
    total: float,
    *,
    warm: float = 0.0,
    final: float = 0.0,
    period: float = 1.0,
    gamma: float = 0.1,
) -> float:
    """The factor on the learning rate at step or epoch ``at`` of ``total``.

    ``cosine``, in steps: rises over ``warm`` of them, then half a cosine over the rest, to ``final``. The others change
    once an epoch, as schedulers of papers do, and multiply a rise ``(at + 1) / warm`` with: ``epoch_cosine``, half a
    cosine of ``period`` epochs (all by default; a longer one ends above ``final``); ``epoch_step``, ``gamma`` after
    every ``period`` epochs; ``constant``, 1.
    """
    rise = min(1.0, (at + 1) / warm) if warm else 1.0
    if schedule == "cosine":
        if at < warm:
            return rise
        done = min(1.0, (at - warm) / max(1.0, total - warm))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "epoch_cosine":
        return rise * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, at / period))))
    if schedule == "epoch_step":
        return rise * gamma ** int(at // period)
    return rise


def _same_views(a: ClipSpec, b: ClipSpec) -> bool:
    """Whether two specs show the same images and audio, of however many clips and frames."""
    views = [{k: replace(s, frames=1, position="all") for k, s in spec.streams.items()} for spec in (a, b)]
    return views[0] == views[1]


def _check_stream(name: str, x: Any, kind: StreamKind) -> None:
    """Raises UsageError for what no network can take as a stream: other axes or types are not always noticed inside."""
    if not isinstance(x, Tensor):
        raise UsageError(f"stream '{name}' is a {type(x).__name__}, not a tensor: convert it with torch.as_tensor")
    kind.check_shape(name, tuple(x.shape))
    if not x.is_floating_point():
        raise UsageError(f"stream '{name}' must be floating point, normalised as the spec says; got {x.dtype}")


def _trained(name: str) -> str:
    """What weights of that name are called once they are trained on: never by the name alone."""
    if name.endswith(" (untrained)"):
        return name.replace(" (untrained)", " (trained here)")
    if name.endswith(("trained here)", "trained further)")):
        return name
    return f"{name[:-1]}, trained further)" if name.endswith(")") else f"{name} (trained further)"


def _mirrored(inputs: Mapping[str, Tensor], spec: ClipSpec) -> dict[str, Tensor]:
    """The inputs with left and right changed, where their stream knows these."""
    mirrors = {k: s.kind.mirror for k, s in spec.streams.items()}
    return {k: mirror(x) if (mirror := mirrors.get(k)) else x for k, x in inputs.items()}


def _mean(a: Output, b: Output) -> Output:
    """Logits, valence and arousal between two answers; the attention of the first."""
    logits, va = (None if x is None or y is None else (x + y) / 2 for x, y in zip(a[:2], b[:2], strict=True))
    return Output(logits, va, a.attention)


class _Metrics(NamedTuple):
    """What an evaluation counts."""

    confusion: Confusion | None
    pooled: PooledConcordance
    mean_loss: MeanMetric


class EmotionModule(L.LightningModule, ModelHubMixin):
    """Steps, losses, metrics, optimiser and freezing, the same for every network.

    All arguments are plain types, so a Lightning checkpoint loads with ``weights_only``.

    Args:
        model: architecture name.
        wiring: None takes the recommended one.
        size: ``full`` or ``lite``.
        classes: class names in order; None takes the paper's.
        options: keyword arguments of the network that differ from wiring and size.
        spec: fields of the ClipSpec that differ from the size's, or a whole stored one.
        lr, final_lr, warmup, schedule, period, gamma: peak learning rate and its course, see :func:`rate`.
        optimizer: ``adamw``, ``adam`` (decay added to the gradient), ``sgd`` (momentum 0.9, nesterov) or ``momentum``
            (the same without nesterov).
        lr_scale: factor per top-level part of the network, e.g. ``{"backbone": 0.1}``; 0 freezes it,
            batch-norm statistics too.
        weight_decay: decoupled with ``adamw``; on matrices only.
        decay_all: also on biases and normalisation, as plain optimisers of papers do.
        tau: how much of the log prior of the training labels is added to the logits in the loss (logit adjustment).
        smoothing, flood, flood_mode: see :func:`emozoo.losses.cross_entropy`.
        distill: weight of the divergence from ``targets["teacher"]``; the labels keep the rest.
        teacher: weights (name or folder) of a network with the same streams and classes, or several of them, whose mean
            answer to the very images of the batch is the teacher's where the data bring none. With kept features
            their encoder must be this network's.
        va_weight: weight of the concordance loss where ``targets["va"]`` exist.
        stream_dropout: chance, per clip and stream, that training hides a stream (never the last one).
        mixup: parameter of the Beta distribution that images and labels are mixed with; 0 = off.
        flips: outside training, answer with the mean over the images and their mirror images (twice the time).
        init_from: weights whose parts start this network: a name of weights or of a packaged encoder
            (``speech_tiny.v1``), a hub address, a weights folder or a safetensors file; or several with their parts,
            ``{weights: {"theirs": "ours"}}``.
        init_parts: parts of these one weights to take, ``{"theirs": "ours"}``, default the backbone; all must fit
            exactly, but a class head of a weights folder may know more classes than ours.
    """

    log_prior: Tensor
    temperature: Tensor

    def __init__(
        self,
        model: str,
        wiring: str | None = None,
        size: str = "full",
        classes: list[str] | None = None,
        options: dict[str, Any] | None = None,
        spec: dict[str, Any] | None = None,
        lr: float = 1e-3,
        final_lr: float = 0.0,
        warmup: float = 0.05,
        schedule: str = "cosine",
        period: float | None = None,
        gamma: float = 0.1,
        optimizer: str = "adamw",
        lr_scale: dict[str, float] | None = None,
        weight_decay: float = 0.05,
        decay_all: bool = False,
        tau: float = 0.0,
        smoothing: float = 0.0,
        flood: float = 0.0,
        flood_mode: str = "ishida",
        distill: float = 0.0,
        teacher: str | list[str] | None = None,
        va_weight: float = 1.0,
        stream_dropout: float = 0.0,
        mixup: float = 0.0,
        flips: bool = False,
        init_from: str | dict[str, dict[str, str]] | None = None,
        init_parts: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        for word, value, known in (("schedule", schedule, SCHEDULES), ("optimizer", optimizer, tuple(OPTIMIZERS))):
            if value not in known:
                raise UsageError(f"{word} must be one of {', '.join(known)}, got '{value}'")
        wiring, size = registry.wiring_and_size(model, wiring, size)
        entry = registry.model(model)
        self.arch, self.wiring, self.size = model, wiring, size
        self.classes: tuple[str, ...] = tuple(classes if classes is not None else entry.classes)
        self.spec = clip_spec(model, size, spec)
        self.net = build_network(model, wiring, size, self.classes, options or {})
        self.save_hyperparameters()
        # What the weights are called and hash to; an untrained network has neither.
        self.name, self.sha256 = f"{model} (untrained)", ""
        self.config: Mapping[str, Any] = {}
        self._origin: _Source | None = None  # where weights were loaded from
        self.register_buffer("log_prior", torch.zeros(max(1, len(self.classes))))
        self.register_buffer("temperature", torch.ones(()))
        self._metrics: _Metrics | None = None  # made where they are needed; no part of the network either
        self._teachers: tuple[EmotionModule, ...] = ()  # in a tuple: no part of this network
        self._random: dict[str, list[Tensor]] | None = None  # of a checkpoint: what training goes on with
        for file, parts in self.starts().items():
            self._start_from(file, parts)

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
        streams = list(self.spec.streams)
        call = f"model({{{', '.join(f'{s!r}: tensor' for s in streams)}}}), or model(batch)"
        if not isinstance(batch, Mapping):
            raise UsageError(f"{self.arch} takes a tensor for each of its streams: call {call}")
        if lacking := [s for s in streams if s not in batch]:
            raise UsageError(f"{self.arch} also looks at {', '.join(lacking)}: call {call}")
        if masks is not None and not isinstance(masks, Mapping):
            raise UsageError(f"masks are one for each stream, {{'{streams[0]}': (B, C, F) of true = real}}, or None")
        for name, stream in self.spec.streams.items():
            _check_stream(name, batch[name], stream.kind)
        with self._precision():
            inputs = self._cast(batch)
            out: Output = self.net(inputs, masks)
            return _mean(out, self.net(_mirrored(inputs, self.spec), masks)) if self._flips() else out

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """The network's features for a batch. Stills, whose frames are all one image, are encoded once."""
        net: Any = self.net
        inputs = self._cast(batch.inputs)
        with self._precision():
            if not (batch.one_image and getattr(net, "per_frame", False)):
                return net.encode(inputs, batch.masks)
            first = {k: x[:, :1, :1] for k, x in inputs.items()}
            features = net.encode(first, {k: m[:, :1, :1] for k, m in batch.masks.items()})
        return {
            k: f.expand(-1, *batch.masks[k].shape[1:], *[-1] * (f.ndim - 3))  # (B, 1, 1, D) -> (B, C, F, D)
            for k, f in features.items()
        }

    def output(self, batch: Batch) -> Output:
        """The network's Output for a batch of images and audio, or of features made by :meth:`encode`."""
        net: Any = self.net
        with self._precision():
            if batch.encoded:
                return net.head(self._cast(batch.inputs), batch.masks)
            out: Output = net.head(self.encode(batch), batch.masks)
            if not self._flips():
                return out
            mirrored = replace(batch, inputs=_mirrored(batch.inputs, self.spec))
            return _mean(out, net.head(self.encode(mirrored), batch.masks))

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
        kept = [t.data for t in self._float32()]
        super()._apply(fn, recurse)
        for tensor, before in zip(self._float32(), kept, strict=True):
            if before.dtype == torch.float32 and tensor.dtype.itemsize == 2:
                tensor.data = before.to(tensor.device)
        return self

    def _float32(self) -> Iterator[Tensor]:
        """What keeps float32: prior and temperature, and all of batch norms."""
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
        """Whether :meth:`encode` gives the same features throughout training, so that they can be kept."""
        net: Any = self.net
        return set(net.encoding) <= set(self._frozen()) or bool(getattr(net, "freeze", False))

    @property
    def tasks(self) -> tuple[str, ...]:
        """``emotion``, ``va`` or both, as the network's heads answer them."""
        has_va = bool(getattr(self.net, "va", False))
        return (("emotion",) if self.classes else ()) + (("va",) if has_va else ())

    def scores(self, logits: Tensor, prior: str = "train") -> Tensor:
        """Class probabilities (B, K) with the class prior of training (``prior="train"``) or without (``"uniform"``).

        Training with ``tau`` leaves logits that are free of ``tau`` times the log prior. They are divided by the
        stored temperature, to which the stored prior belongs (:meth:`calibrate`), before a prior is added.
        """
        if prior not in ("train", "uniform"):
            raise UsageError(f"prior must be 'train' or 'uniform', got '{prior}'")
        tau = float(self.hparams["tau"])
        share = tau if prior == "train" else tau - 1.0
        return (logits.float() / self.temperature + share * self.log_prior).softmax(-1)

    def calibrate(self, batches: Iterable[Batch | None]) -> None:
        """Sets the temperature under which labelled clips, that were not trained on, are likeliest.

        One number, fitted by the negative log likelihood with the prior of training (Guo et al., ICML 2017). Where
        several people voted, of what most of them said, as benchmarks score it. The temperature divides all that the
        answer follows from, so the prior is stored divided by it, too: of what most people say rare classes have
        smaller shares than of the votes.
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
                said = self.output(batch.to(self.device)).logits
                assert said is not None
                logits.append(said.cpu().double())
                known = y.sum(1) > 0 if y.ndim == 2 else y >= 0
                labels.append(torch.where(known, y.argmax(1) if y.ndim == 2 else y, -1))
        if not any(bool((x >= 0).any()) for x in labels):
            warnings.warn("not calibrated: no clip that was set apart could be read and has a label", stacklevel=2)
            return
        z, y = torch.cat(logits), torch.cat(labels).cpu()
        prior = (self.log_prior * self.temperature).log_softmax(-1).cpu().double()  # that of training
        z = z + float(self.hparams["tau"]) * prior
        scale = inverse_temperature(z, y)
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
        """Freezes before Lightning wraps the network: DDP waits for gradients of all that asked for them then.

        Raises UsageError for data of other classes or another spec than this network's.
        """
        self._check_data(getattr(self.trainer, "datamodule", None))
        if stage == "fit":
            self.train()  # before Lightning looks: it warns of what it finds in eval mode, as :func:`load` gives it
            names = [n for n, _ in self.net.named_parameters()]
            for part in self.hparams["lr_scale"] or {}:
                if not any(n.startswith(f"{part}.") for n in names):
                    tops = ", ".join(n for n, _ in self.net.named_children())
                    raise UsageError(f"lr_scale: {self.arch} has no part '{part}'; it has {tops} and what is in them")
            for part in self._frozen():
                self.net.get_submodule(part).requires_grad_(False)

    def _check_data(self, *loaders: Any) -> None:
        """Refuses a data module, or loaders of one, whose labels or images are not those that this network knows."""
        for data in loaders:
            if isinstance(data, list | tuple):
                self._check_data(*data)
                continue
            classes, spec = getattr(data, "classes", None), getattr(data, "spec", None)
            if self.classes and classes and tuple(classes) != self.classes:
                raise UsageError(
                    f"the data number the classes {', '.join(classes)} and the model {', '.join(self.classes)}: "
                    "make the EmotionDataModule with classes=model.classes"
                )
            if isinstance(spec, ClipSpec) and spec.with_detector(self.spec.detector) != self.spec:
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

        The temperature of loaded weights goes: the loss knows none, so answers are scored without from here on.
        """
        data = getattr(self.trainer, "datamodule", None)
        if self.classes:
            self.log_prior.copy_((self.log_prior * self.temperature).log_softmax(-1))  # as it was before calibration
            self.temperature.fill_(1.0)
            self._take_prior(data)
        if self.hparams["teacher"] and not self.hparams["distill"]:
            raise UsageError("teacher= is only asked with distill= above 0, the weight of its answers")
        if self.hparams["distill"] and not (self.hparams["teacher"] or getattr(data, "teacher_files", None)):
            raise UsageError("distill= needs a teacher: weights as model.teacher, or tables of scores as data.teacher")
        if not self.hparams["distill"] and not all(x.get("labels", True) for x in getattr(data, "also", ())):
            raise UsageError("a set without labels teaches nothing without a teacher: set distill= and teacher=")
        names = self.hparams["teacher"] or ()
        teachers = [
            load(n if n.startswith(hub.SCHEME) else str(resolve_path(n))).requires_grad_(False)
            for n in ([names] if isinstance(names, str) else names)
        ]
        for teacher in teachers:
            if teacher.classes != self.classes or not _same_views(teacher.spec, self.spec):
                raise UsageError(f"teacher {teacher.name} has other streams or classes than this network")
        self._teachers = tuple(t.to(self.device) for t in teachers)

    def _take_prior(self, labels: Any) -> None:
        """The class prior of a data module, or of one of its loaders; of anything else none is known."""
        prior = getattr(labels, "class_prior", None)
        if self.classes and prior is not None:
            self.log_prior.copy_(torch.as_tensor(prior, dtype=torch.float32).clamp_min(1e-6).log())

    def on_train_start(self) -> None:
        """Some strategies (FSDP) read a checkpoint only now. What is trained is no longer what its name stood for."""
        if getattr(self.trainer, "datamodule", None) is None:
            self._check_data(self.trainer.train_dataloader)
            self._take_prior(self.trainer.train_dataloader)
        self.name, self.sha256 = _trained(self.name), ""
        if self._random is not None:
            self._set_random()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the random numbers of every process, so that a run that was killed ends as if it had not been."""
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
        """Random numbers of the checkpoint, where one is resumed by as many processes as wrote it; else own ones."""
        kept, self._random = self._random, None
        if kept is not None and len(kept["cpu"]) == self.trainer.world_size:
            torch.set_rng_state(kept["cpu"][self.trainer.global_rank].cpu())
            if "cuda" in kept and self.device.type == "cuda":
                torch.cuda.set_rng_state(kept["cuda"][self.trainer.global_rank].cpu(), self.device)
        elif self.trainer.world_size > 1:
            torch.manual_seed(torch.initial_seed() + self.trainer.global_rank)  # dropout and draws differ

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's own arguments are in ``more``
        cls, checkpoint_path: Any, map_location: Any = None, **more: Any
    ) -> Self:
        """Lightning's own, for checkpoints of any Trainer; ``name`` and ``sha256`` are those of the file.

        All parameters are in the checkpoint: files that training started from (``init_from``, encoder weights in
        ``options``) are not read again. Opens with ``weights_only``, so that no code of the file runs.
        """
        more = {"weights_only": True, "init_from": None, **more}
        file = Path(checkpoint_path) if isinstance(checkpoint_path, str | PathLike) else None
        if file is not None and file.is_file():
            kept = torch.load(file, map_location="cpu", weights_only=True, mmap=True)[cls.CHECKPOINT_HYPER_PARAMS_KEY]
            more.setdefault("options", portable(kept.get("options") or {}))
        module = super().load_from_checkpoint(checkpoint_path, map_location, **more)
        module.name = f"{module.arch} (checkpoint{f' {file.name}' if file is not None else ''})"
        if file is not None and file.is_file():
            with file.open("rb") as f:
                module.sha256 = hashlib.file_digest(f, "sha256").hexdigest()
        return module

    def on_train_epoch_start(self) -> None:
        """Lightning starts in whatever mode it finds: frozen parts must be in eval mode from the first step."""
        self.train()

    def train(self, mode: bool = True) -> EmotionModule:
        """Parts whose ``lr_scale`` is 0 stay in eval mode: frozen weights, frozen batch-norm statistics."""
        super().train(mode)
        for part in self._frozen():
            self.net.get_submodule(part).eval()
        return self

    def _frozen(self) -> list[str]:
        scale = self.hparams.get("lr_scale") or {}
        return [part for part, factor in scale.items() if factor == 0]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        inputs, masks, targets = batch.inputs, batch.masks, dict(batch.targets)
        if self._teachers:
            targets["teacher"] = self._taught(batch)
        if self.hparams["mixup"] > 0:
            inputs, targets = self._mix(inputs, targets)
        if self.hparams["stream_dropout"] > 0:
            inputs, masks = self._drop_streams(inputs, masks)
        batch = replace(batch, inputs=inputs, masks=masks)
        loss, parts = self._loss(self.output(batch), targets, train=True)
        size = len(batch)
        self.log("loss", loss, prog_bar=True, batch_size=size)
        self.log_dict({f"loss_{k}": v for k, v in parts.items()}, batch_size=size)
        return loss

    def _loss(self, out: Any, targets: Mapping[str, Tensor], *, train: bool) -> tuple[Tensor, dict[str, Tensor]]:
        h, parts = self.hparams, {}
        if out.logits is not None and "emotion" in targets:
            prior = h["tau"] * self.log_prior if h["tau"] else None
            flood = h["flood"] if train else 0.0
            label = cross_entropy(
                out.logits,
                targets["emotion"],
                log_prior=prior,
                smoothing=h["smoothing"] if train else 0.0,
                flood=flood,
                flood_mode=h["flood_mode"],
                total=self._total if train else None,
            )
            if h["distill"] and "teacher" in targets:
                # Without the prior: the teacher's own is another one, and would undo the logit adjustment.
                parts["teacher"] = distillation(out.logits, targets["teacher"])
                label = (1.0 - h["distill"]) * label + h["distill"] * parts["teacher"]
            parts["emotion"] = label
        if out.va is not None and "va" in targets and h["va_weight"] > 0:
            total = self._total if train else None
            parts["va"] = h["va_weight"] * concordance_loss(out.va, targets["va"], targets["va_mask"], total=total)
        wanted = [parts[k] for k in ("emotion", "va") if k in parts]
        if not wanted:
            raise UsageError(f"{self.arch} answers {', '.join(self.tasks)}, but the data has no label for it")
        return torch.stack(wanted).sum(), parts

    def _total(self, x: Tensor) -> Tensor:
        """The sum of ``x`` over all processes, with gradients: losses that are no mean over items need it."""
        if self._trainer is None or self._trainer.world_size == 1:
            return x
        everyone: Any = self.all_gather(x, sync_grads=True)
        return everyone.sum(0)

    def _taught(self, batch: Batch) -> Tensor:
        """The teachers' mean probabilities (B, K) without a class prior; those that the data bring stay."""
        own = self.net.state_dict()
        for teacher in self._teachers if batch.encoded else ():
            if not all(
                torch.equal(own[k], v)
                for k, v in teacher.net.state_dict().items()
                if k.partition(".")[0] in self.net.encoding  # type: ignore[operator]
            ):
                raise UsageError(f"teacher {teacher.name} has another encoder, so it cannot read kept features")
        with torch.no_grad():
            logits = [t.output(batch).logits for t in self._teachers]
            all_said = [
                t.scores(x, prior="uniform") for t, x in zip(self._teachers, logits, strict=True) if x is not None
            ]
        said = torch.stack(all_said).mean(0)
        brought = batch.targets.get("teacher")
        return said if brought is None else torch.where(torch.isfinite(brought), brought, said)

    def _mix(
        self, inputs: dict[str, Tensor], targets: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Mixup (Zhang et al., ICLR 2018) of whole clips with others of the batch; labels become soft.

        Valence and arousal mix too, where both clips have them.
        """
        alpha = self.hparams["mixup"]
        size = next(iter(inputs.values())).shape[0]
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        order = torch.randperm(size, device=next(iter(inputs.values())).device)
        inputs = {k: torch.lerp(x[order], x, share) for k, x in inputs.items()}
        if (y := targets.get("emotion")) is not None:
            if y.ndim == 1:
                known = (y >= 0).unsqueeze(1)
                y = nn.functional.one_hot(y.clamp(min=0), len(self.classes)).float() * known
            targets["emotion"] = torch.lerp(y[order], y, share)
        for name in {"teacher", "va"} & targets.keys():
            targets[name] = torch.lerp(targets[name][order], targets[name], share)
        if "va_mask" in targets:
            targets["va_mask"] = targets["va_mask"] & targets["va_mask"][order]
        return inputs, targets

    def _drop_streams(
        self, inputs: dict[str, Tensor], masks: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Hides whole streams of whole clips, so that a missing face or audio is in the network's world."""
        names = list(inputs)
        first = inputs[names[0]]
        drop = torch.rand(first.shape[0], len(names), device=first.device) < self.hparams["stream_dropout"]
        real = torch.stack([masks[n].flatten(1).any(1) for n in names], 1)
        drop &= (real & ~drop).any(1, keepdim=True)  # something real stays
        inputs, masks = dict(inputs), dict(masks)
        for i, n in enumerate(names):
            keep = ~drop[:, i]
            inputs[n] = inputs[n] * keep.view(-1, *[1] * (inputs[n].ndim - 1))
            masks[n] = masks[n] & keep[:, None, None]
        return inputs, masks

    # -- evaluation ------------------------------------------------------------------------------------------------

    def _evaluate(self, batch: Batch | None) -> None:
        if batch is None:  # nothing of it could be read, which was said
            return
        out = self.output(batch)
        loss, _ = self._loss(out, batch.targets, train=False)
        y = batch.targets.get("emotion")
        labelled = len(batch) if y is None else int((y.sum(1) > 0 if y.ndim == 2 else y >= 0).sum())
        metrics = self._metrics_here()
        metrics.mean_loss.update(loss, labelled)  # Lightning's own average takes every process for as large as another
        self.count(out, batch.targets, metrics.confusion, metrics.pooled)

    def _metrics_here(self) -> _Metrics:
        """The metrics of this evaluation, on the module's device."""
        if self._metrics is None:
            with torch.inference_mode(False):  # they outlive the evaluation that makes them
                confusion = Confusion(len(self.classes)).to(self.device) if self.classes else None
                self._metrics = _Metrics(confusion, PooledConcordance(), MeanMetric().to(self.device))
        return self._metrics

    def count(
        self, out: Any, targets: Mapping[str, Tensor], confusion: Confusion | None, pooled: PooledConcordance
    ) -> None:
        """Adds the answers to a batch to the metrics of the tasks that it has labels for."""
        if out.logits is not None and "emotion" in targets and confusion is not None:
            y = targets["emotion"]
            confusion.update(self.scores(out.logits), y.argmax(1) if y.ndim == 2 else y)
        if out.va is not None and "va" in targets:
            pooled.update(out.va, targets["va"], targets["va_mask"])

    def validation_step(self, batch: Batch | None, batch_idx: int) -> None:
        self._evaluate(batch)

    def test_step(self, batch: Batch | None, batch_idx: int) -> None:
        self._evaluate(batch)

    @staticmethod
    def scored(confusion: Confusion | None, pooled: PooledConcordance) -> dict[str, float]:
        """The metrics of the tasks that were counted, over all processes: each asks, also one that saw no item."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics warns about a metric that its task never updated
            return {**(confusion.compute() if confusion is not None else {}), **pooled.compute()}

    def _report(self, stage: str) -> None:
        metrics = self._metrics_here()
        self._metrics = None
        found = self.scored(metrics.confusion, metrics.pooled)
        self.log(f"{stage}_loss", metrics.mean_loss.compute())
        self.log_dict({f"{stage}_{k}": v for k, v in found.items()}, prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_end(self) -> None:
        self._report("test")

    # -- optimiser -------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRScheduler:
        self._set_random()  # before the number of steps is asked for: that opens the first epoch's loader, which draws
        h = self.hparams
        scale: Mapping[str, float] = h.get("lr_scale") or {}
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, p in self.net.named_parameters():
            if p.requires_grad:
                factor = next((f for part, f in scale.items() if name.startswith(f"{part}.")), 1.0)
                groups.setdefault((factor, p.ndim > 1 or h["decay_all"]), []).append(p)
        parameters = [
            {"params": ps, "lr": h["lr"] * factor, "weight_decay": h["weight_decay"] if decays else 0.0}
            for (factor, decays), ps in groups.items()
        ]
        optimizer = OPTIMIZERS[h["optimizer"]](parameters, lr=h["lr"])
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        epochs = max(1, self.trainer.max_epochs or 1)
        per_step = h["schedule"] == "cosine"
        total = steps if per_step else epochs
        warm = max(1, int(h["warmup"] * steps)) if per_step else round(h["warmup"] * epochs)
        settings = {"warm": warm, "final": h["final_lr"], "period": h["period"] or epochs, "gamma": h["gamma"]}
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda at: rate(h["schedule"], at, total, **settings))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step" if per_step else "epoch"},
        }

    # -- weights ---------------------------------------------------------------------------------------------------

    def starts(self) -> dict[Path, dict[str, str]]:
        """The files or weights folders that training began from, each with the parts taken, ``{"theirs": "ours"}``."""
        found: str | Mapping[str, dict[str, str]] = self.hparams["init_from"] or {}
        if isinstance(found, str):
            found = {found: self.hparams["init_parts"] or {"backbone": "backbone"}}
        return {_start(file): parts for file, parts in found.items()}

    def _start_from(self, path: Path, parts: Mapping[str, str]) -> None:
        named: list[str] = []
        if path.is_dir() or (path.is_file() and hub.folder_of(path) is not None):
            found = _read(_source(path) or _missing(path))
            state, named = found.state, list(found.config["classes"]) if found.known else []
        else:  # tensors of whoever, without a config
            state = hub.read_weights(path, None)
        for theirs, ours in parts.items():
            part = {k[len(theirs) + 1 :]: v for k, v in state.items() if k.startswith(f"{theirs}.")}
            if not part:
                raise WeightsError(f"{path}: holds no part '{theirs}'")
            if self.classes and set(self.classes) <= set(named):  # of a class head, what it knows of our classes
                rows = [named.index(c) for c in self.classes]
                head = {k.removeprefix(f"{ours}.") for k in self.head_keys() if k.startswith(f"{ours}.")}
                part |= {k: part[k][rows] for k in head & set(part) if len(part[k]) == len(named)}
            names = {name for name, _ in self.net.named_modules()}
            if ours not in names:
                tops = ", ".join(name for name, _ in self.net.named_children())
                raise UsageError(f"init_parts: {self.arch} has no part '{ours}'; it has {tops} and what is in them")
            own = self.net.get_submodule(ours).state_dict()
            keys = sorted(own.keys() | part.keys())
            if odd := [k for k in keys if k not in own or k not in part or own[k].shape != part[k].shape]:
                raise WeightsError(
                    f"{path}: its '{theirs}' does not fit this network's '{ours}' (options: "
                    f"{self.hparams['options'] or 'none'}): {len(odd)} of {len(keys)} keys, first {', '.join(odd[:3])}"
                )
            self.net.get_submodule(ours).load_state_dict(part)

    def head_keys(self) -> set[str]:
        """Names of the parameters that belong to the classes: those whose shape changes with their number."""
        with torch.device("meta"):
            more = build_network(self.arch, self.wiring, self.size, (*self.classes, ""), self.hparams["options"] or {})
        own = self.net.state_dict()
        return {k for k, v in more.state_dict().items() if k not in own or own[k].shape != v.shape}

    def describe(self) -> dict[str, Any]:
        """What ``config.json`` says of this network and of how its answers are scored: plain types, no user's files."""
        h = self.hparams
        return {
            "schema": 1,
            "arch": self.arch,
            "tag": "",
            "wiring": self.wiring,
            "size": self.size,
            "classes": list(self.classes),
            "tasks": list(self.tasks),
            "options": portable(h["options"] or {}),
            "spec": self.spec.to_dict(),
            "tau": h["tau"],
            "flips": h["flips"],
            "log_prior": [round(float(x), 6) for x in self.log_prior] if self.classes else [],
            "temperature": round(float(self.temperature), 4),
        }

    def save(
        self, folder: str | Path, *, trained_on: str | None = None, licence: str | None = None, half: bool = False
    ) -> Path:
        """Writes a weights folder (safetensors, ``config.json``, model card) that :func:`load` answers alike from.

        Weights that were loaded and not changed keep what is known of them, but no tag: a tag stands for one file. Of
        all others config and card say that their training is not recorded (:class:`emozoo.train.SaveWeights` does).

        Args:
            folder: where to; files of these names there are replaced.
            trained_on: one line about the data, which opens the card.
            licence: of the weights; default: that of the weights that these were loaded from, else Apache-2.0.
            half: store float16, half the size, at the cost of digits.
        """
        folder = Path(folder)
        state = {k: v.detach().float() if v.is_floating_point() else v for k, v in self.net.state_dict().items()}
        known = dict(self.config) if self._is_as_loaded() else {}
        known = {k: v for k, v in known.items() if k not in ("parts", "revision", "sha256")}
        origin = f"data that were not recorded, from {private(self.name)}" if self.config else None
        trained = "data of the user" if "trained" in self.name.partition(" (")[2].replace("untrained", "") else None
        config = {
            "limits": [],
            "recipe": "",
            **known,
            **self.describe(),
            "trained_on": trained_on or known.get("trained_on") or origin or trained or "nothing that was recorded",
            "licence": licence or self.config.get("licence") or "Apache-2.0",
            "versions": known.get("versions") or files.versions(),
        }
        hub.save(folder, state, config, card(config), half=half)
        return folder

    def _is_as_loaded(self) -> bool:
        """Whether the parameters still are those of the file that they were loaded from, and that is still there."""
        if self._origin is None:
            return False
        try:
            there = _read(self._origin).state
        except WeightsError:
            return False
        own = self.net.state_dict()
        return own.keys() == there.keys() and all(torch.equal(own[k].cpu(), v) for k, v in there.items())

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # the mixin's arguments, without those of the network
        cls, pretrained_model_name_or_path: str | Path, *, revision: str | None = None,
        token: str | bool | None = None, cache_dir: str | Path | None = None, local_files_only: bool = False,
        force_download: bool = False, classes: Sequence[str] | None = None,
    ) -> Self:  # fmt: skip
        """The module of a name of weights, of a weights folder or file, or of a hub repository ``ORG/NAME``.

        The hash is checked, and pickles are never opened. ``revision``: a commit, tag or branch of the repository.
        ``token``, ``cache_dir``, ``local_files_only`` and ``force_download`` as in huggingface_hub; by default those of
        its environment, and the cache below ``EMOZOO_HOME``. ``classes`` as in :func:`load`.
        """
        name = pretrained_model_name_or_path
        text = str(name)
        there = isinstance(name, Path) or Path(text).exists() or text.endswith(".safetensors")
        there = there or text.partition(".")[0] in registry.MODELS
        if there or text.count("/") != 1:
            if revision is not None:
                raise UsageError(f"{text} is no hub repository, so it has no revision: leave revision= out")
            return _load(cls, name, classes=classes)
        access = hub.Access(token, local_files_only, Path(cache_dir) if cache_dir else None, force_download)
        folder = hub.fetch(f"{hub.SCHEME}{text}@{revision or 'main'}", access=access)
        return _load(cls, folder, classes=classes)

    def push_to_hub(  # the mixin's arguments, but for those that would publish other files
        self, repo_id: str, *, private: bool | None = None, token: str | None = None,
        commit_message: str | None = None, **unused: Any,
    ) -> str:  # fmt: skip
        """Publishes weights, config and card as one commit, checked as ``emozoo push`` does.

        Returns ``hf://ORG/NAME@COMMIT``, which :func:`load` takes. Raises UsageError, WeightsError.
        """
        if unused := {k: v for k, v in unused.items() if v is not None}:
            raise UsageError(f"push_to_hub publishes three files on main, without {', '.join(unused)}")
        with TemporaryDirectory() as folder:
            self.save(folder)
            return hub.push(Path(folder), repo_id, private=bool(private), token=token, message=commit_message)

    def load_weights(self, state: Mapping[str, Tensor], *, new_head: bool, where: str) -> None:
        """Takes a state dict, with ``new_head`` all but the class head. Raises WeightsError that names keys."""
        own = self.net.state_dict()
        head = self.head_keys() if new_head else set()
        fits = {k: v for k, v in state.items() if k not in head and k in own and own[k].shape == v.shape}
        odd = sorted((set(own) | set(state)) - set(fits) - head)
        if odd:
            raise WeightsError(
                f"{where}: does not fit {self.arch} ({self.wiring}, {self.size}); first keys: {', '.join(odd[:5])}"
            )
        self.net.load_state_dict(fits, strict=False)


Module = TypeVar("Module", bound=EmotionModule)


def load(
    name: str | Path,
    *,
    classes: Sequence[str] | None = None,
    wiring: str | None = None,
    size: str | None = None,
    weights: str | Path | None = "default",
    options: Mapping[str, Any] | None = None,
) -> EmotionModule:
    """A model in eval mode, its weights verified by sha256; nothing is downloaded that is not asked for.

    Args:
        name: ``arch``, ``arch.tag``, the path of a folder written by training or of a safetensors file in one, or
            ``hf://ORG/NAME@REVISION``. A file that is named is the file that is read. Where its sha256 is not the one
            in the ``config.json`` beside it, it holds other weights of that network: ``name`` is then its path,
            ``sha256`` its own, class prior and temperature are neutral, and a warning says so.
        classes: other class names than the weights have; the class head is then new, and a warning says so.
        wiring, size: only where there are no weights; contradicting those of a tag is an error.
        weights: None for an untrained network; a path of a folder or safetensors file; default: those of the name.
        options: keyword arguments of the network, for an untrained one.

    Returns:
        EmotionModule with ``spec``, ``classes``, ``name`` (the full one; a hub address with its commit),
        ``sha256``, ``config``.

    Raises:
        UnknownModelError: no such name, wiring or size (with the nearest one).
        WeightsError: wrong hash, pickle, other keys, or weights that do not exist.

    >>> import emozoo
    >>> model = emozoo.load("ceflnet", wiring="official", size="lite", weights=None)
    >>> model.classes[:3]
    ('anger', 'disgust', 'fear')
    """
    return _load(EmotionModule, name, classes=classes, wiring=wiring, size=size, weights=weights, options=options)


def _load(
    kind: type[Module], name: str | Path, *, classes: Sequence[str] | None = None, wiring: str | None = None,
    size: str | None = None, weights: str | Path | None = "default", options: Mapping[str, Any] | None = None,
) -> Module:  # fmt: skip
    """:func:`load`, as an object of that class."""
    source = _source(name)
    if source is not None and weights != "default":
        raise UsageError(f"{name} is weights: weights= goes with a network's name, as in load('ceflnet', weights=...)")
    if options and (source is not None or weights is not None):
        raise UsageError("options= go with weights=None: what weights were trained with cannot be changed")
    if source is None and weights is None:
        spec = registry.model(str(name)) if "." not in str(name) else registry.resolve(str(name))[0]
        module = kind(spec.name, wiring, size or "full", list(classes or spec.classes), dict(options or {}))
        return module.eval()
    if source is None and weights not in (None, "default"):
        source = _source(weights) or _missing(Path(str(weights)))
    if source is None:
        spec, entry = registry.resolve(str(name))
        if entry is None:
            raise WeightsError(
                f"{name} has no weights yet: train it, or ask for an untrained network with weights=None"
            )
        registry.check_request(entry, wiring, size)
        source = _Source(hub.locate(entry))
        found = _read(source, entry)
    else:
        _check_folder(source.folder, None if weights == "default" else str(name), wiring, size)
        found = _read(source)
    config, state = found.config, found.state
    module = kind(
        config["arch"],
        config["wiring"],
        config["size"],
        list(classes or config["classes"]),
        config.get("options"),
        config["spec"],
        tau=float(config.get("tau", 0.0)),
        flips=bool(config.get("flips", False)),
    )
    new_head = classes is not None and tuple(classes) != tuple(config["classes"])
    module.load_weights(state, new_head=new_head, where=str(found.file))
    module.name, module.sha256, module.config = found.name, config["sha256"], config
    module._origin = source
    if new_head:
        warnings.warn(
            f"{module.name}: new head for {len(module.classes)} classes, untrained until you fit it", stacklevel=2
        )
        module.name += " (new head)"
    else:
        module.log_prior.copy_(torch.tensor(config.get("log_prior") or [0.0] * len(module.log_prior)))
        module.temperature.fill_(float(config.get("temperature", 1.0)))
    if not found.known:
        warnings.warn(
            f"{found.file}: not the weights that the {hub.CONFIG} beside it describes: class prior and temperature, "
            "data and licence are not known",
            stacklevel=2,
        )
    return module.eval()


class _Source(NamedTuple):
    """Where weights lie: a weights folder, and the file that was named where it is not the folder's own."""

    folder: Path
    file: Path | None = None


class _Found(NamedTuple):
    """Weights that were read: what is known of them, their tensors, name and file.

    ``known``: the config describes these very weights, not others of the same network.
    """

    config: dict[str, Any]
    state: dict[str, Tensor]
    name: str
    file: Path
    known: bool


# What a config says of a network, whatever its weights are.
_NETWORK = ("schema", "arch", "wiring", "size", "classes", "tasks", "options", "spec", "tau", "flips")


def _read(source: _Source, entry: registry.Weights | None = None) -> _Found:
    """The weights of a folder or registry entry, or the named file that lies in a folder; hashes are checked.

    A file other than the folder's own whose hash is not the one in the config holds other weights of that network: of
    the config only what describes the network is taken, not the prior, the temperature, the data or the licence.
    """
    folder, file = source
    if file is not None:
        config, digest = hub.read_config(folder), files.sha256_of(file.read_bytes())
        known = digest == config["sha256"]
        if not known:
            config = {k: v for k, v in config.items() if k in _NETWORK}
            config |= {"tag": "", "trained_on": "data that were not recorded", "licence": "other", "limits": []}
        return _Found({**config, "sha256": digest}, hub.read_state(folder, file=file), str(file), file, known)
    config = dict(entry.config) if entry is not None else hub.read_config(folder)
    state = hub.read_state(folder, entry.sha256 if entry is not None else None)
    tagged = f"{config['arch']}.{config['tag']}" if config.get("tag") else ""
    released = registry.weights().get(tagged)
    own = bool(tagged) and (released is None or released.sha256 == config["sha256"])
    name = (entry is None and hub.published_as(folder)) or (tagged if own else str(folder))
    return _Found(config, state, name, folder / hub.WEIGHTS, True)


def _check_folder(folder: Path, name: str | None, wiring: str | None, size: str | None) -> None:
    """Refuses a folder whose config is not whole, or is of something else than was asked for."""
    config = hub.read_config(folder)
    missing = [k for k in ("arch", "wiring", "size", "classes", "spec", "sha256") if k not in config]
    if missing:
        raise WeightsError(f"{folder / hub.CONFIG}: lacks {', '.join(missing)}: not a config of this zoo, or damaged")
    if len(config.get("log_prior") or config["classes"]) != len(config["classes"]):
        raise WeightsError(
            f"{folder / hub.CONFIG}: {len(config['classes'])} classes, but {len(config['log_prior'])} priors"
        )
    if name is not None and registry.model(name.partition(".")[0]).name != config["arch"]:
        raise UsageError(f"{folder} holds weights of {config['arch']}, not of {name}")
    for word, asked in (("wiring", wiring), ("size", size)):
        if asked is not None and asked != config[word]:
            raise UsageError(f"{folder} has {word} '{config[word]}', not '{asked}': drop {word}=")


def _source(name: str | Path) -> _Source | None:
    """Where the weights of a path or hub address lie; None for names of the registry."""
    if isinstance(name, str) and name.startswith(hub.SCHEME):
        return _Source(hub.fetch(name))
    path = Path(name)
    if isinstance(name, str) and name.partition(".")[0] in registry.MODELS:
        try:  # what is in the registry means that in every directory
            registry.resolve(name)
            return None
        except UnknownModelError:
            if not path.exists():
                return None
    if path.is_dir():
        return _Source(path)
    if path.is_file() or path.suffix in (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".pkl"):
        if path.suffix != ".safetensors" or not path.is_file():
            hub.read_weights(path, None)  # says what is wrong with it
        folder = hub.folder_of(path)
        if folder is None:
            raise WeightsError(f"{path}: no {hub.CONFIG} beside it, so nobody knows what network it is for")
        return _Source(folder, None if path == folder / hub.WEIGHTS else path)
    if "/" in str(name) or isinstance(name, Path):
        return _missing(path)
    return None


def _start(name: str) -> Path:
    """The folder or file that training starts from: a name of weights or of an encoder, a hub address, or a path."""
    if name.startswith(hub.SCHEME):
        return hub.fetch(name)
    if name in registry.encoders():
        return hub.locate(registry.encoders()[name])
    path = resolve_path(name)
    if name.partition(".")[0] in registry.MODELS:
        try:
            entry = registry.resolve(name)[1]
        except UnknownModelError:
            if not path.exists():
                raise
        else:
            if entry is None:
                raise WeightsError(f"{name} has no weights yet, so nothing can start from it")
            return hub.locate(entry)
    if not path.exists() and path.name in registry.weights():
        raise WeightsError(f"{path}: no such weights; a name works in every folder: init_from: {path.name}")
    return path


def _missing(path: Path) -> _Source:
    raise UnknownModelError(
        f"{path}: no such weights folder; give a folder written by training, or a name from `emozoo list`"
    )
