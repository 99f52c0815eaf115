"""LAMBADA: the last word of a passage, which people guess only from all of it (paper 3.3).

Which text, and what counts as right, is what every dispute about GPT-2's LAMBADA results is about. Two texts:
*openai*, the passages without preprocessing that the paper speaks of, and *standard*, as Paperno et al. (2016)
published them, in lower case and in tokens. Four rules, all from one reading of a passage:

    last-word               every token of the last word is the likeliest, given the passage and the word's
                            tokens before it; lm-evaluation-harness's `acc` of lambada_openai
    last-word-perplexity    exp of the mean of -log P(last word); the harness's `perplexity`
    last-token              the last token is the likeliest, given everything before it, the word's own tokens
                            included
    filtered                as last-word, but stop words are passed over: the first token is the likeliest
                            of those that are no stop word (a space and one of NLTK's 127 words), the others
                            are the likeliest as they are; a target that is a stop word itself is never right

The paper's accuracies are with a stop-word filter; it says no more of it. Whoever has tried to repeat them
wrote six tokens greedily and passed over stop words at each: `filtered` is that rule as far as scores tell
it, and differs where the written word would have gone on after the target's last token. It needs the
likelihood of the stop words only where a few tokens are likelier than the target's first, which are then asked
for; rejected: writing six tokens for every passage, which reads most passages a second time for nothing.

`newline-...` is the text as one of the authors described OpenAI's own measurement: a newline before the
passage, straight quotes, no space at its ends. `standard-detokenized-...` is the standard text through our
de-tokeniser. A passage's last word is what follows its last space, as the harness has it.

    gpt2 evaluate MODEL --tasks lambada
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpt2.evaluation.detokenize import LAMBADA
from gpt2.evaluation.protocol import Protocol
from gpt2.evaluation.rows import read_json_lines, read_lines
from gpt2.evaluation.task import Choices, Item, LogLikelihood, Malformed, Measured, Reply, Request, Task
from gpt2.workspace import Json

NLTK = (
    "i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers "
    "herself it its itself they them their theirs themselves what which who whom this that these those am is "
    "are was were be been being have has had having do does did doing a an the and but if or because as until "
    "while of at by for with about against between into through during before after above below to from up "
    "down in out on off over under again further then once here there when where why how all any both each "
    "few more most other some such no nor not only own same so than too very s t can will just don should "
    "now"
)
STOP_WORDS = tuple(NLTK.split())
"""NLTK's English stop words, the list of 127."""
STRAIGHT = str.maketrans("‘’“”", "''\"\"")
"""Curly quotes to straight ones."""

PLAIN = (
    Protocol(
        "lambada",
        "last-word",
        "accuracy",
        "lambada-openai",
        "percent",
        unit="passage",
        start="none",
        target="all tokens of the last word are greedy",
        denominator="passages",
    ),
    Protocol(
        "lambada",
        "last-word-perplexity",
        "perplexity",
        "lambada-openai",
        "perplexity",
        unit="passage",
        start="none",
        target="the last word",
        denominator="passages",
    ),
    Protocol(
        "lambada",
        "last-token",
        "accuracy",
        "lambada-openai",
        "percent",
        unit="passage",
        start="none",
        target="the last token is greedy, given all before it",
        denominator="passages",
    ),
    Protocol(
        "lambada",
        "filtered",
        "accuracy",
        "lambada-openai",
        "percent",
        unit="passage",
        start="none",
        target="all tokens of the last word are greedy, the first among those that are no stop word (NLTK's 127)",
        denominator="passages",
    ),
)


def variant(prefix: str, **changes: Any) -> tuple[Protocol, ...]:
    """The four rules on another text."""
    return tuple(replace(p, name=f"{prefix}-{p.name}", **changes) for p in PLAIN)


def read_openai(path: Path) -> list[Json | Malformed]:
    """OpenAI's file: JSON lines with a `text`."""
    return read_json_lines(path, {"text": str})


def read_standard(path: Path) -> list[Json | Malformed]:
    """The file as published: a passage a line."""
    return [line if isinstance(line, Malformed) else {"text": line} for line in read_lines(path)]


@dataclass(frozen=True)
class Lambada(Task):
    """The four rules on one text."""

    protocols: tuple[Protocol, ...]
    name = "lambada"
    whole = 5153

    def items(self, rows: Sequence[Json | Malformed]) -> Iterator[Item | Malformed]:
        """A passage without its last word, and the word."""
        for i, row in enumerate(rows):
            if isinstance(row, Malformed):
                yield row
                continue
            context, space, word = self.written(row["text"]).rpartition(" ")
            if not word.strip():
                yield Malformed(str(i), "no last word: the passage is empty or ends with a space")
            elif not context.strip():
                yield Malformed(str(i), "nothing before the last word")
            else:
                yield Item(str(i), [LogLikelihood(context, space + word, start="none")], facts={"word": word})

    def written(self, text: str) -> str:
        """The passage as the model reads it."""
        if self.protocols[0].start == "newline":
            return "\n" + text.translate(STRAIGHT).strip()
        return LAMBADA.detokenize(text) if self.protocols[0].detokenizer != "none" else text

    def follow(self, item: Item, replies: Sequence[Reply]) -> Sequence[Request]:
        """How likely stop words are, where they alone may stand before the target."""
        asked, (score, *more) = item.requests[0], replies
        if more or not 1 < first_rank(score) <= len(STOP_WORDS) + 1 or item.facts["word"] in STOP_WORDS:
            return ()
        assert isinstance(asked, LogLikelihood)
        return [Choices([(asked.context, f" {word}") for word in STOP_WORDS], start="none")]

    def measure(self, item: Item, replies: Sequence[Reply]) -> Mapping[str, Measured]:
        """All four rules."""
        score: Any = replies[0]
        rank = first_rank(score)
        if item.facts["word"] in STOP_WORDS:
            filtered = False
        elif len(replies) > 1:
            words: Any = replies[1]
            passed = [s for s in words if len(s.tokens) == 1 and s.logprob > score.token_logprobs[0]]
            filtered = len(passed) == rank - 1
        else:
            filtered = rank == 1
        values = (float(score.is_greedy), -score.logprob, float(score.ranks[-1] == 1), float(filtered))
        return {p.name: Measured(value) for p, value in zip(self.protocols, values, strict=True)}


def first_rank(reply: Reply) -> int:
    """The rank of a word's first token if its other tokens are the likeliest, else 0."""
    score: Any = reply
    return score.ranks[0] if all(rank == 1 for rank in score.ranks[1:]) else 0


TASKS = (
    Lambada(PLAIN),
    Lambada(variant("newline", start="newline", prompt="\\n{passage}, with straight quotes, stripped")),
    Lambada(variant("standard", data="lambada-standard")),
    Lambada(variant("standard-detokenized", data="lambada-standard", detokenizer="lambada")),
)
