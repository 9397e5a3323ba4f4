"""Train with a Lightning Trainer of your own, on a folder of class folders.

python examples/train_lightning.py
torchrun --nproc-per-node 2 examples/train_lightning.py        the same on two processes

The folder is made here, of small drawn images; put your own in its place: my_clips/<class>/<videos and images>.
"""

# %% The data: two classes of images that differ in brightness

import os
from pathlib import Path

import cv2
import lightning as L
import numpy as np
import torch

import emozoo

root, classes = Path("runs/train_lightning"), ["calm", "happy"]
if int(os.environ.get("LOCAL_RANK", 0)) == 0:  # the others wait for this process when training begins
    for k, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(30):
            image = np.random.default_rng(i).normal(70 + 90 * k, 25, (64, 64, 3)).clip(0, 255)
            cv2.imwrite(str(root / name / f"{i}.png"), image.astype(np.uint8))

# %% The model and the data module: `spec` says which frames, crops and sizes the network takes

L.seed_everything(0)
model = emozoo.load("emotion_fan", classes=classes)  # trained encoder, new head
dm = emozoo.EmotionDataModule("folder", root, spec=model.spec, classes=classes, batch_size=8)

# %% The Trainer: any logger, callback, precision, strategy and number of devices

devices = int(os.environ.get("WORLD_SIZE", 1))  # of torchrun; Trainer(devices=2) starts processes by itself
trainer = L.Trainer(max_epochs=3, accelerator="cpu", devices=devices, logger=False, enable_checkpointing=False)
trainer.fit(model, datamodule=dm)

# %% Scores of the held-out fifth: each item counts once, however many processes share them

(scores,) = trainer.test(model, datamodule=dm)
predictions = trainer.predict(model, datamodule=dm)  # one dictionary a batch
count = trainer.strategy.reduce(torch.tensor(sum(len(batch["id"]) for batch in predictions)), reduce_op="sum")
if trainer.is_global_zero:
    print(f"tested {count} of {len(dm.test_rows)} items, accuracy {scores['test_WAR']:.2f}")

# %% The weights: `emozoo.load("my_model")` and `emozoo predict --model my_model` read this folder

if trainer.is_global_zero:
    model.save("runs/train_lightning_model")
