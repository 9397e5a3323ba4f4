"""RAVDESS (Livingstone, Russo, PLoS ONE 2018): 24 actors, 8 emotions, spoken or sung; CC BY-NC-SA 4.0.

Everything is in the name, ``MM-VV-EE-II-SS-RR-AA``: modality (01 video with audio, 02 video, 03 audio), channel (01
speech, 02 song), emotion, intensity, statement, repetition, actor. The files may lie at any depth. Of a recording that
is there in several modalities, the video with audio is taken, else the audio, else the silent video.

Protocol: six folds by speaker, fold k tests the actors 4k+1 to 4k+4 (two men, two women). Speech only; ``ravdess:song``
for the songs, which lack disgust and surprise.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from emozoo.data.datasets.layout import missing
from emozoo.data.manifest import MEDIA, Manifest, Row
from emozoo.errors import DatasetError

CLASSES = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
NAME = re.compile(r"(0[123])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])")
CHANNELS = {"speech": "01", "song": "02"}
PREFERENCE = ("01", "03", "02")


def load(root: Path, name: str) -> Manifest:
    """The recordings below ``root``, sorted by actor; ids are ``Actor_AA/<name>``."""
    root = root.resolve()
    channel = name.partition(":")[2] or "speech"
    best: dict[str, tuple[int, str, re.Match[str]]] = {}
    seen = 0
    for folder, _, files in os.walk(root):
        for file in sorted(files):
            stem, suffix = os.path.splitext(file)
            found = NAME.fullmatch(stem) if suffix.lower() in MEDIA else None
            if found is None:
                continue
            seen += 1
            if found[2] != CHANNELS[channel]:
                continue
            rank = PREFERENCE.index(found[1])
            best.setdefault(stem[3:], (rank, os.path.join(folder, file), found))
            if rank < best[stem[3:]][0]:
                best[stem[3:]] = (rank, os.path.join(folder, file), found)
    if not seen:
        raise missing(root, "ravdess", "Actor_01 to Actor_24 with files named like 01-01-03-02-01-01-07.mp4")
    if not best:
        raise DatasetError(f"{root}: holds RAVDESS, but no {channel}: put it there, or take the other channel")
    rows = []
    for _, path, found in best.values():
        actor = int(found[7])
        rows.append(
            Row(
                id=f"Actor_{actor:02d}/{found[0]}",
                path=path,
                label=CLASSES[int(found[3]) - 1],
                fold=(actor - 1) // 4,
                group=f"{actor:02d}",
                extra={"intensity": found[4], "statement": found[5], "repetition": found[6], "modality": found[1]},
            )
        )
    rows.sort(key=lambda r: r.id)
    return Manifest("ravdess", root, CLASSES, tuple(rows), protocol=f"ravdess_{channel}_6fold")
