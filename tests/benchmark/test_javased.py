"""Leave-one-actor-out: what is fused late is fitted without the person who is predicted."""

from __future__ import annotations

import numpy as np
import torch
from javased import fused_late, titled


def test_late_fusion_never_learns_from_whom_it_predicts() -> None:
    """Protects the comparison with late fusion: nobody's labels change their own predictions, but others' do."""
    rng = np.random.default_rng(0)
    groups, true = np.repeat(np.arange(4), 30), np.tile(np.arange(3), 40)
    good = torch.from_numpy(2.0 * np.eye(3)[true] + rng.normal(size=(120, 3)))
    noise = torch.from_numpy(rng.normal(size=(120, 3)))
    fused = fused_late(good, noise, true, groups)
    alone = float(np.mean(good.argmax(1).numpy() == true))
    assert np.mean(fused.argmax(1).numpy() == true) >= alone - 0.05, "noise is weighed down"
    other = np.where(groups == 0, (true + 1) % 3, true)
    changed = fused_late(good, noise, other, groups)
    assert torch.equal(changed[groups == 0], fused[groups == 0])
    assert not torch.allclose(changed[groups != 0], fused[groups != 0])


def test_names_of_rows() -> None:
    """Protects rows from the names of folders: they name the network and its recipe."""
    assert titled("ceflnet__javased") == "ceflnet, recipe javased"
