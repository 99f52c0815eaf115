"""Small models in memory, and whether two sources are the same model."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from gpt2.errors import FormatError
from gpt2.model.config import GPT2Config
from gpt2.model.formats import Source, parameter_shapes
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer

SMALL = Tokenizer(Tokenizer.gpt2().pairs[:23])
"""GPT-2's first 23 merges: a vocabulary of 280 tokens."""


def in_memory(tokenizer: Tokenizer = SMALL, seed: int = 0, **shape: int) -> Source:
    """A model in which every number is drawn anew, vectors too, so that none can stand in another's place."""
    fields = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_ctx": 16} | shape
    config = GPT2Config(**fields, vocab_size=tokenizer.n_vocab)
    draw = torch.Generator().manual_seed(seed)
    weights = {n: torch.randn(s, generator=draw) * 0.2 for n, s in parameter_shapes(config).items()}
    return Source("workbench", Path("memory"), config, tokenizer, weights.__getitem__)


def network(source: Source) -> GPT2:
    """The network of a source."""
    net = GPT2(source.config)
    net.load_state_dict({name: source.tensor(name) for name in net.state_dict()})
    return net.eval()


def assert_same(found: Source, wanted: Source, dtype: torch.dtype = torch.float32) -> None:
    """Equal shape, vocabulary and weights, these to the bit after rounding to `dtype`."""
    assert found.config == wanted.config
    assert found.tokenizer.pairs == wanted.tokenizer.pairs
    for name in parameter_shapes(wanted.config):
        expected = wanted.tensor(name).to(dtype)
        assert torch.equal(found.tensor(name).float(), expected.float()), name


def refused(form: ModuleType, path: Path, *words: str) -> None:
    """A file of a format, or a weight of it, is refused in a sentence with these words."""
    with pytest.raises(FormatError) as caught:
        opened = form.open_source(path)
        for name in parameter_shapes(opened.config):
            opened.tensor(name)
    for word in words:
        assert word in str(caught.value)


def failing(source: Source) -> Source:
    """The same model, of which the second block cannot be read."""

    def tensor(name: str) -> Tensor:
        if name.startswith("h.1"):
            raise FormatError("the rest is damaged")
        return source.tensor(name)

    return Source(source.format, source.path, source.config, source.tokenizer, tensor)
