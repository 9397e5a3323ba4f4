"""What int8 costs: exported default weights in float32 and int8 on the same items, with size and speed.

    python benchmarks/int8.py [model ...]

Two ways to int8 stand beside the float32 file:

* ``weights``: ``emozoo export --int8``; weights are stored as int8, all is computed in float32;
* ``static``: onnxruntime's ``quantize_static``; convolutions and matrix products are computed in int8, with ranges
  from ``CALIBRATION`` training clips.

Speed: one clip on one thread, the median of ``ROUNDS`` runs, in which all files take turns. Writes
``benchmarks/results/int8.csv``; needs the real material (``EMOZOO_SHARED``) and the extra ``onnx``.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnxruntime import quantization

from emozoo import files
from emozoo.benchmark.report import read_csv
from emozoo.data import datasets
from emozoo.data.clips import ClipReader, to_arrays
from emozoo.data.manifest import Row
from emozoo.device import ready
from emozoo.errors import VideoError
from emozoo.export import export, quantize
from emozoo.files import resolve_path
from emozoo.metrics import scores_of
from emozoo.spec import ClipSpec

TABLE = Path(__file__).resolve().parent / "results" / "int8.csv"
COLUMNS = (
    "model", "sha256", "data", "split", "n", "of", "variant", "WAR", "UAR", "WAR_delta", "UAR_delta", "same_label",
    "largest_change", "mb", "size_ratio", "ms", "speed_ratio", "seed", "date", "versions",
)  # fmt: skip
VARIANTS = ("float32", "weights", "static")
BATCH, ROUNDS, CALIBRATION, SEED = 8, 15, 32, 1


class Data(NamedTuple):
    """Items of the part val. ``most``: a random choice of so many is measured where there are more."""

    name: str
    dataset: str
    root: str
    most: int


FACES = Data("ferplus", "ferplus7", "$EMOZOO_SHARED/data/ferplus", 300)
TALKING = Data("javased_video", "csv", "$EMOZOO_SHARED/data/javased_video/manifest.csv", 48)
VOICES = Data("javased_audio", "csv", "$EMOZOO_SHARED/data/javased_audio/manifest.csv", 120)
MUSIC = Data("music_video", "csv", "$EMOZOO_SHARED/data/music_video/manifest.csv", 48)
DATA = {
    "ceflnet": (FACES,),
    "caer_cross_attention": (FACES,),
    "dfan": (MUSIC,),
    "recursive_joint_attention": (TALKING, VOICES),
}


def rows_of(data: Data, split: str, most: int, classes: Sequence[str]) -> tuple[list[Row], int]:
    """A random choice of the labelled rows of a part, and of how many."""
    manifest = datasets.load(data.dataset, resolve_path(data.root))
    rows = [r for r in manifest.rows if r.split == split and r.label in classes]
    if len(rows) <= most:
        return rows, len(rows)
    chosen = np.random.default_rng(SEED).choice(len(rows), most, replace=False)
    return [rows[i] for i in sorted(chosen)], len(rows)


def batches(rows: Sequence[Row], spec: ClipSpec) -> Iterator[tuple[list[Row], dict[str, np.ndarray]]]:
    """Rows that can be read, and what a file takes for them."""
    for start in range(0, len(rows), BATCH):
        read, raws = [], []
        for row in rows[start : start + BATCH]:
            try:
                with ClipReader.of(row, spec) as reader:
                    raws.append(reader.read())
                read.append(row)
            except VideoError as error:
                print(f"left out: {error}", file=sys.stderr)
        if raws:
            inputs, masks = to_arrays(raws, spec)
            yield read, inputs | {f"{k}_mask": m for k, m in masks.items()}


class Calibration(quantization.CalibrationDataReader):
    """Training clips, one at a time."""

    def __init__(self, rows: Sequence[Row], spec: ClipSpec) -> None:
        self._clips = ({k: x[i : i + 1] for k, x in feed.items()} for read, feed in batches(rows, spec)
                       for i in range(len(read)))  # fmt: skip

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._clips, None)


def make(arch: str, folder: Path, spec: ClipSpec, classes: Sequence[str]) -> dict[str, Path]:
    """The files of an architecture's default weights by variant."""
    paths = {v: folder / f"{v}.onnx" for v in VARIANTS}
    export(arch, paths["float32"])
    quantize(paths["float32"], paths["weights"])  # what export(..., int8=True) writes
    floats = {"DefaultTensorType": onnx.TensorProto.FLOAT}  # of tensors whose type the quantizer does not find
    rows, _ = rows_of(DATA[arch][0], "train", CALIBRATION, classes)
    quantization.quantize_static(
        paths["float32"], paths["static"], Calibration(rows, spec), per_channel=True,
        op_types_to_quantize=["Conv", "Gemm", "MatMul"], extra_options=floats,
    )  # fmt: skip
    return paths


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def milliseconds(sessions: Mapping[str, Any], feed: dict[str, np.ndarray]) -> dict[str, float]:
    """The median time of each file for one clip; they take turns."""
    found: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(ROUNDS + 1):
        for name, run in sessions.items():
            begun = time.perf_counter()
            run.run(None, feed)
            found[name].append(1e3 * (time.perf_counter() - begun))
    return {name: float(np.median(times[1:])) for name, times in found.items()}  # the first makes buffers


def measure(arch: str) -> Iterator[dict[str, Any]]:
    """The rows of the table for the default weights of an architecture."""
    module = ready(arch, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        paths = make(arch, Path(folder), module.spec, module.classes)
        sessions = {name: session(path) for name, path in paths.items()}
        for data in DATA[arch]:
            rows, of = rows_of(data, "val", data.most, module.classes)
            scores: dict[str, list[np.ndarray]] = {name: [] for name in sessions}
            labels: list[int] = []
            feed: dict[str, np.ndarray] = {}
            for read, feed in batches(rows, module.spec):
                labels += [module.classes.index(str(r.label)) for r in read]
                for name, run in sessions.items():
                    scores[name].append(run.run(["scores"], feed)[0])
            times = milliseconds(sessions, {k: x[:1] for k, x in feed.items()})
            yield from lines(module, data, of, labels, scores, paths, times)


def lines(
    module: Any, data: Data, of: int, labels: list[int], scores: Mapping[str, list[np.ndarray]],
    paths: Mapping[str, Path], times: Mapping[str, float],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """A row for each variant, beside float32."""
    plain, k = np.concatenate(scores["float32"]), len(module.classes)
    first: dict[str, float] = {}
    for name, parts in scores.items():
        own = np.concatenate(parts)
        confusion = np.zeros((k, k))
        np.add.at(confusion, (labels, own.argmax(1)), 1)
        found = scores_of(confusion)
        first = first or found
        mb = {v: paths[v].stat().st_size / 1e6 for v in ("float32", name)}
        yield {
            "model": module.name, "sha256": module.sha256, "data": data.name, "split": "val", "n": len(labels),
            "of": of, "variant": name, "WAR": f"{found['WAR']:.4f}", "UAR": f"{found['UAR']:.4f}",
            "WAR_delta": f"{found['WAR'] - first['WAR']:.4f}", "UAR_delta": f"{found['UAR'] - first['UAR']:.4f}",
            "same_label": f"{(own.argmax(1) == plain.argmax(1)).mean():.4f}",
            "largest_change": f"{np.abs(own - plain).max():.4f}", "mb": f"{mb[name]:.2f}",
            "size_ratio": f"{mb[name] / mb['float32']:.3f}", "ms": f"{times[name]:.1f}",
            "speed_ratio": f"{times[name] / times['float32']:.3f}", "seed": SEED,
            "date": datetime.date.today().isoformat(),
            "versions": " ".join(f"{k}={v}" for k, v in files.versions().items()),
        }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="model", help=f"default: {', '.join(DATA)}")
    kept: list[dict[str, Any]] = list(read_csv(TABLE)) if TABLE.is_file() else []
    for arch in parser.parse_args(argv).models or list(DATA):
        new = list(measure(arch))
        kept = [*(r for r in kept if r["model"].partition(".")[0] != arch), *new]
        kept.sort(key=lambda r: (list(DATA).index(r["model"].partition(".")[0]), r["data"]))
        files.write_text(TABLE, files.csv_text(kept, COLUMNS))
        for line in new:
            print(*(f"{c}={line[c]}" for c in COLUMNS[2:-3]), file=sys.stderr)


if __name__ == "__main__":
    main()
