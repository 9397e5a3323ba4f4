"""Films without names: who is grouped as one person, and that no group is cut by the folds."""

from __future__ import annotations

import numpy as np
import pytest
from kerc import folds_of, people_of, unit

pytest.importorskip("scipy")


def test_faces_that_look_alike_are_one_person_and_lie_in_one_fold() -> None:
    """Protects folds by person: noisy images of seven faces are seven groups, each in one fold, none of them empty."""
    rng = np.random.default_rng(0)
    true = rng.permutation(np.repeat(np.arange(7), [30, 20, 12, 10, 10, 5, 3]))
    faces = unit(rng.normal(size=(7, 64))[true] * 2 + rng.normal(size=(90, 64)) + 5)
    people = people_of(faces)
    pairs = people[:, None] == people
    assert (pairs == (true[:, None] == true)).all()
    folds = folds_of(people)
    assert (folds[:, None] == folds)[pairs].all()
    assert sorted(np.bincount(folds)) == [12, 13, 15, 20, 30]
    assert (folds == folds_of(people)).all()
