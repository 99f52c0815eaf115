"""Merging millions of links in bounded memory: rows into buckets on disk, then bucket by bucket.

A row goes to one of 256 buckets by a hash of its address, so that all rows of one address meet. Buckets are
kept in memory up to `SPILL` bytes and then written one after the other to the source's file; where each
begins is noted. Merging reads one bucket out of all files; one larger than `LARGEST` is read several times,
each time for a part of its hashes. Links come out in the order of the hash: the same whatever the number of
sources, spills and parts, and with the pages of a host far apart, which suits a polite fetcher. Rejected: a
file a bucket and source (58,000 files for 19 years of months), and a sort of all rows, which must compare them.

    with Path("rows").open("wb") as stream:
        rows = Buckets(stream, SPILL)
        rows.add("http://a.org/", 4, "2005-06-23", None, ("RS_2005-06.zst",))
        spills = rows.close()
    links = list(merged([(Path("rows"), spills)], LARGEST))   # [Merged(url='http://a.org/', votes=4, ...)]
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

BUCKETS = 256
SPILL = 1 << 25
"""Bytes of rows that are kept in memory before they are written."""
LARGEST = 1 << 26
"""Bytes of rows that are merged at once: as a table of Python's they take about five times as much."""


class Vote(msgspec.Struct, array_like=True, gc=False):
    """A row on disk."""

    url: str
    votes: int | None
    created: str | None
    voter: str | None
    sources: tuple[str, ...]


class Merged(NamedTuple):
    """All rows of one address."""

    url: str
    """Canonical address."""
    votes: int | None
    """The best of their votes, or how many distinct pages link there; unknown when no row has any."""
    created: str | None
    """The earliest of their days."""
    sources: list[str]
    """Where they were found, in the order of names."""


class Buckets:
    """Rows on their way to a file, of which up to `spill` bytes are kept in memory."""

    def __init__(self, stream: IO[bytes], spill: int) -> None:
        self._stream, self._spill = stream, spill
        self._parts = [bytearray() for _ in range(BUCKETS)]
        self._size = 0
        self._encode = msgspec.json.Encoder().encode
        self._spills: list[list[int]] = []

    def add(
        self, url: str, votes: int | None, created: str | None, voter: str | None, sources: tuple[str, ...]
    ) -> None:
        """Take one row in."""
        line = self._encode(Vote(url, votes, created, voter, sources))
        part = self._parts[hash_of(url) >> 56]
        part += line
        part += b"\n"
        self._size += len(line) + 1
        if self._size >= self._spill:
            self._write()

    def _write(self) -> None:
        places = [self._stream.tell()]
        for part in self._parts:
            places.append(places[-1] + self._stream.write(part))
            part.clear()
        self._spills.append(places)
        self._size = 0

    def close(self) -> list[list[int]]:
        """Write what is left; returns for each spill where its buckets begin, and the end."""
        if self._size:
            self._write()
        return self._spills


def hash_of(url: str) -> int:
    """64 bits that decide an address's place."""
    return int.from_bytes(hashlib.blake2b(url.encode(), digest_size=8).digest(), "big")


def merged(files: Sequence[tuple[Path, list[list[int]]]], largest: int) -> Iterator[Merged]:
    """The links of all files, each address once, in the order of their hashes; `largest` bytes at a time."""
    for bucket in range(BUCKETS):
        size = sum(places[bucket + 1] - places[bucket] for _, spills in files for places in spills)
        parts = size // largest + 1
        for part in range(parts):
            links: dict[str, Meeting] = {}
            for vote in votes_in(files, bucket):
                meeting = links.get(vote.url)
                if meeting is None:
                    if parts > 1 and (hash_of(vote.url) >> 24 & 0xFFFFFFFF) * parts >> 32 != part:
                        continue
                    meeting = links[vote.url] = Meeting(vote)
                meeting.join(vote)
            for url in sorted(links, key=lambda url: (hash_of(url), url)):
                yield links[url].result(url)


def votes_in(files: Sequence[tuple[Path, list[list[int]]]], bucket: int) -> Iterator[Vote]:
    """All rows of a bucket."""
    decoder = msgspec.json.Decoder(Vote)
    for path, spills in files:
        with path.open("rb") as stream:
            for places in spills:
                stream.seek(places[bucket])
                yield from decoder.decode_lines(stream.read(places[bucket + 1] - places[bucket]))


class Meeting:
    """What the rows of one address come to."""

    __slots__ = ("created", "sources", "voters", "votes")

    def __init__(self, first: Vote) -> None:
        self.votes, self.created, self.sources = first.votes, first.created, first.sources
        self.voters: set[int] | None = None

    def join(self, vote: Vote) -> None:
        """Let one more row in."""
        if vote.votes is not None and (self.votes is None or vote.votes > self.votes):
            self.votes = vote.votes
        if vote.created is not None and (self.created is None or vote.created < self.created):
            self.created = vote.created
        if vote.sources != self.sources:
            self.sources = tuple(sorted({*self.sources, *vote.sources}))
        if vote.voter is not None:
            self.voters = self.voters or set()
            self.voters.add(hash_of(vote.voter))

    def result(self, url: str) -> Merged:
        """The link."""
        votes = self.votes
        if self.voters:
            votes = max(len(self.voters), votes or 0)
        return Merged(url, votes, self.created, sorted(set(self.sources)))
