"""Words, n-grams and signatures, each against its plain definition."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt2.corpus.dedupe import minhash
from gpt2.corpus.dedupe.minhash import (
    Hashes,
    curve,
    distinct,
    expected_recall,
    furthest,
    jaccard,
    shape,
    shingles,
    sign,
    words,
    words_plainly,
)


def grams(row: bytes, n: int) -> set[tuple[bytes, ...]]:
    """Word n-grams, as tuples."""
    split = row.split(b" ") if row else []
    return {tuple(split[i : i + n]) for i in range(len(split) - n + 1)}


def row_of(rng: random.Random, count: int) -> bytes:
    """So many words out of 4,000."""
    return b" ".join(b"w%d" % rng.randrange(4_000) for _ in range(count))


@settings(max_examples=400, deadline=None, database=None)
@given(st.text(max_size=60))
@example("İstanbul'da Ǆ ß ŉ")
@example("e\u0301te\u0301 \u00e9t\u00e9")
@example("日本語、カタカナ・ひらがな〆々 and 한국어 띄어쓰기")
@example("ภาษาไทย हिन्दी \u200d\u00ad \ud800 ²½")
def test_the_fast_words_are_the_plain_ones(text: str) -> None:
    assert words(text) == words_plainly(text)


def test_words_are_told_from_what_is_between_them() -> None:
    assert words("One two,\tTHREE_3 — «quatre»… can't") == b"one two three_3 quatre can t"
    assert words("E\u0301te\u0301") == words("\u00c9t\u00e9"), "composed or not is all one"
    assert words("近所の人").decode() == "近 所 の 人"
    assert words("띄어 쓰기").decode() == "띄어 쓰기", "Korean has spaces"
    assert words(" \U0001f600  \U0001f601 ").decode() == "\U0001f600 \U0001f601", (
        "without words, as it stands"
    )
    assert words(" \n") == b""


@settings(max_examples=200, deadline=None, database=None)
@given(st.lists(st.sampled_from([b"a", b"b", b"ab", b"ba", b"\xc3\xa9"]), max_size=40), st.integers(1, 6))
def test_shingles_are_as_many_as_there_are_ngrams_and_common_ones_are_equal(
    found: list[bytes], n: int
) -> None:
    one, other = b" ".join(found), b" ".join(reversed(found))
    a, b = shingles(one, n), shingles(other, n)
    plain_a, plain_b = grams(one, n), grams(other, n)
    assert len(a) == len(plain_a)
    assert np.all(a[1:] > a[:-1])
    assert len(np.intersect1d(a, b)) == len(plain_a & plain_b)
    both = plain_a | plain_b
    assert jaccard(a, b) == (len(plain_a & plain_b) / len(both) if both else 1.0)


def test_a_long_text_is_taken_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(1)
    row = row_of(rng, 3_000) + b" " + b"x" * 900 + b" " + row_of(rng, 500)
    whole = shingles(row, 5)
    for stretch in (1, 64, 1_000):
        monkeypatch.setattr(minhash, "STRETCH", stretch)
        assert np.array_equal(shingles(row, 5), whole)


def test_the_shape_is_of_the_longest_bands_that_find_98_percent() -> None:
    assert shape(0.8) == (18, 7)
    assert shape(0.5) == (42, 3)
    assert shape(0.05) == (128, 1)
    for similarity in (0.3, 0.5, 0.65, 0.8, 0.9, 0.99, 1.0):
        bands, rows = shape(similarity)
        assert bands * rows <= 128
        assert expected_recall(similarity, bands, rows) >= 0.98
        assert rows == 128 or expected_recall(similarity, 128 // (rows + 1), rows + 1) < 0.98
    assert curve(14, 8)[0.8] == pytest.approx(0.924, abs=1e-3), "what other programs take"


def made_alike(rng: random.Random, changes: int) -> tuple[bytes, bytes]:
    """A text of 200 words, and the same with so many of them changed."""
    row = row_of(rng, 200).split()
    other = list(row)
    for at in rng.sample(range(200), changes):
        other[at] = b"x%d" % rng.randrange(10_000)
    return b" ".join(row), b" ".join(other)


@pytest.mark.parametrize("changes", [1, 4, 8, 20, 60])
def test_sketches_and_bands_agree_as_often_as_they_should(changes: int) -> None:
    rng = random.Random(changes)
    pairs = [made_alike(rng, changes) for _ in range(300)]
    signed = sign([row for pair in pairs for row in pair], 18, 7, 5)
    alike = np.array([jaccard(shingles(a, 5), shingles(b, 5)) for a, b in pairs])
    same = 1 - np.bitwise_count(signed.sketch[::2] ^ signed.sketch[1::2]).sum(axis=1) / 126
    assert np.mean(same) == pytest.approx(np.mean((1 + alike) / 2), abs=0.01)
    apart = np.bitwise_count(signed.sketch[::2] ^ signed.sketch[1::2]).sum(axis=1)
    assert np.mean([d > furthest(s, 126) for d, s in zip(apart, alike, strict=True)]) <= 0.01
    met = (signed.bands[::2] == signed.bands[1::2]).any(axis=1)
    expected = np.mean([expected_recall(s, 18, 7) for s in alike])
    assert np.mean(met) == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 300) ** 0.5 + 0.005)


def test_a_signature_depends_on_the_words_alone() -> None:
    rng = random.Random(5)
    rows = [row_of(rng, 40) for _ in range(100)] + [b"", b"a b c d", b"a b c d e"]
    whole, part = sign(rows, 6, 3, 5), sign(rows[50:60], 6, 3, 5)
    assert np.array_equal(part.bands, whole.bands[50:60])
    assert np.array_equal(part.sketch, whole.sketch[50:60])
    assert np.array_equal(part.key, whole.key[50:60])
    assert whole.near.tolist() == [True] * 100 + [False, False, True], "what has no 5-gram has no signature"
    assert len(np.unique(whole.key, axis=0)) == len(rows)
    assert sign([], 6, 3, 5).bands.shape == (0, 6)


def test_distinct_values_are_numpys() -> None:
    rng = np.random.default_rng(1)
    for size in (0, 1, 2, 500):
        values: Hashes = rng.integers(0, 50, size).astype(np.uint64)
        assert np.array_equal(distinct(values), np.unique(values))
        assert all(a < b for a, b in pairwise(distinct(values).tolist()))
