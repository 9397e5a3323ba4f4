"""The face detector whose file is fetched: it is the very file or none, and what stands in for it is always said."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from hub_server import Hub, Repository

from emozoo import inference
from emozoo.benchmark.run import measure
from emozoo.data import faces
from emozoo.data.clips import ClipReader
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.prepare import cover_of, prepare
from emozoo.data.store import open_store
from emozoo.errors import UsageError, WeightsError
from emozoo.module import EmotionModule
from emozoo.spec import ClipSpec

ROOT = Path(__file__).resolve().parents[1]
REPO, FILE = "opencv/face_detection_yunet", "face_detection_yunet_2023mar.onnx"
# The module of a process that loads no weights: its spec names yunet.
MODULE = """
import emozoo
from emozoo.module import EmotionModule
module = EmotionModule("ceflnet", size="lite", options={"backbone": "vgg_tiny"}, spec={"detector": "yunet"}).eval()
"""


@pytest.fixture
def endpoint() -> Iterator[Hub]:
    with Hub() as server:
        yield server


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(endpoint: Hub, tmp_path: Path) -> Run:
    """A command, or ``code``, in a process of its own with an empty cache at first and the endpoint as its hub."""

    def start(*arguments: object, code: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        mine = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "EMOZOO_"))}
        mine |= {"HF_HOME": str(tmp_path / "hf"), "EMOZOO_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
        mine |= {"HF_ENDPOINT": endpoint.url, "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}
        command = ["-c", code] if code else ["-m", "emozoo", *map(str, arguments)]
        return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=mine | more, cwd=tmp_path)

    return start


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has an empty cache and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("EMOZOO_HOME", str(tmp_path / "empty"))
    monkeypatch.delenv("EMOZOO_YUNET", raising=False)


def small(detector: str = "yunet") -> EmotionModule:
    options, spec = {"backbone": "vgg_tiny"}, {"detector": detector}
    return EmotionModule("ceflnet", size="lite", classes=["anger", "happiness"], options=options, spec=spec).eval()


def publish(endpoint: Hub, data: bytes) -> None:
    endpoint.repositories.setdefault(REPO, Repository()).commit({FILE: data})


# -- the file --------------------------------------------------------------------------------------------------------


def test_the_file_is_fetched_once_and_then_needs_no_network(
    endpoint: Hub, run: Run, tmp_path: Path, yunet: Path
) -> None:
    """Protects first use: path and sha256 are told, later processes ask for nothing, a damaged copy is replaced."""
    publish(endpoint, yunet.read_bytes())
    first = run("download", "--detector", "yunet")
    assert first.returncode == 0, first.stderr
    name, path, word, sha256 = first.stdout.split()
    assert (name, word, sha256) == ("yunet:", "sha256", faces.YUNET_SHA256)
    assert Path(path).read_bytes() == yunet.read_bytes()
    assert tmp_path / "home" in Path(path).parents
    endpoint.forget_requests()
    again = run("download", "--detector", "yunet", "--json", HF_HUB_OFFLINE="1")
    assert json.loads(again.stdout)["detectors"] == [{"name": "yunet", "path": path, "sha256": sha256}]
    use = "from emozoo.data import faces\nfaces.detector('yunet')\nprint(faces.fallback_reason('yunet'))"
    assert run(code=use).stdout == "None\n"
    assert endpoint.requests == []
    Path(path).write_bytes(b"cut off")
    assert run(code=use).stdout == "None\n"
    assert Path(path).read_bytes() == yunet.read_bytes()
    assert [p.name for p in Path(path).parent.iterdir()] == [FILE]


def test_another_file_of_the_hub_is_not_used(endpoint: Hub, run: Run, tmp_path: Path) -> None:
    """Protects from a network that somebody put in the place of the published one: it does not reach the cache."""
    publish(endpoint, b"another network")
    found = run("download", "--detector", "yunet")
    assert found.returncode == 3
    assert found.stderr.count("\n") == 1
    assert "sha256" in found.stderr
    assert "EMOZOO_YUNET" in found.stderr
    assert not list((tmp_path / "home").rglob("*.onnx"))


@pytest.mark.parametrize(
    "why", [*(pytest.param(w, marks=pytest.mark.slow(10)) for w in ("down", "nobody_listens")), "silent"]
)
def test_without_the_file_every_prediction_says_so(endpoint: Hub, run: Run, why: str) -> None:
    """Protects users without a network: no wait, one attempt in a process, the fallback in every result."""
    more = {}
    if why == "down":
        endpoint.status = 503
    elif why == "nobody_listens":
        more["HF_ENDPOINT"] = "http://127.0.0.1:9"
    elif why == "silent":
        silent = socket.create_server(("127.0.0.1", 0))  # accepts, and never answers
        more["HF_ENDPOINT"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
    code = MODULE + (
        "import json, numpy, time\n"
        "start = time.monotonic()\n"
        "found = [emozoo.predict(numpy.zeros((64, 64, 3), 'uint8'), module) for _ in range(2)]\n"
        "found += emozoo.predict(['gone.mp4'], module)\n"
        "print(json.dumps([time.monotonic() - start, [json.loads(f.to_json()) for f in found]]))"
    )
    done = run(code=code, **more)
    assert done.returncode == 0, done.stderr
    seconds, results = json.loads(done.stdout)
    assert seconds < 20
    for result in results:
        assert result["detector"] == "cascade"
        assert [w["code"] for w in result["warnings"]].count("detector_fallback") == 1
        text = next(w["text"] for w in result["warnings"] if w["code"] == "detector_fallback")
        assert "yunet" in text
        assert "emozoo download --detector yunet" in text
    assert done.stderr.count("detector_fallback") == 1
    assert sum(FILE in request for request in endpoint.requests) == (why == "down")


def test_a_detector_that_is_asked_for_is_not_replaced(run: Run, offline: None) -> None:
    """Protects comparisons: with --detector yunet the answer is from yunet, or an error that says how to mend it."""
    (found := run("predict", "x.mp4", "--detector", "yunet", HF_HUB_OFFLINE="1"))
    assert found.returncode == 3
    assert "HF_HUB_OFFLINE" in found.stderr
    assert "emozoo download --detector yunet" in found.stderr
    assert found.stderr.count("\n") == 1
    for name in ("yunet", "cascade"):
        with pytest.raises(WeightsError, match="EMOZOO_YUNET"):
            inference.Predictor(small(name), detector="yunet")


def test_the_file_at_emozoo_yunet_is_the_right_one_or_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None, yunet: Path
) -> None:
    """Protects from a silent fallback where the user chose a file: a wrong or missing one stops the run."""
    for file in (tmp_path / "gone.onnx", tmp_path / "wrong.onnx"):
        (tmp_path / "wrong.onnx").write_bytes(b"another network")
        monkeypatch.setenv("EMOZOO_YUNET", str(file))
        with pytest.raises(WeightsError, match=f"EMOZOO_YUNET={file}"):
            inference.Predictor(small())
    monkeypatch.setenv("EMOZOO_YUNET", str(yunet))
    found = inference.predict(np.zeros((64, 64, 3), np.uint8), small())
    assert found.detector == "yunet"
    assert "detector_fallback" not in [w["code"] for w in found.warnings]


def test_only_a_detector_with_a_file_is_downloaded(run: Run) -> None:
    """Protects from a mistyped name and from a call without any."""
    found = run("download", "--detector", "retina")
    assert found.returncode == 2
    assert "yunet" in found.stderr
    assert run("download").returncode == 2


# -- data, training and benchmark ------------------------------------------------------------------------------------


@pytest.fixture
def films(shared: Path, tmp_path: Path) -> Path:
    """Two classes of one film each, with a face that both detectors see."""
    for name in ("anger", "happiness"):
        (tmp_path / "films" / name).mkdir(parents=True)
        shutil.copy(shared / "data" / "clips" / "pyfeat_single_face.mp4", tmp_path / "films" / name / f"{name}.mp4")
    return tmp_path / "films"


def test_a_reader_says_that_it_fell_back(films: Path, offline: None) -> None:
    """Protects code that reads clips itself: the clip carries the warning, the reader names the detector it used."""
    with ClipReader(films / "anger" / "anger.mp4", small().spec) as reader:
        raw = reader.read()
        assert reader.spec.detector == "cascade"
    assert [w.code for w in raw.warnings] == ["detector_fallback"]
    assert not raw.no_face


def data_of(root: Path, spec: ClipSpec, **more: object) -> EmotionDataModule:
    return EmotionDataModule("folder", root, spec=spec, split="all", batch_size=2, **more)  # type: ignore[arg-type]


def test_data_for_training_fall_back_with_one_warning(
    films: Path, offline: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Protects training: the data are read with cascade, their spec says so, and the log has the warning once."""
    wanted = small().spec
    with caplog.at_level(logging.WARNING):
        data = data_of(films, wanted, classes=small().classes)
        data.setup()
        again = data_of(films, wanted)
        again.setup()
    assert data.spec == wanted.with_detector("cascade")
    assert sum("detector_fallback" in r.getMessage() for r in caplog.records) == 1
    batch = next(iter(data.test_dataloader()))
    assert not batch.meta["no_face"].any()
    small()._check_data(data)  # a model that names yunet takes them


def test_boxes_of_the_data_need_no_detector(films: Path, offline: None, caplog: pytest.LogCaptureFixture) -> None:
    """Protects data with boxes: nothing is fetched, said or changed."""
    lines = [f"{p},{p.parent.name},10,10,90,90" for p in sorted(films.rglob("*.mp4"))]
    (films / "boxes.csv").write_text("\n".join(["path,label,x1,y1,x2,y2", *lines]))
    data = EmotionDataModule("csv", films / "boxes.csv", spec=small().spec, split="all")
    with caplog.at_level(logging.WARNING):
        data.setup()
    assert data.spec.detector == "yunet"
    assert "detector_fallback" not in caplog.text


def saved(module: EmotionModule, folder: Path) -> Path:
    """A weights folder as training writes it."""
    from emozoo import hub
    from emozoo.card import card

    config = {
        "schema": 1, "arch": "ceflnet", "tag": "", "wiring": "stable", "size": "lite", "classes": list(module.classes),
        "tasks": ["emotion"], "options": {"backbone": "vgg_tiny"}, "spec": module.spec.to_dict(), "tau": 1.0,
        "log_prior": [-0.7] * 2, "trained_on": "nothing", "licence": "Apache-2.0", "limits": [], "recipe": "",
        "n_train": 0, "epochs": 0, "seed": 0, "precision": "32", "train_seconds": 0.0,
    }  # fmt: skip
    hub.save(folder, module.net.state_dict(), config, card(config), half=False)
    return folder


def test_a_benchmark_names_the_detector_that_was_used(
    films: Path, offline: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Protects records: cascade in the record and one warning; with ``detector=`` an error in place of a record."""
    weights = saved(small(), tmp_path / "weights")
    with caplog.at_level(logging.WARNING):
        result = measure([str(weights)], "folder", films)
    assert [r["detector"] for r in result.records] == ["cascade"]
    assert [r["no_face"] for r in result.records] == [0]
    assert sum("detector_fallback" in r.getMessage() for r in caplog.records) == 1
    with pytest.raises(WeightsError, match="emozoo download --detector yunet"):
        measure([str(weights)], "folder", films, detector="yunet")


def test_a_store_is_read_without_the_detector_that_made_it(
    films: Path, tmp_path: Path, yunet: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Protects clusters: faces found by yunet once are read anywhere, under its name and without a warning."""
    weights = saved(small(), tmp_path / "weights")
    monkeypatch.setenv("EMOZOO_YUNET", str(yunet))
    prepare("folder", films, tmp_path / "store", cover=cover_of([str(weights)]), workers=1)
    monkeypatch.delenv("EMOZOO_YUNET")
    monkeypatch.setenv("EMOZOO_HOME", str(tmp_path / "empty"))
    for asked in (None, "yunet"):
        result = measure([str(weights)], "store", tmp_path / "store", detector=asked)
        assert [(r["detector"], r["no_face"]) for r in result.records] == [("yunet", 0)]
    assert "detector_fallback" not in caplog.text


def test_preparing_offline_falls_back_and_the_store_says_so(
    films: Path, tmp_path: Path, offline: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Protects stores: cascade with one warning, named in the store; with ``--detector yunet`` an error, no store."""
    weights = saved(small(), tmp_path / "weights")
    with caplog.at_level(logging.WARNING):
        prepare("folder", films, tmp_path / "store", cover=cover_of([str(weights)]), workers=1)
    assert open_store(tmp_path / "store").cover.detector == "cascade"
    assert caplog.text.count("detector_fallback") == 1
    assert [
        r["detector"] for r in measure([str(weights)], "store", tmp_path / "store", detector="cascade").records
    ] == ["cascade"]
    with pytest.raises(UsageError, match="found by yunet, the store's were found by cascade"):
        measure([str(weights)], "store", tmp_path / "store")
    with pytest.raises(WeightsError, match="EMOZOO_YUNET"):
        prepare("folder", films, tmp_path / "no", cover=cover_of([str(weights)], detector="yunet"), workers=1)
    assert not (tmp_path / "no").exists()


def test_faces_of_user_videos_are_found(shared: Path, yunet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects what yunet is there for: people who film each other, whose faces the cascade often does not find."""
    monkeypatch.setenv("EMOZOO_YUNET", str(yunet))
    films = [*sorted((shared / "data/ekman6_samples").glob("*.mp4")), shared / "data/clips/facenet_crowd.mp4"]
    found = dict.fromkeys(faces.DETECTORS, 0)
    for film in films[:-1]:
        frames = _frames(film, 10)
        for name in faces.DETECTORS:
            found[name] += sum(len(faces.detector(name)(frame)) > 0 for frame in frames)
    assert found["yunet"] >= 40
    assert found["yunet"] > found["cascade"]
    assert min(len(faces.detector("yunet")(frame)) for frame in _frames(films[-1], 5)) >= 2


def _frames(film: Path, count: int) -> list[np.ndarray]:
    with av.open(str(film)) as media:
        frames = [frame.to_ndarray(format="rgb24") for frame in media.decode(video=0)]
    return [frames[i] for i in np.linspace(0, len(frames) - 1, count + 2).astype(int)[1:-1]]
