"""The clips of each architecture's task as features of its frozen encoders, and what was drawn in them.

Legend: N = clips, D = augmented draws of a clip, B = batch, C = clips of a network, F = frames.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as fn

from emozoo import files, recipes, synthemo
from emozoo.benchmark import suite
from emozoo.callbacks import FeatureCache
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.features import FeatureDataset
from emozoo.data.manifest import Row
from emozoo.module import EmotionModule
from emozoo.synthemo import EMOTIONS, Cause

GROUPS = 10  # of people: each holds four of the forty test people
FACE, SCENE, VOICE, ACTION = range(4)  # the views of Cause.shows
# The fraction of the recipe's training clips that is used, and how many augmented draws of each.
TRAINING = {
    "recursive_joint_attention": (1.0, 4),
    "ceflnet": (0.6, 1),
    "dfan": (1.0, 4),
    "caer_cross_attention": (1.0, 4),
}

Tensors = dict[str, Tensor]
Inputs = tuple[Tensors, Tensors]  # of a head: features and masks by stream


@dataclass
class Clips:
    """Features of N clips by the frozen encoders, with the cause of each: what was drawn in it.

    ``features`` and ``masks`` by stream (N, D, ...); ``targets``: ``emotion`` (N,), ``va`` (N, D, C, 2), ``va_mask``
    (N, D, C); for test clips ``frames_<stream>`` (N, D, C, F), indices into the file, and ``motion`` (N, D, C, 24, 24).
    """

    causes: list[Cause]
    features: Tensors
    masks: Tensors
    targets: Tensors

    def __len__(self) -> int:
        return len(self.causes)

    @property
    def draws(self) -> int:
        """D."""
        return next(iter(self.features.values())).shape[1]

    @property
    def groups(self) -> np.ndarray:
        """The group of people of each clip (N,), 0 to 9."""
        return np.array([c.person // 10 % GROUPS for c in self.causes])

    def inputs(self, rows: Tensor, draws: Tensor) -> Inputs:
        """Features and masks of the clips ``rows`` (B,), each in one of its draws (B,)."""
        features = {k: x[rows, draws].float() for k, x in self.features.items()}
        return features, {k: x[rows, draws] for k, x in self.masks.items()}

    def first_draws(self) -> Inputs:
        """Features and masks of every clip's first draw: of test clips the only one, without augmentation."""
        return self.inputs(torch.arange(len(self)), torch.zeros(len(self), dtype=torch.long))

    def shown_in(self, view: int) -> Tensor:
        """The emotion that a view shows, as a class number (N,)."""
        return torch.tensor([EMOTIONS.index(c.shows[view]) for c in self.causes])

    def where(self, chosen: Tensor) -> Clips:
        """The clips for which ``chosen`` (N,) is True."""
        causes = [c for c, yes in zip(self.causes, chosen.tolist(), strict=True) if yes]
        parts = ({k: x[chosen] for k, x in part.items()} for part in (self.features, self.masks, self.targets))
        return Clips(causes, *parts)


class TaskClips(NamedTuple):
    """Clips that heads learn from, clips of other people that temperatures are fitted on, and the test clips."""

    train: Clips
    held_out: Clips
    test: Clips


def without_stream(features: Tensors, masks: Tensors, stream: str) -> Inputs:
    """The same inputs as if a stream were missing."""
    return features | {stream: torch.zeros_like(features[stream])}, masks | {stream: torch.zeros_like(masks[stream])}


def rows_by_number(numbers: Tensor) -> dict[int, Tensor]:
    """The rows of ``numbers`` (N,) that hold each number."""
    return {int(c): torch.nonzero(numbers == c).flatten() for c in numbers.unique()}


def draw_rows(rows: Mapping[int, Tensor], wanted: Tensor, generator: torch.Generator) -> Tensor:
    """A random row for each wanted number (B,), from :func:`rows_by_number`."""
    return torch.stack([rows[c][torch.randint(len(rows[c]), (), generator=generator)] for c in wanted.tolist()])


def bursts_and_decoys(cause: Cause, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Two bool tensors (C,) for clips of frames (C, F): the expression is at half its peak or more in the clip; only a
    decoy moves the face there. A decoy is a short movement without meaning, found by comparing with a course that has
    none.
    """
    course = synthemo.course(cause)
    calm = synthemo.course(replace(cause, knobs=replace(cause.knobs, decoys=0)))
    strength = torch.from_numpy(course.strength)
    moved = torch.from_numpy(np.abs(course.units - calm.units).max(1))
    burst = (strength >= 0.5 * strength.max())[frames].any(1)
    return burst, (moved[frames] >= 0.3).any(1) & ~burst


# -- features: made once, then read ------------------------------------------------------------------------------------


def load_clips(arch: str, workers: int) -> TaskClips:
    """The clips of an architecture's task through its frozen encoders: from the cache, or drawn and encoded now."""
    recipe = recipes.read(f"{arch}__synthemo")
    if not Path(recipe["model"]["init_from"]).is_dir():
        recipe["model"]["init_from"] = f"{arch}.synth_v1"  # the same encoders, in half precision
    module = EmotionModule(**recipe["model"]).eval()
    knobs = suite.TASKS[arch]
    train_file, test_file = cache_files(arch, module)
    spec = module.spec
    if arch == "ceflnet":  # every frame alone, so that clips can be cut anywhere
        face = replace(spec.streams["face"], frames=1)
        spec = replace(spec, streams={"face": face}, clips=30, sampling="segments")
    if not train_file.is_file():
        fraction, draws = TRAINING[arch]
        root = suite.prepare(
            arch, clips=suite.TRAINING_CLIPS, seed=suite.TRAINING_SEED, split="train",
            out=Path("runs/synthemo") / arch, workers=workers,
        )  # fmt: skip
        settings = recipe["data"] | {"root": root, "num_workers": workers, "subset": fraction}
        data = EmotionDataModule(**settings, spec=spec, classes=module.classes)
        data.setup("fit")
        encoded = FeatureCache(draws).features(module, data)
        write_features(train_file, encoded, data.train_rows)
    if not test_file.is_file():
        data = EmotionDataModule(
            "synthemo", suite.prepare(arch, workers=workers), spec=spec, classes=module.classes, split="test"
        )
        data.setup("test")
        write_features(test_file, encode_test_clips(module.eval(), data.test_dataloader()), data.test_rows)
    learned = read_features(train_file, partial(synthemo.plan, suite.TRAINING_SEED, knobs=knobs, split="train"))
    test = read_features(test_file, partial(synthemo.plan, suite.SEED, knobs=knobs, split="test"))
    held_out = torch.tensor([c.person % 10 == 0 for c in learned.causes])
    return TaskClips(learned.where(~held_out), learned.where(held_out), test)


def cache_files(arch: str, module: EmotionModule) -> tuple[Path, Path]:
    """The cache files of the features of training and of test clips, named by a hash of all that decides them."""
    settings = (
        synthemo.VERSION, suite.TASKS[arch], suite.TRAINING_CLIPS, suite.TRAINING_SEED, suite.CLIPS, suite.SEED,
        *TRAINING[arch],
    )  # fmt: skip
    key = hashlib.sha256(repr(settings).encode())
    net: Any = module.net
    for name, value in net.state_dict().items():
        if name.partition(".")[0] in net.encoding:
            key.update(name.encode() + value.numpy().tobytes())
    stem = files.cache_folder() / "features" / f"mechanisms_{key.hexdigest()[:24]}"
    return Path(f"{stem}_train.pt"), Path(f"{stem}_test.pt")


@torch.no_grad()
def encode_test_clips(module: EmotionModule, batches: Any) -> FeatureDataset:
    """The features of test clips, with the numbers of the frames that were read and the motion energy in them."""
    encoded = FeatureDataset()
    for batch in batches:
        batch.targets |= {f"frames_{k}": x for k, x in batch.meta["frames"].items()}
        if "action" in batch.inputs:
            moves = batch.inputs["action"].diff(dim=2).abs().mean((2, 3))  # (B, C, H, W)
            batch.targets["motion"] = fn.adaptive_avg_pool2d(moves, 24)
        encoded.add(module.encode(batch), batch)
    return encoded


def write_features(file: Path, encoded: FeatureDataset, rows: Sequence[Row]) -> None:
    """Writes the features as whole tensors, with the numbers that their clips were drawn by."""
    features, masks, targets = (
        {k: torch.stack([torch.stack([d[i][k] for d in encoded.draws[r]]) for r in encoded.rows]) for k in part}
        for i, part in enumerate(encoded.draws[encoded.rows[0]][0])
    )
    targets["emotion"] = targets["emotion"][:, 0]  # the same in every draw
    numbers = [int(Path(rows[r].path).stem) for r in encoded.rows]
    buffer = io.BytesIO()
    torch.save({"numbers": numbers, "features": features, "masks": masks, "targets": targets}, buffer)
    file.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(file, buffer.getvalue())


def read_features(file: Path, plan: Callable[..., Cause]) -> Clips:
    """What :func:`write_features` wrote, with the cause of each clip, which ``plan`` makes from its number."""
    stored = torch.load(file, weights_only=True)
    causes = [plan(number) for number in stored.pop("numbers")]
    return Clips(causes, **stored)
