"""How numbers of a benchmark are written, in the terminal, in reports and in the tables of pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

DASH = "–"  # not measured
METRIC_NAMES = {
    "WAR": "WAR, %", "UAR": "UAR, %", "F1": "macro-F1, %", "CCC_V": "CCC valence", "CCC_A": "CCC arousal",
    "CCC": "CCC mean",
}  # fmt: skip
PRIORS = {"train": "as in training", "uniform": "removed"}  # the class prior that scores are given under

NOTES = (
    "WAR is accuracy, UAR the mean recall over classes, F1 its macro average; CCC is the concordance correlation over "
    "all labelled moments of all items together. Intervals are 95 %, from 2,000 bootstrap draws of whole persons; an "
    "item whose person is unknown is drawn by itself. Class prior: scores with the prior of the training labels, or "
    "with that prior removed; on unbalanced data these are two operating points of one network. A difference is model "
    "minus control, paired on the same items."
)


def number(metric: str, value: float | None, sign: str = "") -> str:
    """A metric as reports print it: percent with one decimal, CCC with two decimals; a dash for None.

    ``sign``: "+" also prints the sign of positive numbers.
    """
    if value is None:
        return DASH
    return f"{value:{sign}.2f}" if metric.startswith("CCC") else f"{100 * value:{sign}.1f}"


def fraction(value: float | str | None, sign: str = "") -> str:
    """A number with three decimals, as the tables of pages print it; a dash for None and an empty cell."""
    return DASH if value is None or value == "" else f"{float(value):{sign}.3f}"


def joined(ends: Sequence[Any] | None, form: Callable[[Any], str]) -> str:
    """``0.88 to 0.91``: the two ends of an interval; empty where there is none."""
    return " to ".join(map(form, ends)) if ends else ""


def with_interval(value: Any, ends: Sequence[Any] | None, form: Callable[[Any], str]) -> str:
    """``0.90 (0.88 to 0.91)``: a value and its 95 % interval, each written by ``form``."""
    return form(value) + (f" ({joined(ends, form)})" if ends else "")


def probability(p: float) -> str:
    """``= 0.023``, or ``< 0.001`` for what cannot be resolved."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], none: str = "") -> str:
    """A Markdown table, or the line ``none`` where there are no rows. Names in it end no cell and are no HTML."""
    header, *lines = [[_in_cell(cell) for cell in row] for row in (header, *rows)]
    if not lines:
        return none
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *lines])


def _in_cell(text: str) -> str:
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", " ".join(text.split())).replace("|", "\\|")


def comparison_lines(comparison: Mapping[str, Any]) -> list[str]:
    """A comparison of two models in words: who was compared, then a line for each difference."""
    c = comparison
    text = [f"{c['a']} against {c['b']}, {c['n']} items of {c['n_groups']} persons or single items, prior {c['prior']}"]
    if c["mcnemar_p"] is not None:
        text.append(
            f"right alone: {c['a']} {c['only_a']}, {c['b']} {c['only_b']}; McNemar p {probability(c['mcnemar_p'])}"
        )
    for metric, value in c["difference"].items():
        if value is None:
            continue
        change = with_interval(value, c["ci95"].get(metric), partial(number, metric, sign="+"))
        p = f", bootstrap p {probability(c['p'][metric])}" if c["p"].get(metric) is not None else ""
        text.append(f"{metric} {change}{p}")
    return text
