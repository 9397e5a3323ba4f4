"""How a long job ends when it is told to."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def until_interrupted(*numbers: int) -> Iterator[threading.Event]:
    """An event that the first of these signals sets; the second one does what it did before the block."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(*_: object) -> None:
        stopped.set()
        restore()

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield stopped
    finally:
        restore()
