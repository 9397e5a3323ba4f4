"""A folder of generated clips: a stamp with the settings, the clips, and the manifest."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import cv2

from emozoo import files
from emozoo.errors import DatasetError

Plan = TypeVar("Plan")  # all that one clip follows from
Progress = Callable[[int, int], None]  # called with (clips done, clips in all)


def write_clips(
    out: Path,
    plans: Sequence[Plan],
    *,
    write: Callable[[Plan, Path], None],
    row: Callable[[Plan, str], Mapping[str, object]],
    columns: Sequence[str],
    stamp: str,
    settings: Mapping[str, Any],
    replace: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Writes ``clips/000000.mp4`` and so on below ``out``, and returns the path of their ``manifest.csv``.

    Clips that are there are not written again, so a killed run continues.

    Args:
        write: writes the clip of a plan to a path, as a whole or not at all; a module's function, for other processes.
        row: the manifest's line of a plan and its clip's relative path. columns: those of the manifest.
        stamp, settings: name of the JSON file of the settings, and all that decides the clips beside their number.
        replace: removes clips of other settings; without it they are an error.
        workers: processes that write clips; 1 = this process alone.

    Raises:
        DatasetError: ``out`` holds clips of other settings, or a manifest or clips that were not made here.
    """
    _check_stamp(out, stamp, json.loads(json.dumps(settings)), replace)
    names = [f"clips/{i:06d}.mp4" for i in range(len(plans))]
    jobs = [(p, out / name) for p, name in zip(plans, names, strict=True) if not (out / name).is_file()]
    for done, _ in enumerate(_run(partial(_write, write), jobs, workers), len(plans) - len(jobs) + 1):
        if progress:
            progress(done, len(plans))
    manifest = out / "manifest.csv"
    text = files.csv_text(map(row, plans, names), columns).encode()
    if not manifest.is_file() or manifest.read_bytes() != text:
        files.write_atomic(manifest, text)
    return manifest


def _check_stamp(out: Path, name: str, settings: dict[str, Any], replace: bool) -> None:
    """Makes the folder of the clips, and writes the stamp where there is none."""
    stamp, clips = out / name, out / "clips"
    same = stamp.is_file() and json.loads(stamp.read_text(encoding="utf-8")) == settings
    if stamp.is_file() and not same and not replace:
        raise DatasetError(f"{out}: holds clips made with other settings (see {name}); choose an empty folder")
    mine = [p for p in (out / "manifest.csv", *sorted(clips.glob("*"))) if p.exists()]
    if mine and not stamp.is_file() and not replace:
        raise DatasetError(f"{mine[0]} was not made here, and would be replaced: choose an empty folder")
    if replace and not same:
        shutil.rmtree(clips, ignore_errors=True)
    clips.mkdir(parents=True, exist_ok=True)
    if not same:
        files.write_text(stamp, json.dumps(settings, indent=1) + "\n")


def _run(write: Callable[[tuple[Plan, Path]], None], jobs: Sequence[tuple[Plan, Path]], workers: int) -> Iterable[None]:
    if workers == 1 or len(jobs) < 2:
        threads = cv2.getNumThreads()
        try:
            yield from map(write, jobs)
        finally:
            cv2.setNumThreads(threads)
        return
    # Fresh processes: threads of OpenCV and torch do not survive a fork. What they run needs no torch: quick to start.
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(write, jobs, chunksize=4)


def _write(write: Callable[[Plan, Path], None], job: tuple[Plan, Path]) -> None:
    cv2.setNumThreads(1)
    write(*job)
