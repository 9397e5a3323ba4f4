"""What CEFLNet adds to its backbone: the full network against the bare encoder on the same 35 frames.

    python benchmarks/speed/ceflnet.py [--quick] [--out FILE]

Forward passes in evaluation at size ``full`` (7 clips of 5 frames, 224 x 224), of one video and of two. The bare
encoder gets the frames in the memory layout that is fastest for it. The ratio is network / encoder. The limit is the
rate of large matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import rounds
import torch

from emozoo.models.ceflnet import CEFLNet
from emozoo.registry import MODELS

QUESTION = "ceflnet"
BATCHES = (1, 2)


def main(argv: Sequence[str] | None = None) -> None:
    args = rounds.arguments(__doc__, argv)
    size = "lite" if args.quick else "full"
    spec = MODELS["ceflnet"].specs[size]
    stream = spec.streams["face"]
    torch.manual_seed(0)
    net = CEFLNet(7, **MODELS["ceflnet"].keywords("stable", size)).eval()
    rows, limit = [], rounds.gemm_rate()
    for batch in (1,) if args.quick else BATCHES:
        x = torch.rand(batch, spec.clips, stream.frames, 3, *stream.size)
        frames = x.flatten(0, 2).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            taken = 1e3 * rounds.interleaved(
                [partial(net, {"face": x}), partial(net.backbone, frames)],
                1 if args.quick else rounds.ROUNDS,
            )
        case = f"{size}, {len(frames)} frames"
        more = {"bar": "<= 1.25x", "limit": limit}
        rows.append(rounds.row(QUESTION, case, ("network", "encoder"), "ms", *taken.T, **more))
    rounds.save(QUESTION, rows, args.out)


if __name__ == "__main__":
    main()
