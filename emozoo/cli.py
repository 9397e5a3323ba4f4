"""The commands. Whatever is heavy is imported inside the command that needs it.

Exit codes: 0 done; 1 done, but some item failed or a check found something; 2 wrong usage; 3 could not run; 130
interrupted. Results go to stdout; progress, notes and errors to stderr, an error as one line.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emozoo import __version__, registry
from emozoo.errors import EmozooError, UsageError

if TYPE_CHECKING:
    from emozoo.data.manifest import Row
    from emozoo.inference import Prediction

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,  # a traceback with locals would show the hub token
    context_settings={"help_option_names": ["-h", "--help"]},
)
_WrongUsage: Any = typer.BadParameter.__mro__[2]  # click's ClickException, wherever this typer keeps it

AsJson = Annotated[bool, typer.Option("--json", help="Machine output alone on stdout.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")]
Prior = Annotated[str, typer.Option(help="Class prior of the scores: 'train' (as in training) or 'uniform' (removed).")]
Detector = Annotated[
    str | None, typer.Option(help="Face detector instead of the one stored with the weights: cascade or yunet.")
]


def main() -> int:
    """Runs one command; returns its exit code."""
    debug = "--debug" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "--debug"] or ["--help"]
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names of files may be no text
    if debug:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("emozoo").setLevel(logging.DEBUG)  # causes of what is one line in a result
    if not debug and not sys.warnoptions:
        warnings.simplefilter("ignore")  # those of libraries; ours are part of results
    try:
        code: int | None
        match arguments:  # short answers at once: parsing through typer imports pydantic where it is installed
            case ["list"] | ["list", "--json"]:
                code = list_("--json" in arguments)
            case ["leaderboard", name] | ["leaderboard", name, "--json"] if name[:1] != "-":
                code = leaderboard(name, "--json" in arguments)
            case _:
                code = app(arguments, prog_name="emozoo", standalone_mode=False, obj=debug)
        if code == 130:
            _note("interrupted")
        sys.stdout.flush()
        return int(code or 0)
    except _WrongUsage as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "emozoo")
        return _fail(f"{error.format_message()} (see `{where} --help`)", 2)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        known = isinstance(error, EmozooError)
        text = str(error) if known else _bug(error)
        return _fail(text, getattr(error, "exit_code", 3) if known else 3)


def _fail(text: str, code: int) -> int:
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    return code


def _bug(error: Exception) -> str:
    return f"{type(error).__name__}: {error} (--debug shows where)"


def _note(text: str) -> None:
    print(text, file=sys.stderr)


def _print_json(data: Any) -> None:
    print(json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False))


def _version(wanted: bool) -> None:
    if wanted:
        print(f"emozoo {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error. Works after any command too.")
    ] = False,
) -> None:
    """Emotion recognition from video: face, scene, audio and time.

    \b
    Example: emozoo predict clip.mp4 --model ceflnet
    """


# -- what there is -------------------------------------------------------------------------------------------------


@app.command("list")
def list_(as_json: AsJson = False) -> int:
    """Models, wirings, sizes, weights, streams, licences. Retrained controls of benchmarks are in --json alone.

    \b
    Example: emozoo list --json
    """
    models = [_model_facts(spec) for spec in registry.MODELS.values()]
    if as_json:
        _print_json({"schema": 1, "models": models})
        return 0
    for m in models:
        wirings = ", ".join(w + " (default)" * (w == m["default_wiring"]) for w in m["wirings"])
        print(f"{m['name']}: {m['title'].split(': ', 1)[-1]}")
        print(f"  streams {', '.join(m['streams'])} → {', '.join(m['tasks'])}")
        print(f"  wirings {wirings}; sizes {', '.join(m['sizes'])}")
        to_use = [w for w in m["weights"] if not w["control_of"]]  # retrained controls stand in --json
        for w in to_use:
            default = "default, " * w["default"]
            classes = f"{len(w['classes'])} classes, " if w["classes"] else ""
            tasks = " and ".join(w["tasks"])
            print(f"  {w['name']} ({default}{tasks}, {w['size']}, {classes}{w['licence']}): {w['trained_on']}")
        if not to_use:
            print("  no weights yet")
    return 0


def _tasks(spec: registry.ModelSpec) -> list[str]:
    """What a model answers: the paper's tasks, and those of any of its weights (valence and arousal beside classes)."""
    own = [*spec.tasks, *(t for w in registry.weights().values() if w.arch == spec.name for t in w.tasks)]
    return [t for t in ("emotion", "va") if t in own]


def _model_facts(spec: registry.ModelSpec) -> dict[str, Any]:
    default = registry.resolve(spec.name)[1]
    return {
        "name": spec.name,
        "title": spec.title,
        "paper": spec.paper,
        "tasks": _tasks(spec),
        "streams": list(next(iter(spec.specs.values())).streams),
        "wirings": list(spec.wirings),
        "default_wiring": spec.default_wiring,
        "sizes": list(spec.sizes),
        "weights": [
            {
                "name": w.name,
                "default": w == default,
                "wiring": w.wiring,
                "size": w.size,
                "classes": list(w.classes),
                "tasks": list(w.tasks),
                "control_of": w.config.get("control_of"),
                "licence": w.licence,
                "sha256": w.sha256,
                "trained_on": w.trained_on,
            }
            for w in registry.weights().values()
            if w.arch == spec.name
        ],
    }


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="arch or arch.tag, as `emozoo list` prints them.")],
    wiring: Annotated[str | None, typer.Option(help="Wiring of the untrained architecture.")] = None,
    size: Annotated[str | None, typer.Option(help="'full' or 'lite'.")] = None,
    as_json: AsJson = False,
) -> None:
    """Paper, classes in order, input, parameters, metrics with protocol and n, hash, licence, limits.

    \b
    Example: emozoo info ceflnet --wiring official --size full --json
    """
    facts = _facts(name, wiring, size)
    if as_json:
        _print_json(facts)
        return
    for key, value in facts.items():
        if key == "spec":
            for stream, s in value["streams"].items():
                shape = f"{value['clips']} clips of {s['frames']}, {s['size'][0]}x{s['size'][1]}"
                print(f"stream {stream}: {s['source']}, {shape}")
        elif key == "metrics":
            for m in value:
                values = ", ".join(f"{k} {v:.3f}" for k, v in m["values"].items())
                how = f"{m['split'] or m['protocol']}, prior {m['prior']}, n={m['n']}"
                print(f"measured on {m['dataset']} ({how}): {values}")
        elif value not in (None, "", [], {}):
            print(f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}")


def _facts(name: str, wiring: str | None, size: str | None) -> dict[str, Any]:
    """What `info` prints; a bare architecture is untrained where its default weights have another wiring or size."""
    spec, weights = registry.resolve(name)
    if weights is not None and "." in name:
        registry.check_request(weights, wiring, size)
    elif weights is not None and (wiring not in (None, weights.wiring) or size not in (None, weights.size)):
        weights = None
    from emozoo.models.layers import count_parameters
    from emozoo.zoo import load

    if weights is None:
        wiring, size = registry.wiring_and_size(spec.name, wiring, size)
        module = load(spec.name, wiring=wiring, size=size, weights=None)
    else:
        module = load(weights.name)
    parameters, apart = count_parameters(module.net)
    config = weights.config if weights else {}
    return {
        "name": weights.name if weights else spec.name,
        "title": spec.title,
        "paper": spec.paper,
        "wiring": module.wiring,
        "size": module.size,
        "classes": list(module.classes),
        "tasks": list(module.tasks),
        "parameters": parameters,
        "backbone_parameters": apart,
        "sha256": weights.sha256 if weights else None,
        "licence": weights.licence if weights else None,
        "trained_on": weights.trained_on if weights else None,
        "metrics": _results(weights.name) if weights else [],
        "limits": config.get("limits") or spec.note or None,
        "wirings_missing": [f"{k}: {v}" for k, v in spec.missing.items()],
        "spec": module.spec.to_dict(),
    }


def _results(name: str) -> list[dict[str, Any]]:
    """Committed benchmark results of one weights tag: each with its protocol and n."""
    from emozoo.benchmark.leaderboard import committed

    return [
        {
            **{k: row[k] for k in ("dataset", "protocol", "split", "fold", "prior", "control")},
            "n": int(row["n_evaluated"]),
            "values": {k: float(row[k]) for k in ("WAR", "UAR", "F1", "CCC_V", "CCC_A") if row.get(k)},
        }
        for row in committed()
        if row["model"] == name
    ]


# -- asking a model ------------------------------------------------------------------------------------------------


@app.command()
def predict(
    context: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(help="Videos, audio files, images, or folders of them.", show_default=False)
    ],
    model: Annotated[
        str, typer.Option(help="A name from `emozoo list`, a folder made by finetune, or hf://ORG/NAME@REVISION.")
    ] = "ceflnet",
    out: Annotated[
        Path | None, typer.Option(help="Folder for <name>.json, .csv, .png, .mp4; sub-folders are kept.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per file on stdout; <name>.json in --out.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write the timelines as <name>.csv.")] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the timelines as <name>.png.")] = False,
    video: Annotated[bool, typer.Option("--video", help="Write the annotated video <name>.mp4.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between entries of the timeline of long media.")] = 1.0,
    prior: Prior = "train",
    min_confidence: Annotated[
        float, typer.Option(help="Leave a label out (null) where its probability is lower; scores stay.")
    ] = 0.0,
    detector: Detector = None,
    device: Device = "cpu",
) -> int:
    """Emotions in videos, audio files and images: one answer per file, and a timeline per face.

    A folder stands for all media files in it. Exit code 1: some file could not be read or answered.

    \b
    Example: emozoo predict clip.mp4 --model ceflnet --out results --json --csv --plot --video
    """
    if out is None and (as_csv or plot or video):
        raise UsageError("--csv, --plot and --video write files: say where with --out DIR")
    _check_name(model)
    if out is not None:
        _try_folder(out)
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    from emozoo import inference
    from emozoo.data.find import MAX_NAME, find_media, one_line

    items = find_media(paths)
    ask = inference.Predictor(
        model, every=every, prior=prior, min_confidence=min_confidence, detector=detector, device=device
    )
    bad = 0
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    quiet = not console.is_terminal
    with Progress(console=console, disable=quiet, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("predict", total=len(items))
        number = 0

        def progress(share: float) -> None:
            name = escape(one_line(items[number].path.name))
            bar.update(task, completed=number + 0.9 * share, description=name)

        for number, item in enumerate(items):
            try:
                found = ask.about(item.path, progress)
            except Exception as error:  # a bug, of our code or of the network's: the other files are answered
                if context.obj:
                    raise
                found = ask.failed(item.path, "internal", _bug(error))
            failed = found.error is not None
            if found.error:
                _note(f"error: {one_line(found.file)}: {found.error['text']}")
            if as_json:
                print(found.to_json(), flush=True)
            elif not found.error:
                print(_sentence(found), flush=True)
            if out is not None:
                try:
                    _write(found, out / item.name, as_json or not (as_csv or plot or video), as_csv, plot, video)
                except Exception as error:  # a full disk, say; answers of other files may still find a place
                    if context.obj:
                        raise
                    why = error.strerror if isinstance(error, OSError) and error.strerror else _bug(error)
                    _note(f"error: {one_line(found.file)}: results were not written ({why})")
                    failed = True
                long = len(os.fsencode(item.path.name)) > MAX_NAME
                if long and not item.path.name.startswith(Path(item.name).name):
                    _note(f"note: {one_line(found.file)}: the name is long; results are called {item.name}")
            bad += failed
            bar.update(task, completed=number + 1)
    return 1 if bad else 0


def _try_folder(out: Path) -> None:
    """Writes into the folder for results before anything is predicted. Raises EmozooError where that fails."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; give a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out) as file:
            file.write(bytes(2**16))
    except OSError as error:
        raise EmozooError(f"--out {out}: nothing can be written there ({error.strerror or error})") from error


def _check_name(model: str) -> None:
    """Answers a typing error before anything heavy is loaded; what may be a path is left to load()."""
    if "/" not in model and os.sep not in model and not Path(model).exists():
        registry.resolve(model)


def _sentence(found: Prediction) -> str:
    """A prediction for people: one line, and one more for each warning."""
    from emozoo.data.find import one_line

    parts = []
    if found.scores:
        first, *rest = sorted(found.scores, key=found.scores.__getitem__, reverse=True)[:3]
        others = ", ".join(f"{c} {found.scores[c]:.2f}" for c in rest)
        none = "no label: " * (found.label is None)
        parts.append(f"{none}{first} {found.scores[first]:.2f} ({others})")
    if found.valence is not None and found.arousal is not None:
        parts.append(f"valence {found.valence:+.2f}, arousal {found.arousal:+.2f}")
    if not parts:
        parts.append("no answer")
    if found.duration_s:
        parts.append(f"{found.duration_s:.1f} s")
    if len(found.tracks) > 1:
        parts.append(f"{len(found.tracks)} faces")
    if found.streams_used:
        parts.append(f"seen: {', '.join(found.streams_used)}")
    lines = [f"{one_line(found.file)}: {'; '.join(parts)}"]
    return "\n".join(lines + [f"  {w['code']}: {w['text']}" for w in found.warnings])


def _write(found: Prediction, stem: Path, as_json: bool, as_csv: bool, plot: bool, video: bool) -> None:
    """The files asked for. Of a file that could not be read there is only the JSON that says so."""
    from emozoo.data.find import is_ours, one_line
    from emozoo.errors import VideoError
    from emozoo.hub import write_atomic

    def target(suffix: str) -> Path:
        """Never over the media itself, nor another file of the user's, as `--out .` in its own folder would."""
        path = stem.with_name(stem.name + suffix)
        return stem.with_name(f"{stem.name}.emozoo{suffix}") if path.exists() and not is_ours(path) else path

    stem.parent.mkdir(parents=True, exist_ok=True)
    if as_json:
        write_atomic(target(".json"), (found.to_json(indent=1) + "\n").encode())
    if found.error:
        return
    if as_csv:
        found.to_csv(target(".csv"))
    if plot and found.tracks:
        found.plot(target(".png"))
    if video:
        try:
            found.video(target(".mp4"))
        except VideoError as error:
            _note(f"note: no video written for {one_line(str(error))}")


# -- training and measuring ----------------------------------------------------------------------------------------


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def train(context: typer.Context) -> int:
    """Train from a recipe; every argument goes to Lightning's own command line unchanged.

    \b
    Example: emozoo train --config ceflnet__dfew --data.root /data/DFEW --trainer.devices 8
    """
    from emozoo.train import train as run

    return run(context.args)


@app.command()
def finetune(
    name: Annotated[str, typer.Argument(help="The weights to start from.")],
    data: Annotated[Path, typer.Option(help="Folder with a sub-folder per class, or a manifest.csv.")],
    out: Annotated[Path, typer.Option(help="Folder for the result; `predict --model` takes it. Run again to go on.")],
    epochs: Annotated[int | None, typer.Option(help="Passes over the data; default: by the size of the data.")] = None,
    batch_size: Annotated[int, typer.Option(help="Items at a time.")] = 16,
    seed: Annotated[int, typer.Option(help="Same seed, same result on the same machine.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    resume: Annotated[bool, typer.Option(help="Go on from OUT/last.ckpt where it is there.")] = True,
    as_json: AsJson = False,
) -> int:
    """Teach a model your own classes from a folder of class folders or a CSV.

    Exit code 1: it is done, but some items could not be read; they are named and left out.

    \b
    Example: emozoo finetune ceflnet --data my_clips --out my_model
    """
    from emozoo.train import finetune as run

    with redirect_stdout(sys.stderr):  # where progress belongs
        found = run(name, data, out, epochs=epochs, batch_size=batch_size, seed=seed, device=device, resume=resume)
    if as_json:
        _print_json(found)
        return 1 if found["unreadable"] else 0
    seen = f", {found['n_val']} held out" if found["n_val"] else ""
    scores = "".join(f", {k[4:]} {found[k]:.2f}" for k in ("val_WAR", "val_UAR") if found.get(k) is not None)
    print(f"{found['folder']}: {', '.join(found['classes'])}; {found['n_train']} items{seen}{scores}")
    if n := len(found["unreadable"]):
        print(f"{n} item{'s' * (n > 1)} could not be read: {'; '.join(found['unreadable'][:5])}{' …' * (n > 5)}")
    print(f"next: emozoo predict FILE --model {found['folder']}")
    return 1 if found["unreadable"] else 0


@app.command()
def benchmark(
    more: Annotated[list[str] | None, typer.Argument(help="Further models.", hidden=True)] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Weights to score, also 'runs/fold{fold}'; may be given again.")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="folder, csv, ferplus7 …; without: the built-in suite. May be given again.")
    ] = None,
    root: Annotated[list[Path] | None, typer.Option(help="Where each data set lies.")] = None,
    split: Annotated[str | None, typer.Option(help="Part to score; default: test, else val, else every item.")] = None,
    fold: Annotated[
        list[int] | None, typer.Option(help="Items tested in that fold, may be given again; default: all folds.")
    ] = None,
    folds: Annotated[str | None, typer.Option(help="Deal people into that many folds, or 'person': one each.")] = None,
    prior: Annotated[str, typer.Option(help="Class prior in the scores: 'train', 'uniform' or 'both'.")] = "train",
    label_map: Annotated[str | None, typer.Option(help="Named map where data and weights differ in classes.")] = None,
    control: Annotated[
        list[str] | None,
        typer.Option(
            help="Also score retrained controls ('all' or one), or face-only, context-only, shuffled-context, "
            "audio-only, video-only, shuffled-time ('inputs': all of these); may be given again."
        ),
    ] = None,
    compare: Annotated[
        tuple[str, str] | None, typer.Option(help="Two models, or two files of predictions: paired significance.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the records to this file, predictions beside it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for JSON, CSV, Markdown, HTML and predictions.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Measure the committed results again.")] = False,
    submission: Annotated[Path | None, typer.Option(help="With --verify: check this file of records instead.")] = None,
    detector: Detector = None,
    device: Device = "cpu",
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out, and count, unreadable items.")
    ] = False,
) -> int:
    """Score models under a named protocol, with 95 % intervals; without arguments, the built-in suite on drawn clips.

    A run that was interrupted goes on when it is started again. Exit code of --verify: 1 where a number differs, or
    nothing could be verified.

    \b
    Example: emozoo benchmark --dataset folder --root my_clips/val --model ceflnet.faces5 --prior both --out report
    """
    models, sets, roots = [*(model or []), *(more or [])], dataset or [], root or []
    if not sets and (roots or split is not None or fold or folds or label_map or detector or allow_missing):
        raise UsageError(
            "--root, --split, --fold, --folds, --label-map, --detector and --allow-missing need a --dataset"
        )
    if len(sets) != len(roots):
        raise UsageError(
            f"say where {sets[len(roots)] if len(sets) > len(roots) else 'it'} lies: a --root DIR for each"
        )
    if folds is not None and folds != "person" and not (folds.isdigit() and int(folds) > 1):
        raise UsageError(f"--folds takes a number above 1, or 'person', not '{folds}'")
    if submission is not None and not verify:
        raise UsageError("--submission FILE is checked by --verify")
    files = [Path(p) for p in compare or ()]
    of_files = bool(files) and all(p.suffix == ".csv" and p.is_file() for p in files)
    for name in [*models, *(() if of_files or compare is None else compare)]:
        if "{fold}" not in name:
            _check_name(name)
    from emozoo.benchmark import command

    places = list(zip(sets, roots, strict=True))
    if submission is not None:
        return command.verify_submission(submission, json_file)
    if verify:
        return command.verify_committed(models, places, device=device, json_file=json_file)
    if of_files:
        command.compare_files(files[0], files[1], json_file)
        return 0
    command.measure(
        models, places, folds=fold or [None], pair=compare, control=control or [], json_file=json_file, out=out,
        split=split, people=int(folds) if folds and folds.isdigit() else folds, prior=prior, label_map=label_map,
        detector=detector, device=device, allow_missing=allow_missing,
    )  # fmt: skip
    return 0


@app.command()
def leaderboard(
    dataset: Annotated[str, typer.Argument(help="dfew, caer_s, ekman6 …; a wrong name lists all.")],
    as_json: AsJson = False,
) -> int:
    """Published numbers of a data set with their sources, ours beside those of the same protocol.

    \b
    Example: emozoo leaderboard dfew --json
    """
    from emozoo.benchmark import leaderboard as boards

    name = boards.find(dataset)
    if as_json:
        _print_json(boards.to_dict(name))
    else:
        boards.show(name)
    return 0


@app.command()
def check(
    target: Annotated[
        str, typer.Argument(help="A data set name (with --root), a manifest.csv, a folder, or a prepared store.")
    ],
    root: Annotated[Path | None, typer.Option(help="Where the data set lies.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write the report as one self-contained page.")] = None,
    as_json: AsJson = False,
) -> int:
    """Data doctor: unreadable, missing, doubled and leaking items. Exit code 1: something was found.

    \b
    Example: emozoo check folder --root my_clips --html report.html
    """
    from emozoo.data import doctor

    report = doctor.check(target, root)
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(report.to_html(), encoding="utf-8")
    if as_json:
        _print_json(report.to_dict())
    else:
        print(report)
    return 1 if report.findings else 0


@app.command()
def prepare(
    dataset: Annotated[str, typer.Argument(help="A data set name: folder, csv, dfew …")],
    root: Annotated[Path, typer.Option(help="Where the data set lies; nothing is written there.")],
    out: Annotated[
        str | None, typer.Option(help="Folder of the store, or s3://… gs://…; default: prepared/<name of the data>.")
    ] = None,
    spec: Annotated[
        list[str] | None, typer.Option(help="A model that it must serve; may be given again. Default: every model.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0, help="Frames a second to keep; 0 = all.")] = 0.0,
    detector: Detector = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one for each processor.")] = None,
    as_json: AsJson = False,
) -> int:
    """Decode, find faces, crop and resample once, into a store that trains and scores without decoders.

    Run it again after a kill: it goes on where it stopped. Under torchrun, SLURM and the like all processes share the
    work. Exit code 1: some item could not be read; it stays in the store as an error.

    \b
    Example: emozoo prepare folder --root my_clips --out prepared/my_clips --spec ceflnet
    """
    for name in spec or []:
        _check_name(name)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from emozoo.data.prepare import cover_of
    from emozoo.data.prepare import prepare as run

    place = out or str(Path("prepared", root.resolve().name if dataset in ("folder", "csv") else dataset))
    columns = (TextColumn("preparing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with redirect_stdout(sys.stderr), Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        cover = cover_of(spec or [], rate=rate, detector=detector)
        made = run(
            dataset, root, place, cover=cover, workers=workers,
            progress=lambda done, of: bar.update(task, completed=done, total=of),
        )  # fmt: skip
    if made is None:
        return 0  # the process with rank 0 speaks for all
    for file, reason in made.failed:
        _note(f"error: {file}: {reason}")
    if as_json:
        failed = [{"file": file, "reason": reason} for file, reason in made.failed]
        facts = {"store": made.folder, "items": made.items, "content_sha256": made.content_sha256}
        _print_json({"schema": 1, **facts, "failed": failed})
    else:
        bad = f", {len(made.failed)} of them unreadable" if made.failed else ""
        print(f"{made.folder}: {made.items} items{bad}; content sha256 {made.content_sha256[:16]}")
        print(f"next: emozoo check {made.folder}; give it as --root wherever a data set is asked for")
    return 1 if made.failed else 0


@app.command()
def synth(
    out: Annotated[Path, typer.Option(help="Folder for the videos and their manifest.csv.")],
    n: Annotated[int, typer.Option(min=1, help="How many clips.")] = 21,
    seed: Annotated[int, typer.Option(help="Same seed, same pixels.")] = 0,
    faces: Annotated[
        list[str] | None, typer.Option(help="Compose: photographs of faces, as DATASET:ROOT. May be given again.")
    ] = None,
    voices: Annotated[list[str] | None, typer.Option(help="Compose: recordings, as DATASET:ROOT.")] = None,
    views: Annotated[str, typer.Option(help="Compose: views that show the emotion.")] = "face,voice",
    split: Annotated[str, typer.Option(help="Compose: the part of these data that is used.")] = "train",
) -> None:
    """SynthEmo: drawn faces, scenes and voices with a known cause for every label, as ordinary mp4 files.

    With --faces, photographs and recordings take their place, in drawn surroundings; some views are spoilt.

    \b
    Example: emozoo synth --out drawn --n 14 --seed 1
    Example: emozoo synth --out composed --faces ferplus7:/data/ferplus --voices ravdess:/data/ravdess
    """
    from rich.console import Console
    from rich.progress import Progress

    from emozoo.synthemo import Mix, compose, generate

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("drawing", total=n)
        workers = min(n, os.cpu_count() or 1)

        def progress(done: int, of: int) -> None:
            bar.update(task, completed=done)

        if faces or voices:
            mix = Mix(tuple(v.strip() for v in views.split(",")))
            path = compose(
                out, n, seed, faces=_rows(faces, split), voices=_rows(voices, split), mix=mix, split=split,
                workers=workers, progress=progress,
            )  # fmt: skip
        else:
            path = generate(out, n, seed, workers=workers, progress=progress)
    print(path)


def _rows(named: list[str] | None, split: str) -> list[Row]:
    """The rows of data sets given as ``DATASET:ROOT`` that belong to a part, or that know of no parts."""
    from emozoo.data import datasets

    found: list[Row] = []
    for text in named or ():
        name, colon, root = text.partition(":")
        if not colon:
            raise UsageError(f"'{text}' says no place: write it as DATASET:ROOT, as in folder:/data/my_faces")
        rows = datasets.load(name, root).rows
        found += [r for r in rows if r.split in (split, None)]
        if not any(r.split in (split, None) for r in rows):
            raise UsageError(
                f"{text} has no split '{split}'; there are {', '.join(sorted({str(r.split) for r in rows}))}"
            )
    return found


# -- the hub -------------------------------------------------------------------------------------------------------


@app.command()
def download(
    names: Annotated[
        list[str] | None, typer.Argument(help="Weights from `emozoo list`, or hf://ORG/NAME@REVISION.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All weights that `emozoo list` names.")] = False,
    as_json: AsJson = False,
) -> int:
    """Fetch weights now, verify them, and need no network later. What travels with the package is not fetched.

    A private repository needs the environment's HF_TOKEN or `hf auth login`.

    \b
    Example: emozoo download --all
    """
    if bool(names) == everything:
        raise UsageError("say which weights, or --all of them (see `emozoo list`)")
    from emozoo import hub

    wanted = [*(names or []), *(registry.weights() if everything else [])]
    entries = {}
    for name in wanted:
        if not name.startswith(hub.SCHEME):
            entries[name] = registry.resolve(name)[1]
            if entries[name] is None:
                raise UsageError(f"{name} has no weights yet; `emozoo list` shows which there are")
    found: list[dict[str, str | None]] = []
    for name in wanted:
        entry = entries.get(name)
        try:
            folder = hub.locate(entry) if entry else hub.fetch(name)
        except EmozooError as error:
            if len(wanted) == 1:
                raise
            _fail(str(error), 3)
            found.append({"name": entry.name if entry else name, "folder": None})
            continue
        full = entry.name if entry else hub.published_as(folder)
        found.append({"name": full, "folder": str(folder)})
        if not as_json:
            print(f"{full}: {folder}")
    if as_json:
        _print_json({"schema": 1, "weights": found})
    return 0 if all(f["folder"] for f in found) else 1


@app.command()
def push(
    folder: Annotated[Path | None, typer.Argument(help="A folder made by training or finetune.")] = None,
    repo: Annotated[str | None, typer.Option(help="ORG/NAME on the hub; made if it does not exist.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All weights of this package, each as ORG/<name>.")] = False,
    org: Annotated[str | None, typer.Option(help="The account for --all.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make new repositories private.")] = False,
    as_json: AsJson = False,
) -> int:
    """Publish weights, config and model card on the hub, after loading them once; prints the pinned addresses.

    The token comes from the environment's HF_TOKEN or `hf auth login`, never from the command line.

    \b
    Example: emozoo push my_model --repo my-name/my-model
    """
    if everything != (folder is None) or everything != (org is not None) or everything == (repo is not None):
        raise UsageError("write `emozoo push DIR --repo ORG/NAME`, or `emozoo push --all --org ORG`")
    from emozoo import hub
    from emozoo.zoo import load

    if folder is not None and repo is not None:
        jobs = [(folder, repo)]
    else:
        jobs = [(hub.locate(entry), f"{org}/{name}") for name, entry in registry.weights().items()]
    found: list[dict[str, str | None]] = []
    for source, target in jobs:
        try:
            load(source)  # what this package cannot load is not published
            address = hub.push(source, target, private=private)
        except EmozooError as error:
            if len(jobs) == 1:
                raise
            _fail(str(error), 3)
            found.append({"repo": target, "address": None})
            continue
        found.append({"repo": target, "address": address})
        if not as_json:
            print(address, flush=True)
    if as_json:
        _print_json({"schema": 1, "published": found})
    return 0 if all(f["address"] for f in found) else 1


if __name__ == "__main__":
    sys.exit(main())
