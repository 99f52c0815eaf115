"""Pages as they came from the web: read out of WARC and ARC files, their encodings undone, as text.

The files of the fetcher, of other crawlers and of Common Crawl are read alike. What cannot be had of a page
(an encoding nobody can undo, a bomb, a revisit of a page elsewhere) is its `fault`, never silence.

    python -c "from gpt2.corpus.fetch.pages import read_pages; print(sum(1 for _ in read_pages('crawl.warc.gz')))"
"""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from gpt2.corpus.fetch.warc import Record, Span, record_at, records
from gpt2.corpus.fetch.warc_writer import ASKED
from gpt2.corpus.links.blocklist import listed
from gpt2.errors import need

HTML_TYPES = {"text/html", "application/xhtml+xml"}
NAMED_TYPES = HTML_TYPES | listed(
    """
    text/plain text/css text/csv text/xml text/javascript text/markdown text/calendar
    application/pdf application/json application/ld+json application/javascript application/xml application/zip
    application/gzip application/rss+xml application/atom+xml application/rdf+xml application/octet-stream
    application/msword application/epub+zip application/postscript
    image/jpeg image/png image/gif image/webp image/svg+xml audio/mpeg audio/ogg video/mp4 video/webm video/mpeg
    """
)
"""Those that a reason names; a server could invent any number of others."""
LONGEST_BODY = 50_000_000
"""Bytes of a page that are read at most, unpacked: a longer one is no page, least of all one packed to a bomb."""
PIECE = 1 << 16


@dataclass(frozen=True)
class Page:
    """One response of a server."""

    url: str
    """Address that was asked for."""
    body: bytes
    """What came, transfer and content encoding undone."""
    status: int = 200
    """HTTP status."""
    content_type: str = "text/html"
    """Media type without its parameters, in lower case."""
    charset: str | None = None
    """Character encoding the server named."""
    source: str = ""
    """File, and the byte of it at which its record begins; in one that is packed as a whole, # and its number."""
    fault: str | None = None
    """Why the body could not be read."""
    final: str = ""
    """Address of the page itself, where redirects led from `url` to another."""
    when: str = ""
    """Date of its record."""

    @property
    def text(self) -> str:
        """The body as text, by the server's charset, else the page's own, else a guess."""
        return decode_html(self.body, self.charset)

    @property
    def refusal(self) -> str | None:
        """Why this is no page to take text from, or None."""
        if self.fault:
            return self.fault
        if not 200 <= self.status < 300:
            return status_told(self.status)
        if self.content_type not in HTML_TYPES:
            return type_told(self.content_type)
        return None if self.body.strip() else "empty"


def status_told(status: int) -> str:
    """An HTTP status as a reason; all that HTTP does not know are one."""
    return f"status {status}" if 100 <= status <= 599 else "another status"


def type_told(media: str) -> str:
    """A media type as a reason; all that are not well-known are one."""
    return f"type {media or 'unknown'}" if not media or media in NAMED_TYPES else "another type"


def decode_html(data: bytes, charset: str | None = None) -> str:
    """HTML bytes as text; bytes that fit no encoding become U+FFFD.

    Where the server names no charset, bytes that are UTF-8 are taken for it, whatever detection by statistics says.
    """
    if not charset and b"\0" not in data and b"\x1b" not in data:  # UTF-16 and ISO-2022 pass for UTF-8
        with contextlib.suppress(UnicodeDecodeError):
            return data.decode("utf-8-sig")
    encoding = need("resiliparse.parse.encoding", "corpus")
    marked = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # a byte-order mark outdoes what the server says
    name = charset.encode(errors="replace").decode() if charset and not marked else None
    name = encoding.map_encoding_to_html5(name or encoding.detect_encoding(data))
    text: str = encoding.bytes_to_str(data, name or "utf-8", errors="replace")
    return text


def outgoing_links(page: Page) -> set[str]:
    """Canonical addresses that a page links to."""
    from gpt2.corpus.links.address import canonical

    etree = need("lxml.etree", "corpus")
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True)
    root = etree.fromstring(page.text.encode(errors="replace"), parser)
    if root is None:
        return set()
    place = page.final or page.url
    base = canonical(root.xpath("string(//base/@href)"), place) or place
    found = {str(href).partition("#")[0] for href in root.xpath("//a/@href")}
    links = {canonical(href, base) for href in found}
    return {link for link in links if link}


def read_pages(path: str | Path, faults: list[str] | None = None, span: Span = (0, None)) -> Iterator[Page]:
    """The responses in a WARC or ARC file (gzip or not) that begin in a span of its bytes, in order.

    Besides `response` records: `revisit` records with the body they stand for, where the same file has it
    before them, and `resource` and `conversion` records, which have no HTTP headers. Raises `InputError` when
    there is no file and `FormatError` when it is neither kind. Damage raises `FormatError` too; with a list
    `faults` each bad record or cut end appends a sentence there, and reading goes on with the next good record.
    """
    path = Path(path)
    bodies = Bodies(path, span[0])
    for record in records(path, faults, span):
        if record.url.startswith(("http://", "https://")) and record.kind in KINDS:
            page = page_of(record, path.name)
            if record.kind == "revisit":
                page = bodies.lend(page, record)
            bodies.note(record)
            asked = record.fields.get(ASKED.lower())
            yield replace(page, url=asked, final=record.url) if asked else page


KINDS = {"response", "revisit", "resource", "conversion"}


def page_of(record: Record, name: str) -> Page:
    """The page in a record of the file of this name."""
    place = f"#{record.number}" if record.start is None else f":{record.start}"
    source, when = name + place, record.fields.get("warc-date", "")
    if record.kind in ("response", "revisit"):
        return replace(http_page(record.block, record.url, source), when=when)
    media, _, parameters = record.fields.get("content-type", "").partition(";")
    body, fault = (b"", too_long(LONGEST_BODY)) if len(record.block) > LONGEST_BODY else (record.block, None)
    return Page(record.url, body, 200, media.strip().lower(), charset_in(parameters), source, fault, "", when)


class Bodies:
    """Where the bodies are that revisits stand for: in responses of the same file before them."""

    def __init__(self, path: Path, first: int) -> None:
        self.path, self.first = path, first
        self.starts: dict[str, int] = {}  # digest -> where its response begins

    def note(self, record: Record) -> None:
        """Remember where a response is."""
        digest = record.fields.get("warc-payload-digest")
        if record.kind == "response" and digest and record.start is not None:
            self.starts.setdefault(digest, record.start)

    def lend(self, page: Page, revisit: Record) -> Page:
        """The page of a revisit, with the body it stands for."""
        digest = revisit.fields.get("warc-payload-digest", "")
        if digest not in self.starts and self.first:  # then look through what comes before the span
            for record in records(self.path, [], (0, self.first)):
                self.note(record)
            self.first = 0
        start = self.starts.get(digest)
        response = record_at(self.path, start) if start is not None else None
        if response is None:
            return replace(page, fault="revisit of a page that cannot be found in its file")
        whole = http_page(response.block, page.url, page.source)
        if not page.status:  # the revisit has no headers of its own
            return replace(whole, when=page.when)
        return replace(page, body=whole.body, fault=whole.fault)


def http_page(block: bytes, url: str, source: str) -> Page:
    """A raw HTTP response as a page: status, type and charset out of its headers, its encodings undone."""
    headers, stream = need("warcio.statusandheaders", "corpus"), io.BytesIO(block)
    try:
        head = headers.StatusAndHeadersParser(["HTTP/1.0", "HTTP/1.1", "HTTP/2"], verify=False).parse(stream)
        status = int(head.get_statuscode()[:3])
    except (ValueError, EOFError, headers.StatusAndHeadersParserException):
        return Page(url, b"", 0, "", source=source)
    media, _, parameters = (head.get_header("Content-Type") or "").partition(";")
    body = stream.read()
    if "chunked" in (head.get_header("Transfer-Encoding") or "").lower():
        body = without_chunks(body)
    coding = (head.get_header("Content-Encoding") or "").strip().lower()
    body, fault = unpacked(body, coding)
    if len(body) > LONGEST_BODY:
        body, fault = b"", too_long(LONGEST_BODY)
    return Page(url, body, status, media.strip().lower(), charset_in(parameters), source, fault)


def charset_in(parameters: str) -> str | None:
    """The character encoding among the parameters of a media type."""
    return parameters.lower().partition("charset=")[2].split(";")[0].strip("\"' ") or None


def too_long(limit: int) -> str:
    """Why a page of more than so many bytes is none."""
    return f"longer than {limit:,} bytes"


def without_chunks(data: bytes) -> bytes:
    """The body behind chunked transfer; as it is when it has no chunks, as archives may keep it."""
    reader = need("warcio.bufferedreaders", "corpus").ChunkedDataReader(io.BytesIO(data))
    parts: list[bytes] = []
    while part := reader.read(PIECE):
        parts.append(part)
    return b"".join(parts)


def unpacked(data: bytes, coding: str) -> tuple[bytes, str | None]:
    """A body with its content encoding undone, and what is wrong with it.

    Of a damaged body, what comes before the damage is kept, as a browser would show it, and one that was
    never packed stays as it is; of one longer than `LONGEST_BODY`, little more than that is unpacked.
    """
    unpacking = Unpacking(coding, LONGEST_BODY)
    for at in range(0, len(data), PIECE):
        unpacking.add(data[at : at + PIECE])
        if unpacking.full:
            break
    return unpacking.result()


class Unpacking:
    """Undoes the content encoding of a body that comes in pieces, up to a limit of unpacked bytes."""

    def __init__(self, coding: str, limit: int) -> None:
        self.coding, self.limit = coding.strip().lower(), limit
        self.body, self.first = bytearray(), b""
        self.fault: str | None = None
        self.step: Callable[[bytes], bytes] | None = None
        self.broken = False
        if self.coding == "br":
            decoder = need("brotli", "corpus").Decompressor()
            self.step = partial(decoder.process, output_buffer_limit=limit + 1)
        elif self.coding in ("zstd", "compress", "x-compress", "dcb", "dcz"):
            self.fault = f"encoding {self.coding}"

    @property
    def full(self) -> bool:
        """Whether there are more bytes than the limit allows."""
        return len(self.body) > self.limit

    def add(self, data: bytes) -> None:
        """Take the next piece."""
        if len(self.first) < PIECE:
            self.first += data
        if self.coding not in ("gzip", "x-gzip", "deflate", "br"):
            self.body += data if not self.fault else b""
        elif not self.broken:
            try:
                self.unpack(data)
            except (zlib.error, need("brotli", "corpus").error):
                self.broken = True
                if not self.body and self.first.lstrip()[:1] == b"<":  # it was never packed
                    self.coding, self.body = "", bytearray(self.first)

    def unpack(self, data: bytes) -> None:
        """Put what a piece holds behind the body; no more than the limit at a time, whatever it was given."""
        if self.step is None and data:
            bare = self.coding == "deflate" and data[:1] != b"\x78"  # without the header of zlib
            self.members = zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS | 32)
            self.step = partial(self.members.decompress, max_length=self.limit + 1)
        if self.step:
            self.body += self.step(data)
        rest = b"" if self.coding == "br" or not self.step else self.members.unused_data
        if rest.startswith(b"\x1f\x8b") and not self.full:  # a gzip body may have several members
            self.step = None
            self.unpack(rest)

    def result(self) -> tuple[bytes, str | None]:
        """The body, and what is wrong with it."""
        if self.broken and not self.body:
            self.fault = f"encoding {self.coding} is damaged"
        return (b"", self.fault) if self.fault else (bytes(self.body), None)
