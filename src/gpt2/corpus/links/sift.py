"""The rules of links by name, and what falls to each.

A row is held against the rules in order and falls to the first that it breaks. What a source does not say
breaks no rule: a list without days or marks passes those that ask for them.

    sieve = Sieve(rules_of(LinksConfig(before="2018-01-01")))
    sieve.takes(row, canonical(row.address) or "", "RS_2011-01.zst")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gpt2.corpus.funnel import Funnel
from gpt2.corpus.links.blocklist import (
    REDDIT,
    host_of,
    is_media,
    read_domains,
    read_subreddits,
    under,
    wikipedia,
)

if TYPE_CHECKING:
    from gpt2.corpus.links.dumps import Row
    from gpt2.corpus.links.gathering import LinksConfig


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
    """Holds rows against rules, and counts in a funnel: what came, what fell to which rule."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self.funnel = Funnel()

    def takes(self, row: Row, url: str, source: str) -> bool:
        """Whether a row with this canonical address ("" for none) breaks no rule."""
        self.funnel.passed("rows")
        candidate = Candidate(row, url, host_of(url))
        for rule in self.rules:
            if rule.falls(candidate):
                self.drop(rule.name, row.address, row.vote_count, [source])
                return False
        return True

    def drop(self, rule: str, url: str, votes: int | None, sources: Sequence[str]) -> None:
        """Count what fell to a rule, perhaps as an example."""
        said = "votes unknown" if votes is None else f"{votes:,} votes"
        self.funnel.dropped("links", rule, id=url or "no address", detail=f"{said}, in {', '.join(sources)}")

    def fallen(self, rule: str) -> int:
        """How many fell to a rule."""
        return self.funnel.reasons["links", rule]
