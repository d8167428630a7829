"""shardcast brings a large file or directory from one machine to many, over plain HTTP.

The programs of shardcast do the work; this package finds them, runs them and reads what they say.
"""

from __future__ import annotations

from ._version import __version__
from .errors import (
    BadOption,
    IntegrityError,
    NoServer,
    NoSuchVersion,
    NotStarted,
    NotTrusted,
    ShardcastError,
)

__all__ = [
    "BadOption",
    "IntegrityError",
    "NoServer",
    "NoSuchVersion",
    "NotStarted",
    "NotTrusted",
    "ShardcastError",
    "__version__",
]
