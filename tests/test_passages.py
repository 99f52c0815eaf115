"""Parts of a long text, scored as if all of it was read."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.inference.passages import Passage, Rule, lay_windows, score_passages
from gpt2.inference.scoring import score
from gpt2.model.checkpoint import Model
from gpt2.model.config import GPT2Config
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = "".join(f"Line {i}: naïve words, 東京 and {i * i} more.\n" for i in range(40))
CONTEXT = 16


@pytest.fixture(scope="module")
def model() -> Model:
    tok = Tokenizer(Tokenizer.gpt2().pairs[:200])
    return Model(GPT2(GPT2Config(n_layer=1, n_head=2, n_embd=16, n_ctx=CONTEXT, vocab_size=457), seed=1), tok)


def plainly_laid(n: int, context: int, stride: int, rule: Rule) -> list[tuple[int, int, int]]:
    """The rules of the docstring, one window after the other."""
    if n == 0:
        return []
    if rule == "ends":
        found = [(0, 1, min(n, context + 1))]
        while found[-1][2] < n:
            end = min(n, found[-1][2] + stride)
            found.append((end - 1 - context, found[-1][2], end))
        return found
    found = [(0, 1, min(n, context))]
    while found[-1][2] < n:
        begin = found[-1][0] + stride
        found.append((begin, max(begin + 1, found[-1][2]), min(n, begin + context)))
    return found


@given(
    n=st.integers(1, 60),
    context=st.integers(2, 20),
    stride=st.integers(1, 20),
    rule=st.sampled_from(["ends", "begins"]),
)
def test_windows_lie_as_the_rules_say(n: int, context: int, stride: int, rule: Rule) -> None:
    stride = min(stride, context)
    laid = list(zip(*(part.tolist() for part in lay_windows(n, context, stride, rule)), strict=True))
    assert laid == plainly_laid(n, context, stride, rule)


@pytest.mark.parametrize("start", ["endoftext", "none"])
@pytest.mark.parametrize("stride", [None, 5, 1000])
def test_parts_add_up_to_the_text_and_keep_its_windows(model: Model, start: str, stride: int | None) -> None:
    (whole,) = score(model, [TEXT], start=start, stride=min(stride or CONTEXT, CONTEXT))
    cuts = [0, 1, 1, 30, 31, 400, len(TEXT)]  # one part is empty, some begin within a token
    parts = [Passage(TEXT, a, b, start, stride) for a, b in pairwise(cuts)]
    found = list(score_passages(model, parts))
    assert [t for part in found for t in part.tokens] == whole.tokens
    assert [r for part in found for r in part.ranks] == whole.ranks
    np.testing.assert_allclose(
        [x for part in found for x in part.token_logprobs], whole.token_logprobs, rtol=0, atol=1e-5
    )
    assert sum(part.logprob for part in found) == pytest.approx(whole.logprob)
    backwards = list(score_passages(model, reversed(parts)))
    assert [part.tokens for part in reversed(backwards)] == [part.tokens for part in found]


@settings(max_examples=30, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60), data=st.data())
def test_each_token_belongs_to_one_part(model: Model, text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    parts = [Passage(text, a, b) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    tokens = [t for part in score_passages(model, parts) for t in part.tokens]
    assert tokens == model.tokenizer.encode(text)


def test_an_empty_text_has_an_empty_score(model: Model) -> None:
    for start in ("endoftext", "none"):
        (found,) = score_passages(model, [Passage("", 0, 0, start)])
        assert (found.logprob, found.tokens) == (0.0, [])
