"""Writing WARC 1.1 files (ISO 28500:2017) that are begun anew at a certain size.

One gzip member a record, so that other tools read what is fetched here from any record on. A page is a
`response` record; one whose body the same file has already is a `revisit` of profile
identical-payload-digest, which holds the headers alone. A revisit never points into another file: each file
is whole by itself, many processes can read one each, and what must be remembered is bounded by a file's size.
Bodies are kept with their encodings undone, so that every reader can read them; the headers that said
otherwise are kept as X-Crawl-..., as Common Crawl does. Rejected: one file a page, which loses status,
headers and time, and is slow by the million.

    gpt2 corpus fetch links.txt --out crawl --contact you@example.org && warcio check crawl/*.warc.gz
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2.corpus.fetch.warc import warc_files
from gpt2.errors import need

LEVEL = 6
"""Of compression: 9 takes four times as long to save 3 %."""
ASKED = "X-Asked-URI"
"""Field of a record: the address that was asked for, where redirects led from it to the record's own."""


@dataclass(frozen=True)
class Response:
    """What a server answered, as a record keeps it."""

    url: str
    """Address that gave it."""
    body: bytes
    """Transfer and content encoding undone."""
    status: int = 200
    """HTTP status."""
    reason: str = "OK"
    """What the server says of it."""
    headers: tuple[tuple[str, str], ...] = ()
    """Of HTTP, as they came."""
    asked: str = ""
    """Address that was asked for, where redirects led away from it."""
    ip: str = ""
    """Address of the server."""
    request: tuple[tuple[str, str], ...] | None = None
    """Headers of the request, when they are to be kept."""


@dataclass(frozen=True)
class Kept:
    """Where a response was put."""

    file: int
    """Number of its WARC file."""
    end: int
    """Bytes of that file up to and with its record."""
    digest: str
    """Of its body."""
    date: str
    """When it came, UTC."""


UNDONE = ("content-encoding", "transfer-encoding", "content-length")
"""Headers that no longer hold of a body whose encodings are undone; kept under another name, as Common Crawl does."""


class WarcWriter:
    """Appends responses to `pages-00000.warc.gz` and its successors, each flushed before `write` returns."""

    def __init__(self, folder: Path, longest: int, at: Kept | None = None, software: str = "") -> None:
        """Go on after the record `at`, cutting off what follows it, or begin anew; a file has about `longest` bytes."""
        need("warcio.warcwriter", "corpus")
        self.folder, self.longest, self.software = folder, longest, software
        self.bodies: dict[str, tuple[str, str]] = {}  # digest -> address and date of the body in this file
        self.file = at.file if at else 0
        for path in warc_files(folder):
            if int(path.name[6:11]) > self.file:
                path.unlink()
        self.open(at.end if at else 0)

    def open(self, keep: int) -> None:
        """Take up the present file after its first `keep` bytes."""
        path = self.folder / f"pages-{self.file:05d}.warc.gz"
        path.touch()
        self.stream = path.open("r+b")
        self.stream.truncate(keep)
        self.stream.seek(keep)
        if not keep:
            from warcio.warcwriter import WARCWriter

            info = {"software": self.software, "format": "WARC File Format 1.1", "robots": "classic"}
            maker = WARCWriter(None, gzip=False, warc_version="1.1")
            self.append(maker.create_warcinfo_record(path.name, info))

    def write(self, response: Response) -> Kept:
        """Append a response, or a revisit when this file has its body already."""
        from warcio.statusandheaders import StatusAndHeaders
        from warcio.warcwriter import WARCWriter

        if self.stream.tell() >= self.longest:
            self.close()
            self.file, self.bodies = self.file + 1, {}
            self.open(0)
        maker = WARCWriter(None, gzip=False, warc_version="1.1")
        date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        digest = "sha1:" + base64.b32encode(hashlib.sha1(response.body).digest()).decode()
        fields = {"WARC-Date": date} | ({"WARC-IP-Address": response.ip} if response.ip else {})
        named = [(f"X-Crawl-{k}" if k.lower() in UNDONE else k, v) for k, v in response.headers]
        head = StatusAndHeaders(
            f"{response.status} {response.reason}".encode("ascii", "replace").decode().strip(),
            [*named, ("Content-Length", str(len(response.body)))],
            protocol="HTTP/1.1",
        )
        if response.asked:
            fields[ASKED] = response.asked
        if digest in self.bodies:
            record = maker.create_revisit_record(response.url, digest, *self.bodies[digest], head, fields)
        else:
            body = io.BytesIO(response.body)
            record = maker.create_warc_record(
                response.url, "response", body, len(response.body), "", fields, None, head
            )
            self.bodies[digest] = response.url, date
        self.append(record)
        if response.request is not None:
            path = "/" + response.url.partition("://")[2].partition("/")[2]
            asking = StatusAndHeaders(f"GET {path} HTTP/1.1", list(response.request), is_http_request=True)
            beside = {
                "WARC-Concurrent-To": record.rec_headers.get_header("WARC-Record-ID"),
                "WARC-Date": date,
            }
            self.append(
                maker.create_warc_record(response.url, "request", None, None, "", beside, None, asking)
            )
        return Kept(self.file, self.stream.tell(), digest, date)

    def append(self, record: Any) -> None:
        """Write one record as a gzip member of its own."""
        from warcio.warcwriter import WARCWriter

        draft = io.BytesIO()
        WARCWriter(draft, gzip=False, warc_version="1.1").write_record(record)
        self.stream.write(gzip.compress(draft.getvalue(), LEVEL, mtime=0))
        self.stream.flush()

    def close(self) -> None:
        """Finish the file."""
        os.fsync(self.stream.fileno())
        self.stream.close()
