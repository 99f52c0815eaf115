"""Dumps of submissions (Pushshift's: JSON lines, packed), and the unpacking of every list of links.

A dump is zstd with a window of 2 GB, xz, bz2, gzip or plain; what a file is, its first bytes say, not its
name. Field names have changed over the years and any of them may be missing, or a number written as a
string: so every field is optional and of any type, and `Row` says what it comes to. Lines are decoded by
msgspec, as many at once as stay in the processor's cache, into those fields alone: three times as fast as the
usual loop of TextIOWrapper and json.loads (benchmarks/dumps.py). Rejected: polars and duckdb, which cannot
open such a window, and zstandard's stream_reader, which takes a file that was cut short for a whole one; its
decompressobj knows where a frame ends and is as fast.

A line that is no JSON object is counted and passed over; of a file that is damaged or cut short, what came
before is used and the fault is named. A reader without patience (`faults` is None) raises `FormatError` for
either. One dump takes up to 2.2 GB of memory, for the window.

    python -c "from gpt2.corpus.links.dumps import Reading, submissions; from pathlib import Path
    print(sum(len(rows) for rows in submissions(Reading(Path('RS_2011-01.zst'), faults=[]))))"
"""

from __future__ import annotations

import bz2
import functools
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, Any

import msgspec
import zstandard

from gpt2.errors import FormatError, InputError

PIECE = 1 << 13
"""Bytes that are unpacked at once: few, for a bomb grows thirty thousand times."""
LARGEST_PIECE = 1 << 20
"""Bytes of what was unpacked that are handed on at once."""
CHUNK = 1 << 17
"""Bytes of lines that are decoded at once: few enough to stay in the processor's cache."""
LONGEST_LINE = 1 << 26
"""A longer line is no submission: it is passed over without being kept."""
WINDOW = 1 << 31
"""What `zstd --long=31` asks for, and Pushshift's files with it."""
TOO_MANY = 10**15
"""Votes that are none."""
BARE = re.compile(r"&(?!(?:amp|lt|gt);)")
UNSET: Any = msgspec.UNSET


class Row(msgspec.Struct, gc=False):
    """A link as a source gives it; the fields are those of dumps, old and new, in the order of their names."""

    created_utc: Any = None
    is_self: Any = None
    over_18: Any = None
    score: Any = UNSET
    subreddit: Any = None
    url: Any = None
    url_overridden_by_dest: Any = None
    votes: Any = UNSET

    @property
    def address(self) -> str:
        """Where the link leads, in plain letters; "" when that is no text, or a letter of it was lost.

        Reddit gives addresses escaped for HTML, and so they stand in its dumps and in lists made of them:
        where each & begins an entity, the escaping is undone.
        """
        found = self.url_overridden_by_dest or self.url
        if not isinstance(found, str) or "\ufffd" in found:
            return ""
        if "&" in found and not BARE.search(found):
            return found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        return found

    @property
    def vote_count(self) -> int | None:
        """Its votes or else score: 0 for what is no number; where there is none (null and blank cells are none),
        0 for a submission, which must have earned them, and unknown for a row of a bare list."""
        value = self.score if is_blank(self.votes) else self.votes
        if type(value) is int:
            return value if -TOO_MANY < value < TOO_MANY else 0
        if not is_blank(value):
            return number_in(value)
        return None if is_blank(self.subreddit) and is_blank(self.is_self) else 0

    @property
    def date(self) -> str | None:
        """The day of the submission in UTC (YYYY-MM-DD), where it is known."""
        value = self.created_utc
        if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d", value):
            try:
                return date.fromisoformat(value[:10]).isoformat()
            except ValueError:
                return None
        seconds = value if type(value) is int else number_in(value)
        return day_of(seconds // 86_400) if 0 < seconds < 1 << 33 else None

    @property
    def community(self) -> str | None:
        """The subreddit in lower case."""
        return self.subreddit.lower() if isinstance(self.subreddit, str) and self.subreddit else None

    @property
    def is_text(self) -> bool:
        """Whether it is a post of text, which links to nothing but itself."""
        return truth(self.is_self)

    @property
    def is_adult(self) -> bool:
        """Whether it is marked for those over 18."""
        return truth(self.over_18)


FIELDS = frozenset(Row.__struct_fields__)


def is_blank(value: object) -> bool:
    """Whether a field says nothing."""
    return value is UNSET or value is None or (type(value) is str and not value.strip())


def number_in(value: object) -> int:
    """A number as whatever it was written, rounded down; 0 for what is none."""
    try:
        number = float(str(value))
    except ValueError:
        return 0
    return int(number) if abs(number) < TOO_MANY else 0


def truth(value: Any) -> bool:
    """True, 1 or one of these as text."""
    if value is True or value is False:
        return value
    return str(value).strip().lower() in ("true", "1")


@functools.lru_cache(maxsize=1 << 14)
def day_of(days: int) -> str:
    """The date so many days after the first of 1970."""
    return datetime.fromtimestamp(days * 86_400, UTC).date().isoformat()


@dataclass
class Reading:
    """A file of links that is being read: how far, and what was wrong with it."""

    path: Path
    """The file."""
    faults: list[str] | None = None
    """Where damage is told in sentences; without it, `FormatError` is raised."""
    bad_lines: int = 0
    """Lines passed over because they hold no row."""
    position: int = 0
    """Bytes of the file that were read."""

    def fault(self, sentence: str) -> None:
        """Tell of damage after which there is nothing more to read."""
        if self.faults is None:
            raise FormatError(sentence)
        self.faults.append(sentence)

    def bad(self, sentence: str) -> None:
        """Count a line that holds no row."""
        if self.faults is None:
            raise FormatError(sentence)
        self.bad_lines += 1

    def pieces(self) -> Iterator[bytes]:
        """What is in the file, unpacked, up to its end or to the place where it is damaged."""
        if not self.path.is_file():
            raise InputError(f"there is no file {self.path}; give a file of links, one a line")
        with self.path.open("rb") as raw:
            try:
                for piece in unpacked(raw):
                    self.position = raw.tell()
                    for at in range(0, len(piece), LARGEST_PIECE):
                        yield piece[at : at + LARGEST_PIECE]
            except EOFError:
                self.fault(f"{self.path} is cut short: what it is packed in has no end; get it anew")
            except (zstandard.ZstdError, lzma.LZMAError, zlib.error, OSError) as error:
                if isinstance(error, OSError) and error.errno:
                    raise  # the system's, and no fault of the file
                self.fault(f"{self.path} is damaged after byte {self.position:,} ({error}); get it anew")

    def chunks(self) -> Iterator[bytes]:
        """The same in chunks that end where a line does."""
        parts: list[bytes | memoryview] = []
        size, skipping = 0, False
        for piece in self.pieces():
            if skipping:
                skipping = b"\n" not in piece
                piece = piece.partition(b"\n")[2]
            parts.append(piece)
            size += len(piece)
            end = piece.rfind(b"\n") + 1
            if end and size >= CHUNK:
                parts[-1] = memoryview(piece)[:end]
                yield b"".join(parts)
                parts, size = [piece[end:]], len(piece) - end
            elif not end and size >= LONGEST_LINE:
                self.bad(f"a line of {self.path} is longer than {LONGEST_LINE:,} bytes; give one row a line")
                whole = b"".join(parts)
                yield whole[: whole.rfind(b"\n") + 1]
                parts, size, skipping = [], 0, True
        if size:
            yield b"".join(parts)


def unpacked(raw: IO[bytes]) -> Iterator[bytes]:
    """The content of a file piece by piece; `EOFError` when it is packed and ends too early."""
    piece = raw.read(PIECE)
    new = decoder_for(piece)
    if new is None:
        while piece:
            yield piece
            piece = raw.read(PIECE)
        return
    decoder = new()
    inside = False
    while piece:
        yield decoder.decompress(piece)
        inside = not decoder.eof
        piece = b""
        if not inside:
            piece = decoder.unused_data.lstrip(b"\0")  # xz and gzip may be padded
            decoder = new()
        piece = piece or raw.read(PIECE)
    if inside:
        raise EOFError


def decoder_for(head: bytes) -> Callable[[], Any] | None:
    """What unpacks a file that begins so; None for one that is not packed."""
    if head.startswith(b"\x28\xb5\x2f\xfd") or re.match(rb"[\x50-\x5f]\x2a\x4d\x18", head):
        return zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj
    if head.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor
    if re.match(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", head):
        return bz2.BZ2Decompressor
    if head.startswith(b"\x1f\x8b"):
        return lambda: zlib.decompressobj(zlib.MAX_WBITS | 16)
    return None


def submissions(reading: Reading) -> Iterator[list[Row]]:
    """The rows of JSON lines, packed or not, in order, some at a time."""
    decoder = msgspec.json.Decoder(Row)
    line = 0
    for chunk in reading.chunks():
        try:
            yield decoder.decode_lines(chunk)
        except (ValueError, RecursionError):
            yield list(one_by_one(chunk, line, reading))
        if reading.faults is None:  # else no bad line is told of by its number, and counting takes its time
            line += chunk.count(b"\n")


def one_by_one(chunk: bytes, before: int, reading: Reading) -> Iterator[Row]:
    """The rows of a chunk in which some line is bad, or holds what only Python's reader takes (NaN, say)."""
    for number, line in enumerate(chunk.split(b"\n"), before + 1):
        try:
            if line.strip():
                row = json.loads(line)
                if isinstance(row, dict):
                    yield Row(**{name: row[name] for name in FIELDS & row.keys()})
                else:
                    reading.bad_lines += 1
        except (ValueError, RecursionError) as error:
            reading.bad(f"line {number} of {reading.path} is not JSON: {error}")
