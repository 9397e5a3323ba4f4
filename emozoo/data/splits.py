"""Splits: which rows of a manifest train, which validate and which are tested. Pure functions of rows and numbers.

The part that is tested (``split``, or ``fold`` with or without ``folds``) is never trained on. A part that the data do
not name is drawn here by a seed, class by class. Rows with one group (a person), and rows of one media file, always
stay together: two stretches of one video, a row that stands twice, two people in one clip lie in one part.
"""

from __future__ import annotations

import hashlib
import operator
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emozoo.data.manifest import Manifest, Row, split_key
from emozoo.errors import DatasetError, UsageError

TESTED = "the tested rows"  # that validate, too
ALL = "all"  # for ``split``: every item is evaluated
PERSON = "person"  # for ``folds``: every person is a fold
TEST_SHARE, VAL_SHARE = 0.2, 0.1  # of rows without a split; of the training rows where nothing else validates


@dataclass(frozen=True)
class Held:
    """What is tested, the rows that may be trained on, and the official validation part, if there is one to use.

    ``how``: the rule that chose the tested rows, as words. ``drawn``: they were drawn, since the data have no split.
    """

    test: list[Row]
    rest: list[Row]
    val: list[Row]
    how: str
    drawn: bool = False


@dataclass(frozen=True)
class Parts:
    """The rows that train and validate.

    ``summary``: how many rows train, validate, are tested and are used nowhere, and by which rules. ``unused``: splits
    that no row of any part comes from, with their numbers of rows.
    """

    train: list[Row]
    val: list[Row]
    summary: str
    unused: Mapping[str, int]


def held_out(
    manifest: Manifest, *, split: str | None = None, fold: Any = None, folds: Any = None, seed: int = 0
) -> Held:
    """Sets apart the rows that are tested; a function of its arguments alone, so that fit and test agree.

    ``split``: a split, ``all``, or None for ``test``, else ``val``; where there is neither, a fifth of the rows without
    split and of ``train`` is drawn by ``seed``. ``fold``: rows of that fold (of those, with ``split``, that split);
    with ``folds``, of people who are assigned to that many folds by a hash of their names. ``folds="person"`` leaves
    one person out: fold k is the k-th of the names in :func:`people`.

    Raises UsageError or DatasetError for a split or fold that the data do not have, with those that they have.
    """
    fold, folds = _whole("fold", fold), folds if folds == PERSON else _whole("folds", folds)
    rows = manifest.rows
    part = _named(manifest, split)
    if folds is not None or fold is not None:
        if folds is not None:
            test, rest = _by_person(manifest, fold, folds)
            how = f"person '{_name(test)}'" if folds == PERSON else f"fold {fold} of {folds} by person"
        else:
            test = list(manifest.select(fold=fold).rows)
            rest = [r for r in rows if r.fold != fold and (r.fold is not None or r.split != "test")]
            how = f"fold {fold}"
        test = [r for r in test if part in (None, ALL, r.split)]
        if not test:
            raise DatasetError(f"{manifest.root}: no row of fold {fold} has the split '{part}'")
        return Held(test, rest, [], how)
    if part == ALL:
        return Held(list(rows), [], [], "split='all', every row")
    part = part or next((s for s in ("test", "val") if s in manifest.splits), None)
    train = [r for r in rows if r.split in (None, "train")]
    if part is not None:
        val = [r for r in rows if r.split == "val"]
        rest = [r for r in train if r.split != part]
        return Held([r for r in rows if r.split == part], rest, val, f"split '{part}'")
    if manifest.splits == ("train",) and all(r.split for r in rows):
        return Held([], train, [], "there is no split but 'train'")
    train, test = carve(train, TEST_SHARE, seed)
    how = f"no split is given, so {TEST_SHARE:.0%} are drawn by class and group, seed {seed}; split='all' is every row"
    return Held(test, train, [], how, drawn=True)


def validation(
    held: Held, rows: Sequence[Row], share: float | None, seed: int = 0, *, on_test: bool = False
) -> tuple[list[Row], list[Row], str]:
    """Rows that train, rows that validate, and the rule as words. ``rows``: those of ``held.rest`` to train on.

    ``share`` None: the official ``val`` split validates, unless it is the tested one; else a tenth of ``rows`` does,
    whole groups. A number: that fraction of ``rows``, and an official ``val`` split that is not tested is not used; 0
    takes none, and the official ``val`` split validates, even if it is the tested one (then choose nothing by it).
    ``on_test``: where nothing would validate, the tested rows do.

    Raises UsageError for a share outside of [0, 1).
    """
    if share is not None and not 0 <= share < 1:
        raise UsageError(f"val_share must be 0 or more and below 1, got {share}")
    reported = any(r.split == "val" for r in held.test)
    if held.val and (share == 0 or (share is None and not reported)):
        return list(rows), held.val, "split 'val'"
    train, val = carve(rows, VAL_SHARE if share is None else share, seed)
    if not val and on_test:
        return train, held.test, TESTED
    return train, val, f"{VAL_SHARE if share is None else share:.0%} of the training rows"


def assign(
    manifest: Manifest,
    held: Held,
    usable: Callable[[Row], bool],
    share: float | None,
    seed: int = 0,
    *,
    on_test: bool = False,
) -> Parts:
    """The parts of a manifest: :func:`validation` among the rows of ``held.rest`` that are ``usable`` for training."""
    train, val, how = validation(held, [r for r in held.rest if usable(r)], share, seed, on_test=on_test)
    val = [r for r in val if usable(r)]
    tested = f"{len(held.test)} are tested" if how != TESTED else f"{len(held.test)} are held out"
    validate = f"{len(val)} validate ({how}), " if how != TESTED else ""
    summary = f"{len(train)} rows train, {validate}{tested} ({held.how})"
    used = {r.split for part in (held.rest, val, held.test) for r in part}
    unused = Counter(r.split for r in manifest.rows if r.split and r.split not in used)
    summary += "".join(f"; {n} rows of split '{name}' are used nowhere" for name, n in unused.items())
    return Parts(train, val, summary, unused)


def subset(rows: Sequence[Row], fraction: float, seed: int) -> list[Row]:
    """That fraction of the rows, drawn by a seed, in their order."""
    if fraction >= 1.0:
        return list(rows)
    chosen = np.random.default_rng(seed).permutation(len(rows))[: int(fraction * len(rows))]
    return [rows[i] for i in sorted(chosen)]


def carve(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """The rows in two parts, the second about ``share`` of them, class by class; no group or file lies in both."""
    if share <= 0:
        return list(rows), []
    numbers = groups(rows)
    members: dict[int, list[Row]] = {}
    for number, row in zip(numbers, rows, strict=True):
        members.setdefault(number, []).append(row)
    by_class: dict[str, list[tuple[str, int]]] = {}
    for number, found in members.items():
        by_class.setdefault(found[0].label or "", []).append((_name(found), number))
    chosen: set[int] = set()
    rng = np.random.default_rng(seed)
    for label in sorted(by_class):
        there = [number for _, number in sorted(by_class[label])]
        wanted = share * sum(len(members[n]) for n in there)
        taken = 0
        for i in rng.permutation(len(there)):
            size = len(members[there[i]])
            if taken + size / 2 > wanted:
                continue
            chosen.add(there[i])
            taken += size
    sides: tuple[list[Row], list[Row]] = ([], [])
    for number, row in zip(numbers, rows, strict=True):
        sides[number in chosen].append(row)
    return sides


def groups(rows: Sequence[Row]) -> list[int]:
    """A number for each row: the same for rows that share a group or a media file, directly or through other rows."""
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    folders: dict[str, str] = {}
    for i, row in enumerate(rows):
        for key in (("file", _file(row, folders)), *([("group", row.group)] if row.group else [])):
            a, b = root(i), root(first.setdefault(key, i))
            parent[max(a, b)] = min(a, b)
    return [root(i) for i in range(len(rows))]


def _file(row: Row, folders: dict[str, str]) -> str:
    """The media file of a row with links resolved; of an item in a store the file that it was made from."""
    folder, name = os.path.split(row.extra.get("source", row.path))
    if folder not in folders:  # resolved once for all of its files, of which there may be very many
        folders[folder] = os.path.realpath(folder)
    path = os.path.join(folders[folder], name)
    return os.path.realpath(path) if name in ("", ".", "..") or os.path.islink(path) else path


def fold_of(group: str, folds: int) -> int:
    """The fold, 0-based, that a person belongs to: a hash of the name, so that it never depends on order or count."""
    return int(hashlib.sha1(f"fold:{group}".encode(errors="surrogatepass")).hexdigest(), 16) % folds


def people(manifest: Manifest) -> dict[str, list[Row]]:
    """The rows of splits train and val, and of none, by person, sorted by name; whoever shares a file is one person.

    Raises DatasetError where a row names nobody.
    """
    pool = [r for r in manifest.rows if r.split in (None, "train", "val")]
    if any(r.group is None for r in pool):
        raise DatasetError(
            f"{manifest.root}: folds by person need a group column (group, identity, actor, subject or speaker)"
        )
    found: dict[int, list[Row]] = {}
    for number, row in zip(groups(pool), pool, strict=True):
        found.setdefault(number, []).append(row)
    return dict(sorted((_name(rows), rows) for rows in found.values()))


def apart(rows: Sequence[Row], held: Sequence[Row]) -> list[Row]:
    """The rows that share no group and no media file with the rows ``held``, directly or through other rows."""
    numbers = groups([*held, *rows])
    taken = set(numbers[: len(held)])
    return [row for number, row in zip(numbers[len(held) :], rows, strict=True) if number not in taken]


def _by_person(manifest: Manifest, fold: int | None, folds: int | str) -> tuple[list[Row], list[Row]]:
    """Of the rows of train and val those that are tested in ``fold``, and the others."""
    if isinstance(folds, int) and folds < 2:
        raise UsageError(f"folds must be 2 or more, got {folds}")
    persons = people(manifest) if folds == PERSON else {}
    count = len(persons) if folds == PERSON else int(folds)
    there = ", ".join(f"{i} ({n})" for i, n in enumerate(persons)) or ", ".join(map(str, range(count)))
    if fold is None:
        raise UsageError(f"folds={folds} needs fold=, one of {there}: the fold that is tested")
    if not 0 <= fold < count:
        raise UsageError(f"no fold {fold} of folds={folds}; there are {there}")
    persons = persons or people(manifest)
    if len(persons) < max(2, count):
        raise DatasetError(
            f"{manifest.root}: {max(2, count)} folds cannot be made of {len(persons)} people; take at most "
            f"{len(persons)}"
        )
    where = {name: i if folds == PERSON else fold_of(name, count) for i, name in enumerate(persons)}
    tested = {name for name, k in where.items() if k == fold}
    if not tested:
        raise DatasetError(
            f"{manifest.root}: fold {fold} of {folds} holds nobody, since {len(persons)} people are assigned by a hash "
            "of their names; take fewer folds"
        )
    who = {id(row): name for name, rows in persons.items() for row in rows}
    sides: tuple[list[Row], list[Row]] = ([], [])
    for row in manifest.rows:  # in their order
        if id(row) in who:
            sides[who[id(row)] not in tested].append(row)
    return sides


def _name(rows: Sequence[Row]) -> str:
    """The name of rows that stay together: their group, else the item."""
    return min([r.group for r in rows if r.group] or [r.id for r in rows])


def _named(manifest: Manifest, split: str | None) -> str | None:
    if split is None or split == ALL:
        return split
    part = split if split in manifest.splits else split_key(split)
    if part not in manifest.splits:
        there = f"there are {', '.join(manifest.splits)}" if manifest.splits else "it has no splits at all"
        raise DatasetError(f"{manifest.root}: no split '{split}'; {there}")
    return part


def _whole(name: str, value: Any) -> int | None:
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise UsageError(f"{name} must be a whole number, got {value!r}") from None
