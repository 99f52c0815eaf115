"""Drafts: what repeats, or what a smaller model says, is drafted; what does not come true is given up."""

from __future__ import annotations

import random

from plain_runner import PlainRunner

from gpt2.inference.drafts import Drafts, ModelDrafts


def test_what_followed_the_last_tokens_before_is_drafted() -> None:
    drafts = Drafts([1, 2, 3, 4, 5, 6, 1, 2, 3], 0.2)
    drafts.judge([4], 1)
    for _ in range(30):
        drafts.judge([4, 5, 6], 3)
    assert drafts.propose(3) == [4, 5, 6]
    assert drafts.propose(9) == [4, 5, 6, 1, 2, 3, 4, 5, 6], "beyond the end the draft goes on from itself"
    assert drafts.propose(0) == [] == drafts.propose(-3)
    drafts.push(7)
    assert drafts.propose(3) == [], "3, 7 has not stood before"


def test_the_longer_and_the_later_of_what_stood_before_is_taken() -> None:
    assert Drafts([1, 2, 3, 9, 7, 2, 3, 8, 1, 2, 3], 0.2).propose(1) == [9], "three tokens before two"
    assert Drafts([2, 3, 9, 2, 3, 8, 2, 3], 0.2).propose(1) == [8], "the later of two"


def test_drafts_that_do_not_come_true_are_given_up_and_tried_again_now_and_then() -> None:
    drafts, made = Drafts([1, 2] * 10, 0.2), []
    for _ in range(300):
        draft = drafts.propose(7)
        made.append(len(draft))
        drafts.judge(draft, 0)
    assert made[0] >= 1 and sum(made[50:]) < 50 and any(made[100:])
    for _ in range(100):
        draft = drafts.propose(7)
        drafts.judge(draft, len(draft))
    assert len(drafts.propose(7)) == 7, "and taken up again when they do"


def test_a_text_at_random_costs_few_drafts() -> None:
    numbers = random.Random(0)
    drafts, drafted = Drafts([], 0.2), 0
    for _ in range(2000):
        token = numbers.randrange(30)
        draft = drafts.propose(7)
        drafted += len(draft)
        drafts.judge(draft, 1 if draft[:1] == [token] else 0)
        drafts.push(token)
    assert drafted < 300


def test_a_smaller_model_goes_on_by_its_likeliest_tokens_wherever_the_text_has_gone() -> None:
    numbers, runner, ids = random.Random(1), PlainRunner(2, room=24), [1, 2, 3]
    drafts = ModelDrafts(ids, 0.01, runner, 1)
    for _ in range(60):  # past its room too
        draft = drafts.propose(numbers.randint(1, 5))
        assert draft
        before, held = len(draft) - 1, runner.held[1]
        assert held == (ids + draft)[len(ids) - (len(held) - before) : len(ids) + before], (
            "the text and the draft"
        )
        for i, token in enumerate(draft):  # that it says what its own logits say
            seen = held[: len(held) - before + i]
            assert token == int(
                runner.logits(seen[-2:], [k for k in runner.cuts[1] if k < len(seen)]).argmax()
            )
        drafts.judge(draft, len(draft))
        for token in [
            *draft[: numbers.randint(0, len(draft))],
            *numbers.choices(range(250), k=numbers.randint(0, 2)),
        ]:
            drafts.push(token)
            ids.append(token)
    assert runner.held[0] == []
