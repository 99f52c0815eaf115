"""A continuation as text: whole characters as they become certain, up to where a stop string begins.

A token may end inside a character, and a stop string may lie across tokens or end inside one. So a text is
given out only as far as it is certain: bytes of an unfinished character wait, and so does what may be the
beginning of a stop string. When a stop string is complete, the text ends before the first of those that are
there. Rejected: a look at the last few tokens only, which has given out the beginning by then.

    text = StoppedText(tokenizer, ["\n"])
    text.push(token)      # what has become certain, perhaps ""
    text.stopped          # whether a stop string was found
    text.finish()         # what still waited
"""

from __future__ import annotations

from collections.abc import Sequence

from gpt2.errors import ConfigError
from gpt2.tokens.bpe import Tokenizer


class StoppedText:
    """Text out of tokens; an empty stop string is refused, for it would begin everywhere."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        if isinstance(stops, str):
            raise ConfigError(f"stop strings are a list of texts; give [{stops!r}]")
        if "" in stops:
            raise ConfigError("a stop string is empty; leave it out, or give the text that should end it all")
        self.stops, self.stopped = tuple(stops), False
        self._characters, self._waiting = tokenizer.stream(), ""

    def push(self, token: int) -> str:
        """What this token makes certain."""
        return self._add(self._characters.push(token))

    def finish(self) -> str:
        """What waited for more; U+FFFD stands for a character that never became whole."""
        text = self._add(self._characters.finish())
        if not self.stopped:
            text, self._waiting = text + self._waiting, ""
        return text

    def _add(self, text: str) -> str:
        if self.stopped or not text:
            return ""
        self._waiting += text
        begin = first(self._waiting, self.stops)
        if begin is not None:
            self.stopped = True
            return self._waiting[:begin]
        certain = len(self._waiting) - max((begun(self._waiting, stop) for stop in self.stops), default=0)
        text, self._waiting = self._waiting[:certain], self._waiting[certain:]
        return text


def first(text: str, stops: Sequence[str]) -> int | None:
    """Where the first of some strings begins."""
    return min((at for stop in stops if (at := text.find(stop)) >= 0), default=None)


def begun(text: str, stop: str) -> int:
    """How many characters at the end of a text are the beginning of `stop`, but not all of it."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
