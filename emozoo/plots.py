"""The figure of a prediction: class probabilities, valence and arousal over time.

An emotion has the same color for every model. The colors can be told apart with any kind of color vision (Okabe and
Ito, 2008); names and numbers stand beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from emozoo.data import media
from emozoo.data.find import MARK, one_line
from emozoo.errors import VideoError
from emozoo.files import replacing
from emozoo.labels import canonical, circumplex_point
from emozoo.prediction import FaceTrack, Moment, Prediction

COLORS = {
    "anger": "#D55E00",
    "disgust": "#009E73",
    "fear": "#8E5AA8",
    "happiness": "#F0B429",
    "neutral": "#A8ADB5",
    "sadness": "#0072B2",
    "surprise": "#56B4E9",
    "contempt": "#5C4A3D",
    "calm": "#B9D7C4",
}
SPARE = ("#CC79A7", "#0B6E4F", "#C9A227", "#3D5A80", "#EE9B83", "#6B705C", "#9D4EDD", "#2A9D8F")
VALENCE, AROUSAL = "#0072B2", "#D55E00"
INK, FAINT = "#1F2430", "#6B7280"
MAX_PANELS = 4
THUMBNAILS = 9
WIDTH = 9.0  # inches, so that the text can be read where the figure is shown 640 pixels wide
STRIP = 0.61  # side of a thumbnail, inches
ACTED = 0.22  # height of the strip of acted emotions, inches
TEXT, SMALL = 10, 9  # points
Acted = Sequence[tuple[float, float, str]]  # start and end in seconds, and what was acted then


def colors(classes: Sequence[str]) -> dict[str, str]:
    """A color for each class: that of the emotion; for other classes, spare colors in order."""
    spare = iter(SPARE * (1 + len(classes) // len(SPARE)))
    return {c: COLORS.get(canonical(c)) or next(spare) for c in classes}


# -- the figure ----------------------------------------------------------------------------------------------------


def timeline(prediction: Prediction, path: Path, acted: Acted = ()) -> None:
    """Draws class probabilities, valence and arousal over time, thumbnails of the face, and the means over the file.

    ``acted``: what is known to be shown, ``(start, end, class)`` in seconds; a strip above the timeline.
    ``path`` is written whole or not at all. Raises VideoError for a prediction without a result.
    """
    if not prediction.tracks:
        raise VideoError(prediction.file, "there is no prediction to draw", "no_answer")
    emotion = [t for t in prediction.tracks if t.scores][:MAX_PANELS]
    va = prediction.valence is not None
    strip = _thumbnails(prediction)
    heights = [2.3 if len(emotion) == 1 else 1.5] * len(emotion) + [2.3] * va
    air = 0.12 + 0.2 * (len(prediction.tracks) > 1)  # inches between strip and panel; more where panels have titles
    known = (ACTED + 0.08) * bool(acted)
    top = 0.92 + (STRIP + air) * bool(strip) + known
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.55 * (len(heights) - 1) + top + 0.5), facecolor="white")
    grid = figure.add_gridspec(
        len(heights), 2, height_ratios=heights, width_ratios=(3.6, 1), left=0.085, right=0.975, wspace=0.27,
        hspace=0.55 * len(heights) / sum(heights), top=1 - top / figure.get_figheight(),
        bottom=0.5 / figure.get_figheight(),
    )  # fmt: skip
    _title(figure, prediction)
    until = max(prediction.duration_s or 0.0, prediction.timeline[-1].end_s)
    if strip:
        _draw_strip(figure, grid[0, 0].get_position(figure), strip, air + known)
    if acted:
        _draw_acted(figure, grid[0, 0].get_position(figure), acted, until, air)
    for row, t in enumerate(emotion):
        left, right = figure.add_subplot(grid[row, 0]), figure.add_subplot(grid[row, 1])
        _draw_bands(left, t, until, several=len(prediction.tracks) > 1)
        _draw_means(right, t)
    if va:
        _draw_va(figure.add_subplot(grid[-1, 0]), prediction.timeline, until)
        _draw_plane(figure.add_subplot(grid[-1, 1]), prediction.timeline)
    save_figure(figure, path)


def _title(figure: Figure, prediction: Prediction) -> None:
    height = figure.get_figheight()
    result = []
    if prediction.label and prediction.scores:
        result.append(f"{prediction.label} {prediction.scores[prediction.label]:.2f}")
    elif prediction.scores:
        result.append("no label")
    if prediction.valence is not None and prediction.arousal is not None:
        result.append(f"valence {prediction.valence:+.2f}, arousal {prediction.arousal:+.2f}")
    write_text(figure, 0.975, 1 - 0.3 / height, "   ".join(result), fontsize=14, ha="right")
    name, most = one_line(Path(prediction.file).name), 62 - len("   ".join(result))
    name = name if len(name) <= most else f"{name[: most - 15]} … {name[-12:]}"
    write_text(figure, 0.085, 1 - 0.3 / height, name, fontsize=14, fontweight="bold")
    notes = [one_line(prediction.model), f"streams: {', '.join(prediction.streams_used)}"]
    if prediction.detector:
        notes.append(f"faces by {prediction.detector}")
    hidden = len(prediction.tracks) - MAX_PANELS
    if hidden > 0 and prediction.label:
        notes.append(f"{hidden} more faces not drawn")
    notes += [w["code"].replace("_", " ") for w in prediction.warnings]
    write_text(figure, 0.085, 1 - 0.58 / height, " · ".join(notes), fontsize=SMALL, color=FAINT)


def write_text(figure: Figure, x: float, y: float, text: str, **how: Any) -> None:
    """Writes text without math: a dollar sign in a name begins no formula."""
    figure.text(x, y, text, **{"va": "center", "color": INK, "parse_math": False, **how})


def plain_axes(ax: Axes) -> None:
    """Draws two sides and small ticks. It sets colors here, since threads share the settings of matplotlib."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for spine in ax.spines.values():
        spine.set_edgecolor(FAINT)
    ax.tick_params(length=3, labelsize=SMALL)
    ax.tick_params(axis="x", colors=FAINT)


def _span(ax: Axes, until: float) -> None:
    ax.set_xlim(0, until or 1)
    if not until:
        ax.set_xticks([])
        ax.set_xlabel("a still image", fontsize=SMALL, color=FAINT)


def _thumbnails(prediction: Prediction) -> list[np.ndarray]:
    """RGB squares of the main face, or of the middle of the image, evenly over the file; none for an audio file."""
    count = min(THUMBNAILS, max(1, round((prediction.duration_s or 0) / 0.3)))
    until = prediction.duration_s or 0.0
    times = [(i + 0.5) * until / count for i in range(count)]
    face = prediction.tracks[0].path
    spots: list[tuple[float, Any]] = [
        (t, face.box_at(t) if face is not None else _nearest_box(prediction.timeline, t)) for t in times
    ]
    strip = []
    try:
        images = media.open_frames(prediction.file)
    except VideoError:  # an audio file
        return []
    try:
        whole = np.flatnonzero(images.check(0, len(images.stamps) - 1)) if len(images.stamps) < 3000 else None
        stamps = images.stamps if whole is None else images.stamps[whole]
        at = [int(np.abs(stamps - t).argmin()) for t, _ in spots]
        indices = at if whole is None else [int(whole[i]) for i in at]
        for (_, box), index in zip(spots, indices, strict=True):
            strip.append(_square(next(images.frames([index])), box))
    except VideoError:  # damaged where a thumbnail would be
        pass
    finally:
        images.close()
    return strip


def _nearest_box(timeline_: list[Moment], time: float) -> list[float] | None:
    return min(timeline_, key=lambda m: abs((m.start_s + m.end_s) / 2 - time)).box


def _square(image: np.ndarray, box: Any) -> np.ndarray:
    """A square image of the face with some room around it, or of the middle of the image."""
    height, width = image.shape[:2]
    if box is None:
        x, y, half = width / 2, height / 2, min(height, width) / 2
    else:
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        half = 0.62 * max(box[2] - box[0], box[3] - box[1])
    corners = (round(x - half), round(y - half), round(x + half), round(y + half))
    return np.asarray(Image.fromarray(image).crop(corners).resize((160, 160), Image.Resampling.LANCZOS))


def _draw_strip(figure: Figure, below: Bbox, strip: list[np.ndarray], air: float) -> None:
    """Draws thumbnails side by side over the width of the timeline, each at its own time."""
    width, height = figure.get_figwidth(), figure.get_figheight()
    side = STRIP / width
    for i, image in enumerate(strip):
        middle = below.x0 + below.width * (i + 0.5) / len(strip)
        inset = figure.add_axes((middle - side / 2, below.y1 + air / height, side, STRIP / height))
        inset.imshow(image)
        inset.axis("off")


def _draw_acted(figure: Figure, below: Bbox, acted: Acted, until: float, air: float) -> None:
    """Draws what was acted as named blocks in the colors of the classes, right above the timeline."""
    height = figure.get_figheight()
    ax = figure.add_axes((below.x0, below.y1 + air / height, below.width, ACTED / height))
    for (start, end, name), color in zip(acted, (colors([name])[name] for _, _, name in acted), strict=True):
        ax.barh(0, end - start, 1, start, color=color, edgecolor="white", lw=0.7)
        ink = "white" if _dark(color) else INK
        ax.text((start + end) / 2, 0, name, ha="center", va="center", fontsize=TEXT, color=ink, parse_math=False)
    ax.set_xlim(0, until or 1)
    ax.set_ylim(-0.5, 0.5)
    ax.axis("off")
    ax.text(-0.012, 0.5, "acted", transform=ax.transAxes, ha="right", va="center", fontsize=SMALL, color=FAINT)


def _runs(moments: list[Moment]) -> Iterator[list[Moment]]:
    """The parts of the timeline between its gaps."""
    run: list[Moment] = []
    for m in moments:
        if run and m.start_s > run[-1].end_s + 1e-3:
            yield run
            run = []
        run.append(m)
    if run:
        yield run


def _draw_bands(ax: Axes, track: FaceTrack, until: float, several: bool) -> None:
    """Draws probabilities as stacked bands, whose heights add up to 1 at each moment."""
    palette = colors(list(track.scores))
    _span(ax, until)
    for run in _runs(track.timeline):
        edges = np.array([run[0].start_s] + [m.end_s for m in run])
        if edges[-1] <= edges[0]:
            edges = np.array([0.0, 1.0])  # a still has no length
        base = np.zeros(len(run))
        for name, color in palette.items():
            height = np.array([m.scores[name] for m in run])
            ax.stairs(base + height, edges, baseline=base, fill=True, color=color, lw=0)
            ax.stairs(base + height, edges, color="white", lw=0.7)
            _name_band(ax, name, color, edges, base, height)
            base = base + height
    ax.set_ylim(0, 1)
    ax.set_yticks([0, 0.5, 1])
    ax.set_ylabel("probability", fontsize=SMALL, color=FAINT)
    if until:
        ax.set_xlabel("seconds", fontsize=SMALL, color=FAINT, labelpad=1)
    if several:
        ax.set_title(
            f"face {track.id}: {track.label or 'no label'}",
            loc="left",
            fontsize=TEXT,
            pad=4,
            color=INK,
            parse_math=False,
        )
    plain_axes(ax)


def _name_band(ax: Axes, name: str, color: str, edges: np.ndarray, base: np.ndarray, height: np.ndarray) -> None:
    """Writes the name of the class where its band is broadest, if there is room."""
    low, high = ax.get_xlim()
    width = np.diff(edges) / (high - low)
    best = int((height * np.minimum(width, 0.2)).argmax())
    if height[best] <= 0.16:
        return
    first = last = best  # the broad part of the band around it
    while first > 0 and height[first - 1] > 0.16:
        first -= 1
    while last < len(height) - 1 and height[last + 1] > 0.16:
        last += 1
    half = 0.009 * len(name) * (high - low)  # of the name
    left, right = edges[first] + half, edges[last + 1] - half
    if left < right:
        x = min(max((edges[best] + edges[best + 1]) / 2, left), right)
        at = int(np.searchsorted(edges, x, "right")) - 1
        ax.text(
            x,
            base[at] + height[at] / 2,
            name,
            ha="center",
            va="center",
            fontsize=TEXT,
            color="white" if _dark(color) else INK,
            clip_on=True,
            parse_math=False,
        )


def _dark(color: str) -> bool:
    r, g, b = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * r + 0.587 * g + 0.114 * b < 140


def _draw_means(ax: Axes, track: FaceTrack) -> None:
    names = list(track.scores)[::-1]
    palette = colors(names[::-1])
    values = [track.scores[n] for n in names]
    ax.barh(range(len(names)), values, color=[palette[n] for n in names], height=0.7)
    for i, (n, v) in enumerate(zip(names, values, strict=True)):
        weight = "bold" if n == track.label else "normal"
        ax.text(v + 0.02, i, f"{v:.2f}", va="center", fontsize=SMALL, color=INK, fontweight=weight)
    ax.set_yticks(range(len(names)), names, fontsize=SMALL, parse_math=False)
    for label in ax.get_yticklabels():
        label.set_color(INK)
        label.set_fontweight("bold" if label.get_text() == track.label else "normal")
    ax.set_xlim(0, 1.18)
    ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    ax.set_xlabel("mean over time", fontsize=SMALL, color=FAINT, labelpad=1)
    plain_axes(ax)
    ax.tick_params(axis="y", length=0)


def _draw_va(ax: Axes, moments: list[Moment], until: float) -> None:
    _span(ax, until)
    ax.axhline(0, color="#D1D5DB", lw=0.8, zorder=0)
    for name, color in (("valence", VALENCE), ("arousal", AROUSAL)):
        for run in _runs(moments):
            times = [(m.start_s + m.end_s) / 2 for m in run]
            ax.plot(
                times, [getattr(m, name) for m in run], color=color, lw=1.8, marker="o" if len(moments) <= 60 else "",
                ms=3.5, label=name,
            )  # fmt: skip
    lines = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    ax.legend(lines.values(), lines.keys(), loc="lower left", ncols=2, frameon=False, fontsize=SMALL, labelcolor=INK)
    ax.set_ylim(-1.02, 1.02)
    ax.set_yticks([-1, -0.5, 0, 0.5, 1])
    ax.set_ylabel("valence, arousal", fontsize=SMALL, color=FAINT)
    if until:
        ax.set_xlabel("seconds", fontsize=SMALL, color=FAINT, labelpad=1)
    plain_axes(ax)


def _draw_plane(ax: Axes, moments: list[Moment]) -> None:
    """Draws the path through the valence-arousal plane, later moments darker, and where some emotions lie in it."""
    ax.add_artist(matplotlib.patches.Circle((0, 0), 1, fill=False, color="#D1D5DB", lw=1))
    ax.axhline(0, color="#E5E7EB", lw=0.8, zorder=0)
    ax.axvline(0, color="#E5E7EB", lw=0.8, zorder=0)
    for name in ("anger", "calm", "happiness", "sadness", "surprise"):
        point = circumplex_point(name)
        assert point is not None
        ax.text(*point, name, ha="center", va="center", fontsize=7, color=FAINT, alpha=0.75, zorder=1)
    v, a = [m.valence for m in moments], [m.arousal for m in moments]
    ax.plot(v, a, color=FAINT, lw=0.8, alpha=0.6)  # type: ignore[arg-type]
    ax.scatter(v, a, c=range(len(v)), cmap="cividis_r", s=16, zorder=3)  # type: ignore[arg-type]
    ax.set_xlim(-1.08, 1.08)
    ax.set_ylim(-1.08, 1.08)
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("valence →", fontsize=SMALL, color=FAINT, labelpad=2)
    ax.set_ylabel("arousal →", fontsize=SMALL, color=FAINT, labelpad=2)
    for spine in ax.spines.values():
        spine.set_visible(False)


def save_figure(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    with replacing(path) as part:
        kind = path.suffix[1:] or "png"
        figure.savefig(part, dpi=130, format=kind, metadata={"Software": MARK} if kind == "png" else None)
