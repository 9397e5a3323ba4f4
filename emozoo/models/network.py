"""Network: what every paper of this zoo promises, so that one training, one benchmark and one prediction serve all.

Legend: B batch, C clips, F frames in a clip, K classes; audio windows have M mel bins and S steps (samples: M = 1).

A network is a plain ``nn.Module`` in two parts, and knows nothing of data sets, losses or Lightning:

    features = net.encode(inputs, masks)      streams -> features by stream: encoders, often frozen or pretrained
    output   = net.head(features, masks)      features -> Output: what the paper is about
    output   = net(inputs, masks)             one after the other

``inputs`` holds a tensor for each stream of the network's ClipSpec: images (B, C, F, 3, H, W), audio (B, C, 1, M, S),
normalised. ``masks`` holds (B, C, F) bool for each of them, True = real; None means that all is real.

Four rules, which ``tests/models/test_networks.py`` checks on every network of the registry:

1. What is masked changes nothing, exactly, whatever stands there; a stream, or everything, may be masked. The
   functions in ``layers.py`` (``encode_masked``, ``masked_mean``, ``masked_softmax`` ...) keep this rule.
2. In evaluation a sample's output does not depend on its neighbours in the batch.
3. ``head`` needs nothing but features and masks, and no parameter of the parts in ``encoding``: features of a frozen
   encoder are computed once and stored.
4. Every parameter that asks for gradients gets one: a network builds only what its options use.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple, Self

from torch import Tensor, nn

Masks = Mapping[str, Tensor] | None


class Output(NamedTuple):
    """What every network returns.

    ``logits`` (B, K) at least float32, or None without classes; ``va`` (B, C, 2) valence and arousal, not clipped, or
    None; ``attention``: named maps, each documented by its network with shape and sum.
    """

    logits: Tensor | None
    va: Tensor | None
    attention: dict[str, Tensor]


class Network(nn.Module, ABC):
    """The base of every network. The constructor of each takes the number of classes first, all else by keyword.

    Args:
        num_classes: K, for emotion logits; None builds no class head, which only a network with ``va`` may.
        va: predicts valence and arousal.

    Raises:
        ValueError: for less than one class, or where neither classes nor ``va`` leave the network a task.

    Attributes:
        encoding: names of the parts that ``encode`` runs; ``head`` uses all others.
        backbones: names of the parts whose parameters are counted apart, as papers with fixed encoders count.
        per_frame: ``encode`` treats every frame alone and gives (B, C, F, ...): a still is then encoded once.
        fixed_length: takes only the number of clips that it was built for; all others take any number.
        freeze: the parts in ``encoding`` are never trained, as :class:`EncoderNet` sees to.
        num_classes, va, tasks: what it was built to predict.
    """

    encoding: tuple[str, ...] = ()
    backbones: tuple[str, ...] = ()
    per_frame: bool = False
    fixed_length: bool = False
    freeze: bool = False

    def __init__(self, num_classes: int | None, *, va: bool = False) -> None:
        if num_classes is not None and num_classes < 1:
            raise ValueError(f"num_classes must be 1 or more, or None for no class head; got {num_classes}")
        if num_classes is None and not va:
            raise ValueError("there must be a task: give num_classes, or va=True where the network has regressors")
        super().__init__()
        self.num_classes, self.va = num_classes, va

    @abstractmethod
    def encode(self, inputs: Mapping[str, Tensor], masks: Masks = None) -> dict[str, Tensor]:
        """Features by stream; each network documents their shapes, which begin with (B, C)."""

    @abstractmethod
    def head(self, features: Mapping[str, Tensor], masks: Masks = None) -> Output:
        """The output for features of :meth:`encode`, or for such that were made elsewhere."""

    def forward(self, inputs: Mapping[str, Tensor], masks: Masks = None) -> Output:
        return self.head(self.encode(inputs, masks), masks)

    @property
    def tasks(self) -> tuple[str, ...]:
        """``emotion``, ``va`` or both: what the output holds."""
        return (("emotion",) if self.num_classes else ()) + (("va",) if self.va else ())


class EncoderNet(Network):
    """A network whose encoders, one for each stream, count apart and, with ``freeze``, stay as they are.

    Frozen means frozen: no gradients, and evaluation mode whatever :meth:`train` asks, so that batch statistics and
    dropout do not move either.
    """

    encoding = ("encoders",)
    backbones = ("encoders",)

    def __init__(
        self, num_classes: int | None, encoders: Mapping[str, nn.Module], *, va: bool = False, freeze: bool = True
    ) -> None:
        super().__init__(num_classes, va=va)
        self.encoders, self.freeze = nn.ModuleDict(encoders), freeze
        if freeze:
            self.encoders.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.freeze:
            self.encoders.eval()
        return self


def count_parameters(net: Network) -> tuple[int, int]:
    """(parameters, backbone parameters) as the papers' tables count them; their sum is all that the network has."""
    apart = sum(p.numel() for name in net.backbones for p in net.get_submodule(name).parameters())
    return sum(p.numel() for p in net.parameters()) - apart, apart
