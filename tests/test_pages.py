"""What the pages name is there: files, Python names, options of commands and recipes."""

import importlib
import re
from functools import reduce
from itertools import pairwise
from pathlib import Path

import pytest
import typer

import emozoo
from emozoo import recipes
from emozoo.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = ("benchmarks", "checkpoints", "docs", "emozoo", "examples", "tests")
TO_BE_WRITTEN = re.compile(
    r"<|frame_gate|portraits|"  # what the reader of docs/extend.md writes
    r"^benchmarks/submissions$|^docs/_build/|\.ckpt$"  # what commands write
)
pages = pytest.mark.parametrize("page", PAGES, ids=[p.relative_to(ROOT).as_posix() for p in PAGES])


def code(text: str) -> list[str]:
    """The inline code of a page, blocks of code left out."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^(`{3,}).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL))


@pages
def test_links_lead_somewhere(page: Path) -> None:
    """Protects readers from dead links between pages, and from links to headings that were renamed."""
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", text):
        if "://" in target or TO_BE_WRITTEN.search(target):
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"no {target}"
        if anchor:
            heads = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}
            assert anchor in slugs, f"{target} has no heading #{anchor}"


@pages
def test_files_that_are_named_exist(page: Path) -> None:
    """Protects readers from names of files that were moved or deleted."""
    scripts = {p.name for folder in FOLDERS for p in (ROOT / folder).rglob("*.py")}
    for word in code(page.read_text(encoding="utf-8")):
        name = word.removeprefix("python ").split(" ")[0]
        if TO_BE_WRITTEN.search(name):
            continue
        if re.fullmatch(r"[\w.*/-]+", name) and name.partition("/")[0] in FOLDERS and "/" in name.rstrip("/"):
            recipe = recipes.known(name)  # model cards name a recipe as a file
            assert recipe or any(ROOT.glob(name.rstrip("/"))), f"no {name}"
        elif re.fullmatch(r"\w+\.py", name):
            assert name in scripts, f"no {name}"


@pages
def test_python_names_can_be_imported(page: Path) -> None:
    """Protects readers from names of modules, functions and classes that the package does not have."""
    text = page.read_text(encoding="utf-8")
    names = set(re.findall(r"(?<![\w./-])emozoo(?:\.[A-Za-z_]\w*)+", text))
    for module, imported in re.findall(r"^\s*from (emozoo[\w.]*) import ([\w, ]+)$", text, re.MULTILINE):
        names |= {f"{module}.{name.strip()}" for name in imported.split(",")}
    for name in sorted(names):
        if not TO_BE_WRITTEN.search(name):
            assert found(name), f"no {name}"


def test_the_page_on_python_has_every_public_name() -> None:
    """Protects readers of the API page from names that `import emozoo` offers and no page describes."""
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\.\. auto\w+:: emozoo\.(\w+)$", page, re.MULTILINE))
    assert {name for name in emozoo.__all__ if not name.startswith("__")} <= described


def found(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            reduce(getattr, parts[count:], importlib.import_module(".".join(parts[:count])))
        except (ImportError, AttributeError):
            continue
        return True
    return False


@pages
def test_commands_have_the_options_that_are_named(page: Path) -> None:
    """Protects readers from options and recipes that were renamed: a copied command has to run."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [
        *re.findall(r"^ *(?:srun )?(emozoo .*)$", text, re.MULTILINE),
        *re.findall(r"`([^`\n]*emozoo [^`\n]+)`", text),
    ]
    for line in lines:
        words = line[line.index("emozoo ") :].split(" #")[0].split()
        name = words[1]
        if name not in commands:
            assert not re.fullmatch(r"[a-z]+", name) or not line.startswith("emozoo "), f"no command {name}: {line}"
        elif name == "train":
            for recipe in (b for a, b in pairwise(words) if a == "--config"):
                user = recipe.endswith(".yaml") or recipe.isupper() or "frame_gate" in recipe
                assert user or recipes.known(recipe), f"no recipe {recipe}"
        else:
            options = {o for p in commands[name].params for o in (*p.opts, *p.secondary_opts)}
            options |= {"--help", "--debug"}
            for word in words[2:]:
                option = word.strip("[]").partition("=")[0]
                if option.startswith("--"):
                    assert option in options, f"emozoo {name} has no {option}"
