"""The file of a face detector that does not come with the package: a path, the cache, or the hub; always hashed."""

from __future__ import annotations

import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from emozoo import hub
from emozoo.errors import WeightsError
from emozoo.files import cache_folder, sha256_of, write_atomic

TIMEOUT_S = 5.0  # without an answer of the hub for so long, the file counts as not available


class Unavailable(WeightsError):
    """The file cannot be had now: no network, or the hub does not give it."""


class Source(NamedTuple):
    """A published file. ``variable``: the environment variable that may hold the path of a copy."""

    detector: str
    repo: str
    file: str
    sha256: str
    variable: str

    @property
    def help(self) -> str:
        """How to get the file, in words."""
        return (
            f"run `emozoo download --detector {self.detector}` where there is a network, set {self.variable} to the "
            f"path of {self.file} (from {self.repo}), or use the detector 'cascade'"
        )


def locate(source: Source) -> Path:
    """The verified file: at the path in ``source.variable``, else in the cache, else from the hub by huggingface_hub.

    A damaged file in the cache is fetched again.

    Raises:
        Unavailable: the file is not there and cannot be fetched.
        WeightsError: the variable is set, but not to the path of this very file.
    """
    path = at_hand(source)
    if path is None:
        path = cached(source)
        _download(source, path)
    return path


def at_hand(source: Source) -> Path | None:
    """As :func:`locate` without a network; None where the file is neither at the path of the variable nor cached."""
    chosen = os.environ.get(source.variable)
    path = Path(chosen) if chosen else cached(source)
    digest = _digest_of(path)
    if digest == source.sha256:
        return path
    if not chosen:
        return None
    problem = "is no file that can be read" if digest is None else f"has the sha256 {digest}, not {source.sha256}"
    raise WeightsError(f"{source.variable}={chosen} {problem}: unset it, or {source.help}")


def cached(source: Source) -> Path:
    """Where the file lies in the cache once it was fetched."""
    return cache_folder() / "detectors" / source.file


def _digest_of(path: Path) -> str | None:
    try:
        state = path.stat()
        return _digest(path, state.st_size, state.st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=8)
def _digest(path: Path, _size: int, _changed: int) -> str:
    return sha256_of(path.read_bytes())


def _download(source: Source, path: Path) -> None:
    """Writes the file of the hub to ``path`` if its hash is right. Raises Unavailable."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    what = f"{hub.SCHEME}{source.repo}, {source.file}"
    if constants.HF_HUB_OFFLINE:
        raise Unavailable(f"{what}: not in the cache ({path.parent}), and HF_HUB_OFFLINE is set: {source.help}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
            # With force_download the client asks once and does not try again for a minute.
            found = hf_hub_download(
                source.repo, source.file, local_dir=folder, force_download=True, etag_timeout=TIMEOUT_S
            )
            data = Path(found).read_bytes()
    except hub.client_errors() as error:
        missing = isinstance(error, EntryNotFoundError) and isinstance(error, HfHubHTTPError)
        why = "the repository does not hold it" if missing else hub.failure_reason(error, "main")
        raise Unavailable(f"{what}: {why}; {source.help}") from None
    if sha256_of(data) != source.sha256:
        raise Unavailable(f"{what}: its sha256 is {sha256_of(data)}, not {source.sha256}: not used; {source.help}")
    write_atomic(path, data)
