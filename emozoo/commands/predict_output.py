"""What ``emozoo predict`` writes: the kinds of results, and the files of one prediction."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from emozoo.commands.shared import note
from emozoo.errors import UsageError, VideoError

if TYPE_CHECKING:
    from emozoo.bulk import Source
    from emozoo.inference import Prediction


class Kinds(NamedTuple):
    """What is written: JSON on stdout, kinds of files for each prediction, and kinds for all of them together."""

    json_lines: bool
    csv: bool
    plot: bool
    video: bool
    explain: bool
    srt: bool
    elan: bool
    parquet: bool
    report: bool

    @property
    def json_files(self) -> bool:
        return self.json_lines or not any(self[1:7])

    @property
    def files(self) -> list[bool]:
        """Which files each prediction has."""
        return [self.json_files, *self[1:7]]

    @property
    def together(self) -> bool:
        """Whether there is anything for all files together, even if there is only one."""
        return self.parquet or self.report

    def check(self, out: Path | None) -> None:
        """Raises UsageError for files without a folder, and where the library for them is missing."""
        if out is None and any(self[1:]):
            raise UsageError(
                "--csv, --plot, --video, --explain, --srt, --elan, --parquet and --report write files: give their "
                "folder with --out DIR"
            )
        if self.parquet:
            from emozoo import summary

            summary.check_parquet()


def write_results(prediction: Prediction, stem: Path, kinds: Kinds, media: Path) -> list[Path]:
    """Writes the files asked for; returns their paths. A prediction with an error is written as JSON alone.

    ``media``: the file that was read.
    """
    from emozoo.data.find import one_line, result_path
    from emozoo.files import write_text

    written: list[Path] = []

    def target(suffix: str) -> Path:
        written.append(result_path(stem, suffix))
        return written[-1]

    def optional(what: str, suffix: str, write: Callable[[Path], None]) -> None:
        """A file that not every kind of media can have."""
        try:
            write(target(suffix))
        except VideoError as error:
            written.pop()
            note(f"note: no {what} written for {one_line(prediction.file)}: {error.reason}")

    stem.parent.mkdir(parents=True, exist_ok=True)
    if kinds.json_files:
        write_text(target(".json"), prediction.to_json(indent=1) + "\n")
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
    if kinds.srt:
        optional("subtitles", ".srt", prediction.to_srt)
    if kinds.elan:
        optional("ELAN table", ".elan.txt", prediction.to_elan)
    if kinds.video:
        optional("video", ".mp4", of_media.video)
    return written


def note_long_name(source: Source) -> None:
    """Says what results are called where they have another name than the file."""
    from emozoo.data.find import MAX_NAME, one_line

    name = source.path.name
    if len(os.fsencode(name)) > MAX_NAME and not name.startswith(Path(source.name).name):
        note(f"note: {one_line(source.file)}: the name is long; results are called {source.name}")
