"""Log-probabilities against transformers, and windows against a definition token by token."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from huggingface import to_huggingface

from gpt2.errors import ConfigError, FormatError, InputError
from gpt2.inference import scoring
from gpt2.inference.scoring import cut_windows, score, score_ids
from gpt2.model.checkpoint import Model
from gpt2.model.config import GPT2Config
from gpt2.model.device import Compute
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer

CONTEXT = 24


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model() -> Model:
    """A network with large random weights, so that tokens differ a lot in probability."""
    tok = Tokenizer(Tokenizer.gpt2().pairs[:23])  # ' t', 'he', 'at', ' the' ...
    net = GPT2(GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=280, n_ctx=CONTEXT), seed=4).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(6.0)
    return Model(net, tok)


def random_ids(n: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 280, n).tolist()


def plainly(net: GPT2, ids: list[int], begin: int, i: int) -> tuple[float, bool]:
    """log p(ids[i]) after ids[begin:i], and whether it is the likeliest."""
    with torch.no_grad():
        logits = net(torch.tensor([ids[begin:i]]))[0, -1].double()
    return float(logits.log_softmax(-1)[ids[i]]), int(logits.argmax()) == ids[i]


def test_scores_equal_transformers(model: Model) -> None:
    theirs = to_huggingface(model.net)
    past = [random_ids(n, n) for n in (1, 3, 9, 20, 1)]
    rest = [random_ids(n, 50 + n) for n in (1, 5, 15, 4, 23)]
    for before, after, found in zip(past, rest, score_ids(model.net, past, rest), strict=True):
        ids = before + after
        with torch.no_grad():
            logits = theirs(torch.tensor([ids])).logits[0].double()
        at = torch.arange(len(before) - 1, len(ids) - 1)
        expected = logits.log_softmax(-1)[at, torch.tensor(after)]
        np.testing.assert_allclose(found.token_logprobs, expected.numpy(), atol=1e-4)
        assert found.logprob == pytest.approx(float(expected.sum()), abs=1e-3)
        own = logits[at, torch.tensor(after)]
        assert found.ranks == (1 + (logits[at] > own[:, None]).sum(-1)).tolist()
        assert found.tokens == after


def test_a_batch_of_different_lengths_equals_one_by_one(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = [random_ids(1 + n % 3, n) for n in range(40)]
    rest = [random_ids(n * 7 % 90, 100 + n) for n in range(40)]
    together = score_ids(model.net, past, rest)
    monkeypatch.setattr(scoring, "TOKENS_AT_ONCE", 64)
    monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", 280 * 5)
    for found in (
        score_ids(model.net, past, rest),
        [score_ids(model.net, [p], [r])[0] for p, r in zip(past, rest, strict=True)],
    ):
        for a, b, r in zip(together, found, rest, strict=True):
            assert a.tokens == r and len(a.token_logprobs) == len(r)
            np.testing.assert_allclose(a.token_logprobs, b.token_logprobs, atol=2e-5)
            assert a.ranks == b.ranks


@pytest.mark.parametrize("stride", [1, 2, 5, 11, CONTEXT - 1, CONTEXT, None])
@pytest.mark.parametrize(
    ("n_past", "n_rest"),
    [(1, CONTEXT), (1, CONTEXT + 1), (1, 100), (7, 60), (CONTEXT, 3), (CONTEXT + 1, 1), (50, 70)],
)
def test_windows_equal_their_definition(model: Model, stride: int | None, n_past: int, n_rest: int) -> None:
    ids = random_ids(n_past + n_rest, n_past)
    step = stride or CONTEXT
    (found,) = score_ids(model.net, [ids[:n_past]], [ids[n_past:]], stride)
    # The first window ends where the context is full, or `stride` tokens on; so does each later one.
    end = max(CONTEXT + 1, n_past + step)
    for i in range(n_past, len(ids)):
        while i >= end:
            end += step
        expected, top = plainly(model.net, ids, max(0, min(end, len(ids)) - 1 - CONTEXT), i)
        assert found.token_logprobs[i - n_past] == pytest.approx(expected, abs=1e-4), f"token {i}"
        assert (found.ranks[i - n_past] == 1) == top


def test_each_token_is_scored_once_for_any_stride() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        context = int(rng.integers(1, 12))
        stride, n_past, n_rest = (
            int(rng.integers(1, context + 1)),
            int(rng.integers(1, 20)),
            int(rng.integers(0, 40)),
        )
        ids = np.arange(n_past + n_rest)
        cuts = np.sort(rng.integers(n_past, n_past + n_rest + 1, int(rng.integers(0, 5))))
        chunks = np.split(ids[n_past:], cuts - n_past)
        scored: list[int] = []
        windows = list(cut_windows(0, ids[:n_past], chunks, context, stride))
        assert [w.last for w in windows] == [False] * (len(windows) - 1) + [True]
        for w in windows:
            assert len(w.ids) <= context + 1 and w.scored < len(w.ids) and (w.scored or not n_rest)
            assert w.ids[0] == 0 or len(w.ids) == context + 1, "a later window is full"
            scored += w.ids[len(w.ids) - w.scored :].tolist()
        assert scored == list(range(n_past, n_past + n_rest))


def test_a_smaller_stride_gives_more_past(model: Model) -> None:
    ids = random_ids(120, 9)
    full = [plainly(model.net, ids, max(0, i - CONTEXT), i)[0] for i in range(1, 120)]
    (dense,) = score_ids(model.net, [ids[:1]], [ids[1:]], 1)
    np.testing.assert_allclose(dense.token_logprobs, full, atol=1e-4)


def test_texts_and_pairs(model: Model) -> None:
    tok = model.tokenizer
    text, (context, continuation) = "the cat sat", ("the cat", " sat on")
    whole, part, nothing, only = score(model, [text, (context, continuation), "", ("", text)])
    assert whole.tokens == tok.encode(text)
    assert whole.logprob == pytest.approx(sum(whole.token_logprobs))
    assert part.tokens == tok.encode(continuation)
    given = [tok.end_of_text, *tok.encode(context)]
    (expected,) = score_ids(model.net, [given], [part.tokens])
    np.testing.assert_allclose(part.token_logprobs, expected.token_logprobs, atol=2e-5)
    assert (nothing.logprob, nothing.tokens, nothing.token_logprobs) == (0.0, [], [])
    np.testing.assert_allclose(only.token_logprobs, whole.token_logprobs, atol=2e-5)


def test_a_continuation_is_encoded_by_itself(model: Model) -> None:
    tok = model.tokenizer
    assert len(tok.encode(" the")) == 1, "together they would merge"
    (s,) = score(model, [(" t", "he")])
    assert s.tokens == tok.encode("he")


def test_without_a_start_the_first_token_is_not_scored(model: Model) -> None:
    tok = model.tokenizer
    ids = tok.encode("the dog ate")
    text, pair, one, empty = score(model, ["the dog ate", ("the dog", " ate"), "q", ""], start="none")
    assert text.tokens == ids[1:]
    (expected,) = score_ids(model.net, [ids[:1]], [ids[1:]])
    np.testing.assert_allclose(text.token_logprobs, expected.token_logprobs, atol=2e-5)
    assert pair.tokens == tok.encode(" ate")
    assert len(tok.encode("q")) == 1 and one.tokens == empty.tokens == []


def test_the_greedy_continuation_is_called_greedy(model: Model) -> None:
    ids = [3, 4]
    with torch.no_grad():
        for _ in range(5):
            ids.append(int(model.net(torch.tensor([ids]))[0, -1].argmax()))
    (found,) = score_ids(model.net, [ids[:2]], [ids[2:]])
    assert found.is_greedy and found.ranks == [1] * 5
    (found,) = score_ids(model.net, [ids[:2]], [[*ids[2:-1], (ids[-1] + 1) % 280]])
    assert not found.is_greedy and found.ranks[:4] == [1] * 4 and found.ranks[4] > 1


def test_bfloat16_is_near(model: Model) -> None:
    past, rest = [random_ids(1, 1)], [random_ids(200, 2)]
    exact, near = (
        np.array(score_ids(model.net, past, rest, compute=c)[0].token_logprobs)
        for c in (None, Compute("cpu", "bfloat16", 1))
    )
    assert not np.array_equal(exact, near), "it was computed otherwise"
    assert abs(exact.mean() - near.mean()) < 0.02 * abs(exact.mean())


def test_logits_far_from_zero_lose_nothing_in_bfloat16(model: Model) -> None:
    """OpenAI's weights have logits near -40 for every token: there a bfloat16 is 0.25 wide."""
    net = GPT2(model.net.config, seed=5).eval()
    past, rest = random_ids(1, 1), random_ids(20, 2)
    with torch.inference_mode():
        net.ln_f.weight[0], net.ln_f.bias[0], net.wte.weight[:, 0] = 0.0, 64.0, -0.625
        logits = net(torch.tensor([past + rest[:-1]]))[0]
        assert float(logits.mean()) == pytest.approx(-40, abs=1)
        rounded = logits.bfloat16().double().log_softmax(-1)[torch.arange(20), torch.tensor(rest)].numpy()
    exact, near = (
        np.array(score_ids(net, [past], [rest], compute=c)[0].token_logprobs)
        for c in (None, Compute("cpu", "bfloat16", 1))
    )
    assert np.abs(rounded - exact).mean() > 0.03, "rounded where they are, they would lose"
    assert np.abs(near - exact).mean() < 0.003


def test_scores_that_are_no_numbers_are_refused(model: Model) -> None:
    net = GPT2(model.net.config, seed=5).eval()
    with torch.no_grad():
        net.ln_f.weight.fill_(1e38)
        net.wte.weight.mul_(1e6)
    with pytest.raises(FormatError, match="are its weights damaged"):
        score_ids(net, [[1, 2]], [[3, 4]])


def test_what_cannot_be_scored_is_refused(model: Model) -> None:
    with pytest.raises(ConfigError, match="stride must be between 1 and the model's context of 24, not 25"):
        score(model, ["a"], stride=25)
    with pytest.raises(ConfigError, match="stride must be between 1"):
        score(model, ["a"], stride=0)
    with pytest.raises(ConfigError, match="endoftext or none, not 'bos'"):
        score(model, ["a"], start="bos")
    with pytest.raises(InputError, match="without any token before it"):
        score_ids(model.net, [[]], [[1]])
    with pytest.raises(InputError, match="token 280 is none of the model's, which are 0 to 279"):
        score_ids(model.net, [[1, 2], [1, 2]], [[5, 6], [280]])
    with pytest.raises(InputError, match="token -1 is none"):
        score_ids(model.net, [[1, 2]], [[-1]])
    for wrong in ([b"ab"], [("a", "b", "c")], [None]):
        with pytest.raises(InputError, match="a text is a string, or a pair"):
            score(model, wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"give \[text\]"):
        score(model, "a text")
    assert score(model, []) == [] and score_ids(model.net, [[]], [[]])[0].tokens == []
