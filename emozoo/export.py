"""Networks as files that run without torch: ONNX, with all that a prediction needs to know in the file.

Legend: B = batch, C = clips, F = frames in a clip, K = classes.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from emozoo import files
from emozoo.data import faces
from emozoo.data.clips import to_arrays
from emozoo.device import ready
from emozoo.errors import EmozooError, UsageError
from emozoo.opened import ReadError, open_file
from emozoo.recognizer import Recognizer
from emozoo.spec import ClipSpec
from emozoo.synthemo import plan, render, write_clip

FORMATS = ("onnx",)
TOLERANCE = 1e-4  # between the outputs of torch and of onnxruntime
INT8_TOLERANCE = 0.05  # the same with int8 weights: of probabilities, valence and arousal
BATCHES = (1, 3)  # clips in the batches that are compared
CLIP = "a drawn clip"  # on which the file that is written is compared with torch
KEY = "emozoo"  # of the file's metadata, under which the description lies
LEAST_WEIGHTS = 1024  # numbers in a matrix that is worth storing as int8


class Exported(NamedTuple):
    """A file that was written.

    Attributes:
        path: where it lies.
        size: bytes.
        difference: the largest one between outputs of torch and onnxruntime, for windows of a clip and for random
            inputs with masked parts.
        int8_difference: the largest one of the file with int8 weights, for windows of the clip; None without.
        clip: the name of the clip, or what it is; None where the network's streams find nothing in it.
        about: the description in the file, as :func:`describe` makes it.
    """

    path: Path
    size: int
    difference: float
    int8_difference: float | None
    clip: str | None
    about: dict[str, Any]


class Graph(nn.Module):
    """What predictions run, as a function of tensors alone: mirror images averaged, scores made of logits.

    Takes the inputs of all streams, then their masks, in the order of ``inputs``; gives what ``outputs`` names:
    ``scores`` (B, K), class probabilities with the temperature and the class prior, and ``va`` (B, C, 2).
    """

    def __init__(self, module: Recognizer, prior: str) -> None:
        super().__init__()
        self.module, self.prior = module, prior
        self.streams = tuple(module.spec.streams)
        self.inputs = (*self.streams, *(f"{stream}_mask" for stream in self.streams))
        self.outputs = tuple({"emotion": "scores", "va": "va"}[task] for task in module.tasks)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        count = len(self.streams)
        inputs, masks = (dict(zip(self.streams, t, strict=True)) for t in (tensors[:count], tensors[count:]))
        out = self.module(inputs, masks)
        scores = None if out.logits is None else self.module.scores(out.logits, self.prior)
        return tuple(x for x in (scores, out.va) if x is not None)


def export(
    model: str | Recognizer,
    out: str | Path | None = None,
    *,
    format: str = "onnx",
    prior: str | None = None,
    int8: bool = False,
) -> Exported:
    """Writes the network of a name, folder, address or loaded module as a file for onnxruntime, and compares the two.

    The graph is what predictions run: batch norms are folded, mirror images averaged. It takes each stream's input by
    the stream's name (``face``) and its mask (``face_mask``), for any number of clips in a batch, and gives ``scores``
    and ``va``. Its metadata hold the description that :func:`describe` makes.

    Args:
        out: the file; None: in the working directory, called like the weights: ``ceflnet.faces7_v4.onnx``.
        prior: class prior of the scores, ``train`` or ``uniform``; None: the one that predictions use.
        int8: weights of convolutions and matrices are stored as int8 (:func:`quantize`).

    Raises:
        UsageError: another format or prior, a folder in place of the file, or errors of :func:`emozoo.predict` for the
            model.
        EmozooError: the extra ``onnx`` is not installed, torch cannot export the network, or onnxruntime's outputs
            differ by more than 1e-4, with ``int8`` by more than 0.05. Nothing is written then.
    """
    check_format(format)
    if prior not in (None, "train", "uniform"):
        raise UsageError(f"prior must be 'train' or 'uniform', got '{prior}'")
    module = ready(model, "cpu").float()
    path = Path(out) if out is not None else Path(f"{Path(module.name).name}.onnx")
    files.check_file(path)
    graph = Graph(module, prior or module.prior).eval().requires_grad_(False)
    about, int8_difference = describe(graph, int8), None
    (clip, windows), noise = _windows(module.spec), [_random(graph, batch) for batch in BATCHES]
    with tempfile.TemporaryDirectory() as folder, files.replacing(path) as part:
        plain = Path(folder) / "float32.onnx" if int8 else part
        _write(graph, plain, about)
        found = difference(graph, plain, [*windows, *noise])
        _check_difference(module.name, found, TOLERANCE)
        if int8:
            quantize(plain, part)
            int8_difference = difference(graph, part, windows or noise)
            _check_difference(f"{module.name} with int8 weights", int8_difference, INT8_TOLERANCE)
        size = part.stat().st_size
    return Exported(path, size, found, int8_difference, clip, about)


def check_format(format: str) -> None:
    """Raises UsageError for another format than ``onnx``, EmozooError where the extra ``onnx`` is not installed."""
    if format not in FORMATS:
        raise UsageError(f"no format '{format}': there is {', '.join(FORMATS)}")
    _check_extra()


def _check_difference(what: str, found: float, limit: float) -> None:
    if not found <= limit:  # nan, too
        text = f"onnxruntime's outputs differ from torch's by {found:.2g}, more than {limit:g}"
        raise EmozooError(f"{what}: {text}; nothing was written")


def describe(graph: Graph, int8: bool = False) -> dict[str, Any]:
    """What is written into a file, as JSON: of the weights, of what the graph takes and gives, and of the versions."""
    module = graph.module
    spec = module.spec.to_dict()
    shapes = {n: ["B", module.spec.clips, s.frames, *s.kind.item_shape(s.size)] for n, s in module.spec.streams.items()}
    masks = {f"{n}_mask": shape[:3] for n, shape in shapes.items()}
    outputs = {"scores": ["B", len(module.classes)], "va": ["B", module.spec.clips, 2]}
    return {
        "schema": 1,
        "name": module.name,
        "sha256": module.sha256,
        "arch": module.arch,
        "wiring": module.wiring,
        "size": module.size,
        "classes": list(module.classes),
        "prior": graph.prior,
        "log_prior": module.log_prior.tolist() if module.classes else None,
        "temperature": float(module.temperature),
        "spec": spec,
        "inputs": shapes | masks,
        "outputs": {name: outputs[name] for name in graph.outputs},
        "int8": int8,
        "licence": module.config.get("licence", ""),
        "trained_on": module.config.get("trained_on", ""),
        "limits": list(module.config.get("limits") or ()),
        "versions": files.versions(),
    }


def difference(graph: Graph, file: Path, batches: Iterable[Sequence[Tensor]]) -> float:
    """The largest difference between the outputs of torch and of onnxruntime for batches of inputs and masks."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    found = 0.0
    for tensors in batches:
        with torch.inference_mode():
            wanted = graph(*tensors)
        given = session.run(list(graph.outputs), {n: x.numpy() for n, x in zip(graph.inputs, tensors, strict=True)})
        each = [np.abs(w.numpy() - g).max() for w, g in zip(wanted, given, strict=True)]
        found = float(np.max([found, *each]))  # NaN, where one is
    return found


def quantize(source: Path, out: Path) -> None:
    """Stores the weights of convolutions and matrix products as int8 with a scale for each of their outputs.

    About a quarter of the size. The file makes them float32 again, which onnxruntime does once, when it loads the file
    (as Cast and Mul; it would repeat a DequantizeLinear for every input). Computing with int8, too, as onnxruntime's
    ``quantize_static`` does, changes more labels (docs/export.md).
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(source)
    graph = model.graph
    weights = {t.name: t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1}
    axes: dict[str, set[int | None]] = {}  # of their outputs, in each operation that takes them
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in weights:
                axes.setdefault(name, set()).add(_output_axis(node, place, len(weights[name].dims)))
    nodes = []
    for name, of_name in axes.items():
        axis, w = of_name.pop(), numpy_helper.to_array(weights[name])
        if axis is None or of_name or w.size < LEAST_WEIGHTS:
            continue
        scale = np.abs(w).max(tuple(i for i in range(w.ndim) if i != axis), keepdims=True) / np.float32(127)
        scale[scale == 0] = 1.0
        parts = {f"{name}.int8": np.rint(w / scale).astype(np.int8), f"{name}.scale": scale}
        graph.initializer.remove(weights[name])
        graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in parts.items())
        nodes.append(helper.make_node("Cast", [f"{name}.int8"], [f"{name}.cast"], to=onnx.TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{name}.cast", f"{name}.scale"], [name]))
    for node in reversed(nodes):
        graph.node.insert(0, node)
    onnx.save(model, out)


def _output_axis(node: Any, place: int, ndim: int) -> int | None:
    """The axis of a weight along which a node's outputs lie; None where its input at that ``place`` is no weight."""
    if place != 1 or node.op_type not in ("Conv", "Gemm", "MatMul"):
        return None
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if node.op_type == "Conv" or transposed else ndim - 1


def _check_extra() -> None:
    """Raises EmozooError where a library of the extra ``onnx`` is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise EmozooError(
            f"export needs {error.name or 'onnx'}, which is not installed: pip install 'emozoo[onnx]'"
        ) from error


def _write(graph: Graph, path: Path, about: Mapping[str, Any]) -> None:
    """Exports a graph, with the description in its metadata. Raises EmozooError where torch cannot trace it."""
    import onnx
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    for part in graph.modules():  # the exporter needs twice the time for what works in place
        if getattr(part, "inplace", False):
            part.inplace = False  # type: ignore[assignment]
    tensors = _random(graph, 2)  # one clip would make the number of clips a constant
    shapes = (tuple({0: torch.export.Dim("B")} for _ in tensors),)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.export.export(graph, tensors, dynamic_shapes=shapes)
            program = torch.onnx.export(
                traced,
                input_names=graph.inputs,
                output_names=graph.outputs,
                dynamic_shapes=shapes,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # each operation that cannot be exported has an error of its own
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise EmozooError(f"{graph.module.name}: torch cannot export this network ({reason[:300]})") from error
    assert program is not None
    ClearMetadataAndDocStringPass()(program.model)  # stack traces, which name folders of this machine
    program.model.metadata_props[KEY] = json.dumps(about, ensure_ascii=False)
    model = program.model_proto
    del model.graph.value_info[:]  # shapes in between, which every reader infers; onnxruntime's quantizers need that
    onnx.save(model, path)


def _windows(spec: ClipSpec) -> tuple[str | None, list[tuple[Tensor, ...]]]:
    """What the clip is called, and batches of its windows: the first alone, and the first three."""
    spec, found = faces.available(spec), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drawn.mp4"
        write_clip(render(plan(3, 0)), path)  # a face that both detectors find
        with suppress(ReadError):  # of a stream that is made of more than this file
            file = open_file(str(path), None, spec, every=1.0)
            found = file.read(file.tasks()[:3])
            file.reader.close()
    if not found:
        return None, []
    arrays = to_arrays([task.raw for task in found if task.raw is not None], spec)
    tensors = tuple(torch.from_numpy(part[s]) for part in arrays for s in spec.streams)
    return CLIP, [tuple(x[:1] for x in tensors), tensors]


def _random(graph: Graph, batch: int) -> tuple[Tensor, ...]:
    """Inputs and masks of that many clips, the same ones each time.

    Masked inputs hold numbers, which must change nothing. In the last clip a whole stream is masked, where there are
    several.
    """
    spec, generator = graph.module.spec, torch.Generator().manual_seed(0)
    shapes = [(batch, spec.clips, s.frames, *s.kind.item_shape(s.size)) for s in spec.streams.values()]
    inputs = [torch.randn(shape, generator=generator).mul(0.3) for shape in shapes]
    masks = [torch.rand(shape[:3], generator=generator) < 0.7 for shape in shapes]
    masks[0][0] = True
    if len(masks) > 1:
        masks[-1][-1] = False
    return *inputs, *masks
