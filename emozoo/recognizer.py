"""Recognizer: a network with the weights, classes and scaling that turn its output into predictions.

Legend: B = batch, C = clips, K = classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Self, overload

import torch
from torch import Tensor, nn

from emozoo import hub, labels, losses, registry, weights
from emozoo.batch import Batch, check_inputs, mirrored
from emozoo.errors import UsageError, WeightsError
from emozoo.losses import LossSettings
from emozoo.models.network import Network, Output


def _mean(a: Output, b: Output) -> Output:
    """The mean of two predictions; the attention is that of the first."""
    logits, va = (None if x is None or y is None else (x + y) / 2 for x, y in zip(a[:2], b[:2], strict=True))
    return Output(logits, va, a.attention)


class Recognizer(nn.Module):
    """Any of the networks, ready to predict: all that a prediction needs, and nothing that training alone needs.

    :class:`emozoo.EmotionModule` is a Recognizer that Lightning can train. It predicts with the methods of this class,
    so both give the same numbers; without Lightning, the first prediction comes seconds earlier.

    Args:
        model, wiring, size, classes, options, spec, flips: as for :class:`emozoo.EmotionModule`.
        loss: what the network was or is trained to minimize, as :class:`emozoo.losses.LossSettings`; :meth:`scores`
            needs its ``tau``.

    Attributes:
        arch, wiring, size: of the network.
        classes: class names in order.
        spec: what the network takes.
        net: the network.
        name: full name of the weights, or what they were made from.
        sha256: of the weights' file; empty for an untrained network and after training.
        config: the ``config.json`` beside the weights; empty where there is none.
        prior: the class prior of predictions where none is asked for, ``train`` or ``uniform``, as the weights name it.
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
        loss: LossSettings | None = None,
        flips: bool = False,
    ) -> None:
        super().__init__()
        self.loss_settings = losses.loss_settings(loss)
        wiring, size = registry.wiring_and_size(model, wiring, size)
        entry = registry.model(model)
        self.arch, self.wiring, self.size = model, wiring, size
        self.classes: tuple[str, ...] = tuple(classes if classes is not None else entry.classes)
        if fault := labels.class_fault(self.classes):
            raise UsageError(f"these cannot be the classes of a network: {fault}; rename it in the data")
        self.options: dict[str, Any] = options or {}
        self.spec = registry.clip_spec(model, size, spec)
        self.flips = flips
        self.net: Network = registry.build_network(model, wiring, size, self.classes, self.options)
        if not isinstance(self.net, Network):
            raise UsageError(f"{entry.network} is no emozoo.models.network.Network, which every network must be")
        # The name and hash of the weights; an untrained network has neither.
        self.name, self.sha256 = f"{model} (untrained)", ""
        self.config: Mapping[str, Any] = {}
        self.prior = "train"
        self._origin: weights.Source | None = None  # where weights were loaded from
        self.register_buffer("log_prior", torch.zeros(max(1, len(self.classes))))
        self.register_buffer("temperature", torch.ones(()))

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.log_prior.device

    @property
    def tasks(self) -> tuple[str, ...]:
        """``emotion``, ``va`` or both, as the network's heads predict them."""
        has_va = bool(getattr(self.net, "va", False))
        return (("emotion",) if self.classes else ()) + (("va",) if has_va else ())

    # -- weights ---------------------------------------------------------------------------------------------------

    @classmethod
    def from_weights(cls, found: weights.Found, classes: Sequence[str] | None = None) -> Self:
        """The network of weights that were read, in eval mode.

        ``classes``: where the weights know all of them, in any order and spelling, the class head has their rows. Else
        it is new and untrained, and a warning says so.
        """
        config = found.config
        module = cls(
            config["arch"],
            config["wiring"],
            config["size"],
            list(classes or config["classes"]),
            config.get("options"),
            config["spec"],
            loss={"tau": float(config.get("tau", 0.0))},
            flips=bool(config.get("flips", False)),
        )
        stored = list(config["classes"])
        renamed = classes is not None and tuple(classes) != tuple(stored)
        rows = weights.rows_by_name(module.classes, stored) if renamed else None
        state = module._with_rows(found.state, rows, len(stored)) if rows else None
        new_head = renamed and state is None
        module.load_weights(state or found.state, new_head=new_head, where=str(found.file))
        module.name, module.sha256, module.config = found.name, config["sha256"], config
        module._origin = found.source
        if new_head:
            warnings.warn(
                f"{module.name}: new head for {len(module.classes)} classes, untrained until you fit it", stacklevel=3
            )
            module.name += " (new head)"
        else:
            prior = torch.tensor(config.get("log_prior") or [0.0] * len(stored or ("",)))
            module.log_prior.copy_(prior if rows is None else prior[rows].log_softmax(-1))
            module.temperature.fill_(float(config.get("temperature", 1.0)))
            module.prior = str(config.get("prior", "train"))
            if renamed:
                module.name += f" ({', '.join(module.classes)})"
        if not found.known:
            warnings.warn(
                f"{found.file}: not the weights that the {hub.CONFIG} beside it describes: class prior and "
                "temperature, data and licence are not known",
                stacklevel=3,
            )
        return module.eval()

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

    def _with_rows(self, state: Mapping[str, Tensor], rows: list[int], count: int) -> dict[str, Tensor] | None:
        """A state dict of ``count`` classes with these rows of the class head alone; None where a head has no rows."""
        own, head = self.net.state_dict(), self.head_keys()
        chosen = {k: state[k][rows] for k in head if k in state and len(state[k]) == count}
        return {**state, **chosen} if all(k in chosen and chosen[k].shape == own[k].shape for k in head) else None

    def head_keys(self) -> set[str]:
        """Names of the parameters that belong to the classes: those whose shape changes with their number."""
        with torch.device("meta"):
            more = registry.build_network(self.arch, self.wiring, self.size, (*self.classes, ""), self.options)
        own = self.net.state_dict()
        return {k for k, v in more.state_dict().items() if k not in own or own[k].shape != v.shape}

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

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
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
        return self.flips and not self.training

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
