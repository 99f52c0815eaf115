"""Learning a vocabulary from texts, under the paper's rule (paper 2.2).

Count the words (`gpt2.tokens.bpe.PATTERN`: no merges across kinds of characters, except a leading space),
then again and again join the two neighbouring tokens that are most often side by side. Of equally frequent
pairs the one with the smaller ids goes first, which is how Hugging Face's trainer decides, so that three
programs learn the same merges from the same texts: gigatoken (the fast twin), `learn_plainly` (the readable
one, and the fallback), and `tokenizers` (the referee in the tests). Texts are kept apart by the byte 0xFF,
which UTF-8 never contains, so no text can forge the border.

gigatoken does not notice when nothing is left to join: it goes on with pairs that are nowhere, and `_proper`
cuts those off. It holds Python's lock while it learns, so other threads wait.

Rejected: rustbpe, bpeasy and ffbpe, which break ties otherwise, and gigabpe, which leaves out bytes that it
has not seen and so cannot encode every text.

    python -c "import gpt2, sys; gpt2.Tokenizer.learn(open('book.txt'), 4096).save('vocabulary')"
"""

from __future__ import annotations

import contextlib
import heapq
import mmap
import os
import sys
import tempfile
import threading
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

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts"
        with path.open("wb") as stream:
            for text in texts:
                stream.write(sound(text).encode() + BORDER)
        if wanted == 0 or path.stat().st_size == 0:
            return []
        with _silence():
            source = gigatoken.TextFileSource([path], separator=BORDER)
            _, merges = gigatoken.train_bpe(source, 256 + wanted, [], tie_breaking="huggingface")
        return _proper(merges, path)


def _proper(merges: list[Merge], path: Path) -> list[Merge]:
    """The merges without those that gigatoken made up after every word had become one token.

    While a word is not one token yet, no token spells it, so the first such word tells that nothing was made
    up; when there is none, the last proper merge is the one that completed the last word.
    """
    completed_by: dict[bytes, int] = {}
    for n, (left, right) in enumerate(merges, 1):
        completed_by.setdefault(left + right, n)
    last = 0
    for text in _read_texts(path):
        for word in words(text):
            if len(word) > 1:
                if word not in completed_by:
                    return merges
                last = max(last, completed_by[word])
    return merges[:last]


def _read_texts(path: Path) -> Iterator[str]:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        begin = 0
        while (end := content.find(BORDER, begin)) >= 0:
            yield content[begin:end].decode()
            begin = end + 1


_SILENCE = threading.Lock()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep away what native code writes to standard output and error, which belong to our caller."""
    with _SILENCE, open(os.devnull, "wb") as nowhere, contextlib.ExitStack() as restore:  # noqa: PTH123
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for handle in (1, 2):
            kept = os.dup(handle)
            restore.callback(os.close, kept)
            restore.callback(os.dup2, kept, handle)
            os.dup2(nowhere.fileno(), handle)
        yield
