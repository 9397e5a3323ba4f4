"""DFAN: the moment and the place of the cause.

Legend: N = clips, B = batch, T = segments, h, w = a map's cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as fn

from emozoo import synthemo
from emozoo.synthemo import EMOTIONS, Cause

from .clips import ACTION, FACE, TaskClips, bursts_and_decoys
from .experiment import Claim, Experiment, Metrics, Run, claims_against, is_correct, only_where
from .heads import lite_network, outputs_of, train_head

ARCH, STEPS = "dfan", 150
STREAMS = ("action", "object", "scene")
IN_BURST, ON_CAUSE, ON_OTHERS = ": mass in the burst", ": density on the cause", ": density on other things"
SWITCHES = {"time": "use_temporal", "space": "use_spatial"}  # what a map's name ends in -> the option that learns it


def runs(clips: TaskClips, seed: int) -> Iterator[Run]:
    """An expression in a third of the clip, and a scene in which one thing in one place shows the emotion."""
    train, test = clips.train, clips.test
    features, masks = test.first_draws()
    labels = test.targets["emotion"]
    frames = test.targets["frames_action"][:, 0]  # (N, 6, 4)
    in_burst = torch.stack([bursts_and_decoys(c, f)[0] for c, f in zip(test.causes, frames, strict=True)]).float()
    neutral = EMOTIONS.index("neutral")
    face, body = test.shown_in(FACE), test.shown_in(ACTION)
    acting, at_rest = (face != neutral) & (body != neutral), (face == neutral) & (body == neutral)

    def draw_batch(rows: Tensor, g: torch.Generator) -> Any:
        draws = torch.randint(train.draws, rows.shape, generator=g)
        return *train.inputs(rows, draws), {"emotion": train.targets["emotion"][rows]}

    def attention_metrics(maps: Mapping[str, Tensor]) -> Metrics:
        """Where the maps ``<stream>_time`` (N, T) and ``<stream>_space`` (N, T, h, w) lie, each of which sums to 1."""
        found: Metrics = {}
        for s in STREAMS:
            if f"{s}_time" in maps:
                mass = (maps[f"{s}_time"] * in_burst).sum(1)
                found[s + IN_BURST] = only_where(acting, mass)
                found[f"{s}{IN_BURST}, nothing shown"] = only_where(at_rest, mass)
            if f"{s}_space" in maps and s != "action":
                alpha = maps[f"{s}_space"].mean(1)  # (N, h, w)
                size = alpha.shape[-2:]
                found[s + ON_CAUSE] = attention_density(alpha, region_cover(test.causes, "cause", size))
                found[s + ON_OTHERS] = attention_density(alpha, region_cover(test.causes, "decoys", size))
                found[f"{s}: density on the face"] = attention_density(alpha, region_cover(test.causes, "face", size))
        return found

    def run(name: str, **options: bool) -> Mapping[str, Metrics]:
        net = train_head(lambda: lite_network(ARCH, EMOTIONS, **options), seed, len(train), draw_batch, STEPS)
        outs = outputs_of(net, features, masks)
        correct = is_correct(torch.cat([o.logits for o in outs]), labels)  # type: ignore[misc]
        learned = [k for k in outs[0].attention if options.get(SWITCHES[k.rpartition("_")[2]], True)]
        maps = {k: torch.cat([o.attention[k] for o in outs]) for k in learned}
        return {name: {"accuracy": correct, **attention_metrics(maps)}}

    def run_guesses() -> Mapping[str, Metrics]:
        """Attention that nobody learned: even, to the center, to what moves."""
        size = features["object"].shape[-2], features["object"].shape[-1]
        motion = test.targets["motion"][:, 0].float()  # (N, 6, 24, 24)
        moved = fn.adaptive_avg_pool2d(motion, size)
        flat = torch.ones_like(moved)
        bell_time, bell = (torch.exp(-0.5 * (torch.linspace(-1, 1, n) / 0.5) ** 2) for n in (6, size[0]))
        guesses = {
            "even": (flat.mean((2, 3)), flat),
            "centre": (bell_time.expand(len(test), -1), torch.outer(bell, bell).expand_as(moved)),
            "motion": (motion.mean((2, 3)), moved),
        }
        found = {}
        for name, (time, space) in guesses.items():
            time, space = time / time.sum(1, keepdim=True), space / space.sum((2, 3), keepdim=True)
            maps = {f"{s}_time": time for s in STREAMS} | {f"{s}_space": space for s in STREAMS}
            found[name] = attention_metrics(maps)
        return found

    yield ("both",), partial(run, "both")
    yield ("time alone",), partial(run, "time alone", use_spatial=False)
    yield ("place alone",), partial(run, "place alone", use_temporal=False)
    yield ("neither",), partial(run, "neither", use_temporal=False, use_spatial=False)
    yield ("even", "centre", "motion"), run_guesses


def attention_density(alpha: Tensor, cover: Tensor) -> Tensor:
    """Attention (N, h, w) on a region over the region's fraction of the image (N,); regions by :func:`region_cover`."""
    area = cover.mean((1, 2))
    return (alpha * cover).sum((1, 2)) / area.clamp(min=1e-6)


def region_cover(causes: Sequence[Cause], region: str, size: Sequence[int]) -> Tensor:
    """The fraction of each cell of a (h, w) grid that a region covers (N, h, w), 0 to 1.

    ``region``: ``cause``, ``decoys`` (the scene's other things) or ``face``.
    """
    cover = np.zeros((len(causes), *size), np.float32)
    for n, c in enumerate(causes):
        w, h = c.size
        if region == "face":
            boxes = [synthemo.course(c).boxes(c).mean(0)]
        else:
            spots = c.spots[:1] if region == "cause" else c.spots[1:]
            boxes = [np.array([x * w - r * h, (y - r) * h, x * w + r * h, (y + r) * h]) for x, y, r in spots]
        for x1, y1, x2, y2 in boxes:
            across = interval_cover(x1 / w, x2 / w, size[1])
            down = interval_cover(y1 / h, y2 / h, size[0])
            cover[n] = np.maximum(cover[n], np.outer(down, across))
    return torch.from_numpy(cover)


def interval_cover(low: float, high: float, cells: int) -> np.ndarray:
    """The fraction of each of equal cells of [0, 1] that lies between two numbers (cells,)."""
    edges = np.linspace(0, 1, cells + 1)
    return np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None) * cells


GUESSES = {"even": "even weights", "centre": "a bias to the centre", "motion": "motion energy"}
PARTS = {
    "both": "Attention over time and place",
    "time alone": "Attention over time",
    "place alone": "Attention over places",
}


def claims() -> Iterator[Claim]:
    for variant, part in PARTS.items():
        yield Claim(f"{part} beats plain averages", (variant, "accuracy"), ("neither", "accuracy"))
    for s in STREAMS:
        stream = f"{s.capitalize()} stream"
        yield from claims_against(f"{stream}: more mass in the burst than {{}}", "both", s + IN_BURST, GUESSES)
        yield Claim(
            f"{stream}: more mass in the burst than in clips where nothing is shown",
            ("both", s + IN_BURST),
            ("both", f"{s}{IN_BURST}, nothing shown"),
        )
    for s in ("object", "scene"):
        stream = f"{s.capitalize()} stream"
        yield from claims_against(f"{stream}: denser on the cause than {{}}", "both", s + ON_CAUSE, GUESSES)
        yield Claim(
            f"{stream}: denser on the cause than on things without meaning",
            ("both", s + ON_CAUSE),
            ("both", s + ON_OTHERS),
        )


EXPERIMENT = Experiment(
    "dfan",
    ARCH,
    runs,
    tuple(claims()),
    "dfan: the moment and the place of the cause",
    "Face and body act for a third of the clip; one thing in one place of the scene shows the emotion, among two "
    "things without meaning. Mass in the burst is the fraction of a stream's attention that lies on segments whose "
    "expression is at half its peak or more, in clips whose face and body show an emotion (nothing shown: in clips "
    "where both are neutral). Density is the fraction of attention on a region, divided by the fraction of the image "
    "that the region covers: 1 is even attention.",
)
