"""Clusters: which texts meet in a band, and which of them are dropped.

Texts are taken in the order of their worth, best first. Each is held against those kept so far that it shares
a band with, and dropped when its exact Jaccard similarity with one of them reaches what is asked; else it is
kept. So every text that is dropped is like one that is kept, and no two that met and are alike are both kept.
Rejected: union-find over pairs, which drops c for being like b and b for being like a, though a and c, which
both say something of their own, have little in common; on pages of one site such chains grow long.

A band may be common to thousands of texts (the same frame around each page), so pairs are never listed. A text
meets only kept texts, of which near copies leave one. Those it meets are ranked by their sketches; the ones
too far apart, or too different in length to be alike, are turned away, and at most `CHECKS` of the closest are
read and compared. A bucket takes `LARGEST` kept texts and no more. Both limits are counted when they bite
(`Settled.cut`): what they can cost is recall, never a text that should have been kept.

    texts, bucket = meetings(lambda band: [signed.bands[:, band]], bands, signed.near)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from gpt2.corpus.dedupe.minhash import Hashes, distinct, furthest, jaccard

Places = npt.NDArray[np.int64]

CHECKS, LARGEST = 64, 4096
AT_ONCE = 1 << 22


def repeated(values: Hashes) -> tuple[Places, Places]:
    """Where the values (or rows of them) are that occur more than once, equal ones together, and a number for each."""
    rows = values[:, None] if values.ndim == 1 else values
    order = np.lexsort(rows.T[::-1])
    ranked = rows[order]
    as_before = np.zeros(len(rows) + 1, np.bool_)  # [i]: row i is as row i - 1; one more for the end
    as_before[1:-1] = (ranked[1:] == ranked[:-1]).all(axis=1)
    chosen = as_before[:-1] | as_before[1:]
    return order[chosen], np.cumsum(~as_before[:-1][chosen]) - 1


def repeated_in_parts(read: Callable[[], Iterable[Hashes]], total: int) -> Iterator[tuple[Places, Places]]:
    """The same for a column of any length, read in pieces as many times as bounded memory asks for.

    Each part has the values of one remainder, so equal ones come together.
    """
    parts = -(-total // AT_ONCE)
    for part in range(parts):
        values, places, here = [], [], 0
        for piece in read():
            first = piece if piece.ndim == 1 else piece[:, 0]
            mine = np.flatnonzero(first % np.uint64(parts) == part)
            values.append(piece[mine])
            places.append(mine + here)
            here += len(piece)
        where, number = repeated(np.concatenate(values))
        yield np.concatenate(places)[where], number


def first_of_each(read: Callable[[], Iterable[Hashes]], total: int) -> Places:
    """[total] For each text the first with the same key; `read` gives keys [texts, 2] in pieces."""
    first = np.arange(total)
    for where, number in repeated_in_parts(read, total):
        first[where] = where[np.flatnonzero(np.diff(number, prepend=-1))][number]
    return first


def meetings(
    read: Callable[[int], Iterable[Hashes]], bands: int, able: npt.NDArray[np.bool_]
) -> tuple[Places, npt.NDArray[np.int32]]:
    """The texts that share a band with another, and the bucket of each in each band, -1 where it is alone.

    `read(band)` gives the hashes of one band in pieces; `able` tells which texts take part.
    """
    found = []
    meets = np.zeros(len(able), np.bool_)
    buckets = 0
    for band in range(bands):
        for where, number in repeated_in_parts(partial(read, band), len(able)):
            taking = able[where]
            where, number = where[taking], number[taking]
            many = np.bincount(number)[number] > 1
            where, number = where[many], number[many]
            meets[where] = True
            found.append((band, where, (number + buckets).astype(np.int32)))
            buckets += int(number.max(initial=-1)) + 1
    texts = np.flatnonzero(meets)
    bucket = np.full((len(texts), bands), -1, np.int32)
    for band, where, own in found:
        bucket[np.searchsorted(texts, where), band] = own
    return texts, bucket


@dataclass(frozen=True)
class Settled:
    """Which of the texts that met are dropped."""

    of: Places
    """[texts] The kept text that each is like, -1 for those kept."""
    similarity: npt.NDArray[np.float64]
    """[texts] How like."""
    met: int
    """Pairs of a text with a kept one that share a band."""
    checked: int
    """Pairs compared exactly."""
    cut: int
    """Texts for which not all that they met could be considered."""


def settle(
    bucket: npt.NDArray[np.int32],
    sketch: Hashes,
    sizes: Places,
    shingles: Callable[[int], Hashes],
    similarity: float,
    hashes: int,
    advance: Callable[[], None] = lambda: None,
) -> Settled:
    """Keep or drop texts, given in the order of their worth, best first.

    `bucket` [texts, bands] is theirs in each band (-1: none), `sketch` [texts, 2] of so many `hashes`, `sizes`
    [texts] the number of their shingles, and `shingles(i)` reads those of one.
    """
    total = len(bucket)
    of, alike = np.full(total, -1), np.zeros(total)
    room = np.minimum(np.bincount(bucket[bucket >= 0]), LARGEST)
    begin = np.concatenate([[0], np.cumsum(room)])
    filled = np.zeros(len(room), np.int64)
    kept = np.empty(begin[-1], np.int32)  # the kept texts of each bucket, one bucket after another
    far = furthest(similarity, hashes)
    met = checked = cut = 0
    for text in range(total):
        mine = bucket[text][bucket[text] >= 0]
        begins, lengths = begin[mine], filled[mine]
        lists = [kept[b : b + n] for b, n in zip(begins.tolist(), lengths.tolist(), strict=True) if n]
        if lists:
            others = distinct(np.concatenate(lists))
            met += len(others)
            apart = np.bitwise_count(sketch[others] ^ sketch[text]).sum(axis=1, dtype=np.int64)
            longer = np.maximum(sizes[others], sizes[text])
            likely = (apart <= far) & (np.minimum(sizes[others], sizes[text]) >= similarity * longer)
            closest = others[likely][np.argsort(apart[likely], kind="stable")]
            own = shingles(text) if len(closest) else sketch[:0, 0]
            for other in closest[:CHECKS].tolist():
                checked += 1
                measured = jaccard(own, shingles(other))
                if measured >= similarity:
                    of[text], alike[text] = other, measured
                    break
            else:
                cut += len(closest) > CHECKS or bool((lengths == LARGEST).any())
        if of[text] < 0:
            free = mine[lengths < room[mine]]
            kept[begin[free] + filled[free]] = text
            filled[free] += 1
        advance()
    return Settled(of, alike, met, checked, cut)
