"""``emozoo predict``: emotions in files, on stdout and in a folder of results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from emozoo import files
from emozoo.commands.predict_output import Kinds, note_long_name, write_results
from emozoo.commands.shared import DETECTOR_HELP, DEVICE_HELP, Prior, bug_text, check_name, note, progress_bar
from emozoo.errors import EmozooError, UsageError
from emozoo.launch import launched, own_device, unshared

if TYPE_CHECKING:
    from emozoo.bulk import Job, Results, Source
    from emozoo.inference import Prediction, Predictor
    from emozoo.prediction import MediaPath, Moment


_FILES = "Files in --out"
_FACES = "Faces and time"


def predict(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Videos, audio files, images, folders of them, patterns such as 'clips/**/*.mp4', s3://BUCKET/DIR, "
            "- for a list on stdin, or 0 for the first camera.",
            show_default=False,
        ),
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
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Write the timelines as <name>.csv.", rich_help_panel=_FILES)
    ] = False,
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw the timelines as <name>.png.", rich_help_panel=_FILES)
    ] = False,
    video: Annotated[
        bool, typer.Option("--video", help="Write the annotated video <name>.mp4.", rich_help_panel=_FILES)
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Draw what the network attended to as <name>.explain.png.", rich_help_panel=_FILES
        ),
    ] = False,
    srt: Annotated[
        bool, typer.Option("--srt", help="Write subtitles for players as <name>.srt.", rich_help_panel=_FILES)
    ] = False,
    elan: Annotated[
        bool, typer.Option("--elan", help="Write a table for ELAN as <name>.elan.txt.", rich_help_panel=_FILES)
    ] = False,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="Write one table of all moments of all files.", rich_help_panel=_FILES)
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Write one page (HTML) about all files.", rich_help_panel=_FILES)
    ] = False,
    every: Annotated[
        float, typer.Option(help="Seconds between entries of the timeline of long media.", rich_help_panel=_FACES)
    ] = 1.0,
    smooth: Annotated[
        float,
        typer.Option(help="Average scores, valence and arousal over so many seconds.", rich_help_panel=_FACES),
    ] = 0.0,
    min_face: Annotated[
        float, typer.Option(help="Leave out faces smaller than so many pixels.", rich_help_panel=_FACES)
    ] = 0.0,
    max_tracks: Annotated[
        int | None,
        typer.Option(
            help="How many faces get a timeline, longest seen first; default: 8.",
            rich_help_panel=_FACES,
            show_default=False,
        ),
    ] = None,
    detector: Annotated[str | None, typer.Option(help=DETECTOR_HELP, rich_help_panel=_FACES)] = None,
    seconds: Annotated[
        float | None, typer.Option(help="How long a camera is watched; default: until Ctrl-C.", show_default=False)
    ] = None,
    prior: Prior = None,
    min_confidence: Annotated[
        float, typer.Option(help="Leave a label out (null) if its probability is lower; scores stay.")
    ] = 0.0,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
) -> int:
    """Predict the emotion in videos, audio files and images: a result for each file, a timeline for each face.

    A folder stands for all media files in it. Exit code 1: some file could not be read, or its results not written.

    Example: emozoo predict clip.mp4 --model ceflnet --out results --csv --plot
    """
    kinds = Kinds(as_json, as_csv, plot, video, explain, srt, elan, parquet, report)
    kinds.check(out)
    rank, world = launched()
    if world > 1 and out is None:
        raise UsageError(f"{world} processes share their work through the folder of results: give it with --out DIR")
    if world > 1 and Path("-") in paths:
        raise UsageError(f"- is a list on stdin, which not all of {world} processes can read: name files or a folder")
    if alone := unshared():
        note(f"note: {alone}")
    check_name(model)
    from emozoo.data.store import is_url

    if out is not None and not is_url(out):
        files.check_writable(out)
    from emozoo import bulk, inference, live

    camera = _camera(paths, seconds, kinds, world)
    sources = (
        [bulk.Source(camera, f"camera_{Path(camera).name}", Path(camera))]
        if camera
        else (bulk.find_sources(paths, out))
    )
    predictor = inference.Predictor(
        model, every=every, prior=prior, min_confidence=min_confidence, smooth=smooth, min_face=min_face,
        max_tracks=max_tracks, detector=detector, device=own_device(device), evidence=explain,
    )  # fmt: skip
    bulk.check_stores(sources, predictor)
    with ExitStack() as stack:
        results = job = None
        if out is not None:
            results = bulk.results_at(out)
            stack.callback(results.close)
            if not camera and (len(sources) > 1 or world > 1 or kinds.together):
                job = bulk.Job(results, sources, [predictor.settings, kinds.files], rank, world)
                stack.callback(job.close)
        run = _Run(predictor, results, kinds, job, debug=bool(context.obj))
        if camera:
            seen = live.predict(predictor, camera, seconds, partial(_show_moments, json_lines=as_json))
            good = run.show(sources[0], seen, Path(f"camera {Path(camera).name}"))
            lost = [w["text"] for w in seen.warnings if w["code"] == "camera_lost"]
            for text in lost:
                note(f"error: {text}")
            return 0 if good and not lost else 1
        update = stack.enter_context(progress_bar("predict")) if rank == 0 else lambda **_: None
        if job is None:
            return 0 if run.predict(sources, update) else 1
        if rank == 0 and job.earlier:
            note(f"{job.earlier} of {len(sources)} files were predicted before; going on with the rest")
        if rank == 0 and (damaged := job.journal.damaged):
            note(f"note: left out of {bulk.WORK}: {damaged} damaged line(s); what they were about is predicted again")
        try:
            run.predict(job.mine, update)
        except KeyboardInterrupt:
            note(f"{job.done} of {len(sources)} files are done: run the same command again to go on with the rest")
            raise
        update(total=len(sources), description="waiting for the other processes")
        again = job.wait(lambda done: update(completed=done), note)
        if rank:
            return 0  # the first process counts the failures of all; launchers end all when one reports a failure
        run.predict(again, update)
        return 0 if job.finish(kinds.parquet, _about(predictor) if kinds.report else None) else 1


def _camera(paths: Sequence[Path], seconds: float | None, kinds: Kinds, world: int) -> str | None:
    """The camera that is meant, if one is. Raises UsageError for what a camera cannot give."""
    from emozoo import live

    cameras = [str(path) for path in paths if live.is_camera(path)]
    if not cameras:
        if seconds is not None:
            raise UsageError("--seconds says how long a camera is watched: give a camera, such as 0")
        return None
    if len(paths) > 1 or world > 1:
        raise UsageError(f"camera {cameras[0]}: give nothing else beside a camera, and one process")
    if kinds.video or kinds.explain or kinds.together:
        raise UsageError("--video, --explain, --parquet and --report need files: a camera leaves none")
    if seconds is not None and not seconds > 0:
        raise UsageError(f"--seconds must be a positive number, got {seconds:g}")
    return cameras[0]


def _show_moments(start: float, moments: Sequence[Moment], json_lines: bool) -> None:
    """A line for an entry of a camera's timeline as it comes; on stderr where stdout is for JSON."""
    from emozoo.prediction import in_words

    main = next(iter(moments), None)
    text = in_words(main.scores, main.label, main.valence, main.arousal) if main else "no prediction"
    faces = sum(moment.box is not None for moment in moments)
    print(
        f"{start:7.1f} s: {text}{f'; {faces} faces' if faces > 1 else ''}",
        flush=True,
        file=sys.stderr if json_lines else sys.stdout,
    )


def _about(predictor: Predictor) -> dict[str, Any]:
    """What the report says about the model."""
    from emozoo import __version__, registry

    config = predictor.module.config
    return {
        "model": predictor.module.name, "sha256": predictor.module.sha256, "version": __version__,
        "detector": predictor.spec.detector if predictor.spec.needs_face else None,
        "trained_on": config.get("trained_on", "nothing"), "seen": registry.seen(config.get("material") or ()),
        "licence": config.get("licence", "not recorded"), "limits": config.get("limits") or [],
        "options": {"every_s": predictor.every, "prior": predictor.prior, **predictor.options},
    }  # fmt: skip


class _Run(NamedTuple):
    """What files are predicted with, and where their results go."""

    predictor: Predictor
    results: Results | None
    kinds: Kinds
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
        note_long_name(source)
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
