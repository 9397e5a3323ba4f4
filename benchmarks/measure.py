"""Measures the shipped weights and merges the records into ``benchmarks/results``; then run ``make tables``.

    python benchmarks/measure.py

The built-in suite always; FER+ and LFW-5 where the real faces lie (``EMOZOO_SHARED``). The folds of LFW-5 have
a script of their own, ``benchmarks/evidence.py``, and all that is trained anew.
"""

from __future__ import annotations

import sys

from emozoo import registry
from emozoo.benchmark import report
from emozoo.benchmark.run import run
from emozoo.benchmark.suite import TASKS, suite, weights_of
from emozoo.data.datamodule import place


def main() -> None:
    records = suite(prior="train") if any(weights_of(arch) for arch in TASKS) else []
    shared = place("$EMOZOO_SHARED/data")
    if shared.is_dir():
        faces = ["ceflnet.faces7_v1", "emotion_fan.ferplus_v1"]
        records += run(faces, "ferplus7", shared / "ferplus", split="val", prior="both", num_workers=2)
        manifest = shared / "faces_lfw5" / "manifest.csv"
        lfw5 = run(["ceflnet.faces7_v1"], "csv", manifest, split="val", prior="both", label_map="lfw5_v1")
        if "ceflnet.faces5_v1" in registry.weights():
            lfw5 += run(["ceflnet.faces5_v1"], "csv", manifest, split="val", prior="both")
        for record in lfw5:
            record |= {"dataset": "lfw5", "protocol": "lfw5_val_v1"}
        records += lfw5
    else:
        print(f"{shared} is not there: the rows on real faces stay as they are", file=sys.stderr)
    report.save(records, "benchmarks/results")
    report.save_classes(records, "benchmarks/results/classes.csv")
    report.show(records)


if __name__ == "__main__":
    main()
