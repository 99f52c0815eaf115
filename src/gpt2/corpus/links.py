"""Links and the rule that chooses among them (paper 2.1).

WebText is "all outbound links from Reddit ... which received at least 3 karma": a page is wanted because
enough people vouched for it. Here a link has votes from wherever there are any: the score beside it in a
list, or, within one site, the number of distinct other pages that link to it. Addresses are compared in one
canonical form (no fragment, host in lower case, no default port, no tracking parameters), so that a page is
one page however it was spelled. Rejected: counting links instead of pages that link, by which one page with
a long menu would outvote all others.

    python -c "from gpt2.corpus.links import canonical; print(canonical('HTTP://Example.com:80/a/#part'))"
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from gpt2.corpus.documents import decode_text
from gpt2.errors import FormatError, InputError, TooLittleData, need

MINIMUM_VOTES = 3
"""The paper's "at least 3 karma"."""


@dataclass(frozen=True)
class Link:
    """A page that somebody pointed at."""

    url: str
    """Canonical address."""
    votes: int | None = None
    """How many vouched for it; unknown in a plain list."""


def canonical(url: str, base: str = "") -> str | None:
    """The one form of an address (relative to `base`) that equal addresses share; None unless HTTP(S)."""
    courlan = need("courlan", "corpus")
    try:
        parts = urlsplit(urljoin(base, url.strip()))
        if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
            return None
        normal: str = courlan.normalize_url(parts._replace(fragment="", path=parts.path or "/"))
    except ValueError:
        return None
    return normal


def read_links(path: Path) -> list[Link]:
    """The links of a file, each once, with the best of its votes, in the order in which they came.

    A list of URLs (one a line), CSV with a column `url` and perhaps `score` or `votes`, or JSON lines with
    those fields. Lines without an address of the web are passed over. Raises `InputError` for a file that
    is not there, `FormatError` for one of another kind, `TooLittleData` without any link.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}; give a file of links, one a line")
    text = decode_text(path.read_bytes(), path)
    best: dict[str, int | None] = {}
    for url, votes in rows_of(text, path):
        address = canonical(url)
        if address is not None:
            known = best.get(address)
            best[address] = votes if known is None else max(known, known if votes is None else votes)
    if not best:
        raise TooLittleData(f"there is no link in {path}; give addresses that begin with http:// or https://")
    return [Link(url, votes) for url, votes in best.items()]


def rows_of(text: str, path: Path) -> Iterator[tuple[str, int | None]]:
    """Address and votes of each row of a list, CSV or JSON lines."""
    lines = text.splitlines()
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("{"):
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise FormatError(f"line {number} of {path} is not JSON: {error}") from None
                if isinstance(row, dict):
                    yield str(row.get("url") or ""), votes_of(row)
    elif "url" in next(csv.reader([first]), []):
        for row in csv.DictReader(text.splitlines(keepends=True)):
            yield row.get("url") or "", votes_of(row)
    else:
        for line in lines:
            yield line, None


def votes_of(row: Mapping[str, object]) -> int | None:
    """The votes in a row of a table, where it has any that are a number."""
    for name in ("votes", "score"):
        try:
            return int(float(str(row[name])))
        except (KeyError, ValueError, OverflowError):
            continue
    return None


def voted(links: Iterable[Link], minimum: int = MINIMUM_VOTES) -> list[Link]:
    """The links that pass the rule; in a plain list without votes every line was somebody's choice."""
    return [link for link in links if link.votes is None or link.votes >= minimum]


def count_votes(outgoing: Mapping[str, Iterable[str]], indexes: Iterable[str] = ()) -> dict[str, int]:
    """Votes within a site: for each address, how many distinct other pages link to it.

    `outgoing` gives the canonical addresses that each page links to; pages in `indexes` cast no vote.
    """
    mute = set(indexes)
    votes: dict[str, int] = {}
    for page, targets in outgoing.items():
        if page not in mute:
            for target in set(targets) - {page}:
                votes[target] = votes.get(target, 0) + 1
    return votes
