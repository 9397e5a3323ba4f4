"""People with the web page open, many at once, without browsers: what those send, over plain HTTP."""

from __future__ import annotations

import json
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from demo_server import MODEL, Server

TABS = 4  # of the page, by which a file can be sent: the first calls of its interface
SECONDS = 300.0  # after which a request counts as not answered


def contents(folder: Path | None) -> set[str]:
    """The files below a folder that hold anything; it may be at work meanwhile."""
    found = set()
    for at, _, names in os.walk(folder or ""):
        for path in (Path(at, name) for name in names):
            with suppress(FileNotFoundError):
                if path.stat().st_size:
                    found.add(str(path))
    return found


class Visitor:
    """Somebody with the page open, until ``close``."""

    def __init__(self, server: Server) -> None:
        self.web = httpx.Client(base_url=f"{server.address}/gradio_api/", timeout=SECONDS)
        self.session = secrets.token_hex(8)
        self._open = self.web.send(self.web.build_request("GET", f"heartbeat/{self.session}"), stream=True)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self.web.close()

    def upload(self, path: Path, name: str | None = None, field: str = "files") -> httpx.Response:
        with path.open("rb") as file:
            return self.web.post("upload", files={field: (name or path.name, file)})

    def join(self, path: str, tab: int = 0) -> httpx.Response:
        """Presses Predict; ``path``: what the server called the file that was uploaded."""
        body = {"data": [_file(path), MODEL], "fn_index": tab, "session_hash": self.session}
        return self.web.post("queue/join", json=body)

    def shown(self) -> str:
        """The HTML of the result, or the text of the error, once it is there. Raises httpx.TimeoutException."""
        until = time.monotonic() + SECONDS
        with self.web.stream("GET", "queue/data", params={"session_hash": self.session}) as lines:
            for line in lines.iter_lines():
                if line.startswith("data:") and (message := json.loads(line[5:]))["msg"] == "process_completed":
                    output = message["output"]
                    return str(output["data"][0] if message["success"] else output["error"])
                if time.monotonic() > until:
                    raise httpx.ReadTimeout("the queue moves no more")
        raise httpx.RemoteProtocolError("the connection ended without an answer")

    def predict(self, path: Path) -> str:
        """Uploads a file and presses Predict; returns the HTML of the result, or the line why there is none."""
        return self.begin(path) or self.shown()

    def begin(self, path: Path) -> str:
        """Uploads a file and presses Predict; returns the line where it is not taken, empty where it is."""
        sent = self.upload(path)
        if sent.status_code != 200:
            return sent.text
        joined = self.join(sent.json()[0])
        return "" if joined.status_code == 200 else str(joined.json()["detail"])


def _file(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}
