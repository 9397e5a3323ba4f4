"""The papers' data sets: every official layout and its quirks, on trees in miniature and on lists of the full size."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import lightning as L
import numpy as np
import pytest
import torch
import trees

from emozoo.benchmark.run import measure
from emozoo.callbacks import SaveWeights
from emozoo.data import datasets, doctor, protocols
from emozoo.data.clips import ClipReader
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.datasets import layout
from emozoo.data.manifest import Manifest
from emozoo.data.prepare import prepare
from emozoo.data.store import Cover
from emozoo.data.tables import read_va
from emozoo.errors import DatasetError, ManifestError, UsageError
from emozoo.labels import CAER7, EKMAN6, FERPLUS8
from emozoo.module import EmotionModule
from emozoo.spec import AudioSpec, ClipSpec, StreamSpec

SEVEN = ("Happy", "Sad", "Neutral", "Angry", "Surprise", "Disgust", "Fear")
SIX = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise")
# name: classes in order, protocol (up to the hash of a list), items by split, items by fold
TABLE: dict[str, tuple[tuple[str, ...], str, dict[str, int], dict[int, int]]] = {
    "caer_s": (CAER7, "caers_val_from_train", {"train": 14, "test": 15}, {}),
    "caer": (CAER7, "caer_official", {"train": 7, "val": 7, "test": 7}, {}),
    "ncaer_s": (CAER7, "ncaers_official", {"train": 7, "val": 7, "test": 7}, {}),
    "ekman6": (EKMAN6, "ekman6_list_01", {"train": 12, "test": 6}, {}),
    "videoemotion8": (
        ("Anger", "Anticipation", "Disgust", "Fear", "Joy", "Sadness", "Surprise", "Trust"),
        "videoemotion8_list_01",
        {"train": 8, "test": 8},
        {},
    ),
    "aff_wild2": ((), "abaw6_va", {"train": 3, "val": 1}, {}),
    "afew": (
        ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"),
        "afew_list",
        {"train": 15, "val": 15},
        {},
    ),
    "dfew": (SEVEN, "dfew_5fold", {}, {1: 7, 2: 7, 3: 7, 4: 7, 5: 7}),
    "mmi": (SIX, "mmi_regenerated_10fold", {}, {0: 3, 1: 4, **dict.fromkeys(range(2, 10), 2)}),
    "bu4dfe": (SIX, "bu4dfe_regenerated_10fold", {}, {0: 12, 1: 12, **dict.fromkeys(range(2, 10), 6), 3: 5}),
    "ferv39k": (SEVEN, "ferv39k_all_scenes", {"train": 14, "test": 7}, {}),
    "mafw": (
        (
            "anger", "disgust", "fear", "happiness", "neutral", "sadness",
            "surprise", "contempt", "anxiety", "helplessness", "disappointment",
        ),
        "mafw_5fold",
        {},
        {1: 6, 2: 7, 3: 7, 4: 7, 5: 6},
    ),
    "ravdess": (
        ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"),
        "ravdess_speech_6fold",
        {},
        {0: 32, 1: 32},
    ),
    "crema_d": (
        ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad"),
        "crema_d_intended_5fold",
        {},
        {0: 12, 1: 6, 2: 6, 3: 6, 4: 6},
    ),
    "ferplus": (FERPLUS8, "ferplus8", {"train": 16, "val": 8, "test": 8}, {}),
    "fer2013": (
        ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
        "fer2013",
        {"train": 17, "val": 8, "test": 9},
        {},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """The root of a data set in miniature, written once for all tests that only read it."""
    made: dict[str, Path] = {}

    def root(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            trees.TREES[name](made[name])
        return made[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOZOO_HOME", str(tmp_path_factory.mktemp("home")))
        yield root


@pytest.fixture
def opened(tree: Callable[[str], Path]) -> Callable[[str], Manifest]:
    return lambda name: datasets.load(name, tree(name.partition(":")[0]))


def absent(m: Manifest) -> set[str]:
    return {r.id for r in m if not Path(r.path).exists()}


@pytest.mark.parametrize("name", TABLE)
def test_classes_splits_and_folds(name: str, opened: Callable[[str], Manifest]) -> None:
    """Protects class order, split and fold sizes, unique keys, and that every result can name its protocol."""
    classes, protocol, splits, folds = TABLE[name]
    m = opened(name)
    assert m.name == name
    assert m.classes == classes
    assert m.protocol.partition("@")[0] == protocol
    assert protocols.protocol(m.protocol) is not None
    assert Counter(r.split for r in m if r.split) == splits
    assert Counter(r.fold for r in m if r.fold is not None) == folds
    assert len({r.id for r in m}) == len(m)
    assert {r.label for r in m if r.label} == set(classes)


AUDIO = AudioSpec(rate=16000, win=400, hop=250, fft=512, seconds=0.2, top_db=80.0)
WITH_AUDIO = ClipSpec(
    {"face": StreamSpec("face", (48, 48), frames=2), "audio": StreamSpec("audio", (40, 64), audio=AUDIO)},
    clips=8, sampling="trailing", window_s=0.4, clip_s=0.05,
)  # fmt: skip
SPEC = ClipSpec({"face": StreamSpec("face", (16, 16), frames=2)}, clips=2, sampling="segments", window_s=1.0)


@pytest.mark.parametrize("name", TABLE)
def test_train_an_epoch_and_benchmark(name: str, tree: Callable[[str], Path], tmp_path: Path) -> None:
    """Protects the way from every layout into weights and their scores; what is absent is counted, not dropped."""
    fold = next(iter(TABLE[name][3]), None)
    if TABLE[name][0]:
        module = EmotionModule("emotion_fan", size="lite", classes=list(TABLE[name][0]), spec=SPEC.to_dict())
    else:  # valence and arousal, of a face and a voice
        module = EmotionModule(
            "recursive_joint_attention", size="lite", classes=[], options={"va": True}, spec=WITH_AUDIO.to_dict()
        )
    dm = EmotionDataModule(
        name, tree(name), spec=module.spec, classes=module.classes or None, batch_size=4, fold=fold, val_share=0.0
    )
    before = {k: v.clone() for k, v in module.net.state_dict().items()}
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        limit_val_batches=0, default_root_dir=tmp_path, callbacks=[SaveWeights(calibrate=False)],
    )  # fmt: skip
    trainer.fit(module, dm)
    assert trainer.global_step > 0
    assert any(not torch.equal(v, before[k]) for k, v in module.net.state_dict().items())

    record, *others = measure([str(tmp_path / "last")], name, tree(name), fold=fold, allow_missing=True).records
    assert others == [] or {r["fold"] for r in others} == {"mean"}
    assert record["protocol"].partition("@")[0] == TABLE[name][1]
    assert record["fold"] == fold
    assert record["n_expected"] == len(dm.test_rows) - record["n_unscored"]
    assert record["n_expected"] - 2 <= record["n_evaluated"] <= record["n_expected"]
    assert all(record["metrics"][m] is not None for m in (("WAR", "UAR") if module.classes else ("CCC_V", "CCC_A")))


@pytest.mark.parametrize("name", TABLE)
def test_the_same_from_a_store(name: str, tree: Callable[[str], Path], tmp_path: Path) -> None:
    """Protects the way over a prepared store: same items, labels and parts; what is absent stays an error."""
    made = prepare(name, tree(name), tmp_path / "store", cover=Cover.of([SPEC]), workers=1)
    report = doctor.check(tmp_path / "store")
    assert made is not None
    assert (report.items, report.content_sha256) == (made.items, made.content_sha256)
    parts = []
    for root in (tree(name), tmp_path / "store"):
        fold = next(iter(TABLE[name][3]), None)
        dm = EmotionDataModule(name, root, spec=SPEC, batch_size=4, fold=fold, val_share=0.0, allow_missing=True)
        dm.setup("fit")
        parts.append([b for b in dm.test_dataloader() if b is not None])
    for a, b in zip(*parts, strict=True):
        assert (a.meta["id"], len(a.skipped)) == (b.meta["id"], len(b.skipped))
        torch.testing.assert_close(a.targets, b.targets, equal_nan=True)


@pytest.mark.parametrize("name", TABLE)
def test_wrong_root(name: str, tmp_path: Path) -> None:
    """Protects the promise that a wrong root is one line that names it and the layout that was looked for."""
    (tmp_path / "holiday").mkdir()
    with pytest.raises(DatasetError) as e:
        datasets.load(name, tmp_path)
    assert str(tmp_path) in str(e.value)
    assert "looked for" in str(e.value)
    assert "\n" not in str(e.value)


def test_protocols_are_named() -> None:
    """Protects 'did you mean' for protocols: the error lists those that there are."""
    with pytest.raises(UsageError, match="crema_d:face"):
        datasets.load("crema_d:video", ".")
    with pytest.raises(UsageError, match="dfew alone"):
        datasets.load("dfew:1", ".")


# --- CAER, CAER-S, NCAER-S -------------------------------------------------------------------------------------------


def test_caer_s_both_spellings_and_boxes(opened: Callable[[str], Manifest]) -> None:
    """Protects Angry and Anger as one class, boxes joined by key, and 'no face' for what no list names."""
    rows = {r.id: r for r in opened("caer_s")}
    assert Path(rows["train/Anger/0001"].path).parent.name == "Angry"
    assert Path(rows["test/Anger/0001"].path).parent.name == "Anger"
    assert rows["test/Anger/0001"].box == (-2, 3, 20, 25)
    assert rows["train/Surprise/0003"].box == (0, 0, 0, 0)
    assert absent(opened("caer_s")) == {"test/Sad/0005"}


def test_caer_s_protocols(tmp_path: Path) -> None:
    """Protects the three protocols: validation from train, none, and that of the three lists."""
    for split, n in (("train", 40), ("test", 12)):
        for c in CAER7:
            folder = tmp_path / split / c
            folder.mkdir(parents=True)
            for i in range(n):
                (folder / f"{i:04d}.png").touch()
    first, again = (datasets.load("caer_s", tmp_path) for _ in range(2))
    assert Counter((r.split, r.label) for r in first) == {
        (s, c): n for s, n in (("train", 35), ("val", 5), ("test", 12)) for c in CAER7
    }
    assert [r.split for r in first] == [r.split for r in again]
    full = datasets.load("caer_s:caers_full_test", tmp_path)
    assert Counter(r.split for r in full) == {"train": 280, "test": 84}
    with pytest.raises(DatasetError, match="three lists"):
        datasets.load("caer_s:nd_val_test", tmp_path)
    trees.text(tmp_path / "train.txt", "train/Angry/0001.png,0,1,1,9,9")
    trees.text(tmp_path / "val.txt", "test/Angry/0001.png,0,1,1,9,9", "test/Fear/0002.png,2,1,1,9,9")
    trees.text(tmp_path / "test.txt", "CAER-S/test/Sad/0003.png,5,1,1,9,9")
    lists = datasets.load("caer_s:nd_val_test", tmp_path)
    assert {(r.id, r.split) for r in lists} == {
        ("train/Anger/0001", "train"),
        ("test/Anger/0001", "val"),
        ("test/Fear/0002", "val"),
        ("test/Sad/0003", "test"),
    }
    assert not absent(lists)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train/Angry/1.png,1,1,1,2,2", "Angry has label 1"),
        ("train/Joyful/1.png,0,1,1,2,2", "Joyful"),
        ("train/Angry/1.png,0,1,1,2", "expected path,label"),
        ("train/Angry/1.png,0,1,1,2,2\ntrain/Angry/1.png,0,1,1,3,3", "comes twice"),
    ],
)
def test_box_lists_that_are_wrong(tmp_path: Path, line: str, said: str) -> None:
    """Protects the label order of a list of boxes against the folders it names."""
    trees.caer_s(tmp_path)
    (tmp_path / "boxes" / "train.txt").write_text(line)
    with pytest.raises(ManifestError, match=said):
        datasets.load("caer_s", tmp_path)


def test_real_box_list(shared: Path, tmp_path: Path) -> None:
    """Protects the import of a published list at its size: 20,868 boxes and its counts by class."""
    (tmp_path / "test" / "Angry").mkdir(parents=True)
    (tmp_path / "test" / "Angry" / "0001.png").touch()
    (tmp_path / "test.txt.gz").symlink_to(shared / "data" / "caers_boxes" / "test.txt.gz")
    m = datasets.load("caer_s", tmp_path)
    boxed = [r for r in m if r.box is not None and any(r.box)]
    count = Counter(r.label for r in boxed)
    assert [count[c] for c in CAER7] == [2988, 2980, 2972, 2990, 2985, 2983, 2970]
    assert sum(min(r.box) < 0 for r in boxed if r.box) == 52


def test_ncaer_s_boxes(opened: Callable[[str], Manifest]) -> None:
    """Protects box files under another spelling, four zeros as no face, and an image without a box file."""
    boxes = {r.id: r.box for r in opened("ncaer_s")}
    assert boxes["train/Anger/12"] == (4, 4, 30, 30)
    assert boxes["val/Fear/12"] == (0, 0, 0, 0)
    assert boxes["test/Sad/12"] is None


def test_caer_validation_folder(opened: Callable[[str], Manifest]) -> None:
    """Protects ``validation`` as val, and keys: 0001 of every class and split is another clip."""
    assert {"train/Fear/0001", "val/Fear/0001", "test/Fear/0001"} <= {r.id for r in opened("caer")}


# --- Ekman-6, VideoEmotion-8 -----------------------------------------------------------------------------------------


def test_ekman6_names(opened: Callable[[str], Manifest]) -> None:
    """Protects names with brackets, commas and spaces, class/video keys, and a listed video that is absent."""
    m = opened("ekman6")
    assert {r.split for r in m if r.id.endswith("[Vimeo-]-20")} == {"test"}
    assert {f"{c}/a b, part (1)" for c in EKMAN6} <= {r.id for r in m}
    assert absent(m) == {"joy/01"}


def test_videoemotion8_list_without_indices(opened: Callable[[str], Manifest]) -> None:
    """Protects a test list without indices, whose names end in digits, and one video under two classes."""
    m = opened("videoemotion8")
    assert {r.id for r in m if r.split == "test"} == {f"{c}/clip 2" for c in m.classes}
    assert {"Disgust/3527012618_7ceb8fb27b_700", "Fear/3527012618_7ceb8fb27b_700"} <= {r.id for r in m}
    assert not absent(m)


def test_lists_say_which_they_are(tmp_path: Path) -> None:
    """Protects against mixing results of two lists: the protocol names the one used, not its line ends."""
    trees.ekman6(tmp_path)
    first = datasets.load("ekman6", tmp_path).protocol
    path = tmp_path / "annotations" / "testlist01.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert datasets.load("ekman6", tmp_path).protocol == first
    path.write_text("\n".join(path.read_text().splitlines()[1:]))
    assert datasets.load("ekman6", tmp_path).protocol != first


def test_lists_that_are_wrong(tmp_path: Path) -> None:
    """Protects against a list of another class order, and a training and test list of different releases."""
    trees.ekman6(tmp_path)
    path = tmp_path / "annotations" / "testlist01.txt"
    good = path.read_text()
    path.write_text(good.replace("20 2", "20 1"))
    with pytest.raises(ManifestError, match="line 2: disgust is class 2"):
        datasets.load("ekman6", tmp_path)
    path.write_text(good + "\njoy/01 4")
    with pytest.raises(ManifestError, match="joy/01 is in the training list"):
        datasets.load("ekman6", tmp_path)


def test_json_lists(tmp_path: Path) -> None:
    """Protects the JSON lists, whose 'validation' is the test set."""
    for c in EKMAN6:
        trees.video(tmp_path / c / f"{c}1.mp4")
    entries = {
        f"{c}1": {"subset": "validation" if c == "fear" else "training", "annotations": {"label": c}} for c in EKMAN6
    }
    (tmp_path / "ek6_01.json").write_text(json.dumps({"labels": EKMAN6, "database": entries}))
    m = datasets.load("ekman6", tmp_path)
    assert [r.id for r in m if r.split == "test"] == ["fear/fear1"]
    assert m.protocol.startswith("ekman6_json_01@")


def test_regenerated_splits_say_so(tmp_path: Path) -> None:
    """Protects against passing off a split of our own: stratified, the same everywhere, ten different ones."""
    for c in protocols._VE8:
        (tmp_path / c).mkdir()
        for i in range(9):
            (tmp_path / c / f"{i}.mp4").touch()
    splits = []
    for k in (1, 2):
        m = datasets.load(f"videoemotion8:split_{k:02d}", tmp_path)
        assert m.protocol == f"videoemotion8_regenerated_{k:02d}"
        assert Counter((r.split, r.label) for r in m) == {
            (s, c): n for s, n in (("train", 6), ("test", 3)) for c in m.classes
        }
        splits.append([r.id for r in m if r.split == "test"])
    assert splits[0] != splits[1]
    assert splits[0][:3] == ["Anger/3", "Anger/5", "Anger/8"], "the split that published results would name"


def test_official_table_of_ten_splits(tmp_path: Path) -> None:
    """Protects the official xlsx: ids, floats among them, the sheet of original names, columns of split k."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["id", "path"])
    for k, c in enumerate(protocols._VE8):
        book.active.append([float(k + 1), f"videos/{c}/take {k}.mp4"])
        trees.video(tmp_path / c / f"{k + 1 if k % 2 else f'take {k}'}.mp4")  # half of them renamed to their id
    sheet = book.create_sheet("splits")
    sheet.append(["split 1", None, "split 2", None])
    sheet.append(["train", "test", "train", "test"])
    for k in range(6):
        sheet.append([float(k + 1), k + 7 if k < 2 else None, str(k + 3), k + 1 if k < 2 else None])
    book.save(tmp_path / "VideoEmotionDataset-TrainTestSplits.xlsx")
    m = datasets.load("videoemotion8:split_02", tmp_path)
    assert m.protocol == "videoemotion8_split_02"
    assert [r.id for r in m if r.split == "test"] == ["Anger/take 0", "Anticipation/take 1"]
    assert len(m) == 8
    assert not absent(m)
    with pytest.raises(DatasetError, match="no split 03"):
        datasets.load("videoemotion8:split_03", tmp_path)


def test_numbers_of_a_sheet_keep_their_digits(tmp_path: Path) -> None:
    """Protects ids that are large numbers in an xlsx file: none is rounded to that of its neighbor."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["id", 7.0, 2000001.0, 1234567.25, 1234567.5, 0.1, 1e20, None])
    book.save(tmp_path / "t.xlsx")
    texts = ["id", "7", "2000001", "1234567.25", "1234567.5", "0.1", "1" + "0" * 20, ""]
    assert layout.sheet(tmp_path / "t.xlsx") == [texts]


# --- Aff-Wild2 -------------------------------------------------------------------------------------------------------


def test_aff_wild2_labels_follow_images(opened: Callable[[str], Manifest], tree: Callable[[str], Path]) -> None:
    """Protects the join of images and lines where faces are missing, labels of -5, and a frame without a line."""
    rows = {r.id: r for r in opened("aff_wild2")}
    whole = rows["train/7-60-1920x1080"]
    assert Path(whole.extra["va_file"]).is_relative_to(tree("aff_wild2")), "nothing missing: the file itself"
    assert np.isnan(read_va(whole.extra["va_file"])[1]).all()
    gaps = read_va(rows["train/video12_left"].extra["va_file"])
    np.testing.assert_allclose(gaps[:, 0], [0.2, 0.3, 0.5, 0.6, 0.7, 0.8], atol=1e-6)
    longer = read_va(rows["val/12-24-1920x1080"].extra["va_file"])
    assert len(longer) == 9
    assert np.isnan(longer[8]).all()
    assert rows["train/video12_left"].group == rows["train/video12_right"].group == "video12"
    assert whole.box == (0, 0, 111, 111)


def test_audio_beside_images(opened: Callable[[str], Manifest], tree: Callable[[str], Path]) -> None:
    """Protects hearing the data sets whose images lie in folders: two people in a video share its audio."""
    rows = {r.id: r.extra.get("sound") for r in opened("aff_wild2")}
    assert rows.pop("val/12-24-1920x1080") is None
    assert rows == {
        "train/7-60-1920x1080": str(tree("aff_wild2") / "batch1" / "7-60-1920x1080.avi"),
        "train/video12_left": str(tree("aff_wild2") / "batch2" / "video12.avi"),
        "train/video12_right": str(tree("aff_wild2") / "batch2" / "video12.avi"),
    }
    heard = {r.id: r.extra["sound"] for r in opened("videoemotion8") if "sound" in r.extra}
    assert len(heard) == 8
    assert heard["Trust/clip 2"] == str(tree("videoemotion8") / "VideoEmotion8--mp3" / "Trust" / "clip 2.mp3")


def test_aff_wild2_test_list(opened: Callable[[str], Manifest]) -> None:
    """Protects the videos to submit: no labels, and never among those that are scored."""
    m = opened("aff_wild2:test")
    assert [(r.id, r.split, "va_file" in r.extra) for r in m] == [("test/7-60-1920x1080", "test", False)]


# --- AFEW, DFEW, FERV39k, MAFW ---------------------------------------------------------------------------------------


def test_afew_lists_and_empty_folders(opened: Callable[[str], Manifest]) -> None:
    """Protects the join by name: a clip without a face stays an item, and shifts no label."""
    m = opened("afew")
    assert absent(m) == {"train/Sad/999999999", "val/Sad/999999999"}
    empty = next(r for r in m if r.id == "train/Fear/000000002")
    assert empty.box is None
    assert all(Path(r.path).parent.name == r.label for r in m)


def test_afew_videos(tmp_path: Path) -> None:
    """Protects the layout as the organisers give it."""
    for split in ("Train_AFEW", "Val_AFEW"):
        trees.video(tmp_path / split / "Happy" / "000046280.avi")
    m = datasets.load("afew", tmp_path)
    assert [(r.id, r.split) for r in m] == [("train/Happy/000046280", "train"), ("val/Happy/000046280", "val")]
    assert m.protocol == "afew8_folders"


def test_afew_aligned_faces(tmp_path: Path) -> None:
    """Protects the faces of the organisers: classes from the videos, whose audio and frame rate they keep."""
    for split, faces in (("Train_AFEW", "AlignedFaces_LBPTOP_Points"), ("Val_AFEW", "AlignedFaces_LBPTOP_Points_Val")):
        trees.film(tmp_path / split / "Happy" / "000046280.avi")
        trees.video(tmp_path / split / "Sad" / "000046281.avi")
        trees.frames(tmp_path / faces / "Faces" / "000046280")
    m = datasets.load("afew:aligned", tmp_path)
    assert [(r.id, r.box is not None) for r in m.rows[:2]] == [
        ("train/Happy/000046280", True), ("train/Sad/000046281", False),
    ]  # fmt: skip
    assert m.rows[2].path == str(tmp_path / "AlignedFaces_LBPTOP_Points_Val" / "Faces" / "000046280")
    assert absent(m) == {"train/Sad/000046281", "val/Sad/000046281"}, "no face was found: the item stays"
    with ClipReader.of(m.rows[0], WITH_AUDIO) as reader:
        assert reader.fps == pytest.approx(30)
        assert reader.audio is not None
    with pytest.raises(DatasetError, match="AlignedFaces"):
        datasets.load("afew:aligned", tmp_path / "Train_AFEW")


def test_dfew_names_votes_and_boxes(opened: Callable[[str], Manifest]) -> None:
    """Protects zero padding, votes beside the label, the true size of the images, a clip without a face."""
    m = opened("dfew")
    row = next(r for r in m if r.id == "00008")
    assert row.label == "Sad"
    assert row.votes == (0.25, 0.75, 0, 0, 0, 0, 0)
    assert row.box == (0, 0, 63, 63)
    assert absent(m) == {"00035"}


def test_dfew_votes_in_xlsx(tmp_path: Path) -> None:
    """Protects the votes as the authors give them."""
    openpyxl = pytest.importorskip("openpyxl")
    trees.dfew(tmp_path)
    table = (tmp_path / "Annotation" / "annotation.csv").read_text().splitlines()
    book = openpyxl.Workbook()
    for line in table:
        book.active.append([int(c) if c.isdigit() else c for c in line.split(",")])
    expected = datasets.load("dfew", tmp_path).rows
    (tmp_path / "Annotation" / "annotation.csv").unlink()
    book.save(tmp_path / "Annotation" / "annotation.xlsx")
    assert datasets.load("dfew", tmp_path).rows == expected


def test_dfew_lists_that_do_not_fit(tmp_path: Path) -> None:
    """Protects official folds: a training list that is not what the other folds test is refused."""
    trees.dfew(tmp_path)
    path = tmp_path / "EmoLabel_DataSplit" / "train(single-labeled)" / "set_2.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    with pytest.raises(DatasetError, match="fold 2"):
        datasets.load("dfew", tmp_path)


def test_ferv39k_and_mafw_keep_what_is_listed(opened: Callable[[str], Manifest]) -> None:
    """Protects listed clips without images, ids that repeat between scenes, and names instead of numbers."""
    assert absent(opened("ferv39k")) == {"War/Fear/0007"}
    assert {"Action/Happy/0007", "War/Happy/0007"} <= {r.id for r in opened("ferv39k")}
    assert absent(opened("mafw")) == {"00033"}
    assert {r.id: r.label for r in opened("mafw")}["00003"] == "happiness"


# --- MMI, BU-4DFE, RAVDESS, CREMA-D ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mmi", "bu4dfe", "ravdess", "crema_d"])
def test_no_person_in_two_folds(name: str, opened: Callable[[str], Manifest]) -> None:
    """Protects folds by person, and that every item can be told apart by person."""
    people: dict[str, set[int | None]] = {}
    for r in opened(name):
        people.setdefault(str(r.group), set()).add(r.fold)
    assert "None" not in people
    assert all(len(folds) == 1 for folds in people.values())


def test_mmi_sessions(opened: Callable[[str], Manifest]) -> None:
    """Protects emotions in words and in numbers; a session of action units is no item."""
    labels = {r.id: r.label for r in opened("mmi")}
    assert "120" not in labels
    assert [labels[str(100 + n)] for n in range(6)] == list(SIX)


def test_ravdess_modalities(opened: Callable[[str], Manifest]) -> None:
    """Protects one item for each recording, songs apart, and folds of four actors."""
    m = opened("ravdess")
    assert [r.extra["modality"] for r in m if r.id.endswith("-01-03-01-01-01-01")] == ["01"]
    assert {r.group for r in m if r.fold == 1} == {"05", "06", "07", "08"}
    assert [r.label for r in opened("ravdess:song")] == ["happy"]


def test_ravdess_shared(shared: Path) -> None:
    """Protects the labels of real recordings against those of the table that came with them."""
    import pandas as pd

    root = shared / "data" / "ravdess_audio"
    m = datasets.load("ravdess", root)
    table = pd.read_csv(root / "manifest.csv")
    assert {Path(r.path).relative_to(root.resolve()).as_posix(): r.label for r in m} == dict(
        zip(table["path"], table["label"], strict=True)
    )
    assert ("all", 1440, 1184) in protocols.differences(m)


def test_crema_d_views(opened: Callable[[str], Manifest]) -> None:
    """Protects intended label and votes of each view apart; a tie is not scored."""
    intended = {r.id: r for r in opened("crema_d")}["1001/1001_IEO_ANG_XX"]
    assert (intended.label, intended.votes) == ("Anger", None)
    voice = {r.id: r for r in opened("crema_d:voice")}["1001/1001_IEO_ANG_XX"]
    assert (voice.label, voice.votes) == ("Anger", (0.75, 0, 0, 0, 0.25, 0))
    both = {r.id: r for r in opened("crema_d:multimodal")}["1001/1001_IEO_ANG_XX"]
    assert (both.label, both.votes) == (None, (0.5, 0, 0, 0, 0.5, 0))


def test_crema_d_pointers(tmp_path: Path) -> None:
    """Protects those who downloaded the repository without its large files."""
    trees.text(tmp_path / "AudioWAV" / "1001_IEO_ANG_HI.wav", "version https://git-lfs.github.com/spec/v1", "size 9")
    with pytest.raises(DatasetError, match="git lfs pull"):
        datasets.load("crema_d", tmp_path)


# --- counts ----------------------------------------------------------------------------------------------------------


def full_lists(name: str, root: Path) -> None:
    """The lists of a data set with the official number of clips in each class and fold, and no media."""
    known = protocols.PROTOCOLS
    if name == "dfew":
        counts = known["dfew_5fold"].counts
        labels = [k for k, c in enumerate(SEVEN, 1) for _ in range(counts[f"all/{c}"])]
        at = 0
        for k in range(1, 6):
            n = counts[f"fold {k}"]
            entries = [f"{i + 1},{labels[i]}" for i in range(at, at + n)]
            at += n
            trees.text(
                root / "EmoLabel_DataSplit" / "test(single-labeled)" / f"set_{k}.csv", "video_name,label", *entries
            )
        (root / "Clip" / "clip_224x224").mkdir(parents=True)
    else:
        for split in ("train", "test"):
            n_of = {c: known["ekman6_list_01"].counts[f"{split}/{c}"] for c in EKMAN6}
            entries = [f"{c}/{split}{i} {k}" for k, (c, n) in enumerate(n_of.items(), 1) for i in range(n)]
            trees.text(root / f"{split}list01.txt", *entries)
        (root / "joy").mkdir()


@pytest.mark.parametrize("name", ["dfew", "ekman6"])
def test_lists_of_full_size(name: str, tmp_path: Path) -> None:
    """Protects the official counts: a complete data set has no difference, and one clip less is seen."""
    full_lists(name, tmp_path)
    m = datasets.load(name, tmp_path)
    assert protocols.differences(m) == []
    fewer = protocols.differences(Manifest(m.name, m.root, m.classes, m.rows[1:], m.protocol))
    assert [n - there for _, n, there in fewer] == [1] * len(fewer)
    assert fewer


def test_official_counts_add_up() -> None:
    """Protects the numbers of the table against slips: classes, parts and folds sum to what was published."""
    totals = {
        "dfew_5fold": 11_697,
        "mafw_5fold": 9_172,
        "ravdess_speech_6fold": 1_440,
        "bu4dfe_regenerated_10fold": 606,
    }
    totals |= {"ferv39k_all_scenes": 38_935, "ekman6_list_01": 1_637, "videoemotion8_list_01": 1_099}
    totals |= {
        "caer_official": 13_201,
        "ncaers_official": 18_555,
        "ekman6_regenerated_01": 1_637,
        "nd_val_test": 69_763,
    }
    for name, total in totals.items():
        counts = protocols.PROTOCOLS[name].counts
        wholes = {k: n for k, n in counts.items() if "/" not in k and not k.startswith("fold")}
        assert sum(wholes.values()) == total, name
        for part, n in wholes.items():
            classes = [m for k, m in counts.items() if k.startswith(f"{part}/")]
            assert not classes or sum(classes) == n, (name, part)
        folds = [n for k, n in counts.items() if k.startswith("fold")]
        assert not folds or sum(folds) == total, name


def test_doctor_compares_counts(tmp_path: Path) -> None:
    """Protects ``emozoo check``: what is fewer than in the official data is a finding."""
    trees.bu4dfe(tmp_path)
    report = doctor.check("bu4dfe", tmp_path, workers=1)
    found = {f.item: f.text for f in report.findings if f.code == "count"}
    assert found["all"] == "71 items, and bu4dfe_regenerated_10fold has 606"


def test_the_size_of_a_crop_is_that_of_its_first_whole_frame(tmp_path: Path) -> None:
    """Protects face crops from a second search for faces: what systems leave in their folder, and a broken image, are
    passed over whatever order the file system lists them in."""
    for name in ("._00001.jpg", "00001.jpg"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    for number, side in ((2, 40), (3, 20)):
        cv2.imwrite(str(tmp_path / f"{number:05d}.jpg"), np.zeros((side, side, 3), np.uint8))
    assert layout.whole_image(tmp_path) == (0.0, 0.0, 39.0, 39.0)
    assert layout.whole_image(tmp_path / "00001.jpg") is None
