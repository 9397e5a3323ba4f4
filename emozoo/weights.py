"""Weights that a name, a path or a hub address stands for, read and verified, before any module is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from torch import Tensor, nn

from emozoo import files, hub, registry, weights_config, weights_file
from emozoo.errors import UnknownModelError, UsageError, WeightsError
from emozoo.files import resolve_path
from emozoo.labels import canonical


class Source(NamedTuple):
    """Where weights lie: a weights folder, and the file that was named where it is not the folder's own."""

    folder: Path
    file: Path | None = None


class Found(NamedTuple):
    """Weights that were read.

    Attributes:
        config: the ``config.json`` beside them.
        state: their tensors by parameter name.
        name: what they are called: ``arch.tag``, a hub address with its commit, or the path.
        file: the safetensors file.
        known: the config describes these very weights, not others of the same network.
        source: where they were found.
    """

    config: dict[str, Any]
    state: dict[str, Tensor]
    name: str
    file: Path
    known: bool
    source: Source


def find(
    name: str | Path, *, weights: str | Path | None = None, wiring: str | None = None, size: str | None = None
) -> Found:
    """The weights of a registry name, a weights folder, a safetensors file or a hub address, hash verified.

    ``weights``: a folder or file that holds the weights for the architecture ``name``. ``wiring`` and ``size`` must not
    contradict the weights'. Raises UnknownModelError, UsageError, or WeightsError.
    """
    source = source_of(name)
    if source is None and weights is not None:
        source = source_of(weights) or no_such_folder(Path(weights))
    if source is not None:
        check_folder(source.folder, None if weights is None else str(name), wiring, size)
        return read(source)
    entry = registry.resolve(str(name))[1]
    if entry is None:
        raise WeightsError(f"{name} has no weights yet: train it, or ask for an untrained network with weights=None")
    registry.check_request(entry, wiring, size)
    return read(Source(hub.locate(entry)), entry)


# The part of a config that describes the network, whatever its weights are.
_NETWORK = ("schema", "arch", "wiring", "size", "classes", "tasks", "options", "spec", "tau", "flips")


def read(source: Source, entry: registry.Weights | None = None) -> Found:
    """Reads the weights of a folder or registry entry, or the named file in a folder; hashes are checked.

    A named file whose hash is not the one in the config holds other weights of that network: its config then has the
    description of the network alone, without prior, temperature, data and licence.
    """
    folder, file = source
    if entry is not None:  # its hash is that of the package
        config = dict(entry.config)
        state = hub.read_state(folder, entry.sha256)
    else:
        config, where = _checked_config(folder), file or folder / hub.WEIGHTS
        needed = None if _is_encoder(config) else weights_config.network_shapes(where, config)
        if needed is not None:
            weights_config.check_sizes([where, *hub.shared_files(folder).values()], needed)
        state = hub.read_state(folder, file=file)
        if needed is not None:
            shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
            weights_config.check_fits(where, config, needed, shapes)
    if file is not None:
        digest = files.sha256_of_file(file)
        known = digest == config["sha256"]
        if not known:
            config = {k: v for k, v in config.items() if k in _NETWORK}
            config |= {"tag": "", "trained_on": "data that were not recorded", "licence": "other", "limits": []}
        return Found({**config, "sha256": digest}, state, str(file), file, known, source)
    tagged = f"{config['arch']}.{config['tag']}" if config.get("tag") else ""
    released = registry.weights().get(tagged)
    own = bool(tagged) and (released is None or hub.same_meaning(released.config, config))
    name = (entry is None and hub.published_as(folder)) or (tagged if own else str(folder))
    return Found(config, state, name, folder / hub.WEIGHTS, True, source)


def source_of(name: str | Path) -> Source | None:
    """Where the weights of a path or hub address lie; None for names of the registry."""
    if isinstance(name, str) and name.startswith(hub.SCHEME):
        return Source(hub.fetch(name))
    path = Path(name)
    if isinstance(name, str) and name.partition(".")[0] in registry.MODELS:
        try:  # a registry name stands for the same weights in every directory
            registry.resolve(name)
            return None
        except UnknownModelError:
            if not path.exists():
                return None
    if path.is_dir():
        return Source(path)
    if path.is_file() or path.suffix in (".safetensors", *weights_file.PICKLES):
        if path.suffix != ".safetensors" or not path.is_file():
            hub.read_weights(path, None)  # raises the error that says what is wrong with the file
        folder = folder_of(path)
        if folder is None:
            raise WeightsError(f"{path}: no {hub.CONFIG} beside it, so its network is not known")
        return Source(folder, None if path == folder / hub.WEIGHTS else path)
    if "/" in str(name) or isinstance(name, Path):
        no_such_folder(path)
    return None


def folder_of(file: Path) -> Path | None:
    """The weights folder whose ``config.json`` describes a file: the file's own, or that of the file it links to.

    Where both have a config, the one that names the file's hash counts, else the nearer one. None: no config.
    """
    found = [f for f in dict.fromkeys((file.parent, file.resolve().parent)) if (f / hub.CONFIG).is_file()]
    if len(found) > 1:
        digest = files.sha256_of_file(file)
        found.sort(key=lambda f: hub.read_config(f).get("sha256") != digest)
    return found[0] if found else None


def check_folder(folder: Path, name: str | None, wiring: str | None, size: str | None) -> None:
    """Refuses a folder whose config is incomplete, or that holds another network than was asked for."""
    config = _checked_config(folder)
    weights_config.check(folder / hub.CONFIG, config)
    if name is not None and registry.model(name.partition(".")[0]).name != config["arch"]:
        raise UsageError(f"{folder} holds weights of {config['arch']}, not of {name}")
    for word, asked in (("wiring", wiring), ("size", size)):
        if asked is not None and asked != config[word]:
            raise UsageError(f"{folder} has {word} '{config[word]}', not '{asked}': drop {word}=")


def _checked_config(folder: Path) -> dict[str, Any]:
    """The config of a folder that may be a stranger's. Its files are its own: none is a link to another place."""
    hub.check_links(folder, [hub.CONFIG])
    config = hub.read_config(folder)
    check = weights_config.check_keys if _is_encoder(config) else weights_config.check
    check(folder / hub.CONFIG, config)
    hub.check_links(folder, hub.files_of(folder))
    return config


def _is_encoder(config: Mapping[str, Any]) -> bool:
    """Whether a config describes weights of an encoder alone, which training starts from and ``load`` refuses."""
    arch = config.get("arch")
    return "spec" not in config and not (isinstance(arch, str) and arch in registry.MODELS)


def no_such_folder(path: Path) -> NoReturn:
    raise UnknownModelError(
        f"{path}: no such weights folder; give a folder written by training, or a name from `emozoo list`"
    )


# -- weights that training starts from -----------------------------------------------------------------------------


def init_source(name: str) -> Path:
    """The folder or file that training starts from: of a name of weights or of an encoder, a hub address, or a path."""
    if name.startswith(hub.SCHEME):
        return hub.fetch(name)
    if name in registry.encoders():
        return hub.locate(registry.encoders()[name])
    path = resolve_path(name)
    if name.partition(".")[0] in registry.MODELS:
        try:
            entry = registry.resolve(name)[1]
        except UnknownModelError:
            if not path.exists():
                raise
        else:
            if entry is None:
                raise WeightsError(f"{name} has no weights yet, so nothing can start from it")
            return hub.locate(entry)
    if not path.exists() and path.name in registry.weights():
        raise WeightsError(f"{path}: no such weights; a name works in every folder: init_from: {path.name}")
    return path


def rows_by_name(classes: Sequence[str], named: Sequence[str]) -> list[int] | None:
    """The number of each class among those that weights name; None where one is not there.

    Names are compared as written, else by their canonical spelling, if that tells the classes apart.

    >>> rows_by_name(["Happy", "sad"], ["anger", "happiness", "sadness"])
    [1, 2]
    """
    for spelling in (str, canonical):
        ours, theirs = [spelling(c) for c in classes], [spelling(c) for c in named]
        if set(ours) <= set(theirs) and len(set(ours)) == len(ours) and len(set(theirs)) == len(theirs):
            return [theirs.index(c) for c in ours]
    return None


def copy_parts(
    path: Path,
    parts: Mapping[str, str],
    net: nn.Module,
    classes: tuple[str, ...],
    head: Callable[[], set[str]],
    what: str,
) -> None:
    """Copies parts of the weights at ``path`` into a network, ``{"theirs": "ours"}``; all of a part must fit exactly.

    A class head (``head`` names its parameters) of a weights folder may know more classes than ``classes``; rows go by
    class name (:func:`rows_by_name`). ``what`` describes the network in errors. Raises WeightsError, or UsageError for
    a part that ``net`` does not have.
    """
    named: list[str] = []
    if path.is_dir() or (path.is_file() and folder_of(path) is not None):
        found = read(source_of(path) or no_such_folder(path))
        state, named = found.state, list(found.config["classes"]) if found.known else []
    else:  # a safetensors file of any origin, without a config
        state = hub.read_weights(path, None)
    for theirs, ours in parts.items():
        part = {k[len(theirs) + 1 :]: v for k, v in state.items() if k.startswith(f"{theirs}.")}
        if not part:
            raise WeightsError(f"{path}: holds no part '{theirs}'")
        if rows := rows_by_name(classes, named):
            of_head = {k.removeprefix(f"{ours}.") for k in head() if k.startswith(f"{ours}.")}
            part |= {k: part[k][rows] for k in of_head & set(part) if len(part[k]) == len(named)}
        if ours not in {name for name, _ in net.named_modules()}:
            tops = ", ".join(name for name, _ in net.named_children())
            raise UsageError(f"init_from: {what} has no part '{ours}'; it has {tops} and what is in them")
        own = net.get_submodule(ours).state_dict()
        keys = sorted(own.keys() | part.keys())
        if odd := [k for k in keys if k not in own or k not in part or own[k].shape != part[k].shape]:
            raise WeightsError(
                f"{path}: its '{theirs}' does not fit this network's '{ours}' ({what}): {len(odd)} of {len(keys)} "
                f"keys, first {', '.join(odd[:3])}"
            )
        net.get_submodule(ours).load_state_dict(part)
