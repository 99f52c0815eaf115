"""The votes of links, looked up by address by many processes at once.

Two arrays in files: hashes of addresses in order, and the votes of each. They are mapped into memory, so all
workers of a machine share one copy, 12 bytes a link: half a gigabyte for WebText's 45 million. Two addresses
of the same 64-bit hash are one in ten thousand crawls of that size. Rejected: a dictionary in each worker,
which takes 20 times as much, and a join of all pages with all links, which moves every page.

    Votes.write(folder, read_links(path)); Votes(folder).get("http://example.org/")
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2.workspace import atomic_write

if TYPE_CHECKING:
    from gpt2.corpus.links.gathering import Link

HASHES, NUMBERS = "addresses.npy", "votes.npy"
UNKNOWN = -(2**31)
"""Stands for a link without votes."""


class Votes:
    """The votes of the links in a folder that `write` made."""

    def __init__(self, folder: Path) -> None:
        import numpy as np

        self.hashes = np.load(folder / HASHES, mmap_mode="r")
        self.numbers = np.load(folder / NUMBERS, mmap_mode="r")

    @classmethod
    def write(cls, folder: Path, links: Iterable[Link]) -> int:
        """Write the arrays of links with different addresses; returns how many links there were."""
        import numpy as np

        addresses, numbers = array("Q"), array("i")
        for link in links:
            addresses.append(hash64(link.url))
            numbers.append(UNKNOWN if link.votes is None else max(UNKNOWN + 1, min(link.votes, 2**31 - 1)))
        hashes, votes = np.asarray(addresses, np.uint64), np.asarray(numbers, np.int32)
        order = np.argsort(hashes, kind="stable")
        for name, column in ((NUMBERS, votes), (HASHES, hashes)):
            with atomic_write(folder / name) as stream:
                np.save(stream, column[order])
        return len(order)

    def get(self, url: str) -> int | None:
        """The votes of a link; None when it has none or is not there."""
        place = self._place(url)
        votes = UNKNOWN if place is None else int(self.numbers[place])
        return None if votes == UNKNOWN else votes

    def __contains__(self, url: str) -> bool:
        return self._place(url) is not None

    def _place(self, url: str) -> int | None:
        wanted = hash64(url)
        place = int(self.hashes.searchsorted(self.hashes.dtype.type(wanted)))
        found = place < len(self.hashes) and int(self.hashes[place]) == wanted
        return place if found else None


def hash64(text: str) -> int:
    """64 bits of a text's hash, the same in every process."""
    data = text.encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
