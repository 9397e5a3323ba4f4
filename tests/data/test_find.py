"""Which files a pattern or a list stands for, and where results are written beside files of the user's."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from emozoo.data import find
from emozoo.errors import UsageError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(root: Path, pattern: str) -> list[str]:
    return [inside.as_posix() for _, inside in find.matching(root / pattern)]


@pytest.mark.parametrize("pattern", ["**/*.png", "**", "**/**/*.png", "**/s/**/*.png", "*/**/*.png"])
def test_a_pattern_looks_through_no_folder_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    """Protects from patterns that never end: links to the folder itself double the ways at each of forty steps."""
    touch(tmp_path, "s/t/1.png", "s/2.png")
    for place in ("a", "b", "s/up", "s/t/round"):
        (tmp_path / place).symlink_to(tmp_path)
    listing, listed = os.scandir, []

    def scandir(path: object) -> object:
        listed.append(path)
        assert len(listed) < 300
        return listing(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", scandir)
    assert [os.path.realpath(path) for path, _ in find.matching(tmp_path / pattern)] == [
        str(tmp_path.resolve() / "s" / name) for name in ("2.png", "t/1.png")
    ]


def test_what_patterns_stand_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects patterns as a shell reads them: hidden files stay out, ``**`` is any number of folders, also none, and
    a folder that matches stands for its media; names with brackets are names."""
    touch(tmp_path, "d/1.png", "d/.h/2.png", "d/.3.png", "d/e/4.png", "d/e/f/5.mp4", "d/__MACOSX/6.png", "d/e/7.txt")
    touch(tmp_path, "x [1]/8.png", "x [1]/y/9.png")
    expected = {
        "d/**/*.png": ["1.png", "e/4.png"],
        "d/**": ["1.png", "e/4.png", "e/f/5.mp4"],
        "d/*/**": ["e/4.png", "e/f/5.mp4"],
        "d/**/f": ["e/f/5.mp4"],
        "d/**/e/*": ["e/4.png", "e/f/5.mp4"],
        "d/**/[0-4].*": ["1.png", "e/4.png"],
        "*/**/*.png": ["d/1.png", "d/e/4.png", "x [1]/8.png", "x [1]/y/9.png"],
        "x [[]1]/**/*.png": ["8.png", "y/9.png"],
    }
    for pattern, inside in expected.items():
        assert found(tmp_path, pattern) == [f"x [1]/{n}" if pattern.startswith("x") else n for n in inside], pattern
    monkeypatch.chdir(tmp_path)
    assert [str(path) for path, _ in find.matching(Path("**/*.mp4"))] == ["d/e/f/5.mp4"]
    for pattern in ("d/**/*.gif", "nowhere/**/*.png"):
        with pytest.raises(UsageError, match="no media file matches this pattern"):
            find.matching(Path(pattern))


def test_a_folder_that_a_pattern_cannot_list_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Protects the other files of a pattern from a folder without permission, which is named."""
    touch(tmp_path, "a.png", "closed/b.png", "c/d.png")
    listing = os.scandir

    def scandir(path: object) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", scandir)
    for pattern in ("**/*.png", "*/**/*.png"):
        assert "c/d.png" in found(tmp_path, pattern)
        assert "closed: cannot be listed (Permission denied); passed over" in caplog.text
        caplog.clear()


def test_results_never_replace_media(tmp_path: Path) -> None:
    """Protects a user's files from results, whatever they are called; a result of ours is written over by the next."""
    mine = ["x.json", "x.emozoo.json", "x.emozoo-2.json"]
    for name in mine:
        (tmp_path / name).write_text("[]")
    for _ in range(2):
        path = find.result_path(tmp_path / "x", ".json")
        assert path.name == "x.emozoo-3.json"
        path.write_text('{"schema": 1, "file": "x.mp4"}')
    assert all((tmp_path / name).read_text() == "[]" for name in mine)
    (tmp_path / "y.mp4").write_bytes(b"mine")
    (tmp_path / "y.emozoo.mp4").write_bytes(b"mine, too")
    assert find.result_path(tmp_path / "y", ".mp4").name == "y.emozoo-2.mp4"


@pytest.mark.parametrize("between", ["\n", "\r\n", "\0"])
def test_a_list_may_begin_with_a_mark(between: str) -> None:
    """Protects the first path of a list that Windows wrote, with a byte order mark before it."""
    names = ["a b.mp4", "ü.mp4"]
    assert find.read_list(io.BytesIO(between.join(["\ufeff" + names[0], names[1], ""]).encode())) == [*map(Path, names)]
    assert find.read_list(io.BytesIO("a b.mp4\r\n".encode("utf-16"))) == [Path("a b.mp4")]
