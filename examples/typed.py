"""The names of the package as a type checker sees them; ``mypy --strict`` checks this file in the tests.

python examples/typed.py clip.mp4 [clip.mp4 ...]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import emozoo
from emozoo import ClipSpec, EmotionModule, Prediction


def scores(paths: list[str], model: EmotionModule) -> Mapping[str, dict[str, float]]:
    """Class probabilities by file; files that cannot be read are left out."""
    answers: list[Prediction] = emozoo.predict(paths, model)
    return {p.file: p.scores for p in answers if p.scores is not None}


def main() -> None:
    model: EmotionModule = emozoo.load("ceflnet")
    spec: ClipSpec = model.spec
    names: tuple[str, ...] = model.classes
    print(f"{model.name}: {', '.join(names)}; {spec.clips} clips of {spec.window_s} s")
    first: Prediction = emozoo.predict(sys.argv[1], model)
    label: str | None = first.label
    print(label, scores(sys.argv[1:], model))


if __name__ == "__main__":
    main()
