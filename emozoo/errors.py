"""Every error a user can meet: one readable line that says what, where and how to mend it.

Each is also the built-in error of its kind, so that ``except ValueError`` or ``except OSError`` around a call works.
"""

from __future__ import annotations

from os import PathLike


def _in_one_line(reason: str) -> str:
    """A reason without line breaks: it may quote a cell of a table or a library's error, which have several lines."""
    return r"\n".join(filter(None, map(str.strip, reason.splitlines())))


class EmozooError(Exception):
    """Base of all errors raised on purpose. Its text is one line, whatever it quotes.

    The command line prints its text on stderr without a traceback; ``exit_code`` is the exit status then (2 = wrong
    usage, 3 = could not run, 143 = ended by SIGTERM).
    """

    exit_code = 3

    def __init__(self, text: str = "") -> None:
        super().__init__(_in_one_line(text))


class UsageError(EmozooError, ValueError):
    """The request contradicts itself or names something that does not exist."""

    exit_code = 2


class UnknownModelError(UsageError, KeyError):
    """No model, tag, wiring or size of that name; the text proposes the nearest one."""

    __str__ = Exception.__str__  # a KeyError would put the text between quotes


class Terminated(EmozooError):
    """SIGTERM, as schedulers send it, ended the work; what was done until then is kept."""

    exit_code = 143  # 128 + 15, as of a process that the signal itself has ended


class VideoError(EmozooError, OSError):
    """A media file that cannot be read, or lacks the images or audio that a model needs.

    ``code`` is a short word for machines: ``missing``, ``empty``, ``unreadable``, ``no_video``, ``no_audio``,
    ``broken``; of a prediction that lacks what is to be drawn or written: ``no_answer``.
    """

    def __init__(self, path: str | PathLike[str], reason: str, code: str = "unreadable") -> None:
        self.path, self.reason, self.code = str(path), _in_one_line(reason), code
        super().__init__(f"{self.path}: {self.reason}")

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str, str]]:  # crosses worker processes
        return (type(self), (self.path, self.reason, self.code))


class WeightsError(EmozooError, OSError, ValueError):
    """Weights that must not be used: wrong hash, wrong format, wrong keys, or not to be had."""


class DatasetError(EmozooError, FileNotFoundError, ValueError):
    """A data set that is not where, or not what, it should be; the text names the command that mends it."""


class ManifestError(DatasetError):
    """A manifest line that cannot be used; ``line`` counts from 1, the header included."""

    def __init__(self, path: str | PathLike[str], line: int, reason: str) -> None:
        self.path, self.line, self.reason = str(path), line, _in_one_line(reason)
        super().__init__(f"{self.path}, line {line}: {self.reason}")

    def __reduce__(self) -> tuple[type[ManifestError], tuple[str, int, str]]:
        return (type(self), (self.path, self.line, self.reason))
