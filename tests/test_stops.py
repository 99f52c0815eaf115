"""A continuation as text: what is given out is certain, and it ends before a stop string wherever it lies."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.errors import ConfigError
from gpt2.inference.stops import StoppedText
from gpt2.tokens.bpe import Tokenizer

TOK = Tokenizer(Tokenizer.gpt2().pairs[:200])
BYTES = {token: i for i, token in enumerate(TOK.tokens)}


@given(
    st.text("abc é✓\n", max_size=40),
    st.lists(st.text("abc é✓\n", min_size=1, max_size=4), max_size=3),
)
@settings(max_examples=400, deadline=None)
def test_text_ends_where_the_first_stop_begins_at_the_border_that_completes_one(
    text: str, stops: list[str]
) -> None:
    ids = [BYTES[bytes([b])] for b in text.encode()]
    out, given_out, pushed = StoppedText(TOK, stops), "", b""
    for token in ids:
        given_out += out.push(token)
        pushed += TOK.tokens[token]
        whole = pushed.decode("utf-8", "ignore")
        places = [at for stop in stops if (at := whole.find(stop)) >= 0]
        assert out.stopped == bool(places)
        if out.stopped:
            assert given_out == whole[: min(places)] == given_out + out.finish()
            assert out.push(token) == ""
            return
        assert whole.startswith(given_out)
        waiting = whole[len(given_out) :]
        assert not waiting or any(stop.startswith(waiting) for stop in stops), "no more waits than must"
    assert given_out + out.finish() == text


def test_tokens_may_hold_a_stop_begin_one_or_end_one() -> None:
    he = TOK.encode(" the") if len(TOK.encode(" the")) == 1 else [TOK.ranks[b" the"]]
    for stop, left in (("t", " "), (" the", ""), ("hex", " the"), ("e", " th")):
        out = StoppedText(TOK, [stop])
        assert out.push(he[0]) + out.finish() == left
        assert out.stopped == (stop in " the")


def test_a_character_that_never_becomes_whole_is_marked_at_the_end() -> None:
    out = StoppedText(TOK, ["x"])
    assert out.push(BYTES["✓".encode()[:1]]) == ""
    assert out.finish() == "\ufffd"


def test_stops_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="a stop string is empty"):
        StoppedText(TOK, ["a", ""])
    with pytest.raises(ConfigError, match="a list of texts"):
        StoppedText(TOK, "ab")
