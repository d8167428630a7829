"""Hooks of trainers and engines: weights go from one to the others without a shared file system.

slime and miles write each version of the weights into a directory ``weight_v000007``, and SGLang's
engines read it on other hosts. :func:`post_write` publishes that directory on the trainer's host,
and :func:`pre_read` brings it to an engine's::

    --custom-update-weight-post-write-path shardcast.hooks.post_write
    --sglang-custom-pull-weights-pre-read-hook shardcast.hooks.pre_read

All settings come from the environment. The programs take theirs from there, such as
``SHARDCAST_DATA_DIR`` and ``SHARDCAST_HTTP_PORT`` on the trainer's host, and ``IP_ADDR_LIST``,
``SHARDCAST_KEY`` and ``SHARDCAST_KEEP`` on an engine's. The hooks have these:

``SHARDCAST_PUBLISHER``
    Which process publishes: the one with this in its environment (``RANK=0``). A process without
    that variable publishes, too.
``SHARDCAST_SERVE``
    0 has :func:`post_write` start no origin, since another process serves the data directory.
``SHARDCAST_RUN_NAME``
    The name of the runs (``run``). Each has its time behind it.
``SHARDCAST_FOLLOW``
    0 has :func:`pre_read` start no ``follow``, since another process keeps the directory up to date.
``SHARDCAST_HOOK_TIMEOUT``
    The longest time of :func:`pre_read`, in seconds (900).

On an engine's host a directory has its name only when all of it is there, and never changes after.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import struct
import threading
import time
from contextlib import contextmanager, suppress
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from . import _programs
from .errors import NoServer, NoSuchVersion, NotStarted, NotTrusted, ShardcastError

__all__ = ["post_write", "pre_read"]

_VERSION = re.compile(r"weight_v(\d+)")
_NAME = "weight_v{label.number:06}"  # for follow
_INDEX = "model.safetensors.index.json"

# The largest header of a file of tensors in bytes, as in the format's own library.
_MAX_HEADER = 100_000_000

# The largest --max-chain.
_LONGEST_CHAIN = "10000"

# How long no server may answer, or have the publisher's word, until that is an error, in seconds.
_PATIENCE = 60.0

# The pause between two looks, in seconds.
_PAUSE = 0.05


def post_write(args: Any, version_dir: str, engines: Any) -> None:
    """Publish the version in a directory; or begin a run, where it is the directory of all versions.

    A trainer calls this on every rank after the files are written, and one of them publishes. It
    returns when the version is on offer, so that engines can be told. The same version again is the
    one that is there. Neither args nor engines are used. Raise ShardcastError if nothing was
    published.
    """
    if not _publishes():
        return
    path = os.path.abspath(os.fspath(version_dir))
    with _explained(f"post_write of {path}"):
        data_dir = os.environ.get("SHARDCAST_DATA_DIR")
        if not data_dir:
            raise ShardcastError("SHARDCAST_DATA_DIR is not set: the directory that keeps the published versions")
        version = _VERSION.fullmatch(os.path.basename(path))
        if version is None:
            _begin_run(data_dir)
            _serve(data_dir)
            return
        lineage = _read_lineage(path)
        run = _run(data_dir) or _begin_run(data_dir)
        _serve(data_dir)
        lineage += ["--run", run, "--number", str(int(version[1]))]
        _origin(data_dir, "broadcast", path, "--progress", "none", *lineage)


def pre_read(source_dir: str, target_version: int) -> None:
    """Bring a version into a directory, and before it those that it needs.

    An engine calls this on every rank before it reads ``weight_v%06d``, from the target down to a
    full version. One process of the host at a time brings versions, and the others wait for it.
    Raise ShardcastError if the directory does not have them all, and no server gives them in time.
    """
    target = int(target_version)
    if target <= 0:  # version 0 is the engine's own model
        return
    begun = time.monotonic()
    source = os.path.abspath(os.fspath(source_dir))
    with _explained(f"pre_read of weight_v{target:06d} into {source}"):
        deadline = begun + _timeout()
        os.makedirs(source, exist_ok=True)
        with _Lock(source, deadline) as lock:
            last = lock.read()
            if last.target == target and begun <= last.looked <= time.monotonic():
                return  # another rank has brought it since this one was called
            looked = time.monotonic()
            run = _bring(source, target, last, deadline)
            lock.write(_Last(run, target, looked))


@contextmanager
def _explained(attempt: str) -> Iterator[None]:
    """Say in an error what was tried."""
    try:
        yield
    except ShardcastError as err:
        raise type(err)(f"shardcast.hooks.{attempt}: {err}", err.code, err.log) from None
    except OSError as err:
        raise ShardcastError(f"shardcast.hooks.{attempt}: {err}") from err


def _timeout() -> float:
    value = os.environ.get("SHARDCAST_HOOK_TIMEOUT") or "900"
    try:
        return float(value)
    except ValueError:
        raise ShardcastError(f"SHARDCAST_HOOK_TIMEOUT is {value!r}, want seconds") from None


# The trainer's host.


def _publishes() -> bool:
    name, _, value = (os.environ.get("SHARDCAST_PUBLISHER") or "RANK=0").partition("=")
    return os.environ.get(name, value) == value


def _origin(data_dir: str, command: str, *arguments: str) -> str:
    return _programs.run("shardcast-origin", [command, *arguments, "--data-dir", data_dir])


def _run_name() -> str:
    return os.environ.get("SHARDCAST_RUN_NAME") or "run"


def _run(data_dir: str) -> str:
    """The run that the data directory is at, or nothing if that is not one of this name."""
    if not os.path.isdir(data_dir):
        return ""
    # Trainers may write deltas alone, and a longer chain would end their training.
    longest = os.environ.get("SHARDCAST_MAX_CHAIN") or _LONGEST_CHAIN
    run = str(json.loads(_origin(data_dir, "config", "--json", "--max-chain", longest)).get("run", ""))
    return run if run.startswith(_run_name() + "-") else ""


def _begin_run(data_dir: str) -> str:
    """Begin a run, which takes the versions of other runs out of the distribution."""
    run = f"{_run_name()}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.urandom(2).hex()}"
    _origin(data_dir, "new-run", run)
    return run


_serving = threading.Lock()  # guards _servers
_servers: Dict[str, _programs.Server] = {}  # by their data directory


def _serve(data_dir: str) -> None:
    """Start an origin that serves the data directory until this process ends, unless one runs."""
    if os.environ.get("SHARDCAST_SERVE") == "0":
        return
    with _serving:
        server = _servers.get(data_dir)
        if server is not None and server.poll() is None:
            return
        try:
            _servers[data_dir] = _programs.Server("shardcast-origin", ["--data-dir", data_dir])
        except NotStarted as err:
            if "is kept by shardcast-origin" not in str(err):
                raise


def _read_lineage(path: str) -> List[str]:
    """Check that a version has all of its files, and return the flags for its place in the run.

    Engines do not check that: of a version that lacks a file they make wrong weights, and one that
    lacks its index is a full version to them.
    """
    there = {entry for entry in os.listdir(path) if entry.endswith(".safetensors")}
    index, lineage = os.path.join(path, _INDEX), ["--lineage", "hf-delta"]
    try:
        with open(index, encoding="utf-8") as file:
            parsed = json.load(file)
        named: Set[str] = set(parsed["weight_map"].values())
        if "version" not in parsed.get("metadata", {}):
            lineage = []  # a full version
    except FileNotFoundError:
        if there != {"model.safetensors"}:  # a model of one file needs no index
            raise ShardcastError(f"{_INDEX} is not there, so engines would take this for a full version") from None
        named, lineage = there, []
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ShardcastError(
            f"{_INDEX} is not an index of tensors, which has the file of each in its weight_map; "
            "it may not have been written to its end"
        ) from None
    if missing := named - there:
        raise ShardcastError(f"{min(missing)} is not there, and {_INDEX} names it; do all ranks write to this host?")
    for name in sorted(there):
        size, whole = os.path.getsize(os.path.join(path, name)), _safetensors_size(os.path.join(path, name))
        if size != whole:
            raise ShardcastError(f"{name} has {size} bytes, and by its header {whole}; it was not written to its end")
    return lineage


def _safetensors_size(path: str) -> int:
    """The size in bytes that a file of tensors has by its header."""
    try:
        with open(path, "rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > _MAX_HEADER:
                raise ValueError("the header is too large")
            header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        return 8 + int(size) + max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
    except (struct.error, ValueError, KeyError, AttributeError, TypeError, IndexError):
        raise ShardcastError(
            f"{os.path.basename(path)} has no whole header of tensors; it may not have been written to its end"
        ) from None


# An engine's host.


class _Last(NamedTuple):
    """What was brought last: which target of which run, and when servers were asked, in monotonic seconds."""

    run: str = ""
    target: int = 0
    looked: float = 0.0


class _Lock:
    """The lock of the processes of a host that bring versions into a directory; its file has a _Last."""

    def __init__(self, source: str, deadline: float) -> None:
        self._path = os.path.join(source, ".shardcast-pre-read")
        self._deadline = deadline

    def __enter__(self) -> _Lock:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return self
                except BlockingIOError:
                    if time.monotonic() > self._deadline:
                        raise ShardcastError(f"another process has held {self._path} all the time") from None
                    time.sleep(_PAUSE)
        except BaseException:
            os.close(self._fd)
            raise

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)  # also where a fork of this process has the descriptor
        os.close(self._fd)

    def read(self) -> _Last:
        try:
            return _Last(**json.loads(os.pread(self._fd, 65536, 0)))
        except (ValueError, TypeError):  # there is none, or a process died while it wrote one
            return _Last()

    def write(self, last: _Last) -> None:
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(last._asdict()).encode(), 0)


def _bring(source: str, target: int, last: _Last, deadline: float) -> str:
    """Have the target and what it needs in the directory, and return its run."""
    run = _await_listed(source, target, last, deadline)
    if os.environ.get("SHARDCAST_FOLLOW") == "0":
        _await_delivered(source, run, target, None, deadline)
        return run
    if _missing(_held(source, run), target) is None:
        return run
    follower = _Follower(source)
    with follower:
        _await_delivered(source, run, target, follower, deadline)
    return run


def _await_listed(source: str, target: int, last: _Last, deadline: float) -> str:
    """Wait until servers have the target in the newest run, and return the name of the run.

    A directory of the target's name may be there, of an older run. So servers are asked each time,
    and if the target would go back in its run, they do not know yet of a new one.
    """
    failing = None
    pause = _PAUSE
    while True:
        now = time.monotonic()
        try:
            run, newest = _newest()
        except (NoServer, NotTrusted) as err:
            failing = failing or now
            if now > min(deadline, failing + _PATIENCE):
                raise err
        else:
            failing = None
            if run == last.run and target < last.target:
                why = f"weight_v{last.target:06d} of run {run!r} was here before, and no server lists a newer run"
            elif newest >= target:
                return run
            elif newest:
                why = f"the newest version that servers list is weight_v{newest:06d} of run {run!r}"
            else:
                why = "servers list no version of a run"
            if now > deadline:
                raise NoSuchVersion(why)
        time.sleep(pause)
        pause = min(2 * pause, 1.0)


def _newest() -> Tuple[str, int]:
    """The run of the newest version that servers list, and its number there, or 0."""
    try:
        versions = _programs.objects("shardcast-client", ["--list", "--version", "latest", "--json", "--attempts", "1"])
    except NoSuchVersion:
        return "", 0
    return _place(versions[0].get("labels", {}))


def _place(labels: Dict[str, str]) -> Tuple[str, int]:
    """The run and the number in it that labels say, 0 if they say none."""
    return labels.get("run", ""), int(labels.get("number", 0))


class _Follower(_programs.Child):
    """A follow that brings the versions of the newest run into a directory, in order."""

    def __init__(self, source: str) -> None:
        arguments = ["follow", "--all", "--lineage", "--json", "--progress", "none"]
        arguments += ["--output-dir", source, "--output-template", _NAME]
        super().__init__("shardcast-client", arguments)
        self.gap = ""  # which version was said last to lack what it needs
        self.gap_since = 0.0
        threading.Thread(target=self._read_events, daemon=True).start()

    def _read_events(self) -> None:
        with suppress(ValueError):  # stop may close stdout in the middle of a line
            for line in self.stdout:
                event = json.loads(line)
                if event.get("event") == "gap":
                    self.gap_since = time.monotonic()
                    self.gap = f"{event['version']} needs number {event['missing']} of run {event['run']!r}"
                elif "path" in event:
                    self.gap = ""


def _await_delivered(source: str, run: str, target: int, follower: Optional[_Follower], deadline: float) -> None:
    """Wait until the target and what it needs are in the directory."""
    while True:
        ended = follower is not None and follower.poll() is not None
        held = _held(source, run)
        missing = _missing(held, target)
        if missing is None:
            return
        if target in held:
            raise ShardcastError(f"weight_v{missing:06d}, which it needs, was removed; empty the directory")
        if max(held, default=0) > target:
            raise NoSuchVersion(f"weight_v{max(held):06d} came in its place, and servers do not have it any more")
        now, log, why = time.monotonic(), [], "it has not come in time"
        if follower is not None:
            log = list(follower.log)
            if ended:
                raise ShardcastError(follower.failure(), follower.poll(), log)
            if follower.gap:  # a middle that has just begun has the newest version first
                why = f"{follower.gap}, and no server has that"
                if now > follower.gap_since + _PATIENCE:
                    raise NoSuchVersion(why, None, log)
        if now > deadline:
            raise NoSuchVersion(why, None, log)
        time.sleep(_PAUSE)


def _held(source: str, run: str) -> Dict[int, int]:
    """The numbers of a run that follow has delivered here, each with the number that it needs, or 0."""
    try:
        with open(os.path.join(source, ".shardcast-follow", "versions.json"), encoding="utf-8") as file:
            record = json.load(file)
    except FileNotFoundError:
        return {}
    held = {}
    for version in record.get("held") or []:
        labels = version["manifest"].get("labels", {})
        of, number = _place(labels)
        if version["delivered"] and of == run and number > 0:
            if version["path"] == f"weight_v{number:06d}" and os.path.isdir(os.path.join(source, version["path"])):
                held[number] = int(labels.get("after", 0))
    return held


def _missing(held: Dict[int, int], target: int) -> Optional[int]:
    """The newest number that is not there, of the target and those that it needs."""
    number = target
    while number in held:
        if held[number] == 0:
            return None
        number = held[number]
    return number
