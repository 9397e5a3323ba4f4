"""Metrics with 95 % intervals, and paired differences of two networks on the same items.

Items of one person are not independent, so whole persons are drawn again, with replacement (cluster bootstrap; Field
and Welsh, J. R. Statist. Soc. B 69, 2007). An interval is the 2.5 and 97.5 percentile over 2,000 draws from a fixed
seed.

Every metric here is a function of sums over items (a confusion matrix, six moments for the concordance), so a draw is a
weighted sum over groups: the counts of a draw times the sums of each group.

Legend: N = items, G = groups, K = classes, R = draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emozoo.benchmark.report import METRICS
from emozoo.metrics import concordance_of, scores_of

DRAWS, SEED = 2000, 0
PERSON_ITEMS = 10  # scored items that each person must have where metrics are given by person
_CHUNK = 8_000_000  # drawn indices in memory at a time


@dataclass(frozen=True)
class Outcome:
    """The predictions of one network for the N scored items of a data set, beside the labels.

    ``confusion`` (N, 2) int: true and predicted class, or None; true -1 = not scored. ``moments`` (N, 2, 6): sums over
    the labelled clips of each item for valence and arousal (:func:`emozoo.metrics.concordance_sums`), or None.
    ``groups`` (N,) int: the person of each item. ``classes``: the K class names.
    """

    groups: np.ndarray
    classes: tuple[str, ...] = ()
    confusion: np.ndarray | None = None
    moments: np.ndarray | None = None

    def sums(self) -> dict[str, np.ndarray]:
        """Sums of each group: ``confusion`` (G, K, K), ``moments`` (G, 2, 6)."""
        found, k = {}, len(self.classes)
        number = np.unique(self.groups, return_inverse=True)[1]
        g = int(number.max()) + 1
        if self.confusion is not None:
            true, predicted = self.confusion.T
            scored = true >= 0
            cell = (number[scored] * k + true[scored]) * k + predicted[scored]
            found["confusion"] = np.bincount(cell, minlength=g * k * k).reshape(g, k, k).astype(np.float64)
        if self.moments is not None:
            found["moments"] = np.zeros((g, *self.moments.shape[1:]))
            np.add.at(found["moments"], number, self.moments)
        return found


def group_numbers(groups: Sequence[str | None], ids: Sequence[str]) -> np.ndarray:
    """Person of each item as a number (N,); an item whose person is unknown stands for itself."""
    names = [("person", g) if g is not None else ("item", i) for g, i in zip(groups, ids, strict=True)]
    table: dict[tuple[str, str], int] = {}
    return np.array([table.setdefault(n, len(table)) for n in names])


def metrics_of(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """WAR, UAR, F1 (fractions), CCC_V, CCC_A and their mean CCC (in [-1, 1]) of summed sums.

    ``confusion`` (..., K, K), ``moments`` (..., 2, 6). A class without a true item does not count in UAR and F1. The
    CCC of nothing is nan.
    """
    found: dict[str, np.ndarray] = {}
    if "confusion" in sums:
        found |= {k: np.asarray(v) for k, v in scores_of(sums["confusion"]).items()}
    if "moments" in sums:
        value = np.where(sums["moments"][..., 0] > 0, concordance_of(sums["moments"]), np.nan)
        found |= {"CCC_V": value[..., 0], "CCC_A": value[..., 1], "CCC": value.mean(-1)}
    return found


def resampled(sums: np.ndarray, *, draws: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """Sums (R, ...) of R draws of G groups with replacement from ``sums`` (G, ...).

    The groups of draw r depend on G and ``seed`` alone, so two calls for the same groups are paired.
    """
    groups = len(sums)
    flat = sums.reshape(groups, -1)
    rng = np.random.default_rng(seed)
    parts = []
    step = max(1, _CHUNK // groups)
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        index = rng.integers(groups, size=(rows, groups)) + groups * np.arange(rows)[:, None]
        counts = np.bincount(index.ravel(), minlength=rows * groups).reshape(rows, groups)
        parts.append(counts @ flat)
    return np.concatenate(parts).reshape(draws, *sums.shape[1:])


def evaluate(outcome: Outcome) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Metrics by name, and their 95 % intervals by name: an empty dict with fewer than two groups."""
    sums = outcome.sums()
    metrics = {k: float(v) for k, v in metrics_of({k: s.sum(0) for k, s in sums.items()}).items()}
    return metrics, _interval(metrics_of({k: resampled(s) for k, s in sums.items()})) if _groups(sums) > 1 else {}


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error in [0, 1] (Guo et al., ICML 2017).

    The distance between mean confidence and the fraction of correct predictions, averaged over equally wide bins of
    confidence, each weighted by its number of items. ``confidence``, ``right`` (n,).
    """
    bin_ = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(bin_, confidence - right, bins)
    return float(np.abs(gap).sum() / max(1, len(bin_)))


def difference(a: Outcome, b: Outcome) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Metrics of ``a`` minus those of ``b`` over the same items, with paired 95 % intervals (the same draws for both).

    Raises ValueError where the items differ.
    """
    value, draws = _drawn_difference(a, b)
    return value, _interval(draws)


def _drawn_difference(a: Outcome, b: Outcome) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Metrics of ``a`` minus those of ``b``, and the same of R draws; no draws with fewer than two groups."""
    if not np.array_equal(a.groups, b.groups):
        raise ValueError("a paired difference needs the same items in the same order")
    left, right = a.sums(), b.sums()
    shared = left.keys() & right.keys()

    def minus(x: Mapping[str, np.ndarray], y: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        mx, my = metrics_of(x), metrics_of(y)
        return {k: mx[k] - my[k] for k in mx}

    point = minus({k: left[k].sum(0) for k in shared}, {k: right[k].sum(0) for k in shared})
    value = {k: float(v) for k, v in point.items()}
    if _groups(left) < 2:
        return value, {}
    return value, minus({k: resampled(left[k]) for k in shared}, {k: resampled(right[k]) for k in shared})


@dataclass(frozen=True)
class Comparison:
    """How two networks differ on the same items.

    ``difference``, ``ci95``: of ``a`` minus ``b``, by metric. ``p``: twice the fraction of draws on the other side of
    zero (never below 2 / (R + 1)); persons are drawn, so it also holds where a person has several items. ``only_a``,
    ``only_b``: how many items one network alone predicts correctly. ``mcnemar_p``: the exact two-sided binomial
    probability of these two counts, which takes items as independent. The last three are None without classes.
    """

    difference: dict[str, float]
    ci95: dict[str, tuple[float, float]]
    p: dict[str, float]
    only_a: int | None
    only_b: int | None
    mcnemar_p: float | None


def compare(a: Outcome, b: Outcome) -> Comparison:
    """Paired significance (McNemar, Psychometrika 12, 1947; cluster bootstrap).

    Raises ValueError where the items differ.
    """
    value, draws = _drawn_difference(a, b)
    p = {}
    for name, values in draws.items():
        values = values[np.isfinite(values)]
        if values.size:
            below, above = int((values <= 0).sum()), int((values >= 0).sum())
            p[name] = min(1.0, 2 * (min(below, above) + 1) / (values.size + 1))
    if a.confusion is None or b.confusion is None:
        return Comparison(value, _interval(draws), p, None, None, None)
    scored = (a.confusion[:, 0] >= 0) & (b.confusion[:, 0] >= 0)
    right = [(x[:, 0] == x[:, 1])[scored] for x in (a.confusion, b.confusion)]
    only_a, only_b = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    return Comparison(value, _interval(draws), p, only_a, only_b, mcnemar(only_a, only_b))


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided probability of counts at least as uneven, if each network is equally often the only correct one.

    >>> mcnemar(5, 5), round(mcnemar(1, 9), 4)
    (1.0, 0.0215)
    """
    n = only_a + only_b
    tail = sum(math.comb(n, i) for i in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**n)


def pooled(outcomes: Sequence[Outcome]) -> Outcome:
    """Several folds as one outcome: all items together, persons of different folds taken as different.

    A task of which a fold had no labels is that of the others. Raises ValueError where classes differ.
    """
    classes = next((o.classes for o in outcomes if o.confusion is not None), outcomes[0].classes)
    if any(o.classes != classes for o in outcomes if o.confusion is not None):
        raise ValueError("folds scored on different classes cannot be pooled")
    shift = np.cumsum([0, *(int(o.groups.max()) + 1 for o in outcomes[:-1])])
    unscored = {"confusion": lambda n: np.full((n, 2), -1), "moments": lambda n: np.zeros((n, 2, 6))}
    whole: dict[str, np.ndarray | None] = {}
    for task, nothing in unscored.items():
        each = [getattr(o, task) for o in outcomes]
        made = [nothing(len(o.groups)) if x is None else x for o, x in zip(outcomes, each, strict=True)]
        whole[task] = None if all(x is None for x in each) else np.concatenate(made)
    groups = np.concatenate([o.groups + s for o, s in zip(outcomes, shift, strict=True)])
    return Outcome(groups, classes, **whole)


def mean(
    outcomes: Sequence[Outcome], disjoint: bool
) -> tuple[dict[str, float], dict[str, float], dict[str, tuple[float, float]]]:
    """Metrics averaged over parts, their deviation (n - 1), and 95 % intervals of the averages.

    People are drawn again inside each part; parts that share items (``disjoint`` false) have no interval. A metric that
    a part lacks is left out.
    """
    each = [metrics_of({k: s.sum(0) for k, s in o.sums().items()}) for o in outcomes]
    names = [k for k in METRICS if all(k in e and np.isfinite(e[k]) for e in each)]
    average = {k: float(np.mean([e[k] for e in each])) for k in names}
    deviation = {k: float(np.std([e[k] for e in each], ddof=1)) for k in names if len(each) > 1}
    if not disjoint or any(_groups(o.sums()) < 2 for o in outcomes):
        return average, deviation, {}
    drawn = [metrics_of({k: resampled(s, seed=SEED + i) for k, s in o.sums().items()}) for i, o in enumerate(outcomes)]
    return average, deviation, _interval({k: np.mean([d[k] for d in drawn], 0) for k in names})


def by_person(outcome: Outcome) -> dict[str, Any] | None:
    """Each metric of every person alone: ``mean``, ``min`` and ``max`` over people, by metric, and how many they are.

    ``n``: people. ``ci95``: of the mean, people drawn again. A person's UAR is over the classes that the person has.
    None for fewer than two people, and where one has less than :data:`PERSON_ITEMS` scored items.
    """
    sums = outcome.sums()
    scored = np.max([s[..., 0].sum(-1) if k == "moments" else s.sum((1, 2)) for k, s in sums.items()], 0)
    if _groups(sums) < 2 or scored.min() < PERSON_ITEMS:
        return None
    each = {k: v for k, v in metrics_of(sums).items() if np.isfinite(v).all()}
    drawn = {k: resampled(v[:, None])[:, 0] / len(v) for k, v in each.items()}
    values = {name: {k: float(f(v)) for k, v in each.items()} for name, f in _OVER_PEOPLE.items()}
    return {"n": len(scored), **values, "ci95": _interval(drawn)}


_OVER_PEOPLE: dict[str, Callable[[np.ndarray], Any]] = {"mean": np.mean, "min": np.min, "max": np.max}


def matrix(outcome: Outcome) -> list[list[int]] | None:
    """The confusion matrix of an outcome, true classes in rows; None without classes."""
    if outcome.confusion is None:
        return None
    return outcome.sums()["confusion"].sum(0).astype(int).tolist()


def per_class(outcome: Outcome) -> dict[str, dict[str, float | int | None]]:
    """For each class: ``recall``, ``precision``, ``f1`` (fractions; None = undefined) and ``n``, its true items."""
    if outcome.confusion is None:
        return {}
    matrix = outcome.sums()["confusion"].sum(0)
    hit, true, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)

    def ratio(a: float, b: float) -> float | None:
        return float(a / b) if b else None

    return {
        name: {
            "recall": ratio(hit[i], true[i]),
            "precision": ratio(hit[i], predicted[i]),
            "f1": ratio(2 * hit[i], true[i] + predicted[i]),
            "n": int(true[i]),
        }
        for i, name in enumerate(outcome.classes)
    }


def _groups(sums: Mapping[str, np.ndarray]) -> int:
    return max((len(s) for s in sums.values()), default=0)


def _interval(draws: Mapping[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    found = {}
    for name, values in draws.items():
        values = values[np.isfinite(values)]
        if values.size:
            low, high = np.percentile(values, (2.5, 97.5))
            found[name] = (float(low), float(high))
    return found
