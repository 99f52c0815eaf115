"""llm.c's model file, the tokenizer file beside it, and the debug state its tests compare with.

    gpt2_124M.bin              256 int32 (magic, version, context, vocabulary, layers, heads, channels, padded
                               vocabulary), then the weights: wte, wpe, each kind of weight for all layers, ln_f
    gpt2_tokenizer.bin         256 int32 (magic, version, tokens, id of the end of text), then each token's
                               length as a byte and its bytes
    gpt2_124M_debug_state.bin  256 int32 (magic, version, B, T), then ids, targets, logits, loss and gradients

Version 3 of the model file has float32, version 5 bfloat16. Matrices are [out, in], as ours. The embedding of
tokens is padded with zeros to a multiple of 128 rows; here the padding is dropped and put back. The tokenizer
file has no merges, but they follow from the tokens: each is what its own bytes, merged by the earlier merges,
become just before the last. Source of the layouts: llm.c's train_gpt2.py.

    gpt2 convert reproduce gpt2.bin --to llmc --kind bfloat16
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpt2.errors import ConfigError, FormatError, InputError
from gpt2.model.config import GPT2Config
from gpt2.model.formats import Shape, Source, check_epsilon, finite, float32, parameter_shapes, vocabulary_of
from gpt2.tokens.bpe import Tokenizer, merge
from gpt2.workspace import atomic_write

MODEL, DEBUG_STATE, TOKENIZER = 20240326, 20240327, 20240328
NAMES = {MODEL: "a model file", DEBUG_STATE: "a debug state", TOKENIZER: "a tokenizer file"}
HEADER_BYTES, LARGEST_TOKENIZER = 1024, 2**24
KINDS = ("float32", "bfloat16")
VERSIONS = {3: torch.float32, 5: torch.bfloat16}
TOKENIZER_FILE = "gpt2_tokenizer.bin"
PADDED_TO = 128


@dataclass(frozen=True)
class DebugState:
    """What llm.c's Python twin computed for one batch, to compare with."""

    ids: Tensor
    """token ids [B, T]"""
    targets: Tensor
    """the tokens after them [B, T]"""
    logits: Tensor
    """[B, T, V] float32"""
    loss: float
    """mean cross-entropy, in nats"""
    gradients: dict[str, Tensor]
    """by our names, as the weights, float32; views of the mapped file"""


def recognise(path: Path) -> bool:
    """Whether a file begins as llm.c's models do."""
    try:
        with path.open("rb") as stream:
            return stream.read(4) == MODEL.to_bytes(4, "little")
    except OSError:
        return False


def open_source(path: Path) -> Source:
    """The model in a file, whose size must be what its header says; `FormatError` when it is not."""
    fields = read_header(path, MODEL)
    version, context, vocabulary, layers, heads, channels, padded = fields[1:8]
    if version not in VERSIONS:
        raise FormatError(f"{path} is of version {version} of llm.c's model file; known are 3 and 5")
    try:
        config = GPT2Config(layers, heads, channels, vocabulary, context)
    except ConfigError as error:
        raise FormatError(f"{path}: {error}") from None
    if padded < vocabulary:
        raise FormatError(f"{path}: {vocabulary:,} tokens do not fit into {padded:,} rows; is it damaged?")
    dtype = VERSIONS[version]
    places, end = layout(config, padded)
    check_size(path, HEADER_BYTES + end * dtype.itemsize)

    def tensor(name: str) -> Tensor:
        begin, shape = places[name]
        values = mapped(path, dtype, HEADER_BYTES + begin * dtype.itemsize, shape)
        return finite(values[: config.vocab_size] if name == "wte.weight" else values, name, path)

    beside = path.parent / TOKENIZER_FILE
    tokenizer = read_tokenizer(beside) if beside.exists() else vocabulary_of(path.parent, config)
    if tokenizer.n_vocab != config.vocab_size:
        raise FormatError(
            f"{path} has {config.vocab_size:,} tokens, but {beside.name} beside it {tokenizer.n_vocab:,}; "
            "put the tokenizer that the model was trained with there"
        )
    return Source("llmc", path, config, tokenizer, tensor)


def write(path: Path, source: Source, kind: str = "float32") -> None:
    """Write a model file, and the tokenizer file beside it, each whole or not at all.

    Raises `InputError` when the tokenizer file of another vocabulary is there.
    """
    check_epsilon(source, "llmc")
    beside, tokens = path.parent / TOKENIZER_FILE, tokenizer_bytes(source.tokenizer)
    if beside.exists() and beside.read_bytes() != tokens:
        raise InputError(
            f"{beside} is of another vocabulary, and llm.c looks there; give a path in a new folder"
        )
    c = source.config
    padded = -(-c.vocab_size // PADDED_TO) * PADDED_TO
    fields = np.zeros(256, "<i4")
    version = {"float32": 3, "bfloat16": 5}[kind]
    fields[:8] = MODEL, version, c.n_ctx, c.vocab_size, c.n_layer, c.n_head, c.n_embd, padded
    with atomic_write(path) as stream:
        stream.write(fields.tobytes())
        for name in layout(c, padded)[0]:
            values = source.tensor(name)
            if kind == "bfloat16":
                rounded = finite(values.to("cpu", torch.bfloat16).contiguous(), name, source.path)
                stream.write(rounded.view(torch.int16).numpy().data)
            else:
                stream.write(float32(values).data)
            if name == "wte.weight":
                stream.write(bytes((padded - c.vocab_size) * c.n_embd * VERSIONS[version].itemsize))
        if not beside.exists():
            with atomic_write(beside) as file:
                file.write(tokens)


def read_debug_state(path: Path, config: GPT2Config) -> DebugState:
    """The debug state of a model of this shape; `FormatError` when it is another thing or of another size."""
    fields = read_header(path, DEBUG_STATE)
    version, B, T = fields[1:4]
    if version != 2 or not (0 < B < 2**20 and 0 < T <= config.n_ctx):
        raise FormatError(f"{path} is no debug state of version 2 of a model with context {config.n_ctx}")
    V = config.vocab_size
    places, end = layout(config, -(-V // PADDED_TO) * PADDED_TO)
    logits = HEADER_BYTES + 8 * B * T
    loss = logits + 4 * B * T * V
    check_size(path, loss + 4 + 4 * end)
    gradients = {
        name: mapped(path, torch.float32, loss + 4 + 4 * begin, shape)
        for name, (begin, shape) in places.items()
    }
    gradients["wte.weight"] = gradients["wte.weight"][:V]
    return DebugState(
        mapped(path, torch.int32, HEADER_BYTES, (B, T)).long(),
        mapped(path, torch.int32, HEADER_BYTES + 4 * B * T, (B, T)).long(),
        mapped(path, torch.float32, logits, (B, T, V)),
        float(mapped(path, torch.float32, loss, (1,))[0]),
        gradients,
    )


def layout(config: GPT2Config, padded: int) -> tuple[dict[str, tuple[int, Shape]], int]:
    """Of each weight the numbers before it and its shape, in the file's order; and the numbers in all."""
    shapes = parameter_shapes(config)
    shapes["wte.weight"] = (padded, config.n_embd)
    kinds = [name.removeprefix("h.0.") for name in shapes if name.startswith("h.0.")]
    stack = [f"h.{i}.{kind}" for kind in kinds for i in range(config.n_layer)]
    places, end = {}, 0
    for name in ("wte.weight", "wpe.weight", *stack, "ln_f.weight", "ln_f.bias"):
        places[name] = (end, shapes[name])
        end += int(np.prod(shapes[name], dtype=object))
    return places, end


def read_header(path: Path, magic: int) -> list[int]:
    """The 256 numbers at the beginning; `FormatError` unless the first is `magic`."""
    with path.open("rb") as stream:
        start = stream.read(HEADER_BYTES)
    fields = np.frombuffer(start[: len(start) // 4 * 4], "<i4").tolist()
    if len(fields) < 256 or fields[0] != magic:
        raise FormatError(f"{path} does not begin as {NAMES[magic]} of llm.c does; give one, or get it anew")
    return [int(field) for field in fields]


def check_size(path: Path, size: int) -> None:
    """`FormatError` unless a file has so many bytes."""
    there = path.stat().st_size
    if there != size:
        raise FormatError(
            f"{path} is damaged: it has {there:,} bytes, and by its header it should have {size:,}; get it anew"
        )


def mapped(path: Path, dtype: torch.dtype, offset: int, shape: Shape) -> Tensor:
    """Numbers of a file, mapped into memory."""
    count = int(np.prod(shape)) * dtype.itemsize
    return torch.from_numpy(np.memmap(path, np.uint8, "c", offset, (count,))).view(dtype).view(shape)


# The tokenizer file


def tokenizer_bytes(tokenizer: Tokenizer) -> bytes:
    """The content of a tokenizer file; `FormatError` for a token too long for it."""
    fields = np.zeros(256, "<i4")
    fields[:4] = TOKENIZER, 2, tokenizer.n_vocab, tokenizer.end_of_text
    longest = max(tokenizer.tokens, key=len)
    if len(longest) > 255:
        raise FormatError(f"llm.c's tokens have up to 255 bytes, and {longest[:20]!r}... has {len(longest)}")
    return fields.tobytes() + b"".join(bytes([len(token)]) + token for token in tokenizer.tokens)


def read_tokenizer(path: Path) -> Tokenizer:
    """The vocabulary of a tokenizer file; `FormatError` when it is damaged or numbered unlike GPT-2's."""
    _, version, count, end_of_text, *_ = read_header(path, TOKENIZER)
    with path.open("rb") as stream:
        data = stream.read(LARGEST_TOKENIZER)
    tokens, at = [], HEADER_BYTES
    while at < len(data):
        tokens.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    if version != 2 or at != len(data) or not len(tokens) == count == end_of_text + 1:
        raise FormatError(f"{path} is no whole tokenizer file of version 2, which ends with the end of text")
    known = Tokenizer.gpt2()  # by far the most frequent, and found without merging anything
    if tokens == known.tokens:
        return known
    try:
        tokenizer = Tokenizer(merges_of(tokens[256:-1]))
    except (KeyError, ValueError, InputError):
        tokenizer = None
    if tokenizer is None or tokenizer.tokens != tokens:
        raise FormatError(f"{path} has tokens that are no byte-level BPE in GPT-2's order; get it anew")
    return tokenizer


def merges_of(tokens: Sequence[bytes]) -> list[tuple[int, int]]:
    """The two parts of each token, in the order learned; `ValueError` for one that is not made of two."""
    single = {token[0]: i for i, token in enumerate(Tokenizer([]).tokens[:256])}
    pairs: list[tuple[int, int]] = []
    known: dict[tuple[int, int], int] = {}
    for new, token in enumerate(tokens, 256):
        parts = [single[octet] for octet in token]
        while len(parts) > 2 and (found := [known[pair] for pair in pairwise(parts) if pair in known]):
            first = min(found)
            parts = merge(parts, pairs[first - 256], first)
        left, right = parts
        pairs.append((left, right))
        known[left, right] = new
    return pairs
