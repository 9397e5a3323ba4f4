"""The mechanism experiments: every run fills the table, a killed one goes on, the page says what the numbers say."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from emozoo.benchmark.suite import TASKS
from emozoo.synthemo import course, plan

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SHAPES = {  # features of one draw, as the lite networks encode drawn clips
    "caer_cross_attention": {"face": (3, 1, 128, 4, 4), "context": (3, 1, 128, 4, 4)},
    "ceflnet": {"face": (30, 1, 256)},
    "dfan": {"action": (6, 128, 3, 3), "object": (6, 128, 8, 8), "scene": (6, 128, 8, 8)},
    "recursive_joint_attention": {"face": (8, 128), "audio": (8, 128)},
}
FRAMES = {"action": (6, 4), "audio": (8, 1)}


@pytest.fixture(scope="module")
def mechanisms():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import mechanisms
    finally:
        sys.path.remove(str(BENCHMARKS))
    return mechanisms


def clips_of(mechanisms, arch, split, count):
    """Random features of clips whose causes are those of the task."""
    g = torch.Generator().manual_seed(count)
    causes = [plan(7, i, TASKS[arch], split=split) for i in range(count)]
    features = {k: torch.rand(count, 2, *s, generator=g).half() for k, s in SHAPES[arch].items()}
    lead = {k: FRAMES.get(k, s[:2] if len(s) in (3, 5) else (s[0], 1)) for k, s in SHAPES[arch].items()}
    masks = {k: torch.ones(count, 2, *s, dtype=torch.bool) for k, s in lead.items()}
    targets = {"emotion": torch.tensor([mechanisms.EMOTIONS.index(c.label) for c in causes])}
    if arch == "recursive_joint_attention":
        for mask in masks.values():
            mask[:, :, :2] = False
        targets["va"] = torch.rand(count, 2, 8, 2, generator=g) - 0.5
        targets["va_mask"] = masks["audio"][..., 0]
    if arch == "dfan":
        targets["frames_action"] = (torch.arange(24).view(6, 4) * 5 // 4).expand(count, 2, 6, 4)
        targets["motion"] = torch.rand(count, 2, 6, 24, 24, generator=g)
    return mechanisms.Clips(causes, features, masks, targets)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("caer", marks=pytest.mark.slow),
        pytest.param("caer_agreement", marks=pytest.mark.slow),
        "ceflnet",
        "dfan",
        "recursive_joint_attention",
    ],
)
def test_every_run_of_an_experiment_reaches_the_table_and_the_page(mechanisms, monkeypatch, tmp_path, name):
    """Protects the experiments from a claim on the page whose variant or metric no run writes."""
    monkeypatch.setattr(mechanisms, "STEPS", 2)
    monkeypatch.setattr(mechanisms, "BATCH", 4)
    arch = mechanisms.EXPERIMENTS[name][0]
    parts = ("train", 35), ("val", 28), ("test", 28)
    data = mechanisms.Data(*(clips_of(mechanisms, arch, split, count) for split, count in parts))
    monkeypatch.setattr(mechanisms, "load", lambda *_: data)
    table = tmp_path / "table.csv"
    mechanisms.train([name], [1], table, 1)
    rows = mechanisms.read(table)
    written = set(zip(rows.variant, rows.metric, strict=True))
    asked = {pair for claim in mechanisms.findings()[name] for pair in (claim.more, claim.less)}
    assert not asked - written
    assert rows.groupby(["variant", "metric"]).size().eq(1).all()

    before = table.read_text()
    mechanisms.train([name], [1], table, 1)
    assert table.read_text() == before  # nothing is trained twice

    again = pd.concat([rows, rows.assign(seed=2)])
    assert mechanisms.ABOUT[name][0] in mechanisms.page(again)
    assert mechanisms.compare(rows, rows) == []


def test_the_interval_knows_people_as_well_as_seeds(mechanisms):
    """Protects the 95 % interval: many seeds on the same few people must not make a difference look certain."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        table = rng.normal(0, 0.02, (10, 1)) + rng.normal(0, 0.1, (1, 10)) + rng.normal(0, 0.05, (10, 10))
        low, high = mechanisms.interval(table)[1:]
        hits += low <= 0 <= high
    assert 0.92 <= hits / 400 <= 1.0
    constant = mechanisms.interval(np.full((10, 10), 0.25))
    assert constant == (0.25, 0.25, 0.25)


def test_bursts_and_decoys_are_where_the_drawing_has_them(mechanisms):
    """Protects the truth that saliency is judged by: the burst is found by its strength, decoys by their movement."""
    frames = torch.arange(30).unsqueeze(1)
    found = 0
    for index in range(12):
        cause = plan(3, index, TASKS["ceflnet"])
        burst, decoy = mechanisms.bursts(cause, frames)
        times = course(cause).times
        inside = torch.from_numpy((times > cause.burst_start) & (times < cause.burst_end))
        assert burst.any()
        assert not (burst & ~inside).any()
        assert not (burst & decoy).any()
        found += int(decoy.any())
        calm = replace(cause, knobs=replace(cause.knobs, decoys=0))
        assert not mechanisms.bursts(calm, frames)[1].any()
    assert found >= 6


def test_a_region_covers_its_share_of_the_grid(mechanisms):
    """Protects densities: even attention has density 1 on any region, all attention on it has more."""
    causes = [plan(3, i, TASKS["dfan"]) for i in range(5)]
    box = mechanisms.boxes(causes, "cause", (8, 8))
    assert ((box >= 0) & (box <= 1)).all()
    assert torch.allclose(mechanisms.density(torch.full((5, 8, 8), 1 / 64), box), torch.ones(5), atol=1e-5)
    sharp = box / box.sum((1, 2), keepdim=True)
    assert (mechanisms.density(sharp, box) > 4).all()


def test_the_sceptics_mlp_has_the_budget_of_the_full_head(mechanisms):
    """Protects the parameter-matched control from being smaller than what it is compared with."""
    full = mechanisms.parameters(mechanisms.network("caer_cross_attention"))
    mlp = mechanisms.parameters(mechanisms.sceptic("mlp", len(mechanisms.EMOTIONS)))
    assert abs(mlp / full - 1) < 0.01


def test_a_difference_beyond_the_tolerance_fails_the_quick_check(mechanisms):
    """Protects `--quick`: it must notice a number that no longer comes out."""
    columns = {"experiment": "caer", "variant": "full", "metric": "accuracy", "n": 210, "groups": "0.5"}
    committed = pd.DataFrame([columns | {"seed": s, "value": 0.7} for s in (1, 2, 3)])
    near, far = (committed[committed.seed < 3].assign(value=v) for v in (0.72, 0.8))
    assert mechanisms.compare(near, committed) == []
    assert len(mechanisms.compare(far, committed)) == 1
    assert len(mechanisms.compare(far.assign(variant="new"), committed)) == 1


def test_the_committed_page_is_that_of_the_committed_table(mechanisms, monkeypatch):
    """Protects docs/mechanisms.md from numbers that are not in benchmarks/results/mechanisms.csv."""
    monkeypatch.chdir(BENCHMARKS.parent)
    if not mechanisms.TABLE.is_file():
        pytest.skip("no results yet: python benchmarks/mechanisms.py")
    assert mechanisms.PAGE.read_text(encoding="utf-8") == mechanisms.page(mechanisms.read())
