"""The known answers of OpenAI's weights: each can be asked for, and tells other weights from OpenAI's."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

from gpt2.evaluation.questions import KINDS, Subject, lay_out
from gpt2.evaluation.verify import UNABLE, known_answers, summary, verify
from gpt2.model.checkpoint import Model
from gpt2.model.config import GPT2Config
from gpt2.model.transformer import GPT2
from gpt2.tokens.bpe import Tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")


def test_each_known_answer_has_a_source_and_a_question() -> None:
    answers = known_answers()
    assert len({(a.name, a.size) for a in answers}) == len(answers) > 25
    for a in answers:
        assert a.source and a.tolerance >= 0, a.name
        assert a.kind in {"shape", *KINDS, *UNABLE} and a.size in (None, "124M", "355M", "774M", "1558M")
        if a.kind in KINDS:
            given = {"ids" if name == "text" else name: value for name, value in a.given.items()}
            inspect.signature(KINDS[a.kind]).bind(None, **given)
        if a.kind == "greedy":
            text = a.expected if isinstance(a.expected, str) else Tokenizer.gpt2().decode(a.expected)
            assert len(Tokenizer.gpt2().encode(text)) == a.given["count"], a.name
        if isinstance(a.expected, list) and "count" in a.given:
            assert len(a.expected) == a.given["count"]
        if a.kind == "adamw":
            assert len(a.expected) == a.given["steps"] == 10


@pytest.mark.parametrize("size", ["124M", "355M", "774M", "1558M"])
def test_the_shape_and_vocabulary_of_each_of_openais_sizes_pass(size: str) -> None:
    with torch.device("meta"):
        net = GPT2(GPT2Config.size(size))
    answers = [a for a in known_answers() if a.size is None or a.kind == "shape" or size != "124M"]
    checks = verify(Model(net, Tokenizer.gpt2()), answers)
    assert [c.kind for c in checks if c.status == "passed"] == ["shape", "vocabulary", "tokens"]
    assert not [c for c in checks if c.status == "failed"]
    assert "nothing is wrong, but no check of the weights could run" in summary(checks)
    if size != "124M":
        why = {c.name: c.reason for c in checks}["greedy: hi"]
        assert why == f"the answer is known of the 124M, and the model has the shape of the {size}"


def test_random_weights_of_the_124m_are_told_from_openais() -> None:
    net = GPT2(GPT2Config.size("124M"))
    answers = [a for a in known_answers() if a.kind in ("shape", "argmax", "logit", "loss", "hidden")]
    checks = verify(Model(net, Tokenizer.gpt2()), answers)
    assert [c.status for c in checks] == ["passed", *["failed"] * 4, "not run"]
    assert summary(checks).startswith("1 passed, 4 failed, 1 could not run: these are not OpenAI's weights")


def test_a_vocabulary_that_is_not_gpt2s_is_named_and_texts_are_not_asked() -> None:
    pairs = Tokenizer.gpt2().pairs
    swapped = Tokenizer([*pairs[:-2], pairs[-1], pairs[-2]])
    with torch.device("meta"):
        net = GPT2(GPT2Config.size("124M"))
    answers = [a for a in known_answers() if "ids" not in a.given]
    checks = {c.name: c for c in verify(Model(net, swapped), answers)}
    assert (checks["merges"].status, checks["shape"].status) == ("failed", "passed")
    assert checks["merges"].reason == "the model's vocabulary of 50,257 tokens is not GPT-2's"
    assert checks["greedy: hi"].reason == "its text needs GPT-2's vocabulary, and the model has another"


def test_the_debug_batch_of_the_real_text_is_llm_cs(data: Path) -> None:
    batch = next(a.given["batch"] for a in known_answers() if a.kind == "batch_loss")
    with torch.device("meta"):
        net = GPT2(GPT2Config.size("124M"))
    subject = Subject(Model(net, Tokenizer.gpt2()), data)
    text = subject.text(batch)
    assert text is not None and text.startswith("First Citizen:\nBefore we proceed")
    ids = lay_out(text, Tokenizer.gpt2())
    assert len(ids) == 32_768 + 305_260 and ids[:5] == [50256, 5962, 22307, 25, 198]
    subject.device = torch.device("cpu")
    x, y = subject.cut(batch)
    assert x.shape == y.shape == (4, 64)
    assert x.flatten().tolist() == ids[:256] and y.flatten().tolist() == ids[1:257]
