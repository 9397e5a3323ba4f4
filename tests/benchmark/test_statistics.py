"""Metrics, intervals and paired differences: golden values, known distributions, and what a draw is made of."""

import json
from pathlib import Path

import numpy as np
import pytest

from emozoo.benchmark.statistics import (
    Outcome,
    calibration_error,
    difference,
    evaluate,
    group_numbers,
    per_class,
    pooled,
    resampled,
)
from emozoo.metrics import concordance_sums


def outcome(true: np.ndarray, predicted: np.ndarray, k: int, groups: np.ndarray | None = None) -> Outcome:
    groups = np.arange(len(true)) if groups is None else groups
    return Outcome(groups, tuple(f"c{i}" for i in range(k)), np.stack([true, predicted], 1))


def of_matrix(matrix: list[list[int]]) -> Outcome:
    cells = np.array(matrix)
    true, predicted = np.nonzero(cells)
    repeat = cells[true, predicted]
    return outcome(np.repeat(true, repeat), np.repeat(predicted, repeat), len(cells))


def test_calibration_error() -> None:
    """Protects ECE: nothing where confidence is the share of right answers, the gap where it is not, by hand."""
    confidence = np.array([0.6] * 5 + [0.9] * 10)
    honest = np.array([1, 1, 1, 0, 0] + [1] * 9 + [0])
    assert calibration_error(confidence, honest) == pytest.approx(0)
    assert calibration_error(confidence, np.ones(15)) == pytest.approx((5 * 0.4 + 10 * 0.1) / 15)
    assert calibration_error(np.ones(3), np.zeros(3)) == 1


def test_golden_confusions(golden_values: Path) -> None:
    """Protects WAR, UAR, F1 and the values per class against exact rational arithmetic, absent classes included."""
    table = json.loads((golden_values / "war_uar.json").read_text())
    for case in table["cases"]:
        o = of_matrix(case["confusion"])
        metrics, _ = evaluate(o)
        assert metrics["WAR"] == pytest.approx(case["war"], abs=1e-12)
        assert metrics["UAR"] == pytest.approx(case["uar_present_classes"], abs=1e-12)
        assert metrics["F1"] == pytest.approx(case["macro_f1_present_classes"], abs=1e-12)
        said = list(per_class(o).values())
        assert [c["n"] for c in said] == case["support"]
        for mine, theirs in (("recall", "recall"), ("precision", "precision"), ("f1", "f1")):
            for c, value in zip(said, case[theirs], strict=True):
                assert c[mine] is None if value is None else c[mine] == pytest.approx(value, abs=1e-12)


def test_golden_concordance(golden_values: Path) -> None:
    """Protects the pooled CCC (population form) against exact rational arithmetic."""
    for case in json.loads((golden_values / "ccc.json").read_text())["cases"]:
        p, t = np.array(case["prediction"]), np.array(case["label"])
        if case["ccc_population"] is None:
            continue  # 0/0: the convention is the metric's own
        one = concordance_sums(p, t)
        halves = concordance_sums(p[:2], t[:2]) + concordance_sums(p[2:], t[2:])
        for sums in (one, halves):
            metrics, _ = evaluate(Outcome(np.zeros(1, int), moments=np.stack([sums, sums])[None]))
            assert metrics["CCC_V"] == pytest.approx(case["ccc_population"], abs=1e-9)


def test_interval_covers() -> None:
    """Protects the width of intervals: for independent items, that of the binomial distribution."""
    r = np.random.default_rng(0)
    true = r.integers(0, 2, 1000)
    right = r.random(1000) < 0.8
    metrics, interval = evaluate(outcome(true, np.where(right, true, 1 - true), 2))
    sd = np.sqrt(metrics["WAR"] * (1 - metrics["WAR"]) / 1000)
    low, high = interval["WAR"]
    assert low < metrics["WAR"] < high
    assert (high - low) / (2 * 1.96 * sd) == pytest.approx(1, abs=0.08)


def test_people_widen_the_interval() -> None:
    """Protects the bootstrap by person: 20 people, each wholly right or wrong, say less than 1,000 single items."""
    r = np.random.default_rng(1)
    person = np.repeat(np.arange(20), 50)
    true = np.tile([0, 1], 500)
    right = (r.random(20) < 0.7)[person]
    predicted = np.where(right, true, 1 - true)
    _, alone = evaluate(outcome(true, predicted, 2))
    _, grouped = evaluate(outcome(true, predicted, 2, person))
    width = {k: v["WAR"][1] - v["WAR"][0] for k, v in (("alone", alone), ("grouped", grouped))}
    assert width["grouped"] > 5 * width["alone"]


def test_same_seed_same_interval() -> None:
    """Protects reproduction: an interval does not change from run to run, whatever the chunks of draws."""
    sums = np.random.default_rng(2).random((9, 3))
    np.testing.assert_array_equal(resampled(sums), resampled(sums))
    draws = resampled(sums, draws=50)
    assert draws.shape == (50, 3)
    np.testing.assert_allclose(resampled(np.ones((9, 1))), 9, err_msg="every draw has as many groups as there are")


def test_paired_difference_is_narrower() -> None:
    """Protects pairing: two networks that fail on the same items differ by little, and the interval says so."""
    r = np.random.default_rng(3)
    true = r.integers(0, 4, 600)
    hard = r.random(600) < 0.4
    a = np.where(hard, (true + 1) % 4, true)
    b = a.copy()
    b[np.flatnonzero(~hard)[:30]] = (true[np.flatnonzero(~hard)[:30]] + 1) % 4
    value, interval = difference(outcome(true, a, 4), outcome(true, b, 4))
    assert value["WAR"] == pytest.approx(0.05)
    low, high = interval["WAR"]
    assert 0 < low < 0.05 < high < 0.09
    nothing, flat = difference(outcome(true, a, 4), outcome(true, a, 4))
    assert nothing["UAR"] == 0
    assert flat["UAR"] == (0, 0)


def test_difference_needs_the_same_items() -> None:
    """Protects against a paired interval over different clips."""
    a = outcome(np.array([0, 1]), np.array([0, 1]), 2)
    b = outcome(np.array([0, 1, 1]), np.array([0, 1, 1]), 2)
    with pytest.raises(ValueError, match="same items"):
        difference(a, b)


def test_unscored_items_count_nowhere() -> None:
    """Protects ties among votes: an item without a label changes no metric."""
    a = outcome(np.array([0, 1, 1, -1]), np.array([0, 1, 0, 1]), 2)
    b = outcome(np.array([0, 1, 1]), np.array([0, 1, 0]), 2)
    assert evaluate(a)[0] == evaluate(b)[0]


def test_folds_are_pooled() -> None:
    """Protects pooling: matrices are added before any ratio, and persons of two folds stay apart."""
    a = outcome(np.array([0, 1, 1]), np.array([0, 1, 0]), 2, np.array([0, 0, 1]))
    b = outcome(np.array([0, 0]), np.array([0, 0]), 2, np.array([0, 1]))
    both = pooled([a, b])
    assert evaluate(both)[0]["UAR"] == pytest.approx((3 / 3 + 1 / 2) / 2)
    assert len(np.unique(both.groups)) == 4


def test_one_person_has_no_interval() -> None:
    """Protects against an interval of width zero where nothing can be drawn."""
    o = outcome(np.array([0, 1]), np.array([0, 1]), 2, np.zeros(2, int))
    assert evaluate(o)[1] == {}


def test_unknown_people_stand_alone() -> None:
    """Protects groups: a named person is one group, an unnamed item its own, even under the same text."""
    assert group_numbers(["p", None, "p", None], ["a", "p", "b", "c"]).tolist() == [0, 1, 0, 2]
