"""Scores of words, sentences and whole texts, out of the scores of their tokens.

A word is a run of characters without white space (ASCII's), together with the white space before it: that is
how GPT-2's tokens divide a text, so each token belongs to one word, and the words' log-probabilities add up to
the text's. A sentence ends with a word that ends in . ! ? or ... (closing quotes and brackets may follow)
when the next word does not begin with a small letter and the word is no abbreviation such as "Mr." or "J.",
and before an empty line. Sentences, too, are runs of whole words and add up to the text.

    gpt2 score MODEL --unit word < text.txt

Spans are made as the tokens come; what is held is the span that has not ended yet.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from gpt2.inference.scoring import Piece
from gpt2.tokens.bpe import Tokenizer

Unit = Literal["token", "word", "sentence", "text"]
T = TypeVar("T")
LONGEST_SHOWN = 100_000
"""Bytes of a span that are kept for showing it."""
TAIL = 256

ENDS = re.compile(r"(?:[.!?…]|\.\.\.)[\"'”’»)\]]*$")
ABBREVIATIONS = """
    mr mrs ms dr prof rev hon st sr jr messrs capt col gen lt sgt gov sen rep pres vs etc e.g i.e cf al no nos
    vol pp fig inc ltd co corp dept univ jan feb mar apr jun jul aug sept sep oct nov dec
"""
ABBREVIATED = frozenset(ABBREVIATIONS.split())


@dataclass(frozen=True)
class Span:
    """A stretch of a text and its score."""

    text: int
    """Which text it is of, from 0."""
    number: int
    """Its place among the spans of the text, from 0."""
    spelled: bytes
    """What it spells in UTF-8, of a long one the beginning (`LONGEST_SHOWN`)."""
    logprob: float
    """Natural logarithm of its probability, summed over its tokens."""
    tokens: int
    """How many tokens that is."""
    n_bytes: int
    """How many bytes of text."""
    token: int | None = None
    """The id, of a span that is one token."""
    rank: int | None = None
    """The token's place by likelihood, of a span that is one token; 1 is the most likely."""

    @property
    def string(self) -> str:
        """What it spells; bytes that are no character by themselves come as U+FFFD."""
        return self.spelled.decode("utf-8", "replace")

    @property
    def bits(self) -> float:
        """Surprise: -log2 of the probability."""
        return 0.0 - self.logprob / math.log(2)


@dataclass
class Totals:
    """What the scores of spans add up to."""

    texts: int = 0
    logprob: float = 0.0
    tokens: int = 0
    n_bytes: int = 0

    def texts_of(self, texts: Iterable[T]) -> Iterator[T]:
        """Count texts as they pass."""
        for text in texts:
            self.texts += 1
            yield text

    def spans_of(self, spans: Iterable[Span]) -> Iterator[Span]:
        """Count spans as they pass."""
        for span in spans:
            self.add(span)
            yield span

    def add(self, span: Span) -> None:
        """Count a span."""
        self.logprob += span.logprob
        self.tokens += span.tokens
        self.n_bytes += span.n_bytes

    @property
    def perplexity(self) -> float:
        """Per token; NaN without any."""
        return math.exp(min(-self.logprob / self.tokens, 700.0)) if self.tokens else math.nan

    @property
    def bits_per_byte(self) -> float:
        """Bits of surprise a byte of text; NaN without any."""
        return -self.logprob / math.log(2) / self.n_bytes if self.n_bytes else math.nan


@dataclass
class Growing:
    """A span that has not ended."""

    parts: list[bytes]
    """What it spells, of a long one the beginning."""
    tail: bytes
    """The last `TAIL` bytes of it, which say where words and sentences end."""
    logprob: float = 0.0
    tokens: int = 0
    n_bytes: int = 0

    def add(self, other: Growing) -> None:
        """Go on with another."""
        if self.n_bytes < LONGEST_SHOWN:
            self.parts += other.parts
        self.tail = (self.tail + other.tail)[-TAIL:]
        self.logprob += other.logprob
        self.tokens += other.tokens
        self.n_bytes += other.n_bytes

    @property
    def spelled(self) -> bytes:
        """What it spells."""
        return b"".join(self.parts)[:LONGEST_SHOWN]


def spans(pieces: Iterable[Piece], tok: Tokenizer, unit: Unit) -> Iterator[Span]:
    """The scored spans of texts, in order. A text without any scored token has none, but as a whole is one."""
    if unit == "token":
        yield from token_spans(pieces, tok)
        return
    number, grown = 0, None
    for text, word in words(pieces, tok):
        if word is not None and grown is not None and goes_on(grown, word, unit):
            grown.add(word)
            continue
        if grown is None and word is None and unit == "text":
            grown = Growing([], b"")
        if grown is not None:
            yield Span(text, number, grown.spelled, grown.logprob, grown.tokens, grown.n_bytes)
            number += 1
        number, grown = (number, word) if word is not None else (0, None)


def goes_on(before: Growing, word: Growing, unit: Unit) -> bool:
    """Whether a word belongs to the span before it."""
    return unit == "text" or (unit == "sentence" and within_sentence(before, word))


def token_spans(pieces: Iterable[Piece], tok: Tokenizer) -> Iterator[Span]:
    """Each token by itself."""
    number = 0
    for piece in pieces:
        for token, logprob, rank in zip(
            piece.tokens.tolist(), piece.logprobs.tolist(), piece.ranks.tolist(), strict=True
        ):
            spelled = tok.tokens[token]
            yield Span(piece.text, number, spelled, logprob, 1, len(spelled), token, rank)
            number += 1
        if piece.last:
            number = 0


def words(pieces: Iterable[Piece], tok: Tokenizer) -> Iterator[tuple[int, Growing | None]]:
    """Each word with the white space before it, and None where a text ends."""
    word: Growing | None = None
    for piece in pieces:
        for token, logprob in zip(piece.tokens.tolist(), piece.logprobs.tolist(), strict=True):
            spelled = tok.tokens[token]
            new = Growing([spelled], spelled, logprob, 1, len(spelled))
            if word is None:
                word = new
            elif spelled[:1].isspace() and not word.tail[-1:].isspace():
                yield piece.text, word
                word = new
            else:
                word.add(new)
        if piece.last:
            if word is not None:
                yield piece.text, word
            yield piece.text, None
            word = None


def within_sentence(before: Growing, word: Growing) -> bool:
    """Whether a word goes on the sentence before it."""
    string = word.spelled.decode("utf-8", "replace")
    space = re.match(r"\s*", string)
    if space and space[0].count("\n") > 1:
        return False
    last = before.tail.decode("utf-8", "replace").split()[-1:]
    if not last or not ENDS.search(last[0]):
        return True
    next_ = string.strip().lstrip("\"'“‘«([")
    if next_[:1].islower():
        return True
    bare = ENDS.sub("", last[0]).lstrip("\"'“‘«([").lower()
    return last[0].endswith(".") and (
        bare in ABBREVIATED or (len(bare) == 1 and bare.isalpha() and bare != "i")
    )
