"""Pages to texts: stretches of WARC files, whoever fetched them, to shards of documents.

Pages are extracted in a child process of each worker (sandbox.py), and the documents stand in the order of the
pages whatever the number of workers. Why a page gave no document is counted by cause, and damage in a file costs
its damaged records and no more. A user's own texts become shards in the same way, without that process.

    gpt2 corpus extract crawl/pages-*.warc.gz --out documents
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from gpt2.console import QUIET, Console
from gpt2.corpus import jobs
from gpt2.corpus.documents import Document
from gpt2.corpus.engine import HERE, Engine
from gpt2.corpus.extract.methods import SECONDS, Extractor, Method, method_named
from gpt2.corpus.fetch.pages import read_pages
from gpt2.corpus.links.address import canonical
from gpt2.corpus.links.votes import Votes
from gpt2.corpus.shards import ALONE, Making, added_up, alone, make_shard, through
from gpt2.errors import InputError, TooLittleData
from gpt2.workspace import Json


@dataclass(frozen=True)
class Extraction:
    """Makes the texts of a stretch of an archive, or of a user's own files."""

    folder: Path
    """Where the shard goes."""
    method: Method = "default"
    """How the main text of a page is taken."""
    seconds: float = SECONDS
    """What a page may take."""
    votes: Path | None = None
    """Folder with the votes of links."""
    worth: ClassVar[int] = 0

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[Json], Json]]:
        """The function of jobs, with the process that extracts text, which a first page starts."""
        votes = Votes(self.votes) if self.votes else None
        with Extractor(self.method, self.seconds) as extractor:
            yield lambda job: make_shard(
                self.folder,
                job,
                lambda making: (
                    pages(job, making, extractor, votes) if "stretches" in job else texts(job, making)
                ),
            )


def pages(job: Json, making: Making, extractor: Extractor, votes: Votes | None) -> Iterator[Document]:
    """The main text of each page in stretches of archives."""
    seen: set[str] = set()
    for path, start, end in job["stretches"]:
        for page in read_pages(path, making.faults, (start, end)):
            address = canonical(page.url) or page.url
            if votes and address not in votes:
                continue  # fetched for links that an earlier build wanted
            making.funnel.passed("responses")
            if page.refusal or address in seen:
                making.drop("pages", page.refusal or "address seen before", address)
                continue
            making.funnel.passed("pages")
            found = extractor.document(page)
            if isinstance(found, str):
                making.drop("extraction", found, address)
                continue
            seen.add(address)  # of several captures, the first that has a text
            making.funnel.passed("texts")
            yield dataclasses.replace(found, votes=votes.get(address)) if votes else found
    for _ in making.faults:
        making.funnel.took("reading", "damaged stretch of an archive")


def texts(job: Json, making: Making) -> Iterator[Document]:
    """The texts of a user's own."""
    for document in jobs.texts_of(job):
        making.funnel.passed("texts")
        yield document


@dataclass(frozen=True)
class Extracted:
    """What came of extracting WARC files."""

    folder: Path
    """The documents."""
    pages: int
    """Responses in the files."""
    documents: int
    """How many gave a document."""
    causes: dict[str, int]
    """Why the others gave none, the most frequent first."""
    faults: list[str]
    """Damage in the files, each in a sentence."""


def extract_files(
    files: Sequence[Path],
    folder: Path,
    method: Method = "default",
    seconds: float = SECONDS,
    engine: Engine = HERE,
    console: Console = QUIET,
) -> Extracted:
    """Extract the pages of WARC files into `folder`, or go on where an earlier call was interrupted.

    `seconds`: what a page may take. Raises `InputError` for a file that is not there and for a folder with other
    work in it, `TooLittleData` without any document.
    """
    method_named(method)
    for file in files:
        if not file.is_file():
            raise InputError(f"there is no file {file}; give WARC files")

    def do(to: Path) -> Json:
        todo = jobs.page_jobs([file.absolute() for file in files])
        through(Extraction(to, method, seconds), todo, engine, console, "extracting")
        return added_up(to, len(todo))

    settings = {"method": method, "seconds": seconds, "cut": jobs.cut()}
    told = alone(folder, "extract", files, settings, do)
    causes = {row["reason"]: row["count"] for row in told["drops"]}
    found = told["passed"].get("texts", 0)
    if not found:
        raise TooLittleData(f"no page of {len(files)} files gave a document: {dict([*causes.items()][:5])}")
    return Extracted(folder / ALONE, told["passed"]["responses"], found, causes, told["faults"])
