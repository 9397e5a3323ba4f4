"""A module made ready to predict: tensors of its own, batch norms folded, on its device."""

from __future__ import annotations

import copy

import torch

from emozoo import weights
from emozoo.errors import UsageError
from emozoo.models.folding import fold
from emozoo.recognizer import Recognizer


def ready(model: str | Recognizer, device: str | None = None) -> Recognizer:
    """The weights of that name, or a copy of a loaded module, in eval mode for predictions on ``device``.

    Nothing that happens to the user's module later, in whichever thread, changes the copy.
    Raises UsageError for a device that does not exist or cannot hold it.
    """
    model = getattr(model, "_orig_mod", model)  # the module inside the wrapper of torch.compile
    module = _copy_of(model) if isinstance(model, Recognizer) else Recognizer.from_weights(weights.find(model))
    fold(module.eval().net)
    return module if device is None else _moved(module, device)


def _copy_of(module: Recognizer) -> Recognizer:
    own = copy.copy(module)  # shallow: a module may know its Trainer
    own._modules = {"net": copy.deepcopy(module.net)}
    own._buffers = {name: None if x is None else x.clone() for name, x in module._buffers.items()}
    return own


def _moved(module: Recognizer, device: str) -> Recognizer:
    try:
        torch.zeros(1, device=torch.device(device)).add(1).item()  # tries the device before anything moves
        return module.to(torch.device(device))
    except Exception as error:  # each device has errors of its own
        raise UsageError(_no_device(device, error)) from error


def _no_device(device: str, error: Exception) -> str:
    usable = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    usable += ["mps"] if torch.backends.mps.is_available() else []
    why = next(iter(str(error).splitlines()), type(error).__name__)
    return f"device '{device}' cannot be used here ({why[:200]}); there is: {', '.join(usable)}"
