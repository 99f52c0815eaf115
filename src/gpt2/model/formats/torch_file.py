"""Files of `torch.save`, read without running them and written tensor by tensor.

Such a file is an uncompressed zip archive: a pickle of everything but the numbers, and one entry of numbers
for each tensor. A pickle may name any function to be called when it is opened, so reading goes through
torch's own restricted unpickler (`weights_only=True`), which knows tensors and plain values and refuses all
else, and maps the numbers. Files from before torch 1.6 are no archives; they are read the same way, but whole.

Writing takes one tensor at a time: the pickle is made from shapes alone, in which a `Later` stands for each
tensor, and the numbers follow. Rejected: `torch.save`, which wants all tensors in memory at once;
`torch.serialization.skip_data`, which leaves the archive with wrong checksums.

    python -c "from gpt2.model.formats.torch_file import read; print(read(Path('ckpt.pt')).keys())"
"""

from __future__ import annotations

import io
import math
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from gpt2.errors import FormatError
from gpt2.model.formats import Shape, float32
from gpt2.workspace import atomic_write

LARGEST_PICKLE = 2**22
"""Bytes of a pickle that are looked at to see what a file is."""
ALIGNMENT = 64
"""Numbers begin at a multiple of this many bytes, as torch has it, so that they can be mapped."""


def beginning(path: Path) -> bytes:
    """The first bytes of a file of `torch.save`, where its pickle lies, not opened; b"" for anything else."""
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
            return start + stream.read(LARGEST_PICKLE) if start == b"PK\x03\x04" else b""
    except OSError:
        return b""


def read(path: Path) -> Any:
    """What a file of `torch.save` holds, its tensors mapped.

    Raises `FormatError` when it is damaged or holds anything but tensors and plain values; nothing is run.
    """
    try:
        return torch.load(path, "cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError:
        raise FormatError(f"there is no file {path}, but the model's index names it; get it anew") from None
    except Exception as error:  # a damaged pickle can raise almost anything
        told = str(error)
        if foreign := re.search(r"GLOBAL (\w+\.[\w.]+)", told):
            raise FormatError(
                f"{path} wants {foreign[1]} to be run when it is opened, which no file of weights "
                "needs: nothing was run; get the model from someone you trust, as safetensors"
            ) from None
        raise FormatError(
            f"{path} is damaged or no file of torch.save ({type(error).__name__}: {told:.60}); get it anew"
        ) from None


def weights(state: Any, path: Path, buffers: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """A state dict that was read from `path`: floating-point tensors by name, without those that end so."""
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise FormatError(f"{path} holds a {type(state).__name__}, not weights by name")
    found: dict[str, Tensor] = {n: t for n, t in state.items() if not n.endswith(buffers)}
    size = path.stat().st_size
    for name, tensor in found.items():
        if (
            not isinstance(tensor, Tensor)
            or tensor.layout != torch.strided
            or tensor.device.type != "cpu"
            or not tensor.is_floating_point()
            or tensor.numel() * tensor.element_size() > size
        ):
            raise FormatError(f"{path}: {name[:80]!r} is no tensor of numbers; get or make the model anew")
    return found


@dataclass(frozen=True)
class Later:
    """Stands in a pickle for a float32 tensor whose numbers are written later."""

    name: str
    shape: Shape

    def __reduce__(self) -> tuple[Any, ...]:
        strides = tuple(math.prod(self.shape[i + 1 :]) for i in range(len(self.shape)))
        rebuild = torch._utils._rebuild_tensor_v2
        return rebuild, (
            Numbers(self.name, math.prod(self.shape)),
            0,
            self.shape,
            strides,
            False,
            OrderedDict(),
        )


@dataclass(frozen=True)
class Numbers:
    """Stands in a pickle for the numbers of a tensor."""

    name: str
    count: int


class Pickler(pickle.Pickler):
    """Writes `Later` as torch writes a tensor; equal names share their numbers."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream, protocol=2)
        self.entries: dict[Numbers, str] = {}

    def persistent_id(self, value: Any) -> Any:
        """What stands for the numbers of a tensor: their type, the entry they are in, and how many they are."""
        if not isinstance(value, Numbers):
            return None
        entry = self.entries.setdefault(value, str(len(self.entries)))
        return "storage", torch.FloatStorage, entry, "cpu", value.count


def write(path: Path, value: Any, tensor: Callable[[str], Tensor]) -> None:
    """Write plain values and tensors as `torch.save` would, whole or not at all.

    Each `Later` in `value` becomes a tensor, whose numbers `tensor(name)` is asked for, one at a time.
    """
    plan = io.BytesIO()
    pickler = Pickler(plan)
    pickler.dump(value)
    small = {"data.pkl": plan.getvalue(), ".format_version": b"1", "byteorder": b"little"}
    small |= {".storage_alignment": str(ALIGNMENT).encode()}
    with atomic_write(path) as stream, zipfile.ZipFile(stream, "w") as archive:

        def add(name: str, content: bytes | memoryview) -> None:
            info = zipfile.ZipInfo(f"archive/{name}")
            padding = -(stream.tell() + 30 + len(info.filename) + 4) % ALIGNMENT  # 30 and 4 bytes of headers
            info.extra = b"FB" + padding.to_bytes(2, "little") + bytes(padding)
            info.file_size = len(content)
            with archive.open(info, "w") as entry:
                entry.write(content)

        for name, content in small.items():
            add(name, content)
        for numbers, entry in pickler.entries.items():
            add(f"data/{entry}", float32(tensor(numbers.name)).reshape(-1).view("u1").data)
        add("version", b"3\n")
