"""Guesses at the next tokens, from the text itself or by a smaller model, so that one step may give several.

One step for one stream reads all weights for a single token while the arithmetic idles; checking a few more
tokens at once costs little. Where the last tokens stood before in the text, what came after them there is
the draft (prompt look-up: Saxena, 2023; the checking is Leviathan et al.'s, 2023). Or a smaller model with the
same vocabulary goes on by its likeliest tokens. The engine reads the draft
in one call and draws at each of its places as ever, from the same logits with the stream's own random
numbers; while what is drawn is what was drafted, it has the next token for nothing. So the text is exactly the
one without drafts, in greedy and in random decoding.

A draft pays when its tokens are likely enough to come: the j-th is drafted while the share of drafts that
came true lately, to the j-th power, is above what it costs: what a further row adds to a step of the runner, and a
step of the smaller model. Where nothing comes
true none are made, and now and then one is tried again. Rejected: drafts of fixed length, which slow down
whatever does not repeat itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gpt2.inference.runner import Runner

GRAMS = (3, 2)
"""Tokens that must have stood before, tried in this order."""
FADE, IDLE = 0.9, 0.98
"""How much of what was learned is kept at each new draft, and at each step that made none."""


class Worth:
    """How many tokens are worth drafting, by how many came true lately."""

    def __init__(self, cost: float) -> None:
        """`cost`: what a drafted token adds to a step, as a share of the step."""
        self._cost = cost
        self._true, self._false = 1.0, 1.0

    def length(self, most: int) -> int:
        """Tokens to draft, at most so many."""
        share, chance, length = self._true / (self._true + self._false), 1.0, 0
        while length < most and (chance := chance * share) > self._cost:
            length += 1
        return length

    def judge(self, draft: Sequence[int], came_true: int) -> None:
        """Learn how many tokens of a draft came true."""
        if draft:
            self._true = FADE * self._true + came_true
            self._false = FADE * self._false + (came_true < len(draft))

    def idle(self) -> None:
        """Forget a little, so that drafts are tried again."""
        self._true, self._false = IDLE * self._true + 1 - IDLE, IDLE * self._false + 1 - IDLE


class Drafts(Worth):
    """The text of one stream, and what it is likely to repeat."""

    def __init__(self, ids: Iterable[int], cost: float) -> None:
        super().__init__(cost)
        self._ids: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
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
        out: list[int] = []
        for place in range(at, at + self.length(most)):
            out.append(self._ids[place] if place < n else out[place - n])
        if not out:
            self.idle()
        return out


class ModelDrafts(Worth):
    """The text of one stream, held in a slot of a smaller model's runner, which goes on by its likeliest tokens."""

    def __init__(self, ids: Iterable[int], cost: float, runner: Runner, slot: int) -> None:
        """`cost`: with that of a step of the smaller model. The slot is this text's alone."""
        super().__init__(cost)
        self._ids, self._runner, self._slot = list(ids), runner, slot
        self._held: list[int] = []
        self._agreed = 0  # of what is held, tokens that are known to be the text's
        runner.cut(slot, 0)

    def push(self, token: int) -> None:
        """The text goes on with this token."""
        self._ids.append(token)

    def propose(self, most: int) -> list[int]:
        """Up to `most` tokens that may come next."""
        length = self.length(min(most, self._runner.room // 2))
        if not length:
            self.idle()
            return []
        if len(self._ids) + length > self._runner.room:  # it goes on from the newer half
            self._ids = self._ids[-(self._runner.room // 2) :]
            self._keep(0)
        most = min(len(self._ids) - 1, len(self._held))
        self._keep(next((i for i in range(self._agreed, most) if self._held[i] != self._ids[i]), most))
        self._agreed = len(self._ids)
        out: list[int] = []
        new = self._ids[len(self._held) :]
        while len(out) < length:
            logits = self._runner.run([self._slot], [new])
            self._held += new
            new = [int(logits[0].argmax())]
            out += new
        return out

    def _keep(self, length: int) -> None:
        self._runner.cut(self._slot, length)
        del self._held[length:]
        self._agreed = min(self._agreed, length)
