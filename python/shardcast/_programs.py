"""The three programs as child processes of this one.

No shell is involved. A child ends when this process ends, however that ends, because each has a
pipe for stdin whose other end is here (``--exit-with-stdin``). It has a session of its own, so
Ctrl-C reaches Python alone, which decides about its children. A process that forks keeps its
children for itself: the fork neither holds their pipes open nor stops them.
"""

from __future__ import annotations

import atexit
import io
import json
import logging
import os
import select
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Sequence, Set

from ._flags import in_python
from .errors import NotStarted, ShardcastError, error_of

logger = logging.getLogger("shardcast")

# A line of --progress json as a dictionary.
Progress = Callable[[Dict[str, Any]], None]

_LOG_LINES = 20  # kept for an exception
_START_SECONDS = 60.0  # until a server has to listen
_STOP_SECONDS = 35.0  # a server finishes its answers within 30
_EXIT_SECONDS = 5.0  # the same when Python ends
_DRAIN_SECONDS = 5.0  # for the last of the log, which a command of --exec may hold open

_levels = {"DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARN": logging.WARNING, "ERROR": logging.ERROR}


def find(name: str) -> str:
    """Return the path of a program, such as ``shardcast-client``.

    It is looked for in the directory ``$SHARDCAST_BIN``, and in that alone if it is set; then
    where wheels put their programs, and on the PATH. Raise ShardcastError if there is none.
    """
    given = os.environ.get("SHARDCAST_BIN")
    usual: List[Optional[str]] = [sysconfig.get_path("scripts"), _user_scripts(), os.environ.get("PATH")]
    places: List[Optional[str]] = [given] if given else usual
    for place in places:
        path = shutil.which(name, path=place) if place else None
        if path:
            return path
    where = f"not in $SHARDCAST_BIN ({given})" if given else "neither among the scripts of this Python nor on the PATH"
    raise ShardcastError(
        f"the program {name} is {where}: install a wheel of shardcast-go for this system, "
        "which has the programs, or build them with 'make build' and set SHARDCAST_BIN to their directory"
    )


def _user_scripts() -> Optional[str]:
    scheme = f"{os.name}_user"
    return sysconfig.get_path("scripts", scheme) if scheme in sysconfig.get_scheme_names() else None


class Child:
    """A running program. It is a context manager that stops the program at its end.

    With ``source`` the program reads its stdin, which :meth:`write` and :meth:`end_input` feed;
    otherwise it ends with its stdin. ``progress`` is called with each object of ``--progress
    json``, from a thread. ``descriptors`` are passed on.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        source: bool = False,
        progress: Optional[Progress] = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log: Deque[str] = deque(maxlen=_LOG_LINES)
        self._progress = progress
        self._error = ""  # the sentence of the program about its failure
        self._raised: Optional[BaseException] = None  # by progress
        self._lock = threading.Lock()  # guards _stdin
        argv = [find(name), *arguments, "--log-format", "json"]
        argv += ["--log-level", "DEBUG" if logger.isEnabledFor(logging.DEBUG) else "INFO"]
        if not source:
            argv.append("--exit-with-stdin")
        stdin, self._stdin = os.pipe()
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=descriptors,
                start_new_session=True,
            )
        except BaseException:
            os.close(self._stdin)
            raise
        finally:
            os.close(stdin)
        self._owned = True
        self._drain = threading.Thread(target=self._read_log, name=f"{name} log", daemon=True)
        self._drain.start()
        _children.add(self)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def stdout(self) -> io.BufferedReader:
        """What the program prints."""
        assert isinstance(self._process.stdout, io.BufferedReader)
        return self._process.stdout

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def write(self, data: memoryview) -> None:
        """Write bytes to the program's stdin. Raise BrokenPipeError when it reads no more."""
        while data:
            data = data[os.write(self._stdin, data) :]

    def end_input(self) -> None:
        """End the program's stdin. Without ``source`` that ends the program."""
        with self._lock:
            stdin, self._stdin = self._stdin, -1
        if stdin >= 0:
            os.close(stdin)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines that the program prints; at their end see :meth:`finish`."""
        yield from self.stdout
        self.finish()

    def finish(self) -> None:
        """Wait for the end of the program. Raise an error unless its exit code is 0."""
        code = self._process.wait()
        self._drain.join(_DRAIN_SECONDS)
        self.stop()
        if self._raised is not None:
            raise self._raised
        if code != 0:
            raise error_of(code, self.failure(), list(self.log))

    def failure(self) -> str:
        """Return the program's own words about its failure, or its last line, or how it ended."""
        if self._error:
            return self._error
        code = self._process.returncode
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{self.name} {how}" + (f": {self.log[-1]}" if self.log else "")

    def poll(self) -> Optional[int]:
        """Return the exit code, or None while the program runs."""
        return self._process.poll()

    def stop(self, patience: float = _STOP_SECONDS) -> None:
        """End the program by SIGTERM, and by SIGKILL after patience in seconds.

        In a fork of the process that started it, nothing happens.
        """
        if not self._owned:
            return
        try:
            if self._process.poll() is None:
                self._process.terminate()
                self._process.wait(patience)
        except subprocess.TimeoutExpired:
            pass
        finally:  # also after a second Ctrl-C
            self._process.kill()
            self._process.wait()
            self.end_input()  # not before: a program that reads a file there would take that for its end
            self.stdout.close()
            if threading.current_thread() is not self._drain:
                self._drain.join(_DRAIN_SECONDS)
            _children.discard(self)

    def _read_log(self) -> None:
        """Take the program's log, so that it never waits for a reader."""
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            for raw in stderr:
                line = raw.decode(errors="replace").rstrip("\n")
                try:
                    record = json.loads(line)
                except ValueError:
                    record = None
                if isinstance(record, dict):
                    self._take(line, record)
                else:
                    self.log.append(line)

    def _take(self, line: str, record: Dict[str, Any]) -> None:
        if "event" in record:
            if self._progress is not None and self._raised is None:
                try:
                    self._progress(record)
                except BaseException as err:  # raised again where the program is waited for
                    self._raised = err
                    self._process.terminate()
            return
        self.log.append(line)
        if record.get("msg") == "ended" and "err" in record:
            self._error = in_python(str(record["err"]))
            return  # the exception says it
        level = _levels.get(str(record.get("level")), logging.INFO)
        if logger.isEnabledFor(level):
            facts = " ".join(f"{k}={v}" for k, v in record.items() if k not in ("time", "level", "msg"))
            logger.log(level, "%s: %s %s", self.name, record.get("msg"), facts)

    def _forget(self) -> None:
        """Leave the child to the process that forked this one."""
        self._owned = False
        stdin, self._stdin = self._stdin, -1
        if stdin >= 0:
            os.close(stdin)


_children: Set[Child] = set()  # that this process has started and not stopped


@atexit.register
def _stop_all() -> None:
    for child in list(_children):
        child.stop(_EXIT_SECONDS)


def _forget_all() -> None:
    for child in list(_children):
        child._forget()
    _children.clear()


os.register_at_fork(after_in_child=_forget_all)


def run(name: str, arguments: Sequence[str], *, progress: Optional[Progress] = None) -> str:
    """Run a program to its end and return what it prints."""
    with Child(name, arguments, progress=progress) as child:
        return b"".join(child.lines()).decode()


def objects(name: str, arguments: Sequence[str], *, progress: Optional[Progress] = None) -> List[Dict[str, Any]]:
    """Run a program to its end and return the JSON objects that it prints, one a line."""
    return [json.loads(line) for line in run(name, arguments, progress=progress).splitlines()]


class Server(Child):
    """A server that listens: its ``address`` is host:port, its ``port`` the number.

    Raise NotStarted if it ends instead, or does not listen within 60 s.
    """

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        ready, passed = os.pipe()
        try:
            super().__init__(name, [*arguments, "--ready-fd", str(passed)], descriptors=[passed])
        except BaseException:
            os.close(ready)
            raise
        finally:
            os.close(passed)
        try:
            line = self._await(ready)
        except BaseException:
            self.stop(_EXIT_SECONDS)
            raise
        finally:
            os.close(ready)
        self.address = str(line["address"])
        self.port = int(line["port"])

    def _await(self, ready: int) -> Dict[str, Any]:
        line = b""
        end = time.monotonic() + _START_SECONDS
        while not line.endswith(b"\n"):
            # A fork may hold the pipe open, so its end is not waited for alone.
            if select.select([ready], [], [], 0.1)[0]:
                some = os.read(ready, 4096)
                line += some
                if some:
                    continue
                self._process.wait()
            if self._process.poll() is not None:
                self._drain.join(_DRAIN_SECONDS)
                raise NotStarted(self.failure(), self._process.returncode, list(self.log))
            if time.monotonic() > end:
                raise NotStarted(f"{self.name} does not listen after {_START_SECONDS:.0f} s", None, list(self.log))
        found = json.loads(line)
        assert isinstance(found, dict)
        return found


def become(name: str, **environment: str) -> None:
    """Run a program in the place of this process, with its arguments, and with defaults of its environment."""
    for variable, value in environment.items():
        os.environ.setdefault(variable, value)
    try:
        program = find(name)
    except ShardcastError as err:
        sys.exit(f"{name}: {err}")
    os.execv(program, [name, *sys.argv[1:]])
