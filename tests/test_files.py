"""Writes that leave no half file, and what is there already: folders, links, pipes, devices, open files."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from emozoo import files
from emozoo.errors import EmozooError, UsageError


def test_a_pipe_gets_the_content_and_stays(tmp_path: Path) -> None:
    """Protects `--html PIPE`: the reader gets the whole content, nothing of a write that failed, and it is a pipe."""
    pipe = tmp_path / "pipe.html"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    with suppress(RuntimeError), files.replacing(pipe) as part:
        part.write_bytes(b"half")
        raise RuntimeError
    files.write_atomic(pipe, b"whole" * 50_000)
    reader.join(timeout=20)
    assert got == [b"whole" * 50_000]
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe.html"]


def test_a_pipe_whose_reader_goes_is_an_error(tmp_path: Path) -> None:
    """Protects from a success that nobody has: the command line takes a broken pipe for the end of its own output."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    goes = threading.Timer(0.05, os.close, [reader])
    goes.start()
    with pytest.raises(EmozooError, match="pipe: its reader has gone"):
        files.write_atomic(pipe, bytes(2**20))  # more than a pipe holds
    goes.join()


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    """Protects /dev/null of a machine on which root writes an output there."""
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device.open("wb").close()
    except PermissionError:
        pytest.skip("devices can be made by root alone, where containers let it")
    files.write_atomic(device, b"content")
    assert stat.S_ISCHR(device.lstat().st_mode)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files have no names here")
@pytest.mark.parametrize("link", [True, False], ids=["by a link, as /dev/stdout is one", "by its name"])
def test_an_open_file_gets_the_content_behind_what_it_has(tmp_path: Path, link: bool) -> None:
    """Protects `--html /dev/stdout >> log`: neither the link nor what the log has is lost."""
    log, stdout = tmp_path / "log", tmp_path / "stdout"
    with log.open("ab") as file:
        file.write(b"before, ")
        file.flush()
        name = Path(f"/proc/self/fd/{file.fileno()}")
        stdout.symlink_to(name)
        files.write_atomic(stdout if link else name, b"content")
    assert stdout.is_symlink()
    assert log.read_bytes() == b"before, content"


def test_a_link_to_a_file_is_replaced_itself(tmp_path: Path) -> None:
    """Protects a file that a result's name leads to, such as the media in a folder of links: it is not touched."""
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_bytes(b"mine")
    link.symlink_to(real)
    files.write_atomic(link, b"content")
    assert (real.read_bytes(), link.read_bytes(), link.is_symlink()) == (b"mine", b"content", False)
    broken = tmp_path / "broken.json"
    broken.symlink_to(tmp_path / "nowhere")
    files.write_atomic(broken, b"content")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("write", [files.check_file, lambda path: files.write_atomic(path, b"content")])
def test_a_folder_is_no_file(tmp_path: Path, write: Callable[[Path], None]) -> None:
    """Protects from "IsADirectoryError … .out.lxk5oc7b": a folder in place of a file is named, and nothing is left."""
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError) as error:
        write(tmp_path / "out")
    assert str(error.value) == f"{tmp_path / 'out'}: is a folder; give the name of a file"
    assert [p.name for p in tmp_path.rglob("*")] == ["out"]


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects minutes of work for a file that cannot be: below a file, with too long a name, where nobody may."""
    (tmp_path / "file").write_bytes(b"")
    files.check_file(tmp_path / "new" / "model.onnx")
    files.check_file(tmp_path / "file")
    assert not (tmp_path / "new" / "model.onnx").exists()
    with pytest.raises(EmozooError, match=r"file"):
        files.check_file(tmp_path / "file" / "model.onnx")
    with pytest.raises(EmozooError, match=r"cannot be written \(File name too long\)"):
        files.check_file(tmp_path / ("long" * 100))
    os.mkfifo(tmp_path / "pipe")
    files.check_file(tmp_path / "pipe")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everything
    with pytest.raises(EmozooError, match=r"pipe: cannot be written \(Permission denied\)"):
        files.check_file(tmp_path / "pipe")


def test_a_home_of_nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from "Could not determine home directory.": the variable that is wrong is named."""
    monkeypatch.setenv("EMOZOO_HOME", "~nosuchuser/cache")
    with pytest.raises(UsageError, match="EMOZOO_HOME=~nosuchuser/cache: "):
        files.cache_folder()
