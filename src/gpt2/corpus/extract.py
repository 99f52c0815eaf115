"""The main text of a page.

The paper used Dragnet and Newspaper, of which neither installs today. `default` is trafilatura (F1 0.960 on
121 pages marked by hand); `fast` is resiliparse (0.911, at six times the speed, losing precision and not
recall): `benchmarks/extraction.py`, on article-extraction-benchmark's pages and by its measure.
Hostile or broken HTML gives a document, or None when there is no text; it never raises.

    python -c "import gpt2; print(gpt2.extract('<p>Words enough to be a text.</p>', method='fast'))"
"""

from __future__ import annotations

import logging
import re
from typing import Literal

from gpt2.corpus.documents import Document, sound
from gpt2.corpus.pages import decode_html
from gpt2.errors import ConfigError, need

logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # a page without text is a result here, no error

Method = Literal["default", "fast"]
LONGEST_LINE_OF_BLANKS = re.compile(r"\n{3,}")
LANGUAGE_CHARACTERS = 2_000
"""Characters that are enough to tell a language by."""


def extract(html: bytes | str, url: str | None = None, method: Method = "default") -> Document | None:
    """The main text of an HTML page with its title and language, or None when it has none.

    `html`: bytes are decoded by what the page says of itself. `url`: kept with the document.
    `method`: "default" (trafilatura) or "fast" (resiliparse); `ConfigError` for another.
    """
    if method not in ("default", "fast"):
        raise ConfigError(f"there is no extraction method {method!r}; choose default or fast")
    source = decode_html(html) if isinstance(html, bytes) else sound(html)
    if not source.strip():
        return None
    title, text = (by_trafilatura if method == "default" else by_resiliparse)(source, url)
    text = tidy(text)
    return Document(text, title=title or None, language=language_of(text), url=url) if text else None


def by_trafilatura(html: str, url: str | None) -> tuple[str | None, str]:
    """Title and text by trafilatura, in its quick mode and without comments."""
    trafilatura = need("trafilatura", "corpus")
    found = trafilatura.bare_extraction(html, url=url, fast=True, include_comments=False, with_metadata=False)
    tree = need("resiliparse.parse.html", "corpus").HTMLTree.parse(html)
    return tree.title, (found.text or "") if found is not None else ""


def by_resiliparse(html: str, url: str | None) -> tuple[str | None, str]:  # noqa: ARG001
    """Title and text by resiliparse."""
    tree = need("resiliparse.parse.html", "corpus").HTMLTree.parse(html)
    text = need("resiliparse.extract.html2text", "corpus").extract_plain_text
    return tree.title, text(tree, main_content=True, comments=False)


def tidy(text: str) -> str:
    """No-break spaces as spaces, no spaces at the ends of lines, at most one empty line in a row."""
    lines = [line.rstrip() for line in text.replace("\xa0", " ").split("\n")]
    return LONGEST_LINE_OF_BLANKS.sub("\n\n", "\n".join(lines)).strip()


def language_of(text: str) -> str | None:
    """ISO 639-1 code of the most likely language; None when there is too little to tell."""
    language: str | None = (
        need("eld", "corpus").LanguageDetector().detect(text[:LANGUAGE_CHARACTERS]).language
    )
    return language
