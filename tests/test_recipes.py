"""Recipes: every one is built; those that together use everything train for two steps, on data in miniature."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trees
import yaml
from media_files import write_audio

from emozoo import recipes, registry
from emozoo.callbacks import SaveWeights
from emozoo.data import faces
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.manifest import Row
from emozoo.errors import UsageError
from emozoo.labels import BASIC7
from emozoo.module import EmotionModule
from emozoo.synthemo import compose, generate
from emozoo.train import EmozooCLI

REPOSITORY = Path(__file__).resolve().parents[1]
RECIPES = recipes.names()
VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
LFW5 = ("anger", "happiness", "neutral", "sadness", "surprise")
RAVDESS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
JAVASED = ("neutral", "sadness", "happiness", "surprise", "fear", "anger")
MUSIC = ("Excited", "Fear", "Neutral", "Relaxation", "Sad", "Tension")


def table(root: Path, *rows: dict[str, Any]) -> None:
    with (root / "manifest.csv").open("w", newline="") as f:
        out = csv.DictWriter(f, list(rows[0]))
        out.writeheader()
        out.writerows(rows)


def audio(path: Path, seed: int) -> None:
    write_audio(path, np.random.default_rng(seed).integers(-3000, 3000, 16000) / 32768)


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
    voices(root, JAVASED)


def javased_video(root: Path) -> None:
    """Films with sound of three people, and what benchmarks/talking_faces.py writes about them."""
    rows = []
    for i in range(12):
        actor = ("01", "02", "05")[i % 3]
        trees.film(root / actor / f"{i}.mp4", seconds=1.0)
        split = "val" if actor == "05" else "train"
        rows.append({"path": f"{actor}/{i}.mp4", "label": JAVASED[i % 6], "actor": actor, "split": split})
    table(root, *rows)
    taught = root.parent / "talking_faces" / "teacher.csv"
    if root.name == "javased_faces" and not taught.exists():
        taught.parent.mkdir(parents=True)
        with taught.open("w", newline="") as f:
            out = csv.writer(f)
            out.writerow(["path", *BASIC7])
            out.writerows([root / r["path"], *[0.1] * 6, 0.4] for r in rows)


javased_faces = javased_video  # the store of these films that recipes read


def nemo(root: Path) -> None:
    voices(root, ("anger", "fear", "happiness", "neutral", "sadness", "surprise"))


def together(root: Path) -> None:
    voices(root, BASIC7)


talk7 = together  # other corpora, the same seven emotions


def kerc(root: Path) -> None:
    """Folders of frames with valence and arousal, as benchmarks/kerc.py lists them: the face fills the image."""
    rows = []
    for i in range(10):
        for k in range(3):
            trees.image(root / f"{i:04d}" / f"{k:02d}.png")
        box = {"x1": 0, "y1": 0, "x2": 4096, "y2": 4096}
        va = {"valence": round(0.1 * i - 0.5, 1), "arousal": 0.2, "group": f"person {i:03d}", "fold": i % 5}
        rows.append({"path": f"{i:04d}"} | va | box)
    table(root, *rows)


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


MADE = (("runs", "voices"), ("runs", "kerc"), ("runs", "javased_faces"))  # by scripts, before recipes read them


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
                elif "shared" in folder.parts or folder.parts[:2] in MADE:
                    globals()[folder.name](root / folder)
                else:
                    trees.TREES[data["dataset"]](root / folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMOZOO_HOME", str(root / "home"))
        patch.setenv("EMOZOO_SHARED", str(root / "shared"))
        patch.chdir(root)
        yield made


def words(name: str, recipe: dict[str, Any], *without: str, **more: Any) -> list[str]:
    """The command line for a recipe: two steps, no files that only a user has, none of the callbacks ``without``."""
    left_out = set(without)
    model, trainer = recipe["model"], recipe["trainer"]
    changed: dict[str, Any] = {"trainer.fast_dev_run": 2, "trainer.accelerator": "cpu", "data.num_workers": 0}
    options = {k: v for k, v in (model.get("options") or {}).items() if not k.endswith("_weights")}
    if options != (model.get("options") or {}):
        changed["model.options"] = options
    taught = next((c["init_args"] for c in trainer["callbacks"] if c["class_path"].endswith("Distillation")), {})
    for argument, start in (("model.init_from", model.get("init_from")), ("teacher", taught.get("teacher"))):
        for other in (Path(p) for p in ([start] if isinstance(start, str) else start or ())):
            if other.parts[0] == "runs":  # made by another recipe, which must exist
                assert {f"{other.name}__synthemo_plain", other.parent.name} & set(RECIPES)
                if argument != "teacher":
                    changed[argument] = None
                if taught:  # it reads the features of the encoder that the recipe starts from
                    left_out.add("Distillation")
                    also = recipe["data"].get("also", ())  # sets without labels teach through a teacher alone
                    changed["data.also"] = [d for d in also if d.get("labels", True)]
    callbacks = [c for c in trainer["callbacks"] if c["class_path"].rpartition(".")[2] not in left_out]
    if callbacks != trainer["callbacks"]:
        changed["trainer.callbacks"] = callbacks
    if trainer.get("precision") == "16-mixed":  # CPUs have bfloat16 alone
        changed["trainer.precision"] = "bf16-mixed"
    changed |= more
    said = {k: v if isinstance(v, str) else json.dumps(v) for k, v in changed.items()}
    return ["--config", name, *(w for k, v in said.items() for w in (f"--{k}", v))]


def run(arguments: list[str]) -> EmozooCLI:
    cli = EmozooCLI(EmotionModule, EmotionDataModule, args=arguments, save_config_callback=None, run=False)
    cli.trainer.fit(cli.model, cli.datamodule)
    return cli


def used(recipe: dict[str, Any]) -> set[tuple[str, ...]]:
    """What a recipe uses: its network, its data set, and each argument, option, stream and callback that it names."""
    model, data, trainer = recipe["model"], recipe["data"], recipe["trainer"]
    found = {("network", model["model"]), ("data set", data["dataset"])}
    found |= {("model", k) for k in model} | {("data", k) for k in data} | {("trainer", k) for k in trainer}
    groups = ("optimizer", "schedule", "loss")
    found |= {(group, k) for group in groups if isinstance(model.get(group), dict) for k in model[group]}
    found |= {("option", model["model"], k) for k in model.get("options") or ()}
    found |= {("callback", c["class_path"]) for c in trainer["callbacks"]}
    streams = (model.get("spec") or {}).get("streams") or {}
    found |= {("stream", s["source"], s.get("audio", {}).get("kind", "")) for s in streams.values()}
    return found


def chosen() -> list[str]:
    """Few recipes that together use all that any recipe uses: again and again the one with most that is new."""
    left = {name: used(recipes.read(name)) for name in RECIPES}
    found = []
    while any(left.values()):
        best = max(left, key=lambda name: len(left[name]))
        found.append(best)
        new = left[best]
        left = {name: what - new for name, what in left.items()}
    return sorted(found)


LIGHT = {"model.size": "lite", "data.batch_size": 2, "data.preload": 0}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_read(name: str, place: Callable[[dict[str, Any]], None]) -> None:
    """Protects every recipe from arguments, options and streams that there are none of (lite networks, no data)."""
    recipe = recipes.read(name)
    assert "$RECIPE" not in str(recipe)
    assert "$MODEL" not in str(recipe)
    cli = EmozooCLI(EmotionModule, EmotionDataModule, args=words(name, recipe, **LIGHT), run=False)
    assert cli.datamodule.spec == cli.model.spec
    assert set(recipe["data"].get("augment") or ()) <= set(cli.model.spec.streams)
    (save,) = (c for c in cli.trainer.callbacks if isinstance(c, SaveWeights))
    assert save.recipe == f"benchmarks/recipes/{name}.yaml"
    assert save.changed is not None, "the run is compared with the recipe, whose name SaveWeights has"
    assert {"model.lr", "data.dataset", "trainer.max_epochs"}.isdisjoint(save.changed)


@pytest.mark.parametrize("name", chosen())
def test_recipe_runs(name: str, place: Callable[[dict[str, Any]], None]) -> None:
    """Recipes train on data in the layout of its authors: those that together use all that recipes use (lite networks).

    The others differ from them in numbers alone.
    """
    recipe = recipes.read(name)
    place(recipe)
    cli = run(words(name, recipe, "FeatureCache", **LIGHT))
    trainer, module, dm = cli.trainer, cli.model, cli.datamodule
    assert trainer.global_step >= 1
    assert dm.spec == faces.available(module.spec)  # without a network the cascade finds faces
    if dm.manifest.classes:
        assert "val_WAR" in trainer.callback_metrics or not trainer.num_val_batches[0]
        assert {dm.labels.number(r) for r in dm.manifest.rows if r.label} <= set(range(-1, len(module.classes)))


def distinct() -> list[Any]:
    """The first recipe of each network as it is built: architecture, wiring, size, options and streams."""
    found: dict[str, Any] = {}
    for name in (n for n in RECIPES if "synthemo" not in n):
        recipe = recipes.read(name)
        model = recipe["model"]
        options = {k: v for k, v in (model.get("options") or {}).items() if not k.endswith("_weights")}
        built = [model["model"], model.get("wiring"), model["size"], options, model.get("spec")]
        cached = "FeatureCache" in str(recipe["trainer"]["callbacks"])  # all clips are encoded
        seconds = 5 if model["size"] == "lite" else 300 if cached else 30
        found.setdefault(json.dumps(built, sort_keys=True), pytest.param(name, marks=pytest.mark.slow(seconds)))
    return list(found.values())


@pytest.mark.parametrize("name", distinct())
def test_recipe_runs_at_its_size(name: str, place: Callable[[dict[str, Any]], None]) -> None:
    """The same with networks, views, preloading and cached features as recipes name them, in float32.

    Without instructions of its own for them a CPU takes minutes for a step in 16 bits, which the test above takes.
    """
    recipe = recipes.read(name)
    place(recipe)
    more = {"data.batch_size": 2, "trainer.fast_dev_run": 1, "trainer.precision": "32-true"}
    cli = run(words(name, recipe, **more))
    assert cli.trainer.global_step == 1
    assert cli.model.size == recipe["model"]["size"]


def flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return found


@pytest.mark.parametrize(
    ("data", "own", "n"),
    [
        ("ferplus_votes", set(), 4),
        ("lfw5_folds", set(), 4),
        ("crema_d", {"data.batch_size"}, 7),
        ("ravdess", {"data.batch_size"}, 7),
    ],
)
def test_comparisons_share_the_settings_of_their_data(data: str, own: set[str], n: int) -> None:
    """Protects comparisons: no recipe of one changes what its data part says: images, epochs, rate, augmentation."""
    names = [name for name in RECIPES if name.endswith(f"__{data}")]
    assert len(names) == n
    own = own | {"trainer.default_root_dir", "trainer.callbacks", "model.init_from"}  # these have the name in them
    said = {k: v for k, v in flat(recipes.read(f"data/{data}")).items() if k not in own}
    for name in names:
        recipe = recipes.read(name)
        made = flat(recipe)
        assert {k: made.get(k) for k in said} == said, name
        assert len(set((recipe["model"].get("lr_scale") or {"": 1}).values())) == 1


def test_every_name_of_weights_and_results_is_a_recipe() -> None:
    """Protects who reads a card and wants to train the same again: its recipe is there, under the very words."""
    for file in sorted((REPOSITORY / "checkpoints").glob("*/config.json")):
        recipe = json.loads(file.read_text(encoding="utf-8"))["recipe"]
        assert recipes.known(recipe) or (REPOSITORY / recipe).is_file(), file


def test_every_paper_has_its_recipes() -> None:
    """Protects: each data set that a paper's entry promises a recipe for has one."""
    wanted = {f"{name}__{data}" for name, spec in registry.MODELS.items() for data in spec.recipes}
    assert wanted <= set(RECIPES)


def test_recipes_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the words of docs and cards: a name, with or without the folder; a user's own file goes before."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "afew").mkdir(parents=True)  # where the clips lie: no recipe
    (tmp_path / "mine.yaml").write_text("model: {size: full}")
    (tmp_path / "ceflnet__mmi").write_text("model: {size: lite}")
    for word in ("ceflnet__dfew", "benchmarks/recipes/ceflnet__dfew.yaml"):
        assert recipes.known(word) == "ceflnet__dfew"
    assert recipes.known(str(REPOSITORY / "benchmarks" / "recipes" / "data" / "afew.yaml")) == "data/afew"
    assert recipes.known("data/afew") == "data/afew"
    for word in ("mine.yaml", "ceflnet__mmi", "no_such_recipe", "index", "data/../index"):
        assert recipes.known(word) is None
    assert recipes.expand(["--config", "no_such_recipe"])[0] == ["--config", "no_such_recipe"]
    assert recipes.read("mine.yaml", "ceflnet__mmi") == {"model": {"size": "lite"}}
    with pytest.raises(UsageError, match=r"no recipe 'no_such_recipe': index\.yaml"):
        recipes.read("no_such_recipe")


def test_parts_make_a_recipe_without_a_name() -> None:
    """``--config data/afew --config model/ceflnet`` is ceflnet__afew, but for what says its name."""
    words, configs = recipes.expand(["fit", "--config", "data/afew", "--config=model/ceflnet", "--model.lr", "1"])
    assert configs == ["data/afew", "model/ceflnet"]
    assert [words[0], words[1], *words[3:]] == ["fit", "--config", "--model.lr", "1"]
    by_hand, named = yaml.safe_load(words[2]), recipes.read("ceflnet__afew")
    assert by_hand["trainer"].pop("default_root_dir") == "runs/afew+ceflnet"
    named["trainer"].pop("default_root_dir")
    named["trainer"]["callbacks"][-1]["init_args"].pop("recipe")
    assert by_hand == named


def test_callbacks_of_parts_are_joined() -> None:
    """Protects written weights: SaveWeights stays last, after whatever averages them, in any order of the parts."""
    for parts in (("data/caer_s", "model/caer_net_s"), ("model/caer_net_s", "data/caer_s")):
        callbacks = [c["class_path"].rpartition(".")[2] for c in recipes.read(*parts)["trainer"]["callbacks"]]
        assert sorted(callbacks) == ["BestOnTest", "EarlyStopping", "ModelCheckpoint", "ModelCheckpoint", "SaveWeights"]
        assert callbacks[-1] == "SaveWeights"
