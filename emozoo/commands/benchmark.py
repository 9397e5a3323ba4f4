"""``emozoo benchmark`` and ``emozoo leaderboard``: measured and published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emozoo.commands.shared import DETECTOR_HELP, DEVICE_HELP, AsJson, check_name, print_json
from emozoo.errors import UsageError

# Groups of options in --help.
_WHAT, _HOW, _COMPARE, _OUTPUT = "Models and data", "Scoring", "Comparison", "Output"
# What --verify takes: of any other option a user would believe that it did something.
_VERIFY = ("--model", "--dataset", "--root", "--device", "--json")


def benchmark(
    context: typer.Context,
    more: Annotated[list[str] | None, typer.Argument(help="Further models.", hidden=True)] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Weights to score, also 'runs/fold{fold}'; may be given again.", rich_help_panel=_WHAT),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="folder, csv, ferplus7 …; default: the built-in suite. May be given again.", rich_help_panel=_WHAT
        ),
    ] = None,
    root: Annotated[list[Path] | None, typer.Option(help="Folder of each data set.", rich_help_panel=_WHAT)] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Split to score; default: test, else val, else every item.", rich_help_panel=_WHAT),
    ] = None,
    fold: Annotated[
        list[int] | None,
        typer.Option(help="Fold to test on, may be given again; default: all folds.", rich_help_panel=_WHAT),
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option(help="Split people into this many folds, or 'person': one each.", rich_help_panel=_WHAT),
    ] = None,
    label_map: Annotated[
        str | None,
        typer.Option(help="Named map for data whose classes are not those of the weights.", rich_help_panel=_WHAT),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Leave out, and count, unreadable items.", rich_help_panel=_WHAT),
    ] = False,
    prior: Annotated[
        str, typer.Option(help="Class prior in the scores: 'train', 'uniform' or 'both'.", rich_help_panel=_HOW)
    ] = "train",
    detector: Annotated[str | None, typer.Option(help=DETECTOR_HELP, rich_help_panel=_HOW)] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP, rich_help_panel=_HOW)] = "cpu",
    control: Annotated[
        list[str] | None,
        typer.Option(
            help="Also score retrained controls ('all' or one), or face-only, context-only, shuffled-context, "
            "audio-only, video-only, shuffled-time ('inputs': all of these); may be given again.",
            rich_help_panel=_COMPARE,
        ),
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Two models, or two files of predictions: paired significance.", rich_help_panel=_COMPARE),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Measure the committed results again.", rich_help_panel=_COMPARE)
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write the records to this file, predictions beside it.", rich_help_panel=_OUTPUT),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for JSON, CSV, Markdown, HTML and predictions.", rich_help_panel=_OUTPUT),
    ] = None,
) -> int:
    """Score models under a named protocol, with 95 % intervals; without arguments, the built-in suite on drawn clips.

    An interrupted run goes on when it is started again.
    Exit code 1 of --verify: a number differs, or none could be verified.

    Example: emozoo benchmark --dataset folder --root my_clips/val --out report
    """
    models, sets, roots = [*(model or []), *(more or [])], dataset or [], root or []
    files = [Path(p) for p in compare or ()]
    of_files = bool(files) and all(p.suffix == ".csv" and p.is_file() for p in files)
    if verify:
        _refuse_others(context, "--verify", *_VERIFY)
    elif of_files:
        _refuse_others(context, "--compare", "--json", of=" of two files")
    if not sets and (roots or split is not None or fold or folds or label_map or detector or allow_missing):
        raise UsageError(
            "--root, --split, --fold, --folds, --label-map, --detector and --allow-missing need a --dataset"
        )
    if len(sets) != len(roots):
        counts = f"{len(sets)} data sets and {len(roots)} roots"
        raise UsageError(f"give a --root DIR for each --dataset; there are {counts}")
    if folds is not None and folds != "person" and not (folds.isdigit() and int(folds) > 1):
        raise UsageError(f"--folds takes a number above 1, or 'person', not '{folds}'")
    for name in [*models, *(() if of_files or compare is None else compare)]:
        if "{fold}" not in name:
            check_name(name)
    from emozoo.benchmark import command

    sources = list(zip(sets, roots, strict=True))
    if verify:
        return command.verify_committed(models, sources, device=device, json_file=json_file)
    if of_files:
        command.compare_files(files[0], files[1], json_file)
        return 0
    command.measure(
        models, sources, folds=fold or [None], pair=compare, control=control or [], json_file=json_file, out=out,
        split=split, people=int(folds) if folds and folds.isdigit() else folds, prior=prior, label_map=label_map,
        detector=detector, device=device, allow_missing=allow_missing,
    )  # fmt: skip
    return 0


def _refuse_others(context: typer.Context, mode: str, *takes: str, of: str = "") -> None:
    """Raises UsageError where options were given that ``mode``, one of them, does not take."""
    given = []
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            given.append("--model" if parameter.name == "more" else parameter.opts[0])
    if odd := [option for option in dict.fromkeys(given) if option not in (mode, *takes)]:
        raise UsageError(f"{mode}{of} takes no {', '.join(odd)}; it takes {', '.join(takes)} alone")


def leaderboard(
    dataset: Annotated[str, typer.Argument(help="dfew, caer_s, ekman6 …; a wrong name lists all.")],
    as_json: AsJson = False,
) -> None:
    """Published numbers of a data set with their sources, ours beside those of the same protocol.

    Example: emozoo leaderboard dfew --json
    """
    from emozoo.benchmark import leaderboard as boards

    name = boards.find(dataset)
    if as_json:
        print_json(boards.to_dict(name))
    else:
        boards.show(name)
