"""Pages as they came from the web, and the WARC files they are kept in.

WARC 1.1, one gzip member a record, is what archives and Common Crawl use, so other tools read what is
fetched here and their files can stand in the place of fetching. ARC, its predecessor, is read too. Both are
read here, in one pass that sees every byte: the libraries (fastwarc, warcio) end in silence at a record that
was cut short, and a corpus that silently lacks its last third is worse than none. Also rejected: one file a
page, which loses status, headers and time, and is slow by the million.

    python -c "from gpt2.corpus.pages import read_pages; print(sum(1 for _ in read_pages('crawl.warc.gz')))"
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gpt2.errors import FormatError, InputError, need

HTML_TYPES = {"text/html", "application/xhtml+xml"}
LONGEST_BODY = 50_000_000
"""Bytes of a page that are read at most, unpacked: a longer one is no page, least of all one packed to a bomb."""
LONGEST_LINE = 1 << 20
PIECE = 1 << 16
LEVEL = 6
"""Of compression: 9 takes four times as long to save 3 %."""


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
    """File and number of its record."""
    fault: str | None = None
    """Why the body could not be read."""

    @property
    def text(self) -> str:
        """The body as text, by the server's charset, else the page's own, else a guess."""
        return decode_html(self.body, self.charset)

    @property
    def refusal(self) -> str | None:
        """Why this is no page to take text from, or None."""
        if not 200 <= self.status < 300:
            return f"status {self.status}"
        if self.content_type not in HTML_TYPES:
            return f"type {self.content_type or 'unknown'}"
        if self.fault:
            return self.fault
        return None if self.body.strip() else "empty"


def decode_html(data: bytes, charset: str | None = None) -> str:
    """HTML bytes as text; bytes that fit no encoding become U+FFFD."""
    encoding = need("resiliparse.parse.encoding", "corpus")
    marked = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # a byte-order mark outdoes what the server says
    name = charset.encode(errors="replace").decode() if charset and not marked else None
    name = encoding.map_encoding_to_html5(name or encoding.detect_encoding(data))
    text: str = encoding.bytes_to_str(data, name or "utf-8", errors="replace")
    return text


def outgoing_links(page: Page) -> set[str]:
    """Canonical addresses that a page links to."""
    from gpt2.corpus.links import canonical

    etree = need("lxml.etree", "corpus")
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True)
    root = etree.fromstring(page.text.encode(errors="replace"), parser)
    if root is None:
        return set()
    base = canonical(root.xpath("string(//base/@href)"), page.url) or page.url
    found = {str(href).partition("#")[0] for href in root.xpath("//a/@href")}
    links = {canonical(href, base) for href in found}
    return {link for link in links if link}


def read_pages(path: str | Path) -> Iterator[Page]:
    """The responses in a WARC or ARC file (gzip or not), in order.

    Raises `InputError` when there is no file, `FormatError` when it is neither kind, and, at the place where
    it is found out, when the file is damaged or cut short.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}; give a WARC file (.warc or .warc.gz)")
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            yield from pages_in(gzip.GzipFile(fileobj=raw) if zipped else raw, path)
        except EOFError:
            raise FormatError(f"{path} is cut short: its last record has no end; get it anew") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise FormatError(f"{path} is damaged ({error}); get it anew") from None


def pages_in(stream: io.BufferedIOBase, path: Path) -> Iterator[Page]:
    """The responses in an unpacked WARC or ARC file; `EOFError` where a record has no end."""
    number = empty_lines = 0
    arc = False
    while line := stream.readline(LONGEST_LINE):
        if line in (b"\r\n", b"\n"):
            empty_lines += 1
            continue
        if not number:
            arc = line.startswith(b"filedesc:")
            if not arc and not line.startswith(b"WARC/"):
                raise FormatError(f"{path} is neither a WARC nor an ARC file; for text give --text")
        try:
            kind, url, length = (arc_head if arc else warc_head)(line, stream)
        except ValueError:
            raise FormatError(f"{path} is damaged after record {number}; get it anew") from None
        number, empty_lines = number + 1, 0
        block = take(stream, length)
        if kind == "response" and url.startswith(("http://", "https://")):
            yield http_page(block, url, f"{path.name}:{number}")
    if not number:
        raise FormatError(f"{path} is empty; give a WARC file")
    if not arc and empty_lines < 2:  # which end each record of a WARC file
        raise EOFError


def warc_head(line: bytes, stream: io.BufferedIOBase) -> tuple[str, str, int]:
    """Type, address and length of the WARC record that begins with `line`."""
    if not line.startswith(b"WARC/"):
        raise EOFError if b"WARC/".startswith(line.rstrip(b"\r")) else ValueError
    fields: dict[str, str] = {}
    while line.strip():
        if not line.endswith(b"\n"):
            raise EOFError
        name, _, value = line.decode("utf-8", "replace").partition(":")
        fields[name.strip().lower()] = value.strip()
        line = stream.readline(LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise EOFError
    length = int(fields.get("content-length", ""))
    if length < 0:
        raise ValueError
    return fields.get("warc-type", "").lower(), fields.get("warc-target-uri", "").strip("<>"), length


def arc_head(line: bytes, stream: io.BufferedIOBase) -> tuple[str, str, int]:  # noqa: ARG001
    """Type, address and length of the ARC record that `line` describes: address, IP, date, type, length."""
    if not line.endswith(b"\n"):
        raise EOFError
    words = line.decode("utf-8", "replace").split()
    if len(words) < 5 or not words[-1].isdecimal():
        raise ValueError
    return "response", words[0], int(words[-1])


def take(stream: io.BufferedIOBase, length: int) -> bytes:
    """The next `length` bytes, of which no more are kept than make a page; `EOFError` when they are not there."""
    parts: list[bytes] = []
    left = length
    while left:
        part = stream.read(min(left, PIECE))
        if not part:
            raise EOFError
        if length - left <= 2 * LONGEST_BODY:
            parts.append(part)
        left -= len(part)
    return b"".join(parts)


def http_page(block: bytes, url: str, source: str) -> Page:
    """A raw HTTP response as a page: status, type and charset out of its headers, its encodings undone."""
    headers, stream = need("warcio.statusandheaders", "corpus"), io.BytesIO(block)
    try:
        head = headers.StatusAndHeadersParser(["HTTP/1.0", "HTTP/1.1", "HTTP/2"], verify=False).parse(stream)
        status = int(head.get_statuscode()[:3])
    except (ValueError, EOFError, headers.StatusAndHeadersParserException):
        return Page(url, b"", 0, "", source=source)
    media, _, parameters = (head.get_header("Content-Type") or "").partition(";")
    charset = parameters.lower().partition("charset=")[2].split(";")[0].strip("\"' ") or None
    body = stream.read()
    if "chunked" in (head.get_header("Transfer-Encoding") or "").lower():
        body = without_chunks(body)
    coding = (head.get_header("Content-Encoding") or "").strip().lower()
    body, fault = unpacked(body, coding)
    if len(body) > LONGEST_BODY:
        body, fault = b"", f"longer than {LONGEST_BODY:,} bytes"
    return Page(url, body, status, media.strip().lower(), charset, source, fault)


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
    brotli = need("brotli", "corpus")
    limit = LONGEST_BODY + 1
    step: Callable[[bytes], bytes]  # each stops after so many bytes, whatever it was given
    if coding in ("gzip", "x-gzip", "deflate"):
        bare = coding == "deflate" and data[:1] != b"\x78"  # without the header of zlib
        decoder = zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS | 32)
        step = partial(decoder.decompress, max_length=limit)
    elif coding == "br":
        step = partial(brotli.Decompressor().process, output_buffer_limit=limit)
    elif coding in ("zstd", "compress", "x-compress", "dcb", "dcz"):
        return b"", f"encoding {coding}"
    else:
        return data, None
    out = bytearray()
    try:
        for at in range(0, len(data), PIECE):
            out += step(data[at : at + PIECE])
            if len(out) >= limit:
                break
    except (zlib.error, brotli.error):
        if not out and data.lstrip()[:1] == b"<":
            return data, None
    return bytes(out), None


class WarcWriter:
    """Appends responses to a WARC file, each flushed before `write` returns."""

    def __init__(self, path: Path, keep: int = 0) -> None:
        """Go on after the first `keep` bytes of the file; 0 begins it anew with a `warcinfo` record."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._stream = path.open("r+b")
        self._stream.truncate(keep)
        self._stream.seek(keep)
        self._draft = io.BytesIO()
        self._writer = need("warcio.warcwriter", "corpus").WARCWriter(
            self._draft, gzip=False, warc_version="1.1"
        )
        if not keep:
            info = {"software": "gpt2-workbench", "format": "WARC File Format 1.1"}
            self._append(self._writer.create_warcinfo_record(path.name, info))

    def write(self, page: Page, headers: list[tuple[str, str]], reason: str) -> int:
        """Append one response and return where the file ends now."""
        head = need("warcio.statusandheaders", "corpus").StatusAndHeaders(
            f"{page.status} {reason}".encode("ascii", "replace").decode().strip(),
            headers,
            protocol="HTTP/1.1",
        )
        body = io.BytesIO(page.body)
        return self._append(
            self._writer.create_warc_record(
                page.url, "response", payload=body, length=len(page.body), http_headers=head
            )
        )

    def _append(self, record: object) -> int:
        self._draft.seek(0)
        self._draft.truncate()
        self._writer.write_record(record)
        self._stream.write(gzip.compress(self._draft.getvalue(), LEVEL, mtime=0))
        self._stream.flush()
        return self._stream.tell()

    def close(self) -> None:
        """Finish the file."""
        self._stream.close()
