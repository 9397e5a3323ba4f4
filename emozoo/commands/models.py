"""``emozoo list`` and ``emozoo info``: which models there are, and all about one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from emozoo import catalog
from emozoo.commands.shared import AsJson, print_json


def list_models(
    controls: Annotated[
        bool, typer.Option("--controls", help="Also list controls: weights retrained without the mechanism.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Models with their wirings, sizes, streams, weights and licenses. --json always includes the controls.

    Example: emozoo list --json
    """
    models = catalog.models()
    if as_json:
        print_json({"schema": 1, "models": models})
        return
    for m in models:
        wirings = ", ".join(w + " (default)" * (w == m["default_wiring"]) for w in m["wirings"])
        print(f"{m['name']}: {m['title'].split(': ', 1)[-1]}")
        print(f"  streams {', '.join(m['streams'])} → {', '.join(m['tasks'])}")
        print(f"  wirings {wirings}; sizes {', '.join(m['sizes'])}")
        if m["seen"]:
            print(f"  the default has seen {m['seen']}")
        listed = [w for w in m["weights"] if controls or not w["control_of"]]
        for w in listed:
            print(f"  {_weights_line(w)}")
        if not listed:
            print("  no weights yet")


def _weights_line(w: dict[str, Any]) -> str:
    default = "default, " * w["default"]
    classes = f"{len(w['classes'])} classes, " if w["classes"] else ""
    tasks = " and ".join(w["tasks"])
    control = f"control of {w['control_of']}, " if w["control_of"] else ""
    return f"{w['name']} ({default}{control}{tasks}, {w['size']}, {classes}{w['licence']}): {w['trained_on']}"


def info(
    name: Annotated[str, typer.Argument(help="A model or weights, as `emozoo list` prints them.")],
    wiring: Annotated[str | None, typer.Option(help="Wiring of the untrained architecture.")] = None,
    size: Annotated[str | None, typer.Option(help="'full' or 'lite'.")] = None,
    as_json: AsJson = False,
) -> None:
    """Paper, classes in order, input, parameters, metrics with protocol and n, hash, license, limits.

    Example: emozoo info ceflnet --wiring official --size full --json
    """
    facts = catalog.describe(name, wiring, size)
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        if key in ("trained_on", "material"):  # both are in ``seen``
            continue
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
