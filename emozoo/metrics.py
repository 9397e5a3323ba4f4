"""Metrics: WAR, UAR and macro-F1 from one confusion matrix; concordance pooled over everything scored.

WAR (weighted average recall) is accuracy; UAR is the mean recall over classes that occur.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassConfusionMatrix


def scores_of(confusion: np.ndarray) -> dict[str, float]:
    """WAR, UAR and macro-F1 as fractions, from a confusion matrix (..., K, K) with true classes in rows.

    UAR and F1 average over classes with at least one true sample, so a class that is absent neither helps nor harms.
    With leading dimensions (bootstrap draws) each value is an array of that shape.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    hit = np.diagonal(confusion, axis1=-2, axis2=-1)
    true, predicted = confusion.sum(-1), confusion.sum(-2)
    present = true > 0
    count = present.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = np.where(present, hit / true, 0.0)
        f1 = np.where(present, 2.0 * hit / (true + predicted), 0.0)
        out = {
            "WAR": hit.sum(-1) / true.sum(-1),
            "UAR": recall.sum(-1) / count,
            "F1": f1.sum(-1) / count,
        }
    return {k: float(v) if np.ndim(v) == 0 else v for k, v in out.items()}


def concordance_of(sums: np.ndarray) -> np.ndarray:
    """CCC (population form) from the sums (..., 6) of n, x, y, x^2, y^2, xy; 0 where both sides are constant."""
    n, x, y, xx, yy, xy = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    n = np.maximum(n, 1.0)
    mx, my = x / n, y / n
    spread = xx / n - mx**2 + yy / n - my**2 + (mx - my) ** 2
    return np.where(spread > 1e-12, 2.0 * (xy / n - mx * my) / np.maximum(spread, 1e-12), 0.0)


def concordance_sums(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The six sums (6,) that :func:`concordance_of` needs; sums of parts add up."""
    p, t = np.asarray(predicted, np.float64).ravel(), np.asarray(target, np.float64).ravel()
    return np.array([p.size, p.sum(), t.sum(), (p * p).sum(), (t * t).sum(), (p * t).sum()])


class Confusion(Metric):
    """WAR, UAR and F1 over all processes, from torchmetrics' confusion matrix.

    ``compute`` gives fractions; nothing where no process counted anything.
    """

    full_state_update = False

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.matrix = MulticlassConfusionMatrix(num_classes)

    def update(self, scores: Tensor, target: Tensor) -> None:
        """``scores`` (B, K), any monotone scores; ``target`` (B,) class numbers, negative ones do not count."""
        known = target >= 0
        if known.any():
            self.matrix.update(scores[known].argmax(1), target[known])

    def compute(self) -> Mapping[str, float]:
        counted = self.matrix.compute().cpu().numpy()
        return scores_of(counted) if counted.any() else {}

    def reset(self) -> None:
        super().reset()
        self.matrix.reset()


def _gathered(x: Tensor, group: Any = None) -> list[Tensor]:
    """``x`` of every process, in the order of ranks; NCCL itself gathers nothing that lies on a CPU."""
    everyone: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(everyone, x, group)
    return everyone


class PooledConcordance(Metric):
    """CCC_V and CCC_A over every labelled clip of every video together, in [-1, 1], exact across processes.

    ``compute`` gives nothing where no process counted anything. The sums are float64 and stay on the CPU wherever the
    metric is moved: float32 loses the digits that a concordance needs, and some devices (mps) have no float64.
    """

    full_state_update = False
    sums: Tensor

    def __init__(self) -> None:
        super().__init__(dist_sync_fn=_gathered)
        self.add_state("sums", torch.zeros(2, 6, dtype=torch.float64), dist_reduce_fx="sum")

    def _apply(self, fn: Callable[[Tensor], Tensor], *_: Any, **__: Any) -> PooledConcordance:
        return self

    def update(self, predicted: Tensor, target: Tensor, mask: Tensor) -> None:
        """``predicted``, ``target`` (B, C, 2); ``mask`` (B, C), true where labelled."""
        predicted, target = predicted[mask].detach().cpu().double(), target[mask].cpu().double()
        sums = [concordance_sums(predicted[:, i].numpy(), target[:, i].numpy()) for i in (0, 1)]
        self.sums = self.sums + torch.from_numpy(np.stack(sums))

    def compute(self) -> Mapping[str, float]:
        if not self.sums[0, 0]:
            return {}
        v, a = concordance_of(self.sums.cpu().numpy())
        return {"CCC_V": float(v), "CCC_A": float(a), "CCC": float(v + a) / 2}


class EvaluationMetrics:
    """Loss, WAR, UAR, F1 and concordances of one evaluation, over all processes.

    No part of a module, so that it is neither stored nor moved with it.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        with torch.inference_mode(False):  # the states outlive the inference-mode step that creates them
            self.confusion = Confusion(num_classes).to(device) if num_classes else None
            self.pooled, self.loss = PooledConcordance(), MeanMetric().to(device)

    def update(
        self, scores: Tensor | None, va: Tensor | None, targets: Mapping[str, Tensor], loss: Tensor, size: int
    ) -> None:
        """Counts a batch: class ``scores`` (B, K), ``va`` (B, C, 2), its targets, and its mean loss.

        ``size``: clips in the batch, which weigh the loss where there are no class labels.
        """
        y = targets.get("emotion")
        labelled = size if y is None else int((y.sum(1) > 0 if y.ndim == 2 else y >= 0).sum())
        self.loss.update(loss, labelled)  # Lightning's own mean gives every process the same weight
        if scores is not None and y is not None and self.confusion is not None:
            self.confusion.update(scores, y.argmax(1) if y.ndim == 2 else y)
        if va is not None and "va" in targets:
            self.pooled.update(va, targets["va"], targets["va_mask"])

    def compute(self) -> dict[str, float]:
        """The metrics of the tasks that were counted. Every process has to call it, also one without any item."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics warns about a metric that its task never updated
            return {**(self.confusion.compute() if self.confusion is not None else {}), **self.pooled.compute()}
