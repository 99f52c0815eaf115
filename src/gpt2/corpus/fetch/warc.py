"""Records of WARC and ARC files, read past any damage, with what was lost counted.

WARC, one gzip member a record, is what archives and Common Crawl use; ARC is its predecessor. The libraries
(fastwarc, warcio) end in silence at a record that was cut short, and a corpus that silently lacks its last
third is worse than none; so every byte is looked at here. A record counts as good when its head can be read,
its length leads to where the next one begins, its gzip member's checksum is right, and its block digest,
where it has one, agrees. After a bad one reading goes on at the next place that looks like the head of a
record.

    python -c "from gpt2.corpus.fetch.warc import records; print(*(r.kind for r in records('crawl.warc.gz')))"
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import mmap
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gpt2.errors import FormatError, InputError

LONGEST_BLOCK = 100_000_000
"""Bytes of a record that are kept: twice what a page may have."""
LONGEST_LINE = 1 << 20
PIECE = 1 << 16
GZIP = b"\x1f\x8b\x08"
Span = tuple[int, int | None]
"""First byte, and the one after the last; None is the end of the file."""
HEAD = re.compile(rb"WARC/\d\.\d+\r?\n[\w-]+:|(?<![^\n])[a-z]+://?\S{0,8000} [0-9a-f.:]+ \d{8,14} \S+ \d+\n")
"""How a record begins: a WARC's version, or an ARC's address, IP address, date, type and length."""


@dataclass(frozen=True)
class Record:
    """One record."""

    kind: str
    """Its type: response, request, revisit, warcinfo, ..., in lower case."""
    url: str
    """Its target, empty for one without."""
    fields: dict[str, str]
    """All its fields, names in lower case."""
    block: bytes
    """What it holds, up to `LONGEST_BLOCK` bytes."""
    number: int
    """1 for the first of the file."""
    start: int | None
    """The byte of the file at which it can be read by itself; None inside a gzip member that began earlier."""


def records(path: Path, faults: list[str] | None = None, span: Span = (0, None)) -> Iterator[Record]:
    """The good records of a WARC or ARC file (gzip or not) that begin in a span of its bytes, in order.

    Without `faults`, the first damage raises `FormatError`; with it, each stretch that cannot be read becomes
    a sentence there and reading goes on with the next good record. Raises `InputError` when there is no file,
    `FormatError` when it is neither kind.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}; give a WARC file (.warc or .warc.gz)")
    number = 0
    with path.open("rb") as raw:
        zipped = is_zipped(raw, faults is not None)
        source = Source(raw, span[0], zipped)
        while True:
            try:
                record = read_record(source, number, span[1])
            except (EOFError, ValueError, zlib.error) as error:
                cut, cause = isinstance(error, EOFError), str(error)
            else:
                if record is None:
                    if not number and not faults and span == (0, None):
                        raise FormatError(f"{path} is empty; give a WARC file")
                    return
                number += 1
                yield record
                continue
            how = "is cut short: its last record has no end" if cut else f"is damaged ({cause})"
            if faults is None and source.archive:
                raise FormatError(f"{path} {how}; get it anew, or read what is good of it")
            again = None if faults is None else next_head(raw, source.begun + 1, zipped)
            if faults is None or (not source.archive and again is None):
                raise FormatError(f"{path} is neither a WARC nor an ARC file; for text give --text")
            number += 1
            lost = f"{path.name}: record {number}, at byte {source.begun:,}, "
            lost += "has no end" if cut else f"is damaged ({cause})"
            if again is None:
                faults.append(f"{lost}; nothing after it could be read")
                return
            faults.append(f"{lost}; reading went on at byte {again:,}")
            source = Source(raw, again, zipped)


def record_at(path: Path, start: int) -> Record | None:
    """The record that begins at a byte of a file, or None when it cannot be read."""
    with path.open("rb") as raw:
        try:
            zipped = is_zipped(raw)
            return read_record(Source(raw, start, zipped), 0)
        except (EOFError, ValueError, zlib.error):
            return None


def sound_end(path: Path) -> int:
    """How many bytes of a file are whole records, each a gzip member, from the first on."""
    end = 0
    with path.open("rb") as raw, suppress(EOFError, ValueError, zlib.error):
        source = Source(raw, 0, zipped=True)
        while read_record(source, 0):
            end = source.read_to - len(source.inflate.unused_data)
    return end


class Source:
    """The bytes of a file from one of its places on, out of their gzip members if it has any."""

    def __init__(self, raw: BinaryIO, start: int, zipped: bool) -> None:
        raw.seek(start)
        self.raw, self.zipped = raw, zipped
        self.buffer, self.at = b"", 0
        self.place = start  # where in the file the buffer begins, or the gzip member it comes from
        self.begun = start  # where the record under way begins
        self.between = True  # whether there is none under way
        self.archive = start > 0  # whether this has been found to be one
        self.read_to = start
        self.inflate = zlib.decompressobj(31)
        self.left = b""
        self.fresh = True  # whether the buffer is the beginning of a member

    def fill(self, cross: bool = True) -> bool:
        """Get more bytes once all in the buffer are used; not of the next gzip member unless `cross`.

        False when there are none. Raises `EOFError` or `zlib.error` when the member is cut short or damaged.
        """
        if self.at < len(self.buffer):
            return True
        if not self.zipped:
            self.place += len(self.buffer)
            self.buffer, self.at = self.raw.read(PIECE), 0
            return bool(self.buffer)
        self.fresh = self.read_to == self.place  # at the first member
        self.buffer, self.at = b"", 0
        while not self.buffer:
            if self.inflate.eof:
                if not cross:
                    return False
                self.left = self.inflate.unused_data.lstrip(b"\0") or self.more().lstrip(b"\0")
                if not self.left:
                    return False
                self.inflate, self.fresh = zlib.decompressobj(31), True
                self.place = self.read_to - len(self.left)
                if self.between:
                    self.begun = self.place
            data, self.left = self.inflate.unconsumed_tail or self.left or self.more(), b""
            if not data:
                raise EOFError("its last gzip member has no end")
            self.buffer = self.inflate.decompress(data, PIECE)
        return True

    def more(self) -> bytes:
        """The next bytes of the file as they are; past zeros, which may stand between members."""
        data = self.raw.read(PIECE)
        self.read_to += len(data)
        while data and not data.strip(b"\0") and self.inflate.eof:
            data = self.raw.read(PIECE)
            self.read_to += len(data)
        return data

    def readline(self) -> bytes:
        """Up to and with the next line end, or as much as a line may have."""
        parts, size = [], 0
        while self.fill():
            end = self.buffer.find(b"\n", self.at) + 1
            parts.append(self.buffer[self.at : end or len(self.buffer)])
            self.at = end or len(self.buffer)
            size += len(parts[-1])
            if end or size > LONGEST_LINE:
                break
        return b"".join(parts)

    def empty_lines(self, cross: bool = True) -> int:
        """Pass over line ends, and say how many there were."""
        found = 0
        while self.fill(cross) and self.buffer[self.at] in b"\r\n":
            found += self.buffer[self.at] == ord("\n")
            self.at += 1
        return found

    def take(self, length: int, into: Any) -> bytes:
        """The next `length` bytes, no more than are kept; `into` hashes all. `EOFError` when they are not there."""
        parts, left = [], length
        while left:
            if not self.fill():
                raise EOFError("its last record has no end")
            part = self.buffer[self.at : self.at + left]
            if length - left < LONGEST_BLOCK:
                parts.append(part)
            if into:
                into.update(part)
            self.at += len(part)
            left -= len(part)
        return b"".join(parts)


def read_record(source: Source, number: int, end: int | None = None) -> Record | None:
    """The record after `number` others, or None at the end of the file or when it begins at byte `end` or later.

    Raises `EOFError` when it has no end, `ValueError` or `zlib.error` when it is damaged.
    """
    source.between, source.begun = True, source.place + (0 if source.zipped else source.at)
    source.empty_lines()
    if not source.fill():
        return None
    source.between, source.begun = False, source.place + (0 if source.zipped else source.at)
    if end is not None and source.begun >= end:
        return None
    alone = not source.zipped or (source.fresh and source.at == 0)
    line = source.readline()
    arc = not line.startswith(b"WARC/")
    source.archive |= not arc or line.startswith(b"filedesc:")
    if not source.archive:
        raise ValueError("it begins like no archive")
    kind, url, fields, length = (arc_head if arc else warc_head)(line, source)
    name, _, wanted = fields.get("warc-block-digest", "").partition(":")
    hashed = hashlib.new(name) if name in ("sha1", "md5", "sha256", "sha512") else None
    block = source.take(length, hashed)
    if hashed and not same_digest(hashed.digest(), wanted):
        raise ValueError("its block has another digest")
    ends = source.empty_lines(cross=False)  # up to the end of the member, whose checksum is looked at there
    if not arc and ends < 2 and ends + source.empty_lines() < 2:
        if not source.fill():
            raise EOFError("its last record has no end")
        if not source.buffer.startswith(b"WARC/", source.at):
            raise ValueError("its length is wrong")
    return Record(kind, url, fields, block, number + 1, source.begun if alone else None)


def warc_head(line: bytes, source: Source) -> tuple[str, str, dict[str, str], int]:
    """Type, address, fields and length of the WARC record that begins with `line`."""
    fields: dict[str, str] = {}
    while line.strip():
        if not line.endswith(b"\n"):
            raise EOFError("its last record has no end")
        name, _, value = line.decode("utf-8", "replace").partition(":")
        fields[name.strip().lower()] = value.strip()
        line = source.readline()
    if not line.endswith(b"\n"):
        raise EOFError("its last record has no end")
    length = fields.get("content-length", "")
    if not (length.isascii() and length.isdecimal()):
        raise ValueError("its head gives no length")
    url = fields.get("warc-target-uri", "").strip("<>")
    return fields.get("warc-type", "").lower(), url, fields, int(length)


def arc_head(line: bytes, _: Source) -> tuple[str, str, dict[str, str], int]:
    """Type, address, fields and length of the ARC record that `line` describes: address, IP, date, type, length."""
    if not line.endswith(b"\n"):
        raise EOFError("its last record has no end")
    words = line.decode("utf-8", "replace").split()
    if len(words) < 5 or not (words[-1].isascii() and words[-1].isdecimal()):
        raise ValueError("there is no head of a record")
    kind = "filedesc" if words[0].startswith("filedesc:") else "response"
    return kind, words[0], {"warc-date": words[2]}, int(words[-1])


def same_digest(digest: bytes, wanted: str) -> bool:
    """Whether a digest is the one that is written in base 32 or in hexadecimal."""
    wanted = wanted.strip()
    return wanted.rstrip("=").upper() == base64.b32encode(digest).rstrip(b"=").decode() or (
        wanted.lower() == binascii.hexlify(digest).decode()
    )


def next_head(raw: BinaryIO, after: int, zipped: bool) -> int | None:
    """The first place from byte `after` on at which a record seems to begin."""
    with mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
        mark = re.compile(re.escape(GZIP)) if zipped else HEAD
        for found in mark.finditer(data, after):
            if not zipped or begins_record(data[found.start() : found.start() + PIECE]):
                return found.start()
    return None


def is_zipped(raw: BinaryIO, damaged: bool = False) -> bool:
    """Whether a file has gzip members; one whose first bytes are `damaged` may have them further on."""
    raw.seek(0)
    first = raw.read(9)
    if damaged and first and not first.startswith((GZIP[:2], b"WARC/", b"filedesc:")):
        return next_head(raw, 0, True) is not None
    return first.startswith(GZIP[:2])


def member_after(path: Path, after: int) -> int | None:
    """The first byte from `after` on at which a gzip member with a record begins; None without one.

    Also for a file that is not packed, since a page may well hold what looks like the head of a record.
    """
    with path.open("rb") as raw:
        return next_head(raw, after, True) if is_zipped(raw) else None


def begins_record(data: bytes) -> bool:
    """Whether a gzip member begins here that holds the head of a record."""
    try:
        return HEAD.match(zlib.decompressobj(31).decompress(data, 1 << 14)) is not None
    except zlib.error:
        return False


def warc_files(folder: Path) -> list[Path]:
    """The WARC files of a crawl, in the order in which they were filled."""
    return sorted(folder.glob("pages-[0-9][0-9][0-9][0-9][0-9].warc.gz"))
