"""A made-up trainer and a made-up engine that exchange weights as files.

The files are those that slime and miles write and SGLang reads: a version is a directory
``weight_v%06d`` with ``model-%05d-of-%05d.safetensors`` and the index of them, and either full or a
delta. The engine trusts what it sees, as the real ones do: it takes a directory without an index for
a full version, and never misses a file that the index names. So only a directory that is whole under
its name keeps its weights right.

Only the standard library is needed; with zstandard and xxhash the files are those of the real
trainers to the byte format, and without them zlib and adler32 stand in.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any, Dict, Optional, Tuple



def _optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


zstandard, xxhash = _optional("zstandard"), _optional("xxhash")
COMPRESSION = "zstd" if zstandard else "zlib"
CHECKSUM = "xxh3-128" if xxhash else "adler32"
INDEX = "model.safetensors.index.json"
Tensors = Dict[str, bytes]


def compress(data: bytes) -> bytes:
    return bytes(zstandard.ZstdCompressor(level=1).compress(data) if zstandard else zlib.compress(data, 1))


def decompress(data: bytes) -> bytes:
    return bytes(zstandard.ZstdDecompressor().decompress(data) if zstandard else zlib.decompress(data))


def checksum(data: bytes) -> str:
    return str(xxhash.xxh3_128_hexdigest(data)) if xxhash else f"{zlib.adler32(data):08x}"


def xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(len(a), "little")


def name(number: int) -> str:
    """The name of the directory of a version."""
    return f"weight_v{number:06d}"


def write_safetensors(path: Path, tensors: Tensors, metadata: Optional[Dict[str, str]] = None) -> None:
    """Write tensors, as vectors of bytes, into a file."""
    header: Dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for key, data in tensors.items():
        header[key] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(tensors.values()))


def read_safetensors(path: Path) -> Tuple[Tensors, Dict[str, str]]:
    """Read the tensors and the metadata of a file, of which bytes at the end may be missing."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__", {})
    body = data[8 + size :]
    return {key: body[slice(*at["data_offsets"])] for key, at in header.items()}, metadata


class Trainer:
    """A trainer that writes a version after each step, from two ranks."""

    def __init__(self, directory: Path, base: Tensors, seed: int = 1) -> None:
        self.directory = directory
        self.tensors = dict(base)
        self.number = 0
        self._random = random.Random(seed)
        self._written = dict(base)

    def start(self) -> Path:
        """Begin a run: an empty directory, which the hook gets before the first version."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        return self.directory

    def step(self) -> None:
        """Change a hundredth of the bytes of each tensor but the last, so that one stays as it is."""
        self.number += 1
        for key in list(self.tensors)[:-1]:
            data = bytearray(self.tensors[key])
            for at in self._random.sample(range(len(data)), len(data) // 100):
                data[at] ^= self._random.randrange(1, 256)
            self.tensors[key] = bytes(data)

    def write(self, full: bool = False, encoding: str = "xor") -> Path:
        """Write the version of the last step, the files first and the index last."""
        target = self.directory / name(self.number)
        target.mkdir()
        metadata = {"version": f"{self.number:06d}"}
        tensors, sums = dict(self.tensors), {}
        if not full:
            metadata["base_version"] = f"{self.number - 1:06d}"
            metadata["delta_encoding"] = encoding
            metadata["compression_format"], metadata["checksum_format"] = COMPRESSION, CHECKSUM
            changed = [key for key in tensors if tensors[key] != self._written[key]]
            sums = {key: checksum(tensors[key]) for key in changed}
            tensors = {key: compress(self._difference(key, encoding)) for key in changed}
        weight_map = {}
        keys = list(tensors)
        for rank, own in enumerate((keys[::2], keys[1::2])):
            file = f"model-{rank:05d}-of-00002.safetensors"
            write_safetensors(target / file, {k: tensors[k] for k in own}, {k: sums[k] for k in own if k in sums})
            weight_map.update(dict.fromkeys(own, file))
        (target / INDEX).write_text(json.dumps({"metadata": metadata, "weight_map": weight_map}))
        self._written = dict(self.tensors)
        return target

    def _difference(self, key: str, encoding: str) -> bytes:
        old, new = self._written[key], self.tensors[key]
        if encoding == "xor":
            return xor(new, old)
        at = [i for i in range(len(new)) if new[i] != old[i]]
        return struct.pack(f"<{len(at) + 1}I", len(at), *at) + bytes(new[i] for i in at)


class Engine:
    """An engine that holds the weights of a version, and brings them to a later one from the files."""

    def __init__(self, base: Tensors) -> None:
        self.base = base
        self.tensors: Tensors = {}
        self.applied: Optional[int] = None

    def pull(self, source: Path, target: int) -> None:
        """Apply what source has, from the newest full version at or below target, or from what is applied."""
        floor = 0 if self.applied is None else self.applied
        start = target
        while start > floor and self._metadata(source / name(start)).get("delta_encoding"):
            start -= 1
        if self.applied is None or start > self.applied:
            self.tensors = dict(self.base) if start == 0 else self._full(source / name(start))
            self.applied = start
        for number in range(self.applied + 1, target + 1):
            self._apply(source / name(number))

    def _metadata(self, version: Path) -> Dict[str, str]:
        if not version.is_dir():
            raise FileNotFoundError(version)
        try:
            metadata: Dict[str, str] = json.loads((version / INDEX).read_text())["metadata"]
            return metadata
        except FileNotFoundError:
            return {}

    def _full(self, version: Path) -> Tensors:
        tensors: Tensors = {}
        for file in sorted(version.glob("*.safetensors")):
            tensors.update(read_safetensors(file)[0])
        return tensors

    def _apply(self, version: Path) -> None:
        metadata = self._metadata(version)
        if int(metadata["base_version"]) != self.applied:
            raise ValueError(f"{version} builds on {metadata['base_version']}, and {self.applied} is applied")
        for file in sorted(version.glob("*.safetensors")):
            tensors, sums = read_safetensors(file)
            for key, data in tensors.items():
                old, difference = self.tensors[key], decompress(data)
                if metadata["delta_encoding"] == "xor":
                    new = xor(old, difference)
                else:
                    (count,) = struct.unpack_from("<I", difference)
                    at, patched = struct.unpack_from(f"<{count}I", difference, 4), bytearray(old)
                    for i, value in zip(at, difference[4 + 4 * count :]):
                        patched[i] = value
                    new = bytes(patched)
                self.tensors[key] = new
                if checksum(new) != sums[key]:
                    raise ValueError(f"{version}: the checksum of {key} is wrong")
        self.applied = int(metadata["version"])


def base(size: int = 20_000, seed: int = 0) -> Tensors:
    """The tensors of version 0, the model that trainer and engines begin with."""
    source = random.Random(seed)
    return {f"layer.{i}.weight": source.randbytes(size) for i in range(5)}


def contents(version: Path) -> Dict[str, bytes]:
    """The bytes of each file of a version, by its name."""
    return {entry: (version / entry).read_bytes() for entry in sorted(os.listdir(version))}
