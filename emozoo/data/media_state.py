"""Whether the media of a row are still those that were read: by names, sizes and times of change, else by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from emozoo.data.manifest import Row


def state_of(row: Row) -> dict[str, str]:
    """What :func:`unchanged` compares later; taken before the media are read, so that no change is missed."""
    return {"seen": seen(row), "sha256": content(row.path, row.extra.get("sound"))}


def unchanged(row: Row, state: Mapping[str, Any] | None) -> bool:
    """Whether the media of a row are those of a state; True where none was kept. Copies of the same content are."""
    if state is None or (state["sha256"] and state["seen"] == seen(row)):
        return True
    return bool(state["sha256"] == content(row.path, row.extra.get("sound")))


def content(path: str, sound: str | None = None) -> str:
    """The sha256 of a media file or folder of frames, and of the file with its audio; empty if it cannot be read."""
    found = _hash(path)
    return found if sound is None else hashlib.sha256(f"{found} {_hash(sound)}".encode()).hexdigest()


def seen(row: Row) -> str:
    """A hash of names, sizes and times of change of a media file or all files in its folder, and of its audio's."""
    total = hashlib.sha256()
    for media in filter(None, (row.path, row.extra.get("sound"))):
        with suppress(OSError, ValueError):  # it is not there, or no path at all
            for name in sorted(os.listdir(media)) if os.path.isdir(media) else [""]:
                found = os.stat(os.path.join(media, name) if name else media)
                total.update(os.fsencode(name) + f"\0{found.st_size} {found.st_mtime_ns}\n".encode())
    return total.hexdigest()[:32]


def _hash(path: str) -> str:
    """The sha256 of a file, or of the names and contents in a folder; an empty string if it cannot be read."""
    file = Path(path)
    try:
        if file.is_dir():
            total = hashlib.sha256()
            for p in sorted(q for q in file.iterdir() if q.is_file()):
                total.update(os.fsencode(p.name) + b"\0" + hashlib.sha256(p.read_bytes()).digest())
            return total.hexdigest()
        if not file.is_file():  # a pipe may never end
            return ""
        found = file.stat()
        return _hash_of(path, found.st_size, found.st_mtime_ns)
    except OSError:
        return ""


@lru_cache(maxsize=1024)  # a film has many rows
def _hash_of(path: str, _size: int, _mtime: int) -> str:
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
