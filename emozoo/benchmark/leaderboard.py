"""Leaderboards: the numbers that others published, each with its source, and ours beside the same protocol only.

Published numbers are in ``benchmarks/leaderboards/<data set>.csv``, one a line: ``protocol``, ``metric`` (as printed:
``accuracy`` and ``WAR`` are the same), ``method``, ``year`` (empty = not known), ``value`` with the printed decimals,
``unit``, ``source``, ``verified``, ``apart`` (what the method has more than the others), ``model`` (the architecture of
this package that reproduces the paper). ``verified`` is ``yes`` (read in the paper, by its authors, or in a published
table that quotes it), or ``no`` (read in an unreviewed or contradicting source only: never a target); a number of any
other state is not shown. ``boards.yaml`` in the same folder has title, note and protocols of each board. Our numbers
come from ``benchmarks/results``. Nothing here imports torch.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from emozoo import files
from emozoo.benchmark import report
from emozoo.errors import DatasetError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

# What stands on a board where our numbers are missing, by the access to its data.
ACCESS = {
    "licensed": "not measured: data under licence",
    "open": "not measured yet: the data can be had by anybody",
}
# The metrics that a table has columns for: ours, and what papers call it.
NAMES = {
    "WAR": "WAR", "accuracy": "WAR", "UAR": "UAR", "macro_f1": "F1", "CCC_valence": "CCC V", "CCC_arousal": "CCC A",
    "CCC_mean": "CCC mean",
}  # fmt: skip
HEADINGS = tuple(dict.fromkeys(NAMES.values()))
OURS = {
    "WAR": "WAR", "UAR": "UAR", "F1": "macro_f1", "CCC_V": "CCC_valence", "CCC_A": "CCC_arousal", "CCC": "CCC_mean",
}  # fmt: skip
UNKNOWN = "unknown"  # a protocol that nobody can compare with
FEW = 4  # a protocol with so many methods or fewer has no table of its own


@dataclass(frozen=True)
class Pair:
    """A protocol of ours that scores the same items in the same way as a published one.

    ``split``: the part that is scored. ``folds``: the published number is one over all folds, so that a single fold of
    ours does not stand beside it.
    """

    ours: str
    published: str
    split: str = "test"
    folds: bool = False

    def holds(self, protocol: str, split: str | None, fold: object) -> bool:
        """Whether a result under ``protocol`` (an ``@hash`` of its list may follow the name) is one of this pair."""
        if protocol.partition("@")[0] != self.ours:
            return False
        if self.folds:
            return fold in ("mean", "pooled")
        return fold in (None, "") and split == self.split


@dataclass(frozen=True)
class Board:
    """The facts of a data set's board. ``access``: the text that stands where our numbers are missing."""

    title: str
    note: str = ""
    pairs: tuple[Pair, ...] = ()
    access: str = ACCESS["licensed"]


def read_boards(path: Path) -> dict[str, Board]:
    """The boards of a YAML file by data set, in its order. Raises DatasetError for an entry that cannot be read."""
    found = {}
    for name, entry in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        try:
            pairs = tuple(Pair(**pair) for pair in entry.get("pairs", ()))
            found[name] = Board(**entry | {"pairs": pairs, "access": ACCESS[entry.get("access", "licensed")]})
        except (TypeError, KeyError, AttributeError) as error:
            raise DatasetError(f"{path}: the board {name} cannot be read ({error}); see the head of the file") from None
    return found


BOARDS = read_boards(files.packaged("benchmarks/leaderboards") / "boards.yaml")


def board(name: str) -> Board:
    """The board of a data set; one without facts for a data set that has no entry in ``boards.yaml``."""
    return BOARDS.get(name) or Board(name, access=ACCESS["open"])


@dataclass(frozen=True)
class Published:
    """One published number; the columns of the file, see above."""

    protocol: str
    metric: str
    method: str
    year: str
    value: str
    unit: str
    source: str
    verified: str
    apart: str
    model: str

    def to_dict(self) -> dict[str, Any]:
        """The row of ``emozoo leaderboard --json``; ``year``, ``apart`` and ``reproduced_by`` may be null."""
        return {
            "method": self.method,
            "metric": self.metric,
            "value": float(self.value),
            "unit": self.unit,
            "year": int(self.year) if self.year else None,
            "protocol": self.protocol,
            "source": self.source,
            "verified": self.verified,
            "apart": self.apart or None,
            "reproduced_by": self.model or None,
        }


def find(name: str) -> str:
    """The name of a board, also for ``CAER-S`` or ``Caer s``. Raises UsageError with the nearest name."""
    known = list(dict.fromkeys([*BOARDS, *(r["dataset"] for r in committed())]))
    letters = {"".join(filter(str.isalnum, key)): key for key in known}
    wanted = "".join(filter(str.isalnum, name.casefold()))
    if wanted not in letters:
        close = difflib.get_close_matches(wanted, letters, n=1, cutoff=0.4)
        hint = f"; did you mean '{letters[close[0]]}'?" if close else ";"
        raise UsageError(f"no leaderboard '{name}'{hint} there are {', '.join(known)}")
    return letters[wanted]


def read(path: Path) -> list[Published]:
    """The published numbers of a file that may be shown. DatasetError names the line that cannot be used."""
    rows = []
    with path.open(newline="", encoding="utf-8") as lines:
        for number, line in enumerate(csv.DictReader(lines), 2):
            try:
                row = Published(**line)
                row.to_dict()
            except (TypeError, ValueError) as error:
                raise DatasetError(
                    f"{path}, line {number}: {error}; see docs/leaderboards.md for the columns"
                ) from None
            if not row.source:
                raise DatasetError(f"{path}, line {number}: a published number needs its source")
            if row.verified in ("yes", "no"):
                rows.append(row)
    return rows


@cache
def rows(name: str) -> tuple[Published, ...]:
    """Every published number of a data set that may be shown, in the order of the file."""
    path = files.packaged("benchmarks/leaderboards") / f"{name}.csv"
    return tuple(read(path)) if path.is_file() else ()


def published(dataset: str, protocol: str, split: str | None, fold: object) -> list[dict[str, Any]]:
    """Verified published numbers under the protocol of a benchmark record, in metrics that a record can have."""
    same = {p.published for p in board(dataset).pairs if p.holds(protocol, split, fold)}
    return [
        r.to_dict()
        for r in (rows(dataset) if same else ())
        if r.protocol in same and r.verified == "yes" and r.metric in NAMES
    ]


def committed() -> list[dict[str, str]]:
    """Every benchmark result in ``benchmarks/results``."""
    return report.read_results(files.packaged("benchmarks/results"))


def measured(name: str) -> list[dict[str, str]]:
    """Our committed results on a data set without controls, as lines of ``benchmarks/results``."""
    return [r for r in committed() if r["dataset"] == name and not r["control"]]


def ours(name: str, results: Sequence[Mapping[str, str]] | None = None) -> list[dict[str, Any]]:
    """Our numbers by protocol: first protocols with a published counterpart, measured or not, then our own.

    ``results``: lines of ``benchmarks/results``; default: those committed.
    """
    known = board(name)
    left = list(measured(name) if results is None else results)
    found = []
    for pair in known.pairs:
        mine = [r for r in left if pair.holds(r["protocol"], r["split"], r["fold"])]
        left = [r for r in left if r not in mine]
        found.append(_block(pair.ours, pair.published, mine, known))
    own: dict[str, list[Mapping[str, str]]] = {}
    for r in left:
        fold = f"fold {r['fold']}" if r["fold"].isdigit() else r["fold"]
        own.setdefault(", ".join(p for p in (r["protocol"], r["split"], fold) if p), []).append(r)
    found += [_block(protocol, None, mine, known) for protocol, mine in own.items()]
    return found or [_block(None, None, [], known)]


def _block(
    protocol: str | None, counterpart: str | None, results: Iterable[Mapping[str, str]], known: Board
) -> dict[str, Any]:
    lines = [r for result in results for r in _our_rows(result)]
    return {
        "protocol": protocol,
        "published_protocol": counterpart,
        "status": "measured" if lines else known.access,
        "rows": lines,
    }


def _our_rows(result: Mapping[str, str]) -> list[dict[str, Any]]:
    """A line of the results as rows like the published ones: in percent, with the interval and the number of items."""
    found = []
    for column, metric in OURS.items():
        if not result.get(column):
            continue
        scale = 1 if column.startswith("CCC") else 100
        ends = [result.get(f"{column}_{end}") for end in ("lo", "hi")]
        found.append(
            {
                "method": result["model"],
                "metric": metric,
                "value": round(scale * float(result[column]), 4),
                "ci95": [round(scale * float(e), 4) for e in ends if e] or None,
                "unit": "CCC" if scale == 1 else "%",
                "prior": result["prior"] or None,
                "fold": result["fold"] or None,
                "n_expected": int(result["n_expected"]),
                "n_evaluated": int(result["n_evaluated"]),
                "sha256": result["sha256"] or None,
                "date": result["date"],
                "commit": result["commit"],
            }
        )
    return found


def to_dict(name: str) -> dict[str, Any]:
    """What ``emozoo leaderboard NAME --json`` prints."""
    known = board(name)
    return {
        "schema": 1,
        "dataset": name,
        "title": known.title,
        "note": known.note,
        "rows": [r.to_dict() for r in rows(name)],
        "ours": ours(name),
    }


# -- as tables -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """The numbers of one method from one source: a line of a table. ``values``: text by heading."""

    values: Mapping[str, str]
    protocol: str
    method: str
    year: str = ""
    source: str = ""
    verified: str = "yes"
    apart: str = ""
    model: str = ""


def tables(name: str) -> dict[str, list[Line]]:
    """Published lines by protocol: best first, verified before not verified, methods with extra input or data last.

    A protocol has a table of its own where ours has a counterpart or more than :data:`FEW` methods were published;
    the others share the table ``""``. Numbers of single classes are left to ``--json``.
    """
    values: dict[tuple[str, ...], dict[str, str]] = {}
    for r in rows(name):
        if r.metric in NAMES:
            key = (r.protocol, r.method, r.year, r.source, r.verified, r.apart, r.model)
            percent = f"{100 * float(r.value):.1f}" if r.unit == "fraction" else r.value
            values.setdefault(key, {})[NAMES[r.metric]] = percent
    every = [Line(v, *key) for key, v in values.items()]
    found: dict[str, list[Line]] = {pair.published: [] for pair in board(name).pairs}
    rest: list[Line] = []
    for protocol in dict.fromkeys(line.protocol for line in every):
        same = [line for line in every if line.protocol == protocol]
        same.sort(key=lambda line: (line.apart, line.verified != "yes", _rank(line)))
        if protocol in found or (len(same) > FEW and protocol != UNKNOWN):
            found[protocol] = same
        else:
            rest += same
    if rest:
        one = len({line.protocol for line in rest}) == 1 and rest[0].protocol != UNKNOWN
        found[rest[0].protocol if one else ""] = rest
    return {protocol: lines for protocol, lines in found.items() if lines}


def _rank(line: Line) -> list[float]:
    """The sort key of a line, smaller is better: its metrics in the order of the headings; a missing one comes last."""
    return [-float(line.values.get(h, "-inf")) for h in HEADINGS]


def our_lines(block: Mapping[str, Any]) -> list[Line]:
    """Our lines under one protocol: one for each weights and prior, or one with the reason why there is none."""
    protocol = block["protocol"] or ""
    if not block["rows"]:
        return [
            Line({}, protocol, f"emozoo, {protocol}: {block['status']}" if protocol else f"emozoo: {block['status']}")
        ]
    values: dict[tuple[str, str], dict[str, str]] = {}
    for r in block["rows"]:
        n = f"{r['n_evaluated']}" + ("" if r["n_evaluated"] == r["n_expected"] else f" of {r['n_expected']}")
        how = [f"prior {r['prior']}"] * bool(r["prior"]) + [f"n={n}"] + [r["fold"]] * bool(r["fold"])
        digits = 1 if r["unit"] == "%" else 2
        ends = "\n" + " to ".join(f"{e:.{digits}f}" for e in r["ci95"]) if r["ci95"] else ""
        key = (f"{r['method']}, {', '.join(how)}", r["date"][:4])
        values.setdefault(key, {})[NAMES[r["metric"]]] = f"{r['value']:.{digits}f}{ends}"
    return [Line(v, protocol, *key) for key, v in values.items()]


def show(name: str, console: Console | None = None) -> None:
    """Prints the board: one table for each protocol with ours on top, ours under other protocols, the sources."""
    from rich.console import Console
    from rich.markup import escape

    console = console or Console(highlight=False)
    if not console.is_terminal and console.width < 120:  # a file or pipe has no width of its own
        console.width = 120
    known = board(name)
    console.print(f"[bold]{escape(known.title)}[/]")
    if known.note:
        console.print(escape(known.note), style="dim")
    parts, mine = tables(name), ours(name)
    sources = list(dict.fromkeys(line.source for part in parts.values() for line in part))
    for protocol, part in parts.items():
        same = [line for b in mine if b["published_protocol"] == protocol for line in our_lines(b)]
        title = protocol or "Various protocols, not comparable with one another"
        console.print(_table(title, same, part, sources, several=not protocol))
    own = [line for b in mine if b["published_protocol"] not in parts for line in our_lines(b)]
    if any(line.values for line in own):
        console.print(_table("emozoo, under protocols without published numbers", own, (), sources, several=True))
    else:
        for line in own:
            console.print(f"[bold]{escape(line.method)}[/]")
    if not parts:
        console.print("No published number that was read in a source is known here.", style="dim")
    console.print("WAR, UAR, F1 in percent, CCC from -1 to 1. ? = not verified, never a target.", style="dim")
    for number, source in enumerate(sources, 1):
        console.print(f"[{number}] {source}", style="dim", markup=False)
    if hidden := sum(r.metric not in NAMES for r in rows(name)):
        console.print(f"{hidden} more numbers, of single classes or other quantities: --json", style="dim")


def _table(title: str, mine: Sequence[Line], lines: Sequence[Line], sources: Sequence[str], several: bool) -> Any:
    """``several``: the lines have different protocols, which stand in a column."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    headings = [h for h in HEADINGS if any(h in line.values for line in (*mine, *lines))]
    table = Table(title=escape(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", overflow="fold", min_width=30)
    if several:
        table.add_column("protocol", overflow="fold")
    for heading in ("year", *headings, "source"):
        table.add_column(heading, justify="right", no_wrap=True)

    def add(line: Line, mark: str, source: str, style: str) -> None:
        values = [line.values.get(h, "–") for h in headings] if line.values else [""] * len(headings)
        protocol = [escape(line.protocol)] if several else []
        table.add_row(escape(line.method) + mark, *protocol, line.year, *values, escape(source), style=style)

    for line in mine:
        add(line, "", "emozoo" if line.values else "", "bold")
    for apart in dict.fromkeys(line.apart for line in lines):
        table.add_section()
        if apart:
            table.add_row(f"[italic]with {escape(apart)}[/]")
        for line in lines:
            if line.apart == apart:
                sure = line.verified == "yes"
                mark = f" [bold]← reproduced here: {line.model}[/]" if line.model else ""
                add(line, ("" if sure else " ?") + mark, f"[{sources.index(line.source) + 1}]", "" if sure else "dim")
    return table
