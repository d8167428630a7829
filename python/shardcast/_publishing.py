"""Publishes versions by ``shardcast-origin broadcast``."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import tempfile
from typing import IO, Any, BinaryIO, List, Optional, Sequence, Union

from . import _programs
from ._flags import Path, flags
from ._programs import Child, Progress
from .version import Version, version_of

# What can be published: the path of a file or directory, bytes, or a file that is open for reading
# bytes, from where it stands.
Source = Union[Path, bytes, bytearray, memoryview, BinaryIO]

_CHUNK = 1 << 20  # bytes read of a file at once


def publish(source: Source, arguments: Sequence[str], name: Optional[str], progress: Optional[Progress]) -> Version:
    """Publish source and return its version."""
    argv = ["broadcast", "--json", *arguments, "--progress", "json" if progress else "none"]
    if isinstance(source, (str, os.PathLike)):
        path = os.path.abspath(os.fspath(source))
        if not os.path.exists(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
        found = _programs.objects("shardcast-origin", [*argv, *flags(name=name), path], progress=progress)
        return version_of(found[0])
    if isinstance(source, (bytes, bytearray, memoryview)):
        view = memoryview(source).cast("B")
        return _pipe(io.BytesIO(), view, len(view), [*argv, *flags(name=name)], progress)
    if isinstance(source, io.TextIOBase) or not hasattr(source, "read"):
        raise TypeError(f"broadcast of {type(source).__name__}: want a path, bytes or a file that is open in mode 'rb'")
    if name is None and isinstance(getattr(source, "name", None), str):
        name = os.path.basename(source.name)
    argv += flags(name=name)
    size = _remaining(source)
    if size is not None:
        return _pipe(source, memoryview(b""), size, argv, progress)
    with tempfile.TemporaryFile() as whole:  # how many bytes come is known at their end
        shutil.copyfileobj(source, whole, _CHUNK)
        size = whole.tell()
        whole.seek(0)
        return _pipe(whole, memoryview(b""), size, argv, progress)


def _remaining(source: IO[bytes]) -> Optional[int]:
    """Return how many bytes source has from where it stands, or None if it cannot tell."""
    try:
        here = source.tell()
        size = source.seek(0, os.SEEK_END) - here
        source.seek(here)
    except (OSError, AttributeError):
        return None
    return size


def _pipe(
    source: IO[bytes], head: memoryview, size: int, argv: List[str], progress: Optional[Progress]
) -> Version:
    """Publish head, and what source has behind it. The size tells the program that all has come."""
    if not size:  # of an empty stdin the program takes its writer for one that has failed
        with tempfile.NamedTemporaryFile() as empty:
            named = [argv[0], *flags(name="stdin"), *argv[1:], empty.name]  # a later name counts
            return version_of(_programs.objects("shardcast-origin", named, progress=progress)[0])
    argv = [*argv, *flags(size=size), "-"]
    with Child("shardcast-origin", argv, source=True, progress=progress) as child:
        try:
            child.write(head)
            while True:
                chunk = source.read(_CHUNK)
                if not chunk:
                    break
                child.write(memoryview(chunk))
            child.end_input()
        except BrokenPipeError:
            pass  # the program has failed, and says why
        printed = b"".join(child.lines())
    found: Any = json.loads(printed)
    return version_of(found)
