"""Lines that many pages of one host share: the frame of a site, which extraction left in the text.

Which lines those are is known only after all pages have been seen, so they are counted beforehand: each shard
gives a sorted table of its lines as 64-bit hashes of host and line, with the number of pages that have them; the
tables are then added up a part of all hashes at a time, so that no more than one part is in memory. Among a
hundred million lines, the chance that any two share a hash is 3 in 10,000.

    text, n = Frames.read(Path("clean/documents/shared-lines.npy"), SharedLines()).mend(text, url)

Rejected: counting lines of all hosts together, by which "Leave a comment below" goes but so does a proverb; and
leaving it to near-duplicate removal, which drops whole pages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpt2.corpus.clean.mending import SharedLines, without_lines
from gpt2.corpus.documents import Document
from gpt2.corpus.links.blocklist import host_of
from gpt2.workspace import atomic_write

Hashes = npt.NDArray[np.uint64]
Table = npt.NDArray[np.void]
COUNTED = np.dtype([("line", "<u8"), ("pages", "<u4")])
PARTS = 64
LINES, SHARED = "lines-{:05d}.npy", "shared-lines.npy"


class Frames:
    """The lines that are frames."""

    def __init__(self, lines: Hashes, words: int) -> None:
        """`lines`: their hashes, ascending; `words`: how many a line must have to be one."""
        self.lines, self.words = lines, words

    @classmethod
    def read(cls, path: Path, rule: SharedLines) -> Frames:
        """The frames that `write_shared` wrote, mapped into memory: all workers of a machine share one copy."""
        return cls(np.load(path, mmap_mode="r"), rule.words)

    def mend(self, text: str, url: str | None) -> tuple[str, int]:
        """The text of a page without frame lines, and how many there were."""
        if not len(self.lines):
            return text, 0
        lines = text.split("\n")
        able = [i for i, line in enumerate(lines) if has_words(line, self.words)]
        hashes = hashes_of([lines[i].strip() for i in able], url)
        places = np.minimum(np.searchsorted(self.lines, hashes), len(self.lines) - 1)
        going = np.zeros(len(lines), bool)
        going[able] = self.lines[places] == hashes
        return without_lines(text, going.tolist())


def count_lines(documents: Iterable[Document], rule: SharedLines) -> Table:
    """On how many pages each line of several words stands; pieces of one page have the same group."""
    pages, lines = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    for document in documents:
        able = {line.strip() for line in document.text.split("\n") if has_words(line, rule.words)}
        lines.append(hashes_of(sorted(able), document.url))
        pages.append(np.repeat(hashes_of([document.group or document.id], None), len(able)))
    line, page = np.concatenate(lines), np.concatenate(pages)
    order = np.lexsort((page, line))
    line, page = line[order], page[order]
    new = np.ones(len(line), bool)
    new[1:] = (line[1:] != line[:-1]) | (page[1:] != page[:-1])
    different, times = np.unique(line[new], return_counts=True)
    table = np.empty(len(different), COUNTED)
    table["line"], table["pages"] = different, times
    return table


def write_table(path: Path, table: Table | Hashes) -> None:
    """Keep the counted lines of a shard."""
    with atomic_write(path) as stream:
        np.save(stream, table)


def write_shared(folder: Path, shards: int, rule: SharedLines) -> None:
    """Add up the tables of so many shards, and write the lines that are on more pages than the rule allows."""
    tables = [np.load(folder / LINES.format(number), mmap_mode="r") for number in range(shards)]
    edges = [round(i * 2**64 / PARTS) for i in range(1, PARTS)]
    cuts = [[0, *np.searchsorted(t["line"], np.array(edges, np.uint64)), len(t)] for t in tables]
    found = [np.empty(0, np.uint64)]
    for part in range(PARTS):
        pieces = [t[cut[part] : cut[part + 1]] for t, cut in zip(tables, cuts, strict=True)]
        rows = np.concatenate([np.empty(0, COUNTED), *pieces])
        lines, place = np.unique(rows["line"], return_inverse=True)
        pages = np.zeros(len(lines), np.int64)
        np.add.at(pages, place, rows["pages"])
        found.append(lines[pages > rule.pages])
    write_table(folder / SHARED, np.concatenate(found))


def has_words(line: str, words: int) -> bool:
    """Whether a line has so many words."""
    return len(line.split(maxsplit=words)) >= words


def hashes_of(lines: Sequence[str], url: str | None) -> Hashes:
    """64-bit hashes of lines on a host."""
    host = hashlib.blake2b(host_of(url).encode() + b"\n", digest_size=8)
    digests = []
    for line in lines:
        whole = host.copy()
        whole.update(line.encode("utf-8", "surrogatepass"))
        digests.append(whole.digest())
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)
