"""LFW-5, five folds by person over its train and val parts, with the recipe of the shipped ``ceflnet.faces5`` weights.

    python benchmarks/lfw5_folds.py

Trains one network per fold below ``runs/lfw5_folds`` (kept, so that a killed run goes on) and merges the pooled records
of both priors into ``benchmarks/results``. Needs the real faces (``EMOZOO_SHARED``).
"""

from __future__ import annotations

from pathlib import Path

from emozoo.benchmark import report
from emozoo.benchmark.folds import cross_validate
from emozoo.data.datamodule import place

RECIPE = Path("benchmarks/recipes/ceflnet__lfw5.yaml")


def main() -> None:
    records = cross_validate(
        RECIPE,
        "csv",
        place("$EMOZOO_SHARED/data/faces_lfw5/manifest.csv"),
        folds=5,
        protocol="lfw5_5fold_v1",
        out="runs/lfw5_folds",
        tag="ceflnet, recipe of faces5_v1",
    )
    for record in records:
        record["dataset"] = "lfw5"
    report.save(records, "benchmarks/results")
    report.show(records)


if __name__ == "__main__":
    main()
