"""One module in several threads: in eval mode while any of them runs it, moved to a device only while none does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch

from emozoo.errors import UsageError
from emozoo.recognizer import Recognizer


class _Use:
    """How many threads run a module now, and which of its parts were in training mode before."""

    def __init__(self) -> None:
        self.running = 0
        self.training: list[torch.nn.Module] = []


_USES: WeakKeyDictionary[Recognizer, _Use] = WeakKeyDictionary()
_CHANGED = threading.Condition()


@contextmanager
def eval_mode(module: Recognizer) -> Iterator[None]:
    """Puts the module in eval mode; the last of several threads restores the training mode of its parts."""
    with _CHANGED:
        use = _USES.setdefault(module, _Use())
        use.running += 1
        training = [m for m in module.modules() if m.training]
        use.training += training
        for part in training:
            part.training = False
    try:
        yield
    finally:
        with _CHANGED:
            use.running -= 1
            if not use.running:
                for part in use.training:
                    part.training = True
                use.training = []
            _CHANGED.notify_all()


def to_device(module: Recognizer, device: str) -> Recognizer:
    """Waits until no thread runs the module, then moves it and returns it.

    Raises UsageError for a device that does not exist or cannot hold it; the module then stays where it was.
    """
    before = module.device
    try:
        torch.zeros(1, device=torch.device(device)).add(1).item()  # tries the device before anything moves
    except Exception as error:  # each device has errors of its own
        raise UsageError(_no_device(device, error)) from error
    with _CHANGED:
        use = _USES.setdefault(module, _Use())
        _CHANGED.wait_for(lambda: not use.running)
        try:
            return module.to(torch.device(device))
        except (RuntimeError, TypeError) as error:  # too little memory; a device without float64
            module.to(before)
            raise UsageError(_no_device(device, error)) from error


def _no_device(device: str, error: Exception) -> str:
    usable = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    usable += ["mps"] if torch.backends.mps.is_available() else []
    why = next(iter(str(error).splitlines()), type(error).__name__)
    return f"device '{device}' cannot be used here ({why[:200]}); there is: {', '.join(usable)}"
