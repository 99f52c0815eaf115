"""The rules of cleaning: each has a name, its settings, and its source.

Here are the rules that judge: each refuses documents, with a reason. Those that mend a text are in `mending.py`,
and `rule_lists.py` has the lists that are used and reads others from a file. A rule sees one document and nothing
else, so it does not matter in what order documents come, or on which machine.

The paper says only "heuristic based cleaning", and that all Wikipedia documents were removed. The rules here are
those that open corpora name: OpenWebText's 128 tokens, Gopher's quality and repetition rules with the thresholds
of its table A1, C4's line and page rules. Rejected: a learned classifier of good text, which WebText did not have
(its links' votes do that work), and C4's list of bad words.

    python -c "from gpt2.corpus.clean.rules import *; print(Bullets(most=0.5).refuse(Reading('- a\\n- b\\nc')))"
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields
from typing import ClassVar

from gpt2.corpus.clean.quality import Reading
from gpt2.corpus.links.blocklist import wikipedia
from gpt2.errors import ConfigError
from gpt2.tokens.bpe import Tokenizer


@dataclass(frozen=True)
class Rule:
    """A named rule with its settings."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        """`ConfigError` for a setting that cannot be."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float | int) and not 0 <= value < math.inf:
                raise ConfigError(
                    f"{field.name} of rule {self.name!r} is {value}; give a number of 0 or more"
                )
            if field.type == "Share" and value > 1:
                raise ConfigError(f"{field.name} of rule {self.name!r} is a share from 0 to 1, not {value}")


class Judging(Rule):
    """A rule that refuses documents."""

    def refuse(self, text: Reading) -> str | None:
        """Why this is no document for the corpus, or None."""
        raise NotImplementedError


Rules = tuple[Rule, ...]
Share = float
"""A number from 0 to 1."""


# By address


@dataclass(frozen=True)
class Wikipedia(Judging):
    """Pages of Wikipedia and its copies (paper 2.1: "we removed all Wikipedia documents from WebText")."""

    name = "wikipedia"
    more: tuple[str, ...] = ()
    """Domains to take out beside those of the list that comes with the package."""
    spared: tuple[str, ...] = ()
    """Domains of that list to keep."""

    def refuse(self, text: Reading) -> str | None:
        """By the host of its address, or a domain above it."""
        parts = text.host.split(".")
        above = [".".join(parts[i:]) for i in range(len(parts) - 1)]
        if not any(domain in self.spared for domain in above):
            for domain in above:
                if domain in wikipedia() or domain in self.more:
                    return f"{domain} shows Wikipedia's articles"
        return None


# Judging: length and language


@dataclass(frozen=True)
class Tokens(Judging):
    """Short documents (OpenWebText: fewer than 128 GPT-2 tokens).

    Every word is a token or more, so only texts of fewer words are cut into tokens at all: exact, and as quick
    as counting words.
    """

    name = "tokens"
    fewest: int = 128
    """Tokens of GPT-2's own vocabulary that a document needs."""

    def refuse(self, text: Reading) -> str | None:
        """By the number of words, and of tokens when those are too few."""
        if len(text.words) >= self.fewest:
            return None
        n = len(gpt2_tokenizer().encode(text.text))
        return f"{n} tokens, fewer than {self.fewest}" if n < self.fewest else None


@functools.cache
def gpt2_tokenizer() -> Tokenizer:
    """GPT-2's own vocabulary."""
    return Tokenizer.gpt2()


@dataclass(frozen=True)
class Words(Judging):
    """Documents of too few words or too many (Gopher: 50 to 100,000)."""

    name = "words"
    fewest: int = 50
    """Words that a document needs."""
    most: int = 100_000
    """Words that it may have."""

    def refuse(self, text: Reading) -> str | None:
        """By the number of words."""
        n = len(text.words)
        if n < self.fewest:
            return f"{n} words, fewer than {self.fewest}"
        return f"{n} words, more than {self.most}" if n > self.most else None


@dataclass(frozen=True)
class Language(Judging):
    """Documents in other languages (the paper: Reddit's links are English by and large; 10 MB of French were left).

    The confidence is eld's score, 0 to about 1: how well letter groups of the first 350 bytes fit the language. Of
    3,343 English texts, by hand, 1 % scored below 0.51 and one below 0.3; lists of names are near 0.37.
    """

    name = "language"
    accepted: tuple[str, ...] = ("en",)
    """ISO 639-1 codes of the languages to keep."""
    confidence: float = 0.3
    """Score that the language needs."""

    def refuse(self, text: Reading) -> str | None:
        """By what eld takes it for."""
        language, score = text.language
        if language not in self.accepted:
            return f"language {language or 'unknown'}"
        return f"{language} with confidence {score:.2f} only" if score < self.confidence else None


# Judging: Gopher's quality


@dataclass(frozen=True)
class Letters(Judging):
    """Documents with few letters."""

    name = "letters"
    least: Share = 0.4
    """Smallest share of letters and white space among the characters."""

    def refuse(self, text: Reading) -> str | None:
        """By that share."""
        return f"{text.letters:.0%} letters" if text.letters < self.least else None


@dataclass(frozen=True)
class WordLength(Judging):
    """Documents whose words are too short or too long on average (Gopher: 3 to 10)."""

    name = "word-length"
    least: float = 3.0
    """Characters a word, at least,"""
    most: float = 10.0
    """and at most."""

    def refuse(self, text: Reading) -> str | None:
        """By the mean."""
        mean = text.mean_word_length
        return None if self.least <= mean <= self.most else f"{mean:.2f} characters a word"


@dataclass(frozen=True)
class Symbols(Judging):
    """Documents full of hash signs or ellipses (Gopher: more than 0.1 a word of either)."""

    name = "symbols"
    most: float = 0.1
    """Most hash signs, or ellipses, that there may be for each word."""

    def refuse(self, text: Reading) -> str | None:
        """By the more frequent of the two."""
        return f"{text.symbols:.2f} symbols a word" if text.symbols > self.most else None


@dataclass(frozen=True)
class Bullets(Judging):
    """Documents that are lists (Gopher: more than 90 % of the lines begin with a bullet)."""

    name = "bullets"
    most: Share = 0.9
    """Largest share of lines that may begin so."""
    marks: tuple[str, ...] = ("•", "-", "*")
    """What a bullet looks like."""

    def refuse(self, text: Reading) -> str | None:
        """By the share of the lines."""
        share = text.beginning(self.marks)
        return f"{share:.0%} of the lines are bullets" if share > self.most else None


@dataclass(frozen=True)
class Ellipses(Judging):
    """Documents of lines cut short (Gopher: more than 30 % of the lines end with an ellipsis)."""

    name = "ellipses"
    most: Share = 0.3
    """Largest share of lines that may end so."""

    def refuse(self, text: Reading) -> str | None:
        """By the share of the lines."""
        share = text.ending(("...", "…"))
        return f"{share:.0%} of the lines end with an ellipsis" if share > self.most else None


@dataclass(frozen=True)
class AlphabeticWords(Judging):
    """Documents of numbers and signs (Gopher: fewer than 80 % of the words have a letter)."""

    name = "alphabetic-words"
    least: Share = 0.8
    """Smallest share of words with a letter."""

    def refuse(self, text: Reading) -> str | None:
        """By the share of the words."""
        share = text.alphabetic
        return f"{share:.0%} of the words have a letter" if share < self.least else None


@dataclass(frozen=True)
class StopWords(Judging):
    """Documents without the words that English text must have (Gopher: two of eight)."""

    name = "stop-words"
    fewest: int = 2
    """How many of the words must be there."""
    words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")
    """The words, for another language its own."""

    def refuse(self, text: Reading) -> str | None:
        """By how many there are."""
        n = text.of(self.words)
        return f"{n} of {len(self.words)} stop words" if n < self.fewest else None


# Judging: Gopher's repetition


@dataclass(frozen=True)
class RepeatedLines(Judging):
    """Documents that say lines again (Gopher, table A1: 0.30 of the lines, 0.20 of the characters)."""

    name = "repeated-lines"
    lines: Share = 0.3
    """Largest share of lines that stand further up already,"""
    characters: Share = 0.2
    """and of the text's characters in them."""

    def refuse(self, text: Reading) -> str | None:
        """By either share."""
        return repetition("lines", text.repeated_lines, self.lines, self.characters)


@dataclass(frozen=True)
class RepeatedParagraphs(Judging):
    """Documents that say paragraphs again (Gopher, table A1: 0.30 of them, 0.20 of the characters)."""

    name = "repeated-paragraphs"
    paragraphs: Share = 0.3
    """Largest share of paragraphs that stand further up already,"""
    characters: Share = 0.2
    """and of the text's characters in them."""

    def refuse(self, text: Reading) -> str | None:
        """By either share."""
        return repetition("paragraphs", text.repeated_paragraphs, self.paragraphs, self.characters)


def repetition(what: str, shares: tuple[float, float], pieces: Share, characters: Share) -> str | None:
    """Why there is too much repetition of pieces, or of characters in them."""
    if shares[0] > pieces:
        return f"{shares[0]:.0%} of the {what} are repeated"
    return f"{shares[1]:.0%} of the text is in repeated {what}" if shares[1] > characters else None


@dataclass(frozen=True)
class TopNgrams(Judging):
    """Documents that one phrase fills (Gopher, table A1: the most frequent n-gram's share of the characters)."""

    name = "top-ngrams"
    two: Share = 0.2
    """Largest share that two words in a row may have,"""
    three: Share = 0.18
    """three words"""
    four: Share = 0.16
    """and four."""

    def refuse(self, text: Reading) -> str | None:
        """By the first of them that is too frequent."""
        for n, most in ((2, self.two), (3, self.three), (4, self.four)):
            if (share := text.top_ngram(n)) > most:
                return f"{share:.0%} of the text is one {n}-gram"
        return None


@dataclass(frozen=True)
class RepeatedNgrams(Judging):
    """Documents that say phrases again (Gopher, table A1: share of the characters in n-grams that came before)."""

    name = "repeated-ngrams"
    five: Share = 0.15
    """Largest share for five words in a row,"""
    six: Share = 0.14
    """six,"""
    seven: Share = 0.13
    """seven,"""
    eight: Share = 0.12
    """eight,"""
    nine: Share = 0.11
    """nine"""
    ten: Share = 0.1
    """and ten."""

    def refuse(self, text: Reading) -> str | None:
        """By the first of them that is too frequent."""
        for n, most in enumerate((self.five, self.six, self.seven, self.eight, self.nine, self.ten), 5):
            if (share := text.repeated_ngrams(n)) > most:
                return f"{share:.0%} of the text is in repeated {n}-grams"
        return None


# Judging: C4's pages


@dataclass(frozen=True)
class LoremIpsum(Judging):
    """Pages that are no text yet (C4: "where the phrase 'lorem ipsum' appeared")."""

    name = "lorem-ipsum"

    def refuse(self, text: Reading) -> str | None:
        """By that phrase."""
        return "lorem ipsum" if "lorem ipsum" in text.lower else None


@dataclass(frozen=True)
class CurlyBrackets(Judging):
    """Pages with a curly bracket, which C4 takes for program text.

    Off: WebText has program text (OpenAI's list of domains: github, 414,695 documents).
    """

    name = "curly-brackets"

    def refuse(self, text: Reading) -> str | None:
        """By that bracket."""
        return "a curly bracket" if "{" in text.text else None


@dataclass(frozen=True)
class Sentences(Judging):
    """Pages of few sentences (C4: fewer than 5, in lines of at least 3 words)."""

    name = "sentences"
    fewest: int = 5
    """Sentences that a page needs."""
    words: int = 3
    """Words that a line needs to count."""

    def refuse(self, text: Reading) -> str | None:
        """By their number."""
        n = text.sentences(self.words)
        return f"{n} sentences, fewer than {self.fewest}" if n < self.fewest else None
