"""Answers in the model's own words: equal to transformers, alone or together, up to where they should end."""

from __future__ import annotations

import itertools

import pytest
import torch
from trained_model import CONTEXT, Trained
from transformers import GPT2LMHeadModel

from gpt2.evaluation.asking import is_cut, obstacle
from gpt2.evaluation.generation import answer, prompt_ids
from gpt2.evaluation.task import Generate
from gpt2.inference.continuations import generate

pytestmark = pytest.mark.usefixtures("one_thread")
STOPS = ((), ("\n",), (".", ","), (" the",), ("he said", ".\n"))
LENGTH = 40


@pytest.fixture(scope="module")
def prompts(trained: Trained) -> list[str]:
    """Beginnings from a novel that the model has not read, of many lengths, some of them equal."""
    return [trained.heldout[i * 3000 : i * 3000 + 40 + 17 * (i % 12)] for i in range(30)]


def alone(theirs: GPT2LMHeadModel, ids: list[int]) -> list[int]:
    """What transformers goes on with, greedily."""
    given = torch.tensor([ids])
    with torch.inference_mode():
        out = theirs.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=LENGTH,
            do_sample=False,
            pad_token_id=theirs.config.eos_token_id,
        )
    found: list[int] = out[0, len(ids) :].tolist()
    return found


def test_greedy_answers_equal_transformers_up_to_the_stop(trained: Trained, prompts: list[str]) -> None:
    theirs = GPT2LMHeadModel.from_pretrained(trained.huggingface).eval()
    tok = trained.model.tokenizer
    whole = [tok.decode(alone(theirs, tok.encode(p))).split("<|endoftext|>")[0] for p in prompts]
    requests = [Generate(p, LENGTH, until) for p in prompts for until in STOPS]
    ours = answer(trained.model, requests, range(len(requests)))
    expected = []
    for text in whole:
        for until in STOPS:
            cut = text
            for end in until:
                cut = cut.split(end)[0]
            expected.append(cut)
    assert ours == expected
    assert len(set(whole)) > 20 and sum(a != b for a, b in itertools.pairwise(ours)) > 60


@pytest.mark.parametrize("top_k", [None, 2])
def test_an_answer_does_not_depend_on_what_else_is_asked(
    trained: Trained, prompts: list[str], top_k: int | None
) -> None:
    requests = [Generate(p, LENGTH, STOPS[i % 5], top_k) for i, p in enumerate(prompts)]
    seeds = [7 * i + 1 for i in range(len(requests))]
    together = answer(trained.model, requests, seeds)
    single = [answer(trained.model, [r], [s])[0] for r, s in zip(requests, seeds, strict=True)]
    assert together == single
    assert answer(trained.model, requests[::-1], seeds[::-1]) == together[::-1]
    if top_k:
        assert together == answer(trained.model, requests, seeds)
        assert together != answer(trained.model, requests, [s + 1 for s in seeds]), "seeds matter"


def test_a_stop_may_lie_across_tokens_and_within_one(trained: Trained, prompts: list[str]) -> None:
    text = generate(trained.model, prompts[3], LENGTH, temperature=0.0)[0]
    for begin in range(0, len(text) - 6, 3):
        end = text[begin + 2 : begin + 6]
        (cut,) = generate(trained.model, prompts[3], LENGTH, temperature=0.0, until=[end])
        assert cut == text.split(end)[0]


def test_what_does_not_fit_is_cut_by_the_stated_rule(trained: Trained) -> None:
    model, text = trained.model, trained.heldout[:20_000]
    ids = model.tokenizer.encode(text)
    assert prompt_ids(model, Generate(text, 100)) == ids[-(CONTEXT - 100) :], "the newest part is read"
    hint = "\nTL;DR:"
    ending = model.tokenizer.encode(hint)
    found = prompt_ids(model, Generate(text, 100, ending=hint))
    assert found == ids[: CONTEXT - 100 - len(ending)] + ending, "the beginning is read, and the ending"
    assert prompt_ids(model, Generate("A word.", 100, ending=hint)) == model.tokenizer.encode(
        "A word." + hint
    )
    assert prompt_ids(model, Generate(text, CONTEXT)) == ids[-(CONTEXT // 2) :], "half is the prompt's"
    assert len(answer(model, [Generate(text, CONTEXT, top_k=2)], [0])[0]) > CONTEXT, "and it goes on beyond"
    assert prompt_ids(model, Generate("A", 9, ending=text)) == ids[-(CONTEXT - 9) :]


def test_a_small_context_is_asked_for_long_answers_too(trained: Trained) -> None:
    long = Generate("word " * CONTEXT, 2 * CONTEXT)
    assert obstacle(trained.model, long) == "" and is_cut(trained.model, long), "cut, but not refused"
    assert not is_cut(trained.model, Generate("A word.", 2 * CONTEXT))
