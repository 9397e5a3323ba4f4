"""Exported files: onnxruntime computes what torch computes, and a clip is predicted without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from media_files import write_video
from nets import WIRINGS

from emozoo import export as exporting
from emozoo import registry
from emozoo.benchmark.report import read_csv
from emozoo.data.clips import ClipReader, to_batch
from emozoo.device import ready
from emozoo.errors import EmozooError, UsageError
from emozoo.export import Exported, export
from emozoo.files import resolve_path
from emozoo.inference import predict
from emozoo.recognizer import Recognizer
from emozoo.spec import ClipSpec
from emozoo.synthemo import Knobs, plan, render

for needed in ("onnx", "onnxscript"):
    pytest.importorskip(needed, reason=f"{needed} is not installed: pip install 'emozoo[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="it is not installed: pip install 'emozoo[onnx]'")

ROOT = Path(__file__).resolve().parents[1]
DEFAULTS = ("ceflnet", "dfan", "caer_cross_attention", "recursive_joint_attention")
# The default weights cover the default wirings of their papers; the small networks of these are for the night, as are
# recurrent networks, whose steps the exporter writes out one by one.
COVERED = {(arch, registry.MODELS[arch].wiring(registry.MODELS[arch].default_wiring)) for arch in DEFAULTS}
RECURRENT = ("recursive_joint_attention", "resnet_gru")
NETWORKS = [
    pytest.param(*x, marks=[pytest.mark.slow(40)] if x in COVERED or x[0] in RECURRENT else []) for x in WIRINGS
]
SHIPPED = [name for name in registry.weights() if name not in {registry.resolve(a)[1].name for a in DEFAULTS}]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn person who speaks for four seconds: longer than the windows of most models."""
    shown = render(plan(3, 0, Knobs(), size=(192, 144), seconds=4.0, fps=10))
    return write_video(tmp_path_factory.mktemp("clip") / "face.mp4", list(shown.frames), audio=shown.waveform)


@pytest.fixture(scope="module")
def clips(clip: Path) -> list[Path]:
    """Three clips of real people, of whom one is heard alone; without the real material the drawn one."""
    folder = resolve_path("$EMOZOO_SHARED/data/clips")
    names = ("liveportrait_d18.mp4", "pyfeat_single_face.mp4", "rishi_audio_happy.mp4")
    return [folder / name for name in names] if folder.is_dir() else [clip] * 3


def small(arch: str, wiring: str | None = None) -> Recognizer:
    """A small network that has learned nothing."""
    torch.manual_seed(0)
    return Recognizer(arch, wiring, "lite").eval()


def run(file: Path, inputs: dict[str, torch.Tensor], masks: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """What onnxruntime gives for a batch, by output."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [x.name for x in session.get_outputs()]
    feed = {k: x.numpy() for k, x in inputs.items()} | {f"{k}_mask": m.numpy() for k, m in masks.items()}
    return dict(zip(names, session.run(names, feed), strict=True))


@pytest.mark.parametrize(
    "arch", [pytest.param(a, marks=() if a == "ceflnet" else pytest.mark.slow(40)) for a in DEFAULTS]
)
def test_default_weights_predict_the_same_without_torch(tmp_path, clip, clips, arch):
    """Protects services on an exported file: torch's numbers to 1e-4, and examples/onnx_only.py prints what
    `emozoo predict` prints, to the letter, with torch out of reach. The file tells how its input is made."""
    done = export(arch, tmp_path / "net.onnx")
    assert done.difference <= 1e-4
    module = ready(arch, "cpu")
    check_numbers(done.path, module, clips if module.spec.needs_audio else clips[:2] * 2)
    check_description(done, module)
    script = str(ROOT / "examples" / "onnx_only.py")
    code = (
        "import runpy, sys\nsys.modules['torch'] = None\n"  # from here on `import torch` fails
        f"sys.argv = {[script, str(clip), str(done.path)]!r}\n"
        f"runpy.run_path({script!r}, run_name='__main__')\n"
        "assert not {'torchvision', 'lightning', 'timm'} & set(sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout == predict(str(clip), arch).summary() + "\n"


def check_numbers(file: Path, module: Recognizer, clips: Sequence[Path]) -> None:
    """The outputs for the first clip, and for three together, are those of torch."""
    spec = module.spec.with_detector("cascade")
    raws = []
    for path in clips:
        with ClipReader(path, spec) as reader:
            raws.append(reader.read())
    for some in (raws[:1], raws[:3]):
        batch = to_batch(some, spec)
        with torch.inference_mode():
            out = module.output(batch)
            wanted = {"scores": module.scores(out.logits, module.prior), "va": out.va}
        found = run(file, batch.inputs, batch.masks)
        assert set(found) == {"scores", "va"} if "va" in module.tasks else {"scores"}
        for name, values in found.items():
            np.testing.assert_allclose(values, wanted[name].numpy(), atol=1e-4, rtol=0, err_msg=name)


def check_description(done: Exported, module: Recognizer) -> None:
    """The file has all that is needed to make an input and to read an output, and names no folder of its maker."""
    session = onnxruntime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["emozoo"])
    assert ClipSpec.from_dict(about["spec"]) == module.spec
    assert tuple(about["classes"]) == module.classes
    assert (about["name"], about["sha256"], about["prior"]) == (module.name, module.sha256, module.prior)
    assert about["temperature"] == pytest.approx(float(module.temperature))
    assert about["log_prior"] == pytest.approx(module.log_prior.tolist())
    assert {x.name: x.shape for x in session.get_inputs()} == about["inputs"]
    assert {x.name: x.shape for x in session.get_outputs()} == about["outputs"]
    assert str(ROOT).encode() not in done.path.read_bytes()


@pytest.mark.parametrize(("arch", "wiring"), NETWORKS)
def test_every_network_can_be_exported(tmp_path, monkeypatch, arch, wiring):
    """Protects the promise that every model can be exported: each wiring, one and three inputs with masked parts."""
    monkeypatch.setattr(exporting, "_windows", lambda spec: (None, []))  # a clip is the test of real weights
    done = export(small(arch, wiring), tmp_path / "net.onnx")
    assert done.difference <= 1e-4
    assert done.about["wiring"] == wiring
    assert done.size == done.path.stat().st_size


@pytest.mark.slow(20)
@pytest.mark.parametrize("name", SHIPPED)
def test_all_shipped_weights_can_be_exported(tmp_path, name):
    """Protects each tag that `emozoo list` shows: exported and equal to torch."""
    done = export(name, tmp_path / "net.onnx")
    assert done.difference <= 1e-4
    assert done.about["name"] == name


@pytest.fixture
def existing(tmp_path: Path) -> Iterator[Path]:
    """A file where the exported one is to lie. Nothing may happen to it, and nothing may be left beside it."""
    file = tmp_path / "net.onnx"
    file.write_bytes(b"an older one")
    yield file
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    assert file.read_bytes() == b"an older one"


@pytest.mark.parametrize(("int8", "found"), [(False, 2e-4), (False, float("nan")), (True, 0.06)])
def test_a_file_that_computes_something_else_is_not_written(existing, monkeypatch, int8, found):
    """Protects users from a file that predicts something else than the model it was made of."""
    monkeypatch.setattr(exporting, "_write", lambda graph, path, about: path.write_bytes(b"new"))
    monkeypatch.setattr(exporting, "quantize", lambda source, out: out.write_bytes(b"new"))
    differences = iter([0.0, found] if int8 else [found])
    monkeypatch.setattr(exporting, "difference", lambda graph, file, batches: next(differences))
    with pytest.raises(EmozooError, match=r"differ from torch's by .*nothing was written"):
        export(small("emotion_fan"), existing, int8=int8)


def test_an_output_that_is_no_number_differs(tmp_path):
    """Protects from files that give NaN: it differs from every number, also beside outputs that are right."""
    import onnx
    from onnx import TensorProto, helper

    class Twice(torch.nn.Module):
        inputs, outputs = ("x",), ("same", "root")

        def forward(self, x):
            return x, x

    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["B"]) for n in ("x", "same", "root")]
    nodes = [helper.make_node("Identity", ["x"], ["same"]), helper.make_node("Sqrt", ["x"], ["root"])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", values[:1], values[1:]), opset_imports=[helper.make_opsetid("", 20)]
    )
    model.ir_version = 10
    onnx.save(model, tmp_path / "net.onnx")
    assert np.isnan(exporting.difference(Twice(), tmp_path / "net.onnx", [(torch.tensor([-1.0]),)]))


def test_a_network_that_cannot_be_traced_is_named(existing, monkeypatch):
    """Protects authors of networks of their own: one line that names the network, no trace of torch's exporter."""
    module = small("emotion_fan")
    monkeypatch.setattr(
        type(module.net), "head", lambda self, features, masks: print(features["face"].sum().item() > 0)
    )
    with pytest.raises(EmozooError, match=r"emotion_fan \(untrained\): torch cannot export this network") as error:
        export(module, existing)
    assert "\n" not in str(error.value)


def test_a_missing_library_is_named(existing, monkeypatch):
    """Protects users without the extra: the line says what to install."""
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(EmozooError, match=r"onnxscript.*pip install 'emozoo\[onnx\]'"):
        export(small("emotion_fan"), existing)


def test_wrong_requests_are_errors_of_usage(existing):
    """Protects the command line: what cannot be meant is refused before anything is computed."""
    with pytest.raises(UsageError, match="no format 'tflite'"):
        export("ceflnet", existing, format="tflite")
    with pytest.raises(UsageError, match="prior must be"):
        export("ceflnet", existing, prior="none")


def test_a_folder_in_place_of_the_file_is_refused_first(tmp_path, monkeypatch):
    """Protects half a minute of work: that the file cannot be written is known before the network is written."""
    monkeypatch.setattr(exporting, "describe", lambda *_: pytest.fail("work before the check"))
    with pytest.raises(UsageError, match="is a folder; give the name of a file"):
        export(small("emotion_fan"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_int8_weights_keep_what_the_default_weights_can():
    """Protects `--int8` with numbers: on the measured items no default loses more than a point, or the label of one
    item where so few were measured that one is more."""
    rows = [r for r in read_csv(ROOT / "benchmarks" / "results" / "int8.csv") if r["variant"] == "weights"]
    assert {r["model"]: r["sha256"] for r in rows} == {
        (w := registry.resolve(arch)[1]).name: w.sha256 for arch in DEFAULTS
    }, "measure again: python benchmarks/int8.py"
    for row in rows:
        least = -max(0.01, 1 / int(row["n"])) - 1e-4  # the table has four digits
        assert float(row["WAR_delta"]) >= least, row
        assert float(row["UAR_delta"]) >= least, row
