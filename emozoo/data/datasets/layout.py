"""What the adapters share: finding folders under their various spellings, reading lists, splitting people into folds.

Adapters accept the spellings of a class that ``emozoo.labels`` lists (Anger and Angry) and always report the official
one; ids are ``class/video`` keys in it, so that two copies of a data set give the same ids.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile

from emozoo.data.manifest import IMAGES, MEDIA, Row, cell_text, key, of_the_system, text_file
from emozoo.errors import DatasetError, ManifestError
from emozoo.labels import canonical

Box = tuple[float, float, float, float]
NO_FACE: Box = (0.0, 0.0, 0.0, 0.0)


def within(root: Path, *names: str) -> Path:
    """``root`` or, where it holds the data set's own folder (under one of the spellings), that folder."""
    found = subfolder(root, *names)
    return root if found is None else found


def subfolder(root: Path, *names: str) -> Path | None:
    """The first of ``names`` that is a folder in ``root``, whatever its case; None where there is none of them."""
    if not root.is_dir():
        return None
    there = {p.name.lower(): p for p in sorted(root.iterdir(), reverse=True) if p.is_dir()}
    return next((there[n.lower()] for n in names if n.lower() in there), None)


def class_folders(root: Path, classes: Sequence[str]) -> dict[str, list[Path]]:
    """The folders of each official class in ``root``; one class may have several, under different spellings."""
    official = {canonical(c): c for c in classes}
    found: dict[str, list[Path]] = {c: [] for c in classes}
    for p in sorted(root.iterdir()):
        if p.is_dir() and canonical(p.name) in official:
            found[official[canonical(p.name)]].append(p)
    return found


def class_of(name: str, classes: Sequence[str], where: tuple[Path, int] | Path) -> str:
    """The official class of a spelling. Raises ManifestError (for a line) or DatasetError for one that is unknown."""
    for c in classes:
        if canonical(c) == canonical(name):
            return c
    text = f"no class {name!r}; there are {', '.join(classes)}"
    raise ManifestError(*where, text) if isinstance(where, tuple) else DatasetError(f"{where}: {text}")


def items(folder: Path) -> Iterator[Path]:
    """Media files and folders of frames in a folder; an empty folder is one too, and reading it raises the error."""
    for p in sorted(folder.iterdir()):
        if not of_the_system(p.name) and (p.suffix.lower() in MEDIA or p.is_dir()):
            yield p


def media(folder: Path) -> dict[str, Path]:
    """The files and folders of frames in ``folder`` by name, with and without extension; empty where it is not there.

    Names hold dots and brackets, so nothing is globbed; the folder is listed once, which also spares slow disks.
    """
    there = {p.name: p for p in items(folder)} if folder.is_dir() else {}
    return {key(name): p for name, p in reversed(there.items())} | there


def pick(there: Mapping[str, Path], folder: Path, name: str) -> Path:
    """The path of a listed name, whatever its extension; where there is none, the path that it should have."""
    return there.get(name) or there.get(key(name)) or folder / name


def whole_image(path: Path) -> Box | None:
    """The box that covers a face crop: the size of the image, or of the first of a folder that can be opened, by name.

    None where there is none.
    """
    from PIL import Image

    files = [path]
    if path.is_dir():
        with suppress(OSError):
            names = sorted(name for name in os.listdir(path) if not of_the_system(name))
            files = [path / name for name in names if os.path.splitext(name)[1].lower() in IMAGES]
    for file in files:
        with suppress(OSError), Image.open(file) as image:
            return 0.0, 0.0, image.width - 1.0, image.height - 1.0
    return None


def lines(path: Path) -> list[tuple[int, str]]:
    """Number and text of every line that is not blank; the last may lack its newline."""
    with text_file(path) as file:
        return [(i, line.strip()) for i, line in enumerate(file.read().splitlines(), 1) if line.strip()]


def sheet(path: Path, number: int = 0) -> list[list[str]]:
    """The cells of a csv file, or of one sheet of an xlsx file (0-based; needs openpyxl), as text; 7.0 is ``7``."""
    if path.suffix.lower() == ".csv":
        with text_file(path) as f:
            return [[c.strip() for c in cells] for cells in csv.reader(f)]
    try:
        from openpyxl import load_workbook
    except ImportError as e:
        raise DatasetError(f"{path}: reading it needs openpyxl; run: pip install openpyxl") from e

    def text(cell: object) -> str:
        return "" if cell is None else cell_text(cell).strip()

    try:
        book = load_workbook(path, read_only=True, data_only=True)
        cells = [[text(c) for c in row] for row in book.worksheets[number].iter_rows(values_only=True)]
        book.close()
    except (OSError, ValueError, KeyError, IndexError, BadZipFile) as e:
        raise DatasetError(f"{path}: no xlsx file with {number + 1} sheets ({e}); fetch it again") from e
    return cells


def official_list(path: Path) -> list[tuple[int, str]]:
    """The lines of a list that belongs to the data set. Raises DatasetError where it is not there."""
    if not path.is_file():
        raise DatasetError(f"{path}: this list of the official split is not there; it comes with the annotations")
    return lines(path)


def official_folds(
    tested: Mapping[int, Mapping[str, str]], trained: Mapping[int, Mapping[str, str]], where: Path
) -> dict[str, tuple[str, int]]:
    """id -> (class, fold that tests it), from the classes by id in the test and training lists of each fold.

    Raises DatasetError where an id is tested twice, or a training list is not all that its fold does not test.
    """
    found: dict[str, tuple[str, int]] = {}
    for fold, entries in tested.items():
        for item, label in entries.items():
            if item in found:
                raise DatasetError(
                    f"{where}: {item} is tested in folds {found[item][1]} and {fold}: fetch the lists again"
                )
            found[item] = (label, fold)
    for fold, entries in trained.items():
        rest = {item: label for item, (label, k) in found.items() if k != fold}
        if wrong := sorted(rest.items() ^ entries.items()):
            raise DatasetError(
                f"{where}: the training list of fold {fold} is not what the other folds test (first: {wrong[0][0]}): "
                "the lists are cut or of different releases; fetch them again"
            )
    return found


def digest(*paths: Path) -> str:
    """Eight hex digits that name the content of lists, whatever their line ends."""
    total = hashlib.sha256()
    for path in paths:
        total.update("\n".join(text for _, text in lines(path)).encode() + b"\0")
    return total.hexdigest()[:8]


def shuffled(names: Iterable[str], seed: str) -> list[str]:
    """The names in an order that depends on the seed and on each name alone, never on the platform."""
    return sorted(names, key=lambda n: hashlib.sha256(f"{seed}:{n}".encode(errors="surrogatepass")).hexdigest())


def fold_by_group(rows: Sequence[Row], folds: int, seed: str) -> list[int]:
    """A fold, 0-based, for every row: groups are shuffled by a seed and assigned in turn, so none is in two folds."""
    order = {g: i % folds for i, g in enumerate(shuffled({str(r.group) for r in rows}, seed))}
    return [order[str(r.group)] for r in rows]


def missing(root: Path, name: str, expected: str) -> DatasetError:
    """The error for a root that does not hold the layout."""
    return DatasetError(f"{root}: {name} is looked for there as {expected}: mend --root")
