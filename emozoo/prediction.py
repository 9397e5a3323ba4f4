"""The records that a prediction consists of, and their JSON, CSV and one line of text.

A :class:`Prediction` is for one file. It has one :class:`FaceTrack` for each person, which has one :class:`Moment` for
each entry of its timeline. This file imports no torch, so that results can be built and written without it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from os import PathLike
from typing import Any

from emozoo import files
from emozoo.data.faces import Track
from emozoo.data.find import one_line

AGGREGATION = "mean over time of the longest track"

MediaPath = str | PathLike[str]


@dataclass
class Moment:
    """One entry of a timeline: seconds from the start of the file, class probabilities, valence and arousal in [-1, 1].

    ``box`` = x1, y1, x2, y2 of the face in pixels of the upright image, at the middle of the entry. ``label`` is the
    class with the highest probability, None if that is below ``min_confidence``.
    """

    start_s: float
    end_s: float
    scores: dict[str, float]
    valence: float | None = None
    arousal: float | None = None
    box: list[float] | None = None
    min_confidence: float = 0.0

    @property
    def label(self) -> str | None:
        return likeliest(self.scores, self.min_confidence)


@dataclass
class FaceTrack:
    """One face through the file: its timeline, and the means over it.

    A model that needs no face has a single track, which stands for the whole image. ``path`` holds the smoothed boxes
    that the annotated video draws; it is not part of the JSON.
    """

    id: int
    label: str | None
    scores: dict[str, float]
    timeline: list[Moment]
    path: Track | None = None


@dataclass
class Prediction:
    """The prediction of one model for one file.

    ``file`` is the path as it was given, or ``<array>``, ``<image>`` or ``<frames>`` for images in memory. ``label``,
    ``scores``, ``valence`` and ``arousal`` are means over the track with most face frames; None for what the model
    does not predict. ``error`` is None, or ``{"code", "text"}`` for a file that cannot be read, which has no result.
    ``options``: what was asked for beside the model, such as ``smooth_s``; it is in the JSON only where there is any.
    """

    file: str
    model: str
    sha256: str
    detector: str | None
    classes: list[str]
    streams_used: list[str] = field(default_factory=list)
    duration_s: float | None = None
    fps: float | None = None
    label: str | None = None
    scores: dict[str, float] | None = None
    valence: float | None = None
    arousal: float | None = None
    tracks: list[FaceTrack] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)
    error: dict[str, str] | None = None
    options: dict[str, float] = field(default_factory=dict)

    @property
    def timeline(self) -> list[Moment]:
        """The timeline of the track with most face frames."""
        return self.tracks[0].timeline if self.tracks else []

    def to_dict(self) -> dict[str, Any]:
        """Plain types in the documented order (schema 1)."""
        return {
            "schema": 1,
            "file": self.file,
            "model": self.model,
            "sha256": self.sha256,
            "detector": self.detector,
            "streams_used": self.streams_used,
            "classes": self.classes,
            "duration_s": _rounded(self.duration_s),
            "fps": _rounded(self.fps),
            "label": self.label,
            "scores": _rounded(self.scores),
            "valence": _rounded(self.valence),
            "arousal": _rounded(self.arousal),
            "aggregation": AGGREGATION,
            **({"options": self.options} if self.options else {}),
            "tracks": [
                {
                    "id": t.id,
                    "label": t.label,
                    "scores": _rounded(t.scores),
                    "timeline": [
                        {k: _rounded(v) for k, v in asdict(m).items() if k != "min_confidence"} for m in t.timeline
                    ],
                }
                for t in self.tracks
            ],
            "warnings": self.warnings,
            "error": self.error,
        }

    def to_json(self, indent: int | None = None) -> str:
        """JSON on one line, or indented. Bytes of a file name that are not text become escapes such as \\udce9.

        ``os.fsencode(json.loads(line)["file"])`` gives the name back.
        """
        separators = (",", ":") if indent is None else None
        text = json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
        return text.encode(errors="backslashreplace").decode()

    def to_csv(self, path: MediaPath) -> None:
        """Writes one line per track and moment: times, label, a column per class, valence, arousal, box in pixels.

        Line breaks, control characters and bytes that are not text become escapes in the file name. Text that a
        spreadsheet would run as a formula has a ``'`` before it.
        """
        text = io.StringIO(newline="")
        table = csv.writer(text, lineterminator="\n")
        fixed = ["file", "model", "track", "start_s", "end_s", "label"]
        header = [*fixed, *self.classes, "valence", "arousal", "x1", "y1", "x2", "y2"]
        table.writerow(map(files.csv_cell, header))
        for t in self.tracks:
            for m in t.timeline:
                scores = [_rounded(m.scores[c]) if m.scores else None for c in self.classes]
                row = [one_line(self.file), self.model, t.id, _rounded(m.start_s), _rounded(m.end_s), m.label, *scores]
                row += [_rounded(m.valence), _rounded(m.arousal), *(_rounded(m.box) or [None] * 4)]
                table.writerow(map(files.csv_cell, row))
        files.write_text(path, text.getvalue())

    def summary(self) -> str:
        """The prediction for people: one line of text, and one more for each warning."""
        parts = [in_words(self.scores, self.label, self.valence, self.arousal)]
        if self.duration_s:
            parts.append(f"{self.duration_s:.1f} s")
        if len(self.tracks) > 1:
            parts.append(f"{len(self.tracks)} faces")
        if self.streams_used:
            parts.append(f"streams: {', '.join(self.streams_used)}")
        lines = [f"{one_line(self.file)}: {'; '.join(parts)}"]
        return "\n".join(lines + [f"  {w['code']}: {w['text']}" for w in self.warnings])


def in_words(
    scores: Mapping[str, float] | None, label: str | None, valence: float | None, arousal: float | None
) -> str:
    """What was predicted for a file or a moment, in a few words."""
    parts = []
    if scores:
        first, *rest = sorted(scores, key=scores.__getitem__, reverse=True)[:3]
        others = ", ".join(f"{c} {scores[c]:.2f}" for c in rest)
        parts.append(f"{'no label: ' * (label is None)}{first} {scores[first]:.2f} ({others})")
    if valence is not None and arousal is not None:
        parts.append(f"valence {valence:+.2f}, arousal {arousal:+.2f}")
    return "; ".join(parts) or "no prediction"


def likeliest(scores: Mapping[str, float], min_confidence: float) -> str | None:
    """The class with the highest score; None without scores, or if that score is below ``min_confidence``."""
    best = max(scores, key=scores.__getitem__, default=None)
    return best if best is not None and scores[best] >= min_confidence else None


def _rounded(value: Any) -> Any:
    """Numbers as they are written: boxes to 0.1 pixels, all else to 0.0001."""
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [round(v, 1) for v in value]
    return round(value, 4) if isinstance(value, float) else value
