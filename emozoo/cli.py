"""The commands. Whatever is heavy is imported inside the command that needs it.

Exit codes: 0 done; 1 done, but some item failed or a check found something; 2 wrong usage; 3 could not run; 130
interrupted. Results go to stdout; progress, notes and errors to stderr, an error as one line.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emozoo import __version__, registry
from emozoo.errors import EmozooError, UsageError

if TYPE_CHECKING:
    from emozoo.inference import Prediction

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
)
_WrongUsage = typer.BadParameter.__mro__[2]  # click's ClickException, wherever this typer keeps it

AsJson = Annotated[bool, typer.Option("--json", help="Machine output alone on stdout.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")]
Prior = Annotated[str, typer.Option(help="Class prior of the scores: 'train' (as in training) or 'uniform' (removed).")]
Detector = Annotated[
    str | None, typer.Option(help="Face detector in place of the one stored with the weights: cascade, yunet or a YuNet file.")
]


def main() -> int:
    """Runs one command; returns its exit code."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        code = app([a for a in arguments if a != "--debug"], prog_name="emozoo", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except _WrongUsage as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "emozoo")
        return _fail(f"{error.format_message()} (see `{where} --help`)", 2)  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        known = isinstance(error, EmozooError)
        text = str(error) if known else f"{type(error).__name__}: {error} (--debug shows where)"
        return _fail(text, getattr(error, "exit_code", 3) if known else 3)


def _fail(text: str, code: int) -> int:
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    return code


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
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error. Works after any command too.")] = False,
) -> None:
    """Emotion recognition from video: face, scene, sound and time.

    \b
    Example: emozoo predict clip.mp4 --model ceflnet
    """


# -- what there is -------------------------------------------------------------------------------------------------


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Models, wirings, sizes, weights, streams, licences.

    \b
    Example: emozoo list --json
    """
    models = [_model_facts(spec) for spec in registry.MODELS.values()]
    if as_json:
        _print_json({"schema": 1, "models": models})
        return
    for m in models:
        wirings = ", ".join(w + " (default)" * (w == m["default_wiring"]) for w in m["wirings"])
        print(f"{m['name']}: {m['title'].split(': ', 1)[-1]}")
        print(f"  streams {', '.join(m['streams'])} → {', '.join(m['tasks'])}; wirings {wirings}; sizes {', '.join(m['sizes'])}")
        for w in m["weights"]:
            default = "default, " * w["default"]
            print(f"  {w['name']} ({default}{w['size']}, {len(w['classes'])} classes, {w['licence']}): {w['trained_on']}")
        if not m["weights"]:
            print("  no weights yet")


def _model_facts(spec: registry.ModelSpec) -> dict[str, Any]:
    default = registry.resolve(spec.name)[1]
    return {
        "name": spec.name,
        "title": spec.title,
        "paper": spec.paper,
        "tasks": list(spec.tasks),
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
                "licence": w.licence,
                "sha256": w.sha256,
                "trained_on": w.trained_on,
            }
            for w in registry.weights().values()
            if w.arch == spec.name
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
