"""The middle as the Python package has it."""

from __future__ import annotations

from . import _programs, envs
from ._flags import Path, Servers
from .origin_server import DIALECT
from .server import Middle

__all__ = ["MiddleNode", "main"]


class MiddleNode:
    """Relays the versions of its upstreams from now on. Raise OSError if the port is taken.

    ``check_interval`` is the time in seconds between polls of upstreams that push nothing.
    """

    def __init__(
        self,
        upstream_servers: Servers,
        data_dir: Path,
        port: int = envs.SHARDCAST_HTTP_PORT,
        check_interval: float = 30,
    ) -> None:
        self._middle = Middle(upstream_servers, data_dir, port=port, check_interval=check_interval, dialect=DIALECT)

    def shutdown(self) -> None:
        """End the server."""
        self._middle.close()


def main() -> None:
    """Become shardcast-middle."""
    _programs.become("shardcast-middle", SHARDCAST_DIALECT=DIALECT)


if __name__ == "__main__":
    main()
