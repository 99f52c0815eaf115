"""How one or two texts become the ids that a classifier reads.

    gpt1     start, text, extract; of two texts: start, first, delimiter, second, extract. The three marks are ids
             of their own behind the vocabulary, whose embeddings are learned with the head (Radford et al.,
             Improving Language Understanding by Generative Pre-Training, 2018, figure 1)
    plain    the text; of two texts: the first, a line end, the second. No new embeddings

The class is read off the last id. Where the order of two texts means nothing (similarity), both orders are
read and what they say is added. What is too long is cut by one rule: of a single text the end goes; of two
the longer one loses its last token until both fit, and marks always stay. Rejected: GPT-2's <|endoftext|> as
all three marks, for it was learned as the end of what was before.

    inputs(tokenizer, "A cat sat.", "A cat was sitting.", "gpt1", both=True, room=64)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpt2.errors import ConfigError
from gpt2.tokens.bpe import Tokenizer

Layout = Literal["gpt1", "plain"]
LAYOUTS: tuple[Layout, ...] = ("gpt1", "plain")
MARKS = 3
"""Start, delimiter, extract: ids n_vocab, n_vocab + 1, n_vocab + 2."""


@dataclass(frozen=True)
class Inputs:
    """What is read of an item: one sequence, or one for each order of its two texts."""

    sequences: tuple[list[int], ...]
    cut: bool
    """Whether something did not fit."""

    @property
    def length(self) -> int:
        """Ids of the longest sequence."""
        return max(map(len, self.sequences))


def marks_of(layout: Layout) -> int:
    """How many embeddings of marks a layout needs."""
    if layout not in LAYOUTS:
        raise ConfigError(f"layout is one of {', '.join(LAYOUTS)}, not {layout!r}")
    return MARKS if layout == "gpt1" else 0


def inputs(
    tokenizer: Tokenizer, first: str, second: str | None, layout: Layout, both: bool, room: int
) -> Inputs:
    """The sequences of an item, each of `room` ids at most; `both` orders only where there are two texts."""
    start, delimiter, extract = range(tokenizer.n_vocab, tokenizer.n_vocab + MARKS)
    before, between, after = [start], [delimiter], [extract]
    if marks_of(layout) == 0:
        before, between, after = [], tokenizer.encode("\n"), []
    a = tokenizer.encode(first)
    if second is None:
        kept = a[: room - len(before) - len(after)]
        found = [*before, *kept, *after] or [tokenizer.end_of_text]
        return Inputs((found,), len(kept) < len(a))
    b = tokenizer.encode(second)
    one, two = fitting(len(a), len(b), room - len(before) - len(between) - len(after))
    cut = one < len(a) or two < len(b)
    a, b = a[:one], b[:two]
    orders = [(a, b), (b, a)] if both else [(a, b)]
    return Inputs(tuple([*before, *x, *between, *y, *after] for x, y in orders), cut)


def fitting(a: int, b: int, room: int) -> tuple[int, int]:
    """Lengths of two texts after the longer one has lost its end, again and again, until both fit."""
    if room < 2:
        raise ConfigError(f"two texts do not fit into what {room} ids leave; read more tokens of an item")
    if a + b <= room:
        return a, b
    half = room // 2
    if min(a, b) <= half:
        return (a, room - a) if a <= b else (room - b, b)
    return room - half, half
