"""A runner without a network: logits out of the last tokens, which holds the engine to a runner's rules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpt2.inference.runner import Logits
from gpt2.model.config import GPT2Config
from gpt2.tokens.bpe import Tokenizer

BYTES = Tokenizer([])
"""A vocabulary of bytes and <|endoftext|>."""


class PlainRunner:
    """What a text gives depends on its last two tokens and on where it was cut into long calls."""

    chunk, drafts, draft_cost = 16, 7, 0.1

    def __init__(self, slots: int = 1, room: int = 60) -> None:
        self.config = GPT2Config(1, 1, 4, BYTES.n_vocab, n_ctx=room)
        self.slots, self.room = slots, room
        self.held: list[list[int]] = [[] for _ in range(slots)]
        self.cuts: list[list[int]] = [[] for _ in range(slots)]
        self.calls: list[list[int]] = []
        """Of each call, how many tokens each text got."""

    def run(self, slots: Sequence[int], ids: Sequence[Sequence[int]], every: bool = False) -> Logits:
        assert len(set(slots)) == len(slots) == len(ids) and all(0 <= s < self.slots for s in slots)
        self.calls.append([len(new) for new in ids])
        rows = []
        for slot, new in zip(slots, ids, strict=True):
            held, cuts = self.held[slot], self.cuts[slot]
            assert new and len(held) + len(new) <= self.room
            end, own = len(held) + len(new), []
            for token in new:
                place, border = len(held), len(held) // self.chunk * self.chunk + self.chunk
                if not own or place % self.chunk == 0:
                    long = min(border, end) - place > 1 + self.drafts
                    cuts += [place] if long else []
                held.append(token)
                own.append(self.logits(held[-2:], cuts))
            rows += own if every else own[-1:]
        return np.stack(rows)

    def logits(self, last: list[int], cuts: list[int]) -> Logits:
        numbers = np.random.default_rng([*last, sum(cuts)])
        return (3 * numbers.standard_normal(self.config.vocab_size)).astype(np.float32)

    def cut(self, slot: int, length: int) -> None:
        del self.held[slot][length:]
        self.cuts[slot] = [k for k in self.cuts[slot] if k < length]

    def copy(self, source: int, target: int) -> None:
        self.held[target], self.cuts[target] = list(self.held[source]), list(self.cuts[source])
