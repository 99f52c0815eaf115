"""gpt2 corpus build: the whole recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from gpt2.cli.corpus.dedupe import ALIKE, Alike
from gpt2.cli.corpus.links import WANTED, Wanted
from gpt2.cli.talk import TALK, Amount, Count, Talk

SOURCE = Group("Source (one of these)", sort_key=10)
FETCHING = Group("Fetching", sort_key=30)
RULES = Group("Rules", sort_key=40)
WHERE = Group("Where it is done", sort_key=50)


def build(
    *,
    out: Path,
    text: Annotated[Path | None, Parameter(group=SOURCE)] = None,
    pages: Annotated[list[Path] | None, Parameter(group=SOURCE, consume_multiple=True)] = None,
    links: Annotated[list[Path] | None, Parameter(group=SOURCE, consume_multiple=True)] = None,
    wanted: Wanted = WANTED,
    contact: Annotated[str | None, Parameter(group=FETCHING)] = None,
    delay: Annotated[float, Parameter(group=FETCHING)] = 1.0,
    connections: Annotated[Count, Parameter(group=FETCHING)] = 64,
    allow: Annotated[list[str] | None, Parameter(group=FETCHING, consume_multiple=True)] = None,
    method: Annotated[Literal["default", "fast", "blocks", "newspaper"], Parameter(group=RULES)] = "default",
    seconds: Annotated[Amount, Parameter(group=RULES)] = 10.0,
    rules: Annotated[Path | None, Parameter(group=RULES)] = None,
    alike: Alike = ALIKE,
    processes: Annotated[Count | None, Parameter(group=WHERE)] = None,
    cluster: Annotated[str | None, Parameter(group=WHERE)] = None,
    talk: Talk = TALK,
) -> None:
    """Make documents of links, of WARC files, of text, or else of the documentation that Python carries.

    The same command goes on after any interruption; other rules begin at the first step that they change.

    Parameters
    ----------
    out:
        Folder for links, pages, texts and documents.
    text:
        A file or folder of text (.txt, .md, .jsonl, .parquet), or a corpus.
    pages:
        WARC or ARC files, or folders of them.
    links:
        Dumps, exports, lists of URLs or sitemaps, or folders of them.
    contact:
        Web or mail address at which you can be reached; every server is told. Needed for links.
    delay:
        Seconds between two requests to one host; robots.txt may ask for more.
    connections:
        Requests at the same time in all.
    allow:
        Private addresses that may be fetched: 127.0.0.1:8000, 10.1.2.3 or 10.1.0.0/16.
    method:
        How the main text of a page is taken.
    seconds:
        What the text of a page may take.
    rules:
        File of rules that mend and drop; begin with what `gpt2 corpus clean --show-rules` prints.
    processes:
        Worker processes on this machine; as many as there are cores when not given.
    cluster:
        Address of a Ray cluster, such as 10.0.0.1:6379, whose machines see the same paths as this one.
    """
    from gpt2.corpus.build import BuildConfig
    from gpt2.corpus.build import build as run
    from gpt2.corpus.engine import Engine
    from gpt2.corpus.fetch import FetchConfig
    from gpt2.errors import InputError

    if links and not contact:
        raise InputError(
            "servers are told whom to ask about the crawl: give --contact, a web or mail address"
        )
    config = BuildConfig(
        text=text,
        pages=tuple(pages or ()),
        links=tuple(links or ()),
        wanted=wanted.config,
        fetch=FetchConfig(
            contact=contact or "", delay=delay, workers=connections, allow=frozenset(allow or ())
        ),
        method=method,
        seconds=seconds,
        rules=rules,
        dedupe=alike.config,
    )
    built = run(config, out, talk.console, Engine(processes, cluster))
    rows = [[row["step"], row["count"], row["unit"], row["note"]] for row in built.funnel]
    talk.table(["step", "count", "of", "note"], rows)
    talk.table(
        ["step", "reason", "dropped"], [[r["step"], r["reason"], r["count"]] for r in built.drops[:20]]
    )
    if built.taken:
        rows = [[row["step"], row["what"], row["count"]] for row in built.taken]
        talk.table(["step", "what", "taken out or lost"], rows)
    talk.result(built, f"documents: {built.documents}")
