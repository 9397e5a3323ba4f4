"""One training process of test_distributed.py: a few full-batch steps of every model, started once or by torchrun.

    python distributed_job.py OUT ARCH[:FLAG,...] ...

Writes the weights after training to ``OUT/<arch>.safetensors``. Batch norm and dropout stand still: one sees its own
process's items only, the other draws in each process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader

from emozoo import registry
from emozoo.batch import Batch
from emozoo.data.loading import Strided
from emozoo.module import EmotionModule

ITEMS, STEPS = 4, 3
CLASSES = ["calm", "angry", "happy"]


class Still(L.Callback):
    """Holds batch norm and dropout."""

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        for part in pl_module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm | nn.Dropout):
                part.eval()
            elif isinstance(part, nn.MultiheadAttention):
                part.dropout = 0.0


def make(arch: str, **more: Any) -> EmotionModule:
    """A lite network on few clips, with the losses that its recipes use."""
    L.seed_everything(0, verbose=False)
    flood = 1.0 if arch == "caer_cross_attention" else 0.0
    settings: dict[str, Any] = {
        "optimizer": {"name": "sgd", "weight_decay": 0.01}, "schedule": {"name": "constant", "warmup": 0.0}, "lr": 0.05,
    } | more  # fmt: skip
    return EmotionModule(arch, size="lite", classes=CLASSES, spec={"clips": 2}, loss={"flood": flood}, **settings)


def items(module: EmotionModule, batch_size: int, rank: int = 0, world: int = 1) -> DataLoader[Any]:
    """Four items of noise, some of them masked, split between the processes."""
    draw = torch.Generator().manual_seed(1)
    spec, clips = module.spec, module.spec.clips
    inputs, masks = {}, {}
    for name, s in spec.streams.items():
        shape = (s.frames, *s.size) if s.source == "audio" else (s.frames, 3, *s.size)
        inputs[name] = torch.randn(ITEMS, clips, *shape, generator=draw)
        masks[name] = torch.ones(ITEMS, clips, s.frames, dtype=torch.bool)
    last = list(spec.streams)[-1]
    masks[last][0, 1] = False
    inputs[last][0, 1] = 0.0
    targets = {
        "emotion": torch.tensor([0, 1, 2, 1]),
        "va": torch.rand(ITEMS, clips, 2, generator=draw) * 2 - 1,
        "va_mask": torch.tensor([True, True, False, True])[:, None].expand(ITEMS, clips),
    }

    def collate(ids: list[int]) -> Batch:
        parts = [{k: x[ids] for k, x in part.items()} for part in (inputs, masks, targets)]
        return Batch(*parts, {"id": [str(i) for i in ids]})

    sampler = Strided(ITEMS, rank, world)
    return DataLoader(range(ITEMS), batch_size=batch_size, sampler=sampler, collate_fn=collate)  # type: ignore[arg-type]


def trainer(**more: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(
        accelerator="cpu",
        enable_checkpointing=False,
        use_distributed_sampler=False,
        callbacks=[Still()],
        **quiet,
        **more,
    )


def main(out: Path, jobs: list[str]) -> None:
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    for job in jobs:
        arch, _, frozen = job.partition(":")
        module = make(arch, lr_scale={frozen: 0.0} if frozen else None)
        strategy = "ddp" if world > 1 else "auto"
        run = trainer(max_steps=STEPS, devices=world if world > 1 else 1, strategy=strategy)
        run.fit(module, items(module, ITEMS // world, rank, world))
        if rank == 0:
            save_file(module.net.state_dict(), out / f"{arch}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(registry.MODELS))
