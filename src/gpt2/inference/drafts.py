"""Guesses at the next tokens from the text itself, so that one step may give several.

One step for one stream reads all weights for a single token while the arithmetic idles; checking a few more
tokens at once costs little. Where the last tokens stood before in the text, what came after them there is
the draft (prompt look-up: Saxena, 2023; the checking is Leviathan et al.'s, 2023). The engine reads the draft
in one call and draws at each of its places as ever, from the same logits with the stream's own random
numbers; while what is drawn is what was drafted, it has the next token for nothing. So the text is exactly the
one without drafts, in greedy and in random decoding.

A draft pays when its tokens are likely enough to come: the j-th is drafted while the share of drafts that
came true lately, to the j-th power, is above what a further row adds to a step of the runner. Where nothing comes
true none are made, and now and then one is tried again. Rejected: drafts of fixed length, which slow down
whatever does not repeat itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

GRAMS = (3, 2)
"""Tokens that must have stood before, tried in this order."""
FADE, IDLE = 0.9, 0.98
"""How much of what was learned is kept at each new draft, and at each step that made none."""


class Drafts:
    """The text of one stream, and what it is likely to repeat."""

    def __init__(self, ids: Iterable[int], cost: float) -> None:
        """`cost`: what a further row adds to a step, as a share of the step."""
        self._cost = cost
        self._ids: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        self._true, self._false = 1.0, 1.0
        for token in ids:
            self.push(token)

    def push(self, token: int) -> None:
        """The text goes on with this token."""
        n = len(self._ids)
        for size in GRAMS:
            if n >= size:
                self._after[tuple(self._ids[n - size :])] = n
        self._ids.append(token)

    def propose(self, most: int) -> list[int]:
        """Up to `most` tokens that may come next."""
        n = len(self._ids)
        at = next((at for size in GRAMS if (at := self._after.get(tuple(self._ids[n - size :])))), None)
        if at is None or most < 1:
            return []
        share, chance = self._true / (self._true + self._false), 1.0
        out: list[int] = []
        while len(out) < most and (chance := chance * share) > self._cost:
            place = at + len(out)
            out.append(self._ids[place] if place < n else out[place - n])
        if not out:
            self._true, self._false = IDLE * self._true + 1 - IDLE, IDLE * self._false + 1 - IDLE
        return out

    def judge(self, draft: Sequence[int], came_true: int) -> None:
        """Learn how many tokens of a draft came true."""
        if draft:
            self._true = FADE * self._true + came_true
            self._false = FADE * self._false + (came_true < len(draft))
