"""The client as the Python package has it."""

from __future__ import annotations

import os
from typing import Dict, Optional

from . import _programs
from ._flags import Path, Servers
from .client import Client
from .errors import NoServer, ShardcastError
from .version import Version

__all__ = ["ClientNode", "main"]


class ClientNode:
    """Lists and downloads the versions of servers, of which one that is up is enough."""

    def __init__(self, servers: Servers, output_dir: Path = "./downloads") -> None:
        self.output_dir = os.fspath(output_dir)
        os.makedirs(self.output_dir, exist_ok=True)
        self._client = Client(servers, output_dir=self.output_dir)

    def list_available_versions(self) -> Dict[str, str]:
        """Return the listed versions, such as ``{"v7": "<digest>|<number of shards>"}``, and {} if no server answers.

        The digest is the BLAKE3 where that is known, or else the SHA-256.
        """
        try:
            versions = self._client.list()
        except NoServer as err:
            _programs.logger.error("%s", err)
            return {}
        return {v.name: _line(v) for v in versions}

    def download_version(self, version: str, output_file: Optional[Path] = None) -> Optional[str]:
        """Download a version and return the path of its file, or None after a failure, which is logged.

        Without an output_file it is ``download_v7.bin`` in the output_dir.
        """
        if output_file is None:
            path = os.path.join(self.output_dir, f"download_{version}.bin")
        else:
            path = os.path.abspath(output_file)
        try:
            self._client.download(version, path)
        except ShardcastError as err:
            _programs.logger.error("%s was not downloaded: %s", version, err)
            return None
        return path


def _line(version: Version) -> str:
    digest = version.blake3 or version.digest
    return digest if version.shards is None else f"{digest}|{max(version.shards, 1)}"  # an empty file has one there


def main() -> None:
    """Become shardcast-client."""
    _programs.become("shardcast-client")


if __name__ == "__main__":
    main()
