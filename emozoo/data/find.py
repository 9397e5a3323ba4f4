"""Which files are to be predicted, what the results are called, and which files are results of an earlier run."""

from __future__ import annotations

import codecs
import glob
import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import dropwhile
from os import PathLike
from pathlib import Path, PurePath
from typing import IO, NamedTuple

from PIL import Image

from emozoo.data.container import open_container
from emozoo.data.manifest import MEDIA, of_the_system
from emozoo.errors import UsageError

MARK = "made by emozoo predict"  # in the images and videos that are written, so that they are never taken for input
# How tables and JSON that are written begin.
_RECORD = re.compile(r'\{\s*"schema":\s?1,\s*"file":\s?')
_WRITTEN = {
    ".json": _RECORD,
    ".jsonl": _RECORD,
    ".csv": re.compile(
        "file,model,track,start_s,end_s,label,|file,label,.*valence,arousal,faces,duration_s,warnings,error[,\n]"
    ),
    ".srt": re.compile(
        r"1\n\d+:\d\d:\d\d,\d{3} --> .*\n(no label|.* [01]\.\d\d$|valence [+-]\d\.\d\d, arousal )", re.M
    ),
    ".txt": re.compile(r"(face \d+|file) (label|valence arousal)\t\d+\t\d+\t"),
    ".html": re.compile(f'<!DOCTYPE html><html lang="en"><head><meta name="generator" content="{MARK}">'),
}
MAX_NAME = 200  # bytes of a result's name: with suffix and temporary name it stays below the 255 of file systems

_log = logging.getLogger(__name__)  # without a handler of the user's, one plain line on stderr


def one_line(name: str | PathLike[str]) -> str:
    """A file's name as printable text on one line: what is none of it becomes a backslash escape."""
    text = str(name).encode(errors="backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Item(NamedTuple):
    """A file to predict, and the name (without suffix, sub-folders kept) of what is written about it."""

    path: Path
    name: str


def find_media(paths: Sequence[str | PathLike[str]]) -> list[Item]:
    """Files as given, and for a folder all media files in it and below, sorted.

    Hidden files and folders, those of systems, and images and videos that an earlier run wrote are
    passed over. Links to folders are followed, but no folder is looked through twice. What cannot be listed, and what
    else was passed over, is logged; a folder given by name that cannot be listed stays as an item, whose prediction
    has an error. Names longer than ``MAX_NAME`` bytes are cut and end in a hash of the whole name.

    Raises UsageError for a folder without any media file.
    """
    found = [pair for path in paths for pair in listed(Path(path))]
    names = unique_names([name for _, name in found])
    return [Item(path, name) for (path, _), name in zip(found, names, strict=True)]


def listed(path: Path) -> list[tuple[Path, Path]]:
    """A file, or the media files of a folder, as :func:`find_media` finds them; each with its path inside."""
    if not os.path.isdir(path):
        return [(path, Path(path.name))]
    try:
        inside = _media_in(path)
    except OSError:
        return [(path, Path(path.name))]
    if not inside:
        raise UsageError(f"{path}: no media file in this folder (looked for {_kinds()})")
    return [(path / p, p) for p in inside]


def _kinds() -> str:
    return ", ".join(sorted(MEDIA))


def matching(pattern: Path) -> list[tuple[Path, Path]]:
    """The media that a pattern such as ``clips/**/*.mp4`` stands for, where the shell left it as it is; sorted.

    Each comes with its path below the part of the pattern that has no wildcard. A folder that matches stands for the
    media in it. Hidden files, those of systems and results of earlier runs are passed over; ``**`` looks through no
    folder twice. Raises UsageError where nothing matches.
    """
    parts = pattern.parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    base = Path(*parts[:fixed])
    found: dict[str, tuple[Path, Path]] = {}  # by the real path: folder/** matches a file, and the folder that holds it
    for path in sorted(set(_expanded(base, parts[fixed:]))):
        if any(map(of_the_system, path.relative_to(base).parts)):
            continue
        if os.path.isdir(path):
            with suppress(UsageError):  # a folder without media
                for inside, _ in listed(path):
                    found.setdefault(os.path.realpath(inside), (inside, inside.relative_to(base)))
        elif path.suffix.lower() in MEDIA and not is_ours(path):
            found.setdefault(os.path.realpath(path), (path, path.relative_to(base)))
    if not found and not {"*", "?"} & set(str(pattern)):
        return [(pattern, Path(pattern.name))]  # brackets are common in names: a file that is missing
    if not found:
        raise UsageError(f"{one_line(pattern)}: no media file matches this pattern (looked for {_kinds()})")
    return sorted(found.values())


def _expanded(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """What these parts of a pattern stand for below a folder: ``**`` for all folders, or at the end for the first."""
    at = parts.index("**") if "**" in parts else len(parts)
    rest = tuple(dropwhile("**".__eq__, parts[at:]))  # ``**/**`` is ``**``
    found = [folder]
    if at:
        found = [Path(name) for name in glob.glob(os.path.join(glob.escape(str(folder)), *parts[:at]))]
    for path in found:
        if at == len(parts) or (not rest and path.is_dir()):
            yield path
        elif path.is_dir():
            for inner, _ in _walk(path):
                yield from _expanded(path / inner, rest)


def is_pattern(path: Path) -> bool:
    """Whether a path is a pattern with wildcards, and no file of that very name exists."""
    return glob.has_magic(str(path)) and not os.path.lexists(path)


def read_list(file: IO[bytes]) -> list[Path]:
    """Paths from a list: one on a line or, where the list has zero bytes (``find -print0``), between those.

    A list that Windows wrote may begin with a mark, or be UTF-16.
    """
    data = file.read().removeprefix(codecs.BOM_UTF8)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = data.decode("utf-16", errors="replace").encode()
    names = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [Path(os.fsdecode(name)) for name in names if name.strip()]


def unique_names(paths: Sequence[PurePath]) -> list[str]:
    """Names of results for files with these paths inside their folders: without suffix where that is clear enough."""
    count = Counter(str(path.with_suffix("")) for path in paths)
    names, taken = [], set[str]()
    for path in paths:
        short = str(path.with_suffix(""))
        full = _cut(short if count[short] == 1 else str(path))  # a.mov beside a.mp4 keeps its suffix
        number, free = 1, full
        while free in taken:
            number += 1
            free = f"{full}-{number}"
        taken.add(free)
        names.append(free)
    return names


def _cut(name: str) -> str:
    """A name whose last part fits into ``MAX_NAME`` bytes: cut, with a hash of the whole name behind it."""
    folder, last = os.path.split(name)
    data = os.fsencode(last)
    if len(data) <= MAX_NAME:
        return name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
    start = data[: MAX_NAME - 13].decode(errors="ignore")
    return os.path.join(folder, f"{start}-{digest}")


def _media_in(root: Path) -> list[Path]:
    """Media files below a folder, relative to it, sorted. Raises OSError where the folder itself cannot be listed."""
    with os.scandir(root):
        pass
    found: list[Path] = []
    made = 0
    for inner, names in _walk(root):
        for path in (inner / name for name in names if os.path.splitext(name)[1].lower() in MEDIA):
            if is_ours(root / path):
                made += 1
            else:
                found.append(path)
    if made:
        what = "1 image or video" if made == 1 else f"{made} images and videos"
        _log.warning("%s: %s written by an earlier run passed over", one_line(root), what)
    return sorted(found)


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder and those below it, relative to it, each once, with the names of the files in it.

    What is hidden or of the system is passed over; folders that cannot be listed, and links to those looked through
    already, are logged.
    """
    seen: set[tuple[int, int]] = set()
    folders, links = [Path()], list[Path]()
    while folders or links:
        inner = folders.pop() if folders else links.pop(0)  # links last: a folder is named by where it really lies
        folder = root / inner
        try:
            info = folder.stat()
            known = (info.st_dev, info.st_ino) in seen
            seen.add((info.st_dev, info.st_ino))
            if known:
                _log.warning("%s: a link to a folder that is looked through already; passed over", one_line(folder))
                continue
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda e: e.name)
        except OSError as error:
            _log.warning("%s: cannot be listed (%s); passed over", one_line(folder), error.strerror)
            continue
        names = []
        for entry in listed:
            if of_the_system(entry.name):
                continue
            if os.path.isdir(folder / entry.name):
                (links if entry.is_symlink() else folders).append(inner / entry.name)
            else:
                names.append(entry.name)
        yield inner, names


def result_path(stem: Path, suffix: str) -> Path:
    """Where a result is written: a path that is neither the media file itself nor another file of the user's.

    Where the names are taken, ``.emozoo`` or ``.emozoo-2`` and so on stands before the suffix.
    """
    path, number = stem.with_name(stem.name + suffix), 0
    while path.exists() and not is_ours(path):
        number += 1
        path = stem.with_name(f"{stem.name}.emozoo{f'-{number}' if number > 1 else ''}{suffix}")
    return path


def is_ours(path: Path) -> bool:
    """Whether that is an image, video, table or JSON file that predict wrote; False where it cannot be read."""
    with suppress(Exception):  # whatever a damaged file makes its reader throw, it is not ours
        if not path.is_file():
            return False
        match path.suffix.lower():
            case ".parquet":
                with path.open("rb") as data:
                    data.seek(-min(path.stat().st_size, 2**16), os.SEEK_END)
                    return MARK.encode() in data.read()  # in the footer
            case ".png":
                with Image.open(path) as image:
                    return image.info.get("Software") == MARK
            case ".mp4":
                with open_container(path) as box:
                    return box.metadata.get("comment") == MARK
            case suffix if suffix in _WRITTEN:
                with path.open(encoding="utf-8") as file:
                    return _WRITTEN[suffix].match(file.readline(4096) + file.read(80)) is not None
    return False
