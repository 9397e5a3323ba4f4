"""The command ``emozoo benchmark``: measure and write, compare, or verify."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emozoo import files
from emozoo.benchmark import compare, prediction_files, report, run, suite, verify
from emozoo.benchmark.formatting import comparison_lines
from emozoo.benchmark.markdown import markdown
from emozoo.benchmark.page import html
from emozoo.benchmark.records import Result
from emozoo.benchmark.resume import UnfinishedRun
from emozoo.benchmark.team import Team
from emozoo.errors import UsageError
from emozoo.launch import launched, own_device


def workers() -> int:
    """The number of processes that read media."""
    return min(4, os.cpu_count() or 1)


def measure(
    models: Sequence[str],
    sources: Sequence[tuple[str, Path]],
    *,
    folds: Sequence[int | None],
    people: int | str | None,
    pair: tuple[str, str] | None,
    control: Sequence[str],
    json_file: Path | None,
    out: Path | None,
    **options: Any,
) -> None:
    """Scores models on data sets (without any: the built-in suite), prints the table and writes the chosen files.

    ``sources``: name and root of each data set. A run that was killed continues from its last batch when it is started
    again; one that ended measures anew. Processes of a launcher share the items; the first one writes and prints.
    """
    check_outputs(json_file, out)
    unfinished, team = UnfinishedRun(), Team.of_launcher()
    if team.rank:
        logging.getLogger("emozoo").setLevel(logging.ERROR)
    options["device"] = own_device(options["device"])
    if pair is not None:
        _check_pair(pair, sources, split=options["split"], fold=folds[0], folds=people)

    def score(some: Sequence[str]) -> Result:
        result = Result()
        if not sources:
            chosen = {k: v for k, v in options.items() if k in ("prior", "device")}
            return suite.measure(some, control=control or ("all",), unfinished=unfinished, team=team, **chosen)
        for dataset, root in sources:
            for fold in folds:
                result += run.measure(
                    some, dataset, root, fold=fold, folds=people, control=control, num_workers=workers(),
                    unfinished=unfinished, team=team, **options,
                )  # fmt: skip
        return result

    comparisons: list[dict[str, Any]] = []
    if pair is None:
        result = score(models)
    else:
        result = score(models) if models else Result()
        sides = [score([name]) for name in pair]
        comparisons = compare.results(*sides)
        for side in sides:
            result += side
    if team.rank == 0:
        write(result, comparisons, json_file, out)
    team.gather(None)  # until the files are there, a killed run can go on
    unfinished.finish()
    team.close()
    if team.rank:
        return
    report.show(result.records)
    for c in comparisons:
        print("\n  ".join(comparison_lines(c)))


def _check_pair(pair: tuple[str, str], sources: Sequence[tuple[str, Path]], **choice: Any) -> None:
    """Raises UsageError before anything is measured where two models cannot be compared on these data."""
    if len(sources) > 1:
        raise UsageError("--compare takes one --dataset")
    if not sources:  # of the built-in suite, which has its own weights for a bare name
        return
    a, b = pair
    if "{fold}" in a + b:
        part = run.parts(*sources[0], **choice)[0][0]
        if part.label is None:
            return  # measuring says that there are no folds
        a, b = (name.replace("{fold}", part.name) for name in pair)
    compare.check_tasks(a, b)


def check_outputs(json_file: Path | None, out: Path | None) -> None:
    """Raises EmozooError before hours of measuring where what they give cannot be written."""
    if json_file is not None:
        files.check_file(json_file)
    if out is not None:
        files.check_writable(out)


def write(result: Result, comparisons: Sequence[dict[str, Any]], json_file: Path | None, out: Path | None) -> None:
    """The files of ``--json`` and ``--out``, each whole or not at all, predictions first."""
    for path in dict.fromkeys(p for p in (json_file, out / "records.json" if out else None) if p):
        prediction_files.write(result, path.parent / f"{path.stem}.predictions")
        report.write_json(result.records, path, comparisons)
    if out is not None:
        report.write_csv(result.records, out / "results.csv")
        files.write_text(out / "report.md", markdown(result.records, comparisons))
        files.write_text(out / "report.html", html(result.records, comparisons))


def compare_files(a: Path, b: Path, json_file: Path | None) -> None:
    """Two files of predictions, without measuring anything."""
    if launched()[0]:
        return
    found = compare.files(a, b)
    if json_file is not None:
        report.write_json([], json_file, [found])
    print("\n  ".join(comparison_lines(found)))


def verify_committed(
    models: Sequence[str], sources: Sequence[tuple[str, Path]], *, device: str, json_file: Path | None
) -> int:
    """Measures committed lines again; the exit code is 1 where one differs, or none could be verified."""
    if launched()[1] > 1:
        raise UsageError("--verify runs in one process: start it without a launcher")
    check_outputs(json_file, None)
    checks: list[verify.Check] = []
    wanted: Sequence[tuple[str, Path] | tuple[()]] = sources or [()]
    for where in wanted:
        checks += verify.verify(*where, models=models, device=device, num_workers=workers())
    return _report(checks, json_file)


def _report(checks: Sequence[verify.Check], json_file: Path | None) -> int:
    if json_file is not None:
        rows = [{"row": dict(c.row), "state": c.state, "why": c.why or None,
                 "worst": dict([c.worst]) if c.worst else {}} for c in checks]  # fmt: skip
        files.write_text(json_file, report.to_json({"schema": 1, "tolerance": verify.TOLERANCE, "verified": rows}))
    verify.show(checks)
    return int(verify.failed(checks))
