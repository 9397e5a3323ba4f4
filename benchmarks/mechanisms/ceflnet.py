"""CEFLNet: the clip in which the expression happens.

Legend: N = videos, B = batch, C = clips of a video, D = width of a clip's vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from emozoo.models.layers import masked_max, masked_softmax
from emozoo.synthemo import EMOTIONS

from .clips import FACE, Inputs, TaskClips, Tensors, bursts_and_decoys
from .experiment import Claim, Experiment, Metrics, Run, claims_against, is_correct, only_where
from .heads import lite_network, logits_of, outputs_of, train_head

ARCH, STEPS = "ceflnet", 150
# The paper's seven overlapping clips, on the thirty frames of a drawn one; three frames are taken of the six of each.
CLIPS, LENGTH, STRIDE, TAKEN = 7, 6, 4, 3
CHOSEN, FOOLED = "chosen clip in the burst", "chosen clip on a decoy alone"
LOSS = "loss of belief without the chosen clip"
LOSS_OTHER = "loss of belief without another clip"


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


def runs(clips: TaskClips, seed: int) -> Iterator[Run]:
    """An expression in a third of the video, among short movements without meaning."""
    train, test = clips.train, clips.test
    starts = STRIDE * torch.arange(CLIPS).unsqueeze(1)
    frames = starts + torch.arange(LENGTH)[:: LENGTH // TAKEN]  # (7, 3)
    features, masks = at_frames(test.first_draws(), (slice(None), frames, 0))
    labels = test.targets["emotion"]
    burst, decoy = (torch.stack(x) for x in zip(*(bursts_and_decoys(c, frames) for c in test.causes), strict=True))
    expressive = (test.shown_in(FACE) != EMOTIONS.index("neutral")) & burst.any(1) & ~burst.all(1)
    fooling = expressive & decoy.any(1)
    each = torch.arange(len(test))

    def draw_batch(rows: Tensor, g: torch.Generator) -> Any:
        inputs = train.inputs(rows, torch.randint(train.draws, rows.shape, generator=g))
        at = torch.rand(len(rows), CLIPS, LENGTH, generator=g).argsort(-1)[..., :TAKEN].sort(-1).values + starts
        return *at_frames(inputs, (torch.arange(len(rows))[:, None, None], at, 0)), {
            "emotion": train.targets["emotion"][rows]
        }

    def build(pooling: str) -> nn.Module:
        net: Any = lite_network(ARCH, pooling=pooling if pooling in ("mean", "max") else "activation")
        if pooling in ("feature norm", "random"):
            net.activation = GivenSaliency(pooling)
        return net

    def lost_belief(net: nn.Module, logits: Tensor) -> Tensor:
        """By how much the true class loses probability when one clip is left out (N, C)."""
        belief = logits.softmax(1)[each, labels]
        drops = []
        for c in range(CLIPS):
            rest = masks["face"].clone()
            rest[:, c] = False
            drops.append(belief - logits_of(net, features, {"face": rest}).softmax(1)[each, labels])
        return torch.stack(drops, 1)

    def run(pooling: str) -> Mapping[str, Metrics]:
        net = train_head(partial(build, pooling), seed, len(train), draw_batch, STEPS)
        logits = logits_of(net, features, masks)
        correct = is_correct(logits, labels)
        found: Metrics = {"accuracy": correct, "accuracy, expressive": only_where(expressive, correct)}
        if pooling != "mean":
            chosen = clip_saliency(net, features, masks).argmax(1)
            found[CHOSEN] = only_where(expressive, burst[each, chosen])
            found[FOOLED] = only_where(fooling, decoy[each, chosen])
            lost = lost_belief(net, logits)
            found[LOSS] = only_where(expressive, lost[each, chosen])
            found[LOSS_OTHER] = only_where(expressive, (lost.sum(1) - lost[each, chosen]) / (CLIPS - 1))
        return {pooling: found}

    for pooling in ("activation", "mean", "max", "feature norm", "random"):
        yield (pooling,), partial(run, pooling)
    chance: Metrics = {
        CHOSEN: only_where(expressive, burst.float().mean(1)),
        FOOLED: only_where(fooling, decoy.float().mean(1)),
    }
    yield ("chance",), lambda: {"chance": chance}


def at_frames(inputs: Inputs, index: tuple[Any, ...]) -> Inputs:
    """Clips cut out of features of single frames."""
    return {"face": inputs[0]["face"][index]}, {"face": inputs[1]["face"][index]}


@torch.no_grad()
def clip_saliency(net: Any, features: Tensors, masks: Tensors) -> Tensor:
    """The weight of each clip (N, C): its attention where there is one, else the fraction of maxima that it gives."""
    if net.pooling == "activation":
        return torch.cat([out.attention["clip_attention"] for out in outputs_of(net, features, masks)])
    v, _ = net.encoder(features["face"].flatten(0, 1), masks["face"].flatten(0, 1))
    winner = v.unflatten(0, features["face"].shape[:2]).argmax(1)  # (N, D)
    return fn.one_hot(winner, features["face"].shape[1]).float().mean(1)


CONTROLS = {"mean": "the mean", "max": "the maximum", "feature norm": "weights by norm", "random": "random weights"}
WITH_SALIENCY = {"chance": "chance"} | {k: v for k, v in CONTROLS.items() if k != "mean"}
EXPERIMENT = Experiment(
    "ceflnet",
    ARCH,
    runs,
    (
        *claims_against("Weights by activation are more accurate than {}", "activation", "accuracy", CONTROLS),
        *claims_against("Activation finds the burst more often than {}", "activation", CHOSEN, WITH_SALIENCY),
        Claim("Activation chooses a decoy less often than chance", ("chance", FOOLED), ("activation", FOOLED)),
        Claim(
            "The true class loses more without the chosen clip than without another",
            ("activation", LOSS),
            ("activation", LOSS_OTHER),
        ),
    ),
    "ceflnet: the clip in which the expression happens",
    "The expression lasts 0.7 of 2.4 seconds, among two short movements without meaning (decoys). Seven overlapping "
    "clips of six frames; a clip is in the burst when the expression is at half its peak or more in one of its frames. "
    "All variants pool by the paper's formula except mean and max; feature norm and random only replace the learned "
    "query. Where the chosen clip lies is counted where the face shows an emotion.",
)
