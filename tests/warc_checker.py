"""A checker of WARC files that are packed record by record, written after WARC 1.1 (ISO 28500:2017) alone.

It shares no code with what reads and writes them in the package: each gzip member must be one record, to the
byte; names, dates, identifiers and digests must be as the standard has them, and what a record points at must
be there.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
import zlib
from collections import Counter
from pathlib import Path

ID = re.compile(r"<urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}>")
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
URI = re.compile(r"https?://[!#-;=?-\[\]_a-z~]+")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([^\r\n]*)")
TOKENS = {
    "warcinfo": "application/warc-fields",
    "response": "application/http; msgtype=response",
    "revisit": "application/http; msgtype=response",
    "request": "application/http; msgtype=request",
}
PROFILE = "http://netpreserve.org/warc/1.1/revisit/identical-payload-digest"


def check_warc(path: Path) -> Counter[str]:
    """Check a file, and count its records by type. Raises `AssertionError` at the first fault."""
    data, at, number = path.read_bytes(), 0, 0
    kinds: Counter[str] = Counter()
    ids: set[str] = set()
    payloads: dict[str, set[tuple[str, str]]] = {}  # digest -> address and date of responses
    while at < len(data):
        inflate = zlib.decompressobj(31)
        record = inflate.decompress(data[at:])
        assert inflate.eof, f"{path.name}: the member at {at} has no end"
        at, number = len(data) - len(inflate.unused_data), number + 1
        try:
            kinds[check_record(record, path.name, number == 1, ids, payloads)] += 1
        except (AssertionError, KeyError, ValueError) as error:
            raise AssertionError(f"{path.name}, record {number}: {error!r}") from None
    assert number, "no record"
    return kinds


def check_record(
    record: bytes, name: str, is_first: bool, ids: set[str], payloads: dict[str, set[tuple[str, str]]]
) -> str:
    """Check one record against those before it, and give its type."""
    head, gap, rest = record.partition(b"\r\n\r\n")
    assert gap, "no end of the head"
    version, *lines = head.split(b"\r\n")
    assert version == b"WARC/1.1", version
    fields: dict[str, str] = {}
    for line in lines:
        match = FIELD.fullmatch(line)
        assert match, f"no field: {line!r}"
        key = match[1].decode().lower()
        assert key not in fields, f"{key} twice"
        fields[key] = match[2].decode("utf-8").strip()
    length = int(fields["content-length"])
    block = rest[:length]
    assert len(block) == length and rest[length:] == b"\r\n\r\n", "the length is wrong"
    kind = fields["warc-type"]
    assert fields["content-type"] == TOKENS[kind], fields["content-type"]
    assert ID.fullmatch(fields["warc-record-id"]) and fields["warc-record-id"] not in ids
    ids.add(fields["warc-record-id"])
    assert DATE.fullmatch(fields["warc-date"]), fields["warc-date"]
    assert fields["warc-block-digest"] == sha1(block), "the block has another digest"
    assert is_first == (kind == "warcinfo"), "a file begins with a warcinfo record"
    if kind == "warcinfo":
        assert "warc-target-uri" not in fields and fields["warc-filename"] == name
        assert all(FIELD.fullmatch(line) for line in block.split(b"\r\n") if line)
        return kind
    assert URI.fullmatch(fields["warc-target-uri"]), fields["warc-target-uri"]
    if "warc-ip-address" in fields:
        ipaddress.ip_address(fields["warc-ip-address"])
    http, gap, payload = block.partition(b"\r\n\r\n")
    assert gap, "no end of the HTTP head"
    if kind == "request":
        assert re.match(rb"GET \S+ HTTP/1\.1\r\n", http) and not payload
        assert fields["warc-concurrent-to"] in ids
        return kind
    assert re.match(rb"HTTP/1\.1 \d{3}( |\r\n|$)", http), http[:40]
    wrong = rb"(?im)^(content-encoding|transfer-encoding):"
    assert not re.search(wrong, http), "an encoding that was undone"
    digest, place = fields["warc-payload-digest"], (fields["warc-target-uri"], fields["warc-date"])
    if kind == "response":
        assert digest == sha1(payload), "the payload has another digest"
        assert re.search(rb"(?im)^content-length: %d\r?$" % len(payload), http), "the length of HTTP is wrong"
        payloads.setdefault(digest, set()).add(place)
    else:
        assert not payload and fields["warc-profile"] == PROFILE
        refers = (fields["warc-refers-to-target-uri"], fields["warc-refers-to-date"])
        assert refers in payloads.get(digest, set()), "it refers to nothing before it"
    return kind


def sha1(data: bytes) -> str:
    """A digest as WARC files have it."""
    return "sha1:" + base64.b32encode(hashlib.sha1(data).digest()).decode()
