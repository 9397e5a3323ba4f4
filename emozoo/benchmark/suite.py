"""The built-in suite: each paper model on drawn clips that ask for what its mechanism claims, beside its control.

The clips are SynthEmo's, of people that no training clip shows. They are drawn from a fixed seed into the cache
(``EMOZOO_HOME``) on first use and checked by settings and version on the next. They are evidence on what a network can
do, not on people.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emozoo import files, registry, synthemo
from emozoo.benchmark import report
from emozoo.benchmark import run as benchmark
from emozoo.benchmark.answers import Store
from emozoo.benchmark.controls import INPUT_CONTROLS, problem
from emozoo.benchmark.run import Result
from emozoo.errors import UsageError
from emozoo.spec import ClipSpec
from emozoo.synthemo import Cause, Knobs
from emozoo.synthemo.clip import COLUMNS, make, row

CLIPS, SEED = 210, 20230
TRAINING_CLIPS, TRAINING_SEED = 1400, 1  # what the weights ``synth_v1`` learned their task from

# What each mechanism is for: a face and a scene that correct each other; evidence in one moment and one place; a
# voice that says what the face leaves open; an expression in a short part of the clip, among meaningless movements.
TASKS: dict[str, Knobs] = {
    "caer_cross_attention": Knobs(face=0.75, scene=0.75),
    "dfan": Knobs(burst=0.35, spot=True, decoys=1),
    "recursive_joint_attention": Knobs(face=0.7, voice=0.7),
    "ceflnet": Knobs(burst=0.3, decoys=2),
}


def weights_of(arch: str) -> list[str]:
    """Full names of an architecture's weights that were trained on SynthEmo, controls left out."""
    return [
        w.name
        for w in registry.weights().values()
        if w.arch == arch and w.tag.startswith("synth") and not w.config.get("control_of")
    ]


def suite(models: Sequence[str] = (), **options: Any) -> list[dict[str, Any]]:
    """The records of :func:`measure`, without predictions."""
    return measure(models, **options).records


def measure(
    models: Sequence[str] = (),
    *,
    prior: str = "train",
    control: Sequence[str] = ("all",),
    device: str = "cpu",
    batch_size: int = 32,
    num_workers: int | None = None,
    clips: int = CLIPS,
    store: Store | None = None,
) -> Result:
    """Every model's newest SynthEmo weights, or ``models``, each followed by its controls.

    ``control``: as in :func:`emozoo.benchmark.run.measure`; of input controls those that a model has are taken.
    Raises UsageError for a model that the suite has no task for, a control that no model has, or without weights.
    """
    workers = min(4, os.cpu_count() or 1) if num_workers is None else num_workers
    names = list(models) or [weights_of(a)[-1] for a in TASKS if weights_of(a)]
    if not names:
        raise UsageError(
            "there are no weights trained on SynthEmo yet: train some, or name --dataset, --root and --model"
        )
    chosen = {n: [c for c in control if c not in INPUT_CONTROLS or not problem(_spec(n), c)] for n in names}
    lost = [c for c in control if not any(c in x for x in chosen.values())]
    if lost:
        raise UsageError(f"none of {', '.join(names)} has a control '{lost[0]}'")
    result = Result()
    for name in names:
        arch = _arch(name)
        root = prepare(arch, clips=clips, workers=max(1, workers))
        found = benchmark.measure(
            [name], "synthemo", root, split="test", prior=prior, control=chosen[name], device=device,
            batch_size=batch_size, num_workers=workers, store=store,
        )  # fmt: skip
        for record in found.records:
            record["protocol"] = f"synthemo_{arch}"
        result += found
    return result


def _arch(name: str) -> str:
    """The architecture of weights that the suite has a task for."""
    spec, _ = registry.resolve(name)
    if spec.name not in TASKS:
        raise UsageError(f"the built-in suite has no task for {spec.name}; it has {', '.join(TASKS)}: name a --dataset")
    return spec.name


def _spec(name: str) -> ClipSpec:
    """What weights look at, without loading them."""
    _arch(name)
    spec, entry = registry.resolve(name)
    return ClipSpec.from_dict(entry.config["spec"]) if entry else spec.specs["lite"]


def prepare(
    arch: str,
    *,
    clips: int = CLIPS,
    seed: int = SEED,
    split: str = "test",
    out: Path | None = None,
    knobs: Knobs | None = None,
    workers: int = 1,
) -> Path:
    """The folder of the clips of an architecture's task; what is not there yet is drawn now.

    A killed run goes on where it was. ``knobs`` draws other clips than the task's. Clips of other settings, or
    of another version of the generator, are removed.
    """
    knobs = knobs or TASKS[arch]
    out = out or files.cache_folder() / "synthemo" / f"v{synthemo.VERSION}" / arch
    settings = {
        "version": synthemo.VERSION,
        "seed": seed,
        "split": split,
        "knobs": json.loads(json.dumps(asdict(knobs))),
    }
    stamp = out / "synthemo.json"
    if not (stamp.is_file() and json.loads(stamp.read_text(encoding="utf-8")) == settings):
        shutil.rmtree(out / "clips", ignore_errors=True)
        (out / "clips").mkdir(parents=True)
        files.write_atomic(stamp, json.dumps(settings, indent=1).encode())
    causes = [synthemo.plan(seed, i, knobs, split=split) for i in range(clips)]
    names = [f"clips/{c.index:06d}.mp4" for c in causes]
    jobs = [(c, str(out / n)) for c, n in zip(causes, names, strict=True) if not (out / n).is_file()]
    if jobs:
        _draw(jobs, workers, arch)
    table = report.csv_text((row(c, n) for c, n in zip(causes, names, strict=True)), COLUMNS)
    manifest, text = out / "manifest.csv", table.encode()
    if not manifest.is_file() or manifest.read_bytes() != text:
        files.write_atomic(manifest, text)
    return out


def _draw(jobs: list[tuple[Cause, str]], workers: int, arch: str) -> None:
    from rich.console import Console
    from rich.progress import track

    # Fresh processes: OpenCV's and torch's threads do not survive a fork. What they run needs no torch: quick to start.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = pool.map(make, jobs, chunksize=4)
        for _ in track(done, f"drawing clips for {arch}", len(jobs), console=Console(stderr=True), transient=True):
            pass
