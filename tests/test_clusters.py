"""Buckets and the rule of what is kept, against their definitions; many texts of one frame."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from gpt2.corpus.dedupe import clusters
from gpt2.corpus.dedupe.clusters import Settled, first_of_each, meetings, repeated, settle
from gpt2.corpus.dedupe.minhash import Hashes, jaccard, shape, shingles, sign


def bucketed(rows: list[bytes], similarity: float) -> tuple[Hashes, np.ndarray, np.ndarray, list[Hashes]]:
    """Sketches, the texts that meet, their buckets and their shingles."""
    bands, length = shape(similarity)
    signed = sign(rows, bands, length, 5)
    texts, bucket = meetings(lambda band: [signed.bands[:, band]], bands, signed.near)
    return signed.sketch[texts], texts, bucket, [shingles(rows[i], 5) for i in texts]


def settled(rows: list[bytes], similarity: float) -> tuple[np.ndarray, Settled]:
    """Which texts meet, and what becomes of them."""
    sketch, texts, bucket, sets = bucketed(rows, similarity)
    sizes = np.array([len(s) for s in sets], np.int64)
    bands, length = shape(similarity)
    return texts, settle(bucket, sketch, sizes, sets.__getitem__, similarity, bands * length)


@pytest.mark.parametrize("at_once", [3, 1_000])
def test_repeated_values_are_found_in_one_part_or_many(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "AT_ONCE", at_once)
    rng = np.random.default_rng(1)
    values = rng.integers(0, 60, (100, 3), np.uint64) * np.uint64(2**58)
    able = rng.random(100) < 0.9
    pieces = np.array_split(values, [10, 10, 70])
    texts, bucket = meetings(lambda band: (piece[:, band] for piece in pieces), 3, able)
    counts = [Counter(values[able, band].tolist()) for band in range(3)]
    meets = [i for i in range(100) if able[i] and any(counts[b][int(values[i, b])] > 1 for b in range(3))]
    assert texts.tolist() == meets
    for a, i in enumerate(meets):
        for b, j in enumerate(meets):
            for band in range(3):
                same = values[i, band] == values[j, band] and counts[band][int(values[i, band])] > 1
                assert (bucket[a, band] == bucket[b, band] >= 0) == same
    for band in range(3):
        others = np.delete(bucket, band, axis=1)
        assert not set(bucket[bucket[:, band] >= 0, band]) & set(others[others >= 0]), "bands share no bucket"


@pytest.mark.parametrize("at_once", [2, 1_000])
def test_the_first_of_equal_keys_stands_for_all(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "AT_ONCE", at_once)
    keys = np.array([[1, 1], [2, 1], [1, 1], [1, 2], [2, 1], [9, 9], [1, 1]], np.uint64)
    assert first_of_each(lambda: [keys[:3], keys[3:]], 7).tolist() == [0, 1, 0, 3, 1, 5, 0]
    where, number = repeated(keys[:, 1])
    assert [where[number == i].tolist() for i in range(2)] == [[0, 1, 2, 4, 6], []]


def near_copies(count: int, seed: int) -> list[bytes]:
    """Copies of one text of 300 words with one word changed."""
    row = [b"w%d" % i for i in range(300)]
    rng = random.Random(seed)
    return [
        b" ".join([*row[:at], b"x%d" % i, *row[at + 1 :]])
        for i in range(count)
        for at in [rng.randrange(300)]
    ]


def test_thousands_of_near_copies_are_each_compared_once() -> None:
    rows = near_copies(4_000, 1)
    _, found = settled(rows, 0.8)
    assert np.count_nonzero(found.of < 0) == 1
    assert found.checked < 4_000 and found.cut == 0


def framed(count: int, frame: int, own: int) -> list[bytes]:
    """Pages of one site: a common frame of so many words around so many of their own."""
    rng = random.Random(2)
    around = [b"f%d" % i for i in range(frame)]
    return [
        b" ".join([*around[: frame // 2], *(b"o%d" % rng.randrange(10**9) for _ in range(own)), *around[frame // 2 :]])
        for _ in range(count)
    ]  # fmt: skip


def test_thousands_of_pages_in_one_frame_are_all_kept_and_few_are_compared() -> None:
    rows = framed(3_000, 180, 120)
    assert 0.35 < jaccard(shingles(rows[0], 5), shingles(rows[1], 5)) < 0.5
    texts, found = settled(rows, 0.8)
    assert np.all(found.of < 0)
    assert found.met > 3 * len(texts), "the frame makes them meet"
    assert found.checked < 0.1 * found.met, "sketches tell nearly all of them apart"


def test_pages_that_sketches_cannot_tell_apart_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = framed(800, 180, 120)
    _, free = settled(rows, 0.5)
    monkeypatch.setattr(clusters, "CHECKS", 10)
    texts, found = settled(rows, 0.5)
    assert free.checked > found.checked <= 10 * len(texts)
    assert found.cut > 0
    monkeypatch.setattr(clusters, "LARGEST", 5)
    _, smaller = settled(rows, 0.5)
    assert smaller.met < found.met
    assert np.all(smaller.of < 0), "a limit never drops what should be kept"


def test_a_limit_still_finds_the_closest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "CHECKS", 10)
    rows = framed(800, 180, 120)
    copies = [row.replace(b"f3 f4", b"f3 changed", 1) for row in rows[::4]]
    texts, found = settled(rows + copies, 0.5)
    of = {int(texts[i]): int(texts[k]) for i, k in enumerate(found.of) if k >= 0}
    assert of == {800 + n: 4 * n for n in range(200)}
