"""Rules at work on one document, which is mended or dropped; nothing happens in silence.

The rules are values in a list (`rules.py`, `mending.py`; `rule_lists.py` has the lists in use and reads a user's
own). A `Cleaner` takes one document at a time: first all mending rules, until they find nothing more, then the
judging rules in the order of the list. What it says of a document depends on that document and the rules alone,
and a document that it gave back passes unchanged when it is cleaned again.

    Cleaner(WEB).clean(Document("Too short."))   # Dropped(rule='tokens', reason='3 tokens, fewer than 128')
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass

from gpt2.corpus.clean.frames import Frames
from gpt2.corpus.clean.mending import Mending, SharedLines
from gpt2.corpus.clean.quality import Reading
from gpt2.corpus.clean.rules import Judging, Language, Rules
from gpt2.corpus.documents import Document

EMPTY = "empty"
ROUNDS = 8
"""Two are enough for any page seen; no page may hold up a crawl."""


@dataclass(frozen=True)
class Dropped:
    """Why a document is none for the corpus."""

    rule: str
    """Name of the rule that refused it."""
    reason: str
    """What it found, with the value."""


class Cleaner:
    """Rules at work, one document at a time."""

    def __init__(self, rules: Rules, frames: Frames | None = None) -> None:
        """`frames`: the shared lines, counted beforehand; without them that rule does nothing."""
        self.rules, self.frames = rules, frames
        self.mending = [rule for rule in rules if isinstance(rule, Mending | SharedLines)]
        self.judging = [rule for rule in rules if isinstance(rule, Judging)]
        self.taken: Counter[str] = Counter()
        """What the mending rules took out, by rule."""

    def clean(self, document: Document) -> Document | Dropped:
        """The document, mended, or why it is dropped."""
        text = self.mend(document.text, document.url)
        if not text.strip():
            return Dropped(EMPTY, "nothing but white space")
        reading = Reading(text, document.url)
        for rule in self.judging:
            reason = rule.refuse(reading)
            if reason is not None:
                return Dropped(rule.name, reason)
        if any(isinstance(rule, Language) for rule in self.judging):
            return dataclasses.replace(document, text=text, language=reading.language[0])
        return document if text == document.text else dataclasses.replace(document, text=text)

    def mend(self, text: str, url: str | None) -> str:
        """The text after all mending rules, again and again until they take out nothing more."""
        for _ in range(ROUNDS):
            before = text
            for rule in self.mending:
                if isinstance(rule, Mending):
                    text, n = rule.mend(text)
                else:
                    text, n = self.frames.mend(text, url) if self.frames else (text, 0)
                if n:
                    self.taken[rule.name] += n
            if text == before:
                break
        return text
