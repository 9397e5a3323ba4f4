"""Journals of a job on many files: one line for each file that is done, in a file for each process.

A line is a head (what is known of the file, with a checksum), a tab, and the prediction as JSON. Lines are only ever
appended, so a kill costs at most the last one; those that a disk damaged are left out. In object storage, where nothing
can be appended, new lines become a numbered object.
"""

from __future__ import annotations

import json
import math
import os
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from emozoo.bucket import Bucket
from emozoo.errors import EmozooError, UsageError

SIGN_S = 30.0  # a process that works gives a sign of life at least this often; lines reach object storage as often


class Line(NamedTuple):
    """What a journal says about a file; the prediction itself stays in the journal until it is asked for.

    ``written``: names of its results; ``failure``: code of its error, ``not_written`` for results that could not be
    written, None where all is well. ``start``, ``size``: bytes of the prediction's JSON in ``journal``.
    """

    file: str
    name: str
    state: list[Any]
    written: list[str]
    failure: str | None
    when: float
    journal: Path
    start: int
    size: int

    @property
    def rank(self) -> str:
        """The process that wrote it, in this run or an earlier one: its lines are read in the order of writing."""
        return self.journal.name[:5]

    def text(self) -> str:
        """The prediction as JSON on one line."""
        with self.journal.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size).decode()


class Journal:
    """The journals of all processes in one folder, of which this one appends to its own.

    ``damaged``: how many lines were left out because they are not what was once written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.damaged = folder, 0
        self._own: IO[bytes] | None = None
        self._read: dict[Path, int] = {}
        self._alive = time.monotonic()

    def open(self, rank: int) -> None:
        """Raises UsageError while another process appends to the journal of this rank."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._own = locked(self.folder / f"{rank:05d}.jsonl", f"process {rank} of another run")
        if self._own.tell():
            self._own.write(b"\n")  # ends a line that a kill cut off

    def read(self) -> list[Line]:
        """What was appended since the last call, by any process. Lines that are cut off or damaged are left out."""
        found = []
        for path in sorted(self.folder.glob("*.jsonl")):
            at = self._read.get(path, 0)
            with suppress(FileNotFoundError), path.open("rb") as file:  # the first process ends the job at this moment
                file.seek(at)
                for raw in file:
                    if not raw.endswith(b"\n"):
                        break
                    try:
                        if line := _line(raw[:-1], path, at):
                            found.append(line)
                    except (ValueError, KeyError, TypeError):
                        self.damaged += 1
                    at += len(raw)
            self._read[path] = at
        return found

    def append(
        self, file: str, name: str, state: Sequence[Any], written: Sequence[str], failure: str | None, text: str,
        after: float = 0.0,
    ) -> None:  # fmt: skip
        """Adds a line, whose fields are those of :class:`Line`; ``text``: the prediction as JSON.

        ``after``: the line is later than this, whatever the clock says.
        """
        assert self._own is not None
        data = text.encode()
        head = {
            "file": file, "name": name, "state": list(state), "written": list(written), "failure": failure,
            "when": max(time.time(), math.nextafter(after, math.inf)), "size": len(data),
        }  # fmt: skip
        head["crc"] = _checksum(head, data)
        self._own.write(json.dumps(head).encode() + b"\t" + data + b"\n")
        self._own.flush()
        self.alive()

    def alive(self) -> None:
        """A sign of life while one file takes long."""
        if self._own is not None and time.monotonic() - self._alive > SIGN_S:
            self._alive = time.monotonic()
            with suppress(OSError):
                os.utime(self._own.name)

    def pulse(self) -> Any:
        """Something that changes while any process is at work."""
        return [(p.name, p.stat().st_size, p.stat().st_mtime) for p in sorted(self.folder.glob("*.jsonl"))]

    def close(self) -> None:
        """Ends the journal of this process."""
        self.discard()

    def discard(self) -> None:
        """Ends the journal of this process, whose last lines nobody needs any more."""
        if self._own is not None:
            self._own.close()
            self._own = None


def _line(raw: bytes, journal: Path, at: int) -> Line | None:
    """The line that begins at byte ``at``; None for one that a kill cut off, and for what ends it.

    Raises ValueError, KeyError or TypeError for a damaged one.
    """
    head, tab, text = raw.partition(b"\t")
    if not tab and (not head or head.startswith(b"{")):
        return None
    said = json.loads(head)
    if not isinstance(said, dict):
        raise ValueError("a head is an object")
    checksum, size = said.pop("crc", None), said["size"]
    if len(text) < size:
        return None
    if checksum is None:  # of an earlier version
        whole = isinstance(json.loads(text.decode()), dict) and isinstance(said["name"], str)
        whole &= isinstance(said["when"], float) and isinstance(said["written"], list)
    else:
        whole = checksum == _checksum(said, text)
    if not whole or len(text) > size:
        raise ValueError("not what was written")
    return Line(**said, journal=journal, start=at + len(head + tab))


def _checksum(head: dict[str, Any], text: bytes) -> int:
    return zlib.crc32(text, zlib.crc32(json.dumps(head).encode()))


class BucketJournal(Journal):
    """Journals in object storage: numbered objects, which a folder on this machine mirrors."""

    def __init__(self, bucket: Bucket, inner: str, folder: Path) -> None:
        super().__init__(folder)
        self._bucket, self._inner = bucket, inner
        self._there: set[str] = set()
        self._rank = self._sent = self._number = 0
        self._uploaded = time.monotonic()

    def open(self, rank: int) -> None:
        self._rank = rank
        own = [key for key in self._there if key.startswith(f"{self._inner}/{rank:05d}-")]
        self._number = max((int(Path(key).stem[6:]) for key in own), default=-1) + 1
        super().open(rank)

    def read(self) -> list[Line]:
        self.folder.mkdir(parents=True, exist_ok=True)
        for key in sorted(found.key for found in self._bucket.list(self._inner)):
            if key not in self._there and key.endswith(".jsonl"):
                self._bucket.fetch(key, self.folder / PurePosixPath(key).name)
                self._there.add(key)
        return super().read()

    def alive(self) -> None:
        """Uploads what is new, from time to time; what could not be uploaded comes with the next time, or ``close``."""
        if time.monotonic() - self._uploaded > SIGN_S:
            self._uploaded = time.monotonic()
            with suppress(EmozooError):
                self._upload()

    def _upload(self) -> None:
        """Writes the lines since the last time as one more object; without any, an empty one as a sign of life."""
        assert self._own is not None
        with open(self._own.name, "rb") as file:
            file.seek(self._sent)
            lines = file.read()
        key = f"{self._inner}/{self._rank:05d}-{self._number:06d}.jsonl"
        self._bucket.put(key, lines)
        self._there.add(key)
        self._sent += len(lines)
        self._number += 1
        self._uploaded = time.monotonic()

    def pulse(self) -> Any:
        return len(self._there)

    def close(self) -> None:
        if self._own is not None:
            self._upload()
        super().close()


def locked(path: Path, who: str) -> IO[bytes]:
    """The file, open to append, and locked until it is closed. Raises UsageError where another process locked it."""
    while True:
        file = path.open("ab")
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UsageError(f"{path}: {who} is at work at this moment: wait for it, or end it") from None
        except (ImportError, OSError):  # Windows, and file systems without locks: nobody is kept out
            return file
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # whoever held it has just removed it
