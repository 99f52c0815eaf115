"""Batches of training tokens: every token once an epoch, in an order that the seed decides.

The token stream is cut into blocks of `context` tokens, each with its next token as target, so that every
token is a target exactly once an epoch, but for the first and a rest shorter than a block at the end. Each
epoch has its own permutation of the blocks, drawn from (seed, epoch). Batch number `step` is a function of
the seed and the step alone: nothing has to be saved to resume exactly, and models of different sizes see
the same tokens in the same order.

Tokens may come from several folders, mixed by weights: see `mixture.py`.

Rejected: random windows with replacement, which leave about a third of the text unseen in an epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt2.errors import ConfigError, TooLittleData


class TokenStream(Protocol):
    """Anything with tokens in a row: a split of our shards, or another trainer's file."""

    @property
    def n_tokens(self) -> int:
        """Tokens in all."""

    def read(self, start: int, stop: int) -> NDArray[np.integer]:
        """Tokens start to stop."""


@dataclass(frozen=True)
class Row:
    """One sequence of a batch, and where it comes from."""

    source: int
    """Which folder of tokens, from 0."""
    begin: int
    """Its first token there; it has context + 1."""
    epoch: int
    """How often that folder was seen whole before."""


class Blocks:
    """A row of tokens as blocks of `context`, in the order in which they are learned from."""

    def __init__(self, tokens: TokenStream, context: int, seed: Sequence[int]) -> None:
        self.tokens, self.context, self.seed = tokens, context, seed
        self.count = (tokens.n_tokens - 1) // context
        if self.count < 1:
            raise TooLittleData(
                f"there are {tokens.n_tokens} training tokens, too few for one sequence of {context}; "
                "give more text or a shorter context"
            )
        self._order = lru_cache(maxsize=2)(self._permutation)

    def place(self, i: int) -> tuple[int, int]:
        """First token of the i-th block that is learned from, and the epoch."""
        epoch, place = divmod(i, self.count)
        return int(self._order(epoch)[place]) * self.context, epoch

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([*self.seed, epoch]).permutation(self.count)


class Batches:
    """Batch `step` of `size` blocks of `context` tokens."""

    def __init__(self, tokens: TokenStream, context: int, size: int, seed: int = 0) -> None:
        check(size, seed)
        self.sources = [Blocks(tokens, context, [seed])]
        self.context, self.size, self.seed = context, size, seed

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one step learns to predict."""
        return self.size * self.context

    @property
    def n_blocks(self) -> int:
        """Blocks in all."""
        return sum(source.count for source in self.sources)

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which each block is seen once."""
        return self.n_blocks / self.size

    def row(self, i: int) -> Row:
        """The i-th sequence of the whole training."""
        begin, epoch = self.sources[0].place(i)
        return Row(0, begin, epoch)

    def rows(self, step: int) -> list[Row]:
        """The sequences of step 0, 1, 2, ..."""
        return [self.row(i) for i in range(step * self.size, (step + 1) * self.size)]

    def __getitem__(self, step: int) -> Tensor:
        """ids [B, T + 1] of step 0, 1, 2, ...: inputs are all but the last column, targets all but the first."""
        found = [
            self.sources[row.source].tokens.read(row.begin, row.begin + self.context + 1)
            for row in self.rows(step)
        ]
        return torch.from_numpy(np.stack(found).astype(np.int64))


def check(size: int, seed: int) -> None:
    """`ConfigError` for a batch or a seed that cannot be."""
    if size < 1:
        raise ConfigError(f"a batch must have at least 1 sequence, not {size}")
    if seed < 0:
        raise ConfigError(f"a seed must be 0 or more, not {seed}")
