"""The figure of an explanation: rows of images with heat and weights, shares over time, audio. It knows no network.

Legend: N = columns, H, W = pixels, h, w = cells of a map, M = mel bins, S = steps or samples.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image

from emozoo.plots import FAINT, INK, plain_axes, save_figure, write_text

COLORS = dict(zip(("face", "scene", "voice"), ("#0072B2", "#E69F00", "#D55E00"), strict=True))
HEAT = matplotlib.colormaps["YlOrRd"]
BAR, EMPTY = "#3D5A80", "#E5E7EB"
WIDTH, LEFT, SIDE, RIGHT = 11.0, 1.15, 2.35, 0.3  # inches: figure, names of rows, bars beside them, margin
CELL, BAR_HEIGHT, GAP = 1.75, 0.16, 0.24  # inches: highest image, bar below it, space between panels
WORDS = 160  # characters in a line of text


@dataclass(frozen=True)
class Cell:
    """An image (H, W, 3) uint8, None where there was none, with ``heat`` (h, w) and ``weight`` in [0, 1] or None.

    ``heat`` is in multiples of the map's average.
    """

    image: np.ndarray | None
    caption: str = ""
    weight: float | None = None
    heat: np.ndarray | None = None


@dataclass(frozen=True)
class Row:
    """Images side by side; with ``edges`` (N + 1,) each stands where its column of a :class:`Band` is.

    ``sides``: what stands beside them, title -> name -> share in [0, 1], stacked.
    """

    name: str
    cells: Sequence[Cell]
    sides: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    edges: np.ndarray | None = None


@dataclass(frozen=True)
class Band:
    """Shares (N,) by name, which add up to 1, as stacked bands over columns that begin and end at ``edges`` (N + 1,).

    ``unit``: of the edges; empty where they mean nothing.
    """

    name: str
    shares: Mapping[str, np.ndarray]
    edges: np.ndarray
    unit: str = "seconds"


@dataclass(frozen=True)
class Signal:
    """Audio from ``start`` to ``end`` seconds: samples (1, S), or a log-mel image (M, S) in dB."""

    name: str
    values: np.ndarray
    start: float
    end: float


Panel = Row | Band | Signal


@dataclass(frozen=True)
class Words:
    """What is written: ``title`` and ``result`` above, ``notes`` below them, ``about`` in sentences."""

    title: str
    result: str
    notes: str
    about: Sequence[str]


def draw(words: Words, panels: Sequence[Panel], path: Path) -> None:
    """Draws the panels below each other; ``path`` is written whole or not at all, its suffix chooses the format."""
    lines = [line for text in words.about for line in textwrap.wrap(text, WORDS)]
    heat = [c.heat for p in panels if isinstance(p, Row) for c in p.cells if c.heat is not None]
    top = 0.75 + 0.19 * len(lines) + 0.2
    bottom = 0.75 if heat else 0.3 if isinstance(panels[-1], Row) else 0.5
    sided = any(isinstance(p, Row) and p.sides for p in panels)
    inner = WIDTH - LEFT - RIGHT - SIDE * sided
    heights = [_height(p, inner) for p in panels]
    figure = Figure(figsize=(WIDTH, top + sum(heights) + GAP * max(0, len(panels) - 1) + bottom), facecolor="white")
    page = _Page(figure, inner)
    page.write(words, lines)
    most = max([2.0, *(float(h.max()) for h in heat)])
    largest = max((c.weight or 0.0 for p in panels if isinstance(p, Row) for c in p.cells), default=0.0)
    y = figure.get_figheight() - top
    for panel, height in zip(panels, heights, strict=True):
        if isinstance(panel, Row):
            page.row(panel, y, height, most, largest)
        elif isinstance(panel, Band):
            page.band(panel, y, height, last=panel is panels[-1])
        else:
            page.signal(panel, y, height)
        y -= height + GAP
    if heat:
        page.scale(most)
    save_figure(figure, path)


def _height(panel: Panel, inner: float) -> float:
    if isinstance(panel, Row):
        return _image_height(panel, inner) + _below(panel)
    return 1.15


def _image_height(row: Row, inner: float) -> float:
    shapes = [c.image.shape[:2] for c in row.cells if c.image is not None] or [(1, 1)]
    wide = min(0.94 * inner / len(row.cells), 2.6)
    return min(CELL, max(wide * h / w for h, w in shapes))


def _middles(row: Row, inner: float) -> tuple[np.ndarray, float]:
    """Middle of each cell in inches after the first one's left side, and how wide a cell may be."""
    if row.edges is not None:
        at = inner * (row.edges - row.edges[0]) / (row.edges[-1] - row.edges[0])
        return (at[1:] + at[:-1]) / 2, float(np.diff(at).min())
    step = min(inner / len(row.cells), 2.35)
    return step * (np.arange(len(row.cells)) + 0.5), step


def _below(row: Row) -> float:
    """Inches below the images of a row."""
    return 0.2 * any(c.caption for c in row.cells) + (BAR_HEIGHT + 0.06) * any(c.weight is not None for c in row.cells)


class _Page:
    """Draws panels on a figure. Positions are inches from the left and from the bottom."""

    def __init__(self, figure: Figure, inner: float) -> None:
        self.figure, self.inner = figure, inner

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes whose lower left corner is x, y."""
        w, h = self.figure.get_size_inches()
        return self.figure.add_axes((x / w, y / h, width / w, height / h))

    def text(self, x: float, y: float, text: str, **how: object) -> None:
        w, h = self.figure.get_size_inches()
        write_text(self.figure, x / w, y / h, text, **how)

    def write(self, words: Words, lines: Sequence[str]) -> None:
        top = self.figure.get_figheight()
        self.text(RIGHT, top - 0.28, words.title, fontsize=13, fontweight="bold")
        self.text(WIDTH - RIGHT, top - 0.28, words.result, fontsize=13, ha="right")
        self.text(RIGHT, top - 0.55, words.notes, fontsize=9, color=FAINT)
        for i, line in enumerate(lines):
            self.text(RIGHT, top - 0.8 - 0.19 * i, line, fontsize=9)

    def name(self, text: str, middle: float) -> None:
        """The name of a panel, left of it."""
        lines = textwrap.wrap(text, 14)
        for i, line in enumerate(lines):
            self.text(RIGHT, middle + 0.08 * (len(lines) - 1) - 0.16 * i, line, fontsize=9)

    def row(self, row: Row, top: float, height: float, most: float, largest: float) -> None:
        high = _image_height(row, self.inner)
        self.name(row.name, top - high / 2)
        middles, step = _middles(row, self.inner)
        for middle, cell in zip(middles.tolist(), row.cells, strict=True):
            shape = (1, 1) if cell.image is None else cell.image.shape[:2]
            width = min(0.94 * step, high * shape[1] / shape[0])
            x, y = LEFT + middle - width / 2, top - high
            ax = self.axes(x, y, width, high)
            _draw_image(ax, cell, most)
            y -= 0.04
            if cell.weight is not None:
                y -= BAR_HEIGHT
                _draw_bar(self.axes(x, y, width, BAR_HEIGHT), cell.weight, largest)
            if cell.caption:
                self.text(x + width / 2, y - 0.1, cell.caption, fontsize=7.5, color=FAINT, ha="center")
        y = top - high / 2 + 0.25 * (len(row.sides) - 1)
        for title, shares in row.sides.items():
            x = WIDTH - RIGHT - SIDE + 0.2
            self.text(x, y + 0.16, title, fontsize=8, color=FAINT)
            _draw_shares(self.axes(x, y - 0.12, SIDE - 0.25, 0.18), shares)
            y -= 0.5

    def band(self, band: Band, top: float, height: float, last: bool) -> None:
        self.name(band.name, top - height / 2)
        ax = self.axes(LEFT, top - height, self.inner, height)
        base = np.zeros(len(band.edges) - 1)
        for name, values in band.shares.items():
            ax.stairs(base + values, band.edges, baseline=base, fill=True, color=COLORS.get(name, BAR), lw=0)
            for i in np.flatnonzero(values > 0.12):
                middle = (band.edges[i] + band.edges[i + 1]) / 2
                text = f"{name} {values[i]:.2f}"
                ax.text(middle, base[i] + values[i] / 2, text, ha="center", va="center", fontsize=8, color="white")
            base = base + values
        for edge in band.edges[1:-1]:
            ax.axvline(edge, color="white", lw=1)
        ax.set_xlim(band.edges[0], band.edges[-1])
        ax.set_ylim(0, 1)
        ax.set_yticks([])
        plain_axes(ax)
        if last:
            ax.set_xlabel(band.unit, fontsize=8, color=FAINT, labelpad=1)
        if not (last and band.unit):
            ax.tick_params(bottom=False, labelbottom=False)

    def signal(self, signal: Signal, top: float, height: float) -> None:
        self.name(signal.name, top - height / 2)
        ax = self.axes(LEFT, top - height, self.inner, height)
        reach = (signal.start, signal.end)
        if len(signal.values) == 1:
            times, low, high = _envelope(signal.values[0], *reach)
            ax.fill_between(times, low, high, color=COLORS["voice"], lw=0.4)
            most = max(0.05, float(np.abs(signal.values).max()))
            ax.set_ylim(-most, most)
        else:
            extent = (*reach, 0.0, float(len(signal.values)))
            ax.imshow(signal.values, aspect="auto", origin="lower", cmap="magma", extent=extent)
        ax.set_xlim(*reach)
        ax.set_yticks([])
        ax.set_xlabel("seconds", fontsize=8, color=FAINT, labelpad=1)
        plain_axes(ax)

    def scale(self, most: float) -> None:
        """The legend of heat."""
        ax = self.axes(LEFT, 0.42, 2.6, 0.12)
        self.figure.colorbar(
            ScalarMappable(Normalize(0, most), HEAT), cax=ax, orientation="horizontal", ticks=MaxNLocator(5)
        )
        ax.tick_params(length=2, labelsize=7.5, colors=FAINT)
        self.text(LEFT + 2.8, 0.48, "weight of a place, in multiples of the average (1 = like any other)", fontsize=8)


def _draw_image(ax: Axes, cell: Cell, most: float) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    if cell.image is None:
        ax.add_patch(Rectangle((0, 0), 1, 1, color=EMPTY, transform=ax.transAxes))
        ax.text(0.5, 0.5, "none", ha="center", va="center", fontsize=8, color=FAINT, transform=ax.transAxes)
        return
    height, width = cell.image.shape[:2]
    image = cell.image
    if cell.heat is not None:  # a grey image, so that colors are those of the map alone
        image = np.repeat(np.asarray(Image.fromarray(image).convert("L"))[..., None], 3, -1)
    extent = (0.0, float(width), float(height), 0.0)
    ax.imshow(image, extent=extent, interpolation="bilinear", aspect="auto")
    if cell.heat is not None:
        smooth = Image.fromarray(cell.heat.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
        heat = np.asarray(smooth).clip(0, most) / most
        colored = HEAT(heat)
        colored[..., 3] = 0.85 * heat**1.5
        ax.imshow(colored, extent=extent, interpolation="bilinear", aspect="auto")


def _draw_bar(ax: Axes, value: float, largest: float) -> None:
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.axis("off")
    ax.add_patch(Rectangle((0, 0), 1, 1, color=EMPTY))
    ax.add_patch(Rectangle((0, 0), value / largest if largest else 0.0, 1, color=BAR))
    color = "white" if largest and value > 0.3 * largest else INK
    ax.text(0.03, 0.47, f"{value:.2f}", fontsize=7.5, va="center", color=color)


def _draw_shares(ax: Axes, shares: Mapping[str, float]) -> None:
    """One bar of stacked shares; where there is a single one without a name, its part of the whole."""
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.axis("off")
    ax.add_patch(Rectangle((0, 0), 1, 1, color=EMPTY))
    base = 0.0
    for name, value in shares.items():
        ax.add_patch(Rectangle((base, 0), value, 1, color=COLORS.get(name, BAR), lw=0))
        text = f"{name} {value:.2f}".strip()
        if value > 0.035 * len(text):
            ax.text(base + value / 2, 0.47, text, fontsize=7.5, ha="center", va="center", color="white")
        elif len(shares) == 1:
            ax.text(value + 0.03, 0.47, text, fontsize=7.5, va="center", color=INK)
        base += value


def _envelope(wave: np.ndarray, start: float, end: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, lowest and highest samples of at most 1,500 parts of a waveform."""
    parts = [p for p in np.array_split(wave, min(1500, max(1, len(wave)))) if len(p)]
    times = np.linspace(start, end, len(parts))
    return times, np.array([p.min() for p in parts]), np.array([p.max() for p in parts])
