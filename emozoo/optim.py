"""Optimizers by timm's names, and the learning rate over a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Required, TypedDict

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from emozoo.errors import UsageError


class OptimizerSettings(TypedDict, total=False):
    """How parameters are updated.

    Args:
        name: ``adamw``, ``adam`` (decay added to the gradient), ``sgd`` (momentum 0.9, Nesterov) or ``momentum`` (the
            same without Nesterov); implementations as :func:`timm.optim.create_optimizer_v2` chooses them.
        weight_decay: weight decay of matrices and convolution kernels, by default 0.05.
        decay_all: also decays biases and normalization parameters, as plain optimizers of papers do.
    """

    name: Required[str]
    weight_decay: float
    decay_all: bool


class ScheduleSettings(TypedDict, total=False):
    """How the learning rate changes during training, see :func:`lr_factor`.

    Args:
        name: ``cosine``, ``epoch_cosine``, ``epoch_step`` or ``constant``.
        warmup: fraction of the training over which the rate rises, by default 0.05.
        period: epochs of a half cosine or of a step, by default all epochs.
        gamma: factor of each step of ``epoch_step``, by default 0.1.
    """

    name: Required[str]
    warmup: float
    period: float | None
    gamma: float


ADAMW: OptimizerSettings = {"name": "adamw"}
COSINE: ScheduleSettings = {"name": "cosine"}
OPTIMIZERS = ("adamw", "adam", "sgd", "momentum")
SCHEDULES = ("cosine", "epoch_cosine", "epoch_step", "constant")


def named_settings(word: str, given: Any, names: tuple[str, ...], settings: type) -> dict[str, Any]:
    """Settings with a ``name``, from a name alone or a mapping. Raises UsageError for unknown names and keys."""
    known = tuple(settings.__annotations__)
    found = {"name": given} if isinstance(given, str) else dict(given)
    if "name" not in found:
        raise UsageError(f"{word} needs a name beside {', '.join(found)}: {word}: {{name: {names[0]}, ...}}")
    if found["name"] not in names:
        raise UsageError(f"{word} must be one of {', '.join(names)}, got '{found['name']}'")
    if unknown := found.keys() - set(known):
        raise UsageError(f"{word} has no {', '.join(sorted(unknown))}; it takes {', '.join(known)}")
    return found


def create_optimizer(
    net: nn.Module, settings: Mapping[str, Any], lr: float, lr_scale: Mapping[str, float] | None
) -> Optimizer:
    """The optimizer of a network's trainable parameters.

    ``settings`` as in :class:`OptimizerSettings`; ``lr_scale`` maps parts of the network to factors on ``lr``.
    """
    from timm.optim import create_optimizer_v2  # slow to import, and of use in training alone

    decay_all, weight_decay = settings.get("decay_all", False), settings.get("weight_decay", 0.05)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, p in net.named_parameters():
        if p.requires_grad:
            factor = next((f for part, f in (lr_scale or {}).items() if name.startswith(f"{part}.")), 1.0)
            groups.setdefault((factor, p.ndim > 1 or decay_all), []).append(p)
    parameters: Any = [
        {"params": ps, "lr": lr * factor, "weight_decay": weight_decay if decays else 0.0}
        for (factor, decays), ps in groups.items()
    ]
    return create_optimizer_v2(parameters, opt=settings["name"], lr=lr, weight_decay=weight_decay, momentum=0.9)


def create_schedule(optimizer: Optimizer, settings: Mapping[str, Any], *, steps: int, epochs: int) -> dict[str, Any]:
    """Lightning's ``lr_scheduler`` entry for a training of ``steps`` optimizer steps in ``epochs`` epochs.

    ``settings`` as in :class:`ScheduleSettings`. The rate changes at every step for ``cosine``, else at every epoch.
    """
    name, warmup, gamma = settings["name"], settings.get("warmup", 0.05), settings.get("gamma", 0.1)
    per_step = name == "cosine"
    total = steps if per_step else epochs
    rise = max(1, int(warmup * steps)) if per_step else round(warmup * epochs)
    period = settings.get("period") or epochs
    schedule = LambdaLR(optimizer, lambda at: lr_factor(name, at, total, warmup=rise, period=period, gamma=gamma))
    return {"scheduler": schedule, "interval": "step" if per_step else "epoch"}


# timm's schedulers give other rates than released weights were trained with: their warm-up rises from a fixed first
# rate (ours is (step + 1) / warmup of the peak), their cosine rounds pi * t / T (ours pi * (t / T)), and none has a
# warm-up multiplied with a cosine that runs from the first epoch.
def lr_factor(
    schedule: str, at: int, total: float, *, warmup: float = 0.0, period: float = 1.0, gamma: float = 0.1
) -> float:
    """The factor on the peak learning rate at step or epoch ``at`` of ``total``, in [0, 1].

    ``cosine`` counts steps: the factor rises over ``warmup`` steps and falls over the rest in half a cosine, to 0. The
    others count epochs and start with a rise of ``(at + 1) / warmup``, multiplied with: for ``epoch_cosine`` half a
    cosine of ``period`` epochs (one longer than the training ends above 0), for ``epoch_step`` a power of ``gamma``
    that grows every ``period`` epochs, for ``constant`` 1.
    """
    rise = min(1.0, (at + 1) / warmup) if warmup else 1.0
    if schedule == "cosine":
        if at < warmup:
            return rise
        done = min(1.0, (at - warmup) / max(1.0, total - warmup))
        return 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "epoch_cosine":
        return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, at / period)))
    if schedule == "epoch_step":
        return rise * gamma ** int(at // period)
    return rise
