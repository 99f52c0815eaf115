"""Files of 16-bit tokens: ours, llm.c's and nanoGPT's.

A token file is 256 little-endian int32 (20240520, 1, count, zeros) and then `count` uint16 tokens. That is
llm.c's layout, taken as our own so that both programs read each other's files; it also has `<|endoftext|>`
before each document, as ours do. nanoGPT's files are the bare tokens, `<|endoftext|>` after each document.
Files are mapped into memory, never read whole: a read costs what it touches.

    python -c "from gpt2.tokens.token_files import read_nanogpt; print(read_nanogpt('val.bin').n_documents)"
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpt2.errors import FormatError, InputError

MAGIC, VERSION, HEADER_BYTES = 20240520, 1, 1024
GPT2_END_OF_TEXT = 50_256

TokenArray = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class TokenFile:
    """Where tokens lie."""

    path: Path
    """the file"""
    skip: int
    """bytes before the first token"""
    count: int
    """tokens in the file"""

    def map(self) -> TokenArray:
        """The tokens, read-only, mapped into memory."""
        if self.count == 0:
            return np.empty(0, np.uint16)
        return np.asarray(np.memmap(self.path, "<u2", "r", self.skip, (self.count,)))


class Tokens:
    """A row of uint16 tokens that may lie in several files, and the documents in it."""

    def __init__(self, files: Sequence[TokenFile], end_of_text: int = GPT2_END_OF_TEXT) -> None:
        self.files = list(files)
        self.end_of_text = end_of_text
        self._maps = [file.map() for file in files]
        self._begins = np.cumsum([0, *(file.count for file in files)]).tolist()
        self.n_tokens: int = self._begins[-1]

    def read(self, start: int, stop: int) -> TokenArray:
        """Tokens start to stop, [stop - start] uint16; read-only and without a copy within one file.

        Raises `InputError` unless 0 <= start <= stop <= n_tokens.
        """
        if not 0 <= start <= stop <= self.n_tokens:
            raise InputError(f"tokens {start} to {stop} are not within the {self.n_tokens:,} there are")
        first = max(0, bisect_right(self._begins, start) - 1)
        pieces: list[TokenArray] = []
        for begin, tokens in zip(self._begins[first:-1], self._maps[first:], strict=True):
            if begin >= stop and pieces:
                break
            pieces.append(tokens[max(0, start - begin) : stop - begin])
        if not pieces:
            return np.empty(0, np.uint16)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where each document begins, [n_documents] int64: at the `<|endoftext|>` before it, if any."""
        ends = [
            np.flatnonzero(m == self.end_of_text) + b for m, b in zip(self._maps, self._begins, strict=False)
        ]
        found = np.concatenate([np.empty(0, np.int64), *ends])
        found = found[found < self.n_tokens - 1]
        begins_at_once = self.n_tokens > 0 and (not len(found) or found[0] != 0)
        return np.concatenate([[0], found]).astype(np.int64) if begins_at_once else found.astype(np.int64)

    @property
    def n_documents(self) -> int:
        """How many documents there are."""
        return len(self.starts)

    def document(self, i: int) -> TokenArray:
        """The tokens of document i, without its `<|endoftext|>`."""
        if not 0 <= i < self.n_documents:
            raise InputError(f"there is no document {i}; there are {self.n_documents:,}, counted from 0")
        stop = int(self.starts[i + 1]) if i + 1 < self.n_documents else self.n_tokens
        tokens = self.read(int(self.starts[i]), stop)
        begin = int(len(tokens) > 0 and tokens[0] == self.end_of_text)
        end = len(tokens) - int(len(tokens) > begin and tokens[-1] == self.end_of_text)
        return tokens[begin:end]


def header(count: int) -> bytes:
    """The 1,024 bytes before `count` tokens."""
    fields = np.zeros(256, "<i4")
    fields[:3] = MAGIC, VERSION, count
    return fields.tobytes()


def open_token_file(path: Path) -> TokenFile:
    """A token file with a header (ours or llm.c's); `FormatError` when it is another thing or cut short."""
    try:
        with path.open("rb") as stream:
            fields = np.frombuffer(stream.read(HEADER_BYTES), np.uint8)
        size = path.stat().st_size
    except OSError as error:
        raise FormatError(f"the token file {path} cannot be read: {error.strerror}") from None
    if len(fields) < HEADER_BYTES:
        raise FormatError(f"{path} is no token file: it has {size} bytes, fewer than a header has")
    magic, version, count = fields.view("<i4")[:3].tolist()
    if (magic, version) != (MAGIC, VERSION):
        raise FormatError(
            f"{path} is no token file of llm.c's layout: its header says {magic}, version {version}, "
            f"not {MAGIC}, version {VERSION} (a nanoGPT file has no header: use read_nanogpt)"
        )
    if size != HEADER_BYTES + 2 * count:
        raise FormatError(
            f"{path} is damaged: its header says {count:,} tokens, and it has {(size - 1024) / 2:,.1f}"
        )
    return TokenFile(path, HEADER_BYTES, count)


def read_llmc(*paths: str | Path) -> Tokens:
    """llm.c's `.bin` files, one after the other, as one row of tokens; `FormatError` for anything else."""
    return Tokens([open_token_file(Path(path)) for path in paths])


def read_nanogpt(*paths: str | Path) -> Tokens:
    """nanoGPT's `.bin` files (bare uint16), as one row of tokens; `FormatError` for what cannot be one."""
    files = []
    for path in map(Path, paths):
        try:
            with path.open("rb") as stream:
                start = stream.read(HEADER_BYTES)
            size = path.stat().st_size
        except OSError as error:
            raise FormatError(f"the token file {path} cannot be read: {error.strerror}") from None
        if start[:4] == header(0)[:4]:
            raise FormatError(f"{path} has llm.c's header and is no nanoGPT token file: use read_llmc")
        if is_text(start):
            raise FormatError(f"{path} is text and no nanoGPT token file: encode it, with  gpt2 tokens write")
        if size % 2:
            raise FormatError(
                f"{path} is no nanoGPT token file, or was cut short: {size:,} bytes are not whole tokens"
            )
        files.append(TokenFile(path, 0, size // 2))
    return Tokens(files)


def is_text(start: bytes) -> bool:
    """Whether the first bytes of a file are text; among tokens, those under 8,192 are control characters."""
    visible = start.translate(None, b"\t\n\r\f")
    return len(visible) > 100 and min(visible) >= 32
