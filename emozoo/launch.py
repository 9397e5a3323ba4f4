"""What a launcher (torchrun, SLURM, LSF, MPI, Kubeflow) says: which of how many processes this one is."""

from __future__ import annotations

import os
import time
from typing import Any

from emozoo.errors import UsageError

STARTED = time.time()  # about when this process began
SILENT_S = 3600.0  # the first process waits this long for the next sign of life of the others

# Without any of these no launcher started this process, and Lightning need not be imported to find that out.
_HINTS = (
    "RANK", "WORLD_SIZE", "SLURM_NTASKS", "LSB_JOBID", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK",
    "MPI_LOCALNRANKS", "MV2_COMM_WORLD_SIZE",
)  # fmt: skip
# Where launchers say rank, number of processes, and number among those of the machine; MPI tells its library.
_VARIABLES = {
    "TorchElasticEnvironment": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "SLURMEnvironment": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),  # Lightning's own takes no --ntasks
    "LSFEnvironment": ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_LOCAL_RANK"),
    "KubeflowEnvironment": ("RANK", "WORLD_SIZE", None),
}


def environment() -> Any:
    """Lightning's description of the launcher, None without one.

    What runs in SLURM without ``srun`` counts as none, and so does an interactive shell (job name ``bash`` or
    ``interactive``), as for Lightning. Raises UsageError where Lightning cannot work with what SLURM was asked for.
    """
    kind = _kind()
    try:
        return None if kind is None else kind()
    except RuntimeError as error:
        raise UsageError(str(error)) from error


def launched() -> tuple[int, int]:
    """Rank and number of processes; 0 of 1 without a launcher. Raises UsageError for what cannot be."""
    kind = _kind()
    if kind is None:
        return 0, 1
    if kind.__name__ not in _VARIABLES:
        here = kind()
        return here.global_rank(), here.world_size()
    first, second, _ = _VARIABLES[kind.__name__]
    rank, world = _number(first), _number(second)
    if rank is None or world is None or not 0 <= rank < world:
        raise UsageError(
            f"{_said(first)}, {_said(second)}: no process can be that; ranks go from 0 to one below the number of "
            f"processes. Start it by a launcher (torchrun, srun), or unset {first} and {second}"
        )
    return rank, world


def local_rank() -> int:
    """Number of this process among those on its machine. Raises UsageError where the launcher does not say it."""
    kind = _kind()
    if kind is None:
        return 0
    if kind.__name__ not in _VARIABLES:
        return int(kind().local_rank())
    name = _VARIABLES[kind.__name__][2]
    if name is None:
        return 0
    number = _number(name)
    if number is None or number < 0:
        raise UsageError(f"{_said(name)}: not the number of a process on its machine; choose a GPU, as in cuda:0")
    return number


def unshared() -> str | None:
    """What to tell somebody whose job in SLURM has several tasks, of which this process does all; else None."""
    tasks, shell = _number("SLURM_NTASKS") or 1, os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if tasks < 2 or shell or _in_step() or launched()[1] > 1:
        return None
    return (
        f"this job of SLURM has {tasks} tasks, but this process was started without srun and does all the work: "
        "`srun emozoo ...` shares it"
    )


def own_device(device: str) -> str:
    """``cuda`` with the number of the GPU that belongs to this process of a launcher; any other device as it is."""
    if device != "cuda" or launched()[1] == 1:
        return device
    import torch

    return f"cuda:{local_rank() % max(1, torch.cuda.device_count())}"


def _kind() -> Any:
    if not any(name in os.environ for name in _HINTS):
        return None
    from lightning.fabric.plugins import environments as e

    kinds: list[Any] = [e.TorchElasticEnvironment, e.SLURMEnvironment, e.LSFEnvironment, e.MPIEnvironment]
    if not _in_step():  # the batch script has the variables of a first task, whether or not there are others
        kinds.remove(e.SLURMEnvironment)
    found = next((kind for kind in kinds if kind.detect()), None)
    if found is None and {"RANK", "WORLD_SIZE"} <= set(os.environ):
        return e.KubeflowEnvironment  # has no detect() of its own
    return found


def _in_step() -> bool:
    """Whether ``srun`` started this process: it numbers its steps from 0. Some numbers stand for what is no step."""
    step = _number("SLURM_STEP_ID")
    return step is not None and 0 <= step < 2**31


def _number(name: str) -> int | None:
    """The whole number in a variable, None where there is none."""
    try:
        return int(os.environ[name])
    except (KeyError, ValueError):
        return None


def _said(name: str) -> str:
    return f"{name}={os.environ[name]}" if name in os.environ else f"{name} is not set"
