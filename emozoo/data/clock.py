"""The clock of a media file: time stamps as they are stored, seconds as they are shown.

A camera whose clock is set while it records stores a gap of hours, or of decades, between two frames. Such a jump is
closed, so that what follows is shown one step later. A long gap that the file explains stays: between the frames of
a screen recording, or where the audio goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from emozoo.data.container import Warn

LONG_GAP_S = 300.0  # a shorter gap is never taken for a jump of the clock
RARE = 100  # nor is a gap of fewer than this many usual steps of the file
BACK_S = 1.0  # a time stamp that runs back by more than this, and by more than codecs reorder, starts a new count
REORDER = 16  # frames; no codec reorders more


class Jump(NamedTuple):
    """A jump of a clock. ``before``, ``after``: stored seconds; ``closed``: seconds removed, below 0 if it ran back."""

    before: float
    after: float
    closed: float


class Clock(NamedTuple):
    """Converts stored to shown seconds. ``zero``: stored time of the first frame; ``length``: shown one of the last."""

    zero: float
    length: float
    jumps: tuple[Jump, ...] = ()

    def shown(self, stored: float) -> float:
        """Seconds after the first frame."""
        return stored - self.zero - sum(j.closed for j in self.jumps if stored > j.after - j.closed / 2)


class Mended(NamedTuple):
    """Times whose jumps are closed.

    ``stamps`` float64 (N,): ascending seconds. ``jumps``: those closed; ``at``: the stamp that follows each jump.
    """

    stamps: np.ndarray
    jumps: tuple[Jump, ...]
    at: tuple[float, ...]

    def warnings(self) -> list[Warn]:
        if not self.jumps:
            return []
        by, where, n = self.jumps[0].closed, self.at[0], len(self.jumps)
        way = "ahead" if by > 0 else "back"
        more = f", and {n - 1} more times" if n > 1 else ""
        text = f"the clock of the file jumps {way} by {abs(by):.6g} s at {where:.2f} s{more}; the frames follow on"
        return [Warn("time_jump", text)]


def close_jumps(times: np.ndarray, covered: Callable[[float, float], bool] = lambda a, b: False) -> Mended:
    """Ascending seconds (N,), with their jumps closed to the usual step; the first stays as it is.

    A gap is a jump when it is long (more than five minutes, more than a hundred usual steps), longer than all else that
    the file lasts, and not ``covered``, that is: nothing else in the file, as its audio, goes on between both sides.
    """
    steps = np.diff(times)
    usual = float(np.median(steps)) if len(steps) else 0.0
    at = np.flatnonzero(steps > max(LONG_GAP_S, RARE * usual))
    explained = float(steps.sum() - steps[at].sum())
    jumps: list[int] = []
    for i in at[np.argsort(steps[at], kind="stable")].tolist():
        if steps[i] > explained and not covered(float(times[i]), float(times[i + 1])):
            jumps.append(i)
        else:
            explained += float(steps[i])
    jumps.sort()
    parts = np.split(times, [i + 1 for i in jumps])
    for k, part in enumerate(parts[1:], 1):
        parts[k] = parts[k - 1][-1] + usual + (part - part[0])  # in this order: sums of huge times lose fractions
    stamps = np.concatenate(parts)
    closed = tuple(Jump(float(times[i]), float(times[i + 1]), float(steps[i]) - usual) for i in jumps)
    return Mended(stamps, closed, tuple(float(stamps[i + 1]) for i in jumps))


def follow_on(times: Sequence[float | None], rate: float) -> Mended:
    """Stored seconds in the order in which frames are shown, where some are missing, repeated or run back.

    Times that run back by a few frames stand in the order of decoding: they are sorted. A time that lies further back,
    as after a clock was set back, is moved to one usual step after the last, and later times are moved with it.
    A missing time is a usual step after the last, a repeated one a fraction of it. Where most are missing or repeated,
    frames come at ``rate``.
    """
    if 2 * len({t for t in times if t is not None}) < len(times):
        return Mended(np.arange(len(times)) / rate, (), ())
    ahead = [b - a for a, b in pairwise(times) if a is not None and b is not None and b > a]
    usual = float(np.median(ahead)) if ahead else 1 / rate
    parts: list[list[float | None]] = [[]]
    highest: list[float] = [-math.inf]
    for time in times:
        if time is not None and time < highest[-1] - max(BACK_S, REORDER * usual):
            parts.append([])
            highest.append(-math.inf)
        parts[-1].append(time)
        highest[-1] = highest[-1] if time is None else max(highest[-1], time)
    out: list[float] = []
    back: list[tuple[int, Jump]] = []
    for k, part in enumerate(parts):
        known = sorted(t for t in part if t is not None)
        start = out[-1] + usual if out else 0.0
        if k:
            back.append((len(out), Jump(highest[k - 1], known[0], known[0] - highest[k - 1] - usual)))
        if known:
            start += usual * next(i for i, t in enumerate(part) if t is not None) - known[0]
        sorted_times = iter(known)
        for time in part:
            following = out[-1] + usual if out else 0.0
            shown = following if time is None else next(sorted_times) + start
            out.append(shown if not out or shown > out[-1] else out[-1] + usual / 8)
    mended = close_jumps(np.array(out))
    at = [float(mended.stamps[i]) for i, _ in back]
    return Mended(mended.stamps, (*(j for _, j in back), *mended.jumps), (*at, *mended.at))
