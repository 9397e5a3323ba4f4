"""One of two processes of test_metrics.py: counts its part of the frames, and prints what all counted together."""

from __future__ import annotations

import json
import sys

import torch

from emozoo.metrics import PooledConcordance


def main(rank: int, where: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{where}", rank=rank, world_size=2)
    g = torch.Generator().manual_seed(0)
    x, t = torch.randn(6, 5, 2, generator=g), torch.randn(6, 5, 2, generator=g)
    metric = PooledConcordance()
    if rank == 0:  # the other saw no item
        metric.update(x, t, torch.ones(6, 5, dtype=torch.bool))
    print(json.dumps(dict(metric.compute())))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
