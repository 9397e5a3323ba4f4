"""Losses and metrics against their reference tables, and against what breaks them in practice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from emozoo.losses import concordance, concordance_loss, cross_entropy, distillation
from emozoo.metrics import Confusion, PooledConcordance, concordance_of, concordance_sums


def test_concordance_equals_the_reference_table(golden_values: Path) -> None:
    """The loss is the population CCC of the table, gradients included; metric and intervals of the same table, and of
    WAR, UAR and F1: ``benchmark/test_statistics.py``. What is 0/0 counts 0."""
    table = json.loads((golden_values / "ccc.json").read_text())
    for case in table["cases"]:
        x = torch.tensor(case["prediction"], dtype=torch.float64, requires_grad=True)
        y = torch.tensor(case["label"], dtype=torch.float64)
        value = concordance(x, y)
        expected = case["ccc_population"]
        if expected is None:
            expected = 0.0
            sums = concordance_sums(np.array(case["prediction"]), np.array(case["label"]))
            assert concordance_of(sums) == 0, case["name"]
        assert value.item() == pytest.approx(expected, abs=1e-9), case["name"]
        (1 - value).backward()
        assert x.grad is not None
        assert torch.isfinite(x.grad).all(), case["name"]
        gradient = case["gradient_of_1_minus_ccc_population"]
        if gradient is not None and None not in gradient:
            assert torch.allclose(x.grad, torch.tensor(gradient, dtype=torch.float64), atol=1e-7), case["name"]


def test_metrics_of_parts_add_up_to_the_whole() -> None:
    """Batches, processes and folds may cut the data anywhere without moving the result."""
    g = torch.Generator().manual_seed(0)
    scores, y = torch.randn(50, 4, generator=g), torch.randint(0, 4, (50,), generator=g)
    whole, parts = Confusion(4), Confusion(4)
    whole.update(scores, y)
    for i in range(0, 50, 7):
        parts.update(scores[i : i + 7], y[i : i + 7])
    assert whole.compute() == parts.compute()
    x, t = torch.randn(6, 5, 2, generator=g), torch.randn(6, 5, 2, generator=g)
    mask = torch.rand(6, 5, generator=g) > 0.3
    one, many = PooledConcordance(), PooledConcordance()
    one.update(x, t, mask)
    for i in range(6):
        many.update(x[i : i + 1], t[i : i + 1], mask[i : i + 1])
    assert one.compute()["CCC_V"] == pytest.approx(many.compute()["CCC_V"], abs=1e-12)
    assert one.compute()["CCC_V"] == pytest.approx(concordance(x[..., 0], t[..., 0], mask).item(), abs=1e-5)


def test_unlabelled_frames_change_nothing() -> None:
    """What is masked may hold anything, NaN too."""
    x, y = torch.randn(2, 8, 2), torch.randn(2, 8, 2)
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[0, 3:] = False
    before = concordance_loss(x, y, mask)
    y[0, 3:] = float("nan")
    assert torch.equal(before, concordance_loss(x, y, mask))


def test_flooding_keeps_the_loss_above_its_level() -> None:
    """Below the level the gradient turns round (Ishida et al.)."""
    logits = torch.tensor([[9.0, 0.0]], requires_grad=True)
    target = torch.tensor([0])
    flooded = cross_entropy(logits, target, flood=0.05)
    assert flooded.item() >= 0.05
    flooded.backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] > 0


def test_images_without_a_teacher_do_not_count() -> None:
    """A batch may mix images that the teacher saw with others, or have none at all."""
    logits = torch.randn(3, 4)
    teacher = torch.softmax(torch.randn(3, 4), 1)
    teacher[1] = float("nan")
    kept = distillation(logits[[0, 2]], teacher[[0, 2]])
    assert torch.allclose(distillation(logits, teacher), kept)
    assert distillation(logits, torch.full((3, 4), float("nan"))).item() == 0.0


def test_processes_add_their_sums_up(tmp_path: Path) -> None:
    """ddp: two processes, one of which saw no item, both say the concordance of all frames."""
    job = [sys.executable, str(Path(__file__).with_name("metrics_job.py"))]
    both = [
        subprocess.Popen([*job, str(rank), str(tmp_path / "meet")], stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    told = [json.loads(process.communicate(timeout=240)[0]) for process in both]
    g = torch.Generator().manual_seed(0)
    x, t = torch.randn(6, 5, 2, generator=g), torch.randn(6, 5, 2, generator=g)
    alone = PooledConcordance()
    alone.update(x, t, torch.ones(6, 5, dtype=torch.bool))
    assert told == [alone.compute()] * 2
