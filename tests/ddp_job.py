"""One process of the plain Lightning runs of test_distributed.py: Lightning's own Trainer with Lightning's defaults.

    python ddp_job.py TABLE OUT DEVICES STRATEGY

Started by hand, by Lightning's launcher or by torchrun. Each process writes what it saw to ``OUT/<rank>.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from emozoo.batch import Batch
from emozoo.data.datamodule import EmotionDataModule
from emozoo.module import EmotionModule


class Seen(L.Callback):
    """Writes down the items of every batch, and of training what its augmented images sum up to."""

    def __init__(self) -> None:
        self.found: dict[str, list[Any]] = {"train": [], "validate": [], "test": [], "predict": []}

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Batch, *_: Any) -> None:
        self.found["train"].append([trainer.current_epoch, batch.meta["id"], float(batch.inputs["face"].sum())])

    def on_validation_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, *_: Any) -> None:
        self.found["validate"] += [] if batch is None else batch.meta["id"]

    def on_test_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, *_: Any) -> None:
        self.found["test"] += [] if batch is None else batch.meta["id"]

    def on_predict_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, *_: Any) -> None:
        self.found["predict"] += [] if batch is None else batch.meta["id"]


def main(table: str, out: Path, devices: int, strategy: str) -> None:
    def new() -> tuple[EmotionModule, EmotionDataModule, Seen]:
        L.seed_everything(0, verbose=False)
        module = EmotionModule("emotion_fan", size="lite", classes=["bright", "dark"])
        dm = EmotionDataModule(
            "csv", table, spec=module.spec, classes=module.classes, batch_size=4, augment={"face": {"light": 0.5}}
        )
        return module, dm, Seen()

    def trainer(seen: Seen, *callbacks: L.Callback, **options: Any) -> L.Trainer:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        saves = any(isinstance(c, ModelCheckpoint) for c in callbacks)
        return L.Trainer(
            accelerator="cpu", devices=devices, strategy=strategy, enable_checkpointing=saves, num_sanity_val_steps=0,
            callbacks=[seen, *callbacks], **{"max_epochs": 2, **quiet, **options},
        )  # fmt: skip

    runs: dict[str, Any] = {}
    module, dm, seen = new()
    run = trainer(seen)
    runs["metrics"] = run.test(module, dm, verbose=False)[0]
    run.predict(module, dm, return_predictions="spawn" not in strategy)
    rank = run.global_rank
    if "spawn" in strategy:  # what the processes saw stays with them: the metrics are all that comes back
        (out / f"{rank}.json").write_text(json.dumps(runs))
        return
    runs["evaluated"] = seen.found
    # Training: as it comes, and as a run whose Trainer does not look at samplers at all.
    for name, options in (("fit", {}), ("ours", {"use_distributed_sampler": False})):
        module, dm, seen = new()
        trainer(seen, **options).fit(module, dm)
        runs[name] = seen.found
    # In the middle of an epoch, and on.
    saved = ModelCheckpoint(out / "saved", filename="last", every_n_train_steps=3, enable_version_counter=False)
    module, dm, seen = new()
    trainer(seen, saved, max_steps=3).fit(module, dm)
    module, dm, seen = new()
    trainer(seen).fit(module, dm, ckpt_path=str(out / "saved" / "last.ckpt"), weights_only=True)
    runs["resumed"] = seen.found
    (out / f"{rank}.json").write_text(json.dumps(runs))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
