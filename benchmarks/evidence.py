"""What networks learn from real faces and voices, and what simpler methods learn from the same data.

    python benchmarks/evidence.py [faces5] [ferplus] [lfw5] [voices] [across] [speech] [together] [talk7] [music]

``faces5``   the recipes of the weights for five emotions on LFW-5, five folds by person (CEFLNet's teacher is the
             Emotion-FAN of the same fold), and CAER cross-attention on the same
``ferplus``  four networks on the votes of FER+, same images and budget, the official val part
``lfw5``     the same four on LFW-5, five folds by person, from their own encoders of ``ferplus``
``voices``   recursive joint attention with its audio stream alone on RAVDESS (actors 17 to 20), beside a support-vector
             machine on statistics of the same log-mel images; and whether it hears intensity, which nobody taught it
``across``   the same network trained on English voices and scored on German ones (Berlin emotional speech), and the
             reverse: the six emotions that both name, every recording of the other language
``speech``   heads on the pretrained encoder of speech (``speech_tiny.v2``), one for each of four corpora, scored on
             other speakers of the same corpus
``together`` one such head for all four, scored on the val speakers of each; and four that leave one corpus out, scored
             on every recording of it
``talk7``    face and voice of talking people, and voices of two more corpora: seven emotions, for research alone
``music``    DFAN on 52 music videos: a demonstration of the chain

Networks are trained below ``runs`` where they are not there yet (a killed training goes on) and measured; records go
into ``benchmarks/results``. Needs the real material (``EMOZOO_SHARED``) and, for ``voices``, the extra ``experiments``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from folds import cross_validate, saved_elsewhere

from emozoo import files, hub, recipes
from emozoo.benchmark import report, statistics
from emozoo.benchmark.records import complete, ends
from emozoo.benchmark.run import measure
from emozoo.data import audio
from emozoo.data.clips import ClipReader
from emozoo.data.datamodule import EmotionDataModule
from emozoo.data.manifest import Row
from emozoo.data.tables import read_manifest
from emozoo.files import resolve_path
from emozoo.labels import BASIC7, canonical
from emozoo.module import EmotionModule
from emozoo.spec import AudioSpec, ClipSpec, StreamSpec
from emozoo.train import train
from emozoo.zoo import load

Records = list[dict[str, Any]]
NETWORKS = ("ceflnet", "emotion_fan", "caer_net_s", "resnet_gru")
RUNS, RESULTS = Path("runs"), Path("benchmarks/results")
LFW5 = "$EMOZOO_SHARED/data/faces_lfw5/manifest.csv"
VOICES = "$EMOZOO_SHARED/data/ravdess_audio/manifest.csv"
TALKING = "$EMOZOO_SHARED/data/javased_video/manifest.csv"
GERMAN = "$EMOZOO_SHARED/data/emodb/manifest.csv"
# Four statistics of each of 64 mel bins, and of its change from step to step.
MELS, STEP = 64, AudioSpec(rate=16000, win=400, hop=160, fft=512, top_db=80.0)


def trained(recipe: str) -> Path:
    """The folder of the weights of a recipe, which is trained first where they are missing."""
    root = RUNS / recipe
    save = recipes.read(recipe)["trainer"]["callbacks"][-1]["init_args"]
    shipped = Path("checkpoints") / f"{recipe.partition('__')[0]}.{save.get('tag', '')}"
    folders = [f / hub.CONFIG for f in (shipped, root / "weights", root / "last")]
    if not any(map(Path.is_file, folders)):
        resume = ["--ckpt_path", str(root / "checkpoints" / "last.ckpt"), "--weights_only", "true"]
        train(["--config", recipe, *(resume if Path(resume[1]).is_file() else [])])
    return next(f.parent for f in folders if f.is_file())


def faces5() -> Records:
    """Records of the part ``faces5``."""
    for start in ("ceflnet__ferplus_v3", "caer_cross_attention__ferplus_v3"):
        trained(start)
    out = RUNS / "lfw5_folds"
    found: Records = []
    for recipe, name, teacher in (
        ("emotion_fan__lfw5", "emotion_fan, recipe of faces5_v2", None),
        ("ceflnet__lfw5_v3", "ceflnet, recipe of faces5_v3", str(out / "emotion_fan__lfw5" / "fold{fold}")),
        ("caer_cross_attention__lfw5", "caer_cross_attention, recipe lfw5", None),
    ):
        found += cross_validate(
            recipe, "csv", resolve_path(LFW5), folds=5, protocol="lfw5_5fold_v1",
            out=out / recipe, tag=name, teacher=teacher,
        )  # fmt: skip
    return [r | {"dataset": "lfw5"} for r in found]


def lfw5() -> Records:
    """Records of the part ``lfw5``."""
    found: Records = []
    for arch in NETWORKS:
        trained(f"{arch}__ferplus_votes")
        found += cross_validate(
            f"{arch}__lfw5_folds", "csv", resolve_path(LFW5), folds=5, protocol="lfw5_5fold_v1",
            out=RUNS / f"{arch}__lfw5_folds", tag=f"{arch}, recipe lfw5_folds",
        )  # fmt: skip
    return [r | {"dataset": "lfw5"} for r in found]


def ferplus() -> Records:
    """Records of the part ``ferplus``."""
    found: Records = []
    for arch in NETWORKS:
        folder = trained(f"{arch}__ferplus_votes")
        one = measure(
            [str(folder)], "ferplus", resolve_path("$EMOZOO_SHARED/data/ferplus"), split="val", prior="both"
        ).records
        found += [r | {"model": f"{arch}, recipe ferplus_votes"} for r in one]
    return found


def music() -> Records:
    """Records of the part ``music``."""
    folder = trained("dfan__music_video")
    found = measure(
        [str(folder)], "csv", resolve_path("$EMOZOO_SHARED/data/music_video/manifest.csv"), split="val", prior="train"
    ).records
    name = {"model": "dfan, recipe music_video", "dataset": "music_video", "protocol": "music_video_val_v1"}
    return [r | name for r in found]


# -- voices ----------------------------------------------------------------------------------------------------------


def voices() -> Records:
    """Records of the part ``voices``; also writes the table of arousal."""
    folder = trained("recursive_joint_attention__ravdess_voices")
    found = measure([str(folder)], "csv", resolve_path(VOICES), split="val", prior="both").records
    name = {"dataset": "ravdess", "protocol": "ravdess_voices_actors_17_to_20"}
    found = [r | name | {"model": "recursive_joint_attention, recipe ravdess_voices"} for r in found]
    for normalised in (False, True):
        found.append(svm_record(found[0], normalised))
    measure_intensity(load(folder))
    return found


def across() -> Records:
    """Records of the part ``across``."""
    english, german = (trained(f"recursive_joint_attention__{d}_voices") for d in ("ravdess", "emodb"))
    found: Records = []
    for folder, own, other, table in (
        (english, "ravdess", "emodb", GERMAN), (german, "emodb", "ravdess", VOICES), (german, "emodb", "emodb", ""),
    ):  # fmt: skip
        if table:
            made = measure(
                [str(folder)], "csv", without_splits(table, other), prior="both", label_map="basic7_v1"
            ).records
            protocol = f"voices_{own}_to_{other}"
        else:
            made, protocol = (
                measure([str(folder)], "csv", resolve_path(GERMAN), split="val", prior="both").records,
                "voices_emodb_val",
            )
        name = {"dataset": other, "protocol": protocol, "model": f"recursive_joint_attention, recipe {own}_voices"}
        found += [r | name for r in made]
    return found


# -- voices on the pretrained encoder ----------------------------------------------------------------------------------

CORPORA = {
    "ravdess": VOICES,
    "emodb": GERMAN,
    "javased": "$EMOZOO_SHARED/data/javased_audio/manifest.csv",
    "nemo": "$EMOZOO_SHARED/data/nemo/manifest.csv",
}
PROTOCOLS = {"ravdess": "ravdess_voices_actors_17_to_20"}  # the others: voices_NAME_val


def speech() -> Records:
    """Records of the part ``speech``."""
    found: Records = []
    for corpus, table in CORPORA.items():
        folder = trained(f"recursive_joint_attention__voices_{corpus}")
        made = measure([str(folder)], "csv", resolve_path(table), split="val", prior="both").records
        name = {"dataset": corpus, "protocol": PROTOCOLS.get(corpus, f"voices_{corpus}_val")}
        found += [r | name | {"model": f"recursive_joint_attention, recipe voices_{corpus}"} for r in made]
    return found


def together() -> Records:
    """Records of the part ``together``."""
    recipe = "recursive_joint_attention__voices_together"
    joined_table(list(CORPORA), "together")
    folder = trained(recipe)
    found: Records = []
    for corpus in CORPORA:
        table = joined_table([corpus], corpus)
        made = measure([str(folder)], "csv", table, split="val", prior="both", label_map="basic7_v1").records
        name = {"dataset": corpus, "protocol": f"voices_{corpus}_val_basic7"}
        found += [r | name | {"model": "recursive_joint_attention, recipe voices_together"} for r in made]
    for number, left_out in enumerate(CORPORA):
        folder = RUNS / recipe / f"without_{left_out}"
        if not (folder / hub.CONFIG).is_file():
            train(["--config", recipe, "--data.fold", str(number), *saved_elsewhere(recipe, folder)])
        others = without_splits(str(joined_table([left_out], left_out)), f"{left_out}_basic7")
        made = measure([str(folder)], "csv", others, prior="both", label_map="basic7_v1").records
        name = {"dataset": left_out, "protocol": f"voices_others_to_{left_out}"}
        found += [
            r | name | {"model": f"recursive_joint_attention, recipe voices_together, no {left_out}"} for r in made
        ]
    return found


def talk7() -> Records:
    """Records of the part ``talk7``: two talking actors, and voices of other speakers of two corpora."""
    joined_table(["ravdess", "nemo"], "talk7")
    folder = trained("recursive_joint_attention__talk7")
    tables = {"javased_val_v1": resolve_path(TALKING)}
    tables |= {f"voices_{c}_val_basic7": joined_table([c], c) for c in ("ravdess", "nemo")}
    found: Records = []
    for protocol, table in tables.items():
        made = measure([str(folder)], "csv", table, split="val", prior="both", label_map="basic7_v1").records
        name = {"dataset": protocol.split("_")[protocol.startswith("voices")], "protocol": protocol}
        found += [r | name | {"model": folder.name} for r in made]
    return found


def joined_table(corpora: Sequence[str], name: str) -> Path:
    """One table of the recordings of corpora whose emotion is one of the seven, by that emotion's own name.

    With more than one corpus each is a fold.
    """
    rows = [(n, c, row) for n, c in enumerate(corpora) for row in read_manifest(resolve_path(CORPORA[c])).rows]
    lines = [
        {"path": os.path.abspath(row.path), "label": label, "group": f"{corpus} {row.group}", "split": row.split}
        | ({"fold": number} if len(corpora) > 1 else {})
        for number, corpus, row in rows
        if (label := canonical(str(row.label))) in BASIC7
    ]
    path = RUNS / "voices" / name / "manifest.csv"
    columns = ("path", "label", "group", "split", *(["fold"] if len(corpora) > 1 else []))
    files.write_text(path, files.csv_text(lines, columns))
    return path


def without_splits(table: str, name: str) -> Path:
    """A copy of a table without its column ``split``: the recordings of all parts as one."""
    rows = report.read_csv(resolve_path(table))
    for row in rows:
        del row["split"]
        row["path"] = str((resolve_path(table).parent / row["path"]).resolve())
    path = RUNS / "voices_across" / f"{name}.csv"
    files.write_text(path, files.csv_text(rows, list(rows[0])))
    return path


def svm_record(like: dict[str, Any], normalised: bool) -> dict[str, Any]:
    """The record of a support-vector machine, its settings chosen by actor within the training part.

    ``normalised``: every actor's statistics are centred and scaled over all recordings of that actor, the evaluated
    ones too. That uses what a system would not know (transductive), so it is a track of its own.
    """
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    manifest = read_manifest(resolve_path(VOICES))
    rows = manifest.rows
    x = np.stack([log_mel_statistics(r) for r in rows])
    who = np.array([r.group for r in rows])
    if normalised:
        for actor in np.unique(who):
            own = who == actor
            x[own] = (x[own] - x[own].mean(0)) / (x[own].std(0) + 1e-6)
    y = np.array([like["classes"].index(r.label) for r in rows])
    train_, test = (np.array([r.split == s for r in rows]) for s in ("train", "val"))
    search = GridSearchCV(
        make_pipeline(StandardScaler(), SVC(class_weight="balanced")),
        {"svc__C": [0.3, 1, 3, 10, 30], "svc__gamma": [3e-4, 1e-3, 3e-3]}, scoring="balanced_accuracy",
        cv=GroupKFold(8),
    )  # fmt: skip
    search.fit(x[train_], y[train_], groups=who[train_])
    pairs = np.stack([y[test], search.predict(x[test])], 1)
    tested = [r for r in rows if r.split == "val"]
    numbers = statistics.group_numbers([r.group for r in tested], [r.id for r in tested])
    outcome = statistics.Outcome(numbers, tuple(like["classes"]), pairs)
    metrics, interval = statistics.evaluate(outcome)
    name = "support-vector machine on log-mel statistics"
    name += ", normalised per speaker (transductive)" * normalised
    return like | {
        "model": name, "sha256": hashlib.sha256(x.tobytes()).hexdigest(), "prior": "uniform", "seed": None,
        "seconds": None, "metrics": complete(metrics), "ci95": ends(interval),
        "per_class": statistics.per_class(outcome), "confusion": statistics.matrix(outcome), "ece": None,
    }  # fmt: skip


def log_mel_statistics(row: Row) -> np.ndarray:
    """Mean, deviation, 10th and 90th percentile of every mel bin in dB and of its change: (8 MELS,)."""
    whole = AudioSpec(rate=16000, seconds=1.0, kind="waveform")
    spec = ClipSpec({"audio": StreamSpec("audio", (1, 16000), audio=whole)}, 1, "segments", 1.0)
    with ClipReader.of(row, spec) as reader:
        assert reader.audio is not None
        wave = reader.audio.read(reader.start, reader.end)
    steps = 1 + len(wave) // STEP.hop
    db = audio.windows(wave[None], STEP, (MELS, steps))[0, 0]  # (MELS, steps)
    parts = []
    for values in (db, np.diff(db, axis=1)):
        parts += [values.mean(1), values.std(1), *np.percentile(values, (10, 90), axis=1)]
    return np.concatenate(parts)


def measure_intensity(module: EmotionModule) -> None:
    """Whether strong recordings get more arousal than normal ones of the same actor, sentence and emotion.

    A pair is two means over repetitions. Written to ``benchmarks/results/arousal.csv``; intervals by actor.
    """
    dm = EmotionDataModule(
        "csv", resolve_path(VOICES), spec=module.spec, classes=module.classes, split="val", batch_size=32
    )
    dm.setup("test")
    arousals: dict[tuple[str, ...], dict[str, list[float]]] = {}
    module.eval()
    with torch.no_grad():
        for batch in dm.test_dataloader():
            mask = batch.masks["audio"].any(-1)
            va = module.output(batch).va
            assert va is not None
            arousal = (va[..., 1] * mask).sum(1) / mask.sum(1)
            for i, value in zip(batch.rows, arousal.tolist(), strict=True):
                row = dm.test_rows[i]
                key = (str(row.group), row.extra["statement"], str(row.label))
                arousals.setdefault(key, {}).setdefault(row.extra["intensity"], []).append(value)
    pairs = {k: np.mean(v["2"]) - np.mean(v["1"]) for k, v in arousals.items() if len(v) == 2}
    lines = []
    for label in ("", *module.classes):
        own = {k: d for k, d in pairs.items() if label in ("", k[2])}
        if not own:
            continue
        actors = sorted({k[0] for k in own})
        sums = np.array(
            [[sum(d > 0 for k, d in own.items() if k[0] == a), sum(k[0] == a for k in own)] for a in actors]
        )
        drawn = statistics.resampled(sums.astype(float))
        low, high = np.percentile(drawn[:, 0] / drawn[:, 1], (2.5, 97.5))
        above = sums[:, 0].sum() / len(own)
        lines.append({
            "emotion": label or "all", "pairs": len(own), "strong_above_normal": f"{above:.4f}", "lo": f"{low:.4f}",
            "hi": f"{high:.4f}", "actors": len({k[0] for k in pairs}), "sha256": module.sha256,
        })  # fmt: skip
    files.write_text(RESULTS / "arousal.csv", files.csv_text(lines, list(lines[0])))


PARTS: dict[str, Callable[[], Records]] = {
    f.__name__: f for f in (faces5, ferplus, lfw5, voices, across, speech, together, talk7, music)
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; default: all")
    parts = parser.parse_args(argv).parts or list(PARTS)
    if unknown := [p for p in parts if p not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    for part in parts:
        records = PARTS[part]()
        report.save(records, RESULTS)
        report.show(records)


if __name__ == "__main__":
    main()
