"""The model card of weights (``card.md.j2``): what they are, what they were trained on and how."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from emozoo import files, hub, registry
from emozoo.spec import KINDS

_LICENCE = re.compile(r"[A-Za-z0-9][\w.+-]*")
_HUB_LICENCES = {"ODbL-1.0": "odbl"}  # where the hub's name is not the SPDX one in small letters


def card(config: Mapping[str, Any]) -> str:
    """A model card (Markdown, the hub's format) that opens with what the weights were trained on.

    ``config``: the ``config.json`` of the weights. Results stand between markers and are filled in from committed ones
    (``benchmarks/tables.py``).
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    config = _escaped(config)
    spec, licence = registry.model(config["arch"]), config["licence"]
    template = Environment(
        loader=PackageLoader("emozoo", ""), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        undefined=StrictUndefined, autoescape=False,
    ).get_template("card.md.j2")  # fmt: skip
    sources = [s.get("source") for s in config["spec"]["streams"].values()]
    absent = dict.fromkeys(("control_of", "control", "train_seconds", "resumed", "prior"))
    return template.render(
        {
            **absent,
            "selected": "last epoch",
            **config,
            "name": f"{config['arch']}.{config['tag']}" if config["tag"] else config["arch"],
            "licence_id": _HUB_LICENCES.get(licence, licence.lower() if _LICENCE.fullmatch(licence) else "other"),
            "about": f"{spec.title}. {spec.paper}. {spec.note}".strip(),
            "needs_faces": any(KINDS[s].needs_face for s in sources if s in KINDS),
            "recipe_line": _recipe(config),
            "parts": hub.parts(config),
            "versions": ", ".join(f"{k} {v}" for k, v in (config.get("versions") or {}).items()),
            "limits": config.get("limits") or [],
            "seen": registry.seen(config.get("material") or ()),
            "mostly": next(iter(config.get("material") or ()), ""),
            "told": told,
        }
    )


def _escaped(value: Any) -> Any:
    """A config whose texts stand in a page as they are: on one line, without tags of HTML."""
    if isinstance(value, Mapping):
        return {k: _escaped(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_escaped(v) for v in value]
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", " ".join(value.split())) if isinstance(value, str) else value


def _recipe(config: Mapping[str, Any]) -> str:
    """The recipe, and the settings in which these weights were trained otherwise."""
    recipe = config.get("recipe")
    if "settings" not in config:  # written before settings were recorded
        return f"Recipe: `{recipe or 'not recorded'}`."
    if not recipe:
        return "Trained without a recipe; the settings are in `config.json`."
    if config.get("changed") is None:
        return (
            f"Recipe: `{recipe}`, as whoever trained it says; it was not compared with the settings in `config.json`."
        )
    return f"Recipe: `{recipe}`" + (f", changed: {told(config['changed'])}." if config["changed"] else ".")


def told(changes: Mapping[str, Any]) -> str:
    """``model.lr 0.001 → 0.0003, ...`` of changes as ``config.json`` has them, ``{name: [before, after]}``."""
    return ", ".join(f"{name} {_value(old)} → {_value(new)}" for name, (old, new) in changes.items())


def _value(x: Any) -> str:
    text = x if isinstance(x, str) and x else "none" if x is None else json.dumps(x, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}…"


def private(value: Any) -> Any:
    """Settings that may be published: absolute paths are cut to their last name, relative ones stay."""
    if isinstance(value, Mapping):
        return {private(k): private(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [private(v) for v in value]
    if isinstance(value, os.PathLike):
        return private(os.fspath(value))
    if isinstance(value, str) and files.has_controls(value):  # a config holds text alone, names of files may be none
        return private(ascii(value)[1:-1])
    if isinstance(value, str) and re.match(r"/|~|[A-Za-z]:[\\/]|\\\\|file:", value):
        return "…/" + re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
