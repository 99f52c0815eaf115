"""From logits to the next token.

The paper samples with top-k truncation, k = 40 (Fan et al., 2018), and temperature 1. Temperature 0 means
the most likely token. Of tokens that tie with the k-th, all are kept. Draws are made on the processor
whatever the model's device, so that a seed means the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2.errors import ConfigError

COLDEST = 1e-30
"""Lower temperatures are taken as this one: there is no smaller float32 to divide by, nor any difference."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn."""

    temperature: float = 1.0
    """Divides the logits before drawing; 0 takes the most likely token."""
    top_k: int | None = 40
    """Draw only among the k most likely tokens; none draws among all."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature must be 0 or more, not {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(
                f"top_k must be at least 1, not {self.top_k}; leave it out to draw among all tokens"
            )


def generator(seed: int, i: int) -> torch.Generator:
    """The random numbers of the i-th text under a seed; any whole number is a seed."""
    return torch.Generator().manual_seed((seed * 1_000_003 + i) % 2**63)


def draw(logits: Tensor, how: Sampling, generators: list[torch.Generator]) -> Tensor:
    """logits [B, V] -> ids [B]; row i is drawn with generator i, so it does not depend on the other rows."""
    if how.temperature == 0:
        return logits.argmax(dim=-1)
    x = logits.float().cpu()
    x = (x - x.amax(dim=-1, keepdim=True)) / max(
        how.temperature, COLDEST
    )  # the highest stays 0, whatever else
    if how.top_k is not None and how.top_k < x.shape[-1]:
        kth = x.topk(how.top_k, dim=-1).values[:, -1:]  # [B, 1]
        x = x.masked_fill(x < kth, float("-inf"))
    probabilities = x.softmax(dim=-1)
    drawn = [torch.multinomial(p, 1, generator=g) for p, g in zip(probabilities, generators, strict=True)]
    return torch.cat(drawn).to(logits.device)
