"""Lists of face boxes, ``path,label,x1,y1,x2,y2`` a line without header, plain or gzipped, as published for CAER-S."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from emozoo.data.datasets.layout import Box
from emozoo.data.manifest import key, text_file
from emozoo.errors import ManifestError
from emozoo.labels import canonical


def read_boxes(path: Path, classes: Sequence[str]) -> dict[str, tuple[str, str, Box]]:
    """``split/Class/number`` -> (path, official class, box x1, y1, x2, y2 in pixels, corners included).

    Corners may lie outside the image: boxes are clipped when the image is read. Raises ManifestError for a line of
    another form, whose number does not name the class of its path, or that comes twice with another box.
    """
    official = {canonical(c): i for i, c in enumerate(classes)}
    found: dict[str, tuple[str, str, Box]] = {}
    with text_file(path) as f:
        for number, cells in enumerate(csv.reader(f), 1):
            if not cells:
                continue
            try:
                name, label, corners = cells[0].replace("\\", "/"), int(cells[1]), [float(c) for c in cells[2:]]
                x1, y1, x2, y2 = corners
            except (ValueError, IndexError):
                raise ManifestError(path, number, f"expected path,label,x1,y1,x2,y2, found {','.join(cells)}") from None
            name = "/".join(name.split("/")[-3:])  # lists may begin with the name of the data set
            *above, folder, file = ["", *name.split("/")]
            if official.get(canonical(folder)) != label:
                order = ", ".join(f"{i} {c}" for i, c in enumerate(classes))
                raise ManifestError(path, number, f"{folder} has label {label}; the order is {order}")
            box: Box = (x1, y1, x2, y2)
            item = "/".join([*above, classes[label], key(file)]).lstrip("/")
            if item in found and found[item][2] != box:
                raise ManifestError(path, number, f"{name} comes twice, with two boxes: keep the line of the main face")
            found[item] = (name, classes[label], box)
    return found
