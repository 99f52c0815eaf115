"""Duplicates against the plain measure on all pairs: none that is not one, and nearly all that are."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.corpus.dedupe import WORD, Duplicate, candidates, duplicates, jaccard, shingles, signatures

VOCABULARY = [f"word{i}" for i in range(3_000)]


def plain(text: str) -> str:
    return " ".join(WORD.findall(text.lower()))


def grams(text: str) -> set[tuple[str, ...]]:
    """Word 5-grams, written once more."""
    words = plain(text).split()
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def similarity(one: str, other: str) -> float:
    """Jaccard similarity, written once more."""
    a, b = grams(one), grams(other)
    return len(a & b) / len(a | b)


def collection(seed: int, bases: int, copies: int) -> list[str]:
    """Texts of 50 to 300 words, each with copies in which up to 8 words are changed, mixed."""
    rng = random.Random(seed)
    texts = []
    for _ in range(bases):
        words = rng.choices(VOCABULARY, k=rng.randint(50, 300))
        texts.append(" ".join(words))
        for _ in range(copies):
            changed = list(words)
            for _ in range(rng.randint(0, 8)):
                changed[rng.randrange(len(changed))] = rng.choice(VOCABULARY)
            texts.append(" ".join(changed))
    rng.shuffle(texts)
    return texts


def test_against_all_pairs_there_is_no_false_one_and_few_are_missed() -> None:
    texts = collection(1, 120, 3)
    found = duplicates(texts)
    sets = [grams(text) for text in texts]
    pairs = [(i, j, len(sets[i] & sets[j])) for i in range(len(texts)) for j in range(i)]
    alike = {(i, j): n / (len(sets[i]) + len(sets[j]) - n) for i, j, n in pairs if n}
    near = {i for pair, measured in alike.items() if measured >= 0.8 for i in pair}
    assert found.keys() <= near, "whatever is dropped is like another text"
    closest = [pair for pair, measured in alike.items() if measured >= 0.9]
    missed = [(i, j) for i, j in closest if i not in found and j not in found]
    assert len(closest) > 100
    assert len(missed) <= 0.02 * len(closest)


def test_each_duplicate_says_how_like_it_is_to_a_text_of_its_cluster() -> None:
    texts = collection(2, 60, 3)
    found = duplicates(texts)
    assert found
    for i, duplicate in found.items():
        assert duplicate.of not in found, "the text it repeats is kept"
        assert duplicate.of < i
        cluster = [
            j for j in range(len(texts)) if j == duplicate.of or (j in found and found[j].of == duplicate.of)
        ]
        measured = [similarity(texts[i], texts[j]) for j in cluster if j != i]
        assert min(abs(m - duplicate.similarity) for m in measured) < 1e-12
        assert duplicate.similarity >= 0.8


def test_equal_words_are_equal_whatever_their_case_and_punctuation() -> None:
    texts = ["One two, three.", "ONE TWO THREE", "one\ttwo\n\n'three'", "one two four", "Ünë two", "ünë TWO!"]
    assert duplicates(texts) == {1: Duplicate(0, 1.0), 2: Duplicate(0, 1.0), 5: Duplicate(4, 1.0)}


def test_the_first_of_a_cluster_is_kept_in_any_order() -> None:
    rng = random.Random(3)
    words = rng.choices(VOCABULARY, k=200)
    texts = [" ".join([*words[:i], f"other{i}", *words[i + 1 :]]) for i in (10, 50, 90)]
    texts += [texts[1].upper(), "something else entirely that is long enough"]
    for _ in range(5):
        rng.shuffle(texts)
        found = duplicates(texts)
        first = min(i for i, text in enumerate(texts) if not text.startswith("something"))
        assert set(found) == {i for i, t in enumerate(texts) if i != first and not t.startswith("something")}
        assert {d.of for d in found.values()} == {first}


def test_texts_without_words_are_equal_only_when_they_are_the_same() -> None:
    assert duplicates(["", "...", "!!!", "", "...", "\U0001f600", "\U0001f601"]) == {
        3: Duplicate(0, 1.0),
        4: Duplicate(1, 1.0),
    }


def test_short_texts_are_compared_whole() -> None:
    assert duplicates(["a b c d", "a b c e", "a b c d", "a b c d e", "a b c d e f"]) == {2: Duplicate(0, 1.0)}


@pytest.mark.parametrize("texts", [[], [""], ["one"], ["one text that is long enough to have a few of them"]])
def test_without_duplicates_there_are_none(texts: list[str]) -> None:
    assert duplicates(texts) == {}


def test_distinct_texts_are_all_kept() -> None:
    rng = random.Random(4)
    assert duplicates([" ".join(rng.choices(VOCABULARY, k=100)) for _ in range(500)]) == {}


def test_many_copies_of_one_text_take_no_more_than_their_time() -> None:
    words = VOCABULARY[:100]
    texts = [" ".join([*words[:50], f"x{i}", *words[50:]]) for i in range(3_000)]
    found = duplicates(texts)
    assert len(found) > 2_900
    assert sum(1 for _ in candidates(signatures([plain(t) for t in texts]))) < 14 * 2 * len(texts)


def test_signatures_depend_on_the_words_alone() -> None:
    rng = random.Random(5)
    texts = [" ".join(rng.choices(VOCABULARY, k=40)) for _ in range(200)]
    whole = signatures(texts)
    assert whole.shape == (200, 112)
    assert np.array_equal(signatures(texts[50:60]), whole[50:60])
    assert len({row.tobytes() for row in whole}) == 200


def test_signatures_estimate_the_similarity() -> None:
    texts = collection(6, 40, 1)
    signature = signatures([plain(t) for t in texts])
    pairs = [(i, j) for i in range(len(texts)) for j in range(i) if similarity(texts[i], texts[j]) > 0.3]
    errors = [np.mean(signature[i] == signature[j]) - similarity(texts[i], texts[j]) for i, j in pairs]
    assert abs(np.mean(errors)) < 0.02
    assert np.max(np.abs(errors)) < 0.25


@settings(max_examples=60, deadline=None, database=None)
@given(st.lists(st.text(st.sampled_from("ab .\ud800é"), max_size=30), max_size=8))
def test_any_texts_may_be_compared(texts: list[str]) -> None:
    found = duplicates(texts)
    assert all(d.of < i and d.of not in found for i, d in found.items())


def test_shingles_are_the_five_grams() -> None:
    assert shingles("a b c d e f") == {tuple("abcde"), tuple("bcdef")}
    assert shingles("a b c d") == set()
    assert jaccard("a b c d e f", "a b c d e g") == 1 / 3
