"""CoQA: questions about a passage, asked in conversation (paper 3.5).

The model reads the passage, the conversation so far, and a final `A:`, and goes on greedily. An answer ends
at the line's end; without that cut F1 collapses, for the model goes on to ask itself the next question. The
prompt is laid out as in the paper's tables 16 and 17. An item is a whole story. Three ways:

    gold       the answers before are the annotators' first, as in the paper's printed examples
    own        they are the model's own, as in a real conversation: each turn waits for the one before
    harness    lm-evaluation-harness's coqa: only the last question of a story, empty lines between turns,
               references that differ in letter case alone counted once

F1 is the official script's: over words, the mean over references left out in turn of the best of the others.
Of a prompt that does not fit, the passage's beginning is left out.

    gpt2 evaluate MODEL --tasks coqa
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2.errors import FormatError
from gpt2.evaluation.answers import coqa_f1
from gpt2.evaluation.protocol import Protocol
from gpt2.evaluation.task import Generate, Item, Malformed, Measured, Reply, Task
from gpt2.workspace import Json

ANSWER = 32
"""Tokens of an answer at most; people's have three words on average."""
HARNESS_ANSWER = 256
"""The same in lm-evaluation-harness."""

PROMPT = "{passage}\n\nQ: {question}\nA: {answer}\n...\nQ: {question}\nA:"


def protocol(name: str, **changes: Any) -> Protocol:
    """What the three ways have in common."""
    fields: dict[str, Any] = {
        "start": "none",
        "target": "word F1, best of the references, each left out in turn",
        "denominator": "questions",
        "prompt": PROMPT,
        "decoding": f"greedy, at most {ANSWER} tokens",
        "cut": "at the first newline",
        **changes,
    }
    return Protocol("coqa", name, "F1", "coqa", "percent", unit="story", **fields)


def read(path: Path) -> list[Json | Malformed]:
    """CoQA's JSON, or its list of stories alone; stories in which something is missing come as `Malformed`."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise FormatError(f"{path} is not JSON; give CoQA's file as it was published") from None
    stories = content.get("data") if isinstance(content, dict) else content
    if not isinstance(stories, list):
        raise FormatError(f"{path} has no list of stories under 'data'; give CoQA's file as it was published")
    rows = [parsed(i, story) for i, story in enumerate(stories)]
    if all(isinstance(row, Malformed) for row in rows):
        reason = next((row.reason for row in rows if isinstance(row, Malformed)), "it has none")
        raise FormatError(f"{path} has no story of CoQA ({reason}); give CoQA's file as it was published")
    return rows


def parsed(i: int, story: Any) -> Json | Malformed:
    """A story as passage, questions, and the references of each; or what is wrong with it."""
    try:
        name, passage, questions = str(story.get("id", i)), story["story"], turns(story["questions"])
        people = [
            turns(answers) for answers in (story["answers"], *story.get("additional_answers", {}).values())
        ]
    except (KeyError, TypeError, AttributeError) as error:
        return Malformed(str(i), f"a story without {error}" if isinstance(error, KeyError) else "no story")
    if not isinstance(passage, str) or not passage.strip():
        return Malformed(name, "the passage is empty")
    if not questions or any(answers.keys() != questions.keys() for answers in people):
        return Malformed(name, "questions and answers do not have the same turns")
    texts = [*questions.values(), *(text for answers in people for text in answers.values())]
    if not all(isinstance(text, str) for text in texts):
        return Malformed(name, "a question or answer is not text")
    order = sorted(questions)
    return {
        "id": name,
        "passage": passage,
        "questions": [questions[turn] for turn in order],
        "references": [[answers[turn] for answers in people] for turn in order],
    }


def turns(list_of_turns: Any) -> dict[int, Any]:
    """Questions or answers by their turn."""
    return {turn["turn_id"]: turn["input_text"] for turn in list_of_turns}


class Coqa(Task):
    """Conversations; all three ways in one pass."""

    name = "coqa"
    protocols = (
        protocol("gold"),
        protocol("own"),
        protocol(
            "harness",
            target="word F1 of the last question, best of the references, each left out in turn",
            denominator="stories",
            prompt="{passage}\n\nQ: {question}\n\nA: {answer}\n\n...\n\nQ: {question}\n\nA:",
            decoding=f"greedy, at most {HARNESS_ANSWER} tokens",
            cut="at the next question, then the first line",
        ),
    )
    whole = 500

    def items(self, rows: Sequence[Json | Malformed]) -> Iterator[Item | Malformed]:
        """A story: each of its questions after people's answers, and the last in the harness's form."""
        for row in rows:
            if isinstance(row, Malformed):
                yield row
                continue
            gold = [references[0] for references in row["references"]]
            asked = [turn(row, gold[:i]) for i in range(len(gold))]
            last = Generate(prompt(row, gold[:-1], "\n\n"), HARNESS_ANSWER, ["\nQ:"])
            yield Item(row["id"], [*asked, last], facts=row)

    def follow(self, item: Item, replies: Sequence[Reply]) -> Sequence[Generate]:
        """The next question, after the model's own answers."""
        given = own_answers(item, replies)
        return [turn(item.facts, given)] if len(given) < len(item.facts["questions"]) else []

    def measure(self, item: Item, replies: Sequence[Reply]) -> Mapping[str, Measured]:
        """F1 of a story's answers."""
        references = item.facts["references"]
        n = len(references)
        last = str(replies[n]).strip().split("\n")[0]
        distinct = {text.lower(): text for text in reversed(references[-1])}  # the first of each spelling
        return {
            "gold": total([clean(reply) for reply in replies[:n]], references),
            "own": total(own_answers(item, replies), references),
            "harness": Measured(coqa_f1(last, list(distinct.values())), 1.0, last),
        }


def prompt(story: Json, answers: Sequence[str], gap: str = "\n") -> str:
    """The passage, the turns that have answers, and the next question."""
    questions = story["questions"]
    said = "".join(f"Q: {q}{gap}A: {a}{gap}" for q, a in zip(questions, answers, strict=False))
    return f"{story['passage']}\n\n{said}Q: {questions[len(answers)]}{gap}A:"


def turn(story: Json, answers: Sequence[str]) -> Generate:
    """The question after these answers."""
    return Generate(prompt(story, answers), ANSWER, ["\n"])


def clean(reply: Reply) -> str:
    """An answer without the space before it."""
    return str(reply).strip()


def own_answers(item: Item, replies: Sequence[Reply]) -> list[str]:
    """The model's answers after its own: the first question has none before it, the others came later."""
    asked = len(item.requests)
    return [clean(replies[0]), *(clean(reply) for reply in replies[asked:])]


def total(answers: Sequence[str], references: Sequence[Sequence[str]]) -> Measured:
    """The sum of the F1 of a story's answers."""
    scores = [coqa_f1(answer, own) for answer, own in zip(answers, references, strict=True)]
    return Measured(sum(scores), float(len(scores)), "\n".join(answers))


TASKS = (Coqa(),)
