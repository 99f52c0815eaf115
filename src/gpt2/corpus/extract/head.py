"""What a page says of itself in its head: title, day of publication, canonical address.

The day is the first of these that is a real date: a `meta` element whose name says publication
(`article:published_time`, `datePublished`, `dc.date` and their kind, in that order), `datePublished` in the
page's JSON-LD, a `time` element marked as the publication's, and last a year, month and day in the address.
It is kept as written, without a shift to another time zone. A date of change or of indexing is not taken for
one. Rejected: htmldate, which reads the whole page for anything that looks like a date and costs as much as
the extraction.

The canonical address is `link rel=canonical` as long as it stays on the page's own site: a page may not pass
itself off as another site's.

    python -c "from gpt2.corpus.extract.head import day; print(day('2019-03-04T05:06:07Z'))"
"""

from __future__ import annotations

import datetime
import email.utils
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gpt2.errors import need

PUBLISHED = {
    name: place
    for place, name in enumerate(
        (
            "article:published_time",
            "og:article:published_time",
            "og:published_time",
            "datepublished",
            "parsely-pub-date",
            "sailthru.date",
            "cxenseparse:recs:publishtime",
            "publication_date",
            "citation_publication_date",
            "citation_date",
            "pubdate",
            "publishdate",
            "publish-date",
            "publish_date",
            "date.issued",
            "dc.date.issued",
            "dcterms.issued",
            "dcterms.created",
            "dc.date.created",
            "dcterms.date",
            "dc.date",
            "date",
        )
    )
}
"""Names of `meta` elements that tell when a page was published, the most telling first."""
JSON_LD_DATE = re.compile(r'"datePublished"\s*:\s*"([^"\\]{4,40})"')
MARKED_TIME = re.compile(r"<time\b[^<>]*\b(?:pubdate|datePublished)\b[^<>]*>")
DATETIME = re.compile(r"""datetime=["']?([^"'<>]{8,40})""")
IN_ADDRESS = re.compile(r"/((?:19|20)\d\d)[/-](\d\d?)[/-](\d\d?)(?=[/._-]|$)")
ISO = re.compile(r"\s*((?:19|20)\d\d)([-/.]?)(\d\d)\2(\d\d)(?!\d)")
BODY = re.compile(r"<body[\s>]", re.I)
LONGEST_HEAD = 500_000
"""Characters among which a page's head is looked for."""
FIRST_YEAR = 1990
"""The web is not older."""


@dataclass(frozen=True)
class Head:
    """What a page says of itself."""

    title: str | None = None
    """Its title."""
    date: str | None = None
    """Day of its publication, as YYYY-MM-DD."""
    link: str | None = None
    """Its canonical address, on the same site."""


def head_of(html: str, url: str | None) -> Head:
    """The head of a page whose source is `html`; only what stands before its body is parsed."""
    metas: dict[str, str] = {}
    body = BODY.search(html, 0, LONGEST_HEAD)
    root = tree(html[: body.start() if body else LONGEST_HEAD])
    if root is None:
        return Head()
    for element in root.iter("meta"):
        name = element.get("property") or element.get("name") or element.get("itemprop")
        content = element.get("content")
        if name and content:
            metas.setdefault(name.strip().lower(), content)
    title = next((t for t in map(text_of, root.iter("title")) if t), None)
    title = title or words(metas.get("og:title", "")) or None
    return Head(title, date_of(metas, html, url), link_of(root, url))


def tree(html: str) -> Any:
    """The tree of HTML by lxml, without comments; None when there is nothing in it."""
    etree = need("lxml.etree", "corpus")
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    return etree.fromstring(html.replace("\0", "").encode(errors="replace") or b" ", parser)


def text_of(element: Any) -> str:
    """The text of an element and all in it, with single spaces."""
    return words("".join(element.itertext()))


def words(text: str) -> str:
    """A text with single spaces."""
    return " ".join(text.split())


def date_of(metas: dict[str, str], html: str, url: str | None) -> str | None:
    """Day of publication, as YYYY-MM-DD."""
    named = sorted((PUBLISHED[name], content) for name, content in metas.items() if name in PUBLISHED)
    found = first_day(content for _, content in named)
    if not found and '"datePublished"' in html:
        found = first_day(JSON_LD_DATE.findall(html))
    if not found:
        found = first_day(DATETIME.findall(" ".join(MARKED_TIME.findall(html))))
    if not found and url and (parts := IN_ADDRESS.search(urlsplit(url).path)):
        found = day("{}-{:0>2}-{:0>2}".format(*parts.groups()))
    return found


def first_day(texts: Iterable[str]) -> str | None:
    """The first text that is a date."""
    return next((found for found in map(day, texts) if found), None)


def day(text: str) -> str | None:
    """A date as YYYY-MM-DD, from ISO 8601 (also with slashes, dots or nothing between) or mail's form.

    None for what is no date, or one older than the web.
    """
    try:
        if match := ISO.match(text):
            found = datetime.date(int(match[1]), int(match[3]), int(match[4]))
        else:
            found = email.utils.parsedate_to_datetime(text).date()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found.isoformat() if found.year >= FIRST_YEAR else None


def link_of(root: Any, url: str | None) -> str | None:
    """The canonical address that a page names, when it is on the site of `url`."""
    from gpt2.corpus.links.address import canonical

    for element in root.iter("link"):
        if "canonical" in (element.get("rel") or "").lower().split():
            link = canonical(element.get("href") or "", url or "")
            return link if link and url and site(link) == site(url) else None
    return None


def site(url: str) -> str:
    """The host of an address, without the labels of its mobile and its plain form."""
    host = urlsplit(url).hostname or ""
    labels = host.split(".")
    while len(labels) > 2 and labels[0] in ("www", "m", "mobile", "amp"):
        labels = labels[1:]
    return ".".join(labels)
