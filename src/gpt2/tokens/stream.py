"""Encoding a text of any length as it is read.

Text is cut only where every cut is safe, so that the ids are those of the whole text: BPE never merges across
the pieces of `gpt2.tokens.bpe.PATTERN`, and a piece always ends before a single space and before the first
character of a line, where what stands on both sides of that space or line's end is no white space. A text
without any such place is held whole.

    zcat news.txt.gz | gpt2 score MODEL --format tsv > scores.tsv
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from gpt2.errors import FormatError
from gpt2.tokens.bpe import Tokenizer

BYTES_AT_ONCE = 2**18
SAFE = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")


def encode_stream(tok: Tokenizer, texts: Iterable[str]) -> Iterator[list[int]]:
    """The ids of consecutive parts of one text, part by part: together those of the whole."""
    held: list[str] = []
    for text in texts:
        before = held[-1][-2:] if held else ""  # where a cut may lie is seen from two characters before it
        if (cut := last_cut(before + text) - len(before)) > 0:
            yield tok.encode("".join(held) + text[:cut])
            held, text = [], text[cut:]
        if text:
            held.append(text)
    if held:
        yield tok.encode("".join(held))


def last_cut(text: str) -> int:
    """The last place where a text can be cut, 0 when there is none."""
    length = 256
    while True:
        begin = max(0, len(text) - length)
        places = [match.start() for match in SAFE.finditer(text, begin)]
        if places:
            return places[-1]
        if not begin:
            return 0
        length *= 4


def read_stream(stream: BinaryIO, name: str) -> Iterator[str]:
    """The text of a stream of UTF-8, without its byte-order mark; `FormatError` where it is something else."""
    read = getattr(stream, "read1", stream.read)  # what is there, without waiting for more
    decoder, seen = codecs.getincrementaldecoder("utf-8-sig")(), 0
    while True:
        data = read(BYTES_AT_ONCE)
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            place = seen + error.start - len(decoder.getstate()[0])
            raise FormatError(
                f"{name} is not UTF-8 text (near byte {place:,}); convert it to UTF-8"
            ) from None
        if text:
            yield text
        if not data:
            return
        seen += len(data)
