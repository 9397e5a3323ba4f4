"""Weights, inputs and expectations of the golden files, drawn as their ``recipe`` says."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

Golden = dict[str, Any]


def read(folder: Path, name: str) -> Golden:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def _draw(key: str, shape: list[int], seed: int, uniform: bool = False) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(key.encode("utf-8")) + seed)
    return rng.random(shape) if uniform else rng.standard_normal(shape)


def _rounded(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float64).astype(np.float32).astype(np.float64))


def state_dict(golden: Golden) -> dict[str, torch.Tensor]:
    """The authors' state dict in float64, under their own names."""
    gain, bias_scale, state = golden["recipe"]["weight_gain"], golden["recipe"]["bias_scale"], {}
    for entry in golden["parameters"]:
        name, shape, kind = entry["name"], entry["shape"], entry["kind"]
        if kind == "num_batches_tracked":
            state[name] = torch.tensor(0)
            continue
        z = _draw(name, shape, golden["seed"])
        state[name] = _rounded(
            {
                "weight": lambda z=z, s=shape: z * (gain / np.sqrt(np.prod(s[1:]))),
                "bias": lambda z=z: z * bias_scale,
                "norm_weight": lambda z=z: 1 + 0.1 * z,
                "running_mean": lambda z=z: 0.1 * z,
                "running_var": lambda z=z: 1 + 0.1 * np.abs(z),
            }[kind]()
        )
    return state


def inputs(golden: Golden) -> dict[str, torch.Tensor]:
    return {
        e["name"]: _rounded(_draw("input:" + e["name"], e["shape"], golden["seed"], e["distribution"] == "uniform"))
        for e in golden["inputs"]
    }


def assert_values(got: torch.Tensor, want: Golden, atol: float) -> None:
    """Shape and every value."""
    assert list(got.shape) == want["shape"]
    torch.testing.assert_close(
        got.detach().double().flatten(), torch.tensor(want["values"], dtype=torch.float64), atol=atol, rtol=0
    )


def assert_summary(got: torch.Tensor, want: Golden, rel: float) -> None:
    """Shape where given, Euclidean norm, sum and first values, within ``rel`` of the norm."""
    flat = got.detach().double().flatten()
    if "shape" in want:
        assert list(got.shape) == want["shape"]
    tolerance = rel * max(want["l2"], 1e-3)
    assert abs(flat.norm().item() - want["l2"]) <= tolerance
    assert abs(flat.sum().item() - want["sum"]) <= tolerance * max(1.0, len(flat) ** 0.5)
    first = torch.tensor(want["first"], dtype=torch.float64)
    torch.testing.assert_close(flat[: len(first)], first, atol=tolerance, rtol=0)
