"""Names, weights and what is refused: nothing unverified is ever loaded, and every refusal says what to do."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hub_server import TOKEN, Hub, Repository
from lightning.pytorch.callbacks import EMAWeightAveraging
from safetensors.torch import load_file

import emozoo
from emozoo import files, hub, registry
from emozoo.callbacks import SaveWeights
from emozoo.card import card
from emozoo.data.datamodule import EmotionDataModule
from emozoo.errors import UnknownModelError, UsageError, WeightsError
from emozoo.module import EmotionModule
from emozoo.zoo import load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small weights folder as training writes it."""
    module = EmotionModule("ceflnet", size="lite", options={"backbone": "vgg_tiny"})
    config = {
        "schema": 1, "arch": "ceflnet", "tag": "", "wiring": "stable", "size": "lite", "classes": list(module.classes),
        "tasks": ["emotion"], "options": {"backbone": "vgg_tiny"}, "spec": module.spec.to_dict(), "tau": 1.0,
        "log_prior": [-1.9] * 7, "trained_on": "nothing", "licence": "Apache-2.0", "limits": [], "recipe": "",
        "n_train": 0, "epochs": 0, "seed": 0, "precision": "32", "train_seconds": 0.0,
    }  # fmt: skip
    hub.save(tmp_path / "w", module.net.state_dict(), config, card(config), half=False)
    return tmp_path / "w"


def test_every_shipped_checkpoint_loads_and_answers() -> None:
    """The commonest complaint of this field is weights that do not load: each one here does, with its card."""
    assert registry.weights()
    for name, entry in registry.weights().items():
        module = load(name)
        assert module.name == name
        assert not module.training
        assert len(entry.sha256) == 64
        state = module.net.state_dict()
        assert all(torch.isfinite(v).all() for v in state.values() if v.is_floating_point()), name
        text = (hub.locate(entry) / hub.CARD).read_text(encoding="utf-8")
        first = text.split("---", 2)[2].strip().splitlines()[0]
        assert first.startswith("Trained on"), name
        assert "AI Act" in text, name
        if entry.tag.startswith("synth"):
            assert "synthetic" in first, name


def test_a_saved_folder_gives_the_same_answers(folder: Path) -> None:
    """Saving and loading changes no output bit, and the spec travels with the weights."""
    module = load(folder)
    again = load(folder / "model.safetensors")
    x = {"face": torch.rand(2, 3, 3, 3, 48, 48)}
    with torch.inference_mode():
        assert torch.equal(module(x).logits, again(x).logits)
    assert module.spec == again.spec
    assert module.config["sha256"] == again.sha256


def test_numbers_too_large_for_half_the_size_are_kept(tmp_path: Path) -> None:
    """Protects statistics of wide activations: a variance of 140,000 is no float16, and would come back infinite."""
    state = {"variance": torch.tensor([140_000.0, 1.0]), "weight": torch.tensor([0.5, 65_504.0])}
    hub.save(tmp_path, state, {"schema": 1}, "", half=True)
    back = hub.read_state(tmp_path)
    assert back["variance"].tolist() == [140_000.0, 1.0]
    assert back["weight"].tolist() == [0.5, 65_504.0]


def test_diverged_weights_are_not_written(tmp_path: Path) -> None:
    """Protects the weights of an earlier training from those of one that diverged: they stay, and it is said."""
    module = EmotionModule("emotion_fan", size="lite")
    module.save(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with torch.no_grad():
        next(module.net.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(WeightsError, match="NaN or infinite: the training that made it diverged"):
        module.save(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_wrong_hash_is_refused(folder: Path) -> None:
    """One changed byte is enough."""
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(data))
    with pytest.raises(WeightsError, match="sha256"):
        load(folder)


def test_pickles_are_never_opened(folder: Path, tmp_path: Path) -> None:
    """A pickled checkpoint can run code, whatever its suffix says."""
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="pickled"):
        load(tmp_path / "x.pt")
    shutil.copy(tmp_path / "x.pt", folder / "model.safetensors")
    with pytest.raises(WeightsError, match="pickled"):
        load(folder)


def test_unknown_names_are_met_with_the_nearest() -> None:
    """Models, tags, wirings and sizes."""
    with pytest.raises(UnknownModelError, match="did you mean 'ceflnet'"):
        load("cefnet")
    with pytest.raises(UnknownModelError, match="only the abstract"):
        load("ceflnet", wiring="paper", weights=None)
    with pytest.raises(UnknownModelError, match="did you mean 'lite'"):
        load("ceflnet", size="light", weights=None)
    with pytest.raises(UnknownModelError, match="no weights"):
        load("ceflnet.faces77_v9")


def test_a_request_that_contradicts_the_weights_is_refused() -> None:
    """Weights were trained with one wiring and one size."""
    with pytest.raises(UsageError, match="wiring"):
        load("ceflnet", wiring="official")


def test_aliases_resolve_to_the_newest_version() -> None:
    """A bare name and a tag without a version are aliases; results carry the full name."""
    for name in ("ceflnet", "ceflnet.faces7"):
        entry = registry.resolve(name)[1]
        assert entry is not None
        assert entry.name.startswith("ceflnet.faces7_v")


def test_new_classes_keep_everything_but_the_head() -> None:
    """``load(classes=...)`` says that the head is new, and takes the rest of the weights as they are."""
    old = load("ceflnet")
    with pytest.warns(UserWarning, match="new head"):
        new = load("ceflnet", classes=("calm", "angry"))
    assert new.classes == ("calm", "angry")
    head = new.head_keys()
    for key, value in new.net.state_dict().items():
        if key not in head:
            assert torch.equal(value, old.net.state_dict()[key]), key
    assert {k.partition(".")[0] for k in head} == {"classifier"}


def test_classes_that_the_weights_know_keep_the_head(recwarn: pytest.WarningsRecorder) -> None:
    """Protects what was learned: ``Happy`` is the weights' ``happiness``, in any order, and not an untrained class."""
    old, new = load("ceflnet"), load("ceflnet", classes=["Sad", "Happy", "anger"])
    assert not recwarn.list
    assert new.classes == ("Sad", "Happy", "anger")
    assert "new head" not in new.name
    rows = [old.classes.index(c) for c in ("sadness", "happiness", "anger")]
    shape = old.spec.streams["face"]
    x = {"face": torch.randn(2, old.spec.clips, shape.frames, 3, *shape.size)}
    with torch.no_grad():
        logits = old(x).logits
        torch.testing.assert_close(new(x).logits, logits[:, rows])
    for prior in ("train", "uniform"):
        scores = old.scores(logits, prior)[:, rows]
        torch.testing.assert_close(new.scores(logits[:, rows], prior), scores / scores.sum(1, keepdim=True))
    with pytest.warns(UserWarning, match="new head"):  # two names of one class: nobody knows which is meant
        load("ceflnet", classes=["happy", "joy"])


def test_priors_differ_by_the_training_prior() -> None:
    """``train`` over ``uniform`` is the class prior, whatever the logits are."""
    module = load("ceflnet")
    logits = torch.randn(4, 7)
    ratio = (module.scores(logits, "train") / module.scores(logits, "uniform")).log()
    expected = module.log_prior
    assert torch.allclose(ratio - ratio[:, :1], (expected - expected[0]).expand(4, 7), atol=1e-4)


def test_packaged_weights_need_no_network_and_no_cache(tmp_path: Path) -> None:
    """In a fresh process whose sockets are closed and whose home is empty, the default model loads."""
    code = (
        "import socket, sys\n"
        "def no(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = no; socket.create_connection = no\n"
        "import emozoo; print(emozoo.load('ceflnet').name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path), "PATH": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith("ceflnet.faces7_v")
    assert not list(tmp_path.rglob("*emozoo*"))


def test_all_embedded_weights_fit_into_64_megabytes() -> None:
    """A wheel stays small."""
    assert sum(f.stat().st_size for f in files.packaged("checkpoints").rglob(f"*{hub.WEIGHTS}")) <= 64e6


def test_config_is_plain_json(folder: Path) -> None:
    """Nothing in a weights folder needs this package to be read."""
    config = json.loads((folder / "config.json").read_text())
    assert emozoo.ClipSpec.from_dict(config["spec"]) == load(folder).spec


def test_a_class_head_starts_from_one_that_knows_more_classes(folder: Path) -> None:
    """What was learned about a rare emotion is not thrown away because the new data lack another: rows go by name."""
    known = load(folder)
    ours = ["surprise", "anger", "neutral"]  # in another order, too
    start = {"init_from": {str(folder): {"classifier": "classifier"}}}
    options = {"backbone": "vgg_tiny"}
    module = EmotionModule("ceflnet", size="lite", classes=ours, options=options, **start)  # type: ignore[arg-type]
    rows = [known.classes.index(c) for c in ours]
    own, theirs = module.net.state_dict(), known.net.state_dict()
    for part in ("weight", "bias"):
        assert torch.equal(own[f"classifier.5.{part}"], theirs[f"classifier.5.{part}"][rows])
        assert torch.equal(own[f"classifier.0.{part}"], theirs[f"classifier.0.{part}"])
    spelled = EmotionModule("ceflnet", size="lite", classes=["Surprised", "Angry", "Neutral"], options=options, **start)  # type: ignore[arg-type]
    assert torch.equal(spelled.net.state_dict()["classifier.5.weight"], own["classifier.5.weight"])
    with pytest.raises(WeightsError, match="does not fit"):
        EmotionModule("ceflnet", size="lite", classes=["calm", "anger"], options=options, **start)  # type: ignore[arg-type]


# -- the hub, through huggingface_hub's own client, at an endpoint on this machine -----------------------------------

Zoo = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def endpoint() -> Iterator[Hub]:
    with Hub() as server:
        yield server


@pytest.fixture
def zoo(endpoint: Hub, tmp_path: Path) -> Zoo:
    """``zoo(*arguments, **environment)``: a command in its own process, at the endpoint, with empty caches at first."""

    def run(*arguments: object, code: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        command = ["-c", code] if code else ["-m", "emozoo"]
        return subprocess.run(
            [sys.executable, *command, *map(str, arguments)],
            capture_output=True,
            text=True,
            env=environment(endpoint, tmp_path) | more,
            cwd=tmp_path,  # or the checkout would come first on the path
        )

    return run


def environment(endpoint: Hub, tmp_path: Path) -> dict[str, str]:
    """Nothing of the developer's own hub settings or login; the endpoint speaks no Xet."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "EMOZOO_", "TRANSFORMERS_"))}
    places = {"HF_HOME": str(tmp_path / "hf"), "EMOZOO_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    return mine | places | {"HF_ENDPOINT": endpoint.url, "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}


def publish(endpoint: Hub, files: dict[str, bytes] | Path, name: str = "acme/mine", private: bool = False) -> str:
    """Puts files on the server without the client; returns the pinned address."""
    if isinstance(files, Path):
        there = {f.name: f for f in files.iterdir()} | hub.shared_files(files)
        files = {name: path.read_bytes() for name, path in there.items()}
    repo = endpoint.repositories.setdefault(name, Repository(private))
    return f"hf://{name}@{repo.commit(files)}"


def large(size: int) -> dict[str, bytes]:
    """Files of a repository whose weights are that many bytes of noise: fetched and hashed, never opened."""
    data = torch.randint(256, (size,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy().tobytes()
    config = json.dumps({"sha256": files.sha256_of(data)}).encode()
    return {hub.WEIGHTS: data, hub.CONFIG: config, hub.CARD: b"---\nlicense: mit\n---\n"}


def test_a_pinned_revision_is_fetched_once_and_then_needs_no_network(
    endpoint: Hub, zoo: Zoo, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cached means cached: not one request afterwards, online or offline, and the same answers as the folder's."""
    address = publish(endpoint, folder)
    first = zoo("download", address)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith(f"{address}: {tmp_path / 'home'}")
    endpoint.requests.clear()
    assert zoo("download", address, "--json").returncode == 0
    again = zoo("download", address, HF_HUB_OFFLINE="1")
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert endpoint.requests == []

    def no(*_: object) -> None:
        raise AssertionError("network")

    monkeypatch.setattr(socket.socket, "connect", no)
    monkeypatch.setenv("EMOZOO_HOME", str(tmp_path / "home"))
    there, here = load(address), load(folder)
    assert there.name == address
    assert there.sha256 == here.sha256
    x = {"face": torch.rand(1, 3, 3, 3, 48, 48)}
    with torch.inference_mode():
        assert torch.equal(there(x).logits, here(x).logits)


def test_a_branch_is_answered_with_its_commit_and_from_the_cache_when_the_endpoint_is_down(
    endpoint: Hub, zoo: Zoo, folder: Path
) -> None:
    """Every result says which revision it used; a dead endpoint costs a line, not the answer."""
    first = publish(endpoint, folder)
    assert zoo("download", "hf://acme/mine").stdout.startswith(f"{first}: ")
    second = publish(endpoint, {hub.CARD: b"---\nlicense: mit\n---\nMore.\n"})
    assert first != second
    assert zoo("download", "hf://acme/mine@main").stdout.startswith(f"{second}: ")
    assert zoo("download", first).stdout.startswith(f"{first}: ")

    nowhere = "http://127.0.0.1:9"
    down = zoo("download", "hf://acme/mine", HF_ENDPOINT=nowhere)
    assert (down.returncode, down.stdout.startswith(f"{second}: ")) == (0, True)
    assert down.stderr.splitlines() == [
        f"hf://acme/mine@main: {nowhere} does not answer (ConnectError); try again when it does; "
        f"using {second[-40:]} from the cache"
    ]
    endpoint.status = 503
    broken = zoo("download", "hf://acme/mine", "hf://acme/other")
    assert (broken.returncode, broken.stdout.startswith(f"{second}: ")) == (1, True)
    assert "answered 503" in broken.stderr
    assert "error: hf://acme/other@main: " in broken.stderr
    assert "Traceback" not in broken.stderr
    endpoint.requests.clear()
    offline = zoo("download", "hf://acme/mine", HF_HUB_OFFLINE="1")
    assert (offline.stdout.startswith(f"{second}: "), offline.stderr) == (True, "")
    missing = zoo("download", "hf://acme/other", HF_HUB_OFFLINE="1")
    assert missing.returncode == 3
    assert "HF_HUB_OFFLINE is set" in missing.stderr
    assert endpoint.requests == []


def test_an_interrupted_download_goes_on_where_it_stopped(endpoint: Hub, zoo: Zoo) -> None:
    """A connection that breaks in a large file costs what was missing, and the hash is right in the end."""
    address = publish(endpoint, large(12_000_000))
    endpoint.cut = 11_000_000
    done = zoo("download", address)
    assert done.returncode == 0, done.stderr
    assert endpoint.ranges == [None, "bytes=10485760-"]  # the client writes in pieces of 10 MiB


def test_a_killed_download_leaves_no_half_file(endpoint: Hub, zoo: Zoo, tmp_path: Path) -> None:
    """What was complete is kept, what was not is fetched again, and nothing half is ever taken for whole."""
    address = publish(endpoint, large(200_000))
    endpoint.stall = 100_000
    process = subprocess.Popen(
        [sys.executable, "-m", "emozoo", "download", address],
        env=environment(endpoint, tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert endpoint.stalled.wait(60)
    process.kill()
    process.wait()
    endpoint.release.set()
    endpoint.requests.clear()
    done = zoo("download", address)
    assert done.returncode == 0, done.stderr
    assert not [r for r in endpoint.requests if r.startswith("GET") and r.endswith((hub.CONFIG, hub.CARD))]
    assert [r.split()[0] for r in endpoint.requests if "/store/" in r] == ["GET"]


def test_an_update_that_cannot_be_had_leaves_what_was_there(endpoint: Hub, zoo: Zoo, folder: Path) -> None:
    """The cache answers for a branch with the last commit that came whole, offline, with a dead or a busy endpoint."""
    first = publish(endpoint, folder)
    assert zoo("download", "hf://acme/mine").returncode == 0
    publish(endpoint, {hub.WEIGHTS: b"not what the config says"})
    refused = zoo("download", "hf://acme/mine")
    assert (refused.returncode, "sha256 is" in refused.stderr) == (3, True)
    endpoint.status = 429
    for settings in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://joe:s3cret@127.0.0.1:9"}, {}):
        done = zoo("download", "hf://acme/mine", **settings)
        assert done.stdout.startswith(f"{first}: "), done.stderr
        assert "s3cret" not in done.stderr


def test_a_damaged_file_stays_until_there_is_another(endpoint: Hub, zoo: Zoo, folder: Path) -> None:
    """Nothing is deleted while nobody can give a new one."""
    address = publish(endpoint, folder)
    cached = Path(zoo("download", address).stdout.strip().partition(f"{address}: ")[2]) / hub.WEIGHTS
    cached.write_bytes(b"damaged on the disk")
    assert zoo("download", address, HF_HUB_OFFLINE="1").returncode == 3
    assert cached.read_bytes() == b"damaged on the disk"


def test_what_is_not_of_this_zoo_is_not_fetched(endpoint: Hub, zoo: Zoo) -> None:
    """Another library's repository costs a look at its config; one bad address does not keep the next from coming."""
    files = {hub.CONFIG: b'{"model_type": "bert"}', hub.WEIGHTS: b"x" * 1000, hub.CARD: b"---\nlicense: mit\n---\n"}
    address = publish(endpoint, files, "acme/bert")
    done = zoo("download", address, address)
    assert done.stderr.count("not one of this zoo") == 2
    assert not [r for r in endpoint.requests if hub.WEIGHTS in r]


def test_a_file_that_does_not_end_is_not_fetched(endpoint: Hub, zoo: Zoo, tmp_path: Path) -> None:
    """Protects disks from an endpoint that announces a small config and sends on and on."""
    address = publish(endpoint, large(1000))
    endpoint.endless = 200 << 20
    done = zoo("download", address)
    assert done.returncode == 3
    assert "the endpoint sends more than it announced" in done.stderr
    assert "Traceback" not in done.stderr
    assert sum(path.stat().st_size for path in (tmp_path / "home").rglob("*") if path.is_file()) < 30 << 20


@pytest.mark.parametrize("answer", [[], {}, {"sha": 1, "siblings": 3}, "x"])
def test_what_answers_otherwise_than_a_hub_is_named(endpoint: Hub, zoo: Zoo, answer: object) -> None:
    """Protects people behind a proxy that answers everything: a line, whatever its JSON holds."""
    address = publish(endpoint, large(1000))
    endpoint.answer = answer
    done = zoo("download", address)
    assert done.returncode == 3
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr


def test_private_is_never_published_in_public(endpoint: Hub, zoo: Zoo, folder: Path) -> None:
    """A repository that exists and is public takes nothing that was meant to be private."""
    publish(endpoint, {"hello.txt": b"hello"}, "acme/open")
    code = PUSH.replace("sys.argv[1])", "sys.argv[1], private=True)")
    done = zoo("acme/open", folder, code=code, HF_TOKEN=TOKEN)
    assert "already and public" in done.stdout
    assert len(endpoint.repositories["acme/open"].commits) == 1


def test_a_folder_never_takes_the_place_of_released_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`load("ceflnet")` gives the same weights in every directory, and no other weights carry a released name."""
    released = load("ceflnet")
    arch, tag = released.name.split(".")
    copy = shutil.copytree(folder, tmp_path / "ceflnet")
    config = json.loads((copy / hub.CONFIG).read_text()) | {"arch": arch, "tag": tag}
    (copy / hub.CONFIG).write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    assert load("ceflnet").sha256 == released.sha256
    assert load("./ceflnet").sha256 == config["sha256"] != released.sha256
    assert load("./ceflnet").name == "ceflnet"
    for wrong in ({"weights": None}, {"wiring": "official"}, {"size": "full"}, {"options": {"backbone": "resnet18"}}):
        with pytest.raises(UsageError):
            load("./ceflnet", **wrong)
    with pytest.raises(UsageError, match="not of dfan"):
        load("dfan", weights="./ceflnet")
    with pytest.raises(UsageError, match="options"):
        load("ceflnet", options={"backbone": "resnet18"})


def test_files_with_a_wrong_hash_are_refused_and_not_kept(endpoint: Hub, zoo: Zoo, folder: Path) -> None:
    """Neither a spoilt download nor a spoilt cache is used, and both heal once the right file can be had."""
    address = publish(endpoint, folder)
    endpoint.spoil = True
    spoilt = zoo("download", address)
    assert (spoilt.returncode, spoilt.stdout) == (3, "")
    assert "sha256 is" in spoilt.stderr
    assert "removed from the cache" in spoilt.stderr
    endpoint.spoil = False
    good = zoo("download", address)
    assert good.returncode == 0, good.stderr

    cached = Path(good.stdout.strip().partition(f"{address}: ")[2]) / hub.WEIGHTS
    cached.write_bytes(b"damaged on the disk")
    healed = zoo("download", address)
    assert healed.returncode == 0, healed.stderr
    assert "fetching it again" in healed.stderr
    assert cached.read_bytes() == (folder / hub.WEIGHTS).read_bytes()


def test_the_token_opens_a_private_repository_and_is_never_printed(endpoint: Hub, zoo: Zoo, folder: Path) -> None:
    """It goes to the hub alone, not to the store that the hub redirects to, and into no message, --debug included."""
    address = publish(endpoint, folder, private=True)
    without = zoo("download", address)
    wrong = zoo("download", address, "--debug", HF_TOKEN="hf_wrong")
    for refused in (without, wrong):
        assert refused.returncode != 0
        assert "set HF_TOKEN" in refused.stderr
    assert len(without.stderr.splitlines()) == 1
    assert "hf_wrong" not in wrong.stdout + wrong.stderr
    right = zoo("download", address, "hf://acme/none", "--debug", HF_TOKEN=TOKEN)
    assert right.stdout.startswith(f"{address}: ")
    assert "no such repository" in right.stderr
    assert TOKEN not in right.stdout + right.stderr
    assert endpoint.tokens_off_hub == []


PUSH = """
import sys
from pathlib import Path
from emozoo import hub
from emozoo.errors import EmozooError
for folder in sys.argv[2:]:
    try:
        print(hub.push(Path(folder), sys.argv[1]))
    except EmozooError as error:
        print(type(error).__name__, error)
"""


def test_a_folder_is_published_whole_or_not_at_all(endpoint: Hub, zoo: Zoo, folder: Path, tmp_path: Path) -> None:
    """Three files and no other; twice makes no second commit; what is broken, or would replace a tag, is refused."""

    def variant(name: str, **config: object) -> Path:
        shutil.copytree(folder, tmp_path / name)
        changed = json.loads((folder / hub.CONFIG).read_text()) | config
        (tmp_path / name / hub.CONFIG).write_text(json.dumps(changed))
        return tmp_path / name

    tagged = variant("tagged", tag="mine_v1", revision="0" * 40)
    (tagged / "last.ckpt").write_bytes(b"pickle")
    (tagged / "notes.txt").write_text("private")
    data = bytearray((folder / hub.WEIGHTS).read_bytes())
    data[-1] ^= 1
    other = variant("other", tag="mine_v1", sha256=files.sha256_of(bytes(data)))
    (other / hub.WEIGHTS).write_bytes(data)
    damaged = variant("damaged", sha256="0" * 64)
    bare = variant("bare")
    (bare / hub.CARD).write_text("No licence.\n")
    odd = variant("odd", tag="mine_v1")
    untagged, swapped = variant("untagged"), variant("swapped", tag="mine_v1", classes=["b", "a"])
    (odd / hub.CARD).write_text("---\nlicense: my-own\n---\n")

    anonymous = zoo("acme/new", tagged, code=PUSH)
    assert "set HF_TOKEN" in anonymous.stdout
    assert not [r for r in endpoint.requests if r.startswith("POST")]
    done = zoo("acme/new", tagged, tagged, other, untagged, swapped, damaged, bare, odd, code=PUSH, HF_TOKEN=TOKEN)
    first, second, *immutable, wrong, card_missing, card_refused = done.stdout.splitlines()
    repo = endpoint.repositories["acme/new"]
    assert first == second == f"hf://acme/new@{repo.branches['main']}"
    published = repo.commits[first[-40:]]
    assert set(published) == {".gitattributes", hub.WEIGHTS, hub.CONFIG, hub.CARD}
    assert published[hub.WEIGHTS] == (folder / hub.WEIGHTS).read_bytes()
    assert json.loads(published[hub.CONFIG])["revision"] is None
    assert len(immutable) == 3  # other weights, a name without a tag, other labels
    assert all(line.startswith("UsageError") and "immutable" in line for line in immutable)
    assert "sha256" in wrong
    assert "licence" in card_missing
    assert "license must be one of the known ones" in card_refused
    assert len(repo.commits) == 2  # the server's own first one, and ours
    assert "license must be" in zoo("acme/never", odd, code=PUSH, HF_TOKEN=TOKEN).stdout
    assert set(endpoint.repositories) == {"acme/new"}  # no empty one is left behind
    assert TOKEN not in done.stdout + done.stderr


def make_sharers(zoo: Path, data: Path) -> tuple[Path, Path]:
    """Tagged weights below ``zoo``, and others that training wrote without the encoder that they took from them."""
    options = {"backbone": "vgg_tiny"}

    def fit(arch: str, save: SaveWeights, **more: Any) -> None:
        module = EmotionModule(arch, size="lite", classes=["angry", "calm"], options=options, **more)
        dm = EmotionDataModule("folder", data, spec=module.spec, classes=module.classes, batch_size=4)
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
        trainer = L.Trainer(max_steps=2, limit_val_batches=0, callbacks=[EMAWeightAveraging(decay=0.3), save], **quiet)  # type: ignore[arg-type]
        trainer.fit(module, dm)

    owner = zoo / "emotion_fan.mine_v1"
    fit("emotion_fan", SaveWeights(str(zoo), "mine_v1"))
    start: dict[str, Any] = {"init_from": str(owner), "lr": 0.01}
    fit("ceflnet", SaveWeights(str(zoo), "mine_v1", shared_parts=["backbone"]), lr_scale={"backbone": 0}, **start)
    fit("ceflnet", SaveWeights(str(zoo / "moved"), shared_parts=["backbone"]), **start)
    assert [k for k in load_file(zoo / "moved" / hub.WEIGHTS) if k.startswith("backbone.")]
    return owner, zoo / "ceflnet.mine_v1"


def test_weights_that_share_an_encoder_are_whole_wherever_they_go(
    endpoint: Hub, zoo: Zoo, tmp_path: Path, make_images: Callable[[int], Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Beside their owner, alone with a copy of its file, pushed and fetched again, they answer alike; never without."""
    owner, sharer = make_sharers(tmp_path / "zoo", make_images(8))
    assert "moved: backbone not that of tagged weights any more" in caplog.text
    state = hub.read_state(sharer)
    assert not [k for k in load_file(sharer / hub.WEIGHTS) if k.startswith("backbone.")]
    x = torch.rand(1, 2, 2, 3, 48, 48)
    expected = load(sharer)({"face": x}).logits
    theirs = load(owner).net.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in theirs.items() if k.startswith("backbone."))

    shutil.copytree(sharer, tmp_path / "away" / "mine")
    with pytest.raises(WeightsError, match=r"shares 'backbone' with emotion_fan\.mine_v1, which is not there"):
        load(tmp_path / "away" / "mine")
    pushed = zoo("acme/new", sharer, code=PUSH, HF_TOKEN=TOKEN).stdout.strip()
    repo = endpoint.repositories["acme/new"]
    assert repo.commits[pushed[-40:]]["emotion_fan.mine_v1.safetensors"] == (owner / hub.WEIGHTS).read_bytes()
    fetched = Path(zoo("download", pushed).stdout.strip().partition(f"{pushed}: ")[2])
    assert torch.equal(load(fetched)({"face": x}).logits, expected)
    endpoint.requests.clear()
    assert zoo("download", pushed).returncode == 0
    assert endpoint.requests == []

    # Other bytes under the name of the shared file are refused.
    foreign = tmp_path / "away" / "mine" / "emotion_fan.mine_v1.safetensors"
    foreign.write_bytes((sharer / hub.WEIGHTS).read_bytes())
    with pytest.raises(WeightsError, match="sha256"):
        load(tmp_path / "away" / "mine")
    refused = zoo("acme/other", tmp_path / "away" / "mine", code=PUSH, HF_TOKEN=TOKEN).stdout
    assert "has another sha256" in refused
    # A damaged copy in the cache is fetched again.
    cached = fetched / foreign.name
    cached.resolve().write_bytes(b"damaged")
    assert zoo("download", pushed).returncode == 0
    assert cached.read_bytes() == (owner / hub.WEIGHTS).read_bytes()
    # So is a config that can no longer be read, or that says nothing sensible about what is shared.
    for damage in (b"{", b'{"sha256": "0", "parts": ["backbone"]}'):
        (fetched / hub.CONFIG).resolve().write_bytes(damage)
        again = zoo("download", pushed)
        assert again.returncode == 0, again.stderr
        assert json.loads((fetched / hub.CONFIG).read_text())["parts"]


MIXIN = """
import sys
from pathlib import Path
import emozoo
model = emozoo.EmotionModule.from_pretrained(Path(sys.argv[1]))
address = model.push_to_hub("acme/mixed", private=True, token=sys.argv[2])
print(address)
commit = address[-40:]
again = emozoo.EmotionModule.from_pretrained("acme/mixed", token=sys.argv[2])
pinned = emozoo.EmotionModule.from_pretrained("acme/mixed", revision=commit, local_files_only=True)
elsewhere = emozoo.EmotionModule.from_pretrained("acme/mixed", revision=commit, token=sys.argv[2], cache_dir="other")
print(again.name, pinned.name == elsewhere.name == again.name, again.sha256 == emozoo.load(address).sha256)
print(Path("other").is_dir())
try:
    emozoo.EmotionModule.from_pretrained("acme/none", local_files_only=True)
except OSError as error:
    print(error)
"""


def test_the_hub_classes_own_calls_publish_and_fetch(endpoint: Hub, zoo: Zoo, folder: Path, tmp_path: Path) -> None:
    """``push_to_hub`` and ``from_pretrained``: three files in one commit, the token as an argument, hash and cache."""
    done = zoo(folder, TOKEN, code=MIXIN)
    assert done.returncode == 0, done.stderr
    repo = endpoint.repositories["acme/mixed"]
    address = f"hf://acme/mixed@{repo.branches['main']}"
    first, second, other, missing = done.stdout.splitlines()
    assert first == address
    assert second == f"{address} True True"
    assert other == "True"
    assert "not in the cache" in missing
    assert repo.private
    assert set(repo.commits[address[-40:]]) == {".gitattributes", hub.WEIGHTS, hub.CONFIG, hub.CARD}
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.slow(15)  # loads every checkpoint in a new process
def test_the_whole_zoo_is_published_by_one_command(endpoint: Hub, zoo: Zoo) -> None:
    """What whoever owns the hub account runs on the first day."""
    done = zoo("push", "--all", "--org", "acme", "--private", HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    repos = endpoint.repositories
    assert set(done.stdout.split()) == {f"hf://{name}@{repo.branches['main']}" for name, repo in repos.items()}
    assert set(repos) == {f"acme/{name}" for name in registry.weights()}
    assert all(repo.private for repo in repos.values())
    for name, entry in registry.weights().items():
        assert files.sha256_of(repos[f"acme/{name}"].tree("main")[1][hub.WEIGHTS]) == entry.sha256  # type: ignore[index]
    assert TOKEN not in done.stdout + done.stderr


def test_once_published_the_whole_zoo_comes_from_the_hub(endpoint: Hub, zoo: Zoo, tmp_path: Path) -> None:
    """With the account in the registry and commits in the configs, a package without weights fetches and verifies."""
    published = {n: publish(endpoint, hub.locate(e), f"acme/{n}") for n, e in registry.weights().items()}

    # A copy of the package as it is then: the registry knows the account, the wheel carries configs without weights.
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "emozoo", copy / "emozoo")
    source = (copy / "emozoo" / "registry.py").read_text(encoding="utf-8")
    assert "HUB_REPO: str | None = None" in source  # no repository exists, and nothing says otherwise
    (copy / "emozoo" / "registry.py").write_text(
        source.replace("HUB_REPO: str | None = None", 'HUB_REPO: str | None = "acme/{name}"'), encoding="utf-8"
    )
    for name, entry in registry.weights().items():
        (copy / "checkpoints" / name).mkdir(parents=True)
        config = dict(entry.config) | {"revision": published[name][-40:]}
        (copy / "checkpoints" / name / hub.CONFIG).write_text(json.dumps(config))
    fetched = zoo("download", "--all", "--json", PYTHONPATH=str(copy))
    assert fetched.returncode == 0, fetched.stderr
    folders = {w["name"]: Path(w["folder"]) for w in json.loads(fetched.stdout)["weights"]}
    for name, entry in registry.weights().items():
        assert (tmp_path / "home") in folders[name].parents
        assert files.sha256_of((folders[name] / hub.WEIGHTS).read_bytes()) == entry.sha256
    endpoint.requests.clear()
    assert zoo("download", "--all", PYTHONPATH=str(copy)).returncode == 0
    assert endpoint.requests == []
    # Small weights that stayed in the wheel find the encoder that they share among what was fetched. Encoders that are
    # no weights of a model stay in the wheel.
    for encoder, shared in registry.encoders().items():
        shutil.copytree(hub.locate(shared), copy / "checkpoints" / encoder)
    name, entry = next((n, e) for n, e in registry.weights().items() if e.config.get("parts"))
    shutil.copy(hub.locate(entry) / hub.WEIGHTS, copy / "checkpoints" / name)
    loaded = zoo(code=f"import emozoo; print(emozoo.load('{name}').sha256)", PYTHONPATH=str(copy))
    assert loaded.stdout.strip() == entry.sha256, loaded.stderr


@pytest.mark.parametrize(
    "address", ["hf://mine", "hf://a/b/c", "hf://a/b@", "hf://a/b@../../x", "hf://../b", "hf://a/b--c"]
)
def test_what_is_no_hub_address_is_said_before_anything_is_asked(address: str) -> None:
    """A typing error is no network error, and no address leads out of the cache."""
    with pytest.raises(UsageError, match="no hub address"):
        load(address)
