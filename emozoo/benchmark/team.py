"""The processes that a launcher (torchrun, SLURM, MPI) starts for one benchmark: each predicts a part of the items.

They exchange predictions through ``torch.distributed``. Where a process dies, the others end with an error: each has
cached what it predicted (:mod:`emozoo.benchmark.resume`), and the same command goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from emozoo.errors import EmozooError, UsageError
from emozoo.launch import SILENT_S, environment, launched, local_rank

T = TypeVar("T")


class Team:
    """``rank`` of ``world`` processes. Without a launcher, or inside other code, it is one process alone."""

    rank, world = 0, 1
    _local = 0
    _group: Any = None

    @staticmethod
    def of_launcher() -> Team:
        """All processes that the launcher started, connected. Raises UsageError or EmozooError where they cannot be."""
        team = Team()
        team.rank, team.world = launched()
        if team.world > 1:
            team._connect(environment())
        return team

    def _connect(self, launcher: Any) -> None:
        import torch.distributed as dist

        try:
            os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = launcher.main_address, str(launcher.main_port)
        except KeyError as error:
            raise UsageError(
                f"{self.world} processes need the address of the first one: set {error.args[0]}"
            ) from error
        self._local = local_rank()
        try:
            dist.init_process_group("gloo", rank=self.rank, world_size=self.world, timeout=timedelta(seconds=SILENT_S))
            # How long the slowest process takes is not known; one that died closes its connections.
            self._group = dist.new_group(backend="gloo", timeout=timedelta(days=7))
        except RuntimeError as error:
            raise EmozooError(f"the {self.world} processes do not find each other ({_first_line(error)})") from error

    def gather(self, mine: T) -> list[T]:
        """What every process has, in the order of ranks. Raises EmozooError where one of them has ended."""
        if self._group is None:
            return [mine]
        import torch.distributed as dist

        found: list[Any] = [None] * self.world
        try:
            dist.all_gather_object(found, mine, group=self._group)
        except RuntimeError as error:
            raise EmozooError(
                f"another of the {self.world} processes has ended: run the same command again, it goes on where it "
                "stopped"
            ) from error
        return found

    def in_turns(self, make: Callable[[], T]) -> T:
        """The result of ``make`` in the first process, then in the first of each machine, then in all others.

        What one of them writes into the cache folder the others find there.
        """
        mine = 0 if self.rank == 0 else 1 if self._local == 0 else 2
        for turn in range(3 if self.world > 1 else 1):
            if turn == mine:
                made = make()
            self.gather(None)
        return made

    def block(self, count: int) -> tuple[int, int]:
        """First and last (exclusive) of ``count`` things that this process does: one piece, all pieces alike."""
        return count * self.rank // self.world, count * (self.rank + 1) // self.world

    def close(self) -> None:
        """Ends the connection."""
        if self._group is not None:
            import torch.distributed as dist

            dist.destroy_process_group()
            self._group = None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160]
