"""What a loss should be: by the tokens alone, by the run's own beginning, and by runs that others published.

Three floors and ceilings to hold a curve against, each a number of nats a token:

- what is known of the tokens before any training: their unigram entropy (a model that knows how often each
  token comes, and nothing of order, loses this), and what a table of pairs of tokens loses;
- a power law L(t) = E + A t^-b fitted to the run's own beginning (the form of Kaplan et al., 2020);
- published curves of the paper's sizes, which mean something for GPT-2's own vocabulary alone.

    python -c "from gpt2.training.expected import *; print(reference(124_439_808, 2e9))"
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.training.batches import Batches
from gpt2.training.mixture import Data

SAMPLE = 2_000_000
"""Tokens that are looked at."""
OPENING = 32
"""Tokens by which two documents are taken for the same."""


@dataclass(frozen=True)
class Known:
    """What is known of a run's tokens before it begins."""

    unigram: float
    """Entropy of the tokens' frequencies, in nats."""
    pairs: float
    """What a table of pairs loses on tokens that it was not made from: the unigram entropy if order tells nothing."""
    repeated: float
    """Share of the documents that begin as another does."""


def known(data: Data, batches: Batches) -> Known:
    """From a sample of the batches as they will be drawn, and the openings of up to as many documents."""
    steps = max(1, int(batches.steps_per_epoch))
    wanted = min(steps, max(1, SAMPLE // batches.tokens_per_step))
    ids = [batches[int(step)].numpy() for step in np.linspace(0, steps - 1, wanted)]
    a = np.concatenate([rows[:, :-1].ravel() for rows in ids])
    b = np.concatenate([rows[:, 1:].ravel() for rows in ids])
    unigram = entropy(np.bincount(b))
    openings: list[bytes] = []
    for folder in data.folders:
        side = folder.train
        for start in side.starts[: SAMPLE // OPENING].tolist():
            if start + 1 + OPENING <= side.n_tokens:
                openings.append(side.read(start + 1, start + 1 + OPENING).tobytes())
    _, counts = np.unique(np.array(openings), return_counts=True)
    repeated = counts[counts > 1].sum() / max(1, len(openings))
    return Known(unigram, min(unigram, table_of_pairs(a, b)), float(repeated))


def entropy(counts: NDArray[Any]) -> float:
    """Of a distribution given by counts, in nats."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def table_of_pairs(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Nats a token that frequencies of pairs (a, b) in one half lose on the other half.

    p(b | a) is their share there, mixed with that of b alone as suits best (Jelinek and Mercer, 1980).
    """
    half, width = len(a) // 2, int(b.max()) + 1
    pairs, counts = np.unique(a[:half] * width + b[:half], return_counts=True)
    wanted = a[half:] * width + b[half:]
    place = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    seen = np.where(pairs[place] == wanted, counts[place], 0)
    before = np.maximum(np.bincount(a[:half], minlength=width)[a[half:]], 1)
    alone = (np.bincount(b[:half], minlength=width)[b[half:]] + 0.5) / (half + 0.5 * width)
    mixed = (share * seen / before + (1 - share) * alone for share in (0.0, 0.3, 0.5, 0.7, 0.85, 0.95))
    losses: list[float] = [float(-np.log(p).mean()) for p in mixed]
    return min(losses)


# The run's own beginning


@dataclass(frozen=True)
class PowerLaw:
    """L(t) = floor + scale t^-power."""

    floor: float
    scale: float
    power: float
    error: float
    """Root mean square of what it misses where it was fitted."""

    def at(self, t: float) -> float:
        """The loss after t."""
        return self.floor + self.scale * math.pow(t, -self.power)


def fit(t: Sequence[float], losses: Sequence[float]) -> PowerLaw | None:
    """The power law nearest to a curve, by means over equal parts of log t; None when there is too little of it."""
    x, y = np.log(np.asarray(t, float)), np.asarray(losses, float)
    part = np.digitize(x, np.linspace(x.min(), x.max(), 13)[1:-1])
    means = [(x[part == i].mean(), y[part == i].mean()) for i in range(12) if (part == i).sum() >= 3]
    if len(means) < 5:
        return None
    mx, my = np.array(means).T
    best = None
    for floor in np.linspace(0, 0.98 * my.min(), 50):
        power, height = np.polyfit(mx, np.log(my - floor), 1)
        missed = float(np.sqrt(np.mean((floor + np.exp(height + power * mx) - my) ** 2)))
        if power < 0 and (best is None or missed < best.error):
            best = PowerLaw(float(floor), float(np.exp(height)), float(-power), missed)
    return best


# Published runs


@dataclass(frozen=True)
class Reference:
    """A published curve."""

    parameters: int
    tokens_per_step: int
    source: str
    curve: tuple[tuple[int, float], ...]
    """Steps and held-out loss."""


REFERENCES = (
    Reference(
        124_439_808,
        524_288,
        "llm.c's 124M on FineWeb, AdamW, learning rate 6e-4 to 0 over 19,560 steps of 0.5 M tokens "
        "(modded-nanogpt, records/2024-10-13_llmc/main.log)",
        (
            (250, 6.1710),
            (1000, 4.3170),
            (2000, 3.8585),
            (5000, 3.5535),
            (10500, 3.3809),
            (19560, 3.2722),
        ),
    ),
    Reference(
        354_823_168,
        524_288,
        "llm.c's 350M on FineWeb, AdamW, learning rate 3e-4 to 0 over 60,000 steps of 0.5 M tokens "
        "(modded-nanogpt, records/011825_GPT2Medium/main.log)",
        (
            (250, 6.3097),
            (500, 5.5887),
            (1000, 4.3734),
            (2000, 3.7884),
            (5000, 3.4190),
            (10000, 3.2461),
            (20000, 3.1129),
            (40000, 2.9812),
            (60000, 2.9282),
        ),
    ),
)
"""On OpenWebText nanoGPT's 124M ends at 2.85 after 300 B tokens; on WebText the paper's ends at 2.83 (Figure 4)."""


def reference(parameters: int, tokens: float) -> tuple[float, Reference] | None:
    """The published loss of a size after so many tokens; None outside of what is known."""
    for known_run in REFERENCES:
        steps = [step * known_run.tokens_per_step for step, _ in known_run.curve]
        if abs(parameters / known_run.parameters - 1) < 0.05 and steps[0] <= tokens <= steps[-1]:
            losses = [loss for _, loss in known_run.curve]
            return float(np.interp(math.log(tokens), np.log(steps), losses)), known_run
    return None


def critical_batch(loss: float) -> float:
    """Tokens a step beyond which larger batches help little (Kaplan et al., 2020, section 5.1: 2e8 / L^(1/0.21))."""
    return 2e8 / math.pow(loss, 1 / 0.21)
