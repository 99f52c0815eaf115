"""The named rules: what each mends, takes out or refuses, and that nothing happens in silence."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.corpus.clean import FEWEST_WORDS, SHARED_BY, mend, refuse, shared_lines
from gpt2.corpus.documents import Document


def test_control_characters_are_taken_out_and_counted() -> None:
    text, taken = mend("a\0b\x1b[0mc\x7f\td\ne")
    assert text == "ab[0mc\td\ne"
    assert taken == {"control characters": 3}


def test_lines_may_have_ended_in_any_way() -> None:
    assert mend("one\r\ntwo\rthree\nfour") == ("one\ntwo\nthree\nfour", {})


def test_addresses_in_memory_are_made_alike() -> None:
    text, taken = mend("<function f at 0x7f3a5c0d1e20> and 0x10 at 0x7ffd")
    assert text == "<function f at 0x...> and 0x10 at 0x..."
    assert taken == {"addresses in memory": 2}


def pages(n: int, line: str) -> list[Document]:
    return [Document(f"Page {i} speaks.\n  {line}\n{line}\nThe end of {i}.", group=str(i)) for i in range(n)]


def test_lines_on_many_pages_are_their_frame() -> None:
    many = pages(SHARED_BY + 1, "All rights are reserved here.")
    assert shared_lines(many) == {"All rights are reserved here."}
    assert shared_lines(many[1:]) == set()
    text, taken = mend(many[3].text, shared_lines(many))
    assert text == "Page 3 speaks.\nThe end of 3."
    assert taken == {"lines shared by many pages": 2}


def test_short_lines_and_pieces_of_one_page_are_no_frame() -> None:
    assert shared_lines(pages(50, "See also:")) == set()
    pieces = [Document("The same line in each piece.", group="one page") for _ in range(50)]
    assert shared_lines(pieces) == set()


def test_texts_that_are_too_short_or_no_prose_are_refused() -> None:
    words = "word " * FEWEST_WORDS
    assert refuse(words) is None
    assert refuse("word " * (FEWEST_WORDS - 1)) == "fewer than 30 words"
    assert refuse("") == "fewer than 30 words"
    assert refuse("0x1f 1234 {}[]; " * 40) == "less than 40% letters"
    assert refuse("слово " * FEWEST_WORDS) is None


@settings(max_examples=100, deadline=None, database=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_mending_twice_is_mending_once_and_every_change_is_counted(text: str) -> None:
    once, taken = mend(text)
    assert mend(once) == (once, {})
    assert taken or once == text.replace("\r\n", "\n").replace("\r", "\n")
