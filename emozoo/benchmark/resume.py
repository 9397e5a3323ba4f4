"""Predictions of a run that is not over, in the cache: a run that was killed continues at its next batch."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import IO, Any

from emozoo import files

RETENTION_S = 7 * 24 * 3600  # unfinished predictions that are older than a week are not used


class UnfinishedRun:
    """Predictions of one run, batch by batch, in files of the cache folder.

    There is one file for each pass over data, named by a hash of all that decides its predictions. :meth:`finish`
    removes the files of this run.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or files.cache_folder() / "benchmark"
        self.files: list[Path] = []

    def open(self, key: str) -> tuple[list[dict[str, Any]], IO[str] | None]:
        """The batches that are in the file ``key``, and the file to append to.

        The file is None while another run writes it, or where the cache cannot be written.
        """
        path = self.folder / f"{key}.jsonl"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if path.is_file() and time.time() - path.stat().st_mtime > RETENTION_S:
                path.unlink()
            file = path.open("a+", encoding="utf-8")
        except OSError:
            return [], None  # a killed run then starts anew, nothing worse
        if not _locked(file):
            file.close()
            return [], None
        self.files.append(path)
        file.seek(0)
        found, whole = [], 0
        while line := file.readline():
            try:
                found.append(json.loads(line))
            except ValueError:
                break  # the line that was being written when the run was killed
            whole = file.tell()
        file.seek(whole)
        file.truncate()
        return found, file

    def finish(self) -> None:
        """Removes the files of this run: the next run measures anew."""
        for path in self.files:
            path.unlink(missing_ok=True)


def _locked(file: IO[str]) -> bool:
    """Whether the file could be locked for this process alone."""
    try:
        import fcntl
    except ImportError:  # Windows: one run at a time
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
