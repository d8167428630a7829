"""What the tests share: a directory of their own, and an origin."""

from __future__ import annotations

import logging
import os
import random
import tempfile
import threading
import time
import unittest
from typing import Any, Callable, Dict

import shardcast

logging.getLogger("shardcast").addHandler(logging.NullHandler())  # exceptions have the log

_DEADLINE = 30.0  # seconds, far longer than anything takes


class Case(unittest.TestCase):
    """A test with a directory of its own, ``self.dir``."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.dir = scratch.name

    def path(self, *names: str) -> str:
        """Return the path of a name in the directory."""
        return os.path.join(self.dir, *names)

    def file(self, name: str, data: bytes) -> str:
        """Write a file and return its path."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        return path

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        with open(path, "rb") as file:
            return file.read()

    def origin(self, **how: Any) -> shardcast.Origin:
        """Return an origin on a free port of loopback, until the test ends."""
        how = {"data_dir": self.path("data"), "host": "127.0.0.1", "port": 0, **how}
        origin = shardcast.Origin(**how)
        self.addCleanup(origin.close)
        return origin

    def client(self, servers: str, **how: Any) -> shardcast.Client:
        """Return a client whose downloads are in the directory, and which soon gives up."""
        how = {"output_dir": self.path("downloads"), "options": {"attempts": 1}, **how}
        return shardcast.Client(servers, **how)

    def soon(self, true: Callable[[], Any]) -> None:
        """Wait until something is true."""
        end = time.monotonic() + _DEADLINE
        while not true():
            self.assertLess(time.monotonic(), end, "it does not come true")
            threading.Event().wait(0.01)

    def gone(self, pid: int) -> None:
        """Wait until a process is gone."""
        self.soon(lambda: not _lives(pid))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:  # one that nothing has waited for is gone as well
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not os.path.isdir("/proc/self")  # a system without it


def data(size: int, seed: int = 1) -> bytes:
    """Return bytes that are the same for the same seed."""
    return random.Random(seed).getrandbits(8 * size).to_bytes(size, "little")


def environment() -> Dict[str, str]:
    """Return the environment of another Python that imports this package."""
    return {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(shardcast.__file__))}
