"""A :class:`Client` lists versions, fetches them, and follows new ones."""

from __future__ import annotations

import asyncio
import io
import json
import os
from typing import Any, AsyncIterator, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Union

from . import _programs, _scratch
from ._flags import Options, Path, Servers, addresses, flags, further
from ._programs import Child, Progress
from .version import Result, Version, version_of

__all__ = ["Client", "Follow", "Stream"]

_PROGRAM = "shardcast-client"

# Where the bytes of a download go.
Into = Union[Path, memoryview, bytearray]

_BUFFER = 1 << 18  # bytes
_LINE = 1 << 26  # bytes of a JSON object

_FOREVER = 365 * 24 * 3600  # seconds, the longest wait of the programs


class Client:
    """Lists, fetches and follows the versions of its servers. Any thread may use it.

    ``servers`` are ``host``, ``host:port`` or URLs; one that is up is enough. Empty takes them from
    the environment variable IP_ADDR_LIST. ``output_dir`` is the directory of downloads without a
    place of their own.

    ``key`` is the publisher's public key, ``RWQ...`` or a file of it, or several, and ``feed`` the
    name of the signed list: then only what the publisher has signed exists. ``state_dir`` remembers
    the newest list. ``token_file`` has this reader's token, ``netrc`` names and passwords, ``ca_file``
    the PEM certificates that verify ``https://`` servers, ``cert`` and ``key_pem`` the certificate of
    this reader. ``timeout`` is the longest silence of a server in seconds (30), ``concurrency`` the
    number of shards to fetch at once (10). ``options`` are further flags of shardcast-client, such
    as ``{"limit-rate": "50MB/s"}``.

    Its methods raise NoSuchVersion, IntegrityError, NoServer, NotTrusted, and for arguments of no
    use BadOption; all of these, and other failures, are ShardcastError.
    """

    def __init__(
        self,
        servers: Servers = "",
        *,
        output_dir: Path = "./downloads",
        key: Union[Path, Sequence[str], None] = None,
        feed: Optional[str] = None,
        state_dir: Optional[Path] = None,
        token_file: Optional[Path] = None,
        netrc: Optional[Path] = None,
        ca_file: Optional[Path] = None,
        cert: Optional[Path] = None,
        key_pem: Optional[Path] = None,
        timeout: Optional[float] = None,
        concurrency: Optional[int] = None,
        options: Optional[Options] = None,
    ) -> None:
        self._output_dir = os.fspath(output_dir)
        self._flags = flags(
            servers=addresses(servers),
            key=key,
            feed=feed,
            state_dir=state_dir,
            token_file=token_file,
            netrc=netrc,
            ca_file=ca_file,
            cert=cert,
            key_pem=key_pem,
            timeout=timeout,
            concurrency=concurrency,
        )
        self._flags += further(options)

    def list(self) -> List[Version]:
        """Return the listed versions in ascending order. Each server is asked once."""
        return [version_of(v) for v in _programs.objects(_PROGRAM, ["--list", "--json", *self._flags])]

    def wait(self, version: str = "latest", timeout: Optional[float] = None) -> Version:
        """Wait until a version is listed, and return it; nothing is fetched.

        ``version`` is ``v7``, ``latest``, which any version is, or labels such as ``step=1200``.
        ``timeout`` is in seconds, and None waits for ever. Servers announce a version at once.
        Raise NoSuchVersion, or NoServer if none has answered, when the time is over.
        """
        argv = ["--list", "--json", *flags(version=version), *self._patience(timeout), *self._flags]
        return version_of(_programs.objects(_PROGRAM, argv)[0])

    def download(
        self,
        version: str = "latest",
        into: Optional[Into] = None,
        *,
        timeout: float = 0,
        replace: bool = False,
        progress: Optional[Progress] = None,
    ) -> Result:
        """Fetch a version. When it returns, all bytes are there, and right.

        ``version`` is as of :meth:`wait`, and ``timeout`` the time in seconds to wait for it to be
        listed. ``into`` is

        * the path of the file, or of the directory if the version is one; None means
          ``download_v7.bin``, or the directory's own name, in ``output_dir``. It appears when it is
          whole. A partial file stays after a failure, and the next download goes on with it.
          ``replace`` lets it take the place of a directory that no download has put there;
        * a writable memoryview or bytearray that is large enough; after an error its content is
          undefined. A directory comes as a tar. ``memory`` of the result is the part in use;
        * ``"memory"``: ``memory`` of the result, or for a directory ``files``, has the bytes in
          shared memory, for ``numpy.frombuffer`` and others without a copy. They are writable, and
          no other process sees them. The room is that of /dev/shm; ``./memory`` is a path.

        ``progress`` is called with dictionaries, from another thread; an exception of it ends the
        download.
        """
        if isinstance(into, (memoryview, bytearray)):
            return self._fill(memoryview(into).cast("B"), self.wait(version, timeout), progress)
        argv = [*flags(version=version, replace=replace), *self._patience(timeout)]
        if into == "memory":
            with _scratch.Scratch(_scratch.memory()) as scratch:
                found = self._fetch([*argv, *flags(output_file=os.path.join(scratch, "version"))], progress)
                if found.path is None:
                    raise AssertionError("a download without a path")
                if found.version.directory:
                    return _in_memory(found, files=_scratch.mapped_tree(found.path))
                return _in_memory(found, memory=_scratch.mapped(found.path))
        place = flags(output_dir=self._output_dir) if into is None else flags(output_file=into)
        return self._fetch([*argv, *place], progress)

    def stream(
        self, version: str = "latest", *, timeout: float = 0, progress: Optional[Progress] = None
    ) -> Stream:
        """Return a version as a file to read, whose bytes come in order, each shard once it is verified.

        A directory comes as a tar. The read that would return the end raises IntegrityError if the
        whole is wrong, so use nothing for good before. Arguments are those of :meth:`download`. The
        stream needs room in ``output_dir`` for the version until it is closed; close it, or use
        ``with``.
        """
        return Stream(self, self.wait(version, timeout), progress)

    def follow(
        self,
        directory: Optional[Path] = None,
        *,
        template: Optional[str] = None,
        keep: Optional[int] = None,
        from_: Optional[str] = None,
        all: bool = False,
        marker: Optional[str] = None,
        link: Optional[str] = None,
        on_event: Optional[Callable[[Dict[str, Any]], None]] = None,
        progress: Optional[Progress] = None,
        options: Optional[Options] = None,
    ) -> Follow:
        """Keep the newest version in a directory (``output_dir``), and iterate over each that is in place.

        The result is an iterator for ``for`` and ``async for``, and a context manager. A version
        counts as delivered when the next one is asked for: it stays until then, and after a crash
        it comes again.

        ``template`` is the path of a version in the directory, such as
        ``"step_{n}/model.safetensors"`` (``{version}/{name}``), ``keep`` the number of versions to keep
        (2), ``from_`` the version to begin with, such as ``v7``. ``all`` delivers all versions in
        order; otherwise the newest comes next. ``marker`` is the name of an empty file beside each
        version, ``link`` that of a symbolic link to the newest. ``on_event`` is called with dictionaries
        of what else happens, such as ``passed-over`` for a version that does not come, with ``version``
        and ``why``. ``options`` are further flags of
        ``shardcast-client follow``.

        It waits for servers that are down; the end is by :meth:`Follow.close`, ``break``, an
        exception or the end of Python. Raise ShardcastError if it cannot go on.
        """
        argv = flags(
            output_dir=self._output_dir if directory is None else directory,
            output_template=template,
            keep=keep,
            from_=from_,
            all=all,
            marker=marker,
            link=link,
        )
        return Follow([*argv, *self._flags, *further(options)], on_event, progress)

    def _patience(self, timeout: Optional[float]) -> List[str]:
        return flags(wait=_FOREVER if timeout is None else timeout)

    def _fetch(self, argv: List[str], progress: Optional[Progress]) -> Result:
        argv = [*argv, "--json", *_shown(progress), *self._flags]
        return _result(_programs.objects(_PROGRAM, argv, progress=progress)[0])

    def _fill(self, view: memoryview, version: Version, progress: Optional[Progress]) -> Result:
        if view.readonly:
            raise ValueError("the memory is read-only")
        if version.size is not None and version.size > len(view):
            raise ValueError(f"{version} has {version.size} bytes, and the memory has {len(view)}")
        filled = 0
        with Stream(self, version, progress) as stream:
            while True:
                some = stream.readinto1(view[filled:]) if filled < len(view) else len(stream.read1(1))
                if not some:
                    break
                filled += some
                if filled > len(view):
                    raise ValueError(f"{version} has more bytes than the memory, {len(view)}")
        return Result(version, memory=view[:filled], progress=stream.progress)


def _in_memory(
    found: Result, memory: Optional[memoryview] = None, files: Optional[Mapping[str, memoryview]] = None
) -> Result:
    return Result(found.version, None, memory, files or {}, found.verified, found.progress)


def _shown(progress: Optional[Progress]) -> List[str]:
    return ["--progress", "json" if progress else "none"]


def _result(found: Mapping[str, Any]) -> Result:
    return Result(
        version_of(found), found.get("path"), verified=found.get("verified", ""), progress=found.get("progress", {})
    )


class Stream(io.BufferedReader):
    """The bytes of a version in order, to read. See :meth:`Client.stream`."""

    def __init__(self, client: Client, version: Version, progress: Optional[Progress]) -> None:
        self._pipe = _Pipe(client, version, progress)
        super().__init__(self._pipe, _BUFFER)

    @property
    def version(self) -> Version:
        """The version that is read."""
        return self._pipe.version

    @property
    def progress(self) -> Mapping[str, Any]:
        """The last object of the progress."""
        return self._pipe.progress


class _Pipe(io.RawIOBase):
    """What a download to stdout prints."""

    def __init__(self, client: Client, version: Version, progress: Optional[Progress]) -> None:
        super().__init__()
        self.version = version
        self.progress: Mapping[str, Any] = {}
        self._callback = progress
        self._ended = False
        self._child: Optional[Child] = None
        self._scratch = _scratch.Scratch(client._output_dir)
        place = flags(version=version.name, output_file="-", output_dir=self._scratch.path)
        try:
            self._child = Child(_PROGRAM, [*place, "--progress", "json", *client._flags], progress=self._see)
        except BaseException:
            self.close()
            raise

    def _see(self, event: Dict[str, Any]) -> None:
        self.progress = event
        if self._callback is not None:
            self._callback(event)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has come, at least a byte. 0 is the end of a whole that is right."""
        if self._child is None or self._ended:
            return 0
        count = self._child.stdout.readinto1(buffer)
        if not count:
            self._child.finish()
            self._ended = True
        return count

    def close(self) -> None:
        if not self.closed:
            if self._child is not None:
                self._child.stop()
                self._child = None
            self._scratch.remove()
        super().close()


class Follow:
    """The versions of :meth:`Client.follow`, as they come."""

    def __init__(
        self,
        argv: List[str],
        on_event: Optional[Callable[[Dict[str, Any]], None]],
        progress: Optional[Progress],
    ) -> None:
        self._on_event = on_event
        self._delivered = False  # the last version counts when the next is asked for
        self._coming: Optional[asyncio.StreamReader] = None
        self._transport: Optional[asyncio.BaseTransport] = None
        self._child: Optional[Child] = None
        argv = ["follow", "--json", "--confirm", *_shown(progress), *argv]
        self._child = Child(_PROGRAM, argv, source=True, progress=progress)

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        try:
            while True:
                child = self._ask()
                if child is None:
                    raise StopIteration
                got = self._take(child.stdout.readline())
                if got is not None:
                    return got
        except BaseException:  # also Ctrl-C
            self.close()
            raise

    def __aiter__(self) -> AsyncIterator[Result]:
        return self

    async def __anext__(self) -> Result:
        try:
            while True:
                child = self._ask()
                if child is None:
                    raise StopAsyncIteration
                if self._coming is None:
                    self._coming = coming = asyncio.StreamReader(limit=_LINE)
                    self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                        lambda: asyncio.StreamReaderProtocol(coming), child.stdout
                    )
                got = self._take(await self._coming.readline())
                if got is not None:
                    return got
        except BaseException:  # also a cancelled task
            self.close()
            raise

    def _ask(self) -> Optional[Child]:
        """Have the last version count as delivered, and return the program, which brings the next."""
        if self._child is not None and self._delivered:
            self._delivered = False
            try:
                self._child.write(memoryview(b"\n"))
            except BrokenPipeError:
                pass  # the program has ended, and says why
        return self._child

    def _take(self, line: bytes) -> Optional[Result]:
        """Return the version of a line, and None for another event. Raise the program's error at its end."""
        if not line:
            if self._child is not None:  # and was not closed meanwhile
                self._child.finish()
                self.close()
            return None
        found = json.loads(line)
        if found.get("event", "delivered") != "delivered":
            if self._on_event is not None:
                self._on_event(found)
            return None
        self._delivered = True
        return _result(found)

    def close(self) -> None:
        """End it. The last version counts as delivered only if another one was asked for."""
        child, self._child = self._child, None
        if self._transport is not None:
            try:
                self._transport.close()
            except RuntimeError:
                pass  # the loop has been closed
        if child is not None:
            child.stop()

    def __enter__(self) -> Follow:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def main() -> None:
    """Become shardcast-client."""
    _programs.become(_PROGRAM)


if __name__ == "__main__":
    main()
