"""Directories that go with their process: of versions in memory, and of those that are streamed."""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import tempfile
from typing import Dict

# A directory in memory, where the system has one.
_MEMORY = "/dev/shm"

_PREFIX = ".shardcast-"


def memory() -> str:
    """Return the directory for versions in memory."""
    return _MEMORY if os.path.isdir(_MEMORY) else tempfile.gettempdir()


class Scratch:
    """A new directory in parent, that nothing else uses. As a context manager it goes at the end.

    One whose process was killed is removed by the next one in that parent: a living one is locked.
    """

    def __init__(self, parent: str) -> None:
        os.makedirs(parent, exist_ok=True)
        _sweep(parent)
        while True:
            self.path = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
            try:
                self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue  # swept before it was locked
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if os.path.isdir(self.path):
                return
            os.close(self._lock)

    def remove(self) -> None:
        """Remove the directory with all in it."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> str:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.remove()


def _sweep(parent: str) -> None:
    with os.scandir(parent) as entries:
        left = [e.path for e in entries if e.name.startswith(_PREFIX) and e.is_dir(follow_symlinks=False)]
    for path in left:
        try:
            held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # gone, or of another user
        try:
            if os.fstat(held).st_uid == os.geteuid():
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            pass  # in use
        finally:
            os.close(held)


def mapped(path: str) -> memoryview:
    """Return the bytes of a file. They stay when the file is removed, until nothing refers to them."""
    with open(path, "r+b") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0))


def mapped_tree(root: str) -> Dict[str, memoryview]:
    """Return the bytes of each file below root, by its path there, with slashes."""
    found = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            found[os.path.relpath(path, root).replace(os.sep, "/")] = mapped(path)
    return found
