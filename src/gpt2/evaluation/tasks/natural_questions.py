"""Natural Questions, open: facts that the model must know by heart (paper 3.8).

The model reads example pairs of question and answer, so that it sees how short an answer is, then the
question, and goes on greedily to the line's end. An answer is right when it is one of the references after
SQuAD's normalisation. The paper's example pairs are not published; ours are `PAIRS`, public facts in the
form of the data, and are part of the protocol that is printed with the result.

How sure the model is of an answer is the probability of what it wrote, the line's end included: so the
probabilities of all answers to a question sum to 1, and an empty answer is not sure by having no tokens.
`most-confident` is the accuracy on the 1 % of questions with the surest answers; the run's remarks have the
curve, and the list of the paper's Table 5.

`harness` is lm-evaluation-harness's nq_open without examples: its prompt, its ends of an answer, its own
normalisation.

    gpt2 evaluate MODEL --tasks natural-questions
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gpt2.evaluation.answers import exact_match
from gpt2.evaluation.protocol import Protocol
from gpt2.evaluation.rows import read_json_lines
from gpt2.evaluation.task import Generate, Item, LogLikelihood, Malformed, Measured, Reply, Request, Task
from gpt2.workspace import Json

if TYPE_CHECKING:
    from gpt2.inference.scoring import Score

PAIRS = (
    ("who painted the ceiling of the sistine chapel", "Michelangelo"),
    ("what is the chemical symbol for gold", "Au"),
    ("in which year did the berlin wall fall", "1989"),
    ("how many strings does a violin have", "four"),
    ("who wrote the novel pride and prejudice", "Jane Austen"),
    ("which is the largest planet of the solar system", "Jupiter"),
    ("what city were the first modern olympic games held in", "Athens"),
    ("what is the longest river of south america", "the Amazon"),
)
"""Example questions and answers, written for this; none of them is a question of the data."""
EXAMPLES = "".join(f"Q: {question}?\nA: {answer}\n" for question, answer in PAIRS)
HARNESS = "Answer these questions:\n\n"
HARNESS_ARTICLES = re.compile(r"\b(?:The |the |An |A |The |a |an )")
HARNESS_PUNCTUATION = str.maketrans("", "", string.punctuation)
ANSWER = 32
HARNESS_ANSWER = 256
"""Tokens of an answer at most, and the same in lm-evaluation-harness."""
SURE = 30
"""Answers in the list of the surest, as in the paper's Table 5."""
SHARES = (1, 2, 5, 10, 20, 50, 100)
"""Per cent of the questions, those with the surest answers, of which the accuracy is told."""


def read(path: Path) -> list[Json | Malformed]:
    """NQ-open's JSON lines: a `question` and a list, `answer`."""
    return read_json_lines(path, {"question": str, "answer": list})


class NaturalQuestions(Task):
    """Exact match, how it goes with confidence, and the harness's form."""

    name = "natural-questions"
    protocols = (
        Protocol(
            "natural-questions",
            "exact-match",
            "exact match",
            "nq-open",
            "percent",
            unit="question",
            start="none",
            target="the answer is a reference, after SQuAD's normalisation",
            denominator="questions",
            prompt=EXAMPLES + "Q: {question}?\nA:",
            decoding=f"greedy, at most {ANSWER} tokens",
            cut="at the first newline",
        ),
        Protocol(
            "natural-questions",
            "most-confident",
            "accuracy of the 1 % most confident",
            "nq-open",
            "percent",
            unit="question",
            start="none",
            target="the answer is a reference, after SQuAD's normalisation; confidence is the probability of the "
            "answer and its newline",
            denominator="the 1 % of questions with the most confident answers",
            prompt=EXAMPLES + "Q: {question}?\nA:",
            decoding=f"greedy, at most {ANSWER} tokens",
            cut="at the first newline",
            most_confident=0.01,
        ),
        Protocol(
            "natural-questions",
            "harness",
            "exact match",
            "nq-open",
            "percent",
            unit="question",
            start="none",
            target="the answer is a reference, after the harness's normalisation",
            denominator="questions",
            prompt=HARNESS + "Q: {question}?\nA:",
            decoding=f"greedy, at most {HARNESS_ANSWER} tokens",
            cut="at the first newline, full stop or comma",
        ),
    )
    whole = 3610

    def items(self, rows: Sequence[Json | Malformed]) -> Iterator[Item | Malformed]:
        """A question in both forms."""
        for i, row in enumerate(rows):
            if isinstance(row, Malformed):
                yield row
            elif not row["question"].strip():
                yield Malformed(str(i), "the question is empty")
            elif not row["answer"] or not all(isinstance(a, str) and a.strip() for a in row["answer"]):
                yield Malformed(str(i), "no answer, or one that is empty or no text")
            else:
                asked = f"Q: {row['question']}?\nA:"
                requests = (
                    Generate(EXAMPLES + asked, ANSWER, ["\n"]),
                    Generate(HARNESS + asked, HARNESS_ANSWER, ["\n", ".", ","]),
                )
                yield Item(str(i), requests, facts={"question": row["question"], "answer": row["answer"]})

    def follow(self, item: Item, replies: Sequence[Reply]) -> Sequence[Request]:
        """How likely the answer was."""
        first = item.requests[0]
        if len(replies) > len(item.requests) or not isinstance(first, Generate):
            return ()
        return (LogLikelihood(first.prompt, f"{replies[0]}\n", start="none"),)

    def measure(self, item: Item, replies: Sequence[Reply]) -> Mapping[str, Measured]:
        """Whether the answers are right, and how sure the first was."""
        answer, theirs, score = str(replies[0]).strip(), str(replies[1]).lstrip(), cast("Score", replies[2])
        references = item.facts["answer"]
        right = exact_match(answer, references)
        sure = math.exp(score.logprob)
        return {
            "exact-match": Measured(right, output=answer, confidence=sure),
            "most-confident": Measured(right, output=answer, confidence=sure),
            "harness": Measured(harness_match(theirs, references), output=theirs),
        }

    def remarks(
        self,
        rows: Sequence[Json | Malformed],  # noqa: ARG002
        done: Sequence[tuple[Item, Mapping[str, Measured]]],
    ) -> Sequence[str]:
        """The accuracy of the surest answers, and the very surest, as in Table 5."""
        answered = [(item, own["exact-match"]) for item, own in done if "exact-match" in own]
        answered.sort(key=lambda pair: -(pair[1].confidence or 0.0))
        if not answered:
            return ()
        curve = []
        for share in SHARES:
            some = answered[: max(1, round(share / 100 * len(answered)))]
            right = sum(m.numerator for _, m in some)
            curve.append(f"{share} %: {right:.0f} of {len(some):,} ({100 * right / len(some):.1f} %)")
        pairs = "; ".join(f"{question}? {reply}" for question, reply in PAIRS)
        lines = [
            f"example pairs: {pairs}",
            f"right among the most confident {'; '.join(curve)}",
            "the most confident answers:",
        ]
        for item, m in answered[:SURE]:
            mark = "right" if m.numerator else "wrong"
            sure = 100 * (m.confidence or 0.0)
            lines.append(f"{sure:5.1f} % {mark}  {item.facts['question']}? {m.output}")
        return lines


def harness_match(answer: str, references: Sequence[str]) -> float:
    """lm-evaluation-harness's exact_match as nq_open sets it: 1 when any reference is met."""

    def plain(text: str) -> str:
        return HARNESS_ARTICLES.sub("", text).lower().translate(HARNESS_PUNCTUATION)

    return float(plain(answer) in map(plain, references))


TASKS = (NaturalQuestions(),)
