"""Measures the shipped weights and merges the records into ``benchmarks/results``; then run ``make tables``.

    python benchmarks/measure.py

The built-in suite always; FER+ and LFW-5 where the real faces lie (``EMOZOO_SHARED``). The folds of LFW-5 have
a script of their own, ``benchmarks/evidence.py``, and all that is trained anew.
"""

from __future__ import annotations

import sys

from emozoo import registry
from emozoo.benchmark import report, suite
from emozoo.benchmark.run import measure
from emozoo.benchmark.verify import SOURCES
from emozoo.files import resolve_path

# Weights of any version by the classes they are scored on: FER+ in seven, LFW-5 by a label map, or in its own five.
FACES = {
    "seven": ("caer_cross_attention.faces7", "ceflnet.faces7", "emotion_fan.ferplus"),
    "mapped": ("caer_cross_attention.faces7", "ceflnet.faces7"),
    "five": ("ceflnet.faces5", "emotion_fan.faces5"),
}


def main() -> None:
    records = suite.measure(prior="train").records if any(suite.weights_of(arch) for arch in suite.TASKS) else []
    shared = resolve_path("$EMOZOO_SHARED/data")
    if shared.is_dir():
        of = {k: [n for n in registry.weights() if n.rpartition("_v")[0] in v] for k, v in FACES.items()}
        ferplus, lfw5 = (SOURCES[k] for k in (("ferplus", "ferplus7"), ("lfw5", "lfw5_val_v1")))
        records += measure(
            of["seven"], ferplus.dataset, resolve_path(ferplus.root), split="val", prior="both", num_workers=2
        ).records
        found = measure(
            of["mapped"], lfw5.dataset, resolve_path(lfw5.root), split="val", prior="both", label_map="lfw5_v1"
        ).records
        # What a scene changes: without it, and with that of another image.
        scenes = measure(
            [n for n in of["mapped"] if n.startswith("caer_")], lfw5.dataset, resolve_path(lfw5.root), split="val",
            prior="both", label_map="lfw5_v1", control="inputs",
        )  # fmt: skip
        found += [r for r in scenes.records if r["control"]]
        found += measure(of["five"], lfw5.dataset, resolve_path(lfw5.root), split="val", prior="both").records
        records += [r | {"dataset": "lfw5", "protocol": "lfw5_val_v1"} for r in found]
    else:
        print(f"{shared} is missing: the rows on real faces stay as they are", file=sys.stderr)
    report.save(records, "benchmarks/results")
    report.save_classes(records, "benchmarks/results/classes.csv")
    report.show(records)


if __name__ == "__main__":
    main()
