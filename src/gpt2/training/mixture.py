"""Several folders of tokens learned from together, by weights.

    gpt2 train --tokens web --tokens books --weights 3 --weights 1 --out run --minutes 60

Of each 3 + 1 sequences three come from the first folder and one from the second, in a seeded order drawn anew
for each such round; without weights each folder has as many as it has blocks, so that all are seen once in
the same time. Within its folder a sequence is the next block of `batches.py`: every token of a folder once
per its own epoch, whatever the weights. Which sequence stands where is a function of the seed and the step
alone, so a mixture resumes exactly with nothing saved.

The folders must share one vocabulary. What is held out, and the loss on it, is that of all folders together.
Rejected: a folder drawn at random for each sequence, which misses the weights by chance and says of no step
how often a text was seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt2.errors import ConfigError
from gpt2.tokens.bpe import Tokenizer
from gpt2.tokens.shards import Shards
from gpt2.training.batches import Batches, Blocks, Row, TokenStream, check
from gpt2.workspace import Json

LONGEST_ROUND = 1_000_000
"""Sequences after which the weights are met exactly, at most."""


class Mixture(Batches):
    """Batches from several rows of tokens; `weights` as they are typed, or None for the folders' own sizes."""

    def __init__(
        self,
        streams: Sequence[TokenStream],
        weights: Sequence[float] | None,
        context: int,
        size: int,
        seed: int = 0,
    ) -> None:
        check(size, seed)
        self.sources = [Blocks(tokens, context, [seed, i]) for i, tokens in enumerate(streams)]
        self.context, self.size, self.seed = context, size, seed
        self.shares = proportions(weights) if weights else [source.count for source in self.sources]
        if len(self.shares) != len(self.sources):
            raise ConfigError(
                f"there are {len(self.sources)} folders of tokens and {len(self.shares)} weights; "
                "give one weight for each folder"
            )
        self._order = lru_cache(maxsize=2)(self._round)

    def row(self, i: int) -> Row:
        """The i-th sequence of the whole training."""
        nth, place = divmod(i, sum(self.shares))
        source, before = (int(column[place]) for column in self._order(nth))
        begin, epoch = self.sources[source].place(nth * self.shares[source] + before)
        return Row(source, begin, epoch)

    def _round(self, nth: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of each sequence of a round, its source, and how many of that source come before it in the round."""
        source = np.repeat(np.arange(len(self.shares)), self.shares)
        source = np.random.default_rng([self.seed, len(self.shares), nth]).permutation(source)
        before = np.empty_like(source)
        for i, share in enumerate(self.shares):
            before[source == i] = np.arange(share)
        return source, before


def proportions(weights: Sequence[float]) -> list[int]:
    """The smallest whole numbers in the same proportion: 0.7, 0.2, 0.1 -> 7, 2, 1."""
    for weight in weights:
        if not 0 < weight < math.inf:
            raise ConfigError(f"a weight must be above 0, not {weight:g}; leave the folder out instead")
    exact = [Fraction(str(weight)) for weight in weights]
    scale = math.lcm(*(weight.denominator for weight in exact))
    parts = [int(weight * scale) for weight in exact]
    smallest = [part // math.gcd(*parts) for part in parts]
    if sum(smallest) > LONGEST_ROUND:
        raise ConfigError(
            f"weights such as {weights[0]:g} need rounds of {sum(smallest):,} sequences; round them to fewer digits"
        )
    return smallest


class Data:
    """The folders that a model learns from, opened: one as it is, or several with one vocabulary."""

    def __init__(self, folders: Sequence[Shards], weights: Sequence[float] | None = None) -> None:
        if not folders:
            raise ConfigError("give at least one folder of tokens")
        if weights is not None and len(weights) != len(folders):
            raise ConfigError(
                f"there are {len(folders)} folders of tokens and {len(weights)} weights; "
                "give one weight for each folder"
            )
        for other in folders[1:]:
            if other.tokenizer.fingerprint != folders[0].tokenizer.fingerprint:
                raise ConfigError(
                    f"the tokens in {other.folder} are of another vocabulary than those in {folders[0].folder}; "
                    "write them with the same one, with  gpt2 tokens write --vocabulary"
                )
        self.folders, self.weights = list(folders), weights

    @classmethod
    def open(
        cls, paths: Path | Sequence[Path], weights: Sequence[float] | None = None, verify: bool = False
    ) -> Data:
        """Open one folder or several; raises as `Shards.open` does, and `ConfigError` when they do not fit."""
        several = [paths] if isinstance(paths, Path) else paths
        return cls([Shards.open(path, verify) for path in several], weights)

    @property
    def tokenizer(self) -> Tokenizer:
        """Their vocabulary."""
        return self.folders[0].tokenizer

    @cached_property
    def summary(self) -> Json:
        """What is in them: of one folder, its own summary."""
        if len(self.folders) == 1:
            return self.folders[0].summary
        return {
            "n_vocab": self.tokenizer.n_vocab,
            "fingerprint": self.tokenizer.fingerprint,
            "mixture": [folder.summary for folder in self.folders],
            "weights": list(self.weights) if self.weights else None,
        }

    def batches(self, context: int, size: int, seed: int) -> Batches:
        """The batches of a training."""
        if len(self.folders) == 1:
            return Batches(self.folders[0].train, context, size, seed)
        return Mixture([folder.train for folder in self.folders], self.weights, context, size, seed)
