"""Text to HTML: everything is escaped unless it is `Html` already.

`tag("td", title, class_="word")` escapes `title` whatever it holds, so no caller can forget to. Characters
that HTML forbids (controls, halves of surrogate pairs) are shown by their control pictures or U+FFFD. Text
of unknown direction goes into an element with `dir="auto"`, which keeps it from turning its surroundings.

Rejected: a template language, which is a dependency and escapes by default only in some of its corners.
"""

from __future__ import annotations

import html as stdlib_html
import re
from collections.abc import Container, Sequence

ONLY_OPENED = {"meta", "link", "br"}
CELL = {"l": "word", "r": "number", "b": "bar"}
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class Html(str):
    """Markup that goes into the page as it is."""

    __slots__ = ()


def html(value: object) -> Html:
    """A value as markup: `Html` unchanged, all else as escaped text."""
    if isinstance(value, Html):
        return value
    text = str(value).replace("\r\n", "\n").replace("\r", "\n")
    return Html(stdlib_html.escape(FORBIDDEN.sub(visible, text)))


def visible(match: re.Match[str]) -> str:
    """A forbidden character's picture."""
    code = ord(match[0])
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "\ufffd"


def join(*children: object) -> Html:
    """Several pieces as one."""
    return Html("".join(map(html, children)))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element. `class_` stands for class, `aria_label` for aria-label; an attribute that is None is left out."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{shown}>" + ("" if name in ONLY_OPENED else f"{join(*children)}</{name}>"))


def table(
    align: str,
    header: Sequence[object],
    rows: Sequence[Sequence[object]],
    label: str,
    class_: str | None = None,
    starts: Container[int] = (),
) -> Html:
    """A table in a box that scrolls by itself where the page is narrow.

    `align` has a letter a column: l for words, r for numbers, b for a drawn bar. Whole numbers are given
    commas. The first column names the row. Rows at the places in `starts` begin a new group.
    """
    names = [CELL[letter] for letter in align]
    head = tag("tr", *(tag("th", cell, class_=c, scope="col") for cell, c in zip(header, names, strict=True)))
    body = []
    for i, row in enumerate(rows):
        first, *rest = (f"{cell:,}" if isinstance(cell, int) else cell for cell in row)
        cells = [tag("td", cell, class_=c) for cell, c in zip(rest, names[1:], strict=True)]
        body.append(
            tag(
                "tr",
                tag("th", first, class_=names[0], scope="row"),
                *cells,
                class_="start" if i in starts else None,
            )
        )
    whole = tag("table", tag("thead", head), tag("tbody", *body), class_=class_)
    return tag("div", whole, class_="box", role="region", aria_label=label, tabindex=0)


def facts(pairs: Sequence[tuple[object, object]], class_: str) -> Html:
    """Names with their values, as a list of definitions."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs), class_=class_)
