"""Links and the rule that chooses among them (paper 2.1).

WebText is "all outbound links from Reddit ... which received at least 3 karma": a page is wanted because
enough people vouched for it. Here a link has votes from wherever there are any: the score beside it in a
list, or, within one site, the number of distinct other pages that link to it. Addresses are compared in one
canonical form, so that a page is one page however it was spelled; it is the form that the fetcher asks for,
and only what no server looks at is taken out (fragment, default port, name and password, tracking parameters
by name). Rejected: courlan's form, which drops parameters without a value or whose name begins like a
tracker's, and so gives the address of another page; and counting links instead of pages that link, by which
one page with a long menu would outvote all others.

    python -c "from gpt2.corpus.links import canonical; print(canonical('HTTP://Example.com:80/a/#part'))"
"""

from __future__ import annotations

import csv
import functools
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from gpt2.corpus.documents import decode_text
from gpt2.errors import FormatError, InputError, TooLittleData, need

if TYPE_CHECKING:
    from yarl import URL

MINIMUM_VOTES = 3
"""The paper's "at least 3 karma"."""
LONGEST_ADDRESS = 8_000
"""Servers refuse longer ones."""
HOST = re.compile(r"[a-z0-9_-][a-z0-9._-]*|[0-9a-f:]*:[0-9a-f:.]*")
TRACKER = re.compile(r"(utm_\w+|gclid|dclid|fbclid|msclkid|yclid|igshid|mc_cid|mc_eid|_ga|_gl)(=|$)", re.I)


@dataclass(frozen=True)
class Link:
    """A page that somebody pointed at."""

    url: str
    """Canonical address."""
    votes: int | None = None
    """How many vouched for it; unknown in a plain list."""


def canonical(url: str, base: str = "") -> str | None:
    """The one form of an address (relative to `base`) that equal addresses share; None unless HTTP(S)."""
    try:
        url.encode()  # refuses halves of surrogate pairs
        address = url_type()(urljoin(base, url.strip()))
        if address.scheme not in ("http", "https") or not HOST.fullmatch(address.raw_host or ""):
            return None
        query = [part for part in address.raw_query_string.split("&") if not TRACKER.match(part)]
        plain = f"{address.origin()}{address.raw_path}" + ("?" + "&".join(query) if any(query) else "")
    except ValueError:
        return None
    return plain if len(plain) <= LONGEST_ADDRESS else None


@functools.cache
def url_type() -> type[URL]:
    """yarl's URL, by which aiohttp makes its requests."""
    url: type[URL] = need("yarl", "corpus").URL
    return url


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
    text = text.lstrip()
    first = text.partition("\n")[0].strip()
    lines = io.StringIO(text, newline="")  # str.splitlines would cut a value at U+2028
    if first.startswith("{"):
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise FormatError(f"line {number} of {path} is not JSON: {error}") from None
                if isinstance(row, dict):
                    yield str(row.get("url") or ""), votes_of(row)
    elif "url" in [name.strip('" ') for name in first.split(",")]:
        table = csv.DictReader(lines)
        try:
            for row in table:
                yield row.get("url") or "", votes_of(row)
        except csv.Error as error:
            raise FormatError(f"{path} is not CSV after line {table.line_num}: {error}") from None
    else:
        for line in lines:
            yield line, None


def votes_of(row: Mapping[str, object]) -> int | None:
    """The votes in a row of a table: 0 when they are no number, None when the row has no such field."""
    for name in ("votes", "score"):
        if name in row:
            try:
                votes = float(str(row[name]))
            except ValueError:
                return 0
            return int(votes) if abs(votes) < 1e15 else 0
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
