"""The timeline of a prediction: a file is cut into windows, and the network's outputs for them become moments.

Legend: C = clips in a window, K = classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from emozoo.data import faces
from emozoo.data.clips import ClipReader
from emozoo.data.faces import Track
from emozoo.prediction import FaceTrack, Moment, likeliest


class Window(NamedTuple):
    """One entry of the timeline, ``start`` to ``end``, and the seconds that the network sees for it (None: all)."""

    start: float
    end: float
    read_from: float | None
    read_to: float | None


class WindowOutput(NamedTuple):
    """The network's output for one window: ``scores`` (K,) and ``va`` (C, 2), None for a task that it lacks.

    ``times`` (C,) seconds; ``real`` (C,) bool: whether a clip holds anything that is not masked; ``boxes`` (C, 4).
    """

    window: Window
    scores: np.ndarray | None
    va: np.ndarray | None
    times: np.ndarray
    real: np.ndarray
    boxes: np.ndarray


def cut_windows(duration: float, length: float, every: float, face: Track | None) -> list[Window]:
    """Windows of ``length`` seconds, one every ``every`` seconds; of a face, those in which it is seen.

    A file that is not longer than ``length`` is one window.
    """
    if duration <= length + 1e-6:
        return [Window(0.0, duration, None, None)]
    count = max(1, math.ceil(duration / every - 1e-3))
    windows = []
    for k in range(count):
        start = k * every
        end = duration if k == count - 1 else start + every
        if face is None or (start < face.end and end > face.start):
            first = min(max((start + end - length) / 2, 0.0), duration - length)
            windows.append(Window(start, end, first, first + length))
    return windows


def group_by_frames(reader: ClipReader, windows: list[Window]) -> list[list[Window]]:
    """Groups the windows that show the same frames, so that the network runs once for them, as in slow time lapses."""
    if len(windows) < 2 or reader.images is None or reader.audio is not None:
        return [[w] for w in windows]
    stamps = reader.images.stamps
    groups: dict[tuple[int, int], list[Window]] = {}
    for w in windows:
        start, end = w.read_from or 0.0, reader.duration if w.read_to is None else w.read_to
        lo, hi = (int(i) for i in np.searchsorted(stamps, [start - 1e-6, end - 1e-6]))
        groups.setdefault((lo, hi) if lo < hi else (hi - 1, hi), []).append(w)  # between two frames: the earlier one
    return list(groups.values())


def shows_face(face: Track, window: Window) -> bool:
    """Whether the face has a box somewhere in the window's own entry of the timeline."""
    count = math.ceil(2 * (window.end - window.start) / (face.step or 1.0)) + 1
    times = np.linspace(window.start, window.end, count, endpoint=False)
    return any(face.box_at(float(t)) is not None for t in times)


def longest_stretch(face: Track, window: Window, duration: float) -> tuple[float, float] | None:
    """Start and end in seconds of the longest stretch of a window with the face in it; None without one."""
    start = 0.0 if window.read_from is None else window.read_from
    end = duration if window.read_to is None else window.read_to
    times = face.times[(face.times >= start) & (face.times < end)]
    if not len(times) or not face.step:
        return None
    part = max(np.split(times, np.flatnonzero(np.diff(times) > faces.GAP_S) + 1), key=len)
    return max(start, float(part[0]) - face.step), min(end, float(part[-1]) + face.step)


def moments_of(
    output: WindowOutput, classes: Sequence[str], *, clip_s: float, alone: bool, min_confidence: float
) -> list[Moment]:
    """The moments of one window: a single one, or one per clip.

    There is one per clip if this is the only window of the file (``alone``) and the network gives valence and arousal
    for clips of ``clip_s`` seconds.
    """
    scores = {} if output.scores is None else {c: float(p) for c, p in zip(classes, output.scores, strict=True)}
    window, real = output.window, np.flatnonzero(output.real)

    def moment(start: float, end: float, va: np.ndarray | None) -> Moment:
        valence, arousal = (None, None) if va is None else map(float, va)
        return Moment(start, end, scores, valence, arousal, _box(output, start, end), min_confidence)

    if output.va is None or not len(real):
        return [moment(window.start, window.end, None)]
    if alone and clip_s > 0 and window.end > 0:  # times are the ends of clips
        spans = [(float(max(0.0, output.times[c] - clip_s)), float(output.times[c])) for c in real]
        return [moment(start, end, output.va[c]) for (start, end), c in zip(spans, real, strict=True)]
    inside = [c for c in real if window.start < output.times[c] <= window.end]
    middle = (window.start + window.end) / 2
    nearest = real[np.argmin(abs(output.times[real] - middle))]
    return [moment(window.start, window.end, output.va[inside or [nearest]].mean(0))]


def _box(output: WindowOutput, start: float, end: float) -> list[float] | None:
    """The box of the face at the clip nearest to the middle of an entry; None if no clip has one."""
    known = np.flatnonzero(np.isfinite(output.boxes).all(-1))
    if not len(known):
        return None
    nearest = known[np.argmin(abs(output.times[known] - (start + end) / 2))]
    return [float(x) for x in output.boxes[nearest]]


def smoothed(moments: Sequence[Moment], seconds: float) -> list[Moment]:
    """The moments with scores, valence and arousal averaged over those whose middle is at most half of it away."""
    middles = np.array([(m.start_s + m.end_s) / 2 for m in moments])
    bounds = np.searchsorted(middles, [middles - seconds / 2 - 1e-6, middles + seconds / 2 + 1e-6])
    found = []
    for m, lo, hi in zip(moments, *bounds, strict=True):
        near = moments[lo:hi]
        scores = {c: mean_over_time(near, lambda n, c=c: n.scores[c]) or 0.0 for c in m.scores}  # type: ignore[misc]
        va = mean_over_time(near, lambda n: n.valence), mean_over_time(near, lambda n: n.arousal)
        found.append(replace(m, scores=scores, valence=va[0], arousal=va[1]))
    return found


def mean_over_time(timeline: Sequence[Moment], of: Callable[[Moment], float | None]) -> float | None:
    """The mean of a number over a timeline, weighted by the length of each moment; a still, without length, by 1."""
    pairs = [(value, m.end_s - m.start_s) for m in timeline if (value := of(m)) is not None]
    total = sum(length for _, length in pairs)
    if not pairs:
        return None
    return sum(v * w for v, w in pairs) / total if total > 0 else sum(v for v, _ in pairs) / len(pairs)


def track_of(number: int, moments: list[Moment], face: Track | None) -> FaceTrack:
    """The track of a face with the mean scores over its moments."""
    classes = moments[0].scores
    scores = {c: mean_over_time(moments, lambda m, c=c: m.scores[c]) or 0.0 for c in classes}  # type: ignore[misc]
    return FaceTrack(number, likeliest(scores, moments[0].min_confidence), scores, moments, face)
