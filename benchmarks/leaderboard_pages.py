"""Writes docs/leaderboards.md's tables and docs/img/leaderboards/*.png from benchmarks/leaderboards and results.

A table stands between ``<!-- leaderboard:NAME -->`` and ``<!-- /leaderboard -->``. A figure keeps the sha256 of what it
shows in its metadata, so that ``--check`` needs no equal fonts.

    python benchmarks/leaderboard_pages.py            rewrite what differs
    python benchmarks/leaderboard_pages.py --check    change nothing, exit 1 where something differs
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from emozoo.benchmark.leaderboard import BOARDS, HEADINGS, Line, our_lines, ours, rows, tables
from emozoo.plots import COLORS, FAINT, INK

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "leaderboards.md"
FIGURES = ROOT / "docs" / "img" / "leaderboards"
MARKED = re.compile(r"(<!-- leaderboard:(\S+) -->\n).*?(<!-- /leaderboard -->)", re.DOTALL)
KEY = "emozoo:shows"
PAIRS = (("WAR", "UAR"), ("CCC V", "CCC A"))  # what one panel shows together
MARKS = {"WAR": "o", "UAR": "D", "CCC V": "o", "CCC A": "D"}
WORDS = {"WAR": "WAR, %", "UAR": "UAR, %", "CCC V": "CCC, valence", "CCC A": "CCC, arousal"}
THEIRS, REPRODUCED, OURS = "#A8ADB5", COLORS["sadness"], COLORS["anger"]
FEWEST = 3  # numbers that are worth a figure
ROW, EDGE, TITLE = 0.2, 0.45, 0.42  # inches: a method; the panel's axis below; its title above


# -- figures -------------------------------------------------------------------------------------------------------


Panel = tuple[str, tuple[str, str], list[Line], list[Line]]


def panels(name: str) -> list[Panel]:
    """Title, the two metrics, ours and the verified published lines of each panel; no panels for a few numbers."""
    found = []
    blocks = ours(name)
    for protocol, lines in tables(name).items():
        mine = [x for b in blocks if b["published_protocol"] == protocol for x in our_lines(b)]
        for pair in PAIRS:
            sure = [x for x in lines if x.verified == "yes" and any(h in x.values for h in pair)]
            if sure:
                found.append((protocol, pair, mine, sure))
    return found if sum(len(p[-1]) for p in found) >= FEWEST else []


def shown(name: str) -> str:
    """The sha256 of everything that a board's figure shows, and of how it is drawn."""
    drawn = Path(__file__).read_text(encoding="utf-8").partition("# -- the page")[0]
    return hashlib.sha256(f"{BOARDS[name].title}\n{panels(name)!r}\n{drawn}".encode()).hexdigest()


def draw(name: str, path: Path) -> None:
    """Every verified method as a line of dots, best on top, one panel for each protocol."""
    parts = panels(name)
    sizes = [ROW * (len(lines) + len(mine) + 0.6) for _, _, mine, lines in parts]
    height = sum(sizes) + len(parts) * (TITLE + EDGE) + 0.55
    figure = Figure(figsize=(10, height), facecolor="white")
    figure.text(0.02, 1 - 0.2 / height, BOARDS[name].title, fontsize=13, fontweight="bold", color=INK, va="center")
    figure.text(
        0.98, 1 - 0.2 / height, "published and verified numbers", fontsize=9, color=FAINT, va="center", ha="right"
    )
    top = height - 0.45
    for (protocol, pair, mine, lines), size in zip(parts, sizes, strict=True):
        top -= TITLE
        ax = figure.add_axes((0.47, (top - size) / height, 0.505, size / height))
        _panel(ax, protocol, pair, mine, lines)
        ax.set_xlim(*_reach(parts, pair))
        title = textwrap.shorten(
            protocol or "Various protocols, not comparable with one another", 110, placeholder=" …"
        )
        figure.text(0.02, (top + 0.12) / height, title, fontsize=9.5, color=INK, fontweight="bold", va="center")
        top -= size + EDGE
    FigureCanvasAgg(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None, KEY: shown(name)})


def _reach(parts: Sequence[Panel], pair: tuple[str, str]) -> tuple[float, float]:
    """One scale for all panels of a figure, so that lengths mean the same in each."""
    values = [float(x.values[h].split()[0]) for _, p, *both in parts if p == pair for part in both for x in part
              for h in pair if h in x.values]  # fmt: skip
    air = 0.04 if pair[0].startswith("CCC") else 3
    return min(values) - air, max(values) + air


def _panel(ax: Axes, protocol: str, pair: tuple[str, str], mine: Sequence[Line], lines: Sequence[Line]) -> None:
    labels = []
    for y, line in enumerate([*mine, *lines]):
        colour = OURS if line in mine else REPRODUCED if line.model else THEIRS
        ax.axhline(y, color="#EEF0F3", lw=0.8, zorder=0)
        at = {h: float(line.values[h].split()[0]) for h in pair if h in line.values}
        if len(at) == 2:
            ax.plot(list(at.values()), [y, y], color=colour, lw=1.2, zorder=1)
        for h, x in at.items():
            face = "white" if line.apart else colour
            ax.plot([x], [y], MARKS[h], color=colour, mfc=face, ms=5, zorder=2)
        if not at:
            text = line.method.partition(": ")[2]
            ax.text(0.5, y, text, transform=ax.get_yaxis_transform(), fontsize=8, color=OURS, ha="center", va="center",
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 2})  # fmt: skip
        labels.append(_label(line, protocol, line in mine))
    ax.set_yticks(range(len(labels)), labels, fontsize=8)
    for tick, line in zip(ax.get_yticklabels(), [*mine, *lines], strict=True):
        tick.set_color(OURS if line in mine else REPRODUCED if line.model else INK)
    ax.set_ylim(len(labels) - 0.3, -0.8)
    for h in (h for h in pair if any(h in x.values for x in (*mine, *lines))):
        ax.plot([], [], MARKS[h], color=FAINT, ms=5, label=WORDS[h])
    if any(x.model for x in lines):
        ax.plot([], [], "s", color=REPRODUCED, ms=6, label="reproduced here")
    if any(x.apart for x in lines):
        ax.plot([], [], "o", color=THEIRS, mfc="white", ms=5, label=f"with {next(x.apart for x in lines if x.apart)}")
    ax.legend(loc="lower right", bbox_to_anchor=(1.01, 1.0), ncols=4, frameon=False, fontsize=8, borderpad=0,
              handletextpad=0.2, columnspacing=1.2)  # fmt: skip
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(FAINT)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", length=3, labelsize=8, colors=FAINT)


def _label(line: Line, protocol: str, mine: bool) -> str:
    text = line.method.partition(":")[0] if mine and not line.values else line.method
    if not protocol and not mine:
        text = f"{text} · {line.protocol}"
    return textwrap.shorten(f"{text} ({line.year})" if line.year else text, 72, placeholder=" …")


# -- the page ------------------------------------------------------------------------------------------------------


def section(name: str) -> str:
    """A board for the page: note, figure and tables."""
    known, parts, blocks = BOARDS[name], tables(name), ours(name)
    text = [f"## {known.title}", f"`emozoo leaderboard {name}`" + (f": {known.note}" if known.note else "")]
    if panels(name):
        text.append(f"![Published numbers on {known.title}](img/leaderboards/{name}.png)")
    listed = False
    for protocol, lines in parts.items():
        same = [x for b in blocks if b["published_protocol"] == protocol for x in our_lines(b)]
        text.append(f"**{protocol or 'Various protocols, not comparable with one another'}**")
        text.append(table(same, lines, several=not protocol))
        listed = listed or bool(same)
    own = [x for b in blocks if b["published_protocol"] not in parts for x in our_lines(b)]
    if any(x.values for x in own):
        text += ["**Ours, under protocols without published numbers**", table(own, (), several=True)]
    elif own and not listed:
        text.append(f"Ours: {own[0].method.partition(': ')[2]}.")
    if not parts:
        text.append("No published number that was read in a source is known here.")
    return "\n\n".join(text)


def table(mine: Sequence[Line], lines: Sequence[Line], several: bool) -> str:
    """A Markdown table; ``several``: the lines have different protocols."""
    from emozoo.benchmark.formatting import markdown_table  # not above: every figure would count as changed

    headings = [h for h in HEADINGS if any(h in x.values for x in (*mine, *lines))]
    head = ["Method", *(["Protocol"] if several else []), "Year", *headings, "Source"]
    found = []
    for x in (*mine, *lines):
        ours_ = x in mine
        name = f"**{x.method}**" if ours_ else x.method + (f" (with {x.apart})" if x.apart else "")
        name += " *not verified*" if x.verified != "yes" else ""
        name += f" ← reproduced here: `{x.model}`" if x.model else ""
        values = [x.values.get(h, "–" if x.values else "").replace("\n", " (", 1) for h in headings]
        values = [v + ")" if " (" in v else v for v in values]
        source = "emozoo" if ours_ and x.values else x.source
        found.append([name, *([x.protocol] if several else []), x.year, *values, source])
    return markdown_table(head, found)


def stale_figures() -> list[str]:
    """Boards whose figure is missing or shows something else."""
    names = [n for n in BOARDS if rows(n) and panels(n)]
    return [n for n in names if not (p := FIGURES / f"{n}.png").is_file() or Image.open(p).info.get(KEY) != shown(n)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where something differs")
    check = parser.parse_args().check
    say = "differs; run python benchmarks/leaderboard_pages.py" if check else "written"
    stale = stale_figures()
    for name in stale:
        print(f"docs/img/leaderboards/{name}.png: {say}")
        if not check:
            draw(name, FIGURES / f"{name}.png")
    old = PAGE.read_text(encoding="utf-8")
    new = MARKED.sub(lambda m: f"{m[1]}{section(m[2])}\n{m[3]}", old)
    if new != old:
        print(f"{PAGE.relative_to(ROOT)}: {say}")
        if not check:
            PAGE.write_text(new, encoding="utf-8")
    return int(check and (bool(stale) or new != old))


if __name__ == "__main__":
    sys.exit(main())
