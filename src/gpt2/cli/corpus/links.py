"""gpt2 corpus links: the links that enough people voted for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from gpt2.cli.talk import TALK, Flag, Talk, Whole

RULES = Group("Rules", sort_key=10)


def links(
    *sources: Path,
    out: Path,
    minimum_votes: Annotated[Whole, Parameter(group=RULES)] = 3,
    after: Annotated[str | None, Parameter(group=RULES)] = None,
    before: Annotated[str | None, Parameter(group=RULES)] = None,
    over_18: Annotated[Flag, Parameter(group=RULES, negative="")] = False,
    wikipedia: Annotated[Flag, Parameter(group=RULES, negative="")] = False,
    blocked_subreddits: Annotated[Path | None, Parameter(group=RULES)] = None,
    blocked_domains: Annotated[Path | None, Parameter(group=RULES)] = None,
    outgoing: Annotated[Flag, Parameter(negative="")] = False,
    talk: Talk = TALK,
) -> None:
    """Gather links from files of any kind: outbound, no media, with enough votes, each once.

    Parameters
    ----------
    sources:
        Dumps of submissions (zst, xz, bz2, gz), CSV, JSON lines or Parquet with a url and perhaps a score, lists
        of URLs, sitemaps, WARC files, or folders of these.
    out:
        Folder for links.parquet, and links.json with what was dropped and why.
    minimum_votes:
        Votes that a link needs, where its votes are known.
    after:
        First day of the links to take, such as 2012-01-01.
    before:
        Day before which links must be, such as 2018-01-01.
    over_18:
        Take links marked as for adults as well.
    wikipedia:
        Take Wikipedia and its mirrors as well.
    blocked_subreddits:
        File of subreddits to leave out, one a line.
    blocked_domains:
        File of domains to leave out with their subdomains, one a line.
    outgoing:
        Take the links out of a WARC file's pages, each page with one vote, in place of the pages themselves.
    """
    from gpt2.corpus.links import LinksConfig, gather
    from gpt2.errors import InputError

    if not sources:
        raise InputError("there is nothing to gather links from; give files of links")
    config = LinksConfig(
        minimum_votes=minimum_votes,
        after=after,
        before=before,
        over_18=over_18,
        wikipedia=wikipedia,
        blocked_subreddits=blocked_subreddits,
        blocked_domains=blocked_domains,
        outgoing=outgoing,
    )
    gathered = gather(sources, out, config, talk.console)
    header = ["rule", "of", "came", "dropped", "left", "what falls to it"]
    columns = ("step", "unit", "came", "dropped", "count", "note")
    talk.table(header, [[row[name] for name in columns] for row in gathered.funnel])
    bad = sum(row["bad_lines"] for row in gathered.sources)
    if bad:
        talk.console.say(f"{bad:,} lines held no row and were passed over")
    for fault in gathered.faults:
        talk.console.say(fault)
    talk.result(gathered, f"links: {gathered.links}")
