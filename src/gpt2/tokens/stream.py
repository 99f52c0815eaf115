"""Encoding a text of any length as it is read.

Text is cut only where every cut is safe, so that the ids are those of the whole text: BPE never merges across
the pieces of `gpt2.tokens.bpe.PATTERN`, and a piece always ends between a letter or digit and a single space
before another, and between a line's end and the next line when neither is white space there. A text without any such place
is held whole.

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
SAFE = re.compile(r"(?<=[0-9A-Za-z])(?= [0-9A-Za-z])|(?<=[!-~]\n)(?=[!-~])", re.ASCII)


def encode_stream(tok: Tokenizer, texts: Iterable[str]) -> Iterator[list[int]]:
    """The ids of consecutive parts of one text, part by part: together those of the whole."""
    held = ""
    for text in texts:
        held += text
        if (cut := last_cut(held)) > 0:
            yield tok.encode(held[:cut])
            held = held[cut:]
    if held:
        yield tok.encode(held)


def last_cut(text: str) -> int:
    """The last place where a text can be cut, 0 when there is none."""
    begin, length = len(text), 256
    while begin > 0:
        begin = max(0, len(text) - length)
        # One character of what comes before is looked at, too.
        places = [m.start() for m in SAFE.finditer(text, begin)]
        if places and places[-1] > begin:
            return places[-1]
        length *= 4
    return 0


def read_stream(stream: BinaryIO, name: str) -> Iterator[str]:
    """The text of a stream of UTF-8, without its byte-order mark; `FormatError` where it is something else."""
    decoder, seen = codecs.getincrementaldecoder("utf-8-sig")(), 0
    while True:
        data = stream.read(BYTES_AT_ONCE)
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
