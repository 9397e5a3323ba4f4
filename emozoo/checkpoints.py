"""Training that is interrupted: checkpoints that are there whole or not at all, and one line about what ended it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from weakref import WeakSet

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from emozoo.errors import EmozooError, Terminated
from emozoo.journal import locked

_LOCK = ".training"  # there while a training writes into its folder


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its own name, then renames. One training at a time writes into a folder.

    Lightning writes into the folder for temporary files. Where that is on another disk, it then copies over the
    checkpoint before, and a kill leaves neither of them.
    """

    def __init__(self) -> None:
        self._locks: dict[Path, IO[bytes]] = {}  # by folder
        _WRITERS.add(self)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        # Into memory first: on a full disk torch.save would end with an error of its own, which hides the reason.
        path, data = Path(path), io.BytesIO()
        torch.save(checkpoint, data)
        # One name for all of a folder, which has no "ckpt" in it, by which Lightning finds checkpoints: what a kill
        # leaves is overwritten next time.
        part = path.with_name(".saving")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.parent not in self._locks:
                self._locks[path.parent] = locked(path.with_name(_LOCK), "another training")
            part.write_bytes(data.getbuffer())
            os.replace(part, path)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise EmozooError(f"{path}: this checkpoint was not written ({error.strerror or error})") from error

    def teardown(self) -> None:
        for folder in self._locks:
            with suppress(OSError):
                (folder / _LOCK).unlink()
        self.let_go()

    def let_go(self) -> None:
        """Closes the locks of this process; where it is forked, the other one still holds them."""
        while self._locks:
            self._locks.popitem()[1].close()


_WRITERS: WeakSet[WholeCheckpoints] = WeakSet()


def _let_go() -> None:
    for writer in _WRITERS:
        writer.let_go()


if hasattr(os, "register_at_fork"):  # a process that reads data may outlive its training for seconds: it holds no lock
    os.register_at_fork(after_in_child=_let_go)


class _EndProgressLine(L.Callback):
    """Ends the line of a progress bar before an error is printed."""

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if trainer.is_global_zero and trainer.progress_bar_callback is not None:
            print()  # where Lightning's bars are


def protect(trainer: L.Trainer) -> None:
    """Has a Trainer write :class:`WholeCheckpoints`, unless its user or its strategy chose another way of writing.

    Errors get a line of their own below its progress bar.
    """
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = WholeCheckpoints()
    trainer.callbacks.append(_EndProgressLine())  # type: ignore[attr-defined]


@contextmanager
def interruptible(go_on: str) -> Iterator[None]:
    """Around the work of a Trainer: what ends it from outside is an error that says so, and ``go_on``, what to do.

    Raises :class:`Terminated` for SIGTERM, KeyboardInterrupt for Ctrl-C, and EmozooError for a process that is gone:
    Lightning would end the program as if the training were done, or give an error of its own.
    """
    try:
        yield
    except SIGTERMException as error:
        raise Terminated(f"ended by SIGTERM before it was done: {go_on}") from error
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise
    except (RuntimeError, BrokenProcessPool) as error:
        if isinstance(error, BrokenProcessPool) or "DataLoader worker (pid" in str(error):
            why = "a process that reads data was ended (no memory left?): use fewer worker processes"
            raise EmozooError(f"{why}, and {go_on}") from error
        if "onnection closed by peer" in str(error) or "onnection reset by peer" in str(error):
            raise EmozooError(f"another process of this training has ended, see what it said: {go_on}") from error
        raise
