"""Byte-level BPE: text to token ids and back (paper 2.2).

A text is UTF-8 bytes, so 256 base tokens can spell everything and no text is unknown. `PATTERN` first cuts
the text into words of one kind of character (letters, digits, others, white space; one leading space may
stay with its word), because the paper forbids merges across categories: else "dog.", "dog!" and "dog?"
would each take a place in the vocabulary. In each word, the pair of neighbours that was learned first is
merged, again and again, until no learned pair is left. Ids follow GPT-2 in every vocabulary: the 256 bytes,
printable ones first, then the merges in the order learned, then `<|endoftext|>`.

`Tokenizer.encode_plainly` is that paragraph as code; `encode` and `encode_batch` give the same ids many
times as fast (`benchmarks/encode.py`), by gigatoken where it is installed and by tiktoken where it is not. Tests hold
the three equal on all characters but the newest: which of those are letters is for each library to know
(tiktoken 0.14 knows Unicode 16, gigatoken 0.10 Unicode 17, the plain twin what `regex` knows). To make the
fast one ready takes 0.2 s, which a prompt should not wait for: the first texts, as long as they are short, are
encoded plainly.

`<|endoftext|>` spelled out in a text is text like any other unless `allow_special` is given: what a page says
must not be able to end a document. Rejected: Hugging Face `tokenizers`, which reads that spelling as the
token; `tiktoken.get_encoding`, which downloads.

`data/gpt2.merges` holds GPT-2's 50,000 merges: zlib-compressed, left ids then right ids, little-endian
uint16; `np.array(tokenizer.pairs, "<u2").T.tobytes()` is its content. OpenAI's `encoder.json` and
`vocab.bpe` follow from it byte for byte. `data/LICENSE-OPENAI` is the notice that it comes under.

    python -c "import gpt2; print(gpt2.Tokenizer.gpt2().encode(' SolidGoldMagikarp'))"
"""

from __future__ import annotations

import codecs
import hashlib
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property
from importlib import resources, util
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpt2.errors import InputError, MissingExtra

END_OF_TEXT = "<|endoftext|>"
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
BYTES_IN_ORDER = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTES_IN_ORDER += sorted(set(range(256)) - set(BYTES_IN_ORDER))
LETTER = {b: chr(b if i < 188 else 256 + i - 188) for i, b in enumerate(BYTES_IN_ORDER)}
"""The printable character that stands for each byte in vocabulary files: 'Ġ' for a space."""
BYTE = {letter: b for b, letter in LETTER.items()}

SHORT, FIRST = 1_000, 10_000
"""Characters of a text, and of all texts, that are encoded plainly before the fast twin is made ready."""

Pair = tuple[int, int]
Ids = npt.NDArray[np.unsignedinteger[Any]]
Offsets = npt.NDArray[np.int64]


class Tokenizer:
    """A byte-level BPE vocabulary and everything done with it.

    `pairs` are the merges in order, each as the ids of its two parts; `tokens[i]` are the bytes of token i.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        """Raises `InputError` for a pair of tokens that do not exist yet, or that spell one that does."""
        self.pairs = [(int(left), int(right)) for left, right in pairs]
        self.tokens = tokens = [bytes([b]) for b in BYTES_IN_ORDER]
        for known, (left, right) in enumerate(self.pairs, 256):
            if not (0 <= left < known and 0 <= right < known):
                raise InputError(f"merge {known - 256} joins tokens {left} and {right}, not both known yet")
            tokens.append(tokens[left] + tokens[right])
        self.end_of_text = len(tokens)
        self.ranks = dict(zip(tokens, range(len(tokens)), strict=True))
        if len(self.ranks) != len(self.tokens):
            raise InputError(
                "two merges of this vocabulary spell the same token; it was not made by learning"
            )
        self.tokens.append(END_OF_TEXT.encode())
        self.n_vocab = len(self.tokens)
        self._byte_id = {b: i for i, b in enumerate(BYTES_IN_ORDER)}
        self._merged = dict(zip(self.pairs, range(256, self.end_of_text), strict=True))
        self._encoded_plainly = 0

    @classmethod
    @cache
    def gpt2(cls) -> Tokenizer:
        """GPT-2's own vocabulary of 50,257 tokens, out of the package, read once."""
        packed = (resources.files("gpt2.tokens") / "data" / "gpt2.merges").read_bytes()
        halves = np.frombuffer(zlib.decompress(packed), "<u2").reshape(2, -1)
        return cls(list(zip(*halves.tolist(), strict=True)))

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """Read `encoder.json` + `vocab.bpe`, `vocab.json` + `merges.txt`, or `tokenizer.json` from a folder.

        Raises `InputError` when there is none of them, `FormatError` when what is there is another kind of
        tokenizer, is damaged, or numbers its tokens otherwise than GPT-2 does.
        """
        from gpt2.tokens.vocabulary import read_vocabulary

        return read_vocabulary(Path(folder))

    @classmethod
    def learn(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Learn a vocabulary of `vocab_size` tokens (257 to 65,536) from texts; see `gpt2.tokens.learn`."""
        from gpt2.tokens.learn import learn_merges

        return cls.from_merges(learn_merges(texts, vocab_size))

    @classmethod
    def from_merges(cls, merges: Iterable[tuple[bytes, bytes]]) -> Tokenizer:
        """The vocabulary of merges given as bytes: `[(b" ", b"t"), (b" t", b"he")]`."""
        ids = {bytes([b]): i for i, b in enumerate(BYTES_IN_ORDER)}
        pairs: list[Pair] = []
        for left, right in merges:
            if left not in ids or right not in ids:
                raise InputError(f"merge {len(pairs)} joins {left!r} and {right!r}, not both known yet")
            pairs.append((ids[left], ids[right]))
            ids[left + right] = 255 + len(pairs)
        return cls(pairs)

    def save(self, folder: str | Path) -> None:
        """Write `encoder.json` and `vocab.bpe` as OpenAI does, and what transformers needs beside them."""
        from gpt2.tokens.vocabulary import write_vocabulary

        write_vocabulary(self, Path(folder))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of `vocab.bpe` in hexadecimal; for GPT-2's own it is the published 1ce16647...d5."""
        from gpt2.tokens.vocabulary import vocab_bpe

        return hashlib.sha256(vocab_bpe(self).encode()).hexdigest()

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """Token ids of a text. With `allow_special`, a spelled `<|endoftext|>` becomes that token.

        Lone surrogates, which no UTF-8 can carry, are read as U+FFFD.
        """
        if not allow_special:
            return self._encode(text)
        first, *rest = text.split(END_OF_TEXT)
        ids = self._encode(first)
        for piece in rest:
            ids.append(self.end_of_text)
            ids += self._encode(piece)
        return ids

    def _encode(self, text: str) -> list[int]:
        if "_fast" not in self.__dict__ and len(text) <= SHORT and self._encoded_plainly < FIRST:
            self._encoded_plainly += len(text)
            return self.encode_plainly(text)
        return self._fast.encode(text)

    def encode_batch(self, texts: Sequence[str], parallel: bool = True) -> tuple[Ids, Offsets]:
        """Ids of many texts in one array; those of text i are `ids[offsets[i]:offsets[i + 1]]`.

        ids: [tokens] uint16, or uint32 for more than 65,536 tokens; offsets: [texts + 1] int64.
        `parallel=False` stays on the calling thread; so do workers of `multiprocessing`.
        """
        if isinstance(texts, str):
            raise InputError("encode_batch takes a list of texts; for one text use encode")
        ids, offsets = self._fast.encode_batch(list(texts), parallel)
        return ids.astype(np.uint16 if self.n_vocab <= 65_536 else np.uint32), offsets

    def encode_plainly(self, text: str) -> list[int]:
        """The same ids as `encode`, by the algorithm as it is told: the readable twin."""
        return [i for word in words(text) for i in self.merge_word(word)]

    def merge_word(self, word: bytes) -> list[int]:
        """Merge the bytes of one word: always the pair that was learned first, until none is known."""
        parts = [self._byte_id[b] for b in word]
        while len(parts) > 1:
            new = min(self._merged.get(pair, self.end_of_text) for pair in pairwise(parts))
            if new == self.end_of_text:
                break
            parts = merge(parts, self.pairs[new - 256], new)
        return parts

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of tokens; raises `InputError` for an id that is not in the vocabulary."""
        numbers = ids.tolist() if hasattr(ids, "tolist") else list(ids)
        if numbers and not (min(numbers) >= 0 and max(numbers) < self.n_vocab):
            wrong = next(i for i in numbers if not 0 <= i < self.n_vocab)
            raise InputError(
                f"token {wrong} is not in this vocabulary, whose ids are 0 to {self.n_vocab - 1}"
            )
        return b"".join([self.tokens[i] for i in numbers])

    def decode(self, ids: Iterable[int]) -> str:
        """The text of tokens; bytes that are not UTF-8 come as U+FFFD, the replacement character."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def stream(self) -> StreamDecoder:
        """Decode token by token, for text that is shown while it is generated."""
        return StreamDecoder(self)

    @cached_property
    def _fast(self) -> GigatokenEncoder | TiktokenEncoder:
        return GigatokenEncoder(self) if util.find_spec("gigatoken") else TiktokenEncoder(self)

    def __reduce__(self) -> tuple[Callable[..., Tokenizer], tuple[Any, ...]]:
        return Tokenizer, (self.pairs,)

    def __repr__(self) -> str:
        return f"Tokenizer({self.n_vocab:,} tokens, {self.fingerprint[:12]})"


class StreamDecoder:
    """Text from tokens as they come; a character cut by a token border waits for its other bytes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that this token completes, perhaps empty."""
        return self._decoder.decode(self._tokenizer.decode_bytes([token]))

    def finish(self) -> str:
        """What still waited: nothing, or U+FFFD for a character that never became whole."""
        return self._decoder.decode(b"", final=True)


def words(text: str) -> Iterator[bytes]:
    """The pieces that merging never crosses, as UTF-8: "I'm here" gives I, 'm and _here with its space."""
    import regex  # type: ignore[import-untyped, unused-ignore]

    return (match[0].encode() for match in regex.finditer(PATTERN, sound(text)))


def merge(parts: Sequence[int], pair: Pair, new: int) -> list[int]:
    """Put `new` in the place of each occurrence of `pair`, from left to right."""
    merged: list[int] = []
    i = 0
    while i < len(parts):
        found = i + 1 < len(parts) and (parts[i], parts[i + 1]) == pair
        merged.append(new if found else parts[i])
        i += 2 if found else 1
    return merged


def sound(text: str) -> str:
    """The text with pairs of surrogates joined and lone ones as U+FFFD, so that UTF-8 can carry it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class GigatokenEncoder:
    """The fast twin. gigatoken remembers every word it ever saw, so it is renewed now and then.

    It serves one thread at a time and refuses a second one, so threads queue here.
    """

    RENEW_AFTER_CHARACTERS = 256_000_000

    def __init__(self, tokenizer: Tokenizer) -> None:
        from gpt2.tokens.vocabulary import tokenizer_json

        self._definition = tokenizer_json(tokenizer, special=False)
        self._turn = threading.Lock()
        self._renew()

    def _renew(self) -> None:
        import gigatoken

        self._engine = gigatoken.Tokenizer.from_json(self._definition)
        self._seen = 0

    def _count(self, characters: int) -> None:
        self._seen += characters
        if self._seen > self.RENEW_AFTER_CHARACTERS:
            self._renew()

    def encode(self, text: str) -> list[int]:
        """Ids of one text."""
        with self._turn:
            self._count(len(text))
            try:
                ids = self._engine.encode(text)
            except TypeError:  # how gigatoken refuses surrogates
                ids = self._engine.encode(sound(text))
        found: list[int] = ids.tolist()
        return found

    def encode_batch(self, texts: list[str], parallel: bool = True) -> tuple[Ids, Offsets]:
        """Flat uint32 ids and int64 offsets of many texts."""
        if not texts:
            return np.empty(0, np.uint32), np.zeros(1, np.int64)
        threads = None if parallel else False
        with self._turn:
            self._count(sum(map(len, texts)))
            try:
                rows = self._engine.encode_batch(texts, parallel=threads)
            except TypeError:
                rows = self._engine.encode_batch([sound(text) for text in texts], parallel=threads)
        return np.asarray(rows.layout.content.data), np.asarray(rows.layout.offsets.data, np.int64)


class TiktokenEncoder:
    """The fallback. tiktoken merges any neighbours that spell a known token, whatever pair it was learned as.

    For a learned vocabulary that is the same: left to itself, each token's bytes merge back to that token, so
    the last two parts are always its own pair. A vocabulary where one does not is refused.
    """

    PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
    """`gpt2.tokens.bpe.PATTERN` in a form that never backtracks far, whatever the text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        import tiktoken

        for token, i in tokenizer.ranks.items():
            if tokenizer.merge_word(token) != [i]:
                raise MissingExtra(
                    f"token {i} is out of reach of the merges; run  pip install gigatoken  to use it"
                )
        self._engine = tiktoken.Encoding(
            "gpt2-workbench",
            pat_str=self.PATTERN,
            mergeable_ranks=tokenizer.ranks,
            special_tokens={END_OF_TEXT: tokenizer.end_of_text},
        )

    def encode(self, text: str) -> list[int]:
        """Ids of one text."""
        return self._engine.encode_ordinary(text)

    def encode_batch(self, texts: list[str], parallel: bool = True) -> tuple[Ids, Offsets]:
        """Flat uint32 ids and int64 offsets of many texts."""
        if parallel:
            rows = self._engine.encode_ordinary_batch(texts)
        else:
            rows = [self._engine.encode_ordinary(text) for text in texts]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        return np.fromiter(chain.from_iterable(rows), np.uint32, int(offsets[-1])), offsets
