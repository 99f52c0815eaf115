"""From a token back to the document and the address it came from, and from a document to its tokens.

Every document keeps its id and address from the page on (corpus/documents.py) down to the table beside its
tokens (shards.py), so that of any token a model was trained on one can say where it was taken from, and of
any document which files must be written anew when it is to go.

    gpt2 tokens inspect tokens --at 123456
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from gpt2.errors import InputError
from gpt2.tokens.shards import Shards, Split

AROUND = 12
"""Tokens shown on each side of the one asked for."""


@dataclass(frozen=True)
class Place:
    """A document among the tokens."""

    split: str
    """train or heldout."""
    id: str
    """The document's id."""
    url: str | None
    """The address of its page."""
    group: str
    """What it is held out together with."""
    start: int
    """The token of the split at which its `<|endoftext|>` stands."""
    stop: int
    """The token after its last."""
    files: tuple[str, ...]
    """The token files that have it."""
    text: str = ""
    """Around the token that was asked for, or at the beginning."""


def token(shards: Shards, at: int, split: str = "train") -> Place:
    """The document that token `at` of a split belongs to; its `<|endoftext|>` does too. `InputError` beyond the end."""
    side = side_of(shards, split)
    if not 0 <= at < side.n_tokens:
        raise InputError(f"there is no token {at:,}: {split} has {side.n_tokens:,}, counted from 0")
    number = int(np.searchsorted(side.starts, at, side="right")) - 1
    place = place_of(side, split, number)
    near = side.read(max(place.start, at - AROUND), min(place.stop, at + AROUND + 1)).tolist()
    return Place(**(vars(place) | {"text": shards.tokenizer.decode(near)}))


def document(shards: Shards, name: str) -> Place:
    """The document of an id or an address, in either split; `InputError` when there is none."""
    import pyarrow.compute

    compute: Any = pyarrow.compute
    for split in ("train", "heldout"):
        side = side_of(shards, split)
        for column in ("id", "url"):
            number = compute.index(side.column(column), name).as_py()
            if number >= 0:
                place = place_of(side, split, number)
                first = side.read(place.start, min(place.stop, place.start + 2 * AROUND)).tolist()
                return Place(**(vars(place) | {"text": shards.tokenizer.decode(first)}))
    raise InputError(f"no document of {shards.folder} has the id or address {name!r}")


def places(shards: Shards, wanted: Callable[[str, str | None], bool]) -> Iterator[Place]:
    """The documents whose id and address are `wanted`, in both splits."""
    for split in ("train", "heldout"):
        side = side_of(shards, split)
        ids, urls = side.column("id"), side.column("url")
        for number, (id, url) in enumerate(zip(ids, urls, strict=True)):
            if wanted(id.as_py(), url.as_py()):
                yield place_of(side, split, number)


def side_of(shards: Shards, split: str) -> Split:
    """A split by its name."""
    if split not in ("train", "heldout"):
        raise InputError(f"there is no split {split!r}; choose train or heldout")
    side: Split = getattr(shards, split)
    return side


def place_of(side: Split, split: str, number: int) -> Place:
    """Where a document of a split is, by its number."""
    start = int(side.starts[number])
    stop = int(side.starts[number + 1]) if number + 1 < len(side.starts) else side.n_tokens
    ends = list(accumulate(file.count for file in side.files))
    files = [
        f"{split}/{file.path.name}"
        for file, end in zip(side.files, ends, strict=True)
        if start < end and end - file.count < stop
    ]
    url = side.column("url")[number].as_py()
    return Place(
        split,
        side.column("id")[number].as_py(),
        url,
        side.column("group")[number].as_py(),
        start,
        stop,
        tuple(files),
    )
