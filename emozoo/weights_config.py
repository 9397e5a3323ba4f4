"""``config.json`` of weights that came from somebody else: checked before anything is built from it."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emozoo import files, hub, labels, registry, weights_file
from emozoo.errors import EmozooError, UsageError, WeightsError
from emozoo.spec import ClipSpec

MOST_TEXT, MOST_SIDE, MOST_LIST = 10_000, 65_536, 256
MOST_TAU, MOST_TEMPERATURE = 10.0, 1000.0  # more than training makes (emozoo.losses), less than float32 overflows at
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MOST_TEXT and not files.has_controls(value)


def _name(value: Any) -> bool:
    """A word that may stand in the name of a file: nothing that leads into another folder."""
    return _text(value) and len(value) <= 100 and not re.search(r"[/\\]|\.\.|[\n\t]", value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= labels.MOST_CLASSES and all(map(_text, value))


def _classes(value: Any) -> bool:
    return isinstance(value, list) and labels.class_fault(value) is None


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _log_share(value: Any) -> bool:
    """The logarithm of a share of the items, times a factor of 10 at most, which calibration puts on it."""
    return _finite(value) and abs(value) <= 1000


def _count(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _table(value: Any) -> bool:
    return isinstance(value, dict)


def _or_none(kind: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or kind(value)


# Every key that this version writes or has ever written, and what its value must be.
KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "schema": (lambda v: v == 1 and not isinstance(v, bool), "1"),
    **dict.fromkeys(("arch", "wiring", "size", "tag"), (_name, "a name")),
    "classes": (
        _classes,
        f"a list of at most {labels.MOST_CLASSES} different names of one line, none a column of our tables",
    ),
    "tasks": (lambda v: _texts(v) and set(v) <= {"emotion", "va"}, "a list of 'emotion' and 'va'"),
    "options": (_table, "a table"),
    "spec": (_table, "a table"),
    "tau": (lambda v: _finite(v) and 0 <= v <= MOST_TAU, f"a number from 0 to {MOST_TAU:g}"),
    "flips": (_flag, "true or false"),
    "log_prior": (
        lambda v: isinstance(v, list) and len(v) <= labels.MOST_CLASSES and all(map(_log_share, v)),
        "logarithms",
    ),
    "temperature": (
        lambda v: _finite(v) and 1 / MOST_TEMPERATURE <= v <= MOST_TEMPERATURE,
        f"a number from {1 / MOST_TEMPERATURE:g} to {MOST_TEMPERATURE:g}",
    ),
    "prior": (lambda v: v in ("train", "uniform"), "'train' or 'uniform'"),
    "sha256": (lambda v: isinstance(v, str) and _SHA256.fullmatch(v) is not None, "64 hexadecimal digits"),
    "parts": (_table, "a table"),
    "revision": (_or_none(_name), "a commit"),
    **dict.fromkeys(("trained_on", "licence", "precision", "selected"), (_text, "text")),
    **dict.fromkeys(("recipe", "control_of", "control", "source", "source_sha256"), (_or_none(_text), "text")),
    **dict.fromkeys(("material", "limits"), (_or_none(_texts), "a list of lines")),
    **dict.fromkeys(("n_train", "epochs", "steps", "seed", "processes"), (_count, "a whole number")),
    "train_seconds": (_or_none(_finite), "a number"),
    "versions": (lambda v: isinstance(v, dict) and all(map(_text, v.values())), "a table of texts"),
    **dict.fromkeys(("settings", "changed", "resumed", "best_on_test"), (_or_none(_table), "a table")),
}
NEEDED = ("arch", "wiring", "size", "classes", "spec", "sha256")


def check(path: Path, config: Mapping[str, Any]) -> None:
    """Raises WeightsError, one line, where a config is not one of this zoo, or asks for what no network has.

    Its keys are those that this version knows; names stand for what the registry has, options for arguments of that
    network; sizes and lengths are bounded. Nothing in it names code, a file or a folder. Raises UnknownModelError for
    an architecture that nobody registered.
    """
    check_keys(path, config, NEEDED)
    n, priors = len(config["classes"]), len(config.get("log_prior") or config["classes"])
    if n != priors:
        raise WeightsError(f"{path}: {n} classes, but {priors} priors")
    try:
        registry.wiring_and_size(config["arch"], config["wiring"], config["size"])
        ClipSpec.from_dict(config["spec"])
        _check_options(config["arch"], config.get("options") or {})
    except UsageError as error:
        raise type(error)(f"{path}: {error}") from error


def check_keys(path: Path, config: Mapping[str, Any], needed: Sequence[str] = ("arch", "classes", "sha256")) -> None:
    """The part of :func:`check` that weights of an encoder alone must pass, too: known keys, with values of their kind.

    Raises WeightsError.
    """
    if missing := [k for k in needed if k not in config]:
        raise WeightsError(f"{path}: lacks {', '.join(missing)}: not a config of this zoo, or damaged")
    if unknown := [k for k in config if k not in KEYS]:
        raise WeightsError(
            f"{path}: {unknown[0][:60]!a} is no key that this version knows; what it means for predictions is not "
            "known: update emozoo, or take the key out"
        )
    for key, value in config.items():
        fits, what = KEYS[key]
        if not fits(value):
            raise WeightsError(f"{path}: {key} must be {what}, got {str(value)[:60]!a}")
    try:
        hub.parts(config)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def _check_options(arch: str, options: Mapping[str, Any]) -> None:
    takes = inspect.signature(registry.network_class(arch)).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    names = [n for n, p in takes.items() if p.kind is p.KEYWORD_ONLY and not n.endswith("_weights")]
    for name in options:
        if name not in names and not (anything and name.isidentifier() and not name.endswith("_weights")):
            raise UsageError(f"its option {str(name)[:60]!a} is none of {arch}; it takes {', '.join(names)}")
    todo = list(options.values())
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            todo += [*value.keys(), *value.values()]
            fits = len(value) <= MOST_LIST
            depth = [v for k, v in value.items() if isinstance(v, int) and "layers" in k]
            fits = fits and all(v <= 200 for v in depth)
        elif isinstance(value, list):
            todo += value
            fits = len(value) <= MOST_LIST
        elif isinstance(value, str):
            fits = len(value) <= 200 and not files.has_controls(value) and not value.startswith("hf:")
        elif isinstance(value, bool) or value is None:
            fits = True
        else:
            fits = abs(value) <= MOST_SIDE  # NaN is not
        if not fits:
            raise UsageError(f"{str(value)[:60]!a} in its options is too large, or names a file")


def network_shapes(path: Path, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of the parameters, by name, of the network that a config describes; it is built without memory.

    Raises WeightsError where none can be built.
    """
    import torch

    try:
        with torch.device("meta"):
            net = registry.build_network(
                config["arch"], config["wiring"], config["size"], config["classes"], config.get("options") or {}
            )
    except EmozooError as error:
        raise WeightsError(f"{path}: {error}") from error
    except Exception as error:  # what a network does with options that nobody tried
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        raise WeightsError(f"{path}: no {config['arch']} can be built from it ({why})") from error
    return {k: tuple(v.shape) for k, v in net.state_dict().items()}


def check_sizes(paths: Iterable[Path], own: Mapping[str, tuple[int, ...]]) -> None:
    """Raises WeightsError, before they are read, for files that are larger than a network with these parameters."""
    most = weights_file.MOST_HEADER + 8 * sum(map(math.prod, own.values()))
    for path in paths:
        if path.is_file() and path.stat().st_size > most:
            raise WeightsError(f"{path}: {path.stat().st_size:,} bytes; the network of its config has {most:,} at most")


def check_fits(
    path: Path, config: Mapping[str, Any], own: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Raises WeightsError where a network, its parameters of shapes ``own``, has others than its file, ``shapes``."""
    if odd := sorted(k for k in own.keys() | shapes.keys() if own.get(k) != shapes.get(k)):
        raise WeightsError(
            f"{path}: does not fit {config['arch']} ({config['wiring']}, {config['size']}); first keys: "
            f"{', '.join(odd[:5])}"
        )
