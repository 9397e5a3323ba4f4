"""Any folder of class folders: ``root/<class>/<item>`` or ``root/{train,val,test}/<class>/<item>``.

An item is a video, a sound, a picture, or a folder of pictures (the frames of one video); a class may mix them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from emozoo.data.manifest import MEDIA, SPLIT_NAMES, Manifest, Row, class_order, key, unique_ids
from emozoo.errors import DatasetError

SPLITS = {"train": "train", "val": "val", "test": "test", **SPLIT_NAMES}


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def _items(folder: Path) -> Iterator[Path]:
    """Media files and folders of frames, an empty folder too: it is for the reader to say what is wrong with it."""
    for p in sorted(folder.iterdir()):
        if not p.name.startswith(".") and (p.is_dir() or p.suffix.lower() in MEDIA):
            yield p


def load(root: Path, name: str = "folder") -> Manifest:
    """All items below ``root``; classes as in ``classes.txt``, else sorted. Raises DatasetError when there are none."""
    if not root.is_dir():
        raise DatasetError(f"{root}: not a folder; 'folder' looks for {root}/<class>/<clip> (for a table use 'csv')")
    root = root.resolve()
    top = _folders(root)
    split_folders = [p for p in top if p.name.lower() in SPLITS]
    if split_folders and len(split_folders) < len(top):
        others = ", ".join(p.name for p in top if p not in split_folders)
        raise DatasetError(
            f"{root}: beside {', '.join(p.name for p in split_folders)} lie {others}: keep either split folders or "
            "class folders at the top"
        )
    places: list[tuple[str | None, Path]] = [(SPLITS[p.name.lower()], p) for p in split_folders]
    places = places or [(None, root)]
    rows = []
    classes = set()
    for split, place in places:
        for folder in _folders(place):
            classes.add(folder.name)
            for item in _items(folder):
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
    if not rows:
        raise DatasetError(
            f"{root}: no media found as <class>/<clip> or {{train,val,test}}/<class>/<clip>; an item is a file "
            f"with one of {', '.join(sorted(MEDIA))}, or a folder of pictures"
        )
    return Manifest(root.name, root, class_order(root, classes), tuple(unique_ids(rows, root)), protocol="folder")
