"""The readable runner: the network's own logits, and the same bits in any company and any cut."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from trained_model import Trained

from gpt2.errors import InputError
from gpt2.inference import torch_runner
from gpt2.inference.torch_runner import ALONE, CHUNK, TorchRunner, alike, pieces
from gpt2.model.device import PLAIN, Compute

pytestmark = pytest.mark.usefixtures("one_thread")
FORMATS = [PLAIN, Compute("cpu", "bfloat16", 1)]


@pytest.fixture(scope="module")
def texts(trained: Trained) -> list[list[int]]:
    """Ragged beginnings out of a novel."""
    return [trained.model.tokenizer.encode(trained.heldout[i * 2000 :][: 9 + 41 * i]) for i in range(20)]


@pytest.mark.parametrize("compute", FORMATS, ids=["float32", "bfloat16"])
def test_logits_are_the_networks(trained: Trained, texts: list[list[int]], compute: Compute) -> None:
    net = trained.model.net
    runner = TorchRunner(net, len(texts), compute=compute)
    last = runner.run(range(len(texts)), texts).copy()
    bound = 1e-3 if compute is PLAIN else 0.3
    for i, ids in enumerate(texts):
        with torch.no_grad():
            whole = net(torch.tensor([ids]))[0]
        assert np.abs(last[i] - whole[-1].numpy()).max() < bound
        runner.cut(i, 0)
        every = runner.run([i], [ids], every=True)
        assert every.shape == whole.shape and np.abs(every - whole.numpy()).max() < bound
        assert np.array_equal(every[-1], last[i])


@pytest.mark.parametrize("at_once", [None, ALONE], ids=["any number of rows", "eight rows"])
@pytest.mark.parametrize("compute", FORMATS, ids=["float32", "bfloat16"])
def test_bits_do_not_depend_on_neighbours_slots_or_cuts(
    trained: Trained, texts: list[list[int]], compute: Compute, at_once: int | None
) -> None:
    """Whole at once in one slot, against cut where it may be and mixed with others in another."""
    net, numbers = trained.model.net, random.Random(1)
    solo, busy = TorchRunner(net, 1, compute=compute), TorchRunner(net, 32, compute=compute)
    for runner in (solo, busy):
        runner.at_once = at_once or runner.at_once
    expected = []
    for ids in texts:
        solo.cut(0, 0)
        head = len(ids) // CHUNK * CHUNK
        rows = [solo.run([0], [ids[:head]], every=True).copy()] if head else []
        rows += [solo.run([0], [[token]]).copy() for token in ids[head:]]
        expected.append(np.concatenate(rows))
    slots = numbers.sample(range(32), len(texts))
    done = [0] * len(texts)
    while going := [i for i, ids in enumerate(texts) if done[i] < len(ids)]:
        some = numbers.sample(going, min(len(going), numbers.randint(1, 12)))
        parts = []
        for i in some:
            left = len(texts[i]) - done[i]
            step = numbers.randint(1, left // CHUNK) * CHUNK if left >= CHUNK else numbers.randint(1, ALONE)
            parts.append(texts[i][done[i] : done[i] + step])
        found, at = busy.run([slots[i] for i in some], parts, every=True), 0
        for i, part in zip(some, parts, strict=True):
            own = found[at : at + len(part)]
            assert np.array_equal(own, expected[i][done[i] : done[i] + len(part)])
            at, done[i] = at + len(part), done[i] + len(part)


def test_a_slot_forgets_and_is_copied(trained: Trained, texts: list[list[int]]) -> None:
    runner = TorchRunner(trained.model.net, 3)
    one, other = texts[5], texts[9]
    begin = len(one) // CHUNK * CHUNK
    expected = runner.run([0], [one]).copy()
    runner.run([1], [other])
    runner.copy(0, 2)
    runner.cut(0, begin)
    assert begin and np.array_equal(runner.run([0], [one[begin:]]), expected)
    runner.cut(2, begin)
    runner.run([1], [other[:2]])
    assert np.array_equal(runner.run([2], [one[begin:]]), expected)


def test_what_does_not_fit_is_refused(trained: Trained) -> None:
    runner = TorchRunner(trained.model.net, 2, room=10)
    runner.run([1], [[5] * 9])
    with pytest.raises(InputError, match="slot 1 holds 9 tokens and cannot take 2 more: its room is 10"):
        runner.run([0, 1], [[1], [2, 3]])
    runner.run([1], [[2]])
    assert TorchRunner(trained.model.net, 1, room=10**9).room == trained.model.net.config.n_ctx


def test_pieces_are_cut_at_multiples_of_the_chunk_wherever_they_begin() -> None:
    for begin in (0, 1, 63, 64, 70):
        for n in (1, 58, 64, 65, 200):
            cut = pieces(3, begin, list(range(n)), 7)
            assert [i for piece in cut for i in piece.ids] == list(range(n))
            assert [piece.begin for piece in cut[1:]] == [
                k for k in range(begin + 1, begin + n) if k % CHUNK == 0
            ]


def test_products_that_depend_on_the_number_of_rows_are_done_eight_at_a_time(
    trained: Trained, texts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    assert alike(lambda x: torch.stack([row @ weight.T for row in x]), 5, torch.float32)
    assert not alike(lambda x: x @ weight.T + len(x) * 1e-6, 5, torch.float32)
    whole = TorchRunner(trained.model.net, 1).run([0], [texts[7]]).copy()
    monkeypatch.setattr(torch_runner, "alike_in_any_number", lambda packed: False)
    careful = TorchRunner(trained.model.net, 1)
    assert careful.at_once == ALONE
    assert np.abs(careful.run([0], [texts[7]]) - whole).max() < 1e-3
