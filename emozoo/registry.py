"""Names to models and weights. Pure data; imports no torch until :func:`build_network` is called.

Names are ``arch`` or ``arch.tag``. A tag such as ``faces7_v3`` is immutable; ``faces7`` (its newest version) and the
bare architecture (its default tag) are aliases that :func:`resolve` turns into the full name.
"""

from __future__ import annotations

import difflib
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from emozoo import files
from emozoo.errors import UnknownModelError, UsageError
from emozoo.papers import MODELS, ModelSpec
from emozoo.spec import ClipSpec

# "ORG/{name}", one repository per tag, once there is a hub account; the revisions stand in the tags' config.json
# (docs/hub.md). None: weights that are not in the package cannot be had.
HUB_REPO: str | None = None

# What weights can have been trained on (``material`` in their config.json), and how it is called for readers.
MATERIALS = {
    "recordings": "recordings of people",
    "photographs": "photographs of people",
    "things": "photographs of things",
    "composed": "clips composed of photographs and recordings",
    "drawn": "drawn people",
}


@dataclass(frozen=True)
class Weights:
    """One immutable weights tag, read from ``checkpoints/<arch>.<tag>/config.json``.

    ``revision`` is the 40-hex commit on the hub (None: not on a hub), ``config`` the whole file.
    """

    arch: str
    tag: str
    sha256: str
    licence: str
    classes: tuple[str, ...]
    wiring: str
    size: str
    trained_on: str
    revision: str | None
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.arch}.{self.tag}"

    @property
    def material(self) -> tuple[str, ...]:
        """Keys of :data:`MATERIALS`: what these weights and the encoders they share were trained on, most of it first.

        Empty: not recorded.
        """
        return tuple(self.config.get("material") or ())

    @property
    def seen(self) -> str:
        """What these weights have seen, for readers: ``photographs of people``."""
        return seen(self.material)

    @property
    def tasks(self) -> tuple[str, ...]:
        """What these weights predict: ``emotion``, ``va`` or both; maybe more than their paper's network does."""
        return tuple(self.config.get("tasks") or MODELS[self.arch].tasks)


def seen(material: Sequence[str]) -> str:
    """Keys of :data:`MATERIALS` for readers: ``recordings of people, photographs of people``."""
    return ", ".join(MATERIALS.get(m, m) for m in material) or "not recorded"


def register(spec: ModelSpec) -> None:
    """Adds an architecture of yours: from then on every function and command of this process knows its name.

    Call it where your package is imported. Raises UsageError for a name that stands for another model or encoder.
    """
    if MODELS.get(spec.name, spec) != spec or any(w.arch == spec.name for w in encoders().values()):
        raise UsageError(f"there is a model or encoder '{spec.name}' already: choose another name")
    MODELS[spec.name] = spec
    weights.cache_clear()
    encoders.cache_clear()


def _nearest(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.4)
    return f"; did you mean '{close[0]}'?" if close else f"; there are {', '.join(choices)}"


def model(arch: str) -> ModelSpec:
    """The architecture of that name. Raises UnknownModelError with the nearest one."""
    if arch not in MODELS:
        raise UnknownModelError(f"no model '{arch}'{_nearest(arch, list(MODELS))}")
    return MODELS[arch]


def wiring_and_size(arch: str, wiring: str | None = None, size: str | None = None) -> tuple[str, str]:
    """Validated wiring and size of an architecture, defaults filled in (``stable``, ``full``)."""
    spec = model(arch)
    wiring = wiring or spec.default_wiring
    size = size or "full"
    if wiring in spec.missing:
        raise UnknownModelError(f"{arch} has no wiring '{wiring}': {spec.missing[wiring]}")
    if wiring not in spec.wirings:
        raise UnknownModelError(f"{arch} has no wiring '{wiring}'{_nearest(wiring, list(spec.wirings))}")
    if size not in spec.sizes:
        raise UnknownModelError(f"{arch} has no size '{size}'{_nearest(size, list(spec.sizes))}")
    return wiring, size


@cache
def _tagged() -> dict[str, Weights]:
    """Every folder of weights in the package, by full name."""
    found = {}
    for folder in sorted(files.packaged("checkpoints").iterdir(), key=lambda p: p.name):
        config = folder / "config.json"
        if config.is_file():
            data = json.loads(config.read_text(encoding="utf-8"))
            entry = Weights(
                arch=data["arch"],
                tag=data["tag"],
                sha256=data["sha256"],
                licence=data["licence"],
                classes=tuple(data["classes"]),
                wiring=data["wiring"],
                size=data["size"],
                trained_on=data["trained_on"],
                revision=data.get("revision"),
                config=data,
            )
            found[entry.name] = entry
    return found


@cache
def weights() -> dict[str, Weights]:
    """Every weights tag of a model that this installation knows, by full name."""
    return {name: entry for name, entry in _tagged().items() if entry.arch in MODELS}


@cache
def encoders() -> dict[str, Weights]:
    """Weights of encoders alone, by full name: parts that models start from (``init_from``) and share."""
    return {name: entry for name, entry in _tagged().items() if entry.arch not in MODELS}


def _version(tag: str) -> tuple[str, int]:
    stem, _, number = tag.rpartition("_v")
    return (stem, int(number)) if stem and number.isdigit() else (tag, 0)


def resolve(name: str) -> tuple[ModelSpec, Weights | None]:
    """The architecture and the exact weights that a name stands for; None for the weights where there are none yet.

    A bare architecture stands for its default tag, a tag without version for its newest one.

    Raises UnknownModelError with the nearest known name.
    """
    arch, _, tag = name.partition(".")
    if arch not in MODELS:
        raise UnknownModelError(f"no model '{name}'{_nearest(name, list(MODELS) + list(weights()))}")
    spec = MODELS[arch]
    tags = {w.tag: w for w in weights().values() if w.arch == arch}
    if not tag:
        return spec, tags.get(spec.default_tag or "")
    if tag in tags:
        return spec, tags[tag]
    versions = [t for t in tags if _version(t)[0] == tag]
    if versions:
        return spec, tags[max(versions, key=_version)]
    known = [f"{arch}.{t}" for t in tags]
    raise UnknownModelError(f"no weights '{name}'" + (_nearest(name, known) if known else f"; {arch} has none yet"))


def check_request(entry: Weights, wiring: str | None, size: str | None) -> None:
    """Raises UsageError for a wiring or size that contradicts what the weights were trained with."""
    for word, asked, have in (("wiring", wiring, entry.wiring), ("size", size, entry.size)):
        if asked is not None and asked != have:
            raise UsageError(
                f"{entry.name} has {word} '{have}', not '{asked}': drop {word}=, "
                f"or ask for an untrained {entry.arch} with weights=None"
            )


def network_class(arch: str) -> Any:
    """The class of an architecture's network; its file is imported here, by the name that its entry has."""
    module, _, name = model(arch).network.partition(":")
    return getattr(importlib.import_module(module), name)


def build_network(arch: str, wiring: str, size: str, classes: Sequence[str], options: Mapping[str, Any]) -> Any:
    """The :class:`emozoo.models.network.Network` of an architecture.

    ``options`` replace keyword arguments of wiring and size. Raises UsageError for options that the network does not
    take.
    """
    keywords = {**model(arch).keywords(wiring, size), **options}
    network = network_class(arch)
    try:
        return network(len(classes) or None, **keywords)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{arch} with {', '.join(f'{k}={v!r}' for k, v in options.items()) or size}: {error}"
        ) from error


def clip_spec(arch: str, size: str, changes: Mapping[str, Any] | None = None) -> ClipSpec:
    """The ClipSpec of an architecture at a size; ``changes`` replaces fields of it, or all of it (a stored dict)."""
    base = model(arch).specs[size]
    if not changes:
        return base
    if "streams" in changes:
        return ClipSpec.from_dict(changes)
    unknown = set(changes) - set(base.to_dict())
    if unknown:
        raise UsageError(f"ClipSpec has no field {', '.join(sorted(unknown))}")
    return replace(base, **changes)
