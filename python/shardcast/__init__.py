"""shardcast brings a large file or directory from one machine to many, over plain HTTP.

The programs of shardcast do the work; this package finds them, runs them and reads what they say.
An :class:`Origin` publishes and serves, a :class:`Middle` relays, a :class:`Client` lists, fetches
and follows:

    with shardcast.Origin("./data") as origin:
        origin.broadcast("step_1200", labels={"step": 1200})

    for got in shardcast.Client("192.168.1.100").follow("./weights"):
        load(got.path)

:func:`initialize`, :func:`broadcast` and :func:`shutdown`, :class:`OriginServer`,
:class:`MiddleNode` and :class:`ClientNode` are those of PrimeIntellect's Python package of the
same name (0.3), for programs that were written for it.
"""

from __future__ import annotations

from ._programs import logger
from ._version import __version__
from .client import Client, Follow, Stream
from .client_node import ClientNode
from .envs import SHARDCAST_HTTP_PORT, SHARDCAST_MAX_DISTRIBUTION_FOLDERS, SHARDCAST_SHARD_SIZE
from .errors import (
    BadOption,
    IntegrityError,
    NoServer,
    NoSuchVersion,
    NotStarted,
    NotTrusted,
    ShardcastError,
)
from .middle_node import MiddleNode
from .origin_server import OriginServer, broadcast, initialize, shutdown
from .server import Broadcast, Middle, Origin
from .version import Result, Version

__all__ = [
    "BadOption",
    "Broadcast",
    "Client",
    "ClientNode",
    "Follow",
    "IntegrityError",
    "Middle",
    "MiddleNode",
    "NoServer",
    "NoSuchVersion",
    "NotStarted",
    "NotTrusted",
    "Origin",
    "OriginServer",
    "Result",
    "SHARDCAST_HTTP_PORT",
    "SHARDCAST_MAX_DISTRIBUTION_FOLDERS",
    "SHARDCAST_SHARD_SIZE",
    "ShardcastError",
    "Stream",
    "Version",
    "__version__",
    "broadcast",
    "initialize",
    "logger",
    "shutdown",
]
