"""Drawn and damaged tables, annotations, configs, headers and stores: each is read, or refused in one of our errors.

`make test` draws a few, always the same; `make soak` draws others for ``EMOZOO_FUZZ_SECONDS`` seconds each (600).
Inputs that once failed stand as ``@example``.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import resource
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trees
from drawn_inputs import SECONDS, quick, soak
from hypothesis import example, given
from hypothesis import strategies as st
from soak_table import Tally

from emozoo import hub, registry, weights_file
from emozoo.data import datasets, store, store_check
from emozoo.data.prepare import prepare
from emozoo.data.store import Cover, StoredFrames
from emozoo.data.tables import read_manifest, read_va
from emozoo.errors import EmozooError
from emozoo.module import EmotionModule
from emozoo.weights import find

MOST_SECONDS, MOST_MIB = 20.0, 600


@contextmanager
def one_of_ours() -> Iterator[None]:
    """Passes where the block ends well or with an error of ours, of one line, soon and without much memory."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(EmozooError):
        try:
            yield
        except EmozooError as error:
            if "\n" in str(error):
                raise AssertionError("an error of several lines") from error
            raise
    assert time.monotonic() - start < MOST_SECONDS
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / (
        2**20 if sys.platform == "darwin" else 2**10
    )
    assert grown < MOST_MIB, f"{grown:.0f} MiB more"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


# -- tables ----------------------------------------------------------------------------------------------------------

COLUMNS = [
    "path", "label", "valence", "arousal", "split", "fold", "group", "start", "end", "x1", "y1", "x2", "y2", "votes_a",
    "votes_b", "sound", "va_file", "Unnamed: 0", "", "file", "class", "Path", "path ", "set", "other",
]  # fmt: skip
cell = st.sampled_from(
    ["", "a", "b", "A ", "0", "1", "-1", "1e999", "nan", "inf", "-inf", "0x10", "1_000", "9" * 400, "1.0", "train",
     "Hold-out", "../../etc/passwd", "/", "\\\\server\\x", "C:\\x.mp4", "~", "~nobody/x", "a\0b", "\ud7ff", "=1+1",
     "a.mp4", "a.png", "-5", "a\nb", "'", '"']
) | st.text(max_size=12) | st.floats().map(str) | st.integers().map(str)  # fmt: skip
row = st.lists(cell, max_size=12)
table = st.tuples(st.lists(st.sampled_from(COLUMNS), max_size=12), st.lists(row, max_size=8), st.booleans())


def _csv(drawn: tuple[list[str], list[list[str]], bool]) -> bytes:
    """A table; ``fit``: every line has as many cells as the header, quoted where a comma or a quote is in them."""
    header, rows, fit = drawn
    if not fit:
        return "\n".join(map(",".join, [header, *rows])).encode(errors="surrogatepass")
    text = io.StringIO()
    csv.writer(text).writerows([header, *((r + [""] * len(header))[: len(header)] for r in rows)])
    return text.getvalue().encode(errors="surrogatepass")


tables = table.map(_csv) | st.binary(max_size=200) | st.text(max_size=200).map(lambda t: ("path,label\n" + t).encode())


def manifest(folder: Path, data: bytes) -> None:
    path = folder / "manifest.csv"
    path.write_bytes(data)
    with one_of_ours():
        read_manifest(path)


@quick
@given(data=tables)
@example(data=b"path,label\na\0b.mp4,x\n")
@example(data=b"path,fold\na.mp4,1e999\n")
@example(data=b"path,label\n" + b"a" * 5000 + b".mp4,x\n")
@example(data=b"path,label\n~nobody/x,a\n")
@example(data=b'path,label\n"' + b"x" * 200_000 + b'",a\n')
@example(data=b'\n",\na')
def test_a_manifest_is_read_or_refused(scratch: Path, data: bytes) -> None:
    """Tables of users in any spelling, with any cell, and what is no table at all."""
    manifest(scratch, data)


def per_frame(folder: Path, data: bytes) -> None:
    (folder / "x.va.csv").write_bytes(data)
    with one_of_ours():
        values = read_va(folder / "x.va.csv")
        assert not (np.abs(values) > 1).any()


@quick
@given(data=st.binary(max_size=100) | st.lists(row, max_size=5).map(lambda r: "\n".join(map(",".join, r)).encode()))
@example(data=b"valence,arousal\nnan,nan\n")
@example(data=b"\xff\xfe\x00")
def test_labels_of_frames_are_read_or_refused(scratch: Path, data: bytes) -> None:
    """Files of valence and arousal: numbers in [-1, 1], or one line."""
    per_frame(scratch, data)


# -- annotations of data sets ------------------------------------------------------------------------------------------

# Those that come with lists and tables; the others are known by the names of their files.
BUILT = {name: build for name, build in trees.TREES.items() if name not in ("caer", "bu4dfe", "ravdess")}
BUILT["crema_d:face"] = trees.crema_d
ANNOTATIONS = (".txt", ".csv", ".xml", ".gz")


@pytest.fixture(scope="module")
def trees_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, list[Path]]]:
    """The tree of a data set, built once, and its files of annotations."""
    built: dict[str, tuple[Path, list[Path]]] = {}

    def of(name: str) -> tuple[Path, list[Path]]:
        if name not in built:
            root = tmp_path_factory.mktemp(name.replace(":", "_"))
            BUILT[name](root)
            built[name] = root, sorted(p for p in root.rglob("*") if p.suffix in ANNOTATIONS)
        return built[name]

    return of


PIECES = [b"", b"\0", b"\xff", b",", b"\n", b" ", b"-1", b"9" * 30, b"nan", b"../..", b"<", b"&x;", b'"', b"0,0,0,0"]
edit = st.tuples(
    st.integers(0, 1000), st.floats(0, 1), st.integers(0, 40), st.sampled_from(PIECES) | st.binary(max_size=8)
)
edits = st.lists(edit, min_size=1, max_size=4)


def edited(data: bytes, changes: list[tuple[int, float, int, bytes]]) -> bytes:
    """Bytes in which pieces of some length, at some fraction of it, are replaced by others."""
    for _, at, length, piece in changes:
        start = int(at * len(data))
        data = data[:start] + piece + data[start + length :]
    return data


def annotations(root: Path, found: list[Path], name: str, changes: list[tuple[int, float, int, bytes]]) -> None:
    path = found[changes[0][0] % len(found)]
    before = path.read_bytes()
    packed = path.suffix == ".gz" and changes[0][0] % 2
    after = gzip.compress(edited(gzip.decompress(before), changes)) if packed else edited(before, changes)
    path.write_bytes(after)
    try:
        with one_of_ours():
            datasets.load(name, root)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("name", BUILT)
@quick
@given(changes=edits)
@example(changes=[(1, 0.5, 35, b""), (0, 0.0, 0, b""), (0, 0.328125, 0, b'"')])
@example(changes=[(1, 0.125, 6, b"")])  # a line of FER+ with fewer cells
def test_annotations_are_read_or_refused(
    trees_of: Callable[[str], tuple[Path, list[Path]]], name: str, changes: list[tuple[int, float, int, bytes]]
) -> None:
    """Lists, tables and XML of public data sets, damaged as downloads, editors and strangers damage them."""
    root, found = trees_of(name)
    annotations(root, found, name, changes)


# -- JSON: configs, headers, stores ------------------------------------------------------------------------------------

plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.just(10**400) | st.floats() | st.text(max_size=8)
    | st.sampled_from(["../x", "/etc/passwd", "face", "audio", "\ud800", 10**9, -1, 0, 1e300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
change = st.tuples(st.integers(0, 10_000), st.sampled_from(["put", "drop", "add"]), plain)
changes_of_json = st.lists(change, min_size=1, max_size=3)


def changed(value: Any, changes: list[tuple[int, str, Any]]) -> Any:
    """A copy of plain data in which some values, however deep, are replaced, dropped or joined by another."""
    value = json.loads(json.dumps(value))
    for at, how, new in changes:
        places: list[tuple[Any, Any]] = []
        todo = [value]
        while todo:
            inner = todo.pop()
            keys = (
                list(inner) if isinstance(inner, dict) else list(range(len(inner))) if isinstance(inner, list) else []
            )
            places += [(inner, k) for k in keys]
            todo += [inner[k] for k in keys if isinstance(inner[k], dict | list)]
        if not places:
            break
        inside, key = places[at % len(places)]
        if how == "put":
            inside[key] = new
        elif how == "drop":
            del inside[key]
        elif isinstance(inside, dict):
            inside["added"] = new
        else:
            inside.append(new)
    return value


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A weights folder and its config."""
    module = EmotionModule("ceflnet", size="lite", options={"backbone": "vgg_tiny"})
    folder = module.save(tmp_path_factory.mktemp("small") / "w")
    return folder, hub.read_config(folder)


def config(small: tuple[Path, dict[str, Any]], changes: list[tuple[int, str, Any]]) -> None:
    folder, good = small
    (folder / hub.CONFIG).write_text(json.dumps(changed(good, changes)))
    with one_of_ours():
        find(folder)


@quick
@given(changes=changes_of_json)
@example(changes=[(3198, "put", {"": None}), (8405, "drop", None)])  # no spec, and a table where the name should be
def test_a_config_is_read_or_refused(small: tuple[Path, dict[str, Any]], changes: list[tuple[int, str, Any]]) -> None:
    """Configs beside weights, with any value at any place."""
    config(small, changes)


def every_config(changes: tuple[int, list[tuple[int, str, Any]]]) -> None:
    """Configs of the weights that come with the zoo, of all networks."""
    from emozoo import weights_config

    known = list(registry.weights().values())
    with one_of_ours():
        found = changed(dict(known[changes[0] % len(known)].config), changes[1])
        if isinstance(found, dict):
            weights_config.check(Path("config.json"), found)


@quick
@given(changes=st.tuples(st.integers(0, 100), changes_of_json))
@example(changes=(1, [(637, "put", {"\n": None})]))  # a line break in the name of a field
def test_configs_of_all_networks_are_read_or_refused(changes: tuple[int, list[tuple[int, str, Any]]]) -> None:
    """The same for every network, its options and its streams."""
    every_config(changes)


TENSORS = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "F16", "shape": [], "data_offsets": [24, 26]},
    "c": {"dtype": "I64", "shape": [1], "data_offsets": [26, 34]},
}


def header(folder: Path, drawn: tuple[list[tuple[int, str, Any]], list[tuple[int, float, int, bytes]], bool]) -> None:
    in_json, in_bytes, both = drawn
    text = json.dumps(changed(TENSORS, in_json)).encode()
    data = struct.pack("<Q", len(text)) + text + bytes(34)
    path = folder / "x.safetensors"
    path.write_bytes(edited(data, in_bytes) if both else data)
    with one_of_ours():
        state = hub.read_weights(path, None)
        entries = weights_file.check(path, text, 34) if not both else None
        if entries is not None:
            assert {k: e.shape for k, e in entries.items()} == {k: tuple(v.shape) for k, v in state.items()}


headers = st.tuples(changes_of_json, edits, st.booleans())


@quick
@given(drawn=headers)
def test_a_header_of_safetensors_is_read_or_refused(scratch: Path, drawn: Any) -> None:
    """Headers with any value at any place, and files with any bytes in them."""
    header(scratch, drawn)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A store of four images, its folder and its tables."""
    root = tmp_path_factory.mktemp("stored")
    for n in range(4):
        trees.image(root / "data" / "ab"[n % 2] / f"{n}.png")
    cover = Cover.of([registry.MODELS["ceflnet"].specs["lite"]])
    assert prepare("folder", root / "data", root / "store", cover=cover, workers=1)
    names = (store.META, store.ROWS, store.INDEX)
    texts = {n: (root / "store" / n).read_text(encoding="utf-8") for n in names}
    parsed: dict[str, Any] = {n: json.loads(texts[n]) for n in (store.META, store.INDEX)}
    parsed[store.ROWS] = [json.loads(line) for line in texts[store.ROWS].splitlines()]
    return {"folder": root / "store", "texts": texts, "parsed": parsed, "item": store.Store(root / "store").item(0)}


def a_store(stored: dict[str, Any], drawn: tuple[int, list[tuple[int, str, Any]]]) -> None:
    which, changes = drawn
    folder, name = stored["folder"], (store.META, store.ROWS, store.INDEX)[which]
    found = changed(stored["parsed"][name], changes)
    lines = found if name == store.ROWS and isinstance(found, list) else [found]
    (folder / name).write_text("\n".join(map(json.dumps, lines)))
    try:
        with one_of_ours():
            opened = store.Store(folder)
            for number, _ in enumerate(opened.manifest.rows):
                images, _audio, _ = opened.open(number, registry.MODELS["ceflnet"].specs["lite"])
                assert images is None or list(images.frames(images.stored[:1]))
    finally:
        (folder / name).write_text(stored["texts"][name], encoding="utf-8")


@quick
@given(drawn=st.tuples(st.integers(0, 2), changes_of_json))
def test_a_store_is_read_or_refused(stored: dict[str, Any], drawn: tuple[int, list[tuple[int, str, Any]]]) -> None:
    """``store.json``, ``rows.jsonl`` and ``index.json`` with any value at any place; what passes is read."""
    a_store(stored, drawn)


def an_item(stored: dict[str, Any], changes: list[tuple[int, float, int, bytes]]) -> None:
    """The parts of an item with any bytes."""
    item = {k: bytes(v) for k, v in stored["item"].items()}
    leaf = store_check.LEAVES[changes[0][0] % len(store_check.LEAVES)]
    item[leaf] = edited(item[leaf], changes)
    with one_of_ours():
        images, _ = store.images_of(item, store.Store(stored["folder"]).cover)
        if isinstance(images, StoredFrames) and len(images.stored):
            list(images.frames(images.stored[:1]))


@quick
@given(changes=edits)
@example(changes=[(6, 0.75, 0, b"\x00")])
def test_an_item_of_a_store_is_read_or_refused(
    stored: dict[str, Any], changes: list[tuple[int, float, int, bytes]]
) -> None:
    """Items whose parts are damaged: their images come, or one line does."""
    an_item(stored, changes)


# -- the long runs -----------------------------------------------------------------------------------------------------


@pytest.mark.soak(600)
@pytest.mark.parametrize("what", ["tables", "annotations", "configs", "headers", "stores"])
def test_long_fuzzing(
    what: str, scratch: Path, small: tuple[Path, dict[str, Any]], stored: dict[str, Any],
    trees_of: Callable[[str], tuple[Path, list[Path]]], tally: Callable[[str, int], Tally],
) -> None:  # fmt: skip
    """The same properties for ``EMOZOO_FUZZ_SECONDS`` each, with other inputs in every run."""

    def of_all(drawn: tuple[str, list[tuple[int, float, int, bytes]]]) -> None:
        annotations(*trees_of(drawn[0]), drawn[0], drawn[1])

    binary = st.binary(max_size=100) | st.lists(row, max_size=5).map(lambda r: "\n".join(map(",".join, r)).encode())
    parts: list[tuple[Callable[[Any], object], st.SearchStrategy[Any]]] = {
        "tables": [(partial(manifest, scratch), tables), (partial(per_frame, scratch), binary)],
        "annotations": [(of_all, st.tuples(st.sampled_from(list(BUILT)), edits))],
        "configs": [
            (partial(config, small), changes_of_json),
            (every_config, st.tuples(st.integers(0, 100), changes_of_json)),
        ],
        "headers": [(partial(header, scratch), headers)],
        "stores": [
            (partial(a_store, stored), st.tuples(st.integers(0, 2), changes_of_json)),
            (partial(an_item, stored), edits),
        ],
    }[what]  # type: ignore[assignment]
    counts = tally(f"drawn files: {what}", time.time_ns() % 1_000_000)
    for case, inputs in parts:
        soak(case, inputs, counts, SECONDS / len(parts))
