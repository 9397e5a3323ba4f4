"""Predict a clip with onnxruntime alone: the label and scores of `emozoo predict`, without torch.

emozoo export ceflnet --format onnx --out ceflnet.onnx
python examples/onnx_only.py my.mp4 ceflnet.onnx

What the network takes (streams, sizes, windows, face detector) lies in the file, under ``emozoo`` in its metadata. The
clip is read by the code that training and prediction use: decode, find faces, crop, sample, normalize.

Models with log-mel audio are the exception: their spectrograms are computed with torch. None of the defaults is one.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

from emozoo.data import faces
from emozoo.data.clips import to_arrays
from emozoo.opened import OpenFile, ReadError, Task, open_file
from emozoo.spec import ClipSpec
from emozoo.timeline import WindowOutput, moments_of, track_of

BATCH = 4  # windows that the network gets at a time
EVERY = 1.0  # seconds between entries of the timeline of a clip that is longer than one window


def load(file: str) -> tuple[onnxruntime.InferenceSession, dict]:
    """The network, and the description of its input and classes."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # int8 weights become float32 once, not each time
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["emozoo"])
    if "scores" not in about["outputs"]:
        sys.exit(f"{about['name']} predicts valence and arousal alone: it has no classes")
    return session, about


def run(session: onnxruntime.InferenceSession, clip: OpenFile, tasks: list[Task]) -> None:
    """Reads the windows of these tasks, runs the network on them, and notes its outputs for each face."""
    found = clip.read(tasks)  # without those in which nothing is to be seen or heard
    if not found:
        return
    inputs, masks = to_arrays([task.raw for task in found], clip.spec)
    feed = inputs | {f"{stream}_mask": mask for stream, mask in masks.items()}
    (scores,) = session.run(["scores"], feed)
    for task, row in zip(found, scores, strict=True):
        real = np.any([mask.any(-1) for mask in task.raw.masks.values()], axis=0)  # clips that hold anything
        for window in task.windows:
            task.face.outputs.append(WindowOutput(window, row, None, task.raw.times, real, task.raw.boxes))


def predict(path: str, session: onnxruntime.InferenceSession, about: dict) -> tuple[str | None, dict[str, float]]:
    """Label and scores of the clip: means over time for the face that is seen longest, or for the whole image."""
    spec = faces.available(ClipSpec.from_dict(about["spec"]))  # another detector where the model's own is not there
    clip = open_file(path, None, spec, EVERY)
    try:
        tasks = clip.tasks()
        for start in range(0, len(tasks), BATCH):
            run(session, clip, tasks[start : start + BATCH])
        clip.check()
    finally:
        clip.reader.close()
    main = next((face for face in clip.faces if face.outputs), clip.faces[0])
    alone = len(main.windows) == 1
    timeline = [
        moment
        for output in main.outputs
        for moment in moments_of(output, about["classes"], clip_s=spec.clip_s, alone=alone, min_confidence=0.0)
    ]
    if not timeline:
        sys.exit(f"{path}: there is nothing that the model can look at")
    track = track_of(0, timeline, main.track)
    return track.label, track.scores


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: python {Path(sys.argv[0]).name} clip.mp4 model.onnx")
    try:
        label, scores = predict(sys.argv[1], *load(sys.argv[2]))
    except ReadError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    print(label)
    print(", ".join(f"{name} {score:.2f}" for name, score in scores.items()))
