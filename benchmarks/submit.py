"""Takes a submitted record file in: checks it, copies it to ``benchmarks/submissions``, merges it into the results.

    python benchmarks/submit.py results/records.json

The file is what ``emozoo benchmark --json FILE`` wrote, with its predictions beside it (docs/benchmark.md). Nothing is
written where a record does not follow from its predictions. Then run ``make tables``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from emozoo.benchmark import report, verify
from emozoo.errors import EmozooError

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout to write to; default: this one")
    wanted = parser.parse_args()
    try:
        checks = verify.submission(wanted.file)
        records = verify.read_records(wanted.file)
    except EmozooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    verify.show(checks)
    if verify.failed(checks):
        return 1
    folder = wanted.root / "benchmarks" / "submissions"
    target = folder / f"{records[0]['dataset']}__{records[0]['model'].replace('/', '_')}.json"
    if target.exists():
        print(
            f"error: {target} is there already: a newer submission needs another name of its weights", file=sys.stderr
        )
        return 1
    for record in records:
        if name := record.get("predictions"):
            new = f"{target.stem}.predictions/{Path(name).name}"
            (folder / new).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(wanted.file.parent / name, folder / new)
            record["predictions"] = new
    for record in records:  # a difference to a control cannot be computed again from one record's predictions
        for name in ("delta", "delta_ci95"):
            record.pop(name, None)
    report.write_json(records, target)
    for path in report.save(records, wanted.root / "benchmarks" / "results"):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
