"""The settings of the Python package, from the environment."""

from __future__ import annotations

import os

SHARDCAST_SHARD_SIZE = int(os.environ.get("SHARDCAST_SHARD_SIZE") or 50_000_000)
"""Bytes of a shard."""

SHARDCAST_MAX_DISTRIBUTION_FOLDERS = int(os.environ.get("SHARDCAST_MAX_DISTRIBUTION_FOLDERS") or 5)
"""Versions that an origin keeps."""

SHARDCAST_HTTP_PORT = int(os.environ.get("SHARDCAST_HTTP_PORT") or 8000)
"""TCP port of a server."""
