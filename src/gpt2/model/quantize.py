"""Weights in 8, 4 or 16 bits for the fast engine; `gpt2.model.packed` says how they lie in memory.

int8: each row has a scale, its largest weight becomes 127. int4: each block of 32 columns has a scale of 8 bits
within its row's, chosen by least squares, and a weight is one of 16 values that are closer together near zero;
4.25 bits a weight in all. The head, which is also the token embedding, is there twice under int4: it is a third
of a small model, and rounding it to 4 bits costs more than all other matrices together. So all logits come from
the head in 4 bits, and those near the highest are computed again from the head in 8. The inputs of c_attn, c_fc
and the head come from a layer norm, whose gain g and shift b tell what they are like without any text: their mean
is about b, and what the error makes of it goes into the bias; their mean square is about g^2 + b^2, by which the
errors of weights count. bfloat16: the upper half of a float32, rounded to nearest even.

The 16 values are Lloyd's for normal weights in blocks of 32 at their best scales (relative error 0.0773; evenly
spaced values of the same size leave 0.0859). Rejected: scales in half precision,
which cost twice the bytes for a precision that 4-bit values do not need.

    gpt2 convert reproduce small --to int8
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gpt2.model.config import GPT2Config
from gpt2.model.packed import (
    BLOCK,
    CODEBOOK,
    FIRST,
    HEADER,
    KINDS,
    LANES,
    UNIT,
    kind_of,
    matrix_shapes,
    packed_names,
    tile_bytes,
    up,
    vector_shapes,
)

Floats = NDArray[np.float32]
Packed = NDArray[np.generic]

VALUES = CODEBOOK.astype(np.float32) - 128
NEAREST = (
    np.abs((np.arange(1024, dtype=np.float32)[:, None] + 0.5) / 4 - 128 - VALUES).argmin(1).astype(np.uint8)
)
"""The nearest code of (i + 0.5) / 4 - 128."""
SENSITIVE = "h.0.mlp.c_fc"
"""A matrix that stays in int8 under int4: a fiftieth of 124M, in which 4 bits cost a fifth of what they
cost in all matrices (of a model of 14M)."""
TINY = np.float32(1e-30)
"""Keeps zeros from dividing."""
SLICE = 4096
"""Rows that are quantised at a time, as much more memory than theirs is needed."""
FACTORS = (1.0, 0.97, 0.94, 0.91, 0.88, 0.85, 0.82, 0.78, 0.74, 0.7)
"""How far short of a block's largest weight the table may end."""


def pack(
    weight: Floats, bias: Floats | None, kind: int, norm: tuple[Floats, Floats] | None = None
) -> NDArray[np.uint8]:
    """weight [N, K] and bias [N] as tiles [N / 16, bytes].

    `norm`: gain and shift [K] of the layer norm that gives the inputs; then 4 bits are spent as they matter there.
    """
    N, K = weight.shape
    tiles, columns = up(N, LANES) // LANES, up(K, UNIT)
    w = np.zeros((tiles * LANES, columns), np.float32)
    w[:N, :K] = weight
    b = np.zeros(tiles * LANES, np.float32)
    if bias is not None:
        b[:N] = bias
    scale = np.ones(tiles * LANES, np.float32)
    if kind == 8:
        scale = np.maximum(np.abs(w).max(1), TINY) / 127
        codes = (np.rint(w / scale[:, None]) + 128).astype(np.uint8)
        codes = codes.reshape(tiles, LANES, columns // 4, 4).transpose(0, 2, 1, 3)
    elif kind == 16:
        bits = np.ascontiguousarray(w).view(np.uint32)
        half = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
        codes = np.ascontiguousarray(half.reshape(tiles, LANES, columns // 2, 2).transpose(0, 2, 1, 3))
        codes = codes.reshape(tiles, -1).view(np.uint8)
    else:
        square = np.zeros(columns, np.float32)  # of an input, on average
        square[:K] = 1 if norm is None else norm[0] ** 2 + norm[1] ** 2
        slices = [int4(w[i : i + SLICE], square) for i in range(0, len(w), SLICE)]
        scale, steps, q = (np.concatenate(parts) for parts in zip(*slices, strict=True))
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
    out[:, HEADER:] = codes.reshape(tiles, -1)[:, : out.shape[1] - HEADER]
    if kind == 4 and norm is not None:
        b[:N] += (weight - unpack(out, N, K)) @ norm[1]
    out[:, 64:HEADER] = b.reshape(tiles, LANES).view(np.uint8)
    return out


def int4(w: Floats, square: Floats) -> tuple[Floats, NDArray[np.uint8], NDArray[np.uint8]]:
    """w [N, K], mean squares of inputs [K] -> row scales [N], block scales [N, K / 32], codes [N, K].

    Of several scales for a block, from the one that just reaches its largest weight downwards, the one stays
    whose codes, at their own best scale by least squares, leave the smallest error of the outputs, weights
    counting as their inputs are large. Then scales are rounded to 255 steps of the row's largest, and codes
    chosen once more for what they have become.
    """
    N, K = w.shape
    counts = (square / np.maximum(square.mean(), TINY)).reshape(K // BLOCK, BLOCK)
    largest = np.abs(w).max(1)
    x = (w / np.maximum(largest, TINY)[:, None]).reshape(N, K // BLOCK, BLOCK)
    peak = np.take_along_axis(x, np.abs(x).argmax(-1)[..., None], -1)[..., 0]
    reach = np.maximum(np.where(peak < 0, -peak / -VALUES[0], peak / VALUES[-1]), TINY)
    best, gain = reach.copy(), np.full_like(reach, -1)
    for factor in FACTORS:
        v = VALUES[codes_of(x, reach * factor)]
        weighted = v * counts
        along, own = np.einsum("nbk,nbk->nb", x, weighted), np.einsum("nbk,nbk->nb", v, weighted)
        explained = (
            along * np.maximum(along, 0) / np.maximum(own, TINY)
        )  # of the weighted sum of squares of x
        better = explained > gain
        gain[better], best[better] = explained[better], (along / np.maximum(own, TINY))[better]
    row = np.maximum(best.max(1), TINY) / 255
    steps = np.clip(np.rint(best / row[:, None]), 0, 255).astype(np.uint8)
    codes = codes_of(x, np.maximum(row[:, None] * steps, TINY))
    return np.where(largest > 0, row * largest, np.float32(0)), steps, codes.reshape(N, K)


def codes_of(x: Floats, scale: Floats) -> NDArray[np.uint8]:
    """The nearest codes of x [N, blocks, 32] at a scale for each block."""
    nearest: NDArray[np.uint8] = NEAREST[np.clip(x / scale[..., None] * 4 + 512, 0, 1023).astype(np.int16)]
    return nearest


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
        padded = np.zeros((tiles, up(units, 2) // 2 * 1088), np.uint8)
        padded[:, : codes.shape[1]] = codes
        pairs = padded.reshape(tiles, -1, 1088)  # of units: 64 bytes of scales, 1024 of codes
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
    if name in matrix_shapes(config, first=True):
        owner = "wte" if name == FIRST else name
        bias = None if owner == "wte" else tensor(f"{name}.bias")
        block, _, part = name.rpartition(".")
        before = {
            "c_attn": block.replace("attn", "ln_1"),
            "c_fc": block.replace("mlp", "ln_2"),
            "first": "ln_f",
        }
        norm = (tensor(f"{before[part]}.weight"), tensor(f"{before[part]}.bias")) if part in before else None
        kind = 8 if scheme == "int4" and name in ("wte", SENSITIVE) else KINDS[scheme]
        return pack(tensor(f"{owner}.weight"), bias, kind, norm)
    padded = np.zeros(vector_shapes(config)[name], np.float32)
    if name == "wpe":
        padded[:, : config.n_embd] = tensor("wpe.weight")
    else:
        padded[:, : config.n_embd] = tensor(f"{name}.weight"), tensor(f"{name}.bias")
    return padded


def pack_model(config: GPT2Config, tensor: Callable[[str], Floats], scheme: str) -> dict[str, Packed]:
    """All packed tensors of a model, in memory."""
    return {name: packed_tensor(config, tensor, scheme, name) for name in packed_names(config, scheme)}
