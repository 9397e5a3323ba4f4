"""``emozoo speed``: how fast models are on this machine."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from emozoo.commands.shared import DEVICE_HELP, AsJson, check_name, print_json, progress_bar
from emozoo.registry import MODELS, resolve


def speed(
    names: Annotated[
        list[str] | None, typer.Argument(help="Weights; without any, the defaults of all papers.", show_default=False)
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Clips in a batch, for the throughput.")] = 8,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Throughput, latency, memory, parameters and MACs of models on this machine, from input to prediction.

    Example: emozoo speed ceflnet --json
    """
    chosen = names or [name for name in MODELS if resolve(name)[1] is not None]
    for name in chosen:
        check_name(name)
    from emozoo.speed import measure

    found: list[dict[str, Any]] = []
    with progress_bar("speed") as update:
        update(total=len(chosen))
        for number, name in enumerate(chosen):
            update(description=name, completed=number)
            found.append(measure(name, device, batch))
            if not as_json:
                print(_line(found[-1]), flush=True)
    if as_json:
        print_json({"schema": 1, "models": found})


def _line(m: dict[str, Any]) -> str:
    memory = "not measured" if m["memory_mb"] is None else f"{m['memory_mb']:.0f} MB"
    return (
        f"{m['name']} ({m['device']}, {m['threads']} threads): {m['latency_ms']:.0f} ms a clip, "
        f"{m['clips_per_s']:.1f} clips a second in batches of {m['batch']}, {memory}, "
        f"{m['parameters'] / 1e6:.2f} million parameters, {m['gmacs']:.2f} billion MACs a clip"
    )
