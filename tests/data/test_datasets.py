"""Data sets on disk: which trees and tables are understood, and what a wrong --root is told."""

import csv
import errno
import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from emozoo.data import datasets
from emozoo.errors import DatasetError, EmozooError, ManifestError, UsageError
from emozoo.labels import BASIC7, FERPLUS8

TEN = (*FERPLUS8, "unknown", "NF")


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_class_folders(tmp_path: Path) -> None:
    """Protects root/<class>/<item> with videos, images and frame folders mixed, and keys that are never basenames."""
    touch(tmp_path, "joy/1.mp4", "anger/1.AVI", "anger/2.jpg", "joy/take 3/0001.png", "joy/take 3/0002.png")
    touch(tmp_path, "joy/notes.txt", ".cache/x/1.mp4", "joy/.hidden.mp4", "joy/1.va.csv")
    m = datasets.load("folder", tmp_path)
    assert [(r.id, r.label, r.split) for r in m] == [
        ("anger/1", "anger", None),
        ("anger/2", "anger", None),
        ("joy/1", "joy", None),
        ("joy/take 3", "joy", None),
    ]
    assert m.classes == ("anger", "joy")
    assert m.rows[2].extra["va_file"] == str(tmp_path / "joy/1.va.csv")


def test_split_folders(tmp_path: Path) -> None:
    """Protects root/{train,val,test}/<class>/<item>, other names of the splits, and classes.txt."""
    touch(tmp_path, "train/b/1.mp4", "validation/a/1.mp4", "Test/b/1.mp4")
    (tmp_path / "classes.txt").write_text("b\na\n")
    m = datasets.load("folder", tmp_path)
    assert {(r.id, r.split) for r in m} == {
        ("train/b/1", "train"),
        ("validation/a/1", "val"),
        ("Test/b/1", "test"),
    }
    assert m.splits == ("train", "val", "test")
    assert m.classes == ("b", "a")


def test_empty_frame_folder_is_kept(tmp_path: Path) -> None:
    """Protects against evaluating one item fewer without a word: an empty folder is an item that cannot be read."""
    touch(tmp_path, "a/1.mp4")
    (tmp_path / "a" / "2").mkdir()
    assert [r.id for r in datasets.load("folder", tmp_path)] == ["a/1", "a/2"]


@pytest.mark.parametrize("name", ["folder", "csv", "ferplus", "synthemo"])
def test_wrong_root_says_what_was_looked_for(tmp_path: Path, name: str) -> None:
    """Protects the promise that a wrong path names itself and the cure, in one line."""
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DatasetError) as e:
            datasets.load(name, root)
        assert str(root) in str(e.value)
        assert "\n" not in str(e.value)


def test_split_and_class_folders_mixed(tmp_path: Path) -> None:
    """Protects against taking 'train' for an emotion."""
    touch(tmp_path, "train/a/1.mp4", "joy/1.mp4")
    with pytest.raises(DatasetError, match="joy"):
        datasets.load("folder", tmp_path)


def test_unknown_name() -> None:
    """Protects 'did you mean'."""
    with pytest.raises(UsageError, match="did you mean 'ferplus'"):
        datasets.load("ferpls", ".")


def test_csv_file_or_its_folder(tmp_path: Path) -> None:
    """Protects both ways to name a table, and the order of a model's classes."""
    (tmp_path / "manifest.csv").write_text("path,label\na.mp4,Happy\nb.mp4,Angry\n")
    for root in (tmp_path, tmp_path / "manifest.csv"):
        m = datasets.load("csv", root, classes=("anger", "happiness"))
        assert [r.label for r in m] == ["happiness", "anger"]
        assert m.classes == ("anger", "happiness")


VOTES = {  # name: neutral happiness surprise sadness anger disgust fear contempt unknown NF
    "fer0000000.png": (6, 0, 0, 2, 2, 0, 0, 0, 0, 0),
    "fer0000001.png": (0, 4, 0, 4, 0, 0, 0, 0, 2, 0),
    "fer0000002.png": (3, 0, 0, 0, 0, 0, 0, 5, 2, 0),
    "fer0000003.png": (0, 0, 1, 0, 0, 0, 0, 0, 9, 0),
    "fer0000004.png": (0, 0, 0, 0, 0, 0, 0, 0, 8, 2),
    "": (0, 0, 0, 0, 0, 0, 0, 0, 0, 10),
    "fer0000005.png": (0, 9, 0, 0, 0, 0, 0, 1, 0, 0),
}
USAGE = ("Training", "Training", "PublicTest", "Training", "Training", "Training", "PrivateTest")


def original(root: Path, pixels: bool) -> None:
    """FER+ as its authors give it: votes, and beside them the pixels of FER2013 or folders of images."""
    with (root / "fer2013new.csv").open("w", newline="") as f:
        w = csv.writer(f)
        w.writerow(("Usage", "Image name", *TEN))
        w.writerows((u, n, *v) for (n, v), u in zip(VOTES.items(), USAGE, strict=True))
        w.writerow(("Training", "fer0000000.png", *VOTES["fer0000001.png"]))  # named twice
    if pixels:
        with (root / "fer2013.csv").open("w", newline="") as f:
            w = csv.writer(f)
            w.writerow(("emotion", "pixels", "Usage"))
            for i, u in enumerate((*USAGE, "Training")):
                w.writerow((0, " ".join([str(10 * i)] * 48 * 48), u))


@pytest.mark.parametrize("pixels", [True, False])
def test_ferplus_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: bool) -> None:
    """Protects the join of votes and images, the rule of the labels, and that the root is only read."""
    root = tmp_path / "fer"
    root.mkdir()
    monkeypatch.setenv("EMOZOO_HOME", str(tmp_path / "home"))
    original(root, pixels)
    before = sorted(root.rglob("*"))
    m = datasets.load("ferplus", root)
    assert sorted(root.rglob("*")) == before
    assert m.classes == FERPLUS8
    assert [(Path(r.path).name, r.split, r.label) for r in m] == [
        ("fer0000000.png", "train", "neutral"),
        ("fer0000001.png", "train", None),
        ("fer0000002.png", "val", "contempt"),
        ("fer0000003.png", "train", "surprise"),
        ("fer0000005.png", "test", "happiness"),
    ]
    assert m.rows[0].votes == (0.6, 0, 0, 0.2, 0.2, 0, 0, 0)
    assert m.rows[0].box == (0, 0, 47, 47)
    if pixels:
        images = [cv2.imread(r.path, cv2.IMREAD_GRAYSCALE) for r in m]
        assert [int(p.mean()) for p in images] == [0, 10, 20, 30, 60], "the n-th lines of both tables belong together"
        assert images[0].shape == (48, 48)


def test_fer2013_as_kaggle_gives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects FER2013's own label: both tables of Kaggle, one with spaces in its header; broken lines are named."""
    monkeypatch.setenv("EMOZOO_HOME", str(tmp_path / "home"))
    for k, (name, header) in enumerate(
        (("fer2013/fer2013.csv", "emotion,pixels,Usage"), ("icml_face_data.csv", "emotion, Usage, pixels"))
    ):
        table = tmp_path / str(k) / name
        table.parent.mkdir(parents=True)
        pixels = " ".join(["7"] * 48 * 48)
        lines = [
            f"{e},{pixels},{u}" if k == 0 else f"{e}, {u}, {pixels}" for e, u in ((0, "Training"), (6, "PrivateTest"))
        ]
        table.write_text("\n".join([header, *lines]) + "\n")
        m = datasets.load("fer2013", tmp_path / str(k))
        assert [(r.id, r.label, r.split) for r in m] == [
            ("FER2013Train/fer0000000", "anger", "train"), ("FER2013Test/fer0000001", "neutral", "test"),
        ]  # fmt: skip
        assert int(cv2.imread(m.rows[0].path).mean()) == 7
        for wrong in (
            lines[0].replace("0,", "-1,", 1),
            lines[0].replace("Training", "Train"),
            lines[0].replace("7 7", "7 300", 1),
        ):
            table.write_text("\n".join([header, lines[1], wrong]) + "\n")
            with pytest.raises(ManifestError, match="line 3"):
                datasets.load("fer2013", tmp_path / str(k))


@pytest.mark.parametrize("why", [errno.ENOSPC, errno.EACCES])
def test_fer2013_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: int) -> None:
    """Protects from empty images that are taken for whole ones ever after: said in a line, and with room it goes on."""
    home = tmp_path / "home"
    monkeypatch.setenv("EMOZOO_HOME", str(home))
    original(tmp_path, pixels=True)
    write, count = Path.write_bytes, 0

    def full(path: Path, data: bytes) -> int:
        nonlocal count
        count += 1
        if count > 3:
            raise OSError(why, os.strerror(why), str(path))
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(EmozooError, match=rf"{home}: what is made of .* \({os.strerror(why)}\): make room"):
            datasets.load("ferplus", tmp_path)
    assert [p for p in home.rglob("*") if p.is_file()] == []
    assert all(Path(r.path).stat().st_size for r in datasets.load("ferplus", tmp_path))


def test_ferplus7(tmp_path: Path) -> None:
    """Protects the seven-class protocol: votes without contempt sum to 1; images of contempt are not scored."""
    original(tmp_path, pixels=False)
    m = datasets.load("ferplus7", tmp_path)
    assert m.classes == BASIC7
    assert m.protocol == "ferplus7"
    by_name = {Path(r.path).stem: r for r in m}
    assert by_name["fer0000002"].label is None
    assert by_name["fer0000002"].votes == (0, 0, 0, 0, 1, 0, 0)
    assert by_name["fer0000005"].votes == (0, 0, 0, 1, 0, 0, 0)
    assert all(abs(sum(r.votes or ()) - 1) < 1e-12 for r in m)


def test_ferplus_tables_that_do_not_belong_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against pairing votes with the wrong images."""
    monkeypatch.setenv("EMOZOO_HOME", str(tmp_path / "home"))
    original(tmp_path, pixels=True)
    lines = (tmp_path / "fer2013.csv").read_text().splitlines()
    (tmp_path / "fer2013.csv").write_text("\n".join([lines[0], lines[3], *lines[1:3], *lines[4:]]))
    with pytest.raises(ManifestError, match="line 2"):
        datasets.load("ferplus", tmp_path)
    (tmp_path / "fer2013.csv").write_text("\n".join(lines[:-2]))
    with pytest.raises(ManifestError, match="cut"):
        datasets.load("ferplus", tmp_path)


def test_ferplus_shared(shared: Path) -> None:
    """Protects the real table: counts by split, plurality over the eight emotions, votes that sum to 1."""
    m = datasets.load("ferplus", shared / "data" / "ferplus")
    assert Counter(r.split for r in m) == {"train": 27646, "val": 3515}
    assert sum(r.label is None for r in m) == 1479
    votes = np.array([r.votes for r in m])
    np.testing.assert_allclose(votes.sum(1), 1)
    scored = [r for r in m if r.label]
    assert all(m.classes[int(np.argmax(r.votes))] == r.label for r in scored if r.votes)


def test_faces_shared(shared: Path) -> None:
    """Protects a plain table with people: 3,887 in train and 555 in val, none in both."""
    m = datasets.load("csv", shared / "data" / "faces_lfw5")
    people = {s: {r.group for r in m if r.split == s} for s in m.splits}
    assert {s: len(p) for s, p in people.items()} == {"train": 3887, "val": 555}
    assert not people["train"] & people["val"]
