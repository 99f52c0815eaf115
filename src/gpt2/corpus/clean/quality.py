"""What the rules of cleaning measure in a text: words, lines, repetition, sentences, language.

The measures are those of Gopher (Rae et al. 2021, A.1.1 and table A1) and of C4 (Raffel et al. 2020, 2.2),
which later corpora took over. The papers leave open what a word and a line are; here a word is what white space
sets apart, as in Dolma and RedPajama, and a line has something in it. Each measure is taken when a rule first
asks for it, and kept for the next one.

Repeated n-grams are found by growing: an n-gram stands twice only if its first n-1 words and its last n-1 words
do, so each length looks only at what was left by the one before, and in ordinary prose nothing is left after
five or six words. `tests/test_clean_quality.py` has each measure again in its plainest form. Rejected: spaCy's
words, as datatrove has them, which take many times as long and make a word of every comma, so that Gopher's rule
of 80 % words with a letter drops articles for their punctuation (of 3,943 texts, by hand, 411 more; with words by
white space, datatrove's Gopher and C4 filters and these measures part over 3); hashes of n-grams, which can collide.

    python -c "from gpt2.corpus.clean.quality import Reading; print(Reading('a b c a b d').top_ngram(2))"
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gpt2.corpus.links.blocklist import host_of
from gpt2.errors import need

Ints = npt.NDArray[np.int64]

PARAGRAPHS = re.compile(r"\n{2,}")
SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*\s")
LONGEST_NGRAM = 10


@dataclass(frozen=True)
class Repeats:
    """The n-grams of one length that stand more than once in a text."""

    at: Ints
    """Word numbers at which they begin, ascending."""
    kind: Ints
    """For each, a number that equal n-grams share."""
    times: Ints
    """For each, how often its n-gram stands in the text."""


class Reading:
    """A text, its address, and what is measured in it."""

    def __init__(self, text: str, url: str | None = None) -> None:
        self.text, self.url = text, url

    @cached_property
    def words(self) -> list[str]:
        """What white space sets apart."""
        return self.text.split()

    @cached_property
    def counts(self) -> Counter[str]:
        """The different words, in the order in which they first come, and how often."""
        return Counter(self.words)

    @cached_property
    def lines(self) -> list[str]:
        """The lines with something in them, without white space at both ends."""
        return [line for line in map(str.strip, self.text.split("\n")) if line]

    @cached_property
    def paragraphs(self) -> list[str]:
        """What empty lines set apart."""
        return PARAGRAPHS.split(self.text.strip())

    @cached_property
    def lower(self) -> str:
        """The text in small letters."""
        return self.text.lower()

    @cached_property
    def host(self) -> str:
        """The host of its address."""
        return host_of(self.url)

    # Words (Gopher)

    @property
    def mean_word_length(self) -> float:
        """Characters a word."""
        return sum(map(len, self.words)) / max(1, len(self.words))

    @property
    def symbols(self) -> float:
        """Hash signs, or else dots in a row and ellipses, for each word: the larger of the two."""
        hashes, dots = self.text.count("#"), self.text.count("...") + self.text.count("…")
        return max(hashes, dots) / max(1, len(self.words))

    @property
    def alphabetic(self) -> float:
        """Share of the words that have a letter in them."""
        able = sum(n for w, n in self.counts.items() if w.isalpha() or any(map(str.isalpha, w)))
        return able / max(1, len(self.words))

    @property
    def letters(self) -> float:
        """Share of the characters that are letters or white space."""
        return sum(c.isalpha() or c.isspace() for c in self.text) / max(1, len(self.text))

    def of(self, words: Iterable[str]) -> int:
        """How many of these words stand in the text, spelled just so."""
        return sum(word in self.counts for word in words)

    # Lines (Gopher)

    def beginning(self, marks: tuple[str, ...]) -> float:
        """Share of the lines that begin with one of the marks."""
        return sum(line.startswith(marks) for line in self.lines) / max(1, len(self.lines))

    def ending(self, marks: tuple[str, ...]) -> float:
        """Share of the lines that end with one of the marks."""
        return sum(line.endswith(marks) for line in self.lines) / max(1, len(self.lines))

    # Repetition (Gopher)

    @cached_property
    def repeated_lines(self) -> tuple[float, float]:
        """Share of the lines that stand further up already, and of the text's characters in them."""
        return self.repeated(self.lines)

    @cached_property
    def repeated_paragraphs(self) -> tuple[float, float]:
        """The same for paragraphs."""
        return self.repeated(self.paragraphs)

    def repeated(self, pieces: list[str]) -> tuple[float, float]:
        """Share of pieces that came before, and of the text's characters that they have."""
        different = dict.fromkeys(pieces)
        if len(different) == len(pieces):
            return 0.0, 0.0
        characters = sum(map(len, pieces)) - sum(map(len, different))
        return 1 - len(different) / len(pieces), characters / len(self.text)

    @cached_property
    def ends(self) -> list[int]:
        """Characters of the first 0, 1, 2 ... words, white space left out."""
        return [0, *np.cumsum(list(map(len, self.words))).tolist()]

    @cached_property
    def repeats(self) -> dict[int, Repeats]:
        """Repeated n-grams by length, from 2 to 10; lengths without any are left out."""
        number = dict(zip(self.counts, range(len(self.counts)), strict=True))
        kind: Ints = np.array([number[w] for w in self.words], np.int64)
        at: Ints = np.arange(len(kind))
        if len(number) == len(kind):
            return {}
        found = {}
        for n in range(2, LONGEST_NGRAM + 1):
            pairs = np.flatnonzero(at[1:] == at[:-1] + 1)
            if not len(pairs):
                break
            key = kind[pairs] * (kind.max() + 1) + kind[pairs + 1]
            at = at[pairs]
            order = np.argsort(key, kind="stable")
            ordered = key[order]
            edges = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1], [True])))
            sizes = np.diff(edges)
            times, kind = np.empty_like(key), np.empty_like(key)
            times[order] = np.repeat(sizes, sizes)
            kind[order] = np.repeat(np.arange(len(sizes)), sizes)
            many = times > 1
            at, kind, times = at[many], kind[many], times[many]
            if not len(at):
                break
            found[n] = Repeats(at, kind, times)
        return found

    def top_ngram(self, n: int) -> float:
        """Share of the characters in all places of the most frequent n-gram (of equals, the first)."""
        if len(self.words) < n:
            return 0.0
        first, times = 0, 1
        if n in self.repeats:
            found = self.repeats[n]
            best = int(np.argmax(found.times))
            first, times = int(found.at[best]), int(found.times[best])
        return times * (self.ends[first + n] - self.ends[first] + n - 1) / len(self.text)

    def repeated_ngrams(self, n: int) -> float:
        """Share of the characters in n-grams that stand further up already, none counted twice."""
        if n not in self.repeats:
            return 0.0
        found, ends = self.repeats[n], self.ends
        seen: set[int] = set()
        characters = free = 0
        for at, kind in zip(found.at.tolist(), found.kind.tolist(), strict=True):
            if at < free:
                continue
            if kind in seen:
                characters += ends[at + n] - ends[at]
                free = at + n
            seen.add(kind)
        return characters / len(self.text)

    # Sentences (C4) and language

    def sentences(self, words: int) -> int:
        """Sentences in lines of so many words and more; what a line ends with is one, whatever its sign."""
        able = (line for line in self.lines if len(line.split(maxsplit=words)) >= words)
        return sum(1 + len(SENTENCE_END.findall(line)) for line in able)

    @cached_property
    def language(self) -> tuple[str | None, float]:
        """The most likely language (ISO 639-1) and eld's score for it, from 0 to about 1."""
        found = detector().detect(self.text)
        scores = found.scores()
        return found.language, scores[found.language] if found.language else 0.0


@functools.cache
def detector() -> Any:
    """eld's detector, which is slow to make."""
    return need("eld", "corpus").LanguageDetector()
