"""An object whose pickle runs code, for tests that nothing opens it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Evil:
    """Makes a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)
