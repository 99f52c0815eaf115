"""Scores of real texts against transformers in float64 and against lm-evaluation-harness."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface import to_huggingface

import gpt2
from gpt2.inference.scoring import score
from gpt2.model.checkpoint import Model
from gpt2.model.config import GPT2Config
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer

CONTEXT = 128
TEXTS = 500


@pytest.fixture(scope="module")
def model() -> Model:
    """The first merges of GPT-2's; weights large enough that tokens differ a lot in probability."""
    tok = Tokenizer(Tokenizer.gpt2().pairs[:5000])
    config = GPT2Config(n_layer=3, n_head=4, n_embd=128, n_ctx=CONTEXT, vocab_size=tok.n_vocab)
    net = GPT2(config, seed=8).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * 0.08)
    return Model(net, tok)


@pytest.fixture(scope="module")
def passages(data: Path) -> list[str]:
    """Passages of stories, each ending in the word to guess."""
    lines = (data / "lambada" / "lambada_test.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines[:TEXTS]]


@pytest.fixture(scope="module")
def pairs(passages: list[str]) -> list[tuple[str, str]]:
    return [(p[: p.rindex(" ")], p[p.rindex(" ") :]) for p in passages]


def test_500_real_texts_equal_transformers_in_float64(model: Model, passages: list[str]) -> None:
    theirs = to_huggingface(model.net).double()
    tok = model.tokenizer
    for text, ours in zip(passages, score(model, passages), strict=True):
        ids = [tok.end_of_text, *tok.encode(text)]
        expected: list[float] = []
        for begin in range(0, len(ids) - 1, CONTEXT):
            end = min(begin + CONTEXT, len(ids) - 1)
            window = torch.tensor([ids[max(0, end - CONTEXT) : end + 1]])
            with torch.inference_mode():
                logprobs = theirs(window[:, :-1]).logits[0].log_softmax(-1)
            own = logprobs.gather(1, window[0, 1:, None])[:, 0]
            expected += own[-(end - begin) :].tolist()
        np.testing.assert_allclose(ours.token_logprobs, expected, rtol=0, atol=1e-4)
        assert ours.logprob == pytest.approx(sum(expected), rel=1e-5)


def test_a_text_scores_the_same_alone_in_any_batch_in_any_order(model: Model, passages: list[str]) -> None:
    texts = passages[:120]
    together = score(model, texts)
    order = np.random.default_rng(3).permutation(len(texts))
    for i, again in zip(order, score(model, [texts[i] for i in order]), strict=True):
        np.testing.assert_allclose(together[i].token_logprobs, again.token_logprobs, rtol=0, atol=1e-4)
    for text, ours in zip(texts[:40], together, strict=False):
        (alone,) = score(model, [text])
        np.testing.assert_allclose(ours.token_logprobs, alone.token_logprobs, rtol=0, atol=1e-4)
    halves = [piece for text in texts[:60] for piece in (text, text[: len(text) // 2])]
    for ours, (shared, _) in zip(
        together, np.reshape(np.array(score(model, halves), object), (-1, 2)), strict=False
    ):
        np.testing.assert_allclose(ours.token_logprobs, shared.token_logprobs, rtol=0, atol=1e-4)


def test_scores_equal_lm_evaluation_harness(
    model: Model, passages: list[str], pairs: list[tuple[str, str]], tmp_path: Path
) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import GPT2LMHeadModel, GPT2TokenizerFast

    model.save(tmp_path / "model")
    gpt2.convert(tmp_path / "model", tmp_path / "huggingface", to="huggingface")
    theirs = HFLM(
        pretrained=GPT2LMHeadModel.from_pretrained(tmp_path / "huggingface").eval(),
        tokenizer=GPT2TokenizerFast.from_pretrained(tmp_path / "huggingface"),
        batch_size=16,
        device="cpu",
    )

    def asked(kind: str, arguments: list[tuple[str, ...]]) -> list[Instance]:
        return [Instance(kind, {}, args, i) for i, args in enumerate(arguments)]

    some = pairs[:200]  # the harness puts no <|endoftext|> before a context
    found = theirs.loglikelihood(asked("loglikelihood", list(some)), disable_tqdm=True)
    for ours, (logprob, greedy) in zip(score(model, some, start="none"), found, strict=True):
        assert ours.logprob == pytest.approx(logprob, rel=1e-5, abs=1e-4)
        assert ours.is_greedy == greedy
    long = [*passages[:20], "\n".join(passages[20:26])]
    assert len(model.tokenizer.encode(long[-1])) > 3 * CONTEXT
    rolling = theirs.loglikelihood_rolling(
        asked("loglikelihood_rolling", [(text,) for text in long]), disable_tqdm=True
    )
    for ours, logprob in zip(score(model, long), rolling, strict=True):
        assert ours.logprob == pytest.approx(logprob, rel=1e-5)
