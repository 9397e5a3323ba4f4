"""FERV39k (Wang et al., CVPR 2022): 38,935 clips of faces in 22 scenes, seven emotions.

``4_setups/All_scenes/train_All.csv`` and ``test_All.csv``: no header, ``Scene/Emotion/id Emotion``. The faces lie in
``2_ClipsforFaceCrop/<Scene>/<Emotion>/<id>/``. There is no official validation part: training draws one. Who is shown
is not known, so the same person may be in training and test.
"""

from __future__ import annotations

from pathlib import Path

from emozoo.data.datasets.layout import class_of, missing, official_list, subfolder, whole_image, within
from emozoo.data.manifest import Manifest, Row
from emozoo.errors import ManifestError

CLASSES = ("Happy", "Sad", "Neutral", "Angry", "Surprise", "Disgust", "Fear")


def load(root: Path, name: str = "ferv39k") -> Manifest:
    """The listed clips in ``root``; ids are ``Scene/Emotion/id``. One without its folder is an item that is missing."""
    root = within(root.resolve(), "FERV39k")
    media_root, lists = subfolder(root, "2_ClipsforFaceCrop"), root / "4_setups" / "All_scenes"
    if media_root is None or not lists.is_dir():
        raise missing(
            root, name, "2_ClipsforFaceCrop/<Scene>/<Emotion>/<id>/*.jpg and 4_setups/All_scenes/train_All.csv"
        )
    rows: dict[str, Row] = {}
    for split in ("train", "test"):
        path = lists / f"{split}_All.csv"
        for number, text in official_list(path):
            listed, _, spelled = text.rpartition(" ")
            scene, emotion, video = ["", "", *listed.split("/")][-3:]
            if not scene:
                raise ManifestError(path, number, f"expected 'Scene/Emotion/id Emotion', found {text!r}")
            label = class_of(spelled, CLASSES, (path, number))
            item, file = f"{scene}/{label}/{video}", media_root / scene / emotion / video
            if item in rows:
                raise ManifestError(path, number, f"{item} is in the {rows[item].split} list already: fetch both again")
            rows[item] = Row(item, str(file), label, split=split, box=whole_image(file), extra={"scene": scene})
    return Manifest("ferv39k", root, CLASSES, tuple(rows.values()), protocol="ferv39k_all_scenes")
