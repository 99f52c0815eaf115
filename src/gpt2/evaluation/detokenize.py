"""De-tokenisers: running text out of tokenised data sets, such as a model of web text has read.

The paper measures its language models through "invertible de-tokenizers" that were never published. These are
ours, one for each data set. A line becomes running text by plain rules, and becomes tokens again by plain
rules that are given nothing but the text. The two are put together so that the second undoes the first
exactly, whatever the line: what is written without a space is one piece, and a piece is written only where the
re-tokeniser makes the same tokens of it again. Otherwise the piece falls apart: as few of its gaps as possible
stay, as they were in the tokenised line, and the tokens in question keep their spelling. Where even a single
token would come out as another one, a character that no text has, U+001F, stands before it and says: this
piece is one token, as it is. Such lines are counted (`escaped`).

    wikitext    WikiText, raw and <unk> copies      ptb                 Penn Treebank, as Mikolov prepared it
    lm1b        One Billion Word                    cbt, lambada        Children's Book Test, LAMBADA's first form

Rejected: rules that are only meant to be inverse, as every published set is; on WikiText-2's test split the
usual one joins "s '" everywhere and turns the word N into 1. They are kept for comparison, in
`gpt2.evaluation.lossy`.

    text = WIKITEXT.detokenize(line)        # " It 's two @-@ part . " -> "It's two-part."
    line = WIKITEXT.retokenize(text)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from gpt2.errors import ConfigError, nearest
from gpt2.evaluation import moses, penn

ESCAPE = "\x1f"
"""Before a piece: it is one token, as it is. Twice, at the beginning of a line: all of the line is as it is."""


@dataclass(frozen=True)
class Detokenizer:
    """A way from tokenised lines to running text and back. Lines come without their line end."""

    name: str
    spell: Callable[[str], str]
    """How a token is written in running text."""
    joins: Callable[[Sequence[str]], list[bool]]
    """Whether the gap after each token closes in running text."""
    split: Callable[[str, str], list[str]]
    """Tokens of a piece of running text; of the character after its space only the kind is told: "a" for a
    small letter, "0" for a digit, "" for all else. Same arguments, same answer: answers are kept."""
    edge: str = ""
    """What the tokenised file has at both ends of a line."""

    def detokenize(self, line: str) -> str:
        """Running text, from which `retokenize` makes the same line again."""
        n = len(self.edge)
        framed = line.startswith(self.edge) and line.endswith(self.edge) and len(line) >= 2 * n
        if line == self.edge:
            return ""
        if not framed or ESCAPE in line or line[n : len(line) - n] == "":
            return ESCAPE + ESCAPE + line
        tokens = line[n : len(line) - n].split(" ")
        pieces: list[str] = []  # last one first, for a piece depends on the one after it
        end = len(tokens)
        closed = self.joins(tokens)
        while end:
            begin = end - 1
            while begin and closed[begin - 1]:
                begin -= 1
            following = pieces[-1] if pieces else ""
            while begin < end:
                size, text = self._piece(tuple(tokens[begin:end]), kind(following))
                pieces.append(text)
                end -= size
                following = text
        return " ".join(reversed(pieces))

    def retokenize(self, text: str) -> str:
        """The line that the text was made from."""
        if text.startswith(ESCAPE + ESCAPE):
            return text[2:]
        if text == "":
            return self.edge
        pieces = text.split(" ")
        tokens: list[str] = []
        for piece, following in zip(pieces, [*pieces[1:], ""], strict=True):
            tokens += [piece[1:]] if piece[:1] == ESCAPE else self._split(piece, kind(following))
        return self.edge + " ".join(tokens) + self.edge

    def _piece(self, tokens: tuple[str, ...], following: str) -> tuple[int, str]:
        """As many of the last tokens as can be written as one piece, and that piece."""
        for begin in range(len(tokens)):
            text = "".join(map(self.spell, tokens[begin:]))
            if self._split(text, following) == list(tokens[begin:]):
                return len(tokens) - begin, text
        last = tokens[-1]
        return 1, last if self._split(last, following) == [last] else ESCAPE + last

    def _split(self, piece: str, following: str) -> list[str]:
        """Tokens of a piece, by the plain rules."""
        return kept(self.split, piece, following) if piece else [""]


@lru_cache(maxsize=1 << 17)
def kept(split: Callable[[str, str], list[str]], piece: str, following: str) -> list[str]:
    """The answer of `split`, computed once: most pieces of a text come again."""
    return split(piece, following)


def escaped(lines: Iterable[str]) -> list[str]:
    """The lines of running text that needed an escape."""
    return [line for line in lines if ESCAPE in line]


def kind(following: str) -> str:
    """What a tokeniser may know of the next piece."""
    first = following[:1]
    return "a" if first.islower() else "0" if first.isdigit() else ""


def _penn(name: str, dialect: penn.Dialect, edge: str = "") -> Detokenizer:
    def split(piece: str, following: str) -> list[str]:  # noqa: ARG001
        return penn.split(piece, dialect)

    return Detokenizer(name, partial(penn.spell, dialect=dialect), penn.joins, split, edge)


WIKITEXT = Detokenizer("wikitext", moses.spell, moses.joins, partial(moses.split, inner=True), edge=" ")
LM1B = Detokenizer("lm1b", moses.spell, moses.joins, partial(moses.split, inner=False))
PTB = _penn("ptb", penn.PTB, edge=" ")
CBT = _penn("cbt", penn.CBT)
LAMBADA = _penn("lambada", penn.LAMBADA)
DETOKENIZERS = {d.name: d for d in (WIKITEXT, LM1B, PTB, CBT, LAMBADA)}


def detokenizer(name: str) -> Detokenizer:
    """One of ours by name; `ConfigError` for a name that is none."""
    if name not in DETOKENIZERS:
        raise ConfigError(
            f"unknown de-tokeniser {name!r}{nearest(name, DETOKENIZERS)}; there are {', '.join(DETOKENIZERS)}"
        )
    return DETOKENIZERS[name]
