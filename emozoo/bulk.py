"""Predictions of many files as one job: shared by any number of processes, resumed after a kill, joined in one table.

Process ``rank`` of ``world`` predicts every ``world``-th file of the list. It writes the results of a file first, then
a line about it into a journal of its own, in a hidden folder of the results. A process that starts reads all journals,
so that only the rest is predicted, however many processes there were before. The first process waits until there is a
line about every file, writes the tables and removes the hidden folder. Processes meet in the folder of results alone.

Results may also lie in object storage: then a journal is a row of objects, each with the lines of some seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, Any, NamedTuple

from emozoo import files, summary
from emozoo.bucket import Bucket
from emozoo.data import find, store
from emozoo.data.manifest import MEDIA, of_the_system
from emozoo.errors import EmozooError, UsageError
from emozoo.inference import IMAGE_BYTES, IMAGES, Prediction, Predictor
from emozoo.journal import BucketJournal, Journal, Line, locked
from emozoo.launch import SILENT_S, STARTED

WORK = ".predict"  # hidden folder of the results, there until the job is done
NOT_WRITTEN = "not_written"
TELL_S, AGAIN_S = 10.0, 600.0  # waiting for other processes is said after so long, and then so often
_WAIT_S = 0.5


class Source(NamedTuple):
    """A file to predict. ``file``: what the result calls it; ``name``: of what is written about it.

    ``path``: what is opened; ``bucket`` and ``key``: where it is to be fetched from first; ``state``: changes with its
    content, None = look at the file.
    """

    file: str
    name: str
    path: Path
    bucket: Bucket | None = None
    key: str = ""
    state: tuple[Any, ...] | None = None

    def seen(self) -> list[Any]:
        """The state of the file, as journals hold it; empty where there is none."""
        if self.state is not None:
            return list(self.state)
        with suppress(OSError, ValueError):
            found = self.path.stat()
            return [found.st_size, found.st_mtime_ns]
        return []


def find_sources(paths: Sequence[Path], out: Path | None = None) -> list[Source]:
    """What is predicted: files, media files of folders, objects below addresses, and items of prepared stores.

    A path with wildcards stands for the media that it matches; ``-`` for the paths on stdin, without wildcards.
    Objects below the address ``out`` are results. Raises UsageError where there is nothing, EmozooError where object
    storage cannot be listed.
    """
    found: list[Source] = []
    for path in paths:
        if str(path) == "-":
            found += [source for one in _list_on_stdin() for source in _sources(one, out)]
        elif not store.is_url(path) and find.is_pattern(path):
            found += [Source(str(p), str(inner), p) for p, inner in find.matching(path)]
        else:
            found += _sources(path, out)
    names = find.unique_names([Path(source.name) for source in found])
    return [source._replace(name=name) for source, name in zip(found, names, strict=True)]


def _list_on_stdin() -> list[Path]:
    """The paths on stdin. Raises UsageError without any."""
    if sys.stdin is None:
        raise UsageError("-: stdin is closed: give a list of paths on it, as `ls clips/*.mp4 | emozoo predict -` does")
    if found := find.read_list(sys.stdin.buffer):
        return found
    raise UsageError("-: no path on stdin: give one on each line, as `ls clips/*.mp4` does")


def _sources(path: Path, out: Path | None) -> list[Source]:
    """What one path or address stands for; a name is still the path inside the folder."""
    if store.is_url(path):
        return _objects(store.clean(path), out)
    if os.path.isfile(path / store.META):
        return _items(str(path))
    return [Source(str(p), str(inner), p) for p, inner in find.listed(path)]


def _objects(url: str, out: Path | None) -> list[Source]:
    bucket = Bucket(url)
    if bucket.head(store.META):
        return _items(url)
    if one := bucket.head():
        parent, _, key = url.rpartition("/")
        return [Source(url, key, Path(key), Bucket(parent), key, (one.size, one.tag))]
    results = store.clean(out) + "/" if out is not None and store.is_url(out) else None
    if results == url + "/":
        raise UsageError(f"--out {url}: holds the media themselves: choose another address")
    found = []
    for key, size, _, tag in bucket.list():
        file = f"{url}/{key}"
        parts = PurePosixPath(key).parts
        ours = results is not None and file.startswith(results)
        if not ours and PurePosixPath(key).suffix.lower() in MEDIA and not any(map(of_the_system, parts)):
            found.append(Source(file, key, Path(parts[-1]), bucket, key, (size, tag)))
    if not found:
        raise UsageError(f"{url}: no media file there (looked for {', '.join(sorted(MEDIA))})")
    return sorted(found, key=lambda source: source.file)


def _items(root: str) -> list[Source]:
    """The items of a prepared store; a result calls each by its id."""
    opened, found = store.open_store(root), []
    for row, line in zip(opened.manifest.rows, opened.lines, strict=True):
        suffix = Path(row.path).suffix
        name = row.id if row.id.endswith(suffix) else row.id + suffix
        inner = [part for part in PurePosixPath(name).parts if part not in ("/", "..")]
        found.append(Source(row.id, "/".join(inner), Path(row.path), state=(line["sha256"],)))
    return found


def check_stores(sources: Sequence[Source], predictor: Predictor) -> None:
    """Raises UsageError where a prepared store among the sources does not serve the model."""
    for root in {root for s in sources if not s.bucket for root, item, _ in [str(s.path).partition("/#")] if item}:
        if store.is_store(root):
            store.open_store(root).require(predictor.spec)


def predictions(
    predictor: Predictor,
    sources: Sequence[Source],
    progress: Callable[[int, float], None],
    on_error: Callable[[Any, Exception], Prediction] | None = None,
) -> Generator[tuple[Prediction, Path]]:
    """The prediction for each source, and the path of its media, which may be gone when the next one is asked for.

    Of objects at most two groups are on disk: the one that is predicted, and the next one. Arguments are those of
    :meth:`emozoo.inference.Predictor.predict_all`.
    """
    first = 0
    with TemporaryDirectory(prefix="emozoo-") as folder, ThreadPoolExecutor(1) as ahead:
        groups = _groups(sources)
        coming = ahead.submit(_fetch, groups[0], Path(folder, "0")) if groups else None
        for number, group in enumerate(groups):
            assert coming is not None
            fetched = coming.result()
            if number + 1 < len(groups):
                coming = ahead.submit(_fetch, groups[number + 1], Path(folder, str(number + 1)))

            def report(inner: int, fraction: float, first: int = first) -> None:
                progress(first + inner, fraction)

            found = predictor.predict_all([path for path, _ in fetched], report, on_error)
            for source, (path, error), prediction in zip(group, fetched, found, strict=True):
                if error is not None:
                    prediction = predictor.failed(source.file, "unreadable", error)
                prediction.file = source.file
                yield prediction, path
            first += len(group)
            shutil.rmtree(Path(folder, str(number)), ignore_errors=True)


def _groups(sources: Sequence[Source]) -> list[list[Source]]:
    """Objects in groups as small as batches of images; all else that follows each other in one group."""
    groups: list[list[Source]] = []
    room = 0
    for source in sources:
        size = source.state[0] if source.bucket and source.state else 0
        last = groups[-1] if groups else []
        full = not last or (source.bucket is None) != (last[-1].bucket is None)
        if full or (source.bucket and (size > room or len(last) == IMAGES)):
            groups.append([])
            room = IMAGE_BYTES
        groups[-1].append(source)
        room -= size
    return groups


def _fetch(group: Sequence[Source], folder: Path) -> list[tuple[Path, str | None]]:
    """The files of a group and, of an object that could not be fetched, why."""
    found: list[tuple[Path, str | None]] = []
    for number, source in enumerate(group):
        if source.bucket is None:
            found.append((source.path, None))
            continue
        path = folder / str(number) / source.path.name
        path.parent.mkdir(parents=True)
        try:
            source.bucket.fetch(source.key, path)
            found.append((path, None))
        except EmozooError as error:
            found.append((path, str(error)))
    return found


# -- results -------------------------------------------------------------------------------------------------------


class Results:
    """A folder of results, ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def exists(self, name: str) -> bool:
        return os.path.isfile(self.root / name)

    def changed(self, name: str) -> float:
        """When a result was written, in seconds; 0 where there is none."""
        return os.path.getmtime(self.root / name) if self.exists(name) else 0.0

    def publish(self, written: Sequence[Path]) -> list[str]:
        """Brings files that were written below ``root`` to where results belong; their names there."""
        return [path.relative_to(self.root).as_posix() for path in written]

    def path(self, name: str, suffix: str) -> Path:
        """Where a result is written."""
        return find.result_path(self.root / name, suffix)

    def journal(self, plan: str) -> Journal:
        return Journal(self.root / WORK / plan)

    def at_work(self) -> bool:
        return (self.root / WORK).is_dir()

    def lock(self) -> IO[bytes] | None:
        (self.root / WORK).mkdir(parents=True, exist_ok=True)
        return locked(self.root / WORK / "lock", "another run")

    def clear(self, but: str | None = None) -> None:
        """Removes the journals, all or those of other plans than ``but``."""
        work = self.root / WORK
        for path in [work] if but is None else work.iterdir():
            if path.name not in (but, "lock"):
                shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Nothing is open."""


class BucketResults(Results):
    """Results in object storage; ``root`` is a folder for those that are being written.

    Raises EmozooError where nothing can be written there.
    """

    def __init__(self, url: str) -> None:
        self._folder = TemporaryDirectory(prefix="emozoo-")
        super().__init__(Path(self._folder.name))
        self._bucket = Bucket(url)
        self._there = {found.key: found.changed for found in self._bucket.list()}
        probe = f"{WORK}-{os.urandom(4).hex()}"
        self._bucket.put(probe, b"")
        self._bucket.delete([probe])

    def exists(self, name: str) -> bool:
        return name in self._there

    def changed(self, name: str) -> float:
        return self._there.get(name, 0.0)

    def publish(self, written: Sequence[Path]) -> list[str]:
        names = super().publish(written)
        for name, path in zip(names, written, strict=True):
            self._bucket.put(name, path)
            path.unlink()
        return names

    def journal(self, plan: str) -> Journal:
        return BucketJournal(self._bucket, f"{WORK}/{plan}", self.root / WORK / plan)

    def at_work(self) -> bool:
        return any(name.startswith(f"{WORK}/") for name in self._there)

    def lock(self) -> None:
        """Object storage has no locks."""

    def clear(self, but: str | None = None) -> None:
        keys = [found.key for found in self._bucket.list(WORK)]
        self._bucket.delete([key for key in keys if but is None or not key.startswith(f"{WORK}/{but}/")])

    def close(self) -> None:
        self._folder.cleanup()


def results_at(out: Path) -> Results:
    """The results in a folder, or below an address."""
    return BucketResults(store.clean(out)) if store.is_url(out) else Results(out)


# -- the job -------------------------------------------------------------------------------------------------------


class Job:
    """The part of one process in a job: ``mine`` are its files, ``before`` names those that were predicted before.

    Raises UsageError where another run is at work in the same folder.
    """

    def __init__(
        self, results: Results, sources: Sequence[Source], settings: Any, rank: int = 0, world: int = 1
    ) -> None:
        self.results, self.sources, self.rank, self.world = results, sources, rank, world
        self.mine = sources[rank::world]
        self.before: set[str] = set()
        self._lines: dict[str, Line] = {}
        self._ahead: dict[str, float] = {}  # times of lines about a file, by clocks that are ahead of ours
        self._noted: set[str] = set()  # by this process, in this run
        self._doubtful: set[str] = set()  # failed before this run began
        self.late = rank > 0 and not results.at_work() and results.changed(self._table(".jsonl")) >= STARTED
        if self.late:  # the others found everything done, and have left
            self.before = {source.name for source in self.mine}
            return
        plan = hashlib.sha256(json.dumps([settings, files.versions()], sort_keys=True).encode()).hexdigest()[:16]
        self._lock = results.lock() if rank == 0 else None
        if rank == 0:
            results.clear(but=plan)
        self.journal = results.journal(plan)
        self._update()
        self._doubtful.clear()
        for source in sources if rank == 0 else self.mine:
            line = self._lines.get(source.name)
            if line is None:
                continue
            same = line.file == source.file and line.state == source.seen()
            if same and line.failure is None and all(map(results.exists, line.written)):
                self.before.add(source.name)
            elif same and line.failure is not None:
                if line.when < STARTED or line.name in self._ahead:
                    self._doubtful.add(source.name)
            else:
                del self._lines[source.name]
        if rank == 0 or self.todo:
            self.journal.open(rank)

    @property
    def earlier(self) -> int:
        """How many of the files were predicted before this run began."""
        return sum(self._lines[name].when < STARTED for name in self.before)

    @property
    def done(self) -> int:
        """How many of the files are predicted by now."""
        self._update()
        return sum(source.name in self._lines for source in self.sources)

    @property
    def todo(self) -> list[Source]:
        """The files that this process has to predict."""
        return [source for source in self.mine if source.name not in self.before]

    def text(self, source: Source) -> str | None:
        """The JSON of a file that was predicted before; None where the first process has finished the job meanwhile."""
        try:
            return None if self.late else self._lines[source.name].text()
        except FileNotFoundError:
            return None

    def note(self, source: Source, prediction: Prediction, written: Sequence[str] | None) -> None:
        """Notes that a file is done, with the names of its results; None: they could not be written."""
        failure = prediction.error["code"] if prediction.error else None if written is not None else NOT_WRITTEN
        self.journal.append(
            source.file, source.name, source.seen(), written or (), failure, prediction.to_json(),
            after=self._ahead.get(source.name, 0.0),
        )  # fmt: skip
        self._noted.add(source.name)

    def wait(self, progress: Callable[[int], None], say: Callable[[str], None] = lambda text: None) -> list[Source]:
        """Waits until there is a line about every file; those that the first process has to try again itself.

        ``say`` gets a line about whom it waits for, from time to time. The others wait for nobody. Raises EmozooError
        where nothing comes from the other processes any more, and where lines of this one could not be written.
        """
        if self.late:
            return []
        self._update()
        own = {source.name for source in self.mine}
        noted = self._noted if self.rank else set()  # of others the first process may have removed the lines
        if lost := len(own - self._lines.keys() - noted):
            raise EmozooError(
                f"{lost} files could not be noted as done in {self.results.root / WORK}: run the same command again "
                "when there is space on the disk"
            )
        if self.rank:
            return []
        last, began = None, time.time()
        since, heard, tell = time.monotonic(), began, time.monotonic() + TELL_S
        while True:
            self._update()
            missing = [i for i, source in enumerate(self.sources) if source.name not in self._lines]
            if not missing:
                return [s for s in self.sources if s.name in self._doubtful and s.name not in own]
            if (pulse := self.journal.pulse()) != last:
                last, since, heard = pulse, time.monotonic(), time.time()
                progress(len(self.sources) - len(missing))
            if time.monotonic() > tell:
                tell = time.monotonic() + AGAIN_S
                say(self._waits_for(missing, began, heard))
            if time.monotonic() - since > SILENT_S:
                raise EmozooError(
                    f"{len(missing)} files of other processes did not come for {SILENT_S / 60:.0f} minutes: run the "
                    "same command again, it goes on where it stopped"
                )
            time.sleep(_WAIT_S)

    def _waits_for(self, missing: Sequence[int], began: float, heard: float) -> str:
        """A line about the processes whose files are missing, by their numbers in the list."""
        ranks = sorted({number % self.world for number in missing})
        who = ", ".join(map(str, ranks[:8])) + (f" and {len(ranks) - 8} more" if len(ranks) > 8 else "")
        began_at, heard_at = (time.strftime("%H:%M:%S", time.localtime(t)) for t in (began, heard))
        return (
            f"waiting for {len(missing)} files of processes {who} (ranks from 0 to {self.world - 1}) since {began_at}, "
            f"no sign of life since {heard_at}; without one for {SILENT_S / 60:.0f} minutes this is an error"
        )

    def finish(self, parquet: bool = False, about: Mapping[str, Any] | None = None) -> bool:
        """Writes the tables and removes the journals; returns whether every file was predicted and written.

        ``parquet``: also the table of all moments; ``about``: also the report, with these facts about the model.
        Journals stay where some results could not be written.
        """
        self._update()
        lines = [self._lines[source.name] for source in self.sources]
        self._write_tables(lines, parquet, about)
        if not any(line.failure == NOT_WRITTEN for line in lines):
            self.journal.discard()
            self.results.clear()
        return not any(line.failure for line in lines)

    def close(self) -> None:
        """Ends the part of this process; what was done is kept."""
        if not self.late:
            self.journal.close()
            if self._lock is not None:
                self._lock.close()

    def _update(self) -> None:
        """Reads what is new: of the lines about a file the last one of a process counts, among processes the newest."""
        for line in self.journal.read():
            there = self._lines.get(line.name)
            if line.when > time.time():
                self._ahead[line.name] = max(line.when, self._ahead.get(line.name, 0.0))
            if there is None or line.when >= there.when or line.rank == there.rank:
                self._lines[line.name] = line
                self._doubtful.discard(line.name)

    def _table(self, suffix: str) -> str:
        """The name of a table, which no file of the user's has for its results."""
        taken, stem = {source.name.lower() for source in self.sources}, "predictions"
        while stem in taken:
            stem = f"all_{stem}"
        return stem + suffix

    def _write_tables(self, lines: Sequence[Line], parquet: bool, about: Mapping[str, Any] | None) -> None:
        """What there is of all files together, whatever was asked for; of a single file no JSON and CSV once more."""
        several = len(lines) > 1
        writers: list[tuple[str, Callable[[Path], None]]] = []
        if several:
            writers += [(".jsonl", lambda path: summary.write_jsonl(path, lines))]
            writers += [(".csv", lambda path: summary.write_csv(path, lines))]
        if parquet:
            writers += [(".parquet", lambda path: summary.write_parquet(path, lines))]
        if about is not None:
            from emozoo import report  # brings matplotlib, for its colors

            writers += [(".html", lambda path: report.write(path, lines, about))]
        stem = self._table("") if several else self.sources[0].name
        for suffix, write in writers:
            path = self.results.path(stem, suffix)
            try:
                write(path)
            except OSError as error:
                why = error.strerror or error
                raise EmozooError(f"{path}: not written ({why}); the results of all files are there") from error
            self.results.publish([path])
