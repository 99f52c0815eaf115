"""The shards of a corpus: made job by job in one way, whatever the step and whoever asks for it.

A step (extraction, cleaning, the taking out of duplicates) is a function from a job to its counts, which
`engine.py` maps over all jobs. A shard's files are written whole or not at all and its mark, a `.json`, last; a
job whose mark is there is passed over by the function itself, so work that was killed does again only what its
workers were at. A step that drops documents writes a row for each, with the step, the rule and the reason. Texts
are kept before they are cleaned, so that other rules need no second extraction, which costs ten times as much as
all rules together.

    FOLDER/documents-00000.parquet   documents
    FOLDER/drops-00000.parquet       what was dropped
    FOLDER/documents-00000.json      counts, examples: the mark

`gpt2 corpus build` has a folder for each step; `extract`, `clean` and `dedupe` do one step by itself (`alone`),
in a folder `documents` of their own.

    with Extraction(folder, method="fast") as make: print(make(page_jobs([Path("crawl.warc.gz")])[0]))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gpt2.console import Console
from gpt2.corpus.documents import SHARD, Document, write_documents
from gpt2.corpus.engine import Engine, Work
from gpt2.corpus.funnel import Funnel
from gpt2.errors import InputError
from gpt2.workspace import (
    Json,
    Workspace,
    atomic_write,
    clear_drafts,
    digest,
    file_digest,
    read_json,
    write_json,
)

DROPS, MARK = "drops-{:05d}.parquet", "documents-{:05d}.json"
ALONE = "documents"
"""Folder for the shards of a step that is done by itself."""


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


def make_shard(folder: Path, job: Json, documents: Callable[[Making], Iterator[Document]]) -> Json:
    """Write the shard of a job, unless it is there already; returns how many documents it has."""
    mark = folder / MARK.format(job["number"])
    if done := mark.exists():
        return {"number": job["number"], "done": done, "documents": read_json(mark)["documents"]}
    making, shard = Making(), folder / SHARD.format(job["number"])
    written = write_documents(shard, documents(making))
    write_drops(folder / DROPS.format(job["number"]), making.drops)
    told = making.funnel.json | {"faults": making.faults}
    write_json(mark, told | {"documents": written, "sha256": file_digest(shard)})
    return {"number": job["number"], "done": done, "documents": written}


def write_drops(path: Path, drops: list[Json]) -> None:
    """Write what was dropped, and why, as Parquet."""
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema({name: pyarrow.string() for name in ("id", "step", "rule", "reason")})
    with atomic_write(path) as stream:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(drops, schema=schema), stream)


def through(work: Work, jobs: Sequence[Json], engine: Engine, console: Console, title: str) -> list[Json]:
    """Do all jobs and show how many bytes of input they have taken; what each gave, in their order."""
    found, documents = [], 0
    with console.progress(title, sum(job["bytes"] for job in jobs) / 1e6, "MB") as bar:
        for result in engine.run(work, jobs):
            found.append(result)
            documents += result["documents"]
            size = jobs[result["number"]]["bytes"] / 1e6
            if result["done"]:
                bar.skip(size)
            else:
                bar.advance(size, note=f"{documents:,} documents")
    return sorted(found, key=lambda result: int(result["number"]))


def added_up(folder: Path, n: int) -> Json:
    """What the marks of `n` shards say together."""
    funnel, faults, digests = Funnel(), [], []
    for number in range(n):
        told = read_json(folder / MARK.format(number))
        funnel.add(told)
        faults += told["faults"]
        digests.append(told["sha256"])
    return funnel.json | {"digest": digest(digests), "faults": faults}


def shard_jobs(shards: Sequence[Path]) -> list[Json]:
    """A job for each of some shards."""
    return [
        {"number": number, "shard": str(shard.absolute()), "bytes": shard.stat().st_size}
        for number, shard in enumerate(shards)
    ]


def file_stats(files: Sequence[Path]) -> list[Json]:
    """What tells changed files from the same: their sizes and times."""
    return [
        {"file": str(file.resolve()), "size": stat.st_size, "time": stat.st_mtime_ns}
        for file in files
        for stat in [file.stat()]
    ]


def keep_apart(files: Sequence[Path], folder: Path) -> None:
    """Refuse, with `InputError`, input in a folder of the output, which would be emptied for it."""
    for file in files:
        if file.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{file} lies in the output folder {folder}; give another folder")


def alone(folder: Path, step: str, files: Sequence[Path], settings: Json, do: Callable[[Path], Json]) -> Json:
    """Do a step by itself: `do` makes shards of `files` in the folder `documents` of `folder`.

    A step that was interrupted goes on; one that was finished with the same settings is not done again, and with
    other settings anew. Raises `InputError` when that folder is another command's, or has some of the files.
    """
    keep_apart(files, folder / ALONE)
    with Workspace(folder) as work:
        found = work.record(ALONE)
        if found and found["settings"].get("step") != step:
            raise InputError(f"{folder / ALONE} was made by another command; give another folder")
        told = work.run(ALONE, settings | {"step": step, "files": file_stats(files)}, do)
        clear_drafts(folder / ALONE)
        return told


def facts(shard: Path) -> Json:
    """Name, counts and digest of a shard of documents."""
    import pyarrow.compute
    import pyarrow.parquet

    compute: Any = pyarrow.compute
    documents = characters = 0
    with pyarrow.parquet.ParquetFile(shard) as file:
        for batch in file.iter_batches(columns=["text"]):
            documents += batch.num_rows
            characters += compute.sum(compute.utf8_length(batch.column(0))).as_py() or 0
    size = shard.stat().st_size
    return {
        "name": shard.name,
        "documents": documents,
        "characters": characters,
        "size": size,
        "sha256": file_digest(shard),
    }
