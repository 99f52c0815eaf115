"""The rules of cleaning that mend: each takes something out of a text and counts how often.

Mending a text that was mended takes out nothing more. Nothing is put into a text but the letters that mojibake
was before it was garbled. Rejected: the whole of `ftfy.fix_text`, which also straightens curly quotes and takes
ligatures apart, where a language model should see what people write.

    python -c "from gpt2.corpus.clean.mending import *; print(Mojibake().mend('It donâ€™t matter.'))"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gpt2.corpus.clean.rules import Rule
from gpt2.errors import need

CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f]")
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{4,}")
EMPTY_LINES = re.compile(r"\n{3,}")
PERHAPS_MOJIBAKE = re.compile("[^\0-\x7f]{2}|[\x80-\x9fŒœÃÂ]")
"""Stands in every line that ftfy calls bad, and is many times as fast to look for."""


class Mending(Rule):
    """A rule that takes something out of a text."""

    def mend(self, text: str) -> tuple[str, int]:
        """The text without it, and how often it was there; the text it gives has none left."""
        raise NotImplementedError


@dataclass(frozen=True)
class Mojibake(Mending):
    """UTF-8 that was read as another encoding is put right by ftfy ("donâ€™t"), as Megatron cleaned OpenWebText."""

    name = "mojibake"

    def mend(self, text: str) -> tuple[str, int]:
        """Line by line, and only where ftfy finds a line bad."""
        if text.isascii() or not PERHAPS_MOJIBAKE.search(text):
            return text, 0
        fix = need("ftfy", "corpus").fix_encoding
        lines = text.split("\n")
        mended = [fix(line) if PERHAPS_MOJIBAKE.search(line) else line for line in lines]
        return "\n".join(mended), sum(a != b for a, b in zip(lines, mended, strict=True))


@dataclass(frozen=True)
class ControlCharacters(Mending):
    """Characters that are no text go, line ends of other systems become newlines."""

    name = "control-characters"

    def mend(self, text: str) -> tuple[str, int]:
        """Line ends are not counted."""
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        return CONTROL.subn("", text)


@dataclass(frozen=True)
class AddressesInMemory(Mending):
    """Addresses of objects in documentation, other on every run, become alike."""

    name = "addresses-in-memory"

    def mend(self, text: str) -> tuple[str, int]:
        """`at 0x7f3a5c0d1e20` is `at 0x...`."""
        return ADDRESS.subn("at 0x...", text) if "at 0x" in text else (text, 0)


class LineRule(Mending):
    """A rule that takes out whole lines."""

    def goes(self, line: str) -> bool:
        """Whether this line, without white space at its ends and not empty, goes."""
        raise NotImplementedError

    def mend(self, text: str) -> tuple[str, int]:
        """The text without such lines, and how many there were."""
        return without_lines(
            text, [bool(line) and self.goes(line) for line in map(str.strip, text.split("\n"))]
        )


def without_lines(text: str, going: Sequence[bool]) -> tuple[str, int]:
    """The text without the lines marked as going, and how many those were; no two empty lines are left in a row."""
    n = sum(going)
    if not n:
        return text, 0
    kept = (line for line, goes in zip(text.split("\n"), going, strict=True) if not goes)
    return EMPTY_LINES.sub("\n\n", "\n".join(kept)).strip(), n


@dataclass(frozen=True)
class SharedLines(Rule):
    """Lines that many pages of one host share are the site's frame and not the page's text."""

    name = "shared-lines"
    pages: int = 10
    """A line on more pages of a host than this goes,"""
    words: int = 3
    """if it has at least so many words; shorter ones, such as "Examples:", may well recur."""


@dataclass(frozen=True)
class Notices(LineRule):
    """Lines about cookies, terms and JavaScript (C4: "any line with the word Javascript", and its code's phrases).

    C4 takes such lines out whatever their length, and with them whole articles about privacy; a notice is short.
    """

    name = "notices"
    phrases: tuple[str, ...] = (
        "terms of use",
        "privacy policy",
        "cookie policy",
        "uses cookies",
        "use of cookies",
        "use cookies",
        "enable javascript",
        "javascript is disabled",
        "requires javascript",
    )
    """A line with one of these, in small or capital letters, goes,"""
    longest: int = 40
    """unless it has more words than this."""

    def mend(self, text: str) -> tuple[str, int]:
        """A quick look at the whole text first."""
        lower = text.lower()
        return super().mend(text) if any(phrase in lower for phrase in self.phrases) else (text, 0)

    def goes(self, line: str) -> bool:
        """Whether it is short and has a phrase."""
        lower = line.lower()
        return (
            any(p in lower for p in self.phrases) and len(line.split(maxsplit=self.longest)) <= self.longest
        )


@dataclass(frozen=True)
class LongWords(LineRule):
    """Lines with a word that no language has, such as a file in base64 (C4's code: over 1,000 characters).

    Not for languages that are written without spaces.
    """

    name = "long-words"
    longest: int = 1_000
    """Characters in the longest word that a line may have."""

    def mend(self, text: str) -> tuple[str, int]:
        """A quick look at the lengths of lines first."""
        return super().mend(text) if max(map(len, text.split("\n"))) > self.longest else (text, 0)

    def goes(self, line: str) -> bool:
        """Whether it has a longer word."""
        return len(line) > self.longest and max(map(len, line.split())) > self.longest


@dataclass(frozen=True)
class UnendedLines(LineRule):
    """Lines that do not end as a sentence does, or are short (C4: "a terminal punctuation mark", 3 words).

    Off: it takes out headings, lists, verse and program text, all of which WebText has.
    """

    name = "unended-lines"
    marks: tuple[str, ...] = (".", "?", "!", '"', "'", "”", "’")
    """What a line must end with; three dots are no end."""
    words: int = 3
    """Words that it must have."""

    def goes(self, line: str) -> bool:
        """Whether it ends otherwise or is shorter."""
        ended = line.endswith(self.marks) and not line.endswith("...")
        return not ended or len(line.split(maxsplit=self.words)) < self.words
