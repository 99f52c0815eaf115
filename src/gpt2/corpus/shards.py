"""What is done with one shard: pages to texts, texts to clean ones, clean texts to the documents that stay.

Each is a plain function from a job to its counts, which `engine.py` maps over all jobs. A shard's files are
written whole or not at all, and its `.json`, written last, is the mark that it is done: a build that was
killed does again only what its workers were at. Each document that a step drops has a row in `drops-*.parquet`
with the step, the rule and the reason. Texts are kept before they are cleaned, so that other rules need no
second extraction, which costs ten times as much as all rules together.

    FOLDER/texts-00000.parquet   documents
    FOLDER/drops-00000.parquet   what was dropped
    FOLDER/lines-00000.npy       how many pages of a host have which line, where a rule asks for it
    FOLDER/texts-00000.json      counts, examples: the mark

    with Extraction(folder, method="fast") as make: print(make(page_jobs([Path("crawl.warc.gz")])[0]))
"""

from __future__ import annotations

import contextlib
import dataclasses
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from gpt2.corpus.build.datasheet import facts
from gpt2.corpus.build.takedown import Removals
from gpt2.corpus.clean.cleaner import Cleaner, Dropped
from gpt2.corpus.clean.frames import Frames, count_lines, write_table
from gpt2.corpus.clean.mending import Mending, SharedLines
from gpt2.corpus.clean.rules import Rules
from gpt2.corpus.documents import SHARD, Document, parquet_rows, read_documents, write_documents
from gpt2.corpus.extract.methods import SECONDS, Extractor, Method
from gpt2.corpus.fetch.pages import read_pages
from gpt2.corpus.funnel import Funnel
from gpt2.corpus.jobs import texts_of
from gpt2.corpus.links.address import canonical
from gpt2.corpus.links.votes import Votes, hash64
from gpt2.workspace import Json, atomic_write, file_digest, read_json, write_json

TEXTS, DROPS = "texts-{:05d}.parquet", "drops-{:05d}.parquet"
LINES, MARK = "lines-{:05d}.npy", "texts-{:05d}.json"


class Making:
    """One shard being made: what comes through, and what is dropped and why."""

    def __init__(self) -> None:
        self.funnel = Funnel()
        self.drops: list[Json] = []
        self.faults: list[str] = []

    def drop(self, step: str, rule: str, id: str, text: str = "", reason: str = "") -> None:
        """Note that a step dropped a document."""
        self.funnel.dropped(step, rule, id=id, text=text, detail=reason)
        self.drops.append({"id": id, "step": step, "rule": rule, "reason": reason or rule})


def make_shard(
    folder: Path, job: Json, documents: Callable[[Making], Iterator[Document]], counting: Rules | None = None
) -> Json:
    """Write the shard of a job, unless it is there already; returns its counts.

    With `counting`, a rule on shared lines behind the rules that mend before it, lines are counted too.
    """
    mark = folder / MARK.format(job["number"])
    if not mark.exists():
        making = Making()
        texts = folder / TEXTS.format(job["number"])
        write_documents(texts, documents(making))
        write_drops(folder / DROPS.format(job["number"]), making.drops)
        if counting:
            write_lines(folder / LINES.format(job["number"]), read_documents(texts), counting)
        write_json(mark, making.funnel.json | {"faults": making.faults, "sha256": file_digest(texts)})
    return {"number": job["number"], "bytes": job["bytes"], "passed": read_json(mark)["passed"]}


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
    counting: Rules | None = None
    """The rule on lines that many pages share, behind those that mend before it, for which lines are counted."""
    worth: ClassVar[int] = 0

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[Json], Json]]:
        """The function of jobs, with the process that extracts text."""
        votes = Votes(self.votes) if self.votes else None
        with Extractor(self.method, self.seconds) as extractor:
            yield lambda job: make_shard(
                self.folder,
                job,
                lambda making: (
                    pages(job, making, extractor, votes) if "stretches" in job else texts(job, making)
                ),
                self.counting,
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
    for document in texts_of(job):
        making.funnel.passed("texts")
        yield document


@dataclass(frozen=True)
class Cleaning:
    """Makes the clean texts of a shard of texts."""

    folder: Path
    """Where the shard goes."""
    rules: Rules
    """What mends and drops."""
    texts: Path
    """Folder of the shards of texts, with the counts of their lines."""
    worth: ClassVar[int] = 4_000_000

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[Json], Json]]:
        """The function of jobs, with the lines that many pages share."""
        shared = next((rule for rule in self.rules if isinstance(rule, SharedLines)), None)
        tables = sorted(self.texts.glob("lines-*.npy"))
        frames = Frames.of_tables(tables, shared) if shared else None
        yield lambda job: make_shard(self.folder, job, lambda making: self.cleaned(job, making, frames))

    def cleaned(self, job: Json, making: Making, frames: Frames | None) -> Iterator[Document]:
        """Documents mended by the rules, without those that a rule drops."""
        cleaner = Cleaner(self.rules, frames)
        for document in read_documents(self.texts / TEXTS.format(job["number"])):
            left = cleaner.clean(document)
            if isinstance(left, Dropped):
                making.drop("cleaning", left.rule, document.id, document.text, left.reason)
            else:
                making.funnel.passed("clean texts")
                yield left
        for rule, n in cleaner.taken.items():
            making.funnel.took("cleaning", rule, n)


def counting_rules(rules: Rules) -> Rules | None:
    """The rule on lines that many pages share and the rules that mend before it, or None without it."""
    for place, rule in enumerate(rules):
        if isinstance(rule, SharedLines):
            return tuple(r for r in rules[: place + 1] if isinstance(r, Mending | SharedLines))
    return None


def write_lines(path: Path, documents: Iterator[Document], counting: Rules) -> None:
    """Count the lines of a shard as they are after the rules that come before the one on shared lines."""
    *before, rule = counting
    assert isinstance(rule, SharedLines)
    cleaner = Cleaner(tuple(before))
    mended = (dataclasses.replace(d, text=cleaner.mend(d.text, d.url)) for d in documents)
    write_table(path, count_lines(mended, rule))


def write_drops(path: Path, drops: list[Json]) -> None:
    """Write what was dropped, and why, as Parquet."""
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema({name: pyarrow.string() for name in ("id", "step", "rule", "reason")})
    with atomic_write(path) as stream:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(drops, schema=schema), stream)


@dataclass(frozen=True)
class Finishing:
    """Makes the documents that stay: those that repeat no other and that nobody had removed."""

    folder: Path
    """Where the shard goes."""
    duplicates: Path
    """Parquet file with the ids of those that repeat another."""
    removals: Removals
    """What was to be removed."""
    worth: ClassVar[int] = 64_000_000

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[Json], Json]]:
        """The function of jobs."""
        import pyarrow.parquet

        column = pyarrow.parquet.read_table(self.duplicates, columns=["id"]).column("id")
        repeats = {hash64(id) for id in column.to_pylist()}
        yield lambda job: self.make(job, repeats)

    def make(self, job: Json, repeats: set[int]) -> Json:
        """Write the shard of a job, unless it is there already."""
        path = self.folder / SHARD.format(job["number"])
        if not path.exists():
            distinct = (d for d in read_documents(job["texts"]) if hash64(d.id) not in repeats)
            write_documents(path, (d for d in distinct if not self.removals.covers(d)))
        return {"number": job["number"], "bytes": job["bytes"], **facts(path)}


def one_per_address(shards: list[Path], folder: Path, funnel: Funnel) -> list[Path]:
    """The shards with each id once over all of them: the document with most votes, of equals the first.

    A shard that loses some is written anew into `folder`. Takes 20 bytes of memory a document.
    """
    import numpy as np

    addresses, votes, sizes = array("Q"), array("q"), []
    for shard in shards:
        before = len(addresses)
        for row in parquet_rows(shard, ["id"], ["votes"]):
            addresses.append(hash64(row["id"]))
            votes.append(-(2**40) if row["votes"] is None else row["votes"])
        sizes.append(len(addresses) - before)
    hashes = np.asarray(addresses, np.uint64)
    order = np.lexsort((-np.asarray(votes, np.int64), hashes))
    again = order[1:][hashes[order][1:] == hashes[order][:-1]]
    dropped = set(again.tolist())
    found, start = [], 0
    for shard, size in zip(shards, sizes, strict=True):
        if dropped.isdisjoint(range(start, start + size)):
            found.append(shard)
        else:
            stay = (d for i, d in enumerate(read_documents(shard), start) if i not in dropped)
            write_documents(folder / shard.name, stay)
            found.append(folder / shard.name)
        start += size
    funnel.dropped("duplicates", "address seen before, in another shard", len(dropped))
    return found
