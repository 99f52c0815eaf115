"""The measures against their plainest form, on real pages and on random texts."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpt2
from gpt2.corpus.clean.mending import LongWords, Notices, UnendedLines
from gpt2.corpus.clean.quality import Reading

# Gopher's and C4's measures as their papers and datatrove's filters have them, a few lines each


def plain_top_ngram(text: str, n: int) -> float:
    """Characters in all places of the most frequent n-gram, the first among equals, its spaces counted."""
    words = text.split()
    grams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
    if not grams:
        return 0.0
    best, times = Counter(grams).most_common(1)[0]
    return len(best) * times / len(text)


def plain_repeated_ngrams(text: str, n: int) -> float:
    """Characters in n-grams that came before; a word is counted once, and one that was is not begun with."""
    words, seen = text.split(), set()
    characters = i = 0
    while i + n <= len(words):
        gram = tuple(words[i : i + n])
        if gram in seen:
            characters += sum(map(len, gram))
            i += n
        else:
            seen.add(gram)
            i += 1
    return characters / len(text)


def plain_repeated(pieces: list[str], text: str) -> tuple[float, float]:
    """Share of pieces that came before, and of the text's characters in them."""
    again = [piece for i, piece in enumerate(pieces) if piece in pieces[:i]]
    return len(again) / len(pieces), sum(map(len, again)) / len(text)


def plain_paragraphs(text: str) -> list[str]:
    found = [""]
    for line in text.strip().split("\n"):
        if line:
            found[-1] += f"\n{line}" if found[-1] else line
        elif found[-1]:
            found.append("")
    return found


def plain_sentences(text: str) -> int:
    """Ends of sentences inside lines of three words and more, and the end of each line."""
    count = 0
    for line in text.split("\n"):
        words = line.split()
        if len(words) >= 3:
            count += 1 + sum(word.rstrip("\"'”’)]").endswith((".", "!", "?", "…")) for word in words[:-1])
    return count


def check(text: str) -> None:
    """All measures of a text by both ways."""
    reading, words = Reading(text), text.split()
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    for n in (2, 3, 4):
        assert reading.top_ngram(n) == pytest.approx(plain_top_ngram(text, n))
    for n in range(5, 11):
        assert reading.repeated_ngrams(n) == pytest.approx(plain_repeated_ngrams(text, n))
    assert reading.repeated_lines == pytest.approx(plain_repeated(lines, text))
    assert reading.repeated_paragraphs == pytest.approx(plain_repeated(plain_paragraphs(text), text))
    assert reading.mean_word_length == pytest.approx(len("".join(words)) / len(words))
    assert reading.alphabetic == pytest.approx(sum(any(c.isalpha() for c in w) for w in words) / len(words))
    hashes, ellipses = text.count("#") / len(words), (text.count("...") + text.count("…")) / len(words)
    assert reading.symbols == pytest.approx(max(hashes, ellipses))
    bullets = [line for line in lines if line[0] in "-•"]
    assert reading.beginning(("-", "•")) == pytest.approx(len(bullets) / len(lines))
    cut = [line for line in lines if line[-1] == "…" or line[-3:] == "..."]
    assert reading.ending(("...", "…")) == pytest.approx(len(cut) / len(lines))
    assert reading.of(("the", "of")) == ("the" in words) + ("of" in words)
    assert reading.sentences(3) == plain_sentences(text)


def test_measures_of_real_pages_equal_the_plain_ones(data: Path) -> None:
    for path in sorted((data / "html_extraction" / "html").glob("*.html.gz"))[::3]:
        page = gpt2.extract(gzip.decompress(path.read_bytes()), method="fast")
        if page and len(page.text) < 20_000:
            check(page.text)


def test_measures_of_real_texts_equal_the_plain_ones(data: Path) -> None:
    for name in ("progit2/01-introduction__sections__history.asc", "rust_book/ch03-05-control-flow.md"):
        check((data / "prose" / name).read_text("utf-8"))
    stories = (data / "prose" / "bbc_news.jsonl").read_text("utf-8").split("\n")
    for story in stories[:-1:80]:
        check(json.loads(story)["text"])


@settings(max_examples=300, deadline=None, database=None)
@given(
    st.lists(
        st.sampled_from(["the", "of", "a", "bb", "a.", "12", "#", "...", "and…", "•x", "- ", 'end."', "\n", "\n\n"])
        | st.text(max_size=4),
        min_size=1,
        max_size=60,
    )
)  # fmt: skip
def test_measures_of_random_texts_equal_the_plain_ones(words: list[str]) -> None:
    text = " ".join(words).replace(" \n ", "\n").replace(" \n\n ", "\n\n")
    if (
        text.split()
        and text.isprintable() | ("\n" in text)
        and not set("\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029") & set(text)
    ):
        check(text)


def plain_c4_lines(text: str, phrases: tuple[str, ...]) -> list[str]:
    """C4's lines: ended, of three words, no word over 1,000 characters, without the phrases."""
    return [
        line.strip()
        for line in text.split("\n")
        if line.strip().endswith((".", "?", "!", '"', "'"))
        and not line.strip().endswith("...")
        and len(line.split()) >= 3
        and all(len(word) <= 1000 for word in line.split())
        and not any(phrase in line.lower() for phrase in phrases)
    ]


def test_lines_of_real_pages_go_as_c4_has_them(data: Path) -> None:
    phrases = (*Notices().phrases[:6], "javascript")
    ended = UnendedLines(marks=(".", "?", "!", '"', "'"))
    gone = 0
    for path in sorted((data / "html_extraction" / "html").glob("*.html.gz"))[::3]:
        page = gpt2.extract(gzip.decompress(path.read_bytes()), method="fast")
        if page:
            text = page.text
            for rule in (LongWords(), ended, Notices(phrases=phrases, longest=10**6)):
                text, n = rule.mend(text)
                gone += n
            assert [line.strip() for line in text.split("\n") if line.strip()] == plain_c4_lines(
                page.text, phrases
            )
    assert gone > 100


def test_a_text_without_words_has_measures_too() -> None:
    reading = Reading("")
    assert (reading.mean_word_length, reading.symbols, reading.alphabetic, reading.letters) == (0, 0, 0, 0)
    assert (reading.top_ngram(2), reading.repeated_ngrams(5), reading.repeated_lines) == (0, 0, (0, 0))
    assert reading.language == (None, 0.0)
