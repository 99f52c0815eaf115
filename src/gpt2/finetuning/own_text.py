"""A user's own text as training and held-out tokens of a model's vocabulary.

Ten documents and more (files, lines of JSON lines, rows of Parquet, documents of a corpus) are held out whole. Of
fewer, such as one long book, a stretch of each is that has more than `PIECE` characters: as long as the share that
is held out, at a place that the seed decides, cut at empty lines where there are some near, and else at the end of
a line or of a word. What stands before it and after it are training documents. Held-out stretches are measured in
pieces, so that one text counts as several documents do.

Nothing is cut to the model's context: training reads the documents in a row, and each of their tokens is learned
once an epoch. A text too short for a batch of sequences of the context is learned in shorter ones: half as long,
and half again, down to `SHORTEST` tokens; less is refused.

    tokens = write_tokens(Path("my_texts"), model.tokenizer, Path("tokens"), heldout=0.1, seed=0)
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from gpt2.console import QUIET, Console
from gpt2.corpus.documents import Document, cut_text, read_text, text_files
from gpt2.errors import ConfigError, TooLittleData
from gpt2.tokens.bpe import Tokenizer
from gpt2.tokens.shards import choose_heldout, write_shards
from gpt2.workspace import Json

FEW = 10
"""Documents from which on they are held out whole."""
PIECE = 1500
"""Characters of a piece of a held-out stretch, about."""
NEAR = 2000
"""Characters after a place in which an empty line is looked for."""
SHORTEST = 32
"""Tokens of the shortest sequences."""


def write_tokens(
    text: Path, tokenizer: Tokenizer, folder: Path, heldout: float, seed: int, console: Console = QUIET
) -> Json:
    """Write the text at a path as token shards, some of it held out; returns their summary.

    Raises as `read_text` does for what is no text, `ConfigError` for a share outside [0, 1), and `TooLittleData`
    when nothing would be left to train on.
    """
    if not 0 <= heldout < 1:
        raise ConfigError(f"a held-out share of {heldout} cannot be: give at least 0 and less than 1")
    documents = list(read_text(text))
    apart: set[str] = set()
    if heldout and len({d.group for d in documents}) < FEW:
        documents = list(divided(documents, heldout, seed, apart))
    if not apart and len({d.group for d in documents}) > 1:
        apart = choose_heldout([d.group for d in documents], heldout, seed)
    rows = ((d.id, d.group, d.text, d.url) for d in documents)
    return write_shards(rows, tokenizer, folder, apart, console=console)


def divided(documents: Sequence[Document], share: float, seed: int, apart: set[str]) -> Iterator[Document]:
    """Each document as what stands before a stretch, the stretch in pieces, and what stands after it.

    The groups of the pieces, which are to be held out, are added to `apart`.
    """
    for document in documents:
        if len(document.text) <= PIECE:
            yield document
            continue
        begin, end = stretch(document, share, seed)
        before, held, after = document.text[:begin], document.text[begin:end], document.text[end:]
        for part, name in ((before, "before"), (after, "after")):
            if part.strip():
                own = f"{document.id} {name}"
                yield dataclasses.replace(document, text=part, id=own, group=own)
        for piece in cut_text(dataclasses.replace(document, text=held), PIECE):
            group = f"{piece.id}\nheld out"  # no name of a file or document has a line end
            apart.add(group)
            yield dataclasses.replace(piece, group=group)


def stretch(document: Document, share: float, seed: int) -> tuple[int, int]:
    """Where the held-out stretch of a document begins and ends, in characters."""
    size = len(document.text)
    mark = hashlib.sha256(f"{seed}\n{document.id}".encode()).digest()
    place = 0.2 + 0.6 * int.from_bytes(mark[:4]) / 2**32  # neither the beginning, nor what stands at an end
    begin = cut_after(document.text, int(place * size * (1 - share)))
    return begin, cut_after(document.text, min(size, begin + max(1, round(share * size))))


def cut_after(text: str, place: int) -> int:
    """A good place to cut a text, at that one or soon after it: an empty line, the end of a line, of a word."""
    reach = text[place : place + min(NEAR, len(text) // 10)]
    for pattern in (r"\n\s*\n", r"\n", r"\s"):
        if found := re.search(pattern, reach):
            return place + found.end()
    return place


def sequence_length(tokens: int, batch: int, longest: int) -> int:
    """Tokens of a sequence: the context, or as short as the text asks for; `TooLittleData` below `SHORTEST`."""
    length = longest
    while length > SHORTEST and tokens - 1 < batch * length:
        length = max(SHORTEST, length // 2)
    if tokens - 1 < length:
        raise TooLittleData(
            f"there are {tokens:,} training tokens, and at least {SHORTEST + 1} are needed; give more text"
        )
    return length


def files_of(text: Path) -> list[tuple[str, int, int]]:
    """What shows that a text changed: name, bytes and time of each file."""
    return [(name, *state(file)[1:]) for file, name in text_files(text)]


def state(file: Path) -> tuple[str, int, int]:
    """What shows that a file changed: its name, bytes and time."""
    stat = file.stat()
    return file.name, stat.st_size, stat.st_mtime_ns
