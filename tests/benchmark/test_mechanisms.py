"""The mechanism experiments: every run fills the table, a killed one goes on, the page says what the numbers say."""

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mechanisms import caer, ceflnet, dfan, heads, joint, train
from mechanisms.clips import Clips, TaskClips, bursts_and_decoys
from mechanisms.page import PAGE, page
from mechanisms.table import TABLE, changed_metrics, random_effects_interval, read_table
from mechanisms.train import EXPERIMENTS

from emozoo.benchmark.suite import TASKS
from emozoo.synthemo import EMOTIONS, course, plan

ROOT = Path(__file__).resolve().parents[2]
SHAPES = {  # features of one draw, as the lite networks encode drawn clips
    "caer_cross_attention": {"face": (3, 1, 128, 4, 4), "context": (3, 1, 128, 4, 4)},
    "ceflnet": {"face": (30, 1, 256)},
    "dfan": {"action": (6, 128, 3, 3), "object": (6, 128, 8, 8), "scene": (6, 128, 8, 8)},
    "recursive_joint_attention": {"face": (8, 128), "audio": (8, 128)},
}
FRAMES = {"action": (6, 4), "audio": (8, 1)}


def clips_of(arch, split, count):
    """Random features of clips whose causes are those of the task."""
    g = torch.Generator().manual_seed(count)
    causes = [plan(7, i, TASKS[arch], split=split) for i in range(count)]
    features = {k: torch.rand(count, 2, *s, generator=g).half() for k, s in SHAPES[arch].items()}
    lead = {k: FRAMES.get(k, s[:2] if len(s) in (3, 5) else (s[0], 1)) for k, s in SHAPES[arch].items()}
    masks = {k: torch.ones(count, 2, *s, dtype=torch.bool) for k, s in lead.items()}
    targets = {"emotion": torch.tensor([EMOTIONS.index(c.label) for c in causes])}
    if arch == "recursive_joint_attention":
        for mask in masks.values():
            mask[:, :, :2] = False
        targets["va"] = torch.rand(count, 2, 8, 2, generator=g) - 0.5
        targets["va_mask"] = masks["audio"][..., 0]
    if arch == "dfan":
        targets["frames_action"] = (torch.arange(24).view(6, 4) * 5 // 4).expand(count, 2, 6, 4)
        targets["motion"] = torch.rand(count, 2, 6, 24, 24, generator=g)
    return Clips(causes, features, masks, targets)


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_every_run_of_an_experiment_reaches_the_table_and_the_page(monkeypatch, tmp_path, name):
    """Protects the experiments from a claim on the page whose variant or metric no run writes."""
    for paper in (caer, ceflnet, dfan, joint):
        monkeypatch.setattr(paper, "STEPS", 4)
    monkeypatch.setattr(heads, "BATCH", 4)
    experiment = EXPERIMENTS[name]
    parts = ("train", 35), ("val", 28), ("test", 28)
    clips = TaskClips(*(clips_of(experiment.arch, split, count) for split, count in parts))
    monkeypatch.setattr(train, "load_clips", lambda *_: clips)
    table = tmp_path / "table.csv"
    train.train_missing([name], [1], table, 1)
    rows = read_table(table)
    written = set(zip(rows.variant, rows.metric, strict=True))
    asked = {pair for claim in experiment.claims for pair in (claim.more, claim.less)}
    assert not asked - written
    assert rows.groupby(["variant", "metric"]).size().eq(1).all()

    before = table.read_text()
    train.train_missing([name], [1], table, 1)
    assert table.read_text() == before  # nothing is trained twice

    again = pd.concat([rows, rows.assign(seed=2)])
    assert experiment.title in page(again, EXPERIMENTS.values())
    assert changed_metrics(rows, rows) == []


@pytest.mark.parametrize("paper", [caer, ceflnet, dfan, joint])
def test_a_paper_stands_alone(paper):
    """Protects one paper, one file: it imports what papers share, never another paper, the page or the command."""
    tree = ast.parse(Path(paper.__file__).read_text(encoding="utf-8"))
    own = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level}
    assert own <= {"clips", "experiment", "heads"}


def test_the_interval_knows_people_as_well_as_seeds():
    """Protects the 95 % interval: many seeds on the same few people must not make a difference look certain."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        table = rng.normal(0, 0.02, (10, 1)) + rng.normal(0, 0.1, (1, 10)) + rng.normal(0, 0.05, (10, 10))
        low, high = random_effects_interval(table)[1:]
        hits += low <= 0 <= high
    assert 0.92 <= hits / 400 <= 1.0
    constant = random_effects_interval(np.full((10, 10), 0.25))
    assert constant == (0.25, 0.25, 0.25)


def test_bursts_and_decoys_are_where_the_drawing_has_them():
    """Protects the truth that saliency is judged by: the burst is found by its strength, decoys by their movement."""
    frames = torch.arange(30).unsqueeze(1)
    found = 0
    for index in range(12):
        cause = plan(3, index, TASKS["ceflnet"])
        burst, decoy = bursts_and_decoys(cause, frames)
        times = course(cause).times
        inside = torch.from_numpy((times > cause.burst_start) & (times < cause.burst_end))
        assert burst.any()
        assert not (burst & ~inside).any()
        assert not (burst & decoy).any()
        found += int(decoy.any())
        calm = replace(cause, knobs=replace(cause.knobs, decoys=0))
        assert not bursts_and_decoys(calm, frames)[1].any()
    assert found >= 6


def test_a_region_covers_its_share_of_the_grid():
    """Protects densities: even attention has density 1 on any region, all attention on it has more."""
    causes = [plan(3, i, TASKS["dfan"]) for i in range(5)]
    box = dfan.region_cover(causes, "cause", (8, 8))
    assert ((box >= 0) & (box <= 1)).all()
    assert torch.allclose(dfan.attention_density(torch.full((5, 8, 8), 1 / 64), box), torch.ones(5), atol=1e-5)
    sharp = box / box.sum((1, 2), keepdim=True)
    assert (dfan.attention_density(sharp, box) > 4).all()


def test_the_skeptics_mlp_has_the_budget_of_the_full_head():
    """Protects the parameter-matched control from being smaller than what it is compared with."""
    full = heads.trainable_parameters(heads.lite_network("caer_cross_attention"))
    mlp = heads.trainable_parameters(caer.simple_head("mlp", len(EMOTIONS)))
    assert abs(mlp / full - 1) < 0.01


def test_a_difference_beyond_the_tolerance_fails_the_quick_check():
    """Protects `--quick`: it must notice a number that no longer comes out."""
    columns = {"experiment": "caer", "variant": "full", "metric": "accuracy", "n": 210, "groups": "0.5"}
    committed = pd.DataFrame([columns | {"seed": s, "value": 0.7} for s in (1, 2, 3)])
    near, far = (committed[committed.seed < 3].assign(value=v) for v in (0.72, 0.8))
    assert changed_metrics(near, committed) == []
    assert len(changed_metrics(far, committed)) == 1
    assert len(changed_metrics(far.assign(variant="new"), committed)) == 1


def test_the_committed_page_is_that_of_the_committed_table(monkeypatch):
    """Protects docs/mechanisms.md from numbers that are not in benchmarks/results/mechanisms.csv."""
    monkeypatch.chdir(ROOT)
    assert TABLE.is_file()
    assert PAGE.read_text(encoding="utf-8") == page(read_table(), EXPERIMENTS.values())
