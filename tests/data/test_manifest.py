"""Manifests: what a user's table may look like, and what is said of one that cannot be used."""

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest

from emozoo.data.datasets import boxes, layout, videolists
from emozoo.data.tables import read_manifest, read_va
from emozoo.errors import DatasetError, ManifestError


def table(folder: Path, text: str, name: str = "manifest.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_become_fields(tmp_path: Path) -> None:
    """Protects every column of the documented header, and that others are kept."""
    m = read_manifest(
        table(
            tmp_path,
            "path,label,valence,arousal,split,fold,actor,start,end,x1,y1,x2,y2,scene\n"
            "a/clip.one.mp4,joy,0.5,-0.25,Validation,2,p1,1.5,2.5,-3,0,40,50,park\n"
            "b/pic.jpg,anger,,,training,,,,,0,0,0,0,\n",
        )
    )
    first, second = m.rows
    assert (first.id, first.path) == ("a/clip.one", str(tmp_path / "a/clip.one.mp4"))
    assert (first.label, first.valence, first.arousal) == ("joy", 0.5, -0.25)
    assert (first.split, first.fold, first.group, first.start, first.end) == ("val", 2, "p1", 1.5, 2.5)
    assert first.box == (-3, 0, 40, 50)
    assert dict(first.extra) == {"scene": "park"}
    assert (second.split, second.group, second.fold, second.start) == ("train", None, None, None)
    assert second.box == (0, 0, 0, 0), "no face is known, which is not the same as unknown"
    assert m.classes == ("anger", "joy")
    assert m.splits == ("train", "val")


def test_group_has_many_names(tmp_path: Path) -> None:
    """Protects against splitting a person because the column was called identity."""
    for name in ("group", "identity", "actor", "subject", "speaker"):
        m = read_manifest(table(tmp_path, f"path,label,{name}\na.jpg,x,p7\n"))
        assert m.rows[0].group == "p7"


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("label\nx\n", 1, "path"),
        ("path;label\na.jpg;x\n", 1, "commas"),
        ("path,label\na.jpg,x\nb.jpg\n", 3, "cells"),
        ("path,label\na.jpg,x\nb,c.jpg,x\n", 3, "quote"),
        ("path,label\n,x\n", 2, "no path"),
        ("path,valence,arousal\na.mp4,0.5,1.2\n", 2, "arousal"),
        ("path,fold\na.mp4,one\n", 2, "fold"),
        ("path,start,end\na.mp4,2,1\n", 2, "end"),
        ("path,x1,y1,x2\na.mp4,1,1,2\n", 1, "y2"),
        ("path,x1,y1,x2,y2\na.mp4,9,9,1,1\n", 2, "box"),
        ("path,x1,y1,x2,y2\na.mp4,9,9,,\n", 2, "box"),
        ("path,label,label\na.mp4,x,y\n", 1, "twice"),
        ("path,label\n", 1, "no items"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, text: str, line: int, word: str) -> None:
    """Protects the promise that an unusable table names the line, in one readable line of text."""
    with pytest.raises(ManifestError, match=word) as e:
        read_manifest(table(tmp_path, text))
    assert e.value.line == line
    assert "\n" not in str(e.value)
    again = pickle.loads(pickle.dumps(e.value))
    assert (str(again), again.line) == (str(e.value), line)


def test_line_numbers_count_what_an_editor_shows(tmp_path: Path) -> None:
    """Protects line numbers when a quoted cell holds a line break."""
    with pytest.raises(ManifestError) as e:
        read_manifest(table(tmp_path, 'path,note,fold\na.mp4,"one\ntwo",1\nb.mp4,x,bad\n'))
    assert e.value.line == 4


def test_not_a_table(tmp_path: Path) -> None:
    """Protects readable errors for a missing file and for one in another encoding."""
    with pytest.raises(DatasetError, match="no such manifest"):
        read_manifest(tmp_path / "nothing.csv")
    path = tmp_path / "latin.csv"
    path.write_bytes("path,label\nä.jpg,x\n".encode("latin-1"))
    with pytest.raises(DatasetError, match="UTF-8"):
        read_manifest(path)


def test_byte_order_mark(tmp_path: Path) -> None:
    """Protects tables that a spreadsheet saved."""
    path = tmp_path / "m.csv"
    path.write_bytes("\ufeffpath,label\na.jpg,x\n".encode())
    assert read_manifest(path).rows[0].label == "x"


def test_votes(tmp_path: Path) -> None:
    """Protects soft labels: order of classes, answers that are no class, ties."""
    m = read_manifest(
        table(
            tmp_path,
            "path,votes_sad,votes_angry,votes_unknown,votes_NF\na.jpg,1,3,6,0\nb.jpg,2,2,0,1\nc.jpg,0,0,1,9\n",
        )
    )
    assert m.classes == ("angry", "sad")
    assert m.rows[0].votes == (0.75, 0.25)
    assert [r.label for r in m.rows] == ["angry", None, None]
    assert m.rows[2].votes is None


def test_class_order_file(tmp_path: Path) -> None:
    """Protects the order of classes that a user wrote down, and refuses a file that lacks one."""
    (tmp_path / "classes.txt").write_text("zeal\nawe\nrest\n")
    assert read_manifest(table(tmp_path, "path,label\na.jpg,awe\nb.jpg,zeal\n")).classes == ("zeal", "awe", "rest")
    with pytest.raises(DatasetError, match="boredom"):
        read_manifest(table(tmp_path, "path,label\na.jpg,boredom\n"))


@pytest.mark.parametrize("name", ["classes.txt", "a.va.csv", "lists.json", "boxes.csv", "votes.csv"])
def test_text_of_another_encoding_is_named(tmp_path: Path, name: str) -> None:
    """Protects readable errors: a file that Windows saved in its own encoding is named, with what to do."""
    manifest = table(tmp_path, "path,label\na.jpg,froh\n")
    (tmp_path / name).write_bytes("überrascht\nfroh\n".encode("cp1252"))
    readers = {
        "classes.txt": lambda: read_manifest(manifest),
        "a.va.csv": lambda: read_va(tmp_path / name),
        "lists.json": lambda: videolists._from_json(tmp_path / name, ("a",)),
        "boxes.csv": lambda: boxes.read_boxes(tmp_path / name, ("a",)),
        "votes.csv": lambda: layout.sheet(tmp_path / name),
    }
    with pytest.raises(DatasetError, match=rf"{name}: not UTF-8 \(it holds the byte 0xfc\): save it as UTF-8"):
        readers[name]()


def test_a_damaged_gzip_file_is_named(tmp_path: Path) -> None:
    """Protects readable errors for a list of boxes that is cut off, or was never packed."""
    path = tmp_path / "boxes.csv.gz"
    packed = gzip.compress(b"train/a/1.png,0,1,2,3,4\n" * 9)
    for data in (packed[:-9], b"train/a/1.png,0,1,2,3,4\n", packed[:15] + b"\xff" + packed[16:]):
        path.write_bytes(data)
        with pytest.raises(DatasetError, match=r"boxes\.csv\.gz: not a gzip file, or cut off"):
            boxes.read_boxes(path, ("a",))


def test_lists_may_begin_with_a_mark(tmp_path: Path) -> None:
    """Protects annotations that Windows saved, with a byte order mark before them."""
    (tmp_path / "l.json").write_text(
        '\ufeff{"database": {"v": {"subset": "training", "annotations": {"label": "a"}}}}', encoding="utf-8"
    )
    assert videolists._from_json(tmp_path / "l.json", ("a",)) == {"a/v": ("a", "train", ("v",))}


def test_ids_are_unique(tmp_path: Path) -> None:
    """Protects keys: no basenames, no two items under one id."""
    m = read_manifest(
        table(
            tmp_path,
            "path,label,start,end\nx/1.mp4,a,,\ny/1.mp4,a,,\nx/1.wav,a,,\nz.mp4,a,0,2\nz.mp4,a,2,4\ny/1.mp4,a,,\n",
        )
    )
    ids = [r.id for r in m.rows]
    assert len(set(ids)) == len(ids)
    assert ids == ["x/1.mp4", "y/1", "x/1.wav", "z@0-2", "z@2-4", "y/1#2"]


def test_classes_of_a_model(tmp_path: Path) -> None:
    """Protects the re-ordering and re-spelling of labels and votes for a model, and nothing beyond synonyms."""
    m = read_manifest(table(tmp_path, "path,votes_happy,votes_anger\na.jpg,1,3\n"))
    other = m.with_classes(("Anger", "Fear", "joy"))
    assert other.rows[0].label == "Anger"
    assert other.rows[0].votes == (0.75, 0.0, 0.25)
    with pytest.raises(DatasetError, match="happy"):
        m.with_classes(("anger", "contempt"))


def test_select(tmp_path: Path) -> None:
    """Protects folds and splits: items tested in a fold, training on the others, errors for what is not there."""
    m = read_manifest(table(tmp_path, "path,split,fold\na.jpg,train,1\nb.jpg,train,2\nc.jpg,test,1\n"))
    assert [r.id for r in m.select(fold=1)] == ["a", "c"]
    assert [r.id for r in m.select(fold=1, train=True)] == ["b"]
    assert [r.id for r in m.select(split="Training", fold=2)] == ["b"]
    with pytest.raises(DatasetError, match="there are train, test"):
        m.select(split="val")
    with pytest.raises(DatasetError, match="there are 1, 2"):
        m.select(fold=3)


def test_per_frame_labels(tmp_path: Path) -> None:
    """Protects the Aff-Wild2 format: -5 in either column means that the frame has no label."""
    path = table(tmp_path, "valence,arousal\n0.5,-0.5\n-5,0.1\n0.1,-5\n1,-1", "clip.va.csv")
    np.testing.assert_array_equal(
        read_va(path), np.array([[0.5, -0.5], [np.nan] * 2, [np.nan] * 2, [1, -1]], np.float32)
    )
    m = read_manifest(table(tmp_path, "path,label\nclip.mp4,x\nother.mp4,x\n"))
    assert [r.extra.get("va_file") for r in m.rows] == [str(path), None]
    for bad in ("0.5\n", "0.5,2\n", "a,b\n"):
        with pytest.raises(ManifestError) as e:
            read_va(table(tmp_path, "valence,arousal\n0,0\n" + bad, "bad.va.csv"))
        assert e.value.line == 3


def test_large_numbers_of_parquet_stay_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects people and classes that are numbers of seven digits and more in a column with gaps."""
    import pandas as pd

    numbers = [1234567.0, 1234568.0, 12345678901.0, None]
    names = [f"{i}.mp4" for i in range(len(numbers))]
    frame = pd.DataFrame({"path": names, "label": numbers, "subject": numbers, "score": [0.1, 1234567.25, -0.0, None]})
    monkeypatch.setattr(pd, "read_parquet", lambda path: frame)  # pyarrow may not be there
    (tmp_path / "m.parquet").touch()
    found = read_manifest(tmp_path / "m.parquet")
    assert [r.group for r in found] == ["1234567", "1234568", "12345678901", None]
    assert [r.label for r in found] == ["1234567", "1234568", "12345678901", None]
    assert [r.extra["score"] for r in found] == ["0.1", "1234567.25", "0", ""]


def test_parquet(tmp_path: Path) -> None:
    """Protects parquet tables: gaps, whole numbers and text come out as from csv."""
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pandas as pd

    frame = pd.DataFrame(
        {
            "path": ["a.mp4", "b.mp4"],
            "label": ["x", None],
            "subject": [7, None],
            "fold": [1, None],
            "valence": [0.25, None],
        }
    )
    frame.to_parquet(tmp_path / "m.parquet")
    first, second = read_manifest(tmp_path / "m.parquet").rows
    assert (first.label, first.group, first.fold, first.valence) == ("x", "7", 1, 0.25)
    assert (second.label, second.group, second.fold, second.valence) == (None, None, None, None)
