"""Settings of a training run: what of them is recorded with weights, how two runs differ, and their old names."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import count
from typing import Any

from emozoo.card import private
from emozoo.errors import UsageError

# Settings that only say where things go, or what is shown on the way.
_NOT_RECORDED = {
    "trainer": {
        "default_root_dir", "logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing",
        "log_every_n_steps", "num_sanity_val_steps", "profiler", "fast_dev_run", "barebones", "use_distributed_sampler",
        "enable_autolog_hparams",
    },
    "data": {"spec", "classes", "num_workers"},  # the model's own, and a matter of speed
    "SaveWeights": {"folder", "tag", "trained_on", "material", "licence", "recipe", "control_of", "control", "limits"},
}  # fmt: skip
_NO_PART = {"config", "ckpt_path", "weights_only", "verbose", "return_predictions", "subcommand"}


def recorded(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a whole configuration that determine the weights: of model, data, trainer and callbacks."""
    found: dict[str, Any] = {}
    for part, values in config.items():
        if part in _NO_PART or values is None:
            continue
        if isinstance(values, Mapping):
            left_out = _NOT_RECORDED.get(part, set()) | ({"callbacks"} if part == "trainer" else set())
            values = {k: v for k, v in values.items() if v is not None and k not in left_out and not k.startswith("_")}
        found[part] = private(values)
    callbacks: dict[str, Any] = {}
    given = (config.get("trainer") or {}).get("callbacks") or []
    for callback in [given] if isinstance(given, Mapping) else given:
        name, values = callback["class_path"].rpartition(".")[2], dict(callback.get("init_args") or {})
        if name == "ModelCheckpoint":
            values = {k: values.get(k) for k in ("monitor", "mode")}  # the rest says what is written, and where
        key = next(f"{name}{f'.{i}' if i else ''}" for i in count() if f"{name}{f'.{i}' if i else ''}" not in callbacks)
        skip = _NOT_RECORDED.get(name, set())
        callbacks[key] = private({k: v for k, v in values.items() if v is not None and k not in skip})
    if callbacks:
        found["callbacks"] = callbacks
    return found


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The differences between two settings, ``{"model.lr": [0.001, 0.0003]}``; None stands for a setting not set."""

    def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in values.items():
            found |= flat(value, f"{above}{key}.") if isinstance(value, Mapping) and value else {f"{above}{key}": value}
        return found

    old, new = flat(before), flat(after)
    return {k: [old.get(k), new.get(k)] for k in dict.fromkeys([*old, *new]) if old.get(k) != new.get(k)}


# -- arguments of EmotionModule under their names of version 0.1 ------------------------------------------------------

_GROUPED = {
    "tau": "loss", "smoothing": "loss", "flood": "loss", "va_weight": "loss",
    "weight_decay": "optimizer", "decay_all": "optimizer",
    "warmup": "schedule", "period": "schedule", "gamma": "schedule",
}  # fmt: skip
_GONE = {"final_lr": 0.0, "flood_mode": "ishida"}  # with the value that they now always have
_TO_CALLBACK = "is an argument of the callback emozoo.callbacks.Distillation(teacher, weight)"


def new_name(old: str) -> str | None:
    """What became of an old argument of EmotionModule, as the end of a sentence; None for words that never were one."""
    if old in _GROUPED:
        return f"is now {_GROUPED[old]}.{old}"
    if old in ("teacher", "distill"):
        return _TO_CALLBACK
    if old == "init_parts":
        return "is part of init_from now: {weights: {theirs: ours}}"
    return "is gone" if old in _GONE else None


def renamed(now: Mapping[str, Any], old: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of the arguments ``now``, in order, with those that came under old names put in; warns of these.

    Raises TypeError for arguments that there never were, UsageError for those that cannot be translated.
    """
    if unknown := [name for name in old if new_name(name) is None]:
        raise TypeError(f"EmotionModule has no argument {', '.join(unknown)}")
    for name in old:
        group = now.get(_GROUPED.get(name, ""))
        if isinstance(group, Mapping) and name in group:
            raise UsageError(f"EmotionModule: {name}= {new_name(name)}: give it once")
    told = "; ".join(f"{name}= {new_name(name)}" for name in old)
    warnings.warn(f"EmotionModule: {told}", DeprecationWarning, stacklevel=3)
    new = with_new_names({**now, **old})
    return tuple(new[name] for name in now)


def with_new_names(given: Mapping[str, Any], *, training: bool = True) -> dict[str, Any]:
    """Arguments of EmotionModule in which old ones stand under their new names.

    ``training``: False drops those that cannot be translated, for checkpoints; else they raise UsageError.
    """
    new = {k: v for k, v in given.items() if new_name(k) is None}
    for name in ("optimizer", "schedule"):
        if isinstance(new.get(name), str):
            new[name] = {"name": new[name]}
    defaults = {"loss": {}, "optimizer": {"name": "adamw"}, "schedule": {"name": "cosine"}}
    for old, value in given.items():
        if old in new:
            continue
        if old in _GROUPED:
            group = _GROUPED[old]
            if (group, value) != ("schedule", None):
                new[group] = {**(new.get(group) or defaults[group]), old: value}
        elif old == "init_parts":
            if value and isinstance(new.get("init_from"), str):
                new["init_from"] = {new["init_from"]: value}
        elif training and value not in (None, 0, 0.0, _GONE.get(old)):
            raise UsageError(f"{old}= of EmotionModule {new_name(old)}")
    return new
