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


def environment() -> Any:
    """Lightning's description of the launcher, None without one.

    An interactive shell of SLURM (job name ``bash`` or ``interactive``) counts as none, as for Lightning. Raises
    UsageError where Lightning cannot work with what SLURM was asked for.
    """
    kind = _kind()
    try:
        return None if kind is None else kind()
    except RuntimeError as error:
        raise UsageError(str(error)) from error


def launched() -> tuple[int, int]:
    """Rank and number of processes; 0 of 1 without a launcher."""
    kind = _kind()
    if kind is None:
        return 0, 1
    if kind.__name__ == "SLURMEnvironment":  # Lightning's own takes no --ntasks
        return int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
    here = kind()
    return here.global_rank(), here.world_size()


def local_rank() -> int:
    """Number of this process among those on its machine."""
    kind = _kind()
    if kind is None:
        return 0
    return int(os.environ["SLURM_LOCALID"]) if kind.__name__ == "SLURMEnvironment" else int(kind().local_rank())


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
    found = next((kind for kind in kinds if kind.detect()), None)
    if found is None and {"RANK", "WORLD_SIZE"} <= set(os.environ):
        return e.KubeflowEnvironment  # has no detect() of its own
    return found
