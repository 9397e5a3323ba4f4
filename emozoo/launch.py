"""What a launcher (torchrun, SLURM, LSF, MPI, Kubeflow) says: which of how many processes this one is."""

from __future__ import annotations

import os
import time
from typing import Any

STARTED = time.time()  # about when this process began
SILENT_S = 3600.0  # the first process waits this long for the next sign of life of the others

# Without any of these no launcher started this process, and Lightning need not be imported to find that out.
_HINTS = (
    "RANK", "WORLD_SIZE", "SLURM_NTASKS", "LSB_JOBID", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK",
    "MPI_LOCALNRANKS", "MV2_COMM_WORLD_SIZE",
)  # fmt: skip


def environment() -> Any:
    """Lightning's description of the launcher, None without one.

    An interactive shell of SLURM (job name ``bash`` or ``interactive``) counts as none, as for Lightning.
    """
    if not any(name in os.environ for name in _HINTS):
        return None
    from lightning.fabric.plugins import environments as e

    found: list[Any] = [e.TorchElasticEnvironment, e.SLURMEnvironment, e.LSFEnvironment, e.MPIEnvironment]
    found = [kind for kind in found if kind.detect()]
    if not found and {"RANK", "WORLD_SIZE"} <= set(os.environ):
        found = [e.KubeflowEnvironment]  # has no detect() of its own
    return found[0]() if found else None


def launched() -> tuple[int, int]:
    """Rank and number of processes; 0 of 1 without a launcher."""
    here = environment()
    return (0, 1) if here is None else (here.global_rank(), here.world_size())
