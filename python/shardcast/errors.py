"""The errors of the package. All of them are :class:`ShardcastError`."""

from __future__ import annotations

from typing import Dict, Optional, Sequence, Tuple, Type

__all__ = [
    "BadOption",
    "IntegrityError",
    "NoServer",
    "NoSuchVersion",
    "NotStarted",
    "NotTrusted",
    "ShardcastError",
]


class ShardcastError(RuntimeError):
    """A program failed, or there is none.

    ``code`` is its exit code, and None where no program has ended. ``log`` has the last lines of
    its log, at most 20.
    """

    def __init__(self, message: str, code: Optional[int] = None, log: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.log: Tuple[str, ...] = tuple(log)


class BadOption(ShardcastError, ValueError):
    """An argument has a value that the program refuses."""


class NoSuchVersion(ShardcastError, LookupError):
    """No server lists the version, or no server lists it any more."""


class IntegrityError(ShardcastError):
    """No server has the right bytes."""


class NoServer(ShardcastError, ConnectionError):
    """No server answers."""


class NotTrusted(ShardcastError):
    """No server has the publisher's word for the version, or that word has expired (``code`` 7)."""


class NotStarted(ShardcastError, OSError):
    """A server does not listen: its port is taken, or its data directory is in use."""


_by_code: Dict[int, Type[ShardcastError]] = {
    2: BadOption,
    3: NoSuchVersion,
    4: IntegrityError,
    5: NoServer,
    6: NotTrusted,
    7: NotTrusted,
}


def error_of(code: int, message: str, log: Sequence[str]) -> ShardcastError:
    """Return the error for the exit code of a program."""
    return _by_code.get(code, ShardcastError)(message, code, log)
