"""Drawing the next token: each control as its definition says, the same for a seed, whatever its speed needs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.errors import ConfigError, FormatError, InputError
from gpt2.inference.sampling import (
    Sampling,
    choose,
    generator,
    kept,
    kth_highest,
    likeliest,
    log_probabilities,
)

LOGITS = np.array([2.0, 0.5, -1.0, 1.5, -3.0, 0.0, 1.0, -0.5, 2.0, 0.25], np.float32)
PROMPT, NEW = [0, 4, 4], [3, 3, 6, 3]
DRAWS = 6000


def plain(
    logits: np.ndarray,
    how: Sampling,
    prompt: list[int] = PROMPT,
    new: list[int] = NEW,
    allowed: list[int] | None = None,
) -> np.ndarray:
    """The probability of each token by the definitions, one after the other: the readable twin."""
    x = logits.astype(np.float64)
    if allowed is not None:
        x = np.array([v if i in allowed else -math.inf for i, v in enumerate(x)])
    for i in {*prompt, *new}:
        x[i] = x[i] * how.repetition_penalty if x[i] < 0 else x[i] / how.repetition_penalty
    for i in set(new):
        x[i] -= how.presence_penalty + how.frequency_penalty * new.count(i)
    for i, bias in how.logit_bias.items():
        x[i] += bias
    x = np.exp((x - x.max()) / how.temperature)
    if how.top_k is not None:
        x[x < sorted(x)[-min(how.top_k, len(x))]] = 0
    p = x / x.sum()
    total, last = 0.0, 1.0
    for value in sorted(p, reverse=True):
        if total >= how.top_p - 1e-12:
            break
        total, last = total + value, value
    p[p < last] = 0
    p[p < how.min_p * p.max()] = 0
    return np.asarray(p / p.sum())


CONTROLS: list[dict[str, Any]] = [
    {},
    {"top_k": 3},
    {"top_k": 1},
    {"temperature": 0.5, "top_k": 5},
    {"temperature": 3.0, "top_k": 10},
    {"top_p": 0.3},
    {"top_p": 0.75},
    {"top_p": 0.999},
    {"min_p": 0.2},
    {"min_p": 1.0},
    {"repetition_penalty": 2.0},
    {"repetition_penalty": 0.5},
    {"presence_penalty": 1.5},
    {"frequency_penalty": 0.5},
    {"frequency_penalty": -0.5},
    {"logit_bias": {0: -math.inf, 4: 5.0}},
    {"allowed": [1, 4, 5]},
    {
        "temperature": 0.7,
        "top_k": 7,
        "top_p": 0.9,
        "min_p": 0.02,
        "repetition_penalty": 1.2,
        "presence_penalty": 0.3,
        "frequency_penalty": 0.1,
        "logit_bias": {5: 1.0},
    },
]


@pytest.mark.parametrize("controls", CONTROLS, ids=str)
def test_tokens_are_drawn_as_often_as_theory_says(controls: dict[str, Any]) -> None:
    allowed = controls.get("allowed")
    how = Sampling(**{"top_k": None} | {k: v for k, v in controls.items() if k != "allowed"})
    expected = DRAWS * plain(LOGITS, how, allowed=allowed)
    numbers = generator(7)
    drawn = [choose(LOGITS, how, numbers, PROMPT, NEW, allowed) for _ in range(DRAWS)]
    found = np.bincount(drawn, minlength=len(LOGITS))
    assert found[expected == 0].sum() == 0, "a token that may not come was drawn"
    able = expected > 0
    chi_square = float(((found - expected)[able] ** 2 / expected[able]).sum())
    assert chi_square <= limit(int(able.sum()) - 1)


def limit(freedom: int) -> float:
    """The 99.99th percentile of chi-square, by Wilson and Hilferty's approximation."""
    if not freedom:
        return 1e-9
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread + 3.72 * spread**0.5) ** 3)


@given(
    st.lists(st.integers(-6, 6), min_size=1, max_size=300),
    st.one_of(st.none(), st.integers(1, 320)),
    st.floats(0.01, 1.0),
    st.floats(0.0, 1.0),
    st.sampled_from([0.1, 0.7, 1.0, 4.0]),
)
@settings(max_examples=300, deadline=None)
def test_what_may_be_drawn_is_what_the_definitions_keep(
    values: list[int], top_k: int | None, top_p: float, min_p: float, temperature: float
) -> None:
    x = np.array(values, np.float32) / 2  # many ties
    how = Sampling(temperature, top_k, top_p, min_p)
    ids, weights = kept(x, float(x.max()), how)
    full = np.zeros(len(x))
    full[slice(None) if ids is None else ids] = weights / weights.sum()
    near = {plain(x, Sampling(temperature, top_k, p, m), [], []).tobytes() for p, m in edges(top_p, min_p)}
    assert any(np.allclose(full, np.frombuffer(one), atol=1e-12) for one in near)


def edges(top_p: float, min_p: float) -> list[tuple[float, float]]:
    """A share and those next to it: sums of the very share are for rounding to decide."""
    return [
        (min(max(top_p + a, 1e-9), 1.0), min(max(min_p + b, 0.0), 1.0))
        for a in (0, 1e-9, -1e-9)
        for b in (0, 1e-9, -1e-9)
    ]


def test_the_kth_highest_of_many_is_found_in_any_order_and_with_any_ties() -> None:
    numbers = np.random.default_rng(0)
    for x in (
        numbers.standard_normal(50_257),
        np.sort(numbers.standard_normal(50_257)),
        -np.sort(numbers.standard_normal(50_257)),
        numbers.integers(0, 5, 50_257),
        np.zeros(50_257),
        np.where(np.arange(50_257) % 64, 0.0, numbers.standard_normal(50_257)),
        np.where(np.arange(50_257) % 64, numbers.standard_normal(50_257), 9.0),
        np.where(np.arange(50_257) < 50_000, -np.inf, numbers.standard_normal(50_257)),
    ):
        row = x.astype(np.float32)
        whole = np.sort(row)
        for k in (1, 2, 40, 41, 999, 50_256):
            assert kth_highest(row, k) == whole[-k]


def test_a_temperature_of_zero_and_one_next_to_zero_take_the_likeliest() -> None:
    for row, best in (([1.0, 1.001, 0.0], 1), ([-5e4, -6e4, -7e4], 0), ([3.0, 2.0, 2.999], 0)):
        for temperature in (0.0, 1e-6, 1e-30, 1e-45, 1e-300, 5e-324):
            assert choose(np.array(row, np.float32), Sampling(temperature), generator(0)) == best
    tie = np.array([0.0, 2.0, 2.0], np.float32)
    assert choose(tie, Sampling(0.0), generator(0)) == 1, "the lower id of those that tie"


def test_a_huge_temperature_draws_evenly() -> None:
    numbers = generator(7)
    drawn = [choose(LOGITS, Sampling(1e308, None), numbers) for _ in range(4000)]
    assert np.bincount(drawn).min() > 300 and np.bincount(drawn).max() < 500


@pytest.mark.parametrize("seed", [0, -1, 2**31, 2**64, -(2**70), 10**30])
def test_any_whole_number_is_a_seed_and_each_text_has_its_own_numbers(seed: int) -> None:
    def drawn(seed: int, i: int = 0) -> list[float]:
        return generator(seed, i).random(4).tolist()

    assert drawn(seed) == drawn(seed)
    others = [drawn(seed + 1), drawn(-seed - 3), drawn(seed, 1), drawn(seed, 2)]
    assert all(drawn(seed) != other for other in others)


def test_drawing_leaves_the_logits_as_they_are() -> None:
    row = LOGITS.copy()
    how = Sampling(0.7, 3, 0.9, 0.1, 1.3, 0.5, 0.5, {2: 1.0})
    choose(row, how, generator(0), PROMPT, NEW)
    choose(row, how, generator(0), PROMPT, NEW, allowed=[1, 2])
    assert row.tolist() == LOGITS.tolist()


def test_log_probabilities_are_summed_in_float64_and_listed_likeliest_first() -> None:
    row = (np.random.default_rng(1).standard_normal(50_257) * 3 - 40).astype(np.float32)
    found = log_probabilities(row)
    exact = [float(v) for v in row]
    top = max(exact)
    total = top + math.log(math.fsum(math.exp(v - top) for v in exact))
    assert found[:100] == pytest.approx([v - total for v in exact[:100]], abs=1e-11)
    order = np.argsort(-found, kind="stable")
    for n in (0, 1, 5, 50_257):
        assert likeliest(found, n) == [(int(i), float(found[i])) for i in order[:n]]
    assert [i for i, _ in likeliest(np.log([0.2, 0.3, 0.3, 0.2]), 3)] == [1, 2, 0]


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ({"temperature": -1.0}, "temperature must be 0 or more"),
        ({"temperature": math.nan}, "temperature must be 0 or more"),
        ({"temperature": math.inf}, "temperature must be 0 or more"),
        ({"top_k": 0}, "leave it out to draw among all"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"top_p": math.nan}, "top_p must be above 0"),
        ({"min_p": 1.5}, "min_p must be from 0 to 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0"),
        ({"repetition_penalty": 1e31}, "repetition_penalty must be above 0 and at most 1e\\+30"),
        ({"repetition_penalty": 1e-39}, "repetition_penalty must be above 0"),
        ({"presence_penalty": math.inf}, "presence_penalty must be a number"),
        ({"frequency_penalty": -1e39}, "frequency_penalty must be a number from -1e\\+30 to 1e\\+30"),
        ({"logit_bias": {3: 1e39}}, "logit_bias has token 3 with 1e\\+39"),
        ({"logit_bias": {3: -1e39}}, "logit_bias has token 3"),
        ({"logit_bias": {3: math.nan}}, "logit_bias has token 3"),
        ({"logit_bias": {-3: 1.0}}, "logit_bias has token -3"),
    ],
)
def test_settings_that_mean_nothing_are_refused(controls: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sampling(**controls)


def test_no_token_to_choose_and_logits_that_are_no_numbers_are_told_apart() -> None:
    with pytest.raises(InputError, match="no token may come next"):
        choose(LOGITS, Sampling(), generator(0), allowed=[])
    with pytest.raises(InputError, match="no token may come next"):
        choose(LOGITS, Sampling(logit_bias=dict.fromkeys(range(10), -math.inf)), generator(0))
    for token in (-1, len(LOGITS)):
        with pytest.raises(InputError, match=f"token {token} is allowed to come, but ids are 0 to"):
            choose(LOGITS, Sampling(), generator(0), allowed=[1, token])
    for bad in (math.nan, math.inf):
        row = LOGITS.copy()
        row[3] = bad
        with pytest.raises(FormatError, match="no number"):
            choose(row, Sampling(), generator(0))
