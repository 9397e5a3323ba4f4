"""What a stream sees of an image."""

from __future__ import annotations

import numpy as np

from emozoo.data import views


def image(height: int = 60, width: int = 100) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 200)], axis=2).astype(np.uint8)


def test_face_is_a_square_around_the_box_with_its_margin():
    """Protects crops: a box of 20 x 10 at margin 0.25 gives the 30-pixel square about its centre."""
    crop = views.face(image(), np.array([30, 25, 50, 35]), (30, 30), 0.25, "area")
    assert crop.shape == (30, 30, 3)
    assert crop[0, 0].tolist() == [25, 15, 200]
    assert crop[-1, -1].tolist() == [54, 44, 200]


def test_a_face_at_the_border_is_mirrored_not_shifted():
    """Protects geometry at borders: the face stays in the middle of the crop."""
    crop = views.face(image(), np.array([0, 20, 20, 40]), (40, 40), 0.5, "area")
    assert crop[0, 10, 0] == 0
    assert crop[0, 9, 0] == 0
    assert crop[0, 0, 0] == 9
    assert crop[0, 30, 0] == 20


def test_a_whole_image_box_means_already_cropped():
    """Protects face crops on disk: no margin, no second crop."""
    small = image(48, 48)
    assert views.face(small, np.array([0, 0, 48, 48]), (48, 48), 0.3, "area") is small


def test_context_blacks_out_the_unexpanded_box_corners_included():
    """Protects the context stream: nothing of the face is left, nothing else is touched."""
    before = image()
    after = views.context(before, np.array([10, 20, 30, 40]), (60, 100), "area")
    assert not after[20:41, 10:31].any()
    assert np.array_equal(after[:20], before[:20])
    assert np.array_equal(after[:, 31:], before[:, 31:])
    assert before[25, 15].any()  # the image itself is left alone


def test_context_is_masked_before_it_is_resized():
    """Protects against leaks: at half size the inside of the box is still black."""
    after = views.context(np.full((60, 100, 3), 255, np.uint8), np.array([20, 20, 39, 39]), (30, 50), "area")
    assert not after[10:20, 10:20].any()


def test_area_averages_when_it_shrinks():
    """Protects the interpolation that belongs to the weights: a checkerboard becomes grey."""
    board = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)
    small = views.resize(np.dstack([board] * 3).astype(np.uint8), (16, 16), "area")
    assert set(np.unique(small)) <= {127, 128}
