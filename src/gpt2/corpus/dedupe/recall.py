"""How many near duplicates were found, measured on a sample of the run itself.

Some texts are drawn (those with the least digests, so the same whatever the order), and each is compared with
all others by brute force: an inverted index over the shingles of the sample, through which every text of the
corpus passes once. Nothing of MinHash has a part in it. Recall counts the sampled texts that have a near
duplicate: found are those of which no near duplicate is kept beside them. Precision counts the sampled texts
that were dropped: right are those that are as like the text they are said to repeat as was asked. Both come
with Wilson's interval of 95 % over the sampled texts.

    gpt2 corpus dedupe corpus --out distinct --sample 5000
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpt2.corpus.dedupe.minhash import Hashes

SLOTS_BITS = 24


@dataclass(frozen=True)
class Rate:
    """A share of counted cases, with its interval."""

    cases: int
    """How many were counted."""
    hits: int
    """How many of them were so."""

    @property
    def rate(self) -> float | None:
        """The share; None when there was no case."""
        return self.hits / self.cases if self.cases else None

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval; 0 to 1 when there was no case."""
        if not self.cases:
            return 0.0, 1.0
        n, p, z = self.cases, self.hits / self.cases, 1.96
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        reach = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
        return max(0.0, middle - reach), min(1.0, middle + reach)

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.hits / self.cases:.3f} ({low:.3f} to {high:.3f}, {self.cases:,})"
            if self.cases
            else "none"
        )


class Sampled:
    """Texts of a sample, by number as their `shingles`, made ready to be found among others."""

    def __init__(self, sample: Mapping[int, Hashes]) -> None:
        self.numbers, sets = np.array([*sample], np.int64), [*sample.values()]
        self.sizes = np.array([len(s) for s in sets], np.int64)
        every = np.concatenate([*sets, np.empty(0, np.uint64)])
        order = np.argsort(every, kind="stable")
        self.owner = np.repeat(np.arange(len(sets)), self.sizes)[order]
        self.every, self.begins = np.unique(every[order], return_index=True)
        self.times = np.diff(self.begins, append=len(every))
        self.slots = np.zeros(
            1 << SLOTS_BITS, np.bool_
        )  # most shingles are nobody's, which this tells quickly
        self.slots[self.every >> np.uint64(64 - SLOTS_BITS)] = True

    def alike(
        self, texts: Iterable[tuple[int, Hashes]], similarity: float
    ) -> Iterator[tuple[int, int, float]]:
        """Every (sampled text, other text, similarity) from `similarity` up, by exact comparison."""
        for number, own in texts:
            known = own[self.slots[own >> np.uint64(64 - SLOTS_BITS)]]
            if len(known) < similarity * len(own) or not len(own):
                continue  # J <= common / own
            places = np.minimum(np.searchsorted(self.every, known), max(0, len(self.every) - 1))
            places = places[self.every[places] == known] if len(self.every) else places[:0]
            if len(places):
                times = self.times[places]
                hits = np.repeat(self.begins[places] - np.cumsum(times) + times, times) + np.arange(
                    times.sum()
                )
                common = np.bincount(self.owner[hits], minlength=len(self.sizes))
                measured = common / (self.sizes + len(own) - common)
                for i in np.flatnonzero(measured >= similarity).tolist():
                    if self.numbers[i] != number:
                        yield int(self.numbers[i]), number, float(measured[i])


def rates(
    alike: Iterable[tuple[int, int, float]], of: Mapping[int, int], kept: npt.NDArray[np.bool_]
) -> tuple[Rate, Rate]:
    """Recall and precision from `Sampled.alike`; `of` is what each sampled text that was dropped repeats."""
    near: dict[int, set[int]] = defaultdict(set)
    for text, other, _ in alike:
        near[text].add(other)
    found = sum(not (kept[text] and any(kept[o] for o in others)) for text, others in near.items())
    right = sum(kept_text in near[text] for text, kept_text in of.items())
    return Rate(len(near), found), Rate(len(of), right)


def drawn(keys: Iterable[Hashes], able: npt.NDArray[np.bool_], count: int) -> npt.NDArray[np.int64]:
    """The `count` texts of least key among those able, in ascending order: a sample that no order changes."""
    least, places, here = np.empty(0, np.uint64), np.empty(0, np.int64), 0
    for piece in keys:
        mine = np.flatnonzero(able[here : here + len(piece)])
        least, places = np.concatenate([least, piece[mine]]), np.concatenate([places, mine + here])
        order = np.argsort(least, kind="stable")[:count]
        least, places, here = least[order], places[order], here + len(piece)
    return np.sort(places)
