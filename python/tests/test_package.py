"""What programs for the Python package (0.3) import and call."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import unittest
import urllib.request
from typing import List, Optional

import shardcast
from shardcast import client, client_node, envs, middle_node, origin_server, server, utils

from .case import Case, data, environment

_LINE = re.compile(r"v\d+: [0-9a-f]{64}\|\d+")


def free_port() -> int:
    """Return a port that was free."""
    with contextlib.closing(__import__("socket").socket()) as socket:
        socket.bind(("127.0.0.1", 0))
        return int(socket.getsockname()[1])


class Package(Case):
    def test_a_program_publishes_for_the_whole_process(self) -> None:
        path = self.file("weights.bin", data(200_000))
        with self.assertRaises(RuntimeError):
            shardcast.broadcast(path)
        shardcast.shutdown()
        port = free_port()
        shardcast.initialize(self.path("data"), port=port, max_distribution_folders=2)
        self.addCleanup(shardcast.shutdown)
        with self.assertLogs("shardcast", "WARNING"):
            shardcast.initialize(self.path("data"), port=port)
        self.assertEqual([shardcast.broadcast(path, shard_size=50_000) for _ in range(3)], ["v1", "v2", "v3"])
        with self.assertRaises(FileNotFoundError):
            shardcast.broadcast(self.path("missing"))
        with self.assertRaises(OSError):
            shardcast.OriginServer(self.path("other"), port=port)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/distribution.txt") as answer:
            lines = answer.read().decode().splitlines()
        self.assertEqual([line[:3] for line in lines], ["v2:", "v3:"])
        for line in lines:
            self.assertRegex(line, _LINE)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v3/shard_00004.bin") as answer:
            self.assertEqual(answer.read(), data(200_000)[150_000:])

        with contextlib.closing(Middle(f"127.0.0.1:{port}", self.path("middle"))) as middle:
            reader = shardcast.ClientNode([f"127.0.0.1:{middle.port}"], self.path("downloads"))
            as_served = dict(line.split(": ") for line in lines)
            self.soon(lambda: reader.list_available_versions() == as_served)
            self.assertEqual(reader.download_version("v3"), self.path("downloads", "download_v3.bin"))
            self.assertEqual(self.read(self.path("downloads", "download_v3.bin")), data(200_000))
            self.assertEqual(reader.download_version("v2", self.path("w")), self.path("w"))
            self.assertIsNone(reader.download_version("v9"))
        shardcast.shutdown()
        self.assertEqual(shardcast.ClientNode([f"127.0.0.1:{port}"], self.path("d")).list_available_versions(), {})
        with self.assertRaises(RuntimeError):
            shardcast.broadcast(path)

    def test_modules_have_what_is_imported_of_them(self) -> None:
        self.assertIs(client_node.ClientNode, shardcast.ClientNode)
        self.assertIs(origin_server.OriginServer, shardcast.OriginServer)
        self.assertIs(middle_node.MiddleNode, shardcast.MiddleNode)
        self.assertIs(utils.logger, shardcast.logger)
        self.assertEqual(envs.SHARDCAST_SHARD_SIZE, shardcast.SHARDCAST_SHARD_SIZE)
        self.assertEqual((shardcast.SHARDCAST_HTTP_PORT, shardcast.SHARDCAST_MAX_DISTRIBUTION_FOLDERS), (8000, 5))
        self.assertIs(client.Client, shardcast.Client)
        self.assertIs(server.Origin, shardcast.Origin)
        self.assertTrue(shardcast.__version__)

    def test_modules_run_the_programs(self) -> None:
        for module, program in {
            "client": "client",
            "client_node": "client",
            "origin_server": "origin",
            "server": "origin",
            "middle_node": "middle",
        }.items():
            with self.subTest(module):
                command = [sys.executable, "-W", "ignore", "-m", f"shardcast.{module}", "version"]
                got = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, check=True)
                self.assertTrue(got.stdout.startswith(f"shardcast-{program} ".encode()), got.stdout)
        command = [sys.executable, "-W", "ignore", "-m", "shardcast.client_node", "--bogus"]
        self.assertEqual(subprocess.run(command, env=environment(), stderr=subprocess.DEVNULL).returncode, 2)
        nowhere = {**environment(), "SHARDCAST_BIN": self.dir}
        missing = subprocess.run([*command[:-1], "--list"], env=nowhere, stderr=subprocess.PIPE)
        self.assertEqual(missing.returncode, 1)
        self.assertIn(b"is not in $SHARDCAST_BIN", missing.stderr)


class Middle:
    """A MiddleNode on a port that was free."""

    def __init__(self, upstream: str, data_dir: str) -> None:
        self.port = free_port()
        self._node = shardcast.MiddleNode([upstream], data_dir, port=self.port, check_interval=1)

    def close(self) -> None:
        """End it."""
        self._node.shutdown()


class Poller:
    """Keeps the newest versions in step directories, as trainers' loops around the package do."""

    def __init__(self, servers: List[str], directory: str, keep: int, backlog: int) -> None:
        self.node = shardcast.ClientNode(servers, os.path.join(directory, "arriving"))
        self.directory, self.keep, self.backlog = directory, keep, backlog
        self.last: Optional[int] = None

    def poll(self) -> None:
        """Do once what the loop does every five seconds."""
        numbers = sorted(int(name.lstrip("v")) for name in self.node.list_available_versions().keys())
        if self.last is None:
            wanted = numbers[-self.backlog :]
        else:
            wanted = [number for number in numbers[-1:] if number > self.last]
        for number in wanted:
            step = os.path.join(self.directory, f"step_{number}")
            os.makedirs(step, exist_ok=True)
            path = self.node.download_version(f"v{number}", os.path.join(step, "model.safetensors"))
            if path is None:
                continue
            with open(os.path.join(step, "stable"), "w"):
                pass
            self.last = number
            shutil.rmtree(os.path.join(self.directory, f"step_{number - self.keep}"), ignore_errors=True)


class Loop(Case):
    def test_a_loop_that_polls_works_unchanged(self) -> None:
        port = free_port()
        origin = shardcast.OriginServer(self.path("data"), port=port, max_distribution_folders=5)
        self.addCleanup(origin.shutdown)
        loop = Poller([f"127.0.0.1:{port}"], self.path("steps"), keep=2, backlog=2)
        loop.poll()  # nothing yet
        for number in range(1, 4):
            self.assertEqual(origin.broadcast(self.file("w", data(1000, number))), f"v{number}")
        loop.poll()
        self.assertEqual(self.steps(), ["step_2", "step_3"])
        origin.broadcast(self.file("w", data(1000, 4)))
        origin.broadcast(self.file("w", data(1000, 5)))
        loop.poll()
        loop.poll()
        self.assertEqual(self.steps(), ["step_2", "step_5"])
        self.assertEqual(self.read(self.path("steps", "step_5", "model.safetensors")), data(1000, 5))
        self.assertTrue(os.path.exists(self.path("steps", "step_5", "stable")))

    def steps(self) -> List[str]:
        return sorted(name for name in os.listdir(self.path("steps")) if name.startswith("step_"))


if __name__ == "__main__":
    unittest.main()
