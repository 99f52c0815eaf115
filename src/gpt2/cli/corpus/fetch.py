"""gpt2 corpus fetch: links to pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from gpt2.cli.talk import TALK, Count, Flag, Talk, Whole

POLITE = Group("Politeness", sort_key=10)
LIMITS = Group("Limits", sort_key=20)


def fetch(
    links: Path,
    /,
    *,
    out: Path,
    contact: str,
    delay: Annotated[float, Parameter(group=POLITE)] = 1.0,
    per_host: Annotated[Count, Parameter(group=POLITE)] = 1,
    workers: Annotated[Count, Parameter(group=POLITE)] = 64,
    retries: Annotated[Whole, Parameter(group=LIMITS)] = 2,
    timeout: Annotated[float, Parameter(group=LIMITS)] = 30.0,
    idle: Annotated[float, Parameter(group=LIMITS)] = 15.0,
    max_bytes: Annotated[Count, Parameter(group=LIMITS)] = 10_000_000,
    file_bytes: Annotated[Count, Parameter(group=LIMITS)] = 1_000_000_000,
    allow: Annotated[list[str] | None, Parameter(group=LIMITS, consume_multiple=True)] = None,
    keep_requests: Flag = False,
    again: Flag = False,
    talk: Talk = TALK,
) -> None:
    """Fetch the pages that links lead to into WARC files; the same command goes on after any interruption.

    Parameters
    ----------
    links:
        What `gpt2 corpus links` made, or any list: one URL a line, CSV, JSON lines.
    out:
        Folder for the pages and for how each link ended.
    contact:
        Web or mail address at which you can be reached: every server is told.
    delay:
        Seconds between two requests to one host; robots.txt may ask for more.
    per_host:
        Requests to one host at the same time.
    workers:
        Requests at the same time in all.
    retries:
        Further tries after a failure that may pass.
    timeout:
        Seconds for a whole page.
    idle:
        Seconds without a byte.
    max_bytes:
        Longest page, unpacked.
    file_bytes:
        Size at which a new WARC file is begun.
    allow:
        Private addresses that may be fetched: 127.0.0.1:8000, 10.1.2.3 or 10.1.0.0/16.
    keep_requests:
        Keep what was sent, too.
    again:
        Ask once more for links whose failure may pass.
    """
    from gpt2.corpus.fetch import FetchConfig
    from gpt2.corpus.fetch import fetch as run
    from gpt2.corpus.links import read_links

    config = FetchConfig(
        contact=contact,
        delay=delay,
        per_host=per_host,
        workers=workers,
        retries=retries,
        timeout=timeout,
        idle=idle,
        max_bytes=max_bytes,
        file_bytes=file_bytes,
        allow=frozenset(allow or ()),
        keep_requests=keep_requests,
    )
    crawl = run((link.url for link in read_links(links)), out, config, console=talk.console, again=again)
    rows = [["pages", crawl.pages], *([cause, n] for cause, n in crawl.causes.items())]
    talk.table(["how links ended", "links"], rows)
    talk.result(crawl, "\n".join(f"pages: {path}" for path in crawl.files))
