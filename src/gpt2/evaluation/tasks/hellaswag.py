"""HellaSwag: how an everyday scene goes on, one true ending of four. The yardstick of those who train.

Not in the paper, which is older; but what llm.c and others measure while they train, against GPT-2's own
numbers. Two programs, two ways of writing the text, two ways of comparing endings of unequal length each:

    llmc            llm.c's: the context as it is, an ending after a space; the endings' sums of logarithms
    llmc-norm       the same, by their means over tokens, which llm.c reports
    harness         lm-evaluation-harness's `acc`: "activity: context", WikiHow's marks in brackets taken out
    harness-norm    its `acc_norm`: sums divided by the endings' lengths in characters

    gpt2 evaluate MODEL --tasks hellaswag
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2.evaluation.protocol import Protocol
from gpt2.evaluation.rows import read_json_lines
from gpt2.evaluation.task import Choices, Item, Malformed, Measured, Reply, Task
from gpt2.workspace import Json

ENDINGS = 4


def read(path: Path) -> list[Json | Malformed]:
    """The file as published: JSON lines with context, its two parts, activity, endings and label."""
    fields = {"ctx": str, "ctx_a": str, "ctx_b": str, "activity_label": str, "endings": list, "label": int}
    rows = read_json_lines(path, fields)
    return [row if isinstance(row, Malformed) else checked(str(i), row) for i, row in enumerate(rows)]


def checked(name: str, row: Json) -> Json | Malformed:
    """A row, or what is wrong with it."""
    endings = row["endings"]
    if len(endings) != ENDINGS or not all(isinstance(e, str) and e.strip() for e in endings):
        return Malformed(name, f"not {ENDINGS} endings")
    if not 0 <= row["label"] < ENDINGS:
        return Malformed(name, "'label' is the place of no ending")
    return row if row["ctx"].strip() else Malformed(name, "the context is empty")


def without_marks(text: str) -> str:
    """Text without WikiHow's marks, as lm-evaluation-harness cleans it."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def protocol(name: str, target: str, prompt: str) -> Protocol:
    """One of the four ways."""
    return Protocol(
        "hellaswag",
        name,
        "accuracy",
        "hellaswag",
        "percent",
        start="none",
        target=f"the likeliest ending, by {target}",
        denominator="scenes",
        prompt=prompt,
    )


class HellaSwag(Task):
    """All four ways in one pass."""

    name = "hellaswag"
    whole = 10_042
    protocols = (
        protocol("llmc", "the sum over its tokens", "{ctx} {ending}"),
        protocol("llmc-norm", "the mean over its tokens", "{ctx} {ending}"),
        protocol("harness", "the sum over its tokens", "{activity_label}: {ctx_a} {ctx_b} {ending}"),
        protocol("harness-norm", "the sum a character", "{activity_label}: {ctx_a} {ctx_b} {ending}"),
    )

    def items(self, rows: Sequence[Json | Malformed]) -> Iterator[Item | Malformed]:
        """Both ways of writing context and endings."""
        for i, row in enumerate(rows):
            if isinstance(row, Malformed):
                yield row
                continue
            scene = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
            query, cleaned = without_marks(scene), [without_marks(e) for e in row["endings"]]
            if not all(cleaned):
                yield Malformed(str(i), "an ending has nothing but marks in brackets")
                continue
            context = query.rstrip()  # the harness moves spaces at its end to the ending
            spaces = query[len(context) :]
            yield Item(
                str(i),
                [
                    Choices([(row["ctx"], f" {e}") for e in row["endings"]], start="none"),
                    Choices([(context, f"{spaces} {e}") for e in cleaned], start="none"),
                ],
                facts={
                    "endings": row["endings"],
                    "label": row["label"],
                    "lengths": [len(e) for e in cleaned],
                },
            )

    def measure(self, item: Item, replies: Sequence[Reply]) -> Mapping[str, Measured]:
        """Whether the true ending comes out first; of equal ones, the first, as both programs have it."""
        given: Any = replies
        plain, cleaned = ([(s.logprob, len(s.tokens)) for s in scores] for scores in given)
        values = {
            "llmc": [logprob for logprob, _ in plain],
            "llmc-norm": [logprob / tokens for logprob, tokens in plain],
            "harness": [logprob for logprob, _ in cleaned],
            "harness-norm": [
                logprob / length for (logprob, _), length in zip(cleaned, item.facts["lengths"], strict=True)
            ],
        }
        found = {name: scores.index(max(scores)) for name, scores in values.items()}
        return {
            name: Measured(float(place == item.facts["label"]), output=item.facts["endings"][place])
            for name, place in found.items()
        }


TASKS = (HellaSwag(),)
