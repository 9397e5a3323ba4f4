"""Can each network do what its paper says? Its head against controls that a sceptic would choose, on drawn clips.

    python benchmarks/mechanisms.py [--only EXPERIMENT ...] [--seeds N]     trains what is not in the table yet
    python benchmarks/mechanisms.py --quick                                 trains two seeds anew and compares
    python benchmarks/mechanisms.py --page                                  writes docs/mechanisms.md from the table

All variants of an architecture share its frozen encoders, which learned on plain clips; what they give for every clip
is computed once and kept below ``EMOZOO_HOME``. A run trains one head on the clips of training people and asks it about
clips of people that nothing was trained on. Seed s decides the start and the order of all variants alike, so that their
differences are paired. Finished runs are appended to ``benchmarks/results/mechanisms.csv``: a killed run goes on.

Legend: N = clips, D = augmented draws of a clip, B = batch, C = clips of a network, F = frames, K = classes,
S = seeds, G = groups of people.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import math
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import pandas as pd
import torch
import yaml
from scipy import stats
from synthemo_weights import CLIPS, SEED
from torch import Tensor, nn
from torch.nn import functional as fn

from emozoo import files, synthemo
from emozoo.benchmark import suite
from emozoo.data.datamodule import EmotionDataModule, FeatureDataset
from emozoo.data.manifest import Row
from emozoo.losses import concordance, concordance_loss, cross_entropy
from emozoo.models.layers import Output, masked_max, masked_softmax
from emozoo.module import EmotionModule, build_network
from emozoo.synthemo import EMOTIONS, Cause

TABLE = Path("benchmarks/results/mechanisms.csv")
PAGE = Path("docs/mechanisms.md")
SEEDS, QUICK, GROUPS = 10, (1, 2), 10
TOLERANCE = 0.05  # of a metric's mean over the two seeds that --quick trains anew
STEPS, BATCH, LR, DECAY, SMOOTHING = 150, 64, 3e-3, 0.05, 0.05
CAER_STEPS = 75  # enough here, and the full head's steps take long
JOINT_STEPS = 200  # joint attention and its LSTMs take longer

# Of the recipe's training clips the share that is used, and how many augmented draws of each.
TRAINING = {
    "recursive_joint_attention": (1.0, 4),
    "ceflnet": (0.6, 1),
    "dfan": (1.0, 4),
    "caer_cross_attention": (1.0, 4),
}

Features = dict[str, Tensor]
Per = dict[str, Any]  # metric -> a number per clip (N,), NaN = does not count; or a Pooled
Unit = tuple[tuple[str, ...], Callable[[], Mapping[str, Per]]]


# -- clips -------------------------------------------------------------------------------------------------------------


@dataclass
class Clips:
    """What the frozen encoders make of N clips, and why the clips are as they are.

    ``features`` and ``masks`` by stream (N, D, ...); ``targets``: ``emotion`` (N,), ``va`` (N, D, C, 2), ``va_mask``
    (N, D, C); for test clips ``frames_<stream>`` (N, D, C, F), indices into the file, and ``motion`` (N, D, C, 24, 24).
    """

    causes: list[Cause]
    features: Features
    masks: Features
    targets: Features

    def __len__(self) -> int:
        return len(self.causes)

    def take(self, rows: Tensor, draws: Tensor) -> tuple[Features, Features]:
        """Features and masks of one draw of each of some rows."""
        pick = lambda part: {k: x[rows, draws] for k, x in part.items()}  # noqa: E731
        return {k: x.float() for k, x in pick(self.features).items()}, pick(self.masks)

    def shows(self, view: int) -> Tensor:
        """The emotion that a view (0 face, 1 scene, 2 voice, 3 action) shows, as a class number (N,)."""
        return torch.tensor([EMOTIONS.index(c.shows[view]) for c in self.causes])

    def only(self, keep: Tensor) -> Clips:
        """The clips whose row is True."""
        cut = lambda part: {k: x[keep] for k, x in part.items()}  # noqa: E731
        causes = [c for c, k in zip(self.causes, keep.tolist(), strict=True) if k]
        return Clips(causes, cut(self.features), cut(self.masks), cut(self.targets))

    @property
    def groups(self) -> np.ndarray:
        """The clips' groups of people (N,), 0 to 9; each holds four of the forty test people."""
        return np.array([c.person // 10 % GROUPS for c in self.causes])


class Data(NamedTuple):
    """Clips that heads learn from, clips of other people that temperatures are fitted on, and the test clips."""

    train: Clips
    held: Clips
    test: Clips


def load(arch: str, workers: int) -> Data:
    """The clips of an architecture's task through its frozen encoders: what was kept, or made anew."""
    recipe = yaml.safe_load(Path(f"benchmarks/recipes/{arch}__synthemo.yaml").read_text(encoding="utf-8"))
    if not Path(recipe["model"]["init_from"]).is_dir():
        recipe["model"]["init_from"] = f"{arch}.synth_v1"  # the same encoders, in half precision
    module = EmotionModule(**recipe["model"]).eval()
    knobs, (share, draws) = suite.TASKS[arch], TRAINING[arch]
    key = hashlib.sha256(repr((synthemo.VERSION, knobs, CLIPS, SEED, suite.CLIPS, suite.SEED, share, draws)).encode())
    net: Any = module.net
    for name, value in net.state_dict().items():
        if name.partition(".")[0] in net.encoding:
            key.update(name.encode() + value.numpy().tobytes())
    stored = [
        files.cache_folder() / "features" / f"mechanisms_{key.hexdigest()[:24]}_{part}.pt" for part in ("train", "test")
    ]
    spec = module.spec
    if arch == "ceflnet":  # every frame alone, so that clips can be cut anywhere
        face = replace(spec.streams["face"], frames=1)
        spec = replace(spec, streams={"face": face}, clips=30, sampling="segments")
    if not stored[0].is_file():
        root = suite.prepare(arch, clips=CLIPS, seed=SEED, split="train", out=runs(arch), workers=workers)
        settings = recipe["data"] | {"root": root, "num_workers": workers, "features": draws, "subset": share}
        data = EmotionDataModule(**settings, spec=spec, classes=module.classes)
        data.setup("fit")
        data.trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        data.trainer.strategy.connect(module)
        kept = data.train_dataloader().dataset
        assert isinstance(kept, FeatureDataset)
        save(stored[0], kept, data.train_rows)
    if not stored[1].is_file():
        data = EmotionDataModule(
            "synthemo", suite.prepare(arch, workers=workers), spec=spec, classes=module.classes, split="test"
        )
        data.setup("test")
        save(stored[1], encode(module.eval(), data.test_dataloader()), data.test_rows)
    learned = gather(stored[0], partial(synthemo.plan, SEED, knobs=knobs, split="train"))
    held = torch.tensor([c.person % 10 == 0 for c in learned.causes])
    test = gather(stored[1], partial(synthemo.plan, suite.SEED, knobs=knobs, split="test"))
    return Data(learned.only(~held), learned.only(held), test)


def runs(arch: str) -> Path:
    """Where the clips of the training people lie."""
    return Path("runs/synthemo") / arch


@torch.no_grad()
def encode(module: EmotionModule, batches: Any) -> FeatureDataset:
    """Test clips through the frozen encoders, with the frames that were looked at and how much moves in them."""
    kept = FeatureDataset()
    for batch in batches:
        batch.targets |= {f"frames_{k}": x for k, x in batch.meta["frames"].items()}
        if "action" in batch.inputs:
            moves = batch.inputs["action"].diff(dim=2).abs().mean((2, 3))  # (B, C, H, W)
            batch.targets["motion"] = fn.adaptive_avg_pool2d(moves, 24)
        kept.add(module.encode(batch), batch)
    return kept


def save(file: Path, kept: FeatureDataset, rows: Sequence[Row]) -> None:
    """Writes the features as whole tensors, with the numbers that their clips were drawn by."""
    features, masks, targets = (
        {k: torch.stack([torch.stack([draw[i][k] for draw in kept.draws[r]]) for r in kept.rows]) for k in one}
        for i, one in enumerate(kept.draws[kept.rows[0]][0])
    )
    targets["emotion"] = targets["emotion"][:, 0]  # the same in every draw
    numbers = [int(Path(rows[r].path).stem) for r in kept.rows]
    buffer = io.BytesIO()
    torch.save({"numbers": numbers, "features": features, "masks": masks, "targets": targets}, buffer)
    file.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(file, buffer.getvalue())


def gather(file: Path, plan: Callable[..., Cause]) -> Clips:
    """What :func:`save` wrote, with the cause of each clip."""
    kept = torch.load(file, weights_only=True)
    causes = [plan(number) for number in kept.pop("numbers")]
    return Clips(causes, **kept)


# -- heads and training ------------------------------------------------------------------------------------------------


def network(arch: str, classes: Sequence[str] = EMOTIONS, **options: Any) -> nn.Module:
    """An architecture at size lite; its encoders are there but not used: features come from the shared ones."""
    net: Any = build_network(arch, "stable", "lite", classes, options)
    for part in net.encoding:
        net.get_submodule(part).requires_grad_(False)
    return net


def parameters(net: nn.Module) -> int:
    """How many parameters learn."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


class OnPooled(nn.Module):
    """A sceptic's head: maps (B, C, F, W, h, w) of the named streams are averaged, then ``body`` answers per frame."""

    def __init__(self, streams: Sequence[str], body: nn.Module) -> None:
        super().__init__()
        self.streams, self.body = streams, body

    def head(self, features: Features, masks: Features) -> Output:
        """Logits averaged over frames."""
        x = torch.cat([features[s].mean((-2, -1)) for s in self.streams], -1)
        return Output(self.body(x).flatten(1, 2).mean(1), None, {})


def mlp(inputs: int, classes: int, budget: int) -> nn.Sequential:
    """Two hidden layers, as wide as a budget of parameters allows."""
    b = inputs + classes + 2  # h^2 + b h + classes = budget
    h = round((-b + math.sqrt(b * b + 4 * (budget - classes))) / 2)
    return nn.Sequential(
        nn.Linear(inputs, h), nn.ReLU(), nn.Dropout(0.5), nn.Linear(h, h), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(h, classes),
    )  # fmt: skip


class BilinearBody(nn.Module):
    """All products of two projected halves, and the halves themselves, into one linear layer."""

    def __init__(self, width: int, classes: int, rank: int = 64) -> None:
        super().__init__()
        self.left, self.right = (nn.Sequential(nn.LayerNorm(width), nn.Linear(width, rank)) for _ in range(2))
        self.out = nn.Sequential(nn.Dropout(0.5), nn.Linear((rank + 1) ** 2, classes))

    def forward(self, x: Tensor) -> Tensor:
        """(..., 2 W) -> (..., K)."""
        a, b = x.chunk(2, -1)
        a, b = (fn.pad(x, (0, 1), value=1.0) for x in (self.left(a), self.right(b)))
        return self.out((a.unsqueeze(-1) * b.unsqueeze(-2)).flatten(-2))


Draw = Callable[[Tensor, torch.Generator], tuple[Features, Features, Features]]


def fit(net: Any, size: int, draw: Draw, seed: int, steps: int = STEPS) -> nn.Module:
    """Trains a head for ``steps`` batches, whose rows follow from the seed alone; ``draw`` fetches them.

    AdamW, 5 % warm-up, then cosine to zero: the recipes' settings at half their length.
    """
    order = torch.Generator().manual_seed(seed)
    learn = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learn if p.ndim > 1], "weight_decay": DECAY},
        {"params": [p for p in learn if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR)
    warm = max(1, steps // 20)
    shape = lambda i: min((i + 1) / warm, 0.5 * (1 + math.cos(math.pi * max(0, i - warm) / (steps - warm))))  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, shape)
    rows = torch.cat([torch.randperm(size, generator=order) for _ in range(steps * BATCH // size + 1)])
    net.train()
    for i in range(steps):
        features, masks, targets = draw(rows[i * BATCH : (i + 1) * BATCH], order)
        out = net.head(features, masks)
        loss = cross_entropy(out.logits, targets["emotion"], smoothing=SMOOTHING)
        if out.va is not None:
            loss = loss + concordance_loss(out.va, targets["va"], targets["va_mask"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def start(seed: int, build: Callable[[], nn.Module]) -> nn.Module:
    """A head whose random start, and the dropout of its training, follow from the seed alone."""
    torch.manual_seed(seed)
    return build()


@torch.no_grad()
def ask(net: Any, features: Features, masks: Features, size: int = 70) -> list[Any]:
    """The head's answers, some clips at a time."""
    count = len(next(iter(features.values())))
    return [
        net.head({k: x[i : i + size] for k, x in features.items()}, {k: x[i : i + size] for k, x in masks.items()})
        for i in range(0, count, size)
    ]


def logits(net: nn.Module, features: Features, masks: Features) -> Tensor:
    """(N, K)."""
    return torch.cat([out.logits for out in ask(net, features, masks)])


def tested(clips: Clips) -> tuple[Features, Features]:
    """The first draw of every clip: of test clips the only one, without augmentation."""
    return clips.take(torch.arange(len(clips)), torch.zeros(len(clips), dtype=torch.long))


def right(answer: Tensor, truth: Tensor) -> Tensor:
    """1 where the largest logit (N, K) is that of the true class (N,), else 0."""
    return (answer.argmax(1) == truth).float()


def where(values: Tensor, keep: Tensor) -> Tensor:
    """NaN where a clip does not count."""
    return torch.where(keep, values.float(), torch.nan)


def tempered(answer: Tensor, truth: Tensor) -> float:
    """The factor on logits under which held-out labels are likeliest (Guo et al., ICML 2017)."""
    scales = torch.logspace(-1, 1, 81)
    return float(scales[int(torch.stack([fn.cross_entropy(s * answer, truth) for s in scales]).argmin())])


def hide(features: Features, masks: Features, stream: str) -> tuple[Features, Features]:
    """As if a stream were missing."""
    return features | {stream: torch.zeros_like(features[stream])}, masks | {stream: torch.zeros_like(masks[stream])}


# -- CAER: a face and a scene that correct each other ------------------------------------------------------------------


def caer(data: Data, seed: int) -> Iterator[Unit]:
    """Emotion from face and scene, each right in three of four clips."""
    train, test = data.train, data.test
    x, m = tested(test)
    y = test.targets["emotion"]
    face, scene = test.shows(0), test.shows(1)
    by_class = rows_by(train.targets["emotion"])

    def draw(rows: Tensor, g: torch.Generator, context: str = "own") -> Any:
        f, k = caer_frame(train, rows, g)
        if context != "own":
            other = torch.randint(len(train), rows.shape, generator=g)
            if context == "class":
                other = one_of(by_class, train.targets["emotion"][rows], g)
            fo, ko = caer_frame(train, other, g)
            f, k = f | {"context": fo["context"]}, k | {"context": ko["context"]}
        return f, k, {"emotion": train.targets["emotion"][rows]}

    def swapped(within: bool) -> list[tuple[Features, Features]]:
        g = torch.Generator().manual_seed(0)  # the same two exchanges of contexts for every seed and variant
        out = []
        for _ in range(2):
            other = torch.randperm(len(test), generator=g)
            if within:
                other = torch.empty(len(test), dtype=torch.long)
                for rows in rows_by(y).values():
                    other[rows] = rows[torch.randperm(len(rows), generator=g)]
            out.append((x | {"context": x["context"][other]}, m | {"context": m["context"][other]}))
        return out

    def network_unit(fusion: str, context: str = "own") -> Mapping[str, Per]:
        net = fit(start(seed, lambda: network("caer_cross_attention", fusion=fusion)), len(train),
                  partial(draw, context=context), seed, CAER_STEPS)  # fmt: skip
        if context != "own":
            hits = [right(logits(net, *pair), y) for pair in swapped(context == "class")]
            return {CONTEXTS[context]: {"accuracy": torch.stack(hits).mean(0)}}
        hit = right(logits(net, x, m), y)
        found: Per = {"accuracy": hit, **cells(hit, face == y, scene == y, ("face", "scene"))}
        if fusion == "full":
            for name, within in (("within classes", True), ("with any clip", False)):
                hits = [right(logits(net, *pair), y) for pair in swapped(within)]
                found[f"{SWAP} {name}"] = torch.stack(hits).mean(0)
        return {FUSIONS[fusion]: found}

    def simple(name: str, build: Callable[[int], nn.Module]) -> Mapping[str, Per]:
        net = fit(start(seed, lambda: build(len(EMOTIONS))), len(train), draw, seed, CAER_STEPS)
        hit = right(logits(net, x, m), y)
        return {name: {"accuracy": hit, **cells(hit, face == y, scene == y, ("face", "scene"))}}

    def singles() -> Mapping[str, Per]:
        def trained(stream: str) -> nn.Module:
            return fit(
                start(seed, lambda: sceptic("mlp", len(EMOTIONS), (stream,))), len(train), draw, seed, CAER_STEPS
            )

        found, late = late_fusion(
            {s: trained(s) for s in ("face", "context")}, tested(data.held), data.held.targets["emotion"], (x, m)
        )
        per = {f"{s} alone": {"accuracy": right(a, y)} for s, a in found.items()}
        hit = right(late, y)
        return {**per, "late fusion": {"accuracy": hit, **cells(hit, face == y, scene == y, ("face", "scene"))}}

    for fusion, name in FUSIONS.items():
        yield (name,), partial(network_unit, fusion)
    yield ("concatenation MLP",), lambda: simple("concatenation MLP", lambda k: sceptic("mlp", k))
    yield ("bilinear",), lambda: simple("bilinear", lambda k: sceptic("bilinear", k))
    yield ("face alone", "context alone", "late fusion"), singles
    for context, name in CONTEXTS.items():
        yield (name,), partial(network_unit, "full", context)


FUSIONS = {"full": "full", "no_er": "no recalibration", "af": "fusion weights alone", "mean": "plain fusion"}
SWAP = "accuracy, contexts exchanged"
CONTEXTS = {"class": "context of the same class", "any": "context of any clip"}


def caer_frame(clips: Clips, rows: Tensor, g: torch.Generator) -> tuple[Features, Features]:
    """One frame of one draw of each row (B, 1, 1, ...): the network is static."""
    draws = next(iter(clips.features.values())).shape[1]
    f, m = clips.take(rows, torch.randint(draws, rows.shape, generator=g))
    at = torch.randint(f["face"].shape[1], rows.shape, generator=g)
    one = torch.arange(len(rows))
    return {k: x[one, at].unsqueeze(1) for k, x in f.items()}, {k: x[one, at].unsqueeze(1) for k, x in m.items()}


def sceptic(kind: str, classes: int, streams: tuple[str, ...] = ("face", "context")) -> nn.Module:
    """A head on averaged maps; together the MLPs have as many parameters as the full head."""
    budget = parameters(network("caer_cross_attention", EMOTIONS[:classes])) * len(streams) // 2
    body: nn.Module = mlp(128 * len(streams), classes, budget) if kind == "mlp" else BilinearBody(128, classes)
    return OnPooled(streams, body)


def late_fusion(
    nets: Mapping[str, nn.Module],
    held: tuple[Features, Features],
    truth: Tensor,
    test: tuple[Features, Features],
) -> tuple[dict[str, Tensor], Tensor]:
    """Log probabilities of separately trained heads, each with its temperature, and their sum: (N, K)."""
    each = {}
    for name, net in nets.items():
        scale = tempered(logits(net, *held), truth)
        each[name] = (scale * logits(net, *test)).log_softmax(1)
    return each, torch.stack(list(each.values())).sum(0)


def cells(hit: Tensor, a: Tensor, b: Tensor, names: tuple[str, str]) -> Per:
    """Accuracy where both views show the label, and where only one of them does."""
    return {
        "accuracy, both right": where(hit, a & b),
        f"accuracy, only the {names[0]} right": where(hit, a & ~b),
        f"accuracy, only the {names[1]} right": where(hit, ~a & b),
    }


def agreement(data: Data, seed: int) -> Iterator[Unit]:
    """Do a face and a scene, taken from different clips, show the same emotion? Each alone says nothing."""
    train, test = data.train, data.test
    train_scenes, held_scenes, test_scenes = (rows_by(clips.shows(1)) for clips in data)
    train_faces = train.shows(0)

    def pair(shown: Tensor, scenes: dict[int, Tensor], g: torch.Generator) -> tuple[Tensor, Tensor]:
        same = torch.rand(shown.shape, generator=g) < 0.5
        shift = torch.randint(1, len(EMOTIONS), shown.shape, generator=g)
        return one_of(scenes, torch.where(same, shown, (shown + shift) % len(EMOTIONS)), g), (~same).long()

    def draw(rows: Tensor, g: torch.Generator) -> Any:
        other, label = pair(train_faces[rows], train_scenes, g)
        (f, m), (fo, mo) = caer_frame(train, rows, g), caer_frame(train, other, g)
        return f | {"context": fo["context"]}, m | {"context": mo["context"]}, {"emotion": label}

    def fixed(clips: Clips, scenes: dict[int, Tensor]) -> tuple[tuple[Features, Features], Tensor]:
        rows = torch.arange(len(clips)).repeat(2)  # every face twice
        other, label = pair(clips.shows(0)[rows], scenes, torch.Generator().manual_seed(0))
        x, m = tested(clips)
        features = {"face": x["face"][rows], "context": x["context"][other]}
        return (features, {"face": m["face"][rows], "context": m["context"][other]}), label

    (x, m), y = fixed(test, test_scenes)
    held, held_y = fixed(data.held, held_scenes)

    def score(answer: Tensor) -> Per:
        return {"accuracy": right(answer, y).view(2, -1).mean(0)}

    def unit(name: str, build: Callable[[], nn.Module]) -> Mapping[str, Per]:
        return {name: score(logits(fit(start(seed, build), len(train), draw, seed, CAER_STEPS), x, m))}

    def singles() -> Mapping[str, Per]:
        nets = {}
        for stream in ("face", "context"):
            nets[stream] = fit(start(seed, partial(sceptic, "mlp", 2, (stream,))), len(train), draw, seed, CAER_STEPS)
        each, late = late_fusion(nets, held, held_y, (x, m))
        return {**{f"{s} alone": score(a) for s, a in each.items()}, "late fusion": score(late)}

    for fusion, name in FUSIONS.items():
        yield (name,), partial(unit, name, partial(network, "caer_cross_attention", EMOTIONS[:2], fusion=fusion))
    yield ("concatenation MLP",), partial(unit, "concatenation MLP", partial(sceptic, "mlp", 2))
    yield ("bilinear",), partial(unit, "bilinear", partial(sceptic, "bilinear", 2))
    yield ("face alone", "context alone", "late fusion"), singles


def rows_by(numbers: Tensor) -> dict[int, Tensor]:
    """Rows that hold each number."""
    return {int(c): torch.nonzero(numbers == c).flatten() for c in numbers.unique()}


def one_of(rows: Mapping[int, Tensor], wanted: Tensor, g: torch.Generator) -> Tensor:
    """A row drawn for each wanted number (B,)."""
    return torch.stack([rows[c][torch.randint(len(rows[c]), (), generator=g)] for c in wanted.tolist()])


# -- CEFLNet: the clip in which the expression happens -----------------------------------------------------------------

WINDOWS, LENGTH, STRIDE, TAKEN = 7, 6, 4, 3  # the paper's seven overlapping clips, on the thirty frames of a drawn one


class GivenSaliency(nn.Module):
    """Stands in for the learned query: clips weighed by the norm of their vectors, or by chance."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, D) -> the pooled vector (B, D) by the paper's formula, and the weights (B, C)."""
        scores = torch.randn(v.shape[:2]) if self.kind == "random" else v.detach().norm(dim=-1)
        scores = (scores - scores.mean(1, keepdim=True)) / (scores.std(1, keepdim=True) + 1e-6)
        a = masked_softmax(scores, mask, 1)
        return masked_max(a.unsqueeze(-1) * v, mask, 1), a


def ceflnet(data: Data, seed: int) -> Iterator[Unit]:
    """An expression in a third of the clip, among short movements without meaning."""
    train, test = data.train, data.test
    steps = torch.arange(LENGTH)
    starts = STRIDE * torch.arange(WINDOWS).unsqueeze(1)
    fixed = starts + steps[:: LENGTH // TAKEN]  # (7, 3)
    x, m = tested(test)
    x, m = {"face": x["face"][:, fixed, 0]}, {"face": m["face"][:, fixed, 0]}
    y = test.targets["emotion"]
    burst, decoy = (torch.stack(t) for t in zip(*(bursts(c, fixed) for c in test.causes), strict=True))
    expressive = (test.shows(0) != EMOTIONS.index("neutral")) & burst.any(1) & ~burst.all(1)

    def draw(rows: Tensor, g: torch.Generator) -> Any:
        draws = torch.randint(train.features["face"].shape[1], rows.shape, generator=g)
        f, k = train.take(rows, draws)
        at = torch.rand(len(rows), WINDOWS, LENGTH, generator=g).argsort(-1)[..., :TAKEN].sort(-1).values + starts
        one = torch.arange(len(rows))[:, None, None]
        f, k = {"face": f["face"][one, at, 0]}, {"face": k["face"][one, at, 0]}
        return f, k, {"emotion": train.targets["emotion"][rows]}

    def unit(name: str) -> Mapping[str, Per]:
        def build() -> nn.Module:
            net = network("ceflnet", pooling=name if name in ("mean", "max") else "activation")
            if name in ("feature norm", "random"):
                net.activation = GivenSaliency(name)
            return net

        net = fit(start(seed, build), len(train), draw, seed)
        answer = logits(net, x, m)
        found: Per = {"accuracy": right(answer, y), "accuracy, expressive": where(right(answer, y), expressive)}
        if name != "mean":
            saliency = clip_saliency(net, x, m)
            chosen = saliency.argmax(1)
            one = torch.arange(len(test))
            found["chosen clip in the burst"] = where(burst[one, chosen], expressive)
            found["chosen clip on a decoy alone"] = where(decoy[one, chosen], expressive & decoy.any(1))
            believed = answer.softmax(1)[one, y]
            drops = []
            for c in range(WINDOWS):
                gone = m["face"].clone()
                gone[:, c] = False
                drops.append(believed - logits(net, x, {"face": gone}).softmax(1)[one, y])
            drop = torch.stack(drops, 1)  # (N, 7)
            found["loss of belief without the chosen clip"] = where(drop[one, chosen], expressive)
            others = (drop.sum(1) - drop[one, chosen]) / (WINDOWS - 1)
            found["loss of belief without another clip"] = where(others, expressive)
        return {name: found}

    for name in ("activation", "mean", "max", "feature norm", "random"):
        yield (name,), partial(unit, name)
    chance = {
        "chosen clip in the burst": where(burst.float().mean(1), expressive),
        "chosen clip on a decoy alone": where(decoy.float().mean(1), expressive & decoy.any(1)),
    }
    yield ("chance",), lambda: {"chance": chance}


@torch.no_grad()
def clip_saliency(net: Any, x: Features, m: Features) -> Tensor:
    """What weight each clip has (N, C): the attention where there is one, else the share of maxima that it gives."""
    if net.pooling == "activation":
        return torch.cat([out.attention["clip_attention"] for out in ask(net, x, m)])
    v, _ = net.encoder(x["face"].flatten(0, 1), m["face"].flatten(0, 1))
    winner = v.unflatten(0, x["face"].shape[:2]).argmax(1)  # (N, D)
    return fn.one_hot(winner, x["face"].shape[1]).float().mean(1)


def bursts(cause: Cause, frames: Tensor) -> tuple[Tensor, Tensor]:
    """For clips of frames (C, F): is the expression at half its peak or more; does a decoy alone move the face.

    Decoys are found by drawing the same course without them.
    """
    run = synthemo.course(cause)
    calm = synthemo.course(replace(cause, knobs=replace(cause.knobs, decoys=0)))
    strength = torch.from_numpy(run.strength)
    moved = torch.from_numpy(np.abs(run.units - calm.units).max(1))
    inside = (strength >= 0.5 * strength.max())[frames].any(1)
    apart = (moved[frames] >= 0.3).any(1) & ~inside
    return inside, apart


# -- DFAN: the moment and the place of the cause -----------------------------------------------------------------------


def dfan(data: Data, seed: int) -> Iterator[Unit]:
    """An expression in a third of the clip, and a scene that speaks by one thing in one place."""
    train, test = data.train, data.test
    x, m = tested(test)
    y = test.targets["emotion"]
    frames = test.targets["frames_action"][:, 0]  # (N, 6, 4)
    peaks = torch.stack([bursts(c, f)[0] for c, f in zip(test.causes, frames, strict=True)]).float()  # (N, 6)
    neutral = EMOTIONS.index("neutral")
    moves = (test.shows(0) != neutral) & (test.shows(3) != neutral)
    still = (test.shows(0) == neutral) & (test.shows(3) == neutral)
    motion = test.targets["motion"][:, 0].float()  # (N, 6, 24, 24)

    def draw(rows: Tensor, g: torch.Generator) -> Any:
        draws = torch.randint(train.features["action"].shape[1], rows.shape, generator=g)
        return *train.take(rows, draws), {"emotion": train.targets["emotion"][rows]}

    def focus(maps: Mapping[str, Tensor]) -> Per:
        found: Per = {}
        for s in ("action", "object", "scene"):
            if f"{s}_time" in maps:
                mass = (maps[f"{s}_time"] * peaks).sum(1)
                found[s + MASS] = where(mass, moves)
                found[f"{s}{MASS}, nothing shown"] = where(mass, still)
            if f"{s}_space" in maps and s != "action":
                alpha = maps[f"{s}_space"].mean(1)  # (N, h, w), sums to 1
                size = alpha.shape[-2:]
                found[s + DENSE] = density(alpha, boxes(test.causes, "cause", size))
                found[s + OTHER] = density(alpha, boxes(test.causes, "decoys", size))
                found[f"{s}: density on the face"] = density(alpha, boxes(test.causes, "face", size))
        return found

    def unit(name: str, **options: bool) -> Mapping[str, Per]:
        net = fit(start(seed, lambda: network("dfan", EMOTIONS, **options)), len(train), draw, seed)
        outs = ask(net, x, m)
        hit = right(torch.cat([o.logits for o in outs]), y)
        learned = [k for k in outs[0].attention if options.get(f"use_{SIDES[k.rpartition('_')[2]]}", True)]
        return {name: {"accuracy": hit, **focus({k: torch.cat([o.attention[k] for o in outs]) for k in learned})}}

    def given() -> Mapping[str, Per]:
        streams = ("action", "object", "scene")
        size = x["object"].shape[-2], x["object"].shape[-1]
        bell = torch.exp(-0.5 * (torch.linspace(-1, 1, 6) / 0.5) ** 2)
        round_ = torch.exp(-0.5 * (torch.linspace(-1, 1, size[0]) / 0.5) ** 2)
        moved = fn.adaptive_avg_pool2d(motion, size)
        flat = torch.ones_like(moved)
        guesses = {
            "even": (flat.mean((2, 3)), flat),
            "centre": (bell.expand(len(test), -1), torch.outer(round_, round_).expand_as(moved)),
            "motion": (motion.mean((2, 3)), moved),
        }
        return {
            name: focus(
                {f"{s}_time": t / t.sum(1, keepdim=True) for s in streams}
                | {f"{s}_space": a / a.sum((2, 3), keepdim=True) for s in streams}
            )
            for name, (t, a) in guesses.items()
        }

    yield ("both",), partial(unit, "both")
    yield ("time alone",), partial(unit, "time alone", use_spatial=False)
    yield ("place alone",), partial(unit, "place alone", use_temporal=False)
    yield ("neither",), partial(unit, "neither", use_temporal=False, use_spatial=False)
    yield ("even", "centre", "motion"), given


MASS, DENSE, OTHER = ": mass in the burst", ": density on the cause", ": density on other things"
SIDES = {"time": "temporal", "space": "spatial"}


def density(alpha: Tensor, box: Tensor) -> Tensor:
    """Attention (N, h, w) on a region over the region's share of the picture; regions as in :func:`boxes`."""
    area = box.mean((1, 2))
    return (alpha * box).sum((1, 2)) / area.clamp(min=1e-6)


def boxes(causes: Sequence[Cause], what: str, size: Sequence[int]) -> Tensor:
    """How much of each cell of a (h, w) grid the cause, the scene's other things (``decoys``) or the face cover.

    (N, h, w), 0 to 1.
    """
    out = np.zeros((len(causes), *size), np.float32)
    for n, c in enumerate(causes):
        w, h = c.size
        if what == "face":
            regions = [synthemo.course(c).boxes(c).mean(0)]
        else:
            some = c.spots[:1] if what == "cause" else c.spots[1:]
            regions = [np.array([x * w - q * h, (y - q) * h, x * w + q * h, (y + q) * h]) for x, y, q in some]
        for x1, y1, x2, y2 in regions:
            across = overlap(x1 / w, x2 / w, size[1])
            down = overlap(y1 / h, y2 / h, size[0])
            out[n] = np.maximum(out[n], np.outer(down, across))
    return torch.from_numpy(out)


def overlap(low: float, high: float, cells_: int) -> np.ndarray:
    """The share of each of equal cells of [0, 1] that lies between two numbers."""
    edges = np.linspace(0, 1, cells_ + 1)
    return np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None) * cells_


# -- recursive joint attention: a face and a voice, each with part of it -----------------------------------------------


class Pooled(NamedTuple):
    """A metric over all clips together, its value for each group of people, and how many clips it is about."""

    value: float
    groups: tuple[float, ...]
    n: int


def joint(data: Data, seed: int) -> Iterator[Unit]:
    """Emotion, and valence and arousal per step, from a face and a voice that are each right in seven of ten clips."""
    train, held, test = (trimmed(c) for c in data)
    x, m = tested(test)
    y = test.targets["emotion"]
    face, voice = test.shows(0) == y, test.shows(2) == y
    length = x["face"].shape[1]

    def draw(rows: Tensor, g: torch.Generator, hidden: str = "") -> Any:
        draws = torch.randint(train.features["face"].shape[1], rows.shape, generator=g)
        f, k = train.take(rows, draws)
        if hidden:
            f, k = hide(f, k, hidden)
        else:  # as the recipe's stream dropout: one stream of a clip in ten is missing
            gone = torch.rand(len(rows), generator=g)
            for s, drop in (("face", gone < 0.1), ("audio", gone > 0.9)):
                keep = ~drop[:, None, None]
                f, k = f | {s: f[s] * keep}, k | {s: k[s] & keep}
        t = train.targets
        return f, k, {"emotion": t["emotion"][rows], "va": t["va"][rows, draws], "va_mask": t["va_mask"][rows, draws]}

    def build(iterations: int) -> nn.Module:
        options = {"num_iter": iterations, "share_weights": True, "seq_len": length}
        return network("recursive_joint_attention", EMOTIONS, **options)

    def score(answer: Tensor, va: Tensor) -> Per:
        hit = right(answer, y)
        return {"accuracy": hit, "CCC": pooled_ccc(va, test), **cells(hit, face, voice, ("face", "voice"))}

    def fused(name: str, iterations: int) -> Mapping[str, Per]:
        steps = (
            round(JOINT_STEPS * cost(build(2), length) / cost(build(iterations), length)) if iterations else JOINT_STEPS
        )
        net = fit(start(seed, lambda: build(iterations)), len(train), draw, seed, steps)
        found = score(*both(net, x, m))
        for s, word in (("audio", "without sound"), ("face", "without face")):
            found[f"accuracy, {word}"] = right(both(net, *hide(x, m, s))[0], y)
        for k in range(1, 4):
            turned = {**x, "audio": x["audio"].roll(k, 1)}, {**m, "audio": m["audio"].roll(k, 1)}
            late_answer, late_va = both(net, *turned)
            found[f"CCC, sound {k} steps late"] = pooled_ccc(late_va, test)
            found[f"accuracy, sound {k} steps late"] = right(late_answer, y)
        return {name: found}

    def singles() -> Mapping[str, Per]:
        found, logs, vas = {}, [], []
        hx, hm = tested(held)
        for name, other in (("face alone", "audio"), ("voice alone", "face")):
            net = fit(start(seed, lambda: build(0)), len(train), partial(draw, hidden=other), seed, JOINT_STEPS)
            answer, va = both(net, *hide(x, m, other))
            held_answer, held_va = both(net, *hide(hx, hm, other))
            logs.append((tempered(held_answer, held.targets["emotion"]) * answer).log_softmax(1))
            vas.append((held_va, va))
            found[name] = score(answer, va)
        shares = torch.linspace(0, 1, 21)  # of the face in valence and arousal, fitted on the people held out
        (face_held, face_va), (voice_held, voice_va) = vas
        value = [pooled_ccc(s * face_held + (1 - s) * voice_held, held).value for s in shares]
        s = shares[int(np.argmax(value))]
        late = score(logs[0] + logs[1], s * face_va + (1 - s) * voice_va)
        late["accuracy, without sound"], late["accuracy, without face"] = right(logs[0], y), right(logs[1], y)
        return {**found, "late fusion": late}

    for name, iterations in (("no joint attention", 0), ("once", 1), ("twice", 2), ("three times", 3)):
        yield (name,), partial(fused, name, iterations)
    yield ("face alone", "voice alone", "late fusion"), singles


def trimmed(clips: Clips) -> Clips:
    """Without the leading steps that no clip reaches (drawn clips last 2.4 of the window's 3.2 seconds)."""
    first = int((~clips.masks["audio"].flatten(3).any(-1).any(0).any(0)).sum())
    cut = lambda part: {k: v[:, :, first:] if v.ndim > 2 else v for k, v in part.items()}  # noqa: E731
    return Clips(clips.causes, cut(clips.features), cut(clips.masks), cut(clips.targets))


def cost(net: Any, length: int) -> int:
    """Multiplications for one clip of ``length`` steps: every weight once a step, and the products of attention."""
    learn = parameters(net)
    block = sum(p.numel() for p in net.joint.parameters())
    width = net.joint_lstm.linear.out_features
    return length * (learn - block) + net.num_iter * (length * block + 8 * length * width * width)


@torch.no_grad()
def both(net: nn.Module, x: Features, m: Features) -> tuple[Tensor, Tensor]:
    """Logits (N, K), valence and arousal (N, L, 2)."""
    outs = ask(net, x, m)
    return torch.cat([o.logits for o in outs]), torch.cat([o.va for o in outs])


def pooled_ccc(va: Tensor, clips: Clips) -> Pooled:
    """Mean concordance of valence and arousal, over all labelled steps."""
    target, mask, groups = clips.targets["va"][:, 0], clips.targets["va_mask"][:, 0], torch.from_numpy(clips.groups)

    def ccc(rows: Tensor) -> float:
        if not rows.any():
            return math.nan
        return float(sum(concordance(va[rows][..., i], target[rows][..., i], mask[rows]) for i in (0, 1)) / 2)

    everyone = torch.ones(len(clips), dtype=torch.bool)
    return Pooled(ccc(everyone), tuple(ccc(groups == g) for g in range(GROUPS)), len(clips))


# -- the table ---------------------------------------------------------------------------------------------------------

EXPERIMENTS: dict[str, tuple[str, Callable[[Data, int], Iterator[Unit]]]] = {
    "recursive_joint_attention": ("recursive_joint_attention", joint),
    "ceflnet": ("ceflnet", ceflnet),
    "dfan": ("dfan", dfan),
    "caer": ("caer_cross_attention", caer),
    "caer_agreement": ("caer_cross_attention", agreement),
}
COLUMNS = ("experiment", "variant", "seed", "metric", "value", "n", "groups", "version")


def rows_of(experiment: str, seed: int, found: Mapping[str, Per], groups: np.ndarray) -> list[dict[str, Any]]:
    """Lines of the table. ``groups`` there: the metric in each group of people, nan where it has no clip; ``version``:
    that of the drawn clips."""
    lines = []
    for variant, metrics in found.items():
        for metric, values in metrics.items():
            if not isinstance(values, Pooled):
                values = mean_by_group(values, groups)
            parts = " ".join("nan" if math.isnan(v) else f"{v:.4f}" for v in values.groups)
            line = (experiment, variant, seed, metric, f"{values.value:.5f}", values.n, parts, synthemo.VERSION)
            lines.append(dict(zip(COLUMNS, line, strict=True)))
    return lines


def mean_by_group(values: Tensor, groups: np.ndarray) -> Pooled:
    """Mean over the clips that count, in all and in each group."""
    v = values.double().numpy()
    counts = np.isfinite(v)

    def mean(rows: np.ndarray) -> float:
        return float(v[rows].mean()) if rows.any() else math.nan

    return Pooled(mean(counts), tuple(mean(counts & (groups == g)) for g in range(GROUPS)), int(counts.sum()))


def read(table: Path = TABLE) -> pd.DataFrame:
    """The finished runs; empty where there is no table yet."""
    if not table.is_file():
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.read_csv(table)


def append(lines: Sequence[Mapping[str, Any]], table: Path = TABLE) -> None:
    """Adds a finished run's lines in one write."""
    new = not table.is_file()
    with table.open("a", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(lines)
        f.flush()
        os.fsync(f.fileno())


def train(names: Sequence[str], seeds: Sequence[int], table: Path, workers: int) -> None:
    """Every run that the table does not hold yet."""
    loaded: dict[str, Data] = {}
    for name in names:
        arch, units = EXPERIMENTS[name]
        have = read(table)
        if (have["version"] != synthemo.VERSION).any():
            sys.exit(f"{table}: holds runs on another version of the drawn clips than {synthemo.VERSION}; move it away")
        done = set(zip(have["experiment"], have["variant"], have["seed"], strict=True))
        for seed in seeds:
            if arch not in loaded:
                loaded = {arch: load(arch, workers)}
            data = loaded[arch]
            for variants, run in units(data, seed):
                if all((name, v, seed) in done for v in variants):
                    continue
                begun = time.monotonic()
                append(rows_of(name, seed, run(), data.test.groups), table)
                print(
                    f"{name} {seed} {', '.join(variants)}: {time.monotonic() - begun:.1f} s",
                    file=sys.stderr,
                    flush=True,
                )


# -- statistics --------------------------------------------------------------------------------------------------------


class Interval(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def interval(table: np.ndarray) -> Interval:
    """The mean of values (S, G) and its 95 % interval, when both seeds and groups of people are samples.

    Two-way random effects without repetition: the variance of the mean is (MS_seeds + MS_groups - MS_rest) / (S G),
    never less than its largest part, with Satterthwaite's degrees of freedom. Seeds alone would say nothing about other
    clips.
    """
    s, g = table.shape
    mean = float(table.mean())
    rows, columns = table.mean(1, keepdims=True), table.mean(0, keepdims=True)
    ms_s = g * float(((rows - mean) ** 2).sum()) / (s - 1)
    ms_g = s * float(((columns - mean) ** 2).sum()) / (g - 1)
    ms_e = float(((table - rows - columns + mean) ** 2).sum()) / ((s - 1) * (g - 1))
    total = max(ms_s + ms_g - ms_e, ms_s, ms_g)
    if total <= 0:
        return Interval(mean, mean, mean)
    freedom = total**2 / (ms_s**2 / (s - 1) + ms_g**2 / (g - 1) + ms_e**2 / ((s - 1) * (g - 1)))
    half = float(stats.t.ppf(0.975, max(1.0, freedom))) * math.sqrt(total / (s * g))
    return Interval(mean, mean - half, mean + half)


def by_group(table: pd.DataFrame, experiment: str, variant: str, metric: str) -> pd.DataFrame:
    """Values of one metric, seeds in rows, groups of people in columns."""
    some = table[(table.experiment == experiment) & (table.variant == variant) & (table.metric == metric)]
    return pd.DataFrame([[float(v) for v in g.split()] for g in some.groups], index=some.seed.tolist()).sort_index()


def difference(table: pd.DataFrame, experiment: str, a: tuple[str, str], b: tuple[str, str]) -> Interval | None:
    """Metric of one variant minus metric of another over the seeds that both have; None without two seeds."""
    left, right_ = by_group(table, experiment, *a), by_group(table, experiment, *b)
    seeds = [s for s in left.index if s in right_.index] if len(left) and len(right_) else []
    if len(seeds) < 2:
        return None
    delta = (left.loc[seeds] - right_.loc[seeds]).to_numpy()
    return interval(delta[:, np.isfinite(delta).all(0)])


def compare(fresh: pd.DataFrame, committed: pd.DataFrame) -> list[str]:
    """Metrics whose mean over the fresh seeds differs from the committed one by more than the tolerance."""
    keys = ["experiment", "variant", "metric"]
    old = committed[committed.seed.isin(fresh.seed.unique())].groupby(keys).value.mean()
    new = fresh.groupby(keys).value.mean()
    found = []
    for key, value in new.items():
        if key not in old.index:
            found.append(f"{', '.join(key)}: not in {TABLE}")
        elif abs(value - old[key]) > TOLERANCE * max(1.0, abs(old[key])):
            found.append(f"{', '.join(key)}: {value:.3f}, committed {old[key]:.3f}")
    return found


# -- the page ----------------------------------------------------------------------------------------------------------


class Finding(NamedTuple):
    """A claim, the variant and metric that should be larger, and what it is held against."""

    claim: str
    more: tuple[str, str]
    less: tuple[str, str]


def against(claim: str, variant: str, metric: str, others: Mapping[str, str]) -> list[Finding]:
    """The same metric of one variant and of others, whose names in the claim are the values of ``others``."""
    return [Finding(claim.format(word), (variant, metric), (other, metric)) for other, word in others.items()]


def findings() -> dict[str, list[Finding]]:
    """What each experiment asks, in the order of the page."""
    hit, ccc = "accuracy", "CCC"
    fused = {"emotion": hit, "valence and arousal": ccc}
    two = "twice"
    joint_: list[Finding] = []
    for word, metric in fused.items():
        claim = "{}, " + word
        joint_ += [
            Finding(claim.format("Joint attention adds to none"), (two, metric), ("no joint attention", metric)),
            Finding(claim.format("A second pass adds to the first"), (two, metric), ("once", metric)),
            Finding(claim.format("A third pass adds to the second"), ("three times", metric), (two, metric)),
            Finding(claim.format("Both streams say more than the face"), (two, metric), ("face alone", metric)),
            Finding(claim.format("Both streams say more than the voice"), (two, metric), ("voice alone", metric)),
            Finding(claim.format("Joint training beats late fusion"), (two, metric), ("late fusion", metric)),
        ]
        joint_ += [
            Finding(f"Sound {k} steps late costs {word}", (two, metric), (two, f"{metric}, sound {k} steps late"))
            for k in (1, 2, 3)
        ]
    for word in ("face", "voice"):
        cell = f"{hit}, only the {word} right"
        joint_ += against(f"Where the {word} alone is right, it beats {{}}", two, cell, {"late fusion": "late fusion"})
    for word in ("without sound", "without face"):
        rest = "a network of the rest"
        joint_ += against(f"Left {word}, it beats {{}}", two, f"{hit}, {word}", {"late fusion": rest})

    chosen, fooled = "chosen clip in the burst", "chosen clip on a decoy alone"
    poolings = {"mean": "the mean", "max": "the maximum", "feature norm": "weights by norm", "random": "random weights"}
    clip = [
        *against("Activation answers better than {}", "activation", hit, poolings),
        *against(
            "It finds the burst better than {}",
            "activation",
            chosen,
            {"chance": "chance", **{k: poolings[k] for k in ("max", "feature norm", "random")}},
        ),
        Finding("It falls for a decoy less often than chance", ("chance", fooled), ("activation", fooled)),
        Finding(
            "The answer leans on the chosen clip more than on another",
            ("activation", "loss of belief without the chosen clip"),
            ("activation", "loss of belief without another clip"),
        ),
    ]

    guesses = {"even": "even weights", "centre": "a bias to the centre", "motion": "motion energy"}
    parts = {
        "both": "Attention over time and place",
        "time alone": "Attention over time",
        "place alone": "Attention over places",
    }
    focus = [Finding(f"{word} beats plain averages", (v, hit), ("neither", hit)) for v, word in parts.items()]
    for s in ("action", "object", "scene"):
        focus += against(f"{s.capitalize()} stream: more mass in the burst than {{}}", "both", s + MASS, guesses)
        claim = f"{s.capitalize()} stream: more mass in the burst than where nothing is shown in it"
        focus.append(Finding(claim, ("both", s + MASS), ("both", f"{s}{MASS}, nothing shown")))
    for s in ("object", "scene"):
        focus += against(f"{s.capitalize()} stream: denser on the cause than {{}}", "both", s + DENSE, guesses)
        claim = f"{s.capitalize()} stream: denser on the cause than on things without meaning"
        focus.append(Finding(claim, ("both", s + DENSE), ("both", s + OTHER)))

    controls = {
        "plain fusion": "plain fusion",
        "fusion weights alone": "fusion weights without cross-attention",
        "no recalibration": "itself without recalibration",
        "concatenation MLP": "an MLP of as many parameters",
        "bilinear": "bilinear pooling",
        "late fusion": "calibrated late fusion",
        "face alone": "the face alone",
        "context alone": "the context alone",
    }
    pair = against("The full head beats {}", "full", hit, controls)
    scenes = [
        Finding("Retrained with any clip's context it is worse", ("full", hit), ("context of any clip", hit)),
        Finding("Retrained with one of the same class too", ("full", hit), ("context of the same class", hit)),
        Finding("Any clip's context misleads the trained head", ("full", hit), ("full", f"{SWAP} with any clip")),
        Finding("So does another of the same class", ("full", hit), ("full", f"{SWAP} within classes")),
    ]
    for word in ("face", "scene"):
        cell = f"{hit}, only the {word} right"
        late = {"late fusion": "late fusion"}
        scenes += against(f"Where the {word} alone is right, it beats {{}}", "full", cell, late)
    return {
        "caer": [*pair, *scenes],
        "caer_agreement": pair,
        "ceflnet": clip,
        "dfan": focus,
        "recursive_joint_attention": joint_,
    }


ABOUT = {
    "caer": (
        "caer_cross_attention: a face and a scene that correct each other",
        "Face and scene each show the clip's emotion in three of four clips. Where they differ, nothing in the clip "
        "says which of them is right: no head can be right in much more than three of four. The MLP has as many "
        "parameters as the full head; late fusion adds the log probabilities of two separately trained MLPs, each with "
        "a temperature fitted on people held out.",
    ),
    "caer_agreement": (
        "caer_cross_attention: do face and scene agree?",
        "Faces and scenes of different clips are paired, and the question is whether both show the same emotion. "
        "Neither says anything alone, so a head must relate them. Chance is 0.5.",
    ),
    "ceflnet": (
        "ceflnet: the clip in which the expression happens",
        "The expression lasts 0.7 of 2.4 seconds, among two short movements without meaning (decoys). Seven "
        "overlapping clips of six frames; a clip is in the burst when the expression is at half its peak or more in "
        "one of its frames. All variants pool by the paper's formula except mean and max; feature norm and random "
        "only replace the learned query. Where the chosen clip lies is counted where the face shows an emotion.",
    ),
    "dfan": (
        "dfan: the moment and the place of the cause",
        "Face and body act for a third of the clip; the scene speaks by one thing in one place, among two things "
        "without meaning. Mass in the burst is the share of a stream's attention on segments whose expression is at "
        "half its peak or more, where face and body show an emotion (nothing shown: where both are neutral). Density "
        "is attention on a region over the region's share of the picture: 1 is even.",
    ),
    "recursive_joint_attention": (
        "recursive_joint_attention: a face and a voice, each with part of it",
        "Face and voice each show the clip's emotion in seven of ten clips. Once, twice and three times share one "
        "joint attention's weights, and train for as many steps as make the multiplications equal. A step is 0.4 s.",
    ),
}
TRIED = {
    "caer": (
        "Tried: encoders that learned with both views mostly there. The face alone was right in 0.32 of clips: "
        "the scene is the easier view, and every head answered from the scene. Here encoders learned mostly one view "
        "at a time."
    ),
    "recursive_joint_attention": (
        "Tried with seed 1 and two passes: 100 steps of 32 clips (accuracy 0.49), 300 of 64 (0.65), 400 of 128 (0.68). "
        "The fused heads gain with longer training: this table, at 200 steps of 64, is about equal budgets, not about "
        "where they end. The face is the weaker view of these encoders."
    ),
}


def verdict(found: Interval) -> str:
    """What the interval says of a claim that the difference is positive."""
    return "holds" if found.low > 0 else "does not hold" if found.high < 0 else "undecided"


HEAD = """# What the mechanisms can do

Capability on drawn data, not evidence for the papers' numbers: the clips are SynthEmo's, the networks small (`lite`).

Each table asks whether a network *can* do what its paper says, against controls that a sceptic would choose. All
variants of an architecture share frozen encoders, which learned on plain drawn clips; only heads are trained, with the
same clips, order, settings and number of steps, and asked about clips of people that nothing was trained on. Numbers
are means over seeds, ± their standard deviation. Differences are paired by seed and clip; the 95 % interval takes both
seeds and groups of people as samples (two-way random effects, Satterthwaite's degrees of freedom), so it speaks of
other clips too. *Holds*: the interval lies above zero; *does not hold*: below; *undecided*: around it. Many claims are
asked, so about one in forty would hold by chance. In a difference every group of people counts alike: it may differ in
the third digit from the difference of the two means.

Written by `python benchmarks/mechanisms.py --page` from `benchmarks/results/mechanisms.csv`; `--quick` trains two seeds
anew and compares.
"""


def page(table: pd.DataFrame) -> str:
    """docs/mechanisms.md."""
    lines = [HEAD]
    for name, claims in findings().items():
        some = table[table.experiment == name]
        if some.empty:
            continue
        title, about = ABOUT[name]
        lines += [f"## {title}", "", *textwrap.wrap(about, 120, break_on_hyphens=False), ""]
        drawn = " and ".join(map(str, sorted(some.version.unique())))
        lines += [f"{some.seed.nunique()} seeds, {int(some.n.max())} test clips, drawn by version {drawn} of SynthEmo."]
        lines += ["", *markdown(some), ""]
        for claim in claims:
            delta = difference(table, name, claim.more, claim.less)
            if delta is None:
                continue
            a, b = (some[(some.variant == v) & (some.metric == m)].value.mean() for v, m in (claim.more, claim.less))
            numbers = f"{a:.3f} against {b:.3f}; {delta.mean:+.3f}, {delta.low:+.3f} to {delta.high:+.3f}"
            lines.append(f"- {claim.claim}: **{verdict(delta)}** ({numbers}).")
        lines += ["", *(textwrap.wrap(TRIED[name], 120) + [""] if name in TRIED else [])]
    return "\n".join(lines).rstrip() + "\n"


def markdown(some: pd.DataFrame) -> list[str]:
    """Metrics in rows, variants in columns, in the order of the table."""
    metrics, variants = list(dict.fromkeys(some.metric)), list(dict.fromkeys(some.variant))
    grouped = some.groupby(["variant", "metric"]).value
    mean, spread = grouped.mean(), grouped.std()
    lines = ["| | " + " | ".join(variants) + " |", "|---" * (len(variants) + 1) + "|"]
    for metric in metrics:
        row = [f"{mean[v, metric]:.3f} ± {spread[v, metric]:.3f}" if (v, metric) in mean else "" for v in variants]
        lines.append(f"| {metric} | " + " | ".join(row) + " |")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(EXPERIMENTS), default=list(EXPERIMENTS), help="experiments")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"seeds 1 to this (default {SEEDS})")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw and decode clips")
    parser.add_argument("--quick", action="store_true", help="train seeds 1 and 2 anew, compare with the table")
    parser.add_argument("--page", action="store_true", help=f"write {PAGE} from the table, train nothing")
    parser.add_argument("--table", type=Path, default=TABLE, help="where finished runs are appended")
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        fresh = files.cache_folder() / "mechanisms_quick.csv"
        fresh.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        train(chosen.only, QUICK, fresh, chosen.workers)
        apart = compare(read(fresh), read(chosen.table))
        print("\n".join(apart) or f"seeds {QUICK}: as committed, within {TOLERANCE}")
        return 1 if apart else 0
    if not chosen.page:
        train(chosen.only, range(1, chosen.seeds + 1), chosen.table, chosen.workers)
    PAGE.write_text(page(read(chosen.table)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
