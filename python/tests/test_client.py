"""How versions are listed, fetched and followed."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import unittest
from typing import Any, Dict, List
from unittest import mock

import shardcast
from shardcast import _scratch
from shardcast.client import Into

from .case import Case, data, environment


class Listing(Case):
    def test_versions_are_listed_and_awaited(self) -> None:
        origin = self.origin()
        client = self.client(origin.address)
        self.assertEqual(client.list(), [])
        with self.assertRaises(shardcast.NoSuchVersion) as caught:
            client.wait("v1", timeout=0)
        self.assertEqual(caught.exception.code, 3)
        found: List[shardcast.Version] = []
        waiting = threading.Thread(target=lambda: found.append(client.wait("step=2")))
        waiting.start()
        origin.broadcast(b"one", labels={"step": 1})
        published = origin.broadcast(b"two", labels={"step": 2})
        waiting.join(30)
        self.assertEqual(found[0].digest, published.digest)
        self.assertEqual([v.labels["step"] for v in client.list()], ["1", "2"])
        date = client.list()[0].date
        assert date is not None and date.utcoffset() is not None
        with self.assertRaises(ValueError):
            client.wait("../v1")

    def test_no_server_is_an_error_of_its_own(self) -> None:
        with self.assertRaises(shardcast.NoServer) as caught:
            self.client("127.0.0.1:1").list()
        self.assertIsInstance(caught.exception, ConnectionError)
        self.assertTrue(caught.exception.log)
        with self.assertRaisesRegex(shardcast.BadOption, "give servers or set IP_ADDR_LIST"):
            self.client("").list()


class Downloading(Case):
    def setUp(self) -> None:
        super().setUp()
        self.body = data(300_000)
        self.file("model/a.bin", self.body)
        self.file("model/sub/b.txt", b"b")
        self.file("model/sub/empty", b"")
        self.source = self.origin(shard_size=100_000)
        self.source.broadcast(self.body)
        self.source.broadcast(self.path("model"))
        self.reader = self.client(self.source.address)

    def test_into_a_path(self) -> None:
        events: List[Dict[str, Any]] = []
        got = self.reader.download("v1", self.path("got.bin"), progress=events.append)
        self.assertEqual((got.path, got.version.size, got.memory), (self.path("got.bin"), 300_000, None))
        self.assertEqual(self.read(self.path("got.bin")), self.body)
        self.assertEqual((events[-1]["event"], got.progress["received"]), ("done", 300_000))
        got = self.reader.download()
        self.assertEqual((got.version.name, got.path), ("v2", self.path("downloads", "model")))
        self.assertEqual(self.read(self.path("downloads", "model", "sub", "b.txt")), b"b")
        with self.assertRaises(shardcast.NoSuchVersion):
            self.reader.download("v9", self.path("none"))
        self.assertFalse(os.path.exists(self.path("none")))

    def test_into_memory_of_the_caller(self) -> None:
        room = bytearray(300_001)
        got = self.reader.download("v1", room)
        self.assertEqual((bytes(got.memory or b""), got.version.name), (self.body, "v1"))
        self.assertEqual(room[:-1], self.body)
        with self.assertRaisesRegex(ValueError, "has 300000 bytes, and the memory has 299999"):
            self.reader.download("v1", memoryview(bytearray(299_999)))
        with self.assertRaisesRegex(ValueError, "read-only"):
            self.reader.download("v1", memoryview(bytes(300_000)))
        self.assertEqual(os.listdir(self.path("downloads")), [])

    def test_into_shared_memory(self) -> None:
        with tempfile.TemporaryDirectory(dir=_scratch.memory()) as place:
            with mock.patch.object(_scratch, "memory", lambda: place):
                self.check_shared_memory(place)

    def check_shared_memory(self, place: str) -> None:
        got = self.reader.download("v1", "memory")
        assert got.memory is not None
        self.assertEqual((got.path, got.memory), (None, self.body))
        got.memory[0] = 0  # writable
        model = self.reader.download("v2", "memory")
        self.assertEqual(sorted(model.files), ["a.bin", "sub/b.txt", "sub/empty"])
        self.assertEqual(model.files["a.bin"], self.body)
        self.assertEqual((bytes(model.files["sub/empty"]), model.memory), (b"", None))
        self.assertEqual(os.listdir(place), [])
        with self.assertRaises(shardcast.NoSuchVersion):
            self.reader.download("v9", "memory")
        self.assertEqual(os.listdir(place), [])

    def test_numpy_uses_the_memory_without_a_copy(self) -> None:
        try:
            numpy = importlib.import_module("numpy")  # it is not in every CI, nor are its types
        except ImportError:
            raise unittest.SkipTest("there is no numpy") from None
        got = self.reader.download("v1", "memory")
        assert got.memory is not None
        array = numpy.frombuffer(got.memory, dtype=numpy.uint8)
        got.memory[7] = got.memory[7] ^ 255
        self.assertEqual(int(array[7]), got.memory[7])
        self.assertTrue(array.flags.writeable)

    def test_what_a_killed_process_left_in_memory_is_removed(self) -> None:
        script = "import os, signal, sys; from shardcast._scratch import Scratch; Scratch(sys.argv[1]); "
        script += "print(flush=True); signal.pause()"
        with tempfile.TemporaryDirectory() as place:
            with subprocess.Popen([sys.executable, "-c", script, place], env=environment(), stdout=-1) as process:
                assert process.stdout is not None
                process.stdout.readline()
                with _scratch.Scratch(place):
                    self.assertEqual(len(os.listdir(place)), 2)
                process.kill()
                process.wait()
            with _scratch.Scratch(place) as path:
                self.assertEqual(os.listdir(place), [os.path.basename(path)])

    def test_as_a_stream(self) -> None:
        with self.reader.stream("v1") as stream:
            self.assertEqual((stream.version.size, stream.read(7)), (300_000, self.body[:7]))
            self.assertEqual(stream.read(), self.body[7:])
            self.assertEqual((stream.read(1), stream.progress["event"]), (b"", "done"))
        with self.reader.stream() as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            self.assertIn("sub/b.txt", [member.name for member in tar])
        stream = self.reader.stream("v1")
        stream.read(1)
        stream.close()
        self.assertEqual(os.listdir(self.path("downloads")), [])
        with self.assertRaises(ValueError):
            stream.read(1)

    def test_wrong_bytes_are_an_integrity_error(self) -> None:
        with open(self.path("data", "v1", "shard_002.bin"), "r+b") as shard:
            shard.write(b"wrong")
        places: List[Into] = [self.path("got.bin"), "memory", bytearray(300_000)]
        for into in places:
            with self.subTest(type(into)), self.assertRaises(shardcast.IntegrityError):
                self.reader.download("v1", into)
        self.assertFalse(os.path.exists(self.path("got.bin")))
        with self.reader.stream("v1") as stream, self.assertRaises(shardcast.IntegrityError):
            while stream.read(1 << 20):
                pass

    def test_many_threads_use_one_client(self) -> None:
        got: List[bytes] = []

        def fetch() -> None:
            got.append(bytes(self.reader.download("v1", "memory").memory or b""))

        threads = [threading.Thread(target=fetch) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertTrue(got == [self.body] * 8, f"{len(got)} of 8 are done")

    def test_an_exception_of_progress_ends_it(self) -> None:
        def stop(_: Dict[str, Any]) -> None:
            raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            self.reader.download("v1", self.path("got.bin"), progress=stop)


class Signed(Case):
    def test_only_what_the_publisher_has_signed_counts(self) -> None:
        for name in ("publisher", "other"):
            subprocess.run(
                [shardcast._programs.find("shardcast-origin"), "keygen", "--no-password", "--feed=f"]
                + [f"--key-file={self.path(name)}.key"],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        state = {"state-dir": self.path("publishing")}
        origin = self.origin(sign_key=self.path("publisher.key"), feed="f")
        origin.broadcast(b"signed", options=state)
        how = {"feed": "f", "state_dir": self.path("state")}
        reader = self.client(origin.address, key=self.path("publisher.pub"), **how)
        got = reader.download("latest", "memory")
        self.assertEqual((bytes(got.memory or b""), got.version.signed, got.verified), (b"signed", True, "signed"))
        with self.assertRaises(shardcast.NotTrusted):
            self.client(origin.address, key=self.path("other.pub"), **how).download("latest", "memory")


class Following(Case):
    def setUp(self) -> None:
        super().setUp()
        self.source = self.origin()
        self.reader = self.client(self.source.address)

    def test_each_version_stays_until_the_next_is_asked_for(self) -> None:
        self.source.broadcast(b"one", name="w")
        with self.reader.follow(self.path("w"), keep=1, marker="stable", all=True) as follow:
            first = next(follow)
            assert first.path is not None
            self.assertEqual((first.version.name, first.path), ("v1", self.path("w", "v1", "w")))
            self.assertTrue(os.path.exists(self.path("w", "v1", "stable")))
            self.source.broadcast(b"two", name="w")
            self.source.broadcast(b"three", name="w")
            self.assertEqual(self.read(first.path), b"one")
            self.assertEqual(next(follow).version.name, "v2")
            self.assertFalse(os.path.exists(first.path))
            assert follow._child is not None
            pid = follow._child.pid
        self.gone(pid)
        self.assertRaises(StopIteration, next, follow)
        for got in self.reader.follow(self.path("w"), keep=1):
            self.assertEqual(got.version.name, "v2")  # it was not done with
            break

    def test_a_broken_off_loop_ends_the_program(self) -> None:
        self.source.broadcast(b"one")
        follow = self.reader.follow(self.path("w"))
        assert follow._child is not None
        pid = follow._child.pid
        for _ in follow:
            break
        del follow
        self.gone(pid)

    def test_a_command_that_runs_on_holds_nothing_up(self) -> None:
        self.source.broadcast(b"one")
        pid = self.path("pid")
        command = f"test -e {pid} || {{ sleep 60 3>&- & echo $! >{pid}; }}"
        with mock.patch.object(shardcast._programs, "_DRAIN_SECONDS", 0.1):
            with self.reader.follow(self.path("w"), options={"exec": command}) as follow:
                next(follow)
                self.soon(lambda: os.path.exists(pid) and self.read(pid))
                self.source.broadcast(b"two")
                next(follow)
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(self.read(pid)), signal.SIGKILL)

    def test_versions_that_do_not_come_are_told(self) -> None:
        events: List[Dict[str, Any]] = []
        self.source.broadcast(b"one", labels={"step": 1})
        follow = self.reader.follow(self.path("w"), template="{label.step}/w", on_event=events.append)
        with follow:
            next(follow)
            self.source.broadcast(b"no step")
            self.source.broadcast(b"three", labels={"step": 3})
            self.assertEqual(next(follow).path, self.path("w", "3", "w"))
        self.assertEqual([e["version"] for e in events], ["v2"])

    def test_an_error_of_the_program_is_raised(self) -> None:
        with self.assertRaisesRegex(shardcast.BadOption, "^template: "):
            next(self.reader.follow(self.path("w"), template="{nonsense}"))
        self.source.broadcast(b"one")
        with self.reader.follow(self.path("w")) as follow:
            next(follow)
            with self.assertRaisesRegex(shardcast.ShardcastError, "another follow"):
                next(self.reader.follow(self.path("w")))

    def test_async_for(self) -> None:
        self.source.broadcast(b"one")
        names: List[str] = []

        async def follow() -> None:
            async for got in self.reader.follow(self.path("w")):
                names.append(got.version.name)
                if len(names) == 2:
                    break
                await self.source.broadcast_async(b"two")

        async def cancelled() -> int:
            follow = self.reader.follow(self.path("w"), from_="v3")
            assert follow._child is not None
            pid = follow._child.pid

            async def consume() -> None:
                async for _ in follow:
                    pass

            task = asyncio.ensure_future(consume())
            await asyncio.sleep(0)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            return pid

        asyncio.run(follow())
        self.assertEqual(names, ["v1", "v2"])
        self.gone(asyncio.run(cancelled()))

    def test_ctrl_c_ends_the_program(self) -> None:
        script = (
            "import signal, sys, shardcast\n"
            "from shardcast._programs import _children\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which a background job ignores
            "try:\n"
            "    for got in shardcast.Client(sys.argv[1]).follow(sys.argv[2]):\n"
            "        print(next(iter(_children)).pid, got.version, flush=True)\n"
            "except KeyboardInterrupt:\n"
            "    print('interrupted', len(_children), flush=True)\n"
        )
        self.source.broadcast(b"one")
        command = [sys.executable, "-c", script, self.source.address, self.path("w")]
        with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            pid, version = process.stdout.readline().split()
            process.send_signal(signal.SIGINT)
            self.assertEqual((version, process.stdout.readline()), (b"v1", b"interrupted 0\n"))
        self.gone(int(pid))


if __name__ == "__main__":
    unittest.main()
