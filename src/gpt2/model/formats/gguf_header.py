"""The header of a GGUF file, read with nothing believed.

A file is a header (version, counts, settings by key, name and place of each tensor) and the numbers, each
tensor at a multiple of `general.alignment`. A vocabulary is among the settings. Numbers stay mapped; quantized
ones are undone by the package `gguf`, some rows at a time.

Rejected: `gguf.GGUFReader`, which believes any length it finds, so that a damaged file keeps it busy until
memory is full, and which takes seconds for a vocabulary. Here nothing is longer than what is left of the file.

    python -c "from gpt2.model.formats.gguf_header import Header; print(Header(Path('model.gguf')).fields.keys())"
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gpt2.errors import FormatError, need
from gpt2.model.formats import Shape
from gpt2.workspace import Json

Kind = TypeVar("Kind")

MAGIC = b"GGUF"
VERSIONS = (2, 3)
LARGEST_HEADER = 2**26
"""Bytes; GPT-2's takes 2 million."""
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""How single values are stored, by their type's number."""
TEXT, ARRAY = 8, 9
F32, F16, Q8_0, BF16 = 0, 1, 8, 30
"""Number types of tensors, of the forty there are."""
PLAIN = {F32: 4, F16: 2, BF16: 2}
"""Bytes of a number, for types that are not quantized."""
ROWS = 1024
"""Rows of a matrix that are quantized or undone at a time."""


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies: its number type, its shape, its bytes in the file as [rows, bytes of a row]."""

    kind: int
    shape: Shape
    raw: npt.NDArray[np.uint8]

    def part(self, begin: int, end: int) -> Tensor:
        """Values of some rows, [rows, width]: mapped where they are numbers already, else as float32."""
        raw = self.raw[begin:end]
        if self.kind == BF16:
            return torch.from_numpy(raw.view("<i2")).view(torch.bfloat16)
        if self.kind in (F32, F16):
            return torch.from_numpy(raw.view("<f4" if self.kind == F32 else "<f2"))
        gguf = need("gguf", "gguf")
        kind = gguf.GGMLQuantizationType(self.kind)
        try:
            with np.errstate(all="ignore"):
                return torch.from_numpy(gguf.dequantize(raw, kind))
        except NotImplementedError:
            raise FormatError(f"weights of type {kind.name} cannot be read; get the model in Q8_0") from None

    def parts(self) -> Iterator[tuple[slice, Tensor]]:
        """All rows, some at a time, and where they are."""
        for i in range(0, len(self.raw), ROWS):
            yield slice(i, i + ROWS), self.part(i, i + ROWS)

    def read(self) -> Tensor:
        """All values in their shape."""
        if self.kind in PLAIN:
            return self.part(0, len(self.raw)).view(self.shape)
        values = torch.empty(len(self.raw), self.shape[-1])
        for where, part in self.parts():
            values[where] = part
        return values.view(self.shape)


class Header:
    """The header of a file, read from front to back; `FormatError` where it claims more than there is."""

    def __init__(self, path: Path) -> None:
        self.path, self.at = path, 0
        size = path.stat().st_size
        mapped = np.memmap(path, np.uint8, "c") if size else np.empty(0, np.uint8)
        self.mapped: npt.NDArray[np.uint8] = np.asarray(mapped)
        self.view = self.mapped.data[:LARGEST_HEADER]
        magic, version = bytes(self.take(4)), self.number("I")
        if magic != MAGIC or version not in VERSIONS:
            raise FormatError(
                f"{path} is no GGUF file that can be read: it begins with {magic!r}, version {version}"
            )
        n_tensors, n_fields = self.number("Q"), self.number("Q")
        self.fields: Json = {}
        for _ in range(n_fields):
            name = self.text()
            self.fields[name] = self.value(self.number("I"))
        self.places = [self.place() for _ in range(n_tensors)]

    def damage(self, what: str) -> FormatError:
        """The error for a header that cannot be."""
        return FormatError(f"{self.path} is damaged or cut short: its header has {what}; get it anew")

    def take(self, count: int) -> memoryview:
        """The next bytes."""
        if count > len(self.view) - self.at:
            raise self.damage(f"{count:,} bytes at {self.at:,}, after its end")
        self.at += count
        return self.view[self.at - count : self.at]

    def number(self, kind: str) -> Any:
        """The next number, by its letter in `struct`."""
        return struct.unpack("<" + kind, self.take(struct.calcsize("<" + kind)))[0]

    def text(self) -> str:
        """The next text."""
        try:
            return str(self.take(self.number("Q")), "utf-8")
        except UnicodeDecodeError:
            raise self.damage("a text that is not UTF-8") from None

    def value(self, kind: int) -> Any:
        """The next value of a setting: a number, an array of them, a text, a list of those."""
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == TEXT:
            return self.text()
        if kind != ARRAY:
            raise self.damage(f"a value of the unknown type {kind}")
        kind, count = self.number("I"), self.number("Q")
        if kind in SCALARS:
            letter = "<" + SCALARS[kind]
            return np.frombuffer(self.take(count * struct.calcsize(letter)), letter)
        if kind != TEXT:
            raise self.damage(f"a list of the unknown type {kind}")
        return [self.text() for _ in range(count)]

    def place(self) -> tuple[str, int, Shape, int]:
        """The next tensor's name, number type, shape and offset."""
        name, n = self.text(), self.number("I")
        if n > 4:
            raise self.damage(f"the tensor {name[:80]!r} of {n:,} dimensions")
        shape = tuple(reversed([self.number("Q") for _ in range(n)]))
        return name, self.number("I"), shape, self.number("Q")

    def get(self, name: str, kind: type[Kind]) -> Kind | None:
        """A setting that must be of this type, or None where it is absent."""
        value = self.fields.get(name)
        if value is None or type(value) is kind:
            return value
        raise self.damage(f"{value!r:.40} for {name}")

    def tensors(self) -> dict[str, Stored]:
        """All tensors by name, none of them read; `FormatError` for one that is not all in the file."""
        alignment = self.get("general.alignment", int)
        alignment = 32 if alignment is None else alignment
        if alignment < 8 or alignment % 8:
            raise self.damage(f"an alignment of {alignment}")
        start = self.at + -self.at % alignment
        return {name: self.stored(name, kind, shape, start + at) for name, kind, shape, at in self.places}

    def stored(self, name: str, kind: int, shape: Shape, begin: int) -> Stored:
        """The bytes of a tensor, if they are there."""
        block, size = sizes(kind)
        width = shape[-1] if shape else 1
        if not size or width % block or not all(shape) or begin % 8:
            raise self.damage(f"the tensor {name[:80]!r} of number type {kind} and shape {list(shape)[:4]}")
        row = width // block * size
        rows = math.prod(shape) // width
        if begin + rows * row > len(self.mapped):
            raise self.damage(
                f"the tensor {name[:80]!r} of {rows * row:,} bytes at {begin:,}, after the file's end"
            )
        return Stored(kind, shape, self.mapped[begin : begin + rows * row].reshape(rows, row))


def sizes(kind: int) -> tuple[int, int]:
    """How many numbers a block of a number type has, and how many bytes; (1, 0) for unknown ones."""
    if kind in PLAIN:
        return 1, PLAIN[kind]
    gguf = need("gguf", "gguf")
    found: tuple[int, int] = {int(k): v for k, v in gguf.GGML_QUANT_SIZES.items()}.get(kind, (1, 0))
    return found
