"""The built-in suite: each paper model on drawn clips that test its mechanism, beside its control.

The clips are SynthEmo's, of people that no training clip shows. On first use they are drawn from a fixed seed into the
cache (``EMOZOO_HOME``); later their settings and version are checked. They are evidence on what a network can do, not
on people.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from emozoo import files, registry, synthemo
from emozoo.benchmark import run
from emozoo.benchmark.controls import INPUT_CONTROLS, problem
from emozoo.benchmark.records import Result
from emozoo.benchmark.resume import UnfinishedRun
from emozoo.benchmark.team import Team
from emozoo.errors import UsageError
from emozoo.spec import ClipSpec
from emozoo.synthemo import Knobs
from emozoo.synthemo.clip import COLUMNS, STAMP, draw, row
from emozoo.synthemo.writer import write_clips

_log = logging.getLogger(__name__)

CLIPS, SEED = 210, 20230
TRAINING_CLIPS, TRAINING_SEED = 1400, 1  # what the weights ``synth_v1`` learned their task from

# What each mechanism is for, as settings of drawn clips; they stand in the papers' entries.
TASKS: dict[str, Knobs] = {
    name: Knobs(**spec.synthemo) for name, spec in registry.MODELS.items() if spec.synthemo is not None
}


def weights_of(arch: str) -> list[str]:
    """Full names of an architecture's weights that were trained on SynthEmo, controls left out."""
    return [
        w.name
        for w in registry.weights().values()
        if w.arch == arch and w.tag.startswith("synth") and not w.config.get("control_of")
    ]


def measure(
    models: Sequence[str] = (),
    *,
    prior: str = "train",
    control: Sequence[str] = ("all",),
    device: str = "cpu",
    batch_size: int = 32,
    num_workers: int | None = None,
    clips: int = CLIPS,
    unfinished: UnfinishedRun | None = None,
    team: Team | None = None,
) -> Result:
    """Every model's newest SynthEmo weights, or ``models``, each followed by its controls.

    A bare architecture stands for its newest SynthEmo weights here, not for its default, which has not learned these
    classes from drawings; the record names them.

    ``control``: as in :func:`emozoo.benchmark.run.measure`; input controls that do not apply to a model are left out.
    Raises UsageError for a model that the suite has no task for, for a control that no model has, and where there are
    no weights.
    """
    workers = min(4, os.cpu_count() or 1) if num_workers is None else num_workers
    names = [_drawn(m) for m in models] or [weights_of(a)[-1] for a in TASKS if weights_of(a)]
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
        draw_clips = partial(prepare, arch, clips=clips, workers=max(1, workers))
        root = team.in_turns(draw_clips) if team else draw_clips()
        found = run.measure(
            [name], "synthemo", root, split="test", prior=prior, control=chosen[name], device=device,
            batch_size=batch_size, num_workers=workers, unfinished=unfinished, team=team,
        )  # fmt: skip
        for record in found.records:
            record["protocol"] = f"synthemo_{arch}"
        result += found
    return result


def _drawn(name: str) -> str:
    """The name of weights itself; of a bare architecture, the name of its newest SynthEmo weights, if it has any."""
    found = weights_of(name)
    if found:
        _log.warning("%s: the built-in suite takes %s, which was trained on drawn clips", name, found[-1])
    return found[-1] if found else name


def _arch(name: str) -> str:
    """The architecture of weights that the suite has a task for."""
    spec, _ = registry.resolve(name)
    if spec.name not in TASKS:
        raise UsageError(f"the built-in suite has no task for {spec.name}; it has {', '.join(TASKS)}: name a --dataset")
    return spec.name


def _spec(name: str) -> ClipSpec:
    """The spec of weights, without loading them."""
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
    """The folder of the clips of an architecture's task; clips that it lacks are drawn.

    ``knobs``: settings of the clips; None takes those of the task. Clips in the folder that were drawn with other
    settings, or by another version of the generator, are removed.
    """
    from rich.console import Console
    from rich.progress import Progress

    knobs = knobs or TASKS[arch]
    out = out or files.cache_folder() / "synthemo" / f"v{synthemo.VERSION}" / arch
    settings = {"version": synthemo.VERSION, "seed": seed, "split": split, "knobs": asdict(knobs)}
    causes = [synthemo.plan(seed, i, knobs, split=split) for i in range(clips)]
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(f"drawing clips for {arch}", total=clips, visible=False)
        write_clips(
            out, causes, write=draw, row=row, columns=COLUMNS, stamp=STAMP, settings=settings, replace=True,
            workers=workers, progress=lambda done, of: bar.update(task, completed=done, visible=True),
        )  # fmt: skip
    return out
