"""One row of a manifest to one item of a prepared store (:mod:`emozoo.data.store`)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from emozoo.data import store, views
from emozoo.data.clips import ClipReader
from emozoo.data.manifest import Row
from emozoo.data.sampling import nearest
from emozoo.data.store import CROP, WHOLE, AudioSpan, Cover
from emozoo.errors import VideoError
from emozoo.spec import AudioSpec, ClipSpec, StreamSpec

MOST_BYTES = 3 << 30  # of one item: litdata counts bytes in 32 bits


def _spec(cover: Cover) -> ClipSpec:
    """A spec under which ``ClipReader`` finds all that is to be stored."""
    streams = [StreamSpec("face", (cover.face, cover.face))] if cover.face is not None else []
    streams += [StreamSpec("frame", cover.frame)] if cover.frame is not None else []
    for rate in cover.audio[:1]:
        streams.append(StreamSpec("audio", (1, rate), audio=AudioSpec(rate=rate, kind="waveform")))
    return ClipSpec(
        {s.source: s for s in streams}, clips=1, sampling="segments", window_s=1.0,
        detector=cover.detector or "cascade", interpolation=cover.interpolation, align=cover.align,
    )  # fmt: skip


def pack(row: Row, cover: Cover) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The item of a row, and what its line of the table holds. Raises VideoError."""
    with ClipReader.of(row, _spec(cover)) as reader:
        item = dict.fromkeys(store.LEAVES, b"")
        head: dict[str, Any] = {"size": reader.size, "still": False, "warnings": [], "step": 0.0, "sound": []}
        facts: dict[str, Any] = {"frames": 0, "no_face": False}
        if reader.images is not None:
            _pack_images(reader, cover, item, head, facts)
        if reader.audio is not None:
            _pack_audio(reader, cover, item, head)
        item["head"] = json.dumps(head, sort_keys=True).encode()
        size = sum(map(len, item.values()))
        if size > MOST_BYTES:
            raise VideoError(
                row.path, f"an item of {size / 2**30:.1f} GiB is too long: give it start and end, or --rate", "too_long"
            )
        facts["warnings"] = [list(w) for w in reader.warnings]
        return item, facts


def _pack_images(
    reader: ClipReader, cover: Cover, item: dict[str, bytes], head: dict[str, Any], facts: dict[str, Any]
) -> None:
    assert reader.images is not None
    stamps = reader.images.stamps
    stored = reader.offered(reader.start, reader.end)
    if cover.rate and len(stored) > 1:
        wanted = np.arange(stamps[stored[0]], stamps[stored[-1]] + 1e-6, 1 / cover.rate)
        stored = stored[np.unique(nearest(stamps[stored], wanted))]
    track = next(iter(reader.tracks), None) if cover.detector is not None else None
    images, spans, at = bytearray(), np.zeros((len(stored), 2, 2), np.int64), 0
    known: dict[bytes, tuple[int, int]] = {}
    found = 0
    for number, (index, shot) in enumerate(zip(stored.tolist(), reader.shots(stored), strict=True)):
        box = track.box_at(float(stamps[index])) if track else None
        found += box is not None
        known.clear()  # two views of one frame may be one image
        for part, most in ((CROP, cover.face and (cover.face, cover.face)), (WHOLE, cover.frame)):
            if not most:
                continue
            image = shot.image
            if part == CROP and box is not None:
                points = track.points_at(float(stamps[index])) if track and cover.align else None
                image = views.cut(image, box, cover.margin, points)
            data = store.encode(image, most, cover.interpolation)
            if data not in known:
                known[data] = (at, at + len(data))
                images += data
                at += len(data)
            spans[number, part] = known[data]
    head["warnings"] = [list(w) for w in reader.images.warnings]
    head["still"] = type(reader.images).__name__ == "Still"
    if track is not None:
        head["step"] = track.step
        item["track_times"] = np.asarray(track.times, np.float64).tobytes()
        item["track_boxes"] = np.asarray(track.boxes, np.float32).tobytes()
    item["stamps"], item["kept"] = np.asarray(stamps, np.float64).tobytes(), stored.astype(np.int64).tobytes()
    item["spans"], item["pictures"] = spans.tobytes(), bytes(images)
    facts["frames"], facts["no_face"] = len(stored), cover.detector is not None and not found


def _pack_audio(reader: ClipReader, cover: Cover, item: dict[str, bytes], head: dict[str, Any]) -> None:
    assert reader.audio is not None
    parts = []
    warnings: list[Any] = []
    for rate in cover.audio:
        audio = reader.audio if reader.audio.rate == rate else reader.audio_at(rate)
        # The audio of a labelled part ends with it; that of a whole file is stored to its end, even after the frames.
        start, end = audio.offset, audio.offset + audio.duration
        if reader.start > 0:
            start = max(reader.start, start)
        if reader.end < reader.duration - 1e-6:
            end = min(reader.end, end)
        end = max(start, end + 1 / rate)
        samples = audio.read(start, end)
        first = round((start - audio.offset) * rate)
        parts.append(samples.astype(np.float32).tobytes())
        head["sound"].append(list(AudioSpan(rate, first, len(samples), float(audio.offset), float(audio.duration))))
        warnings = [list(w) for w in audio.warnings]
    head["sound_warnings"] = warnings
    item["sound"] = b"".join(parts)
