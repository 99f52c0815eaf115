"""A text encoded part by part has the ids of the whole."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt2.errors import FormatError
from gpt2.tokens import stream
from gpt2.tokens.bpe import Tokenizer
from gpt2.tokens.stream import encode_stream, last_cut, read_stream

TOK = Tokenizer.gpt2()
PIECES = st.sampled_from(
    [
        "a",
        "The",
        "don't",
        "'s",
        "'",
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "\r\n",
        "12",
        ".",
        "!?",
        "é",
        "你好",
        "。",
        "\x1c",
        "🤗",
    ]
)


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, max_size=30), st.lists(st.integers(0, 60), max_size=6))
@example(["The", " ", " ", "a", "\n", "'", "s"], [5, 6])
def test_parts_have_the_ids_of_the_whole(pieces: list[str], cuts: list[int]) -> None:
    text = "".join(pieces)
    places = [0, *sorted(min(c, len(text)) for c in cuts), len(text)]
    parts = [text[a:b] for a, b in pairwise(places)]
    assert [i for ids in encode_stream(TOK, parts) for i in ids] == TOK.encode(text)


def test_real_text_in_small_parts(data: Path) -> None:
    for path in sorted((data / "prose").rglob("*.txt"))[::9]:
        text = path.read_text(encoding="utf-8")[:300_000]
        parts = (text[i : i + 1000] for i in range(0, len(text), 1000))
        chunks = list(encode_stream(TOK, parts))
        assert len(chunks) > len(text) // 3000, "it is encoded as it comes"
        assert [i for ids in chunks for i in ids] == TOK.encode(text)


def test_a_text_without_a_safe_place_is_held_whole() -> None:
    assert last_cut("x" * 5000) == last_cut("   \t ") == last_cut("") == last_cut(" a") == 0
    assert last_cut("one two" + "x" * 5000) == 3
    assert [i for ids in encode_stream(TOK, ["x" * 100] * 20) for i in ids] == TOK.encode("x" * 2000)


@pytest.mark.parametrize("line", ["word and some more of them\n", "слово за словом, как оно есть\n"])
def test_memory_does_not_grow_with_the_text(line: str) -> None:
    def long() -> Iterator[str]:
        for _ in range(200):
            yield line * 500

    tracemalloc.start()
    tokens = sum(len(ids) for ids in encode_stream(TOK, long()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert tokens > 500_000
    assert peak < 5e6


def test_bytes_are_read_as_utf8_whatever_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BYTES_AT_ONCE", 3)
    text = "naïve café 你好 🤗\r\n\nend"
    assert "".join(read_stream(io.BytesIO(text.encode()), "f")) == text
    assert "".join(read_stream(io.BytesIO(b"\xef\xbb\xbfabc"), "f")) == "abc", "without the byte-order mark"
    with pytest.raises(FormatError, match=r"f is not UTF-8 text \(near byte 8\)"):
        list(read_stream(io.BytesIO(b"abcdefgh\xff"), "f"))
    with pytest.raises(FormatError, match="not UTF-8"):
        list(read_stream(io.BytesIO("é".encode()[:1]), "f"))
