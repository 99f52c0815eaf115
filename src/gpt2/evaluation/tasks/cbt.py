"""The Children's Book Test: which of ten words was left out of a sentence (paper 3.2).

Twenty sentences of a children's book, then one with a blank; the ten candidates, common nouns (CN) or named
entities (NE), are words of the passage. As the paper has it, the probability of a candidate is that of the
candidate *and the rest of the sentence given it*, and the likeliest of the ten is the answer: `rest`. Under
`choice` the rest of the sentence does not count. What stands before the blank is the twenty sentences and the
question's beginning, joined by spaces; of a passage that does not fit into the model's context with what is
scored, the beginning is not read, and all ten candidates are given the same part of it.

The test's files are Penn-style tokens. The paper removed them by de-tokenisers that were not published; ours
are `gpt2.evaluation.detokenize.CBT`, put to the whole passage with the blank in it, so that a blank after an
opening quote is read as a book prints it. `rest-tokenized` and `choice-tokenized` are the files as they are,
which costs GPT-2 much of its accuracy on names.

The paper measured the validation questions, 2,000 of each kind: a book of the test is in WebText.

    gpt2 evaluate MODEL --tasks cbt-cn cbt-ne
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2.errors import FormatError
from gpt2.evaluation.detokenize import CBT
from gpt2.evaluation.protocol import Protocol
from gpt2.evaluation.rows import read_lines
from gpt2.evaluation.task import Choices, Item, Malformed, Measured, Reply, Task
from gpt2.workspace import Json

BLANK = "XXXXX"
SENTENCES = 20
CANDIDATES = 10


def read(path: Path) -> list[Json | Malformed]:
    """Questions in the original format.

    Lines 1 to 20 are a number, a space and a sentence; line 21 has the question, the answer and, after an empty
    field, the candidates joined by `|`, with tabs between; then a blank line.
    """
    questions: list[list[str | Malformed]] = [[]]
    for line in read_lines(path):
        if isinstance(line, Malformed) or line.strip():
            questions[-1].append(line)
        elif questions[-1]:
            questions.append([])
    rows = [parsed(str(i), lines) for i, lines in enumerate(questions) if lines]
    if all(isinstance(row, Malformed) for row in rows):
        raise FormatError(
            f"{path} has no question of the Children's Book Test: 21 numbered lines, the last with {BLANK}, its "
            "answer and ten candidates; give a file of CBTest.tgz as it is"
        )
    return rows


def parsed(name: str, lines: Sequence[str | Malformed]) -> Json | Malformed:
    """A question's parts, or what is wrong with it."""
    texts = []
    for i, line in enumerate(lines, 1):
        if isinstance(line, Malformed):
            return Malformed(name, line.reason)
        if not line.startswith(f"{i} "):
            return Malformed(name, f"line {i} of the question does not begin with its number")
        texts.append(line.partition(" ")[2].rstrip("\r"))
    if len(texts) != SENTENCES + 1:
        return Malformed(name, f"{len(texts)} lines instead of {SENTENCES + 1}")
    question, *fields = texts.pop().split("\t")
    candidates = list(dict.fromkeys(fields[-1].split("|"))) if len(fields) >= 2 else []
    if question.count(BLANK) != 1:
        return Malformed(name, f"the question has not one {BLANK}")
    if len(candidates) != CANDIDATES or not all(c.strip() for c in candidates):
        return Malformed(name, f"not {CANDIDATES} different candidates")
    if fields[0] not in candidates:
        return Malformed(name, "the answer is none of the candidates")
    return {"sentences": texts, "question": question, "answer": fields[0], "candidates": candidates}


class ChildrensBookTest(Task):
    """One kind of question on one form of the text."""

    whole = 2000

    def __init__(self, kind: str, tokenized: bool = False) -> None:
        self.name = f"cbt-{kind}"
        self.tokenized = tokenized
        end = "-tokenized" if tokenized else ""
        detokenizer = "none" if tokenized else CBT.name
        self.protocols = tuple(
            Protocol(
                self.name,
                name + end,
                "accuracy",
                self.name,
                "percent",
                unit="question",
                detokenizer=detokenizer,
                target=f"the likeliest of ten: {target}",
                denominator="questions",
                prompt="{sentences} {question up to the blank}",
            )
            for name, target in (
                ("rest", "the candidate and the rest of the sentence"),
                ("choice", "the candidate"),
            )
        )

    def items(self, rows: Sequence[Json | Malformed]) -> Iterator[Item | Malformed]:
        """What stands before the blank, with each candidate and with the rest after it."""
        for i, row in enumerate(rows):
            if isinstance(row, Malformed):
                yield row
                continue
            before, after = self.around(row)
            context, space = before.rstrip(" "), before[len(before.rstrip(" ")) :]
            choices = [space + candidate for candidate in row["candidates"]]
            asked = [[(context, c + after) for c in choices], [(context, c) for c in choices]]
            facts = {key: row[key] for key in ("question", "answer", "candidates")}
            yield Item(str(i), [Choices(pairs) for pairs in asked], facts=facts)

    def around(self, row: Json) -> tuple[str, str]:
        """The text before the blank and after it."""
        lines = [*row["sentences"], row["question"]]
        text = " ".join(lines if self.tokenized else map(CBT.detokenize, lines))
        before, _, after = text.rpartition(BLANK)
        return before, after

    def measure(self, item: Item, replies: Sequence[Reply]) -> Mapping[str, Measured]:
        """Whether the answer is likelier than every other candidate."""
        return {p.name: best(item, scores) for p, scores in zip(self.protocols, replies, strict=True)}


def best(item: Item, scores: Any) -> Measured:
    """1 when the answer is likelier than every other candidate; as output, the likeliest."""
    candidates: list[str] = item.facts["candidates"]
    values = dict(zip(candidates, [s.logprob for s in scores], strict=True))
    answer = values[item.facts["answer"]]
    right = all(value < answer for name, value in values.items() if name != item.facts["answer"])
    return Measured(float(right), output=max(values, key=lambda name: values[name]))


TASKS = tuple(ChildrensBookTest(kind, tokenized) for kind in ("cn", "ne") for tokenized in (False, True))
