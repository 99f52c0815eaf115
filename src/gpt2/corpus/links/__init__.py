"""Links: where they come from, which are wanted, and their votes (paper 2.1).

gathering.py  Link; gathering links from files of any kind under the rule of 3 votes
address.py    the one form of an address
dumps.py      dumps of submissions, packed in any way
sources.py    dumps, CSV, lists, sitemaps, WARC and Parquet as rows
blocklist.py  what a link may not be: lists of hosts, endings, domains, subreddits
sift.py       the rules of links by name
buckets.py    millions of links merged in bounded memory
votes.py      the votes of links, looked up by many processes
"""

from gpt2.corpus.links.address import canonical
from gpt2.corpus.links.gathering import (
    MINIMUM_VOTES,
    Gathered,
    Link,
    LinksConfig,
    count_votes,
    gather,
    read_links,
    voted,
)

__all__ = [
    "MINIMUM_VOTES",
    "Gathered",
    "Link",
    "LinksConfig",
    "canonical",
    "count_votes",
    "gather",
    "read_links",
    "voted",
]
