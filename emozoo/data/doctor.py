"""Data doctor: what is wrong with a data set, each finding with the item, the reason and the cure.

Every file is read whole once: hashed, decoded (images, every frame of a video, its audio), and thumbnailed, so that
copies are found inside and across splits, byte for byte and by look.

Codes of findings: ``missing``, ``empty``, ``unreadable``, ``no_video``, ``no_audio``, ``broken`` (nothing can be used);
``broken_tail``, ``broken_part`` (a part can); ``assumed_rate``, ``mixed_sizes`` (of a folder of frames), ``bit_depth``,
``first_image`` (how an image was read); ``bad_va``; ``box_outside``; ``duplicate``, ``duplicate_across_splits``,
``near_duplicate_across_splits``, ``label_conflict``, ``near_label_conflict``; ``name_collision``, ``listed_twice``;
``damaged`` (of a prepared store); ``empty_class``; ``group_across_splits``; ``count`` (not as many items as the
protocol has). What was read otherwise than it was written: ``missing_label``, ``class_spellings``, ``unknown_split``,
``missing_split``, ``unnamed_column``, ``unread_column`` (of a table); ``link_loop``, ``frames_without_numbers``,
``unreadable`` (of class folders). Notes are no faults: ``imbalance``, ``no_group``, ``unlabelled``, ``no_face``,
``ignored_files``.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from html import escape
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emozoo.data import datasets, faces, store
from emozoo.data.manifest import MEDIA, Finding, Manifest, Row, key, of_the_system, read_va, some
from emozoo.data.protocols import differences
from emozoo.errors import DatasetError, UsageError, VideoError

# Two images look the same when their 64-bit gradient hashes differ in at most this many bits and the correlation of
# their 16 x 16 thumbnails reaches this much. Measured on faces that fill the image, where everything is alike: 94 of
# 100 recompressed, halved, brightened or noisy copies are found, and different faces are not.
NEAR_BITS, NEAR_CORRELATION = 10, 0.985
IMBALANCE = 10  # times as many items in the largest class as in the smallest
_LINES = 20  # findings of one kind that are printed


@dataclass(frozen=True)
class Report:
    """What :func:`check` found.

    ``content_sha256``: hash of ids, labels and file contents, independent of the place. ``classes``: in index order.
    """

    dataset: str
    items: int
    content_sha256: str
    findings: list[Finding]
    notes: list[Finding] = field(default_factory=list)
    classes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain types, the shape of ``emozoo check --json``."""
        return {
            "schema": 1,
            "dataset": self.dataset,
            "items": self.items,
            "classes": list(self.classes),
            "content_sha256": self.content_sha256,
            "findings": [vars(f) for f in self.findings],
            "notes": [vars(f) for f in self.notes],
        }

    def to_html(self) -> str:
        """One self-contained page: findings by kind with their cure, notes."""
        parts = []
        for (code, fix), found in self._groups().items():
            rows = "".join(f"<tr><td>{escape(f.item)}</td><td>{escape(f.text)}</td></tr>" for f in found)
            parts.append(
                f"<h2>{escape(code)} ({len(found)})</h2><p>{escape(fix)}</p>"
                f"<table><tr><th>item</th><th>what is wrong</th></tr>{rows}</table>"
            )
        if self.notes:
            items = "".join(f"<li>{escape(f.code)}: {escape(f.text)}</li>" for f in self.notes)
            parts.append(f"<h2>Notes</h2><ul>{items}</ul>")
        n = len(self.findings)
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(self.dataset)}</title>'
            "<style>body{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}"
            "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left;"
            "overflow-wrap:anywhere}code{overflow-wrap:anywhere}</style>"
            f"<h1>{escape(self.dataset)}</h1><p>{self.items} items, {n or 'no'} finding{'s' * (n != 1)}; "
            f"content sha256 <code>{self.content_sha256}</code></p>"
            f"<p>Classes in order: {escape(', '.join(self.classes))}</p>{''.join(parts)}</html>"
        )

    def _groups(self) -> dict[tuple[str, str], list[Finding]]:
        groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        for f in self.findings:
            groups[f.code, f.fix].append(f)
        return groups

    def __str__(self) -> str:
        n = len(self.findings)
        faults = "nothing wrong found" if n == 0 else f"{n} finding{'s' * (n > 1)}"
        lines = [f"{self.dataset}: {self.items} items, {faults}; content sha256 {self.content_sha256[:16]}"]
        lines += [f"classes in order: {', '.join(self.classes)}"] * bool(self.classes)
        for (code, fix), found in self._groups().items():
            lines += ["", f"{code} ({len(found)}): {fix}"]
            lines += [f"  {f.item}: {f.text}" for f in found[:_LINES]]
            if len(found) > _LINES:
                lines.append(f"  and {len(found) - _LINES} more; --json lists all")
        lines += [""] * bool(self.notes) + [f"note: {f.text}" for f in self.notes]
        return "\n".join(lines)


def check(target: str | Path, root: str | Path | None = None, *, workers: int | None = None) -> Report:
    """Examine a data set by name with its ``root``, a manifest file, a folder of class folders, or a prepared store.

    Shows a progress bar on stderr. Raises UsageError for a name without root, DatasetError or ManifestError where the
    table itself cannot be read.
    """
    manifest = _open(str(target), root)
    found = _examine(manifest.rows, workers or min(8, os.cpu_count() or 1))
    findings: list[Finding] = list(manifest.findings)
    for row, seen in zip(manifest.rows, found, strict=True):
        findings += _of_item(row, seen)
    findings += _copies(manifest, found)
    findings += _look_alikes(manifest, found)
    findings += _names(manifest)
    findings += _classes_and_people(manifest)
    findings += _counts(manifest)
    if store.is_store(manifest.root):
        findings += _against_store(manifest, found)
    notes = [*_notes(manifest), *_faceless(manifest, found)]
    return Report(manifest.name, len(manifest), _content(manifest, found), findings, notes, manifest.classes)


def _open(target: str, root: str | Path | None) -> Manifest:
    if root is not None:
        return datasets.load(target, root)
    if store.is_store(target):
        return datasets.load("store", target)
    path = Path(target).expanduser()
    if path.is_file() or (path / "manifest.csv").is_file() or (path / "manifest.parquet").is_file():
        return datasets.load("csv", path)
    if path.is_dir():
        return datasets.load("folder", path)
    if target in datasets.DATASETS:
        raise UsageError(f"say where {target} lies: emozoo check {target} --root DIR")
    raise DatasetError(f"{target}: neither a data set ({', '.join(datasets.DATASETS)}) nor a manifest.csv nor a folder")


# a file, the file with its audio where that is another, its table of labels per frame, whether to look for a face
_Job = tuple[str, str | None, str | None, bool]


class _Seen(NamedTuple):
    """One file: sha256 of its bytes, image size, one thumbnail (256 numbers) and hash per looked-at frame, faults.

    ``face``: whether one was found in any of these frames; None = not looked for.
    """

    sha256: str
    size: tuple[int, int] | None
    thumbnails: np.ndarray
    hashes: np.ndarray
    faults: list[tuple[str, str]]
    face: bool | None = None


def _examine(rows: Sequence[Row], workers: int) -> list[_Seen]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("checking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    keys = [(r.path, r.extra.get("sound"), r.extra.get("va_file")) for r in rows]
    parts = {k: (*k, r.box is None) for k, r in zip(keys, rows, strict=True)}
    found: dict[tuple[str | None, ...], _Seen] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=len(parts))
        for key_, seen in zip(parts, _each(list(parts.values()), workers), strict=True):
            found[key_] = seen
            bar.advance(task)
    return [found[k] for k in keys]


def _each(jobs: list[_Job], workers: int) -> Iterator[_Seen]:
    if workers == 1 or len(jobs) < 64:  # starting processes takes longer than reading a few files
        yield from map(_look, jobs)
        return
    # spawn: decoders must not cross a fork
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_look, jobs, chunksize=max(1, min(64, len(jobs) // (workers * 4))))


def _look(job: _Job) -> _Seen:
    path, beside, va_file, any_face = job
    faults: list[tuple[str, str]] = []
    size: tuple[int, int] | None = None
    frames: list[np.ndarray] = []
    sha256 = face = None
    try:
        if found := store.find(path):
            sha256, size, frames, warnings = _decode_stored(*found)
            face = not found[0].lines[found[1]]["no_face"] if frames else None
            any_face = False  # looked for when it was prepared
        else:
            size, frames, warnings = _decode(path)
            if beside is not None:
                warnings += _hear(beside)
        faults += warnings
    except VideoError as e:
        faults.append((e.code, e.reason))
    except OSError as e:
        faults.append(("unreadable", str(e.strerror or e)))
    if va_file is not None:
        try:
            read_va(va_file)
        except DatasetError as e:
            faults.append(("bad_va", str(e)))
    pairs = [t for t in map(_thumbnail, frames) if t is not None]
    thumbnails = np.stack([t for t, _ in pairs]) if pairs else np.zeros((0, 256), np.float32)
    if any_face and frames:
        detect = faces.detector("cascade")
        face = any(len(detect(f)) for f in frames)
    hashes = np.array([h for _, h in pairs], np.uint64)
    if sha256 is None:
        sha256 = _hash(path)
        if beside is not None:
            sha256 = hashlib.sha256(f"{sha256} {_hash(beside)}".encode()).hexdigest()
    return _Seen(sha256, size, thumbnails, hashes, faults, face)


def _hear(path: str) -> list[tuple[str, str]]:
    """What is wrong with the audio of another file, once all of it was read. Raises VideoError."""
    from emozoo.data import media

    header = media.read_header(path)
    if not header.has_audio:
        return [("no_audio", f"{path}: no audio track")]
    audio = media.AudioTrack(path, 16000, header)
    if audio.duration == 0:
        raise VideoError(path, f"{path}: no audio of it can be decoded", "broken")
    return [(w.code, f"{path}: {w.text}") for w in audio.warnings]


def _decode(path: str) -> tuple[tuple[int, int] | None, list[np.ndarray], list[tuple[str, str]]]:
    """Size, the frames at a quarter, half and three quarters, and warnings, once every frame and all audio was read."""
    from emozoo.data import media

    silent = Path(path).is_dir() or media.is_image(path)
    header = None if silent else media.read_header(path)
    images = media.open_frames(path, header) if header is None or header.has_video else None
    warnings: list[media.Warn] = []
    size: tuple[int, int] | None = None
    frames: list[np.ndarray] = []
    if images is not None:
        try:
            count = len(images.stamps)
            whole = np.concatenate(
                [images.check(i, min(i + media.CHECK_BLOCK, count) - 1) for i in range(0, count, media.CHECK_BLOCK)]
            )
            usable = np.flatnonzero(whole)
            if not len(usable):
                raise VideoError(path, "no frame of it can be decoded", "broken")
            if Path(path).is_dir():
                for _ in images.frames(usable):  # what only decoding shows to be damaged raises
                    pass
            places = usable[np.unique(np.array([1, 2, 3]) * (len(usable) - 1) // 4)] if count > 1 else usable
            size, frames = images.size, list(images.frames([int(i) for i in places]))
            warnings += images.warnings
        finally:
            images.close()
    if header is not None and header.has_audio:
        audio = media.AudioTrack(path, 16000, header, getattr(images, "clock", None))
        if audio.duration == 0 and images is None:
            raise VideoError(path, "no audio of it can be decoded", "broken")
        warnings += audio.warnings
    elif images is None:
        raise VideoError(path, "has neither images nor audio", "no_video")
    return size, frames, [(w.code, w.text) for w in warnings]


def _decode_stored(
    prepared: store.Store, number: int
) -> tuple[str, tuple[int, int] | None, list[np.ndarray], list[tuple[str, str]]]:
    """The same of an item of a store, with the hash of what lies there."""
    line, item = prepared.lines[number], prepared.item(number)
    sha256 = store.digest(item)
    if sha256 != line["sha256"]:
        return sha256, None, [], [("damaged", "its bytes in the store are not those that were written")]
    if line["error"]:
        return sha256, None, [], [(line["error"]["code"], line["error"]["reason"])]
    images, warnings = store.images_of(item, prepared.cover)
    if images is None:
        return sha256, None, [], warnings
    kept = images.stored
    places = np.unique(kept[np.array([1, 2, 3]) * (len(kept) - 1) // 4])
    return sha256, images.size, list(images.frames(places)), warnings


def _thumbnail(image: np.ndarray) -> tuple[np.ndarray, np.uint64] | None:
    """Standardised 16 x 16 grey thumbnail and gradient hash; None for an image without content (one colour)."""
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    norm = float(np.linalg.norm(small))
    if norm < 16.0:  # one grey level of standard deviation
        return None
    steps = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    return small / norm, np.packbits(steps[:, 1:] > steps[:, :-1]).view(np.uint64)[0]


def _hash(path: str) -> str:
    """sha256 of a file, or of the names and contents in a folder; empty where nothing can be read."""
    place = Path(path)
    try:
        if place.is_dir():
            total = hashlib.sha256()
            for p in sorted(q for q in place.iterdir() if q.is_file()):
                total.update(p.name.encode() + b"\0" + hashlib.sha256(p.read_bytes()).digest())
            return total.hexdigest()
        if not place.is_file():  # a pipe may never end
            return ""
        with place.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError:
        return ""


def _content(manifest: Manifest, found: Sequence[_Seen]) -> str:
    return store.total_digest((r.id, r.label, s.sha256) for r, s in zip(manifest.rows, found, strict=True))


_FIXES = {
    "damaged": "delete the store and prepare it again",
    "missing": "put the file there, or take its line out of the table",
    "empty": "fetch or extract it again",
    "bad_va": "mend that line; valence,arousal lie in [-1, 1], -5 = ignore",
    "broken_tail": "fetch it again; what is left will be used",
    "broken_part": "fetch it again; what is left will be used",
    "assumed_rate": "name the video of the frames in the column 'audio', or number the frames 0, 1, 2 ...",
    "bit_depth": "none needed if it looks right; else save it with 8 bits",
    "first_picture": "none needed if the first is meant; else save each image as a file",
    "time_jump": "none needed: the gap was closed; better write the file again with a steady clock",
    "other_track": "none needed if the right track is heard; else keep that track alone",
    "mixed_sizes": "none needed; better cut all frames of a clip to one size",
}


def _of_item(row: Row, seen: _Seen) -> Iterator[Finding]:
    for code, text in seen.faults:
        yield Finding(code, row.id, text, _FIXES.get(code, "fetch it again, or take it out of the data set"))
    if row.box is not None and seen.size is not None and any(row.box):
        (x1, y1, x2, y2), (w, h) = row.box, seen.size
        corners = f"box {x1:g},{y1:g},{x2:g},{y2:g} in an image of {w} x {h}"
        if x2 < 0 or y2 < 0 or x1 > w - 1 or y1 > h - 1:
            yield Finding(
                "box_outside", row.id, f"{corners} lies outside", "mend the box, or write 0,0,0,0 for no face"
            )
        elif x1 < 0 or y1 < 0 or x2 > w - 1 or y2 > h - 1:
            yield Finding("box_outside", row.id, f"{corners} leaves it", "none needed: it is clipped when read")


def _copies(manifest: Manifest, found: Sequence[_Seen]) -> Iterator[Finding]:
    same: dict[str, list[Row]] = defaultdict(list)
    for row, seen in zip(manifest.rows, found, strict=True):
        if seen.sha256 and not any(code == "empty" for code, _ in seen.faults):
            same[seen.sha256].append(row)
    for rows in same.values():
        if len({r.path for r in rows}) < 2:  # parts of one file, or one file listed twice
            continue
        others = f"has the same bytes as {some(r.id for r in rows[1:])}"
        if len({r.split for r in rows}) > 1:
            splits = ", ".join(sorted(f"{r.split}" for r in rows))
            fix = "keep it in one split: a network is tested on what it has learned"
            yield Finding("duplicate_across_splits", rows[0].id, f"{others} ({splits})", fix)
        else:
            yield Finding("duplicate", rows[0].id, others, "keep one of them")
        if len({r.label for r in rows if r.label}) > 1:
            labels = ", ".join(sorted({r.label for r in rows if r.label}))
            yield Finding("label_conflict", rows[0].id, f"{others}, under {labels}", "find out which label is right")


def _look_alikes(manifest: Manifest, found: Sequence[_Seen]) -> Iterator[Finding]:
    """Images, or videos by all three frames, that look alike without being the same bytes: in two splits, or under
    two labels in one."""
    for frames in sorted({len(s.hashes) for s in found} - {0}):
        parts: dict[str, list[int]] = defaultdict(list)
        for i, (row, seen) in enumerate(zip(manifest.rows, found, strict=True)):
            if len(seen.hashes) == frames:
                parts[row.split or ""].append(i)
        for members in parts.values():
            for i, j, value in _alike(found, members, members):
                one, other = manifest.rows[i], manifest.rows[j]
                if j > i and one.label and other.label and one.label != other.label and one.path != other.path:
                    if found[i].sha256 == found[j].sha256:
                        continue
                    text = f"under {one.label} looks like {other.id} under {other.label} (correlation {value:.3f})"
                    yield Finding("near_label_conflict", one.id, text, "look at both: which label is right?")
        for a, b in combinations(sorted(filter(None, parts), key=lambda s: len(parts[s])), 2):
            for i, j, value in _alike(found, parts[a], parts[b]):
                if found[i].sha256 == found[j].sha256:
                    continue
                text = f"in {a} looks like {manifest.rows[j].id} in {b} (correlation {value:.3f})"
                fix = "look at both; keep them in one split if they are the same image"
                yield Finding("near_duplicate_across_splits", manifest.rows[i].id, text, fix)


def _alike(found: Sequence[_Seen], left: list[int], right: list[int]) -> Iterator[tuple[int, int, float]]:
    hashes = np.stack([found[j].hashes for j in right])
    thumbnails = np.stack([found[j].thumbnails for j in right])
    for i in left:
        bits = np.bitwise_count(hashes ^ found[i].hashes).max(1)
        for j in np.flatnonzero(bits <= NEAR_BITS):
            value = float((thumbnails[j] * found[i].thumbnails).sum(1).min())
            if value >= NEAR_CORRELATION:
                yield i, right[j], value


def _names(manifest: Manifest) -> Iterator[Finding]:
    def short(row: Row) -> str:
        path = Path(row.path)
        return key(path.relative_to(manifest.root).as_posix() if path.is_relative_to(manifest.root) else row.path)

    named: dict[str, set[str]] = defaultdict(set)
    for row in manifest.rows:
        named[short(row)].add(row.path)
    for name, paths in named.items():
        if len(paths) > 1:
            files = some(sorted(Path(p).name for p in paths))
            yield Finding("name_collision", name, f"{files} differ in their extension only", "rename all but one")
    listed: dict[Any, list[Row]] = defaultdict(list)
    for row in manifest.rows:
        listed[row.path, row.start, row.end, row.box].append(row)
    for rows in listed.values():
        if len(rows) == 1:
            continue
        first = rows[0].id
        yield Finding("listed_twice", first, f"stands {len(rows)} times in the table", "keep one line of it")
        labels, splits, groups = ({str(v) for v in x if v} for x in zip(*((r.label, r.split, r.group) for r in rows)))
        if len(labels) > 1:
            text = f"stands in the table under {', '.join(sorted(labels))}"
            yield Finding("label_conflict", first, text, "find out which label is right")
        if len(splits) > 1:
            fix = "keep it in one split: a network is tested on what it has learned"
            yield Finding("duplicate_across_splits", first, f"stands in {', '.join(sorted(splits))}", fix)
        if len(groups) > 1:
            text = f"stands in the table as one item of {', '.join(sorted(groups))}"
            yield Finding("listed_twice", first, text, "keep the line with the right person")


def _classes_and_people(manifest: Manifest) -> Iterator[Finding]:
    count = Counter((r.split, r.label) for r in manifest.rows if r.label)
    for name in manifest.classes:
        if not any(label == name for _, label in count):
            yield Finding("empty_class", name, "no item has this class", "add items, or take it out of the classes")
            continue
        for split in manifest.splits:
            if any(s == split for s, _ in count) and not count[split, name]:
                text = f"no item of this class in {split}"
                yield Finding("empty_class", name, text, f"move items to {split}, or leave the class out")
    people: dict[str, set[str]] = defaultdict(set)
    for row in manifest.rows:
        if row.group is not None and row.split is not None:
            people[row.group].add(row.split)
    for person, splits in people.items():
        if len(splits) > 1:
            text = f"the same group in {', '.join(sorted(splits))}"
            yield Finding("group_across_splits", person, text, "keep each person or film on one side")


def _counts(manifest: Manifest) -> Iterator[Finding]:
    for part, expected, there in differences(manifest):
        text = f"{there} items, and {manifest.protocol} has {expected}"
        yield Finding("count", part, text, "fetch what is missing, or say with every result on how many items it is")


def _against_store(manifest: Manifest, found: Sequence[_Seen]) -> Iterator[Finding]:
    there, written = _content(manifest, found), store.open_store(manifest.root).meta["content_sha256"]
    if there != written and not any(code in ("damaged", "broken") for s in found for code, _ in s.faults):
        text = f"content {there[:16]}, but {written[:16]} was written"
        yield Finding("damaged", manifest.name, text, _FIXES["damaged"])


def _faceless(manifest: Manifest, found: Sequence[_Seen]) -> Iterator[Finding]:
    looked = [(r.id, s.face) for r, s in zip(manifest.rows, found, strict=True) if s.face is not None]
    none = [name for name, face in looked if not face]
    if none:
        prepared = store.is_store(manifest.root)
        how = "of the store" if prepared else "looked at (a frontal detector, up to three frames each)"
        text = f"no face in {len(none)} of {len(looked)} items {how}: {some(none)}"
        yield Finding("no_face", manifest.name, text, "")


def _notes(manifest: Manifest) -> list[Finding]:
    notes = []
    note = partial(Finding, fix="")
    count = Counter(r.label for r in manifest.rows if r.label)
    if count and max(count.values()) >= IMBALANCE * min(count.values()):
        (most, n), (least, m) = count.most_common()[0], count.most_common()[-1]
        text = f"{most} has {n} items and {least} {m}: read UAR beside WAR, and compare --prior train with uniform"
        notes.append(note("imbalance", manifest.name, text))
    if len(manifest.splits) > 1 and all(r.group is None for r in manifest.rows):
        text = "no column group, identity, actor, subject or speaker: whether a person is on two sides cannot be told"
        notes.append(note("no_group", manifest.name, text))
    plain = sum(not r.label and r.votes is None and r.valence is None and "va_file" not in r.extra for r in manifest)
    if plain:
        notes.append(note("unlabelled", manifest.name, f"{plain} items have no label, votes, valence or arousal"))
    if manifest.protocol == "folder" and not store.is_store(manifest.root):
        other = [p for p in manifest.root.rglob("*") if p.is_file() and p.suffix.lower() not in MEDIA]
        inside = [(p, p.relative_to(manifest.root).parts) for p in other]
        other = [p for p, parts in inside if len(parts) > 1 and not any(map(of_the_system, parts)) and not _known(p)]
        if other:
            names = some(p.relative_to(manifest.root).as_posix() for p in sorted(other))
            notes.append(note("ignored_files", manifest.name, f"not media, so not read: {names}"))
    return notes


def _known(path: Path) -> bool:
    return path.name.endswith(".va.csv") or path.name == "n_frames"
