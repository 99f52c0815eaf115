"""LAMBADA: equal to lm-evaluation-harness on both texts, and to a plain scorer where the harness has no rule."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import measured, ours
from trained_model import Trained

import gpt2
from gpt2.errors import FormatError
from gpt2.evaluation.detokenize import LAMBADA
from gpt2.evaluation.task import Item, LogLikelihood
from gpt2.evaluation.tasks.lambada import STOP_WORDS, STRAIGHT, TASKS, Lambada, read_openai, read_standard
from gpt2.inference.scoring import Score

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = 120
OPENAI, NEWLINE, STANDARD, DETOKENIZED = TASKS


@pytest.fixture(scope="module")
def openai(data: Path) -> list[Any]:
    return read_openai(data / "lambada" / "lambada_test.jsonl")


@pytest.fixture(scope="module")
def standard(data: Path) -> list[Any]:
    return read_standard(data / "lambada" / "lambada_test_plain_text.txt")


class Plain:
    """The trained model in transformers, and which of its tokens are stop words."""

    def __init__(self, folder: Path) -> None:
        from transformers import GPT2LMHeadModel, GPT2TokenizerFast

        self.net = GPT2LMHeadModel.from_pretrained(folder).eval()
        self.tok = GPT2TokenizerFast.from_pretrained(folder)
        words = [self.tok(" " + word).input_ids for word in STOP_WORDS]
        self.stop = torch.tensor([ids[0] for ids in words if len(ids) == 1])

    def logits(self, ids: list[int], last: int) -> torch.Tensor:
        """What is expected after each of the `last` tokens of `ids`."""
        with torch.inference_mode():
            return self.net(torch.tensor([ids])).logits[0, -last:]

    def without_stop_words(self, logits: torch.Tensor) -> int:
        return int(logits.index_fill(0, self.stop, -math.inf).argmax())


@pytest.fixture(scope="module")
def plain(trained: Trained) -> Plain:
    return Plain(trained.huggingface)


@pytest.fixture(scope="module")
def rows(openai: list[Any], standard: list[Any], trained: Trained, plain: Plain) -> dict[str, list[Any]]:
    """Real passages; every third ends as the small model itself goes on, and every third in its likeliest word
    that is no stop word, for it guesses none of the real words, and equal zeros would say little."""
    made = {}
    for name, real in (("openai", openai[:ROWS]), ("standard", standard[:ROWS])):
        contexts = [row["text"].rpartition(" ")[0] for row in real]
        written = gpt2.generate(trained.model, contexts, max_tokens=8, temperature=0)
        made[name] = list(real)
        for i, context in enumerate(contexts):
            (logits,) = plain.logits(plain.tok(context).input_ids, 1)
            word = written[i] if i % 3 == 1 else plain.tok.decode([plain.without_stop_words(logits)])
            if i % 3 and word.startswith(" ") and word.split():
                made[name][i] = {"text": f"{context} {word.split()[0]}"}
    return made


@pytest.mark.parametrize("text", ["openai", "standard"])
def test_it_equals_lm_evaluation_harness(
    text: str, rows: dict[str, list[Any]], trained: Trained, harness: Any, tmp_path: Path
) -> None:
    task = OPENAI if text == "openai" else STANDARD
    theirs, samples = measured(harness, f"lambada/lambada_{text}.yaml", rows[text], tmp_path)
    found = ours(trained.model, task, rows[text])
    accuracy, perplexity, *_ = (found.values[p.name] for p in task.protocols)
    for asked, sample in zip(found.asked, samples, strict=True):
        ((logprob, greedy),) = sample["resps"][0]
        request, score = asked.item.requests[0], asked.replies[0]
        assert isinstance(request, LogLikelihood) and isinstance(score, Score)
        assert (request.context, request.continuation) == tuple(sample["arguments"][0])
        assert score.logprob == pytest.approx(float(logprob), rel=1e-5, abs=1e-4)
        assert score.is_greedy == (str(greedy) == "True")
    assert accuracy == theirs["acc,none"]
    assert math.exp(perplexity) == pytest.approx(theirs["perplexity,none"], rel=1e-5)
    assert 0.1 < accuracy < 0.9


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.protocols[0].name)
def test_it_equals_a_plain_scorer(
    task: Lambada, rows: dict[str, list[Any]], trained: Trained, plain: Plain
) -> None:
    own = rows["openai" if task in (OPENAI, NEWLINE) else "standard"]
    expected = dict.fromkeys(("last-word", "last-word-perplexity", "last-token", "filtered"), 0.0)
    for row in own:
        text = row["text"]
        if task is NEWLINE:
            text = "\n" + text.replace("“", '"').replace("”", '"').replace("‘", "'").replace("’", "'").strip()
        if task is DETOKENIZED:
            text = LAMBADA.detokenize(text)
        ids, word = plain.tok(text).input_ids, plain.tok(" " + text.split(" ")[-1]).input_ids
        assert ids[-len(word) :] == word
        logits, target = plain.logits(ids[:-1], len(word)), torch.tensor(word)
        greedy = logits.argmax(-1) == target
        allowed = text.split(" ")[-1] not in STOP_WORDS and plain.without_stop_words(logits[0]) == word[0]
        expected["last-word"] += bool(greedy.all())
        expected["last-word-perplexity"] -= float(logits.log_softmax(-1)[range(len(word)), target].sum())
        expected["last-token"] += bool(greedy[-1])
        expected["filtered"] += bool(allowed and greedy[1:].all())
    found = ours(trained.model, task, own)
    for protocol, rule in zip(task.protocols, expected, strict=True):
        assert protocol.name.endswith(rule)
        assert found.values[protocol.name] == pytest.approx(expected[rule] / len(own), rel=1e-5), rule
    assert len({expected["last-word"], expected["last-token"], expected["filtered"]}) == 3
    assert min(expected.values()) >= 2  # each rule is met by some passages, and not by as many as another
    assert any(len(asked.replies) == 2 for asked in found.asked), "stop words were asked for"


def test_the_rows_at_hand_have_the_known_constants(openai: list[Any]) -> None:
    """4,000 of 5,153. Of all: 4,010 targets of one token (77.8 %), 1.2756 tokens a target, longest passage 224
    tokens, 47 targets stop words (0.91 %), 20.8 % of targets not in the context; every text splits alike."""
    tok = gpt2.Tokenizer.gpt2()
    texts = [row["text"] for row in openai]
    whole = [tok.encode(text) for text in texts]
    parts = [text.rpartition(" ") for text in texts]
    words = [tok.encode(" " + word) for _, _, word in parts]
    assert len(texts) == 4000
    assert sum(map(len, whole)) == 333_851
    assert max(map(len, whole)) == 224
    assert all(tok.encode(c) + w == ids for (c, _, _), w, ids in zip(parts, words, whole, strict=True)), (
        "context and word apart are the tokens of the whole"
    )
    assert sum(len(word) == 1 for word in words) == 3089  # 77.2 %
    assert sum(map(len, words)) == 5128  # 1.282 a target
    assert sum(text.split()[-1] in STOP_WORDS for text in texts) == 37  # 0.93 %
    contexts = [re.findall(r"[\w'’-]+", context.lower()) for context, _, _ in parts]
    absent = [text.split()[-1].lower() not in found for text, found in zip(texts, contexts, strict=True)]
    assert sum(absent) == 834  # 20.9 %
    assert len(set(STOP_WORDS)) == 127


def test_both_texts_have_the_same_passages_and_words(openai: list[Any], standard: list[Any]) -> None:
    last = [
        (a["text"].split()[-1].lower(), b["text"].split()[-1]) for a, b in zip(openai, standard, strict=True)
    ]
    assert sum(a == b for a, b in last) > 0.99 * len(last)


def test_openai_s_variant_has_a_newline_and_straight_quotes() -> None:
    (item,) = NEWLINE.items([{"text": " “It’s on the ‘left’,” said the captain "}])
    assert isinstance(item, Item) and item.requests == [
        LogLikelihood("\n\"It's on the 'left',\" said the", " captain", start="none")
    ]
    assert "“".translate(STRAIGHT) == '"'


def test_rows_that_cannot_be_asked_are_named(trained: Trained, tmp_path: Path) -> None:
    good = {"text": "The captain looked at the sea and the sea looked at the captain"}
    lines: list[bytes] = [
        json.dumps(good).encode(),
        b'{"sentence": "no text"}',
        b'{"text": 3}',
        b"[1, 2]",
        b"not json",
        b'{"text": "caf\xe9"}',
        b'{"text": ""}',
        b'{"text": "a passage that ends with a space "}',
        b'{"text": "Word"}',
        json.dumps({"text": "A word that is longer than the window: " + "abcdefgh" * 512}).encode(),
        json.dumps({"text": "on and " * 1500 + "on"}).encode(),
    ]
    file = tmp_path / "lambada_test.jsonl"
    file.write_bytes(b"\n".join(lines) + b"\n")
    found = ours(trained.model, OPENAI, read_openai(file))
    assert [asked.item.id for asked in found.asked] == ["0", "10"]
    assert [asked.cut for asked in found.asked] == [False, True]
    assert {bad.id: bad.reason for bad in found.malformed} == {
        "1": "no 'text'",
        "2": "'text' is no text",
        "3": "not a JSON object",
        "4": "not JSON",
        "5": "not UTF-8: byte 0xe9 where no character begins",
        "6": "no last word: the passage is empty or ends with a space",
        "7": "no last word: the passage is empty or ends with a space",
        "8": "nothing before the last word",
        "9": "the target has more tokens than the model's context of 512",
    }
    file.write_bytes(b"\n".join([b"the captain looked", b"caf\xe9 au lait", b"at the sea"]))
    assert [row if isinstance(row, dict) else row.id for row in read_standard(file)] == [
        {"text": "the captain looked"},
        "1",
        {"text": "at the sea"},
    ]


def test_a_file_of_another_format_is_refused_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "lambada_test.jsonl"
    file.write_text("the captain looked\nat the sea\n")
    with pytest.raises(FormatError, match="no line that is a JSON object with text"):
        read_openai(file)
    file.write_text("")
    with pytest.raises(FormatError, match="is empty"):
        read_standard(file)
