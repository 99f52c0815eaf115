"""Duplicates among a few texts, against the plain measure on all pairs."""

from __future__ import annotations

import functools
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.corpus.dedupe import settings as settings_of
from gpt2.corpus.dedupe.minhash import words_plainly
from gpt2.corpus.dedupe.search import DedupeConfig, dedupe
from gpt2.corpus.documents import SHARD, Document, parquet_rows, write_documents
from gpt2.errors import ConfigError

VOCABULARY = [f"word{i}" for i in range(3_000)]


class Duplicate(NamedTuple):
    """What a text repeats."""

    of: int
    similarity: float


def duplicates(texts: Sequence[str], similarity: float = 0.8) -> dict[int, Duplicate]:
    """For each text that repeats an earlier one, which: those before have more votes."""
    with tempfile.TemporaryDirectory() as folder:
        shard, out = Path(folder) / SHARD.format(0), Path(folder) / "out"
        write_documents(shard, [Document(text, id=str(i), votes=-i) for i, text in enumerate(texts)])
        found = dedupe([shard], out, DedupeConfig(similarity, sample=0))
        rows = parquet_rows(found.path, ["id", "of", "similarity"])
        return {int(row["id"]): Duplicate(int(row["of"]), row["similarity"]) for row in rows}


@functools.cache
def grams(text: str) -> set[tuple[bytes, ...]]:
    """Word 5-grams, written once more."""
    words = words_plainly(text).split()
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


@pytest.mark.parametrize("asked", [0.8, 0.5])
def test_what_is_dropped_is_like_what_is_kept_and_few_that_are_alike_are_both_kept(asked: float) -> None:
    texts = collection(1, 120, 3)
    found = duplicates(texts, asked)
    for i, duplicate in found.items():
        assert duplicate.of < i, "order decides"
        assert duplicate.of not in found, "what it repeats is kept"
        assert duplicate.similarity == pytest.approx(similarity(texts[i], texts[duplicate.of]), abs=1e-12)
        assert duplicate.similarity >= asked
    pairs = [(i, j) for i in range(len(texts)) for j in range(i)]
    alike = [pair for pair in pairs if similarity(texts[pair[0]], texts[pair[1]]) >= asked]
    missed = [(i, j) for i, j in alike if i not in found and j not in found]
    assert len(alike) > 100
    assert len(missed) <= 0.02 * len(alike)


def test_a_chain_does_not_take_what_is_like_nothing_that_is_kept() -> None:
    row = [f"w{i}" for i in range(300)]
    first, middle, last = (" ".join(row[i : i + 200]) for i in (0, 20, 40))
    assert similarity(first, middle) >= 0.8 <= similarity(middle, last)
    assert similarity(first, last) < 0.8
    assert set(duplicates([first, middle, last])) == {1}, "the last says more than the first"
    assert set(duplicates([middle, first, last])) == {1, 2}


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


@settings(max_examples=15, deadline=None, database=None)
@given(st.lists(st.text(st.sampled_from("ab .\ud800é"), max_size=30), max_size=8))
def test_any_texts_may_be_compared(texts: list[str]) -> None:
    found = duplicates(texts)
    assert all(d.of < i and d.of not in found for i, d in found.items())


def test_text_without_spaces_is_compared_by_its_characters() -> None:
    text = "近所の人々は皆、その古い家が長い間空いていることを知っていた。誰も住んでいないはずだった。" * 2
    other = text.replace("古", "新", 1)
    assert duplicates([text, other], 0.7) == {1: Duplicate(0, pytest.approx(similarity(text, other)))}
    assert duplicates([text, "全く別の文章であり、共通する部分はほとんどない。本当に何もない。"]) == {}


def test_settings_that_make_no_sense_are_refused() -> None:
    assert settings_of("openwebtext", similarity=None).similarity == 0.5
    assert settings_of(None, similarity=0.9, sample=0) == DedupeConfig(0.9, sample=0)
    for wrong, said in (
        ({"similarity": 0.0}, "similarity"),
        ({"similarity": 1.1}, "similarity"),
        ({"bands": 10}, "both"),
        ({"bands": 0, "rows": 2}, "1 or more"),
        ({"bands": 1000, "rows": 100}, "100000 hashes"),
        ({"ngram": 0}, "1 or more"),
    ):
        with pytest.raises(ConfigError, match=said):
            settings_of(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="did you mean 'openwebtext'"):
        settings_of("openwebtex")
