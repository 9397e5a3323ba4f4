"""docs/tutorials: a reader who does what they say, in order, in an empty folder, sees what they show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from page_code import ROOT, blocks, run, shows

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


LONG = ("benchmark", "finetune")


@pytest.mark.parametrize(
    "page", [pytest.param(p, id=p.stem, marks=pytest.mark.slow(30) if p.stem in LONG else ()) for p in TUTORIALS]
)
def test_a_tutorial(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects newcomers: every block of the page runs, in order, and prints what the page shows below it.

    ``…`` in a page stands for anything in its line, alone for any lines. A ``text`` block after something that prints
    nothing is an example, not output.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMOZOO_HOME", str(tmp_path / "home"))
    names: dict[str, Any] = {}
    printed = ""
    for block in blocks(page):
        if block.language == "text":
            assert not printed or shows(printed, block.text), f"printed:\n{printed}\nshown:\n{block.text}"
        printed = run(block, tmp_path, names)


def test_what_a_page_shows() -> None:
    """Protects the check of tutorials: only what a page leaves open may differ."""
    assert shows("a.mp4: anger 0.93; 2.4 s  \n", "a.mp4: anger …; 2.4 s\n")
    assert shows("one\ntwo\nthree\n", "one\n…\nthree\n…\n")
    assert not shows("a.mp4: fear 0.93; 2.4 s\n", "a.mp4: anger …; 2.4 s\n")
    assert not shows("one\ntwo\n", "one\n")
    assert not shows("one\ntwo\n", "one…\n")
