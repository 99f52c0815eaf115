"""Drawing the next token: the right distribution, the same for a seed, whatever stands beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gpt2.errors import ConfigError
from gpt2.inference.sampling import Sampling, draw, generator

LOGITS = torch.tensor([2.0, 0.5, -1.0, 1.5, -3.0, 0.0, 1.0, -0.5])


def counts(how: Sampling, draws: int) -> np.ndarray:
    ids = draw(LOGITS.expand(draws, -1), how, [generator(7, i) for i in range(draws)])
    return np.bincount(ids.numpy(), minlength=len(LOGITS))


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (1.0, 3), (0.5, 5), (3.0, 8), (2.0, 1)])
def test_tokens_are_drawn_as_often_as_theory_says(temperature: float, top_k: int | None) -> None:
    kept = LOGITS.argsort(descending=True)[:top_k].numpy()
    expected = np.zeros(len(LOGITS))
    expected[kept] = torch.softmax(LOGITS[kept].double() / temperature, 0).numpy()
    n = 8000
    found = counts(Sampling(temperature, top_k), n)
    assert found[expected == 0].sum() == 0, "a token outside the top k was drawn"
    able = expected > 0
    chi_square = float(((found - n * expected)[able] ** 2 / (n * expected[able])).sum())
    # The 99.99th percentile of chi-square with 0 to 7 degrees of freedom; the seed is fixed.
    limit = [1e-9, 15.1, 18.4, 21.1, 23.5, 25.7, 27.9, 29.9][int(able.sum()) - 1]
    assert chi_square < limit


def test_a_temperature_of_zero_and_one_next_to_zero_take_the_likeliest() -> None:
    generators = [generator(0, i) for i in range(3)]
    logits = torch.tensor([[1.0, 1.001, 0.0], [-5e4, -6e4, -7e4], [3.0, 2.0, 2.999]])
    for temperature in (0.0, 1e-6, 1e-30, 1e-45, 1e-300, 5e-324):
        assert draw(logits, Sampling(temperature), generators).tolist() == [1, 0, 0]


def test_a_huge_temperature_draws_evenly() -> None:
    found = counts(Sampling(1e300, None), 4000)
    assert found.min() > 400 and found.max() < 600


def test_tokens_that_tie_with_the_kth_are_all_kept() -> None:
    logits = torch.tensor([1.0, 0.0, 0.0, 0.0, -9.0]).expand(600, -1)
    ids = draw(logits, Sampling(1.0, 2), [generator(1, i) for i in range(600)])
    assert set(ids.tolist()) == {0, 1, 2, 3}


def test_a_row_is_drawn_the_same_whatever_stands_beside_it() -> None:
    torch.manual_seed(3)
    logits = torch.randn(16, 300)
    together = draw(logits, Sampling(), [generator(5, i) for i in range(16)])
    alone = [int(draw(logits[i : i + 1], Sampling(), [generator(5, i)])) for i in range(16)]
    assert together.tolist() == alone
    torch.manual_seed(4)
    again = draw(logits, Sampling(), [generator(5, i) for i in range(16)])
    assert together.tolist() == again.tolist(), "torch's global seed must not matter"


@pytest.mark.parametrize("seed", [0, -1, 2**31, 2**64, -(2**70), 10**30])
def test_any_whole_number_is_a_seed(seed: int) -> None:
    first = draw(LOGITS[None].expand(20, -1), Sampling(), [generator(seed, i) for i in range(20)])
    again = draw(LOGITS[None].expand(20, -1), Sampling(), [generator(seed, i) for i in range(20)])
    other = draw(LOGITS[None].expand(20, -1), Sampling(), [generator(seed + 1, i) for i in range(20)])
    assert first.tolist() == again.tolist() != other.tolist()


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_impossible_temperatures_are_refused(temperature: float) -> None:
    with pytest.raises(ConfigError, match="temperature must be 0 or more"):
        Sampling(temperature)


def test_drawing_among_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="leave it out to draw among all"):
        Sampling(1.0, 0)
