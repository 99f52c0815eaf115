"""nanoGPT's `ckpt.pt`, as its `train.py` writes and reads it.

    model           weights by nanoGPT's names, matrices [out, in] as ours; the head tied
    model_args      n_layer, n_head, n_embd, block_size, bias, vocab_size, dropout
    optimizer, iter_num, best_val_loss, config

Read: names with `_orig_mod.` in front (saved after torch.compile), a vocabulary padded to 50,304 (cut back to
50,257: no text has the other tokens), and `bias=False` (biases are then zeros). The file carries no vocabulary,
so only GPT-2's own can be read or written; a character-level model is refused. nanoGPT's newer versions compute
GELU exactly where GPT-2 approximates it by tanh, and load GPT-2's weights all the same: the two differ by less
than 0.0005.

Written: what nanoGPT needs to sample and to go on training (`--init_from=resume`): a fresh AdamW over its two
groups of weights, step 0. One tensor at a time, see `torch_file`.

    python -c "import gpt2; gpt2.convert('reproduce', 'out/ckpt.pt', to='nanogpt')"
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt2.errors import ConfigError, FormatError, InputError
from gpt2.model.config import GPT2Config
from gpt2.model.formats import Source, check_epsilon, check_shapes, finite, parameter_shapes, tied, torch_file
from gpt2.model.formats.torch_file import Later
from gpt2.tokens.bpe import Tokenizer
from gpt2.workspace import Json

PREFIX = "transformer."
COMPILED = "_orig_mod."
HEAD = "lm_head.weight"
MASKS = (".attn.bias",)
"""Ends of the names of buffers, which nanoGPT has without flash attention."""
PADDED = 50_304
"""GPT-2's vocabulary rounded up to a multiple of 64, nanoGPT's default."""


def recognise(path: Path) -> bool:
    """Whether a file is a checkpoint of nanoGPT, by the words in its pickle, which is not opened."""
    text = torch_file.beginning(path)
    return b"model_args" in text and b"block_size" in text


def open_source(path: Path) -> Source:
    """Open a checkpoint, its weights mapped; names and shapes are held against `model_args`.

    Raises `FormatError` for damaged files, other vocabularies, and pickles with anything but weights in them.
    """
    state = torch_file.read(path)
    if not isinstance(state, dict) or not {"model", "model_args"} <= state.keys():
        raise FormatError(f"{path} is no checkpoint of nanoGPT: it has no model with model_args")
    padded = read_config(state["model_args"], path)
    tokenizer = Tokenizer.gpt2()
    if padded.vocab_size not in (tokenizer.n_vocab, PADDED):
        raise FormatError(
            f"{path} has a vocabulary of {padded.vocab_size:,} tokens, which a nanoGPT checkpoint does not carry; only "
            f"models with GPT-2's own vocabulary can be read ({tokenizer.n_vocab:,} tokens, or {PADDED:,} padded)"
        )
    weights = {
        name.removeprefix(COMPILED).removeprefix(PREFIX): tensor
        for name, tensor in torch_file.weights(state["model"], path, MASKS).items()
    }
    shapes = wanted = parameter_shapes(padded)
    if not state["model_args"].get("bias", True):
        zeros = {name for name in wanted if name.endswith(".bias")} - weights.keys()
        wanted = {name: shape for name, shape in shapes.items() if name not in zeros}
    if HEAD in weights:
        wanted = wanted | {HEAD: shapes["wte.weight"]}
    check_shapes(path, {name: tuple(tensor.shape) for name, tensor in weights.items()}, wanted)

    def tensor(name: str) -> Tensor:
        if name not in weights:
            return torch.zeros(shapes[name])
        values = finite(weights[name], name, path)
        if name == "wte.weight":
            values = tied(values, weights[HEAD], path) if HEAD in weights else values
            values = values[: tokenizer.n_vocab]
        return values.float() if values.dtype == torch.float64 else values

    config = replace(padded, vocab_size=tokenizer.n_vocab)
    return Source("nanogpt", path, config, tokenizer, tensor)


def read_config(args: Any, path: Path) -> GPT2Config:
    """The shape of the network in `model_args`, `vocab_size` as padded."""
    if not isinstance(args, dict):
        raise FormatError(f"{path} is no checkpoint of nanoGPT: its model_args are no dictionary")
    fields = {name: args.get(name) for name in ("n_layer", "n_head", "n_embd", "vocab_size")}
    try:
        return GPT2Config(**fields, n_ctx=args.get("block_size"))  # type: ignore[arg-type]
    except ConfigError as error:
        raise FormatError(f"{path}: {error}") from None


def write(path: Path, source: Source) -> None:
    """Write a checkpoint, whole or not at all; `InputError` for what nanoGPT has no place for."""
    config = source.config
    if source.tokenizer.pairs != Tokenizer.gpt2().pairs:
        raise InputError(
            f"nanoGPT's files have no place for a vocabulary, and {source.path} has one of its own; convert it to "
            "another format"
        )
    check_epsilon(source, "nanogpt")
    shapes = parameter_shapes(config)
    model = {PREFIX + name: Later(name, shape) for name, shape in shapes.items()}
    args = {
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "block_size": config.n_ctx,
        "bias": True,
        "vocab_size": config.vocab_size,
        "dropout": 0.0,
    }
    checkpoint = {
        "model": model | {HEAD: model[PREFIX + "wte.weight"]},
        "optimizer": fresh_optimizer(len(shapes), sum(len(shape) > 1 for shape in shapes.values())),
        "model_args": args,
        "iter_num": 0,
        "best_val_loss": 1e9,
        "config": {},
    }
    torch_file.write(path, checkpoint, source.tensor)


def fresh_optimizer(weights: int, matrices: int) -> Json:
    """The state of nanoGPT's AdamW before its first step: matrices decay, vectors do not."""
    groups = [
        {"params": [torch.nn.Parameter(torch.empty(0)) for _ in range(count)], "weight_decay": decay}
        for count, decay in ((matrices, 0.1), (weights - matrices, 0.0))
    ]
    return torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95)).state_dict()
