"""Any folder of class folders: ``root/<class>/<item>`` or ``root/{train,val,test}/<class>/<item>``.

An item is a video, an audio file, an image, or a folder of images (the frames of one video); a class may mix them, and
its items may lie in folders of their own, ``<class>/<session>/<item>``, however deep. A folder holds the frames of one
clip where it has images and nothing else, or where most of its images are numbered alike (``frame_0001.jpg``), whatever
lies beside them; any other folder is a session. Folders that a system leaves behind (``@eaDir``, ``__MACOSX``, hidden
ones) are ignored, and an empty class folder is no class.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from emozoo.data.manifest import (
    IMAGES,
    MEDIA,
    Finding,
    Manifest,
    Row,
    class_names,
    key,
    missing,
    of_the_system,
    some,
    split_name,
    unique_ids,
)
from emozoo.errors import DatasetError
from emozoo.labels import BASIC7, canonical


class _Walk:
    """Walks the folders below ``root``; ``findings``: what could not be listed, or was read by a guess."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.findings: list[Finding] = []

    def _say(self, code: str, path: Path, text: str, fix: str) -> None:
        self.findings.append(Finding(code, path.relative_to(self.root).as_posix(), text, fix))

    def listed(self, folder: Path) -> tuple[list[Path], list[Path]] | None:
        """Folders and files in a folder, without those of the system; None (and a finding) where it is closed to us."""
        try:
            with os.scandir(folder) as entries:
                names = sorted(e.name for e in entries if not of_the_system(e.name))
        except OSError as e:
            if folder == self.root:
                raise DatasetError(f"{folder}: cannot be listed ({e.strerror})") from e
            self._say("unreadable", folder, f"the folder cannot be listed ({e.strerror})", "give yourself permission")
            return None
        inside = [folder / n for n in names]
        return [p for p in inside if os.path.isdir(p)], [p for p in inside if not os.path.isdir(p)]

    def items(self, folder: Path) -> list[Path]:
        """The items of a class, sorted: media files and folders of frames, those of its sessions too.

        An empty folder is an item, too: reading it raises the error. No session is read twice, however many links lead
        to it: its items are named by where it really lies, or else by the first link. A link upwards, which would bring
        the items of other classes, is not followed.
        """
        found: list[Path] = []
        seen = {str(p) for lies in (folder, folder.resolve()) for p in lies.parents}
        folders, links = [folder], list[Path]()
        while folders or links:
            path = folders.pop() if folders else links.pop(0)
            real = os.path.realpath(path)
            if real in seen:
                text = "a link to a folder that is read already, or that it lies in, so it is not followed"
                self._say("link_loop", path, text, "delete it")
                continue
            if (inside := self.listed(path)) is None:
                continue
            if path != folder and self._is_clip(path, *inside):
                found.append(path)
                continue
            seen.add(real)
            found += (f for f in inside[1] if f.suffix.lower() in MEDIA)
            for child in inside[0]:
                (links if child.is_symlink() else folders).append(child)
        return sorted(found)

    def _is_clip(self, path: Path, folders: list[Path], files: list[Path]) -> bool:
        """Whether a folder is one item: the frames of a clip, or nothing at all."""
        images = [f for f in files if f.suffix.lower() in IMAGES]
        alike = Counter(re.sub(r"\d+", "0", f.stem) for f in images).most_common(1)
        numbered = bool(alike) and "0" in alike[0][0] and alike[0][1] * 2 > len(images)
        if numbered and len(images) > 1:
            return True
        if folders or any(f.suffix.lower() in MEDIA - IMAGES for f in files):
            return False
        if len(images) > 1:
            text = f"{len(images)} images without numbers are read as the frames of one clip"
            self._say(
                "frames_without_numbers", path, text, "number frames; put separate images right into the class folder"
            )
        return True


def load(root: Path, name: str = "folder") -> Manifest:
    """All items below ``root``; classes as in ``classes.txt``, else sorted. Raises DatasetError when there are none."""
    if not root.is_dir():
        raise DatasetError(f"{root}: not a folder; 'folder' looks for {root}/<class>/<clip> (for a table use 'csv')")
    root = root.resolve()
    walk = _Walk(root)
    top = (walk.listed(root) or ([], []))[0]
    split_folders = [p for p in top if split_name(p.name)]
    if split_folders and len(split_folders) < len(top):
        others = ", ".join(p.name for p in top if p not in split_folders)
        raise DatasetError(
            f"{root}: beside {', '.join(p.name for p in split_folders)} lie {others}: keep either split folders or "
            "class folders at the top"
        )
    parents: list[tuple[str | None, Path]] = [(split_name(p.name), p) for p in split_folders]
    rows: list[Row] = []
    filled: set[str] = set()
    empty: dict[str, Path] = {}
    for split, parent in parents or [(None, root)]:
        folders = top if parent == root else (walk.listed(parent) or ([], []))[0]
        for folder in folders:
            before, closed = len(rows), len(walk.findings)
            for item in walk.items(folder):
                sidecar = item.with_suffix(".va.csv")
                rows.append(
                    Row(
                        id=key(item.relative_to(root).as_posix()),
                        path=str(item),
                        label=folder.name,
                        split=split,
                        extra={"va_file": str(sidecar)} if sidecar.is_file() else {},
                    )
                )
            if len(rows) > before:
                filled.add(folder.name)
            elif len(walk.findings) == closed:
                empty.setdefault(folder.name, folder)
    if not rows:
        raise DatasetError(
            f"{root}: no media found as <class>/<clip> or {{train,val,test}}/<class>/<clip>; an item is a file "
            f"with one of {', '.join(sorted(MEDIA))}, or a folder of images"
            + "".join(f"; {f.item}: {f.text}" for f in walk.findings[:1])
        )
    if not split_folders:
        _refuse_parts(root, top, rows)
    classes, spelled, merged = class_names(root, filled)
    rows = [replace(r, label=spelled[str(r.label)]) for r in rows]
    findings = [*walk.findings, *merged, *_odd_classes(filled, empty, classes)]
    return Manifest(root.name, root, classes, tuple(unique_ids(rows, root)), "folder", findings=tuple(findings))


def _refuse_parts(root: Path, top: list[Path], rows: list[Row]) -> None:
    """Raises DatasetError where every folder at the top holds folders of emotions, so that none of them is a class."""
    known = {*BASIC7, "calm", "contempt"}
    inside = {(str(r.label), Path(r.path).relative_to(root).parts[1]) for r in rows}
    if any(canonical(above) in known or canonical(name) not in known for above, name in inside):
        return
    classes = some(sorted({name for _, name in inside}))
    raise DatasetError(
        f"{root}: {some(p.name for p in top)} hold folders of classes ({classes}): call the folders at the top train, "
        "val and test, put all classes there, or write a table"
    )


def _odd_classes(filled: set[str], empty: dict[str, Path], classes: tuple[str, ...]) -> Iterator[Finding]:
    known = {*classes, *filled}
    for name in sorted(empty.keys() - known):
        files = sum(1 for p in empty[name].iterdir() if not of_the_system(p.name))
        text = f"the folder holds nothing that is read ({files} other files)" if files else "the folder is empty"
        yield Finding("empty_class", name, f"{text}, so it is no class", "add items, or delete the folder")
    for name in sorted(filter(missing, filled)):
        text = f"a class by the name of its folder, though {name!r} is how missing labels are written"
        yield Finding("missing_label", name, text, "rename the folder, or move it out if its items have no label")
