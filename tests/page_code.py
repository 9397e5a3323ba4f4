"""Code in the pages: its blocks, and what happens to a reader who does what they say."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"^(`{3,})(\w+)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code: its language, the name of the file in its first line (None: it is run), its text."""

    language: str
    name: str | None
    text: str


def blocks(page: Path, section: str | None = None) -> list[Block]:
    """The blocks of a page, or of one section of it, in order."""
    text = page.read_text(encoding="utf-8")
    if section is not None:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = []
    for _, language, code in _BLOCK.findall(text):
        name = re.match(r"# ([\w./]+\.\w+)\n", code)
        found.append(Block(language, name and name[1], code))
    assert found, f"{page.name} has no code{f' in a section {section!r}' if section else ''}"
    return found


def run(block: Block, folder: Path, names: dict[str, Any]) -> str:
    """Does what a block says, in the working directory ``folder``; returns what it printed on stdout.

    A block with a name is written to that file, ``sh`` is run by bash, ``python`` in this process with ``names``, which
    it changes. Other blocks are for reading.
    """
    printed = io.StringIO()
    if block.name is not None:
        (folder / block.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / block.name).write_text(block.text, encoding="utf-8")
    elif block.language == "python":
        with redirect_stdout(printed):
            exec(compile(block.text, "block of the page", "exec"), names)
    elif block.language == "sh":
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", block.text], cwd=folder, env=environment(folder),
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{block.text}{done.stdout}{done.stderr}"
        printed.write(done.stdout)
    return printed.getvalue()


def environment(folder: Path) -> dict[str, str]:
    """That of commands: this package and its commands are found, ``folder`` too; nothing is cached elsewhere."""
    path = [str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(path),
        "EMOZOO_HOME": str(folder / "home"),
        "OMP_NUM_THREADS": "1",
    }


def shows(printed: str, expected: str) -> bool:
    """Whether output is what a page shows: ``…`` stands for anything in its line, alone on a line for any lines."""
    lines = [".*".join(map(re.escape, line.split("…"))) + "\n" for line in expected.strip("\n").splitlines()]
    pattern = "".join("(?:.*\n)*?" if line == ".*\n" else line for line in lines)
    tidy = "".join(f"{line.rstrip()}\n" for line in printed.strip("\n").splitlines())
    return re.fullmatch(pattern, tidy) is not None
