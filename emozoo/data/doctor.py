"""Data doctor: finds what is wrong with a data set; each finding has the item, the reason and the cure.

:mod:`emozoo.data.examine` reads every file whole, once. The doctor compares the files, so that it finds copies inside
and across splits, byte for byte and by thumbnails.

Codes of findings: ``missing``, ``empty``, ``unreadable``, ``no_video``, ``no_audio``, ``broken`` (nothing can be used);
``broken_tail``, ``broken_part`` (a part can); ``assumed_rate``, ``mixed_sizes`` (of a folder of frames), ``bit_depth``,
``first_picture`` (how an image was read); ``bad_va``; ``box_outside``; ``duplicate``, ``duplicate_across_splits``,
``near_duplicate_across_splits``, ``label_conflict``, ``near_label_conflict``; ``name_collision``, ``listed_twice``;
``damaged`` (of a prepared store); ``empty_class``; ``group_across_splits``; ``count`` (not as many items as the
protocol has). What was read otherwise than it was written: ``missing_label``, ``class_spellings``, ``unknown_split``,
``missing_split``, ``unnamed_column``, ``unread_column`` (of a table); ``link_loop``, ``frames_without_numbers``,
``unreadable`` (of class folders). Notes are not faults: ``imbalance``, ``no_group``, ``unlabelled``, ``no_face``,
``ignored_files``.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from emozoo.data import datasets, store
from emozoo.data.examine import FileFacts, examine
from emozoo.data.find import one_line
from emozoo.data.manifest import MEDIA, Finding, Manifest, Row, key, of_the_system, some
from emozoo.data.near import similar
from emozoo.data.protocols import differences
from emozoo.errors import DatasetError, UsageError

IMBALANCE = 10  # times as many items in the largest class as in the smallest
MOST_LINES = 20  # findings of one kind that are printed


@dataclass(frozen=True)
class Report:
    """The result of :func:`check`.

    ``content_sha256``: hash of ids, labels and file contents; it does not depend on the folder. ``classes``: in order
    of their index.
    """

    dataset: str
    items: int
    content_sha256: str
    findings: list[Finding]
    notes: list[Finding] = field(default_factory=list)
    classes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report in plain types, as ``emozoo check --json`` prints it."""
        return {
            "schema": 1,
            "dataset": self.dataset,
            "items": self.items,
            "classes": list(self.classes),
            "content_sha256": self.content_sha256,
            "findings": [vars(f) for f in self.findings],
            "notes": [vars(f) for f in self.notes],
        }

    def to_html(self) -> str:
        """The report as one self-contained HTML page: findings by kind with their cure, then notes."""
        from jinja2 import Environment, PackageLoader

        pages = Environment(loader=PackageLoader("emozoo"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
        shown = self._shown()
        return pages.get_template("doctor.html").render(report=shown, groups=shown._groups())

    def _shown(self) -> Report:
        """The report with every text on one line of what can be printed: names of files and classes may be anything."""

        def lines(findings: Sequence[Finding]) -> list[Finding]:
            return [Finding(*map(one_line, (f.code, f.item, f.text, f.fix))) for f in findings]

        classes = tuple(map(one_line, self.classes))
        name = one_line(self.dataset)
        return replace(self, dataset=name, findings=lines(self.findings), notes=lines(self.notes), classes=classes)

    def _groups(self) -> dict[tuple[str, str], list[Finding]]:
        groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        for f in self.findings:
            groups[f.code, f.fix].append(f)
        return groups

    def __str__(self) -> str:
        n, shown = len(self.findings), self._shown()
        faults = "nothing wrong found" if n == 0 else f"{n} finding{'s' * (n > 1)}"
        lines = [f"{shown.dataset}: {self.items} items, {faults}; content sha256 {self.content_sha256[:16]}"]
        lines += [f"classes in order: {', '.join(shown.classes)}"] * bool(shown.classes)
        for (code, fix), found in shown._groups().items():
            lines += ["", f"{code} ({len(found)}): {fix}"]
            lines += [f"  {f.item}: {f.text}" for f in found[:MOST_LINES]]
            if len(found) > MOST_LINES:
                lines.append(f"  and {len(found) - MOST_LINES} more; --json lists all")
        lines += [""] * bool(self.notes) + [f"note: {f.text}" for f in shown.notes]
        return "\n".join(lines)


def check(target: str | Path, root: str | Path | None = None, *, workers: int | None = None) -> Report:
    """Checks a data set: a name with its ``root``, a manifest file, a folder of class folders, or a prepared store.

    Shows a progress bar on stderr. ``workers``: processes that read files; default: one for each processor, at most 8.

    Raises UsageError for a name without ``root``, DatasetError or ManifestError if the table cannot be read.
    """
    manifest = _open(str(target), root)
    found = examine(manifest.rows, workers or min(8, os.cpu_count() or 1))
    findings: list[Finding] = list(manifest.findings)
    for row, facts in zip(manifest.rows, found, strict=True):
        findings += _file_findings(row, facts)
    findings += _duplicates(manifest, found)
    findings += _near_duplicates(manifest, found)
    findings += _name_findings(manifest)
    findings += _class_and_group_findings(manifest)
    findings += _count_findings(manifest)
    if store.is_store(manifest.root):
        findings += _store_findings(manifest, found)
    notes = [*_notes(manifest), *_no_face_notes(manifest, found)]
    return Report(manifest.name, len(manifest), _content(manifest, found), findings, notes, manifest.classes)


def _open(target: str, root: str | Path | None) -> Manifest:
    if root is not None:
        return datasets.load(target, root)
    if store.is_store(target):
        return datasets.load("store", target)
    path = Path(os.path.expanduser(target))
    if path.is_file() or (path / "manifest.csv").is_file() or (path / "manifest.parquet").is_file():
        return datasets.load("csv", path)
    if path.is_dir():
        return datasets.load("folder", path)
    if target in datasets.DATASETS:
        raise UsageError(f"{target} is a data set; give its folder: emozoo check {target} --root DIR")
    known = ", ".join(datasets.DATASETS)
    raise DatasetError(f"{target}: is neither a data set ({known}) nor a manifest.csv nor a folder")


def _content(manifest: Manifest, found: Sequence[FileFacts]) -> str:
    """The sha256 over ids, labels and file contents."""
    return store.total_digest((r.id, r.label, s.sha256) for r, s in zip(manifest.rows, found, strict=True))


_FIXES = {
    "damaged": "delete the store and prepare it again",
    "missing": "put the file there, or remove its line from the table",
    "empty": "fetch or extract it again",
    "bad_va": "mend that line; valence and arousal lie in [-1, 1], -5 = ignore",
    "broken_tail": "fetch it again; the part that can be read is used",
    "broken_part": "fetch it again; the part that can be read is used",
    "assumed_rate": "name the video of the frames in the column 'sound', or number the frames 0, 1, 2 ...",
    "bit_depth": "none needed if the image looks right; else save it with 8 bits",
    "first_picture": "none needed if the first image is meant; else save each image as a file",
    "time_jump": "none needed: the gap was closed; or write the file again with steady time stamps",
    "other_track": "none needed if the right audio track was read; else write the file with the right track alone",
    "mixed_sizes": "none needed; or crop all frames of a clip to one size",
}


def _file_findings(row: Row, facts: FileFacts) -> Iterator[Finding]:
    for code, text in facts.faults:
        yield Finding(code, row.id, text, _FIXES.get(code, "fetch it again, or remove it from the data set"))
    if row.box is not None and facts.size is not None and any(row.box):
        (x1, y1, x2, y2), (w, h) = row.box, facts.size
        corners = f"box {x1:g},{y1:g},{x2:g},{y2:g} in an image of {w} x {h}"
        if x2 < 0 or y2 < 0 or x1 > w - 1 or y1 > h - 1:
            yield Finding(
                "box_outside", row.id, f"{corners} lies outside the image", "mend the box, or write 0,0,0,0 for no face"
            )
        elif x1 < 0 or y1 < 0 or x2 > w - 1 or y2 > h - 1:
            yield Finding(
                "box_outside", row.id, f"{corners} reaches beyond the image", "none needed: the box is clipped"
            )


def _duplicates(manifest: Manifest, found: Sequence[FileFacts]) -> Iterator[Finding]:
    same: dict[str, list[Row]] = defaultdict(list)
    for row, facts in zip(manifest.rows, found, strict=True):
        if facts.sha256 and not any(code == "empty" for code, _ in facts.faults):
            same[facts.sha256].append(row)
    for rows in same.values():
        if len({r.path for r in rows}) < 2:  # parts of one file, or one file listed twice
            continue
        others = f"has the same bytes as {some(r.id for r in rows[1:])}"
        if len({r.split for r in rows}) > 1:
            splits = ", ".join(sorted(f"{r.split}" for r in rows))
            fix = "keep it in one split: else a network is tested on what it was trained on"
            yield Finding("duplicate_across_splits", rows[0].id, f"{others} ({splits})", fix)
        else:
            yield Finding("duplicate", rows[0].id, others, "keep one of them")
        if len({r.label for r in rows if r.label}) > 1:
            labels = ", ".join(sorted({r.label for r in rows if r.label}))
            yield Finding(
                "label_conflict", rows[0].id, f"{others}, with the labels {labels}", "find out which label is right"
            )


def _near_duplicates(manifest: Manifest, found: Sequence[FileFacts]) -> Iterator[Finding]:
    """Images, or videos by all three frames, that look alike but differ in bytes; one finding for an item.

    They are reported across splits, and within a split if their labels differ.
    """
    rows = manifest.rows
    content, path, label = map(
        _numbered, ((s.sha256 for s in found), (r.path for r in rows), (r.label or "" for r in rows))
    )
    labelled = np.array([bool(r.label) for r in rows])
    for frames in sorted({len(s.hashes) for s in found} - {0}):
        parts: dict[str, list[int]] = defaultdict(list)
        for i, (row, facts) in enumerate(zip(rows, found, strict=True)):
            if len(facts.hashes) == frames:
                parts[row.split or ""].append(i)
        for members in parts.values():
            for i, others, values in similar(found, members, members):
                differ = labelled[others] & labelled[i] & (label[others] != label[i]) & (path[others] != path[i])
                if at := np.flatnonzero(differ & (others > i) & (content[others] != content[i])).tolist():
                    one, other, value = rows[i], rows[others[at[0]]], values[at[0]]
                    text = f"label {one.label}, looks like {other.id}, label {other.label} (correlation {value:.3f})"
                    fix = "look at them and find out which label is right"
                    yield Finding("near_label_conflict", one.id, text + _more(at), fix)
        for a, b in combinations(sorted(filter(None, parts), key=lambda s: len(parts[s])), 2):
            for i, others, values in similar(found, parts[a], parts[b]):
                if at := np.flatnonzero(content[others] != content[i]).tolist():
                    text = f"in {a} looks like {rows[others[at[0]]].id} in {b} (correlation {values[at[0]]:.3f})"
                    fix = "look at them; keep them in one split if they are the same image"
                    yield Finding("near_duplicate_across_splits", rows[i].id, text + _more(at), fix)


def _numbered(values: Iterable[str]) -> np.ndarray:
    """For each value the number of its first appearance among the different ones."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values])


def _more(found: Sequence[int]) -> str:
    return f" and {len(found) - 1} more" if len(found) > 1 else ""


def _name_findings(manifest: Manifest) -> Iterator[Finding]:
    def short(row: Row) -> str:
        path = Path(row.path)
        return key(path.relative_to(manifest.root).as_posix() if path.is_relative_to(manifest.root) else row.path)

    named: dict[str, set[str]] = defaultdict(set)
    for row in manifest.rows:
        named[short(row)].add(row.path)
    for name, paths in named.items():
        if len(paths) > 1:
            files = some(sorted(Path(p).name for p in paths))
            yield Finding("name_collision", name, f"{files} differ in their extension only", "rename all but one")
    listed: dict[Any, list[Row]] = defaultdict(list)
    for row in manifest.rows:
        listed[row.path, row.start, row.end, row.box].append(row)
    for rows in listed.values():
        if len(rows) == 1:
            continue
        first = rows[0].id
        yield Finding("listed_twice", first, f"is listed {len(rows)} times in the table", "keep one of its lines")
        labels, splits, groups = ({str(v) for v in x if v} for x in zip(*((r.label, r.split, r.group) for r in rows)))
        if len(labels) > 1:
            text = f"is listed with the labels {', '.join(sorted(labels))}"
            yield Finding("label_conflict", first, text, "find out which label is right")
        if len(splits) > 1:
            fix = "keep it in one split: else a network is tested on what it was trained on"
            yield Finding("duplicate_across_splits", first, f"is listed in the splits {', '.join(sorted(splits))}", fix)
        if len(groups) > 1:
            text = f"is listed with the groups {', '.join(sorted(groups))}"
            yield Finding("listed_twice", first, text, "keep the line with the right group")


def _class_and_group_findings(manifest: Manifest) -> Iterator[Finding]:
    count = Counter((r.split, r.label) for r in manifest.rows if r.label)
    for name in manifest.classes:
        if not any(label == name for _, label in count):
            yield Finding("empty_class", name, "no item has this class", "add items, or remove the class")
            continue
        for split in manifest.splits:
            if any(s == split for s, _ in count) and not count[split, name]:
                text = f"no item of this class in {split}"
                yield Finding("empty_class", name, text, f"move items to {split}, or leave the class out")
    people: dict[str, set[str]] = defaultdict(set)
    for row in manifest.rows:
        if row.group is not None and row.split is not None:
            people[row.group].add(row.split)
    for person, splits in people.items():
        if len(splits) > 1:
            text = f"the same group is in {', '.join(sorted(splits))}"
            yield Finding("group_across_splits", person, text, "keep each person or film in one split")


def _count_findings(manifest: Manifest) -> Iterator[Finding]:
    for part, expected, present in differences(manifest):
        text = f"{present} items, and {manifest.protocol} has {expected}"
        yield Finding("count", part, text, "fetch the missing items, or report the number of items with every result")


def _store_findings(manifest: Manifest, found: Sequence[FileFacts]) -> Iterator[Finding]:
    present, written = _content(manifest, found), store.open_store(manifest.root).meta["content_sha256"]
    if present != written and not any(code in ("damaged", "broken") for s in found for code, _ in s.faults):
        text = f"content sha256 {present[:16]}, but {written[:16]} was written"
        yield Finding("damaged", manifest.name, text, _FIXES["damaged"])


def _no_face_notes(manifest: Manifest, found: Sequence[FileFacts]) -> Iterator[Finding]:
    examined = [(r.id, s.face) for r, s in zip(manifest.rows, found, strict=True) if s.face is not None]
    none = [name for name, face in examined if not face]
    if none:
        prepared = store.is_store(manifest.root)
        how = "of the store" if prepared else "examined (a frontal detector, up to three frames each)"
        text = f"no face in {len(none)} of {len(examined)} items {how}: {some(none)}"
        yield Finding("no_face", manifest.name, text, "")


def _notes(manifest: Manifest) -> list[Finding]:
    notes = []
    note = partial(Finding, fix="")
    count = Counter(r.label for r in manifest.rows if r.label)
    if count and max(count.values()) >= IMBALANCE * min(count.values()):
        (largest, n), (smallest, m) = count.most_common()[0], count.most_common()[-1]
        text = (
            f"{largest} has {n} items and {smallest} {m}: read UAR beside WAR, and compare --prior train with uniform"
        )
        notes.append(note("imbalance", manifest.name, text))
    if len(manifest.splits) > 1 and all(r.group is None for r in manifest.rows):
        text = "no column group, identity, actor, subject or speaker: a person in two splits cannot be found"
        notes.append(note("no_group", manifest.name, text))
    plain = sum(not r.label and r.votes is None and r.valence is None and "va_file" not in r.extra for r in manifest)
    if plain:
        notes.append(note("unlabelled", manifest.name, f"{plain} items have no label, votes, valence or arousal"))
    if manifest.protocol == "folder" and not store.is_store(manifest.root):
        other = [p for p in manifest.root.rglob("*") if p.is_file() and p.suffix.lower() not in MEDIA]
        inside = [(p, p.relative_to(manifest.root).parts) for p in other]
        other = [p for p, parts in inside if len(parts) > 1 and not any(map(of_the_system, parts)) and not _known(p)]
        if other:
            names = some(p.relative_to(manifest.root).as_posix() for p in sorted(other))
            notes.append(note("ignored_files", manifest.name, f"not media files, so they were not read: {names}"))
    return notes


def _known(path: Path) -> bool:
    """Whether a file that is not media belongs to a data set."""
    return path.name.endswith(".va.csv") or path.name == "n_frames"
