"""The longest runs that samples share with a text."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.finetuning.copying import Copy, longest_copies


def plainly(sample: str, documents: list[tuple[str, str]]) -> int:
    """The readable twin: every place against every place."""
    words, best = sample.split(), 0
    for _, text in documents:
        other = text.split()
        for i in range(len(words)):
            for j in range(len(other)):
                n = 0
                while i + n < len(words) and j + n < len(other) and words[i + n] == other[j + n]:
                    n += 1
                best = max(best, n)
    return best


TEXTS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=14).map(" ".join)


@settings(max_examples=300, deadline=None, database=None)
@given(st.lists(TEXTS, max_size=4), st.lists(TEXTS, max_size=3))
def test_runs_are_those_that_a_search_of_all_places_finds(samples: list[str], texts: list[str]) -> None:
    documents = [(f"document {i}", text) for i, text in enumerate(texts)]
    for sample, found in zip(samples, longest_copies(samples, documents), strict=True):
        assert (found.words, found.of) == (plainly(sample, documents), len(sample.split()))
        assert len(found.text.split()) == found.words
        if found.document is not None:
            assert f" {found.text} " in f" {sample} "
            assert f" {found.text} " in f" {dict(documents)[found.document]} "


def test_a_run_is_told_with_its_document_and_ends_where_the_document_does() -> None:
    documents = [("one", "It was the best\nof times,"), ("two", "it was the worst of times")]
    found = longest_copies(["and It was the best of times, it was", "nothing here", ""], documents)
    assert found[0] == Copy(6, 9, "It was the best of times,", "one")
    assert found[1:] == [Copy(0, 2, "", None), Copy(0, 0, "", None)]
    assert longest_copies([], documents) == []
