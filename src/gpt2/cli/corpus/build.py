"""gpt2 corpus build: the whole recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from gpt2.cli.talk import TALK, Talk

SOURCE = Group("Source (one of these)", sort_key=10)


def build(
    *,
    out: Path,
    text: Annotated[Path | None, Parameter(group=SOURCE)] = None,
    pages: Annotated[list[Path] | None, Parameter(group=SOURCE, consume_multiple=True)] = None,
    links: Annotated[Path | None, Parameter(group=SOURCE)] = None,
    talk: Talk = TALK,
) -> None:
    """Make documents of links, of WARC files, of text, or else of the documentation that Python carries.

    Parameters
    ----------
    out:
        Folder for pages and documents.
    text:
        A file or folder of text (.txt, .md, .jsonl, .parquet).
    pages:
        WARC files.
    links:
        A list of links to fetch (one URL a line, or CSV or JSON lines with a score).
    """
    from gpt2.corpus.build import BuildConfig
    from gpt2.corpus.build import build as run

    built = run(BuildConfig(text=text, pages=tuple(pages or ()), links=links), out, talk.console)
    rows = [[row["step"], row["count"], row["unit"], row["note"]] for row in built.funnel]
    talk.table(["step", "count", "of", "note"], rows)
    talk.result(built, f"documents: {built.documents}")
