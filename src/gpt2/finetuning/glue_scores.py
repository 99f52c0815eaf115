"""GLUE's official figures, their spread over seeds, and what differs between two classifiers beyond chance.

accuracy, F1 of the second class, Matthews' correlation (for two classes and, as Gorodkin 2004 has it, for more),
Pearson's and Spearman's correlation (of mean ranks). All from 0 or -1 to 1; shown times 100. A correlation with
one side constant is 0. Intervals are percentile bootstraps over items: the same draws for all seeds and for both
sides of a comparison, of which each draw's figure is the mean over the seeds. Tests hold the figures equal to
scikit-learn's and scipy's.

    score("matthews", [1, 1, 0], [1, 0, 0])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.errors import TooLittleData
from gpt2.evaluation.metrics import Interval, percentiles

Values = NDArray[np.float64]
DRAWS = 2000
"""Of the items, for an interval."""


def accuracy(said: Values, wanted: Values) -> float:
    """Share that is right."""
    return float((said == wanted).mean())


def f1(said: Values, wanted: Values) -> float:
    """Harmonic mean of precision and recall of class 1; 0 when neither has any."""
    right = ((said == 1) & (wanted == 1)).sum()
    both = (said == 1).sum() + (wanted == 1).sum()
    return float(2 * right / both) if both else 0.0


def matthews(said: Values, wanted: Values) -> float:
    """Matthews' correlation of any number of classes (Gorodkin, Comparing two K-category assignments, 2004)."""
    n = len(said)
    classes = np.unique(np.concatenate([said, wanted]))
    ours = np.array([(said == k).sum() for k in classes], np.float64)
    theirs = np.array([(wanted == k).sum() for k in classes], np.float64)
    right = float((said == wanted).sum())
    spread = np.sqrt(n * n - (ours**2).sum()) * np.sqrt(n * n - (theirs**2).sum())
    return float((right * n - (ours * theirs).sum()) / spread) if spread else 0.0


def pearson(said: Values, wanted: Values) -> float:
    """Correlation of two rows of numbers."""
    if not np.ptp(said) or not np.ptp(wanted):
        return 0.0
    a, b = said - said.mean(), wanted - wanted.mean()
    spread = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / spread)


def ranks(values: Values) -> Values:
    """Ranks from 1; of equal values the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean: Values = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return mean


def spearman(said: Values, wanted: Values) -> float:
    """Correlation of ranks."""
    return pearson(ranks(said), ranks(wanted))


METRICS: dict[str, Callable[[Values, Values], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}


def score(metric: str, said: Sequence[float] | Values, wanted: Sequence[float] | Values) -> float:
    """A figure by its name; `TooLittleData` for no items."""
    if not len(wanted):
        raise TooLittleData(f"{metric} of no items is nothing; give a split that has some")
    return METRICS[metric](np.asarray(said, np.float64), np.asarray(wanted, np.float64))


def answers(outputs: Any, labels: Sequence[str]) -> Values:
    """What a classifier says of each item, from its outputs [items, classes]: numbers of classes, or scores."""
    found = np.asarray(outputs, np.float64)
    return found.argmax(axis=1).astype(np.float64) if labels else found[:, 0]


def loss(outputs: Any, labels: Sequence[str], wanted: Values) -> float:
    """The mean cross entropy of logits [items, classes], in nats, or the mean squared error of scores [items, 1]."""
    found = np.asarray(outputs, np.float64)
    if not labels:
        return float(((found[:, 0] - wanted) ** 2).mean())
    top = found.max(axis=1)
    right = found[np.arange(len(found)), wanted.astype(int)]
    return float((np.log(np.exp(found - top[:, None]).sum(axis=1)) + top - right).mean())


@dataclass(frozen=True)
class Difference:
    """One side's figure, mean over its seeds, less the other's."""

    value: float
    interval: Interval
    """Paired bootstrap over items."""


def resampled(metric: str, runs: Sequence[Values], wanted: Values, draws: int = DRAWS) -> Values:
    """The mean figure of the seeds' answers in each of so many draws of the items; the draws are always the same."""
    rng, n = np.random.default_rng(0), len(wanted)
    found = np.empty(draws)
    for i in range(draws):
        rows = rng.integers(0, n, n)
        found[i] = np.mean([METRICS[metric](said[rows], wanted[rows]) for said in runs])
    return found


def interval(metric: str, runs: Sequence[Values], wanted: Values) -> Interval:
    """The middle 95 % of the mean figure."""
    return percentiles(resampled(metric, runs, wanted))


def difference(metric: str, ours: Sequence[Values], theirs: Sequence[Values], wanted: Values) -> Difference:
    """What we are better by, with its 95 % interval: the same items are drawn for both."""
    means = [float(np.mean([METRICS[metric](said, wanted) for said in runs])) for runs in (ours, theirs)]
    drawn = resampled(metric, ours, wanted) - resampled(metric, theirs, wanted)
    return Difference(means[0] - means[1], percentiles(drawn))
