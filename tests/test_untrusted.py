"""Files of strangers: weights, configs, checkpoints and names. Each is used, or refused in one line; no code runs."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import re
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars
import pytest
import torch
import trees
from pickles import Evil
from safetensors.torch import save_file

from emozoo import files, hub, labels, registry, summary
from emozoo.benchmark import prediction_files, report
from emozoo.benchmark.formatting import markdown_table
from emozoo.benchmark.records import Result
from emozoo.card import card
from emozoo.data import datasets
from emozoo.data.doctor import Report
from emozoo.data.manifest import Finding
from emozoo.errors import DatasetError, EmozooError, ManifestError, UsageError, WeightsError
from emozoo.finetune import _FitOrigin
from emozoo.module import EmotionModule
from emozoo.prediction import FaceTrack, Moment, Prediction
from emozoo.train import train
from emozoo.zoo import load

OPTIONS = {"backbone": "vgg_tiny"}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small weights folder."""
    folder = tmp_path_factory.mktemp("untrusted") / "w"
    return EmotionModule("ceflnet", size="lite", options=OPTIONS).save(folder)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "w"))


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


def safetensors(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(begin: int = 0, end: int = 8, dtype: str = "F32", shape: tuple[Any, ...] = (2,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


# -- safetensors -----------------------------------------------------------------------------------------------------

BAD_FILES = {
    "empty": (b"", "too few"),
    "seven bytes": (b"1234567", "too few"),
    "length of 2^63": (safetensors({}, length=1 << 63), "too few"),
    "header longer than the file": (safetensors({"a": entry()}, b"8bytes!!", length=10_000), "too few"),
    "no JSON": (safetensors(b"{not json"), "no valid JSON"),
    "no UTF-8": (safetensors(b'{"\xff": 1}'), "no valid JSON"),
    "a list": (safetensors([]), "no table"),
    "deep": (safetensors(b"[" * 100_000 + b"]" * 100_000), "no valid JSON"),
    "twice": (safetensors(b'{"a": {}, "a": {}}'), "stands twice"),
    "half a character": (safetensors(b'{"\\ud800": {}}'), "no name of a tensor"),
    "control character": (safetensors({"\x1b[2J": entry()}, b"8bytes!!"), "no name of a tensor"),
    "unknown type": (safetensors({"a": entry(dtype="F128")}, b"8bytes!!"), "has the type 'F128'"),
    "shape of 2^40": (safetensors({"a": entry(shape=(1 << 40,))}, b"8bytes!!"), "does not fit the 8 bytes"),
    "shape that overflows": (safetensors({"a": entry(shape=(1 << 47,) * 4)}, b"8bytes!!"), "does not fit"),
    "negative shape": (safetensors({"a": entry(shape=(-2,))}, b"8bytes!!"), "not whole numbers"),
    "text for a shape": (safetensors({"a": {**entry(), "shape": "2"}}, b"8bytes!!"), "not whole numbers"),
    "true for a shape": (safetensors({"a": entry(shape=(True, 2))}, b"8bytes!!"), "not whole numbers"),
    "behind the end": (safetensors({"a": entry(8, 16)}, b"8bytes!!"), "lie apart"),
    "overlap": (safetensors({"a": entry(), "b": entry(4, 12)}, b"12 bytes!!!!"), "overlap"),
    "gap": (safetensors({"a": entry(), "b": entry(12, 20)}, bytes(20)), "lie apart"),
    "cut off": (safetensors({"a": entry()}, b"7bytes!"), "cut off"),
    "more than it tells": (safetensors({"a": entry()}, bytes(9)), "cut off"),
    "no offsets": (safetensors({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)), "needs dtype, shape"),
    "metadata": (safetensors({"__metadata__": {"a": 1}, "b": entry()}, bytes(8)), "metadata"),
    "infinite": (safetensors(b'{"a": 1e999}'), "too large"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_header_that_does_not_fit_its_file_is_refused(tmp_path: Path, name: str) -> None:
    """Protects memory and readers from made-up headers: each is one line that names what is wrong."""
    data, said = BAD_FILES[name]
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(WeightsError) as error:
        hub.read_weights(path, None)
    assert said in one_line(error)


def test_a_file_larger_than_its_network_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects memory: what the network of the config cannot need is refused by its size, whatever its header says."""
    with (folder / hub.WEIGHTS).open("r+b") as file:
        file.truncate(200 << 20)
    monkeypatch.setattr(hub, "read_state", None)
    with pytest.raises(WeightsError, match="the network of its config has") as error:
        load(folder)
    one_line(error)


def test_a_file_larger_than_any_network_is_not_read(tmp_path: Path) -> None:
    """Protects memory from a file of a terabyte, most of it a hole."""
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write(safetensors({"a": entry(0, 1 << 40, shape=(1 << 38,))}))
        file.truncate(1 << 40)
    with pytest.raises(WeightsError, match="more than any network needs"):
        hub.read_weights(path, None)


def test_good_files_are_read(tmp_path: Path) -> None:
    """The checks refuse nothing that safetensors itself writes: scalars, empty tensors, all types of networks."""
    state = {
        "a": torch.tensor(3), "b": torch.zeros(0, 4), "c": torch.ones(2, dtype=torch.bfloat16),
        "d": torch.tensor([True]), "e": torch.arange(3, dtype=torch.uint8), "f": torch.rand(2, 3, dtype=torch.float64),
    }  # fmt: skip
    save_file(state, tmp_path / "x.safetensors", metadata={"format": "pt"})
    back = hub.read_weights(tmp_path / "x.safetensors", None)
    assert all(torch.equal(back[k], v.float() if v.dtype == torch.bfloat16 else v) for k, v in state.items())


@pytest.mark.parametrize("length", [640, 768, 1024, 1280, 19_280])
def test_no_length_of_a_header_is_taken_for_a_pickle(tmp_path: Path, length: int) -> None:
    """The first bytes of a file are the length of its header, of which some begin as a pickle or an archive does."""
    header = json.dumps({"a": entry()}).ljust(length).encode()
    (tmp_path / "x.safetensors").write_bytes(safetensors(header, bytes(8)))
    assert hub.read_weights(tmp_path / "x.safetensors", None)["a"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(folder: Path, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects predictions from weights of a training that diverged; the tensor is named."""
    module = load(folder)
    state = module.net.state_dict()
    state["classifier.5.bias"][2] = value
    with monkeypatch.context() as patch:
        patch.setattr("emozoo.weights_file.check_finite", lambda *_: None)  # others may write them
        hub.save(folder, state, {k: v for k, v in module.config.items() if k != "sha256"}, "card", half=False)
    with pytest.raises(WeightsError, match=r"'classifier\.5\.bias' holds 1 of 7 numbers that are NaN or infinite"):
        load(folder)


# -- pickles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.pt", "x.pth", "x.ckpt", "x.bin", "x.pkl", "X.PT", "model.safetensors", "x"])
@pytest.mark.parametrize("kind", ["torch", "protocol 0", "protocol 2", "protocol 5"])
def test_no_pickle_is_opened(folder: Path, tmp_path: Path, name: str, kind: str) -> None:
    """Protects whoever loads weights of strangers, whatever the file is called: by path, as ``weights=``, as a folder
    and as the start of a training."""
    mark = tmp_path / "ran"
    path = folder / name
    if kind == "torch":
        torch.save({"x": Evil(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Evil(mark), protocol=int(kind[-1])))
    asks: list[Callable[[], object]] = [
        lambda: load(path), lambda: load("ceflnet", weights=path), lambda: hub.read_weights(path, None),
        lambda: EmotionModule("ceflnet", size="lite", options=OPTIONS, init_from=str(path)),
    ]  # fmt: skip
    if name == "model.safetensors":
        asks += [lambda: load(folder), lambda: load("ceflnet", weights=folder)]
    for ask in asks:
        with pytest.raises(EmozooError) as error:
            ask()
        one_line(error)
    assert not mark.exists()


def test_a_checkpoint_runs_no_code(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's own checkpoints are pickles: opened by the loader that knows tensors and plain values alone."""
    mark, file = tmp_path / "ran", tmp_path / "last.ckpt"
    torch.save({"hyper_parameters": {"model": "ceflnet"}, "state_dict": {}, "callbacks": Evil(mark)}, file)
    monkeypatch.chdir(tmp_path)
    words = ["--config", "ceflnet__synthemo", "--ckpt_path", str(file)]
    with pytest.raises(UsageError, match="would run code"):
        train(words)
    torch.save({"hyper_parameters": {"_class_path": "os.system"}}, tmp_path / "named.ckpt")
    with pytest.raises(UsageError, match="names a class to import"):
        train([*words[:-1], str(tmp_path / "named.ckpt")])
    with pytest.raises(UsageError, match="is an address"):
        train([*words[:-1], "https://127.0.0.1:9/last.ckpt"])
    with pytest.raises(WeightsError, match="would run code") as error:
        EmotionModule.load_from_checkpoint(file)
    one_line(error)
    assert _FitOrigin.of(file) is None
    assert not mark.exists()


# -- config.json -----------------------------------------------------------------------------------------------------


def _stream(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda c: c["spec"]["streams"]["face"].update(changes)


def _put(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda c: c.__setitem__(key, value)


def _audio(**changes: Any) -> Callable[[dict[str, Any]], None]:
    stream = {"source": "audio", "size": [300, 1000], "mean": [0.0], "std": [1.0], "audio": changes}
    return lambda c: c["spec"]["streams"].update(voice=stream)


BAD_CONFIGS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "unknown key": (_put("hook", "os.system"), "'hook' is no key that this version knows"),
    "classes a number": (_put("classes", 10**9), "classes must be"),
    "too many classes": (_put("classes", [str(i) for i in range(100_000)]), "classes must be"),
    "one class twice": (_put("classes", ["a", "a"]), "classes must be"),
    "escape in a class": (_put("classes", ["\x1b]0;x\x07"]), "classes must be"),
    "half a character": (_put("classes", ["\ud800"]), "classes must be"),
    "path for a tag": (_put("tag", "../../x"), "tag must be"),
    "path for an arch": (_put("arch", "/etc/passwd"), "arch must be"),
    "dotted arch": (_put("arch", "os:system"), "no model 'os:system'"),
    "unknown arch": (_put("arch", "resnet9000"), "no model"),
    "unknown size": (_put("size", "huge"), "no size"),
    "unknown wiring": (_put("wiring", "secret"), "no wiring"),
    "no dictionary of options": (_put("options", []), "options must be"),
    "unknown option": (_put("options", {"hook": 1}), "'hook' is none of ceflnet"),
    "file of weights": (_put("options", {"backbone_weights": "/etc/passwd"}), "'backbone_weights' is none of"),
    "positional": (_put("options", {"num_classes": 3}), "'num_classes' is none of"),
    "folder of a speech model": (_put("options", {"backbone": "hf:/etc"}), "names a file"),
    "option of 400 digits": (_put("options", {"backbone": "vgg_tiny", "reduce": 10**400}), "too large"),
    "a billion channels": (_put("options", {"backbone": "vgg_tiny", "reduce": 10**9}), "too large"),
    "other numbers": (_put("options", {"backbone": "vgg_tiny", "reduce": 60_000}), "does not fit"),
    "another backbone": (_put("options", {"backbone": "resnet50"}), "does not fit"),
    "no backbone": (_put("options", {"backbone": 5}), "no ceflnet can be built"),
    "endless option": (_put("options", {"backbone": ["a"] * 10_000}), "too large"),
    "schema": (_put("schema", 2), "schema must be 1"),
    "no hash": (_put("sha256", "abc"), "sha256 must be"),
    "another hash": (_put("sha256", "0" * 64), "sha256 is"),
    "temperature 0": (_put("temperature", 0.0), "temperature must be"),
    "prior": (_put("prior", "mine"), "prior must be"),
    "hardly a temperature": (_put("temperature", 1e-300), "temperature must be"),
    "huge temperature": (_put("temperature", 1e29), "temperature must be"),
    "tau of text": (_put("tau", "1"), "tau must be"),
    "huge tau": (_put("tau", 1e29), "tau must be"),
    "huge prior": (_put("log_prior", [-1e29] * 7), "log_prior must be"),
    "class of a column": (_put("classes", ["label", *"abcdef"]), "classes must be"),
    "class of a time": (_put("classes", ["a", "time_a", *"bcdef"]), "classes must be"),
    "one prior": (_put("log_prior", [0.0]), "7 classes, but 1 priors"),
    "parts": (_put("parts", {"backbone": {"weights": "../../x", "part": "a", "sha256": "0" * 64}}), "'parts'"),
    "no parts": (_put("parts", {"backbone": 3}), "'parts'"),
    "huge images": (_stream(size=[10**9, 10**9]), "size of a stream"),
    "large images": (_stream(size=[60_000, 60_000]), "would read"),
    "frames": (_stream(frames=10**9), "frames of a stream"),
    "no frames": (_stream(frames=0), "frames of a stream"),
    "clips": (lambda c: c["spec"].update(clips=10**9), "clips must be"),
    "many clips": (lambda c: c["spec"].update(clips=10**6), "would read"),
    "division by zero": (_stream(std=[0.0, 0.0, 0.0]), "std of a stream"),
    "mean of text": (_stream(mean="abc"), "mean of a stream"),
    "mean of two numbers": (_stream(mean=[0.5, 0.5]), "three: red, green and blue"),
    "seconds of audio": (_audio(seconds=80_000.0, rate=1_000_000), "would read"),
    "steps of audio": (_audio(hop=1_000_000), "would read"),
    "filters of audio": (_audio(fft=1_000_000), "would read"),
    "window": (lambda c: c["spec"].update(window_s=0.0), "window_s must be"),
    "endless window": (lambda c: c["spec"].update(window_s=1e12), "window_s must be"),
    "source": (_stream(source="/etc/passwd"), "no source"),
    "sampling": (lambda c: c["spec"].update(sampling="all"), "sampling must be"),
    "interpolation": (lambda c: c["spec"].update(interpolation="__import__"), "interpolation must be"),
    "no streams": (lambda c: c["spec"].update(streams={}), "no streams"),
    "streams a list": (lambda c: c["spec"].update(streams=[1]), "cannot be read"),
    "field of a spec": (lambda c: c["spec"].update(hook=1), "cannot be read"),
    "no clips": (lambda c: c["spec"].pop("clips"), "cannot be read"),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_a_config_asks_for_nothing_that_no_network_has(folder: Path, name: str) -> None:
    """Protects from configs of strangers: one line that names the file, before a network is built."""
    change, said = BAD_CONFIGS[name]
    config = json.loads((folder / hub.CONFIG).read_text())
    change(config)
    (folder / hub.CONFIG).write_text(json.dumps(config))
    asks: list[Callable[[], object]] = [lambda: load(folder), lambda: load(folder / hub.WEIGHTS)]
    for ask in asks:
        with pytest.raises(EmozooError) as error:
            ask()
        assert said in one_line(error)
        assert str(folder) in str(error.value)


BAD_JSON = {
    "NaN": b'{"tau": NaN}', "infinite": b'{"tau": 1e999}', "twice": b'{"arch": "a", "arch": "b"}',
    "deep": b"[" * 200_000 + b"]" * 200_000, "rather deep": b'{"a": ' * 40 + b"1" + b"}" * 40,
    "no UTF-8": b'{"arch": "\xff"}', "a list": b"[]", "many digits": b'{"seed": ' + b"9" * 100_000 + b"}",
    "large": b'{"recipe": "' + b"x" * (5 << 20) + b'"}', "empty": b"", "cut off": b'{"arch": "cef',
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_JSON)
def test_a_config_is_plain_small_json(folder: Path, name: str) -> None:
    """Protects from what a JSON parser takes and nobody means, and from what ends it."""
    (folder / hub.CONFIG).write_bytes(BAD_JSON[name])
    with pytest.raises(WeightsError) as error:
        load(folder)
    one_line(error)


def test_every_option_that_recipes_use_is_understood() -> None:
    """The whitelist refuses no weights that come with the zoo: each of them passes as a stranger's."""
    from emozoo import weights, weights_config

    for name, found in registry.weights().items():
        weights_config.check(Path(name), found.config)
        assert weights.read(weights.Source(hub.locate(found))).config["tag"] == found.tag


@pytest.mark.parametrize("change", [{"classes": 1}, {"temperature": 9.0}, {"log_prior": 1}, {"prior": "train"}])
def test_released_weights_with_another_config_have_another_name(tmp_path: Path, change: dict[str, Any]) -> None:
    """Protects reports from the name of released weights beside classes that were swapped, or another prior."""
    from emozoo import weights

    folder = Path(shutil.copytree(hub.locate(registry.weights()["ceflnet.faces7_v4"]), tmp_path / "w"))
    assert weights.read(weights.Source(folder)).name == "ceflnet.faces7_v4"
    config = json.loads((folder / hub.CONFIG).read_text())
    config |= {k: config[k][::-1] if v == 1 else v for k, v in change.items()}
    (folder / hub.CONFIG).write_text(json.dumps(config))
    assert weights.read(weights.Source(folder)).name == str(folder)


# -- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [hub.WEIGHTS, hub.CONFIG])
def test_a_folder_of_weights_reads_its_own_files_alone(folder: Path, tmp_path: Path, name: str) -> None:
    """Protects from a fetched folder whose files are links to others of this machine; the hub's cache is no such."""
    shutil.move(folder / name, tmp_path / "secret")
    (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(WeightsError, match="is a link out of its folder"):
        load(folder)


def test_shared_files_and_cards_are_no_links(folder: Path, tmp_path: Path) -> None:
    """What is published is in the folder: no other file of this machine goes along as a card or as a shared part."""
    (tmp_path / "secret").write_text("secret")
    (folder / hub.CARD).unlink()
    (folder / hub.CARD).symlink_to(tmp_path / "secret")
    with pytest.raises(WeightsError, match=r"README\.md: is a link out of its folder"):
        hub.push(folder, "org/name", token="hf_x")
    (folder / hub.CARD).unlink()
    config = hub.read_config(folder)
    config["parts"] = {"backbone": {"weights": "a.b", "part": "backbone", "sha256": "0" * 64}}
    (folder / hub.CONFIG).write_text(json.dumps(config))
    (folder / "a.b.safetensors").symlink_to(tmp_path / "secret")
    with pytest.raises(WeightsError, match=r"a\.b\.safetensors: is a link out of its folder"):
        load(folder)


def test_a_folder_named_as_one_of_the_hub_is_not_from_there(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unpacked archive may be called as the hub's client calls its folders: it has no address in any report."""
    from emozoo import weights

    inside = ("models--org--name", "snapshots", "0" * 40)
    folder = Path(shutil.copytree(made, tmp_path.joinpath(*inside)))
    assert weights.read(weights.Source(folder)).name == str(folder)
    monkeypatch.setenv("EMOZOO_HOME", str(tmp_path / "home"))
    cached = Path(shutil.copytree(made, tmp_path.joinpath("home", "hub", *inside)))
    assert weights.read(weights.Source(cached)).name == f"hf://org/name@{'0' * 40}"


@pytest.mark.parametrize("name", ["../../../x.png", "/tmp/x.png", "a/b.png", ".png", "x.exe"])
def test_names_in_annotations_are_no_paths(tmp_path: Path, name: str) -> None:
    """Protects files beside the data: images are written under the names of FER+'s table, which must be names."""
    trees.ferplus(tmp_path)
    table = tmp_path / "fer2013new.csv"
    table.write_text(table.read_text().replace("fer0000003.png", name))
    with pytest.raises(ManifestError, match="is no name of an image"):
        datasets.load("ferplus", tmp_path)


# -- what spreadsheets and browsers are given -------------------------------------------------------------------------

FORMULAS = ["=1+1", "+cmd|'/C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "'=1", "  =1", "＝1+1", "=HYPERLINK(1)"]


@pytest.mark.parametrize("text", [*FORMULAS, "'tis", "-0.5", "+1e-3", "-", "happy", "", "''=1", "-1e5"])
def test_a_cell_comes_back_as_it_was(text: str) -> None:
    """What is written before a formula is taken away again when our own tables are read; numbers stay numbers."""
    cell = str(files.csv_cell(text))
    assert files.csv_value(cell) == text
    assert (cell == text) == (text not in [*FORMULAS, "''=1"])
    assert cell[:1] not in "=+@\t\r＝" or text in ("", "+1e-3")


@pytest.mark.parametrize(
    "classes",
    [
        ["label", "a"], ["a", "a"], ["a", "time_a"], ["x" * 221, "a"], ["a\nb", "c"], ["a", ""], ["\x1b[31m", "a"],
        [f"c{i}" for i in range(1001)],
    ],
)  # fmt: skip
def test_classes_that_weights_cannot_name_are_refused_before_training(classes: list[str]) -> None:
    """Protects trainings: what ``load`` would refuse afterwards, and what tables would mix up, is refused at once."""
    with pytest.raises(UsageError, match="these cannot be the classes of a network") as error:
        EmotionModule("ceflnet", size="lite", classes=classes, options=OPTIONS)
    one_line(error)


def test_no_class_has_the_name_of_a_column(tmp_path: Path) -> None:
    """Protects tables with a column for each class: every other column is a name that no class may have."""
    nothing = Prediction("a.mp4", "m", "", None, [])
    nothing.to_csv(tmp_path / "one.csv")
    lines: Any = [SimpleNamespace(text=nothing.to_json)]
    summary.write_csv(tmp_path / "all.csv", lines)
    summary.write_parquet(tmp_path / "all.parquet", lines)
    columns = [
        *(tmp_path / "one.csv").read_text().splitlines()[0].split(","),
        *(tmp_path / "all.csv").read_text().splitlines()[0].split(","),
        *polars.read_parquet_schema(tmp_path / "all.parquet"),
        *prediction_files.FIRST, *prediction_files.LAST,
    ]  # fmt: skip
    assert set(columns) == labels.COLUMNS


def test_every_table_is_safe_to_open(tmp_path: Path) -> None:
    """Names of files, classes, people and models are text in a spreadsheet, in each kind of table that is written."""
    moment = Moment(0.0, 1.0, {"=b": 1.0})
    fields = {"file": "=a.mp4", "model": "@m", "classes": ["=b"]}
    prediction = Prediction.__new__(Prediction)
    for name, value in fields.items():
        object.__setattr__(prediction, name, value)
    object.__setattr__(prediction, "tracks", [FaceTrack(0, "=b", {"=b": 1.0}, [moment])])
    prediction.to_csv(tmp_path / "p.csv")
    keys = ("model", "sha256", "dataset", "protocol", "split", "fold", "prior", "control", "detector")
    record = dict.fromkeys(keys, "x")
    lines = [{"id": "=i", "fold": None, "group": "+p x", "label": "=b", "=b": 0.75}]
    result = Result(records=[{**record, "classes": ["=b"]}], tables=[lines])
    prediction_files.write(result, tmp_path)
    (tmp_path / "t.csv").write_text(files.csv_text([{"=c": "=1", "d": -0.5}], ["=c", "d"]))
    tables = sorted(tmp_path.glob("*.csv"))
    assert len(tables) == 3
    for table in tables:
        cells = [cell for row in csv.reader(io.StringIO(table.read_text())) for cell in row]
        assert not [c for c in cells if c[:1] in ("=", "+", "@")], table
    back = prediction_files.read(next(t for t in tables if t.name.startswith("x")))
    assert (back.ids, back.groups, back.outcome.classes) == (["=i"], ["+p x"], ("=b",))
    lines[0]["id"] = "\udce9.mp4"  # a byte in the name of a file that is no text
    prediction_files.write(result, tmp_path)
    assert prediction_files.read(tmp_path / result.records[0]["predictions"].partition("/")[2]).ids == [r"\udce9.mp4"]
    files.write_text(tmp_path / "r.json", report.to_json({"id": "\udce9.mp4"}))
    assert json.loads((tmp_path / "r.json").read_text()) == {"id": "\udce9.mp4"}


@pytest.mark.parametrize(
    ("a", "b"), [("runs/fold 1", "runs/fold_1"), (f"{'x' * 300}a", f"{'x' * 300}b"), ("é" * 150, "e")]
)
def test_files_of_predictions_have_names_of_their_own(a: str, b: str, tmp_path: Path) -> None:
    """Protects hours of measuring from the path of a folder of weights: no name is too long, and no two are alike."""
    other = dict.fromkeys(("dataset", "protocol", "split", "fold", "prior", "control", "detector"), "x")
    names = [prediction_files.file_name({**other, "model": model}) for model in (a, b)]
    assert names[0] != names[1]
    for name in names:
        files.write_atomic(tmp_path / name, b"x")
    assert prediction_files.file_name({**other, "model": "ceflnet.faces7_v4"}) == "ceflnet.faces7_v4__x.csv"


def test_no_file_of_predictions_replaces_another_of_its_run(tmp_path: Path) -> None:
    """Protects predictions of weights with one tag, and of two data sets with one name: none replaces the others."""
    same = dict.fromkeys(("model", "dataset", "protocol", "split", "fold", "prior", "control", "detector"), "x")
    ids = ["a", "b", "c", "a"]  # of two weights, the second on two sets; the last is the first once more
    records = [{**same, "classes": [], "sha256": s * 64} for s in "1221"]
    result = Result(records, [[{"id": i, "fold": None, "group": None, "label": None}] for i in ids])
    named = []
    for _ in range(2):
        prediction_files.write(result, tmp_path)
        named.append([r["predictions"].partition("/")[2] for r in result.records])
    assert named[0] == named[1] == ["x.csv", "x_22222222.csv", "x_22222222_2.csv", "x.csv"]
    assert [prediction_files.read(tmp_path / n).ids for n in named[0]] == [[i] for i in ids]


def predictions_file(path: Path, *lines: str, header: str = "id,fold,group,label,predicted,joy,fear") -> str:
    """Writes a file of predictions; returns its text."""
    text = "\n".join([header, *lines]) + "\n"
    path.write_text(text, encoding="utf-8")
    return text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "utf-16"])
def test_predictions_that_a_spreadsheet_saved(encoding: str, tmp_path: Path) -> None:
    """Protects files of predictions that went through a spreadsheet: read, or refused in one line that says how to save
    them."""
    text = predictions_file(tmp_path / "p.csv", "é,,Zoë,joy,joy,0.75,0.25", "b,,,fear,joy,0.5,0.5")
    (tmp_path / "p.csv").write_bytes(text.replace("\n", "\r\n").encode(encoding))
    if encoding == "utf-8-sig":
        found = prediction_files.read(tmp_path / "p.csv")
        assert (found.ids, found.groups) == (["é", "b"], ["Zoë", None])
        return
    with pytest.raises(DatasetError, match=r"p\.csv: not UTF-8 .*: save it as UTF-8") as error:
        prediction_files.read(tmp_path / "p.csv")
    one_line(error)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("a,,,joy,joy,nan,0.5", "line 3: joy is no finite number: 'nan'"),
        ("a,,,joy,joy,0.5,inf", "line 3: fear is no finite number: 'inf'"),
        ("a,,,joy,joy,0.5,1e999", "line 3: fear is no finite number: '1e999'"),
        ("a,,,joy,joy,0.5,many", "line 3: fear is no finite number: 'many'"),
        ("a,,,joy,joy,0.5", "line 3: fear is no finite number: ''"),
        ("b,,,joy,joy,0.5,0.5", "line 3: b stands twice"),
        ("a,,,rage,joy,0.5,0.5", "line 3: label 'rage' is no scored class"),
        (f"{'a' * 200_000},,,joy,joy,0.5,0.5", "not a csv file"),
    ],
)
def test_predictions_that_are_none(line: str, why: str, tmp_path: Path) -> None:
    """Protects comparisons and boards from what is no probability: refused in one line, with line and column."""
    predictions_file(tmp_path / "p.csv", "b,,,fear,joy,0.5,0.5", line)
    with pytest.raises(DatasetError, match=re.escape(why)) as error:
        prediction_files.read(tmp_path / "p.csv")
    one_line(error)


def test_moments_that_are_none(tmp_path: Path) -> None:
    """Protects the concordance from one odd number, which would make it nan or anything."""
    header = "id,fold,group,label,predicted,time,valence,arousal,true_valence,true_arousal"
    predictions_file(tmp_path / "p.csv", "a,,,,,0.5,0.1,0.2,0.3,0.4", "a,,,,,1,0.1,-inf,0.3,0.4", header=header)
    with pytest.raises(DatasetError, match="line 3: arousal is no finite number: '-inf'"):
        prediction_files.read(tmp_path / "p.csv")


def test_pages_and_cards_hold_text(made: Path) -> None:
    """Protects readers of reports: a name with tags of HTML, a line break or a pipe stays a name."""
    bad = "<script>alert(1)</script>\nlicense: mit | x"
    finding = Finding("missing", bad, bad, bad)
    page = Report(bad, 1, "0" * 64, [finding], [finding], (bad,)).to_html()
    assert "<script>alert" not in page
    config = {**load(made).config, "trained_on": bad, "licence": bad, "recipe": bad, "limits": [bad], "classes": [bad]}
    text = card(config)
    assert "<script>" not in text
    assert [line for line in text.splitlines() if line.startswith("license:")] == ["license: other"]
    table = markdown_table([bad], [[bad]])
    assert "<script>" not in table
    assert table.count("\n") == 2


def test_speech_models_name_no_code() -> None:
    """A config may describe a speech model; what would make transformers fetch or run code is left out of it."""
    from emozoo.models.backbones import speech_architecture

    code = {"auto_map": {"AutoModel": "x--y.Z"}, "_attn_implementation": "org/kernel", "attn_implementation": "org/k"}
    assert speech_architecture({"model_type": "wav2vec2", "hidden_size": 8, **code}) == {
        "model_type": "wav2vec2", "hidden_size": 8,
    }  # fmt: skip


def test_no_test_reaches_another_machine() -> None:
    """Protects the suite from networks: by name, by number and by another way of connecting; this machine is there."""
    for host in ("example.org", "192.0.2.1"):
        with pytest.raises(OSError, match="tests use no network"):
            socket.create_connection((host, 80), timeout=1)
    with socket.socket() as other, pytest.raises(OSError, match="tests use no network"):
        other.connect_ex(("192.0.2.1", 80))
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows gives every account a home folder")
def test_a_cache_in_a_folder_of_all_belongs_to_this_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects an account without a home folder: nobody else can have put weights where its cache is."""

    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("EMOZOO_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cache = files.cache_folder()
    assert files.cache_folder() == cache
    assert cache.stat().st_mode & 0o777 == 0o700
    cache.chmod(0o777)
    with pytest.raises(EmozooError, match="not a folder of this account alone") as open_to_all:
        files.cache_folder()
    one_line(open_to_all)
    cache.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    cache.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EmozooError, match="Set EMOZOO_HOME"):
        files.cache_folder()
    cache.unlink()
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    (tmp_path / "emozoo-54321").mkdir(mode=0o700)
    with pytest.raises(EmozooError, match="weights in it could be anybody's"):
        files.cache_folder()
