"""A small GPT-2 that has read real novels: perplexity far below random, in half a minute on one thread.

Two programs that measure a network of random weights may agree by accident, for nearly every prediction of
such a network is wrong; of this one some are right. It is trained once in a session and must not be changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

import gpt2
from gpt2.tokens.shards import write_shards

CONTEXT = 512
VOCABULARY = 2048
STEPS = 1100
HELDOUT = "Doyle_Hound_1902"


class Trained(NamedTuple):
    """A trained model, and where it is kept."""

    model: gpt2.Model
    folder: Path
    """In our own format."""
    huggingface: Path
    """For transformers and lm-evaluation-harness."""
    heldout: str
    """A novel it has not read."""


@pytest.fixture(scope="session")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train a GPT-2 of GPT-2's first merges on the novels at hand, all but one."""
    import torch

    folder = tmp_path_factory.mktemp("trained")
    novels = {
        p.stem: p.read_text(encoding="utf-8") for p in sorted((data / "prose" / "novels").glob("*.txt"))
    }
    tok = gpt2.Tokenizer(gpt2.Tokenizer.gpt2().pairs[: VOCABULARY - 257])
    write_shards(((name, name, text) for name, text in novels.items()), tok, folder / "tokens", {HELDOUT})
    threads = torch.get_num_threads()
    config = gpt2.TrainConfig(
        tokens=folder / "tokens",
        out=folder / "run",
        model=gpt2.GPT2Config(n_layer=2, n_head=4, n_embd=64, n_ctx=CONTEXT, vocab_size=tok.n_vocab),
        steps=STEPS,
        batch=1,
        optimizer=gpt2.OptimizerConfig(learning_rate=6e-3),
        device="cpu",
        dtype="float32",
        threads=1,
    )
    model = gpt2.train(config).model
    torch.set_num_threads(threads)
    gpt2.convert(folder / "run", folder / "huggingface", to="huggingface")
    return Trained(model, folder / "run", folder / "huggingface", novels[HELDOUT])


@pytest.fixture(scope="session")
def harness(trained: Trained) -> Any:
    """lm-evaluation-harness with the trained model."""
    from harness import reader

    return reader(trained.huggingface)
