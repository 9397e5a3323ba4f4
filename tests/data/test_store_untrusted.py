"""Prepared stores of strangers: nothing in them runs, leads out of their folder, or is read past its end."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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


@pytest.mark.parametrize("name", [store.META, store.ROWS, store.INDEX, "chunk-0-0.bin"])
def test_links_out_of_a_store_are_not_followed(copy: Path, tmp_path: Path, name: str) -> None:
    """A store that was fetched reads its own files; a store that is itself behind a link is read."""
    (tmp_path / "link").symlink_to(copy)
    assert Store(tmp_path / "link").item(0)
    shutil.move(copy / name, tmp_path / "elsewhere")
    (copy / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EmozooError, match="is a link out of it"):
        Store(copy).item(0)


def test_an_image_larger_than_the_store_says_is_not_decoded(made: Path) -> None:
    """Protects memory from a picture of 60,000 pixels a side in a store of small faces."""
    opened = Store(made)
    item = {k: bytes(v) for k, v in opened.item(0).items()}
    at = item["pictures"].index(b"\xff\xc0") + 5
    item["pictures"] = item["pictures"][:at] + b"\xea\x60\xea\x60" + item["pictures"][at + 4 :]
    images, _ = store.images_of(item, opened.cover)
    assert images is not None
    with pytest.raises(VideoError, match="60000 x 60000 pixels"):
        list(images.frames(images.stored[:1]))


def test_a_number_that_the_store_does_not_have(made: Path) -> None:
    """A table may name items of a store: one that is not there is a missing file."""
    with pytest.raises(VideoError, match="no number 99"):
        store.find(f"{made}/#99-0")
