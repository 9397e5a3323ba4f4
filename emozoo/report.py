"""The HTML report of a job: one page that needs nothing else, with a line and a timeline for each file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emozoo import files
from emozoo.data.find import MARK, one_line
from emozoo.journal import Line
from emozoo.plots import AROUSAL, VALENCE, colors
from emozoo.summary import faces_of, time_of_labels

WIDTH, BAND, CURVE = 720, 48, 48  # of a timeline, in pixels
DRAWN = 1000  # files with a timeline
BINS = 240  # a longer timeline is drawn as means over so many parts


def write(path: Path, lines: Sequence[Line], about: Mapping[str, Any]) -> None:
    """Writes the report, a file at a time. ``about``: name, sha256, what is known of the weights, and the options."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    template = Environment(
        loader=PackageLoader("emozoo", ""), trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined,
        autoescape=True,
    ).get_template("report.html.j2")  # fmt: skip
    classes = json.loads(lines[0].text())["classes"]
    codes, failures = Counter[str](), Counter[str]()
    labels, seconds, curves = Counter[str](), 0.0, False
    folder = _folder([one_line(line.file) for line in lines])
    for line in lines:
        record = json.loads(line.text())
        curves |= record["valence"] is not None
        codes.update(w["code"] for w in record["warnings"])
        if record["error"]:
            failures[record["error"]["code"]] += 1
        else:
            labels[record["label"] or "no label"] += 1
            seconds += record["duration_s"] or 0.0
    page = template.stream(
        mark=MARK, about=about, palette=colors(classes), classes=classes, count=len(lines), failed=failures.total(),
        failures=failures.most_common(), codes=codes.most_common(), labels=labels.most_common(),
        length=_length(seconds), faces_needed=bool(about["detector"]),
        rows=_rows(lines, classes, folder), valence=VALENCE, curves=curves,
        folder=folder, arousal=AROUSAL, drawn=DRAWN, width=WIDTH, band_height=BAND, curve_height=CURVE,
    )  # fmt: skip
    page.enable_buffering(100)
    with files.replacing(path) as part, part.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(page)


def _rows(lines: Sequence[Line], classes: Sequence[str], folder: str) -> Iterator[dict[str, Any]]:
    palette = colors(classes)
    for number, line in enumerate(lines):
        record = json.loads(line.text())
        time = time_of_labels(record)
        name = one_line(record["file"]).removeprefix(f"{folder}/" if folder else "")
        yield {
            "number": number, "file": name, "label": record["label"],
            "score": (record["scores"] or {}).get(record["label"]), "valence": record["valence"],
            "arousal": record["arousal"], "duration_s": record["duration_s"], "length": _length(record["duration_s"]),
            "faces": faces_of(record), "tracks": len(record["tracks"]), "warnings": record["warnings"],
            "error": record["error"], "time": time, "timeline": _timeline(record, palette) if number < DRAWN else None,
        }  # fmt: skip


def _folder(names: Sequence[str]) -> str:
    """The folder or address that all files lie below; empty where there is none."""
    parts = [name.split("/")[:-1] for name in names]
    shared = 0
    while all(len(p) > shared and p[shared] == parts[0][shared] for p in parts):
        shared += 1
    return "/".join(parts[0][:shared])


def _timeline(record: Mapping[str, Any], palette: Mapping[str, str]) -> dict[str, Any] | None:
    """Shapes of the main track's timeline; None for a file without one, such as a still image."""
    moments = record["tracks"][0]["timeline"] if record["tracks"] else []
    until = max([record["duration_s"] or 0.0, *(m["end_s"] for m in moments)])
    if not moments or not until:
        return None
    bins = _binned(moments, until)
    bands, base = [], [0.0] * len(bins)
    for name in palette if bins[0][2] else ():
        tops = [b + means[name] for b, (_, _, means, _) in zip(base, bins, strict=True)]
        path = "".join(
            f"M{x1:.1f} {BAND * (1 - top):.1f}H{x2:.1f}V{BAND * (1 - low):.1f}H{x1:.1f}Z"
            for (x1, x2, _, _), low, top in zip(bins, base, tops, strict=True)
            if top - low > 0.004
        )
        bands.append({"name": name, "color": palette[name], "path": path})
        base = tops
    curves = []
    for k, (name, color) in enumerate((("valence", VALENCE), ("arousal", AROUSAL))):
        points = [f"{(x1 + x2) / 2:.1f},{CURVE * (1 - va[k]) / 2:.1f}" for x1, x2, _, va in bins if va is not None]
        points = points * 2 if len(points) == 1 else points  # a line of one point is a dot
        curves += [{"name": name, "color": color, "points": " ".join(points)}] * bool(points)
    return {
        "bands": bands, "curves": curves, "width": WIDTH, "height": BAND * bool(bands) + CURVE * bool(curves),
        "until": _length(until),
    }  # fmt: skip


def _binned(
    moments: Sequence[Mapping[str, Any]], until: float
) -> list[tuple[float, float, dict[str, float], tuple[float, float] | None]]:
    """Moments as left and right edge in pixels, mean scores, and mean valence and arousal; neighbors joined if many."""
    step = -(-len(moments) // BINS)
    found = []
    for i in range(0, len(moments), step):
        part = moments[i : i + step]
        means = {name: sum(m["scores"][name] for m in part) / len(part) for name in part[0]["scores"]}
        va = None
        if part[0]["valence"] is not None:
            va = sum(m["valence"] for m in part) / len(part), sum(m["arousal"] for m in part) / len(part)
        edges = part[0]["start_s"] / until * WIDTH, part[-1]["end_s"] / until * WIDTH
        found.append((*edges, means, va))
    return found


def _length(seconds: float | None) -> str:
    """A length of time as 3.2 s, 4:05 or 1:02:03; empty for a still image."""
    if not seconds:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
