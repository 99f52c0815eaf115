"""What samples have in common with the text a model was tuned on: the longest runs of words, letter by letter.

A model tuned for too long recites. Its loss on held-out text shows that late; a sample that has forty words in a
row from the training text shows it at once. What is usual differs from text to text (a law repeats itself), so
the same is measured of held-out text of the same length, which nobody copied.

Words are what stands between white space. All samples go into one suffix automaton (Blumer et al., 1985), whose
states stand for all runs of words in them, and the training text is read through it once, a step a word; no run
reaches over the end of a document. Rejected: n-grams of a fixed length in a set, which say that eight words were
copied and not that it was eighty.

    python -c "from gpt2.finetuning.copying import *; print(longest_copies(['a b c x'], [('d', 'z b c')]))"
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Copy:
    """The longest run that a sample shares with the training text."""

    words: int
    """Its length."""
    of: int
    """Words of the sample."""
    text: str
    """The run, a space between words."""
    document: str | None
    """A document that has it; None for a run of no words."""


class Automaton:
    """All runs of words in some samples: a state for those that end at the same places."""

    def __init__(self, samples: Iterable[Sequence[str]]) -> None:
        self.next: list[dict[str, int]] = [{}]
        self.link, self.length, self.samples = [-1], [0], [set[int]()]
        for number, words in enumerate(samples):
            last = 0
            for word in words:
                last = self.extend(last, word)
                self.samples[last].add(number)
        self.longest_first = sorted(range(1, len(self.link)), key=self.length.__getitem__, reverse=True)
        for state in self.longest_first:  # what ends like a run ends where it does
            self.samples[self.link[state]] |= self.samples[state]

    def state(self, following: dict[str, int], link: int, length: int) -> int:
        """A new state, by its number."""
        self.next.append(following)
        self.link.append(link)
        self.length.append(length)
        self.samples.append(set())
        return len(self.link) - 1

    def extend(self, last: int, word: str) -> int:
        """Take in one more word of a sample after state `last`; the state after it."""
        there = self.next[last].get(word)
        if there is not None:  # an earlier sample went this way
            return there if self.length[there] == self.length[last] + 1 else self.split(last, word, there)
        state = self.state({}, 0, self.length[last] + 1)
        while last >= 0 and word not in self.next[last]:
            self.next[last][word] = state
            last = self.link[last]
        if last >= 0:
            there = self.next[last][word]
            if self.length[there] != self.length[last] + 1:
                there = self.split(last, word, there)
            self.link[state] = there
        return state

    def split(self, last: int, word: str, there: int) -> int:
        """Divide the shorter runs of state `there`, those that end a run of `last` by `word`, from the longer."""
        state = self.state(dict(self.next[there]), self.link[there], self.length[last] + 1)
        self.link[there] = state
        while last >= 0 and self.next[last].get(word) == there:
            self.next[last][word] = state
            last = self.link[last]
        return state


def longest_copies(samples: Sequence[str], documents: Iterable[tuple[str, str]]) -> list[Copy]:
    """The longest run of words that each sample shares with any of the documents (name, text)."""
    split = [sample.split() for sample in samples]
    found = Automaton(split)
    following, link, lengths = found.next, found.link, found.length
    reached = [0] * len(link)
    """Of each state, the longest of its runs that was met."""
    where: dict[int, tuple[str, list[str]]] = {}
    for name, text in documents:
        state = length = 0
        words = text.split()
        for end, word in enumerate(words, start=1):
            there = following[state].get(word)
            while there is None and state:
                state = link[state]
                length = lengths[state]
                there = following[state].get(word)
            if there is None:
                continue
            state, length = there, length + 1
            if length > reached[state]:
                reached[state], where[state] = length, (name, words[end - length : end])
    best = [Copy(0, len(words), "", None) for words in split]
    for state in found.longest_first:
        if reached[state]:
            name, run = where[state]
            for sample in found.samples[state]:
                if reached[state] > best[sample].words:
                    best[sample] = Copy(reached[state], len(split[sample]), " ".join(run), name)
            shorter = link[state]
            if shorter and lengths[shorter] > reached[shorter]:  # its end was met with it
                reached[shorter], where[shorter] = lengths[shorter], (name, run[-lengths[shorter] :])
    return best
