"""Low-bit weights as the fast engine reads them, in memory and on disk; numpy only.

A matrix [rows, columns] is an array of bytes [tiles, bytes of a tile]; a tile has 16 rows, from beginning to
end as the processor multiplies them:

    16 x float32 scale, 16 x float32 bias
    int4 only: for each block of 32 columns 16 x uint8 scale, padded with zeros to 64 bytes in all
    codes, for each unit of 64 columns (padded with zeros)
      int8   [16][row][4]       column 4i + j at [i][row][j], value + 128
      int4   [2 blocks][4][row][4]   column 4i + j of a block in the low, 16 + 4i + j in the high half of a byte
      bf16   [32][row][2]

A weight is scale x (code - 128), scale x block scale x (CODEBOOK[code] - 128), or the bf16 number.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt2.errors import FormatError
from gpt2.model.config import GPT2Config

LANES, UNIT, BLOCK, HEADER = 16, 64, 32, 128
KINDS = {"int4": 4, "int8": 8, "bfloat16": 16}
"""Bits of a weight, by name of the scheme."""
CODEBOOK = np.array([1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241], np.uint8)
"""Values of int4's codes, plus 128: closer together near zero, where most weights are."""

Tensors = Mapping[str, NDArray[np.generic]]


def up(n: int, to: int) -> int:
    """n rounded up to a multiple."""
    return -(-n // to) * to


def header_bytes(kind: int, columns: int) -> int:
    """Bytes of a tile before its codes."""
    return HEADER + (up(up(columns, UNIT) // BLOCK * LANES, 64) if kind == 4 else 0)


def tile_bytes(kind: int, columns: int) -> int:
    """Bytes of a tile of 16 rows."""
    return header_bytes(kind, columns) + up(columns, UNIT) * LANES * kind // 8


def kind_of(width: int, columns: int) -> int:
    """Which kind has tiles of `width` bytes; 0 for none."""
    return next((kind for kind in KINDS.values() if tile_bytes(kind, columns) == width), 0)


def matrix_shapes(config: GPT2Config) -> dict[str, tuple[int, int]]:
    """Rows and columns of a model's matrices, by name, in the order of their use; the head is `wte`."""
    C, shapes = config.n_embd, {}
    for i in range(config.n_layer):
        shapes[f"h.{i}.attn.c_attn"] = (3 * C, C)
        shapes[f"h.{i}.attn.c_proj"] = (C, C)
        shapes[f"h.{i}.mlp.c_fc"] = (4 * C, C)
        shapes[f"h.{i}.mlp.c_proj"] = (C, 4 * C)
    return {**shapes, "wte": (config.vocab_size, C)}


def vector_shapes(config: GPT2Config) -> dict[str, tuple[int, int]]:
    """Shapes of the float32 tensors: positions, and weight and bias of each norm, padded to units."""
    C = up(config.n_embd, UNIT)
    norms = [f"h.{i}.{name}" for i in range(config.n_layer) for name in ("ln_1", "ln_2")]
    return {"wpe": (config.n_ctx, C), **{name: (2, C) for name in [*norms, "ln_f"]}}


def check_packed(config: GPT2Config, tensors: Tensors) -> None:
    """`FormatError` unless every tensor is there, in its type and shape and in one stretch."""
    for name, (rows, columns) in matrix_shapes(config).items():
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
