"""What is known about every model and its weights: the facts that ``emozoo list`` and ``emozoo info`` print."""

from __future__ import annotations

from typing import Any

from emozoo import registry


def tasks_of(spec: registry.ModelSpec) -> list[str]:
    """The tasks of the paper, and those of any of the weights (such as valence and arousal beside classes)."""
    tasks = {*spec.tasks, *(t for w in registry.weights().values() if w.arch == spec.name for t in w.tasks)}
    return [t for t in ("emotion", "va") if t in tasks]


def models() -> list[dict[str, Any]]:
    """Every model with its wirings, sizes, streams and weights, as ``emozoo list --json`` prints them."""
    return [_model(spec) for spec in registry.MODELS.values()]


def _model(spec: registry.ModelSpec) -> dict[str, Any]:
    default = registry.resolve(spec.name)[1]
    return {
        "name": spec.name,
        "title": spec.title,
        "paper": spec.paper,
        "tasks": tasks_of(spec),
        "streams": list(next(iter(spec.specs.values())).streams),
        "wirings": list(spec.wirings),
        "default_wiring": spec.default_wiring,
        "sizes": list(spec.sizes),
        "seen": default.seen if default else None,
        "weights": [
            {
                "name": w.name,
                "default": w == default,
                "wiring": w.wiring,
                "size": w.size,
                "classes": list(w.classes),
                "tasks": list(w.tasks),
                "control_of": w.config.get("control_of"),
                "licence": w.licence,
                "sha256": w.sha256,
                "trained_on": w.trained_on,
                "material": list(w.material),
            }
            for w in registry.weights().values()
            if w.arch == spec.name
        ],
    }


def describe(name: str, wiring: str | None = None, size: str | None = None) -> dict[str, Any]:
    """All facts about weights or an architecture, as ``emozoo info --json`` prints them.

    The name of an architecture stands for its default weights; if these have another wiring or size than the one asked
    for, it stands for the untrained architecture. Raises UnknownModelError, UsageError.
    """
    spec, weights = registry.resolve(name)
    if weights is not None and "." in name:
        registry.check_request(weights, wiring, size)
    elif weights is not None and (wiring not in (None, weights.wiring) or size not in (None, weights.size)):
        weights = None
    from emozoo import load
    from emozoo.models.network import count_parameters

    if weights is None:
        wiring, size = registry.wiring_and_size(spec.name, wiring, size)
        module = load(spec.name, wiring=wiring, size=size, weights=None)
    else:
        module = load(weights.name)
    parameters, backbone_parameters = count_parameters(module.net)
    config = weights.config if weights else {}
    return {
        "name": weights.name if weights else spec.name,
        "title": spec.title,
        "paper": spec.paper,
        "wiring": module.wiring,
        "size": module.size,
        "classes": list(module.classes),
        "tasks": list(module.tasks),
        "parameters": parameters,
        "backbone_parameters": backbone_parameters,
        "sha256": weights.sha256 if weights else None,
        "licence": weights.licence if weights else None,
        "trained_on": weights.trained_on if weights else None,
        "seen": f"{weights.seen} ({weights.trained_on})" if weights else "nothing, untrained",
        "material": list(weights.material) if weights else [],
        "prior": module.prior,
        "metrics": results(weights.name) if weights else [],
        "limits": config.get("limits") or spec.note or None,
        "wirings_missing": [f"{k}: {v}" for k, v in spec.missing.items()],
        "spec": module.spec.to_dict(),
    }


def results(name: str) -> list[dict[str, Any]]:
    """The committed benchmark results of one weights tag, each with its protocol and n."""
    from emozoo.benchmark.leaderboard import committed

    return [
        {
            **{k: row[k] for k in ("dataset", "protocol", "split", "fold", "prior", "control")},
            "n": int(row["n_evaluated"]),
            "values": {k: float(row[k]) for k in ("WAR", "UAR", "F1", "CCC_V", "CCC_A") if row.get(k)},
        }
        for row in committed()
        if row["model"] == name
    ]
