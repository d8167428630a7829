"""The servers: an :class:`Origin` publishes and serves, a :class:`Middle` relays."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any, Generator, List, Mapping, Optional, Sequence, Union

from . import _programs
from ._flags import Options, Path, Servers, addresses, flags, further
from ._programs import Progress
from ._publishing import Source, publish
from .version import Version, version_of

__all__ = ["Broadcast", "Middle", "Origin", "Source"]


class Broadcast(Future[Version]):
    """A broadcast in the background: a Future of the version, which ``await`` takes as well."""

    def __await__(self) -> Generator[Any, None, Version]:
        return asyncio.wrap_future(self).__await__()


class Origin:
    """Publishes versions in a data directory, and serves them on a port.

    ``port`` is the TCP port, 0 any free one, and None serves nothing: another origin or a web
    server serves the directory. ``host`` is the address to listen on, all by default.
    ``max_versions`` is the number of versions to keep (15 at first), ``shard_size`` the size of a
    shard in bytes (50,000,000) or ``"auto"``. ``dialect`` is the release of the Python package
    whose protocol the root speaks, such as ``"0.3"``.

    ``sign_key`` is the file of the private key that signs what is published, ``password_file`` the
    file of its password, ``feed`` the name of the signed list, and ``expires`` how long a signature
    is valid, such as ``"7d"``. The server does not get the key.

    ``tls_cert`` and ``tls_key`` are the PEM files of the server's certificate, ``client_ca`` that of
    the authorities whose clients may read, and ``read_tokens`` the file of readers' tokens.
    ``options`` are further flags of shardcast-origin.

    The server ends with :meth:`close`, with the ``with`` block, and with this process.
    Raise NotStarted, which is an OSError, if it cannot listen.
    """

    def __init__(
        self,
        data_dir: Path = "./data",
        *,
        host: Optional[str] = None,
        port: Optional[int] = 8000,
        max_versions: Optional[int] = None,
        shard_size: Union[int, str, None] = None,
        dialect: Optional[str] = None,
        sign_key: Optional[Path] = None,
        password_file: Optional[Path] = None,
        feed: Optional[str] = None,
        expires: Optional[str] = None,
        tls_cert: Optional[Path] = None,
        tls_key: Optional[Path] = None,
        client_ca: Optional[Path] = None,
        read_tokens: Optional[Path] = None,
        options: Optional[Options] = None,
    ) -> None:
        self._directory = flags(data_dir=data_dir)
        self._keep = flags(max_versions=max_versions)
        self._shard_size = shard_size
        self._signing = flags(sign_key=sign_key, password_file=password_file, feed=feed, expires=expires)
        self._pending: List[threading.Thread] = []
        self._server: Optional[_programs.Server] = None
        if port is not None:
            serving = flags(
                host=host,
                port=port,
                dialect=dialect,
                tls_cert=tls_cert,
                tls_key=tls_key,
                client_ca=client_ca,
                read_tokens=read_tokens,
            )
            argv = [*self._directory, *self._keep, *serving, *further(options)]
            self._server = _programs.Server("shardcast-origin", argv)

    @property
    def address(self) -> str:
        """Where it listens, such as ``127.0.0.1:8000``, and empty without a server."""
        return self._server.address if self._server else ""

    @property
    def port(self) -> int:
        """The TCP port, and 0 without a server."""
        return self._server.port if self._server else 0

    def broadcast(
        self,
        source: Source,
        *,
        name: Optional[str] = None,
        labels: Optional[Mapping[str, object]] = None,
        run: Optional[str] = None,
        number: Optional[int] = None,
        after: Optional[int] = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        follow_links: bool = False,
        delta: Optional[bool] = None,
        shard_size: Union[int, str, None] = None,
        progress: Optional[Progress] = None,
        options: Optional[Options] = None,
    ) -> Version:
        """Publish source as the next version, and return it when readers can have it.

        ``source`` is the path of a file or directory, bytes, a memoryview, or a file that is open
        for reading bytes. ``name`` is the published name, by default that of the file. ``labels``
        stay with the version, such as ``{"step": 1200}``. ``run`` names a lineage, by default that of
        the data directory; ``number`` is the place in it, and ``after`` the number that the version
        needs: the same run, number and content again is the version that is there, and other content
        an error. ``include`` and ``exclude`` choose the files of a directory by patterns as in
        .gitignore; ``follow_links`` publishes what its links lead to. ``delta`` also publishes what
        has changed since the version before, or not; by default as the data directory is configured.
        ``progress`` is called with dictionaries, from another thread; an exception of it ends the
        broadcast. ``options`` are further flags.

        After an error nothing is published. Raise FileNotFoundError if there is no file at the
        path, and ShardcastError for all else.
        """
        chosen = flags(
            shard_size=shard_size if shard_size is not None else self._shard_size,
            label=dict(labels or {}),
            run=run,
            number=number,
            after=after,
            include=list(include),
            exclude=list(exclude),
            follow_links=follow_links,
            delta=None if delta is None else "on" if delta else "off",
        )
        argv = [*self._directory, *self._keep, *self._signing, *chosen, *further(options)]
        return publish(source, argv, name, progress)

    def broadcast_async(self, source: Source, **how: Any) -> Broadcast:
        """Begin a :meth:`broadcast`, with its arguments, and return a Future of the version.

        ``source`` must not change before it is done. Several take turns. :meth:`close` waits for
        them; the end of Python does not, and then nothing is published.
        """
        coming = Broadcast()
        coming.set_running_or_notify_cancel()

        def work() -> None:
            try:
                coming.set_result(self.broadcast(source, **how))
            except BaseException as err:
                coming.set_exception(err)

        thread = threading.Thread(target=work, name="shardcast broadcast", daemon=True)
        self._pending = [t for t in self._pending if t.is_alive()] + [thread]
        thread.start()
        return coming

    def list(self) -> List[Version]:
        """Return the versions of the data directory, in ascending order."""
        found = _programs.objects("shardcast-origin", ["list", "--json", *self._directory])
        return [version_of(v) for v in found]

    def close(self) -> None:
        """Wait for broadcasts, and end the server, which first finishes its answers, within 30 s."""
        for thread in self._pending:
            thread.join()
        if self._server:
            self._server.stop()

    def __enter__(self) -> Origin:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Middle:
    """Relays the versions of its upstreams, which are origins or other middles.

    ``upstreams`` are their addresses, ``check_interval`` the time in seconds between polls of those
    that push nothing (30). ``key`` is the publisher's public key, ``RWQ...`` or a file of it, and
    ``feed`` the name of the signed list. ``ca_file`` verifies ``https://`` upstreams; ``cert`` and
    ``key_pem`` are this node's certificate, and ``token_file`` has its token. The other arguments,
    and how it ends, are those of :class:`Origin`.
    """

    def __init__(
        self,
        upstreams: Servers,
        data_dir: Path = "./middle_data",
        *,
        host: Optional[str] = None,
        port: int = 8000,
        check_interval: Optional[float] = None,
        max_versions: Optional[int] = None,
        dialect: Optional[str] = None,
        key: Union[Path, Sequence[str], None] = None,
        feed: Optional[str] = None,
        ca_file: Optional[Path] = None,
        cert: Optional[Path] = None,
        key_pem: Optional[Path] = None,
        token_file: Optional[Path] = None,
        tls_cert: Optional[Path] = None,
        tls_key: Optional[Path] = None,
        client_ca: Optional[Path] = None,
        read_tokens: Optional[Path] = None,
        options: Optional[Options] = None,
    ) -> None:
        argv = flags(
            upstream=addresses(upstreams),
            data_dir=data_dir,
            host=host,
            port=port,
            check_interval=check_interval,
            max_versions=max_versions,
            dialect=dialect,
            key=key,
            feed=feed,
            ca_file=ca_file,
            cert=cert,
            key_pem=key_pem,
            token_file=token_file,
            tls_cert=tls_cert,
            tls_key=tls_key,
            client_ca=client_ca,
            read_tokens=read_tokens,
        )
        self._server = _programs.Server("shardcast-middle", [*argv, *further(options)])

    @property
    def address(self) -> str:
        """Where it listens, such as ``127.0.0.1:8000``."""
        return self._server.address

    @property
    def port(self) -> int:
        """The TCP port."""
        return self._server.port

    def close(self) -> None:
        """End the server, which first finishes its answers, within 30 s."""
        self._server.stop()

    def __enter__(self) -> Middle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main() -> None:
    """Become shardcast-origin."""
    _programs.become("shardcast-origin")


if __name__ == "__main__":
    main()
