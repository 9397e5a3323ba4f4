"""Images that look alike: items whose frames are near copies of each other.

Few items are compared pair by pair. Many are first sorted into buckets by the signs of random projections of their
thumbnails (Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002), and compared within a
bucket, so that the work grows little faster than the number of items. A pair close to the threshold may share no bucket
and be missed; the nearer two images are, the less likely that is. The projections are always the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from emozoo.data.examine import FileFacts

# Two images count as copies if their 64-bit gradient hashes differ in at most NEAR_BITS bits and their 16 x 16
# thumbnails correlate with at least NEAR_CORRELATION. Measured on faces that fill the image and so look alike: 94 of
# 100 recompressed, halved, brightened or noisy copies are found, and no two different faces.
NEAR_BITS, NEAR_CORRELATION = 10, 0.985
ALL_PAIRS = 4_000_000  # up to so many pairs each is looked at
TABLES, LEAST_PLANES = 40, 8


def similar(
    found: Sequence[FileFacts], left: Sequence[int], right: Sequence[int]
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For each item of ``left`` that has any: the items of ``right`` that look alike, and the correlations with them.

    Items are indices in ``found``, in the order given. All have equally many frames. A correlation is that of the
    frames that are least alike.
    """
    at = np.asarray(right)
    hashes = [np.stack([found[i].hashes for i in side]) for side in (left, right)]
    thumbnails = [np.stack([found[i].thumbnails for i in side]) for side in (left, right)]
    for i, others in _candidates(*thumbnails):
        bits = np.bitwise_count(hashes[1][others] ^ hashes[0][i]).max(1)
        others = others[bits <= NEAR_BITS]
        values = (thumbnails[1][others] * thumbnails[0][i]).sum(2).min(1)
        near = values >= NEAR_CORRELATION
        if near.any():
            yield left[i], at[others[near]], values[near]


def _candidates(left: np.ndarray, right: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each position in ``left`` (L, frames, 256), and the sorted positions in ``right`` (R, frames, 256) to look at."""
    if len(left) * len(right) <= ALL_PAIRS:
        every = np.arange(len(right))
        yield from ((i, every) for i in range(len(left)))
        return
    center = right[:, 0].mean(0)  # what all images have in common tells nothing
    centered = [side[:, 0] - center for side in (left, right)]
    planes = max(LEAST_PLANES, round(np.log2(len(right))))
    rng = np.random.default_rng(0)
    orders, codes = [], []
    for _ in range(TABLES):
        normals = rng.standard_normal((center.size, planes)).astype(np.float32)
        ours, theirs = ((x @ normals > 0) @ (1 << np.arange(planes)) for x in centered)
        order = np.argsort(theirs, kind="stable")
        orders.append(order)
        codes.append(np.stack([np.searchsorted(theirs[order], ours, side) for side in ("left", "right")], 1))
    for i in range(len(left)):
        buckets = [order[code[i, 0] : code[i, 1]] for order, code in zip(orders, codes, strict=True)]
        yield i, np.unique(np.concatenate(buckets))
