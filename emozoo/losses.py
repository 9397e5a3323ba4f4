"""Losses: cross-entropy with flooding and logit adjustment, and one minus the concordance correlation.

Legend: B = batch, K = classes, N = numbers scored together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.nn import functional as F

from emozoo.errors import UsageError


class LossSettings(TypedDict, total=False):
    """What is minimized in training; each is 0 by default, ``va_weight`` 1.

    Args:
        tau: factor on the log class prior of training that is added to the logits in the loss (logit adjustment).
        smoothing: label smoothing, the fraction of a label that is spread over all classes.
        flood: level below which the loss is not lowered, see :func:`cross_entropy`.
        va_weight: weight of the concordance loss of valence and arousal beside the cross-entropy.
    """

    tau: float
    smoothing: float
    flood: float
    va_weight: float


def loss_settings(given: Mapping[str, float] | LossSettings | None) -> dict[str, float]:
    """All of :class:`LossSettings`, the given ones and the defaults.

    Raises UsageError for unknown names, and for a ``tau`` that is not from 0 to 10: weights with it are not loaded.
    """
    defaults = {"tau": 0.0, "smoothing": 0.0, "flood": 0.0, "va_weight": 1.0}
    found: dict[str, Any] = {**defaults, **(given or {})}
    if unknown := sorted(found.keys() - defaults.keys()):
        raise UsageError(f"loss has no {', '.join(unknown)}; it takes {', '.join(defaults)}")
    if not 0 <= found["tau"] <= 10:
        raise UsageError(f"loss: tau is {found['tau']}: give a factor from 0 (no adjustment) to 10")
    return found


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    log_prior: Tensor | None = None,
    smoothing: float = 0.0,
    flood: float = 0.0,
    total: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Mean cross-entropy over the batch, a scalar.

    ``target``: class numbers (B,) or soft votes (B, K) that sum to 1. ``log_prior`` (K,) is added to the logits before
    the softmax, so that what the network learns is free of the class prior (Menon et al., Long-tail learning via logit
    adjustment, ICLR 2021). ``flood`` > 0: ``|loss - flood| + flood`` on the mini-batch mean (Ishida et al., Do we need
    zero training loss, ICML 2020). CAHFW-Net (Eq. 27) prints ``loss + flood``, which would change no gradient.
    ``total`` sums a number over all processes: the mean that floods is then that of their batches together.
    """
    if log_prior is not None:
        logits = logits + log_prior
    if target.ndim == 1 and not (target >= 0).any():  # no item of the batch has a label: nothing to learn, no NaN
        return logits.float().sum() * 0.0
    loss = F.cross_entropy(logits.float(), target, label_smoothing=smoothing)
    if flood > 0.0:
        if total is not None:
            loss = total(loss) / total(torch.ones_like(loss))
        loss = (loss - flood).abs() + flood
    return loss


def distillation(logits: Tensor, teacher: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence from the teacher's probabilities (B, K) to the network's, a scalar.

    Rows of ``teacher`` that are not finite have no teacher and do not count; none at all gives 0.
    """
    have = torch.isfinite(teacher).all(dim=1)
    target = torch.where(have[:, None], teacher, torch.ones_like(teacher))
    target = target / target.sum(1, keepdim=True).clamp_min(1e-12)
    each = F.kl_div(logits.float().log_softmax(1), target.float(), reduction="none").sum(1)
    return (each * have).sum() / have.sum().clamp_min(1)


def inverse_temperature(logits: Tensor, labels: Tensor, steps: int = 201) -> float:
    """The factor on logits (N, K), from 0.1 to 10, under which labels are likeliest (Guo et al., ICML 2017).

    ``labels`` (N,): class numbers, -1 = no label; at least one must be a class. The factor is the best of ``steps``
    factors with a constant ratio; with 201, each is 2.3 % larger than the one before.
    """
    factors = torch.logspace(-1, 1, steps, dtype=logits.dtype)
    losses = torch.stack([F.cross_entropy(f * logits, labels, ignore_index=-1) for f in factors])
    return float(factors[int(losses.argmin())])


def concordance(
    x: Tensor, y: Tensor, mask: Tensor | None = None, total: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Lin's concordance correlation coefficient of two tensors taken as flat lists, in [-1, 1], a scalar.

    Population form, ``2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2)``, with no square root, so that a constant input has a
    finite gradient. ``mask`` picks the numbers that count. Two equal constants (0/0) give 0, as does an empty mask.
    ``total`` adds tensors up over all processes; the coefficient is then that of all their numbers together.
    """
    total = total or (lambda sums: sums)
    x, y = x.reshape(-1), y.reshape(-1)
    x, y = (x, y) if x.dtype == torch.float64 else (x.float(), y.float())
    w = torch.ones_like(x) if mask is None else mask.reshape(-1).to(x.dtype)
    # where, not multiplication: what is masked may be NaN.
    x, y = torch.where(w > 0, x, 0.0), torch.where(w > 0, y.to(x.dtype), 0.0)
    n, sum_x, sum_y = total(torch.stack([w.sum(), (w * x).sum(), (w * y).sum()])).unbind()
    n = n.clamp_min(1.0)
    mean_x, mean_y = sum_x / n, sum_y / n
    dx, dy = x - mean_x, y - mean_y
    covariance, spread_x, spread_y = (
        total(torch.stack([(w * a * b).sum() for a, b in ((dx, dy), (dx, dx), (dy, dy))])) / n
    )
    return 2.0 * covariance / (spread_x + spread_y + (mean_x - mean_y) ** 2 + 1e-12)


def concordance_loss(
    predicted: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    total: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """``(1 - CCC_V) + (1 - CCC_A)`` for tensors (..., 2); ``mask`` (...) is true where labelled, ``total`` as above."""
    parts = [1.0 - concordance(predicted[..., i], target[..., i], mask, total) for i in (0, 1)]
    return parts[0] + parts[1]
