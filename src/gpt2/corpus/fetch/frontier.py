"""The links of a crawl, each once, in little memory.

WebText had 45 million. Here a link is a number: its text stands in one long array of bytes, an open hash table
of numbers finds it again, and the links of one host that wait are a chain through a third array. A million
links of 81 characters take 150 MB, a third of it for their 100,000 hosts; strings in a dictionary with a queue
for each host take 265 MB (`benchmarks/frontier.py`). Rejected: a queue on disk, or a database, which must be
kept in step with what was fetched; what waits follows from the links and the outcomes that were written.

    python -c "from gpt2.corpus.fetch.frontier import Frontier; f = Frontier(); print(f.add('http://a.org/'), f[0])"
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

FREE = 0xFFFFFFFF
"""In the table and the chains: no link."""


class Frontier:
    """Distinct links, numbered from 0 in the order in which they came."""

    def __init__(self) -> None:
        self.text = bytearray()
        self.ends = array("Q")
        self.table = array("I", [FREE]) * 1024
        self.after = array("I")  # the next link that waits for the same host

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> str:
        return self._bytes(number).decode()

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def _bytes(self, number: int) -> bytes:
        return bytes(self.text[self.ends[number - 1] if number else 0 : self.ends[number]])

    def add(self, link: str) -> tuple[int, bool]:
        """The number of a link, and whether it is new."""
        key = link.encode()
        slot = self._slot(key)
        if self.table[slot] != FREE:
            return self.table[slot], False
        number = self.table[slot] = len(self.ends)
        self.text += key
        self.ends.append(len(self.text))
        self.after.append(FREE)
        if 3 * len(self.ends) > 2 * len(self.table):
            self._grow()
        return number, True

    def _slot(self, key: bytes) -> int:
        """Where a link is in the table, or the free place where it belongs."""
        last = len(self.table) - 1
        slot = hash(key) & last
        while (number := self.table[slot]) != FREE and self._bytes(number) != key:
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        self.table = array("I", [FREE]) * (2 * len(self.table))
        last = len(self.table) - 1
        for number in range(len(self)):
            slot = hash(self._bytes(number)) & last
            while self.table[slot] != FREE:
                slot = (slot + 1) & last
            self.table[slot] = number


class Queue:
    """The links of one host that wait, first in first out: a chain through the frontier."""

    __slots__ = ("first", "last")

    def __init__(self) -> None:
        self.first = self.last = FREE

    def __bool__(self) -> bool:
        return self.first != FREE

    def put(self, number: int, frontier: Frontier) -> None:
        """Append a link."""
        if self.first == FREE:
            self.first = number
        else:
            frontier.after[self.last] = number
        self.last = number

    def take(self, frontier: Frontier) -> int:
        """Remove the first link."""
        number = self.first
        self.first = frontier.after[number]
        return number
