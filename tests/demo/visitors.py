"""People and programs that use the web page at once, without browsers: what those send, over plain HTTP."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import httpx
from demo_server import MODEL, Server

TABS = 4  # of the page, by which a file can be sent: the first calls of its interface
SECONDS = 120.0  # after which a request counts as not answered


def contents(folder: Path | None) -> set[str]:
    """The files below a folder that hold anything."""
    found = () if folder is None else folder.rglob("*")
    return {str(path.relative_to(folder)) for path in found if path.is_file() and path.stat().st_size}


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
        """The HTML of the result, or the text of the error, once it is there."""
        with self.web.stream("GET", "queue/data", params={"session_hash": self.session}) as lines:
            for line in lines.iter_lines():
                if line.startswith("data:") and (message := json.loads(line[5:]))["msg"] == "process_completed":
                    output = message["output"]
                    return str(output["data"][0] if message["success"] else output["error"])
        raise EOFError("the server ended the connection without an answer")

    def predict(self, path: Path, name: str | None = None) -> str:
        """Uploads a file and presses Predict; returns the HTML of the result, or the line why there is none."""
        sent = self.upload(path, name)
        if sent.status_code != 200:
            return sent.text
        joined = self.join(sent.json()[0])
        return self.shown() if joined.status_code == 200 else str(joined.json()["detail"])

    def ask(self, path: Path) -> dict[str, Any] | str:
        """Uploads a file and asks for its prediction as programs do; returns the line where there is none."""
        sent = self.upload(path)
        if sent.status_code != 200:
            return sent.text
        joined = self.web.post("call/predict", json={"data": [_file(sent.json()[0]), MODEL]})
        if joined.status_code != 200:
            return str(joined.json()["detail"])
        reply = self.web.get(f"call/predict/{joined.json()['event_id']}").text
        last = json.loads(reply[reply.rindex("\ndata:") + 6 :])
        return last["error"] if isinstance(last, dict) else last[0]


def _file(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}
