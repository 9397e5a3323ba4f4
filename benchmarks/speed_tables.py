"""Tables and the picture of ``benchmarks/results/speed.csv``: speed against its bars, growth, decoders, large sets.

    python benchmarks/speed_tables.py      docs/img/speed.png

The tables stand in the pages; ``benchmarks/tables.py`` writes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from emozoo.benchmark.formatting import DASH, markdown_table
from emozoo.benchmark.report import read_csv

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "img" / "speed.png"
NOTHING = "Nothing measured yet."
DECODED = "drawn 224x224, GOP 250"  # the clips in the table of decoders; the others are summed up
ITEMS, CLIP_S, FPS, MACHINES = 10_000_000, 4, 25, 100  # of the exercise: clips of 640 x 360

Row = dict[str, str]


def _rows(*questions: str) -> list[Row]:
    """The rows of these questions; without any, all that have a bar, but those of growth."""
    rows = read_csv(ROOT / "benchmarks" / "results" / "speed.csv")
    return [r for r in rows if (r["question"] in questions if questions else r["bar"] and r["question"] != "growth")]


def margin(row: Row) -> float:
    """How many times better than its bar a measurement is; below 1 it is short of it."""
    kind, bar = row["bar"].split()
    value = float(row["ratio" if bar.endswith("x") else "a_median"])
    return value / float(bar.rstrip("x")) if kind == ">=" else float(bar.rstrip("x")) / value


def speed() -> str:
    """Every measurement with a bar, and the limit beside it."""
    rows = _rows()
    if not rows:
        return NOTHING

    def lines() -> Iterator[list[str]]:
        for r in rows:
            ratio = f"{float(r['ratio']):.3g}"
            if int(r["rounds"]) > 1:
                ratio += f" ({float(r['ratio_lo']):.3g} to {float(r['ratio_hi']):.3g})"
            found = f"{r['a']} {_number(r['a_median'])}, {r['b']} {_number(r['b_median'])} {r['unit']}"
            result = "pass" if margin(r) >= 1 else "short"
            yield [r["question"], r["case"], found, ratio, r["bar"], result, r["limit"] or DASH, r["rounds"], r["load"]]

    head = ["Question", "Case", "Medians", "First / second (quartiles)", "Bar", "Result", "Limit", "Rounds", "Load"]
    machines = "; ".join(dict.fromkeys(r["hardware"] for r in rows))
    versions = re.search(r"emozoo=\S+ torch=\S+", rows[-1]["versions"])
    bars = "A bar with `x` is for the ratio, others are for the first median."
    note = f"{machines}; {versions[0] if versions else ''}. {bars}"
    return f"{markdown_table(head, lines())}\n\n{note}"


def _number(text: str) -> str:
    value = float(text)
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def growth() -> str:
    """How time and memory grow: fitted exponents and the times behind them."""
    rows = _rows("growth")
    head = ["Task over", "Time grows as", "Memory grows as", "Measured"]
    lines = (
        [r["case"], f"n^{r['a_median']}", f"n^{r['b_median']}" if r["b_median"] else "not measured", r["limit"]]
        for r in rows
    )
    return markdown_table(head, lines, NOTHING)


def large_set() -> str:
    """What ten million clips take, from measured costs of one."""
    by_case = {(r["question"], r["case"].partition(",")[0]): r for r in _rows("predict", "store", "prepare")}
    frames, seconds = CLIP_S * FPS, 86_400
    talking = by_case.get(("predict", "talking face"))
    made = next((r for r in _rows("prepare") if r["case"].endswith("once they run")), None)
    read = by_case.get(("store", "faces in videos"))
    if not (talking and made and read):
        return NOTHING
    decoded = re.search(r"[\d.]+", talking["limit"])
    assert decoded
    costs = (
        ("decode every frame once, as `emozoo check` does", frames / float(decoded[0])),
        ("`emozoo prepare`, one worker", float(made["a_median"]) * CLIP_S),
        ("read a sample from the store", float(read["b_median"]) / 1e3),
        ("`emozoo predict`", frames / float(talking["a_median"])),
    )

    def lines() -> Iterator[list[str]]:
        for name, cost in costs:
            days = cost * ITEMS / seconds
            yield [name, f"{cost:.3g} s", f"{days:,.3g} days", f"{days * 24 / MACHINES:,.1f} hours"]

    head = ["Step", "One clip", "Ten million, one machine", f"On {MACHINES}"]
    note = (
        f"Clips of {CLIP_S} s, {FPS} frames a second, 640x360. One machine: {talking['hardware']}. Calculated from "
        "`benchmarks/results/speed.csv`, not run."
    )
    return f"{markdown_table(head, lines())}\n\n{note}"


def decoders() -> str:
    """PyAV beside decord on training clips: one kind of clip as a table, all of them in one sentence."""
    found = _rows("decoder")
    if not found:
        return NOTHING
    cpu, wall = ({r["case"]: r for r in found if r["unit"].startswith(time)} for time in ("CPU", "wall"))

    def lines() -> Iterator[list[str]]:
        for case, r in cpu.items():
            if case.startswith(DECODED):
                ratios = ([float(x[k]) for k in ("ratio", "ratio_lo", "ratio_hi")] for x in (r, wall[case]))
                cells = ("{:.2f} ({:.2f} to {:.2f})".format(*x) for x in ratios)
                yield [*case.split("; ")[1:], *(f"{float(r[k]):.1f}" for k in ("a_median", "b_median")), *cells]

    def summed(cases: dict[str, Row]) -> str:
        ratios = [float(r["ratio"]) for r in cases.values()]
        return f"from {min(ratios):.2f} to {max(ratios):.2f}, below 1 in {sum(x < 1 for x in ratios)}"

    head = [
        "Frames",
        "Workers",
        "Epochs",
        "PyAV, CPU ms",
        "decord, CPU ms",
        "PyAV / decord, CPU",
        "PyAV / decord, wall",
    ]
    kinds = "; ".join(dict.fromkeys(case.split("; ")[0] for case in cpu))
    sums = f"All {len(cpu)} cases ({kinds}): CPU ratio {summed(cpu)}; wall ratio {summed(wall)}."
    loads = [float(r["load"]) for r in found if r["load"]]
    rounds = min(int(r["rounds"]) for r in found)
    busy = f"load average before each {min(loads):.1f} to {max(loads):.1f}"
    note = f"In the table: {DECODED}. {rounds} rounds of {found[0]['clips']} clips; {found[0]['hardware']}; {busy}."
    return "\n\n".join([markdown_table(head, lines()), sums, note])


def draw(path: Path) -> None:
    """A bar for each measurement: how many times better than its bar it is, on a logarithmic scale."""
    from matplotlib.figure import Figure

    rows = _rows()[::-1]
    margins = [margin(r) for r in rows]
    names = [f"{r['question']}: {r['case']}, {r['unit']}  ({r['bar']})" for r in rows]
    figure = Figure(figsize=(9, 0.32 * len(rows) + 1), layout="constrained")
    axes = figure.subplots()
    colors = ["#2a7f62" if m >= 1 else "#c0504d" for m in margins]
    axes.barh(range(len(rows)), [m - 1 for m in margins], left=1, color=colors, tick_label=names)
    for y, m in enumerate(margins):
        axes.annotate(f"{m:.2g}", (m, y), (3 if m >= 1 else -3, 0), textcoords="offset points", va="center",
                      ha="left" if m >= 1 else "right", fontsize=8)  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(y=0.01)
    axes.set_xlim(min(0.5, *margins) * 0.8, max(margins) * 1.6)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("times better than the bar")
    axes.tick_params(axis="y", labelsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(PICTURE)
