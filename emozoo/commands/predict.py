"""``emozoo predict``: emotions in files, on stdout and in a folder of results."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from emozoo.commands.shared import DETECTOR_HELP, DEVICE_HELP, Prior, bug_text, check_name, note, progress_bar
from emozoo.errors import EmozooError, UsageError, VideoError

if TYPE_CHECKING:
    from emozoo.data.find import Item
    from emozoo.inference import Prediction
    from emozoo.prediction import MediaPath


class _Results(NamedTuple):
    """What is written: the folder, JSON on stdout, and the kinds of files."""

    out: Path | None
    json_lines: bool
    csv: bool
    plot: bool
    video: bool

    @property
    def json_files(self) -> bool:
        return self.json_lines or not (self.csv or self.plot or self.video)


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
    prior: Prior = None,
    min_confidence: Annotated[
        float, typer.Option(help="Leave a label out (null) if its probability is lower; scores stay.")
    ] = 0.0,
    detector: Annotated[str | None, typer.Option(help=DETECTOR_HELP)] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
) -> int:
    """Predict the emotion in videos, audio files and images: a result for each file, a timeline for each face.

    A folder stands for all media files in it. Exit code 1: some file could not be read, or its results not written.

    Example: emozoo predict clip.mp4 --model ceflnet --out results --csv --plot
    """
    if out is None and (as_csv or plot or video):
        raise UsageError("--csv, --plot and --video write files: give their folder with --out DIR")
    check_name(model)
    if out is not None:
        _check_writable(out)
    from emozoo import inference
    from emozoo.data.find import find_media, one_line

    items = find_media(paths)
    predictor = inference.Predictor(
        model, every=every, prior=prior, min_confidence=min_confidence, detector=detector, device=device
    )
    results = _Results(out, as_json, as_csv, plot, video)
    failures = 0

    def failed(file: MediaPath, error: Exception) -> Prediction:
        """For a bug, in our code or in the network: the other files are still predicted."""
        if context.obj:
            raise error
        return predictor.failed(file, "internal", bug_text(error))

    with progress_bar("predict") as update:
        update(total=len(items))

        def progress(number: int, fraction: float) -> None:
            update(completed=number + 0.9 * fraction)  # the rest is for writing

        predictions = predictor.predict_all([item.path for item in items], progress, failed)
        for number, item in enumerate(items):
            update(description=one_line(item.path.name))
            failures += not _show(next(predictions), item, results, debug=context.obj)
            update(completed=number + 1)
    return 1 if failures else 0


def _show(prediction: Prediction, item: Item, results: _Results, *, debug: bool) -> bool:
    """Prints and writes the result of a file; returns whether all of it worked."""
    from emozoo.data.find import one_line

    if prediction.error:
        note(f"error: {one_line(prediction.file)}: {prediction.error['text']}")
    if results.json_lines:
        print(prediction.to_json(), flush=True)
    elif not prediction.error:
        print(prediction.summary(), flush=True)
    written = True
    if results.out is not None:
        try:
            write_results(prediction, results.out / item.name, results)
        except Exception as error:  # such as a full disk; results of other files may still be written
            if debug:
                raise
            why = error.strerror if isinstance(error, OSError) and error.strerror else bug_text(error)
            note(f"error: {one_line(prediction.file)}: results were not written ({why})")
            written = False
        _note_long_name(item, prediction.file)
    return written and not prediction.error


def write_results(prediction: Prediction, stem: Path, results: _Results) -> None:
    """Writes the files asked for. A prediction with an error is written as JSON alone."""
    from emozoo.data.find import is_ours, one_line
    from emozoo.files import write_atomic

    def target(suffix: str) -> Path:
        """A path that is neither the media file itself nor another file of the user's."""
        path = stem.with_name(stem.name + suffix)
        return stem.with_name(f"{stem.name}.emozoo{suffix}") if path.exists() and not is_ours(path) else path

    stem.parent.mkdir(parents=True, exist_ok=True)
    if results.json_files:
        write_atomic(target(".json"), (prediction.to_json(indent=1) + "\n").encode())
    if prediction.error:
        return
    if results.csv:
        prediction.to_csv(target(".csv"))
    if results.plot and prediction.tracks:
        prediction.plot(target(".png"))
    if results.video:
        try:
            prediction.video(target(".mp4"))
        except VideoError as error:
            note(f"note: no video written for {one_line(str(error))}")


def _note_long_name(item: Item, file: str) -> None:
    from emozoo.data.find import MAX_NAME, one_line

    name = item.path.name
    if len(os.fsencode(name)) > MAX_NAME and not name.startswith(Path(item.name).name):
        note(f"note: {one_line(file)}: the name is long; results are called {item.name}")


def _check_writable(out: Path) -> None:
    """Tries to write into the folder for results before anything is predicted. Raises EmozooError if that fails."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; give a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out) as file:
            file.write(bytes(2**16))
    except OSError as error:
        raise EmozooError(f"--out {out}: cannot be written to ({error.strerror or error})") from error
