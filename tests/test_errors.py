"""Errors are caught as people catch them: by the built-in class, by our own, and from worker processes alike."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from emozoo import files
from emozoo.errors import (
    DatasetError,
    EmozooError,
    ManifestError,
    Terminated,
    UnknownModelError,
    UsageError,
    VideoError,
    WeightsError,
)

ERRORS = [
    (UsageError("no 'x'"), (ValueError,), "no 'x'"),
    (UnknownModelError("no model 'x'; did you mean 'y'?"), (ValueError, KeyError), "no model 'x'; did you mean 'y'?"),
    (VideoError("a/b.mp4", "no such file", "missing"), (OSError,), "a/b.mp4: no such file"),
    (WeightsError("w: sha256 is wrong"), (OSError, ValueError), "w: sha256 is wrong"),
    (DatasetError("d: nothing there"), (FileNotFoundError, ValueError), "d: nothing there"),
    (ManifestError("m.csv", 3, "no label"), (FileNotFoundError, ValueError), "m.csv, line 3: no label"),
]


@pytest.mark.parametrize(("error", "parents", "text"), ERRORS, ids=lambda x: type(x).__name__)
def test_errors_are_also_the_built_in_ones(error: EmozooError, parents: tuple[type, ...], text: str) -> None:
    """Protects ``except ValueError`` and ``except OSError`` around our calls; the text stays one plain line."""
    for parent in (EmozooError, *parents):
        with pytest.raises(parent) as caught:
            raise error
        assert str(caught.value) == text


@pytest.mark.parametrize("kind", [EmozooError, UsageError, UnknownModelError, WeightsError, DatasetError, Terminated])
def test_errors_are_one_line(kind: type[EmozooError]) -> None:
    """Protects logs and scripts: whatever an error quotes (a name, a cell, another error), its text is one line."""
    assert str(kind("a: no '\n'\u2028 and\r\nmore\n")) == r"a: no '\n'\nand\nmore"
    assert str(kind()) == ""


@pytest.mark.parametrize("error", [e for e, *_ in ERRORS], ids=lambda x: type(x).__name__)
def test_errors_cross_processes(error: EmozooError) -> None:
    """Protects workers: an error that is pickled or copied says the same and keeps what it knows."""
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert (type(again), str(again), again.exit_code) == (type(error), str(error), error.exit_code)
        for word in ("path", "reason", "code", "line"):
            assert getattr(again, word, None) == getattr(error, word, None)


def test_a_file_in_place_of_a_folder_is_named_without_options(tmp_path: Path) -> None:
    """Protects whoever calls ``finetune(out=...)`` from Python: the line speaks of the path, not of ``--out``."""
    (tmp_path / "out").touch()
    with pytest.raises(UsageError, match=r"out: is a file; give a folder") as caught:
        files.check_writable(tmp_path / "out")
    assert str(caught.value).startswith(str(tmp_path))
