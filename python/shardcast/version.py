"""What versions are, and what has been fetched of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Dict, Mapping, Optional

from ._programs import Progress

__all__ = ["Progress", "Result", "Version"]


@dataclass(frozen=True)
class Version:
    """A version as servers list and describe it. ``str`` of one is its name.

    Of a server without manifests, such as one of the Python package before, only ``name`` and
    ``digest`` are known.
    """

    name: str
    """Its name, such as ``v7``."""

    digest: str
    """SHA-256 of all its bytes, of a directory those of its tar, as 64 hex digits."""

    file: str = ""
    """The published name. It comes from the network: check it before it becomes a path."""

    size: Optional[int] = None
    """Bytes, or None where that is unknown."""

    shard_size: Optional[int] = None
    """Bytes of each shard but the last."""

    shards: Optional[int] = None
    """The number of shards."""

    date: Optional[datetime] = None
    """When it was published."""

    blake3: str = ""
    """BLAKE3 of all its bytes, where that is known."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """What the publisher has labelled it with. It comes from the network."""

    file_count: Optional[int] = None
    """Of a directory, its files and empty directories; None of a file."""

    signed: bool = False
    """Whether the publisher lists it, for a client with a ``key``."""

    @property
    def number(self) -> int:
        """7 of ``v7``."""
        return int(self.name[1:])

    @property
    def directory(self) -> bool:
        """Whether it is a directory."""
        return self.file_count is not None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Result:
    """A version that has been fetched, and where it is."""

    version: Version

    path: Optional[str] = None
    """The file or directory, unless it is in memory."""

    memory: Optional[memoryview] = None
    """The bytes in memory, of a version that is a file."""

    files: Mapping[str, memoryview] = field(default_factory=dict)
    """The bytes in memory of each file of a directory, by its path in there, with slashes."""

    verified: str = ""
    """``signed`` if the publisher vouches for the bytes, ``shards`` if most servers do, and empty
    if it is the digest of the whole."""

    progress: Mapping[str, Any] = field(default_factory=dict)
    """The last object of the progress: ``received``, ``resumed``, ``seconds`` and so on."""


def version_of(found: Mapping[str, Any]) -> Version:
    """Return the version that an object of ``--json`` describes."""
    date = found.get("date")
    labels: Dict[str, str] = found.get("labels", {})
    return Version(
        name=found["version"],
        digest=found.get("digest", ""),
        file=found.get("name", ""),
        size=found.get("size"),
        shard_size=found.get("shard_size"),
        shards=found.get("shard_count"),
        date=_time(date) if date else None,
        blake3=found.get("blake3", ""),
        labels=labels,
        file_count=found.get("file_count"),
        signed=found.get("signed", False),
    )


def _time(text: str) -> datetime:
    """Read a time of RFC 3339, which Python 3.9 takes without Z and with at most six decimals."""
    whole, _, decimals = text.replace("Z", "").partition(".")
    return datetime.fromisoformat(f"{whole}.{decimals[:6]:0<6}+00:00")
