"""Where weights come from and how they are stored: path, packaged, user cache, hub; always hashed, never pickled."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from emozoo import files, moved, registry, weights_file
from emozoo.errors import EmozooError, UsageError, WeightsError
from emozoo.files import cache_folder, lies_inside, sha256_of, sha256_of_file, write_atomic, write_text
from emozoo.hub_errors import bounded, client_errors, failure_reason

if TYPE_CHECKING:  # fetching files needs no torch
    from torch import Tensor

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
MOST_CONFIG = 4 << 20  # bytes
SCHEME = "hf://"
_ADDRESS = re.compile(r"hf://([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w-][\w./-]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"\w+\.\w+")  # of tagged weights
_log = logging.getLogger(__name__)  # without a handler of the user's, one plain line on stderr
__getattr__ = moved.names_of(__name__)


def locate(entry: registry.Weights) -> Path:
    """The folder that holds this tag's files: packaged, then the user's cache, then the hub (by pinned revision).

    For a file in the cache no network is used. Raises WeightsError that names the folders that were searched.
    """
    cached = cache_folder() / "weights" / entry.name
    for folder in (Path(str(files.packaged("checkpoints") / entry.name)), cached):
        if (folder / WEIGHTS).is_file():
            if sha256_of_file(folder / WEIGHTS) == entry.sha256:
                return folder
            _log.warning("%s: damaged, or not the weights of %s: passed over", folder / WEIGHTS, entry.name)
    if registry.HUB_REPO is None or entry.revision is None:
        raise WeightsError(
            f"{entry.name}: no weights in the package or in {cached}, and no hub repository exists for them yet; "
            f"put {WEIGHTS} there (EMOZOO_HOME names another cache) or give load() a folder"
        )
    if not _COMMIT.fullmatch(entry.revision):
        raise WeightsError(f"{entry.name}: hub revision '{entry.revision}' is not a full 40-digit commit")
    return fetch(f"{SCHEME}{registry.HUB_REPO.format(name=entry.name)}@{entry.revision}", entry.sha256)


# -- the hub -------------------------------------------------------------------------------------------------------


class Access(NamedTuple):
    """How the hub is reached: by default as its client's environment says, with the cache below ``EMOZOO_HOME``.

    ``token``: another than the environment's. ``offline``: use no network. ``force``: fetch again what is cached.
    """

    token: str | bool | None = None
    offline: bool = False
    cache: Path | None = None
    force: bool = False


_other_caches: set[Path] = set()  # that weights were fetched into, besides the one below EMOZOO_HOME


def fetch(address: str, sha256: str | None = None, access: Access = Access()) -> Path:  # noqa: B008  # immutable
    """The folder with the files of ``hf://ORG/NAME@REVISION``, fetched once by huggingface_hub's own client.

    The files lie in that client's layout under ``EMOZOO_HOME``. A cached revision of 40 hexadecimal digits needs no
    network; a branch or tag (default ``main``) is looked up once, then only its commit counts. Where the endpoint
    cannot be reached, the last commit of the branch that was fetched completely is used from the cache, with a warning.

    Args:
        address: see above; the result's :func:`published_as` has the commit.
        sha256: of the weights; None takes the one in their config. Files that do not match are deleted.

    Raises:
        UsageError: not an address of the hub.
        WeightsError: the files cannot be fetched (why, and what to do), or are not those that they should be.
    """
    repo, revision = _parse(address)
    if access.cache is not None:
        _other_caches.add(access.cache)
    if _COMMIT.fullmatch(revision):
        return _verified(repo, revision, sha256, access)
    try:
        commit = _commit_of(repo, revision, access)
        folder = _verified(repo, commit, sha256, access)
    except _Unreachable as error:
        cached = _cached(repo, revision, access)
        if cached is None:
            raise
        if not _offline(access):
            _log.warning("%s; using %s from the cache", error, cached.name)
        return _verified(repo, cached.name, sha256, access._replace(force=False))
    # The client's own note of a branch's commit, written only now: an update that fails leaves the one before.
    write_atomic(_cache(access) / f"models--{repo.replace('/', '--')}" / "refs" / revision, commit.encode())
    return folder


class _Unreachable(WeightsError):
    """The endpoint cannot be reached now; the files may still be in the cache."""


def _verified(repo: str, commit: str, sha256: str | None, access: Access) -> Path:
    """The folder of a commit, from the cache or the network, whose weights have the right hash."""
    folder = _cached(repo, commit, access)
    if folder is not None:
        problem = "is to be fetched anew" if access.force else _damage(folder, sha256)
        if problem is None:
            return folder
        _commit_of(repo, commit, access)  # damaged files stay until the endpoint can replace them
        _log.warning("%s: %s; fetching it again", folder / WEIGHTS, problem)
        _forget(folder)
    folder = _download(repo, commit, access)
    problem = _damage(folder, sha256)
    if problem is not None:
        _forget(folder)
        raise WeightsError(f"{SCHEME}{repo}@{commit}: {problem}: not used, and removed from the cache")
    return folder


def published_as(folder: Path) -> str | None:
    """``hf://ORG/NAME@COMMIT`` of a folder that this process finds in a cache of the hub's client; None for others."""
    folder = folder.absolute()
    if not _is_snapshot(folder) or folder.parents[2].resolve() not in {p.resolve() for p in (_cache(), *_other_caches)}:
        return None
    return f"{SCHEME}{folder.parts[-3].removeprefix('models--').replace('--', '/')}@{folder.name}"


def _is_snapshot(folder: Path) -> bool:
    """Whether a folder is named as one of the hub client's: ``models--ORG--NAME/snapshots/COMMIT``."""
    *_, repo, snapshots, commit = ("", "", "", *folder.absolute().parts)
    return snapshots == "snapshots" and repo.startswith("models--") and _COMMIT.fullmatch(commit) is not None


def check_links(folder: Path, names: Iterable[str]) -> None:
    """Raises WeightsError where one of these files of a weights folder is a link to another place.

    In a cache of the hub's client they are links to the contents beside their folder.
    """
    roots = [folder, folder.absolute().parents[1] / "blobs"] if _is_snapshot(folder) else [folder]

    for name in names:
        if not any(lies_inside(folder / name, root) for root in roots):
            raise WeightsError(f"{folder / name}: is a link out of its folder: put the file itself there")


def push(
    folder: Path, repo: str, *, private: bool = False, token: str | None = None, message: str | None = None
) -> str:
    """Publishes weights, config and card, and nothing else, as one commit; returns ``hf://ORG/NAME@COMMIT``.

    The repository is made where it does not exist. Unchanged files make no commit. The token is the hub client's
    (``HF_TOKEN`` or ``hf auth login``).

    Raises:
        UsageError: ``repo`` is no ``ORG/NAME``, or the weights have a tag that is published with other weights.
        WeightsError: the folder is not complete, its hash is wrong, or the hub refuses.
    """
    repo, _ = _parse(f"{SCHEME}{repo}@main")
    if folder.is_file():
        raise UsageError(f"{folder} is a file: a weights folder is published, with its {WEIGHTS}, {CONFIG} and {CARD}")
    check_links(folder, [CONFIG])
    check_links(folder, files_of(folder))
    config = read_config(folder)
    if (problem := _damage(folder, None)) is not None:
        raise WeightsError(f"{folder / WEIGHTS}: {problem}; not published")
    if not (folder / CARD).is_file():
        raise WeightsError(f"{folder / CARD}: there is no model card; not published")
    from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, get_token

    if (token or get_token()) is None:
        raise WeightsError(f"{repo}: no hub token: set HF_TOKEN to one that may write, or run `hf auth login`")
    config["revision"] = None  # a commit cannot hold its own name
    contents = {
        CONFIG: (json.dumps(config, indent=1, ensure_ascii=False) + "\n").encode(),
        CARD: (folder / CARD).read_bytes(),
        WEIGHTS: (folder / WEIGHTS).read_bytes(),
        **{name: path.read_bytes() for name, path in shared_files(folder).items()},
    }
    api = HfApi(library_name="emozoo", token=token)
    try:
        card = ModelCard(contents[CARD].decode())
        if not card.data.get("license"):
            raise WeightsError(f"{folder / CARD}: names no licence (`license: apache-2.0` between two lines of ---)")
        card.validate()  # a card that the hub refuses leaves no empty repository
        api.create_repo(repo, private=private or None, exist_ok=True)
        there = api.repo_info(repo)
        if private and not there.private:
            raise UsageError(f"{repo} is there already and public: make it private on its page, or take another name")
        old = _published(api, repo, there.sha)
        for tag in (old.get("tag"), config.get("tag")):
            if old and tag and not same_meaning(old, config):
                raise UsageError(
                    f"{repo} holds other weights, and the tag '{tag}' is immutable: raise its version, "
                    "or publish under another name"
                )
        what = f"{config['arch']}.{config['tag']}" if config.get("tag") else config["arch"]
        done = api.create_commit(
            repo,
            [CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in contents.items()],
            commit_message=message or f"{what}, sha256 {config['sha256'][:12]}",
            parent_commit=there.sha,
        )
    except EmozooError:
        raise
    except client_errors() as error:
        raise WeightsError(f"{repo}: not published: {failure_reason(error, 'main')}") from None
    return f"{SCHEME}{repo}@{done.oid}"


# What predictions depend on: under one tag none of it changes.
_MEANING = (
    "arch", "tag", "sha256", "classes", "wiring", "size", "options", "spec", "tau", "flips", "log_prior", "temperature",
    "parts", "prior",
)  # fmt: skip


def same_meaning(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two configs describe the same weights, used in the same way."""
    one, other = ({"prior": "train", **config} for config in (one, other))
    return all(one.get(k) == other.get(k) for k in _MEANING)


def _published(api: Any, repo: str, commit: str | None) -> dict[str, Any]:
    """The config of weights that a repository holds; empty where it holds none."""
    from huggingface_hub.errors import EntryNotFoundError

    try:
        path = api.hf_hub_download(repo, CONFIG, revision=commit, cache_dir=_cache())
        found = files.parse_json(Path(path).read_bytes())
    except EntryNotFoundError:
        return {}
    return found if isinstance(found, dict) else {}


def _parse(address: str) -> tuple[str, str]:
    """Repository and revision of a hub address."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    found, form = _ADDRESS.fullmatch(address), "write hf://ORG/NAME@REVISION"
    try:
        good = found is not None and ".." not in address
        validate_repo_id(found[1] if found else "")
    except HFValidationError:
        good = False
    if address.lower().endswith(".safetensors"):
        raise UsageError(f"'{address}': a hub address names a repository, not a file in it: {form}")
    if not good or found is None:
        raise UsageError(f"'{address}' is no hub address: {form}, REVISION a commit, a tag or a branch")
    return found[1], found[2] or "main"


def _cache(access: Access = Access()) -> Path:  # noqa: B008  # immutable
    return access.cache or cache_folder() / "hub"


def _cached(repo: str, revision: str, access: Access) -> Path | None:
    """The complete folder of a revision in the cache, None without one. Uses no network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    get = partial(snapshot_download, repo, revision=revision, cache_dir=_cache(access), local_files_only=True)
    try:
        folder = Path(get(allow_patterns=[CONFIG, WEIGHTS]))
        return folder if all((folder / name).is_file() for name in files_of(folder) if name != CARD) else None
    except LocalEntryNotFoundError:
        return None
    except WeightsError:  # its config is damaged or missing
        return folder if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file() else None


def _offline(access: Access) -> bool:
    from huggingface_hub import constants

    return access.offline or bool(constants.HF_HUB_OFFLINE)


def _commit_of(repo: str, revision: str, access: Access) -> str:
    """The commit of a revision, by one request without retries, so that a refusal is known at once, with its reason."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        if _offline(access):
            raise OfflineModeIsEnabled
        found = get_hf_file_metadata(hf_hub_url(repo, CONFIG, revision=revision), token=access.token).commit_hash
    except client_errors() as error:
        raise _failed(error, repo, revision) from None
    if not _COMMIT.fullmatch(found or ""):
        raise WeightsError(f"{SCHEME}{repo}@{revision}: the endpoint named no commit")
    return str(found)


def _download(repo: str, commit: str, access: Access) -> Path:
    """Fetches a commit's config, then the files that it names; files that are in the cache are not fetched again."""
    from huggingface_hub import snapshot_download

    _commit_of(repo, commit, access)
    # One worker: files come one after the other, so that what a killed download had complete stays.
    get = partial(snapshot_download, repo, revision=commit, cache_dir=_cache(access), token=access.token, max_workers=1)
    where = f"{SCHEME}{repo}@{commit}"
    try:
        folder = Path(get(allow_patterns=[CONFIG], tqdm_class=bounded(where, MOST_CONFIG)))
        if "sha256" not in read_config(folder):
            raise WeightsError(f"{where}: its {CONFIG} is not one of this zoo; nothing was fetched")
        get(allow_patterns=files_of(folder), tqdm_class=bounded(where, weights_file.MOST_BYTES))
    except EmozooError:
        raise
    except client_errors() as error:
        raise _failed(error, repo, commit) from None
    return folder


def _failed(error: Exception, repo: str, revision: str) -> WeightsError:
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    silent = isinstance(error, (HTTPError, OfflineModeIsEnabled, ConnectionError, RuntimeError))
    down = silent if status is None else status >= 500 or status in (408, 429)
    return (_Unreachable if down else WeightsError)(f"{SCHEME}{repo}@{revision}: {failure_reason(error, revision)}")


def _damage(folder: Path, sha256: str | None) -> str | None:
    """What is wrong with the files of a weights folder; None if the hash is right."""
    try:
        config = read_config(folder)
        own = str(config["sha256"])
        found = sha256_of_file(folder / WEIGHTS)
        for part in parts(config).values():
            if sha256_of_file(_part_file(folder, part)) != part["sha256"]:
                return f"the part that it shares with {part['weights']} has another sha256 than its config says"
    except (WeightsError, KeyError, FileNotFoundError) as error:
        why = error if isinstance(error, WeightsError) else type(error).__name__
        return f"its files are not complete ({why})"
    except OSError as error:
        raise WeightsError(f"{folder / WEIGHTS}: cannot be read ({error.strerror})") from error
    if sha256 is not None and found == own != sha256:
        raise WeightsError(f"{folder / WEIGHTS}: sha256 is {found[:12]}…, expected {sha256[:12]}…: other weights")
    return None if found == own else f"sha256 is {found[:12]}…, expected {own[:12]}…"


def _forget(folder: Path) -> None:
    """Takes damaged files out of the client's cache, so that they are fetched again.

    Files are links to contents where the system has links; the content of a config may be that of other commits too.
    """
    try:
        names = files_of(folder)
        damaged = [n for n in names if n not in (CARD, CONFIG)]
    except WeightsError:
        names = damaged = [WEIGHTS, CONFIG]
    for name in damaged:
        (folder / name).resolve().unlink(missing_ok=True)
    for name in names:
        (folder / name).unlink(missing_ok=True)


# -- files ---------------------------------------------------------------------------------------------------------


def parts(config: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Parts of the network that lie in another file, by name: its ``weights``, the ``part`` there, its ``sha256``."""
    found = config.get("parts") or {}
    try:
        told = {n: {k: str(p[k]) for k in ("weights", "part", "sha256")} for n, p in found.items()}
    except (AttributeError, KeyError, TypeError):
        told = {"": {"weights": ""}}
    if not all(_NAME.fullmatch(p["weights"]) for p in told.values()):
        raise WeightsError("config: its 'parts' do not say whose they are (weights, part, sha256)")
    return told


def _beside(part: Mapping[str, str]) -> str:
    """The name under which a shared file is published beside the weights that need it."""
    return f"{part['weights']}.safetensors"


def files_of(folder: Path) -> list[str]:
    """Names of the files of published weights: card, config, weights, and what these share with others."""
    return [CARD, CONFIG, WEIGHTS, *dict.fromkeys(map(_beside, parts(read_config(folder)).values()))]


def _part_file(folder: Path, part: Mapping[str, str]) -> Path:
    """Where a shared file lies: in the folder itself, in one beside it, or where its owner's weights are found."""
    for path in (folder / _beside(part), folder.parent / part["weights"] / WEIGHTS):
        if path.is_file():
            return path
    owner = (registry.weights() | registry.encoders()).get(part["weights"])
    if owner is not None and owner.sha256 == part["sha256"]:
        return locate(owner) / WEIGHTS
    raise WeightsError(
        f"{folder}: shares '{part['part']}' with {part['weights']}, which is not there: put its {WEIGHTS} into the "
        f"folder as {_beside(part)}, or beside it as {part['weights']}/{WEIGHTS}"
    )


def shared_files(folder: Path) -> dict[str, Path]:
    """The files of other weights that a weights folder needs: the names they are published by, and where they lie.

    Raises WeightsError where one is not there.
    """
    return {_beside(part): _part_file(folder, part) for part in parts(read_config(folder)).values()}


def read_state(folder: Path, sha256: str | None = None, file: Path | None = None) -> dict[str, Tensor]:
    """The whole state dict of a weights folder, with the parts that lie elsewhere; every file's hash is checked first.

    ``sha256`` of its own file: None takes the one in its config. ``file``: another file than the folder's own, which is
    read as it is, without a hash; parts that it lacks come from where the config says. Raises WeightsError.
    """
    config = read_config(folder)
    state = read_weights(folder / WEIGHTS, sha256 or config["sha256"]) if file is None else read_weights(file, None)
    for name, part in parts(config).items():
        if file is not None and any(k.startswith(f"{name}.") for k in state):
            continue
        start = f"{part['part']}."
        there = read_weights(_part_file(folder, part), part["sha256"])
        state |= {f"{name}.{k.removeprefix(start)}": v for k, v in there.items() if k.startswith(start)}
    return state


def read_weights(path: Path, sha256: str | None) -> dict[str, Tensor]:
    """The state dict in a safetensors file whose hash was checked first; float16 is widened to float32.

    Raises WeightsError for a missing file, a wrong hash, anything but safetensors (pickles are never opened), a header
    that does not fit the file, and numbers that are not finite.
    """
    data = weights_file.read(path)
    if sha256 is not None and sha256_of(data) != sha256:
        raise WeightsError(
            f"{path}: sha256 is {sha256_of(data)[:12]}…, expected {sha256[:12]}…: "
            "the file is damaged, half written or not the published one; fetch it again, or run its training again"
        )
    return weights_file.tensors(path, data)


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a weights folder. Raises WeightsError if it is missing or not JSON."""
    path = folder / CONFIG
    if not path.is_file():
        raise WeightsError(f"{folder}: holds no {CONFIG}, so it is not a weights folder of this zoo")
    try:
        if path.stat().st_size > MOST_CONFIG:
            raise ValueError(f"more than {MOST_CONFIG:,} bytes")
        found = files.parse_json(path.read_bytes())
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise WeightsError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path}: not a config of this zoo (a {type(found).__name__} where an object should be)")
    return found


_OURS = re.compile(r"---\n(?:[^\n]*\n){0,9}?library_name: emozoo\n")  # the beginning of a card of this zoo


def check_replaceable(folder: Path) -> None:
    """Raises UsageError where writing weights into a folder would replace files that are not those of weights."""
    there = [name for name in (CONFIG, WEIGHTS, CARD) if (folder / name).exists()]
    try:
        ours = {"arch", "classes", "spec"} <= read_config(folder).keys()
    except WeightsError:  # a run that was killed may have written the card alone
        ours = there == [CARD] and bool(_OURS.match((folder / CARD).read_text(encoding="utf-8", errors="replace")))
    if there and not ours:
        raise UsageError(
            f"{folder / there[0]} does not belong to weights of this zoo, and would be replaced: move it, or choose "
            "another folder"
        )


def save(folder: Path, state: Mapping[str, Tensor], config: Mapping[str, Any], card: str, *, half: bool) -> str:
    """Writes weights, config (with the sha256 of the weights) and model card; returns the sha256.

    ``half`` stores floating tensors as float16, but for those with a number too large for it. Each file appears whole
    or not at all, the weights last: a folder that had none is complete then. Raises WeightsError for NaN, first of all.
    """
    from safetensors.torch import save as save_tensors

    weights_file.check_finite(folder / WEIGHTS, state)

    def stored(x: Tensor) -> Tensor:
        fits = half and x.is_floating_point() and bool(x.half().isfinite().all())
        return (x.half() if fits else x).contiguous()

    data = save_tensors({k: stored(v.detach().cpu()) for k, v in state.items()})
    digest = sha256_of(data)
    text = json.dumps({**config, "sha256": digest}, indent=1, ensure_ascii=False) + "\n"
    write_text(folder / CARD, card)
    write_text(folder / CONFIG, text)
    write_atomic(folder / WEIGHTS, data)
    return digest
