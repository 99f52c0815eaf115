"""A page as blocks of text: runs of text that no block element interrupts, and the elements around them.

A paragraph, a heading, an item of a list is a block. Each element around blocks keeps its tag, and which of the
words in its class and id names tell of a page's parts. What a browser would not show is left out.

Rejected: resiliparse's tree, which costs many times as much to walk from Python as lxml's; and taking scripts out
by string search before parsing, which lost the text of one page in thirty for no time saved.

    python -c "from gpt2.corpus.extract.blocks import blocks_of; print(blocks_of('<p>One<p>Two').texts)"
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import Any

from gpt2.errors import need


def names(text: str) -> dict[str, None]:
    """Names in a row, in their order."""
    return dict.fromkeys(text.split())


BODY = re.compile(r"<body[\s>]", re.I)
NO_DISPLAY = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)
LINE_BREAK = "\ue000"
"""Stands in a block's text for a `br`, behind a space."""
INLINE = names(
    "a abbr acronym b bdi bdo big br cite code data del dfn em font i img ins kbd label mark nobr q rp rt ruby s "
    "samp small span strike strong sub sup time tt u var wbr"
)
SKIPPED = names(
    "applet area audio button canvas datalist embed head iframe input link map math meta meter noscript object "
    "option progress script select style svg template textarea title video"
)
TAGS = list(
    names(
        "article main aside nav footer header form figure figcaption table li ul ol dl blockquote section p pre h1 h2 "
        "h3 h4 h5 h6 div td address dt dd"
    )
)
"""Tags that are features."""
HINTS = [
    names(words)
    for words in (
        "article post story entry news blog hentry",
        "body text content copy main maincontent articlebody page",
        "paragraph par p prose richtext rich",
        "comment comments disqus reply replies respond commentary",
        "nav menu navigation navbar breadcrumb breadcrumbs crumb crumbs pagination pager topnav subnav",
        "sidebar side aside rail secondary column right left",
        "footer foot bottom colophon copyright legal",
        "header masthead banner top hero",
        "related recommended recommend more also popular trending latest recent next prev previous similar teaser "
        "teasers read suggested",
        "share sharing social facebook twitter follow like likes addthis sociable tweet pinterest",
        "ad ads advert advertisement sponsor sponsored promo promotion outbrain taboola dfp adv banner commercial "
        "affiliate",
        "caption credit photo image img figure gallery picture media slideshow video player wp",
        "author byline by bio writer contributor reporter profile",
        "date time timestamp published posted updated meta info",
        "newsletter subscribe subscription signup sign email form optin",
        "hidden hide invisible print noprint",
        "widget module box block panel card",
        "tag tags category categories topic topics keyword keywords label labels cat",
        "title headline heading hed subtitle subheading kicker",
        "lead summary intro standfirst description desc excerpt dek abstract deck sub",
        "login modal popup overlay cookie cookies consent lightbox register gdpr paywall",
        "list links link index archive archives items",
        "quote pullquote pull callout inset",
        "tools toolbar actions action button buttons controls print tool",
        "search filter sort",
        "notes note disclaimer footnote footnotes correction references",
        "wrap wrapper container inner outer row col grid",
        "counter count views rating score number num",
    )
]
"""Words in class and id names that are features, a set each."""
BIT = {tag: 1 << i for i, tag in enumerate(TAGS)}
WORD_BITS: dict[str, int] = {}
for place, group in enumerate(HINTS, len(TAGS)):
    for word in group:
        WORD_BITS[word] = WORD_BITS.get(word, 0) | 1 << place
ARTICLE_BODY = 1 << len(TAGS) + len(HINTS)
BITS = len(TAGS) + len(HINTS) + 1
NAME_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]{2,}")


@dataclass
class Blocks:
    """The blocks of a page in their order, and the elements around them, each after the one it is in."""

    texts: list[str] = field(default_factory=list)
    """Of each block: its text with single spaces,"""
    links: list[int] = field(default_factory=list)
    """how many of its characters stand in links,"""
    element: list[int] = field(default_factory=list)
    """and its block element."""
    parent: list[int] = field(default_factory=lambda: [0])
    """Of each block element: the one around it (0 is the page, around itself),"""
    tag: list[str] = field(default_factory=lambda: [""])
    """its tag,"""
    depth: list[int] = field(default_factory=lambda: [0])
    """how many are around it,"""
    own: list[int] = field(default_factory=lambda: [0])
    """the bits of its tag and of its class and id names,"""
    path: list[int] = field(default_factory=lambda: [0])
    """and those with the bits of all around it,"""
    kind: list[str] = field(default_factory=lambda: [""])
    """and its tag and class, which tell its place in the page's template."""

    def add(self, pieces: list[str], links: int, element: int) -> None:
        """Append a block of these pieces of text, if they have any."""
        if text := " ".join("".join(pieces).split()):
            self.texts.append(text)
            self.links.append(links)
            self.element.append(element)


@functools.lru_cache(100_000)
def name_bits(name: str) -> int:
    """The bits of a class or id name."""
    bits = 0
    for word in NAME_WORD.findall(name[:500]):
        bits |= WORD_BITS.get(word.lower(), 0)
    return bits


@functools.cache
def texts_in() -> Any:
    """The XPath of all text in a tree but blanks."""
    return need("lxml.etree", "corpus").XPath("//text()[normalize-space()]")


def blocks_of(html: str) -> Blocks:
    """The blocks of a page, without what a browser would not show."""
    etree = need("lxml.etree", "corpus")
    body = BODY.search(html)
    source = (html[body.start() :] if body else html).replace("\0", "").encode(errors="replace")
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    root = etree.fromstring(source or b" ", parser)
    found = Blocks()
    if root is None:
        return found
    places: dict[Any, int] = {}  # element to its block element, its bits turned around (~) when in a link
    hidden: set[Any] = set()
    pieces: list[str] = []
    current = characters = 0
    around: Any = None
    for text in texts_in()(root):
        before = around
        inside = text.getparent()
        around = inside.getparent() if text.is_tail else inside
        place = places.get(around)
        if place is None:
            if around in hidden or not settle(around, places, hidden, found):
                continue
            place = places[around]
        linked = place < 0
        if linked:
            place = ~place
        if place != current:
            found.add(pieces, characters, current)
            pieces, characters, current = [], 0, place
        elif text.is_tail:
            if inside.tag == "br":
                pieces.append(" " + LINE_BREAK)
        elif before is not around.getparent():  # blanks between two elements were passed over
            pieces.append(" ")
        pieces.append(text)
        if linked:
            characters += len(text)
    found.add(pieces, characters, current)
    return found


def settle(around: Any, places: dict[Any, int], hidden: set[Any], found: Blocks) -> bool:
    """Give an element, and those around it, their places; False when it is not shown."""
    new = []
    while around is not None and around not in places and around not in hidden:
        new.append(around)
        around = around.getparent()
    if around in hidden:
        hidden.update(new)
        return False
    place = 0 if around is None else places[around]
    while new:
        one = new.pop()
        tag = one.tag
        if tag in INLINE:
            if tag == "a" and place >= 0:
                place = ~place
        elif tag in SKIPPED or one.get("hidden") is not None or NO_DISPLAY.search(one.get("style", "")):
            hidden.add(one)
            hidden.update(new)
            return False
        elif tag != "body" and tag != "html":
            name = one.get("class", "")
            bits = BIT.get(tag, 0) | name_bits(name) | name_bits(one.get("id", ""))
            if one.get("itemprop") == "articleBody":
                bits |= ARTICLE_BODY
            parent = place if place >= 0 else ~place
            number = len(found.parent)
            found.parent.append(parent)
            found.tag.append(tag)
            found.depth.append(found.depth[parent] + 1)
            found.own.append(bits)
            found.path.append(found.path[parent] | bits)
            found.kind.append(f"{tag}.{name}")
            place = number if place >= 0 else ~number
        places[one] = place
    return True
