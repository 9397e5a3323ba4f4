"""What an experiment is: its runs, the metrics that they give, and the claims that its page checks.

Legend: N = clips, K = classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .clips import TaskClips


class PooledMetric(NamedTuple):
    """A metric over all clips together, its value for each group of people, and how many clips it is about."""

    value: float
    groups: tuple[float, ...]
    n: int


# metric -> a number per clip (N,), whose mean is reported and NaN = does not count; or a metric of all clips together
Metrics = dict[str, Tensor | PooledMetric]
# The variants of the head that one training gives, and the training: variant -> metrics.
Run = tuple[tuple[str, ...], Callable[[], Mapping[str, Metrics]]]


class Claim(NamedTuple):
    """A claim that one variant and metric, ``more``, is larger than another, ``less``."""

    text: str
    more: tuple[str, str]
    less: tuple[str, str]


def claims_against(text: str, variant: str, metric: str, others: Mapping[str, str]) -> list[Claim]:
    """Claims that one variant has a larger metric than each of ``others``: variants, with their names in the text."""
    return [Claim(text.format(name), (variant, metric), (other, metric)) for other, name in others.items()]


@dataclass(frozen=True)
class Experiment:
    """One question about the mechanism of a paper.

    ``arch``: the architecture whose encoders are shared. ``runs``: the runs of one seed, which decides the start and
    the order of all variants alike, so that their differences are paired. ``title``, ``about``, ``tried``: text of the
    page.
    """

    name: str
    arch: str
    runs: Callable[[TaskClips, int], Iterator[Run]]
    claims: tuple[Claim, ...]
    title: str
    about: str
    tried: str = ""


# -- metrics of predictions --------------------------------------------------------------------------------------------


def is_correct(logits: Tensor, labels: Tensor) -> Tensor:
    """1 where the largest logit (N, K) is that of the true class (N,), else 0."""
    return (logits.argmax(1) == labels).float()


def only_where(counts: Tensor, values: Tensor) -> Tensor:
    """The values (N,) with NaN where a clip does not count."""
    return torch.where(counts, values.float(), torch.nan)


def accuracy_by_view(correct: Tensor, first: Tensor, second: Tensor, names: tuple[str, str]) -> Metrics:
    """Accuracy where both views show the label, and where only one of them does.

    ``correct``, and ``first`` and ``second`` (whether that view shows the label): (N,).
    """
    return {
        "accuracy, both right": only_where(first & second, correct),
        f"accuracy, only the {names[0]} right": only_where(first & ~second, correct),
        f"accuracy, only the {names[1]} right": only_where(~first & second, correct),
    }
