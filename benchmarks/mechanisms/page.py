"""The page: each experiment's table, and whether its claims hold."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from emozoo.benchmark.formatting import markdown_table

from .experiment import Claim, Experiment
from .table import Interval, paired_difference

PAGE = Path("docs/mechanisms.md")
HEAD = """# What the mechanisms can do

Capability on drawn data, not evidence for the papers' numbers: the clips are SynthEmo's, the networks small (`lite`).

Each table asks whether a network *can* do what its paper claims, against controls that a skeptic would choose. All
variants of an architecture share frozen encoders, which were trained on plain drawn clips. Only heads are trained, all
with the same clips, order, settings and number of steps. They are tested on clips of people that appear in no training.

Numbers are means over seeds, ± their standard deviation. Differences are paired by seed and clip. Their 95 % interval
treats both seeds and groups of people as samples (two-way random effects, Satterthwaite's degrees of freedom), so it
holds for other drawn clips too. *Holds*: the interval lies above zero; *does not hold*: below zero; *undecided*: it
contains zero. Many claims are tested: of claims without any effect, about one in forty would hold by chance. In a
difference every group of people has the same weight, so it may differ in the third digit from the difference of the two
means.

Written by `python -m benchmarks.mechanisms --page` from `benchmarks/results/mechanisms.csv`; `--quick` trains two seeds
anew and compares.
"""


def page(table: pd.DataFrame, experiments: Iterable[Experiment]) -> str:
    """The text of docs/mechanisms.md."""
    lines = [HEAD]
    for experiment in experiments:
        rows = table[table.experiment == experiment.name]
        if rows.empty:
            continue
        lines += [f"## {experiment.title}", ""]
        lines += [*textwrap.wrap(experiment.about, 120, break_on_hyphens=False), ""]
        drawn = " and ".join(map(str, sorted(rows.version.unique())))
        lines += [f"{rows.seed.nunique()} seeds, {int(rows.n.max())} test clips, drawn by version {drawn} of SynthEmo."]
        lines += ["", table_of_means(rows), ""]
        lines += [line for claim in experiment.claims if (line := claim_line(rows, experiment.name, claim))]
        lines += ["", *(textwrap.wrap(experiment.tried, 120) + [""] if experiment.tried else [])]
    return "\n".join(lines).rstrip() + "\n"


def table_of_means(rows: pd.DataFrame) -> str:
    """Metrics in rows, variants in columns, in the order of the table: mean over seeds ± standard deviation."""
    metrics, variants = list(dict.fromkeys(rows.metric)), list(dict.fromkeys(rows.variant))
    grouped = rows.groupby(["variant", "metric"]).value
    mean, spread = grouped.mean(), grouped.std()
    cells = ([f"{mean[v, m]:.3f} ± {spread[v, m]:.3f}" if (v, m) in mean else "" for v in variants] for m in metrics)
    return markdown_table(["", *variants], ([m, *row] for m, row in zip(metrics, cells, strict=True)))


def claim_line(rows: pd.DataFrame, experiment: str, claim: Claim) -> str:
    """A claim, whether it holds, and its numbers; empty with fewer than two seeds."""
    delta = paired_difference(rows, experiment, claim.more, claim.less)
    if delta is None:
        return ""
    a, b = (rows[(rows.variant == v) & (rows.metric == m)].value.mean() for v, m in (claim.more, claim.less))
    numbers = f"{a:.3f} against {b:.3f}; {delta.mean:+.3f}, {delta.low:+.3f} to {delta.high:+.3f}"
    return f"- {claim.text}: **{verdict(delta)}** ({numbers})."


def verdict(difference: Interval) -> str:
    """Whether the claim that the difference is positive holds, by its interval."""
    return "holds" if difference.low > 0 else "does not hold" if difference.high < 0 else "undecided"
