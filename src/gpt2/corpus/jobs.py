"""The input of a corpus as jobs: stretches of archives and of a user's text, each worth a shard of documents.

A large archive is cut between two gzip members, so that many workers read one file and nothing is read twice;
an archive that is packed as a whole, or not at all, is one job. A large table of texts is cut at the ends of
lines, which are counted on the way so that rows keep their numbers, or between Parquet's row groups; small
files are put together. Where the cuts are follows from the files alone, never from the number of workers, so
the shards are the same everywhere. Rejected: every n-th row for each job, for which each must parse all rows.

    jobs = page_jobs([Path("crawl.warc.gz")]); print(len(jobs), jobs[0])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from gpt2.corpus.documents import (
    PLAIN_SUFFIXES,
    Document,
    Part,
    corpus_files,
    cut_text,
    damage_told,
    group_rows,
    is_corpus,
    read_documents,
    read_file,
    read_text,
    text_files,
)
from gpt2.corpus.fetch.warc import member_after
from gpt2.errors import InputError
from gpt2.workspace import Json

SMALLEST, LARGEST = 1 << 22, 1 << 26
"""Bytes of input for a job: not so few that starting counts, nor so many that a kill costs much."""
JOBS = 32
"""Between the two, input makes so many jobs."""
GROUP_PARTS = 8
"""Of a row group, which can only be read from its beginning, are made at most."""


def cut() -> list[int]:
    """What decides how input is cut into jobs, besides the input."""
    return [SMALLEST, LARGEST, JOBS, GROUP_PARTS]


def job_bytes(total: int) -> int:
    """Bytes of input that a job is given of so many in all."""
    return max(SMALLEST, min(total // JOBS, LARGEST))


def archives(path: Path) -> list[Path]:
    """The WARC and ARC files that are meant by a file or folder."""
    if path.is_file():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.is_file() and {".warc", ".arc"} & set(p.suffixes))
    if not found:
        raise InputError(f"there is no WARC file (.warc or .warc.gz) in {path}; give another folder")
    return found


def page_jobs(archives: Sequence[Path]) -> list[Json]:
    """Jobs for the records of WARC and ARC files: stretches, each a file and the bytes between which they begin."""
    size = job_bytes(sum(path.stat().st_size for path in archives))
    jobs: list[Json] = []
    together: list[list[str | int]] = []
    held = 0
    for path in archives:
        for start, end in stretches(path, size):
            if together and held + end - start > size:
                jobs.append({"stretches": together, "bytes": held})
                together, held = [], 0
            together.append([str(path), start, end])
            held += end - start
    return numbered([*jobs, {"stretches": together, "bytes": held}] if together else jobs)


def stretches(path: Path, size: int) -> Iterator[tuple[int, int]]:
    """Stretches of about so many bytes of an archive, each from the beginning of a record to that of another."""
    start, whole = 0, path.stat().st_size
    for part in range(1, -(-whole // size)):
        end = member_after(path, part * size)
        if end is None:
            break
        if end > start:
            yield start, end
            start = end
    yield start, whole


def text_jobs(path: Path) -> list[Json]:
    """Jobs for a user's own text: some of its files, or a part of a large table."""
    if is_corpus(path):
        shards = corpus_files(path)
        return numbered([{"corpus": str(shard), "bytes": shard.stat().st_size} for shard in shards])
    if len(list(islice(read_text(path), 2))) == 1:
        return numbered([{"alone": str(path), "bytes": 1}])
    files = text_files(path)
    size = job_bytes(sum(file.stat().st_size for file, _ in files))
    jobs: list[Json] = []
    together: list[list[str]] = []
    held = 0
    for file, name in files:
        own, table = file.stat().st_size, file.suffix.lower() not in PLAIN_SUFFIXES
        if together and held + own > size:
            jobs.append({"files": together, "bytes": held})
            together, held = [], 0
        if table and own > size:
            jobs += [{"files": [[str(file), name]], **part} for part in table_parts(file, size)]
        else:
            together.append([str(file), name])
            held += own
    if together:
        jobs.append({"files": together, "bytes": held})
    return numbered(jobs)


def table_parts(path: Path, size: int) -> Iterator[Json]:
    """Parts of about so many bytes of a table, each with the bytes that it is worth."""
    if path.suffix.lower() != ".parquet":
        yield from ({"part": part, "bytes": part.stop - part.start} for part in line_parts(path, size))
        return
    import pyarrow.parquet

    with damage_told(path):
        groups = group_rows(pyarrow.parquet.read_metadata(path))
    whole = path.stat().st_size
    for part in row_parts(groups, max(1, sum(groups) * size // whole)):
        yield {"part": part, "bytes": (part.stop - part.start) * whole // sum(groups)}


def line_parts(path: Path, size: int) -> Iterator[Part]:
    """Parts of a file of JSON lines, each of whole lines and `size` bytes or more; the last may be less."""
    start = at = rows = lines = 0
    before = (0, 0)
    with path.open("rb") as stream:
        for line in stream:
            at += len(line)
            lines += 1
            rows += not line.isspace()
            if at - start >= size:
                yield Part(start, at, *before)
                start, before = at, (rows, lines)
    if at > start:
        yield Part(start, at, *before)


def row_parts(groups: Sequence[int], size: int) -> Iterator[Part]:
    """Parts of a Parquet file with so many rows in each of its row groups, each of about `size` rows."""
    start = at = 0
    for rows in groups:
        pieces = max(1, min(GROUP_PARTS, rows // size))
        for end in [at + rows * piece // pieces for piece in range(1, pieces + 1)]:
            if end - start >= size or end == sum(groups):
                if end > start:
                    yield Part(start, end, start, start)
                start = end
        at += rows


def numbered(jobs: list[Json]) -> list[Json]:
    """Jobs with their numbers."""
    return [job | {"number": number} for number, job in enumerate(jobs)]


def texts_of(job: Json) -> Iterator[Document]:
    """The documents of one of `text_jobs`; a text that is alone is cut into pieces."""
    if "corpus" in job:
        yield from read_documents(job["corpus"])
        return
    if "alone" in job:
        for document in read_text(job["alone"]):
            yield from cut_text(document)
        return
    part = Part(*job["part"]) if "part" in job else None
    for file, name in job["files"]:
        yield from read_file(Path(file), name, part)
