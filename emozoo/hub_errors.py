"""Why the hub did not give or take files, in words of our own."""

from __future__ import annotations

import re
from typing import Any

from emozoo.errors import WeightsError
from emozoo.files import cache_folder

SPARE = 1 << 20  # bytes that a file may have beyond what was announced: servers that pack texts announce other sizes


def client_errors() -> tuple[type[Exception], ...]:
    """What the client raises: bare RuntimeErrors of large files (Xet), and what it makes of JSON of another shape."""
    from huggingface_hub.errors import HTTPError

    return HTTPError, OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError


def bounded(where: str, most: int) -> type[Any]:
    """A progress bar for the client that ends a download of more bytes than were announced, or than ``most``."""
    from huggingface_hub.utils import tqdm

    class Bounded(tqdm):
        given = 0

        def update(self, n: float | None = 1) -> bool | None:
            self.given += int(n or 0)
            if self.given > min(most, int(self.total or 0) + SPARE):
                raise WeightsError(f"{where}: the endpoint sends more than it announced or than weights have")
            return super().update(n)

    return Bounded


def failure_reason(error: BaseException, revision: str) -> str:
    """The reason of a failed request and what to do, in our own words.

    The server's may repeat the token that it was sent: errors are raised from None, so that no traceback shows them.
    """
    from huggingface_hub import constants
    from huggingface_hub import errors as e

    host = re.sub(r"//[^/@]*@", "//", constants.ENDPOINT)  # without a password that somebody wrote into it
    if isinstance(error.__cause__, e.HTTPError) and not isinstance(error, (e.HTTPError, ValueError)):
        error = error.__cause__  # the client's "not found here either", or "while uploading"
    if isinstance(error, e.OfflineModeIsEnabled):
        return f"not in the cache ({cache_folder() / 'hub'}), and HF_HUB_OFFLINE is set; unset it once to fetch it"
    if isinstance(error, e.GatedRepoError):
        return f"{host} gives it to some accounts only; ask for access on its page, then set HF_TOKEN"
    if isinstance(error, e.RevisionNotFoundError):
        return f"{host} has no revision '{revision}' of it"
    if isinstance(error, e.RepositoryNotFoundError):
        return f"{host} has no such repository, or it is private; set HF_TOKEN or run `hf auth login`"
    if isinstance(error, e.EntryNotFoundError) and isinstance(error, e.HfHubHTTPError):
        return "it holds no config.json and model.safetensors, so it is no weights repository of this zoo"
    if isinstance(error, e.HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return f"{host} does not allow it ({status}); give HF_TOKEN a token that may"
        return f"{host} answered {status}; try again later"
    if isinstance(error, e.HTTPError):
        return f"{host} does not answer ({type(error).__name__}); try again when it does"
    if isinstance(error, UnicodeError):
        return "HF_TOKEN holds a character that no token has"
    if isinstance(error, (TypeError, KeyError, AttributeError)):
        return f"{host} does not answer as a hub does ({type(error).__name__}); is it one, without a proxy in between?"
    if isinstance(error, RuntimeError):
        return "the transfer of its files broke off; try again, with HF_HUB_DISABLE_XET=1 by plain HTTP"
    return f"{type(error).__name__} ({' '.join(str(error).split())[:200]})"
