"""GGUF files: the package `gguf` reads ours, we read all it writes, and the rest is one sentence."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf as peer
import numpy as np
import pytest
import sources
import torch
from mutations import survived
from sources import SMALL, assert_same, failing, in_memory

from gpt2.errors import FormatError, InputError
from gpt2.model.formats import Source, gguf, parameter_shapes
from gpt2.model.formats.gguf_header import Header
from gpt2.tokens.bpe import Tokenizer

VECTORS = ("bias", "ln_1.weight", "ln_2.weight", "ln_f.weight", "wpe.weight")


@pytest.fixture(scope="module")
def source() -> Source:
    return in_memory(n_embd=64)


refused = functools.partial(sources.refused, gguf)


def test_names_of_tensors_and_settings_are_the_packages_own(tmp_path: Path, source: Source) -> None:
    names = peer.get_tensor_name_map(peer.MODEL_ARCH.GPT2, 2)
    ours = {gguf.theirs(name) for name in parameter_shapes(source.config)}
    for name in parameter_shapes(source.config):
        assert gguf.theirs(name) == names.get_name(f"transformer.{name}", (".weight", ".bias"))
    kinds = peer.MODEL_TENSORS[peer.MODEL_ARCH.GPT2]
    known = {peer.TENSOR_NAMES[k].format(bid=i) for k in kinds for i in range(2)}
    assert {name.rpartition(".")[0] for name in ours} == known - {"output"}
    gguf.write(tmp_path / "model.gguf", source)
    settings = {
        str(value).replace("{arch}", "gpt2")
        for room in (peer.Keys.General, peer.Keys.LLM, peer.Keys.Attention, peer.Keys.Tokenizer)
        for key, value in vars(room).items()
        if key.isupper()
    }
    assert Header(tmp_path / "model.gguf").fields.keys() <= settings


@pytest.mark.parametrize("kind", gguf.KINDS)
def test_the_packages_reader_reads_ours(tmp_path: Path, source: Source, kind: str) -> None:
    gguf.write(tmp_path / "model.gguf", source, kind)
    reader = peer.GGUFReader(tmp_path / "model.gguf")
    found = {tensor.name: tensor for tensor in reader.tensors}
    opened = gguf.open_source(tmp_path / "model.gguf")
    assert found.keys() == {gguf.theirs(name) for name in parameter_shapes(source.config)}
    for name in parameter_shapes(source.config):
        tensor = found[gguf.theirs(name)]
        assert tensor.tensor_type.name == ("F32" if name.endswith(VECTORS) else kind.upper())
        theirs = torch.from_numpy(peer.dequantize(tensor.data, tensor.tensor_type).copy())
        assert torch.equal(opened.tensor(name).float(), theirs), name
        step = (
            0 if kind == "f32" else float(source.tensor(name).abs().max()) / (1024 if kind == "f16" else 127)
        )
        assert float((theirs - source.tensor(name)).abs().max()) <= step, name
    values = {name: field.contents() for name, field in reader.fields.items()}
    assert values["tokenizer.ggml.tokens"][-1] == "<|endoftext|>"
    assert values["tokenizer.ggml.token_type"] == [1] * 279 + [3]
    assert values["tokenizer.ggml.merges"][:2] == ["Ġ t", "Ġ a"]
    assert values["tokenizer.ggml.eos_token_id"] == 279
    assert values["gpt2.feed_forward_length"] == 256
    assert (
        values["general.file_type"]
        == peer.LlamaFileType[{"f32": "ALL_F32"}.get(kind, f"MOSTLY_{kind.upper()}")]
    )


@pytest.mark.parametrize(
    "tokenizer", [Tokenizer.gpt2(), SMALL, Tokenizer([])], ids=["gpt2", "small", "bytes"]
)
def test_float32_comes_back_to_the_bit_with_its_vocabulary(tmp_path: Path, tokenizer: Tokenizer) -> None:
    source = in_memory(tokenizer, n_embd=6)
    gguf.write(tmp_path / "model", source)
    assert gguf.recognise(tmp_path / "model")
    assert_same(gguf.open_source(tmp_path / "model"), source)


def test_rows_that_are_no_multiple_of_32_are_float16_in_q8_0(tmp_path: Path) -> None:
    source = in_memory(n_embd=40)
    gguf.write(tmp_path / "model.gguf", source, "q8_0")
    kinds = {name: part.kind for name, part in Header(tmp_path / "model.gguf").tensors().items()}
    assert kinds["token_embd.weight"] == peer.GGMLQuantizationType.F16
    assert kinds["blk.0.ffn_down.weight"] == peer.GGMLQuantizationType.Q8_0
    gguf.open_source(tmp_path / "model.gguf").tensor("wte.weight")


def test_values_that_float16_cannot_hold_are_refused_at_writing(tmp_path: Path, source: Source) -> None:
    large = Source(
        "workbench", tmp_path, source.config, source.tokenizer, lambda name: source.tensor(name) * 1e6
    )
    for kind in ("f16", "q8_0"):
        with pytest.raises(InputError, match="beyond 65,504"):
            gguf.write(tmp_path / "model.gguf", large, kind)
    assert not list(tmp_path.iterdir())


def written(
    path: Path,
    source: Source,
    settings: dict[str, Any] | None = None,
    extra: dict[str, np.ndarray] | None = None,
    kind: str = "F32",
    rows: int = 0,
) -> Path:
    """A file as other programs write it: with other settings, tensors, number types and padding."""
    writer = peer.GGUFWriter(path, (settings or {}).pop("architecture", "gpt2"))
    gguf.describe(writer, source, "f32")
    tokens = [f"[PAD{280 + i}]" for i in range(rows)]
    kv = writer.kv_data[0]
    kv["tokenizer.ggml.tokens"].value.extend(tokens)
    kv["tokenizer.ggml.token_type"].value.extend([5] * rows)
    for name, value in (settings or {}).items():
        del kv[name]
        if value is not None:
            writer.add_key_value(name, value, peer.GGUFValueType.get_type(value))
    tensors = {gguf.theirs(name): source.tensor(name).numpy() for name in parameter_shapes(source.config)}
    if rows:
        tensors["token_embd.weight"] = np.pad(tensors["token_embd.weight"], ((0, rows), (0, 0)))
    for name, values in (tensors | (extra or {})).items():
        form = peer.GGMLQuantizationType[kind if values.ndim > 1 else "F32"]
        writer.add_tensor(name, peer.quantize(values, form), raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q5_1", "Q4_0"])
def test_number_types_of_other_writers_are_undone(tmp_path: Path, source: Source, kind: str) -> None:
    opened = gguf.open_source(written(tmp_path / "model", source, kind=kind))
    form = peer.GGMLQuantizationType[kind]
    for name in parameter_shapes(source.config):
        wanted = source.tensor(name).numpy()
        if wanted.ndim > 1:
            wanted = peer.dequantize(peer.quantize(wanted, form), form)
        assert torch.equal(opened.tensor(name).float(), torch.from_numpy(wanted)), name


def test_unused_tokens_that_pad_a_vocabulary_are_cut_off(tmp_path: Path, source: Source) -> None:
    assert_same(gguf.open_source(written(tmp_path / "model", source, rows=24)), source)


def test_an_added_token_that_is_used_is_refused_by_name(tmp_path: Path, source: Source) -> None:
    types = [1] * 279 + [3, 3]
    path = written(tmp_path / "model", source, {"tokenizer.ggml.token_type": types}, rows=1)
    refused(path, "the added token '[PAD280]'", "no way to read")


def test_a_head_must_be_the_embedding_though_perhaps_quantized_otherwise(
    tmp_path: Path, source: Source
) -> None:
    wte = source.tensor("wte.weight").numpy()
    assert_same(gguf.open_source(written(tmp_path / "same", source, extra={"output.weight": wte})), source)
    refused(
        written(tmp_path / "other", source, extra={"output.weight": wte + 1}), "another network than GPT-2"
    )
    eighth = peer.dequantize(
        peer.quantize(wte, peer.GGMLQuantizationType.Q4_0), peer.GGMLQuantizationType.Q4_0
    )
    stored = Header(
        written(tmp_path / "model", source, extra={"output.weight": wte, "x": wte[::-1]})
    ).tensors()
    rounded = Header(written(tmp_path / "q", source, extra={"x": eighth}, kind="Q8_0")).tensors()["x"]
    assert gguf.one_matrix(stored["output.weight"], rounded)
    assert not gguf.one_matrix(stored["x"], rounded)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"architecture": "llama"}, "architecture 'llama', not a GPT-2"),
        ({"gpt2.block_count": None}, "n_layer must be a whole number"),
        ({"gpt2.block_count": 3}, "lacks tensor 'blk.2."),
        ({"gpt2.block_count": "two"}, "has 'two' for gpt2.block_count"),
        ({"gpt2.embedding_length": 63}, "cannot be split evenly"),
        ({"gpt2.context_length": 15}, "has the shape [16, 64]"),
        ({"gpt2.feed_forward_length": 128}, "feed_forward_length is 128, not 256"),
        ({"gpt2.attention.layer_norm_epsilon": float("nan")}, "layer_norm_epsilon must be"),
        ({"tokenizer.ggml.model": "llama"}, "a vocabulary of another kind than GPT-2's: 'llama'"),
        ({"tokenizer.ggml.pre": "gpt-4o"}, "words 'gpt-4o'"),
        ({"tokenizer.ggml.tokens": ["a", "b"]}, "no vocabulary of 280 tokens"),
        ({"tokenizer.ggml.merges": ["a b"] * 23}, "merge"),
        ({"tokenizer.ggml.merges": [1, 2]}, "for tokenizer.ggml.merges"),
    ],
)
def test_settings_of_another_model_are_refused(
    tmp_path: Path, source: Source, settings: dict[str, Any], words: str
) -> None:
    refused(written(tmp_path / "model", source, dict(settings)), words)


def test_files_without_the_name_of_a_word_pattern_are_read(tmp_path: Path, source: Source) -> None:
    assert_same(gguf.open_source(written(tmp_path / "model", source, {"tokenizer.ggml.pre": None})), source)


def headers() -> Iterator[tuple[bytes, str]]:
    """Headers that claim what is not there, with what is said of them."""
    start = b"GGUF" + struct.pack("<I", 3)
    yield b"", "after its end"
    yield b"GGUF", "after its end"
    yield start + struct.pack("<QQ", 2**63, 2**63), "after its end"
    yield b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"
    yield b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "version 50331648"
    yield start + struct.pack("<QQQ", 0, 1, 2**40), "1,099,511,627,776 bytes"
    yield start + struct.pack("<QQQ1sIIQ", 0, 1, 1, b"x", 9, 8, 2**62), "after its end"
    yield start + struct.pack("<QQQ1sIIQ", 0, 1, 1, b"x", 9, 9, 2**62), "a list of the unknown type 9"
    yield start + struct.pack("<QQQ1sI", 0, 1, 1, b"x", 99), "the unknown type 99"
    yield start + struct.pack("<QQQ1sI", 1, 0, 1, b"\xff", 1), "not UTF-8"
    yield start + struct.pack("<QQQ1sI", 1, 0, 1, b"x", 2**31), "2,147,483,648 dimensions"
    yield start + struct.pack("<QQQ4sIQ2s", 0, 1, 4, b"arch", 8, 2, b"hi"), "architecture None"


@pytest.mark.parametrize(("header", "words"), list(headers()))
def test_headers_that_claim_too_much_are_refused(tmp_path: Path, header: bytes, words: str) -> None:
    (tmp_path / "model").write_bytes(header)
    refused(tmp_path / "model", words)


def test_tensors_outside_the_file_or_not_numbers_are_refused(tmp_path: Path, source: Source) -> None:
    path = written(tmp_path / "model", source)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    refused(path, "after the file's end")
    path.write_bytes(whole[:-32] + struct.pack("<f", float("nan")) * 8)
    refused(path, "holds values that are not numbers")


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path, source: Source) -> None:
    broken = failing(source)
    with pytest.raises(FormatError, match="the rest"):
        gguf.write(tmp_path / "model.gguf", broken)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["f32", "q8_0"])
def test_damaged_files_are_refused_or_sound(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.gguf"
    gguf.write(path, in_memory(n_layer=1), kind)
    refused_files, opened = survived("gguf", path, path, 300)
    assert refused_files > opened > 0
