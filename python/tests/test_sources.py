"""Of the sources themselves."""

from __future__ import annotations

import ast
import pathlib
import unittest

_PYTHON = pathlib.Path(__file__).parent.parent


class Sources(unittest.TestCase):
    def test_python_3_9_can_read_them(self) -> None:
        sources = [*_PYTHON.glob("shardcast/*.py"), *_PYTHON.glob("tests/*.py")]
        self.assertGreater(len(sources), 10)
        for path in sources:
            with self.subTest(path.name):
                ast.parse(path.read_text(), feature_version=(3, 9))

    def test_lines_are_short(self) -> None:
        for path in _PYTHON.glob("*/*.py"):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                self.assertLessEqual(len(line), 120, f"{path.name}:{number}")


if __name__ == "__main__":
    unittest.main()
