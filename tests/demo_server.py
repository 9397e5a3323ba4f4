"""A server of the web page in a process of its own, for tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODEL = "ceflnet.faces7_v4"


class Server:
    """``emozoo demo`` in a process of its own; its temporary files lie below ``temporary``."""

    def __init__(self, temporary: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.temporary, self.log = temporary, temporary / "log.txt"
        self.address = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "emozoo", "demo", "--no-browser", "--port", str(self.port), "--model", MODEL]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        env |= {"OMP_NUM_THREADS": "1", "TMPDIR": str(temporary), "PYTHONFAULTHANDLER": "1"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        until = time.monotonic() + 120
        while "emozoo demo:" not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"the server did not start:\n{self.log.read_text()}")
            time.sleep(0.1)

    @property
    def folder(self) -> Path | None:
        """Where it puts what is sent and written; None once that is removed."""
        return next(self.temporary.glob("emozoo-demo-*"), None)

    def stop(self) -> int:
        """Ends it as a service manager does; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # it writes what its threads do
            self.process.wait()
            pytest.fail(f"the server did not end:\n{self.log.read_text()}")
