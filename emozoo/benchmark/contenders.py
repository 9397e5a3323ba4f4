"""The contenders of a benchmark: a model, and the controls that it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emozoo import registry
from emozoo.benchmark import controls
from emozoo.errors import UsageError
from emozoo.module import EmotionModule
from emozoo.zoo import load


@dataclass(frozen=True)
class Contender:
    """A network, and the input ``control`` under which it predicts; None = it gets its whole input."""

    module: EmotionModule
    control: str | None = None

    @property
    def control_name(self) -> str | None:
        """The ``control`` of its record: that of the input, else, for weights of a retrained control, their own."""
        return self.control or self.module.config.get("control")


def contenders_of(name: str, control: str | Sequence[str] | None) -> list[Contender]:
    """The model ``name``, then the controls that were asked for. Raises UsageError for a control that it lacks."""
    wanted = [control] if isinstance(control, str) else list(control or ())
    model = load(name)
    found = [Contender(model)]
    for one in wanted:
        if one == "inputs":
            found += [Contender(model, c) for c in controls.of(model.spec)]
        elif one in controls.INPUT_CONTROLS:
            controls.check(model.spec, one, model.name)
            found.append(Contender(model, one))
        else:
            found += [Contender(load(n)) for n in controls_of(name, one)]
    for other in found[1:]:
        if other.module.spec != model.spec or other.module.classes != model.classes:
            raise UsageError(
                f"{other.module.name} is no paired control of {model.name}: its clips or classes are different ones"
            )
    return found


def controls_of(name: str, control: str | None) -> list[str]:
    """Full names of the retrained controls of a model: all, or the one that lacks ``control``; none without one."""
    if control is None:
        return []
    try:
        entry = registry.resolve(str(name))[1]
    except UsageError:
        entry = None  # a folder of weights has no published controls
    full = entry.name if entry else str(name)
    found = {
        w.name: str(w.config.get("control")) for w in registry.weights().values() if w.config.get("control_of") == full
    }
    if control == "all":
        return list(found)
    names = [n for n, what in found.items() if control in (what, n)]
    if not names:
        there = ", ".join(f"'{c}'" for c in (*found.values(), *controls.INPUT_CONTROLS))
        raise UsageError(f"{full} has no control '{control}'; there are {there}")
    return names
