"""A small model hub on 127.0.0.1 that speaks the protocol of huggingface_hub, for tests without network.

It does what the public one does for model repositories: create, upload (git LFS, small files inline), commit, resolve
revisions, redirect large files to another host that must not see the token, serve ranges, hide private repositories.
It does not speak Xet, so clients set ``HF_HUB_DISABLE_XET=1``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_QmFzZTY0aXNub3RhbmFuc3dlcg"
LICENCES = ("apache-2.0", "mit", "cc-by-nc-sa-4.0", "cc-by-4.0", "other")


@dataclass
class Repository:
    """Commits by hash, each a whole tree; ``branches`` name the last."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes]) -> str:
        """A new commit on main with these files over the ones before; its hash."""
        tree = {**self.commits.get(self.branches.get("main", ""), {}), **files}
        seed = json.dumps([len(self.commits), sorted((k, _sha256(v)) for k, v in tree.items())])
        name = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[name], self.branches["main"] = tree, name
        return name

    def tree(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        name = self.branches.get(revision, revision)
        return (name, self.commits[name]) if name in self.commits else None


class Hub:
    """A context manager; ``url`` is what ``HF_ENDPOINT`` wants.

    ``requests`` has every request as ``METHOD path``; ``ranges`` what was asked of large files. ``cut`` = bytes of a
    large file after which the connection breaks, once; ``stall`` = bytes after which it stands still until
    ``release``; ``spoil`` changes one byte of every large file; ``status`` answers everything with that status.
    ``answer`` = the JSON that every question about a repository gets; ``endless`` = the bytes that are sent of a small
    file, however few were announced.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.ranges: list[str | None] = []
        self.tokens_off_hub: list[str] = []
        self.cut: int | None = None
        self.stall: int | None = None
        self.stalled, self.release = threading.Event(), threading.Event()
        self.spoil = False
        self.status: int | None = None
        self.answer: object = None
        self.endless = 0
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self.elsewhere = f"http://localhost:{self.port}"  # another host name: the store of large files

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    def forget_requests(self) -> None:
        self.requests.clear()
        self.ranges.clear()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def do_PUT(self) -> None:
        self._route()

    # -- answers ---------------------------------------------------------------------------------------------------

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, data: object, status: int = 200) -> None:
        self._send(status, json.dumps(data).encode(), Content_Type="application/json")

    def _refuse(self, status: int, code: str) -> None:
        # Servers may repeat what they were sent; a client that prints this would print the token.
        self._send(status, b"{}", X_Error_Code=code, X_Error_Message=f"{code} for {self.headers['Authorization']}")

    # -- requests --------------------------------------------------------------------------------------------------

    def _route(self) -> None:
        hub, path = self.server_hub, unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.token_is_right = self.headers["Authorization"] == f"Bearer {TOKEN}"
        if hub.status is not None:
            return self._send(hub.status)
        if hub.answer is not None and path.startswith("/api/"):
            return self._json(hub.answer)
        for pattern, answer in (
            (r"/api/repos/create", self._create),
            (r"/api/validate-yaml", self._validate),
            (r"/api/models/([^/]+/[^/]+)/preupload/(.+)", self._preupload),
            (r"/api/models/([^/]+/[^/]+)/commit/(.+)", self._commit),
            (r"/api/models/([^/]+/[^/]+)/paths-info/(.+)", self._paths),
            (r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", self._tree),
            (r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self._info),
            (r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self._batch),
            (r"/store/([0-9a-f]{64})", self._store),
            (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._resolve),
        ):
            found = re.fullmatch(pattern, path)
            if found:
                return answer(body, *found.groups())
        return self._refuse(404, "NotFound")

    def _repository(self, name: str, *, write: bool = False) -> Repository | None:
        repo = self.server_hub.repositories.get(name)
        if repo is None or ((repo.private or write) and not self.token_is_right):
            self._refuse(404 if self.token_is_right else 401, "RepoNotFound")
            return None
        return repo

    def _create(self, body: bytes) -> None:
        if not self.token_is_right:
            return self._refuse(401, "Unauthorized")
        asked = json.loads(body)
        name, private = f"{asked['organization']}/{asked['name']}", asked.get("visibility") == "private"
        there = name in self.server_hub.repositories
        if not there:
            self.server_hub.repositories[name] = Repository(private or bool(asked.get("private")))
            self.server_hub.repositories[name].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        return self._json({"url": f"{self.server_hub.url}/{name}"}, 409 if there else 200)

    def _validate(self, body: bytes) -> None:
        found = re.match(r"---\n.*?^license: (\S+)$.*?\n---\n", json.loads(body)["content"], re.DOTALL | re.MULTILINE)
        good = found is not None and found[1] in LICENCES
        self._json(
            {"errors": [] if good else [{"message": "license must be one of the known ones"}]}, 200 if good else 400
        )

    def _preupload(self, body: bytes, name: str, revision: str) -> None:
        repo = self._repository(name, write=True)
        if repo is None:
            return
        tree = (repo.tree(revision) or ("", {}))[1]
        files = []
        for file in json.loads(body)["files"]:
            path, old = file["path"], tree.get(file["path"])
            large = path.endswith(".safetensors")
            oid = None if old is None else _sha256(old) if large else _git(old)
            files.append({"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid})
        self._json({"files": files})

    def _batch(self, body: bytes, name: str) -> None:
        if self._repository(name, write=True) is None:
            return
        objects = []
        for o in json.loads(body)["objects"]:
            upload = {"upload": {"href": f"{self.server_hub.elsewhere}/store/{o['oid']}"}}
            objects.append({**o, **({} if o["oid"] in self.server_hub.large else {"actions": upload})})
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, body: bytes, name: str, revision: str) -> None:
        repo = self._repository(name, write=True)
        if repo is None:
            return
        files = {}
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.server_hub.large[value["oid"]]
        oid = repo.commit(files)
        self._json({"commitUrl": f"{self.server_hub.url}/{name}/commit/{oid}", "commitOid": oid})

    def _paths(self, body: bytes, name: str, revision: str) -> None:
        repo = self._repository(name)
        if repo is not None:
            tree = (repo.tree(revision) or ("", {}))[1]
            self._json([_listed(path, tree[path]) for path in parse_qs(body.decode())["paths"] if path in tree])

    def _tree(self, body: bytes, name: str, revision: str) -> None:
        repo = self._repository(name)
        if repo is not None:
            found = repo.tree(revision)
            if found is None:
                return self._refuse(404, "RevisionNotFound")
            self._json([_listed(path, data) for path, data in sorted(found[1].items())])
        return None

    def _info(self, body: bytes, name: str, revision: str | None) -> None:
        repo = self._repository(name)
        found = repo.tree(revision or "main") if repo else None
        if found:
            self._json({"id": name, "sha": found[0], "private": repo.private if repo else False})
        elif repo:
            self._refuse(404, "RevisionNotFound")

    def _resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        repo = self._repository(name)
        if repo is None:
            return None
        found = repo.tree(revision)
        if found is None:
            return self._refuse(404, "RevisionNotFound")
        commit, tree = found
        if path not in tree:
            return self._refuse(404, "EntryNotFound")
        data = tree[path]
        if not path.endswith(".safetensors"):
            if self.server_hub.endless and self.command == "GET":
                return self._pour(self.server_hub.endless)
            return self._send(200, data, X_Repo_Commit=commit, ETag=f'"{_git(data)}"')
        oid = _sha256(data)
        self.server_hub.large.setdefault(oid, data)
        return self._send(
            302,
            Location=f"{self.server_hub.elsewhere}/store/{oid}",
            X_Repo_Commit=commit,
            X_Linked_Etag=f'"{oid}"',
            X_Linked_Size=str(len(data)),
        )

    def _pour(self, size: int) -> None:
        """So many spaces, which no length announces."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        with suppress(ConnectionError):
            for _ in range(size >> 20):
                self.wfile.write(b" " * (1 << 20))

    def _store(self, body: bytes, oid: str) -> None:
        """Where large files lie: addressed by their hash, on another host than the hub."""
        hub = self.server_hub
        if self.headers["Authorization"]:
            hub.tokens_off_hub.append(self.path)
        if self.command == "PUT":
            good = _sha256(body) == oid
            if good:
                hub.large[oid] = body
            return self._send(200 if good else 400)
        data = hub.large[oid]
        if hub.spoil:
            data = data[:-1] + bytes([data[-1] ^ 1])
        asked = self.headers["Range"]
        hub.ranges.append(asked)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0  # type: ignore[index]
        part = data[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(part)))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if hub.stall is not None:
            self.wfile.write(part[: hub.stall])
            self.wfile.flush()
            hub.stall = None
            hub.stalled.set()
            hub.release.wait(60)
            self.close_connection = True
        elif hub.cut is not None:
            self.wfile.write(part[: hub.cut])
            hub.cut, self.close_connection = None, True
        else:
            self.wfile.write(part)
        return None


def _listed(path: str, data: bytes) -> dict[str, object]:
    """A file as the hub lists it."""
    lfs = {"lfs": {"oid": _sha256(data), "size": len(data), "pointerSize": 134}}
    large = path.endswith(".safetensors")
    return {"type": "file", "path": path, "size": len(data), "oid": _git(data), **(lfs if large else {})}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _git(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
