"""Weights go from a made-up trainer through an origin and a middle to two made-up engines, by the hooks."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path
from typing import Dict, List
from unittest import mock

from shardcast import _programs, hooks
from shardcast.errors import NotTrusted, ShardcastError

from . import checkpoint
from .case import Case

# Far longer than a process takes, in seconds.
LONG = 60.0


class Watcher:
    """Looks at a directory all the time, and checks each version that it sees against what was written."""

    def __init__(self, source: Path, written: Dict[str, List[Dict[str, bytes]]]) -> None:
        self.source = source
        self.written = written
        self.wrong: List[str] = []
        self.seen: Dict[str, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        self._look(again=True)

    def _watch(self) -> None:
        while not self._ended.is_set():
            self._look()
            time.sleep(0.001)

    def _look(self, again: bool = False) -> None:
        try:
            names = os.listdir(self.source)
        except FileNotFoundError:
            return
        for name in names:
            if not name.startswith("weight_v"):
                continue
            version = self.source / name
            try:
                inode = version.stat().st_ino
                if self.seen.get(name) == inode and not again:
                    continue
                got = checkpoint.contents(version)
            except FileNotFoundError:
                got, inode = {}, 0
            if got in self.written.get(name, []):
                self.seen[name] = inode
            elif version.exists() and version.stat().st_ino == inode:  # and not one that has gone meanwhile
                self.wrong.append(f"{version} has {({file: len(data) for file, data in got.items()})}")


class Host:
    """A machine, by its environment. Code in a with statement, or started by it, runs there."""

    def __init__(self, **environment: str) -> None:
        self.environment = environment

    def __enter__(self) -> None:
        self._patch = mock.patch.dict(os.environ, self.environment)
        self._patch.start()

    def __exit__(self, *_: object) -> None:
        self._patch.stop()

    def start_pre_read(self, source: Path, target: int) -> "subprocess.Popen[str]":
        """Call the engine's hook in a process of its own, as a rank does."""
        code = "import sys; from shardcast import hooks; hooks.pre_read(sys.argv[1], int(sys.argv[2]))"
        return subprocess.Popen(
            [sys.executable, "-c", code, str(source), str(target)],
            env={**os.environ, **self.environment, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.PIPE,
            text=True,
        )


class HooksTest(Case):
    """A trainer's host, whose versions are published, and whatever of the way to engines a test adds."""

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.dir)
        self.base = checkpoint.base()
        self.trainer = checkpoint.Trainer(self.root / "trainer", self.base)
        self.written: Dict[str, List[Dict[str, bytes]]] = {}  # the contents of directories, by their names
        self.data = self.root / "data"
        self.trainer_host = Host(
            SHARDCAST_DATA_DIR=str(self.data),
            SHARDCAST_SHARD_SIZE="20000",
            SHARDCAST_HOST="127.0.0.1",
            SHARDCAST_HTTP_PORT="0",
            RANK="0",
        )
        self.addCleanup(self.stop_origin)

    def stop_origin(self) -> None:
        server = hooks._servers.pop(str(self.data), None)
        if server is not None:
            server.stop()

    def post_write(self, path: Path) -> None:
        with self.trainer_host:
            hooks.post_write(None, str(path), [])

    def publish(self, full: bool = False, encoding: str = "xor") -> checkpoint.Tensors:
        """Take a step, and write and publish its version. Return the weights after it."""
        self.trainer.step()
        path = self.trainer.write(full, encoding)
        self.written.setdefault(path.name, []).append(checkpoint.contents(path))
        self.post_write(path)
        return dict(self.trainer.tensors)

    @property
    def address(self) -> str:
        """The address of the origin that the hook has started."""
        return hooks._servers[str(self.data)].address

    def start_middle(self, *flags: str) -> _programs.Server:
        arguments = ["--upstream", self.address, "--data-dir", str(self.root / "middle"), "--host", "127.0.0.1"]
        middle = _programs.Server("shardcast-middle", [*arguments, "--port", "0", *flags])
        self.addCleanup(middle.stop)
        return middle

    def listed(self) -> List[int]:
        """The numbers of the versions that the origin lists."""
        lines = (self.data / "distribution.txt").read_text().splitlines()
        manifests = (json.loads((self.data / line.split(":")[0] / "manifest.json").read_text()) for line in lines)
        return [int(manifest["labels"]["number"]) for manifest in manifests]

    def watch(self, source: Path) -> None:
        """Watch a directory until the end of the test."""
        watcher = Watcher(source, self.written)
        self.addCleanup(lambda: self.assertEqual(watcher.wrong, []))
        self.addCleanup(watcher.stop)

    def pull(self, host: Host, engine: checkpoint.Engine, source: Path, target: int) -> None:
        with host:
            hooks.pre_read(str(source), target)
        engine.pull(source, target)
        self.assertEqual(engine.applied, target)


def versions_in(source: Path) -> List[int]:
    return sorted(int(entry.name[8:]) for entry in source.iterdir() if entry.name.startswith("weight_v"))


class StoryTest(HooksTest):
    def test_two_engines_behind_a_middle_have_the_weights_of_each_version(self) -> None:
        """Full versions and deltas, an engine that comes late and is killed, a retention of 3, a new run."""
        self.trainer_host.environment["SHARDCAST_MAX_DISTRIBUTION_FOLDERS"] = "3"
        self.post_write(self.trainer.start())
        middle = self.start_middle("--max-versions", "3")
        first, late = (Host(IP_ADDR_LIST=middle.address, SHARDCAST_KEEP="3") for _ in range(2))
        first_source, late_source = self.root / "first", self.root / "late"
        first_source.mkdir()
        (first_source / "notes.txt").write_text("of the host's user")
        self.watch(first_source)
        self.watch(late_source)
        engine, late_engine = checkpoint.Engine(self.base), checkpoint.Engine(self.base)
        for number in range(1, 24):
            weights = self.publish(number in (1, 10, 21), "overwrite" if number % 3 == 0 else "xor")
            self.pull(first, engine, first_source, number)
            self.assertEqual(engine.tensors, weights)
            if number == 17:
                self.killed(late, late_source, number)
                self.assertEqual(versions_in(late_source), list(range(10, 18)))
                self.pull(late, late_engine, late_source, number)
                self.assertEqual(late_engine.tensors, weights)
            if number == 20:
                self.assertEqual(self.listed(), list(range(10, 21)), "the newest three, and what they need")
        self.assertEqual(self.listed(), [21, 22, 23])
        self.assertEqual(versions_in(first_source), [21, 22, 23])

        # A run of another model, which writes deltas alone, from version 0 on.
        self.base = checkpoint.base(seed=2)
        self.trainer = checkpoint.Trainer(self.root / "trainer", self.base, seed=2)
        self.post_write(self.trainer.start())
        engine, late_engine = checkpoint.Engine(self.base), checkpoint.Engine(self.base)
        for number in range(1, 3):
            weights = self.publish()
            self.pull(first, engine, first_source, number)
            self.assertEqual(engine.tensors, weights)
        self.pull(late, late_engine, late_source, 2)
        self.assertEqual(late_engine.tensors, weights)
        for source in (first_source, late_source):
            self.assertEqual(versions_in(source), [1, 2], "the older run's directories are gone")
        self.assertEqual((first_source / "notes.txt").read_text(), "of the host's user")

    def killed(self, host: Host, source: Path, target: int) -> None:
        """Kill a rank that fetches the target; another one that waits for it goes on."""
        host.environment["SHARDCAST_LIMIT_RATE"] = "40KB/s"
        leader = host.start_pre_read(source, target)
        self.soon(lambda: source.is_dir() and any(source.glob(".weight_v*")))  # its first bytes are here
        del host.environment["SHARDCAST_LIMIT_RATE"]
        other = host.start_pre_read(source, target)
        leader.kill()
        leader.communicate()
        self.assertEqual(leader.returncode, -signal.SIGKILL)
        _, stderr = other.communicate(timeout=LONG)
        self.assertEqual(other.returncode, 0, stderr)

    def test_eight_ranks_at_once_fetch_a_version_once(self) -> None:
        self.post_write(self.trainer.start())
        log = self.root / "access.log"
        middle = self.start_middle("--access-log", str(log))
        self.publish(full=True)
        self.publish()
        engine_host, source = Host(IP_ADDR_LIST=middle.address), self.root / "engine"
        self.watch(source)
        ranks = [engine_host.start_pre_read(source, 2) for _ in range(8)]
        for rank in ranks:
            _, stderr = rank.communicate(timeout=LONG)
            self.assertEqual(rank.returncode, 0, stderr)
        engine = checkpoint.Engine(self.base)
        engine.pull(source, 2)
        self.assertEqual(engine.tensors, self.trainer.tensors)
        middle.stop()
        shards = [path for path in re.findall(r'GET (/v\d+/shard_\d+.bin)', log.read_text())]
        self.assertGreater(len(shards), 5)
        self.assertEqual(len(shards), len(set(shards)))


class PostWriteTest(HooksTest):
    def setUp(self) -> None:
        super().setUp()
        self.trainer_host.environment["SHARDCAST_SERVE"] = "0"
        self.post_write(self.trainer.start())
        self.publish(full=True)
        self.trainer.step()

    def refused(self, path: Path, why: str) -> None:
        with self.assertRaisesRegex(ShardcastError, f"^shardcast.hooks.post_write of {path}: .*{why}"):
            self.post_write(path)
        self.assertEqual(self.listed(), [1])

    def test_a_version_without_one_of_its_files_is_not_published(self) -> None:
        path = self.trainer.write()
        file = path / "model-00001-of-00002.safetensors"
        aside = file.rename(self.root / "aside")
        self.refused(path, "model-00001-of-00002.safetensors is not there, and model.safetensors.index.json names it")
        aside.rename(file)
        self.post_write(path)
        self.assertEqual(self.listed(), [1, 2])

    def test_a_version_with_half_a_file_is_not_published(self) -> None:
        path = self.trainer.write()
        file = path / "model-00000-of-00002.safetensors"
        whole = file.read_bytes()
        for part in (whole[:-1], whole[: len(whole) // 2], whole[:100], whole[:7], b"", b"\xff" * 100):
            file.write_bytes(part)
            self.refused(
                path,
                r"model-00000-of-00002.safetensors has (\d+ bytes, and by its header \d+; it was not|"
                "no whole header of tensors; it may not have been) written to its end$",
            )
        file.write_bytes(whole)
        self.post_write(path)
        self.assertEqual(self.listed(), [1, 2])

    def test_a_version_without_its_index_is_not_published(self) -> None:
        path = self.trainer.write()
        index = path / checkpoint.INDEX
        aside = index.rename(self.root / "aside")
        self.refused(path, "model.safetensors.index.json is not there, so engines would take this for a full version")
        index.write_text(aside.read_text()[:-20])
        self.refused(path, "model.safetensors.index.json is not an index of tensors, which .*written to its end$")
        aside.rename(index)
        self.post_write(path)
        self.assertEqual(self.listed(), [1, 2])

    def test_a_version_under_the_name_of_another_is_not_published(self) -> None:
        path = self.trainer.write()
        self.refused(path.rename(path.with_name("weight_v000003")), "number 3")

    def test_a_full_model_of_one_file_without_an_index_is_published(self) -> None:
        path = self.trainer.directory / "weight_v000002"
        path.mkdir()
        checkpoint.write_safetensors(path / "model.safetensors", self.trainer.tensors)
        self.post_write(path)
        self.assertEqual(self.listed(), [1, 2])

    def test_other_ranks_publish_nothing(self) -> None:
        path = self.trainer.write()
        self.trainer_host.environment["RANK"] = "1"
        self.post_write(path)
        self.post_write(self.trainer.directory)
        self.assertEqual(self.listed(), [1])
        self.trainer_host.environment.update(SHARDCAST_PUBLISHER="LOCAL_RANK=0", LOCAL_RANK="0")
        self.post_write(path)
        self.assertEqual(self.listed(), [1, 2])

    def test_a_version_is_published_once(self) -> None:
        path = self.trainer.write()
        for _ in range(2):
            self.post_write(path)
        self.assertEqual(self.listed(), [1, 2])
        self.trainer.step()
        shutil.rmtree(path)
        self.trainer.number = 2
        with self.assertRaisesRegex(ShardcastError, "number 2 of run .* is v2 already, with digest"):
            self.post_write(self.trainer.write())
        self.assertEqual(self.listed(), [1, 2])

    def test_the_directory_of_versions_begins_a_run(self) -> None:
        self.post_write(self.trainer.start())
        self.assertEqual(self.listed(), [])
        self.trainer = checkpoint.Trainer(self.trainer.directory, self.base, seed=3)
        self.publish()
        self.assertEqual(self.listed(), [1])

    def test_a_run_of_another_name_begins_without_a_call(self) -> None:
        self.trainer_host.environment["SHARDCAST_RUN_NAME"] = "job-2"
        self.trainer = checkpoint.Trainer(self.root / "other", self.base, seed=3)
        self.trainer.start()
        self.publish(full=True)
        self.publish()
        self.assertEqual(self.listed(), [1, 2])

    def test_a_run_begins_without_a_call_where_there_is_none(self) -> None:
        self.data = self.root / "new" / "data"
        self.trainer_host.environment["SHARDCAST_DATA_DIR"] = str(self.data)
        self.post_write(self.trainer.write(full=True))
        self.assertEqual(self.listed(), [2])

    def test_a_chain_may_be_long(self) -> None:
        for _ in range(3):
            self.post_write(self.trainer.write())
            self.trainer.step()
        config = _programs.run("shardcast-origin", ["config", "--data-dir", str(self.data)])
        self.assertIn("max-chain: 10000\n", config)
        self.trainer_host.environment["SHARDCAST_MAX_CHAIN"] = "4"
        with self.assertRaisesRegex(ShardcastError, "max-chain allows 4;"):
            self.post_write(self.trainer.write())

    def test_a_version_after_one_that_was_never_published_is_refused(self) -> None:
        self.trainer.write()
        self.trainer.step()
        self.refused(self.trainer.write(), "needs number 2")

    def test_an_origin_that_serves_the_directory_already_is_used(self) -> None:
        arguments = ["--data-dir", str(self.data), "--host", "127.0.0.1", "--port", "0"]
        with _programs.Server("shardcast-origin", arguments):
            self.trainer_host.environment["SHARDCAST_SERVE"] = ""
            self.post_write(self.trainer.write())
            self.assertNotIn(str(self.data), hooks._servers)
        self.assertEqual(self.listed(), [1, 2])

    def test_an_origin_that_cannot_listen_is_an_error(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.trainer_host.environment.update(SHARDCAST_SERVE="", SHARDCAST_HTTP_PORT=str(taken.getsockname()[1]))
            self.refused(self.trainer.write(), "address already in use")

    def test_a_data_directory_is_wanted(self) -> None:
        self.trainer_host.environment["SHARDCAST_DATA_DIR"] = ""
        with self.assertRaisesRegex(ShardcastError, "SHARDCAST_DATA_DIR is not set"):
            self.post_write(self.trainer.write())


class PreReadTest(HooksTest):
    def setUp(self) -> None:
        super().setUp()
        self.post_write(self.trainer.start())
        for number in range(1, 4):
            self.publish(full=number == 1)
        self.source = self.root / "engine"
        self.host = Host(IP_ADDR_LIST=self.address, SHARDCAST_HOOK_TIMEOUT="60")
        self.watch(self.source)

    def pre_read(self, target: int) -> None:
        with self.host:
            hooks.pre_read(str(self.source), target)

    def refused(self, target: int, why: str, timeout: str = "0.5") -> None:
        enough = self.host.environment["SHARDCAST_HOOK_TIMEOUT"]
        self.host.environment["SHARDCAST_HOOK_TIMEOUT"] = timeout
        where = f"weight_v{target:06d} into {self.source}"
        with self.assertRaisesRegex(ShardcastError, f"^shardcast.hooks.pre_read of {where}: .*{why}"):
            self.pre_read(target)
        self.host.environment["SHARDCAST_HOOK_TIMEOUT"] = enough

    def test_version_0_is_the_engines_own(self) -> None:
        self.host.environment["IP_ADDR_LIST"] = ""
        self.pre_read(0)
        self.assertFalse(self.source.exists())

    def test_a_version_that_is_there_is_not_fetched_again(self) -> None:
        self.pre_read(3)
        inode = (self.source / "weight_v000003").stat().st_ino
        self.pre_read(3)
        self.assertEqual((self.source / "weight_v000003").stat().st_ino, inode)

    def test_no_server_is_an_error(self) -> None:
        self.stop_origin()
        self.refused(1, "connection refused")
        with mock.patch.object(hooks, "_PATIENCE", 0.0):
            self.refused(1, "connection refused", timeout="60")

    def test_a_version_that_is_never_published_is_an_error(self) -> None:
        self.refused(4, "the newest version that servers list is weight_v000003 of run 'run-")

    def test_a_number_that_goes_back_waits_for_the_new_run(self) -> None:
        self.pre_read(3)
        self.refused(1, "weight_v000003 of run 'run-[^']*' was here before, and no server lists a newer run")
        self.trainer = checkpoint.Trainer(self.root / "trainer", self.base, seed=3)
        self.post_write(self.trainer.start())
        weights = self.publish()
        engine = checkpoint.Engine(self.base)
        self.pull(self.host, engine, self.source, 1)
        self.assertEqual(engine.tensors, weights)

    def test_a_gap_is_an_error(self) -> None:
        _programs.run("shardcast-origin", ["withdraw", "v2", "--data-dir", str(self.data)])
        self.pre_read(1)
        with mock.patch.object(hooks, "_PATIENCE", 0.0):
            self.refused(3, "v3 needs number 2 of run 'run-[^']*', and no server has that", timeout="60")

    def test_a_version_that_servers_have_no_more_is_an_error(self) -> None:
        self.publish(full=True)
        _programs.run("shardcast-origin", ["withdraw", "v3", "--data-dir", str(self.data)])
        self.refused(3, "weight_v000004 came in its place, and servers do not have it any more", timeout="60")

    def test_a_rank_that_hangs_does_not_hold_up_others_for_ever(self) -> None:
        self.source.mkdir()
        with (self.source / ".shardcast-pre-read").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.refused(3, "another process has held .*/.shardcast-pre-read all the time")
            fcntl.flock(file, fcntl.LOCK_UN)
            self.pre_read(3)

    def test_a_follower_that_fails_is_an_error(self) -> None:
        self.source.mkdir()
        (self.source / ".shardcast-follow").symlink_to(self.root)
        self.refused(3, ".shardcast-follow", timeout="60")

    def test_a_directory_that_was_removed_is_an_error(self) -> None:
        self.pre_read(3)
        shutil.rmtree(self.source / "weight_v000002")
        self.refused(3, "weight_v000002, which it needs, was removed; empty the directory")

    def test_an_origin_is_started_once_and_again_when_it_has_ended(self) -> None:
        started = hooks._servers[str(self.data)]
        with mock.patch.object(_programs, "Server", side_effect=AssertionError("another one is started")):
            self.publish()
        started.stop()
        self.publish()
        self.assertIsNone(hooks._servers[str(self.data)].poll())

    def test_another_process_may_follow(self) -> None:
        self.host.environment["SHARDCAST_FOLLOW"] = "0"
        self.refused(3, "it has not come in time")
        arguments = ["follow", "--servers", self.address, "--all", "--lineage", "--output-dir", str(self.source)]
        with _programs.Child("shardcast-client", [*arguments, "--output-template", "weight_v{label.number:06}"]):
            self.pre_read(3)
        self.assertEqual(versions_in(self.source), [1, 2, 3])

    def test_an_engine_on_the_trainers_host_reads_the_trainers_directory(self) -> None:
        engine, source = checkpoint.Engine(self.base), self.trainer.directory
        self.pull(self.host, engine, source, 3)
        weights = self.publish()
        self.pull(self.host, engine, source, 4)
        self.assertEqual(engine.tensors, weights)
        self.assertEqual(versions_in(source), [1, 2, 3, 4])
        self.trainer = checkpoint.Trainer(source, self.base, seed=3)
        self.post_write(self.trainer.start())
        weights, engine = self.publish(), checkpoint.Engine(self.base)
        self.pull(self.host, engine, source, 1)
        self.assertEqual(engine.tensors, weights)

    def test_the_timeout_is_a_number(self) -> None:
        self.refused(3, "SHARDCAST_HOOK_TIMEOUT is 'soon', want seconds", timeout="soon")


class SignedTest(HooksTest):
    def test_engines_take_what_the_trainer_has_signed(self) -> None:
        keys = [str(self.root / name) for name in ("publisher", "other")]
        for key in keys:
            _programs.run("shardcast-origin", ["keygen", "--key-file", f"{key}.key", "--no-password"])
        self.trainer_host.environment.update(SHARDCAST_FEED="weights", SHARDCAST_SIGN_KEY=f"{keys[0]}.key")
        self.post_write(self.trainer.start())
        self.publish(full=True)
        host = Host(IP_ADDR_LIST=self.address, SHARDCAST_FEED="weights", SHARDCAST_HOOK_TIMEOUT="0.5")
        host.environment.update(SHARDCAST_KEY=f"{keys[1]}.pub", SHARDCAST_STATE_DIR=str(self.root / "state"))
        with self.assertRaisesRegex(NotTrusted, "^shardcast.hooks.pre_read of .*: it is signed by the key "):
            with host:
                hooks.pre_read(str(self.root / "engine"), 1)
        host.environment.update(SHARDCAST_KEY=f"{keys[0]}.pub", SHARDCAST_HOOK_TIMEOUT="60")
        engine = checkpoint.Engine(self.base)
        self.pull(host, engine, self.root / "engine", 1)
        self.assertEqual(engine.tensors, self.trainer.tensors)


class WatcherTest(Case):
    def setUp(self) -> None:
        super().setUp()
        self.source, self.whole = Path(self.dir), {"a": b"1", "b": b"2"}
        self.watcher = Watcher(self.source, {"weight_v000001": [self.whole]})

    def test_a_directory_in_part_is_seen(self) -> None:
        (self.source / "weight_v000001").mkdir()
        for file, data in self.whole.items():
            self.soon(lambda: self.watcher.wrong)
            (self.source / "weight_v000001" / file).write_bytes(data)
        self.watcher.stop()

    def test_a_directory_that_changes_is_seen(self) -> None:
        (self.source / "hidden").mkdir()
        for file, data in self.whole.items():
            (self.source / "hidden" / file).write_bytes(data)
        version = (self.source / "hidden").rename(self.source / "weight_v000001")
        self.soon(lambda: self.watcher.seen)
        self.assertEqual(self.watcher.wrong, [])
        (version / "a").write_bytes(b"3")
        self.watcher.stop()
        self.assertNotEqual(self.watcher.wrong, [])


class ImportTest(unittest.TestCase):
    def test_the_standard_library_is_enough(self) -> None:
        code = "import sys; import shardcast.hooks; print([m for m in sys.modules if m in ('torch', 'numpy')])"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        out = subprocess.run([sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE)
        self.assertEqual(out.stdout, b"[]\n")
