"""The model card: what weights are, what they were trained on and how, as text for readers and for the hub."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from emozoo import hub, registry
from emozoo.spec import KINDS

_HUB_LICENCES = {"ODbL-1.0": "odbl"}  # where the hub's name is not the SPDX one in small letters


def card(config: Mapping[str, Any]) -> str:
    """A model card (Markdown, the hub's format) that opens with what the weights were trained on.

    What was measured stands between markers and is filled in from committed results (``benchmarks/tables.py``).
    """
    name = f"{config['arch']}.{config['tag']}" if config["tag"] else config["arch"]
    spec = registry.model(config["arch"])
    sources = [s.get("source") for s in config["spec"]["streams"].values()]
    looks = any(KINDS[s].needs_face for s in sources if s in KINDS)
    versions = ", ".join(f"{k} {v}" for k, v in (config.get("versions") or {}).items())
    used = ["- Research on and teaching of emotion recognition from video, and the comparison of methods."]
    if config.get("control_of"):
        what = f"{config['control']} instead of the attention of `{config['control_of']}`"
        used = [f"- A control, not a model to use: {what}. It is there so that the difference can be measured."]
    elif config["trained_on"].startswith("composed"):
        used += ["- To see fusion at work on real faces and voices that never met. Not for people who speak."]
    elif config["trained_on"].startswith("synthetic"):
        used += ["- To see a mechanism at work, and to try the whole chain without real data. Not for real people."]
    else:
        used += ["- A first look at one's own recordings, and a start for fine-tuning on one's own classes."]
    lines = [
        "---",
        f"license: {_HUB_LICENCES.get(config['licence'], config['licence'].lower())}",
        *(["license_name: see-training-data"] if config["licence"] == "other" else []),
        "library_name: emozoo",
        "pipeline_tag: video-classification",
        "tags: [emotion-recognition, video]",
        "---",
        f"Trained on {config['trained_on']}.",
        "",
        f"# {name}",
        "",
        f"{spec.title}. {spec.paper}. {spec.note}".strip(),
        "",
        f"- Wiring `{config['wiring']}`, size `{config['size']}`. "
        f"Classes in order: {', '.join(config['classes']) or 'none'}.",
        f"- Answers: {', '.join(config['tasks'])}. Streams: {', '.join(config['spec']['streams'])}."
        + (f" Face detector: `{config['spec']['detector']}`." if looks else ""),
        f'- `emozoo.load("{name}")`; `emozoo predict clip.mp4 --model {name}`.',
        "",
        "## Use",
        "",
        *used,
        "- Not for decisions about people: hiring, education, policing, borders, insurance, health, credit.",
        "- Prohibited in the European Union: inferring emotions of people at work or in education (AI Act, Article "
        "5(1)(f)).",
        "",
        "## Training",
        "",
        *_training(config),
        *(
            f"- Its `{name}` is that of `{part['weights']}` and lies in its file."
            for name, part in hub.parts(config).items()
        ),
        *([f"- Versions: {versions}."] if versions else []),
        "",
        "## Measured",
        "",
        "<!-- generated:card -->",
        "not measured",
        "<!-- /generated -->",
        "",
        "## Limits",
        "",
        *[f"- {x}" for x in config.get("limits") or []],
        "- What was not measured is not known: other detectors, cameras, compression, lighting, languages, age groups "
        "and cultures than those above.",
        "",
        "## Ethics",
        "",
        "- A face, a voice or a scene shows how somebody looks or sounds, not what they feel. Expressions differ "
        "between people, cultures, ages and situations; errors are not spread evenly over them.",
        "- Labels are what onlookers saw, what actors were asked for, or what was drawn. Nothing here was checked "
        "against what anybody felt.",
        "- Film people only with their consent, and tell them what a machine makes of it. Nothing is uploaded: all "
        "runs on the machine that it is started on.",
        "",
    ]
    return "\n".join(lines)


def _training(config: Mapping[str, Any]) -> list[str]:
    """How weights were made, as far as their config says."""
    if config.get("train_seconds") is None:
        return [f"- Data: {config['trained_on']}. How it was trained is not recorded. Weights: {config['licence']}."]
    return [
        f"- Data: {config['trained_on']}; {config['n_train']} items. Weights: {config['licence']}.",
        f"- {config['epochs']} epochs ({config.get('selected', 'last epoch')}), seed {config['seed']}, precision "
        f"{config['precision']}, {config['train_seconds'] / 60:.0f} minutes. {_recipe(config)}",
        *(
            [f"- Went on from a checkpoint of a run with other settings: {told(config['resumed'])}."]
            if config.get("resumed")
            else []
        ),
    ]


def _recipe(config: Mapping[str, Any]) -> str:
    """The recipe, and what of it was changed for these weights."""
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
    """Settings that may be published: of a path on this machine the last name alone; relative ones as given."""
    if isinstance(value, Mapping):
        return {private(k): private(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [private(v) for v in value]
    if isinstance(value, os.PathLike):
        return private(os.fspath(value))
    if isinstance(value, str) and re.match(r"/|~|[A-Za-z]:[\\/]|\\\\|file:", value):
        return "…/" + re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
