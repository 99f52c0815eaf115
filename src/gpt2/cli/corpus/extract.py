"""gpt2 corpus extract: pages to documents, and how good each method is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from gpt2.cli.talk import TALK, Amount, Count, Talk
from gpt2.errors import InputError


def extract(
    pages: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    *,
    out: Path | None = None,
    method: Literal["default", "fast", "blocks", "newspaper"] = "default",
    seconds: Amount = 10.0,
    processes: Count | None = None,
    compare: Path | None = None,
    talk: Talk = TALK,
) -> None:
    """Take the main text of the pages in WARC files, or measure every method on pages marked by hand.

    Parameters
    ----------
    pages:
        WARC files.
    out:
        Folder for the documents.
    method:
        default is trafilatura, fast is resiliparse, blocks our block classifier, newspaper newspaper4k.
    seconds:
        Time limit for a page.
    processes:
        How many to work with; as many as there are cores when not given.
    compare:
        A labelled set (ground-truth.json and html/) to measure every method on, in the place of extracting.
    """
    if compare is not None:
        if pages or out:
            raise InputError("--compare measures the methods on its own pages; leave out the files and --out")
        return show_comparison(compare, talk)
    if not pages or out is None:
        raise InputError("give WARC files and --out for the documents, or else --compare with a labelled set")
    from gpt2.corpus.engine import Engine
    from gpt2.corpus.extract.archives import extract_files

    done = extract_files(pages, out, method, seconds, Engine(processes), talk.console)
    for fault in done.faults:
        talk.console.say(fault)
    talk.table(["no document because", "pages"], [[cause, n] for cause, n in done.causes.items()])
    talk.write("")
    talk.result(done, f"{done.documents:,} documents of {done.pages:,} responses, in {done.folder}")
    return None


def show_comparison(gold: Path, talk: Talk) -> None:
    """Every installed method on a labelled set."""
    from gpt2.corpus.extract import installed_methods
    from gpt2.corpus.extract.gold import compare

    rows = compare(gold, installed_methods(), talk.console)
    base = rows[0].pages_per_second
    header = [
        "method",
        "precision",
        "recall",
        "F1",
        "95 % interval",
        "pages/s",
        f"against {rows[0].method}",
        "empty",
    ]
    lines = [
        [
            row.method,
            f"{row.precision:.3f}",
            f"{row.recall:.3f}",
            f"{row.f1:.3f}",
            f"{row.low:.3f} to {row.high:.3f}",
            f"{row.pages_per_second:.0f}",
            f"{row.pages_per_second / base:.1f}x",
            row.without_text,
        ]
        for row in rows
    ]
    talk.table(header, lines)
    talk.write("")
    talk.result({"gold": str(gold), "methods": rows}, f"{rows[0].pages} pages, 4-gram shingles of words")
