"""How fast the fusion of audio and face trains, against its equations written down plainly.

    python benchmarks/speed/fusion.py [--quick] [--out FILE]

Forward and backward in training mode, with the dropout of the network, at batches of 12 and 64: of the authors' joint
attention, and of their whole fusion network on features (with three recurrent layers and the attention over regions,
which no tiling makes faster). The plain equations are those of ``tests/models/plain.py``, with the same parameters.
Peak memory is what a step adds in a fresh process, gradients included; its ratio is plain / emozoo, too. The limit is
the rate of large matrix products.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import rounds
import torch

from emozoo.models.recursive_joint_attention import RecursiveJointAttention

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "models"))

import plain

QUESTION = "fusion"
BATCHES = (12, 64)
BARS = {"joint attention": ">= 2x"}
PARTS = ("joint attention", "fusion network")


def step(part: str, fast: bool, batch: int) -> Callable[[], None]:
    """A function that runs forward and backward once."""
    torch.manual_seed(0)
    net = RecursiveJointAttention(
        encoders={"face": "resnet18", "audio": "resnet18"},
        fusion="official", num_iter=1, visual_input="grid", legacy_layout=True,
    ).train()  # fmt: skip
    if part == "joint attention":
        v, a = (torch.randn(batch, net.seq_len, 512) for _ in range(2))
        block, everywhere = net.joint[0], torch.ones(batch, net.seq_len, dtype=torch.bool)

        def forward() -> torch.Tensor:
            return torch.cat(block(v, a, everywhere) if fast else plain.joint_attention(block, v, a))
    else:
        face, audio = torch.rand(batch, net.seq_len, net.face_width), torch.randn(batch, net.seq_len, net.audio_width)

        def forward() -> torch.Tensor:
            if not fast:
                return plain.fusion(net, face, audio)
            va = net.head({"face": face, "audio": audio}).va
            assert va is not None
            return va

    def run() -> None:
        net.zero_grad()
        forward().square().sum().backward()

    return run


def main(argv: Sequence[str] | None = None) -> None:
    args = rounds.arguments(__doc__, argv)
    rows = []
    names, limit = ("plain", "emozoo"), rounds.gemm_rate()
    for part in PARTS[: 1 if args.quick else None]:
        for batch in (2,) if args.quick else BATCHES:
            taken = 1e3 * rounds.interleaved(
                [step(part, fast, batch) for fast in (False, True)], 1 if args.quick else rounds.ROUNDS
            )
            more = {"bar": BARS.get(part, ""), "limit": limit}
            case = f"{part}, B = {batch}"
            rows.append(rounds.row(QUESTION, case, names, "ms a step", *taken.T, **more))
            peaks = (np.array([rounds.peak_mb(step, part, fast, batch)]) for fast in (False, True))
            rows.append(rounds.row(QUESTION, case, names, "MB peak", *peaks, **more))
    rounds.save(QUESTION, rows, args.out)


if __name__ == "__main__":
    main()
