"""Face crop, context with the face blacked out, and whole frame: the views that streams take of one image.

Images are RGB uint8 (H, W, 3); boxes are x1, y1, x2, y2 in pixels of the image, corners included; landmarks (5, 2) are
x and y in pixels.
"""

from __future__ import annotations

import cv2
import numpy as np

ENLARGE = {"area": cv2.INTER_LINEAR, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}
SHRINK = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}

# Where the landmarks of an aligned face lie: x and y from the center of the crop, in sides of a crop without margin;
# about the medians of 120 upright frontal faces in the boxes of yunet, so that an aligned crop shows as much as a plain
# one. Left and right are the person's.
LANDMARKS = {
    "right eye": (-0.165, -0.12), "left eye": (0.165, -0.12), "nose": (0.0, 0.08),
    "right mouth corner": (-0.14, 0.238), "left mouth corner": (0.14, 0.238),
}  # fmt: skip
# An aligned crop is larger or smaller than the plain one by at most this factor: else the landmarks are no face's.
MOST_SCALE = 2.0


FAR = 8  # images: how far from an image the box of a face may lie


def resize(image: np.ndarray, size: tuple[int, int], interpolation: str = "area") -> np.ndarray:
    """To ``size`` = (H, W) without keeping the aspect. ``area`` enlarges linearly: it would make blocks."""
    h, w = image.shape[:2]
    if (h, w) == size:
        return image
    shrinks = size[0] * size[1] < h * w
    return cv2.resize(image, size[::-1], interpolation=(SHRINK if shrinks else ENLARGE)[interpolation])


def covers(box: np.ndarray, width: int, height: int) -> bool:
    """Whether the box is the whole image (within a pixel): an image that is already a face crop."""
    return bool(box[0] <= 1 and box[1] <= 1 and box[2] >= width - 2 and box[3] >= height - 2)


def square(box: np.ndarray, margin: float) -> tuple[int, int, int]:
    """Left, top and side of the square crop: the box's longer side, widened by ``margin`` of it on each side."""
    side = max(1, round(float(max(box[2] - box[0], box[3] - box[1])) * (1 + 2 * margin)))
    return round(float(box[0] + box[2] - side) / 2), round(float(box[1] + box[3] - side) / 2), side


def face(
    image: np.ndarray,
    box: np.ndarray,
    size: tuple[int, int],
    margin: float,
    interpolation: str,
    points: np.ndarray | None = None,
) -> np.ndarray:
    """What :func:`cut` gives, scaled to ``size``."""
    return resize(cut(image, box, margin, points), size, interpolation)


def cut(image: np.ndarray, box: np.ndarray, margin: float, points: np.ndarray | None = None) -> np.ndarray:
    """The :func:`square` around the face, unscaled; what lies outside the image is mirrored.

    With the landmarks ``points`` it is turned, moved and sized so that they lie at :data:`LANDMARKS`, as nearly as the
    least squares allow; where that is no face's, it is the square of the box. Where the box covers the whole image, the
    image itself, square or not.
    """
    height, width = image.shape[:2]
    if covers(box, width, height):
        return image
    # A box may lie partly outside. One that lies far outside, or is far larger than the image, would need more memory
    # than there is: it ends within FAR images, and is moved until it touches this one.
    box = np.clip(box, np.array([-width, -height] * 2) * FAR, np.array([width, height] * 2) * FAR)
    left, top, side = square(box, min(margin, FAR))
    left, top = min(max(left, 1 - side), width - 1), min(max(top, 1 - side), height - 1)
    if points is not None and (found := _alignment(points, margin)) is not None:
        turn, wide = found
        if side / MOST_SCALE <= wide <= side * MOST_SCALE:
            return cv2.warpAffine(image, turn, (wide, wide), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    right, bottom = left + side, top + side
    crop = image[max(top, 0) : bottom, max(left, 0) : right]
    if left < 0 or top < 0 or right > width or bottom > height:
        out = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
        crop = cv2.copyMakeBorder(crop, *out, cv2.BORDER_REFLECT)
    return crop


def _alignment(points: np.ndarray, margin: float) -> tuple[np.ndarray, int] | None:
    """The map (2, 3) from the image to the aligned crop, which keeps the scale, and the crop's side in pixels.

    A similarity is ``w = a z + b`` with complex numbers for points: ``a`` turns and scales, ``b`` moves. None for
    points that lie in one place.
    """
    z, w = (np.asarray(p, np.float64) @ (1, 1j) for p in (points, list(LANDMARKS.values())))
    a, b = np.linalg.lstsq(np.column_stack([z, np.ones_like(z)]), w, rcond=None)[0]
    if not np.isfinite([a, b]).all() or abs(a) < 1e-6:
        return None
    side = max(1, round((1 + 2 * margin) / abs(a)))
    turn, move = a / abs(a), b / abs(a) + (1 + 1j) * side / 2
    return np.array([[turn.real, -turn.imag, move.real], [turn.imag, turn.real, move.imag]]), side


def context(image: np.ndarray, box: np.ndarray | None, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """The whole image with the unexpanded face box black, before it is resized; untouched without a box."""
    if box is not None:
        x1, y1 = np.clip(np.floor(box[:2]), 0, 1 << 30).astype(int)
        x2, y2 = np.clip(np.ceil(box[2:]), -1, 1 << 30).astype(int)
        image = image.copy()
        image[y1 : y2 + 1, x1 : x2 + 1] = 0
    return resize(image, size, interpolation)


class Shot:
    """One decoded image, and the views of it."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image

    def frame(self, size: tuple[int, int], interpolation: str) -> np.ndarray:
        """The whole image."""
        return resize(self.image, size, interpolation)

    def face(
        self,
        box: np.ndarray,
        size: tuple[int, int],
        margin: float,
        interpolation: str,
        points: np.ndarray | None = None,
    ) -> np.ndarray:
        """As :func:`face`."""
        return face(self.image, box, size, margin, interpolation, points)

    def context(self, box: np.ndarray | None, size: tuple[int, int], interpolation: str) -> np.ndarray:
        """As :func:`context`."""
        return context(self.image, box, size, interpolation)
