"""Passages of public-domain works, near copies of them, and their exact likeness without any code of ours."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

WORKS = ("novels", "french", "inaugural", "state_union")
RATES = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3)


def passages(prose: Path, count: int, rng: random.Random) -> list[list[str]]:
    """Stretches of 60 to 500 words, in the order of the works."""
    found = []
    for path in sorted(p for work in WORKS for p in (prose / work).glob("*.txt")):
        words = path.read_text(encoding="utf-8").split()
        here = 0
        while here + 60 <= len(words):
            length = rng.randint(60, 500)
            found.append(words[here : here + length])
            here += length
    rng.shuffle(found)
    return found[:count]


def edited(words: list[str], rate: float, vocabulary: Sequence[str], rng: random.Random) -> list[str]:
    """A copy of which about this share of words is replaced, left out, put in or moved, singly or in runs."""
    row, budget = list(words), max(1, round(rate * len(words)))
    run = rng.choice((1, 1, 4, 16, budget))
    while budget > 0:
        size = min(run, budget, len(row) - 1)
        at = rng.randrange(len(row) - size + 1)
        kind = rng.choice(("replace", "leave out", "put in", "move"))
        new = [rng.choice(vocabulary) for _ in range(size)]
        if kind == "replace":
            row[at : at + size] = new
        elif kind == "put in":
            row[at:at] = new
        else:
            taken = row[at : at + size]
            del row[at : at + size]
            if kind == "move":
                to = rng.randrange(len(row) + 1)
                row[to:to] = taken
        budget -= max(1, size)
    return row


def planted(prose: Path, count: int, seed: int) -> list[str]:
    """So many texts, half of them near copies: of a passage, or now and then of another copy."""
    rng = random.Random(seed)
    rows = passages(prose, count // 2, rng)
    vocabulary = [word for row in rows for word in row[:5]]
    while len(rows) < count:
        source = rng.randrange(len(rows)) if rng.random() < 0.2 else rng.randrange(count // 2)
        rows.append(edited(rows[source], rng.choice(RATES), vocabulary, rng))
    rng.shuffle(rows)
    return [" ".join(row) for row in rows]


def exact_pairs(texts: Sequence[str], similarity: float) -> dict[tuple[int, int], float]:
    """All pairs i < j whose sets of word 5-grams have this Jaccard similarity or more, with it."""
    sets = []
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        sets.append({hash(tuple(words[i : i + 5])) for i in range(len(words) - 4)})
    sizes = np.array([len(s) for s in sets])
    grams = np.fromiter((g for s in sets for g in s), np.int64, int(sizes.sum()))
    owners = np.repeat(np.arange(len(texts)), sizes)
    order = np.lexsort((owners, grams))
    grams, owners = grams[order], owners[order]
    pairs, step = [np.empty(0, np.int64)], 1
    while (same := np.flatnonzero(grams[step:] == grams[:-step])).size:
        pairs.append(owners[same] * len(texts) + owners[same + step])
        step += 1
    pair, common = np.unique(np.concatenate(pairs), return_counts=True)
    i, j = pair // len(texts), pair % len(texts)
    measured = common / (sizes[i] + sizes[j] - common)
    near = measured >= similarity
    return {
        (a, b): s for a, b, s in zip(i[near].tolist(), j[near].tolist(), measured[near].tolist(), strict=True)
    }


def plainly_kept(pairs: dict[tuple[int, int], float], order: Sequence[int]) -> set[int]:
    """The texts that are kept when each is dropped that is like one kept before it, in this order."""
    alike: dict[int, set[int]] = {}
    for a, b in pairs:
        alike.setdefault(a, set()).add(b)
        alike.setdefault(b, set()).add(a)
    kept: set[int] = set()
    for text in order:
        if not alike.get(text, set()) & kept:
            kept.add(text)
    return kept
