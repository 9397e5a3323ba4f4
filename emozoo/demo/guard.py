"""What requests may ask of the page's server, and what may be uploaded; everything else is refused in one line."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gradio import route_utils
from gradio.route_utils import API_PREFIX, GradioMultiPartParser, MultiPartException
from starlette.datastructures import FormData
from starlette.requests import Request

from emozoo.data.find import one_line
from emozoo.data.manifest import MEDIA
from emozoo.demo.service import MAX_MB
from emozoo.errors import UsageError

FIELD = "files"  # of a form: where the files are that are uploaded
MAX_REQUEST = 1 << 20  # bytes of a request that uploads nothing
MAX_UPLOAD = (MAX_MB << 20) + MAX_REQUEST  # bytes of one that does: the files, and the form around them
# What the page and programs need of gradio's interface, by the first part of the path. The rest of it fetches from
# elsewhere, lists or stores for others what somebody sent, writes files, or changes the page.
SERVED = (
    "app_id", "call", "cancel", "heartbeat", "info", "openapi.json", "queue", "reset", "startup-events", "theme.css",
    "upload", "upload_progress",
)  # fmt: skip
# The browser may load from, and send to, this server alone, whatever a library or a file name would have it do.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


class LocalOnly:
    """ASGI middleware: refuses what the page does not need, and tells the browser to talk to this server alone.

    Refused are requests that pages of other sites make, routes that are not :data:`SERVED`, and requests that are too
    large. ``hosts``: names by which the server may be called; empty: any. With names given, a page of another site
    cannot reach a server on this machine through a name that it owns.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], hosts: tuple[str, ...] = ()) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sent(event: MutableMapping[str, Any]) -> None:
            if event["type"] == "http.response.start":
                event["headers"] = [*event.get("headers", []), *HEADERS]
            await send(event)

        refused = self._refused(scope)
        if refused is None:
            await self.app(scope, receive, sent)
            return
        while (await receive()).get("more_body"):  # a client that is still sending would not read the answer
            pass
        status, text = refused
        await sent({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
        await sent({"type": "http.response.body", "body": text.encode()})

    def _refused(self, scope: MutableMapping[str, Any]) -> tuple[int, str] | None:
        """Status and line for a request that is not served."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        path = str(scope["path"])
        if self.hosts and _name(host) not in self.hosts:
            return 403, "this page serves its own files alone"
        # A web server in front of this one may have another name than this one is called by; the first of several.
        in_front = headers.get(b"x-forwarded-host", host).partition(",")[0].strip()
        if origin is not None and _netloc(origin) not in (host, in_front):
            return 403, "this page answers no pages of other sites"
        if path.startswith(API_PREFIX):
            route = path.removeprefix(API_PREFIX).lstrip("/")
            file = route.startswith("file=") and "://" not in route
            if not file and route.partition("/")[0] not in SERVED:
                return 403, "this page serves its own files alone"
        if b"transfer-encoding" in headers:
            return 411, "send the length of the request with it"
        upload = path == f"{API_PREFIX}/upload"
        if int(headers.get(b"content-length", 0)) > (MAX_UPLOAD if upload else MAX_REQUEST):
            return (
                413,
                f"files up to {MAX_MB} MB are taken" if upload else "the request is too large: upload files first",
            )
        return None


def _netloc(address: str) -> str:
    try:
        return urlsplit(address).netloc
    except ValueError:
        return ""


def _name(host: str) -> str:
    """The name of a ``Host`` header, without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


class Uploads(GradioMultiPartParser):
    """Reads the files of a form, each into a folder of its own, also where two people send the same file.

    Nothing but files is taken, and nothing is left of an upload that breaks off.
    """

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        part = self._current_part
        if part.file is None or part.field_name != FIELD:
            raise MultiPartException(f"Send files alone, in the field {FIELD!r}.")
        if Path(part.file.filename or "").suffix.lower() not in MEDIA:  # playlists pass as audio: they name other files
            raise MultiPartException(f"The name of the file does not end in one of {' '.join(sorted(MEDIA))}")
        part.file.sha.update(secrets.token_bytes(16))  # type: ignore[attr-defined]  # it names the folder

    async def parse(self) -> FormData:
        try:
            form = await super().parse()
            if len(form.getlist(FIELD)) < self._current_files:
                raise MultiPartException("The upload is cut off: send it again.")
            return form
        except BaseException:
            for file in self._files_to_close_on_error:
                file.close()
                Path(file.name).unlink(missing_ok=True)
            raise


def install(folder: Path) -> None:
    """Makes gradio read uploads with :class:`Uploads`. Raises UsageError for a version of gradio that does not.

    ``folder``: where files would be put.
    """
    vars(route_utils)["GradioMultiPartParser"] = Uploads
    try:
        asyncio.run(route_utils.upload_fn(Request(_TEXT, _no_file), folder, MAX_UPLOAD, None))
    except MultiPartException:
        return  # as it should: nothing but files is taken
    except Exception as error:
        reason = f"{type(error).__name__}: {one_line(str(error))}"
    else:
        reason = "anything can be uploaded"
    raise UsageError(f"the web page cannot use this version of gradio ({reason}): pip install 'gradio==6.31.0'")


_TEXT = {"type": "http", "headers": [(b"content-type", b"multipart/form-data; boundary=x")]}


async def _no_file() -> dict[str, Any]:
    """The body of a request that uploads a text in place of a file."""
    form = b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\n\r\n--x--\r\n'
    return {"type": "http.request", "body": form}
