"""Does it matter what attention highlights? The highlighted part is hidden, and as much of anything else beside it.

    python benchmarks/occlusion.py [MODEL ...]

For each clip, how far does the probability of the predicted class fall when the most highlighted part is hidden, and
how far, on average, in ten draws that hide a random part of the same size? The table,
``benchmarks/results/occlusion.csv``, has the mean over clips of the paired difference and its 95 % interval. Above 0,
hiding what is highlighted costs more than hiding something else. Rows of other models in the table stay.

Frames, segments and streams are hidden as if they were missing (their mask is false). Places of an image are filled
with the mean color of that image. A random part of a map is the highlighted one, moved: the same shape, elsewhere.
Needs the real material (``EMOZOO_SHARED``).

Legend: C = clips, F = frames in a clip, h, w = cells of a map, H, W = pixels, K = classes.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as fn

from emozoo import files
from emozoo.batch import Batch
from emozoo.benchmark import statistics
from emozoo.benchmark.report import read_csv
from emozoo.data import datasets
from emozoo.data.clips import ClipReader, to_batch
from emozoo.data.manifest import Row
from emozoo.device import ready
from emozoo.explain import frame_weights
from emozoo.files import resolve_path
from emozoo.recognizer import Recognizer

TABLE = Path("benchmarks/results/occlusion.csv")
COLUMNS = (
    "model", "sha256", "data", "hidden", "n", "resampled", "groups", "probability", "drop_highlighted", "drop_random",
    "difference", "lo", "hi", "draws", "seed", "date", "versions",
)  # fmt: skip
FRACTION, DRAWS, SEED = 0.2, 10, 1
FEW = 10  # people below which clips are drawn again in place of people
IMAGES = 200  # photographs that are measured, drawn at random

Maps = Mapping[str, Tensor]


@dataclass(frozen=True)
class Highlight:
    """One kind of part that attention weighs.

    ``weights``: the attention of a batch -> weights by stream: (B, C) or (B, C, F) of times, (B, 1) of a whole stream,
    (B, C, h, w) of places. ``parts``: how many parts are hidden; None: ``FRACTION`` of each map. ``jointly``: parts of
    all streams are chosen together; else that many of each stream.
    """

    name: str
    weights: Callable[[Maps], dict[str, Tensor]]
    parts: int | None = None
    jointly: bool = False


def _ending_in(ending: str) -> Callable[[Maps], dict[str, Tensor]]:
    return lambda maps: {k.removesuffix(ending): x for k, x in maps.items() if k.endswith(ending)}


def _ceflnet_frames(maps: Maps) -> dict[str, Tensor]:
    return {"face": frame_weights(maps) * maps["clip_attention"].unsqueeze(-1)}


def _caer_streams(maps: Maps) -> dict[str, Tensor]:
    both = ((maps["shallow"] + maps["deep"]) / 2).mean((1, 2))  # (B, 2)
    return {"face": both[:, :1], "context": both[:, 1:]}


def _joint_steps(maps: Maps) -> dict[str, Tensor]:
    return {"face": maps["stream_share"][..., 0], "audio": maps["stream_share"][..., 1]}


def _joint_streams(maps: Maps) -> dict[str, Tensor]:
    return {name: x.mean(1, keepdim=True) for name, x in _joint_steps(maps).items()}


PLACES = "a fifth of the scene"
HIGHLIGHTS = {
    "ceflnet": [
        Highlight("2 of 9 frames", _ceflnet_frames, 2),
        Highlight("1 of 3 clips", lambda maps: {"face": maps["clip_attention"]}, 1),
    ],
    "dfan": [
        Highlight("1 of 6 segments of each stream", _ending_in("_time"), 1),
        Highlight("a fifth of each frame, in each stream", _ending_in("_space")),
    ],
    "caer_cross_attention": [
        Highlight(PLACES, lambda maps: {"context": maps["context"][:, :, 0]}),
        Highlight("face or scene", _caer_streams, 1, jointly=True),
    ],
    "recursive_joint_attention": [
        Highlight("1 of 4: a step of face or voice", _joint_steps, 1, jointly=True),
        Highlight("face or voice", _joint_streams, 1, jointly=True),
    ],
}
JAVASED, MUSIC, LFW5 = "javased_video", "music_video", "faces_lfw5"
DATA = {
    "ceflnet": (JAVASED,),
    "dfan": (MUSIC,),
    "caer_cross_attention": (JAVASED, LFW5),
    "recursive_joint_attention": (JAVASED,),
}


# -- choosing and hiding ---------------------------------------------------------------------------------------------


def top(weights: Tensor, count: int) -> Tensor:
    """The ``count`` largest weights: bool of the same shape."""
    chosen = torch.zeros(weights.numel(), dtype=torch.bool)
    chosen[weights.flatten().topk(count).indices] = True
    return chosen.view(weights.shape)


def top_parts(weights: Maps, possible: Maps, count: int, jointly: bool) -> dict[str, Tensor]:
    """The largest weights among the possible parts of one clip, by stream; bool, of any shape."""
    only = {k: torch.where(possible[k], w.float(), -torch.inf) for k, w in weights.items()}
    if not jointly:
        return {k: top(w, count) for k, w in only.items()}
    flat = top(torch.cat([w.flatten() for w in only.values()]), count).split([w.numel() for w in only.values()])
    return {k: x.view(w.shape) for (k, w), x in zip(only.items(), flat, strict=True)}


def top_places(maps: Tensor) -> Tensor:
    """Of each map (C, h, w) the fifth of its cells with the largest weights: bool (C, h, w)."""
    count = max(1, round(FRACTION * maps[0].numel()))
    return torch.stack([top(m, count) for m in maps])


def moved_places(chosen: Tensor, rng: np.random.Generator) -> Tensor:
    """The same shape elsewhere, one draw for all maps (C, h, w); what leaves a map comes in on the other side."""
    h, w = chosen.shape[-2:]
    return chosen.roll(divmod(int(rng.integers(1, h * w)), w), (-2, -1))


def without_parts(batch: Batch, hidden: Maps) -> Batch:
    """The batch as if parts of streams were missing: ``hidden`` bool (B, C), (B, C, F) or (B, 1), by stream."""
    masks, inputs = dict(batch.masks), dict(batch.inputs)
    for name, part in hidden.items():
        mask = masks[name]  # (B, C, F)
        masks[name] = mask & ~part.view(*part.shape, *[1] * (mask.ndim - part.ndim))
        x = inputs[name]
        shape = masks[name].shape[:3]
        inputs[name] = x * masks[name].view(*shape, *[1] * (x.ndim - 3))
    return replace(batch, inputs=inputs, masks=masks, one_image=False)


def without_places(batch: Batch, hidden: Maps) -> Batch:
    """The batch with places of images in the image's mean color: ``hidden`` bool (B, C, h, w) by stream."""
    inputs = dict(batch.inputs)
    for name, cells in hidden.items():
        x = inputs[name]  # (B, C, F, 3, H, W)
        area = fn.interpolate(cells.float(), x.shape[-2:], mode="nearest").bool()
        inputs[name] = torch.where(area[:, :, None, None], x.mean((-2, -1), keepdim=True), x)
    return replace(batch, inputs=inputs, one_image=False)


def repeated(batch: Batch, count: int) -> Batch:
    """A batch of one sample as a batch of ``count`` equal ones."""
    inputs, masks = (
        {k: x.expand(count, *x.shape[1:]) for k, x in part.items()} for part in (batch.inputs, batch.masks)
    )
    return replace(batch, inputs=inputs, masks=masks, meta={"id": batch.meta["id"] * count})


def variants(batch: Batch, attention: Maps, highlight: Highlight, rng: np.random.Generator) -> Batch | None:
    """A clip without the highlighted part, then ``DRAWS`` times without a random one; None where there is no choice."""
    weights = {k: x[0].cpu() for k, x in highlight.weights(attention).items()}
    if highlight.parts is None:
        chosen = {k: top_places(w) for k, w in weights.items()}
        drawn = [{k: moved_places(x, rng) for k, x in chosen.items()} for _ in range(DRAWS)]
    else:
        possible = {k: _real(batch.masks[k][0], w) for k, w in weights.items()}
        numbers = [int(p.sum()) for p in possible.values()]
        if (sum(numbers) if highlight.jointly else min(numbers)) <= highlight.parts:
            return None
        noise = [{k: torch.from_numpy(rng.random(w.shape)) for k, w in weights.items()} for _ in range(DRAWS)]
        chosen, *drawn = (top_parts(w, possible, highlight.parts, highlight.jointly) for w in (weights, *noise))
    hidden = {k: torch.stack([chosen[k], *(d[k] for d in drawn)]) for k in chosen}
    hide = without_places if highlight.parts is None else without_parts
    return hide(repeated(batch, 1 + DRAWS), hidden)


def _real(mask: Tensor, like: Tensor) -> Tensor:
    """Which parts are real, in the shape of their weights, from the mask (C, F) of their stream."""
    if like.ndim == 2:
        return mask
    return mask.any(1) if like.shape[0] == mask.shape[0] else mask.any().view(1)


# -- measuring -------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def drops(module: Recognizer, batch: Batch, highlights: Sequence[Highlight], rng: np.random.Generator) -> np.ndarray:
    """The probability of a clip's predicted class, and for each highlight how far it falls: with the highlighted part
    hidden, and with random ones on average. (1 + 2 * highlights,), NaN where there is no choice."""
    out = module.output(batch)
    assert out.logits is not None
    scores = module.scores(out.logits, module.prior)[0]
    label = int(scores.argmax())
    found = [float(scores[label])]
    for highlight in highlights:
        hidden = variants(batch, out.attention, highlight, rng)
        if hidden is None:
            found += [np.nan, np.nan]
            continue
        logits = module.output(hidden).logits
        assert logits is not None
        fell = found[0] - module.scores(logits, module.prior)[:, label]
        found += [float(fell[0]), float(fell[1:].mean())]
    return np.array(found)


def interval(values: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of values (N,): whole groups are drawn again."""
    number = np.unique(groups, return_inverse=True)[1]
    sums = np.stack([np.bincount(number, values), np.bincount(number)], 1)
    drawn = statistics.resampled(sums)
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], (2.5, 97.5))
    return float(low), float(high)


def rows_of(data: str) -> list[Row]:
    """The rows of the part val; of photographs a random ``IMAGES``."""
    manifest = datasets.load("csv", resolve_path(f"$EMOZOO_SHARED/data/{data}/manifest.csv"))
    rows = [r for r in manifest.rows if r.split == "val"]
    if data == LFW5:
        rows = [rows[i] for i in sorted(np.random.default_rng(SEED).choice(len(rows), IMAGES, replace=False))]
    return rows


def measure(arch: str, data: str) -> list[dict[str, Any]]:
    """The rows of the table for the default weights of an architecture on one set of clips."""
    module, highlights = ready(arch, "cpu"), HIGHLIGHTS[arch]
    rows, found = rows_of(data), []
    for number, row in enumerate(rows):
        with ClipReader.of(row, module.spec) as reader:
            batch = to_batch([reader.read()], module.spec)
        found.append(drops(module, batch, highlights, np.random.default_rng((SEED, number))))
    values = np.array(found)
    people = statistics.group_numbers([r.group for r in rows], [r.id for r in rows])
    by_person = len(np.unique(people)) >= FEW
    lines = []
    for i, highlight in enumerate(highlights):
        high, low = values[:, 1 + 2 * i], values[:, 2 + 2 * i]
        some = np.isfinite(high)
        if some.sum() < 2:
            continue
        groups = people[some] if by_person else np.arange(int(some.sum()))
        ends = interval((high - low)[some], groups)
        lines.append({
            "model": module.name, "sha256": module.sha256, "data": data, "hidden": highlight.name,
            "n": int(some.sum()), "resampled": "people" if by_person and data != MUSIC else "clips",
            "groups": len(np.unique(groups)), "probability": _number(values[some, 0].mean()),
            "drop_highlighted": _number(high[some].mean()), "drop_random": _number(low[some].mean()),
            "difference": _number((high - low)[some].mean()), "lo": _number(ends[0]), "hi": _number(ends[1]),
            "draws": DRAWS, "seed": SEED, "date": datetime.date.today().isoformat(),
            "versions": " ".join(f"{k}={v}" for k, v in files.versions().items()),
        })  # fmt: skip
    return lines


def arch_of(line: Mapping[str, Any]) -> str:
    """The architecture of a row of the table."""
    return str(line["model"]).partition(".")[0]


def _number(value: float) -> str:
    return f"{value:.4f}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="model", help=f"default: {', '.join(HIGHLIGHTS)}")
    chosen = parser.parse_args(argv).models or list(HIGHLIGHTS)
    lines: list[dict[str, Any]] = list(read_csv(TABLE)) if TABLE.is_file() else []
    for arch in chosen:
        for data in DATA[arch]:
            new = measure(arch, data)
            others = [r for r in lines if (arch_of(r), r["data"]) != (arch, data)]
            lines = sorted([*others, *new], key=lambda r: (list(HIGHLIGHTS).index(arch_of(r)), r["data"]))
            files.write_text(TABLE, files.csv_text(lines, COLUMNS))
            for line in new:
                print(*(f"{k}={line[k]}" for k in COLUMNS[:13] if k != "sha256"), file=sys.stderr)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
