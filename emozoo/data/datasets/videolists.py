"""Ekman-6 and VideoEmotion-8: user videos of the web in class folders, split by lists.

Xu, Fu, Jiang, Li, Sigal, "Heterogeneous Knowledge Transfer in Video Emotion Recognition", IEEE TAC 2018 (Ekman-6);
Jiang, Xu, Xue, "Predicting Emotions in User-Generated Videos", AAAI 2014 (VideoEmotion-8). Videos, or folders of
frames, lie as ``<class>/<video>`` in the root or its folder ``videos``, ``img``, ``imgs``, ``VideoEmotion8--imgs``. The
audio of folders of frames is taken from ``<class>/<video>.mp3`` in ``VideoEmotion8--mp3`` or ``mp3``.

Lists are taken from the root, ``annotations``, ``lists``, ``ek6`` or ``ve8`` in it, or from the folders of the public
code that carries them (``tools/annotations/<ek6|ve8>``):

* ``trainlistNN.txt``, ``testlistNN.txt``: ``<Class>/<video> <1-based index>`` a line, the index may be absent;
* ``<ek6|ve8>_NN.json``, whose ``validation`` is the test set and whose keys are bare names, so that of two videos of
  one name only one is left: read where there are no txt lists;
* ``VideoEmotionDataset-TrainTestSplits.xlsx``, the official ten splits of VideoEmotion-8 (needs openpyxl).

Results name the list by eight digits of its hash, ``ekman6_list_01@1a2b3c4d``, as several lists are in use. Without
lists a seeded, stratified split is made, and named ``..._regenerated_NN``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from emozoo.data.datasets.layout import (
    class_folders,
    class_of,
    digest,
    items,
    lines,
    media,
    missing,
    pick,
    sheet,
    shuffled,
    subfolder,
)
from emozoo.data.manifest import Manifest, Row, key, text_file, unique_ids
from emozoo.errors import DatasetError, ManifestError
from emozoo.labels import EKMAN6

VE8 = ("Anger", "Anticipation", "Disgust", "Fear", "Joy", "Sadness", "Surprise", "Trust")
XLSX = "VideoEmotionDataset-TrainTestSplits.xlsx"
# name -> classes, short name of its lists, fraction of each class that is tested
SETS = {"ekman6": (EKMAN6, "ek6", 1 / 2), "videoemotion8": (VE8, "ve8", 1 / 3)}
Split = dict[str, tuple[str, str, tuple[str, ...]]]  # id -> (class, train or test, names that the video may have)


def load(root: Path, name: str) -> Manifest:
    """``ekman6``, or ``videoemotion8`` with ``:split_02`` to ``:split_10`` for another split than the first."""
    dataset, _, choice = name.partition(":")
    classes, short, test_share = SETS[dataset]
    number = choice[-2:] or "01"
    root = root.resolve()
    media_root = _media(root, classes)
    folders = [
        root / f for f in ("", "annotations", "lists", short, f"annotations/{short}", f"tools/annotations/{short}")
    ]
    if (xlsx := root / XLSX).is_file() and dataset == "videoemotion8":
        split, protocol = _from_xlsx(xlsx, int(number)), f"videoemotion8_split_{number}"
    elif found := next((f for f in folders if (f / f"trainlist{number}.txt").is_file()), None):
        files = [found / f"trainlist{number}.txt", found / f"testlist{number}.txt"]
        split, protocol = _from_lists(files, classes), f"{dataset}_list_{number}@{digest(*files)}"
    elif found := next((p for f in folders if (p := f / f"{short}_{number}.json").is_file()), None):
        split, protocol = _from_json(found, classes), f"{dataset}_json_{number}@{digest(found)}"
    elif media_root is not None:
        split, protocol = _regenerated(media_root, classes, test_share, number), f"{dataset}_regenerated_{number}"
    else:
        split, protocol = {}, ""
    if not split or media_root is None:
        raise missing(root, dataset, f"<class>/<video> with the classes {', '.join(classes)}")
    below = class_folders(media_root, classes)
    there = {label: {k: p for f in folders for k, p in media(f).items()} for label, folders in below.items()}
    audio = subfolder(root, "VideoEmotion8--mp3", "mp3")
    heard = class_folders(audio, classes) if audio is not None else {}
    spoken = {label: {k: p for f in folders for k, p in media(f).items()} for label, folders in heard.items()}
    rows = []
    for item, (label, part, names) in split.items():
        tries = [pick(there[label], media_root / label, n) for n in names]
        path = next((f for f in tries if f.exists()), tries[0])
        heard_of = spoken.get(label, {}) if path.is_dir() else {}
        audio = next((heard_of[k] for n in names for k in (n, key(n)) if k in heard_of), None)
        rows.append(Row(item, str(path), label, split=part, extra={"sound": str(audio)} if audio else {}))
    rows.sort(key=lambda r: r.id)
    return Manifest(dataset, root, classes, tuple(unique_ids(rows, root)), protocol=protocol)


def _media(root: Path, classes: Sequence[str]) -> Path | None:
    tries = [root, *(subfolder(root, f) for f in ("videos", "img", "imgs", "VideoEmotion8--imgs"))]
    return next((p for p in tries if p is not None and any(class_folders(p, classes).values())), None)


def _from_lists(files: Sequence[Path], classes: Sequence[str]) -> Split:
    found: Split = {}
    for part, path in zip(("train", "test"), files, strict=True):
        if not path.is_file():
            raise DatasetError(f"{path}: not there, beside {files[0].name}: put both lists in one folder")
        entries = lines(path)
        # Names hold spaces and digits, so one line does not tell whether a list has the index: most of its lines do.
        ends = [(class_of(t.split("/")[0], classes, (path, n)), t.rpartition(" ")[2]) for n, t in entries]
        labelled = sum(end == str(list(classes).index(label) + 1) for label, end in ends) > len(ends) / 2
        for number, text in entries:
            name, _, index = text.rpartition(" ") if labelled else (text, "", "")
            folder, slash, video = name.partition("/")
            if not slash:
                raise ManifestError(path, number, f"expected <Class>/<video>, found {text!r}")
            label = class_of(folder, classes, (path, number))
            if labelled and index != str(list(classes).index(label) + 1):
                raise ManifestError(path, number, f"{label} is class {list(classes).index(label) + 1}, found {index!r}")
            item = f"{label}/{key(video)}"
            if found.get(item, (label, part))[1] != part:
                raise ManifestError(
                    path, number, f"{item} is in the training list too: these lists do not belong together"
                )
            found[item] = (label, part, (video,))
    return found


def _from_json(path: Path, classes: Sequence[str]) -> Split:
    try:
        with text_file(path) as file:
            entries = json.load(file)["database"]
        parts = {"training": "train", "validation": "test"}
        found: Split = {}
        for video, entry in entries.items():
            label = class_of(entry["annotations"]["label"], classes, path)
            found[f"{label}/{video}"] = (label, parts[entry["subset"]], (video,))
    except DatasetError:  # says what is wrong already
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise DatasetError(
            f"{path}: not a list of the form {{'database': {{video: {{'subset', 'annotations'}}}}}} ({e!r})"
        ) from e
    return found


def _from_xlsx(path: Path, number: int) -> Split:
    """Sheet 0: id and original path; sheet 1: from its third row, columns 2k-2 and 2k-1 are training and test of k."""
    original = {cells[0]: cells[1] for cells in sheet(path, 0) if len(cells) > 1}
    splits = sheet(path, 1)
    found: Split = {}
    for part, column in (("train", 2 * number - 2), ("test", 2 * number - 1)):
        names = {line: cells[column] for line, cells in enumerate(splits[2:], 3) if len(cells) > column}
        if not any(names.values()):
            raise DatasetError(f"{path}: has no split {number:02d}")
        for line, name in names.items():
            if not name:
                continue
            where = original.get(name, name).replace("\\", "/").split("/")
            if len(where) < 2:
                raise ManifestError(path, line, f"{name} is neither <Class>/<video> nor an id of the first sheet")
            label = class_of(where[-2], VE8, (path, line))
            # Copies that the makers of lists prepared have the id for a name.
            found[f"{label}/{key(where[-1])}"] = (label, part, (where[-1], name))
    return found


def _regenerated(media_root: Path, classes: Sequence[str], test_share: float, number: str) -> Split:
    found: Split = {}
    for label, folders in class_folders(media_root, classes).items():
        there: dict[str, str] = {}
        for p in (p for f in folders for p in items(f)):
            item = f"{label}/{key(p.name)}"
            there[f"{label}/{p.name}" if item in there else item] = p.name  # a.mp4 beside a.avi: two items
        names = shuffled(there, f"regenerated_{number}")
        tested = set(names[: round(len(names) * test_share)])
        found |= {i: (label, "test" if i in tested else "train", (there[i],)) for i in there}
    return found
