"""What a scheduler asks of an arithmetic: hold texts in slots, read tokens, give logits.

`gpt2.inference.engine` decides what is read and what is drawn; a runner computes. Two fit: `TorchRunner`
(`gpt2.inference.torch_runner`), the readable one, and the native one over int8 and int4 weights, which never
imports torch. So this file, the engine and the sampling need numpy alone.

The rule that a runner must keep: what a slot gives depends on the tokens that it holds and on nothing else:
not on what other slots hold, not on which of them are read in the same call, not on its number. Then a seed
gives the same text alone and among many.

Arithmetic may round differently where a text is cut into calls: a matrix product of one row and one of
sixty-four may sum in different orders. So a runner says where cutting changes no bit, and the engine keeps
to that: `chunk` for reading a prompt, `drafts` for checking drafted tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpt2.model.config import GPT2Config

Logits = NDArray[np.float32]


class Runner(Protocol):
    """Texts side by side, each with the keys and values of what it has read. One thread at a time may call."""

    config: GPT2Config
    slots: int
    """Texts that it can hold at once, numbered from 0; at first all are empty."""
    room: int
    """Tokens that each of them may have, at most the model's context."""
    chunk: int
    """A text may be cut into calls after multiples of this many tokens, and no bit changes; 1 for anywhere."""
    drafts: int
    """Tokens that a call may append beyond the first with the very bits of one call a token; 0 for none."""
    draft_cost: float
    """What each of them adds to the time of a call, about, as a share of that of one token."""

    def run(self, slots: Sequence[int], ids: Sequence[Sequence[int]], every: bool = False) -> Logits:
        """Append `ids[i]` (at least one) to what `slots[i]` holds; no slot may come twice.

        Returns logits [n, V] after the last id of each, or with `every` after each id, [sum of lengths, V]
        in the order given. They are valid until the next call, and may be changed.
        """
        ...

    def cut(self, slot: int, length: int) -> None:
        """Forget all but the first `length` tokens of a slot; 0 frees it."""
        ...

    def copy(self, source: int, target: int) -> None:
        """Let `target` hold what `source` holds."""
        ...
