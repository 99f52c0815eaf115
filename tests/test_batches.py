"""Every token once an epoch, in an order that seed and step alone decide."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from gpt2.errors import ConfigError, TooLittleData
from gpt2.training.batches import Batches


class Row:
    """Tokens that say where they stand."""

    def __init__(self, n: int) -> None:
        self.n_tokens = n

    def read(self, start: int, stop: int) -> np.ndarray:
        assert 0 <= start < stop <= self.n_tokens
        return np.arange(start, stop, dtype=np.uint16)


def targets(batches: Batches, steps: range) -> list[int]:
    return [int(t) for step in steps for row in batches[step] for t in row[1:]]


@pytest.mark.parametrize(
    ("n", "context", "size"), [(401, 10, 8), (401, 10, 7), (405, 10, 40), (26, 5, 3), (6, 5, 1), (11, 5, 9)]
)
def test_every_token_is_a_target_once_an_epoch(n: int, context: int, size: int) -> None:
    batches = Batches(Row(n), context, size, seed=3)
    blocks = (n - 1) // context
    epochs = 3 * size  # as many as end with a whole batch
    seen = targets(batches, range(epochs * blocks // size))
    expected = range(1, blocks * context + 1)
    for epoch in range(epochs):
        part = seen[epoch * len(expected) : (epoch + 1) * len(expected)]
        assert sorted(part) == list(expected), f"epoch {epoch}"
    assert Counter(seen) == dict.fromkeys(expected, epochs)
    assert n - 1 - len(expected) < context, "what is left out is shorter than a block"


def test_inputs_come_right_before_their_targets() -> None:
    ids = Batches(Row(401), 10, 4, seed=1)[7]
    assert ids.shape == (4, 11) and str(ids.dtype) == "torch.int64"
    assert (ids[:, 1:] == ids[:, :-1] + 1).all()


def test_epochs_differ_and_seeds_differ() -> None:
    order = [targets(Batches(Row(401), 10, 40, seed), range(2)) for seed in (0, 0, 1)]
    first, second = order[0][:400], order[0][400:]
    assert order[0] == order[1] != order[2]
    assert first != second and sorted(first) == sorted(second) != first


def test_a_batch_depends_on_nothing_but_seed_and_step() -> None:
    forward = Batches(Row(401), 10, 6, seed=5)
    rows = [forward[step].tolist() for step in range(30)]
    backward = Batches(Row(401), 10, 6, seed=5)
    assert [backward[step].tolist() for step in reversed(range(30))] == rows[::-1]
    assert Batches(Row(401), 10, 6, seed=5)[17].tolist() == rows[17], "resumed there"


def test_the_order_is_the_same_for_any_batch_size() -> None:
    assert targets(Batches(Row(401), 10, 8, 2), range(20)) == targets(Batches(Row(401), 10, 4, 2), range(40))


def test_counts() -> None:
    batches = Batches(Row(410), 10, 8)
    assert (batches.n_blocks, batches.tokens_per_step, batches.steps_per_epoch) == (40, 80, 5.0)


def test_too_little_and_impossible_is_refused() -> None:
    with pytest.raises(TooLittleData, match="10 training tokens, too few for one sequence of 10"):
        Batches(Row(10), 10, 1)
    assert Batches(Row(11), 10, 1).n_blocks == 1
    with pytest.raises(ConfigError, match="at least 1 sequence, not 0"):
        Batches(Row(100), 10, 0)
    with pytest.raises(ConfigError, match="0 or more, not -1"):
        Batches(Row(100), 10, 1, seed=-1)
