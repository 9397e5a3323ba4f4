"""Which frames: integers and times in, integers out (numpy alone, no files).

Legend: N = frames that the window offers, C = clips, F = frames in a clip. Every rule returns (C, F) indices. A numpy
``Generator`` means training draws; ``None`` means the one deterministic test sampling.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emozoo.errors import UsageError

# CEFLNet (Liu et al. 2022, public code): clips of 15 positions, 10 apart, in a window that starts at 0..29 (test: 15).
CLIP_LENGTH, CLIP_STRIDE, START_RANGE, TEST_START = 15, 10, 30, 15


class Plan(NamedTuple):
    """``indices`` int64 (C, F) into the stamps; ``mask`` bool (C, F), false where the media does not reach."""

    indices: np.ndarray
    mask: np.ndarray


def nearest(stamps: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Index of the stamp nearest to each time; the earlier one on a tie (within a microsecond)."""
    return np.searchsorted((stamps[1:] + stamps[:-1]) / 2, np.asarray(times) - 1e-6).astype(np.int64)


# --- overlap: CEFLNet, section 6 -------------------------------------------------------------------------------------


def overlap_length(clips: int) -> int:
    """Positions that the media is laid on: 105 for the published 7 clips."""
    return START_RANGE + CLIP_STRIDE * (clips - 1) + CLIP_LENGTH


def overlap(clips: int, frames: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Positions of every frame, (C, F) int64.

    Test: start 15, offsets 0, k, 2k, ... with k = 15 // F. Training: start uniform on 0..29, shared by the clips; in
    each clip F distinct offsets out of 0..14, ascending.
    """
    if not 1 <= frames <= CLIP_LENGTH:
        raise UsageError(f"overlap sampling takes 1 to {CLIP_LENGTH} frames of a clip, not {frames}")
    clip_starts = CLIP_STRIDE * np.arange(clips)[:, None]
    if rng is None:
        return TEST_START + clip_starts + (CLIP_LENGTH // frames) * np.arange(frames)
    offsets = [np.sort(rng.choice(CLIP_LENGTH, frames, replace=False)) for _ in range(clips)]
    return int(rng.integers(START_RANGE)) + clip_starts + np.stack(offsets)


# --- segments: temporal segment networks -----------------------------------------------------------------------------


def segments(n: int, clips: int, frames: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """F consecutive frames out of each of C equal segments, (C, F) int64 indices below ``n``.

    Test: the center of the segment. Training: anywhere inside it. A video of fewer than C * F frames is played again
    from its start until it is long enough.
    """
    padded = max(n, clips * frames)
    length = padded / clips
    first = np.ceil(np.arange(clips) * length - 1e-9).astype(np.int64)
    last = np.maximum(np.floor(np.arange(1, clips + 1) * length + 1e-9).astype(np.int64) - frames, first)
    start = (first + last) // 2 if rng is None else rng.integers(first, last + 1)
    return (np.minimum(start, padded - frames)[:, None] + np.arange(frames)) % n


# --- trailing: Aff-Wild2 ---------------------------------------------------------------------------------------------


def trailing(start: float, end: float, clips: int, frames: int, clip_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Seconds (C, F) and mask (C, F) of clips that follow one another, the last one ending at ``end``.

    The rule of the public code of Praveen et al. (2023) in seconds: a clip offers ``4 F`` evenly spaced positions;
    every 4th is taken, counted back from its last; where the media begins inside the clip every 3rd, 2nd or each one,
    and with fewer than F positions the last is repeated. A clip that ends before ``start`` is masked.
    """
    unit = clip_s / (4 * frames)
    ends = end - clip_s * np.arange(clips - 1, -1, -1)
    times = np.empty((clips, frames))
    # Positions between the start of the media and the end of the clip.
    reached = np.floor((ends - start) / unit + 1e-3).astype(int) + 1
    for c in range(clips):
        positions = int(np.clip(reached[c], 1, 4 * frames))
        back = np.arange(min(positions, frames) - 1, -1, -1) * max(1, min(4, positions // frames))
        times[c] = ends[c] - unit * np.pad(back, (0, frames - len(back)))
    return times, np.broadcast_to((reached > 0)[:, None], times.shape).copy()


# --- the three rules by name ---------------------------------------------------------------------------------------


def plan(
    stamps: np.ndarray,
    sampling: str,
    clips: int,
    frames: int,
    *,
    clip_s: float = 0.0,
    rate: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Plan:
    """Choose frames by their time stamps, so that a variable frame rate changes nothing.

    Args:
        stamps: ascending presentation times in seconds of the frames in the window, at least one.
        sampling: ``overlap``, ``segments`` or ``trailing`` (see :class:`emozoo.spec.ClipSpec`).
        clip_s: seconds of a clip (``trailing``).
        rate: frames per second of consecutive frames (``segments``); 0 = the media's own average.
    """
    first, last = float(stamps[0]), float(stamps[-1])
    real = np.ones((clips, frames), dtype=bool)
    if len(stamps) == 1:
        return Plan(np.zeros((clips, frames), dtype=np.int64), real)
    if sampling == "overlap":
        position = overlap(clips, frames, rng) / (overlap_length(clips) - 1)
        return Plan(nearest(stamps, first + position * (last - first)), real)
    if sampling == "segments":
        rate = rate or (len(stamps) - 1) / (last - first)
        positions = segments(int((last - first) * rate + 0.5) + 1, clips, frames, rng)  # of an even grid in time
        return Plan(nearest(stamps, first + positions / rate), real)
    if rng is not None and last - first > clips * clip_s:  # more media than clips: any frame may be the last
        last = float(rng.choice(stamps[stamps >= first + clips * clip_s]))
    times, mask = trailing(first, last, clips, frames, clip_s)
    return Plan(np.where(mask, nearest(stamps, times), 0), mask)


def label_frame(frames: int, sampling: str) -> int:
    """Which of a clip's ``frames`` carries its label and time: the middle one; with ``trailing`` sampling the last."""
    return frames - 1 if sampling == "trailing" else frames // 2


def subset(have: int, want: int, position: str) -> np.ndarray:
    """Which of a clip's ``have`` sampled frames a stream of ``want`` frames takes.

    ``center``: the middle ones, consecutive. ``all``: evenly spread (all of them when ``want == have``).
    """
    if position == "center":
        return have // 2 - want // 2 + np.arange(want)
    return ((np.arange(want) + 0.5) * have / want).astype(np.int64)
