"""Prepared stores of strangers: nothing in them runs, leads out of their folder, or is read past its end."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trees
from pickles import Evil

from emozoo import registry
from emozoo.data import datasets, store
from emozoo.data.prepare import prepare
from emozoo.data.store import Cover, Store
from emozoo.errors import DatasetError, EmozooError, VideoError

SPEC = registry.MODELS["ceflnet"].specs["lite"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, make_images: Callable[[int], Path]) -> Path:
    out = tmp_path_factory.mktemp("made") / "store"
    assert prepare("folder", make_images(2), out, cover=Cover.of([SPEC]), workers=1)
    return out


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "store"))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Changes the JSON of a file, or of the first line of ``rows.jsonl``."""
    lines = path.read_text().splitlines() if path.name == store.ROWS else [path.read_text()]
    found = json.loads(lines[0])
    change(found)
    path.write_text("\n".join([json.dumps(found), *lines[1:]]) + "\n")


def test_pickled_items_are_not_opened(copy: Path, tmp_path: Path) -> None:
    """The reader of the chunks opens pickles where the index says so: such an index is refused before an item is."""
    os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
    from litdata.streaming.writer import BinaryWriter

    mark = tmp_path / "ran"
    rows = len((copy / store.ROWS).read_text().splitlines())
    for file in (*copy.glob("*.bin"), copy / store.INDEX):
        file.unlink()
    writer = BinaryWriter(str(copy), chunk_bytes=1 << 20)
    for n in range(rows):
        writer.add_item(n, dict.fromkeys(store.LEAVES, b"") | {"head": Evil(mark)})
    writer.done()
    writer.merge(1)
    assert "pickle" in (copy / store.INDEX).read_text(), "or it tests nothing"
    with pytest.raises(DatasetError, match="not plain bytes"):
        Store(copy).item(0)
    assert not mark.exists()


BAD_INDEX: dict[str, tuple[Callable[[Any], Any], str]] = {
    "another folder": (lambda i: i["chunks"][0].update(filename="../../secret.bin"), "no name of a chunk"),
    "an absolute path": (lambda i: i["chunks"][0].update(filename="/etc/passwd"), "no name of a chunk"),
    "a drive": (lambda i: i["chunks"][0].update(filename="C:\\x.bin"), "no name of a chunk"),
    "a hidden file": (lambda i: i["chunks"][0].update(filename=".x.bin"), "no name of a chunk"),
    "a class to import": (
        lambda i: i["config"].update(data_spec=i["config"]["data_spec"].replace("builtins.dict", "os.system")),
        "other parts",
    ),
    "compression": (lambda i: i["config"].update(compression="zstd"), "have compression"),
    "encryption": (lambda i: i["config"].update(encryption={"algorithm": "rsa"}), "have encryption"),
    "another format": (lambda i: i["config"].update(format="mds"), "other items"),
    "more items": (lambda i: i["chunks"][0].update(chunk_size=10**9), "no number of items"),
    "fewer items": (lambda i: i["chunks"][0].update(chunk_size=0), "no number of items"),
}


@pytest.mark.parametrize("name", BAD_INDEX)
def test_an_index_names_its_own_chunks_of_plain_bytes(copy: Path, name: str) -> None:
    """Protects files beside the store, and the machine from what the reader of the chunks can import."""
    change, said = BAD_INDEX[name]
    edit(copy / store.INDEX, change)
    with pytest.raises(DatasetError) as error:
        Store(copy).item(0)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("labels", ["../../secret.csv", "/etc/passwd", "..", "a/b.csv", "C:\\x.csv", "x.txt"])
def test_labels_lie_in_the_store(copy: Path, labels: str) -> None:
    """Protects files elsewhere from being read here, and from being written over where a store is fetched."""
    edit(copy / store.ROWS, lambda line: line.update(labels=labels))
    with pytest.raises(DatasetError, match="labels are no file name"):
        Store(copy)


def test_a_fetched_store_writes_into_its_folder_alone(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of rows in object storage cannot name a file of this machine for its labels to be written to."""
    edit(copy / store.ROWS, lambda line: line.update(labels="../../../../victim.csv"))
    fetched: list[str] = []

    class Provider:
        def download_file(self, url: str, path: str) -> None:
            fetched.append(path)
            shutil.copyfile(copy / url.rpartition("/")[2], path)

    monkeypatch.setattr(store, "_provider", lambda url: Provider())
    monkeypatch.setenv("EMOZOO_HOME", str(tmp_path / "home"))
    with pytest.raises(DatasetError, match="no store can be fetched there"):
        Store("s3://bucket/store")
    assert not [path for path in fetched if "victim" in path]


def test_columns_of_a_row_open_no_file(copy: Path) -> None:
    """A store has labels and audio itself: what its table calls ``va_file`` or ``sound`` is left out."""
    edit(copy / store.ROWS, lambda line: line["row"].update(extra={"va_file": "/etc/passwd", "sound": "/x", "a": "b"}))
    extra = datasets.load("store", copy).rows[0].extra
    assert {k: v for k, v in extra.items() if k != "source"} == {"a": "b"}


@pytest.mark.parametrize("name", [store.META, store.ROWS, store.INDEX, "chunk-0-0.bin", "labels/x.csv", "labels"])
def test_links_out_of_a_store_are_not_followed(copy: Path, tmp_path: Path, name: str) -> None:
    """A store that was fetched reads its own files; a store that is itself behind a link is read."""
    (tmp_path / "link").symlink_to(copy)
    if name.startswith("labels"):
        (copy / "labels" / "x.csv").write_text("valence,arousal\n0,0\n")
        edit(copy / store.ROWS, lambda line: line.update(labels="x.csv"))
    assert Store(tmp_path / "link").item(0)
    shutil.move(copy / name, tmp_path / "elsewhere")
    (copy / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EmozooError, match="is a link out of it"):
        Store(copy).item(0)


def test_an_image_larger_than_the_store_says_is_not_decoded(made: Path) -> None:
    """Protects memory from an image of 60,000 pixels a side in a store of small faces."""
    opened = Store(made)
    item = {k: bytes(v) for k, v in opened.item(0).items()}
    at = item["pictures"].index(b"\xff\xc0") + 5
    item["pictures"] = item["pictures"][:at] + b"\xea\x60\xea\x60" + item["pictures"][at + 4 :]
    images, _ = store.images_of(item, opened.cover)
    assert images is not None
    with pytest.raises(VideoError, match="60000 x 60000 pixels"):
        list(images.frames(images.stored[:1]))


@pytest.mark.parametrize("marker", [b"\xff\x01", b"\xff\xd0", b"\xff\xd8", b"\xff\x00"])
def test_a_header_behind_a_marker_without_a_length_is_not_believed(made: Path, marker: bytes) -> None:
    """Decoders skip such markers alone: a reader that skips a length, too, finds another header than theirs."""
    opened = Store(made)
    item = _one_item(opened)
    image = item["pictures"]
    span = np.array([[[0, len(image) + 4], [0, len(image) + 4]]], np.int64)
    item |= {"pictures": image[:2] + marker + b"\0\2" + image[2:], "spans": span.tobytes()}
    images, _ = store.images_of(item, opened.cover)
    assert images is not None
    with pytest.raises(VideoError, match="no JPEG"):
        list(images.frames(images.stored[:1]))


def _one_item(opened: Store, **parts: bytes) -> dict[str, bytes]:
    return {k: bytes(v) for k, v in opened.item(0).items()} | parts


def test_a_frame_has_an_image(made: Path) -> None:
    """An item without the image that is asked for is damaged, whichever it is: one line, no crash of a worker."""
    opened = Store(made)
    there = np.frombuffer(opened.item(0)["spans"], np.int64).reshape(-1, 2, 2)
    with pytest.raises(VideoError, match="a frame has no image"):
        store.images_of(_one_item(opened, spans=np.zeros_like(there).tobytes()), opened.cover)
    for part, what in ((store.CROP, "no face"), (store.WHOLE, "no whole image")):
        spans = np.zeros_like(there)
        spans[:, 1 - part] = there.max(1)
        images, _ = store.images_of(_one_item(opened, spans=spans.tobytes()), opened.cover)
        assert images is not None
        shot = next(iter(images.shots(images.stored[:1])))
        with pytest.raises(VideoError, match=what):
            _ = (
                shot.face(np.zeros(4), (8, 8), 0.0, "area")
                if part == store.CROP
                else shot.context(None, (8, 8), "area")
            )


def test_audio_at_another_rate_is_not_silence(made: Path) -> None:
    """A store that promises audio at a rate and has it at another is damaged: nothing is predicted of silence."""
    item = _one_item(Store(made), sound=bytes(32))
    head = {"sound": [[8000, 0, 8, 0.0, 1.0]], "sound_warnings": []}
    assert len(store.StoredAudio(item, head, 8000).read(0.0, 1.0)) == 8000
    with pytest.raises(VideoError, match="no audio at 16000 Hz"):
        store.StoredAudio(item, head, 16000)


BAD_TABLES: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "margin": (store.META, lambda m: m["covers"].update(margin=10**400), "covers.margin"),
    "valence": (store.ROWS, lambda line: line["row"].update(valence=10**400), "its valence is no number"),
    "escape": (store.ROWS, lambda line: line["row"].update(id="\x1b[2J"), "its id or file is no text"),
    "class": (store.META, lambda m: m.update(classes=["a", "\x1b]0;x\x07"]), "classes is no list of names"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_table_holds_what_a_store_writes(copy: Path, name: str) -> None:
    """Protects arithmetic from numbers of 400 digits, and terminals from names with escapes."""
    file, change, said = BAD_TABLES[name]
    edit(copy / file, change)
    with pytest.raises(DatasetError) as error:
        Store(copy)
    assert said in str(error.value)


def test_tables_are_files_of_a_bounded_size(copy: Path) -> None:
    """Protects memory from a hole of a terabyte, a run from a pipe that nobody writes to."""
    for name, said in ((store.META, "more than any store needs"), (store.ROWS, "line 1: it has more than")):
        text = (copy / name).read_text()
        os.truncate(copy / name, 0)
        os.truncate(copy / name, 1 << 40)
        with pytest.raises(DatasetError, match=said):
            Store(copy)
        (copy / name).unlink()
        os.mkfifo(copy / name)
        with pytest.raises(DatasetError, match="is no file"):
            Store(copy)
        (copy / name).unlink()
        (copy / name).write_text(text)
    (copy / store.ROWS).write_text(text.rstrip()[:-1] + ', "file": "b"}\n')
    with pytest.raises(DatasetError, match="stands twice"):
        Store(copy)


def test_the_reason_of_a_stored_error_is_one_line(copy: Path) -> None:
    """Reasons may quote what a decoder said: they are shown without escapes of terminals or line breaks."""
    edit(copy / store.ROWS, lambda line: line.update(error={"code": "broken", "reason": "a\n\x1b[2Jb"}))
    with pytest.raises(VideoError) as error:
        Store(copy).open(0, SPEC)
    assert error.value.reason == r"a\n\x1b[2Jb"


def test_odd_names_are_stored_or_refused_before_the_work(tmp_path: Path) -> None:
    """A separator of lines in a file's name does not cut the table; what would not be read again is not prepared."""
    for number, name in enumerate(("a\u2028b", "a\u0085b", "c")):
        trees.image(tmp_path / str(number) / name / "0.png")
    cover = Cover.of([SPEC])
    assert prepare("folder", tmp_path / "0", tmp_path / "out0", cover=cover, workers=1)
    assert len(Store(tmp_path / "out0").manifest) == 1
    with pytest.raises(DatasetError, match=r"0\.png: cannot be put into a store"):
        prepare("folder", tmp_path / "1", tmp_path / "out1", cover=cover, workers=1)
    assert not (tmp_path / "out1").exists()
    (tmp_path / "2").rename(tmp_path / "\x1b[2J")
    with pytest.raises(DatasetError, match=r"/\\x1b\[2J: cannot be made into a store"):
        prepare("folder", tmp_path / "\x1b[2J", tmp_path / "out2", cover=cover, workers=1)
    assert not (tmp_path / "out2").exists()


def test_a_number_that_the_store_does_not_have(made: Path) -> None:
    """A table may name items of a store: one that is not there is a missing file."""
    with pytest.raises(VideoError, match="no number 99"):
        store.find(f"{made}/#99-0")
