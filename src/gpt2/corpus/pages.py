"""Pages as they came from the web, and the WARC files they are kept in.

WARC 1.1, one gzip member a record, is what archives and Common Crawl use, so other tools read what is
fetched here and their files can stand in the place of fetching. ARC, its predecessor, is read too. A file
that was cut short is refused before anything is made of it: a corpus that silently lacks its last third is
worse than none. Rejected: one file a page, which loses status, headers and time, and is slow by the million.

    python -c "from gpt2.corpus.pages import read_pages; print(sum(1 for _ in read_pages('crawl.warc.gz')))"
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gpt2.errors import FormatError, InputError, need

HTML_TYPES = {"text/html", "application/xhtml+xml"}


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
        return None if self.body.strip() else "empty"


def decode_html(data: bytes, charset: str | None = None) -> str:
    """HTML bytes as text; bytes that fit no encoding become U+FFFD."""
    encoding = need("resiliparse.parse.encoding", "corpus")
    name = charset or encoding.detect_encoding(data)
    text: str = encoding.bytes_to_str(data, encoding.map_encoding_to_html5(name) or "utf-8", errors="replace")
    return text


def outgoing_links(page: Page) -> set[str]:
    """Canonical addresses that a page links to."""
    from gpt2.corpus.links import canonical

    etree = need("lxml.etree", "corpus")
    root = etree.fromstring(
        page.text.encode(errors="replace"), etree.HTMLParser(encoding="utf-8", huge_tree=True)
    )
    found = set() if root is None else {str(href) for href in root.xpath("//a/@href")}
    links = {canonical(href, page.url) for href in found}
    return {link for link in links if link}


def read_pages(path: str | Path) -> Iterator[Page]:
    """The responses in a WARC or ARC file (gzip or not), in order.

    Raises `InputError` when there is no file, `FormatError` when it is neither kind, damaged or cut short.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}; give a WARC file (.warc or .warc.gz)")
    kind = check_archive(path)
    yield from (arc_pages if kind == "ARC" else warc_pages)(path)


def check_archive(path: Path) -> str:
    """'WARC' or 'ARC'; `FormatError` for another kind of file, or a gzip that is damaged or cut short."""
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if zipped else path.open("rb") as content:
            head = content.read(16)
            while zipped and content.read(1 << 20):
                pass
    except EOFError:
        raise FormatError(f"{path} is cut short: its last record has no end; get it anew") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise FormatError(f"{path} is damaged ({error}); get it anew") from None
    if head.startswith(b"WARC/"):
        return "WARC"
    if head.startswith(b"filedesc:"):
        return "ARC"
    raise FormatError(f"{path} is neither a WARC nor an ARC file; for text give --text")


def warc_pages(path: Path) -> Iterator[Page]:
    """The responses of a WARC file."""
    warc = need("fastwarc.warc", "corpus")
    record: Any
    number = 0
    try:
        for number, record in enumerate(warc.ArchiveIterator(str(path), parse_http=False), 1):
            block = record.reader.read()
            if len(block) < record.content_length:
                raise FormatError(f"{path} is cut short in record {number}; get it anew")
            if record.record_type != warc.WarcRecordType.response:
                continue
            url = str(record.headers.get("WARC-Target-URI") or "").strip("<>")
            if url.startswith(("http://", "https://")):
                yield http_page(block, url, f"{path.name}:{number}")
    except (OSError, ValueError, EOFError) as error:
        raise FormatError(f"{path} is damaged after record {number} ({error}); get it anew") from None
    if not number:
        raise FormatError(f"{path} has no whole record; get it anew")


def arc_pages(path: Path) -> Iterator[Page]:
    """The responses of an ARC file, the form of web archives before 2009."""
    iterator = need("warcio.archiveiterator", "corpus").ArchiveIterator
    number = 0
    with path.open("rb") as stream:
        try:
            for number, record in enumerate(iterator(stream, arc2warc=True, no_record_parse=True), 1):
                length, block = record.length, record.raw_stream.read()
                if length is not None and len(block) < length:
                    raise FormatError(f"{path} is cut short in record {number}; get it anew")
                url = record.rec_headers.get_header("WARC-Target-URI") or ""
                if record.rec_type == "response" and url.startswith(("http://", "https://")):
                    yield http_page(block, url, f"{path.name}:{number}")
        except (OSError, ValueError, EOFError) as error:
            raise FormatError(f"{path} is damaged after record {number} ({error}); get it anew") from None


def http_page(block: bytes, url: str, source: str) -> Page:
    """A raw HTTP response as a page: status, type and charset out of its headers, its encodings undone."""
    headers, body = need("warcio.statusandheaders", "corpus"), io.BytesIO(block)
    try:
        head = headers.StatusAndHeadersParser(["HTTP/1.0", "HTTP/1.1", "HTTP/2"], verify=False).parse(body)
        status = int(head.get_statuscode()[:3])
    except (ValueError, EOFError, headers.StatusAndHeadersParserException):
        return Page(url, b"", 0, "", source=source)
    media, _, parameters = (head.get_header("Content-Type") or "").partition(";")
    charset = parameters.lower().partition("charset=")[2].split(";")[0].strip("\"' ") or None
    content = undo_encodings(body, head.get_header("Content-Encoding"), head.get_header("Transfer-Encoding"))
    return Page(url, content, status, media.strip().lower(), charset, source)


def undo_encodings(body: IO[bytes], content_encoding: str | None, transfer_encoding: str | None) -> bytes:
    """The body behind chunks and compression; as much of it as is sound."""
    readers = need("warcio.bufferedreaders", "corpus")
    coding = (content_encoding or "").strip().lower() or None
    if coding not in readers.BufferedReader.get_supported_decompressors():
        coding = None
    chunked = "chunked" in (transfer_encoding or "").lower()
    reader = (readers.ChunkedDataReader if chunked else readers.BufferedReader)(body, decomp_type=coding)
    parts: list[bytes] = []
    try:
        while part := reader.read(1 << 16):
            parts.append(part)
    except (OSError, zlib.error, ValueError):
        pass  # what came before the damage is kept, as a browser would show it
    return b"".join(parts)


class WarcWriter:
    """Appends responses to a WARC file, each flushed before `write` returns."""

    def __init__(self, path: Path, keep: int = 0) -> None:
        """Go on after the first `keep` bytes of the file; 0 begins it anew with a `warcinfo` record."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._stream = path.open("r+b")
        self._stream.truncate(keep)
        self._stream.seek(keep)
        writer = need("warcio.warcwriter", "corpus").WARCWriter
        self._writer = writer(self._stream, gzip=True, warc_version="1.1")
        if not keep:
            info = {"software": "gpt2-workbench", "format": "WARC File Format 1.1"}
            self._writer.write_record(self._writer.create_warcinfo_record(path.name, info))

    def write(self, page: Page, headers: list[tuple[str, str]], reason: str) -> int:
        """Append one response and return where the file ends now."""
        head = need("warcio.statusandheaders", "corpus").StatusAndHeaders(
            f"{page.status} {reason}".strip(), headers, protocol="HTTP/1.1"
        )
        body = io.BytesIO(page.body)
        record = self._writer.create_warc_record(
            page.url, "response", payload=body, length=len(page.body), http_headers=head
        )
        self._writer.write_record(record)
        self._stream.flush()
        return self._stream.tell()

    def close(self) -> None:
        """Finish the file."""
        self._stream.close()
