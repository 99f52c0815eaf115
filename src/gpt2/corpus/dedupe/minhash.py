"""MinHash signatures: how near duplicates are found without comparing every text with every other.

A text is the set of its word n-grams, and the likeness of two texts is the share of them in common (Jaccard).
The least hash of such a set is the same for two of them with a chance of just that share. A signature takes
up to 128 such hashes and cuts them into `bands` of `rows`; two texts meet when a whole band is equal, which
happens with a chance of 1 - (1 - s^rows)^bands. `shape` takes the longest bands that find 98 % of the pairs at
the similarity asked for: 18 of 7 for 0.8, 42 of 3 for 0.5. Of each band only a 64-bit hash is kept, and of the
signature one bit a hash (the sketch): two texts agree in a bit with a chance of (1 + s) / 2, so pairs that
merely met can be turned away 16 bytes against 16, without their texts.

Words are runs of letters, digits and underscores, in small letters and composed (NFC); each ideograph and
kana is a word by itself, since such text has no spaces to cut at; a text without any is taken by what stands
between its spaces. `words` gives what `words_plainly` does and is three times as fast. N-grams are hashed to
64 bits from bytes, all of a text at once: by a polynomial, of which any stretch is the difference of two
running sums.

Signatures are Daft's, in Rust. Rejected: a kernel of our own in numba, twice as fast, with a compiler to carry
along; keeping whole signatures on disk, of which nothing reads more than bands and sketch.
Sources: Broder, On the resemblance and containment of documents, 1997; Leskovec, Rajaraman and Ullman, Mining of
Massive Datasets, chapter 3 (bands); Li and König, b-Bit Minwise Hashing, 2010 (sketch).

    python -c "from gpt2.corpus.dedupe.minhash import curve, shape; print(shape(0.8), curve(*shape(0.8)))"
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gpt2.errors import need

Hashes = npt.NDArray[np.uint64]

HASHES, RECALL = 128, 0.98
SPACELESS = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
SPACELESS_WORD = re.compile(f"([{SPACELESS}])")
WORD = re.compile(rf"(?=\w)[{SPACELESS}]|[^\W{SPACELESS}]+")
FOREIGN_GAP = re.compile(r"[^\w\x00-\x7f]+")
GAPS = bytes(c if c > 127 or chr(c).isalnum() or c == ord("_") else ord(" ") for c in range(256))
LETTERS = np.frombuffer(
    b"".join(hashlib.blake2b(bytes([c]), digest_size=8).digest() for c in range(256)), "<u8"
).astype(np.uint64)
BASE = 0x9E3779B97F4A7C15
STRETCH = 1 << 18


def words(text: str) -> bytes:
    """The words of a text in UTF-8, with single spaces."""
    low = (text if text.isascii() else unicodedata.normalize("NFC", text)).lower()
    if not low.isascii():
        low = FOREIGN_GAP.sub(" ", low)
        if SPACELESS_WORD.search(low):
            low = SPACELESS_WORD.sub(r" \1 ", low)
    return b" ".join(low.encode().translate(GAPS).split()) or b" ".join(text.encode(errors="replace").split())


def words_plainly(text: str) -> bytes:
    """The same, as the definition has it."""
    found = WORD.findall(unicodedata.normalize("NFC", text).lower())
    return " ".join(found).encode() or b" ".join(text.encode(errors="replace").split())


def shingles(row: bytes, ngram: int) -> Hashes:
    """The distinct word n-grams of a text's `words`, hashed, in ascending order."""
    text = np.frombuffer(row + b" ", np.uint8)
    ends = np.flatnonzero(text == ord(" "))
    if not row or len(ends) < ngram:
        return np.empty(0, np.uint64)
    begins = np.concatenate([[0], ends[:-1] + 1])[: len(ends) - ngram + 1]
    ends = ends[ngram - 1 :]
    parts = []
    here = 0
    while here < len(begins):  # a stretch at a time, so that a text of any length takes little memory
        start = begins[here]
        after = max(here + 1, int(np.searchsorted(ends, start + STRETCH)))
        first, last = begins[here:after] - start, ends[here:after] - start
        powers, inverses = power_tables(max(2 * STRETCH, int(last[-1])))
        piece = text[start : start + last[-1]]
        sums = np.zeros(len(piece) + 1, np.uint64)
        np.cumsum(LETTERS[piece] * powers[: len(piece)], out=sums[1:])
        parts.append((sums[last] - sums[first]) * inverses[first])
        here = after
    return distinct(np.concatenate(parts))


@lru_cache(maxsize=1)
def power_tables(size: int) -> tuple[Hashes, Hashes]:
    """The first powers of BASE and of its inverse, modulo 2^64."""
    inverse = pow(BASE, -1, 1 << 64)
    powers, inverses = (np.full(size, base, np.uint64) for base in (BASE, inverse))
    return np.cumprod(powers, dtype=np.uint64), np.cumprod(inverses, dtype=np.uint64)


def distinct(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values that there are, in ascending order; `numpy.unique` hashes, which takes three times as long."""
    ranked = np.sort(values)
    return ranked[np.concatenate([[True], ranked[1:] != ranked[:-1]])] if len(ranked) else ranked


def jaccard(one: Hashes, other: Hashes) -> float:
    """The share that two texts' `shingles` have in common."""
    both = np.concatenate([one, other])
    both.sort()
    common = int(np.count_nonzero(both[1:] == both[:-1]))
    return common / (len(both) - common) if len(both) else 1.0


def shape(similarity: float) -> tuple[int, int]:
    """(bands, rows): the longest bands of at most 128 hashes that find 98 % of pairs so similar."""
    for rows in range(HASHES, 1, -1):
        if expected_recall(similarity, HASHES // rows, rows) >= RECALL:
            return HASHES // rows, rows
    return HASHES, 1


def expected_recall(similarity: float, bands: int, rows: int) -> float:
    """The chance that two texts so similar agree in a whole band."""
    return float(1 - (1 - similarity**rows) ** bands)


def curve(bands: int, rows: int) -> dict[float, float]:
    """`expected_recall` at 0.3, 0.4 ... 0.9."""
    return {s / 10: round(expected_recall(s / 10, bands, rows), 4) for s in range(3, 10)}


@dataclass(frozen=True)
class Signatures:
    """What is kept of texts to find those alike."""

    key: Hashes
    """[texts, 2] digest of the words: equal words have equal keys."""
    near: npt.NDArray[np.bool_]
    """[texts] Whether there are words enough for an n-gram."""
    sketch: Hashes
    """[texts, 2] One bit of each hash."""
    bands: Hashes
    """[texts, bands] Hash of each band."""


def sign(rows: Sequence[bytes], bands: int, length: int, ngram: int) -> Signatures:
    """Signatures of texts, given as their `words`, of so many bands of a length in rows."""
    near = np.fromiter((row.count(b" ") >= ngram - 1 and row != b"" for row in rows), np.bool_, len(rows))
    digests = b"".join(hashlib.blake2b(row, digest_size=16).digest() for row in rows)
    sketch = np.zeros((len(rows), 2), np.uint64)
    hashed = np.zeros((len(rows), bands), np.uint64)
    if near.any():
        able = [row.decode() for row, yes in zip(rows, near, strict=True) if yes]
        least = least_hashes(able, bands * length, ngram)
        sketch[near] = sketches(least)
        hashed[near] = band_hashes(least.reshape(len(able), bands, length))
    key = np.frombuffer(digests, "<u8").astype(np.uint64).reshape(-1, 2)
    return Signatures(key, near, sketch, hashed)


def least_hashes(rows: Sequence[str], hashes: int, ngram: int) -> npt.NDArray[np.uint32]:
    """The least of each hash [texts, hashes] over the n-grams of texts given as words with single spaces.

    By Daft, without a query.
    """
    daft: Any = need("daft", "corpus")
    column = daft.Series.from_pylist(list(rows)).minhash(num_hashes=hashes, ngram_size=ngram).to_arrow()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.uint32).reshape(len(rows), hashes)


def sketches(least: npt.NDArray[np.uint32]) -> Hashes:
    """One bit of each of the first 128 hashes, packed [texts, 2]; the last bits of a shorter row are 0."""
    mixed = least[:, :HASHES] * np.uint64(BASE) >> np.uint64(
        63
    )  # their lowest bits alone are not even-handed
    bits = np.zeros((len(least), HASHES), np.uint8)
    bits[:, : mixed.shape[1]] = mixed
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def band_hashes(least: npt.NDArray[np.uint32]) -> Hashes:
    """One hash for each band of [texts, bands, rows]."""
    mixed = np.zeros(least.shape[:2], np.uint64)
    for row in range(least.shape[2]):
        mixed = (mixed ^ least[:, :, row]) * np.uint64(BASE)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def furthest(similarity: float, hashes: int) -> int:
    """In how many bits two sketches may differ, with 1 of 30,000 pairs so similar lost: four deviations."""
    bits = min(hashes, HASHES)
    apart = (1 - similarity) / 2
    return int(bits * apart + 4 * (bits * apart * (1 - apart)) ** 0.5)
