"""Committed results, measured again: ``emozoo benchmark --verify``; and submitted records, computed again.

A line of ``benchmarks/results`` is *the same* when the same weights (by sha256) give its numbers again on as many
items, within :data:`TOLERANCE`: decoders and processors differ in the last digits, and an item between two classes may
fall to the other side (two of the rarest class may always). It is *from predictions* when its data are not here, but
the submitted predictions give its numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emozoo import files, registry
from emozoo.benchmark import leaderboard, predictions, report, statistics, suite
from emozoo.benchmark.report import KEY
from emozoo.benchmark.run import PRIORS, Result, complete, measure
from emozoo.benchmark.statistics import METRICS, Outcome, group_numbers
from emozoo.data.protocols import protocol
from emozoo.errors import EmozooError, UsageError
from emozoo.files import resolve_path
from emozoo.synthemo.compose import STAMP

if TYPE_CHECKING:
    from rich.console import Console

TOLERANCE = {"WAR": 0.005, "UAR": 0.01, "F1": 0.01, "CCC_V": 0.01, "CCC_A": 0.01, "CCC": 0.01, "delta": 0.015}
FACES = 0.01  # by how large a share of the items the number of those without a face may differ
SAME, DIFFERS, PREDICTIONS, NOT = "same", "differs", "from predictions", "not verified"
RECORD = (
    "model", "sha256", "dataset", "protocol", "split", "fold", "prior", "control", "n_expected", "n_evaluated",
    "no_face", "metrics", "ci95", "per_class", "versions", "hardware", "date", "classes",
)  # fmt: skip

Row = dict[str, str]


@dataclass(frozen=True)
class Source:
    """Where a committed data set can be had: ``dataset`` and ``root`` as ``emozoo benchmark`` takes them.

    ``named``: what results call data set and protocol, where it is a table without a name of its own. ``script``: what
    makes the data here.
    """

    dataset: str
    root: str
    named: bool = False
    script: str = ""


# (data set, protocol) of committed results on shared material, or on what is made of it; the built-in suite needs none.
SOURCES: dict[tuple[str, str], Source] = {
    ("ferplus", "ferplus7"): Source("ferplus7", "$EMOZOO_SHARED/data/ferplus"),
    ("lfw5", "lfw5_val_v1"): Source("csv", "$EMOZOO_SHARED/data/faces_lfw5/manifest.csv", named=True),
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
    """A line measured now. ``two``: by how much UAR changes when two items of the rarest class do."""

    row: Row
    two: float = 0.0


@dataclass
class Check:
    """What became of a committed line or submitted record. ``worst``: its largest difference, by metric."""

    row: Mapping[str, Any]
    state: str
    why: str = ""
    worst: tuple[str, float] | None = None


def measured(
    rows: Sequence[Row], source: Source, *, device: str = "cpu", num_workers: int = 0, batch_size: int = 32
) -> Result:
    """The records of committed lines about one data set, split, label map and detector, measured now.

    The lines may be of several weights, priors and controls. Lines that only hold a part's place (``fold`` of a number)
    are measured with that part.
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
    """Lines by the model that has to be asked: for a retrained control, the one that it is the control of."""
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
    submitted = {key_of(r): (r, path) for path, records in submissions() for r in records}
    for rows in sorted(parts.values(), key=lambda rows: rows[0]["dataset"] != "synthemo"):
        here, why = _source(rows, given)
        shipped = [r for r in rows if r["model"] in registry.weights()]
        if here is None or not shipped:
            reason = (
                why
                if here is None
                else "its weights are not shipped: benchmarks/evidence.py and composed.py train them anew"
            )
            yield from (_from_predictions(r, submitted, reason) for r in rows)
            continue
        found = _measured_or_error(shipped, here, device, num_workers)
        for row in rows:
            if row not in shipped:
                reason = "its weights are not shipped: they are trained anew for every fold"
                yield _from_predictions(row, submitted, reason)
            elif isinstance(found, str):
                yield Check(row, DIFFERS, found)
            else:
                yield compared(row, found)


def _source(rows: Sequence[Row], given: Source | None) -> tuple[Source | None, str]:
    """Where the items of some lines are to be had, or why they are not."""
    first = rows[0]
    if first["dataset"] == "synthemo":
        return Source("", ""), ""
    known = SOURCES.get((first["dataset"], first["protocol"]))
    if given is not None:
        return (replace(known, root=given.root) if known else given), ""
    if known is None:
        if not any(r["model"] in registry.weights() for r in rows):
            return None, "its weights are not shipped: they are trained anew for every fold"
        return None, f"{leaderboard.BOARDS[first['dataset']].access}; with it: --dataset {first['dataset']} --root DIR"
    if not resolve_path(known.root).exists():
        mend = f"{known.script} makes them" if known.script else "set EMOZOO_SHARED"
        return None, f"no data at {resolve_path(known.root)}: {mend}, or say where with --dataset and --root"
    return known, ""


def _measured_or_error(
    rows: Sequence[Row], source: Source, device: str, num_workers: int
) -> dict[tuple[str, ...], New] | str:
    """New lines by key; or the one readable line that says why nothing can be measured."""
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
    """How far two items of the rarest class move UAR: what may lie between two machines on small classes."""
    counts = [c["n"] for c in record["per_class"].values() if c["n"]]
    return 2 / (len(counts) * min(counts)) if counts else 0.0


def key_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes a line or record the same measurement as another."""
    return tuple("" if row.get(k) is None else str(row[k]) for k in KEY)


def compared(old: Row, found: Mapping[tuple[str, ...], New]) -> Check:
    """A committed line beside the new one of the same key."""
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
    for column, least in TOLERANCE.items():
        most = max(least, again.two) if column in ("UAR", "F1", "delta") else least
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


# -- submissions ---------------------------------------------------------------------------------------------------


def submissions() -> list[tuple[Path, list[dict[str, Any]]]]:
    """Record files that others handed in and that were taken in, each with its predictions beside it."""
    try:
        folder = files.packaged("benchmarks/submissions")
    except EmozooError:
        return []
    return [(p, read_records(p)) for p in sorted(folder.glob("*.json"))]


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a file that ``emozoo benchmark --json`` wrote. Raises UsageError for another file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["records"]
        if not found or not all(isinstance(r, dict) for r in found):
            raise ValueError("no records in it")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: not a file of records as `emozoo benchmark --json FILE` writes it ({error})"
        ) from None
    return found


def _from_predictions(row: Row, submitted: Mapping[tuple[str, ...], Any], reason: str) -> Check:
    if key_of(row) not in submitted:
        return Check(row, NOT, reason)
    record, path = submitted[key_of(row)]
    if problem := problem_of(record, read_records(path), path):
        return Check(row, DIFFERS, problem)
    check = compared(row, {key_of(row): New(report.to_csv_rows([record])[0])})
    return replace(check, state=PREDICTIONS) if check.state == SAME else check


def submission(path: Path) -> list[Check]:
    """Every record of a file checked: complete, about a known board, and its numbers those of its predictions."""
    records = read_records(path)
    found = []
    for record in records:
        problem = problem_of(record, records, path)
        found.append(Check(record, DIFFERS if problem else PREDICTIONS, problem or ""))
    return found


def problem_of(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]], path: Path) -> str | None:
    """What is wrong with a submitted record, or None. ``records``: all of its file, where those of its folds stand."""
    missing = [k for k in RECORD if k not in record]
    if missing:
        return f"lacks {', '.join(missing)}"
    if record["dataset"] not in leaderboard.BOARDS:
        return f"there is no board for '{record['dataset']}'; there are {', '.join(leaderboard.BOARDS)}"
    known = registry.weights().get(record["model"])
    if known and known.sha256 != record["sha256"]:
        return f"{record['model']} has sha256 {known.sha256[:12]}, the record says {str(record['sha256'])[:12]}"
    if record["n_evaluated"] > record["n_expected"]:
        return f"{record['n_evaluated']} items evaluated of {record['n_expected']} expected"
    counts = known_protocol.counts if (known_protocol := protocol(str(record["protocol"]))) else {}
    part = f"fold {record['fold']}" if record["fold"] is not None else str(record["split"])
    expected = counts.get("all" if record["fold"] in ("pooled", "mean") else part)
    if expected is not None and record["n_expected"] + record.get("n_unscored", 0) != expected:
        return f"{record['protocol']} has {expected} items in {part}, the record expected {record['n_expected']}"
    parts = _parts_of(record, records)
    if not parts:
        return "no records of its folds stand in the same file"
    try:
        read = [predictions.read(path.parent / str(r.get("predictions") or "none")) for r in parts]
    except EmozooError as error:
        return str(error)
    n = sum(len(p.ids) for p in read)
    if n != record["n_evaluated"]:
        return f"{n} predictions for {record['n_evaluated']} evaluated items"
    metrics, interval = _again(record, read)
    for name in METRICS:
        for what, old, new in (
            ("", record["metrics"].get(name), metrics.get(name)),
            *((" interval", a, b) for a, b in zip_longest(
                record["ci95"].get(name) or (), interval.get(name) or ())),
        ):  # fmt: skip
            if (old is None) != (new is None) or (old is not None and new is not None and abs(old - new) > 1e-3):
                return f"{name}{what} is {old} in the record and {new} by its predictions"
    return None if record["fold"] == "mean" else _details(record, read)


def _details(record: Mapping[str, Any], read: Sequence[predictions.Predictions]) -> str | None:
    """What a record says of classes, persons and confidence that its predictions do not, or None."""
    ids = [i for p in read for i in p.ids]
    whole = statistics.pooled([p.outcome for p in read])
    groups = group_numbers([g for p in read for g in p.groups], ids)
    error = None
    if whole.confusion is not None and (scored := whole.confusion[:, 0] >= 0).any():
        right = (whole.confusion[:, 0] == whole.confusion[:, 1])[scored]
        error = statistics.calibration_error(np.concatenate([p.confidence for p in read])[scored], right)
    outcome = replace(whole, groups=groups)
    for name, again in (
        ("n_groups", len(np.unique(groups))), ("confusion", statistics.matrix(outcome)),
        ("per_class", statistics.per_class(outcome)), ("ece", error),
    ):  # fmt: skip
        if name in record and not _alike(record[name], again):
            return f"{name} is not what follows from its predictions"
    return None


def _alike(a: Any, b: Any) -> bool:
    """Whether two values of JSON are the same but for the last digits of numbers."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_alike(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_alike, a, b))
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return abs(a - b) <= 1e-3
    return a == b


def _parts_of(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The records that a record was made of: itself, or those of its folds or splits."""
    if record["fold"] not in ("pooled", "mean"):
        return [record]
    same = ("dataset", "prior", "control", "label_map", "detector")
    return [
        r for r in records
        if r["fold"] not in ("pooled", "mean") and all(r.get(k) == record.get(k) for k in same)
        and (r["protocol"] == record["protocol"] or r["fold"] is None)
        and (not record.get("weights") or r["sha256"] in {w["sha256"] for w in record["weights"]})
        and (record.get("weights") or r["sha256"] == record["sha256"])
    ]  # fmt: skip


def _again(
    record: Mapping[str, Any], read: Sequence[predictions.Predictions]
) -> tuple[dict[str, float | None], Mapping[str, tuple[float, float]]]:
    """Metrics and intervals as they follow from predictions."""
    outcomes = [p.outcome for p in read]
    if record["fold"] == "mean":
        metrics, _, interval = statistics.mean(outcomes, disjoint=len({i for p in read for i in p.ids}) == sum(
            len(p.ids) for p in read))  # fmt: skip
        return complete(metrics), interval
    whole = statistics.pooled(outcomes)
    ids = [i for p in read for i in p.ids]
    groups = group_numbers([g for p in read for g in p.groups], ids)
    values, interval = statistics.evaluate(Outcome(groups, whole.classes, whole.confusion, whole.moments))
    return complete(values), interval


# -- to read -------------------------------------------------------------------------------------------------------


def show(checks: Sequence[Check], console: Console | None = None) -> None:
    """Prints what differs and what could not be verified, each with its reason, then the counts."""
    from rich.console import Console
    from rich.markup import escape

    console = console or Console(highlight=False, soft_wrap=True)
    reasons: dict[tuple[str, str], list[str]] = {}
    for c in checks:
        if c.state in (DIFFERS, NOT):
            reasons.setdefault((c.state, c.why), []).append(line(c))
    for (state, why), names in reasons.items():
        colour = "red" if state == DIFFERS else "yellow"
        console.print(f"[{colour}]{state}[/]: {escape(why)}")
        for name in names:
            console.print(f"  {escape(name)}")
    count = {s: sum(c.state == s for c in checks) for s in (SAME, PREDICTIONS, DIFFERS, NOT)}
    done = count[SAME] + count[PREDICTIONS]
    text = f"{done} of {len(checks)} rows verified"
    if count[PREDICTIONS]:
        text += f" ({count[PREDICTIONS]} of them from predictions)"
    text += f", {count[DIFFERS]} differ, {count[NOT]} not verified"
    worst = max((c.worst for c in checks if c.worst and c.state == SAME), key=lambda w: w[1], default=None)
    if worst:
        text += f"; largest difference {worst[1]:.2g}" + (f" ({worst[0]})" if worst[1] else "")
    console.print(f"[bold]{escape(text)}[/]")
    if count[SAME]:
        tolerance = ", ".join(f"{k} {v:g}" for k, v in TOLERANCE.items())
        console.print(f"Tolerance: {tolerance}; UAR, F1, delta also two items of the rarest class", style="dim")


def line(c: Check) -> str:
    """A committed line in a few words."""
    words = [c.row[k] for k in ("model", "control", "dataset", "protocol", "split", "fold", "prior")]
    return ", ".join(dict.fromkeys(str(w) for w in words if w not in (None, "")))


def failed(checks: Sequence[Check]) -> bool:
    """Whether the exit code is 1: something differs, or nothing was verified."""
    return any(c.state == DIFFERS for c in checks) or not any(c.state in (SAME, PREDICTIONS) for c in checks)
