"""How predictions on real faces change when images are degraded, as the cards of the weights report.

    python benchmarks/robustness.py [weights ...]

Every network predicts the same held-out images unchanged and altered in one way; differences are paired, intervals by
person. Images are altered as the network gets them, after detection and cropping, so a face that would no longer be
detected still counts. How far a head is turned comes from YuNet's landmarks (``EMOZOO_YUNET``). Written to
``benchmarks/results/robustness.csv``; then run ``make tables``. Needs the real faces (``EMOZOO_SHARED``).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as fn

from emozoo import files, registry
from emozoo.batch import Batch
from emozoo.benchmark import report, statistics
from emozoo.benchmark.contenders import Contender
from emozoo.benchmark.predict import Predictions, predict
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.manifest import Row
from emozoo.data.media import read_image
from emozoo.files import resolve_path
from emozoo.zoo import load

OUT = Path("benchmarks/results/robustness.csv")
COLUMNS = (
    "model", "sha256", "data", "protocol", "split", "prior", "condition", "n", "n_groups", "WAR", "UAR", "WAR_delta",
    "WAR_delta_lo", "WAR_delta_hi", "UAR_delta", "UAR_delta_lo", "UAR_delta_hi",
)  # fmt: skip
# protocol -> adapter and root; weights of any version -> the protocols they are scored under, and the label map
FACES = {
    "lfw5_val_v1": ("csv", "$EMOZOO_SHARED/data/faces_lfw5/manifest.csv"),
    "ferplus7": ("ferplus7", "$EMOZOO_SHARED/data/ferplus"),
}
SCORED: dict[str, dict[str, str | None]] = {
    "ceflnet.faces5": {"lfw5_val_v1": None},
    "ceflnet.faces7": {"lfw5_val_v1": "lfw5_v1", "ferplus7": None},
    "emotion_fan.faces5": {"lfw5_val_v1": None},
    "emotion_fan.ferplus": {"ferplus7": None},
}
Change = Callable[[Tensor], Tensor]  # images (N, 3, H, W) in 0..1


# -- changes of an image --------------------------------------------------------------------------------------------


def smaller(side: int) -> Change:
    """A face of ``side`` pixels, enlarged again to what the network takes."""

    def change(x: Tensor) -> Tensor:
        small = fn.interpolate(x, (side, side), mode="area")
        return fn.interpolate(small, x.shape[-2:], mode="bicubic").clamp(0, 1)

    return change


def blurred(fraction: float) -> Change:
    """Gaussian blur, its deviation a fraction of the side."""

    def change(x: Tensor) -> Tensor:
        sigma = fraction * x.shape[-1]
        at = torch.arange(-round(3 * sigma), round(3 * sigma) + 1, dtype=x.dtype)
        line = torch.exp(-0.5 * (at / sigma) ** 2)
        line = (line / line.sum()).expand(3, 1, 1, -1)
        reach = len(at) // 2
        x = fn.conv2d(fn.pad(x, (reach, reach, 0, 0), mode="reflect"), line, groups=3)
        return fn.conv2d(fn.pad(x, (0, 0, reach, reach), mode="reflect"), line.transpose(2, 3), groups=3)

    return change


def covered(top: float, bottom: float) -> Change:
    """A grey band from ``top`` to ``bottom`` of the height."""

    def change(x: Tensor) -> Tensor:
        x, height = x.clone(), x.shape[-2]
        x[..., round(top * height) : round(bottom * height), :] = 0.5
        return x

    return change


def light(factor: float) -> Change:
    """The light changed by a factor."""
    return lambda x: (x * factor).clamp(0, 1)


def noisy(deviation: float) -> Change:
    """Noise with that standard deviation."""

    def change(x: Tensor) -> Tensor:
        # On a grid of 48 pixels, whatever the network takes: finer noise would be averaged away.
        grain = torch.randn(*x.shape[:2], 48, 48, generator=torch.Generator().manual_seed(0))
        return (x + deviation * fn.interpolate(grain, x.shape[-2:], mode="nearest")).clamp(0, 1)

    return change


def cast(red: float, blue: float) -> Change:
    """A cast of colour: factors of red and blue."""
    return lambda x: (x * torch.tensor([red, 1.0, blue])[:, None, None]).clamp(0, 1)


CONDITIONS: dict[str, Change] = {
    "face of 32 pixels": smaller(32),
    "face of 24 pixels": smaller(24),
    "face of 16 pixels": smaller(16),
    "blur, 3 % of the side": blurred(0.03),
    "blur, 6 % of the side": blurred(0.06),
    "eyes covered": covered(0.20, 0.45),
    "mouth covered": covered(0.62, 0.90),
    "a third of the light": light(1 / 3),
    "twice the light": light(2.0),
    "noise, 10 % of the range": noisy(0.10),
    "warm colour": cast(1.2, 0.75),
    "cold colour": cast(0.75, 1.2),
    "mirrored": lambda x: x.flip(-1),
}


class Altered:
    """A network whose ``predict_step`` alters every image first; every other attribute is the network's own."""

    def __init__(self, module: Any, change: Change) -> None:
        self._module, self._change = module, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> Any:
        """Predictions for the altered images."""
        inputs = dict(batch.inputs)
        for name, x in inputs.items():
            stream = self._module.spec.streams[name]
            if not stream.kind.is_image:
                continue
            mean, std = (torch.tensor(v)[:, None, None] for v in (stream.mean, stream.std))
            first = x[:, :1, :1] if batch.one_image else x
            images = first.flatten(0, 2) * std + mean
            altered = (self._change(images) - mean) / std
            inputs[name] = altered.unflatten(0, first.shape[:3]).expand(x.shape)
        return self._module.predict_step(replace(batch, inputs=inputs))


# -- how far a head is turned --------------------------------------------------------------------------------------


def head_turns(rows: list[Row]) -> np.ndarray:
    """How far the nose lies off the middle of the eyes (N,), as a fraction of their distance; nan = no face found."""
    file = os.environ.get(
        "EMOZOO_YUNET", str(resolve_path("$EMOZOO_SHARED/data/weights/face_detection_yunet_2023mar.onnx"))
    )
    found = np.full(len(rows), np.nan)
    detector = cv2.FaceDetectorYN.create(file, "", (320, 320), score_threshold=0.5)
    for i, row in enumerate(rows):
        image = cv2.cvtColor(cv2.resize(read_image(row.path)[0], (192, 192)), cv2.COLOR_RGB2BGR)
        image = cv2.copyMakeBorder(image, 64, 64, 64, 64, cv2.BORDER_REPLICATE)
        faces = detector.detect(image)[1]
        if faces is not None:
            right, left, nose = faces[0][4:10].reshape(3, 2)
            across = left - right
            found[i] = abs(float((nose - (left + right) / 2) @ across / max(1e-6, across @ across)))
    return found


def rows_by_turn(predictions: Predictions, prior: str) -> list[dict[str, Any]]:
    """Lines for the third of the heads that is turned least, and for that which is turned most."""
    turn = head_turns(predictions.rows)
    low, high = np.nanpercentile(turn, (100 / 3, 200 / 3))
    lines = []
    for name, part in (("head turned least (a third)", turn <= low), ("head turned most (a third)", turn >= high)):
        whole = predictions.outcome(0, prior)
        assert whole.confusion is not None
        own = replace(whole, groups=whole.groups[part], confusion=whole.confusion[part])
        metrics, _ = statistics.evaluate(own)
        lines.append(_line(name, metrics, len(own.groups), len(np.unique(own.groups))))
    return lines


# -- the table -----------------------------------------------------------------------------------------------------


def _line(condition: str, metrics: dict[str, float], n: int, groups: int) -> dict[str, Any]:
    return {"condition": condition, "n": n, "n_groups": groups, "WAR": metrics["WAR"], "UAR": metrics["UAR"]}


def robustness_rows(name: str, protocol: str, label_map: str | None) -> list[dict[str, Any]]:
    """The lines of one network on one set."""
    module = load(name)
    networks: list[Any] = [module, *(Altered(module, c) for c in CONDITIONS.values())]
    contenders = [Contender(network) for network in networks]
    dataset, root = FACES[protocol]
    dm = EmotionDataModule(
        dataset, root, spec=module.spec, classes=module.classes, split="val", label_map=label_map, batch_size=64,
        allow_missing=True,
    )  # fmt: skip
    predictions = predict(contenders, dm, "cpu", False)
    lines = []
    for prior in ("train", "uniform"):
        plain = predictions.outcome(0, prior)
        found = []
        for v, condition in enumerate(("as they are", *CONDITIONS)):
            outcome = predictions.outcome(v, prior)
            line = _line(
                condition, statistics.evaluate(outcome)[0], len(predictions.rows), len(np.unique(outcome.groups))
            )
            if v:
                delta, interval = statistics.difference(outcome, plain)
                for m in ("WAR", "UAR"):
                    line |= {f"{m}_delta": delta[m], f"{m}_delta_lo": interval[m][0], f"{m}_delta_hi": interval[m][1]}
            found.append(line)
        found += rows_by_turn(predictions, prior)
        lines += [line | {"prior": prior} for line in found]
    same = {"model": module.name, "sha256": module.sha256, "data": protocol.partition("_")[0], "protocol": protocol}
    return [same | {"split": "val"} | line for line in lines]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="*", help="names of shipped weights; default: all that are scored here")
    wanted = parser.parse_args(argv).weights or [n for n in registry.weights() if n.rpartition("_v")[0] in SCORED]
    if unknown := [n for n in wanted if n not in registry.weights() or n.rpartition("_v")[0] not in SCORED]:
        parser.error(f"not scored here: {', '.join(unknown)}; there are {', '.join(SCORED)}, each with its version")
    same = ("model", "protocol", "prior", "condition")
    table: dict[tuple[str, ...], dict[str, Any]] = {tuple(r[k] for k in same): r for r in report.read_csv(OUT)}
    for name in wanted:
        for protocol, label_map in SCORED[name.rpartition("_v")[0]].items():
            table |= {tuple(r[k] for k in same): r for r in robustness_rows(name, protocol, label_map)}
            cells = ({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in r.items()} for r in table.values())
            files.write_text(OUT, files.csv_text(cells, COLUMNS))
    print(OUT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
