"""Committed results, measured again: ``emozoo benchmark --verify``.

A line of ``benchmarks/results`` is *the same* when the same weights (by sha256) give its numbers again on as many
items, within :data:`TOLERANCE`: decoders and processors differ in the last digits, and an item between two classes may
fall to the other side (two of the rarest class may always).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emozoo import registry
from emozoo.benchmark import leaderboard, report, suite
from emozoo.benchmark.records import Result
from emozoo.benchmark.report import KEY
from emozoo.benchmark.run import PRIORS, measure
from emozoo.errors import EmozooError, UsageError
from emozoo.files import resolve_path
from emozoo.synthemo.compose import STAMP

if TYPE_CHECKING:
    from rich.console import Console

TOLERANCE = {"WAR": 0.005, "UAR": 0.01, "F1": 0.01, "CCC_V": 0.01, "CCC_A": 0.01, "CCC": 0.01, "delta": 0.015}
FACES = 0.01  # the fraction of the items by which the number of items without a face may differ
SAME, DIFFERS, NOT = "same", "differs", "not verified"
Row = dict[str, str]


@dataclass(frozen=True)
class Source:
    """The data of committed lines: ``dataset`` and ``root`` as ``emozoo benchmark`` takes them.

    ``named``: the data are a table without a name of its own, and records get data set and protocol from the committed
    line. ``script``: the script that makes the data.
    """

    dataset: str
    root: str
    named: bool = False
    script: str = ""


# Data of committed results by (data set, protocol); the built-in suite draws its own.
SOURCES: dict[tuple[str, str], Source] = {
    ("ferplus", "ferplus7"): Source("ferplus7", "$EMOZOO_SHARED/data/ferplus"),
    ("lfw5", "lfw5_val_v1"): Source("csv", "$EMOZOO_SHARED/data/faces_lfw5/manifest.csv", named=True),
    ("music_video", "music_video_val_v1"): Source("csv", "$EMOZOO_SHARED/data/music_video/manifest.csv", named=True),
    **{
        ("composed", f"composed_{views}_{part}_{version}"): Source(
            "csv", f"runs/composed/{views}/{part}/manifest.csv", named=True, script="benchmarks/composed.py"
        )
        for views, version in (("face_voice", "v2"), ("face_scene", "v1"))
        for part in ("varied", "steady")
    },
}


@dataclass(frozen=True)
class New:
    """A line measured now. ``two``: how much UAR changes when two items of the rarest class change."""

    row: Row
    two: float = 0.0


@dataclass
class Check:
    """The state of a committed line, and why. ``worst``: the metric that differs most, and by how much."""

    row: Mapping[str, Any]
    state: str
    why: str = ""
    worst: tuple[str, float] | None = None


def measured(
    rows: Sequence[Row], source: Source, *, device: str = "cpu", num_workers: int = 0, batch_size: int = 32
) -> Result:
    """The records of committed lines about one data set, split, fold, label map and detector, measured now.

    The lines may be of several weights, priors and controls.
    """
    first = rows[0]
    result = Result()
    for model, own in _by_model(rows).items():
        fold = int(first["fold"]) if first["fold"].isdigit() else None
        result += measure(
            [model], source.dataset, resolve_path(source.root), split=first["split"] or None, fold=fold,
            prior=_prior(own), label_map=first.get("label_map") or None, control=_controls(own),
            detector=first["detector"] if first["detector"] in ("cascade", "yunet") else None, device=device,
            num_workers=num_workers, batch_size=batch_size,
        )  # fmt: skip
    if source.named:
        made = resolve_path(source.root).parent / STAMP
        version = json.loads(made.read_text(encoding="utf-8"))["version"] if made.is_file() else None
        for record in result.records:
            record |= {"dataset": first["dataset"], "protocol": first["protocol"]}
            record |= {"protocol_version": version} if version is not None else {}
    return result


def _by_model(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Lines by the model that is measured; a retrained control is measured together with its model."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        entry = registry.weights().get(row["model"])
        owner = entry.config.get("control_of") if entry else None
        found.setdefault(str(owner or row["model"]), []).append(row)
    return found


def _prior(rows: Sequence[Row]) -> str:
    named = {r["prior"] for r in rows if r["prior"]}
    return "both" if named == set(PRIORS) else named.pop() if named else "train"


def _controls(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(r["control"] for r in rows if r["control"]))


# -- committed lines -----------------------------------------------------------------------------------------------


def verify(
    dataset: str | None = None,
    root: str | Path | None = None,
    *,
    models: Sequence[str] = (),
    device: str = "cpu",
    num_workers: int = 0,
) -> Iterator[Check]:
    """Every committed line, or those on ``dataset`` (which lies in ``root``) or of ``models``, checked one by one.

    Raises UsageError for a data set that no committed line is about.
    """
    lines = leaderboard.committed()
    if dataset is not None:
        name = dataset.partition(":")[0]
        lines = [r for r in lines if dataset in (r["dataset"], r["protocol"]) or name == r["dataset"]]
        if not lines:
            there = ", ".join(dict.fromkeys(r["dataset"] for r in leaderboard.committed()))
            raise UsageError(f"no committed result is about {dataset}; there are results on {there}")
    if models:
        wanted = {e.name for m in models if (e := registry.resolve(m)[1])}
        lines = [r for r in lines if r["model"] in wanted or set(_by_model([r])) & wanted]
    given = Source(dataset, str(root)) if dataset is not None and root is not None else None
    parts: dict[tuple[str, ...], list[Row]] = {}
    for row in lines:
        key = tuple(row.get(k) or "" for k in ("dataset", "protocol", "split", "fold", "label_map", "detector"))
        parts.setdefault(key, []).append(row)
    for rows in sorted(parts.values(), key=lambda rows: rows[0]["dataset"] != "synthemo"):
        here, why = _source(rows, given)
        shipped = [r for r in rows if r["model"] in registry.weights()]
        if here is None or not shipped:
            reason = (
                why
                if here is None
                else "its weights are not shipped: benchmarks/evidence.py and composed.py train them anew"
            )
            yield from (Check(r, NOT, reason) for r in rows)
            continue
        found = _measured_or_error(shipped, here, device, num_workers)
        for row in rows:
            if row not in shipped:
                reason = "its weights are not shipped: they are trained anew for every fold"
                yield Check(row, NOT, reason)
            elif isinstance(found, str):
                yield Check(row, DIFFERS, found)
            else:
                yield compared(row, found)


def _source(rows: Sequence[Row], given: Source | None) -> tuple[Source | None, str]:
    """The data of some lines; or None, and why they are not at hand."""
    first = rows[0]
    if first["dataset"] == "synthemo":
        return Source("", ""), ""
    known = SOURCES.get((first["dataset"], first["protocol"]))
    if given is not None:
        return (replace(known, root=given.root) if known else given), ""
    if known is None:
        if not any(r["model"] in registry.weights() for r in rows):
            return None, "its weights are not shipped: they are trained anew for every fold"
        return None, f"{leaderboard.board(first['dataset']).access}; with it: --dataset {first['dataset']} --root DIR"
    if not resolve_path(known.root).exists():
        mend = f"{known.script} makes them" if known.script else "set EMOZOO_SHARED"
        return None, f"no data at {resolve_path(known.root)}: {mend}, or say where with --dataset and --root"
    return known, ""


def _measured_or_error(
    rows: Sequence[Row], source: Source, device: str, num_workers: int
) -> dict[tuple[str, ...], New] | str:
    """New lines by key; or one readable line with the reason why nothing can be measured."""
    try:
        if source.dataset:
            result = measured(rows, source, device=device, num_workers=num_workers)
        else:
            result = Result()
            for model, own in _by_model(rows).items():
                result += suite.measure(
                    [model], prior=_prior(own), control=_controls(own), device=device, num_workers=num_workers
                )
    except EmozooError as error:
        return str(error)
    return {
        key_of(line_): New(line_, _two_items(record))
        for line_, record in zip(report.to_csv_rows(result.records), result.records, strict=True)
    }


def _two_items(record: Mapping[str, Any]) -> float:
    """How much UAR changes with two items of the rarest class: the difference that two machines may have."""
    counts = [c["n"] for c in record["per_class"].values() if c["n"]]
    return 2 / (len(counts) * min(counts)) if counts else 0.0


def key_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The values that identify a measurement: lines or records with equal ones are the same measurement."""
    return tuple("" if row.get(k) is None else str(row[k]) for k in KEY)


def compared(old: Row, found: Mapping[tuple[str, ...], New]) -> Check:
    """The check of a committed line against the new line of the same key."""
    again = found.get(key_of(old))
    if again is None:
        near = [k for k in found if k[:4] == key_of(old)[:4]]
        odd = next((f"{c} {a or 'none'} -> {b or 'none'}" for k in near
                    for c, a, b in zip(KEY, key_of(old), k, strict=True) if a != b), "nothing of the kind")  # fmt: skip
        return Check(old, DIFFERS, f"not measured again as it is committed: {odd}")
    new = again.row
    for column in ("sha256", "n_expected", "n_evaluated"):
        if old[column] != new[column]:
            return Check(old, DIFFERS, f"{column} {_short(old[column])} -> {_short(new[column])}")
    faces = abs(int(old["no_face"] or 0) - int(new["no_face"] or 0))
    if faces > FACES * int(new["n_evaluated"]):
        return Check(old, DIFFERS, f"items without a face {old['no_face']} -> {new['no_face']}")
    worst = ("", 0.0)
    for column, tolerance in TOLERANCE.items():
        most = max(tolerance, again.two) if column in ("UAR", "F1", "delta") else tolerance
        before, now = old.get(column) or "", new.get(column) or ""
        if not before and column in ("CCC", "delta"):
            continue  # a column that an older version did not write
        if bool(before) != bool(now):
            return Check(old, DIFFERS, f"{column} {before or 'none'} -> {now or 'none'}")
        if not before:
            continue
        gap = abs(float(before) - float(now))
        if gap > most:
            return Check(old, DIFFERS, f"{column} {before} -> {now}, more than {most:.3g} apart", (column, gap))
        worst = max(worst, (column, gap), key=lambda x: x[1])
    return Check(old, SAME, "", worst)


def _short(text: str) -> str:
    return text[:12] if len(text) == 64 else text or "none"


# -- to read -------------------------------------------------------------------------------------------------------


def show(checks: Sequence[Check], console: Console | None = None) -> None:
    """Prints the lines that differ or could not be verified, with reasons, then the counts."""
    from rich.console import Console
    from rich.markup import escape

    console = console or Console(highlight=False, soft_wrap=True)
    reasons: dict[tuple[str, str], list[str]] = {}
    for c in checks:
        if c.state in (DIFFERS, NOT):
            reasons.setdefault((c.state, c.why), []).append(line(c.row))
    for (state, why), names in reasons.items():
        colour = "red" if state == DIFFERS else "yellow"
        console.print(f"[{colour}]{state}[/]: {escape(why)}")
        for name in names:
            console.print(f"  {escape(name)}")
    count = {s: sum(c.state == s for c in checks) for s in (SAME, DIFFERS, NOT)}
    text = f"{count[SAME]} of {len(checks)} rows verified, {count[DIFFERS]} differ, {count[NOT]} not verified"
    worst = max((c.worst for c in checks if c.worst and c.state == SAME), key=lambda w: w[1], default=None)
    if worst:
        text += f"; largest difference {worst[1]:.2g}" + (f" ({worst[0]})" if worst[1] else "")
    console.print(f"[bold]{escape(text)}[/]")
    if count[SAME]:
        tolerance = ", ".join(f"{k} {v:g}" for k, v in TOLERANCE.items())
        console.print(f"Tolerance: {tolerance}; UAR, F1, delta also two items of the rarest class", style="dim")


def line(row: Mapping[str, Any]) -> str:
    """A committed line or a record in a few words."""
    words = [row.get(k) for k in ("model", "control", "dataset", "protocol", "split", "fold", "prior")]
    return ", ".join(dict.fromkeys(str(w) for w in words if w not in (None, "")))


def failed(checks: Sequence[Check]) -> bool:
    """Whether the exit code is 1: something differs, or nothing was verified."""
    return any(c.state == DIFFERS for c in checks) or not any(c.state == SAME for c in checks)
