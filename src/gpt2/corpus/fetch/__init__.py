"""Pages: links fetched politely into WARC, and what WARC files hold.

crawl.py        the fetcher: safe, restartable
frontier.py     its links: millions in little memory
schedule.py     its hosts: whose turn it is
client.py       one request, within limits
addresses.py    which addresses may be asked
robots.py       what sites ask of crawlers
outcomes.py     Fetched: how each link ended; going on from there
warc_writer.py  WARC files, begun anew at a certain size
warc.py         Record: WARC and ARC files, read past damage
pages.py        Page: what a record holds, its encodings undone
"""

from gpt2.corpus.fetch.crawl import Crawl, FetchConfig, fetch
from gpt2.corpus.fetch.outcomes import LOG, Fetched, read_outcomes
from gpt2.corpus.fetch.pages import Page, read_pages
from gpt2.corpus.fetch.warc import warc_files

__all__ = [
    "LOG",
    "Crawl",
    "FetchConfig",
    "Fetched",
    "Page",
    "fetch",
    "read_outcomes",
    "read_pages",
    "warc_files",
]
