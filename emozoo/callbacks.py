"""Lightning callbacks: what a run does besides its steps."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from rich.progress import track

from emozoo import files
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.features import FeatureDataset
from emozoo.errors import UsageError


class FeatureCache(Callback):
    """Trains on cached features of a frozen encoder, which sees some augmented draws of each clip only once.

    Features lie below ``EMOZOO_HOME``, under a hash of encoder, spec, augmentation, labels and files: the next run that
    has the same finds them. With ``preload`` of the data, stills are decoded once for all draws.

    Args:
        draws: augmented draws of each training clip; an epoch trains on one of them. 0 caches nothing: every epoch
            decodes and encodes its clips.

    Raises UsageError for an encoder that learns, and for other data than an EmotionDataModule with the model's spec.
    """

    def __init__(self, draws: int = 4) -> None:
        if isinstance(draws, bool) or not isinstance(draws, int) or draws < 0:
            raise UsageError(f"FeatureCache: draws must be a whole number, 0 or more, got {draws!r}")
        self.draws = draws

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Before Lightning asks for the training loader, which it does as soon as there is an optimizer."""
        if stage == "fit" and self.draws:
            self._train_on_features(trainer, pl_module)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Once more where the checkpoint brings another encoder than the new module has; else from the cache."""
        if self.draws and trainer.training and not trainer.strategy.restore_checkpoint_after_setup:
            self._train_on_features(trainer, pl_module)

    def _train_on_features(self, trainer: L.Trainer, module: Any) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        if not isinstance(data, EmotionDataModule):
            raise UsageError("FeatureCache needs an EmotionDataModule: trainer.fit(model, datamodule=dm)")
        if data.spec.with_detector(module.spec.detector) != module.spec:
            raise UsageError("FeatureCache: the data have another ClipSpec than the model: make them with model.spec")
        data.train_on(self.features(module, data, trainer.strategy.root_device))
        module.train()

    def features(self, module: Any, data: EmotionDataModule, device: torch.device | str = "cpu") -> FeatureDataset:
        """The features that the encoder of a module makes of :meth:`EmotionDataModule.draws`, from the cache if there.

        ``data`` must be set up. The module is left in evaluation mode on ``device``.
        """
        if not module.encoder_is_frozen:
            raise UsageError("FeatureCache takes a frozen encoder: set lr_scale to 0 for its parts")
        parts = module.net.encoding
        encoder = {k: x for k, x in module.net.state_dict().items() if k.partition(".")[0] in parts}
        file = files.cache_folder() / "features" / f"{data.feature_key(encoder, self.draws)}.pt"
        if not file.is_file():
            module.to(device).eval()
            found = FeatureDataset()
            # Own random numbers: a run that finds the features goes on exactly like the one that makes them.
            with torch.random.fork_rng([]), torch.no_grad():
                torch.manual_seed(data.seed)
                for batch in track(data.draws(self.draws), "encoding"):
                    if batch is not None:
                        found.add(module.encode(batch.to(device)), batch)
            found.save(file)
        return FeatureDataset.load(file)
