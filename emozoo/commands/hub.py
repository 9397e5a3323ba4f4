"""``emozoo download`` and ``emozoo push``: weights from and to the hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from emozoo import registry
from emozoo.commands.shared import AsJson, fail, print_json
from emozoo.errors import EmozooError, UsageError


def download(
    names: Annotated[
        list[str] | None, typer.Argument(help="Weights from `emozoo list`, or hf://ORG/NAME@REVISION.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All weights that `emozoo list` names.")] = False,
    detector: Annotated[
        str | None, typer.Option(help="Also a face detector; only yunet needs a file. Weights may then be left out.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Fetch weights now, verify them, and need no network later. What travels with the package is not fetched.

    A private repository needs the environment's HF_TOKEN or `hf auth login`.

    Example: emozoo download --all --detector yunet
    """
    if bool(names) == everything and (everything or detector is None):
        raise UsageError("name the weights, or take --all of them (see `emozoo list`)")
    from emozoo import hub

    fetched = _detector(detector) if detector is not None else []
    if not as_json:
        for one in fetched:
            print("{name}: {path} sha256 {sha256}".format(**one), flush=True)

    wanted = [*(names or []), *(registry.weights() if everything else [])]
    entries = {name: registry.resolve(name)[1] for name in wanted if not name.startswith(hub.SCHEME)}
    for name, entry in entries.items():
        if entry is None:
            raise UsageError(f"{name} has no weights yet; `emozoo list` shows which there are")

    def get(name: str) -> dict[str, str | None]:
        entry = entries.get(name)
        folder = hub.locate(entry) if entry else hub.fetch(name)
        return {"name": entry.name if entry else hub.published_as(folder), "folder": str(folder)}

    def missing(name: str) -> dict[str, str | None]:
        entry = entries.get(name)
        return {"name": entry.name if entry else name, "folder": None}

    found = _each(wanted, get, missing, None if as_json else "{name}: {folder}")
    if as_json:
        print_json({"schema": 1, "weights": found} | ({"detectors": fetched} if fetched else {}))
    return 0 if all(f["folder"] for f in found) else 1


def _detector(name: str) -> list[dict[str, str]]:
    """Name, path and sha256 of the file of a face detector, which is fetched if it is not there."""
    from emozoo.data import detector_file, faces

    if name != faces.YUNET.detector:
        raise UsageError(f"--detector {name}: only {faces.YUNET.detector} has a file; cascade comes with OpenCV")
    return [{"name": name, "path": str(detector_file.locate(faces.YUNET)), "sha256": faces.YUNET_SHA256}]


def push(
    folder: Annotated[Path | None, typer.Argument(help="A folder made by training or finetune.")] = None,
    repo: Annotated[str | None, typer.Option(help="ORG/NAME on the hub; made if it does not exist.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All weights of this package, each as ORG/<name>.")] = False,
    org: Annotated[str | None, typer.Option(help="The account for --all.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make new repositories private.")] = False,
    as_json: AsJson = False,
) -> int:
    """Publish weights, config and model card on the hub, after loading them once; prints the pinned addresses.

    The token comes from the environment's HF_TOKEN or `hf auth login`, never from the command line.

    Example: emozoo push my_model --repo my-name/my-model
    """
    if everything != (folder is None) or everything != (org is not None) or everything == (repo is not None):
        raise UsageError("write `emozoo push DIR --repo ORG/NAME`, or `emozoo push --all --org ORG`")
    from emozoo import hub, load

    if folder is not None and repo is not None:
        sources = {repo: folder}
    else:
        sources = {f"{org}/{name}": hub.locate(entry) for name, entry in registry.weights().items()}

    def publish(target: str) -> dict[str, str | None]:
        load(sources[target])  # weights that cannot be loaded are not published
        return {"repo": target, "address": hub.push(sources[target], target, private=private)}

    found = _each(list(sources), publish, lambda t: {"repo": t, "address": None}, None if as_json else "{address}")
    if as_json:
        print_json({"schema": 1, "published": found})
    return 0 if all(f["address"] for f in found) else 1


def _each(
    names: Sequence[str],
    do: Callable[[str], dict[str, str | None]],
    failed: Callable[[str], dict[str, str | None]],
    line: str | None,
) -> list[dict[str, str | None]]:
    """The result of ``do`` for each name, printed as ``line``; of several names, one that fails is an error line."""
    results = []
    for name in names:
        try:
            results.append(do(name))
        except EmozooError as error:
            if len(names) == 1:
                raise
            fail(str(error), 3)
            results.append(failed(name))
            continue
        if line is not None:
            print(line.format(**results[-1]), flush=True)
    return results
