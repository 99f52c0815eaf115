"""Low-bit weights as the fast engine reads them, in memory and on disk; numpy only.

A matrix [rows, columns] is an array of bytes [tiles, bytes of a tile]; a tile has 16 rows, from beginning to
end as the processor multiplies them:

    16 x float32 scale, 16 x float32 bias
    codes, for each unit of 64 columns (padded with zeros)
      int8   [16][row][4]            column 4i + j at [i][row][j], value + 128
      int4   [2 blocks][4][row][4]   column 4i + j of a block in the low, 16 + 4i + j in the high half of a byte;
                                     before every second unit [4 blocks][row] uint8 scales, its and the next one's
      bf16   [32][row][2]

A weight is scale x (code - 128), scale x block scale x (CODEBOOK[code] - 128), or the bf16 number.

    folder/
      config.json            format, scheme and the network's shape
      packed.safetensors     the tensors, each in the kernels' own layout, from a multiple of 64 bytes on
      encoder.json, vocab.bpe, tokenizer.json, card.json, README.md      as in `gpt2.model.checkpoint`
"""

from __future__ import annotations

import dataclasses
import json
import mmap
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt2.errors import ConfigError, FormatError, InputError
from gpt2.model.config import GPT2Config
from gpt2.model.formats import MOST_LAYERS
from gpt2.workspace import read_json, write_json

FORMAT = "gpt2-workbench packed 2"
WEIGHTS = "packed.safetensors"

LANES, UNIT, BLOCK, HEADER = 16, 64, 32, 128
KINDS = {"int4": 4, "int8": 8, "bfloat16": 16}
"""Bits of a weight, by name of the scheme."""
CODEBOOK = np.array([1, 30, 50, 67, 81, 94, 107, 118, 129, 141, 152, 165, 178, 194, 214, 242], np.uint8)
"""Values of int4's codes, plus 128: closer together near zero, where most weights are."""

FIRST = "wte.first"
"""Name of a matrix that a model may have: the head once more, in fewer bits. All logits come from it; those of
the tiles that have the highest ones are computed again from `wte`."""
SHARE, LEAST = 24, 4
"""One tile in so many is computed again, and at least so many."""

Tensors = Mapping[str, NDArray[np.generic]]


def up(n: int, to: int) -> int:
    """n rounded up to a multiple."""
    return -(-n // to) * to


def tile_bytes(kind: int, columns: int) -> int:
    """Bytes of a tile of 16 rows."""
    units = up(columns, UNIT) // UNIT
    return HEADER + units * UNIT * LANES * kind // 8 + (up(units, 2) // 2 * 64 if kind == 4 else 0)


def kind_of(width: int, columns: int) -> int:
    """Which kind has tiles of `width` bytes; 0 for none."""
    return next((kind for kind in KINDS.values() if tile_bytes(kind, columns) == width), 0)


def matrix_shapes(config: GPT2Config, first: bool = False) -> dict[str, tuple[int, int]]:
    """Rows and columns of a model's matrices, by name, in the order of their use; the head is `wte`.

    With `first`, of a first pass of the head too.
    """
    C, shapes = config.n_embd, {}
    for i in range(config.n_layer):
        shapes[f"h.{i}.attn.c_attn"] = (3 * C, C)
        shapes[f"h.{i}.attn.c_proj"] = (C, C)
        shapes[f"h.{i}.mlp.c_fc"] = (4 * C, C)
        shapes[f"h.{i}.mlp.c_proj"] = (C, 4 * C)
    shapes["wte"] = (config.vocab_size, C)
    return shapes | {FIRST: shapes["wte"]} if first else shapes


def vector_shapes(config: GPT2Config) -> dict[str, tuple[int, int]]:
    """Shapes of the float32 tensors: positions, and weight and bias of each norm, padded to units."""
    C = up(config.n_embd, UNIT)
    norms = [f"h.{i}.{name}" for i in range(config.n_layer) for name in ("ln_1", "ln_2")]
    return {"wpe": (config.n_ctx, C), **dict.fromkeys([*norms, "ln_f"], (2, C))}


def packed_names(config: GPT2Config, scheme: str) -> list[str]:
    """The tensors of a model under a scheme; int4 has a first pass of the head."""
    return [*vector_shapes(config), *matrix_shapes(config, first=scheme == "int4")]


def tiles_again(rows: int) -> int:
    """Tiles of a head with so many rows that are computed again after a first pass."""
    tiles = up(rows, LANES) // LANES
    return min(tiles, max(LEAST, tiles // SHARE))


def check_packed(config: GPT2Config, tensors: Tensors) -> None:
    """`FormatError` unless every tensor is there, in its type and shape, in one stretch where float32s may lie."""
    for name, (rows, columns) in matrix_shapes(config, FIRST in tensors).items():
        t = tensors.get(name)
        fits = (
            t is not None and t.dtype == np.uint8 and t.ndim == 2 and t.shape[0] == up(rows, LANES) // LANES
        )
        if t is None or not fits or not kind_of(t.shape[1], columns) or not t.flags.c_contiguous:
            raise FormatError(f"packed matrix {name!r} is missing or does not fit {rows} x {columns}")
    for name, shape in vector_shapes(config).items():
        t = tensors.get(name)
        if t is None or t.dtype != np.float32 or t.shape != shape or not t.flags.c_contiguous:
            raise FormatError(f"packed tensor {name!r} is missing or not float32 {shape}")
    for name, found in tensors.items():
        if found.ctypes.data % 4:
            raise FormatError(f"packed tensor {name!r} does not begin at a multiple of 4 bytes")


def write_packed(
    folder: Path, config: GPT2Config, scheme: str, tensor: Callable[[str], NDArray[np.generic]]
) -> None:
    """Write config.json and the weights, one tensor after the other, into an existing folder."""
    write_json(folder / "config.json", {"format": FORMAT, "scheme": scheme, **dataclasses.asdict(config)})
    names = packed_names(config, scheme)
    with (folder / WEIGHTS).open("wb") as stream:
        # Room for the header comes first; it is filled in when the places are known.
        places: dict[str, dict[str, object]] = {}
        room = up(8 + 200 * (len(names) + 1), 64)
        stream.write(b" " * room)
        end = 0
        for name in names:
            values = np.ascontiguousarray(tensor(name))
            begin, end = end, end + values.nbytes
            kind = {"uint8": "U8", "float32": "F32"}[values.dtype.name]
            places[name] = {"dtype": kind, "shape": values.shape, "data_offsets": (begin, end)}
            stream.write(values.data)
        text = json.dumps(
            {"__metadata__": {"format": FORMAT, "scheme": scheme}, **places}, separators=(",", ":")
        )
        stream.seek(0)
        stream.write((room - 8).to_bytes(8, "little") + text.encode().ljust(room - 8))


def is_packed(folder: Path) -> bool:
    """Whether a folder is meant to hold a packed model."""
    return (folder / WEIGHTS).exists()


def open_packed(folder: Path) -> tuple[GPT2Config, Tensors]:
    """The shape and the tensors of a packed model, where they lie in the mapped file.

    So processes share them, and 124M is there in 5 ms when the system has the file in memory already.
    `InputError` when there is none or it cannot be read, `FormatError` when it is damaged.
    """
    path, values = folder / WEIGHTS, read_json(folder / "config.json")
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise FormatError(f'{folder} does not hold packed weights (no "format": "{FORMAT}"); convert it anew')
    try:
        config = GPT2Config(**{f.name: values[f.name] for f in dataclasses.fields(GPT2Config)})
        if config.n_layer > MOST_LAYERS:
            raise ValueError(f"n_layer {config.n_layer:,} is more than any model has")
        with path.open("rb") as stream:
            size, length = path.stat().st_size, int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= size - 8 or length > 10**8:
                raise ValueError("its header is cut short")
            header = json.loads(stream.read(length))
            if not isinstance(header, dict):
                raise ValueError("its header is no table")
            at_once = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
            memory = mmap.mmap(stream.fileno(), size, flags=at_once, prot=mmap.PROT_READ)
        stored = np.frombuffer(memory, np.uint8)[8 + length :]
        tensors: dict[str, NDArray[np.generic]] = {}
        for name, place in header.items():
            if name != "__metadata__":
                (begin, end), kind = (
                    place["data_offsets"],
                    {"U8": np.uint8, "F32": np.float32}[place["dtype"]],
                )
                if not 0 <= begin <= end <= size - 8 - length:
                    raise ValueError(f"{name} lies outside of it")
                tensors[name] = stored[begin:end].view(kind).reshape(place["shape"])
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; convert the model anew") from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}; see its permissions and the disk"
        ) from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, ConfigError) as error:
        raise FormatError(f"{path} is damaged ({error}); convert the model anew") from None
    try:
        check_packed(config, tensors)
    except FormatError as error:
        raise FormatError(f"{path}: {error}; convert the model anew") from None
    return config, tensors
