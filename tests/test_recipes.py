"""Every committed recipe, run for two steps on its data set in miniature."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import trees
import yaml

from emozoo import registry
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.manifest import Row
from emozoo.labels import BASIC7
from emozoo.module import EmotionModule
from emozoo.synthemo import compose, generate
from emozoo.train import EmozooCLI

REPOSITORY = Path(__file__).resolve().parents[1]
RECIPES = sorted((REPOSITORY / "benchmarks" / "recipes").glob("*.yaml"))
VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
LFW5 = ("anger", "happiness", "neutral", "sadness", "surprise")
RAVDESS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
MUSIC = ("Excited", "Fear", "Neutral", "Relaxation", "Sad", "Tension")


def table(root: Path, *rows: dict[str, Any]) -> None:
    with (root / "manifest.csv").open("w", newline="") as f:
        out = csv.DictWriter(f, list(rows[0]))
        out.writeheader()
        out.writerows(rows)


def audio(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-3000, 3000, (1, 16000), dtype=np.int16)
    with av.open(str(path), "w") as box:
        stream = box.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(noise.astype(np.float32) / 32768, format="fltp", layout="mono")
        frame.sample_rate = 16000
        box.mux(stream.encode(frame))
        box.mux(stream.encode())


def ferplus(root: Path) -> None:
    rows = []
    for i in range(16):
        split = "val" if i % 4 == 3 else "train"
        trees.image(root / split / f"fer{i}.jpg")
        votes = {f"votes_{v}": 6 if k == i % 8 else 2 if k == 0 else 0 for k, v in enumerate(VOTES)}
        rows.append({"path": f"{split}/fer{i}.jpg", "split": split, "label": VOTES[i % 8], "group": i, **votes})
    table(root, *rows)


def faces_lfw5(root: Path) -> None:
    rows = []
    for i in range(40):
        split = "val" if i % 8 == 7 else "train"
        trees.image(root / split / f"{i}.jpg", (112, 112))
        rows.append({"path": f"{split}/{i}.jpg", "label": LFW5[i % 5], "identity": f"p{i // 2}", "split": split})
    table(root, *rows)
    with (root / "teacher_scores.csv").open("w", newline="") as f:
        out = csv.writer(f)
        out.writerow(["path", *LFW5, "fear", "disgust"])
        out.writerows([r["path"], 0.3, 0.3, 0.1, 0.1, 0.1, 0.05, 0.05] for r in rows)


def ravdess_audio(root: Path) -> None:
    rows = []
    for i in range(24):
        actor = 1 + i % 3 if i < 16 else 17
        path = f"Actor_{actor:02d}/{i}.m4a"
        audio(root / path, i)
        rows.append({"path": path, "label": RAVDESS[i % 8], "actor": actor, "split": "train" if actor < 17 else "val"})
    table(root, *rows)


def emodb(root: Path) -> None:
    rows = []
    emotions = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
    for i in range(24):
        speaker = f"{3 + i % 4:02d}" if i < 16 else "14"
        audio(root / speaker / f"{i}.m4a", i)
        split = "train" if i < 16 else "val"
        rows.append({"path": f"{speaker}/{i}.m4a", "label": emotions[i % 7], "speaker": speaker, "split": split})
    table(root, *rows)


def voices(root: Path, emotions: Sequence[str]) -> None:
    rows = []
    for i in range(24):
        speaker = f"s{i % 4}" if i < 16 else "s4"
        audio(root / speaker / f"{i}.m4a", i)
        split = "train" if i < 16 else "val"
        rows.append(
            {"path": f"{speaker}/{i}.m4a", "label": emotions[i % len(emotions)], "speaker": speaker, "split": split}
        )
    table(root, *rows)


def javased_audio(root: Path) -> None:
    voices(root, ("neutral", "sadness", "happiness", "surprise", "fear", "anger"))


def nemo(root: Path) -> None:
    voices(root, ("anger", "fear", "happiness", "neutral", "sadness", "surprise"))


def together(root: Path) -> None:
    voices(root, BASIC7)


def music_video(root: Path) -> None:
    rows = []
    for i in range(18):
        split = "val" if i >= 12 else "train"
        path = f"{split}/{MUSIC[i % 6]}/{i}.mp4"
        trees.video(root / path)
        rows.append({"path": path, "label": MUSIC[i % 6], "split": split})
    table(root, *rows)


def composed(root: Path) -> None:
    """Clips put together from an image and an audio of each emotion."""
    made = {"faces": [], "voices": []}
    for k, emotion in enumerate(BASIC7):
        image, voice = root / "material" / f"{emotion}.png", root / "material" / f"{emotion}.wav"
        trees.image(image)
        trees.film(voice, seconds=1.0, silent_s=0.1 * k)
        made["faces"].append(Row(emotion, str(image), emotion, group=f"p{k}"))
        made["voices"].append(Row(emotion, str(voice), emotion))
    path = compose(root, 14, split="train", size=(96, 72), seconds=0.8, **made)
    header, *lines = path.read_text().splitlines()
    lines[10:] = [line.replace(",train,", ",val,") for line in lines[10:]]
    path.write_text("\n".join([header, *lines]) + "\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A working folder as recipes expect it; the data sets that a recipe names are written there when first asked."""
    root = tmp_path_factory.mktemp("work")
    for folder in ("checkpoints", "benchmarks"):
        (root / folder).symlink_to(REPOSITORY / folder)

    def made(recipe: dict[str, Any]) -> None:
        for data in (recipe["data"], *recipe["data"].get("also", ())):
            folder = Path(data["root"].replace("$EMOZOO_SHARED", str(root / "shared")).removesuffix("/manifest.csv"))
            if not (root / folder).exists():
                (root / folder).mkdir(parents=True)
                if "composed" in folder.parts:
                    composed(root / folder)
                elif data["dataset"] == "synthemo":
                    generate(root / folder, 14, 0, size=(96, 72), seconds=0.8)
                elif "shared" in folder.parts or folder.parts[:2] == ("runs", "voices"):
                    globals()[folder.name](root / folder)
                else:
                    trees.TREES[data["dataset"]](root / folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOZOO_HOME", str(root / "home"))
        patch.setenv("EMOZOO_SHARED", str(root / "shared"))
        patch.chdir(root)
        yield made


def words(path: Path, recipe: dict[str, Any], **more: Any) -> list[str]:
    """The command line for a recipe: two steps, no files that only a user has."""
    model, trainer = recipe["model"], recipe["trainer"]
    changed: dict[str, Any] = {"trainer.fast_dev_run": 2, "trainer.accelerator": "cpu", "data.num_workers": 0}
    options = {k: v for k, v in (model.get("options") or {}).items() if not k.endswith("_weights")}
    if options != (model.get("options") or {}):
        changed["model.options"] = options
    taught = next((c["init_args"] for c in trainer["callbacks"] if c["class_path"].endswith("Distillation")), {})
    for argument, start in (("model.init_from", model.get("init_from")), ("teacher", taught.get("teacher"))):
        for other in (Path(p) for p in ([start] if isinstance(start, str) else start or ())):
            if other.parts[0] == "runs":  # made by another recipe, which must exist
                names = (f"{other.name}__synthemo_plain", other.parent.name)
                assert any((path.parent / f"{name}.yaml").is_file() for name in names)
                if argument != "teacher":
                    changed[argument] = None
                if taught:  # it reads the features of the encoder that the recipe starts from
                    others = [c for c in trainer["callbacks"] if not c["class_path"].endswith("Distillation")]
                    changed["trainer.callbacks"] = others
                    also = recipe["data"].get("also", ())  # sets without labels teach through a teacher alone
                    changed["data.also"] = [d for d in also if d.get("labels", True)]
    if trainer.get("precision") == "16-mixed":  # CPUs have bfloat16 alone
        changed["trainer.precision"] = "bf16-mixed"
    changed |= more
    said = {k: v if isinstance(v, str) else json.dumps(v) for k, v in changed.items()}
    return ["--config", str(path), *(w for k, v in said.items() for w in (f"--{k}", v))]


def run(arguments: list[str]) -> EmozooCLI:
    cli = EmozooCLI(EmotionModule, EmotionDataModule, args=arguments, save_config_callback=None, run=False)
    cli.trainer.fit(cli.model, cli.datamodule)
    return cli


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_runs(path: Path, place: Callable[[dict[str, Any]], None]) -> None:
    """Every committed recipe names real arguments and trains on data in the layout of its authors (lite networks)."""
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    place(recipe)
    light = {"model.size": "lite", "data.batch_size": 2, "data.preload": 0}
    if any("FeatureCache" in c["class_path"] for c in recipe["trainer"].get("callbacks", ())):
        light["trainer.callbacks.draws"] = 0
    cli = run(words(path, recipe, **light))
    trainer, module, dm = cli.trainer, cli.model, cli.datamodule
    assert trainer.global_step >= 1
    assert dm.spec == module.spec
    if dm.manifest.classes:
        assert "val_WAR" in trainer.callback_metrics or not trainer.num_val_batches[0]
        assert {dm.labels.number(r) for r in dm.manifest.rows if r.label} <= set(range(-1, len(module.classes)))


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in RECIPES if "synthemo" not in p.stem], ids=lambda p: p.stem)
def test_recipe_runs_at_its_size(path: Path, place: Callable[[dict[str, Any]], None]) -> None:
    """The same with the networks, views, preloading and cached features that the recipe names, in float32.

    Without instructions of its own for them a CPU takes minutes for a step in 16 bits, which the test above takes.
    """
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    place(recipe)
    more = {"data.batch_size": 2, "trainer.fast_dev_run": 1, "trainer.precision": "32-true"}
    cli = run(words(path, recipe, **more))
    assert cli.trainer.global_step == 1
    assert cli.model.size == recipe["model"]["size"]


def test_every_paper_has_its_recipes() -> None:
    """Protects: each data set that a paper's entry promises a recipe for has one."""
    wanted = {f"{name}__{data}" for name, spec in registry.MODELS.items() for data in spec.recipes}
    assert wanted <= {p.stem for p in RECIPES}


def test_comparisons_share_all_settings() -> None:
    """Protects the four-model comparisons: same images, epochs, batches, rates and augmentation of the face."""
    for name in ("ferplus_votes", "lfw5_folds"):
        seen = []
        for path in RECIPES:
            if path.stem.endswith(name):
                recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
                own = ("model", "spec", "init_from", "lr_scale")
                data = {k: v for k, v in recipe["data"].items() if k != "augment"}
                budget = {k: v for k, v in recipe["trainer"].items() if k not in ("callbacks", "default_root_dir")}
                model = {k: v for k, v in recipe["model"].items() if k not in own}
                average = recipe["trainer"]["callbacks"][0]
                rates = set((recipe["model"].get("lr_scale") or {"": 1}).values())
                seen.append((data, recipe["data"]["augment"]["face"], budget, model, average, rates))
        assert len(seen) == 4
        assert all(s == seen[0] for s in seen)
