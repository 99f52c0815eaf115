"""Learning a vocabulary from texts, under the paper's rule (paper 2.2).

Count the words (`gpt2.tokens.bpe.PATTERN`: no merges across kinds of characters, except a leading space),
then again and again join the two neighbouring tokens that are most often side by side. Of equally frequent
pairs the one with the smaller ids goes first, which is how Hugging Face's trainer decides, so that three
programs learn the same merges from the same texts: gigatoken (the fast twin), `learn_plainly` (the readable
one, and the fallback), and `tokenizers` (the referee in the tests). Texts are kept apart by the byte 0xFF,
which UTF-8 never contains, so no text can forge the border.

Rejected: rustbpe, bpeasy and ffbpe, which break ties otherwise, and gigabpe, which leaves out bytes that it
has not seen and so cannot encode every text.

    python -c "import gpt2, sys; gpt2.Tokenizer.learn(open('book.txt'), 4096).save('vocabulary')"
"""

from __future__ import annotations

import contextlib
import heapq
import os
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from importlib import util
from itertools import pairwise
from pathlib import Path

from gpt2.errors import ConfigError, InputError, TooLittleData
from gpt2.tokens.bpe import BYTES_IN_ORDER, Pair, merge, sound, words

SMALLEST, LARGEST = 257, 65_536
BORDER = b"\xff"
Merge = tuple[bytes, bytes]


def learn_merges(texts: Iterable[str], vocab_size: int) -> list[Merge]:
    """The merges of a vocabulary of `vocab_size` tokens: 256 bytes, the merges, `<|endoftext|>`.

    Raises `ConfigError` for a size that is not 257 to 65,536 (token files have two bytes a token) and
    `TooLittleData` when the texts run out of pairs before.
    """
    if not SMALLEST <= vocab_size <= LARGEST:
        raise ConfigError(f"a vocabulary of {vocab_size:,} tokens cannot be: give {SMALLEST} to {LARGEST:,}")
    if isinstance(texts, str):
        raise InputError("learning takes many texts, not one; put it in a list")
    wanted = vocab_size - SMALLEST
    learn = _learn_fast if util.find_spec("gigatoken") else learn_plainly
    merges = learn(texts, wanted)
    if len(merges) < wanted:
        raise TooLittleData(
            f"these texts have {len(merges):,} pairs to learn, too few for a vocabulary of {vocab_size:,}: "
            f"give more text, or ask for {len(merges) + SMALLEST:,} or fewer"
        )
    return merges


def learn_plainly(texts: Iterable[str], wanted: int) -> list[Merge]:
    """The `wanted` first merges of texts (fewer when no pair is left), in plain Python: the readable twin."""
    tokens = [bytes([b]) for b in BYTES_IN_ORDER]
    byte_id = {b: i for i, b in enumerate(BYTES_IN_ORDER)}
    word_counts = Counter(word for text in texts for word in words(text))
    parts = {word: [byte_id[b] for b in word] for word in word_counts}
    pair_counts: Counter[Pair] = Counter()
    found_in: defaultdict[Pair, set[bytes]] = defaultdict(set)

    def count(word: bytes, sign: int) -> set[Pair]:
        pairs = list(pairwise(parts[word]))
        for pair in pairs:
            pair_counts[pair] += sign * word_counts[word]
            found_in[pair].add(word)
        return set(pairs)

    for word in word_counts:
        count(word, +1)
    queue = [(-n, pair) for pair, n in pair_counts.items()]
    heapq.heapify(queue)
    merges: list[Merge] = []
    while queue and len(merges) < wanted:
        n, best = heapq.heappop(queue)
        if -n != pair_counts[best]:  # an earlier merge took some of them away
            if pair_counts[best] > 0:
                heapq.heappush(queue, (-pair_counts[best], best))
            continue
        left, right = best
        new = len(tokens)
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
        changed: set[Pair] = set()
        for word in found_in.pop(best):
            count(word, -1)
            parts[word] = merge(parts[word], best, new)
            changed |= count(word, +1)
        for pair in changed:
            if new in pair:
                heapq.heappush(queue, (-pair_counts[pair], pair))
    return merges


def _learn_fast(texts: Iterable[str], wanted: int) -> list[Merge]:
    """The same merges by gigatoken, from a temporary file, so that the texts need not fit into memory."""
    import gigatoken

    if wanted == 0:
        return []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts"
        with path.open("wb") as stream:
            for text in texts:
                stream.write(sound(text).encode() + BORDER)
        with _silence():
            source = gigatoken.TextFileSource([path], separator=BORDER)
            _, merges = gigatoken.train_bpe(source, 256 + wanted, [], tie_breaking="huggingface")
    return list(merges)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep away what native code writes to standard output and error, which belong to our caller."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for handle in (*kept, nowhere):
            os.close(handle)
