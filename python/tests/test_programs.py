"""How the programs are found, run and ended."""

from __future__ import annotations

import os
import pickle
import tempfile
import unittest
from unittest import mock

from shardcast import NoServer, ShardcastError, _programs


class Finding(unittest.TestCase):
    def test_a_missing_program_says_what_to_install_or_set(self) -> None:
        with tempfile.TemporaryDirectory() as empty:
            with mock.patch.dict(os.environ, SHARDCAST_BIN=empty):
                with self.assertRaisesRegex(ShardcastError, "shardcast-client is not in .*wheel.*SHARDCAST_BIN"):
                    _programs.find("shardcast-client")
            with mock.patch.dict(os.environ, SHARDCAST_BIN="", PATH=empty):
                with self.assertRaisesRegex(ShardcastError, "neither among the scripts of this Python nor on the PATH"):
                    _programs.find("shardcast-nonesuch")


class Errors(unittest.TestCase):
    def test_an_error_passes_between_processes(self) -> None:
        got = pickle.loads(pickle.dumps(NoServer("no server", 5, ["a line"])))
        self.assertIsInstance(got, NoServer)
        self.assertEqual((str(got), got.code, got.log), ("no server", 5, ("a line",)))
