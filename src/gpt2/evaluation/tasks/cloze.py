"""Cloze questions that `gpt2 cloze` made of a user's own documents (see `gpt2.evaluation.cloze`).

    last-word               every token of the passage's last word is the likeliest, as in `lambada/last-word`
    last-word-perplexity    exp of the mean of -log P(last word)
    nouns, names            the word of the ten for which P(word and the rest of the sentence) is greatest, as in
                            `cbt-cn/rest`

Guessing gives 10 % for nouns. Where a context has fewer than ten names, nouns fill the ten, which a capital
letter tells from the answer; so for names guessing is what `guess` says, and the run's remarks.

The twenty sentences before a ten-choice question are joined by spaces; of those that do not fit into the
model's context the first are not read. Intervals are drawn over the sources of the questions. The file is
`cloze.jsonl`; of the copies in the original formats beside it no source is known.

    gpt2 cloze my_texts/ cloze && gpt2 evaluate MODEL --tasks cloze --data cloze
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2.evaluation.protocol import Protocol
from gpt2.evaluation.rows import read_json_lines
from gpt2.evaluation.task import Choices, Item, LogLikelihood, Malformed, Measured, Reply, Task
from gpt2.evaluation.tasks.cbt import best
from gpt2.workspace import Json

BLANK = "XXXXX"
LAST_WORD = "last-word"
FIELDS = {"kind": str, "context": list, "question": str, "answer": str, "choices": list, "group": str}


def read(path: Path) -> list[Json | Malformed]:
    """Questions as `gpt2 cloze` writes them."""
    rows = read_json_lines(path, FIELDS)
    return [row if isinstance(row, Malformed) else checked(str(i), row) for i, row in enumerate(rows)]


def checked(name: str, row: Json) -> Json | Malformed:
    """A question, or what is wrong with it."""
    if row["kind"] not in (LAST_WORD, "nouns", "names"):
        return Malformed(name, f"unknown kind {row['kind']!r}")
    if not all(isinstance(word, str) for word in [*row["context"], *row["choices"]]):
        return Malformed(name, "context and choices are not texts")
    if row["kind"] != LAST_WORD and (
        row["question"].count(BLANK) != 1 or row["answer"] not in row["choices"]
    ):
        return Malformed(name, f"no {BLANK}, or the answer is none of the choices")
    return row


def guess(answer: str, choices: Sequence[str]) -> float:
    """The chance of the answer among the choices that are written as it is, with a capital or without."""
    alike = [word for word in choices if word[:1].isupper() == answer[:1].isupper()]
    return 1 / len(alike)


class OwnCloze(Task):
    """Questions of all kinds."""

    name = "cloze"
    protocols = (
        Protocol(
            "cloze",
            LAST_WORD,
            "accuracy",
            "cloze",
            "percent",
            unit="source",
            start="none",
            target="all tokens of the last word are greedy",
            denominator="passages",
        ),
        Protocol(
            "cloze",
            "last-word-perplexity",
            "perplexity",
            "cloze",
            "perplexity",
            unit="source",
            start="none",
            target="the last word",
            denominator="passages",
        ),
        *(
            Protocol(
                "cloze",
                kind,
                "accuracy",
                "cloze",
                "percent",
                unit="source",
                target="the likeliest of ten: the word and the rest of the sentence",
                denominator="questions",
                prompt="{20 sentences} {question up to the blank}",
            )
            for kind in ("nouns", "names")
        ),
    )

    def items(self, rows: Sequence[Json | Malformed]) -> Iterator[Item | Malformed]:
        """The last word after its passage, or each of the ten with the rest of its sentence."""
        for i, row in enumerate(rows):
            if isinstance(row, Malformed):
                yield row
                continue
            facts = {"kind": row["kind"], "question": row["question"], "answer": row["answer"]}
            if row["kind"] == LAST_WORD:
                asked: Any = LogLikelihood(row["question"], " " + row["answer"], start="none")
            else:
                before, _, after = " ".join([*row["context"], row["question"]]).rpartition(BLANK)
                asked = Choices([(before.removesuffix(" "), f" {word}{after}") for word in row["choices"]])
                facts["candidates"] = row["choices"]
            yield Item(str(i), [asked], row["group"], facts)

    def measure(self, item: Item, replies: Sequence[Reply]) -> Mapping[str, Measured]:
        """Whether the last word was the likeliest, and how likely; or whether the right one of ten was."""
        (reply,) = replies
        if item.facts["kind"] != LAST_WORD:
            return {item.facts["kind"]: best(item, reply)}
        assert not isinstance(reply, str | list)
        return {
            LAST_WORD: Measured(float(reply.is_greedy)),
            "last-word-perplexity": Measured(-reply.logprob),
        }

    def remarks(
        self,
        rows: Sequence[Json | Malformed],  # noqa: ARG002
        done: Sequence[tuple[Item, Mapping[str, Measured]]],
    ) -> Sequence[str]:
        """What guessing would give, and how many sources there are."""
        lines = []
        for kind in (LAST_WORD, "nouns", "names"):
            own = [item for item, _ in done if item.facts["kind"] == kind]
            if own:
                sources = f"{kind}: {len(own):,} questions of {len({item.group for item in own}):,} sources"
                chances = [
                    guess(item.facts["answer"], item.facts["candidates"]) for item in own if kind != LAST_WORD
                ]
                at = f", guessing is right in {100 * sum(chances) / len(chances):.1f} %" if chances else ""
                lines.append(sources + at)
        return lines


TASKS = (OwnCloze(),)
