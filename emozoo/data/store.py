"""Prepared stores: decoding, face tracking and resampling done once; items are read back through ``ClipReader``.

A store is a folder, or its copy in object storage: chunks and ``index.json`` as litdata writes them, ``rows.jsonl``
(the manifest, one row a line), ``labels/`` (tables of valence and arousal per frame) and ``store.json`` (what it was
made from and what it covers), which is written last. An item is one row of the manifest: the un-augmented images of
its face, of the whole frame, and its audio, with the times of all frames of the file, so that every sampling rule finds
the same frames as in the file itself. Images are JPEG (quality 95, full colour), never larger than asked for and
never enlarged, so a spec of exactly that size reads the very image that the file gives, but for the JPEG.

Legend: N = frames of the file, n = frames stored, T = detections of the track.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from emozoo import files
from emozoo.data import store_check, views
from emozoo.data.cover import Cover
from emozoo.data.faces import Track
from emozoo.data.find import one_line
from emozoo.data.manifest import MEDIA, Manifest, Row
from emozoo.data.media import Warn
from emozoo.data.store_check import LEAVES
from emozoo.errors import DatasetError, EmozooError, UsageError, VideoError
from emozoo.spec import ClipSpec

SCHEMA = 1
META, ROWS, LABELS, INDEX = "store.json", "rows.jsonl", "labels", "index.json"
CROP, WHOLE = 0, 1  # columns of ``spans``: the face, or the whole image where there is none, and the whole image
_ITEM = re.compile(r"(.+)/#(\d+)-[0-9a-f]*(\.\w+)?")  # with the suffix of the file: stills are known by theirs
_URL = re.compile(r"(s3|gs|r2):/+(?=[^/])")

Item = Mapping[str, Any]  # leaf name → bytes or memoryview


# -- items ---------------------------------------------------------------------------------------------------------


class AudioSpan(NamedTuple):
    """Where the audio of one rate lies in the item and in time: ``first`` = number of its first sample in the file."""

    rate: int
    first: int
    samples: int
    offset: float
    duration: float


def digest(item: Item) -> str:
    """sha256 of an item's content, whichever chunk it lies in."""
    total = hashlib.sha256()
    for leaf in LEAVES:
        total.update(len(item[leaf]).to_bytes(8, "little"))
        total.update(item[leaf])
    return total.hexdigest()


def total_digest(parts: Iterable[tuple[str, str | None, str]]) -> str:
    """sha256 of a whole data set from (id, label, sha256) of its items, independent of their order."""
    lines = sorted(f"{name}\t{label or ''}\t{sha256}" for name, label, sha256 in parts)
    return hashlib.sha256("\n".join(lines).encode(errors="surrogatepass")).hexdigest()


def encode(image: np.ndarray, most: tuple[int, int], interpolation: str) -> bytes:
    """JPEG of an image, shrunk to ``most`` = (H, W) where it is larger; never enlarged."""
    if image.shape[0] * image.shape[1] > most[0] * most[1]:
        image = views.resize(image, most, interpolation)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1].tobytes()


def _decode(data: Any) -> np.ndarray:
    image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


class StoredShot(views.Shot):
    """One stored frame: its views are cut from the stored crop and the stored whole image.

    ``read``: decodes ``CROP`` or ``WHOLE``; ``box``: of the face at that time, None = there is none, and the crop is
    the whole image.
    """

    def __init__(self, read: Callable[[int], np.ndarray | None], size: tuple[int, int], box: Any, cover: Cover) -> None:
        self._read, self._size, self._box, self._cover = read, size, box, cover

    def _needed(self, part: int) -> np.ndarray:
        """Raises VideoError where it is missing, as it is in no store that was made here."""
        image = self._read(part)
        if image is None:
            what = "face" if part == CROP else "whole image"
            raise VideoError("an item of a store", f"is damaged: it has no {what} of a frame", "broken")
        return image

    def frame(self, size: tuple[int, int], interpolation: str) -> np.ndarray:
        parts = (CROP, WHOLE) if self._box is None else (WHOLE,)
        found = [p for p in map(self._read, parts) if p is not None] or [self._needed(WHOLE)]
        exact = [p for p in found if p.shape[:2] == size]
        return views.resize(exact[0] if exact else max(found, key=lambda p: p.size), size, interpolation)

    def face(
        self,
        box: np.ndarray,
        size: tuple[int, int],
        margin: float,
        interpolation: str,
        points: np.ndarray | None = None,
    ) -> np.ndarray:
        crop = self._needed(CROP)  # aligned already where it was to be
        if margin < self._cover.margin and not views.covers(box, *self._size):
            left, top, side = views.square(box, self._cover.margin)
            inner_left, inner_top, inner = views.square(box, margin)
            scale = crop.shape[0] / side
            x, y, n = (round(v * scale) for v in (inner_left - left, inner_top - top, inner))
            crop = crop[max(y, 0) : y + max(n, 1), max(x, 0) : x + max(n, 1)]
        return views.resize(crop, size, interpolation)

    def context(self, box: np.ndarray | None, size: tuple[int, int], interpolation: str) -> np.ndarray:
        image = self._needed(WHOLE)
        if box is not None:  # rounded outwards to whole pixels of the stored image, so that no part of the face is seen
            by = np.array(image.shape[1::-1]) / self._size
            first, last = np.floor(box[:2]) * by, (np.ceil(box[2:]) + 1) * by - 1
            box = np.concatenate([np.floor(first + 1e-6), np.ceil(last - 1e-6)])
        return views.context(image, box, size, interpolation)


class StoredFrames:
    """The images of an item, as :class:`emozoo.data.media.FrameSource`; indices are those of the file.

    ``stored``: indices (n,) of the frames that are there; ``stamps``: seconds (N,) of all frames of the file.

    Frames that were not stored (damaged, outside the labelled part, or left out by ``rate``) count as not whole.
    """

    def __init__(self, item: Item, head: Mapping[str, Any], cover: Cover) -> None:
        self._item, self._cover = item, cover
        self.size = (int(head["size"][0]), int(head["size"][1]))
        self.still = bool(head["still"])
        self.warnings = [Warn(*w) for w in head["warnings"]]
        self.stamps = np.frombuffer(item["stamps"], np.float64)
        self.stored = np.frombuffer(item["kept"], np.int64)
        self._whole = np.zeros(len(self.stamps), dtype=bool)
        self._whole[self.stored] = True
        self._spans = np.frombuffer(item["spans"], np.int64).reshape(-1, 2, 2)
        times = np.frombuffer(item["track_times"], np.float64)
        boxes = np.frombuffer(item["track_boxes"], np.float32).reshape(-1, 4)
        self.tracks = [Track(times, boxes, float(head["step"]))] if len(times) else []

    def check(self, first: int, last: int) -> np.ndarray:
        return self._whole[first : last + 1]

    def shots(self, indices: Sequence[int] | np.ndarray) -> Iterator[StoredShot]:
        """The stored views of the frames with these ascending indices, one frame at a time."""
        for at in np.searchsorted(self.stored, np.asarray(indices)).tolist():
            time = float(self.stamps[self.stored[at]])
            box = self.tracks[0].box_at(time) if self.tracks else None
            yield StoredShot(lru_cache(lambda part, at=at: self._read(at, part)), self.size, box, self._cover)

    def _read(self, at: int, part: int) -> np.ndarray | None:
        """Raises VideoError for an image that is damaged."""
        start, end = self._spans[at, part].tolist()
        if end <= start:
            return None
        data, face = self._item["pictures"][start:end], self._cover.face or 0
        try:
            # A frame without a face is stored once, at the size of the crop or of the whole image.
            size = store_check.jpeg(data, max((face, face), self._cover.frame or (0, 0), key=math.prod))
            image = _decode(data)
            if image.shape[:2] != size:
                raise ValueError("it has another size than its header says")
            return image
        except (ValueError, cv2.error) as error:
            raise VideoError("an image in a store", f"is damaged ({error})", "broken") from error

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """The largest image that is stored of each frame: the whole one, or the face."""
        for at in np.searchsorted(self.stored, np.asarray(indices)).tolist():
            found = [p for p in (self._read(at, WHOLE), self._read(at, CROP)) if p is not None]
            yield found[0]

    def close(self) -> None:
        """Nothing is open."""


def images_of(item: Item, cover: Cover) -> tuple[StoredFrames | None, list[tuple[str, str]]]:
    """The images of an item, None without any, and the codes and texts of its file's warnings.

    Raises VideoError where its parts do not fit each other.
    """
    try:
        head = store_check.head(item)
    except ValueError as error:
        raise VideoError("an item of a store", f"is damaged ({error})", "broken") from error
    warnings = [(code, text) for code, text in head["warnings"] + head["sound_warnings"]]
    return (StoredFrames(item, head, cover) if len(item["stamps"]) else None), warnings


class StoredAudio:
    """The audio of an item at one rate, as :class:`emozoo.data.media.AudioTrack`."""

    holes: Sequence[tuple[float, float]] = ()  # they are stored as silence

    def __init__(self, item: Item, head: Mapping[str, Any], rate: int) -> None:
        start = 0
        for span in head["sound"]:
            at = AudioSpan(*span)
            if at.rate == rate:
                break
            start += 4 * at.samples
        else:
            raise VideoError("an item of a store", f"is damaged: it has no audio at {rate} Hz", "broken")
        self.rate, self.offset, self.duration, self._first = rate, at.offset, at.duration, at.first
        self._samples = np.frombuffer(item["sound"][start : start + 4 * at.samples], np.float32)
        self.warnings = [Warn(*w) for w in head["sound_warnings"]]

    def read(self, start: float, end: float) -> np.ndarray:
        """Samples from ``start`` to ``end`` seconds after the first frame, float32 (n,); zeros where none are."""
        n = round((end - start) * self.rate)
        first = round((start - self.offset) * self.rate) - self._first
        out = np.zeros(n, dtype=np.float32)
        lo, hi = max(first, 0), min(first + n, len(self._samples))
        if hi > lo:
            out[lo - first : hi - first] = self._samples[lo:hi]
        return out


# -- the store -----------------------------------------------------------------------------------------------------


def is_url(root: str | Path) -> bool:
    """Whether that is an address in object storage; one slash is enough, since a ``Path`` swallows the other."""
    return _URL.match(str(root)) is not None


def clean(root: str | Path) -> str:
    """A root as text: addresses with two slashes, folders absolute."""
    text = str(root)
    return _URL.sub(r"\1://", text).rstrip("/") if is_url(text) else os.path.abspath(os.path.expanduser(text))


def is_store(root: str | Path) -> bool:
    """Whether a finished store lies there; an address is taken to be one."""
    return is_url(root) or os.path.isfile(os.path.join(os.path.expanduser(root), META))


class Store:
    """An open store. ``meta``: the content of ``store.json``; ``cover``; ``lines``: one dict a row of ``rows.jsonl``.

    Raises DatasetError where it cannot be read, is not finished, or was written under another schema.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = clean(root)
        self.folder = Path(self.root)
        if is_url(self.root):
            self.folder = files.cache_folder() / "stores" / hashlib.sha256(self.root.encode()).hexdigest()[:16]
            _fetch(self.root, self.folder)
        self.meta: dict[str, Any] = self._checked_meta()
        self.lines: list[dict[str, Any]] = self._checked_lines()
        self.cover = Cover.from_dict(self.meta["covers"])
        self._one_at_a_time = threading.Lock()  # litdata's reader is made for one thread
        self.boxes_known = bool(self.lines) and all(line["row"]["box"] is not None for line in self.lines)

    def _checked_meta(self) -> dict[str, Any]:
        try:
            found = store_check.read_json(self.folder, META, store_check.MOST_META)
            if isinstance(found, dict) and found.get("schema") == SCHEMA:
                store_check.own_files(self.folder, (ROWS, INDEX))
                store_check.meta(found)
        except (OSError, ValueError) as error:
            raise self._unfinished(error) from error
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            version = found.get("schema") if isinstance(found, dict) else None
            raise DatasetError(
                f"{self.root}: written as store version {version}, this package reads {SCHEMA}: prepare it anew"
            )
        return found

    def _checked_lines(self) -> list[dict[str, Any]]:
        try:
            found = store_check.read_lines(self.folder, ROWS, len(self.meta["classes"]))
            store_check.own_files(self.folder, {f"{LABELS}/{line['labels']}" for line in found if line["labels"]})
        except (OSError, ValueError) as error:
            raise self._unfinished(error) from error
        return found

    def _unfinished(self, why: object) -> DatasetError:
        return DatasetError(
            f"{self.root}: no finished store ({why}); run `emozoo prepare` with the same arguments again, or fetch it "
            "again"
        )

    @cached_property
    def manifest(self) -> Manifest:
        """The data set that the store was made from; a row's ``path`` names its item, ``extra["source"]`` its file."""
        rows = []
        for number, line in enumerate(self.lines):
            row: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in line["row"].items()}
            # The store has labels and audio itself: no column of its table names a file to open.
            extra = {k: v for k, v in row.pop("extra").items() if k not in ("va_file", "sound")}
            extra["source"] = os.path.join(self.meta["source"], line["file"])
            if line["labels"]:
                extra["va_file"] = str(self.folder / LABELS / line["labels"])
            suffix = os.path.splitext(line["file"])[1]
            suffix = suffix if suffix.lower() in MEDIA else ""  # a dot in the name of a folder ends no name
            rows.append(Row(path=f"{self.root}/#{number}-{line['sha256'][:12]}{suffix}", extra=extra, **row))
        m = self.meta
        return Manifest(m["dataset_name"], self.folder, tuple(m["classes"]), tuple(rows), m["protocol"], m["version"])

    @cached_property
    def _data(self) -> Any:
        os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")  # no call home
        from litdata import StreamingDataset

        # litdata keeps chunks by their names, which are those of another store that was at this address before.
        table = hashlib.sha256((self.folder / ROWS).read_bytes()).hexdigest()[:16]
        cache = str(self.folder / "chunks" / table) if is_url(self.root) else None
        found = StreamingDataset(self.root, cache_dir=cache, drop_last=False)
        folder = Path(str(found.input_dir.path))  # of the index that it has read, for an address in the cache
        try:
            index = store_check.read_json(folder, INDEX, store_check.MOST_INDEX)
            names = store_check.index(index, len(self.lines))
            if not is_url(self.root):
                store_check.own_files(folder, names)
        except (OSError, ValueError) as error:
            raise self._unfinished(f"{INDEX}: {error}") from error
        return found

    def item(self, number: int) -> Item:
        """The parts of an item, as they were written.

        Raises VideoError where the store is damaged, DatasetError where its index is not that of a store.
        """
        try:
            with self._one_at_a_time:
                item: Item = self._data[number]
                return {leaf: bytes(item[leaf]) for leaf in LEAVES}  # litdata may give a view of its open chunk
        except EmozooError:
            raise
        except Exception as error:  # litdata lets through what the disk, the network or a cut-off chunk raise
            reason = f"its item in the store {self.root} cannot be read ({type(error).__name__}: {error})"
            raise VideoError(self.lines[number]["file"], reason, "broken") from error

    def require(self, spec: ClipSpec) -> None:
        """Raises UsageError, which spells out the difference, where the store does not serve a spec."""
        if lacks := self.cover.lacks(spec, boxes_known=self.boxes_known):
            raise UsageError(
                f"the store {self.root} does not serve this model: {'; '.join(lacks)}. Prepare one that does (emozoo "
                "prepare … --spec NAME), or read the data set itself"
            )

    def open(self, number: int, spec: ClipSpec) -> tuple[StoredFrames | None, StoredAudio | None, bool]:
        """The images of an item, its audio at the rate of the spec, and whether it has audio at any rate.

        Images or audio are None where the item has none, audio also where the spec needs none. Raises UsageError where
        the store does not serve the spec, VideoError for an item that could not be read.
        """
        self.require(spec)
        line = self.lines[number]
        if line["error"]:
            raise VideoError(line["file"], one_line(line["error"]["reason"]), line["error"]["code"])
        item = self.item(number)
        try:
            head = store_check.head(item)
        except ValueError as error:
            reason = f"its item in the store {self.root} is damaged ({error})"
            raise VideoError(line["file"], reason, "broken") from error
        rate = next((s.audio.rate for s in spec.streams.values() if s.audio), None)
        images = StoredFrames(item, head, self.cover) if len(item["stamps"]) else None
        audio = StoredAudio(item, head, rate) if rate is not None and head["sound"] else None
        return images, audio, bool(head["sound"])


@lru_cache(maxsize=8)
def _opened(root: str, _process: int, _state: float) -> Store:
    return Store(root)


def open_store(root: str | Path) -> Store:
    """The store of that root, opened once in each process. Raises DatasetError."""
    root = clean(root)
    meta = Path(root, META)
    return _opened(root, os.getpid(), meta.stat().st_mtime if meta.is_file() else 0.0)


def find(path: str) -> tuple[Store, int] | None:
    """The store and the number of the item that a row's ``path`` names; None for an ordinary file."""
    if "/#" not in path or not (match := _ITEM.fullmatch(path)) or not is_store(match[1]):
        return None
    found, number = open_store(match[1]), int(match[2])
    if number >= len(found.lines):
        raise VideoError(path, f"the store has {len(found.lines)} items, and no number {number}", "missing")
    return found, number


# -- object storage ------------------------------------------------------------------------------------------------


def _provider(url: str) -> Any:
    os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
    from litdata.streaming.fs_provider import _get_fs_provider

    return _get_fs_provider(url, None)


def _fetch(url: str, folder: Path) -> None:
    """The small files of a store: everything but its chunks, which litdata fetches when they are read.

    Other processes may fetch the same at this moment: each file gets its name when it is complete.
    """

    def get(name: str) -> None:
        with files.replacing(folder / name) as part:
            provider.download_file(f"{url}/{name}", str(part))

    try:
        provider = _provider(url)
        get(META)
        get(ROWS)
        classes = len(store_check.read_json(folder, META, store_check.MOST_META)["classes"])
        # Each line is checked before a name in it becomes that of a file here.
        for line in store_check.read_lines(folder, ROWS, classes):
            if line["labels"]:
                get(f"{LABELS}/{line['labels']}")
    except Exception as error:  # each provider has errors of its own
        raise DatasetError(f"{url}: no store can be fetched there ({type(error).__name__}: {error})") from error


def upload(folder: Path, url: str) -> None:
    """Copies a finished store to object storage, ``store.json`` last. Raises DatasetError."""
    found = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink() and p.name != META)
    try:
        provider = _provider(url)
        for file in [*found, folder / META]:
            provider.upload_file(str(file), f"{clean(url)}/{file.relative_to(folder).as_posix()}")
    except Exception as error:
        raise DatasetError(f"{url}: the store cannot be written there ({type(error).__name__}: {error})") from error
