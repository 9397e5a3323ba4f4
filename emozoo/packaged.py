"""Where files that travel with the package lie: in an installed wheel, or in the checkout of an editable install."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from emozoo.errors import EmozooError


def folder(name: str) -> Path:
    """The folder ``checkpoints``, ``benchmarks/recipes``, ``benchmarks/results`` or ``benchmarks/leaderboards``.

    Read only: in a wheel it lies in site-packages. Raises :class:`EmozooError` where the installation lacks it.
    """
    package = Path(str(files("emozoo")))  # always a real folder: decord, torch and others do not run from a zip
    for place in (package / "_packaged" / name, package.parent / name):
        if place.is_dir():
            return place
    raise EmozooError(f"this installation has no {name!r} folder beside {package}: install emozoo again from its wheel")
