"""How each link of a crawl ended: one line of JSON a link, from which an interrupted crawl goes on.

    FOLDER/pages-00000.warc.gz, ...   what came
    FOLDER/fetched.jsonl              the outcomes

A line is written after the page's record and says where that record ends. On restart whatever follows the
last whole line's record is cut off the WARC files, and the rest is fetched: a kill costs what was in flight,
which is the links whose first request had been sent. After a power cut a line may be there whose record is
not; so the last file's records are looked at, and lines beyond the sound ones do not count. Rejected: a
database of states, which says the same twice.

    python -c "from gpt2.corpus.fetch.outcomes import read_outcomes; print(*read_outcomes('crawl'), sep='\\n')"
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from gpt2.corpus.fetch.warc import sound_end, warc_files
from gpt2.corpus.fetch.warc_writer import Kept
from gpt2.errors import InputError
from gpt2.workspace import atomic_write

LOG = "fetched.jsonl"
NO_ANSWER = "no answer"
"""Causes that begin so may pass."""


@dataclass(frozen=True)
class Fetched:
    """How a link ended."""

    url: str
    """Canonical address that was asked for."""
    cause: str | None = None
    """Why there is no page; None when there is one."""
    status: int | None = None
    """HTTP status of the last answer, when there was one."""
    chain: tuple[str, ...] = ()
    """Where redirects led, one after another; the last is the page's own address."""
    file: int | None = None
    """Number of the WARC file that has the page, when there is one."""
    end: int | None = None
    """Bytes of that file up to and with the page's record."""
    digest: str | None = None
    """Of the body, as in the record."""
    date: str | None = None
    """When the page came, UTC, as in the record."""
    links: tuple[str, ...] = ()
    """Canonical addresses on the page, when links are followed."""

    @property
    def final(self) -> str:
        """The address of the page itself."""
        return self.chain[-1] if self.chain else self.url

    @property
    def kept(self) -> Kept | None:
        """Where its page is, or None without one."""
        if self.file is None or self.end is None:
            return None
        return Kept(self.file, self.end, self.digest or "", self.date or "")

    @property
    def may_pass(self) -> bool:
        """Whether asking again at another time may give a page."""
        return bool(self.cause) and (
            NO_ANSWER in str(self.cause) or any(f"status {s}" in str(self.cause) for s in PASSING)
        )

    def line(self) -> bytes:
        """As a line of the log; what is not known is left out."""
        row = {k: v for k, v in vars(self).items() if v not in (None, ())}
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"


PASSING = (429, 500, 502, 503, 504)
"""Statuses of trouble that may pass."""
NAMES = {f.name for f in fields(Fetched)}


def parse(line: bytes) -> Fetched:
    """A line of the log; `ValueError` for one that is not whole."""
    try:
        row = json.loads(line)
        row |= {name: tuple(row[name]) for name in ("chain", "links") if name in row}
        outcome = Fetched(**row)
    except (TypeError, UnicodeDecodeError) as error:
        raise ValueError(error) from None
    if not isinstance(outcome.url, str) or (outcome.cause is None) != (outcome.end is not None):
        raise ValueError("no outcome")
    return outcome


def read_outcomes(folder: str | Path) -> Iterator[Fetched]:
    """How each link of a crawl ended, in the order in which they ended. Raises `InputError` without a crawl."""
    path = Path(folder) / LOG
    if not path.is_file():
        raise InputError(f"there is no crawl in {folder}: it has no {LOG}; run  gpt2 corpus fetch  first")
    with path.open("rb") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                return  # a crawl is under way or was killed
            yield parse(line)


def recover(folder: Path) -> Iterator[Fetched]:
    """The outcomes of an interrupted crawl; at their end, what follows the last sound line is cut off the log."""
    files = warc_files(folder)
    sizes = {int(path.name[6:11]): path.stat().st_size for path in files[:-1]}
    sizes |= {int(path.name[6:11]): sound_end(path) for path in files[-1:]}
    good = 0
    with (folder / LOG).open("r+b") as stream:
        for line in stream:
            try:
                outcome = parse(line)
            except ValueError:
                break
            kept = outcome.kept
            if not line.endswith(b"\n") or (kept and kept.end > sizes.get(kept.file, -1)):
                break
            good += len(line)
            yield outcome
        stream.truncate(good)


def forget(folder: Path) -> None:
    """Take the failures that may pass out of a crawl's log, so that their links are asked for again."""
    with atomic_write(folder / LOG) as stream:
        stream.writelines(f.line() for f in recover(folder) if not f.may_pass)
