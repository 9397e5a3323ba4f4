"""Near copies among many images: found without comparing all pairs, and the same ones as by comparing all."""

import cv2
import numpy as np

from emozoo.data import near
from emozoo.data.examine import FileFacts, thumbnail


def facts(image: np.ndarray) -> FileFacts:
    described = thumbnail(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB))
    assert described
    return FileFacts("", image.shape[::-1], described[0][None], np.array([described[1]]), [])


def test_many_images_give_the_pairs_that_few_give(monkeypatch):
    """Protects large data sets from a check that takes the square of their size, and from losing copies by it."""
    rng = np.random.default_rng(0)
    images = [
        cv2.resize(rng.integers(0, 256, (6, 6), np.uint8), (48, 48), interpolation=cv2.INTER_CUBIC) for _ in range(2400)
    ]
    copies = [
        cv2.imdecode(cv2.imencode(".jpg", cv2.resize(x, (80, 80)) // 5 * 4 + 20, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], 0)
        for x in images[:200]
    ]
    found = [facts(x) for x in [*images, *copies]]
    left, right = list(range(2000)), list(range(2000, len(found)))
    looked: list[int] = []
    candidates = near._candidates

    def counted(*sides):
        for i, others in candidates(*sides):
            looked.append(len(others))
            yield i, others

    def pairs() -> list[tuple[int, int, float]]:
        alike = near.similar(found, left, right)
        return [(i, int(j), float(value)) for i, *others in alike for j, value in zip(*others)]

    monkeypatch.setattr(near, "_candidates", counted)
    every = pairs()
    assert sum(looked) == len(left) * len(right)
    looked.clear()
    monkeypatch.setattr(near, "ALL_PAIRS", 1000)
    assert pairs() == every
    assert {(i, i + 2400) for i in range(200)} <= {(i, j) for i, j, _ in every}
    assert sum(looked) < len(left) * len(right) / 5
