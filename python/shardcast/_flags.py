"""Arguments of this package as flags of the programs."""

from __future__ import annotations

import os
import re
from typing import Dict, List, Mapping, Optional, Sequence, Union

# A file or directory.
Path = Union[str, "os.PathLike[str]"]

# Further flags of a program by their names, such as {"limit-rate": "50MB/s", "swarm": True}.
Options = Mapping[str, object]

# One server, several separated by commas, or a sequence of them.
Servers = Union[str, Sequence[str]]


def flags(**values: object) -> List[str]:
    """Return the flags of values, by the names of the arguments: data_dir is --data-dir.

    None and False leave a flag out, True gives it without a value, a sequence repeats it, and a
    mapping gives NAME=VALUE for each of its items.
    """
    named = {name.rstrip("_").replace("_", "-"): name for name in values}
    _arguments.update({flag: name for flag, name in named.items() if flag not in _arguments})
    return further({flag: values[name] for flag, name in named.items()})


# The arguments by their flags, of those that calls have had.
_arguments: Dict[str, str] = {
    "label": "labels",
    "output-file": "into",
    "output-template": "template",
    "upstream": "upstreams",
    "wait": "timeout",
}


def in_python(text: str) -> str:
    """Return an error of a program with the names of arguments in place of their flags."""
    return re.sub(r"--([a-z]+(?:-[a-z]+)*)", lambda flag: _arguments.get(flag[1], flag[0]), text)


def further(options: Optional[Options]) -> List[str]:
    """Return the flags of options, by their own names."""
    argv: List[str] = []
    for name, value in (options or {}).items():
        if value is None or value is False:
            continue
        if value is True:
            argv.append(f"--{name}")
            continue
        values: Sequence[object]
        if isinstance(value, Mapping):
            values = [f"{key}={word}" for key, word in value.items()]
        elif isinstance(value, (list, tuple)):
            values = value
        else:
            values = [value]
        for word in values:
            text = os.fspath(word) if isinstance(word, os.PathLike) else str(word)
            argv.append(f"--{name}={text}")
    return argv


def addresses(servers: Servers) -> Optional[str]:
    """Return servers as the programs take them; None leaves them to $IP_ADDR_LIST."""
    text = servers if isinstance(servers, str) else ",".join(servers)
    return text or None
