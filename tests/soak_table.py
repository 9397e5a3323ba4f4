"""What long runs count: cases tried, survived, lost and hung, and the most memory; a row for each part.

`make soak` sets ``EMOZOO_SOAK_TABLE`` to ``benchmarks/results/soak.csv``: parts that ran replace their own rows.
"""

from __future__ import annotations

import csv
import datetime
import fcntl
import os
import platform
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from emozoo.files import write_atomic

COLUMNS = (
    "part", "cases", "survived", "lost", "hung", "peak_mib", "minutes", "seed", "emozoo", "torch", "python", "date",
)  # fmt: skip


@dataclass
class Tally:
    """Counts of one part of a long run."""

    part: str
    seed: int = 0
    survived: int = 0  # answered, refused with one reason, or whole again after the next run
    lost: int = 0  # crashed; a result that is missing, doubled, or half and looks whole
    hung: int = 0  # did not end in its time
    peak_mib: float = 0.0  # the largest resident set of any process that tried a case
    started: float = field(default_factory=time.monotonic)

    def memory(self, mib: float) -> None:
        """Keeps the larger of what is known and ``mib``."""
        self.peak_mib = max(self.peak_mib, mib)

    @property
    def cases(self) -> int:
        return self.survived + self.lost + self.hung

    def row(self) -> dict[str, str]:
        """A row of the table."""
        values = (
            self.part, self.cases, self.survived, self.lost, self.hung, round(self.peak_mib),
            round((time.monotonic() - self.started) / 60, 1), self.seed, version("emozoo"), version("torch"),
            platform.python_version(), datetime.date.today().isoformat(),
        )  # fmt: skip
        return dict(zip(COLUMNS, map(str, values), strict=True))


def write(tally: Tally) -> None:
    """Puts the row of ``tally`` into the table that ``EMOZOO_SOAK_TABLE`` names; nothing where it names none."""
    name = os.environ.get("EMOZOO_SOAK_TABLE", "")
    if not name or not tally.cases:
        return
    table = Path(name)
    with (Path(tempfile.gettempdir()) / "emozoo-soak.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests of several processes write into one table
        rows = {r["part"]: r for r in csv.DictReader(table.open(encoding="utf-8"))} if table.is_file() else {}
        rows[tally.part] = tally.row()
        lines = [",".join(COLUMNS), *(",".join(rows[part][c] for c in COLUMNS) for part in sorted(rows))]
        write_atomic(table, ("\n".join(lines) + "\n").encode())
