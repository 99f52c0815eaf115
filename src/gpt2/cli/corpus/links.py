"""gpt2 corpus links: the links that enough people voted for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Group, Parameter

from gpt2.cli.talk import TALK, Flag, Talk, Whole

if TYPE_CHECKING:
    from gpt2.corpus.links import LinksConfig


@Parameter(name="*", negative="", group=Group("Links", sort_key=20))
@dataclass(frozen=True)
class Wanted:
    """Which links are wanted."""

    minimum_votes: Whole = 3
    """Votes that a link needs, where its votes are known."""
    after: str | None = None
    """First day of the links to take, such as 2012-01-01."""
    before: str | None = None
    """Day before which links must be, such as 2018-01-01."""
    over_18: Flag = False
    """Take links marked as for adults as well."""
    wikipedia: Flag = False
    """Take links to Wikipedia and its mirrors as well."""
    blocked_subreddits: Path | None = None
    """File of subreddits to leave out, one a line."""
    blocked_domains: Path | None = None
    """File of domains to leave out with their subdomains, one a line."""
    outgoing: Flag = False
    """Take the links out of a WARC file's pages, each page with one vote, in place of the pages themselves."""

    @property
    def config(self) -> LinksConfig:
        """The same for `gather`."""
        from gpt2.corpus.links import LinksConfig

        return LinksConfig(**dataclasses.asdict(self))


WANTED = Wanted()


def links(*sources: Path, out: Path, wanted: Wanted = WANTED, talk: Talk = TALK) -> None:
    """Gather links from files of any kind: outbound, no media, with enough votes, each once.

    Parameters
    ----------
    sources:
        Dumps of submissions (zst, xz, bz2, gz), CSV, JSON lines or Parquet with a url and perhaps a score, lists
        of URLs, sitemaps, WARC files, or folders of these.
    out:
        Folder for links.parquet, and links.json with what was dropped and why.
    """
    from gpt2.corpus.links import gather
    from gpt2.errors import InputError

    if not sources:
        raise InputError("there is nothing to gather links from; give files of links")
    gathered = gather(sources, out, wanted.config, talk.console)
    header = ["rule", "of", "came", "dropped", "left", "what falls to it"]
    columns = ("step", "unit", "came", "dropped", "count", "note")
    talk.table(header, [[row[name] for name in columns] for row in gathered.funnel])
    bad = sum(row["bad_lines"] for row in gathered.sources)
    if bad:
        talk.console.say(f"{bad:,} lines held no row and were passed over")
    for fault in gathered.faults:
        talk.console.say(fault)
    talk.result(gathered, f"links: {gathered.links}")
