"""The test sets of language modelling: their lines, how these become a text to read, and how they are divided.

Files are read in the format in which they were published: WikiText, the Penn Treebank in Mikolov's form and
One Billion Word as tokenised lines, enwik8, text8 and any other text as running text, in blocks that keep
their own line ends. A *write* says how each line stands in the text that is read, so that the
lines' places in it are known; *blocks* say where the pieces begin that can be measured one at a time and that
intervals are drawn over; `units` counts by what the original may be divided.

Of enwik8 and text8 the last 5 million bytes are the test set, cut to whole characters; a file of another size
is taken whole. Where there is no text8, it is made of enwik8's part (`gpt2.evaluation.text8`).

    lines = read_wikitext(Path("wiki.test.raw"))
    "".join(detokenized("wikitext")(lines))
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from gpt2.errors import FormatError
from gpt2.evaluation.detokenize import DETOKENIZERS
from gpt2.evaluation.lossy import lossy
from gpt2.evaluation.rows import read_lines
from gpt2.evaluation.task import Malformed
from gpt2.evaluation.text8 import plain_words

Lines = Sequence[str]
Write = Callable[[Lines], list[str]]
"""What is read of each line."""
Blocks = Callable[[Lines], list[int]]
"""Where blocks of lines begin."""
BLOCK = 16_384
"""Of running text, what a block has at least."""
WHOLE, TEST = 100_000_000, 5_000_000
"""Bytes of enwik8 and text8, and of their test sets."""
HEADING = re.compile(r" = [^=].* = ")


# The data sets in their original formats.


def read_wikitext(path: Path) -> list[str | Malformed]:
    """Lines of WikiText."""
    lines = read_lines(path)
    if not any(isinstance(line, str) and HEADING.fullmatch(line) for line in lines):
        raise FormatError(f"{path} has no heading like ' = Title = '; give WikiText as it was published")
    return lines


def read_ptb(path: Path) -> list[str | Malformed]:
    """Lines of the Penn Treebank, as Mikolov prepared it."""
    lines = read_lines(path)
    if not all(line[:1] == line[-1:] == " " for line in lines if isinstance(line, str)):
        raise FormatError(f"{path} has lines without a space at both ends; give PTB in Mikolov's form")
    return lines


def read_lm1b(path: Path) -> list[str | Malformed]:
    """Sentences of One Billion Word."""
    return read_lines(path)


def read_text(path: Path) -> list[str]:
    """Any text, in blocks that end with a word."""
    return in_blocks(decoded(path, path.read_bytes()))


def read_enwik8(path: Path) -> list[str]:
    """The test set of enwik8, or all of a smaller file, in blocks."""
    return of_size(decoded(path, test_part(path)))


def read_text8(path: Path) -> list[str]:
    """The test set of text8, in blocks; of enwik8 what the published rule makes of its test set."""
    found = test_part(path)
    text = plain_words(found) if b"<" in found else decoded(path, found)
    if not re.fullmatch("[a-z ]+", text):
        raise FormatError(f"{path} is neither text8, which has small letters and spaces only, nor enwik8")
    return of_size(text)


def test_part(path: Path) -> bytes:
    """The last 5 million bytes of a whole file, from and to a whole character; all of another."""
    found = path.read_bytes()
    if len(found) == WHOLE:
        found = found[-TEST:].lstrip(bytes(range(0x80, 0xC0)))
    return found


def decoded(path: Path, found: bytes) -> str:
    """Text; what a file cut anywhere has of its last character is left out."""
    try:
        return found.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return found[: error.start].decode("utf-8")
        raise FormatError(
            f"{path} is not UTF-8: byte {found[error.start]:#04x} at {error.start} begins no character"
        ) from None


def of_size(text: str) -> list[str]:
    """A text in pieces of `BLOCK` bytes, each up to the end of a character."""
    found = text.encode()
    cuts = [0, *range(BLOCK, len(found), BLOCK), len(found)]
    cuts = [
        next(i for i in range(cut, cut + 4) if found[i : i + 1] < b"\x80" or found[i] >= 0xC0) for cut in cuts
    ]
    return [found[a:b].decode() for a, b in pairwise(cuts)]


def in_blocks(text: str) -> list[str]:
    """A text in pieces of `BLOCK` characters, each up to the end of a word."""
    return re.findall(rf"(?s).{{1,{BLOCK}}}\S*", text)


# How the lines of a file stand in the text that is read.


def detokenized(name: str) -> Write:
    """By one of our de-tokenisers, a line end after each."""
    return lambda lines: [DETOKENIZERS[name].detokenize(line) + "\n" for line in lines]


def plain(lines: Lines) -> list[str]:
    """As they are, a line end after each."""
    return [line + "\n" for line in lines]


def as_is(lines: Lines) -> list[str]:
    """As they are, being pieces of a running text that have their own line ends."""
    return list(lines)


def joined(lines: Lines) -> list[str]:
    """As transformers' page on perplexity has WikiText: "\\n\\n".join of lines with their ends, or of nothing."""
    rows = [f"{line}\n" if line.strip() else "" for line in lines]
    return [row + "\n\n" for row in rows[:-1]] + rows[-1:]


def lossy_lines(name: str) -> Write:
    """By rules that see one line."""
    return lambda lines: [lossy(name, line) + "\n" for line in lines]


def lossy_file(name: str) -> Write:
    """By rules that see all lines, and keep their number."""
    return lambda lines: [line + "\n" for line in lossy(name, "\n".join([*lines, ""])).split("\n")[:-1]]


# How they are divided.


def every(n: int) -> Blocks:
    """Blocks of n lines."""
    return lambda lines: list(range(0, len(lines), n))


def articles(lines: Lines) -> list[int]:
    """WikiText's articles: a heading of the first level between two blank lines begins one."""
    blank = [not line.strip() for line in [*lines, ""]]
    found = [i for i, line in enumerate(lines) if HEADING.fullmatch(line) and blank[i - 1] and blank[i + 1]]
    return [0, *found[1:]]


def pages(lines: Lines) -> Iterator[str]:
    """What begins with a heading of the first level; what is blank before one is dropped."""
    page: list[str] = []
    for line in [*lines, ""]:
        short = line.replace("= = =", "===").replace("= =", "==").strip()
        if short.startswith("= ") and short.endswith(" ="):
            if "".join(page).strip():
                yield "\n".join(page)
            page = []
        page.append(line)
    yield "\n".join(page)


def units(lines: Lines, end: str) -> dict[str, int]:
    """What sums may be divided by: the canonical units of lines of the original."""
    text = "".join(line + end for line in lines)
    words = sum(len(line.split()) for line in lines)
    return {
        "lines": len(lines),
        "word": words,
        "word or line end": words + len(lines),
        "byte": len(text.encode()),
        "character": len(text),
    }
