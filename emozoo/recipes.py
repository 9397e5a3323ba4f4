"""Recipes by name, composed: one part for the data, one for the model, and what is particular to the pair.

Parts are files for Lightning's command line, in ``benchmarks/recipes``: ``data/lfw5``, ``model/ceflnet``.
``index.yaml`` and ``weights.yaml`` beside these folders list the parts of every recipe, and the settings of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from emozoo.errors import UsageError
from emozoo.files import packaged

FOLDER = "benchmarks/recipes"


def names() -> list[str]:
    """The names of all recipes of the package, e.g. ``ceflnet__lfw5_v3``."""
    return sorted(_index())


def known(word: str) -> str | None:
    """The name of the recipe or part of the package that a word means; None for anything else.

    ``ceflnet__lfw5_v3``, ``data/lfw5`` and, as model cards write it, ``benchmarks/recipes/ceflnet__lfw5_v3.yaml``.
    A file of the user's own with such a name takes precedence.
    """
    folder, path = packaged(FOLDER), Path(word)
    if path.is_file() and folder.resolve() not in path.resolve().parents:
        return None
    name = word.removesuffix(".yaml").rpartition(f"{FOLDER}/")[2]
    part = Path(name).parent.as_posix() in ("data", "model") and (folder / f"{name}.yaml").is_file()
    return name if part or name in _index() else None


def read(*words: str) -> dict[str, Any]:
    """The settings of a recipe, or of recipes, parts and files in this order, as Lightning's command line takes them.

    A later part wins, key by key. Callbacks of the same class are one callback (ModelCheckpoints: of the same file
    name). Callbacks that a later part adds run before the others, SaveWeights after all. ``$RECIPE`` stands for the
    name of the recipe, ``$MODEL`` for that of its network. Raises UsageError for an unknown word.
    """
    plan: dict[str, Any] = {}
    for word in words:
        for part in _parts(word):
            plan = _merged(plan, part)
    name = known(words[0]) if len(words) == 1 else None
    title = name if name and "/" not in name else "+".join(Path(w).stem for w in words)
    plan = _filled(plan, {"$RECIPE": title, "$MODEL": str(plan.get("model", {}).get("model", "$MODEL"))})
    if title == name:
        for callback in plan["trainer"]["callbacks"]:
            if _kind(callback) == "SaveWeights":
                callback["init_args"]["recipe"] = f"{FOLDER}/{name}.yaml"
    return plan


def expand(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command line in which names of recipes and parts are replaced by their settings, and its ``--config`` words.

    Names that follow one another (``--config data/lfw5 --config model/ceflnet``) are read as one.
    """
    found: list[str] = []
    configs: list[str] = []
    together: list[str] = []

    def close() -> None:
        if together:
            found.extend(["--config", yaml.safe_dump(read(*together), sort_keys=False)])
            together.clear()

    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option not in ("--config", "-c"):
            close()
            found.append(word)
            continue
        value = value if equals else next(rest, "")
        configs.append(value)
        if known(value):
            together.append(value)
        else:
            close()
            found.extend(["--config", value])
    close()
    return found, configs


@cache
def _index() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in sorted(packaged(FOLDER).glob("*.yaml")):
        found |= yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


def _parts(word: str) -> list[dict[str, Any]]:
    name = known(word)
    if name not in _index():
        file = Path(word) if name is None else packaged(FOLDER) / f"{name}.yaml"
        if not file.is_file():
            raise UsageError(f"no recipe '{word}': index.yaml and weights.yaml in {packaged(FOLDER)} have their names")
        return [yaml.safe_load(file.read_text(encoding="utf-8"))]
    entry = _index()[name]
    own = {"parts": entry} if isinstance(entry, list) else dict(entry)
    return [part for other in own.pop("parts") for part in _parts(other)] + [own]


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    found = dict(old)
    for key, value in new.items():
        before = old.get(key)
        if key == "callbacks":
            value = _joined(before or [], value)
        elif isinstance(value, dict) and isinstance(before, dict):
            value = _merged(before, value)
        found[key] = value
    return found


def _joined(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Callbacks of an earlier and a later part."""

    def which(callback: dict[str, Any]) -> tuple[str, Any]:
        return _kind(callback), callback.get("init_args", {}).get("filename")

    later = {which(c): c for c in new}
    both = [_merged(c, later.pop(which(c), {})) for c in old]
    return sorted([*later.values(), *both], key=lambda c: _kind(c) == "SaveWeights")


def _kind(callback: dict[str, Any]) -> str:
    return str(callback["class_path"]).rpartition(".")[2]


def _filled(value: Any, words: dict[str, str]) -> Any:
    """A setting with ``$RECIPE`` and ``$MODEL`` replaced by the names that they stand for."""
    if isinstance(value, dict):
        return {_filled(k, words): _filled(v, words) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(v, words) for v in value]
    if isinstance(value, str):
        for word, name in words.items():
            value = value.replace(word, name)
    return value
