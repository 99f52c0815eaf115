"""gpt2 score: how likely a model finds a text.

gpt2 score reproduce "A sentence." --unit word
gpt2 score reproduce --file novel.txt --unit sentence --format tsv
"""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

from cyclopts import Parameter

from gpt2.cli.talk import EXACTLY, TALK, ComputingExactly, Count, Talk, in_utf8, open_model, put
from gpt2.console import shown
from gpt2.errors import InputError

if TYPE_CHECKING:
    from gpt2.inference.spans import Span

COLUMNS = ("text", "number", "string", "logprob", "bits", "tokens", "token", "rank")
SHADES = ((1, 0), (4, 194), (8, 229), (12, 216), (float("inf"), 211))
"""Up to so many bits of surprise, the background's colour of 256; 0 is none."""


def score(
    model: Path,
    text: str | None = None,
    *,
    file: Annotated[list[Path] | None, Parameter(name=["--file", "--files"], consume_multiple=True)] = None,
    each: Literal["file", "line", "record"] | None = None,
    unit: Literal["token", "word", "sentence", "text"] | None = None,
    format: Literal["auto", "colors", "table", "jsonl", "tsv"] = "auto",
    start: Literal["endoftext", "none"] = "endoftext",
    stride: Count | None = None,
    computing: ComputingExactly = EXACTLY,
    talk: Talk = TALK,
) -> None:
    """The log-probability of texts, and of their sentences, words or tokens, in nats.

    Parameters
    ----------
    model:
        A model in any known format: folder or file, a training run, the folder of `gpt2 reproduce`, hub name.
    text:
        The text to score. Without it and without files, standard input, of any size.
    file:
        Files to score, of any size, UTF-8; - is standard input.
    each:
        What one text is: all of a file, each line, or each record of JSON lines with "text", or with "context"
        and "continuation". When not given: records of files named .jsonl, else all of a file.
    unit:
        What to show the score of; of a span longer than 100,000 bytes the beginning is shown. When not given:
        tokens of a text on the command line, else whole texts.
    format:
        colors shows the text coloured by surprise, jsonl and tsv write one span a line as soon as it is known.
        auto is colors for one text on a terminal, else table.
    start:
        With endoftext the first token follows <|endoftext|>; with none the first token is not scored.
    stride:
        Tokens between two windows of a text longer than the context; the context when not given.
    """
    from gpt2.inference.spans import Totals
    from gpt2.inference.texts import score_streams

    if text is not None and file:
        raise InputError("both a text and files were given; give one of the two")
    files = [Path("-")] if text is None and not file else file or []
    for path in files:
        if str(path) != "-" and (path.is_dir() or not path.exists()):
            what = "is a folder, not a file" if path.is_dir() else "is not there"
            raise InputError(f"{path} {what}; check the path")
    compute = computing.choose()
    m = open_model(model, compute)
    unit = unit or ("text" if text is None else "token")
    each = each or ("record" if files and all(path.suffix == ".jsonl" for path in files) else "file")
    totals = Totals()
    spans = score_streams(m, opened(text, files), each, unit, start, stride, compute, totals)
    rows: list[dict[str, Any]] = []
    if talk.json:
        rows = [row(span) for span in spans]
    elif format == "auto" and text is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        WRITERS["colors"](spans)
    else:
        WRITERS["table" if format == "auto" else format](spans)
    if not totals.tokens:
        raise InputError("there is no token to score after the start; give a longer text")
    facts = {
        "texts": totals.texts,
        "logprob": totals.logprob,
        "tokens": totals.tokens,
        "perplexity": totals.perplexity,
        "bits_per_byte": totals.bits_per_byte,
        "start": start,
        "stride": stride or m.net.config.n_ctx,
        "dtype": compute.dtype,
    }
    if talk.json:
        talk.result({**facts, "unit": unit, "rows": rows}, "")
    elif format in ("jsonl", "tsv"):
        talk.console.say(
            "  ".join(f"{name.replace('_', ' ')} {shown(value)}" for name, value in facts.items())
        )
    else:
        talk.facts(facts)


def opened(text: str | None, files: list[Path]) -> Iterator[tuple[str, BinaryIO]]:
    """What to read, one after the other, each with its name."""
    if text is not None:
        yield "the text", io.BytesIO(text.encode("utf-8", "surrogateescape"))
    for path in files:
        if str(path) == "-":
            yield "standard input", sys.stdin.buffer
        else:
            with path.open("rb") as stream:
                yield str(path), stream


def row(span: Span) -> dict[str, Any]:
    """A span as a program reads it."""
    return {name: getattr(span, name) for name in COLUMNS if getattr(span, name) is not None}


def write_jsonl(spans: Iterable[Span]) -> None:
    """One JSON object a line."""
    for span in spans:
        put(json.dumps(row(span), ensure_ascii=not in_utf8()) + "\n")


def write_tsv(spans: Iterable[Span]) -> None:
    """Tab-separated values below a header; backslash, tab and ends of lines are escaped as in Python."""
    put("\t".join(COLUMNS) + "\n")
    escapes = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
    for span in spans:
        values = {**row(span), "string": span.string.translate(escapes)}
        put("\t".join(str(values.get(name, "")) for name in COLUMNS) + "\n")


def write_table(spans: Iterable[Span], at_once: int = 1000) -> None:
    """Columns for people, a thousand rows at a time."""
    from gpt2.console import table

    rows: list[list[object]] = []
    ranked = False
    for span in spans:
        ranked = span.rank is not None
        string = repr(span.string if len(span.string) <= 60 else span.string[:59] + "…")
        rows.append([string, span.logprob, span.bits, span.rank if ranked else span.tokens])
        if len(rows) == at_once:
            put(table(["text", "log-probability", "bits", "rank" if ranked else "tokens"], rows) + "\n")
            rows = []
    if rows:
        put(table(["text", "log-probability", "bits", "rank" if ranked else "tokens"], rows) + "\n")


def write_colors(spans: Iterable[Span]) -> None:
    """The text itself, each span on a background that says how surprising it was, bits a token."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text, piece = 0, ""
    for span in spans:
        if span.text != text and not piece.endswith("\n"):
            put("\n")
        text = span.text
        shade = next(color for limit, color in SHADES if span.bits <= limit * max(1, span.tokens))
        piece = decoder.decode(span.spelled)
        for line in piece.splitlines(keepends=True):
            body = line.rstrip("\r\n")
            put((f"\x1b[48;5;{shade};38;5;16m{body}\x1b[0m" if shade and body else body) + line[len(body) :])
        if span.n_bytes > len(span.spelled):
            put("…")
    put(decoder.decode(b"", final=True) + "\n\n")
    lower = 0
    for limit, shade in SHADES:
        label = f" {lower} to {limit} " if limit != float("inf") else f" over {lower} "
        put(f"\x1b[48;5;{shade};38;5;16m{label}\x1b[0m" if shade else label)
        lower = int(limit) if limit != float("inf") else lower
    put(" bits a token\n\n")


WRITERS: dict[str, Callable[[Iterable[Span]], None]] = {
    "colors": write_colors,
    "table": write_table,
    "jsonl": write_jsonl,
    "tsv": write_tsv,
}
