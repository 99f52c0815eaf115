"""The embedded site's own way from links to texts: followed from its index, voted for by its own pages, cut.

It stands in for Reddit where there is no network: a page is wanted when enough distinct other pages of the
site link to it, as WebText's were when enough readers had voted for them. From its texts on (build/recipe.py)
it is treated as any other source, under rules of its own (`SITE` in clean/rule_lists.py), since pages of reference
are not articles.

    python -c "from gpt2.corpus import BuildConfig, build; build(BuildConfig(), 'documentation')"
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from gpt2.console import Console
from gpt2.corpus.documents import Document
from gpt2.corpus.fetch.crawl import Crawl, FetchConfig, fetch
from gpt2.corpus.fetch.outcomes import LOG, read_outcomes
from gpt2.corpus.fetch.pages import LONGEST_BODY, outgoing_links, read_pages
from gpt2.corpus.fetch.warc import warc_files
from gpt2.corpus.funnel import Funnel
from gpt2.corpus.links.gathering import count_votes
from gpt2.corpus.site import documentation
from gpt2.errors import FetchError
from gpt2.workspace import Json, digest, read_json, write_json

NOTE = "site.json"


def installed() -> str:
    """What tells one site from another: the versions of the packages that are documented."""
    packages = {name: metadata.version(name) for name in ("numpy", "torch", "pyarrow")}
    return digest([platform.python_version(), packages])


def fetch_site(folder: Path, console: Console) -> Json:
    """Fetch all of the site, on the port that an interrupted fetch had used; returns how many links and pages."""
    note = folder / NOTE
    port = int(read_json(note)["port"]) if note.exists() else 0
    try:
        done = crawl(folder, port, console)
    except FetchError:
        for path in (folder / LOG, *warc_files(folder), note):
            path.unlink(missing_ok=True)
        if not port:
            raise
        # the port was taken by another program, and so all addresses change
        done = crawl(folder, 0, console)
    return {"links": done.links, "pages": done.pages}


def crawl(folder: Path, port: int, console: Console) -> Crawl:
    """Follow the site's links from its index until none is new."""
    with documentation.serve(port) as site:
        write_json(folder / NOTE, {"port": int(site.address.rpartition(":")[2])})
        config = FetchConfig(
            delay=0.0,
            allow=frozenset({site.address}),
            timeout=120.0,
            idle=120.0,
            retries=0,
            max_bytes=LONGEST_BODY,
        )
        return fetch([site.start], folder, config, outgoing_links, console)


def site_texts(pages: Path, minimum: int, console: Console, funnel: Funnel) -> Iterator[Document]:
    """The pages that `minimum` other pages or more link to, cut into documents, the best-known pages first."""
    outcomes = list(read_outcomes(pages))
    indexes = documentation.Site(f"127.0.0.1:{read_json(pages / NOTE)['port']}").indexes
    got = [f for f in outcomes if f.cause is None]
    able = [f.url for f in got if f.url not in indexes]
    votes = count_votes({f.url: f.links for f in got}, indexes)
    chosen = {url for url in able if votes.get(url, 0) >= minimum}
    funnel.passed("links", len(outcomes))
    funnel.passed("pages", len(got))
    for f in outcomes:
        if f.cause:
            funnel.dropped("fetch", f.cause, id=f.url)
    funnel.dropped("votes", f"fewer than {minimum} other pages link to it", len(able) - len(chosen))
    funnel.dropped("votes", "index page, which only lists others", len(got) - len(able))
    funnel.passed("voted pages", len(chosen))
    documents: list[Document] = []
    taken: Counter[str] = Counter()
    with console.progress("extracting", len(chosen), "pages") as bar:
        for path in warc_files(pages):
            for page in read_pages(path):
                if page.url in chosen:
                    documents += documentation.cut(page, votes[page.url], taken)
                    bar.advance()
    for rule, n in taken.items():
        funnel.took("cutting", rule, n)
    documents.sort(key=lambda d: (-(d.votes or 0), d.group))  # of two copies, the better-known page's is kept
    funnel.passed("texts", len(documents))
    yield from documents
