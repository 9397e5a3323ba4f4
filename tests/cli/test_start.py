"""What the first answer waits for: a prediction loads nothing that it does not use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNUSED = (
    "lightning", "torchmetrics", "albumentations", "pandas", "torchvision", "timm", "scipy", "sympy", "matplotlib",
    "transformers", "litdata", "huggingface_hub", "jinja2", "torch._dynamo", "torch._inductor", "triton",
)  # fmt: skip
RUN = """
import sys
from emozoo.cli import main
sys.argv = ["emozoo", "predict", "--json", "--detector", "cascade", *sys.argv[1:]]
assert main() == 0
print(*(name for name in sys.modules if name in {unused!r}))
"""


@pytest.mark.parametrize(
    ("file", "model", "streams"),
    [
        ("picture.png", "caer_cross_attention", {"face", "context"}),
        ("picture.png", "ceflnet", {"face"}),
        ("picture.png", "dfan", {"object", "scene"}),
        ("picture.png", "recursive_joint_attention", {"face"}),
        ("face.mp4", "recursive_joint_attention", {"face", "audio"}),
    ],
)
def test_a_prediction_imports_what_it_uses(media: Path, file: str, model: str, streams: set[str]) -> None:
    """Protects the first answer of `emozoo predict` from seconds of imports that only training and drawing need."""
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(unused=UNUSED), media / file, "--model", model],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True,
    )  # fmt: skip
    answer, imported = done.stdout.splitlines()
    assert set(json.loads(answer)["streams_used"]) == streams  # the whole network ran
    assert imported == ""
