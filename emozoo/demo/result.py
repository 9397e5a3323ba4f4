"""What the page shows, as HTML: the result of a file, messages, and the card of a model.

The templates beside this file escape everything that is put into them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from emozoo import catalog, hub, plots, registry, weights
from emozoo.demo.service import Results, looks_at
from emozoo.prediction import FaceTrack, Moment, Prediction

BAND_HEIGHT = 100.0  # units of the drawing that one band of class probabilities is high
# Warnings whose own text is for the command line.
PLAIN = {
    "detector_fallback": "The face detector that belongs to this model is not on this machine, so another one "
    "(cascade) was used, which finds fewer faces. The command `emozoo download --detector yunet` fetches it.",
}


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("emozoo.demo", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined,
    )  # fmt: skip


def message(text: str, kind: str = "error") -> str:
    """A sentence in a frame; ``kind`` is ``error`` or ``hint``."""
    return (
        _templates()
        .from_string('<div class="ez-message ez-{{ kind }}" role="{{ role }}">{{ text }}</div>')
        .render(text=_sentence(text), kind=kind, role="alert" if kind == "error" else "status")
    )


def _sentence(text: str) -> str:
    """The text with a capital letter and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def card(name: str) -> str:
    """What the weights of that name are, what they were trained on, how good they are, and their limits."""
    entry = None if weights.source_of(name) else registry.resolve(name)[1]
    source = weights.source_of(name)
    config = entry.config if entry else hub.read_config(source.folder) if source else {}
    spec = registry.model(config["arch"])
    return (
        _templates()
        .get_template("card.html.j2")
        .render(
            name=entry.name if entry else Path(name).name,
            title=spec.title,
            paper=spec.paper,
            looks_at=looks_at(config),
            seen=registry.seen(config.get("material") or ()),
            trained_on=config.get("trained_on") or "not recorded",
            classes=config.get("classes") or [],
            va="va" in (config.get("tasks") or spec.tasks),
            license=config.get("licence") or "not recorded",
            measured=catalog.results(entry.name) if entry else [],
            limits=config.get("limits") or [],
        )
    )


def result(found: Results) -> str:
    """The result of a file: label, scores, media with a timeline, warnings, attention, and what can be taken away."""
    prediction = found.prediction
    if prediction.error:
        return message(prediction.error["text"])
    best = sorted((prediction.scores or {}).items(), key=lambda pair: pair[1], reverse=True)
    links = [
        ("JSON", found.json), ("CSV", found.csv), ("Explanation", found.explanation),
        ("Video", found.media if _kind(found.media) == "video" else None),
    ]  # fmt: skip
    return (
        _templates()
        .get_template("result.html.j2")
        .render(
            name=prediction.file,
            model=prediction.model,
            streams=", ".join(prediction.streams_used),
            label=prediction.label,
            best=best,
            valence=prediction.valence,
            arousal=prediction.arousal,
            colors=plots.colors(prediction.classes),
            duration=prediction.duration_s or 0.0,
            media=_address(found.media),
            kind=_kind(found.media),
            explanation=_address(found.explanation),
            warnings=[_sentence(PLAIN.get(w["code"], w["text"])) for w in prediction.warnings],
            timeline=_timeline(prediction) if prediction.duration_s and prediction.tracks else None,
            links=[(text, _address(path), path.name) for text, path in links if path is not None],
        )
    )


def _address(path: Path | None) -> str | None:
    """The address of a file relative to the page."""
    return None if path is None else f"gradio_api/file={quote(str(path))}"


def _kind(path: Path | None) -> str | None:
    if path is None:
        return None
    return {".mp4": "video", ".jpg": "image"}.get(path.suffix, "audio") if ".annotated" in path.name else "audio"


# -- the timeline ----------------------------------------------------------------------------------------------------


def _timeline(prediction: Prediction) -> dict[str, Any]:
    """What the timeline draws. Horizontal units: thousandths of the file; vertical: ``BAND_HEIGHT`` for a band."""
    until = prediction.duration_s or 1.0
    main = prediction.timeline
    moments = [[round(m.start_s, 3), round(m.end_s, 3), moment_text(m)] for m in main]
    return {
        "moments": json.dumps(moments, ensure_ascii=False),
        "first": moments[0][2],
        "bands": [_bands(t, until) for t in prediction.tracks if t.scores],
        "lines": _lines(main, until) if prediction.valence is not None else {},
        "va_colors": {"valence": plots.VALENCE, "arousal": plots.AROUSAL},
        "ticks": _ticks(until),
    }


def _bands(track: FaceTrack, until: float) -> list[dict[str, Any]]:
    """The probabilities of each moment of a track on top of each other."""
    found = []
    for m in track.timeline:
        top = 0.0
        for name, p in m.scores.items():
            found.append(
                {
                    "x": 1000 * m.start_s / until, "width": 1000 * (m.end_s - m.start_s) / until,
                    "y": BAND_HEIGHT * top, "height": BAND_HEIGHT * p, "name": name,
                }
            )  # fmt: skip
            top += p
    return found


def _lines(timeline: Sequence[Moment], until: float) -> dict[str, str]:
    """The points of valence and arousal, 1 at the top and -1 at the bottom of a band."""
    return {
        name: " ".join(
            f"{500 * (m.start_s + m.end_s) / until:.1f},{BAND_HEIGHT * (1 - value) / 2:.1f}"
            for m in timeline
            if (value := getattr(m, name)) is not None
        )
        for name in ("valence", "arousal")
    }


def _ticks(until: float) -> list[tuple[float, str]]:
    """At most nine (percent of the width, seconds)."""
    step = next(s for s in (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1e9) if until / s <= 8)
    return [(100 * i * step / until, f"{i * step:g} s") for i in range(int(until / step) + 1)]


def moment_text(moment: Moment) -> str:
    """What is written about a moment: ``3.0 to 4.0 s: happiness 0.91, neutral 0.05``."""
    parts = [f"{c} {p:.2f}" for c, p in sorted(moment.scores.items(), key=lambda pair: -pair[1])[:3]]
    if moment.valence is not None and moment.arousal is not None:
        parts.append(f"valence {moment.valence:+.2f}, arousal {moment.arousal:+.2f}")
    return f"{moment.start_s:.1f} to {moment.end_s:.1f} s: {', '.join(parts)}"
