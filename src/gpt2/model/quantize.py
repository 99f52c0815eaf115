"""Weights in 8 or 4 bits for the fast engine.

int8: a scale for each row. int4: a code of 4 bits into a fixed table, a scale for each 32 columns, chosen by
least squares.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt2.errors import ConfigError
from gpt2.model.config import GPT2Config
from gpt2.model.packed import (
    BLOCK,
    CODEBOOK,
    HEADER,
    KINDS,
    LANES,
    UNIT,
    kind_of,
    matrix_shapes,
    tile_bytes,
    up,
    vector_shapes,
    write_packed,
)

Floats = NDArray[np.float32]
Packed = NDArray[np.generic]


def pack(weight: Floats, bias: Floats | None, kind: int) -> NDArray[np.uint8]:
    """weight [N, K] and bias [N] as tiles [N / 16, bytes]."""
    N, K = weight.shape
    tiles, columns = up(N, LANES) // LANES, up(K, UNIT)
    w = np.zeros((tiles * LANES, columns), np.float32)
    w[:N, :K] = weight
    b = np.zeros(tiles * LANES, np.float32)
    if bias is not None:
        b[:N] = bias
    scale = np.ones(tiles * LANES, np.float32)
    if kind == 8:
        scale = np.maximum(np.abs(w).max(1), 1e-30) / 127
        codes = (np.rint(w / scale[:, None]) + 128).astype(np.uint8)
        codes = codes.reshape(tiles, LANES, columns // 4, 4).transpose(0, 2, 1, 3)
    elif kind == 16:
        bits = np.ascontiguousarray(w).view(np.uint32)
        half = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
        codes = np.ascontiguousarray(half.reshape(tiles, LANES, columns // 2, 2).transpose(0, 2, 1, 3))
        codes = codes.reshape(tiles, -1).view(np.uint8)
    else:
        scale, steps, q = int4(w)
        units = columns // UNIT
        q = q.reshape(tiles, LANES, units, 2, 2, 4, 4).transpose(
            4, 0, 2, 3, 5, 1, 6
        )  # [2, tiles, units, 2, 4, 16, 4]
        pairs = np.zeros(
            (tiles, up(units, 2) // 2, 64 + 1024), np.uint8
        )  # [4 x 16 scales, two units of codes]
        both = np.zeros((tiles, up(units, 2), 512), np.uint8)
        both[:, :units] = (q[0] | q[1] << 4).reshape(tiles, units, 512)
        pairs[:, :, 64:] = both.reshape(tiles, -1, 1024)
        four = np.zeros((tiles, up(units, 2) * 2, LANES), np.uint8)
        four[:, : 2 * units] = steps.reshape(tiles, LANES, 2 * units).transpose(0, 2, 1)
        pairs[:, :, :64] = four.reshape(tiles, -1, 64)
        codes = pairs.reshape(tiles, -1)
    out = np.empty((tiles, tile_bytes(kind, K)), np.uint8)
    out[:, :64] = np.ascontiguousarray(scale.reshape(tiles, LANES)).view(np.uint8)
    out[:, 64:HEADER] = b.reshape(tiles, LANES).view(np.uint8)
    out[:, HEADER:] = codes.reshape(tiles, -1)[:, : out.shape[1] - HEADER]
    return out


def int4(w: Floats) -> tuple[Floats, NDArray[np.uint8], NDArray[np.uint8]]:
    """w [N, K] -> row scales [N], block scales [N, K / 32], codes [N, K]."""
    N, K = w.shape
    values = CODEBOOK.astype(np.float32) - 128
    borders = (values[1:] + values[:-1]) / 2
    x = w.reshape(N, -1, BLOCK)
    peak = np.take_along_axis(x, np.abs(x).argmax(-1)[..., None], -1)[..., 0]  # signed, at the long end
    s = np.where(peak < 0, -peak / 127, peak / 113)
    row = np.maximum(np.abs(s).max(1), 1e-30) / 255
    steps = np.clip(np.rint(np.abs(s) / row[:, None]), 1, 255).astype(np.uint8)
    q = np.searchsorted(borders, x / (row[:, None] * steps)[..., None]).astype(np.uint8)
    return row.astype(np.float32), steps, q.reshape(N, K)


def unpack(packed: NDArray[np.uint8], rows: int, columns: int) -> Floats:
    """The weights [rows, columns] that a packed matrix stands for."""
    kind, tiles, wide = kind_of(packed.shape[1], columns), len(packed), up(columns, UNIT)
    scale = packed[:, :64].copy().view(np.float32).reshape(-1, 1)
    codes = packed[:, HEADER:]
    if kind == 8:
        w = codes.reshape(tiles, wide // 4, LANES, 4).transpose(0, 2, 1, 3).astype(np.float32) - 128
    elif kind == 16:
        half = codes.copy().view(np.uint16).reshape(tiles, wide // 2, LANES, 2).transpose(0, 2, 1, 3)
        w = (half.astype(np.uint32) << 16).view(np.float32)
    else:
        units = wide // UNIT
        pairs = np.zeros((tiles, up(units, 2) // 2 * 1088), np.uint8)
        pairs[:, : codes.shape[1]] = codes
        pairs = pairs.reshape(tiles, -1, 1088)
        steps = pairs[:, :, :64].reshape(tiles, -1, LANES)[:, : 2 * units].transpose(0, 2, 1)
        q = pairs[:, :, 64:].reshape(tiles, -1, 4, LANES, 4)[:, : 2 * units].transpose(0, 3, 1, 2, 4)
        q = np.stack([q & 15, q >> 4], 3)  # [tiles, rows, blocks, 2, 4, 4]
        w = (CODEBOOK.astype(np.float32) - 128)[q] * steps[..., None, None, None]
    return (w.reshape(-1, wide) * scale)[:rows, :columns]


def unpack_bias(packed: NDArray[np.uint8], rows: int) -> Floats:
    """The bias [rows] that a packed matrix carries."""
    return packed[:, 64:HEADER].copy().view(np.float32).reshape(-1)[:rows]


def packed_tensor(config: GPT2Config, tensor: Callable[[str], Floats], scheme: str, name: str) -> Packed:
    """A packed tensor by name; `tensor` gives float32 weights by OpenAI's names, [out, in]."""
    if name in matrix_shapes(config):
        bias = None if name == "wte" else tensor(f"{name}.bias")
        return pack(tensor(f"{name}.weight"), bias, KINDS[scheme])
    padded = np.zeros(vector_shapes(config)[name], np.float32)
    if name == "wpe":
        padded[:, : config.n_embd] = tensor("wpe.weight")
    else:
        padded[:, : config.n_embd] = tensor(f"{name}.weight"), tensor(f"{name}.bias")
    return padded


def pack_model(config: GPT2Config, tensor: Callable[[str], Floats], scheme: str) -> dict[str, Packed]:
    """All packed tensors of a model, in memory."""
    names = [*vector_shapes(config), *matrix_shapes(config)]
    return {name: packed_tensor(config, tensor, scheme, name) for name in names}


def quantize(model: str | Path, target: str | Path, scheme: str = "int8") -> None:
    """Write a model of any known format as packed weights in the folder `target`, a matrix at a time."""
    from gpt2.model.checkpoint import card_text
    from gpt2.model.formats import float32, open_source
    from gpt2.workspace import atomic_folder, write_json

    if scheme not in KINDS:
        raise ConfigError(f"weights can be packed as {', '.join(KINDS)}, not {scheme!r}")
    source = open_source(model)
    card = {**source.card, "packed_as": scheme}
    tensor = functools.partial(packed_tensor, source.config, lambda n: float32(source.tensor(n)), scheme)
    with atomic_folder(Path(target), "card.json") as folder:
        write_packed(folder, source.config, scheme, tensor)
        source.tokenizer.save(folder)
        write_json(folder / "card.json", card)
        (folder / "README.md").write_text(card_text(source.config, card), encoding="utf-8")
