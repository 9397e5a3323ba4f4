"""Where weights come from and how they are stored: path, packaged, user cache, hub; always hashed, never pickled."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emozoo import packaged, registry
from emozoo.errors import UsageError, WeightsError

if TYPE_CHECKING:  # fetching files needs no torch
    from torch import Tensor

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
SCHEME = "hf://"
_ADDRESS = re.compile(r"hf://([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w-][\w./-]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_log = logging.getLogger(__name__)  # without a handler of the user's, one plain line on stderr


def home() -> Path:
    """The only folder outside a chosen output that the zoo writes to: ``EMOZOO_HOME``, else ``~/.cache/emozoo``."""
    return Path(os.environ.get("EMOZOO_HOME") or Path.home() / ".cache" / "emozoo")


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def locate(entry: registry.Weights) -> Path:
    """The folder that holds this tag's files: packaged, then the user's cache, then the hub (by pinned revision).

    Once a file is in the cache no network is asked. Raises WeightsError that says where it was looked for.
    """
    here = packaged.folder("checkpoints") / entry.name
    if (here / WEIGHTS).is_file():
        return Path(str(here))
    cached = home() / "weights" / entry.name
    if (cached / WEIGHTS).is_file():
        return cached
    if registry.HUB_REPO is None or entry.revision is None:
        raise WeightsError(
            f"{entry.name}: no weights in the package or in {cached}, and no hub repository exists for them yet; "
            f"put {WEIGHTS} there or give load() a folder"
        )
    if not _COMMIT.fullmatch(entry.revision):
        raise WeightsError(f"{entry.name}: hub revision '{entry.revision}' is not a full 40-digit commit")
    return fetch(f"{SCHEME}{registry.HUB_REPO.format(name=entry.name)}@{entry.revision}", entry.sha256)


# -- the hub -------------------------------------------------------------------------------------------------------


def fetch(address: str, sha256: str | None = None) -> Path:
    """The folder with the files of ``hf://ORG/NAME@REVISION``, fetched once by huggingface_hub's own client.

    The files lie in that client's layout under ``EMOZOO_HOME``. A revision of 40 hexadecimal digits that is there
    already asks no network; a branch or tag (default ``main``) is looked up once, then only its commit counts. Where
    the endpoint does not answer, the commit that the branch had last is used from the cache, and a line says so.

    Args:
        address: see above; the result's :func:`published_as` has the commit.
        sha256: of the weights; None takes the one in their config. Files that do not match are deleted.

    Raises:
        UsageError: the address is none.
        WeightsError: not to be had (why, and what to do), or not the file that it should be.
    """
    repo, revision = _parse(address)
    commit = revision if _COMMIT.fullmatch(revision) else _commit_of(repo, revision)
    folder = _cached(repo, commit)
    if folder is not None:
        problem = _damage(folder, sha256)
        if problem is None:
            return folder
        _log.warning("%s: %s; fetching it again", folder / WEIGHTS, problem)
        _forget(folder)
    folder = _download(repo, commit)
    problem = _damage(folder, sha256)
    if problem is not None:
        _forget(folder)
        raise WeightsError(f"{SCHEME}{repo}@{commit}: {problem}: not used, and removed from the cache")
    return folder


def published_as(folder: Path) -> str | None:
    """``hf://ORG/NAME@COMMIT`` of a folder in the hub client's cache (``models--ORG--NAME/snapshots/COMMIT``)."""
    *_, repo, snapshots, commit = ("", "", "", *folder.parts)
    if snapshots != "snapshots" or not repo.startswith("models--") or not _COMMIT.fullmatch(commit):
        return None
    return f"{SCHEME}{repo.removeprefix('models--').replace('--', '/')}@{commit}"


def push(folder: Path, repo: str, *, private: bool = False) -> str:
    """Publishes weights, config and card, and nothing else, as one commit; returns ``hf://ORG/NAME@COMMIT``.

    The repository is made where it does not exist. Unchanged files make no commit. The token is the hub client's
    (``HF_TOKEN`` or ``hf auth login``).

    Raises:
        UsageError: ``repo`` is no ``ORG/NAME``, or the weights have a tag that is published with other weights.
        WeightsError: the folder is not complete, its hash is wrong, or the hub refuses.
    """
    repo, _ = _parse(f"{SCHEME}{repo}@main")
    config = read_config(folder)
    for name, problem in ((WEIGHTS, _damage(folder, None)), (CARD, _card_problem(folder / CARD))):
        if problem is not None:
            raise WeightsError(f"{folder / name}: {problem}; not published")
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HTTPError

    if get_token() is None:
        raise WeightsError(f"{repo}: no hub token: set HF_TOKEN to one that may write, or run `hf auth login`")
    config["revision"] = None  # a commit cannot hold its own name
    files = {
        CONFIG: (json.dumps(config, indent=1, ensure_ascii=False) + "\n").encode(),
        CARD: (folder / CARD).read_bytes(),
        WEIGHTS: (folder / WEIGHTS).read_bytes(),
    }
    api = HfApi(library_name="emozoo")
    try:
        api.create_repo(repo, private=private or None, exist_ok=True)
        large = [getattr(file, "lfs", None) for file in api.get_paths_info(repo, [WEIGHTS])]
        if config.get("tag") and any(f is not None and f.sha256 != config["sha256"] for f in large):
            raise UsageError(
                f"{repo} holds other weights, and the tag '{config['tag']}' is immutable: raise its version, "
                "or publish under another name"
            )
        what = f"{config['arch']}.{config['tag']}" if config.get("tag") else config["arch"]
        done = api.create_commit(
            repo,
            [CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in files.items()],
            commit_message=f"{what}, sha256 {config['sha256'][:12]}",
        )
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{repo}: not published: {_why(error, 'main')}") from None
    return f"{SCHEME}{repo}@{done.oid}"


def _parse(address: str) -> tuple[str, str]:
    """Repository and revision of a hub address."""
    found = _ADDRESS.fullmatch(address)
    if found is None or ".." in address or "--" in found[1]:
        raise UsageError(
            f"'{address}' is no hub address: write hf://ORG/NAME@REVISION, REVISION a commit, a tag or a branch"
        )
    return found[1], found[2] or "main"


def _cache() -> Path:
    return home() / "hub"


def _cached(repo: str, revision: str) -> Path | None:
    """The complete folder of a revision in the cache. Asks no network."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(repo, n, cache_dir=_cache(), revision=revision) for n in (WEIGHTS, CONFIG)]
    return Path(found[0]).parent if all(isinstance(f, str) for f in found) else None  # type: ignore[arg-type]


def _commit_of(repo: str, branch: str) -> str:
    """The commit that a branch or tag stands for, now or, where the endpoint does not answer, when last asked."""
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    try:
        _ask(repo, branch)
        return Path(hf_hub_download(repo, CONFIG, revision=branch, cache_dir=_cache())).parent.name
    except (HTTPError, OSError) as error:
        down = not isinstance(error, HfHubHTTPError) or error.response.status_code >= 500
        known = try_to_load_from_cache(repo, CONFIG, cache_dir=_cache(), revision=branch)
        if not down or not isinstance(known, str):
            raise WeightsError(f"{SCHEME}{repo}@{branch}: {_why(error, branch)}") from None
        commit = Path(known).parent.name
        if not constants.HF_HUB_OFFLINE:
            _log.warning("%s%s@%s: %s; using %s from the cache", SCHEME, repo, branch, _why(error, branch), commit)
        return commit


def _ask(repo: str, revision: str) -> None:
    """One request without retries, so that an endpoint which is down or refuses is known at once, and why."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import OfflineModeIsEnabled

    if constants.HF_HUB_OFFLINE:
        raise OfflineModeIsEnabled
    get_hf_file_metadata(hf_hub_url(repo, CONFIG, revision=revision))


def _download(repo: str, commit: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HTTPError

    try:
        _ask(repo, commit)
        for name in (CARD, CONFIG, WEIGHTS):
            try:
                path = hf_hub_download(repo, name, revision=commit, cache_dir=_cache())
            except EntryNotFoundError:
                if name != CARD:  # weights without a card can be used
                    raise
    except (HTTPError, OSError) as error:
        raise WeightsError(f"{SCHEME}{repo}@{commit}: {_why(error, commit)}") from None
    return Path(path).parent


def _why(error: BaseException, revision: str) -> str:
    """What went wrong between us and the hub and what to do, in our words.

    The server's may repeat the token that it was sent: errors are raised from None, so that no traceback shows them.
    """
    from huggingface_hub import constants
    from huggingface_hub import errors as e

    host = constants.ENDPOINT
    if isinstance(error.__cause__, e.HTTPError) and not isinstance(error, (e.HTTPError, ValueError)):
        error = error.__cause__  # the client's "not found here either", or "while uploading"
    if isinstance(error, e.OfflineModeIsEnabled):
        return f"not in the cache ({_cache()}), and HF_HUB_OFFLINE is set; unset it once to fetch it"
    if isinstance(error, e.GatedRepoError):
        return f"{host} gives it to some accounts only; ask for access on its page, then set HF_TOKEN"
    if isinstance(error, e.RevisionNotFoundError):
        return f"{host} has no revision '{revision}' of it"
    if isinstance(error, e.RepositoryNotFoundError):
        return f"{host} has no such repository, or it is private; set HF_TOKEN or run `hf auth login`"
    if isinstance(error, e.EntryNotFoundError) and isinstance(error, e.HfHubHTTPError):
        return f"it holds no {CONFIG} and {WEIGHTS}, so it is no weights repository of this zoo"
    if isinstance(error, e.HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return f"{host} does not allow it ({status}); give HF_TOKEN a token that may"
        return f"{host} answered {status}; try again later"
    if isinstance(error, e.HTTPError):
        return f"{host} does not answer ({type(error).__name__}); try again when it does"
    return f"{type(error).__name__} ({' '.join(str(error).split())[:200]})"


def _damage(folder: Path, sha256: str | None) -> str | None:
    """What is wrong with the files of a weights folder; None if the hash is right."""
    try:
        expected = sha256 or str(read_config(folder)["sha256"])
        found = sha256_of((folder / WEIGHTS).read_bytes())
    except (WeightsError, KeyError, OSError) as error:
        return f"its files are not complete ({type(error).__name__})"
    return None if found == expected else f"sha256 is {found[:12]}…, expected {expected[:12]}…"


def _card_problem(path: Path) -> str | None:
    """What the hub would refuse in a model card, or readers would miss."""
    if not path.is_file():
        return "there is no model card"
    top = re.match(r"---\n(.*?)\n---\n", path.read_text(encoding="utf-8"), re.DOTALL)
    if top is None or not re.search(r"^license: *[a-z0-9.-]+$", top[1], re.MULTILINE):
        return "the model card names no licence in the hub's form (`license: apache-2.0` between two lines of ---)"
    return None


def _forget(folder: Path) -> None:
    """Takes damaged files out of the client's cache, so that they are fetched again."""
    for name in (WEIGHTS, CONFIG):
        (folder / name).resolve().unlink(missing_ok=True)  # a link to the content where the system has links
        (folder / name).unlink(missing_ok=True)


# -- files ---------------------------------------------------------------------------------------------------------


def read_weights(path: Path, sha256: str | None) -> dict[str, Tensor]:
    """The state dict in a safetensors file whose hash was checked first; float16 is widened to float32.

    Raises WeightsError for a missing file, a wrong hash, or anything but safetensors (pickles are never opened).
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    if path.suffix in (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".tar"):
        raise WeightsError(
            f"{path}: pickled checkpoints can run code and are never opened; convert it to {WEIGHTS} (safetensors)"
        )
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    data = path.read_bytes()
    if data[:2] in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"):
        raise WeightsError(f"{path}: is a pickled checkpoint under another name; only safetensors files are opened")
    if sha256 is not None and sha256_of(data) != sha256:
        raise WeightsError(
            f"{path}: sha256 is {sha256_of(data)[:12]}…, expected {sha256[:12]}…: "
            "the file is damaged or not the published one; fetch it again"
        )
    try:
        state = load_tensors(data)
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file ({error})") from error
    return {k: v.float() if v.dtype in (torch.float16, torch.bfloat16) else v for k, v in state.items()}


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a weights folder. Raises WeightsError if it is missing or not JSON."""
    path = folder / CONFIG
    if not path.is_file():
        raise WeightsError(f"{folder}: holds no {CONFIG}, so it is not a weights folder of this zoo")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path}: not valid JSON ({error})") from error


def save(folder: Path, state: Mapping[str, Tensor], config: Mapping[str, Any], card: str, *, half: bool) -> str:
    """Writes weights, config (with the sha256 of the weights) and model card; returns the sha256.

    ``half`` stores floating tensors as float16. Each file appears whole or not at all.
    """
    from safetensors.torch import save as save_tensors

    tensors = {
        k: (v.detach().cpu().half() if half and v.is_floating_point() else v.detach().cpu()).contiguous()
        for k, v in state.items()
    }
    data = save_tensors(tensors)
    digest = sha256_of(data)
    write_atomic(folder / WEIGHTS, data)
    write_atomic(
        folder / CONFIG, (json.dumps({**config, "sha256": digest}, indent=1, ensure_ascii=False) + "\n").encode()
    )
    write_atomic(folder / CARD, card.encode())
    return digest


def write_atomic(path: Path, data: bytes) -> None:
    """Writes to a temporary name in the same folder, then renames: a killed run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        shutil.copymode(path, name) if path.exists() else os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


_LIBRARIES = (
    "emozoo", "torch", "torchvision", "lightning", "timm", "numpy", "opencv-python-headless", "decord", "av",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of the libraries that weights and numbers depend on."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # decord has no wheel on this platform, or emozoo runs from a bare checkout
    return found
