"""GGUF, the files of llama.cpp and of what is built on it.

Read: float32, float16, bfloat16, and every quantized type that the package `gguf` can undo (Q8_0, the K ones).
A vocabulary padded with unused tokens is cut back. The head is the token embedding, so new files have no
`output.weight`; where an old one has it, it must be the same matrix, though perhaps quantized otherwise.

Written: `f32`, `f16` or `q8_0`, by `gguf`, tensor by tensor. As in llama.cpp's own converter, vectors and
positions stay float32, and matrices with rows that are no multiple of 32 become float16 in q8_0. A test holds
names of settings and tensors equal to the constants of `gguf`. Rejected: writing through `transformers` and that
converter, which is in no package.

    python -c "import gpt2; gpt2.convert('reproduce', 'model.gguf', to='gguf', kind='q8_0')"
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from gpt2.errors import ConfigError, FormatError, InputError, need
from gpt2.model.config import GPT2Config
from gpt2.model.formats import Shape, Source, check_shapes, finite, float32, parameter_shapes
from gpt2.model.formats.gguf_header import F16, F32, MAGIC, Q8_0, ROWS, Header, Stored, sizes
from gpt2.tokens.bpe import END_OF_TEXT, Tokenizer
from gpt2.tokens.vocabulary import build, numbering, spelled_merges
from gpt2.workspace import atomic_write

KINDS = ("f32", "f16", "q8_0")
FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7}
NORMAL, CONTROL, UNUSED = 1, 3, 5
"""Types of tokens."""
WORDS = (None, "gpt-2", "default")
"""Names of the way to cut a text into words that GPT-2's files go by; old files have none."""
NAMES = {
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "ln_f": "output_norm",
}
SIZES = {
    "n_layer": "block_count",
    "n_head": "attention.head_count",
    "n_embd": "embedding_length",
    "n_ctx": "context_length",
}
HEAD = "output.weight"


def theirs(name: str) -> str:
    """Our name of a tensor in GGUF's words: h.0.ln_1.bias is blk.0.attn_norm.bias."""
    part, _, end = name.rpartition(".")
    if not part.startswith("h."):
        return f"{NAMES[part]}.{end}"
    _, i, part = part.split(".", 2)
    return f"blk.{i}.{NAMES[part]}.{end}"


def recognise(path: Path) -> bool:
    """Whether a file begins as GGUF files do, of whatever model."""
    try:
        with path.open("rb") as stream:
            return stream.read(4) == MAGIC
    except OSError:
        return False


def open_source(path: Path) -> Source:
    """Open a file, mapped; names, shapes and places are checked before anything is read.

    Raises `FormatError` for another kind of model, a damaged file, a vocabulary that is none of GPT-2's kind.
    """
    header = Header(path)
    if (architecture := header.get("general.architecture", str)) != "gpt2":
        raise FormatError(f"{path} is a model of architecture {architecture!r:.40}, not a GPT-2")
    stored = header.tensors()
    padded = read_config(header, stored)
    tokenizer = read_tokenizer(header, padded.vocab_size)
    head = stored.pop(HEAD, None)
    wanted = {theirs(name): shape for name, shape in parameter_shapes(padded).items()}
    check_shapes(path, {name: part.shape for name, part in stored.items()}, wanted)

    def tensor(name: str) -> Tensor:
        part = stored[theirs(name)]
        if name == "wte.weight" and head and not one_matrix(part, head):
            raise FormatError(
                f"{path} has a head that is not its token embedding, so it is another network than GPT-2"
            )
        values = finite(part.read(), name, path)
        return values[: tokenizer.n_vocab] if name == "wte.weight" else values

    return Source("gguf", path, replace(padded, vocab_size=tokenizer.n_vocab), tokenizer, tensor)


def one_matrix(embedding: Stored, head: Stored) -> bool:
    """Whether two tensors are the same matrix: to the bit, or within rounding if quantized in two ways."""
    if embedding.shape != head.shape:
        return False
    if embedding.kind == head.kind:
        return all(
            np.array_equal(embedding.raw[i : i + ROWS], head.raw[i : i + ROWS])
            for i in range(0, len(head.raw), ROWS)
        )
    apart = size = 0.0
    for (_, left), (_, right) in zip(embedding.parts(), head.parts(), strict=True):
        apart += float((left.double() - right.double()).square().sum())
        size += float(left.double().square().sum())
    return apart < 0.04 * size  # a fifth of its length; unrelated matrices are apart by more than its whole


def read_config(header: Header, stored: Mapping[str, Stored]) -> GPT2Config:
    """The shape of the network, `vocab_size` as padded."""

    embedding = stored.get("token_embd.weight")
    epsilon = header.get("gpt2.attention.layer_norm_epsilon", float)
    shape = {name: header.get(f"gpt2.{key}", int) for name, key in SIZES.items()}
    try:
        config = GPT2Config(
            **shape,  # type: ignore[arg-type]
            vocab_size=embedding.shape[0] if embedding and embedding.shape else 0,
            layer_norm_epsilon=shortest(epsilon),  # type: ignore[arg-type]
        )
    except ConfigError as error:
        raise FormatError(f"{header.path}: {error}") from None
    for name, own in (("feed_forward_length", 4 * config.n_embd), ("attention.head_count_kv", config.n_head)):
        if (value := header.get(f"gpt2.{name}", int)) not in (None, own):
            raise FormatError(
                f"{header.path} is another network than GPT-2: its {name} is {value}, not {own}"
            )
    return config


def shortest(value: float | None) -> float | None:
    """The shortest decimal that is this float32: 1e-05, not 9.99999974e-06."""
    return None if value is None or not math.isfinite(value) else float(str(np.float32(value)))


def read_tokenizer(header: Header, rows: int) -> Tokenizer:
    """The vocabulary among the settings of a model whose token embedding has so many rows."""
    path = header.path
    kind, words = header.get("tokenizer.ggml.model", str), header.get("tokenizer.ggml.pre", str)
    if kind != "gpt2" or words not in WORDS:
        raise FormatError(
            f"{path} has a vocabulary of another kind than GPT-2's: {kind!r:.40}, words {words!r:.40}"
        )
    tokens, merges = (
        header.get("tokenizer.ggml.tokens", list) or [],
        header.get("tokenizer.ggml.merges", list) or [],
    )
    types = header.get("tokenizer.ggml.token_type", np.ndarray)
    if len(tokens) != rows:
        raise header.damage(f"no vocabulary of {rows:,} tokens")
    count = 256 + len(merges) + 1
    padding = header.get("tokenizer.ggml.padding_token_id", int)
    for i in range(count, rows):
        if i != padding and (types is None or types[i : i + 1].tolist() != [UNUSED]):
            raise FormatError(
                f"{path} has the added token {tokens[i]!r:.60}, which this tokenizer has no way to read; only padding "
                "can be left out"
            )
    ids = {token: i for i, token in enumerate(tokens[:count])}
    return build([str(pair).split(" ") for pair in merges], ids, path, path)


def write(path: Path, source: Source, kind: str = KINDS[0]) -> None:
    """Write a file in `f32`, `f16` or `q8_0`, whole or not at all, one tensor at a time."""
    gguf = need("gguf", "gguf")
    shapes = parameter_shapes(source.config)
    with atomic_write(path) as stream, closing(gguf.GGUFWriter(stream.name, "gpt2")) as writer:
        describe(writer, source, kind)
        for name, shape in shapes.items():
            form = form_of(name, shape, kind)
            block, size = sizes(form)
            place = (theirs(name), shape, np.dtype(np.float32), math.prod(shape) // block * size)
            writer.add_tensor_info(*place, raw_dtype=gguf.GGMLQuantizationType(form))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, shape in shapes.items():
            writer.write_tensor_data(formed(float32(source.tensor(name)), form_of(name, shape, kind), name))


def describe(writer: Any, source: Source, kind: str) -> None:
    """Give the writer all settings that llama.cpp asks of a GPT-2."""
    config, tokenizer = source.config, source.tokenizer
    writer.add_type("model")
    writer.add_name("GPT-2")
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_ctx)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(2)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*numbering(tokenizer), END_OF_TEXT])
    writer.add_token_types([NORMAL] * tokenizer.end_of_text + [CONTROL])
    writer.add_token_merges(spelled_merges(tokenizer))
    writer.add_bos_token_id(tokenizer.end_of_text)
    writer.add_eos_token_id(tokenizer.end_of_text)
    writer.add_unk_token_id(tokenizer.end_of_text)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)


def form_of(name: str, shape: Shape, kind: str) -> int:
    """The number type a tensor is written in."""
    if kind == "f32" or len(shape) == 1 or name == "wpe.weight":
        return F32
    return Q8_0 if kind == "q8_0" and shape[-1] % 32 == 0 else F16


def formed(values: npt.NDArray[np.float32], form: int, name: str) -> npt.NDArray[Any]:
    """A tensor's values in a number type."""
    if form == F32:
        return values
    if not -65504 <= values.min() <= values.max() <= 65504:
        raise InputError(
            f"tensor {name!r} has values beyond 65,504, which 16-bit numbers cannot hold; write f32"
        )
    if form == F16:
        return values.astype(np.float16)
    gguf = need("gguf", "gguf")
    parts = (values[i : i + ROWS] for i in range(0, len(values), ROWS))
    return np.concatenate([gguf.quantize(part, gguf.GGMLQuantizationType.Q8_0) for part in parts])
