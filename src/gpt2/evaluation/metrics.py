"""Numbers with their uncertainty.

An interval is a percentile bootstrap over the natural unit (documents, or the groups they are held out
in): the units are drawn with replacement, the figure is computed anew, and the middle 95 % of 10,000 such
figures is the interval. Two models are compared on the same draws, so that
what makes a document easy or hard for both cancels out.
Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
LEVEL = 0.95

Interval = tuple[float, float]


@dataclass(frozen=True)
class Losses:
    """What a model lost on each of D documents."""

    nats: NDArray[np.float64]
    """Negative log-probability of each document, [D]."""
    tokens: NDArray[np.int64]
    """Tokens scored in each document, [D]."""
    n_bytes: NDArray[np.int64]
    """UTF-8 bytes of the text those tokens spell, [D]."""

    @property
    def loss(self) -> float:
        """Nats a token over all documents."""
        return float(self.nats.sum() / self.tokens.sum())

    @property
    def perplexity(self) -> float:
        """exp of the loss: per token of the model's own vocabulary."""
        return float(np.exp(self.loss))

    @property
    def bits_per_byte(self) -> float:
        """Bits a byte of text, which does not depend on the vocabulary."""
        return float(self.nats.sum() / np.log(2) / self.n_bytes.sum())


def by_group(losses: Losses, groups: Sequence[str]) -> Losses:
    """The losses summed over each group of documents, in the order of the groups' names.

    Documents of one group (the pieces of one module, the chapters of one work) are alike, so an interval
    over documents would claim more than is known: the natural unit is then the group.
    """
    _, place = np.unique(np.asarray(groups), return_inverse=True)
    nats = np.bincount(place, weights=losses.nats).astype(np.float64)
    tokens, n_bytes = (
        np.bincount(place, weights=x).astype(np.int64) for x in (losses.tokens, losses.n_bytes)
    )
    return Losses(nats, tokens, n_bytes)


def resampled_losses(losses: Losses, seed: int = 0) -> NDArray[np.float64]:
    """The loss in each of `DRAWS` draws of the documents; the same seed gives the same draws."""
    n = len(losses.nats)
    rng = np.random.default_rng(seed)
    out = np.empty(DRAWS)
    for i in range(0, DRAWS, 1000):
        counts = rng.multinomial(n, np.full(n, 1 / n), size=1000)  # how often each document was drawn
        out[i : i + 1000] = (counts @ losses.nats) / (counts @ losses.tokens)
    return out


def percentiles(draws: NDArray[np.float64]) -> Interval:
    """The middle 95 % of the draws."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def perplexity_interval(losses: Losses) -> Interval:
    """Interval of the perplexity over documents."""
    low, high = percentiles(resampled_losses(losses))
    return float(np.exp(low)), float(np.exp(high))


@dataclass(frozen=True)
class Comparison:
    """A model against another on the same documents; negative means the first is better."""

    loss_difference: float
    """Nats a token."""
    interval: Interval
    """Paired bootstrap over documents."""
    documents: int
    better_on: int
    """Documents on which the first model loses less."""


def compare(model: Losses, other: Losses) -> Comparison:
    """The paired difference in loss."""
    if not np.array_equal(model.tokens, other.tokens):
        raise ValueError("the two models were not measured on the same tokens")
    draws = resampled_losses(model) - resampled_losses(other)
    better = int((model.nats < other.nats).sum())
    return Comparison(model.loss - other.loss, percentiles(draws), len(model.nats), better)
