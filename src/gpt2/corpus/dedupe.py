"""Exact and near duplicates (the paper's "de-duplication", of which it says no more).

Two texts are equal when their words are, whatever their case, punctuation and spacing. They are near
duplicates when of their word 5-grams at least `SIMILARITY` are common to both (Jaccard). Candidates come from
MinHash signatures of 112 hashes (by Daft, in Rust) in 14 bands of 8, which meet with a chance of 0.92 at a
similarity of 0.8 and 0.999 at 0.9, but of 0.56 at 0.7 and 0.05 at 0.5: asked for less than 0.8, this finds
fewer than there are. Each candidate is then held against the exact measure, since a third of them fail it.
Source: Broder, On the resemblance and containment of documents, 1997.

    duplicates(["one two three four five six", "ONE two, three four five six!"])   # {1: Duplicate(0, 1.0)}
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from gpt2.errors import need

SIMILARITY = 0.8
NGRAM, BANDS, ROWS = 5, 14, 8
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Duplicate:
    """What a text repeats."""

    of: int
    """Index of the text that is kept."""
    similarity: float
    """Jaccard similarity of word 5-grams with a text of its cluster; 1.0 for equal words."""


def duplicates(texts: Sequence[str], similarity: float = SIMILARITY) -> dict[int, Duplicate]:
    """For each text that repeats an earlier one: which, and how closely. Order decides which one is kept."""
    found: dict[int, Duplicate] = {}
    first: dict[bytes, int] = {}
    words = [" ".join(WORD.findall(text.lower())) for text in texts]
    for i, row in enumerate(words):
        content = row or texts[i]  # texts without any word are equal when they are the same
        key = hashlib.blake2b(content.encode(errors="surrogatepass"), digest_size=16).digest()
        if (kept := first.setdefault(key, i)) != i:
            found[i] = Duplicate(kept, 1.0)
    left = [i for i in range(len(texts)) if i not in found and words[i].count(" ") >= NGRAM - 1]
    parent = {i: i for i in left}
    best = dict.fromkeys(left, 0.0)

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in candidates(signatures([words[i] for i in left])):
        i, j = left[a], left[b]
        if root(i) != root(j) and (measured := jaccard(words[i], words[j])) >= similarity:
            keep, drop = sorted((root(i), root(j)))
            parent[drop] = keep
            best[i], best[j] = max(best[i], measured), max(best[j], measured)
    found |= {i: Duplicate(root(i), best[i]) for i in left if root(i) != i}
    return {
        i: Duplicate(found[d.of].of if d.of in found else d.of, d.similarity)
        for i, d in sorted(found.items())
    }


def signatures(words: Sequence[str]) -> npt.NDArray[np.uint32]:
    """MinHash signatures [texts, BANDS * ROWS] of texts given as words with single spaces."""
    if not words:
        return np.empty((0, BANDS * ROWS), np.uint32)
    daft: Any = need("daft", "corpus")
    functions: Any = need("daft.functions", "corpus")
    hashes = functions.minhash(daft.col("words"), num_hashes=BANDS * ROWS, ngram_size=NGRAM)
    column = daft.from_pydict({"words": list(words)}).select(hashes.alias("m")).to_arrow().column("m")
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.uint32).reshape(len(words), BANDS * ROWS)


def candidates(signature: npt.NDArray[np.uint32]) -> Iterator[tuple[int, int]]:
    """Pairs of rows that agree in a whole band: each with the first of its bucket and with its neighbour."""
    seen: set[tuple[int, int]] = set()
    for band in range(BANDS if len(signature) else 0):
        rows = np.ascontiguousarray(signature[:, band * ROWS : (band + 1) * ROWS])
        keys = rows.view(np.dtype((np.void, rows.itemsize * ROWS))).ravel()
        order = np.argsort(keys, kind="stable")
        borders = np.flatnonzero(keys[order][1:] != keys[order][:-1]) + 1
        for bucket in np.split(order, borders):
            members = bucket.tolist()
            for pair in [*((members[0], other) for other in members[1:]), *pairwise(members)]:
                if pair not in seen:
                    seen.add(pair)
                    yield pair


def jaccard(one: str, other: str) -> float:
    """Share of distinct word 5-grams that two texts have in common."""
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b) if a or b else 1.0


def shingles(words: str) -> set[tuple[str, ...]]:
    """The distinct word 5-grams of a text given as words with single spaces."""
    row = words.split(" ")
    return set(zip(*(row[k:] for k in range(NGRAM)), strict=False))
