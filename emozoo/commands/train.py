"""``emozoo train`` and ``emozoo finetune``: from a recipe, or from one's own classes."""

from __future__ import annotations

import logging
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from emozoo.commands.shared import AsJson, print_json

# Every argument is left to Lightning's command line, --help included.
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def train(context: typer.Context) -> int:
    """Train from a recipe; every argument goes to Lightning's own command line unchanged.

    Example: emozoo train --config ceflnet__dfew --data.root /data/DFEW
    """
    from emozoo.train import train as run

    return run(context.args)


def finetune(
    name: Annotated[str, typer.Argument(help="The weights to start from.")],
    data: Annotated[Path, typer.Option(help="Folder with a sub-folder per class, or a manifest.csv.")],
    out: Annotated[Path, typer.Option(help="Folder for the result; `predict --model` takes it. Run again to go on.")],
    epochs: Annotated[int | None, typer.Option(help="Passes over the data; default: by the size of the data.")] = None,
    batch_size: Annotated[int, typer.Option(help="Items in a batch.")] = 16,
    seed: Annotated[int, typer.Option(help="Same seed, same result on the same machine.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    resume: Annotated[bool, typer.Option(help="Go on from OUT/last.ckpt if it exists.")] = True,
    export: Annotated[
        str | None, typer.Option(help="Also write OUT/model.onnx, as `emozoo export` does: onnx.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Teach a model your own classes from a folder of class folders or a CSV.

    OUT/report.html says how it went and what to do next.

    Exit code 1: it is done, but some items could not be read; they are named and left out.

    Example: emozoo finetune ceflnet --data my_clips --out my_model
    """
    from emozoo.finetune import finetune as run

    if export is not None:
        from emozoo.export import check_format
        from emozoo.export import export as write
        from emozoo.files import check_file

        check_format(export)  # before hours of training
        if (file := out / f"model.{export}").exists():
            check_file(file)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its list of devices, and its tips
    with redirect_stdout(sys.stderr):  # progress of Lightning
        made = run(name, data, out, epochs=epochs, batch_size=batch_size, seed=seed, device=device, resume=resume)
        if export is not None:
            made["export"] = str(write(made["folder"], Path(made["folder"]) / f"model.{export}", format=export).path)
    unreadable = made["unreadable"]
    if as_json:
        print_json(made)
        return 1 if unreadable else 0
    held_out = f", {made['n_val']} held out" if made["n_val"] else ""
    scores = "".join(f", {k[4:]} {made[k]:.2f}" for k in ("val_WAR", "val_UAR") if made.get(k) is not None)
    print(f"{made['folder']}: {', '.join(made['classes'])}; {made['n_train']} items{held_out}{scores}")
    if n := len(unreadable):
        print(f"{n} item{'s' * (n > 1)} could not be read: {'; '.join(unreadable[:5])}{' …' * (n > 5)}")
    print(f"report: {made['report']}")
    if export is not None:
        print(f"for onnxruntime: {made['export']}")
    print(f"next: emozoo predict FILE --model {made['folder']}")
    return 1 if unreadable else 0
