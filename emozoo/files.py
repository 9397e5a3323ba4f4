"""Files: paths, the cache folder, what comes with the package, CSV text, and writes that leave no half file."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from importlib.resources import files
from pathlib import Path

from emozoo.errors import EmozooError


def cache_folder() -> Path:
    """The only folder outside a chosen output that the zoo writes to: ``EMOZOO_HOME``, else ``~/.cache/emozoo``.

    An account without a home folder, as containers have them, gets one in the folder for temporary files.
    """
    if chosen := os.environ.get("EMOZOO_HOME"):
        return Path(chosen)
    try:
        return Path.home() / ".cache" / "emozoo"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"emozoo-{os.getuid()}"


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def resolve_path(path: str | Path) -> Path:
    """A path in which ``$EMOZOO_SHARED`` stands for the shared material (default ``../shared``).

    Of an address in object storage a ``Path`` keeps one slash, which is enough (:func:`emozoo.data.store.clean`).
    """
    text = str(path)
    if text.startswith("$EMOZOO_SHARED"):
        text = os.environ.get("EMOZOO_SHARED", "../shared") + text.removeprefix("$EMOZOO_SHARED")
    return Path(text)


def packaged(name: str) -> Path:
    """The folder ``checkpoints``, ``benchmarks/recipes``, ``benchmarks/results`` or ``benchmarks/leaderboards``.

    Read only: in a wheel it lies in site-packages. Raises :class:`EmozooError` where the installation lacks it.
    """
    package = Path(str(files("emozoo")))  # always a real folder: decord, torch and others do not run from a zip
    for place in (package / "_packaged" / name, package.parent / name):
        if place.is_dir():
            return place
    raise EmozooError(f"this installation has no {name!r} folder beside {package}: install emozoo again from its wheel")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path``, which replaces it if the block ends without an exception, else is deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start = f".{path.stem[:40]}."  # a name may be as long as the file system allows
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=start, suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(name)
        shutil.copymode(path, name) if path.exists() else os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Writes to a temporary name in the same folder, then renames: a killed run leaves no half file."""
    with replacing(path) as part:
        part.write_bytes(data)


def csv_text(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> str:
    """The text of a CSV file with these columns; a value that a row lacks is empty."""
    text = io.StringIO()
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


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
