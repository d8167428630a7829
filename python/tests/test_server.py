"""What an Origin publishes, and how it lives and ends."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import unittest
from typing import Any, Dict, List

import shardcast
from shardcast.server import Source

from .case import Case, data, environment


class Publishing(Case):
    def test_a_file_a_directory_and_bytes_are_versions(self) -> None:
        origin = self.origin()
        client = self.client(origin.address)
        body = data(300_000)
        path = self.file("weights.bin", body)
        self.file("model/a.bin", body)
        self.file("model/sub/b.txt", b"b")
        one = origin.broadcast(path, labels={"step": 1200, "run": "a"})
        self.assertEqual((str(one), one.number, one.file, one.size), ("v1", 1, "weights.bin", 300_000))
        self.assertEqual(one.labels, {"step": "1200", "run": "a"})
        self.assertEqual(origin.broadcast(self.path("model"), include=["*.bin"], name="m").file_count, 1)
        sources: List[Source] = [body, bytearray(body), memoryview(body), io.BytesIO(body)]
        for source in sources:
            version = origin.broadcast(source, name="from memory", shard_size=100_000)
            self.assertEqual((version.digest, version.file, version.shards), (one.digest, "from memory", 3))
        with open(path, "rb") as file:
            file.seek(100_000)
            version = origin.broadcast(file)
            self.assertEqual((version.file, version.size), ("weights.bin", 200_000))
            self.assertEqual(self.read(client.download(version.name).path or ""), body[100_000:])
        self.assertEqual(origin.broadcast(b"").size, 0)
        self.assertEqual([v.name for v in origin.list()], [f"v{n}" for n in range(1, 9)])

    def test_a_number_of_a_run_is_one_version(self) -> None:
        origin = self.origin(port=None)
        first = origin.broadcast(b"full", name="w", run="a", number=6)
        second = origin.broadcast(b"delta", name="w", run="a", number=7, after=6)
        self.assertEqual(second.labels, {"run": "a", "number": "7", "after": "6"})
        self.assertEqual(origin.broadcast(b"delta", name="w", run="a", number=7, after=6).name, second.name)
        with self.assertRaises(shardcast.ShardcastError):
            origin.broadcast(b"other", name="w", run="a", number=7, after=6)
        self.assertEqual([v.name for v in origin.list()], [first.name, second.name])

    def test_a_file_of_unknown_size_is_a_version(self) -> None:
        origin = self.origin(port=None)
        self.assertEqual(origin.address, "")
        read, write = os.pipe()
        os.write(write, b"some bytes")
        os.close(write)
        with open(read, "rb") as pipe:
            self.assertEqual(origin.broadcast(pipe).size, 10)

    def test_nothing_is_published_when_the_source_fails(self) -> None:
        class Failing(io.BytesIO):
            def read(self, size: Any = -1) -> bytes:
                if self.tell() > 2_000_000:
                    raise OSError("the disk fails")
                return super().read(size)

        origin = self.origin(port=None)
        with self.assertRaisesRegex(OSError, "the disk fails"):
            origin.broadcast(Failing(data(4_000_000)))
        with self.assertRaises(FileNotFoundError):
            origin.broadcast(self.path("missing"))
        with self.assertRaisesRegex(TypeError, "mode 'rb'"):
            origin.broadcast(io.StringIO("text"))  # type: ignore[arg-type]
        with self.assertRaisesRegex(shardcast.ShardcastError, "the label's name"):
            origin.broadcast(b"a", labels={"no name": 1})
        self.assertEqual(origin.list(), [])

    def test_nothing_is_published_when_python_is_killed_in_the_middle(self) -> None:
        script = (
            "import os, signal, sys, shardcast\n"
            "class Last(__import__('io').BytesIO):\n"
            "    def read(self, size=-1):\n"
            "        if self.tell(): os.kill(os.getpid(), signal.SIGKILL)\n"
            "        return super().read(size)\n"
            "shardcast.Origin(sys.argv[1], port=None).broadcast(Last(bytes(3_000_000)))\n"
        )
        got = subprocess.run([sys.executable, "-c", script, self.path("data")], env=environment())
        self.assertEqual(got.returncode, -signal.SIGKILL)
        origin = self.origin(port=None)
        self.assertEqual(origin.broadcast(b"next").name, "v1")  # it waits for the one before

    def test_progress_is_told_and_can_end_it(self) -> None:
        origin = self.origin(port=None)
        events: List[Dict[str, Any]] = []
        origin.broadcast(data(100_000), progress=events.append)
        self.assertEqual((events[-1]["event"], events[-1]["done"]), ("done", 100_000))

        class Enough(Exception):
            pass

        def stop(_: Dict[str, Any]) -> None:
            raise Enough

        with self.assertRaises(Enough):
            origin.broadcast(data(100_000), progress=stop)

    def test_a_broadcast_in_the_background_is_a_future(self) -> None:
        origin = self.origin(port=None)
        self.assertEqual(origin.broadcast_async(b"one").result(30).name, "v1")

        async def publish() -> shardcast.Version:
            return await origin.broadcast_async(b"two", name="second")

        self.assertEqual(asyncio.run(publish()).file, "second")
        self.assertIsInstance(origin.broadcast_async(self.path("missing")).exception(30), FileNotFoundError)
        coming = origin.broadcast_async(b"three")
        origin.close()
        self.assertTrue(coming.done())


class Living(Case):
    def test_a_port_that_is_taken_is_an_os_error_with_the_reason(self) -> None:
        origin = self.origin()
        with self.assertRaisesRegex(OSError, "address already in use") as caught:
            self.origin(data_dir=self.path("other"), port=origin.port)
        self.assertIsInstance(caught.exception, shardcast.NotStarted)
        with self.assertRaisesRegex(shardcast.NotStarted, "max_versions"):
            self.origin(data_dir=self.path("other"), max_versions=20_000)

    def test_a_middle_relays(self) -> None:
        origin = self.origin()
        with shardcast.Middle(origin.address, self.path("middle"), host="127.0.0.1", port=0) as middle:
            origin.broadcast(b"relayed")
            client = self.client(middle.address)
            got = client.download("latest", "memory", timeout=30)
            self.assertEqual(bytes(got.memory or b""), b"relayed")
            pid = middle._server.pid
        self.gone(pid)

    def test_a_server_ends_with_its_process_and_not_with_a_fork_of_it(self) -> None:
        script = (
            "import os, sys, time, shardcast\n"
            "origin = shardcast.Origin(sys.argv[1], host='127.0.0.1', port=0)\n"
            "fork = os.fork()\n"
            "if not fork:\n"
            "    if sys.argv[2] == 'ends': sys.exit()\n"
            "    time.sleep(60)\n"
            "if sys.argv[2] == 'ends':\n"
            "    os.waitpid(fork, 0)\n"
            "    shardcast.Client(origin.address).list()\n"
            "print(origin._server.pid, fork, flush=True)\n"
            "if sys.argv[2] == 'ends': sys.exit()\n"
            "time.sleep(60)\n"
        )
        for way in ("ends", "is killed"):
            with self.subTest(way):
                program = [sys.executable, "-c", script, self.path("data"), way]
                with subprocess.Popen(program, env=environment(), stdout=subprocess.PIPE) as process:
                    assert process.stdout is not None
                    server, fork = map(int, process.stdout.readline().split())
                    if way == "ends":
                        self.assertEqual(process.wait(30), 0)
                    process.kill()
                    self.gone(server)
                    if way == "is killed":  # and the fork, which lives on, holds nothing open
                        os.kill(fork, signal.SIGKILL)

    def test_ctrl_c_leaves_the_server_to_python(self) -> None:
        script = (
            "import sys, signal, os, shardcast\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which a background job ignores
            "origin = shardcast.Origin(sys.argv[1], host='127.0.0.1', port=0)\n"
            "try:\n"
            "    os.killpg(0, signal.SIGINT)\n"
            "    signal.pause()\n"
            "except KeyboardInterrupt:\n"
            "    print(origin.broadcast(b'saved'))\n"
        )
        got = subprocess.run(
            [sys.executable, "-c", script, self.path("data")],
            env=environment(),
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.assertEqual((got.returncode, got.stdout), (0, b"v1\n"))


if __name__ == "__main__":
    unittest.main()
