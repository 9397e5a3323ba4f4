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
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from emozoo import files
from emozoo.data import views
from emozoo.data.faces import Track
from emozoo.data.manifest import MEDIA, Manifest, Row
from emozoo.data.media import Warn
from emozoo.data.streams import Stored, streams_of
from emozoo.errors import DatasetError, UsageError, VideoError
from emozoo.spec import ClipSpec

SCHEMA = 1
META, ROWS, LABELS, INDEX = "store.json", "rows.jsonl", "labels", "index.json"
# The parts of an item, all bytes: what litdata stores, and what its hash goes over, in this order.
LEAVES = ("head", "stamps", "kept", "track_times", "track_boxes", "spans", "pictures", "sound")
CROP, WHOLE = 0, 1  # columns of ``spans``: the face, or the whole image where there is none, and the whole image
_ITEM = re.compile(r"(.+)/#(\d+)-[0-9a-f]*(\.\w+)?")  # with the suffix of the file: stills are known by theirs
_URL = re.compile(r"(s3|gs|r2):/+(?=[^/])")

Item = Mapping[str, Any]  # leaf name → bytes or memoryview


# -- what a store covers -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cover:
    """What is stored of each item.

    ``face``: side in pixels of the square crop, whose ``margin`` is that of a spec; ``frame``: (H, W) of the whole
    image. Both are upper bounds: what is smaller in the file stays so. ``audio``: rates in Hz. ``rate``: frames stored
    of each second; 0 = all. ``detector``: of the face; None = boxes came with the data. ``align``: as in a spec.
    """

    face: int | None
    frame: tuple[int, int] | None
    audio: tuple[int, ...] = field(metadata={"stored": "sound"})  # as stores have always spelled it
    margin: float = 0.0
    rate: float = 0.0
    detector: str | None = "cascade"
    interpolation: str = "area"
    align: bool = False

    @staticmethod
    def of(specs: Iterable[ClipSpec], *, rate: float = 0.0, detector: str | None = None) -> Cover:
        """The smallest cover that serves all of the specs. Raises UsageError where they cannot share a store."""
        specs = list(specs)
        if detector is not None:
            specs = [s.with_detector(detector) for s in specs]
        streams = [(s, x, x.stored()) for s in specs for x in streams_of(s).values()]
        crops = [(s, want.crop) for s, _, want in streams if want and want.crop]
        wholes = [want.whole for _, _, want in streams if want and want.whole]
        shared = {
            "detectors": {s.detector for s in specs if s.needs_face},
            "face crops": {"aligned" if s.align else "plain" for s, _ in crops},
            "interpolations": {s.interpolation for s, x, _ in streams if x.spec.kind.is_image},
        }
        for what, values in shared.items():
            if len(values) > 1:
                raise UsageError(f"one store cannot serve the {what} {' and '.join(sorted(values))}: prepare two")
        margin = max((s.margin for s, _ in crops), default=0.0)
        cover = Cover(
            face=max((_side(side, s.margin, margin) for s, side in crops), default=None),
            frame=(max(h for h, _ in wholes), max(w for _, w in wholes)) if wholes else None,
            audio=tuple(sorted({want.rate for _, _, want in streams if want and want.rate})),
            margin=margin,
            rate=rate,
            detector=next(iter(shared["detectors"]), None),
            interpolation=next(iter(shared["interpolations"]), "area"),
            align=shared["face crops"] == {"aligned"},
        )
        for spec in specs:
            if lacks := cover.lacks(spec):
                raise UsageError(f"such a store would not serve every model asked for: {'; '.join(lacks)}")
        return cover

    def lacks(self, spec: ClipSpec, *, boxes_known: bool = False) -> list[str]:
        """What a spec needs and the store does not have, in words; empty = it is served."""
        found = []
        for name, stream in streams_of(spec).items():
            if fault := self._fault(stream.stored(), spec.margin):
                found.append(f"stream {name} {fault}")
        if spec.needs_face and spec.detector != self.detector and not boxes_known:
            found.append(f"faces are to be found by {spec.detector}, the store's were found by {self.detector}")
        if spec.align != self.align and not boxes_known and any(s.kind.crops_face for s in spec.streams.values()):
            want, have = ("aligned" if aligned else "plain" for aligned in (spec.align, self.align))
            found.append(f"face crops are to be {want}, the store's are {have}")
        if spec.needs_images:
            if spec.interpolation != self.interpolation:
                found.append(
                    f"images are to be scaled by {spec.interpolation}, the store's were by {self.interpolation}"
                )
            if self.rate and (not spec.rate or spec.rate > self.rate):
                want = f"{spec.rate:g} frames a second" if spec.rate else "every frame"
                found.append(f"{want} may be asked for, the store has {self.rate:g} a second")
        return found

    def _fault(self, want: Stored | None, margin: float) -> str | None:
        """Why the store cannot serve a stream that needs ``want``; None = it can."""
        if want is None:
            return "is of a source that no store holds"
        if want.rate and want.rate not in self.audio:
            return f"needs audio at {want.rate} Hz, the store has {_list(self.audio, ' Hz')}"
        if want.crop:
            if self.face is None:
                return "needs face crops, the store has none"
            if margin > self.margin:
                return f"needs a margin of {margin:g}, the store has {self.margin:g}"
            if _side(want.crop, margin, self.margin) > self.face:
                have = round(self.face * (1 + 2 * margin) / (1 + 2 * self.margin))
                return f"needs faces of {want.crop} pixels, the store has {have}"
        if want.whole:
            if self.frame is None:
                return "needs whole frames, the store has none"
            if want.whole[0] > self.frame[0] or want.whole[1] > self.frame[1]:
                needed, stored = (f"{h} x {w}" for h, w in (want.whole, self.frame))
                return f"needs frames of {needed} pixels, the store has {stored}"
        return None

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, as ``store.json`` holds them; ``align`` only where it is on, as older ones lack it."""
        names = [f for f in fields(self) if f.name != "align" or self.align]
        return {f.metadata.get("stored", f.name): getattr(self, f.name) for f in names}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Cover:
        """The inverse of :meth:`to_dict`, also after a trip through JSON."""
        pairs: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return Cover(audio=pairs.pop("sound"), **pairs)


def _side(side: int, margin: float, wider: float) -> int:
    """Side of the crop with the wider margin in which the crop with ``margin`` has ``side`` pixels."""
    return int(np.ceil(side * (1 + 2 * wider) / (1 + 2 * margin) - 1e-9))


def _list(values: Sequence[object], unit: str) -> str:
    return " and ".join(f"{v}{unit}" for v in values) or "none"


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
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


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

    def frame(self, size: tuple[int, int], interpolation: str) -> np.ndarray:
        parts = (CROP, WHOLE) if self._box is None else (WHOLE,)
        found = [p for p in map(self._read, parts) if p is not None]
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
        crop = self._read(CROP)  # aligned already where it was to be
        assert crop is not None
        if margin < self._cover.margin and not views.covers(box, *self._size):
            left, top, side = views.square(box, self._cover.margin)
            inner_left, inner_top, inner = views.square(box, margin)
            scale = crop.shape[0] / side
            x, y, n = (round(v * scale) for v in (inner_left - left, inner_top - top, inner))
            crop = crop[max(y, 0) : y + max(n, 1), max(x, 0) : x + max(n, 1)]
        return views.resize(crop, size, interpolation)

    def context(self, box: np.ndarray | None, size: tuple[int, int], interpolation: str) -> np.ndarray:
        image = self._read(WHOLE)
        assert image is not None
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
        start, end = self._spans[at, part].tolist()
        return _decode(self._item["pictures"][start:end]) if end > start else None

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """The largest image that is stored of each frame: the whole one, or the face."""
        for at in np.searchsorted(self.stored, np.asarray(indices)).tolist():
            found = [p for p in (self._read(at, WHOLE), self._read(at, CROP)) if p is not None]
            yield found[0]

    def close(self) -> None:
        """Nothing is open."""


def images_of(item: Item, cover: Cover) -> tuple[StoredFrames | None, list[tuple[str, str]]]:
    """The images of an item, None without any, and the codes and texts of its file's warnings."""
    head = json.loads(bytes(item["head"]))
    warnings = [(code, text) for code, text in head["warnings"] + head.get("sound_warnings", [])]
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
        try:
            self.meta: dict[str, Any] = json.loads((self.folder / META).read_text(encoding="utf-8"))
            with (self.folder / ROWS).open(encoding="utf-8") as file:
                self.lines: list[dict[str, Any]] = [json.loads(line) for line in file]
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"{self.root}: no finished store ({error}); run `emozoo prepare` with the same arguments again"
            ) from error
        if self.meta.get("schema") != SCHEMA:
            raise DatasetError(
                f"{self.root}: written as store version {self.meta.get('schema')}, this package reads {SCHEMA}: "
                "prepare it anew"
            )
        self.cover = Cover.from_dict(self.meta["covers"])
        self._one_at_a_time = threading.Lock()  # litdata's reader is made for one thread
        self.boxes_known = bool(self.lines) and all(line["row"]["box"] is not None for line in self.lines)

    @cached_property
    def manifest(self) -> Manifest:
        """The data set that the store was made from; a row's ``path`` names its item, ``extra["source"]`` its file."""
        rows = []
        for number, line in enumerate(self.lines):
            row: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in line["row"].items()}
            extra = {**row.pop("extra"), "source": os.path.join(self.meta["source"], line["file"])}
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

        cache = str(self.folder / "chunks") if is_url(self.root) else None
        return StreamingDataset(self.root, cache_dir=cache, drop_last=False)

    def item(self, number: int) -> Item:
        """The parts of an item, as they were written. Raises VideoError where the store is damaged."""
        try:
            with self._one_at_a_time:
                item: Item = self._data[number]
                return {leaf: item[leaf] for leaf in LEAVES}
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
            raise VideoError(line["file"], line["error"]["reason"], line["error"]["code"])
        item = self.item(number)
        head = json.loads(bytes(item["head"]))
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
    return open_store(match[1]), int(match[2])


# -- object storage ------------------------------------------------------------------------------------------------


def _provider(url: str) -> Any:
    os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
    from litdata.streaming.fs_provider import _get_fs_provider

    return _get_fs_provider(url, None)


def _fetch(url: str, folder: Path) -> None:
    """The small files of a store: everything but its chunks, which litdata fetches when they are read."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        provider = _provider(url)
        for name in (META, ROWS):
            provider.download_file(f"{url}/{name}", str(folder / f".{name}"))
            os.replace(folder / f".{name}", folder / name)
        with (folder / ROWS).open(encoding="utf-8") as file:
            names = [labels for line in file if (labels := json.loads(line)["labels"])]
        (folder / LABELS).mkdir(exist_ok=True)
        for name in names:
            provider.download_file(f"{url}/{LABELS}/{name}", str(folder / LABELS / name))
    except Exception as error:  # each provider has errors of its own
        raise DatasetError(f"{url}: no store can be fetched there ({type(error).__name__}: {error})") from error


def upload(folder: Path, url: str) -> None:
    """Copies a finished store to object storage, ``store.json`` last. Raises DatasetError."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != META)
    try:
        provider = _provider(url)
        for file in [*files, folder / META]:
            provider.upload_file(str(file), f"{clean(url)}/{file.relative_to(folder).as_posix()}")
    except Exception as error:
        raise DatasetError(f"{url}: the store cannot be written there ({type(error).__name__}: {error})") from error
