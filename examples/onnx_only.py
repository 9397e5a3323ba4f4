"""Predict a clip with onnxruntime alone, without torch: prints what `emozoo predict` prints.

emozoo export ceflnet --out ceflnet.onnx
python examples/onnx_only.py my.mp4 ceflnet.onnx

What the network takes (streams, sizes, windows, face detector) and its classes lie in the file, under ``emozoo`` in its
metadata. The clip is read by the code that training and prediction use: decode, find faces, crop, sample, normalize.

Needs numpy, onnxruntime and emozoo's own files, of which none imports torch here. Models with log-mel audio are the
exception: their spectrograms are computed with torch. None of the default weights is one.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

from emozoo.data import faces
from emozoo.data.clips import to_arrays
from emozoo.errors import UsageError
from emozoo.opened import OpenFile, ReadError, Task, open_file
from emozoo.prediction import Prediction
from emozoo.spec import ClipSpec
from emozoo.timeline import WindowOutput

BATCH = 4  # windows that the network gets at a time
EVERY = 1.0  # seconds between entries of the timeline of a clip that is longer than one window


def load(file: str) -> tuple[onnxruntime.InferenceSession, dict]:
    """The network, and the description of its input and classes."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map.get("emozoo")
    if found is None:
        sys.exit(f"error: {file}: was not written by `emozoo export`: it has no metadata 'emozoo'")
    return session, json.loads(found)


def run(session: onnxruntime.InferenceSession, clip: OpenFile, tasks: list[Task]) -> None:
    """Reads the windows of these tasks, runs the network on them, and notes its outputs for each face."""
    found = clip.read(tasks)  # without those in which nothing is to be seen or heard
    if not found:
        return
    inputs, masks = to_arrays([task.raw for task in found], clip.spec)
    names = [output.name for output in session.get_outputs()]  # scores, va or both
    outputs = session.run(names, inputs | {f"{stream}_mask": mask for stream, mask in masks.items()})
    for i, task in enumerate(found):
        own = {name: values[i] for name, values in zip(names, outputs, strict=True)}
        real = np.any([mask.any(-1) for mask in task.raw.masks.values()], axis=0)  # clips that hold anything
        for window in task.windows:
            output = WindowOutput(window, own.get("scores"), own.get("va"), task.raw.times, real, task.raw.boxes)
            task.face.outputs.append(output)


def predict(path: str, session: onnxruntime.InferenceSession, about: dict) -> Prediction:
    """The prediction for the clip: means over time of the face that is seen longest, or of the whole image."""
    spec = faces.available(ClipSpec.from_dict(about["spec"]))  # another detector where the model's own is not there
    detector = spec.detector if spec.needs_face else None
    prediction = Prediction(path, about["name"], about["sha256"], detector, about["classes"])
    if spec.needs_face and (reason := faces.fallback_reason(about["spec"]["detector"])):
        prediction.warnings.append({"code": faces.FALLBACK_CODE, "text": reason})
    clip = open_file(path, None, spec, EVERY)
    try:
        tasks = clip.tasks()
        for start in range(0, len(tasks), BATCH):
            run(session, clip, tasks[start : start + BATCH])
        clip.finish(prediction, min_confidence=0.0)
    finally:
        clip.reader.close()
    return prediction


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: python {Path(sys.argv[0]).name} clip.mp4 model.onnx")
    try:
        print(predict(sys.argv[1], *load(sys.argv[2])).summary())
    except ReadError as error:
        sys.exit(f"error: {sys.argv[1]}: {error}")
    except UsageError as error:
        sys.exit(f"error: {sys.argv[2]}: {error}")
