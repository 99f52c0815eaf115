"""The main text of a page, with its title, language, day of publication and canonical address.

The paper used Dragnet and Newspaper. Four methods are here: `default` is trafilatura in its quick mode without
comments; `fast` is resiliparse; `blocks` is a block classifier of our own, after Dragnet (`main_text.py`);
`newspaper` is newspaper4k, the maintained descendant of the paper's Newspaper.
`gpt2 corpus extract --compare GOLD` measures them on pages marked by hand. `extract` takes one page in this
process; hostile or broken HTML gives a document or None, and it never raises. `Extractor` takes many in a child
process, which a page cannot hold up for longer than its limit.

    python -c "import gpt2; print(gpt2.extract('<p>Words enough to be a text.</p>', method='fast'))"
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections.abc import Callable
from importlib.util import find_spec
from types import TracebackType
from typing import Literal, Self, get_args

from gpt2.corpus.clean.quality import detector
from gpt2.corpus.documents import Document, sound
from gpt2.corpus.extract.head import head_of
from gpt2.corpus.extract.main_text import main_text
from gpt2.corpus.extract.sandbox import Sandbox
from gpt2.corpus.fetch.pages import Page, decode_html
from gpt2.corpus.links.address import canonical
from gpt2.errors import ConfigError, need

logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # a page without text is a result here, no error

Method = Literal["default", "fast", "blocks", "newspaper"]
METHODS: tuple[Method, ...] = get_args(Method)
SECONDS = 10.0
"""What a page may take by default; most take a fiftieth of a second."""
LONGEST_LINE_OF_BLANKS = re.compile(r"\n{3,}")
LANGUAGE_CHARACTERS = 2_000
"""Characters that are enough to tell a language by."""
OTHER_KINDS = {
    b"%PDF-": "PDF",
    b"\x89PNG": "an image",
    b"GIF8": "an image",
    b"\xff\xd8\xff": "an image",
    b"RIFF": "an image or sound",
    b"ID3": "sound",
    b"PK\x03\x04": "a ZIP file",
    b"\x1f\x8b": "a gzip file",
    b"\xd0\xcf\x11\xe0": "an office file",
    b"{\\rtf": "RTF",
    b"<rss": "a feed",
    b"<feed": "a feed",
    b"<rdf:RDF": "a feed",
    b"<urlset": "a sitemap",
    b"<sitemapindex": "a sitemap",
    b"<svg": "an image",
    b'{"': "JSON",
    b"[{": "JSON",
}
"""How files begin that servers call HTML and that are none."""
XML_HEAD = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.{0,1000}?-->\s*)?", re.S)


def extract(html: bytes | str, url: str | None = None, method: Method = "default") -> Document | None:
    """The main text of an HTML page with what it says of itself, or None when it has none.

    `html`: bytes are decoded by what the page says of itself. `url`: its address. `method`: one of `METHODS`;
    `ConfigError` for another.
    """
    found = document_of(html, url, method)
    return None if isinstance(found, str) else found


def document_of(
    html: bytes | str, url: str | None = None, method: Method = "default", charset: str | None = None
) -> Document | str:
    """The document of a page, or the cause why there is none. `charset`: what the server said of bytes."""
    text_by = method_named(method)
    if isinstance(html, bytes) and (kind := other_kind(html)):
        return f"{kind}, not HTML"
    source = decode_html(html, charset) if isinstance(html, bytes) else sound(html)
    text = tidy(text_by(source, url)) if source.strip() else ""
    if not text:
        return "no text"
    head = head_of(source, url)
    return Document(text, title=head.title, language=language_of(text), url=head.link or url, date=head.date)


def method_named(method: str) -> Callable[[str, str | None], str]:
    """The function of a method, from source and address to text; `ConfigError` for one that is not there."""
    if method not in BY_METHOD:
        raise ConfigError(f"there is no extraction method {method!r}; choose {', '.join(METHODS)}")
    return BY_METHOD[method]


def installed_methods() -> list[Method]:
    """The methods whose packages are installed."""
    packages = {"default": "trafilatura", "fast": "resiliparse", "blocks": "lxml", "newspaper": "newspaper"}
    return [method for method in METHODS if find_spec(packages[method])]


def other_kind(data: bytes) -> str | None:
    """What a file is by its first bytes, when that is not HTML."""
    start = XML_HEAD.match(data[:4096])
    begin = data[start.end() if start else 0 :][:16]
    return next((kind for mark, kind in OTHER_KINDS.items() if begin.startswith(mark)), None)


def by_trafilatura(html: str, url: str | None) -> str:
    """The main text by trafilatura, in its quick mode and without comments."""
    trafilatura = need("trafilatura", "corpus")
    found = trafilatura.bare_extraction(html, url=url, fast=True, include_comments=False, with_metadata=False)
    return (found.text or "") if found is not None else ""


def by_resiliparse(html: str, url: str | None) -> str:  # noqa: ARG001
    """The main text by resiliparse."""
    text: str = need("resiliparse.extract.html2text", "corpus").extract_plain_text(
        html, main_content=True, comments=False
    )
    return text


def by_blocks(html: str, url: str | None) -> str:  # noqa: ARG001
    """The main text by our block classifier."""
    return main_text(html)


def by_newspaper(html: str, url: str | None) -> str:
    """The main text by newspaper4k; none of a page over which it stumbles, be it for want of a language's package."""
    newspaper = need("newspaper", "newspaper")
    article = newspaper.Article(url or "http://localhost/", fetch_images=False)
    try:
        article.download(input_html=html)
        article.parse()
    except Exception:
        return ""
    return article.text or ""


BY_METHOD: dict[str, Callable[[str, str | None], str]] = {
    "default": by_trafilatura,
    "fast": by_resiliparse,
    "blocks": by_blocks,
    "newspaper": by_newspaper,
}


def tidy(text: str) -> str:
    """No-break spaces as spaces, no spaces at the ends of lines, at most one empty line in a row."""
    lines = [line.rstrip() for line in text.replace("\xa0", " ").split("\n")]
    return LONGEST_LINE_OF_BLANKS.sub("\n\n", "\n".join(lines)).strip()


def language_of(text: str) -> str | None:
    """ISO 639-1 code of the most likely language; None when there is too little to tell."""
    language: str | None = detector().detect(text[:LANGUAGE_CHARACTERS]).language
    return language


# Many pages, in a child process


class Extractor:
    """Documents of pages by one method, made in a child process with a limit for each page.

    A page that takes longer, or ends the child, costs at most the limit and gives a cause; the child is replaced.
    Works within daemonic worker processes. Not for several threads at once.
    """

    def __init__(self, method: Method = "default", seconds: float = SECONDS) -> None:
        """`method`: one of `METHODS`. `seconds`: what a page may take."""
        method_named(method)
        if not seconds > 0:
            raise ConfigError(f"a page's time limit is in seconds and above 0, not {seconds}")
        self._sandbox = Sandbox("gpt2.corpus.extract.methods:answering", (method,), seconds)

    def document(self, page: Page) -> Document | str:
        """The document of a page, whose id and group are the page's canonical address, or the cause why there
        is none: what refuses the page, "no text", "over 10 seconds", "crashed (SIGSEGV)"."""
        if page.refusal:
            return page.refusal
        head = json.dumps({"url": page.url, "charset": page.charset}).encode()
        reply = self._sandbox.call(head + b"\n" + page.body)
        if isinstance(reply, str):
            return reply
        found = json.loads(reply)
        if isinstance(found, str):
            return found
        name = canonical(page.url) or page.url
        return Document(**{**found, "id": name, "group": name, "source": page.source})

    def close(self) -> None:
        """End the child process."""
        self._sandbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def answering(method: Method) -> Callable[[bytes], bytes]:
    """What the child of an `Extractor` runs: an address and charset as JSON, a line's end and the body of a page
    to a document or a cause as JSON. What the method needs is imported by a first page."""
    document_of("<p>A page with some words in it, enough to be a text.</p>", None, method)

    def answer(request: bytes) -> bytes:
        head, _, body = request.partition(b"\n")
        found = document_of(body, method=method, **json.loads(head))
        return json.dumps(found if isinstance(found, str) else dataclasses.asdict(found)).encode()

    return answer
