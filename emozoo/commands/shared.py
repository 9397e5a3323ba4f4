"""What the commands share: options, lines on stdout and stderr, and the progress bar."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from emozoo import registry

AsJson = Annotated[bool, typer.Option("--json", help="Machine output alone on stdout.")]
Prior = Annotated[
    str | None,
    typer.Option(
        help="Class prior of the scores: 'train' (as in training) or 'uniform' (removed); default: see `emozoo info`."
    ),
]
DEVICE_HELP = "cpu, cuda, cuda:1, mps."
DETECTOR_HELP = "Face detector instead of the one stored with the weights: cascade or yunet."


def note(text: str) -> None:
    print(text, file=sys.stderr)


def fail(text: str, code: int) -> int:
    """Prints an error as one line; returns the exit code."""
    from emozoo.data.find import one_line

    note(f"error: {one_line(' '.join(text.split()))}")
    return code


def bug_text(error: Exception) -> str:
    """One line about an exception that is not one of ours."""
    return f"{type(error).__name__}: {error} (--debug shows where)"


def disk_text(error: OSError) -> str:
    """One line about a file that the system did not let us write or read; of other errors, as of a bug."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
        return bug_text(error)
    what = f"{error.filename}: " if error.filename else ""
    return f"{what}{error.strerror}: mend that, then run the same command again (--debug shows where)"


def print_json(data: Any) -> None:
    print(json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False))


def check_name(model: str) -> None:
    """Raises UnknownModelError for a mistyped name before anything heavy is loaded; a path is checked by ``load``."""
    if "/" not in model and os.sep not in model and not Path(model).exists():
        registry.resolve(model)


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[..., None]]:
    """Shows a bar on stderr if that is a terminal; gives a function of ``completed``, ``total`` and ``description``."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    hidden = not console.is_terminal
    with Progress(
        *columns, console=console, disable=hidden, transient=True, redirect_stdout=sys.stdout.isatty()
    ) as bar:
        task = bar.add_task(label, total=None)
        yield lambda **changes: bar.update(task, **changes)
