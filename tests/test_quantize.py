"""Weights in few bits: what packing keeps, what it loses, and files that are damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from gpt2.errors import FormatError, InputError
from gpt2.model.config import GPT2Config
from gpt2.model.packed import KINDS, kind_of, open_packed, tile_bytes, write_packed
from gpt2.model.quantize import VALUES, pack, pack_model, unpack, unpack_bias

CONFIG = GPT2Config(n_layer=2, n_head=2, n_embd=40, vocab_size=37, n_ctx=9)


def weights(rows: int, columns: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(0, 0.02, (rows, columns)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 200), st.sampled_from(sorted(KINDS)), st.floats(1e-20, 1e20))
def test_a_packed_matrix_unpacks_to_nearly_what_it_was_in_every_shape_and_size(
    rows: int, columns: int, scheme: str, size: float
) -> None:
    w, bias = weights(rows, columns) * np.float32(size), np.arange(rows, dtype=np.float32)
    packed = pack(w, bias, KINDS[scheme])
    assert packed.shape[1] == tile_bytes(KINDS[scheme], columns)
    assert kind_of(packed.shape[1], columns) == KINDS[scheme]
    assert np.array_equal(unpack_bias(packed, rows), bias)
    error = np.abs(unpack(packed, rows, columns) - w)
    largest = np.abs(w).max(1, keepdims=True)
    bound = {"int8": largest / 127 * 0.501, "bfloat16": np.abs(w) / 255, "int4": largest * 0.3}[scheme]
    assert (error <= bound + 1e-30).all()


def test_normal_weights_lose_no_more_than_is_stated() -> None:
    w = weights(96, 768)
    for kind, limit in ((8, 0.009), (16, 0.0017), (4, 0.079)):
        error = unpack(pack(w, None, kind), *w.shape) - w
        assert np.sqrt((error**2).mean() / (w**2).mean()) < limit


def test_4_bits_are_spent_as_the_norm_before_them_says() -> None:
    """The outputs for inputs like the norm's are nearer than without it, and right on average."""
    numbers = np.random.default_rng(5)
    w, gain = weights(48, 192, 3), numbers.lognormal(0, 0.8, 192).astype(np.float32)
    shift = numbers.normal(0, 0.5, 192).astype(np.float32)
    x = numbers.normal(size=(4000, 192)).astype(np.float32) * gain + shift
    errors = []
    for norm in (None, (gain, shift)):
        packed = pack(w, None, 4, norm)
        errors.append(x @ (unpack(packed, 48, 192) - w).T + unpack_bias(packed, 48))
    plain, known = (np.sqrt((error**2).mean()) for error in errors)
    assert known < 0.92 * plain
    assert np.abs(errors[1].mean(0)).max() < 0.15 * np.abs(errors[0].mean(0)).max()


def test_weights_that_a_scheme_can_say_exactly_stay_as_they_are() -> None:
    codes = np.random.default_rng(0).integers(-127, 128, (20, 64)).astype(np.float32)
    codes[:, 0] = 127
    assert np.array_equal(unpack(pack(codes, None, 8), 20, 64), codes)
    values = VALUES[np.random.default_rng(0).integers(0, 16, (20, 64))]
    values[:, ::32] = -127
    assert np.allclose(unpack(pack(values, None, 4), 20, 64), values, rtol=1e-6)
    zeros = np.zeros((3, 5), np.float32)
    assert all(np.array_equal(unpack(pack(zeros, None, kind), 3, 5), zeros) for kind in KINDS.values())


def saved(folder: Path, scheme: str = "int4") -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = {"wpe.weight": (9, 40), "wte.weight": (37, 40)}

    def tensor(name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        part = name.split(".")[-2]
        rows = {"c_attn": 120, "c_fc": 160}.get(part, 40)
        columns = 160 if "mlp.c_proj" in name else 40
        matrix = name.endswith("weight") and not part.startswith("ln")
        shape = shapes.get(name, (rows, columns) if matrix else (rows,))
        return rng.normal(0, 0.1, shape).astype(np.float32)

    tensors = pack_model(CONFIG, tensor, scheme)
    write_packed(folder, CONFIG, scheme, tensors.__getitem__)
    return tensors


@pytest.mark.parametrize("scheme", sorted(KINDS))
def test_a_saved_model_opens_as_it_was_and_others_can_read_the_file(tmp_path: Path, scheme: str) -> None:
    tensors = saved(tmp_path, scheme)
    config, again = open_packed(tmp_path)
    theirs = load_file(tmp_path / "packed.safetensors")
    assert config == CONFIG and set(again) == set(theirs) == set(tensors)
    for name, values in tensors.items():
        assert np.array_equal(again[name], values) and np.array_equal(theirs[name], values)
        assert again[name].ctypes.data % 64 == 0 or again[name].dtype == np.float32


def test_under_int4_the_head_is_there_in_8_bits_and_in_4(tmp_path: Path) -> None:
    tensors = saved(tmp_path)
    assert kind_of(tensors["wte"].shape[1], 40) == 8
    assert kind_of(tensors["wte.first"].shape[1], 40) == 4
    assert "wte.first" not in saved(tmp_path, "int8")
    assert kind_of(tensors["h.1.mlp.c_fc"].shape[1], 40) == 4
    assert kind_of(tensors["h.0.mlp.c_fc"].shape[1], 40) == 8


def test_a_file_that_is_missing_cut_or_foreign_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        open_packed(tmp_path)
    saved(tmp_path)
    path, whole = tmp_path / "packed.safetensors", (tmp_path / "packed.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    for text in (b"", whole[:5], whole[:500], whole[:-1], b"\xff" * 64, whole[:8] + b"[" + whole[9:]):
        path.write_bytes(text)
        with pytest.raises(FormatError, match="convert"):
            open_packed(tmp_path)
    body = whole[8 + length :]
    header = json.loads(whole[8 : 8 + length])
    odd = json.dumps(header, separators=(",", ":")).encode().ljust(length + 1)
    for text in (b"[]", b"[" * 100_000, b"{" + b'"a":{' * 50_000, odd):
        path.write_bytes(len(text).to_bytes(8, "little") + text + body)
        with pytest.raises(FormatError, match="convert"):
            open_packed(tmp_path)
    for change in (
        {"dtype": "I64"},
        {"shape": [1, 1]},
        {"data_offsets": [-64, 0]},
        {"data_offsets": "x"},
        {"shape": [10**30, 1]},
    ):
        damaged = {**header, "wte": {**header["wte"], **change}}
        path.write_bytes(
            whole[:8] + json.dumps(damaged).encode().ljust(length)[:length] + whole[8 + length :]
        )
        with pytest.raises(FormatError):
            open_packed(tmp_path)
    path.write_bytes(whole)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"n_layer": 300_000}))
    with pytest.raises(FormatError, match="n_layer 300,000 is more than any model has"):
        open_packed(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        open_packed(tmp_path)
    path.rmdir()
    with pytest.raises(InputError, match="there is no file"):
        open_packed(tmp_path)
    (tmp_path / "config.json").write_text('{"format": "gpt2-workbench 1"}')
    with pytest.raises(FormatError, match="packed weights"):
        open_packed(tmp_path)
