"""The table of finished runs, and differences between variants with their 95 % intervals.

Legend: N = clips, S = seeds, G = groups of people.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from torch import Tensor

from emozoo import synthemo

from .clips import GROUPS
from .experiment import Metrics, PooledMetric

TABLE = Path("benchmarks/results/mechanisms.csv")
# ``groups``: the metric in each group of people, nan where it has no clip; ``version``: that of the drawn clips
COLUMNS = ("experiment", "variant", "seed", "metric", "value", "n", "groups", "version")
TOLERANCE = 0.05  # of a metric's mean over the seeds that are trained anew


def table_rows(experiment: str, seed: int, found: Mapping[str, Metrics], groups: np.ndarray) -> list[dict[str, Any]]:
    """The rows of a finished run; ``groups``: the group of people of each clip (N,)."""
    rows = []
    for variant, metrics in found.items():
        for metric, values in metrics.items():
            pooled = values if isinstance(values, PooledMetric) else mean_of_clips(values, groups)
            by_group = " ".join("nan" if math.isnan(v) else f"{v:.4f}" for v in pooled.groups)
            cells = (experiment, variant, seed, metric, f"{pooled.value:.5f}", pooled.n, by_group, synthemo.VERSION)
            rows.append(dict(zip(COLUMNS, cells, strict=True)))
    return rows


def mean_of_clips(values: Tensor, groups: np.ndarray) -> PooledMetric:
    """Mean over the clips that count, in all and in each group; ``values`` (N,), NaN = does not count."""
    v = values.double().numpy()
    counts = np.isfinite(v)

    def mean(rows: np.ndarray) -> float:
        return float(v[rows].mean()) if rows.any() else math.nan

    return PooledMetric(mean(counts), tuple(mean(counts & (groups == g)) for g in range(GROUPS)), int(counts.sum()))


def read_table(path: Path = TABLE) -> pd.DataFrame:
    """The finished runs; empty where there is no table yet."""
    return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=list(COLUMNS))


def append_rows(rows: Sequence[Mapping[str, Any]], path: Path = TABLE) -> None:
    """Adds a finished run's rows in one write."""
    new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)
        f.flush()
        os.fsync(f.fileno())


def changed_metrics(fresh: pd.DataFrame, committed: pd.DataFrame) -> list[str]:
    """Metrics whose mean over the fresh seeds differs from the committed one by more than the tolerance."""
    keys = ["experiment", "variant", "metric"]
    old = committed[committed.seed.isin(fresh.seed.unique())].groupby(keys).value.mean()
    changed = []
    for key, value in fresh.groupby(keys).value.mean().items():
        if key not in old.index:
            changed.append(f"{', '.join(key)}: not in {TABLE}")
        elif abs(value - old[key]) > TOLERANCE * max(1.0, abs(old[key])):
            changed.append(f"{', '.join(key)}: {value:.3f}, committed {old[key]:.3f}")
    return changed


# -- differences -------------------------------------------------------------------------------------------------------


class Interval(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def random_effects_interval(values: np.ndarray) -> Interval:
    """The mean of values (S, G) and its 95 % interval, when both seeds and groups of people are samples.

    Two-way random effects without repetition: the variance of the mean is (MS_seeds + MS_groups - MS_rest) / (S G),
    never less than its largest part, with Satterthwaite's degrees of freedom. An interval over seeds alone would not
    hold for other clips.
    """
    s, g = values.shape
    mean = float(values.mean())
    rows, columns = values.mean(1, keepdims=True), values.mean(0, keepdims=True)
    ms_s = g * float(((rows - mean) ** 2).sum()) / (s - 1)
    ms_g = s * float(((columns - mean) ** 2).sum()) / (g - 1)
    ms_e = float(((values - rows - columns + mean) ** 2).sum()) / ((s - 1) * (g - 1))
    total = max(ms_s + ms_g - ms_e, ms_s, ms_g)
    if total <= 0:
        return Interval(mean, mean, mean)
    freedom = total**2 / (ms_s**2 / (s - 1) + ms_g**2 / (g - 1) + ms_e**2 / ((s - 1) * (g - 1)))
    half = float(stats.t.ppf(0.975, max(1.0, freedom))) * math.sqrt(total / (s * g))
    return Interval(mean, mean - half, mean + half)


def values_by_group(table: pd.DataFrame, experiment: str, variant: str, metric: str) -> pd.DataFrame:
    """Values of one metric, seeds in rows, groups of people in columns."""
    rows = table[(table.experiment == experiment) & (table.variant == variant) & (table.metric == metric)]
    return pd.DataFrame([[float(v) for v in g.split()] for g in rows.groups], index=rows.seed.tolist()).sort_index()


def paired_difference(
    table: pd.DataFrame, experiment: str, more: tuple[str, str], less: tuple[str, str]
) -> Interval | None:
    """The metric of one variant minus that of another over the seeds that both have; None without two seeds.

    ``more``, ``less``: variant and metric.
    """
    a, b = values_by_group(table, experiment, *more), values_by_group(table, experiment, *less)
    seeds = [s for s in a.index if s in b.index] if len(a) and len(b) else []
    if len(seeds) < 2:
        return None
    difference = (a.loc[seeds] - b.loc[seeds]).to_numpy()
    return random_effects_interval(difference[:, np.isfinite(difference).all(0)])
