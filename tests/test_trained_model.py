"""The small trained model that tests of evaluation share is a fair one: far better than chance."""

from __future__ import annotations

import math

import pytest
from trained_model import VOCABULARY, Trained

import gpt2

pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_predicts_a_novel_it_has_not_read_ten_times_as_well_as_chance(trained: Trained) -> None:
    (score,) = gpt2.score(trained.model, [trained.heldout[:60_000]])
    assert math.exp(-score.logprob / len(score.tokens)) < VOCABULARY / 10


def test_transformers_load_it_and_agree(trained: Trained) -> None:
    import torch
    from transformers import GPT2LMHeadModel, GPT2TokenizerFast

    theirs = GPT2LMHeadModel.from_pretrained(trained.huggingface).eval()
    tok = GPT2TokenizerFast.from_pretrained(trained.huggingface)
    text = trained.heldout[1000:2000]
    ids = tok(text).input_ids
    assert ids == trained.model.tokenizer.encode(text)
    given = torch.tensor([[tok.eos_token_id, *ids]])
    with torch.inference_mode():
        loss = theirs(given, labels=given).loss.item()
    (score,) = gpt2.score(trained.model, [text])
    assert score.logprob == pytest.approx(-loss * len(ids), rel=1e-5)
