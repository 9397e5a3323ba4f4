"""What a prepared store must look like before it is read: it may have come from somebody else.

Its index must name plain chunks of plain bytes, since the reader of the chunks would also open pickles and files
elsewhere; names in its tables must not lead out of its folder, and neither may links. The parts of an item must fit
each other. Each check raises ValueError with what is wrong; :mod:`emozoo.data.store` says where.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from emozoo import files
from emozoo.data.image_format import jpeg_header
from emozoo.data.manifest import Row
from emozoo.spec import INTERPOLATIONS

# The parts of an item, all bytes: what litdata stores, and what its hash goes over, in this order.
LEAVES = ("head", "stamps", "kept", "track_times", "track_boxes", "spans", "pictures", "sound")
MOST_SIDE, MOST_RATE = 16_384, 1_000_000
MOST_META, MOST_INDEX, MOST_LINE = 4 << 20, 256 << 20, 16 << 20  # bytes: of store.json, index.json, a line of the table
_CHUNK = re.compile(r"[\w-][\w.-]*\.bin")
_LABELS = re.compile(r"[\w-][\w.-]*\.csv")
_ROW = {f.name for f in fields(Row)} - {"path"}
_LEAF: dict[str, Any] = {"type": None, "context": None, "children_spec": []}


def _need(good: bool, what: str) -> None:
    if not good:
        raise ValueError(what)


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < 1e300


def _is_whole(x: Any, least: int, most: int) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and least <= x <= most


def _is_text(x: Any) -> bool:
    return isinstance(x, str) and len(x) <= 10_000 and not files.has_controls(x)


def _is_any_text(x: Any) -> bool:
    """A text that may be long, or hold what is not printed, as names of files do: to be shown with care."""
    return isinstance(x, str)


def own_files(folder: Path, names: Iterable[str]) -> None:
    """No file of a store is a link that leads out of it, or a device; the folder itself may be a link."""
    for name in names:
        path = folder / name
        _need(files.lies_inside(path, folder), f"{name} is a link out of it: put the file itself there")
        _need(path.is_file() or not path.exists(), f"{name} is no file")


def read_json(folder: Path, name: str, most: int) -> Any:
    """The JSON in a file of a store. Raises OSError where it cannot be read."""
    own_files(folder, [name])
    size = (folder / name).stat().st_size
    _need(size <= most, f"{name} has {size:,} bytes, more than any store needs")
    return files.parse_json((folder / name).read_bytes())


def read_lines(folder: Path, name: str, classes: int) -> list[dict[str, Any]]:
    """The lines of ``rows.jsonl``, each checked, with the labels that they name. Raises OSError."""
    own_files(folder, [name])
    found = []
    with (folder / name).open("rb") as file:
        for number, text in enumerate(iter(lambda: file.readline(MOST_LINE + 1), b""), 1):
            try:
                _need(len(text) <= MOST_LINE, f"it has more than {MOST_LINE:,} bytes")
                found.append(files.parse_json(text))
                line(found[-1], classes)
            except ValueError as error:
                raise ValueError(f"{name}, line {number}: {error}") from error
    return found


def meta(found: Any) -> None:
    """The content of ``store.json``."""
    _need(isinstance(found, dict), "store.json holds no table")
    for key in ("dataset", "dataset_name", "protocol", "source"):
        _need(_is_text(found.get(key)), f"store.json: {key} is no text")
    _need(_is_whole(found.get("version"), 0, 1 << 31), "store.json: version is no whole number")
    classes = found.get("classes")
    _need(isinstance(classes, list) and all(map(_is_text, classes)), "store.json: classes is no list of names")
    cover = found.get("covers")
    _need(isinstance(cover, dict), "store.json: covers is no table")
    known = {"face", "frame", "sound", "margin", "rate", "detector", "interpolation", "align"}
    _need({"face", "frame", "sound"} <= set(cover) <= known, "store.json: covers has other keys than a store's")
    face, frame, rates = cover["face"], cover["frame"], cover["sound"]
    sides = frame if isinstance(frame, list) else [] if frame is None else [0]
    _need(face is None or _is_whole(face, 1, MOST_SIDE), "store.json: covers.face is no size")
    _need(len(sides) in (0, 2) and all(_is_whole(n, 1, MOST_SIDE) for n in sides), "store.json: covers.frame")
    _need(isinstance(rates, list) and all(_is_whole(r, 1, MOST_RATE) for r in rates), "store.json: covers.sound")
    for key in ("margin", "rate"):
        _need(_is_number(cover.get(key, 0.0)) and 0 <= cover.get(key, 0.0) <= MOST_RATE, f"store.json: covers.{key}")
    _need(cover.get("detector") is None or _is_text(cover["detector"]), "store.json: covers.detector")
    _need(cover.get("interpolation", "area") in INTERPOLATIONS, "store.json: covers.interpolation")
    _need(isinstance(cover.get("align", False), bool), "store.json: covers.align")


def line(found: Any, classes: int) -> None:
    """One line of ``rows.jsonl``; ``classes``: how many the store has."""
    _need(isinstance(found, dict) and isinstance(found.get("row"), dict), "holds no row")
    row = found["row"]
    _need(set(row) == _ROW, "its row has other columns than a manifest's")
    _need(_is_text(row["id"]) and _is_any_text(found.get("file")), "its id or file is no text")
    for key in ("label", "split", "group"):
        _need(row[key] is None or _is_text(row[key]), f"its {key} is no text")
    for key in ("valence", "arousal", "start", "end"):
        _need(row[key] is None or _is_number(row[key]), f"its {key} is no number")
    _need(row["fold"] is None or _is_whole(row["fold"], -(1 << 31), 1 << 31), "its fold is no whole number")
    for key, length in (("votes", classes), ("box", 4)):
        values = row[key]
        fits = values is None or (isinstance(values, list) and len(values) == length and all(map(_is_number, values)))
        _need(fits, f"its {key} must be {length} numbers")
    extra = row["extra"]
    _need(isinstance(extra, dict) and all(map(_is_any_text, extra.values())), "its extra columns are no text")
    _need({"labels", "error"} <= set(found), "it lacks labels or error")
    labels, error = found["labels"], found["error"]
    _need(labels is None or (_is_text(labels) and _LABELS.fullmatch(labels) is not None), "its labels are no file name")
    _need(_is_text(found.get("sha256")), "it has no sha256")
    media = found.get("media")
    good = media is None or (isinstance(media, dict) and all(_is_text(media.get(k)) for k in ("seen", "sha256")))
    _need(good, "its media have no state")
    _need(error is None or isinstance(error, dict), "its error is no table")
    if error is not None:
        _need(_is_text(error.get("code")) and _is_any_text(error.get("reason")), "its error has no code and reason")


def index(found: Any, items: int) -> list[str]:
    """The content of ``index.json`` of a store with that many items; returns the names of its chunks."""
    _need(isinstance(found, dict) and isinstance(found.get("chunks"), list), "it lists no chunks")
    config = found.get("config")
    _need(
        isinstance(config, dict) and set(found) <= {"chunks", "config", "updated_at"},
        "it has keys of no store",
    )
    _need(config.get("data_format") == ["bytes"] * len(LEAVES), "its items are not plain bytes")
    for key in ("compression", "compression_level", "compression_batch_size", "encryption", "ipc_compression"):
        _need(config.get(key) is None, f"its items have {key}")
    _need(config.get("item_loader", "PyTreeLoader") == "PyTreeLoader" and "format" not in config, "it has other items")
    text = config.get("data_spec")
    spec = files.parse_json(text) if _is_text(text) else None
    fits = isinstance(spec, list) and len(spec) == 2 and spec[0] == 1 and isinstance(spec[1], dict)
    tree = spec[1] if isinstance(spec, list) and fits else {}
    fits = fits and tree.get("type") == "builtins.dict" and tree.get("children_spec") == [_LEAF] * len(LEAVES)
    _need(fits and tree.get("context") == json.dumps(LEAVES), "its items have other parts than a store's")
    names, total = [], 0
    for chunk in found["chunks"]:
        _need(isinstance(chunk, dict), "a chunk is no table")
        name = chunk.get("filename")
        _need(_is_text(name) and _CHUNK.fullmatch(name) is not None, f"{str(name)[:60]!a} is no name of a chunk")
        _need(_is_whole(chunk.get("chunk_size"), 1, items), f"{name} has no number of items")
        _need(_is_whole(chunk.get("chunk_bytes"), 1, 1 << 40), f"{name} has no number of bytes")
        _need(chunk.get("dim") is None, f"{name} has a dim")
        names.append(str(name))
        total += chunk["chunk_size"]
    _need(len(set(names)) == len(names), "a chunk stands twice")
    _need(total == items, f"it has {total} items, the table of rows has {items}")
    return names


def head(item: Mapping[str, Any]) -> dict[str, Any]:
    """The head of an item, whose other parts fit it and each other."""
    found = files.parse_json(bytes(item["head"]))
    _need(isinstance(found, dict), "its head is no table")
    if "error" in found:
        raise ValueError("it could not be read when the store was made")
    size = found.get("size")
    _need(isinstance(size, list) and len(size) == 2 and all(_is_whole(n, 0, 1 << 20) for n in size), "its size")
    _need(isinstance(found.get("still"), bool) and _is_number(found.get("step")), "its head lacks still or step")
    _need(0 <= found["step"] <= 1e6, "its step between detections")
    for key in ("warnings", "sound_warnings"):
        pairs = found.setdefault(key, [])
        good = isinstance(pairs, list) and all(isinstance(w, list) and len(w) == 2 for w in pairs)
        _need(good and all(_is_text(t) for w in pairs for t in w), f"its {key} are not pairs of texts")
    _frames(item)
    _audio(found.get("sound"), len(item["sound"]))
    return found


def _frames(item: Mapping[str, Any]) -> None:
    for leaf, width in (("stamps", 8), ("kept", 8), ("track_times", 8), ("track_boxes", 16), ("spans", 32)):
        _need(len(item[leaf]) % width == 0, f"{leaf} is cut off")
    stamps, kept = np.frombuffer(item["stamps"], np.float64), np.frombuffer(item["kept"], np.int64)
    _need(bool(np.isfinite(stamps).all() and (np.diff(stamps) >= 0).all()), "its times do not ascend")
    _need(bool((np.diff(kept) > 0).all()), "its frames do not ascend")
    _need(len(kept) == 0 or (kept[0] >= 0 and kept[-1] < len(stamps)), "it has frames without times")
    spans = np.frombuffer(item["spans"], np.int64).reshape(-1, 2, 2)
    _need(len(spans) == len(kept), "it has not one pair of images for each frame")
    inside = (spans[..., 0] >= 0) & (spans[..., 0] <= spans[..., 1]) & (spans[..., 1] <= len(item["pictures"]))
    _need(bool(inside.all()), "an image lies outside its images")
    _need(bool((spans[..., 0] < spans[..., 1]).any(1).all()), "a frame has no image")
    times = np.frombuffer(item["track_times"], np.float64)
    boxes = np.frombuffer(item["track_boxes"], np.float32).reshape(-1, 4)
    _need(len(times) == len(boxes), "its track has not one box for each time")
    _need(bool(np.isfinite(times).all() and (np.diff(times) >= 0).all()), "the times of its track do not ascend")
    _need(bool((np.abs(boxes) < 1e7).all()), "a box of its track is no box")


def _audio(spans: Any, size: int) -> None:
    _need(isinstance(spans, list), "its audio has no list of spans")
    samples = 0
    for span in spans:
        good = isinstance(span, list) and len(span) == 5 and all(map(_is_number, span))
        good = good and _is_whole(span[0], 1, MOST_RATE) and _is_whole(span[2], 0, 1 << 40)
        good = good and _is_whole(span[1], -(1 << 50), 1 << 50) and abs(span[3]) < 1e9 and 0 <= span[4] < 1e9
        _need(good, "its audio has a span that is none")
        samples += span[2]
    _need(4 * samples == size, "its audio is cut off")


def jpeg(data: Any, most: tuple[int, int]) -> tuple[int, int]:
    """The size (H, W) of an item's image: a JPEG of at most as many pixels as the store's own, ``most`` = (H, W)."""
    found = jpeg_header(data) if bytes(data[:2]) == b"\xff\xd8" else None
    _need(found is not None, "an image is no JPEG")
    assert found is not None
    _need(0 < found.width * found.height <= most[0] * most[1], f"an image has {found.width} x {found.height} pixels")
    return found.height, found.width
