"""Predictions as text for other programs: subtitles for players (SRT), and a tab-delimited table for ELAN."""

from __future__ import annotations

from collections.abc import Iterator

from emozoo.data.find import one_line
from emozoo.errors import VideoError
from emozoo.prediction import Moment, Prediction


def srt(prediction: Prediction) -> str:
    """Subtitles, one for each moment of the main track: label and probability, valence and arousal.

    Raises VideoError for a prediction without a timeline, such as that of a still image.
    """
    _check(prediction)
    entries: list[str] = []
    for m in prediction.timeline:
        start, end = _ms(m.start_s), _ms(m.end_s)
        if end > start:
            text = ", ".join(filter(None, [_label(m, number=True), _valence_arousal(m, "+.2f")]))
            entries.append(f"{len(entries) + 1}\n{_clock(start)} --> {_clock(end)}\n{text}\n")
    return "\n".join(entries)


def elan(prediction: Prediction) -> str:
    """Lines of tier, begin and end in milliseconds, and annotation, with tabs between them and no header.

    Each track has a tier for its labels and one for valence and arousal, where the model predicts these.
    Raises VideoError for a prediction without a timeline, such as that of a still image.
    """
    _check(prediction)
    return "".join(
        f"{tier}\t{_ms(m.start_s)}\t{_ms(m.end_s)}\t{text}\n"
        for tier, m, text in _annotations(prediction)
        if _ms(m.end_s) > _ms(m.start_s)
    )


def _check(prediction: Prediction) -> None:
    if not any(_ms(m.end_s) > _ms(m.start_s) for m in prediction.timeline):
        raise VideoError(prediction.file, "there is no timeline", "no_answer")


def _annotations(prediction: Prediction) -> Iterator[tuple[str, Moment, str]]:
    for track in prediction.tracks:
        who = f"face {track.id}" if any(m.box for m in track.timeline) else "file"
        for m in track.timeline:
            if text := _label(m, number=False):
                yield f"{who} label", m, text
        for m in track.timeline:
            if text := _valence_arousal(m, ".4f"):
                yield f"{who} valence arousal", m, text


def _label(m: Moment, number: bool) -> str:
    if not m.scores:
        return ""
    if m.label is None:
        return "no label"
    return one_line(m.label) + (f" {m.scores[m.label]:.2f}" if number else "")


def _valence_arousal(m: Moment, form: str) -> str:
    return "" if m.valence is None or m.arousal is None else f"valence {m.valence:{form}}, arousal {m.arousal:{form}}"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _clock(ms: int) -> str:
    minutes, ms = divmod(ms, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{ms // 1000:02d},{ms % 1000:03d}"
