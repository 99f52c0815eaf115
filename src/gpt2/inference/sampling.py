"""From logits to the next token, on numpy arrays, for every engine.

The paper samples with top-k truncation, k = 40 (Fan et al., 2018), and temperature 1. The controls act in
this order, each on what the one before it left:

    allowed             only these tokens may come (the hook of a request)
    repetition_penalty  divides positive logits of tokens in prompt or continuation, multiplies negative ones
                        (Keskar et al., 2019)
    presence_penalty    subtracted from the logit of each token of the continuation,
    frequency_penalty   and this once for each time it came there
    logit_bias          added to the logits of single tokens; -inf forbids one
    temperature         divides the logits; 0 takes the most likely token, of several the one of lowest id
    top_k               only the k most likely tokens, and those that tie with the k-th
    top_p               only the most likely tokens that together reach this share of what is left, and those
                        that tie with the last of them (Holtzman et al., 2020)
    min_p               only tokens at least this share as likely as the most likely one (Nguyen et al., 2024)

A token then is drawn by one number of the stream's own generator, so a text that takes one token from each of
its logits draws the same whatever stands beside it. Log-probabilities (`log_probabilities`) are the model's
own, before any control.

`choose` costs 0.05 ms with top-k 40 over 50,257 logits (`np.partition` over all of them 0.3 ms): a few
hundred logits show where about the k-th lies, and only what is above is looked at closely. Rejected: torch's
generators, whose draws need torch; Gumbel noise, which needs a random number for each token.

    choose(logits, Sampling(temperature=0.8, top_p=0.95), generator(seed=0, i=0))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpt2.errors import ConfigError, FormatError, InputError

Logits = NDArray[np.float32]
Ids = NDArray[np.int64]
COLDEST, HOTTEST = 1e-300, 1e300
"""Temperatures beyond are taken as these: there is no difference."""
MOST = 1e30
"""Bound of penalties and biases, so that no sum with them leaves float32."""
SAMPLED = 64
"""One logit in so many shows where about the k-th highest lies."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn."""

    temperature: float = 1.0
    """Divides the logits before drawing; 0 takes the most likely token."""
    top_k: int | None = 40
    """Draw only among the k most likely tokens; none draws among all."""
    top_p: float = 1.0
    """Draw only among the most likely tokens that together have this probability."""
    min_p: float = 0.0
    """Draw only among tokens at least this share as likely as the most likely one."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens of prompt and continuation less likely."""
    presence_penalty: float = 0.0
    """Taken from the logits of tokens that the continuation has."""
    frequency_penalty: float = 0.0
    """Taken from them once for each time that the continuation has them."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of these tokens."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature must be 0 or more, not {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(
                f"top_k must be at least 1, not {self.top_k}; leave it out to draw among all tokens"
            )
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be above 0 and at most 1, not {self.top_p}; 1 leaves it out")
        if not 0 <= self.min_p <= 1:
            raise ConfigError(f"min_p must be from 0 to 1, not {self.min_p}; 0 leaves it out")
        if not 1 / MOST <= self.repetition_penalty <= MOST:
            raise ConfigError(
                f"repetition_penalty must be above 0 and at most {MOST:g}, not {self.repetition_penalty}; "
                "1 leaves it out"
            )
        for name in ("presence_penalty", "frequency_penalty"):
            if not abs(getattr(self, name)) <= MOST:
                raise ConfigError(
                    f"{name} must be a number from {-MOST:g} to {MOST:g}, not {getattr(self, name)}; "
                    "0 leaves it out"
                )
        biases = self.logit_bias.items()
        if wrong := [i for i, b in biases if i < 0 or not (abs(b) <= MOST or b == -float("inf"))]:
            raise ConfigError(
                f"logit_bias has token {wrong[0]} with {self.logit_bias[wrong[0]]}; "
                f"it takes ids of 0 and more, and numbers from {-MOST:g} to {MOST:g}, or -inf"
            )


def generator(seed: int, i: int = 0) -> np.random.Generator:
    """The random numbers of the i-th text under a seed; any whole number is a seed."""
    return np.random.default_rng((abs(seed), int(seed < 0), i))


def choose(
    logits: Logits,
    how: Sampling,
    numbers: np.random.Generator,
    prompt: Sequence[int] = (),
    new: Sequence[int] = (),
    allowed: Sequence[int] | Ids | None = None,
) -> int:
    """The next token after `prompt` and `new`, from its logits [V].

    Raises `FormatError` when the logits are no numbers, `InputError` when no token may come or `allowed` has
    one that there is not.
    """
    x = adjusted(logits, how, prompt, new, allowed)
    best = int(x.argmax())  # a NaN's place, if there is one
    top = float(x[best])
    if not np.isfinite(top):
        if np.isneginf(top) and np.isfinite(logits).any():
            raise InputError("no token may come next: all are forbidden by logit_bias or by what is allowed")
        raise FormatError("the model gives a logit that is no number; are its weights damaged?")
    if how.temperature == 0:
        return best
    ids, weights = kept(x, top, how)
    sums = weights.cumsum()
    drawn = sums.searchsorted(numbers.random() * sums[-1], "right")
    last = sums.searchsorted(sums[-1])  # rounding must not lead to a token behind that has no weight
    at = int(min(drawn, last))
    return at if ids is None else int(ids[at])


def adjusted(
    logits: Logits,
    how: Sampling,
    prompt: Sequence[int],
    new: Sequence[int],
    allowed: Sequence[int] | Ids | None = None,
) -> Logits:
    """Logits [V] after the controls that stand before temperature; the same array when there is none."""
    x = logits
    if allowed is not None:
        x, only = np.full_like(logits, -np.inf), np.asarray(allowed, np.int64)
        if wrong := only[(only < 0) | (only >= len(logits))].tolist():
            raise InputError(
                f"token {wrong[0]} is allowed to come, but ids are 0 to {len(logits) - 1}; mend the request's hook"
            )
        x[only] = logits[only]
    elif how.repetition_penalty != 1 or how.presence_penalty or how.frequency_penalty or how.logit_bias:
        x = logits.copy()
    if how.repetition_penalty != 1 and (len(prompt) or len(new)):
        seen = np.unique(np.array([*prompt, *new]))
        old = x[seen]
        x[seen] = np.where(old < 0, old * how.repetition_penalty, old / how.repetition_penalty)
    if (how.presence_penalty or how.frequency_penalty) and len(new):
        seen, times = np.unique(np.array(new), return_counts=True)
        x[seen] -= (how.presence_penalty + how.frequency_penalty * times).astype(np.float32)
    for token, bias in how.logit_bias.items():
        x[token] += bias
    return x


def kept(x: Logits, top: float, how: Sampling) -> tuple[Ids | None, NDArray[np.float64]]:
    """Tokens that may be drawn, in the order of their ids, and their weights; None for all of them.

    `top` is the highest of the logits; its weight is 1.
    """
    ids = None
    if how.top_k is not None and how.top_k < len(x):
        ids = np.flatnonzero(x >= kth_highest(x, how.top_k))
        x = x[ids]
    weights = x.astype(np.float64)
    weights -= top
    with np.errstate(over="ignore", under="ignore"):
        weights /= min(max(how.temperature, COLDEST), HOTTEST)
        np.exp(weights, out=weights)
    least = how.min_p
    if how.top_p < 1:
        least = max(least, least_of_share(weights, how.top_p))
    if least > 0:
        able = np.flatnonzero(weights >= least)
        ids, weights = able if ids is None else ids[able], weights[able]
    return ids, weights


def kth_highest(x: Logits, k: int) -> np.float32:
    """The k-th highest of x; the same as `np.sort(x)[-k]`, sooner."""
    some = x[::SAMPLED]
    rank = 4 + 2 * k // SAMPLED
    if rank < len(some):
        about = np.partition(some, len(some) - rank)[-rank]
        above = x[x >= about]
        if len(above) >= k:
            x = above
    found: np.float32 = np.partition(x, len(x) - k)[-k]
    return found


def least_of_share(weights: NDArray[np.float64], share: float) -> float:
    """The lowest of the highest weights that together reach a share of all.

    Weights below an equal part of the rest cannot add up to it, so they need not be sorted.
    """
    total = float(weights.sum())
    high = np.sort(weights[weights >= (1 - share) * total / len(weights)])[::-1]
    reached = int(high.cumsum().searchsorted(share * total))
    return float(high[min(reached, len(high) - 1)])


def log_probabilities(logits: Logits) -> NDArray[np.float64]:
    """Natural logarithms of the probabilities [V] of logits [V], summed in float64."""
    x = logits.astype(np.float64)
    x -= x.max()
    x -= np.log(np.exp(x).sum())
    return x


def likeliest(logprobs: NDArray[np.float64], n: int) -> list[tuple[int, float]]:
    """The n most likely tokens and their log-probabilities, likeliest first, of ties the lower id first."""
    some = np.flatnonzero(logprobs >= np.partition(logprobs, -n)[-n]) if n < len(logprobs) else None
    ids = np.arange(len(logprobs)) if some is None else some
    ids = ids[np.argsort(-logprobs[ids], kind="stable")][:n] if n else ids[:0]
    return [(int(i), float(logprobs[i])) for i in ids]
