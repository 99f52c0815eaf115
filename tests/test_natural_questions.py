"""Natural Questions: equal to lm-evaluation-harness on the same rows; how sure the model is; malformed rows."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import measured, ours, reader
from huggingface import to_huggingface
from trained_model import Trained

import gpt2
from gpt2.evaluation.answers import normalized
from gpt2.evaluation.task import Generate, Item, Malformed, Measured
from gpt2.evaluation.tasks.natural_questions import EXAMPLES, PAIRS, TASKS, read
from gpt2.model.device import PLAIN
from gpt2.training.optimizer import make_optimizer
from gpt2.training.step import train_step

pytestmark = pytest.mark.usefixtures("one_thread")
(QUESTIONS,) = TASKS
ROWS = 60


@pytest.fixture(scope="module")
def rows(data: Path) -> list[Any]:
    """Real questions."""
    return read(data / "nq_open" / "NQ-open.dev.jsonl")[:ROWS]


@pytest.fixture(scope="module")
def taught(rows: list[Any], trained: Trained) -> gpt2.Model:
    """The trained model after it has read two thirds of the questions with an answer, again and again.

    So it answers in a few words, and of its answers some are right.
    """
    net, tok = copy.deepcopy(trained.model.net).train(), trained.model.tokenizer
    quiz = [
        tok.encode(f"Answer these questions:\n\nQ: {row['question']}?\nA: {row['answer'][0]}\n")
        for i, row in enumerate(rows)
        if i % 3
    ]
    longest = max(map(len, quiz))
    ids = torch.tensor([[*own, *[tok.end_of_text] * (longest - len(own))] for own in quiz])
    config, steps = gpt2.OptimizerConfig(learning_rate=6e-3), 200
    optimizer = make_optimizer(net, config)
    chosen = torch.randint(0, len(ids), (steps, 10), generator=torch.Generator().manual_seed(0))
    for i, some in enumerate(chosen):
        train_step(net, optimizer, ids[some], config.rate(i, steps), config.clip, PLAIN)
    return gpt2.Model(net.eval(), tok)


def test_the_harness_form_equals_lm_evaluation_harness(
    rows: list[Any], taught: gpt2.Model, tmp_path: Path
) -> None:
    taught.save(tmp_path / "ours")
    gpt2.convert(tmp_path / "ours", tmp_path / "theirs", to="huggingface")
    harness = reader(tmp_path / "theirs")
    theirs, samples = measured(harness, "nq_open/nq_open.yaml", rows, tmp_path)
    found = ours(taught, QUESTIONS, rows)
    for asked, own, sample in zip(found.asked, found.measured, samples, strict=True):
        request = asked.item.requests[1]
        assert isinstance(request, Generate)
        assert request.prompt == sample["arguments"][0][0]
        assert asked.replies[1] == sample["resps"][0][0]
        assert own["harness"].output == sample["filtered_resps"][0]
        assert own["harness"].numerator == sample["exact_match"]
    assert found.values["harness"] == pytest.approx(theirs["exact_match,remove_whitespace"])
    assert 0.05 < found.values["harness"] < 0.95, (
        "some are right and some are not, or equality would say little"
    )
    assert len({own["harness"].output for own in found.measured}) > 10


def test_confidence_is_the_probability_of_what_was_written(rows: list[Any], taught: gpt2.Model) -> None:
    theirs, tok = to_huggingface(taught.net), taught.tokenizer
    found = ours(taught, QUESTIONS, rows[:12])
    for asked, own in zip(found.asked, found.measured, strict=True):
        request, reply, score = asked.item.requests[0], str(asked.replies[0]), asked.replies[2]
        assert isinstance(request, Generate)
        assert request.prompt == f"{EXAMPLES}Q: {asked.item.facts['question']}?\nA:"
        written = tok.encode(reply + "\n")
        ids = [*tok.encode(request.prompt), *written][-513:]
        with torch.inference_mode():
            logits = theirs(torch.tensor([ids[:-1]])).logits[0, -len(written) :]
        each = logits.double().log_softmax(-1)[range(len(written)), written]
        assert own["exact-match"].confidence == pytest.approx(math.exp(float(each.sum())), rel=1e-4)
        assert own["most-confident"].confidence == own["exact-match"].confidence
        assert score.tokens == written  # type: ignore[union-attr]


def test_remarks_tell_the_curve_and_the_surest_answers() -> None:
    done = [
        (
            Item(str(i), (), facts={"question": f"question {i}"}),
            {"exact-match": Measured(float(i < 5), output=f"answer {i}", confidence=1 / (i + 1))},
        )
        for i in range(200)
    ]
    pairs, curve, _, *surest = QUESTIONS.remarks([], done[::-1])
    assert pairs.startswith("example pairs: ") and all(reply in pairs for _, reply in PAIRS)
    assert curve.startswith(
        "right among the most confident 1 %: 2 of 2 (100.0 %); 2 %: 4 of 4 (100.0 %); 5 %: 5 of 10 (50.0 %); "
    )
    assert curve.endswith("100 %: 5 of 200 (2.5 %)")
    assert len(surest) == 30
    assert surest[1] == " 50.0 % right  question 1? answer 1"
    assert surest[5] == " 16.7 % wrong  question 5? answer 5"
    assert not QUESTIONS.remarks([], [])


def test_example_pairs_are_no_questions_of_the_data_and_stand_in_the_protocol(data: Path) -> None:
    asked = {
        normalized(json.loads(line)["question"])
        for path in (data / "nq_open").glob("*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    }
    assert len(asked) > 4000
    assert not asked & {normalized(question) for question, _ in PAIRS}
    shown = {p.name: p.prompt for p in QUESTIONS.protocols}
    for question, right in PAIRS:
        assert f"Q: {question}?\nA: {right}\n" in shown["exact-match"]


def test_broken_rows_are_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "NQ-open.dev.jsonl"
    good = json.dumps({"question": "who", "answer": ["Ann"]}).encode()
    lines = [
        good,
        b'{"question": "who"}',
        b'{"question": " ", "answer": ["Ann"]}',
        b'{"question": "who", "answer": []}',
        b'{"question": "who", "answer": "Ann"}',
        b'{"question": "who", "answer": [7]}',
        b"{",
        b'{"question": "\xff", "answer": ["Ann"]}',
        good,
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    items = list(QUESTIONS.items(read(path)))
    assert [item.id for item in items] == [str(i) for i in range(9)]
    assert [i for i, item in enumerate(items) if isinstance(item, Item)] == [0, 8]
    assert [item.reason for item in items if isinstance(item, Malformed)] == [
        "no 'answer'",
        "the question is empty",
        "no answer, or one that is empty or no text",
        "'answer' is no list",
        "no answer, or one that is empty or no text",
        "not JSON",
        "not UTF-8: byte 0xff where no character begins",
    ]
