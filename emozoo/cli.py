"""The command line: its commands in reading order, and how a run of one ends.

Exit codes: 0 done; 1 done, but some item failed or a check found something; 2 wrong usage; 3 could not run; 130
interrupted; 143 ended by SIGTERM. Results go to stdout; progress, notes and errors to stderr, an error as one line.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from typing import Annotated

import typer

from emozoo import __version__
from emozoo.commands import benchmark, data, demo, export, hub, models, predict, speed, train
from emozoo.commands.shared import bug_text, disk_text, fail, note
from emozoo.errors import EmozooError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",  # groups of options in --help
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("list")(models.list_models)
app.command("info")(models.info)
app.command("predict")(predict.predict)
app.command("demo")(demo.demo)
app.command("train", add_help_option=False, context_settings=train.PASS_ON)(train.train)
app.command("finetune")(train.finetune)
app.command("benchmark")(benchmark.benchmark)
app.command("leaderboard")(benchmark.leaderboard)
app.command("speed")(speed.speed)
app.command("export")(export.export)
app.command("check")(data.check)
app.command("prepare")(data.prepare)
app.command("synth")(data.synth)
app.command("download")(hub.download)
app.command("push")(hub.push)

SHOW = ("list", "info", "leaderboard")  # commands that print and do nothing else


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"emozoo {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error. Works after any command too.")
    ] = False,
) -> None:
    """Emotion recognition from video: face, scene, audio and time.

    Example: emozoo predict clip.mp4 --model ceflnet
    """


def main() -> int:
    """Runs one command; returns its exit code."""
    debug = "--debug" in sys.argv
    _hold_closed_streams()
    if sys.stdout is None:
        return fail("stdout is closed: let it lead somewhere, as > /dev/null does", 3)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # file names may not be text
    if debug:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("emozoo").setLevel(logging.DEBUG)  # tracebacks of errors that results show as one line
    elif not sys.warnoptions:
        warnings.simplefilter("ignore")  # those of libraries; ours are part of results
    try:
        arguments = [a for a in sys.argv[1:] if a != "--debug"] or ["--help"]
        code = app(arguments, prog_name="emozoo", standalone_mode=False, obj=debug)
        if code == 130:  # Typer's, for Ctrl-C
            raise KeyboardInterrupt
        sys.stdout.flush()
        return int(code or 0)
    except typer.TyperException as error:  # wrong usage
        command = getattr(getattr(error, "ctx", None), "command_path", "emozoo")
        return fail(f"{error.format_message()} (see `{command} --help`)", 2)
    except (KeyboardInterrupt, typer.Abort):
        note("interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output closed it, as `head` does, when all was done
        _discard_stdout()
        return 0
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        _discard_stdout()  # Typer's end of a command whose output nobody reads
        if arguments[0] in SHOW or {"-h", "--help"} & set(arguments):
            return 0
        return fail("the reader of the output has gone, and the command ended before it was done", 3)
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, EmozooError):
            return fail(str(error), error.exit_code)
        return fail(disk_text(error) if isinstance(error, OSError) else bug_text(error), 3)


def _hold_closed_streams() -> None:
    """Keeps files from the numbers of closed streams, where libraries print, and notes out of stdout (``2>&-``)."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", errors="backslashreplace")


def _discard_stdout() -> None:
    """Has what is still to be written to stdout go nowhere, where it would be an error once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
