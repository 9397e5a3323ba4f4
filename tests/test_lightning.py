"""What a user of Lightning and of the hub's own classes expects of a module: any file, any Trainer, any call."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

import emozoo
from emozoo import files, hub, registry
from emozoo.batch import Batch
from emozoo.data.datamodule import EmotionDataModule
from emozoo.errors import UnknownModelError, UsageError, WeightsError
from emozoo.module import EmotionModule
from emozoo.zoo import load

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = {"backbone": "vgg_tiny"}
X = {"face": torch.rand(2, 3, 3, 3, 48, 48, generator=torch.Generator().manual_seed(0))}
PRIOR = [-1.0, -3.0, -3.0, -2.0, -1.0, -4.0, -2.0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A weights folder of a small network, with a class prior and a temperature."""
    torch.manual_seed(0)
    module = EmotionModule("ceflnet", size="lite", options=OPTIONS)
    config = {
        "schema": 1, "arch": "ceflnet", "tag": "", "wiring": "stable", "size": "lite", "classes": list(module.classes),
        "tasks": ["emotion"], "options": OPTIONS, "spec": module.spec.to_dict(), "tau": 1.0, "log_prior": PRIOR,
        "temperature": 2.0, "trained_on": "drawings", "licence": "MIT", "limits": [], "recipe": "",
    }  # fmt: skip
    hub.save(tmp_path / "w", module.net.state_dict(), config, "card\n", half=False)
    return tmp_path / "w"


# -- the file that was named is the file that is read ----------------------------------------------------------------


def zeros(folder: Path, name: str) -> Path:
    """Another file in a weights folder: the same tensors, all zero."""
    state = load_file(folder / hub.WEIGHTS)
    save_file({k: torch.zeros_like(v) for k, v in state.items()}, folder / name)
    return folder / name


def sums(module: torch.nn.Module) -> float:
    return sum(float(p.detach().abs().sum()) for p in module.parameters())


@pytest.mark.parametrize("name", ["other.safetensors", "MODEL.SAFETENSORS", "epoch=3.safetensors", "weights"])
@pytest.mark.parametrize("way", ["load", "weights", "path"])
def test_a_named_file_is_the_file_that_is_read(folder: Path, name: str, way: str) -> None:
    """Protects from other weights than those that were asked for: the file's own tensors, name and hash."""
    file = zeros(folder, name)
    ask = {
        "load": lambda: load(str(file)),
        "weights": lambda: load("ceflnet", weights=file),
        "path": lambda: load(file),
    }
    with pytest.warns(UserWarning, match="class prior and temperature"):
        module = ask[way]()
    assert sums(module) == 0
    assert module.name == str(file)
    assert module.sha256 == files.sha256_of(file.read_bytes()) == module.config["sha256"]
    # Prior, temperature, origin and licence are those of other weights.
    assert float(module.temperature) == 1.0
    assert not module.log_prior.any()
    assert "drawings" not in json.dumps(dict(module.config))
    assert sums(load(folder)) > 0


def test_a_copy_of_the_weights_is_what_its_config_says(folder: Path, tmp_path: Path) -> None:
    """The same bytes under another name or behind a link keep prior and temperature, without a warning."""
    shutil.copy(folder / hub.WEIGHTS, folder / "copy.safetensors")
    (tmp_path / "link.safetensors").symlink_to(folder / "copy.safetensors")
    (tmp_path / "elsewhere").symlink_to(folder / hub.WEIGHTS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for file in (folder / "copy.safetensors", tmp_path / "link.safetensors", tmp_path / "elsewhere"):
            module = load(file)
            assert module.sha256 == load(folder).sha256
            assert module.name == str(file)
            assert float(module.temperature) == 2.0


def test_a_link_to_another_file_is_that_file(folder: Path) -> None:
    """A link named like another network's weights, and one in another folder, give what they point to."""
    file = zeros(folder, "other.safetensors")
    for link in (folder / "best.safetensors", folder.parent / "best.safetensors"):
        link.symlink_to(file)
        with pytest.warns(UserWarning, match="config.json"):
            assert sums(load(link)) == 0


def test_a_file_named_like_a_model_is_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ceflnet.safetensors`` in the working folder is no tag of ceflnet."""
    zeros(folder, "ceflnet.safetensors")
    monkeypatch.chdir(folder)
    with pytest.warns(UserWarning, match="config.json"):
        assert sums(load("ceflnet.safetensors")) == 0


def test_a_file_that_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    """Without a config beside it nobody knows the network; other tensors, damage and pickles are errors."""
    (tmp_path / "alone").mkdir()
    alone = shutil.copy(folder / hub.WEIGHTS, tmp_path / "alone" / "x.safetensors")
    with pytest.raises(WeightsError, match=r"x\.safetensors: no config\.json beside it"):
        load(alone)
    save_file({"a": torch.zeros(1)}, folder / "a.safetensors")
    with pytest.raises(WeightsError, match=r"a\.safetensors: does not fit ceflnet"):
        load(folder / "a.safetensors")
    (folder / "b.safetensors").write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        load(folder / "b.safetensors")
    torch.save({}, folder / "c.safetensors")
    with pytest.raises(WeightsError, match="pickled"):
        load(folder / "c.safetensors")
    with pytest.raises(WeightsError, match="no such weights file"):
        load(folder / "missing.safetensors")
    (folder / hub.WEIGHTS).write_bytes((folder / "a.safetensors").read_bytes())
    with pytest.raises(WeightsError, match="sha256"):  # the config's own file has to be the config's
        load(folder / hub.WEIGHTS)
    with pytest.raises(UsageError, match="names a repository"):
        load("hf://acme/mine/other.safetensors")
    with pytest.raises(UsageError, match="names a repository"):
        load("hf://acme/mine@main/other.safetensors")


def share_encoder(folder: Path) -> Path:
    """Weights beside ``folder`` that leave their encoder to tagged weights."""
    owner = shutil.copytree(folder, folder.parent / "ceflnet.mine_v1")
    config = json.loads((owner / hub.CONFIG).read_text()) | {"tag": "mine_v1"}
    (owner / hub.CONFIG).write_text(json.dumps(config))
    part = {"weights": "ceflnet.mine_v1", "part": "backbone", "sha256": config["sha256"]}
    own = {k: v for k, v in load_file(folder / hub.WEIGHTS).items() if not k.startswith("backbone.")}
    config = {k: v for k, v in config.items() if k != "sha256"} | {"tag": "", "parts": {"backbone": part}}
    hub.save(folder.parent / "sharer", own, config, "card\n", half=False)
    return folder.parent / "sharer"


def test_a_named_file_without_its_encoder_takes_the_shared_one(folder: Path) -> None:
    """Files that share an encoder are whole under other names too; a file with an encoder of its own keeps that."""
    sharer = share_encoder(folder)
    expected = load(folder)(X).logits
    assert torch.equal(load(sharer / hub.WEIGHTS)(X).logits, expected)
    file = zeros(sharer, "other.safetensors")
    with pytest.warns(UserWarning, match="config.json"):
        found = load(file).net.state_dict()
    assert all(bool(v.any()) == k.startswith("backbone.") for k, v in found.items() if "weight" in k)
    whole = {k: torch.zeros_like(v) for k, v in load_file(folder / hub.WEIGHTS).items()}
    save_file(whole, sharer / "whole.safetensors")
    with pytest.warns(UserWarning, match="config.json"):
        assert sums(load(sharer / "whole.safetensors")) == 0


def test_training_starts_from_the_named_file(folder: Path) -> None:
    """``init_from`` and ``teacher`` read the file that they name, shared parts included."""
    sharer = share_encoder(folder)
    for file, zero in ((sharer / hub.WEIGHTS, False), (zeros(folder, "other.safetensors"), True)):
        module = EmotionModule("ceflnet", size="lite", options=OPTIONS, init_from=str(file))
        assert (sums(module.net.get_submodule("backbone")) == 0) == zero
    (folder / hub.WEIGHTS).write_bytes((folder / "other.safetensors").read_bytes())
    with pytest.raises(WeightsError, match="sha256"):
        EmotionModule("ceflnet", size="lite", options=OPTIONS, init_from=str(folder / hub.WEIGHTS))


# -- names of weights wherever a path is taken -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["emotion_fan.ferplus_v3", "emotion_fan.ferplus", "emotion_fan"])
def test_training_starts_from_a_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of weights works in every folder, and SaveWeights still knows whose parts these are."""
    from emozoo.callbacks import _unchanged

    monkeypatch.chdir(tmp_path)
    owner = load(name)
    module = EmotionModule(
        "ceflnet", size="lite", options={"backbone": owner.hparams["options"]["backbone"]}, init_from=name,
        spec=owner.spec.to_dict(),
    )  # fmt: skip
    theirs = owner.net.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in module.net.state_dict().items() if k.startswith("backbone."))
    assert _unchanged(module.net, "backbone", module.init_sources(), half=True) == {
        "weights": "emotion_fan.ferplus_v3", "part": "backbone", "sha256": owner.sha256,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("emotion_fan.ferplsu_v3", UnknownModelError, "did you mean 'emotion_fan.ferplus_v3'"),
        ("caer_net_s", WeightsError, "no weights yet"),
        ("checkpoints/emotion_fan.ferplus_v3", WeightsError, "init_from: emotion_fan.ferplus_v3"),
        ("nowhere/x", WeightsError, "no such weights"),
    ],
)
def test_a_start_that_is_not_there_says_what_to_write(
    name: str, error: type[Exception], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt name, a model without weights and a path of another folder are said before anything is read."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=said):
        EmotionModule("ceflnet", size="lite", init_from=name)


def test_recipes_name_weights_and_no_folders_of_a_checkout() -> None:
    """Protects recipes in an installed wheel, where there is no folder ``checkpoints``."""
    for path in (ROOT / "benchmarks" / "recipes").rglob("*.yaml"):
        assert "checkpoints/" not in path.read_text(encoding="utf-8"), path.name


# -- one door ----------------------------------------------------------------------------------------------------------


def batch_of(arch: str, size: int = 2) -> Batch:
    """A batch of noise as a data module gives it, with labels for every task."""
    spec = EmotionModule(arch, size="lite").spec
    g = torch.Generator().manual_seed(0)
    inputs, masks = {}, {}
    for name, s in spec.streams.items():
        shape = (1, *s.size) if s.source == "audio" else (s.frames, 3, *s.size)
        inputs[name] = torch.randn(size, spec.clips, *shape, generator=g)
        masks[name] = torch.ones(size, spec.clips, shape[0], dtype=torch.bool)
    targets = {
        "emotion": torch.arange(size) % 2, "va": torch.rand(size, spec.clips, 2, generator=g) * 2 - 1,
        "va_mask": torch.ones(size, spec.clips, dtype=torch.bool),
    }  # fmt: skip
    return Batch(inputs, masks, targets, {"id": [str(i) for i in range(size)]})


@pytest.mark.parametrize("arch", ["ceflnet", "caer_cross_attention", "recursive_joint_attention"])
def test_a_batch_and_its_inputs_are_asked_by_one_call(arch: str) -> None:
    """``model(batch)``, ``model(inputs, masks)``, ``model(inputs)`` and ``predict_step`` give one answer."""
    module, batch = EmotionModule(arch, size="lite", classes=["a", "b"]).eval(), batch_of(arch)
    with torch.no_grad():
        want = module(batch)
        for found in (module(batch.inputs, batch.masks), module(batch.inputs), module.output(batch)):
            torch.testing.assert_close(found.logits, want.logits)
        torch.testing.assert_close(module.predict_step(batch)["logits"], want.logits)
    assert module.predict_step(None) is None, "a batch of which nothing could be read, as evaluation steps take it"


def test_a_batch_of_stills_or_features_is_asked_by_the_same_call() -> None:
    """``model(batch)`` takes the short way of stills, and features that were made before."""
    module = EmotionModule("emotion_fan", size="lite", classes=["a", "b"]).eval()
    batch = batch_of("emotion_fan")
    still = Batch({"face": batch.inputs["face"][:, :1, :1].expand_as(batch.inputs["face"])}, batch.masks)
    still.meta, still.one_image = {"id": ["0", "1"]}, True
    with torch.no_grad():
        want = module(still.inputs, still.masks).logits
        torch.testing.assert_close(module(still).logits, want, atol=1e-5, rtol=1e-5)
        encoded = Batch(module.encode(still), still.masks, {}, {"id": ["0", "1"]}, encoded=True)
        torch.testing.assert_close(module(encoded).logits, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m, b: m(b.inputs["face"]), r"model\(\{'face': tensor\}\)"),
        (lambda m, b: m([b]), "model"),
        (lambda m, b: m(None), "model"),
        (lambda m, b: m({"scene": b.inputs["face"]}), "face"),
        (lambda m, b: m(b, b.masks), "masks"),
        (lambda m, b: m(b.inputs, b.masks["face"]), "masks"),
        (lambda m, b: m({"face": b.inputs["face"].numpy()}), "'face' is a ndarray"),
        (lambda m, b: m({"face": b.inputs["face"][:, 0]}), r"\(B, C, F, 3, H, W\).*got \(2, 3, 3, 48, 48\)"),
        (lambda m, b: m({"face": b.inputs["face"][0, 0]}), r"\(B, C, F, 3, H, W\).*got \(3, 3, 48, 48\)"),
        (lambda m, b: m({"face": b.inputs["face"].movedim(3, -1)}), r"got \(2, 3, 3, 48, 48, 3\)"),
        (lambda m, b: m({"face": b.inputs["face"].byte()}), "floating point"),
    ],
)
def test_a_wrong_call_is_shown_the_right_one(call: Callable[[Any, Batch], Any], said: str) -> None:
    """Protects from errors of the inside ("not subscriptable"): one line with the call that works."""
    module = EmotionModule("ceflnet", size="lite", options=OPTIONS).eval()
    with pytest.raises(UsageError, match=said):
        call(module, batch_of("ceflnet"))


@pytest.mark.parametrize("arch", list(registry.MODELS))
def test_a_module_in_bfloat16_answers(arch: str) -> None:
    """``model.bfloat16()`` takes float32 batches, answers close to itself in float32; its prior keeps its digits."""
    module, batch = EmotionModule(arch, size="lite", classes=["a", "b"]).eval(), batch_of(arch)
    module.log_prior.copy_(torch.tensor([0.123456, -2.345678]))
    with torch.no_grad():
        want = module(batch).logits.softmax(-1)
        module.bfloat16()
        for found in (module(batch), module(batch.inputs, batch.masks)):
            assert found.logits.dtype == torch.float32
            assert float((found.logits.softmax(-1) - want).abs().max()) < 0.05
        assert module.log_prior.tolist() == pytest.approx([0.123456, -2.345678], abs=1e-6)
        module.double()
        assert module(batch).logits.dtype == torch.float64


def test_a_compiled_module_answers() -> None:
    """``torch.compile(model)`` and ``model.compile()`` take batches and inputs and answer alike."""
    module, batch = EmotionModule("emotion_fan", size="lite", classes=["a", "b"]).eval(), batch_of("emotion_fan")
    with torch.no_grad():
        want = module(batch).logits
        compiled = torch.compile(module, backend="eager")
        for found in (compiled(batch), compiled(batch.inputs, batch.masks)):
            torch.testing.assert_close(found.logits, want)


def test_a_module_is_copied_and_pickled_whole() -> None:
    """Protects workers, sweeps and averaging: a copy answers alike, also after training and evaluation."""
    module, batch = EmotionModule("emotion_fan", size="lite", classes=["a", "b"]).eval(), batch_of("emotion_fan")
    module.validation_step(batch, 0)
    with torch.no_grad():
        for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert torch.equal(again(batch).logits, module(batch).logits)
            assert dict(again.hparams) == dict(module.hparams)


# -- metrics and devices ---------------------------------------------------------------------------------------------


def float64_of(module: EmotionModule) -> list[str]:
    """Names of all float64 tensors that a module moves to its device."""
    found = [k for k, v in [*module.state_dict().items(), *module.named_buffers()] if v.dtype == torch.float64]
    for name, part in module.named_modules():
        states = getattr(part, "_defaults", {})
        found += [f"{name}.{k}" for k in states if getattr(getattr(part, k), "dtype", None) == torch.float64]
    return found


def test_a_device_without_float64_trains_evaluates_and_predicts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects Apple's mps: nothing of a module, and no step of it, makes or moves float64 on its device.

    The device is played by the meta device for moving, and by a CPU whose tensors refuse to become float64 for steps.
    """
    module, batch = (
        EmotionModule("recursive_joint_attention", size="lite", classes=["a", "b"]),
        batch_of("recursive_joint_attention"),
    )
    module.log = module.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    assert not float64_of(module)

    class OnDevice(torch.utils._python_dispatch.TorchDispatchMode):
        """Refuses float64 results, but in what is said to be on the CPU by ``cpu()``: there metrics add up."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.dtype == torch.float64:
                raise TypeError("Cannot convert a tensor to float64 on this device")
            return out

    with OnDevice():
        module.training_step(batch, 0).backward()
        module.eval()
        with torch.no_grad():
            assert module.predict_step(batch)["va"].dtype == torch.float32
    module.validation_step(batch, 0)
    module.on_validation_epoch_end()
    module.test_step(batch, 0)
    assert not float64_of(module)
    real = torch.Tensor.to

    def to(self: torch.Tensor, *args: Any, **more: Any) -> torch.Tensor:
        if self.dtype == torch.float64:
            raise TypeError("Cannot convert a tensor to float64 on this device")
        return real(self, *args, **more)

    monkeypatch.setattr(torch.Tensor, "to", to)
    module.to("meta")


def test_metrics_are_exact_over_many_frames() -> None:
    """A million frames far from the mean: float32 sums would lose the concordance; on any device these do not."""
    from emozoo.metrics import PooledConcordance, concordance_of, concordance_sums

    g = np.random.default_rng(0)
    target = (0.9 + 0.01 * g.standard_normal((1000, 1000, 2))).astype(np.float32)
    found = (target + 0.01 * g.standard_normal(target.shape)).astype(np.float32)
    metric = PooledConcordance().to(torch.float16).half()
    for x, y in zip(found.reshape(10, 100, 1000, 2), target.reshape(10, 100, 1000, 2), strict=True):
        metric.update(torch.from_numpy(x), torch.from_numpy(y), torch.ones(x.shape[:2], dtype=torch.bool))
    want = [float(concordance_of(concordance_sums(found[..., i], target[..., i]))) for i in (0, 1)]
    got = metric.compute()
    assert [got["CCC_V"], got["CCC_A"]] == pytest.approx(want, abs=1e-9)


# -- any Trainer -------------------------------------------------------------------------------------------------------

QUIET: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}


@pytest.fixture(scope="module")
def images(make_images: Callable[[int], Path]) -> Path:
    return make_images(10)


def small(**more: Any) -> EmotionModule:
    L.seed_everything(0, verbose=False)
    settings: dict[str, Any] = {
        "size": "lite",
        "classes": ["angry", "calm"],
        "options": OPTIONS,
        "loss": {"tau": 1.0},
    } | more
    return EmotionModule("emotion_fan", **settings)


def data_of(images: Path, module: EmotionModule) -> EmotionDataModule:
    return EmotionDataModule("folder", images, spec=module.spec, classes=module.classes, batch_size=4, val_share=0.25)


def test_a_lightning_checkpoint_opens_anywhere_and_says_what_it_is(images: Path, tmp_path: Path) -> None:
    """Also where the files that training began from are gone: all is in it. Never "untrained", never another's hash."""
    start = tmp_path / "start.safetensors"
    encoder = {k.removeprefix("backbone."): v for k, v in small().net.state_dict().items() if k.startswith("backbone.")}
    save_file({f"backbone.{k}": v for k, v in encoder.items()}, start)
    torch.save(encoder, tmp_path / "encoder.pth")
    options = {**OPTIONS, "backbone_weights": str(tmp_path / "encoder.pth")}
    module = small(init_from=str(start), options=options)
    trainer = L.Trainer(max_epochs=1, default_root_dir=tmp_path, logger=False, **QUIET)
    trainer.fit(module, data_of(images, module))
    assert module.name == "emotion_fan (trained here)"
    assert module.sha256 == ""
    module.temperature.fill_(1.5)
    trainer.save_checkpoint(tmp_path / "mine.ckpt")
    start.unlink()
    (tmp_path / "encoder.pth").unlink()
    again = EmotionModule.load_from_checkpoint(tmp_path / "mine.ckpt", map_location="cpu")
    assert again.name == "emotion_fan (checkpoint mine.ckpt)"
    assert again.sha256 == files.sha256_of((tmp_path / "mine.ckpt").read_bytes())
    assert torch.equal(again.log_prior, module.log_prior)
    assert float(again.temperature) == 1.5
    found = emozoo.predict(images / "calm" / "0.png", again)
    assert found.error is None
    assert (found.model, found.sha256) == (again.name, again.sha256)
    assert found.scores == emozoo.predict(images / "calm" / "0.png", module).scores


OLD = {"tau": 0.5, "weight_decay": 0.1, "optimizer": "sgd", "warmup": 0.0, "smoothing": 0.05, "decay_all": True}


def test_arguments_have_their_old_names_for_one_version() -> None:
    """Protects users of 0.1: old arguments mean the same and say their new name; what cannot be meant is said."""
    plain = small(loss={})
    with pytest.warns(DeprecationWarning, match=r"tau= is now loss\.tau; weight_decay= is now optimizer\.weight_decay"):
        old = small(loss=None, **OLD)
    new = small(
        loss={"tau": 0.5, "smoothing": 0.05}, optimizer={"name": "sgd", "weight_decay": 0.1, "decay_all": True},
        schedule={"name": "cosine", "warmup": 0.0},
    )  # fmt: skip
    assert dict(old.hparams) == dict(new.hparams) != dict(plain.hparams)
    assert old.loss_settings == new.loss_settings
    with pytest.raises(UsageError, match=r"teacher= of EmotionModule is an argument of the callback .*Distillation"):
        small(teacher="emotion_fan.ferplus_v3", distill=0.5)
    with pytest.raises(TypeError, match="no argument smothing"):
        small(smothing=0.1)
    for wrong, said in (
        ({"optimizer": {"weight_decay": 0.1}}, r"optimizer: \{name: adamw, \.\.\.\}"),
        ({"schedule": {"name": "cosine", "warm": 1}}, "schedule has no warm; it takes name, warmup, period, gamma"),
        ({"loss": {"tua": 1.0}}, "loss has no tua; it takes tau"),
    ):
        with pytest.raises(UsageError, match=said):
            small(**wrong)
    with pytest.raises(UsageError, match=r"tau= is now loss\.tau: give it once"):
        EmotionModule("emotion_fan", size="lite", tau=1.0, loss={"tau": 0.5})


def test_a_checkpoint_of_the_version_before_opens(images: Path, tmp_path: Path) -> None:
    """Protects runs that are there: a checkpoint with the old arguments opens, those of training alone are dropped."""
    module = small(loss={"tau": 0.5}, flips=True)
    trainer = L.Trainer(max_steps=1, default_root_dir=tmp_path, logger=False, enable_checkpointing=False, **QUIET)
    trainer.fit(module, data_of(images, module))
    trainer.save_checkpoint(tmp_path / "new.ckpt")
    stored = torch.load(tmp_path / "new.ckpt", weights_only=True)
    kept = {k: v for k, v in stored["hyper_parameters"].items() if k not in ("loss", "optimizer", "schedule")}
    stored["hyper_parameters"] = kept | OLD | {
        "final_lr": 0.0, "schedule": "cosine", "period": None, "gamma": 0.1, "flood": 0.0, "flood_mode": "ishida",
        "distill": 0.5, "teacher": "runs/gone", "va_weight": 1.0, "init_parts": None,
    }  # fmt: skip
    torch.save(stored, tmp_path / "old.ckpt")
    again = EmotionModule.load_from_checkpoint(tmp_path / "old.ckpt")
    assert again.loss_settings == {"tau": 0.5, "smoothing": 0.05, "flood": 0.0, "va_weight": 1.0}
    assert again.hparams["optimizer"] == {"name": "sgd", "weight_decay": 0.1, "decay_all": True}
    assert again.hparams["flips"]
    assert all(torch.equal(v, module.state_dict()[k]) for k, v in again.state_dict().items())


def test_names_that_moved_still_work_and_say_where_they_are() -> None:
    """Protects scripts of 0.1 for one version."""
    import emozoo.module
    import emozoo.zoo

    with pytest.warns(DeprecationWarning, match=r"emozoo\.zoo\.load"):
        assert emozoo.module.load is emozoo.zoo.load  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = emozoo.module.lode  # type: ignore[attr-defined]


def test_weights_that_are_trained_further_lose_their_name(folder: Path, images: Path, tmp_path: Path) -> None:
    """What is trained with any Trainer is no longer what the tag, and its hash, stand for."""
    with pytest.warns(UserWarning, match="new head"):
        module = load(folder, classes=["angry", "calm"])
    trainer = L.Trainer(max_steps=1, default_root_dir=tmp_path, logger=False, enable_checkpointing=False, **QUIET)
    trainer.fit(module, data_of(images, module))
    assert module.name == f"{folder} (new head, trained further)"
    assert module.sha256 == ""


@pytest.mark.parametrize("by", ["datamodule", "loader", "own loader"])
def test_what_is_trained_further_is_scored_as_it_was_trained(
    folder: Path, images: Path, tmp_path: Path, by: str
) -> None:
    """Protects from the temperature of loaded weights on answers it was not fitted to, and from their prior.

    The loss knows no temperature: kept, it weighs the prior otherwise in every score than in training.
    """
    module = load(folder)
    assert float(module.temperature) == 2.0
    dm = EmotionDataModule("csv", table_of(images, module.classes, tmp_path), spec=module.spec,
                           classes=module.classes, batch_size=4, val_share=0.25)  # fmt: skip
    trainer = L.Trainer(max_steps=1, default_root_dir=tmp_path, logger=False, enable_checkpointing=False, **QUIET)
    if by == "datamodule":
        trainer.fit(module, datamodule=dm)
    else:
        dm.setup("fit")
        loader: Any = dm.train_dataloader()
        own = DataLoader(list(loader), batch_size=None)  # type: ignore[arg-type]
        trainer.fit(module, loader if by == "loader" else own, dm.val_dataloader())
    assert float(module.temperature) == 1.0
    if by == "own loader":  # nobody knows its labels: the prior that the weights were trained with stays
        want = (2.0 * torch.tensor(PRIOR)).log_softmax(-1)
    else:
        assert dm.class_prior is not None
        want = torch.from_numpy(dm.class_prior).clamp_min(1e-6).log()
    torch.testing.assert_close(module.log_prior, want)


WRONG_DATA: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"classes": ["calm", "angry"]}, r"calm, angry.*angry, calm.*classes=model\.classes"),
    ({"classes": ["happy", "sad"]}, {"classes": None}, r"angry, calm.*happy, sad"),
    ({"classes": ["angry", "calm", "sad"]}, {"classes": None}, r"classes=model\.classes"),
    ({}, {"spec": registry.model("ceflnet").specs["lite"]}, r"spec=model\.spec"),
    ({"model": "caer_net_s", "options": {}}, {"spec": registry.model("ceflnet").specs["lite"]}, r"spec=model\.spec"),
]


STAGES = ("fit", "validate", "test", "predict")
EVERY_WAY = [(*WRONG_DATA[0], stage, by) for stage in STAGES for by in ("datamodule", "loader")]


@pytest.mark.parametrize(
    ("of_model", "of_data", "said", "stage", "by"), [*EVERY_WAY, *((*w, "fit", "datamodule") for w in WRONG_DATA[1:])]
)
def test_data_of_other_classes_or_images_than_the_model_are_refused(
    images: Path, of_model: dict[str, Any], of_data: dict[str, Any], said: str, stage: str, by: str
) -> None:
    """Protects from training one class as another, and from images of another size or crop: nothing would tell."""
    settings = {"model": "emotion_fan", "size": "lite", "classes": ["angry", "calm"], "options": OPTIONS} | of_model
    module = EmotionModule(**settings)
    dm = EmotionDataModule("folder", images, **({"spec": module.spec, "classes": module.classes} | of_data))
    trainer = L.Trainer(max_steps=1, logger=False, enable_checkpointing=False, num_sanity_val_steps=0, **QUIET)
    if by == "datamodule":
        given: dict[str, Any] = {"datamodule": dm}
    else:
        dm.setup()
        loader = {"fit": dm.train_dataloader, "validate": dm.val_dataloader}.get(stage, dm.test_dataloader)()
        given = {"train_dataloaders" if stage == "fit" else "dataloaders": loader}
    with pytest.raises(UsageError, match=said):
        getattr(trainer, stage)(module, **given)


def test_another_detector_and_data_without_labels_are_no_other_data(images: Path, tmp_path: Path) -> None:
    """Protects what may differ: the face detector, and rows that nobody labelled, which are only predicted."""
    module = small()
    (tmp_path / "table.csv").write_text("\n".join(["path", *map(str, sorted(images.glob("*/*.png"))[:2])]))
    dm = EmotionDataModule("csv", tmp_path / "table.csv", spec=module.spec.with_detector("yunet"), split="all")
    module._check_data(dm)
    dm.setup("predict")
    module._check_data(dm)


def table_of(images: Path, classes: tuple[str, ...], folder: Path) -> Path:
    """Images as a CSV, with labels of a network's first two classes."""
    lines = [f"{p},{classes[int(p.parent.name == 'calm')]}" for p in sorted(images.glob("*/*.png"))]
    (folder / "table.csv").write_text("\n".join(["path,label", *lines]))
    return folder / "table.csv"


def test_training_begins_without_a_warning_of_lightning(images: Path, tmp_path: Path) -> None:
    """``load`` gives eval mode; Lightning warns of modules that begin training so, though none of ours trains in it."""
    module = small().eval()
    trainer = L.Trainer(max_steps=1, default_root_dir=tmp_path, logger=False, enable_checkpointing=False, **QUIET)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer.fit(module, data_of(images, module))
    assert not [w for w in said if "eval mode" in str(w.message)]


def test_every_loop_of_a_trainer_takes_the_module(images: Path, tmp_path: Path) -> None:
    """Loggers, callbacks, mixed precision, accumulated and overfitted batches, and the four loops, with no settings."""
    from lightning.pytorch import callbacks
    from lightning.pytorch.loggers import CSVLogger

    module = small()
    dm = data_of(images, module)
    stop = callbacks.EarlyStopping("val_WAR", mode="max", patience=5)
    best = callbacks.ModelCheckpoint(tmp_path, monitor="val_WAR", mode="max")
    more = [stop, best, callbacks.LearningRateMonitor(), callbacks.StochasticWeightAveraging(1e-4, 0.5)]
    trainer = L.Trainer(
        max_epochs=3, precision="bf16-mixed", accumulate_grad_batches=2, log_every_n_steps=1, default_root_dir=tmp_path,
        logger=CSVLogger(tmp_path), callbacks=more, **QUIET,
    )  # fmt: skip
    trainer.fit(module, dm)
    assert Path(best.best_model_path).is_file()
    (hparams,) = tmp_path.rglob("hparams.yaml")
    assert yaml.safe_load(hparams.read_text())["model"] == "emotion_fan"
    assert "val_WAR" in trainer.validate(module, dm, verbose=False)[0]
    assert "test_WAR" in trainer.test(module, dm, verbose=False)[0]
    answers = trainer.predict(module, dm)
    assert answers
    assert all(a["logits"].shape[1] == 2 for a in answers)
    for settings in ({"fast_dev_run": True}, {"overfit_batches": 1, "max_epochs": 2}, {"precision": "bf16-true"}):
        settings = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, **settings, **QUIET}
        module = small()
        L.Trainer(default_root_dir=tmp_path, **settings).fit(module, data_of(images, module))


# -- saving and the hub's own calls ----------------------------------------------------------------------------------


def test_a_saved_module_is_loaded_again(folder: Path, tmp_path: Path) -> None:
    """``model.save(folder)`` for any module: equal answers, honest words, no tag, no paths."""
    sharer = share_encoder(folder)
    with pytest.warns(UserWarning, match="new head"):
        renamed = load(folder, classes=["calm", "angry"])
    cases = {
        "untrained": (
            EmotionModule("ceflnet", size="lite", options=OPTIONS, loss={"tau": 0.5}, flips=True).eval(),
            "nothing that",
        ),
        "loaded": (load(folder), "drawings"),
        "sharer": (load(sharer), "drawings"),
        "renamed": (renamed, f"data that were not recorded, from …/{folder.name} (new head)"),
    }
    changed = load(folder)
    with torch.no_grad():
        next(changed.net.parameters()).add_(1.0)
    cases["changed"] = (changed, "data that were not recorded, from …/")
    for name, (module, said) in cases.items():
        again = load(module.save(tmp_path / name))
        with torch.no_grad():
            assert torch.equal(again(X).logits, module(X).logits), name
            torch.testing.assert_close(again.scores(again(X).logits), module.scores(module(X).logits))
        assert (again.spec, again.classes, again.tasks) == (module.spec, module.classes, module.tasks)
        assert again.config["trained_on"].startswith(said), name
        assert again.config["tag"] == ""
        card = (tmp_path / name / hub.CARD).read_text(encoding="utf-8")
        assert f"Trained on {again.config['trained_on']}." in card
        assert str(tmp_path) not in card + (tmp_path / name / hub.CONFIG).read_text(encoding="utf-8")
    module = cases["loaded"][0]
    assert load(module.save(tmp_path / "mine", trained_on="my clips", licence="MIT")).config["trained_on"] == "my clips"


def test_the_hub_classes_calls_work_on_names_and_folders(folder: Path, tmp_path: Path) -> None:
    """``from_pretrained`` and ``save_pretrained``: the same folder, the same checks, also for a subclass."""

    class Mine(EmotionModule):
        pass

    Mine.from_pretrained(folder).save_pretrained(tmp_path / "again")
    found = Mine.from_pretrained(str(tmp_path / "again"))
    assert type(found) is Mine
    with torch.no_grad():
        assert torch.equal(found(X).logits, load(folder)(X).logits)
    assert EmotionModule.from_pretrained("emotion_fan").name == "emotion_fan.ferplus_v3"
    data = bytearray((tmp_path / "again" / hub.WEIGHTS).read_bytes())
    data[-1] ^= 1
    (tmp_path / "again" / hub.WEIGHTS).write_bytes(bytes(data))
    with pytest.raises(WeightsError, match="sha256"):
        EmotionModule.from_pretrained(tmp_path / "again")
    with pytest.raises(UsageError, match="no revision"):
        EmotionModule.from_pretrained("emotion_fan", revision="main")
    with pytest.raises(WeightsError, match="no such weights file"):
        EmotionModule.from_pretrained("nowhere/x.safetensors")
    with pytest.raises(UsageError, match="create_pr"):
        found.push_to_hub("acme/mine", create_pr=True)


def test_a_saved_module_predicts_with_the_prior_that_it_had(images: Path, tmp_path: Path) -> None:
    """Protects labels: weights that predict without the class prior do so from a folder or checkpoint, too, where the
    module was changed in between."""
    module = emozoo.load("ceflnet")
    assert module.prior == "uniform"
    turned = emozoo.load("ceflnet", classes=module.classes[::-1])
    turned.save(tmp_path / "mine")
    face = images / "calm" / "0.png"
    found = [emozoo.predict(face, m).scores for m in (module, turned, tmp_path / "mine")]
    assert found[1] == pytest.approx(found[0], abs=1e-4)
    assert found[2] == pytest.approx(found[0], abs=1e-4)
    trainer = L.Trainer(logger=False, **QUIET)
    turned.trainer = trainer
    trainer.strategy.connect(turned)
    trainer.save_checkpoint(tmp_path / "mine.ckpt", weights_only=True)
    again = EmotionModule.load_from_checkpoint(tmp_path / "mine.ckpt", map_location="cpu")
    assert emozoo.predict(face, again).scores == pytest.approx(found[0], abs=1e-4)
