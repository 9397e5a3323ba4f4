"""Files: paths, the cache folder, what comes with the package, CSV text, and writes that leave no half file."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import math
import os
import platform
import re
import shutil
import stat
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

from emozoo.errors import EmozooError, UsageError


def cache_folder() -> Path:
    """The only folder outside a chosen output that the zoo writes to: ``EMOZOO_HOME``, else ``~/.cache/emozoo``.

    An account without a home folder, as containers have them, gets one in the folder for temporary files. Raises
    :class:`EmozooError` where another account has put something in its place, :class:`UsageError` for the home of
    nobody.
    """
    if chosen := os.environ.get("EMOZOO_HOME"):
        try:
            return Path(chosen).expanduser()
        except RuntimeError:
            raise UsageError(f"EMOZOO_HOME={chosen}: nobody has this home folder; give the whole path") from None
    try:
        return Path.home() / ".cache" / "emozoo"
    except RuntimeError:
        return _own_folder(Path(tempfile.gettempdir()) / f"emozoo-{os.getuid()}")


def _own_folder(path: Path) -> Path:
    """Makes a folder that nobody else can write to, in one where everybody can; it may be there from an earlier run."""
    with suppress(OSError):  # it is there, or the disk is read only: nothing can be put there then
        path.mkdir(mode=0o700)
    with suppress(FileNotFoundError):
        found = path.lstat()
        if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022:
            raise EmozooError(
                f"{path}: not a folder of this account alone; weights in it could be anybody's. Set EMOZOO_HOME"
            )
    return path


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """The same of a file, of which little is in memory at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    for folder in (package / "_packaged" / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise EmozooError(f"this installation has no {name!r} folder beside {package}: install emozoo again from its wheel")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path``, which replaces it if the block ends without an exception, else is deleted.

    A link is replaced itself: what it leads to may be anybody's data. What cannot be replaced (a device, a pipe, an
    open file such as /dev/stdout) stays and gets the content, once it is whole. Raises UsageError for a folder.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; give the name of a file")
    if _is_special(path):
        with tempfile.TemporaryDirectory(prefix="emozoo-") as folder:
            part = Path(folder, path.name)
            yield part
            try:
                with part.open("rb") as whole, path.open("ab") as out:
                    shutil.copyfileobj(whole, out)
            except BrokenPipeError:
                raise EmozooError(f"{path}: its reader has gone before all was written") from None
        return
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


def _is_special(path: Path) -> bool:
    """Whether something is there that is no regular file, or that stands for one which is open, as /dev/stdout does."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    while not str(path.parent.resolve()).startswith(("/proc/", "/dev/fd")):
        if not path.is_symlink():
            return False
        path = path.parent / path.readlink()
    return True


def write_atomic(path: Path, data: bytes) -> None:
    """Writes to a temporary name in the same folder, then renames: a killed run leaves no half file."""
    with replacing(path) as part:
        part.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """The same with text; bytes of a file name that are no text become escapes, which JSON reads as what they were."""
    write_atomic(Path(path), text.encode(errors="backslashreplace"))


def check_file(path: Path) -> None:
    """Finds out whether a file can be written, before minutes of work for it. Raises EmozooError if not."""
    try:
        if path.is_dir():
            raise UsageError(f"{path}: is a folder; give the name of a file")
        if _is_special(path):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
    except OSError as error:
        raise EmozooError(f"{path}: cannot be written ({error.strerror or error})") from error
    check_writable(path.parent)


def check_writable(out: Path) -> None:
    """Tries to write into the folder of results before hours of work for them. Raises EmozooError if that fails."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; give a folder for the results")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out) as file:
            file.write(bytes(2**16))
    except OSError as error:
        raise EmozooError(f"{out}: no results can be written to this folder ({error.strerror or error})") from error


def lies_inside(path: Path, root: Path) -> bool:
    """Whether a file lies below a folder once all links on the way to it are followed; it need not exist."""
    return path.resolve().is_relative_to(root.resolve())


# -- JSON of strangers ---------------------------------------------------------------------------------------------

MOST_DEPTH = 32  # of objects and lists inside each other


def parse_json(text: str | bytes) -> Any:
    """Plain JSON that came from somebody else: UTF-8, every key once, finite numbers, at most :data:`MOST_DEPTH` deep.

    Raises ValueError, which says what is wrong, for anything else.
    """
    try:
        found = json.loads(
            text.decode("utf-8") if isinstance(text, bytes) else text,
            object_pairs_hook=_each_key_once, parse_constant=_no_constant,
        )  # fmt: skip
    except RecursionError:
        raise ValueError("too many objects and lists inside each other") from None
    todo = [(found, 1)]
    while todo:
        value, depth = todo.pop()
        if isinstance(value, dict | list):
            if depth > MOST_DEPTH:
                raise ValueError(f"more than {MOST_DEPTH} objects and lists inside each other")
            inner = value.values() if isinstance(value, dict) else value
            todo += [(v, depth + 1) for v in inner if isinstance(v, dict | list | float)]
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError("a number that is too large")
    return found


def has_controls(text: str) -> bool:
    """Whether a text holds what is neither printed nor a line break: escapes of terminals, half characters."""
    return any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in text)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [k for k, _ in pairs]
        raise ValueError(f"the key {next(k for k in names if names.count(k) > 1)[:60]!r} stands twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


# -- CSV -----------------------------------------------------------------------------------------------------------

# What spreadsheets take for the beginning of a formula, in full width too; a number may well begin with a sign.
_FORMULA = re.compile(r"'*\s*[=+\-@\uff1d\uff0b\uff0d\uff20].|'*[\t\r\n]", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def csv_cell(value: object) -> object:
    """A value for a cell of a CSV file: text that a spreadsheet would run as a formula gets a ``'`` before it.

    :func:`csv_value` takes it away again.

    >>> csv_cell("=1+1"), csv_cell("-0.5"), csv_cell("happy")
    ("'=1+1", '-0.5', 'happy')
    """
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def csv_value(cell: str) -> str:
    """The text that :func:`csv_cell` made a cell of.

    >>> csv_value("'=1+1"), csv_value("'tis")
    ('=1+1', "'tis")
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def csv_text(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> str:
    """The text of a CSV file with these columns, safe for spreadsheets; a value that a row lacks is empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(map(csv_cell, columns))
    for row in rows:
        if odd := row.keys() - set(columns):
            raise ValueError(f"a row has values for no column: {', '.join(sorted(odd))}")
        table.writerow([csv_cell(row.get(c, "")) for c in columns])
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
