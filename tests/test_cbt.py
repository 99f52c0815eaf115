"""The Children's Book Test: equal to a plain scorer, on the questions at hand and on some of our own making."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import ours
from trained_model import CONTEXT, Trained

from gpt2.errors import FormatError
from gpt2.evaluation.detokenize import CBT
from gpt2.evaluation.task import Choices, Item
from gpt2.evaluation.tasks.cbt import BLANK, TASKS, ChildrensBookTest, read

pytestmark = pytest.mark.usefixtures("one_thread")
RULES = ("rest", "choice")


def questions_of(novel: str, n: int) -> str:
    """A file in the original format: 21 sentences of a novel, a word of the last left out, nine others."""
    novel = re.sub(r"\s+", " ", re.sub(r"['\"`“”‘’*_()]|--", " ", novel))
    sentences = [
        " ".join(re.findall(r"\w+|[^\w\s]", s)) for s in re.findall(r"[A-Z][^.!?]{20,90}[.!?]", novel)
    ]
    draw, blocks = random.Random(0), []
    for k in range(0, 21 * n, 21):
        *before, question = sentences[k : k + 21]
        words = [w for w in question.split() if w.isalpha()]
        answer = draw.choice(words[1:])
        others = sorted({w for s in before for w in s.split() if w.isalpha()} - {answer})
        candidates = sorted([answer, *draw.sample(others, 9)])
        place = question.split().index(answer)
        blank = " ".join([*question.split()[:place], BLANK, *question.split()[place + 1 :]])
        lines = [f"{i} {line}" for i, line in enumerate(before, 1)]
        blocks.append("\n".join([*lines, f"21 {blank}\t{answer}\t\t{'|'.join(candidates)}"]))
    return "\n\n".join(blocks) + "\n\n"


@pytest.fixture(scope="module")
def files(data: Path, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """All questions at hand, and six of our own."""
    own = tmp_path_factory.mktemp("cbt") / "cbtest_NE_valid_2000ex.txt"
    own.write_text(questions_of(trained.heldout[20_000:], 6), encoding="utf-8")
    return [*sorted((data / "cbt").glob("cbtest_*.txt")), own]


@pytest.mark.parametrize("task", TASKS[:2], ids=["detokenized", "tokenized"])
def test_it_equals_a_plain_scorer(task: ChildrensBookTest, files: list[Path], trained: Trained) -> None:
    from transformers import GPT2LMHeadModel, GPT2TokenizerFast

    net = GPT2LMHeadModel.from_pretrained(trained.huggingface).eval()
    tok = GPT2TokenizerFast.from_pretrained(trained.huggingface)
    rows = [row for file in files for row in read(file)]
    right, cut = dict.fromkeys(RULES, 0), 0
    for row in rows:
        assert isinstance(row, dict)
        lines = [*row["sentences"], row["question"]]
        text = " ".join(lines if task.tokenized else [CBT.detokenize(line) for line in lines])
        context, rest = re.fullmatch(rf"(.*) {BLANK}(.*)", text, re.S).groups()  # type: ignore[union-attr]
        past = [tok.eos_token_id, *tok(context).input_ids]
        choices = [tok(f" {candidate}").input_ids for candidate in row["candidates"]]
        ends = tok(rest).input_ids
        cut += len(past) + max(map(len, choices)) + len(ends) > CONTEXT + 1
        for rule, tails in (("rest", [choice + ends for choice in choices]), ("choice", choices)):
            room = CONTEXT + 1 - max(map(len, tails))
            values = []
            for tail in tails:
                ids = torch.tensor([past[-room:] + tail])
                with torch.inference_mode():
                    logprobs = net(ids[:, :-1]).logits[0, -len(tail) :].log_softmax(-1)
                values.append(float(logprobs.gather(1, ids[0, -len(tail) :, None]).sum()))
            answer = row["candidates"].index(row["answer"])
            right[rule] += all(v < values[answer] for k, v in enumerate(values) if k != answer)
    found = ours(trained.model, task, rows)
    for protocol, rule in zip(task.protocols, RULES, strict=True):
        assert protocol.name == rule + ("-tokenized" if task.tokenized else "")
        assert sum(m[protocol.name].numerator for m in found.measured) == right[rule], rule
        assert sum(m[protocol.name].denominator for m in found.measured) == len(rows) == 12
    assert sum(asked.cut for asked in found.asked) == cut > 0
    assert all(1 < count < len(rows) for count in right.values())


def test_a_question_is_asked_as_the_paper_has_it(data: Path) -> None:
    rows = read(data / "cbt" / "cbtest_NE_valid_2000ex.head.txt")
    for task, end in ((TASKS[2], "almost upon her."), (TASKS[3], "almost upon her .")):
        (item,) = task.items(rows)
        assert isinstance(item, Item)
        rest, choice = item.requests
        assert isinstance(rest, Choices) and isinstance(choice, Choices)
        assert rest.pairs[0][0].startswith("At first she would")
        assert rest.pairs[0][0].endswith(" Johnny")
        assert rest.pairs[0][1] == f" Chuck looked up to see a dog {end}"
        assert choice.pairs[0] == (rest.pairs[0][0], " Chuck")
        assert len(rest.pairs) == len(choice.pairs) == 10
    assert {task.protocols[0].data for task in TASKS} == {"cbt-cn", "cbt-ne"}


def test_a_blank_at_an_edge_is_asked_too(trained: Trained) -> None:
    names = ["Ann", "Bob", "Cat", "Dan", "Eve", "Fay", "Gus", "Hal", "Ida", "Jon"]
    row = {"sentences": ["It was late ."] * 20, "answer": "Eve", "candidates": names}
    edges = [f"`` {BLANK} ! ''", f"{BLANK} sang .", f"She saw {BLANK}"]
    found = ours(trained.model, TASKS[0], [row | {"question": question} for question in edges])
    requests: list[Any] = [asked.item.requests for asked in found.asked]
    assert [(rest.pairs[4][0][-3:], rest.pairs[4][1]) for rest, _ in requests] == [
        ('. "', 'Eve!"'),
        ("te.", " Eve sang."),
        ("saw", " Eve"),
    ]
    assert not found.malformed


def test_rows_that_cannot_be_asked_are_named(trained: Trained, tmp_path: Path) -> None:
    question = f"21 She saw {BLANK} there .\tEve\t\tAnn|Bob|Cat|Dan|Eve|Fay|Gus|Hal|Ida|Jon"

    def block(last: str = question, lines: int = 20, sentence: str = "It was late .") -> bytes:
        return "\n".join([*(f"{i} {sentence}" for i in range(1, lines + 1)), last]).encode()

    blocks = [
        block(),
        block(lines=19),
        block(question.replace("21 ", "")),
        block(question.replace(BLANK, "nobody")),
        block(question.replace("Ann|", "")),
        block(question.replace("Ann|", "Bob|")),
        block(question.replace("\tEve\t", "\tEva\t")),
        block().replace(b"late", b"\xe9t\xe9", 1),
        block(f"21 She saw {BLANK}.\tEve"),
        block(question.replace("there", "there " * 700)),
        block(sentence="It was late and dark and cold . " * 20),
    ]
    file = tmp_path / "cbtest_NE_valid_2000ex.txt"
    file.write_bytes(b"\n\n".join(blocks) + b"\n")
    found = ours(trained.model, TASKS[0], read(file))
    assert [(asked.item.id, asked.cut) for asked in found.asked] == [("0", False), ("10", True)]
    assert {bad.id: bad.reason for bad in found.malformed} == {
        "1": "line 20 of the question does not begin with its number",
        "2": "line 21 of the question does not begin with its number",
        "3": f"the question has not one {BLANK}",
        "4": "not 10 different candidates",
        "5": "not 10 different candidates",
        "6": "the answer is none of the candidates",
        "7": "not UTF-8: byte 0xe9 where no character begins",
        "8": "not 10 different candidates",
        "9": f"the target has more tokens than the model's context of {CONTEXT}",
    }
    file.write_text("Once upon a time\nthere was a file\n")
    with pytest.raises(FormatError, match=r"no question of the Children's Book Test"):
        read(file)
