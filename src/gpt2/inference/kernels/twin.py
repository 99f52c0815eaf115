"""What `decode.cpp` computes, in plain numpy: to read, and to hold it against.

The same packed weights, the same rounding of activations to 8 bits, keys and values in half precision; only the
order of float sums is numpy's. Whole texts, no cache, no threads.

    logits = read(config, tensors, ids)                     # ids of one text [T] -> [T, V]
    logits = read(config, tensors, ids, rounded=False)      # the same weights, nothing else rounded
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpt2.model.config import GPT2Config
from gpt2.model.packed import FIRST, LANES, UNIT, Tensors, kind_of, matrix_shapes, tiles_again, up
from gpt2.model.quantize import unpack, unpack_bias

Floats = NDArray[np.float32]


def round_rows(x: Floats) -> Floats:
    """x [T, K], each 64 numbers of a row rounded to 255 steps from -largest to largest."""
    T, K = x.shape
    padded = np.zeros((T, up(K, UNIT)), np.float32)
    padded[:, :K] = x
    units = padded.reshape(T, -1, UNIT)
    scale = np.abs(units).max(-1, keepdims=True) / np.float32(127)
    codes = np.rint(units / np.where(scale > 0, scale, np.float32(1)))
    rounded: Floats = (codes * scale).reshape(T, -1)[:, :K]
    return rounded


def gelu(x: Floats) -> Floats:
    """OpenAI's: by tanh."""
    y: Floats = x / (1 + np.exp(np.float32(-1.5957691216) * (x + np.float32(0.044715) * x**3)))
    return y


def read(config: GPT2Config, tensors: Tensors, ids: list[int], rounded: bool = True) -> Floats:
    """ids [T] of one text -> logits [T, V]; without `rounded`, activations stay as they are."""
    c, shapes, T = config, matrix_shapes(config, first=True), len(ids)
    D = c.n_embd // c.n_head

    def linear(x: Floats, name: str) -> Floats:
        rows, columns = shapes[name]
        bits = kind_of(tensors[name].shape[1], columns)
        x = round_rows(x) if rounded and bits != 16 else x  # inputs of bfloat16 weights are not rounded
        packed = tensors[name].view(np.uint8)
        return x @ unpack(packed, rows, columns).T + unpack_bias(packed, rows)

    def norm(x: Floats, name: str) -> Floats:
        weight, bias = tensors[name].view(np.float32)[:, : c.n_embd]
        x = x - x.mean(1, keepdims=True)
        y: Floats = (
            x / np.sqrt((x * x).mean(1, keepdims=True) + np.float32(c.layer_norm_epsilon)) * weight + bias
        )
        return y

    x = unpack(tensors["wte"].view(np.uint8), *shapes["wte"])[ids]
    x = x + tensors["wpe"].view(np.float32)[:T, : c.n_embd]  # [T, C]
    for i in range(c.n_layer):
        qkv = linear(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn")
        q, k, v = qkv.reshape(T, 3, c.n_head, D).transpose(1, 2, 0, 3)  # [H, T, D]
        if rounded:
            k, v = (part.astype(np.float16).astype(np.float32) for part in (k, v))
        scores = q @ k.transpose(0, 2, 1) / np.float32(D**0.5)  # [H, T, T]
        scores[:, ~np.tri(T, dtype=bool)] = -np.inf
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        y = (scores / scores.sum(-1, keepdims=True)) @ v  # [H, T, D]
        x = x + linear(y.transpose(1, 0, 2).reshape(T, -1), f"h.{i}.attn.c_proj")
        x = x + linear(gelu(linear(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")), f"h.{i}.mlp.c_proj")
    x = norm(x, "ln_f")
    if FIRST not in tensors:
        return linear(x, "wte")
    logits, exact = linear(x, FIRST), linear(x, "wte")
    again = highest(logits)
    logits[again] = exact[again]
    return logits


def highest(logits: Floats) -> NDArray[np.bool_]:
    """Which of the logits [T, V] are in the tiles that are computed again: those with the highest ones."""
    T, V = logits.shape
    tiles = up(V, LANES) // LANES
    padded = np.full((T, tiles * LANES), -np.inf, np.float32)
    padded[:, :V] = logits
    order = np.argsort(-padded.reshape(T, tiles, LANES).max(-1), axis=-1, kind="stable")
    chosen = np.zeros((T, tiles), np.bool_)
    np.put_along_axis(chosen, order[:, : tiles_again(V)], True, axis=-1)
    return chosen.repeat(LANES, axis=-1)[:, :V]
