"""Whether what the package has tells one person from another: could tracks be linked across cuts?

    python benchmarks/identity.py

Compares clips of the talking people of ``javased_video`` (six of each, one frame a third), and photographs of
``faces_lfw5`` of people of its part val with two or more, by the cosine of the features of a model's face encoder (the
mean over frames), and, of the clips, by the overlap of the colors of head and shoulders. Writes
``benchmarks/results/identity.csv``: pairs of one person and of two, area under the ROC curve, and how many of the pairs
of one person are found where 2 % of the others are taken for one. That threshold is chosen on the very pairs that are
counted, so these numbers are upper bounds. Needs the real material (``EMOZOO_SHARED``).
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pandas as pd
import torch

from emozoo import files
from emozoo.data import media
from emozoo.data.clips import ClipReader, to_batch
from emozoo.device import ready
from emozoo.inputs import Frames
from emozoo.recognizer import Recognizer

DATA = "$EMOZOO_SHARED/data"
COLUMNS = ("feature", "material", "people", "same_pairs", "other_pairs", "auc", "found_at_2_percent_wrong")
WRONG = 0.02
CLIPS, PHOTOS = 6, 160  # of each person; in all


def clips() -> Iterator[tuple[str, Frames]]:
    """Actor, and three frames of a clip."""
    root = files.resolve_path(f"{DATA}/javased_video")
    count: Counter[str] = Counter()
    for row in pd.read_csv(root / "manifest.csv", dtype=str).itertuples():
        if row.sentence not in ("01", "03") or count[key := f"{row.actor}-{row.sentence}"] == CLIPS // 2:
            continue
        count[key] += 1
        video = media.open_frames(root / row.path)
        at = [len(video.stamps) * k // 6 for k in (1, 3, 5)]
        yield row.actor, Frames(list(video.frames(at)))
        video.close()


def photographs() -> Iterator[tuple[str, Frames]]:
    """Person, and a photograph."""
    root = files.resolve_path(f"{DATA}/faces_lfw5")
    table = pd.read_csv(root / "manifest.csv", dtype=str).query("split == 'val'")
    several = table.groupby("identity").filter(lambda own: len(own) > 1).groupby("identity").head(4)
    for row in several.head(PHOTOS).itertuples():
        yield row.identity, Frames([media.read_image(root / row.path)[0]])


def encoded(module: Recognizer, frames: Frames) -> np.ndarray:
    """The mean features of the face encoder."""
    with ClipReader("frames", module.spec, images=frames) as reader, torch.inference_mode():
        batch = to_batch([reader.read()], module.spec)
        found = module.encode(batch)["face"][batch.masks["face"]].float().mean(0)
    return found.numpy()


def colors(module: Recognizer, frames: Frames) -> np.ndarray:
    """The root of the shares of hues, saturations and brightness in head and shoulders, so that a cosine compares."""
    with ClipReader("frames", module.spec, images=frames) as reader:
        face = next(iter(reader.tracks), None)
        found = np.zeros((8, 4, 4), dtype=np.float32)
        for time, image in zip(frames.stamps, frames.frames(range(len(frames.stamps)))):
            box = face.box_at(float(time)) if face else None
            if box is not None:
                side = box[2] - box[0]
                x1, y1, x2, y2 = (round(float(v)) for v in box + side * np.array([-0.3, -0.4, 0.3, 0.8]))
                part = cv2.cvtColor(image[max(y1, 0) : y2, max(x1, 0) : x2], cv2.COLOR_RGB2HSV)
                found += cv2.calcHist([part], [0, 1, 2], None, [8, 4, 4], [0, 180, 0, 256, 0, 256])
    return np.sqrt(found / max(float(found.sum()), 1.0)).ravel()


def row(name: str, material: str, people: list[str], features: list[np.ndarray]) -> dict[str, object]:
    unit = np.stack(features)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-9)
    first, second = np.triu_indices(len(unit), 1)
    near = (unit[first] * unit[second]).sum(1)
    same = np.array(people)[first] == np.array(people)[second]
    wins = np.searchsorted(np.sort(near[~same]), near[same]) / (~same).sum()
    return {
        "feature": name, "material": material, "people": len(set(people)), "same_pairs": int(same.sum()),
        "other_pairs": int((~same).sum()), "auc": f"{wins.mean():.3f}",
        "found_at_2_percent_wrong": f"{(near[same] > np.quantile(near[~same], 1 - WRONG)).mean():.3f}",
    }  # fmt: skip


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    module = ready("ceflnet")
    kinds: dict[str, Callable[[Recognizer, Frames], np.ndarray]] = {"encoder": encoded, "colors": colors}
    names = {"encoder": f"encoder of {module.name}", "colors": "colors of head and shoulders"}
    rows = []
    for material, source, wanted in (
        ("javased_video", clips, kinds),
        ("faces_lfw5", photographs, {"encoder": encoded}),
    ):
        people, features = [], defaultdict(list)
        for person, frames in source():
            people.append(person)
            for kind, compute in wanted.items():
                features[kind].append(compute(module, frames))
        rows += [row(names[kind], material, people, found) for kind, found in features.items()]
    files.write_text("benchmarks/results/identity.csv", files.csv_text(rows, COLUMNS))


if __name__ == "__main__":
    main()
