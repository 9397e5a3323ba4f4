"""How long emozoo takes to start: until a name can be imported, models are listed, and the first image is predicted.

    python benchmarks/speed/startup.py [--quick] [--out FILE]

Each command runs in a process of its own, with a warm file cache; all of them take turns, round by round. Bare Python
and ``import torch`` are the limits that stand beside the results: nothing of ours can be faster. A prediction counts
from the start of the process to the line with its answer, all else to the end of the process.

Writes seconds of wall clock and of CPU. Other work on the machine distorts both, the wall clock more; the ratios bear
it. Not for Windows.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rounds
from PIL import Image

from emozoo.registry import MODELS, resolve
from emozoo.synthemo.cause import plan
from emozoo.synthemo.clip import render

QUESTION = "start-up"
ROOT = Path(__file__).resolve().parents[2]
UNITS = ("wall s", "CPU s")
BARE, TORCH, IMPORT, LIST = "python", "import torch", "import emozoo", "emozoo list"
PREDICT_BAR = 4.0
BARS = {IMPORT: 0.06, LIST: 0.25}  # seconds of wall clock, on two idle cores


class Command(NamedTuple):
    """A command of Python. ``limit``: the name of the command that it is compared with. ``bar``: seconds."""

    words: tuple[str, ...]
    limit: str | None
    bar: float | None
    until_answer: bool = False


def commands(image: Path, models: Sequence[str]) -> dict[str, Command]:
    """The commands by name, limits first."""
    found = {
        BARE: Command(("-c", "pass"), None, None),
        TORCH: Command(("-c", "import torch"), BARE, None),
        IMPORT: Command(("-c", "import emozoo"), BARE, BARS[IMPORT]),
        LIST: Command(("-m", "emozoo", "list"), BARE, BARS[LIST]),
    }
    for model in models:
        words = ("-m", "emozoo", "predict", str(image), "--model", model)
        found[f"emozoo predict, {model}"] = Command(words, TORCH, PREDICT_BAR, until_answer=True)
    return found


def run(command: Command) -> tuple[float, float]:
    """Seconds of wall clock and of CPU. Stops where the command fails or answers nothing."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command.words], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    answer = process.stdout.readline() if command.until_answer else b""
    seconds = time.perf_counter() - begun
    process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if not command.until_answer:
        seconds = time.perf_counter() - begun
    if process.returncode or (command.until_answer and not answer):
        sys.exit(f"{' '.join(command.words)}: failed")
    return seconds, used.ru_utime + used.ru_stime


def measure(all_commands: Mapping[str, Command], rounds: int) -> dict[str, np.ndarray]:
    """Numbers of each command (rounds, 2) in the order of ``UNITS``, after a round that is not counted."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in all_commands}
    for number in range(rounds + 1):
        for name, command in all_commands.items():
            numbers = run(command)
            if number:
                found[name].append(numbers)
    return {name: np.array(numbers) for name, numbers in found.items()}


def table_rows(all_commands: Mapping[str, Command], found: Mapping[str, np.ndarray]) -> list[dict[str, object]]:
    """A row for each command with a limit, and each unit; the bar is for wall clock."""
    rows: list[dict[str, object]] = []
    for name, command in all_commands.items():
        if command.limit is None:
            continue
        names = (name.partition(",")[0], command.limit)
        for k, unit in enumerate(UNITS):
            bar = "" if command.bar is None or k else f"<= {command.bar:g}"
            more = {"bar": bar, "limit": command.limit, "clips": int(command.until_answer)}
            rows.append(rounds.row(QUESTION, name, names, unit, found[name][:, k], found[command.limit][:, k], **more))
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    args = rounds.arguments(__doc__, argv)
    models = [entry.name for name in MODELS if (entry := resolve(name)[1]) is not None]
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch, "person.png")
        Image.fromarray(render(plan(3, 0, size=(640, 480), seconds=0.2)).frames[0]).save(image)
        chosen = commands(image, models[:1] if args.quick else models)
        found = measure(chosen, 1 if args.quick else rounds.ROUNDS)
    rounds.save(QUESTION, table_rows(chosen, found), args.out)


if __name__ == "__main__":
    main()
