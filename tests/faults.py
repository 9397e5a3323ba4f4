"""A warm process that runs commands of emozoo in forked children, which can be ended at chosen moments.

Importing torch takes seconds, so it is done once: a command in a process of its own costs what it does alone. It has
the caller's environment and folder; libraries that read a variable when they are imported (HF_*) do not see a new one.

A case ends by ``kill -9`` of all its processes, at a time or at a moment of writing: just before the n-th time that the
command opens a file to write, renames, links or removes one; or in the middle of a file, when it has so many bytes.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 120.0  # no case takes longer, unless it hangs
ROOTS_RIGHTS = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: what makes root blind to permissions


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, minus the signal if one ended it; ``hung``: not within its time."""

    code: int
    out: str
    err: str
    seconds: float
    peak_mib: float
    touched: tuple[str, ...] = ()  # what it changed in the watched folder, a name for each moment
    opened: frozenset[str] = frozenset()  # names of files there that it opened to write, hidden ones left out
    hung: bool = False

    def __str__(self) -> str:
        return f"{'hung' if self.hung else f'exit code {self.code}'}, {self.seconds:.1f} s\n{self.err[-3000:]}"


class Running:
    """A command at work, with all its processes in one group."""

    def __init__(self, warm: Warm, pid: int, log: Path) -> None:
        self.warm, self.pid, self.log, self.since = warm, pid, log, time.monotonic()

    def kill(self) -> None:
        """Ends the command and all processes that it started, as ``kill -9`` does."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:  # it was forked at this moment and has no group of its own yet, or it has ended
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def alive(self) -> bool:
        """Whether the command itself is still at work."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"

    def workers(self) -> list[int]:
        """The processes that the command has started itself."""
        return [int(p) for p in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def wait(self, limit_s: float = LIMIT_S) -> Ended:
        """Waits for the end; a command that takes longer than ``limit_s`` is killed, and counts as hung."""
        answer = self.warm.ask({"wait": self.pid}, max(0.0, self.since + limit_s - time.monotonic()))
        if hung := answer is None:
            self.kill()
            answer = self.warm.answer(LIMIT_S)
            assert answer is not None
        seconds, seen = time.monotonic() - self.since, self.log.with_suffix(".json")
        touched, opened = json.loads(_text(seen) or "[[], []]")
        return Ended(
            answer["code"], _text(self.log), _text(self.log.with_suffix(".err")), seconds,
            answer["peak_mib"], tuple(touched), frozenset(opened), hung,
        )  # fmt: skip


def _text(path: Path) -> str:
    """What a command has printed; nothing where it was killed before it began."""
    return path.read_text(errors="replace") if path.is_file() else ""


class Warm:
    """The warm process; ``variables`` are set in it and in all its children."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder, self._count = folder, 0
        own = {"PYTHONPATH": f"{ROOT}", "OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}
        self._variables = own | variables
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | self._variables,
        )  # fmt: skip
        assert self.answer(LIMIT_S) == {"ready": 1}, "one thread: others would be missing after a fork"

    def start(
        self, *argv: object, watch: Path | None = None, moment: int = 0, size: int = 0, permitted: bool = True,
        sent: signal.Signals = signal.SIGKILL, cwd: Path | None = None, **variables: object,
    ) -> Running:  # fmt: skip
        """Starts a command.

        Args:
            argv: as after ``emozoo``.
            watch: the folder in which moments of writing are counted.
            moment: kills all processes at this moment, from 1; ``sent``: the command gets this signal in place of it.
            size: ends the command in the middle of a file that grows to more bytes.
            permitted: False takes the right to ignore permissions, which root has.
            cwd: the working folder; None is the caller's.
            variables: of the environment, beside those of the caller.
        """
        self._count += 1
        log = self.folder / f"{self._count:05d}.out"
        job = {
            "argv": [str(a) for a in argv], "log": str(log), "watch": watch and str(watch), "moment": moment,
            "size": size, "permitted": permitted, "sent": sent,
            "environment": os.environ | self._variables | {k: str(v) for k, v in variables.items()},
            "cwd": str(cwd or Path.cwd()),
        }  # fmt: skip
        answer = self.ask(job, LIMIT_S)
        assert answer is not None
        return Running(self, answer["pid"], log)

    def run(self, *argv: object, **how: Any) -> Ended:
        """Runs a command to its end."""
        return self.start(*argv, **how).wait()

    def ask(self, job: dict[str, Any], limit_s: float) -> dict[str, Any] | None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self.answer(limit_s)

    def answer(self, limit_s: float) -> dict[str, Any] | None:
        """The next line of the warm process; None if it does not come in time."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], limit_s)[0]:
            return None
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the warm process; commands that are at work go on."""
        self._process.kill()
        self._process.wait()


# -- in the warm process -----------------------------------------------------------------------------------------------


def _serve() -> None:
    import albumentations  # noqa: F401  # what commands import when they need it
    import litdata.streaming.writer  # noqa: F401

    import emozoo.cli
    import emozoo.data.prepare
    import emozoo.finetune
    import emozoo.live
    import emozoo.train  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")

    def say(**answer: float) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    say(ready=len(os.listdir("/proc/self/task")))
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            _, status, usage = os.wait4(job["wait"], 0)
            say(code=os.waitstatus_to_exitcode(status), peak_mib=usage.ru_maxrss / 1024)
        elif pid := os.fork():
            say(pid=pid)
        else:
            _run(job)


def _run(job: dict[str, Any]) -> None:
    """Runs a command in a forked process, and ends it."""
    os.setsid()
    for number, suffix in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(Path(job["log"]).with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # processes in the background ignore it
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["cwd"])
    tempfile.tempdir = None  # TMPDIR may be another
    seen = _Seen(job["watch"], job["moment"], job["sent"])
    if not job["permitted"]:
        _heed_permissions()
    if job["size"]:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["size"], resource.RLIM_INFINITY))
    code = 70
    try:
        code = _command(job["argv"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        Path(job["log"]).with_suffix(".json").write_text(json.dumps([seen.touched, sorted(seen.opened)]))
        os._exit(code)


def _command(argv: list[str]) -> int:
    from emozoo import bulk, cli, launch

    launch.STARTED = bulk.STARTED = time.time()
    sys.argv = ["emozoo", *argv]
    return cli.main()


class _Seen:
    """The moments at which this process changes files below a folder; at the ``last`` one it gets a signal."""

    def __init__(self, folder: str | None, last: int, sent: int) -> None:
        self.folder, self.last, self.sent, self.pid = folder, last, sent, os.getpid()
        self.touched, self.opened = list[str](), set[str]()
        if folder is not None:
            sys.addaudithook(self.see)

    def see(self, event: str, args: tuple[Any, ...]) -> None:
        """Called by Python before each event."""
        if event == "open":
            if not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event not in ("os.rename", "os.link", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            return
        paths = [os.fspath(p) for p in args[:2] if isinstance(p, str | os.PathLike)]
        inside = [p.removeprefix(f"{self.folder}/") for p in paths if p.startswith(f"{self.folder}/")]
        if not inside or os.getpid() != self.pid:
            return
        if event == "open" and not hidden(inside[0]):
            self.opened.add(inside[0])
        self.touched.append(inside[-1])
        if len(self.touched) == self.last:
            (os.killpg if self.sent == signal.SIGKILL else os.kill)(self.pid, self.sent)


def hidden(name: str) -> bool:
    """Whether a file or a folder on the way to it has a name that begins with a dot."""
    return any(part.startswith(".") for part in Path(name).parts)


def _heed_permissions() -> None:
    """Takes root's right to ignore the permissions of files (``capset``); for anybody else nothing changes."""
    import ctypes

    class Set(ctypes.Structure):
        _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]

    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (Set * 2)()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.capget(header, sets)
    for right in ROOTS_RIGHTS:
        sets[0].effective &= ~(1 << right)
        sets[0].permitted &= ~(1 << right)
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    _serve()
