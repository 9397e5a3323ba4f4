"""Object storage by address (``s3://bucket/folder``, ``gs://bucket/folder``), through obstore.

Credentials come from where the providers' own tools look for them: environment, profile, or the machine's role.
``AWS_ENDPOINT_URL`` names a server of your own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from emozoo.errors import EmozooError, UsageError

_LIST = 1000  # objects of one answer


class Object(NamedTuple):
    """An object: its key below the folder, its bytes, when it changed (seconds), and a mark that changes with it."""

    key: str
    size: int
    changed: float
    tag: str


class Bucket:
    """A folder in object storage. All keys are relative to it.

    Every method raises EmozooError, one line, where the bucket or the credentials are missing or the network fails.
    """

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        name, _, prefix = rest.partition("/")
        if scheme not in ("s3", "gs") or not name:
            raise UsageError(f"{url}: give an address like s3://bucket/folder or gs://bucket/folder")
        self.url, self._prefix = url, prefix.rstrip("/")
        with self._errors():
            self._store = _connect(scheme, name)

    def list(self, inner: str = "") -> Iterator[Object]:
        """The objects of the folder ``inner`` and below, in no promised order."""
        import obstore

        with self._errors():
            for found in obstore.list(self._store, self._key(inner) or None, chunk_size=_LIST):
                for meta in found:
                    key = meta["path"][len(self._prefix) :].lstrip("/")
                    tag = meta["e_tag"] or meta["last_modified"].isoformat()
                    yield Object(key, meta["size"], meta["last_modified"].timestamp(), tag)

    def head(self, key: str = "") -> Object | None:
        """One object, by default that of the address itself; None where there is none."""
        import obstore

        if not self._key(key):
            return None
        with self._errors():
            try:
                meta = obstore.head(self._store, self._key(key))
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None
            tag = meta["e_tag"] or meta["last_modified"].isoformat()
            return Object(key, meta["size"], meta["last_modified"].timestamp(), tag)

    def fetch(self, key: str, path: Path) -> None:
        """Copies an object to a file, piece by piece."""
        import obstore

        with self._errors(key), path.open("wb") as file:
            for piece in obstore.get(self._store, self._key(key)):
                file.write(piece)

    def put(self, key: str, content: bytes | Path) -> None:
        """Writes an object, whole or not at all."""
        import obstore

        with self._errors(key):
            obstore.put(self._store, self._key(key), content)

    def delete(self, keys: Sequence[str]) -> None:
        import obstore

        with self._errors():
            for at in range(0, len(keys), _LIST):
                obstore.delete(self._store, [self._key(k) for k in keys[at : at + _LIST]])

    def _key(self, key: str) -> str:
        return "/".join(filter(None, (self._prefix, key)))

    @contextmanager
    def _errors(self, key: str = "") -> Iterator[None]:
        """Turns what the provider raises into one line: its code where it gives one, else the start of its text."""
        try:
            yield
        except EmozooError:
            raise
        except Exception as error:
            text = str(error)
            code = re.search(r"<Code>(\w+)</Code>", text)
            why = code[1] if code else " ".join(text.partition("Debug source")[0].split())[:160]
            where = f"{self.url}/{key}" if key else self.url
            raise EmozooError(
                f"{where}: object storage says {why or type(error).__name__} (check the bucket's name and the "
                "credentials)"
            ) from error


def _connect(scheme: str, name: str) -> Any:
    from obstore.store import GCSStore, S3Store

    retry: Any = {"max_retries": 4}
    if scheme == "gs":
        return GCSStore(name, retry_config=retry)
    import boto3
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = boto3.Session()  # obstore itself reads no profiles
    if session.get_credentials() is None:
        raise EmozooError(f"s3://{name}: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile")
    options: Any = {"region": session.region_name or "us-east-1"}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        options["endpoint"] = endpoint
    client: Any = {"allow_http": True} if (endpoint or "").startswith("http://") else {}
    return S3Store(
        name, credential_provider=Boto3CredentialProvider(session), retry_config=retry, client_options=client, **options
    )
