"""The origin as the Python package has it: :class:`OriginServer`, and one for the whole process."""

from __future__ import annotations

import threading
from typing import Optional

from . import _programs, envs
from ._flags import Path
from .server import Origin

__all__ = ["OriginServer", "broadcast", "initialize", "main", "shutdown"]

DIALECT = "0.3"  # its programs understand no other at the root


class OriginServer:
    """Serves a data directory from now on. Raise OSError if the port is taken.

    ``max_distribution_folders`` is the number of versions to keep.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int = envs.SHARDCAST_HTTP_PORT,
        max_distribution_folders: int = envs.SHARDCAST_MAX_DISTRIBUTION_FOLDERS,
    ) -> None:
        self._origin = Origin(data_dir, port=port, max_versions=max_distribution_folders, dialect=DIALECT)

    def broadcast(self, file_path: Path, shard_size: int = envs.SHARDCAST_SHARD_SIZE) -> str:
        """Publish a file in shards of a size in bytes, and return the name of its version, such as ``v7``.

        Raise FileNotFoundError if there is no file.
        """
        return self._origin.broadcast(file_path, shard_size=shard_size).name

    def shutdown(self) -> None:
        """End the server."""
        self._origin.close()


_lock = threading.Lock()  # guards the server
_server: Optional[OriginServer] = None


def initialize(
    data_dir: Path = "./data",
    port: int = envs.SHARDCAST_HTTP_PORT,
    max_distribution_folders: int = envs.SHARDCAST_MAX_DISTRIBUTION_FOLDERS,
) -> None:
    """Serve a data directory on a port, for :func:`broadcast`. A second call only warns.

    ``max_distribution_folders`` is the number of versions to keep. Raise OSError if the port is taken.
    """
    global _server
    with _lock:
        if _server is not None:
            _programs.logger.warning("shardcast serves already; shutdown() comes before another initialize()")
            return
        _server = OriginServer(data_dir, port, max_distribution_folders)


def broadcast(file_path: Path, shard_size: int = envs.SHARDCAST_SHARD_SIZE) -> str:
    """Publish a file in shards of a size in bytes, and return the name of its version, such as ``v7``.

    Raise RuntimeError before :func:`initialize`, and FileNotFoundError if there is no file.
    """
    server = _server
    if server is None:
        raise RuntimeError("shardcast serves nothing yet: call initialize() before broadcast()")
    return server.broadcast(file_path, shard_size)


def shutdown() -> None:
    """End the server of :func:`initialize`, if there is one."""
    global _server
    with _lock:
        server, _server = _server, None
    if server is not None:
        server.shutdown()


def main() -> None:
    """Become shardcast-origin."""
    _programs.become("shardcast-origin", SHARDCAST_DIALECT=DIALECT)


if __name__ == "__main__":
    main()
