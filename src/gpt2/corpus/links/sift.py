"""The rules of links by name, and what falls to each: counts, and a sample that is the same every time.

A row is held against the rules in order and falls to the first that it breaks. What a source does not say
breaks no rule: a list without days or marks passes those that ask for them. The sample of a rule is the
fallen with the lowest checksum of their addresses, whatever the order in which they came, so that samples
of many sources merge into one. Rejected: the first that fell, which would all be of one day.

    sieve = Sieve(rules_of(LinksConfig(before="2018-01-01")))
    sieve.takes(row, canonical(row.address) or "", "RS_2011-01.zst")
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gpt2.corpus.links.blocklist import (
    REDDIT,
    host_of,
    is_media,
    read_domains,
    read_subreddits,
    under,
    wikipedia,
)
from gpt2.workspace import Json

if TYPE_CHECKING:
    from gpt2.corpus.links.dumps import Row
    from gpt2.corpus.links.gathering import LinksConfig

SAMPLES = 20
"""Of what falls to a rule, so many are kept to look at."""


class Candidate(NamedTuple):
    """A row that is held against the rules."""

    row: Row
    """As its source gave it."""
    url: str
    """Its canonical address, or ""."""
    host: str
    """The host in it, or ""."""


class Rule(NamedTuple):
    """A rule and its name."""

    name: str
    """Its name in counts and samples."""
    why: str
    """What falls to it."""
    falls: Callable[[Candidate], bool]
    """Whether a row does."""


def rules_of(config: LinksConfig) -> list[Rule]:
    """The rules that a row is held against, in order; votes are for the merged links."""
    rules = [
        Rule("self", "a post of text", lambda link: link.row.is_text),
        Rule("address", "no address of the web", lambda link: not link.url),
        Rule("site", "Reddit itself", lambda link: under(link.host, REDDIT)),
    ]
    if not config.over_18:
        rules.append(Rule("over 18", "marked as for adults", lambda link: link.row.is_adult))
    if config.blocked_subreddits:
        names = read_subreddits(config.blocked_subreddits)
        why = f"a subreddit on {config.blocked_subreddits.name}"
        rules.append(Rule("subreddit", why, lambda link: link.row.community in names))
    if config.after or config.before:
        first, end = config.after or "", config.before or "9"
        why = " and ".join(
            [f"before {first}"] * bool(config.after) + [f"{end} or later"] * bool(config.before)
        )
        rules.append(
            Rule("date", why, lambda link: (day := link.row.date) is not None and not first <= day < end)
        )
    rules.append(
        Rule("media", "a picture, film, sound or download", lambda link: is_media(link.url, link.host))
    )
    if not config.wikipedia:
        mirrors = wikipedia()
        why = "Wikipedia and its mirrors"
        rules.append(Rule("wikipedia", why, lambda link: under(link.host, mirrors)))
    if config.blocked_domains:
        domains = read_domains(config.blocked_domains)
        why = f"a domain on {config.blocked_domains.name}"
        rules.append(Rule("domain", why, lambda link: under(link.host, domains)))
    return rules


class Sieve:
    """Holds rows against rules, and counts."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self.came = 0
        self.undated = 0
        """Rows taken whose day is not known."""
        self.fallen: Counter[str] = Counter()
        self.samples: dict[str, list[tuple[int, Json]]] = {}

    def takes(self, row: Row, url: str, source: str) -> bool:
        """Whether a row with this canonical address ("" for none) breaks no rule."""
        self.came += 1
        candidate = Candidate(row, url, host_of(url))
        for rule in self.rules:
            if rule.falls(candidate):
                self.drop(rule.name, row.address, row.vote_count, [source])
                return False
        return True

    def drop(self, rule: str, url: str, votes: int | None, sources: Sequence[str]) -> None:
        """Count what fell to a rule, and keep it if it belongs to the sample."""
        self.fallen[rule] += 1
        place = zlib.crc32(url.encode(errors="replace"))
        self._keep(rule, place, {"url": url[:1000], "votes": votes, "sources": list(sources)})

    def _keep(self, rule: str, place: int, row: Json) -> None:
        sample = self.samples.setdefault(rule, [])
        if len(sample) == SAMPLES and place > sample[-1][0]:
            return
        distinct: dict[str, tuple[int, Json]] = {}
        for item in sorted([*sample, (place, row)], key=in_order):
            distinct.setdefault(item[1]["url"], item)
        sample[:] = list(distinct.values())[:SAMPLES]

    @property
    def record(self) -> Json:
        """All that was counted, for a file."""
        return {
            "came": self.came,
            "undated": self.undated,
            "fallen": dict(self.fallen),
            "samples": self.samples,
        }

    def add(self, record: Json) -> None:
        """Add what another sieve had counted."""
        self.came += record["came"]
        self.undated += record["undated"]
        self.fallen.update(record["fallen"])
        for rule, rows in record["samples"].items():
            for place, row in rows:
                self._keep(rule, place, row)


def in_order(item: tuple[int, Json]) -> tuple[int, str, list[str], bool, int]:
    """Where something stands in a sample."""
    place, row = item
    return place, row["url"], row["sources"], row["votes"] is None, row["votes"] or 0
