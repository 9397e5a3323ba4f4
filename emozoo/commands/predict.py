"""``emozoo predict``: emotions in files, on stdout and in a folder of results."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from emozoo.commands.shared import DETECTOR_HELP, DEVICE_HELP, Prior, bug_text, check_name, note, progress_bar
from emozoo.errors import EmozooError, UsageError, VideoError
from emozoo.launch import launched, own_device

if TYPE_CHECKING:
    from emozoo.bulk import Job, Results, Source
    from emozoo.inference import Prediction, Predictor
    from emozoo.prediction import MediaPath


class _Kinds(NamedTuple):
    """What is written: JSON on stdout, and the kinds of files."""

    json_lines: bool
    csv: bool
    plot: bool
    video: bool
    explain: bool

    @property
    def json_files(self) -> bool:
        return self.json_lines or not (self.csv or self.plot or self.video or self.explain)

    @property
    def files(self) -> list[bool]:
        return [self.json_files, self.csv, self.plot, self.video, self.explain]


def predict(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(help="Videos, audio files, images, folders of them, or s3://BUCKET/DIR.", show_default=False),
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
    explain: Annotated[
        bool, typer.Option("--explain", help="Draw what the network attended to as <name>.explain.png.")
    ] = False,
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
    if out is None and (as_csv or plot or video or explain):
        raise UsageError("--csv, --plot, --video and --explain write files: give their folder with --out DIR")
    rank, world = launched()
    if world > 1 and out is None:
        raise UsageError(f"{world} processes share their work through the folder of results: give it with --out DIR")
    check_name(model)
    from emozoo.data.store import is_url

    if out is not None and not is_url(out):
        _check_writable(out)
    from emozoo import bulk, inference

    sources = bulk.find_sources(paths, out)
    predictor = inference.Predictor(
        model, every=every, prior=prior, min_confidence=min_confidence, detector=detector, device=own_device(device),
        evidence=explain,
    )  # fmt: skip
    bulk.check_stores(sources, predictor)
    kinds = _Kinds(as_json, as_csv, plot, video, explain)
    with ExitStack() as stack:
        results = job = None
        if out is not None:
            results = bulk.results_at(out)
            stack.callback(results.close)
            if len(sources) > 1 or world > 1:
                job = bulk.Job(results, sources, [predictor.settings, kinds.files], rank, world)
                stack.callback(job.close)
        run = _Run(predictor, results, kinds, job, debug=bool(context.obj))
        update = stack.enter_context(progress_bar("predict")) if rank == 0 else lambda **_: None
        if job is None:
            return 0 if run.predict(sources, update) else 1
        if rank == 0 and job.earlier:
            note(f"{job.earlier} of {len(sources)} files were predicted before; going on with the rest")
        run.predict(job.mine, update)
        update(total=len(sources), description="waiting for the other processes")
        again = job.wait(lambda done: update(completed=done))
        if rank:
            return 0  # the first process counts the failures of all; launchers end all when one reports a failure
        run.predict(again, update)
        return 0 if job.finish() else 1


class _Run(NamedTuple):
    """What files are predicted with, and where their results go."""

    predictor: Predictor
    results: Results | None
    kinds: _Kinds
    job: Job | None
    debug: bool

    def predict(self, sources: Sequence[Source], update: Callable[..., None]) -> bool:
        """Predicts, prints and writes, in this order; returns whether all of it worked.

        Of files that were predicted before only the JSON lines are printed.
        """
        from emozoo import bulk
        from emozoo.data.find import one_line

        before = self.job.before if self.job else ()
        todo = [source for source in sources if source.name not in before]
        skipped = len(sources) - len(todo)

        def progress(number: int, fraction: float) -> None:
            update(completed=skipped + number + 0.9 * fraction)  # the rest is for writing
            if self.job:
                self.job.journal.alive()

        def failed(file: MediaPath, error: Exception) -> Prediction:
            """For a bug, in our code or in the network: the other files are still predicted."""
            if self.debug:
                raise error
            return self.predictor.failed(file, "internal", bug_text(error))

        good, done = True, skipped
        update(total=len(sources), completed=done)
        with closing(bulk.predictions(self.predictor, todo, progress, failed)) as predictions:
            for source in sources:
                if self.job and source.name in before:
                    if self.kinds.json_lines and (text := self.job.text(source)):
                        print(text, flush=True)
                    continue
                update(description=one_line(source.path.name))
                good &= self.show(source, *next(predictions))
                done += 1
                update(completed=done)
        return good

    def show(self, source: Source, prediction: Prediction, media: Path) -> bool:
        """Prints and writes the result of a file; returns whether all of it worked."""
        from emozoo.data.find import one_line

        if prediction.error:
            note(f"error: {one_line(prediction.file)}: {prediction.error['text']}")
        if self.kinds.json_lines:
            print(prediction.to_json(), flush=True)
        elif not prediction.error:
            print(prediction.summary(), flush=True)
        if self.results is None:
            return not prediction.error
        written: list[str] | None = None
        try:
            stem = self.results.root / source.name
            written = self.results.publish(write_results(prediction, stem, self.kinds, media))
        except Exception as error:  # such as a full disk; results of other files may still be written
            self._not_written(prediction, error)
        try:
            if self.job:
                self.job.note(source, prediction, written)
        except OSError as error:
            self._not_written(prediction, error)
        _note_long_name(source)
        return written is not None and not prediction.error

    def _not_written(self, prediction: Prediction, error: Exception) -> None:
        from emozoo.data.find import one_line

        if self.debug:
            raise error
        if isinstance(error, EmozooError):
            why = str(error)
        else:
            why = error.strerror if isinstance(error, OSError) and error.strerror else bug_text(error)
        note(f"error: {one_line(prediction.file)}: results were not written ({why})")


def write_results(prediction: Prediction, stem: Path, kinds: _Kinds, media: Path) -> list[Path]:
    """Writes the files asked for; returns their paths. A prediction with an error is written as JSON alone.

    ``media``: the file that was read.
    """
    from emozoo.data.find import one_line, result_path
    from emozoo.files import write_atomic

    written: list[Path] = []

    def target(suffix: str) -> Path:
        written.append(result_path(stem, suffix))
        return written[-1]

    stem.parent.mkdir(parents=True, exist_ok=True)
    if kinds.json_files:
        write_atomic(target(".json"), (prediction.to_json(indent=1) + "\n").encode())
    if prediction.error:
        return written
    if kinds.csv:
        prediction.to_csv(target(".csv"))
    of_media = replace(prediction, file=str(media))
    if kinds.plot and prediction.tracks:
        of_media.plot(target(".png"))
    if kinds.explain:
        from emozoo.explain import Explanation

        if prediction.evidence is None:
            note(f"note: nothing to explain in {one_line(prediction.file)}: there is no prediction")
        else:
            Explanation.of(prediction).save(target(".explain.png"))
    if kinds.video:
        try:
            of_media.video(target(".mp4"))
        except VideoError as error:
            written.pop()
            note(f"note: no video written for {one_line(prediction.file)}: {error.reason}")
    return written


def _note_long_name(source: Source) -> None:
    from emozoo.data.find import MAX_NAME, one_line

    name = source.path.name
    if len(os.fsencode(name)) > MAX_NAME and not name.startswith(Path(source.name).name):
        note(f"note: {one_line(source.file)}: the name is long; results are called {source.name}")


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
