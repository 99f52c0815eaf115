"""Texts to score, out of files and streams of any size.

What one text is, is for the reader to say:

    file      all of a file
    line      each line, without its end
    record    each object of JSON lines: {"text": ...}, or {"context": ..., "continuation": ...}, of which only
              the continuation is scored

A file is read as it comes, so `gpt2 score` can stand in a pipe behind a dump of any size; a line or a record is
held whole.

    for span in score_streams(model, [("news.txt", open("news.txt", "rb"))], each="line", unit="text"): ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO, Literal

from gpt2.corpus.documents import json_lines
from gpt2.errors import FormatError
from gpt2.inference.scoring import begin, encode, score_pieces
from gpt2.inference.spans import Span, Totals, Unit, spans
from gpt2.model.checkpoint import Model
from gpt2.model.device import Compute
from gpt2.tokens.bpe import Tokenizer
from gpt2.tokens.stream import encode_stream, read_stream
from gpt2.workspace import Json

Each = Literal["file", "line", "record"]
Encoded = tuple[list[int], Iterable[list[int]]]
"""The ids that are given, and those to score, in chunks."""


def score_streams(
    model: Model,
    streams: Iterable[tuple[str, BinaryIO]],
    each: Each = "file",
    unit: Unit = "text",
    start: str = "endoftext",
    stride: int | None = None,
    compute: Compute | None = None,
    totals: Totals | None = None,
) -> Iterator[Span]:
    """The scores of the spans of all texts in streams of UTF-8, each with a name for its errors, in order.

    `totals` is added to as they come.
    """
    totals = Totals() if totals is None else totals
    texts = chain.from_iterable(encoded(model.tokenizer, s, name, each, start) for name, s in streams)
    pieces = score_pieces(model.net, totals.texts_of(texts), stride, compute)
    return totals.spans_of(spans(pieces, model.tokenizer, unit))


def encoded(tok: Tokenizer, stream: BinaryIO, name: str, each: Each, start: str) -> Iterator[Encoded]:
    """The texts of a stream, encoded as they are read."""
    if each == "file":
        chunks = encode_stream(tok, read_stream(stream, name))
        past, rest = begin(tok, [], next(chunks, []), start)
        yield past, chain([rest], chunks)
    elif each == "line":
        for number, line in enumerate(stream, 1):
            past, rest = encode(tok, line_text(line, number, name), start)
            yield past, [rest]
    else:
        for number, row in enumerate(json_lines(stream, name), 1):
            past, rest = encode(tok, record_text(row, number, name), start)
            yield past, [rest]


def line_text(line: bytes, number: int, name: str) -> str:
    """A line without its end; `FormatError` when it is not UTF-8."""
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise FormatError(f"line {number} of {name} is not UTF-8 text; convert it to UTF-8") from None


def record_text(row: Json, number: int, name: str) -> str | tuple[str, str]:
    """A text, or a context and what goes on from it; `FormatError` when a record has neither."""
    if isinstance(row.get("text"), str):
        return str(row["text"])
    if isinstance(row.get("context"), str) and isinstance(row.get("continuation"), str):
        return str(row["context"]), str(row["continuation"])
    raise FormatError(
        f"record {number} of {name} has neither a string 'text' nor the strings 'context' and 'continuation'; "
        f"its fields: {', '.join(row) or 'none'}"
    )
