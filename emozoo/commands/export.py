"""``emozoo export``: a model as one file that runs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emozoo.commands.shared import Prior, check_name


def export(
    name: Annotated[
        str, typer.Argument(help="A name from `emozoo list`, a weights folder, or hf://ORG/NAME@REVISION.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The file that is written; default: <name of the weights>.onnx.")
    ] = None,
    format: Annotated[str, typer.Option(help="onnx is the only one there is.")] = "onnx",
    prior: Prior = None,
    int8: Annotated[bool, typer.Option("--int8", help="Store weights as int8: about a quarter of the size.")] = False,
) -> None:
    """Write a model as a file for onnxruntime, and compare its outputs with torch's. Needs: pip install 'emozoo[onnx]'.

    Example: emozoo export ceflnet --format onnx --out ceflnet.onnx
    """
    check_name(name)
    from emozoo.export import export as write

    done = write(name, out, format=format, prior=prior, int8=int8)
    print(f"{done.path}: {done.about['name']}, {done.size / 1e6:.1f} MB, prior {done.about['prior']}")
    for word in ("inputs", "outputs"):
        shapes = (f"{key} ({', '.join(map(str, shape))})" for key, shape in done.about[word].items())
        print(f"  {word}: {', '.join(shapes)}")
    seen = " and ".join(filter(None, [done.clip, "random inputs"]))
    print(f"  largest difference between onnxruntime and torch, on {seen}: {done.difference:.1e}")
    if done.int8_difference is not None:
        print(f"  with int8 weights, on {done.clip or seen}: {done.int8_difference:.1e}")
