"""How a module comes from weights, checkpoints and the hub, and how it is saved and published."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import Any, Self
from zipfile import BadZipFile

import torch
import yaml
from huggingface_hub import ModelHubMixin

from emozoo import files, hub, registry, settings, weights
from emozoo.card import card, private
from emozoo.errors import UsageError, WeightsError
from emozoo.models.backbones import portable
from emozoo.recognizer import Recognizer


def name_after_training(name: str) -> str:
    """The name of weights that were trained further: never the old name alone, which stands for another file."""
    if name.endswith(" (untrained)"):
        return name.replace(" (untrained)", " (trained here)")
    if name.endswith(("trained here)", "trained further)")):
        return name
    return f"{name[:-1]}, trained further)" if name.endswith(")") else f"{name} (trained further)"


class Pretrained(ModelHubMixin, Recognizer):
    """Reading, saving and publishing weights: the base of EmotionModule, its only subclass."""

    hparams: Any

    # -- reading ---------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(  # type: ignore[override]  # the mixin's arguments, without those of the network
        cls, pretrained_model_name_or_path: str | Path, *, revision: str | None = None,
        token: str | bool | None = None, cache_dir: str | Path | None = None, local_files_only: bool = False,
        force_download: bool = False, classes: Sequence[str] | None = None,
    ) -> Self:  # fmt: skip
        """The module of a name of weights, of a weights folder or file, or of a hub repository ``ORG/NAME``.

        The hash is checked, and pickles are never opened. ``revision``: a commit, tag or branch of the repository.
        ``token``, ``cache_dir``, ``local_files_only`` and ``force_download`` as in huggingface_hub; by default those of
        its environment, and the cache below ``EMOZOO_HOME``. ``classes`` as in :func:`emozoo.load`.
        """
        name = pretrained_model_name_or_path
        text = str(name)
        is_local = isinstance(name, Path) or Path(text).exists() or text.endswith(".safetensors")
        is_local = is_local or text.partition(".")[0] in registry.MODELS
        if is_local or text.count("/") != 1:
            if revision is not None:
                raise UsageError(f"{text} is no hub repository, so it has no revision: leave revision= out")
            return cls.from_weights(weights.find(name), classes)
        access = hub.Access(token, local_files_only, Path(cache_dir) if cache_dir else None, force_download)
        folder = hub.fetch(f"{hub.SCHEME}{text}@{revision or 'main'}", access=access)
        return cls.from_weights(weights.find(folder), classes)

    @classmethod
    def load_from_checkpoint(  # Lightning's own arguments are in ``more``
        cls, checkpoint_path: Any, map_location: Any = None, **more: Any
    ) -> Self:
        """Lightning's own, for checkpoints of any Trainer; ``name`` and ``sha256`` are those of the file.

        All parameters are in the checkpoint: files that training started from (``init_from``, encoder weights in
        ``options``) are not read again. Opens with ``weights_only``, so that no code of the file runs.
        """
        more = {"weights_only": True, "init_from": None, **more}
        file = Path(checkpoint_path) if isinstance(checkpoint_path, str | PathLike) else None
        with TemporaryDirectory() as folder:
            if file is not None and file.is_file():
                try:
                    stored = torch.load(file, map_location="cpu", weights_only=True, mmap=True)["hyper_parameters"]
                except (UnpicklingError, BadZipFile, EOFError, RuntimeError, ValueError, KeyError, TypeError) as error:
                    why = "cut off, not written by a Trainer, or would run code when it is opened"
                    raise WeightsError(f"{file}: no checkpoint that can be used: {why}") from error
                more.setdefault("options", portable(stored.get("options") or {}))
                if any(map(settings.new_name, stored)):  # written by version 0.1
                    more.setdefault("hparams_file", f"{folder}/hparams.yaml")
                    new = settings.with_new_names(stored, training=False)
                    Path(more["hparams_file"]).write_text(yaml.safe_dump(new), encoding="utf-8")
            module: Any = super().load_from_checkpoint(checkpoint_path, map_location, **more)  # type: ignore[misc]
        module.name = f"{module.arch} (checkpoint{f' {file.name}' if file is not None else ''})"
        if file is not None and file.is_file():
            with file.open("rb") as f:
                module.sha256 = hashlib.file_digest(f, "sha256").hexdigest()
        return module

    def init_sources(self) -> dict[Path, dict[str, str]]:
        """The files or weights folders of ``init_from``, each with the parts taken, ``{"theirs": "ours"}``."""
        given: str | Mapping[str, dict[str, str]] = self.hparams["init_from"] or {}
        if isinstance(given, str):
            given = {given: {"backbone": "backbone"}}
        return {weights.init_source(name): parts for name, parts in given.items()}

    # -- writing ---------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """The network and the scaling of its predictions for ``config.json``: plain types, no paths of the user's."""
        return {
            "schema": 1,
            "arch": self.arch,
            "tag": "",
            "wiring": self.wiring,
            "size": self.size,
            "classes": list(self.classes),
            "tasks": list(self.tasks),
            "options": portable(self.options),
            "spec": self.spec.to_dict(),
            "tau": self.loss_settings["tau"],
            "flips": self.flips,
            "log_prior": [round(float(x), 6) for x in self.log_prior] if self.classes else [],
            "temperature": round(float(self.temperature), 4),
            **({"prior": self.prior} if self.prior != "train" else {}),
        }

    def save(
        self, folder: str | Path, *, trained_on: str | None = None, licence: str | None = None, half: bool = False
    ) -> Path:
        """Writes a weights folder (safetensors, ``config.json``, model card), which :func:`emozoo.load` reads.

        Weights that were loaded and not changed keep their config, but no tag: a tag stands for one file. For all
        others config and card say that the training was not recorded; :class:`emozoo.callbacks.SaveWeights` records it.

        Args:
            folder: what to write; weights of this zoo in it are replaced.
            trained_on: one line about the data, which opens the card.
            licence: of the weights; default: that of the weights that these were loaded from, else Apache-2.0.
            half: store float16, half the size, at the cost of digits.

        Raises UsageError where the folder holds other files of these names.
        """
        folder = Path(folder)
        hub.check_replaceable(folder)
        state = {k: v.detach().float() if v.is_floating_point() else v for k, v in self.net.state_dict().items()}
        known = dict(self.config) if self._is_as_loaded() else {}
        known = {k: v for k, v in known.items() if k not in ("parts", "revision", "sha256")}
        origin = f"data that were not recorded, from {private(self.name)}" if self.config else None
        trained = "data of the user" if "trained" in self.name.partition(" (")[2].replace("untrained", "") else None
        config = {
            "limits": [],
            "recipe": "",
            **known,
            **self.describe(),
            "trained_on": trained_on or known.get("trained_on") or origin or trained or "nothing that was recorded",
            "licence": licence or self.config.get("licence") or "Apache-2.0",
            "versions": known.get("versions") or files.versions(),
        }
        hub.save(folder, state, config, card(config), half=half)
        return folder

    def _is_as_loaded(self) -> bool:
        """Whether the file that weights were loaded from is still there, and holds the present parameters."""
        if self._origin is None:
            return False
        try:
            stored = weights.read(self._origin).state
        except WeightsError:
            return False
        own = self.net.state_dict()
        return own.keys() == stored.keys() and all(torch.equal(own[k].cpu(), v) for k, v in stored.items())

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory)

    def push_to_hub(  # the mixin's arguments, but for those that would publish other files
        self, repo_id: str, *, private: bool | None = None, token: str | None = None,
        commit_message: str | None = None, **unused: Any,
    ) -> str:  # fmt: skip
        """Publishes weights, config and card as one commit, checked as ``emozoo push`` does.

        Returns ``hf://ORG/NAME@COMMIT``, which :func:`emozoo.load` takes. Raises UsageError, WeightsError.
        """
        if unused := {k: v for k, v in unused.items() if v is not None}:
            raise UsageError(f"push_to_hub publishes three files on main, without {', '.join(unused)}")
        with TemporaryDirectory() as folder:
            self.save(folder)
            return hub.push(Path(folder), repo_id, private=bool(private), token=token, message=commit_message)
