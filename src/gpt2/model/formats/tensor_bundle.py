"""TensorFlow's bundle of tensors, read and written without TensorFlow.

    PREFIX.index                  which tensors there are: a table sorted by name
    PREFIX.data-00000-of-00001    their numbers, raw and little-endian, one after the other

The index is a LevelDB table: blocks of rows, key and value, in which a key leaves out what it shares with the
key before; after each block a byte for its compression (TensorFlow uses none here) and a checksum; then a
block that tells where the blocks are, a footer of 48 bytes that tells where that one is, and a magic number.
Values are protocol buffers: BundleHeaderProto under the empty key, BundleEntryProto (type, shape, shard,
offset, size, checksum) under each tensor's name. Sources: LevelDB's doc/table_format.md, TensorFlow's
protobuf/tensor_bundle.proto and lib/io/table_builder.cc.

All checksums are verified, those of the numbers too when a tensor is read, as TensorFlow does. Rejected:
TensorFlow itself, 500 MB of library to read a file of 500 MB.

    python -c "from gpt2.model.formats.tensor_bundle import *; print(*Bundle(Path('124M/model.ckpt')).entries)"
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpt2.errors import FormatError, InputError
from gpt2.model.formats import Shape, float32
from gpt2.model.formats.crc32c import crc32c, masked

MAGIC, FOOTER_BYTES, TRAILER_BYTES = 0xDB4775248B80FB57, 48, 5
ROWS, RESTART = 4096, 16
"""Rows in a block that we write, and every how many of them a key stands whole (TensorFlow's 16)."""
HEADER = bytes.fromhex("08011a020801")  # num_shards = 1, version.producer = 1
TYPES = {1: torch.float32, 14: torch.bfloat16, 19: torch.float16}
"""Of TensorFlow's types, those that weights come in."""
LARGEST_INDEX, MOST_TENSORS, LONGEST_NAME, MOST_SHARDS = 2**24, 100_000, 256, 1000
"""Bounds to what is believed of a file."""


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies."""

    dtype: int
    """type, by TensorFlow's number"""
    shape: Shape
    shard: int
    """number of the data file"""
    offset: int
    """bytes before it there"""
    size: int
    """bytes it takes"""
    checksum: int
    """masked CRC-32C of those bytes"""


class Bundle:
    """An opened bundle: names and places are known, numbers are read one tensor at a time."""

    def __init__(self, prefix: Path) -> None:
        """Reads the index; `FormatError` when it is damaged, `InputError` when a file is missing."""
        self.index = prefix.with_name(f"{prefix.name}.index")
        if not self.index.is_file():
            raise InputError(f"there is no file {self.index}; get the files of the model anew")
        try:
            if self.index.stat().st_size > LARGEST_INDEX:
                raise ValueError(f"it is larger than {LARGEST_INDEX:,} bytes")
            rows = read_table(self.index.read_bytes())
            shards = read_header(rows.pop(b"", b""))
            self.entries = {key.decode(): read_entry(value) for key, value in rows.items()}
        except ValueError as error:
            raise FormatError(
                f"{self.index} is not a whole index of a TensorFlow checkpoint: {error}; get it anew"
            ) from None
        self.files = [prefix.with_name(f"{prefix.name}.data-{i:05d}-of-{shards:05d}") for i in range(shards)]
        for file in self.files:
            if not file.is_file():
                raise InputError(f"there is no file {file}; get the files of the model anew")

    def check(self, name: str) -> Entry:
        """The place of a tensor, when it is one of 16-bit or 32-bit floats and whole; else `FormatError`."""
        entry = self.entries[name]
        kind = TYPES.get(entry.dtype)
        if kind is None:
            raise FormatError(
                f"{self.index}: tensor {name!r} is of TensorFlow's type {entry.dtype}, no float"
            )
        if entry.size != math.prod(entry.shape) * kind.itemsize or entry.shard >= len(self.files):
            raise FormatError(
                f"{self.index}: the place of tensor {name!r} does not fit its shape; get it anew"
            )
        file = self.files[entry.shard]
        if entry.offset + entry.size > file.stat().st_size:
            raise FormatError(
                f"{file} is cut short: tensor {name!r} ends at byte {entry.offset + entry.size:,}, "
                f"and there are {file.stat().st_size:,}; get it anew"
            )
        return entry

    def tensor(self, name: str) -> Tensor:
        """A tensor as stored, mapped into memory; `FormatError` when its checksum is wrong."""
        entry = self.check(name)
        octets = np.memmap(self.files[entry.shard], np.uint8, "c", entry.offset, (entry.size,))
        if masked(crc32c(octets)) != entry.checksum:
            raise FormatError(
                f"{self.files[entry.shard]} is damaged: tensor {name!r} has another checksum; get it anew"
            )
        return torch.from_numpy(octets).view(TYPES[entry.dtype]).view(entry.shape)


def write_bundle(prefix: Path, shapes: Mapping[str, Shape], tensor: Callable[[str], Tensor]) -> None:
    """Write `tensor(name)` for each name as float32; the files are written in place: use `atomic_folder`."""
    rows = {b"": HEADER}
    with prefix.with_name(f"{prefix.name}.data-00000-of-00001").open("wb") as stream:
        for name in sorted(shapes):
            values = float32(tensor(name))
            assert values.shape == shapes[name], name
            shape = b"".join(piece(2, b"\x08" + varint(size)) for size in shapes[name])
            offset = b"\x20" + varint(stream.tell()) if stream.tell() else b""
            place = offset + b"\x28" + varint(values.nbytes)
            checksum = b"\x35" + masked(crc32c(values.data)).to_bytes(4, "little")
            rows[name.encode()] = b"\x08\x01" + piece(2, shape) + place + checksum
            stream.write(values.data)
    prefix.with_name(f"{prefix.name}.index").write_bytes(table(rows))


# The table


def table(rows: Mapping[bytes, bytes]) -> bytes:
    """A LevelDB table of rows whose keys are sorted; for up to `ROWS` of them TensorFlow's, byte for byte."""
    out, index, keys = b"", {}, list(rows)
    for start in range(0, len(keys), ROWS):
        part = keys[start : start + ROWS]
        block = sealed({key: rows[key] for key in part}, RESTART)
        last = start + ROWS >= len(keys)
        index[bytes([part[-1][0] + 1]) if last else part[-1]] = handle(out, block)  # a key no row is behind
        out += block
    filters = sealed({}, 1)  # a table may have filters to skip blocks by; this one has none
    footer, out = handle(out, filters), out + filters
    block = sealed(index, 1)
    footer += handle(out, block)
    return out + block + footer.ljust(FOOTER_BYTES - 8, b"\0") + MAGIC.to_bytes(8, "little")


def sealed(rows: Mapping[bytes, bytes], restart: int) -> bytes:
    """A block of rows, its compression (none) and checksum after it."""
    out, restarts, before = b"", [0], b""
    for i, (key, value) in enumerate(rows.items()):
        shared = 0
        if i % restart:
            while shared < min(len(before), len(key)) and before[shared] == key[shared]:
                shared += 1
        elif i:
            restarts.append(len(out))
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    out += np.array([*restarts, len(restarts)], "<u4").tobytes() + b"\0"
    return out + masked(crc32c(out)).to_bytes(4, "little")


def handle(before: bytes, block: bytes) -> bytes:
    """Where a block lies that comes after `before`."""
    return varint(len(before)) + varint(len(block) - TRAILER_BYTES)


def read_table(data: bytes) -> dict[bytes, bytes]:
    """The rows of a LevelDB table; `ValueError` when it is not whole."""
    footer = data[-FOOTER_BYTES:]
    if len(footer) < FOOTER_BYTES or footer[-8:] != MAGIC.to_bytes(8, "little"):
        raise ValueError("it does not end as a table does")
    at = 0
    place = []
    for _ in range(4):
        number, at = read_varint(footer, at)
        place.append(number)
    found: dict[bytes, bytes] = {}
    last, end = b"", 0
    for _, value in rows_of(opened(data, place[2], place[3])):
        offset, at = read_varint(value, 0)
        size, at = read_varint(value, at)
        if offset < end:
            raise ValueError("its blocks overlap")
        end = offset + size
        for key, value in rows_of(opened(data, offset, size)):
            if found and key <= last:
                raise ValueError("its names are not sorted")
            if len(found) == MOST_TENSORS:
                raise ValueError(f"it names more than {MOST_TENSORS:,} tensors")
            found[key] = value
            last = key
    return found


def opened(data: bytes, offset: int, size: int) -> bytes:
    """A block without its trailer; `ValueError` when it is compressed or has another checksum."""
    block = data[offset : offset + size + TRAILER_BYTES]
    if len(block) != size + TRAILER_BYTES:
        raise ValueError("a block lies outside of it")
    if masked(crc32c(block[:-4])) != int.from_bytes(block[-4:], "little"):
        raise ValueError("a block has another checksum")
    if compression := block[size]:
        kind = {1: "snappy", 2: "zstd"}.get(compression, f"number {compression}")
        raise ValueError(f"it is compressed ({kind}), which no checkpoint of OpenAI's is")
    return block[:size]


def rows_of(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a block; `ValueError` when one is not whole."""
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    key, at = b"", 0
    while at < end:
        shared, at = read_varint(block, at)
        fresh, at = read_varint(block, at)
        length, at = read_varint(block, at)
        if shared > len(key) or shared + fresh > LONGEST_NAME or at + fresh + length > end:
            raise ValueError("a row of it is damaged")
        key = key[:shared] + block[at : at + fresh]
        at += fresh + length
        yield key, block[at - length : at]


# Protocol buffers


def read_header(message: bytes) -> int:
    """The number of data files, from the bytes of a BundleHeaderProto."""
    numbers = {name: value for name, value in fields(message) if isinstance(value, int)}
    shards = numbers.get(1, 0)
    if not 1 <= shards <= MOST_SHARDS or numbers.get(2, 0):
        raise ValueError("its header names no data files, or numbers that are not little-endian")
    return shards


def read_entry(message: bytes) -> Entry:
    """What a BundleEntryProto says."""
    numbers: dict[int, int] = {}
    shape: list[int] = []
    for name, value in fields(message):
        if isinstance(value, int):
            numbers[name] = value
        elif name == 2:
            sizes = [
                dict(fields(part)).get(1, 0)
                for n, part in fields(value)
                if n == 2 and isinstance(part, bytes)
            ]
            shape += [size for size in sizes if isinstance(size, int)]
        elif name == 7:
            raise ValueError("a tensor in it is kept in slices")
    if len(shape) > 8:
        raise ValueError("a tensor in it has more than 8 dimensions")
    dtype, shard, offset, size, checksum = (numbers.get(name, 0) for name in (1, 3, 4, 5, 6))
    return Entry(dtype, tuple(shape), shard, offset, size, checksum)


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol buffer, by number; `ValueError` when it is cut short."""
    at = 0
    while at < len(message):
        tag, at = read_varint(message, at)
        value: int | bytes
        if tag & 7 == 0:
            value, at = read_varint(message, at)
        elif tag & 7 == 2:
            length, at = read_varint(message, at)
            value, at = message[at : at + length], at + length
        elif tag & 7 in (1, 5):
            length = 8 if tag & 7 == 1 else 4
            value, at = int.from_bytes(message[at : at + length], "little"), at + length
        else:
            raise ValueError("an entry of it is damaged")
        if at > len(message):
            raise ValueError("an entry of it is cut short")
        yield tag >> 3, value


def piece(name: int, message: bytes) -> bytes:
    """A field that is a message itself."""
    return bytes([name << 3 | 2]) + varint(len(message)) + message


def varint(number: int) -> bytes:
    """A number in groups of 7 bits, the lowest first; all but the last have the eighth bit set."""
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at byte `at`, and where it ends."""
    number = 0
    for i, octet in enumerate(data[at : at + 10]):
        number |= (octet & 127) << 7 * i
        if octet < 128:
            return number, at + i + 1
    raise ValueError("a number in it does not end")
