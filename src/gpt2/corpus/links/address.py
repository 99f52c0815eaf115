"""Addresses of the web in one canonical form.

Addresses are compared in one canonical form, so that a page is one page however it was spelled; it is the
form that the fetcher asks for, and only what no server looks at is taken out (fragment, default port, name
and password, tracking parameters by name). Rejected: courlan's form, which drops parameters without a value
or whose name begins like a tracker's, and so gives the address of another page; and counting links instead
of pages that link, by which one page with a long menu would outvote all others.

    python -c "from gpt2.corpus.links import canonical; print(canonical('HTTP://A.org:80/b?utm_source=x#c'))"
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from gpt2.errors import need

if TYPE_CHECKING:
    from yarl import URL

LONGEST_ADDRESS = 8_000
"""Servers refuse longer ones."""
HOST = re.compile(r"[a-z0-9_-][a-z0-9._-]*|[0-9a-f:]*:[0-9a-f:.]*")
TRACKER = re.compile(r"(utm_\w+|gclid|dclid|fbclid|msclkid|yclid|igshid|mc_cid|mc_eid|_ga|_gl)(=|$)", re.I)
PLAIN = re.compile(
    r"https?://[a-z0-9][a-z0-9.-]*/[A-Za-z0-9_~/,.:=@!$&'()*+-]*(\?[A-Za-z0-9][A-Za-z0-9_.~=&/,:-]*)?"
)
"""Addresses that are canonical as they stand, but for trackers and dots between slashes: nine of ten."""


def canonical(url: str, base: str = "") -> str | None:
    """The one form of an address (relative to `base`) that equal addresses share; None unless HTTP(S)."""
    if PLAIN.fullmatch(url) and "/." not in url and len(url) <= LONGEST_ADDRESS:
        query = url.partition("?")[2]
        if not query or not any(map(TRACKER.match, query.split("&"))):
            return url
    return canonical_by_parts(url, base)


def canonical_by_parts(url: str, base: str = "") -> str | None:
    """The same for any address, ten times slower."""
    try:
        url.encode()  # refuses halves of surrogate pairs
        address = url_type()(urljoin(base, url.strip()))
        if address.scheme not in ("http", "https") or not HOST.fullmatch(address.raw_host or ""):
            return None
        query = [part for part in address.raw_query_string.split("&") if not TRACKER.match(part)]
        plain = f"{address.origin()}{address.raw_path}" + ("?" + "&".join(query) if any(query) else "")
    except (ValueError, IndexError):  # the second of yarl, for http://[::1]@
        return None
    return plain if len(plain) <= LONGEST_ADDRESS else None


@functools.cache
def url_type() -> type[URL]:
    """yarl's URL, by which aiohttp makes its requests."""
    url: type[URL] = need("yarl", "corpus").URL
    return url
