"""Named rules that mend or drop documents (the paper's "heuristic based cleaning").

Each rule has a name, and the report counts what it did. Mending rules take something out of a text (control
characters, addresses in memory, lines that many pages share); dropping rules refuse a document and say why.
The paper does not name its rules; these are few and each answers a fault seen in real pages.

    text, taken = mend(text, shared_lines(pages))
    reason = refuse(text)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Set

from gpt2.corpus.documents import Document

FEWEST_WORDS = 30
"""Shorter documents teach little but titles; OpenWebText asked for 128 tokens."""
FEWEST_LETTERS = 0.4
"""Least share of letters and spaces among a text's characters."""
SHARED_BY = 10
"""A line on more pages than this is a page's frame and not its text,"""
SHARED_WORDS = 3
"""if it has at least so many words: shorter lines, such as "Examples:", may well recur."""
CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f]")
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{4,}")


def shared_lines(documents: Iterable[Document]) -> set[str]:
    """Lines of several words that stand on more than `SHARED_BY` pages (groups)."""
    last: dict[str, str] = {}
    pages: Counter[str] = Counter()
    for document in documents:
        for line in {line.strip() for line in document.text.split("\n")}:
            if len(line.split()) >= SHARED_WORDS and last.get(line) != document.group:
                last[line] = document.group
                pages[line] += 1
    return {line for line, n in pages.items() if n > SHARED_BY}


def mend(text: str, shared: Set[str] = frozenset()) -> tuple[str, Counter[str]]:
    """A text without what the mending rules take out, and how often each took something out."""
    taken: Counter[str] = Counter()
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text, taken["control characters"] = CONTROL.subn("", text)
    text, taken["addresses in memory"] = ADDRESS.subn("at 0x...", text)
    if shared:
        lines = text.split("\n")
        kept = [line for line in lines if line.strip() not in shared]
        taken["lines shared by many pages"] = len(lines) - len(kept)
        text = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()
    return text, +taken


def refuse(text: str) -> str | None:
    """Why a text is no document, or None."""
    if len(text.split(maxsplit=FEWEST_WORDS)) < FEWEST_WORDS:
        return f"fewer than {FEWEST_WORDS} words"
    if sum(c.isalpha() or c.isspace() for c in text) < FEWEST_LETTERS * len(text):
        return f"less than {FEWEST_LETTERS:.0%} letters"
    return None
