"""Making a prepared store (:mod:`emozoo.data.store`): resumable, parallel, across machines.

The rows of the manifest are cut into parts by their number alone, however many processes there are. A part is written
into a folder of its own and gets its name by renaming, so that it is there whole or not at all; a run that was killed
goes on with the parts that are missing. Process ``rank`` of ``world`` makes every ``world``-th part, and the process
with rank 0 joins them in the order of the manifest when all are there. So the content never depends on who made it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from emozoo import files, hub, registry
from emozoo.data import datasets, faces, store, store_check
from emozoo.data.find import one_line
from emozoo.data.manifest import Row, some
from emozoo.data.media_state import state_of, unchanged
from emozoo.data.pack import pack
from emozoo.data.store import Cover
from emozoo.errors import DatasetError, EmozooError, UsageError, VideoError
from emozoo.launch import SILENT_S, launched
from emozoo.spec import ClipSpec

WORK = ".prepare"  # folder of parts, inside the store until it is finished
PLAN = "plan.json"
PARTS = 256  # how many parts a data set is cut into, where it has more rows
CHUNK_BYTES = 64 << 20
_WAIT_S = 0.5

Progress = Callable[[int, int], None]

_log = logging.getLogger(__name__)  # without a handler of the user's, one plain line on stderr


@dataclass(frozen=True)
class Result:
    """A finished store.

    ``folder``: of the store, or the address that it was uploaded to; ``items``: how many; ``failed``: file and reason
    of each item that could not be read; ``content_sha256``: of all items, in whatever order.
    """

    folder: str
    items: int
    failed: list[tuple[str, str]]
    content_sha256: str


# -- one part ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """Rows to write into one folder; ``fatal``: numbers of rows that ended their process and are not tried again."""

    number: int
    rows: tuple[tuple[Row, str], ...]  # with the file's name below the root
    cover: Cover
    work: str
    fatal: frozenset[int] = frozenset()

    @property
    def folder(self) -> Path:
        return Path(self.work, f"part-{self.number:05d}")

    @property
    def at_work(self) -> Path:
        """The file with the number of the row being read, which shows the culprit where the process dies."""
        return Path(self.work, f"row-{socket.gethostname()}-{self.number:05d}")


def _open_writer(folder: Path) -> Any:
    """litdata's writer of chunks, for items that are plain bytes.

    Where pyarrow is installed, litdata writes such items as Arrow tables, which can be read only where it is installed,
    too. It goes by the types of the items, which are hidden from it here.
    """
    os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
    from litdata.streaming.writer import BinaryWriter

    class Writer(BinaryWriter):
        _types = property(lambda self: None, lambda self, types: None)

    return Writer(str(folder), chunk_bytes=CHUNK_BYTES)


def _line_of(row: Row, file: str) -> dict[str, Any]:
    """What the table of the store says of a row before it is read."""
    extra = {k: v for k, v in row.extra.items() if k not in ("va_file", "sound")}  # they come along beside it
    found: dict[str, Any] = {"row": {**asdict(row), "extra": extra}, "file": file, "labels": None}
    del found["row"]["path"]
    return found


def _write_part(part: _Part) -> int:
    """Writes one part unless it is there; returns its number."""
    if part.folder.is_dir():
        return part.number
    draft = Path(part.work, f"draft-{part.number:05d}-{socket.gethostname()}-{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    writer = _open_writer(draft)
    lines = []
    for n, (row, file) in enumerate(part.rows):
        part.at_work.write_text(str(n))
        line = {**_line_of(row, file), "media": state_of(row)}
        sidecar = row.extra.get("va_file")
        item = dict.fromkeys(store.LEAVES, b"")
        error = None
        try:
            if n in part.fatal:
                raise VideoError(row.path, "reading it ends the process", "broken")
            item, facts = pack(row, part.cover)
        except VideoError as e:
            error = {"code": e.code, "reason": e.reason}
        except EmozooError:  # of the run, not of the item
            raise
        except Exception as e:  # one bad item never ends the run
            error = {"code": "unreadable", "reason": f"{type(e).__name__}: {e}"}
        if error:
            item["head"] = json.dumps({"error": error}, sort_keys=True).encode()
            facts = {"frames": 0, "no_face": False, "warnings": []}
        if sidecar is not None and Path(sidecar).is_file():
            line["labels"] = f"{part.number:05d}-{n:05d}.csv"
            (draft / store.LABELS).mkdir(exist_ok=True)
            shutil.copyfile(sidecar, draft / store.LABELS / line["labels"])
        writer.add_item(n, item)
        size = sum(map(len, item.values()))
        lines.append({**line, "sha256": store.digest(item), "bytes": size, "error": error, **facts})
    writer.done()
    table = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (draft / store.ROWS).write_text(table, encoding="utf-8")
    part.at_work.unlink(missing_ok=True)
    try:
        draft.rename(part.folder)
    except OSError:  # another process was quicker
        if not part.folder.is_dir():
            raise
        shutil.rmtree(draft)
    return part.number


def _make(parts: Sequence[_Part], workers: int, done: Callable[[_Part], None]) -> None:
    """Writes all parts. A process that dies of an item is replaced, and that item becomes an error."""
    todo = {p.number: p for p in parts}
    if workers == 1:
        for p in parts:
            _write_part(p)
            done(p)
        return
    while todo:
        try:
            with _pool(min(workers, len(todo))) as pool:
                for future in as_completed([pool.submit(_write_part, p) for p in todo.values()]):
                    done(todo.pop(future.result()))
        except BrokenProcessPool:
            there = [p for p in todo.values() if p.folder.is_dir()]
            suspects = [p for p in todo.values() if p not in there and p.at_work.is_file()]
            if not there and not suspects:
                raise DatasetError(
                    "a worker process ended at its start (no memory left?): run the same command with fewer --workers"
                ) from None
            for p in there:
                done(todo.pop(p.number))
            for p in suspects:
                todo[p.number] = _without_killer(p)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with this one, however it ends, and begin nothing new after an error."""
    # spawn: decoders must not cross a fork
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _without_killer(part: _Part) -> _Part:
    """Tries a part alone; where its process dies again, the row that it was reading is not tried a third time."""
    try:
        with _pool(1) as pool:
            pool.submit(_write_part, part).result()
        return part
    except BrokenProcessPool:
        killer = int(part.at_work.read_text() or 0)
        return _Part(part.number, part.rows, part.cover, part.work, part.fatal | {killer})


# -- the whole -----------------------------------------------------------------------------------------------------


def _processors() -> int:
    """Processors that this process may use, shared with those that the launcher started beside it."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, there // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def cover_of(names: Sequence[str], *, rate: float = 0.0, detector: str | None = None) -> Cover:
    """The cover that serves the models of these names (``arch``, ``arch.tag``, folder of weights); none = all.

    A bare architecture stands for its default weights and for networks of its sizes that are trained on the store.
    Sizes take the detector of the weights beside them. Where all models are asked for, one detector finds the faces of
    all: the one that most default weights name.

    Args:
        detector: in place of those that the models name, which ``cascade`` replaces where they cannot be had.

    Raises UsageError for models that cannot share a store.
    """
    trained: list[ClipSpec] = []
    sizes: list[ClipSpec] = []
    for name in names or registry.MODELS:
        if Path(name, hub.CONFIG).is_file():
            trained.append(ClipSpec.from_dict(hub.read_config(Path(name)).get("spec") or {}))
            continue
        model, weights = registry.resolve(name)
        if weights is not None and "spec" in weights.config:
            trained.append(ClipSpec.from_dict(weights.config["spec"]))
        if weights is None or "." not in name:
            sizes += model.specs.values()
    named = Counter(spec.detector for spec in trained if spec.needs_face)
    if named and detector is None:
        common = named.most_common(1)[0][0]
        sizes = [spec.with_detector(common) for spec in sizes]
        if not names:
            trained = [spec.with_detector(common) for spec in trained]
    specs = trained + sizes
    return Cover.of(specs if detector else map(faces.available, specs), rate=rate, detector=detector)


def prepare(
    dataset: str,
    root: str | Path,
    out: str | Path,
    *,
    cover: Cover,
    workers: int | None = None,
    progress: Progress = lambda done, of: None,
) -> Result | None:
    """Makes the store ``out``, or goes on where a run was killed; under a launcher, together with the other processes.

    Args:
        out: a folder, or an address (``s3://…``, ``gs://…``) that the store is copied to when it is finished.
        workers: processes to start; None = one for each processor, 1 = this process alone, which then dies of
            an item that crashes a decoder.
        progress: called with the number of finished items and of all.

    Returns:
        What was made; None in the processes that only help (rank > 0).

    Raises:
        UsageError: ``out`` holds something else, or a store of other data or settings, or of media that have changed.
        DatasetError: the data set cannot be read, or nothing comes from the other processes.
    """
    rank, world = launched()
    manifest = datasets.load(dataset, root)
    if store.is_store(root):
        raise UsageError(f"{root} is a prepared store already")
    folder = Path(store.clean(out))
    if store.is_url(out):
        folder = files.cache_folder() / "prepare" / hashlib.sha256(store.clean(out).encode()).hexdigest()[:16]
    out_, roots = folder.resolve(), {manifest.root.resolve(), Path(os.path.expanduser(root)).resolve()}
    if any(r.is_dir() and (out_ == r or r in out_.parents) for r in roots):
        raise UsageError(f"{folder} lies inside the data set, where nothing is written: choose another --out")
    if cover.detector is not None:
        faces.detector(cover.detector)  # a missing detector is one error, not one for each item
    size = max(1, min(1024, math.ceil(len(manifest) / PARTS)))
    plan = {
        "schema": store.SCHEMA,
        "dataset": dataset,
        "dataset_name": manifest.name,
        "protocol": manifest.protocol,
        "version": manifest.version,
        "classes": list(manifest.classes),
        "covers": json.loads(json.dumps(cover.to_dict())),
        "part_rows": size,
        "rows_sha256": _rows_digest(manifest.rows),
    }
    try:  # as the finished store will be read
        store_check.meta({**plan, "source": str(manifest.root)})
    except ValueError as error:
        raise DatasetError(f"{one_line(manifest.root)}: cannot be made into a store: {error}") from error
    names = [os.path.relpath(r.path, manifest.root).replace(os.sep, "/") for r in manifest.rows]
    numbered = list(zip(manifest.rows, names, strict=True))
    for row, name in numbered:
        try:  # as the finished store will be read
            line = json.loads(json.dumps({**_line_of(row, name), "sha256": "", "error": None}))
            store_check.line(line, len(manifest.classes))
        except ValueError as error:
            raise DatasetError(f"{one_line(name)}: cannot be put into a store: {error}") from error
    work = folder / WORK
    _agree(folder, plan)
    if (folder / store.META).is_file():
        if rank:
            return None
        shutil.rmtree(work, ignore_errors=True)
        if changed := _changed(numbered, store.Store(folder).lines):
            raise UsageError(
                f"{folder} was made before {_files(changed)} changed: use it as it is (--root {folder}), delete it to "
                "prepare it anew, or choose another --out"
            )
        return _result(folder, out)
    parts = [
        _Part(n, tuple(numbered[at : at + size]), cover, str(work))
        for n, at in enumerate(range(0, len(numbered), size))
    ]
    with _alone(folder, rank, world):
        _drop_changed(folder, parts if rank == 0 else parts[rank::world])
        there = sum(len(p.rows) for p in parts if p.folder.is_dir())
        progress(there, len(numbered))

        def done(part: _Part) -> None:
            nonlocal there
            there += len(part.rows)
            progress(there, len(numbered))

        mine = [p for p in parts if p.number % world == rank and not p.folder.is_dir()]
        _make(mine, workers or _processors(), done)
        if rank:
            return None
        _wait(parts, lambda n: progress(n, len(numbered)))
        _join(folder, plan, parts, str(manifest.root))
    return _result(folder, out)


def _rows_digest(rows: Sequence[Row]) -> str:
    total = hashlib.sha256()
    for r in rows:
        total.update(json.dumps([v for k, v in vars(r).items() if k not in ("path", "extra")]).encode())
        total.update(os.fsencode(os.path.basename(r.extra.get("sound", ""))))
        if (labels := r.extra.get("va_file")) and os.path.isfile(labels):
            total.update(Path(labels).read_bytes())
    return total.hexdigest()


def _changed(rows: Sequence[tuple[Row, str]], lines: Sequence[dict[str, Any]]) -> list[str]:
    """The files of rows whose media have changed since these lines of the table were written."""
    return [file for (row, file), line in zip(rows, lines, strict=False) if not unchanged(row, line.get("media"))]


def _files(names: Sequence[str]) -> str:
    return f"{len(names)} of its files ({some(map(one_line, names), 3)})"


def _drop_changed(folder: Path, parts: Sequence[_Part]) -> None:
    """Takes away parts of an earlier run whose media have changed since, and says so."""
    if any(folder.glob("*.bin")):  # it was killed while it joined them: they are no longer whole
        return
    found: list[str] = []
    for part in parts:
        with suppress(FileNotFoundError):  # not made yet, or taken away by another process
            table = (part.folder / store.ROWS).read_text(encoding="utf-8").rstrip("\n").split("\n")
            if changed := _changed(part.rows, [json.loads(line) for line in table]):
                found += changed
                old = f"old-{part.number:05d}-{socket.gethostname()}-{os.getpid()}"
                shutil.rmtree(part.folder.rename(part.folder.with_name(old)))
    if found:
        _log.warning("%s: %s changed since they were read, and are read anew", folder, _files(found))


def _agree(folder: Path, plan: dict[str, Any]) -> None:
    """Writes the plan, or compares it with the one that is there."""
    file = folder / WORK / PLAN
    there = folder / store.META if (folder / store.META).is_file() else file
    if not there.is_file():
        if folder.is_dir() and any(p.name != WORK for p in folder.iterdir()):
            raise UsageError(f"{folder} holds something else: choose another --out")
        files.check_writable(folder)
        files.write_text(file, json.dumps(plan, indent=1))
        return
    found = json.loads(there.read_text(encoding="utf-8"))
    differ = [
        f"{k} {json.dumps(found.get(k))} there, {json.dumps(v)} now" if k != "rows_sha256" else "the table of items"
        for k, v in plan.items()
        if found.get(k) != v
    ]
    if differ:
        raise UsageError(f"{folder} is a store of other data or settings ({'; '.join(differ)}): choose another --out")


@contextmanager
def _alone(folder: Path, rank: int, world: int) -> Iterator[None]:
    """Stops a second run on the same machine from writing the same store; the lock ends with the process."""
    if rank:
        yield
        return
    with (folder / WORK / "lock").open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows: a second run does some work twice, and the first result counts
            pass
        except OSError:
            raise UsageError(f"another process prepares {folder} at this moment: wait for it, or end it") from None
        yield


def _wait(parts: Sequence[_Part], progress: Callable[[int], None]) -> None:
    """Waits until the other processes have made their parts."""
    last, since = -1, time.monotonic()
    while True:
        there = [p for p in parts if p.folder.is_dir()]
        if len(there) == len(parts):
            return
        if len(there) != last:
            last, since = len(there), time.monotonic()
            progress(sum(len(p.rows) for p in there))
        if time.monotonic() - since > SILENT_S:
            missing = len(parts) - len(there)
            raise DatasetError(
                f"{missing} parts of other processes did not come for {SILENT_S / 60:.0f} minutes: run the same "
                "command again, it goes on where it stopped"
            )
        time.sleep(_WAIT_S)


def _join(folder: Path, plan: dict[str, Any], parts: Sequence[_Part], source: str) -> None:
    """Puts the parts' chunks side by side by renaming, as ``litdata.merge_datasets`` does by copying."""
    chunks: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    lines: list[str] = []
    (folder / store.LABELS).mkdir(exist_ok=True)
    for part in parts:
        index = json.loads(next(part.folder.glob(f"*{store.INDEX}")).read_text())
        config = index["config"]
        for chunk in index["chunks"]:
            name = f"chunk-0-{len(chunks)}.bin"
            _move(part.folder / chunk["filename"], folder / name)
            chunks.append({**chunk, "filename": name})
        for labels in sorted((part.folder / store.LABELS).glob("*")):
            _move(labels, folder / store.LABELS / labels.name)
        lines += (part.folder / store.ROWS).read_text(encoding="utf-8").rstrip("\n").split("\n")  # not at U+2028
    files.write_text(folder / store.ROWS, "\n".join(lines) + "\n")
    files.write_text(folder / store.INDEX, json.dumps({"chunks": chunks, "config": config}))
    rows = [json.loads(line) for line in lines]
    meta = {
        **plan,
        "source": source,
        "items": len(rows),
        "failed": sum(r["error"] is not None for r in rows),
        "bytes": sum(r["bytes"] for r in rows),
        "content_sha256": store.total_digest((r["row"]["id"], r["row"]["label"], r["sha256"]) for r in rows),
        "versions": files.versions(),
    }
    files.write_text(folder / store.META, json.dumps(meta, indent=1, ensure_ascii=False))
    shutil.rmtree(folder / WORK, ignore_errors=True)


def _move(source: Path, target: Path) -> None:
    """Renames; where a run was killed between the two, the target is there already."""
    if source.exists():
        os.replace(source, target)


def _result(folder: Path, out: str | Path) -> Result:
    opened = store.Store(folder)
    if store.is_url(out):
        store.upload(folder, store.clean(out))
    failed = [(line["file"], line["error"]["reason"]) for line in opened.lines if line["error"]]
    return Result(store.clean(out), len(opened.lines), failed, opened.meta["content_sha256"])
