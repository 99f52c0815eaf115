"""Perplexity, bits per byte and bootstrap intervals."""

from __future__ import annotations

import numpy as np
import pytest

from gpt2.evaluation import metrics
from gpt2.evaluation.metrics import Losses, compare, perplexity_interval


def losses(nats: list[float] | np.ndarray, tokens: int = 10) -> Losses:
    n = len(nats)
    return Losses(np.asarray(nats, float), np.full(n, tokens), np.full(n, 40))


def test_figures_follow_their_formulas() -> None:
    x = losses([20.0, 30.0])
    assert x.loss == 2.5
    assert x.perplexity == pytest.approx(np.exp(2.5))
    assert x.bits_per_byte == pytest.approx(50 / np.log(2) / 80)


def test_the_interval_covers_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "DRAWS", 2000)
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        low, high = perplexity_interval(losses(rng.normal(30, 4, size=80)))
        covered += low <= np.exp(3.0) <= high
    assert 88 <= covered <= 100


def test_pairing_finds_what_separate_intervals_cannot() -> None:
    rng = np.random.default_rng(1)
    hard = rng.normal(30, 6, size=80)
    small, large = losses(hard), losses(hard - 0.5 + rng.normal(0, 0.2, size=80))
    (low, high), (other_low, other_high) = perplexity_interval(large), perplexity_interval(small)
    assert low < other_high and other_low < high, "the separate intervals overlap"
    difference = compare(large, small)
    assert difference.interval[1] < 0 and difference.loss_difference == pytest.approx(-0.05, abs=0.01)
    assert difference.documents == 80 and difference.better_on > 70
    same = compare(small, losses(hard + rng.normal(0, 1, size=80)))
    assert same.interval[0] < 0 < same.interval[1]


def test_other_documents_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="same tokens"):
        compare(losses([1.0, 2.0]), losses([1.0, 2.0], tokens=11))
