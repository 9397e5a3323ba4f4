"""Training: Lightning's own command line for recipes, and fine-tuning on a folder of class folders or a CSV."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from emozoo import hub, registry
from emozoo.data import datasets
from emozoo.data.datamodule import EmotionDataModule
from emozoo.errors import DatasetError, UsageError
from emozoo.models.backbones import portable
from emozoo.module import EmotionModule, clip_spec, load

STILL_AUGMENT: dict[str, Any] = {
    "flip": 0.5,
    "rotate": 10.0,
    "scale": 0.12,
    "shift": 0.06,
    "light": 0.3,
    "tint": 0.3,
    "erase": 0.2,
}
CLIP_AUGMENT: dict[str, Any] = {"flip": 0.5, "rotate": 8.0, "scale": 0.1, "shift": 0.05, "light": 0.3, "tint": 0.2}


class SaveWeights(Callback):
    """Writes a weights folder (safetensors, config, model card) when training ends.

    Args:
        folder: where to; ``<arch>.<tag>`` is appended when a tag is given.
        tag: immutable name of these weights, e.g. ``faces7_v1``.
        trained_on: one line about the data; it opens the model card. Synthetic or composed data must say so.
        licence: of the weights.
        half: store float16, half the size.
        recipe: the committed recipe that made them.
        control_of, control: for controls: whose, and what was taken away.
        limits: further lines for the card.
        calibrate: fit the temperature on the validation part.
        spec: fields of the ClipSpec that prediction uses otherwise than training did: a network that looks at every
            frame alone may train on single frames (``clips: 1``) and answer for several.
    """

    def __init__(
        self,
        folder: str,
        tag: str | None = None,
        trained_on: str = "data of the user",
        licence: str = "Apache-2.0",
        half: bool = True,
        recipe: str = "",
        control_of: str | None = None,
        control: str | None = None,
        limits: list[str] | None = None,
        spec: dict[str, Any] | None = None,
        calibrate: bool = False,
    ) -> None:
        self.spec, self.calibrate = spec or {}, calibrate
        self.folder, self.tag, self.trained_on, self.licence, self.half = Path(folder), tag, trained_on, licence, half
        self.recipe, self.control_of, self.control, self.limits = recipe, control_of, control, limits or []
        self.seconds, self.started = 0.0, 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds + (time.monotonic() - self.started if self.started else 0.0)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = float(state_dict["seconds"])

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False):
            return
        assert isinstance(pl_module, EmotionModule)
        h = pl_module.hparams
        name = f"{pl_module.arch}.{self.tag}" if self.tag else None
        dm = trainer.datamodule  # type: ignore[attr-defined]
        if self.calibrate and dm is not None and dm.val_rows and pl_module.classes:
            pl_module.calibrate(dm.val_dataloader())
        config = {
            "schema": 1,
            "arch": pl_module.arch,
            "tag": self.tag or "",
            "wiring": pl_module.wiring,
            "size": pl_module.size,
            "classes": list(pl_module.classes),
            "tasks": list(pl_module.tasks),
            "options": portable(h["options"] or {}),
            "spec": {**pl_module.spec.to_dict(), **self.spec},
            "tau": h["tau"],
            "log_prior": [round(float(x), 6) for x in pl_module.log_prior] if pl_module.classes else [],
            "temperature": round(float(pl_module.temperature), 4),
            "trained_on": self.trained_on,
            "licence": self.licence,
            "control_of": self.control_of,
            "control": self.control,
            "limits": self.limits,
            "recipe": self.recipe,
            "revision": None,
            "n_train": len(dm.train_rows) if dm is not None else None,
            "epochs": trainer.max_epochs,
            "steps": trainer.global_step,
            "seed": int(os.environ.get("PL_GLOBAL_SEED", 0)),
            "precision": str(trainer.precision),
            "train_seconds": round(self.state_dict()["seconds"], 1),
            "versions": hub.versions(),
        }
        folder = self.folder / name if name else self.folder
        state = pl_module.net.state_dict()
        hub.save(folder, state, config, card(config), half=self.half)


def card(config: Mapping[str, Any]) -> str:
    """A model card (Markdown) that opens with what the weights were trained on."""
    name = f"{config['arch']}.{config['tag']}" if config["tag"] else config["arch"]
    spec = registry.model(config["arch"])
    lines = [
        "---",
        f"license: {config['licence'].lower()}",
        "library_name: emozoo",
        "tags: [emotion-recognition, video]",
        "---",
        f"Trained on {config['trained_on']}.",
        "",
        f"# {name}",
        "",
        f"{spec.title}. {spec.paper}. {spec.note}".strip(),
        "",
        f"- Wiring `{config['wiring']}`, size `{config['size']}`. "
        f"Classes in order: {', '.join(config['classes']) or 'none'}.",
        f"- Answers: {', '.join(config['tasks'])}. Streams: {', '.join(config['spec']['streams'])}. "
        f"Face detector: `{config['spec']['detector']}`.",
        f"- {config['n_train']} training items, {config['epochs']} epochs, seed {config['seed']}, "
        f"precision {config['precision']}, "
        f"{config['train_seconds'] / 60:.0f} minutes. Recipe: `{config['recipe'] or 'not recorded'}`.",
    ]
    if config.get("control_of"):
        what = f"{config['control']} instead of the attention of `{config['control_of']}`"
        lines.append(f"- A control, not a model to use: {what}.")
    lines += [
        "",
        "## Measured",
        "",
        "<!-- generated:card -->",
        "not measured",
        "<!-- /generated -->",
        "",
        "## Limits",
        "",
        *[f"- {x}" for x in config["limits"]],
        "- A face, a voice or a scene shows how somebody looks or sounds, not what they feel. Expressions differ "
        "between people, cultures, ages and situations; errors are not spread evenly over them.",
        "- Not for decisions about people. Inferring emotions of people at work or in education is prohibited in the "
        "European Union (AI Act, Article 5(1)(f)).",
        "",
    ]
    return "\n".join(lines)


class EmozooCLI(LightningCLI):
    """Lightning's CLI with one rule: the data module reads what the model eats."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments(
            ("model.model", "model.size", "model.spec"), "data.spec", compute_fn=_spec_of, apply_on="parse"
        )
        parser.link_arguments("model.classes", "data.classes", apply_on="parse")
        parser.set_defaults({"trainer.logger": False, "trainer.enable_model_summary": False})


def _spec_of(model: str, size: str, changes: dict[str, Any] | None) -> dict[str, Any]:
    return json.loads(json.dumps(clip_spec(model, size, changes).to_dict()))  # lists, as a YAML file would have them


def train(argv: list[str]) -> int:
    """``emozoo train ARGV``: Lightning's command line gets every argument unchanged; ``fit`` is implied."""
    words = argv if argv and argv[0] in ("fit", "validate", "test") else ["fit", *argv]
    if any(w in ("-h", "--help") for w in argv) and words[0] == "fit" and argv[0] != "fit":
        words = ["fit", "--help"]
    EmozooCLI(EmotionModule, EmotionDataModule, args=words, seed_everything_default=0, save_config_callback=None)
    return 0


def finetune(
    name: str,
    data: str | Path,
    out: str | Path,
    *,
    epochs: int | None = None,
    batch_size: int = 16,
    lr: float = 1e-3,
    num_workers: int = 0,
    seed: int = 0,
    device: str = "auto",
    resume: bool = True,
) -> dict[str, Any]:
    """Fits a model with weights to a user's own classes; the folder ``out`` then loads in ``predict --model out``.

    Data: a folder of class folders (videos, pictures, frame folders) or a CSV. Without a split column, 20 % of the
    items are held out by group. Clips are decoded once into memory; the encoder learns at a tenth of the head's rate.
    A killed run goes on from ``out/last.ckpt``.

    Returns ``{"folder", "classes", "n_train", "n_val", "val_WAR", "val_UAR"}``. Raises DatasetError, UsageError.
    """
    out, data = Path(out), Path(data)
    kind = "csv" if data.is_file() else "folder"
    manifest = datasets.load(kind, data)
    if len(manifest.classes) < 2:
        raise DatasetError(
            f"{data}: fine-tuning needs at least two classes, found {len(manifest.classes)}; make one folder per class"
        )
    L.seed_everything(seed, verbose=False)
    start = load(name, classes=manifest.classes)
    config = start.config
    stills = all(r.path.lower().endswith((".jpg", ".jpeg", ".png", ".bmp", ".webp")) for r in manifest.rows)
    augment = {
        s: dict(STILL_AUGMENT if stills else CLIP_AUGMENT) for s, x in start.spec.streams.items() if x.source != "audio"
    }
    dm = EmotionDataModule(
        kind, data, spec=start.spec, classes=manifest.classes, val_share=0.0, augment=augment, batch_size=batch_size,
        num_workers=num_workers, preload=1 if stills else 2, seed=seed,
    )  # fmt: skip
    dm.setup("fit")
    if not dm.val_rows:
        dm.val_rows = dm.test_rows
    if not dm.train_rows:
        raise DatasetError(f"{data}: no item is left for training; give each class at least two items")
    batch_size = dm.batch_size = max(2, min(batch_size, len(dm.train_rows)))
    steps = max(1, len(dm.train_rows) // batch_size)
    # Small sets see enough steps to fit a new head, large ones a few epochs.
    epochs = epochs or max(4, min(30, 240 // steps))
    head = {k.partition(".")[0] for k in start.head_keys()}
    encoder = {p: 0.1 for p, _ in start.net.named_children() if p not in head}
    module = EmotionModule(
        start.arch, start.wiring, start.size, list(manifest.classes), config.get("options"), start.spec.to_dict(),
        lr=lr, lr_scale=encoder, tau=1.0, smoothing=0.05,
    )  # fmt: skip
    module.net.load_state_dict(start.net.state_dict())
    origin = f"{config['arch']}.{config['tag']}" if config.get("tag") else str(name)
    save = SaveWeights(
        str(out),
        trained_on=f"{len(dm.train_rows)} items of {len(manifest.classes)} classes of the user's own, from {origin}",
        licence=config["licence"],
        half=False,
    )
    checkpoint = ModelCheckpoint(
        dirpath=out, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu" if device == "cpu" else "auto",
        devices=1,
        logger=False,
        enable_model_summary=False,
        callbacks=[save, checkpoint, TQDMProgressBar(leave=False)],
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=out,
        check_val_every_n_epoch=epochs,
    )
    last = out / "last.ckpt"
    trainer.fit(module, dm, ckpt_path=str(last) if resume and last.is_file() else None, weights_only=True)
    found = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val_")}
    return {
        "folder": str(out),
        "classes": list(manifest.classes),
        "n_train": len(dm.train_rows),
        "n_val": len(dm.val_rows),
        "val_WAR": found.get("val_WAR"),
        "val_UAR": found.get("val_UAR"),
    }


__all__ = ["EMAWeightAveraging", "EmozooCLI", "SaveWeights", "UsageError", "card", "finetune", "train"]
