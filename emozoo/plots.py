"""Predictions as images: the timeline figure and the annotated video.

Colours follow the emotion, not its place in a model's list, and are told apart with any kind of colour vision (Okabe
and Ito, 2008); names and numbers stand beside them all the same.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image, ImageDraw, ImageFont

from emozoo.data import media
from emozoo.data.find import MARK, one_line
from emozoo.errors import VideoError
from emozoo.labels import canonical

if TYPE_CHECKING:
    from emozoo.inference import FaceTrack, Moment, Prediction

COLOURS = {
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
STRIP = 0.85  # side of a thumbnail, inches


def colours(classes: Sequence[str]) -> dict[str, str]:
    """A colour for each class: the emotion's own, and for other words spare ones in order."""
    spare = iter(SPARE * (1 + len(classes) // len(SPARE)))
    return {c: COLOURS.get(canonical(c)) or next(spare) for c in classes}


# -- the figure ----------------------------------------------------------------------------------------------------


def timeline(found: Prediction, path: Path) -> None:
    """Class probabilities and valence/arousal over time, a strip of the face, and the file's means.

    Raises VideoError for a file without an answer; ``path`` appears whole or not at all.
    """
    if not found.tracks:
        raise VideoError(found.file, "there is no answer to draw", "no_answer")
    emotion = [t for t in found.tracks if t.scores][:MAX_PANELS]
    va = found.valence is not None
    strip = _thumbnails(found)
    heights = [2.3 if len(emotion) == 1 else 1.5] * len(emotion) + [2.3] * va
    air = 0.12 + 0.2 * (len(found.tracks) > 1)  # inches between strip and panel; more where panels have titles
    top = 0.92 + (STRIP + air) * bool(strip)
    figure = Figure(figsize=(11, sum(heights) + 0.55 * (len(heights) - 1) + top + 0.5), facecolor="white")
    grid = figure.add_gridspec(
        len(heights), 2, height_ratios=heights, width_ratios=(4.2, 1), left=0.065, right=0.975, wspace=0.16,
        hspace=0.55 * len(heights) / sum(heights), top=1 - top / figure.get_figheight(),
        bottom=0.5 / figure.get_figheight(),
    )  # fmt: skip
    _title(figure, found)
    until = max(found.duration_s or 0.0, found.timeline[-1].end_s)
    if strip:
        _draw_strip(figure, grid[0, 0].get_position(figure), strip, air)
    for row, t in enumerate(emotion):
        left, right = figure.add_subplot(grid[row, 0]), figure.add_subplot(grid[row, 1])
        _draw_bands(left, t, until, several=len(found.tracks) > 1)
        _draw_means(right, t)
    if va:
        _draw_va(figure.add_subplot(grid[-1, 0]), found.timeline, until)
        _draw_plane(figure.add_subplot(grid[-1, 1]), found.timeline)
    _save(figure, path)


def _title(figure: Figure, found: Prediction) -> None:
    height = figure.get_figheight()
    name = one_line(Path(found.file).name)
    name = name if len(name) <= 70 else f"{name[:42]} … {name[-25:]}"
    _text(figure, 0.065, 1 - 0.3 / height, name, fontsize=13, fontweight="bold")
    answer = []
    if found.label and found.scores:
        answer.append(f"{found.label} {found.scores[found.label]:.2f}")
    elif found.scores:
        answer.append("no label")
    if found.valence is not None and found.arousal is not None:
        answer.append(f"valence {found.valence:+.2f}, arousal {found.arousal:+.2f}")
    _text(figure, 0.975, 1 - 0.3 / height, "   ".join(answer), fontsize=13, ha="right")
    notes = [one_line(found.model), f"seen: {', '.join(found.streams_used)}"]
    if found.detector:
        notes.append(f"faces by {found.detector}")
    hidden = len(found.tracks) - MAX_PANELS
    if hidden > 0 and found.label:
        notes.append(f"{hidden} more faces not drawn")
    notes += [w["code"].replace("_", " ") for w in found.warnings]
    _text(figure, 0.065, 1 - 0.58 / height, " · ".join(notes), fontsize=9, color=FAINT)


def _text(figure: Figure, x: float, y: float, text: str, **how: Any) -> None:
    """Text as it is: a dollar sign in a name begins no formula."""
    figure.text(x, y, text, **{"va": "center", "color": INK, "parse_math": False, **how})


def _plain(ax: Axes) -> None:
    """Two sides and small ticks. Colours are set here: matplotlib's own settings are shared by all threads."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for spine in ax.spines.values():
        spine.set_edgecolor(FAINT)
    ax.tick_params(length=3, labelsize=8)
    ax.tick_params(axis="x", colors=FAINT)


def _span(ax: Axes, until: float) -> None:
    ax.set_xlim(0, until or 1)
    if not until:
        ax.set_xticks([])
        ax.set_xlabel("a still image", fontsize=8, color=FAINT)


def _thumbnails(found: Prediction) -> list[np.ndarray]:
    """RGB squares of the main face, or of the image's middle, evenly over the file; none for audio alone."""
    count = min(THUMBNAILS, max(1, round((found.duration_s or 0) / 0.3)))
    until = found.duration_s or 0.0
    times = [(i + 0.5) * until / count for i in range(count)]
    face = found.tracks[0].path
    wanted: list[tuple[float, Any]] = [
        (t, face.box_at(t) if face is not None else _nearest_box(found.timeline, t)) for t in times
    ]
    strip = []
    try:
        images = media.open_frames(found.file)
    except VideoError:  # audio alone
        return []
    try:
        whole = np.flatnonzero(images.check(0, len(images.stamps) - 1)) if len(images.stamps) < 3000 else None
        stamps = images.stamps if whole is None else images.stamps[whole]
        at = [int(np.abs(stamps - t).argmin()) for t, _ in wanted]
        indices = at if whole is None else [int(whole[i]) for i in at]
        for (_, box), index in zip(wanted, indices, strict=True):
            strip.append(_square(next(images.frames([index])), box))
    except VideoError:  # damaged where a thumbnail would be
        pass
    finally:
        images.close()
    return strip


def _nearest_box(timeline_: list[Moment], time: float) -> list[float] | None:
    return min(timeline_, key=lambda m: abs((m.start_s + m.end_s) / 2 - time)).box


def _square(image: np.ndarray, box: Any) -> np.ndarray:
    """The face with some air around it, or the middle of the image."""
    height, width = image.shape[:2]
    if box is None:
        x, y, half = width / 2, height / 2, min(height, width) / 2
    else:
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        half = 0.62 * max(box[2] - box[0], box[3] - box[1])
    corners = (round(x - half), round(y - half), round(x + half), round(y + half))
    return np.asarray(Image.fromarray(image).crop(corners).resize((160, 160), Image.Resampling.LANCZOS))


def _draw_strip(figure: Figure, below: Bbox, strip: list[np.ndarray], air: float) -> None:
    """Thumbnails side by side over the full width of the timeline, each at its own time."""
    width, height = figure.get_figwidth(), figure.get_figheight()
    side = STRIP / width
    for i, image in enumerate(strip):
        middle = below.x0 + below.width * (i + 0.5) / len(strip)
        inset = figure.add_axes((middle - side / 2, below.y1 + air / height, side, STRIP / height))
        inset.imshow(image)
        inset.axis("off")


def _runs(moments: list[Moment]) -> Iterator[list[Moment]]:
    """Stretches of the timeline without a gap."""
    run: list[Moment] = []
    for m in moments:
        if run and m.start_s > run[-1].end_s + 1e-3:
            yield run
            run = []
        run.append(m)
    if run:
        yield run


def _draw_bands(ax: Axes, track: FaceTrack, until: float, several: bool) -> None:
    """Probabilities as stacked bands: at each moment their heights add up to 1."""
    palette = colours(list(track.scores))
    _span(ax, until)
    for run in _runs(track.timeline):
        edges = np.array([run[0].start_s] + [m.end_s for m in run])
        if edges[-1] <= edges[0]:
            edges = np.array([0.0, 1.0])  # a still has no length
        base = np.zeros(len(run))
        for name, colour in palette.items():
            height = np.array([m.scores[name] for m in run])
            ax.stairs(base + height, edges, baseline=base, fill=True, color=colour, lw=0)
            ax.stairs(base + height, edges, color="white", lw=0.7)
            _name_band(ax, name, colour, edges, base, height)
            base = base + height
    ax.set_ylim(0, 1)
    ax.set_yticks([0, 0.5, 1])
    ax.set_ylabel("probability", fontsize=8, color=FAINT)
    if until:
        ax.set_xlabel("seconds", fontsize=8, color=FAINT, labelpad=1)
    if several:
        ax.set_title(
            f"face {track.id}: {track.label or 'no label'}", loc="left", fontsize=9, pad=4, color=INK, parse_math=False
        )
    _plain(ax)


def _name_band(ax: Axes, name: str, colour: str, edges: np.ndarray, base: np.ndarray, height: np.ndarray) -> None:
    """Writes the class into the broadest place of its band, where there is one."""
    width = np.diff(edges) / (ax.get_xlim()[1] - ax.get_xlim()[0])
    best = int((height * np.minimum(width, 0.2)).argmax())
    reach = [i for i in range(len(height)) if abs(i - best) <= 2 and height[i] > 0.16]
    if height[best] > 0.16 and width[reach].sum() > 0.012 * len(name) and best in reach:
        ax.text(
            (edges[best] + edges[best + 1]) / 2,
            base[best] + height[best] / 2,
            name,
            ha="center",
            va="center",
            fontsize=8,
            color="white" if _dark(colour) else INK,
            clip_on=True,
            parse_math=False,
        )


def _dark(colour: str) -> bool:
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * r + 0.587 * g + 0.114 * b < 140


def _draw_means(ax: Axes, track: FaceTrack) -> None:
    names = list(track.scores)[::-1]
    palette = colours(names[::-1])
    values = [track.scores[n] for n in names]
    ax.barh(range(len(names)), values, color=[palette[n] for n in names], height=0.7)
    for i, (n, v) in enumerate(zip(names, values, strict=True)):
        weight = "bold" if n == track.label else "normal"
        ax.text(v + 0.02, i, f"{v:.2f}", va="center", fontsize=8, color=INK, fontweight=weight)
    ax.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    for label in ax.get_yticklabels():
        label.set_color(INK)
        label.set_fontweight("bold" if label.get_text() == track.label else "normal")
    ax.set_xlim(0, 1.18)
    ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    ax.set_xlabel("mean over time", fontsize=8, color=FAINT, labelpad=1)
    _plain(ax)
    ax.tick_params(axis="y", length=0)


def _draw_va(ax: Axes, moments: list[Moment], until: float) -> None:
    _span(ax, until)
    ax.axhline(0, color="#D1D5DB", lw=0.8, zorder=0)
    for name, colour in (("valence", VALENCE), ("arousal", AROUSAL)):
        for run in _runs(moments):
            times = [(m.start_s + m.end_s) / 2 for m in run]
            ax.plot(
                times, [getattr(m, name) for m in run], color=colour, lw=1.8, marker="o" if len(moments) <= 60 else "",
                ms=3.5, label=name,
            )  # fmt: skip
    lines = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    ax.legend(lines.values(), lines.keys(), loc="lower left", ncols=2, frameon=False, fontsize=8, labelcolor=INK)
    ax.set_ylim(-1.02, 1.02)
    ax.set_yticks([-1, -0.5, 0, 0.5, 1])
    ax.set_ylabel("valence, arousal", fontsize=8, color=FAINT)
    if until:
        ax.set_xlabel("seconds", fontsize=8, color=FAINT, labelpad=1)
    _plain(ax)


def _draw_plane(ax: Axes, moments: list[Moment]) -> None:
    """The path through the valence-arousal plane, later moments darker."""
    ax.add_artist(matplotlib.patches.Circle((0, 0), 1, fill=False, color="#D1D5DB", lw=1))
    ax.axhline(0, color="#E5E7EB", lw=0.8, zorder=0)
    ax.axvline(0, color="#E5E7EB", lw=0.8, zorder=0)
    v, a = [m.valence for m in moments], [m.arousal for m in moments]
    ax.plot(v, a, color=FAINT, lw=0.8, alpha=0.6)  # type: ignore[arg-type]
    ax.scatter(v, a, c=range(len(v)), cmap="cividis_r", s=16, zorder=3)  # type: ignore[arg-type]
    ax.set_xlim(-1.08, 1.08)
    ax.set_ylim(-1.08, 1.08)
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("valence →", fontsize=8, color=FAINT, labelpad=2)
    ax.set_ylabel("arousal →", fontsize=8, color=FAINT, labelpad=2)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replaced(path) as part:
        kind = path.suffix[1:] or "png"
        figure.savefig(part, dpi=130, format=kind, metadata={"Software": MARK} if kind == "png" else None)


class _replaced:
    """A temporary name beside ``path`` that takes its place when all went well, and vanishes when not."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Path:
        start = f".{self.path.stem[:40]}."  # a name may be as long as the file system allows
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=start, suffix=self.path.suffix)
        os.close(handle)
        os.chmod(name, 0o644)
        self.part = Path(name)
        return self.part

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            os.replace(self.part, self.path)
        else:
            self.part.unlink(missing_ok=True)


# -- the annotated video -------------------------------------------------------------------------------------------


def video(found: Prediction, path: Path, progress: Callable[[float], None] | None = None) -> None:
    """The file again as H.264 and AAC, with boxes, labels and score bars; one frame in memory at a time.

    Frames keep their time stamps, so a variable frame rate stays one. Raises VideoError: stills and audio alone have
    no video; a file with an error has nothing to draw.
    """
    if found.error:
        raise VideoError(found.file, found.error["text"], found.error["code"])
    images = media.open_frames(found.file)
    try:
        if len(images.stamps) < 2:
            raise VideoError(found.file, "is a still image", "still")
        path.parent.mkdir(parents=True, exist_ok=True)
        with _replaced(path) as part:
            _write_video(found, images, part, progress or (lambda share: None))
    finally:
        images.close()


def _write_video(found: Prediction, images: media.FrameSource, part: Path, progress: Callable[[float], None]) -> None:
    width, height = images.size
    painter = _Painter(found, width, height)
    unit = Fraction(1, 90000)
    with av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as out:
        out.metadata["comment"] = MARK
        rate = Fraction(media.frame_rate(images.stamps)).limit_denominator(1001)
        stream: Any = out.add_stream("libx264", rate=rate, options={"crf": "19", "preset": "veryfast"})
        stream.width, stream.height = width + width % 2, height + height % 2  # 4:2:0 wants even sides
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", unit
        audio = _Audio(found.file, out, images)
        for index, shown in _whole_frames(images):
            time = float(images.stamps[index])
            image = painter.paint(shown, time)
            if width % 2 or height % 2:
                image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(time / unit), unit
            out.mux(stream.encode(frame))
            audio.write(time)
            progress((index + 1) / len(images.stamps))
        out.mux(stream.encode())
        audio.write(None)


def _whole_frames(images: media.FrameSource) -> Iterator[tuple[int, np.ndarray]]:
    """The frames that decode whole, with their indices, read on without seeking back."""
    count = len(images.stamps)
    for first in range(0, count, 1000):
        last = min(first + 1000, count) - 1
        indices = first + np.flatnonzero(images.check(first, last))
        yield from zip(indices.tolist(), images.frames(indices.tolist()), strict=True)


class _Audio:
    """The file's own audio, encoded again beside the images, never far ahead of them."""

    def __init__(self, path: str, out: Any, images: media.FrameSource) -> None:
        self.frames: Iterator[Any] = iter(())
        self.stream: Any = None
        if os.path.isdir(path):
            return
        header = media.read_header(path)
        if not header.has_audio or header.audio_fault:
            return
        with media.open_container(path) as source:
            inside: Any = source.streams[header.audio_index]
            self.rate = inside.rate if inside.rate in (16000, 22050, 24000, 32000, 44100, 48000) else 48000
            self.layout = "mono" if inside.channels == 1 else "stereo"
        self.out, self.until = out, float(images.stamps[-1]) + 0.1
        self.stream = out.add_stream("aac", rate=self.rate, layout=self.layout)
        self.frames = self._decode(media.AudioTrack(path, self.rate, header, getattr(images, "clock", None)))

    def _decode(self, audio: media.AudioTrack) -> Iterator[Any]:
        """From the first image to the last, frames numbered by their samples; holes are filled with silence."""
        resampler: Any = None
        kind: Any = None
        at = 0
        for begin, joined, frame in audio.frames():
            if begin > self.until:
                break
            if begin < 0:
                continue
            last, kind = kind, (frame.format.name, frame.layout.name, frame.sample_rate)
            if not joined or kind != last:
                place = round(begin * self.rate)
                if resampler is None:
                    at = place
                else:
                    at = yield from self._number(resampler.resample(None), at)
                    at = yield from self._number(self._silence(place - at), at)
                resampler = av.AudioResampler(format="fltp", layout=self.layout, rate=self.rate)
            frame.pts = None
            at = yield from self._number(resampler.resample(frame), at)
        if resampler is not None:
            yield from self._number(resampler.resample(None), at)

    def _number(self, frames: Iterable[Any], at: int) -> Generator[Any, None, int]:
        for frame in frames:
            frame.pts, frame.time_base = at, Fraction(1, self.rate)
            at += frame.samples
            yield frame
        return at

    def _silence(self, samples: int) -> Iterator[Any]:
        channels = 1 if self.layout == "mono" else 2
        for first in range(0, samples, self.rate):
            zeros = np.zeros((channels, min(self.rate, samples - first)), dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(zeros, format="fltp", layout=self.layout)
            frame.sample_rate = self.rate
            yield frame

    def write(self, until: float | None) -> None:
        """Encodes audio up to that time in seconds; None: all that is left."""
        if self.stream is None:
            return
        for frame in self.frames:
            self.out.mux(self.stream.encode(frame))
            if until is not None and frame.pts > until * self.rate:
                return
        if until is None:
            self.out.mux(self.stream.encode())


@lru_cache(maxsize=8)
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", name), size)


@dataclass
class _Patch:
    """Drawn once, laid over many frames: colour (h, w, 3) in [0, 255], and how much it covers, (h, w, 1) in [0, 1]."""

    colour: np.ndarray
    cover: np.ndarray

    @staticmethod
    def of(image: Image.Image) -> _Patch:
        data = np.asarray(image, dtype=np.float32)
        return _Patch(data[..., :3], data[..., 3:] / 255)

    def lay(self, image: np.ndarray, x: int, y: int) -> None:
        """Over the image with its corner at x, y, moved inside where it would stick out."""
        height, width = self.colour.shape[:2]
        x, y = max(0, min(x, image.shape[1] - width)), max(0, min(y, image.shape[0] - height))
        part = image[y : y + height, x : x + width]
        h, w = part.shape[:2]
        part[:] = (part * (1 - self.cover[:h, :w]) + self.colour[:h, :w] * self.cover[:h, :w]).astype(np.uint8)


class _Painter:
    """Draws one prediction over the frames of its file; what does not move is drawn once per moment."""

    def __init__(self, found: Prediction, width: int, height: int) -> None:
        self.found, self.width, self.height = found, width, height
        # Size of the writing in pixels; smaller where several people share the image.
        self.unit = max(10, round(min(height, 0.75 * width) / (34 if len(found.tracks) > 1 else 26)))
        self.line = max(2, round(self.unit / 6))
        self.palette = colours(found.classes)
        self.chip = lru_cache(maxsize=64)(self._chip)
        self.strip = self._strip()
        self.note = None if found.tracks else self._note("no face" if found.detector else "no answer")
        self.cursor = {t.id: 0 for t in found.tracks}

    def paint(self, image: np.ndarray, time: float) -> np.ndarray:
        image = np.array(image, copy=True)
        for track in reversed(self.found.tracks):  # the main face last, on top
            number = self._moment(track, time)
            if number is None:
                continue
            moment = track.timeline[number]
            chip = self.chip(track.id, number)
            box = track.path.box_at(time) if track.path is not None else None
            if box is None:
                if track.path is None:
                    chip.lay(image, self.unit // 2, self.unit // 2)
                continue
            colour = self.palette[moment.label] if moment.label else "#FFFFFF"
            x1, y1, x2, y2 = (round(float(v)) for v in box)
            self._frame(image, x1, y1, x2, y2, colour)
            high = chip.colour.shape[0]
            above = y1 - high - self.line
            below = y2 + self.line + 1
            chip.lay(image, x1 - self.line, above if above >= 0 or below + high > self.height else below)
        if self.strip is not None:
            self._progress(image, time)
        if self.note is not None:
            self.note.lay(image, self.unit // 2, self.unit // 2)
        return image

    def _moment(self, track: FaceTrack, time: float) -> int | None:
        """The entry of the timeline at that time; times only ever go forward."""
        at = self.cursor[track.id]
        while at < len(track.timeline) - 1 and track.timeline[at].end_s <= time:
            at += 1
        self.cursor[track.id] = at
        moment = track.timeline[at]
        alone = len(track.timeline) == 1
        return at if alone or moment.start_s <= time <= moment.end_s + 0.05 else None

    def _frame(self, image: np.ndarray, x1: int, y1: int, x2: int, y2: int, colour: str) -> None:
        """A box with open sides: its corners hold the face without covering it."""
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.uint8)
        t, arm = self.line, max(2 * self.line, round(0.22 * min(x2 - x1, y2 - y1)))

        def fill(left: int, top: int, right: int, bottom: int, value: Any) -> None:
            image[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = value

        for grow, value in ((1, 20), (0, rgb)):  # a dark rim keeps the line visible on any ground
            for x, towards in ((x1, 1), (x2, -1)):
                for y, down in ((y1, 1), (y2, -1)):
                    far_x, far_y = x + towards * arm, y + down * arm
                    fill(min(x, far_x) - grow, y - t // 2 - grow, max(x, far_x) + grow, y - t // 2 + t + grow, value)
                    fill(x - t // 2 - grow, min(y, far_y) - grow, x - t // 2 + t + grow, max(y, far_y) + grow, value)

    def _chip(self, track_id: int, number: int) -> _Patch:
        """Label with its probability, a bar for each of the three likeliest, and valence and arousal where known."""
        moment = next(t for t in self.found.tracks if t.id == track_id).timeline[number]
        u = self.unit
        big, small = _font(u, bold=True), _font(max(8, round(0.78 * u)))
        best = sorted(moment.scores, key=moment.scores.__getitem__, reverse=True)[:3]
        rows: list[tuple[str, float, str, bool]] = [(n, moment.scores[n], self.palette[n], False) for n in best]
        if moment.valence is not None and moment.arousal is not None:
            rows += [("valence", moment.valence, VALENCE, True), ("arousal", moment.arousal, AROUSAL, True)]
        names = self.found.classes + ["valence", "arousal"]
        wide = max(int(big.getlength(n)) for n in names if n in self.found.classes or moment.valence is not None)
        number_width = int(big.getlength("+0.00" if moment.valence is not None else "0.00"))
        bar = (4 if moment.valence is not None else 3) * u
        pad, step = u // 2, round(1.32 * u)
        width = pad + wide + pad + bar + pad + number_width + pad
        height = pad + step * len(rows) + pad // 2
        image = Image.new("RGBA", (width, height), (0, 0, 0, 0))
        draw = ImageDraw.Draw(image)
        draw.rounded_rectangle((0, 0, width - 1, height - 1), radius=u // 3, fill=(18, 21, 28, 205))
        for i, (name, value, colour, signed) in enumerate(rows):
            first = i == 0 and moment.label is not None
            font, ink = (big, "#FFFFFF") if first else (small, "#D7DBE2")
            middle = pad + step * i + step // 2 - u // 8
            draw.text((pad, middle), name, font=font, fill=ink, anchor="lm")
            left, half = pad + wide + pad, max(2, u // 4)
            draw.rectangle((left, middle - half, left + bar, middle + half), fill=(72, 77, 88, 215))
            if signed:
                zero = left + bar // 2
                end = zero + round(bar / 2 * max(-1.0, min(1.0, value)))
                draw.rectangle((min(zero, end), middle - half, max(zero, end), middle + half), fill=colour)
                draw.line((zero, middle - half - 1, zero, middle + half + 1), fill="#C9CED6")
            else:
                draw.rectangle((left, middle - half, left + round(bar * value), middle + half), fill=colour)
            text = f"{value:+.2f}" if signed else f"{value:.2f}"
            draw.text((width - pad, middle), text, font=font, fill=ink, anchor="rm")
        return _Patch.of(image)

    def _note(self, text: str) -> _Patch:
        """A chip for a file without an answer."""
        u, font = self.unit, _font(self.unit, bold=True)
        image = Image.new("RGBA", (int(font.getlength(text)) + u, round(1.8 * u)), (0, 0, 0, 0))
        draw = ImageDraw.Draw(image)
        draw.rounded_rectangle((0, 0, image.width - 1, image.height - 1), radius=u // 3, fill=(18, 21, 28, 205))
        draw.text((u // 2, image.height // 2), text, font=font, fill="#D7DBE2", anchor="lm")
        return _Patch.of(image)

    def _strip(self) -> _Patch | None:
        """The whole file at the lower edge, in the colours of the main track's labels."""
        moments, until = self.found.timeline, self.found.duration_s or 0.0
        if len(moments) < 2 or until <= 0 or not moments[0].scores:
            return None
        high = max(3, self.unit // 3)
        image = Image.new("RGBA", (self.width, high), (18, 21, 28, 120))
        draw = ImageDraw.Draw(image)
        for m in moments:
            left, right = (round(self.width * s / until) for s in (m.start_s, m.end_s))
            draw.rectangle((left, 0, max(left, right - 1), high), fill=self.palette[m.label] if m.label else "#888888")
        return _Patch.of(image)

    def _progress(self, image: np.ndarray, time: float) -> None:
        assert self.strip is not None
        high = self.strip.colour.shape[0]
        self.strip.lay(image, 0, self.height - high)
        x = round(self.width * time / (self.found.duration_s or 1.0))
        image[self.height - 2 * high :, max(0, x - self.line // 2) : x + max(1, self.line // 2)] = 255
