"""``emozoo check``, ``emozoo prepare`` and ``emozoo synth``: data before training."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emozoo.commands.shared import DETECTOR_HELP, AsJson, check_name, note, print_json, progress_bar
from emozoo.errors import UsageError
from emozoo.launch import unshared

if TYPE_CHECKING:
    from emozoo.data.manifest import Row


def check(
    target: Annotated[
        str, typer.Argument(help="A data set name (with --root), a manifest.csv, a folder, or a prepared store.")
    ],
    root: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write the report as one self-contained page.")] = None,
    as_json: AsJson = False,
) -> int:
    """Data doctor: unreadable, missing, doubled and leaking items. Exit code 1: something was found.

    Example: emozoo check folder --root my_clips --html report.html
    """
    from emozoo.data import doctor
    from emozoo.files import check_file, write_text

    if html is not None:
        check_file(html)
    report = doctor.check(target, root)
    if html is not None:
        write_text(html, report.to_html())
    if as_json:
        print_json(report.to_dict())
    else:
        print(report)
    return 1 if report.findings else 0


def prepare(
    dataset: Annotated[str, typer.Argument(help="A data set name: folder, csv, dfew …")],
    root: Annotated[Path, typer.Option(help="Folder of the data set; nothing is written there.")],
    out: Annotated[
        str | None, typer.Option(help="Folder of the store, or s3://… gs://…; default: prepared/<name of the data>.")
    ] = None,
    spec: Annotated[
        list[str] | None, typer.Option(help="A model that the store serves; may be given again. Default: every model.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0, help="Frames a second to store; 0 = all.")] = 0.0,
    detector: Annotated[str | None, typer.Option(help=DETECTOR_HELP)] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one for each processor.")] = None,
    as_json: AsJson = False,
) -> int:
    """Decode, find faces, crop and resample once, into a store that trains and scores without decoders.

    Run it again after a kill: it goes on where it stopped.
    Under torchrun, SLURM and the like all processes share the work.
    Exit code 1: some item could not be read; it stays in the store as an error.

    Example: emozoo prepare folder --root my_clips --spec ceflnet
    """
    if alone := unshared():
        note(f"note: {alone}")
    for name in spec or []:
        check_name(name)
    from emozoo.data.find import one_line
    from emozoo.data.prepare import cover_of
    from emozoo.data.prepare import prepare as run

    folder = out or str(Path("prepared", root.resolve().name if dataset in ("folder", "csv") else dataset))
    with progress_bar("preparing") as update, redirect_stdout(sys.stderr):
        made = run(
            dataset, root, folder, cover=cover_of(spec or [], rate=rate, detector=detector), workers=workers,
            progress=lambda done, of: update(completed=done, total=of),
        )  # fmt: skip
    if made is None:
        return 0  # the process with rank 0 prints the result
    for file, reason in made.failed:
        note(f"error: {one_line(file)}: {one_line(reason)}")
    if as_json:
        failed = [{"file": file, "reason": reason} for file, reason in made.failed]
        facts = {"store": made.folder, "items": made.items, "content_sha256": made.content_sha256}
        print_json({"schema": 1, **facts, "failed": failed})
    else:
        bad = f", {len(made.failed)} of them unreadable" if made.failed else ""
        print(f"{made.folder}: {made.items} items{bad}; content sha256 {made.content_sha256[:16]}")
        print(f"next: emozoo check {made.folder}; give it as --root wherever a data set is asked for")
    return 1 if made.failed else 0


def synth(
    out: Annotated[Path, typer.Option(help="Folder for the videos and their manifest.csv.")],
    n: Annotated[int, typer.Option(min=1, help="Number of clips.")] = 21,
    seed: Annotated[int, typer.Option(help="Same seed, same pixels.")] = 0,
    faces: Annotated[
        list[str] | None, typer.Option(help="Compose: photographs of faces, as DATASET:ROOT. May be given again.")
    ] = None,
    voices: Annotated[list[str] | None, typer.Option(help="Compose: recordings, as DATASET:ROOT.")] = None,
    views: Annotated[str, typer.Option(help="Compose: views that show the emotion.")] = "face,voice",
    split: Annotated[str, typer.Option(help="Compose: the split of these data that is used.")] = "train",
) -> None:
    """SynthEmo: drawn faces, scenes and voices with a known cause for every label, as ordinary mp4 files.

    With --faces or --voices, photographs and recordings replace what is drawn and synthesized; some views are degraded.

    Example: emozoo synth --out drawn --n 14 --seed 1
    Example: emozoo synth --out composed --faces ferplus7:/data/ferplus
    """
    from emozoo.synthemo import Mix, compose, generate

    workers = min(n, os.cpu_count() or 1)
    with progress_bar("drawing") as update:

        def progress(done: int, of: int) -> None:
            update(completed=done, total=of)

        if faces or voices:
            mix = Mix(tuple(v.strip() for v in views.split(",")))
            path = compose(
                out, n, seed, faces=_rows(faces, split), voices=_rows(voices, split), mix=mix, split=split,
                workers=workers, progress=progress,
            )  # fmt: skip
        else:
            path = generate(out, n, seed, workers=workers, progress=progress)
    print(path)


def _rows(sources: list[str] | None, split: str) -> list[Row]:
    """The rows of data sets given as ``DATASET:ROOT`` that belong to a split, or to none."""
    from emozoo.data import datasets

    chosen: list[Row] = []
    for text in sources or ():
        name, colon, root = text.partition(":")
        if not colon:
            raise UsageError(f"'{text}' has no root: write it as DATASET:ROOT, as in folder:/data/my_faces")
        rows = datasets.load(name, root).rows
        of_split = [r for r in rows if r.split in (split, None)]
        if not of_split:
            splits = ", ".join(sorted({str(r.split) for r in rows}))
            raise UsageError(f"{text} has no split '{split}'; there are {splits}")
        chosen += of_split
    return chosen
