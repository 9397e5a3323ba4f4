"""Tables and folders as people have them: spreadsheets' exports, missing values, spellings, doubled rows, sessions."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from emozoo.data import datasets, doctor
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.manifest import Manifest, split_name
from emozoo.data.tables import read_manifest
from emozoo.errors import DatasetError
from emozoo.registry import MODELS

SPEC = MODELS["emotion_fan"].specs["lite"]


def table(folder: Path, text: str | bytes, name: str = "manifest.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def image(path: Path, seed: int) -> Path:
    """A small image with structure, another one for every seed."""
    blobs = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.resize(blobs, (48, 48), interpolation=cv2.INTER_CUBIC))
    return path


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def codes(manifest: Manifest) -> dict[str, str]:
    """Code → text of what was found in reading."""
    return {f.code: f"{f.item}: {f.text}" for f in manifest.findings}


# -- what a spreadsheet writes -------------------------------------------------------------------------------------

PLAIN = "path,label\na.jpg,calm\nb.jpg,happy\n"


@pytest.mark.parametrize(
    "text",
    [
        "path, label\na.jpg, calm\nb.jpg, happy\n",
        'path, label\n"a.jpg", "calm"\n"b.jpg", "happy"\n',
        "Path,LABEL\na.jpg,calm\nb.jpg,happy\n",
        "\ufeff Path ,Label\r\na.jpg,calm\r\nb.jpg,happy\r\n",
        "filename,label\na.jpg,calm\nb.jpg,happy\n",
        "File Name,Label\na.jpg,calm\nb.jpg,happy\n",
        "path,emotion\na.jpg,calm\nb.jpg,happy\n",
        PLAIN + ",\n,\n , \n",
        "path,label\n\na.jpg,calm\n,\nb.jpg,happy\n\n",
        "path,label,,\na.jpg,calm,,\nb.jpg,happy,,\n,,,\n",
        "path,label,Unnamed: 2\na.jpg,calm,\nb.jpg,happy,\n",
        "path,label,,\na.jpg,calm\nb.jpg,happy,\n",
        "path,label\na.jpg,calm,,\nb.jpg,happy,\n",
        ",path,label\n0,a.jpg,calm\n1,b.jpg,happy\n",
        "Unnamed: 0,path,label\n0,a.jpg,calm\n1,b.jpg,happy\n",
    ],
)
def test_what_spreadsheets_make_of_a_plain_table(tmp_path: Path, text: str) -> None:
    """Protects every way in which Excel, R and pandas write the same two rows."""
    m = read_manifest(table(tmp_path, text))
    assert [(r.id, r.label, dict(r.extra)) for r in m] == [("a", "calm", {}), ("b", "happy", {})]
    assert m.classes == ("calm", "happy")


def test_a_column_without_a_name_that_holds_something_is_said(tmp_path: Path) -> None:
    """Protects from splits that stand below no header and are left out without a word."""
    m = read_manifest(table(tmp_path, "path,label,\na.jpg,calm,test\nb.jpg,happy,train\n"))
    assert "column 3" in codes(m)["unnamed_column"]
    assert not codes(read_manifest(table(tmp_path, ",path,label\n0,a.jpg,calm\n1,b.jpg,happy\n"))), "pandas' own index"


@pytest.mark.parametrize(("column", "cell"), [("Usage", "Test"), ("set", "train"), ("partition", "dev")])
def test_a_column_that_looks_like_the_split_is_said(tmp_path: Path, column: str, cell: str) -> None:
    """Protects from an official split under another name that is not followed without a word."""
    m = read_manifest(table(tmp_path, f"path,label,{column}\na.jpg,calm,{cell}\nb.jpg,happy,{cell}\n"))
    assert column in codes(m)["unread_column"]
    assert not codes(read_manifest(table(tmp_path, f"path,label,{column}\na.jpg,calm,park\nb.jpg,happy,lake\n")))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"path;label\na.jpg;calm\n", "semicolons"),
        (b"sep=;\npath;label\na.jpg;calm\n", "semicolons"),
        (b"path\tlabel\na.jpg\tcalm\n", "tabs"),
        ("path\tlabel\na.jpg\tcalm\n".encode("utf-16"), "UTF-16"),
        ("path,label\na.jpg,calm\n".encode("utf-16-be"), "UTF-16"),
        (b"PK\x03\x04 a workbook", "Excel workbook"),
        (b"\xd0\xcf\x11\xe0 an old workbook", "Excel workbook"),
        ("path,label\nä.jpg,calm\n".encode("latin-1"), "UTF-8"),
        (b'path,label\na.jpg,"calm\nb.jpg,happy\n', "quote"),
        (b"file,filename,label\na.jpg,b.jpg,calm\n", "could be the path"),
        (b"path,Label,label\na.jpg,calm,happy\n", "twice"),
    ],
)
def test_other_exports_are_refused_with_the_mend(tmp_path: Path, data: bytes, said: str) -> None:
    """Protects a readable line, with what to do, for exports that are no comma-separated UTF-8."""
    with pytest.raises(DatasetError, match=said) as e:
        read_manifest(table(tmp_path, data))
    assert "\n" not in str(e.value)
    assert "manifest.csv" in str(e.value)


# -- labels that are none, and spellings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell", ["NaN", "nan", "NA", "N/A", "n/a", "None", "null", "NULL", "#N/A", "<NA>", "-", "?", ""]
)
def test_missing_labels_are_no_classes(tmp_path: Path, cell: str) -> None:
    """Protects the classes from what pandas, R and Excel write for a missing value, and says how many there were."""
    m = read_manifest(table(tmp_path, f"path,label\na.jpg,{cell}\nb.jpg,happy\nc.jpg,{cell}\nd.jpg,calm\n"))
    assert m.classes == ("calm", "happy")
    assert [r.label for r in m] == [None, "happy", None, "calm"]
    assert "2 of 4" in codes(m)["missing_label"]


def test_none_in_small_letters_is_a_class(tmp_path: Path) -> None:
    """Protects a class that somebody called 'none' (no emotion); 'None' is Python's word for a missing value."""
    assert read_manifest(table(tmp_path, "path,label\na.jpg,none\nb.jpg,happy\n")).classes == ("happy", "none")


def test_missing_values_in_other_columns(tmp_path: Path) -> None:
    """Protects groups, splits, folds and numbers from 'nan': else all unknown people are one person."""
    m = read_manifest(
        table(tmp_path, "path,label,subject,split,fold,valence\na.jpg,x,nan,NaN,NA,N/A\nb.jpg,y,7,,1,0.5\n")
    )
    assert [(r.group, r.split, r.fold, r.valence) for r in m] == [(None, None, None, None), ("7", None, 1, 0.5)]


def test_all_unlabelled_is_no_finding(tmp_path: Path) -> None:
    """Protects tables of items to be answered, and those with votes or valence instead of labels."""
    assert not codes(read_manifest(table(tmp_path, "path,label\na.jpg,\nb.jpg,\n")))
    assert not codes(read_manifest(table(tmp_path, "path,label,valence,arousal\na.jpg,,1,0\nb.jpg,x,0,0\n")))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (("Calm", "calm", "Happy", "happy"), ("calm", "happy")),
        (("calm", "Calm", "happy", "Happy"), ("calm", "happy")),
        (("CALM", "Calm", "Happy", "Happy"), ("Calm", "Happy")),
        (("1", "1.0", "2.0", "2"), ("1", "2")),
        (("1.0", "1.0", "2.0", "2.0"), ("1.0", "2.0")),
        (("caf\u00e9", "cafe\u0301", "x", "x"), ("caf\u00e9", "x")),
        (("very  calm", "very calm", "x", "x"), ("very calm", "x")),
    ],
)
def test_spellings_of_one_class(tmp_path: Path, labels: tuple[str, ...], classes: tuple[str, ...]) -> None:
    """Protects from two classes that are one; which were merged is said, and their order in the table is no matter."""
    for order in (labels, labels[::-1]):
        m = read_manifest(table(tmp_path, "path,label\n" + "".join(f"{i}.jpg,{c}\n" for i, c in enumerate(order))))
        assert m.classes == classes
        assert {r.label for r in m} == set(classes)
        assert ("class_spellings" in codes(m)) == (set(labels) != set(classes))


def test_classes_txt_decides_the_spelling(tmp_path: Path) -> None:
    """Protects the spelling that a user wrote down, and refuses a file that has a class twice."""
    (tmp_path / "classes.txt").write_text("Happy\nCALM\n")
    m = read_manifest(table(tmp_path, "path,label\na.jpg,calm\nb.jpg,happy\n"))
    assert (m.classes, [r.label for r in m]) == (("Happy", "CALM"), ["CALM", "Happy"])
    (tmp_path / "classes.txt").write_text("Happy\nhappy\ncalm\n")
    with pytest.raises(DatasetError, match="Happy and happy"):
        read_manifest(tmp_path / "manifest.csv")


def test_spellings_of_votes(tmp_path: Path) -> None:
    """Protects votes where label and column write a class differently."""
    m = read_manifest(table(tmp_path, "path,label,votes_Happy,votes_calm\na.jpg,happy,3,1\nb.jpg,Calm,0,2\n"))
    assert (m.classes, [r.label for r in m]) == (("calm", "happy"), ["happy", "calm"])
    assert [r.votes for r in m] == [(0.25, 0.75), (1.0, 0.0)]


# -- splits --------------------------------------------------------------------------------------------------------


def test_names_of_splits() -> None:
    """Protects the table of understood names; case, blanks, hyphens and underscores do not matter."""
    for split, names in {
        "train": ("train", "Training", " TRN "),
        "val": ("val", "valid", "Validation", "dev", "Development"),
        "test": ("test", "testing", "tst", "Eval", "evaluation", "holdout", "hold-out", "held_out", "Held Out"),
    }.items():
        assert {split_name(n) for n in names} == {split}
    assert [split_name(n) for n in ("odd", "0", "1", "1.0", "")] == [None] * 5


def deal(path: Path, **options: object) -> EmotionDataModule:
    dm = EmotionDataModule("csv", path, spec=SPEC, val_share=0.0, **options)  # type: ignore[arg-type]
    dm.setup("fit")
    return dm


def test_held_out_rows_are_not_trained_on(tmp_path: Path) -> None:
    """Protects a held-out part under another word: such rows are tested on, and on nothing else."""
    rows = "".join(f"{i}.jpg,{'xy'[i % 2]},{'hold-out' if i < 4 else 'Train '}\n" for i in range(12))
    dm = deal(table(tmp_path, "path,label,Split\n" + rows))
    assert {r.split for r in dm.train_rows} == {"train"}
    assert {r.id for r in dm.test_rows} == {"0", "1", "2", "3"}


@pytest.mark.parametrize("names", [("train", "mine"), ("0", "1"), ("train", "test", "other"), ("1.0", "2.0")])
def test_unknown_splits_are_refused_where_rows_are_dealt(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Protects from training on rows of a part that nobody understood; naming one still selects it."""
    rows = "".join(f"{i}.jpg,{'xy'[i % 2]},{names[i // 2 % len(names)]}\n" for i in range(24))
    path = table(tmp_path, "path,label,split\n" + rows)
    odd = [n for n in names if split_name(n) is None]
    for stage in ("fit", "test"):
        dm = EmotionDataModule("csv", path, spec=SPEC)
        with pytest.raises(DatasetError, match=f"'{odd[0]}'.*train, val.*test") as e:
            dm.setup(stage)
        assert "\n" not in str(e.value)
    manifest = datasets.load("csv", path)
    assert {f.item for f in manifest.findings if f.code == "unknown_split"} == set(odd)
    chosen = manifest.select(split=odd[0].upper())
    assert {r.split for r in chosen} == {odd[0]}


def test_an_unknown_split_by_name_is_evaluated(tmp_path: Path) -> None:
    """Protects the way to one's own part: asked for by name it is scored."""
    path = table(tmp_path, "path,label,split\na.jpg,x,train\nb.jpg,y,train\nc.jpg,x,Mine\nd.jpg,y,mine\n")
    dm = EmotionDataModule("csv", path, spec=SPEC, split="mine", val_share=0.0)
    dm.setup("test")
    assert [r.id for r in dm.test_rows] == ["c", "d"]


def test_empty_cells_beside_splits_are_training(tmp_path: Path) -> None:
    """Protects the one rule for rows without a split where others have one: they are training rows, and it is said."""
    m = read_manifest(table(tmp_path, "path,label,split\na.jpg,x,test\nb.jpg,x,\nc.jpg,y,nan\nd.jpg,y,train\n"))
    assert [r.split for r in m] == ["test", "train", "train", "train"]
    assert "2 of 4" in codes(m)["missing_split"]


# -- paths and doubled rows ----------------------------------------------------------------------------------------


def test_one_file_under_several_spellings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the identity of a file: dots, backslashes, absolute paths and ~ are one path and one id."""
    monkeypatch.setenv("HOME", str(tmp_path))
    names = ("sub/a.jpg", "./sub/a.jpg", "sub\\a.jpg", "x/../sub/a.jpg", str(tmp_path / "sub/a.jpg"), "~/sub/a.jpg")
    m = read_manifest(table(tmp_path, "path,label\n" + "".join(f"{n},x\n" for n in names)))
    assert {r.path for r in m} == {str(tmp_path / "sub" / "a.jpg")}
    assert [r.id for r in m] == ["sub/a", *(f"sub/a#{i}" for i in range(2, 7))]


def test_doubled_rows_are_named(tmp_path: Path) -> None:
    """Protects the doctor's word on one file in several rows: twice, under two labels, in two parts."""
    for i in range(8):
        image(tmp_path / f"{i}.png", i)
    table(
        tmp_path,
        "path,label,split,group\n0.png,a,train,p\n./0.png,a,train,p\n1.png,a,train,p\n1.png,b,train,p\n"
        "2.png,b,train,q\n2.png,b,test,q\n3.png,b,train,r\n3.png,b,train,s\n4.png,a,test,t\n",
    )
    found = {(f.code, f.item): f.text for f in doctor.check(tmp_path).findings}
    assert {item for code, item in found if code == "listed_twice"} == {"0", "1", "2", "3"}
    assert "a, b" in found["label_conflict", "1"]
    assert "test, train" in found["duplicate_across_splits", "2"]
    assert not {c for c, item in found if item in ("4",)}


# -- class folders -------------------------------------------------------------------------------------------------


def test_sessions_below_a_class(tmp_path: Path) -> None:
    """Protects class/session/clip: every clip is an item of the class; numbered images are one clip, however deep."""
    touch(
        tmp_path,
        "calm/s1/clip.mp4", "calm/s1/clip2.MP4", "calm/s2/take/clip.mp4", "calm/top.mp4",
        "happy/s1/frames/0001.png", "happy/s1/frames/0002.png", "happy/s1/@eaDir/0001.jpg", "happy/s1/clip.wav",
        "happy/img_1.jpg", "happy/f/frame 1 face.png", "happy/f/frame 2 face.png", "happy/f/Thumbs.db",
    )  # fmt: skip
    m = datasets.load("folder", tmp_path)
    assert [(r.id, r.label) for r in m] == [
        ("calm/s1/clip", "calm"), ("calm/s1/clip2", "calm"), ("calm/s2/take/clip", "calm"), ("calm/top", "calm"),
        ("happy/f", "happy"), ("happy/img_1", "happy"), ("happy/s1/clip", "happy"), ("happy/s1/frames", "happy"),
    ]  # fmt: skip
    assert not m.findings


def test_frames_without_numbers_are_said(tmp_path: Path) -> None:
    """Protects from portraits in a folder that are read as the frames of one clip without a word."""
    touch(tmp_path, "calm/s1/anna.jpg", "calm/s1/bob.jpg", "happy/1.jpg")
    m = datasets.load("folder", tmp_path)
    assert [r.id for r in m] == ["calm/s1", "happy/1"]
    assert "calm/s1" in codes(m)["frames_without_numbers"]


def test_parts_of_ones_own_above_the_classes(tmp_path: Path) -> None:
    """Protects from taking a part for an emotion, now that clips may lie deeper."""
    touch(tmp_path, "part1/happy/1.mp4", "part1/sad/1.mp4", "part2/happy/1.mp4", "part2/sad/2.mp4")
    with pytest.raises(DatasetError, match=r"part1.*happy.*train, val"):
        datasets.load("folder", tmp_path)


@pytest.mark.parametrize(
    "name", ["@eaDir", "__MACOSX", ".AppleDouble", ".cache", "#recycle", "$RECYCLE.BIN", "lost+found"]
)
def test_folders_of_the_system_are_no_classes(tmp_path: Path, name: str) -> None:
    """Protects from classes and items that a server, an archive or a Mac left behind."""
    touch(tmp_path, "calm/1.mp4", "happy/1.mp4", f"{name}/calm/1.jpg", f"{name}/2.mp4", f"calm/{name}/1.jpg")
    touch(tmp_path, "calm/._1.mp4", "calm/.DS_Store")
    m = datasets.load("folder", tmp_path)
    assert m.classes == ("calm", "happy")
    assert [r.id for r in m] == ["calm/1", "happy/1"]
    touch(tmp_path, "train/calm/1.mp4", f"train/{name}/x/1.jpg")


def test_empty_class_folder_is_no_class(tmp_path: Path) -> None:
    """Protects the classes from an empty folder; it is named, also one that holds nothing that is read."""
    touch(tmp_path, "calm/1.mp4", "happy/1.mp4", "notes/readme.txt")
    (tmp_path / "sad").mkdir()
    m = datasets.load("folder", tmp_path)
    assert m.classes == ("calm", "happy")
    assert {f.item for f in m.findings if f.code == "empty_class"} == {"sad", "notes"}
    (tmp_path / "classes.txt").write_text("sad\ncalm\nhappy\n")
    assert datasets.load("folder", tmp_path).classes == ("sad", "calm", "happy")


def test_class_folders_in_two_spellings(tmp_path: Path) -> None:
    """Protects from two classes that are one, and keeps the ids of their items apart."""
    touch(tmp_path, "happy/1.mp4", "HAPPY/1.mp4", "calm/1.mp4")
    if not (tmp_path / "HAPPY" / "1.mp4").samefile(tmp_path / "happy" / "1.mp4"):
        m = datasets.load("folder", tmp_path)
        assert m.classes == ("calm", "happy")
        assert [(r.id, r.label) for r in m] == [("HAPPY/1", "happy"), ("calm/1", "calm"), ("happy/1", "happy")]
        assert "HAPPY" in codes(m)["class_spellings"]


def test_class_folder_with_the_name_of_a_missing_value(tmp_path: Path) -> None:
    """Protects from a class 'nan' that a script made of missing labels: it is said."""
    touch(tmp_path, "nan/1.mp4", "happy/1.mp4")
    assert "nan" in codes(datasets.load("folder", tmp_path))["missing_label"]


def test_links_in_class_folders(tmp_path: Path) -> None:
    """Protects from walking in circles, and names a link that leads nowhere."""
    touch(tmp_path, "calm/1.mp4", "happy/1.mp4", "elsewhere.mp4")
    try:
        (tmp_path / "calm" / "again").symlink_to(tmp_path / "calm")
        (tmp_path / "calm" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
        (tmp_path / "calm" / "linked.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    except OSError:
        pytest.skip("this system makes no links")
    m = datasets.load("folder", tmp_path)
    assert [r.id for r in m] == ["calm/1", "calm/gone", "calm/linked", "happy/1"]
    assert "calm/again" in codes(m)["link_loop"]
    assert ("missing", "calm/gone") in {(f.code, f.item) for f in doctor.check(tmp_path).findings}


def test_class_folders_that_are_linked_to_each_other(tmp_path: Path) -> None:
    """Protects from a walk that takes a lifetime where each class has links to all others: no folder is read twice."""
    names = [f"c{i:02d}" for i in range(12)]
    touch(tmp_path, *(f"{name}/s/1.mp4" for name in names))
    try:
        for name in names:
            for other in names:
                (tmp_path / name / f"to_{other}").symlink_to(tmp_path / other)
        (tmp_path / "c00" / "a").symlink_to(tmp_path / "c00" / "s")
        (tmp_path / "c00" / "up").symlink_to(tmp_path)
        (tmp_path / "c00" / "s" / "far_up").symlink_to(tmp_path.parent)
    except OSError:
        pytest.skip("this system makes no links")
    m = datasets.load("folder", tmp_path)
    assert Counter(str(r.label) for r in m) == dict.fromkeys(names, 12)  # its own, and each other's once
    assert "c00/s/1" in {r.id for r in m}
    assert {"c00/a", "c00/to_c00", "c00/up", "c00/s/far_up"} <= {f.item for f in m.findings if f.code == "link_loop"}


def test_folders_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the others from one folder without permission, which is named with its reason."""
    touch(tmp_path, "calm/1.mp4", "calm/s/2.mp4", "happy/1.mp4", "closed/1.mp4")
    plain = os.scandir

    def listed(path: str) -> object:
        if Path(path).name in ("closed", "s"):
            raise PermissionError(13, "Permission denied")
        return plain(path)

    monkeypatch.setattr(os, "scandir", listed)
    m = datasets.load("folder", tmp_path)
    assert [r.id for r in m] == ["calm/1", "happy/1"]
    closed = {f.item: f.text for f in m.findings if f.code == "unreadable"}
    assert set(closed) == {"closed", "calm/s"}
    assert all("Permission denied" in text for text in closed.values())


# -- the doctor ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ("path,label\n0.png,nan\n1.png,a\n2.png,b\n", "missing_label"),
        ("path,label\n0.png,A\n1.png,a\n2.png,b\n", "class_spellings"),
        ("path,label,split\n0.png,a,mine\n1.png,b,mine\n2.png,b,train\n3.png,a,train\n", "unknown_split"),
        ("path,label,split,group\n0.png,a,,p\n1.png,b,train,q\n2.png,b,test,r\n3.png,a,test,s\n", "missing_split"),
        ("path,label,\n0.png,a,x\n1.png,b,y\n", "unnamed_column"),
        ("path,label,usage\n0.png,a,train\n1.png,b,test\n", "unread_column"),
    ],
)
def test_check_names_what_was_read_otherwise_than_written(tmp_path: Path, lines: str, code: str) -> None:
    """Protects the promise that ``emozoo check`` says, with a cure, all that reading a table decides by itself."""
    for i in range(4):
        image(tmp_path / f"{i}.png", i)
    table(tmp_path, lines)
    (finding,) = [f for f in doctor.check(tmp_path).findings if f.code == code]
    assert finding.item
    assert finding.text
    assert finding.fix


def test_check_of_folders(tmp_path: Path) -> None:
    """Protects the same for class folders."""
    for i, name in enumerate(("happy/1.png", "calm/s1/a.png", "calm/2.png")):
        image(tmp_path / name, i)
    (tmp_path / "sad").mkdir()
    found = {(f.code, f.item) for f in doctor.check(tmp_path).findings}
    assert found == {("empty_class", "sad")}


@pytest.mark.parametrize("name", ["folder", "csv"])
def test_the_home_of_nobody_is_a_folder_that_is_not_there(name: str) -> None:
    """Protects from 'could not determine home directory', which names no path: a mistyped account in --root."""
    with pytest.raises(DatasetError, match="~nobody-has-this/clips"):
        datasets.load(name, "~nobody-has-this/clips")
    with pytest.raises(DatasetError, match="~nobody-has-this/clips"):
        doctor.check("~nobody-has-this/clips")
