"""Takes media files through `predict`, `check` and the data module: a process that a damaged file may end, or hang.

These three are the doors. A line on stdin is a JSON list, the door and the paths; a line on stdout is the answers, by
the name of the file, and how many MiB the process needed for them beyond what it had.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import resource
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emozoo import bulk, registry
from emozoo.data import datasets, doctor
from emozoo.data.datamodule import EmotionDataModule
from emozoo.inference import Predictor
from emozoo.recognizer import Recognizer

MODEL = "recursive_joint_attention"  # sees faces and hears audio
FATAL = ("missing", "empty", "unreadable", "no_video", "no_audio", "broken")  # findings of files that cannot be used
SPACE = 12 << 30  # bytes of addresses: what needs more fails here, and not the machine


@dataclass
class Answer:
    """The answer for a file: why it cannot be used (code and text of each reason), else a value to compare."""

    reasons: list[tuple[str, str]]
    value: Any = None
    warnings: list[tuple[str, str]] = field(default_factory=list)


def predictor() -> Predictor:
    """A network that sees whole frames, since few of these files show a face, and hears audio."""
    torch.manual_seed(0)
    spec = registry.MODELS[MODEL].specs["lite"].to_dict()
    spec["streams"]["face"]["source"] = "frame"
    return Predictor(Recognizer(MODEL, size="lite", spec=spec).eval())


PREDICTOR = predictor()


def predict(paths: Sequence[Path]) -> dict[str, Answer]:
    """As `emozoo predict` does it."""
    found = bulk.predictions(PREDICTOR, bulk.find_sources(paths), lambda number, fraction: None)
    answers = {}
    for result, path in found:
        reasons = [(result.error["code"], result.error["text"])] if result.error else []
        scores = None if result.scores is None else [round(v, 4) for v in result.scores.values()]
        answers[path.name] = Answer(
            reasons,
            [scores, result.valence, result.arousal, result.duration_s],
            [(w["code"], w["text"]) for w in result.warnings],
        )
    return answers


def check(paths: Sequence[Path]) -> dict[str, Answer]:
    """As `emozoo check` does it; copies and class sizes, which concern several files, are left out."""
    with tempfile.TemporaryDirectory() as folder:
        table = table_of(paths, Path(folder))
        report = doctor.check(table, workers=1)
        names = {row.id: Path(row.path).name for row in datasets.load("csv", table).rows}
    answers = {name: Answer([], "", []) for name in names.values()}
    for finding in report.findings:
        if finding.item not in names or "duplicate" in finding.code or "conflict" in finding.code:
            continue
        answer = answers[names[finding.item]]
        (answer.reasons if finding.code in FATAL else answer.warnings).append((finding.code, finding.text))
    return answers


def datamodule(paths: Sequence[Path]) -> dict[str, Answer]:
    """As a test of a network reads them. What cannot be read is left out and named."""
    names = {str(path): path.name for path in paths}
    answers: dict[str, Answer] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = EmotionDataModule(
            "csv", table_of(paths, Path(folder)), spec=registry.MODELS[MODEL].specs["lite"], split="all",
            batch_size=4, num_workers=0, allow_missing=True,
        )  # fmt: skip
        data.setup("test")
        for batch in data.test_dataloader():
            batch = data.on_after_batch_transfer(batch, 0)
            for n, row in enumerate(batch.rows if batch else ()):
                digest = hashlib.sha256()
                for values in (*batch.inputs.values(), *batch.masks.values()):
                    assert torch.isfinite(values).all()
                    digest.update(np.ascontiguousarray(values[n].numpy()).tobytes())
                answers[Path(data.test_rows[row].path).name] = Answer([], digest.hexdigest())
        for line in data.skipped:
            path = max((p for p in names if line.startswith(p + ": ")), key=len)
            answers.setdefault(names[path], Answer([])).reasons.append(("skipped", line.removeprefix(path + ": ")))
    return answers


def table_of(paths: Sequence[Path], folder: Path) -> Path:
    """A manifest of these files."""
    table = folder / "manifest.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["path", "label"])
        out.writerows((path, ("happy", "sad")[n % 2]) for n, path in enumerate(paths))
    return table


def resident(what: str) -> float:
    """MiB of ``VmRSS`` (now) or ``VmHWM`` (at most, since it was set back)."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(what))
    return int(line.split()[1]) / 1024


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (SPACE, SPACE))
    warnings.simplefilter("ignore")  # each file that is skipped
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    doors = {f.__name__: f for f in (predict, check, datamodule)}
    for line in sys.stdin:
        door, paths = json.loads(line)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = resident("VmRSS")
        try:
            found: Any = doors[door](list(map(Path, paths)))
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        if isinstance(found, dict):
            found = {name: astuple(answer) for name, answer in found.items()}
        print(json.dumps([found, resident("VmHWM") - before]), file=answers, flush=True)


if __name__ == "__main__":
    main()
